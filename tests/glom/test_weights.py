"""Reading weights: what fits is read, everything else is one clear line."""

import argparse
import pickle
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from glom.errors import InputError
from glom.runs.notices import listening
from glom.weights import check_state, load_into, load_state_dict, state_sha256


def _model() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(4, 3), nn.BatchNorm1d(3))


def _refused(path: Path, match: str) -> None:
    with pytest.raises(InputError, match=match) as caught:
        load_state_dict(path)
    assert "\n" not in str(caught.value)
    assert str(path) in str(caught.value)


def test_safetensors_and_tensor_only_pickles_are_read(tmp_path):
    state = _model().state_dict()
    save_file(state, tmp_path / "a.safetensors")
    torch.save(state, tmp_path / "a.pt")
    torch.save({"epoch": 3, "state_dict": {f"module.{k}": v for k, v in state.items()}}, tmp_path / "a.pth")
    for name in ("a.safetensors", "a.pt", "a.pth"):
        read = load_state_dict(tmp_path / name)
        assert read.keys() == state.keys()
        assert all(torch.equal(read[k], state[k]) for k in state)


def test_half_precision_weights_load_into_a_float32_model(tmp_path):
    model, other = _model(), _model()
    nn.init.ones_(other[0].weight)
    save_file(
        {k: v.half() if v.is_floating_point() else v for k, v in model.state_dict().items()}, tmp_path / "h.safetensors"
    )
    load_into(other, tmp_path / "h.safetensors")
    assert other[0].weight.dtype == torch.float32
    torch.testing.assert_close(other[0].weight, model[0].weight, atol=1e-3, rtol=1e-3)


def _under(prefix, state):
    return {prefix + name: value for name, value in state.items()}


WRAPPED = {
    **{p: lambda s, p=p: _under(p, s) for p in ("module.", "_orig_mod.", "module._orig_mod.", "model.", "net.module.")},
    **{p: lambda s, p=p: _under(p, s) for p in ("backbone.", "teacher.backbone.", "student.", "some.name.of.ours.")},
    "epoch beside": lambda s: {"state_dict": _under("module.", s), "epoch": 3, "optimizer": {"lr": {"a": 1}}},
    "lightning": lambda s: {"state_dict": _under("model.", s), "hyper_parameters": {"lr": 0.1}, "epoch": 2},
    "settings beside": lambda s: {"model": s, "args": argparse.Namespace(lr=0.1), "best": np.float64(0.5)},
    "numpy beside": lambda s: {"model": s, "curve": np.arange(3), "best": np.float32(1)},
    "parameters": lambda s: {k: nn.Parameter(v) if v.is_floating_point() else v for k, v in s.items()},
    "twice": lambda s: {"model": {"state_dict": _under("backbone.", s)}},
    **{key: lambda s, key=key: {key: s} for key in ("net", "params", "model_state_dict", "teacher", "student", "ema")},
}


TORCH = [(how, suffix) for how in WRAPPED for suffix in (".pth", ".ckpt", ".pth.tar", ".bin")]


@pytest.mark.parametrize(("how", "suffix"), [*TORCH, *((how, ".safetensors") for how in WRAPPED if how[-1] == ".")])
def test_what_training_scripts_wrap_around_weights_comes_off(tmp_path, how, suffix):
    model, other = _model(), nn.Sequential(nn.Linear(4, 3), nn.BatchNorm1d(3))
    found, path = WRAPPED[how](model.state_dict()), tmp_path / f"w{suffix}"
    if suffix == ".safetensors":
        save_file({k: v.detach() for k, v in found.items()}, path)
    else:
        torch.save(found, path)
    load_into(other, path)
    assert all(torch.equal(value, model.state_dict()[name]) for name, value in other.state_dict().items())


def test_averaged_weights_are_taken_and_what_is_left_out_is_said(tmp_path):
    state = _model().state_dict()
    averaged = {name: value + 1 for name, value in state.items()}
    heads = {"head.mlp.weight": torch.zeros(2), "head.last.weight": torch.zeros(2)}
    for label, found, words in (
        (
            "dino",
            {"student": _under("module.backbone.", state), "teacher": {**_under("backbone.", averaged), **heads}},
            ["teacher, student", "2 other tensors are left out (head.mlp.weight"],
        ),
        ("timm", {"state_dict": state, "state_dict_ema": averaged}, ["state_dict_ema, state_dict"]),
        ("flat", {**_under("student.", state), **_under("teacher.", averaged)}, ["begin with 'teacher.'"]),
    ):
        torch.save(found, tmp_path / f"{label}.pth")
        said: list[str] = []
        with listening(said.append):
            read = load_state_dict(tmp_path / f"{label}.pth", state.keys())
        assert all(torch.equal(read[name], averaged[name]) for name in state), label
        assert all(any(word in line for line in said) for word in words), (label, said)


