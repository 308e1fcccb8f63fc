"""Islands outlined: lines where islands meet, numbers where there is room, agreement on either side."""

import numpy as np
import pytest

from probes.agreement import border_agreement
from probes.figures.outlined import enumerate_islands, outline_segments


def test_outlines_run_along_the_cells_of_both_sides():
    labels = np.array([[0, 0, 1], [0, 2, 1]])
    segments = outline_segments(labels, 6, 4)
    found = {tuple(map(tuple, ends)) for ends in segments.tolist()}
    assert found == {((4, 0), (4, 2)), ((2, 2), (2, 4)), ((4, 2), (4, 4)), ((2, 2), (4, 2))}
    assert len(outline_segments(np.zeros((3, 3), int), 6, 6)) == 0


def test_numbers_count_from_the_largest_and_stand_inside():
    labels = np.zeros((20, 30), int)
    labels[:, 20:] = 1
    labels[5:9, 2:12] = 1  # of the same cluster, another island
    labels[0, 0] = 2  # no room
    found = enumerate_islands(labels, 300, 200)
    assert [number for number, _ in found] == [1, 2, 3]
    for (_, (x, y)), label in zip(found, (0, 1, 1), strict=True):
        assert labels[int(y / 10), int(x / 10)] == label
    assert found[2][1][0] < 120
    assert enumerate_islands(np.zeros((4, 4), int), 10, 10) == []


def test_agreement_inside_and_across():
    grid = np.array([[[1.0, 0], [1, 0], [0, 1]]], np.float32)
    assert border_agreement(grid, np.array([[0, 0, 1]])) == (pytest.approx(1), pytest.approx(0))
    assert border_agreement(grid, np.array([[0, 0, 0]])) == (pytest.approx(0.5), None)
