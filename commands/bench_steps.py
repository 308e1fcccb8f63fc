"""`apm bench steps`: what it takes to reach the teacher's token."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from commands.common import Json, Quiet, Record, emit_json, for_adaptation, progress, say, started, table
from commands.options import options
from experiments.adaptation.settings import StepsSettings


@options(StepsSettings)
def steps(settings: StepsSettings, save: Record = None, as_json: Json = False, quiet: Quiet = False) -> None:
    """Rates, steps and query subsets against the cosine reached, and the closed form as baseline."""
    from experiments.adaptation.steps import run_steps
    from glom.runs.artifacts import write_record

    for_adaptation()
    rows: list[dict[str, Any]] = []
    events = started(run_steps(settings))
    with progress(quiet) as bar:
        task = bar.add_task("adapting", total=len(settings.rates) * len(settings.steps) * len(settings.queries) + 1)
        for row in events:
            rows.append(row)
            bar.update(task, completed=len(rows))
    if save:
        write_record(Path(save), {"rows": rows})
    if as_json:
        emit_json({"rows": rows})
        return
    shown = []
    for r in rows:
        cells = (r["apm"], r["start"], f"{r['rate']:g}", r["steps"], r["queries"] or "all", f"{r['cosine_min']:.4f}")
        shown.append((*cells, f"{r['cosine_median']:.4f}", f"{r['agreement']:.3f}", f"{r['seconds_per_sample']:.3f}"))
    heads = ["APM", "start", "rate", "steps", "asked", "cos min", "median", "agree", "s"]
    table(heads, shown, right=range(2, 9))
    if save:
        say(f"recorded in {save}")
