"""The episodic methods: their releases' numbers on the same features, two teachers, two steps, what is made once.

Where numbers are written out, they are what the released function gave for these very features.
"""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor, nn

from glom.datasets.base import ImageDataset, Sample
from glom.datasets.sources import FileSource
from glom.errors import InputError, RunError
from glom.masked.parts import load_masked
from glom.methods import METHODS, Task, make_method, method_class
from glom.methods.base import kind_of
from glom.methods.c_tpt import CTPT, CTPTSettings
from glom.methods.mta import MTA, MTASettings, seek_mode
from glom.methods.rlcf import RLCF, RLCFSettings, policy_loss, reward
from glom.methods.tower import Tower
from glom.methods.tps import TPS
from glom.methods.tuned import TPT
from glom.methods.views import ViewCache
from glom.methods.zero2 import Zero2
from glom.teachers.heads import ZeroShotHead
from glom.teachers.registry import load_teacher
from tests.conftest import make_image

CLASSES = ("cat", "dog", "ship")
MASKED = ("fine-tune", "joint-train", "ttt-mae", "vit-probe")  # know the classes they were trained on


@pytest.fixture(scope="module")
def teacher():
    return load_teacher("glom-tiny", "cpu")


@pytest.fixture(scope="module")
def stronger():
    """Another teacher of the same classes: the same network, its tokens in other places."""
    other = load_teacher("glom-tiny", "cpu")
    other.__dict__["fingerprint"] = "another"
    return other


@pytest.fixture
def task(teacher, stronger) -> Task:
    return Task(teacher, CLASSES, torch.device("cpu"), second=stronger)


@pytest.fixture(scope="module")
def classifier():
    return load_teacher("timm:test_vit@random", "cpu")


def drawn(seed: int, width: int = 32, spread: float = 0.3) -> tuple[Tensor, Tensor]:
    """Seven classes' features, (7, width) of length one, and 64 views near them."""
    generator = torch.Generator().manual_seed(seed)
    centre = torch.randn(width, generator=generator)
    weights = F.normalize(centre + 0.6 * torch.randn(7, width, generator=generator), dim=-1)
    views = weights[torch.randint(7, (64,), generator=generator)] + spread * torch.randn(64, width, generator=generator)
    return weights, views


def head(weights: Tensor, scale: float) -> ZeroShotHead:
    return ZeroShotHead(tuple("abcdefg"), weights, scale)


def close(found: Tensor, expected: list[float]) -> None:
    torch.testing.assert_close(found, torch.tensor(expected), atol=1e-5, rtol=1e-5)


# -- one teacher ---------------------------------------------------------------------------------------------------


MTA_RELEASED = {
    0: [43.44943619, 59.45671082, 31.07599068, 65.86284637, 44.29222870, 40.25879669, 49.45160294],
    1: [37.34848404, 33.53596878, 41.98785019, 55.02814102, 35.82492828, 28.33656311, 30.17686653],
}


@pytest.mark.parametrize("seed", MTA_RELEASED)
def test_mta_gives_its_releases_scores(seed):
    weights, views = drawn(seed)
    views = F.normalize(views, dim=-1)
    own = head(weights, 100.0)
    mode, inlier = seek_mode(views, own(views).softmax(-1), MTASettings())
    close(own(mode[None])[0], MTA_RELEASED[seed])
    assert float(inlier.sum()) == pytest.approx(1) and float(mode.norm()) == pytest.approx(1)


def test_mta_listens_less_to_outliers_and_needs_no_spread(task):
    weights, views = drawn(0)
    views = F.normalize(weights[:1] + 0.05 * views, dim=-1)
    views[1:9] = -views[1:9]
    _, inlier = seek_mode(views, head(weights, 10.0)(views).softmax(-1), MTASettings())
    assert float(inlier[1:9].max()) < float(inlier[9:].min())
    same = views[:1].expand(64, -1)  # where all views are one picture, the mode is that picture
    mode, inlier = seek_mode(same, head(weights, 10.0)(same).softmax(-1), MTASettings())
    torch.testing.assert_close(mode, views[0])
    torch.testing.assert_close(inlier, torch.full((64,), 1 / 64))
    alone = MTA(MTASettings(views=1))
    alone.prepare(task)
    plain = make_method("zero-shot", task, False).predict(make_image(1), 0)
    torch.testing.assert_close(alone.predict(make_image(1), 0), plain, atol=1e-4, rtol=1e-5)


