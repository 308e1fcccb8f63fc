"""`apm bench ranks|plan|compile`: where further ranks stop paying, what a large data set takes, torch.compile."""

from __future__ import annotations

from typing import Any

from commands.bench_common import OutFolder, hand_out, measured
from commands.common import Json, Quiet, Record, caption, emit_json, follow, keep_record, table
from commands.options import options
from experiments.bench.settings import CompileSettings, PlanSettings, RanksSettings


@options(RanksSettings)
def ranks(settings: RanksSettings, out: OutFolder = None, as_json: Json = False, quiet: Quiet = False) -> None:
    """Columns and samples over 1 to 1,024 ranks, from what a step, an exchange and a picture take here."""
    from experiments.bench.ranks import run_ranks

    value = measured("ranks", lambda tell: run_ranks(settings, tell), out, quiet, settings.seconds)
    hand_out(value, out, as_json, quiet, _show_ranks)


def _show_ranks(value: dict[str, Any]) -> None:
    shown = [*((f"{c['columns']:,} columns", c["rows"]) for c in value["columns"]),
             (f"{value['samples']['pictures']:,} pictures", value["samples"]["rows"])]  # fmt: skip
    rows = [
        (row[0]["ranks"], *(f"{r['speedup']:.4g} ({100 * r['efficiency']:.0f} %)" for r in row))
        for row in zip(*(rows for _, rows in shown), strict=True)
    ]
    heads = ["ranks", *(name for name, _ in shown)]
    table(heads, rows, title="times faster than one rank (of what so many would be at best)", right=range(len(heads)))
    print()
    checked = [(r["what"], r["count"], r["processes"], f"{r['measured']:.4g}", f"{r['modelled']:.4g}",
                f"{100 * r['error']:+.1f}") for r in value["checked"]]  # fmt: skip
    heads = ["here", "columns or pictures", "processes", "measured (s)", "modelled (s)", "error (%)"]
    table(heads, checked, right=range(1, 6))
    until = f"{value['columns_pay_until']} over columns of the largest grid, {value['samples_pay_until']} over pictures"
    caption(f"ranks still do half of what so many would at best up to: {until}; the machine's load: {value['load']}")


@options(PlanSettings)
def plan(settings: PlanSettings, record: Record = None, as_json: Json = False, quiet: Quiet = False) -> None:
    """Hours, GB and cost of adapting to ImageNet and ImageNet-C, by part; every assumption is an option."""
    from experiments.bench.plan import PARTS, run

    found = follow(run(settings), quiet)
    keep_record(record, found)
    if as_json:
        emit_json(found)
        return
    rows = [
        (f"{r['pictures']:,}", r["gpus"], f"{r['hours']:.3g}", *(f"{r['by_part'][p]:.3g}" for p in PARTS),
         f"{r['cost']:,.4g}", f"{r['gpu_gb']:.3g}", f"{r['disk_gb']:,.3g}")
        for r in found["rows"]
    ]  # fmt: skip
    heads = ["pictures", "GPUs", "hours", *PARTS, "cost", "GB a GPU", "GB on disk"]
    table(heads, rows, title="hours, in all and by part; reading goes on beside the rest", right=range(len(heads)))
    print()
    told = [("--" + a["setting"].replace("_", "-"), _value(a["value"]), a["what"]) for a in found["assumptions"]]
    table(["assumption", "value", "what"], told, right=(1,))
    if found["here"]:
        here = found["here"]
        rows = [(name.replace("_", " "), here[name]["modelled"], here[name]["measured"])
                for name in ("encoding", "drawing_and_adaptation")]  # fmt: skip
        print()
        table(["a picture here, one thread", "modelled (s)", "measured (s)"], rows, right=(1, 2))
        drawn = f"{here['drawn_billions_a_second']:.3g} billion numbers drawn"
        print(f"one core here: {here['read_rate']:.4g} pictures read a second, {drawn}")


def _value(value: Any) -> str:
    return ", ".join(map(_value, value)) if isinstance(value, list) else f"{value:,}" if value != str(value) else value


@options(CompileSettings)
def compiled(settings: CompileSettings, out: OutFolder = None, as_json: Json = False, quiet: Quiet = False) -> None:
    """A repeated adaptation step as it is, and through torch.compile on the processor."""
    from experiments.bench.compiled import run_compiled

    value = measured("compile", lambda tell: run_compiled(settings, tell), out, quiet, settings.seconds)
    hand_out(value, out, as_json, quiet, _show_compiled)


def _show_compiled(value: dict[str, Any]) -> None:
    rows = [
        (r["apm"], r["stack"], *(f"{1000 * r['seconds'][n]['median']:.1f}" for n in ("plain", "compiled")),
         f"{r['speedup']['median']:.2f}", f"{r['speedup']['min']:.2f} to {r['speedup']['max']:.2f}",
         r["compile_seconds"], r["pays_after"] or "never", f"{r['difference']:.0e}")
        for r in value["rows"]
    ]  # fmt: skip
    heads = [
        "APM",
        "stack",
        "plain (ms)",
        "compiled (ms)",
        "times faster",
        "min to max",
        "compiling (s)",
        "steps to pay",
        "differ",
    ]
    table(heads, rows, right=(1, 2, 3, 4, 6, 7, 8))
