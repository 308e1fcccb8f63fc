"""`torch.hub.load("OWNER/glom-apm", "apm")`: what ships, and what can be named, without installing the package."""

from __future__ import annotations

from typing import Any

dependencies = ["torch", "torchvision", "open_clip", "timm", "transformers", "safetensors", "einops", "huggingface_hub"]


def apm(name: str = "apm-cifar10", device: str = "cpu") -> Any:
    """A pre-trained Asynchronous Perception Machine, see `glom.load`."""
    import glom

    return glom.load(name, device)


def teacher(name: str = "glom-tiny", device: str = "auto") -> Any:
    """A frozen encoder with tokens, grids and class names, see `glom.load_teacher`."""
    import glom

    return glom.load_teacher(name, device)


def backbone(name: str = "mvit-v2-tiny", device: str = "auto") -> Any:
    """A network whose layers are read as feature grids, see `glom.load_backbone`."""
    import glom

    return glom.load_backbone(name, device)
