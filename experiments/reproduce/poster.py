"""The poster's tables as published: its data sets, its teachers, its settings; and what of that is missing here."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from experiments.reproduce.plan import Block, Column, Line, Plan, choose, column_means, left_out
from experiments.reproduce.settings import Request
from glom.datasets.check import ABSENT, check_dataset
from glom.datasets.corruptions import CORRUPTIONS
from glom.datasets.named.catalogue import COOP, COOP_PAGE, NAMED
from glom.datasets.named.layouts import data_root
from glom.errors import GlomError
from glom.hubs import hub_url, reachable

B16, L14 = "open_clip:ViT-B-16@openai", "open_clip:ViT-L-14@openai"
OPEN_L14, H14 = "open_clip:ViT-L-14@laion2b_s32b_b82k", "open_clip:ViT-H-14@laion2b_s32b_b79k"
MAE = "hf:facebook/vit-mae-large"
NOT_THERE = "not there"
NO_WEIGHTS = "not to be had: weights of "
SHIFTS = {
    "ImageNet": "imagenet",
    "ImageNet-A": "imagenet-a",
    "ImageNet-V2": "imagenet-v2",
    "ImageNet-R": "imagenet-r",
    "ImageNet-Sketch": "imagenet-sketch",
}
NINE = {
    "Flower102": "flowers102",
    "DTD": "dtd",
    "Pets": "oxford-pets",
    "UCF101": "ucf101",
    "Caltech101": "caltech101",
    "Food101": "food101",
    "SUN397": "sun397",
    "Aircraft": "fgvc-aircraft",
    "EuroSAT": "eurosat",
}
# CoOp's authors took the test pictures of these from the data sets' own lists, which every layout here has; those of
# the others they drew themselves (Zhou et al. 2022; `datasets/` of their code).
OWN_LISTS = ("ucf101", "fgvc-aircraft", "oxford-pets")
PROMPTED = (Line("coop", "CoOp"), Line("cocoop", "CoCoOp"))
MASKED = ("joint-train", "fine-tune", "vit-probe", "ttt-mae")
SHOTS = 16  # labelled pictures a class of the published prompts


def spec(name: str, request: Request) -> str:
    """A registered data set under the request's folder."""
    return f"{name}:{Path(request.root).expanduser()}" if request.root else name


def column(title: str, name: str, request: Request) -> Column:
    """A published column on its own data set, or why it cannot be filled: not there, or only a part of it."""
    where = spec(name, request)
    why = absent(where, "test")
    other = "" if why else other_split(where)
    return Column(where, title, published=title, same=not other, why=why, other=other)


def absent(where: str, split: str) -> str:
    """Why a split of a data set cannot be used, or ""."""
    name = where.partition(":")[0]
    try:
        found = check_dataset(where, splits=(split,))
    except GlomError as error:
        return str(error)
    if found.state == ABSENT:
        return f"{name}: {NOT_THERE}"
    return "" if found.complete else f"{name} is incomplete: {found.problems[0]}"


def other_split(where: str) -> str:
    """What a data set's test pictures are where they are not those of CoOp's split, which the poster's are; else ""."""
    name, _, root = where.partition(":")
    coop = COOP.get(name)
    found = NAMED[name].find(Path(root) if root else data_root()) if coop and name not in OWN_LISTS else None
    if coop is None or found is None or found[0].title == coop.title:
        return ""
    count, theirs = found[0].counts["test"][0], coop.counts["test"][0]
    return (
        f"{found[0].title}'s test pictures ({count:,}), where the published numbers are of CoOp's split ({theirs:,}); "
        f"{coop.places[0]} from {COOP_PAGE} gives that"
    )


def train_of(request: Request) -> tuple[str, str]:
    """Where labelled ImageNet pictures come from, and why there are none."""
    where = spec("imagenet", request)
    why = absent(where, "train")
    return ("", f"needs ImageNet's training pictures ({why.partition(': ')[2]})") if why else (where, "")


def learned(lines: tuple[Line, ...], why: str, request: Request) -> tuple[Line, ...]:
    """Rows of learned prompts, with why they cannot be run, or that they learn from another number of pictures."""
    said = f"learned from {request.shots} pictures a class, the published from {SHOTS}"
    other = said if request.shots != SHOTS else ""
    return tuple(replace(line, why=why, other=other) for line in lines)


def missing_weights(teacher: str) -> str:
    """Why a teacher's weights cannot be had here, or ""; nothing is downloaded to find out."""
    from huggingface_hub import try_to_load_from_cache
    from open_clip.pretrained import get_pretrained_cfg

    family, _, rest = teacher.partition(":")
    repository, files = rest, ["model.safetensors", "pytorch_model.bin"]
    if family == "open_clip":
        model, _, tag = rest.partition("@")
        repository = str(get_pretrained_cfg(model, tag).get("hf_hub", "")).rstrip("/")
        files = ["open_clip_model.safetensors", "open_clip_pytorch_model.safetensors", "open_clip_pytorch_model.bin"]
    if repository and any(isinstance(try_to_load_from_cache(repository, file), str) for file in files):
        return ""
    return "" if reachable() else f"{NO_WEIGHTS}{teacher}"


def checked(block: Block) -> Block:
    """The block, or why its teacher cannot be loaded."""
    return replace(block, why=block.why or missing_weights(block.teacher))


