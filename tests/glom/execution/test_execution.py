"""Folded and streamed execution equal the plain forward, outputs and gradients, whatever the shape and the setting."""

from __future__ import annotations

import copy
import warnings
from collections.abc import Callable

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from glom.apm import ACTIVATIONS, READOUTS, APMConfig, AsynchronousPerceptionMachine, Percept, blank_apm, preset
from glom.columns import LOCATION_CODES, grid_queries
from glom.errors import InputError, RunError
from glom.execution import EXECUTIONS, ask, choose, locate, run
from glom.execution import streamed as streamed_module
from glom.execution.locations import Locations
from glom.execution.streamed import out_of_memory

OUTPUT_SETS = [
    ("token",),
    ("features",),
    ("rgb",),
    ("features", "token"),
    ("rgb", "token"),
    ("features", "rgb", "token"),
]
FEW = settings(deadline=None, max_examples=60, derandomize=True)


@st.composite
def configurations(draw: st.DrawFn) -> APMConfig:
    """Small APMs over every choice there is."""
    return APMConfig(
        features=draw(st.sampled_from([8, 12, 24])),
        image_size=8,
        patch=draw(st.sampled_from([2, 4])),
        channels=draw(st.sampled_from([1, 2])),
        cells=draw(st.integers(1, 5)),
        trunk=tuple(draw(st.lists(st.integers(1, 12), min_size=1, max_size=4))),
        activation=draw(st.sampled_from(sorted(ACTIVATIONS))),
        location_code=draw(st.sampled_from(LOCATION_CODES)),
        local_patch=draw(st.sampled_from([0, 0, 2])),
        readout=draw(st.sampled_from(READOUTS)),
        heads=draw(st.sampled_from([1, 2, 4])),
        rgb=draw(st.sampled_from([(), (5,), (7, 6)])),
        rgb_relu=draw(st.booleans()),
    )


def make_queries(kind: str, seed: int, dtype: torch.dtype) -> Tensor:
    """Location queries of each kind a person asks."""
    g = torch.Generator().manual_seed(seed)
    h, w = (int(n) for n in torch.randint(1, 7, (2,), generator=g))
    if kind == "grid":
        return grid_queries(h, w, dtype=dtype)
    if kind == "crop":
        return grid_queries(h, w, box=(0.2, 0.1, 0.7, 0.95), dtype=dtype)
    if kind == "subset":
        grid = grid_queries(5, 6, dtype=dtype)
        return grid[torch.randperm(30, generator=g)[: 11 + h]]
    points = torch.rand(h * w, 2, generator=g, dtype=torch.float64).to(dtype)
    if kind == "duplicates":
        return points[torch.randint(len(points), (13,), generator=g)]
    return points[:1] if kind == "single" else points


QUERIES = ("grid", "crop", "subset", "ragged", "duplicates", "single")


def machine(config: APMConfig, seed: int, dtype: torch.dtype) -> AsynchronousPerceptionMachine:
    apm = AsynchronousPerceptionMachine(config).to(dtype)
    apm.reset(torch.Generator().manual_seed(seed), "default")
    return apm


def pictures(config: APMConfig, count: int, seed: int, dtype: torch.dtype) -> Tensor:
    g = torch.Generator().manual_seed(seed)
    images = torch.randn(count, 3, config.image_size, config.image_size, generator=g, dtype=torch.float64)
    return images.to(dtype).requires_grad_()


def loss_of(percept: Percept, outputs: tuple[str, ...]) -> Tensor:
    """A loss that no entry of any output enters alike."""
    total = torch.zeros((), dtype=torch.float64)
    for i, name in enumerate(outputs):
        value: Tensor = getattr(percept, name)
        weights = torch.linspace(0.5, 1.5, value.numel(), dtype=torch.float64).view_as(value)
        total = total + ((value.double() - 0.3 * (i + 1)) ** 2 * weights).mean()
    return total


def everything(
    apm: AsynchronousPerceptionMachine,
    images: Tensor,
    outputs: tuple[str, ...],
    ask: Callable[[], Percept],
    extra: tuple[Tensor, ...] = (),
) -> tuple[list[Tensor], dict[str, Tensor | None]]:
    """Outputs, and all gradients by name."""
    leaves = {**dict(apm.named_parameters()), "images": images, **{f"extra{i}": x for i, x in enumerate(extra)}}
    for leaf in leaves.values():
        leaf.grad = None
    percept = ask()
    loss_of(percept, outputs).backward()
    values = [getattr(percept, name).detach() for name in outputs]
    return values, {name: None if x.grad is None else x.grad.clone() for name, x in leaves.items()}


