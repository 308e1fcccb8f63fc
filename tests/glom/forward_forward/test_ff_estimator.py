"""Forward-forward as an estimator: the training's own network, on arrays."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from sklearn.base import clone

import glom
from glom.forward_forward.estimator import ForwardForward


def blobs(n=240, d=12, classes=3, seed=0):
    rng = np.random.default_rng(seed)
    y = rng.integers(0, classes, n)
    x = rng.normal(size=(n, d))
    x[np.arange(n), y] += 4
    return x, np.array(["ant", "bee", "cow"])[y]


def strokes(n=200, seed=0):
    """8 x 8 pictures of a bar, upright or lying."""
    rng = np.random.default_rng(seed)
    y = rng.integers(0, 2, n)
    x = rng.integers(0, 40, (n, 8, 8))
    for i, label in enumerate(y):
        at = rng.integers(2, 7)
        if label:
            x[i, at] = 220
        else:
            x[i, :, at] = 220
    return x.astype(np.uint8), y


def test_learns_features_with_any_labels_and_clones():
    x, y = blobs()
    model = ForwardForward((64, 64), epochs=80, seed=1)
    assert clone(model).get_params() == model.get_params()
    model.fit(x, y)
    assert model.score(*blobs(seed=1)) > 0.9
    assert set(model.predict(x)) == {"ant", "bee", "cow"}
    assert model.goodness(x[:5]).shape == (5, 3, 2)
    assert [h["epoch"] for h in model.history_] == list(range(1, 81))


@pytest.mark.parametrize("mode", ["supervised", "unsupervised", "recurrent", "local", "conv"])
def test_every_mode_learns_pictures(mode):
    x, y = strokes()
    widths = (4, 4) if mode == "local" else (64, 64)
    more = {"local": {"field": 3}, "unsupervised": {"blur": 2}}.get(mode, {})
    model = ForwardForward(widths, mode=mode, epochs=8, settings={"batch": 20, **more}).fit(x, y)
    assert model.score(x, y) > 0.8
    assert model.decision_function(x[:3]).shape == (3, 2)


def test_the_same_network_as_the_training_s(tmp_path):
    """`apm ff train` on a folder and the estimator on its pictures: the same weights."""
    from PIL import Image

    from experiments.forward_forward.settings import FFRun
    from experiments.forward_forward.train import run as train
    from glom.forward_forward import preset

    x, y = strokes(60)
    for split in ("train", "test"):
        for i, (pixels, label) in enumerate(zip(x, y)):
            folder = tmp_path / "data" / split / ("lying", "upright")[label]
            folder.mkdir(parents=True, exist_ok=True)
            rgb = np.repeat(pixels[..., None], 3, -1)
            rgb[..., 0] = i if split == "test" else pixels  # no test picture is a training picture
            Image.fromarray(rgb).save(folder / f"{i:03}.png")
    settings = preset("supervised", "quick", widths=(24, 24), epochs=2)
    for _ in train(FFRun(data=str(tmp_path / "data"), how=settings), tmp_path / "run"):
        pass
    run = ForwardForward.from_pretrained(tmp_path / "run")
    order = np.argsort(y, kind="stable")  # the folder's: by class, then by name
    pictures = np.repeat(x[order][:, None], 3, 1)
    own = ForwardForward((24, 24), epochs=2).fit(pictures, np.array(["lying", "upright"])[y[order]])
    assert np.array_equal(run.goodness(pictures), own.goodness(pictures))
    assert run.classes_.tolist() == own.classes_.tolist()
    assert [h["train_error"] for h in run.history_] == [h["train_error"] for h in own.history_]


def test_saved_and_read_again(tmp_path):
    for data in (blobs(), strokes()):
        model = ForwardForward((32, 32), epochs=2).fit(*data)
        model.save_pretrained(tmp_path / "m")
        again = ForwardForward.from_pretrained(tmp_path / "m")
        assert np.array_equal(model.decision_function(data[0]), again.decision_function(data[0]))
        assert again.predict(data[0]).tolist() == model.predict(data[0]).tolist()
        assert again.n_features_in_ == model.n_features_in_


def test_kinds_of_pictures_are_the_same_pictures():
    x, y = strokes(60)
    wanted = ForwardForward((16, 16), epochs=1).fit(x, y).decision_function(x)
    for other in (x / 255.0, torch.from_numpy(x), x[:, None], x[..., None], x.astype(np.int64)):
        assert np.allclose(ForwardForward((16, 16), epochs=1).fit(other, y).decision_function(other), wanted)


def test_the_callers_random_numbers_are_left_alone():
    torch.manual_seed(5)
    np.random.seed(5)
    before = torch.random.get_rng_state(), np.random.get_state()[1].copy()
    ForwardForward((8, 8), epochs=1).fit(*strokes(40))
    assert torch.equal(before[0], torch.random.get_rng_state())
    assert np.array_equal(before[1], np.random.get_state()[1])


@pytest.mark.parametrize(
    ("x", "y", "words"),
    [
        (np.zeros((4, 5)), [0, 1, 0], "4 samples but 3 labels"),
        (np.zeros((4, 5)), [0, 0, 0, 0], "at least two classes"),
        (np.zeros((4, 8, 8)) + 2.0, [0, 1, 0, 1], "floats in"),
        (np.zeros((4, 5, 8, 8)), [0, 1, 0, 1], "1 or 3 channels"),
        (np.zeros(4), [0, 1, 0, 1], "samples are"),
        (np.full((4, 5), np.nan), [0, 1, 0, 1], "finite"),
        (np.zeros((4, 5)), [[0], [1], [0], [1]], "labels must be"),
    ],
)
def test_what_cannot_be_learned_is_said(x, y, words):
    with pytest.raises(glom.InputError, match=words):
        ForwardForward((8, 8), epochs=1).fit(x, y)


def test_other_inputs_than_it_was_fitted_on_and_other_settings():
    x, y = blobs(60)
    model = ForwardForward((8, 8), epochs=1).fit(x, y)
    with pytest.raises(glom.InputError, match="reads 12 features, these are 5"):
        model.predict(np.zeros((2, 5)))
    with pytest.raises(glom.InputError, match="fitted on features"):
        model.predict(np.zeros((2, 8, 8)))
    with pytest.raises(glom.InputError, match="looks at pictures"):
        ForwardForward((8, 8), mode="local").fit(x, y)
    with pytest.raises(glom.InputError, match="unknown setting 'epoch'"):
        ForwardForward(settings={"epoch": 3}).fit(x, y)
    with pytest.raises(glom.InputError, match="does not exist"):
        ForwardForward.from_pretrained("nowhere")
