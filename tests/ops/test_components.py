"""Connected components against scipy and by hand; the hooking algorithm on graphs that are hard for it."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage, sparse

from wsis.core.errors import ConfigError
from wsis.ops.components import component_bounds, connected_components, smallest_reachable, table


def relabelled(ids):
    """Numbers replaced by the order of first appearance, so that two labellings can be compared."""
    values, first, inverse = np.unique(np.asarray(ids).ravel(), return_index=True, return_inverse=True)
    number = np.zeros(len(values), dtype=int)
    foreground = np.flatnonzero(values > 0)
    number[foreground[np.argsort(first[foreground])]] = np.arange(1, len(foreground) + 1)
    return number[inverse].reshape(np.shape(ids))


def by_scipy(classes, connectivity):
    ids, count = np.zeros(classes.shape, dtype=int), 0
    structure = np.ones((3, 3)) if connectivity == 8 else None
    for image, out in zip(classes.numpy(), ids, strict=True):
        for value in np.unique(image[image > 0]):
            labels, n = ndimage.label(image == value, structure)
            out[labels > 0] = labels[labels > 0] + count
            count += n
    return relabelled(ids), count


def spiral(size):
    """A one-pixel line that winds inwards with one pixel of background between its turns."""
    grid = np.zeros((size, size), dtype=np.int64)
    y, x, dy, dx = 0, -1, 0, 1
    length = size
    for turn in range(2 * size):
        for _ in range(length):
            y, x = y + dy, x + dx
            grid[y, x] = 1
        dy, dx = dx, -dy
        length -= 2 * (turn % 2 == 0 and turn > 0) + (turn == 0)
        if length <= 0:
            break
    return torch.from_numpy(grid)


@st.composite
def class_maps(draw):
    batch, height, width = draw(st.integers(1, 3)), draw(st.integers(1, 12)), draw(st.integers(1, 12))
    classes, seed = draw(st.integers(1, 3)), draw(st.integers(0, 2**16))
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(0, classes + 1, (batch, height, width), generator=generator)


@given(class_maps(), st.sampled_from([4, 8]))
@settings(max_examples=150, deadline=None)
def test_agrees_with_scipy_and_numbers_in_raster_order(classes, connectivity):
    ids, count = connected_components(classes, connectivity)
    expected, n = by_scipy(classes, connectivity)
    assert count == n
    assert np.array_equal(ids.numpy(), expected)


@given(class_maps(), st.sampled_from([4, 8]), st.integers(0, 3), st.integers(0, 3))
@settings(max_examples=50, deadline=None)
def test_translation_and_flips_change_only_the_numbers(classes, connectivity, down, right):
    ids, _ = connected_components(classes, connectivity)
    moved, _ = connected_components(torch.nn.functional.pad(classes, (right, 1, down, 2)), connectivity)
    assert np.array_equal(moved[:, down : down + ids.shape[1], right : right + ids.shape[2]], ids)
    for axis in (1, 2):
        flipped, _ = connected_components(classes.flip(axis), connectivity)
        assert np.array_equal(relabelled(flipped.flip(axis)), ids)


@given(class_maps(), st.randoms(use_true_random=False))
@settings(max_examples=50, deadline=None)
def test_images_do_not_influence_each_other(classes, random):
    order = random.sample(range(len(classes)), len(classes))
    shuffled, count = connected_components(classes[order])
    ids, same_count = connected_components(classes)
    assert count == same_count
    for place, image in enumerate(order):
        assert np.array_equal(relabelled(shuffled[place]), relabelled(ids[image]))


@given(class_maps())
@settings(max_examples=50, deadline=None)
def test_components_partition_the_foreground_into_pure_classes(classes):
    ids, count = connected_components(classes)
    assert torch.equal(ids > 0, classes > 0)
    assert torch.equal(ids.unique(), torch.arange(count + 1)[int((ids > 0).all()) :])
    for i in range(1, count + 1):
        assert len(classes[ids == i].unique()) == 1


@pytest.mark.parametrize(("connectivity", "count"), [(4, 4), (8, 2)])
def test_two_classes_may_cross_diagonally(connectivity, count):
    assert connected_components(torch.tensor([[[1, 2], [2, 1]]]), connectivity)[1] == count


def test_touching_components_of_different_class_stay_apart():
    ids, count = connected_components(torch.tensor([[[3, 3, 5], [3, 5, 5]]]))
    assert count == 2
    assert ids.tolist() == [[[1, 1, 2], [1, 2, 2]]]


def test_last_row_and_first_row_of_the_next_image_are_not_neighbours():
    assert connected_components(torch.ones(3, 2, 2, dtype=torch.long))[1] == 3


def test_end_of_a_row_and_begin_of_the_next_are_not_neighbours():
    assert connected_components(torch.tensor([[[0, 0, 1], [1, 0, 0]]]))[1] == 2


@pytest.mark.parametrize("shape", [(1, 1, 1), (2, 1, 7), (2, 7, 1), (0, 4, 4), (1, 0, 3)])
def test_degenerate_shapes(shape):
    for value, count in ((0, 0), (1, shape[0] if min(shape) else 0)):
        ids, found = connected_components(torch.full(shape, value))
        assert (found, tuple(ids.shape)) == (count, shape)
        assert bool((ids.flatten(1).amax(1) == torch.arange(1, count + 1)).all()) if count else not ids.any()


@pytest.mark.parametrize("dtype", [torch.uint8, torch.int32, torch.int64])
def test_ids_are_int64_for_any_integer_map(dtype):
    ids, count = connected_components(torch.tensor([[[0, 7, 7]]], dtype=dtype))
    assert (ids.dtype, ids.tolist(), count) == (torch.int64, [[[0, 1, 1]]], 1)


@pytest.mark.parametrize("size", [9, 33, 101])
@pytest.mark.parametrize("connectivity", [4, 8])
def test_spiral_is_one_component(size, connectivity):
    line = spiral(size)
    expected, count = by_scipy(line[None], connectivity)
    ids, found = connected_components(line[None], connectivity)
    assert found == count == 1
    assert np.array_equal(ids.numpy(), expected)
    _, background = by_scipy((1 - line)[None], 4)
    assert connected_components((1 - line)[None], 4)[1] == background == 1


def graph(kind):
    generator = torch.Generator().manual_seed(0)
    n = 3000
    names = torch.randperm(n, generator=generator) + 1
    if kind == "chain":
        return torch.stack((names[:-1], names[1:]))
    if kind == "zigzag chain":
        low, high = torch.arange(1, n // 2 + 1), torch.arange(n // 2 + 1, n + 1)
        return torch.cat((torch.stack((low, high)), torch.stack((low[1:], high[:-1]))), dim=1)
    if kind == "star with the largest name in the middle":
        return torch.stack((torch.arange(1, n), torch.full((n - 1,), n)))
    return torch.randint(1, n + 1, (2, n // 2), generator=generator)


def smallest_by_scipy(edges, n):
    matrix = sparse.coo_matrix((np.ones(edges.shape[1]), edges.numpy()), shape=(n + 1, n + 1))
    _, labels = sparse.csgraph.connected_components(matrix, directed=False)
    smallest = np.full(labels.max() + 1, n + 1)
    np.minimum.at(smallest, labels, np.arange(n + 1))
    return smallest[labels]


@pytest.mark.parametrize("kind", ["chain", "zigzag chain", "star with the largest name in the middle", "random"])
def test_hooking_finds_the_smallest_reachable_node(kind):
    edges, n = graph(kind), 3000
    assert np.array_equal(smallest_reachable(edges, n), smallest_by_scipy(edges, n))


@given(st.integers(2, 60), st.integers(1, 60), st.integers(0, 2**16))
@settings(max_examples=200, deadline=None)
def test_hooking_on_random_graphs(n, links, seed):
    edges = torch.randint(1, n + 1, (2, links), generator=torch.Generator().manual_seed(seed))
    assert np.array_equal(smallest_reachable(edges, n), smallest_by_scipy(edges, n))


def test_unknown_connectivity_is_refused():
    with pytest.raises(ConfigError, match="connectivity=6"):
        connected_components(torch.ones(1, 2, 2, dtype=torch.long), 6)


def test_table_by_hand():
    ids = torch.tensor([[[0, 1, 1], [0, 0, 1]], [[2, 0, 4], [2, 0, 0]]])
    rows = table(ids, 4)
    assert rows.area.tolist() == [3, 2, 0, 1]
    assert rows.center.tolist() == [[0, 1], [0, 0], [0, 0], [0, 2]]
    assert rows.image.tolist() == [0, 1, 0, 1]
    assert rows.first.tolist() == [1, 6, 0, 8]


def test_center_is_exact_where_a_float_centroid_would_round_up():
    ids = torch.ones(1, 1, 40001, dtype=torch.long)
    ids[0, 0, 20001] = 0  # the mean column is 20000 - 1 / 40000
    assert table(ids, 1).center.tolist() == [[0, 19999]]


def test_table_of_nothing_is_empty():
    rows = table(torch.zeros(2, 3, 4, dtype=torch.long), 0)
    assert [len(column) for column in rows] == [0] * 4


def bounds_by_scipy(mask, share):
    """Tight bounds of the components with enough area, one mask at a time."""
    ids, _ = ndimage.label(mask, np.ones((3, 3)))
    sizes = np.bincount(ids.ravel())[1:]
    y, x = np.nonzero(np.isin(ids, 1 + np.flatnonzero(sizes >= share * sizes.max())))
    return [x.min(), y.min(), x.max() + 1, y.max() + 1]


@given(
    st.integers(1, 12),
    st.integers(2, 12),
    st.floats(0.2, 0.7),
    st.sampled_from([0, 0.25, 0.5, 1]),
    st.integers(0, 2**16),
)
@settings(max_examples=60, deadline=None)
def test_bounds_agree_with_scipy(height, width, density, share, seed):
    masks = torch.rand(3, height, width, generator=torch.Generator().manual_seed(seed)) < density
    masks[:, 0, 0], masks[:, -1, -1] = False, True
    bounds, filled = component_bounds(masks, float(share))
    assert bounds.tolist() == [bounds_by_scipy(m.numpy(), share) for m in masks] and filled.all()


def rectangles(*boxes):
    """A mask of 40 x 40 pixels, True in the rectangles (y0, y1, x0, x1), half-open."""
    mask = torch.zeros(40, 40, dtype=torch.bool)
    for y0, y1, x0, x1 in boxes:
        mask[y0:y1, x0:x1] = True
    return mask


@pytest.mark.parametrize(
    ("boxes", "expected"),
    [
        ([(0, 4, 0, 4), (4, 6, 4, 6), (20, 31, 20, 21)], [0, 0, 21, 31]),  # 16 + 4 px that touch at a corner, and 11
        ([(0, 4, 0, 4), (5, 7, 5, 7), (20, 31, 20, 21)], [0, 0, 21, 31]),  # a gap: 16, 4 and 11 px
        ([(0, 4, 0, 4), (5, 7, 5, 7)], [0, 0, 4, 4]),  # 4 px by themselves are too few
        ([(0, 4, 30, 40), (1, 5, 0, 3)], [30, 0, 40, 4]),  # the end of a row does not touch the begin of the next
    ],
)
def test_bounds_by_hand(boxes, expected):
    assert component_bounds(rectangles(*boxes)[None], 0.52)[0].tolist() == [expected]


def test_bounds_of_successive_masks_are_independent_and_an_empty_mask_has_none():
    masks = torch.stack([rectangles((38, 40, 0, 40)), rectangles((0, 1, 0, 40), (10, 20, 0, 40)), rectangles()])
    bounds, filled = component_bounds(masks, 0.5)
    assert bounds[:2].tolist() == [[0, 38, 40, 40], [0, 10, 40, 20]]
    assert filled[:, 0].tolist() == [True, True, False]
    assert component_bounds(masks[:0], 0.5)[0].shape == (0, 4)
