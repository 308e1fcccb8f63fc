"""Settings: each written once, on its field, with its type, default, help and bounds.

A settings class is a frozen dataclass whose fields are made by `setting`. From them come the Python signature (keywords
only), the options of a command (`commands.options`), the keys of a settings file and of `key=value`, and the checks.

    @dataclass(frozen=True, kw_only=True)
    class TrainSettings(Settings):
        epochs: int = setting(12, "Passes over the training pictures.", least=1)
        schedule: str = setting("cosine", "How the rate falls.", choices=("cosine", "step"))

A field whose type is itself a settings class is flattened: its keys stand beside the others.
"""

from __future__ import annotations

import json
import math
import tomllib
import typing
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import MISSING, Field, asdict, dataclass, field, fields, is_dataclass, replace
from pathlib import Path
from typing import Any, ClassVar, Self, TypeVar

from glom.errors import InputError, unknown
from glom.runs.files import write_whole
from glom.setting_values import bare, parsed, taken, toml, words

FILE = "settings.toml"
DATA = "A folder, a manifest or a name: see `apm datasets`."
IDLE = ("device", "workers", "jobs")  # settings that decide no result
S = TypeVar("S", bound="Settings")
_FOUND: dict[type[Any], tuple[Key, ...]] = {}


def setting(
    default: Any = MISSING,
    help: str = "",
    *,
    choices: Sequence[str] = (),
    least: float | None = None,
    most: float | None = None,
    above: float | None = None,
    below: float | None = None,
    key: str = "",
    also: str = "",
    letter: str = "",
    metavar: str = "",
    shown: str = "",
    none: str = "none",
    kind: str = "",
    argument: bool = False,
    named: bool = False,
) -> Any:
    """A field of a settings class.

    Args:
        default: its value where none is given; left out, a value has to be given.
        help: what it is, in a line.
        choices: its only values; for a tuple, those of its parts.
        least, most, above, below: bounds of a number, the last two excluded.
        key: its name for those who give it, where the field's own cannot be (`from`). also: its option's second name.
        letter: its short option. metavar: what stands for its value in a help page.
        shown: what a help page says of the default, where that is not the value ("the preset's"). none: what is said
            for None.
        kind: what the text names, so that a missing file is said early; see `commands.options.KINDS`.
        argument: given by place rather than by name. named: by name too, as it once was: old commands go on working.
    """
    about = {
        "help": help, "choices": tuple(choices), "least": least, "most": most, "above": above, "below": below,
        "key": key, "also": also, "letter": letter, "metavar": metavar, "shown": shown, "none": none, "kind": kind,
        "argument": argument, "named": named,
    }  # fmt: skip
    return field(default=default, metadata=about)


def part(default: Any = MISSING, keys: Sequence[str] = ()) -> Any:
    """A field that is a settings class of its own, whose `keys` (all, where none are named) stand beside the others."""
    return field(default=default, metadata={"keys": tuple(keys)})


def seed() -> Any:
    """The seed of a run, which everything random in it follows from."""
    return setting(0, "Seed of the run.", metavar="S")


def device() -> Any:
    """Where a run computes."""
    return setting("auto", "auto, cpu, cuda, cuda:N or mps.", metavar="D")


def workers() -> Any:
    """How many processes read pictures; see `glom.datasets.loading`."""
    told = "Processes that read pictures; otherwise none for a CPU, up to 8 for a GPU."
    return setting(None, told, least=0, metavar="N")


def draft() -> Any:
    """How far JPEGs may be reduced as they are decoded; see `glom.datasets.reading.reduced`."""
    told = "Decode large JPEGs reduced, to at least N times the side that is read: quicker, other pixels. 0: whole."
    return setting(0, told, least=0, metavar="N")


def jobs() -> Any:
    """How many processes share the pictures out; see `glom.runs.parallel.shares`."""
    return setting("auto", "Processes that share out the pictures: auto, as many as pay, or a number.", metavar="N")


def limit(what: str = "Pictures", default: int = 0) -> Any:
    """How many are taken at most; it means the same everywhere."""
    return setting(default, f"{what} at most; 0: all.", least=0, metavar="N")


def teacher(default: str = "glom-tiny") -> Any:
    """The frozen encoder, by name."""
    shown = "" if default else "what suits"
    return setting(default, "See `apm teachers`.", letter="t", metavar="T", shown=shown)


def data(default: Any = MISSING, help: str = DATA, **about: Any) -> Any:
    """A data set as an argument."""
    return setting(default, help, **{"kind": "data", "argument": True, **about})


def backbone(default: str = "") -> Any:
    """A network whose layers' grids are read, by name."""
    told = "E.g. torchvision:mvit_v2_s@FILE; see docs/islands.md."
    return setting(default, told, letter="b", metavar="B", shown="" if default else "what shows most here")


def classes(default: str | None = None) -> Any:
    """A file of class names."""
    told = "File of class names, one a line, alone or beside an index, wnid or folder."
    return setting(default, told, kind="classes", metavar="FILE")


