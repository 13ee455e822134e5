"""Masks, points and boxes on a grid of patches."""

import math

import pytest
import torch
from jaxtyping import TypeCheckError

from wsis.ops.patches import PatchGrid, box_patches, coverage, covered_patches, patch_index, point_patches

PATCH = 16
GRID = PatchGrid(3, 4, PATCH)


def test_coverage_of_a_mask():
    mask = torch.zeros(1, 48, 64, dtype=torch.bool)
    mask[0, :8, :24] = True
    mask[0, 40, 63] = True
    assert coverage(mask, PATCH).tolist() == [[0.5, 0.25, *[0] * 9, 1 / 256]]
    assert covered_patches(mask, PATCH).nonzero().tolist() == [[0, 0]]


@pytest.mark.parametrize(
    ("box", "columns", "rows"),
    [
        ([0, 0, 16, 16], [0], [0]),
        ([0, 0, 17, 15], [0, 1], [0]),
        ([15, 31, 17, 33], [0, 1], [1, 2]),
        ([40, 0, 64, 48], [2, 3], [0, 1, 2]),
        ([64, 48, 64, 48], [3], [2]),  # empty, in the last corner
        ([20, 20, 20, 20], [1], [1]),
        ([16, 16, 16, 16], [1], [1]),
        ([-9, -9, 99, 99], [0, 1, 2, 3], [0, 1, 2]),
    ],
)
def test_patches_that_a_box_touches(box, columns, rows):
    expected = torch.zeros(GRID[:2], dtype=torch.bool)
    expected[torch.tensor(rows)[:, None], torch.tensor(columns)] = True
    assert torch.equal(box_patches(torch.tensor([[box]]).float(), GRID)[0, 0].view(GRID[:2]), expected)


def test_the_patch_of_a_point_is_within_the_image():
    points = torch.tensor([[0.0, 0.0], [15.4, 0], [15.5, 0], [63, 47], [64, 48], [0, 16]])
    assert patch_index(points, GRID).tolist() == [0, 0, 1, 11, 11, 4]


def test_points_outside_of_the_grid_and_padding_have_no_patch():
    nan, inf = math.nan, math.inf
    points = [[[-0.6, 5.0], [5.0, 47.5], [nan, nan], [5.0, inf]], [[-0.5, 0], [63.4, 47], [0, 0], [17, 0]]]
    held = point_patches(torch.tensor(points), GRID)
    assert [row.nonzero()[:, 0].tolist() for row in held] == [[], [0, 1, 11]]


def test_shapes_are_checked_while_tests_run():
    with pytest.raises(TypeCheckError, match="points"):
        point_patches(torch.zeros(2, 4, 3), GRID)
