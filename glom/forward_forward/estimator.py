"""A forward-forward network as an estimator: arrays in, `fit`, `score`, `goodness`, by scikit-learn's conventions."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Self

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.utils.validation import check_is_fitted
from torch import Tensor

from glom.devices import resolve_device
from glom.errors import InputError
from glom.forward_forward.checkpoint import CHECKPOINT, restore
from glom.forward_forward.conv import ConvLearner
from glom.forward_forward.epochs import run_epoch
from glom.forward_forward.networks import learner_of
from glom.forward_forward.scaling import Scaling
from glom.forward_forward.settings import FFSettings, preset
from glom.runs.events import finished
from glom.runs.saving import save_state

FLAT = ("supervised", "recurrent")  # modes that ask nothing of where an input lies
BATCH = 500  # pictures asked at a time


class ForwardForward(ClassifierMixin, BaseEstimator):
    """Layers that each learn by their own goodness, without backpropagation (Hinton 2022, arXiv 2212.13345).

    Args:
        widths: units of each hidden layer; None for the preset's.
        mode: "supervised", "unsupervised", "recurrent", "local" or "conv", see `FFSettings`.
        epochs: passes over the pictures; None for the preset's.
        preset: "quick" or "paper", what everything else is.
        settings: any other field of `FFSettings`, by name.
        seed: of weights, order and negatives.
        device: "auto", "cpu", "cuda[:n]" or "mps".

    Attributes:
        classes_: (C,) the labels, sorted.
        history_: `{"epoch", "train_error"}` of each epoch, the error in percent, of pictures when they came.
        n_features_in_: numbers a sample.

    Example:
        >>> rng = np.random.default_rng(0)
        >>> y = rng.integers(0, 2, 200)
        >>> x = rng.normal(size=(200, 20)) + 2 * y[:, None]
        >>> ForwardForward((32, 32), epochs=60).fit(x, y).score(x, y) > 0.9
        True
    """

    def __init__(
        self,
        widths: tuple[int, ...] | None = None,
        *,
        mode: str = "supervised",
        epochs: int | None = None,
        preset: str = "quick",
        settings: dict[str, Any] | None = None,
        seed: int = 0,
        device: str = "auto",
    ) -> None:
        self.widths, self.mode, self.epochs, self.preset = widths, mode, epochs, preset
        self.settings, self.seed, self.device = settings, seed, device

    # -- learning -----------------------------------------------------------------------------------------------------

    def fit(self, X: ArrayLike | Tensor, y: ArrayLike | Tensor) -> Self:
        """Learn from scratch.

        Args:
            X: pictures, (n, H, W), (n, C, H, W) or (n, H, W, C) with C 1 or 3, uint8 or floats in [0, 1], whose first
                pixels make room for the label as published; or (n, d) of any features, which are standardised and keep
                all their values: the label gets inputs of its own ("supervised" and "recurrent" only).
            y: (n,) labels of any kind that can be sorted.

        Raises:
            InputError: arrays of another shape, numbers that are no pictures, one class, or a setting out of range.
            RunError: a goodness that diverged.
        """
        labels = np.asarray(y)
        if labels.ndim != 1:
            raise InputError(f"labels must be (n,), got {labels.shape}")
        self.classes_, index = np.unique(labels, return_inverse=True)
        values = {**(self.settings or {}), "widths": self.widths, "epochs": self.epochs, "seed": self.seed}
        how = preset(self.mode, self.preset, **values)
        where = resolve_device(self.device)
        raw = _array(X)
        if len(raw) != len(labels):
            raise InputError(f"{len(raw)} samples but {len(labels)} labels")
        self.n_features_in_ = int(np.prod(raw.shape[1:]))
        self._flat = raw.ndim == 2
        if self._flat and self.mode not in FLAT:
            raise InputError(f"mode '{self.mode}' looks at pictures, (n, H, W) or (n, C, H, W); these are {raw.shape}")
        if how.paired and len(raw) < 2:
            raise InputError("negatives without labels are made of two pictures; there is only one")
        self._scale = _feature_scale(raw) if self._flat else Scaling.of(_pictures(raw))
        images = self._inputs(raw, where, how)
        self._learner = learner_of(_shape(images), len(self.classes_), how, where)
        self.history_: list[dict[str, float]] = []
        learner, share, told = self._learner, 1.0, torch.from_numpy(index).to(where)

        def step(x: Tensor, t: Tensor, g: torch.Generator) -> tuple[Tensor, Tensor | None]:
            return learner.learn(x, t, share, g)

        def settle(x: Tensor, t: Tensor, g: torch.Generator) -> tuple[Tensor, Tensor | None]:
            assert isinstance(learner, ConvLearner)
            return learner.settle(x, t, share, g), None

        for epoch in range(how.epochs):
            share = how.rate_share(epoch)
            wrong = finished(run_epoch(learner, step, images, told, how, epoch)).wrong
            self.history_.append({"epoch": epoch + 1, "train_error": round(100 * wrong / len(raw), 4)})
        for epoch in range(how.readout_epochs):
            share = how.readout_share(epoch)
            finished(run_epoch(learner, settle, images, told, how, epoch, "read-out"))
        return self

    # -- asking -------------------------------------------------------------------------------------------------------

    def decision_function(self, X: ArrayLike | Tensor) -> NDArray[np.float32]:
        """(n, C): the goodness of each label for `X`, or the read-out's logits where labels are no input."""
        return self._asked(X, lambda x: next(iter(self._learner.readouts(x).values())))

    def predict(self, X: ArrayLike | Tensor) -> NDArray[Any]:
        """(n,) labels of `X`, samples as `fit` takes them."""
        return self.classes_[self.decision_function(X).argmax(1)]

    def goodness(self, X: ArrayLike | Tensor) -> NDArray[np.float32]:
        """(n, C, layers): of `X`, each layer's goodness times its sign for each label, if labels are inputs."""
        return self._asked(X, lambda x: self._learner.goodness(x))

    def _asked(self, X: ArrayLike | Tensor, ask: Any) -> NDArray[np.float32]:
        check_is_fitted(self, "classes_")
        raw = _array(X)
        where = resolve_device(self.device)
        images = self._inputs(raw, where, self._learner.settings)
        if _shape(images) != self._learner.shape:
            raise InputError(f"the network reads {self.n_features_in_} numbers a sample, these are {raw.shape}")
        with torch.inference_mode():
            parts = [ask(x).float().cpu().numpy().copy() for x in images.split(BATCH)]
        return np.concatenate(parts)

    def _inputs(self, raw: NDArray[Any], where: torch.device, how: FFSettings) -> Tensor:
        """(n, C, H, W) in the network's dtype, as it was trained on."""
        dtype = torch.bfloat16 if how.precision == "bf16" else torch.float32
        if self._flat != (raw.ndim == 2):
            kind = "features (n, d)" if self._flat else "pictures"
            raise InputError(f"the network was fitted on {kind}, these are {raw.shape}")
        if not self._flat:
            assert isinstance(self._scale, Scaling)
            return self._scale(_pictures(raw), dtype, where)
        mean, std = self._scale  # type: ignore[misc]
        if raw.shape[1] != len(mean):
            raise InputError(f"the network reads {len(mean)} features, these are {raw.shape[1]}")
        x = torch.from_numpy(((raw - mean) / std).astype(np.float32))
        room = torch.zeros(len(x), len(self.classes_) if how.mode == "supervised" else 0)
        return torch.cat([room, x], 1)[:, None, None].to(where, dtype)

    # -- keeping ------------------------------------------------------------------------------------------------------

    def save_pretrained(self, folder: str | Path) -> Path:
        """Write `folder/checkpoint.pt` (tensors and plain values, read with `weights_only`), whole or not at all."""
        check_is_fitted(self, "classes_")
        path = Path(folder) / CHECKPOINT
        path.parent.mkdir(parents=True, exist_ok=True)
        own = self._scale
        if isinstance(own, Scaling):
            scaling = {"mean": list(own.mean), "std": list(own.std)}
        else:
            scaling = {"mean": own[0].tolist(), "std": own[1].tolist()}
        state: dict[str, Any] = {"settings": vars(self._learner.settings).copy(), "classes": self.classes_.tolist()}
        state |= {"shape": list(self._learner.shape), "scaling": scaling, "flat": self._flat}
        state |= {"network": self._learner.state(), "twin": None, "epoch": len(self.history_), "twin_epoch": 0}
        state["readout_epoch"] = self._learner.settings.readout_epochs
        save_state(path, {**state, "history": self.history_})
        return path

    @classmethod
    def from_pretrained(cls, folder: str | Path, device: str = "auto") -> Self:
        """A fitted network of `save_pretrained`, or the one in a `folder` of `apm ff train`, on `device`.

        Raises:
            InputError: no checkpoint, a damaged one, or one of another program.
        """
        where = resolve_device(device)
        learner, _, state = restore(Path(folder), where)
        found = cls(learner.settings.widths, mode=learner.settings.mode, seed=learner.settings.seed, device=device)
        found.classes_ = np.array(state["classes"])
        found.history_ = [r for r in state["history"] if r.get("stage", "forward-forward") == "forward-forward"]
        found._learner, found._flat = learner, bool(state.get("flat", False))
        mean, std = state["scaling"]["mean"], state["scaling"]["std"]
        found._scale = (np.array(mean), np.array(std)) if found._flat else Scaling(tuple(mean), tuple(std))
        found.n_features_in_ = len(mean) if found._flat else int(np.prod(learner.shape))
        return found


