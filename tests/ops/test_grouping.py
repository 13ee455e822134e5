"""Centres and grouping on fields whose answer is known: discs, Gaussians, noise of known spread."""

import itertools
import math
from itertools import accumulate, product

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.autograd.profiler import profile

from wsis.core.errors import ConfigError
from wsis.ops.components import connected_components
from wsis.ops.grouping import (
    Centers,
    cluster_centers,
    find_centers,
    group_pixels,
    max_pool,
    merge_centers,
    region_statistics,
    splat_gaussians,
)


def pixels(height, width):
    """Positions [2, H, W], (y, x)."""
    return torch.stack(torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")).float()


def field(centers, size):
    """Exact offsets [N, 2, size, size] to one center per image."""
    return torch.as_tensor(centers, dtype=torch.float)[:, :, None, None] - pixels(size, size)


def whole(count, size):
    """`count` images, each of them one component."""
    return connected_components(torch.ones(count, size, size, dtype=torch.long))[0]


def centers_at(positions, component=0, image=0, score=1.0):
    position = torch.tensor(positions, dtype=torch.float).reshape(-1, 2)
    n = len(position)
    return Centers(
        component=torch.full((n,), component),
        image=torch.full((n,), image),
        position=position,
        score=torch.full((n,), score),
        clustered=torch.zeros(n, dtype=torch.bool),
    )


def heat_of(positions, heights, size):
    """Max of Gaussians (sigma 6) of given heights: [1, size, size]."""
    bells = splat_gaussians(torch.tensor(positions), torch.arange(len(positions)), (len(positions), *size), 6)
    return (bells * torch.tensor(heights)[:, None, None]).amax(0, keepdim=True)


# Gaussians


def test_gaussian_window_and_heights():
    bell = splat_gaussians(torch.tensor([[30, 40]]), torch.tensor([0]), (1, 64, 80), sigma=6)[0]
    rows, columns = bell.nonzero(as_tuple=True)
    assert (rows.min(), rows.max(), columns.min(), columns.max()) == (11, 49, 21, 59)
    assert bell[30, 40] == 1
    assert bell.sum(dtype=torch.float64) == bell[11:50, 21:60].sum(dtype=torch.float64)
    for y, x in ((36, 40), (24, 40), (30, 46), (30, 34)):
        assert bell[y, x] == pytest.approx(math.exp(-0.5))


def test_gaussian_is_cut_at_the_border():
    height, width, margin = 61, 70, 40
    canvas = (1, height + 2 * margin, width + 2 * margin)
    for y, x in product([-1, 0, 3, 30, 58, 60, 61], [-5, 0, 7, 35, 69, 70]):
        large = splat_gaussians(torch.tensor([[y + margin, x + margin]]), torch.tensor([0]), canvas, sigma=6)
        bell = splat_gaussians(torch.tensor([[y, x]]), torch.tensor([0]), (1, height, width), sigma=6)
        inside = 0 <= y < height and 0 <= x < width
        expected = large[:, margin:-margin, margin:-margin] if inside else torch.zeros(1, height, width)
        assert torch.equal(bell, expected), (y, x)


def test_close_gaussians_combine_by_maximum_and_planes_stay_apart():
    at, plane = torch.tensor([[20.0, 20], [20, 26], [5, 5]]), torch.tensor([0, 0, 1])
    both = splat_gaussians(at, plane, (2, 40, 44), sigma=6)
    single = splat_gaussians(at, torch.arange(3), (3, 40, 44), sigma=6)
    assert torch.equal(both, torch.stack((single[:2].amax(0), single[2])))


def test_gaussians_commute_with_flips():
    at = torch.tensor([[3, 4], [20, 11], [17, 30]])
    plain = splat_gaussians(at, torch.zeros(3, dtype=torch.long), (1, 24, 31), sigma=4)
    flipped = splat_gaussians(torch.tensor([23, 30]) - at, torch.zeros(3, dtype=torch.long), (1, 24, 31), sigma=4)
    assert torch.equal(plain.flip(1, 2), flipped)


def test_no_gaussian_gives_zeros():
    empty = splat_gaussians(torch.zeros(0, 2), torch.zeros(0, dtype=torch.long), (3, 5, 6), sigma=2)
    assert torch.equal(empty, torch.zeros(3, 5, 6))


# Peaks


def test_max_pool_equals_torch():
    offenders = []
    for kernel, shape in itertools.product([1, 3, 5, 15, 41], [(2, 37, 50), (1, 1, 1), (1, 6, 3)]):
        values = torch.randn(shape, generator=torch.Generator().manual_seed(kernel))
        expected = torch.nn.functional.max_pool2d(values, kernel, stride=1, padding=kernel // 2)
        if not torch.equal(max_pool(values, kernel), expected):
            offenders.append((kernel, shape))
    assert not offenders, offenders


def test_equal_peaks_survive_at_any_distance():
    peaks = {}
    for distance in (1, 2, 7, 20, 21, 60):
        heat = heat_of([[40, 20], [40, 20 + distance]], [1.0, 1.0], (80, 101))
        centers = find_centers(heat, torch.ones(1, 80, 101, dtype=torch.long), 0.1, 41)
        peaks[distance] = centers.position.tolist()
    offenders = {d: p for d, p in peaks.items() if p != [[40, 20], [40, 20 + d]]}
    assert not offenders, offenders


def test_unequal_peaks_survive_beyond_the_derived_distance():
    offenders = []
    for height, distance in itertools.product([0.9, 0.7, 0.5, 0.2], range(15, 60)):
        bound = 20 + 6 * math.sqrt(2 * math.log(1 / height))
        heat = heat_of([[30, 20], [30, 20 + distance]], [1.0, height], (61, 101))
        centers = find_centers(heat, torch.ones(1, 61, 101, dtype=torch.long), 0.1, 41)
        if len(centers.score) != 1 + (distance > bound):
            offenders.append((height, distance))
    assert not offenders, offenders


@pytest.mark.parametrize("gap", [0, 1])
def test_only_pixels_of_one_component_compete(gap):
    classes = torch.ones(1, 30, 40, dtype=torch.long)
    classes[:, :, 20 : 20 + gap] = 0
    classes[:, :, 20 + gap :] = 2
    ids, _ = connected_components(classes)
    heat = heat_of([[15, 17], [15, 23]], [1.0, 0.9], (30, 40))
    peaks = find_centers(heat, ids, 0.1, 41)
    assert peaks.component.tolist() == [0, 1]
    assert peaks.score.tolist() == pytest.approx([1.0, 0.9])


def test_threshold_is_exclusive_and_background_never_a_peak():
    heat, ids = torch.zeros(1, 9, 9), torch.ones(1, 9, 9, dtype=torch.long)
    heat[0, 2, 2], heat[0, 7, 7], ids[0, 7, 7] = 0.3, 0.9, 0
    assert not len(find_centers(heat, ids, 0.3, 3).score)
    assert find_centers(heat, ids, 0.29, 3).position.tolist() == [[2, 2]]


def test_plateau_survives_whole():
    found = find_centers(torch.full((1, 5, 6), 0.5), torch.ones(1, 5, 6, dtype=torch.long), 0.1, 41)
    assert len(found.score) == 30


@st.composite
def scenes(draw):
    """Component ids, and heat with many ties, of a small batch."""
    shape = draw(st.integers(1, 2)), draw(st.integers(1, 14)), draw(st.integers(1, 14))
    generator = torch.Generator().manual_seed(draw(st.integers(0, 2**16)))
    classes = torch.randint(0, draw(st.integers(2, 4)), shape, generator=generator)
    if draw(st.booleans()):
        classes = classes.repeat_interleave(3, 1).repeat_interleave(3, 2)[:, : shape[1], : shape[2]]
    heat = torch.randint(0, 11, shape, generator=generator) / 10
    return connected_components(classes)[0], heat, generator


@given(scenes(), st.sampled_from([1, 3, 5, 11]))
@settings(max_examples=60, deadline=None)
def test_peaks_are_the_maxima_of_their_component_within_the_window(scene, kernel):
    ids, heat, _ = scene
    reach, expected = kernel // 2, []
    for b, y, x in ((ids > 0) & (heat > 0.3)).nonzero().tolist():
        window = slice(max(0, y - reach), y + reach + 1), slice(max(0, x - reach), x + reach + 1)
        own = ids[b][window] == ids[b, y, x]
        if heat[b][window][own].max() <= heat[b, y, x]:
            expected.append((b, y, x))
    found = find_centers(heat, ids, 0.3, kernel)
    assert [(i, *map(int, p)) for i, p in zip(found.image.tolist(), found.position, strict=True)] == expected
    assert torch.equal(found.component, torch.tensor([int(ids[at]) - 1 for at in expected], dtype=torch.long))


def test_even_kernel_is_refused():
    with pytest.raises(ConfigError, match="odd kernel"):
        find_centers(torch.zeros(1, 3, 3), torch.ones(1, 3, 3, dtype=torch.long), 0.1, 40)


# Clustering


def test_disc_gives_one_cluster_at_its_center():
    discs = [[12, 12], [9, 14], [3, 20]]
    clusters = [cluster_centers(field([disc], 25), whole(1, 25)) for disc in discs]
    assert [c.position.tolist() for c in clusters] == [[disc] for disc in discs]
    assert [(c.score.item(), c.clustered.item(), c.component.item()) for c in clusters] == [(1, True, 0)] * 3


@pytest.mark.parametrize(
    ("scale", "area"), [(0.8, 29), (0.885, 21), (1.0, 21), (1.117, 21), (1.25, 9), (0.883, 25), (1.119, 13)]
)
def test_scale_error_changes_the_area(scale, area):
    offsets, ids = scale * field([[12, 12]], 25), whole(1, 25)
    assert int((offsets.norm(dim=1) < 2.5).sum()) == area
    assert len(cluster_centers(offsets, ids).score) == (area == 21)
    assert len(cluster_centers(offsets, ids, area=area, tolerance=1).score) == 1


@pytest.mark.parametrize(("tolerance", "share"), [(3, 0.935), (4, 0.987)])
def test_centers_between_pixels_are_mostly_accepted(tolerance, share):
    step = (torch.arange(48) + 0.5) / 48 + 11.5
    centers = torch.stack(torch.meshgrid(step, step, indexing="ij"), dim=-1).reshape(-1, 2)
    found = cluster_centers(field(centers, 25), whole(len(centers), 25), tolerance=tolerance)
    assert len(found.score) / len(centers) == pytest.approx(share, abs=0.01)


def test_bounds_of_the_area_check():
    offsets = torch.full((1, 2, 9, 9), 9.0)
    offsets[:, :, 1:5, 1:7] = 0  # 24 pixels
    assert [len(cluster_centers(offsets, whole(1, 9), tolerance=t).score) for t in (3, 4)] == [0, 1]


def test_two_discs_merge_up_to_five_pixels():
    clusters = {}
    for distance in (1, 2, 3, 4, 5, 6, 7, 12):
        a, b = field([[20, 12], [20, 12 + distance]], 41)
        offsets = torch.where(a.norm(dim=0) <= b.norm(dim=0), a, b)[None]
        clusters[distance] = cluster_centers(offsets, whole(1, 41)).position.tolist()
    assert clusters == {d: [[20, 12], [20, 12 + d]] if d >= 6 else [] for d in clusters}


@pytest.mark.parametrize(
    ("spread", "rate"), [(0.1, 1.0), (0.25, 0.90), (0.5, 0.62), (0.75, 0.45), (1.0, 0.27), (1.5, 0.04), (2.0, 0.0)]
)
def test_detection_falls_with_noise(spread, rate):
    trials = 400
    offsets = field([[12, 12]], 25).expand(trials, 2, 25, 25)
    disc = (offsets.norm(dim=1) <= 12).long()
    noisy = offsets + spread * torch.randn(offsets.shape, generator=torch.Generator().manual_seed(0))
    ids, count = connected_components(disc)
    assert count == trials
    found = cluster_centers(noisy, ids).component
    assert len(found.unique()) / trials == pytest.approx(rate, abs=0.07)


def test_ring_and_zero_field_give_no_center():
    offsets = field([[12, 12]], 25)
    radius = offsets.norm(dim=1)
    ring, _ = connected_components(((radius > 4) & (radius < 11)).long())
    assert not len(cluster_centers(offsets, ring).score)
    assert not len(cluster_centers(torch.zeros(1, 2, 25, 25), whole(1, 25)).score)


def test_background_is_never_clustered():
    offsets = torch.full((1, 2, 12, 12), 9.0)
    offsets[:, :, 2:5, 2:9] = 0  # 21 pixels
    assert not len(cluster_centers(offsets, torch.zeros(1, 12, 12, dtype=torch.long)).score)
    assert len(cluster_centers(offsets, whole(1, 12)).score) == 1


def test_spots_stop_at_the_border_of_a_component():
    classes = torch.ones(1, 12, 12, dtype=torch.long)
    classes[:, :, 6:] = 2
    offsets = torch.full((1, 2, 12, 12), 9.0)
    offsets[:, :, 2:9, 3:9] = 0  # 42 pixels, 21 on each side
    found = cluster_centers(offsets, connected_components(classes)[0])
    assert found.component.tolist() == [0, 1]
    assert found.position.tolist() == [[5, 4], [5, 7]]


# Merging


def test_clusters_join_where_no_peak_is_near():
    clusters = centers_at([[50, 50], [50, 150], [50, 151], [50, 300]])
    heat = torch.full((1, 100, 400), 0.06)
    heat[0, 50, 300] = 0.05
    merged = merge_centers(centers_at([[50, 50]], score=0.4), clusters, heat, torch.ones_like(heat).long())
    assert merged.position.tolist() == [[50, 50], [50, 151]]  # 100 pixels are not enough, nor is a heat of .05
    assert merged.score.tolist() == pytest.approx([0.4, 1.0])


@pytest.mark.parametrize(("component", "count"), [(0, 1), (1, 3)])
def test_only_peaks_of_the_same_component_block(component, count):
    clusters = centers_at([[10, 10], [10, 30]])
    ones = torch.ones(1, 20, 40)
    merged = merge_centers(centers_at([[10, 20]], component=component), clusters, ones, ones.long())
    assert len(merged.score) == count


@pytest.mark.parametrize("hole", [0, 2])
def test_a_center_in_a_hole_of_its_component_does_not_join(hole):
    ids = torch.ones(1, 9, 9, dtype=torch.long)
    ids[0, 4, 4] = hole  # background, or the component of another class, whose heat would be read
    assert not len(merge_centers(centers_at([]), centers_at([[4, 4]]), torch.ones(1, 9, 9), ids).score)


def test_merging_with_nothing():
    nothing, some, maps = centers_at([]), centers_at([[1, 2]]), (torch.ones(1, 4, 4), torch.ones(1, 4, 4).long())
    assert merge_centers(nothing, some, *maps).position.tolist() == [[1, 2]]
    assert merge_centers(some, nothing, *maps).position.tolist() == [[1, 2]]
    assert not len(merge_centers(nothing, nothing, *maps).score)


# Grouping


@pytest.mark.parametrize("count", [1, 2, 5, 20, 37])
def test_exact_offsets_give_the_exact_partition(count):
    generator = torch.Generator().manual_seed(count)
    place = torch.randperm(90 * 70, generator=generator)[:count]
    position = torch.stack((place // 70, place % 70), dim=1).float()
    owner = torch.randint(0, count, (1, 90, 70), generator=generator)
    offsets = position[owner[0]].permute(2, 0, 1)[None] - pixels(90, 70)
    centers = centers_at(position.tolist())
    assert torch.equal(group_pixels(offsets, torch.ones_like(owner), centers), owner + 1)


@pytest.mark.parametrize(("distance", "spread", "share"), [(20, 5.0, 0.02275), (20, 10.0, 0.15866)])
def test_noise_misassigns_as_the_normal_tail_says(distance, spread, share):
    shape = (1, 2, 300, 300)
    owner = torch.arange(300) % 2
    centers = centers_at([[150, 100], [150, 100 + distance]])
    exact = centers.position[owner].T[None, :, None] - pixels(300, 300)
    noise = torch.randn(shape, generator=torch.Generator().manual_seed(0))
    ids = group_pixels(exact + spread * noise, torch.ones(1, 300, 300, dtype=torch.long), centers)
    assert share == pytest.approx(math.erfc(distance / (2 * math.sqrt(2) * spread)) / 2, rel=1e-3)
    assert float((ids != owner + 1).float().mean()) == pytest.approx(share, abs=0.003)


@given(scenes(), st.integers(0, 40))
@settings(max_examples=60, deadline=None)
def test_each_pixel_goes_to_the_nearest_center_of_its_component(scene, wanted):
    ids, _, generator = scene
    place = (ids > 0).nonzero()
    place = place[torch.randint(0, len(place), (wanted,), generator=generator)] if len(place) else place
    component = ids[place.unbind(1)] - 1
    position = place[:, 1:] + torch.randint(0, 2, (len(place), 2), generator=generator) / 2.0
    centers = Centers(component, place[:, 0], position, torch.ones(len(place)), component < 0)
    offsets = torch.randint(-20, 21, (len(ids), 2, *ids.shape[1:]), generator=generator) / 4  # many ties
    distance = (offsets + pixels(*ids.shape[1:]))[None] - position[:, None, :, None, None]
    distance = distance.square().sum(2).masked_fill(ids != component[:, None, None, None] + 1, torch.inf)
    expected = torch.zeros_like(ids)
    if len(place):
        best = distance.min(0)
        expected = torch.where(best.values < torch.inf, distance.argmin(0) + 1, 0)
    assert torch.equal(group_pixels(offsets, ids, centers), expected)


def test_images_are_grouped_independently():
    generator = torch.Generator().manual_seed(3)
    ids, _ = connected_components(torch.randint(0, 2, (3, 20, 17), generator=generator))
    offsets, heat = torch.randn(3, 2, 20, 17, generator=generator), torch.rand(3, 20, 17, generator=generator)
    centers = find_centers(heat, ids, 0.5, 5)
    together = group_pixels(offsets, ids, centers)
    for b in range(3):
        own = centers.image == b
        numbers = torch.cat((torch.zeros(1, dtype=torch.long), own.nonzero()[:, 0] + 1))
        alone = group_pixels(offsets[b, None], ids[b, None], Centers(*(column[own] for column in centers)))
        assert torch.equal(numbers[alone[0]], together[b])


def test_components_without_a_center_stay_empty():
    ids = torch.tensor([[[1, 1, 0, 2, 2]]])
    offsets = torch.zeros(1, 2, 1, 5)
    assert group_pixels(offsets, ids, centers_at([[0, 0]], component=1)).tolist() == [[[0, 0, 0, 1, 1]]]
    assert not group_pixels(offsets, ids, centers_at([])).any()
    assert not group_pixels(offsets, torch.zeros_like(ids), centers_at([[0, 0]])).any()


def test_one_pixel_image():
    ids, heat = torch.ones(1, 1, 1, dtype=torch.long), torch.ones(1, 1, 1)
    centers = find_centers(heat, ids, 0.1, 41)
    assert centers.position.tolist() == [[0, 0]]
    assert group_pixels(torch.zeros(1, 2, 1, 1), ids, centers).tolist() == [[[1]]]
    assert not len(cluster_centers(torch.zeros(1, 2, 1, 1), ids).score)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_offsets_at_large_coordinates(dtype):
    """600.625 is nearer to 601; half precision holds 600.5 there, a tie, and bfloat16 even 600."""
    offsets = torch.zeros(1, 2, 602, 3, dtype=dtype)
    offsets[0, 0, 600] = 0.625
    ids = group_pixels(offsets, torch.ones(1, 602, 3, dtype=torch.long), centers_at([[600, 1], [601, 1]]))
    assert ids[0, 600].tolist() == [2, 2, 2]


def peak_memory(function):
    """Most bytes that tensors took at one time during a call."""
    with profile(profile_memory=True) as record:
        function()
    events = record.kineto_results.events()
    return max(accumulate(e.nbytes() for e in events if e.name() == "[memory]"))


def test_memory_does_not_grow_with_the_number_of_centers():
    ids, offsets, peaks = torch.ones(1, 256, 256, dtype=torch.long), torch.zeros(1, 2, 256, 256), []
    for count in (8, 400):  # 8 already fill a chunk
        centers = centers_at(torch.randint(0, 256, (count, 2)).tolist())
        peaks.append(peak_memory(lambda centers=centers: group_pixels(offsets, ids, centers)))
    assert peaks[1] < 1.1 * peaks[0]
    assert peaks[0] < 160 * 256 * 256


# Statistics


def test_region_statistics_by_hand():
    ids = torch.tensor([[[1, 1, 0], [3, 3, 3]], [[4, 0, 0], [0, 4, 0]]])
    values = torch.tensor([[[0.5, -2.0, 9.0], [0.25, 0.75, 0.75]], [[-1.0, 0.0, 0.0], [0.0, -3.0, 0.0]]])
    rows = region_statistics(ids, 4, values, 2 * values)
    assert rows.area.tolist() == [2, 0, 3, 2]
    assert rows.mean.tolist() == pytest.approx([-1.5, 0, 3.5 / 3, -4])
    assert rows.max.tolist() == [0.5, 0, 0.75, -1]
    assert rows.position.tolist() == [[0, 0], [0, 0], [1, 1], [0, 0]]


@given(scenes())
@settings(max_examples=40, deadline=None)
def test_region_statistics_equal_a_loop_over_regions(scene):
    ids, heat, _ = scene
    count = int(ids.max())
    rows = region_statistics(ids, count, heat, heat.flip(1))
    for i in range(count):
        inside = (ids == i + 1).nonzero().numpy()
        value = heat[ids == i + 1].double().numpy()
        assert rows.area[i] == len(inside)
        assert float(rows.mean[i]) == pytest.approx(float(heat.flip(1)[ids == i + 1].mean()), abs=1e-6)
        assert rows.max[i] == value.max()
        assert rows.position[i].tolist() == inside[value.argmax(), 1:].tolist()


# Together


def test_clusters_regroup_two_touching_discs():
    a, b = field([[20, 14], [20, 32]], 48)
    nearest = a.norm(dim=0) <= b.norm(dim=0)
    offsets = torch.where(nearest, a, b)[None].requires_grad_()
    ids, count = connected_components((torch.minimum(a.norm(dim=0), b.norm(dim=0)) <= 10)[None].long())
    centers = merge_centers(
        find_centers(torch.zeros(1, 48, 48), ids, 0.1, 41), cluster_centers(offsets, ids), ids.float(), ids
    )
    regions = group_pixels(offsets, ids, centers)
    assert count == 1
    assert torch.equal(regions, torch.where(ids > 0, torch.where(nearest, 1, 2), 0))
    assert not centers.score.requires_grad


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_gpu_agrees_with_cpu():
    generator = torch.Generator().manual_seed(0)
    coarse = torch.randint(0, 4, (3, 12, 15), generator=generator)
    classes = coarse.repeat_interleave(8, 1).repeat_interleave(8, 2)
    heat, offsets = (torch.rand(classes.shape, generator=generator), torch.randn(3, 2, 96, 120, generator=generator))

    def chain(device):
        ids, count = connected_components(classes.to(device))
        peaks = find_centers(heat.to(device), ids, 0.3, 15)
        clusters = cluster_centers(2 * offsets.to(device), ids)
        centers = merge_centers(peaks, clusters, heat.to(device), ids, min_distance=5)
        regions = group_pixels(offsets.to(device), ids, centers)
        statistics = region_statistics(regions, len(centers.score), heat.to(device), heat.to(device))
        return ids, *centers, regions, *statistics

    for on_cpu, on_gpu in zip(chain("cpu"), chain("cuda"), strict=True):
        torch.testing.assert_close(on_gpu.cpu(), on_cpu)


def test_centers_of_transposed_maps():
    heat = torch.rand(1, 12, 7, generator=torch.Generator().manual_seed(0))
    ids = torch.ones(1, 12, 7, dtype=torch.long)
    turned = find_centers(heat.mT, ids.mT, 0.1, 3)
    assert turned.position.equal(find_centers(heat.mT.contiguous(), ids.mT.contiguous(), 0.1, 3).position)
