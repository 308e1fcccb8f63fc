"""How long ranks take, as arithmetic: what a step, an exchange and a picture take, put together for any number of them.

    columns   T(R) = a + b ceil(N / R) + x(R)                        a step over the N columns of one picture
    samples   T(R) = start + ceil(P / (B R)) B (read + encode + adapt) + w(R)       P pictures in blocks of B
    x(R)      = c M 2 (R - 1) / R + h 2 (R - 1)         a ring that adds up M bytes of gradients (Patarasuk & Yuan 2009)
    w(R)      = h 2 (R - 1)                             the one barrier at the end

a: what every rank does by itself (fold, read-out, optimiser). Where more processes than cores share a machine, all
of it takes as many times longer.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypedDict

PAYS = 0.5  # of an ideal speed-up, below which ranks are said not to pay


class Row(TypedDict):
    """`ranks`, their seconds, how many times faster than one, and that over their number."""

    ranks: int
    seconds: float
    speedup: float
    efficiency: float


@dataclass(frozen=True)
class Costs:
    """Seconds, measured.

    Attributes:
        fixed, column: a step's a and b.
        byte, hop: of an exchange, c and h; `gradients`: its M, bytes.
        picture: reading, encoding and adapting one; `start`: of a process, until its first picture.
        cores: of the machine that all ranks share; 0: each rank has its own.
    """

    fixed: float
    column: float
    byte: float
    hop: float
    gradients: int
    picture: float
    start: float
    cores: int = 0

    def crowded(self, ranks: int) -> float:
        """How many times longer everything takes for want of cores."""
        return max(1.0, ranks / self.cores) if self.cores else 1.0

    def exchange(self, ranks: int) -> float:
        """Adding up the gradients."""
        return self.byte * self.gradients * 2 * (ranks - 1) / ranks + self.hop * 2 * (ranks - 1)

    def columns(self, count: int, ranks: int) -> float:
        """A step over so many columns of one picture."""
        return self.crowded(ranks) * (self.fixed + self.column * -(-count // ranks) + self.exchange(ranks))

    def samples(self, pictures: int, block: int, ranks: int) -> float:
        """A run over so many pictures, shared out in blocks."""
        share = min(pictures, -(-pictures // (block * ranks)) * block)
        return self.crowded(ranks) * (self.start + share * self.picture + self.hop * 2 * (ranks - 1))


def fitted(exchanges: Sequence[tuple[int, int, float]], crowded: Callable[[int], float]) -> tuple[float, float]:
    """c and h by least squares, neither below 0, from (ranks, bytes, seconds) of exchanges.

    Example:
        >>> c, h = fitted([(2, 10, 12.0), (2, 0, 2.0), (4, 10, 21.0)], lambda ranks: 1.0)
        >>> round(c, 6), round(h, 6)
        (1.0, 1.0)
    """
    rows = [(m * 2 * (r - 1) / r, 2 * (r - 1), s / crowded(r)) for r, m, s in exchanges]
    # Relative errors count: a barrier is a thousandth of an exchange of gradients.
    xx, xy, yy = (sum(row[i] * row[j] / row[2] ** 2 for row in rows) for i, j in ((0, 0), (0, 1), (1, 1)))
    xz, yz = (sum(row[i] / row[2] for row in rows) for i in (0, 1))
    det = xx * yy - xy * xy
    byte, hop = ((xz * yy - yz * xy) / det, (yz * xx - xz * xy) / det) if det else (0.0, yz / yy)
    return (byte, hop) if min(byte, hop) >= 0 else (max(0.0, xz / xx if xx else 0.0), max(0.0, min(hop, yz / yy)))


def simulated(seconds: Callable[[int], float], most: int = 1024) -> list[Row]:
    """1, 2, 4, ... ranks up to `most`."""
    counts = [2**n for n in range(most.bit_length()) if 2**n <= most]
    one = seconds(1)
    rows = []
    for ranks in counts:
        taken = seconds(ranks)
        found: Row = {"ranks": ranks, "seconds": taken, "speedup": one / taken, "efficiency": one / taken / ranks}
        rows.append(found)
    return rows


def pays_until(rows: Sequence[Row]) -> int:
    """The most ranks, doubled from 1, that still do `PAYS` of what so many would at best.

    Example:
        >>> pays_until(simulated(lambda ranks: 1 / ranks + 0.1, 64))
        8
    """
    last = rows[0]
    for row in rows:
        if row["efficiency"] < PAYS:
            break
        last = row
    return last["ranks"]


def fastest(rows: Sequence[Row]) -> int:
    """The number of ranks that takes least."""
    return min(rows, key=lambda row: row["seconds"])["ranks"]
