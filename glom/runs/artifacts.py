"""Run folders: settings, results that survive a kill, and the rule that two runs never mix.

    manifest.json    settings, seed, versions, machine, the data set's fingerprint, the command, notices
    results.jsonl    one complete line a sample, in the data set's order; equal for equal settings
    timing.jsonl     seconds a sample, and a check sum of its line: apart, so that results compare byte for byte
    result.json      what the run found, written when it is complete

A line is written whole and flushed, or taken back; whatever half-line a kill leaves is cut off at the next opening.
"""

from __future__ import annotations

import contextlib
import json
import math
import os
import time
import zlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

from filelock import FileLock, Timeout

from glom.errors import InputError
from glom.runs.environment import command_line as command_line
from glom.runs.environment import machine as machine
from glom.runs.environment import public_command as public_command
from glom.runs.environment import public_name as public_name
from glom.runs.environment import versions as versions
from glom.runs.files import disk_error as disk_error
from glom.runs.files import json_bytes, write_whole
from glom.runs.notices import heard
from glom.runs.reading import parts
from glom.runs.reading import read_json as read_json
from glom.runs.reading import read_lines as read_lines
from glom.runs.reading import read_manifest as read_manifest
from glom.runs.reading import read_results as read_results
from glom.runs.reading import read_timing as read_timing
from glom.runs.tracking import track

FORMAT = 1
RESULT = "result.json"
# What the result was called before it had one name, by the first word of the run's kind ("" for a
# folder of runs); "summary.json" where it is not said here.
FORMER_RESULT = {
    "": "table.json",
    "bench": "compute.json",
    "fold": "fold.json",
    "ff-islands": "islands.json",
    "glom-islands": "islands.json",
    "islands-show": "show.json",
    "train-mae-tiny": "accuracy.json",
    "objective-confirm": "../confirm.json",
    "objective-select": "select.json",
    "reproduce": "table.json",
    "shortcut-matrix": "matrix.json",
    "trace": "trace.json",
}


def finite(value: Any) -> Any:
    """The same with None for NaN and infinities: JSON has no other word for them.

    Example:
        >>> finite({"a": [float("nan"), 1.5]})
        {'a': [None, 1.5]}
    """
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if isinstance(value, Mapping):
        return {key: finite(part) for key, part in value.items()}
    if isinstance(value, list | tuple):
        return [finite(part) for part in value]
    return value


def write_json(path: Path, value: Any) -> None:
    """Write `value` so that the file is either the old one or the new one, never half; see `finite` for NaN."""
    write_whole(path, json_bytes(finite(value), indent=2))


class LineFile:
    """Append-only JSON lines. Opening cuts a half-line off; a failed write is taken back."""

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            self._file = path.open("ab+", buffering=0)  # a buffer would try again what was taken back
            self._file.seek(0)
            raw = self._file.read()
            keep = raw.rfind(b"\n") + 1
            if keep != len(raw):
                self._file.truncate(keep)
        except OSError as error:
            raise disk_error(error, path) from error
        self._end = keep

    def append(self, record: Mapping[str, Any]) -> int:
        """Write one line and flush it to the disk; its check sum. As `extend`."""
        return self.extend([record])[0]

    def extend(self, records: Sequence[Mapping[str, Any]]) -> list[int]:
        """Write lines and flush them to the disk, once for all of them; their check sums.

        Raises:
            RunError: they cannot be written; the file then ends as before, or after the last that can.
        """
        lines = [json_bytes(record) for record in records]
        written = b"".join(lines)
        try:
            left = memoryview(written)
            while left:
                left = left[self._file.write(left) :]
            os.fsync(self._file.fileno())
        except OSError as error:
            with contextlib.suppress(OSError):  # if even this fails, the next opening cuts the half-line off
                os.ftruncate(self._file.fileno(), self._end)
            if len(lines) > 1:
                return [self.append(record) for record in records]
            raise disk_error(error, self.path) from error
        self._end += len(written)
        return [zlib.crc32(line) for line in lines]

    def close(self) -> None:
        with contextlib.suppress(OSError):
            self._file.close()


def differences(old: Mapping[str, Any], new: Mapping[str, Any]) -> list[str]:
    """`name: old -> new` for every setting that differs."""
    keys = [k for k in {**old, **new} if old.get(k) != new.get(k)]
    return [f"{k}: {old.get(k)!r} -> {new.get(k)!r}" for k in keys]


def completed(old: Mapping[str, Any], new: Mapping[str, Any], defaults: Mapping[str, Any]) -> dict[str, Any]:
    """`old` with what it lacks of `new`, at any depth, where that has its default: what was done before there was a
    choice.

    Example:
        >>> completed({"a": 1}, {"a": 2, "b": 3, "c": 4}, {"a": 0, "b": 3, "c": 0})
        {'a': 1, 'b': 3}
    """
    found = dict(old)
    for name, value in new.items():
        if name not in found:
            found |= {name: value} if name in defaults and defaults[name] == value else {}
        elif isinstance(value, dict) and isinstance(found[name], dict) and isinstance(defaults.get(name), dict):
            found[name] = completed(found[name], value, defaults[name])
    return found


