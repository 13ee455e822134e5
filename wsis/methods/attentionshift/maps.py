"""From the attention of a token to a box, and to maps of its object and of what is not (supp., official code).

    boxes_from_maps    thresholds, connected components, mirrored about the annotated point
    cosine_maps        patches sampled where attention is high and where it is low, compared with all others

Patches are in rows from the top left, n = h w of them; maps at full resolution are [..., H, W] with H = h patch.
"""

import torch
from torch import Tensor
from torch.nn.functional import avg_pool2d, interpolate, normalize, one_hot, pad

from wsis.core.errors import ConfigError
from wsis.methods.attentionshift.config import BoxConfig
from wsis.ops.components import component_bounds
from wsis.ops.patches import box_patches, patch_index

CONSTANT_RTOL = 1e-6  # of its largest magnitude; a map with a smaller range is constant: fp32 cannot tell more
MIN_AREA = 0.5  # of the largest component's area, for one that counts for a box (official code)
SAMPLES, ITERATIONS = 20, 2  # patches of a first prototype, and its refinements (official code)
FOREGROUND, BACKGROUND = (
    0.2,
    0.1,
)  # of a map's range: attention is high from the first on, low below the second (official code)
BACKGROUND_FACTORS = (1, 2, 4, 8, 16)  # of that threshold, tried in turn until enough pixels are below
MIN_SIMILARITY = 0.9  # of a prototype's largest cosine, for patches that refine it (official config, obj_tau)


def min_max(maps: Tensor) -> Tensor:
    """Each map of [..., H, W] stretched to [0, 1]; a constant one becomes 0."""
    low, high, varied = _range(maps)
    return (maps - low) / (high - low).where(varied, 1) * varied


