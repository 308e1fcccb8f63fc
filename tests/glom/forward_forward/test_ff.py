"""Forward-forward: goodness, closed-form learning against autograd, no gradient across layers, negatives."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from glom.errors import InputError
from glom.forward_forward import Diverged, FFSettings, Learner, Rule, feedforward, normalise, preset, recurrent
from glom.forward_forward.feedforward import FeedForward
from glom.forward_forward.goodness import active_rows, peer_pull, sum_squares
from glom.forward_forward.layers import Readout
from glom.forward_forward.maps import Grid
from glom.forward_forward.recurrent import Recurrent
from glom.forward_forward.samples import blur_matrix, choose_wrong, hybrid, shift
from glom.forward_forward.settings import own

CPU = torch.device("cpu")
RULES = [
    Rule(goodness, sign, threshold, temperature)
    for goodness, sign, threshold, temperature in [("sum", 1, 1.0, 1.0), ("sum", -1, 0.7, 3.0), ("mean", 1, 2.0, 0.5)]
]


@pytest.fixture
def double():
    """Everything in float64 for a test."""
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)


def settings(mode: str = "supervised", **changes) -> FFSettings:
    small = {"widths": (12, 11, 10), "peer": 0.0, "negatives": "uniform", "iterations": 4, "read": (2, 3), "field": 3}
    here = own({"mode": mode, **small, **({"widths": (2, 3)} if mode == "local" else {})})
    return preset(**{"name": "quick", **here, **changes})


def generator(seed: int = 1) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


# -- goodness ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("positive", [True, False])
def test_slope_is_the_gradient_of_the_loss(double, rule, positive):
    states = torch.randn(5, 7, requires_grad=True)
    rule.loss(sum_squares(states), 7, positive).sum().backward()
    closed = rule.slope(sum_squares(states.detach()), 7, 1.0 if positive else -1.0)[:, None] * states.detach()
    torch.testing.assert_close(-states.grad, closed, rtol=1e-12, atol=1e-14)


def test_loss_is_that_of_the_paper():
    squares = torch.tensor([0.0, 4.0, 9.0])
    p = torch.sigmoid(squares - 4)
    torch.testing.assert_close(Rule().loss(squares, 4, True), -p.log())
    torch.testing.assert_close(Rule().loss(squares, 4, False), -(1 - p).log())
    # The other sign asks for low activity on positive data.
    torch.testing.assert_close(Rule(sign=-1).loss(squares, 4, True), -(1 - p).log())
    torch.testing.assert_close(Rule("mean", threshold=2.0).logit(squares, 4), squares / 4 - 2)


def test_normalisation_keeps_the_direction_only_and_zeros():
    x = torch.randn(4, 9) * torch.tensor([[1e-3], [1.0], [1e4], [0.0]])
    y = normalise(x)
    torch.testing.assert_close(y[:3].square().mean(1), torch.ones(3), rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(F.cosine_similarity(x[:3], y[:3]), torch.ones(3))
    torch.testing.assert_close(normalise(3 * x[:3]), y[:3], rtol=1e-4, atol=1e-5)
    assert torch.equal(y[3], torch.zeros(9))
    assert normalise(x.bfloat16()).dtype == torch.bfloat16


@pytest.mark.parametrize("mode", ["supervised", "unsupervised", "recurrent", "local"])
def test_peer_pull_lifts_the_quiet_and_revives_the_dead(mode):
    pull = peer_pull(torch.tensor([0.0, 1.0, 2.0]), 0.1)
    torch.testing.assert_close(pull, torch.tensor([0.1, 0.0, -0.1]))
    images, labels = torch.rand(8, 1, 4, 5), torch.randint(0, 3, (8,))
    for peer in (0.0, 0.3):
        learner = Learner((1, 4, 5), 3, settings(mode, peer=peer, lr=0.1, decay=0.0), CPU)
        layer = learner.network.layers[0]
        layer.bias.value[0] = -100.0  # off for every picture
        for _ in range(50):
            learner.learn(images, labels, 1.0, generator())
        assert layer.bias.value[0] > -100.0 if peer else layer.bias.value[0] == -100.0


@pytest.mark.parametrize("mode", ["supervised", "recurrent"])
def test_peer_pull_and_weight_cost_do_not_know_of_the_mean(mode):
    """Where every unit is off goodness asks for nothing: what moves a layer then is the same with sum and with mean."""
    moved = {}
    images, labels = torch.rand(6, 1, 4, 5), torch.arange(6) % 3
    for goodness in ("sum", "mean"):
        learner = Learner((1, 4, 5), 3, settings(mode, goodness=goodness, peer=0.1, decay=0.01, lr=0.1), CPU)
        [layer, *_] = learner.network.layers
        layer.bias.value.fill_(-100.0)
        layer.mean.copy_(torch.linspace(0, 1, layer.units))
        start = layer.maps[0].weights.value.clone()
        for _ in range(3):
            learner.learn(images, labels, 1.0, generator())
        moved[goodness] = layer.maps[0].weights.value, layer.bias.value
        assert not torch.equal(start, layer.maps[0].weights.value) and len(layer.bias.value.unique()) > 1
    for one, other in zip(moved["sum"], moved["mean"], strict=True):
        torch.testing.assert_close(one, other)


# -- learning against autograd -------------------------------------------------------------------------------------


def layer_losses(
    net: FeedForward | Recurrent, x: torch.Tensor, wrong: torch.Tensor, right: torch.Tensor, cut: bool = True
):
    """Every layer's loss by autograd, its input cut from the graph or not: (losses, parameters), layer by layer.

    For feed-forward nets `wrong` and `right` are whole inputs; for recurrent ones labels.
    """

    def taken(t: torch.Tensor) -> torch.Tensor:
        return t.detach() if cut else t

    rule = net.settings.rule
    parameters = [
        [m.weights.value.clone().requires_grad_() for m in layer.maps] + [layer.bias.value.clone().requires_grad_()]
        for layer in net.layers
    ]
    losses = [torch.zeros(()) for _ in net.layers]
    for positive, given in ((False, wrong), (True, right)):
        if isinstance(net, FeedForward):
            below = normalise(given)
            for k, (W, b) in enumerate(parameters):
                states = torch.relu(taken(below) @ W + b)
                losses[k] = losses[k] + rule.loss(sum_squares(states), states.shape[1], positive).sum()
                below = normalise(states)
            continue
        n_in = normalise(x)
        states, normal = [], []
        for k, (U, _, b) in enumerate(parameters):
            states.append(taken(torch.relu((n_in if k == 0 else normal[-1]) @ U + b)))
            normal.append(normalise(states[-1]))
        top = F.one_hot(given, net.classes).to(x.dtype) * net.classes**0.5
        for _ in range(net.settings.iterations):
            now = []
            for k, (U, V, b) in enumerate(parameters):
                below = n_in if k == 0 else normal[k - 1]
                above = top if k == len(parameters) - 1 else normal[k + 1]
                fresh = torch.relu(taken(below) @ U + taken(above) @ V + b)
                now.append(net.settings.damping * taken(states[k]) + (1 - net.settings.damping) * fresh)
                losses[k] = losses[k] + rule.loss(sum_squares(now[k]), b.shape[0], positive).sum()
            states = [taken(s) for s in now]
            normal = [normalise(s) for s in states]
    return losses, parameters


def smoothed(weights) -> torch.Tensor:
    """What one step from rest left in G, as the gradient's sum."""
    return weights.smooth * (weights.decay or 1.0)


