"""`apm bench execution`: one test-time iteration as published, plain at its best, and in every execution.

An iteration is forward, backward and the optimiser's step on one picture, token loss, the teacher left out on all
sides. Headline figures are medians of ratios taken round by round.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict
from typing import Any

import torch

from experiments.bench.adaptation import extrapolated_adaptation, measure_adaptation
from experiments.bench.apart import Apart
from experiments.bench.equality import measure_bf16_token, measure_differences
from experiments.bench.going import SILENT, Going
from experiments.bench.published import CHUNK, COPIES, ITERATIONS, published_apm, published_optimiser, published_step
from experiments.bench.settings import ExecutionSettings
from experiments.bench.steps import Step
from experiments.bench.timing import (
    Products,
    Round,
    beyond,
    flops,
    interleave,
    observed,
    precisions_here,
    products,
    ratios,
    spread,
)
from glom.adaptation.settings import ttt_preset
from glom.allocator import keep_freed_memory
from glom.apm import APMConfig, preset
from glom.execution import StackedAPM

NOTES = {
    "published": "full iterations in a process of their own, none sampled; 8 copies, chunks of 16, colours computed, "
    "unfused Adam, teacher left out",
    "per image": f"{ITERATIONS} x the measured published iteration, an extrapolation",
}

FEW = {
    "published": "a few chunks and three times as many, in a process of their own; all of them, and the adaptation's "
    "steps, are extrapolated along the line through both",
}
OF_BF16 = (
    "bf16_over_best_plain",
    "bf16_over_best_plain_bf16",
    "matmul_share_bf16",
    "fast_bf16_over_published_per_image",
)
QUIET = 0.1
"""Cores that other programs may have in a round of the published iteration."""


def run_execution(settings: ExecutionSettings, tell: Going = SILENT) -> dict[str, Any]:
    """Measure everything; see the module.

    Returns:
        folded_over_published, folded_over_best_plain, bf16_over_best_plain: medians of ratios.
        matmul_share: of the rate that the folded step's own matrix products reach alone, 0 to 1.
        max_output_difference, max_gradient_difference: folded, streamed and stacked against plain, float32, absolute.
        fast_over_published_per_image: 1,200 published iterations, extrapolated, over a whole `fast` adaptation.
        What is of bf16 is None where the processor has no such products.
        spread: minimum, median, maximum of each ratio. rows: seconds an iteration (of one sample), of everything.
        differences, bf16, adaptation, gpu: the details.
    """
    kept = keep_freed_memory()
    config = preset(settings.apm, features=settings.features, rgb=None)
    tell.expect(rows_to_come(settings))
    tell("comparing outputs and gradients")
    differences = measure_differences(config, settings.seed, settings.compared)
    here = precisions_here()
    bf16 = measure_bf16_token(config, settings.seed) if "bf16" in here else None

    tell(f"{settings.apm}: timing every execution side by side")
    steps = {**single_steps(config, settings.seed), **stacked_steps(config, settings.stacks, settings.seed)}
    work = products(config, config.cells**2, folded=True)
    dtypes = {"fp32": torch.float32, "bf16": torch.bfloat16}
    roofs = {f"products {precision}": Products(work, dtypes[precision]) for precision in here}
    seconds = interleave({**roofs, **steps}, settings.rounds, settings.warmup, tell=tell, about=settings.apm)
    del roofs, steps

    few = settings.published_chunks
    tell(f"the published iteration: {f'{few} and {3 * few} of its chunks' if few else 'this takes a while'}")
    slow = published_against_folded(settings, tell)
    published = slow["published"]
    adaptation = _adaptation(settings, tell)
    per_image = {
        precision: [ITERATIONS * p / a for p in published for a in seconds_each]
        for precision, seconds_each in adaptation.pop("seconds_list").items()
    }
    found = _compared(seconds, slow) | {"fast_over_published_per_image": per_image["fp32"]}
    if "bf16" in per_image:
        found["fast_bf16_over_published_per_image"] = per_image["bf16"]
    how = f", from {few} and {3 * few} of {chunks_of(config)} chunks" if few else ""
    kinds = {"": published, ", memory kept": slow["published, memory kept"]}
    rows = [_row(settings.apm, f"as published{kind}{how}", taken, None) for kind, taken in kinds.items()]
    rows += [_row(settings.apm, name, seconds[name], samples_of(name)) for name in seconds]
    small = []
    for name, width in settings.small:
        if tell.fits():
            small += small_rows(name, width, settings, tell)
        else:
            tell.skip(f"{name}, {width}-d token", small_rows_to_come(settings))
    spreads = {name: spread(values) for name, values in found.items()}
    return {
        **dict.fromkeys(OF_BF16),
        **{name: value["median"] for name, value in spreads.items()},
        "max_output_difference": differences["float32"]["max_output_difference"],
        "max_gradient_difference": differences["float32"]["max_gradient_difference"],
        "spread": spreads,
        "gflop_per_iteration": _gflop(config),
        "rows": rows + small,
        "fastest_stack": fastest_stacks(rows + small),
        "differences": differences,
        "bf16": bf16,
        "adaptation": adaptation,
        "gpu": None,  # `apm bench device` measures one
        "notes": {
            **NOTES,
            **(FEW if few else {}),
            "freed memory kept": kept,
            "cores others had in the published rounds used": slow["others"],
        },
        "asked": asdict(settings),
    }


def rows_to_come(s: ExecutionSettings) -> int:
    """Of all of it: what is timed side by side, the published rounds, the adaptation, the small machines."""
    kinds = len(precisions_here())
    adapting = kinds * (2 * 2 if s.adapt_steps else (1 + bool(s.teacher)) * (s.adapt_rounds + 1))
    side_by_side = (s.rounds + s.warmup) * (1 + 3 * kinds + len(s.stacks))
    return side_by_side + 3 * s.published_rounds + adapting + len(s.small) * small_rows_to_come(s)


def small_rows_to_come(s: ExecutionSettings) -> int:
    """Of one small machine."""
    return (s.rounds + s.warmup) * (1 + len(precisions_here()) + len(s.small_stacks))


def _adaptation(settings: ExecutionSettings, tell: Going) -> dict[str, Any]:
    """A whole picture's, or a few steps' of it."""
    adapting, width, seed = ttt_preset(settings.adapt_preset, apm=settings.apm), settings.features, settings.seed
    if settings.adapt_steps:
        return extrapolated_adaptation(adapting, width, settings.adapt_steps, seed, tell)
    return measure_adaptation(adapting, width, settings.teacher, settings.adapt_rounds, seed, tell)


def _compared(seconds: dict[str, list[float]], slow: dict[str, Any]) -> dict[str, list[float]]:
    """Ratios, round by round, of what was timed side by side."""
    best_plain = seconds["plain, best"]
    found = {
        "folded_over_published": ratios(slow["published"], slow["folded"]),
        "folded_over_published_memory_kept": ratios(slow["published, memory kept"], slow["folded"]),
        "folded_over_best_plain": ratios(best_plain, seconds["folded"]),
        "matmul_share": ratios(seconds["products fp32"], seconds["folded"]),
    }
    if "folded, bf16" in seconds:
        found["bf16_over_best_plain"] = ratios(best_plain, seconds["folded, bf16"])
        found["bf16_over_best_plain_bf16"] = ratios(seconds["plain, bf16"], seconds["folded, bf16"])
        found["matmul_share_bf16"] = ratios(seconds["products bf16"], seconds["folded, bf16"])
    return found


def _gflop(config: APMConfig) -> dict[str, float]:
    """Operations of one iteration's matrix products, in 1e9."""
    columns = config.cells**2
    plain = flops(products(config, columns, folded=False))
    return {
        "plain": plain / 1e9,
        "folded": flops(products(config, columns, folded=True)) / 1e9,
        "plain, the fold not trained": (plain - 2 * columns * 2 * columns * config.channels * config.trunk[0]) / 1e9,
    }


