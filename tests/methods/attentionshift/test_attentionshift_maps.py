"""From attention to boxes and to maps of objects: hand-made maps, scipy's components, scenes with planted parts."""

import pytest
import torch

from benchmarks.attentionshift import planted
from wsis.core.config import changed
from wsis.methods.attentionshift.config import FULL
from wsis.methods.attentionshift.maps import (
    SAMPLES,
    PaddedPoints,
    at_pixels,
    boxes_from_maps,
    cosine_maps,
    min_max,
    refined,
    sample_patches,
)
from wsis.ops.patches import PatchGrid, patch_index

TIGHT = changed(FULL.boxes, mode="tight")
PATCH = 16


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def sizes_of(maps):
    """(width, height) of images that fill their maps [M, H, W]."""
    return torch.tensor([[maps.shape[2], maps.shape[1]]]).expand(len(maps), 2).float()


def one(values, point, cfg=FULL.boxes, patch=4):
    """The box of one map, as a list."""
    maps = values[None].float()
    return boxes_from_maps(maps, torch.tensor([point]), sizes_of(maps), cfg, patch)[0].tolist()


def filled(*rectangles, size=(40, 40)):
    """Ones in the rectangles (y0, y1, x0, x1), half-open."""
    values = torch.zeros(size)
    for y0, y1, x0, x1 in rectangles:
        values[y0:y1, x0:x1] = 1
    return values


# Stretching and enlarging


def test_min_max_spans_zero_to_one_at_any_scale():
    maps = torch.randn(2, 3, 5, 6, generator=seeded())
    for scale, offset in ((1, 0), (1e-8, 0), (1e6, 3e5)):
        out = min_max(scale * maps + offset)
        assert (out.amin((-2, -1)) == 0).all() and (out.amax((-2, -1)) == 1).all()
        torch.testing.assert_close(out, min_max(maps), atol=1e-6, rtol=0)


@pytest.mark.parametrize("value", [0.0, 0.3, -7e8])
def test_a_constant_map_has_nothing_high(value):
    assert not min_max(at_pixels(torch.full((1, 5, 7), value), PATCH)).any()


def test_rounding_is_not_a_range():
    assert not min_max(0.3 * (1 + 2e-7 * torch.rand(1, 9, 9, generator=seeded()))).any()


def test_maps_at_pixels_are_exact_on_a_slope():
    out = at_pixels(torch.arange(6.0).expand(4, 6), PATCH)
    assert out.shape == (64, 96)
    expected = ((torch.arange(96) + 0.5) / PATCH - 0.5).clamp(0, 5)
    torch.testing.assert_close(out[1], expected)


# Boxes


@pytest.mark.parametrize("mode", ["mirror", "tight"])
def test_a_rectangle_with_its_point_in_the_middle_is_its_box(mode):
    assert one(filled((5, 15, 8, 30)), (18.5, 9.5), changed(FULL.boxes, mode=mode)) == [8, 5, 30, 15]


def test_a_point_off_the_middle_mirrors_the_longer_side():
    assert one(filled((10, 21, 10, 21)), (12.0, 15.0)) == [4, 10, 21, 21]  # 12.5 -+ 8.5, 15.5 -+ 5.5


def test_what_is_mirrored_ends_at_the_image():
    values = filled((5, 35, 10, 39))
    assert one(values, (12.0, 33.0)) == [0, 5, 39, 40]
    assert one(values, (12.0, 33.0), TIGHT) == [10, 5, 39, 35]


def test_a_point_beside_the_region_is_still_the_middle():
    assert one(filled((10, 12, 10, 12)), (20.0, 11.0)) == [10, 10, 31, 13]


@pytest.mark.parametrize("rows, box", [(5, [4, 2, 24, 22]), (4, [4, 2, 14, 12])])
def test_components_from_half_of_the_largest_count(rows, box):
    values = filled((2, 12, 4, 14), (17, 17 + rows, 14, 24))  # 100 px; 50 or 40 px
    assert one(values, (9.0, 9.0), TIGHT) == box


def test_boxes_do_not_depend_on_the_scale_of_a_map():
    maps = at_pixels(torch.rand(5, 6, 6, generator=seeded()), PATCH)
    points = 95 * torch.rand(5, 2, generator=seeded(1))
    boxes = boxes_from_maps(maps, points, sizes_of(maps), FULL.boxes, PATCH)
    assert torch.equal(boxes_from_maps(maps / 1024, points, sizes_of(maps), FULL.boxes, PATCH), boxes)
    assert torch.equal(boxes_from_maps(maps + 0.5, points, sizes_of(maps), FULL.boxes, PATCH), boxes)


@pytest.mark.parametrize("point, box", [((0, 0), [0, 0, 4, 4]), ((39, 13), [36, 12, 40, 16])])
@pytest.mark.parametrize("value", [0.0, torch.nan])
def test_a_map_without_anything_high_gives_the_patch_of_the_point(value, point, box):
    assert one(torch.full((40, 40), value), tuple(map(float, point))) == box


