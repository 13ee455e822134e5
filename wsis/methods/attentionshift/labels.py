"""AttentionShift's labels: from one click per object to a box, maps of object and background, and points to learn from.

    official code                  match_tokens: the token that stands for a click
    supp. Sec. 2, official code    find_candidates: one box of each layer's attention from that token
    supp. Fig. 3                   find_labels: the chosen box, its map refined by cosine similarity, parts, key-points
    supp. Table 2                  point_targets, mask_targets: what supervises the mask head

Objects are padded to the largest number in the batch, G; `PaddedPoints.present` says which exist. All is fp32, without
gradient.
"""

from dataclasses import dataclass, field, replace
from typing import NamedTuple

import torch
from torch import Tensor

from wsis.core.types import Points
from wsis.data.masks import box_pixels
from wsis.methods.attentionshift import parts
from wsis.methods.attentionshift.config import AttentionShiftConfig, TokenConfig
from wsis.methods.attentionshift.maps import BACKGROUND, FOREGROUND, boxes_from_maps, cosine_maps, enlarged, min_max
from wsis.ops.matching import assign
from wsis.ops.patches import box_patches
from wsis.ops.rollout import rollout_rows

# Of the focal loss of the tokens' classes, and of the cost of matching that follows it (official code).
FOCAL_ALPHA, FOCAL_GAMMA = 0.25, 2.0
# The weight of the distance, in image sides, beside that of the class in the cost of matching (official code).
PLACE_COST = 10.0
# The share of the box's maximum above which the background map is sure (official config).
NEGATIVE = 0.8


class PaddedPoints(NamedTuple):
    """The points of a batch, padded: xy [B, G, 2] pixels, labels and ids long [B, G], present bool [B, G]."""

    xy: Tensor
    labels: Tensor
    ids: Tensor
    present: Tensor


class PixelTargets(NamedTuple):
    """Labeled pixels of each object: xy [B, G, Q, 2], target bool [B, G, Q], counts bool [B, G, Q] (False: padding)."""

    xy: Tensor
    target: Tensor
    counts: Tensor


@dataclass(frozen=True, kw_only=True)
class Labels:
    """Labels of the objects of a batch.

    boxes: [B, G, 4] half-open. chosen: long [B, G], which layer's candidate. attention, foreground, background: [B, G, H, W]
    in [0, 1]. key_points: None for the baseline. extremes: None unless `mask.extreme` asks for them. steps: intermediate
    results.
    """

    boxes: Tensor
    chosen: Tensor
    attention: Tensor
    foreground: Tensor
    background: Tensor
    key_points: parts.KeyPoints | None = None
    extremes: parts.KeyPoints | None = None
    steps: dict[str, Tensor] = field(default_factory=dict)


def pad_points(points: Points, images: int) -> PaddedPoints:
    """The points of a batch of `images`, padded to the largest number in one of them."""
    count = torch.bincount(points.image, minlength=images)
    most = int(count.max()) if len(points) else 0
    order = points.image.argsort(stable=True)
    place = torch.arange(len(points), device=order.device) - (count.cumsum(0) - count)[points.image[order]]
    index = (points.image[order], place)

    def padded(values: Tensor) -> Tensor:
        return values.new_zeros(images, most, *values.shape[1:]).index_put_(index, values[order])

    present = torch.arange(most, device=count.device) < count[:, None]
    return PaddedPoints(padded(points.xy), padded(points.labels), padded(points.ids), present)


@torch.no_grad()
def match_tokens(logits: Tensor, places: Tensor, targets: PaddedPoints, sizes: Tensor) -> Tensor:
    """The token of each point: one-to-one, least cost of class and place; long [B, G], -1 where there is no point.

    logits: [B, P, C]. places: [B, P, 2] in (0, 1). sizes: [B, 2], (width, height) of the image without padding. Raises
    ConfigError where an image has more points than there are tokens.
    """
    probability = logits.detach().float().sigmoid()
    positive = FOCAL_ALPHA * (1 - probability) ** FOCAL_GAMMA * -(probability + 1e-12).log()
    negative = (1 - FOCAL_ALPHA) * probability**FOCAL_GAMMA * -(1 - probability + 1e-12).log()
    class_cost = (positive - negative).take_along_dim(targets.labels[:, None], 2)  # [B, P, G]
    distance = torch.cdist(places.detach().float(), targets.xy / sizes[:, None], p=1)
    return assign(class_cost + PLACE_COST * distance, targets.present)


