"""Clicks, and what becomes of the attention of their tokens: boxes, and maps of objects and background (official code).

Patches are in rows from the top left, n = h w of them; maps at full resolution are [..., H, W] with H = h patch.
"""

from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import interpolate, max_pool2d, normalize, one_hot, pad
from torch.nn.utils.rnn import pad_sequence

from wsis.core.types import Points
from wsis.methods.attentionshift.config import BoxConfig
from wsis.ops.components import component_bounds
from wsis.ops.patches import PatchGrid, box_patches, patch_index

CONSTANT_RTOL = 1e-6  # of its largest magnitude; a map with a smaller range is constant, since fp32 cannot tell more
MIN_AREA = 0.5  # of the largest component's area, for one that counts for a box (official code)
SAMPLES, ITERATIONS = 20, 2  # patches of a first prototype, and its refinements (official code)
# Of a map's range: attention is high from the first on, and low below the second (official code).
FOREGROUND, BACKGROUND = 0.2, 0.1
BACKGROUND_FACTORS = (1, 2, 4, 8, 16)  # of that threshold, tried in turn until enough pixels are below
MIN_SIMILARITY = 0.9  # of a prototype's largest cosine, for patches that refine it (official config, obj_tau)


class PaddedPoints(NamedTuple):
    """The points of a batch, padded: xy [B, G, 2] pixels, labels and ids long [B, G], present bool [B, G]."""

    xy: Tensor
    labels: Tensor
    ids: Tensor
    present: Tensor


def pad_points(points: Points | None, images: int) -> PaddedPoints:
    """The points of a batch of `images`, padded to the largest number in one of them; ValueError where there are none."""
    if points is None:
        raise ValueError("AttentionShift needs points; the batch has none: give one click per object in Batch.points")
    split = [points[points.image == i] for i in range(images)]
    fields = [(p.xy, p.labels, p.ids, torch.ones_like(p.labels, dtype=torch.bool)) for p in split]
    return PaddedPoints(*(pad_sequence(list(values), batch_first=True) for values in zip(*fields, strict=True)))