@pytest.mark.parametrize("mode", ["supervised", "unsupervised", "recurrent"])
@pytest.mark.parametrize("sign", ["max", "min"])
@pytest.mark.parametrize("decay", [0.0, 0.01])
def test_learning_is_each_layers_own_gradient_and_nothing_crosses(double, mode, sign, decay):
    """Closed form = autograd of the layer's own loss, its input taken as given, and not that of all the losses that
    would reach it through the layers above and through time."""
    wanted = settings(mode, sign=sign, decay=decay, lr=1e-9, readout_lr=1e-9)
    b, inputs, classes = 6, 20, 4
    net = Recurrent(Grid(1, 4, 5), classes, wanted, generator()) if mode == "recurrent" else None
    net = net or FeedForward(inputs, classes, wanted, generator())
    for layer in net.layers:
        layer.bias.value.normal_(0, 0.1)
    x, labels = torch.rand(b, inputs), torch.randint(0, classes, (b,))
    others = choose_wrong(labels, None, classes, generator(5))
    if mode == "unsupervised":
        x[:, 0] += 0.1
        wrong, right = torch.rand(b, inputs), x
    elif mode == "supervised":
        x[:, :classes] = 0
        wrong, right = (torch.cat([F.one_hot(y, classes).to(x.dtype), x[:, classes:]], 1) for y in (others, labels))
    else:
        wrong, right = others, labels
    losses, parameters = layer_losses(net, x, wrong, right)
    through, reached = layer_losses(net, x, wrong, right, cut=False)
    if mode == "unsupervised":
        net.learn_unlabelled(right, wrong, labels, 1.0)
    else:
        net.learn(x, labels, 1.0, generator(5))
    rows = b * (wanted.iterations if mode == "recurrent" else 1)
    for k, (loss, layer) in enumerate(zip(losses, net.layers, strict=True)):
        own = torch.autograd.grad(loss, parameters[k], retain_graph=True)
        everybodys = torch.autograd.grad(sum(through), reached[k], retain_graph=True)
        for weights, g in zip([*(m.weights for m in layer.maps), layer.bias], own, strict=True):
            torch.testing.assert_close(smoothed(weights), -g * 0.1 / rows, rtol=1e-9, atol=1e-12)
            assert g.abs().max() > 0
        if mode == "recurrent" or k + 1 < len(net.layers):
            assert not any(torch.allclose(a, g, rtol=0.01) for a, g in zip(everybodys, own, strict=True))