def superclasses() -> Any:
    """What an ImageNet classifier's classes are gathered into; see `glom.teachers.superclasses`."""
    told = "Gather an ImageNet classifier's classes: geirhos16, pacs, caltech101, or a table (index or WNID, class)."
    return setting("", told, metavar="NAME|FILE")


def nameable() -> Any:
    """What becomes of classes that the teacher cannot name; see `glom.teachers.align.nameable`."""
    return setting(False, "Leave classes out that the teacher cannot name, rather than refuse them.")


def corrupt() -> Any:
    """Where corruptions act; see `glom.teachers.corrupted`."""
    told = "Where corruptions act: crop, what the teacher sees (as ImageNet-C), or file."
    return setting("crop", told, choices=("crop", "file"), metavar="WHERE")


@dataclass(frozen=True)
class Key:
    """One setting, as somebody gives it.

    Attributes:
        name: of the setting. path: of the field, through parts. type: without None. optional: whether None is a value.
        default: or `dataclasses.MISSING`. about: what `setting` was told.
    """

    name: str
    path: tuple[str, ...]
    type: Any
    optional: bool
    default: Any
    about: Mapping[str, Any]

    def read(self, text: str) -> Any:
        """The value that a text stands for; `none` for None. Raises `InputError` where it stands for none."""
        if self.optional and text == self.about["none"]:
            return None
        try:
            return parsed(text, self.type, self.about["none"])
        except ValueError as error:
            raise InputError(f"`{self.name}` takes {words(self.type)}, got '{text}'") from error

    def take(self, value: Any, where: str) -> Any:
        """A value of a settings file. Raises `InputError` where it is of another type."""
        if self.optional and value == self.about["none"]:
            return None
        try:
            return taken(value, self.type, self.about["none"])
        except TypeError as error:
            raise InputError(f"{where}: {self.name} is {words(self.type)}, got {json.dumps(value)}") from error

    def check(self, value: Any) -> None:
        """Raise `InputError` for a value outside the setting's choices or bounds; None is always inside."""
        parts = value if isinstance(value, tuple) else () if value is None and self.optional else (value,)
        about = self.about
        for one in parts:
            if one is None and isinstance(value, tuple):
                continue
            if about.get("choices") and one not in about["choices"]:
                raise unknown(f"`{self.name}`", str(one), about["choices"])
            if isinstance(one, float) and not math.isfinite(one):
                raise InputError(f"`{self.name}` must be finite, got {one}")
            for word, limit, wrong in (
                ("at least", about.get("least"), lambda a, b: a < b),
                ("at most", about.get("most"), lambda a, b: a > b),
                ("above", about.get("above"), lambda a, b: a <= b),
                ("below", about.get("below"), lambda a, b: a >= b),
            ):
                if limit is not None and wrong(one, limit):
                    raise InputError(f"`{self.name}` must be {word} {limit}, got {one}")


@dataclass(frozen=True, kw_only=True)
class Settings:
    """The base of every settings class: checks of all fields, presets, and the way to and from a file.

    Attributes:
        PRESETS: values by a preset's name, of which one is the start wherever a value is not given. PRESET: the one
            that is taken unless another is named. FLAG: one that has an option of its own.
    """

    PRESETS: ClassVar[Mapping[str, Mapping[str, Any]]] = {}
    PRESET: ClassVar[str] = ""
    FLAG: ClassVar[str] = ""

    def __post_init__(self) -> None:
        for key in keys_of(type(self)):
            if len(key.path) == 1:
                key.check(getattr(self, key.path[0]))

    def manifest(self, *leave: str, **instead: Any) -> dict[str, Any]:
        """The fields by name, as a manifest holds them: what decides results, but `leave`; `instead` as told."""
        return {name: value for name, value in asdict(self).items() if name not in (*leave, *IDLE)} | instead

    @classmethod
    def of(cls, preset: str = "", **given: Any) -> Self:
        """Settings from a preset and what is given, by key.

        Raises:
            InputError: an unknown preset or key, a value that cannot be, or none where there has to be one.
        """
        start: Mapping[str, Any] = {}
        if cls.PRESETS:
            preset = preset or cls.PRESET
            if preset not in cls.PRESETS:
                raise unknown("preset", preset, cls.PRESETS)
            start = cls.PRESETS[preset]
        return build(cls, {**start, **given})


def keys_of(cls: type[Settings]) -> tuple[Key, ...]:
    """Every setting of a class, those of its parts among them, in their order."""
    if cls not in _FOUND:
        _FOUND[cls] = tuple(_keys(cls, ()))
    return _FOUND[cls]


def _keys(cls: type[Any], above: tuple[str, ...]) -> Iterator[Key]:
    hints = typing.get_type_hints(cls)
    for one in fields(cls):
        kind, optional = bare(hints[one.name])
        if isinstance(kind, type) and issubclass(kind, Settings):
            wanted = one.metadata.get("keys") or ()
            for key in _keys(kind, (*above, one.name)):
                if not wanted or key.name in wanted:
                    yield key
        elif "help" in one.metadata:
            name = one.metadata["key"] or one.name
            yield Key(name, (*above, one.name), kind, optional, _default(one), one.metadata)


