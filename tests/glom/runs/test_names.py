"""Names as disks have them: not UTF-8, not ASCII, as long as they may be; and readers that go away."""

from __future__ import annotations

import ast
import json
import os
import resource
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from glom.datasets import open_dataset
from glom.errors import RunError
from glom.runs.artifacts import LineFile, read_json, read_lines, write_json
from glom.runs.files import LONGEST, file_stem, replacing, write_text, write_whole
from glom.runs.saving import save_state, save_tensors
from tests.conftest import make_image
from tests.helpers_images import encoded

ROOT = Path(__file__).parents[3]
ASCII = {"LC_ALL": "C", "PYTHONIOENCODING": "ascii", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
UTF8 = {"LC_ALL": "C.UTF-8", "PYTHONUTF8": "1", "PYTHONIOENCODING": "utf-8"}
NAMES = (b"ni\xf1o.png", b"ni\xc3\xb1o.png", "\u732b\U0001f408.png".encode(), b"a\nb.png", b"\\udcf1.png")


def put(root: Path, *names: bytes) -> Path:
    """Pictures of these names in two class folders, one of them no UTF-8."""
    data = encoded(make_image(3))
    for folder in (b"caf\xe9", b"ship"):
        place = root / os.fsdecode(folder)
        place.mkdir(parents=True)
        for name in names:
            (place / os.fsdecode(name)).write_bytes(data)
    return root


def apm(*arguments: object, env: dict[str, str]) -> subprocess.CompletedProcess[bytes]:
    command = [sys.executable, str(ROOT / "cli.py"), *map(str, arguments)]
    return subprocess.run(
        command, capture_output=True, env={**os.environ, "OMP_NUM_THREADS": "1", **env}, cwd=ROOT, timeout=240
    )


def test_ids_of_any_bytes_come_back_as_they_were(tmp_path):
    ids = [sample.id for sample in open_dataset(str(put(tmp_path / "data", *NAMES)))]
    assert len(set(ids)) == 2 * len(NAMES)
    lines = LineFile(tmp_path / "results.jsonl")
    for name in ids:
        lines.append({"id": name, "note": name})
    lines.close()
    write_json(tmp_path / "x.json", {"ids": ids})
    write_text(tmp_path / "x.html", "".join(ids))
    assert [line["id"] for line in read_lines(tmp_path / "results.jsonl")] == ids
    assert read_json(tmp_path / "x.json") == {"ids": ids}
    for path in tmp_path.glob("*.*"):
        path.read_text(encoding="utf-8")  # what others read is plain UTF-8


def test_a_selection_and_its_fingerprint_take_any_name(tmp_path):
    data = open_dataset(str(put(tmp_path / "data", *NAMES)))
    assert len(data.limit(4, seed=1)) == 4
    assert data.fingerprint() == open_dataset(str(tmp_path / "data")).fingerprint()


def test_a_run_begun_in_the_c_locale_goes_on_in_another(tmp_path):
    data, out = put(tmp_path / "data", *NAMES[:3]), tmp_path / "run"
    small = ["--out", out, "--iterations", "1", "--queries", "4", "--limit", "5", "--quiet"]
    first = apm("ttt", "run", data, *small, env=ASCII)
    assert first.returncode == 0, first.stderr
    ids = {line["id"] for line in read_lines(out / "results.jsonl")}
    assert len(ids) == 5 and ids <= {sample.id for sample in open_dataset(str(data))}
    kept = (out / "results.jsonl").read_bytes().splitlines(keepends=True)
    (out / "results.jsonl").write_bytes(b"".join(kept[:2]))
    again = apm("ttt", "run", data, *small, "--resume", "--json", env=UTF8)
    assert again.returncode == 0, again.stderr
    assert json.loads(again.stdout)["n"] == 5
    assert (out / "results.jsonl").read_bytes().splitlines(keepends=True) == kept


def test_json_on_a_terminal_that_knows_ascii_only(monkeypatch, tmp_path):
    from commands.common import emit_json

    value = {"id": "\u732b\U0001f408 ni\udcf1o"}
    for encoding in ("ascii", "latin-1", "utf-8"):
        with (tmp_path / encoding).open("w", encoding=encoding) as file:
            monkeypatch.setattr(sys, "stdout", file)
            emit_json(value)
            monkeypatch.undo()
        assert json.loads((tmp_path / encoding).read_bytes()) == value


@pytest.mark.parametrize("length", range(248, 256))
def test_names_as_long_as_a_disk_takes(tmp_path, length):
    name = "x" * (length - 4) + ".png"
    write_whole(tmp_path / name, b"1")
    write_json(tmp_path / name, 2)
    assert [path.name for path in tmp_path.iterdir()] == [name]
    stem = file_stem(tmp_path / name)
    assert len(stem) <= LONGEST and stem != file_stem(tmp_path / ("y" + name[1:]))
    assert file_stem("b/" + name) != file_stem("a/" + name, taken=[file_stem("b/" + name)])
    assert len(os.fsencode(file_stem("\u732b" * 83 + ".png"))) <= LONGEST


def stop_half_way(path: Path, error: BaseException) -> None:
    with replacing(path) as file:
        file.write(b"half")
        raise error


def test_whatever_ends_a_write_leaves_the_old_file_alone(tmp_path):
    path = tmp_path / "w.safetensors"
    save_tensors(path, {"a": torch.ones(2)})
    old = path.read_bytes()
    for error, seen in ((KeyboardInterrupt(), KeyboardInterrupt), (OSError(28, "full"), RunError)):
        with pytest.raises(seen):
            stop_half_way(path, error)
        assert path.read_bytes() == old and list(tmp_path.iterdir()) == [path]
    with pytest.raises(TypeError):
        save_state(path, {"a": sys.stdout.__class__.__dict__})  # nothing that torch can write
    assert path.read_bytes() == old and list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("save", [save_tensors, save_state])
@pytest.mark.parametrize("size", [20_000, 200_000])
def test_a_disk_that_takes_no_more_is_one_line_whoever_writes(tmp_path, save, size):
    """A limit on the size of files stands for the full disk: met in the midst of a tensor, or between two."""
    path = tmp_path / "w.safetensors"
    save(path, {"a": torch.ones(2)})
    old, limits = path.read_bytes(), resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, limits[1]))
    try:
        with pytest.raises(RunError, match=r"w\.safetensors could not be written: File too large$"):
            save(path, {"a": torch.zeros(size), "b": torch.zeros(20_000)})
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert path.read_bytes() == old and list(tmp_path.iterdir()) == [path]


