"""A simulated annotator: masks in, cheap labels out (points, extreme points, class maps). Pure and seeded.

Coordinates are (x, y) pixels with pixel centers at integers; every click is a pixel of its object. Extreme clicking:
Papadopoulos et al., ICCV 2017. Points: the center of the box (AttentionShift's released labels), the centroid of the
mask, or a random pixel of it (Point DETR, Chen et al., CVPR 2021).
"""

from collections.abc import Sequence
from dataclasses import replace
from typing import Literal, get_args

import numpy as np
import torch
from torch import Tensor

from wsis.core.errors import AnnotationError, ConfigError
from wsis.core.types import BACKGROUND, IGNORE, ExtremePoints, Instances, Points, Sample

PointKind = Literal["box_center", "mask_centroid", "mask_random"]


def points_from_masks(masks: Tensor, kind: PointKind, seed: int = 0, *, uniform: Tensor | None = None) -> Tensor:
    """Click once on each mask: bool [K, H, W] -> float32 [K, 2], (x, y).

    A center or centroid that lies beside its object moves to the nearest pixel of the mask. mask_random draws by `uniform`,
    float [K] in [0, 1), or else by `seed`. Raises AnnotationError for a mask without a pixel, ConfigError for an unknown
    kind.
    """
    if kind not in get_args(PointKind):
        raise ConfigError(f"points={kind!r}: choose one of {', '.join(get_args(PointKind))}")
    if kind == "box_center":
        (top, bottom), (left, right) = _extents(masks)
        return _nearest_pixel(masks, torch.stack([left + right, top + bottom], -1) / 2)
    _check_filled(masks)
    width = masks.shape[-1]
    owner, index = masks.flatten(1).nonzero().unbind(1)  # all pixels of all masks, in order
    count = owner.bincount(minlength=len(masks))
    if kind == "mask_centroid":
        sums = [owner.bincount(v.double(), minlength=len(masks)) for v in (index % width, index // width)]
        return _nearest_pixel(masks, (torch.stack(sums, -1) / count[:, None]).float())  # exact: integers below 2^53
    if uniform is None:
        uniform = torch.rand(len(masks), generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    # of each mask's n pixels in reading order, the one with number floor(u n)
    rank = torch.minimum((uniform.to(masks.device) * count).long(), count - 1)
    index = index[count.cumsum(0) - count + rank]
    return torch.stack([index % width, index // width], -1).float()


def extreme_points_from_masks(masks: Tensor) -> Tensor:
    """Return the top, left, bottom and right pixel of each mask: bool [K, H, W] -> float32 [K, 4, 2], (x, y).

    Where several pixels are equally extreme, it is the middle one (of two, the first) of their longest run (of equally
    long ones, the first), so that a click is always on the object. The parts of an object count together. Raises
    AnnotationError if a mask has no pixel.
    """
    (top, bottom), (left, right) = _extents(masks)
    k = torch.arange(len(masks), device=masks.device)
    clicks = [
        torch.stack([_middle(masks[k, top]), top], -1),
        torch.stack([left, _middle(masks[k, :, left])], -1),
        torch.stack([_middle(masks[k, bottom]), bottom], -1),
        torch.stack([right, _middle(masks[k, :, right])], -1),
    ]
    return torch.stack(clicks, 1).float()


def spans_box(extreme_points: Tensor) -> Tensor:
    """Say whether the clicks [K, 4, 2] differ in x and in y: bool [K]."""
    return (extreme_points.amax(1) > extreme_points.amin(1)).all(1)


def uniform_by_id(image_ids: Tensor, ids: Tensor, seed: int) -> Tensor:
    """Draw float64 [K] in [0, 1) by seed, image id and annotation id alone: order and subsets do not matter."""
    with np.errstate(over="ignore"):
        state = np.full(len(ids), seed, dtype=np.int64).astype(np.uint64)
        for key in (image_ids, ids):
            state = _splitmix64(state ^ _splitmix64(key.cpu().numpy().astype(np.uint64)))
    return torch.from_numpy((state >> np.uint64(11)).astype(np.float64) / 2.0**53)


def with_points(sample: Sample, kind: PointKind = "mask_random", seed: int = 0) -> Sample:
    """Give the sample a click per true object (none for crowds and empty masks); raises AnnotationError without masks."""
    truth, ids = _clickable(sample)
    uniform = uniform_by_id(torch.full_like(ids, sample.image_id), ids, seed)
    xy = points_from_masks(truth.masks, kind, uniform=uniform)
    return replace(sample, points=Points.make(xy, truth.labels, ids=truth.ids))


def with_extreme_points(sample: Sample) -> Sample:
    """Give the sample four clicks per true object (none for crowds, lines, single pixels); raises AnnotationError without
    masks.
    """
    truth, _ = _clickable(sample)
    xy = extreme_points_from_masks(truth.masks)
    spans = spans_box(xy)
    extreme_points = ExtremePoints(xy=xy[spans], labels=truth.labels[spans], ids=truth.ids[spans])
    return replace(sample, extreme_points=extreme_points)


def with_base_masks(sample: Sample, novel: Sequence[int]) -> Sample:
    """Give the sample its true class map to learn from; `novel` labels 0..C-1 and what has no class become 255, tags stay.

    Raises AnnotationError if the sample has no true class map or no tags.
    """
    if sample.true_semantic is None or sample.tags is None:
        lacking = "class map" if sample.true_semantic is None else "tags"
        raise AnnotationError(f"image {sample.image_id} has no {lacking} to learn from; give semantic/<split>")
    table = torch.arange(256, dtype=torch.uint8)
    table[[BACKGROUND, *(label + 1 for label in novel)]] = IGNORE
    return replace(sample, semantic_map=table[sample.true_semantic.long()])


def _clickable(sample: Sample) -> tuple[Instances, Tensor]:
    """Return the true objects that can be clicked, and a number for each that does not depend on the others."""
    if sample.truth is None:
        raise AnnotationError(f"image {sample.image_id} has no masks to simulate clicks from; give weak labels")
    ids = sample.truth.ids
    ids = torch.where(ids > 0, ids, torch.arange(1, len(ids) + 1, device=ids.device))
    use = ~sample.truth.crowd & sample.truth.masks.flatten(1).any(1)
    return sample.truth[use], ids[use]


def _splitmix64(x: np.ndarray) -> np.ndarray:
    """Run one round of a generator whose state is the key itself (Steele, Lea and Flood, OOPSLA 2014)."""
    x = x + np.uint64(0x9E3779B97F4A7C15)
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return x ^ (x >> np.uint64(31))


def _check_filled(masks: Tensor) -> None:
    empty = (~masks.flatten(1).any(1)).nonzero()[:, 0].tolist()
    if empty:
        raise AnnotationError(f"mask {empty[0]} of {len(masks)} has no pixel to click on; leave the object out")


def _extents(masks: Tensor) -> list[tuple[Tensor, Tensor]]:
    """Return the first and the last row, and the first and the last column, of each mask: int64 [K]."""
    _check_filled(masks)
    lines = (masks.any(2).byte(), masks.any(1).byte())
    return [(v.argmax(1), v.shape[1] - 1 - v.flip(1).argmax(1)) for v in lines]


def _middle(lines: Tensor) -> Tensor:
    """Return the middle of the longest run of True in each row of bool [K, L]; the first of two, for both."""
    index = torch.arange(lines.shape[1], device=lines.device)
    gap = torch.where(lines, -1, index).cummax(1).values  # the last False up to here
    length, end = (index - gap).max(1)
    return end - length // 2


def _nearest_pixel(masks: Tensor, xy: Tensor) -> Tensor:
    """Return the pixel of each mask nearest to its target; mostly the target itself, which is tried first."""
    k = torch.arange(len(masks), device=masks.device)
    pixel = (xy + 0.5).floor().long()
    beside = ~masks[k, pixel[:, 1], pixel[:, 0]]
    if not beside.any():
        return pixel.float()
    _, height, width = masks.shape
    dx = torch.arange(width, device=masks.device) - xy[beside, 0, None]
    dy = torch.arange(height, device=masks.device) - xy[beside, 1, None]
    distance = dy.square()[:, :, None] + dx.square()[:, None, :]
    index = distance.masked_fill(~masks[beside], torch.inf).flatten(1).argmin(1)
    pixel[beside] = torch.stack([index % width, index // width], -1)
    return pixel.float()
