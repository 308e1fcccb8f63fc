"""A run's settings file repeats it: the same results and weights, byte for byte, and the same manifest."""

from __future__ import annotations

import json
import shlex
from pathlib import Path

import pytest
from safetensors.torch import load_file

from cli import app
from commands.ending import guard
from tests.conftest import make_image
from tests.experiments.forward_forward.test_ff_cli import colour_folder
from tests.experiments.islands.test_islands_cli import bsds

RUNS = [
    "grid decode a.png b.png --overfit --iterations 3 --size 6x8 --fit crop",
    "grid overfit a.png --target grid+patch -t glom-tiny --apm apm-tiny --iterations 3 --points 4 --grid 8",
    "grid overfit bsds --targets token,grid -t glom-tiny --apm apm-tiny --iterations 2 --points 4 --grid 8 --limit 1",
    "grid interpolate a.png b.png --steps 3 --size 6 --path spherical",
    "glom train --steps 2 --batch 2 --size 16 --levels 2 --dim 16 --iterations 2 --radius 1,global --no-self",
    "ff train digits --widths 8,8 --epochs 1 --baseline --baseline-epochs 1 --mode recurrent --iterations 3",
    "grid train cifar10-sample --epochs 1 --batch 16 --limit 32 --held-out 10 --trunk 16,8 --queries 0 --no-cache",
    "grid shortcut cifar10-sample -b glom-tiny --students linear --epochs 1 --limit 8 --held-out 6 --no-cache",
    "grid upsample a.png -t glom-tiny --scale 2,3 --views 1 --iterations 3",
]


def results(folder: Path) -> dict[str, object]:
    """What two equal runs share, by file; of weights their bytes, since the order of a header's entries is free."""
    found: dict[str, object] = {p.name: p.read_bytes() for p in folder.iterdir() if p.suffix in (".jsonl", ".toml")}
    found.pop("timing.jsonl", None)
    for path in folder.glob("*.safetensors"):
        found[path.name] = {name: value.numpy().tobytes() for name, value in load_file(path).items()}
    return found


@pytest.mark.parametrize("words", RUNS)
def test_a_settings_file_repeats_its_run(words, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    for number, name in enumerate(("a.png", "b.png")):
        make_image(number, (40, 40)).save(name)
    bsds(tmp_path, 2)
    colour_folder(Path("digits"))
    command = shlex.split(words)
    assert guard(app, [*command, "-o", "one", "--quiet", "--json"]) == 0, capsys.readouterr().err
    again = [*command[:2], "--config", "one/settings.toml", "-o", "two", "--quiet", "--json"]
    assert guard(app, again) == 0, capsys.readouterr().err
    one, two = (json.loads(Path(folder, "manifest.json").read_text())["settings"] for folder in ("one", "two"))
    assert one == two
    assert results(Path("one")) == results(Path("two")) and "settings.toml" in results(Path("one"))
