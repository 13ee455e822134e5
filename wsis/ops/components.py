"""Connected components of class maps, for a whole batch and all classes at once.

Each row of an image is cut into runs of one class. There are far fewer runs than pixels, and only the small graph of
touching runs has to be solved, by hooking and pointer jumping.
"""

from typing import NamedTuple

import torch
from jaxtyping import Bool, Float32, Int64, Integer
from torch import Tensor
from torch.nn.functional import pad

from wsis.core.errors import ConfigError


class ComponentTable(NamedTuple):
    """Row i describes the pixels whose id is i + 1; a region without a pixel has zeros.

    area: in pixels. centroid: (y, x). center: the centroid truncated to integers, exact also where float32 would round up.
    image: index within the batch. first: flat index into [B, H, W] of the region's first pixel in raster order.
    """

    area: Int64[Tensor, " n"]
    centroid: Float32[Tensor, "n 2"]
    center: Int64[Tensor, "n 2"]
    image: Int64[Tensor, " n"]
    first: Int64[Tensor, " n"]


def connected_components(
    classes: Integer[Tensor, "B H W"], connectivity: int = 8
) -> tuple[Int64[Tensor, "B H W"], int]:
    """Number the connected regions of equal class: their ids and their count.

    classes: 0 = background; every other value is a class, also 255. connectivity: 4 (sides) or 8 (sides and corners), else
    ConfigError. The ids are 0 on background, else 1..count, ordered by image and then by the first pixel in raster order.
    """
    if connectivity not in (4, 8):
        raise ConfigError(f"connectivity={connectivity!r}: choose 4 (sides) or 8 (sides and corners)")
    foreground = classes != 0
    start = foreground.clone()
    start[..., 1:] &= classes[..., 1:] != classes[..., :-1]
    runs = start.flatten().cumsum(0, dtype=torch.int32)  # half the memory traffic of int64
    count = int(runs[-1]) if len(runs) else 0
    runs = runs.view(classes.shape).masked_fill_(~foreground, 0)
    root = smallest_reachable(_touching_runs(classes, foreground, start, runs, connectivity), count)
    is_root = root == torch.arange(count + 1, device=root.device)
    number = is_root.cumsum(0).sub_(1)[root]  # run 0 is the background and stays 0
    return number.index_select(0, runs.flatten()).view(classes.shape), int(number.max())


def _touching_runs(classes: Tensor, foreground: Tensor, start: Tensor, runs: Tensor, connectivity: int) -> Tensor:
    """Pairs [2, E] of runs in successive rows that touch, each found where the later of the two begins."""
    same = foreground[:, 1:] & (classes[:, 1:] == classes[:, :-1])
    pairs = [(same & (start[:, 1:] | start[:, :-1]), runs[:, :-1], runs[:, 1:])]
    if connectivity == 8:
        down = foreground[:, 1:, 1:] & start[:, 1:, 1:] & (classes[:, 1:, 1:] == classes[:, :-1, :-1])
        up = foreground[:, 1:, :-1] & start[:, :-1, 1:] & (classes[:, 1:, :-1] == classes[:, :-1, 1:])
        pairs += [(down, runs[:, :-1, :-1], runs[:, 1:, 1:]), (up, runs[:, :-1, 1:], runs[:, 1:, :-1])]
    return torch.cat([torch.stack((above[at], below[at])) for at, above, below in pairs], dim=1).long()


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
    """The box around the large 8-connected components of each mask, and whether the mask has a pixel at all.

    share: a component counts whose area is at least this share of the largest one's. Boxes are xyxy and half-open; that of
    an empty mask means nothing.
    """
    count, height, width = masks.shape
    row = width + 1  # one cell more than pixels separates a run at the right border from one that begins the next row
    edges = pad(masks, (1, 1))
    edges = (edges[..., 1:] != edges[..., :-1]).flatten().nonzero()[:, 0]
    start, stop = edges.view(-1, 2).T.contiguous()
    y, image = start // row % height, start // (row * height)

    root = smallest_reachable(_runs_below(start, stop, y, row), max(len(start) - 1, 0))[: len(start)]
    area = torch.zeros_like(start).scatter_add_(0, root, stop - start)[root]
    largest = start.new_zeros(count).scatter_reduce_(0, image, area, "amax")
    large = area >= share * largest[image]
    outer = torch.stack([-(start % row), -y, stop % row, y + 1], 1)[large]
    index = image[large, None].expand(-1, 4)
    ends = outer.new_full((count, 4), -row - height).scatter_reduce_(0, index, outer, "amax")
    return ends * ends.new_tensor((-1, -1, 1, 1)), (largest > 0)[:, None]


def _runs_below(start: Tensor, stop: Tensor, y: Tensor, row: int) -> Tensor:
    """Pairs [2, E] of runs, sorted, in successive rows that share a side or a corner: those from above follow each other."""
    first = torch.searchsorted(stop, start - row)
    last = torch.searchsorted(start, stop - row, right=True)
    number = (last - first).clamp_min(0) * (y > 0)
    below = torch.arange(len(start), device=start.device).repeat_interleave(number)
    within = torch.arange(len(below), device=start.device) - (number.cumsum(0) - number)[below]
    return torch.stack([first[below] + within, below])


def table(ids: Int64[Tensor, "B H W"], count: int) -> ComponentTable:
    """Area, centroid and place of the regions 1..count, connected or not."""
    height, width = ids.shape[-2:]
    flat = ids.flatten()
    index = torch.arange(flat.numel(), device=ids.device)
    y = torch.arange(height, device=ids.device)[:, None].expand(ids.shape).flatten()
    x = torch.arange(width, device=ids.device).expand(ids.shape).flatten()
    area, *sums = (ids.new_zeros(count + 1).scatter_add_(0, flat, v)[1:] for v in (torch.ones_like(flat), y, x))
    sums, divisor = torch.stack(sums, dim=1), area.clamp_min(1)[:, None]
    first = ids.new_full((count + 1,), flat.numel()).scatter_reduce_(0, flat, index, "amin")[1:] * (area > 0)
    centroid = (sums.double() / divisor).float()
    return ComponentTable(area, centroid, sums // divisor, first // (height * width), first)
