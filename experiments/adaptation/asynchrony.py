"""Asynchrony: columns that arrive in any order, a read-out at any moment, and how good it is so far."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, TypedDict

import numpy as np
import torch
from torch import Tensor

from experiments.adaptation.run import Prepared, load_cases, prepare
from experiments.adaptation.settings import AsynchronySettings, TTTRun
from glom.adaptation.case import Case
from glom.adaptation.settings import settings_for
from glom.adaptation.ttt import adapt
from glom.apm import AsynchronousPerceptionMachine
from glom.columns import grid_queries
from glom.errors import GlomError, InputError, RunError, demand_some
from glom.runs.artifacts import RunFolder
from glom.runs.events import Event
from glom.runs.seeds import sample_seed
from glom.runs.statistics import bootstrap_ci
from glom.settings import write_settings
from probes.fields import counts_for, order_locations, running_tokens


class Curve(TypedDict):
    """One order's accuracy and agreement with the teacher (0 to 1), and the accuracy's 95 % interval, a count each."""

    order: str
    accuracy: list[float]
    agreement: list[float]
    ci95: list[list[float]]


class Asynchrony(TypedDict):
    """Accuracies over `n` pictures as `counts` of the `locations` columns have arrived; the teacher's beside them."""

    n: int
    locations: int
    counts: list[int]
    checkpoint: str | None
    objective: str | None
    teacher: float
    curves: list[Curve]


def run(settings: AsynchronySettings, out: Path) -> Iterator[Event[Asynchrony]]:
    """Read every picture's machine in every order; `asynchrony.png` is the curve.

    Raises:
        InputError: an unknown order, shares out of range, a data set without labels, a read-out without an order, no
            picture that can be read.
    """
    request = TTTRun(
        data=settings.data,
        teacher=settings.teacher,
        ttt=settings_for(settings.teacher, iterations=settings.iterations, objective=settings.objective),
        limit=settings.limit,
        seed=settings.seed,
        device=settings.device,
    )
    counts_for(settings.shares, 1)
    for order in settings.orders:
        order_locations(grid_queries(1, 1), order, torch.Generator())
    ready = prepare(request)
    if not ready.dataset.labelled:
        raise InputError(f"{settings.data} has no labels: there is no accuracy to draw")
    ready.asked().say()
    pretrained = None
    if settings.checkpoint:
        from glom.checkpoints import load_apm

        pretrained, _ = load_apm(settings.checkpoint, ready.device)
        if pretrained.config.features != ready.teacher.width:
            raise InputError(f"{settings.checkpoint} gives features of another width than {settings.teacher}'s token")
    held = settings.manifest(data=ready.dataset.name, data_fingerprint=ready.dataset.fingerprint())
    with RunFolder(out, "asynchrony", held, extra={"device": str(ready.device)}) as folder:
        write_settings(out, settings)
        total = len(ready.dataset)
        yield Event("asking", 0, total)
        cases = load_cases(request, ready)
        lost = total - len(cases)
        passed = list(_unread(ready, {case.id for case in cases}))
        for message in passed:
            yield Event("asking", lost, total, message)
        records = [*({"status": "ok"} for _ in cases), *({"status": "skipped", "reason": why} for why in passed)]
        demand_some(records, f"pictures of {ready.dataset.name}")
        asked = enumerate(_machines(cases, request, ready, pretrained))
        for number, (sample, label, features, queries, apm, said) in asked:
            counts = counts_for(settings.shares, len(queries))
            record: dict[str, Any] = {"id": sample, "label": label, "teacher": said, "locations": len(queries)}
            for order in settings.orders:
                generator = torch.Generator().manual_seed(sample_seed(settings.seed, sample, "order"))
                places = order_locations(queries, order, generator)
                tokens = running_tokens(apm, features[places], queries[places])
                record[order] = _classes(ready, tokens[torch.tensor(counts) - 1])
            folder.append({**record, "index": number, "counts": counts})
            yield Event("asking", lost + number + 1, total)
        result = summarise(folder.records(), settings)
        draw(result, out / "asynchrony.png")
        folder.conclude(result)
    yield Event(result=result)


