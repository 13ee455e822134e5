"""Cases of EXITS' mean field: shifted sums of logits against the release's layout, two channels and an unfold."""

from functools import partial

import torch
from torch import Tensor
from torch.nn.functional import unfold

from benchmarks.measure import Case, Size
from wsis.methods.exits.config import CrfConfig
from wsis.ops.mean_field import EPSILON, mean_field

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
]
