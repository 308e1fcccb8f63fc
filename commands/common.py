"""What every command shares: one way to print.

Results go to standard output, progress and warnings to standard error. How a command ends is `commands.ending`.
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TypeVar, cast

import typer

from commands.paths import record_file

if TYPE_CHECKING:
    from rich.console import Console
    from rich.progress import Progress

    from glom.runs.events import Event

Result = TypeVar("Result")

Out = Annotated[str, typer.Option("--out", "-o", help="Run folder; never overwritten.", metavar="DIR")]
Resume = Annotated[bool, typer.Option("--resume", help="Go on with the run in --out.")]
Device = Annotated[str, typer.Option("--device", help="auto, cpu, cuda, cuda:N or mps.", metavar="D")]
Json = Annotated[bool, typer.Option("--json", help="One JSON object on standard output, nothing else there.")]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="No progress.")]
Record = Annotated[
    str | None,
    typer.Option(
        "--record",
        help="Also write the result here, with command and machine.",
        metavar="FILE",
        callback=record_file,
    ),
]


def as_options(text: str) -> str:
    """What the library calls by its parameter, by its option.

    Example:
        >>> as_options("use `cache_precision` fp16")
        'use --cache-precision fp16'
    """
    return re.sub(r"`([a-z][a-z_]*)`", lambda found: "--" + found[1].replace("_", "-"), text)


def console(stderr: bool = False) -> Console:
    """A console that keeps to the terminal's width, and to 100 columns where there is no terminal."""
    from rich.console import Console

    stream = Console(stderr=stderr, highlight=False, soft_wrap=False)
    return stream if stream.is_terminal else Console(stderr=stderr, highlight=False, width=min(stream.width, 100))


def say(message: str) -> None:
    """A line of progress or warning, on standard error; never broken, so that a path in it can be copied."""
    console(stderr=True).print(message, markup=False, soft_wrap=True)


def caption(text: str) -> None:
    """What a table's heads mean, on standard error, wrapped between words."""
    console(stderr=True).print(text, markup=False)


def counted(count: int, noun: str) -> str:
    """`1 picture`, `2 pictures`."""
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"


def emit_json(value: Mapping[str, Any]) -> None:
    """One object on standard output, in ASCII where that cannot hold it. NaN becomes null: JSON has no other word.

    What was said as notices is under `warnings`, behind what the object holds there itself.
    """
    from glom.runs.artifacts import finite
    from glom.runs.notices import heard

    if heard():
        value = {**value, "warnings": list(dict.fromkeys([*(value.get("warnings") or []), *heard()]))}
    text = json.dumps(finite(value), ensure_ascii=False, allow_nan=False)
    try:
        text.encode(getattr(sys.stdout, "encoding", None) or "utf-8")
    except UnicodeEncodeError:
        text = json.dumps(finite(value), allow_nan=False)
    print(text)


def table(columns: Sequence[str], rows: Sequence[Sequence[object]], title: str = "", right: Sequence[int] = ()) -> None:
    """A plain table on standard output; columns listed in `right` are aligned right, and their cells never broken.

    Where it is too wide, the other columns wrap between words, and what does not fit then either follows as further
    blocks of columns, each with the first column beside it. Cells and titles are shown as they are, without markup.
    """
    from rich import box
    from rich.cells import cell_len
    from rich.table import Table
    from rich.text import Text

    screen = console()
    cells = [[str(cell) for cell in row] for row in rows]
    lines = [
        [line for text in (head, *(row[n] for row in cells)) for line in text.split("\n")]
        for n, head in enumerate(columns)
    ]
    widths = [max(map(cell_len, column)) for column in lines]
    heading = Text(title, style="italic") if title else None
    for number, (shown, first) in enumerate(_blocks(widths, set(right), screen.width)):
        if number:
            screen.print()
        grid = Table(title=heading, title_justify="left", box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False)
        heading = None
        for n in shown:
            grid.add_column(
                Text(columns[n]),
                justify="right" if n in right else "left",
                overflow="fold",
                no_wrap=n in right or (n == 0 and first == widths[0]),
                max_width=first if n == 0 else None,
            )
        for row in cells:
            grid.add_row(*[Text(row[n]) for n in shown])
        screen.print(grid)


HOUR = 3600.0  # seconds over which the pace of a bar that stands still in between is taken
GAP = 3  # characters between two columns
NAMES, WORDS = 16, 24  # characters that the first column and others of words keep where a table is too wide


def _blocks(widths: Sequence[int], right: set[int], screen: int) -> list[tuple[list[int], int]]:
    """Columns that are shown together, and how wide the first one is, which every block begins with.

    Args:
        widths: of the columns as they are. right: those that cannot be broken.
        screen: how wide a block may be.
    """
    least = [w if n in right else min(w, WORDS if n else NAMES) for n, w in enumerate(widths)]
    blocks: list[list[int]] = [[0]]
    for n in range(1, len(widths)):
        if sum(least[i] + GAP for i in blocks[-1]) + least[n] > screen and len(blocks[-1]) > 1:
            blocks.append([0])
        blocks[-1].append(n)
    # What a block leaves over is the first column's; all blocks give it the same.
    spare = min(screen - sum(least[i] + GAP for i in block[1:]) for block in blocks)
    return [(block, min(widths[0], max(spare, least[0]))) for block in blocks]


