"""What the benchmarks by ratios measure: apart from the work, so that a page of help loads no torch.

Each has two presets: all of it, and a look in a minute or two.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from glom import settings
from glom.settings import Settings, setting

Presets = Mapping[str, Mapping[str, Any]]
SIDES = (7, 14, 28, 56, 112, 224)
QUICK = 120  # seconds of a look; what is being measured then may still end


def grids(default: tuple[int, ...], help: str) -> Any:
    """Sides of square grids."""
    return setting(default, help, least=1)


@dataclass(frozen=True, kw_only=True)
class Ratios(Settings):
    """A benchmark whose presets differ in rounds and sizes."""

    PRESETS: ClassVar[Presets] = {"full": {}, "quick": {}}
    PRESET: ClassVar[str] = "full"
    FLAG: ClassVar[str] = "quick"


def budget(default: int = 0) -> Any:
    """What a benchmark may take."""
    told = "For all of it: what does not fit is left out, and said. 0: what it takes."
    return setting(default, told, least=0)


@dataclass(frozen=True, kw_only=True)
class Timed(Ratios):
    """One that ends in time: of what is measured round by round, one round at least."""

    seconds: int = budget()


@dataclass(frozen=True, kw_only=True)
class Machine(Timed):
    """Of an APM as test-time training adapts it."""

    apm: str = setting("apm-ttt", "The APM's preset.", metavar="PRESET")
    features: int = setting(768, "The token's width.", least=1)


@dataclass(frozen=True, kw_only=True)
class ExecutionSettings(Machine):
    """Of `small`, further (preset, token width), only plain, folded and stacked rows are timed."""

    PRESETS: ClassVar[Presets] = {
        "full": {},
        "quick": {
            "seconds": QUICK, "rounds": 3, "warmup": 1, "published_rounds": 1, "published_chunks": 8,
            "stacks": (1, 2), "small_stacks": (1, 16), "adapt_rounds": 1, "adapt_steps": 3, "compared": 8,
        },
    }  # fmt: skip

    rounds: int = setting(9, "Of the iterations that take less than a second.", least=1)
    warmup: int = setting(2, "Rounds before them.", least=0)
    published_rounds: int = setting(4, "Of the published iteration: 18 to 95 s each.", least=1)
    published_chunks: int = setting(
        0, "Chunks of it that are run, and three times as many; the rest is extrapolated. 0: all.", least=0
    )
    stacks: tuple[int, ...] = setting((1, 2, 4), "Samples of the stacked rows.", least=1)
    small: tuple[tuple[str, int], ...] = (("apm-small", 1280), ("apm-tiny", 128))
    small_stacks: tuple[int, ...] = setting((1, 4, 16, 64), "The same of small machines.", least=1)
    adapt_preset: str = setting("fast", "Of the adaptation that is timed.")
    adapt_rounds: int = setting(3, "Of it.", least=1)
    adapt_steps: int = setting(0, "Steps of it that are run, and 1; the rest is extrapolated. 0: all.", least=0)
    teacher: str = setting("efficientnet-lite0", "Of a real token; empty: random ones alone.", letter="t", metavar="T")
    compared: int = setting(0, "Side of the grid that executions are compared on; 0: the machine's own.", least=0)
    seed: int = settings.seed()


@dataclass(frozen=True, kw_only=True)
class DeviceSettings(Machine):
    """A device against the CPU. Stacks are taken widest first; what the minutes do not allow is named, not measured."""

    PRESETS: ClassVar[Presets] = {
        "full": {},
        "quick": {
            "seconds": QUICK, "apm": "apm-tiny", "features": 128, "stacks": (1, 2), "iterations": 2, "rounds": 1,
            "loops": ("step, folded, attention", "overfitting", "GLOM, mask"),
        },
    }  # fmt: skip

    stacks: tuple[int, ...] = setting((1, 4, 16, 32, 64), "Samples adapted at once.", least=1)
    iterations: int = setting(40, "Steps of an adaptation, the whole grid in each.", least=1)
    rounds: int = setting(3, "Of each.", least=1)
    seconds: int = budget(420)
    loops: tuple[str, ...] = setting((), "Whose equality is looked at, by name.", shown="all")
    device: str = settings.device()


@dataclass(frozen=True, kw_only=True)
class MemorySettings(Machine):
    """The first and the last of the streamed grids make the headline. `threads`: of each process."""

    PRESETS: ClassVar[Presets] = {
        "full": {},
        "quick": {"seconds": QUICK, "sides": (7, 32, 224), "folded_sides": (7, 64), "plain_sides": (7, 64)},
    }

    sides: tuple[int, ...] = grids((7, 32, 224), "Sides of the streamed grids.")
    folded_sides: tuple[int, ...] = grids((7, 64, 128), "Of the folded ones.")
    plain_sides: tuple[int, ...] = grids((7, 64, 128), "Of the plain ones.")
    chunk: int | None = setting(None, "Locations at a time when streamed.", least=1, shown="what suits the machine")
    threads: int = 2


@dataclass(frozen=True, kw_only=True)
class ScalingSettings(Machine):
    """Columns shared by two processes, the last grid making the headline; time against the number of columns."""

    PRESETS: ClassVar[Presets] = {
        "full": {},
        "quick": {
            "seconds": QUICK, "sides": (16, 32, 64), "rounds": 2, "samples_rounds": 1, "iterations": 2,
            "fast_iterations": 4, "growth_sides": (7, 28, 56), "growth_rounds": 1,
        },
    }  # fmt: skip

    sides: tuple[int, ...] = grids((32, 64, 96), "Sides of the grids that are shared.")
    rounds: int = setting(3, "Of each.", least=1)
    warmup: int = setting(1, "Rounds before them.", least=0)
    samples_rounds: int = setting(2, "Of adaptations, two samples each.", least=1)
    iterations: int = setting(12, "Of an adaptation on the whole grid.", least=1)
    fast_iterations: int = setting(40, "Of one on few locations.", least=1)
    growth_sides: tuple[int, ...] = grids(SIDES, "Sides of the grids in one process.")
    growth_rounds: int = setting(2, "Of these.", least=1)
    subset: int = setting(64, "Locations of the row that does not grow.", least=1)
    seed: int = settings.seed()


@dataclass(frozen=True, kw_only=True)
class RanksSettings(Machine):
    """What is measured on 1, 2 and 4 processes here, and what is put together from it for up to 1,024 ranks."""

    PRESETS: ClassVar[Presets] = {
        "full": {},
        "quick": {
            "seconds": QUICK,
            "apm": "apm-small",
            "sides": (16,),
            "step_sides": (4, 8),
            "rounds": 1,
            "iterations": 2,
            "pictures_here": 8,
        },
    }

    sides: tuple[int, ...] = grids((32, 64, 224), "Sides of the grids whose columns are shared; checked up to 64 x 64.")
    step_sides: tuple[int, ...] = grids((8, 16, 24, 32), "Sides of the grids that a step is measured on, one process.")
    rounds: int = setting(5, "Of each.", least=1)
    data: str = settings.data("cifar10-sample", "Pictures that are read.")
    teacher: str = settings.teacher("efficientnet-lite0")
    iterations: int = setting(40, "Steps of a picture's adaptation, on few locations.", least=1)
    pictures_here: int = setting(8, "Pictures that are read, encoded and adapted here.", least=4)
    pictures: int = setting(50_000, "Of the data set that is imagined.", least=1)
    block: int = setting(16, "Pictures that a rank takes at a time.", least=1)
    latency: float = setting(0, "Of the network between ranks, microseconds.", least=0, shown="as here")
    bandwidth: float = setting(0, "Of the network between ranks, GB a second each.", least=0, shown="as here")
    seed: int = settings.seed()


@dataclass(frozen=True, kw_only=True)
class PlanSettings(Settings):
    """What a run over a large data set is supposed to meet. No GPU was at hand: its rates are its makers'."""

    pictures: tuple[int, ...] = setting(
        (50_000, 3_750_000), "Of each data set: ImageNet's validation, ImageNet-C.", least=1
    )
    picture_kb: tuple[float, ...] = setting((126.0, 13.0), "Of a file of each, kB.", above=0)
    read_rate: tuple[float, ...] = setting(
        (130.0, 500.0),
        "Pictures of each that one core reads a second.",
        above=0,
    )
    gpus: tuple[int, ...] = setting((1, 8), "Numbers of GPUs.", least=1)
    teacher: str = setting("ViT-L-14", "The CLIP whose image tower encodes.", choices=("ViT-B-16", "ViT-L-14"))
    views: int = setting(1, "Views of a picture that are encoded.", least=1)
    apm: str = setting("apm-ttt", "The machine's preset.", metavar="PRESET")
    preset: str = setting("fast", "Of the adaptation.", choices=("published", "fast", "exact"))
    stack: int = setting(32, "Pictures adapted at once on a GPU.", least=1)
    tflops: float = setting(312.0, "Of a GPU's bf16 products at best, TFLOP a second.", above=0)
    encode_share: float = setting(0.4, "Of that rate that the teacher's products reach: supposed.", above=0)
    adapt_share: float = setting(0.2, "The same of the machine's small products: supposed.", above=0)
    memory_rate: float = setting(2000.0, "Of a GPU's memory, GB a second.", above=0)
    memory_share: float = setting(0.7, "Of that rate that the optimiser reaches: supposed.", above=0)
    link: float = setting(25.0, "From the host to a GPU, GB a second.", above=0)
    draw_rate: float = setting(0.25, "Numbers that one core draws a second, billions.", above=0)
    cores: int = setting(16, "Cores beside each GPU, which read and draw.", least=1)
    disk: float = setting(1.0, "What the data's disk gives all GPUs together, GB a second.", above=0)
    price: float = setting(2.0, "Of a GPU for an hour with its cores, in any currency.", least=0)
    measure: bool = setting(False, "This machine's rates are measured too, and the same arithmetic compared with them.")
    data: str = settings.data("cifar10-sample", "Pictures whose reading is measured.")


