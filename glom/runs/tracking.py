"""Runs sent to a tracker as well: TensorBoard, Trackio, Weights & Biases or MLflow, by accelerate's trackers.

    with tracking("tensorboard"):
        ...                             every run folder that is opened inside

The run folder stays the truth: what a tracker shows is read off it, and a tracker that fails is left behind with a
warning. Step n of a sample's figures is line n of `results.jsonl`; a run that is gone on with begins anew in the
tracker, with every line there is. Nothing of a tracker is imported before it is asked for.
"""

from __future__ import annotations

import json
import logging
import math
import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from dataclasses import dataclass
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from glom.errors import InputError, unknown
from glom.runs.events import Event
from glom.runs.notices import notice

TRACKERS = {"tensorboard": "TensorBoardTracker", "trackio": "TrackioTracker", "wandb": "WandBTracker",
            "mlflow": "MLflowTracker"}  # fmt: skip
PROJECT = "glom-apm"
FIGURES = 50  # pictures of a run folder that are sent
_ASKED: ContextVar[str] = ContextVar("glom_tracking", default="")
_OPEN: ContextVar[tuple[Tracker, ...]] = ContextVar("glom_trackers", default=())


@contextmanager
def tracking(asked: str) -> Iterator[None]:
    """Send the runs that begin inside to a tracker.

    Args:
        asked: "tensorboard", or with a project "wandb:mine"; "" for none.

    Raises:
        InputError: an unknown tracker, or one that is not installed.
    """
    name, _, project = asked.partition(":")
    if asked and name not in TRACKERS:
        raise unknown("tracker", name, TRACKERS)
    missing = [module for module in (name, "accelerate") if asked and find_spec(module) is None]
    if missing:
        raise InputError(f"`track` {name}: {missing[0]} is not installed; pip install 'glom-apm[{name}]'")
    if any(c in project for c in "/\\") or project in (".", ".."):
        raise InputError(f"`track` {name}: a project has no / in its name, got '{project}'")
    token = _ASKED.set(asked)
    try:
        yield
    finally:
        _ASKED.reset(token)


def asked_for() -> str:
    """What `tracking` was told; "" where nothing is tracked."""
    return _ASKED.get()


def track(folder: Path, settings: Mapping[str, Any], records: list[dict[str, Any]]) -> Tracker | None:
    """A run that begins, or goes on after `records`; None where none is asked for, or this is not the first rank."""
    if not _ASKED.get() or os.environ.get("RANK", "0") != "0":
        return None
    name, _, project = _ASKED.get().partition(":")
    tracker = Tracker(name, project or PROJECT, folder)
    _OPEN.set((*_OPEN.get(), tracker))
    tracker.begin(settings)
    for record in records:
        tracker.sample(record)
    return tracker


def seen(event: Event[Any]) -> None:
    """Send an event's running figures to the run that was opened last."""
    if event.stage and event.values and _OPEN.get():
        _OPEN.get()[-1].progress(event)


