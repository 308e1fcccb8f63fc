"""Exported machines say what the machine says, for any number of pictures and locations."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from glom.apm import blank_apm, preset
from glom.checkpoints import save_apm
from glom.errors import InputError
from glom.export import export


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    apm = blank_apm(preset("apm-tiny", readout="attention", local_patch=2, features=16, heads=2, rgb=(8,)))
    apm.reset(torch.Generator().manual_seed(0), "default")
    save_apm(tmp_path / "machine", apm, {})
    return tmp_path / "machine"


@pytest.mark.parametrize("kind", ["onnx", "pt2"])
def test_a_file_equals_the_machine_at_1_49_and_5000_locations(folder, call, tmp_path, kind):
    if kind == "onnx":
        pytest.importorskip("onnxruntime", reason="the extra `export` is not installed")
        pytest.importorskip("onnxscript", reason="the extra `export` is not installed")
    out = tmp_path / f"machine.{kind}"
    code, text, error = call("export", folder, "--format", kind, "--out", out, "--json")
    assert code == 0, error
    found = json.loads(text)
    assert found["file"] == str(out) and found["max_difference"] < 1e-5
    assert "exporting" in error and "5/5" in error
    size = out.stat().st_size
    code, _, error = call("export", folder, "--format", kind, "--out", out)
    assert code == 2 and "is there already" in error and out.stat().st_size == size


def test_what_cannot_be_exported_is_one_line(call, folder, tmp_path, monkeypatch):
    for words, said in (
        ((folder, "--format", "tflite"), "unknown format 'tflite'"),
        ((tmp_path / "gone",), "no such file or folder"),
        ((folder, "--out", tmp_path / "no" / "x.onnx"), "is no folder"),
    ):
        code, _, error = call("export", *words)
        assert code == 2 and said in error and error.count("\n") == 1
    monkeypatch.setattr("glom.export.find_spec", lambda name: None)
    with pytest.raises(
        InputError, match=r"onnx needs onnx and onnxscript and onnxruntime: pip install 'glom-apm\[export\]'"
    ):
        export(blank_apm(preset("apm-tiny")), tmp_path / "x.onnx", "onnx")