def grid_of(features: Tensor, maps: Tensor) -> PatchGrid:
    """The grid of features [..., h, w] to which maps [..., H, W] at full resolution belong."""
    height, width = features.shape[-2:]
    return PatchGrid(height, width, maps.shape[-1] // width)


def min_max(maps: Tensor) -> Tensor:
    """Each map of [..., H, W] stretched to [0, 1]; a constant one becomes 0."""
    low, high, varied = _range(maps)
    return (maps - low) / (high - low).where(varied, 1) * varied


def _range(maps: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """The least and the largest value of each map, and whether they differ: [..., 1, 1] each."""
    low, high = maps.amin((-2, -1), keepdim=True), maps.amax((-2, -1), keepdim=True)
    return low, high, high - low > CONSTANT_RTOL * torch.maximum(high.abs(), low.abs())


def at_pixels(maps: Tensor, patch: int) -> Tensor:
    """Maps of patches [..., h, w] at full resolution, bilinear."""
    return resampled(maps, (maps.shape[-2] * patch, maps.shape[-1] * patch))


def resampled(maps: Tensor, size: tuple[int, int]) -> Tensor:
    """Maps [..., h, w], bilinear at the centers of the cells of another size: [..., *size]; any number of maps."""
    flat = maps.reshape(-1, 1, *maps.shape[-2:])
    return interpolate(flat, size, mode="bilinear", align_corners=False).view(*maps.shape[:-2], *size)


def framed(valid: Tensor, grid: PatchGrid) -> Tensor:
    """The patches that each image of a batch would have alone, its sides padded to whole pairs of patches: bool [B, h, w].

    The others are there for larger images of the batch; of them there is no label. valid: bool [B, H, W], False on padding.
    """
    pairs = max_pool2d(valid.float(), 2 * grid.patch, ceil_mode=True)
    return (pairs.repeat_interleave(2, 1).repeat_interleave(2, 2) > 0)[:, : grid.height, : grid.width]


def boxes_from_maps(maps: Tensor, points: Tensor, sizes: Tensor, cfg: BoxConfig, patch: int) -> Tensor:
    """One box around what is high in each map [M, H, W]: fp32 [M, 4] pixels, half-open, never empty.

    Regions are the 8-connected components at and above `cfg.threshold` of the map's range that have at least half of the
    largest one's area. mirror: the box reaches equally far to both sides of the point [2], by the longer of the two, within
    the image. tight: the bounds of the regions. A constant map gives the point's patch. sizes: fp32 [M, 2], (width, height) of
    the images, which may be smaller than the maps.
    """
    least, largest, varied = _range(maps)
    threshold = (least + cfg.threshold * (largest - least)).where(varied, torch.inf)
    bounds, filled = component_bounds(maps >= threshold, MIN_AREA)
    low, high = bounds.float().tensor_split(2, 1)
    high = torch.minimum(high, sizes)
    point = (points.float() + 0.5).clamp(min=points.new_tensor(0.5), max=sizes - 0.5)  # in edges of pixels
    if cfg.mode == "mirror":
        reach = torch.maximum(point - low, high - point)
        low, high = (point - reach).clamp_min(0), torch.minimum(point + reach, sizes)
    corner = (point / patch).floor() * patch
    return torch.where(filled, torch.cat([low, high], 1), torch.cat([corner, corner + patch], 1))


def cosine_maps(
    features: Tensor, attention: Tensor, clicks: PaddedPoints, boxes: Tensor, valid: Tensor
) -> list[Tensor]:
    """What is similar to patches where an object's attention is high, and unlike those where it is low.

    Prototypes are means of the features of sampled patches. A refinement replaces each by the mean of the patches that are
    most similar to it, weighted by their cosine, and then looks for an object inside its box only. Patches go to the most
    similar of all objects and of one prototype of what no object attends to.

    features: fp32 [B, D, h, w]. attention: [B, G, H, W] in [0, 1]. boxes: [B, G, 4]. valid: bool [B, H, W], False on padding.
    Returns fp32 foreground and background [B, G, H, W] in [0, 1], 0 for objects that do not exist, and after each refinement
    the cosine of each patch with the object [iterations + 1, B, G, h, w], 0 where another or the background is more similar.
    """
    grid, count = grid_of(features, attention), attention.shape[1]
    patches = max_pool2d(valid.float(), grid.patch) > 0
    weights = sample_patches(attention, patch_index(clicks.xy, grid), clicks.present, patches)
    inside = pad(box_patches(boxes, grid), (0, 0, 0, weights.shape[1] - count), value=True)
    cosines = torch.stack(refined(features.flatten(2).mT, weights, inside, patches.flatten(1)))
    objects, others = cosines.split((count + 1, count), dim=2)
    history = _competed(objects, clicks.present).unflatten(-1, grid[:2])
    like, unlike = at_pixels(history[-1], grid.patch), at_pixels(others[-1].unflatten(-1, grid[:2]), grid.patch)
    foreground = _by_largest(((1 - unlike) * like).clamp_min(0))
    background = _by_largest(1 + (_by_largest(unlike) - foreground) / 2).clamp_min(0)
    return [foreground, background * clicks.present[..., None, None], history]


def sample_patches(maps: Tensor, index: Tensor, present: Tensor, valid: Tensor, count: int = SAMPLES) -> Tensor:
    """How often each patch was drawn: fp32 [B, 2 G + 1, n]; G objects, what no object attends to, G surroundings.

    A patch is as likely as its share of the mask's pixels. Of no more than `count` pixels each counts once; objects are filled
    up with the patch of their point, `index` [B, G]. maps: [B, G, H, W] in [0, 1]. valid: bool [B, h, w].
    """
    share = present[..., None, None] / present.sum(1).clamp_min(1)[:, None, None, None]
    inside = _pixels(maps >= FOREGROUND, valid)
    missing = (count - inside.sum(-1, keepdim=True)).clamp_min(0)
    inside = inside + missing * one_hot(index, inside.shape[-1])
    mean, few, below = (maps * share).sum(1, keepdim=True), None, inside
    for factor in BACKGROUND_FACTORS:
        low = torch.cat([_pixels(m < factor * BACKGROUND, valid) for m in (mean, maps)], 1)
        below = low if few is None else low.where(few, below)
        few = below.sum(-1, keepdim=True) < count
        if not few.any():  # after the first threshold, as a rule; each costs a pass over all pixels
            break
    pixels = torch.cat([inside, below], 1)
    pixels = pixels + (pixels.sum(-1, keepdim=True) == 0)  # an image without a valid patch
    drawn = torch.multinomial(pixels.flatten(0, 1), count, replacement=True).view(*pixels.shape[:2], -1)
    counts = torch.zeros_like(pixels).scatter_add_(-1, drawn, torch.ones_like(drawn, dtype=pixels.dtype))
    return counts.where(pixels.sum(-1, keepdim=True) > count, pixels)


def _pixels(mask: Tensor, valid: Tensor) -> Tensor:
    """The number of pixels of a mask [B, R, H, W] in each patch, none in those that are not valid: fp32 [B, R, n]."""
    height, width = valid.shape[1:]
    down = mask.unflatten(2, (height, -1)).sum(3, dtype=torch.uint8)  # bytes: a tenth of the time of a float pooling
    return (down.unflatten(3, (width, -1)).sum(4) * valid[:, None]).flatten(2).float()


def refined(
    features: Tensor,  # [B, n, D] of all patches
    weights: Tensor,  # [B, R, n] of patches, which give the first prototypes
    inside: Tensor,  # bool [B, R, n], where cosines count
    valid: Tensor,  # bool [B, n]
) -> list[Tensor]:
    """The cosine of all patches with each prototype, first and after each refinement.

    Returns [B, R, n] each; only the first refinement looks for similar patches beyond
    `inside`.
    """
    unit = normalize(features, dim=-1)
    similarity = normalize(weights @ features, dim=-1) @ unit.mT
    history = [similarity * inside]
    for _ in range(ITERATIONS):
        similar = similarity * valid[:, None]
        similar = similar * (similar >= MIN_SIMILARITY * similar.amax(-1, keepdim=True))
        similarity = normalize(similar @ features, dim=-1) @ unit.mT * inside
        history.append(similarity)
    return history


def _competed(objects: Tensor, present: Tensor) -> Tensor:
    """Similarities [r, B, G + 1, n] as [r, B, G, n], 0 where another present object, or the last row, is larger."""
    competes = pad(present, (0, 1), value=True)[..., None]
    winner = objects.where(competes, -torch.inf).argmax(2, keepdim=True)
    return objects[:, :, :-1] * (winner == torch.arange(present.shape[1], device=present.device)[:, None])


def _by_largest(maps: Tensor) -> Tensor:
    """Maps [..., H, W] divided by their largest value; one without a positive value stays finite, and not positive."""
    return maps / maps.amax((-2, -1), keepdim=True).clamp_min(torch.finfo(maps.dtype).tiny)
