"""Parts of an object as clusters of its patches (supp. Tables 1 and 2): core, seeds, shift, filter, merging, key-points.

Prototypes are [B, G, m, D]; maps of them [B, G, m, n] over n = h w patches in rows from the top left.
"""

from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import normalize

from wsis.methods.attentionshift.config import PartConfig
from wsis.methods.attentionshift.maps import resampled
from wsis.ops.patches import PatchGrid, patch_index

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


def core(foreground: Tensor, threshold: float, erosion: int, grid: PatchGrid) -> Tensor:
    """The share of each patch's center that lies well inside its object: [B, G, H, W] in [0, 1] -> fp32 [B, G, h, w]."""
    return resampled(eroded(foreground > threshold, erosion).float(), (grid.height, grid.width))


def seeds(core: Tensor, boxes: Tensor, threshold: float, count: int, grid: PatchGrid) -> Tensor:
    """Patches spread evenly over the core [B, G, h, w]: int64 [B, G, count].

    Of N patches above the threshold, in raster order, every floor(N / count)-th is a seed; fewer than `count` are repeated in
    turn; where there is none it is the patch of the box's center.
    """
    rank = (core > threshold).flatten(2).cumsum(-1)
    number = rank[..., -1:]
    stride = (number // count).clamp_min(1)
    ranks = torch.arange(count, device=core.device) * stride % number.clamp_min(1)
    center = patch_index(boxes.unflatten(-1, (2, 2)).mean(-2) - 0.5, grid)
    return torch.searchsorted(rank, ranks + 1).where(number > 0, center[..., None])


def shift(features: Tensor, seeds: Tensor, inside: Tensor, cfg: PartConfig, official: bool = False) -> Tensor:
    """Competitive mean shift in feature space: prototypes move to the patches that are theirs (official code).

    Prototype j weighs patch i by w_ji = softmax_i(cos(q_j, x_i) / (T tau_j)). Each patch belongs to the prototype with the
    largest weight, which becomes q_j, the sum of w_ji x_i over its patches, and its bandwidth tau_j the mean of 1 - cos over
    them. The length of the sum weighs the prototype in `merge`. A prototype that owns no patch is dead: zero, with bandwidth 1.

    features: [B, n, D]. seeds: int64 [B, G, m] patches. inside: bool [B, G, n], patches that take part. official: patches
    outside take part as zeros, bandwidths go down to 1e-10, and the largest fp32 weight owns, ties and all; without,
    logarithms are compared. Returns the prototypes as seeds and after each iteration [iterations + 1, B, G, m, D].
    """
    inside, unit = inside[:, :, None], normalize(features, dim=-1)
    q = features[:, None].take_along_dim(seeds[..., None], 2)
    competing = torch.ones_like(inside) if official else inside
    tau, least = q.new_full((*q.shape[:-1], 1), cfg.tau), OFFICIAL_MIN_BANDWIDTH if official else MIN_BANDWIDTH
    similarity, history = _cosine(q, unit) * inside, [q]
    for _ in range(ITERATIONS):
        logits = similarity / (cfg.temperature * tau)
        logits = logits.masked_fill(~competing, torch.finfo(logits.dtype).min)
        compared = logits.softmax(-1) if official else logits.log_softmax(-1)
        owned = _owned(compared) & competing
        weights = compared if official else compared.exp()
        q = _times(weights * (owned & inside), features)
        similarity = _cosine(q, unit) * inside
        count = owned.sum(-1, keepdim=True).clamp_min(1)
        tau = (1 - (similarity * owned).sum(-1, keepdim=True) / count).clamp_min(least)
        history.append(q)
    return torch.stack(history)


def kmeans(features: Tensor, seeds: Tensor, inside: Tensor) -> Tensor:
    """Spherical k-means (supp. Table 1, our definition), as `shift`; a center without patches stays."""
    unit = normalize(features, dim=-1)
    center = unit[:, None].take_along_dim(seeds[..., None], 2)
    history = [center]
    for _ in range(ITERATIONS):
        owned = _owned(_cosine(center, unit)) & inside[:, :, None]
        count = owned.sum(-1, keepdim=True)
        center = (_times(owned.to(unit.dtype), unit) / count.clamp_min(1)).where(count > 0, center)
        history.append(center)
    return torch.stack(history)


def _times(left: Tensor, right: Tensor) -> Tensor:
    """[B, G, m, k] @ [B, k, l] as one product per image: [B, G, m, l]."""
    return (left.flatten(1, 2) @ right).unflatten(1, left.shape[1:3])


def _direction(vectors: Tensor) -> Tensor:
    """Vectors [..., D] at length 1, however short they are: weights far from a kernel's middle are tiny; 0 stays 0."""
    largest = vectors.abs().amax(-1, keepdim=True).clamp_min(torch.finfo(vectors.dtype).tiny)
    return normalize(vectors / largest, dim=-1)


def _cosine(prototypes: Tensor, unit: Tensor) -> Tensor:
    """Cosines [B, G, m, n] of prototypes, of any length, with unit features [B, n, D]; 0 for a zero prototype."""
    return _times(_direction(prototypes), unit.mT)


def _owned(scores: Tensor) -> Tensor:
    """Whether a prototype has the largest score of a patch, the first of equals: [B, G, m, n] -> bool."""
    return scores.argmax(-2, keepdim=True) == torch.arange(scores.shape[-2], device=scores.device)[:, None]


def part_maps(prototypes: Tensor, features: Tensor) -> Tensor:
    """Cosines of parts with all patches: [B, G, m, D], [B, n, D] -> [B, G, m, n], 0 for a part that is not there."""
    return _cosine(prototypes, normalize(features, dim=-1))


def filter_parts(maps: Tensor, core: Tensor, cfg: PartConfig) -> Tensor:
    """Parts with at least 85 % of the patches above `cfg.similarity` in the core [B, G, n].

    Cosines [B, G, m, n] -> bool [B, G, m].
    """
    if not cfg.filter:
        return maps.amax(-1) > 0
    similar = (maps > cfg.similarity).float()
    number = similar.sum(-1)
    share = (similar * core[:, :, None]).sum(-1) / number.clamp_min(1)
    return (share >= MIN_INSIDE) & (number > 0)


def merge(prototypes: Tensor, present: Tensor, threshold: float, official: bool = False) -> tuple[Tensor, Tensor]:
    """Means of the prototypes [B, G, m, D] that are present and have at least this cosine with the first of their group.

    Groups form in the order of seeds, of prototypes that are in none yet, by cosines before merging. official: a prototype
    may also join groups after its first. Returns the means and whether they are present, each at its first member.
    """
    unit, count = _direction(prototypes), prototypes.shape[2]
    similar = (unit @ unit.mT >= threshold) | torch.eye(count, dtype=torch.bool, device=unit.device)
    similar = similar.triu() & present[..., None, :]
    free, groups = present.clone(), []
    for j in range(count):
        group = similar[:, :, j] & free[..., j : j + 1]
        groups.append(group if official else group & free)
        free = free & ~group
    member = torch.stack(groups, 2)
    number = member.sum(-1, keepdim=True)
    return member.to(unit.dtype) @ prototypes / number.clamp_min(1), number[..., 0] > 0


def key_points(maps: Tensor, present: Tensor, boxes: Tensor, grid: PatchGrid, most: int) -> KeyPoints:
    """The patch that is most similar to each part, by falling size, for the `most` largest parts of each object.

    Size is the number of patches above a cosine of 0.9; of equally similar patches the mean is taken; a place outside of the
    object's box is not present. maps: [B, G, m, n] of merged parts. present: bool [B, G, m]. boxes: [B, G, 4].
    """
    area = ((maps > AREA_SIMILARITY).sum(-1) + 1) * present
    part = area.sort(dim=-1, descending=True, stable=True).indices
    peak = (maps == maps.amax(-1, keepdim=True)).float()
    y, x = (torch.arange(side, device=maps.device) * grid.patch + (grid.patch - 1) / 2 for side in grid[:2])
    centers = torch.cartesian_prod(y, x).flip(1)
    xy = (peak @ centers / peak.sum(-1, keepdim=True)).take_along_dim(part[..., None], 2)
    edge = xy + 0.5
    inside = ((edge >= boxes[:, :, None, :2]) & (edge < boxes[:, :, None, 2:])).all(-1)
    visited = torch.arange(maps.shape[2], device=maps.device) < most
    return KeyPoints(xy, present.gather(-1, part) & inside & visited)
