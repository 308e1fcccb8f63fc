"""Slot attention against its algorithm written down a second time, and what the algorithm promises."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from glom.runs.seeds import fixed_seed
from glom.slots.attention import EPSILON, SlotAttention

B, N, F, K, D, HIDDEN = 2, 7, 5, 3, 4, 6


def attention(beginning: str = "drawn", iterations: int = 3) -> SlotAttention:
    with fixed_seed(3):
        made = SlotAttention(F, K, D, HIDDEN, iterations, beginning).double()
        for name, parameter in made.named_parameters():
            if "norm" in name:  # gains and shifts that are not one and nothing
                torch.nn.init.normal_(parameter)
    return made.requires_grad_(False)


@pytest.fixture
def inputs() -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    return (
        torch.randn(B, N, F, generator=generator, dtype=torch.float64),
        torch.randn(B, K, D, generator=generator, dtype=torch.float64),
    )


def written_down(made: SlotAttention, x: np.ndarray, noise: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Algorithm 1 of Locatello et al. 2020 for one picture, in loops over slots and locations; the GRU as in Cho et al.
    2014 with the reset gate inside the candidate, as torch has it."""
    w = {name: value.numpy() for name, value in made.state_dict().items()}

    def norm(v: np.ndarray, name: str) -> np.ndarray:
        return (v - v.mean()) / np.sqrt(v.var() + 1e-5) * w[f"{name}.weight"] + w[f"{name}.bias"]

    def sigmoid(v: np.ndarray) -> np.ndarray:
        return 1 / (1 + np.exp(-v))

    places = [norm(row, "norm_inputs") for row in x]
    keys, values = [w["keys.weight"] @ p for p in places], [w["values.weight"] @ p for p in places]
    slots = [w["mean"][0] + np.exp(w["log_deviation"][0]) * e for e in noise]
    shares = np.zeros((K, N))
    for _ in range(made.iterations):
        queries = [w["queries.weight"] @ norm(s, "norm_slots") for s in slots]
        for n in range(N):
            scores = np.exp([k @ keys[n] / np.sqrt(D) for k in queries])
            shares[:, n] = scores / scores.sum()
        new = []
        for k in range(K):
            weight = shares[k] + EPSILON
            update = sum(weight[n] * values[n] for n in range(N)) / weight.sum()
            own = w["cell.weight_ih"] @ update + w["cell.bias_ih"]
            past = w["cell.weight_hh"] @ slots[k] + w["cell.bias_hh"]
            reset, keep = sigmoid(own[:D] + past[:D]), sigmoid(own[D : 2 * D] + past[D : 2 * D])
            candidate = np.tanh(own[2 * D :] + reset * past[2 * D :])
            slot = (1 - keep) * candidate + keep * slots[k]
            inner = np.maximum(w["mlp.0.weight"] @ norm(slot, "norm_mlp") + w["mlp.0.bias"], 0)
            new.append(slot + w["mlp.2.weight"] @ inner + w["mlp.2.bias"])
        slots = new
    return np.stack(slots), shares


@pytest.mark.parametrize("iterations", [1, 3])
def test_the_published_algorithm(inputs, iterations):
    made = attention(iterations=iterations)
    slots, shares = made(*inputs)
    for picture, noise, own, share in zip(*inputs, slots, shares, strict=True):
        expected, wanted = written_down(made, picture.numpy(), noise.numpy())
        np.testing.assert_allclose(own.numpy(), expected, atol=1e-10)
        np.testing.assert_allclose(share.numpy(), wanted, atol=1e-10)


def test_slots_are_exchangeable_and_locations_a_set(inputs):
    made, order, places = attention(), torch.tensor([2, 0, 1]), torch.randperm(N)
    x, noise = inputs
    slots, shares = made(x, noise)
    permuted, shared = made(x[:, places], noise[:, order])
    torch.testing.assert_close(permuted, slots[:, order])
    torch.testing.assert_close(shared, shares[:, order][:, :, places])
    assert float((slots[:, 0] - slots[:, 1]).abs().min()) > 0


def test_every_location_is_shared_out_whole(inputs):
    _, shares = attention()(*inputs)
    torch.testing.assert_close(shares.sum(1), torch.ones(B, N, dtype=torch.float64))


def test_learned_beginnings_take_no_noise_and_differ(inputs):
    made = attention("learned")
    slots, _ = made(inputs[0])
    assert torch.equal(slots, made(inputs[0], inputs[1])[0])
    assert made.mean.shape == (K, D) and float((slots[:, 0] - slots[:, 1]).abs().max()) > 1e-3
    assert not hasattr(made, "log_deviation")


def test_gradients_run_through_every_round_and_to_where_slots_begin(inputs):
    """Finite differences would differ where a round's slots were cut off from the graph."""
    made = attention()
    x, noise = inputs
    assert torch.autograd.gradcheck(lambda a, b: made(a, b)[0], (x[:1].requires_grad_(), noise[:1].requires_grad_()))
    made.requires_grad_(True)
    made(x, noise)[0].square().sum().backward()
    assert all(p.grad is not None and bool(p.grad.any()) for p in made.parameters())