@pytest.mark.parametrize("point", [(0, 0), (39, 0), (0, 39), (39, 39), (-3, 50)])
def test_a_point_on_the_border_has_a_box(point):
    for values in (filled((39, 40, 39, 40)), filled((0, 1, 0, 1)), filled((0, 40, 0, 40))):
        for cfg in (FULL.boxes, TIGHT):
            x0, y0, x1, y1 = one(values, tuple(map(float, point)), cfg)
            assert 0 <= x0 < x1 <= 40 and 0 <= y0 < y1 <= 40


def test_no_maps():
    assert boxes_from_maps(torch.zeros(0, 8, 8), torch.zeros(0, 2), torch.zeros(0, 2), FULL.boxes, 4).shape == (0, 4)


# Samples


def shares(maps, count=SAMPLES, at=None, present=None, valid=None, seed=0):
    """`sample_patches` of maps [G, H, W] of one image."""
    grid = [side // PATCH for side in maps.shape[-2:]]
    at = torch.zeros(1, len(maps), dtype=torch.long) if at is None else torch.tensor([at])
    present = torch.ones(1, len(maps), dtype=torch.bool) if present is None else torch.tensor([present])
    valid = torch.ones(1, *grid, dtype=torch.bool) if valid is None else valid
    torch.manual_seed(seed)
    return sample_patches(maps[None], at, present, valid, count)[0]


def test_patches_are_drawn_as_their_pixels_are():
    maps = torch.zeros(1, 32, 48)
    maps[0, :16, :16], maps[0, 16:20, 40:48] = 1, 0.25  # 256 and 32 px
    maps[0, :16, 16:32] = 0.15  # neither object nor surroundings
    drawn = shares(maps, 200)
    assert drawn.sum(-1).tolist() == [200] * 3
    assert drawn[0].nonzero()[:, 0].tolist() == [0, 5]
    assert abs(drawn[0, 0] / 200 - 256 / 288) < 0.08
    assert not drawn[1:, :2].any()
    assert drawn[2, 2:].min() > 20


def test_a_small_object_is_filled_up_with_the_patch_of_its_point():
    maps = torch.zeros(1, 32, 48)
    maps[0, 0, 14:19] = 1  # 2 and 3 px
    at = patch_index(torch.tensor([[40.0, 20.0]]), PatchGrid(2, 3, PATCH)).tolist()
    assert shares(maps, at=at)[0].tolist() == [2, 3, 0, 0, 0, 15]


def test_nothing_high_leaves_the_point():
    assert shares(torch.zeros(1, 32, 48), at=[4])[0].tolist() == [0, 0, 0, 0, 20, 0]


@pytest.mark.parametrize("level, of", [(0.15, 1), (0.35, 2), (0.5, 3), (0.9, 4)])
def test_the_threshold_of_background_rises_until_there_is_enough(level, of):
    maps = torch.full((1, 32, 48), 1.0)
    maps[0, :, 16:32] = level
    surroundings = shares(maps)[2]
    assert surroundings.sum() == 20
    if of < 4:
        assert surroundings.nonzero()[:, 0].tolist() == [1, 4]
    else:
        assert (surroundings > 0).sum() > 2  # at last, everything


def test_what_no_object_attends_to_ignores_objects_that_do_not_exist():
    maps = torch.zeros(3, 32, 48)
    maps[0, :, :16] = maps[1, :, 16:32] = maps[2, :, 32:] = 1
    assert shares(maps, present=[True, True, False])[3].nonzero()[:, 0].tolist() == [2, 5]


def test_padding_is_never_drawn():
    valid = torch.tensor([[[True, True, False], [True, False, False]]])
    for seed in range(20):
        drawn = shares(torch.rand(4, 32, 48, generator=seeded(seed)), valid=valid, seed=seed)
        assert not drawn[:, ~valid.flatten()].any()


def test_an_image_of_padding_alone_is_finite():
    drawn = shares(torch.rand(2, 32, 48, generator=seeded()), valid=torch.zeros(1, 2, 3, dtype=torch.bool))
    assert drawn.isfinite().all()


# Maps by cosine


def attended(scene, side, seed=0):
    """Attention of .8 and more in the objects, up to .1 elsewhere: [G, H, W]."""
    masks = scene.masks.view(-1, side, side)
    return min_max(at_pixels(0.8 * masks + 0.1 * torch.rand(masks.shape, generator=seeded(seed)), PATCH))


def maps_of(scene, side, attention=None, features=None, seed=0, present=None):
    """`cosine_maps` of one planted image."""
    g = len(scene.boxes)
    present = torch.ones(1, g, dtype=torch.bool) if present is None else torch.tensor([present])
    valid = torch.ones(1, PATCH * side, PATCH * side, dtype=torch.bool)
    features = scene.features if features is None else features
    attention = attended(scene, side) if attention is None else attention
    zero = torch.zeros(1, g, dtype=torch.long)
    clicks = PaddedPoints((scene.boxes.view(-1, 2, 2).mean(1) - 0.5)[None], zero, zero, present)
    torch.manual_seed(seed)
    return cosine_maps(features.T.unflatten(1, (side, side))[None], attention[None], clicks, scene.boxes[None], valid)


def pixels(masks, side):
    return masks.view(-1, side, side).repeat_interleave(PATCH, 1).repeat_interleave(PATCH, 2)


def test_planted_objects_are_found_and_do_not_overlap():
    scene = planted(4, 24, parts=1, noise=0.03)
    result = maps_of(scene, 24)
    high, truth = result[0][0] > 0.35, pixels(scene.masks, 24)
    iou = (high & truth).sum((1, 2)) / (high | truth).sum((1, 2))
    assert iou.min() > 0.9
    assert not (high & (high.sum(0) > 1)).any()


def test_patches_go_to_the_most_similar_object_or_to_none():
    scene = planted(4, 16, parts=1, noise=0.05)
    everywhere = scene._replace(boxes=torch.tensor([[0.0, 0, 256, 256]]).expand(4, 4))
    result = maps_of(everywhere, 16, attention=attended(scene, 16))[2][:, 0].flatten(2)
    assert ((result != 0).sum(1) <= 1).all()
    assert torch.equal(result[-1] > 0.5, scene.masks)


def test_foreground_and_background_of_two_directions():
    """S = u^2 and 1 + (1 - u - u^2) / 2 over its maximum, where u is the mask at its pixels."""
    scene = planted(1, 12, parts=1, noise=0.0)
    result = maps_of(scene, 12)
    u = at_pixels(scene.masks.view(1, 1, 12, 12).float(), PATCH)
    torch.testing.assert_close(result[0], u**2, atol=1e-5, rtol=0)
    torch.testing.assert_close(result[1], (1 + (1 - u - u**2) / 2) / 1.5, atol=1e-5, rtol=0)
    torch.testing.assert_close(result[2][-1], scene.masks.view(1, 1, 12, 12).float(), atol=1e-5, rtol=0)


def test_what_is_similar_beyond_the_box_is_not_the_objects():
    scene = planted(2, 16, parts=1, noise=0.0)
    twins = scene.features.clone()
    twins[scene.masks[1]] = scene.directions[1]
    result = maps_of(scene, 16, features=twins)
    assert not result[2][:, 0, 0].flatten(1)[:, scene.masks[1]].any()
    torch.testing.assert_close(result[2][-1, 0].flatten(1), scene.masks.float(), atol=1e-5, rtol=0)


def test_the_scale_of_features_changes_nothing():
    scene = planted(4, 16, noise=0.05)
    for scale in (2.0**-20, 2.0**20):
        for a, b in zip(maps_of(scene, 16, features=scale * scene.features), maps_of(scene, 16), strict=True):
            torch.testing.assert_close(a, b, atol=1e-5, rtol=0)


def test_a_seed_repeats_the_maps_to_the_last_bit_and_another_does_not():
    scene = planted(4, 16, noise=0.1)
    first, again, other = (maps_of(scene, 16, seed=s) for s in (3, 3, 4))
    assert all(torch.equal(a, b) for a, b in zip(first, again, strict=True))
    assert not torch.equal(first[0], other[0])


def test_objects_that_do_not_exist_are_zero_and_change_nothing():
    """Without noise the refined maps do not depend on the draws. The first object is as the second, but does not exist."""
    scene, twice = planted(3, 16, parts=1, noise=0.0), [0, 0, 1, 2]
    attention, more = attended(scene, 16), scene._replace(boxes=scene.boxes[twice])
    result = maps_of(more, 16, attention=attention[twice], present=[False, True, True, True])
    alone = maps_of(scene, 16, attention=attention)
    for a, b in zip((*result[:2], result[2][-1]), (*alone[:2], alone[2][-1]), strict=True):
        torch.testing.assert_close(a[:, 1:], b, atol=1e-5, rtol=0)
        assert not a[:, 0].any()
    assert not result[2][:, :, 0].any()


def test_padding_does_not_enter_a_prototype():
    features = torch.tensor([[[1.0, 0.0], [0.9, 0.1], [0.9, 0.3]]])
    weights, boxed = torch.tensor([[[1.0, 0, 0]]]), torch.ones(1, 1, 3, dtype=torch.bool)
    valid = torch.tensor([[True, False, False]])
    assert refined(features, weights, boxed, valid)[-1][0, 0, 0] == 1
    assert refined(features, weights, boxed, ~valid | valid)[-1][0, 0, 0] < 1


@pytest.mark.parametrize("objects", [0, 1, 12])
@pytest.mark.parametrize("kind", ["constant", "noise", "zero features"])
def test_any_number_of_objects_and_any_map_is_finite(objects, kind):
    scene = planted(objects, 8) if objects else planted(1, 8)
    scene = scene._replace(masks=scene.masks[:objects], boxes=scene.boxes[:objects])
    attention = torch.rand(objects, 128, 128, generator=seeded())
    features = 0 * scene.features if kind == "zero features" else scene.features
    attention = torch.full_like(attention, 0.3) if kind == "constant" else attention
    result = maps_of(scene, 8, attention=attention, features=features)
    assert result[0].shape == result[1].shape == (1, objects, 128, 128)
    assert result[2].shape == (3, 1, objects, 8, 8)
    for part in result[:2]:
        assert part.isfinite().all() and (part >= 0).all() and (part <= 1).all()
