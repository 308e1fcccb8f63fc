"""`benchmarks/kills.sh`: killed at whatever moment, a run goes on to the very bytes of one that nobody stopped."""

from __future__ import annotations

import argparse
import json
import random
import shutil
import socket
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch

from benchmarks.forked import Fork, Kept, fork, load, program

SMALL = ["--levels", "3", "--dim", "16", "--hidden", "24", "--size", "16", "--batch", "4", "--iterations", "4"]
GRID = ["--trunk", "24,16", "--channels", "1", "--held-out", "10", "--batch", "16", "--epochs", "3", "--views", "2"]
GRID += ["--queries", "9"]
SWEEP = """command = "ttt run"
seeds = [0, 1]
[settings]
data = "cifar10-sample"
limit = 2
iterations = 1
[grid]
lr = [0.001, 0.002]
"""
COMMANDS: dict[str, list[str]] = {
    "ttt": ["ttt", "run", "cifar10-sample", "--limit", "12", "--iterations", "2", "--stack", "2"],
    "benchmark": ["benchmark", "--methods", "zero-shot,tent", "--data", "cifar10-sample", "--limit", "6"],
    "grid": ["grid", "train", "cifar10-sample", "--limit", "40", *GRID],
    "ff": ["ff", "train", "--data", "{pictures}", "--widths", "30,20", "--batch", "10", "--epochs", "3"],
    "glom": ["glom", "train", "--source", "fashion-mnist-sample", "--steps", "12", *SMALL],
    "sweep": ["sweep", "run", "{sweep}", "--executor", "debug"],
}
RANKS = {"ttt": (1, 2), "benchmark": (1, 2), "grid": (1, 2), "glom": (1,), "ff": (1,), "sweep": (1,)}
LONGEST = 3600  # seconds of a run that nobody stops, on however busy a machine


def pictures(folder: Path) -> None:
    """Two classes of shipped pictures in train and test: what a forward-forward network is trained on."""
    from glom.datasets.registry import open_dataset

    for n, sample in enumerate(open_dataset("cifar10-sample").samples[:40]):
        place = folder / ("train" if n < 30 else "test") / "ab"[n % 2]
        place.mkdir(parents=True, exist_ok=True)
        sample.image().resize((8, 8)).save(place / f"{n}.png")


def start(name: str, ranks: int, out: Path, log: Path, resume: bool) -> list[Fork]:
    """A run's processes."""
    sweep = log.parent / "sweep.toml"
    sweep.write_text(SWEEP)
    arguments = [word.format(sweep=sweep, pictures=log.parent / "pictures") for word in COMMANDS[name]]
    arguments += ["--out", str(out), "--quiet", *(["--resume"] if resume else [])]
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    forks = []
    for rank in range(ranks):
        world = {"RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": str(ranks), "MASTER_ADDR": "127.0.0.1",
                 "MASTER_PORT": port, "GLOO_SOCKET_IFNAME": "lo"}  # fmt: skip
        forks.append(fork(program(arguments), log.with_suffix(f".{rank}"), world if ranks > 1 else {}))
    return forks


def finish(forks: list[Fork]) -> None:
    """Wait until a run has ended. Raises `RuntimeError` with what it said where it failed."""
    for one in forks:
        found = one.wait(LONGEST)
        if found is None or found[0]:
            for other in forks:
                other.kill()
            raise RuntimeError(f"exit code {found and found[0]}: {one.log.read_text()[-400:]}")


def content(out: Path) -> dict[str, Any]:
    """What a run folder holds, by file: lines in one order, JSON by its paths, other files as they are."""
    held: dict[str, Any] = {}
    for path in sorted(p for p in out.rglob("*") if p.is_file()):
        place = path.relative_to(out)
        if path.name.startswith((".", "manifest", "timing", "settings")) or place.parts[0] in ("jobs", "logs", "asked"):
            continue
        if path.suffix == ".jsonl":
            lines = held.setdefault(f"{place.parent}/results", [])
            lines += path.read_text().splitlines()
            lines.sort()
        elif path.suffix == ".json":
            held |= {f"{place}: {where}": value for where, value in flat(json.loads(path.read_text())) if told(where)}
        elif path.suffix == ".pt":  # a state may hold seconds beside its tensors
            state = torch.load(path, map_location="cpu", weights_only=True)
            held |= {f"{place}: {where}": value for where, value in flat(state) if told(where)}
        elif path.suffix != ".png":  # a drawing of the rest
            held[str(place)] = path.read_bytes()
    return held


def told(where: str) -> bool:
    """Whether a place holds what was found, not how long it took: two runs may take as long by chance."""
    return "seconds" not in where


