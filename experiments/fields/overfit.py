"""Single-sample overfitting: one picture, one distilled token, random weights; the islands that appear, as a film.

Every location reads the same T and differs only in its position: whether islands follow the picture is a question, and
`experiments.fields.overfit_study` answers it. What a machine is overfit on is a condition, named by its parts:

    token     the teacher's token of the picture (the published way)
    rgb       the picture's colours
    grid      the teacher's feature grid
    fine      the teacher's grid of the picture at twice its size
    patch     not a target: the local patch I(x, y) in the column, 3 x 3 points
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, TypedDict

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

from experiments.fields.percepts import Array, area, digest, every
from experiments.fields.settings import OverfitOne
from glom import execution
from glom.adaptation.overfit import OverfitSettings, overfit
from glom.apm import AsynchronousPerceptionMachine, blank_apm, preset
from glom.backbones.video import squeezed
from glom.colours import pca_rgb
from glom.columns import grid_queries, picture
from glom.datasets.label_maps import read_mask, read_npz
from glom.datasets.reading import read_image
from glom.devices import chosen_precision, resolve_device
from glom.errors import InputError, unknown
from glom.runs.artifacts import RunFolder
from glom.runs.events import Event
from glom.runs.seeds import sample_seed
from glom.settings import write_settings
from glom.teachers.grids import grid_teacher
from probes.agreement import neighbour_agreement
from probes.explorer import View, layered, picture_of, store
from probes.figures.again import draw
from probes.figures.overfit import curve, film, sheet
from probes.metrics import Outlines, adjusted_rand, score
from probes.partition import Labels, Partition, colour_position, enlarge, parse_partition, partition

PARTS = ("token", "rgb", "grid", "fine", "patch")
PATCH = 3
SHUFFLE = 8  # a shuffled picture has its 8 x 8 patches permuted
FRAMES = 24


@dataclass(frozen=True)
class Condition:
    """What a machine is overfit on, and whether its column holds the local patch."""

    name: str
    token: bool
    rgb: bool
    grid: int
    patch: bool


def parse_condition(text: str) -> Condition:
    """`token+grid+patch` -> `Condition`.

    Raises:
        InputError: an unknown part, a part named twice, both grids, or no target.

    Example:
        >>> parse_condition("token+fine").grid
        2
    """
    parts = [part.strip() for part in text.split("+")]
    for part in parts:
        if part not in PARTS:
            raise unknown("target", part, PARTS)
    if len(set(parts)) < len(parts) or {"grid", "fine"} <= set(parts):
        raise InputError(f"'{text}': name each part once, and one grid only")
    if set(parts) == {"patch"}:
        raise InputError(f"'{text}': the patch is read, not learned; add a target such as token")
    grid = 2 if "fine" in parts else int("grid" in parts)
    return Condition("+".join(p for p in PARTS if p in parts), "token" in parts, "rgb" in parts, grid, "patch" in parts)


def control(image: Image.Image, kind: str, seed: int = 0, name: str = "") -> Image.Image:
    """The picture itself, or a control of its size: its 8 x 8 patches shuffled, or uniform noise."""
    if kind == "picture":
        return image
    rng = np.random.default_rng(sample_seed(seed, name, kind))
    w, h = image.size
    if kind == "noise":
        return Image.fromarray(rng.integers(0, 256, (h, w, 3), dtype=np.uint8))
    if kind != "shuffled":
        raise unknown("control", kind, ["picture", "shuffled", "noise"])
    # Squeezed to a square that eight patches a side divide, so that every patch has one size.
    side = max(SHUFFLE, round(max(w, h) / SHUFFLE) * SHUFFLE)
    pixels = np.asarray(image.convert("RGB").resize((side, side), Image.Resampling.BILINEAR))
    p = side // SHUFFLE
    patches = pixels.reshape(SHUFFLE, p, SHUFFLE, p, 3).swapaxes(1, 2).reshape(-1, p, p, 3)
    mixed = patches[rng.permutation(len(patches))].reshape(SHUFFLE, SHUFFLE, p, p, 3).swapaxes(1, 2)
    return Image.fromarray(mixed.reshape(side, side, 3)).resize((w, h), Image.Resampling.BILINEAR)


class Overfitter:
    """A teacher and the settings of every overfit; `start` gives one ready to be stepped through.

    Products are bf16 where the processor has it and the trunk is wide enough to gain. Weights follow from the seed and
    the picture's name: they are equal for a picture and its controls.

    Args:
        conditions: what its machines will be overfit on; the teacher must read pictures of twice its size for `fine`.

    Raises:
        InputError: no such teacher or preset, a teacher that cannot give `fine`.
    """

    def __init__(self, how: OverfitOne, conditions: Sequence[Condition]) -> None:
        from experiments.fields.upsample import default_teacher

        self.device = resolve_device(how.device)
        name = how.teacher or default_teacher()
        self.base, self.seed = preset(how.apm), how.seed
        precision = chosen_precision("auto", self.device) if max(self.base.trunk) >= 1024 else "fp32"
        self.settings = OverfitSettings(iterations=how.iterations, points=how.points, lr=how.lr, precision=precision)
        self.teacher = grid_teacher(name, 0, str(self.device))
        self._teachers = {1: self.teacher}
        if any(condition.grid == 2 for condition in conditions):
            self._teachers[2] = grid_teacher(name, 2 * self.teacher.image_size, str(self.device))

    def start(self, condition: Condition, image: Image.Image, name: str) -> Run:
        """A fresh machine for one picture: its random weights depend on `name` and the seed, not on the picture."""
        view = squeezed(self.teacher, image)[None]
        token = self.teacher.token(view)[0]
        grid = None
        if condition.grid:
            teacher = self._teachers[condition.grid]
            grid = teacher.grid(squeezed(teacher, image)[None])[0]
            if grid.shape[-1] != len(token):
                raise InputError(f"{self.teacher.name}: its grid and token differ in width; choose another --teacher")
        config = replace(
            self.base,
            features=len(token),
            readout="mean",
            rgb=(self.base.rgb or (128, 128)) if condition.rgb else None,
            local_patch=PATCH if condition.patch else 0,
        )
        generator = torch.Generator().manual_seed(sample_seed(self.seed, name, "overfit"))
        apm = blank_apm(config)
        apm.reset(generator, "default")
        folded = picture(image, config.image_size).to(self.device)
        return Run(apm.to(self.device), folded, token, grid, condition, self.settings, generator)


@dataclass
class Run:
    """One machine on its way; `steps` overfits it, `grid` and `cosine` look at it as it stands."""

    apm: AsynchronousPerceptionMachine
    folded: Tensor
    token: Tensor
    target: Tensor | None
    condition: Condition
    settings: OverfitSettings
    generator: torch.Generator

    def steps(self) -> Iterator[Event]:
        """See `glom.adaptation.overfit.overfit`."""
        token = self.token if self.condition.token else None
        yield from overfit(
            self.apm, self.folded, token, self.target, self.settings, self.generator, rgb=self.condition.rgb
        )

    @torch.no_grad()
    def grid(self, side: int) -> Array:
        """The percept on a side x side grid, (side, side, F)."""
        queries = grid_queries(side, side, device=self.folded.device)
        found = execution.run(self.apm, self.folded[None], queries, ("features",)).features
        assert found is not None
        return found[0].float().cpu().reshape(side, side, -1).numpy()

    @torch.no_grad()
    def cosine(self) -> float:
        """Of the machine's token with the teacher's."""
        found = execution.run(self.apm, self.folded[None], None, ("token",)).token
        assert found is not None
        return float(F.cosine_similarity(found[0].float(), self.token, dim=0))


@torch.no_grad()
def position_islands(apm: AsynchronousPerceptionMachine, side: int, how: Partition, seed: int) -> Labels:
    """Islands of the location code alone: the baseline that knows no picture and no training."""
    queries = grid_queries(side, side, device=apm.feature_head.weight.device)
    code = apm.location_code(queries).float().cpu().reshape(side, side, -1).numpy()
    return partition(code, how, seed)


# -- one picture -------------------------------------------------------------------------------------------------------


def read_truth(path: str, image: Image.Image) -> list[Any]:
    """(H, W) label maps of a file. Raises `InputError` where it cannot be read or has another size."""
    if not path:
        return []
    file = Path(path)
    if not file.is_file():
        raise InputError(f"{path}: no such file; give an npz with an array segmentations, or a mask picture")
    maps = read_npz(file) if file.suffix == ".npz" else read_mask(file)[None]
    if maps.shape[1:] != (image.height, image.width):
        h, w = maps.shape[1:]
        raise InputError(f"{path}: the outlines are {w}x{h} pixels, the picture {image.width}x{image.height}")
    return list(maps)


def relief(grid: Array) -> Array:
    """A grid without what is the same everywhere, at unit size: what its locations differ by, comparable over looks."""
    centred = grid - grid.mean((0, 1))
    return (centred / max(float(centred.std()), 1e-12)).astype(np.float32)


class Overfitted(TypedDict):
    """One picture overfit: every look, and the last islands, the controls' and the baselines' by name."""

    image: str
    condition: str
    teacher: str
    iterations: int
    cosine: float
    looks: list[dict[str, Any]]
    islands: dict[str, dict[str, Any]]


def run(settings: OverfitOne, out: Path) -> Iterator[Event[Overfitted]]:
    """Overfit one picture and its controls, looking every few iterations.

    Written: `curve.png`, `sheet.png` (first and last look, controls, baselines), `result.json`, `film.gif` if asked.

    Raises:
        InputError: a wrong request, a picture or outlines that cannot be read.
    """
    targets = settings.targets or ("token",)
    if len(targets) > 1:
        raise InputError("one picture is overfit in one way: name one of `targets`, or give a folder for the study")
    condition, how = parse_condition(targets[0]), parse_partition(settings.partition)
    image = read_image(settings.image)
    truths = read_truth(settings.truth, image)
    name = Path(settings.image).name
    machine = Overfitter(settings, [condition])
    held = settings.manifest("targets", "limit", "split", image=name, truth=Path(settings.truth).name)
    held |= {"condition": targets[0], "teacher": machine.teacher.name}
    held["contents"] = digest([settings.image, *([settings.truth] if settings.truth else [])])
    outlines = Outlines(truths) if truths else None
    judge = partial(_judged, image, truths, outlines)
    with RunFolder(out, "grid-overfit", held) as folder:
        write_settings(out, settings)
        marks = set(every(settings.iterations, FRAMES))
        final: dict[str, Labels] = {}
        grids: dict[str, list[Array]] = {}
        looks: list[dict[str, Any]] = []
        cuts: list[Labels] = []
        kinds = ("picture", "shuffled", "noise")
        for number, kind in enumerate(kinds):
            run = machine.start(condition, control(image, kind, settings.seed, name), name)
            grids[kind] = [run.grid(settings.grid)]
            if kind == "picture":
                cuts.append(partition(grids[kind][0], how, settings.seed))
                looks.append({"iteration": 0, "loss": None, "cosine": run.cosine()})
            for step in run.steps():
                done = number * settings.iterations + int(step.done)
                yield Event("overfitting", done, len(kinds) * settings.iterations)
                if kind == "picture" and int(step.done) in marks:
                    grids[kind].append(run.grid(settings.grid))
                    cuts.append(partition(grids[kind][-1], how, settings.seed))
                    looks.append({"iteration": int(step.done), **step.values, "cosine": run.cosine()})
            if kind != "picture":
                grids[kind].append(run.grid(settings.grid))
            final[kind] = partition(grids[kind][-1], how, settings.seed)
        for look, grid, labels in zip(looks, grids["picture"], cuts, strict=True):
            look |= {"neighbour_agreement": neighbour_agreement(grid), **judge(labels)}
            look |= {f"same_as_{kind}": adjusted_rand(final[kind], labels) for kind in kinds}
        final["untrained"] = cuts[0]
        final |= _baselines(run.apm, image, settings.grid, how, settings.seed)
        result: Overfitted = {
            "image": name,
            "condition": condition.name,
            "teacher": machine.teacher.name,
            "iterations": settings.iterations,
            "cosine": looks[-1]["cosine"],
            "looks": looks,
            "islands": {
                key: {**judge(labels), "same_as_picture": adjusted_rand(final["picture"], labels)}
                for key, labels in final.items()
            },
        }
        raised = [*map(relief, [*grids["picture"], grids["shuffled"][-1], grids["noise"][-1]])]
        coloured = pca_rgb(*raised)
        _keep(image, raised, coloured, result, truths, out)
        _draw(image, coloured, cuts, final, result, truths, out, settings.film)
        folder.conclude(result)
    yield Event(result=result)


def _judged(image: Image.Image, truths: list[Labels], outlines: Outlines | None, labels: Labels) -> dict[str, Any]:
    """Scores against people's outlines; nothing where there are none."""
    return {} if outlines is None else score(truths, enlarge(labels, image.height, image.width), outlines)


