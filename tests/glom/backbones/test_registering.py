"""A family of backbones is one function and one decorator, as one of teachers is."""

import pytest

import glom
from glom.backbones.registry import BACKBONES
from glom.errors import InputError


@pytest.fixture(autouse=True)
def _mine():
    yield
    BACKBONES.forget("mine")


def test_a_backbone_family_is_one_decorator():
    asked = []

    @glom.register_backbone("mine", "my own video model")
    def load(name, model, weights, device):
        asked.append((name, model, weights, str(device)))
        return glom.load_backbone("timm:test_vit@random", device="cpu")

    assert not glom.load_backbone("mine:small@w.safetensors", device="cpu").video
    glom.load_backbone("mine:small", device="cpu")
    assert asked == [
        ("mine:small@w.safetensors", "small", "w.safetensors", "cpu"),
        ("mine:small", "small", None, "cpu"),
    ]
    with pytest.raises(InputError, match="did you mean mine"):
        glom.load_backbone("main:small")
    for family, match in (
        ("mine", "registered already"),
        ("torchvision", "registered already"),
        ("timm", "its models are backbones as well"),
        ("No name", "cannot name"),
    ):
        with pytest.raises(InputError, match=match):
            glom.register_backbone(family, "again")(load)


def test_the_families_here_are_found_by_their_decorators():
    assert {"torchvision", "pytorchvideo", "hf", "hf-random"} <= set(BACKBONES.known())
    assert all(what and callable(BACKBONES[family]) for family, what in BACKBONES.known().items())
