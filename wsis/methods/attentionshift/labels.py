"""AttentionShift's labels: from one click per object to a box, maps of object and background, and points to learn from.

    match_tokens      the token that stands for a click (official code)
    find_candidates   one box of each layer's attention from that token (supp. Sec. 2, official code)
    find_labels       the chosen box, its map refined by cosine similarity, parts, key-points (supp. Fig. 3)

Objects are padded to the largest number in the batch, G; `PaddedPoints.present` says which exist. All is fp32, without
gradient. What is drawn at random follows torch's seed.
"""

from dataclasses import dataclass, field, replace

import torch
from torch import Tensor
from torchvision.ops import masks_to_boxes

from wsis.data.masks import box_pixels
from wsis.methods.attentionshift import parts
from wsis.methods.attentionshift.config import AttentionShiftConfig, TokenConfig
from wsis.methods.attentionshift.maps import (
    BACKGROUND,
    FOREGROUND,
    PaddedPoints,
    at_pixels,
    boxes_from_maps,
    cosine_maps,
    framed,
    grid_of,
    min_max,
)
from wsis.methods.attentionshift.model import Encoded
from wsis.ops.losses import FOCAL_ALPHA
from wsis.ops.matching import assign
from wsis.ops.patches import box_patches
from wsis.ops.rollout import rollout_rows

PLACE_COST = 10.0  # of the distance, in image sides, beside that of the class in the cost of matching (official code)
NEGATIVE = 0.8  # of the box's maximum: above it the background map is sure (official config)
# The baseline's points of each object, and the shares of the range within its box from which and up to which they are sure.
RAW_POINTS, RAW_POSITIVE, RAW_NEGATIVE = 20, 0.2, 0.05  # (official code)


@dataclass(frozen=True, kw_only=True)
class Labels:
    """Labels of the objects of a batch."""

    boxes: Tensor  # [B, G, 4] half-open
    chosen: Tensor  # long [B, G], which layer's candidate
    attention: Tensor  # maps [B, G, H, W] in [0, 1]
    foreground: Tensor
    background: Tensor
    key_points: parts.KeyPoints | None = None  # None for the baseline
    steps: dict[str, Tensor] = field(default_factory=dict)  # intermediate results


@torch.no_grad()
def match_tokens(
    logits: Tensor,  # [B, P, C]
    places: Tensor,  # [B, P, 2] in (0, 1)
    targets: PaddedPoints,
    extents: Tensor,  # [B, 2], (width, height) of the image without padding
) -> Tensor:
    """The token of each point: one-to-one, least cost of class and place.

    Long [B, G], -1 where there is no point. Raises ConfigError where an image has more
    points than there are tokens.
    """
    p = logits.float().sigmoid()
    positive = FOCAL_ALPHA * (1 - p).square() * -(p + 1e-12).log()
    negative = (1 - FOCAL_ALPHA) * p.square() * -(1 - p + 1e-12).log()
    class_cost = (positive - negative).take_along_dim(targets.labels[:, None], 2)
    distance = torch.cdist(places.float(), targets.xy / extents[:, None], p=1)  # [B, P, G]
    return assign(class_cost + PLACE_COST * distance, targets.present)


Candidates = tuple[Tensor, Tensor]
"""Maps of K layers [B, K, G, h, w], and a box of each [B, K, G, 4]."""


@torch.no_grad()
def find_candidates(
    encoded: Encoded,
    tokens: Tensor,  # as `match_tokens` returns them
    clicks: PaddedPoints,
    valid: Tensor,  # bool [B, H, W], False on padding
    cfg: AttentionShiftConfig,
) -> Candidates:
    """The attention of each click's token over the last 1..K layers, and a box of each."""
    height, width, patch = encoded.grid
    n, frame = height * width, framed(valid, encoded.grid)[:, None, None]
    rows = rollout_rows(encoded.layers, tokens.clamp(min=0) + 1 + n)
    maps = rows[..., 1 : 1 + n].unflatten(-1, (height, width))
    maps = maps.where(frame, maps.where(frame, torch.inf).amin((-2, -1), keepdim=True))
    sides = patch * torch.cat([frame.any(dim).sum(-1) for dim in (-2, -1)], -1)  # [B, 1, 2]
    image, row = clicks.present.nonzero(as_tuple=True)  # of N objects, without padding
    large = at_pixels(maps[image, :, row], patch)  # [N, K, H, W]
    xy = clicks.xy[image, row, None].expand(-1, large.shape[1], -1)
    sizes = sides[image].float().expand_as(xy)
    flat, at, sizes = (x.flatten(0, 1) for x in (large, xy, sizes))
    found = boxes_from_maps(flat, at, sizes, cfg.boxes, patch)
    boxes = maps.new_zeros(*maps.shape[:3], 4)
    boxes[image, :, row] = found.view(*large.shape[:2], 4)
    return maps, boxes


