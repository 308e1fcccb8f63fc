"""Weights files as people have them: what they leave unsaid, how they are wrapped, whose classes they name."""

import json

import open_clip
import pytest
import timm
import torch
from open_clip import factory
from open_clip.pretrained import _PRETRAINED
from safetensors.torch import save_file

from commands.ending import guard
from experiments.adaptation.run import prepare
from experiments.adaptation.settings import TTTRun
from glom.adaptation.settings import settings_for
from glom.errors import InputError
from glom.runs.artifacts import read_json
from glom.runs.notices import listening
from glom.teachers import load_teacher, teacher_names

VIT = {
    "embed_dim": 24,
    "vision_cfg": {"image_size": 32, "layers": 2, "width": 32, "head_width": 16, "patch_size": 8},
    "text_cfg": {"context_length": 77, "vocab_size": 49408, "width": 32, "heads": 2, "layers": 1},
}
CLIP_MEAN = (0.48145466, 0.4578275, 0.40821073)
TAG = {"std": (0.3, 0.3, 0.3), "interpolation": "bicubic", "resize_mode": "shortest", "url": "https://127.0.0.1:9/w.pt"}


@pytest.fixture
def architecture(tmp_path, monkeypatch):
    """`tiny-tags`, with tags to be given, and a file of a model trained with QuickGELU."""
    monkeypatch.setattr(factory, "_MODEL_CONFIGS", dict(factory._MODEL_CONFIGS))
    monkeypatch.setattr(factory, "_MODEL_CONFIG_PATHS", list(factory._MODEL_CONFIG_PATHS))
    (tmp_path / "tiny-tags.json").write_text(json.dumps(VIT))
    open_clip.add_model_config(tmp_path / "tiny-tags.json")
    torch.manual_seed(0)
    model = open_clip.create_model("tiny-tags", load_weights=False, force_quick_gelu=True).eval()
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "c_fc.weight" in name:
                parameter.mul_(20)  # activations of order one, as trained networks have them
    save_file({k: v.contiguous().clone() for k, v in model.state_dict().items()}, tmp_path / "w.safetensors")

    def tags(**known: dict) -> None:
        monkeypatch.setitem(_PRETRAINED, "tiny-tags", {name: {**TAG, **cfg} for name, cfg in known.items()})

    return tags, tmp_path / "w.safetensors", model


PICTURES = torch.linspace(-2, 2, 2 * 3 * 32 * 32).view(2, 3, 32, 32)


def _load(name):
    said = []
    with listening(said.append):
        return load_teacher(name, "cpu"), said


def test_a_files_tag_gives_activation_and_mean(architecture):
    tags, file, model = architecture
    tags(quick={"quick_gelu": True, "mean": CLIP_MEAN}, plain={"mean": (0.5, 0.5, 0.5)})
    with torch.no_grad():
        expected = model.encode_image(PICTURES)
    quick, said = _load(f"open_clip:tiny-tags@quick={file}")
    torch.testing.assert_close(quick.token(PICTURES), expected)
    assert (quick.mean, quick.std, quick.notes, said) == (CLIP_MEAN, TAG["std"], [], [])
    plain, _ = _load(f"open_clip:tiny-tags@plain={file}")
    assert not torch.allclose(plain.token(PICTURES), expected, atol=1e-3)
    assert plain.mean == (0.5, 0.5, 0.5)
    own, said = _load(f"open_clip:tiny-tags@default={file}")
    assert (own.mean, said) == (CLIP_MEAN, [])
    torch.testing.assert_close(own.token(PICTURES), plain.token(PICTURES))
    # The same weights give other outputs: their fingerprints must differ.
    assert len({quick.fingerprint, plain.fingerprint, own.fingerprint}) == 3


def test_a_file_without_a_tag_is_refused_where_tags_disagree_and_stated_where_they_agree(architecture):
    tags, file, model = architecture
    tags(
        quick={"quick_gelu": True, "mean": CLIP_MEAN}, plain={"mean": (0.5, 0.5, 0.5)}, other={"mean": (0.5, 0.5, 0.5)}
    )
    with pytest.raises(InputError, match=r"differ in mean, quick_gelu.*quick=FILE.*plain=FILE\S+ \(as 1 more"):
        _load(f"open_clip:tiny-tags@{file}")
    tags(quick={"quick_gelu": True, "mean": CLIP_MEAN})
    teacher, said = _load(f"open_clip:tiny-tags@{file}")
    with torch.no_grad():
        torch.testing.assert_close(teacher.token(PICTURES), model.encode_image(PICTURES))
    assert len(said) == 1
    assert said[0].endswith(teacher.notes[0])
    assert "QuickGELU, mean (0.48145466, 0.4578275, 0.40821073)" in said[0]
    tags()
    assert "GELU, mean (0.48145466" in _load(f"open_clip:tiny-tags@{file}")[0].notes[0]


