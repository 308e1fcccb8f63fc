"""The tables of `apm benchmark` on a screen: accuracy, trust and cost, each fit for 80 columns.

A cell is a value and, below it, the paired 95 % interval of its difference from the first method's.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from commands.common import caption, console, table

TABLES = ("accuracy", "trust", "cost")
Cell = Mapping[str, Any]


def show(result: Mapping[str, Any], kinds: Sequence[str]) -> None:
    """Every condition's tables of these kinds, the mean over conditions, and what the heads mean."""
    from glom.methods_list import CONSTANTS

    rows = result["rows"]
    conditions = list(dict.fromkeys(r["condition"] for r in rows))
    for condition in conditions:
        own = [r for r in rows if r["condition"] == condition]
        for kind in kinds:
            _one(kind, [_cells(r) for r in own], own, _title(own, result["stream"]), result)
    if len(conditions) > 1:
        means = [{"method": method, **cells} for method, cells in result["means"].items()]
        for kind in kinds:
            _one(kind, means, [], f"mean over {len(conditions)} conditions; pictures are drawn again", result)
    captions = {"accuracy": ACCURACY, "trust": TRUST, "cost": COST}
    for kind in kinds:
        caption(captions[kind].format(budget=result["settings"].get("budget", 0)))
    letters = ", ".join(f"{letter} {said}" for letter, said in CONSTANTS.items())
    caption(
        f"below a value: the paired 95 % interval of its difference from the first method's; c: constants {letters}"
    )


ACCURACY = (
    "chg %, moved: the share of the first method's answers that become others, and the mean change of the answer's "
    "probability; a method that changes next to nothing cannot act"
)
TRUST = (
    "ECE: expected calibration error, 15 bins; Brier: 0 to 2; wrong, unknown: AUROC for telling right answers from "
    "wrong ones, and pictures of known classes from the out-set's, by the answer's probability; *: another than the "
    "first method's, p below 0.05 after Holm over all rows of the run, each measure by itself"
)
COST = (
    "s: the method's own, the median a picture; times: the first method's; within: accuracy where all pictures "
    "together may take {budget:g} times the first method's seconds; clean: accuracy on the same data set as it is"
)


def _title(own: Sequence[Mapping[str, Any]], stream: Mapping[str, Any] | None) -> str:
    text = f"{own[0]['condition']}: {own[0]['n']} pictures, {max(r['skipped'] for r in own)} skipped"
    text += f"; strengths of {' and '.join(own[0]['scale'])}" if own[0]["scale"] else ""
    return text + (f"\nstream of {', '.join(stream['methods'])}: {stream['words']}" if stream else "")


def _cells(row: Mapping[str, Any]) -> dict[str, Any]:
    """A row's measures as cells, by name."""
    top1 = {"value": row["top1"], "difference": row["difference"], "difference_ci95": row["difference_ci95"]}
    others = {name: {"value": row[name], **cell} for name, cell in row["intervals"].items()}
    return {"method": row["method"], "top1": top1, **others}


def _one(
    kind: str, cells: Sequence[dict[str, Any]], rows: Sequence[Mapping[str, Any]], title: str, result: Mapping[str, Any]
) -> None:
    """One table; `rows` where it is of one condition, as they hold what no mean has."""
    heads: list[str] = []
    columns: list[list[str]] = []

    def add(head: str, column: Sequence[str]) -> None:
        if any(text.strip("-") for text in column):
            heads.append(head)
            columns.append(list(column))

    add("method", [c["method"] for c in cells])
    if kind == "accuracy":
        add("top-1", [_number(c["top1"]["value"], 1) for c in cells])
        for head, name, digits in (("shape", "shape", 1), ("texture", "texture", 1), ("shape bias", "shape_bias", 3)):
            add(head, [_cell(c.get(name), digits) for c in cells])
        add("95 %", ["-" if r["ci95"] is None else f"{r['ci95'][0]:.1f}-{r['ci95'][1]:.1f}" for r in rows])
        add("chg %", [_number(r["changed"], 1) for r in rows])
        add("moved", [_number(r["moved"], 4) for r in rows])
        gains = [{**c["top1"], "value": c["top1"]["difference"]} for c in cells]
        add(f"minus {cells[0]['method']}", [_cell(gain, 1, "+") for gain in gains])
        add("p (Holm)", [_p(r) for r in rows])
    elif kind == "trust":
        for head, name in (("ECE", "ece"), ("Brier", "brier"), ("wrong", "auroc_wrong"), ("unknown", "auroc_unknown")):
            add(head, [_cell(c.get(name), 3) for c in cells])
    else:
        add("s", [_number(r["seconds"], 4) for r in rows])
        add("times", [_number(r["times"], 1) for r in rows])
        add(f"within {result['settings'].get('budget', 0):g}x", [_cell(c.get("within_budget"), 1) for c in cells])
        add("clean", [_cell(c.get("clean"), 1) for c in cells])
    add("c", [_letter(c["method"], result) for c in cells])
    table(heads, list(zip(*columns, strict=True)), title=title, right=range(1, len(heads)))
    console().print()


def _cell(cell: Cell | None, digits: int, sign: str = "") -> str:
    """A value, and below it the paired interval, where there is one."""
    if cell is None or cell["value"] is None:
        return "-"
    text, interval = f"{cell['value']:{sign}.{digits}f}", cell["difference_ci95"]
    text += "*" if cell.get("p_holm", 1) < 0.05 else ""
    if interval is None:
        return text
    low, high = (f"{bound:+.{digits}f}" for bound in interval)
    if digits == 3:  # four such columns fit into 80 without the noughts
        low, high = (bound.replace("+0.", "+.").replace("-0.", "-.") for bound in (low, high))
    return f"{text}\n[{low},{high}]"


def _number(value: float | None, digits: int, sign: str = "") -> str:
    return "-" if value is None else f"{value:{sign}.{digits}f}"


def _p(row: Mapping[str, Any]) -> str:
    from experiments.comparison.table import cannot_act

    if row["p_holm"] is None:
        return "-"
    return "cannot act" if cannot_act(row["changed"], row["moved"]) else f"{row['p_holm']:.2g}"


def _letter(method: str, result: Mapping[str, Any]) -> str:
    """Where the method's constants come from."""
    from glom.methods_list import CONSTANTS

    said = next(r["constants"] for r in result["rows"] if r["method"] == method)
    return next((letter for letter, words in CONSTANTS.items() if words == said), "-")
