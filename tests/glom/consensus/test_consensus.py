"""GLOM: the equations, what may not change its numbers, the objectives, and islands counted by hand."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import save_file
from sklearn.metrics import adjusted_rand_score

from glom.columns import grid_queries
from glom.consensus import Glom, GlomConfig, config, objectives
from glom.consensus.attention import agreement_weights, allowed_pairs, consensus, prefers_windows, windowed_consensus
from glom.consensus.checkpoint import load_glom, save_glom
from glom.consensus.config import ObjectiveSettings, TrainSettings
from glom.consensus.goodness import hybrids, level_goodness, moved_tops, negatives
from glom.consensus.objectives import (
    OBJECTIVES,
    crop,
    crop_boxes,
    masked_columns,
    objective_of,
    shared_points,
)
from glom.errors import InputError
from glom.runs.seeds import fixed_seed
from glom.settings import read_pairs
from probes.levels import cut_score, island_counts, level_islands

SMALL = GlomConfig(levels=3, dim=16, hidden=24, code=8, iterations=4)


def pictures(count: int = 2, height: int = 16, width: int = 24, seed: int = 0) -> torch.Tensor:
    return torch.rand(count, 3, height, width, generator=torch.Generator().manual_seed(seed))


# -- agreement within a level --------------------------------------------------------------------------------------


def test_agreement_is_the_softmax_of_inner_products():
    x = torch.randn(2, 7, 5)
    wanted = torch.einsum("bij,bjd->bid", (0.3 * torch.einsum("bid,bjd->bij", x, x)).softmax(-1), x)
    torch.testing.assert_close(consensus(x, 0.3), wanted)


def test_many_columns_give_what_few_give():
    x = torch.randn(1, 2, 441, 8)  # the fused kernel
    allowed = allowed_pairs(grid_queries(21, 21), (21, 21), 2)
    torch.testing.assert_close(consensus(x, 0.5, allowed), agreement_weights(x, 0.5, allowed) @ x)


@pytest.mark.parametrize("attend_self", [True, False])
@pytest.mark.parametrize(("h", "w"), [(5, 7), (1, 4), (1, 1)])
@pytest.mark.parametrize("radius", [0, 1, 3, 20])
def test_windows_equal_pairs(h, w, radius, attend_self):
    x = torch.randn(2, h * w, 6, dtype=torch.float64, requires_grad=True)
    allowed = allowed_pairs(grid_queries(h, w, dtype=torch.float64), (h, w), radius, attend_self)
    one = consensus(x, 0.7, allowed)
    two = windowed_consensus(x.unflatten(1, (h, w)), 0.7, radius, attend_self).flatten(1, 2)
    torch.testing.assert_close(one, two)
    probe = torch.randn_like(one)
    gradients = [torch.autograd.grad((y * probe).sum(), x)[0] for y in (one, two)]
    torch.testing.assert_close(*gradients)


def test_a_radius_beyond_the_grid_is_global_and_a_radius_of_none_is_itself():
    x = torch.randn(1, 12, 4)
    q = grid_queries(3, 4)
    torch.testing.assert_close(consensus(x, 1.0, allowed_pairs(q, (3, 4), 4)), consensus(x, 1.0))
    torch.testing.assert_close(consensus(x, 1.0, allowed_pairs(q, (3, 4), 0)), x)


def test_a_colder_agreement_looks_at_likes_only():
    x = torch.tensor([[[1.0, 0.0], [0.9, 0.1], [0.0, 1.0]]])
    cold, warm = agreement_weights(x, 50.0)[0, 0], agreement_weights(x, 0.01)[0, 0]
    assert cold[2] < 1e-6 and torch.allclose(warm, torch.full((3,), 1 / 3), atol=0.01)


# -- the network ---------------------------------------------------------------------------------------------------


def test_an_update_is_the_papers_average_of_four():
    glom = Glom(replace(SMALL, weights=(1.0, 2.0, 3.0, 4.0)))
    seen, places = glom.see(pictures()), glom.places((4, 6))
    state = torch.randn(3, 2, 24, 16)
    parts = glom.contributions(state, seen, places)
    code = glom.code(grid_queries(4, 6))
    up, down = glom.up, glom.down

    def net(x, w1, b1, w2, b2, extra=0.0):
        return F.gelu(F.layer_norm(x, (16,)) @ w1 + b1 + extra) @ w2 + b2

    below = [seen, state[0], state[1]]
    for k in range(3):
        u = net(below[k], up.first[k], up.first_bias[k], up.second[k], up.second_bias[k])
        c = (SMALL.beta * state[k] @ state[k].mT).softmax(-1) @ state[k]
        total, weight = 1 * u + 3 * state[k] + 4 * c, 8.0
        if k < 2:
            extra = code @ down.place[k]  # the code concatenated to the input, its columns apart
            v = net(state[k + 1], down.first[k], down.first_bias[k], down.second[k], down.second_bias[k], extra)
            total, weight = total + 2 * v, 10.0
        torch.testing.assert_close(glom.combine(parts)[k], total / weight)


def glom_pytorch_update(state, seen, up, down, place, dim):
    """One update of glom-pytorch (Wang 2021): state (B, n, L, d), seen (B, n, d), place (n, d) -> (B, n, L, d).

    `up` and `down` give the nets' two products and biases, one net a level.
    """

    def net(x, w1, b1, w2, b2):
        return F.gelu(x @ w1 + b1) @ w2 + b2

    levels = state.shape[2]
    below = torch.cat([seen[:, :, None], state], dim=2)
    bottom_up = torch.stack([net(below[:, :, k], *up[k]) for k in range(levels)], 2)
    above = state[:, :, 1:] + place[None, :, None]
    top_down = torch.stack([net(above[:, :, k], *down[k]) for k in range(levels - 1)], 2)
    top_down = F.pad(top_down, (0, 0, 0, 1))
    similar = torch.einsum("bild,bjld->blij", state, F.normalize(state, dim=-1)) * dim**-0.5
    agreed = torch.einsum("blij,bjld->bild", similar.softmax(-1), state)
    counts = torch.tensor([4.0] * (levels - 1) + [3.0])
    return (state + bottom_up + top_down + agreed) / counts[:, None]


def test_an_update_is_glom_pytorchs_once_three_choices_are_set_alike(monkeypatch):
    """Those are: nets that read their input as it is, keys of length one, and a position code added to the input."""
    glom = Glom(SMALL)
    seen, state = glom.see(pictures()), torch.randn(3, 2, 24, 16)
    place = 0.3 * torch.randn(24, 16)
    up, down = (
        [(n.first[k], n.first_bias[k, 0], n.second[k], n.second_bias[k, 0]) for k in range(len(n.first))]
        for n in (glom.up, glom.down)
    )
    wanted = glom_pytorch_update(state.permute(1, 2, 0, 3), seen, up, down, place, 16)
    ours = next(glom.iterate(seen, glom.places((4, 6)), state)).permute(1, 2, 0, 3)
    assert (ours - wanted).abs().max() > 0.01  # they are different machines as they stand

    monkeypatch.setattr("glom.consensus.columns.F.layer_norm", lambda x, *_: x)

    def keys_of_length_one(self, x, places):
        w = (self.config.beta * x @ F.normalize(x, dim=-1).mT).softmax(-1)
        return w @ x

    monkeypatch.setattr(Glom, "agreement", keys_of_length_one)
    # A code added to the input is this much at the hidden layer, where ours arrives.
    bias = (glom.down.first_bias + place @ glom.down.first)[:, None]
    alike = next(glom.iterate(seen, glom.places((4, 6))._replace(bias=bias), state)).permute(1, 2, 0, 3)
    torch.testing.assert_close(alike, wanted, rtol=1e-6, atol=2e-6)


def test_columns_in_another_order_are_the_same_columns():
    glom = Glom(replace(SMALL, radius=(1, 2, None), attend_self=False))
    seen, order = glom.see(pictures()), torch.randperm(24)
    plain, mixed = glom.places((4, 6)), glom.places((4, 6), grid_queries(4, 6)[order])
    one, two = glom.iterate(seen, plain), glom.iterate(seen[:, order], mixed)
    for _ in range(5):
        torch.testing.assert_close(next(one)[:, :, order], next(two))


def test_windows_and_pairs_give_one_network():
    config = replace(SMALL, radius=(1, 0, 1), levels=3)
    glom = Glom(config)
    images = pictures(1, 64, 64)
    assert all(prefers_windows(256, r) for r in config.radius)
    pairs = glom.places((16, 16), grid_queries(16, 16))
    torch.testing.assert_close(glom(images)[0], _last(glom.iterate(glom.see(images), pairs), 4)[:, 0].permute(1, 0, 2))


def _last(steps, count):
    for _ in range(count):
        state = next(steps)
    return state


def test_a_picture_repeated_is_a_picture_and_a_state_goes_on():
    glom, images = Glom(SMALL), pictures()
    states = list(glom.all_states(images, 5))
    assert [tuple(s.shape) for s in states] == [(2, 24, 3, 16)] * 5
    for watched, still in zip(glom.watch(images[:, None].expand(-1, 5, -1, -1, -1)), states, strict=True):
        torch.testing.assert_close(watched, still)
    torch.testing.assert_close(glom(images, 3, state=states[1]), states[4])
    moved = list(glom.watch(torch.stack([images, images.flip(-1)], 1)))
    assert not torch.allclose(moved[1], states[1])


def test_every_grid_and_no_batch_effect():
    glom = Glom(SMALL)
    for height, width in ((4, 4), (8, 40), (32, 32)):
        assert glom(pictures(1, height, width)).shape == (1, height * width // 16, 3, 16)
    images = pictures(3)
    torch.testing.assert_close(glom(images)[1:2], glom(images[1:2]))


def test_bf16_is_near():
    glom, images = Glom(SMALL), pictures()
    with torch.autocast("cpu", torch.bfloat16):
        low = glom(images)
    assert F.cosine_similarity(low.flatten(1), glom(images).flatten(1)).min() > 0.999


def test_the_top_down_nets_alone_say_a_picture():
    glom, images = Glom(SMALL), pictures()
    places = glom.places((4, 6))
    state = glom(images).permute(2, 0, 1, 3)
    said = glom.decode(state, places)
    assert said.shape == (3, 2, 3, 16, 24)
    below = glom.down.one(1, state[2], places.bias[1])
    again = glom.decode(torch.stack([state[0], below, state[2]]), places)
    torch.testing.assert_close(again[1], said[2])  # level 3 speaks through level 2's nets


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"levels": 1}, "at least 2"),
        ({"temperature": 0.0}, "temperature"),
        ({"temperature": -1.0}, "temperature"),
        ({"radius": (-1,)}, "radius"),
        ({"radius": (1, 2)}, "one `radius`"),
        ({"weights": (0.0, 1.0, 1.0, 1.0)}, "bottom-up"),
        ({"weights": (1.0, -1.0, 1.0, 1.0)}, "`weights` must be at least 0"),
        ({"code": 6}, "multiple of 4"),
        ({"location_code": "sine"}, "location_code"),
    ],
)
def test_wrong_settings(change, says):
    with pytest.raises(InputError, match=says):
        replace(SMALL, **change)


def test_wrong_pictures_places_and_states():
    glom = Glom(SMALL)
    for shape, says in (((1, 3, 1, 1), "smaller than one patch"), ((1, 3, 10, 8), "multiples"), ((3, 8, 8), "B, 3, H")):
        with pytest.raises(InputError, match=says):
            glom(torch.rand(shape))
    with pytest.raises(InputError, match="at least one column"):
        glom.places((4, 4), torch.zeros(0, 2))
    with pytest.raises(InputError, match="iteration"):
        glom(pictures(), 0)
    with pytest.raises(InputError, match="a state must be"):
        glom(pictures(), state=torch.zeros(2, 24, 2, 16))
    with pytest.raises(InputError, match="a video"):
        next(glom.watch(pictures()))


def test_words_of_the_command_line():
    found = read_pairs(TrainSettings, ["radius=1,global", "weights=1,0,2,0.5"])
    assert found == {"radius": (1, None), "weights": (1.0, 0.0, 2.0, 0.5)}
    assert TrainSettings.of(**found, levels=2).config.radius == (1, None)
    for text in ("radius=far", "weights=1,1", "weights=a,b,c,d"):
        with pytest.raises(InputError):
            read_pairs(TrainSettings, [text])


# -- objectives ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", list(OBJECTIVES))
def test_objectives_are_functions_of_weights_pictures_and_generator(name):
    glom, images = Glom(SMALL), pictures(4, 16, 16)
    losses = [objective_of(name)(glom, images, torch.Generator().manual_seed(1), ObjectiveSettings()) for _ in range(2)]
    assert torch.equal(losses[0].total, losses[1].total) and losses[0].levels.shape == (3,)
    losses[0].total.backward()
    silent = {n for n, p in glom.named_parameters() if p.grad is None or not p.grad.any()}
    assert all(n.startswith("paint") for n in silent)
    assert ("paint.first" in silent) == (name in ("contrast", "forward-forward"))


@pytest.mark.parametrize("name", ["denoise", "mask", "contrast"])
def test_a_few_steps_lower_the_loss(name):
    glom, images = Glom(SMALL), pictures(6, 16, 16)
    smooth = F.interpolate(images[..., :3, :3], (16, 16), mode="bilinear")
    optimiser = torch.optim.Adam(glom.parameters(), 1e-2)
    values = []
    for step in range(25):
        loss = objective_of(name)(glom, smooth, torch.Generator().manual_seed(step % 5), ObjectiveSettings())
        optimiser.zero_grad()
        loss.total.backward()
        optimiser.step()
        values.append(float(loss.total.detach()))
    assert np.mean(values[-5:]) < 0.9 * np.mean(values[:5])


def test_forward_forward_sends_no_gradient_across_levels_or_time():
    # Two iterations that learn: with one alone there is no earlier state for a gradient to reach.
    glom, images = Glom(replace(SMALL, iterations=SMALL.levels + 2)), pictures(4, 16, 16)
    for level in range(3):
        glom.zero_grad(set_to_none=True)
        level_goodness(glom, images)[level].sum().backward()
        for k in range(3):
            grads = [p.grad[k] for p in (glom.up.first, glom.up.second, glom.up.first_bias)]
            assert all(bool(g.any()) == (k == level) for g in grads)
        for k in range(2):  # top-down net k speaks to level k
            grads = [p.grad[k] for p in (glom.down.first, glom.down.second) if p.grad is not None]
            assert all(bool(g.any()) == (k == level) for g in grads)
        eye = glom.eye.weight.grad
        assert (eye is not None and bool(eye.any())) == (level == 0)
        assert glom.paint.first.grad is None


def test_hybrids_take_the_top_half_from_another_picture():
    images = torch.arange(5.0)[:, None, None, None].expand(5, 3, 8, 8)
    made = hybrids(images, torch.Generator().manual_seed(0))
    assert torch.equal(made[:, :, 4:], images[:, :, 4:])
    tops = made[:, 0, 0, 0]
    assert bool((tops != torch.arange(5.0)).all()) and sorted(tops.tolist()) == [0, 1, 2, 3, 4]
    soft = hybrids(images, torch.Generator().manual_seed(0), seam=4)
    assert torch.equal(soft[:, :, :2], made[:, :, :2]) and torch.equal(soft[:, :, 6:], made[:, :, 6:])
    assert not torch.equal(soft, made)
    x = pictures(2, 8, 8)
    assert torch.equal(moved_tops(x)[:, :, 4:], x[:, :, 4:])
    assert torch.equal(moved_tops(x)[:, :, :4], x[:, :, :4].roll(2, -1))
    with pytest.raises(InputError, match="two pictures"):
        hybrids(images[:1], torch.Generator())


def test_blobs_mix_two_pictures_without_an_edge():
    images = torch.arange(4.0)[:, None, None, None].expand(4, 3, 48, 48)
    made = negatives(images, torch.Generator().manual_seed(0), "blobs")
    assert torch.equal(made, negatives(images, torch.Generator().manual_seed(0), "blobs"))
    shares = []
    for k, picture in enumerate(made[:, 0]):
        values = picture.unique()
        other = next(float(v) for v in (values.min(), values.max()) if float(v) != k)
        own = (picture - other) / (k - other)
        shares.append(float(own.mean()))
        assert float(own.min()) < 0.2 and float(own.max()) > 0.8  # both pictures are there
        steps = torch.cat([own.diff(dim=0).flatten(), own.diff(dim=1).flatten()]).abs()
        assert float(steps.max()) < 0.35  # where half a picture is pasted it is 1
    assert min(shares) > 0.3 and max(shares) < 0.7
    half = negatives(images, torch.Generator().manual_seed(0), "half")
    assert torch.equal(half, hybrids(images, torch.Generator().manual_seed(0)))
    with pytest.raises(InputError, match="two pictures"):
        negatives(images[:1], torch.Generator(), "blobs")


def test_masks_take_their_share_in_squares():
    gone = masked_columns(50, (12, 12), torch.Generator().manual_seed(0), ObjectiveSettings(masked=0.5, block=3))
    assert 0.45 < float(gone.float().mean()) < 0.62
    assert float((gone[:, :, 1:] == gone[:, :, :-1]).float().mean()) > 0.75  # single columns would give a half


def test_what_is_masked_is_not_seen():
    glom, images = Glom(SMALL), pictures(1, 16, 16)
    missing = torch.zeros(1, 1, 16, 16, dtype=torch.bool)
    missing[..., :8] = True
    other = images.clone()
    other[..., :8] = 0.9
    torch.testing.assert_close(glom(images, missing=missing), glom(other, missing=missing))


def test_the_same_place_in_two_crops_is_the_same_place():
    x = torch.linspace(0, 1, 32)
    images = torch.stack(torch.broadcast_tensors(x[None], x[:, None], torch.zeros(1, 1)))[None].expand(6, 3, 32, 32)
    generator = torch.Generator().manual_seed(3)
    a, b = crop_boxes(6, 0.6, generator), crop_boxes(6, 0.6, generator)
    points = shared_points(a, b, 9, generator)
    for box in (a, b):
        assert bool((box[:, :2] >= 0).all() and (box[:, 2:] <= 1).all())
        inside = (points - box[:, None, :2]) / (box[:, None, 2:] - box[:, None, :2])
        assert bool(((inside >= -1e-5) & (inside <= 1 + 1e-5)).all())
        seen = F.grid_sample(
            crop(images, box, (32, 32)), 2 * inside[:, None] - 1, align_corners=False, padding_mode="border"
        )[:, :2, 0].permute(0, 2, 1)
        assert float((seen - points).abs().max()) < 0.05  # a pixel of a picture that holds its own coordinates


def test_unknown_objectives_and_wrong_tasks():
    with pytest.raises(InputError, match="did you mean denoise"):
        objective_of("denoize")
    for change in ({"noise": 0.0}, {"masked": 1.0}, {"crop": 0.4}, {"agreement": -1.0}, {"contrast_temperature": 0.0}):
        with pytest.raises(InputError):
            ObjectiveSettings(**change)


# -- on disk -------------------------------------------------------------------------------------------------------


def test_weights_come_back_and_strangers_do_not(tmp_path):
    glom = Glom(replace(SMALL, radius=(1, 2, None)))
    save_glom(tmp_path, glom, {"objective": "mask"})
    back, facts = load_glom(tmp_path)
    assert back.config == glom.config and facts == {"objective": "mask"}
    torch.testing.assert_close(back(pictures()), glom(pictures()))
    path = tmp_path / "glom.safetensors"
    state = {k: v.detach() for k, v in glom.state_dict().items()}
    good = json.dumps(glom.config.as_dict())
    for metadata, says in (
        (None, "no GLOM"),
        ({"format": "9", "config": good}, "format 9"),
        ({"format": "1", "config": json.dumps({"levels": 3, "depth": 1})}, "depth"),
        ({"format": "1", "config": json.dumps({**glom.config.as_dict(), "dim": 8})}, "does not fit"),
    ):
        save_file(state, path, metadata=metadata)
        with pytest.raises(InputError, match=says):
            load_glom(tmp_path)
    path.write_bytes(b"PK")
    with pytest.raises(InputError, match="truncated"):
        load_glom(tmp_path)
    with pytest.raises(InputError, match="no trained GLOM"):
        load_glom(tmp_path / "nowhere")


# -- probes --------------------------------------------------------------------------------------------------------


def test_islands_by_hand():
    a, b = [1.0, 0.0], [0.0, 1.0]
    grids = np.array([[[a, a, b], [b, a, b], [a, b, b]], [[a, a, a]] * 3], np.float32)
    assert level_islands(grids)[0].tolist() == [[0, 0, 1], [2, 0, 1], [3, 1, 1]]
    assert island_counts(grids).tolist() == [4, 1]
    chain = np.array([[[[np.cos(t), np.sin(t)] for t in np.linspace(0, 2, 6)]]], np.float32)
    assert island_counts(chain, 0.9).tolist() == [1] and island_counts(chain, 0.95).tolist() == [6]
    with pytest.raises(InputError, match="cosine"):
        island_counts(grids, 1.5)


def test_a_perfect_grid_scores_one_and_noise_nothing():
    truth = np.zeros((24, 24), np.int64)
    truth[:, 12:], truth[12:, :12] = 1, 2
    perfect = np.eye(3, dtype=np.float32)[truth[::4, ::4]]
    noise = np.random.default_rng(0).normal(size=(6, 6, 8)).astype(np.float32)
    assert cut_score(perfect, truth) == 1.0
    assert abs(cut_score(noise, truth)) < 0.25
    assert adjusted_rand_score(truth.ravel(), truth.ravel()) == 1.0


def test_the_objectives_that_can_be_asked_for_are_those_there_are():
    assert set(config.OBJECTIVES) == {*objectives.OBJECTIVES, "recover"}  # the last is of another world


@pytest.mark.parametrize("radius", [(None,), (1, None, 2)])
@pytest.mark.parametrize("count", [1, 3])
def test_what_all_pictures_share_is_worked_out_once_and_nothing_changes(count, radius):
    """From zeros the levels that wait climb beside those that have seen; the plain update, gradients too."""
    with fixed_seed():
        glom = Glom(replace(SMALL, radius=radius, weights=(1.0, 2.0, 3.0, 0.5)))
        for nets in (glom.up, glom.down):
            torch.nn.init.normal_(nets.first_bias)
            torch.nn.init.normal_(nets.second_bias)
    seen, places = glom.see(pictures(count)), glom.places((4, 6))
    probe = torch.randn(3, count, 24, 16)
    found = []
    for state in (None, glom.start(seen)):
        steps = glom.iterate(seen, places, state)
        states = [next(steps) for _ in range(5)]
        torch.autograd.backward(states, [probe] * 5, retain_graph=True)
        found.append((states, [p.grad.clone() for p in glom.parameters() if p.grad is not None]))
        glom.zero_grad()
    for (fast, plain), rule in zip(zip(*found, strict=True), ({"atol": 2e-6}, {"atol": 2e-4}), strict=True):
        for one, two in zip(fast, plain, strict=True):
            torch.testing.assert_close(one, two, rtol=1e-4, **rule)


def test_what_waits_is_worked_out_for_one_picture(monkeypatch):
    glom, rows = Glom(SMALL), []
    agreement = Glom.agreement
    monkeypatch.setattr(Glom, "agreement", lambda self, x, *more: rows.append(x.shape[:2]) or agreement(self, x, *more))
    glom(pictures(4))
    assert rows == [(2, 1), (1, 4), (1, 1), (2, 4), (3, 4)]
