"""The one way that weights and training states are written: whole or not at all, so that a kill leaves the old file."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save as serialise
from torch import Tensor

from glom.errors import RunError
from glom.runs.files import disk_error, replacing, write_whole


def save_tensors(path: Path, state: Mapping[str, Tensor], metadata: Mapping[str, str] | None = None) -> None:
    """Tensors, on whatever device, and words about them as a `.safetensors` file.

    Raises:
        RunError: the disk is full, or the file cannot be written; what was there stays.
    """
    held = {name: tensor.detach().cpu().contiguous() for name, tensor in state.items()}
    write_whole(path, serialise(held, dict(metadata) if metadata else None))


def save_state(path: Path, state: Mapping[str, Any]) -> None:
    """What a training needs to go on, in torch's own format. Raises `RunError` as `save_tensors` does."""
    try:
        with replacing(path) as file:
            torch.save(dict(state), file)
    except RuntimeError as error:
        if isinstance(error, RunError):
            raise
        # torch's own writer fails on what the disk left of it; what the disk said comes before.
        if isinstance(error.__context__, OSError):
            raise disk_error(error.__context__, path) from error
        raise RunError(f"{path} could not be written ({str(error).splitlines()[0]})") from error
