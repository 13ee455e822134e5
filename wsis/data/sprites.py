"""From a drawing to pixels: signed distances of all parts at once, then relief, light, pattern and soft shadow."""

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from wsis.data.shapes import PARTS, TINTS, Part

Array = np.ndarray
_CIRCLE = np.stack([f(np.arange(12) * np.pi / 6) for f in (np.cos, np.sin)])  # (2, 12)
_DECALS = {"eye", "spot", "window", "nose", "panel", "lamp", "muzzle", "fruit", "door"}
_SOFT = 0.14  # width of the shadow's penumbra, in units of the drawing


@dataclass(frozen=True, kw_only=True)
class Costume:
    """How the parts are painted.

    colours: float32 [T, 3], RGB in [0, 1] per name of `TINTS`. pattern: 0 plain, 1 stripes, 2 spots, 3 patches.
    phase: float [3], frequency, angle and offset of the pattern. strength: of the pattern, in [0, 1].
    """

    colours: Array
    pattern: int
    phase: tuple[float, float, float]
    strength: float


class Pose(NamedTuple):
    """Where a drawing stands: centre of its box x, y and longest side of the box as fractions of the picture."""

    x: float
    y: float
    size: float
    turn: float
    flip: bool


@dataclass(frozen=True, kw_only=True)
class Sprite:
    """A rendered object on its own small window, whose upper left pixel is (top, left) of the picture.

    rgb: float32 [3, h, w]. alpha, shadow: float32 [h, w] in [0, 1]. parts: int64 [h, w], 0 outside, else 1 + index.
    """

    top: int
    left: int
    rgb: Array
    alpha: Array
    shadow: Array
    parts: Array


def _affine(pose: Pose) -> Array:
    """Rotation and flip [2, 2], drawing -> picture."""
    c, s = np.cos(pose.turn), np.sin(pose.turn)
    return np.array([[c, -s], [s, c]]) @ np.diag([-1.0 if pose.flip else 1.0, 1.0])


def outline(parts: list[Part]) -> Array:
    """Points [2, M] whose bounding box is that of the drawing, in units of the drawing."""
    ovals = np.array([p.geometry for p in parts if p.kind == "oval"]).reshape(-1, 5).T[:, :, None]
    limbs = np.array([p.geometry for p in parts if p.kind == "limb"]).reshape(-1, 6).T[:, :, None]
    corners = [p.geometry[1:] for p in parts if p.kind == "poly"]
    c, s, u, v = np.cos(ovals[4]), np.sin(ovals[4]), ovals[2] * _CIRCLE[0], ovals[3] * _CIRCLE[1]
    points = [
        np.stack([ovals[0] + c * u - s * v, ovals[1] + s * u + c * v]).reshape(2, -1),
        (limbs[0:2] + limbs[4] * _CIRCLE[:, None]).reshape(2, -1),
        (limbs[2:4] + limbs[5] * _CIRCLE[:, None]).reshape(2, -1),
        np.concatenate(corners).reshape(-1, 2).T if corners else np.empty((2, 0)),
    ]
    return np.concatenate(points, axis=1)


def extent(parts: list[Part], pose: Pose) -> tuple[Array, Array, float]:
    """Corners (low, high) of the posed drawing and the factor by which it is scaled to `pose.size`."""
    points = _affine(pose) @ outline(parts)
    low, high = points.min(1), points.max(1)
    return low, high, pose.size / float((high - low).max())


def _ovals(parts: list[Part], grid: Array) -> Array:
    """Distance to ellipses, first order: k0 (k0 - 1) / k1 with k0 = |p / r|, k1 = |p / r^2|."""
    x, y, rx, ry, turn = np.array([p.geometry for p in parts]).T
    c, s = np.cos(turn), np.sin(turn)
    rows = np.stack([c / rx, s / rx, -(c * x + s * y) / rx, -s / ry, c / ry, (s * x - c * y) / ry], 1)
    p = (rows.reshape(-1, 3).astype(np.float32) @ grid).reshape(len(parts), 2, -1)
    p *= p
    k0 = p[:, 0] + p[:, 1]
    k1 = np.sqrt(
        p[:, 0] / np.float32(rx[:, None] ** 2) + p[:, 1] / np.float32(ry[:, None] ** 2) + np.float32(1e-9)
    )
    return (k0 - np.sqrt(k0)) / k1