def flat(value: Any, where: str = "") -> Iterator[tuple[str, Any]]:
    """Leaves of a JSON value by their paths."""
    parts = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else None
    if parts is None:
        yield where, value.numpy().tobytes() if isinstance(value, torch.Tensor) else value
    else:
        for name, part in parts:
            yield from flat(part, f"{where}/{name}")


def differs(one: dict[str, Any], other: dict[str, Any], clock: set[str]) -> list[str]:
    """Places where two runs hold different things, those that only a clock decides left out."""
    return [key for key in sorted({*one, *other} - clock) if one.get(key) != other.get(key)]


def reference(name: str, ranks: int, folder: Path) -> tuple[dict[str, Any], set[str], float]:
    """What the run holds that nobody stops, what of it a clock decides (two of them differ there), and its seconds."""
    held, seconds = [], 0.0
    for number in range(2):
        begun = time.monotonic()
        finish(start(name, ranks, folder / f"whole-{number}", folder / f"whole-{number}.log", resume=False))
        seconds = time.monotonic() - begun
        held.append(content(folder / f"whole-{number}"))
    clock = set(differs(*held, clock=set()))
    lines = [key for key in clock if ": " not in key]
    if lines:
        raise RuntimeError(f"{name}: two runs that nobody stopped differ in {', '.join(lines)}")
    return held[0], clock, seconds


def trial(name: str, ranks: int, folder: Path, whole: Any, most: int, draw: random.Random) -> dict[str, Any]:
    """One run, killed up to `most` times, each at a moment drawn from the whole run's length, then left alone."""
    expected, clock, seconds = whole
    out, kills, resume = folder / "cut", 0, False
    shutil.rmtree(out, ignore_errors=True)
    while kills < most:
        forks = start(name, ranks, out, folder / "cut.log", resume)
        time.sleep(draw.uniform(0, 1.1 * seconds))
        alive = [one for one in forks if one.ended() is None]
        for one in draw.sample(alive, len(alive)):
            one.kill()
        kills, resume = kills + bool(alive), True
        if not alive:
            break
    try:
        finish(start(name, ranks, out, folder / "cut.log", resume))
        wrong = differs(expected, content(out), clock)
    except RuntimeError as error:
        wrong = [str(error)]
    lines = [value for key, value in content(out).items() if key.endswith("/results")]
    return {"kills": kills, "wrong": wrong, "doubled": sum(len(value) - len(set(value)) for value in lines)}


def main() -> int:
    """Kill, resume, compare; a row a command and number of ranks."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("kills", type=int, help="SIGKILLs in all")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", choices=sorted(COMMANDS), help="one command alone")
    parser.add_argument("--record", type=Path, help="runs are kept beside it until it is complete, and gone on with")
    asked = parser.parse_args()
    load()
    cases = [(name, ranks) for name in COMMANDS for ranks in RANKS[name] if asked.only in (None, name)]
    found = Kept(asked.record)
    with tempfile.TemporaryDirectory(prefix="kills-") as place:
        wholes: dict[tuple[str, int], Any] = {}
        while (done := sum(row["kills"] for row in found.rows)) < asked.kills:
            number, begun = len(found.rows), time.monotonic()
            name, ranks = case = cases[number % len(cases)]
            draw, folder = random.Random(f"{asked.seed} {number}"), Path(place) / f"{name}-{ranks}"
            if not folder.is_dir():
                pictures(folder / "pictures")
            if case not in wholes:
                wholes[case] = reference(*case, folder)
            row = trial(*case, folder, wholes[case], min(draw.choice((1, 1, 2, 3)), asked.kills - done), draw)
            seconds = round(time.monotonic() - begun, 1)
            found.append({"command": name, "ranks": ranks, **row, "seconds": seconds})
            print(f"{done + row['kills']:5} of {asked.kills}  {name}, {ranks} ranks, {seconds} s  "
                  f"{'; '.join(row['wrong']) or 'the same'}", flush=True)  # fmt: skip
    rows = [summed([row for row in found.rows if (row["command"], row["ranks"]) == case]) for case in cases]
    total = summed(found.rows)
    print(json.dumps(total))
    by_case = [{"command": name, "ranks": ranks, **row} for (name, ranks), row in zip(cases, rows, strict=True)]
    found.record({"seed": asked.seed, **total, "rows": by_case})
    return int(total["different"] + total["doubled"] > 0)


def summed(rows: list[dict[str, Any]]) -> dict[str, int]:
    """Kills, runs, those that came out different, lines that came twice."""
    found = {"kills": sum(row["kills"] for row in rows), "runs": len(rows)}
    return found | {"different": sum(bool(row["wrong"]) for row in rows), "doubled": sum(r["doubled"] for r in rows)}


if __name__ == "__main__":
    sys.exit(main())