@torch.no_grad()
def find_labels(
    encoded: Encoded, found: Candidates, chosen: Tensor, clicks: PaddedPoints, valid: Tensor, cfg: AttentionShiftConfig
) -> Labels:
    """The labels of all objects, from the one that is `chosen`, long [B, G], of what was found. valid: bool [B, H, W]."""
    with torch.autocast(valid.device.type, enabled=False):
        features = encoded.features.float() * framed(valid, encoded.grid)[:, None]  # nothing is similar to the others
        index = chosen[:, None, :, None]
        maps, boxes = (c.flatten(3).take_along_dim(index, 1)[:, 0] for c in found)
        attention = min_max(at_pixels(maps.unflatten(-1, encoded.grid[:2]), encoded.grid.patch))
        labels = Labels(boxes=boxes, chosen=chosen, attention=attention, foreground=attention, background=1 - attention)
        if not cfg.refine:
            return labels
        foreground, background, cosine = cosine_maps(features, attention, clicks, boxes, valid)
        labels = replace(labels, foreground=foreground, background=background, steps={"cosine": cosine})
        return labels if cfg.parts.shift == "none" else find_parts(features, labels, cfg)


@torch.no_grad()
def true_boxes(boxes: Tensor, masks: Tensor) -> Tensor:
    """Boxes [B, K, G, 4], those of objects whose true masks, bool [B, G, H, W], have a pixel replaced by the true ones."""
    known = masks.flatten(2).any(-1)
    bounds = boxes.new_zeros(*known.shape, 4)
    bounds[known] = masks_to_boxes(masks[known]) + boxes.new_tensor([0, 0, 1, 1])
    return bounds[:, None].where(known[:, None, :, None], boxes)


@torch.no_grad()
def true_labels(labels: Labels, masks: Tensor) -> Labels:
    """True boxes and masks, bool [B, G, H, W], in place of estimates; an object without a pixel keeps its own."""
    known, maps = masks.flatten(2).any(-1)[..., None, None], masks.float()
    attention, foreground = (maps.where(known, m) for m in (labels.attention, labels.foreground))
    background, boxes = (1 - maps).where(known, labels.background), true_boxes(labels.boxes[:, None], masks)[:, 0]
    found = {"attention": attention, "foreground": foreground, "background": background}
    return replace(labels, boxes=boxes, key_points=None, **found)


@torch.no_grad()
def find_parts(features: Tensor, labels: Labels, cfg: AttentionShiftConfig) -> Labels:
    """Labels with the key-points of each object: seeds in its core, shifted, filtered, merged (supp. Table 1).

    Steps: core [B, G, h, w]; prototypes [iterations + 1, B, G, m, D]; filtered bool [B, G, m], those that pass the filter;
    part_maps [B, G, m, n] of the merged ones, and merged bool [B, G, m]; key_points and their presence.
    """
    p, official, boxes, grid = cfg.parts, cfg.compat == "official", labels.boxes, grid_of(features, labels.foreground)
    core = parts.core(labels.foreground, p.core, p.erosion, grid)
    start = parts.seeds(core, boxes, p.core, p.seeds, grid)
    tokens, inside = features.flatten(2).mT, box_patches(boxes, grid)
    if p.shift == "kmeans":
        in_core = (core.flatten(2) > p.core) & inside
        prototypes = parts.kmeans(tokens, start, torch.where(in_core.any(-1, keepdim=True), in_core, inside))
    else:
        prototypes = parts.shift(tokens, start, inside, p, official)
    filtered = parts.filter_parts(parts.part_maps(prototypes[-1], tokens), core.flatten(2), p)
    means, merged = parts.merge(prototypes[-1], filtered, p.merge, official)
    maps = parts.part_maps(means, tokens)
    points = parts.key_points(maps, merged, boxes, grid, p.max_key_points)
    steps = {"core": core, "prototypes": prototypes, "filtered": filtered, "part_maps": maps, "merged": merged}
    steps |= {"key_points": points.xy, "key_points_present": points.present}
    return replace(labels, key_points=points, steps=labels.steps | steps)


