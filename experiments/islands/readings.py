"""What is read of a network: a layer's grid, or several layers' joined."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from glom.backbones.base import Backbone
from glom.backbones.video import select_layers
from glom.colours import Array
from glom.errors import InputError
from probes.agreement import joined, resize_grid

Reading = tuple[int, ...]  # layers, ascending; more than one are joined


def select_readings(backbone: Backbone, text: str) -> list[Reading]:
    """`all`, `first,last`, or numbers such as `0,3,7`, and joins such as `3+7+11`: single layers, then joins.

    Raises:
        InputError: anything else, or a layer that does not exist.
    """
    parts = [part.strip() for part in text.split(",")]
    alone = [part for part in parts if "+" not in part]
    readings: list[Reading] = [(layer,) for layer in select_layers(backbone, ",".join(alone))] if alone else []
    for part in parts:
        if "+" in part:
            layers = tuple(select_layers(backbone, part.replace("+", ",")))
            if len(layers) < 2:
                raise InputError(f"`layers` '{part}' joins one layer with itself")
            if layers not in readings:
                readings.append(layers)
    return readings


def with_joins(readings: Sequence[Reading]) -> list[Reading]:
    """As they are, and where there are four single layers or more two joins: three of the upper half, four of all."""
    single = [reading[0] for reading in readings if len(reading) == 1]
    if len(single) < 4:
        return list(readings)
    last = len(single) - 1
    upper = {round(x) for x in np.linspace((last + 1) / 2, last, 3)}
    whole = {round(x) for x in np.linspace(0, last, 5)[1:]}
    joins = [tuple(single[i] for i in sorted(some)) for some in (upper, whole)]
    return list(dict.fromkeys([*readings, *joins]))


def layers_of(readings: Sequence[Reading]) -> list[int]:
    """Every layer that is needed, ascending."""
    return sorted({layer for reading in readings for layer in reading})


def called(reading: Reading) -> int | str:
    """3, or "3+7"."""
    return reading[0] if len(reading) == 1 else "+".join(map(str, reading))


def place(backbone: Backbone, reading: Reading) -> str:
    """The layers' names in the network."""
    return " + ".join(backbone.layers[layer][0] for layer in reading)


def read(grids: Mapping[int, Array], reading: Reading, side: int) -> Array | None:
    """(side, side, F) of {layer: (h, w, F)}; None where a layer is not finite."""
    if not all(np.isfinite(grids[layer]).all() for layer in reading):
        return None
    if len(reading) > 1:
        return joined([grids[layer] for layer in reading], side, side)
    return resize_grid(grids[reading[0]], side, side)