def _limbs(parts: list[Part], grid: Array) -> Array:
    """Distance to a segment less a radius that changes linearly along it."""
    x0, y0, x1, y1, r0, r1 = np.array([p.geometry for p in parts]).T
    length = np.hypot(x1 - x0, y1 - y0)
    c, s = (x1 - x0) / length, (y1 - y0) / length
    rows = np.stack([c, s, -(c * x0 + s * y0), -s, c, s * x0 - c * y0], 1)
    p = (rows.reshape(-1, 3).astype(np.float32) @ grid).reshape(len(parts), 2, -1)
    along, length = p[:, 0], np.float32(length[:, None])
    on = np.clip(along, 0, length)
    along = along - on
    off = np.sqrt(along * along + p[:, 1] * p[:, 1])
    return off - np.float32(r0[:, None]) - on * (np.float32((r1 - r0)[:, None]) / length)


def _polys(parts: list[Part], grid: Array) -> Array:
    """Distance to convex polygons as half planes, corners rounded by adding the excesses in quadrature."""
    rows = np.zeros((len(parts), 6, 3), np.float32)
    rows[:, :, 2] = -9  # a missing edge never counts
    for row, part in zip(rows, parts, strict=True):
        p = np.array(part.geometry[1:]).reshape(-1, 2)
        q = np.roll(p, -1, axis=0)
        edge = q - p
        area = np.sum(p[:, 0] * q[:, 1] - p[:, 1] * q[:, 0])
        normal = (
            np.sign(area)
            * np.stack([edge[:, 1], -edge[:, 0]], 1)
            / np.linalg.norm(edge, axis=1, keepdims=True)
        )
        row[: len(p), :2] = normal
        row[: len(p), 2] = -(normal * p).sum(1) + part.geometry[0]
    soft = np.float32([[p.geometry[0]] for p in parts])
    d = (rows.reshape(-1, 3) @ grid).reshape(len(parts), 6, -1)
    inside = np.minimum(d.max(1), 0)
    d = np.maximum(d, 0)
    return inside + np.sqrt(np.einsum("pen,pen->pn", d, d)) - soft


_DISTANCE = {"oval": _ovals, "limb": _limbs, "poly": _polys}


def distances(parts: list[Part], grid: Array) -> Array:
    """Signed distance [P, n] of each part at `grid` [3, n], rows x, y, 1 in units of the drawing; negative inside."""
    out = np.empty((len(parts), grid.shape[1]), np.float32)
    for kind, distance in _DISTANCE.items():
        rows = [i for i, p in enumerate(parts) if p.kind == kind]
        if rows:
            out[rows] = distance([parts[i] for i in rows], grid)
    return out


def _pattern(costume: Costume, grid: Array) -> Array:
    """Weight [n] in [0, 1] of the second colour on the coat."""
    frequency, angle, offset = (np.float32(v) for v in costume.phase)
    x, y = grid[0], grid[1]
    a = frequency * (np.cos(angle) * x + np.sin(angle) * y) + offset
    if costume.pattern == 1:
        wave = np.sin(a + np.float32(0.6) * np.sin(3 * y + offset))
    else:
        b = frequency * (np.cos(angle) * y - np.sin(angle) * x)
        wave = (
            np.sin(a) * np.sin(b)
            if costume.pattern == 2
            else np.sin(0.4 * a) + np.sin(0.4 * b + offset) - 0.3
        )
    return np.float32(costume.strength) * np.clip(4 * wave - 0.8, 0, 1)


