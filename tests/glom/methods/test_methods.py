"""Methods of the tables: equal to plain recipes where they should be, frozen where they must be, paired."""

from __future__ import annotations

import json
import math
import shutil
import weakref
from dataclasses import asdict, replace
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from PIL import Image
from safetensors.torch import load_file

from experiments.comparison.conditions import Condition
from experiments.comparison.legs import visits
from experiments.comparison.run import averages
from experiments.comparison.run import run as run_benchmark
from experiments.comparison.settings import BenchmarkSettings
from experiments.comparison.stream import Stream
from glom.datasets.registry import open_dataset
from glom.errors import InputError
from glom.methods import METHODS, FewShot, Task, make_method
from glom.methods.cache import TDA, TDASettings
from glom.methods.few_shot import few_shot
from glom.methods.prompts import PRESETS, CoCoOp, CoOp, PromptSettings
from glom.methods.tuned import MEMO, TPT, MEMOSettings, TPTSettings
from glom.methods.views import augmented, confident, entropy, marginal_entropy
from glom.methods.zero_shot import ZeroShot
from glom.methods_list import CONSTANTS, FIXED, HERE, PER_SET, Entry
from glom.runs.artifacts import read_lines, read_results
from glom.teachers.registry import load_teacher
from tests.conftest import make_image, untimed

CLASSES = ("cat", "dog", "ship")


@pytest.fixture(scope="module")
def teacher():
    return load_teacher("glom-tiny", "cpu")


@pytest.fixture
def task(teacher) -> Task:
    return Task(teacher, CLASSES, torch.device("cpu"))


def shots(task: Task, each: int = 2) -> FewShot:
    pictures = tuple(make_image(10 * label + i) for label in range(len(task.classes)) for i in range(each))
    labels = torch.arange(len(task.classes)).repeat_interleave(each)
    return FewShot(task.read(list(pictures)), labels, pictures)


def checksum(teacher) -> float:
    return float(sum(p.double().sum() for p in teacher._model.parameters()))


# -- arithmetic --------------------------------------------------------------------------------------------------------


def test_zero_shot_and_ensemble_equal_open_clips_recipe(task):
    import open_clip

    import glom.teachers.tiny  # noqa: F401  (registers the image tower)
    from glom.teachers.registry import GLOM_TINY

    model, _, transform = open_clip.create_model_and_transforms(f"local-dir:{GLOM_TINY}")
    model.eval()
    tokenizer = open_clip.get_tokenizer(f"local-dir:{GLOM_TINY}")
    for name, templates in (
        ("zero-shot", (lambda c: f"a photo of a {c}.",)),
        ("ensemble", open_clip.OPENAI_IMAGENET_TEMPLATES),
    ):
        method = make_method(name, task, False)
        with torch.no_grad():
            weights = open_clip.build_zero_shot_classifier(model, tokenizer, CLASSES, templates, None, "cpu")
            for image in (make_image(3), make_image(4, (60, 40))):
                token = F.normalize(model.encode_image(transform(image)[None]), dim=-1)
                expected = model.logit_scale.exp() * token @ weights
                torch.testing.assert_close(method.predict(image, 0), expected[0], atol=1e-5, rtol=0)


def test_entropies_have_their_known_values():
    flat, sharp = torch.zeros(4), torch.tensor([100.0, 0, 0, 0])
    assert float(entropy(flat)) == pytest.approx(torch.log(torch.tensor(4.0)).item())
    assert float(entropy(sharp)) == pytest.approx(0, abs=1e-6)
    split = torch.tensor([[100.0, 0], [0, 100.0]])
    assert float(marginal_entropy(split)) == pytest.approx(torch.log(torch.tensor(2.0)).item(), rel=1e-5)
    assert confident(torch.tensor([[0.0, 0], [9.0, 0], [1.0, 0]]), 0.7).tolist() == [1, 2]
    assert confident(torch.zeros(3, 2), 0.01).tolist() == [0]


def test_views_depend_on_the_pictures_seed_alone():
    image = make_image(1)
    state = torch.random.get_rng_state()
    a, b, c = augmented(image, 4, 16, 5), augmented(image, 4, 16, 5), augmented(image, 4, 16, 6)
    assert torch.equal(state, torch.random.get_rng_state())
    assert a[0] is image
    assert [v.tobytes() for v in a] == [v.tobytes() for v in b]
    assert [v.tobytes() for v in a[1:]] != [v.tobytes() for v in c[1:]]
    assert {v.size for v in a[1:]} == {(16, 16)}


