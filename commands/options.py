"""A command's options from a settings class: written once, on the settings' fields.

    @app.command("train")
    @options(TrainSettings)
    def train(settings: TrainSettings, out: Out, resume: Resume = False) -> None: ...

The command gets an option (or an argument) for every setting, `--config FILE` and `--set KEY=VALUE`, and is called with
the settings that follow: what is typed counts more than `--set`, that more than a file, that more than the preset.
"""

from __future__ import annotations

import inspect
import typing
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import MISSING
from functools import wraps
from pathlib import Path
from typing import Annotated, Any

import typer

from commands import paths
from glom.setting_values import bare
from glom.settings import Key, Settings, keys_of, read_files, read_pairs, to_toml

KINDS: dict[str, Callable[[Any], Any]] = {
    "data": paths.data_set,
    "data sets": paths.data_sets,
    "made or data sets": paths.made_or_data_sets,
    "data or composites": paths.data_set_or_composites,
    "picture": paths.one_picture,
    "any pictures": paths.any_picture,
    "runs or pictures": paths.runs_or_pictures,
    "every picture": paths.every_picture,
    "picture or folder": paths.picture_or_folder,
    "outlines": paths.outlines,
    "classes": paths.class_list,
}
Config = Annotated[
    list[Path] | None,
    typer.Option("--config", help="Settings file; a run's is DIR/settings.toml. May be repeated.", metavar="FILE"),
]
Set = Annotated[list[str] | None, typer.Option("--set", help="One setting; may be repeated.", metavar="KEY=VALUE")]
Track = Annotated[
    str | None,
    typer.Option(
        "--track", help="Also sent there: tensorboard, trackio, wandb or mlflow.", metavar="TRACKER[:PROJECT]"
    ),
]
Dead = Annotated[
    str | None,
    typer.Option(
        "--on-dead-worker",
        help="Where a process that reads dies: end, or continue with one fewer. Default: end.",
        metavar="end|continue",
    ),
]
Verbose = Annotated[bool, typer.Option("--verbose", "-v", help="Say every setting before the run.")]


