"""Every command of the program, as a process: its help, its example, and one line for what it does not know."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from commands.examples import EXAMPLES
from tests.test_readme import options, program

ROOT = Path(__file__).parents[2]
# One interpreter that has the command line loaded; each request is a process forked from it, with an end of its own.
WALK = """
import contextlib, gc, io, json, os, sys, tempfile
from cli import app, main
from commands.common import guard

with contextlib.redirect_stdout(io.StringIO()):
    guard(app, ["fold", "--help"])  # loads what the help of every command needs
gc.freeze()

def asked(words):
    with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
        child = os.fork()
        if not child:
            os.dup2(out.fileno(), 1), os.dup2(err.fileno(), 2)
            sys.argv = ["apm", *words]
            try:
                main()
            except SystemExit as end:
                sys.stdout.flush()
                os._exit(end.code)
        code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        return code, *(file.seek(0) or file.read().decode() for file in (out, err))

print(json.dumps([asked(words) for words in json.load(sys.stdin)]))
"""


@pytest.fixture(scope="module")
def walked() -> dict[str, dict[str, tuple[int, str, str]]]:
    """Of every command: what `--help` and what an option that nobody has gave; (exit code, output, errors)."""
    names = list(program())
    requests = [[*name.split(), option] for name in names for option in ("--help", "--nobody-has-this")]
    environment = {**os.environ, "COLUMNS": "200", "TERM": "dumb", "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-c", WALK]
    done = subprocess.run(
        command, input=json.dumps(requests), capture_output=True, text=True, cwd=ROOT, env=environment, timeout=280
    )
    assert done.returncode == 0, done.stderr
    found = iter(json.loads(done.stdout))
    return {name: {"help": next(found), "unknown": next(found)} for name in names}


def test_every_command_has_help_with_an_example(walked):
    missing = []
    for name, asked in walked.items():
        code, out, _ = asked["help"]
        said = " ".join(out.split())
        if code or f"Example: apm {name} {EXAMPLES.get(name, '')}".strip() not in said or "Usage" not in said:
            missing.append(f"{name}: {code}, {said[-100:]}")
    assert missing == []


def test_every_command_refuses_what_it_does_not_know(walked):
    """In one line for a usage error, on standard error, with the exit code of a wrong request."""
    wrong = {name: asked["unknown"] for name, asked in walked.items()}
    assert [
        name
        for name, (code, out, error) in wrong.items()
        if code != 2 or out or "Traceback" in error or "No such option: --nobody-has-this" not in error
    ] == []


def test_a_command_that_computes_shows_how_far_it_is():
    """`--quiet` is there where there is something to be quiet about; these take no time, or say it as they end."""
    instant = {
        "claims",
        "convert official",
        "docs",
        "doctor",
        "ff eval",
        "ff goodness",
        "islands compare",
        "sweep figure",
        "sweep report",
        "ttt report",
    }
    without = {name for name, found in options().items() if "--quiet" not in found}
    listing = {name for name in without if name.split()[-1] in ("list", "candidates", "bash", "zsh", "fish")}
    assert without - listing - instant <= {"datasets prepare", "ttt trace"}
