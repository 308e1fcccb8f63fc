"""From a sweep file to its runs.

    command = "ttt run"               what is typed behind `apm`
    seeds = [0, 1, 2]                 every setting with each of these as its `seed`
    measures = ["apm_top1"]           what the table shows; left out: every figure at the top of a run's result
    pair = ["id"]                     what tells a sample of results.jsonl from the others, whatever the settings
    [settings]                        the same in all runs
    [grid]                            every combination of these lists
    [[list]]                          or these, one after another
    [random]                          or `runs` draws with `seed`: lists, or { low, high, log }
    [base]                            what the others are compared with; left out: the first
    [slurm]                           what the queue is asked for: `experiments.sweep.settings.SlurmSettings`

Grid, list and random sample may stand together: every entry of one meets every entry of the others.
"""

from __future__ import annotations

import hashlib
import itertools
import json
import math
import re
import tomllib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from experiments.sweep.settings import SlurmSettings, SweepSettings
from glom.errors import InputError, unknown
from glom.setting_values import toml
from glom.settings import Key, Settings, build, keys_of

MOST = 10_000  # runs of a sweep; more is a slip of the pen
SHAPES: dict[str, tuple[type, str]] = {
    "command": (str, "a text"),
    "seeds": (list, "a list of whole numbers"),
    "measures": (list, "a list of names"),
    "pair": (list, "a list of names"),
    "settings": (dict, "a table"),
    "grid": (dict, "a table of lists"),
    "list": (list, "tables under [[list]]"),
    "random": (dict, "a table"),
    "base": (dict, "a table"),
    "slurm": (dict, "a table"),
}
ASKED = ("command", "seeds", "settings", "grid", "list", "random")  # what decides the runs


@dataclass(frozen=True)
class Command:
    """A command of the program that a sweep runs.

    Attributes:
        words: as typed: "ttt run". settings: its settings class. leave: keys that it decides itself.
        resumes: whether a stopped run can go on. quiet: whether it can be told to be. reads: whether by processes that
            may die.
        begin: what a process of its own does first; told to be stopped by SIGTERM, or not.
        call: runs the program with arguments and returns its exit code. Both are found by name in any process.
    """

    words: str
    settings: type[Settings]
    leave: Sequence[str]
    resumes: bool
    quiet: bool
    reads: bool
    begin: Callable[[bool], None]
    call: Callable[[list[str]], int]


@dataclass(frozen=True)
class Planned:
    """One run: its folder's name, the texts of its settings file, what the sweep varies in it, and its seed."""

    name: str
    asked: Mapping[str, str]
    varied: Mapping[str, Any]
    seed: int | None


@dataclass(frozen=True)
class Sweep:
    """A sweep, ready to be run: `content` is its file's."""

    settings: SweepSettings
    content: Mapping[str, Any]
    command: Command
    runs: Sequence[Planned]
    slurm: SlurmSettings


def read_sweep(path: Path) -> dict[str, Any]:
    """A sweep file's content. Raises `InputError`: it cannot be read, names an unknown key, or one of another kind."""
    try:
        content = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise InputError(f"the sweep file {path} cannot be read: {error.strerror}") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError, RecursionError) as error:
        raise InputError(f"{path} is not a sweep file in TOML: {error}") from error
    for name, value in content.items():
        if name not in SHAPES:
            raise unknown("key of a sweep", name, SHAPES, str(path))
        if not isinstance(value, SHAPES[name][0]):
            raise InputError(f"{path}: {name} is {SHAPES[name][1]}, got {json.dumps(value, default=str)}")
    if not content.get("command", "").strip():
        raise InputError(f'{path}: `command` has to be given, as command = "ttt run"')
    return content


def plan(settings: SweepSettings, content: Mapping[str, Any], command: Command) -> Sweep:
    """Every run of a sweep, each checked by the command's own settings.

    Raises:
        InputError: an unknown setting, a value that cannot be, the same run twice, none, or more than `MOST`.
    """
    path = settings.file
    keys = {key.name: key for key in keys_of(command.settings) if key.name not in command.leave}
    grid = {name: _listed(value, f"{path}: grid: {name}") for name, value in content.get("grid", {}).items()}
    drawn = dict(content.get("random", {}))
    draws, seed = _count(drawn, path)
    seeds = content.get("seeds", [])
    if any(type(s) is not int for s in seeds):
        raise InputError(f"{path}: seeds is a list of whole numbers, got {json.dumps(seeds, default=str)}")
    listed = content.get("list", [{}])
    count = math.prod(map(len, grid.values())) * len(listed) * draws * max(len(seeds), 1)
    if not 0 < count <= MOST:
        raise InputError(f"{path} asks for {count:,} runs; a sweep has 1 to {MOST:,}: take fewer values, or [random]")
    same = content.get("settings", {})
    named = [*same, *grid, *drawn, *(name for entry in listed for name in entry), *(["seed"] if seeds else [])]
    for name in named:
        if name not in keys and not (name == "preset" and command.settings.PRESETS):
            raise unknown("setting", name, keys, f"{path}, `apm {command.words}`")
    combinations = itertools.product(listed, _product(grid), _draws(drawn, draws, seed, keys, path), seeds or [None])
    runs = [
        _planned(command, keys, path, same, {**entry, **point, **sample}, one)
        for entry, point, sample, one in combinations
    ]
    if len({run.name for run in runs}) < len(runs):
        twice = next(run for n, run in enumerate(runs) if run.name in {other.name for other in runs[:n]})
        raise InputError(f"{path} asks twice for the same run: {json.dumps(dict(twice.asked), ensure_ascii=False)}")
    _check_base(content, runs, path)
    try:
        slurm = content.get("slurm", {})
        taken = {key.name: key for key in keys_of(SlurmSettings)}
        given = {n: taken[n].take(v, f"{path}: slurm") if n in taken else v for n, v in slurm.items()}
        return Sweep(settings, content, command, runs, build(SlurmSettings, given))
    except InputError as error:
        raise InputError(f"[slurm] of {path}: {error}") from error