def test_losses_and_gradients_are_the_public_pytorch_releases(double, monkeypatch):
    """The formulas of pytorch_forward_forward (Pezeshki 2022), which many read the paper by.

    Its layer divides inputs by their length, takes the mean square against a threshold of 2, and averages over both
    kinds of rows; here inputs have a mean square of one, so that its weights are ours times the root of their number,
    and a step leaves the mean's 1/n out.
    """
    monkeypatch.setattr("glom.forward_forward.goodness.EPS", 1e-4)  # the release's
    wanted = settings("unsupervised", goodness="mean", threshold=2.0, decay=0.0, lr=1e-9, readout_lr=1e-9)
    b, inputs, classes = 6, 20, 4
    net = FeedForward(inputs, classes, wanted, generator())
    right, wrong = 3 * torch.rand(b, inputs), 3 * torch.rand(b, inputs)
    below = right, wrong
    expected, losses = [], []
    for layer in net.layers:
        layer.bias.value.normal_(0, 0.1)
        root = layer.maps[0].inputs ** 0.5
        W = (root * layer.maps[0].weights.value.T).requires_grad_()
        bias = layer.bias.value.clone().requires_grad_()
        high, low = (torch.relu(x / (x.norm(2, 1, keepdim=True) + 1e-4) @ W.T + bias) for x in below)
        g = torch.cat([-high.pow(2).mean(1) + 2.0, low.pow(2).mean(1) - 2.0])
        loss = torch.log(1 + torch.exp(g)).mean()
        losses.append(float(loss.detach()))
        expected.append(torch.autograd.grad(loss, (W, bias)))
        own = [net.settings.rule.loss(sum_squares(x), len(bias), x is high) for x in (high, low)]
        torch.testing.assert_close(torch.cat(own).mean(), loss, rtol=1e-7, atol=0)
        below = high.detach(), low.detach()
    net.learn_unlabelled(right, wrong, torch.zeros(b, dtype=torch.long), 1.0)
    for layer, (dW, db) in zip(net.layers, expected, strict=True):
        root, scale = layer.maps[0].inputs ** 0.5, -0.1 * 2 * layer.units
        torch.testing.assert_close(smoothed(layer.maps[0].weights), scale * root * dW.T, rtol=1e-7, atol=1e-12)
        torch.testing.assert_close(smoothed(layer.bias), scale * db, rtol=1e-7, atol=1e-12)
    assert len(set(losses)) == len(net.layers)


