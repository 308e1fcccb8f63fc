"""Pictures made ready ahead of whoever takes them, by other processes, the same whatever their number."""

from __future__ import annotations

import io
import os
import pickle
import signal
import sys
import threading
import warnings
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar, copy_context
from itertools import chain, islice
from typing import Any, Generic, TypeVar

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from glom.errors import GlomError, RunError, unknown
from glom.runs.notices import notice

AHEAD = 64  # pictures that are ready, or being made so, before they are asked for
TOGETHER = 4  # pictures that are sent at once: whatever their size, a message takes the reader some milliseconds
MOST = 8  # processes that are started for a GPU where no number is given
ALIGNED = 64  # bytes: where a tensor begins in what is sent
END, CONTINUE = "end", "continue"
DIED = "a process that reads pictures died, perhaps for want of memory"

Made = TypeVar("Made")
_ON_DEATH: ContextVar[str] = ContextVar("on_dead_worker", default=END)


@contextmanager
def on_dead_worker(what: str) -> Iterator[None]:
    """What becomes of reading that begins inside when one of its processes dies.

    Args:
        what: "end" with an error; "continue" with one fewer, in the end with this process alone: what the processes had
            not handed over is read again, so that nothing is lost and nothing differs.

    Raises:
        InputError: anything else.
    """
    if what not in (END, CONTINUE):
        raise unknown("`on_dead_worker`", what, (END, CONTINUE))
    before = _ON_DEATH.set(what)
    try:
        yield
    finally:
        _ON_DEATH.reset(before)


def asked_on_death() -> str:
    """What `on_dead_worker` was told; "end" where it was told nothing."""
    return _ON_DEATH.get()


def readers(asked: int | None, device: torch.device) -> int:
    """How many processes read: as many as asked for; else none beside a CPU, whose cores have enough to do."""
    if asked is not None:
        return asked
    return min(MOST, os.cpu_count() or 1) if device.type == "cuda" else 0


def read_ahead(
    look: Callable[[int], Made], numbers: Iterable[int], workers: int = 0, pin: bool = False, ahead: int = AHEAD
) -> Iterator[Made | GlomError]:
    """`look` of every number, in their order; where it raises a `GlomError`, that.

    With `workers` it is called in so many processes that begin as copies of this one, each with one thread; they begin
    at once, before other threads are started. What `look` draws must follow from its number: then the results are the
    same for any number of processes. A number stands for a picture: what it is, the processes know already.

    Args:
        look: of one number, such as a sample's place: reads, corrupts, preprocesses, all on the CPU.
        workers: processes, or 0 for none but this one, which then looks when it is asked.
        pin: whether tensors are kept where a GPU reads them fastest.
        ahead: how many numbers are looked at before they are asked for.

    Raises:
        RunError: a process died, and nothing else was asked for by `on_dead_worker`. Whatever else `look` raised.
    """
    if not workers:
        return map(_Look(look).one, numbers)
    return _Readers(_Look(look), numbers, workers, pin, ahead)


def read_all(look: Callable[[int], Made], numbers: Iterable[int], workers: int = 0) -> Iterator[Made]:
    """As `read_ahead`, of pictures that all have to be there.

    Raises:
        GlomError: the first that `look` raised, or a process died.
    """
    for found in read_ahead(look, numbers, workers):
        if isinstance(found, GlomError):
            raise found
        yield found