class RunFolder:
    """One run's folder, held by one process (or one group of ranks) at a time.

    Args:
        path: the folder; made if missing.
        kind: what ran, e.g. "ttt".
        settings: everything that decides the results; must match to resume.
        resume: go on with what is there, or start where there is nothing; without it a held folder is refused. None
            for a command that cannot go on: the refusal then does not speak of it.
        extra: what to record beside the settings (it need not match) and the command: the device, ...
        part: name of this process's results among several ("" for a single process).
        defaults: of settings, see `glom.settings.defaults_of`: one that the folder lacks, as it is older than the
            setting, counts as its default.

    Raises:
        InputError: the path is a file or not writable; another process holds it; it holds another run.
    """

    def __init__(
        self,
        path: Path,
        kind: str,
        settings: Mapping[str, Any],
        resume: bool | None = None,
        extra: Mapping[str, Any] | None = None,
        part: str = "",
        defaults: Mapping[str, Any] | None = None,
    ) -> None:
        self.path = path
        if path.exists() and not path.is_dir():
            raise InputError(f"{path} is a file; `out` needs a folder")
        try:
            path.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise InputError(f"the folder {path} cannot be made: {error.strerror}") from error
        if not os.access(path, os.W_OK | os.X_OK):
            raise InputError(f"the folder {path} is not writable")
        self._lock = FileLock(path / f".lock{part}")
        try:
            self._lock.acquire(timeout=0)
        except Timeout as error:
            alone = os.environ.get("WORLD_SIZE", "1") != "1" and not part
            advice = (
                "this command is one process's, start it as one" if alone else "wait for it or choose another `out`"
            )
            raise InputError(f"another process is writing to {path}; {advice}") from error
        except OSError as error:
            raise InputError(f"the folder {path} is not writable: {error.strerror}") from error
        try:
            # As JSON has them: lists for tuples.
            held, known = (json.loads(json.dumps(given)) for given in (settings, defaults or {}))
            self._open(kind, held, known, resume, dict(extra or {}), part)
        except BaseException:
            self._lock.release()
            raise

    def _open(
        self,
        kind: str,
        settings: dict[str, Any],
        defaults: dict[str, Any],
        resume: bool | None,
        extra: dict[str, Any],
        part: str,
    ) -> None:
        manifest = self.path / "manifest.json"
        self.warnings: list[str] = []
        if manifest.exists():
            old = read_manifest(self.path)
            if old.get("format", 0) > FORMAT:
                raise InputError(f"{manifest} was written by a newer version of the toolkit (format {old['format']})")
            old["settings"] = completed(old.get("settings", {}), settings, defaults)
            if old.get("kind") != kind or old["settings"] != settings:
                changed = differences(old["settings"], settings) or [f"kind: {old.get('kind')} -> {kind}"]
                raise InputError(f"{self.path} holds another run ({'; '.join(changed[:4])}); choose another `out`")
            # Of several ranks the first one opens a folder before the others do.
            if not resume and (not part or part.startswith("-0-")):
                way = "delete the folder to start anew" if resume is None else "add `resume` to go on"
                raise InputError(f"{self.path} already holds this run; {way}, or choose another `out`")
            moved = differences(old.get("versions", {}), versions())
            if moved:
                self.warnings.append(f"package versions changed since this run began: {'; '.join(moved)}")
            self.manifest = old
        else:
            others = [x.name for x in self.path.iterdir() if not x.name.startswith(".lock")]
            if others and not resume:
                raise InputError(f"{self.path} is not empty ({others[0]}, ...) and holds no run; choose another `out`")
            self.manifest = {"format": FORMAT, "kind": kind, "settings": settings}
        self.manifest.update(
            {
                "status": "running",
                "versions": versions(),
                "machine": machine(),
                "started": self.manifest.get("started", time.strftime("%Y-%m-%dT%H:%M:%S%z")),
                "command": self.manifest.get("command") or command_line(),
                **extra,
            }
        )
        self._notices()
        if not part or not manifest.exists():
            write_json(manifest, self.manifest)
        self._part = part
        self._lines: dict[str, LineFile] = {}
        self._tracker = track(self.path, settings, self._sent())

    def _sent(self) -> list[dict[str, Any]]:
        """Every line of results there is, as it was written."""
        return list(parts(self.path, "results"))

    def records(self) -> list[dict[str, Any]]:
        """Every result there is, from all parts, each sample once."""
        return read_results(self.path)

    def append(self, record: Mapping[str, Any], seconds: float | None = None, own: float | None = None) -> None:
        """Add one sample's result (and, beside it, how long it took; `own`: the method's part of it)."""
        self.extend([(record, seconds, own)])

    def extend(self, rows: Sequence[tuple[Mapping[str, Any], float | None, float | None]]) -> None:
        """Add results that were there at once, each with its `seconds` and `own` of `append`: they are flushed to the
        disk together, since a flush may take as long as a picture does."""
        if not rows:
            return
        sums = self._file("results").extend([record for record, _, _ in rows])
        timing = []
        for (record, seconds, own), written in zip(rows, sums, strict=True):
            if self._tracker is not None:
                self._tracker.sample(record)
            took = {k: round(s, 6) for k, s in (("seconds", seconds), ("own", own)) if s is not None}
            timing.append({"id": record["id"], **(took if seconds is not None else {}), "crc": written})
        self._file("timing").extend(timing)

    def _file(self, stem: str) -> LineFile:
        # Opened at the first line: a run without samples leaves no empty files.
        if stem not in self._lines:
            self._lines[stem] = LineFile(self.path / f"{stem}{self._part}.jsonl")
        return self._lines[stem]

    def conclude(self, result: Mapping[str, Any], /, **extra: Any) -> None:
        """Write what the run found, and that it is complete; `extra` goes into the manifest."""
        write_json(self.path / RESULT, result)
        if self._tracker is not None:
            self._tracker.end(result, self._sent())
        self.finish(**extra)

    def finish(self, status: str = "complete", **extra: Any) -> None:
        """Write the run's last word into its manifest."""
        self.manifest.update({"status": status, **extra})
        self._notices()
        write_json(self.path / "manifest.json", self.manifest)

    def _notices(self) -> None:
        """What was said of the data and of what was assumed belongs to the run."""
        said = list(dict.fromkeys([*self.manifest.get("notices", []), *heard()]))
        if said:
            self.manifest["notices"] = said

    def close(self) -> None:
        for file in self._lines.values():
            file.close()
        if self._tracker is not None:
            self._tracker.close()
        self._lock.release()

    def __enter__(self) -> RunFolder:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        self.close()


