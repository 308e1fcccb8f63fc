"""`benchmarks/rubbish.sh`: real files, mutated by a seed, are taken for what they hold or refused in one line."""

from __future__ import annotations

import argparse
import csv
import io
import json
import random
import re
import resource
import shutil
import signal
import sys
import tempfile
import tomllib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.forked import Asked, Kept, fork, load, program
from glom.errors import GlomError

CPU, WALL = 5, 900  # seconds of the processor, and of a machine that may be busy
MEMORY = 2 * 2**30
TAKEN, REFUSED, CHANGED, TRACEBACK = 0, 2, 3, 70
WRONG = ("changed", "traceback", "hang", "memory")
NUMBERS = ["-1", "0", "1e999", "nan", "inf", "-0", "1e-9", "99999999999999999999", "0x10", "1_0", "1.5", "", "١"]
RUN = ["ttt", "run", "cifar10-sample", "--limit", "4", "--iterations", "2", "--quiet"]


class Changed(Exception):
    """A number was taken for another than the file holds."""


@dataclass(frozen=True)
class Kind:
    """Files of one kind: what is mutated, and what reads it.

    Attributes:
        files: real ones. call: reads one and checks what it got; may raise.
        around: whether a file is mutated within a copy of its folder, which `call` is given.
    """

    files: list[Path]
    call: Callable[[Path], None]
    around: bool = False


def mutate(data: bytes, draw: random.Random, other: bytes) -> bytes:
    """One to three of what happens to files: bits, cuts, copies, foreign parts, and numbers of text."""
    for _ in range(draw.choice((1, 1, 1, 2, 3))):
        size = len(data)
        at, length = draw.randrange(size + 1), draw.choice((1, 1, 2, 4, 16, 256))
        # The head of a file is where its sizes are.
        at = draw.randrange(min(size, 64) + 1) if draw.random() < 0.3 else at
        how = draw.randrange(9)
        numbers = [m.span() for m in re.finditer(rb"-?\d+(\.\d+)?", data[:20_000])]
        if how >= 6 and numbers and b"\0" not in data[:200]:
            begin, end = draw.choice(numbers)
            digit = str(draw.randrange(10)).encode()
            data = data[:begin] + draw.choice([draw.choice(NUMBERS).encode(), data[begin:end] + digit]) + data[end:]
        elif how == 0 and at < size:
            data = data[:at] + bytes([data[at] ^ (1 << draw.randrange(8))]) + data[at + 1 :]
        elif how == 1:
            data = data[:at]
        elif how == 2:
            data = data[:at] + data[at + length :]
        elif how == 3:
            data = data[:at] + data[at : at + length] * draw.choice((2, 3, 50)) + data[at + length :]
        elif how == 4:
            begin = draw.randrange(len(other) + 1)
            data = data[:at] + other[begin : begin + length] + data[at + length :]
        else:
            data = data[:at] + draw.choice((b"\0", b"\xff", b"\n", b"\r", b'"', b"\xef\xbb\xbf")) * length + data[at:]
    return data


# -- what reads each kind, and holds what it got against the file ----------------------------------------------------


def picture(path: Path) -> None:
    from glom.datasets.reading import read_image

    image = read_image(path)
    if image.mode != "RGB" or min(image.size) < 1:
        raise Changed(f"{image.mode} {image.size}")


def mask(path: Path) -> None:
    from glom.datasets.label_maps import read_mask

    read_mask(path)


def manifest(folder: Path) -> None:
    from glom.datasets.registry import open_dataset

    path = next(folder.glob("*.csv"))
    dataset = open_dataset(str(path))
    text = path.read_bytes().decode("utf-8-sig", "replace")
    rows = list(csv.reader(text.splitlines()))
    held: dict[str, set[str]] = {}
    for row in rows:
        if len(row) == 2:
            held.setdefault(Path(row[0].strip()).name, set()).add(row[1].strip())
    for sample in dataset.samples:
        labels, names = held.get(Path(sample.id).name, set()), dataset.keys or dataset.classes or ()
        said = names[sample.label] if sample.label is not None and sample.label < len(names) else ""
        if not labels or sample.label is None or said in labels:
            continue
        if sample.label not in map(float, labels):
            raise Changed(f"{sample.id}: the file says {labels}, taken for {sample.label}")


def class_list(path: Path) -> None:
    from glom.datasets.class_files import read_class_names

    text = path.read_bytes().decode("utf-8-sig", "replace")
    for name in read_class_names(path):
        if name not in text and not set(name.split()) <= set(re.split(r"[\s_,\"]+", text)):
            raise Changed(f"no class {name!r} in the file")


def weights(path: Path) -> None:
    import torch
    from safetensors.torch import load_file

    from glom.checkpoints import load_apm

    apm, _ = load_apm(path)
    held = load_file(path)
    for name, tensor in apm.state_dict().items():
        if name in held and not torch.equal(tensor, held[name].to(tensor.dtype)):
            raise Changed(name)
        if not bool(torch.isfinite(tensor).all()):
            raise Changed(f"{name} is not finite")


