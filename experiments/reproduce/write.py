"""A reproduced table as files, from its rows alone: JSON, CSV, Markdown, LaTeX and one HTML page."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, select_autoescape

from experiments.comparison.table import STILL
from glom.runs.artifacts import machine, versions
from glom.runs.files import write_text
from probes.figures.base import png_data

Row = Mapping[str, Any]
FIELDS = (
    "method", "teacher", "network", "dataset", "scale", "unit", "published", "published_recomputed", "published_method",
    "published_dataset", "measured", "low", "high", "difference", "n", "skipped", "gain_over", "gain_published",
    "gain_measured", "gain_low", "gain_high", "gain_p_holm", "changed", "moved", "cannot_act", "note",
)  # fmt: skip
STILL_HERE = "cannot act here"


def write_tables(result: dict[str, Any], out: Path) -> None:
    """`table.csv`, `.md`, `.tex` and `.html` in `out`. Raises `RunError` where one cannot be written."""
    result |= {"machine": machine(), "versions": versions()}
    texts = {"csv": as_csv(result), "md": as_markdown(result), "tex": as_latex(result), "html": as_html(result, out)}
    for ending, text in texts.items():
        write_text(out / f"table.{ending}", text)


# -- parts of a row ----------------------------------------------------------------------------------------------------


def accuracies(result: Mapping[str, Any]) -> bool:
    """Whether the rows are top-1 accuracies (tables 1 to 3) and not quantities of their own."""
    return not any("unit" in row for row in result["rows"])


def shown(value: float | None, sign: bool = False) -> str:
    """A number as a person reads it: 68.4, +1.2, 0.0123, 143,129; a dash for none.

    Example:
        >>> shown(68.44), shown(1.2, True), shown(None), shown(0.4567), shown(143129.4)
        ('68.4', '+1.2', '-', '0.457', '143,129')
    """
    if value is None:
        return "-"
    plus = "+" if sign else ""
    if abs(value) >= 1000:
        return f"{value:{plus},.0f}"
    return f"{value:{plus}.3f}" if 0 < abs(value) < 1 and not sign else f"{value:{plus}.1f}"


def quantity(value: float | None, sign: bool = False) -> str:
    """A number of any unit: 143,129, 308.6, 1.71, 0.635; a dash for none."""
    if value is not None and (1 <= abs(value) < 10 or (sign and abs(value) < 1)):
        return f"{value:{'+' if sign else ''}.2f}"
    return shown(value, sign)


def interval(bounds: Sequence[float] | None, sign: bool = False) -> str:
    """[1.2, 3.4], or nothing."""
    if bounds is None:
        return ""
    return f"[{shown(bounds[0], sign)}, {shown(bounds[1], sign)}]"


def named(row: Row) -> str:
    """The method, and the network that it ran on here; what is published stands in columns of its own (`printed`)."""
    network = row.get("network") or row.get("teacher")
    return f"{row['method']} ({network})" if network else str(row["method"])


def printed(row: Row, number: Callable[[float | None], str]) -> str:
    """The published number, with the published row and data set that it is of."""
    of = [row.get("published_method"), row.get("published_dataset")]
    words = ", ".join(part for part in of if part)
    return number(row["published"]) + (f" ({words})" if words and row["published"] is not None else "")


def acted(row: Row) -> list[str]:
    """The share of answers that a method changed, in percent, and the mean change of the answer's probability."""
    changed, moved = row.get("changed"), row.get("moved")
    return ["-" if changed is None else f"{changed:.1f}", "-" if moved is None else f"{moved:.4f}"]


def notes(result: Mapping[str, Any]) -> list[str]:
    """What to know before reading the numbers."""
    found = [*result["missing"], *result["warnings"]]
    kind = result.get("corruptions")
    if kind:
        where = "the crop that the teacher sees" if kind["corrupt"] == "crop" else "the file"
        found.append(f"Corruptions have the strengths of {' and '.join(kind['scale'])} and are applied to {where}.")
    if "shares pictures with" in result:
        shared = ", ".join(result["shares pictures with"]) or "none"
        found.append(
            f"Studies of this project by which something was chosen, and that used some of these pictures: {shared}."
        )
    if any(row.get("moved") is not None for row in result["rows"]):
        found.append(
            "changed, moved: the share of the first method's answers that become others, and the mean absolute change "
            f"of the answer's probability. A method that changes at most {STILL[0]} % of the answers and moves less "
            f"than {STILL[1]} is marked '{STILL_HERE}': it is not beaten, it does nothing at this teacher's scale."
        )
    return found


