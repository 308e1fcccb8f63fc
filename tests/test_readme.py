"""What the README says can be typed, can be typed."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import typer

ROOT = Path(__file__).parents[1]
PAGES = ["README.md", *sorted(str(p.relative_to(ROOT)) for p in (ROOT / "docs").glob("*.md"))]


def test_the_python_example_runs():
    [code] = re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(), flags=re.S)
    names: dict[str, object] = {}
    exec(compile(code, "README.md", "exec"), names)
    assert tuple(names["percept"].features.shape) == (1, 4096, 128)  # type: ignore[attr-defined]
    assert tuple(names["somewhere"].shape) == (1, 1, 128)  # type: ignore[attr-defined]


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
