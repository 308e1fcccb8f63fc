"""Training an MViTv2 from scratch with a classification loss alone, a step at a time, resumable bit for bit.

Every step is a function of its number and of the weights: pictures come from the step's number, the rate from a
formula, and what a step draws follows from its number.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from experiments.emergence.settings import Recipe
from glom.backbones.mvit_tiny import Block, TinyMViT, build_mvit
from glom.runs.seeds import fixed_seed, sample_seed
from glom.training.loop import Training
from glom.training.optimisation import parameter_groups

MEAN, STD = 0.45, 0.225  # of torchvision's video models
SHARPNESS = 4.0  # r of log-mean-exp
EVEN: tuple[Block, ...] = tuple(Block(2, 64, 64, 1, 2) for _ in range(4))
"""One stage, one resolution: every layer's grid is as fine as the first, so layers differ in what they know alone."""
SMALL: tuple[Block, ...] = (Block(1, 32, 32, 1, 2), Block(1, 32, 32, 1, 2))
"""For `quick`: learns little, costs nothing."""
BLOCKS = {"even": EVEN, "small": SMALL}


def build(plan: Recipe, classes: int, seed: int) -> TinyMViT:
    """The recipe's network with random weights; equal seeds, equal weights.

    Linear layers are drawn with variance 1 / inputs (LeCun et al. 1998, "Efficient BackProp", section 4.6): at widths
    this small the usual 0.02 keeps every block silent for the first hundreds of steps.
    """
    with fixed_seed(seed):
        pool = "class" if plan.readout == "class" else "mean"
        net = build_mvit(plan.size, plan.frames, classes, BLOCKS[plan.blocks], plan.stride, pool)
        for module in net.blocks.modules():
            if isinstance(module, nn.Linear):
                nn.init.normal_(module.weight, std=module.in_features**-0.5)
    return net


def boring(images: Tensor, frames: int) -> Tensor:
    """(B, 3, S, S) in [0, 1] -> (B, 3, T, S, S), normalised: every picture a motionless video."""
    return ((images - MEAN) / STD)[:, :, None].expand(-1, -1, frames, -1, -1)


def hide(images: Tensor, share: float, side: int, generator: torch.Generator) -> Tensor:
    """(B, 3, S, S) -> the same, `share` of its patches of `side` pixels grey; others in each picture."""
    cells = -(-images.shape[-1] // side)
    drawn = torch.rand(len(images), 1, cells, cells, generator=generator) < share
    mask = drawn.repeat_interleave(side, 2).repeat_interleave(side, 3)[..., : images.shape[2], : images.shape[3]]
    return images.masked_fill(mask, MEAN)


def mislabel(targets: Tensor, share: float, generator: torch.Generator) -> Tensor:
    """(B, ...) -> the same, `share` of the pictures, drawn one by one, with the labels of another in the batch."""
    drawn = torch.rand(len(targets), generator=generator) < share
    return torch.where(drawn.view(-1, *[1] * (targets.ndim - 1)), targets.roll(1, 0), targets)


def class_scores(net: TinyMViT, images: Tensor, readout: str) -> Tensor:
    """(B, 3, S, S) -> (B, classes).

    "lse": s = (1/r) log (1/N) Σ_i exp(r s_i), s_i the classifier at location i (Pinheiro & Collobert 2015, equation 1).
    """
    video = boring(images, net.recipe["frames"])
    if readout != "lse":
        return net(video)
    each = net.head(net.tokens(video)[:, 1:]).float()
    return (torch.logsumexp(SHARPNESS * each, dim=1) - math.log(each.shape[1])) / SHARPNESS


def loss_of(scores: Tensor, targets: Tensor) -> Tensor:
    """Binary cross-entropy for several classes a picture, cross-entropy for one."""
    if targets.ndim == 2:
        return F.binary_cross_entropy_with_logits(scores.float(), targets)
    return F.cross_entropy(scores.float(), targets)


def accuracy_of(scores: Tensor, targets: Tensor) -> Tensor:
    """(B,) share of a picture's k classes that are among its k highest scores; with one class, top-1."""
    if targets.ndim == 1:
        return (scores.argmax(1) == targets).float()
    k = targets.sum(1, keepdim=True)
    rank = scores.argsort(1, descending=True).argsort(1)
    return ((rank < k) * targets).sum(1) / k[:, 0]


class Trainer:
    """The recipe's network, and how it learns.

    Args:
        plan: the recipe. classes: rows of the classifier. total: steps in all. seed: of the weights.
        device: where it runs. path: the state file, see `glom.training.loop.Training`.
    """

    def __init__(
        self, plan: Recipe, classes: int, total: int, seed: int, device: torch.device, path: Path | None = None
    ) -> None:
        self.plan, self.device, self.seed = plan, device, seed
        self.net = build(plan, classes, seed).to(device).train()
        groups = parameter_groups(self.net.named_parameters(), plan.weight_decay)

        def rate(step: int) -> float:
            """Linear up over `warmup` steps, a cosine down to nothing."""
            return plan.lr * min((step + 1) / max(plan.warmup, 1), 0.5 + 0.5 * math.cos(math.pi * step / total))

        optimiser = torch.optim.AdamW(groups, lr=plan.lr, betas=(0.9, 0.98), fused=True)
        self.training = Training(self.net, optimiser, rate, total, path)

    def loss(self, images: Tensor, targets: Tensor, step: int = 0) -> Tensor:
        """Of a batch; what is hidden of it, and mislabelled, is a function of the step."""
        generator = torch.Generator().manual_seed(sample_seed(self.seed, str(step), "hidden and mislabelled") % 2**63)
        if self.plan.hidden:
            images = hide(images, self.plan.hidden, self.plan.stride, generator)
        if self.plan.noise:
            targets = mislabel(targets, self.plan.noise, generator)
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.plan.bf16):
            scores = class_scores(self.net, images.to(self.device), self.plan.readout)
        return loss_of(scores, targets.to(self.device))


