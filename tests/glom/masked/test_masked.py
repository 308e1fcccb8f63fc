"""Masked autoencoders: read-out, masks, adaptation and its way back, the four methods, the recipe, bad input."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from transformers import ViTConfig, ViTModel

from experiments.comparison.run import run as run_benchmark
from experiments.comparison.settings import BenchmarkSettings
from experiments.recipes.mae_choose import summarise, trials
from experiments.recipes.mae_run import run as run_training
from experiments.recipes.mae_settings import PART_OF, MAETinySettings, Recipe, stages_of
from experiments.recipes.mae_ship import read_splits
from glom.datasets.corruptions import CORRUPTIONS
from glom.errors import InputError, RunError
from glom.masked.adapt import PRESETS, Adapter, AdaptSettings
from glom.masked.network import build_mae, encode, positions, reconstruction
from glom.masked.parts import PARTS, Masked, View, load_masked, part_of, save_config, save_half
from glom.masked.shapes import HeadShape, MAEShape
from glom.methods import FewShot, Task, make_method
from glom.methods.masked import TTTMAE, FineTune, FitSettings, JointTrain, ViTProbe
from glom.runs.artifacts import read_json, read_results, write_json
from glom.teachers.registry import load_teacher
from glom.training import epochs
from tests.conftest import make_image

CLASSES = ("cat", "dog", "ship")
SHAPE = MAEShape(size=32, patch=8, width=16, layers=2, heads=2, decoder_width=8, decoder_layers=1, decoder_heads=1)
HEAD = HeadShape(width=16, layers=1, heads=2, pool="mean")
VIEW = View(32, (0.5, 0.5, 0.5), (0.25, 0.25, 0.25), crop=False)
NAMES = ("joint-train", "fine-tune", "vit-probe", "ttt-mae")


def save_tiny(folder: Path, classes: tuple[str, ...] = CLASSES, adapt: AdaptSettings | None = None) -> Path:
    """A folder as the recipe writes it, with random weights in every part."""
    folder.mkdir(parents=True, exist_ok=True)
    torch.manual_seed(1)
    mae = build_mae(SHAPE)
    save_config(folder, SHAPE, HEAD, classes, VIEW, adapt)
    save_half(folder / "mae.safetensors", mae.state_dict())
    masked = Masked("", mae, HEAD, classes, VIEW, None, {})
    for seed, part in enumerate(PARTS):
        model = masked.classifier(len(classes), seed)
        save_half(folder / f"{part}.safetensors", part_of(model, part))
    return folder


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_tiny(tmp_path_factory.mktemp("mae") / "tiny", adapt=AdaptSettings(3, 4, 0.05, 0.9, 0.0, True))


@pytest.fixture(scope="module")
def teacher():
    return load_teacher("glom-tiny", "cpu")


@pytest.fixture
def task(teacher, folder: Path) -> Task:
    return Task(teacher, CLASSES, torch.device("cpu"), mae=str(folder))


def bits(model: torch.nn.Module) -> list[torch.Tensor]:
    return [v.clone() for v in model.state_dict().values()]


def same(first: list[torch.Tensor], second: list[torch.Tensor]) -> bool:
    return all(torch.equal(a, b) for a, b in zip(first, second, strict=True))


# -- the network -------------------------------------------------------------------------------------------------------


def test_the_read_out_is_transformers_own_forward(folder: Path):
    mae = load_masked(str(folder)).mae
    images = torch.randn(3, 3, 32, 32)
    found = encode(mae, images)
    assert found.shape == (3, 17, 16)
    mae.config.mask_ratio = 0.0
    order = torch.arange(16.0).expand(3, -1)  # the least noise first: patches stay in their order
    expected = mae.vit(pixel_values=images, noise=order).last_hidden_state
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-5)
    # Some of the patches, in an order of their own, as transformers masks them.
    mae.config.mask_ratio = 0.75
    noise = torch.rand(3, 16)
    expected = mae.vit(pixel_values=images, noise=noise).last_hidden_state
    torch.testing.assert_close(encode(mae, images, noise.argsort(1)[:, :4]), expected, atol=1e-5, rtol=1e-5)


def test_position_codes_are_set_and_tell_every_patch_apart(folder: Path):
    mae = load_masked(str(folder)).mae
    for code in (mae.vit.embeddings.position_embeddings, mae.decoder.decoder_pos_embed):
        assert not code[0, 0].any()
        assert float(torch.cdist(code[0], code[0]).fill_diagonal_(9).min()) > 1e-2
    # A neighbour to the right moves the first half (columns), one below the second (rows), as in the authors' layout.
    one, right, below = positions(4, 16)[0, [1, 2, 5]]
    assert torch.equal(one[8:], right[8:])
    assert torch.equal(one[:8], below[:8])
    assert not torch.equal(one[:8], right[:8])


def test_the_loss_is_of_the_masked_patches_alone(folder: Path):
    mae = load_masked(str(folder)).mae
    images, noise = torch.randn(2, 3, 32, 32), torch.rand(2, 16)
    seen = noise.argsort(1)[:, :4]
    before = float(reconstruction(mae, images, noise))
    # The decoder's answer for a patch that was seen may be anything.
    out = mae(pixel_values=images, noise=noise)
    target = mae.patchify(images)
    target = (target - target.mean(-1, keepdim=True)) / (target.var(-1, keepdim=True) + 1e-6).sqrt()
    each = ((out.logits - target) ** 2).mean(-1)
    hidden = torch.ones(2, 16).scatter(1, seen, 0.0)
    assert before == pytest.approx(float((each * hidden).sum() / hidden.sum()), rel=1e-4)


def test_the_head_reads_kept_patches_at_their_places(folder: Path):
    model = load_masked(str(folder)).classifier(3)
    images = torch.randn(2, 3, 32, 32)
    everything = torch.stack([torch.randperm(16), torch.randperm(16)])
    torch.testing.assert_close(model(images, everything), model(images), atol=1e-5, rtol=1e-5)
    some = everything[:, :8]
    assert not torch.allclose(model(images, some), model(images), atol=1e-4)
    torch.testing.assert_close(model(images, some.flip(1)), model(images, some), atol=1e-5, rtol=1e-5)


def test_a_class_token_head_is_another_read_out():
    torch.manual_seed(0)
    mae = build_mae(SHAPE)
    heads = [Masked("", mae, replace(HEAD, pool=pool), (), VIEW, None, {}).classifier(3) for pool in ("class", "mean")]
    images = torch.randn(2, 3, 32, 32)
    assert not torch.allclose(heads[0](images), heads[1](images))


# -- test-time training ------------------------------------------------------------------------------------------------


def test_adaptation_lowers_the_loss_and_is_undone_bit_for_bit(folder: Path):
    masked = load_masked(str(folder))
    model = masked.classifier(3)
    before = bits(model)
    adapter = Adapter(model.mae, AdaptSettings(30, 16, 0.05, 0.9, 0.0, True))
    picture = masked.view(make_image(1))
    plain = model(picture[None])
    with adapter.on(picture, 5) as losses:
        inside = bits(model)
        moved = model(picture[None])
    assert len(losses) == 30
    assert np.mean(losses[-5:]) < 0.95 * np.mean(losses[:5])
    assert not torch.allclose(moved, plain, atol=1e-4)
    assert same(bits(model), before)
    assert not any(p.requires_grad or p.grad is not None for p in model.parameters())
    # Nothing of the head moved, nor any position code.
    for name, old, new in zip(model.state_dict(), before, inside, strict=True):
        assert torch.equal(old, new) == (
            name.startswith("head.") or name.endswith(("position_embeddings", "pos_embed"))
        )


def test_it_is_undone_whatever_happens_inside(folder: Path):
    mae = load_masked(str(folder)).mae
    before = bits(mae)
    with pytest.raises(ZeroDivisionError), Adapter(mae, AdaptSettings(2, 2)).on(torch.randn(3, 32, 32), 0):
        raise ZeroDivisionError
    assert same(bits(mae), before)
    with (
        pytest.raises(RunError, match="lower rate"),
        Adapter(mae, AdaptSettings(20, 2, 1e12)).on(torch.randn(3, 32, 32), 0),
    ):
        pass
    assert same(bits(mae), before)


def test_the_decoder_stays_where_it_is_told_to(folder: Path):
    mae = load_masked(str(folder)).mae
    adapter = Adapter(mae, replace(PRESETS["released"], steps=2, masks=2))
    before = {k: v.clone() for k, v in mae.state_dict().items()}
    with adapter.on(torch.randn(3, 32, 32), 0):
        moved = {k for k, v in mae.state_dict().items() if not torch.equal(v, before[k])}
    assert "decoder.mask_token" in moved
    assert not any(k.startswith("decoder.") for k in moved - {"decoder.mask_token"})
    assert any(k.startswith("vit.layers") for k in moved)


def test_the_first_step_is_plain_gradient_descent(folder: Path):
    masked = load_masked(str(folder))
    mae, picture = masked.mae, masked.view(make_image(3))
    settings = AdaptSettings(1, 4, 0.1, 0.9, 0.2, True)
    noise = torch.rand(4, 16, generator=torch.Generator().manual_seed(9))
    weight = mae.vit.layers[0].mlp.fc1.weight.requires_grad_(True)
    loss = reconstruction(mae, picture.expand(4, -1, -1, -1), noise)
    [gradient] = torch.autograd.grad(loss, [weight])
    expected = weight.detach() - 0.1 * (gradient + 0.2 * weight.detach())
    weight.requires_grad_(False)
    with Adapter(mae, settings).on(picture, 9) as losses:
        assert losses == [pytest.approx(float(loss.detach()), rel=1e-5)]
        torch.testing.assert_close(mae.vit.layers[0].mlp.fc1.weight, expected, atol=1e-6, rtol=1e-5)


# -- the methods -------------------------------------------------------------------------------------------------------


def test_order_changes_nothing_and_no_steps_are_the_probe(task: Task):
    method = make_method("ttt-mae", task, False)
    pictures = [make_image(i) for i in range(3)]
    forward = [method.predict(p, i) for i, p in enumerate(pictures)]
    back = [method.predict(p, i) for i, p in reversed(list(enumerate(pictures)))][::-1]
    assert same(forward, back)
    assert not torch.equal(method.predict(pictures[0], 7), forward[0])
    still = TTTMAE(AdaptSettings(steps=0))
    still.prepare(task)
    probe = make_method("vit-probe", task, False)
    assert torch.equal(still.predict(pictures[0], 0), probe.predict(pictures[0], 0))
    assert not torch.equal(probe.predict(pictures[0], 0), forward[0])


def test_each_method_has_its_own_part_and_they_share_nothing(task: Task):
    image = make_image(2)
    made = {name: make_method(name, task, False) for name in NAMES}
    answers = {name: method.predict(image, 0) for name, method in made.items()}
    assert len({tuple(a.tolist()) for a in answers.values()}) == 4
    for name, method in made.items():
        assert torch.equal(method.predict(image, 0), answers[name])
        assert method.settings.fit is None
    assert made["ttt-mae"].settings.adapt == AdaptSettings(3, 4, 0.05, 0.9, 0.0, True)
    published = replace(task, preset="published")
    assert make_method("ttt-mae", published, False).settings.adapt == PRESETS["paper"]
    marks = {method.settings.fingerprint for method in made.values()}
    assert len(marks) == 3  # TTT-MAE is ViT Probe's network


def shots() -> FewShot:
    """Pictures whose class is their colour."""
    rng = np.random.default_rng(0)
    pictures = []
    for label in range(3):
        for _ in range(6):
            pixels = rng.integers(0, 60, (32, 32, 3), dtype=np.uint8)
            pixels[..., label] += 150
            pictures.append(Image.fromarray(pixels))
    return FewShot(torch.zeros(18, 3, 8, 8), torch.arange(3).repeat_interleave(6), tuple(pictures))


@pytest.mark.parametrize("kind", [ViTProbe, FineTune, JointTrain])
def test_heads_are_fitted_to_other_classes_and_only_what_learns_moves(kind, teacher, folder: Path):
    other = Task(teacher, ("red", "green", "blue"), torch.device("cpu"), mae=str(folder))
    with pytest.raises(InputError, match=r"knows cat, dog, ship, not these .* `train` DATA"):
        make_method(kind.name, other, False)
    method = make_method(kind.name, other, True)
    assert method.needs_shots
    method.fit_settings = FitSettings(epochs=25, batch=9, lr=5e-3, lr_trunk=1e-3)
    before = {k: v.clone() for k, v in method.model.state_dict().items()}
    few = shots()
    losses = method.fit(few)
    assert np.mean(losses[-4:]) < 0.8 * np.mean(losses[:4])
    moved = {k for k, v in method.model.state_dict().items() if not torch.equal(v, before[k])}
    assert moved <= set(method.state())
    assert {k.split(".")[0] for k in moved} == ({"head"} if kind is ViTProbe else {"head", "mae"})
    right = [int(method.predict(p, 0).argmax()) == int(y) for p, y in zip(few.pictures, few.labels, strict=True)]
    assert np.mean(right) > 0.9
    again = make_method(kind.name, other, True)
    again.load(method.state())
    assert torch.equal(again.predict(few.pictures[0], 0), method.predict(few.pictures[0], 0))


def test_the_methods_run_in_the_benchmark(image_folder: Path, tmp_path: Path):
    mae = save_tiny(tmp_path / "mae", ("cat", "ship"), AdaptSettings(2, 2, 0.05))
    asked = BenchmarkSettings(methods=NAMES, data=(str(image_folder),), corruptions=("", "contrast:3"), mae=str(mae))
    table = list(run_benchmark(asked, tmp_path / "run"))[-1].result
    assert [(r["method"], r["n"]) for r in table["rows"]] == [(name, 6) for name in NAMES] * 2
    assert table["settings"]["mae"] == "mae"
    manifest = read_json(next((tmp_path / "run").glob("*/ttt-mae/manifest.json")))
    assert manifest["settings"]["settings"]["adapt"]["steps"] == 2
    again = list(run_benchmark(asked, tmp_path / "again"))[-1].result
    timed = {"seconds", "times", "within_budget", "intervals"}
    assert [{k: v for k, v in row.items() if k not in timed} for row in again["rows"]] == [
        {k: v for k, v in row.items() if k not in timed} for row in table["rows"]
    ]
    # Other weights under the same name are another run.
    save_half(mae / "vit-probe.safetensors", {k: 2 * v for k, v in load_masked(str(mae)).parts["vit-probe"].items()})
    with pytest.raises(InputError, match="another run"):
        list(run_benchmark(asked, tmp_path / "run", resume=True))


def test_a_transformers_folder_is_read_and_its_head_fitted(image_folder: Path, tmp_path: Path, teacher):
    mae = build_mae(SHAPE)
    mae.save_pretrained(tmp_path / "hf")
    for name in (str(tmp_path / "hf"), f"hf:{tmp_path / 'hf'}"):
        masked = load_masked(name)
        assert (masked.parts, masked.classes, masked.head) == ({}, (), HeadShape())
        assert masked.mae.config.norm_pix_loss == mae.config.norm_pix_loss
        images = torch.randn(1, 3, 32, 32)
        torch.testing.assert_close(encode(masked.mae, images), encode(mae, images))
    asked = Task(teacher, CLASSES, torch.device("cpu"), mae=str(tmp_path / "hf"))
    with pytest.raises(InputError, match=r"no class head .* `train` DATA"):
        make_method("ttt-mae", asked, False)
    method = make_method("ttt-mae", asked, True)
    assert method.settings.adapt == PRESETS["paper"]
    assert len(method.model.head.layers) == 12


class Code:
    def __reduce__(self) -> tuple:
        return (Path.touch, (Path("was-run"),))


def test_a_pickle_with_code_in_it_is_never_run(tmp_path: Path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    mae = build_mae(SHAPE)
    mae.save_pretrained(tmp_path / "hf")
    (tmp_path / "hf" / "model.safetensors").unlink()
    torch.save(mae.state_dict(), tmp_path / "hf" / "pytorch_model.bin")
    images = torch.randn(1, 3, 32, 32)
    torch.testing.assert_close(encode(load_masked("hf:hf").mae, images), encode(mae, images))
    torch.save({"vit.layernorm.weight": Code()}, tmp_path / "hf" / "pytorch_model.bin")
    with pytest.raises(InputError, match="tensors only"):
        load_masked("hf:hf")
    assert not (tmp_path / "was-run").exists()


# -- bad input ---------------------------------------------------------------------------------------------------------


def test_networks_that_cannot_be_read_are_refused(folder: Path, tmp_path: Path):
    for name, words in (
        ("mae-tyni", "did you mean mae-tiny"),
        (str(tmp_path / "nothing"), "no such folder"),
        ("hf:./nothing", "no such model folder"),
        (str(tmp_path), "holds no config.json"),
    ):
        with pytest.raises(InputError, match=words):
            load_masked(name)
    copy = save_tiny(tmp_path / "copy")
    config = read_json(copy / "config.json")
    for changed, words in (
        ({"version": 2}, "up to 1: update"),
        ({"architecture": "apm"}, "describes no masked autoencoder"),
        ({"head": {"depth": 3}}, "no configuration"),
        ({"mae": {**config["mae"], "layers": 3}}, "layers.2"),
        ({"mae": {**config["mae"], "size": 30}}, "cannot be cut"),
    ):
        write_json(copy / "config.json", config | changed)
        with pytest.raises(InputError, match=words):
            load_masked(str(copy))
    write_json(copy / "config.json", config)
    part = (copy / "fine-tune.safetensors").read_bytes()
    (copy / "fine-tune.safetensors").write_bytes(part[:200])
    with pytest.raises(InputError, match=r"fine-tune\.safetensors"):
        load_masked(str(copy))
    (copy / "fine-tune.safetensors").write_bytes((copy / "joint-train.safetensors").read_bytes())
    with pytest.raises(InputError, match="damaged"):
        make_method(
            "fine-tune", Task(load_teacher("glom-tiny", "cpu"), CLASSES, torch.device("cpu"), mae=str(copy)), False
        )


def test_another_kind_of_transformers_model_is_refused(tmp_path: Path):
    config = ViTConfig(hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=16, image_size=32)
    ViTModel(config).save_pretrained(tmp_path / "vit")
    with pytest.raises(InputError, match="is a 'vit' model"):
        load_masked(str(tmp_path / "vit"))
    mae = build_mae(SHAPE)
    mae.vit.save_pretrained(tmp_path / "half")  # no decoder
    with pytest.raises(InputError, match=r"lack .* decoder"):
        load_masked(str(tmp_path / "half"))


def test_settings_that_make_no_sense_are_refused():
    with pytest.raises(InputError, match="positive"):
        AdaptSettings(masks=0)
    with pytest.raises(InputError, match="did you mean"):
        stages_of("pretrian")
    with pytest.raises(InputError, match="epochs"):
        MAETinySettings(probe=Recipe(0, 1e-3))
    with pytest.raises(InputError, match="chosen_on"):
        MAETinySettings(held_out=3, chosen_on=4)


# -- the recipe --------------------------------------------------------------------------------------------------------


def small_recipe(**changes) -> MAETinySettings:
    short = Recipe(epochs=2, lr=2e-3, batch_size=8)
    recipes = {name: replace(short, whole=1) for name in ("probe", "fine_tune", "joint")}
    few = {"held_out": 4, "chosen_on": 4, "device": "cpu"}
    return replace(MAETinySettings(shape=SHAPE, head=HEAD, pretrain=short, **recipes, **few), **changes)


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """train/ and test/ of two of CIFAR-10's classes, 20 and 3 pictures of each."""
    root = tmp_path_factory.mktemp("data")
    for split, count in (("train", 20), ("test", 3)):
        for label, name in enumerate(("cat", "ship")):
            (root / split / name).mkdir(parents=True)
            for i in range(count):
                make_image(1000 * label + 100 * (split == "test") + i).save(root / split / name / f"{i:02}.png")
    return root


