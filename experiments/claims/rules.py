"""The rules that every verdict follows, written once: what a claim has to show, against which baselines, on how many
pictures, and where a layer may be chosen. Claims are made of these and name no bound of their own.
"""

from __future__ import annotations

from experiments.claims.run import MIN_PICTURES, Check

KEPT, SAME, FLAT = 0.9, 0.98, 1.15
COUNT = 0.025  # share by which a count may be off the printed one: rounding, and what a counter leaves out
WITHIN = 0.5  # points beyond the interval that a printed accuracy may lie: rounding, templates, preprocessing

RULES = f"""\
- **A gain**: the lower end of its 95 % interval, paired over pictures, is above 0. There is no other margin.
- **Baselines**: of a network's islands: colour + position *and* the same network untrained. Of islands of a machine
  overfit on one picture: other pictures' outlines, the positional code alone, *and* noise in the picture's place. Of
  finer grids: bilinear *and*, where further views are read, the plain average of the same views. A quality without a
  baseline on the same pictures is shown and decides nothing.
- **Pictures**: fewer than {MIN_PICTURES} show no claim to hold; a claim that fails on them is not reproduced.
- **A layer**: of a network, trained or not, is chosen on other pictures than those it is scored on. Outlines are
  compared by covering, the mean over people; boundary F stands beside it.
- **Learnt, kept**: at least {KEPT:g} of what is asked for: of all answers, of a teacher's accuracy, of a machine's
  speed-up.
- **The same**: the same answer on at least {SAME:g} of the pictures. Flat: at most {FLAT:g} times as much.
- **A printed number**: a count holds within {100 * COUNT:g} %, an accuracy within {WITHIN:g} points of the measured
  interval, an error up to the upper 95 % bound of the printed one on its test pictures. On other data, weights or
  hardware it decides nothing.
- **The published setting**: is the released execution at the published sizes, or the published data and weights. What
  this project executes otherwise, such as streamed columns, stands beside it. Of several variants run, the one
  nearest the published architecture decides, and the others are named."""


def ahead(*lows: str) -> tuple[Check, ...]:
    """Gains, by the names of their intervals' lower ends."""
    return tuple(Check(low, ">", 0) for low in lows)


def kept(value: str, of: float | str = 1.0) -> Check:
    """A share of what is asked for, `of`."""
    return Check(value, ">=", of, KEPT)


def flat(end: str, start: str) -> Check:
    """A cost that does not grow."""
    return Check(end, "<=", start, FLAT)


def printed(value: str, number: float | str, times: float = 1.0) -> tuple[Check, Check]:
    """A count as printed: `number`, or so many times another value's name."""
    return Check(value, ">=", number, times * (1 - COUNT)), Check(value, "<=", number, times * (1 + COUNT))