def _default(one: Field[Any]) -> Any:
    return one.default if one.default_factory is MISSING else one.default_factory()


def build(cls: type[S], given: Mapping[str, Any]) -> S:
    """Settings of a class from values by key, or by field; what is not given is the default.

    Raises:
        InputError: an unknown key, a value that cannot be, or none where there has to be one.
    """
    found = {key.name: key for key in keys_of(cls)}
    own = {one.name for one in fields(cls)}
    parts: dict[str, dict[str, Any]] = {}
    values: dict[str, Any] = {}
    for name, value in given.items():
        if name in found and len(found[name].path) > 1:
            parts.setdefault(found[name].path[0], {})[name] = value
        elif name in found:
            values[found[name].path[0]] = value
        elif name in own:
            values[name] = value
        else:
            raise unknown("setting", name, found)
    hints = typing.get_type_hints(cls)
    for name, inside in parts.items():
        start = values.get(name, cls.__dataclass_fields__[name].default)  # type: ignore[attr-defined]
        values[name] = _changed(bare(hints[name])[0] if start is MISSING else start, inside)
    for one in fields(cls):
        if one.init and one.default is MISSING and one.default_factory is MISSING and one.name not in values:
            raise InputError(f"`{one.metadata.get('key') or one.name}` has to be given")
    return cls(**values)


def _changed(start: Any, given: Mapping[str, Any]) -> Any:
    if isinstance(start, type):
        return build(start, given)
    found = {key.name: key.path[0] for key in keys_of(type(start))}
    return replace(start, **{found[name]: value for name, value in given.items()})


def values_of(settings: Settings) -> dict[str, Any]:
    """Every setting's value by its key, those of parts among them."""
    found = {}
    for key in keys_of(type(settings)):
        value: Any = settings
        for name in key.path:
            value = getattr(value, name)
        found[key.name] = value
    return found


def defaults_of(settings: Any) -> dict[str, Any]:
    """What the fields of a dataclass are where nothing is given, those of its parts within them and beside the others.

    Fields that have no default, of which there is nothing to say, are left out.
    """
    found: dict[str, Any] = {}
    for one in fields(settings):
        held = getattr(settings, one.name)
        default = defaults_of(held) if is_dataclass(held) else _default(one)
        if default is not MISSING:
            found = {**(default if is_dataclass(held) else {}), **found, one.name: default}
    return found


def to_toml(settings: Settings) -> str:
    """A settings file that gives these settings again, each with its help."""
    values = values_of(settings)
    lines = []
    for key in keys_of(type(settings)):
        said = f"  # {key.about['help']}" if key.about["help"] else ""
        lines.append(f"{key.name} = {toml(values[key.name], key.about['none'])}{said}")
    return "\n".join(lines) + "\n"


def write_settings(folder: Path, settings: Settings) -> None:
    """Put `settings.toml` into a run folder: `config` takes it, and the run is repeated."""
    write_whole(folder / FILE, to_toml(settings).encode())


def read_files(cls: type[Settings], files: Sequence[Path]) -> dict[str, Any]:
    """What settings files say, by key; `preset` too, where the class has some.

    Raises:
        InputError: a file that cannot be read, an unknown key, a value of a wrong type, or two files that disagree.
    """
    found = {key.name: key for key in keys_of(cls)}
    known = [*found, *(["preset"] if cls.PRESETS else [])]
    values: dict[str, Any] = {}
    said: dict[str, Path] = {}
    for path in files:
        try:
            content = tomllib.loads(path.read_text(encoding="utf-8"))
        except OSError as error:
            raise InputError(f"the settings file {path} cannot be read: {error.strerror}") from error
        except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
            raise InputError(f"{path} is not a settings file in TOML: {error}") from error
        for name, value in content.items():
            if name not in known:
                raise unknown("setting", name, known, str(path))
            one = found[name].take(value, str(path)) if name in found else value
            if name in values and values[name] != one:
                first = said[name]
                raise InputError(f"{first} and {path} disagree on {name}: {values[name]} and {one}; name one of them")
            values[name], said[name] = one, path
    return values


def read_pairs(cls: type[Settings], pairs: Sequence[str]) -> dict[str, Any]:
    """What `key=value` texts say, the later ones first heard last.

    Raises:
        InputError: a text without a value, an unknown key, or a value that cannot be read.
    """
    found = {key.name: key for key in keys_of(cls)}
    values: dict[str, Any] = {}
    for pair in pairs:
        name, equals, text = pair.partition("=")
        name = name.strip().replace("-", "_")
        if not equals or not text.strip():
            raise InputError(f"'{pair}' sets nothing; write key=value")
        if name not in found and not (name == "preset" and cls.PRESETS):
            raise unknown("setting", name, found)
        values[name] = found[name].read(text.strip()) if name in found else text.strip()
    return values
