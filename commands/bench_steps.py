"""`apm bench steps`: what it takes to reach the teacher's token."""

from __future__ import annotations

from commands.common import Json, Quiet, Record, emit_json, follow, keep_record, table
from commands.options import options
from experiments.adaptation.settings import StepsSettings


@options(StepsSettings)
def steps(settings: StepsSettings, save: Record = None, as_json: Json = False, quiet: Quiet = False) -> None:
    """Rates, steps and query subsets against the cosine reached, and the closed form as baseline."""
    from experiments.adaptation.steps import run

    result = follow(run(settings), quiet)
    keep_record(save, result)
    if as_json:
        emit_json(result)
        return
    shown = []
    for r in result["rows"]:
        cells = (r["apm"], r["start"], f"{r['rate']:g}", r["steps"], r["queries"] or "all", f"{r['cosine_min']:.4f}")
        shown.append((*cells, f"{r['cosine_median']:.4f}", f"{r['agreement']:.3f}", f"{r['seconds_per_sample']:.3f}"))
    heads = ["APM", "start", "rate", "steps", "asked", "cos min", "median", "agree", "s"]
    table(heads, shown, right=range(2, 9))