def gained(row: Row, which: str) -> str:
    """The gain over the first method: published, recomputed or measured with its interval."""
    gain = row.get("gain")
    if not gain or gain.get(which) is None:
        return "-"
    bounds = gain["ci95"] if which == "measured" else None
    return f"{shown(gain[which], True)} {interval(bounds, True)}".strip()


def averages(result: Mapping[str, Any]) -> list[Row]:
    """The rows that average over data sets."""
    return [row for row in result["rows"] if row.get("kind") == "average"]


# -- formats -----------------------------------------------------------------------------------------------------------


def as_csv(result: Mapping[str, Any]) -> str:
    """One line a row, intervals and gains in columns of their own."""
    buffer = io.StringIO()
    writer = csv.DictWriter(buffer, FIELDS, extrasaction="ignore", lineterminator="\n")
    writer.writeheader()
    for row in result["rows"]:
        low, high = row["ci95"] or (None, None)
        gain = row.get("gain") or {}
        below, above = gain.get("ci95") or (None, None)
        more = {"gain_over": gain.get("over"), "gain_published": gain.get("published")}
        more |= {"gain_measured": gain.get("measured"), "gain_low": below, "gain_high": above}
        more["gain_p_holm"] = gain.get("p_holm")
        scale = " ".join(row.get("scale", []))
        writer.writerow({**row, "low": low, "high": high, "scale": scale, **more})
    return buffer.getvalue()


def table_rows(result: Mapping[str, Any], rows: Sequence[Row]) -> tuple[list[str], list[list[str]]]:
    """(heads, cells): the long form, as Markdown, LaTeX and HTML print it."""
    if not any(row["published"] is not None for row in rows) and not accuracies(result):
        heads = ["what", "of", "measured", "95 %", "n", "unit"]
        return heads, [
            [
                row["method"],
                row["dataset"],
                quantity(row["measured"]),
                interval(row["ci95"]),
                f"{row['n']:,}",
                row["unit"],
            ]
            for row in rows
        ]
    if accuracies(result):
        heads = ["method", "data here", "published", "measured", "95 %", "difference", "n", "skipped", "note"]
    else:
        heads = ["what", "of", "published", "measured", "95 %", "difference", "n", "skipped", "unit and note"]
    cells = []
    for row in rows:
        note = row["note"] if accuracies(result) else _unit(row)
        number = shown if accuracies(result) else quantity
        numbers = [
            printed(row, number),
            number(row["measured"]),
            interval(row["ci95"]),
            number(row["difference"], True),
        ]
        cells.append([named(row), str(row["dataset"]), *numbers, f"{row['n']:,}", str(row["skipped"]), note])
    return heads, cells


def _unit(row: Row) -> str:
    parts = [row["unit"] if row["unit"] != row["dataset"] else "", "" if "no number" in row["note"] else row["note"]]
    return "; ".join(part for part in parts if part)


def average_rows(result: Mapping[str, Any]) -> tuple[list[str], list[list[str]]]:
    """(heads, cells) of printed, recomputed from the printed rows, measured, and the gains over the base.

    Beside a measured gain stands its p-value, corrected for the number of the block's other methods; of a method that
    does nothing to the first one's answers (`experiments.comparison.table.cannot_act`), that it cannot act.
    """
    heads = ["method", "average over", "printed", "recomputed", "measured", "95 %", "n", "changed %", "moved"]
    heads += ["gain, printed", "gain, recomputed", "gain, measured"]
    cells = []
    for row in averages(result):
        beside = [printed({**row, "published_dataset": ""}, shown), shown(row["published_recomputed"])]
        here = [shown(row["measured"]), interval(row["ci95"]), f"{row['n']:,}"]
        gains = [gained(row, which) for which in ("published", "published_recomputed", "measured")]
        p = (row.get("gain") or {}).get("p_holm")
        gains[-1] += f", {STILL_HERE}" if row.get("cannot_act") else "" if p is None else f", p {p:.2g} (Holm)"
        cells.append([named(row), str(row["dataset"]), *beside, *here, *acted(row), *gains])
    return heads, cells


def as_markdown(result: Mapping[str, Any]) -> str:
    """Averages first, then every row."""
    lines = [f"# {result['title']}", "", result["caption"], "", f"Published: {result['source']}.", ""]
    lines += [f"- {note}" for note in notes(result)] + [""]
    if averages(result):
        lines += ["## Averages", "", *_markdown(*average_rows(result)), "", "## Every data set", ""]
    cells = [row for row in result["rows"] if row.get("kind") != "average"]
    lines += [*_markdown(*table_rows(result, cells)), "", f"    {result['command']}", ""]
    lines += [f"![{title}]({path})\n" for title, path in result["images"]]
    return "\n".join(lines).replace("\n\n\n", "\n\n")


