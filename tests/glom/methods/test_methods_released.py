"""Methods give their releases' numbers on the same random features: the formulas of the released code, written down."""

from __future__ import annotations

import math
from copy import deepcopy
from dataclasses import replace

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

from glom.datasets.base import ImageDataset, Sample
from glom.datasets.sources import FileSource
from glom.methods import Task, make_method
from glom.methods.augmix import CHAINS, OPERATIONS, augmix
from glom.methods.cache import TDA, TDASettings
from glom.methods.prompts import (
    PRESETS,
    CoCoOp,
    CoOp,
    PromptSettings,
    learning_rate,
    released_epochs,
)
from glom.methods.tuned import MEMO, MEMO_PRESETS, TPT, MEMOSettings, TPTCoCoOp, TPTSettings
from glom.methods.voting import VotingSettings, Zero
from glom.teachers.heads import ZeroShotHead
from glom.teachers.registry import load_teacher
from tests.conftest import make_image

CLASSES = ("cat", "dog", "ship")


@pytest.fixture(scope="module")
def teacher():
    return load_teacher("glom-tiny", "cpu")


@pytest.fixture
def task(teacher) -> Task:
    return Task(teacher, CLASSES, torch.device("cpu"))


# -- ZERO --------------------------------------------------------------------------------------------------------------


def zero_released(logits: Tensor, share: float) -> tuple[int, Tensor]:
    """ZERO's vote: the surest views' answers; a tie goes to the first discarded view that names a tied class."""
    p = logits.softmax(1)
    order = (-(p * p.log()).sum(1)).argsort()
    k = int(len(logits) * share)
    votes = (logits[order[:k]] / torch.finfo(logits.dtype).eps).softmax(1).sum(0)
    tied = (votes == votes.max()).nonzero().flatten().tolist()
    if len(tied) == 1:
        return tied[0], votes
    won = next(view for view in logits[order[k:]].argmax(1).tolist() if view in tied)
    votes[won] += 1
    return won, votes


def test_zero_votes_and_breaks_ties_as_its_release_does(task, monkeypatch):
    method = Zero(VotingSettings())
    method.prepare(task)
    kept_would_differ = 0
    for seed in range(200):
        logits = 3 * torch.randn(64, 5, generator=torch.Generator().manual_seed(seed))
        monkeypatch.setattr(method, "view_logits", lambda image, seed, logits=logits: logits)
        found = method.predict(make_image(0), 0)
        expected, votes = zero_released(logits, 0.3)
        assert int(found.argmax()) == expected
        torch.testing.assert_close(found.softmax(-1), votes / votes.sum())  # shares, not a softmax of counts
        surest = logits.softmax(1).max(1).values.argmax()
        kept_would_differ += int(logits[surest].argmax()) != expected
    assert kept_would_differ > 0  # the random votes do tie


def test_zero_without_a_discarded_view_that_names_a_tied_class_takes_the_surest_ones_scores(task, monkeypatch):
    method = Zero(VotingSettings(views=3, share=0.7))
    method.prepare(task)
    logits = torch.tensor([[9.0, 0, 0], [0, 9.0, 0], [1.0, 2.0, 3.0]])
    monkeypatch.setattr(method, "view_logits", lambda image, seed: logits)
    assert int(method.predict(make_image(0), 0).argmax()) == 1


# -- TDA ---------------------------------------------------------------------------------------------------------------