# -- adaptation --------------------------------------------------------------------------------------------------------


def test_tpt_lowers_its_loss_and_keeps_everything_else(task):
    method = TPT(TPTSettings(views=16, share=0.5, steps=4, lr=5e-3))
    method.prepare(task)
    before, start = checksum(task.teacher), method.prompt.initial.clone()
    context, tokens, losses = method.tune(make_image(2), 7)
    assert losses[-1] < losses[0]
    assert tokens.shape == (16, 128)
    assert not torch.equal(context, start)
    assert torch.equal(method.prompt.initial, start)
    assert checksum(task.teacher) == before
    assert not any(p.requires_grad for p in task.teacher._model.parameters())
    first = method.predict(make_image(2), 7)
    method.predict(make_image(4), 8)
    assert torch.equal(method.predict(make_image(2), 7), first)  # reset: nothing is carried over


def test_tpt_without_a_step_is_zero_shot(task):
    method = TPT(TPTSettings(views=2, steps=0))
    method.prepare(task)
    expected = make_method("zero-shot", task, False).predict(make_image(2), 0)
    torch.testing.assert_close(method.predict(make_image(2), 0), expected, atol=1e-3, rtol=1e-4)


@pytest.mark.parametrize("kind", [CoOp, CoCoOp])
def test_prompts_learn_and_only_they(task, kind):
    method = kind(PromptSettings(epochs=12, batch=6, lr=0.02, augment=False))
    method.prepare(task)
    before = checksum(task.teacher)
    few = shots(task)
    losses = method.fit(few)
    assert losses[-1] < losses[0]
    assert checksum(task.teacher) == before
    assert all(p.grad is None for p in task.teacher._model.parameters())
    again = kind(method.settings)
    again.prepare(task)
    again.load(method.state())
    image = make_image(5)
    assert torch.equal(again.predict(image, 0), method.predict(image, 0))


