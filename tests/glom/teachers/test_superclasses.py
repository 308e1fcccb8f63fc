"""A classifier's classes gathered into superclasses: the head, the tables, and what cannot be named."""

import pytest
import torch
from PIL import Image

from glom.datasets.classes import imagenet_wnids
from glom.datasets.registry import open_dataset
from glom.errors import InputError
from glom.runs.notices import listening
from glom.teachers.align import aligned_head, gathered, nameable
from glom.teachers.heads import ZeroShotHead
from glom.teachers.registry import load_teacher
from glom.teachers.superclasses import read_superclasses, superclass_head
from glom.teachers.zero_shot import imagenet_classes

TEACHER = "timm:test_efficientnet@random"
PACS = ("dog", "elephant", "giraffe", "guitar", "horse", "house", "person")


@pytest.fixture(scope="module")
def teacher():
    return load_teacher(TEACHER, device="cpu")


@pytest.fixture
def pacs(tmp_path):
    """Seven classes of two pictures each."""
    for n, name in enumerate(PACS):
        (tmp_path / "pacs" / name).mkdir(parents=True)
        for m in range(2):
            Image.new("RGB", (40, 40), (30 * n, 100 * m, 90)).save(tmp_path / "pacs" / name / f"{m}.png")
    return tmp_path / "pacs"


def test_a_superclass_has_the_mean_probability_of_its_members_whatever_their_number():
    generator = torch.Generator().manual_seed(0)
    rows = ZeroShotHead(tuple("abcdef"), torch.randn(6, 3, generator=generator), bias=torch.randn(6), normalize=False)
    head = superclass_head(rows, {"one": [4], "two": [0, 5, 2], "three": [1, 3]})
    tokens = torch.randn(5, 4, 3, generator=generator, requires_grad=True)
    p = rows(tokens).softmax(-1)
    mean = torch.stack([p[..., 4], p[..., [0, 5, 2]].mean(-1), p[..., [1, 3]].mean(-1)], -1)
    torch.testing.assert_close(head(tokens).exp(), mean)
    torch.testing.assert_close(head(tokens).softmax(-1), mean / mean.sum(-1, keepdim=True))
    some = head.take(["three", "one"], [2, 0])
    torch.testing.assert_close(some(tokens), head(tokens)[..., [2, 0]])
    (gradient,) = torch.autograd.grad(head(tokens)[..., 1].sum(), tokens, retain_graph=True)
    (by_hand,) = torch.autograd.grad(mean[..., 1].log().sum(), tokens)
    torch.testing.assert_close(gradient, by_hand)


def test_classes_next_to_impossible_keep_finite_scores_and_gradients():
    head = superclass_head(ZeroShotHead(("a", "b", "c"), torch.eye(3), 1e4, normalize=False), {"x": [0], "y": [1, 2]})
    token = torch.tensor([1.0, 0.0, -1.0], requires_grad=True)
    logits = head(token)
    logits[1].backward()
    assert logits[1] < -9_000 and torch.isfinite(logits).all() and torch.isfinite(token.grad).all()


def test_the_tables_that_ship():
    pacs, geirhos = read_superclasses("pacs"), read_superclasses("geirhos16")
    assert pacs.members["dog"] == tuple(range(151, 269)) and pacs.members["elephant"] == (101, 385, 386)
    assert set(pacs.names) == {"dog", "elephant", "guitar", "horse"}
    assert len(geirhos.names) == 16 and sum(map(len, geirhos.members.values())) == 207
    caltech, known = read_superclasses("caltech101"), imagenet_classes()
    assert len(caltech.names) == 44 and caltech.members["butterfly"] == tuple(range(321, 327))
    for name in ("accordion", "cannon", "electric_guitar", "pizza", "trilobite"):
        assert [known[n] for n in caltech.members[name]] == [name.replace("_", " ")]


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("x.tsv", "# a remark\nindex\tsuperclass\n7\tbird\n8\tbird\n151\tdog\n"),
        ("x.csv", "{7},bird\n8,bird\n{151},dog\n"),
        ("x.csv", "index;wnid;superclass\n7;{7};bird\n8;;bird\n;{151};dog\n"),
    ],
)
def test_a_table_by_index_or_by_wnid(tmp_path, name, text):
    wnids = {f"{{{n}}}": imagenet_wnids()[n] for n in (7, 151)}
    for place, wnid in wnids.items():
        text = text.replace(place, wnid)
    (tmp_path / name).write_text(text)
    found = read_superclasses(str(tmp_path / name))
    assert dict(found.members) == {"bird": (7, 8), "dog": (151,)} and found.name == name


