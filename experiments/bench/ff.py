"""One forward-forward epoch against the matrix products it is made of, and against two straightforward loops."""

from __future__ import annotations

import itertools
import statistics
import struct
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from experiments.bench.going import SILENT, Going
from experiments.bench.settings import FFBench
from experiments.bench.timing import interleave, observed, precisions_here, ratios, spread
from glom.forward_forward import Learner, preset
from glom.forward_forward.feedforward import FeedForward
from glom.forward_forward.goodness import active_rows, sides
from glom.forward_forward.pictures import read_pictures
from glom.runs.seeds import fixed_seed

SIDE, CLASSES = 28, 10
PICTURES = 60_000  # MNIST's training set, what an epoch is


def pictures(n: int) -> tuple[Tensor, Tensor]:
    """(n, 28, 28) uint8 and labels: noise, since time does not ask what is shown where no row is left out."""
    g = torch.Generator().manual_seed(0)
    images = torch.randint(0, 256, (n, SIDE, SIDE), generator=g, dtype=torch.uint8)
    return images, torch.randint(0, CLASSES, (n,), generator=g)


def real_pictures(mnist: Path | None) -> tuple[Tensor, Tensor]:
    """(N, 28, 28) uint8 and labels: MNIST's training split, or scikit-learn's 1,797 digits of 8 x 8, enlarged.

    Raises:
        InputError: no MNIST in that folder.
    """
    if mnist is not None:
        found = read_pictures("mnist", "train", mnist)
        return found.images[:, 0], found.labels
    from sklearn.datasets import load_digits

    digits = load_digits()
    images = torch.from_numpy(digits.images).float()[:, None] * (255 / 16)
    large = F.interpolate(images, (SIDE, SIDE), mode="bilinear")[:, 0]
    return large.round().to(torch.uint8), torch.from_numpy(digits.target)


class StepProducts:
    """The products of one supervised step, forward and backward, on tensors allocated once.

    The first layer meets every picture once (its label only adds a row, see `FeedForward`); the others see right and
    neutral labels together, then wrong ones, and one gradient over right and wrong.
    """

    def __init__(self, sizes: list[int], batch: int, dtype: torch.dtype) -> None:
        first = [(batch, sizes[0], sizes[1], False), (batch, sizes[0], sizes[1], True)]
        rest = [
            (rows * batch, i, o, backward)
            for i, o in itertools.pairwise(sizes[1:])
            for rows, backward in ((2, False), (1, False), (2, True))
        ]
        self.flops = sum(2 * n * i * o for n, i, o, _ in first + rest)
        # As published: right, wrong and neutral rows forward, right and wrong ones back, through every layer.
        self.model_flops = sum(2 * 5 * batch * i * o for i, o in itertools.pairwise(sizes))
        g = torch.Generator().manual_seed(0)

        def draw(*shape: int) -> Tensor:
            return torch.randn(*shape, generator=g).to(dtype)

        # Weights in the memory order of `Dense`, the quicker one.
        self._work = [(draw(n, i), draw(o, i).T, draw(n, o), backward) for n, i, o, backward in first + rest]

    def __call__(self) -> None:
        for x, W, y, backward in self._work:
            if backward:
                torch.mm(x.T, y, out=W)
            else:
                torch.mm(x, W, out=y)


