"""The objective study: halves, candidates' arithmetic, one confirmation only; and prompts that learn."""

from __future__ import annotations

import json
import math
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
import typer
from PIL import Image
from torch import nn

from commands.ablate import app
from commands.ending import guard
from experiments.comparison.run import run as run_benchmark
from experiments.comparison.settings import BenchmarkSettings
from experiments.objective.candidates import CANDIDATES
from experiments.objective.encode import blocks_of, crop_centres, mixed_statistics
from experiments.objective.prompts import PromptChoice
from experiments.objective.prompts import run as run_choice
from experiments.objective.readouts import agreeing, largest_island, mean_p, neighbours_agree
from experiments.objective.report import choose, compare, summarise
from experiments.objective.settings import CONFIRM, SELECT, ObjectiveSettings, conditions_of, half_of
from glom.adaptation.settings import TTTSettings
from glom.apm import Percept, preset
from glom.checkpoints import load_apm
from glom.columns import grid_queries, picture
from glom.errors import InputError
from glom.methods import FewShot, Method, Task, make_method
from glom.methods.aims import Aim, loss, relative, train
from glom.methods.prompts import PRESETS, CoCoOp, CoOp, prompt_preset
from glom.methods.trained import TrainedSettings, adapt_trained, trained_machine
from glom.methods.tuned import TPTSettings
from glom.methods.views import augmented, entropy
from glom.runs.statistics import mcnemar_exact
from glom.teachers.heads import ZeroShotHead
from glom.teachers.registry import load_teacher
from tests.conftest import make_image

SMALL = ["--limit", 5, "--conditions", "clean,contrast:3", "--views", 10, "--crops", 2, "--iterations", 4, "--quiet"]
HEAD = ZeroShotHead(("a", "b"), torch.eye(2), 1.0, None, normalize=False)


@pytest.fixture
def call(capsys):
    root = typer.Typer()
    root.add_typer(app, name="ablate")

    def run(*arguments: object) -> tuple[int, str, str]:
        code = guard(root, ["ablate", "objective", *map(str, arguments)])
        captured = capsys.readouterr()
        return code, captured.out, captured.err

    return run


# -- halves and conditions ---------------------------------------------------------------------------------------------


def test_halves_are_disjoint_stable_and_nearly_equal():
    ids = [f"cat/{i}.png" for i in range(2000)]
    halves = [half_of(i) for i in ids]
    assert set(halves) == {SELECT, CONFIRM}
    assert 900 < halves.count(SELECT) < 1100
    assert halves == [half_of(i) for i in ids]
    # Written down: a picture never changes its half, in whichever version.
    assert [h[0] for h in halves[:8]] == list("ccsscccs")


def test_a_picture_is_met_under_as_many_conditions_as_asked():
    settings = ObjectiveSettings(conditions=("clean", "fog:3", "contrast:5"), each=2)
    met = [conditions_of(str(i), settings) for i in range(300)]
    assert all(len(m) == 2 and list(m) == [c for c in settings.conditions if c in m] for m in met)
    counts = [sum(c in m for m in met) for c in settings.conditions]
    assert min(counts) > 150
    assert conditions_of("x", ObjectiveSettings(conditions=("clean", "fog:3"), each=0)) == ("clean", "fog:3")


@pytest.mark.parametrize(
    "wrong",
    [
        {"conditions": ()},
        {"conditions": ("fog:3", "fog:3")},
        {"conditions": ("fog:9",)},
        {"each": 99},
        {"limit": -1},
        {"trunk": (0,)},
        {"views": 1},
    ],
)
def test_wrong_settings_are_refused(wrong):
    with pytest.raises(InputError):
        ObjectiveSettings(**wrong)


def test_blocks_are_all_cases_once_in_order():
    assert [len(b) for b in blocks_of(list(range(10)), 4)] == [3, 4, 3]
    joined = [x for block in blocks_of(list(range(131)), 64) for x in block]
    assert joined == list(range(131))
    assert blocks_of([]) == []


# -- arithmetic --------------------------------------------------------------------------------------------------------


def test_mean_probability_of_known_answers():
    p, q = torch.tensor([[0.9, 0.1]]), torch.tensor([[0.3, 0.7]])
    torch.testing.assert_close(mean_p(p.log(), q.log()).exp(), torch.tensor([[0.6, 0.4]]))
    weighted = mean_p(p.log(), q.log(), weights=torch.tensor([[1.0], [3.0]]))
    torch.testing.assert_close(weighted.exp(), torch.tensor([[0.45, 0.55]]))


