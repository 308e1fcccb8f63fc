"""A pre-trained APM beside its teacher on held-out pictures: one forward pass against the teacher's grid."""

from __future__ import annotations

from collections.abc import Generator, Iterator
from pathlib import Path
from typing import Any, TypedDict

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from experiments.pretraining.data import FEWEST, OnTheFly, Rows, Source, labels_of, split_data, to_input, unread_message
from experiments.pretraining.settings import EvalSettings
from glom import execution
from glom.adaptation.overfit import to_pixels
from glom.apm import AsynchronousPerceptionMachine
from glom.checkpoints import load_apm
from glom.colours import pca_rgb
from glom.columns import grid_queries
from glom.datasets.base import ImageDataset
from glom.devices import resolve_device
from glom.errors import InputError
from glom.runs.artifacts import RunFolder
from glom.runs.events import Event
from glom.runs.statistics import bootstrap_ci
from glom.settings import write_settings
from glom.teachers.grids import Encoder, grid_teacher
from probes.alike import psnr

BATCH = 64
DECODE_BATCH = 16
NEIGHBOURS = 20
SHOWN = 6  # pictures in the figure
RESAMPLES = 2000  # of the bootstrap over pictures
DECODED = 200  # held-out pictures whose colours are compared
FINE = 4  # how many times finer than the teacher's the figure's second APM grid is
Grids = NDArray[np.float32]


@torch.no_grad()
def unfold(apm: AsynchronousPerceptionMachine, images: Tensor, h: int, w: int) -> Tensor:
    """(B, 3, S, S) -> (B, h, w, F), float32 on the CPU."""
    device = apm.feature_head.weight.device
    features = execution.run(apm, images.to(device), grid_queries(h, w, device=device), ("features",)).features
    assert features is not None
    return features.float().cpu().unflatten(1, (h, w))


def collect(
    apm: AsynchronousPerceptionMachine, source: Source, rows: Rows
) -> Iterator[tuple[Grids, Grids, NDArray[Any]]]:
    """Teacher's grids, APM's grids (n, h, w, F) and pictures (n, S, S, 3), a batch at a time."""
    h, w, _ = source.shape
    for start in range(0, len(rows), BATCH):
        grids, pictures = source.fetch(rows[start : start + BATCH])
        if not len(pictures):
            continue
        yield grids.numpy(), unfold(apm, to_input(pictures), h, w).numpy(), pictures.numpy()


Panels = tuple[NDArray[Any], NDArray[Any], NDArray[Any]]  # a few pictures, the teacher's grids of them, the APM's


class Compared(TypedDict):
    """See `compare`."""

    r2: float
    r2_ci95: list[float]
    cosine: float
    cosine_mean_grid: float


class Colours(TypedDict):
    """See `decoded`."""

    psnr: float
    psnr_ci95: list[float]
    psnr_mean_colour: float
    n: int


class Neighbours(TypedDict):
    """Top-1 in % of nearest neighbours among a bank's grids."""

    teacher: float
    apm: float
    bank: int


class Measured(Compared):
    """An APM beside its teacher on `n` held-out pictures; None without labels, or without a colour head."""

    n: int
    knn: Neighbours | None
    rgb: Colours | None


class Found(Measured):
    """The same of a checkpoint, by name."""

    checkpoint: str
    teacher: str
    grid: list[int]


def compare(teacher: Grids, apm: Grids) -> Compared:
    """R² and cosine of the APM's grids, and the cosine of the best constant grid.

    R² = 1 - sum |G - f|² / sum |G - Ḡ|², Ḡ the mean grid (h, w, F) of these very pictures: the best any constant grid
    can do on them, and so a little stricter than the mean of the training pictures.

    Returns:
        `r2` with `r2_ci95` (bootstrap over pictures), `cosine`, `cosine_mean_grid`.
    """
    mean = teacher.mean(0, keepdims=True)
    error = ((teacher - apm) ** 2).sum((1, 2, 3))
    around = ((teacher - mean) ** 2).sum((1, 2, 3))
    whole = float(around.mean())
    if not whole > 0:
        raise InputError("the teacher's grids are all alike on these pictures; R² is not defined")
    # Both sums over the same resampled pictures: the quotient of two means, not a mean of quotients.
    drawn = np.random.default_rng(0).integers(0, len(error), (RESAMPLES, len(error)))
    low, high = np.quantile(1 - error[drawn].sum(1) / around[drawn].sum(1).clip(1e-12 * whole), [0.025, 0.975])
    return {
        "r2": float(1 - error.mean() / whole),
        "r2_ci95": [float(low), float(high)],
        "cosine": mean_cosine(teacher, apm),
        "cosine_mean_grid": mean_cosine(teacher, np.broadcast_to(mean, teacher.shape)),
    }


