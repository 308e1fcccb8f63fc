"""Run folders: never mixed, never half-written, resumed exactly."""

from __future__ import annotations

import errno
import json
import os
import resource
from dataclasses import dataclass
from pathlib import Path

import pytest

from commands.ending import guard
from experiments.adaptation.summary import summary
from glom.errors import InputError, RunError
from glom.runs.artifacts import (
    LineFile,
    RunFolder,
    check_record,
    public_name,
    read_lines,
    read_manifest,
    read_results,
    read_timing,
    write_json,
)
from glom.settings import defaults_of

SETTINGS = {"seed": 0, "lr": 1e-3, "widths": (1, 2)}


def open_run(path: Path, resume: bool | None = False, settings=SETTINGS, part=""):
    return RunFolder(path, "ttt", settings, resume, part=part)


def test_lines_are_complete_and_in_order(tmp_path):
    with open_run(tmp_path / "run") as folder:
        folder.append({"id": "b", "index": 1}, 0.5)
        folder.append({"id": "a", "index": 0}, 0.25)
    assert [r["id"] for r in read_results(tmp_path / "run")] == ["a", "b"]
    assert read_timing(tmp_path / "run") == {"b": 0.5, "a": 0.25}


def test_half_a_line_is_cut_off(tmp_path):
    with open_run(tmp_path / "run") as folder:
        folder.append({"id": "a", "index": 0})
    with (tmp_path / "run" / "results.jsonl").open("a") as file:
        file.write('{"id": "b", "ind')
    assert len(read_results(tmp_path / "run")) == 1
    with open_run(tmp_path / "run", resume=True) as folder:
        folder.append({"id": "b", "index": 1})
    text = (tmp_path / "run" / "results.jsonl").read_text()
    assert [json.loads(x)["id"] for x in text.splitlines()] == ["a", "b"]


def test_damage_before_the_end_is_named(tmp_path):
    (tmp_path / "x.jsonl").write_text('{"a": 1}\nnot json\n{"a": 2}\n')
    with pytest.raises(InputError, match="line 2"):
        read_lines(tmp_path / "x.jsonl")


@pytest.mark.parametrize(
    ("word", "public"),
    [
        ("/home/me/data", "data"),
        ("dtd:/home/me/data,mnist:/srv/x/mnist", "dtd:data,mnist:mnist"),
        ("--out=/home/me/run", "--out=run"),
        ("imagenet-c/fog/5:/srv/x", "imagenet-c/fog/5:x"),
        ("runs/a", "runs/a"),
        ("gaussian_noise:3", "gaussian_noise:3"),
        ("https://a.org/b/c", "https://a.org/b/c"),
    ],
)
def test_records_do_not_say_where_things_lie(word, public):
    assert public_name(word) == public


@pytest.mark.parametrize(("steps", "mean"), [([10] * 99 + [50], 10.4), ([7, 7], 7), ([], None)])
def test_iterations_a_sample_is_the_mean_over_samples(steps, mean, tmp_path):
    """Not the mean of the numbers that occur: early stopping makes some rare."""
    with open_run(tmp_path / "run") as folder:
        for index, count in enumerate(steps):
            right = {"label": 0, "teacher": 0, "apm": 0, "oracle": True}
            folder.append({"id": str(index), "index": index, "status": "ok", "iterations": count, **right})
    found = summary(tmp_path / "run")["iterations"]
    assert found == mean and type(found) is type(mean)


def test_a_second_process_is_told(tmp_path, monkeypatch):
    with open_run(tmp_path / "run"), pytest.raises(InputError, match=r"another process.*wait for it"):
        open_run(tmp_path / "run", resume=True)
    monkeypatch.setenv("WORLD_SIZE", "2")
    with open_run(tmp_path / "run", resume=True), pytest.raises(InputError, match="one process's, start it as one"):
        open_run(tmp_path / "run", resume=True)
    open_run(tmp_path / "run", resume=True).close()


