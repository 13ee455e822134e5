"""From center heatmaps and offset maps to instances, for a whole batch at once.

Positions are (y, x) in pixels, with pixel centers at integers. A pixel p votes for p + offset(p), with offset channels dy,
dx. Component ids (`ops.components`) are unique in a batch, 0 on background, and thus tell the image. Nothing carries
gradients, and half-precision inputs are computed in float32. On a GPU the host waits only where the number of candidates
decides a shape.
"""

from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Bool, Float, Float32, Int64, Real
from torch import Tensor

from wsis.core.errors import ConfigError
from wsis.ops.components import ComponentTable, connected_components, table

Heat = Float[Tensor, "B H W"]
Ids = Int64[Tensor, "B H W"]
Offsets = Float[Tensor, "B 2 H W"]


class Centers(NamedTuple):
    """The N instance centers of a batch.

    component: row of the component table (id - 1). score: heat at the center, 1 for `clustered` ones, from the offset map.
    """

    component: Int64[Tensor, " N"]
    image: Int64[Tensor, " N"]
    position: Float32[Tensor, "N 2"]
    score: Float32[Tensor, " N"]
    clustered: Bool[Tensor, " N"]


class RegionStatistics(NamedTuple):
    """Row i describes region i + 1; a region without a pixel has zeros.

    max: of the heat. position: (y, x) of this maximum, the first in raster order among equals. mean: of the probability.
    """

    area: Int64[Tensor, " n"]
    max: Float32[Tensor, " n"]
    position: Int64[Tensor, "n 2"]
    mean: Float32[Tensor, " n"]


def splat_gaussians(
    centers: Real[Tensor, "K 2"], plane: Int64[Tensor, " K"], shape: tuple[int, int, int], sigma: float
) -> Float32[Tensor, "P H W"]:
    """Draw a Gaussian of height 1 at each center; where several overlap the highest counts.

    centers: (y, x), rounded to whole pixels; those outside the plane are ignored. plane: in 0..P-1. shape: (P, H, W). sigma: in
    pixels; the window reaches 3 sigma + 1 (39 x 39 for sigma 6; BESTIE, released code).
    """
    planes, height, width = shape
    radius = int(3 * sigma + 1)
    step = torch.arange(-radius, radius + 1, device=centers.device)
    bell = torch.exp(-(step[:, None] ** 2 + step**2) / (2 * sigma**2))  # [k, k]
    middle = centers.round().long()
    y, x = middle[:, :1] + step, middle[:, 1:] + step  # [K, k]
    y_inside, x_inside = (y >= 0) & (y < height), (x >= 0) & (x < width)
    drawn = y_inside[:, radius, None] & x_inside[:, radius, None]  # the center itself lies in the plane
    row = plane[:, None] * height + y.clamp(0, height - 1)
    index = row[:, :, None] * width + x.clamp(0, width - 1)[:, None]  # [K, k, k]
    value = bell * ((y_inside & drawn)[:, :, None] & x_inside[:, None])
    if centers.device.type == "cpu":  # NumPy's zeros take memory only where something is drawn
        out = torch.from_numpy(np.zeros(planes * height * width, dtype=np.float32))
    else:
        out = torch.zeros(planes * height * width, device=centers.device)
    return out.scatter_reduce_(0, index.flatten(), value.flatten(), "amax").view(shape)


def max_pool(values: Float[Tensor, "*B H W"], kernel: int) -> Float[Tensor, "*B H W"]:
    """Maximum over the kernel x kernel neighborhood of each pixel, for an odd kernel: log2(kernel) maxima along each axis."""
    return _running_max(_running_max(values, kernel).mT, kernel).mT


def _running_max(values: Tensor, kernel: int) -> Tensor:
    width, reach = values.shape[-1], kernel // 2
    out = torch.nn.functional.pad(values, (reach, reach), value=-torch.inf)
    covered = 1  # out[x] is the maximum of the `covered` values from x on
    while covered < kernel:
        shift = min(covered, kernel - covered)
        out = torch.maximum(out[..., :-shift], out[..., shift:])
        covered += shift
    return out[..., :width]


