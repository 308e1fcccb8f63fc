"""Convolutional forward-forward networks: what a layer learns is its own, states and resumption are exact."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import pytest
import torch

from glom.errors import InputError
from glom.forward_forward import conv
from glom.forward_forward.checkpoint import by_layer, error_rates
from glom.forward_forward.conv import ConvLearner
from glom.forward_forward.networks import learner_of, twin_of
from glom.forward_forward.objectives import LABELLED, cwc, distance, grouped, scff, symba
from glom.forward_forward.settings import OBJECTIVES, preset
from glom.runs.events import finished

CPU = torch.device("cpu")


def small(objective: str = "cwc", **given: object) -> ConvLearner:
    settings = preset("conv", "quick", objective=objective, **{"widths": (6, 9, 12), "jitter": 0, **given})
    learner = learner_of((1, 12, 12), 3, settings, CPU)
    assert isinstance(learner, ConvLearner)
    return learner


def stripes(count: int = 60) -> tuple[torch.Tensor, torch.Tensor]:
    """Pictures of three classes: rows, columns, noise."""
    generator = torch.Generator().manual_seed(0)
    labels = torch.arange(count) % 3
    x = torch.rand(count, 1, 12, 12, generator=generator) * 0.3
    x[labels == 0, :, ::2] += 1
    x[labels == 1, :, :, ::2] += 1
    return x, labels


def after(learner: ConvLearner, steps: int = 1) -> ConvLearner:
    x, labels = stripes()
    generator = torch.Generator().manual_seed(1)
    for _ in range(steps):
        learner.learn(x, labels, 1.0, generator)
    return learner


@pytest.mark.parametrize("objective", OBJECTIVES)
def test_no_gradient_crosses_a_layer(objective: str) -> None:
    """The first layer learns the same whatever stands above it: another width and other weights."""
    one, other = small(objective), small(objective, widths=(6, 18, 3))
    other.layers[0].load_state_dict(one.layers[0].state_dict())
    for learner in (one, other):
        after(learner)
    for name, value in one.layers[0].conv.state_dict().items():
        assert torch.equal(value, other.layers[0].conv.state_dict()[name]), name


@pytest.mark.parametrize("objective", OBJECTIVES)
def test_a_layer_sees_its_input_as_data(objective: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """What a layer and its read-out are given asks for no gradient: without `no_grad` around what is given it would."""
    learner = small(objective)
    asked: list[bool] = []
    convolve = torch.nn.functional.conv2d

    def spy(x: torch.Tensor, *rest: object, **named: object) -> torch.Tensor:
        asked.append(x.requires_grad)
        return convolve(x, *rest, **named)  # type: ignore[arg-type]

    monkeypatch.setattr(torch.nn.functional, "conv2d", spy)
    for layer in learner.layers:
        layer.head.register_forward_pre_hook(lambda _, inputs: asked.append(inputs[0].requires_grad))
    after(learner)
    assert len(asked) == 6 and not any(asked)


def test_goodness_below_is_counted_and_taught_nothing() -> None:
    """The first layer learns as alone; the second from what the first leaves to do; the read-out is the sum."""
    alone, counted = after(small()), after(small(cumulative=True))
    first, second = (
        torch.equal(a.conv.weight, c.conv.weight) for a, c in zip(alone.layers[:2], counted.layers[:2], strict=True)
    )
    assert first and not second
    x, _ = stripes()
    torch.testing.assert_close(counted.readouts(x)["goodness"], counted.goodness(x).sum(2))
    with pytest.raises(InputError, match="without labels there is none"):
        small("scff", cumulative=True)


def test_an_input_that_asks_for_a_gradient_is_refused() -> None:
    with pytest.raises(ValueError, match="not detached"):
        small().layers[0].compete(torch.randn(4, 1, 12, 12, requires_grad=True), 3)


@pytest.mark.parametrize("objective", sorted(LABELLED))
@pytest.mark.parametrize(("groups", "pool"), [(1, False), (3, True)])
def test_a_step_by_sums_is_the_plain_one(objective: str, groups: int, pool: bool) -> None:
    """What is given, the running statistics and every gradient are those of square, mean and BatchNorm by autograd.

    These are in float64: PyTorch's BatchNorm in float32 is itself further off.
    """
    generator = torch.Generator().manual_seed(0)
    layer = conv.ConvLayer(6, 9, groups, pool, 3)
    with torch.no_grad():
        layer.norm.weight.uniform_(0.5, 1.5, generator=generator)
        layer.norm.bias.uniform_(-1, 1, generator=generator)
    plain = copy.deepcopy(layer).double()
    x = torch.randn(40, 6, 10, 10, generator=generator).contiguous(memory_format=torch.channels_last)
    labels = torch.arange(40) % 3
    expected = plain(x.double())
    LABELLED[objective](grouped(expected, 3), labels, torch.Generator().manual_seed(1)).backward()
    y, g = layer.compete(x, 3)
    LABELLED[objective](g, labels, torch.Generator().manual_seed(1)).backward()
    assert not y.requires_grad
    torch.testing.assert_close(y.double(), expected, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(g.double(), grouped(expected, 3), rtol=1e-5, atol=1e-5)
    for (name, own), its in zip(layer.named_parameters(), plain.parameters(), strict=True):
        if not name.startswith("head"):
            torch.testing.assert_close(own.grad.double(), its.grad, rtol=1e-5, atol=1e-6, msg=name)
    for (name, own), its in zip(layer.norm.named_buffers(), plain.norm.buffers(), strict=True):
        torch.testing.assert_close(own, its.to(own.dtype), rtol=1e-5, atol=1e-6, msg=name)


def test_goodness_is_the_mean_square_of_a_class_s_channels() -> None:
    y = torch.randn(4, 6, 5, 5)
    expected = torch.stack([y[:, 2 * c : 2 * c + 2].square().mean((1, 2, 3)) for c in range(3)], 1)
    torch.testing.assert_close(grouped(y, 3), expected)


def test_objectives_have_their_known_values() -> None:
    g, labels, generator = torch.tensor([[2.0, 1.0]]), torch.tensor([0]), torch.Generator().manual_seed(0)
    soft = torch.nn.functional.softplus
    torch.testing.assert_close(cwc(g, labels, generator), soft(torch.tensor(-1.0)))
    torch.testing.assert_close(symba(g, labels, generator), soft(torch.tensor(-4.0)))
    torch.testing.assert_close(distance(g, labels, generator), soft(torch.tensor(0.0)))
    places = torch.zeros(1, 2, 2)
    torch.testing.assert_close(scff(places, places + 1, 0), 2 * soft(torch.tensor(0.0)))


@pytest.mark.parametrize("objective", sorted(LABELLED))
def test_it_learns_and_says_what_each_layer_knows(objective: str) -> None:
    learner = after(small(objective), 30)
    x, labels = stripes(90)
    rows = finished(by_layer(learner, x, labels))
    assert rows[-1]["readout_error"] < 10 and rows[-1]["goodness_error"] < 34
    assert rows[-1]["goodness_auroc"] > 0.8
    assert [row["layer"] for row in rows] == [1, 2, 3]


@pytest.mark.parametrize("objective", ["cwc", "scff"])
def test_read_outs_settle_on_layers_that_stay(objective: str) -> None:
    learner = after(small(objective), 10)
    x, labels = stripes()
    layers, before = [copy.deepcopy(layer) for layer in learner.layers], finished(by_layer(learner, x, labels))
    generator = torch.Generator().manual_seed(2)
    for _ in range(40):
        learner.settle(x, labels, 0.1, generator)
    for layer, own in zip(learner.layers, layers, strict=True):
        for name, value in layer.state_dict().items():
            assert torch.equal(value, own.state_dict()[name]) != name.startswith("head."), name
    for now, then in zip(finished(by_layer(learner, x, labels)), before, strict=True):
        assert now["readout_error"] <= then["readout_error"]


def test_without_labels_goodness_tells_pairs_apart_and_no_classes() -> None:
    learner = small("scff")
    x, labels = stripes()
    generator = torch.Generator().manual_seed(1)
    first = learner.learn(x, labels, 1.0, generator)[1]
    for _ in range(30):
        _, last = learner.learn(x, labels, 1.0, generator)
    assert (last[0, 0] - last[0, 1]) > (first[0, 0] - first[0, 1])
    assert set(learner.readouts(x)) == {"softmax"}
    assert finished(by_layer(learner, x, labels))[0]["goodness_auroc"] is None
    assert learner.goodness(x).shape == (60, 3, 3)
    assert float(learner.goodness(x).std(1).max()) == 0


@pytest.mark.parametrize("objective", OBJECTIVES)
def test_a_state_goes_on_to_the_bit(objective: str) -> None:
    whole, half = after(small(objective), 4), after(small(objective), 2)
    again = small(objective, seed=5)
    again.load(copy.deepcopy(half.state()))
    x, labels = stripes()
    generator = torch.Generator().manual_seed(1)
    for step in range(4):
        if step < 2:  # draws what the first half drew
            small(objective).learn(x, labels, 1.0, generator)
        else:
            again.learn(x, labels, 1.0, generator)
    for name, value in whole.net.state_dict().items():
        assert torch.equal(value, again.net.state_dict()[name]), name


def test_the_twin_begins_with_the_same_weights_and_reaches_all_layers() -> None:
    learner = small()
    twin = twin_of((1, 12, 12), 3, learner.settings, CPU)
    for own, its in zip(learner.layers, twin.net.layers, strict=True):
        assert torch.equal(own.conv.weight, its.conv.weight)
    x, labels = stripes()
    before = twin.net.layers[0].conv.weight.clone()
    twin.learn(x, labels, 1.0, torch.Generator())
    assert not torch.equal(before, twin.net.layers[0].conv.weight)
    assert not hasattr(twin.net.layers[0], "head")


@pytest.mark.parametrize("kind", [learner_of, twin_of])
def test_what_a_checkpoint_brings_back_answers_a_picture_alone_as_among_its_class(kind: Callable[..., Any]) -> None:
    """Batch norm by the pictures that are asked about together reads a data set in the order of its classes wrongly."""
    settings = small().settings
    x, labels = stripes()
    trained, generator = kind((1, 12, 12), 3, settings, CPU), torch.Generator().manual_seed(1)
    for _ in range(8):
        trained.learn(x, labels, 1.0, generator)
    again = kind((1, 12, 12), 3, settings, CPU)
    again.load(copy.deepcopy(trained.state()))
    order = labels.argsort()
    errors = []
    for one, batch in ((trained, 60), (again, 60), (again, 20), (again, 1)):
        errors.append(finished(error_rates(one, x[order], labels[order], batch)))
    assert all(found == errors[0] for found in errors[1:])


def test_maps_are_where_the_picture_is() -> None:
    """A shift of the picture by two pooled cells shifts the maps, away from the border."""
    learner = after(small(widths=(6, 9)), 3)
    x = torch.zeros(1, 1, 12, 12)
    x[0, 0, 4:6, 4:6] = 1
    near, far = learner.maps(x)[1], learner.maps(x.roll((2, 2), (2, 3)))[1]
    torch.testing.assert_close(near[:, 1:4, 1:4], far[:, 2:5, 2:5])


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"widths": (6, 10)}, "`widths` 6,10: .* 3 classes do not divide all of them; 6,9 would do"),
        ({"batch": 1}, "batch of 2 or more"),
        ({"objective": "contrast"}, "objective"),
    ],
)
def test_what_cannot_be_is_said(given: dict[str, object], said: str) -> None:
    with pytest.raises(InputError, match=said):
        small(**given)


def test_a_picture_smaller_than_the_strides_is_refused() -> None:
    with pytest.raises(InputError, match="4 px or more, these have 3"):
        learner_of((1, 3, 3), 3, preset("conv", widths=(6,)), CPU)
    assert conv.READ == 4