def _range(maps: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """The least and the largest value of each map, and whether they differ: [..., 1, 1] each."""
    low, high = maps.amin((-2, -1), keepdim=True), maps.amax((-2, -1), keepdim=True)
    return low, high, high - low > CONSTANT_RTOL * torch.maximum(high.abs(), low.abs())


def enlarged(maps: Tensor, patch: int, step: int = 1) -> Tensor:
    """Maps of patches [..., h, w] at one value per `step` pixels, bilinear; ConfigError if it does not divide the patch."""
    if patch % step:
        raise ConfigError(f"boxes.step={step}: choose a divisor of the patch, {patch} px")
    height, width = maps.shape[-2:]
    return resized(maps, (height * patch // step, width * patch // step))


def resized(maps: Tensor, size: tuple[int, int]) -> Tensor:
    """Maps [..., h, w], bilinear at the centers of the cells of another size: [..., *size]; any number of maps."""
    flat = maps.reshape(-1, 1, *maps.shape[-2:])
    return interpolate(flat, size, mode="bilinear", align_corners=False).view(*maps.shape[:-2], *size)


@torch.no_grad()
def boxes_from_maps(maps: Tensor, points: Tensor, cfg: BoxConfig, patch: int) -> Tensor:
    """One box around what is high in each map.

    Regions are the 8-connected components at and above `cfg.threshold` of the map's range that have at least half of the
    largest one's area. mirror: the box reaches equally far to both sides of the point, by the longer of the two, within the
    image. tight: the bounds of the regions. A constant map gives the point's patch. maps: [M, H / step, W / step]. points:
    [M, 2] pixels. Returns fp32 [M, 4] pixels, half-open, never empty.
    """
    step, (height, width) = cfg.step, maps.shape[-2:]
    size = points.new_tensor((width * step, height * step), dtype=torch.float32)
    least, largest, varied = _range(maps)
    threshold = (least + cfg.threshold * (largest - least)).where(varied, torch.inf)
    bounds, filled = component_bounds(maps >= threshold, MIN_AREA)
    low, high = (step * bounds.float()).tensor_split(2, 1)
    point = (points.float() + 0.5).clamp(min=points.new_tensor(0.5), max=size - 0.5)  # in edges of pixels
    if cfg.mode == "mirror":
        reach = torch.maximum(point - low, high - point)
        low, high = (point - reach).clamp_min(0), torch.minimum(point + reach, size)
    corner = (point / patch).floor() * patch
    return torch.where(filled, torch.cat([low, high], 1), torch.cat([corner, corner + patch], 1))


@torch.no_grad()
def cosine_maps(
    features: Tensor,
    attention: Tensor,
    points: Tensor,
    boxes: Tensor,
    present: Tensor,
    valid: Tensor,
    generator: torch.Generator | None = None,
) -> tuple[Tensor, Tensor, Tensor]:
    """What is similar to patches where an object's attention is high, and unlike those where it is low.

    Prototypes are means of the features of sampled patches. A refinement replaces each by the mean of the patches that are
    most similar to it, weighted by their cosine, and then looks for an object inside its box only. Patches go to the most
    similar of all objects and of one prototype of what no object attends to.

    features: [B, D, h, w]. attention: [B, G, H, W]. points: [B, G, 2]. boxes: [B, G, 4]. present: bool [B, G]. valid: bool
    [B, h, w], patches of the image. generator: on their device. Returns fp32 foreground and background [B, G, H, W] in [0, 1],
    0 for objects that do not exist, and after each refinement the cosine of each patch with the object
    [iterations + 1, B, G, h, w], 0 where another object or the background is more similar.
    """
    grid = (features.shape[2], features.shape[3])
    patch = attention.shape[-1] // grid[1]
    index = patch_index(points, grid, patch)
    weights = sample_patches(min_max(attention.float()), index, present, valid, generator)
    inside = pad(box_patches(boxes, grid, patch), (0, 0, 0, weights.shape[1] - present.shape[1]), value=True)
    with torch.autocast(features.device.type, enabled=False):
        stages = refined(features.float().flatten(2).mT, weights, inside, valid.flatten(1))
    objects, others = torch.stack(stages).split((present.shape[1] + 1, present.shape[1]), dim=2)
    history = _competed(objects, present).unflatten(-1, grid)
    like, unlike = enlarged(history[-1], patch), enlarged(others[-1].unflatten(-1, grid), patch)
    foreground = _by_largest(((1 - unlike) * like).clamp_min(0))
    background = _by_largest(1 + (_by_largest(unlike) - foreground) / 2).clamp_min(0)
    return foreground, background * present[..., None, None], history


def sample_patches(
    maps: Tensor, index: Tensor, present: Tensor, valid: Tensor, generator: torch.Generator | None, count: int = SAMPLES
) -> Tensor:
    """How often each patch was drawn: fp32 [B, 2 G + 1, n]; G objects, what no object attends to, G surroundings.

    A patch is as likely as its share of the mask's pixels. Of no more than `count` pixels each counts once; objects are filled
    up with their point's patch. maps: [B, G, H, W] in [0, 1]. index: int64 [B, G], the patch of the point.
    """
    share = present[..., None, None] / present.sum(1).clamp_min(1)[:, None, None, None]
    patch = maps.shape[-1] // valid.shape[-1]
    inside = _pixels(maps >= FOREGROUND, patch, valid)
    missing = (count - inside.sum(-1, keepdim=True)).clamp_min(0)
    inside = inside + missing * one_hot(index, inside.shape[-1])
    mean_and_maps = torch.cat([(maps * share).sum(1, keepdim=True), maps], 1)
    below = torch.stack([_pixels(mean_and_maps < BACKGROUND * f, patch, valid) for f in BACKGROUND_FACTORS])
    # Thresholds rise, so the number of those that fail is the index of the first with enough pixels.
    failed = (below.sum(-1) < count).sum(0)
    first = failed.clamp_max(len(BACKGROUND_FACTORS) - 1)[None, ..., None].expand(1, *below.shape[1:])
    pixels = torch.cat([inside, below.gather(0, first)[0]], 1)
    pixels = pixels + (pixels.sum(-1, keepdim=True) == 0)  # an image without a valid patch
    drawn = torch.multinomial(pixels.flatten(0, 1), count, replacement=True, generator=generator)
    drawn = drawn.view(*pixels.shape[:2], -1)
    counts = torch.zeros_like(pixels).scatter_add_(-1, drawn, torch.ones_like(drawn, dtype=pixels.dtype))
    return counts.where(pixels.sum(-1, keepdim=True) > count, pixels)


def _pixels(mask: Tensor, patch: int, valid: Tensor) -> Tensor:
    """The number of pixels of a mask [B, R, H, W] in each patch, none in those that are not valid: fp32 [B, R, n]."""
    pixels = avg_pool2d(mask.flatten(0, 1)[:, None].float(), patch, divisor_override=1)
    return (pixels.view(*mask.shape[:2], *valid.shape[1:]) * valid[:, None]).flatten(2)


def refined(features: Tensor, weights: Tensor, inside: Tensor, valid: Tensor) -> list[Tensor]:
    """The cosine of all patches with each prototype, from `weights` and after each refinement: [B, R, n] each.

    features: [B, n, D]. weights: [B, R, n]. inside: bool [B, R, n], where the cosine counts; only the first refinement looks
    for similar patches beyond, too. valid: bool [B, n].
    """
    unit = normalize(features, dim=-1)
    similarity = normalize(weights @ features, dim=-1) @ unit.mT
    stages = [similarity * inside]
    for _ in range(ITERATIONS):
        similar = similarity * valid[:, None]
        similar = similar * (similar >= MIN_SIMILARITY * similar.amax(-1, keepdim=True))
        similarity = normalize(similar @ features, dim=-1) @ unit.mT * inside
        stages.append(similarity)
    return stages


def _competed(objects: Tensor, present: Tensor) -> Tensor:
    """Similarities [r, B, G + 1, n] as [r, B, G, n], 0 where another present object, or the last row, is larger."""
    takes_part = pad(present, (0, 1), value=True)[..., None]
    winner = objects.where(takes_part, -torch.inf).argmax(2, keepdim=True)
    return objects[:, :, :-1] * (winner == torch.arange(present.shape[1], device=present.device)[:, None])


def _by_largest(maps: Tensor) -> Tensor:
    """Maps [..., H, W] divided by their largest value; one without a positive value stays finite, and not positive."""
    return maps / maps.amax((-2, -1), keepdim=True).clamp_min(torch.finfo(maps.dtype).tiny)
