"""What the pages say can be typed, can be typed; what they show of Python runs; what they link to is there."""

from __future__ import annotations

import ast
import re
import shlex
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import typer
from PIL import Image

import glom
import probes
from glom import settings
from glom.adaptation.objectives import OBJECTIVES
from glom.backbones.registry import BACKBONES
from glom.datasets.registry import DATASETS
from glom.methods.base import METHODS
from glom.teachers.registry import TEACHERS
from tests.conftest import make_image

ROOT = Path(__file__).parents[1]
TUTORIALS = sorted((ROOT / "docs" / "tutorials").glob("*.py"))
PAGES = [
    str(page.relative_to(ROOT))
    for page in (
        *(ROOT / name for name in ("README.md", "CONTRIBUTING.md", "benchmarks/README.md")),
        *sorted((ROOT / "docs").rglob("*.md")),
        *sorted((ROOT / "experiments").glob("*/README.md")),
        *TUTORIALS,
    )
]
COMMAND = r"(?:(?:srun )?torchrun (?:\\\n|.)*? -m cli|apm) "
PYTHON = re.compile(r"(<!-- not run: [^>]+ -->\n)?```python\n(.*?)```", re.S)


def text_of(page: str) -> str:
    """A page's text; a notebook's text stands in comments."""
    text = (ROOT / page).read_text(encoding="utf-8")
    return re.sub(r"^# ?", "", text, flags=re.M) if page.endswith(".py") else text


# -- commands --------------------------------------------------------------------------------------------------------


@cache
def program() -> dict[str, Any]:
    """Every command that has none below it, by its words."""
    from cli import app

    def below(words: list[str], command: Any) -> dict[str, Any]:
        if not hasattr(command, "list_commands"):
            return {" ".join(words): command}
        parts = [below([*words, name], command.get_command(None, name)) for name in command.list_commands(None)]
        found = {name: one for part in parts for name, one in part.items()}
        return found | ({" ".join(words): command} if command.invoke_without_command and words else {})

    return below([], typer.main.get_command(app))


def options() -> dict[str, set[str]]:
    """The options of every command that has none below it."""
    return {
        name: {option for param in command.params for option in param.opts}
        for name, command in program().items()
        if not hasattr(command, "list_commands")
    }


def fault(line: str, whole: bool) -> str:
    """What is wrong with the words behind `apm`, or nothing.

    Args:
        whole: it is a line of its own, so that everything required stands in it.
    """
    words = shlex.split(line)
    found = [n for n in (3, 2, 1) if " ".join(words[:n]) in program()]
    if not found:
        group = words == ["--help"] or any(f"{name} ".startswith(f"{line} ") for name in program())
        return "" if group and not whole else "no such command"
    command = program()[" ".join(words[: found[0]])]
    context = command.context_class(command, info_name=line)
    try:
        values, left, _ = command.make_parser(context).parse_args(words[found[0] :])
    except Exception as error:  # Typer carries a Click of its own
        return "" if not whole and "requires an argument" in str(error) else str(error)
    missing = [p.name for p in command.params if p.required and values.get(p.name) in (None, ())]
    return f"left over: {left}" if left else f"without {missing}" if missing and whole else ""


def typed(page: str) -> list[tuple[str, bool]]:
    """Every command of a page, without `apm`; and whether it is a line of its own."""
    text = text_of(page)
    lines = re.findall(rf"^(?: {{4}}|\$ )?{COMMAND}((?:\\\n|.)*)", "".join(blocks(text)), re.M)
    found = []
    for line in lines:
        line = re.split(r" {2,}| #", re.sub(r"\\\n *", "", line))[0]
        whole = not re.search(r"[.…]{3}|…", line)
        found += [(one, whole) for one in spelled(re.sub(r"[\[\]]", "", line))]
    bare = re.sub(r"^```.*?^```", "", text, flags=re.S | re.M)
    inline = [code for code in re.findall(r"`([^`]+)`", " ".join(bare.split())) if re.match(COMMAND, code)]
    return found + [(one, False) for code in inline for one in spelled(re.sub(f"^{COMMAND}|[\\[\\]]", "", code))]


