"""The poster's figures: existing runners with fixed settings, their numbers as rows and their pictures as one page.

At home scale on pictures that ship, or on photographs of `bsds500` under the request's folder; at poster scale with
the networks the poster used, where their weights are to be had.
"""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

from experiments.reproduce.parts import Drawn, FigureSpec, once, photographs, row
from experiments.reproduce.settings import Request
from glom.datasets.registry import data_root
from glom.errors import InputError, RunError


def islands(request: Request, out: Path) -> Drawn:
    """t-SNE colours of every layer on two pictures, and islands scored against outlines beside both baselines."""
    from experiments.islands.score import run as run_score
    from experiments.islands.settings import ScoreSettings, ShowSettings
    from experiments.islands.show import run as run_show

    poster = request.scale == "poster"
    backbone = "torchvision:mvit_v2_s@DEFAULT" if poster else ""
    paths, _, origin = photographs(request, out / "pictures", ("dog/0004.jpg", "ship/0002.jpg"))
    settings = ShowSettings(images=tuple(paths), backbone=backbone, seed=request.seed)
    shown = yield from once(out / "show", partial(run_show, settings))
    data = str(Path(paths[0]).parent.parent) if origin == "BSDS500" else "composites"
    parts = "kmeans:6" if origin == "BSDS500" else "kmeans:3"
    how = ScoreSettings(data=data, backbone=backbone, partition=parts, limit=request.limit or 20, seed=request.seed)
    scored = yield from once(out / "score", partial(run_score, how))
    name = Path(data).name
    rows = [_island(f"{shown['backbone']}, layer {r['layer']}", name, r, scored["n"]) for r in scored["layers"]]
    if held := scored["held_out"]:
        rows.append(_island(f"{shown['backbone']}, layer chosen on other pictures", name, held, scored["n"]))
        rows.append(_island("untrained, layer chosen on other pictures", name, held["untrained"], scored["n"]))
    rows.append(_island("colour + position", name, scored["baselines"]["pixels"], scored["n"]))
    if scored["human"]:
        rows.append(_island("people", name, scored["human"], scored["n"]))
    images = [
        (f"{p['image'].rpartition('/')[2]}: islands by layer", out / "show" / p["sheet"]) for p in shown["pictures"]
    ]
    return rows, images


def _island(method: str, data: str, found: dict[str, Any], n: int) -> dict[str, Any]:
    return row(method, data, found["covering"], "covering, 0 to 1", n, found["ci95"]["covering"])


def interpolation(request: Request, out: Path) -> Drawn:
    """The columns of two pictures interpolated on the great circle, unfolded at each step."""
    from experiments.fields.interpolate import run as run_interpolate
    from experiments.fields.settings import SHIPPED, InterpolateSettings

    paths, _, _ = photographs(Request(name=request.name), out / "pictures", ("frog/0000.jpg", "ship/0002.jpg"))
    settings = InterpolateSettings(
        first=paths[0],
        last=paths[1],
        path="spherical",
        checkpoint=request.checkpoint or SHIPPED,
        seed=request.seed,
        device=request.device,
    )
    found = yield from once(out / "path", partial(run_interpolate, settings))
    what = f"{found['images'][0]} to {found['images'][1]}"
    machine = Path(settings.machine).name
    rows = [
        row(machine, what, found["length"], "length of the way over the ends' distance", found["steps"]),
        row(machine, what, found["largest_step"], "largest step, a share of the way", found["steps"]),
        row(machine, what, found["lipschitz"], "Lipschitz estimate, a lower bound", found["steps"]),
    ]
    return rows, [("unfolded, step by step", out / "path/strip.png"), ("the way", out / "path/path.png")]


def overfitting(request: Request, out: Path) -> Drawn:
    """One picture and one token, random weights: the islands that grow, beside shuffled patches and noise."""
    from experiments.fields.overfit import run as run_overfit
    from experiments.fields.settings import OverfitOne

    paths, truths, origin = photographs(request, out / "pictures", ("dog/0004.jpg",))
    rows: list[dict[str, Any]] = []
    images: list[tuple[str, Path]] = []
    for condition in ("token", "token+patch"):
        settings = OverfitOne(
            image=paths[0],
            targets=(condition,),
            truth=truths[0],
            iterations=60,
            film=True,
            seed=request.seed,
            device=request.device,
        )
        place = out / condition.replace("+", "-")
        found = yield from once(place, partial(run_overfit, settings))
        name = f"{found['image']} ({origin})"
        first, last = found["looks"][0], found["looks"][-1]
        rows.append(row(f"{condition}: before", name, first["neighbour_agreement"], "agreement of neighbours"))
        rows.append(row(f"{condition}: after", name, last["neighbour_agreement"], "agreement of neighbours"))
        for kind in ("noise", "shuffled", "position code"):
            rows.append(row(condition, name, found["islands"][kind]["same_as_picture"], f"ARI with {kind}'s islands"))
        if "ari" in found["islands"]["picture"]:
            rows.append(row(condition, name, found["islands"]["picture"]["ari"], "ARI with people's outlines"))
        images.append((f"overfit on {condition.replace('+', ' + ')}", place / "sheet.png"))
    return rows, images


