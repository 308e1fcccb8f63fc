"""Layer skipping: students against known answers, substitution in real networks, and `apm grid shortcut`."""

from __future__ import annotations

import json
import warnings

import numpy as np
import pytest
import torch

from commands.ending import guard
from commands.grid import matrix_table
from experiments.shortcut.data import ShortcutSettings, crop_of, layer_grids
from experiments.shortcut.model import class_head, mean_output, put, skipped_cost, student_cost, substitute
from experiments.shortcut.run import layer_pair
from glom.backbones.shortcuts import STUDENTS, fit, make_student, mean_error, moments, resample
from glom.backbones.video import capture, clip_for, feature_grids, load_backbone
from glom.columns import grid_queries
from glom.datasets.registry import open_dataset
from glom.errors import InputError
from tests.conftest import make_image

# -- students ------------------------------------------------------------------------------------------------------


def grids(count: int = 40, seed: int = 0) -> torch.Tensor:
    return torch.randn(count, 8, 8, 6, generator=torch.Generator().manual_seed(seed))


def test_the_linear_student_finds_a_linear_map_exactly():
    W, early = torch.randn(5, 6), grids() * torch.tensor([1.0, 10, 0.1, 1, 1, 3]) + 4
    late = resample(early, 4, 4) @ W.T + 2
    student = make_student("linear", (8, 8, 6), (4, 4, 5))
    list(fit(student, early, late))
    new = grids(5, 1) + 4
    torch.testing.assert_close(student(new), resample(new, 4, 4) @ W.T + 2, rtol=0.02, atol=0.05)


@pytest.mark.parametrize("name", STUDENTS)
@pytest.mark.parametrize(("early", "late"), [((8, 8, 6), (4, 4, 5)), ((4, 4, 6), (4, 4, 5)), ((3, 5, 6), (6, 7, 5))])
def test_every_student_maps_any_grid_to_any_other(name, early, late):
    student = make_student(name, early, late)
    assert student(torch.randn(2, *early)).shape == (2, *late)
    assert torch.equal(make_student(name, early, late)(torch.ones(1, *early)), student(torch.ones(1, *early)))


def test_capacity_buys_what_it_should():
    """A target only neighbours can give: the convolutions learn it, the per-location students cannot."""
    early = grids(48)
    late = torch.roll(early, 1, 1)[..., :2]
    errors = {}
    for name in ("linear", "mlp", "conv"):
        student = make_student(name, (8, 8, 6), (8, 8, 2))
        list(fit(student, early, late, epochs=8, batch=4, lr=3e-3))
        errors[name] = mean_error(student, grids(16, 1), torch.roll(grids(16, 1), 1, 1)[..., :2])
    assert errors["conv"] < 0.35
    assert min(errors["linear"], errors["mlp"]) > 0.9


def test_the_mlp_learns_what_no_linear_map_can():
    early = grids(64)
    late = early[..., :2].abs()
    found = {}
    for name in ("linear", "mlp"):
        student = make_student(name, (8, 8, 6), (8, 8, 2))
        list(fit(student, early, late, epochs=10, batch=8, lr=3e-3))
        found[name] = mean_error(student, grids(16, 1), grids(16, 1)[..., :2].abs())
    assert found["mlp"] < 0.3 * found["linear"]


def test_the_apm_student_answers_anywhere():
    student = make_student("apm", (8, 8, 6), (4, 4, 5))
    early = grids(3)
    list(fit(student, early, torch.randn(3, 4, 4, 5), epochs=1))
    everywhere = student.ask(early, grid_queries(4, 4))
    torch.testing.assert_close(everywhere.unflatten(1, (4, 4)), student(early))
    some = student.ask(early, torch.tensor([[0.31, 0.74], [0.625, 0.125]]))
    assert some.shape == (3, 2, 5)
    torch.testing.assert_close(some[:, 1], student(early)[:, 0, 2])
    with pytest.raises(InputError, match="outside"):
        student.ask(early, torch.tensor([[1.2, 0.0]]))