def test_agreement_of_neighbours_and_the_largest_island():
    east, north = torch.tensor([1.0, 0.0]), torch.tensor([0.0, 1.0])
    grid = east.repeat(1, 4, 4, 1)
    assert torch.allclose(neighbours_agree(grid), torch.ones(1, 4, 4))
    grid[0, :, 3] = north  # a column of another island
    found = neighbours_agree(grid)[0]
    assert found[1].tolist() == pytest.approx([1, 1, 3 / 4, 2 / 3])
    assert largest_island(grid)[0].tolist() == pytest.approx([1, 0])
    weights = found / found.sum()
    torch.testing.assert_close(agreeing(grid)[0], torch.stack([weights[:, :3].sum(), weights[:, 3].sum()]))


def test_crops_lie_where_their_centres_say():
    size, count, seed = 64, 12, 5
    ramp = np.linspace(0, 255, size).round().astype(np.uint8)
    x, y = np.broadcast_to(ramp, (size, size)), np.broadcast_to(ramp[:, None], (size, size))
    where = Image.fromarray(np.stack([x, y, np.zeros_like(x)], -1))
    means = [np.asarray(v, dtype=float).mean((0, 1))[:2] / 255 for v in augmented(where, count, 32, seed, 0.08)]
    centres = crop_centres(where, count, seed, 0.08)
    np.testing.assert_allclose(centres.numpy(), np.stack(means), atol=0.02)


def test_mixed_statistics_of_a_batch_norm():
    torch.manual_seed(0)
    norm = nn.BatchNorm2d(3).eval()
    norm.running_mean.normal_(), norm.running_var.uniform_(0.5, 2)
    x = 2 * torch.randn(4, 3, 5, 5) + 1
    plain = norm(x)
    with mixed_statistics(norm, 1e9):
        torch.testing.assert_close(norm(x), plain, atol=1e-4, rtol=1e-4)
    with mixed_statistics(norm, 0):  # the picture's own alone: instance normalisation
        torch.testing.assert_close(norm(x), F.instance_norm(x), atol=1e-4, rtol=1e-4)
    with mixed_statistics(norm, 3):
        mean = 0.75 * norm.running_mean[0] + 0.25 * x[2, 0].mean()
        var = 0.75 * norm.running_var[0] + 0.25 * x[2, 0].var(unbiased=False)
        torch.testing.assert_close(norm(x)[2, 0], (x[2, 0] - mean) / (var + norm.eps).sqrt(), atol=1e-4, rtol=1e-4)
        one = norm(x[2:3])
        torch.testing.assert_close(one, norm(x)[2:3])  # pictures of a batch do not see one another
    torch.testing.assert_close(norm(x), plain)


@pytest.mark.parametrize("name", ["glom-tiny", "timm:tf_efficientnet_lite0@random"])
def test_mixed_statistics_reach_every_batch_norm_and_go(name):
    teacher = load_teacher(name, "cpu")
    x = torch.randn(2, 3, teacher.image_size, teacher.image_size)
    plain = teacher.token(x)
    with mixed_statistics(teacher._model, 1e9):
        torch.testing.assert_close(teacher.token(x), plain, atol=1e-3, rtol=1e-3)
    with mixed_statistics(teacher._model, 1):
        assert not torch.allclose(teacher.token(x), plain, atol=1e-2)
    torch.testing.assert_close(teacher.token(x), plain)


def test_the_loss_is_the_sum_of_its_terms():
    torch.manual_seed(0)
    token, field = torch.randn(3, 2), torch.randn(3, 4, 2)
    percept = Percept(features=field, token=token)
    target, grid = torch.randn(3, 2), torch.randn(3, 2, 2, 2)
    base = relative(token, target)
    both = loss(percept, Aim(target, grid=grid), (2, 2), HEAD)
    torch.testing.assert_close(both, base + relative(field.reshape(3, 2, 2, 2), grid))
    said = torch.randn(3, 1, 2)
    corner = torch.tensor([0.25, 0.75]).expand(3, 1, 2)  # the centre of the cell in row 1, column 0
    placed = loss(percept, Aim(target, at=corner, said=said), (2, 2), HEAD)
    torch.testing.assert_close(placed, base + relative(field[:, 2:3], said))
    labels = torch.tensor([0, 1, 0])
    guessed = loss(percept, Aim(target, label=labels), (2, 2), HEAD)
    torch.testing.assert_close(guessed, base + 0.1 * F.cross_entropy(token, labels, reduction="none"))
    sure = loss(percept, Aim(target, sure="token"), (2, 2), HEAD)
    torch.testing.assert_close(sure, base + 0.1 * entropy(token))
    wide = loss(percept, Aim(target, sure="field"), (2, 2), HEAD)
    torch.testing.assert_close(wide, base + 0.1 * entropy(field.softmax(-1).mean(1).log()))
    assert relative(target, target).tolist() == [0, 0, 0]


