"""Class names, templates, class embeddings, and picking a classifier's rows by name."""

import open_clip
import pytest
import torch

from glom.errors import InputError
from glom.teachers.zero_shot import (
    choose_templates,
    class_embeddings,
    imagenet_classes,
    imagenet_templates,
    read_class_file,
    read_templates,
    select_rows,
    simple_templates,
)


def test_imagenet_names_and_templates_are_open_clips():
    assert len(imagenet_classes()) == 1000
    assert imagenet_classes()[0] == "tench"
    assert len(imagenet_templates()) == 80
    assert len(simple_templates()) == 7
    for ours, theirs in zip(imagenet_templates(), open_clip.OPENAI_IMAGENET_TEMPLATES, strict=True):
        assert ours.replace("{}", "dog") == theirs("dog")


def test_class_embeddings_equal_open_clips_on_a_random_clip():
    torch.manual_seed(0)
    vision = {"image_size": 32, "layers": 1, "width": 32, "head_width": 16, "patch_size": 16}
    text = {"context_length": 16, "vocab_size": 49408, "width": 32, "heads": 2, "layers": 2}
    model = open_clip.CLIP(embed_dim=24, vision_cfg=vision, text_cfg=text).eval()
    tokenizer = open_clip.SimpleTokenizer(context_length=16)
    classes, templates = ["cat", "small dog", "fire engine", "tench", "ship"], simple_templates()
    theirs = open_clip.build_zero_shot_classifier(model, tokenizer, classes, templates, num_classes_per_batch=2)

    def encode(sentences: list[str]) -> torch.Tensor:
        with torch.no_grad():
            return model.encode_text(tokenizer(sentences))

    for batch_size in (1, 4, 256):
        ours = class_embeddings(encode, classes, templates, batch_size)
        torch.testing.assert_close(ours, theirs.T, atol=1e-5, rtol=0)
    torch.testing.assert_close(ours.norm(dim=-1), torch.ones(5))


@pytest.mark.parametrize(
    ("classes", "templates", "match"),
    [
        ([], ["a {}"], "at least one name"),
        (["a", "b", "a"], ["a {}"], "'a' 2 times"),
        (["a", " "], ["a {}"], "class 1 of 2 has an empty name"),
        (["a"], [], "at least one sentence"),
        (["a"], ["a photo"], "must have one {}"),
        (["a"], ["a {} {}"], "must have one {}"),
        (["a"], "a photo of a {}.", "must be a list"),
    ],
)
def test_faulty_classes_and_templates(classes, templates, match):
    with pytest.raises(InputError, match=match):
        class_embeddings(lambda s: torch.ones(len(s), 2), classes, templates)


def test_a_text_encoder_that_returns_nan_is_refused():
    with pytest.raises(InputError, match="NaN"):
        class_embeddings(lambda s: torch.full((len(s), 2), float("nan")), ["a"], ["{}"])


def test_imagenets_own_repeated_names_are_allowed():
    assert class_embeddings(lambda s: torch.ones(len(s), 2), imagenet_classes(), ["{}"]).shape == (1000, 2)


def test_class_files(tmp_path):
    path = tmp_path / "classes.txt"
    path.write_text("\ufeffcat\n\n  hot dog \nship\n", encoding="utf-8")
    assert read_class_file(path) == ("cat", "hot dog", "ship")
    path.write_text("1\tn02\tdog\n0\tn01\tcat, big\n")
    assert read_class_file(path) == ("cat, big", "dog")
    path.write_text("n02\tdog\nn01\tcat\n")
    assert read_class_file(path) == ("dog", "cat")
    for content, match in (
        ("0\ta\n2\tb\n", "count the classes"),
        ("0\ta\nb\n", "columns"),
        ("\n", "no names in it"),
    ):
        path.write_text(content)
        with pytest.raises(InputError, match=match):
            read_class_file(path)
    path.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(InputError, match="not UTF-8"):
        read_class_file(path)
    with pytest.raises(InputError, match="no such file"):
        read_class_file(tmp_path / "gone.txt")