def _shade(height: Array, rim: Array, light: Array) -> tuple[Array, Array]:
    """Diffuse and specular light [h, w] on a relief in pixels; `rim` is 0 at the edges of parts, 1 inside."""
    gx, gy = np.zeros_like(height), np.zeros_like(height)
    gx[:, 1:-1] = 0.35 * (height[:, 2:] - height[:, :-2])
    gy[1:-1] = 0.35 * (height[2:] - height[:-2])
    facing = (light[2] - gx * light[0] - gy * light[1]) / np.sqrt(1 + gx * gx + gy * gy)
    facing = np.maximum(facing, 0)
    shine = facing * facing
    shine *= shine
    shine *= shine
    return (0.56 + 0.62 * facing) * (0.74 + 0.26 * rim), 0.22 * shine * shine


def _layered(alpha: Array, front_first: list[Part]) -> tuple[Array, Array, Array]:
    """What is seen of each part [P, n], what each adds to the relief [P, n], and what shows through them all [n].

    Decals lie on the relief of the parts below them instead of hiding it.
    """
    weight, relief = np.empty_like(alpha), np.empty_like(alpha)
    clear, bare = np.ones_like(alpha[0]), np.ones_like(alpha[0])
    for i, part in enumerate(front_first):
        np.multiply(alpha[i], clear, out=weight[i])
        clear -= weight[i]
        if part.name in _DECALS:
            np.multiply(alpha[i], np.float32(0.6), out=relief[i])
        else:
            np.multiply(alpha[i], bare, out=relief[i])
            bare -= relief[i]
    return weight, relief, clear


def render(parts: list[Part], costume: Costume, pose: Pose, light: Array, n: int) -> Sprite:
    """Draw one object for a picture of n pixels a side; `light` is a unit vector [3] towards the lamp."""
    low, high, scale = extent(parts, pose)
    unit = scale * n  # pixels per unit of the drawing
    center = np.array([pose.x, pose.y]) * n
    half = (high - low) * unit / 2
    margin = _SOFT * unit + 1
    left, top = np.floor(center - half - margin).astype(int)
    right, bottom = np.ceil(center + half + margin).astype(int)
    back = np.linalg.inv(_affine(pose))
    shift = back @ ((low + high) / 2)
    px = (np.arange(left, right) + 0.5 - center[0]) / unit
    py = (np.arange(top, bottom) + 0.5 - center[1]) / unit
    shape = (bottom - top, right - left)
    grid = np.ones((3, *shape), np.float32)
    grid[:2] = back[:, 0, None, None] * px + back[:, 1, None, None] * py[:, None] + shift[:, None, None]
    grid = grid.reshape(3, -1)

    front_first = parts[::-1]
    d = distances(front_first, grid)
    alpha = d * np.float32(-unit)
    alpha += np.float32(0.5)
    np.clip(alpha, 0, 1, out=alpha)
    weight, relief, clear = _layered(alpha, front_first)
    bulge = np.float32([[p.bulge] for p in front_first])
    depth = d * (-1 / bulge)
    np.clip(depth, 0, 1, out=depth)
    dome = 2 - depth
    dome *= depth
    np.sqrt(dome, out=dome)
    height = np.einsum("pn,pn->n", relief, dome * bulge)
    rim = np.minimum(2.5 * np.einsum("pn,pn->n", weight, depth), 1)
    shade, shine = _shade((height * unit).reshape(shape), rim.reshape(shape), light)

    tints = [TINTS.index(p.tint) for p in front_first]
    colour = costume.colours[tints].T @ weight
    if costume.pattern:
        worn = weight[[p.tint == "coat" for p in front_first]].sum(0) * _pattern(costume, grid)
        colour += (costume.colours[TINTS.index("second")] - costume.colours[TINTS.index("coat")])[
            :, None
        ] * worn
    nearest = d.min(0)
    names = np.array([PARTS.index(p.name) + 1 for p in front_first])
    fall = np.clip(0.5 - nearest / np.float32(_SOFT), 0, 1)
    return Sprite(
        top=int(top),
        left=int(left),
        rgb=colour.reshape(3, *shape) * shade + shine,
        alpha=(1 - clear).reshape(shape),
        shadow=(fall * fall * (3 - 2 * fall)).reshape(shape),
        parts=(names[(d < 0).argmax(0)] * (nearest < 0)).reshape(shape),
    )