@torch.no_grad()
def decoded(apm: AsynchronousPerceptionMachine, pictures: NDArray[Any]) -> Colours:
    """How well colours come back at the pictures' own size.

    Args:
        pictures: (n, S, S, 3) uint8.

    Returns:
        `psnr` in dB, averaged over pictures, with `psnr_ci95` (bootstrap over pictures); `psnr_mean_colour`, what
        one colour for all of a picture would give; `n`.
    """
    device, side = apm.feature_head.weight.device, pictures.shape[1]
    queries = grid_queries(side, side, device=device)
    rows: list[tuple[float, float]] = []
    for part in torch.from_numpy(pictures).split(DECODE_BATCH):
        found = execution.run(apm, to_input(part).to(device), queries, ("rgb",)).rgb
        assert found is not None
        colours = to_pixels(found.float().cpu().unflatten(1, (side, side))).numpy()
        truth = part.numpy() / np.float32(255)
        flat = np.broadcast_to(truth.mean((1, 2), keepdims=True), truth.shape)
        rows += [(psnr(c, t), psnr(f, t)) for c, f, t in zip(colours, flat, truth, strict=True)]
    own, plain = np.array(rows).T
    return {
        "psnr": float(own.mean()),
        "psnr_ci95": list(bootstrap_ci(own)),
        "psnr_mean_colour": float(plain.mean()),
        "n": len(own),
    }


def mean_cosine(one: Grids, other: Grids) -> float:
    """Mean cosine over all locations of all pictures."""
    a, b = torch.from_numpy(np.ascontiguousarray(one)), torch.from_numpy(np.ascontiguousarray(other))
    return float(F.cosine_similarity(a, b, dim=-1).mean())


def knn_accuracy(bank: Grids, bank_labels: NDArray[Any], found: Grids, labels: NDArray[Any]) -> float:
    """Accuracy in % of 20 nearest neighbours by cosine (fewer where the bank is small), each weighted by nearness.

    Args:
        bank, found: (n, F) mean features.
    """
    from sklearn.neighbors import KNeighborsClassifier

    model = KNeighborsClassifier(min(NEIGHBOURS, len(bank)), metric="cosine", weights="distance")
    return float(100 * (model.fit(bank, bank_labels).predict(found) == labels).mean())


def measure(
    apm: AsynchronousPerceptionMachine,
    held: Source,
    held_data: ImageDataset,
    bank: Source,
    bank_data: ImageDataset,
    most: int,
) -> Generator[Event[Any], None, tuple[Measured, Panels]]:
    """All figures on the held-out rows, yielding events; `most`: pictures in the bank of the k-NN classifier.

    Pictures that cannot be read are left out, of the bank as well; the sources count them.

    Returns:
        What is measured, and a few pictures' arrays for `panels`.

    Raises:
        InputError: fewer than two held-out pictures that can be read, or grids that are all alike.
    """
    parts = yield from _all(collect(apm, held, held.usable()), "held-out grids", len(held.usable()))
    count = sum(len(part[0]) for part in parts)
    if count < FEWEST:
        raise InputError(f"{count} of {len(held_data)} held-out pictures could be read; at least {FEWEST} are needed")
    teacher, own, pictures = (np.concatenate(x) for x in zip(*parts, strict=True))
    near: Neighbours | None = None
    # Only now is it known which rows could be read.
    labels = labels_of(held_data, held.usable())
    rows = bank.usable()
    rows = rows[rows < len(bank_data)]
    # Spread over the data set, so that every class is in the bank.
    rows = rows[np.unique(np.linspace(0, len(rows) - 1, min(most, len(rows))).astype(int))]
    if labels is not None and labels_of(bank_data, rows) is not None:
        means = ((t.mean((1, 2)), a.mean((1, 2))) for t, a, _ in collect(apm, bank, rows))
        both = yield from _all(means, "neighbours", len(rows))
        known = labels_of(bank_data, np.intersect1d(rows, bank.usable()))
        if both and known is not None:
            t_bank, a_bank = (np.concatenate(x) for x in zip(*both, strict=True))
            t = knn_accuracy(t_bank, known, teacher.mean((1, 2)), labels)
            a = knn_accuracy(a_bank, known, own.mean((1, 2)), labels)
            near = {"teacher": t, "apm": a, "bank": len(known)}
    some, shown = (np.unique(np.linspace(0, len(teacher) - 1, n).astype(int)) for n in (DECODED, SHOWN))
    colours = None if apm.rgb_head is None else decoded(apm, pictures[some])  # of several classes
    found: Measured = {"n": len(teacher), **compare(teacher, own), "knn": near, "rgb": colours}
    return found, (pictures[shown], teacher[shown], own[shown])