@pytest.fixture(scope="module")
def trained(pictures: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict]:
    """Every stage, with two candidates for test-time training."""
    out = tmp_path_factory.mktemp("out") / "mae"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(
            "experiments.recipes.mae_choose.CANDIDATES", (AdaptSettings(20, 2, 0.01), AdaptSettings(20, 2, 0.02))
        )
        events = list(run_training(replace(small_recipe(), data=str(pictures)), out))
    return out, events[-1].result


def test_the_recipe_makes_what_the_methods_read(trained, pictures: Path, teacher):
    out, result = trained
    masked = load_masked(str(out))
    assert sorted(masked.parts) == sorted(PARTS)
    assert masked.classes == ("cat", "ship")
    assert result["train_pictures"] == 36
    adapted = result["stages"]["adapt"]
    assert masked.adapt == AdaptSettings(**adapted["choice"]["chosen"])
    assert adapted["n"] == 6
    assert adapted["unadapted"] == pytest.approx(result["stages"]["probe"]["test_accuracy"])
    assert adapted["difference"] == pytest.approx(adapted["test_accuracy"] - adapted["unadapted"], abs=1e-3)
    # What was measured at the end of a stage is what the method answers.
    asked = Task(teacher, ("cat", "ship"), torch.device("cpu"), mae=str(out))
    tested = sorted((pictures / "test").glob("*/*.png"))
    for stage, name in PART_OF.items():
        method = make_method(name, asked, False)
        right = [int(method.predict(Image.open(p), 0).argmax()) == (p.parent.name == "ship") for p in tested]
        assert result["stages"][stage]["test_accuracy"] == pytest.approx(100 * np.mean(right), abs=1e-3)
        assert result["stages"][stage]["n"] == 6
    card = (out / "README.md").read_text()
    assert f"{result['stages']['probe']['test_accuracy']:.2f}" in card
    # The probe's trunk is the pre-trained one; the others have moved away from it.
    trunk = masked.mae.vit.layers[0].mlp.fc1.weight
    assert not torch.equal(masked.parts["fine-tune"]["mae.vit.layers.0.mlp.fc1.weight"], trunk)
    assert not any(k.startswith("mae.") for k in masked.parts["vit-probe"])