@torch.no_grad()
def find_candidates(
    layers: list[tuple[Tensor, Tensor]],
    tokens: Tensor,
    points: PaddedPoints,
    grid: tuple[int, int],
    cfg: AttentionShiftConfig,
    patch: int,
) -> tuple[Tensor, Tensor]:
    """The attention of each point's token, rolled out over the last 1..K layers, and a box of each map.

    layers: see `Encoded`. tokens: long [B, G], from `match_tokens`. Returns maps [B, K, G, h, w] and boxes [B, K, G, 4].
    """
    n = grid[0] * grid[1]
    maps = rollout_rows(layers, tokens.clamp(min=0) + 1 + n)[..., 1 : 1 + n].unflatten(-1, grid)
    xy = points.xy[:, None].expand(-1, maps.shape[1], -1, -1)
    large = enlarged(maps, patch, cfg.boxes.step)
    boxes = boxes_from_maps(large.flatten(0, 2), xy.flatten(0, 2), cfg.boxes, patch)
    return maps, boxes.view(*maps.shape[:3], 4)


@torch.no_grad()
def find_labels(
    features: Tensor,
    maps: Tensor,
    boxes: Tensor,
    chosen: Tensor,
    clicks: PaddedPoints,
    valid: Tensor,
    cfg: AttentionShiftConfig,
    patch: int,
    generator: torch.Generator | None = None,
) -> Labels:
    """The labels of all objects. maps, boxes: from `find_candidates`. chosen: long [B, G] of them. valid: bool [B, h, w]."""
    with torch.autocast(features.device.type, enabled=False):
        features = features.detach().float()
        index = chosen[:, None, :, None, None]
        attention = min_max(enlarged(maps.take_along_dim(index, 1)[:, 0], patch))
        boxes = boxes.take_along_dim(index[..., 0], 1)[:, 0]
        labels = Labels(boxes=boxes, chosen=chosen, attention=attention, foreground=attention, background=1 - attention)
        if not cfg.refine:
            return labels
        foreground, background, cosine = cosine_maps(
            features, attention, clicks.xy, boxes, clicks.present, valid, generator
        )
        labels = replace(labels, foreground=foreground, background=background, steps={"cosine": cosine})
        return labels if cfg.parts.shift == "none" else find_parts(features, labels, cfg, patch)


def find_parts(features: Tensor, labels: Labels, cfg: AttentionShiftConfig, patch: int) -> Labels:
    """Labels with the key-points of each object: seeds in its core, shifted, filtered, merged (supp. Table 1).

    Steps: core [B, G, h, w]; prototypes [iterations + 1, B, G, m, D]; filtered bool [B, G, m], those that pass the filter;
    part_maps [B, G, m, n] of the merged ones, and merged bool [B, G, m]; key_points and their presence.
    """
    p, grid, official = cfg.parts, (features.shape[2], features.shape[3]), cfg.compat == "official"
    boxes = labels.boxes
    inner = parts.core(labels.foreground, p.core, p.erosion, patch)
    start = parts.seeds(inner, boxes, p.core, p.seeds, patch)
    tokens, inside = features.flatten(2).mT, box_patches(boxes, grid, patch)
    if p.shift == "kmeans":
        in_core = (inner.flatten(2) > p.core) & inside
        prototypes = parts.kmeans(tokens, start, torch.where(in_core.any(-1, keepdim=True), in_core, inside))
    else:
        prototypes = parts.shift(tokens, start, inside, p, official)
    filtered = parts.filter_parts(parts.part_maps(prototypes[-1], tokens), inner.flatten(2), p)
    means, merged = parts.merge(prototypes[-1], filtered, p.merge, official)
    maps = parts.part_maps(means, tokens)
    points = parts.key_points(maps, merged, boxes, grid, patch, p.max_key_points)
    steps = {"core": inner, "prototypes": prototypes, "filtered": filtered, "part_maps": maps, "merged": merged}
    steps = labels.steps | steps | {"key_points": points.xy, "key_points_present": points.present}
    extremes = None
    if cfg.mask.extreme == "part_extent":
        extremes = parts.part_extents(maps, merged, inner, p.similarity, patch)
    return replace(labels, key_points=points, extremes=extremes, steps=steps)