def _array(X: ArrayLike | Tensor) -> NDArray[Any]:
    raw = X.detach().cpu().numpy() if isinstance(X, Tensor) else np.asarray(X)
    if raw.dtype.kind not in "uifb" or raw.ndim not in (2, 3, 4) or not raw.size:
        raise InputError(
            f"samples are (n, d), (n, H, W), (n, C, H, W) or (n, H, W, C) of numbers, got {raw.dtype} {raw.shape}"
        )
    if raw.dtype.kind == "f" and not np.isfinite(raw).all():
        raise InputError("samples must be finite; some are NaN or infinite")
    return raw


def _pictures(raw: NDArray[Any]) -> Tensor:
    """(n, C, H, W) uint8."""
    if raw.ndim == 3:
        raw = raw[:, None]
    elif raw.shape[1] not in (1, 3) and raw.shape[-1] in (1, 3):
        raw = np.moveaxis(raw, -1, 1)
    if raw.shape[1] not in (1, 3):
        raise InputError(f"pictures have 1 or 3 channels, these are {raw.shape}")
    top = 1 if raw.dtype.kind == "f" else 255
    if raw.min() < 0 or raw.max() > top:
        raise InputError(
            f"pictures are uint8 or floats in [0, 1], these lie in [{float(raw.min()):g}, {float(raw.max()):g}]"
        )
    pixels = np.rint(raw * 255.0) if top == 1 else raw
    return torch.from_numpy(np.ascontiguousarray(pixels.astype(np.uint8)))


def _feature_scale(raw: NDArray[Any]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Mean and deviation of each feature; 1 for one that never varies."""
    x = raw.astype(np.float64)
    spread = x.std(0)
    return x.mean(0), np.where(spread > 0, spread, 1.0)


def _shape(images: Tensor) -> tuple[int, int, int]:
    c, h, w = images.shape[1:]
    return c, h, w