def test_a_stage_resumed_in_its_midst_ends_at_the_same_weights(trained, pictures: Path, tmp_path: Path, monkeypatch):
    """Four steps an epoch, a state after the third of each: the kill comes after the seventh step."""
    whole, _ = trained
    for name in ("mae.safetensors", "vit-probe.safetensors", "config.json", "manifest.json"):
        (tmp_path / name).write_bytes((whole / name).read_bytes())
    done = read_json(whole / "result.json")["stages"]
    write_json(tmp_path / "accuracy.json", {name: done[name] for name in ("pretrain", "probe")})  # its former name
    monkeypatch.setattr(epochs, "KEEP", 3)
    monkeypatch.setattr(epochs, "TELL", 1)
    events = run_training(replace(small_recipe(), data=str(pictures)), tmp_path, stage="joint", resume=True)
    for event in events:
        if event.done == 7:
            break
    events.close()
    assert torch.load(tmp_path / "state-joint.pt", weights_only=True)["step"] == 7
    assert not (tmp_path / "joint-train.safetensors").exists()
    list(run_training(replace(small_recipe(), data=str(pictures)), tmp_path, stage="joint", resume=True))
    assert (tmp_path / "joint-train.safetensors").read_bytes() == (whole / "joint-train.safetensors").read_bytes()
    assert [r["id"] for r in read_results(tmp_path)] == ["joint 1", "joint 2"]


