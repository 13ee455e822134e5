"""Masks at the size of their image, against torch's and torchvision's ways to hold all of them at once."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn.functional import interpolate
from torchvision.models.detection.roi_heads import paste_masks_in_image

from benchmarks.measure import _peak_bytes
from wsis.core.masks import RunLengths
from wsis.ops.enlarge import enlarged, pasted, resized

sides = st.tuples(st.integers(1, 20), st.integers(1, 20))
PHOTOGRAPH = (6000, 8000)


def random_maps(cells, seed):
    return torch.randn(3, *cells, generator=torch.Generator().manual_seed(seed))


@given(sides, sides, st.integers(0, 2**31))
@settings(deadline=None)
def test_enlarged_maps_are_those_of_torch(cells, size, seed):
    maps = random_maps(cells, seed)
    whole = interpolate(maps[None], size, mode="bilinear", align_corners=False)[0]
    sure = (whole - 0.1).abs() > 1e-6  # where rounding cannot tell
    assert not ((enlarged(maps, size, 0.1).decode() != (whole > 0.1)) & sure).any()


@given(sides, sides, st.integers(0, 2**31))
@settings(deadline=None)
def test_resized_masks_are_those_of_torch(cells, size, seed):
    masks = random_maps(cells, seed) > 0
    whole = interpolate(masks[None].float(), size, mode="bilinear", align_corners=False)[0]
    sure = (whole - 0.5).abs() > 1e-6
    assert not ((resized(RunLengths.of(masks), size).decode() != (whole > 0.5)) & sure).any()


def test_masks_of_the_right_size_stay():
    masks = torch.rand(4, 7, 9) < 0.5
    assert torch.equal(resized(RunLengths.of(masks), (7, 9)).decode(), masks)
    assert torch.equal(enlarged(masks, (7, 9), 0.5).decode(), masks)


@given(st.integers(0, 2**31))
@settings(deadline=None)
def test_pasted_masks_are_those_of_torchvision(seed):
    generator = torch.Generator().manual_seed(seed)
    probability, corners = torch.rand(4, 28, 28, generator=generator), torch.rand(4, 4, generator=generator) * 60
    boxes = torch.cat([corners[:, :2], corners[:, :2] + corners[:, 2:]], 1).minimum(torch.tensor([50, 40] * 2))
    expected = paste_masks_in_image(probability[:, None], boxes, (40, 50))[:, 0] > 0.5
    assert torch.equal(pasted(probability, boxes, (40, 50)).decode(), expected)


@pytest.mark.parametrize(
    "make",
    [
        lambda: enlarged(torch.zeros(0, 4, 4), (8, 8), 0.5),
        lambda: pasted(torch.zeros(0, 4, 4), torch.zeros(0, 4), (8, 8)),
    ],
)
def test_no_objects_give_no_masks(make):
    assert make().decode().shape == (0, 8, 8)


def test_memory_is_that_of_one_object():
    """200 discs of 2 of 60 x 80 cells: all masks at once are 9,600 MB, one is 48."""
    maps = torch.zeros(200, 60, 80)
    maps[:, 20:22, 30:32] = 1
    boxes = torch.tensor([[100.0, 200, 300, 400]]).expand(200, 4)
    for name, paste in (
        ("maps", lambda: enlarged(maps, PHOTOGRAPH, 0.5)),
        ("boxes", lambda: pasted(torch.ones(200, 28, 28), boxes, PHOTOGRAPH)),
    ):
        peak = _peak_bytes(paste, torch.device("cpu"))
        assert peak < 20e6, f"{name}: {peak / 1e6:.0f} MB"