def assert_same(
    one: tuple[list[Tensor], dict[str, Tensor | None]],
    other: tuple[list[Tensor], dict[str, Tensor | None]],
    tolerance: float,
) -> None:
    for a, b in zip(one[0], other[0], strict=True):
        assert a.shape == b.shape
        assert a.dtype == b.dtype
        assert (a - b).norm() <= tolerance * (a.norm() + 1e-6)
    assert one[1].keys() == other[1].keys()
    size = max(float(g.norm()) for g in one[1].values() if g is not None)
    for name, a_ in one[1].items():
        b_ = other[1][name]
        assert (a_ is None) == (b_ is None), name
        if a_ is not None and b_ is not None:
            # A bias the softmax ignores has a gradient of nothing but rounding: the largest one sets that scale.
            assert (a_ - b_).norm() <= tolerance * (a_.norm() + 1e-3 * size), name


@FEW
@given(
    configurations(),
    st.sampled_from(QUERIES),
    st.integers(0, 10_000),
    st.integers(1, 3),
    st.sampled_from(OUTPUT_SETS),
    st.sampled_from([None, 1, 3, 5]),
)
def test_float64_outputs_and_gradients_equal_plain(
    config: APMConfig, kind: str, seed: int, batch: int, outputs: tuple[str, ...], chunk: int | None
) -> None:
    apm, images = machine(config, seed, torch.float64), pictures(config, batch, seed, torch.float64)
    queries = make_queries(kind, seed, torch.float64)
    plain = everything(apm, images, outputs, lambda: run(apm, images, queries, outputs, "plain"))
    folded = everything(apm, images, outputs, lambda: run(apm, images, queries, outputs, "folded"))
    assert_same(plain, folded, 1e-10)
    streamed = everything(apm, images, outputs, lambda: run(apm, images, queries, outputs, "streamed", chunk=chunk))
    assert_same(plain, streamed, 1e-10)


@FEW
@given(configurations(), st.sampled_from(QUERIES), st.integers(0, 10_000), st.sampled_from(OUTPUT_SETS))
def test_float32_to_rounding(config: APMConfig, kind: str, seed: int, outputs: tuple[str, ...]) -> None:
    apm, images = machine(config, seed, torch.float32), pictures(config, 2, seed, torch.float32)
    queries = make_queries(kind, seed, torch.float32)
    plain = everything(apm, images, outputs, lambda: run(apm, images, queries, outputs, "plain"))
    for execution in ("folded", "streamed"):
        found = everything(apm, images, outputs, lambda e=execution: run(apm, images, queries, outputs, e, chunk=4))  # type: ignore[misc]
        assert_same(plain, found, 2e-5)


@pytest.mark.parametrize("execution", ["folded", "streamed"])
@pytest.mark.parametrize("readout", READOUTS)
def test_gradients_reach_the_queries(execution: str, readout: str) -> None:
    config = APMConfig(features=12, image_size=8, patch=2, cells=4, trunk=(9, 8), heads=2, readout=readout, rgb=(5,))
    outputs = ("features", "token")
    apm, images = machine(config, 1, torch.float64), pictures(config, 2, 1, torch.float64)
    queries = torch.rand(7, 2, dtype=torch.float64).requires_grad_()
    plain = everything(apm, images, outputs, lambda: run(apm, images, queries, outputs, "plain"), (queries,))
    found = everything(apm, images, outputs, lambda: run(apm, images, queries, outputs, execution), (queries,))
    assert found[1]["extra0"] is not None
    assert_same(plain, found, 1e-10)


@pytest.mark.parametrize("execution", ["folded", "streamed"])
def test_frozen_parameters_and_no_grad(execution: str) -> None:
    config = APMConfig(features=12, image_size=8, patch=2, cells=4, trunk=(9, 8, 7), heads=2, rgb=None)
    apm, images = machine(config, 1, torch.float64), pictures(config, 1, 1, torch.float64)
    for name in ("trunk.0.weight", "trunk.1.bias", "feature_head.weight", "query"):
        apm.get_parameter(name).requires_grad_(False)
    plain = everything(apm, images, ("token",), lambda: run(apm, images, execution="plain"))
    found = everything(apm, images, ("token",), lambda: run(apm, images, execution=execution, chunk=3))
    assert_same(plain, found, 1e-10)
    with torch.no_grad():
        token = run(apm, images, execution=execution, chunk=3).token
    assert token is not None
    assert not token.requires_grad
    assert torch.allclose(token, plain[0][0])


