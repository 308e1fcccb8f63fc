"""One rule for every command that reads pictures: nothing readable is 2, work that failed on every sample is 1."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import typer
from torch import Tensor, full

from cli import app
from commands.ending import Interrupted, guard
from commands.ranks import LOST, end_when_told
from glom.errors import InputError, RunError, demand_some, lost
from glom.methods import METHODS
from tests.commands.test_cli import ROOT
from tests.conftest import make_image

OK = {"status": "ok"}
UNREAD, FAILED = lost(InputError("a.png: damaged")), lost(RunError("a.png: the loss is NaN"))


@pytest.fixture
def broken(tmp_path: Path) -> Path:
    """Two classes of six files each that are no pictures."""
    for name in ("cat", "ship"):
        (tmp_path / "broken" / name).mkdir(parents=True)
        for i in range(6):
            (tmp_path / "broken" / name / f"{i}.png").write_text(f"no picture {name} {i}")
    return tmp_path / "broken"


@pytest.fixture
def whole(tmp_path: Path) -> Path:
    """Two classes of two pictures."""
    for number, name in enumerate(("cat", "ship")):
        (tmp_path / "whole" / name).mkdir(parents=True)
        for i in range(2):
            make_image(2 * number + i).save(tmp_path / "whole" / name / f"{i}.png")
    return tmp_path / "whole"


def test_one_result_is_enough_and_no_samples_are_no_failure():
    demand_some([UNREAD, FAILED, OK], "pictures")
    demand_some([], "pictures")


@pytest.mark.parametrize(
    ("records", "kind", "said"),
    [
        ([UNREAD, UNREAD], InputError, "none of the 2 pictures of x could be read; the first: a.png: damaged"),
        ([FAILED], RunError, "none of the 1 pictures of x has a result: 1 failed; the first: a.png: the loss is NaN"),
        ([UNREAD, FAILED], RunError, "1 failed, 1 could not be read; the first: a.png: the loss is NaN"),
    ],
)
def test_what_is_said_of_samples_without_a_result(records, kind, said):
    with pytest.raises(kind) as error:
        demand_some(records, "pictures of x")
    assert said in str(error.value)


COMMANDS = [
    "ttt run {data} -o {out}",
    "benchmark -d {data} -m zero-shot -o {out}",
    "teachers score glom-tiny {data}",
    "islands show {data}/cat/0.png {data}/cat/1.png -o {out}",
    "grid train {data} -o {out} --epochs 1 --no-cache",
    "grid eval apm-cifar10 {data} -o {out}",
    "grid shortcut {data} -o {out} --epochs 1 --no-cache",
    "grid decode {data}/cat/0.png -o {out}",
    "grid overfit {data}/cat/0.png -o {out}",
    "grid interpolate {data}/cat/0.png {data}/cat/1.png -o {out}",
    "grid upsample {data}/cat/0.png -o {out}",
    "fold {data}/cat/0.png -o {out}",
    "ttt trace {data}/cat/0.png -o {out}",
    "glom train --data {data} -o {out}",
    "ablate folding {data} -o {out}",
    "ablate asynchrony {data} -o {out}",
    "ablate objective select {data} -o {out}",
    "ablate prompts {data}",
    "islands emerge --data {data} -o {out}",
    "ff train --data {data} -o {out}",
]


@pytest.mark.parametrize("command", COMMANDS)
def test_nothing_readable_is_a_wrong_request(command, broken, tmp_path, capsys):
    words = command.format(data=broken, out=tmp_path / "out").split()
    assert guard(app, words) == 2
    last = capsys.readouterr().err.strip().splitlines()[-1]
    assert last.startswith("error: ") and "Traceback" not in last


@pytest.mark.parametrize(
    "command", ["ttt run {data} -o {out} --json", "benchmark -d {data} -m zero-shot -o {out} --json"]
)
def test_results_stay_and_json_is_whole_where_nothing_was_readable(command, broken, tmp_path, capsys):
    out = tmp_path / "out"
    assert guard(app, command.format(data=broken, out=out).split()) == 2
    assert isinstance(json.loads(capsys.readouterr().out), dict)
    [results] = out.rglob("results.jsonl")
    assert len(results.read_text().splitlines()) == 12
    assert guard(app, [*command.format(data=broken, out=out).split(), "--resume"]) == 2  # still nothing


def test_adaptation_that_fails_on_every_sample_is_a_failed_run(whole, tmp_path, capsys):
    assert guard(app, ["ttt", "run", str(whole), "-o", str(tmp_path / "out"), "--lr", "1e38", "-q"]) == 1
    found = capsys.readouterr()
    assert "4 failed" in found.out  # the table is there all the same
    assert "error: none of the 4 samples of whole has a result: 4 failed" in found.err


def test_a_method_that_fails_on_every_picture_is_a_failed_run_and_the_other_answers_stay(
    whole, tmp_path, capsys, monkeypatch
):
    def nothing(self: object, image: object, seed: int) -> Tensor:
        return full((2,), float("nan"))

    monkeypatch.setattr(METHODS["memo"], "predict", nothing)
    out = tmp_path / "out"
    assert guard(app, ["benchmark", "-d", str(whole), "-m", "zero-shot,memo", "-o", str(out), "-q"]) == 1
    assert "pictures of whole (memo) has a result: 4 failed" in capsys.readouterr().err.replace("\n", " ")
    assert len((out / "whole" / "zero-shot" / "results.jsonl").read_text().splitlines()) == 4


def test_one_readable_picture_among_broken_ones_is_a_run(broken, tmp_path):
    make_image(3).save(broken / "cat" / "0.png")
    assert guard(app, ["ttt", "run", str(broken), "-o", str(tmp_path / "out"), "-q"]) == 0


@pytest.fixture
def listens(monkeypatch):
    """This process hears signals as the program's does."""
    before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}
    signal.signal(signal.SIGINT, signal.default_int_handler)  # which a shell's background job does not have
    monkeypatch.setattr(sys, "unraisablehook", sys.unraisablehook)
    end_when_told()
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.mark.parametrize(("kind", "code"), [(RunError, 1), (InputError, 2), (Interrupted, 130)])
def test_a_signal_while_the_end_is_told_changes_nothing(kind, code, listens, capsys):
    """torchrun's to a rank that has found by itself that another one died, and is saying so; a second Ctrl-C."""

    class Told(kind):
        def __str__(self) -> str:
            os.kill(os.getpid(), signal.SIGTERM)
            os.kill(os.getpid(), signal.SIGINT)
            return "another rank died"

    failing = typer.Typer()

    @failing.command()
    def fail() -> None:
        raise Told

    assert guard(failing, []) == code
    os.kill(os.getpid(), signal.SIGTERM)  # and until the process is gone
    said = capsys.readouterr().err
    assert said.count("another rank died") == said.count("\n") == 1


