"""What the benchmarks run: a machine with random weights, a random picture and token, and one test-time step."""

from __future__ import annotations

import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import Tensor

from glom import execution
from glom.apm import APMConfig, AsynchronousPerceptionMachine, blank_apm


def drawn(
    config: APMConfig,
    seed: int,
    init: str = "default",
    device: torch.device | None = None,
    dtype: torch.dtype | None = None,
) -> tuple[AsynchronousPerceptionMachine, Tensor, Tensor]:
    """A machine, a picture (1, 3, S, S) and a token (1, F), all of one seed, drawn on the CPU in float32."""
    g = torch.Generator().manual_seed(seed)
    image = torch.randn(1, 3, config.image_size, config.image_size, generator=g).to(device=device, dtype=dtype)
    target = torch.randn(1, config.features, generator=g).to(device=device, dtype=dtype)
    apm = blank_apm(config)
    apm.reset(g, init)
    return apm.to(device=device, dtype=dtype), image, target


class Step:
    """One iteration whenever it is called, token loss: forward, backward and the step of a fused Adam."""

    def __init__(self, config: APMConfig, seed: int, device: torch.device | None = None) -> None:
        self.apm, self.image, self.target = drawn(config, seed, device=device)
        self.optimiser = torch.optim.Adam(self.apm.parameters(), lr=1e-4, fused=True)

    def __call__(
        self,
        how: str,
        queries: Tensor | None = None,
        bf16: bool = False,
        chunk: int | None = None,
        group: dist.ProcessGroup | None = None,
    ) -> None:
        self.optimiser.zero_grad(set_to_none=True)
        with torch.autocast(self.image.device.type, torch.bfloat16, enabled=bf16):
            token = execution.run(self.apm, self.image, queries, ("token",), how, chunk=chunk, group=group).token
        assert token is not None
        F.mse_loss(token.float(), self.target).backward()
        if how == "sharded":
            execution.sync_gradients(self.apm, group)
        self.optimiser.step()
