"""`apm claims`: each of the poster's claims with a verdict, from result files alone."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from commands.common import Json, console, emit_json, say, table


def claims(
    results: Annotated[
        str, typer.Option("--results", help="Folder of result files; by default those that ship.", metavar="DIR")
    ] = "",
    reproduced: Annotated[
        list[str] | None,
        typer.Option("--reproduced", help="Also a folder of `apm reproduce`; may be repeated.", metavar="DIR"),
    ] = None,
    out: Annotated[str, typer.Option("--out", "-o", help="Write the page here.", metavar="FILE")] = "",
    check: Annotated[
        bool, typer.Option("--check", help="Exit 1 if --out (docs/claims.md) is not what results give.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Judge the poster's claims; prints them, and with --out writes docs/claims.md."""
    from experiments.claims.read import read_claims
    from experiments.claims.run import Results, counts, judge_all
    from experiments.claims.write import as_markdown
    from experiments.records import records_folder
    from glom.errors import InputError, RunError
    from glom.runs.files import write_text

    held = Results(records_folder(results))
    for place in reproduced or []:
        held.add_reproduced(Path(place))
    judged = judge_all(read_claims(), held)
    page = as_markdown(judged)
    if check:
        target = Path(out or "docs/claims.md")
        if not target.is_file():
            raise InputError(f"{target} does not exist; `apm claims --out {target}` writes it")
        if target.read_text(encoding="utf-8") != page:
            raise RunError(
                f"{target} is stale: the results say something else; `apm claims --out {target}` writes it anew"
            )
        say(f"{target} is what the results give")
        return
    if out:
        write_text(Path(out), page)
    if as_json:
        emit_json({"claims": [j.row() for j in judged], "counts": counts(judged)})
        return
    show(judged)
    if out:
        say(f"the page: {out}")


def show(judged: list[Any]) -> None:
    """A row a claim, grouped by place, then the count of verdicts by whose the claims are."""
    from experiments.claims.run import NOT, SOURCES, VERDICTS, counts

    for place in dict.fromkeys(j.claim.place for j in judged):
        rows = []
        for j in judged:
            if j.claim.place == place:
                scale = " (home scale)" if j.verdict == NOT and not j.published else ""
                rows.append((f"{j.verdict}{scale}", j.claim.claim))
        table(["verdict", "claim"], rows, title=place)
        console().print()
    found = counts(judged)
    counted = [(verdict, *(str(found[source][verdict]) for source in SOURCES)) for verdict in VERDICTS]
    table(["verdict", *SOURCES], counted, right=(1, 2, 3))
