"""Connected components of class maps, for a whole batch and all classes at once.

Each row of an image is cut into runs of one class. There are far fewer runs than pixels, and only
the small graph of touching runs has to be solved, by hooking and pointer jumping.
"""

from typing import NamedTuple

import torch
from jaxtyping import Bool, Int64, Integer
from torch import Tensor

from wsis.core.errors import ConfigError


class ComponentTable(NamedTuple):
    """Row i describes the pixels whose id is i + 1; a region without a pixel has zeros.

    center: (y, x), the centroid truncated to integers. image: index within the batch. first: flat index into [B, H, W] of the
    first pixel in raster order.
    """

    area: Int64[Tensor, " n"]
    center: Int64[Tensor, "n 2"]
    image: Int64[Tensor, " n"]
    first: Int64[Tensor, " n"]


def connected_components(maps: Integer[Tensor, "B H W"], connectivity: int = 8) -> tuple[Int64[Tensor, "B H W"], int]:
    """Number the connected regions of equal class by image and first pixel in raster order: their ids, and their count.

    maps: 0 = background; every other value is a class, also 255. connectivity: 4 (sides) or 8 (sides and corners).
    """
    _, length, number, count = _components_of_runs(maps, connectivity)
    ids = torch.zeros_like(maps, dtype=torch.long)
    return ids.masked_scatter_(maps != 0, number.repeat_interleave(length)), count


def _components_of_runs(classes: Tensor, connectivity: int) -> tuple[Tensor, Tensor, Tensor, int]:
    """Start, length and component id of each run, and the number of components."""
    if connectivity not in (4, 8):
        raise ConfigError(f"connectivity={connectivity!r}: choose 4 (sides) or 8 (sides and corners)")
    height, width = classes.shape[-2:]
    start, length, value = _runs(classes)
    row, corners = start // width, connectivity == 8
    begin = start + row  # one cell more than pixels in a row separates its last run from the next row
    end = begin + length
    first = torch.searchsorted(end, begin - (width + 1), right=not corners)  # of the touching runs in the row above
    last = torch.searchsorted(begin, end - (width + 1), right=corners)
    touching = (last - first).clamp_min(0) * (row % height > 0)
    below = torch.arange(len(begin), device=begin.device).repeat_interleave(touching)
    within = torch.arange(len(below), device=begin.device) - (touching.cumsum(0) - touching)[below]
    edges = torch.stack((first[below] + within, below))
    root = smallest_reachable(edges[:, value[edges[0]] == value[below]], len(start) - 1)
    number = (root == torch.arange(len(root), device=root.device)).cumsum(0)
    return start, length, number[root], int(number[-1]) if len(number) else 0


def _runs(values: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Of the foreground's runs in raster order: flat index of the first pixel, length and value."""
    begin = torch.ones_like(values, dtype=torch.bool)
    begin[..., 1:] = values[..., 1:] != values[..., :-1]
    start = begin.flatten().nonzero()[:, 0]
    length, value = start.diff(append=start.new_full((1,), values.numel())), values.flatten()[start]
    kept = value.nonzero()[:, 0]
    return start[kept], length[kept], value[kept]


def smallest_reachable(edges: Int64[Tensor, "2 E"], count: int) -> Int64[Tensor, " nodes"]:
    """For each of the nodes 0..count, the smallest node that it can reach through the edges."""
    root = torch.arange(count + 1, device=edges.device)
    while edges.shape[1]:
        low, high = edges.amin(0), edges.amax(0)
        root.scatter_reduce_(0, high, low, "amin")
        for _ in range(count.bit_length()):
            root = root[root]
        edges = root[edges]
        edges = edges[:, edges[0] != edges[1]]
    return root


def component_bounds(masks: Bool[Tensor, "M H W"], share: float) -> tuple[Int64[Tensor, "M 4"], Bool[Tensor, "M 1"]]:
    """The box around the large 8-connected components of each mask, and whether the mask has a pixel, without which it is void.

    share: a component counts whose area is at least this share of the largest one's. Boxes are xyxy and half-open.
    """
    count, height, width = masks.shape
    start, length, number, components = _components_of_runs(masks, 8)
    area = start.new_zeros(components + 1).scatter_add_(0, number, length)[number]
    image, y, x = start // (height * width), start // width % height, start % width
    largest = start.new_zeros(count).scatter_reduce_(0, image, area, "amax")
    large = area >= share * largest[image]
    outer = torch.stack((-x, -y, x + length, y + 1), dim=1)[large]
    index = image[large, None].expand(-1, 4)
    ends = outer.new_full((count, 4), -max(height, width)).scatter_reduce_(0, index, outer, "amax")
    return ends * ends.new_tensor((-1, -1, 1, 1)), (largest > 0)[:, None]


def table(ids: Int64[Tensor, "B H W"], count: int) -> ComponentTable:
    """Area, center and place of the regions 1..count, connected or not."""
    height, width = ids.shape[-2:]
    start, length, region = _runs(ids)
    y, x = start // width % height, start % width
    moments = torch.stack((length, y * length, x * length + length * (length - 1) // 2), dim=1)
    sums = ids.new_zeros(count + 1, 3).index_add_(0, region, moments)[1:]
    first = ids.new_full((count + 1,), ids.numel()).scatter_reduce_(0, region, start, "amin")[1:] * (sums[:, 0] > 0)
    return ComponentTable(sums[:, 0], sums[:, 1:] // sums[:, :1].clamp_min(1), first // (height * width), first)
