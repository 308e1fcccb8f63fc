"""The second half of the objective study: the best candidates on the pictures that chose nothing, and on further sets.

DIR/confirm/              a run folder in that of the selection: lines, result.json; written once
DIR/confirm.png           both halves
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any, NotRequired, cast

from experiments.objective.candidates import CANDIDATES, TEACHER
from experiments.objective.report import Judged, by_set, choose, draw, summarise, unseen
from experiments.objective.run import cases_of, prepare, public_settings, run_half
from experiments.objective.settings import CONFIRM, SELECT, ConfirmSettings, ObjectiveSettings
from glom.errors import InputError
from glom.execution import Ranks
from glom.runs.artifacts import RunFolder, public_name, read_manifest, read_result, result_file
from glom.runs.events import Event
from glom.settings import defaults_of


class Confirmed(Judged):
    """The other half, of the candidates that were `chosen` and their controls; further sets where there are some."""

    chosen: list[str]
    settings: dict[str, Any]
    sets: NotRequired[dict[str, Judged]]
    unseen: NotRequired[Judged]


def run(request: ConfirmSettings, out: Path, *, resume: bool = False) -> Iterator[Event[Confirmed]]:
    """The `top` best of each kind, and their controls, once, on the other half.

    Under torchrun the ranks share out the pictures, each writing a part of its own; any number of them can go on with
    what others began, and the lines are those of one process.

    Args:
        out: the folder of a complete selection.
        resume: go on with a confirmation that was stopped. One that is complete is never done again.

    Raises:
        InputError: no complete selection there, or it has been confirmed already.
    """
    done = result_file(out / "confirm")
    if done.exists():
        raise InputError(f"{out} has been confirmed already, and that is done once; read {done}")
    manifest = read_manifest(out)
    if manifest.get("kind") != "objective-select" or manifest.get("status") != "complete":
        raise InputError(f"{out} holds no complete selection; run `apm ablate objective select --out {out}` first")
    held = manifest["settings"]
    if "corrupt" not in held:
        raise InputError(f"{out} was selected when corruptions had other strengths; select again, with another --out")
    kept: dict[str, Any] = {
        k: tuple(held[k]) if isinstance(held[k], list) else held[k] for k in asdict(ObjectiveSettings()) if k in held
    }
    if isinstance(kept["data"], str):
        kept["data"] = (kept["data"],)
    selected = ObjectiveSettings(**kept)
    selection = read_result(out)
    chosen = choose(selection, request.top)
    controls = [c for n in chosen for c in CANDIDATES[n].controls if c != TEACHER]
    names = list(dict.fromkeys([*chosen, *controls]))
    for what, now in prepare(selected).held(SELECT).items():
        if what.endswith("fingerprint") and now != held[what]:
            raise InputError(f"the {what.removesuffix('_fingerprint')} is not the one the selection was made with")
    study = prepare(selected, request.on)
    known = [one.dataset.name for one in study.sets]
    if len(set(known)) < len(known):
        raise InputError(
            "a data set that chose or is named already cannot be a further one; its other half is met anyway"
        )
    halves = [CONFIRM] * len(selected.data) + [""] * len(request.on)
    cases = [
        cases_of(one.dataset, selected, half, request.limit, one.dataset.name * (len(known) > 1))
        for one, half in zip(study.sets, halves, strict=True)
    ]
    own = {**study.held(CONFIRM), "limit": request.limit, "chosen": chosen} | ({"on": request.on} if request.on else {})
    extra = {"data_spec": ",".join((*selected.data, *request.on))}
    group = _joined(out, resume)
    defaults = defaults_of(selected)
    with RunFolder(out / "confirm", "objective-confirm", own, resume, extra, group.part, defaults) as folder:
        if not group.rank:
            group.wait()
        yield from run_half(folder, cases, names, study, out, (group.rank, group.world))
        group.wait()
        if group.rank:
            return
        candidates, records, tried = [CANDIDATES[n] for n in names], folder.records(), selection["tried"]
        halved = [r for r in records if r.get("dataset") not in known[len(selected.data) :]]
        result: dict[str, Any] = {**summarise(halved, candidates, chosen, tried)}
        if len(known) > 1:
            result["sets"] = by_set(records, candidates, chosen, tried)
        if request.on:
            result["unseen"] = unseen(records, known[len(selected.data) :], candidates, chosen, tried, result["sets"])
        about = public_settings(selected) | {"limit": request.limit, "on": list(map(public_name, request.on))}
        result |= {"chosen": chosen, "settings": about}
        draw(selection, result, out / "confirm.png")
        folder.conclude(result)
    yield Event(result=cast(Confirmed, result))


def _joined(out: Path, resume: bool) -> Ranks:
    """The ranks; the first rank makes the folder, or refuses it, before the others look at it."""
    group = Ranks.join()
    if not group.rank and not resume and (out / "confirm" / "manifest.json").exists():
        raise InputError(f"{out} is being confirmed already; add `resume` to go on")
    if group.rank:
        group.wait()
    return group