@dataclass(frozen=True, kw_only=True)
class CompileSettings(Timed):
    """A step of few locations, as adaptation repeats it. `machines`: presets, widths of their tokens, and stacks."""

    PRESETS: ClassVar[Presets] = {
        "full": {},
        "quick": {"seconds": QUICK, "machines": (("apm-tiny", 128, 4),), "rounds": 1, "steps": 2},
    }

    machines: tuple[tuple[str, int, int], ...] = (("apm-tiny", 128, 64), ("apm-small", 1280, 16), ("apm-ttt", 768, 1))
    queries: int = setting(32, "Locations drawn a step.", least=1)
    steps: int = setting(10, "In a row, for one timing.", least=1)
    rounds: int = setting(5, "Of each.", least=1)
    threads: int = setting(1, "Of this process.", least=1)


@dataclass(frozen=True, kw_only=True)
class FFBench(Timed):
    """A forward-forward network and what its epoch is timed by."""

    PRESETS: ClassVar[Presets] = {"full": {}, "quick": {"seconds": QUICK, "steps": 8, "rounds": 2, "trained": 60}}

    widths: tuple[int, ...] = setting((1000, 1000, 1000), "Of the network.", least=1)
    batch: int = setting(100, "Pictures a step.", least=1)
    steps: int = setting(30, "In a row, for one timing.", least=1)
    rounds: int = setting(9, "Of each.", least=1)
    large: int = setting(2048, "Side of the product that shows the machine's rate.", least=1)
    trained: int = setting(600, "Steps on real pictures before what is timed as trained.", least=0)
    pictures: str = "digits"


