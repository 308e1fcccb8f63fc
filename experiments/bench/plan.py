"""`apm bench plan`: hours, memory and cost of test-time training over a large data set, by part, from stated rates.

A picture takes, on one GPU,

    reading      the slower of its cores and of its share of the disk; beside all else
    encoding     2 madds of the teacher / (share x rate)
    drawing      the machine's weights, by the cores beside the GPU, one a machine, and their way to the GPU
    adaptation   K (2 madds of a step / (share x rate) + passes x parameters x 4 bytes / (share x memory's rate))
                 + one read-out of the whole grid

and pictures do not wait for one another: the longer of reading and of the rest, summed. A step on few locations meets
each weight about once for every pass over it: what it takes is mostly the memory's rate, not the products'.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Generator, Iterator
from dataclasses import dataclass, fields, replace
from typing import Any, TypedDict

from experiments.bench.compute_arithmetic import Cost, apm_folded, apm_parameters, clip_image
from experiments.bench.settings import PlanSettings
from glom.adaptation.settings import TTTSettings, ttt_preset
from glom.apm import APMConfig
from glom.errors import InputError
from glom.runs.artifacts import public_name
from glom.runs.events import Event

TOWERS: dict[str, Cost] = {
    "ViT-B-16": clip_image(),
    "ViT-L-14": clip_image(side=16, patch=14, width=1024, layers=24, out=768),
}
WIDTHS = {"ViT-B-16": 512, "ViT-L-14": 768}
PASSES = 10
"""Over the parameters a step: weights twice, the gradient written and read, both of Adam's moments and the weights read
and written, and the gradient's memory cleared."""
STATE = 16  # bytes a parameter that is adapted: weight, gradient, two moments
RESULT = 260  # bytes that a run writes for a picture: a line of results.jsonl and one of timing.jsonl
PARTS = ("reading", "encoding", "drawing", "adaptation")


class Row(TypedDict):
    """One data set on so many GPUs: hours by part, the longest of what goes on at once, GB, and the cost."""

    pictures: int
    gpus: int
    hours: float
    by_part: dict[str, float]
    bound: str
    gpu_hours: float
    cost: float
    cost_by_part: dict[str, float]
    gpu_gb: float
    disk_gb: float
    written_gb: float


class Plan(TypedDict):
    """`rows`; `work`, a picture's; `assumptions`, each with its option; `here`, what was measured, if it was."""

    rows: list[Row]
    work: dict[str, float]
    assumptions: list[dict[str, Any]]
    here: dict[str, Any] | None


@dataclass(frozen=True)
class Work:
    """What one picture asks for: multiply-adds, and numbers that are passed over or drawn (0: one machine for all)."""

    encode: int
    step: int
    readout: int
    steps: int
    parameters: int
    drawn: int
    teacher: int

    @classmethod
    def of(cls, s: PlanSettings) -> Work:
        """Of these settings."""
        adaptation = ttt_preset(s.preset, apm=s.apm)
        config, tower = adaptation.config(WIDTHS[s.teacher]), TOWERS[s.teacher]
        return cls(
            encode=s.views * tower.forward(),
            step=asked(config, adaptation).step(),
            readout=apm_folded(config, config.cells).forward(),
            steps=adaptation.iterations,
            parameters=apm_parameters(config),
            drawn=0 if adaptation.solved else apm_parameters(config),
            teacher=tower.parameters,
        )


def asked(config: APMConfig, adaptation: TTTSettings) -> Cost:
    """A step's products: on the whole grid, or on as many points as are drawn, each with a place of its own."""
    count = adaptation.queries
    return apm_folded(config, config.cells) if count is None else apm_folded(config, count, count)


@dataclass(frozen=True)
class Rates:
    """A second, of one device: products in multiply-adds, memory and link in bytes, drawing in numbers."""

    encode: float
    adapt: float
    memory: float
    link: float
    draw: float

    @classmethod
    def of(cls, s: PlanSettings) -> Rates:
        """Of these settings."""
        madds = s.tflops * 1e12 / 2
        memory = s.memory_rate * 1e9 * s.memory_share
        draw = s.draw_rate * 1e9 * min(s.cores, s.stack)
        return cls(madds * s.encode_share, madds * s.adapt_share, memory, s.link * 1e9, draw)

    def seconds(self, work: Work) -> dict[str, float]:
        """Of one picture, by part, without reading."""
        step = work.step / self.adapt + PASSES * 4 * work.parameters / self.memory
        return {
            "encoding": work.encode / self.encode,
            "drawing": work.drawn / self.draw + 4 * work.drawn / self.link,
            "adaptation": work.steps * step + work.readout / self.adapt,
        }


