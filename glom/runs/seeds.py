"""Random seeds that belong to a sample, not to a moment: order, resumption and sharding change nothing."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from contextlib import contextmanager

SELECT, CONFIRM = "select", "confirm"  # what is chosen is chosen on the one, what is confirmed on the other


def sample_seed(run_seed: int, sample_id: str, purpose: str = "") -> int:
    """The seed of one sample's random numbers, drawn from the run's seed and the sample's id alone.

    Args:
        run_seed: the seed of the whole run.
        sample_id: `Sample.id`.
        purpose: what the numbers are for ("ttt", "corruption"), so that two uses of one sample never share a stream.

    Returns:
        An integer in [0, 2^63), the same on every machine and in every version of Python.

    Example:
        >>> sample_seed(0, "cat/1.jpg") == sample_seed(0, "cat/1.jpg") != sample_seed(0, "cat/1.jpg", "corruption")
        True
    """
    # JSON keeps the three parts apart whatever characters they hold.
    key = json.dumps([int(run_seed), purpose, sample_id]).encode()
    return int.from_bytes(hashlib.sha256(key).digest()[:8], "big") >> 1


def half_of(sample_id: str) -> str:
    """`select` or `confirm`: a picture's half follows from its id alone, whatever the run's seed, limit or order.

    By the last two parts of the id, CLASS/FILE: a domain's picture has the same half when all domains are opened.

    Example:
        >>> half_of("cat/1.jpg") == half_of("sketch/cat/1.jpg")
        True
    """
    return (SELECT, CONFIRM)[sample_seed(0, "/".join(sample_id.split("/")[-2:]), "half") % 2]


@contextmanager
def fixed_seed(seed: int = 0) -> Iterator[None]:
    """Random numbers drawn inside, on the CPU, are the same every time, and the caller's are left alone."""
    import torch

    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)  # `torch.manual_seed` would seed accelerators too, and for good
        yield