def state_dict(path: Path) -> None:
    from glom.weights import load_state_dict

    load_state_dict(path)


def glom_folder(folder: Path) -> None:
    from glom.consensus.checkpoint import load_columns

    load_columns(folder)


def settings(path: Path) -> None:
    from experiments.adaptation.settings import TTTRun
    from glom.settings import keys_of, read_files

    values = read_files(TTTRun, [path])
    TTTRun.of(**values)
    held = tomllib.loads(path.read_text(encoding="utf-8"))
    for key in keys_of(TTTRun):
        value = values.get(key.name)
        if isinstance(value, int | float) and float(value) != float(held[key.name]):
            raise Changed(f"{key.name}: the file says {held[key.name]}, taken for {value}")


def sweep(path: Path) -> None:
    from commands.sweep import command_of
    from experiments.sweep.plan import plan, read_sweep
    from experiments.sweep.settings import SweepSettings

    content = read_sweep(path)
    plan(SweepSettings(file=str(path)), content, command_of(content["command"]))


def said(arguments: list[str]) -> None:
    """The program itself, in this process: what it prints shows whether it was meant."""
    out, err = sys.stdout, sys.stderr
    sys.stdout, sys.stderr = io.StringIO(), io.StringIO()
    try:
        code = program(arguments)()
        text, error = sys.stdout.getvalue(), sys.stderr.getvalue()
    finally:
        sys.stdout, sys.stderr = out, err
    if "--debug shows where" in error or "Traceback" in error:
        raise RuntimeError(error)
    if code:
        raise GlomError(error.strip().splitlines()[-1] if error.strip() else f"exit code {code} without a word")
    json.loads(text)


def run_folder(folder: Path) -> None:
    said(["ttt", "report", str(folder), "--json"])
    said([*RUN, "--json", "--out", str(folder), "--resume"])


def report_only(folder: Path) -> None:
    said(["sweep", "report", str(folder), "--json"])


def written(place: Path) -> None:
    """Pictures, a mask, a manifest and lists of classes, as tools write them."""
    from PIL import Image

    from glom.datasets.registry import open_dataset

    pictures = place / "pictures"
    pictures.mkdir()
    samples = open_dataset("cifar10-sample").samples[:6]
    for n, sample in enumerate(samples):
        image = sample.image().resize((48, 40))
        image.save(pictures / f"{n}{('.png', '.jpg', '.webp', '.bmp', '.gif', '.tiff')[n]}")
    image.convert("L").quantize(4).save(pictures / "palette.png")
    masks = place / "mask.png"
    Image.new("L", (32, 32), 3).save(masks)
    listed = place / "manifest"
    listed.mkdir()
    for n in range(4):
        shutil.copy(pictures / "0.png", listed / f"{n}.png")
    (listed / "list.csv").write_text("path,label\n" + "".join(f"{n}.png,{(3 * n) % 10}\n" for n in range(4)))
    names = place / "classes.txt"
    names.write_text("\n".join(open_dataset("cifar10-sample").classes or ()) + "\n")
    indexed = place / "indexed.txt"
    indexed.write_text("".join(f"{n} {name}\n" for n, name in enumerate(names.read_text().split())))


def kinds(place: Path) -> dict[str, Kind]:
    """Real files of every kind, made by the program or shipped with it."""
    import torch

    from experiments.sweep.job import end
    from glom.runs.artifacts import write_json

    written(place)
    for name, arguments in {
        "run": RUN,
        "glom": ["glom", "train", "--source", "fashion-mnist-sample", "--steps", "2", "--levels", "3", "--dim", "16",
                 "--hidden", "24", "--size", "16", "--batch", "4", "--iterations", "4", "--quiet"],
        "grid": ["grid", "train", "cifar10-sample", "--limit", "20", "--trunk", "24,16", "--channels", "1", "--batch",
                 "16", "--epochs", "1", "--held-out", "4", "--quiet"],
    }.items():  # fmt: skip
        child = fork(program([*arguments, "--out", str(place / name)]), place / f"{name}.log")
        found = child.wait(600)
        if found is None or found[0]:
            raise SystemExit(f"{name}: {child.log.read_text()[-300:]}")
    plain = place / "state.pth"
    torch.save({"state_dict": {"a.weight": torch.ones(4, 3), "a.bias": torch.zeros(4)}}, plain)
    swept = place / "swept"
    shutil.copytree(place / "run", swept / "runs" / "a")
    write_json(swept / "plan.json", {"command": "ttt run", "runs": [{"name": "a", "settings": {"lr": 1.0}, "seed": 0}]})
    end(swept, "a", "done", "", 1.0)
    files = sorted(p for p in (place / "run").iterdir() if p.suffix in (".json", ".jsonl", ".toml"))
    glom_files = sorted(p for p in (place / "glom").iterdir() if p.suffix in (".json", ".safetensors"))
    sweeps = place / "sweep.toml"
    head = 'command = "ttt run"\nseeds = [0, 1]\n[settings]\ndata = "cifar10-sample"\nlimit = 2\n[grid]\n'
    sweeps.write_text(
        f"{head}lr = [0.001, 0.002]\n[random]\nruns = 2\niterations = {{ low = 1, high = 9, log = true }}\n"
    )
    return {
        "picture": Kind(sorted((place / "pictures").iterdir()), picture),
        "mask": Kind([place / "mask.png"], mask),
        "manifest": Kind([place / "manifest" / "list.csv"], manifest, around=True),
        "classes": Kind([place / "classes.txt", place / "indexed.txt"], class_list),
        "weights": Kind([place / "grid" / "apm.safetensors"], weights),
        "pickle": Kind([plain], state_dict),
        "glom": Kind(glom_files, glom_folder, around=True),
        "run": Kind(files, run_folder, around=True),
        "swept": Kind([swept / "plan.json", swept / "states" / "a.json"], report_only, around=True),
        "settings": Kind([place / "run" / "settings.toml"], settings),
        "sweep": Kind([sweeps], sweep),
    }


