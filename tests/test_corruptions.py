"""The 15 corruptions: names, strengths, and random numbers that belong to the sample."""

from __future__ import annotations

import random

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from glom.datasets.corruptions import CORRUPTIONS, Corruption, corrupt, parse_corruption
from glom.errors import InputError
from glom.seeds import sample_seed
from tests.helpers_images import photo

RANDOM = (
    "gaussian_noise",
    "shot_noise",
    "impulse_noise",
    "glass_blur",
    "motion_blur",
    "snow",
    "frost",
    "fog",
    "elastic_transform",
)


def array(image: Image.Image) -> np.ndarray:
    return np.asarray(image).astype(float)


def test_names_are_the_benchmarks() -> None:
    from imagecorruptions import get_corruption_names

    assert list(CORRUPTIONS) == get_corruption_names("common")
    assert len(CORRUPTIONS) == 15


def test_every_corruption_is_a_function_of_its_seed_in_any_order() -> None:
    image = photo(64, 64)
    jobs = [(name, seed) for name in CORRUPTIONS for seed in (1, 2**63 - 1)]
    first = {job: corrupt(image, Corruption(job[0], 3), job[1]).tobytes() for job in jobs}
    random.Random(0).shuffle(jobs)
    np.random.seed(99)
    again = {job: corrupt(image, Corruption(job[0], 3), job[1]).tobytes() for job in jobs}
    assert again == first
    differing = {name for name in CORRUPTIONS if first[name, 1] != first[name, 2**63 - 1]}
    assert differing == set(RANDOM)
    assert all(result != image.tobytes() for result in first.values())


def test_the_callers_generator_is_left_alone() -> None:
    np.random.seed(5)
    expected = np.random.random(3).tolist()
    for name in CORRUPTIONS:
        np.random.seed(5)
        corrupt(photo(), Corruption(name, 1), 7)
        assert np.random.random(3).tolist() == expected


@pytest.mark.parametrize("size", [(32, 32), (33, 47), (90, 41)])
def test_sizes_are_kept_and_nothing_is_printed(size: tuple[int, int], capfd: pytest.CaptureFixture[str]) -> None:
    image = photo(*size)
    for name in CORRUPTIONS:
        for severity in (1, 5):
            result = corrupt(image, Corruption(name, severity), 0)
            assert (result.mode, result.size) == ("RGB", image.size)
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("name", CORRUPTIONS)
def test_severity_five_is_further_from_the_original_than_one(name: str) -> None:
    image = photo(64, 64)
    distance = [np.abs(array(corrupt(image, Corruption(name, s), 3)) - array(image)).mean() for s in (1, 5)]
    assert distance[1] > distance[0] > 0


def test_known_answers() -> None:
    """Constants of the published code: noise scales .08-.38 of the range; contrast keeps .4-.05 of it."""
    grey = Image.new("RGB", (128, 128), (128, 128, 128))
    for severity, scale in ((1, 0.08), (3, 0.18)):
        noise = array(corrupt(grey, Corruption("gaussian_noise", severity), 1)) - 128
        assert noise.std() == pytest.approx(255 * scale, rel=0.03)
        assert abs(noise.mean()) < 1
    image = photo(64, 64)
    for severity, share in ((1, 0.4), (5, 0.05)):
        flat = array(corrupt(image, Corruption("contrast", severity), 1))
        assert flat.std(axis=(0, 1)) == pytest.approx(share * array(image).std(axis=(0, 1)), rel=0.1)
    impulse = array(corrupt(grey, Corruption("impulse_noise", 5), 1))
    assert (impulse != 128).mean() == pytest.approx(0.27, abs=0.01)


def test_greyscale_is_read_as_rgb() -> None:
    assert corrupt(photo().convert("L"), Corruption("fog", 2), 0).mode == "RGB"


@pytest.mark.parametrize("size", [(1, 1), (31, 200), (200, 31)])
def test_too_small(size: tuple[int, int]) -> None:
    with pytest.raises(InputError, match=rf"32x32 pixels on, the picture has {size[0]}x{size[1]}"):
        corrupt(Image.new("RGB", size), Corruption("fog", 1), 0)


def test_parsing() -> None:
    for name in CORRUPTIONS:
        for severity in range(1, 6):
            assert parse_corruption(f"{name}:{severity}") == Corruption(name, severity)
            assert str(Corruption(name, severity)) == f"{name}:{severity}"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("gausian_noise:3", "did you mean gaussian_noise"),
        ("gaussian noise:3", "did you mean gaussian_noise"),
        ("gaussian-noise:3", "did you mean gaussian_noise"),
        ("Fog:3", "did you mean fog"),
        ("zzzz:3", "valid: gaussian_noise, "),
        (":3", "unknown corruption ''"),
        ("", "unknown corruption ''"),
        ("fog", "has no severity; write fog:1 to fog:5"),
        ("fog:", "has no severity"),
        ("fog:0", "valid: 1, 2, 3, 4, 5"),
        ("fog:6", "unknown severity '6'"),
        ("fog:-1", "unknown severity '-1'"),
        ("fog:2.5", "unknown severity '2.5'"),
        ("fog:x", "unknown severity 'x'"),
        ("fog:1:2", "unknown severity '1:2'"),
        ("fog:²", "unknown severity"),
    ],
)
def test_bad_names_and_severities(text: str, expected: str) -> None:
    with pytest.raises(InputError) as caught:
        parse_corruption(text)
    assert expected in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(("name", "severity"), [("fogg", 1), ("fog", 0), ("fog", 6), ("fog", True)])
def test_a_corruption_checks_itself(name: str, severity: int) -> None:
    with pytest.raises(InputError):
        Corruption(name, severity)


def test_sample_seed_known_answers() -> None:
    """Fixed for ever: results on disk name these seeds."""
    import hashlib

    digest = hashlib.sha256(b'[3, "ttt", "cat/1.jpg"]').hexdigest()
    assert sample_seed(3, "cat/1.jpg", "ttt") == int(digest[:16], 16) >> 1


@given(st.integers(-(2**40), 2**40), st.text(max_size=20), st.text(max_size=20))
def test_sample_seed_keeps_its_parts_apart(run: int, name: str, purpose: str) -> None:
    seed = sample_seed(run, name, purpose)
    assert 0 <= seed < 2**63
    assert seed == sample_seed(run, name, purpose)
    assert seed != sample_seed(run + 1, name, purpose)
    assert seed != sample_seed(run, name + "x", purpose)
    assert seed != sample_seed(run, name, purpose + "x")
    if name:
        assert seed != sample_seed(run, name[1:], purpose + name[0])