def test_weights_of_another_network_keep_their_names(tmp_path):
    # A part that happens to be called alike is no reason to read it alone.
    state = {"a.0.weight": torch.zeros(3, 4), "b.weight": torch.zeros(2)}
    save_file(state, tmp_path / "w.safetensors")
    assert load_state_dict(tmp_path / "w.safetensors", _model().state_dict().keys()).keys() == state.keys()


class _Code:
    def __reduce__(self):
        return (print, ("this must never be printed",))


@pytest.mark.parametrize("save", [torch.save, lambda obj, path: path.write_bytes(pickle.dumps(obj))])
def test_a_pickle_with_code_is_refused_unrun(tmp_path, capfd, save):
    path = tmp_path / "evil.pt"
    save({"a": torch.zeros(1), "b": _Code()}, path)
    _refused(path, "holds code")
    assert "never be printed" not in capfd.readouterr().out


def test_a_torchscript_archive_is_refused(tmp_path):
    path = tmp_path / "script.pt"
    torch.jit.trace(nn.Linear(2, 2), torch.zeros(1, 2)).save(str(path))
    _refused(path, "TorchScript")


def test_damaged_files(tmp_path):
    save_file(_model().state_dict(), tmp_path / "a.safetensors")
    torch.save(_model().state_dict(), tmp_path / "a.pt")
    for name, match in (("a.safetensors", "truncated"), ("a.pt", "truncated")):
        whole = (tmp_path / name).read_bytes()
        for size in (0, 5, len(whole) // 2):
            (tmp_path / name).write_bytes(whole[:size])
            _refused(tmp_path / name, match)
    (tmp_path / "text.pth").write_text("not weights at all")
    _refused(tmp_path / "text.pth", "not a weights file")


def test_what_is_no_weights_file(tmp_path):
    _refused(tmp_path / "gone.safetensors", "no such weights file")
    _refused(tmp_path, "folder")
    (tmp_path / "a.onnx").write_bytes(b"x")
    _refused(tmp_path / "a.onnx", "no weights format")
    torch.save([1, 2], tmp_path / "list.pt")
    _refused(tmp_path / "list.pt", "holds no weights")
    torch.save({"lr": 0.1}, tmp_path / "dict.pt")
    _refused(tmp_path / "dict.pt", "'lr' is a float")


def test_states_that_do_not_fit_are_named_with_shapes():
    model = _model()
    state = dict(model.state_dict())
    del state["0.bias"]
    state["extra"] = torch.zeros(2, 2)
    state["0.weight"] = torch.zeros(3, 5)
    with pytest.raises(InputError) as caught:
        check_state(model, state, "f.safetensors")
    text = str(caught.value)
    assert "\n" not in text
    for part in (
        "f.safetensors",
        "1 missing: 0.bias (3)",
        "extra (2, 2)",
        "0.weight (3, 5) where the model has (3, 4)",
    ):
        assert part in text


@pytest.mark.parametrize(("value", "word"), [(float("nan"), "NaN"), (float("inf"), "Inf")])
def test_weights_that_are_not_finite_are_refused(value, word):
    model = _model()
    state = {k: v.clone() for k, v in model.state_dict().items()}
    state["0.weight"][1, 2] = value
    with pytest.raises(InputError, match=rf"{word} in '0\.weight' \(3, 4\)"):
        check_state(model, state, "f.safetensors")


def test_an_infinite_constant_of_the_model_itself_is_no_fault():
    model = _model()
    model.register_buffer("mask", torch.full((2, 2), float("-inf")).triu(1))
    check_state(model, model.state_dict(), "f.safetensors")


def test_hashes():
    state = _model().state_dict()
    same = {k: state[k].clone() for k in reversed(list(state))}
    assert state_sha256(state, "x") == state_sha256(same, "x") != state_sha256(state, "y")
    same["0.bias"][0] += 1e-6
    assert state_sha256(state, "x") != state_sha256(same, "x")
    assert len(state_sha256({"a": torch.zeros(2, dtype=torch.bfloat16), "b": torch.tensor(1.0)})) == 64


def test_a_pickle_damaged_so_that_its_reader_stumbles_is_refused(tmp_path):
    """Found by mutating: an operation that takes something from an empty stack."""
    path = tmp_path / "state.pth"
    with zipfile.ZipFile(path, "w") as file:
        for name, data in (("data.pkl", b"\x80\x02R."), ("version", b"3\n"), ("byteorder", b"little")):
            file.writestr(f"archive/{name}", data)
    _refused(path, r"is not a weights file, or is truncated \(pop from empty list\)")
