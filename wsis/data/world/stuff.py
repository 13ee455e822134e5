"""The stuff of the embedded world: eight painted surfaces.

All noise is a random lattice of fixed size, interpolated by cubic B-splines, so that a seed paints the same
surface at every resolution. A texture returns float32 [3, n, n], RGB in about [0, 1].
"""

from collections.abc import Callable
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.random import Generator

Array = np.ndarray
Colour = tuple[float, float, float]


@lru_cache(maxsize=64)
def _spline(n: int, cells: int) -> Array:
    """Weights [n, cells + 3] that interpolate a lattice of `cells` cells at n pixel centres."""
    at = (np.arange(n) + 0.5) / n * cells
    cell = np.floor(at).astype(int)
    t = at - cell
    weights = np.zeros((n, cells + 3))
    basis = ((1 - t) ** 3, 3 * t**3 - 6 * t**2 + 4, -3 * t**3 + 3 * t**2 + 3 * t + 1, t**3)
    for k, b in enumerate(basis):
        weights[np.arange(n), cell + k] = b / 6
    return weights.astype(np.float32)


def noise(rng: Generator, n: int, rows: int, columns: int) -> Array:
    """Smooth noise [n, n] in [-1, 1] (rarely beyond +-0.7) with about `rows` x `columns` bumps."""
    lattice = rng.random((rows + 3, columns + 3), dtype=np.float32) * 2 - 1
    return 1.6 * (_spline(n, rows) @ lattice @ _spline(n, columns).T)


def axes(n: int) -> tuple[Array, Array]:
    """Pixel centres x [1, n] and y [n, 1] in [0, 1]."""
    at = (np.arange(n, dtype=np.float32) + 0.5) / n
    return at[None, :], at[:, None]


def dots(rng: Generator, n: int, cells: int, share: float, radius: float) -> Array:
    """Distance [n, n] to a dot in units of its radius; the picture has cells x cells squares for a dot each.

    share: probability of a dot in a square. radius: of the largest, in squares, below 0.4.
    """
    x, y = axes(n)
    column, row = (x * cells).astype(int), (y * cells).astype(int)
    size = radius * rng.uniform(0.6, 1, (cells, cells)) * (rng.random((cells, cells)) < share) + 1e-4
    center = radius + (1 - 2 * radius) * rng.random((2, cells, cells))
    size, cx, cy = (v.astype(np.float32)[row, column] for v in (size, *center))
    return np.sqrt((x * cells % 1 - cx) ** 2 + (y * cells % 1 - cy) ** 2) / size


def smoothstep(low: float, high: float, x: Array) -> Array:
    t = np.clip((x - low) / (high - low), 0, 1)
    return t * t * (3 - 2 * t)


def _mix(dark: Colour, light: Colour, f: Array) -> Array:
    a, b = (np.asarray(c, np.float32)[:, None, None] for c in (dark, light))
    return a + (b - a) * f


def _cover(image: Array, colour: Colour, alpha: Array) -> Array:
    return image + (np.asarray(colour, np.float32)[:, None, None] - image) * alpha


def _choose(rng: Generator, *tones: Any) -> Any:
    return tones[rng.integers(len(tones))]


def sky(rng: Generator, n: int) -> Array:
    """Day, dawn or dusk, with clouds and sometimes a low sun."""
    top, low = _choose(
        rng,
        ((0.36, 0.62, 0.86), (0.82, 0.92, 0.96)),
        ((0.45, 0.5, 0.76), (0.98, 0.8, 0.66)),
        ((0.3, 0.62, 0.7), (0.96, 0.92, 0.74)),
        ((0.25, 0.3, 0.52), (0.82, 0.62, 0.7)),
    )
    x, y = axes(n)
    image = _mix(top, low, np.minimum(1.6 * y, 1) + 0 * x)
    sun_x, sun_y, radius = rng.uniform(0.1, 0.9), rng.uniform(0.08, 0.3), rng.uniform(0.04, 0.07)
    if rng.random() < 0.5:
        away = np.sqrt((x - sun_x) ** 2 + (y - sun_y) ** 2)
        glow = 0.35 * np.exp(-7 * away) + 0.65 * smoothstep(radius + 0.008, radius - 0.008, away)
        image = _cover(image, (1, 0.93, 0.68), glow)
    puff = noise(rng, n, 9, 4) + 0.5 * noise(rng, n, 22, 11)
    cloud = 0.85 * smoothstep(0.1, 0.45, puff) * (0.82 + 0.18 * smoothstep(0.8, 0.1, puff))
    return _cover(image, (1, 0.98, 0.95), cloud)