def test_training_is_seeded_and_keeps_the_best_epoch():
    early, late = grids(20), grids(20, 3)[..., :2]
    a, b = (make_student("mlp", (8, 8, 6), (8, 8, 2)) for _ in range(2))
    steps = [list(fit(s, early, late, epochs=6, batch=4, lr=1e-2, seed=2)) for s in (a, b)]
    assert steps[0] == steps[1] and torch.equal(a(early), b(early))
    order = torch.randperm(20, generator=torch.Generator().manual_seed(2))[:2]
    variance = float((late - a.late_mean).square().mean())
    best = min(step.values["check"] for step in steps[0])
    assert mean_error(a, early[order], late[order]) / variance == pytest.approx(best, rel=1e-4)


def test_a_picture_that_checks_is_trained_on_in_no_view():
    """Twenty pictures in three views; each picture's target is unlike any other's, so that none can be guessed."""
    early, late = grids(20).repeat(3, 1, 1, 1), grids(20, 3)[..., :2].repeat(3, 1, 1, 1)
    early = early + 0.01 * grids(60, 5)
    student = make_student("mlp", (8, 8, 6), (8, 8, 2))
    seen: list[torch.Tensor] = []
    student.register_forward_pre_hook(
        lambda module, inputs: seen.append(inputs[0].clone()) if module.training else None
    )
    steps = list(fit(student, early, late, epochs=4, batch=6, lr=1e-3, seed=2, views=3))
    checks = set(torch.randperm(20, generator=torch.Generator().manual_seed(2))[:2].tolist())
    shown = [int((early - x).abs().amax((1, 2, 3)).argmin()) for part in seen for x in part]
    trained = [row for row in shown if row % 20 not in checks]
    # 18 pictures an epoch, each once, in views that differ; those that check are seen as they are (view 0) alone.
    assert len(trained) == 4 * 18 and {row for row in shown if row % 20 in checks} == checks
    assert all({r % 20 for r in trained[18 * e : 18 * (e + 1)]} == set(range(20)) - checks for e in range(4))
    assert {row // 20 for row in trained} == {0, 1, 2} and len(steps) == 4
    with pytest.raises(InputError, match="not 7 views"):
        list(fit(student, early, late, views=7))


@pytest.mark.parametrize("name", ["linear", "mlp"])
def test_grids_on_the_disk_teach_as_those_in_memory(tmp_path, name):
    """float16 numbers, mapped from a file: nothing but their rounding differs."""
    early, late = grids(150), grids(150, 3)[..., :2]
    found = {}
    for kind in ("memory", "disk"):
        given = [early.half().float(), late.half().float()]
        if kind == "disk":
            for i, part in enumerate(given):
                part.half().numpy().tofile(tmp_path / f"{i}.bin")
                mapped = np.memmap(tmp_path / f"{i}.bin", np.float16, "c", shape=tuple(part.shape))
                given[i] = torch.from_numpy(mapped)
        student = make_student(name, (8, 8, 6), (8, 8, 2))
        steps = list(fit(student, *given, epochs=2, seed=1))
        found[kind] = (steps, student(early))
    assert found["disk"][0] == found["memory"][0] and torch.equal(found["disk"][1], found["memory"][1])
    mean, variance = moments(early.half())
    torch.testing.assert_close(mean, early.half().double().mean((0, 1, 2)))
    torch.testing.assert_close(variance, early.half().double().var((0, 1, 2), correction=0))


def test_cached_grids_stay_on_the_disk(tmp_path):
    backbone, data = load_backbone("glom-tiny", "cpu"), open_dataset("cifar10-sample").limit(6)
    for precision, kind in (("fp16", torch.float16), ("fp32", torch.float32)):
        settings = ShortcutSettings(data="x", cache_precision=precision)
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            *_, found = layer_grids(backbone, data, [2, 3], 32, settings, tmp_path, True)
        assert all(part.dtype == kind for part in found.layers.values())
        first = found.layers[3][0].float()
        clip = clip_for(backbone, data.samples[0].image(), size=32)
        torch.testing.assert_close(first, feature_grids(backbone, clip, [3], time="mean")[3][0], rtol=1e-2, atol=1e-2)
        for path in tmp_path.glob("*/layer-3.bin"):
            with path.open("r+b") as file:
                file.write(bytes(found.layers[3][0].nbytes))
        assert not found.layers[3][0].any()  # what changes in the file changes in the grids: they are not a copy
        assert found.layers[3][1].any()


def test_wrong_students():
    with pytest.raises(InputError, match="did you mean linear"):
        make_student("linar", (1, 1, 1), (1, 1, 1))
    with pytest.raises(InputError, match="as many early as late"):
        list(fit(make_student("mlp", (8, 8, 6), (8, 8, 6)), grids(3), grids(4)))


# -- in the model --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "name", ["glom-tiny", "mvit-v2-tiny@random", "timm:test_vit@random", "timm:test_convnext@random"]
)
def test_a_layers_own_grid_put_back_changes_nothing(name):
    backbone = load_backbone(name, "cpu")
    clip = clip_for(backbone, make_image(1, (64, 64)), size=backbone.size)
    last = len(backbone.layers) - 1
    for layer in (0, last - 1):
        before = feature_grids(backbone, clip, [layer, last], time="mean")
        with substitute(backbone, layer, before[layer][0]):
            after = feature_grids(backbone, clip, [last], time="mean")
        torch.testing.assert_close(after[last], before[last], rtol=1e-4, atol=1e-4)
        with substitute(backbone, layer, torch.zeros_like(before[layer][0])):
            other = feature_grids(backbone, clip, [last], time="mean")
        assert not torch.allclose(other[last], before[last], atol=1e-3)
    assert not any(module._forward_hooks for _, module in backbone.layers)