TPS_RELEASED = [0.62566054, 2.11140537, 0.07276154, 3.24695301, 1.81612206, 2.68096256, 1.25422239]


def test_tps_gives_its_releases_scores():
    weights, views = drawn(0, spread=0.6)
    method = TPS()
    method.head, method.task = head(weights, 10.0), SimpleNamespace(view_tokens=lambda *_: views)
    close(method.predict(None, 0), TPS_RELEASED)
    assert torch.equal(method.predict(None, 0), method.predict(None, 0))  # nothing is carried over
    assert not torch.allclose(method.predict(None, 0), method.head(views[:1])[0], atol=0.01)  # the step acts


def test_c_tpts_step_is_the_releases(task, monkeypatch):
    """TPT's entropy less 50 times the mean distance of the classes' normalised features from their mean."""
    tokens = torch.randn(64, task.teacher.width, generator=torch.Generator().manual_seed(3))
    monkeypatch.setattr(Task, "view_tokens", lambda *_: tokens)
    method = CTPT()
    method.prepare(task)
    found, _, [loss] = method.tune(make_image(0), 0)
    context = method.prompt.initial.clone().requires_grad_()
    texts = F.normalize(method.prompt(context), dim=-1)
    logits = task.teacher.scale * F.normalize(tokens, dim=-1) @ texts.T
    kept = logits[(-(logits.softmax(1) * logits.log_softmax(1)).sum(1)).argsort()[:6]]
    average = (kept - kept.logsumexp(-1, keepdim=True)).logsumexp(0) - math.log(6)
    apart = torch.linalg.norm(texts - texts.mean(0), dim=-1).mean()
    expected = -(average * average.exp()).sum() - 50 * apart
    expected.backward()
    assert loss == pytest.approx(float(expected.detach()), abs=1e-5)
    assert context.grad is not None
    after = context.detach() * (1 - 0.005 * 0.01) - 0.005 * context.grad / (context.grad.abs() + 1e-8)
    torch.testing.assert_close(found, after, atol=1e-5, rtol=1e-5)
    plain = TPT()
    plain.prepare(task)
    assert not torch.equal(plain.tune(make_image(0), 0)[0], found)


def wnids(name: str) -> ImageDataset:
    one = Sample("a", 0, FileSource(Path("a.png")))
    return ImageDataset(name, (one,), ("tench", "goldfish", "shark"), keys=("n01440764", "n01443537", "n01484850"))


def test_c_tpt_weighs_dispersion_by_the_kind_of_data(task):
    for data, weight in ((None, 50), (wnids("imagenet-r"), 20), (wnids("imagenet"), 20)):
        made = make_method("c-tpt", replace(task, dataset=data, classes=data.classes if data else CLASSES), False)
        assert made.settings.dispersion == weight
    given = CTPT(CTPTSettings(dispersion=7))
    given.prepare(replace(task, dataset=wnids("imagenet"), classes=("tench", "goldfish", "shark")))
    assert given.settings.dispersion == 7


def test_zero_with_an_ensemble_is_the_vote_of_the_other_head(task):
    image = make_image(2)
    plain, named, composed = (make_method(n, task, False) for n in ("zero", "zero+ensemble", "ensemble+zero"))
    assert torch.equal(named.head.weights, make_method("ensemble", task, False).head.weights)
    assert not torch.equal(plain.head.weights, named.head.weights)
    for seed in range(5):
        assert torch.equal(named.predict(image, seed), composed.predict(image, seed))


# -- two teachers --------------------------------------------------------------------------------------------------


