"""One family of errors: each says in one line what was wrong, where, and what to do."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class GlomError(Exception):
    """Base of everything the toolkit raises on purpose. `exit_code` is what the command line returns."""

    exit_code = 1


class InputError(GlomError, ValueError):
    """The request or its data was wrong: an unknown name, a missing file, weights that do not fit."""

    exit_code = 2


class RunError(GlomError, RuntimeError):
    """The request was fine, the run failed: a full disk, a loss that turned NaN, a rank that died."""

    exit_code = 1


def nearest(name: str, valid: Iterable[str], count: int = 3) -> list[str]:
    """Up to `count` valid names closest to `name`, best first; fewer or none where nothing is close."""
    names = list(valid)
    lowered = {n.lower(): n for n in names}
    close = difflib.get_close_matches(name.lower(), lowered, n=count, cutoff=0.4)
    return [lowered[n] for n in close]


def unknown(kind: str, name: str, valid: Iterable[str], hint: str = "") -> InputError:
    """An `InputError` for a name that does not exist, with the nearest valid ones.

    Example:
        >>> str(unknown("corruption", "gausian_noise", ["gaussian_noise", "fog"]))
        "unknown corruption 'gausian_noise'; did you mean gaussian_noise?"
    """
    names = list(valid)
    close = nearest(name, names)
    if close:
        advice = f"did you mean {' or '.join(close)}?"
    else:
        shown = ", ".join(names[:12]) + (", ..." if len(names) > 12 else "")
        advice = f"valid: {shown}"
    return InputError(f"unknown {kind} '{name}'; {advice}" + (f" ({hint})" if hint else ""))