def test_cocoop_before_training_is_moved_by_its_picture_alone(task):
    method = CoCoOp()
    method.prepare(task)
    tokens = task.teacher.token(task.read([make_image(1), make_image(2)]))
    a, b = method.contexts(tokens)
    assert not torch.allclose(a, b)
    both = method.scores(tokens)
    torch.testing.assert_close(both[1], method.scores(tokens[1:])[0], atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("name", ["glom-tiny", "timm:test_vit@random"])
def test_memo_adapts_the_image_tower_and_puts_it_back(name):
    other = load_teacher(name, "cpu")
    classes = CLASSES if other.has_text else other.classes
    assert classes is not None
    own = Task(other, tuple(classes), torch.device("cpu"))
    before = [p.clone() for p in other._model.parameters()]
    still, moved = MEMO(MEMOSettings(views=4, steps=0)), MEMO(MEMOSettings(views=4, steps=3, lr=0.05))
    still.prepare(own)
    moved.prepare(own)
    a, b = still.predict(make_image(1), 3), moved.predict(make_image(1), 3)
    assert not torch.allclose(a, b)
    assert all(torch.equal(p, q) for p, q in zip(other._model.parameters(), before, strict=True))
    assert not any(p.requires_grad for p in other._model.parameters())


def test_tda_keeps_the_surest_and_answers_by_likeness(task):
    method = TDA(TDASettings(positive=2, unsure=(0.0, 1.0)))
    method.prepare(task)
    plain = make_method("zero-shot", task, False)
    image = make_image(1)
    first = method.predict(image, 0)
    guess = int(plain.predict(image, 0).argmax())
    # The picture has just entered the cache under its own guess: that class rises by alpha, at this teacher's scale.
    gain = first - plain.predict(image, 0)
    assert float(gain[guess]) > 1.5 * task.teacher.scale / 100
    for i in range(12):
        method.predict(make_image(i), 0)
    for queue in method.sure.values():
        assert len(queue) <= 2
        assert [e[0] for e in queue] == sorted(e[0] for e in queue)


def test_tda_takes_entropies_as_its_release_does(task):
    """In nats over log2(C): the same thresholds let in pictures that a share of the largest entropy would keep out."""
    image = make_image(1)
    h = float(entropy(make_method("zero-shot", task, False).predict(image, 0)))
    released, share = h / math.log2(3), h / math.log(3)
    for normalised, kept in (("nats/log2", 1), ("nats/ln", 0)):
        method = TDA(TDASettings(unsure=(0.0, (released + share) / 2), entropy=normalised))
        method.prepare(task)
        method.predict(image, 0)
        assert sum(map(len, method.doubtful.values())) == kept
    assert asdict(TDASettings())["entropy"] == "nats/log2"


def test_every_method_says_where_it_is_from():
    assert {
        "zero-shot",
        "ensemble",
        "tpt",
        "coop",
        "cocoop",
        "tpt+coop",
        "tpt+cocoop",
        "apm",
        "tda",
        "memo",
        "zero",
    } <= set(METHODS)
    for make in METHODS.values():
        method = make()
        assert method.what
        assert method.source
        assert method.constants in CONSTANTS.values()
    with pytest.raises(ValueError, match="none of published and fixed, published per data set"):
        Entry("guessing", "nobody", constants="a hunch")


def test_where_constants_come_from_follows_teacher_and_preset(task):
    for name, preset, expected in (
        ("tda", "fast", PER_SET),
        ("apm", "published", FIXED),
        ("apm", "fast", HERE),
        ("coop", "published", FIXED),
        ("coop", "fast", HERE),  # glom-tiny's own
        ("tpt+coop", "fast", HERE),
        ("apm-trained", "fast", HERE),
    ):
        assert make_method(name, replace(task, preset=preset), True).constants == expected, (name, preset)


def test_methods_refuse_what_they_cannot_use(task):
    with pytest.raises(InputError, match="did you mean"):
        make_method("zeroshot", task, False)
    with pytest.raises(InputError, match="`train` DATA"):
        make_method("coop", task, False)
    other = load_teacher("timm:test_vit@random", "cpu")
    with pytest.raises(InputError, match="text encoder"):
        make_method("tpt", Task(other, tuple(other.classes or ()), torch.device("cpu")), False)


# -- the benchmark -----------------------------------------------------------------------------------------------------


def settings(folder: Path, **changes) -> BenchmarkSettings:
    values = {"methods": ("zero-shot", "views", "tda"), "data": (str(folder),), "corruptions": ("", "contrast:2")}
    return BenchmarkSettings(**{**values, "device": "cpu", **changes})


def last(events) -> dict:
    return list(events)[-1].result


def test_a_resumed_benchmark_is_the_whole_one(image_folder, tmp_path):
    whole = last(run_benchmark(settings(image_folder), tmp_path / "whole"))
    events = run_benchmark(settings(image_folder), tmp_path / "cut")
    for _, event in zip(range(18), events, strict=False):  # in the midst of a condition
        assert event.result is None
    events.close()
    with pytest.raises(InputError, match="--resume"):
        list(run_benchmark(settings(image_folder), tmp_path / "cut"))
    again = last(run_benchmark(settings(image_folder), tmp_path / "cut", resume=True))
    assert untimed(again) == untimed(whole)
    for place in (tmp_path / "whole").glob("*/*/results.jsonl"):
        other = tmp_path / "cut" / place.relative_to(tmp_path / "whole")
        assert other.read_bytes() == place.read_bytes()
    for place in (tmp_path / "whole").glob("*/*/manifest.json"):  # how a step is repeated decides no answer
        assert "graphs" not in json.loads(place.read_text())["settings"]["settings"]
    assert len(whole["rows"]) == 6
    first, second = whole["rows"][0], whole["rows"][1]
    assert first["method"] == "zero-shot"
    assert first["difference"] is first["p_holm"] is None
    assert {"difference", "difference_ci95", "p", "p_holm"} <= set(second)
    assert second["p_holm"] >= second["p"]
    mean = averages(whole["rows"], ("zero-shot",))["zero-shot"]
    own = [r["measured"] for r in whole["rows"] if r["method"] == "zero-shot"]
    assert mean == pytest.approx(sum(own) / 2)


def test_a_stream_is_answered_in_its_own_order_and_recorded_in_the_data_sets(image_folder, tmp_path, teacher):
    asked = settings(image_folder, methods=("zero-shot", "tda"), corruptions=("",), seed=3)
    last(run_benchmark(asked, tmp_path / "run"))
    [place] = (tmp_path / "run").glob("*/tda")
    samples = open_dataset(str(image_folder)).samples
    method = make_method("tda", Task(teacher, ("cat", "ship"), torch.device("cpu"), seed=3), False)
    shown = Condition("pictures", str(image_folder), open_dataset(str(image_folder)), None)
    order = [visit.place for visit in visits(Stream(seed=3), shown)]
    expected = {samples[i].id: int(method.predict(samples[i].image(), 0).argmax()) for i in order}
    assert [r["id"] for r in read_lines(place / "results.jsonl")] == [samples[i].id for i in order]
    assert [(r["index"], r["id"]) for r in read_results(place)] == [(i, s.id) for i, s in enumerate(samples)]
    assert {r["id"]: r["class"] for r in read_results(place)} == expected
    # Another part of the data set, asked for later, and another seed are other runs.
    with pytest.raises(InputError, match="another run"):
        last(run_benchmark(replace(asked, seed=4), tmp_path / "run", resume=True))


def test_unreadable_pictures_are_counted_and_left_out_for_all(image_folder, tmp_path):
    (image_folder / "cat" / "broken.png").write_bytes(b"no picture")
    table = last(run_benchmark(settings(image_folder, corruptions=("",)), tmp_path / "run"))
    assert {(r["n"], r["skipped"]) for r in table["rows"]} == {(6, 1)}


def test_labelled_pictures_that_are_tested_are_refused(image_folder, tmp_path):
    asked = settings(image_folder, methods=("zero-shot", "coop"), train=str(image_folder), shots=2)
    with pytest.raises(InputError, match="also test pictures"):
        list(run_benchmark(asked, tmp_path / "run"))
    with pytest.raises(InputError, match="fewer than `shots` 50"):
        list(run_benchmark(replace(asked, shots=50), tmp_path / "b"))


@pytest.fixture
def labelled(tmp_path) -> Path:
    """Three pictures of each of two classes, none of them in `image_folder`."""
    for label, name in enumerate(("cat", "ship")):
        (tmp_path / "train" / name).mkdir(parents=True)
        for i in range(3):
            make_image(200 + 10 * label + i).save(tmp_path / "train" / name / f"{i}.png")
    return tmp_path / "train"


def test_wrong_requests_are_refused_before_the_first_answer(image_folder, labelled, tmp_path):
    other = tmp_path / "other"
    for name in ("dog", "frog"):
        shutil.copytree(image_folder / "cat", other / name)
    broken = tmp_path / "broken"
    shutil.copytree(labelled, broken)
    for path in (broken / "ship").iterdir():
        path.write_bytes(b"no picture")
    train = {"train": str(labelled), "shots": 2}
    both = (str(image_folder), str(other))
    for changes, said in (
        ({"methods": ("zero-shot", "coop")}, "`train` DATA"),
        ({"methods": ("zero-shot", "coop"), **train, "train": str(image_folder)}, "also test pictures"),
        ({"methods": ("zero-shot", "coop"), **train, "data": both}, "same classes in the same order"),
        ({"methods": ("zero-shot", "coop"), **train, "train": str(broken)}, "not an image"),
        ({"methods": ("zero-shot", "vit-probe"), "mae": "nope"}, "unknown masked autoencoder"),
        ({"methods": ("zero-shot", "vit-probe"), "mae": "mae-tiny", "data": both}, "needs labelled pictures"),
    ):
        with pytest.raises(InputError, match=said):
            list(run_benchmark(settings(image_folder, **changes), tmp_path / "run"))
        assert not (tmp_path / "run").exists()


def test_labelled_pictures_that_nobody_needs_are_told(image_folder, labelled, tmp_path, call):
    asked = settings(image_folder, methods=("zero-shot",), corruptions=("",), train=str(labelled))
    first = next(iter(run_benchmark(asked, tmp_path / "run")))
    assert "is not used: none of these methods learns" in first.message
    for options in (("--shots", "4"), ("--transfer",)):
        code, _, err = call("benchmark", "-m", "zero-shot", *options, "--out", tmp_path / "x")
        assert (code, err.count("error:")) == (2, 1) and "--train DATA" in err


def test_methods_of_one_set_of_classes_are_held_at_a_time(image_folder, tmp_path, monkeypatch):
    made: list[weakref.ref] = []
    prepare = ZeroShot.prepare
    monkeypatch.setattr(ZeroShot, "prepare", lambda self, task: made.append(weakref.ref(self)) or prepare(self, task))
    for name in ("dog", "frog"):
        shutil.copytree(image_folder / "cat", tmp_path / "other" / name)
    data = (str(image_folder), str(tmp_path / "other"))
    asked = settings(image_folder, methods=("zero-shot",), corruptions=("", "contrast:2"), data=data)
    held = [sum(one() is not None for one in made) for _ in run_benchmark(asked, tmp_path / "run")]
    assert max(held[:-1]) == 1
    assert len(made) == 3  # the first set's, the second's to find out whether it can be made, and when its turn comes


def test_what_one_method_learned_another_starts_from(image_folder, labelled, tmp_path, monkeypatch):
    fits: list[str] = []
    fit = CoOp.fit
    monkeypatch.setattr(CoOp, "fit", lambda self, shots: fits.append(self.name) or fit(self, shots))
    small = PromptSettings(2, epochs=2, augment=False)
    monkeypatch.setitem(PRESETS["coop"], "glom-tiny", small)
    asked = settings(image_folder, methods=("zero-shot", "coop", "tpt+coop"), train=str(labelled), shots=2, limit=2)
    last(run_benchmark(asked, tmp_path / "run"))
    assert fits == ["coop"]  # once for two methods and two corruptions
    states = [load_file(p) for p in (tmp_path / "run").glob("*/*/fit.safetensors")]
    assert len(states) == 4
    assert all(torch.equal(states[0]["context"], s["context"]) for s in states)
    alone = settings(
        image_folder, methods=("zero-shot", "tpt+coop"), train=str(labelled), shots=2, limit=2, corruptions=("",)
    )
    last(run_benchmark(alone, tmp_path / "alone"))
    [place] = (tmp_path / "alone").glob("*/tpt+coop")
    assert torch.equal(load_file(place / "fit.safetensors")["context"], states[0]["context"])


def test_labelled_pictures_are_decoded_when_they_are_needed(task, labelled):
    learning = few_shot(str(labelled), 2, task, [])
    assert learning.shots.images is None and len(learning.shots.pictures) == 4
    rows = [3, 0]
    expected = task.read([learning.shots.pictures[i] for i in rows])
    assert torch.equal(learning.shots.read(task, rows), expected)
    held = FewShot(task.read(list(learning.shots.pictures)), learning.shots.labels, ())
    assert torch.equal(held.read(task, rows), expected)
    assert [p.size for p in learning.shots.pictures[1:]] == [(32, 32)] * 3
    two = replace(task, classes=("cat", "ship"))
    contexts = []
    for shots_ in (learning.shots, replace(held, pictures=tuple(learning.shots.pictures))):
        method = CoOp(PromptSettings(2, epochs=2, augment=False))
        method.prepare(two)
        method.fit(shots_)
        contexts.append(method.context)
    assert torch.equal(*contexts)


def test_the_command_line_compares(call, image_folder, tmp_path):
    train = tmp_path / "train"
    for label, name in enumerate(("cat", "ship")):
        (train / name).mkdir(parents=True)
        for i in range(3):
            make_image(200 + 10 * label + i).save(train / name / f"{i}.png")
    base = ["benchmark", "--methods", "zero-shot,coop", "--data", image_folder, "--train", train, "--shots", "2"]
    code, out, err = call(*base, "--out", tmp_path / "run", "--json", "--quiet", "--record", tmp_path / "r.json")
    assert code == 0, err
    table = json.loads(out)
    assert [r["method"] for r in table["rows"]] == ["zero-shot", "coop"]
    assert json.loads((tmp_path / "r.json").read_text())["rows"] == table["rows"]
    [folder] = (tmp_path / "run").glob("*/coop")
    assert (folder / "fit.safetensors").is_file()
    assert len(read_results(folder)) == 6
    code, out, _ = call(*base, "--out", tmp_path / "run", "--resume", "--quiet")
    assert code == 0
    assert "p (Holm)" in out
    code, _, err = call("benchmark", "--methods", "zero-shot,zerro", "--out", tmp_path / "x")
    assert (code, err.count("error:")) == (2, 1)
    code, out, _ = call("methods", "list", "--json")
    assert {m["name"] for m in json.loads(out)["methods"]} == set(METHODS)


def test_pictures_of_any_mode_are_read(task):
    grey = Image.new("L", (40, 20), 128)
    assert make_method("zero-shot", task, False).predict(grey, 0).shape == (3,)