@dataclass
class Tracker:
    """One run in a tracker.

    Attributes:
        name: of the tracker; "" once it has failed. project: where the run is put. folder: the run's.
        sent: how many samples the tracker has.
    """

    name: str
    project: str
    folder: Path
    sent: int = 0
    made: Any = None

    def begin(self, settings: Mapping[str, Any]) -> None:
        """Start the run and say its settings."""
        self._safely(lambda: self._start(settings))

    def _start(self, settings: Mapping[str, Any]) -> None:
        from accelerate import tracking as trackers

        # accelerate's logger asks for its state of the process, which joins the ranks: here one rank tracks alone.
        trackers.logger = logging.getLogger("accelerate.tracking")  # type: ignore[assignment]
        kind, run = getattr(trackers, TRACKERS[self.name]), self.folder.absolute().name
        if self.name == "tensorboard":
            made = kind("tensorboard", self.folder)
        elif self.name == "mlflow":
            made = kind(self.project, run_name=run)
        else:
            made = kind(self.project, name=run)
        made.main_process_only = False
        made.start()
        self.made = made
        made.store_init_configuration({key: _plain(value) for key, value in settings.items()})

    def sample(self, record: Mapping[str, Any]) -> None:
        """A line of `results.jsonl`: each of its numbers by its name."""
        step, self.sent = self.sent, self.sent + 1
        self._log(numbers(record), step)

    def progress(self, event: Event[Any]) -> None:
        """Running figures, under their stage, at what is done of it."""
        self._log({f"{event.stage}/{k}": v for k, v in numbers(event.values).items()}, int(event.done))

    def end(self, result: Mapping[str, Any], records: list[dict[str, Any]]) -> None:
        """What the run found, its table and its figures; and the samples that other ranks have written."""
        for record in records[self.sent :]:
            self.sample(record)
        self._log({f"result/{k}": v for k, v in numbers(result).items()}, self.sent)
        rows = [row for row in result.get("rows", []) if isinstance(row, Mapping)]
        self._safely(lambda: self._table(rows))
        for path in sorted(self.folder.glob("*.png"))[:FIGURES]:
            self._safely(partial(self._figure, path))

    def close(self) -> None:
        """End the run in the tracker."""
        _OPEN.set(tuple(one for one in _OPEN.get() if one is not self))
        if self.made is not None:
            self._safely(self.made.finish)
        self.made = None

    def _log(self, values: Mapping[str, float], step: int) -> None:
        # TensorBoard keeps 32 bits of a number unless it is told otherwise.
        exact = {"new_style": True, "double_precision": True} if self.name == "tensorboard" else {}
        if values:
            self._safely(lambda: self.made.log(values, step=step, **exact))

    def _table(self, rows: list[Mapping[str, Any]]) -> None:
        columns = list(dict.fromkeys(name for row in rows for name in row))
        cells = [[_plain(row.get(name)) for name in columns] for row in rows]
        if self.name == "mlflow":
            self.made.log_artifact(str(self.folder / "result.json"))
        elif rows and self.name == "wandb":
            self.made.log_table("table", columns=columns, data=[[str(cell) for cell in row] for row in cells])
        elif rows and self.name == "trackio":
            import pandas
            import trackio

            self.made.log({"table": trackio.Table(dataframe=pandas.DataFrame(cells, columns=columns))}, step=self.sent)
        elif rows:
            lines: list[list[Any]] = [columns, ["---"] * len(columns), *cells]
            text = "\n".join(f"| {' | '.join(str(cell).replace('|', '/') for cell in line)} |" for line in lines)
            self.made.log({"table": text}, step=self.sent)

    def _figure(self, path: Path) -> None:
        import numpy as np
        from PIL import Image

        if self.name == "mlflow":
            self.made.log_artifact(str(path))
        elif self.name == "trackio":
            import trackio

            self.made.log({path.stem: trackio.Image(str(path))}, step=self.sent)
        else:
            with Image.open(path) as image:
                pixels = np.asarray(image.convert("RGB"))[None]
            form = {"dataformats": "NHWC"} if self.name == "tensorboard" else {}
            self.made.log_images({path.stem: pixels}, step=self.sent, **form)

    def _safely(self, call: Callable[[], Any]) -> None:
        """Whatever a tracker raises is a warning, and its end: the run goes on."""
        if not self.name:
            return
        try:
            call()
        except Exception as error:
            said = " ".join(str(error).split()) or type(error).__name__
            notice(f"{self.name} failed ({said[:200]}); the run goes on without it, {self.folder} has everything")
            if self.made is not None:
                with suppress(Exception):
                    self.made.finish()
            self.name, self.made = "", None


def numbers(values: Mapping[str, Any]) -> dict[str, float]:
    """What of a mapping a tracker can draw: finite numbers, and true or false.

    Example:
        >>> numbers({"id": "a.png", "loss": 0.5, "right": True, "worst": float("inf")})
        {'loss': 0.5, 'right': 1}
    """
    found = {k: int(v) if isinstance(v, bool) else v for k, v in values.items() if isinstance(v, bool | int | float)}
    return {k: v for k, v in found.items() if math.isfinite(v)}


def _plain(value: Any) -> str | float | int | bool:
    if isinstance(value, str | bool | int | float):
        return value
    return "none" if value is None else json.dumps(value, default=str, ensure_ascii=False)
