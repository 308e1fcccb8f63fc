"""The rules that every verdict follows, written once: what a claim has to show, against which baselines, on how many
pictures, and where a layer may be chosen. `claims.toml` names them, and names no other bound.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from experiments.claims.run import MIN_PICTURES, Check

KEPT, SAME, FLAT = 0.9, 0.98, 1.15
COUNT = 0.025  # share by which a count may be off the printed one: rounding, and what a counter leaves out
WITHIN = 0.5  # points beyond the interval that a printed accuracy may lie: rounding, templates, preprocessing

IN_WORDS = f"""\
- **A gain**: the lower end of its 95 % interval, paired over pictures, is above 0. There is no other margin.
- **Baselines**: of a network's islands: colour + position *and* the same network untrained. Of islands of a machine
  overfit on one picture: other pictures' outlines, the positional code alone, *and* noise in the picture's place. Of
  finer grids: bilinear *and*, where further views are read, the plain average of the same views. A quality without a
  baseline on the same pictures is shown and decides nothing.
- **Pictures**: fewer than {MIN_PICTURES} show no claim to hold; a claim that fails on them is not reproduced.
- **A layer**: of a network, trained or not, is chosen on other pictures than those it is scored on; so is a partition,
  that of colour + position too, where more than one is tried. Outlines are compared by covering, the mean over people,
  and where partitions are chosen by mBO as well; boundary F stands beside it.
- **Learnt, kept**: at least {KEPT:g} of what is asked for: of all answers, of a teacher's accuracy, of a machine's
  speed-up.
- **The same**: the same answer on at least {SAME:g} of the pictures. Flat: at most {FLAT:g} times as much.
- **A printed number**: a count holds within {100 * COUNT:g} %, an accuracy within {WITHIN:g} points of the measured
  interval, an error up to the upper 95 % bound of the printed one on its test pictures. On other data, weights or
  hardware it decides nothing.
- **The published setting**: is the released execution at the published sizes, or the published data and weights. What
  this project executes otherwise, such as streamed columns, stands beside it. Of several variants run, the one
  nearest the published architecture decides, and the others are named."""

Checks = tuple[Check, ...]
Bound = float | str  # a number, or another value's name


def ahead(*lows: str) -> Checks:
    """Gains, by the names of their intervals' lower ends."""
    return tuple(Check(low, ">", 0) for low in lows)


def kept(value: str, of: Bound = 1.0) -> Checks:
    """A share of what is asked for, `of`."""
    return (Check(value, ">=", of, KEPT),)


def learnt(error: str) -> Checks:
    """An error, in percent, that leaves the share of answers asked for."""
    return (Check(error, "<=", 100 * (1 - KEPT)),)


def same(share: str) -> Checks:
    """The same answer on so large a share of the pictures."""
    return (Check(share, ">=", SAME),)


def flat(end: str, start: str) -> Checks:
    """A cost that does not grow."""
    return (Check(end, "<=", start, FLAT),)


def equal(value: str, other: str) -> Checks:
    """Neither above nor below another."""
    return Check(value, "<=", other), Check(value, ">=", other)


def below(value: str, bound: Bound) -> Checks:
    """Less than a number or another value."""
    return (Check(value, "<", bound),)


def at_most(value: str, bound: Bound, plus: float = 0.0) -> Checks:
    """No more than a number or another value, and `plus`."""
    return (Check(value, "<=", bound, plus=plus),)


def at_least(value: str, bound: Bound) -> Checks:
    """No less than a number or another value."""
    return (Check(value, ">=", bound),)


def printed(value: str, number: Bound, part: float = 1.0, whole: float = 1.0) -> Checks:
    """A count as printed: `number`, or `part / whole` of another value."""
    times = part / whole
    return Check(value, ">=", number, times * (1 - COUNT)), Check(value, "<=", number, times * (1 + COUNT))


def near(low: str, high: str, average: float) -> Checks:
    """A printed accuracy lies in the measured interval, or as near as rounding and preprocessing allow."""
    return Check(low, "<=", average + WITHIN), Check(high, ">=", average - WITHIN)


def far(low: str, high: str, average: float) -> Checks:
    """What contradicts `near`."""
    return Check(low, ">", average + WITHIN), Check(high, "<", average - WITHIN)


def gains(low: str, high: str, claimed: float) -> Checks:
    """What shows a claimed gain, or a loss below 0, in points: the measured interval lies on its side of nothing."""
    return (Check(low, ">", 0) if claimed > 0 else Check(high, "<", 0),)


def misses(low: str, high: str, claimed: float, within: float = 0.0) -> Checks:
    """What contradicts a claimed gain, or loss: all of the interval lies short of it, or on the other side of nothing.
    An interval that neither `gains` nor does this decides nothing.
    """
    edge = round(claimed - within if claimed > 0 else claimed + within, 2)
    if claimed > 0:
        return Check(high, "<", edge), Check(high, "<=", 0)
    return Check(low, ">", edge), Check(low, ">=", 0)


def misses_printed(low: str, high: str, claimed: float) -> Checks:
    """`misses`, where the published number is held against the published data."""
    return misses(low, high, claimed, WITHIN)


def reaches(low: str, high: str, claimed: float) -> Checks:
    """The opposite of the first of `misses_printed`."""
    short = misses_printed(low, high, claimed)[0]
    return (replace(short, relation={"<": ">=", ">": "<="}[short.relation]),)


RULES: dict[str, Callable[..., Checks]] = {
    rule.__name__: rule
    for rule in (
        *(ahead, kept, learnt, same, flat, equal, below, at_most, at_least, printed),
        *(near, far, gains, misses, misses_printed, reaches),
    )
}
