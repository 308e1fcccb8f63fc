"""Any run folder as a view: what it keeps to be looked at, its traces, its table, its lines, its figures.

A run may be half written, of an older version, or damaged: what can be read is shown, and what could not be is said.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from glom.datasets.base import ImageDataset
from glom.datasets.outlined import outlines_beside
from glom.datasets.reading import read_image
from glom.datasets.registry import open_dataset
from glom.errors import GlomError, InputError
from glom.runs.artifacts import FORMAT, read_json, read_result, result_file
from probes.agreement import unit
from probes.explorer.pack import load
from probes.explorer.shape import Picture, View, jpeg, layered, picture_of
from probes.explorer.tables import Answers, Asked, Thumbs, answers_table, counted, lines_table, result_tables
from probes.reduction import reduce_rgb

FILM = "film"  # where islands emerge: a picture's grids at every look, and the picture
FIGURE_BYTES = 1_500_000  # of all figures of a run in its page
STEP = ("iteration", "loss", "cosine", "class", "probability")
# The fields of a line of test-time training that hold a class's number, by what is said of whose it is.
ANSWERS = {"class": "", "teacher": "teacher, zero-shot", "apm": "APM, last iteration"}


def read_run(folder: Path, data: str = "") -> View:
    """What a run folder shows.

    Args:
        data: the data set that its pictures are from, where the run does not say where it lies.

    Raises:
        InputError: no run is there.
    """
    runs = [folder, *sorted(p.parent for depth in ("*", "*/*") for p in folder.glob(f"{depth}/manifest.json"))]
    notes: list[str] = []
    manifests = {run: manifest for run in runs if (manifest := _manifest(run, notes))}
    if not manifests and not any((run / "results.jsonl").is_file() for run in runs):
        raise InputError(f"{folder} holds no run: no manifest.json and no results.jsonl is there or below it")
    first = next(iter(manifests.values()), {})
    view: View = {"title": folder.name, "facts": _facts(first), "notes": notes}
    _kept(folder, view)
    _emerging(folder, view)
    _traces(folder, first, view)
    _tables(folder, manifests or {folder: {}}, view, data)
    _figures(folder, view)
    unfinished = sum(manifest.get("status") == "running" for manifest in manifests.values())
    if unfinished:
        which = "this run is" if len(manifests) == 1 else f"{unfinished} of {len(manifests)} runs are"
        notes.append(f"{which} not complete: shown is what is written so far")
    if not view.keys() & {"pictures", "traces", "ways", "tables", "figures"}:
        notes.append("there is nothing to draw in this run yet; what it was asked is under About")
    return view


def lines_of(folder: Path, notes: list[str]) -> list[dict[str, Any]]:
    """A run's lines, each sample once, up to the first that is cut or damaged; `notes` says where that was."""
    found: dict[Any, dict[str, Any]] = {}
    for path in sorted(folder.glob("results*.jsonl")):
        raw = path.read_bytes()
        for number, line in enumerate(raw.splitlines(), 1):
            try:
                record = json.loads(line)
                found[record["id"]] = record
            except (ValueError, KeyError, TypeError):
                whole = "is cut" if number == raw.count(b"\n") + 1 else "is damaged"
                notes.append(f"{path.parent.name}/{path.name} {whole} at line {number}: shown up to there")
                break
    return sorted(found.values(), key=lambda r: r.get("index", 0))


def _manifest(folder: Path, notes: list[str]) -> dict[str, Any]:
    path = folder / "manifest.json"
    if not path.is_file():
        return {}
    try:
        found = read_json(path)
    except InputError as error:
        notes.append(str(error))
        return {"status": "damaged"}
    if not isinstance(found, dict) or found.get("format", 0) > FORMAT:
        notes.append(f"{path} was written by another version of the toolkit: shown is what is understood of it")
    return found if isinstance(found, dict) else {"status": "damaged"}


def _facts(manifest: Mapping[str, Any]) -> list[list[str]]:
    facts = []
    for key, value in manifest.items():
        if isinstance(value, Mapping):
            value = ", ".join(f"{k}: {json.dumps(v, ensure_ascii=False)}" for k, v in value.items())
        elif isinstance(value, list):
            value = "; ".join(map(str, value))
        facts.append([key, str(value)])
    return facts