def options(
    cls: type[Settings], leave: Sequence[str] = (), reads: bool = False
) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Give a command the options of a settings class for its parameter `settings`.

    A parameter `given` of the command receives what was typed or set, by key: a settings file holds everything, and so
    does not say what was meant.

    Args:
        leave: settings that the command decides itself: they have no option.
        reads: whether processes may read for it, so that one may die, though it has no `workers` to set.
    """
    keys = {_name(key): key for key in keys_of(cls) if key.name not in leave}

    def decorate(command: Callable[..., None]) -> Callable[..., None]:
        own = inspect.signature(command, eval_str=True).parameters

        @wraps(command)
        def called(**values: Any) -> None:
            config, pairs, verbose = (values.pop(name, None) for name in ("config", "set", "verbose"))
            given = read_pairs(cls, pairs or [])
            for name, key in keys.items():
                value, again = values.pop(name), values.pop(f"{name}_named", None)
                again = again[0] if isinstance(again, list) else again
                if isinstance(value, list) and not key.about["argument"]:
                    value = value[0]  # see `_together`
                if again:  # several by place and more by name are all meant
                    value = [*value, *key.read(again)] if value else again
                if value not in (None, []):
                    many = tuple(value) if isinstance(value, list) else value
                    given[key.name] = key.read(value) if isinstance(value, str) else many
            if cls.FLAG and values.pop(cls.FLAG):
                given["preset"] = cls.FLAG
            if cls.PRESETS and (preset := values.pop("preset")) is not None:
                given["preset"] = preset
            settings = cls.of(**read_files(cls, config or []) | given)
            if verbose:
                from commands.common import say

                say(to_toml(settings).rstrip())
            if "given" in own:
                values["given"] = given
            with _around(values.pop("track", None), values.pop("on_dead_worker", None)):
                command(settings=settings, **values)

        made = [_parameter(name, key) for name, key in keys.items()]
        made += [_parameter(f"{name}_named", key, by_name=True) for name, key in keys.items() if key.about["named"]]
        if cls.PRESETS:
            text = f"{', '.join(cls.PRESETS)}. Default: {cls.PRESET}."
            made.append(_option("preset", str, typer.Option("--preset", help=text)))
        if cls.FLAG:
            made.append(_option(cls.FLAG, bool, typer.Option(f"--{cls.FLAG}", help=f"The preset {cls.FLAG}.")))
        folder = "out" in own and own["out"].default is inspect.Parameter.empty
        dies = reads or any(key.name == "workers" and key.optional for key in keys.values())
        more = ((Config, "config", True), (Set, "set", True), (Track, "track", folder), (Dead, "on_dead_worker", dies))
        made += [_option(name, hint) for hint, name, there in more if there]
        if "verbose" not in own:
            made.append(inspect.Parameter("verbose", inspect.Parameter.KEYWORD_ONLY, default=False, annotation=Verbose))
        rest = [
            p.replace(kind=inspect.Parameter.KEYWORD_ONLY) for n, p in own.items() if n not in ("settings", "given")
        ]
        first = [p for p in rest if p.default is inspect.Parameter.empty]
        others = [p for p in rest if p.default is not inspect.Parameter.empty]
        parameters = [*first, *made, *others]
        called.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
        called.__annotations__ = {p.name: p.annotation for p in parameters}
        called.settings, called.leave = cls, tuple(leave)  # type: ignore[attr-defined]  # what a sweep checks by
        del called.__wrapped__  # type: ignore[attr-defined]
        return called

    return decorate


@contextmanager
def _around(track: str | None, on_death: str | None) -> Iterator[None]:
    """What a command runs inside of."""
    from glom.runs.tracking import tracking

    with ExitStack() as stack:
        stack.enter_context(tracking(track or ""))
        if on_death:
            from glom.datasets.loading import on_dead_worker

            stack.enter_context(on_dead_worker(on_death))
        yield


def _name(key: Key) -> str:
    return f"{key.name}_" if key.name in ("from", "self", "set", "config") else key.name


def _parameter(name: str, key: Key, by_name: bool = False) -> inspect.Parameter:
    about, kind = key.about, key.type
    hint = kind if kind in (int, float, bool) else str
    check = _checked(about["kind"])
    metavar = about["metavar"] or None
    if about["argument"] and not by_name:
        hint = list[str] if typing.get_origin(kind) is tuple else hint
        word = (metavar or key.name.upper()).removesuffix("...")  # Typer's own dots follow where many are taken
        argument = typer.Argument(help=_told(key), callback=check, metavar=word, show_default=False)
        return _option(name, hint, argument)
    word = key.name.replace("_", "-")
    names = [f"--no-{word}" if kind is bool and key.default is True else f"--{word}"]
    if about["also"]:
        names.append(f"--{about['also']}")
    if about["letter"]:
        names.append(f"-{about['letter']}")
    if kind is bool and key.default is True:
        check = _opposite
    inside = typing.get_args(bare(kind)[0])
    if inside and inside[-1] is Ellipsis:  # given twice, both are meant
        hint, check, metavar = list[str], _together(check), metavar or "A,B,..."
    option = typer.Option(*names, help=_told(key), callback=check, metavar=metavar, show_default=False, hidden=by_name)
    return _option(name, hint, option)


def _option(name: str, hint: Any, option: Any = None) -> inspect.Parameter:
    annotation = hint if option is None else Annotated[hint | None, option]
    return inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=None, annotation=annotation)


def _told(key: Key) -> str:
    """The help of a setting, its choices where it has none, and its default."""
    choices, default = key.about["choices"], key.default
    told = key.about["help"] or (f"{', '.join(choices[:-1])} or {choices[-1]}." if choices else "")
    shown = key.about["shown"]
    if not shown and default not in (MISSING, None, "", ()) and not isinstance(default, bool):
        shown = ",".join(map(str, default)) if isinstance(default, tuple) else str(default)
    return f"{told} Default: {shown}.".strip() if shown else told


def _opposite(value: bool | None) -> bool | None:
    return False if value else None


def _together(check: Callable[[Any], Any] | None) -> Callable[[Any], Any]:
    """Of an option that takes several values: those of every time it was given, as one text in a list, checked."""

    def joined(values: Sequence[str] | None) -> Any:
        text = ",".join(values or ())
        return [check(text) if check else text] if values else None  # an empty text is a choice too: none

    return joined


def _checked(kind: str) -> Callable[[Any], Any] | None:
    if not kind:
        return None

    def check(value: Any) -> Any:
        return KINDS[kind](value) if value else value

    return check
