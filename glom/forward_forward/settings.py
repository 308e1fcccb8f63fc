"""Every setting of a forward-forward training, checked at the door, and the presets."""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from typing import TYPE_CHECKING, Any

from glom import settings
from glom.errors import InputError, refuse_idle, unknown
from glom.settings import Settings, setting

if TYPE_CHECKING:
    from glom.forward_forward.goodness import Rule

MODES = ("supervised", "unsupervised", "recurrent", "local", "conv")
OBJECTIVES = ("cwc", "symba", "distance", "scff")  # of convolutional layers; `objectives` has them
OF_PRESET = "the preset's"
_TIMED = ("recurrent", "local")
_CLOSED = MODES[:-1]  # layers whose gradient has a closed form
# Where a setting means anything; those not named do everywhere.
OF_MODES: dict[str, tuple[str, ...]] = {
    **dict.fromkeys(("momentum", "decay", "goodness", "sign", "threshold", "temperature", "peer"), _CLOSED),
    "readout_decay": _CLOSED,
    "negatives": ("supervised", *_TIMED),
    "blur": ("unsupervised",),
    **dict.fromkeys(("iterations", "damping", "read"), _TIMED),
    "field": ("local",),
    **dict.fromkeys(("objective", "cumulative", "readout_epochs"), ("conv",)),
}


@dataclass(frozen=True, kw_only=True)
class FFSettings(Settings):
    """What decides a training.

    Modes: `supervised` has the label in the first pixels, `unsupervised` hybrid negatives, `recurrent` a boring video
    with the label at the top, `local` the same with local receptive fields, where `widths` are units at each location,
    `conv` convolutions by one of `glom.forward_forward.objectives`, where they are channels. `cumulative` is no longer
    purely local: a layer learns from what is left to do when the goodness of those below it is counted, and no gradient
    goes to them (as between layers that collaborate in Lorberbom et al. 2024, there all other layers).
    The learning rate is constant for half of the epochs, then linearly down. It multiplies the exact gradient, which is
    twice what the program published with the paper calls gradient. Peer normalisation and weight cost are no part of
    that gradient: at the program's 0.03 and 0.001 they act half as strongly here as there. `read` are the first and the
    last iteration whose goodness is read, counted from 1. `precision` is of the matrix products: parameters and
    goodness stay in float32. For goodness, sign, threshold, temperature and peer see
    `glom.forward_forward.goodness.Rule`.
    """

    mode: str = setting("supervised", choices=MODES, letter="m")
    widths: tuple[int, ...] = setting(
        (2000, 2000, 2000, 2000), "Units of the hidden layers.", least=1, metavar="N,N,...", shown=OF_PRESET
    )
    epochs: int = setting(60, "Passes over the pictures.", least=1, shown=OF_PRESET)
    batch: int = setting(100, "Pictures a step.", least=1)
    lr: float = setting(0.005, "Learning rate of the layers.", above=0, shown=OF_PRESET)
    momentum: float = setting(0.9, "Smoothing of the gradient over steps.", least=0, below=1)
    decay: float = setting(0.001, "Weight cost of the layers.", least=0, shown=OF_PRESET)
    goodness: str = setting("sum", "sum or mean of squares.", choices=("sum", "mean"))
    sign: str = setting("max", "max or min: high goodness for positives, or low.", choices=("max", "min"))
    threshold: float = setting(1.0, "Of goodness, for each unit.", above=0)
    temperature: float = setting(1.0, "Of the logistic.", above=0, shown=OF_PRESET)
    peer: float = setting(0.03, "Strength of peer normalisation.", least=0)
    negatives: str = setting("hard", "Wrong labels: hard or uniform.", choices=("hard", "uniform"))
    jitter: int = setting(0, "Shift pictures by up to N pixels.", least=0, metavar="N")
    readout_lr: float = setting(0.1, "Of the linear softmax read-out.", above=0)
    readout_decay: float = setting(0.003, "Of the linear softmax read-out.", least=0)
    readout_epochs: int = setting(0, "Passes at the end in which read-outs alone learn on.", least=0)
    objective: str = setting("cwc", "Of convolutional layers.", choices=OBJECTIVES)
    cumulative: bool = setting(False, "Count the goodness of the layers below with a layer's own.")
    flip: bool = setting(False, "Mirror pictures at random.")
    input_dropout: float = setting(0.0, "Chance of a training picture's pixel to be left out.", least=0, below=1)
    blur: int = setting(6, "Times a hybrid mask is blurred.", least=0, shown=OF_PRESET)
    field: int = setting(11, "Side of the receptive fields.")
    iterations: int = setting(8, "Of the recurrent network.", least=1)
    damping: float = setting(0.3, "Share of the old state.", least=0, below=1)
    read: tuple[int, int] = setting((3, 5), "Iterations whose goodness counts.", metavar="I,J")
    precision: str = setting("fp32", "fp32, or bf16 matrix products.", choices=("fp32", "bf16"))
    holdout: int = setting(0, "Keep N training pictures for validation.", least=0, metavar="N")
    seed: int = settings.seed()
    baseline: bool = setting(False, "Train the backpropagation twin too.")
    baseline_epochs: int = setting(20, "Of the twin.", least=1)
    baseline_lr: float = setting(1e-3, "Of the twin.", above=0)

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.widths:
            raise InputError("`widths` must be one positive number a hidden layer")
        if self.batch < 2 and (self.paired or self.mode == "conv"):
            why = "its negatives are made of two pictures" if self.paired else "it normalises by the batch"
            raise InputError(
                f"{self.objective if self.mode == 'conv' else self.mode} needs a batch of 2 or more: {why}"
            )
        given = {name: value for name in OF_MODES if (value := getattr(self, name)) != getattr(FFSettings, name)}
        refuse_idle(f"{self.mode} mode", self.mode, OF_MODES, given)
        if self.cumulative and self.paired:
            raise InputError("`cumulative` sums classes' goodness over layers; without labels there is none")
        first, last = self.read
        if not 1 <= first <= last <= self.iterations:
            raise InputError(f"`read` must lie within iterations 1 to {self.iterations}, got {first} to {last}")

    @property
    def paired(self) -> bool:
        """Whether negatives are made of two pictures."""
        return self.mode == "unsupervised" or (self.mode == "conv" and self.objective == "scff")

    @property
    def recurrent(self) -> bool:
        """Whether the network carries a state over iterations."""
        return self.mode in ("recurrent", "local")

    @property
    def rule(self) -> Rule:
        """How a layer's goodness is taken and compared."""
        from glom.forward_forward.goodness import Rule

        return Rule(self.goodness, 1 if self.sign == "max" else -1, self.threshold, self.temperature, self.peer)

    def rate_share(self, epoch: int, epochs: int | None = None) -> float:
        """What learning rates are multiplied by in an epoch: 1 for the first half, then linearly to nothing.

        Args:
            epoch: counted from 0.
            epochs: of the stage; those of the layers by default.
        """
        n = epochs or self.epochs
        return min(1.0, (1 + 2 * (n - epoch - 1)) / n)

    def readout_share(self, epoch: int) -> float:
        """The same where read-outs alone learn: from a tenth, linearly to nothing; their inputs are many and stay.

        Args:
            epoch: of them, counted from 0.
        """
        return 0.1 * (self.readout_epochs - epoch) / self.readout_epochs


