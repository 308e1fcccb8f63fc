"""An option is written once: the command line, a settings file and `--set` all take it from the settings' field."""

from __future__ import annotations

import json
from dataclasses import dataclass, fields
from typing import ClassVar

import pytest
import typer

from commands.common import Json, Out, emit_json
from commands.ending import guard
from commands.options import options
from experiments.adaptation.settings import TTTRun
from glom.errors import InputError
from glom.settings import Settings, keys_of, part, read_files, read_pairs, setting, to_toml, values_of


@dataclass(frozen=True, kw_only=True)
class Machine(Settings):
    widths: tuple[int, ...] = setting((8, 4), "Of the layers.", least=1)
    hidden: int = setting(3, "No key of the run.")


@dataclass(frozen=True, kw_only=True)
class Run(Settings):
    PRESETS: ClassVar = {"quick": {"epochs": 2}, "long": {"epochs": 90, "rate": 0.5}}
    PRESET: ClassVar = "quick"

    data: str = setting(help="What is read.", argument=True)
    machine: Machine = part(Machine(), keys=("widths",))
    epochs: int = setting(12, "Passes.", least=1, most=100)
    rate: float = setting(1e-3, "Of learning.", above=0)
    first: int = setting(0, "A layer.", key="from")
    size: tuple[int, int] | None = setting(None, "Height and width.")
    order: str = setting("up", choices=("up", "down"))
    keep: bool = setting(True, "Keep what is made.")
    fast: bool = setting(False, "Hurry.")


app = typer.Typer()


@app.command("go")
@options(Run)
def go(settings: Run, given: dict[str, object], out: Out, as_json: Json = False) -> None:
    """Go."""
    emit_json({"values": values_of(settings), "given": sorted(given), "out": out})


@app.command("other")
def other() -> None:
    """Another, so that there are two."""


@pytest.fixture
def call(capsys):
    def run(*words: object) -> tuple[int, dict, str]:
        code = guard(app, ["go", *map(str, words)])
        told = capsys.readouterr()
        return code, json.loads(told.out) if told.out.startswith("{") else {}, told.err

    return run


def test_every_setting_is_an_option_and_its_default_the_fields(call):
    code, found, _ = call("here", "-o", "x")
    assert code == 0
    assert found["values"] == {
        "data": "here", "widths": [8, 4], "epochs": 2, "rate": 1e-3, "from": 0, "size": None, "order": "up",
        "keep": True, "fast": False,
    }  # fmt: skip
    words = ["--widths", "7,5", "--epochs", 4, "--rate", "0.1", "--from", 2, "--size", "3x4", "--order", "down"]
    code, found, _ = call("here", "-o", "x", *words, "--no-keep", "--fast", "--preset", "long")
    assert found["values"] == {
        "data": "here", "widths": [7, 5], "epochs": 4, "rate": 0.1, "from": 2, "size": [3, 4], "order": "down",
        "keep": False, "fast": True,
    }  # fmt: skip


def test_an_option_of_several_values_may_be_given_several_times(call):
    _, found, _ = call("here", "-o", "x", "--widths", "7,5", "--widths", "3")
    assert found["values"]["widths"] == [7, 5, 3]
    assert call("here", "-o", "x", "--widths", "7", "--widths", "many")[0] == 2


def test_what_is_typed_counts_more_than_set_that_more_than_a_file_and_that_more_than_a_preset(call, tmp_path):
    file = tmp_path / "run.toml"
    file.write_text('data = "there"\npreset = "long"\nepochs = 5\nfrom = 1\norder = "down"\n')
    _, found, _ = call("-o", "x", "--config", file, "--set", "epochs=6", "--set", "from=2", "--from", 3)
    values = found["values"]
    assert (values["data"], values["order"], values["epochs"], values["from"], values["rate"]) == (
        "there", "down", 6, 3, 0.5,
    )  # fmt: skip
    assert found["given"] == ["epochs", "from"]  # a file holds everything: it does not say what was meant