@pytest.mark.parametrize("execution", ["folded", "streamed"])
@pytest.mark.parametrize("readout", READOUTS)
@pytest.mark.parametrize("activation", ["relu", "gelu"])
def test_low_precision_is_close(execution: str, readout: str, activation: str) -> None:
    config = APMConfig(
        features=32, image_size=16, patch=2, cells=6, trunk=(64, 32), heads=4, readout=readout, activation=activation
    )
    outputs = ("features", "rgb", "token")
    apm, images = machine(config, 3, torch.float32), pictures(config, 2, 3, torch.float32)
    exact = everything(apm, images, outputs, lambda: run(apm, images, None, outputs, "plain"))

    def low() -> Percept:
        with torch.autocast("cpu", dtype=torch.bfloat16):
            return run(apm, images, None, outputs, execution, chunk=10)

    found = everything(apm, images, outputs, low)
    for a, b in zip(exact[0], found[0], strict=True):
        assert (a - b).norm() <= 1e-2 * a.norm()
    for name, g in exact[1].items():
        b_ = found[1][name]
        assert (g is None) == (b_ is None), name
        if g is not None and b_ is not None and g.norm() > 1e-6:
            assert b_.dtype == g.dtype
            assert torch.nn.functional.cosine_similarity(g.flatten(), b_.flatten(), dim=0) > 0.99, name

    whole, small = copy.deepcopy(apm).to(torch.bfloat16), images.detach().to(torch.bfloat16)
    whole.zero_grad()
    percept = run(whole, small, None, outputs, execution, chunk=10)
    loss_of(percept, outputs).backward()
    for a, name in zip(exact[0], outputs, strict=True):
        value = getattr(percept, name)
        assert value.dtype == torch.bfloat16
        assert (a - value.float()).norm() <= 2e-2 * a.norm()
    assert all(p.grad.isfinite().all() for p in whole.parameters() if p.grad is not None)


@FEW
@given(st.integers(0, 1000), st.sampled_from(["folded", "streamed"]), st.sampled_from(["mean", "attention"]))
def test_order_and_place_of_queries_do_not_matter(seed: int, execution: str, readout: str) -> None:
    config = APMConfig(features=8, image_size=8, patch=2, cells=4, trunk=(9, 8), heads=2, readout=readout)
    apm, images = machine(config, seed, torch.float64), pictures(config, 1, seed, torch.float64)
    grid = grid_queries(4, 5, dtype=torch.float64)
    order = torch.randperm(20, generator=torch.Generator().manual_seed(seed))
    one = run(apm, images, grid, ("features", "token"), execution, chunk=7)
    other = run(apm, images, grid[order], ("features", "token"), execution, chunk=3)
    assert one.features is not None
    assert other.features is not None
    assert torch.allclose(one.features[:, order], other.features, rtol=1e-11, atol=1e-13)
    assert one.token is not None
    assert other.token is not None
    assert torch.allclose(one.token, other.token, rtol=1e-11, atol=1e-13)


@pytest.mark.parametrize("execution", ["folded", "streamed"])
def test_large_scores_do_not_overflow(execution: str) -> None:
    config = APMConfig(features=8, image_size=8, patch=2, cells=4, trunk=(9, 8), heads=2)
    apm, images = machine(config, 0, torch.float64), pictures(config, 1, 0, torch.float64)
    with torch.no_grad():
        apm.query.mul_(3e4)
        apm.attention.in_proj_weight.mul_(10)
    plain = everything(apm, images, ("token",), lambda: run(apm, images, execution="plain"))
    found = everything(apm, images, ("token",), lambda: run(apm, images, execution=execution, chunk=3))
    assert found[0][0].isfinite().all()
    assert torch.allclose(plain[0][0], found[0][0], rtol=1e-8)