def judged(call: Callable[[Path], None], path: Path) -> int:
    """A reading of one file as an exit code; what is wrong is printed."""
    try:
        call(path)
    except Changed as error:
        print(f"taken for another: {error}")
        return CHANGED
    except GlomError as error:
        if "\n" in str(error) or not str(error).strip():
            print(f"not one line: {error!r}")
            return TRACEBACK
        return REFUSED
    return TAKEN


def reader(there: dict[str, Kind]) -> Callable[[str], int]:
    """What answers KIND:PATH, in a process that may take `MEMORY` more than it has at its first."""
    limited = False

    def answer(request: str) -> int:
        nonlocal limited
        if not limited:
            space = 4096 * int(Path("/proc/self/statm").read_text().split()[0])
            resource.setrlimit(resource.RLIMIT_AS, (space + MEMORY, space + MEMORY))
            limited = True
        name, _, path = request.partition(":")
        return judged(there[name].call, Path(path))

    return answer


def verdict(found: tuple[int, float, int] | None) -> str:
    """taken, refused, or what is wrong."""
    if found is None or found[0] in (-signal.SIGPROF, -signal.SIGKILL):
        return "hang"
    code, _, kib = found
    if kib * 1024 > MEMORY:
        return "memory"
    return {TAKEN: "taken", REFUSED: "refused", CHANGED: "changed"}.get(code, "traceback")


def place_of(kind: Kind, file: Path, data: bytes, work: Path) -> Path:
    """Where the mutated file lies, alone or within a copy of its folder."""
    if not kind.around:
        work.mkdir()
        (work / file.name).write_bytes(data)
        return work / file.name
    top = file.parent.parent if file.parent.name == "states" else file.parent
    shutil.copytree(top, work)
    (work / file.relative_to(top)).write_bytes(data)
    return work


def main() -> int:
    """Mutate, read, judge; a row a kind, and each find with the seed that makes it again."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("cases", type=int, help="mutated files in all")
    parser.add_argument("--seed", type=int, default=0, help="of the first case; the others count on from it")
    parser.add_argument("--only", help="one kind alone")
    parser.add_argument("--record", type=Path, help="cases are kept beside it until it is complete, and gone on with")
    asked = parser.parse_args()
    load()
    kept = Kept(asked.record)
    with tempfile.TemporaryDirectory(prefix="rubbish-") as place:
        there = kinds(Path(place))
        names = [name for name in there if asked.only in (None, name)]
        readers = Asked(reader(there), Path(place) / "log", CPU)
        for number in range(asked.seed + len(kept.rows), asked.seed + asked.cases):
            draw = random.Random(number)
            name = names[number % len(names)]
            kind = there[name]
            file, other = draw.choice(kind.files), draw.choice(kind.files)
            data = mutate(file.read_bytes(), draw, other.read_bytes())
            work = Path(place) / f"work-{number}"  # a name of its own: nothing that is remembered by name serves for it
            answer = readers.ask(f"{name}:{place_of(kind, file, data, work)}", WALL)
            found = verdict(answer)
            if found == "memory":
                readers.close()  # the most it ever had is what it is known by
            kept.append({"kind": name, "found": found, "processor_seconds": round(answer[1], 3) if answer else CPU})
            shutil.rmtree(work)
            if found in WRONG:
                print(f"{number} {name} {file.name}: {found}: {readers.log.read_text().strip()[-600:]}", flush=True)
        readers.close()
    total = counted(kept.rows)
    print(json.dumps(total))
    rows = [{"kind": name, **counted([row for row in kept.rows if row["kind"] == name])} for name in names]
    kept.record({"seed": asked.seed, **total, "rows": rows})
    return int(sum(total[what] for what in WRONG) > 0)


def counted(rows: list[dict[str, Any]]) -> dict[str, int]:
    """How many, and how many of each verdict."""
    verdicts = [row["found"] for row in rows]
    return {"cases": len(rows)} | {what: verdicts.count(what) for what in ("taken", "refused", *WRONG)}


if __name__ == "__main__":
    sys.exit(main())