def tda_released(features: Tensor, weights: Tensor, scale: float = 100.0, times: float = 1.0) -> Tensor:
    """The released loop over a stream of single pictures, with its settings for ImageNet; `times` weighs the caches."""
    sure: dict[int, list] = {}
    doubtful: dict[int, list] = {}

    def keep(cache: dict[int, list], label: int, item: tuple, most: int) -> None:
        queue = cache.setdefault(label, [])
        if len(queue) < most:
            queue.append(item)
        elif item[1] < queue[-1][1]:
            queue[-1] = item
        queue.sort(key=lambda i: i[1])

    def scores(x: Tensor, cache: dict[int, list], alpha: float, beta: float, negative: bool) -> Tensor:
        items = [(label, item) for label in sorted(cache) for item in cache[label]]
        keys = torch.cat([item[0] for _, item in items]).T
        if negative:
            p = torch.cat([item[2] for _, item in items])
            values = ((p > 0.03) & (p < 1.0)).float()
        else:
            values = F.one_hot(torch.tensor([label for label, _ in items]), len(weights)).float()
        return alpha * (-(beta - beta * (x @ keys))).exp() @ values

    answers = []
    for x in F.normalize(features, dim=-1).split(1):
        logits = scale * x @ weights.T
        p = logits.softmax(1)
        loss = -(p * logits.log_softmax(1)).sum(1)
        guess = int(logits.argmax())
        keep(sure, guess, (x, float(loss)), 3)
        if 0.2 < float(loss / math.log2(len(weights))) < 0.5:
            keep(doubtful, guess, (x, float(loss), p), 2)
        final = logits + times * scores(x, sure, 2.0, 5.0, False)
        if doubtful:
            final = final - times * scores(x, doubtful, 0.117, 1.0, True)
        answers.append(final[0])
    return torch.stack(answers)


@pytest.mark.parametrize(("scale", "times"), [(100.0, 1.0), (9.58, 0.0958)])
def test_tda_gives_its_releases_logits_whatever_the_scale(task, monkeypatch, scale, times):
    """At CLIP's scale the release's numbers; at another the caches keep their weight beside a cosine."""
    generator = torch.Generator().manual_seed(0)
    spread = 3 / scale**0.5  # CLIP's features lie close together
    centre = torch.randn(16, generator=generator)
    weights = F.normalize(centre + spread * torch.randn(6, 16, generator=generator), dim=-1)
    features = 4 * weights[torch.arange(120) % 6] + spread * torch.randn(120, 16, generator=generator)
    method = TDA()
    method.prepare(task)
    method.task = replace(task, classes=tuple("abcdef"))
    method.head = ZeroShotHead(method.task.classes, weights, scale)
    queue = iter(features)
    monkeypatch.setattr(type(task.teacher), "token", lambda self, images: next(queue)[None])
    found = torch.stack([method.predict(make_image(i), 0) for i in range(len(features))])
    assert method.doubtful  # both caches answered
    torch.testing.assert_close(found, tda_released(features, weights, scale, times), atol=2e-4, rtol=1e-5)
    assert TDASettings().scale == 100


# -- prompts -----------------------------------------------------------------------------------------------------------


def test_rates_and_epochs_are_the_releases():
    """Dassl's constant warm-up around PyTorch's cosine: the cosine starts after the first epoch."""
    parameter = torch.nn.Parameter(torch.zeros(1))
    optimiser = torch.optim.SGD([parameter], lr=2e-3)
    cosine = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, 50)
    expected = [1e-5]
    for _ in range(49):
        expected.append(cosine.get_last_lr()[0])
        optimiser.step()
        cosine.step()
    found = [learning_rate(PromptSettings(), 50, epoch) for epoch in range(50)]
    assert found == pytest.approx(expected, rel=1e-6)
    assert found[1] == 2e-3
    epochs = {(c, n): released_epochs(c, n) for c in (10, 100, 1000) for n in (1, 2, 4, 8, 16)}
    assert {epochs[1000, n] for n in (1, 2, 4, 8, 16)} == {50}
    assert [epochs[100, n] for n in (1, 2, 4, 8, 16)] == [50, 100, 100, 200, 200]
    assert PRESETS["coop"]["published"].epochs == 0 and PRESETS["cocoop"]["published"].epochs == 10


