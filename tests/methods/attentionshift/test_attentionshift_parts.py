"""Parts of objects: a scalar loop of the shift, planted clusters, hand-made maps, and whole chains of odd inputs."""

import ast
import math
import os
from pathlib import Path

import pytest
import torch
from scipy import ndimage
from torch.nn.functional import cosine_similarity, normalize

from benchmarks.attentionshift import planted
from benchmarks.reference_attentionshift import plain_shift
from wsis.core.config import changed
from wsis.methods.attentionshift.config import FULL
from wsis.methods.attentionshift.maps import PaddedPoints, at_pixels, boxes_from_maps, cosine_maps
from wsis.methods.attentionshift.parts import (
    ITERATIONS,
    core,
    eroded,
    filter_parts,
    key_points,
    kmeans,
    merge,
    part_maps,
    seeds,
    shift,
)
from wsis.ops.patches import PatchGrid, box_patches

CFG, PATCH = FULL.parts, 16
WARM = changed(CFG, temperature=1.0)


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def world(scene, count=20):
    """Features [1, n, D], seeds in the masks [1, G, count], patches of the boxes bool [1, G, n]."""
    grid = grid_of(scene)
    inner = scene.masks.view(1, -1, *grid[:2]).float()
    start = seeds(inner, scene.boxes[None], 0.5, count, grid)
    return scene.features[None], start, box_patches(scene.boxes[None], grid)


def grid_of(scene):
    side = math.isqrt(len(scene.part))
    return PatchGrid(side, side, PATCH)


def nearest(prototypes, directions):
    """Cosine of each prototype with the most similar direction."""
    return (normalize(prototypes, dim=-1) @ directions.T).amax(-1)


# Core and seeds


@pytest.mark.parametrize("window", [1, 5, 11, 99])
def test_erosion_is_scipys_with_object_beyond_the_border(window):
    masks = torch.rand(2, 3, 24, 17, generator=seeded()) < 0.995
    expected = ndimage.binary_erosion(masks.numpy(), np_window(window), border_value=1)
    assert torch.equal(eroded(masks, window), torch.from_numpy(expected))


def np_window(window):
    return [[[[True] * window] * window]]


def test_a_core_lies_half_a_window_inside():
    foreground = torch.zeros(1, 1, 96, 96)
    foreground[..., 16:80, 0:64] = 1
    inner = core(foreground, 0.35, 11, PatchGrid(6, 6, PATCH))[0, 0]
    assert torch.equal(inner[1:5, :4], torch.ones(4, 4)) and inner.sum() == 16
    narrow = core(foreground, 0.35, 17, PatchGrid(6, 6, PATCH))[0, 0]  # 8 px: one of the two center pixels goes
    assert narrow[1, 1] == 0.5 and narrow[1, 3] == 0.25 and narrow[1, 0] == 0.5 and narrow[2, 0] == 1
    assert not core(foreground, 1.0, 11, PatchGrid(6, 6, PATCH)).any()


def test_an_object_smaller_than_the_window_has_no_core():
    foreground = torch.zeros(1, 1, 64, 64)
    foreground[..., 20:30, 20:30] = 1
    assert not core(foreground, 0.35, 11, PatchGrid(4, 4, PATCH)).any()


@pytest.mark.parametrize(
    "number, ranks",
    [
        (40, [2 * j for j in range(20)]),
        (45, [2 * j for j in range(20)]),
        (39, range(20)),
        (20, range(20)),
        (7, [j % 7 for j in range(20)]),
        (1, [0] * 20),
    ],
)
def test_seeds_stride_through_the_core(number, ranks):
    places = torch.randperm(64, generator=seeded())[:number].sort().values
    inner = torch.zeros(1, 1, 64).index_fill_(2, places, 0.36).view(1, 1, 8, 8)
    result = seeds(inner, torch.tensor([[[0.0, 0, 128, 128]]]), 0.35, 20, PatchGrid(8, 8, PATCH))
    assert torch.equal(result[0, 0], places[list(ranks)])


@pytest.mark.parametrize(
    "box, patch", [([16, 32, 48, 64], 26), ([120, 0, 128, 8], 7), ([127, 127, 128, 128], 63), ([15, 15, 48.5, 48.5], 9)]
)
def test_without_a_core_the_center_of_the_box_is_the_seed(box, patch):
    result = seeds(torch.zeros(1, 1, 8, 8), torch.tensor([[box]]).float(), 0.35, 20, PatchGrid(8, 8, PATCH))
    assert (result == patch).all()