@contextmanager
def watched(net: TinyMViT) -> Iterator[list[Any]]:
    """Collect every block's output while inside; the hooks come off however it is left."""
    outputs: list[Any] = []
    handles = [
        block.register_forward_hook(lambda module, inputs, output: outputs.append(output)) for block in net.blocks
    ]
    try:
        yield outputs
    finally:
        for handle in handles:
            handle.remove()


def places(plan: Recipe) -> list[str]:
    """What `look` returns a grid of: every block, and where locations are read, what each of them says by itself."""
    blocks = [f"block {n}" for n in range(len(BLOCKS[plan.blocks]))]
    return blocks if plan.readout == "class" else [*blocks, "class scores"]


def look(net: TinyMViT, images: Tensor, readout: str, device: torch.device) -> tuple[Tensor, list[Tensor]]:
    """Class scores and the grids of all `places` in one pass, without gradients and in float32.

    The last place is the classifier applied to every location: a class activation map (Zhou et al. 2016, section 2),
    exact here, since the picture's score is a pooling of these.

    Returns:
        (n, classes), and for each place (n, h, w, D), class token dropped and time averaged; on the CPU.
    """
    training = net.training
    net.eval()
    scores, grids = [], []
    try:
        for part in images.split(50):
            with torch.inference_mode(), watched(net) as outputs:
                scores.append(class_scores(net, part.to(device), readout).float().cpu())
                if readout != "class":
                    tokens, thw = outputs[-1]
                    outputs.append((net.head(net.norm(tokens)), thw))
            found = [tokens[:, 1:].unflatten(1, tuple(thw)).mean(1).float().cpu() for tokens, thw in outputs]
            grids.append(found)
    finally:
        net.train(training)
    return torch.cat(scores), [torch.cat(layer) for layer in zip(*grids, strict=True)]


def class_scores_of(net: TinyMViT, images: Tensor, readout: str, device: torch.device) -> Tensor:
    """(n, 3, S, S) -> (n, classes), without gradients and in float32, on the CPU."""
    training = net.training
    net.eval()
    try:
        with torch.inference_mode():
            return torch.cat([class_scores(net, x.to(device), readout).float().cpu() for x in images.split(50)])
    finally:
        net.train(training)