class StraightLayer(nn.Linear):
    """A layer as most write it: normalise, rectify, logistic of the mean square, autograd, an Adam of its own."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__(inputs, outputs)
        self.optimizer = torch.optim.Adam(self.parameters(), lr=0.03)

    def forward(self, x: Tensor) -> Tensor:
        return torch.relu(super().forward(x / (x.norm(2, 1, keepdim=True) + 1e-4)))

    def learn(self, right: Tensor, wrong: Tensor) -> tuple[Tensor, Tensor]:
        """One step; returns what the next layer gets."""
        high, low = self(right).pow(2).mean(1), self(wrong).pow(2).mean(1)
        loss = F.softplus(torch.cat([2.0 - high, low - 2.0])).mean()
        self.optimizer.zero_grad()
        loss.backward()
        self.optimizer.step()
        with torch.no_grad():
            return self(right), self(wrong)


def straight_loop(sizes: list[int], batches: Callable[[], Iterator[tuple[Tensor, Tensor]]]) -> Callable[[], None]:
    """Steps of such layers over batches (B, 784) and labels: uniform wrong labels, no read-out, no neutral pass."""
    g = torch.Generator().manual_seed(2)
    with fixed_seed():
        layers = [StraightLayer(i, o) for i, o in itertools.pairwise(sizes)]

    def overlay(x: Tensor, labels: Tensor) -> Tensor:
        x = x.clone()
        x[:, :CLASSES] = F.one_hot(labels, CLASSES)
        return x

    def run() -> None:
        for x, labels in batches():
            right = overlay(x, labels)
            wrong = overlay(x, (labels + torch.randint(1, CLASSES, labels.shape, generator=g)) % CLASSES)
            for layer in layers:
                right, wrong = layer.learn(right, wrong)

    return run


class OwnSteps:
    """Steps of `Learner`, its pictures gathered from a tensor as in a training; each call goes on where it was.

    Args:
        images, labels: (N, 28, 28) uint8, (N,).
    """

    def __init__(self, settings: FFBench, images: Tensor, labels: Tensor, precision: str) -> None:
        asked = preset("supervised", widths=settings.widths, precision=precision)
        self.learner = Learner((1, SIDE, SIDE), CLASSES, asked, torch.device("cpu"))
        network = self.learner.network
        assert isinstance(network, FeedForward)
        self.network, self.settings, self.labels = network, settings, labels
        self.held = (images.float() / 255)[:, None].to(self.learner.dtype)
        self.generator = torch.Generator().manual_seed(0)

    def run(self, steps: int, sparse: bool) -> None:
        """So many steps; `sparse`: rows that a gradient cannot feel are left out, as a training does."""
        self.network.sparse = sparse
        while steps > 0:
            order = torch.randperm(len(self.held), generator=self.generator).split(self.settings.batch)[:steps]
            for index in order:
                self.learner.learn(self.held[index], self.labels[index], 1.0, self.generator)
            steps -= len(order)

    def as_trained(self) -> None:
        self.run(self.settings.steps, True)

    def every_row(self) -> None:
        self.run(self.settings.steps, False)

    def felt(self) -> list[float]:
        """The share of rows, of both signs, that each layer's gradient can feel, over the next steps."""
        seen: list[list[float]] = []
        for index in torch.randperm(len(self.held), generator=self.generator).split(self.settings.batch)[:10]:
            x = self.held[index].flatten(1)
            x[:, :CLASSES] = 0
            _, squares = self.network.learn(x, self.labels[index], 1.0, self.generator)
            push = self.network.settings.rule.push(squares, self.network.units, sides(len(x), x.device))
            rows = [active_rows(p) for p in push]
            seen.append([1.0 if r is None else len(r) / len(p) for r, p in zip(rows, push, strict=True)])
        return [statistics.mean(layer) for layer in zip(*seen, strict=True)]


def sample_loader(folder: Path, images: Tensor, labels: Tensor, batch: int) -> Any:
    """torchvision's MNIST read from its raw files, one transformed picture at a time."""
    from torchvision.datasets import MNIST
    from torchvision.transforms import Compose, Lambda, Normalize, ToTensor

    raw = folder / "MNIST" / "raw"
    raw.mkdir(parents=True)
    for name in ("train", "t10k"):
        shape = struct.pack(">4i", 2051, *images.shape)
        (raw / f"{name}-images-idx3-ubyte").write_bytes(shape + images.numpy().tobytes())
        few = labels.to(torch.uint8).numpy().tobytes()
        (raw / f"{name}-labels-idx1-ubyte").write_bytes(struct.pack(">2i", 2049, len(labels)) + few)
    transform = Compose([ToTensor(), Normalize((0.1307,), (0.3081,)), Lambda(torch.flatten)])
    return torch.utils.data.DataLoader(MNIST(str(folder), transform=transform), batch_size=batch, shuffle=True)


def _figures(seconds: dict[str, list[float]], done: int, published: int, large: int) -> dict[str, list[float]]:
    """Ratios, round by round: of operations `done` in the timed steps, those that the `published` algorithm does, and
    of a product of `large` x `large`."""

    def of_large(flops: int, mine: list[float]) -> list[float]:
        return [(flops / m) / (2 * large**3 / big) for m, big in zip(mine, seconds["large product"], strict=True)]

    own, by_sample = seconds["own fp32"], seconds["autograd, sample by sample"]
    found = {
        "matmul_share": ratios(seconds["products fp32"], own),
        "large_share": of_large(done, own),
        "model_share": of_large(published, own),
        "trained_model_share": of_large(published, seconds["own fp32, as trained"]),
        "every_row_over_trained": ratios(seconds["the same, every row"], seconds["own fp32, as trained"]),
        "over_autograd": ratios(seconds["autograd, tensors"], own),
        "over_per_sample": ratios(by_sample, own),
        "trained_over_per_sample": ratios(by_sample, seconds["own fp32, as trained"]),
    }
    if "own bf16" in seconds:
        found["matmul_share_bf16"] = ratios(seconds["products bf16"], seconds["own bf16"])
        found["bf16_over_per_sample"] = ratios(by_sample, seconds["own bf16"])
    return found