@torch.no_grad()
def find_centers(heat: Heat, component_ids: Ids, threshold: float, kernel: int) -> Centers:
    """Peaks in raster order: above `threshold` and as high as any pixel of their component within kernel x kernel pixels.

    heat: of the winning class. kernel: odd (BESTIE, released code: 41).
    """
    if kernel % 2 == 0:
        raise ConfigError(f"kernel={kernel}: take an odd kernel, which has a pixel in its middle")
    heat = heat.float()
    eligible = (component_ids > 0) & (heat > threshold)
    masked = heat.masked_fill(~eligible, -torch.inf)
    peak = (eligible & (masked == max_pool(masked, kernel))).contiguous()
    # A pixel that is highest of all is highest of its component; the few other summits are tested one by one.
    rest = (eligible & ~peak & _summits(heat, component_ids)).flatten().nonzero()[:, 0]
    for size in sorted({min(3, kernel), min(9, kernel), kernel}):
        rest = rest[_is_highest(rest, masked, component_ids, size)]
    peak.view(-1)[rest] = True
    image, y, x = peak.nonzero(as_tuple=True)
    component, position = component_ids[image, y, x] - 1, torch.stack((y, x), dim=1).float()
    return Centers(component, image, position, heat[image, y, x], torch.zeros_like(image, dtype=torch.bool))


def _summits(heat: Tensor, ids: Tensor) -> Tensor:
    """Pixels without a higher one among their four neighbors of their own component: bool [B, H, W]."""
    lower = torch.zeros_like(ids, dtype=torch.bool)
    for axis in (1, 2):
        last = heat.shape[axis] - 1
        before, after = heat.narrow(axis, 0, last), heat.narrow(axis, 1, last)
        same = ids.narrow(axis, 0, last) == ids.narrow(axis, 1, last)
        lower.narrow(axis, 0, last).logical_or_(same & (before < after))
        lower.narrow(axis, 1, last).logical_or_(same & (after < before))
    return ~lower