def decoding(request: Request, out: Path) -> Drawn:
    """Colours decoded from one column at any resolution, by a machine overfit on the picture."""
    from experiments.fields.decode import run as run_decode
    from experiments.fields.settings import DecodeSettings

    wanted = ("dog/0004.jpg", "frog/0000.jpg", "ship/0002.jpg")
    paths, _, origin = photographs(request, out / "pictures", wanted)
    side = 64 if origin == "BSDS500" else 32
    settings = DecodeSettings(
        images=tuple(paths),
        checkpoint=request.checkpoint or None,
        overfit=not request.checkpoint,
        size=(side, side),
        seed=request.seed,
        device=request.device,
    )
    found = yield from once(out / "decode", partial(run_decode, settings))
    rows = [
        row(
            "overfit" if not request.checkpoint else "pre-trained",
            f"{r['image']} ({origin})",
            r["psnr"],
            f"PSNR in dB at {side}x{side}",
        )
        for r in found["images"]
    ]
    images = [(r["image"], next((out / "decode").glob(f"{i:02d}-*-sheet.png"))) for i, r in enumerate(found["images"])]
    return rows, images


def skipping(request: Request, out: Path) -> Drawn:
    """From the stem's grid straight to the last stage's, by students of growing capacity."""
    from experiments.reproduce.home import locate
    from experiments.shortcut.run import run as run_shortcut
    from experiments.shortcut.settings import ShortcutSettings

    data = locate("cifar10", request.root) or "cifar10-sample"
    limit = request.limit or (1500 if data != "cifar10-sample" else 0)
    settings = ShortcutSettings(
        data=data,
        backbone="glom-tiny",
        epochs=6,
        limit=limit,
        held_out=300 if limit > 600 else 0,
        seed=request.seed,
        no_cache=True,
    )
    found = yield from once(out / "skip", partial(run_shortcut, settings))
    name = f"{found['data']}, {found['n_train']} to learn from"
    rows = []
    for student in (found["baselines"]["mean_grid"], *found["students"]):
        rows.append(row(student["name"], name, student["r2"], "R² over the mean grid", found["n"], student["r2_ci95"]))
        rows.append(row(student["name"], name, student["accuracy_kept"], "share of the accuracy kept", found["n"]))
    return rows, [("students from layer to layer", p) for p in sorted((out / "skip").glob("*.png"))]


def any_order(request: Request, out: Path) -> Drawn:
    """Columns that arrive in any order: the read-out's accuracy after each share of them."""
    from experiments.adaptation.asynchrony import run as run_asynchrony
    from experiments.adaptation.settings import AsynchronySettings

    rows: list[dict[str, Any]] = []
    images: list[tuple[str, Path]] = []
    for name, checkpoint in (("pre-trained", request.checkpoint or "apm-cifar10"), ("overfit", "")):
        settings = AsynchronySettings(checkpoint=checkpoint, limit=request.limit or 60, seed=request.seed)
        found = yield from once(out / name, partial(run_asynchrony, settings))
        for curve in found["curves"]:
            for share in (0, -1):
                unit = f"accuracy after {found['counts'][share]} of {found['locations']} columns"
                rows.append(
                    row(
                        f"{name}, {curve['order']}",
                        "cifar10-sample",
                        curve["accuracy"][share],
                        unit,
                        found["n"],
                        curve["ci95"][share],
                    )
                )
        images.append((f"{name}: accuracy by columns seen", out / name / "asynchrony.png"))
    return rows, images


FIGURES: dict[str, FigureSpec] = {
    "figure-islands": FigureSpec(
        "Islands of agreement in every layer",
        "mvit-v2-tiny on two pictures; islands scored on shipped composites, or on bsds500 under --data-root",
        "torchvision:mvit_v2_s with its published weights; bsds500 under --data-root",
        3, islands,
    ),
    "figure-interpolation": FigureSpec(
        "Between two pictures", "apm-cifar10, two shipped pictures",
        "an APM pre-trained on COCO (apm grid train --preset coco), named with --checkpoint", 0.5, interpolation,
    ),
    "figure-overfit": FigureSpec(
        "One picture, one token: islands that grow", "a shipped picture, or a photograph of bsds500 under --data-root",
        "a photograph of bsds500 under --data-root", 2, overfitting,
    ),
    "figure-decoding": FigureSpec(
        "Colours decoded from one column", "three shipped pictures, or photographs of bsds500 under --data-root",
        "an APM pre-trained on COCO (apm grid train --preset coco), named with --checkpoint", 1, decoding,
    ),
    "figure-skipping": FigureSpec(
        "Layer skipping", "glom-tiny's stem to its last stage, on shipped pictures or CIFAR-10 under --data-root",
        "a video transformer's first layer to its last", 3, skipping,
    ),
    "figure-order": FigureSpec(
        "Columns in any order", "apm-cifar10 and fresh machines on shipped pictures",
        "an APM pre-trained on COCO (apm grid train --preset coco), named with --checkpoint", 2, any_order,
    ),
}  # fmt: skip


def missing(name: str, request: Request) -> str:
    """Why a figure cannot be made as the poster made it, or "". At home scale nothing is ever missing."""
    if request.scale == "home" or name not in FIGURES:
        return ""
    if name == "figure-islands":
        from glom.backbones.video import load_backbone

        try:
            load_backbone("torchvision:mvit_v2_s@DEFAULT", "cpu")
        except (InputError, RunError) as error:
            return str(error)
        return ""
    if name == "figure-overfit":
        root = (Path(request.root).expanduser() if request.root else data_root()) / "bsds500" / "val"
        return "" if any(root.glob("*.jpg")) else f"photographs of bsds500: not there, looked in {root}"
    if name == "figure-skipping":
        return "layer skipping of a video transformer: no published weights or data are named; use `apm grid shortcut`"
    return "" if request.checkpoint else f"needs {FIGURES[name].poster}"
