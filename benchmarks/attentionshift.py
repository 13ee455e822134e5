"""Cases of AttentionShift: rows of the attention rollout, and in scenes with planted parts the samples and the shift."""

import math
from functools import partial
from typing import NamedTuple

import torch
from torch import Tensor

from benchmarks.measure import Case, Size
from benchmarks.reference_attentionshift import plain_rollout, plain_samples, plain_shift
from wsis.methods.attentionshift.config import PartConfig
from wsis.methods.attentionshift.maps import at_pixels, min_max, sample_patches
from wsis.methods.attentionshift.parts import seeds, shift
from wsis.ops.patches import PatchGrid, box_patches
from wsis.ops.rollout import rollout_rows

PATCH, WIDTH, HEADS, LAYERS, POINTS = 16, 384, 6, 7, 100
SHIFT = [Size(pixels=512, batch=1, instances=g) for g in (1, 4, 10)]
SAMPLED = [Size(pixels=800, batch=1, instances=g) for g in (4, 10)]
ROLLOUT = [Size(pixels=p, batch=1, instances=8) for p in (512, 800)]


class Planted(NamedTuple):
    """One image whose parts are known.

    features: [n, D], unit directions and noise. part: int64 [n], 0 the background, then the parts of all objects in turn.
    directions: [1 + parts, D], orthonormal. masks: bool [G, n]. boxes: [G, 4] pixels, half-open.
    """

    features: Tensor
    part: Tensor
    directions: Tensor
    masks: Tensor
    boxes: Tensor


def planted(
    objects: int, side: int = 16, parts: int = 3, width: int = 64, noise: float = 0.02, seed: int = 0, patch: int = 16
) -> Planted:
    """Rectangles on a lattice in an image of side x side patches, cut across into parts with a direction each, seeded.

    noise: standard deviation of each of the `width` features, so that the noise is sqrt(width) times as long.
    """
    generator = torch.Generator().manual_seed(seed)
    directions = torch.linalg.qr(torch.randn(width, 1 + objects * parts, generator=generator))[0].T
    cells = math.ceil(math.sqrt(objects))
    part = torch.zeros(side, side, dtype=torch.long)
    boxes = torch.zeros(objects, 4)
    for number in range(objects):
        cell = side // cells
        top, left = (cell * place + cell // 6 for place in divmod(number, cells))
        height, across = cell - cell // 3, cell - cell // 4
        strip = torch.arange(height) * parts // height + 1 + number * parts
        part[top : top + height, left : left + across] = strip[:, None]
        boxes[number] = patch * torch.tensor([left, top, left + across, top + height])
    owner = (part.flatten() - 1).div(parts, rounding_mode="floor")  # -1 of the background
    features = directions[part.flatten()] + noise * torch.randn(side**2, width, generator=generator)
    masks = owner == torch.arange(objects)[:, None]
    return Planted(features, part.flatten(), directions, masks, boxes)


def _layers(size: Size, device: torch.device) -> tuple[list[tuple[Tensor, Tensor]], Tensor]:
    """Queries and keys of ViT-S's last layers, and the rows of some point tokens."""
    generator = torch.Generator().manual_seed(0)
    tokens = 1 + (size.pixels // PATCH) ** 2 + POINTS
    shape = (LAYERS, 2, size.batch, HEADS, tokens, WIDTH // HEADS)
    query_key = torch.randn(shape, generator=generator).to(device)
    rows = tokens - 1 - torch.arange(size.instances, device=device)
    return [(q, k) for q, k in query_key.unbind(0)], rows.expand(size.batch, -1)


def _scene(size: Size, device: torch.device) -> tuple[Tensor, Tensor, Tensor]:
    """Features [1, n, D], seeds [1, G, m] in the objects, and the patches of their boxes bool [1, G, n]."""
    side = size.pixels // PATCH
    scene = planted(size.instances, side, width=WIDTH, noise=0.3 / WIDTH**0.5)
    boxes, inner = scene.boxes[None], scene.masks.view(1, -1, side, side).float()
    grid = PatchGrid(side, side, PATCH)
    start = seeds(inner, boxes, 0.5, PartConfig().seeds, grid)
    made = scene.features[None], start, box_patches(boxes, grid)
    return made[0].to(device), made[1].to(device), made[2].to(device)


def _fast_shift(features: Tensor, start: Tensor, inside: Tensor, official: bool) -> Tensor:
    return shift(features, start, inside, PartConfig(), official=official)[-1, 0]


def _plain_shift(features: Tensor, start: Tensor, inside: Tensor) -> Tensor:
    return plain_shift(features[0], start[0], inside[0], PartConfig())


def _attention(size: Size, device: torch.device) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Attention [1, G, H, W], high in planted objects, and a patch of each [1, G]; all objects and patches exist."""
    side = size.pixels // PATCH
    masks = planted(size.instances, side).masks
    heat = 0.8 * masks + 0.1 * torch.rand(masks.shape, generator=torch.Generator().manual_seed(0))
    attention = min_max(at_pixels(heat.view(1, -1, side, side), PATCH)).to(device)
    index = masks.float().argmax(-1)[None].to(device)
    return attention, index, index >= 0, torch.ones(1, side, side, dtype=torch.bool, device=device)


ROLLOUT_CASES = [
    Case(
        name="AttentionShift rollout",
        prepare=_layers,
        fast=rollout_rows,
        plain=plain_rollout,
        canonical=lambda result: (result * result.shape[-1],),  # 1 is an even spread
    )
]
SHIFT_CASES = [
    Case(name="AttentionShift shift", prepare=_scene, fast=partial(_fast_shift, official=True), plain=_plain_shift)
]
SAMPLE_CASES = [
    Case(
        name="AttentionShift samples",
        prepare=_attention,
        fast=sample_patches,
        plain=plain_samples,
        canonical=lambda drawn: (drawn.sum(-1),),  # how many; which ones is chance
    )
]