def test_held_out_pictures_are_never_trained_on(pictures: Path):
    splits = read_splits(small_recipe(data=str(pictures)), download=False)
    shown = {tuple(x.flatten().tolist()) for x in splits.train.images}
    held = [tuple(np.asarray(s.image()).transpose(2, 0, 1).flatten().tolist()) for s in splits.held]
    assert len(held) == 4
    assert len(shown) == 36
    assert not shown & set(held)
    assert {s.label for s in splits.held} == {0, 1}


def test_candidates_are_tried_clean_and_under_every_corruption(pictures: Path, trained):
    held = read_splits(small_recipe(data=str(pictures)), download=False).held
    masked = load_masked(str(trained[0]))
    again = replace(held, samples=tuple(replace(s, id=f"{n}/{s.id}") for n in range(8) for s in held.samples))
    found = trials(again, masked, 32, 0)
    names = [t.id.split()[1] for t in found]
    assert names.count("clean") == 2
    assert set(names) == {"clean", *(f"{c}:{s}" for c in CORRUPTIONS for s in (3, 5))}
    assert all(torch.equal(a.image, b.image) for a, b in zip(found, trials(again, masked, 32, 0), strict=True))


def test_the_best_candidate_wins_and_the_likelier_among_equals(monkeypatch):
    tried = (AdaptSettings(20, 2, 0.01), AdaptSettings(20, 2, 0.02))
    monkeypatch.setattr("experiments.recipes.mae_choose.CANDIDATES", tried)

    def line(candidate: int, right: dict[int, tuple[float, float]]) -> dict:
        read = {"0": [0.0, 3.0, 0.0]} | {str(n): [*right.get(n, (0.0, 9.0)), 1.0] for n in (1, 2, 5, 10, 20)}
        return {"candidate": candidate, "read": read}

    found = summarise([line(0, {2: (1.0, 0.4)}), line(1, {5: (1.0, 0.3)})])
    assert found["chosen"] == {**vars(tried[1]), "steps": 5}
    assert (found["gain"], found["unadapted"]["accuracy"], len(found["rows"])) == (100.0, 0.0, 10)


