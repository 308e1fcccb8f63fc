"""The processes that train one network together, as torchrun starts them."""

from __future__ import annotations

from dataclasses import dataclass

import torch.distributed as dist
from torch import Tensor, nn

from glom import execution
from glom.devices import ranks


@dataclass(frozen=True)
class Ranks:
    """This process among those that train together; by itself, the only one."""

    rank: int = 0
    world: int = 1

    @classmethod
    def join(cls) -> Ranks:
        """The job of torchrun, or a training of one process. Raises `RunError` where the others do not come."""
        rank, world = ranks()
        if world > 1:
            # The others wait while the first one prepares what all read, however long that takes.
            execution.init_group(timeout=7 * 86_400.0)
        return cls(rank, world)

    def wait(self) -> None:
        """Until every rank is here."""
        if self.world > 1:
            dist.barrier()

    def total(self, value: Tensor) -> Tensor:
        """The sum over the ranks."""
        if self.world > 1:
            value = value.clone()
            dist.all_reduce(value)
        return value

    def share_gradients(self, model: nn.Module) -> None:
        """Leave the sum of all ranks' gradients on each. Raises `RunError` where a rank died."""
        if self.world > 1:
            execution.sync_gradients(model)
