"""`apm bench reading`: every loop over the same pictures, and an adaptation of each beside them where it can be."""

from __future__ import annotations

import json

from tests.conftest import make_image

FEW = ("--limit", "4", "--rounds", "2", "--workers", "0", "--batch", "3", "--json", "--quiet")


def pictures(root, names):
    for number, name in enumerate(names):
        (root / name).mkdir(parents=True)
        for n in range(2):
            make_image(10 * number + n, (48, 40)).save(root / name / f"{n}.jpg")
    return root


def test_loops_and_an_adaptation_stand_side_by_side(call, tmp_path, monkeypatch):
    monkeypatch.setenv("APM_DATA", str(pictures(tmp_path / "data" / "own", ("tench", "goldfish")).parent))
    code, text, error = call("bench", "reading", "own", *FEW, "--out", tmp_path / "out")
    assert code == 0, error
    found = json.loads(text)
    speeds = {name: found["spread"][name] for name in ("model_alone", "plain_loop", "ours", "exact")}
    assert all(speed["n"] == 2 and speed["median"] == found[name] > 0 for name, speed in speeds.items())
    assert found["exact_over_ours"] > 0 and found["spread"]["exact_over_ours"]["n"] == 2 and found["pictures"] == 4
    assert [p.name for p in (tmp_path / "out").iterdir()] == ["reading.json"]


def test_pictures_that_the_teacher_cannot_name_are_read_all_the_same(call, tmp_path):
    code, text, error = call("bench", "reading", pictures(tmp_path / "own", ("zorb", "quux")), *FEW)
    assert code == 0, error
    found = json.loads(text)
    assert found["exact"] is None and found["exact_over_ours"] is None and found["ours"] > 0
