"""The processes of one job, as torchrun, `accelerate launch` or MPI start them: join them, wait for them, tell them."""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor

from glom.devices import local_rank, ranks
from glom.errors import InputError, RankLost, unknown

BACKENDS = ("auto", "gloo", "nccl")
LAUNCHED = ("RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")
WEEK = 7 * 86_400.0  # seconds: ranks that share samples wait for one another as long as a share may take

Result = TypeVar("Result")


def init_group(backend: str = "auto", timeout: float = 120.0) -> dist.ProcessGroup:
    """Join the job that `torchrun` started, or return the group that was joined already.

    Args:
        backend: "gloo" (CPUs), "nccl" (GPUs), or "auto": nccl where there is a GPU.
        timeout: seconds after which a rank that does not answer is taken for dead.

    Raises:
        InputError: not started by torchrun, an unknown backend, one this machine or this PyTorch does not have.
        RankLost: the other ranks did not come.
    """
    if backend not in BACKENDS:
        raise unknown("backend", backend, BACKENDS)
    if not dist.is_available():
        raise InputError("this PyTorch was built without torch.distributed: sharded execution needs it")
    cuda = torch.cuda.is_available()
    if backend == "auto":
        backend = "nccl" if cuda and dist.is_nccl_available() else "gloo"
    if backend == "nccl" and not (cuda and dist.is_nccl_available()):
        raise InputError("backend nccl needs a CUDA GPU and a PyTorch built with it; CPUs use gloo")
    if backend == "gloo" and not dist.is_gloo_available():
        raise InputError("this PyTorch was built without gloo")
    if not dist.is_initialized():
        missing = [name for name in LAUNCHED if name not in os.environ]
        if missing:
            raise InputError(f"sharded execution is started by torchrun; the environment lacks {', '.join(missing)}")
        if cuda and backend == "nccl":
            torch.cuda.set_device(local_rank() % torch.cuda.device_count())
        together(
            "joining the job",
            lambda: dist.init_process_group(backend, timeout=timedelta(seconds=timeout)),
        )
    group = dist.group.WORLD
    assert group is not None
    return group


def together(what: str, work: Callable[[], Result]) -> Result:
    """`work()`, which needs every rank. Raises `RankLost`, one clear line, where another one is dead or silent."""
    try:
        return work()
    except RuntimeError as error:
        rank = dist.get_rank() if dist.is_initialized() else os.environ.get("RANK", "?")
        lines = str(error).strip().splitlines() or [type(error).__name__]
        cause = re.sub(r"^\[[^\]]*\.(cc|cpp):\d+\] ", "", lines[0]).partition(". ")[0]  # gloo's own place, and advice
        raise RankLost(f"rank {rank}: another rank died or did not answer while {what} ({cause})") from error


@dataclass(frozen=True)
class Ranks:
    """This process among those of its job; by itself, the only one. What waits for others raises `RankLost`."""

    rank: int = 0
    world: int = 1

    @classmethod
    def join(cls, timeout: float = WEEK) -> Ranks:
        """The job that was started, or one process. Raises `RankLost` where the others do not come."""
        rank, world = ranks()
        if world > 1:
            init_group(timeout=timeout)
        return cls(rank, world)

    @property
    def part(self) -> str:
        """What the names of this one's files end in among the others': "-1-of-4"; "" for one process."""
        return f"-{self.rank}-of-{self.world}" if self.world > 1 else ""

    def wait(self) -> None:
        """Until every rank is here."""
        if self.world > 1:
            together("waiting for the others", dist.barrier)

    def told(self, value: Result) -> Result:
        """The first rank's value, on every rank."""
        found: list[Any] = [value]
        if self.world > 1:
            together("hearing the first rank", lambda: dist.broadcast_object_list(found, src=0))
        heard: Result = found[0]
        return heard

    def gathered(self, value: Result) -> list[Result]:
        """Every rank's value in the order of the ranks, on every rank."""
        found: list[Any] = [value] * self.world
        if self.world > 1:
            together("gathering what was found", lambda: dist.all_gather_object(found, value))
        return found

    def total(self, value: Tensor) -> Tensor:
        """The sum over the ranks."""
        if self.world > 1:
            value = value.clone()
            together("adding up", lambda: dist.all_reduce(value))
        return value
