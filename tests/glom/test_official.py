"""Checkpoints of the official release give the release's outputs; its formulas are written down here once more."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F

import glom
from glom.columns import grid_queries
from glom.machine import bgr_minmax
from glom.official import read_official
from tests.conftest import make_image

D, SIDE, PATCH, FEATURES = 64, 8, 4, 32


def code(width: int, side: int) -> torch.Tensor:
    """(side, side, width): the sinusoidal code on an integer grid, the column's number first, then the row's."""
    half = width // 2
    rate = torch.exp(torch.arange(0, half, 2, dtype=torch.float64) * (-math.log(10000.0) / half))
    out = torch.zeros(side, side, width, dtype=torch.float64)
    for y in range(side):
        for x in range(side):
            out[y, x, 0:half:2], out[y, x, 1:half:2] = torch.sin(x * rate), torch.cos(x * rate)
            out[y, x, half::2], out[y, x, half + 1 :: 2] = torch.sin(y * rate), torch.cos(y * rate)
    return out.float()


def weights(layers: tuple[int, ...], numbers: tuple[int, ...], attention: bool) -> dict[str, torch.Tensor]:
    """Random weights under the release's names."""
    torch.manual_seed(3)
    modules: dict[str, nn.Module] = {"conv1": nn.Conv2d(3, 1, PATCH, PATCH)}
    widths = (2 * D, *layers)
    for number, i, o in zip(numbers, widths, widths[1:]):
        modules[f"fc{number}"] = nn.Linear(i, o)
    modules["feat_proj_head"] = nn.Linear(layers[-1], FEATURES)
    modules |= {"rgb_head_1": nn.Linear(FEATURES + 2 * D, 16), "rgb_head_2": nn.Linear(16, 16)}
    modules["rgb_head_3"] = nn.Linear(16, 3)
    state = {f"{n}.{k}": v for n, m in modules.items() for k, v in m.state_dict().items()}
    if attention:
        own = nn.MultiheadAttention(FEATURES, 8, batch_first=True)
        state |= {f"little_self_attention.{k}": torch.randn_like(v) * 0.1 for k, v in own.state_dict().items()}
        state |= {"little_query": torch.randn(FEATURES), "norm.weight": torch.ones(D), "norm.bias": torch.zeros(D)}
    return {k: v.clone() for k, v in state.items()}


def released(w: dict[str, torch.Tensor], numbers: tuple[int, ...], images: torch.Tensor):
    """The release's forward: features (B, n, F), colours (B, n, 3), token (B, F) or None."""
    b = len(images)
    T = F.conv2d(images, w["conv1.weight"], w["conv1.bias"], stride=PATCH).flatten(1)
    z = torch.cat([T[:, None].expand(-1, SIDE * SIDE, -1), code(D, SIDE).reshape(1, -1, D).expand(b, -1, -1)], -1)
    h = z
    for n in numbers:
        h = F.relu(F.linear(h, w[f"fc{n}.weight"], w[f"fc{n}.bias"]))
    f = F.linear(h, w["feat_proj_head.weight"], w["feat_proj_head.bias"])
    c = torch.cat([f, z], -1)
    for n in (1, 2, 3):
        c = F.relu(F.linear(c, w[f"rgb_head_{n}.weight"], w[f"rgb_head_{n}.bias"]))
    if "little_query" not in w:
        return f, c, None
    keys = f + code(FEATURES, SIDE).reshape(1, -1, FEATURES)
    token, _ = F.multi_head_attention_forward(
        w["little_query"].expand(1, b, -1), keys.transpose(0, 1), keys.transpose(0, 1), FEATURES, 8,
        w["little_self_attention.in_proj_weight"], w["little_self_attention.in_proj_bias"], None, None, False, 0.0,
        w["little_self_attention.out_proj.weight"], w["little_self_attention.out_proj.bias"],
    )  # fmt: skip
    return f, c, token[0]


FORMATS = {
    "test-time": ((48, 40, 24), (1, 4, 5), True),
    "pre-training": ((48, 40, 36, 40, 24), (1, 2, 3, 4, 5), False),
}


@pytest.fixture(params=FORMATS)
def checkpoint(request, tmp_path):
    layers, numbers, attention = FORMATS[request.param]
    state = weights(layers, numbers, attention)
    path = tmp_path / "model_15.pth"
    torch.save(state, path)
    return request.param, path, state, numbers


def test_the_official_outputs_to_rounding(checkpoint):
    kind, path, state, numbers = checkpoint
    machine = glom.load(f"official:{path}")
    images = torch.rand(2, 3, SIDE * PATCH, SIDE * PATCH)
    f, c, token = released(state, numbers, images)
    with torch.no_grad():
        ours = machine(images, grid_queries(SIDE, SIDE), outputs=("features", "rgb", "token"))
    assert (ours.features - f).abs().max() < 1e-5
    assert (ours.rgb - c).abs().max() < 1e-5 and float(ours.rgb.min()) == 0.0
    assert token is None or (ours.token - token).abs().max() < 1e-5
    assert machine.meta["official"] == kind
    assert machine.meta["dropped"] == (["norm.weight", "norm.bias"] if token is not None else [])