def test_nothing_of_the_picture_leaks_past_the_grid():
    """With the mean output as the rest, a class token included, what follows depends on the grid alone."""
    backbone = load_backbone("timm:test_vit@random", "cpu")
    clips = [clip_for(backbone, make_image(i, (200, 200)), size=backbone.size) for i in range(3)]
    backbone.fit(1, backbone.size)
    neutral = mean_output(backbone, 1, clips)
    grid = feature_grids(backbone, clips[0], [1])[1][0]
    answers = []
    for clip in clips[:2]:
        with substitute(backbone, 1, grid, neutral), torch.inference_mode():
            answers.append(backbone.teacher.token(clip[None, :, 0]))
    torch.testing.assert_close(answers[0], answers[1])


def test_a_grid_of_another_shape_is_refused():
    backbone = load_backbone("glom-tiny", "cpu")
    clip = clip_for(backbone, make_image(1), size=32)
    backbone.fit(1, 32)
    with capture(backbone, [0]) as outputs, torch.inference_mode():
        backbone.run(clip[None])
    with pytest.raises(InputError, match="cannot stand for"):
        put(backbone, outputs[0], torch.zeros(4, 4, 32))


def test_costs_are_counted_by_hand():
    backbone = load_backbone("glom-tiny", "cpu")
    clip = clip_for(backbone, make_image(1), size=32)
    backbone.fit(1, 32)
    cost = skipped_cost(backbone, clip, 2, 3)
    # The last stage: a 3 x 3 convolution 192 -> 256 and a residual one 256 -> 256, both on 8 x 8.
    assert cost.flops == 2 * 64 * 9 * (192 * 256 + 256 * 256) and cost.seconds > 0
    student = make_student("linear", (8, 8, 192), (8, 8, 256))
    assert student_cost(student, torch.zeros(1, 8, 8, 192)).flops == 2 * 64 * 192 * 256


