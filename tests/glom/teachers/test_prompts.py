"""Sentences with vectors for words: with the words' own they are the plain sentences, on every kind of CLIP."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from glom.datasets.classes import imagenet_names
from glom.errors import InputError
from glom.methods import Task, make_method
from glom.teachers.prompts import PromptedText
from glom.teachers.registry import load_teacher
from tests.conftest import make_image
from tests.glom.teachers.test_teachers import _save_clip, _save_siglip

CLASSES = ("cat", "dog", "ship")


@pytest.fixture(scope="module")
def teacher():
    return load_teacher("glom-tiny", "cpu")


def test_the_words_own_embeddings_give_the_plain_sentence(teacher):
    prompt = PromptedText(teacher, CLASSES, "a photo of a")
    assert (prompt.length, prompt.width) == (4, 64)
    plain = teacher.encode_text([f"a photo of a {name}." for name in CLASSES])
    torch.testing.assert_close(prompt(prompt.initial), plain, atol=1e-5, rtol=1e-5)
    moved = prompt.initial + torch.randn(4, 64, generator=torch.Generator().manual_seed(0))
    both = prompt(torch.stack([prompt.initial, moved]))
    torch.testing.assert_close(both[0], plain, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(both[1], prompt(moved), atol=1e-5, rtol=1e-5)
    assert not torch.allclose(both[1], plain, atol=1e-3)
    # The hook is gone: sentences are sentences again.
    torch.testing.assert_close(teacher.encode_text([f"a photo of a {CLASSES[0]}."]), plain[:1], atol=1e-6, rtol=1e-6)


def test_a_drawn_context_has_as_many_vectors_as_asked(teacher):
    generator = torch.Generator().manual_seed(0)
    prompt = PromptedText(teacher, CLASSES, 5, generator)
    assert prompt.initial.shape == (5, 64)
    context = prompt.initial.clone().requires_grad_()
    prompt(context).sum().backward()
    assert context.grad is not None
    assert bool((context.grad.abs().sum(1) > 0).all())


def test_a_prompt_that_does_not_fit_is_refused(teacher):
    with pytest.raises(InputError, match="exceed its length"):
        PromptedText(teacher, CLASSES, 40)
    with pytest.raises(InputError, match="at least one context vector"):
        PromptedText(teacher, CLASSES, 0)
    with pytest.raises(InputError, match="text encoder"):
        PromptedText(load_teacher("timm:test_vit@random", "cpu"), CLASSES)


@pytest.mark.parametrize("name", ["open_clip:ViT-B-32@random", "open_clip:ViT-B-16-SigLIP@random"])
def test_prompts_work_on_open_clips_two_kinds(name):
    try:
        other = load_teacher(name, "cpu")
        plain = other.encode_text(["a photo of a cat.", "a photo of a dog."])
    except InputError as error:
        pytest.skip(str(error))  # a tokenizer from a hub that is out of reach
    prompt = PromptedText(other, ("cat", "dog"))
    torch.testing.assert_close(prompt(prompt.initial), plain, atol=1e-4, rtol=1e-4)


# -- transformers ------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def clip(tmp_path_factory):
    """A small CLIP with random weights; its tokenizer reads letters, its sentences have 32 places."""
    folder = tmp_path_factory.mktemp("hf") / "clip"
    _save_clip(folder)
    return load_teacher(f"hf:{folder}", "cpu")


def test_prompts_work_on_transformers_clip(clip):
    plain = clip.encode_text([f"a photo of a {name}." for name in CLASSES])
    prompt = PromptedText(clip, CLASSES)
    assert prompt.length == 9  # letters are its words
    torch.testing.assert_close(prompt(prompt.initial), plain, atol=1e-5, rtol=1e-5)
    moved = torch.randn(9, prompt.width, generator=torch.Generator().manual_seed(0)).requires_grad_()
    both = prompt(torch.stack([prompt.initial, moved]))
    torch.testing.assert_close(both[0], plain, atol=1e-5, rtol=1e-5)
    assert not torch.allclose(both[1], plain, atol=1e-3)
    both[1].square().sum().backward()
    assert moved.grad is not None and bool((moved.grad.abs().sum(1) > 0).all())
    found = make_method("tpt", Task(clip, CLASSES, torch.device("cpu")), False).predict(make_image(1), 0)
    assert found.shape == (3,) and bool(found.isfinite().all())


def test_prompts_work_on_transformers_siglip(tmp_path: Path):
    _save_siglip(tmp_path / "siglip")
    other = load_teacher(f"hf:{tmp_path / 'siglip'}", "cpu")
    prompt = PromptedText(other, ("cat", "dog"))
    plain = other.encode_text(["a photo of a cat.", "a photo of a dog."])
    torch.testing.assert_close(prompt(prompt.initial), plain, atol=1e-5, rtol=1e-5)
    with pytest.raises(InputError, match="class name 'cat cat cat cat'"):  # eight places
        PromptedText(other, ("cat", "dog", "cat cat cat cat"))


# -- names -------------------------------------------------------------------------------------------------------------


def test_imagenets_own_names_repeat_and_are_taken(teacher):
    names = imagenet_names()
    assert len(set(names)) < len(names) == 1000
    prompt = PromptedText(teacher, names)
    plain = teacher.encode_text([f"a photo of a {name}." for name in names])
    torch.testing.assert_close(prompt(prompt.initial), plain, atol=1e-5, rtol=1e-5)
    task = Task(teacher, names, torch.device("cpu"))
    for name in ("tpt", "coop", "cocoop", "tpt+coop"):
        assert len(make_method(name, task, True).prompt.sentences) == 1000


def test_a_name_that_is_cut_off_is_told_and_one_that_just_fits_is_not(teacher, clip):
    # One place each for the beginning and the end of a text, nine for 'a photo of a', one for the full stop.
    fits, cut = "x" * 20, "y" * 21
    prompt = PromptedText(clip, ("cat", fits))
    plain = clip.encode_text(["a photo of a cat.", f"a photo of a {fits}."])
    torch.testing.assert_close(prompt(prompt.initial), plain, atol=1e-5, rtol=1e-5)
    with pytest.raises(InputError, match=f"9 context vectors and the class name '{cut}' exceed its text length"):
        PromptedText(clip, ("cat", fits, cut))
    with pytest.raises(InputError, match=rf"'{cut}' \(and 1 more\) exceed"):
        PromptedText(clip, ("cat", cut, "z" * 40))
    # Names that differ before the cut have different ids all the same; those of ImageNet need at most 13 places.
    PromptedText(teacher, imagenet_names(), 16)
    with pytest.raises(InputError, match=r"20 context vectors and the class name 'Mexican hairless dog"):
        PromptedText(teacher, imagenet_names(), 20)
