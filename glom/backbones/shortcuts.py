"""Layer skipping: from one layer's feature grid straight to a later one's.

    linear    f_xy = W e_xy + b                              per location, ridge regression in closed form
    mlp       f_xy = MLP(e_xy)                               per location
    apm       f_xy = MLP([T, p(x, y), e_xy]),  T = W_T pool(E)    a column and a location query: asked anywhere
    conv      f = 1x1(conv(conv(conv(E))))                   sees neighbours, and the early grid's finer detail

E (h, w, D) is the early grid, e_xy its feature at a location. Where the two layers' grids differ in size, `linear` and
`mlp` read E resampled to the later one's size: means over areas where a side shrinks, bilinear where it grows. `apm`
reads E bilinearly at the location, after the same means; `conv` strides and resamples at its end.

(Modi & Rawat, NeurIPS 2024, middle panel: the first feature grid mapped straight to the last.)
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor, nn

from glom.columns import LocationCode, check_queries, grid_queries, sample_at
from glom.errors import InputError, RunError, unknown
from glom.runs.events import Event
from glom.runs.seeds import fixed_seed

STUDENTS = ("linear", "mlp", "apm", "conv")
HIDDEN = 512
CHANNELS = 128
COLUMN, POOLED = 256, 4  # width of T and of p, and the side of the pooled grid that T is made of
RIDGE = 1e-3  # of the mean variance of the standardised inputs
FINER = 4  # `conv` reads the early grid at most this many times finer than the later one

CHUNK = 64  # grids converted to float64 at a time, so that those on the disk may be more than the memory holds

Shape = tuple[int, int, int]


def resample(grids: Tensor, height: int, width: int) -> Tensor:
    """(B, h, w, D) -> (B, height, width, D): area means where a side shrinks, linear interpolation where it grows."""
    h, w = grids.shape[1:3]
    if (h, w) == (height, width):
        return grids
    x = F.adaptive_avg_pool2d(rearrange(grids, "b h w d -> b d h w"), (min(h, height), min(w, width)))
    if x.shape[2:] != (height, width):
        x = F.interpolate(x, size=(height, width), mode="bilinear", align_corners=False)
    return rearrange(x, "b d h w -> b h w d")


class Student(nn.Module, ABC):
    """(B, h, w, D) early grids -> (B, h', w', F) later ones, both standardised channel by channel inside."""

    early_mean: Tensor
    early_std: Tensor
    late_mean: Tensor
    late_std: Tensor

    def __init__(self, early: Shape, late: Shape) -> None:
        super().__init__()
        self.early, self.late = early, late
        self.register_buffer("early_mean", torch.zeros(early[2]))
        self.register_buffer("early_std", torch.ones(early[2]))
        self.register_buffer("late_mean", torch.zeros(late[2]))
        self.register_buffer("late_std", torch.ones(late[2]))

    def standardise(self, early: Tensor, late: Tensor) -> float:
        """Take means and deviations from training grids, (n, h, w, D) and (n, h', w', F).

        Returns:
            The later grids' variance around their channels' means, averaged over channels.
        """
        variance = torch.zeros(())
        for name, grids in (("early", early), ("late", late)):
            mean, variance = moments(grids)
            std = variance.sqrt()
            getattr(self, f"{name}_mean").copy_(mean)
            getattr(self, f"{name}_std").copy_(std.clamp_min(1e-6 * float(std.max().clamp_min(1e-12))))
        return float(variance.mean())

    def forward(self, early: Tensor) -> Tensor:
        """The later grid, in the teacher's own units."""
        x = (early - self.early_mean) / self.early_std
        return self.student(x) * self.late_std + self.late_mean

    @abstractmethod
    def student(self, x: Tensor) -> Tensor:
        """Standardised early grids (B, h, w, D) -> standardised late grids (B, h', w', F)."""