def test_a_settings_file_gives_the_same_settings_again(tmp_path):
    one = Run.of(data='a "b" \\ ü', size=(3, 4), preset="long", keep=False)
    (tmp_path / "s.toml").write_text(to_toml(one), encoding="utf-8")
    assert Run.of(**read_files(Run, [tmp_path / "s.toml"])) == one
    whole = TTTRun.of("published", data="cifar10-sample")  # no queries, where the preset that is assumed has some
    (tmp_path / "t.toml").write_text(to_toml(whole), encoding="utf-8")
    assert TTTRun.of(**read_files(TTTRun, [tmp_path / "t.toml"])) == whole


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("epoch = 3", "unknown setting 'epoch'; did you mean epochs"),
        ('epochs = "many"', 'epochs is a whole number, got "many"'),
        ("epochs = true", "epochs is a whole number, got true"),
        ("widths = 3", "widths is whole numbers with commas between, got 3"),
        ("size = [1, 2, 3]", "size is 2 whole numbers"),
        ("hidden = 3", "unknown setting 'hidden'"),
        ("epochs = 0", "--epochs must be at least 1, got 0"),
        ("rate = 0", "--rate must be above 0, got 0.0"),
        ("rate = inf", "--rate must be finite"),
        ('order = "dwn"', "unknown --order 'dwn'; did you mean down?"),
        ('preset = "slow"', "unknown preset 'slow'"),
        ("epochs = ", "is not a settings file in TOML"),
    ],
)
def test_a_wrong_settings_file_is_refused_in_one_line(call, tmp_path, text, said):
    (tmp_path / "run.toml").write_text(text)
    code, _, told = call("here", "-o", "x", "--config", tmp_path / "run.toml")
    assert (code, told.count("\n")) == (2, 1)
    assert said in told


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--set", "epochs"], "'epochs' sets nothing; write key=value"),
        (["--set", "epochs="], "sets nothing"),
        (["--set", "epoch=3"], "did you mean epochs"),
        (["--set", "epochs=many"], "--epochs takes a whole number, got 'many'"),
        (["--widths", "7,x"], "--widths takes whole numbers with commas between, got '7,x'"),
        (["--widths", "0"], "--widths must be at least 1, got 0"),
        (["--epochs", "101"], "--epochs must be at most 100, got 101"),
        (["--size", "3"], "--size takes 2 whole numbers"),
        (["--preset", "slow"], "unknown preset 'slow'"),
        (["--config", "no.toml"], "no.toml cannot be read"),
    ],
)
def test_a_wrong_option_is_refused_in_one_line(call, words, said):
    code, _, told = call("here", "-o", "x", *words)
    assert (code, told.count("\n")) == (2, 1)
    assert said in told


def test_two_files_that_disagree_are_refused_and_two_that_agree_are_not(call, tmp_path):
    one, two = tmp_path / "a.toml", tmp_path / "b.toml"
    one.write_text("epochs = 3\nfast = true")
    two.write_text("epochs = 3\nkeep = false")
    code, found, _ = call("here", "-o", "x", "--config", one, "--config", two)
    assert (code, found["values"]["fast"], found["values"]["keep"]) == (0, True, False)
    two.write_text("epochs = 4")
    code, _, told = call("here", "-o", "x", "--config", one, "--config", two)
    assert code == 2
    assert f"{one} and {two} disagree on epochs: 3 and 4" in told


def test_a_value_that_has_to_be_given_is_asked_for(call):
    code, _, told = call("-o", "x")
    assert (code, told.count("\n")) == (2, 1)
    assert "--data has to be given" in told
    with pytest.raises(InputError, match="data"):
        Run.of()


def test_settings_take_keywords_only():
    with pytest.raises(TypeError):
        Run("here")  # type: ignore[misc]
    assert [key.name for key in keys_of(Run)][:3] == ["data", "widths", "epochs"]
    assert all(one.kw_only for one in fields(TTTRun))


def test_pairs_are_read_as_the_fields_type():
    assert read_pairs(Run, ["size=none", "fast=true", "widths=1, 2", "preset=long"]) == {
        "size": None, "fast": True, "widths": (1, 2), "preset": "long",
    }  # fmt: skip


def test_verbose_says_every_setting(call):
    _, _, told = call("here", "-o", "x", "--verbose")
    assert told == to_toml(Run.of(data="here"))
