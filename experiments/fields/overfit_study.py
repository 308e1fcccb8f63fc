"""Do the islands of a machine overfit on one picture follow the picture, or the positional code?

For every photograph, every way of overfitting and every input - the picture, its patches shuffled, noise - a fresh
machine with the same random weights is overfit and its islands are cut. Islands that follow the picture agree with
what people drew in it more than with what people drew in other pictures, and differ from those of the controls.
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, TypedDict, cast

import numpy as np
from PIL import Image

from experiments.fields.overfit import Condition, Overfitter, control, parse_condition, position_islands
from experiments.fields.percepts import area
from experiments.fields.settings import STUDY, OverfitOne
from glom.datasets.segmentation import open_segmentation
from glom.errors import GlomError, InputError, demand_some, lost
from glom.runs.artifacts import RunFolder
from glom.runs.events import Event
from glom.runs.statistics import bootstrap_ci
from glom.settings import defaults_of, write_settings
from probes.metrics import Outlines, adjusted_rand, score
from probes.partition import colour_position, enlarge, parse_partition, partition

INPUTS = ("picture", "shuffled", "noise")
SCORES = ("ari", "nmi", "covering", "covering_best", "boundary_f")
BASELINES = ("untrained", "position code", "colour + position")


class Mean(TypedDict):
    """A mean over pictures; no value and no bounds where none has the measure."""

    mean: float | None
    ci95: list[float]


class Baseline(TypedDict):
    """Islands by every measure, and how far they are the picture's own; see `summarise`."""

    name: str
    baseline: bool
    ari: Mean
    nmi: Mean
    covering: Mean
    covering_best: Mean
    boundary_f: Mean
    specific: Mean
    other_pictures: Mean


class Row(Baseline, total=False):
    """The same of a way of overfitting, beside its controls and the baselines."""

    same_as_shuffled: Mean
    minus_shuffled: Mean
    same_as_noise: Mean
    minus_noise: Mean
    minus_untrained: Mean
    minus_position_code: Mean
    minus_colour_position: Mean
    cosine: float | None
    follows: str | None


class Study(TypedDict):
    """A row a way of overfitting and one a baseline, over `n` pictures."""

    n: int
    skipped: int
    rows: list[Row]


def run(settings: OverfitOne, out: Path, *, resume: bool = False) -> Iterator[Event[Study]]:
    """Overfit, cut and score; a record a picture, resumable.

    Raises:
        InputError: a wrong request, or no picture that could be scored.
    """
    if settings.truth or settings.film:
        raise InputError("`truth` and `film` belong to one picture; a folder brings its own outlines")
    targets = settings.targets or STUDY
    conditions = [parse_condition(c) for c in targets]
    if len(set(conditions)) < len(conditions):
        raise InputError("name each way of overfitting once")
    data = open_segmentation(settings.image, settings.split, settings.limit or None)
    machine = Overfitter(settings, conditions)
    held = settings.manifest("image", "targets", "truth", "film", data=data.name, conditions=targets)
    held |= {"data_fingerprint": data.fingerprint(), "teacher": machine.teacher.name}
    total = len(data.pictures) * len(conditions) * len(INPUTS)
    share = len(conditions) * len(INPUTS)
    with RunFolder(out, "overfit-study", held, resume, defaults=defaults_of(settings)) as folder:
        write_settings(out, settings)
        done = {r["id"] for r in folder.records()}
        yield Event("overfitting", len(done) * share, total)
        for index, item in enumerate(data.pictures):
            if item.id in done:
                continue
            begun = time.perf_counter()
            message = ""
            record: dict[str, Any] = {"id": item.id, "index": index}
            try:
                image, maps = item.read()
            except GlomError as error:
                message = f"{item.id}: {error}"
                folder.append({**record, **lost(error)})
                done.add(item.id)
                yield Event("overfitting", len(done) * share, total, message)
                continue
            islands: dict[str, Any] = {}
            record["cosine"] = {}
            for step, (name, cosine) in enumerate(_cut_all(machine, conditions, image, item.id, settings, islands)):
                record["cosine"][name] = cosine
                yield Event("overfitting", len(done) * share + step + 1, total)
            record |= _judged(islands, list(maps), item.background, settings.grid)
            folder.append({**record, "status": "ok"}, time.perf_counter() - begun)
            done.add(item.id)
        result = summarise(folder.records(), conditions)
        demand_some(folder.records(), f"pictures of {data.name}")
        draw(result, out / "study.png")
        folder.conclude(result)
    yield Event(result=result)


