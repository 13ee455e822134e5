"""From center heatmaps and offset maps to instances, for a whole batch at once.

Positions are (y, x) in pixels, pixel centres at integers; offset channel 0 is dy, channel 1 is dx, so that a
pixel p votes for p + offset(p). Component ids are unique in a batch (`wsis.components`) and thus tell the
image. All of it makes labels: nothing carries gradients, and half-precision inputs are computed in float32.
On a GPU the host waits only where the number of candidates decides a shape.
"""

from typing import NamedTuple

import torch
from torch import Tensor

from wsis.core.errors import ConfigError
from wsis.ops.components import connected_components, table


class Centers(NamedTuple):
    """Instance centres of a batch, N in all.

    component: int64 [N], row of the component table (id - 1). image: int64 [N]. position: float32 [N, 2].
    score: float32 [N], heat at the centre, 1 for clustered. clustered: bool [N], found in the offset map.
    """

    component: Tensor
    image: Tensor
    position: Tensor
    score: Tensor
    clustered: Tensor


class RegionStatistics(NamedTuple):
    """One row per region; row i describes id i + 1, regions without a pixel have zeros.

    mean, max: float32 [n]. position: int64 [n, 2], (y, x) of the maximum, first in raster order among equals.
    area: int64 [n] pixels. centroid: float32 [n, 2], (y, x).
    """

    mean: Tensor
    max: Tensor
    position: Tensor
    area: Tensor
    centroid: Tensor


def splat_gaussians(
    centers: Tensor, plane: Tensor, shape: tuple[int, int, int], sigma: float, radius: int | None = None
) -> Tensor:
    """Draw a Gaussian of height 1 at each centre; where several overlap the highest counts.

    centers: [K, 2], (y, x), rounded to whole pixels, those outside the plane are ignored. plane: int64 [K] in
    0..P-1. shape: (P, H, W). sigma: pixels. radius: half the window's side, 3 sigma + 1 unless given.
    Returns float32 [P, H, W] in [0, 1]. BESTIE, released code (window of 39 x 39 for sigma 6).
    """
    planes, height, width = shape
    radius = int(3 * sigma + 1) if radius is None else radius
    step = torch.arange(-radius, radius + 1, device=centers.device)
    bell = torch.exp(-(step[:, None] ** 2 + step**2) / (2 * sigma**2))  # [k, k]
    middle = centers.round().long()
    y, x = middle[:, :1] + step, middle[:, 1:] + step  # [K, k]
    y_inside, x_inside = (y >= 0) & (y < height), (x >= 0) & (x < width)
    drawn = y_inside[:, radius, None] & x_inside[:, radius, None]  # the centre itself lies in the plane
    row = plane[:, None] * height + y.clamp(0, height - 1)
    at = row[:, :, None] * width + x.clamp(0, width - 1)[:, None]  # [K, k, k]
    value = bell * ((y_inside & drawn)[:, :, None] & x_inside[:, None])
    out = torch.zeros(planes * height * width, device=centers.device)
    return out.scatter_reduce_(0, at.flatten(), value.flatten(), "amax").view(shape)


def max_pool(values: Tensor, kernel: int) -> Tensor:
    """Maximum over the kernel x kernel neighbourhood (odd kernel, stride 1, same size) of [..., H, W].

    Separable, and each axis by doubling: log2(kernel) maxima per pixel in place of kernel squared.
    """
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
def find_centers(
    heat: Tensor, component_ids: Tensor, threshold: float, kernel: int, scope: str = "component"
) -> Centers:
    """Peaks of a center heatmap: above `threshold` and highest within kernel x kernel pixels.

    heat: [B, H, W], of the winning class. component_ids: int64 [B, H, W], 0 = background. threshold: of heat.
    kernel: odd, pixels. scope: "component", only pixels of one component compete, or "map", all foreground
    does. Equal heights all survive; centres come in raster order. BESTIE, released code (41 x 41).
    Raises ConfigError for an even kernel or another scope.
    """
    if kernel % 2 == 0 or scope not in ("component", "map"):
        raise ConfigError(f'kernel={kernel}, scope={scope!r}: take an odd kernel, scope "component" or "map"')
    heat = heat.float()
    eligible = (component_ids > 0) & (heat > threshold)
    masked = heat.masked_fill(~eligible, -torch.inf)
    peak = eligible & (masked == max_pool(masked, kernel))
    if scope == "component":
        # Highest of all components is highest of its own; the few other summits are tested one by one.
        rest = (eligible & ~peak & _summits(heat, component_ids)).flatten().nonzero()[:, 0]
        for size in sorted({min(3, kernel), min(9, kernel), kernel}):
            rest = rest[_is_highest(rest, masked, component_ids, size)]
        peak.view(-1)[rest] = True
    image, y, x = peak.nonzero(as_tuple=True)
    return Centers(
        component=component_ids[image, y, x].long() - 1,
        image=image,
        position=torch.stack((y, x), dim=1).float(),
        score=heat[image, y, x],
        clustered=torch.zeros_like(image, dtype=torch.bool),
    )


