"""`apm docs`: whether the figures of README and docs are those of the records, and rewriting those that are not."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from commands.common import Json, emit_json, say, table

FEW = 20  # faults that are printed


def docs(
    check: Annotated[
        bool, typer.Option("--check", help="Exit 1 where a figure is not its record's, or no record is named.")
    ] = False,
    write: Annotated[
        bool, typer.Option("--write", help="Rewrite bound figures and tables, and docs/claims.md.")
    ] = False,
    root: Annotated[
        str, typer.Option("--root", help="A clone: README.md, docs, benchmarks/results.", metavar="DIR")
    ] = "",
    as_json: Json = False,
) -> None:
    """Figures of README and docs, bound to recorded results."""
    from experiments.claims.page_figures import pages, rewrite
    from experiments.claims.page_tables import TABLES
    from experiments.claims.read import read_claims
    from experiments.claims.run import Results, judge_all
    from experiments.claims.write import as_markdown
    from experiments.records import ROOT
    from glom.errors import InputError, RunError
    from glom.runs.files import write_text

    place = Path(root) if root else ROOT
    if not (place / "README.md").is_file() or not (place / "docs").is_dir():
        raise InputError(f"{place} is no clone: README.md and docs are in the repository; name it with --root")
    results = Results(place / "benchmarks" / "results")
    rows, faults = [], []
    for path in pages(place):
        name = path.relative_to(place).as_posix()
        text = path.read_text(encoding="utf-8")
        try:
            page = rewrite(text, results, TABLES)
        except InputError as error:
            raise InputError(f"{name}: {error}") from error
        if write and page.text != text:
            write_text(path, page.text)
        faults += [] if write else [f"{name}: {what}" for what in page.stale]
        faults += [f"{name}: no record is named for {what}" for what in page.unbound]
        rows.append({"page": name, "bound": page.bound, "stale": len(page.stale), "unbound": len(page.unbound)})
    claims = place / "docs" / "claims.md"
    said = as_markdown(judge_all(read_claims(), results))
    if write:
        write_text(claims, said)
    elif not claims.is_file() or claims.read_text(encoding="utf-8") != said:
        faults.append("docs/claims.md: the records say something else")
    if as_json:
        emit_json({"pages": rows, "faults": faults})
    else:
        cells = [(r["page"], *(str(r[key]) for key in ("bound", "stale", "unbound"))) for r in rows]
        table(["page", "figures of records", "stale", "without a record"], cells, right=(1, 2, 3))
        for fault in faults[:FEW]:
            say(fault)
        if len(faults) > FEW:
            say(f"and {len(faults) - FEW} more; --json has them all")
    if check and faults:
        raise RunError(
            f"{len(faults)} figures or tables are not their records'; `apm docs --write` rewrites those that are bound"
        )
