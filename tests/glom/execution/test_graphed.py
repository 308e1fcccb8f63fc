"""Steps that are recorded and replayed, with a recorder that is none; memory that runs out, once and twice."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

import glom.adaptation.machines as machines
import glom.adaptation.ttt as ttt
from glom.adaptation.case import Case
from glom.adaptation.settings import ttt_preset
from glom.adaptation.ttt import adapt_group
from glom.columns import grid_queries
from glom.errors import RunError
from glom.execution import Repeated, halved, locate
from glom.execution.graphed import WARM
from glom.teachers.heads import ZeroShotHead


def recorder(work: Callable[[], Tensor]) -> tuple[Callable[[], None], Tensor]:
    """As a graph does: recording does nothing but lay results out, and every replay writes them there."""
    found = torch.zeros(())

    def replay() -> None:
        found.copy_(work())

    return replay, found


def group(count: int, **changes: object) -> tuple[list[Case], object, ZeroShotHead]:
    g = torch.Generator().manual_seed(1)
    cases = [Case(f"c{i}", 0, torch.randn(3, 32, 32, generator=g), torch.randn(128, generator=g)) for i in range(count)]
    head = ZeroShotHead(tuple("abc"), torch.randn(3, 128, generator=g), 10.0, None)
    return cases, ttt_preset("fast", apm="apm-tiny", **{"iterations": 6, **changes}), head


def test_what_is_replayed_reads_the_locations_of_each_call_and_is_recorded_once():
    recordings = []

    def counting(work: Callable[[], Tensor]) -> tuple[Callable[[], None], Tensor]:
        recordings.append(work)
        return recorder(work)

    again = Repeated(lambda where: where.points().sum(), counting)
    plain = Repeated(lambda where: where.points().sum())
    grids = [grid_queries(2, 3, (0.1 * i, 0.0, 1.0, 1.0)) for i in range(6)]
    found = [again(locate(grid)) for grid in grids]
    assert len(recordings) == 1 and len(grids) > WARM
    torch.testing.assert_close(torch.stack(found), torch.stack([plain(locate(grid)) for grid in grids]))
    # Locations of another number or kind are not what was recorded.
    for other in (grid_queries(3, 3), torch.rand(6, 2)):
        assert float(again(locate(other))) == pytest.approx(float(other.sum()))
    assert len(recordings) == 1


def test_what_cannot_be_recorded_goes_on_and_says_so_once():
    def refuses(work: Callable[[], Tensor]) -> tuple[Callable[[], None], Tensor]:
        raise RuntimeError("operation not permitted when stream is capturing\nmore")

    one = Repeated(lambda where: where.points().sum(), refuses)
    with pytest.warns(UserWarning, match="not replayed as a CUDA graph.*: operation not permitted") as caught:
        found = [float(one(locate(grid_queries(2, 2)))) for _ in range(WARM + 3)]
    assert len(caught) == 1 and found == [4.0] * (WARM + 3)


@pytest.mark.parametrize("count", [1, 3])
def test_an_adaptation_of_replayed_steps_is_the_adaptation(monkeypatch, count: int):
    """Rates that change, queries that change, a sample that fails: as one step after the other."""
    cases, settings, head = group(count)
    expected = adapt_group(cases, settings, head, 3, keep_trace=True)

    class Replaying(Repeated):
        def __init__(self, work: object, record: object = None) -> None:
            assert record is None  # on a CPU nothing is recorded
            found = torch.zeros(4, count)

            def kept(step: Callable[[], Tensor]) -> tuple[Callable[[], None], Tensor]:
                return lambda: found.copy_(step()), found

            super().__init__(work, kept)

    monkeypatch.setattr(machines.execution, "Repeated", Replaying)
    found = adapt_group(cases, settings, head, 3, keep_trace=True)
    for one, other in zip(found, expected, strict=True):
        assert torch.equal(one.token, other.token) and one.trace == other.trace


def test_out_of_memory_halves_the_stack_once_and_says_so(monkeypatch):
    cases, settings, head = group(3)
    expected = adapt_group(cases, settings, head, 3)
    real, sizes = ttt._adapt_group, []

    def fits(limit: int) -> None:
        def attempt(part, *rest):
            sizes.append(len(part))
            if len(part) > limit:
                raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 1.00 GiB.")
            return real(part, *rest)

        monkeypatch.setattr(ttt, "_adapt_group", attempt)

    fits(2)
    with pytest.warns(UserWarning, match="out of memory with 3 samples at a time; trying once more with 2"):
        found = adapt_group(cases, settings, head, 3)
    assert sizes == [3, 2, 1] and [x.id for x in found] == [x.id for x in expected]
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one.token, other.token, atol=1e-4, rtol=1e-4)
    fits(1)
    twice = pytest.raises(RunError, match="out of memory with 2 samples at a time")
    with pytest.warns(UserWarning, match="trying once more with 2"), twice:
        adapt_group(cases, settings, head, 3)
    fits(0)
    with pytest.raises(RunError, match="out of memory with one of the samples") as caught:
        adapt_group(cases[:1], settings, head, 3)
    assert "\n" not in str(caught.value)


def test_another_error_is_not_taken_for_memory():
    def broken(items):
        raise RuntimeError("shape mismatch")

    with pytest.raises(RuntimeError, match="shape mismatch"):
        halved(broken, [1, 2], "samples")