def _listed(value: Any, where: str) -> list[Any]:
    if not isinstance(value, list) or not value:
        raise InputError(f"{where} is a list of values, got {json.dumps(value, default=str)}")
    return value


def _product(grid: Mapping[str, list[Any]]) -> Iterator[dict[str, Any]]:
    return (dict(zip(grid, values, strict=True)) for values in itertools.product(*grid.values()))


def _count(drawn: dict[str, Any], path: str) -> tuple[int, int]:
    """How many are drawn, and the seed, both taken out; one of nothing where there is no [random]."""
    if not drawn:
        return 1, 0
    count, seed = drawn.pop("runs", None), drawn.pop("seed", 0)
    if type(count) is not int or type(seed) is not int or count < 1 or seed < 0 or not drawn:
        raise InputError(f"{path}: random needs `runs`, a whole number, and settings to draw")
    return count, seed


def _draws(drawn: Mapping[str, Any], count: int, seed: int, keys: Mapping[str, Key], path: str) -> list[dict[str, Any]]:
    if not drawn:
        return [{}]
    generator = np.random.default_rng(seed)
    return [{name: _draw(of, generator, keys.get(name), f"{path}: random: {name}") for name, of in drawn.items()}
            for _ in range(count)]  # fmt: skip


def _draw(of: Any, generator: np.random.Generator, key: Key | None, where: str) -> Any:
    if isinstance(of, list):
        return _listed(of, where)[int(generator.integers(len(of)))]
    given: dict[str, Any] = of if isinstance(of, dict) else {}
    low: Any = given.get("low")
    high: Any = given.get("high")
    log = given.get("log")
    numbers = all(isinstance(x, int | float) and not isinstance(x, bool) and math.isfinite(x) for x in (low, high))
    if not numbers or set(given) - {"low", "high", "log"} or low > high or (log and low <= 0):
        raise InputError(f"{where} is a list of values, or {{ low, high }}, with log = true for positive numbers")
    value = math.exp(generator.uniform(math.log(low), math.log(high))) if log else generator.uniform(low, high)
    whole = key is not None and key.type is int
    return min(max(round(value), low), high) if whole else float(f"{value:.6g}")


def _planned(
    command: Command, keys: Mapping[str, Key], path: str, same: Mapping[str, Any], varied: dict[str, Any], seed: Any
) -> Planned:
    given = {**same, **varied, **({} if seed is None else {"seed": seed})}
    values = {name: keys[name].take(_many(value, keys[name]), path) if name in keys else value
              for name, value in given.items()}  # fmt: skip
    command.settings.of(**values)
    asked = {name: toml(value, keys[name].about["none"] if name in keys else "") for name, value in values.items()}
    seed = values.get("seed") if "seed" in varied or seed is not None else None
    varied = {name: value for name, value in varied.items() if name != "seed"}
    words = "_".join(f"{name}={_word(value)}" for name, value in [*varied.items(), ("seed", seed)] if value is not None)
    mark = hashlib.sha256(json.dumps(asked, sort_keys=True).encode()).hexdigest()[:8]
    name = f"{re.sub(r'[^a-zA-Z0-9.=+_-]+', '-', words)[:80]}-{mark}".lstrip("-.")
    return Planned(name, asked, varied, seed)


def _many(value: Any, key: Key) -> Any:
    """One of several, as a list's entry is written without brackets."""
    several = hasattr(key.type, "__args__") and getattr(key.type, "__origin__", None) is tuple
    return [value] if several and not isinstance(value, list) and value != key.about["none"] else value


def _word(value: Any) -> str:
    return "+".join(map(str, value)) if isinstance(value, list) else str(value)


def _check_base(content: Mapping[str, Any], runs: Sequence[Planned], path: str) -> None:
    base = content.get("base", {})
    if not any(matches(run.varied, base) for run in runs):
        raise InputError(f"{path}: base {json.dumps(base, default=str)} is none of the sweep's settings")


def matches(varied: Mapping[str, Any], base: Mapping[str, Any]) -> bool:
    """Whether settings are those that a base names."""
    return all(name in varied and varied[name] == value for name, value in base.items())