@pytest.mark.parametrize("name", ["timm:test_vit@random", "open_clip:ViT-S-32-alt@random"])
def test_attention_is_counted_by_hand(name):
    """Both of its products as well, which fused kernels hide from torch's counter on a CPU."""
    backbone = load_backbone(name, "cpu")
    clip = clip_for(backbone, make_image(1), size=backbone.size)
    backbone.fit(1, backbone.size)
    last = len(backbone.layers) - 1
    with capture(backbone, [last]) as outputs, torch.inference_mode():
        backbone.run(clip[None])
    h, w, width = backbone.grid(outputs[last]).shape[1:]
    tokens = h * w + 1
    weights = [p for n, p in backbone.layers[last][1].named_parameters() if p.ndim == 2]
    dense = sum(2 * tokens * p.numel() for p in weights)  # queries, keys, values, the output, the MLP
    cost = skipped_cost(backbone, clip, last - 1, last)
    assert cost.flops == dense + 2 * 2 * tokens**2 * width
    assert torch.backends.mha.get_fastpath_enabled()  # as it was


def test_heads_name_the_classes_they_know():
    backbone, data = load_backbone("glom-tiny", "cpu"), open_dataset("cifar10-sample")
    head, labelled, _ = class_head(backbone, data, 32)
    assert head is not None and labelled
    right = sum(int(head(clip_for(backbone, s.image(), size=32)).argmax()) == s.label for s in data.samples[:40])
    assert right > 28
    assert class_head(backbone, data, 64)[0] is None


def test_pairs_go_forwards():
    backbone = load_backbone("glom-tiny", "cpu")
    assert layer_pair(backbone, 0, -1) == (0, 3)
    for pair in ((2, 1), (3, 3), (-1, 0)):
        with pytest.raises(InputError, match="a shortcut leads to a later layer"):
            layer_pair(backbone, *pair)
    with pytest.raises(InputError, match="layers 0 to 3"):
        layer_pair(backbone, 0, 9)


# -- the command ---------------------------------------------------------------------------------------------------


