"""`apm demo`: the main job on what is shipped."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from commands.common import Device, Interrupted, Json, Quiet, Seed, console, emit_json, percent, progress, say, table


def demo(
    out: Annotated[str, typer.Option("--out", "-o", help="Where the report goes.", metavar="DIR")] = "runs/demo",
    limit: Annotated[int, typer.Option("--limit", help="Pictures a condition.", min=1, max=200)] = 200,
    iterations: Annotated[int | None, typer.Option("--iterations", help="Steps a picture.", min=1)] = None,
    seed: Seed = 0,
    device: Device = "auto",
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Honest test-time training on real pictures, offline, in about two minutes: one table, one HTML page."""
    from experiments.demo import SOURCE, DemoSettings, run_demo

    settings = DemoSettings(limit=limit, iterations=iterations, seed=seed, device=device)
    if not (quiet or as_json):
        console(stderr=True).print(SOURCE, markup=False)
    rows: list[dict[str, Any]] = []
    try:
        with progress(quiet) as bar:
            tasks: dict[str, Any] = {}
            for event in run_demo(settings, Path(out)):
                stage = event["stage"]
                if stage not in tasks:
                    tasks[stage] = bar.add_task(f"{stage:<18}", total=event["total"])
                bar.update(tasks[stage], completed=event["done"], total=event["total"])
                rows = event.get("rows", rows)
    except KeyboardInterrupt as stop:
        raise Interrupted(f"interrupted; call it again to go on: apm demo --out {out}") from stop
    if as_json:
        emit_json({"rows": rows, "report": f"{out}/report.html"})
        return
    shown = []
    for r in rows:
        difference = f"{r['difference']:+.1f} [{r['ci95'][0]:+.1f}, {r['ci95'][1]:+.1f}]"
        cells = (percent(r["teacher_top1"]), percent(r["apm_top1"]), difference, f"{r['mcnemar_p']:.2g}")
        shown.append((r["name"], *cells, f"{r['agreement']:.3f}", percent(r["oracle_top1"])))
    heads = ["pictures", "teacher", "APM", "difference [95 %]", "p", "agree", "oracle*"]
    table(heads, shown, right=(1, 2, 3, 4, 5, 6))
    console().print(
        "top-1 in %, the same pictures for both; p: exact McNemar.\n"
        "* a diagnostic, not a result: right at any iteration, which no one can know at test time.",
        style="dim",
    )
    say(f"report: {out}/report.html")
