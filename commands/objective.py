"""`apm ablate objective`: what could beat the teacher, chosen on one half, confirmed once on the other."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

from commands.common import Json, Quiet, Record, Resume, console, emit_json, follow, keep_record, percent, say, table
from commands.ending import resumable
from commands.options import options
from commands.study import study
from experiments.objective.settings import ConfirmSettings, ObjectiveSettings, PromptChoice

app = typer.Typer(
    help="Objectives that could beat the teacher: chosen on one half, confirmed once on the other.",
    no_args_is_help=True,
    add_completion=False,
)


@app.command("candidates")
def candidates(as_json: Json = False) -> None:
    """What is tried, and what each is measured against."""
    from experiments.objective.candidates import CANDIDATES

    rows = [
        {"candidate": c.name, "kind": c.kind, "what": c.what, "controls": list(c.controls), "needs": c.needs}
        for c in CANDIDATES.values()
    ]
    if as_json:
        emit_json({"candidates": rows})
        return
    shown = [(r["candidate"], r["kind"], r["what"], ", ".join(r["controls"])) for r in rows]
    table(["candidate", "kind", "what", "controls"], shown)
    say("plain: nothing overfit; apm: an APM overfit; controls: plain uses of the same information")


@app.command("select")
@study(ObjectiveSettings, "experiments.objective.run", resume="every picture so far is kept", record=False)
def select(result: Mapping[str, Any], out: str) -> None:
    """Every candidate on the selection half: differences from the teacher, corrected for how many were tried."""
    show(result, "selection half")
    if result["left_out"]:
        say(f"not asked for, or not possible with this teacher and data: {', '.join(result['left_out'])}")
    say(f"figure: {out}/select.png; the best, once, on the other half: apm ablate objective confirm {out}")


@app.command("confirm")
@options(ConfirmSettings)
def confirm(
    settings: ConfirmSettings,
    folder: Annotated[str, typer.Argument(help="Run folder of a complete selection.", metavar="DIR")],
    save: Record = None,
    resume: Resume = False,
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """The best candidates once on the other half. A folder is confirmed once; a second time is refused."""
    from experiments.objective.confirm import run
    from glom.devices import ranks
    from glom.runs.artifacts import read_result

    with resumable("every picture so far is kept"):
        confirmed = follow(run(settings, Path(folder), resume=resume), quiet)
    if ranks()[0]:
        return
    result = {"selection": read_result(Path(folder)), "confirmation": confirmed}
    keep_record(save, result, Path(folder) / "confirm")
    if as_json:
        emit_json(result)
        return
    found = result["confirmation"]
    show(found, "the other half")
    if "unseen" in found:
        show(found["unseen"], "further data sets")
        for row in found["unseen"]["rows"]:
            if row["beats_in"]:
                say(f"{row['candidate']} is above its teacher and its controls in {', '.join(row['beats_in'])}")
    beats = [r["candidate"] for r in found["rows"] if r.get("holds")]
    adds = [r["candidate"] for r in found["rows"] if r.get("apm_adds")]
    say(f"above the teacher after correction: {', '.join(beats) or 'none'}")
    say(f"where overfitting adds to the plain use of the same information: {', '.join(adds) or 'none'}")
    say(f"figure: {folder}/confirm.png")


@options(PromptChoice)
def prompts(settings: PromptChoice, save: Record = None, as_json: Json = False, quiet: Quiet = False) -> None:
    """CoOp's length, optimiser, rate and epochs for a teacher, scored on training pictures it did not learn from."""
    from experiments.objective.prompts import run

    result = follow(run(settings), quiet)
    keep_record(save, result)
    if as_json:
        emit_json(result)
        return
    rows = []
    for r in result["rows"]:
        s = r["settings"]
        mark = "<- preset" if s == result["preset"] else ""
        low, high = r["ci95"]
        cells = (s["optimiser"], f"{s['lr']:g}", s["epochs"], f"{r['loss']:.2f}", percent(r["top1"]))
        rows.append((s["words"], *cells, f"{low:.1f}-{high:.1f}", mark))
    title = f"{result['data']}: {result['held_out']} training pictures held out; zero-shot "
    title += f"{percent(result['zero_shot']['top1'])} %"
    table(["context", "optimiser", "rate", "epochs", "loss", "top-1", "95 %", ""], rows, title, right=(2, 3, 4, 5, 6))


def show(result: Mapping[str, Any], what: str) -> None:
    """A table of what overfits nothing and one of what does, the best first."""
    about = f"{what}: {result['cases']} cases of {result['pictures']} pictures"
    console().print(f"{about}; teacher {percent(result['teacher_top1'])} %\n")
    for kind, name in (("plain", "not overfit"), ("apm", "an APM overfit")):
        rows = sorted((r for r in result["rows"] if r["kind"] == kind), key=lambda r: -r["difference"])
        shown = []
        for r in rows:
            p = "-" if "p_holm" not in r else "<0.001" if r["p_holm"] < 1e-3 else f"{r['p_holm']:.2g}"
            low, high = r["ci95"]
            cells = (percent(r["top1"]), f"{r['difference']:+.1f}", f"{low:+.1f} to {high:+.1f}", p)
            shown.append((r["candidate"], *cells, _nearest(r)))
        heads = [name, "top-1", "minus", "95 %", "p*", "minus control"]
        table(heads, shown, right=(1, 2, 3, 4))
        console().print()
    own = result["apm"]
    text = f"token distillation alone: {percent(own['top1'])} %, the teacher's class in "
    text += f"{100 * own['same_as_teacher']:.1f} % of cases\n"
    text += f"* exact McNemar, Holm's correction for {result['tried']} tried; minus: the teacher\n"
    text += "minus control: over the best plain use of the same information, + where its 95 % is above 0"
    console().print(text, style="dim")


def _nearest(row: Mapping[str, Any]) -> str:
    """The control a candidate gains least over."""
    if not row["minus_controls"]:
        return ""
    name, least = min(row["minus_controls"].items(), key=lambda item: item[1]["difference"])
    mark = "+" if least["ci95"][0] > 0 else "-" if least["ci95"][1] < 0 else " "
    return f"{least['difference']:+5.1f}{mark} {name}"