class LinearStudent(Student):
    """W e_xy + b."""

    def __init__(self, early: Shape, late: Shape) -> None:
        super().__init__(early, late)
        self.linear = nn.Linear(early[2], late[2])

    def student(self, x: Tensor) -> Tensor:
        return self.linear(resample(x, *self.late[:2]))

    @torch.no_grad()
    def solve(self, early: Tensor, late: Tensor) -> None:
        """Ridge regression over all locations (Hoerl & Kennard 1970): W = (X'X + l I)^-1 X'Y, the bias unpenalised.

        The products are summed up chunk by chunk, on the student's device.
        """
        device, count = self.late_mean.device, 0
        gram, cross, x_sum, y_sum = (torch.zeros((), dtype=torch.float64, device=device) for _ in range(4))
        for a, b in zip(early.split(CHUNK), late.split(CHUNK), strict=True):
            x = (a.to(device, torch.float32) - self.early_mean) / self.early_std
            x = resample(x, *self.late[:2]).flatten(0, 2).double()
            y = ((b.to(device, torch.float32) - self.late_mean) / self.late_std).flatten(0, 2).double()
            gram, cross, count = gram + x.T @ x, cross + x.T @ y, count + len(x)
            x_sum, y_sum = x_sum + x.sum(0), y_sum + y.sum(0)
        # Inputs are standardised: their sums are small, and taking them out afterwards costs no digits.
        x_mean, y_mean = x_sum / count, y_sum / count
        gram = gram - count * torch.outer(x_mean, x_mean)
        cross = cross - count * torch.outer(x_mean, y_mean)
        gram.diagonal().add_(RIDGE * gram.diagonal().mean().clamp_min(1e-12))
        weight = torch.linalg.solve(gram, cross).T
        self.linear.weight.copy_(weight)
        self.linear.bias.copy_(y_mean - weight @ x_mean)


class MLPStudent(Student):
    """Two hidden layers, the same at every location."""

    def __init__(self, early: Shape, late: Shape) -> None:
        super().__init__(early, late)
        widths = (early[2], HIDDEN, HIDDEN, late[2])
        self.mlp = perceptron(widths)

    def student(self, x: Tensor) -> Tensor:
        return self.mlp(resample(x, *self.late[:2]))


class APMStudent(Student):
    """A column and location queries: the early grid folded into T, asked at any place of the picture."""

    def __init__(self, early: Shape, late: Shape) -> None:
        super().__init__(early, late)
        side = min(POOLED, *early[:2])
        self.pooled = (side, side)
        self.fold = nn.Linear(side * side * early[2], COLUMN)
        self.location_code = LocationCode(COLUMN, max(late[:2]))
        self.mlp = perceptron((2 * COLUMN + early[2], HIDDEN, HIDDEN, late[2]))

    def student(self, x: Tensor) -> Tensor:
        h, w = self.late[:2]
        return self._ask(x, grid_queries(h, w, device=x.device)).unflatten(1, (h, w))

    def ask(self, early: Tensor, queries: Tensor) -> Tensor:
        """(B, h, w, D) and (N, 2) locations in [0, 1]^2 -> (B, N, F)."""
        x = (early - self.early_mean) / self.early_std
        return self._ask(x, check_queries(queries)) * self.late_std + self.late_mean

    def _ask(self, x: Tensor, queries: Tensor) -> Tensor:
        T = self.fold(resample(x, *self.pooled).flatten(1))
        h, w = (min(a, b) for a, b in zip(x.shape[1:3], self.late[:2], strict=True))
        local = sample_at(resample(x, h, w), queries)
        p = self.location_code(queries).expand(len(x), -1, -1)
        return self.mlp(torch.cat([T[:, None].expand(-1, len(queries), -1), p, local], dim=-1))


