"""The ground of the embedded world: eight painted surfaces, and how two to four of them share an image.

All noise is a random lattice of fixed size, interpolated by cubic B-splines: a seed paints the same surface at every
resolution. Layers of ground lie before a backdrop (sky or a wall) like sheets of cut paper, sometimes with a pond or rug.
"""

from collections.abc import Callable
from functools import lru_cache
from typing import NamedTuple

import numpy as np
from numpy.random import Generator, default_rng

Array = np.ndarray
Tone = Callable[[Array], Array]
_EDGE = 0.045  # height of the shadow that a nearer layer casts on the one behind, in fractions of the image


def percents(text: str) -> Array:
    """Turn colors in percent of RGB into float32 [..., 3] in [0, 1]."""
    return (np.array(text.replace("|", "").split(), float) / 100).astype(np.float32).reshape(-1, 3)


@lru_cache(maxsize=64)
def _spline(n: int, cells: int) -> Array:
    """Return the weights [n, cells + 3] that interpolate a lattice of `cells` cells at n pixel centers."""
    position = (np.arange(n) + 0.5) / n * cells
    cell = np.floor(position).astype(int)
    t = position - cell
    weights = np.zeros((n, cells + 3))
    for k, b in enumerate(((1 - t) ** 3, 3 * t**3 - 6 * t**2 + 4, -3 * t**3 + 3 * t**2 + 3 * t + 1, t**3)):
        weights[np.arange(n), cell + k] = b / 6
    return weights.astype(np.float32)


def noise(rng: Generator, n: int, rows: int, columns: int) -> Array:
    """Make smooth noise [n, n] in [-1, 1] (rarely beyond +-0.7) with about `rows` x `columns` bumps."""
    lattice = rng.random((rows + 3, columns + 3), dtype=np.float32) * 2 - 1
    return 1.6 * (_spline(n, rows) @ lattice @ _spline(n, columns).T)


def axes(n: int) -> tuple[Array, Array]:
    """Return the pixel centers x [1, n] and y [n, 1] in [0, 1]."""
    center = (np.arange(n, dtype=np.float32) + 0.5) / n
    return center[None, :], center[:, None]


def _dots(rng: Generator, n: int, cells: int, share: float, radius: float) -> Array:
    """Measure the distance [n, n] to a dot in units of its radius, which is at most `radius` squares (below 0.4); each of
    cells x cells squares has a dot with probability `share`.
    """
    x, y = axes(n)
    column, row = (x * cells).astype(int), (y * cells).astype(int)
    size = radius * rng.uniform(0.6, 1, (cells, cells)) * (rng.random((cells, cells)) < share) + 1e-4
    center = radius + (1 - 2 * radius) * rng.random((2, cells, cells))
    size, cx, cy = (v.astype(np.float32)[row, column] for v in (size, *center))
    return np.sqrt((x * cells % 1 - cx) ** 2 + (y * cells % 1 - cy) ** 2) / size


def _smoothstep(low: float, high: float, x: Array) -> Array:
    t = np.clip((x - low) / (high - low), 0, 1)
    return t * t * (3 - 2 * t)


def _cover(image: Array, color: str, alpha: Array) -> Array:
    return image + (percents(color)[0, :, None, None] - image) * alpha


# A surface paints n x n pixels with random numbers and a function `tone`: weights [n, n] in about [0, 1] -> colors [3, n, n]
# from its dark to its light tone.


def sky(rng: Generator, n: int, tone: Tone) -> Array:
    """Day, dawn or dusk, with clouds and sometimes a low sun."""
    x, y = axes(n)
    image = tone(np.minimum(1.6 * y, 1) + 0 * x)
    sun_x, sun_y, radius = rng.uniform(0.1, 0.9), rng.uniform(0.08, 0.3), rng.uniform(0.04, 0.07)
    if rng.random() < 0.5:
        distance = np.sqrt((x - sun_x) ** 2 + (y - sun_y) ** 2)
        disc = _smoothstep(radius + 0.008, radius - 0.008, distance)
        image = _cover(image, "100 93 68", 0.35 * np.exp(-7 * distance) + 0.65 * disc)
    puff = noise(rng, n, 9, 4) + 0.5 * noise(rng, n, 22, 11)
    cloud = 0.85 * _smoothstep(0.1, 0.45, puff) * (0.82 + 0.18 * _smoothstep(0.8, 0.1, puff))
    return _cover(image, "100 98 95", cloud)


