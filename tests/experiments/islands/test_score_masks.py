"""Masks of every kind through `apm islands score` and `show`: what can be measured is; the rest is skipped, said and
counted.
"""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from commands.islands import app
from tests.conftest import in_process
from tests.glom.datasets.test_outlines import LABELS, coded, indexed, panoptic, put, voc
from tests.helpers_images import photo
from tests.probes.explorer.views import held

SMALL = ["--backbone", "glom-tiny", "--size", "32", "--layers", "last", "--grid", "8", "--partition", "kmeans:3"]
GOOD = {
    "boolean": Image.fromarray(LABELS > 0),
    "coded": coded(LABELS * 70_000),
    "grey": Image.fromarray(LABELS.astype(np.uint8)),
    "indexed": indexed(np.where(LABELS == 2, 255, LABELS)),
    "one": Image.fromarray(np.full((40, 48), 7, np.uint8)),
    "wide": Image.fromarray((LABELS * 30_000).astype(np.uint16)),
}


@pytest.fixture
def call(capsys, monkeypatch, tmp_path):
    """Run `apm islands ...` in this process: (exit code, standard output, standard error)."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return in_process(capsys, app, "islands")


def folder(root: Path) -> Path:
    """Masks of all kinds, four of which cannot be measured."""
    for name, mask in GOOD.items():
        put(photo(), root / "images" / f"{name}.jpg")
        put(mask, root / "masks" / f"{name}.png")
    for name in ("alone", "large", "void", "broken"):
        put(photo(), root / "images" / f"{name}.jpg")
    put(Image.new("L", (96, 80)), root / "masks" / "large.png")
    put(indexed(np.full((40, 48), 255)), root / "masks" / "void.png")
    (root / "masks" / "broken.png").write_bytes(b"\x89PNG\r\n")
    return root


def test_masks_of_every_kind(call, tmp_path):
    data, out = folder(tmp_path / "data"), tmp_path / "run"
    code, text, said = call("score", data, "--out", out, "--json", *SMALL)
    result = json.loads(text)
    assert code == 0 and (result["n"], result["skipped"]) == (len(GOOD), 4)
    assert result["mask_size"] == [[48, 40], [48, 40]]
    for part in (
        "no alone.png beside it",
        "large.jpg: its outlines are 96x80 pixels, the picture 48x40",
        "void: the mask is void everywhere",
        "broken.png",
    ):
        assert part in said
    rows = {r["id"]: r for line in (out / "results.jsonl").read_text().splitlines() if (r := json.loads(line))}
    scores = {name: rows[name]["layers"][0] for name in GOOD}
    assert scores["grey"] == scores["wide"] == scores["coded"]  # the same regions, however they are written
    assert scores["boolean"]["mbo"] == scores["boolean"]["miou"] and scores["boolean"]["mbo"] > 0
    assert scores["one"]["panoptic_ari"] == 0 and scores["one"]["mbo"] == scores["one"]["covering"]
    assert scores["indexed"] != scores["grey"]
    assert all(s["mbo_class"] is None for s in scores.values())


def many(root: Path) -> Path:
    put(photo(256, 256), root / "images" / "many.jpg")
    regions = (np.arange(256 * 256) % 65_535).reshape(256, 256).astype(np.uint16)
    put(Image.fromarray(regions), root / "masks" / "many.png")
    return root


def test_shown_pictures_are_scored_where_their_masks_can_be(call, tmp_path):
    data, out = many(folder(tmp_path / "data")), tmp_path / "run"
    small = ["--backbone", "glom-tiny", "--size", "32", "--layers", "last", "--reduce", "pca"]
    cut = ["--partition", "kmeans:1000"]  # of 64 locations
    scored = ("grey", "wide", "coded", "indexed", "many")
    pictures = [data / "images" / f"{name}.jpg" for name in (*scored, "large", "void", "broken")]
    code, text, said = call("show", *pictures, "--out", out, "--json", *small, *cut)
    rows = {Path(p["image"]).stem: p["islands"][0] for p in json.loads(text)["pictures"]}
    assert code == 0 and all(row["islands"] <= 64 for row in rows.values())
    assert {name for name, row in rows.items() if row["covering"] is not None} == {*scored}
    assert rows["grey"]["mbo"] == rows["wide"]["mbo"] == rows["coded"]["mbo"]
    for part in ("large.jpg: its outlines are 96x80 pixels", "void.png: the mask is void everywhere", "broken.png"):
        assert part in said and said.count("; not scored") == 3
    for name, labels in (("wide", [0, 30_000, 60_000]), ("indexed", [-1, 0, 1]), ("void", [-1])):
        [mask] = held(out / f"{name}.html")["pictures"][0]["masks"]
        assert np.unique(mask).tolist() == labels


def test_as_many_regions_as_16_bits_name(call, tmp_path):
    data = many(tmp_path / "d")
    code, text, _ = call("score", data, "--out", tmp_path / "run", "--json", *SMALL)
    layer = json.loads(text)["layers"][0]
    assert code == 0 and 0 < layer["miou"] < layer["mbo"] < 1e-3


def test_nothing_but_void_is_no_run(call, tmp_path):
    put(photo(), tmp_path / "d" / "p.jpg")
    put(Image.new("L", (48, 40)), tmp_path / "d" / "p.png")
    code, _, said = call("score", f"panoptic:{tmp_path / 'd'}", "--out", tmp_path / "run", *SMALL)
    assert code == 2 and "none of the 1 pictures" in said
    code, text, _ = call("score", tmp_path / "d", "--out", tmp_path / "other", "--json", *SMALL)
    layer = json.loads(text)["layers"][0]  # the same mask where 0 is the background: there are no objects
    assert code == 0 and layer["mbo"] is None and layer["fg_ari"] is None and layer["covering"] is not None


@pytest.mark.parametrize("name", ["coco", "voc"])
def test_named_sets_have_classes(call, tmp_path, name):
    data = {"coco": panoptic, "voc": voc}[name](tmp_path / name)
    code, text, _ = call("score", f"{name}:{data}", "--out", tmp_path / "run", "--json", *SMALL)
    result = json.loads(text)
    assert code == 0 and (result["n"], result["skipped"]) == (2, 0)
    layer = result["layers"][0]
    assert layer["mbo_class"] == pytest.approx(layer["mbo"])  # here every object is of a class of its own
    assert layer["fg_ari"] is not None and "mbo_class" in result["held_out"]["minus_pixels"]
    code, text, _ = call("compare", tmp_path / "run", tmp_path / "run", "--by", "mbo_class", "--json")
    assert code == 0 and json.loads(text)["runs"][1]["minus_first"]["mbo_class"] == [0, 0, 0]


def test_a_measure_that_these_masks_do_not_give_chooses_no_layer(call, tmp_path):
    put(photo(), tmp_path / "d" / "p.jpg")
    put(photo(seed=1), tmp_path / "d" / "q.jpg")
    for name in "pq":
        put(Image.fromarray(LABELS.astype(np.uint8)), tmp_path / "d" / f"{name}.png")
    assert call("score", tmp_path / "d", "--out", tmp_path / "run", "--quiet", *SMALL)[0] == 0
    code, _, said = call("compare", tmp_path / "run", tmp_path / "run", "--by", "mbo_class")
    assert code == 2 and "--by mbo_class: these runs do not have it" in said
