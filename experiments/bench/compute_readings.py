"""Which reading of a published number comes nearest: a search over a named list that says how long the list was.

A long list hits any number by chance, so a nearest reading is reported with how many readings were tried and how many
came within 2 %. One hit of many readings is a finding only where its definition makes sense.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, replace
from itertools import product
from typing import Any

from experiments.bench.compute_arithmetic import (
    GIGA,
    apm_columns,
    apm_folded,
    apm_parameters,
    apm_plain,
    clip_image,
    clip_text,
    swin_b,
)
from glom.apm import preset

STEPS = 20
CLOSE = 2.0  # percent
SIDES = (7, 14, 16, 28, 32)
WIDTHS = (512, 768, 1024)
COLUMNS = (512, 1024)  # that the release's counter fires, and its test-time code
UNITS = {"multiply-adds": 1, "FLOPs": 2}
PRINTED_CLIP = 149.2  # millions, as table 4 prints it
PRINTED_TEACHER, PRINTED_STUDENT = 20.5, 10.0  # G, table 4's steps t = 1 and t = 2
LAYER_NORM = 2048  # parameters the released test-time model declares and never uses


@dataclass(frozen=True)
class Reading:
    """What a printed number may mean, in words, and what it then should be."""

    name: str
    value: float


@dataclass(frozen=True)
class Nearest:
    """The reading nearest to a published value.

    Attributes:
        reading, value: in words, and in the published unit.
        off_percent: 100 (value - published) / published.
        searched, close: readings tried, and those within `CLOSE` percent.
    """

    published: float
    reading: str
    value: float
    off_percent: float
    searched: int
    close: int

    def as_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return asdict(self)


def nearest(published: float, readings: Iterable[Reading]) -> Nearest:
    """Search the list; the earlier reading wins a tie, so put plainer ones first.

    Example:
        >>> nearest(20.5, [Reading("one way", 17.6), Reading("another", 20.54)]).reading
        'another'
    """
    tried = list(readings)
    off = [100 * (r.value - published) / published for r in tried]
    best = min(range(len(tried)), key=lambda i: abs(off[i]))
    close = sum(abs(x) <= CLOSE for x in off)
    return Nearest(published, tried[best].name, tried[best].value, off[best], len(tried), close)


def passes(madds: Mapping[str, int], times: int = 1) -> list[Reading]:
    """Every scope in every unit, in billions, `times` times."""
    over = f", {times} times" if times > 1 else ""
    return [
        Reading(f"{scope}, {unit}{over}", n * factor * times / GIGA)
        for (unit, factor), (scope, n) in product(UNITS.items(), madds.items())
    ]


def swin_readings() -> list[Reading]:
    """Billions over the published 20 steps."""
    cost = swin_b()
    return passes({"forward": cost.forward(), "forward + backward": cost.step()}, STEPS)


def clip_scopes() -> dict[str, int]:
    """Multiply-adds of one pass under each meaning of "CLIP ViT-B/16"."""
    image, text = clip_image(), clip_text()
    return {
        "image + text forward": (image + text).forward(),
        "image forward": image.forward(),
        "image + text, forward + backward": (image + text).step(),
        "image forward + backward": image.step(),
    }


def tpt_scopes(views: int, classes: int) -> dict[str, int]:
    """Multiply-adds of one step of prompt tuning under each meaning."""
    one, frozen, full = clip_image().forward(), clip_text(frozen=True), clip_text()
    return {
        f"{views} views forward, {classes} prompts forward + backward": views * one + classes * frozen.step(),
        f"{views} views forward, 1 prompt forward + backward": views * one + frozen.step(),
        "1 view forward, 1 prompt forward + backward to the prompt": one + frozen.step(),
        "1 view forward, 1 prompt forward + backward with weights": one + full.step(),
        "1 view + 1 prompt forward": one + full.forward(),
        f"{views} views forward": views * one,
    }


def student_scopes() -> dict[str, int]:
    """Multiply-adds of one student pass as the release counts it, then for every grid, width, execution and pass."""
    found = {
        f"{columns} columns, trunk + head, F = {width}, forward": apm_columns(
            preset("apm-ttt", features=width), columns
        ).forward()
        for columns, width in product(COLUMNS, (768, 512, 1024))
    }
    for width, side in product(WIDTHS, SIDES):
        config = preset("apm-ttt", features=width)
        for name, cost in {
            "plain": apm_plain(config, side),
            "plain with colours": apm_plain(config, side, True),
            "folded": apm_folded(config, side),
        }.items():
            found[f"{name}, {side}x{side} columns, F = {width}, forward"] = cost.forward()
            found[f"{name}, {side}x{side} columns, F = {width}, forward + backward"] = cost.step()
    return found


def total_readings(student: Reading | Nearest) -> list[Reading]:
    """Billions of the APM's 20 steps: the table's own two steps added up, then the teacher once in either unit and 19
    or 20 times what step 2 was read as.

    The step's own reading is kept: a free choice would hit any total by chance.
    """
    teacher = clip_scopes()["image + text forward"] / GIGA
    name = student.reading if isinstance(student, Nearest) else student.name
    printed = PRINTED_TEACHER + (STEPS - 1) * PRINTED_STUDENT
    return [
        Reading(f"the printed {PRINTED_TEACHER:g} + {STEPS - 1} times the printed {PRINTED_STUDENT:g}", printed)
    ] + [
        Reading(f"teacher in {unit} + {n} students: {name}", teacher * factor + n * student.value)
        for n, (unit, factor) in product((STEPS - 1, STEPS), UNITS.items())
    ]


def parameter_readings(model: str) -> list[Reading]:
    """Millions of parameters under each meaning."""
    image, text = clip_image().parameters, clip_text().parameters
    whole = {"image + text": image + text, "image tower": image}
    if model == "swin":
        total = swin_b().parameters
        found = {"with the classifier": total, "without the classifier": total - 1_025_000}
    elif model == "tpt":
        small = clip_image(7, 32).parameters + text
        found = {
            "image + text + 4 shared prompt vectors": image + text + 4 * 512,
            "image + text + 4 prompt vectors a class": image + text + 1000 * 4 * 512,
            "image + text of CLIP ViT-B/32": small,
        }
    elif model == "clip":
        found = whole
    else:
        found = {}
        bases = {**whole, "the printed 149.2": round(PRINTED_CLIP * 1e6)}
        for (base, n), width, (extra, more) in product(
            bases.items(), WIDTHS, {"": 0, ", unused LayerNorm": LAYER_NORM}.items()
        ):
            config = preset("apm-ttt", features=width)
            for colours in (False, True):
                own = apm_parameters(config if colours else replace(config, rgb=None))
                name = f"{base} + student, F = {width}{', colour head' if colours else ''}{extra}"
                found[name] = n + own + more
    return [Reading(name, value / 1e6) for name, value in found.items()]


COPIES = {"weights": 1, "weights, gradients": 2, "weights, gradients, momentum": 3, "weights, gradients, Adam": 4}
BYTES = {"fp32": 4, "fp16": 2}
GIGABYTES = {"GB": 1e9, "GiB": 2**30}


def memory_readings(
    parameters: Mapping[str, int], kept: Mapping[str, int], beside: Mapping[str, int] | None = None
) -> list[Reading]:
    """GB under each meaning: copies of the weights, precision, activations, and unit.

    Args:
        parameters: what is adapted, by name.
        kept: bytes of activations in fp32, by name.
        beside: frozen parameters in memory as well, by name.
    """
    others = beside or {"": 0}
    found = []
    for (which, n), (copies, k), (precision, size), (act, extra), (other, m), (unit, giga) in product(
        parameters.items(), COPIES.items(), BYTES.items(), {"": 0, **kept}.items(), others.items(), GIGABYTES.items()
    ):
        words = [f"{which}: {copies}", *([f"+ {other}"] if other else []), *([f"+ {act}"] if act else [])]
        value = (size * (k * n + m) + extra * size / 4) / giga
        found.append(Reading(f"{' '.join(words)}, {precision}, {unit}", value))
    return found