def test_published_prompts_learn_for_as_many_epochs_as_the_release_from_bicubic_crops(task, monkeypatch):
    from glom.methods import prompts
    from tests.glom.methods.test_methods import shots

    asked = []
    monkeypatch.setattr(
        prompts, "augmented", lambda image, *_, by: asked.append(by.value) or [image, image.resize((32, 32))]
    )
    method = CoOp(PromptSettings(batch=3))
    method.prepare(task)
    losses = method.fit(shots(task, 1))
    assert len(losses) == 50  # one picture a class
    assert set(asked) == {"bicubic"}


def test_cocoops_net_reads_a_token_of_length_one_and_tpts_start_the_token_as_it_is(task):
    method = TPTCoCoOp()
    method.prepare(task)
    assert isinstance(method.first, CoCoOp)
    token = 7 * torch.randn(task.teacher.width, generator=torch.Generator().manual_seed(0))
    context, meta = method.first.context.detach(), method.first.meta
    with torch.no_grad():
        torch.testing.assert_close(method.start(token), context + meta(token[None]))
        torch.testing.assert_close(method.first.contexts(token[None])[0], context + meta(token[None] / token.norm()))


def test_tpts_step_is_the_releases(task, monkeypatch):
    """Entropy filter, marginal entropy and one step of AdamW at 0.005, from the same tokens."""
    tokens = torch.randn(64, task.teacher.width, generator=torch.Generator().manual_seed(3))
    monkeypatch.setattr(Task, "view_tokens", lambda *_: tokens)
    method = TPT(TPTSettings())
    method.prepare(task)
    found, _, [loss] = method.tune(make_image(0), 0)
    context = method.prompt.initial.clone().requires_grad_()
    logits = task.teacher.scale * F.normalize(tokens, dim=-1) @ F.normalize(method.prompt(context), dim=-1).T
    kept = logits[(-(logits.softmax(1) * logits.log_softmax(1)).sum(1)).argsort()[:6]]
    average = (kept - kept.logsumexp(-1, keepdim=True)).logsumexp(0) - math.log(6)
    expected = -(average * average.exp()).sum()
    expected.backward()
    assert loss == pytest.approx(float(expected.detach()), abs=1e-6)
    assert context.grad is not None
    after = context.detach() * (1 - 0.005 * 0.01) - 0.005 * context.grad / (context.grad.abs() + 1e-8)
    torch.testing.assert_close(found, after, atol=1e-6, rtol=1e-5)


# -- MEMO --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("at_once", [8, 3, 1])
def test_memos_step_is_the_releases_and_the_plain_picture_is_not_among_its_views(task, monkeypatch, at_once):
    monkeypatch.setattr("glom.teachers.base.AT_ONCE", at_once * 32 * 32)
    views = torch.randn(8, 3, 32, 32, generator=torch.Generator().manual_seed(1))
    method = MEMO(replace(MEMO_PRESETS["cifar-10"], views=8))
    method.prepare(task)
    monkeypatch.setattr(MEMO, "views", lambda *_: views)
    image = make_image(1)
    found = method.predict(image, 0)

    teacher, head = task.teacher, task.head()
    saved = deepcopy(teacher._model.state_dict())
    try:
        towers = [p for name, p in teacher._model.named_parameters() if name.startswith("visual.")]
        [p.requires_grad_(True) for p in towers]
        logits = head(teacher._token(views))
        average = logits.log_softmax(-1).logsumexp(0) - math.log(8)
        (-(average * average.exp()).sum()).backward()
        with torch.no_grad():
            for p in towers:
                p -= 0.005 * p.grad  # plain SGD
            expected = head(teacher._token(task.read([image])))[0]
    finally:
        for p in towers:
            p.requires_grad_(False).grad = None
        teacher._model.load_state_dict(saved)
    torch.testing.assert_close(found, expected, atol=1e-4, rtol=1e-4)
    assert not torch.allclose(found, head(teacher.token(task.read([image])))[0], atol=1e-3)  # the step acts