def read_result(folder: Path) -> Any:
    """What a run found, under today's name or a former one. Raises `InputError` where it has found nothing yet."""
    return read_json(result_file(folder))


def result_file(folder: Path) -> Path:
    """Where a run's result is, or will be: `RESULT`, in an older folder `FORMER_RESULT`."""
    manifest = folder / "manifest.json"
    kind = read_manifest(folder)["kind"] if manifest.is_file() else ""
    former = folder / FORMER_RESULT.get(kind.partition(" ")[0], "summary.json")
    return former if former.is_file() and not (folder / RESULT).is_file() else folder / RESULT


def origin() -> dict[str, Any]:
    """How what this very process finds was made: `command`, `machine`, `versions`."""
    return {"command": public_command(), "machine": machine(), "versions": versions()}


def write_record(path: Path, found: Mapping[str, Any], run: Path | None = None) -> None:
    """Write what was found for `benchmarks/results`: first how it was made, without places of this machine.

    Args:
        run: the run's folder, whose manifest then says the command, the settings, the machine and the versions; None
            for what leaves no folder, and was found by this very process.

    Raises:
        InputError: the folder cannot be made, `run` holds no run. RunError: the disk is full.
    """
    made = origin()
    if run is not None:
        manifest = read_manifest(run)
        made |= {key: manifest[key] for key in (*made, "kind", "settings", "started") if key in manifest}
        made |= {"command": public_command(made["command"]), "settings": _public(made["settings"])}
    make_parent(path)
    write_json(path, {**made, **found})


def _public(value: Any) -> Any:
    """The same with files and folders by their last names."""
    if isinstance(value, str):
        return public_name(value)
    if isinstance(value, Mapping):
        return {key: _public(part) for key, part in value.items()}
    return [_public(part) for part in value] if isinstance(value, list | tuple) else value


def make_parent(path: Path) -> None:
    """Make the folder a file will lie in. Raises `InputError` where that is impossible."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"the folder {path.parent} cannot be made: {error.strerror}") from error


def check_record(path: str | None) -> None:
    """Say before a run whether its record can be written; see `check_target`. None is no record."""
    if path is not None:
        check_target(Path(path), "`record`")


def check_target(path: Path, option: str) -> None:
    """See that a file can be written, before the work that it is to hold. Makes nothing.

    Args:
        option: what named it, for the message.

    Raises:
        InputError: the path is a folder, or lies in a file or in a folder that cannot be written.
    """
    if path.is_dir():
        raise InputError(f"{option} {path} is a folder; name a file in it")
    above = next(folder for folder in path.absolute().parents if folder.exists())
    if not above.is_dir():
        raise InputError(f"{option} {path}: {above.name} is a file, not a folder")
    if not os.access(above, os.W_OK | os.X_OK):
        raise InputError(f"{option} {path}: the folder {above} is not writable")
