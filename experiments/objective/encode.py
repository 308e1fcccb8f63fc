"""The teacher's side of the objective study: every token a candidate may ask of a block of pictures, made once."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from PIL import Image, ImageFilter, ImageOps
from safetensors import safe_open
from torch import Tensor, nn
from torchvision.transforms import RandomResizedCrop

from experiments.objective.settings import CLEAN, ObjectiveSettings
from glom.backbones import mvit_shipped
from glom.backbones.mvit_shipped import TinyConfig, load_mvit
from glom.backbones.video import clip_for
from glom.columns import picture
from glom.datasets.base import Sample
from glom.datasets.corruptions import parse_corruption
from glom.errors import GlomError
from glom.methods.views import augmented
from glom.runs.files import to_bytes
from glom.runs.saving import save_tensors
from glom.runs.seeds import fixed_seed, sample_seed
from glom.teachers.align import gathered
from glom.teachers.base import Teacher
from glom.teachers.corrupted import corrupted
from glom.teachers.heads import ZeroShotHead
from glom.teachers.registry import load_teacher
from glom.teachers.zero_shot import choose_templates

LEAST = {"views": 0.08, "crops": 0.6}  # the smallest share of the area a crop keeps
BATCH = 64


@dataclass(frozen=True)
class Case:
    """One picture under one condition."""

    sample: Sample
    condition: str
    dataset: str = ""  # named where a run has several

    @property
    def id(self) -> str:
        """`condition/sample`, unique in a run."""
        return f"{self.condition}/{self.picture}"

    @property
    def picture(self) -> str:
        """The picture, whatever its condition."""
        return f"{self.dataset}/{self.sample.id}" if self.dataset else self.sample.id

    def image(self, teacher: Teacher, seed: int, place: str) -> Image.Image:
        """The picture, corrupted. Raises `GlomError` where it cannot be read."""
        image = self.sample.image()
        if self.condition == CLEAN:
            return image
        own = sample_seed(seed, self.sample.id, "corruption")
        return corrupted(teacher, image, parse_corruption(self.condition), own, place)


@dataclass(frozen=True)
class Second:
    """Another teacher of the same classes: tokens of pictures, and its head."""

    name: str
    tokens: Callable[[Sequence[Image.Image]], Tensor]
    head: ZeroShotHead


def named_second(name: str, superclasses: str, classes: Sequence[str]) -> Second:
    """A second teacher by name, its classes gathered as the first one's are."""
    teacher = gathered(load_teacher(name, device="cpu"), superclasses)

    def tokens(images: Sequence[Image.Image]) -> Tensor:
        read = [teacher.preprocess(image) for image in images]
        return torch.cat([teacher.token(torch.stack(read[i : i + BATCH])).cpu() for i in range(0, len(read), BATCH)])

    return Second(name, tokens, teacher.zero_shot_head(classes, choose_templates("simple")))


def second_teacher(classes: Sequence[str]) -> Second | None:
    """The shipped `mvit-v2-tiny`, where it classifies exactly these classes."""
    backbone = load_mvit("mvit-v2-tiny", None, torch.device("cpu"))
    net: Any = backbone.model
    if tuple(TinyConfig.from_json(mvit_shipped.SHIPPED / mvit_shipped.CONFIG).classes) != tuple(classes):
        return None
    layer = next(m for m in net.head.modules() if isinstance(m, nn.Linear))

    @torch.no_grad()
    def tokens(images: Sequence[Image.Image]) -> Tensor:
        clips = torch.stack([clip_for(backbone, image, size=backbone.size) for image in images])
        return torch.cat([net.tokens(part)[:, 1:].mean(1) for part in clips.split(BATCH)])

    head = ZeroShotHead(tuple(classes), layer.weight.detach(), 1.0, layer.bias.detach(), normalize=False)
    return Second(backbone.name, tokens, head)


