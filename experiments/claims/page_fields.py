"""Tables of docs/fields.md, docs/grids.md and docs/ablation.md, made from records alone."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

from experiments.claims.page_cells import lines, record, signed, spanned
from experiments.claims.run import Results

OVERFIT_ON = {
    "token": "token",
    "token+patch": "token, local patch in the column",
    "token+grid": "token and the teacher's 7 x 7 grid",
    "token+fine": "token and its 14 x 14 grid",
    "position code": "position code alone",
}


def overfit(results: Results) -> str:
    """What the islands of a machine overfit on one picture follow."""
    heads = ("overfit on", "ARI", "own", "ARI over position code", "with noise's islands", "with other pictures'")
    rows = []
    for r in record(results, "overfit-bsds500.json")["rows"]:
        own, code, noise = (r.get(key) for key in ("specific", "minus_position_code", "same_as_noise"))
        rows.append(
            (
                OVERFIT_ON.get(r["name"], r["name"]),
                f"{r['ari']['mean']:.3f}",
                spanned(own["mean"], own["ci95"], 3),
                signed(code["mean"], code["ci95"], 3) if code else "",
                f"{noise['mean']:.2f}" if noise else "",
                f"{r['other_pictures']['mean']:.2f}",
            )
        )
    return lines(heads, ("---",) * 6, rows)


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


def shortcut(file: str, results: Results) -> str:
    """Students that skip layers, and the mean grid."""
    found = record(results, file)["results"]
    heads = (
        "student",
        "R² [95 %]",
        "cosine",
        "accuracy kept",
        "agreement",
        "islands, ARI",
        "FLOPs ratio",
        "time ratio",
    )
    rows = []
    for r in (found["baselines"]["mean_grid"], *found["students"]):
        cells = (f"{r[key]:.3f}" for key in ("cosine", "accuracy_kept", "agreement", "islands_ari"))
        ratios = (f"{r[key]:.4f}" if key in r else "-" for key in ("flops_ratio", "time_ratio"))
        rows.append((r["name"].replace("_", " "), spanned(r["r2"], r["r2_ci95"], 3), *cells, *ratios))
    return lines(heads, ("---", "---", *["--:"] * 6), rows)


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


def imitation(results: Results) -> str:
    """The machine that ships beside its teacher."""
    found = record(results, "grid-apm-cifar10.json")["results"]
    rgb = found["rgb"]
    rows = [
        ("R² over the mean grid [95 %]", "", spanned(found["r2"], found["r2_ci95"], 3)),
        (
            "cosine with the teacher's grid",
            "",
            f"{found['cosine']:.3f} (the mean grid: {found['cosine_mean_grid']:.3f})",
        ),
        (
            "k-NN accuracy of the mean feature (%)",
            f"{found['knn']['teacher']:.1f}",
            f"{found['knn']['apm']:.1f}",
        ),
        (
            f"PSNR of the decoded colours (dB; one colour a picture: {rgb['psnr_mean_colour']:.1f})",
            "",
            spanned(rgb["psnr"], rgb["psnr_ci95"], 1),
        ),
    ]
    return lines(("", "teacher", "APM"), ("---",) * 3, rows)


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


def folding(results: Results) -> str:
    """Every setting of the folding ablation."""
    heads = ("axis", "setting", "distillation error x 1000", "R² of the grid", "PSNR", "islands", "agreement")
    rows = []
    for r in record(results, "folding.json")["rows"]:
        error, r2, psnr, islands, agrees = (
            r["measures"][key]["mean"] for key in ("error", "grid_r2", "psnr", "islands_teacher", "agrees")
        )
        cells = (f"{1000 * error:.2f}", f"{r2:.2f}", f"{psnr:.1f}", f"{islands:.2f}", f"{agrees:.3f}")
        rows.append((r["axis"], r["setting"], *cells, f"{r['parameters']:,}"))
    return lines((*heads, "parameters"), ("---", "---", *["--:"] * 6), rows)


TABLES: dict[str, Callable[[Results], str]] = {
    "overfit": overfit,
    "upsample": upsample,
    **{
        f"shortcut-{name}": partial(shortcut, f"shortcut-{name}.json")
        for name in ("glom-tiny", "mvit-v2-tiny", "efficientnet-lite0", "efficientnet-lite0-middle")
    },
    **{
        f"shortcut-matrix-{name}": partial(matrix, f"shortcut-matrix-{name}.json")
        for name in ("glom-tiny", "mvit-v2-tiny")
    },
    "grid-apm-cifar10": imitation,
    "grid-channels": channels,
    "folding": folding,
}
