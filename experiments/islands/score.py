"""Islands of every layer scored against people's outlines, beside both baselines and the people themselves."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NotRequired, TypedDict, cast

import numpy as np

from experiments.islands.choosing import Chosen, choose, open_training
from experiments.islands.measure import Asked, score_picture
from experiments.islands.readings import called
from experiments.islands.settings import ScoreSettings
from experiments.islands.study import RULE, Study, prepare
from glom.errors import InputError, RunError, demand_some
from glom.execution import Ranks
from glom.runs.artifacts import RunFolder, read_manifest, read_results
from glom.runs.events import Event
from glom.runs.statistics import bootstrap_ci
from glom.settings import defaults_of, write_settings

OBJECTS = ("panoptic_ari", "mbo", "mbo_class", "miou")  # the object-centric field's, beside those of segmentation
SEGMENTS = ("ari", "fg_ari", "nmi", "covering", "covering_best", "boundary_f", "boundary_f_matched")
MEASURES = (*SEGMENTS, *OBJECTS, "neighbour_agreement", "islands", "oracle_covering")
PAIRED = ("ari", "fg_ari", "nmi", "covering", "boundary_f", "boundary_f_matched", *OBJECTS)
CHOSEN_BY = "covering"
CHOOSING = ("choose_on", "choose_split", "choose_limit", "candidates", "finalists")  # settings of a choice elsewhere


class Scores(TypedDict):
    """Every measure's means over `n` pictures, a row a layer, beside both baselines and people; see `summarise`."""

    n: int
    skipped: int
    mask_size: list[list[int]] | None
    layers: list[dict[str, Any]]
    baselines: dict[str, Any]
    human: dict[str, Any] | None
    held_out: dict[str, Any] | None
    left_out: list[int | str]
    chosen: NotRequired[dict[str, Any]]
    slot_attention: NotRequired[dict[str, Any]]


def run(settings: ScoreSettings, out: Path, *, resume: bool = False) -> Iterator[Event[Scores]]:
    """Score every picture; the result is what `summarise` gives and, with `choose_on`, `chosen`: see `outcome`.

    Under torchrun the ranks share out the pictures, each writing a part of its own; the first one chooses, and has the
    result.

    Raises:
        InputError: the request is wrong, or no picture at all could be scored.
    """
    study = prepare(settings)
    train = open_training(settings, study.data) if settings.choose_on else None
    extra = {
        "notes": list(study.notes),
        "what": study.backbone.what,
        "layer_indices": study.names,
        "places": study.places,
    }
    slots = {"slots": study.slots.facts} if study.slots else {}
    held = study.held(study.data, *(CHOOSING if train is None else ()), **slots)
    group = Ranks.join()
    if group.rank:
        group.wait()  # the first rank makes the folder, or refuses it
    with RunFolder(out, "islands-score", held, resume, extra, group.part, defaults=defaults_of(settings)) as folder:
        chosen = None
        if not group.rank:
            group.wait()
            write_settings(out, settings)
            for message in [*study.notes, *folder.warnings]:
                yield Event(message=message)
            if train is not None:
                chosen = yield from choose(study, train, out / "choosing", resume)
        yield from _score(study, folder, group.told(chosen), group)
        group.wait()
        if group.rank:
            return
        records = folder.records()
        result = summarise(records, study.names, study.places)
        demand_some(records, f"pictures of {study.data.name}")
        if chosen is not None:
            result["chosen"] = outcome(records, chosen)
        if study.slots is not None:
            result["slot_attention"] = beside(records, study.slots.facts)
        folder.conclude(result)
    yield Event(result=cast(Scores, result))