def zero2_released(first: Tensor, second: Tensor) -> tuple[int, Tensor]:
    """The first teacher's surest 0.3 of views, the second one's vote on these; a tie: the first's other views.

    The answer, and the votes as the release gives them.
    """
    p = first.softmax(1)
    order = (-(p * p.log()).sum(1)).argsort()
    votes = (second[order[:19]] / torch.finfo(second.dtype).eps).softmax(1).sum(0)
    tied = (votes == votes.max()).nonzero().flatten().tolist()
    won = tied[0] if len(tied) == 1 else next(v for v in first[order[19:]].argmax(1).tolist() if v in tied)
    votes[won] += len(tied) > 1
    return won, votes


def test_zero_with_two_teachers_votes_as_its_release_does():
    ties = 0
    for seed in range(100):
        weights, views = drawn(seed, spread=0.9)
        weights2, views2 = drawn(1000 + seed, 24, 0.9)
        method = Zero2()
        method.head, method.second_head = head(weights, 100.0), head(weights2, 55.0)
        method.task = SimpleNamespace(view_tokens=lambda *_, views=views: views)
        method.second = SimpleNamespace(view_tokens=lambda *x, views=views2: views[list(x[3])])
        found = method.predict(None, 0)
        won, votes = zero2_released(method.head(views), F.normalize(views2, dim=-1) @ weights2.T)
        assert int(found.argmax()) == won
        torch.testing.assert_close(found.softmax(-1), votes / votes.sum())
        ties += int(votes.sum()) == 20
    assert ties > 3


RLCF_RELEASED = [19.65059853, 28.19102097, 17.82967567, 43.68136215, 35.47585678, 43.47797394, 27.22294807]


def test_rlcf_gives_its_releases_scores_and_puts_its_tower_back():
    """A tower of one matrix, three steps of AdamW at 0.001."""
    weights, views = drawn(0)
    weights2, views2 = drawn(1000, 24)
    start = torch.eye(32) + 0.05 * torch.randn(32, 32, generator=torch.Generator().manual_seed(7))
    model = nn.Module()
    model.matrix = nn.Parameter(start.clone())
    own = SimpleNamespace(model=model, token_with_grad=lambda x: x @ model.matrix)
    method = RLCF(RLCFSettings(lr=1e-3))
    method.head, method.second_head, method.tower = head(weights, 100.0), head(weights2, 55.0), Tower(own)
    method.task = SimpleNamespace(
        teacher=own,
        view_tokens=lambda *_: views @ start,
        view_pictures=lambda *x: views[list(x[3])],
        read=lambda _: views[:1],
    )
    method.second = SimpleNamespace(view_tokens=lambda *x: views2[list(x[3])])
    close(method.predict(None, 0), RLCF_RELEASED)
    assert torch.equal(model.matrix, start) and model.matrix.grad is None and not model.matrix.requires_grad


def test_rewards_are_clip_scores_less_their_mean_over_the_sampled_classes():
    weights, views = drawn(0)
    own = replace(head(weights, 30.0), bias=torch.full((7,), -10.0))  # a sigmoid's bias is no part of a cosine
    cosines = F.normalize(views, dim=-1) @ weights.T
    torch.testing.assert_close(reward(own, views), (2.5 * cosines).clamp_min(0), atol=1e-5, rtol=1e-5)
    rows = ZeroShotHead(tuple("abcdefg"), weights, normalize=False)
    torch.testing.assert_close(reward(rows, views), 2.5 * rows(views).softmax(-1))
    logits = torch.tensor([[2.0, 1.0, 0.0]])
    praised = policy_loss(logits, torch.tensor([[0.5, 0.1, 9.0]]), 2)
    expected = -(0.2 * logits.log_softmax(-1)[0, 0] - 0.2 * logits.log_softmax(-1)[0, 1]) / 2
    assert float(praised) == pytest.approx(float(expected))
    assert float(policy_loss(logits, torch.ones(1, 3), 5)) == pytest.approx(0)  # no more classes than there are


@pytest.mark.parametrize("name", ["zero2", "rlcf", "rlcf-prompt", "second-zero-shot"])
def test_two_teachers_must_be_there_and_have_the_same_classes(task, classifier, name):
    made = make_method(name, task, False)
    assert bool(torch.isfinite(made.predict(make_image(1), 0)).all())
    if name != "second-zero-shot":
        assert made.settings.second == "another"
    with pytest.raises(InputError, match="`second` TEACHER"):
        make_method(name, replace(task, second=None), False)
    with pytest.raises(InputError, match="second teacher"):
        make_method(name, replace(task, second=classifier), False)