def _summits(heat: Tensor, ids: Tensor) -> Tensor:
    """Pixels without a higher neighbour (4) of their own component: bool [B, H, W]."""
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
    kept = []
    for part in index.split(max(1, _chunk(heat.device) // kernel**2)):
        y = (part // width % height)[:, None] + step  # [n, k]
        x = (part % width)[:, None] + step
        inside = ((y >= 0) & (y < height))[:, :, None] & ((x >= 0) & (x < width))[:, None]
        top = (part // (height * width) * height)[:, None] + y.clamp(0, height - 1)
        at = (top[:, :, None] * width + x.clamp(0, width - 1)[:, None]).flatten(1)
        rival = inside.flatten(1) & (flat_ids[at] == flat_ids[part][:, None])
        kept.append(~(rival & (flat_heat[at] > flat_heat[part][:, None])).any(1))
    return torch.cat(kept) if kept else torch.zeros_like(index, dtype=torch.bool)


def _chunk(device: torch.device) -> int:
    """Elements of the largest temporary of a chunked step: fits a CPU's cache, keeps a GPU busy."""
    return 2**18 if device.type == "cpu" else 2**25


@torch.no_grad()
def cluster_centers(
    offsets: Tensor,
    component_ids: Tensor,
    threshold: float = 2.5,
    area: int = 21,
    tolerance: float = 3,
    inclusive: bool = False,
) -> Centers:
    """Centres as spots where the offsets vanish: |offset| < threshold, with the area of a clean zero.

    offsets: [B, 2, H, W] pixels. component_ids: int64 [B, H, W]; a spot never crosses a component nor leaves
    the foreground. threshold: pixels. area: pixels of the spot of an exact field (21 for 2.5); a spot is kept
    when it differs by less than `tolerance` (or as much, if `inclusive`). Centres are centroids cut to whole
    pixels, score 1. BESTIE, supp. 1 and Fig. 1.
    """
    dy, dx = offsets.float().unbind(1)
    near = dy.square() + dx.square() < threshold**2
    spots, count = connected_components(component_ids.masked_fill(~near, 0), connectivity=4)
    rows = table(spots, count)
    deviation = (rows.area - area).abs()
    kept = deviation <= tolerance if inclusive else deviation < tolerance
    first = rows.first[kept]
    return Centers(
        component=component_ids.flatten()[first].long() - 1,
        image=rows.image[kept],
        position=rows.center[kept].float(),
        score=torch.ones(len(first), device=offsets.device),
        clustered=torch.ones_like(first, dtype=torch.bool),
    )


@torch.no_grad()
def merge_centers(
    peaks: Centers, clustered: Centers, heat: Tensor, min_heat: float = 0.05, min_distance: float = 100
) -> Centers:
    """Peaks, and the clustered centres that they missed.

    A clustered centre joins when heat [B, H, W] is above `min_heat` there and every peak of its component is
    more than `min_distance` pixels away. Peaks come first. BESTIE, released code.
    """
    y, x = clustered.position.long().unbind(1)
    gap = clustered.position[:, None] - peaks.position  # [clustered, peaks, 2]
    apart = gap.square().sum(-1) > min_distance**2
    free = (apart | (clustered.component[:, None] != peaks.component)).all(1)
    kept = free & (heat[clustered.image, y, x] > min_heat)
    return Centers(*(torch.cat((a, b[kept])) for a, b in zip(peaks, clustered, strict=True)))


@torch.no_grad()
def group_pixels(offsets: Tensor, component_ids: Tensor, centers: Centers) -> Tensor:
    """Give every pixel to the centre of its own component nearest to its vote, in a tie to the lowest index.

    offsets: [B, 2, H, W] pixels, any float type. component_ids: int64 [B, H, W]. Returns ids int64
    [B, H, W], 1 + index into `centers`, 0 on background and in components without a centre. Memory does not
    grow with the number of centres: below 90 bytes per pixel and one chunk. BESTIE, instance grouping.
    """
    flat_ids = component_ids.flatten()
    order = centers.component.argsort(stable=True)
    owners, sizes = centers.component[order].unique_consecutive(return_counts=True)
    begin = sizes.cumsum(0) - sizes
    last = int(owners[-1]) + 1 if len(owners) else 0
    row_of_id = flat_ids.new_full((last + 2,), len(owners))  # one row more, for all without a centre
    row_of_id[owners + 1] = torch.arange(len(owners), device=owners.device)
    rows = row_of_id.index_select(0, flat_ids.clamp_max(last + 1))
    # Most components have one centre or none, and nothing to compare.
    lone = torch.cat((torch.where(sizes == 1, order[begin] + 1, 0), sizes.new_zeros(1)))
    ids = lone.index_select(0, rows)
    crowded = torch.cat((sizes > 1, sizes.new_zeros(1).bool()))
    pixels = crowded.index_select(0, rows).nonzero()[:, 0]
    rows = rows.index_select(0, pixels)
    nearest = _nearest(_votes(offsets, pixels), rows, centers.position[order], begin, sizes)
    ids[pixels] = order.index_select(0, begin.index_select(0, rows) + nearest) + 1
    return ids.view(component_ids.shape)


def _votes(offsets: Tensor, pixels: Tensor) -> Tensor:
    """Where flat `pixels` [n] of the batch point to: float32 [2, n], (y, x)."""
    height, width = offsets.shape[-2:]
    place = torch.stack((pixels // width % height, pixels % width))
    channels = offsets.transpose(0, 1).flatten(1)  # [2, B H W]
    return channels.index_select(1, pixels).float() + place


def _nearest(votes: Tensor, rows: Tensor, positions: Tensor, begin: Tensor, sizes: Tensor) -> Tensor:
    """Which of the `sizes[r]` positions from `begin[r]` on is nearest to each vote of row r: int64 [n].

    Rows are taken by size, halving from the largest, so that padding at most doubles the work, and in chunks.
    """
    nearest = torch.zeros_like(rows)
    width = int(sizes.amax()) if len(sizes) else 0
    while width > 1:
        chosen = ((sizes > width // 2) & (sizes <= width)).nonzero()[:, 0]
        slot = torch.arange(width, device=sizes.device)
        at = (begin[chosen, None] + slot).clamp_max(len(positions) - 1)  # [rows of this class, width]
        candidates = positions[at].masked_fill((slot >= sizes[chosen, None])[..., None], torch.inf)
        candidates_y, candidates_x = (c.contiguous() for c in candidates.unbind(-1))
        place = torch.full_like(sizes, -1)
        place[chosen] = torch.arange(len(chosen), device=sizes.device)
        places = place.index_select(0, rows)
        for part in (places >= 0).nonzero()[:, 0].split(max(1, _chunk(sizes.device) // width)):
            own, vote_y, vote_x = (values.index_select(0, part) for values in (places, *votes))
            dy = vote_y[:, None] - candidates_y.index_select(0, own)
            dx = vote_x[:, None] - candidates_x.index_select(0, own)
            nearest[part] = dy.square_().add_(dx.square_()).argmin(1)
        width = int(torch.where(sizes <= width // 2, sizes, 0).amax())
    return nearest


@torch.no_grad()
def region_statistics(ids: Tensor, count: int, values: Tensor) -> RegionStatistics:
    """Mean, highest value and place of each region 1..count of `ids`, int64 [B, H, W], in `values` [B, H, W].

    Sums are float64, so that they do not depend on the order in which a GPU adds.
    """
    height, width = ids.shape[-2:]
    flat, value = ids.flatten(), values.flatten().float()
    rows = table(ids, count)
    seen = rows.area > 0
    total = torch.zeros(count + 1, dtype=torch.float64, device=ids.device)
    total = total.scatter_add_(0, flat, value.double())[1:]
    highest = torch.full((count + 1,), -torch.inf, device=ids.device).scatter_reduce_(0, flat, value, "amax")
    index = torch.arange(len(flat), device=ids.device)
    reached = torch.where(value == highest.index_select(0, flat), index, len(flat))
    first = index.new_full((count + 1,), len(flat)).scatter_reduce_(0, flat, reached, "amin")[1:]
    pixel = torch.where(seen, first, 0) % (height * width)
    return RegionStatistics(
        mean=(total / rows.area.clamp_min(1)).float(),
        max=highest[1:].masked_fill(~seen, 0),
        position=torch.stack((pixel // width, pixel % width), dim=1),
        area=rows.area,
        centroid=rows.centroid,
    )