@contextmanager
def mixed_statistics(model: nn.Module, prior: float) -> Iterator[None]:
    """Inside, batch norms see each picture's own statistics mixed with the training's.

        mu = N/(N+1) mu_train + 1/(N+1) mu_picture,  the variance alike          (Schneider et al. 2020, equation 3)

    Args:
        model: in eval mode; put back afterwards.
        prior: N, how many pictures the training's statistics count for.
    """
    share = 1 / (prior + 1)

    def mix(module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> Tensor:
        norm: Any = module
        x = inputs[0]
        mean = torch.lerp(norm.running_mean.expand(len(x), -1), x.mean((2, 3)), share)
        var = torch.lerp(norm.running_var.expand(len(x), -1), x.var((2, 3), unbiased=False), share)
        gain = norm.weight / (var + norm.eps).sqrt()
        y = x * gain[..., None, None] + (norm.bias - mean * gain)[..., None, None]
        return norm.act(norm.drop(y)) if hasattr(norm, "act") else y  # timm's batch norm carries its activation

    norms = [m for m in model.modules() if isinstance(m, nn.BatchNorm2d)]
    handles = [m.register_forward_hook(mix) for m in norms]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def crop_centres(image: Image.Image, count: int, seed: int, least: float) -> Tensor:
    """(count, 2): (x, y) in [0, 1]^2 of the centres of the crops that `augmented` makes; the whole picture is first."""
    width, height = image.size
    blank = torch.empty(1, height, width)
    centres = [(0.5, 0.5)]
    with fixed_seed(seed):
        for _ in range(count - 1):
            i, j, h, w = RandomResizedCrop.get_params(blank, [least, 1.0], [3 / 4, 4 / 3])
            torch.rand(())  # the draw that decides on a flip
            centres.append(((j + w / 2) / width, (i + h / 2) / height))
    return torch.tensor(centres)


class Block:
    """Pictures that are adapted together. What the teachers say of them is made when it is first asked for, and kept.

    `block[NAME]`, n cases: `picture` (n, 3, S, S); `token`, `flip`, `blur`, `bn-N`, `bn-N-flip` (n, F); `grid`,
    `bn-N-grid` (n, h, w, F); `views`, `crops` (n, V, F), the picture itself first, and `views-at`, `crops-at`
    (n, V, 2), their centres; `second` (n, F2).

    Attributes:
        cases: those that could be read. skipped: (case, reason) of the others.
    """

    def __init__(
        self,
        cases: Sequence[Case],
        settings: ObjectiveSettings,
        teacher: Teacher,
        size: int,
        second: Second | None,
        path: Path | None = None,
    ) -> None:
        """`size` is the side of the folded picture; `path` where what was made before lies, and is kept."""
        self._settings, self._teacher, self._size, self._second, self._path = settings, teacher, size, second, path
        self._made: dict[str, Tensor] = {}
        self.cases: list[Case] = []
        self.skipped: list[tuple[Case, str]] = []
        self._images: list[Image.Image] = []
        for case in cases:
            try:
                self._images.append(case.image(teacher, settings.seed, settings.corrupt))
                self.cases.append(case)
            except GlomError as error:
                self.skipped.append((case, str(error)))
        if path is not None and path.is_file():
            with safe_open(path, "pt") as file:
                names = file.keys()
                if file.metadata()["cases"] == self._name():
                    self._made = {key: file.get_tensor(key) for key in names}

    def __len__(self) -> int:
        return len(self.cases)

    def __getitem__(self, name: str) -> Tensor:
        if name not in self._made:
            self._made[name] = self._make(name)
        return self._made[name]

    def keep(self) -> None:
        """Write what was made, so that a run that was stopped need not ask the teachers again."""
        if self._path is not None and self._made:
            save_tensors(self._path, self._made, {"cases": self._name()})

    def _name(self) -> str:
        return to_bytes("\n".join(case.id for case in self.cases)).decode()

    def _make(self, name: str) -> Tensor:
        images, teacher = self._images, self._teacher
        if name == "picture":
            return torch.stack([picture(image, self._size) for image in images])
        if name == "token":
            return self._tokens(images)
        if name == "grid":
            return self._grid(images)
        if name == "flip":
            return self._tokens([ImageOps.mirror(image) for image in images])
        if name == "blur":  # a deviation of half a pixel at 32 px, in proportion at other sizes
            return self._tokens([image.filter(ImageFilter.GaussianBlur(min(image.size) / 64)) for image in images])
        if name == "second":
            assert self._second is not None
            return self._second.tokens(images)
        kind, _, rest = name.partition("-")
        if kind == "bn":
            prior, _, what = rest.partition("-")
            pictures = [ImageOps.mirror(image) for image in images] if what == "flip" else images
            with mixed_statistics(teacher.model, float(prior)):
                return self._grid(pictures) if what == "grid" else self._tokens(pictures)
        count = getattr(self._settings, kind)
        seeds = [sample_seed(self._settings.seed, case.id, kind) for case in self.cases]
        if rest == "at":
            pairs = zip(images, seeds, strict=True)
            return torch.stack([crop_centres(image, count, seed, LEAST[kind]) for image, seed in pairs])
        made = [
            self._tokens(augmented(image, count, teacher.image_size, seed, LEAST[kind]))
            for image, seed in zip(images, seeds, strict=True)
        ]
        return torch.stack(made)

    def _read(self, images: Sequence[Image.Image]) -> Tensor:
        return torch.stack([self._teacher.preprocess(image) for image in images])

    def _grid(self, images: Sequence[Image.Image]) -> Tensor:
        return torch.cat([self._teacher.grid(part).cpu() for part in self._read(images).split(BATCH)])

    def _tokens(self, images: Sequence[Image.Image]) -> Tensor:
        parts = [images[i : i + BATCH] for i in range(0, len(images), BATCH)]
        return torch.cat([self._teacher.token(self._read(part)).cpu() for part in parts])


def blocks_of(cases: Sequence[Case], size: int = BATCH) -> list[Sequence[Case]]:
    """Consecutive cases, `size` at a time, nearly equal in number."""
    count = math.ceil(len(cases) / size)
    edges = [round(i * len(cases) / count) for i in range(count + 1)] if count else [0]
    return [cases[a:b] for a, b in itertools.pairwise(edges)]
