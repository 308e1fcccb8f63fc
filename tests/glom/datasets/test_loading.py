"""Pictures read ahead: the same for any number of processes, and a process that dies loses nothing."""

from __future__ import annotations

import multiprocessing
import os
import signal
import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch
from torch.utils.data import get_worker_info

from glom.datasets.loading import on_dead_worker, read_ahead, read_all, readers, to_device
from glom.errors import GlomError, InputError, RunError
from glom.runs.notices import listening
from glom.runs.seeds import sample_seed


def drawn(number: int) -> torch.Tensor:
    if number == 2:
        raise InputError("picture 2 cannot be read")
    return torch.rand(3, generator=torch.Generator().manual_seed(sample_seed(0, str(number), "draw")))


def said(found: torch.Tensor | GlomError) -> object:
    return str(found) if isinstance(found, GlomError) else found.tolist()


def test_any_number_of_processes_gives_the_same_and_leaves_the_callers_draws_alone():
    before = torch.get_rng_state()
    found = [[said(x) for x in read_ahead(drawn, range(5), workers)] for workers in (0, 1, 2)]
    assert found[0] == found[1] == found[2]
    assert found[0][2] == "picture 2 cannot be read" and len(found[0]) == 5
    assert torch.equal(before, torch.get_rng_state())
    assert [x.tolist() for x in read_all(drawn, iter([4, 0]), 1)] == [found[0][4], found[0][0]]
    with pytest.raises(InputError, match="picture 2"):
        list(read_all(drawn, range(5), 1))


def test_a_process_that_dies_is_said_and_what_was_read_is_there():
    def look(number: int) -> int:
        if number == 2:
            os.kill(os.getpid(), signal.SIGKILL)
        return number

    handler = signal.getsignal(signal.SIGCHLD)
    found, ahead = [], read_ahead(look, range(4), 1, ahead=1)
    with pytest.raises(RunError, match=r"a process that reads pictures died.*`workers`"):
        found.extend(ahead)
    assert found == list(range(len(found))) and len(found) < 3  # what was on its way is lost with it
    assert signal.getsignal(signal.SIGCHLD) is handler


def test_reading_goes_on_with_fewer_in_the_end_alone_and_gives_the_same():
    def look(number: int) -> torch.Tensor:
        if number in (3, 7) and get_worker_info():
            os.kill(os.getpid(), signal.SIGKILL)
        return drawn(number)

    numbers, told = [5, 3, 0, 2, 7, 1, 4], list[str]()
    with listening(told.append), on_dead_worker("continue"):
        ahead = read_ahead(look, iter(numbers), 2, ahead=2)
        with ThreadPoolExecutor(1) as pool:  # those who take may do so in a thread of their own
            found = pool.submit(lambda: [said(x) for x in ahead]).result(timeout=60)
    assert found == [said(x) for x in read_ahead(drawn, numbers)]
    assert [line.rpartition("goes on with ")[2] for line in told] == ["1", "none beside this one"]
    with pytest.raises(InputError, match="on_dead_worker"), on_dead_worker("wait"):
        pass


def test_a_process_killed_while_it_sends_something_large_is_no_silence():
    sent = [np.full(300_000, number, np.uint8) for number in range(8)]
    with listening(lambda text: None), on_dead_worker("continue"):
        ahead = read_ahead(sent.__getitem__, range(8), 2)
        assert not next(ahead).any()
        time.sleep(0.5)  # both are at the end of what they can send
        first = min(multiprocessing.active_children(), key=lambda process: process.pid)
        os.kill(first.pid, signal.SIGKILL)
        assert [int(x[-1]) for x in ahead] == list(range(1, 8))


def test_memory_is_pinned_once_for_what_is_sent_together_and_a_death_beside_it_is_like_any_other(monkeypatch):
    pinned = list[int]()
    monkeypatch.setattr(torch.Tensor, "pin_memory", lambda tensor: (pinned.append(tensor.nbytes), tensor.clone())[1])

    def look(number: int) -> tuple[torch.Tensor, str]:
        if number == 30 and get_worker_info():
            os.kill(os.getpid(), signal.SIGKILL)
        return torch.full((5_000,), float(number)), str(number)

    def told(found: object) -> list[tuple[float, str]]:
        return [(picture[-1].item(), name) for picture, name in found]

    wanted = [(float(number), str(number)) for number in range(40)]
    with listening(lambda text: None), on_dead_worker("continue"):
        assert told(read_ahead(look, range(40), 2, pin=True)) == wanted
    assert 0 < len(pinned) <= 7 and min(pinned) > 4 * 20_000, "four pictures each, up to those that die"
    with pytest.raises(RunError, match="died"):
        told(read_ahead(look, range(40), 2, pin=True))


def test_everything_comes_as_it_was_made_whatever_is_sent_together():
    def look(number: int) -> object:
        if number == 6:
            raise InputError("picture 6 cannot be read")
        tensors = [torch.full((3, 2), number, dtype=dtype) for dtype in (torch.bfloat16, torch.int64, torch.bool)]
        turned = torch.arange(6.0).view(2, 3).T + number
        return tensors, {"turned": turned, "empty": torch.zeros(0, 4), "one": torch.tensor(number)}, [str(number), None]

    def plain(made: object) -> object:
        if isinstance(made, torch.Tensor):
            return made.dtype, made.shape, made.tolist()
        if isinstance(made, dict):
            return {name: plain(part) for name, part in made.items()}
        return [plain(part) for part in made] if isinstance(made, list | tuple) else str(made)

    alone = [plain(made) for made in read_ahead(look, range(11))]
    for ahead in (1, 16, 64):  # 1, 4 and 4 at once, with a rest
        assert [plain(made) for made in read_ahead(look, range(11), 2, ahead=ahead)] == alone


def test_a_fault_of_ones_own_is_no_death():
    def look(number: int) -> int:
        raise RuntimeError("a fault")

    with pytest.raises(RuntimeError, match="a fault") as caught:
        list(read_ahead(look, range(1), 1))
    assert not isinstance(caught.value, RunError)


def test_how_many_read_and_what_they_make_is_one_batch():
    assert readers(None, torch.device("cpu")) == 0 and readers(3, torch.device("cpu")) == 3
    assert 1 <= readers(None, torch.device("cuda")) <= 8
    assert to_device([torch.ones(2), torch.zeros(2)], torch.device("cpu")).tolist() == [[1, 1], [0, 0]]