@pytest.mark.parametrize(("side", "name"), [(28, "cifar-10"), (32, "cifar-10"), (200, "imagenet")])
def test_memo_takes_the_setting_for_its_pictures_size_and_records_it(task, tmp_path, side, name):
    make_image(0, (side, side)).save(tmp_path / "0.png")
    (tmp_path / "broken.png").write_bytes(b"no picture")
    data = ImageDataset("own", tuple(Sample(n, 0, FileSource(tmp_path / n)) for n in ("broken.png", "0.png")), CLASSES)
    settings = make_method("memo", replace(task, dataset=data), False).settings
    assert settings == MEMO_PRESETS[name] and settings.name == name
    assert make_method("memo", task, False).settings.name == "cifar-10"  # by the teacher's own input, of 32 pixels
    assert MEMO_PRESETS["imagenet"] == MEMOSettings("imagenet", 64, 1, "adamw", 1e-5, 0.01, "resized")


def read(picture: Image.Image) -> Tensor:
    return torch.from_numpy(np.asarray(picture, dtype=np.float32).transpose(2, 0, 1) / 127.5 - 1)


def test_augmix_mixes_a_crop_with_three_chains_of_it(monkeypatch):
    """With operations that change nothing a view is its crop; weights and mixture add up to one."""
    from glom.methods import augmix as module

    picture = make_image(3, (32, 32))
    chains: list[int] = []
    monkeypatch.setattr(module, "OPERATIONS", (lambda x, *_: chains.append(1) or x,))
    random = np.random.default_rng(0)
    padded = np.pad(np.asarray(picture.convert("RGB")), ((4, 4), (4, 4), (0, 0)))
    windows = [padded[y : y + 32, x : x + 32] for y in range(9) for x in range(9)]
    crops = [read(Image.fromarray(a)) for w in windows for a in (w, np.ascontiguousarray(w[:, ::-1]))]
    for _ in range(5):
        view = augmix(picture, read, "padded", 32, random)
        assert min(float((view - crop).abs().max()) for crop in crops) < 1e-5
    assert CHAINS * 5 <= len(chains) <= 3 * CHAINS * 5
    assert augmix(make_image(2, (50, 70)), read, "resized", 24, random).shape == (3, 24, 24)


def test_augmixs_operations_are_the_nine_at_severity_one():
    ramp = Image.fromarray(np.arange(0, 256, 8, dtype=np.uint8)[None, :, None].repeat(32, 0).repeat(3, 2))
    random = np.random.default_rng(0)
    found = {f.__name__: [np.asarray(f(ramp, random)).astype(int) for _ in range(40)] for f in OPERATIONS}
    assert len(OPERATIONS) == 9 and all(x.shape == (32, 32, 3) for drawn in found.values() for x in drawn)
    plain = np.asarray(ramp).astype(int)
    assert all((x == plain // 16 * 16).all() for x in found["posterize"])
    assert {int(np.abs(x[16, 8:-8, 0] - plain[16, 8:-8, 0]).max()) for x in found["translate_x"]} == {0, 8}
    inverted = [(x != plain).any((0, 2)).sum() for x in found["solarize"]]
    assert min(inverted) >= 0 and max(inverted) == 3  # of 32 columns eight apart, the brightest 25 values at most
    assert all((x[:, :, 0].max(), x[:, :, 0].min()) == (255, 0) for x in found["autocontrast"])


def test_a_pictures_views_are_its_seeds_alone(task):
    method = MEMO(replace(MEMO_PRESETS["imagenet"], views=3))
    method.prepare(task)
    state = torch.random.get_rng_state()
    image = make_image(4, (40, 60))
    a, b, c = (method.views(image, np.random.default_rng(seed)) for seed in (1, 1, 2))
    assert torch.equal(state, torch.random.get_rng_state())
    assert torch.equal(a, b) and not torch.equal(a, c)
    assert torch.equal(method.predict(image, 5), method.predict(image, 5))
