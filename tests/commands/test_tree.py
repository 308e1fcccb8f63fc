"""Every command of the program: its help and its example as a process; what it does not know is refused."""

from __future__ import annotations

import json
import os
import re
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
from commands.ending import guard

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
def walked() -> dict[str, tuple[int, str, str]]:
    """Of every command, what `--help` gave: exit code, output, errors."""
    names = list(program())
    requests = [[*name.split(), "--help"] for name in names]
    environment = {**os.environ, "COLUMNS": "200", "TERM": "dumb", "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-c", WALK]
    done = subprocess.run(
        command, input=json.dumps(requests), capture_output=True, text=True, cwd=ROOT, env=environment, timeout=280
    )
    assert done.returncode == 0, done.stderr
    return dict(zip(names, json.loads(done.stdout), strict=True))


def test_every_command_has_help_with_an_example(walked):
    missing = []
    for name, (code, out, _) in walked.items():
        said = " ".join(out.split())
        odd = re.search(r"<bool>|<list|\[default|\.\.\.\]\.\.\.", said)  # a flag takes no value; one form each
        if code or f"Example: apm {name} {EXAMPLES.get(name, '')}".strip() not in said or "Usage" not in said or odd:
            missing.append(f"{name}: {code}, {said[-100:]}")
    assert missing == []


def test_every_command_refuses_what_it_does_not_know(call, monkeypatch):
    """On standard error, with the exit code of a wrong request."""
    monkeypatch.setenv("COLUMNS", "200")
    for name in program():
        code, out, error = call(*name.split(), "--nobody-has-this")
        assert (code, out) == (2, "") and "No such option: --nobody-has-this" in error, name


def test_a_command_that_computes_shows_how_far_it_is():
    """`--quiet` is there where there is something to be quiet about, which may take over 2 s.

    Not so these, on one core beyond what they import: the records that ship, judged in 0.7 s (`claims`) and held
    against the pages in 0.8 s (`docs`); a checkpoint of 93 MB, read and written in 1.4 s.
    """
    instant = {"claims", "convert official", "docs"}
    without = {name for name, found in options().items() if "--quiet" not in found}
    listing = {name for name in without if name.split()[-1] in ("list", "candidates", "bash", "zsh", "fish")}
    assert without - listing == instant
