"""What the README says can be typed, can be typed."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import typer

from glom import settings

ROOT = Path(__file__).parents[1]
PAGES = ["README.md", *sorted(str(p.relative_to(ROOT)) for p in (ROOT / "docs").glob("*.md"))]


def test_the_python_example_runs():
    [code] = re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(), flags=re.S)
    names: dict[str, object] = {}
    exec(compile(code, "README.md", "exec"), names)
    assert tuple(names["percept"].features.shape) == (64, 64, 128)  # type: ignore[attr-defined]
    assert tuple(names["somewhere"].features.shape) == (1, 128)  # type: ignore[attr-defined]
    assert names["answer"].name and names["islands"].layers  # type: ignore[attr-defined]


@pytest.mark.parametrize("page", PAGES)
def test_every_command_named_exists(page):
    from cli import app

    group = typer.main.get_command(app)
    for line in re.findall(r"(?<![.\w])apm ([a-z][a-z0-9 -]*)", (ROOT / page).read_text()):
        words = line.split()
        command = group.get_command(None, words[0])
        assert command is not None, f"{page}: apm {line}"
        if len(words) > 1 and getattr(command, "commands", None):
            assert words[1] in command.commands, f"{page}: apm {line}"


@pytest.mark.parametrize("page", PAGES)
def test_every_link_to_a_file_leads_somewhere(page):
    folder = (ROOT / page).parent
    for target in re.findall(r"\]\(([^)#\s]+)", (ROOT / page).read_text()):
        if not target.startswith("http"):
            assert (folder / target).exists(), f"{page}: {target}"


# Commands that run no network: they list, check, fetch or compare what is there.
LISTINGS = {
    "doctor", "docs", "ttt report", "islands compare", "claims", "methods list", "ablate objective candidates",
    "datasets list", "datasets check", "datasets prepare", "convert official",
    "completion bash", "completion zsh", "completion fish",
}  # fmt: skip


def options() -> dict[str, set[str]]:
    """The options of every command that has none below it."""
    from cli import app

    def below(words: list[str], command: Any) -> dict[str, set[str]]:
        if not hasattr(command, "list_commands"):
            return {" ".join(words): {name for param in command.params for name in param.opts}}
        parts = [below([*words, name], command.get_command(None, name)) for name in command.list_commands(None)]
        return {name: found for part in parts for name, found in part.items()}

    return below([], typer.main.get_command(app))


@pytest.mark.parametrize("option", ["--seed", "--device", "--quiet"])
def test_the_readme_names_every_command_without_an_option_that_the_others_have(option):
    text = " ".join((ROOT / "README.md").read_text().split())
    [said] = re.findall(f"`{option}`, but for (.*?), (?:where|which)", text)
    named = set()
    for words in re.findall(r"`([^`]+)`", said):
        *group, last = words.split()
        named |= {" ".join([*group, name]) for name in last.split("|")}
    without = {name for name, found in options().items() if option not in found and name not in LISTINGS}
    assert named == without


def test_the_readme_says_who_gives_json():
    assert "all but `completion` take `--json`" in " ".join((ROOT / "README.md").read_text().split())
    without = {name for name, found in options().items() if "--json" not in found}
    assert without == {name for name in LISTINGS if name.startswith("completion")}


def test_no_help_says_that_class_names_are_one_a_line_alone():
    assert "alone or beside an index, wnid or folder" in settings.classes().metadata["help"]
    shared = [name for name, found in options().items() if "--classes" in found]
    assert {"ttt run", "ttt trace", "benchmark", "teachers score"} <= set(shared)