def test_weights_are_written_in_one_place():
    """`glom.runs.saving` alone calls a writer of weights: all others would leave half a file where they are killed."""
    found = []
    for folder in ("glom", "probes", "experiments", "commands"):
        for path in (ROOT / folder).rglob("*.py"):
            tree = ast.parse(path.read_text(encoding="utf-8"))
            imported = [
                node
                for node in ast.walk(tree)
                if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("safetensors")
            ]
            names = {alias.name for node in imported for alias in node.names}
            calls = {ast.unparse(node.func) for node in ast.walk(tree) if isinstance(node, ast.Call)}
            if names & {"save", "save_file"} or "torch.save" in calls:
                found.append(path.relative_to(ROOT).as_posix())
    assert found == ["glom/runs/saving.py"]


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (["--help"], 0),
        (["--version"], 0),
        (["ttt", "run", "--help"], 0),
        (["datasets", "list"], 0),
        (["datasets", "list", "--json"], 0),
        (["datasets", "lost"], 2),
    ],
)
def test_a_reader_that_goes_away_is_no_failure(arguments, code):
    """`| head`: quiet, also where all of it would be written at the interpreter's end only; errors keep their code."""
    reader, writer = os.pipe()
    os.close(reader)
    command = [sys.executable, str(ROOT / "cli.py"), *arguments]
    done = subprocess.run(command, stdout=writer, stderr=subprocess.PIPE, cwd=ROOT, timeout=120)
    both = subprocess.run(command, stdout=writer, stderr=writer, cwd=ROOT, timeout=120)
    os.close(writer)
    assert (done.returncode, both.returncode) == (code, code), done.stderr
    assert bool(done.stderr) == bool(code) and b"Traceback" not in done.stderr