def grass(rng: Generator, n: int, tone: Tone) -> Array:
    """Blades in soft patches of sun and shade, with flowers."""
    blades = np.abs(noise(rng, n, 16, 60)) + 0.6 * np.abs(noise(rng, n, 30, 90))
    image = tone(0.3 + 0.45 * noise(rng, n, 4, 3) + 0.75 * blades)
    petal = ("100 97 92", "100 84 30", "95 60 66")[rng.integers(3)]
    distance = _dots(rng, n, 16, rng.uniform(0, 0.2), 0.3)
    image = _cover(image, petal, _smoothstep(1.1, 0.8, distance))
    return _cover(image, "96 70 20", _smoothstep(0.5, 0.3, distance))


def water(rng: Generator, n: int, tone: Tone) -> Array:
    """Ripples that carry bright crests."""
    swell = noise(rng, n, 14, 5)
    wave = np.sin(2 * np.pi * (rng.uniform(9, 14) * axes(n)[1] + 0.9 * swell))
    crest = _smoothstep(0.75, 1.0, wave) * _smoothstep(0.0, 0.5, noise(rng, n, 24, 9))
    return tone(0.35 + 0.2 * wave + 0.3 * swell) + 0.45 * crest


def sand(rng: Generator, n: int, tone: Tone) -> Array:
    """Wind ripples, grains and a few pebbles."""
    x, y = axes(n)
    slope = rng.uniform(-5, 5)
    ripple = np.sin(2 * np.pi * (rng.uniform(8, 14) * y + slope * x + 0.7 * noise(rng, n, 5, 4)))
    distance = _dots(rng, n, 14, 0.08, 0.2)
    pebble = 0.25 * _smoothstep(1.2, 0.8, distance) - 0.12 * _smoothstep(0.7, 0.2, distance)
    return tone(0.6 + 0.16 * ripple + 0.35 * noise(rng, n, 3, 3) + 0.3 * noise(rng, n, 80, 80)) - pebble