def _all(parts: Iterator[tuple[NDArray[Any], ...]], stage: str, total: int) -> Generator[Event[Any], None, list[Any]]:
    """All of them, with an event each."""
    found: list[Any] = []
    done = 0
    for part in parts:
        found.append(part)
        done += len(part[0])
        yield Event(stage, done, total)
    return found


def panels(apm: AsynchronousPerceptionMachine, shown: Panels) -> list[list[tuple[str, Any]]]:
    """A row a picture: the picture, the teacher's grid, the APM's, and the APM's on a finer grid, as PCA colours."""
    pictures, teacher, own = shown
    h, w = teacher.shape[1:3]
    fine = unfold(apm, to_input(torch.from_numpy(pictures)), FINE * h, FINE * w).numpy()
    # One code for everything: a colour means the same in every panel.
    colours = pca_rgb(*teacher, *own, *fine)
    n = len(pictures)
    titles = ("picture", f"teacher, {h}x{w}", f"APM, {h}x{w}", f"APM, {FINE * h}x{FINE * w}")
    tables = [pictures, colours[:n], colours[n : 2 * n], colours[2 * n :]]
    return [list(zip(titles, row, strict=True)) for row in zip(*tables, strict=True)]


def run(settings: EvalSettings, out: Path) -> Iterator[Event[Found]]:
    """A checkpoint beside its own teacher on DATA.

    Raises:
        InputError: no such checkpoint, one whose teacher is another model by now, data without pictures.
    """
    from probes.figures.again import draw
    from probes.figures.grids import grid_sheet

    apm, meta = load_apm(settings.checkpoint, resolve_device(settings.device))
    if "teacher" not in meta:
        raise InputError(
            f"{settings.checkpoint} does not say whose grid it learnt; it cannot be compared with a teacher"
        )
    split = split_data(settings.data, 0, settings.limit, settings.seed)
    teacher = grid_teacher(meta["teacher"], settings.size or int(meta.get("size", 0)), settings.device)
    encoder = Encoder(teacher, apm.config.image_size)
    held, known = (OnTheFly(part, encoder, 1, settings.seed) for part in (split.held_out, split.train))
    if held.shape[2] != apm.config.features:
        raise InputError(f"{meta['teacher']}'s grid is {held.shape[2]} wide, the APM's {apm.config.features}")
    held_settings = settings.manifest(checkpoint=Path(settings.checkpoint).name, data=split.held_out.name)
    held_settings |= {"limit": len(split.held_out), "size": teacher.image_size}
    held_settings["fingerprint"] = split.held_out.fingerprint()
    with RunFolder(out, "grid-eval", held_settings) as folder:
        write_settings(out, settings)
        if meta.get("teacher_fingerprint") != teacher.fingerprint:
            yield Event(message=f"{meta['teacher']} is not the model this checkpoint learnt from")
        yield Event(message=f"{len(split.held_out)} pictures, {split.how}")
        found, shown = yield from measure(apm, held, split.held_out, known, split.train, settings.bank)
        messages = unread_message(held, split.held_out, "held-out") + unread_message(known, split.train, "training")
        for message in messages:
            yield Event(message=message)
        draw(out / "grids.png", grid_sheet, rows=panels(apm, shown))
        result: Found = {
            "checkpoint": held_settings["checkpoint"],
            "teacher": meta["teacher"],
            "grid": list(held.shape),
            **found,
        }
        folder.conclude(result)
    yield Event(result=result)
