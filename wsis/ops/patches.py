"""The grid of a transformer's patches, and what masks, points and boxes are on it.

Its n = height x width patches are in raster order. Coordinates are (x, y) pixels with pixel centers at integers, boxes xyxy
and half-open.
"""

from typing import NamedTuple

import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor
from torch.nn.functional import avg_pool2d


class PatchGrid(NamedTuple):
    """How many patches of `patch` pixels a side an image has, down and across."""

    height: int
    width: int
    patch: int


def coverage(masks: Bool[Tensor, "K H W"], patch: int) -> Float[Tensor, "K n"]:
    """The share of each patch that a mask covers, in [0, 1]; H and W are multiples of `patch`."""
    return avg_pool2d(masks[:, None].float(), patch).flatten(1)


def covered_patches(masks: Bool[Tensor, "K H W"], patch: int) -> Bool[Tensor, "K n"]:
    """The patches that a mask covers by half or more; H and W are multiples of `patch`."""
    return coverage(masks, patch) >= 0.5


def box_patches(boxes: Float[Tensor, "*K 4"], grid: PatchGrid) -> Bool[Tensor, "*K n"]:
    """The patches that a box touches, at least one for each box."""
    height, width, patch = grid
    x, y = (boxes[..., :2] / patch).floor().unbind(-1)
    low = torch.stack((x.clamp(0, width - 1), y.clamp(0, height - 1)), -1)  # no copy to the device, which would wait
    high = torch.maximum((boxes[..., 2:] / patch).ceil(), low + 1)
    column, row = (torch.arange(side, device=boxes.device) for side in (width, height))
    across = (column >= low[..., :1]) & (column < high[..., :1])
    down = (row >= low[..., 1:]) & (row < high[..., 1:])
    return (down[..., :, None] & across[..., None, :]).flatten(-2)


def center_patches(boxes: Float[Tensor, "B 4"], grid: PatchGrid) -> Bool[Tensor, "B n"]:
    """The patches whose center is in a box, its border included."""
    x0, y0, x1, y1 = boxes[..., None].unbind(1)
    column, row = ((torch.arange(n, device=boxes.device) + 0.5) * grid.patch for n in (grid.width, grid.height))
    across, down = (column >= x0) & (column <= x1), (row >= y0) & (row <= y1)
    return (down[:, :, None] & across[:, None]).flatten(1)


def patch_index(points: Float[Tensor, "*K 2"], grid: PatchGrid) -> Int64[Tensor, "*K"]:
    """The patch that holds each point; for a point outside the grid, the nearest one."""
    height, width, patch = grid
    cell = ((points + 0.5) / patch).floor().long()
    return cell[..., 1].clamp(0, height - 1) * width + cell[..., 0].clamp(0, width - 1)


def point_patches(points: Float[Tensor, "B P 2"], grid: PatchGrid) -> Bool[Tensor, "B n"]:
    """The patches of an image that hold one of its points; points outside the grid, and NaN as padding, are ignored."""
    height, width, patch = grid
    column, row = ((points + 0.5) / patch).floor().unbind(-1)
    inside = (column >= 0) & (column < width) & (row >= 0) & (row < height)
    index = torch.where(inside, row * width + column, height * width).long()
    mask = torch.zeros(len(points), height * width + 1, dtype=torch.bool, device=points.device)
    return mask.scatter_(1, index, True)[:, :-1]
