"""How two to four surfaces share a picture of the embedded world: the empty stage.

A backdrop (sky or a wall), layers of ground before it like sheets of cut paper, and maybe a pond or a rug.
"""

from typing import NamedTuple

import numpy as np
from numpy.random import Generator, default_rng

from wsis.data.world.stuff import STUFF, TEXTURES, axes

Array = np.ndarray
_BACKDROPS = ("sky", "brick", "wood", "rock")
_GROUNDS = ("grass", "sand", "water", "snow", "rock", "wood", "brick")
_EDGE = 0.045  # height of the shadow that a nearer layer casts on the one behind, in fractions of the picture


class Layout(NamedTuple):
    """Regions of a picture: the backdrop, the layers before it from far to near, the patch on the ground.

    stuff: index into `STUFF` per region. edges: [L, 5], the upper edge of each layer as base, amplitude,
    frequency, phase and slope. patch: center x, y, two radii and a phase, or None. seeds: one per region.
    """

    stuff: tuple[int, ...]
    edges: Array
    patch: tuple[float, ...] | None
    seeds: tuple[int, ...]


def plan_layout(rng: Generator) -> Layout:
    """A landscape under the sky or a floor before a wall."""
    outdoors = rng.random() < 0.65
    backdrop = "sky" if outdoors else _BACKDROPS[rng.integers(1, len(_BACKDROPS))]
    layers = int(rng.integers(1, 4)) if outdoors else 1
    has_patch = rng.random() < (0.3 if layers < 3 else 0.0)
    grounds = [g for g in _GROUNDS if g != backdrop]
    names = [backdrop, *(grounds[k] for k in rng.permutation(len(grounds))[: layers + has_patch])]
    first, last = rng.uniform(0.22, 0.5), rng.uniform(0.6, 0.78)
    heights = np.linspace(first, last, layers) if layers > 1 else [first]
    edges = []
    for base, name in zip(heights, names[1:], strict=False):
        rolling = 0.0 if name == "water" or not outdoors else 1.0
        amplitude, slope = rolling * rng.uniform(0.01, 0.05), rolling * rng.uniform(-0.1, 0.1)
        edges.append((base, amplitude, rng.uniform(0.7, 2.2), rng.random(), slope))
    y = rng.uniform(0.5 * (edges[-1][0] + 1), 0.9)
    patch = (rng.uniform(0.2, 0.8), y, rng.uniform(0.22, 0.4), rng.uniform(0.1, 0.16), rng.random())
    return Layout(
        tuple(STUFF.index(name) for name in names),
        np.array(edges),
        patch if has_patch else None,
        tuple(int(v) for v in rng.integers(2**31, size=len(names))),
    )


def _edges(layout: Layout, n: int) -> Array:
    """Upper edge of each layer at each column: float32 [L, n] in fractions of the picture."""
    x = axes(n)[0]
    base, amplitude, frequency, phase, slope = (c[:, None] for c in layout.edges.T)
    edges = base + slope * (x - 0.5) + amplitude * np.sin(2 * np.pi * (frequency * x + phase))
    return edges.astype(np.float32)


def regions(layout: Layout, n: int) -> Array:
    """Which region each pixel belongs to, counted from the backdrop: int64 [n, n]."""
    x, y = axes(n)
    out = (y[None] > _edges(layout, n)[:, None]).sum(0)
    if layout.patch is not None:
        out[(_patch_radius(layout.patch, x, y) < 1) & (out > 0)] = len(layout.stuff) - 1
    return out


def _patch_radius(patch: tuple[float, ...], x: Array, y: Array) -> Array:
    cx, cy, rx, ry, phase = patch
    u, v = (x - cx) / rx, (y - cy) / ry
    return np.sqrt(u * u + v * v) + 0.12 * np.sin(7 * x / rx + 6 * phase) * np.sin(5 * y / ry)


def paint(layout: Layout, n: int, texture: float) -> tuple[Array, Array]:
    """The empty stage: float32 [3, n, n] and the region of each pixel, int64 [n, n]; `texture` in [0, 1]."""
    where, (x, y) = regions(layout, n), axes(n)
    image = _surface(layout, 0, n, texture)
    for k, edge in enumerate(_edges(layout, n), start=1):
        above = (edge - y) / _EDGE
        image *= 1 - 0.32 * np.where(above > 0, np.maximum(1 - above, 0) ** 2, 0)
        layer = _surface(layout, k, n, texture) + 0.12 * np.exp(-((above / 0.25) ** 2))
        image += np.clip((y - edge) * n + 0.5, 0, 1) * (layer - image)
    if layout.patch is not None:
        outside = _patch_radius(layout.patch, x, y) - 1
        ground = np.clip((y - _edges(layout, n)[0]) * n + 0.5, 0, 1)
        layer = _surface(layout, len(layout.stuff) - 1, n, texture)
        layer *= 1 - 0.3 * np.clip(1 + outside / 0.25, 0, 1) ** 2
        image += ground * np.clip(0.5 - outside * n * layout.patch[3], 0, 1) * (layer - image)
    return image, where


def _surface(layout: Layout, region: int, n: int, texture: float) -> Array:
    surface = TEXTURES[STUFF[layout.stuff[region]]](default_rng(layout.seeds[region]), n)
    if texture < 1:
        mean = surface.mean((1, 2), keepdims=True)
        surface = mean + texture * (surface - mean)
    return surface
