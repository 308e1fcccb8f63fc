"""`apm bench`: ratios measured side by side."""

from __future__ import annotations

import typer

app = typer.Typer(help="Benchmarks: ratios measured side by side in one run.", no_args_is_help=True)