def _cut_all(
    machine: Overfitter,
    conditions: Sequence[Condition],
    image: Image.Image,
    item: str,
    settings: OverfitOne,
    islands: dict[str, Any],
) -> Iterator[tuple[str, float]]:
    """Overfit a picture and its controls every way, cut what they became and the baselines into `islands`.

    Yields:
        `CONDITION/INPUT` and the cosine to the teacher, after each.
    """
    how, side = parse_partition(settings.partition), settings.grid
    for condition in conditions:
        for kind in INPUTS:
            run = machine.start(condition, control(image, kind, settings.seed, item), item)
            if condition == conditions[0] and kind == "picture":
                islands["untrained"] = partition(run.grid(side), how, settings.seed)
            for _ in run.steps():
                pass
            islands[f"{condition.name}/{kind}"] = partition(run.grid(side), how, settings.seed)
            yield f"{condition.name}/{kind}", round(run.cosine(), 6)
    islands["position code"] = position_islands(run.apm, side, how, settings.seed)
    islands["colour + position"] = partition(colour_position(area(image, side, side)), how, settings.seed, cosine=False)


def _judged(islands: dict[str, Any], truths: list[Any], background: Any, side: int) -> dict[str, Any]:
    """Scores of every partition against people's outlines, and what a later comparison across pictures needs."""
    outlines = Outlines(truths)
    return {
        "scores": {
            key: score(truths, enlarge(labels, *truths[0].shape), outlines, background)
            for key, labels in islands.items()
        },
        "islands": {key: labels.ravel().tolist() for key, labels in islands.items()},
        "truths": [enlarge(_small(t, side), side, side).ravel().tolist() for t in truths],
    }


def _small(labels: Any, side: int) -> Any:
    """A label map at side x side, each cell under the label of its middle."""
    h, w = labels.shape
    rows, columns = ((np.arange(side) + 0.5) * h / side).astype(int), ((np.arange(side) + 0.5) * w / side).astype(int)
    return labels[rows][:, columns]


def summarise(records: Sequence[Mapping[str, Any]], conditions: Sequence[Condition]) -> Study:
    """A row a condition and a row a baseline: means over pictures, 95 % intervals, and what answers the question.

    specific: ARI with the picture's own outlines minus the mean ARI with all the other pictures' outlines, both on the
    small grid; zero for islands that know nothing of the picture.
    same_as_noise, same_as_shuffled: ARI of the picture's islands with its controls' (same weights).
    other_pictures: mean ARI with the islands of the other pictures under the same condition (other weights).
    minus_*: ARI with the outlines, minus the baseline's or the control's, paired by picture.
    follows: "picture" where the interval of `specific` lies above zero and that of the gain over position code, too;
    "position" where `specific` is not told from zero; else "partly". None where one of the intervals does not exist:
    a single picture has no other one's outlines to be compared with.
    """
    rows = [r for r in records if r["status"] == "ok"]
    result: Study = {"n": len(rows), "skipped": len(records) - len(rows), "rows": []}
    keys = [(c.name, f"{c.name}/picture") for c in conditions] + [(b, b) for b in BASELINES]
    for name, key in keys:
        row: dict[str, Any] = {"name": name, "baseline": name == key}
        for measure in SCORES:
            row[measure] = _mean([r["scores"][key][measure] for r in rows])
        row["specific"] = _mean([_specific(rows, i, key) for i in range(len(rows))])
        row["other_pictures"] = _mean([_others(rows, i, key) for i in range(len(rows))])
        if name != key:
            for kind in INPUTS[1:]:
                same = [_agree(r["islands"][key], r["islands"][f"{name}/{kind}"]) for r in rows]
                row[f"same_as_{kind}"] = _mean(same)
                row[f"minus_{kind}"] = _gain(rows, key, f"{name}/{kind}")
            for other in BASELINES:
                row[f"minus_{other.replace(' + ', '_').replace(' ', '_')}"] = _gain(rows, key, other)
            row["cosine"] = float(np.mean([r["cosine"][key] for r in rows])) if rows else None
            row["follows"] = _verdict(row) if rows else None
        result["rows"].append(cast(Row, row))
    return result


