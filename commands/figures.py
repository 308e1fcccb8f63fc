"""`apm figures`: the figures of run folders drawn again, from what the runs saved and nothing else."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path
from typing import Annotated, Any

import typer

from commands.common import Json, Quiet, counted, emit_json, progress, say, table

ENDINGS = (".png", ".svg")
# By a run's kind: a figure's name, what draws it from what the run found (or from its records) into a file.
FIGURES: dict[str, tuple[tuple[str, str, str], ...]] = {
    "asynchrony": (("asynchrony", "experiments.adaptation.asynchrony:draw", "result"),),
    "bench compute": (("compute", "probes.figures.compute:compute_figure", "result/figure"),),
    "ff-score": (("layers", "probes.figures.levels:layers_figure", "result"),),
    "folding": (("folding", "experiments.folding.report:draw", "result"),),
    "grid-overfit": (("curve", "probes.figures.overfit:curve", "result"),),
    "grid-train": (("curve", "probes.figures.grids:loss_curve", "records"),),
    "overfit-study": (("study", "experiments.fields.overfit_study:draw", "result"),),
    "shortcut": (("students", "probes.figures.grids:shortcut_figure", "result"),),
    "shortcut-matrix": (("matrix", "probes.figures.grids:matrix_figure", "result"),),
}
# What draws all of a run's figures from its folder.
FOLDERS = {
    "glom-score": "experiments.consensus.score:figures",
    "islands-emerge": "experiments.emergence.report:figures",
    "islands-patch": "experiments.islands.patch:figures",
    "islands-show": "experiments.islands.show:figures",
    "objective-select": "experiments.objective.report:figures",
    "trace": "experiments.adaptation.trace:figures",
}
# What is drawn from one file, in any folder: figures of benchmarks and of one picture's goodness.
FILES: dict[str, tuple[str, str]] = {
    "compute.json": ("probes.figures.compute:compute_figure", "figure"),
    "ff-conv.json": ("probes.figures.layers:depth_figure", "memory"),
    "goodness-*.json": ("probes.figures.goodness:goodness_figure", ""),
}
NAMES = {"ff-conv.json": "ff-conv-memory"}  # of a figure that is not named after its file
# Kinds that keep what their pictures are drawn from; see `probes.figures.again`.
KEEPS = (
    "ff", "ff-islands", "fold", "glom-islands", "grid-decode", "grid-eval", "grid-interpolate", "grid-overfit",
    "grid-train", "grid-upsample",
)  # fmt: skip


def figures(
    folder: Annotated[str, typer.Argument(help="A run folder, or one that holds some.", metavar="DIR")],
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Draw the figures of a run again, PNG and SVG, from what it saved: nothing is computed anew."""
    found = redraw(Path(folder), quiet)
    if as_json:
        emit_json(found)
        return
    rows = [(run["folder"], run["kind"], "\n".join(run["drawn"]) or "-") for run in found["runs"]]
    table(["run", "kind", "drawn"], rows, title=f"{counted(found['figures'], 'file')} drawn")
    for run in found["runs"]:
        for reason in run["left"]:
            say(f"{run['folder']}: {reason}")


def redraw(folder: Path, quiet: bool = True) -> dict[str, Any]:
    """Every run in and below a folder: `runs` with folder, kind, files drawn, and sentences about what is left.

    Raises:
        InputError: no run there.
    """
    from glom.errors import InputError
    from probes.figures.again import FOLDER

    files = [path for name in ("manifest.json", f"{FOLDER}/*.bin", *FILES) for path in folder.rglob(name)]
    found = sorted({path.parents[path.parent.name == FOLDER] for path in files})
    runs = []
    with progress(quiet or not found) as bar:
        for where in bar.track(found, description="drawing"):
            runs += _redrawn(where)
    if not runs:
        raise InputError(f"{folder} holds no run with figures; name a run folder (it holds a manifest.json)")
    return {"figures": sum(len(run["drawn"]) for run in runs), "runs": runs}


def _redrawn(where: Path) -> list[dict[str, Any]]:
    """A folder's row; none where it has no figures."""
    from glom.errors import GlomError
    from glom.runs.artifacts import read_json
    from probes.figures.again import FOLDER, redraw

    kind, drawn, left = "", list[Path](), list[str]()
    try:
        manifest = where / "manifest.json"
        kind = str(read_json(manifest).get("kind", "")) if manifest.is_file() else ""
        drawn += redraw(where)
        if kind in KEEPS and not (where / FOLDER).is_dir():
            left.append("it kept nothing that its pictures could be drawn from; run it again to see them")
        drawn += draw(where, kind)
    except (GlomError, KeyError, TypeError, IndexError) as error:
        left.append(f"not drawn ({error if isinstance(error, GlomError) else repr(error)})")
    names = [str(path.relative_to(where)) for path in drawn]
    return [{"folder": str(where), "kind": kind, "drawn": names, "left": left}] if drawn or left else []


def draw(folder: Path, kind: str) -> list[Path]:
    """One run's figures, but for those that it keeps. Raises `InputError` where it is half written."""
    from glom.runs.artifacts import read_json, read_result, read_results

    if kind in FOLDERS:
        return list(_function(FOLDERS[kind])(folder))
    drawn = []
    for pattern, (function, part) in FILES.items():
        for path in sorted(folder.glob(pattern)):
            read: Any = read_json(path)
            stem = NAMES.get(pattern, path.stem)
            drawn += [_function(function)(read[part] if part else read, folder / f"{stem}{e}") for e in ENDINGS]
    for name, function, reads in FIGURES.get(kind, ()):
        found: Any = read_results(folder) if reads == "records" else read_result(folder)
        if reads == "result/figure":
            found = found["figure"]
        drawn += [_function(function)(found, folder / f"{name}{ending}") for ending in ENDINGS]
    return drawn


def _function(name: str) -> Any:
    module, _, attribute = name.partition(":")
    return getattr(import_module(module), attribute)
