"""Parts of an object as clusters of its patches: key-point shift, filter, merging (supp. Tables 1 and 2).

    core, seeds           where a shift may begin
    shift, kmeans         prototypes that move through the features of one box
    filter_parts, merge   prototypes that are the object's alone, and those that mean one part as one
    key_points            where each part is

Prototypes are [B, G, m, D]; maps of them [B, G, m, n] over n = h w patches in rows from the top left. All is computed
in fp32, also under autocast, or in fp64 where features are.
"""

from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import normalize

from wsis.methods.attentionshift.config import PartConfig
from wsis.methods.attentionshift.maps import resized
from wsis.ops.patches import patch_index, rows_at

ITERATIONS = 10  # shifts of the prototypes (official code)
MIN_BANDWIDTH, OFFICIAL_MIN_BANDWIDTH = 1e-3, 1e-10  # with the first, kernels of one patch stay within fp32
MIN_INSIDE = 0.85  # of a part's patches lie in the core of its object (official code)
AREA_SIMILARITY = 0.9  # the cosine above which a patch counts for the area of a part (official code)


class KeyPoints(NamedTuple):
    """One place for each part of each object: xy fp32 [B, G, m, 2] pixels; present bool [B, G, m]."""

    xy: Tensor
    present: Tensor


def eroded(mask: Tensor, window: int) -> Tensor:
    """Pixels of bool [..., H, W] whose window x window surroundings are in the mask, as is what lies beyond the border."""
    for dim in (-2, -1):
        before, side = mask, mask.shape[dim]
        mask = mask.clone()
        for offset in range(1, min(window // 2, side - 1) + 1):
            mask.narrow(dim, 0, side - offset).logical_and_(before.narrow(dim, offset, side - offset))
            mask.narrow(dim, offset, side - offset).logical_and_(before.narrow(dim, 0, side - offset))
    return mask


@torch.no_grad()
def core(foreground: Tensor, threshold: float, erosion: int, patch: int) -> Tensor:
    """The share of each patch's center that lies well inside its object: [B, G, H, W] in [0, 1] -> fp32 [B, G, h, w]."""
    inside = eroded(foreground > threshold, erosion).float()
    return resized(inside, (inside.shape[-2] // patch, inside.shape[-1] // patch))


@torch.no_grad()
def seeds(core: Tensor, boxes: Tensor, threshold: float, count: int, patch: int) -> Tensor:
    """Patches spread evenly over the order of the core's patches: int64 [B, G, count]. core: [B, G, h, w].

    Of N patches above the threshold, in raster order, every floor(N / count)-th is a seed; fewer than `count` are repeated in
    turn; where there is none it is the patch of the box's center.
    """
    rank = (core > threshold).flatten(2).cumsum(-1)
    number = rank[..., -1:]
    stride = (number // count).clamp_min(1)
    ranks = torch.arange(count, device=core.device) * stride % number.clamp_min(1)
    center = patch_index(boxes.unflatten(-1, (2, 2)).mean(-2) - 0.5, (core.shape[2], core.shape[3]), patch)
    return torch.searchsorted(rank, ranks + 1).where(number > 0, center[..., None])


@torch.no_grad()
def shift(
    features: Tensor,
    seeds: Tensor,
    inside: Tensor,
    cfg: PartConfig,
    official: bool = False,
    iterations: int = ITERATIONS,
) -> Tensor:
    r"""Competitive mean shift in feature space: prototypes move to the patches that are theirs (official code).

    Prototype j weighs patch i by :math:`w_{ji} = \mathrm{softmax}_i(\cos(q_j, x_i) / (T \tau_j))`. Each patch belongs to the
    prototype with the largest weight, which becomes :math:`q_j = \sum_{i \in j} w_{ji} x_i`, and its bandwidth :math:`\tau_j`
    the mean of 1 - cos over its patches. The sum is not normalised: its length weighs the prototype in `merge`. A prototype
    that owns no patch is dead: zero, with bandwidth 1.

    features: [B, n, D]. seeds: int64 [B, G, m] patches. inside: bool [B, G, n], patches that take part. official: patches
    outside take part as zeros, bandwidths go down to 1e-10, and the largest fp32 weight owns, ties and all; without,
    logarithms are compared. Returns the prototypes as seeds and after each iteration [iterations + 1, B, G, m, D].
    """
    x, inside = _at_least_fp32(features), inside[:, :, None]
    takes_part = torch.ones_like(inside) if official else inside
    unit, q = normalize(x, dim=-1), rows_at(x, seeds)
    tau, least = x.new_full((*q.shape[:-1], 1), cfg.tau), OFFICIAL_MIN_BANDWIDTH if official else MIN_BANDWIDTH
    similarity, history = _cosine(q, unit) * inside, [q]
    for _ in range(iterations):
        logits = similarity / (cfg.temperature * tau)
        logits = logits.masked_fill(~takes_part, torch.finfo(logits.dtype).min)
        compared = logits.softmax(-1) if official else logits.log_softmax(-1)
        owned = _owned(compared) & takes_part
        weights = compared if official else compared.exp()
        q = _times(weights * (owned & inside), x)
        similarity = _cosine(q, unit) * inside
        count = owned.sum(-1, keepdim=True).clamp_min(1)
        tau = (1 - (similarity * owned).sum(-1, keepdim=True) / count).clamp_min(least)
        history.append(q)
    return torch.stack(history)


@torch.no_grad()
def kmeans(features: Tensor, seeds: Tensor, inside: Tensor, iterations: int = ITERATIONS) -> Tensor:
    """Spherical k-means (supp. Table 1, our definition); arguments and result are as for `shift`.

    Each patch belongs to the center with the largest cosine; a center becomes the mean of the unit features of its patches and
    stays where it has none.
    """
    unit = normalize(_at_least_fp32(features), dim=-1)
    center = rows_at(unit, seeds)
    history = [center]
    for _ in range(iterations):
        owned = _owned(_cosine(center, unit)) & inside[:, :, None]
        count = owned.sum(-1, keepdim=True)
        center = (_times(owned.to(unit.dtype), unit) / count.clamp_min(1)).where(count > 0, center)
        history.append(center)
    return torch.stack(history)


def _at_least_fp32(x: Tensor) -> Tensor:
    return x.to(torch.promote_types(x.dtype, torch.float32))


def _times(left: Tensor, right: Tensor) -> Tensor:
    """[B, G, m, k] @ [B, k, l] as one product per image, in fp32 under autocast too: [B, G, m, l]."""
    with torch.autocast(left.device.type, enabled=False):
        return (left.flatten(1, 2) @ right).unflatten(1, left.shape[1:3])


def _cosine(prototypes: Tensor, unit: Tensor) -> Tensor:
    """Cosines [B, G, m, n] of prototypes, of any length, with unit features [B, n, D]; 0 for a zero prototype."""
    return _times(_direction(prototypes), unit.mT)


def _direction(vectors: Tensor) -> Tensor:
    """Vectors [..., D] at length 1, however short they are: weights far from a kernel's middle are tiny; 0 stays 0."""
    largest = vectors.abs().amax(-1, keepdim=True).clamp_min(torch.finfo(vectors.dtype).tiny)
    return normalize(vectors / largest, dim=-1)


def _owned(scores: Tensor) -> Tensor:
    """Whether a prototype has the largest score of a patch, the first of equals: [B, G, m, n] -> bool."""
    number = torch.arange(scores.shape[-2], device=scores.device)
    return scores.argmax(-2, keepdim=True) == number[:, None]


@torch.no_grad()
def part_maps(prototypes: Tensor, features: Tensor) -> Tensor:
    """Cosines of parts with all patches, negative ones as 0: [B, G, m, D], [B, n, D] -> [B, G, m, n] in [0, 1]."""
    return _cosine(_at_least_fp32(prototypes), normalize(_at_least_fp32(features), dim=-1)).clamp(0, 1)


@torch.no_grad()
def filter_parts(maps: Tensor, core: Tensor, cfg: PartConfig) -> Tensor:
    """Parts with at least 85 % of the patches above `cfg.similarity` in the core [B, G, n]: [B, G, m, n] -> bool [B, G, m]."""
    if not cfg.filter:
        return maps.amax(-1) > 0
    similar = (maps > cfg.similarity).float()
    number = similar.sum(-1)
    return ((similar * core[:, :, None]).sum(-1) / number.clamp_min(1) >= MIN_INSIDE) & (number > 0)


@torch.no_grad()
def merge(prototypes: Tensor, present: Tensor, threshold: float, official: bool = False) -> tuple[Tensor, Tensor]:
    """Means of the prototypes that are present and whose cosine with the first of their group is at least `threshold`.

    Groups form in the order of seeds, of prototypes that are in none yet, by cosines before merging; means keep the
    prototypes' lengths. official: a prototype may also join groups after its first. prototypes: [B, G, m, D]. present: bool
    [B, G, m]. Returns the same; each group stands at its first member, and what stands elsewhere is zero and not present.
    """
    q = _at_least_fp32(prototypes)
    unit = _direction(q)
    with torch.autocast(q.device.type, enabled=False):
        similar = unit @ unit.mT >= threshold
    similar = (similar | torch.eye(q.shape[2], dtype=torch.bool, device=q.device)).triu() & present[..., None, :]
    free, groups = present.clone(), []
    for j in range(q.shape[2]):
        group = similar[:, :, j] & free[..., j : j + 1]
        groups.append(group if official else group & free)
        free = free & ~group
    member = torch.stack(groups, 2)
    number = member.sum(-1, keepdim=True)
    with torch.autocast(q.device.type, enabled=False):
        return member.to(q.dtype) @ q / number.clamp_min(1), number[..., 0] > 0


@torch.no_grad()
def key_points(maps: Tensor, present: Tensor, boxes: Tensor, grid: tuple[int, int], patch: int, most: int) -> KeyPoints:
    """The patch that is most similar to each part, by falling size, for the `most` largest parts of each object.

    Size is the number of patches above a cosine of 0.9; of equally similar patches the mean is taken; a place outside of the
    object's box is not present. maps: [B, G, m, n] of merged parts. present: bool [B, G, m]. boxes: [B, G, 4]. grid: (h, w).
    """
    area = ((maps > AREA_SIMILARITY).sum(-1) + 1) * present
    part = area.sort(dim=-1, descending=True, stable=True).indices
    peak = (maps == maps.amax(-1, keepdim=True)).float()
    y, x = (torch.arange(side, device=maps.device) * patch + (patch - 1) / 2 for side in grid)
    places = torch.stack([x.repeat(grid[0]), y.repeat_interleave(grid[1])], -1)
    with torch.autocast(maps.device.type, enabled=False):
        xy = peak @ places / peak.sum(-1, keepdim=True)
    xy = xy.gather(2, part[..., None].expand(-1, -1, -1, 2))
    edge = xy + 0.5
    inside = ((edge >= boxes[:, :, None, :2]) & (edge < boxes[:, :, None, 2:])).all(-1)
    visited = torch.arange(maps.shape[2], device=maps.device) < most
    return KeyPoints(xy, present.gather(-1, part) & inside & visited)


@torch.no_grad()
def part_extents(maps: Tensor, present: Tensor, core: Tensor, similarity: float, patch: int) -> KeyPoints:
    """Centers of the top, left, bottom and right-most patches of each part within the core, 4 m per object (ours)."""
    height, width = core.shape[-2:]
    area = (maps > similarity) & (core > 0).flatten(2)[:, :, None] & present[..., None]
    index = torch.arange(height * width, device=maps.device)
    y, x = (index // width).expand(area.shape), (index % width).expand(area.shape)
    # Any of several patches that are equally far out.
    ends = [torch.where(area, key, height + width).argmin(-1) for key in (y, x, -y, -x)]
    outermost = torch.stack(ends, -1).flatten(2)
    xy = torch.stack([outermost % width, outermost // width], -1) * patch + (patch - 1) / 2
    return KeyPoints(xy, area.any(-1)[..., None].expand(*present.shape, 4).flatten(2))
