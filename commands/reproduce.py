"""`apm reproduce`: a table or figure of the poster, published beside measured."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

from commands.common import Json, Quiet, Record, Resume, console, emit_json, follow, keep_record, say, table
from commands.ending import resumable
from commands.jobs import shared_out
from commands.options import options
from experiments.reproduce.settings import Request


@options(Request)
def reproduce(
    settings: Request,
    out: Annotated[str, typer.Option("--out", "-o", help="Run folder; never overwritten.", metavar="DIR")] = "",
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Say what would run, and for how long; then stop.")
    ] = False,
    listing: Annotated[bool, typer.Option("--list", help="What can be reproduced.")] = False,
    record: Record = None,
    resume: Resume = False,
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """A table or figure of the poster: published, measured, difference, interval; JSON, CSV, Markdown, LaTeX, HTML."""
    small = settings.scale == "home" and settings.name == "table2"  # the others ask larger networks too
    alone = listing or dry_run or not out or not settings.name.startswith("table")
    if not alone and shared_out(settings.jobs, settings.device, settings.limit, small):
        return
    from experiments.reproduce.run import NAMES, demand_results, describe, run
    from glom.devices import ranks
    from glom.errors import InputError

    if listing or not settings.name:
        if as_json:
            emit_json({"names": NAMES})
        else:
            table(["name", "what"], list(NAMES.items()))
        return
    if not out and not dry_run:
        raise InputError("--out DIR is needed (or --dry-run, to see the plan alone)")
    first = ranks()[0] == 0
    if dry_run or (first and not quiet and not as_json):
        plan = describe(settings, Path(out or "."))
        if dry_run and as_json:
            emit_json(plan)
        else:
            show_plan(plan, dry_run)
        if dry_run:
            return
    with resumable("everything computed is kept"):
        result = follow(run(settings, Path(out), resume=resume), quiet or not first)
    if not first or result is None:
        return
    keep_record(record, result, out)
    if as_json:
        emit_json(result)
    else:
        show(result)
        say(f"in {out}: table.html, table.md, table.csv, table.tex, result.json")
    demand_results(Path(out))


def show_plan(plan: Mapping[str, Any], alone: bool) -> None:
    """What will run, what is missing, how long it takes. A plan asked for is a result; before a run it is progress."""
    lines = [f"{plan['title']}", plan["caption"]]
    for block in plan["blocks"]:
        state = "" if block["runnable"] else " - cannot be run here"
        lines.append(f"teacher {block['teacher']}{state}: {', '.join(block['methods']) or 'no method'}")
        if block["data"]:
            lines.append(f"  on {'; '.join(block['data'])}")
        if plan["scale"] == "home":  # at poster scale this is among what is missing
            lines += [f"  left out: {reason}" for reason in _merged(block["left_out"])]
            lines += [f"  {block['missing']}"] if block["missing"] else []
    lines += [f"missing: {note}" for note in plan["missing"]]
    lines += [f"note: {remark}" for remark in plan["remarks"]]
    if plan.get("limit"):
        lines.append(f"at most {plan['limit']} pictures of each data set (--limit)")
    lines.append(f"about {duration(plan['minutes'])} here ({plan['how']})" if plan["how"] else "no time is known")
    target = console(stderr=not alone)
    for line in lines:
        target.print(line, markup=False)
    if alone and plan["costs"]:
        rows = [
            (c["block"], c["method"], f"{c['pictures']:,}", f"{c['seconds']:.3g}", duration(c["minutes"]))
            for c in plan["costs"]
        ]
        table(["teacher", "method", "pictures", "s each", "time"], rows, right=(2, 3, 4))


def _merged(reasons: list[str]) -> list[str]:
    """Reasons that several methods share, said once."""
    found: dict[str, list[str]] = {}
    for reason in reasons:
        method, _, why = reason.partition(": ")
        found.setdefault(why, []).append(method)
    return [f"{', '.join(methods)}: {why}" for why, methods in found.items()]


def duration(minutes: float) -> str:
    """Minutes as a person says them: 40 s, 12 min, 5.0 h, 210 days."""
    if minutes < 1:
        return f"{60 * minutes:.0f} s"
    if minutes < 90:
        return f"{minutes:.0f} min"
    return f"{minutes / 60:,.1f} h" if minutes < 72 * 60 else f"{minutes / 1440:,.0f} days"


def show(result: Mapping[str, Any]) -> None:
    """Averages where there are any, else every row; the rest is in the files."""
    from experiments.reproduce.write import STILL_HERE, acted, averages, gained, interval, notes, quantity, shown

    rows = averages(result)
    for data, teacher in dict.fromkeys((r["dataset"], r["teacher"]) for r in rows):
        own = [r for r in rows if (r["dataset"], r["teacher"]) == (data, teacher)]
        if all(r["measured"] is None for r in own):
            names = ", ".join(r["published_method"] or r["method"] for r in own)
            console().print(f"{data}: {own[0]['note']} ({names})", markup=False)
            console().print()
            continue
        cells = []
        for r in own:
            printed = (shown(r["published"]), shown(r["published_recomputed"]))
            over = STILL_HERE if r.get("cannot_act") else gained(r, "measured")
            cells.append((r["method"], *printed, shown(r["measured"]), interval(r["ci95"]), acted(r)[0], over))
        heads = ["method", "printed", "recomp.", "here", "95 %", "changed", f"over {own[0]['method']} [95 %]"]
        count = max(r["n"] for r in own)
        skipped = max(r["skipped"] for r in own)
        title = f"{data}\n{teacher}: {count:,} answers a method, {skipped} skipped"
        table(heads, cells, title=title, right=range(1, 7))
        console().print()
    if rows:
        console().print("top-1 in %. printed, recomp.: the poster's average, and the mean of its own row.", style="dim")
        if result["scale"] == "home":
            console().print("They are of other data and networks: beside, never subtracted.", style="dim")
        for note in notes({**result, "missing": [], "warnings": []}):
            console().print(note, style="dim", markup=False)
        return
    with_printed = any(r["published"] is not None for r in result["rows"])
    lines: list[list[str]] = []
    for r in result["rows"]:
        unit = r["dataset"] if with_printed else f"{r['dataset']}: {r['unit']}"
        beside = [quantity(r["published"]), quantity(r["difference"], True)] if with_printed else []
        lines.append([r["method"], unit, quantity(r["measured"]), *beside])
    heads = ["what", "of", "here", *(["printed", "difference"] if with_printed else [])]
    table(heads, lines, title=result["title"], right=range(2, len(heads)))