def _is_highest(index: Tensor, heat: Tensor, ids: Tensor, kernel: int) -> Tensor:
    """Whether no pixel of the same component in the window around flat `index` [n] is higher: bool [n]."""
    height, width = heat.shape[-2:]
    step = torch.arange(-(kernel // 2), kernel // 2 + 1, device=heat.device)
    flat_heat, flat_ids = heat.flatten(), ids.flatten()
    highest = []
    for part in index.split(max(1, _chunk(heat.device) // kernel**2)):
        y = (part // width % height)[:, None] + step  # [n, k]
        x = (part % width)[:, None] + step
        inside = ((y >= 0) & (y < height))[:, :, None] & ((x >= 0) & (x < width))[:, None]
        top = (part // (height * width) * height)[:, None] + y.clamp(0, height - 1)
        at = (top[:, :, None] * width + x.clamp(0, width - 1)[:, None]).flatten(1)
        rival = inside.flatten(1) & (flat_ids[at] == flat_ids[part][:, None])
        highest.append(~(rival & (flat_heat[at] > flat_heat[part][:, None])).any(1))
    return torch.cat(highest) if highest else torch.zeros_like(index, dtype=torch.bool)


def _chunk(device: torch.device) -> int:
    """Elements of the largest temporary of a chunked step: fits a CPU's cache, keeps a GPU busy."""
    return 2**18 if device.type == "cpu" else 2**25


def find_spots(offsets: Offsets, ids: Ids, threshold: float) -> tuple[Ids, ComponentTable]:
    """Ids and table of the regions of a component, joined by sides, of short offsets."""
    dy, dx = offsets.float().unbind(1)
    near = dy.square() + dx.square() < threshold**2
    spots, count = connected_components(ids.masked_fill(~near, 0), connectivity=4)
    return spots, table(spots, count)


@torch.no_grad()
def cluster_centers(
    offsets: Offsets,
    component_ids: Ids,
    threshold: float = 2.5,  # px, above all lengths of a spot
    area: int = 21,  # px², of the spot of an exact field
    tolerance: float = 3,  # px², above all differences from it
) -> Centers:
    """Centers of spots where the offsets vanish, found by their length and their area.

    A spot never crosses a component nor leaves the foreground. Centers are centroids cut to
    integers. BESTIE, supp. 1 and Fig. 1.
    """
    _, spots = find_spots(offsets, component_ids, threshold)
    right = ((spots.area - area).abs() < tolerance).nonzero()[:, 0]
    _, position, image, first = (column[right] for column in spots)
    component, certain = component_ids.flatten()[first] - 1, torch.ones_like(first)
    return Centers(component, image, position.float(), certain.float(), certain.bool())


@torch.no_grad()
def merge_centers(
    peaks: Centers, clustered: Centers, heat: Heat, ids: Ids, min_heat: float = 0.05, min_distance: float = 100
) -> Centers:
    """Peaks, followed by the clustered centers that they missed (BESTIE, released code).

    Such a center joins where it lies on its component (and not in a hole), the heat is above `min_heat` and every peak of the
    component over `min_distance` pixels away.
    """
    y, x = clustered.position.long().unbind(1)
    gap = clustered.position[:, None] - peaks.position  # [clustered, peaks, 2]
    apart = gap.square().sum(-1) > min_distance**2
    free = (apart | (clustered.component[:, None] != peaks.component)).all(1)
    inside = ids[clustered.image, y, x] == clustered.component + 1
    joins = (free & inside & (heat[clustered.image, y, x] > min_heat)).nonzero()[:, 0]
    return Centers(*(torch.cat((a, b[joins])) for a, b in zip(peaks, clustered, strict=True)))


@torch.no_grad()
def group_pixels(offsets: Offsets, component_ids: Ids, centers: Centers) -> Ids:
    """Give every pixel to the center of its own component nearest to its vote, in a tie to the lowest index (BESTIE).

    Returns 1 + index into `centers`, 0 in components without one. Memory does not grow with the number of centers.
    """
    order = centers.component.argsort(stable=True)
    owners, sizes = centers.component[order].unique_consecutive(return_counts=True)
    if not len(owners):
        return torch.zeros_like(component_ids)
    begin, last = sizes.cumsum(0) - sizes, int(owners[-1]) + 1
    row_of_id = order.new_full((last + 2,), len(owners))  # one row more, for all without a center
    row_of_id[owners + 1] = torch.arange(len(owners), device=order.device)
    rows = row_of_id.index_select(0, component_ids.flatten().clamp_max(last + 1))
    ids = torch.cat((order[begin] + 1, order.new_zeros(1))).index_select(0, rows)
    channels, (height, width) = offsets.transpose(0, 1).flatten(1).contiguous(), component_ids.shape[-2:]
    for size in sizes[sizes > 1].unique().tolist():  # most components have one center or none, and nothing to compare
        same = torch.cat((sizes == size, sizes.new_zeros(1).bool()))
        member = order[begin[same[:-1], None] + torch.arange(size, device=order.device)]  # [rows of this size, size]
        position = centers.position[member].permute(2, 0, 1).contiguous()
        place = same.cumsum(0) - 1
        for pixel in same.index_select(0, rows).nonzero()[:, 0].split(max(1, _chunk(order.device) // size)):
            row = place.index_select(0, rows.index_select(0, pixel))
            y, x = channels.index_select(1, pixel).float() + torch.stack((pixel // width % height, pixel % width))
            dy, dx = y[:, None] - position[0].index_select(0, row), x[:, None] - position[1].index_select(0, row)
            nearest = dy.square_().add_(dx.square_()).argmin(1)
            ids[pixel] = member.flatten().index_select(0, row * size + nearest) + 1
    return ids.view(component_ids.shape)


@torch.no_grad()
def region_statistics(ids: Ids, count: int, heat: Heat, probability: Heat) -> RegionStatistics:
    """Statistics of the regions 1..count; sums are float64 and do not depend on the order in which a GPU adds."""
    height, width = ids.shape[-2:]
    pixel = ids.flatten().nonzero()[:, 0]
    region, value, share = (x.flatten().index_select(0, pixel) for x in (ids - 1, heat.float(), probability.double()))
    area = ids.new_zeros(count).scatter_add_(0, region, torch.ones_like(region))
    highest = value.new_full((count,), -torch.inf).scatter_reduce_(0, region, value, "amax")
    top = (value == highest.index_select(0, region)).nonzero()[:, 0]
    first = ids.new_full((count,), ids.numel()).scatter_reduce_(0, region[top], pixel[top], "amin") * (area > 0)
    total = share.new_zeros(count).scatter_add_(0, region, share)
    position = torch.stack((first // width % height, first % width), dim=1)
    return RegionStatistics(area, highest.masked_fill(area == 0, 0), position, (total / area.clamp_min(1)).float())
