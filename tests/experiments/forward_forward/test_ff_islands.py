"""`apm ff islands` and `apm ff score`: a local network's layers read with the instrument that GLOM's levels are."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from experiments.forward_forward.islands import look, open_local
from experiments.forward_forward.score import grey
from glom.errors import InputError
from glom.forward_forward.checkpoint import restore
from glom.forward_forward.scaling import Scaling
from probes.explorer import read_run
from probes.figures.levels import layers_figure
from probes.levels import centred, island_counts
from tests.conftest import make_image
from tests.experiments.forward_forward.test_ff_cli import colour_folder, raw_mnist, train
from tests.helpers_results import drawn_again

CPU = torch.device("cpu")
SOURCE = ["--source", "fashion-mnist-sample"]


@pytest.fixture
def call(call_ff):
    """Run `apm ff ...`."""
    return call_ff


@pytest.fixture
def trained(call, tmp_path) -> Path:
    """Two layers, of two units and of one at each of 16 x 16 places; three iterations, the second read last."""
    data, out = colour_folder(tmp_path / "data", side=16), tmp_path / "trained"
    assert call(*train(data, out, mode="local", epochs=1))[0] == 0
    return out


def test_a_convolutional_network_is_looked_at_once(call, tmp_path):
    data, out = colour_folder(tmp_path / "data", side=16), tmp_path / "trained"
    assert call(*train(data, out, "--widths", "6,9", mode="conv", epochs=1))[0] == 0
    learner, scaling = state_of(out)
    pixels = torch.from_numpy(np.array(make_image(0, (16, 16)))[None]).permute(0, 3, 1, 2)
    states = look(learner, scaling, pixels)
    assert states.shape == (1, 1, 16, 16, 2, 9)
    assert not states[..., 0, 6:].any()  # six channels in the first layer
    assert (states[0, 0, ::2, ::2, 1] == states[0, 0, 1::2, 1::2, 1]).all()  # the second one's map is half as fine
    code, text, _ = call("islands", out, tmp_path / "data" / "test" / "red" / "0.png", "--json")
    assert code == 0 and json.loads(text)["iterations"] == 1


@pytest.mark.parametrize(("iterations", "panels"), [(1, 3), (4, 4)])
def test_no_panel_of_a_scores_figure_is_empty(monkeypatch, tmp_path, iterations, panels):
    """A network that is looked at once has nothing to show by iteration."""
    measures = ("islands", "ari_wholes", "ari_parts")
    row = dict.fromkeys(measures, 0.5) | {"ci95": dict.fromkeys(measures, (0.4, 0.6))}
    steps = [{"islands": 5.0, "ci95": (4.0, 6.0)}] * 2
    result = {
        "objective": "conv", "n": 2, "pixels": row, "iterations": [steps] * iterations,
        "levels": [row | {"level": 1}, row | {"level": 2}], "untrained": [row, row],
    }  # fmt: skip
    drawn = []
    monkeypatch.setattr("probes.figures.levels.save", lambda figure, path: drawn.append(figure))
    layers_figure(result, tmp_path / "layers.png")
    (figure,) = drawn
    assert len(figure.axes) == panels
    assert all(len(axis.lines) and len(axis.lines[0].get_xdata()) > 1 for axis in figure.axes)


def state_of(folder: Path) -> tuple:
    learner, _, state = restore(folder, CPU)
    return learner, Scaling(tuple(state["scaling"]["mean"]), tuple(state["scaling"]["std"]))


def test_states_are_at_their_places_and_belong_to_the_label_read(trained):
    learner, scaling = state_of(trained)
    pixels = torch.from_numpy(np.stack([np.asarray(make_image(i, (16, 16))) for i in range(2)])).permute(0, 3, 1, 2)
    states = look(learner, scaling, pixels)
    assert states.shape == (3, 2, 16, 16, 2, 2)  # iterations, pictures, rows, columns, layers, units of the widest
    assert not states[..., 1, 1].any() and states[..., 0, 1].any()
    x = scaling(pixels, learner.dtype, CPU)
    guess = learner.readouts(x)["goodness"].argmax(1)
    network = learner.network
    squares = torch.from_numpy(states).square().sum((2, 3, 5)).permute(1, 0, 2)  # (B, T, layers)
    torch.testing.assert_close(squares, network.watch(x.flatten(1))[torch.arange(2), guess])
    # A layer's first unit is its first channel: the units are ordered channel, row, column.
    *_, (_, last, _, _) = network.settle(network.rise(x.flatten(1)), guess)
    assert np.array_equal(states[-1, 0, :, :, 0, 1], last[0][0, 256:].view(16, 16).numpy())


def test_islands_draws_a_sheet_for_each_picture(call, trained, tmp_path):
    for i in range(2):
        make_image(i, (40, 30)).save(tmp_path / f"{i}.png")
    (tmp_path / "bad.png").write_bytes(b"nothing")
    paths = [tmp_path / n for n in ("0.png", "bad.png", "1.png")]
    out = tmp_path / "islands"
    code, text, error = call("islands", trained, *paths, "--out", out, "--json", "--quiet", "--threshold", 0.8)
    assert (code, error) == (0, "")
    result = json.loads(text)
    assert [p["image"] for p in result["pictures"]] == [str(paths[0]), str(paths[2])]
    assert len(result["skipped"]) == 1 and result["folder"] == str(out)
    learner, scaling = state_of(trained)
    pictures = [Image.open(p).convert("RGB").resize((16, 16), Image.Resampling.BICUBIC) for p in (paths[0], paths[2])]
    states = look(learner, scaling, torch.from_numpy(np.stack([np.asarray(p) for p in pictures])).permute(0, 3, 1, 2))
    for number, shown in enumerate(result["pictures"]):
        counts = [island_counts(np.moveaxis(centred(step)[number], 2, 0), 0.8).tolist() for step in states]
        assert shown["islands"] == counts and np.shape(counts) == (3, 2)
        with Image.open(out / shown["sheet"]) as sheet:
            assert sheet.width > sheet.height > 300 and len(set(sheet.convert("L").resize((64, 64)).tobytes())) > 20
    assert json.loads((out / "result.json").read_text())["pictures"] == result["pictures"]
    [source] = read_run(out)["pictures"][1]["sources"]
    assert [(a["name"], len(a["labels"])) for a in source["axes"]] == [("layer", 2), ("iteration", 3)]
    drawn_again(out)
    # Nowhere named: in the run folder, after the picture, and never over what is there.
    code, text, error = call("islands", trained, paths[0], "--quiet")
    assert code == 0 and "0.png" in text and (trained / "islands-0" / "0.png").exists() and "islands-0" in error
    code, text, error = call("islands", trained, paths[0], "--quiet")
    assert (code, text) == (2, "") and "not overwritten" in error and error.count("\n") == 1
    for options, says in ((["--threshold", 2], "--threshold must be below 1"), ([], "none of the 1 pictures")):
        code, _, error = call("islands", trained, paths[1], "--out", tmp_path / "w", "--quiet", *options)
        assert code == 2 and says in error


def test_score_stands_beside_the_untrained_network_and_the_pixels(call, trained, tmp_path):
    out, record = tmp_path / "score", tmp_path / "record.json"
    ask = ["score", trained, "--limit", 5, *SOURCE, "--quiet"]
    code, text, error = call(*ask, "--out", out, "--record", record, "--json")
    assert (code, error.strip()) == (0, f"recorded in {record}")
    result = json.loads(text)
    assert (result["n"], result["read"], result["size"], result["widths"]) == (5, 2, 16, [2, 1])
    for row in [*result["levels"], *result["untrained"]]:
        for measure in ("islands", "ari_wholes", "ari_parts"):
            low, high = row["ci95"][measure]
            assert low <= row[measure] <= high
        assert 1 <= row["islands"] <= 256
    assert [len(result[k]) for k in ("levels", "untrained", "iterations")] == [2, 2, 3]
    # The layers are scored at the iteration that is read last, here the second of three.
    assert [r["islands"] for r in result["iterations"][1]] == [r["islands"] for r in result["levels"]]
    assert [r["islands"] for r in result["iterations"][2]] != [r["islands"] for r in result["levels"]]
    assert result["levels"] != result["untrained"]
    [fall] = result["differences"]["fall"]
    counts = [row["islands"] for row in result["levels"]]
    assert fall["islands"][0] == pytest.approx(counts[0] - counts[1])
    assert {len(result["differences"][k]) for k in ("untrained", "pixels")} == {2}
    assert (out / "layers.png").stat().st_size > 5000
    assert json.loads(record.read_text())["levels"] == result["levels"] and str(tmp_path) not in record.read_text()
    code, text, error = call(*ask)
    assert code == 0 and max(map(len, text.splitlines())) <= 80
    assert "layer" in text and "pixels" in text and "wholes: best layer" in error and "level" not in text + error
    assert json.loads((trained / "score" / "result.json").read_text())["levels"] == result["levels"]
    code, _, error = call(*ask)
    assert code == 2 and "not overwritten" in error
    assert call(*ask, "--out", tmp_path / "w", "--record", tmp_path)[0] == 2 and not (tmp_path / "w").exists()


def test_grey_networks_are_shown_grey_pictures(call, tmp_path):
    images = torch.rand(2, 3, 5, 5)
    shown = grey(images)
    assert shown.shape == images.shape and torch.equal(shown[:, 0], shown[:, 2])
    torch.testing.assert_close(shown[:, 0], 0.299 * images[:, 0] + 0.587 * images[:, 1] + 0.114 * images[:, 2])
    torch.testing.assert_close(grey(torch.full((1, 3, 2, 2), 0.4)), torch.full((1, 3, 2, 2), 0.4))
    make_image(0).save(tmp_path / "a.png")
    for side in (16, 8):
        data, out = raw_mnist(tmp_path / f"data {side}", 40, 20, side=side), tmp_path / f"run {side}"
        assert call(*train(data, out, "--data", "mnist", mode="local", epochs=1))[0] == 0
        assert call("islands", out, tmp_path / "a.png", "--quiet")[0] == 0
    code, _, error = call("score", out, *SOURCE, "--quiet")
    assert code == 2 and "at least 16 pixels, got 8" in error and not (out / "score").exists()
    code, text, _ = call("score", tmp_path / "run 16", *SOURCE, "--limit", 3, "--json", "--quiet")
    assert code == 0 and json.loads(text)["size"] == 16


@pytest.mark.parametrize("mode", ["supervised", "recurrent"])
def test_a_fully_connected_network_has_no_places(call, tmp_path, mode):
    out = tmp_path / "run"
    assert call(*train(raw_mnist(tmp_path / "data", 40), out, mode=mode, epochs=1))[0] == 0
    with pytest.raises(InputError, match="no places"):
        open_local(out, CPU)
    make_image(0).save(tmp_path / "a.png")
    for command in (["islands", out, tmp_path / "a.png"], ["score", out]):
        code, text, error = call(*command, "--quiet")
        assert (code, text) == (2, "") and f"a {mode} network" in error and "no places" in error
        assert error.count("\n") == 1
    assert not [x for x in out.iterdir() if x.is_dir()]
