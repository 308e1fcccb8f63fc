"""Parameters that learn in place: a float32 master, its smoothed gradient, and a copy in the products' precision."""

from __future__ import annotations

import torch
from torch import Tensor

from glom.errors import InputError
from glom.forward_forward.threads import wide


class Weights:
    """One parameter tensor W with Hinton's update, as in the program published with the paper:

        G <- m G + (1 - m) g,    W <- W + rate (G - decay W)

    Attributes:
        value: W in float32 (or float64).
        smooth: G, the same shape, divided by `decay` where that is not zero: the update is then one pass, a `lerp`.
        working: W in the products' precision; W itself where that is the same.
    """

    def __init__(self, value: Tensor, decay: float = 0.0, working: torch.dtype | None = None) -> None:
        self.value = value
        self.smooth = torch.zeros_like(value)
        self.decay = decay
        self._same = working is None or working == value.dtype
        self.working = value if self._same else value.to(working)
        self._product = None if self._same else torch.empty_like(self.working)
        self._single = None if self._same else torch.empty_like(value)

    def accumulate(self, a: Tensor, d: Tensor, keep: float, scale: float, part: slice = slice(None)) -> None:
        """G <- keep G + scale a^T d, for a (R, i), d (R, o); batched for a (t, R, i), d (t, R, o).

        With `part`, for these entries of G's first dimension alone.
        """
        scale = scale / self.decay if self.decay else scale
        smooth = self.smooth[part]
        with wide(self.value.numel()):
            if self._product is None or self._single is None:
                multiply = smooth.addmm_ if a.dim() == 2 else smooth.baddbmm_
                multiply(a.mT, d, beta=keep, alpha=scale)
                return
            # The product is rounded to `working`; what it is added to is not. Few passes: these tensors are large.
            share = 1 - keep if keep < 1 else 1.0
            product = torch.addmm if a.dim() == 2 else torch.baddbmm
            held, single = self._product[part], self._single[part]
            product(held, a.mT, d, beta=0, alpha=scale / share, out=held)
            single.copy_(held)
            if keep < 1:
                smooth.lerp_(single, share)
            else:
                smooth.add_(single)

    def add(self, g: Tensor, keep: float, scale: float) -> None:
        """G <- keep G + scale g, for a gradient that is there already."""
        if keep != 1.0:
            self.smooth.mul_(keep)
        self.smooth.add_(g, alpha=scale / self.decay if self.decay else scale)

    def add_rows(self, g: Tensor, scale: float) -> None:
        """Add scale g to the first rows of G."""
        self.smooth[: len(g)].add_(g, alpha=scale / self.decay if self.decay else scale)

    def step(self, rate: float) -> None:
        """Move W along G, and refresh its working copy."""
        with wide(self.value.numel()):
            if self.decay:
                self.value.lerp_(self.smooth, rate * self.decay)
            else:
                self.value.add_(self.smooth, alpha=rate)
            if not self._same:
                self.working.copy_(self.value)

    def state(self) -> dict[str, Tensor]:
        """What a checkpoint keeps."""
        return {"value": self.value, "smooth": self.smooth}

    def load(self, state: dict[str, Tensor]) -> None:
        """Take a checkpoint's values, in place.

        Raises:
            InputError: they have another shape.
        """
        if state["value"].shape != self.value.shape:
            raise InputError(
                f"the checkpoint holds weights of shape {tuple(state['value'].shape)} where this version keeps "
                f"{tuple(self.value.shape)}: another version wrote it; train again"
            )
        self.value.copy_(state["value"])
        self.smooth.copy_(state["smooth"])
        if not self._same:
            self.working.copy_(self.value)


class Workspace:
    """Temporaries by name and shape, allocated once: a training step allocates nothing large."""

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self._held: dict[tuple[str, tuple[int, ...], torch.dtype], Tensor] = {}

    def __call__(self, name: str, shape: tuple[int, ...], dtype: torch.dtype) -> Tensor:
        key = (name, shape, dtype)
        if key not in self._held:
            with torch.inference_mode(False):  # what is made in it can never be written to outside it
                self._held[key] = torch.empty(shape, dtype=dtype, device=self.device)
        return self._held[key]
