"""Image classifiers that transformers saved: their rows are the head, their token is what the head reads."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
import transformers
from PIL import Image
from safetensors.torch import load_file, save_file

from cli import app
from commands.ending import guard
from glom.backbones.registry import load_backbone
from glom.backbones.video import clip_for, feature_grids
from glom.datasets.registry import open_dataset
from glom.errors import InputError
from glom.runs.seeds import fixed_seed
from glom.teachers import load_teacher

LAYER = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
VISION = {**LAYER, "intermediate_size": 16, "image_size": 32, "patch_size": 8}
TEXT = {**LAYER, "intermediate_size": 16, "vocab_size": 32}
MAPS = {"hidden_sizes": [4, 8, 8, 16], "depths": [1, 1, 1, 1]}
SWIN = {"image_size": 32, "patch_size": 4, "embed_dim": 4, "depths": [1, 1], "num_heads": [1, 1], "window_size": 4}
# what it is called: its configuration, its token's width, its grid
KINDS = {
    "ViT": (lambda: transformers.ViTConfig(**VISION), 16, (4, 4, 16)),
    "DeiT": (lambda: transformers.DeiTConfig(**VISION), 16, (4, 4, 16)),
    "Beit": (lambda: transformers.BeitConfig(**VISION), 16, (4, 4, 16)),
    "Dinov2": (lambda: transformers.Dinov2Config(**LAYER, image_size=32, patch_size=8), 32, (4, 4, 16)),
    "Dinov2WithRegisters": (
        lambda: transformers.Dinov2WithRegistersConfig(**LAYER, image_size=32, patch_size=8),
        32,
        (4, 4, 16),
    ),
    "ConvNext": (lambda: transformers.ConvNextConfig(**MAPS), 16, (1, 1, 16)),
    "ResNet": (lambda: transformers.ResNetConfig(embedding_size=4, layer_type="basic", **MAPS), 16, (1, 1, 16)),
    "Swin": (lambda: transformers.SwinConfig(**SWIN), 8, (4, 4, 8)),
    "Siglip": (lambda: transformers.SiglipConfig(text_config=TEXT, vision_config=VISION), 16, (4, 4, 16)),
}
NAMES = ["cat", "dog", "ship"]


def saved(
    folder: Path, kind: str = "ViT", names: list[str] | None = None, rows: int = 3, processor: bool = True
) -> str:
    """A small network of random weights in a folder, as `save_pretrained` leaves it."""
    config = KINDS[kind][0]()
    config.num_labels = rows
    if names is not None:
        config.id2label, config.label2id = dict(enumerate(names)), {n: i for i, n in enumerate(names)}
    with fixed_seed():
        model = getattr(transformers, f"{kind}ForImageClassification")(config)
        for parameter in model.parameters():  # the library begins with a head of almost zeros
            torch.nn.init.normal_(parameter, std=0.2)
    model.save_pretrained(folder)
    if processor:
        transformers.ViTImageProcessor(size={"height": 32, "width": 32}).save_pretrained(folder)
    return f"hf:{folder}"


def noise(count: int = 3) -> torch.Tensor:
    return torch.randn(count, 3, 32, 32, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("kind", KINDS)
def test_the_head_says_what_the_network_says(tmp_path, kind):
    teacher = load_teacher(saved(tmp_path, kind, NAMES), "cpu")
    model = getattr(transformers, f"{kind}ForImageClassification").from_pretrained(tmp_path).eval()
    images = noise()
    with torch.no_grad():
        wanted = model(pixel_values=images).logits
    head = teacher.zero_shot_head(NAMES)
    torch.testing.assert_close(head(teacher.token(images)), wanted, atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(
        teacher.zero_shot_head(["ship", "cat"])(teacher.token(images)), wanted[:, [2, 0]], atol=1e-4, rtol=1e-4
    )
    assert teacher.classes == tuple(NAMES) and not teacher.has_text and teacher.notes == []
    assert (teacher.width, tuple(teacher.grid(images).shape[1:])) == KINDS[kind][1:]
    assert teacher.resized(64).grid(torch.zeros(1, 3, 64, 64)).shape[1] == 2 * KINDS[kind][2][0]


@pytest.mark.parametrize("kind", KINDS)
def test_its_blocks_can_be_looked_into(tmp_path, kind):
    backbone = load_backbone(saved(tmp_path, kind, NAMES), "cpu")
    assert len(backbone.layers) == (4 if kind in ("ConvNext", "ResNet") else 2 if kind == "Swin" else 1)
    last = list(feature_grids(backbone, clip_for(backbone, Image.new("RGB", (32, 32)))).values())[-1]
    assert tuple(last.shape[-3:]) == KINDS[kind][2]
    assert type(backbone.build()) is type(backbone.model)


def test_dinov2s_head_reads_the_class_token_and_the_mean_of_the_patches(tmp_path):
    teacher = load_teacher(saved(tmp_path, "Dinov2", NAMES), "cpu")
    images = noise()
    token, grid = teacher.token(images), teacher.grid(images)
    torch.testing.assert_close(token[:, 16:], grid.flatten(1, 2).mean(1))


@pytest.mark.parametrize("names", [None, ["0", "1", "2"], ["LABEL_0", "dog", "ship"], ["cat", "cat", "ship"]])
def test_rows_that_nobody_named_are_named_by_hand(tmp_path, names):
    teacher = load_teacher(saved(tmp_path, names=names), "cpu")
    assert teacher.classes is None and teacher.unnamed_rows == 3
    with pytest.raises(InputError, match="3 rows without names"):
        teacher.zero_shot_head(NAMES)
    teacher.name_classes(NAMES)
    assert teacher.zero_shot_head(["dog"]).weights.shape == (1, 16)


def test_imagenets_thousand_are_named_as_everywhere_else(tmp_path):
    names = ["tench, Tinca tinca", *["crane"] * 998, "toilet tissue, toilet paper, bathroom tissue"]
    config = KINDS["ViT"][0]()
    config.id2label = dict(enumerate(names))
    with fixed_seed():
        transformers.ViTForImageClassification(config).save_pretrained(tmp_path)
    transformers.ViTImageProcessor(size={"height": 32, "width": 32}).save_pretrained(tmp_path)
    classes = load_teacher(f"hf:{tmp_path}", "cpu").classes
    assert classes is not None and (classes[0], classes[134], classes[517], len(classes)) == (
        "tench",
        "crane bird",
        "construction crane",
        1000,
    )


def test_folders_that_are_refused(tmp_path):
    with pytest.raises(InputError, match=r"no preprocessor_config\.json.*size, mean and deviation"):
        load_teacher(saved(tmp_path / "bare", processor=False), "cpu")
    assert "standard 32 px" in load_teacher(saved(tmp_path / "dino", "Dinov2", processor=False), "cpu").notes[0]
    headless = tmp_path / "headless"
    name = saved(headless)
    state = load_file(headless / "model.safetensors")
    save_file({k: v for k, v in state.items() if "classifier" not in k}, headless / "model.safetensors")
    with pytest.raises(InputError, match=r"2 missing: classifier\.bias"):
        load_teacher(name, "cpu")
    with fixed_seed():
        transformers.ViTModel(KINDS["ViT"][0]()).save_pretrained(tmp_path / "body")
    with pytest.raises(InputError, match=r"is a 'vit' model; hf: reads clip, .* saved as \.\.\.ForImageClassification"):
        load_teacher(f"hf:{tmp_path / 'body'}", "cpu")


# -- a fine-tuned classifier from the shell ----------------------------------------------------------------------------


@pytest.fixture
def ten(tmp_path) -> tuple[str, Path, Path]:
    """A classifier of ten rows without names, one CIFAR-10 picture a class folder, a file of the names."""
    sample = open_dataset("cifar10-sample")
    assert sample.classes is not None
    for one in {sample.classes[one.label]: one for one in sample}.values():
        place = tmp_path / "pictures" / sample.classes[one.label] / f"{Path(one.id).stem}.png"
        place.parent.mkdir(parents=True, exist_ok=True)
        one.image().save(place)
    names = tmp_path / "rows.txt"
    names.write_text("\n".join(sample.classes) + "\n")
    return saved(tmp_path / "ten", rows=10), tmp_path / "pictures", names


def call(capsys: pytest.CaptureFixture[str], *words: object) -> tuple[int, str, str]:
    code = guard(app, [str(word) for word in words])
    found = capsys.readouterr()
    return code, found.out, found.err


COMMANDS = {
    "benchmark": "benchmark -d {data} -m zero-shot -t {teacher} -o {out}",
    "score": "teachers score {teacher} {data}",
    "run": "ttt run {data} -t {teacher} --iterations 2 -o {out}",
    "trace": "ttt trace {picture} -t {teacher} --iterations 2 -o {out}",
}


@pytest.mark.parametrize("command", COMMANDS)
def test_classes_name_the_rows_of_a_fine_tuned_classifier(command, ten, tmp_path, capsys):
    teacher, data, names = ten
    picture = next(data.rglob("*.png"))
    places = {"data": data, "teacher": teacher, "picture": picture}
    words = COMMANDS[command].format(**places, out=tmp_path / "o").split()
    code, out, error = call(capsys, *words, "--json")
    assert (code, out) == (2, "") and "--classes" in error
    code, out, error = call(capsys, *words, "--classes", names, "--json")
    assert code == 0, error
    assert json.loads(out)
    if command == "trace":
        loaded = load_teacher(teacher, "cpu")
        loaded.name_classes(names.read_text().split())
        tokens, _ = loaded.encode(Image.open(picture))
        best = loaded.classes[int(loaded.zero_shot_head(loaded.classes)(tokens)[0].argmax())]
        assert best in out
    short = tmp_path / "short.txt"
    short.write_text("cat\ndog\n")
    words = COMMANDS[command].format(**places, out=tmp_path / "short").split()
    code, out, error = call(capsys, *words, "--classes", short, "--json")
    assert (code, out) == (2, "") and "2 " in error and "10" in error