def overfit(ids, pictures, aim, **how):
    config = preset("apm-tiny", features=4, trunk=(16, 8), rgb=None)
    settings = TTTSettings(apm="apm-tiny", iterations=60, lr=5e-3, schedule="cosine", initialisation="default")
    head = ZeroShotHead(("a", "b"), torch.randn(2, 4), 1.0, None, normalize=False)
    return train(ids, pictures, aim, head, (3, 3), settings, config, **how)


def test_machines_reach_their_aim_and_know_nothing_of_their_neighbours(monkeypatch):
    torch.manual_seed(0)
    pictures, token, grid = torch.randn(3, 3, 32, 32), torch.randn(3, 4), torch.randn(3, 3, 3, 4)
    found = overfit(["a", "b", "c"], pictures, Aim(token, grid=grid), marks=(0, 20))
    assert sorted(found.tokens) == sorted(found.fields) == [0, 20, 60]
    assert bool((found.errors[60] < 0.5 * found.errors[0]).all())
    alone = overfit(["b"], pictures[1:2], Aim(token[1:2], grid=grid[1:2]))
    torch.testing.assert_close(alone.token[0], found.token[1], atol=1e-3, rtol=1e-3)
    monkeypatch.setattr("glom.methods.aims.TOGETHER", 1)  # one at a time
    torch.testing.assert_close(
        overfit(["a", "b", "c"], pictures, Aim(token, grid=grid)).token, found.token, atol=1e-3, rtol=1e-3
    )
    early = overfit(["a", "b", "c"], pictures, Aim(token, grid=grid), steps=20)
    torch.testing.assert_close(early.token, found.tokens[20], atol=1e-4, rtol=1e-4)
    other = overfit(["a", "b", "c"], pictures, Aim(token, grid=grid), draw=1, steps=1)
    assert not torch.allclose(other.token, found.tokens[0], atol=1e-2)


# -- the report --------------------------------------------------------------------------------------------------------


def record(picture: int, condition: str = "clean", **classes: int) -> dict[str, object]:
    return {
        "id": f"{condition}/{picture}",
        "status": "ok",
        "picture": str(picture),
        "condition": condition,
        "label": 0,
        "classes": {"teacher": 1, "apm": 1, "flip": 1, "early": 1, **classes},
    }


def test_a_picture_counts_once_under_however_many_conditions():
    first, second = np.array([1, 1, 1, 0, 0], bool), np.array([0, 0, 1, 0, 1], bool)
    pictures = np.array([0, 0, 0, 1, 2])
    found = compare(first, second, pictures)
    assert found["difference"] == pytest.approx(100 * (2 / 3 + 0 - 1) / 3, abs=1e-3)
    assert found["p"] == mcnemar_exact([1, 0, 0], [0, 0, 1])
    lone = compare(first, second, np.arange(5))
    assert lone["p"] == mcnemar_exact(first, second) and lone["difference"] == pytest.approx(20)


def test_rows_are_corrected_for_how_many_were_tried():
    records = [record(i, flip=0) for i in range(12)] + [record(20, early=0)]
    names = [CANDIDATES["flip"], CANDIDATES["early"]]
    own = summarise(records, names)
    flip, early = own["rows"]
    assert (own["tried"], own["teacher_top1"], own["apm"]["same_as_teacher"]) == (2, 0, 1)
    assert flip["difference"] == pytest.approx(100 * 12 / 13, abs=1e-3)
    assert flip["p_holm"] == pytest.approx(2 * 2 / 2**12) and flip["holds"] and not early["holds"]
    many = summarise(records, names, tried=30)["rows"][0]
    assert many["p_holm"] == pytest.approx(30 * 2 / 2**12)
    assert many["holds"] and not summarise(records, names, tried=1000)["rows"][0]["holds"]
    assert choose(own, 1) == ["flip", "early"]
    with pytest.raises(InputError, match="could be read"):
        summarise([{"id": "x", "status": "skipped"}], names)


