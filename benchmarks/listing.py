"""What a long listing costs: seconds and bytes a picture to open a manifest, a folder and shards, to the first picture.

    python -m benchmarks.listing [PICTURES] [--folder DIR] [--record benchmarks/results/listing.json]

Each is opened in a process of its own, with a tenth of the pictures and with all of them; what a picture costs is the
difference over that of the pictures: time of the processor, bytes that are held once it is open, and what the process
had taken from the system on the way. One JSON object on standard output.
"""

from __future__ import annotations

import argparse
import csv
import io
import json
import os
import subprocess
import sys
import tarfile
import tempfile
from pathlib import Path

from PIL import Image

from glom.runs.artifacts import write_record

SHARD = 1000  # pictures in one
WANTED = 200  # bytes a picture at most
OPEN = """
import gc, json, sys, time, tracemalloc, psutil
from glom.datasets.registry import open_dataset
open_dataset(sys.argv[1]).samples[0].image()  # what is imported on the way counts for nothing
gc.collect()
before, begun, worked = psutil.Process().memory_info().rss, time.perf_counter(), time.process_time()
dataset = open_dataset(sys.argv[2])
dataset.samples[0].image()
seconds, worked = time.perf_counter() - begun, time.process_time() - worked
gc.collect()
found = {"pictures": len(dataset), "seconds": seconds, "worked": worked}
found["resident"] = psutil.Process().memory_info().rss - before
del dataset
tracemalloc.start()
dataset = open_dataset(sys.argv[2])
gc.collect()
print(json.dumps(found | {"held": tracemalloc.get_traced_memory()[0]}))
"""


def make(root: Path, count: int) -> dict[str, str]:
    """A manifest, a folder and shards of so many pictures; what opens each."""
    held = io.BytesIO()
    Image.new("RGB", (8, 8)).save(held, "PNG")
    names = [f"class{n % 10}/picture-{n:07d}.png" for n in range(count)]
    for n in range(10):
        (root / "pictures" / f"class{n}").mkdir(parents=True)
    first = root / "first.png"
    first.write_bytes(held.getvalue())
    for n, name in enumerate(names):
        if n % 10_000 == 0:  # a file has so many names at most
            first = root / f"first-{n}.png"
            first.write_bytes(held.getvalue())
        os.link(first, root / "pictures" / name)
    with (root / "pictures.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["path", "label"])
        writer.writerows([f"pictures/{name}", n % 10] for n, name in enumerate(names))
    (root / "shards").mkdir()
    for start in range(0, count, SHARD):
        with tarfile.open(root / "shards" / f"{start // SHARD:05d}.tar", "w") as tar:
            for n in range(start, min(start + SHARD, count)):
                for ending, data in (("png", held.getvalue()), ("cls", str(n % 10).encode())):
                    member = tarfile.TarInfo(f"s{n:07d}.{ending}")
                    member.size = len(data)
                    tar.addfile(member, io.BytesIO(data))
    places = {"manifest": root / "pictures.csv", "folder": root / "pictures", "shards": f"wds:{root / 'shards'}"}
    return {name: str(place) for name, place in places.items()}


def opened(small: str, spec: str) -> dict[str, float]:
    """What opening it took, in a process of its own."""
    done = subprocess.run([sys.executable, "-c", OPEN, small, spec], capture_output=True, text=True, check=True)
    found: dict[str, float] = json.loads(done.stdout)
    return found


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("pictures", type=int, nargs="?", default=100_000)
    parser.add_argument("--folder", help="where they are made, and taken away again", metavar="DIR")
    parser.add_argument("--record", type=Path, metavar="FILE")
    asked = parser.parse_args()
    count = asked.pictures
    with tempfile.TemporaryDirectory(dir=asked.folder) as place:
        few, many = (make(Path(place) / str(n), n) for n in (count // 10, count))
        rows = {}
        for name, spec in many.items():
            part, whole = opened(few[name], few[name]), opened(few[name], spec)
            more = whole["pictures"] - part["pictures"]
            rows[name] = {
                "pictures": whole["pictures"],
                "seconds": round(whole["seconds"], 2),
                "processor_seconds": round(whole["worked"], 2),
                "microseconds_a_picture": round(1e6 * (whole["worked"] - part["worked"]) / more, 1),
                "bytes_a_picture": round((whole["held"] - part["held"]) / more, 1),
                "resident_bytes_a_picture": round((whole["resident"] - part["resident"]) / more, 1),
            }
    print(json.dumps(rows, indent=2))
    if asked.record:
        write_record(asked.record, {"pictures": count, "most_bytes": WANTED, "rows": rows})


if __name__ == "__main__":
    main()