def own(saved: dict[str, Any]) -> dict[str, Any]:
    """Of saved settings, those that their mode has: others did nothing, and were not always refused."""
    return {name: value for name, value in saved.items() if saved["mode"] in OF_MODES.get(name, MODES)}


# (mode, preset): what differs from the defaults.
LOCAL: dict[str, Any] = {"widths": (3, 3), "lr": 0.03, "temperature": 10.0, "decay": 0.002}
# Channels, rate and batch are the published program's (github.com/andreaspapac/CwComp).
CONV: dict[str, Any] = {
    "widths": (20, 80, 240, 480),
    "lr": 0.01,
    "batch": 128,
    "epochs": 20,
    "jitter": 2,
    "readout_lr": 0.003,
}
PRESETS: dict[tuple[str, str], dict[str, Any]] = {
    ("supervised", "paper"): {},
    ("supervised", "quick"): {"widths": (1000, 1000, 1000), "epochs": 8},
    ("unsupervised", "paper"): {"epochs": 100, "blur": 4},
    ("unsupervised", "quick"): {"widths": (1000, 1000, 1000), "epochs": 8, "blur": 4},
    ("recurrent", "paper"): {"widths": (2000, 2000, 2000)},
    ("recurrent", "quick"): {"widths": (500, 500), "epochs": 10},
    ("local", "paper"): LOCAL,
    ("local", "quick"): {**LOCAL, "epochs": 6},
    ("conv", "paper"): CONV,
    ("conv", "quick"): {**CONV, "widths": (20, 40, 80, 160), "epochs": 3},
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
