"""AttentionShift's labels: from one click per object to a box, maps of object and background, and points to learn from.

    supp. Sec. 2, official code    find_candidates: one box of each layer's attention from the token of a click
    supp. Fig. 3                   find_labels: the chosen box, its map refined by cosine similarity, parts, key-points
    supp. Table 2                  point_targets, mask_targets: what teaches the mask head

Objects are padded to the largest number in the batch: [B, G], `Clicks.present` says which exist, in the annotations'
order. Nothing here has a gradient; everything is fp32.
"""

from typing import NamedTuple

import torch
from torch import Tensor

from wsis.core.types import Points
from wsis.data.masks import box_pixels
from wsis.methods.attentionshift.config import AttentionShiftConfig, MaskConfig
from wsis.methods.attentionshift.maps import boxes_from_maps, cosine_maps, enlarged, min_max
from wsis.methods.attentionshift.parts import (
    KeyPoints,
    core,
    eroded,
    kept,
    key_points,
    kmeans,
    merge,
    part_maps,
    seeds,
    shift,
)
from wsis.ops.patches import box_patches
from wsis.ops.rollout import rollout_rows


class Clicks(NamedTuple):
    """The annotated points of a batch, padded: xy [B, G, 2] pixels, labels and ids long [B, G], present bool [B, G]."""

    xy: Tensor
    labels: Tensor
    ids: Tensor
    present: Tensor


class Candidates(NamedTuple):
    """maps: [B, K, G, h, w], the attention of each object's token rolled out over 1..K layers. boxes: [B, K, G, 4]."""

    maps: Tensor
    boxes: Tensor


class PointSet(NamedTuple):
    """Labelled pixels of each object: xy [B, G, Q, 2], target bool [B, G, Q], counts bool [B, G, Q] (False: padding)."""

    xy: Tensor
    target: Tensor
    counts: Tensor


class Parts(NamedTuple):
    """What a figure shows of the key-point shift.

    core: [B, G, h, w]. prototypes: [iterations + 1, B, G, m, D]. moved: [B, G, m, D], as they end. kept: bool [B, G, m],
    those that pass the filter. maps: [B, G, m, n], of the merged ones. merged: bool [B, G, m].
    """

    core: Tensor
    prototypes: Tensor
    moved: Tensor
    kept: Tensor
    maps: Tensor
    merged: Tensor


class Labels(NamedTuple):
    """boxes: [B, G, 4] half-open. chosen: long [B, G], the layer's candidate. attention: [B, G, H, W], its map in [0, 1].

    foreground, background: [B, G, H, W] in [0, 1]. key_points, extremes: None for the baseline, extremes also with
    mask.extreme = "none". cosine: [iterations + 1, B, G, h, w], the refinement. parts: None unless figures are asked for.
    """

    boxes: Tensor
    chosen: Tensor
    attention: Tensor
    foreground: Tensor
    background: Tensor
    key_points: KeyPoints | None
    extremes: PointSet | None = None
    cosine: Tensor | None = None
    parts: Parts | None = None


def gather_clicks(points: Points, images: int) -> Clicks:
    """The points of a batch of `images`, padded to the largest number in one of them."""
    count = torch.bincount(points.image, minlength=images)
    most = int(count.max()) if len(points) else 0
    order = points.image.argsort(stable=True)
    place = torch.arange(len(points), device=order.device) - (count.cumsum(0) - count)[points.image[order]]
    at = (points.image[order], place)

    def padded(values: Tensor) -> Tensor:
        return values.new_zeros(images, most, *values.shape[1:]).index_put_(at, values[order])

    present = torch.arange(most, device=count.device) < count[:, None]
    return Clicks(padded(points.xy), padded(points.labels), padded(points.ids), present)