@pytest.mark.parametrize("mode", ["supervised", "unsupervised", "recurrent"])
@pytest.mark.parametrize("peer", [0.0, 0.3])
def test_rows_left_out_of_a_gradient_are_not_missed(double, monkeypatch, mode, peer):
    """A sure layer's step is the same where rows that ask for nothing are left out, and some are."""
    shares: list[float] = []

    def counted(push: torch.Tensor) -> torch.Tensor | None:
        rows = active_rows(push)
        shares.append(1.0 if rows is None else len(rows) / len(push))
        return rows

    for module in (feedforward, recurrent):
        monkeypatch.setattr(module, "active_rows", counted)
    moved = []
    for sparse in (True, False):
        # A small temperature: sure of nearly everything.
        wanted = settings(mode, peer=peer, lr=0.01, temperature=0.004 if mode == "recurrent" else 0.02)
        g, make = generator(3), Recurrent if mode == "recurrent" else FeedForward
        net = make(Grid(1, 5, 6) if mode == "recurrent" else 30, 4, wanted, generator())
        net.sparse = sparse
        x, wrong = torch.rand(2, 12, 30, generator=g)
        labels = torch.randint(0, 4, (12,), generator=g)
        if mode == "unsupervised":
            net.learn_unlabelled(x, wrong, labels, 1.0)
        else:
            x[:, :4] = 0
            net.learn(x, labels, 1.0, g)
        moved.append([w for layer in net.layers for w in (*(m.weights.smooth for m in layer.maps), layer.bias.smooth)])
    assert len(shares) == 3 and all(0 < share < 0.6 for share in shares)
    for one, other in zip(*moved, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-11, atol=1e-13)


def test_rows_that_are_felt():
    push = torch.tensor([0.5, -1e-3, 1e-12, -1e-12, 0.0, 1e-30, 0.0])
    assert active_rows(push).tolist() == [0, 1]
    assert active_rows(1e-20 * push).tolist() == [0, 1]  # beside the largest, whatever that is
    assert active_rows(torch.ones(7)) is None
    assert active_rows(torch.zeros(7)).tolist() == []


@pytest.mark.parametrize("mode", ["supervised", "unsupervised", "recurrent", "local"])
def test_no_layer_moves_by_what_others_make_of_it(mode):
    """Learning builds no graph, and a layer's step is the same whatever the layers above answer."""
    shape = (1, 4, 5)
    images, labels = torch.rand(6, *shape), torch.randint(0, 4, (6,))
    first = Learner(shape, 4, settings(mode), CPU)
    second = Learner(shape, 4, settings(mode), CPU)
    top = second.network.layers[-1]
    if mode in ("recurrent", "local"):
        # What comes down is an input; silence it in both, then only a gradient could carry anything down.
        for learner in (first, second):
            for layer in learner.network.layers[:-1]:
                layer.maps[1].weights.value.zero_()
    top.maps[0].weights.value.mul_(-1.3)
    top.bias.value.add_(0.4)
    for learner in (first, second):
        learner.learn(images, labels, 1.0, generator())
        for layer in learner.network.layers:
            values = [*(m.weights.value for m in layer.maps), layer.bias.value]
            assert not any(v.requires_grad or v.grad_fn for v in values)
    for one, other in zip(first.network.layers[:-1], second.network.layers[:-1], strict=True):
        assert torch.equal(one.maps[0].weights.value, other.maps[0].weights.value)
        assert torch.equal(one.bias.value, other.bias.value)
    assert not torch.equal(first.network.layers[-1].bias.value, top.bias.value)


def test_update_is_the_published_one(double):
    """G <- .9 G + .1 g, W <- W + rate (G - decay W), whether decay is folded into G or not."""
    from glom.forward_forward.weights import Weights

    value = torch.randn(3, 2)
    for decay in (0.0, 0.02):
        weights, W, G = Weights(value.clone(), decay), value.clone(), torch.zeros(3, 2)
        for seed in range(3):
            torch.manual_seed(seed)
            a, d = torch.randn(4, 3), torch.randn(4, 2)
            G = 0.9 * G + 0.1 * a.T @ d / 4
            W = W + 0.3 * (G - decay * W)
            weights.accumulate(a, d, 0.9, 0.1 / 4)
            weights.step(0.3)
        torch.testing.assert_close(weights.value, W)