def _verdict(row: Mapping[str, Any]) -> str | None:
    specific, gain = (row[key]["ci95"][0] for key in ("specific", "minus_position_code"))
    if not (math.isfinite(specific) and math.isfinite(gain)):
        return None
    if specific <= 0:
        return "position"
    return "picture" if gain > 0 else "partly"


def _agree(a: Sequence[int], b: Sequence[int]) -> float:
    return adjusted_rand(np.array(a)[None], np.array(b)[None])


def _specific(rows: Sequence[Mapping[str, Any]], i: int, key: str) -> float:
    mine = rows[i]["islands"][key]

    def with_outlines(j: int) -> float:
        return float(np.mean([_agree(truth, mine) for truth in rows[j]["truths"]]))

    others = [with_outlines(j) for j in range(len(rows)) if j != i]
    return with_outlines(i) - float(np.mean(others)) if others else float("nan")


def _others(rows: Sequence[Mapping[str, Any]], i: int, key: str) -> float:
    mine = rows[i]["islands"][key]
    found = [_agree(r["islands"][key], mine) for j, r in enumerate(rows) if j != i]
    return float(np.mean(found)) if found else float("nan")


def _gain(rows: Sequence[Mapping[str, Any]], first: str, second: str) -> Mean:
    return _mean([r["scores"][first]["ari"] - r["scores"][second]["ari"] for r in rows])


def _mean(values: Sequence[float]) -> Mean:
    known = [v for v in values if v == v]
    if not known:
        return {"mean": None, "ci95": [float("nan")] * 2}
    return {"mean": float(np.mean(known)), "ci95": list(bootstrap_ci(known))}


def draw(result: Mapping[str, Any], path: Path) -> Path:
    """A row a condition: ARI with the outlines, how specific the islands are, and how alike those of the controls."""
    from probes.figures.base import APM, GREY, TEACHER, new_figure, plain, plain_all, save

    rows = result["rows"]
    figure, axes = new_figure(12.2, 1.4 + 0.32 * len(rows), 1, 3, sharey=True)
    y = np.arange(len(rows))[::-1]
    left, middle, right = axes[0]
    for axis, key, title in (
        (left, "ari", "ARI with people's outlines"),
        (middle, "specific", "own outlines minus other pictures'"),
    ):
        for place, row in zip(y, rows, strict=True):
            mean = row[key]["mean"]
            if mean is None:
                continue
            low, high = row[key]["ci95"]
            colour = GREY if row["baseline"] else APM
            axis.errorbar([mean], [place], xerr=[[mean - low], [high - mean]], fmt="o", ms=5, color=colour, capsize=3)
        axis.set_title(plain(title), fontsize=9.5)
        axis.axvline(0, color=GREY, lw=0.8)
    for key, colour, mark, label in (
        ("same_as_noise", TEACHER, "o", "noise instead of the picture"),
        ("same_as_shuffled", "#009e73", "s", "its patches shuffled"),
        ("other_pictures", GREY, "D", "other pictures"),
    ):
        known = [(row[key]["mean"], place) for place, row in zip(y, rows, strict=True) if key in row]
        known = [(x, place) for x, place in known if x is not None]
        if known:
            right.plot(*zip(*known, strict=True), mark, color=colour, ms=5, label=plain(label))
    right.set_title("ARI with the islands of ...", fontsize=9.5)
    right.axvline(0, color=GREY, lw=0.8)
    right.set_xlim(-0.05, 1.05)
    right.legend(fontsize=8, frameon=False, loc="center left", bbox_to_anchor=(1.0, 0.5))
    left.set_yticks(y, plain_all([r["name"] for r in rows]), fontsize=9)
    return save(figure, path, f"{result['n']} pictures: mean and 95 % over pictures.")
