"""The folding ablation: its variants, its settings, and `apm ablate` as a person types it."""

from __future__ import annotations

import json

import pytest
import torch
from torch import nn

from commands.ablate import app
from experiments.folding.run import machine_for, overfit_for
from experiments.folding.settings import AXES, FoldingSettings, settings_of
from experiments.folding.variants import VariantAPM
from glom.apm import APM, preset
from glom.columns import grid_queries
from glom.errors import InputError
from tests.conftest import in_process, one_error

SMALL = preset("apm-tiny", features=16, trunk=(24, 16), rgb=(8,))
TINY = ["--limit", 2, "--seeds", 1, "--iterations", 3, "--quiet"]


@pytest.fixture
def call(capsys):
    return in_process(capsys, app, "ablate")


def test_without_a_variant_it_is_the_machine_itself():
    plain, variant = APM(SMALL), VariantAPM(SMALL)
    variant.load_state_dict(plain.state_dict())
    images, queries = torch.randn(2, 3, 32, 32), grid_queries(3, 5)
    torch.testing.assert_close(plain(images, queries).token, variant(images, queries).token)


def test_folds_see_what_they_should():
    images, token = torch.randn(2, 3, 32, 32), torch.randn(16)
    for fold, differs in (("conv", True), ("linear", True), ("token", False), ("zeros", False)):
        apm = VariantAPM(SMALL, fold=fold, token=token)
        T = apm.fold(images)
        assert T.shape == (2, 256)
        assert (not torch.equal(T[0], T[1])) == differs
    assert not VariantAPM(SMALL, fold="zeros").fold(images).any()
    with pytest.raises(InputError, match="token"):
        VariantAPM(SMALL, fold="token")
    with pytest.raises(InputError, match="linear"):
        VariantAPM(SMALL, fold="linnear")


def test_a_linear_fold_can_be_the_convolution():
    conv, linear = VariantAPM(SMALL), VariantAPM(SMALL, fold="linear")
    basis = torch.eye(3 * 32 * 32).unflatten(1, (3, 32, 32))
    with torch.no_grad():
        offset = conv.fold(torch.zeros(1, 3, 32, 32))
        layer = linear.fold.linear
        layer.weight.copy_((conv.fold(basis) - offset).T)
        layer.bias.copy_(offset[0])
    image = torch.randn(1, 3, 32, 32)
    torch.testing.assert_close(linear.fold(image), conv.fold(image), atol=1e-4, rtol=1e-4)


def test_a_learned_code_is_its_table_at_centres_and_linear_between():
    apm = VariantAPM(SMALL, code="learned")
    apm.reset(torch.Generator().manual_seed(0), "default")
    code = apm.location_code
    at = code(grid_queries(8, 8)).reshape(8, 8, -1)
    torch.testing.assert_close(at[2, 5], torch.cat([code.x.weight[5], code.y.weight[2]]), atol=1e-5, rtol=1e-5)
    between = code(torch.tensor([[0.5, 0.5]]))[0, :128]
    torch.testing.assert_close(between, (code.x.weight[3] + code.x.weight[4]) / 2)
    torch.testing.assert_close(code(torch.tensor([[0.0, 1.0]])), torch.cat([code.x.weight[0], code.y.weight[7]])[None])


def test_trunks_of_their_own_are_the_shared_one_where_they_are_equal():
    shared, own = VariantAPM(SMALL), VariantAPM(SMALL, shared=False)
    own.reset(torch.Generator().manual_seed(0), "default")
    assert all(bool(torch.isfinite(p).all()) for p in own.parameters())
    state = shared.state_dict()
    for i in range(2):
        for name in ("weight", "bias"):
            part = state[f"trunk.{i}.{name}"]
            state[f"trunk.{i}.{name}"] = part.expand(64, *part.shape).clone()
    own.load_state_dict(state)
    images, queries = torch.randn(2, 3, 32, 32), torch.rand(9, 2)
    torch.testing.assert_close(shared(images, queries).features, own(images, queries).features, atol=1e-5, rtol=1e-4)
    before = own(images, grid_queries(8, 8)).features
    with torch.no_grad():
        own.trunk[0].bias[9] += 1.0  # row 1, column 1
    changed = (own(images, grid_queries(8, 8)).features - before).abs().amax((0, 2)) > 0
    assert changed.nonzero().flatten().tolist() == [9]


def test_every_setting_can_be_built_and_trained():
    settings = FoldingSettings()
    assert len(AXES) >= 8 and len({s.key for s in settings_of(settings)}) == 1 + sum(map(len, AXES.values()))
    images = torch.randn(1, 3, 32, 32)
    for setting in settings_of(settings):
        apm = machine_for(setting, SMALL, torch.randn(16))
        apm.reset(torch.Generator().manual_seed(0), "default")
        how = overfit_for(setting, settings)
        assert how.subset < how.points**2
        percept = apm(images, grid_queries(how.points, how.points), ("features", "rgb", "token"))
        loss = percept.token.square().sum() + percept.rgb.square().sum() + percept.features.square().sum()
        loss.backward()
        unused = [n for n, p in apm.named_parameters() if p.grad is None]
        assert not unused, (setting.key, unused)
        assert any(isinstance(m, nn.Linear) for m in apm.modules())


def test_products_combine_axes_and_refuse_those_that_collide():
    names = [s.name for s in settings_of(FoldingSettings(axes=("patch", "readout"), product=True))]
    assert len(names) == 9 and "patch=1x1; readout=mean" in names
    with pytest.raises(InputError, match="trunk"):
        settings_of(FoldingSettings(axes=("depth", "width"), product=True))


