"""How far the executions are from plain: tokens and gradients, in float32 and float64; and what bf16 costs."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from experiments.bench.steps import drawn
from glom import execution
from glom.apm import INITIALISATIONS, APMConfig, AsynchronousPerceptionMachine
from glom.columns import grid_queries
from glom.execution import StackedAPM

Answer = tuple[Tensor, dict[str, Tensor]]


def answer(
    apm: AsynchronousPerceptionMachine, image: Tensor, target: Tensor, how: str, where: Tensor | None = None
) -> Answer:
    """The token, and every parameter's gradient of the token loss, by one execution; "stacked" is a stack of one."""
    if how == "stacked":
        stack = StackedAPM(apm.config, 1, dtype=image.dtype)
        stack.load_sample(0, apm)
        token = stack(image, where).token
        F.mse_loss(token, target).backward()
        gradients = {name: stack[name].grad for name in stack.names}
        return token.detach(), {name: g[0] for name, g in gradients.items() if g is not None}
    apm.zero_grad(set_to_none=True)
    found = execution.run(apm, image, where, ("token",), how).token
    assert found is not None
    F.mse_loss(found, target).backward()
    return found.detach(), {name: p.grad for name, p in apm.named_parameters() if p.grad is not None}


def measure_differences(config: APMConfig, seed: int = 0, side: int = 0) -> dict[str, Any]:
    """Largest absolute differences from plain over both initialisations, and how large what is compared is.

    Args:
        side: of the grid of locations that is asked; 0: the machine's own.

    Returns:
        by dtype: max_output_difference, max_gradient_difference (over folded, streamed and stacked), max_output,
        max_gradient (of plain), and by_execution with each one's own pair.
    """
    result: dict[str, Any] = {}
    for dtype in (torch.float32, torch.float64):
        where = grid_queries(side, side, dtype=dtype) if side else None
        each = {how: {"output": 0.0, "gradient": 0.0} for how in ("folded", "streamed", "stacked")}
        largest = {"output": 0.0, "gradient": 0.0}
        for init in INITIALISATIONS:
            apm, image, target = drawn(config, seed, init, dtype=dtype)
            token, gradients = answer(apm, image, target, "plain", where)
            largest["output"] = max(largest["output"], float(token.abs().max()))
            largest["gradient"] = max(largest["gradient"], *(float(g.abs().max()) for g in gradients.values()))
            for how, worst in each.items():
                other, others = answer(apm, image, target, how, where)
                worst["output"] = max(worst["output"], float((token - other).abs().max()))
                for name, g in gradients.items():
                    worst["gradient"] = max(worst["gradient"], float((g - others[name]).abs().max()))
        result[str(dtype).removeprefix("torch.")] = {
            "max_output_difference": max(worst["output"] for worst in each.values()),
            "max_gradient_difference": max(worst["gradient"] for worst in each.values()),
            "max_output": largest["output"],
            "max_gradient": largest["gradient"],
            "by_execution": each,
        }
    return result


@torch.no_grad()
def measure_bf16_token(config: APMConfig, seed: int = 0) -> dict[str, float]:
    """Cosine of the token by bf16 products with the token in float32, by initialisation, before any adaptation."""
    found = {}
    for init in INITIALISATIONS:
        apm, image, _ = drawn(config, seed, init)
        exact = execution.run(apm, image, None, ("token",), "folded").token
        with torch.autocast("cpu", torch.bfloat16):
            rough = execution.run(apm, image, None, ("token",), "folded").token
        assert exact is not None
        assert rough is not None
        found[f"token_cosine_{init}"] = float(F.cosine_similarity(exact, rough.float()))
    return found