def test_a_teacher_that_is_its_own_second_changes_nothing(task):
    alike = replace(task, second=task.teacher)
    for seed in range(3):
        one, two = (make_method(n, alike, False).predict(make_image(seed), seed) for n in ("zero", "zero2"))
        assert torch.equal(one, two)
    one, two = (make_method(n, alike, False).predict(make_image(5), 0) for n in ("zero-shot", "second-zero-shot"))
    assert torch.equal(one, two)


# -- classifiers, and what is not finite ---------------------------------------------------------------------------

TRAINING_FREE = ("zero", "views", "mta", "tps", "rlcf", "zero2")


@pytest.mark.parametrize("name", TRAINING_FREE)
def test_they_work_for_classifiers(classifier, name):
    own = Task(classifier, tuple(classifier.classes), torch.device("cpu"), second=classifier)
    before = [p.clone() for p in classifier.model.parameters()]
    scores = make_method(name, own, False).predict(make_image(1), 0)
    assert scores.shape == (len(classifier.classes),) and bool(torch.isfinite(scores).all())
    assert all(torch.equal(p, q) for p, q in zip(classifier.model.parameters(), before, strict=True))


def test_methods_of_text_refuse_classifiers_in_a_line(classifier):
    own = Task(classifier, tuple(classifier.classes), torch.device("cpu"), second=classifier)
    for name in ("zero+ensemble", "c-tpt", "rlcf-prompt", "ensemble+mta"):
        with pytest.raises(InputError, match="needs a teacher with a text encoder"):
            make_method(name, own, False)


@pytest.mark.parametrize("name", TRAINING_FREE)
def test_tokens_that_are_not_finite_are_no_vote(task, monkeypatch, name):
    method = make_method(name, replace(task, views=ViewCache()), False)
    token = type(task.teacher).token
    monkeypatch.setattr(type(task.teacher), "token", lambda self, x: token(self, x) * torch.nan)
    with pytest.raises(RunError, match="not finite"):
        method.predict(make_image(1), 0)
    monkeypatch.undo()
    assert bool(torch.isfinite(method.predict(make_image(1), 0)).all())  # and was not kept


@pytest.mark.parametrize("name", sorted(name for name, made in METHODS.items() if not made.needs_shots))
def test_every_methods_probabilities_are_finite_and_its_answer_is_the_likeliest(task, name):
    """As a benchmark takes them: the softmax of what the method returns."""
    classes = load_masked("mae-tiny").classes if name in MASKED else CLASSES
    method = make_method(name, replace(task, classes=classes), False)
    found = torch.stack(list(method.predict_many([make_image(1), make_image(2)], [1, 2])))
    p = found.softmax(-1)
    assert found.shape == (2, len(classes)) and bool(found.isfinite().all())
    torch.testing.assert_close(p.sum(-1), torch.ones(2))
    assert torch.equal(p.argmax(-1), found.argmax(-1))
    if name.startswith("zero") and "shot" not in name:  # 19 votes, or 20 with the one that broke a tie
        assert any(torch.allclose(votes := p * n, votes.round(), atol=1e-4) for n in (19, 20))


# -- two steps -----------------------------------------------------------------------------------------------------


def test_two_steps_are_named_in_either_order_and_start_from_the_first(task):
    assert method_class("tpt+coop") is METHODS["tpt+coop"]  # a method of its own comes first
    image = make_image(3)
    scores = []
    for name in ("ensemble+mta", "mta+ensemble"):
        made = make_method(name, task, False)
        assert (made.name, made.needs_text, made.start.name, made.then.name) == (name, True, "ensemble", "mta")
        scores.append(made.predict(image, 4))
    assert torch.equal(*scores)
    apart = make_method("mta", replace(task, start=make_method("ensemble", task, False).head), False)
    assert torch.equal(apart.predict(image, 4), scores[0])
    assert not torch.equal(make_method("mta", task, False).predict(image, 4), scores[0])