def test_a_command_within_another_ends_for_itself_alone(listens):
    """As in submitit's debug executor: the outer one still hears."""
    inner, outer = typer.Typer(), typer.Typer()
    inner.command()(lambda: None)

    @outer.command()
    def run() -> None:
        assert guard(inner, []) == 0
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(60)

    begun = time.monotonic()
    assert guard(outer, []) == 130 and time.monotonic() - begun < 30


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="waits in Linux's own library")
def test_a_rank_that_lost_a_signal_and_then_waits_in_a_library_is_told_again():
    code = """if True:
        import ctypes, os, signal
        from commands.ranks import LOST, end_when_told
        end_when_told()
        class Dropped:
            def __del__(self):
                os.kill(os.getpid(), signal.SIGTERM)
        held, library = ctypes.create_string_buffer(64), ctypes.CDLL(None)
        library.pthread_mutex_lock(held)
        Dropped()
        library.pthread_mutex_lock(held)
    """
    env = {**os.environ, "RANK": "1", "WORLD_SIZE": "2"}
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, env=env, capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stderr) == (130, f"error: {LOST}\n")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_where_nothing_can_be_raised_is_told_again(number, listens, capsys):
    """Python drops what is raised in `__del__`: the run would go on, with a traceback on the terminal."""

    class Dropped:
        def __del__(self) -> None:
            os.kill(os.getpid(), number)

    running = typer.Typer()
    went_on = []

    @running.command()
    def run() -> None:
        dropped = Dropped()
        del dropped
        went_on.append(True)
        time.sleep(60)

    begun = time.monotonic()
    assert guard(running, []) == 130
    assert went_on and time.monotonic() - begun < 30
    assert "Traceback" not in capsys.readouterr().err
