"""One, two and three processes find the same, of two pictures too: whatever several processes share out."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.experiments.islands.test_islands_choosing import train_and_val
from tests.experiments.islands.test_islands_cli import SMALL
from tests.helpers_ranks import ForkedRanks

FEW = ("--candidates", "kmeans:2", "--finalists", "1", "--layers", "last", "--grid", "8")
COMMANDS = {
    "ttt": ("ttt", "run", "DATA", "--iterations", "1", "--queries", "4", "--stack", "1", "--out", "OUT/run"),
    "benchmark": ("benchmark", "--methods", "zero-shot,tda,apm", "--data", "DATA", "--out", "OUT/run"),
    "teachers": ("teachers", "score", "glom-tiny", "DATA", "--record", "OUT/record.json"),
    "islands": ("islands", "score", "BSDS", "--choose-on", "BSDS", *FEW, *SMALL, "--jobs", "1", "--out", "OUT/run"),
}


@pytest.fixture
def two(image_folder: Path) -> Path:
    """A picture a class."""
    for path in image_folder.glob("*/[12].png"):
        path.unlink()
    return image_folder


def test_any_number_of_ranks_finds_the_same(ranks: ForkedRanks, two: Path, tmp_path: Path) -> None:
    from glom.runs.artifacts import read_results

    place = {"DATA": str(two), "BSDS": str(train_and_val(tmp_path))}
    commands = {name: [place.get(word, word) for word in (*words, "--quiet")] for name, words in COMMANDS.items()}
    for name, words in commands.items():
        of = [tmp_path / "jobs" / name / str(world) for world in ((1, 2, 3) if name == "ttt" else (1, 3))]
        for out in of:
            done = ranks(int(out.name), *(word.replace("OUT", str(out)) for word in words))
            assert done.returncode == 0, (name, out.name, done.stderr)
        if name == "teachers":
            rows = [json.loads((place / "record.json").read_text())["rows"] for place in of]
            assert rows[0] == rows[1] and rows[0][0]["n"] == 2
            continue
        runs = sorted(path.parent.relative_to(of[0]) for path in of[0].rglob("manifest.json"))
        assert runs
        for run in runs:
            found = [read_results(place / run) for place in of]
            assert all(one == found[0] for one in found) and len(found[0]) >= 2, (name, run)
        assert all((place / "run" / "result.json").is_file() for place in of)