def _kept(folder: Path, view: View) -> None:
    """The view that the run itself keeps."""
    try:
        kept = load(folder)
    except InputError as error:
        view["notes"].append(str(error))
        return
    for key, value in (kept or {}).items():
        if key in ("facts", "notes"):
            held = view[key]  # type: ignore[literal-required]
            held[:0] = [item for item in value if item not in held]
        else:
            view[key] = value  # type: ignore[literal-required]


def _emerging(folder: Path, view: View) -> None:
    """Islands by training step: one picture's grids at every look that was kept."""
    steps: list[str] = []
    looks: list[list[np.ndarray]] = []
    for path in sorted((folder / FILM).glob("step-*.npz")):
        try:
            with np.load(path, allow_pickle=False) as archive:
                looks.append([unit(archive[name].astype(np.float32)) for name in archive.files])
        except Exception as error:  # numpy raises nearly anything on damaged bytes
            view["notes"].append(f"{path.name} cannot be read ({type(error).__name__}): shown up to there")
            break
        steps.append(f"step {int(path.stem[5:])}")
    if not looks:
        return
    lines = lines_of(folder, [])
    names = list(lines[0].get("layers", {})) if lines else []
    names = names if len(names) == len(looks[0]) else [f"layer {n}" for n in range(len(looks[0]))]
    by_layer = [[look[n] for look in looks] for n in range(len(names))]
    # One colour code a layer for all steps, so that a colour means the same in each of them.
    colours = [c for grids in by_layer for c in reduce_rgb(grids, "pca", joint=True)]
    grids = [grid for row in by_layer for grid in row]
    source = layered(folder.name, [("layer", names), ("training step", steps)], grids, colours)
    shown = folder / FILM / "images" / "picture.png"
    image = read_image(shown) if shown.is_file() else Image.new("RGB", (256, 256), (128, 128, 128))
    note = "" if shown.is_file() else "an older run, which kept the features but not the picture"
    view.setdefault("pictures", []).append(outlined(shown, image, [source], view["notes"], note, folder.name))


def outlined(
    path: Path, image: Image.Image, sources: Sequence[Any], notes: list[str], note: str = "", name: str = ""
) -> Picture:
    """A picture with the outlines that lie beside its file; what is wrong with those goes to `notes`."""
    beside = outlines_beside(path)
    masks: list[np.ndarray] = []
    try:
        masks = [] if beside is None else list(beside.read()[1])
    except GlomError as error:
        notes.append(f"{error}; not drawn")
    ground = None if beside is None or beside.background is None else [0]
    return picture_of(name or path.name, image, sources, masks, ground, note)


def trace_of(name: str, found: Mapping[str, Any], image: Image.Image | None = None) -> dict[str, Any]:
    """One picture's test-time training, as `experiments.adaptation` keeps it, for a page."""
    trace: dict[str, Any] = {"name": name, "teacher_class": found["teacher_class"], "names": found["names"]}
    trace["steps"] = [{key: step[key] for key in STEP} for step in found["trace"]]
    if image is not None:
        small = image.copy()
        small.thumbnail((256, 256))
        trace["image"] = jpeg(small)
    return trace


def _traces(folder: Path, manifest: Mapping[str, Any], view: View) -> None:
    if manifest.get("kind") != "trace":
        return
    try:
        found = read_result(folder)
        image = None
        try:
            image = read_image(_setting(folder, "image"))
        except GlomError:
            view["notes"].append("the picture that was adapted to is not where it was: its trace alone is shown")
        view["traces"] = [trace_of(str(found["id"]), found, image)]
    except (GlomError, KeyError, TypeError) as error:
        view["notes"].append(f"no trace can be shown: {error}")


def _setting(folder: Path, key: str) -> str:
    import tomllib

    path = folder / "settings.toml"
    try:
        return str(tomllib.loads(path.read_text(encoding="utf-8"))[key])
    except (OSError, ValueError, KeyError) as error:
        raise InputError(f"{path} does not say {key}") from error


Answered = tuple[str, Mapping[str, Any], dict[str, tuple[int, int]]]
"""A method, its manifest, and {picture: (label, answer)}."""


