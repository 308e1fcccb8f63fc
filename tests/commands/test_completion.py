"""What TAB offers, asked of the shells themselves."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer

from cli import COMMANDS, app
from commands.ending import guard


def commands() -> Iterator[tuple[list[str], Any]]:
    """Every command of the program: the words that name it, and the command."""

    def below(words: list[str], command: Any) -> Iterator[tuple[list[str], Any]]:
        yield words, command
        for name in command.list_commands(None) if hasattr(command, "list_commands") else ():
            yield from below([*words, name], command.get_command(None, name))

    yield from below([], typer.main.get_command(app))


@pytest.fixture
def script(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Any:
    """Writes the script of a shell and says where."""

    def make(shell: str) -> Path:
        assert guard(app, ["completion", shell]) == 0
        path = tmp_path / f"apm.{shell}"
        path.write_text(capsys.readouterr().out)
        return path

    return make


def bash(script: Path, *words: str) -> list[str]:
    """What bash offers after these words; no program can be found while it does."""
    line = 'source "$0"; PATH=; COMP_WORDS=(apm "$@"); COMP_CWORD=$#; _apm; printf "%s\\n" "${COMPREPLY[@]}"'
    found = subprocess.run(["bash", "-c", line, str(script), *words], capture_output=True, text=True, timeout=20)
    assert found.stderr == ""
    return found.stdout.split()


def test_bash_completes_commands_sub_commands_and_options(script):
    path = script("bash")
    assert bash(path, "tt") == ["ttt"]
    assert bash(path, "") == list(COMMANDS)
    assert sorted(bash(path, "ttt", "")) == ["report", "run", "trace"]
    assert bash(path, "ttt", "run", "data", "--tem") == ["--templates"]
    assert bash(path, "ablate", "objective", "sel") == ["select"]
    assert bash(path, "teachers", "--json", "sc") == ["score"]
    assert "--version" in bash(path, "--")


def test_bash_leaves_file_names_to_bash(script):
    path = script("bash")
    assert bash(path, "fold", "") == [] and bash(path, "ttt", "run", "--out", "") == []
    assert bash(path, "ttt", "run", "fold", "--lim") == ["--limit"]  # a folder called as a command is called
    said = subprocess.run(["bash", "-c", 'source "$0"; complete -p apm', str(path)], capture_output=True, text=True)
    assert "-o default" in said.stdout and "-F _apm" in said.stdout


def test_every_option_of_every_command_is_offered(script):
    text = script("bash").read_text()
    offered = dict(line.strip().split(") next=", 1) for line in text.splitlines() if ") next=" in line)
    for words, command in commands():
        [options] = [offered[key].split("options='")[1].split("'")[0].split() for key in [f"'{' '.join(words)}'"]]
        for param in command.params:
            if param.param_type_name == "option" and not param.hidden:
                assert {*param.opts, *param.secondary_opts} <= set(options), (words, param.name)


def test_no_command_offers_a_completion_that_does_not_work():
    for words, command in commands():
        options = {name for param in command.params for name in param.opts}
        assert not options & {"--install-completion", "--show-completion"}, words


@pytest.mark.skipif(shutil.which("fish") is None, reason="no fish here")
def test_fish_completes(script):
    path = script("fish")

    def ask(line: str) -> list[str]:
        command = ["fish", "--no-config", "-c", f"source {path}; complete -C '{line}'"]
        found = subprocess.run(command, capture_output=True, text=True, timeout=20)
        return [row.partition("\t")[0] for row in found.stdout.splitlines()]

    assert ask("apm tt") == ["ttt"] and ask("apm ttt ") == ["report", "run", "trace"]
    assert ask("apm ttt run --tem") == ["--templates"]


@pytest.mark.skipif(shutil.which("zsh") is None, reason="no zsh here")
def test_zsh_completes(script):
    path = script("zsh")
    stand_ins = "compdef() { :; }; compadd() { shift; print -r -- $@; }; _files() { print FILES; }; "
    line = stand_ins + f"source {path}; words=(apm $@); CURRENT=$#words; PREFIX=$words[CURRENT]; _apm"

    def ask(*words: str) -> list[str]:
        found = subprocess.run(["zsh", "-fc", line, "zsh", *words], capture_output=True, text=True, timeout=20)
        return found.stdout.split()

    assert set(ask("ttt", "r")) == {"run", "trace", "report"}
    assert {"--teacher", "--templates"} <= set(ask("ttt", "run", "--te"))
    assert ask("fold", "pic") == ["FILES"]