@pytest.mark.parametrize("wrap", ["module.", "backbone.", "state_dict", "safetensors"])
def test_wrappers_come_off(checkpoint, tmp_path, wrap):
    _, path, state, _ = checkpoint
    other = tmp_path / ("other.safetensors" if wrap == "safetensors" else "other.pth")
    if wrap == "safetensors":
        from safetensors.torch import save_file

        save_file(state, other)
    elif wrap == "state_dict":
        torch.save({"state_dict": state, "epoch": 3}, other)
    else:
        beside = {"clip_teacher.weight": torch.zeros(2)} if wrap == "backbone." else {}
        torch.save({**{wrap + k: v for k, v in state.items()}, **beside}, other)
    a, b = read_official(path)[0].state_dict(), read_official(other)[0].state_dict()
    assert all(torch.equal(a[k], b[k]) for k in a)


def test_pictures_are_shown_as_each_network_saw_them(checkpoint):
    kind, path, state, numbers = checkpoint
    machine = glom.load(f"official:{path}")
    image = make_image(2, (20, 28))
    percept = machine.percept(image)
    from glom.columns import picture

    shown = (bgr_minmax if kind == "pre-training" else picture)(image, SIDE * PATCH)
    f, c, _ = released(state, numbers, shown[None])
    assert (percept.features.reshape(-1, FEATURES) - f[0]).abs().max() < 1e-5
    if kind == "pre-training":
        assert (percept.rgb.reshape(-1, 3) - c[0].flip(-1).clamp(0, 1)).abs().max() < 1e-5


def test_bgr_minmax_spans_zero_to_one_in_blue_green_red():
    image = make_image(4)
    shown = bgr_minmax(image, 32)
    pixels = np.asarray(image).astype(np.float32)
    wanted = (pixels[..., ::-1] - pixels.min()) / (pixels.max() - pixels.min())
    assert np.allclose(shown.permute(1, 2, 0).numpy(), wanted, atol=1e-6)
    flat = bgr_minmax(make_image(0).point(lambda _: 7), 16)
    assert torch.isfinite(flat).all()


def test_saved_anew_it_stays_what_it_was(checkpoint, tmp_path):
    _, path, _, _ = checkpoint
    machine = glom.load(f"official:{path}")
    machine.save_pretrained(tmp_path / "mine")
    again = glom.load(tmp_path / "mine")
    image = make_image(9)
    assert torch.equal(machine.percept(image).features, again.percept(image).features)
    assert again.meta == machine.meta


def broken(state, how):
    if how == "lacks":
        return {k: v for k, v in state.items() if not k.startswith("conv1")}
    if how == "width":
        return {**state, "rgb_head_2.weight": torch.zeros(16, 17)}
    if how == "column":
        return {**state, "fc1.weight": torch.zeros(len(state["fc1.bias"]), 100)}
    if how == "nan":
        return {**state, "fc1.bias": state["fc1.bias"] * math.nan}
    return {**state, "extra.weight": torch.zeros(2)}


@pytest.mark.parametrize(
    ("how", "words"),
    [
        ("lacks", "no checkpoint of the official release"),
        ("width", r"rgb_head\.1\.weight.* is \(16, 17\)"),
        ("column", "columns of width 50"),
        ("nan", "holds NaN"),
        ("extra", "does not belong"),
    ],
)
def test_what_is_no_official_checkpoint_is_said(checkpoint, tmp_path, how, words):
    _, _, state, _ = checkpoint
    path = tmp_path / "bad.pth"
    torch.save(broken(state, how), path)
    with pytest.raises(glom.InputError, match=words):
        glom.load(f"official:{path}")


def test_an_apm_of_this_toolkit_is_no_official_one(tmp_path):
    glom.load("apm-cifar10").save_pretrained(tmp_path / "own")
    with pytest.raises(glom.InputError, match="no checkpoint of the official release"):
        glom.load(f"official:{tmp_path / 'own' / 'apm.safetensors'}")
    with pytest.raises(glom.InputError, match="no such weights file"):
        glom.load("official:nowhere.pth")


def test_the_command_converts_and_never_overwrites(checkpoint, tmp_path, capsys):
    from commands.convert import app
    from tests.conftest import in_process

    kind, path, _, _ = checkpoint
    call = in_process(capsys, app, "convert")
    code_, out, _ = call("official", path, tmp_path / "mine", "--json")
    assert code_ == 0 and f'"official": "{kind}"' in out
    assert glom.load(tmp_path / "mine").meta["official"] == kind
    code_, _, err = call("official", path, tmp_path / "mine")
    assert code_ == 2 and "nothing is overwritten" in err
    code_, out, _ = call("official", path, tmp_path / "other")
    assert code_ == 0 and max(map(len, out.splitlines())) <= 100
    code_, _, err = call("official", tmp_path / "nothing.pth", tmp_path / "third")
    assert code_ == 2 and len(err.strip().splitlines()) == 1 and not (tmp_path / "third").exists()
