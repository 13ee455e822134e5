"""Cases of refinement by color: EXITS' mean field, shifted sums of logits against the release's layout, two channels and an
unfold; and pixel-adaptive refinement against an unfold of all neighbors.
"""

from functools import partial

import torch
from torch import Tensor
from torch.nn.functional import pad, unfold

from benchmarks.measure import Case, Size
from wsis.methods.exits.config import CrfConfig
from wsis.ops.mean_field import EPSILON, mean_field
from wsis.ops.pamr import DILATIONS, pixel_adaptive_refinement

SIZES = [Size(pixels=128, batch=2, instances=1), Size(pixels=128, batch=8, instances=1)]
SETTINGS = vars(CrfConfig())


def plain_mean_field(image: Tensor, probability: Tensor, box: Tensor, *, zeta: float, iterations: int) -> Tensor:
    """What `wsis.ops.mean_field.mean_field` computes, from the formula: products of unfolded probabilities."""
    batch, _, height, width = image.shape

    def windows(maps: Tensor) -> Tensor:  # [B, K, H, W] -> [B, K, 9, H W], zeros outside of the image
        return unfold(maps, 3, padding=1).view(batch, maps.shape[1], 9, -1)

    exists = windows(torch.ones_like(image[:, :1]))
    distance = (windows(image) - image.flatten(2)[:, :, None]).square().sum(1, keepdim=True)
    k = (-distance / (2 * zeta**2)).exp() * exists
    p = (probability * box).clamp(0.1, 0.9)
    for _ in range(iterations):
        logs = torch.stack((1 - p, p), 1).log()
        background, foreground = (k * windows(logs)).sum(2).exp().view(batch, 2, height, width).unbind(1)
        foreground = foreground * box
        p = (foreground / (EPSILON + background + foreground)).clamp(0.1, 0.9)
    return p > 0.5


def plain_refinement(probabilities: Tensor, images: Tensor) -> Tensor:
    """What `wsis.ops.pamr.pixel_adaptive_refinement` computes, with all neighbors of all pixels in memory."""

    def windows(maps: Tensor) -> Tensor:  # [B, C, 32, H W]
        dilated = [unfold(pad(maps, (d, d, d, d), mode="replicate"), 3, dilation=d) for d in DILATIONS]
        squares = torch.stack([values.unflatten(1, (-1, 9)) for values in dilated], 2)
        return squares[:, :, :, [0, 1, 2, 3, 5, 6, 7, 8]].flatten(2, 3)

    near = windows(images)
    difference = (near - images.flatten(2)[:, :, None]).abs() / (0.1 * near.std(2, keepdim=True) + 1e-6)
    weights = (-difference.mean(1, keepdim=True)).softmax(2)
    for _ in range(10):
        probabilities = (weights * windows(probabilities)).sum(2).view(probabilities.shape)
    return probabilities


def scene(
    size: Size, device: torch.device, noise: float = 0.05, dtype: torch.dtype = torch.float32
) -> tuple[Tensor, Tensor, Tensor]:
    """A shaded disc before two colors in a box, seeded: image [B, 3, S, S], probability and box [B, S, S]."""
    generator = torch.Generator().manual_seed(size.batch)
    shape = (size.batch, size.pixels, size.pixels)
    y, x = (torch.arange(size.pixels, dtype=dtype) / size.pixels - 0.5)[None].expand(2, -1)
    radius = 0.25 + 0.1 * torch.rand(size.batch, 1, 1, generator=generator, dtype=dtype)
    disc = y[:, None].square() + x.square() < radius.square()
    colors = torch.randn(3, size.batch, 3, 1, 1, generator=generator, dtype=dtype)
    behind = torch.where(x > 0.2 * y[:, None], colors[1], colors[2])
    shade = 0.5 * (y[:, None] + x) * bool(noise)
    image = torch.where(disc[:, None], colors[0], behind) + shade
    image = image + noise * torch.randn(image.shape, generator=generator, dtype=dtype)
    guess = 0.4 + 0.2 * disc + 0.8 * (torch.rand(shape, generator=generator, dtype=dtype) - 0.5)
    box = ((y.abs() < 0.4)[:, None] & (x.abs() < 0.4)).expand(shape)
    return image.to(device), guess.to(device), box.to(device)


def class_scores(size: Size, device: torch.device) -> tuple[Tensor, Tensor]:
    """Probabilities [B, 2, S, S] of a `scene`, and its image with colors in [0, 1]."""
    image, guess, _ = scene(size, device)
    return torch.stack([1 - guess, guess], 1), image.sigmoid()


CASES = [
    Case(
        name="mean field",
        prepare=scene,
        fast=partial(mean_field, **SETTINGS),
        plain=partial(plain_mean_field, **SETTINGS),
    ),
    Case(
        name="mean field, flat, stop",
        prepare=partial(scene, noise=0.0),
        fast=partial(mean_field, **SETTINGS),
        plain=partial(plain_mean_field, **SETTINGS),
    ),
    Case(
        name="pixel-adaptive refinement", prepare=class_scores, fast=pixel_adaptive_refinement, plain=plain_refinement
    ),
]
