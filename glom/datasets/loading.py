"""Pictures made ready ahead of whoever takes them, by other processes, the same whatever their number."""

from __future__ import annotations

import os
import signal
import sys
import threading
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, Generic, TypeVar

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from glom.errors import GlomError, RunError

AHEAD = 64  # pictures that are ready, or being made so, before they are asked for
MOST = 8  # processes that are started for a GPU where no number is given

Made = TypeVar("Made")


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
        RunError: a process died. Whatever else `look` raised.
    """
    if not workers:
        return map(_Look(look).__getitem__, numbers)
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")  # tokenizers fear for their threads in a copied process
    context = "fork" if sys.platform == "linux" else None
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "This DataLoader will create")  # more than there are cores: as was asked for
        loader: DataLoader[Any] = DataLoader(
            _Look(look),
            batch_size=None,
            sampler=numbers,
            num_workers=workers,
            collate_fn=_as_it_is,
            pin_memory=pin,
            prefetch_factor=max(2, -(-ahead // workers)),
            multiprocessing_context=context,
            generator=torch.Generator(),  # or the order of the caller's own random numbers would change
        )
        return _taken(_started(loader))


def read_all(look: Callable[[int], Made], numbers: Iterable[int], workers: int = 0) -> Iterator[Made]:
    """As `read_ahead`, of pictures that all have to be there.

    Raises:
        GlomError: the first that `look` raised, or a process died.
    """
    for found in read_ahead(look, numbers, workers):
        if isinstance(found, GlomError):
            raise found
        yield found


def _started(loader: DataLoader[Any]) -> Iterator[Any]:
    """The processes, begun. Torch's signal handler, which raises wherever the program happens to be, is taken out: a
    process that died is found where its pictures are waited for."""
    main = threading.current_thread() is threading.main_thread()
    before = signal.getsignal(signal.SIGCHLD) if main and hasattr(signal, "SIGCHLD") else None
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*multi-threaded, use of fork")
        found = iter(loader)
    if before is not None:
        signal.signal(signal.SIGCHLD, before)
    return found


def _taken(found: Iterator[Any]) -> Iterator[Any]:
    while True:
        try:
            made = next(found)
        except StopIteration:
            return
        except RuntimeError as error:
            if not str(error).startswith("DataLoader worker (pid"):
                raise
            raise RunError(
                "a process that reads pictures died, perhaps for want of memory; what was computed stays: go on with "
                "fewer `workers`, or with 0 to see which picture it is"
            ) from error
        yield made


def to_device(images: Sequence[Tensor], device: torch.device) -> Tensor:
    """Pictures of one shape as one batch there; a GPU fetches pinned ones while the program goes on."""
    if device.type != "cuda":
        return torch.stack(list(images)).to(device)
    return torch.stack([image.to(device, non_blocking=True) for image in images])


class _Look(Dataset[Any], Generic[Made]):
    def __init__(self, look: Callable[[int], Made]) -> None:
        self.look = look

    def __getitem__(self, number: int) -> Made | GlomError:
        try:
            return self.look(number)
        except GlomError as error:
            return error


def _as_it_is(made: Made) -> Made:
    return made
