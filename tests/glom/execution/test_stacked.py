"""Stacked samples equal the same samples run one by one, and see nothing of each other."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from glom.apm import ACTIVATIONS, READOUTS, APMConfig, AsynchronousPerceptionMachine, Percept
from glom.columns import LOCATION_CODES, grid_queries
from glom.errors import InputError
from glom.execution import StackedAPM, locate, run

SMALL = APMConfig(features=8, image_size=8, patch=2, cells=4, trunk=(9, 8), heads=2, rgb=(5,))
OUTPUT_SETS = [("token",), ("rgb",), ("features", "token"), ("features", "rgb", "token")]


@st.composite
def configurations(draw: st.DrawFn) -> APMConfig:
    return APMConfig(
        features=draw(st.sampled_from([8, 12])),
        image_size=8,
        patch=draw(st.sampled_from([2, 4])),
        cells=draw(st.integers(1, 5)),
        trunk=tuple(draw(st.lists(st.integers(1, 12), min_size=1, max_size=4))),
        activation=draw(st.sampled_from(sorted(ACTIVATIONS))),
        location_code=draw(st.sampled_from(LOCATION_CODES)),
        local_patch=draw(st.sampled_from([0, 2])),
        readout=draw(st.sampled_from(READOUTS)),
        heads=draw(st.sampled_from([1, 4])),
        rgb=draw(st.sampled_from([(), (5,), (7, 6)])),
        rgb_relu=draw(st.booleans()),
    )


def make_queries(kind: str, samples: int, seed: int, dtype: torch.dtype) -> Tensor:
    """(N, 2) for all samples, or (S, N, 2) one set each."""
    g = torch.Generator().manual_seed(seed)
    grid = grid_queries(4, 5, dtype=dtype)
    if kind == "grid":
        return grid
    if kind == "subsets":
        return torch.stack([grid[torch.randperm(20, generator=g)[:11]] for _ in range(samples)])
    points = torch.rand(samples, 7, 2, generator=g, dtype=torch.float64).to(dtype)
    return points[0] if kind == "ragged" else points


def samples_of(config: APMConfig, count: int, seed: int, dtype: torch.dtype) -> list[AsynchronousPerceptionMachine]:
    singles = []
    for s in range(count):
        apm = AsynchronousPerceptionMachine(config).to(dtype)
        apm.reset(torch.Generator().manual_seed(seed + s), "default")
        singles.append(apm)
    return singles


def stack_of(singles: list[AsynchronousPerceptionMachine], dtype: torch.dtype) -> StackedAPM:
    stack = StackedAPM(singles[0].config, len(singles), dtype=dtype)
    for s, apm in enumerate(singles):
        stack.load_sample(s, apm)
    return stack


def pictures(count: int, seed: int, dtype: torch.dtype) -> Tensor:
    g = torch.Generator().manual_seed(seed)
    return torch.randn(count, 3, 8, 8, generator=g, dtype=torch.float64).to(dtype)


def loss_of(percept: Percept, outputs: tuple[str, ...]) -> Tensor:
    """The sum of the samples' own losses."""
    total = torch.zeros((), dtype=torch.float64)
    for i, name in enumerate(outputs):
        value: Tensor = getattr(percept, name)
        total = total + ((value.double() - 0.3 * (i + 1)) ** 2).mean(dim=tuple(range(1, value.ndim))).sum()
    return total


@settings(deadline=None, max_examples=60, derandomize=True)
@given(
    configurations(),
    st.sampled_from(["grid", "ragged", "own", "subsets"]),
    st.integers(1, 3),
    st.integers(0, 1000),
    st.sampled_from(OUTPUT_SETS),
    st.sampled_from([(torch.float64, 1e-10), (torch.float32, 2e-5)]),
)
def test_outputs_and_gradients_equal_one_by_one(
    config: APMConfig,
    kind: str,
    count: int,
    seed: int,
    outputs: tuple[str, ...],
    precision: tuple[torch.dtype, float],
) -> None:
    dtype, tolerance = precision
    singles, images = samples_of(config, count, seed, dtype), pictures(count, seed, dtype)
    stack, queries = stack_of(singles, dtype), make_queries(kind, count, seed, dtype)
    together = stack(images, queries, outputs)
    loss_of(together, outputs).backward()
    for s, apm in enumerate(singles):
        own = queries[s] if queries.ndim == 3 else queries
        for execution in ("plain", "folded"):
            apm.zero_grad()
            alone = run(apm, images[s : s + 1], own, outputs, execution)
            loss_of(alone, outputs).backward()
            for name in outputs:
                a, b = getattr(alone, name)[0], getattr(together, name)[s]
                assert a.shape == b.shape
                assert a.dtype == b.dtype
                assert (a - b).norm() <= tolerance * (a.norm() + 1e-6)
            size = max(float(p.grad.norm()) for p in apm.parameters() if p.grad is not None)
            for name, p in apm.named_parameters():
                stacked = stack[name].grad
                assert (p.grad is None) == (stacked is None), name
                if p.grad is not None and stacked is not None:
                    assert (p.grad - stacked[s]).norm() <= tolerance * (p.grad.norm() + 1e-3 * size), name