def test_other_settings_are_refused_with_the_difference(tmp_path):
    open_run(tmp_path / "run").close()
    with pytest.raises(InputError, match="already holds this run; add `resume`"):
        open_run(tmp_path / "run")
    with pytest.raises(InputError, match=r"lr: 0\.001 -> 0\.1"):
        open_run(tmp_path / "run", resume=True, settings={**SETTINGS, "lr": 0.1})


@dataclass(frozen=True)
class Part:
    depth: int = 2
    rate: float = 0.5


@dataclass(frozen=True)
class Asked:
    lr: float
    part: Part = Part(depth=4)
    kinds: tuple[str, ...] = ("a",)


def test_a_setting_that_a_folder_is_older_than_counts_as_its_default(tmp_path):
    def opened(held):
        defaults = defaults_of(Asked(1e-3))
        return RunFolder(tmp_path / "run", "ttt", held, True, defaults=defaults)

    assert defaults_of(Asked(1e-3)) == {"depth": 2, "rate": 0.5, "part": {"depth": 2, "rate": 0.5}, "kinds": ("a",)}
    opened({"lr": 1e-3, "part": {"depth": 4}}).close()
    with pytest.raises(InputError, match=r"kinds: None -> \['b'\]"):
        opened({"lr": 1e-3, "part": {"depth": 4}, "kinds": ("b",)})
    with pytest.raises(InputError, match=r"part: .*'rate': 0\.1"):
        opened({"lr": 1e-3, "part": {"depth": 4, "rate": 0.1}})
    with pytest.raises(InputError, match="fingerprint: None -> 'x'"):  # no setting
        opened({"lr": 1e-3, "part": {"depth": 4}, "fingerprint": "x"})
    whole = {"lr": 1e-3, "part": {"depth": 4, "rate": 0.5}, "kinds": ["a"]}
    opened(whole).close()
    assert read_manifest(tmp_path / "run")["settings"] == whole


def test_a_run_that_cannot_go_on_is_not_told_to(tmp_path):
    open_run(tmp_path / "run", resume=None).close()
    with pytest.raises(InputError, match="already holds this run; delete the folder") as raised:
        open_run(tmp_path / "run", resume=None)
    assert "`resume`" not in str(raised.value)


OVERFIT = ["--teacher", "glom-tiny", "--apm", "apm-tiny"]
COMMANDS = {
    "fold": ["fold", "{picture}"],
    "ttt run": ["ttt", "run", "cifar10-sample", "--limit", "1"],
    "grid train": ["grid", "train", "cifar10-sample", "--limit", "8", "--held-out", "2"],
    "grid shortcut": ["grid", "shortcut", "cifar10-sample", "--backbone", "glom-tiny", "--limit", "8"],
    "grid eval": ["grid", "eval", "apm-cifar10", "cifar10-sample", "--limit", "2"],
    "grid decode": ["grid", "decode", "{picture}"],
    "grid overfit": ["grid", "overfit", "{picture}", *OVERFIT],
    "grid overfit, a study": ["grid", "overfit", "{outlines}", *OVERFIT],
    "grid interpolate": ["grid", "interpolate", "{picture}", "{picture}"],
    "grid upsample": ["grid", "upsample", "{picture}", "--teacher", "glom-tiny"],
    "ablate folding": ["ablate", "folding", "--limit", "1", "--axis", "patch"],
    "ablate asynchrony": ["ablate", "asynchrony", "--limit", "1"],
    "islands show": ["islands", "show", "{picture}", "--backbone", "glom-tiny"],
    "islands score": ["islands", "score", "{outlines}", "--backbone", "glom-tiny"],
}
"""Every command that writes a run folder and starts quickly; a study resumes though one picture's overfit does not."""
ALONE = {"grid overfit"}


