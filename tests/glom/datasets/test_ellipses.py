"""The world of ellipses: each a part of some whole, none telling of which by itself."""

from __future__ import annotations

import math

import pytest
import torch

from glom.datasets.ellipse_settings import EllipseSettings
from glom.datasets.ellipses import PARTS, SEEN, UNIT, Ellipses, Reach, arrangements, log_shape
from glom.errors import InputError


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def test_an_ellipse_is_seen_as_a_set_of_points():
    """However the circle is turned before, the ellipse is the same; its axes and direction are those that it has."""
    affine = torch.randn(20, 2, 2, generator=seeded())
    turn = torch.tensor([[math.cos(0.7), -math.sin(0.7)], [math.sin(0.7), math.cos(0.7)]])
    for circle in (turn, torch.diag(torch.tensor([1.0, -1.0]))):
        torch.testing.assert_close(log_shape(affine @ circle), log_shape(affine), rtol=1e-3, atol=1e-4)
    long = torch.tensor([[3.0, 0.0], [0.0, 1.0]])
    half = math.log(3) / 2
    torch.testing.assert_close(log_shape(long), torch.tensor([half, half, 0.0]))
    torch.testing.assert_close(log_shape(turn @ long)[1:], half * torch.tensor([math.cos(1.4), math.sin(1.4)]))


def test_a_whole_is_its_arrangement_in_a_pose():
    settings = EllipseSettings(objects=3, jitter=0.0)
    world = Ellipses(settings)
    made = world.batch(4, seeded())
    assert made.seen.shape == (4, 15, SEEN) and made.objects[0].tolist() == [0] * 5 + [1] * 5 + [2] * 5
    assert torch.equal(made.parts // PARTS, made.kinds)
    place, frame = made.poses[..., :2] * 0.25 + 0.5, made.poses[..., 2:].unflatten(-1, (2, 2)) * settings.scale
    number = made.parts % PARTS
    centre = place + (frame @ world.centres[made.kinds, number][..., None])[..., 0]
    torch.testing.assert_close(made.places, centre)
    seen = log_shape(frame @ world.shapes[made.kinds, number])
    torch.testing.assert_close(made.seen[..., 3:] * torch.tensor(UNIT[3:]), seen[..., 1:], rtol=1e-3, atol=1e-4)


def test_pictures_follow_from_the_generator_and_kinds_from_the_settings():
    one, two = (Ellipses(EllipseSettings()).batch(3, seeded(5)) for _ in range(2))
    assert torch.equal(one.seen, two.seen) and torch.equal(one.poses, two.poses)
    assert not torch.equal(one.seen, Ellipses(EllipseSettings(arrangements=1)).batch(3, seeded(5)).seen)
    still = Ellipses(EllipseSettings()).batch(3, seeded(5), jitter=0.0)
    assert torch.equal(still.parts, one.parts) and 0.02 < float((still.seen - one.seen).std()) < 0.1
    centres, _ = arrangements(4, 0)
    assert float(torch.pdist(centres[0]).min()) >= 0.5


def test_unseen_poses_lie_beyond_the_trained_ones():
    world = Ellipses(EllipseSettings(turn=60, stretch=0.0))
    for reach, low, high in ((Reach(), 0, 60), (Reach(turn=(1.0, 1.5)), 60, 90)):
        poses = world.batch(200, seeded(1), reach=reach).poses
        turned = torch.rad2deg(torch.atan2(poses[..., 4], poses[..., 2])).abs()
        assert low - 0.1 <= float(turned.min()) and float(turned.max()) <= high + 0.1


def test_settings_of_no_world_are_refused():
    for wrong in ({"classes": 1}, {"objects": 0}, {"turn": 200.0}, {"jitter": -1.0}):
        with pytest.raises(InputError):
            EllipseSettings(**wrong)
