"""`apm figures`: a run's figures drawn again from what it saved."""

from __future__ import annotations

import ast
import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from commands.figures import FIGURES, FILES, FOLDERS, KEEPS, _function
from glom.errors import InputError
from probes.explorer.pack import pack, unpack
from probes.figures.again import WAYS, draw, redraw
from probes.figures.grids import grid_sheet

NO_FIGURES = ("keep", "kept", "save", "draw", "write_film", "keep_sheet", "keep_outlines")
ROOT = Path(__file__).parents[2]


def run_folder(folder: Path, kind: str, result: object = None, records: list[dict] | None = None) -> Path:
    folder.mkdir(parents=True)
    (folder / "manifest.json").write_text(json.dumps({"format": 1, "kind": kind, "settings": {"image": "a$b.png"}}))
    if result is not None:
        (folder / "result.json").write_text(json.dumps(result))
    if records:
        (folder / "results.jsonl").write_text("".join(json.dumps(r) + "\n" for r in records))
    return folder


def traced() -> dict:
    steps = [{"iteration": i, "loss": 1 / (i + 1), "cosine": i / 4, "class": 1} for i in range(4)]
    said = {f"{who}_{key}": value for who in ("teacher", "apm") for key, value in (("name", "cat"), ("probability", 1))}
    return {"trace": steps, "teacher_class": 1, "names": {"1": "cat"}, "classes": 10, **said}


def drawing() -> set[str]:
    """What of `probes.figures` draws a file: `module:function`, for functions that take a `path`."""
    found = set()
    for path in (ROOT / "probes" / "figures").glob("*.py"):
        for node in ast.parse(path.read_text(encoding="utf-8")).body:
            named = isinstance(node, ast.FunctionDef) and not node.name.startswith("_") and node.name not in NO_FIGURES
            if named and "path" in [a.arg for a in node.args.args]:
                found.add(f"{path.stem}:{node.name}")
    return found


def test_what_a_study_draws_is_drawn_again():
    """A study draws through `again.draw`, which keeps what it draws from, or by what `apm figures` calls as well."""
    known = {name for entries in FIGURES.values() for _, name, _ in entries} | {name for name, _ in FILES.values()}
    again = {name.rpartition(".")[2].split(":")[1] for name in known if name.startswith("probes.figures.")}
    modules = {name.partition(":")[0] for name in (*FOLDERS.values(), *(n for n in known if "experiments." in n))}
    functions = {name.partition(":")[2] for name in drawing()}
    left = []
    for path in sorted((ROOT / "experiments").rglob("*.py")):
        if ".".join(path.relative_to(ROOT).with_suffix("").parts) in modules:
            continue  # draws from its run folder
        tree = ast.parse(path.read_text(encoding="utf-8"))
        left += [
            f"{path.name}: {node.func.id}"
            for node in ast.walk(tree)
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name)
            if node.func.id in functions - again - {"draw"}
        ]
    assert left == ["figure.py: sweep_figure"]  # `apm sweep plot` is asked for by name, from runs that are kept
    assert set(WAYS) <= drawing()


def test_a_kept_figure_is_drawn_again_and_nothing_else_is(tmp_path):
    picture = Image.new("RGB", (900, 30), "red")
    rows = [[("a$b", picture), ("b", np.random.default_rng(0).random((4, 4, 3)))]]
    drawn = draw(tmp_path / "deep" / "grids.png", grid_sheet, tmp_path, rows=rows).read_bytes()
    (tmp_path / "deep" / "grids.png").unlink()
    assert [p.name for p in redraw(tmp_path)] == ["grids.png", "grids.svg"]
    assert (tmp_path / "deep" / "grids.png").read_bytes() == drawn
    file = tmp_path / "drawn" / "grids.png.bin"
    kept = unpack(file.read_bytes())
    for wrong in ({**kept, "way": "base:keep"}, {**kept, "path": "../grids.png"}, {"values": {}}):
        file.write_bytes(pack(wrong))
        with pytest.raises(InputError, match=r"grids\.png\.bin"):
            redraw(tmp_path)
    file.write_bytes(file.read_bytes()[:-5])
    with pytest.raises(InputError, match="cut or damaged"):
        redraw(tmp_path)
    assert not (tmp_path.parent / "grids.png").exists()


@pytest.mark.parametrize("kind", sorted({*FIGURES, *FOLDERS, *KEEPS}))
def test_every_kind_is_some_runs_and_every_function_is_there(kind):
    sources = [path.read_text(encoding="utf-8") for path in (ROOT / "experiments").rglob("*.py")]
    assert any(f'"{kind}"' in source for source in sources)
    for name in [FOLDERS[kind]] if kind in FOLDERS else [function for _, function, _ in FIGURES.get(kind, ())]:
        assert callable(_function(name))


def test_runs_below_a_folder_are_drawn_and_what_is_left_is_said(call, tmp_path):
    run_folder(tmp_path / "a", "trace", traced())
    epochs = [{"id": f"{i}", "epoch": i, "loss": 1.0, "feature_loss": 0.5, "rgb_loss": 0.5} for i in range(3)]
    run_folder(tmp_path / "b", "fold", {})
    run_folder(tmp_path / "half", "trace")
    run_folder(tmp_path / "damaged", "folding", {"rows": []}, epochs)
    code, text, error = call("figures", tmp_path, "--json")
    assert code == 0, error
    runs = {Path(run["folder"]).name: run for run in json.loads(text)["runs"]}
    assert runs["a"]["drawn"] == ["trace.png", "trace.svg"] and not runs["a"]["left"]
    assert (tmp_path / "a" / "trace.png").stat().st_size > 5000
    assert "run it again" in runs["b"]["left"][0] and "does not exist" in runs["half"]["left"][0]
    assert "not drawn" in runs["damaged"]["left"][0]
    code, text, error = call("figures", tmp_path)
    assert code == 0 and "trace.svg" in text and "2 files drawn" in text
    for folder in (tmp_path / "gone", tmp_path / "a" / "empty"):
        code, _, error = call("figures", folder)
        assert code == 2 and "holds no run" in error and error.count("\n") == 1
