"""One, two and three processes find the same, of two pictures too: whatever several processes share out."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.commands.test_cli import ROOT
from tests.experiments.islands.test_islands_choosing import train_and_val
from tests.experiments.islands.test_islands_cli import SMALL

# One interpreter that has everything loaded; each rank is a process forked from it.
JOBS = """
import json, os, socket, sys
from pathlib import Path
from importlib import import_module
import torch
from benchmarks.forked import fork, program

torch.set_num_threads(1)
for name in sys.argv[3:]:
    import_module(name)
place, commands = Path(sys.argv[1]), json.loads(sys.argv[2])
program(commands["teachers"][:-3] + ["--quiet"])()  # which loads the rest
for name, arguments in commands.items():
    for world in (1, 2, 3) if name == "ttt" else (1, 3):
        out = place / name / str(world)
        out.mkdir(parents=True)
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = str(free.getsockname()[1])
        forks = []
        for rank in range(world):
            own = {"RANK": str(rank), "WORLD_SIZE": str(world), "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port,
                   "GLOO_SOCKET_IFNAME": "lo"} if world > 1 else {}
            words = [word.replace("OUT", str(out)) for word in arguments]
            forks.append(fork(program(words), out / f"log-{rank}", own))
        found = [one.wait(60.0) for one in forks]
        if any(f is None or f[0] for f in found):
            said = [(out / f"log-{rank}").read_text() for rank in range(world)]
            sys.exit(f"{name}, {world} ranks: {found}: {said}")
"""
LOADED = ("cli", "torch.distributed", "experiments.comparison.run", "experiments.islands.score", "glom.teachers.tiny")
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


def test_any_number_of_ranks_finds_the_same(two: Path, tmp_path: Path) -> None:
    from glom.runs.artifacts import read_results

    place = {"DATA": str(two), "BSDS": str(train_and_val(tmp_path))}
    commands = {name: [place.get(word, word) for word in (*words, "--quiet")] for name, words in COMMANDS.items()}
    done = subprocess.run(
        [sys.executable, "-c", JOBS, str(tmp_path / "jobs"), json.dumps(commands), *LOADED],
        cwd=ROOT, capture_output=True, text=True, timeout=200,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    for name in commands:
        of = [tmp_path / "jobs" / name / str(world) for world in ((1, 2, 3) if name == "ttt" else (1, 3))]
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