def _baselines(
    apm: AsynchronousPerceptionMachine, image: Image.Image, side: int, how: Partition, seed: int
) -> dict[str, Labels]:
    """The islands of the positional code alone, and those of colour and position."""
    pixels = colour_position(area(image, side, side))
    return {
        "position code": position_islands(apm, side, how, seed),
        "colour + position": partition(pixels, how, seed, cosine=False),
    }


def _keep(
    image: Image.Image,
    raised: list[Array],
    coloured: list[Array],
    result: Overfitted,
    truths: list[Labels],
    out: Path,
) -> None:
    """What the explorer shows: the picture's grids by iteration, and the last of each control; arrays as `_draw`'s."""
    looks, name = result["looks"], f"{result['teacher']}, {result['condition']}"
    parts = [(name, range(len(looks))), ("its patches shuffled", [-2]), ("noise", [-1])]
    sources = [
        layered(
            who,
            [("iteration", [str(looks[max(i, -1)]["iteration"]) for i in at])],
            [raised[i] for i in at],
            [coloured[i] for i in at],
        )
        for who, at in parts
    ]
    note = "Agreement: cosine after the mean over all locations is taken off"
    view: View = {"title": f"{result['image']}, overfit on its {result['condition']}", "facts": [], "notes": []}
    store({**view, "pictures": [picture_of(result["image"], image, sources, truths, note=note)]}, out)


def _draw(
    image: Image.Image,
    coloured: list[Array],
    cuts: list[Labels],
    final: dict[str, Labels],
    result: Overfitted,
    truths: list[Labels],
    out: Path,
    moving: bool,
) -> None:
    """`curve.png`, `sheet.png` and, if asked, `film.gif`. `coloured`: every look, then the two controls."""
    looks, found = result["looks"], result["islands"]
    curve(result, out / "curve.png")
    said = {
        name: f"ARI {one['ari']:.2f}" if "ari" in one else f"with the picture's {one['same_as_picture']:.2f}"
        for name, one in found.items()
    }
    ends, square = [coloured[i] for i in (0, -3, -2, -1)], area(image, 320, 320)
    truth = truths[0] if truths else None
    draw(out / "sheet.png", sheet, image=square, coloured=ends, final=final, notes=said, truth=truth)
    if moving:
        words = [f"iteration {look['iteration']}   cosine {look['cosine']:.3f}" for look in looks]
        words = [w + (f"   ARI {k['ari']:.2f}" if "ari" in k else "") for w, k in zip(words, looks, strict=True)]
        draw(out / "film.gif", film, image=image, coloured=coloured[: len(looks)], cuts=cuts, words=words)
