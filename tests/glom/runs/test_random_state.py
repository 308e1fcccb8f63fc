"""The process's own random numbers: whatever is run leaves the generators of torch, numpy and Python as they were."""

from __future__ import annotations

import ast
import random
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import torch

from glom.runs.seeds import fixed_seed
from tests.conftest import make_image

ROOT = Path(__file__).parents[3]


def states() -> tuple[bytes, bytes, object]:
    return torch.get_rng_state().numpy().tobytes(), np.random.get_state()[1].tobytes(), random.getstate()


def fold(tmp_path: Path) -> Iterator[object]:
    from experiments.fields.fold import run as run_fold
    from experiments.fields.settings import FoldRequest
    from glom.adaptation.overfit import OverfitSettings

    return run_fold(FoldRequest(image=str(tmp_path / "a.png"), overfit=OverfitSettings(iterations=2)), tmp_path / "run")


def ttt(tmp_path: Path) -> Iterator[object]:
    from experiments.adaptation.run import run
    from experiments.adaptation.settings import TTTRun
    from glom.adaptation.settings import settings_for

    settings = settings_for("glom-tiny", iterations=1, queries=4)
    return run(TTTRun(data="cifar10-sample", ttt=settings, limit=2, corruption="fog:3"), tmp_path / "run")


def decode(tmp_path: Path) -> Iterator[object]:
    from experiments.fields.decode import run as run_decode
    from experiments.fields.settings import DecodeSettings

    settings = DecodeSettings(images=(str(tmp_path / "a.png"),), overfit=True, size=(8, 8), iterations=2)
    return run_decode(settings, tmp_path / "run")


def interpolate(tmp_path: Path) -> Iterator[object]:
    from experiments.fields.interpolate import run as run_interpolate
    from experiments.fields.settings import InterpolateSettings

    both = {"first": str(tmp_path / "a.png"), "last": str(tmp_path / "b.png")}
    settings = InterpolateSettings(**both, overfit=True, steps=2, size=4, iterations=2)
    return run_interpolate(settings, tmp_path / "run")


def machines(tmp_path: Path) -> Iterator[object]:
    from glom.checkpoints import load_apm
    from glom.consensus.config import GlomConfig
    from glom.consensus.training import new_glom
    from glom.masked.parts import load_masked
    from glom.teachers.registry import load_teacher

    yield load_apm("apm-cifar10")
    yield load_teacher("glom-tiny")
    yield load_masked("mae-tiny").classifier(10, 3)
    yield new_glom(GlomConfig(), 0)


def front_door(tmp_path: Path) -> Iterator[object]:
    import glom

    yield glom.load("apm-cifar10")
    yield glom.adapt(str(tmp_path / "a.png"), "glom-tiny", classes=["cat", "dog"])


def learned_prompts(tmp_path: Path) -> Iterator[object]:
    from glom.methods import Task, make_method
    from glom.teachers.registry import load_teacher

    task = Task(load_teacher("glom-tiny", "cpu"), ("cat", "dog"), torch.device("cpu"))
    for name in ("coop", "cocoop", "tpt", "memo"):
        yield make_method(name, task, True)


def variants(tmp_path: Path) -> Iterator[object]:
    from experiments.folding.run import machine_for
    from experiments.folding.settings import FoldingSettings, settings_of
    from glom.apm import preset

    for setting in settings_of(FoldingSettings()):
        yield machine_for(setting, preset("apm-tiny"), torch.zeros(128))


@pytest.mark.parametrize("entry", [fold, ttt, decode, interpolate, machines, front_door, learned_prompts, variants])
def test_an_entry_leaves_the_generators_as_they_were(entry: Callable[[Path], Iterator[object]], tmp_path):
    for number, name in enumerate("ab"):
        make_image(number).save(tmp_path / f"{name}.png")
    before = states()
    for _ in entry(tmp_path):
        assert states() == before
    assert states() == before


def test_a_fixed_seed_draws_what_torchs_own_would_and_gives_the_state_back():
    torch.manual_seed(5)
    wanted, before = torch.rand(3), torch.get_rng_state()
    with fixed_seed(5):
        assert torch.equal(torch.rand(3), wanted)
    assert torch.equal(torch.get_rng_state(), before)


SEEDERS = {"torch.manual_seed", "torch.cuda.manual_seed_all", "np.random.seed", "random.seed", "torch.random.fork_rng"}


def test_global_generators_are_seeded_in_two_places_alone():
    """`glom.runs.seeds.fixed_seed`, and around the corruptions' package, which draws from numpy's; both put it back."""
    found = set()
    for folder in ("glom", "probes", "experiments", "commands"):
        for path in (ROOT / folder).rglob("*.py"):
            calls = [n for n in ast.walk(ast.parse(path.read_text(encoding="utf-8"))) if isinstance(n, ast.Call)]
            if SEEDERS & {ast.unparse(call.func) for call in calls}:
                found.add(path.relative_to(ROOT).as_posix())
    assert found == {"glom/runs/seeds.py", "glom/datasets/corruptions.py"}


DRAWS = ("rand", "randn", "randint", "randperm", "normal", "bernoulli", "multinomial")


def test_every_draw_has_a_generator_of_its_own():
    """Inside `fixed_seed`, and where a module draws the weights that it begins with, torch's own is meant."""
    raw = []
    for folder in ("glom", "probes", "experiments", "commands"):
        for path in (ROOT / folder).rglob("*.py"):
            tree = ast.parse(path.read_text(encoding="utf-8"))
            inside = [n for n in ast.walk(tree) if isinstance(n, ast.With) and "fixed_seed" in ast.unparse(n.items[0])]
            inside += [n for n in ast.walk(tree) if isinstance(n, ast.Call) and ast.unparse(n.func) == "nn.Parameter"]
            meant = {id(n) for block in inside for n in ast.walk(block)}
            for call in (n for n in ast.walk(tree) if isinstance(n, ast.Call)):
                draws = ast.unparse(call.func) in {f"torch.{d}" for d in DRAWS} and id(call) not in meant
                if draws and "generator" not in {k.arg for k in call.keywords}:
                    raw.append(f"{path.name}:{call.lineno}: {ast.unparse(call)}")
    assert not raw, "\n".join(raw)
