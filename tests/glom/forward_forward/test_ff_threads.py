"""One thread between the products of a step, and as many as before afterwards."""

from __future__ import annotations

import pytest
import torch

from glom.forward_forward import Learner, preset
from glom.forward_forward.threads import LARGE, narrow, wide


@pytest.fixture
def three_threads():
    before = torch.get_num_threads()
    torch.set_num_threads(3)
    yield
    torch.set_num_threads(before)


def test_threads_are_given_to_large_products_alone(three_threads):
    with wide(LARGE):
        assert torch.get_num_threads() == 3  # nothing was taken away
    with narrow():
        assert torch.get_num_threads() == 1
        with wide(LARGE):
            assert torch.get_num_threads() == 3
        with wide(LARGE - 1):
            assert torch.get_num_threads() == 1
        with narrow():  # within another step: as it was
            assert torch.get_num_threads() == 1
        assert torch.get_num_threads() == 1
    assert torch.get_num_threads() == 3


def test_threads_come_back_after_a_failure(three_threads):
    with pytest.raises(KeyError), narrow(), wide(LARGE):
        raise KeyError
    assert torch.get_num_threads() == 3


@pytest.mark.parametrize("mode", ["supervised", "unsupervised"])
def test_a_step_leaves_the_threads_and_equals_one_on_one_thread(three_threads, mode):
    def steps() -> tuple[list[torch.Tensor], int]:
        learner = Learner((1, 8, 8), 10, preset(mode, "quick", widths=(400, 400)), torch.device("cpu"))
        g = torch.Generator().manual_seed(0)
        x, y = torch.rand(20, 1, 8, 8, generator=g), torch.randint(0, 10, (20,), generator=g)
        for _ in range(2):
            learner.learn(x, y, 1.0, g)
        return [one.weights.value for layer in learner.network.layers for one in layer.maps], torch.get_num_threads()

    many, left = steps()
    assert left == 3
    torch.set_num_threads(1)
    for a, b in zip(many, steps()[0], strict=True):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-6)