@pytest.mark.parametrize("name", COMMANDS)
def test_a_held_folder_is_told_as_the_command_is(name, tmp_path, monkeypatch, capsys):
    """`--resume` is spoken of exactly where the command has it."""
    from cli import app
    from tests.conftest import make_image
    from tests.experiments.islands.test_islands_cli import bsds

    def opened(self, path, kind, settings, resume=None, extra=None, part="", defaults=None):
        raise InputError(f"opened, resume={resume}")

    monkeypatch.setattr(RunFolder, "__init__", opened)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    make_image(0).save(tmp_path / "a.png")
    names = {"picture": str(tmp_path / "a.png"), "outlines": str(bsds(tmp_path, 1))}
    arguments = [part.format(**names) for part in COMMANDS[name]]
    options = guard(app, [*arguments[: 1 if name == "fold" else 2], "--help"])
    has_resume = "--resume" in capsys.readouterr().out and name not in ALONE
    assert options == 0
    assert guard(app, [*arguments, "--out", str(tmp_path / "run"), "--quiet"]) == 2
    error = capsys.readouterr().err
    assert f"opened, resume={False if has_resume else None}" in error, error


def test_records_are_checked_before_the_run(tmp_path):
    (tmp_path / "file").write_text("x")
    for path, says in ((tmp_path, "is a folder"), (tmp_path / "file" / "x.json", "is a file")):
        with pytest.raises(InputError, match=says):
            check_record(str(path))
    check_record(None)
    check_record(str(tmp_path / "new" / "deeper" / "x.json"))
    assert not (tmp_path / "new").exists()


def test_numbers_json_does_not_know_become_null(tmp_path):
    write_json(tmp_path / "x.json", {"a": [float("nan"), (1.5, float("inf"))], "b": {"c": -float("inf"), "d": "nan"}})
    assert "NaN" not in (tmp_path / "x.json").read_text()
    assert json.loads((tmp_path / "x.json").read_text()) == {"a": [None, [1.5, None]], "b": {"c": None, "d": "nan"}}


def test_foreign_folders_are_refused(tmp_path):
    (tmp_path / "file").write_text("x")
    with pytest.raises(InputError, match="is a file"):
        open_run(tmp_path / "file")
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "thesis.tex").write_text("x")
    with pytest.raises(InputError, match="not empty"):
        open_run(tmp_path / "full")


def test_a_folder_that_cannot_be_written_is_named(tmp_path, monkeypatch):
    # Permissions do not stop a superuser, so the system's answer is put in its mouth.
    monkeypatch.setattr(os, "access", lambda path, mode: False)
    with pytest.raises(InputError, match="not writable"):
        open_run(tmp_path / "run")
    monkeypatch.undo()
    (tmp_path / "file").write_text("x")
    with pytest.raises(InputError, match="cannot be made"):
        open_run(tmp_path / "file" / "run")


def test_a_newer_format_is_refused(tmp_path):
    open_run(tmp_path / "run").close()
    manifest = json.loads((tmp_path / "run" / "manifest.json").read_text())
    write_json(tmp_path / "run" / "manifest.json", {**manifest, "format": 99})
    with pytest.raises(InputError, match="newer version"):
        open_run(tmp_path / "run", resume=True)


def test_changed_versions_are_a_warning(tmp_path):
    open_run(tmp_path / "run").close()
    manifest = json.loads((tmp_path / "run" / "manifest.json").read_text())
    manifest["versions"]["torch"] = "0.1"
    write_json(tmp_path / "run" / "manifest.json", manifest)
    with open_run(tmp_path / "run", resume=True) as folder:
        assert "torch" in folder.warnings[0]


def test_a_full_disk_loses_nothing(tmp_path, monkeypatch):
    with open_run(tmp_path / "run") as folder:
        folder.append({"id": "a", "index": 0})

        def full(fd):
            raise OSError(errno.ENOSPC, "No space left on device")

        monkeypatch.setattr(os, "fsync", full)
        with pytest.raises(RunError, match="disk is full"):
            folder.append({"id": "b", "index": 1})
        monkeypatch.undo()
    assert [r["id"] for r in read_results(tmp_path / "run")] == ["a"]
    with open_run(tmp_path / "run", resume=True) as folder:
        folder.append({"id": "b", "index": 1})
    assert [r["id"] for r in read_results(tmp_path / "run")] == ["a", "b"]