class ConvStudent(Student):
    """Three 3 x 3 convolutions, the first ones striding down to the later grid's size, then a 1 x 1."""

    def __init__(self, early: Shape, late: Shape) -> None:
        super().__init__(early, late)
        self.seen = tuple(min(a, FINER * b) for a, b in zip(early[:2], late[:2], strict=True))
        strides = _strides(min(a // b for a, b in zip(self.seen, late[:2], strict=True)))
        layers: list[nn.Module] = []
        width = early[2]
        for stride in strides:
            layers += [nn.Conv2d(width, CHANNELS, 3, stride, 1), nn.GELU()]
            width = CHANNELS
        self.convs = nn.Sequential(*layers, nn.Conv2d(width, late[2], 1))

    def student(self, x: Tensor) -> Tensor:
        x = rearrange(resample(x, *self.seen), "b h w d -> b d h w")
        return resample(rearrange(self.convs(x), "b d h w -> b h w d"), *self.late[:2])


def _strides(ratio: int) -> tuple[int, int, int]:
    return (2 if ratio >= 2 else 1, 2 if ratio >= 4 else 1, 1)


def perceptron(widths: tuple[int, ...]) -> nn.Sequential:
    """Linear layers with GELU between them."""
    layers: list[nn.Module] = []
    for i in range(len(widths) - 1):
        layers += [nn.Linear(widths[i], widths[i + 1]), nn.GELU()]
    return nn.Sequential(*layers[:-1])


def make_student(name: str, early: Shape, late: Shape, seed: int = 0) -> Student:
    """A student by name with seeded weights.

    Args:
        early, late: (h, w, D) of the two layers' grids.

    Raises:
        InputError: an unknown name.
    """
    kinds: dict[str, Callable[[Shape, Shape], Student]] = {
        "linear": LinearStudent,
        "mlp": MLPStudent,
        "apm": APMStudent,
        "conv": ConvStudent,
    }
    if name not in kinds:
        raise unknown("student", name, STUDENTS)
    with fixed_seed(seed):
        return kinds[name](early, late)


def fit(
    student: Student,
    early: Tensor,
    late: Tensor,
    epochs: int = 30,
    batch: int = 32,
    lr: float = 1e-3,
    seed: int = 0,
    views: int = 1,
) -> Iterator[Event]:
    """Train a student in place by MSE, with an event after every epoch.

    The linear one is solved in one step. For the others a tenth of the pictures checks every epoch, and the weights of
    the epoch that did best on it are kept; AdamW, the rate falling to nothing as a cosine.

    Args:
        early, late: (n, h, w, D) and (n, h', w', F) training grids, float32 or float16, in memory or mapped from a
            file; moved to the student's device as float32 batch by batch.
        epochs, batch, lr: of AdamW. batch in pictures.
        views: V; the n rows are n / V pictures, then another view of each in the same order, and so on. An epoch shows
            every picture once, in a view drawn at random; a picture that checks is trained on in no view.

    Yields:
        in `values`, `loss` and `check`: mean squared errors over the training variance, 1 being the mean feature.

    Raises:
        InputError: grids that do not belong together, fewer than 2 pictures, rows that V does not divide.
        RunError: a loss that is not finite.
    """
    if len(early) != len(late) or len(early) < 2:
        raise InputError(f"a student needs as many early as late grids, at least 2, got {len(early)} and {len(late)}")
    if views < 1 or len(early) % views or len(early) < 2 * views:
        raise InputError(f"{len(early)} grids are not {views} views of two or more pictures")
    variance = student.standardise(early, late)
    device = student.late_mean.device
    if isinstance(student, LinearStudent):
        student.solve(early, late)
        loss = mean_error(student, early, late, batch) / variance
        yield Event("fitting", epochs, epochs, values={"loss": loss, "check": loss})
        return
    generator = torch.Generator().manual_seed(seed)
    pictures = len(early) // views
    order = torch.randperm(pictures, generator=generator)
    check, rows = order[: max(1, len(order) // 10)], order[max(1, len(order) // 10) :]
    optimiser = torch.optim.AdamW(student.parameters(), lr=lr, weight_decay=0.05)
    steps = epochs * math.ceil(len(rows) / batch)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, steps)
    best, kept = float("inf"), {name: value.clone() for name, value in student.state_dict().items()}
    for epoch in range(epochs):
        total = 0.0
        shown = rows[torch.randperm(len(rows), generator=generator)]
        if views > 1:
            shown = shown + pictures * torch.randint(views, (len(rows),), generator=generator)
        for part in shown.split(batch):
            shown_early, shown_late = (grids[part].to(device, torch.float32) for grids in (early, late))
            error = F.mse_loss(student(shown_early), shown_late) / variance
            optimiser.zero_grad(set_to_none=True)
            error.backward()
            optimiser.step()
            schedule.step()
            total += float(error.detach()) * len(part)
        found = mean_error(student, early[check], late[check], batch) / variance
        if not math.isfinite(total) or not math.isfinite(found):
            raise RunError(f"the student's loss is not finite in epoch {epoch + 1}; try a lower rate than {lr}")
        if found < best:
            best, kept = found, {name: value.clone() for name, value in student.state_dict().items()}
        yield Event("fitting", epoch + 1, epochs, values={"loss": total / len(rows), "check": found})
    student.load_state_dict(kept)


@torch.no_grad()
def mean_error(student: Student, early: Tensor, late: Tensor, batch: int = 32) -> float:
    """Mean squared error over all numbers of (n, h', w', F)."""
    device, total = student.late_mean.device, 0.0
    for a, b in zip(early.split(batch), late.split(batch), strict=True):
        found = student(a.to(device, torch.float32))
        total += float((found - b.to(device, torch.float32)).square().sum())
    return total / late.numel()


@torch.no_grad()
def moments(grids: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and variance of each channel of (n, h, w, D) grids of any precision, (D,) float64, a few grids at a time."""
    count = grids[..., 0].numel()
    parts = [part.flatten(0, 2) for part in grids.split(CHUNK)]
    mean = torch.stack([part.double().sum(0) for part in parts]).sum(0) / count
    return mean, torch.stack([(part.double() - mean).square().sum(0) for part in parts]).sum(0) / count
