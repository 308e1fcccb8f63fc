"""In which order, and how many at a time, online methods see the test pictures: a stream that has a name.

    shuffled    by the run's seed and the pictures' ids, whatever others are among them
    SEED        the same by another seed
    sorted      class after class
    few:K       K classes at a time, shuffled among themselves
    mixed       the pictures of all conditions in one stream, shuffled

An online row without its stream is not a result, so it stands in the table's head and in the record. Episodic methods
forget everything between pictures and see no stream.
"""

from __future__ import annotations

from dataclasses import dataclass

from glom.errors import InputError, unknown

ORDERS = ("shuffled", "sorted", "mixed", "few:K", "SEED")


@dataclass(frozen=True)
class Stream:
    """A stream: its order ("shuffled", "sorted", "mixed" or "few"), and what is forgotten when.

    Attributes:
        seed: of the shuffling. few: classes at a time, 0 for all.
        batch: pictures given at once, 0 for each method's own.
        carry: whether a method goes from one condition to the next of the same classes with what it has seen.
    """

    order: str = "shuffled"
    seed: int = 0
    few: int = 0
    batch: int = 0
    carry: bool = False

    @property
    def joined(self) -> bool:
        """Whether one stream goes through several conditions."""
        return self.carry or self.order == "mixed"

    def words(self) -> str:
        """As a table's head says it."""
        names = {"few": f"{self.few} class{'es' if self.few > 1 else ''} at a time", "mixed": "conditions mixed"}
        between = "carried over between conditions" if self.carry else "reset between conditions"
        batch = f"batches of {self.batch}" if self.batch else "each method's own batches"
        parts = [f"{names.get(self.order, self.order)} (seed {self.seed})", batch]
        return ", ".join(parts if self.order == "mixed" else [*parts, between])


def parse_stream(text: str, seed: int, batch: int = 0, carry: bool = False) -> Stream:
    """A stream as the command line names it; `seed` is the run's. Raises `InputError` for what is none."""
    name, _, count = text.partition(":")
    if batch < 0:
        raise InputError(f"`batch` must be at least 1 picture (0: each method's own), got {batch}")
    if text.isascii() and text.isdigit():
        return Stream("shuffled", int(text), 0, batch, carry)
    if name == "few" and count.isascii() and count.isdigit() and int(count) > 0:
        return Stream("few", seed, int(count), batch, carry)
    if name == "few":
        raise InputError(f"`stream` {text}: few:K takes K classes at a time, as few:2")
    if text not in ORDERS[:3]:
        raise unknown("order of the stream", text, ORDERS)
    if text == "mixed" and carry:
        raise InputError("`carry` goes from condition to condition; the stream mixed has them all in one already")
    return Stream(text, seed, 0, batch, carry)