def _row(apm: str, name: str, seconds: list[float], samples: int | None) -> dict[str, Any]:
    each = [s / (samples or 1) for s in seconds]
    return {"apm": apm, "name": name, "seconds": spread(each), "stack": samples}


def samples_of(name: str) -> int | None:
    """S of a stacked row's name, None for others.

    Example:
        >>> samples_of("stacked, S = 4"), samples_of("folded")
        (4, None)
    """
    return int(name.rpartition("= ")[2]) if name.startswith("stacked") else None


def fastest_stacks(rows: list[dict[str, Any]]) -> dict[str, int]:
    """By APM, the S whose iteration takes a sample least time."""
    best: dict[str, tuple[float, int]] = {}
    for row in rows:
        if row["stack"]:
            best[row["apm"]] = min(
                best.get(row["apm"], (float("inf"), 0)), (float(row["seconds"]["median"]), int(row["stack"]))
            )
    return {apm: stack for apm, (_, stack) in best.items()}


def single_steps(
    config: APMConfig, seed: int, names: tuple[str, ...] = (), device: torch.device | None = None
) -> dict[str, Callable[[], None]]:
    """An iteration of one sample by name; all share one APM and one fused Adam, which is what the next step gets.

    Those of bf16 are left out on a processor without such products.
    """
    step = Step(config, seed, device)
    queries = step.apm.default_queries(step.image)
    rows: dict[str, tuple[str, bool]] = {
        "plain, best": ("plain", False),
        "folded": ("folded", False),
        "streamed": ("streamed", False),
        "plain, bf16": ("plain", True),
        "folded, bf16": ("folded", True),
    }
    if device is None and "bf16" not in precisions_here():
        rows = {name: row for name, row in rows.items() if not row[1]}
    return {name: (lambda r=row: step(r[0], queries, r[1])) for name, row in rows.items() if not names or name in names}  # type: ignore[misc]


