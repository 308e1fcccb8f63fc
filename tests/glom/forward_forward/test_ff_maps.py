"""Maps between layers, the recurrent network with local fields, and the backpropagation twin."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from glom.errors import InputError
from glom.forward_forward import Learner, maps, preset
from glom.forward_forward.goodness import normalise, sum_squares
from glom.forward_forward.maps import Dense, Grid, Local
from glom.forward_forward.recurrent import Recurrent
from glom.forward_forward.twin import Twin

CPU = torch.device("cpu")


def generator(seed: int = 1) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def field_mask(below: Grid, above: Grid, field: int) -> torch.Tensor:
    """(inputs, outputs): 1 where a unit's square field, truncated at the border, covers the input."""
    y, x = torch.meshgrid(torch.arange(below.height), torch.arange(below.width), indexing="ij")
    y, x = y.flatten(), x.flatten()
    near = ((y[:, None] - y).abs() <= field // 2) & ((x[:, None] - x).abs() <= field // 2)
    return near.repeat(below.channels, above.channels).float()


@pytest.mark.parametrize(
    ("height", "width", "field", "tile"), [(6, 6, 3, 4), (5, 7, 5, 3), (4, 4, 11, 8), (9, 2, 1, 4)]
)
def test_local_is_a_masked_dense_map(height, width, field, tile):
    below, above = Grid(2, height, width), Grid(3, height, width)
    one = Local(below, above, field, generator(), tile=tile)
    matrix = one.dense()
    assert torch.equal((matrix != 0).float(), field_mask(below, above, field))
    # Scaled by each unit's own number of inputs.
    assert 0.7 < float(matrix.square().sum(0).mean()) < 1.3
    x, d = torch.randn(4, below.units), torch.randn(4, above.units)
    torch.testing.assert_close(one(x), x @ matrix, rtol=1e-4, atol=1e-5)
    one.accumulate(x, d, 0.5, 2.0)
    one.weights.value.copy_(one.weights.smooth)
    torch.testing.assert_close(one.dense(), 2 * (x.T @ d) * (matrix != 0), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("group", [1, 200, 10**6])
def test_gradients_gathered_in_groups_are_those_gathered_at_once(monkeypatch, group):
    monkeypatch.setattr(maps, "GROUP", group)
    below, above = Grid(2, 9, 7), Grid(3, 9, 7)  # six tiles of four, some of them half outside
    one = Local(below, above, 3, generator())
    x, d = torch.randn(5, below.units, generator=generator(2)), torch.randn(5, above.units, generator=generator(3))
    inside = one.dense() != 0
    one.accumulate(x, d, 0.5, 1.0)
    one.weights.value.copy_(one.weights.smooth)
    torch.testing.assert_close(one.dense(), (x.T @ d) * inside, rtol=1e-4, atol=1e-5)


def test_the_order_of_memory_changes_nothing():
    """Rows as they come and rows whose units lie side by side, as a local map's own results do."""
    below, above = Grid(2, 6, 5), Grid(3, 6, 5)
    one, x, d = Local(below, above, 3, generator()), torch.randn(4, below.units), torch.randn(4, above.units)
    turned = x.T.contiguous().T
    assert torch.equal(one(x), one(turned))
    one.accumulate(x, d, 0.0, 1.0)
    first = one.weights.smooth.clone()
    one.accumulate(turned, d.T.contiguous().T, 0.0, 1.0)
    assert torch.equal(one.weights.smooth, first)
    torch.testing.assert_close(sum_squares(turned), sum_squares(x))


def test_weights_of_another_layout_are_refused():
    dense = Dense(4, 3, generator())
    with pytest.raises(InputError, match=r"\(4, 2\).*\(4, 3\).*train again"):
        dense.weights.load(Dense(4, 2, generator()).weights.state())


def test_local_with_shared_weights_is_a_convolution():
    below, above = Grid(2, 6, 5), Grid(3, 6, 5)
    one, kernel = Local(below, above, 3, generator(), tile=4), torch.randn(3, 2, 3, 3)
    matrix = torch.zeros(below.units, above.units)
    eye = torch.eye(below.units).view(-1, 2, 6, 5)
    matrix = F.conv2d(eye, kernel, padding=1).flatten(1)
    # Put the convolution's weights where the local map keeps them, by solving for each in turn.
    flat = one.weights.value
    position = torch.arange(1.0, flat.numel() + 1).view(flat.shape)
    flat.copy_(position * one._mask)
    where = one.dense().long()
    table = torch.zeros(flat.numel() + 1)
    table[where.flatten()] = matrix.flatten()
    flat.copy_(table[1:].view(flat.shape) * one._mask)
    x = torch.randn(2, 2, 6, 5)
    torch.testing.assert_close(one(x.flatten(1)).view(2, 3, 6, 5), F.conv2d(x, kernel, padding=1), rtol=1e-4, atol=1e-5)


def test_local_fields_that_do_not_fit():
    with pytest.raises(InputError, match="odd"):
        Local(Grid(1, 4, 4), Grid(1, 4, 4), 4, generator())
    with pytest.raises(InputError, match="one size"):
        Local(Grid(1, 4, 4), Grid(1, 4, 5), 3, generator())


def local_and_dense() -> tuple[Recurrent, Recurrent]:
    """A local recurrent network, and a dense one with the same weights and zeros elsewhere."""
    shape = Grid(1, 5, 4)
    common = {"iterations": 4, "read": (2, 3), "negatives": "uniform", "decay": 0.0, "lr": 0.01, "temperature": 1.0}
    local = Recurrent(shape, 3, preset("local", "quick", widths=(2, 3), field=3, **common), generator())
    dense = Recurrent(shape, 3, preset("recurrent", "quick", widths=(40, 60), **common), generator())
    for a, b in zip(local.layers, dense.layers, strict=True):
        for one, other in zip(a.maps, b.maps, strict=True):
            value = one.dense() if isinstance(one, Local) else one.weights.value
            other.weights.value.copy_(value)
    return local, dense


def test_local_recurrent_is_the_dense_one_masked():
    """So what is proved of dense maps, closed form against autograd included, holds for local ones."""
    local, dense = local_and_dense()
    x, labels = torch.rand(5, 20), torch.tensor([0, 1, 2, 0, 1])
    torch.testing.assert_close(local.watch(x), dense.watch(x), rtol=1e-4, atol=1e-4)
    for net in (local, dense):
        net.learn(x, labels, 1.0, generator(3))
    for a, b in zip(local.layers, dense.layers, strict=True):
        torch.testing.assert_close(a.bias.value, b.bias.value, rtol=1e-4, atol=1e-6)
        torch.testing.assert_close(a.mean, b.mean, rtol=1e-4, atol=1e-6)
        for one, other in zip(a.maps, b.maps, strict=True):
            if isinstance(one, Local):
                seen = field_mask(one.below, one.above, 3)
                torch.testing.assert_close(one.dense(), other.weights.value * seen, rtol=1e-4, atol=1e-5)
            else:
                torch.testing.assert_close(one.weights.value, other.weights.value, rtol=1e-4, atol=1e-5)


def test_watching_follows_the_formula():
    """Synchronous, damped, from one bottom-up pass; goodness is read over iterations 2 to 3 here."""
    _, net = local_and_dense()
    x, damping = torch.rand(2, 20), net.settings.damping
    (U1, V1), (U2, V2) = ([m.weights.value for m in layer.maps] for layer in net.layers)
    found = []
    for label in range(3):
        top = torch.eye(3)[label] * 3**0.5
        n0 = normalise(x)
        s1 = torch.relu(n0 @ U1)
        s2 = torch.relu(normalise(s1) @ U2)
        rows = []
        for _ in range(4):
            n1, n2 = normalise(s1), normalise(s2)
            s1 = damping * s1 + (1 - damping) * torch.relu(n0 @ U1 + n2 @ V1)
            s2 = damping * s2 + (1 - damping) * torch.relu(n1 @ U2 + top @ V2)
            rows.append(torch.stack([sum_squares(s1), sum_squares(s2)], -1))
        found.append(torch.stack(rows, 1))
    wanted = torch.stack(found, 1)
    torch.testing.assert_close(net.watch(x), wanted, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(net.goodness(x), wanted[:, :, 1:3].mean(2), rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(net.label_scores(x), wanted[:, :, 1:3].mean(2).sum(-1), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("mode", ["supervised", "unsupervised", "recurrent", "local"])
def test_the_twin_has_the_same_layers(mode):
    sizes = {"widths": (2, 3), "field": 3} if mode == "local" else {"widths": (12, 9)}
    settings = preset(mode, "quick", baseline_lr=3e-3, **sizes)
    shape = (1, 6, 6)
    twin, learner = Twin(shape, 4, settings, CPU), Learner(shape, 4, settings, CPU)
    own = [tuple(w.shape) for w in twin.weights]
    assert own[:2] == [tuple(layer.maps[0].weights.value.shape) for layer in learner.network.layers]
    assert own[2] == (learner.network.layers[-1].units, 4)
    images, labels = torch.rand(32, *shape), torch.arange(32) % 4
    images[torch.arange(32), 0, labels] += 1
    before = F.cross_entropy(twin(images), labels)
    zeros = [w.detach() == 0 for w in twin.weights]
    for _ in range(60):
        twin.learn(images, labels, 1.0, generator())
    assert F.cross_entropy(twin(images), labels) < before / 2
    for w, zero in zip(twin.weights, zeros, strict=True):
        assert torch.equal(w.detach()[zero], torch.zeros(int(zero.sum())))  # no field grew
    again = Twin(shape, 4, settings, CPU)
    again.load(twin.state())
    assert torch.equal(again(images), twin(images))


def test_bf16_products_keep_parameters_in_float32():
    net = Recurrent(Grid(1, 5, 4), 3, preset("local", "quick", widths=(2,), field=3, precision="bf16"), generator())
    x = torch.rand(4, 20).bfloat16()
    logits, squares = net.learn(x, torch.tensor([0, 1, 2, 0]), 1.0, generator())
    for layer in net.layers:
        for one in layer.maps:
            assert one.weights.value.dtype == torch.float32 and one.weights.working.dtype == torch.bfloat16
            torch.testing.assert_close(one.weights.working.float(), one.weights.value, rtol=0.01, atol=1e-3)
    assert logits.dtype == torch.float32 and all(s.dtype == torch.float32 for s in squares)
    assert isinstance(net.layers[-1].maps[1], Dense)
