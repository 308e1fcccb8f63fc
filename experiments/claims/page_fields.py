"""Tables of docs/fields.md, docs/grids.md and docs/ablation.md, made from records alone."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

from experiments.claims.page_cells import lines, record, signed, spanned
from experiments.claims.run import Results


def upsample(results: Results) -> str:
    """The machine between the teacher's locations, beside both baselines, a column a scale."""
    views = record(results, "upsample-views.json")["scales"]
    grid = record(results, "upsample-grid.json")["scales"]
    rows = [
        (name, *(f"{s[key]:.3f}" for s in scales))
        for name, scales, key in (
            ("APM", views, "cosine"),
            ("bilinear", views, "cosine_bilinear"),
            ("the same views, averaged", views, "cosine_average"),
            ("APM, one grid and no views", grid, "cosine"),
        )
    ]
    rows += [
        (name, *(signed(s[key][0], s[key][1:], 3) for s in scales))
        for name, scales, key in (
            ("APM over bilinear", views, "minus_bilinear"),
            ("APM over the average", views, "minus_average"),
            ("one grid: APM over bilinear", grid, "minus_bilinear"),
        )
    ]
    rows += [
        (name, *(f"{s[key]:.2f}" for s in views))
        for name, key in (
            ("R²: APM", "r2"),
            ("R²: bilinear", "r2_bilinear"),
            ("R²: the same views, averaged", "r2_average"),
        )
    ]
    return lines(("", *(f"{s['scale']} x" for s in views)), ("---",) * (1 + len(views)), rows)


def matrix(file: str, results: Results) -> str:
    """R² of every student between every two layers: rows from, columns to."""
    found = record(results, file)["results"]
    students, layers = found["students"], found["layers"]
    pairs: dict[tuple[int, int], Any] = {(p["from"], p["to"]): p for p in found["pairs"]}
    rows = []
    for start in layers[:-1]:
        between = (pairs.get((start, end)) for end in layers[1:])
        cells = (" / ".join(f"{p[s]['r2']:.3f}" for s in students) if p else "" for p in between)
        rows.append((f"from {start}", *cells))
    return lines((" / ".join(students), *(f"to {end}" for end in layers[1:])), ("---",) * len(layers), rows)


def channels(results: Results) -> str:
    """Numbers that the fold keeps a patch, and what they buy."""
    rows = []
    for count in (1, 2, 4, 12):
        found = record(results, f"grid-channels-{count}.json")
        own, apm = found["results"], found["settings"]["apm"]
        rows.append(
            (
                str(apm["channels"]),
                f"{100 * apm['channels'] / (3 * apm['patch'] ** 2):.0f} %",
                spanned(own["r2"], own["r2_ci95"], 3),
                spanned(own["rgb"]["psnr"], own["rgb"]["psnr_ci95"], 1),
                f"{own['parameters'] / 1e6:.1f} M",
            )
        )
    heads = ("scalars a 2 x 2 patch", "of the picture's numbers", "R² [95 %]", "PSNR, dB [95 %]", "parameters")
    return lines(heads, ("--:",) * 5, rows)


TABLES: dict[str, Callable[[Results], str]] = {
    "upsample": upsample,
    **{
        f"shortcut-matrix-{name}": partial(matrix, f"shortcut-matrix-{name}.json")
        for name in ("glom-tiny", "mvit-v2-tiny")
    },
    "grid-channels": channels,
}