def _score(study: Study, folder: RunFolder, chosen: Chosen | None, group: Ranks) -> Iterator[Event[Scores]]:
    places = {item.id: index for index, item in enumerate(study.data.pictures)}
    pictures = study.data.pictures[group.rank :: group.world]
    known = {r["id"] for r in folder.records()}
    left = [item for item in pictures if item.id not in known]
    done = len(pictures) - len(left)
    readings = [*study.readings, *(at for at, _ in chosen.choices.values() if at)] if chosen else study.readings
    asked = Asked(study.readings, study.settings.partition, chosen.choices if chosen else {}, study.settings.one_to_one)
    for count, (item, record, seconds) in enumerate(study.watch(left, readings, score_picture, asked, study.slots), 1):
        folder.append({"id": item.id, "index": places[item.id], **record}, seconds)
        message = "" if record["status"] == "ok" else f"{item.id}: {record['reason']}"
        lost = [str(n) for n, row in zip(study.names, record.get("layers", ()), strict=False) if row is None]
        if lost:
            message = f"{item.id}: not finite, and left out: layer {', '.join(lost)}"
        yield Event("scoring", done + count, len(pictures), message)


def summarise(records: Sequence[dict[str, Any]], layers: Sequence[int | str], places: Sequence[str]) -> dict[str, Any]:
    """Means over the scored pictures with 95 % bootstrap intervals; paired differences from both baselines.

    `mask_size` is [width, height] of the smallest and of the largest mask, at which all is measured. `layers` holds
    every layer on all pictures. `held_out` is one figure for the network, its layer chosen on other pictures than those
    it is scored on (see `chosen_elsewhere`), the untrained network's alike; None for one picture.
    `left_out`: layers that are not finite on some picture.
    """
    rows = [r for r in records if r["status"] == "ok"]
    result: dict[str, Any] = {"n": len(rows), "skipped": len(records) - len(rows), "layers": []}
    sizes = sorted((r["mask_size"] for r in rows if "mask_size" in r), key=lambda size: (size[0] * size[1], size))
    result["mask_size"] = [sizes[0], sizes[-1]] if sizes else None
    plain = [r["baselines"]["pixels"] for r in rows]
    twins = []
    kept = finite_layers(rows)
    result["left_out"] = [layers[p] for p in range(len(layers)) if rows and p not in kept]
    for position, layer, place in ((p, layers[p], places[p]) for p in kept):
        own = [r["layers"][position] for r in rows]
        twin = [r["baselines"]["untrained"][position] for r in rows]
        entry = {"layer": layer, "name": place, **means(own)}
        entry["minus_pixels"], entry["minus_untrained"] = paired(own, plain), paired(own, twin)
        result["layers"].append(entry)
        twins.append({"layer": layer, "name": place, **means(twin)})
    result["baselines"] = {"pixels": means(plain), "untrained": twins}
    people = [r["human"] for r in rows if r["human"] is not None]
    result["human"] = {"n": len(people), **means(people)} if people else None
    result["held_out"] = held_out(rows, layers) if len(rows) > 1 else None
    return result


def finite_layers(rows: Sequence[dict[str, Any]]) -> list[int]:
    """Places of the layers that are finite on every picture, in the network and in its untrained twin.

    Raises:
        RunError: there is none.
    """
    if not rows:
        return []
    columns = zip(*([*zip(r["layers"], r["baselines"]["untrained"], strict=True)] for r in rows), strict=True)
    kept = [place for place, column in enumerate(columns) if not any(None in both for both in column)]
    if not kept:
        raise RunError("no layer is finite on every picture")
    return kept


def outcome(records: Sequence[dict[str, Any]], chosen: Chosen) -> dict[str, Any]:
    """What was chosen on other pictures, scored here once: the network, and both baselines, which chose likewise.

    Returns:
        `layer` (of joined ones "3+7"), `partition`, every measure as `means` has them; `training`, what the choice was
        made by; `minus_pixels` and `minus_untrained`, `{measure: {"mean", "ci95"}}`, paired; `pixels` and `untrained`,
        their own choices and measures; `n`, the pictures on which all three are finite; what was tried, and on what.
    """
    rows = [r["chosen"] for r in records if r["status"] == "ok" and None not in r["chosen"].values()]
    if not rows:
        raise RunError("what was chosen is not finite on any picture")

    def figures(name: str) -> dict[str, Any]:
        (reading, cut), (covering, mbo) = chosen.choices[name], chosen.weights[name]
        read = {} if reading is None else {"layer": called(reading)}
        training = {"covering": covering, "mbo": mbo}
        return {**read, "partition": cut, "training": training, **means([r[name] for r in rows])}

    own = [r["own"] for r in rows]
    return {
        **chosen.report,
        **figures("own"),
        "n": len(rows),
        "minus_pixels": differences(own, [r["pixels"] for r in rows]),
        "minus_untrained": differences(own, [r["untrained"] for r in rows]),
        "pixels": figures("pixels"),
        "untrained": figures("untrained"),
    }