@FEW
@given(st.sampled_from(QUERIES), st.integers(0, 10_000), st.integers(1, 12), st.integers(1, 9))
def test_locations_give_back_what_they_sorted(kind: str, seed: int, size: int, ranks: int) -> None:
    queries = make_queries(kind, seed, torch.float64)
    where = locate(queries)
    assert torch.equal(where.points(), queries)
    rebuilt = torch.full((1, len(queries), 2), -1.0, dtype=torch.float64)
    for place, part in where.chunks(size):
        assert 1 <= part.count <= size
        target = where.part(rebuilt, place)
        target.copy_(part.points().view_as(target))
    assert torch.equal(rebuilt[0], queries)
    for rank in range(ranks):
        share = where.shard(rank, ranks)
        expected = queries[rank::ranks]
        assert len(expected) == 0 if share is None else torch.equal(share.points(), expected)


def test_locations_see_grids_and_repeats() -> None:
    assert locate(grid_queries(4, 6)).kind == "grid"
    assert locate(torch.tensor([[0.1, 0.2]])).kind == "grid"
    assert locate(grid_queries(6, 6)[torch.randperm(36)[:20]]).kind == "axes"
    assert locate(torch.rand(20, 2)).kind == "points"
    where = locate(torch.rand(4, 2))
    assert locate(where) is where


def test_located_queries_can_be_asked_again() -> None:
    config = APMConfig(features=8, image_size=8, patch=2, cells=4, trunk=(9, 8), heads=2)
    apm, images = machine(config, 0, torch.float64), pictures(config, 1, 0, torch.float64)
    queries = torch.rand(9, 2, dtype=torch.float64)
    where = locate(queries)
    assert isinstance(where, Locations)
    tokens = [run(apm, images, where, execution=e).token for e in ("plain", "folded", "streamed", "auto")]
    for token in tokens:
        assert token is not None
        assert torch.allclose(tokens[0], token, rtol=1e-11)  # type: ignore[arg-type]


# -- the choice -------------------------------------------------------------------------------------------------------


def test_auto_chooses_by_memory_and_says_why(monkeypatch: pytest.MonkeyPatch) -> None:
    config = APMConfig(features=8, image_size=8, patch=2, cells=4, trunk=(64, 32), heads=2)
    apm, images = machine(config, 0, torch.float32), pictures(config, 1, 0, torch.float32)
    said: list[str] = []
    run(apm, images, explain=said.append)
    assert said[0].startswith("folded: 16 columns need")
    import glom.execution as execution

    for module in (execution, streamed_module):
        monkeypatch.setattr(module, "free_memory", lambda device: 20_000)
    choice = choose(apm, 1, 10_000)
    assert choice.execution == "streamed"
    assert choice.chunk is not None
    assert 1 <= choice.chunk < 256
    assert "locations at a time" in choice.reason
    run(apm, images, grid_queries(30, 30), explain=said.append)
    assert said[1].startswith("streamed")


# -- memory -----------------------------------------------------------------------------------------------------------


def small_run() -> tuple[AsynchronousPerceptionMachine, Tensor, tuple[list[Tensor], dict[str, Tensor | None]]]:
    config = APMConfig(features=8, image_size=8, patch=2, cells=4, trunk=(9, 8), heads=2)
    apm, images = machine(config, 0, torch.float64), pictures(config, 1, 0, torch.float64)
    return apm, images, everything(apm, images, ("token",), lambda: run(apm, images, execution="plain"))


def no_room_above(limit: int, monkeypatch: pytest.MonkeyPatch, backward_only: bool = False) -> None:
    """Chunks above `limit` locations fail as an allocator does, some of their work done."""
    real = streamed_module.columns
    kind = torch.OutOfMemoryError if backward_only else RuntimeError

    def columns(*args: object, **kwargs: object) -> dict[str, Tensor]:
        where = args[3]
        assert isinstance(where, Locations)
        if where.count > limit and (torch.is_grad_enabled() or not backward_only):
            raise kind("DefaultCPUAllocator: not enough memory: you tried to allocate 99 bytes")
        return real(*args, **kwargs)  # type: ignore[arg-type]

    monkeypatch.setattr(streamed_module, "columns", columns)


@pytest.mark.parametrize("backward_only", [False, True])
def test_out_of_memory_halves_the_chunk_once_and_says_so(monkeypatch: pytest.MonkeyPatch, backward_only: bool) -> None:
    apm, images, plain = small_run()
    no_room_above(4, monkeypatch, backward_only)
    with pytest.warns(UserWarning, match="out of memory with 8 locations at a time; trying once more with 4"):
        found = everything(apm, images, ("token",), lambda: run(apm, images, execution="streamed", chunk=8))
    assert_same(plain, found, 1e-10)


