"""Tables of the pages, made from records alone: `<!-- table NAME -->` in a page names one of `TABLES`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

from experiments.bench import report
from experiments.claims import Results
from glom.errors import InputError


def lines(heads: Sequence[str], align: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table as Markdown."""
    return "".join(f"| {' | '.join(cells)} |\n" for cells in (heads, align, *rows)).replace("|  |", "| |")


def record(results: Results, file: str) -> Any:
    """A record's contents. Raises `InputError` where it is not there."""
    found = results.get(file)
    if found is None:
        raise InputError(f"a page's table needs {file}, which is not among the results")
    return found


def signed(value: float, bounds: Sequence[float], digits: int = 1) -> str:
    """A difference with its interval."""
    low, high = bounds
    return f"{value:+.{digits}f} [{low:+.{digits}f}, {high:+.{digits}f}]"


def ttt(results: Results) -> str:
    """Test-time training beside its teacher, a row a condition."""
    found = record(results, "ttt-imagenet-sample.json")["rows"]
    heads = (
        f"pictures ({found[0]['n']} each)",
        "teacher zero-shot",
        "APM, last iteration",
        "paired difference [95 %]",
        "McNemar p",
        "agreement",
        "oracle (diagnostic)",
    )
    rows = [
        (
            r["name"],
            f"{r['teacher_top1']:.1f}",
            f"{r['apm_top1']:.1f}",
            signed(r["difference"], r["ci95"]),
            f"{r['mcnemar_p']:.2g}",
            f"{r['agreement']:.3f}",
            f"{r['oracle_top1']:.1f}",
        )
        for r in found
    ]
    return lines(heads, ("---",) * 7, rows)


def execution(results: Results) -> str:
    """What a test-time step costs beside the published loop."""
    return report.markdown({name: record(results, f"{name}.json") for name in report.BENCHES})


def methods(file: str, results: Results) -> str:
    """Averages of a reproduced table, a row a method."""
    found = [r for r in record(results, file)["rows"] if r["kind"] == "average"]
    heads = (
        "method",
        "its published row",
        f"here, mean over {found[0]['dataset']}",
        "95 %",
        "over the teacher [95 %]",
        "p",
    )
    rows = []
    for r in found:
        gain = r["gain"]
        own = (signed(gain["measured"], gain["ci95"]), f"{gain['p_holm']:.2g}") if gain else ("", "")
        low, high = r["ci95"]
        rows.append(
            (f"`{r['method']}`", r["published_method"], f"{r['measured']:.1f}", f"{low:.1f} to {high:.1f}", *own)
        )
    return lines(heads, ("---", "---", "--:", "---", "---", "--:"), rows)


def islands(file: str, results: Results) -> str:
    """Islands against people's outlines: the layer chosen elsewhere, both baselines, people; then every layer."""
    found = record(results, file)
    held = found.get("held_out")
    if held is None:
        raise InputError(f"{file} was made before a layer was chosen on other pictures")
    rows = [
        (f"layer {_layers(held['layers'])}, chosen on other pictures", held),
        ("colour + position", found["baselines"]["pixels"]),
        (f"untrained, layer {_layers(held['untrained']['layers'])}, chosen likewise", held["untrained"]),
        ("people", found["human"]),
        *((f"layer {r['layer']}", r) for r in found["layers"]),
    ]
    keys = ("ari", "nmi", "boundary_f", "covering_best")
    cells = [
        (
            name,
            f"{r['covering']:.3f} [{', '.join(f'{x:.3f}' for x in r['ci95']['covering'])}]",
            *(f"{r[key]:.3f}" for key in keys),
        )
        for name, r in rows
    ]
    return lines(("", "covering", "ARI", "NMI", "boundary F", "best person's covering"), ("---",) * 6, cells)


def _layers(numbers: Sequence[int]) -> str:
    return " and ".join(str(n) for n in dict.fromkeys(numbers))


def computation(results: Results) -> str:
    """Table 4: printed, counted and measured, from first principles."""
    heads = (
        "model",
        "t",
        "M param. printed / counted",
        "G printed (ideal / measured)",
        "G madd counted",
        "GFLOPs counted",
        "first principles, G madd",
        "GB printed (ideal / measured)",
        "GB measured",
        "first principles",
    )
    rows = []
    for r in record(results, "compute.json")["rows"]:
        printed, own = r["published"], r["first_principles"]
        rows.append(
            (
                r["model"],
                r["t"],
                f"{printed['params_m']:g} / {r['params_m']:.1f}",
                f"{printed['gflops_ideal']:g} / {printed['gflops_measured']:g}",
                f"{r['gmadds']:,.1f}",
                f"{r['gflops']:,.1f}",
                f"{own['gmadds']:,.1f}",
                f"{printed['memory_ideal_gb']} / {printed['memory_measured_gb']:g}",
                f"{r['memory_gb']:.2f}",
                f"{own['memory_gb']:.2f}",
            )
        )
    return lines(heads, ("---",) * 10, rows)


def readings(results: Results) -> str:
    """The nearest reading of every printed number of table 4."""
    names = {
        "params_m": "M parameters",
        "gflops_ideal": "GFLOPs, ideal",
        "gflops_measured": "GFLOPs, measured",
        "memory_ideal_gb": "GB, ideal",
        "memory_measured_gb": "GB, measured",
    }
    rows = [
        (
            r["model"],
            r["t"],
            names[key],
            f"{near['published']:g}",
            near["reading"],
            f"{near['value']:.1f}",
            f"{near['off_percent']:+.1f} %",
            str(near["searched"]),
            str(near["close"]),
        )
        for r in record(results, "compute.json")["rows"]
        for key, near in r["nearest"].items()
    ]
    heads = ("model", "t", "number", "printed", "nearest reading", "gives", "off", "tried", "close")
    return lines(heads, ("---",) * 9, rows)


TABLES: dict[str, Callable[[Results], str]] = {
    "ttt": ttt,
    "execution": execution,
    "table2": partial(methods, "reproduce-table2.json"),
    "table2-severity3": partial(methods, "reproduce-table2-severity3.json"),
    "islands-efficientnet-lite0": partial(islands, "islands-bsds500-efficientnet-lite0.json"),
    "islands-mvit-v2-tiny": partial(islands, "islands-bsds500-mvit-v2-tiny.json"),
    "computation": computation,
    "readings": readings,
}
