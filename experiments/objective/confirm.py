"""The second half of the objective study: the best candidates on the pictures that chose nothing.

DIR/confirm/              a run folder in that of the selection: lines, result.json; written once
DIR/confirm.png           both halves
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from experiments.objective.candidates import CANDIDATES, TEACHER
from experiments.objective.report import choose, draw, summarise
from experiments.objective.run import cases_of, prepare, public_settings, run_half
from experiments.objective.settings import CONFIRM, SELECT, ObjectiveSettings
from glom.errors import InputError
from glom.runs.artifacts import RunFolder, read_json, read_result, result_file
from glom.runs.events import Event


@dataclass(frozen=True)
class ConfirmSettings:
    """What is carried on.

    Attributes:
        top: candidates of each kind, the best ones.
        limit: pictures of the half at most; 0: all.
    """

    top: int = 2
    limit: int = 0

    def __post_init__(self) -> None:
        if self.top < 1 or self.limit < 0:
            raise InputError(f"--top must be at least 1 and --limit not negative, got {self.top} and {self.limit}")


def run(settings: ConfirmSettings, out: Path, resume: bool = False) -> Iterator[Event]:
    """The `top` best of each kind, and their controls, once, on the other half.

    Args:
        out: the folder of a complete selection.
        resume: go on with a confirmation that was stopped. One that is complete is never done again.

    Raises:
        InputError: no complete selection there, or it has been confirmed already.
    """
    done = result_file(out / "confirm")
    if done.exists():
        raise InputError(f"{out} has been confirmed already, and that is done once; read {done}")
    manifest = read_json(out / "manifest.json")
    if manifest.get("kind") != "objective-select" or manifest.get("status") != "complete":
        raise InputError(f"{out} holds no complete selection; run `apm ablate objective select --out {out}` first")
    held = manifest["settings"]
    if "corrupt" not in held:
        raise InputError(f"{out} was selected when corruptions had other strengths; select again, with another --out")
    kept: dict[str, Any] = {
        k: tuple(held[k]) if isinstance(held[k], list) else held[k] for k in asdict(ObjectiveSettings()) if k in held
    }
    selected = ObjectiveSettings(**kept)
    selection = read_result(out)
    chosen = choose(selection, settings.top)
    controls = [c for n in chosen for c in CANDIDATES[n].controls if c != TEACHER]
    names = list(dict.fromkeys([*chosen, *controls]))
    ready = prepare(selected)
    for what, now in ready.held(selected, SELECT).items():
        if what.endswith("fingerprint") and now != held[what]:
            raise InputError(f"the {what.removesuffix('_fingerprint')} is not the one the selection was made with")
    cases = cases_of(ready.dataset, selected, CONFIRM, settings.limit)
    own = {**ready.held(selected, CONFIRM), "limit": settings.limit, "chosen": chosen}
    extra = {"data_spec": selected.data}
    with RunFolder(out / "confirm", "objective-confirm", own, resume, extra) as folder:
        yield from run_half(folder, cases, names, selected, ready)
        candidates = [CANDIDATES[n] for n in names]
        result = summarise(folder.records(), candidates, chosen, tried=selection["tried"])
        result |= {"chosen": chosen, "settings": public_settings(selected) | {"limit": settings.limit}}
        draw(selection, result, out / "confirm.png")
        folder.conclude(result)
    yield Event(result={"selection": selection, "confirmation": result})