def test_template_files(tmp_path):
    path = tmp_path / "templates.txt"
    path.write_text("a {}.\nthe {}\n")
    assert read_templates(path) == ("a {}.", "the {}")
    path.write_text("a {}.\nthe\n")
    with pytest.raises(InputError, match="'the' must have one"):
        read_templates(path)


def test_templates_by_name_or_file(tmp_path):
    assert [len(choose_templates(name)) for name in ("photo", "simple", "imagenet")] == [1, 7, 80]
    (tmp_path / "own").write_text("my {}\n")
    assert choose_templates(str(tmp_path / "own")) == ("my {}",)
    with pytest.raises(InputError, match="unknown templates 'simpel'; did you mean simple"):
        choose_templates("simpel")
    with pytest.raises(InputError, match="cannot read the template file"):
        choose_templates("gone.txt")


def test_rows_by_name():
    known = ("tench", "Goldfish", "great_white shark")
    assert select_rows(known, known) == [0, 1, 2]
    assert select_rows(["Great White Shark", "tench"], known) == [2, 0]
    with pytest.raises(InputError, match=r"unknown class 'goldfisch'; did you mean Goldfish"):
        select_rows(["goldfisch"], known)
    with pytest.raises(InputError, match="'tench' 2 times"):
        select_rows(["tench", "tench"], known)
    with pytest.raises(InputError, match="'tench' more than once"):
        select_rows(["Tench", "tench"], known)
    with pytest.raises(InputError, match="ambiguous"):
        select_rows(["crane"], ["crane", "dog", "crane"])


def test_a_thousand_names_are_taken_by_position_where_they_are_imagenets_in_order():
    known = imagenet_classes()
    assert select_rows(known, known) == list(range(1000))
    spelled = [f"{name}, another name" if i % 3 == 0 else name for i, name in enumerate(known)]
    spelled[134], spelled[517] = "crane", "crane"
    assert select_rows(spelled, known) == list(range(1000))
    with pytest.raises(InputError, match="standard order"):
        select_rows(spelled[500:] + spelled[:500], known)
    unique = [f"class {i}" for i in range(1000)]
    assert select_rows(unique[::-1], unique) == list(range(999, -1, -1))


def test_descriptions_are_each_classs_own_sentences(tmp_path):
    (tmp_path / "cupl.json").write_text(
        '{"Cat": ["It purrs.", "It has whiskers."], "dog": ["It barks."], "cow": ["Moo."]}'
    )
    generator = torch.Generator().manual_seed(0)
    known = {text: torch.randn(4, generator=generator) for text in ("It purrs.", "It has whiskers.", "It barks.")}

    def encode(sentences: list[str]) -> torch.Tensor:
        return torch.stack([known[sentence] for sentence in sentences])

    said = choose_templates(str(tmp_path / "cupl.json"))
    for batch_size in (1, 2, 256):
        found = class_embeddings(encode, ["dog", "cat"], said, batch_size)
        cat = sum(torch.nn.functional.normalize(known[x], dim=0) for x in ("It purrs.", "It has whiskers."))
        own = torch.stack([known["It barks."], cat])
        torch.testing.assert_close(found, torch.nn.functional.normalize(own, dim=-1))
    with pytest.raises(InputError, match=r"described class 'cats'; did you mean Cat.*1 of 1 have no description"):
        class_embeddings(encode, ["cats"], said)


@pytest.mark.parametrize(
    ("text", "match"),
    [
        ("{", "is not JSON"),
        ('["a"]', "must be of the form"),
        ("{}", "must be of the form"),
        ('{"cat": []}', "no list of sentences for 'cat'"),
        ('{"cat": ["a", 3]}', "no list of sentences for 'cat'"),
        ("", "is empty"),
    ],
)
def test_faulty_descriptions(tmp_path, text, match):
    (tmp_path / "x.json").write_text(text)
    with pytest.raises(InputError, match=match):
        choose_templates(str(tmp_path / "x.json"))
