"""One family of errors: each says in one line what was wrong, where, and what to do."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping
from typing import Any


class GlomError(Exception):
    """Base of everything the toolkit raises on purpose. `exit_code` is what the command line returns."""

    exit_code = 1


class InputError(GlomError, ValueError):
    """The request or its data was wrong: an unknown name, a missing file, weights that do not fit."""

    exit_code = 2


class RunError(GlomError, RuntimeError):
    """The request was fine, the run failed: a full disk, a loss that turned NaN, a rank that died."""

    exit_code = 1


class RankLost(RunError):
    """Another process of the same job died or did not answer: a consequence, whose cause is said by that one."""


def lost(error: GlomError) -> dict[str, str]:
    """What is recorded of a sample without a result: "skipped" where it cannot be read, "failed" where the work did."""
    return {"status": "skipped" if isinstance(error, InputError) else "failed", "reason": str(error)}


def demand_some(records: Iterable[Mapping[str, Any]], what: str) -> None:
    """The one rule for work over many samples, of which those without a result are passed over.

    Args:
        records: one a sample: `status` "ok", "skipped" or "failed" and, where it is not "ok", `reason`; see `lost`.
        what: the samples, for the message: "pictures of cifar10".

    Raises:
        InputError: not one could be read: the request was wrong.
        RunError: some were read, and the work failed on every one of them: the run failed.
    """
    kept = list(records)
    if not kept or any(r["status"] == "ok" for r in kept):
        return
    failed = [r for r in kept if r["status"] == "failed"]
    first = (failed or kept)[0].get("reason", "")
    why = f"; the first: {first}" if first else ""
    if failed:
        unread = f", {len(kept) - len(failed)} could not be read" if len(failed) < len(kept) else ""
        raise RunError(f"none of the {len(kept)} {what} has a result: {len(failed)} failed{unread}{why}")
    raise InputError(f"none of the {len(kept)} {what} could be read{why}")


def refuse_idle(where: str, chosen: str, only: Mapping[str, tuple[str, ...]], given: Mapping[str, Any]) -> None:
    """Refuse a setting that would do nothing.

    Args:
        where: what it does nothing in, for the message.
        chosen: the mode or objective asked for.
        only: the modes or objectives that a setting is for, by its name.
        given: what was given for each setting; None for nothing.

    Raises:
        InputError: the first such setting.
    """
    for name, uses in only.items():
        if given.get(name) is not None and chosen not in uses:
            raise InputError(f"`{name}` does nothing in {where}; it is for {' and '.join(uses)}")


def nearest(name: str, valid: Iterable[str], count: int = 3, cutoff: float = 0.4) -> list[str]:
    """Up to `count` valid names closest to `name`, best first; fewer or none where nothing is so close (0 to 1)."""
    names = list(valid)
    lowered = {n.lower(): n for n in names}
    close = difflib.get_close_matches(name.lower(), lowered, n=count, cutoff=cutoff)
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
