"""Words in figures are shown letter by letter, whatever a file or a class is called."""

from __future__ import annotations

import ast
import warnings
from pathlib import Path

import numpy as np
import pytest

from probes.figures.base import WIDEST, new_figure, plain, plain_all, save, strip

ROOT = Path(__file__).parents[2]
AWKWARD = [
    "ba$$in_$x^.png", "a$b.png", r"$\alpha_{$.png", r"\$5 and $", "_hidden_", "50%_^{.png", "a\tb.png", "ni\udcf1o.png",
    "\u732b\U0001f408.png", "$", r"\frac{", "x" * 251 + ".png",
]  # fmt: skip


@pytest.mark.parametrize("name", AWKWARD)
def test_any_name_can_stand_anywhere_in_a_figure(name, tmp_path):
    figure, axes = new_figure(5, 3)
    axis = axes[0, 0]
    axis.plot([0, 1], label=plain(name))
    legend = axis.legend()
    axis.set_xticks([0, 1], plain_all([name, name]))
    for write in (axis.set_title, axis.set_xlabel, axis.set_ylabel, figure.suptitle):
        write(plain(name))
    axis.text(0, 0, plain(name))
    with warnings.catch_warnings():
        warnings.simplefilter("error", category=SyntaxWarning)
        for ending in ("png", "svg"):
            save(figure, tmp_path / f"x.{ending}")
    assert len(legend.get_texts()) == 1


@pytest.mark.parametrize("name", [n for n in AWKWARD if n.isprintable() and n.isascii() and len(n) < WIDEST])
def test_a_name_is_drawn_letter_by_letter(name):
    """What matplotlib makes of the text, its own unescaping included, is the name again."""
    _, axes = new_figure(2, 2)
    text = axes[0, 0].set_title(plain(name))
    shown, mathematics = text._preprocess_math(text.get_text())
    assert (shown.lstrip(" "), mathematics) == (name, False)


def test_long_lines_lose_their_middle():
    name = "begin" + "x" * 300 + "end.png"
    assert len(plain(name)) <= WIDEST + 1 and plain(name).startswith("begin") and plain(name).endswith("end.png")
    assert plain("a\nb") == "a\nb"


def test_a_strip_of_awkward_names(tmp_path):
    panels = [(name, np.zeros((2, 2, 3))) for name in AWKWARD]
    assert strip(panels, tmp_path / "x.png", title=AWKWARD[0]).is_file()


PLACES = {
    "set_title": 0, "suptitle": 0, "set_xlabel": 0, "set_ylabel": 0, "set_label": 0, "text": 2, "annotate": 0,
    "set_xticks": 1, "set_yticks": 1, "set_xticklabels": 0, "set_yticklabels": 0,
}  # fmt: skip
"""Where the methods of a figure take their words."""


def words(tree: ast.AST) -> list[ast.expr]:
    """Every text that is handed to a figure."""
    calls = [n for n in ast.walk(tree) if isinstance(n, ast.Call) and isinstance(n.func, ast.Attribute)]
    found = [c.args[PLACES[c.func.attr]] for c in calls if len(c.args) > PLACES.get(c.func.attr, 99)]
    return found + [k.value for c in calls for k in c.keywords if k.arg == "label"]


def known(word: ast.expr) -> bool:
    """Constants, numbers in a format, and what went through `plain`."""
    if isinstance(word, ast.IfExp):
        return known(word.body) and known(word.orelse)
    if isinstance(word, ast.JoinedStr):
        parts = [v for v in word.values if isinstance(v, ast.FormattedValue)]
        return all(v.format_spec is not None or isinstance(v.value, ast.BinOp) for v in parts)
    through = isinstance(word, ast.Call) and isinstance(word.func, ast.Name)
    return isinstance(word, ast.Constant) or (through and word.func.id in ("plain", "plain_all"))


def test_all_words_in_figures_go_through_one_place():
    raw = []
    for folder in ("probes", "experiments", "commands", "glom"):
        for path in (ROOT / folder).rglob("*.py"):
            source = path.read_text(encoding="utf-8")
            if "new_figure" in source or "matplotlib" in source:
                raw += [f"{path.name}:{w.lineno}: {ast.unparse(w)}" for w in words(ast.parse(source)) if not known(w)]
    assert not raw, "\n".join(raw)