# The shift against a loop


def looped_shift(x, start, inside, cfg):
    """The shift of one object, one prototype and one patch at a time; patches outside do not exist."""
    x = [row for row, held in zip(x, inside, strict=True) if held]
    prototypes, tau = list(start), [cfg.tau] * len(start)

    def cosine(a, b):
        length = float(a.norm() * b.norm())
        return float(a @ b) / length if length else 0.0

    for _ in range(4):
        weights = []
        for q, t in zip(prototypes, tau, strict=True):
            logits = [cosine(q, row) / (cfg.temperature * t) for row in x]
            total = sum(math.exp(v - max(logits)) for v in logits)
            weights.append([v - max(logits) - math.log(total) for v in logits])
        owner = [max(range(len(start)), key=lambda j: weights[j][i]) for i in range(len(x))]
        for j in range(len(start)):
            same = [i for i in range(len(x)) if owner[i] == j]
            prototypes[j] = sum((math.exp(weights[j][i]) * x[i] for i in same), torch.zeros_like(x[0]))
            distance = [1 - cosine(prototypes[j], x[i]) for i in same]
            tau[j] = max(sum(distance) / len(same), 1e-3) if same else 1.0
    return torch.stack(prototypes)


@pytest.mark.parametrize("temperature", [0.1, 1.0, 10.0])
@pytest.mark.parametrize("noise", [0.02, 0.1])
def test_equals_a_loop(temperature, noise):
    scene = planted(2, 10, width=12, noise=noise)
    x, start, inside = world(scene, count=5)
    x, cfg = x.double(), changed(CFG, temperature=temperature)
    result = shift(x, start, inside, cfg)[4, 0]
    for g in range(2):
        expected = looped_shift(x[0], x[0, start[0, g]], inside[0, g], cfg)
        torch.testing.assert_close(result[g], expected, atol=1e-9, rtol=0)


@pytest.mark.parametrize("temperature", [0.1, 1.0])
def test_official_equals_the_plain_form(temperature):
    scene, cfg = planted(3, 12, noise=0.05), changed(CFG, temperature=temperature)
    x, start, inside = world(scene)
    expected = plain_shift(x[0], start[0], inside[0], cfg)
    result = shift(x, start, inside, cfg, official=True)[-1, 0]
    torch.testing.assert_close(result, expected, atol=1e-5, rtol=0)


def test_images_and_objects_are_shifted_by_themselves():
    worlds = [world(planted(2, 10, noise=0.1, seed=s)) for s in (0, 1)]
    together = shift(*(torch.cat(parts) for parts in zip(*worlds, strict=True)), CFG)[-1]
    for b, (x, start, inside) in enumerate(worlds):
        for g in range(2):
            alone = shift(x, start[:, g : g + 1], inside[:, g : g + 1], CFG)[-1]
            torch.testing.assert_close(together[b, g], alone[0, 0], atol=1e-5, rtol=0)


# Properties of the shift


def test_the_history_holds_the_seeds_and_every_iteration():
    x, start, inside = world(planted(1, 10))
    for history in (shift(x, start, inside, CFG), kmeans(x, start, inside)):
        assert len(history) == ITERATIONS + 1
    assert torch.equal(shift(x, start, inside, CFG)[0], x[0][start])


def test_one_cluster_without_noise_stays_where_it_is():
    direction = normalize(torch.randn(8, generator=seeded()), dim=0)
    x = direction.expand(1, 25, 8)
    start, inside = torch.arange(5).view(1, 1, 5), torch.ones(1, 1, 25, dtype=torch.bool)
    first, *rest = shift(x, start, inside, CFG)[-1, 0, 0]
    torch.testing.assert_close(first, direction)
    assert not torch.stack(rest).any()  # the first of equals owns everything


@pytest.mark.parametrize("temperature", [0.1, 1.0, 10.0])
@pytest.mark.parametrize("parts", [2, 3, 4])
def test_planted_parts_are_found_and_merged_to_their_number(parts, temperature):
    scene = planted(1, 16, parts=parts, noise=0.02)
    x, start, inside = world(scene)
    moved = shift(x, start, inside, changed(CFG, temperature=temperature))[-1]
    alive = moved.norm(dim=-1) > 0
    assert nearest(moved[alive], scene.directions).min() > 0.97
    assert merge(moved, alive, CFG.merge)[1].sum() == parts