@pytest.mark.parametrize("threads", [1, 2, 8])
@pytest.mark.parametrize("initialisation", ["published", "default"])
def test_reset_is_the_single_reset(initialisation: str, threads: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch, "get_num_threads", lambda: threads)
    stack = StackedAPM(SMALL, 3)
    for _ in range(2):
        stack.reset([torch.Generator().manual_seed(s) for s in (5, 6, 7)], initialisation)
    for s, seed in enumerate((5, 6, 7)):
        apm = AsynchronousPerceptionMachine(SMALL)
        apm.reset(torch.Generator().manual_seed(seed), initialisation)
        state = stack.state_of(s)
        assert state.keys() == apm.state_dict().keys()
        for name, value in apm.state_dict().items():
            assert torch.equal(state[name], value), name
        apm.load_state_dict(state)


def adapt(parameters: object, steps: int, token: object) -> torch.optim.Optimizer:
    """A few Adam steps towards a token of 0.3s."""
    optimiser = torch.optim.Adam(parameters, lr=1e-2, fused=True)  # type: ignore[arg-type]
    for _ in range(steps):
        optimiser.zero_grad()
        ((token() - 0.3) ** 2).mean(-1).sum().backward()  # type: ignore[operator]
        optimiser.step()
    return optimiser


def test_adapting_together_is_adapting_one_by_one() -> None:
    singles, images = samples_of(SMALL, 3, 0, torch.float64), pictures(3, 0, torch.float64)
    stack = stack_of(singles, torch.float64)
    adapt(stack.parameters(), 8, lambda: stack(images).token)
    for s, apm in enumerate(singles):
        adapt(apm.parameters(), 8, lambda a=apm, i=s: run(a, images[i : i + 1]).token)
        for name, value in stack.state_of(s).items():
            # The keys' bias has a gradient of rounding alone, which Adam scales up: the read-out ignores it.
            if name != "attention.in_proj_bias":
                assert torch.allclose(value, apm.state_dict()[name], rtol=1e-8, atol=1e-10), name
        with torch.no_grad():
            alone = run(apm, images[s : s + 1]).token
            assert alone is not None
            assert torch.allclose(stack(images).token[s], alone[0], rtol=1e-9)


def test_a_nan_stays_in_its_sample() -> None:
    singles, images = samples_of(SMALL, 3, 0, torch.float64), pictures(3, 0, torch.float64)
    healthy, ill = stack_of(singles, torch.float64), stack_of(singles, torch.float64)
    with torch.no_grad():
        ill["trunk.0.weight"][1, 0, 0] = torch.nan
    for stack in (healthy, ill):
        adapt(stack.parameters(), 4, lambda s=stack: s(images).token)
    for s in (0, 2):
        for name, value in healthy.state_of(s).items():
            assert torch.equal(value, ill.state_of(s)[name]), name
    assert ill(images).token[1].isnan().all()
    assert ill(images).token[[0, 2]].isfinite().all()


def test_compact_keeps_samples_and_their_optimiser_state() -> None:
    singles, images = samples_of(SMALL, 4, 0, torch.float64), pictures(4, 0, torch.float64)
    whole, part = stack_of(singles, torch.float64), stack_of(singles, torch.float64)
    keep = [3, 1]
    optimisers = [adapt(stack.parameters(), 3, lambda s=stack: s(images).token) for stack in (whole, part)]
    part.compact(keep, optimisers[1])
    assert part.samples == 2
    for stack, optimiser, shown in zip((whole, part), optimisers, (images, images[keep]), strict=True):
        for _ in range(3):
            optimiser.zero_grad()
            ((stack(shown).token - 0.3) ** 2).mean(-1).sum().backward()
            optimiser.step()
    for new, old in enumerate(keep):
        for name, value in whole.state_of(old).items():
            assert torch.allclose(value, part.state_of(new)[name], rtol=1e-10, atol=1e-12), name


@pytest.mark.parametrize("readout", READOUTS)
def test_autocast_is_close(readout: str) -> None:
    config = APMConfig(features=32, image_size=8, patch=2, cells=6, trunk=(64, 32), heads=4, readout=readout)
    singles, images = samples_of(config, 2, 0, torch.float32), pictures(2, 0, torch.float32)
    stack = stack_of(singles, torch.float32)
    exact = stack(images, outputs=("features", "rgb", "token"))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        low = stack(images, outputs=("features", "rgb", "token"))
    low.token.sum().backward()
    for name in ("features", "rgb", "token"):
        a, b = getattr(exact, name), getattr(low, name)
        assert (a - b).norm() <= 1e-2 * a.norm()
    assert low.token.dtype == torch.float32
    assert low.features.dtype == torch.bfloat16


