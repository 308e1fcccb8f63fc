"""`apm benchmark` with a second teacher, kinds of views, two steps by name, and what is kept on the disk."""

from __future__ import annotations

import json

from glom.datasets import corruptions
from glom.runs.artifacts import read_json, read_results


def test_two_teachers_stand_in_a_table_and_in_what_a_run_must_match(call, image_folder, tmp_path):
    names = "zero-shot,second-zero-shot,zero2,ensemble+zero,mta"
    base = ("benchmark", "-m", names, "-d", image_folder, "--limit", "2", "--quiet")
    code, out, err = call(*base, "--second-teacher", "glom-tiny", "--out", tmp_path / "run", "--json")
    assert code == 0, err
    table = json.loads(out)
    assert [r["method"] for r in table["rows"]] == names.split(",")
    assert table["settings"]["second"] == "glom-tiny"
    [place] = (tmp_path / "run").glob("*/zero2")
    assert read_json(place / "manifest.json")["settings"]["second_teacher"] == "glom-tiny"
    assert "second_teacher" not in read_json(place.parent / "mta" / "manifest.json")["settings"]
    other = ("--second-teacher", "glom-tiny", "--views", "augmix")
    code, _, err = call(*base, *other, "--out", tmp_path / "run", "--resume")
    assert code == 2 and "another run" in err
    code, _, err = call(*base, "--out", tmp_path / "none")
    assert (code, err.count("error:")) == (2, 1) and "second teacher" in err
    code, _, err = call(*base, "--second-teacher", "timm:test_vit@random", "--out", tmp_path / "none")
    assert (code, err.count("error:")) == (2, 1) and "the second teacher cannot name the classes of glom-tiny" in err
    code, _, err = call(*base, "--second-teacher", "glom-tiny", "--views", "squares", "--out", tmp_path / "none")
    assert code == 2 and "unknown --views 'squares'" in err
    code, _, err = call("benchmark", "-m", "zero-shot,zero+mta", "-d", image_folder, "--out", tmp_path / "none")
    assert (code, err.count("error:")) == (2, 1) and "neither of the two starts" in err
    assert not (tmp_path / "none").exists()


def test_a_corrupted_picture_is_made_once_for_all_methods_and_runs(call, image_folder, tmp_path, monkeypatch):
    made: list[str] = []
    import glom.teachers.corrupted as module

    monkeypatch.setattr(module, "corrupt", lambda *x: made.append(str(x[1])) or corruptions.corrupt(*x))
    base = ("benchmark", "-m", "zero-shot,ensemble,mta,zero", "-d", image_folder, "--corruptions", "fog:3,contrast:2")

    def answers(name: str, *more: object) -> list[list[dict[str, object]]]:
        code, _, err = call(*base, "--limit", "2", "--out", tmp_path / name, "--quiet", *more)
        assert code == 0, err
        return [read_results(p) for p in sorted((tmp_path / name).glob("*/*")) if p.is_dir()]

    first = answers("one", "--keep", tmp_path / "kept")
    assert answers("two", "--keep", tmp_path / "kept") == first
    assert sorted(made) == ["contrast:2"] * 2 + ["fog:3"] * 2
    assert answers("alone") == first
    (tmp_path / "file").write_text("")
    code, _, err = call(*base, "--out", tmp_path / "none", "--keep", tmp_path / "file")
    assert (code, err.count("error:")) == (2, 1) and "is a file" in err