@pytest.mark.parametrize("name", ["zero+mta", "ensemble+tpt", "ensemble+zero-shot", "ensemble+coop"])
def test_two_that_do_not_start_from_one_another_are_refused(name):
    with pytest.raises(InputError, match=r"one must be of: .*ensemble"):
        method_class(name)


@pytest.mark.parametrize("name", ["ensemble+nothing", "a+b+c", "ensemble+"])
def test_names_that_are_none_are_refused(name):
    with pytest.raises(InputError, match="unknown method"):
        method_class(name)


def test_a_learned_context_is_started_from_once_it_is_learned(task):
    made = make_method("coop+mta", task, True)
    assert made.needs_shots and made.learner().name == "coop"
    image = make_image(2)
    before = made.predict(image, 0)
    state = {"context": made.start.context.detach() + 1}
    made.load(state)
    assert not torch.equal(made.predict(image, 0), before)
    coop = make_method("coop", task, True)
    coop.load(state)
    torch.testing.assert_close(made.then.head(task.token(image)[None])[0], coop.predict(image, 0))


# -- what is made once ---------------------------------------------------------------------------------------------


def test_pictures_are_encoded_once_for_all_methods(task, monkeypatch):
    """Of one picture: itself, its 64 views, and the second teacher's of the surest, whoever asks."""
    calls: list[int] = []
    token = type(task.teacher).token
    monkeypatch.setattr(type(task.teacher), "token", lambda self, x: calls.append(len(x)) or token(self, x))
    fresh = replace(task, views=ViewCache())
    free = ("zero-shot", "ensemble", "zero", "views", "mta", "tps", "tpt", "c-tpt", "ensemble+zero", "ensemble+mta")
    made = [make_method(name, fresh, False) for name in free]
    for method in made:
        method.predict(make_image(1), 7)
    assert sorted(calls) == [1, 64]
    for name in ("zero2", "second-zero-shot"):
        make_method(name, fresh, False).predict(make_image(1), 7)
    assert sorted(calls) == [1, 1, 19, 64]


def test_what_was_kept_on_the_disk_is_read_by_the_next_run_and_damage_is_mended(task, monkeypatch, tmp_path):
    def fresh() -> Task:
        return replace(task, views=ViewCache(folder=tmp_path / "kept"))

    image, names = make_image(1), ("zero-shot", "mta", "zero2")
    expected = [make_method(n, replace(task, views=ViewCache()), False).predict(image, 7) for n in names]

    def answer(own: Task) -> None:
        for name, scores in zip(names, expected, strict=True):
            assert torch.equal(make_method(name, own, False).predict(image, 7), scores)

    answer(fresh())
    calls: list[int] = []
    token = type(task.teacher).token
    monkeypatch.setattr(type(task.teacher), "token", lambda self, x: calls.append(len(x)) or token(self, x))
    again = fresh()
    answer(again)
    assert calls == [] and again.views.spared > 0
    files = sorted((tmp_path / "kept").rglob("*.safetensors"))
    assert len(files) == 3
    for path in files:
        path.write_bytes(path.read_bytes()[:50])
    assert torch.equal(make_method("mta", fresh(), False).predict(image, 7), expected[1])
    assert calls == [64]


def test_time_that_was_spared_is_counted(monkeypatch):
    import glom.methods.views as module

    clock = iter([0.0, 5.0, 6.0, 8.0])
    monkeypatch.setattr(module, "time", SimpleNamespace(perf_counter=lambda: next(clock)))
    cache = ViewCache()
    for key, saved in (("a", 0), ("a", 5), ("b", 5), ("a", 10), ("b", 12)):
        cache.get((key,), lambda: torch.zeros(1))
        assert cache.spared == saved


def test_what_was_made_first_is_kept_so_that_every_method_finds_it():
    cache, made = ViewCache(most=4), []
    for _ in range(3):  # three methods over three pictures, of which two fit
        for picture in range(3):
            cache.get((picture,), lambda picture=picture: made.append(picture) or torch.zeros(2))
    assert made == [0, 1, 2, 2, 2]


