"""Work in several processes: the same results, in the same order, and nothing left behind."""

from __future__ import annotations

import os
import sys

import pytest
import torch

from glom.errors import InputError, RunError
from glom.runs.parallel import in_order, processes


def halve(number: int) -> tuple[float, int, int]:
    if number < 0:
        raise InputError(f"{number} is below 0")
    return number / 2, torch.get_num_threads(), os.getpid()


def unasked(number: int) -> list[str]:
    import open_clip  # noqa: F401

    return [name for name in ("torch._dynamo.config", "sympy", "transformers") if name in sys.modules]


def die(number: int) -> None:
    os._exit(number)


def test_results_come_in_the_order_of_the_work():
    before = torch.get_num_threads()
    here = list(in_order(halve, range(7), 1))
    there = list(in_order(halve, range(7), 2))
    assert [h[:2] for h in here] == [t[:2] for t in there] == [(n / 2, 1) for n in range(7)]
    assert {pid for *_, pid in here} == {os.getpid()} and os.getpid() not in {pid for *_, pid in there}
    assert torch.get_num_threads() == before


def test_a_process_does_not_load_what_nothing_asks_for():
    assert list(in_order(unasked, [1], 2)) == [[]]


def test_work_is_made_as_it_is_needed():
    taken: list[int] = []

    def work():
        for number in range(100):
            taken.append(number)
            yield number

    found = in_order(halve, work(), 1)
    assert next(found)[0] == 0 and len(taken) == 1
    found.close()


def test_an_error_is_the_functions_own():
    with pytest.raises(InputError, match="-1 is below 0"):
        list(in_order(halve, [1, -1, 2], 1))


def test_a_process_that_dies_is_said():
    with pytest.raises(RunError, match="a process died"):
        list(in_order(die, [3], 2))


def test_few_pieces_are_not_worth_processes():
    assert processes(3, 1) == 3
    assert processes(0, 3) == 1
    assert processes(0, 10**6) == len(os.sched_getaffinity(0))
