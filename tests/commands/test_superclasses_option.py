"""`--superclasses` and `--nameable` in the four commands that ask a classifier for classes."""

import json

import pytest
from PIL import Image

from cli import app
from commands.ending import guard
from experiments.objective.run import prepare
from experiments.objective.settings import ObjectiveSettings

TEACHER = "timm:test_efficientnet@random"


@pytest.fixture
def call(capsys, tmp_path):
    for n, name in enumerate(("dog", "giraffe", "guitar", "horse")):
        (tmp_path / "pacs" / name).mkdir(parents=True)
        for m in range(6):
            picture = Image.linear_gradient("L").resize((48, 48)).rotate(90 * n).convert("RGB")
            Image.blend(picture, Image.new("RGB", (48, 48), (40 * m, 90, 30 * n)), 0.5).save(
                tmp_path / "pacs" / name / f"{m}.png"
            )

    def run(*arguments: object) -> tuple[int, str, str]:
        code = guard(app, [str(a).replace("PACS", str(tmp_path / "pacs")) for a in arguments])
        said = capsys.readouterr()
        return code, said.out, said.err

    return run


ASK = {
    "score": ("teachers", "score", TEACHER, "PACS", "--json"),
    "ttt": ("ttt", "run", "PACS", "-t", TEACHER, "--iterations", 1, "--limit", 3, "--json"),
    "benchmark": ("benchmark", "-m", "zero-shot,views", "-d", "PACS", "-t", TEACHER, "--limit", 3, "--json"),
}


@pytest.mark.parametrize("name", ASK)
def test_every_command_gathers_leaves_out_and_refuses(call, tmp_path, name):
    out = () if name == "score" else ("--out", tmp_path / "out")
    code, _, said = call(*ASK[name], "--superclasses", "pacs", *out)
    assert code == 2 and "do not name 1 of its 4 classes (giraffe); --nameable leaves them out" in said
    assert "\n" not in said.strip()
    code, printed, said = call(*ASK[name], "--superclasses", "pacs", "--nameable", "-q", *out)
    assert code == 0, said
    assert "1 of its 4 classes (giraffe) left out with 6 pictures" in said
    if name == "benchmark":
        rows = json.loads(printed)["rows"]
        assert {row["n"] for row in rows} == {3}
        records = [json.loads(x) for x in next((tmp_path / "out").rglob("results.jsonl")).read_text().splitlines()]
        assert {record["label"] for record in records} == {0, 1, 2}


def test_a_run_is_not_resumed_with_another_table(call, tmp_path):
    (tmp_path / "x.tsv").write_text("151\tdog\n402\tguitar\n339\thorse\n")
    asked = (*ASK["benchmark"], "--nameable", "-q", "--out", tmp_path / "out")
    assert call(*asked, "--superclasses", tmp_path / "x.tsv")[0] == 0
    (tmp_path / "x.tsv").write_text("151\tdog\n152\tdog\n402\tguitar\n339\thorse\n")
    code, _, said = call(*asked, "--superclasses", tmp_path / "x.tsv", "--resume")
    assert code == 2 and "superclasses_fingerprint" in said


def test_the_objective_study_gathers_leaves_out_and_refuses(call, tmp_path):
    asked = ObjectiveSettings(data=(str(tmp_path / "pacs"),), teacher=TEACHER, superclasses="pacs", nameable=True)
    study = prepare(asked)
    [ready] = study.sets
    assert ready.head.classes == ready.dataset.classes == ("dog", "guitar", "horse")
    assert "superclasses_fingerprint" in study.held("select")
    code, _, said = call(
        *("ablate", "objective", "select", "PACS", "-t", TEACHER, "--superclasses", "pacs", "--out", tmp_path / "out")
    )
    assert code == 2 and "--nameable leaves them out" in said