def blocks(text: str) -> list[str]:
    """Code between fences, and lines that are indented by four."""
    found = re.findall(r"^```(?!python)\w*\n(.*?)^```|((?:^ {4}.*\n)+)", PYTHON.sub("", text), re.S | re.M)
    return [f"{block}\n" for pair in found for block in pair if block]


def spelled(line: str) -> list[str]:
    """`bench ff|glom` is two commands, and `table2, figure-islands` the first of several."""
    line = re.sub(r"(?<=[\s=])(?:[.…]+|\$again)(?=\s|$)|,$", "", line.strip()).strip()
    words = line.split(" ")
    for at, word in enumerate(words[:3]):
        if re.fullmatch(r"[a-z0-9-]+(\|[a-z0-9-]+)+", word):
            return [" ".join([*words[:at], one, *words[at + 1 :]]) for one in word.split("|")]
    return [line] if line else []


@pytest.mark.parametrize("page", PAGES)
def test_every_command_can_be_typed(page):
    faults = {line: fault(line, whole) for line, whole in typed(page)}
    assert {line: what for line, what in faults.items() if what} == {}


def test_a_command_that_cannot_be_typed_is_found():
    assert fault("fold a.jpg --out DIR", True) == "" == fault("teachers", False)
    assert "No such option" in fault("fold a.jpg --outt DIR", True)
    assert "without" in fault("fold a.jpg", True) and fault("fold a.jpg", False) == ""
    assert fault("folds a.jpg", True) == "no such command" and "left over" in fault("doctor a.jpg", True)
    assert len([line for page in PAGES for line, whole in typed(page) if whole]) > 100


# Commands that run no network: they list, check, fetch or compare what is there.
LISTINGS = {
    "doctor", "docs", "ttt report", "islands compare", "claims", "figures", "methods list",
    "ablate objective candidates",
    "datasets list", "datasets check", "datasets prepare", "convert official",
    "sweep run", "sweep report", "sweep figure",  # what a sweep runs are other commands
    "completion bash", "completion zsh", "completion fish",
}  # fmt: skip
COMMANDS_PAGE = " ".join((ROOT / "docs" / "commands.md").read_text().split())


@pytest.mark.parametrize("option", ["--seed", "--device", "--quiet"])
def test_the_commands_page_names_every_command_without_an_option_that_the_others_have(option):
    assert f"`{option}`" in COMMANDS_PAGE
    said = " ".join(re.findall(f"`{option}`, but for (.*?), (?:where|which)", COMMANDS_PAGE))
    named = set()
    for words in re.findall(r"`([^`]+)`", said):
        *group, last = words.split()
        named |= {" ".join([*group, name]) for name in last.split("|")}
    without = {name for name, found in options().items() if option not in found and name not in LISTINGS}
    assert named == without


def test_the_commands_page_says_who_gives_json():
    assert "all but `completion` take `--json`" in COMMANDS_PAGE
    without = {name for name, found in options().items() if "--json" not in found}
    assert without == {name for name in LISTINGS if name.startswith("completion")}


def test_no_help_says_that_class_names_are_one_a_line_alone():
    assert "alone or beside an index, wnid or folder" in settings.classes().metadata["help"]
    shared = [name for name, found in options().items() if "--classes" in found]
    assert {"ttt run", "ttt trace", "benchmark", "teachers score"} <= set(shared)


# -- Python ----------------------------------------------------------------------------------------------------------