def test_narrow_kernels_stay_and_wide_ones_converge():
    """Isotropic noise of .4 of the directions: with .1 prototypes stay, with 1 they average, with 10 most die."""
    scene = planted(1, 24, parts=4, noise=0.4 / 8)
    x, start, inside = world(scene)
    seed = x[0][start]
    moved = {t: shift(x, start, inside, changed(CFG, temperature=t))[-1, 0, 0] for t in (0.1, 1.0, 10.0)}
    alive = {t: q.norm(dim=-1) > 0 for t, q in moved.items()}
    assert cosine_similarity(moved[0.1], seed[0, 0], dim=-1).min() > 0.99
    assert alive[0.1].all() and alive[1.0].sum() >= 18
    at_start, at_end = (nearest(q, scene.directions).mean() for q in (seed[0, 0], moved[1.0][alive[1.0]]))
    assert 0.91 < at_start < 0.95 < 0.97 < at_end
    assert alive[10.0].sum() <= 10


def test_the_scale_of_features_changes_nothing():
    x, start, inside = world(planted(2, 12, noise=0.1))
    expected = shift(x, start, inside, CFG)[-1]
    for scale in (2.0**-20, 2.0**20):
        assert torch.equal(shift(scale * x, start, inside, CFG)[-1] / scale, expected)


def test_renumbering_patches_changes_nothing():
    x, start, inside = world(planted(2, 12, noise=0.1))
    order = torch.randperm(144, generator=seeded())
    moved = shift(x[:, order], order.argsort()[start], inside[..., order], WARM)[-1]
    torch.testing.assert_close(moved, shift(x, start, inside, WARM)[-1], atol=1e-5, rtol=0)


def test_renumbering_seeds_renumbers_prototypes():
    x, start, inside = world(planted(1, 16, noise=0.1))
    assert len(start.unique()) == 20  # equal seeds would tie
    order = torch.randperm(20, generator=seeded())
    moved = shift(x, start[..., order], inside, WARM)[-1]
    torch.testing.assert_close(moved, shift(x, start, inside, WARM)[-1][:, :, order], atol=1e-5, rtol=0)


@pytest.mark.parametrize("official", [False, True])
def test_patches_outside_matter_in_the_release_only(official):
    x, start, inside = world(planted(1, 12, noise=0.1))
    more, outside = torch.randn(1, 500, 64, generator=seeded()), torch.zeros(1, 1, 500, dtype=torch.bool)
    expected = shift(x, start, inside, WARM, official)[-1]
    moved = shift(torch.cat([x, more], 1), start, torch.cat([inside, outside], 2), WARM, official)[-1]
    assert torch.allclose(moved, expected, atol=1e-5) is not official


def test_one_patch_for_each_prototype_stays_finite():
    x = torch.eye(6)[None]
    start, inside = torch.arange(6).view(1, 1, 6), torch.ones(1, 1, 6, dtype=torch.bool)
    for official in (False, True):
        moved = shift(x, start, inside, CFG, official=official)[-1]
        torch.testing.assert_close(moved, torch.eye(6).view(1, 1, 6, 6))


# K-means


def test_kmeans_moves_to_the_mean_of_unit_features_and_empty_ones_stay():
    x = torch.tensor([[[2.0, 0], [0, 3], [1, 1], [-5, 0]]])
    start, inside = torch.tensor([[[0, 1, 0]]]), torch.tensor([[[True, True, True, False]]])
    half = 0.5**0.5
    moved = kmeans(x, start, inside)[1, 0, 0]
    torch.testing.assert_close(moved, torch.tensor([[(1 + half) / 2, half / 2], [0, 1], [1, 0]]))


def test_kmeans_finds_planted_parts():
    scene = planted(2, 24, noise=0.02)
    x, start, inside = world(scene)
    moved = kmeans(x, start, inside & scene.masks)[-1]
    assert nearest(moved, scene.directions).min() > 0.97
    assert merge(moved, torch.ones(1, 2, 20, dtype=torch.bool), CFG.merge)[1].sum(-1).tolist() == [[3, 3]]