def grass(rng: Generator, n: int) -> Array:
    """Blades in soft patches of sun and shade, with flowers."""
    dark, light = _choose(
        rng,
        ((0.22, 0.44, 0.16), (0.6, 0.76, 0.3)),
        ((0.3, 0.44, 0.14), (0.78, 0.78, 0.34)),
        ((0.14, 0.4, 0.28), (0.5, 0.74, 0.46)),
    )
    blades = np.abs(noise(rng, n, 16, 60)) + 0.6 * np.abs(noise(rng, n, 30, 90))
    image = _mix(dark, light, 0.3 + 0.45 * noise(rng, n, 4, 3) + 0.75 * blades)
    petal = _choose(rng, (1, 0.97, 0.92), (1, 0.84, 0.3), (0.95, 0.6, 0.66))
    away = dots(rng, n, 16, rng.uniform(0, 0.2), 0.3)
    image = _cover(image, petal, smoothstep(1.1, 0.8, away))
    return _cover(image, (0.96, 0.7, 0.2), smoothstep(0.5, 0.3, away))


def water(rng: Generator, n: int) -> Array:
    """Ripples that carry bright crests."""
    dark, light = _choose(
        rng,
        ((0.1, 0.36, 0.56), (0.45, 0.74, 0.84)),
        ((0.08, 0.42, 0.46), (0.5, 0.82, 0.76)),
        ((0.2, 0.3, 0.5), (0.66, 0.72, 0.84)),
    )
    _, y = axes(n)
    swell = noise(rng, n, 14, 5)
    wave = np.sin(2 * np.pi * (rng.uniform(9, 14) * y + 0.9 * swell))
    crest = smoothstep(0.75, 1.0, wave) * smoothstep(0.0, 0.5, noise(rng, n, 24, 9))
    return _mix(dark, light, 0.35 + 0.2 * wave + 0.3 * swell) + 0.45 * crest


def sand(rng: Generator, n: int) -> Array:
    """Wind ripples, grains and a few pebbles."""
    dark, light = _choose(
        rng,
        ((0.74, 0.58, 0.36), (0.98, 0.88, 0.66)),
        ((0.7, 0.5, 0.38), (0.96, 0.8, 0.64)),
        ((0.72, 0.64, 0.44), (0.95, 0.92, 0.74)),
    )
    x, y = axes(n)
    slope = rng.uniform(-5, 5)
    ripple = np.sin(2 * np.pi * (rng.uniform(8, 14) * y + slope * x + 0.7 * noise(rng, n, 5, 4)))
    away = dots(rng, n, 14, 0.08, 0.2)
    pebble = 0.25 * smoothstep(1.2, 0.8, away) - 0.12 * smoothstep(0.7, 0.2, away)
    f = 0.6 + 0.16 * ripple + 0.35 * noise(rng, n, 3, 3) + 0.3 * noise(rng, n, 80, 80)
    return _mix(dark, light, f) - pebble


