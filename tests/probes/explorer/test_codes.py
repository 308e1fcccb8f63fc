"""Features kept for a page: cosines stay, the error told is the error there is, and what is packed comes back."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from glom.errors import InputError
from probes.agreement import unit
from probes.explorer import WORST, encode, layered, load, merged, pack, picture_of, store, unpack, worst_error
from probes.explorer.codes import decode
from tests.conftest import make_image
from tests.probes.explorer.views import grids, view


def cosines(x: np.ndarray) -> np.ndarray:
    flat = unit(x).reshape(-1, x.shape[-1])
    return flat @ flat.T


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 999), st.integers(1, 9), st.integers(1, 9), st.integers(1, 70))
def test_the_worst_cosine_is_off_by_what_is_told_and_by_no_more_than_allowed(seed, h, w, width):
    grid = np.random.default_rng(seed).normal(size=(h, w, width)).astype(np.float32)
    codes = encode(grid)
    found = decode(codes)
    worst = np.abs(found @ found.T - cosines(grid)).max()
    assert worst == pytest.approx(codes["error"], abs=1e-5) and codes["error"] <= WORST
    assert codes["codes"].shape == (len(codes["mean"]), h * w) and codes["codes"].dtype == np.int8


def test_few_coordinates_where_few_are_enough_and_nothing_where_nothing_is():
    few = np.random.default_rng(0).normal(size=(16, 16, 3)) @ np.random.default_rng(1).normal(size=(3, 400))
    assert len(encode(few.astype(np.float32))["mean"]) == 3
    for grid in (np.zeros((4, 4, 8)), np.ones((4, 4, 8)), np.pad(np.ones((4, 3, 8)), ((0, 0), (0, 1), (0, 0)))):
        codes = encode(grid.astype(np.float32))
        found = decode(codes)
        assert codes["error"] < 1e-3 and np.abs(found @ found.T - cosines(grid.astype(np.float32))).max() < 1e-3


def test_the_worst_pair_is_found_among_all_pairs():
    x = unit(np.random.default_rng(0).normal(size=(1300, 6)).astype(np.float32))
    y = x.copy()
    y[1299] = -x[1299]
    assert worst_error(x, y) == pytest.approx(2 * np.abs(x[:1299] @ x[1299]).max(), abs=1e-5)


def test_grids_are_averaged_down_rather_than_cosines_spoilt(monkeypatch):
    monkeypatch.setattr("probes.explorer.shape.FEATURES", 2000)
    source = layered("n", [("layer", ["0", "1"])], grids(2, 40, 30))
    assert {s["h"] for s in source["stages"]} == {14} and all(s["error"] <= WORST for s in source["stages"])


def test_a_view_comes_back_as_it_was_and_a_cut_one_is_refused(tmp_path):
    whole = view()
    back = unpack(pack(whole))
    np.testing.assert_equal(back["pictures"], whole["pictures"])
    assert back["title"] == whole["title"] and back["traces"] == whole["traces"]
    assert unpack(pack({"a": np.float32(0.5), "b": float("nan"), "c": "\udcf1"})) == {
        "a": 0.5,
        "b": None,
        "c": "\udcf1",
    }
    with pytest.raises(TypeError, match="float64"):
        pack({"a": np.zeros(2)})
    assert load(tmp_path) is None
    store(whole, tmp_path)
    data = (tmp_path / "view.bin").read_bytes()
    for cut in (data[: len(data) // 2], b"", b"nothing of it"):
        (tmp_path / "view.bin").write_bytes(cut)
        with pytest.raises(InputError, match=r"view.bin: it is cut or damaged"):
            load(tmp_path)


def test_runs_of_the_same_picture_are_seen_side_by_side():
    one, two = view(1), {**view(1), "title": "other"}
    whole = merged([one, two], "both")
    [picture] = whole["pictures"]
    assert [s["name"] for s in picture["sources"]] == ["first", "second", "first, other", "second, other"]
    assert len(picture["masks"]) == 2 and [t["name"] for t in whole["tables"]][2:] == ["other: bench", "other: lines"]


def test_pictures_of_one_name_are_one_where_they_look_alike():
    grid, image = grids(1), make_image(0, (60, 40))
    seen = [layered("net", [("layer", ["0"])], grid)]
    small, another = image.resize((30, 20)), make_image(1, (60, 40))
    views = [
        {"title": title, "facts": [], "notes": [], "pictures": [picture_of(name, shown, seen)]}
        for title, name, shown in (
            ("a", "1.png", image),
            ("b", "1.png", small),
            ("c", "x", image),
            ("d", "1.png", another),
        )
    ]
    found = {p["name"]: [s["name"] for s in p["sources"]] for p in merged(views, "all")["pictures"]}
    assert found == {"1.png": ["net", "net, b", "net, c"], "1.png, d": ["net"]}
    assert len(views[0]["pictures"][0]["sources"]) == 1  # what was given stays as it was
