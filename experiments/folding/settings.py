"""Axes and settings of the folding ablation: what is changed, and in which combinations."""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from glom import settings
from glom.errors import InputError, unknown
from glom.settings import Settings, setting

BASE = "base"
Changes = Mapping[str, Any]
# axis: {value: what changes}. Keys are settings of APMConfig, of VariantAPM or of OverfitSettings.
AXES: dict[str, dict[str, Changes]] = {
    "fold": {
        "conv, 4 channels": {"channels": 4, "patch": 4},
        "learned linear": {"fold": "linear"},
        "teacher's token": {"fold": "token"},
        "zeros": {"fold": "zeros"},
    },
    "code": {
        "Fourier": {"location_code": "fourier"},
        "learned": {"code": "learned"},
        "none": {"location_code": "none"},
    },
    "patch": {"1x1": {"local_patch": 1}, "3x3": {"local_patch": 3}},
    "column": {"64": {"patch": 4}, "16": {"patch": 8}},
    "depth": {"1 layer": {"trunk": (512,)}, "4 layers": {"trunk": (512, 512, 256, 256)}},
    "width": {"128, 64": {"trunk": (128, 64)}, "1024, 512": {"trunk": (1024, 512)}},
    "activation": {"GELU": {"activation": "gelu"}, "sine": {"activation": "sine"}},
    "readout": {"mean": {"readout": "mean"}, "one location": {"readout": "location"}},
    "grid": {"4x4": {"cells": 4, "points": 4}, "16x16": {"cells": 16, "points": 16}},
    "queries": {"8": {"subset": 8}, "all": {"subset": 0}},
    "mlp": {
        "shared, 64": {"trunk": (64, 64)},
        "per location, 64": {"trunk": (64, 64), "shared": False},
    },
}
VARIANT = ("fold", "code", "shared")
OVERFIT = ("points", "subset")


@dataclass(frozen=True, kw_only=True)
class FoldingSettings(Settings):
    """What decides the ablation. Every overfit asks `points` x `points` locations, `subset` of them in a step."""

    data: str = settings.data("cifar10-sample", "A data set, or pictures with outlines.")
    axes: tuple[str, ...] = setting(
        tuple(AXES), "With commas between, or all; `base` and `AXIS=VALUE`: one machine alone.", key="axis", shown="all"
    )
    product: bool = setting(False, "Every combination of the axes' values.")
    teacher: str = settings.teacher()
    apm: str = setting("apm-tiny", "Preset of the base machine.", metavar="PRESET")
    limit: int = settings.limit(default=50)
    seeds: int = setting(3, "Random seeds for each picture.", least=1)
    iterations: int = setting(60, "Steps of each overfit.", least=1)
    lr: float = setting(2e-3, "Rate of each overfit.", above=0)
    points: int = setting(8, "Side of the grid that is asked.", least=1)
    subset: int = setting(32, "Locations of it in a step; 0: all.", least=0)
    partition: str = setting("kmeans:4", "How islands are cut.")
    seed: int = settings.seed()
    device: str = settings.device()

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.axes == ("all",):
            object.__setattr__(self, "axes", tuple(AXES))
        for name in self.axes:
            axis, alone, value = name.partition("=")
            if axis not in AXES and name != BASE:
                raise unknown("axis", axis, [*AXES, BASE])
            if alone and value not in AXES[axis]:
                raise unknown(f"value of the axis {axis}", value, AXES[axis])
        machines = [name for name in self.axes if name == BASE or "=" in name]
        if machines and (self.product or len(machines) < len(self.axes)):
            raise InputError(f"{machines[0]} is one machine: it stands beside no whole axis, and in no product")
        if not self.axes or len(set(self.axes)) < len(self.axes):
            raise InputError("name at least one axis, and each once")


@dataclass(frozen=True)
class Setting:
    """One machine of the ablation: its name, its axis, and what it changes."""

    name: str
    axis: str
    changes: Changes = field(default_factory=dict)

    @property
    def key(self) -> str:
        """`axis=name`, unique in a run."""
        return f"{self.axis}={self.name}"


def settings_of(settings: FoldingSettings) -> list[Setting]:
    """The base first, then every setting asked for; machines that are named one by one, and no others.

    Raises:
        InputError: a product of axes that change the same thing.

    Example:
        >>> [s.name for s in settings_of(FoldingSettings(axes=("patch",)))]
        ['base', '1x1', '3x3']
    """
    found = [Setting(BASE, BASE)]
    if any(name == BASE or "=" in name for name in settings.axes):
        every = {s.key: s for s in settings_of(FoldingSettings())} | {BASE: found[0]}
        return [every[name] for name in settings.axes]
    if not settings.product:
        return found + [
            Setting(value, axis, changes) for axis in settings.axes for value, changes in AXES[axis].items()
        ]
    options = [[("", {}), *AXES[axis].items()] for axis in settings.axes]
    for one, other in itertools.combinations(settings.axes, 2):
        shared = {k for c in AXES[one].values() for k in c} & {k for c in AXES[other].values() for k in c}
        if shared:
            raise InputError(f"the axes {one} and {other} both change {', '.join(sorted(shared))}; take one of them")
    for combination in itertools.product(*options):
        parts = [f"{axis}={value}" for axis, (value, _) in zip(settings.axes, combination, strict=True) if value]
        if parts:
            merged = {k: v for _, changes in combination for k, v in changes.items()}
            found.append(Setting("; ".join(parts), "product", merged))
    return found
