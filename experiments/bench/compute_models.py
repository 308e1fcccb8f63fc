"""The models of the computational table with random weights, and what torch counts on them.

Counting runs on the meta device where a model allows it: sizes without numbers. The APM checks its queries' values,
so it is counted on a CPU.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from glom import execution
from glom.apm import APMConfig, AsynchronousPerceptionMachine, blank_apm, preset
from glom.columns import grid_queries
from glom.counting import counted_madds

PROMPT = 4  # learned context vectors of test-time prompt tuning (Shu et al. 2022)
STUDENT: APMConfig = preset("apm-ttt", features=1024)
"""The published student: 174.2 million parameters are CLIP ViT-B/16's and those of 1,024-wide features."""
COUNTED: APMConfig = preset("apm-ttt", features=768)
"""The network whose operations the release counts (`flop_analysis/model.py`): trunk and feature head alone."""
COUNTED_COLUMNS = 512  # that `flop_analysis/count_flops.py` fires; the release's test-time code fires 1,024


def clip(device: str | torch.device = "cpu", model: str = "ViT-B-16") -> nn.Module:
    """open_clip's model of that name with random weights."""
    from open_clip import get_model_config
    from open_clip.model import CLIP

    config = get_model_config(model)
    assert config is not None
    with torch.device(device):
        return CLIP(**config)


def image_tower(device: str | torch.device, side: int) -> nn.Module:
    """CLIP ViT-B/16's image tower alone, for side x side patches. Constant weights: only sizes matter."""
    tower: Any = clip("meta").visual  # type: ignore[attr-defined]
    tower.positional_embedding = nn.Parameter(torch.empty(side * side + 1, 768, device="meta"))
    tower = tower.to_empty(device=device).eval().requires_grad_(False)
    for parameter in tower.parameters():
        parameter.fill_(0.01)
    return tower


def swin(device: str | torch.device = "cpu") -> nn.Module:
    """torchvision's Swin-B with random weights, without stochastic depth."""
    from torchvision.models import swin_b

    with torch.device(device):
        return swin_b().eval()


def student(device: str | torch.device = "cpu", config: APMConfig = STUDENT) -> AsynchronousPerceptionMachine:
    """An APM with random weights."""
    with torch.device(device):
        return blank_apm(config)


def parameters(module: nn.Module) -> int:
    """Number of parameters."""
    return sum(p.numel() for p in module.parameters())


def pictures(device: str | torch.device, size: int = 224, batch: int = 1) -> Tensor:
    """(batch, 3, size, size) of zeros."""
    return torch.zeros(batch, 3, size, size, device=device)


def captions(device: str | torch.device, batch: int = 1) -> Tensor:
    """(batch, 77) word numbers."""
    return torch.zeros(batch, 77, dtype=torch.long, device=device)


def tune_prompts(model: Any, images: Tensor, text: Tensor, learned: Tensor) -> Tensor:
    """Test-time prompt tuning's loss: entropy of the mean prediction over the views; gradients reach `learned` alone.

    Args:
        model: CLIP with frozen weights.
        images: (views, 3, H, W), encoded without a graph.
        text: (classes, 77); `learned` (PROMPT, 512) is added after the start word of each.
    """
    prompts = torch.nn.functional.pad(learned, (0, 0, 1, 77 - 1 - len(learned)))
    hook = model.token_embedding.register_forward_hook(lambda module, inputs, output: output + prompts)
    try:
        words = model.encode_text(text, normalize=True)
    finally:
        hook.remove()
    with torch.no_grad():
        views = model.encode_image(images, normalize=True)
    p = (100.0 * views @ words.mT).softmax(-1).mean(0)
    return -(p * p.clamp_min(1e-9).log()).sum()


def kept_bytes(call: Callable[[], Tensor], weights: nn.Module) -> int:
    """Bytes that autograd keeps for the backward pass of `call`, each storage once, the weights left out."""
    own = {p.untyped_storage()._cdata for p in weights.parameters()}
    kept: dict[int, torch.UntypedStorage] = {}

    def pack(x: Tensor) -> Tensor:
        storage = x.untyped_storage()
        if storage._cdata not in own:
            kept[storage._cdata] = storage
        return x

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda x: x):
        call()
        return sum(storage.nbytes() for storage in kept.values())


@dataclass(frozen=True)
class Counted:
    """Measured multiply-adds of a forward pass, of a forward and backward pass, and the bytes kept between the two."""

    forward: int
    step: int
    kept: int


def count_module(call: Callable[[], Tensor], weights: nn.Module) -> Counted:
    """Count `call` alone, and `call` with the backward pass of its sum."""
    forward, step = counted_madds(call), counted_madds(lambda: call().sum().backward())
    return Counted(forward, step, kept_bytes(call, weights))


def count_swin() -> Counted:
    """Swin-B on one picture of 224 x 224."""
    model, x = swin("meta"), pictures("meta")
    return count_module(lambda: model(x), model)


def count_clip(image: bool = True, text: bool = True) -> Counted:
    """CLIP ViT-B/16 on one picture of 224 x 224 and one prompt."""
    model: Any = clip("meta")
    x, t = pictures("meta"), captions("meta")

    def call() -> Tensor:
        found = torch.zeros((), device="meta")
        if image:
            found = found + model.encode_image(x).sum()
        if text:
            found = found + model.encode_text(t).sum()
        return found

    return count_module(call, model)


def count_tpt(views: int, classes: int) -> int:
    """Multiply-adds of one step of test-time prompt tuning: views forward, prompts forward and backward."""
    model = clip("meta").requires_grad_(False)
    x, t = pictures("meta", batch=views), captions("meta", classes)
    learned = torch.zeros(PROMPT, 512, device="meta", requires_grad=True)
    # The last product, views times words, is the classifier's: not the encoders'. It is taken off again.
    head = views * 512 * classes
    return counted_madds(lambda: tune_prompts(model, x, t, learned).backward()) - 2 * head


def count_release() -> int:
    """Multiply-adds of what the release counts as the student's pass: 512 columns, trunk and feature head, no read-out.

    fvcore, which the release counts with, calls a multiply-add one operation.
    """
    apm = student("cpu", COUNTED)
    T, queries = apm.fold(pictures("cpu", COUNTED.image_size)), torch.zeros(COUNTED_COLUMNS, 2)
    return counted_madds(lambda: apm.unfold(T, queries))


def count_apm(side: int, how: str, config: APMConfig = STUDENT) -> Counted:
    """The student's token over side x side columns under an execution ("plain", "folded")."""
    apm = student("cpu", config)
    images, queries = pictures("cpu", config.image_size), grid_queries(side, side)

    def call() -> Tensor:
        token = execution.run(apm, images, queries, ("token",), how).token
        assert token is not None
        return token

    return count_module(call, apm)