def rows_of(s: PlanSettings) -> Iterator[Row]:
    """A row a data set and number of GPUs."""
    work, rates = Work.of(s), Rates.of(s)
    machines = s.stack if work.drawn else 1
    for pictures, kilobytes, read in zip(s.pictures, s.picture_kb, s.read_rate, strict=True):
        for gpus in s.gpus:
            reading = max(1 / (read * s.cores), 1e3 * kilobytes * gpus / (1e9 * s.disk))
            parts = {"reading": reading, **rates.seconds(work)}
            device = sum(parts.values()) - reading
            scale = pictures / gpus / 3600
            hours = scale * max(reading, device)
            whole = sum(parts.values())
            cost = hours * gpus * s.price
            yield Row(
                pictures=pictures,
                gpus=gpus,
                hours=_short(hours),
                by_part={name: _short(scale * seconds) for name, seconds in parts.items()},
                bound="reading" if reading > device else max(PARTS[1:], key=lambda name: parts[name]),
                gpu_hours=_short(hours * gpus),
                cost=_short(cost),
                cost_by_part={name: _short(cost * seconds / whole) for name, seconds in parts.items()},
                gpu_gb=_short((2 * work.teacher + machines * STATE * work.parameters) / 1e9),
                disk_gb=_short(pictures * kilobytes * 1e3 / 1e9),
                written_gb=_short(pictures * RESULT / 1e9),
            )


def _short(value: float) -> float:
    return float(f"{value:.4g}")


def assumptions(s: PlanSettings) -> list[dict[str, Any]]:
    """Every setting that a figure depends on, its option, what it is, and what it is set to."""
    named = [one for one in fields(s) if one.name not in ("measure", "data")]
    return [{"setting": one.name, "value": _plain(getattr(s, one.name)), "what": one.metadata["help"]} for one in named]


def _plain(value: Any) -> Any:
    return list(value) if isinstance(value, tuple) else value


def run(settings: PlanSettings) -> Iterator[Event[Plan]]:
    """The plan.

    Raises:
        InputError: not as many sizes and reading rates as data sets.
    """
    s = settings
    if not len(s.pictures) == len(s.picture_kb) == len(s.read_rate):
        raise InputError("`pictures`, `picture_kb` and `read_rate` need one number a data set each")
    work = Work.of(s)
    here = None
    if s.measure:
        here = yield from measured(s, work)
    told = {"encode_gmadds": work.encode / 1e9, "step_gmadds": work.step / 1e9, "readout_gmadds": work.readout / 1e9,
            "steps": work.steps, "parameters_m": work.parameters / 1e6, "teacher_m": work.teacher / 1e6}  # fmt: skip
    plan: Plan = {
        "rows": list(rows_of(s)),
        "work": {name: _short(value) for name, value in told.items()},
        "assumptions": assumptions(s),
        "here": here,
    }
    yield Event(result=plan)


def measured(s: PlanSettings, work: Work) -> Generator[Event[Plan], None, dict[str, Any]]:
    """The same arithmetic with this machine's own rates, beside what one picture takes here in one thread, fp32."""

    def done(count: int, of: str) -> Event[Plan]:
        return Event("measuring", count, 6, values={"": of})

    import torch

    from experiments.bench.adaptation import random_case
    from experiments.bench.compute_models import clip, pictures
    from glom.adaptation.ttt import adapt
    from glom.datasets.registry import open_dataset
    from glom.teachers.registry import load_teacher

    samples = open_dataset(s.data).samples[:20]
    torch.set_num_threads(1)
    a, b = torch.rand(2, 1024, 1024, generator=torch.Generator().manual_seed(0))
    out, large, other = torch.empty_like(a), torch.zeros(2**26), torch.zeros(2**26)
    yield done(0, "products, memory, drawing")
    madds = 1024**3 / _median(lambda: torch.mm(a, b, out=out), 20)
    memory = 2 * 4 * 2**26 / _median(lambda: other.copy_(large), 5)
    draw = work.parameters / _median(lambda: torch.empty(work.parameters).uniform_(-1, 1), 3)
    yield done(3, "encoding")
    rates = Rates(madds, madds, memory, memory, draw)
    modelled = rates.seconds(work)
    tower: Any = clip(model=s.teacher).eval().visual
    with torch.inference_mode():
        encoding = _median(lambda: tower(pictures("cpu")), 3)
    yield done(4, "adaptation")
    few = replace(ttt_preset(s.preset, apm=s.apm, precision="fp32"), stack=1)
    case, head = random_case(few, WIDTHS[s.teacher], 0)
    whole = _median(lambda: adapt(case, few, head, 0), 2)
    yield done(5, "reading")
    teacher = load_teacher("efficientnet-lite0", "cpu")
    reading = _median(lambda: [teacher.preprocess(sample.image()) for sample in samples], 3) / len(samples)
    yield done(6, "")
    both = modelled["drawing"] + modelled["adaptation"]
    return {
        "gmadds_a_second": _short(madds / 1e9),
        "memory_gb_a_second": _short(memory / 1e9),
        "drawn_billions_a_second": _short(draw / 1e9),
        "read": public_name(s.data),
        "read_rate": _short(1 / reading),
        "encoding": {"modelled": _short(modelled["encoding"]), "measured": _short(encoding)},
        "drawing_and_adaptation": {"modelled": _short(both), "measured": _short(whole)},
        "encoding_error": _short(modelled["encoding"] / encoding - 1),
        "adaptation_error": _short(both / whole - 1),
    }


def _median(work: Callable[[], object], rounds: int) -> float:
    """Processor seconds of one thread, the first time thrown away."""
    found = []
    for _ in range(rounds + 1):
        begun = time.process_time()
        work()
        found.append(time.process_time() - begun)
    return statistics.median(found[1:])