# Filter


def test_part_maps_are_cosines():
    x = torch.tensor([[[3.0, 0], [0, 2], [-1, 0], [1, 1]]])
    maps = part_maps(torch.tensor([[[[5.0, 0], [0, 0], [1e-30, 0]]]]), x)
    row = [1, 0, -1, 0.5**0.5]
    torch.testing.assert_close(maps[0, 0], torch.tensor([row, [0, 0, 0, 0], row]))


@pytest.mark.parametrize("inside, passes", [(84, False), (85, True), (86, True)])
def test_the_filter_asks_for_85_in_100_patches_in_the_core(inside, passes):
    maps, inner = torch.zeros(1, 1, 1, 200), torch.zeros(1, 1, 200)
    maps[..., :100], maps[..., 100:] = 0.81, 0.79
    inner[..., :inside] = 1
    assert filter_parts(maps, inner, CFG).item() is passes


def test_shares_of_the_core_count():
    maps, inner = torch.full((1, 1, 1, 4), 0.9), torch.tensor([[[1.0, 1, 1, 0.25]]])
    assert not filter_parts(maps, inner, CFG) and filter_parts(maps, inner + 0.25, CFG)


def test_parts_that_no_patch_is_similar_to_fall_out():
    maps = torch.tensor([[[[0.7, 0.8], [0.0, 0.0], [0.9, 0.2]]]])
    inner = torch.ones(1, 1, 2)
    assert filter_parts(maps, inner, CFG).tolist() == [[[False, False, True]]]
    assert filter_parts(maps, inner, changed(CFG, filter=False)).tolist() == [[[True, False, True]]]


# Merging


def at_angles(*degrees):
    """Prototypes [1, 1, m, 2] of unit length."""
    angle = torch.tensor(degrees).deg2rad()
    return torch.stack([angle.cos(), angle.sin()], -1)[None, None]


def alive(prototypes):
    return prototypes.norm(dim=-1) > 0


def test_similar_prototypes_become_one_mean_of_the_vectors_as_they_are():
    q = at_angles(0.0, 90.0, 10.0, 95.0) * torch.tensor([1.0, 2, 3, 4])[:, None]
    means, groups = merge(q, alive(q), CFG.merge)
    assert groups.tolist() == [[[True, True, False, False]]]
    torch.testing.assert_close(means[0, 0, 0], (q[0, 0, 0] + q[0, 0, 2]) / 2)
    torch.testing.assert_close(means[0, 0, 1], (q[0, 0, 1] + q[0, 0, 3]) / 2)
    assert not means[0, 0, 2:].any()


def test_merging_what_is_apart_changes_nothing():
    q = 3 * torch.linalg.qr(torch.randn(8, 8, generator=seeded()))[0][None, None]
    present = torch.tensor([[[True, False] * 4]])
    means, groups = merge(q, present, CFG.merge)
    assert torch.equal(groups, present)
    torch.testing.assert_close(means, q * present[..., None])
    assert torch.equal(merge(means, groups, CFG.merge)[0], means)


@pytest.mark.parametrize("official", [False, True])
def test_a_chain_shares_its_middle_in_the_release_only(official):
    """a and c are similar to b (cosine .88) but not to each other (.54); b comes last."""
    q = at_angles(0.0, 57.2, 28.6)
    means, groups = merge(q, alive(q), CFG.merge, official)
    assert groups.tolist() == [[[True, True, False]]]
    torch.testing.assert_close(means[0, 0, 0], (q[0, 0, 0] + q[0, 0, 2]) / 2)
    torch.testing.assert_close(means[0, 0, 1], (q[0, 0, 1] + q[0, 0, 2]) / 2 if official else q[0, 0, 1])


@pytest.mark.parametrize("official", [False, True])
def test_the_end_of_a_chain_stays_alone_when_its_middle_was_taken_before(official):
    q = at_angles(0.0, 28.6, 57.2)
    means, groups = merge(q, alive(q), CFG.merge, official)
    assert groups.tolist() == [[[True, False, True]]]
    torch.testing.assert_close(means[0, 0, 2], q[0, 0, 2])


