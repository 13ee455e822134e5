"""Extreme points from outlines follow their rule; jittered ones lie on the object, near their side, by the seed alone."""

from collections import Counter

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from test_weak import at, mask_stacks

from wsis.data.masks import decode_masks
from wsis.errors import AnnotationError
from wsis.extreme import extreme_points_from_polygons, jitter_extreme_points
from wsis.weak import extreme_points_from_masks


def test_a_rectangle_is_clicked_in_the_middle_of_its_sides():
    four = extreme_points_from_polygons([[2, 3, 12, 3, 12, 9, 2, 9]], 20, 30)
    assert four.tolist() == [[7, 3], [2, 6], [7, 8], [11, 6]]  # the outline ends before pixel 12 and row 9


def test_corners_within_two_percent_count_as_equally_extreme():
    """Of a height of 100, 2 pixels are near and 3 are not; the walk ends at the first that is not."""
    near = [10, 0, 30, 2, 50, 0, 50, 100, 10, 100]
    far = [10, 0, 30, 3, 50, 0, 50, 100, 10, 100]
    assert extreme_points_from_polygons([near], 200, 200)[0].tolist() == [30, 0]
    assert extreme_points_from_polygons([far], 200, 200)[0].tolist() == [10, 0]


@pytest.mark.parametrize("start", range(5))
def test_the_walk_goes_both_ways_round(start):
    corners = [[10, 1], [30, 0], [50, 1], [50, 100], [10, 100]]
    outline = sum(corners[start:] + corners[:start], [])
    assert extreme_points_from_polygons([outline], 200, 200)[0].tolist() == [30, 0]


def test_outlines_of_several_parts_are_joined():
    """Where the second begins the walk along the left side of the first ends."""
    four = extreme_points_from_polygons([[0, 0, 4, 0, 4, 4, 0, 4], [10, 6, 14, 6, 14, 10, 10, 10]], 20, 20)
    assert four.tolist() == [[2, 0], [0, 0], [12, 9], [13, 8]]


def test_outlines_beyond_the_image_are_clicked_within_it():
    four = extreme_points_from_polygons([[-2, -3, 35, -3, 35, 25, -2, 25]], 20, 30)
    assert four.tolist() == [[16, 0], [0, 11], [16, 19], [29, 11]]


@given(st.integers(0, 2**31))
@settings(max_examples=50, deadline=None)
def test_clicks_from_outline_and_mask_span_the_same_box_within_a_pixel(seed):
    generator = torch.Generator().manual_seed(seed)
    radius, center = (torch.rand(2, generator=generator) * 30 + 5 for _ in range(2))
    angle = (torch.arange(20) + torch.rand(1, generator=generator)) * torch.pi / 10
    outline = torch.stack([angle.cos(), angle.sin()], 1) * radius + center + 25
    polygons = [outline.flatten().tolist()]
    mask = decode_masks([polygons], 120, 120)
    spans = [
        torch.cat([xy.amin(0), xy.amax(0)])
        for xy in (extreme_points_from_polygons(polygons, 120, 120), extreme_points_from_masks(mask)[0])
    ]
    assert (spans[0] - spans[1]).abs().max() <= 1


@given(mask_stacks(), st.integers(0, 3), st.integers(0, 1000))
@settings(max_examples=100, deadline=None)
def test_jittered_extreme_points_are_pixels_near_their_side(masks, radius, seed):
    xy = extreme_points_from_masks(masks)
    moved = jitter_extreme_points(xy, masks, radius, seed)
    assert at(masks, moved).all()
    far = (moved - xy).abs()
    assert (far[:, [0, 2], 1] <= radius).all() and (far[:, [1, 3], 0] <= radius).all()


def test_jitter_takes_every_pixel_within_the_radius_equally_often():
    """Of a square of 6, two rows from the top: 12 pixels."""
    mask = torch.zeros(1, 9, 9, dtype=torch.bool)
    mask[0, 2:8, 1:7] = True
    masks = mask.expand(6000, -1, -1)
    moved = jitter_extreme_points(extreme_points_from_masks(masks), masks, 1, 3)
    for side in range(4):
        counts = Counter(map(tuple, moved[:, side].int().tolist()))
        assert len(counts) == 12
        assert (
            sum((c - 500) ** 2 / 500 for c in counts.values()) < 31.3
        )  # 99.9 % point for 11 degrees of freedom


def test_a_generator_and_its_seed_jitter_alike():
    masks = torch.ones(5, 8, 8, dtype=torch.bool)
    xy = extreme_points_from_masks(masks)
    moved = [jitter_extreme_points(xy, masks, 2, g) for g in (7, torch.Generator().manual_seed(7), 8)]
    assert torch.equal(moved[0], moved[1]) and not torch.equal(moved[0], moved[2])


def test_a_click_far_from_the_object_cannot_be_jittered():
    masks = torch.ones(2, 6, 30, dtype=torch.bool)
    masks[1, :, 10:] = False
    xy = extreme_points_from_masks(masks)
    xy[1, 3, 0] = 20
    with pytest.raises(AnnotationError, match="mask 1 has no pixel within 2 px of its right click"):
        jitter_extreme_points(xy, masks, 2)


def test_nothing_to_jitter():
    xy, masks = torch.zeros(0, 4, 2), torch.zeros(0, 4, 4, dtype=torch.bool)
    assert jitter_extreme_points(xy, masks, 2).shape == (0, 4, 2)