def snow(rng: Generator, n: int) -> Array:
    """Drifts with blue shadows and a glitter."""
    dark, light = _choose(
        rng,
        ((0.66, 0.76, 0.88), (0.98, 0.99, 1.0)),
        ((0.74, 0.72, 0.86), (1.0, 0.97, 0.96)),
        ((0.66, 0.8, 0.82), (0.96, 1.0, 0.99)),
    )
    drift = noise(rng, n, 7, 3)
    lit = drift - np.roll(drift, max(n // 40, 1), axis=0)
    glitter = smoothstep(1.2, 0.5, dots(rng, n, 40, 0.1, 0.3))
    return _mix(dark, light, 0.62 + 0.35 * drift + 1.2 * lit) + 0.15 * glitter


def rock(rng: Generator, n: int) -> Array:
    """Rounded stones, each with its own tint, lit from above."""
    dark, light = _choose(
        rng,
        ((0.3, 0.3, 0.34), (0.74, 0.72, 0.7)),
        ((0.36, 0.28, 0.24), (0.8, 0.68, 0.56)),
        ((0.28, 0.32, 0.38), (0.66, 0.72, 0.76)),
    )
    x, y = axes(n)
    across = int(rng.integers(7, 12))
    px, py = x * across + 0.35 * noise(rng, n, 9, 9), 1.25 * y * across + 0.35 * noise(rng, n, 9, 9)
    side = 2 * across
    shift = rng.uniform(0.12, 0.88, (2, side * side)).astype(np.float32)
    nearest, second = np.full((2, n, n), 9, np.float32)
    corner = np.floor(py - 0.5).astype(np.int32) * side + np.floor(px - 0.5).astype(np.int32)
    px, py, stone = px - np.floor(px - 0.5), py - np.floor(py - 0.5), corner
    for down in (0, 1):
        for right in (0, 1):
            cell = corner + (down * side + right)
            u = px - shift[0].take(cell, mode="wrap") - right
            v = py - shift[1].take(cell, mode="wrap") - down
            away = np.sqrt(u * u + v * v)
            stone = np.where(away < nearest, cell, stone)
            second = np.minimum(second, np.maximum(away, nearest))
            nearest = np.minimum(nearest, away)
    tint = rng.random(side * side, dtype=np.float32).take(stone, mode="wrap")
    joint = second - nearest
    lit = joint - np.roll(joint, max(n // 50, 1), axis=0)
    f = 0.1 + 0.5 * tint + 0.5 * smoothstep(0.02, 0.3, joint) + 0.9 * np.clip(lit, -0.25, 0.25)
    return _mix(dark, light, f + 0.25 * noise(rng, n, 60, 60) + 0.15 * noise(rng, n, 20, 20))


def brick(rng: Generator, n: int) -> Array:
    """A wall, each brick with its own tint and a lit upper edge."""
    dark, light = _choose(
        rng,
        ((0.5, 0.2, 0.16), (0.82, 0.46, 0.34)),
        ((0.52, 0.42, 0.36), (0.88, 0.78, 0.68)),
        ((0.4, 0.3, 0.34), (0.72, 0.56, 0.56)),
    )
    x, y = axes(n)
    rows = int(rng.integers(9, 14))
    course = np.floor(y * rows)
    along = x * rows / 2.2 + 0.5 * (course % 2) + rng.random()
    u, v = along % 1, (y * rows) % 1
    tints = rng.random((rows, rows), dtype=np.float32)
    tint = tints[course.astype(int), np.floor(along).astype(int)]
    mortar = np.maximum(smoothstep(0.09, 0.04, np.minimum(u, 1 - u)), smoothstep(0.16, 0.08, np.minimum(v, 1 - v)))
    f = 0.15 + 0.6 * tint + 0.25 * noise(rng, n, 50, 50) + 0.25 * smoothstep(0.3, 0.12, v)
    image = _mix(dark, light, f)
    return _cover(image, (0.8, 0.76, 0.7), mortar)


def wood(rng: Generator, n: int) -> Array:
    """Planks with grain, upright or lying."""
    dark, light = _choose(
        rng,
        ((0.42, 0.26, 0.14), (0.78, 0.56, 0.34)),
        ((0.56, 0.4, 0.26), (0.9, 0.76, 0.56)),
        ((0.36, 0.3, 0.28), (0.68, 0.62, 0.56)),
    )
    _, y = axes(n)
    planks = int(rng.integers(5, 9))
    board = np.floor(y * planks).astype(int)
    v = (y * planks) % 1
    tints = rng.random((planks, 1), dtype=np.float32)[board[:, 0]]
    bend = noise(rng, n, 3 * planks, 4)
    grain = np.sin(2 * np.pi * (3 * v + 5 * tints + 1.1 * bend))
    seam = smoothstep(0.08, 0.02, np.minimum(v, 1 - v))
    f = 0.3 + 0.4 * tints + 0.14 * grain + 0.3 * noise(rng, n, 70, 8) - 0.7 * seam
    image = _mix(dark, light, f)
    return image if rng.random() < 0.5 else image.swapaxes(1, 2)


TEXTURES: dict[str, Callable[[Generator, int], Array]] = {
    f.__name__: f for f in (sky, grass, water, sand, snow, rock, brick, wood)
}
STUFF = tuple(TEXTURES)