@torch.no_grad()
def with_key_points(clicks: PaddedPoints, points: parts.KeyPoints | None, cfg: TokenConfig) -> PaddedPoints:
    """Clicks and at most `cfg.max_key_points` random key-points of each image as targets of the tokens (the feedback)."""
    if points is None or not cfg.feedback or not points.present.shape[1]:
        return clicks
    present = (points.present & clicks.present[..., None]).flatten(1)
    room = min(cfg.max_key_points, present.shape[1], cfg.count)
    index = torch.where(present, torch.rand_like(present, dtype=torch.float32), -1).topk(room, 1).indices
    free = torch.arange(room, device=index.device) < cfg.count - clicks.present.sum(1, keepdim=True)
    xy, labels = points.xy.flatten(1, 2), clicks.labels[..., None].expand_as(points.present).flatten(1)
    chosen = xy.take_along_dim(index[..., None], 1), labels.take_along_dim(index, 1)
    more = PaddedPoints(*chosen, torch.zeros_like(index), present.take_along_dim(index, 1) & free)
    return PaddedPoints(*(torch.cat(pair, 1) for pair in zip(clicks, more, strict=True)))


@torch.no_grad()
def point_targets(labels: Labels, clicks: PaddedPoints, cfg: AttentionShiftConfig) -> tuple[Tensor, Tensor, Tensor]:
    """Pixels that surely are object, or surely not: what "point" supervision gives the mask head (supp. Table 2).

    Returns their xy [B, G, Q, 2], whether they are object, bool [B, G, Q], and whether they count; the others are padding.
    The baseline samples both kinds from the attention within the box, AttentionShift from its maps. There the key-points
    replace the object's pixels; an object without key-points keeps these, and its click (the release: background only).
    """
    inside, mask = box_pixels(labels.boxes, labels.foreground.shape[-2:]), cfg.mask
    if not cfg.refine:
        lowest = torch.where(inside, labels.attention, torch.inf).amin((-2, -1), keepdim=True)
        raw = min_max(torch.where(inside, labels.attention, lowest))  # of the range within the box
        return _sampled(inside & (raw > RAW_POSITIVE), inside & (raw < RAW_NEGATIVE), clicks, RAW_POINTS)
    foreground, background = (torch.where(inside, m, 0) for m in (labels.foreground, labels.background))
    high = _above(foreground, mask.positive) | ~inside  # the border of the box does not erode
    positive = parts.eroded(high, mask.erosion) & inside
    sampled = _sampled(positive, _above(background, NEGATIVE), clicks, mask.points)
    if labels.key_points is None:
        return sampled
    with_parts = labels.key_points.present.any(-1, keepdim=True)
    objects = [labels.key_points, parts.KeyPoints(clicks.xy[:, :, None], ~with_parts)]
    xy, target, counts = sampled
    groups = [(xy, target, counts & ~(target & with_parts))]
    groups += [(p.xy, torch.ones_like(p.present), p.present & clicks.present[..., None]) for p in objects]
    xy, target, counts = (torch.cat(fields, 2) for fields in zip(*groups, strict=True))
    return xy, target, counts


def _above(maps: Tensor, share: float) -> Tensor:
    """Where maps [..., H, W] are above a share of their largest value."""
    return maps > share * maps.amax((-2, -1), keepdim=True)


def _sampled(positive: Tensor, negative: Tensor, clicks: PaddedPoints, count: int) -> tuple[Tensor, Tensor, Tensor]:
    """As `point_targets`: `count` pixels at random of two masks [B, G, H, W]; all of them where there are fewer."""
    either, width = (positive | negative).flatten(2), positive.shape[-1]
    chance = torch.rand(either.shape, device=either.device)
    key, index = torch.where(either, chance, -1).topk(min(count, either.shape[-1]), -1)
    target = positive.flatten(2).take_along_dim(index, -1)
    xy = torch.stack([index % width, index // width], -1).float()
    return xy, target, (key >= 0) & clicks.present[..., None]


@torch.no_grad()
def mask_targets(labels: Labels, cfg: AttentionShiftConfig) -> tuple[Tensor, Tensor]:
    """Pseudo masks and where they count, bool [B, G, H, W].

    This is what "mask" supervision gives the mask head (supp. Table 2). Within the box, the
    baseline's are attention above a share of its range; foreground above a share of its
    maximum else.
    """
    inside = box_pixels(labels.boxes, labels.foreground.shape[-2:])
    if not cfg.refine:
        masks = inside & (labels.attention >= FOREGROUND)
        return masks, ~inside | masks | (labels.attention < BACKGROUND)
    return inside & _above(labels.foreground, cfg.mask.positive), torch.ones_like(inside)
