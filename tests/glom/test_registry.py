"""What is registered by name is kept in one kind of table, which answers everywhere alike."""

from __future__ import annotations

import ast
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from glom.adaptation import objectives as adaptation
from glom.backbones.registry import BACKBONES, register_backbone
from glom.consensus import objectives as consensus
from glom.datasets.registry import DATASETS, register_dataset
from glom.errors import InputError
from glom.methods import METHODS
from glom.registry import Registry
from glom.teachers.registry import TEACHERS, register_teacher

GLOM = Path(__file__).parents[2] / "glom"
TABLES: dict[str, tuple[Registry[Any], Callable[[str], Any], str]] = {
    "teachers": (TEACHERS, lambda name: register_teacher(name, "mine"), "timm"),
    "backbones": (BACKBONES, lambda name: register_backbone(name, "mine"), "torchvision"),
    "data": (DATASETS, lambda name: register_dataset(name, "mine", "1", "MIT", "here"), "cifar10-sample"),
    "methods": (METHODS, lambda name: METHODS.register(name, "mine"), "zero-shot"),
    "objectives of an APM": (adaptation.OBJECTIVES, lambda name: adaptation.objective(name, ("token",)), "token-mse"),
    "objectives of Glom": (consensus.OBJECTIVES, consensus.objective, "denoise"),
}


def mine(*_: Any) -> int:
    """One of my own."""
    return 1


@pytest.mark.parametrize("name", TABLES)
def test_a_table_keeps_a_name_and_gives_it_back(name):
    table, register, first = TABLES[name]
    try:
        assert register("mine")(mine) is mine
        assert "mine" in table and list(table)[-1] == "mine" and table.known()["mine"]
        kept = table["mine"]
        assert mine is kept or mine is getattr(kept, "loss", None) or (isinstance(kept, tuple) and mine in kept)
        with pytest.raises(InputError, match=f"the {table.kind} 'mine' is registered already"):
            register("mine")(mine)
    finally:
        table.forget("mine")
    assert "mine" not in table
    with pytest.raises(InputError, match=f"unknown {table.kind} '{first[:-1]}'; did you mean {first}"):
        table[first[:-1]]
    for wrong, why in ((first, "registered already"), ("No name", "cannot name"), ("", "cannot name")):
        with pytest.raises(InputError, match=why):
            register(wrong)(mine)


def test_a_cell_that_is_run_again_takes_the_place_of_what_it_defined():
    table: Registry[Callable[[], int]] = Registry("thing")
    for number in (1, 2):
        exec(f"@register('mine')\ndef made():\n    'what it is'\n    return {number}", {"register": table.register})
    assert table["mine"]() == 2 and dict(table.known()) == {"mine": "what it is"} and len(table) == 1


def test_no_other_table_is_filled_by_a_decorator():
    """A dictionary that begins empty, in a module, and is public: what is registered belongs in a `Registry`."""
    tables = [
        f"{path.relative_to(GLOM)}: {ast.unparse(node.target)}"
        for path in sorted(GLOM.rglob("*.py"))
        for node in ast.parse(path.read_text(encoding="utf-8")).body
        if isinstance(node, ast.AnnAssign) and isinstance(node.value, ast.Dict) and not node.value.keys
        if not ast.unparse(node.target).startswith("_")
    ]
    assert tables == []