def test_stages_come_in_order_and_folders_are_not_mixed(trained, pictures: Path, tmp_path: Path):
    with pytest.raises(InputError, match="run --stage pretrain first"):
        list(run_training(replace(small_recipe(), data=str(pictures)), tmp_path / "a", stage="probe"))
    with pytest.raises(InputError, match="run --stage probe first"):
        list(run_training(replace(small_recipe(), data=str(pictures)), tmp_path / "b", stage="adapt"))
    with pytest.raises(InputError, match="add `resume`"):
        list(run_training(replace(small_recipe(), data=str(pictures)), trained[0]))
    with pytest.raises(InputError, match="another run"):
        list(run_training(replace(small_recipe(seed=1), data=str(pictures)), trained[0], resume=True))
    big = small_recipe(pretrain=Recipe(1, 1e-3, batch_size=64))
    with pytest.raises(InputError, match="at least 64 training pictures"):
        list(run_training(replace(big, data=str(pictures)), tmp_path / "c", stage="pretrain"))


def test_the_command_line_trains_a_stage(call, tmp_path: Path, pictures: Path):
    code, _, err = call("train", "mae-tiny", pictures, "--stage", "prob", "--out", tmp_path / "x")
    assert (code, err.count("error:")) == (2, 1)
    assert "did you mean probe" in err
    code, _, err = call("train", "mae-tiny", pictures, "--stage", "pretrain", "--out", tmp_path / "y", "--quiet")
    assert code == 2
    assert "at least 128 training pictures, got 36" in err
    code, _, err = call("benchmark", "--methods", "vit-probe", "--mae", "mae-tyni", "--out", tmp_path / "z")
    assert code == 2
    assert "did you mean mae-tiny" in err
