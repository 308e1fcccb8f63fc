"""A model of one's own as a teacher: any `nn.Module`, with what the toolkit must know about its pictures."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor, nn
from torchvision import transforms as T

from glom.columns import IMAGENET_MEAN, IMAGENET_STD
from glom.devices import resolve_device, resolve_precision
from glom.errors import InputError
from glom.hubs import first_line
from glom.teachers.base import Runtime, Teacher

Reader = Callable[[Tensor], Tensor]


class OwnTeacher(Teacher):
    """See `teacher`; `features` is what it was given of that name."""

    def __init__(
        self,
        name: str,
        model: nn.Module,
        transform: T.Compose,
        runtime: Runtime,
        features: str | Reader | None,
        head: nn.Linear | None,
    ) -> None:
        self.features, self._head = features, head
        super().__init__(name, model, transform, 0, runtime, f"own {type(model).__module__}.{type(model).__qualname__}")
        blank = torch.zeros(2, 3, self.image_size, self.image_size)
        try:
            self.width = self.token(blank).shape[-1]
            self.has_grid = features is not None
            if self.has_grid:
                self.grid(blank)
        except (RuntimeError, ValueError, TypeError, AssertionError, IndexError) as error:
            side = self.image_size
            raise InputError(f"{name} cannot read pictures (2, 3, {side}, {side}) ({first_line(error)})") from error

    def _token(self, images: Tensor) -> Tensor:
        with _watch(self._head, before=True) as seen:
            out = self._model(images)
        token = seen[0] if seen else out
        if not isinstance(token, Tensor) or token.ndim != 2 or len(token) != len(images):
            got = tuple(token.shape) if isinstance(token, Tensor) else type(token).__name__
            raise InputError(
                f"{self.name}: a token is (B, F), the model gave {got}; name the last linear layer as head=, or wrap it"
            )
        return token

    def _grid(self, images: Tensor) -> Tensor:
        if callable(self.features) and not isinstance(self.features, str):
            found = self.features(images)
        else:
            assert isinstance(self.features, str)
            with _watch(self._model.get_submodule(self.features), before=False) as seen:
                self._model(images)
            found = seen[0]
        return as_grid(found, self.name)


def teacher(
    model: nn.Module,
    *,
    size: int,
    mean: Sequence[float] = IMAGENET_MEAN,
    std: Sequence[float] = IMAGENET_STD,
    features: str | Reader | None = None,
    classes: Sequence[str] | None = None,
    head: str | None = None,
    crop: float = 1.0,
    name: str = "own",
    device: str = "auto",
    precision: str = "fp32",
) -> OwnTeacher:
    """Any network as a teacher: frozen, in eval mode, with the checks and the fingerprint that all teachers have.

    Args:
        model: (B, 3, size, size) -> (B, F). It is moved to `device` and its parameters stop needing gradients.
        size: side of the pictures, in pixels.
        mean: of its normalisation, three numbers for pixels in [0, 1]; ImageNet's unless given.
        std: likewise.
        features: where its feature grid is: the name of a module whose output it is, or a function of the pictures;
            (B, C, h, w), (B, h, w, C) of unequal h and C, or (B, N, C) of N = h^2 tokens, a class token before them
            or not. None: it has no grid.
        classes: names of a classifier's rows, in order.
        head: the name of the linear layer that makes them; the token is then what that layer reads. Needed with
            `classes` unless the model's last linear layer is meant.
        crop: share of the shorter side that the centre crop keeps.
        name: what results call it.
        device: where it runs. precision: `fp32`, `bf16` or `fp16` of its weights and products.

    Returns:
        A `Teacher`: usable in `glom.adapt`, as a backbone, in every run of the library.

    Raises:
        InputError: a model that cannot read such pictures or gives no (B, F), a module that does not exist, another
            number of class names than of rows.

    Example:
        >>> net = nn.Sequential(nn.Conv2d(3, 8, 4, 4), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 2))
        >>> own = teacher(net, size=16, features="0", classes=["cat", "dog"], name="mine")
        >>> own.width, own.grid(torch.zeros(1, 3, 16, 16)).shape
        (8, torch.Size([1, 4, 4, 8]))
    """
    if size < 1 or not 0 < crop <= 1:
        raise InputError(f"pictures need a side of at least 1 px and a crop in (0, 1], got {size} and {crop}")
    if len(mean) != 3 or len(std) != 3 or not all(s > 0 for s in std):
        raise InputError(f"mean and std are three numbers each, deviations above 0, got {list(mean)} and {list(std)}")
    places = dict(model.named_modules())
    for asked in (features, head):
        if isinstance(asked, str) and asked not in places:
            some = ", ".join(list(places)[1:9])
            raise InputError(f"{name} has no module '{asked}'; it has {some}, ... (see model.named_modules())")
    layer = places[head] if head is not None else _last_linear(model) if classes is not None else None
    if layer is not None and not isinstance(layer, nn.Linear):
        raise InputError(f"{name}: '{head}' is a {type(layer).__name__}, a head must be a Linear layer")
    where = resolve_device(device)
    runtime = Runtime(where, resolve_precision(precision, where), precision)
    steps = [T.Resize(round(size / crop), T.InterpolationMode.BICUBIC), T.CenterCrop(size), T.ToTensor()]
    transform = T.Compose([*steps, T.Normalize(list(mean), list(std))])
    found = OwnTeacher(name, model, transform, runtime, features, layer)
    if layer is not None:
        found.use_rows(layer, None)
    if classes is not None:
        found.name_classes(classes)
    return found


def as_grid(features: Tensor, name: str) -> Tensor:
    """(B, C, h, w), (B, h, w, C) or (B, N, C) -> (B, h, w, C). Raises `InputError` for anything else."""
    if isinstance(features, Tensor) and features.ndim == 4:
        last = features.shape[1] == features.shape[2] != features.shape[3]
        return features if last else features.permute(0, 2, 3, 1)
    if isinstance(features, Tensor) and features.ndim == 3:
        count = features.shape[1]
        side = math.isqrt(count)
        # Class and register tokens stand before the patches.
        return features[:, count - side * side :].unflatten(1, (side, side))
    got = tuple(features.shape) if isinstance(features, Tensor) else type(features).__name__
    raise InputError(f"{name}: a feature grid is (B, C, h, w), (B, h, w, C) or (B, N, C), got {got}")


def _last_linear(model: nn.Module) -> nn.Linear | None:
    return next((m for m in reversed(list(model.modules())) if isinstance(m, nn.Linear)), None)


@contextmanager
def _watch(module: nn.Module | None, before: bool) -> Iterator[list[Tensor]]:
    """What a module reads (before) or gives, while inside; the hook always comes off."""
    seen: list[Tensor] = []
    if module is None:
        yield seen
        return

    def keep(_: nn.Module, inputs: tuple[Tensor, ...], output: Tensor | None = None) -> None:
        value = inputs[0] if before else output
        if isinstance(value, tuple | list):
            value = value[0]
        assert value is not None
        seen.append(value)

    handle = module.register_forward_pre_hook(keep) if before else module.register_forward_hook(keep)
    try:
        yield seen
    finally:
        handle.remove()
