"""Training `mae-tiny` stage by stage into one folder that `glom.masked.parts.load_masked` reads."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, TypedDict

import torch

from experiments.recipes.mae_choose import answer_adapted, choose, tested
from experiments.recipes.mae_settings import PART_OF, MAETinySettings, stages_of
from experiments.recipes.mae_ship import Splits, measure, read_splits, write_card
from experiments.recipes.mae_train import Stage, train
from experiments.recipes.mvit_tiny import MEAN, STD
from glom.devices import resolve_device
from glom.errors import InputError
from glom.masked.network import build_mae
from glom.masked.parts import WEIGHTS, Masked, View, load_masked, load_part, part_of, save_config, save_half
from glom.runs.artifacts import (
    RESULT,
    RunFolder,
    public_command,
    read_json,
    read_result,
    read_results,
    read_timing,
    result_file,
    write_json,
)
from glom.runs.events import Event
from glom.runs.seeds import fixed_seed
from glom.settings import defaults_of, write_settings


class Stages(TypedDict):
    """What each stage that is done has found, by its name, and with which settings."""

    settings: dict[str, Any]
    classes: list[str]
    stages: dict[str, dict[str, Any]]
    train_pictures: int


def run(
    settings: MAETinySettings, out: Path, *, stage: str = "all", resume: bool = False, download: bool = False
) -> Iterator[Event[Stages]]:
    """Run one stage or all of them; a stage that is done already is left as it is.

    The test pictures are read once by each stage that classifies, at its end, with the weights as written.

    Raises:
        InputError: the data do not fit the recipe, an earlier stage is missing, `out` holds something else, a resumed
            run has other settings.
        RunError: the loss is no longer finite, or the disk is full.
    """
    stages, where = stages_of(stage), resolve_device(settings.device)
    with RunFolder(out, "train-mae-tiny", settings.manifest(), resume, defaults=defaults_of(settings)) as folder:
        write_settings(out, settings)
        yield Event(message="reading the pictures")
        splits = read_splits(settings, download)
        for name in stages:
            if name not in _results(out):
                yield from _run_stage(name, splits, settings, folder, where)
        result: Stages = {
            "settings": settings.manifest("data"),
            "classes": list(splits.classes),
            "stages": _results(out),
            "train_pictures": len(splits.train.images),
        }
        write_json(out / RESULT, result)
        if all(name in result["stages"] for name in stages_of("all")):
            write_card(out, result, public_command(folder.manifest["command"]))
            folder.finish()
    yield Event(result=result)


def _results(out: Path) -> dict[str, Any]:
    """What the stages that are done have found; the former result file held nothing else."""
    found = read_result(out) if result_file(out).exists() else {}
    return found.get("stages", found)


def _run_stage(
    name: str, splits: Splits, settings: MAETinySettings, folder: RunFolder, device: torch.device
) -> Iterator[Event]:
    out = folder.path
    result: dict[str, Any]
    if name == "adapt":
        _need("probe", out)
        yield from choose(splits.held, settings, folder, device)
        yield from answer_adapted(splits.test, settings, folder, device)
        lines = [r for r in read_results(out) if r.get("stage") == "ttt-mae"]
        result = {"choice": read_json(out / "adapt.json"), **tested(lines)}
    else:
        masked = _start(name, splits, settings, out)
        model = masked.classifier(len(splits.classes), settings.seed)
        if name in ("fine-tune", "joint"):
            load_part(model, masked.parts["vit-probe"], "vit-probe", out)
        recipe = settings.recipe(name)
        stage = Stage(name, model, recipe, masked.view, device, settings.seed, settings.bf16)
        yield from train(stage, splits.train, folder)
        lines = [r for r in read_results(out) if r.get("stage") == name]
        result = {k: v for k, v in lines[-1].items() if k in ("loss", "accuracy")}
        if name == "pretrain":
            save_half(out / WEIGHTS, model.mae.state_dict())
        else:
            save_half(out / f"{PART_OF[name]}.safetensors", part_of(model, PART_OF[name]))
            result |= measure(load_masked(str(out)), PART_OF[name], splits.test, device)
    seconds = read_timing(out)
    names = (f"{name} ", "ttt-mae ") if name == "adapt" else (f"{name} ",)
    result["seconds"] = round(sum(s for i, s in seconds.items() if i.startswith(names)), 1)
    write_json(out / RESULT, {"stages": _results(out) | {name: result}})


def _start(name: str, splits: Splits, settings: MAETinySettings, out: Path) -> Masked:
    """Random weights for the first stage, what the stage before left (as written) for the others."""
    if name != "pretrain":
        _need("pretrain" if name == "probe" else "probe", out)
        return load_masked(str(out))
    view = View(settings.shape.size, MEAN, STD, crop=False)
    save_config(out, settings.shape, settings.head, splits.classes, view)
    with fixed_seed(settings.seed):
        mae = build_mae(settings.shape)
    return Masked("mae-tiny", mae, settings.head, splits.classes, view, None, {})


def _need(stage: str, out: Path) -> None:
    if stage not in _results(out):
        raise InputError(f"{out} lacks what comes before; run --stage {stage} first")