def test_gradients_reach_shared_queries() -> None:
    singles, images = samples_of(SMALL, 2, 0, torch.float64), pictures(2, 0, torch.float64)
    stack = stack_of(singles, torch.float64)
    queries = torch.rand(6, 2, dtype=torch.float64).requires_grad_()
    stack(images, queries).token.sum().backward()
    assert queries.grad is not None
    alone = torch.zeros_like(queries)
    for s, apm in enumerate(singles):
        token = run(apm, images[s : s + 1], queries, execution="plain").token
        assert token is not None
        alone += torch.autograd.grad(token.sum(), queries)[0]
    assert torch.allclose(queries.grad, alone, rtol=1e-9, atol=1e-12)


def test_bad_requests_are_refused() -> None:
    stack = StackedAPM(SMALL, 2)
    images = torch.zeros(2, 3, 8, 8)
    assert locate(torch.rand(2, 5, 2)).count == 5
    with pytest.raises(InputError, match="at least one sample"):
        StackedAPM(SMALL, 0)
    with pytest.raises(InputError, match="2 stacked samples expect pictures"):
        stack(images[:1])
    with pytest.raises(InputError, match="2 samples need as many sets of queries, got 3"):
        stack(images, torch.rand(3, 5, 2))
    with pytest.raises(InputError, match="no location queries"):
        stack(images, torch.zeros(2, 0, 2))
    with pytest.raises(InputError, match="lie outside"):
        stack(images, torch.full((2, 1, 2), 2.0))
    with pytest.raises(InputError, match="unknown output"):
        stack(images, outputs=("tokens",))
    with pytest.raises(InputError, match="there is no sample 2"):
        stack.state_of(2)
    with pytest.raises(InputError, match="nothing left to keep"):
        stack.compact([])
    with pytest.raises(InputError, match="2 samples need as many generators"):
        stack.reset([torch.Generator()])
    with pytest.raises(InputError, match="missing or unknown"):
        stack.load_sample(0, {})
    with pytest.raises(InputError, match="another configuration"):
        stack.load_sample(0, AsynchronousPerceptionMachine(APMConfig(**{**vars(SMALL), "trunk": (9, 7)})))


@pytest.mark.parametrize("readout", ["mean", "attention"])
def test_a_trunk_once_asked_is_read_again_to_the_same_bits(readout: str) -> None:
    singles = samples_of(replace(SMALL, readout=readout, rgb=None), 3, 0, torch.float32)
    stack, images = stack_of(singles, torch.float32), pictures(3, 1, torch.float32)
    where = locate(grid_queries(4, 4), images.device)
    hidden = stack.hidden(images, where)
    found = []
    for _ in range(2):  # the second time with another last bias
        for token in (stack.token(hidden, where), stack(images, where).token):
            grads = torch.autograd.grad(token.square().sum(), list(stack.parameters()), retain_graph=True)
            found.append([token, *grads])
        with torch.no_grad():
            stack["feature_head.bias"].add_(1)
    for again, whole in (found[:2], found[2:]):
        assert all(map(torch.equal, again, whole))
    assert not torch.equal(found[0][0], found[2][0])


def test_what_is_drawn_into_a_stack_is_what_each_machine_draws() -> None:
    stack = StackedAPM(SMALL, 2)
    stack.reset([torch.Generator().manual_seed(s) for s in range(2)], "default")
    for s, single in enumerate(samples_of(SMALL, 2, 0, torch.float32)):
        assert all(torch.equal(value, single.state_dict()[name]) for name, value in stack.state_of(s).items())


@pytest.mark.parametrize("readout", ["mean", "attention"])
def test_one_machine_seen_by_all_is_that_machine(readout: str) -> None:
    config = replace(SMALL, readout=readout)
    (apm,) = samples_of(config, 1, 3, torch.float64)
    pictures = torch.rand(3, 3, 8, 8, dtype=torch.float64)
    stack = StackedAPM(config, 3, "meta")
    stack.repeat(apm, own=["feature_head.bias"])
    with torch.no_grad():
        stack["feature_head.bias"][1] += 1
        together = stack(pictures, outputs=("features", "rgb", "token"))
        for s in range(3):
            one = AsynchronousPerceptionMachine(config).double()
            one.load_state_dict(stack.state_of(s))
            alone = one(pictures[s : s + 1], outputs=("features", "rgb", "token"))
            for field in ("features", "rgb", "token"):
                torch.testing.assert_close(getattr(together, field)[s], getattr(alone, field)[0])
    assert [name for name in stack.names if stack[name].requires_grad] == ["feature_head.bias"]
    assert torch.equal(stack.state_of(0)["feature_head.bias"], apm.feature_head.bias), "samples share their own"
    with pytest.raises(InputError, match="another configuration"):
        StackedAPM(config, 2, "meta").repeat(samples_of(replace(config, trunk=(9, 4)), 1, 0, torch.float64)[0], own=())