@pytest.mark.parametrize("official", [False, True])
def test_what_was_not_kept_neither_leads_nor_joins(official):
    q = at_angles(5.0, 0.0, 10.0, 15.0)
    means, groups = merge(q, torch.tensor([[[False, True, False, True]]]), CFG.merge, official)
    assert groups.tolist() == [[[False, True, False, False]]]
    torch.testing.assert_close(means[0, 0, 1], (q[0, 0, 1] + q[0, 0, 3]) / 2)


def test_everything_is_similar_to_itself():
    q = torch.randn(1, 1, 9, 7, generator=seeded())
    means, groups = merge(q, alive(q), 1.0)
    assert groups.all() and torch.equal(means, q)


# Key-points


def peaks(*patches, area=(), grid=(4, 6)):
    """Maps with the peak of part j at patches[j], and area[j] more patches above .9."""
    maps = torch.zeros(1, 1, len(patches), grid[0] * grid[1])
    for part, patch in enumerate(patches):
        maps[0, 0, part, : area[part] if area else 0] = 0.95
        maps[0, 0, part, patch] = 1
    return maps


EVERYWHERE = torch.tensor([[[0.0, 0, 96, 64]]])


def result(maps, present=None, box=EVERYWHERE, most=6):
    present = torch.ones(maps.shape[:3], dtype=torch.bool) if present is None else present
    return key_points(maps, present, box, PatchGrid(4, 6, PATCH), most)


@pytest.mark.parametrize("row, column", [(0, 0), (3, 5), (1, 4)])
def test_a_key_point_is_the_center_of_the_patch(row, column):
    points = result(peaks(6 * row + column))
    assert points.xy[0, 0, 0].tolist() == [16 * column + 7.5, 16 * row + 7.5] and points.present.all()


def test_patches_that_are_equally_similar_give_their_mean():
    maps = peaks(0)
    maps[..., 9] = 1  # row 1, column 3
    assert result(maps).xy[0, 0, 0].tolist() == [16 * 1.5 + 7.5, 16 * 0.5 + 7.5]


def test_larger_parts_come_first_and_equal_ones_in_order():
    points = result(peaks(10, 11, 12, 13, area=(2, 5, 2, 9)), torch.tensor([[[True, True, True, False]]]))
    assert points.present.tolist() == [[[True, True, True, False]]]
    assert points.xy[0, 0, 0].tolist() == [16 * 5 + 7.5, 16 * 1 + 7.5]


def test_only_the_largest_are_visited_and_only_those_in_the_box_are_kept():
    maps = peaks(0, 8, 9, 10, area=(5, 4, 3, 2))
    points = result(maps, box=torch.tensor([[[16.0, 16, 96, 64]]]), most=3)
    assert points.present.tolist() == [[[False, True, True, False]]]


@pytest.mark.parametrize(
    "box, inside",
    [([24, 24, 25, 25], True), ([25, 24, 40, 40], False), ([16, 16, 24, 40], False), ([24, 24, 24.5, 25], True)],
)
def test_a_box_is_half_open(box, inside):
    """The center of patch (1, 1) is at 23.5, in edges of pixels 24."""
    assert result(peaks(7), box=torch.tensor([[box]]).float()).present.item() is inside


# The whole chain


def chain(scene, foreground=None, cfg=CFG, official=False):
    """Key-points of a planted image from perfect foreground."""
    x, _, inside = world(scene)
    grid, boxes = grid_of(scene), scene.boxes[None]
    if foreground is None:
        foreground = at_pixels(scene.masks.view(1, -1, *grid[:2]).float(), PATCH)
    inner = core(foreground, cfg.core, cfg.erosion, grid)
    start = seeds(inner, boxes, cfg.core, cfg.seeds, grid)
    moved = (kmeans(x, start, inside) if cfg.shift == "kmeans" else shift(x, start, inside, cfg))[-1]
    passed = filter_parts(part_maps(moved, x), inner.flatten(2), cfg)
    merged, groups = merge(moved, passed, cfg.merge, official)
    return key_points(part_maps(merged, x), groups, boxes, grid, cfg.max_key_points)


@pytest.mark.parametrize("how", ["meanshift", "kmeans"])
def test_each_planted_part_gets_one_key_point_on_it(how):
    scene = planted(4, 24, parts=3, noise=0.02)
    points = chain(scene, cfg=changed(CFG, shift=how, erosion=5))
    assert points.present.sum(-1).tolist() == [[3, 3, 3, 3]]
    for g in range(4):
        column, row = (points.xy[0, g][points.present[0, g]] / PATCH).floor().long().unbind(-1)
        assert sorted(scene.part[24 * row + column].tolist()) == [3 * g + 1, 3 * g + 2, 3 * g + 3]


