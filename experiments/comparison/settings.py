"""What a benchmark compares."""

from __future__ import annotations

from dataclasses import dataclass

from experiments.comparison.stream import Stream, parse_stream
from glom import settings
from glom.errors import InputError
from glom.settings import Settings, setting

BUDGET = 10.0


@dataclass(frozen=True, kw_only=True)
class BenchmarkSettings(Settings):
    """Methods and conditions: every data set under every corruption; differences are taken from the first method.

    Superclasses gather an ImageNet classifier's classes; see `glom.teachers.align.gathered`. What online methods see is
    the `stream`, see `experiments.comparison.stream`.
    """

    data: tuple[str, ...] = settings.data(
        ("cifar10-sample",),
        "Data sets or folders; see `apm datasets`.",
        kind="data sets",
        named=True,
        letter="d",
        metavar="DATA...",
    )
    methods: tuple[str, ...] = setting(
        ("zero-shot", "ensemble", "tpt", "apm"), "See `apm methods list`; A+B, too. The first is the base.", letter="m"
    )
    corruptions: tuple[str, ...] = setting(
        ("",), "Each name:severity[@scale]; clean for the pictures as they are.", shown="clean"
    )
    corrupt: str = settings.corrupt()
    pictures: str = setting(
        "all", "all, or untouched: those that no study of this project used.", choices=("all", "untouched")
    )
    teacher: str = settings.teacher()
    second: str = setting("", "A stronger one, for methods with two, such as zero2 and rlcf.", key="second_teacher")
    split: str = setting("test", "Of the data sets.")
    classes: str = settings.classes("")
    superclasses: str = settings.superclasses()
    nameable: bool = settings.nameable()
    train: str = setting("", "Data set with labelled pictures, for CoOp and its kin.", kind="data")
    shots: int = setting(16, "Labelled pictures a class of `train`.", least=1)
    mae: str = setting("mae-tiny", "Masked autoencoder: mae-tiny, a folder, hf:MODEL or hf:FOLDER.", metavar="NAME")
    transfer: bool = setting(False, "Use prompts learned on the classes of `train` on other classes.")
    preset: str = setting(
        "fast", "Of the APM and of learned prompts: fast or published.", choices=("fast", "published")
    )
    augment: str = setting(
        "crops",
        "crops, augmix, or released: what each method's release takes for such data.",
        key="views",
        choices=("crops", "augmix", "released"),
    )
    limit: int = settings.limit("Samples of each data set")
    stream: str = setting(
        "shuffled", "For online methods: shuffled, sorted, mixed (all conditions), few:K classes, or a seed."
    )
    batch: int = setting(0, "Pictures that online methods see at once; 0: each one's own.", least=0, metavar="N")
    carry: bool = setting(False, "Online methods keep what they saw between conditions.")
    out_set: str = setting("", "Data set of other classes: are they told apart?", kind="data", metavar="DATA")
    budget: float = setting(BUDGET, "Times the first method's seconds, for accuracy within it.", least=1, metavar="B")
    seed: int = settings.seed()
    device: str = settings.device()
    workers: int | None = settings.workers()
    jobs: str = settings.jobs()

    def __post_init__(self) -> None:
        from glom.datasets.corruptions import parse_corruption
        from glom.methods import method_class

        conditions = tuple("" if name == "clean" else name for name in self.corruptions)
        object.__setattr__(self, "corruptions", conditions)
        super().__post_init__()
        online = [name for name in self.methods if method_class(name).stateful]
        for what, values in (("methods", self.methods), ("data sets", self.data), ("corruptions", self.corruptions)):
            if not values or len(set(values)) != len(values):
                raise InputError(f"name at least one of the {what}, and each once; got {', '.join(values) or 'none'}")
        for corruption in filter(None, self.corruptions):
            parse_corruption(corruption)
        if self.as_stream() != Stream(seed=self.seed) and not online:
            raise InputError("`stream`, `batch` and `carry` are for online methods, and none of these is one")

    def as_stream(self) -> Stream:
        """What online methods see. Raises `InputError` for an order that is none."""
        return parse_stream(self.stream, self.seed, self.batch, self.carry)