def table1(request: Request) -> Plan:
    """ImageNet and four natural shifts, three teachers; prompts learned on 16 pictures a class of ImageNet."""
    columns = tuple(column(title, name, request) for title, name in SHIFTS.items())
    means = column_means(
        columns,
        [("Average", "Average", lambda c: True), ("OOD Average", "OOD Average", lambda c: c.title != "ImageNet")],
    )
    train, why = train_of(request)
    tuned = (*PROMPTED, Line("tpt+coop", "TPT + CoOp"), Line("tpt+cocoop", "TPT + CoCoOp"))
    lines = (
        Line("zero-shot", "CLIP-ViT-B/16"),
        Line("ensemble", "Ensemble"),
        Line("tpt", "TPT"),
        Line("apm", "APM (CLIP-ViT-B/16)"),
        *learned(tuned, why, request),
    )
    blocks = [Block("vit-b-16", B16, lines, columns, means, train, True, preset="published")]
    for name, teacher, row in (("vit-l-14", L14, "CLIP-ViT-L/14"), ("vit-h-14", H14, "OpenCLIP-ViT-H/14")):
        pair = (Line("zero-shot", row), Line("apm", f"APM ({row})"))
        blocks.append(Block(name, teacher, pair, columns, means, preset="published"))
    return _plan(1, "Table 1: ImageNet and its natural shifts", "ImageNet and its shifts", blocks, request)


def table2(request: Request) -> Plan:
    """ImageNet-C at level 5 as its authors publish it."""
    columns = tuple(
        replace(column(name, f"imagenet-c/{name}/5", request), published=name, title=name)
        for name in sorted(CORRUPTIONS)
    )
    means = column_means(columns, [("Average", "Average", lambda c: True)])
    train, why = train_of(request)
    why = why or missing_weights(MAE)
    fitted = f"fitted to {request.shots} pictures a class of ImageNet, the published to all of it"
    own = zip(MASKED, ("Joint Train", "Fine-Tune", "ViT Probe", "TTT-MAE"), strict=True)
    lines = (
        Line("zero-shot", "OpenCLIP ViT-L/14"),
        Line("apm", "APM"),
        *(Line(method, row, why, fitted) for method, row in own),
    )
    block = Block("vit-l-14", OPEN_L14, lines, columns, means, train, mae=MAE, preset="published")
    about = f"{', '.join(line.published for line in lines[2:])} are {fitted}: nothing is subtracted there."
    return _plan(2, "Table 2: ImageNet-C, level 5", "ImageNet-C, level 5", [block], request, about)


def table3(request: Request) -> Plan:
    """Nine data sets; prompts learned on ImageNet and used everywhere, as Shu et al. 2022 (table 2) and the poster."""
    columns = tuple(column(title, name, request) for title, name in NINE.items())
    means = column_means(columns, [("Average", "Average", lambda c: True)])
    train, why = train_of(request)
    lines = (
        Line("zero-shot", "CLIP-ViT-B/16"),
        Line("ensemble", "Ensemble"),
        Line("tpt", "TPT"),
        Line("apm", "APM"),
        *learned(PROMPTED, why, request),
    )
    block = Block("vit-b-16", B16, lines, columns, means, train, True, preset="published")
    return _plan(3, "Table 3: nine data sets", "nine data sets", [block], request)


def _plan(number: int, title: str, data: str, blocks: list[Block], request: Request, about: str = "") -> Plan:
    """`about`: what the caption says of the labelled pictures; "" for those that prompts are learned from."""
    import torch

    chosen = tuple(checked(block) for block in choose(blocks, request.methods))
    about = about or f"Learned prompts: {request.shots} labelled pictures a class of ImageNet."
    caption = (
        "The poster's data sets and teachers; the APM with preset `published` (1,200 steps a picture, all 1,024 "
        f"locations). {about}"
    )
    columns = dict.fromkeys(column for block in chosen for column in block.columns if column.other)
    remarks = [f"{column.title}: {column.other}; nothing is subtracted there" for column in columns]
    if not torch.cuda.is_available():
        remarks.append("no GPU here: everything runs on the processor")
    notes = tuple(missing(chosen, request))
    return Plan(number, title, caption, data, chosen, request.limit, notes, tuple(remarks))


def missing(blocks: tuple[Block, ...], request: Request) -> list[str]:
    """What is missing, once each: data, weights, labelled pictures."""
    data = [c.why for block in blocks for c in block.columns if c.why]
    away = dict.fromkeys(why.partition(": ")[0].partition("/")[0] for why in data if why.endswith(NOT_THERE))
    found = []
    if away:
        place = "under --data-root" if request.root else "in $APM_DATA or the user's cache"
        found.append(f"data not {place}: {', '.join(away)} (`apm datasets prepare NAME` says how to get it)")
    found += [why for why in data if not why.endswith(NOT_THERE)]
    weights = dict.fromkeys(block.why.partition(NO_WEIGHTS)[2] for block in blocks if NO_WEIGHTS in block.why)
    if weights:
        found.append(f"weights not in the local cache, and {hub_url()} was not reached: {', '.join(weights)}")
    found += [block.why for block in blocks if block.why and NO_WEIGHTS not in block.why]
    return list(dict.fromkeys([*found, *left_out(blocks)]))


POSTER = {"table1": table1, "table2": table2, "table3": table3}
