"""Every room says what is in it, and what pages and docstrings name is there."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
STUDIES = sorted(p.parent for p in (ROOT / "experiments").glob("*/__init__.py"))
PAGES = [
    ROOT / "README.md",
    ROOT / "CONTRIBUTING.md",
    ROOT / "benchmarks" / "README.md",
    *(ROOT / "docs").rglob("*.md"),
]
HOUSE = {"test_rooms.py", "test_house.py", "test_docs.py", "test_readme.py"}  # of the whole, not of one room
RECORD = re.compile(r"`([a-z0-9*-]+\.json)`")
NAMED = re.compile(r"`((?:glom|probes|experiments|commands|tests|benchmarks)(?:[./](?!safetensors)\w+)+?(?:\.py)?)`")


@pytest.mark.parametrize("study", STUDIES, ids=lambda p: p.name)
def test_a_study_says_its_question_its_command_its_record_and_where_to_begin(study):
    text = (study / "README.md").read_text(encoding="utf-8")
    assert len(text.splitlines()) <= 20
    for words in ("**Writes**", "**Recorded**", "**Read first**", "?"):
        assert words in text, words
    for module in re.findall(r"`(\w+\.py)`", text):
        assert (study / module).is_file(), module
    for link in re.findall(r"\]\(([^)]+)\)", text):
        assert (study / link).exists(), link
    recorded = re.search(r"\*\*Recorded\*\*.*", text)
    assert recorded is not None
    for pattern in RECORD.findall(recorded.group()):
        assert list((ROOT / "benchmarks" / "results").glob(pattern)), pattern


def there(name: str) -> bool:
    """A file, a folder, a module, or something in a module."""
    path = ROOT / name.removesuffix(".py").replace(".", "/")
    if (ROOT / name).exists() or path.exists() or path.with_suffix(".py").exists():
        return True
    return any(
        module.is_file() and re.search(rf"\b{path.name}\b", module.read_text(encoding="utf-8"))
        for module in (
            path.parent.with_suffix(".py"),
            path.parent / "__init__.py",
            path.parent.parent.with_suffix(".py"),
        )
    )


def test_modules_named_in_pages_and_docstrings_are_there():
    code = [p for room in ("glom", "probes", "experiments", "commands", "tests") for p in (ROOT / room).rglob("*.py")]
    rooms = {p.name for p in ROOT.iterdir() if p.is_dir()}
    gone = []
    for page in [*PAGES, *(ROOT / "experiments").glob("*/README.md"), *code]:
        for name in NAMED.findall(page.read_text(encoding="utf-8")):
            assert re.split(r"[./]", name)[0] in rooms
            if not there(name):
                gone.append(f"{page.relative_to(ROOT)}: {name}")
    assert not gone, "\n".join(gone)


def test_tests_stand_in_the_folders_of_what_they_test() -> None:
    for path in (ROOT / "tests").rglob("test_*.py"):
        room = path.parent.relative_to(ROOT / "tests")
        assert (ROOT / room).is_dir(), f"{path.name} stands in tests/{room}, and there is no {room}"
        assert room.parts or path.name in HOUSE, f"{path.name}: which room does it test?"