@torch.no_grad()
def find_candidates(
    layers: list[tuple[Tensor, Tensor]],
    tokens: Tensor,
    clicks: Clicks,
    grid: tuple[int, int],
    cfg: AttentionShiftConfig,
    patch: int,
) -> Candidates:
    """Attention maps and boxes of the tokens that answer for the clicks.

    layers: queries and keys of the last K layers, last first. tokens: long [B, G], index among the point tokens.
    """
    n = grid[0] * grid[1]
    maps = rollout_rows(layers, tokens.clamp(min=0) + 1 + n)[..., 1 : 1 + n].unflatten(-1, grid)
    points = clicks.xy[:, None].expand(-1, maps.shape[1], -1, -1)
    large = enlarged(maps, patch, cfg.boxes.step)
    boxes = boxes_from_maps(large.flatten(0, 2), points.flatten(0, 2), cfg.boxes, patch)
    return Candidates(maps, boxes.view(*maps.shape[:3], 4))


@torch.no_grad()
def find_labels(
    features: Tensor,
    found: Candidates,
    chosen: Tensor,
    clicks: Clicks,
    valid: Tensor,
    cfg: AttentionShiftConfig,
    patch: int,
    generator: torch.Generator | None = None,
    figures: bool = False,
) -> Labels:
    """The labels of every clicked object.

    features: [B, D, h, w] of the last layer. chosen: long [B, G], which candidate. valid: bool [B, h, w], patches of the
    image. figures: keep the steps of the key-point shift.
    """
    with torch.autocast(features.device.type, enabled=False):
        features = features.detach().float()
        at = chosen[:, None, :, None, None]
        maps = found.maps.take_along_dim(at, 1)[:, 0]
        boxes = found.boxes.take_along_dim(at[..., 0], 1)[:, 0]
        attention = min_max(enlarged(maps, patch))
        if not cfg.refine.enabled:
            return Labels(boxes, chosen, attention, attention, 1 - attention, None)
        cosine = cosine_maps(features, attention, clicks.xy, boxes, clicks.present, valid, cfg.refine, generator)
        labels = Labels(boxes, chosen, attention, cosine.foreground, cosine.background, None, cosine=cosine.history)
        return labels if cfg.parts.shift == "none" else find_parts(features, labels, cfg, patch, figures)


def find_parts(features: Tensor, labels: Labels, cfg: AttentionShiftConfig, patch: int, figures: bool) -> Labels:
    """Labels with the key-points of each object: seeds in its core, shifted, filtered, merged (supp. Table 1)."""
    p, grid = cfg.parts, (features.shape[2], features.shape[3])
    boxes = labels.boxes
    inner = core(labels.foreground, p.core, p.erosion, patch)
    start = seeds(inner, boxes, p.core, p.seeds, patch)
    tokens, inside = features.flatten(2).mT, box_patches(boxes, grid, patch)
    if p.shift == "kmeans":
        in_core = (inner.flatten(2) > p.core) & inside
        inside = torch.where(in_core.any(-1, keepdim=True), in_core, inside)
        moved = kmeans(tokens, start, inside, p, history=figures)
    else:
        moved = shift(tokens, start, inside, p, official=cfg.compat == "official", history=figures)
    passed = kept(part_maps(moved.prototypes, tokens), inner.flatten(2), p)
    merged, groups = merge(moved.prototypes, passed, p.merge, official=cfg.compat == "official")
    maps = part_maps(merged, tokens)
    labels = labels._replace(key_points=key_points(maps, groups, boxes, grid, patch, p.most))
    if cfg.mask.extreme == "part_extent":
        labels = labels._replace(extremes=part_extents(maps, groups, inner, p.alike, patch))
    if moved.history is None:
        return labels
    return labels._replace(parts=Parts(inner, moved.history, moved.prototypes, passed, maps, groups))


