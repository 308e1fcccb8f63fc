"""Pictures a second of a network, with freed memory given back to the system and kept: `glom.keep_freed_memory`.

    python benchmarks/allocator.py --out benchmarks/results/allocator.json

Each measurement is a fresh process, the two in turn, round after round.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import statistics
import subprocess
import sys
import time
from pathlib import Path

HERE = Path(__file__).resolve()
sys.path.insert(0, str(HERE.parent.parent))

from glom.allocator import KEPT, keep_freed_memory  # noqa: E402
from glom.runs.artifacts import write_json  # noqa: E402
from glom.runs.environment import machine  # noqa: E402


def measure(teacher: str, batch: int, pictures: int, keep: bool) -> dict[str, float]:
    """Tokens of noise: pictures a second, share of the time spent in the system, peak memory in MiB."""
    if keep and not keep_freed_memory():
        raise SystemExit("freed memory cannot be kept here: no glibc, or the environment chooses")
    import torch

    from glom.teachers.registry import load_teacher

    model = load_teacher(teacher, "cpu")
    x = torch.rand(batch, 3, model.image_size, model.image_size, generator=torch.Generator().manual_seed(0))
    model.token(x)
    before, start = os.times(), time.perf_counter()
    for _ in range(max(1, pictures // batch)):
        model.token(x)
    took, after = time.perf_counter() - start, os.times()
    spent = after.user + after.system - before.user - before.system
    return {
        "pictures_a_second": max(1, pictures // batch) * batch / took,
        "system_share": (after.system - before.system) / spent,
        "peak_mib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--teacher", default="efficientnet-lite0")
    parser.add_argument("--batches", default="1,8,64")
    parser.add_argument("--pictures", type=int, default=128)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--out", type=Path)
    parser.add_argument("--one", help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.one:
        print(json.dumps(measure(asked.teacher, int(asked.batches), asked.pictures, asked.one == "kept")))
        return
    clean = {k: v for k, v in os.environ.items() if k not in {"GLIBC_TUNABLES", *(name for _, name, _ in KEPT)}}
    rows = []
    for batch in map(int, asked.batches.split(",")):
        found: dict[str, list[dict[str, float]]] = {"given_back": [], "kept": []}
        for _ in range(asked.rounds):
            for how, runs in found.items():
                call = [sys.executable, str(HERE), "--one", how, "--teacher", asked.teacher, "--batches", str(batch)]
                call += ["--pictures", str(asked.pictures)]
                runs.append(json.loads(subprocess.run(call, env=clean, check=True, stdout=subprocess.PIPE).stdout))
        pairs = zip(found["kept"], found["given_back"], strict=True)
        ratios = [k["pictures_a_second"] / g["pictures_a_second"] for k, g in pairs]
        row = {"batch": batch, "kept_over_given_back": statistics.median(ratios), "ratios": ratios} | {
            how: {name: statistics.median(run[name] for run in runs) for name in runs[0]} for how, runs in found.items()
        }
        rows.append(row)
        print(json.dumps(row), flush=True)
    if asked.out:
        settings = {"teacher": asked.teacher, "pictures": asked.pictures, "rounds": asked.rounds}
        write_json(asked.out, {"bench": "allocator", "machine": machine(), "settings": settings, "rows": rows})


if __name__ == "__main__":
    main()
