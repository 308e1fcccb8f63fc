"""The public names: cheap to import, complete, and five lines a job."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest
import torch
from PIL import Image
from torchvision.transforms import functional as TF

import glom
import probes
from glom.pictures import as_image, as_images, normalised
from tests.conftest import make_image


def python(code: str, **env: str) -> str:
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.strip()


def test_importing_loads_nothing_heavy():
    heavy = ["torch", "numpy", "PIL", "transformers", "open_clip", "sklearn", "matplotlib"]
    assert python(f"import sys, glom, probes; print([m for m in {heavy} if m in sys.modules])") == "[]"


@pytest.mark.parametrize("package", [glom, probes])
def test_every_public_name_is_there_and_documented(package):
    assert sorted(package.__all__) == list(dict.fromkeys(sorted(package.__all__)))
    for name in package.__all__:
        value = getattr(package, name)
        assert name in dir(package)
        if callable(value) or isinstance(value, type):
            assert (value.__doc__ or "").strip(), name


def test_an_unknown_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="nothing_here"):
        glom.nothing_here  # noqa: B018


# -- pictures however they are at hand -------------------------------------------------------------------------------


def test_the_same_pixels_from_every_kind_of_picture(tmp_path):
    image = make_image(3, (9, 6))
    path = tmp_path / "a.png"
    image.save(path)
    pixels = np.asarray(image)
    tensor = torch.from_numpy(pixels.copy())
    kinds = [
        path,
        str(path),
        path.read_bytes(),
        image,
        pixels,
        tensor,
        tensor.permute(2, 0, 1),
        tensor.double() / 255,
        tensor.permute(2, 0, 1).float() / 255,
        np.dstack([pixels, np.full((6, 9), 255, np.uint8)]),
        pixels.astype(np.int64),
    ]
    for kind in kinds:
        assert np.array_equal(np.asarray(as_image(kind)), pixels), type(kind)


def test_a_normalised_picture_has_torchvision_s_numbers():
    image = Image.fromarray(np.arange(256 * 3, dtype=np.uint16).astype(np.uint8).reshape(16, 16, 3))
    mean, std = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
    wanted = TF.normalize(TF.to_tensor(image), list(mean), list(std))
    assert torch.equal(normalised(image, mean, std), wanted)


def test_grey_alpha_and_booleans():
    grey = np.arange(15, dtype=np.uint8).reshape(3, 5)
    wanted = np.repeat(grey[..., None], 3, -1)
    for kind in (grey, grey[..., None], grey[None], Image.fromarray(grey)):
        assert np.array_equal(np.asarray(as_image(kind)), wanted)
    assert np.asarray(as_image(np.array([[True, False]]))).tolist() == [[[255] * 3, [0] * 3]]
    clear = np.zeros((2, 2, 4), np.uint8)
    assert np.asarray(as_image(clear)).min() == 255  # over white, as files are


@pytest.mark.parametrize(
    ("picture", "words"),
    [
        (np.zeros((0, 4, 3)), "no pixels"),
        (np.zeros((2, 2, 3)) + 1.5, "floats lies in .0, 1."),
        (np.zeros((2, 2, 3)) - 0.1, "normalisation"),
        (np.full((2, 2), np.nan), "floats lies in"),
        (np.full((2, 2), 300), "0 to 255"),
        (np.zeros((5, 7, 9, 2)), "shape"),
        (np.zeros((5, 4, 7)), "shape .5, 4, 7."),
        (np.zeros(4), "shape .4,."),
        (np.array(["a"]), "not ndarray"),
        (3.5, "shape"),
        (None, "not NoneType"),
        ("no such file.png", "no such file"),
        (b"", "empty"),
    ],
)
def test_what_is_no_picture_is_said_in_one_line(picture, words):
    with pytest.raises(glom.InputError, match=words) as caught:
        as_image(picture)
    assert "\n" not in str(caught.value)


def test_several_pictures_and_a_batch():
    batch = torch.zeros(2, 3, 4, 5)
    assert [p.size for p in as_images(batch)] == [(5, 4)] * 2
    assert len(as_images([make_image(), make_image(1)])) == 2
    with pytest.raises(glom.InputError, match="picture 1: "):
        as_images([make_image(), np.zeros(3)])
    with pytest.raises(glom.InputError, match="no pictures"):
        as_images([])


# -- a machine -------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def machine():
    return glom.load("apm-cifar10")


def test_a_point_says_the_same_whoever_else_is_asked(machine):
    image = make_image(5, (40, 24))
    grid = machine.percept(image, grid=(4, 6))
    points = glom.grid_queries(4, 6)
    order = torch.randperm(len(points), generator=torch.Generator().manual_seed(1))
    asked = machine.ask(image, points[order])
    assert torch.allclose(asked.features, grid.features.flatten(0, 1)[order], atol=1e-5)
    assert torch.allclose(asked.rgb, grid.rgb.flatten(0, 1)[order], atol=1e-5)
    assert torch.allclose(machine.ask(image, [(0.25 / 3, 0.125)]).features[0], grid.features[0, 0], atol=1e-5)


def test_a_percept_is_the_plain_forward(machine):
    image = make_image(6)
    percept = machine.percept(image)
    from glom.columns import picture

    with torch.no_grad():
        plain = machine(picture(image, machine.config.image_size)[None], outputs=("features", "rgb", "token"))
    n = machine.config.cells
    assert torch.allclose(percept.features.reshape(n * n, -1), plain.features[0], atol=1e-5)
    assert torch.allclose(percept.token, plain.token[0], atol=1e-5)
    # The token is the machine's own, whatever grid was asked.
    assert torch.allclose(machine.percept(image, grid=3).token, percept.token, atol=1e-6)


@pytest.mark.parametrize("grid", [0, (0, 4), (4, 5000), (2, 2, 2), (2.0, 2)])
def test_a_grid_out_of_range_is_refused(machine, grid):
    with pytest.raises(glom.InputError, match="a grid is"):
        machine.percept(make_image(), grid=grid)


@pytest.mark.parametrize(("points", "words"), [([(1.2, 0.5)], "outside"), ([], "location queries"), ([0.5], "N, 2")])
def test_points_that_are_none_are_refused(machine, points, words):
    with pytest.raises(glom.InputError, match=words):
        machine.ask(make_image(), points)


def test_percepts_and_answers_show_themselves(machine):
    percept = machine.percept(make_image(), grid=8)
    page = percept._repr_html_()
    assert page.startswith("<figure") and "data:image/png;base64," in page and "8 x 8" in page
    assert percept.to_image().height == 256
    assert "GridPercept(features=(8, 8, 128)" in repr(percept)


def test_saved_and_read_again(machine, tmp_path):
    machine.save_pretrained(tmp_path / "mine")
    again = glom.load(tmp_path / "mine")
    assert again.config == machine.config and again.meta == machine.meta
    assert all(torch.equal(a, b) for a, b in zip(machine.state_dict().values(), again.state_dict().values()))
    assert "glom-apm" in (tmp_path / "mine" / "README.md").read_text()


def test_a_folder_of_another_kind_and_a_hub_out_of_reach(tmp_path, monkeypatch):
    (tmp_path / "glom.safetensors").write_bytes(b"x")
    with pytest.raises(glom.InputError, match=r"holds no apm\.safetensors.*it has glom\.safetensors"):
        glom.load(tmp_path)
    with pytest.raises(glom.InputError, match="no such file or folder"):
        glom.load(tmp_path / "nowhere")
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with pytest.raises(glom.InputError, match="cannot be reached; give a local folder"):
        glom.load("nobody/nothing-at-all")


# -- adapting ---------------------------------------------------------------------------------------------------------


def test_adapting_gives_the_run_s_answer():
    """What the front door says is what `glom.adaptation.ttt` says of the same case, seed and settings."""
    images = [make_image(i) for i in range(3)]
    answers = glom.adapt_many(images, "glom-tiny", seed=4)
    alone = glom.adapt(images[0], "glom-tiny", seed=4)
    assert alone.name == answers[0].name and torch.allclose(alone.token, answers[0].token, atol=1e-3)
    assert all(a.cosine > 0.99 and len(a.trace) == 61 for a in answers)
    assert alone.trace[-1]["name"] == alone.name
    assert abs(float(alone.probabilities.sum()) - 1) < 1e-5
    assert "teacher:" in alone.caption and alone._repr_html_().startswith("<figure")


def test_adapting_among_given_classes_and_bad_requests():
    answer = glom.adapt(make_image(), "glom-tiny", classes=["ship", "cat"])
    assert answer.classes == ("ship", "cat") and answer.name in answer.classes
    with pytest.raises(glom.InputError, match="did you mean"):
        glom.adapt(make_image(), "glom-tinny")
    with pytest.raises(glom.InputError, match="unknown TTT preset"):
        glom.adapt(make_image(), "glom-tiny", settings="quick")
    with pytest.raises(glom.InputError, match="give the classes"):
        glom.adapt(make_image(), "open_clip:RN50@random")


# -- islands ----------------------------------------------------------------------------------------------------------


def test_islands_are_the_layers_grids_and_their_measures():
    image = make_image(7, (64, 48))
    found = probes.islands(image, layers="first,last")
    backbone = glom.load_backbone("mvit-v2-tiny")
    from glom.backbones.video import clip_for

    grids = glom.feature_grids(backbone, clip_for(backbone, image), "first,last", "mean")
    assert found.layers == tuple(grids)
    assert all(np.array_equal(found.grid(i), g[0].numpy()) for i, g in grids.items())
    labels = found.labels("kmeans:3")
    assert labels.shape == found.grid().shape[:2] and labels.max() <= 2
    assert found.score(labels, "kmeans:3")["ari"] == pytest.approx(1.0)
    assert -1 <= found.agreement() <= 1
    assert found._repr_html_().startswith("<figure") and "islands of 6 clusters" in found.caption
    with pytest.raises(glom.InputError, match="layer 99 was not read"):
        found.grid(99)
    with pytest.raises(glom.InputError, match="masks are"):
        found.score(np.zeros((4, 4, 3)))


# -- a model of one's own ---------------------------------------------------------------------------------------------


class Net(torch.nn.Module):
    """Two blocks, a mean over places, a linear classifier."""

    def __init__(self, classes=3):
        super().__init__()
        self.blocks = torch.nn.ModuleList([torch.nn.Conv2d(3, 8, 4, 4), torch.nn.Conv2d(8, 12, 3, padding=1)])
        self.classifier = torch.nn.Linear(12, classes)

    def forward(self, x):
        for block in self.blocks:
            x = block(x).relu()
        return self.classifier(x.mean((2, 3)))


def test_any_network_is_a_teacher():
    torch.manual_seed(1)
    net = Net()
    own = glom.teacher(net, size=32, features="blocks.1", classes=["cat", "dog", "cow"], name="mine")
    token, grid = own.encode([make_image(), np.zeros((5, 7, 3))])
    assert token.shape == (2, 12) and grid.shape == (2, 8, 8, 12)
    views = torch.stack([own.preprocess(make_image())])
    assert torch.allclose(own.zero_shot_head(own.classes)(own.token(views)), net(views), atol=1e-5)
    answer = glom.adapt(make_image(), own)
    assert answer.agrees and answer.classes == ("cat", "dog", "cow")
    assert not any(p.requires_grad for p in net.parameters())
    assert own.fingerprint != glom.teacher(Net(), size=32, name="mine").fingerprint


def test_and_a_backbone_beside_its_untrained_twin():
    torch.manual_seed(1)
    own = glom.teacher(Net(), size=32, name="mine")
    found = probes.islands(make_image(), own)
    assert found.layers == (0, 1) and found.grid().shape[-1] == 12
    from glom.backbones.images import as_backbone

    twin = as_backbone(own).untrained()
    assert not np.allclose(probes.islands(make_image(), twin).grid(), found.grid())


def test_a_network_without_blocks_is_read_where_its_grid_is():
    net = torch.nn.Sequential(torch.nn.Conv2d(3, 8, 4, 4), torch.nn.AdaptiveAvgPool2d(1), torch.nn.Flatten())
    found = probes.islands(make_image(), glom.teacher(net, size=32, features="0"), size=32)
    assert found.layers == (0,) and found.names[0] == "0" and found.grid().shape == (8, 8, 8)
    with pytest.raises(glom.InputError, match="no list of blocks"):
        probes.islands(make_image(), glom.teacher(net, size=32))


def test_tokens_become_a_grid_without_class_and_register_tokens():
    from glom.teachers.own import as_grid

    tokens = torch.arange(2 * (1 + 4 + 9) * 5).reshape(2, 14, 5).float()
    assert torch.equal(as_grid(tokens, "x").flatten(1, 2), tokens[:, 5:])
    assert as_grid(torch.zeros(2, 7, 3, 4), "x").shape == (2, 3, 4, 7)
    assert as_grid(torch.zeros(2, 4, 4, 7), "x").shape == (2, 4, 4, 7)
    with pytest.raises(glom.InputError, match="a feature grid is"):
        as_grid(torch.zeros(2, 3), "x")


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"size": 2}, "cannot read pictures"),
        ({"size": 32, "features": "block"}, "no module 'block'; it has blocks"),
        ({"size": 32, "head": "blocks.0"}, "a head must be a Linear"),
        ({"size": 32, "classes": ["a", "b"]}, "2 class names, but the classifier of own has 3 rows"),
        ({"size": 32, "std": (1, 0, 1)}, "mean and std"),
        ({"size": 0}, "at least 1 px"),
    ],
)
def test_a_network_that_cannot_be_used_so_is_said(options, words):
    with pytest.raises(glom.InputError, match=words):
        glom.teacher(Net(), **options)


# -- five lines a job -------------------------------------------------------------------------------------------------


def test_forward_forward_on_arrays():
    rng = np.random.default_rng(0)
    y = rng.integers(0, 2, 100)
    x = rng.normal(size=(100, 6)) + 3 * y[:, None]
    assert glom.ForwardForward((32, 32), epochs=60).fit(x, y).score(x, y) > 0.9


def test_a_glom_learns_pictures_and_is_read_again(tmp_path):
    config = glom.GlomConfig(levels=3, dim=16, hidden=32, iterations=3)
    network = glom.Glom(config).fit([make_image(i) for i in range(4)], steps=30, batch=4, size=16, precision="fp32")
    assert np.mean(network.history[-5:]) < np.mean(network.history[:5])
    network.save_pretrained(tmp_path / "glom")
    again = glom.Glom.from_pretrained(tmp_path / "glom")
    images = torch.rand(2, 3, 16, 16)
    with torch.no_grad():
        assert torch.equal(network(images), again(images)) and network(images).shape == (2, 16, 3, 16)
    assert again.facts["steps"] == 30
    with pytest.raises(glom.InputError, match="no settings of a training"):
        glom.Glom(config).fit([make_image()], step=3)
    with pytest.raises(glom.InputError, match="fit takes no 'config'"):
        glom.Glom(config).fit([make_image()], config=config)
    with pytest.raises(glom.InputError, match=r"holds no apm\.safetensors"):
        glom.load(tmp_path / "glom")


def test_a_glom_in_hand_is_the_training_run_s(tmp_path):
    """The same pictures drawn alike: `fit` and the run folder's step give the same weights."""
    from glom.consensus.config import TrainSettings
    from glom.consensus.training import Trainer, new_glom

    config = glom.GlomConfig(levels=2, dim=16, hidden=16, iterations=2)
    pixels = torch.stack([torch.from_numpy(np.asarray(make_image(i, (16, 16))).copy()) for i in range(3)])
    pixels = pixels.permute(0, 3, 1, 2).float() / 255
    how = TrainSettings(config=config, steps=3, batch=2, size=16, precision="fp32", seed=5)
    plain = new_glom(config, 5)
    trainer = Trainer(plain, how, lambda n, g: pixels[torch.randint(len(pixels), (n,), generator=g)])
    assert len(list(trainer.training.run(trainer.loss))) == 3
    mine = glom.Glom(config, seed=5).fit(pixels, steps=3, batch=2, size=16, precision="fp32", seed=5)
    assert all(torch.equal(a, b) for a, b in zip(plain.state_dict().values(), mine.state_dict().values()))


def test_torch_hub_serves_what_ships():
    from pathlib import Path

    root = str(Path(glom.__file__).parents[1])
    served = torch.hub.load(root, "apm", source="local")
    image = make_image(1)
    assert torch.equal(served.percept(image, 3).features, glom.load("apm-cifar10").percept(image, 3).features)