def test_overfitting_adds_only_over_its_controls():
    # Both are right where the teacher is not: the machine adds nothing to its control.
    records = [record(i, flip=0, pair=0) for i in range(30)]
    names = [CANDIDATES["flip"], CANDIDATES["pair"]]
    pair = summarise(records, names)["rows"][1]
    assert pair["holds"] and not pair["apm_adds"] and pair["minus_controls"]["flip"]["difference"] == 0
    records = [record(i, flip=1, pair=0) for i in range(30)]
    assert summarise(records, names)["rows"][1]["apm_adds"]


# -- as a person types it ----------------------------------------------------------------------------------------------


def test_select_then_confirm_once(call, tmp_path):
    out = tmp_path / "run"
    code, text, _ = call("select", "--out", out, "--json", *SMALL)
    assert code == 0
    found = json.loads(text)
    possible = {name for name, c in CANDIDATES.items() if c.needs != "shape"}  # no photographs are named
    assert found["tried"] == len(possible) and found["pictures"] == found["cases"] == 5
    assert {r["candidate"] for r in found["rows"]} == possible
    assert (out / "select.png").stat().st_size > 5000
    lines = [json.loads(x) for x in (out / "results.jsonl").read_text().splitlines()]
    assert all(half_of(x["picture"]) == SELECT for x in lines)

    code, _, error = call("confirm", out, "--top", 0)
    assert code == 2 and "--top" in error
    saved = tmp_path / "record.json"
    code, text, _ = call("confirm", out, "--top", 1, "--limit", 4, "--quiet", "--record", saved)
    assert code == 0 and f"for {len(possible)} tried" in " ".join(text.split()) and "the other half" in text
    assert max(map(len, text.splitlines())) <= 100
    kept = json.loads(saved.read_text())
    confirmed = kept["confirmation"]
    assert confirmed["tried"] == len(possible) == kept["selection"]["tried"]
    assert confirmed["chosen"] == choose(kept["selection"], 1)
    assert str(tmp_path) not in saved.read_text()
    again = [json.loads(x) for x in (out / "confirm" / "results.jsonl").read_text().splitlines()]
    assert all(half_of(x["picture"]) == CONFIRM for x in again)
    assert not {x["picture"] for x in lines} & {x["picture"] for x in again}
    for more in ([], ["--resume"], ["--top", 3]):
        code, _, error = call("confirm", out, *more)
        assert code == 2 and "confirmed already" in error and error.count("\n") == 1


def few(monkeypatch, *names: str) -> None:
    """Only these candidates are there: the others cost time and say nothing of what is tested."""
    some = {n: CANDIDATES[n] for n in names}
    monkeypatch.setattr("experiments.objective.candidates.CANDIDATES", some)
    monkeypatch.setattr("experiments.objective.run.CANDIDATES", some)


def test_a_stopped_selection_goes_on_and_ends_the_same(call, tmp_path, monkeypatch):
    few(monkeypatch, "flip", "crops", "early", "crops-field")
    monkeypatch.setattr("experiments.objective.run.blocks_of", lambda cases: blocks_of(cases, 3))
    whole, part = tmp_path / "a", tmp_path / "b"
    code, _, error = call("select", "--out", whole, *SMALL)
    assert code == 0, error
    assert call("confirm", tmp_path / "nowhere")[0] == 2
    assert call("select", "--out", part, *SMALL)[0] == 0
    lines = (part / "results.jsonl").read_text().splitlines(keepends=True)
    (part / "results.jsonl").write_text("".join(lines[:2]) + lines[2][:9])
    manifest = json.loads((part / "manifest.json").read_text())
    (part / "manifest.json").write_text(json.dumps(manifest | {"status": "running"}))
    code, _, error = call("confirm", part)
    assert code == 2 and "no complete selection" in error
    assert call("select", "--out", part, *SMALL)[0] == 2
    assert call("select", "--out", part, "--resume", *SMALL)[0] == 0
    assert (part / "results.jsonl").read_text() == (whole / "results.jsonl").read_text()
    assert (part / "result.json").read_text() == (whole / "result.json").read_text()


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (["--conditions", "smog:3"], "unknown corruption"),
        (["--each", "40"], "--each"),
        (["--trunk", "wide"], "--trunk"),
        (["--teacher", "nobody"], "unknown teacher"),
    ],
)
def test_wrong_requests(call, tmp_path, options, says):
    code, out, error = call("select", "--out", tmp_path / "run", "--quiet", *options)
    assert (code, out) == (2, "") and says in error and error.count("\n") == 1
    assert not (tmp_path / "run").exists()