def test_spellings_of_tag_and_file_that_are_wrong(architecture, tmp_path):
    tags, file, _ = architecture
    tags(quick={"quick_gelu": True, "mean": CLIP_MEAN})
    for weights, match in (
        (f"quack={file}", "did you mean quick"),
        ("quick=", "names no file"),
        (f"quick={tmp_path}/gone.pt", "no such weights file"),
    ):
        with pytest.raises(InputError, match=match):
            _load(f"open_clip:tiny-tags@{weights}")
    folder = tmp_path / "lr=0.1"
    folder.mkdir()
    (folder / "w.safetensors").write_bytes(file.read_bytes())
    for weights in (f"{folder}/w.safetensors", f"quick={folder}/w.safetensors"):
        assert _load(f"open_clip:tiny-tags@{weights}")[0].width == 24


def test_the_offline_hint_recommends_a_spelling_that_keeps_the_tag(architecture, monkeypatch):
    tags, *_ = architecture
    tags(quick={"quick_gelu": True, "mean": CLIP_MEAN})
    monkeypatch.setattr("glom.teachers.open_clip.reachable", lambda *_, **__: False)
    with pytest.raises(InputError, match=r"open_clip:tiny-tags@quick=FILE\.safetensors"):
        _load("open_clip:tiny-tags@quick")
    assert any(row.name == "open_clip:MODEL@TAG=FILE" for row in teacher_names(ask_hub=False))


def test_an_untrained_twin_has_the_same_activation(architecture):
    from glom.backbones.registry import load_backbone

    tags, file, _ = architecture
    tags(quick={"quick_gelu": True, "mean": CLIP_MEAN})
    twin = load_backbone(f"open_clip:tiny-tags@quick={file}", "cpu").untrained()
    assert any(isinstance(m, open_clip.transformer.QuickGELU) for m in twin.model.visual.modules())


def test_a_timm_file_without_a_tag_states_its_preprocessing(tmp_path):
    save_file(timm.create_model("test_vit").state_dict(), tmp_path / "w.safetensors")
    _, said = _load(f"timm:test_vit@{tmp_path}/w.safetensors")
    assert any("mean (0.5, 0.5, 0.5)" in line for line in said)
    assert not any("mean" in line for line in _load(f"timm:test_vit.r160_in1k@{tmp_path}/w.safetensors")[1])
    # Where published weights disagree the note says how to choose.
    save_file(timm.create_model("resnet18").state_dict(), tmp_path / "r.safetensors")
    assert "timm:resnet18.TAG@FILE" in _load(f"timm:resnet18@{tmp_path}/r.safetensors")[1][-1]


# -- layouts and sizes of other people's checkpoints -------------------------------------------------------------------


def test_dinov2s_own_checkpoint_loads(tmp_path):
    model = timm.create_model("vit_small_patch14_dinov2", num_classes=0, img_size=28)
    own = timm.create_model("vit_small_patch14_dinov2", num_classes=0)
    torch.save({**own.state_dict(), "mask_token": torch.zeros(1, 384)}, tmp_path / "d.pth")
    teacher, said = _load(f"timm:vit_small_patch14_dinov2.lvd142m@{tmp_path}/d.pth")
    assert (teacher.width, said) == (384, [])
    torch.save({**model.state_dict(), "mask_token": torch.zeros(1, 384)}, tmp_path / "small.pth")
    _, said = _load(f"timm:vit_small_patch14_dinov2.lvd142m@{tmp_path}/small.pth")
    assert "pos_embed (1, 5, 384) -> (1, 1370, 384)" in said[0]


def test_position_codes_of_another_picture_size_are_resized_and_said(tmp_path):
    big = timm.create_model("test_vit", img_size=224)
    save_file(big.state_dict(), tmp_path / "w.safetensors")
    teacher, said = _load(f"timm:test_vit.r160_in1k@{tmp_path}/w.safetensors")
    assert "pos_embed (1, 197, 64) -> (1, 101, 64)" in said[0]
    big.set_input_size(img_size=160)
    images = torch.linspace(-1, 1, 3 * 160 * 160).view(1, 3, 160, 160)
    with torch.no_grad():
        expected = big.eval().forward_head(big.forward_features(images), pre_logits=True)
    torch.testing.assert_close(teacher.token(images), expected, atol=1e-3, rtol=1e-3)


@pytest.mark.parametrize("file", ["open_clip_pytorch_model.bin", "open_clip_model.pt", "pytorch_model.bin"])
def test_open_clip_folders_with_torch_files(architecture, tmp_path, file):
    _, _, model = architecture
    folder = tmp_path / "folder"
    folder.mkdir()
    described = {"model_cfg": {**VIT, "quick_gelu": True}, "preprocess_cfg": {}}
    (folder / "open_clip_config.json").write_text(json.dumps(described))
    torch.save({"state_dict": {f"module.{k}": v for k, v in model.state_dict().items()}}, folder / file)
    teacher, said = _load(f"open_clip:{folder}")
    with torch.no_grad():
        torch.testing.assert_close(teacher.token(PICTURES), model.encode_image(PICTURES))
    assert "preprocess_cfg; assumed: mean (0.48145466" in said[0]


