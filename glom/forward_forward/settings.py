"""Every setting of a forward-forward training, checked at the door, and the presets."""

from __future__ import annotations

import math
from dataclasses import dataclass, fields, replace
from typing import Any

from glom.errors import InputError, unknown
from glom.forward_forward.goodness import Rule

MODES = ("supervised", "unsupervised", "recurrent", "local")
CHOICES: dict[str, tuple[str, ...]] = {
    "mode": MODES,
    "goodness": ("sum", "mean"),
    "sign": ("max", "min"),
    "negatives": ("hard", "uniform"),
    "precision": ("fp32", "bf16"),
}


@dataclass(frozen=True)
class FFSettings:
    """What decides a training.

    Attributes:
        mode: `supervised` (label in the first pixels), `unsupervised` (hybrid negatives), `recurrent` (boring video,
            label at the top), `local` (the same with local receptive fields).
        widths: units of each hidden layer; in `local` mode units at each location.
        epochs, batch: passes over the pictures, and pictures a step (two or more where negatives are hybrids).
        lr: learning rate: constant for half of the epochs, then linearly down. Multiplies the exact gradient, which is
            twice what the program published with the paper calls gradient. Peer normalisation and weight cost are no
            part of that gradient: at the program's 0.03 and 0.001 they act half as strongly here as there.
        momentum: smoothing of the gradient over steps. decay: weight cost.
        goodness, sign, threshold, temperature, peer: see `glom.forward_forward.goodness.Rule`.
        negatives: how wrong labels are drawn.
        jitter: shift pictures by up to so many pixels each way.
        readout_lr, readout_decay: of the linear softmax read-out.
        blur: how often an unsupervised mask's bits are blurred.
        field: side of the receptive fields.
        iterations, damping, read: of the recurrent network; share of the old state; the first and last iteration whose
            goodness is read, counted from 1.
        precision: of the matrix products; parameters and goodness stay in float32.
        holdout: training pictures kept out, whose error is then shown after every epoch.
        baseline: also train the backpropagation twin, for `baseline_epochs` at `baseline_lr`.
    """

    mode: str = "supervised"
    widths: tuple[int, ...] = (2000, 2000, 2000, 2000)
    epochs: int = 60
    batch: int = 100
    lr: float = 0.005
    momentum: float = 0.9
    decay: float = 0.001
    goodness: str = "sum"
    sign: str = "max"
    threshold: float = 1.0
    temperature: float = 1.0
    peer: float = 0.03
    negatives: str = "hard"
    jitter: int = 0
    readout_lr: float = 0.1
    readout_decay: float = 0.003
    blur: int = 6
    field: int = 11
    iterations: int = 8
    damping: float = 0.3
    read: tuple[int, int] = (3, 5)
    precision: str = "fp32"
    holdout: int = 0
    seed: int = 0
    baseline: bool = False
    baseline_epochs: int = 20
    baseline_lr: float = 1e-3

    def __post_init__(self) -> None:
        for name, valid in CHOICES.items():
            if getattr(self, name) not in valid:
                raise unknown(name, getattr(self, name), valid)
        if not self.widths or min(self.widths) < 1:
            raise InputError(f"widths must be one positive number a hidden layer, got {self.widths}")
        for name in ("epochs", "batch", "iterations", "baseline_epochs"):
            if getattr(self, name) < 1:
                raise InputError(f"{name.replace('_', ' ')} must be at least 1, got {getattr(self, name)}")
        for name in ("lr", "temperature", "threshold", "baseline_lr", "readout_lr"):
            if not 0 < getattr(self, name) < math.inf:
                raise InputError(f"{name.replace('_', ' ')} must be above 0 and finite, got {getattr(self, name)}")
        for name in ("jitter", "blur", "holdout", "decay", "readout_decay", "peer"):
            if not 0 <= getattr(self, name) < math.inf:
                raise InputError(f"{name.replace('_', ' ')} must be 0 or more and finite, got {getattr(self, name)}")
        for name in ("momentum", "damping"):
            if not 0 <= getattr(self, name) < 1:
                raise InputError(f"{name} must be at least 0 and below 1, got {getattr(self, name)}")
        if self.mode == "unsupervised" and self.batch < 2:
            raise InputError("unsupervised needs a batch of 2 or more: its negatives are made of two pictures")
        first, last = self.read
        if not 1 <= first <= last <= self.iterations:
            raise InputError(f"read must lie within iterations 1 to {self.iterations}, got {first} to {last}")

    @property
    def recurrent(self) -> bool:
        return self.mode in ("recurrent", "local")

    @property
    def rule(self) -> Rule:
        return Rule(self.goodness, 1 if self.sign == "max" else -1, self.threshold, self.temperature, self.peer)

    def rate_share(self, epoch: int) -> float:
        """What learning rates are multiplied by in epoch 0, 1, ...: 1 for the first half, then linearly to nothing."""
        return min(1.0, (1 + 2 * (self.epochs - epoch - 1)) / self.epochs)


# (mode, preset): what differs from the defaults.
LOCAL: dict[str, Any] = {"widths": (3, 3), "lr": 0.03, "temperature": 10.0, "decay": 0.002}
PRESETS: dict[tuple[str, str], dict[str, Any]] = {
    ("supervised", "paper"): {},
    ("supervised", "quick"): {"widths": (1000, 1000, 1000), "epochs": 8},
    ("unsupervised", "paper"): {"epochs": 100, "blur": 4},
    ("unsupervised", "quick"): {"widths": (1000, 1000, 1000), "epochs": 8, "blur": 4},
    ("recurrent", "paper"): {"widths": (2000, 2000, 2000)},
    ("recurrent", "quick"): {"widths": (500, 500), "epochs": 10},
    ("local", "paper"): LOCAL,
    ("local", "quick"): {**LOCAL, "epochs": 6},
}


def preset(mode: str, name: str = "paper", **changes: Any) -> FFSettings:
    """A preset's settings with changes; None means unchanged.

    Where `iterations` is given and `read` is not, what is read of fewer iterations ends with the last of them.

    Raises:
        InputError: an unknown mode, preset or setting, or a value out of range.
    """
    if mode not in MODES:
        raise unknown("mode", mode, MODES)
    if (mode, name) not in PRESETS:
        raise unknown("preset", name, ["paper", "quick"])
    known = {f.name for f in fields(FFSettings)}
    for key in changes:
        if key not in known:
            raise unknown("setting", key, known)
    wanted = {**PRESETS[mode, name], **{k: v for k, v in changes.items() if v is not None}}
    if "lr" not in wanted:
        wanted["lr"] = rate_for(tuple(wanted.get("widths", FFSettings.widths)))
    if "iterations" in wanted and "read" not in wanted:
        first, last = FFSettings.read
        wanted["read"] = (min(first, wanted["iterations"]), min(last, wanted["iterations"]))
    return replace(FFSettings(mode=mode), **wanted)


def rate_for(widths: tuple[int, ...]) -> float:
    """The learning rate for fully connected layers: 0.005 up to 1,000 units, falling with n^(-4/3) above.

    0.005 is the published program's 0.01 for 1,000 units. A step moves a sum of squares by lr n^2, which 2,000 units
    do not bear; on 30,000 pictures 0.002 was better there than 0.005 and 0.001.
    """
    return round(0.005 * min(1.0, 1000 / max(widths, default=1)) ** (4 / 3), 6)
