"""`apm bench glom`: one update that is the same for both, and ratios of what is timed in turn."""

from __future__ import annotations

import json
import sys

import pytest

from commands.bench import app
from tests.conftest import in_process

SMALL = [
    "--dim",
    "16",
    "--levels",
    "3",
    "--side",
    "2",
    "--batches",
    "1,2",
    "--updates",
    "2",
    "--rounds",
    "2",
    "--quiet",
]


@pytest.fixture
def call(capsys):
    """Run `apm bench ...` in this process: (exit code, standard output, standard error)."""
    return in_process(capsys, app, "bench")


@pytest.mark.parametrize("native", [True, False])
def test_both_are_timed_at_every_size_and_an_update_is_the_same(call, tmp_path, monkeypatch, native):
    monkeypatch.setattr("glom.devices.native_bf16", lambda device=None: native)
    pytest.importorskip("glom_pytorch", reason="the extra `bench` is not installed")
    code, text, _ = call("glom", *SMALL, "--json", "--out", tmp_path)
    found = json.loads(text)
    assert code == 0 and found["parity"] < 1e-5 and len(found["differences"]) == 5
    for what in ("forward", "forward_backward"):
        assert [(row["batch"], row["updates"]) for row in found[what]] == [(1, 2), (2, 2)]
        row = found[what][1]
        assert row["fp32"]["spread"]["n"] == 2 and row["fp32"]["times"] > 0
        timed = ("fp32", "bf16")[: 1 + native]
        assert set(row["seconds"]) == {f"{who} {precision}" for who in ("ours", "theirs") for precision in timed}
        assert (row["bf16"] is None) == (row["bf16_both"] is None) == (not native)
    assert json.loads((tmp_path / "glom.json").read_text())["settings"]["batches"] == [1, 2]
    code, text, said = call("glom", *SMALL)
    assert code == 0 and "both bf16" in text and "they differ otherwise" in said


def test_without_the_package_the_extra_is_named(call, monkeypatch):
    monkeypatch.setitem(sys.modules, "glom_pytorch", None)
    code, _, error = call("glom", *SMALL)
    assert code == 2 and "glom-apm[bench]" in error and error.count("\n") == 1