@pytest.fixture
def call(capsys, monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    from cli import app

    def run(*arguments: object) -> tuple[int, str, str]:
        code = guard(app, ["grid", "shortcut", *map(str, arguments)])
        captured = capsys.readouterr()
        return code, captured.out, captured.err

    return run


BASE = ["cifar10-sample", "--backbone", "glom-tiny", "--limit", 60, "--held-out", 20, "--epochs", 1, "--quiet"]


def test_shortcut_says_everything_it_should(call, tmp_path):
    record = tmp_path / "records" / "shortcut.json"
    code, text, error = call(*BASE, "--from", 2, "--json", "--out", tmp_path / "run", "--record", record)
    assert code == 0, error
    result = json.loads(text)
    kept = json.loads(record.read_text())
    assert kept["results"] == result and kept["settings"]["early"] == 2 and "machine" in kept
    assert str(tmp_path) not in record.read_text()  # it may leave the machine
    assert (result["from"], result["to"], result["n"], result["n_train"]) == (2, 3, 20, 60)
    assert [s["name"] for s in result["students"]] == list(STUDENTS)
    for student in result["students"]:
        assert {"r2", "cosine", "accuracy_kept", "flops_ratio", "time_ratio", "islands_ari"} <= set(student)
        assert student["flops_ratio"] > 0 and 0 <= student["agreement"] <= 1
    assert abs(result["baselines"]["mean_grid"]["r2"]) < 0.1
    assert result["baselines"]["linear"]["r2"] == result["students"][0]["r2"] > 0.05
    assert result["model"]["agreement"] == 1  # its own grid put back
    assert (tmp_path / "run" / "students.png").stat().st_size > 5000
    code, again, _ = call(*BASE, "--from", 2, "--json", "--no-cache", "--out", tmp_path / "fly")
    other = json.loads(again)
    for a, b in zip(result["students"], other["students"], strict=True):
        assert a["r2"] == pytest.approx(b["r2"], abs=5e-3)  # the cache holds float16
    code, _, error = call(*BASE, "--from", 2, "--out", tmp_path / "run")
    assert code == 2 and "already holds this run" in error


def test_crops_are_the_pictures_own(call, tmp_path):
    picture = make_image(3, (64, 48))
    assert crop_of(picture, 0, 0, "a") is picture
    one, again, other = (crop_of(picture, v, 0, "a") for v in (1, 1, 2))
    assert one.tobytes() == again.tobytes() and (one.size, one.tobytes()) != (other.size, other.tobytes())
    assert crop_of(picture, 1, 0, "b").tobytes() != one.tobytes()
    options = [*BASE, "--from", 2, "--students", "linear", "--json"]
    code, text, error = call(*options, "--views", 3, "--out", tmp_path / "three")
    assert code == 0, error
    result = json.loads(text)
    assert (result["n_train"], result["views"], result["n"]) == (60, 3, 20)
    plain = json.loads(call(*options, "--out", tmp_path / "one")[1])  # a cache of its own
    assert plain["views"] == 1 and plain["students"][0]["r2"] < result["students"][0]["r2"]


def test_matrix_has_every_pair(call, tmp_path):
    code, text, error = call(
        *BASE, "--matrix", "--layers", "1,2,3", "--students", "linear", "--json", "--out", tmp_path / "run"
    )
    assert code == 0, error
    result = json.loads(text)
    assert [(p["from"], p["to"]) for p in result["pairs"]] == [(1, 2), (1, 3), (2, 3)]
    assert all(np.isfinite(p["linear"]["r2"]) for p in result["pairs"])
    assert (tmp_path / "run" / "matrix.png").stat().st_size > 5000


def test_a_wide_matrix_keeps_its_digits(monkeypatch, capsys):
    """Sixteen layers in 80 columns: blocks of columns, every number whole and in one of them."""
    monkeypatch.setenv("COLUMNS", "80")
    layers = list(range(16))
    pairs = [{"from": a, "to": z, "linear": {"r2": (16 * a + z) / 256}} for a in layers for z in layers if a < z]
    result = {"backbone": "b[x]", "n": 1, "layers": layers, "students": ["linear"], "pairs": pairs}
    matrix_table(result)
    text = capsys.readouterr().out
    assert max(map(len, text.splitlines())) <= 80 and "b[x]: R², linear; 1 held-out picture" in text
    rows = [line.split()[2:] for line in text.splitlines() if line.startswith("from 0")]
    assert len(rows) > 1 and [cell for row in rows for cell in row] == [f"{z / 256:.2f}" for z in range(1, 16)]


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (["--from", 3, "--to", 1], "goes from layer 3 to 1"),
        (["--from", 8], "layers 0 to 3"),
        (["--students", "cubic"], "unknown --students"),
        (["--matrix", "--layers", "2"], "at least two layers"),
        (["--epochs", 0], "--epochs"),
        (["--views", 0], "--views"),
        (["--cache-precision", "int8"], "--cache-precision"),
        (["--partition", "cut"], "--partition"),
        (["--held-out", 200], "cannot be held out"),
        (["--held-out", 1], "at least 2"),
        (["--lr", "inf"], "--lr"),
        (["--students", "linear,linear"], "each once"),
        (["--matrix", "--from", 0, "--to", 2], "leave --from and --to out"),
        (["--layers", "1,2"], "belongs to --matrix"),
        (["--cache", "c", "--no-cache"], "give one of them"),
        (["--record", "{file}/x.json"], "is a file"),
    ],
)
def test_wrong_shortcuts(call, tmp_path, options, says):
    (tmp_path / "file").write_text("x")
    options = [str(option).format(file=tmp_path / "file") for option in options]
    code, out, error = call(*BASE, *options, "--out", tmp_path / "run")
    assert (code, out) == (2, "") and says in error and error.count("\n") == 1
    assert not (tmp_path / "run").exists()