def stacked_steps(
    config: APMConfig, stacks: tuple[int, ...], seed: int, device: torch.device | None = None, bf16: bool = False
) -> dict[str, Callable[[], None]]:
    """An iteration of S stacked samples, by name, with a stack of its own for each S."""

    def make(samples: int) -> Callable[[], None]:
        g = torch.Generator().manual_seed(seed)
        images = torch.randn(samples, 3, config.image_size, config.image_size, generator=g).to(device)
        targets = torch.randn(samples, config.features, generator=g).to(device)
        stack = StackedAPM(config, samples)
        stack.reset([torch.Generator().manual_seed(seed + s) for s in range(samples)], "default")
        stack.to(device)
        optimiser = torch.optim.Adam(stack.parameters(), lr=1e-4, fused=True)

        def step() -> None:
            optimiser.zero_grad(set_to_none=True)
            with torch.autocast(images.device.type, torch.bfloat16, enabled=bf16):
                token = stack(images).token
            assert token is not None
            ((token.float() - targets) ** 2).mean(-1).sum().backward()
            optimiser.step()

        return step

    return {f"stacked, S = {samples}": make(samples) for samples in stacks}


def chunks_of(config: APMConfig) -> int:
    """Chunks of a published iteration on the whole grid."""
    return -(-COPIES * config.cells**2 // CHUNK)


def make_published(apm: str, features: int, seed: int, threads: int, keep: bool, few: int = 0) -> Callable[[], Round]:
    """In a process of its own: the published iteration, timed; `keep` gives it our allocator's settings too.

    `few`: by so many chunks and three times as many; the seconds are those of all, on the line through both.
    """
    torch.set_num_threads(threads)
    if keep:
        keep_freed_memory()
    config = preset(apm, features=features)
    machine = published_apm(config, seed)
    optimiser = published_optimiser(machine)
    g = torch.Generator().manual_seed(seed)
    image = torch.randn(1, 3, config.image_size, config.image_size, generator=g)
    target = torch.randn(1, features, generator=g)

    def timed(chunks: int) -> Round:
        return observed(lambda: published_step(machine, optimiser, image, target, chunks=chunks))

    def run() -> Round:
        if not few:
            return timed(0)
        one, three = timed(few), timed(3 * few)
        return Round(beyond((few, one.seconds), (3 * few, three.seconds), chunks_of(config)), one.others)

    if few:
        timed(few)  # the first step makes the optimiser's state, which a line through two steps would multiply
    return run


def published_against_folded(settings: ExecutionSettings, tell: Going = SILENT) -> dict[str, list[float]]:
    """Seconds of full published iterations, and of the folded ones run between them.

    Published iterations run in other processes: "published" with the C library's memory as it comes, which is how
    the release runs, "published, memory kept" with ours. Its thousands of short products wait for one another, so that
    another program on the machine slows it far more than it slows the folded step: rounds in which others had more
    than `QUIET` of a core are left out where quieter ones exist. "others" says how much they had in those used.
    """
    config = preset(settings.apm, features=settings.features, rgb=None)
    folded = single_steps(config, settings.seed, ("folded",))["folded"]
    folded()
    rounds: list[tuple[Round, Round, Round]] = []
    arguments = (settings.apm, settings.features, settings.seed, torch.get_num_threads())
    # `apm` has waiting threads sleep, which slows short products; the release's wait as the library lets them.
    few, without = settings.published_chunks, ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT")
    apart = [Apart(make_published, *arguments, keep, few, without=without) for keep in (False, True)]
    with apart[0] as as_it_comes, apart[1] as kept:
        for _ in range(settings.published_rounds):
            folded()
            rounds.append((observed(folded), as_it_comes.ask(), kept.ask()))
            for name, one in zip(("folded, beside it", "as published", "as published, memory kept"), rounds[-1]):
                tell.row(name, one.seconds, extrapolated=bool(few and name[0] == "a"))
    disturbed = [max(one.others for one in each) for each in rounds]
    used = [each for each, others in zip(rounds, disturbed, strict=True) if others <= max(QUIET, min(disturbed))]
    names = ("folded", "published", "published, memory kept")
    found = {name: [each[i].seconds for each in used] for i, name in enumerate(names)}
    return {**found, "others": [max(one.others for one in each) for each in used]}


def small_rows(name: str, width: int, settings: ExecutionSettings, tell: Going = SILENT) -> list[dict[str, Any]]:
    """Plain, folded and stacked iterations of a smaller preset."""
    config = preset(name, features=width, rgb=None)
    steps = single_steps(config, settings.seed, ("plain, best", "folded", "folded, bf16"))
    steps |= stacked_steps(config, settings.small_stacks, settings.seed)
    seconds = interleave(steps, settings.rounds, settings.warmup, tell=tell, about=name)
    return [_row(name, row, seconds[row], samples_of(row)) for row in steps]