@pytest.mark.parametrize("backward_only", [False, True])
def test_out_of_memory_twice_is_an_error(monkeypatch: pytest.MonkeyPatch, backward_only: bool) -> None:
    apm, images, _ = small_run()
    no_room_above(1, monkeypatch, backward_only)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with pytest.raises(RunError, match="out of memory with 4 locations"):
            everything(apm, images, ("token",), lambda: run(apm, images, execution="streamed", chunk=8))


def test_what_counts_as_out_of_memory() -> None:
    assert out_of_memory(torch.OutOfMemoryError("CUDA out of memory"))
    assert out_of_memory(MemoryError())
    assert not out_of_memory(RuntimeError("shapes cannot be multiplied"))
    assert not out_of_memory(ValueError("out of memory"))


def peak_elements(apm: AsynchronousPerceptionMachine, images: Tensor, side: int) -> int:
    """The most bytes that a streamed forward and backward hold at once, by the profiler's allocation record."""
    apm.zero_grad()
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU], profile_memory=True) as profile:
        token = run(apm, images, grid_queries(side, side), execution="streamed", chunk=16).token
        assert token is not None
        token.sum().backward()
    held = peak = 0
    for event in profile.profiler.kineto_results.events():  # type: ignore[union-attr]
        if event.name() == "[memory]":
            held += event.nbytes()
            peak = max(peak, held)
    return peak


def test_memory_does_not_grow_with_the_number_of_locations() -> None:
    config = APMConfig(features=32, image_size=16, patch=2, cells=8, trunk=(256, 128), heads=4, rgb=None)
    apm = machine(config, 0, torch.float32)
    images = pictures(config, 1, 0, torch.float32).detach()
    peak_elements(apm, images, 4)
    few, many = peak_elements(apm, images, 4), peak_elements(apm, images, 32)
    assert few > 0
    assert many <= 1.15 * few


# -- bad input --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("execution", [e for e in EXECUTIONS if e != "sharded"])
def test_bad_requests_are_refused_alike(execution: str) -> None:
    config = APMConfig(features=8, image_size=8, patch=2, cells=4, trunk=(9, 8), heads=2, rgb=None)
    apm, images = machine(config, 0, torch.float32), pictures(config, 1, 0, torch.float32)
    with pytest.raises(InputError, match="no location queries"):
        run(apm, images, torch.zeros(0, 2), execution=execution)
    with pytest.raises(InputError, match="1 of 2 location queries lie outside"):
        run(apm, images, torch.tensor([[0.5, 0.5], [1.5, 0.5]]), execution=execution)
    with pytest.raises(InputError, match="location queries must be"):
        run(apm, images, torch.zeros(3), execution=execution)
    with pytest.raises(InputError, match="without a colour head"):
        run(apm, images, outputs=("rgb",), execution=execution)
    with pytest.raises(InputError, match="unknown output 'tokens'"):
        run(apm, images, outputs=("tokens",), execution=execution)
    with pytest.raises(InputError, match="fold expects pictures"):
        run(apm, images[..., :4, :4], torch.rand(2, 2), execution=execution)
    with pytest.raises(InputError, match="at least one location"):
        run(apm, images, execution=execution, chunk=0)


def test_unknown_execution_names_the_nearest() -> None:
    apm, images, _ = small_run()
    with pytest.raises(InputError, match="unknown execution 'foldet'; did you mean folded"):
        run(apm, images, execution="foldet")


def test_sharded_without_a_group_says_what_to_do() -> None:
    apm, images, _ = small_run()
    with pytest.raises(InputError, match="torchrun"):
        run(apm, images, execution="sharded")


def test_locations_asked_part_by_part_are_those_asked_at_once(monkeypatch):
    apm = blank_apm(preset("apm-tiny"))
    apm.reset(torch.Generator().manual_seed(0), "default")
    images = torch.rand(2, 3, 32, 32, generator=torch.Generator().manual_seed(1))
    queries = grid_queries(5, 7)
    monkeypatch.setattr("glom.execution.ASKED", 8)
    wanted = run(apm, images, queries, ("features", "rgb"))
    found = ask(apm, images, queries, ("features", "rgb"))
    torch.testing.assert_close(found.features, wanted.features, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(found.rgb, wanted.rgb, atol=1e-5, rtol=1e-5)
    assert found.features is not None and not found.features.requires_grad and found.features.shape == (2, 35, 128)
    assert ask(apm, images, queries).rgb is None
    with pytest.raises(InputError, match="no part has the token"):
        ask(apm, images, queries, ("token",))