def test_ablation_runs_resumes_and_measures(call, tmp_path):
    base = ["folding", "--axis", "fold,patch", "--json", *TINY]
    code, text, error = call(*base, "--out", tmp_path / "a", "--record", tmp_path / "r.json")
    assert code == 0, error
    result = json.loads(text)
    assert (result["pictures"], len(result["rows"])) == (2, 7)
    for row in result["rows"]:
        assert row["n"] == 2 and row["parameters"] > 1000 and row["bytes"] > 16 * row["parameters"]
        assert {"error", "agrees", "correct", "psnr", "grid_r2", "islands_teacher"} <= {
            k for k, v in row["measures"].items() if v is not None
        }
    assert result["rows"][0]["measures"]["psnr"]["minus_base"][0] == 0
    assert (tmp_path / "a" / "folding.png").stat().st_size > 10_000
    assert "command" in json.loads((tmp_path / "r.json").read_text())
    # Half of it taken away again: the rest is the same to the last digit.
    lines = tmp_path / "a" / "results.jsonl"
    whole = sorted(lines.read_text().splitlines())
    lines.write_text("\n".join(lines.read_text().splitlines()[:6]) + "\n" + '{"id": "half')
    assert call(*base, "--out", tmp_path / "a")[0] == 2
    assert call(*base, "--out", tmp_path / "a", "--resume")[0] == 0
    assert sorted(lines.read_text().splitlines()) == whole


def test_ablation_over_outlines_scores_them(call, tmp_path):
    from tests.experiments.islands.test_islands_cli import masks

    out = tmp_path / "run"
    code, text, error = call("folding", masks(tmp_path), "--axis", "patch", "--json", *TINY, "--out", out)
    assert code == 0, error
    measures = json.loads(text)["rows"][0]["measures"]
    assert measures["islands_truth"] is not None and measures["covering"] is not None
    assert measures["agrees"] is None and measures["correct"] is None


def test_no_star_on_few_pictures(call, tmp_path):
    options = ["--axis", "code", "--seeds", 1, "--iterations", 3, "--quiet"]
    code, text, error = call("folding", "--limit", 2, *options, "--out", tmp_path / "few")
    assert code == 0 and text.startswith("2 pictures, 1 seed, 3 steps each"), error
    assert "*" not in text and "fewer than 5 pictures" in error
    code, text, error = call("folding", "--limit", 5, *options, "--out", tmp_path / "more")
    assert code == 0 and "*" in text and "paired over pictures" in error  # no code at all costs much in three steps


def test_a_product_keeps_its_digits_in_80_columns(call, tmp_path, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    options = ["--axis", "fold,patch,readout", "--product", "--limit", 1, "--seeds", 1, "--iterations", 1, "--quiet"]
    code, text, error = call("folding", *options, "--out", tmp_path / "run")
    assert code == 0, error
    words = [line for line in error.splitlines()[:4] if not line.startswith("note: ")]  # notes are never broken
    assert max(map(len, text.splitlines())) <= 80 and max(map(len, words)) <= 80
    result = json.loads((tmp_path / "run" / "result.json").read_text())
    for row in result["rows"]:
        assert f" {row['measures']['psnr']['mean']:.1f} " in text


def spoil(folder, every=False):
    """Make one picture of a folder, or all of them, unreadable."""
    for path in sorted(folder.rglob("*.png"))[: None if every else 1]:
        path.write_bytes(b"no picture")
    return folder


def test_unreadable_pictures_are_named_and_counted(call, image_folder, tmp_path):
    spoil(image_folder)
    options = ["--iterations", 2, "--shares", "1", "--orders", "raster"]
    code, text, error = call("asynchrony", image_folder, *options, "--out", tmp_path / "a")
    assert code == 0 and text.startswith("5 pictures"), error
    assert sum("left out" in line and "0.png" in line for line in error.splitlines()) == 1
    spoil(image_folder, every=True)
    for name, more in (("asynchrony", options), ("folding", ["--iterations", 2, "--axis", "patch"])):
        code, text, error = call(name, image_folder, *more, "--out", tmp_path / f"none-{name}", "--quiet")
        assert (code, text) == (2, "") and "none of the 6 pictures" in error.splitlines()[-1]


def test_asynchrony_ends_at_the_whole_readout(call, tmp_path):
    out = tmp_path / "run"
    options = ["--limit", 4, "--iterations", 40, "--shares", "0.1,1", "--orders", "raster,random", "--json", "--quiet"]
    code, text, error = call("asynchrony", *options, "--out", out)
    assert code == 0, error
    result = json.loads(text)
    assert result["n"] == 4 and result["counts"] == [7, 64]
    one, other = result["curves"]
    assert one["accuracy"][-1] == other["accuracy"][-1]  # all columns: the order no longer matters
    assert one["agreement"][-1] == 1.0
    assert (out / "asynchrony.png").stat().st_size > 10_000


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["folding", "--axis", "fld"], "fold"),
        (["folding", "--axis", "depth,width", "--product"], "trunk"),
        (["folding", "nowhere"], "nowhere"),
        (["folding", "--device", "tpu"], "unknown device"),
        (["asynchrony", "--device", "tpu"], "unknown device"),
        (["asynchrony", "--orders", "rastr"], "raster"),
        (["asynchrony", "--shares", "0.5,2"], "shares"),
        (["asynchrony", "--shares", "half"], "--shares"),
        (["asynchrony", "--checkpoint", "nothing.safetensors"], "nothing.safetensors"),
    ],
)
def test_wrong_requests(call, tmp_path, arguments, says):
    code, out, error = call(*arguments, "--out", tmp_path / "run", "--quiet")
    assert (code, out) == (2, ""), error
    assert says in error and one_error(error)
    assert not (tmp_path / "run" / "results.jsonl").exists()
