"""Run lengths: the encoding of pycocotools, whatever the mask, without the pixels beyond its box."""

import tracemalloc

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from pycocotools import mask as coco_mask

from wsis.core.masks import Part, RunLengths, run_total
from wsis.core.types import Instances

DENSITIES = (0.0, 0.1, 0.5, 0.9, 1.0)
HUGE = (30_000, 40_000)  # 1.2 gigapixels


@st.composite
def random_masks(draw, count=3):
    """Masks of every density, also empty and full ones, in images down to one pixel."""
    height, width = draw(st.integers(1, 9)), draw(st.integers(1, 9))
    density = torch.tensor(draw(st.lists(st.sampled_from(DENSITIES), min_size=count, max_size=count)))
    generator = torch.Generator().manual_seed(draw(st.integers(0, 2**31)))
    return torch.rand(count, height, width, generator=generator) < density[:, None, None]


def whole(part, size):
    """The pixels of the image of a part."""
    mask, (height, width) = torch.zeros(size, dtype=torch.bool), part.pixels.shape
    mask[part.row : part.row + height, part.column : part.column + width] = part.pixels
    return mask


@given(random_masks())
@settings(deadline=None)
def test_the_text_is_that_of_pycocotools_and_comes_back(masks):
    runs = RunLengths.of(masks)
    columns = np.asfortranarray(masks.permute(1, 2, 0).numpy().astype(np.uint8))
    assert [run["counts"].encode() for run in runs.entries] == [run["counts"] for run in coco_mask.encode(columns)]
    assert torch.equal(runs.decode(), masks)


@given(random_masks())
@settings(deadline=None)
def test_parts_are_the_mask_in_its_box(masks):
    runs = RunLengths.of(masks)
    parts = list(runs.parts())
    assert all(torch.equal(whole(part, runs.size), mask) for part, mask in zip(parts, masks, strict=True))
    assert RunLengths.encode(parts, runs.size).entries == runs.entries
    sides = runs.boxes[:, 2:] - runs.boxes[:, :2]
    assert [list(part.pixels.shape) for part in parts] == sides.flip(1).tolist()


@given(random_masks(), st.data())
@settings(deadline=None)
def test_areas_overlaps_and_pixels_are_those_of_the_masks(masks, data):
    runs, generator = RunLengths.of(masks), torch.Generator().manual_seed(data.draw(st.integers(0, 99)))
    others = torch.rand(2, *masks.shape[1:], generator=generator) < 0.5
    common = (masks[:, None] & others).sum((2, 3)).double()
    either, area = (masks[:, None] | others).sum((2, 3)), masks.sum((1, 2))
    assert torch.equal(runs.areas, area)
    assert torch.equal(runs.overlaps(RunLengths.of(others)), common / either.clamp(min=1))
    assert torch.equal(runs.overlaps(RunLengths.of(others), share=True), common / area.clamp(min=1)[:, None])
    y, x = torch.arange(-1, masks.shape[1] + 1), torch.zeros(masks.shape[1] + 2, dtype=torch.long)
    for part, mask in zip(runs.parts(), masks, strict=True):
        assert part.holds(y, x).tolist() == [False, *mask[:, 0].tolist(), False]


def test_indexing_is_that_of_a_tensor():
    masks = torch.rand(5, 4, 6) < 0.5
    runs = RunLengths.of(masks)
    for index in (torch.tensor([3, 0]), [3, 0], masks[:, 0, 0], slice(1, 3), torch.zeros(0, dtype=torch.long), []):
        assert torch.equal(runs[index].decode(), masks[index])
    assert torch.equal(runs[:2].cat(runs[2:]).decode(), masks)


def test_a_pixel_joins_its_mask():
    runs = RunLengths.of(torch.zeros(2, 4, 6, dtype=torch.bool)).with_pixels(torch.tensor([[5, 3], [0, 0]]))
    assert runs.decode().nonzero().tolist() == [[0, 3, 5], [1, 0, 0]]


@given(random_masks())
@settings(deadline=None)
def test_runs_of_compressed_and_plain_counts_cover_the_mask(masks):
    for mask, rle in zip(masks, RunLengths.of(masks).entries, strict=True):
        assert run_total(rle["counts"]) == mask.numel()
        flat = mask.T.flatten().int()
        edges = torch.cat([torch.tensor([0]), flat.diff().nonzero()[:, 0] + 1, torch.tensor([len(flat)])])
        plain = ([0] if flat[0] else []) + edges.diff().tolist()
        assert run_total(plain) == mask.numel()
        same = RunLengths.read([{"size": list(mask.shape), "counts": plain}], tuple(mask.shape)).decode()
        assert torch.equal(same[0], mask)


@pytest.mark.parametrize("counts", ["", "P", "0P", "\u00e9", "  ", [3, -4, 17], "PPPPPPPPPP0"])
def test_damaged_run_lengths_have_no_total(counts):
    assert run_total(counts) is None


def test_polygons_decode_as_in_pycocotools():
    polygons = [[1.5, 1, 8, 2.5, 6, 7], [10, 1, 14, 1, 14, 5, 10, 5]]
    merged = coco_mask.merge(coco_mask.frPyObjects(polygons, 10, 16))
    assert np.array_equal(RunLengths.read([polygons], (10, 16)).decode()[0].numpy(), coco_mask.decode(merged))


def test_nothing_is_read_beyond_255_objects():
    """pycocotools counts the objects of one call in eight bits, where it measures areas."""
    assert RunLengths.of(torch.ones(300, 1, 1)).areas.tolist() == [1] * 300


def test_memory_does_not_grow_with_the_image():
    parts = [Part(300 * k, 400 * k, torch.ones(100, 100, dtype=torch.bool)) for k in range(100)]
    tracemalloc.start()
    runs = RunLengths.encode(parts, HUGE)
    assert all(part.pixels.all() for part in runs.parts())
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert runs.areas.sum() == 100 * 10_000
    assert peak < 100e6, f"{peak / 1e6:.0f} MB; one mask of all pixels has 1,200"


@pytest.mark.parametrize("size", [(1, 1), (5, 7)])
def test_no_masks(size):
    runs = RunLengths([], size)
    assert runs.decode().shape == (0, *size) and runs.boxes.shape == (0, 4) and not len(runs.areas)
    assert runs.overlaps(RunLengths.of(torch.ones(2, *size))).shape == (0, 2)


def test_masks_of_two_images_do_not_join():
    with pytest.raises(ValueError, match="are of two images"):
        RunLengths([], (4, 4)).cat(RunLengths([], (4, 5)))


def test_each_mask_has_a_label():
    with pytest.raises(ValueError, match="2 masks have 1 labels"):
        Instances.make(torch.ones(2, 4, 4), torch.zeros(1))