def test_unreadable_pictures_are_counted_and_left_out(call, tmp_path, monkeypatch):
    few(monkeypatch, "flip", "second", "two-teachers")
    data = tmp_path / "data"
    for name in ("cat", "dog"):
        (data / name).mkdir(parents=True)
        for i in range(6):
            make_image(i).save(data / name / f"{i}.png")
    bad = next(f"{n}/{i}.png" for n in ("cat", "dog") for i in range(6) if half_of(f"{n}/{i}.png") == SELECT)
    (data / Path(bad)).write_bytes(b"no picture")
    options = ["--conditions", "clean", "--views", 10, "--crops", 2, "--iterations", 4]
    code, text, error = call("select", data, "--out", tmp_path / "run", "--json", *options)
    found = json.loads(text)
    assert code == 0 and found["skipped"] == 1 and bad in error
    # mvit-v2-tiny knows other classes.
    assert found["left_out"] == ["second", "two-teachers"]


def test_candidates_are_listed(call):
    code, text, _ = call("candidates", "--json")
    rows = json.loads(text)["candidates"]
    assert code == 0 and len(rows) == len(CANDIDATES)
    names = {r["candidate"] for r in rows} | {"teacher"}
    assert all(set(r["controls"]) <= names for r in rows)
    assert all(CANDIDATES[c].kind == "plain" for r in rows for c in r["controls"] if c != "teacher")
    assert math.isclose(sum(r["kind"] == "apm" for r in rows), len(rows) - sum(r["kind"] == "plain" for r in rows))


# -- the trained machine as a method -----------------------------------------------------------------------------------


def test_the_trained_machine_starts_as_it_is_and_moves_towards_the_teacher():
    task = Task(load_teacher("glom-tiny", "cpu"), ("cat", "dog", "ship"), torch.device("cpu"))
    images = [make_image(i) for i in range(3)]
    method = make_method("apm-trained", task, False)
    said = method.predict_many(images, [0, 1, 2])
    assert len(said) == 3 and said[0].shape == (3,)
    # One by one and again: nothing is carried over, and nobody sees a neighbour.
    torch.testing.assert_close(method.predict(images[1], 9), said[1], atol=1e-3, rtol=1e-3)
    torch.testing.assert_close(method.predict(images[1], 9), method.predict(images[1], 9))
    whole, _ = load_apm("apm-cifar10")
    folded = torch.stack([picture(image, 32) for image in images])
    views = task.read(images)
    aim = Aim(task.teacher.token(views), grid=task.teacher.grid(views))
    found = adapt_trained(method.machine, ["a", "b", "c"], folded, aim, method.head, (8, 8), TrainedSettings(), (0,))
    with torch.no_grad():
        torch.testing.assert_close(found.tokens[0], whole(folded, grid_queries(8, 8)).token, atol=1e-3, rtol=1e-3)
    assert bool((found.errors[5] < found.errors[0]).all())
    torch.testing.assert_close(method.head(found.token), torch.stack(said), atol=1e-3, rtol=1e-3)


def test_a_run_begun_with_other_weights_of_the_trained_machine_is_refused(tmp_path, monkeypatch):
    def run(resume: bool) -> None:
        settings = BenchmarkSettings(methods=("apm-trained",), data=("cifar10-sample",), limit=10)
        for _ in run_benchmark(settings, tmp_path / "out", resume=resume):
            pass

    run(False)
    run(True)

    def changed(teacher):
        machine = trained_machine(teacher)
        with torch.no_grad():
            next(machine.parameters()).add_(0.1)
        return machine

    monkeypatch.setattr("glom.methods.trained.trained_machine", changed)
    with pytest.raises(InputError, match="fingerprint"):
        run(True)