def _classes(ready: Prepared, tokens: Tensor) -> list[int]:
    """What the zero-shot head says of (n, F) tokens on any device."""
    return ready.head(tokens.to(ready.head.weights.device)).argmax(-1).tolist()


def _unread(ready: Prepared, known: set[str]) -> Iterator[str]:
    """A line a picture that could not be read, with the reason."""
    for sample in ready.dataset:
        if sample.id not in known:
            try:
                sample.image()
                reason = "it could not be prepared"
            except GlomError as error:
                reason = str(error)
            yield f"{sample.id} is left out: {reason}"


def _machines(
    cases: Sequence[Case], request: TTTRun, ready: Prepared, pretrained: AsynchronousPerceptionMachine | None
) -> Iterator[tuple[str, int, Tensor, Tensor, AsynchronousPerceptionMachine, int]]:
    """(id, label, features (N, F), queries (N, 2), machine, the teacher's class) of each picture."""
    from glom.columns import picture
    from glom.teachers.views import seen

    samples = {sample.id: sample for sample in ready.dataset}
    for case in cases:
        folded = case.picture[None].to(ready.device)
        if pretrained is None:
            apm = adapt(case, request.ttt, ready.head, request.seed, ready.device, keep_apm=True).apm
            if apm is None:
                raise RunError(f"{case.id}: its machine could not be overfit; try fewer steps")
        else:
            apm = pretrained
            image = seen(ready.teacher, samples[case.id].image())
            folded = picture(image, apm.config.image_size)[None].to(ready.device)
        queries = apm.default_queries(folded)
        with torch.no_grad():
            features = apm.unfold(apm.fold(folded), queries, folded)[0]
        assert case.label is not None
        yield case.id, case.label, features, queries, apm, _classes(ready, case.token[None])[0]


def summarise(records: list[dict[str, Any]], settings: AsynchronySettings) -> Asynchrony:
    """Accuracies in 0-1 by order and number of columns, with 95 % bootstrap intervals over pictures."""
    labels = np.array([r["label"] for r in records])
    curves: list[Curve] = []
    for order in settings.orders:
        right = np.array([r[order] for r in records]) == labels[:, None]
        agrees = np.array([r[order] for r in records]) == np.array([r["teacher"] for r in records])[:, None]
        bounds = [list(bootstrap_ci(column, resamples=2000)) for column in right.T]
        accuracy, agreement = right.mean(0).tolist(), agrees.mean(0).tolist()
        curves.append({"order": order, "accuracy": accuracy, "agreement": agreement, "ci95": bounds})
    return {
        "n": len(records),
        "locations": records[0]["locations"],
        "counts": records[0]["counts"],
        "checkpoint": settings.checkpoint or None,
        "objective": None if settings.checkpoint else settings.objective,
        "teacher": float(np.mean([r["teacher"] == r["label"] for r in records])),
        "curves": curves,
    }


def draw(result: Asynchrony, path: Path) -> Path:
    """Accuracy against the share of columns that have arrived, a line an order, the teacher's dashed."""
    from probes.figures.base import GREY, new_figure, plain, plain_all, save

    figure, axes = new_figure(5.6, 3.8)
    axis = axes[0, 0]
    share = np.array(result["counts"]) / result["locations"]
    for number, curve in enumerate(result["curves"]):
        low, high = np.array(curve["ci95"]).T
        axis.plot(share, curve["accuracy"], "o-", ms=3.5, color=f"C{number}", label=plain(curve["order"]))
        axis.fill_between(share, low, high, color=f"C{number}", alpha=0.1, linewidth=0)
    axis.axhline(result["teacher"], color=GREY, lw=1, ls="--", label="teacher")
    axis.set_xscale("log", base=2)
    ticks = [s for s in share if s > 0]
    axis.set_xticks(ticks, plain_all([f"{c}" for c in result["counts"]]), fontsize=8)
    axis.minorticks_off()
    axis.set_xlabel(plain(f"columns that have arrived (of {result['locations']})"))
    axis.set_ylabel("top-1 accuracy of the read-out")
    axis.set_ylim(min(0.0, *(min(c["accuracy"]) for c in result["curves"])), 1.02)
    axis.legend(fontsize=8, frameon=False, title="order", title_fontsize=8)
    return save(figure, path, f"{result['n']} pictures; shaded: 95 % over pictures.")
