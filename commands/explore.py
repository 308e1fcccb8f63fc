"""`apm explore`: a page to look at runs and pictures with."""

from __future__ import annotations

from commands.common import Json, Quiet, emit_json, follow, say, table
from commands.options import options
from experiments.explore.settings import ExploreSettings


@options(ExploreSettings)
def explore(settings: ExploreSettings, as_json: Json = False, quiet: Quiet = False) -> None:
    """One self-contained page of run folders and pictures: islands under the pointer, traces, tables."""
    from experiments.explore.run import run

    result = follow(run(settings), quiet)
    if as_json:
        emit_json(result)
        return
    rows = [(page, "") for page in result["pages"]]
    rows[0] = (rows[0][0], f"{result['bytes'] / 1e6:.1f} MB in all")
    table(["page", ""], rows)
    if result["worst"] is not None:
        say(f"cosines in the page are those of the whole features to {result['worst']:.3f}, in the worst pair")
    say(f"open {result['pages'][0]} in a browser and point at the picture")