# -- the kinds of views --------------------------------------------------------------------------------------------


def test_views_are_mixed_where_releases_mix_them(task):
    kinds = {"imagenet": wnids("imagenet"), "shift": wnids("imagenet-r"), "other": None}
    assert {name: kind_of(data) for name, data in kinds.items()} == {name: name for name in kinds}
    mixed = {
        "zero": (), "mta": (), "tpt": ("other",), "tps": ("other",), "views": ("other",), "rlcf": ("other",),
        "c-tpt": ("imagenet", "shift", "other"), "tda": ("shift",), "dmn": ("shift", "other"), "boostadapter": (),
    }  # fmt: skip
    for name, where in mixed.items():
        for kind, data in kinds.items():
            classes = data.classes if data else CLASSES
            own = replace(task, augment="released", dataset=data, classes=classes)
            assert make_method(name, own, False).task.augment == ("augmix" if kind in where else "crops"), (name, kind)
    both = make_method("ensemble+tps", replace(task, augment="released"), False)
    assert both.then.task.augment == "augmix"


@pytest.mark.parametrize("augment", ["crops", "augmix"])
def test_both_teachers_see_the_same_views_and_some_rows_are_rows_of_all(task, augment):
    own = replace(task, augment=augment)
    image = make_image(3, (50, 40))
    every = own.view_pictures(image, 6, 9)
    assert torch.equal(every, own.view_pictures(image, 6, 9)) and not torch.equal(every, own.view_pictures(image, 6, 8))
    assert torch.equal(own.view_pictures(image, 6, 9, (4, 0, 2)), every[[4, 0, 2]])
    assert torch.equal(own.other().view_pictures(image, 6, 9), every)
    assert torch.equal(every[0], task.teacher.preprocess(image))
    mixed = replace(task, augment="augmix").view_tokens(image, 6, 9)
    assert not torch.equal(mixed[1:], replace(task, augment="crops").view_tokens(image, 6, 9)[1:])


def test_a_trained_machine_starts_from_a_teacher_whose_batch_norm_is_mixed(task):
    """And what that teacher makes of a picture is not taken for the teacher's own."""
    image = make_image(2)
    names = ("apm-trained", "apm-trained+bn-alpha", "mta", "mta+bn-alpha", "bn-alpha")
    found = {name: make_method(name, task, False).predict(image, 0) for name in names}
    assert not torch.allclose(found["apm-trained"], found["apm-trained+bn-alpha"], atol=1e-3)
    assert not torch.allclose(found["mta"], found["mta+bn-alpha"], atol=1e-3)
    again = replace(task, views=ViewCache())
    for name in reversed(names):
        torch.testing.assert_close(make_method(name, again, False).predict(image, 0), found[name])


@pytest.mark.parametrize("name", ["apm", "apm-grid", "apm-trained", "memo", "mta", "zero"])
@pytest.mark.parametrize("start", ["", "+bn-alpha"])
def test_a_pictures_answer_is_not_changed_by_those_that_are_answered_with_it(task, name, start):
    images = [make_image(1), make_image(2).convert("L").convert("RGB"), Image.new("RGB", (40, 40), (250, 10, 10))]
    method = make_method(name + start, task, False)
    together = torch.stack(list(method.predict_many(images, [1, 2, 3])))
    alone = torch.stack([method.predict(image, seed) for image, seed in zip(images, (1, 2, 3), strict=True)])
    torch.testing.assert_close(together, alone, atol=1e-3, rtol=1e-3)


def test_an_apm_on_mixed_batch_norm_repeats_what_that_answers_for_the_picture_alone(task):
    images = [make_image(seed) for seed in (1, 2, 3)]
    mixed, apm = make_method("bn-alpha", task, False), make_method("apm+bn-alpha", task, False)
    expected = torch.stack([mixed.predict(image, 0) for image in images]).softmax(-1)
    found = torch.stack(list(apm.predict_many(images, [1, 2, 3]))).softmax(-1)
    torch.testing.assert_close(found, expected, atol=0.02, rtol=0)