def test_bf16_learns_from_rounded_products_and_keeps_the_rest_exact():
    """A hundred steps of one small gradient, each far below bf16's resolution of W, still arrive."""
    from glom.forward_forward.weights import Weights

    for decay in (0.0, 1e-3):
        exact, rough = (Weights(torch.ones(8, 4), decay, kind) for kind in (None, torch.bfloat16))
        for weights in (exact, rough):
            for step in range(100):
                a, d = torch.randn(16, 8, generator=generator(step)) + 1, torch.ones(16, 4)
                kind = weights.working.dtype
                weights.accumulate(a[:8].to(kind), d[:8].to(kind), 0.9, 0.1 / 16)
                weights.accumulate(a[8:].to(kind), d[8:].to(kind), 1.0, 0.1 / 16)
                weights.step(1e-4)
        moved, wanted = rough.value - 1, exact.value - 1
        assert 0 < wanted.mean() < 0.02
        torch.testing.assert_close(moved, wanted, rtol=0.02, atol=1e-5)
        assert torch.equal(rough.working, rough.value.bfloat16())


def test_readout_is_a_softmax_and_hears_no_layer(double):
    readout = Readout([5, 4], 3, settings(readout_decay=0.0), CPU)
    normal, labels = [torch.randn(6, 5), torch.randn(6, 4)], torch.randint(0, 3, (6,))
    W = [torch.zeros(5, 3, requires_grad=True), torch.zeros(4, 3, requires_grad=True)]
    F.cross_entropy(sum(x @ w for x, w in zip(normal, W, strict=True)), labels).backward()
    readout.learn(normal, labels, 1.0)
    for w, weights in zip(W, readout.weights, strict=True):
        torch.testing.assert_close(weights.value, -0.1 * 0.1 * w.grad)


# -- the folded first layer ----------------------------------------------------------------------------------------


def test_labels_by_one_row_are_labels_as_pixels(double):
    """`goodness` with the picture's product shared by all labels = a plain pass for each label."""
    net = FeedForward(20, 4, settings(), generator())
    x = torch.rand(5, 20)
    x[:, :4] = 0
    found = net.goodness(x)
    for label in range(4):
        states = torch.cat([torch.eye(4)[label].expand(5, 4), x[:, 4:]], 1)
        for k, layer in enumerate(net.layers):
            states = torch.relu(normalise(states) @ layer.maps[0].weights.value + layer.bias.value)
            torch.testing.assert_close(found[:, label, k], states.square().sum(1))
    neutral = torch.cat([torch.full((5, 4), 0.25), x[:, 4:]], 1)
    hidden = []
    for layer in net.layers:
        neutral = torch.relu(normalise(neutral) @ layer.maps[0].weights.value + layer.bias.value)
        hidden.append(normalise(neutral))
    net.readout.weights[0].value.normal_()
    torch.testing.assert_close(net.readout_logits(x), hidden[1] @ net.readout.weights[0].value)
    torch.testing.assert_close(net.label_scores(x), found[..., 1:].sum(-1))


def test_one_hidden_layer_is_read_itself():
    learner = Learner((1, 4, 5), 3, settings(widths=(8,)), CPU)
    scores = learner.readouts(torch.rand(2, 1, 4, 5))
    assert scores["goodness"].shape == scores["softmax"].shape == (2, 3)
    assert scores["goodness"].abs().sum() > 0


def test_low_goodness_wins_with_the_other_sign():
    high, low = Learner((1, 4, 5), 3, settings(), CPU), Learner((1, 4, 5), 3, settings(sign="min"), CPU)
    x = torch.rand(4, 1, 4, 5)
    torch.testing.assert_close(high.goodness(x), -low.goodness(x))


# -- negatives -----------------------------------------------------------------------------------------------------


def test_wrong_labels_are_wrong_and_follow_the_scores():
    labels = torch.randint(0, 5, (4000,))
    for scores in (None, torch.randn(4000, 5), F.one_hot(labels, 5) * 1e4):
        others = choose_wrong(labels, scores, 5, generator())
        assert (others != labels).all() and others.min() >= 0 and others.max() == 4
    broken = torch.tensor([[float("nan")] * 3, [float("inf"), 0, float("-inf")]])
    assert (choose_wrong(torch.tensor([0, 1]), broken, 3, generator()) != torch.tensor([0, 1])).all()
    scores = torch.log(torch.tensor([0.1, 0.6, 0.2, 0.1]))
    drawn = choose_wrong(torch.ones(8000, dtype=torch.long), scores.expand(8000, 4), 4, generator())
    shares = torch.bincount(drawn, minlength=4) / 8000
    torch.testing.assert_close(shares, torch.tensor([0.25, 0.0, 0.5, 0.25]), atol=0.02, rtol=0)