def test_without_a_machine_trained_on_this_teacher_there_is_no_method():
    other = load_teacher("timm:test_vit@random", "cpu")
    with pytest.raises(InputError, match="trained on the grids of timm:test_vit@random"):
        make_method("apm-trained", Task(other, tuple(other.classes or ()), torch.device("cpu")), False)


# -- prompts that learn ------------------------------------------------------------------------------------------------


def coloured(task: Task, each: int, seed: int) -> tuple[FewShot, list[Image.Image]]:
    """Noisy pictures of one colour a class, which no name of a class says."""
    rng = np.random.default_rng(seed)
    colours = np.array([[200, 40, 40], [40, 200, 40], [40, 40, 200]])
    pictures = [
        Image.fromarray((colours[c] + rng.normal(0, 25, (32, 32, 3))).clip(0, 255).astype(np.uint8))
        for c in range(3)
        for _ in range(each)
    ]
    labels = torch.arange(3).repeat_interleave(each)
    return FewShot(task.read(pictures), labels, tuple(pictures)), pictures


@pytest.mark.parametrize("kind", [CoOp, CoCoOp])
def test_prompts_learn_what_zero_shot_does_not_know(kind):
    task = Task(load_teacher("glom-tiny", "cpu"), ("cat", "ship", "frog"), torch.device("cpu"))
    # With four shots of three classes an epoch is one step.
    method = kind(replace(PRESETS[kind.name]["glom-tiny"], epochs=160 if kind is CoOp else 80))
    method.prepare(task)
    before = [p.clone() for p in task.teacher._model.parameters()]
    shots, _ = coloured(task, 4, 0)
    held, pictures = coloured(task, 8, 1)
    plain = make_method("zero-shot", task, False)

    def accuracy(of: Method) -> float:
        said = torch.stack([of.predict(p, 0) for p in pictures]).argmax(-1)
        return float((said == held.labels).float().mean())

    losses = method.fit(shots)
    assert np.mean(losses[-5:]) < 0.65 * np.mean(losses[:5])
    assert accuracy(method) > accuracy(plain) + 0.2
    now = list(task.teacher._model.parameters())
    assert all(torch.equal(p, q) and p.grad is None for p, q in zip(now, before, strict=True))


def test_presets_of_prompts_follow_the_teacher_and_the_run():
    published = PRESETS["coop"]["published"]
    assert (published.words, published.epochs, published.lr, published.optimiser) == ("a photo of a", 0, 2e-3, "sgd")
    assert prompt_preset("coop", "glom-tiny", "fast") == PRESETS["coop"]["glom-tiny"] != published
    assert prompt_preset("coop", "glom-tiny", "published") == published
    assert prompt_preset("coop", "open_clip:ViT-L-14@openai", "fast") == published
    assert prompt_preset("cocoop", "glom-tiny", "published").batch == 1
    task = Task(load_teacher("glom-tiny", "cpu"), ("cat", "dog"), torch.device("cpu"))
    both = make_method("tpt+coop", task, True)
    assert both.settings.context == PRESETS["coop"]["glom-tiny"] and both.prompt.length == 16
    papers = make_method("tpt+coop", replace(task, preset="published"), True)
    assert papers.settings.context == published and papers.settings.lr == TPTSettings().lr


def test_settings_are_compared_on_training_pictures_nothing_was_learned_from(tmp_path):
    for split, count in (("train", 3), ("test", 1)):
        for label, name in enumerate(("cat", "dog")):
            (tmp_path / split / name).mkdir(parents=True)
            for i in range(count):
                make_image(100 * label + 10 * count + i).save(tmp_path / split / name / f"{i}.png")
    asked = PromptChoice(data=str(tmp_path), shots=1, held_out=5, lengths=(0, 2), rates=(("adam", 0.01),), epochs=(2,))
    *events, last = run_choice(asked)
    found = last.result
    assert found["held_out"] == 4 and [e.done for e in events] == [0, 1, 2]  # three each, one of them learned from
    assert [r["settings"]["words"] for r in sorted(found["rows"], key=lambda r: str(r["settings"]["words"]))] == [
        2,
        "a photo of a",
    ]
    assert found["rows"][0]["top1"] >= found["rows"][1]["top1"]
    assert found["preset"] == asdict(PRESETS["coop"]["glom-tiny"])
    with pytest.raises(InputError, match="no training pictures beyond 3"):
        list(run_choice(replace(asked, shots=3)))