@pytest.mark.parametrize("objects", [0, 1, 12])
@pytest.mark.parametrize("foreground", [None, 0.0, 1.0])
@pytest.mark.parametrize("how", ["meanshift", "kmeans"])
def test_any_number_of_objects_and_any_foreground_is_finite(objects, foreground, how):
    scene = planted(objects or 1, 8, noise=0.1)
    scene = scene._replace(masks=scene.masks[:objects], boxes=scene.boxes[:objects])
    given = None if foreground is None else torch.full((1, objects, 128, 128), foreground)
    points = chain(scene, given, changed(CFG, shift=how))
    assert points.xy.shape == (1, objects, 20, 2) and points.xy.isfinite().all()
    assert foreground != 0.0 or not points.present.any()


@pytest.mark.parametrize("point", [(0.0, 0.0), (127.0, 127.0), (127.0, 60.0)])
def test_an_object_of_a_few_pixels_at_the_border(point):
    """From attention on: 3 x 3 pixels of attention around a point in a corner or at a side."""
    x, y = (int(v) for v in point)
    attention = torch.zeros(1, 1, 128, 128)
    attention[..., max(y - 2, 0) : y + 3, max(x - 2, 0) : x + 3] = 1
    points, scene = torch.tensor([[point]]), planted(1, 8)
    boxes = boxes_from_maps(attention[0], points[0], torch.full((1, 2), 128.0), FULL.boxes, PATCH)[None]
    zero = torch.zeros(1, 1, dtype=torch.long)
    clicks, valid = PaddedPoints(points, zero, zero, zero == 0), torch.ones(1, 128, 128, dtype=torch.bool)
    foreground = cosine_maps(scene.features.T.view(1, -1, 8, 8), attention, clicks, boxes, valid)[0]
    assert foreground.isfinite().all() and foreground.any()
    assert chain(scene._replace(boxes=boxes[0]), foreground).xy.isfinite().all()


def test_the_chain_repeats_to_the_last_bit():
    scene = planted(3, 16, noise=0.1)
    assert all(torch.equal(a, b) for a, b in zip(chain(scene), chain(scene), strict=True))


# The release

RELEASE = os.environ.get("WSIS_ATTENTIONSHIFT")
HEADS = "mmdet/models/roi_heads/stdroi_point_deform_attn_reppoints.py"


@pytest.mark.skipif(not RELEASE, reason="set WSIS_ATTENTIONSHIFT to the release at f655a04 to compare with it")
@pytest.mark.parametrize("noise", [0.02, 0.1, 0.3])
def test_equals_the_release(noise):
    tree = ast.parse((Path(RELEASE) / HEADS).read_text())
    tree.body = [n for n in tree.body if isinstance(n, ast.FunctionDef)]
    theirs = {"torch": torch, "F": torch.nn.functional}
    exec(compile(tree, HEADS, "exec"), theirs)
    scene = planted(3, 20, noise=noise)
    x, start, inside = world(scene)
    visible = x[0] * inside[0, ..., None]
    prototypes, maps = theirs["cosine_shift_batch"](x[0][start[0]], visible, x[0], n_shift=10)
    moved = shift(x, start, inside, CFG, official=True)[-1]
    torch.testing.assert_close(moved[0].flatten(0, 1), prototypes, atol=1e-5, rtol=0)
    result = part_maps(moved, x)
    torch.testing.assert_close(result[0].flatten(0, 1), maps, atol=1e-5, rtol=0)
    passed = filter_parts(result, scene.masks[None].float(), CFG)
    grid = scene.masks.view(3, 20, 20).float()
    assert torch.equal(passed[0], theirs["filter_maps"](maps.view(3, 20, 20, 20), grid, None)[1])
    expected = theirs["merge_maps"]([prototypes.view(3, 20, -1)[g][passed[0, g]] for g in range(3)], 0.85)
    merged, groups = merge(moved, passed, 0.85, official=True)
    for g in range(3):
        torch.testing.assert_close(merged[0, g][groups[0, g]], torch.stack(list(expected[g])), atol=1e-5, rtol=0)