def _markdown(heads: Sequence[str], cells: Sequence[Sequence[str]]) -> list[str]:
    clean = [[cell.replace("|", "\\|") for cell in row] for row in cells]
    return [f"| {' | '.join(row)} |" for row in (heads, ["---"] * len(heads), *clean)]


def as_latex(result: Mapping[str, Any]) -> str:
    """Two booktabs longtables: averages and every row."""
    parts = [f"% {result['title']}\n% Published: {result['source']}\n% needs booktabs and longtable"]
    if averages(result):
        parts.append(_latex(*average_rows(result), f"{result['title']}: averages"))
    cells = [row for row in result["rows"] if row.get("kind") != "average"]
    parts.append(_latex(*table_rows(result, cells), str(result["title"])))
    return "\n\n".join(parts) + "\n"


def _latex(heads: Sequence[str], cells: Sequence[Sequence[str]], caption: str) -> str:
    lines = [rf"\begin{{longtable}}{{ll{'r' * (len(heads) - 3)}l}}", rf"\caption{{{escape(caption)}}} \\", r"\toprule"]
    lines += [" & ".join(map(escape, heads)) + r" \\", r"\midrule", r"\endhead"]
    lines += [" & ".join(map(escape, row)) + r" \\" for row in cells]
    return "\n".join([*lines, r"\bottomrule", r"\end{longtable}"])


def escape(text: str) -> str:
    r"""Text as LaTeX takes it.

    Example:
        >>> escape("a_b & 5 %")
        'a\\_b \\& 5 \\%'
    """
    special = {c: rf"\{c}" for c in "&%$#_{}"} | {"~": r"\textasciitilde{}", "^": r"\textasciicircum{}"}
    special |= {"\\": r"\textbackslash{}", "²": r"$^2$", "×": r"$\times$"}
    return "".join(special.get(c, c) for c in text)


def as_html(result: Mapping[str, Any], out: Path) -> str:
    """One page that needs nothing else: averages, a matrix of what was measured beside the printed one, every row."""
    template = Environment(loader=PackageLoader("experiments"), autoescape=select_autoescape(["j2", "html"]))
    cells = [row for row in result["rows"] if row.get("kind") != "average"]
    facts = [("command", result["command"]), ("published", result["source"])]
    facts += [("machine", ", ".join(f"{k} {v}" for k, v in result["machine"].items()))]
    facts += [("versions", ", ".join(f"{k} {v}" for k, v in result["versions"].items()))]
    return template.get_template("reproduce.html.j2").render(
        title=result["title"],
        caption=result["caption"],
        home=result["scale"] == "home" and accuracies(result),
        notes=notes(result),
        averages=average_rows(result) if averages(result) else None,
        matrices=matrices(cells) if accuracies(result) else [],
        rows=table_rows(result, cells),
        images=[(title, png_data(out / path)) for title, path in result["images"] if path.endswith(".png")],
        facts=facts,
    )


def matrices(rows: Sequence[Row]) -> list[dict[str, Any]]:
    """A matrix a teacher and its methods: data sets down, methods across, each cell measured, and published beneath."""
    parts: dict[tuple[str, tuple[str, ...]], list[dict[str, Row]]] = {}
    for teacher, data in dict.fromkeys((row["teacher"], row["dataset"]) for row in rows):
        by = {named(row): row for row in rows if (row["teacher"], row["dataset"]) == (teacher, data)}
        parts.setdefault((teacher, tuple(by)), []).append(by)
    found: list[dict[str, Any]] = []
    for (teacher, methods), own in parts.items():
        lines = []
        for by in own:
            values = [r["measured"] for r in by.values() if r["measured"] is not None]
            best, worst = max(values, default=None), min(values, default=None)
            lines.append(
                {
                    "data": next(iter(by.values()))["dataset"],
                    "published": next((r["published_dataset"] for r in by.values() if r["published_dataset"]), ""),
                    "cells": [
                        {
                            "measured": shown(r["measured"]),
                            "interval": interval(r["ci95"]),
                            "published": printed({**r, "published_dataset": ""}, shown) if r["published"] else "",
                            "best": r["measured"] is not None and best != worst and r["measured"] == best,
                            "note": r["note"],
                        }
                        for r in (by[m] for m in methods)
                    ],
                }
            )
        found.append({"teacher": teacher, "methods": methods, "lines": lines})
    return [m for m in found if any(c["measured"] != "-" for line in m["lines"] for c in line["cells"])]
