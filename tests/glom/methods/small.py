"""A small network with batch norm as a teacher, and pictures for it: the same numbers on every machine."""

from __future__ import annotations

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn
from torchvision import transforms as T

from glom.methods import Task
from glom.teachers.base import Runtime, Teacher

SIDE, CLASSES = 16, ("ant", "bee", "cow", "dog", "eel")


class Small(Teacher):
    """Two convolutions, each with batch norm, and five classes."""

    has_grid = False

    def __init__(self) -> None:
        random = np.random.default_rng(0)

        def drawn(*shape: int, scale: float = 1.0, least: float | None = None) -> Tensor:
            x = scale * random.standard_normal(shape)
            return torch.tensor(x if least is None else np.abs(x) + least, dtype=torch.float32)

        convs = nn.Conv2d(3, 6, 3, 2, 1, bias=False), nn.Conv2d(6, 8, 3, 2, 1, bias=False)
        norms, rows = (nn.BatchNorm2d(6), nn.BatchNorm2d(8)), nn.Linear(8, len(CLASSES))
        with torch.no_grad():
            for conv in convs:
                conv.weight.copy_(drawn(*conv.weight.shape, scale=0.4))
            for norm in norms:
                n = norm.num_features
                for tensor, value in (
                    (norm.weight, drawn(n, scale=0.5, least=0.5)),
                    (norm.bias, drawn(n, scale=0.3)),
                    (norm.running_mean, drawn(n, scale=0.3)),
                    (norm.running_var, drawn(n, scale=2.0, least=2.0)),
                ):
                    tensor.copy_(value)
            rows.weight.copy_(drawn(*rows.weight.shape, scale=6.0))
            rows.bias.copy_(torch.tensor([-3.4, 0.3, 3.6, 4.9, -9.4]))  # the pictures then fall into all classes
        relu, pool = nn.ReLU(), nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten())
        network = nn.Sequential(convs[0], norms[0], relu, convs[1], norms[1], relu, pool, rows)
        read = T.Compose([T.Resize((SIDE, SIDE)), T.ToTensor(), T.Normalize((0.5, 0.4, 0.3), (0.2, 0.25, 0.3))])
        super().__init__("small", network, read, 8, Runtime(torch.device("cpu"), torch.float32, "fp32"), "small")
        self.use_rows(rows, CLASSES)

    def _token(self, images: Tensor) -> Tensor:
        network = self._model
        assert isinstance(network, nn.Sequential)
        return network[:-1](images)

    def _grid(self, images: Tensor) -> Tensor:
        raise AssertionError("no method that is compared with its release asks for a grid")


def small_task() -> Task:
    return Task(Small(), CLASSES, torch.device("cpu"))


def small_pictures(count: int, seed: int = 1) -> list[Image.Image]:
    """Of 16 px, each with a brightness, a colour and a slope of its own."""
    random = np.random.default_rng(seed)
    ramp = np.linspace(-1, 1, SIDE)
    found = []
    for _ in range(count):
        base, slope = random.uniform(0.2, 0.8, 3), random.uniform(-0.5, 0.5, (2, 3))
        x = base + ramp[:, None, None] * slope[0] + ramp[None, :, None] * slope[1]
        x = x + random.uniform(0.02, 0.3) * random.standard_normal((SIDE, SIDE, 3))
        found.append(Image.fromarray((255 * np.clip(x, 0, 1)).astype(np.uint8)))
    return found


def random_features(count: int = 120, width: int = 16, classes: int = 6) -> tuple[Tensor, Tensor]:
    """(count, width) not normalised and (classes, width) of length one, lying close together, as CLIP's do."""
    random = np.random.default_rng(2)
    centre = random.standard_normal(width)
    rows = centre + 0.3 * random.standard_normal((classes, width))
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    tokens = 4 * rows[np.arange(count) % classes] + 0.3 * random.standard_normal((count, width))
    return torch.tensor(tokens, dtype=torch.float32), torch.tensor(rows, dtype=torch.float32)


def view_features(count: int = 60, views: int = 20) -> Tensor:
    """(count, views, 16): `random_features` and what the crops of each picture might give."""
    tokens, _ = random_features(count)
    noise = 0.4 * np.random.default_rng(3).standard_normal((count, views, tokens.shape[1]))
    noise[:, 0] = 0
    return tokens[:, None] + torch.tensor(noise, dtype=torch.float32)