@dataclass(frozen=True, kw_only=True)
class FFConvBench(Timed):
    """A convolutional forward-forward network, what its step is timed by, and the depths whose memory is compared."""

    PRESETS: ClassVar[Presets] = {
        "full": {},
        "quick": {"seconds": QUICK, "rounds": 2, "depths": (2, 8), "batch": 32},
    }

    widths: tuple[int, ...] = setting((20, 80, 240, 480), "Channels.", least=1)
    objective: str = setting("cwc", "Of the layers.", choices=("cwc", "symba", "distance"))
    precision: str = setting("auto", "auto, fp32 or bf16 products.", choices=("auto", "fp32", "bf16"))
    batch: int = setting(128, "Pictures a step.", least=2)
    side: int = setting(32, "Of the pictures.", least=8)
    rounds: int = setting(9, "Of each.", least=1)
    large: int = setting(2048, "Side of the product that shows the machine's rate.", least=1)
    depths: tuple[int, ...] = setting((2, 4, 8, 16), "Layers whose memory is measured.", least=1)
    channels: int = setting(40, "Of each of them.", least=1)


@dataclass(frozen=True, kw_only=True)
class IslandsSettings(Timed):
    """Features that are embedded, by default a 56 x 56 x 96 grid of the shipped network, and a network that is read."""

    PRESETS: ClassVar[Presets] = {"full": {}, "quick": {"seconds": QUICK, "tsne_rounds": 1, "hook_rounds": 3}}

    image: str = setting("", "A photograph.", kind="picture", metavar="IMAGE", shown="scikit-learn's china.jpg")
    backbone: str = setting("mvit-v2-tiny", "Whose features are embedded.", letter="b", metavar="B")
    layer: int = setting(3, "Of it.")
    size: int = setting(224, "Side of what it sees, pixels.", least=1)
    neighbours: int = setting(12, "k of the trustworthiness.", least=1)
    tsne_rounds: int = setting(2, "Of either t-SNE; scikit-learn's takes up to two minutes.", least=1)
    hooked: str = setting("torchvision:mvit_v2_s@random", "The backbone whose every block is read.", metavar="B")
    hook_frames: int = setting(0, "Of its clip; 0: its own.", least=0)
    hook_size: int = setting(0, "Of its clip; 0: its own.", least=0)
    hook_rounds: int = setting(5, "Of either pass.", least=1)
    hook_warmup: int = setting(1, "Rounds before them.", least=0)
    seed: int = settings.seed()


@dataclass(frozen=True, kw_only=True)
class ComputeSettings(Timed):
    """What is timed, interleaved, of which the median counts; the rest is arithmetic, and marked so."""

    PRESETS: ClassVar[Presets] = {
        "full": {},
        "quick": {"seconds": QUICK, "rounds": 1, "clip_sides": (7, 14), "apm_sides": (7, 14, 28), "memory": False},
    }

    rounds: int = setting(3, "Of every case.", least=1)
    clip_sides: tuple[int, ...] = grids((7, 14, 28, 56), "Patches a side of CLIP that are timed.")
    apm_sides: tuple[int, ...] = grids(SIDES, "Of the APM.")
    memory: bool = setting(True, "Memory by arithmetic alone, not measured in fresh processes.")
    chunk: int = setting(1024, "Columns at a time of the streamed APM.", least=1)
    device: str = settings.device()
