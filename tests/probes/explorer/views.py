"""A small view with everything in it, under names that would be scripts if they were not escaped."""

from __future__ import annotations

import base64
import re
from pathlib import Path
from typing import Any

import numpy as np

from probes.explorer import View, layered, picture_of, unpack
from probes.explorer.tables import answers_table, counted, lines_table
from probes.patched import Patched
from tests.conftest import make_image

EVIL = "</script><script>window.hacked=1</script>\"'><img src=x onerror=window.hacked=2>"
RIGHT_TO_LEFT = "\u05d7\u05ea\u05d5\u05dc \u0642\u0637\u0629 \u732b.jpg"
LABELS = np.array([0, 1, 0, 1], np.int16)
FIRST, SECOND = np.array([0, 1, 1, 1], np.int16), np.array([0, 0, 0, -1], np.int16)


def held(page: Path) -> dict[str, Any]:
    """What a page holds; it asks for nothing from elsewhere."""
    text = page.read_text(encoding="utf-8")
    assert "http://" not in text and "https://" not in text and len(text) < 10_000_000
    found = re.search(r'id="data">([^<]*)<', text)
    assert found is not None
    return unpack(base64.b64decode(found[1]))


def grids(count: int = 3, side: int = 8, width: int = 12, seed: int = 0) -> list[np.ndarray]:
    """Features of islands that are there: four blocks, each about a direction of its own."""
    rng = np.random.default_rng(seed)
    found = []
    for _ in range(count):
        blocks = np.kron(rng.normal(size=(2, 2, width)), np.ones((side // 2, side // 2, 1)))
        found.append((blocks + 0.3 * rng.normal(size=(side, side, width))).astype(np.float32))
    return found


def mask() -> np.ndarray:
    """Two objects on a ground, and a void corner."""
    made = np.zeros((40, 60), np.int64)
    made[4:20, 5:25], made[22:38, 30:55], made[:3, :3] = 1, 2, -1
    return made


def table() -> dict:
    """Two methods on a condition of four pictures; the second has no answer to the last."""
    names = ["a.png", EVIL, RIGHT_TO_LEFT, "d.png"]
    sets = [{"names": names, "classes": ["cat", EVIL], "images": np.full(4, -1, np.int16)}]
    conditions = {"clean": {"set": 0, "labels": LABELS, "answers": {"A": FIRST, "B": SECOND}}}
    rows = [counted(m, "clean", LABELS, a) for m, a in (("A", FIRST), ("B", SECOND))]
    return answers_table("bench", rows, sets, conditions)  # type: ignore[arg-type]


def view(pictures: int = 2) -> View:
    """Pictures seen by two networks, of which one has two axes; a trace, a way, two tables."""
    made: View = {"title": f"runs of {EVIL}", "facts": [["command", EVIL]], "notes": [EVIL]}
    made["pictures"] = []
    for number in range(pictures):
        changed = dict(zip((1, 2), grids(2, seed=50 + number), strict=True))
        patch = Patched(f"layer 1: {EVIL}", np.eye(8, dtype=bool), changed, [{"name": EVIL, "probability": 0.75}])
        axes, said = [("layer", ["0: a", "1: b", EVIL])], [{"name": RIGHT_TO_LEFT, "probability": 0.5}]
        one = layered("first", axes, grids(seed=number), None, [patch], said)  # type: ignore[arg-type]
        two = layered("second", [("level", ["1", "2"]), ("iteration", ["1", "2", "3"])], grids(6, seed=9 + number))
        name = (EVIL, RIGHT_TO_LEFT)[number % 2]
        made["pictures"].append(picture_of(name, make_image(number, (60, 40)), [one, two], [mask(), mask() > 0], [0]))
    steps = [
        {"iteration": i, "loss": None if not i else 1 / i, "cosine": i / 5, "class": i % 2, "probability": 0.5}
        for i in range(6)
    ]
    made["traces"] = [{"name": EVIL, "teacher_class": 1, "names": {"0": "cat", "1": EVIL}, "steps": steps}]
    frames = np.random.default_rng(0).integers(0, 256, (4, 8, 8, 3)).astype(np.uint8)
    way = {"images": [EVIL, "b.png"], "colours": frames, "features": frames, "from_first": [0, 0.3, 0.7, 1]}
    made["ways"] = [
        way | {"from_last": [1, 0.7, 0.3, 0], "classes": [EVIL] * 4, "probabilities": [0.5] * 4, "among": 10}
    ]
    lines = lines_table("lines", [{"id": f"{i}", "index": i, "status": "ok", "loss": i / 7} for i in range(250)])
    assert lines is not None
    made["tables"] = [table(), lines]
    return made