@pytest.fixture
def studio(tmp_path, monkeypatch) -> Iterator[dict[str, object]]:
    """Where the pages' examples run: pictures by the names they use, and what they take as given."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("PIL.Image.Image.show", lambda _: None)
    for number, name in enumerate(("cat.jpg", "dog.jpg", "photo.jpg")):
        make_image(number, (64, 48)).save(name)
    draw = np.random.default_rng(0)
    y = draw.integers(0, 3, 60)
    x = draw.normal(size=(60, 12)) + 2 * y[:, None]
    net = torch.nn.Sequential(
        torch.nn.Conv2d(3, 8, 8, 8), torch.nn.AdaptiveAvgPool2d(1), torch.nn.Flatten(), torch.nn.Linear(8, 2)
    )
    pictures = torch.rand(4, 3, 24, 24)
    masks = (np.arange(48)[:, None] > 20) + np.zeros((48, 64), int)
    given = {"x": x, "y": y, "x_test": x, "y_test": y, "net": net, "pictures": pictures, "images": pictures}
    tables = (TEACHERS, BACKBONES, DATASETS, METHODS, OBJECTIVES)
    before = [set(table) for table in tables]
    yield given | {"masks": masks, "image": make_image(3, (64, 48))}
    for table, names in zip(tables, before, strict=True):
        for name in set(table) - names:
            if not str(table._held[name][2].__module__).startswith("glom."):  # what an example registers goes with it
                table.forget(name)


@pytest.mark.parametrize("page", [page for page in PAGES if PYTHON.search(text_of(page))])
def test_what_a_page_shows_of_python_runs(page, studio):
    """The blocks of a page one after another; one that cannot run here says why in a comment before it."""
    shown = [code for excused, code in PYTHON.findall(text_of(page)) if not excused]
    for code in shown:
        exec(compile(code, page, "exec"), studio)
    if page == "README.md":
        assert tuple(studio["percept"].features.shape) == (64, 64, 128)  # type: ignore[attr-defined]
        assert studio["answer"].name and studio["islands"].layers  # type: ignore[attr-defined]


def test_the_front_page_is_one_screen_with_a_moving_picture():
    text = text_of("README.md")
    pictures = [Image.open(ROOT / name) for name in re.findall(r"!\[[^]]+\]\((\S+)\)", text)]
    assert [getattr(picture, "n_frames", 1) > 5 for picture in pictures] == [True]
    [[_, code]] = PYTHON.findall(text)
    lines = [node for node in ast.parse(code).body if not isinstance(node, ast.Import)]
    counts = [len(lines), *(len(re.findall(rf"^ {{4}}{word} ", text, re.M)) for word in ("make", "apm"))]
    assert counts == [5, 2, 5] and len(text.splitlines()) <= 60


@pytest.mark.parametrize("page", [page for page in PAGES if page.endswith(".md")])
def test_python_stands_in_fences_where_it_is_run(page):
    bare = re.sub(r"^```.*?^```", "", text_of(page), flags=re.S | re.M)
    assert re.findall(r"^ {4}(?:import|from) .*$", bare, re.M) == []


@pytest.mark.parametrize("page", TUTORIALS, ids=lambda page: page.stem)
def test_a_tutorial_runs(page, monkeypatch, tmp_path):
    import matplotlib

    matplotlib.use("agg")
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    exec(compile(page.read_text(encoding="utf-8"), str(page), "exec"), {"__name__": "tutorial", "display": str})


# -- links and names -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("page", PAGES)
def test_every_link_to_a_file_leads_somewhere(page):
    folder = (ROOT / page).parent
    for target in re.findall(r"\]\(([^)#\s]+)", PYTHON.sub("", text_of(page))):
        if not target.startswith("http"):
            assert (folder / target).exists(), f"{page}: {target}"


def test_every_page_is_in_the_sites_navigation():
    said = (ROOT / "mkdocs.yml").read_text(encoding="utf-8")
    for page in (ROOT / "docs").rglob("*.*"):
        place = page.relative_to(ROOT / "docs").with_suffix(".md").as_posix()
        if page.suffix in (".md", ".py") and not place.startswith("site/"):
            assert f" {place}\n" in said, place


@pytest.mark.parametrize("package", [glom, probes])
def test_the_reference_has_every_public_name(package):
    text = (ROOT / "docs" / "reference" / f"{package.__name__}.md").read_text(encoding="utf-8")
    assert sorted(re.findall(rf"^::: {package.__name__}\.(\w+)$", text, re.M)) == sorted(package.__all__)