def run_ff(settings: FFBench, tell: Going = SILENT, mnist: Path | None = None) -> dict[str, Any]:
    """Time all of it in turn; ratios are taken round by round.

    Args:
        mnist: the folder of MNIST, for what is timed as trained.

    Returns:
        the headline figures, their `spread`, seconds for `steps` steps by name, and under `others` how many cores the
        rest of the machine had meanwhile. What is of bf16 is None on a processor without such products. Shares of a
        large product's rate: `model_share` counts the operations of the algorithm as published (model FLOPs
        utilisation: what is saved counts as done), `large_share` those that are carried out, both with every row in
        every gradient. `trained_model_share` is the first on real pictures after `settings.trained` steps; `felt` the
        share of rows that each layer's gradient feels at the end, the timed steps having trained on.
    """
    sizes = [SIDE * SIDE, *settings.widths]
    trained = OwnSteps(settings, *real_pictures(mnist), "fp32")
    tell(f"training for {settings.trained} steps")
    trained.run(settings.trained, True)
    images, labels = pictures(settings.steps * settings.batch)
    flat = images.flatten(1).float() / 255
    single = StepProducts(sizes, settings.batch, torch.float32)
    g = torch.Generator().manual_seed(1)
    large_product = _large_product(settings.large, g)

    def batches() -> Iterator[tuple[Tensor, Tensor]]:
        for index in torch.randperm(len(flat), generator=g).split(settings.batch):
            yield flat[index], labels[index]

    with tempfile.TemporaryDirectory() as folder:
        loader = sample_loader(Path(folder), images, labels, settings.batch)
        work: dict[str, Callable[[], object]] = {
            "own fp32": OwnSteps(settings, images, labels, "fp32").every_row,
            "products fp32": _repeated(single, settings.steps),
            "large product": large_product,
            "own fp32, as trained": trained.as_trained,
            "the same, every row": trained.every_row,
            "autograd, tensors": straight_loop(sizes, batches),
            "autograd, sample by sample": straight_loop(sizes, lambda: iter(loader)),
        }
        if "bf16" in precisions_here():
            work["own bf16"] = OwnSteps(settings, images, labels, "bf16").every_row
            half = StepProducts(sizes, settings.batch, torch.bfloat16)
            work["products bf16"] = _repeated(half, settings.steps)
        seconds: dict[str, list[float]] = {}
        meanwhile = observed(lambda: seconds.update(interleave(work, settings.rounds, tell=tell)))
    own, large = seconds["own fp32"], seconds["large product"]
    work_done = settings.steps * single.flops
    found = _figures(seconds, work_done, settings.steps * single.model_flops, settings.large)
    epoch = PICTURES / (settings.steps * settings.batch)
    return {
        **dict.fromkeys(("matmul_share_bf16", "bf16_over_per_sample")),
        **{k: statistics.median(v) for k, v in found.items()},
        "epoch_seconds": {k: round(epoch * statistics.median(seconds[k]), 3) for k in seconds if k != "large product"},
        "gflops": round(work_done / statistics.median(own) / 1e9, 1),
        "large_gflops": round(2 * settings.large**3 / statistics.median(large) / 1e9, 1),
        "felt": [round(v, 3) for v in trained.felt()],
        "others": meanwhile.others,
        "spread": {k: spread(v) for k, v in found.items()},
        "seconds": {k: spread(v) for k, v in seconds.items()},
        "asked": asdict(settings),
    }


def _large_product(side: int, generator: torch.Generator) -> Callable[[], object]:
    a, b = (torch.randn(side, side, generator=generator) for _ in range(2))
    return partial(torch.mm, a, b, out=torch.empty_like(a))


def _repeated(products: StepProducts, times: int) -> Callable[[], None]:
    def run() -> None:
        for _ in range(times):
            products()

    return run