def test_an_open_clip_folder_on_the_hub_loads_from_the_cache(architecture, tmp_path, monkeypatch):
    _, _, model = architecture
    commit = "0123456789" * 4
    folder = tmp_path / "hub" / "models--org--tiny" / "snapshots" / commit
    folder.mkdir(parents=True)
    (folder.parents[1] / "refs").mkdir()
    (folder.parents[1] / "refs" / "main").write_text(commit)
    (folder / "open_clip_config.json").write_text(json.dumps({"model_cfg": {**VIT, "quick_gelu": True}}))
    torch.save(model.state_dict(), folder / "open_clip_pytorch_model.bin")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr("glom.hubs.reachable", lambda *_, **__: False)
    teacher, _ = _load("open_clip:hf-hub:org/tiny")
    with torch.no_grad():
        torch.testing.assert_close(teacher.token(PICTURES), model.encode_image(PICTURES))
    with pytest.raises(InputError, match="cannot be reached; give a local folder"):
        _load("open_clip:hf-hub:org/none")


# -- one's own classifier ----------------------------------------------------------------------------------------------

TEN = ["plane", "car", "ship", "cat", "deer", "dog", "frog", "horse", "bird", "truck"]


@pytest.fixture
def ten(tmp_path):
    """A timm classifier fine-tuned on ten classes, and its file."""
    torch.manual_seed(1)
    model = timm.create_model("test_vit", num_classes=10).eval()
    torch.nn.init.normal_(model.head.weight)
    save_file(model.state_dict(), tmp_path / "ten.safetensors")
    return model, f"timm:test_vit.r160_in1k@{tmp_path}/ten.safetensors"


def _run(data, teacher, tmp_path, names):
    (tmp_path / "names.txt").write_text("\n".join(names) + "\n")
    return prepare(TTTRun(data=str(data), teacher=teacher, ttt=settings_for(teacher), classes=f"{tmp_path}/names.txt"))


def test_a_classifiers_rows_take_the_names_of_a_file(ten, tmp_path, image_folder):
    model, name = ten
    # The folders are two of the ten; the file names all, in the order of the rows.
    ready = _run(image_folder, name, tmp_path, TEN)
    assert ready.head.classes == tuple(TEN)
    assert {s.id.split("/")[0]: s.label for s in ready.dataset} == {"cat": 3, "ship": 2}
    images = torch.stack([ready.teacher.preprocess(sample.image()) for sample in ready.dataset])
    with torch.no_grad():
        expected = model(images)
    torch.testing.assert_close(ready.head(ready.teacher.token(images)), expected, atol=1e-3, rtol=1e-3)


def test_a_classifier_of_as_many_classes_as_folders_in_another_order(tmp_path, image_folder):
    torch.manual_seed(1)
    model = timm.create_model("test_vit", num_classes=2).eval()
    save_file(model.state_dict(), tmp_path / "two.safetensors")
    ready = _run(image_folder, f"timm:test_vit.r160_in1k@{tmp_path}/two.safetensors", tmp_path, ["ship", "cat"])
    assert ready.head.classes == ready.dataset.classes == ("ship", "cat")
    assert [s.label for s in ready.dataset] == [0 if "ship" in s.id else 1 for s in ready.dataset]
    torch.testing.assert_close(ready.head.weights, model.head.weight.detach())


def test_a_wrong_number_of_names_is_one_line(ten, tmp_path, image_folder):
    with pytest.raises(InputError, match=r"9 class names, but the classifier of .* has 10 rows"):
        _run(image_folder, ten[1], tmp_path, TEN[:9])
    with pytest.raises(InputError, match=r"10 rows without names; give them .*`classes` FILE"):
        prepare(TTTRun(data=str(image_folder), teacher=ten[1], ttt=settings_for(ten[1])))
    with pytest.raises(InputError, match="cat"):
        _run(image_folder, ten[1], tmp_path, ["kitty" if n == "cat" else n for n in TEN])
    # Names that are known are not replaced.
    with pytest.raises(InputError, match="no classifier whose rows could be named"):
        load_teacher("glom-tiny", "cpu").name_classes(TEN)


def test_a_thousand_rows_are_said_to_be_taken_for_imagenets(tmp_path):
    save_file(timm.create_model("test_vit").state_dict(), tmp_path / "w.safetensors")
    assert "taken for ImageNet's classes" in _load(f"timm:test_vit.r160_in1k@{tmp_path}/w.safetensors")[1][0]


def test_what_was_assumed_is_one_line_and_in_the_manifest(tmp_path, image_folder, capsys):
    from cli import app

    save_file(timm.create_model("test_vit").state_dict(), tmp_path / "w.safetensors")
    picture = next(image_folder.rglob("*.png"))
    out = tmp_path / "out"
    name = f"timm:test_vit@{tmp_path}/w.safetensors"
    assert guard(app, ["fold", str(picture), "--teacher", name, "--iterations", "1", "--out", str(out)]) == 0
    lines = [line for line in capsys.readouterr().err.splitlines() if "does not say its preprocessing" in line]
    assert len(lines) == 1
    assert any("does not say its preprocessing" in note for note in read_json(out / "manifest.json")["notices"])