def part_extents(maps: Tensor, kept: Tensor, core: Tensor, alike: float, patch: int) -> PointSet:
    """Centres of the top, left, bottom and right-most patches of each kept part within the core (ours).

    maps: [B, G, m, n]. kept: bool [B, G, m]. core: [B, G, h, w]. Returns Q = 4 m pixels per object.
    """
    height, width = core.shape[-2:]
    area = (maps > alike) & (core > 0).flatten(2)[:, :, None] & kept[..., None]
    index = torch.arange(height * width, device=maps.device)
    y, x = (index // width).expand(area.shape), (index % width).expand(area.shape)
    ends = [
        torch.where(area, key, height + width).argmin(-1) for key in (y, x, -y, -x)
    ]  # any of several that are as far out
    found = torch.stack(ends, -1).flatten(2)
    xy = torch.stack([found % width, found // width], -1) * patch + (patch - 1) / 2
    counts = area.any(-1)[..., None].expand(*kept.shape, 4).flatten(2)
    return PointSet(xy, torch.ones_like(counts), counts)


@torch.no_grad()
def point_targets(
    labels: Labels, clicks: Clicks, cfg: MaskConfig, generator: torch.Generator | None = None
) -> PointSet:
    """Pixels that surely are object, or surely not: what "point" supervision teaches the mask head (supp. Table 2).

    The baseline samples both kinds from the attention map within the box. AttentionShift samples so from its maps, keeps
    the background, and takes the key-points as object; an object without key-points takes what was sampled as object,
    and its click (the release: background only).
    """
    inside = box_pixels(labels.boxes, labels.foreground.shape[-2:])
    if labels.cosine is None:
        lowest = torch.where(inside, labels.attention, torch.inf).amin((-2, -1), keepdim=True)
        raw = min_max(torch.where(inside, labels.attention, lowest))  # of the range within the box
        positive, negative = inside & (raw > cfg.raw_positive), inside & (raw < cfg.raw_negative)
        return _sampled(positive, negative, clicks, cfg.raw_points, generator)
    high = labels.foreground > cfg.positive * _peak(labels.foreground, inside)
    positive = eroded(high | ~inside, cfg.erosion)  # the border of the box does not erode
    negative = inside & (labels.background > cfg.negative * _peak(labels.background, inside))
    drawn = _sampled(positive & inside, negative, clicks, cfg.points, generator)
    if labels.key_points is None:
        return drawn
    with_parts = labels.key_points.kept.any(-1, keepdim=True)
    drawn = drawn._replace(counts=drawn.counts & ~(drawn.target & with_parts))
    keys = labels.key_points
    extra = [PointSet(keys.xy, torch.ones_like(keys.kept), keys.kept & clicks.present[..., None])]
    click = clicks.present[..., None] & ~with_parts
    extra.append(PointSet(clicks.xy[:, :, None], torch.ones_like(click), click))
    if labels.extremes is not None:
        extra.append(labels.extremes._replace(counts=labels.extremes.counts & clicks.present[..., None]))
    return PointSet(*(torch.cat(parts, 2) for parts in zip(drawn, *extra, strict=True)))


def _peak(maps: Tensor, inside: Tensor) -> Tensor:
    """The largest value within the box: [B, G, 1, 1]."""
    return torch.where(inside, maps, 0).amax((-2, -1), keepdim=True)


def _sampled(
    positive: Tensor, negative: Tensor, clicks: Clicks, count: int, generator: torch.Generator | None
) -> PointSet:
    """`count` pixels of the union of two masks [B, G, H, W] at random; all of them where there are fewer."""
    either = (positive | negative).flatten(2)
    chance = torch.rand(either.shape, generator=generator, device=either.device)
    key, index = torch.where(either, chance, -1).topk(min(count, either.shape[-1]), -1)
    target = positive.flatten(2).take_along_dim(index, -1)
    width = positive.shape[-1]
    xy = torch.stack([index % width, index // width], -1).float()
    return PointSet(xy, target, (key >= 0) & clicks.present[..., None])


@torch.no_grad()
def mask_targets(labels: Labels, cfg: AttentionShiftConfig) -> tuple[Tensor, Tensor]:
    """Pseudo masks and where they count, bool [B, G, H, W]: what "mask" supervision teaches (supp. Table 2).

    The baseline's: attention from .2 of its range on; what lies between .1 and .2 does not count. AttentionShift's:
    foreground above .35 of its maximum. Both within the box.
    """
    inside = box_pixels(labels.boxes, labels.foreground.shape[-2:])
    if labels.cosine is None:
        masks = inside & (labels.attention >= cfg.refine.foreground)
        return masks, ~inside | masks | (labels.attention < cfg.refine.background)
    largest = labels.foreground.amax((-2, -1), keepdim=True)
    masks = inside & (labels.foreground > cfg.mask.positive * largest)
    return masks, torch.ones_like(masks)