def progress(quiet: bool, *fields: str, still: bool = False) -> Progress:
    """A progress bar on standard error: description, bar, count, the named fields, time left.

    Args:
        still: it is drawn when it is told to alone, not by a thread of its own beside what is timed.
    """
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = [TextColumn("{task.description}"), BarColumn(bar_width=None), MofNCompleteColumn()]
    pace: dict[str, Any] = {"auto_refresh": False, "speed_estimate_period": HOUR} if still else {}
    texts = [TextColumn("{task.fields[" + name + "]}") for name in fields]
    return Progress(*columns, *texts, TimeRemainingColumn(), console=console(stderr=True), disable=quiet, **pace)


@contextmanager
def drawing(quiet: bool, still: bool = False) -> Iterator[Callable[[Event[Any]], None]]:
    """What draws events as they come: a bar a stage with the figures beside it, messages above; see `progress`.

    Nothing is drawn before the first of them: whatever is wrong with a request has been said by then.
    """
    from glom.runs.tracking import seen

    bar, tasks, begun = progress(quiet, "figures", still=still), dict[str, Any](), False
    with ExitStack() as open_bar:

        def draw(event: Event[Any]) -> None:
            nonlocal begun
            if not begun and (event.stage or event.message):
                open_bar.enter_context(bar)
                begun = True
            seen(event)
            if event.message:
                bar.console.print(as_options(event.message), markup=False, soft_wrap=True)
            if event.stage:
                if event.stage not in tasks:
                    tasks[event.stage] = bar.add_task(f"{event.stage:<18}", total=None, figures="")
                shown: dict[str, Any] = {"figures": figures(event.values)} if event.values else {}
                bar.update(tasks[event.stage], completed=event.done, total=event.total or None, **shown)
            if still:
                bar.refresh()

        yield draw


def follow(events: Iterable[Event[Result]], quiet: bool) -> Result:
    """Draw a run.

    Returns:
        What the last event brings; None where the run brings nothing, as a process that is not the first of several.
    """
    with drawing(quiet) as draw:
        return drawn(events, draw)


def drawn(events: Iterable[Event[Result]], draw: Callable[[Event[Any]], None]) -> Result:
    """As `follow`, beside what else `draw` draws."""
    last: Event[Result] | None = None
    for last in events:
        draw(last)
    return cast(Result, last.result if last else None)


def figures(values: Mapping[str, Any]) -> str:
    """Running figures in a line.

    Example:
        >>> figures({"loss": 0.25, "pictures/s": 1234.5, "epoch": 3, "": "memory, teacher"})
        'loss 0.25  pictures/s 1,234  epoch 3  memory, teacher'
    """
    shown = [f"{name} {_figure(value)}".strip() for name, value in values.items() if value is not None]
    return "  ".join(shown)


def _figure(value: Any) -> str:
    if not isinstance(value, float):
        return str(value)
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.4g}"


def keep_record(path: str | None, found: Mapping[str, Any], run: str | Path | None = None) -> None:
    """What every `--record FILE` does, where it is given: see `glom.runs.artifacts.write_record`."""
    if path is not None:
        from glom.runs.artifacts import write_record

        write_record(Path(path), found, Path(run) if run is not None else None)
        say(f"recorded in {path}")


def conditions_table(rows: Sequence[Mapping[str, Any]]) -> None:
    """Teacher beside APM, a row a condition, the oracle marked for what it is."""
    shown = []
    for r in rows:
        difference = p = "-"
        if r["difference"] is not None:
            difference, p = f"{r['difference']:+.1f}{bounds(r['ci95'], '+')}", f"{r['mcnemar_p']:.2g}"
        agreement = "-" if r["agreement"] is None else f"{r['agreement']:.3f}"
        cells = (percent(r["teacher_top1"]), percent(r["apm_top1"]), difference, p, agreement)
        shown.append((r["name"], *cells, percent(r["oracle_top1"])))
    counts = sorted({r["n"] for r in rows})
    heads = ["pictures", "teacher", "APM", "difference [95 %]", "p", "agree", "oracle*"]
    title = f"{' to '.join(map(str, counts[:1] + counts[1:][-1:]))} pictures a row"
    table(heads, shown, title=title, right=range(1, 7))
    kinds = dict.fromkeys(f"{corruption_words(r)}\n" for r in rows if r["scale"])
    console().print(
        "top-1 in %, the same pictures for both; p: exact McNemar.\n"
        f"{''.join(kinds)}"
        "* a diagnostic, not a result: right at any iteration, which no one can know at test time.",
        style="dim",
    )


def corruption_words(row: Mapping[str, Any], name: str = "corruptions") -> str:
    """Whose strengths a row's corruptions had, and where they acted."""
    where = "the crop that the teacher sees" if row["corrupt"] == "crop" else "the file"
    return f"{name}: strengths of {' and '.join(row['scale']) or 'none'}, applied to {where}"


def bounds(interval: Sequence[float] | None, sign: str = "") -> str:
    """ " [1.2, 3.4]", or nothing where there is no interval."""
    return "" if interval is None else f" [{interval[0]:{sign}.1f}, {interval[1]:{sign}.1f}]"


def percent(value: float | None) -> str:
    """68.4, or a dash."""
    return number(value, 1)


def number(value: float | None, digits: int = 3) -> str:
    """0.684, or a dash."""
    return "-" if value is None else f"{value:.{digits}f}"