@pytest.mark.parametrize(
    ("text", "match"),
    [
        ("7\tbird\n1000\tdog\n", r"line 2: ImageNet has no class 1000 \(its indices are 0 to 999\)"),
        ("n00000001\tbird\n", "line 1: ImageNet has no class n00000001"),
        ("7\tbird\nhen\tbird\n", "line 2: 'hen' is neither an index nor a WNID"),
        ("7\tbird\n7\tdog\n", "line 2: ImageNet's class 7 is in 'bird' and in 'dog'"),
        ("7\tbird\n7\tbird\n", "line 2: ImageNet's class 7 is in 'bird' twice"),
        ("7\tbird\n\tdog\n", "line 2: superclass 'dog' has no member"),
        ("7\tbird\n8\t\n", "line 2: it names no superclass"),
        ("7\tn01440764\tbird\n", "line 1: its index and WNID differ"),
        ("# nothing\n", "no superclasses in it"),
        ("", "no names in it"),
    ],
)
def test_a_faulty_table_is_refused_by_its_line(tmp_path, text, match):
    (tmp_path / "x.tsv").write_text(text)
    with pytest.raises(InputError, match=match):
        read_superclasses(str(tmp_path / "x.tsv"))


def test_a_table_of_no_name():
    with pytest.raises(InputError, match="unknown superclasses 'geirhos'; did you mean geirhos16"):
        read_superclasses("geirhos")


def test_a_gathered_teacher_answers_in_superclasses_and_is_otherwise_itself(teacher, pacs):
    few = gathered(teacher, "pacs")
    assert few.classes == read_superclasses("pacs").names and teacher.superclasses is None
    assert few.fingerprint == teacher.fingerprint
    dataset = nameable(open_dataset(str(pacs)), few, True)
    head = aligned_head(few, dataset)
    token = teacher.token(torch.stack([teacher.preprocess(dataset[0].image())]))
    p = teacher.zero_shot_head(teacher.classes)(token).softmax(-1)[0]
    assert head.classes == dataset.classes == ("dog", "elephant", "guitar", "horse")
    by_hand = torch.stack([p[151:269].mean(), p[[101, 385, 386]].mean(), p[[402, 546]].mean(), p[339]])
    torch.testing.assert_close(head(token)[0].exp(), by_hand)


def test_what_cannot_be_named_is_refused_or_left_out_and_counted(teacher, pacs, tmp_path):
    dataset, few, said = open_dataset(str(pacs)), gathered(teacher, "pacs"), []
    with pytest.raises(InputError, match=r"do not name 3 of its 7 classes \(giraffe, house, person\); `nameable`"):
        nameable(dataset, few, False)
    with listening(said.append):
        kept = nameable(dataset, few, True)
    assert [(s.id.split("/")[0], kept.classes[s.label]) for s in kept] == [
        (name, name) for name in ("dog", "elephant", "guitar", "horse") for _ in range(2)
    ]
    assert len(said) == 1 and "3 of its 7 classes (giraffe, house, person) left out with 6 pictures" in said[0]
    (tmp_path / "x.tsv").write_text("7\tbird\n")
    with pytest.raises(InputError, match="name none of its 7 classes"):
        nameable(dataset, gathered(teacher, str(tmp_path / "x.tsv")), True)


def test_a_text_encoder_reads_the_names_and_the_table_says_what_is_kept(pacs):
    clip = gathered(load_teacher("glom-tiny", device="cpu"), "pacs")
    dataset = open_dataset(str(pacs))
    assert aligned_head(clip, nameable(dataset, clip, False)).classes == PACS
    assert nameable(dataset, clip, True).classes == ("dog", "elephant", "guitar", "horse")


def test_only_imagenets_classes_can_be_gathered(teacher):
    other = gathered(teacher, "pacs")
    with pytest.raises(InputError, match="superclasses gather ImageNet's 1,000 classes"):
        gathered(other, "pacs")