def beside(records: Sequence[dict[str, Any]], facts: Mapping[str, Any]) -> dict[str, Any]:
    """Slot attention on the same pictures: what it is (`facts`), every measure, and `islands_minus` where islands were
    chosen elsewhere, as `outcome` has differences."""
    rows = [r for r in records if r["status"] == "ok"]
    found = {"trained": dict(facts), "n": len(rows), **means([r["slot_attention"] for r in rows])}
    both = [(r["chosen"]["own"], r["slot_attention"]) for r in rows if r.get("chosen", {}).get("own")]
    if both:
        found["islands_minus"] = differences([own for own, _ in both], [slots for _, slots in both])
    return found


def differences(first: Sequence[dict[str, Any]], second: Sequence[dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """`paired` as `{measure: {"mean", "ci95"}}`."""
    found = paired(first, second).items()
    return {measure: {"mean": mean, "ci95": [low, high]} for measure, (mean, low, high) in found}


def held_out(rows: Sequence[dict[str, Any]], layers: Sequence[int | str]) -> dict[str, Any]:
    """The network at a layer chosen elsewhere, beside both baselines; the untrained one's layer is chosen likewise."""
    kept = finite_layers(rows)
    layers = [layers[p] for p in kept]
    own, own_layers = chosen_elsewhere([[r["layers"][p] for p in kept] for r in rows])
    twin, twin_layers = chosen_elsewhere([[r["baselines"]["untrained"][p] for p in kept] for r in rows])
    return {
        "by": CHOSEN_BY,
        "layers": [layers[i] for i in own_layers],
        **means(own),
        "minus_pixels": paired(own, [r["baselines"]["pixels"] for r in rows]),
        "minus_untrained": paired(own, twin),
        "untrained": {"layers": [layers[i] for i in twin_layers], **means(twin)},
    }


def chosen_elsewhere(
    scores: Sequence[Sequence[dict[str, Any]]], by: str = CHOSEN_BY
) -> tuple[list[dict[str, Any]], tuple[int, int]]:
    """Each picture's scores at the layer that was best on the other half of the pictures: two-fold cross-fitting.

    The best of many layers on the very pictures it is scored on would be ahead of a baseline, which has no layers to
    choose from, by the choice alone.

    Args:
        scores: a picture, then a layer: measures by name; two pictures or more. by: the measure that chooses.

    Returns:
        The chosen scores, picture by picture, and the layers' places: first that of the even pictures (chosen on the
        odd ones), then that of the odd.
    """
    places = range(len(scores[0]))
    best = [max(places, key=lambda p: mean_of([s[p].get(by) for s in half])) for half in (scores[1::2], scores[::2])]
    return [s[best[i % 2]] for i, s in enumerate(scores)], (best[0], best[1])


def mean_of(values: Sequence[float | None]) -> float:
    """Of those that are known; below all else where none is."""
    known = [v for v in values if v is not None]
    return float(np.mean(known)) if known else -np.inf


def means(rows: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """`{measure: mean, ..., "ci95": {measure: [low, high]}}`; None where a measure does not apply."""
    result: dict[str, Any] = {}
    intervals = {}
    for measure in MEASURES:
        values = [float(v) for r in rows if (v := r.get(measure)) is not None]
        if rows and measure not in rows[0]:
            continue
        result[measure] = float(np.mean(values)) if values else None
        intervals[measure] = list(bootstrap_ci(values)) if values else None
    if rows and "heights" in rows[0]:  # a tree, in so many pieces; `oracle_covering` takes each picture's best of them
        heights = {n: [r["heights"][n] for r in rows if n in r["heights"]] for n in rows[0]["heights"]}
        result["heights"] = {n: float(np.mean(values)) for n, values in heights.items()}
    return {**result, "ci95": intervals}


def paired(first: Sequence[dict[str, Any]], second: Sequence[dict[str, Any]]) -> dict[str, list[float]]:
    """`{measure: [mean difference, low, high]}` over the same pictures, 95 %, of the measures that apply."""
    result = {}
    for measure in PAIRED:
        both = [(a.get(measure), b.get(measure)) for a, b in zip(first, second, strict=True)]
        difference = [x - y for x, y in both if x is not None and y is not None]
        if difference:
            result[measure] = [float(np.mean(difference)), *bootstrap_ci(difference)]
    return result


def load_run(folder: Path) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """A score run's manifest and its scored pictures. Raises `InputError` for a folder that is none."""
    manifest = read_manifest(folder)
    if not isinstance(manifest, dict) or manifest.get("kind") != "islands-score":
        raise InputError(f"{folder} is no run of `apm islands score`")
    if manifest["settings"].get("measure") != RULE:
        raise InputError(f"{folder} was scored when covering was the best over annotators; score it again")
    return manifest, [r for r in read_results(folder) if r["status"] == "ok"]


def compare(folders: Sequence[Path], by: str = "covering") -> Iterator[Event[dict[str, Any]]]:
    """Runs beside the first one, on the pictures all of them scored, each at a layer chosen by one measure on the
    other half of these pictures; the last event has the result.

    Raises:
        InputError: fewer than two runs, fewer than two pictures in common, an unknown measure.
    """
    if by not in PAIRED:
        raise InputError(f"--by must be one of {', '.join(PAIRED)}, got '{by}'")
    if len(folders) < 2:
        raise InputError("compare needs at least two run folders")
    runs = [load_run(f) for f in folders]
    if all(layer.get(by) is None for _, rows in runs for r in rows for layer in r["layers"]):
        raise InputError(f"--by {by}: these runs do not have it, as their masks do not or as it is newer than they are")
    prints = {json.dumps(m["settings"]["data_fingerprint"]) for m, _ in runs}
    shared = set.intersection(*({r["id"] for r in rows} for _, rows in runs))
    if len(shared) < 2 or len({m["settings"]["data"] for m, _ in runs}) > 1:
        raise InputError("these runs have fewer than two pictures in common; compare runs over the same data")
    result: dict[str, Any] = {"n": len(shared), "by": by, "same_data": len(prints) == 1, "runs": []}
    base: list[dict[str, Any]] = []
    steps = 2 * len(folders) - 1
    for done, (folder, (manifest, rows)) in enumerate(zip(folders, runs, strict=True)):
        yield Event("comparing", max(2 * done - 1, 0), steps)
        rows = sorted((r for r in rows if r["id"] in shared), key=lambda r: r["id"])
        kept = finite_layers(rows)
        chosen, best = chosen_elsewhere([[r["layers"][p] for p in kept] for r in rows], by)
        entry = {"folder": str(folder), "backbone": manifest["settings"]["backbone"]}
        entry |= {
            "partition": manifest["settings"]["partition"],
            "layers": [manifest["layer_indices"][kept[i]] for i in best],
        }
        entry |= means(chosen)
        if base:
            yield Event("comparing", 2 * done, steps)
            entry["minus_first"] = paired(chosen, base)
        base = base or chosen
        result["runs"].append(entry)
    yield Event("comparing", steps, steps, result=result)


def load_summary(folder: Path) -> dict[str, Any]:
    """The summary of a run as far as it got. Raises `RunError` where nothing was scored yet."""
    manifest, _ = load_run(folder)
    result = summarise(read_results(folder), manifest["layer_indices"], manifest["places"])
    if not result["n"]:
        raise RunError(f"{folder} holds no scored picture yet")
    return result
