"""What the benchmarks' commands share: options, where a record goes, how figures with a spread are shown."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from commands.common import drawing, emit_json, say, table

if TYPE_CHECKING:
    from experiments.bench.going import Going

OutFolder = Annotated[
    str | None, typer.Option("--out", "-o", help="Where <bench>.json goes; replaced there.", metavar="DIR")
]
Quick = Annotated[bool, typer.Option("--quick", help="Fewer rounds and sizes, for a look.")]
Threads = Annotated[
    int | None, typer.Option("--threads", help="Of this process; PyTorch's choice otherwise.", min=1, metavar="N")
]


def use_threads(threads: int | None) -> None:
    """PyTorch's threads, where a number was given."""
    if threads is not None:
        import torch

        torch.set_num_threads(threads)


def measured(
    bench: str,
    work: Callable[[Going], Mapping[str, Any]],
    out: str | Path | None = None,
    quiet: bool = False,
    seconds: float = 0,
) -> dict[str, Any]:
    """The record of what `work` found and was `asked`; until `out` has it, its rows are there in `BENCH.rows.jsonl`."""
    from experiments.bench.going import Going
    from experiments.bench.timing import record

    keep = Path(out) / f"{bench}.rows.jsonl" if out else None
    with drawing(quiet, still=True) as draw:
        going = Going(bench, None if quiet else draw, seconds, keep)
        found = {**work(going), "left_out": going.left_out}
    return record(bench, found.pop("asked", {}), found)


def save_record(folder: str | Path, value: dict[str, Any], quiet: bool) -> None:
    """`<bench>.json` in the folder, replaced there."""
    from experiments.bench.timing import save

    path = save(Path(folder), value)
    path.with_suffix(".rows.jsonl").unlink(missing_ok=True)  # what a run that is not done yet had kept
    if not quiet:
        say(f"saved: {path}")


def hand_out(
    value: dict[str, Any], out: str | None, as_json: bool, quiet: bool, show: Callable[[dict[str, Any]], None]
) -> None:
    """Save a record where asked to, then print it, as JSON or with `show`."""
    if out is not None:
        save_record(out, value, quiet)
    if as_json:
        emit_json(value)
        return
    show(value)
    if value["left_out"]:
        say(f"left out for want of time: {'; '.join(value['left_out'])}")


def figures_table(value: dict[str, Any], figures: Iterable[tuple[str, str, int, str]]) -> None:
    """(key, what, digits, wanted) each: the median, the spread where there is one, and what was wanted."""
    rows = []
    for key, what, digits, wanted in figures:
        if value[key] is None:
            continue  # what it is compared with is not installed
        between = value["spread"].get(key)
        about = f"{between['min']:.2f} to {between['max']:.2f}" if between else ""
        rows.append((what, f"{value[key]:.{digits}f}", about, wanted))
    table(["what", "measured", "min to max", "wanted"], rows, right=(1,))