class _Readers(Iterator[Any]):
    """Processes that look; those that are left begin anew where one died, first with what was given out and not had."""

    def __init__(self, look: _Look[Any], numbers: Iterable[int], workers: int, pin: bool, ahead: int) -> None:
        self.look, self.rest, self.workers, self.pin, self.ahead = look, iter(numbers), workers, pin, ahead
        self.lasting, self.told = _ON_DEATH.get() == CONTINUE, copy_context()  # who takes them may be another thread
        self.out, self.had = deque[tuple[int, ...]](), deque[Any]()
        self.found = self._begun()

    def __next__(self) -> Any:
        if not self.had:
            self.had.extend(self._taken())
        return self.had.popleft()

    def _taken(self) -> Sequence[Any]:
        """What was made of the next numbers, as many as are sent at once."""
        while self.workers:
            try:
                sent = next(self.found)
            except (RuntimeError, ConnectionError, EOFError) as error:
                if not _is_death(error):
                    raise
                if not self.lasting:
                    raise RunError(
                        f"{DIED}; what was computed stays: go on with fewer `workers`, with 0 to see which picture it "
                        f"is, or with `on_dead_worker` {CONTINUE}"
                    ) from error
            else:
                self.out.popleft()
                return _unpacked(sent, self.pin)
            self.workers -= 1
            self.told.run(notice, f"{DIED}; reading goes on with {self.workers or 'none beside this one'}")
            self.found = iter(())  # so that the others end before any begin
            self.found = self._begun()
        return [next(self.found)]

    def _asked(self, together: int) -> Iterator[tuple[int, ...]]:
        while numbers := tuple(islice(self.rest, together)):
            self.out.append(numbers)
            yield numbers

    def _begun(self) -> Iterator[Any]:
        """As many processes as there are to be, begun. Torch's signal handler, which raises wherever the program
        happens to be, is taken out: a process that died is found where its pictures are waited for."""
        self.rest, self.out = chain(*self.out, self.rest), deque()
        if not self.workers:
            return map(self.look.one, self.rest)
        together = max(1, min(TOGETHER, self.ahead // (2 * self.workers)))
        os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")  # they fear for their threads in a copied process
        main = threading.current_thread() is threading.main_thread()
        before = signal.getsignal(signal.SIGCHLD) if main and hasattr(signal, "SIGCHLD") else None
        with warnings.catch_warnings():
            # More than there are cores is as was asked for.
            warnings.filterwarnings("ignore", "This DataLoader will create|.*multi-threaded, use of fork")
            loader: DataLoader[Any] = DataLoader(
                self.look,
                batch_size=None,
                sampler=self._asked(together),  # type: ignore[arg-type]  # an iterator is enough
                num_workers=self.workers,
                collate_fn=_as_it_is,
                prefetch_factor=max(2, -(-self.ahead // (self.workers * together))),
                multiprocessing_context="fork" if sys.platform == "linux" else None,
                generator=torch.Generator(),  # or the order of the caller's own random numbers would change
            )
            found = iter(loader)
        if before is not None:
            signal.signal(signal.SIGCHLD, before)
        return found


def _is_death(error: Exception) -> bool:
    """Whether a process died, rather than raised: that is reported with its name by torch."""
    said = str(error)
    lost = isinstance(error, ConnectionError | EOFError) and not said.startswith("Caught ")
    return lost or said.startswith("DataLoader worker (pid")


def to_device(images: Sequence[Tensor], device: torch.device) -> Tensor:
    """Pictures of one shape as one batch there; a GPU fetches pinned ones while the program goes on."""
    if device.type != "cuda":
        return torch.stack(list(images)).to(device)
    return torch.stack([image.to(device, non_blocking=True) for image in images])


class _Look(Dataset[Any], Generic[Made]):
    def __init__(self, look: Callable[[int], Made]) -> None:
        self.look = look

    def one(self, number: int) -> Made | GlomError:
        try:
            return self.look(number)
        except GlomError as error:
            return error

    def __getitem__(self, numbers: Sequence[int]) -> _Sent:
        return _packed([self.one(number) for number in numbers])


_Sent = tuple[Tensor, int]
"""Everything in one piece of memory that processes share, and where in it what is no tensor begins. A process that is
killed while it sends something large through a pipe leaves half of it there, and whoever reads from that waits for
ever; and each tensor that is sent by itself is fetched by a connection of its own."""


class _Pickler(pickle.Pickler):
    """Of tensors keeps where they are to be found."""

    def __init__(self, file: io.BytesIO) -> None:
        super().__init__(file, pickle.HIGHEST_PROTOCOL)
        self.tensors, self.end = list[tuple[int, Tensor]](), 0

    def persistent_id(self, found: Any) -> Any:
        if not isinstance(found, Tensor):
            return None
        start, tensor = self.end, found.detach().contiguous()
        self.tensors.append((start, tensor))
        self.end += -(-tensor.nbytes // ALIGNED) * ALIGNED
        return start, tensor.nbytes, tensor.dtype, tuple(tensor.shape)


class _Unpickler(pickle.Unpickler):
    def __init__(self, file: io.BytesIO, shared: Tensor) -> None:
        super().__init__(file)
        self.shared = shared

    def persistent_load(self, kept: Any) -> Tensor:
        start, size, dtype, shape = kept
        return self.shared[start : start + size].view(dtype).view(shape)


def _packed(made: Any) -> _Sent:
    pickler = _Pickler(rest := io.BytesIO())
    pickler.dump(made)
    shared = torch.empty(pickler.end + rest.tell(), dtype=torch.uint8)
    for start, tensor in pickler.tensors:
        shared[start : start + tensor.nbytes] = tensor.flatten().view(torch.uint8)
    shared[pickler.end :] = torch.frombuffer(rest.getbuffer(), dtype=torch.uint8)
    return shared, pickler.end


def _unpacked(sent: _Sent, pin: bool) -> Any:
    """Pinned here, where a process that died is waited for: torch's own thread for it prints a traceback and ends."""
    shared, end = sent
    rest = io.BytesIO(shared[end:].numpy().tobytes())
    return _Unpickler(rest, shared.pin_memory() if pin else shared).load()


def _as_it_is(made: Made) -> Made:
    return made