def test_parts_of_several_processes_are_one_run(tmp_path):
    with open_run(tmp_path / "run", part="-0-of-2") as first:
        first.append({"id": "a", "index": 0})
        with open_run(tmp_path / "run", part="-1-of-2") as second:
            second.append({"id": "b", "index": 1})
    with open_run(tmp_path / "run", resume=True) as alone:
        assert [r["id"] for r in alone.records()] == ["a", "b"]


def test_write_json_leaves_the_old_file_when_it_cannot(tmp_path, monkeypatch):
    write_json(tmp_path / "x.json", {"a": 1})

    def full(fd):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(RunError, match="disk is full"):
        write_json(tmp_path / "x.json", {"a": 2})
    assert json.loads((tmp_path / "x.json").read_text()) == {"a": 1}
    assert not list(tmp_path.glob("*.tmp"))


def test_a_line_that_is_not_as_it_was_written_is_refused(tmp_path):
    """A digit that changed is still JSON; a line that a kill or a person took away is just not there."""
    with RunFolder(tmp_path / "run", "kind", {}) as run:
        for n in range(3):
            run.append({"id": f"{n}.png", "loss": 0.125 + n}, 0.5 if n else None)
    path = tmp_path / "run" / "results.jsonl"
    lines = path.read_text().splitlines(keepends=True)
    assert [r["loss"] for r in read_results(tmp_path / "run")] == [0.125, 1.125, 2.125]
    assert read_timing(tmp_path / "run") == {"1.png": 0.5, "2.png": 0.5}
    path.write_text("".join(lines[:2]))
    assert len(read_results(tmp_path / "run")) == 2
    changed, renamed = lines[0].replace("0.125", "0.135"), lines[0].replace("0.png", "q.png")
    for wrong in (changed, renamed, '{"loss": 1}\n', "[1]\n", '{"id": ["a"]}\n', "[" * 100_000 + "\n"):
        path.write_text(wrong + "".join(lines[1:]))
        with pytest.raises(InputError, match=r"results.jsonl is .* line 1; move it away"):
            read_results(tmp_path / "run")
    (tmp_path / "run" / "timing.jsonl").unlink()  # folders of before had no sums
    path.write_text(changed)
    assert read_results(tmp_path / "run")[0]["loss"] == 0.135


@pytest.mark.parametrize("text", ["[]", "3", '{"settings": []}', '{"format": "new", "settings": {}}', '{"kind": 3}'])
def test_what_is_no_manifest_is_refused(tmp_path, text):
    (tmp_path / "manifest.json").write_text(text)
    for read in (lambda: RunFolder(tmp_path, "kind", {}, resume=True), lambda: summary(tmp_path)):
        with pytest.raises(InputError, match=r"manifest.json is no manifest of a run"):
            read()


def test_of_lines_that_do_not_all_fit_those_that_do_stay(tmp_path):
    lines = LineFile(tmp_path / "results.jsonl")
    lines.append({"id": "first-"})
    size = (tmp_path / "results.jsonl").stat().st_size
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (3 * size + size // 2, before[1]))  # a write ends in the middle of a line
    try:
        with pytest.raises(RunError, match=r"results\.jsonl"):
            lines.extend([{"id": f"{number}-----"} for number in range(4)])
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert [line["id"] for line in read_lines(tmp_path / "results.jsonl")] == ["first-", "0-----", "1-----"]
    lines.extend([{"id": "2-----"}, {"id": "3-----"}])
    lines.close()
    assert [line["id"] for line in read_lines(tmp_path / "results.jsonl")][2:] == ["1-----", "2-----", "3-----"]