def snow(rng: Generator, n: int, tone: Tone) -> Array:
    """Drifts with blue shadows and a glitter."""
    drift = noise(rng, n, 7, 3)
    lit = drift - np.roll(drift, max(n // 40, 1), axis=0)
    glitter = _smoothstep(1.2, 0.5, _dots(rng, n, 40, 0.1, 0.3))
    return tone(0.62 + 0.35 * drift + 1.2 * lit) + 0.15 * glitter


def rock(rng: Generator, n: int, tone: Tone) -> Array:
    """Rounded stones, each with its own tint, lit from above."""
    x, y = axes(n)
    across = int(rng.integers(7, 12))
    px, py = x * across + 0.35 * noise(rng, n, 9, 9), 1.25 * y * across + 0.35 * noise(rng, n, 9, 9)
    side = 2 * across
    shift = rng.uniform(0.12, 0.88, (2, side * side)).astype(np.float32)
    nearest, second = np.full((2, n, n), 9, np.float32)
    corner = np.floor(py - 0.5).astype(np.int32) * side + np.floor(px - 0.5).astype(np.int32)
    px, py, stone = px - np.floor(px - 0.5), py - np.floor(py - 0.5), corner
    for down, right in ((0, 0), (0, 1), (1, 0), (1, 1)):
        cell = corner + (down * side + right)
        u = px - shift[0].take(cell, mode="wrap") - right
        v = py - shift[1].take(cell, mode="wrap") - down
        distance = np.sqrt(u * u + v * v)
        stone = np.where(distance < nearest, cell, stone)
        second = np.minimum(second, np.maximum(distance, nearest))
        nearest = np.minimum(nearest, distance)
    tint = rng.random(side * side, dtype=np.float32).take(stone, mode="wrap")
    joint = second - nearest
    lit = joint - np.roll(joint, max(n // 50, 1), axis=0)
    f = 0.1 + 0.5 * tint + 0.5 * _smoothstep(0.02, 0.3, joint) + 0.9 * np.clip(lit, -0.25, 0.25)
    return tone(f + 0.25 * noise(rng, n, 60, 60) + 0.15 * noise(rng, n, 20, 20))


def brick(rng: Generator, n: int, tone: Tone) -> Array:
    """A wall, each brick with its own tint and a lit upper edge."""
    x, y = axes(n)
    rows = int(rng.integers(9, 14))
    course = np.floor(y * rows)
    along = x * rows / 2.2 + 0.5 * (course % 2) + rng.random()
    u, v = along % 1, (y * rows) % 1
    tint = rng.random((rows, rows), dtype=np.float32)[course.astype(int), np.floor(along).astype(int)]
    mortar = np.maximum(_smoothstep(0.09, 0.04, np.minimum(u, 1 - u)), _smoothstep(0.16, 0.08, np.minimum(v, 1 - v)))
    image = tone(0.15 + 0.6 * tint + 0.25 * noise(rng, n, 50, 50) + 0.25 * _smoothstep(0.3, 0.12, v))
    return _cover(image, "80 76 70", mortar)


def wood(rng: Generator, n: int, tone: Tone) -> Array:
    """Planks with grain, upright or lying."""
    y = axes(n)[1]
    planks = int(rng.integers(5, 9))
    board, v = np.floor(y * planks).astype(int), (y * planks) % 1
    tints = rng.random((planks, 1), dtype=np.float32)[board[:, 0]]
    grain = np.sin(2 * np.pi * (3 * v + 5 * tints + 1.1 * noise(rng, n, 3 * planks, 4)))
    seam = _smoothstep(0.08, 0.02, np.minimum(v, 1 - v))
    image = tone(0.3 + 0.4 * tints + 0.14 * grain + 0.3 * noise(rng, n, 70, 8) - 0.7 * seam)
    return image if rng.random() < 0.5 else image.swapaxes(1, 2)


# With pairs of a dark and a light tone (of the sky: its top and its horizon), in percent of RGB; a surface draws one pair
SURFACES = {
    "sky": (sky, "36 62 86  82 92 96 | 45 50 76  98 80 66 | 30 62 70  96 92 74 | 25 30 52  82 62 70"),
    "grass": (grass, "22 44 16  60 76 30 | 30 44 14  78 78 34 | 14 40 28  50 74 46"),
    "water": (water, "10 36 56  45 74 84 |  8 42 46  50 82 76 | 20 30 50  66 72 84"),
    "sand": (sand, "74 58 36  98 88 66 | 70 50 38  96 80 64 | 72 64 44  95 92 74"),
    "snow": (snow, "66 76 88  98 99 100 | 74 72 86  100 97 96 | 66 80 82  96 100 99"),
    "rock": (rock, "30 30 34  74 72 70 | 36 28 24  80 68 56 | 28 32 38  66 72 76"),
    "brick": (brick, "50 20 16  82 46 34 | 52 42 36  88 78 68 | 40 30 34  72 56 56"),
    "wood": (wood, "42 26 14  78 56 34 | 56 40 26  90 76 56 | 36 30 28  68 62 56"),
}
STUFF = tuple(SURFACES)
GROUNDS = ("grass", "sand", "water", "snow", "rock", "wood", "brick")


class Layout(NamedTuple):
    """Regions of an image: the backdrop, the layers before it from far to near, the patch on the ground.

    stuff, seeds: index into `STUFF` and seed of each region. edges: [L, 5], the upper edge of each layer as base,
    amplitude, frequency, phase and slope. patch: center x, y, two radii and a phase, or None.
    """

    stuff: tuple[int, ...]
    edges: Array
    patch: tuple[float, ...] | None
    seeds: tuple[int, ...]


def plan_layout(rng: Generator) -> Layout:
    """Draw a landscape under the sky or a floor before a wall."""
    outdoors = rng.random() < 0.65
    backdrop = "sky" if outdoors else ("brick", "wood", "rock")[rng.integers(3)]
    layers = int(rng.integers(1, 4)) if outdoors else 1
    has_patch = rng.random() < (0.3 if layers < 3 else 0.0)
    grounds = [g for g in GROUNDS if g != backdrop]
    names = [backdrop, *(grounds[k] for k in rng.permutation(len(grounds))[: layers + has_patch])]
    first, last = rng.uniform(0.22, 0.5), rng.uniform(0.6, 0.78)
    edges = []
    for base, name in zip(np.linspace(first, last, layers), names[1:], strict=False):
        rolling = 0.0 if name == "water" or not outdoors else 1.0
        amplitude, slope = rolling * rng.uniform(0.01, 0.05), rolling * rng.uniform(-0.1, 0.1)
        edges.append((base, amplitude, rng.uniform(0.7, 2.2), rng.random(), slope))
    y = rng.uniform(0.5 * (edges[-1][0] + 1), 0.9)
    patch = (rng.uniform(0.2, 0.8), y, rng.uniform(0.22, 0.4), rng.uniform(0.1, 0.16), rng.random())
    seeds = tuple(int(v) for v in rng.integers(2**31, size=len(names)))
    return Layout(tuple(map(STUFF.index, names)), np.array(edges), patch if has_patch else None, seeds)


def _edges(layout: Layout, n: int) -> Array:
    """Return the upper edge of each layer at each column: float32 [L, n] in fractions of the image."""
    x = axes(n)[0]
    base, amplitude, frequency, phase, slope = (c[:, None] for c in layout.edges.T)
    return (base + slope * (x - 0.5) + amplitude * np.sin(2 * np.pi * (frequency * x + phase))).astype(np.float32)


def _patch_radius(patch: tuple[float, ...], n: int) -> Array:
    (x, y), (cx, cy, rx, ry, phase) = axes(n), patch
    u, v = (x - cx) / rx, (y - cy) / ry
    return np.sqrt(u * u + v * v) + 0.12 * np.sin(7 * x / rx + 6 * phase) * np.sin(5 * y / ry)


def regions(layout: Layout, n: int) -> Array:
    """Say which region each pixel belongs to, counted from the backdrop: int64 [n, n]."""
    out = (axes(n)[1][None] > _edges(layout, n)[:, None]).sum(0)
    if layout.patch is not None:
        out[(_patch_radius(layout.patch, n) < 1) & (out > 0)] = len(layout.stuff) - 1
    return out


def paint(layout: Layout, n: int, texture: float) -> tuple[Array, Array]:
    """Paint the empty stage: float32 [3, n, n], and the region of each pixel, int64 [n, n]; `texture` is in [0, 1]."""

    def surface(region: int) -> Array:
        (draw, tones), rng = SURFACES[STUFF[layout.stuff[region]]], default_rng(layout.seeds[region])
        pairs = percents(tones).reshape(-1, 2, 3, 1, 1)
        dark, light = pairs[rng.integers(len(pairs))]
        painted = draw(rng, n, lambda f: dark + (light - dark) * f)
        mean = painted.mean((1, 2), keepdims=True)
        return painted if texture == 1 else mean + texture * (painted - mean)

    y, edges = axes(n)[1], _edges(layout, n)
    image = surface(0)
    for k, edge in enumerate(edges, start=1):
        above = (edge - y) / _EDGE
        image *= 1 - 0.32 * np.where(above > 0, np.maximum(1 - above, 0) ** 2, 0)
        layer = surface(k) + 0.12 * np.exp(-((above / 0.25) ** 2))
        image += np.clip((y - edge) * n + 0.5, 0, 1) * (layer - image)
    if layout.patch is not None:
        outside = _patch_radius(layout.patch, n) - 1
        ground = np.clip((y - edges[0]) * n + 0.5, 0, 1)
        layer = surface(len(layout.stuff) - 1) * (1 - 0.3 * np.clip(1 + outside / 0.25, 0, 1) ** 2)
        image += ground * np.clip(0.5 - outside * n * layout.patch[3], 0, 1) * (layer - image)
    return image, regions(layout, n)