def test_shifts_are_whole_steps_with_zeros_coming_in():
    images = torch.zeros(2000, 2, 7, 6)
    images[:, :, 3, 2] = torch.arange(1.0, 2001)[:, None]
    moved = shift(images, 2, generator())
    assert torch.equal(moved.sum((2, 3)), images.sum((2, 3)))
    at = moved[:, 0].flatten(1).argmax(1)
    assert len(at.unique()) == 25
    found = {(int(i) // 6 - 3, int(i) % 6 - 2) for i in at.unique()}
    assert found == {(y, x) for y in range(-2, 3) for x in range(-2, 3)}
    assert torch.equal(moved[:, 0], moved[:, 1])
    assert torch.equal(shift(torch.ones(3, 1, 1, 1), 0, generator()), torch.ones(3, 1, 1, 1))


def test_blur_is_the_filter_repeated():
    x = torch.rand(1, 1, 9)
    once = F.conv1d(F.pad(x, (1, 1), mode="replicate"), torch.tensor([[[0.25, 0.5, 0.25]]]))
    twice = F.conv1d(F.pad(once, (1, 1), mode="replicate"), torch.tensor([[[0.25, 0.5, 0.25]]]))
    torch.testing.assert_close(blur_matrix(9, 2) @ x[0, 0], twice[0, 0])
    assert torch.equal(blur_matrix(1, 3), torch.ones(1, 1))


def test_hybrids_take_each_pixel_from_one_of_two_pictures():
    images = torch.arange(1.0, 31).view(30, 1, 1, 1).expand(30, 3, 16, 16).contiguous()
    mixed = hybrid(images, (blur_matrix(16, 6), blur_matrix(16, 6)), generator())
    others = []
    for lent, picture in zip(images, mixed, strict=True):
        values = picture[0].unique().tolist()
        assert len(values) == 2 and lent.max().item() in values  # large blobs, yet two origins
        assert torch.equal(picture[0], picture[2])
        others.append(next(v for v in values if v != lent.max().item()))
    assert sorted(others) == list(range(1, 31))  # everybody lends to one
    rough = hybrid(images, (blur_matrix(16, 0), blur_matrix(16, 0)), generator())
    edges = lambda m: (m[:, :, 1:] != m[:, :, :-1]).float().mean()  # noqa: E731
    assert edges(mixed) < edges(rough) / 2
    with pytest.raises(InputError, match="two pictures"):
        hybrid(images[:1], (blur_matrix(16, 6),) * 2, generator())


# -- whole learners ------------------------------------------------------------------------------------------------


def bars(n: int, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    """Pictures of one bright row or column of six, with noise: twelve classes that a small network can learn."""
    g = generator(seed)
    labels = torch.randint(0, 12, (n,), generator=g)
    images = 0.3 * torch.rand(n, 1, 6, 6, generator=g)
    lines = torch.zeros(12, 6, 6)
    lines[torch.arange(6), torch.arange(6)] = 1
    lines[torch.arange(6, 12), :, torch.arange(6)] = 1
    return images + lines[labels][:, None], labels


@pytest.mark.parametrize(
    ("mode", "changes", "most"),
    [
        ("supervised", {"widths": (100, 100, 100)}, 15),
        ("supervised", {"widths": (100, 100, 100), "precision": "bf16"}, 15),
        ("supervised", {"widths": (100, 100, 100), "sign": "min", "lr": 0.05}, 40),
        ("supervised", {"widths": (100, 100), "goodness": "mean", "lr": 0.002, "temperature": 0.1}, 20),
        ("unsupervised", {"widths": (100, 100, 100)}, 15),
        ("recurrent", {"widths": (80, 80), "iterations": 6, "read": (3, 5)}, 15),
        ("local", {"widths": (3, 3), "field": 5, "lr": 0.02}, 30),
    ],
)
def test_every_mode_learns(mode, changes, most):
    images, labels = bars(1500)
    wanted = preset(mode, "quick", **{"epochs": 6, "batch": 25, "lr": 0.02, "peer": 0.03, **changes})
    learner = Learner((1, 6, 6), 12, wanted, CPU)
    g = generator()
    images = images.to(learner.dtype)
    for epoch in range(wanted.epochs):
        for index in torch.randperm(1500, generator=g).split(wanted.batch):
            learner.learn(images[index], labels[index], wanted.rate_share(epoch), g)
    tests, answers = bars(400, 9)
    for name, scores in learner.readouts(tests).items():
        error = 100 * float((scores.argmax(1) != answers).float().mean())
        assert error <= most, (name, error)


def test_mean_and_sum_train_alike_in_a_wide_net():
    """At 500 units a layer, with the peer pull, the weight cost, the rate and the temperature of the presets."""
    images, labels = bars(1000)
    tests, answers = bars(400, 9)
    errors = {}
    for goodness in ("sum", "mean"):
        wanted = preset("supervised", "quick", widths=(500, 500), goodness=goodness, epochs=4, batch=50)
        learner = Learner((1, 6, 6), 12, wanted, CPU)
        g = generator()
        for epoch in range(wanted.epochs):
            for index in torch.randperm(1000, generator=g).split(wanted.batch):
                learner.learn(images[index], labels[index], wanted.rate_share(epoch), g)
        scores = learner.readouts(tests)["softmax"]
        errors[goodness] = 100 * float((scores.argmax(1) != answers).float().mean())
    assert max(errors.values()) <= 20 and abs(errors["sum"] - errors["mean"]) <= 5, errors


def test_a_mean_is_a_sum_on_another_scale(double):
    """z = (sum - n theta) / n: a mean's net at T = 1/n is a sum's at T = 1, at n times the step."""
    nets, n = [], 9
    sides = ({"goodness": "sum"}, {"goodness": "mean", "temperature": 1 / n, "lr": 0.01 / n, "peer": 0.1 * n})
    images, labels = torch.rand(6, 1, 4, 5), torch.arange(6) % 3
    for changes in sides:
        wanted = settings(**{"widths": (n, n), "lr": 0.01, "peer": 0.1, "decay": 0.0, **changes})
        nets.append(Learner((1, 4, 5), 3, wanted, CPU))
        for _ in range(5):
            nets[-1].learn(images, labels, 1.0, generator())
    for one, other in zip(nets[0].network.layers, nets[1].network.layers, strict=True):
        torch.testing.assert_close(one.maps[0].weights.value, other.maps[0].weights.value)
        torch.testing.assert_close(one.bias.value, other.bias.value)


@pytest.mark.parametrize("mode", ["supervised", "unsupervised", "recurrent", "local"])
def test_a_batch_of_one_and_black_pictures_give_numbers(mode):
    learner = Learner((1, 4, 5), 3, settings(mode, peer=0.03), CPU)
    few = 2 if mode == "unsupervised" else 1  # whose negatives are made of two
    logits, means = learner.learn(torch.zeros(few, 1, 4, 5), torch.tensor([2] * few), 1.0, generator())
    assert logits.isfinite().all() and means.isfinite().all() and means.shape == (len(learner.network.layers), 2)
    for scores in learner.readouts(torch.zeros(1, 1, 4, 5)).values():
        assert scores.shape == (1, 3) and scores.isfinite().all()


def test_one_pixel_pictures():
    for mode in ("unsupervised", "recurrent", "local"):
        learner = Learner((1, 1, 1), 3, settings(mode), CPU)
        learner.learn(torch.rand(2, 1, 1, 1), torch.tensor([0, 1]), 1.0, generator())
        assert learner.goodness(torch.rand(2, 1, 1, 1)).isfinite().all()
    with pytest.raises(InputError, match="first 3 pixels, but the pictures have 1 "):
        Learner((1, 1, 1), 3, settings(), CPU)


@pytest.mark.parametrize("mode", ["supervised", "unsupervised", "recurrent"])
def test_divergence_names_the_layer(mode):
    learner = Learner((1, 4, 5), 3, settings(mode), CPU)
    learner.network.layers[1].maps[0].weights.value.fill_(1e30)
    with pytest.raises(Diverged, match="goodness of layer 2 diverged") as caught:
        learner.learn(torch.rand(2, 1, 4, 5), torch.tensor([0, 1]), 1.0, generator())
    assert caught.value.layer == 2


@pytest.mark.parametrize("mode", ["supervised", "unsupervised", "recurrent", "local"])
@pytest.mark.parametrize("goodness", ["sum", "mean"])
def test_what_a_step_left_is_looked_at(mode, goodness):
    images = torch.rand(4, 1, 4, 5)
    for value, says in ((float("nan"), "weights"), (-1e30, "weights"), (2e4, "weights|goodness")):
        learner = Learner((1, 4, 5), 3, settings(mode, goodness=goodness), CPU)
        learner.check(images)
        learner.network.layers[1].maps[0].weights.value.fill_(value)
        with pytest.raises(Diverged, match=f"the ({says}) of layer 2 diverged"):
            learner.check(images)
    if mode == "local":
        return
    learner = Learner((1, 4, 5), 3, settings(mode, goodness=goodness), CPU)
    # Small enough to pass for weights; but what every unit adds up over its inputs is not.
    up = learner.network.layers[1].maps[0]
    up.weights.value.fill_(0.9e4 / up.inputs**0.5)
    with pytest.raises(Diverged, match="the goodness of layer 2"):
        learner.check(images)


@pytest.mark.parametrize("mode", ["supervised", "recurrent"])
def test_hard_labels_are_those_the_net_falls_for(mode):
    """Only the right label's row and the one the read-out believes in are ever drawn; uniform ones are all drawn."""
    rows = {}
    for negatives in ("hard", "uniform"):
        net = Learner((1, 4, 5), 5, settings(mode, negatives=negatives, decay=0.0), CPU).network
        for weights in net.readout.weights:
            weights.value[:, 3] = 100.0  # states are never negative
        x, labels = torch.rand(40, 20), torch.zeros(40, dtype=torch.long)
        x[:, :5] = 0
        net.learn(x, labels, 1.0, generator())
        by_label = net.layers[0].maps[0] if mode == "supervised" else net.layers[-1].maps[1]
        rows[negatives] = by_label.weights.smooth[:5].abs().sum(1).nonzero().flatten().tolist()
    assert rows == {"hard": [0, 3], "uniform": [0, 1, 2, 3, 4]}


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"goodness": "cube"}, "goodness"),
        ({"sign": "+"}, "sign"),
        ({"negatives": "soft"}, "negatives"),
        ({"precision": "fp8"}, "precision"),
        ({"widths": ()}, "widths"),
        ({"widths": (3, 0)}, "widths"),
        ({"epochs": 0}, "epochs"),
        ({"lr": float("nan")}, "lr"),
        ({"lr": float("inf")}, "lr"),
        ({"peer": float("inf")}, "peer"),
        ({"mode": "unsupervised", "batch": 1}, "batch of 2"),
        ({"temperature": 0.0}, "temperature"),
        ({"jitter": -1}, "jitter"),
        ({"damping": 1.0}, "damping"),
        ({"mode": "recurrent", "read": (5, 3)}, "read"),
        ({"mode": "recurrent", "read": (3, 9)}, "iterations 1 to 4"),
        ({"input_dropout": 1.0}, "input_dropout"),
        ({"unknown": 1}, "setting"),
    ],
)
def test_settings_are_checked_at_the_door(changes, says):
    with pytest.raises(InputError, match=says):
        settings(**changes)


def test_fewer_iterations_are_read_to_their_end():
    for iterations, read in ((1, (1, 1)), (4, (3, 4)), (5, (3, 5)), (8, (3, 5)), (12, (3, 5))):
        assert preset("recurrent", iterations=iterations).read == read
    assert preset("recurrent", iterations=4, read=(1, 2)).read == (1, 2)


def test_rate_halves_as_published():
    s = settings(epochs=10)
    shares = [s.rate_share(e) for e in range(10)]
    assert shares[:5] == [1.0] * 5
    # (1 + 2 (maxepoch - epoch)) / maxepoch of the published program, epochs counted from 1.
    assert shares[5:] == pytest.approx([(1 + 2 * (10 - e)) / 10 for e in range(6, 11)])