def _tables(folder: Path, manifests: Mapping[Path, Mapping[str, Any]], view: View, data: str) -> None:
    """A benchmark's or a test-time training's answers as one table; what any other run found, and its lines."""
    conditions: dict[str, list[Answered]] = {}
    for run, manifest in manifests.items():
        lines = lines_of(run, view["notes"])
        for field, method in ANSWERS.items():
            given = {
                str(r["id"]): (r["label"], r[field])
                for r in lines
                if isinstance(r.get(field), int) and isinstance(r.get("label"), int)
            }
            if given:
                where = run.name if method else run.parent.name
                conditions.setdefault(where, []).append((method or run.name, manifest, given))
        if lines and not any("class" in r for r in lines):
            name = "every sample" if run == folder else f"every sample: {run.name}"
            if (table := lines_table(name, lines)) is not None:
                view.setdefault("tables", []).append(table)
    result = _result(folder, view["notes"])
    first = [_benchmark(folder, conditions, result, data)] if conditions else result_tables(result)
    if first:
        view["tables"] = first + view.get("tables", [])


def _result(folder: Path, notes: list[str]) -> Mapping[str, Any]:
    try:
        found = read_result(folder) if result_file(folder).is_file() else {}
    except InputError as error:
        notes.append(f"{error}; what is shown is from the lines")
        found = {}
    return found if isinstance(found, Mapping) else {}


def _benchmark(
    folder: Path, conditions: Mapping[str, Sequence[Answered]], result: Mapping[str, Any], data: str
) -> dict[str, Any]:
    measured = {(r.get("method"), r.get("condition")): r for r in _rows(result)}
    specs = [data] if data else _specs(result)
    sets: dict[tuple[str, ...], Asked] = {}
    held: dict[str, Answers] = {}
    rows, thumbs = [], Thumbs()
    for condition, answered in conditions.items():
        label = {name: told[0] for _, _, given in answered for name, told in given.items()}
        names = tuple(label)
        if names not in sets:
            dataset = _dataset([*specs, *_spec(answered[0][1])], names)
            most = 1 + max(max(told) for _, _, given in answered for told in given.values())
            classes = list((dataset.classes if dataset else None) or ())
            classes += [f"class {n}" for n in range(len(classes), most)]
            sets[names] = {"names": list(names), "classes": classes, "images": thumbs.of(dataset, names)}
        labels = np.array(list(label.values()), np.int16)
        answers = {m: np.array([given.get(n, (0, -1))[1] for n in names], np.int16) for m, _, given in answered}
        held[condition] = {"set": list(sets).index(names), "labels": labels, "answers": answers}
        for method, said in answers.items():
            row = counted(method, condition, labels, said) | dict(measured.get((method, condition), {}))
            rows.append({**row, "method": method, "condition": condition})
    note = "Pictures behind a row are shown as they are in the data set, before any corruption."
    return answers_table(folder.name, rows, list(sets.values()), held, thumbs.images, note if thumbs.images else "")


def _rows(result: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    rows = result.get("rows")
    yield from (row for row in (rows if isinstance(rows, list) else []) if isinstance(row, Mapping))


def _specs(result: Mapping[str, Any]) -> list[str]:
    """Data sets as a result names them."""
    settings = result.get("settings", {})
    data = settings.get("data", []) if isinstance(settings, Mapping) else []
    return [str(d) for d in (data if isinstance(data, list) else [data])]


def _spec(manifest: Mapping[str, Any]) -> list[str]:
    settings = manifest.get("settings") or {}
    return [str(s) for s in (manifest.get("data_spec"), settings.get("data")) if s]


def _dataset(specs: Sequence[str], names: Sequence[str]) -> ImageDataset | None:
    """The first of these data sets that has pictures of these names, None where none can be opened."""
    for spec in dict.fromkeys(specs):
        try:
            dataset = open_dataset(spec)
        except (GlomError, OSError):
            continue
        if {sample.id for sample in dataset.samples} & set(names):
            return dataset
    return None


def _figures(folder: Path, view: View) -> None:
    """PNG and GIF that the run drew, the small ones first, as many as have room."""
    left, room = 0, FIGURE_BYTES
    paths = [p for part in (folder, folder / "figures") for end in ("png", "gif") for p in part.glob(f"*.{end}")]
    for path in sorted(paths, key=lambda p: (p.stat().st_size, p.name)):
        if path.stat().st_size > room:
            left += 1
            continue
        room -= path.stat().st_size
        view.setdefault("figures", []).append({"name": path.name, "image": path.read_bytes()})
    if left:
        what = "1 larger figure is" if left == 1 else f"{left} larger figures are"
        view["notes"].append(f"{what} left out, to be seen in {folder.name}")
