"""`apm figures`: a run's figures drawn again from what it saved."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from commands.figures import FIGURES, FOLDERS, PICTURES, _function

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


@pytest.mark.parametrize("kind", sorted({*FIGURES, *FOLDERS, *PICTURES}))
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
    assert "not saved" in runs["b"]["left"][0] and "does not exist" in runs["half"]["left"][0]
    assert "not drawn" in runs["damaged"]["left"][0]
    code, text, error = call("figures", tmp_path)
    assert code == 0 and "trace.svg" in text and "2 files drawn" in text
    for folder in (tmp_path / "gone", tmp_path / "a" / "empty"):
        code, _, error = call("figures", folder)
        assert code == 2 and "holds no run" in error and error.count("\n") == 1
