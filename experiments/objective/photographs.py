"""APMs trained on the teacher's grids of unlabelled photographs, before any picture of the study is met.

    prior    L = |f(x) - G|^2 / Var(G)
    shape    L = |f(a) - G|^2 / Var(G) + |f(b) - G|^2 / Var(G) + |f(a) - f(b)|^2 / Var(G)

x is the photograph, G the teacher's grid of it, a and b two changes of its style: what a machine can say of both is in
their shapes. Only the half `select` of the photographs is read.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from pathlib import Path

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor
from torchvision.transforms import functional as TF

from experiments.objective.settings import SELECT, ObjectiveSettings
from glom import execution
from glom.adaptation.settings import settings_for
from glom.apm import AsynchronousPerceptionMachine, blank_apm
from glom.checkpoints import load_apm, save_apm
from glom.columns import grid_queries, picture
from glom.datasets.base import ImageDataset
from glom.datasets.registry import open_dataset
from glom.errors import GlomError, InputError
from glom.methods.aims import machine_config
from glom.runs.events import Event
from glom.runs.seeds import half_of, sample_seed
from glom.teachers.base import Teacher
from glom.training.loop import Training
from glom.training.optimisation import warmup_cosine

KINDS = ("prior", "shape")
BATCH, LR = 32, 1e-3
WEIGHTS = "apm.safetensors"


def open_photographs(settings: ObjectiveSettings) -> list[ImageDataset]:
    """The half `select` of each data set, at most `each_set` spread over its folders. Raises `InputError` if empty."""
    found = []
    for spec in settings.photographs:
        whole = open_dataset(spec, split="test")
        ids = [sample.id for sample in whole if half_of(sample.id) == SELECT]
        if len(ids) < 2:
            raise InputError(f"{whole.name} is too small to be halved: it has {len(whole)} pictures")
        found.append(whole.select(ids).limit(settings.each_set))
    return found


def trained(
    kinds: Sequence[str], out: Path, photographs: Sequence[ImageDataset], teacher: Teacher, settings: ObjectiveSettings
) -> Iterator[Event]:
    """Train the machines of these `KINDS` that are not in `out/KIND` yet; one that was stopped goes on."""
    kinds = [kind for kind in kinds if not (out / kind / WEIGHTS).is_file()]
    if not kinds:
        return
    shape = settings_for(settings.teacher, "fast")
    config = machine_config(shape, teacher.width, settings.trunk)
    images, grids = [], []
    samples = list(itertools.chain.from_iterable(photographs))
    for number, sample in enumerate(samples):
        try:
            image = sample.image()
        except GlomError as error:
            yield Event("photographs", number, len(samples), f"{sample.id}: {error}")
            continue
        images.append(picture(image, config.image_size))
        grids.append(teacher.grid(teacher.preprocess(image)[None])[0].cpu())
        yield Event("photographs", number + 1, len(samples))
    if len(images) < 2:
        raise InputError("fewer than two photographs could be read")
    pictures, said = torch.stack(images), torch.stack(grids)
    for kind in kinds:
        apm = blank_apm(config)
        apm.reset(torch.Generator().manual_seed(sample_seed(settings.seed, kind, "photographs")), "default")
        mean = said.mean((0, 1, 2))
        with torch.no_grad():
            apm.feature_head.bias.copy_(mean)
        variance = float((said - mean).square().mean())
        optimiser = torch.optim.Adam(apm.parameters(), LR)
        (out / kind).mkdir(parents=True, exist_ok=True)
        rate = lambda step: LR * warmup_cosine(step, settings.steps, 20)  # noqa: E731
        match = {"kind": kind, "photographs": fingerprints(photographs), "pictures": len(pictures)}
        training = Training(apm, optimiser, rate, settings.steps, out / kind / "state.pt", match=match)
        training.restore()

        def loss(
            step: int, kind: str = kind, apm: AsynchronousPerceptionMachine = apm, var: float = variance
        ) -> Tensor:
            draw = torch.Generator().manual_seed(sample_seed(settings.seed, str(step), kind))
            rows = torch.randperm(len(pictures), generator=draw)[:BATCH]
            return losses(apm, pictures[rows], said[rows], kind, draw) / var

        for values in training.run(loss, lambda done: done % 100 == 0):
            yield Event(f"training {kind}", training.done, settings.steps, values={"loss": round(values[0], 4)})
        save_apm(out / kind, apm, {"teacher": teacher.name, "teacher_fingerprint": teacher.fingerprint})


def losses(
    apm: AsynchronousPerceptionMachine, pictures: Tensor, grids: Tensor, kind: str, draw: torch.Generator
) -> Tensor:
    """L times Var(G): pictures (B, 3, S, S) and grids (B, h, w, F) -> scalar."""
    queries = grid_queries(*grids.shape[1:3])
    target = grids.flatten(1, 2)

    def field(x: Tensor) -> Tensor:
        features = execution.run(apm, x, queries, ("features",)).features
        assert features is not None
        return features

    if kind == "prior":
        return F.mse_loss(field(pictures), target)
    a, b = (field(restyled(pictures, draw)) for _ in range(2))
    return F.mse_loss(a, target) + F.mse_loss(b, target) + F.mse_loss(a, b)


def restyled(pictures: Tensor, draw: torch.Generator) -> Tensor:
    """Each picture in another style, one of three drawn for it; what lies where stays: (B, 3, S, S) -> the same.

    Another picture's mean and deviation of every colour, mixed in by a drawn share (Huang & Belongie 2017, on pixels);
    a blurred picture of drawn saturation and contrast; its outlines (Sobel), dark on light.
    """
    n = len(pictures)
    kind = torch.randint(3, (n,), generator=draw)
    share = torch.rand(n, 1, 1, 1, generator=draw)
    var, mean = torch.var_mean(pictures, (2, 3), keepdim=True)
    other = torch.randperm(n, generator=draw)
    plain = (pictures - mean) / (var + 1e-5).sqrt()
    painted = plain * var.sqrt().lerp(var[other].sqrt(), share) + mean.lerp(mean[other], share)
    grey = pictures.mean(1, keepdim=True)
    faded = mean + (0.5 + share) * (TF.gaussian_blur(grey.lerp(pictures, share), [5, 5]) - mean)
    sobel = torch.tensor([[1.0, 0, -1], [2, 0, -2], [1, 0, -1]])
    slopes = F.conv2d(F.pad(grey, (1, 1, 1, 1), mode="replicate"), torch.stack([sobel, sobel.T])[:, None])
    edges = (2 - 2 * slopes.square().sum(1, keepdim=True).sqrt() / (0.5 + share)).clamp(-2, 2).expand_as(pictures)
    return torch.where(rearrange(kind, "n -> n 1 1 1") == 0, painted, torch.where(
        rearrange(kind, "n -> n 1 1 1") == 1, faded, edges))  # fmt: skip


def read_machines(out: Path, photographs: Sequence[ImageDataset]) -> dict[str, AsynchronousPerceptionMachine]:
    """The machines by kind, as far as the candidates need them; none without photographs."""
    there = [kind for kind in KINDS if photographs and (out / kind / WEIGHTS).is_file()]
    return {kind: load_apm(out / kind)[0] for kind in there}


def fingerprints(datasets: Sequence[ImageDataset]) -> list[str]:
    """Of each data set."""
    return [dataset.fingerprint() for dataset in datasets]