@torch.no_grad()
def with_key_points(clicks: PaddedPoints, points: parts.KeyPoints | None, cfg: TokenConfig) -> PaddedPoints:
    """Clicks and at most `cfg.max_key_points` random key-points of each image as targets of the tokens (the feedback)."""
    if points is None or not cfg.feedback or not points.present.shape[1]:
        return clicks
    present = (points.present & clicks.present[..., None]).flatten(1)
    room = min(cfg.max_key_points, present.shape[1], max(0, cfg.count - clicks.present.shape[1]))
    index = torch.where(present, torch.rand_like(present, dtype=torch.float32), -1).topk(room, 1).indices
    labels = clicks.labels[..., None].expand_as(points.present).flatten(1).take_along_dim(index, 1)
    return PaddedPoints(
        torch.cat([clicks.xy, points.xy.flatten(1, 2).take_along_dim(index[..., None], 1)], 1),
        torch.cat([clicks.labels, labels], 1),
        torch.cat([clicks.ids, torch.zeros_like(labels)], 1),
        torch.cat([clicks.present, present.take_along_dim(index, 1)], 1),
    )


@torch.no_grad()
def point_targets(
    labels: Labels, clicks: PaddedPoints, cfg: AttentionShiftConfig, generator: torch.Generator | None = None
) -> PixelTargets:
    """Pixels that surely are object, or surely not: what "point" supervision gives the mask head (supp. Table 2).

    The baseline samples both kinds from the attention within the box, AttentionShift from its maps. There the key-points
    replace the object's pixels; an object without key-points keeps these, and its click (the release: background only).
    """
    inside, mask = box_pixels(labels.boxes, labels.foreground.shape[-2:]), cfg.mask
    if not cfg.refine:
        lowest = torch.where(inside, labels.attention, torch.inf).amin((-2, -1), keepdim=True)
        raw = min_max(torch.where(inside, labels.attention, lowest))  # of the range within the box
        positive, negative = inside & (raw > mask.raw_positive), inside & (raw < mask.raw_negative)
        return _sampled(positive, negative, clicks, mask.raw_points, generator)
    high = labels.foreground > mask.positive * _peak(labels.foreground, inside)
    positive = parts.eroded(high | ~inside, mask.erosion)  # the border of the box does not erode
    negative = inside & (labels.background > NEGATIVE * _peak(labels.background, inside))
    sampled = _sampled(positive & inside, negative, clicks, mask.points, generator)
    if labels.key_points is None:
        return sampled
    with_parts = labels.key_points.present.any(-1, keepdim=True)
    groups = [sampled._replace(counts=sampled.counts & ~(sampled.target & with_parts))]
    for points in (labels.key_points, parts.KeyPoints(clicks.xy[:, :, None], ~with_parts), labels.extremes):
        if points is not None:
            counts = points.present & clicks.present[..., None]
            groups.append(PixelTargets(points.xy, torch.ones_like(counts), counts))
    return PixelTargets(*(torch.cat(fields, 2) for fields in zip(*groups, strict=True)))


def _peak(maps: Tensor, inside: Tensor) -> Tensor:
    """The largest value within the box: [B, G, 1, 1]."""
    return torch.where(inside, maps, 0).amax((-2, -1), keepdim=True)


def _sampled(
    positive: Tensor, negative: Tensor, clicks: PaddedPoints, count: int, generator: torch.Generator | None
) -> PixelTargets:
    """`count` pixels of the union of two masks [B, G, H, W] at random; all of them where there are fewer."""
    either = (positive | negative).flatten(2)
    chance = torch.rand(either.shape, generator=generator, device=either.device)
    key, index = torch.where(either, chance, -1).topk(min(count, either.shape[-1]), -1)
    target = positive.flatten(2).take_along_dim(index, -1)
    width = positive.shape[-1]
    xy = torch.stack([index % width, index // width], -1).float()
    return PixelTargets(xy, target, (key >= 0) & clicks.present[..., None])


@torch.no_grad()
def mask_targets(labels: Labels, cfg: AttentionShiftConfig) -> tuple[Tensor, Tensor]:
    """Pseudo masks and where they count, bool [B, G, H, W]: what "mask" supervision gives the mask head (supp. Table 2).

    Within the box, the baseline's are attention from .2 of its range on, where .1 to .2 does not count; AttentionShift's are
    foreground above `mask.positive` of its maximum.
    """
    inside = box_pixels(labels.boxes, labels.foreground.shape[-2:])
    if not cfg.refine:
        masks = inside & (labels.attention >= FOREGROUND)
        return masks, ~inside | masks | (labels.attention < BACKGROUND)
    largest = labels.foreground.amax((-2, -1), keepdim=True)
    masks = inside & (labels.foreground > cfg.mask.positive * largest)
    return masks, torch.ones_like(masks)
