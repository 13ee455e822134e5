"""From a drawing to pixels: signed distances of all parts at once, then relief, light, pattern, soft shadow."""

from math import ceil, cos, floor, sin
from typing import NamedTuple

import numpy as np

from wsis.data.world.shapes import MAX_CORNERS, PARTS, TINTS, Part

Array = np.ndarray
PATTERNS = ("plain", "stripes", "spots", "patches")
_CIRCLE = np.stack([f(np.arange(12) * np.pi / 6) for f in (np.cos, np.sin)])  # [2, 12]
_DECALS = set("eye spot window nose panel lamp muzzle fruit door".split())
_LENGTHS = {"oval": 5, "limb": 6, "poly": 2 * MAX_CORNERS + 1}  # of the geometry
_PENUMBRA = 0.11  # width of the shadow's soft edge, in units of the drawing


class Costume(NamedTuple):
    """The RGB colors of the `TINTS`, float32 [T, 3] in [0, 1], and a pattern in the second color.

    phase: the pattern's frequency (radians per unit), angle and offset (radians). strength: of the pattern, in [0, 1].
    """

    colors: Array
    pattern: str
    phase: tuple[float, float, float]
    strength: float


class Pose(NamedTuple):
    """How a drawing lies in the image; x, y is the center of its box in fractions of the image.

    turn: radians, clockwise, after `flip` from left to right. scale: fractions of the image per unit of the drawing. low,
    high: corners [2] of the turned drawing's box, in units.
    """

    x: float
    y: float
    turn: float
    flip: bool
    scale: float
    low: Array
    high: Array

    @property
    def half(self) -> Array:
        """Half width and half height of the box, fractions of the image."""
        return (self.high - self.low) * (self.scale / 2)

    @property
    def size(self) -> float:
        """The longer side of the box, fraction of the image."""
        return 2 * float(self.half.max())


class Sprite(NamedTuple):
    """A rendered object on its own small window, whose upper left pixel is (top, left) of the image.

    rgb: float32 [3, h, w]. alpha, shadow: float32 [h, w] in [0, 1]. parts: int64 [h, w], 0 outside, i + 1 for `PARTS[i]`.
    """

    top: int
    left: int
    rgb: Array
    alpha: Array
    shadow: Array
    parts: Array


def _affine(turn: float, flip: bool) -> Array:
    """Return flip, then rotation, as a matrix [2, 2]: drawing -> image."""
    c, s = np.cos(turn), np.sin(turn)
    return np.array([[-c, -s], [-s, c]]) if flip else np.array([[c, -s], [s, c]])


def _measures(parts: list[Part], kind: str) -> Array:
    return np.array([p.geometry for p in parts if p.kind == kind]).reshape(-1, _LENGTHS[kind])


def posed(parts: list[Part], turn: float = 0.0, flip: bool = False) -> Pose:
    """Put the drawing at the origin, turned and flipped, one unit of it as large as the image."""
    ovals, limbs, polys = (_measures(parts, kind).T[:, :, None] for kind in _LENGTHS)
    c, s, u, v = np.cos(ovals[4]), np.sin(ovals[4]), ovals[2] * _CIRCLE[0], ovals[3] * _CIRCLE[1]
    outline = [  # points [2, M] whose bounding box is that of the drawing
        np.stack([ovals[0] + c * u - s * v, ovals[1] + s * u + c * v]).reshape(2, -1),
        (limbs[0:2] + limbs[4] * _CIRCLE[:, None]).reshape(2, -1),
        (limbs[2:4] + limbs[5] * _CIRCLE[:, None]).reshape(2, -1),
        np.stack([polys[1::2], polys[2::2]]).reshape(2, -1),
    ]
    points = _affine(turn, flip) @ np.concatenate(outline, axis=1)
    return Pose(0.0, 0.0, turn, flip, 1.0, points.min(1), points.max(1))


def _project(rows: Array, grid: Array) -> Array:
    """Apply affine maps float [P, k, 3] to `grid` [3, n]: float32 [P, k, n]."""
    return (rows.reshape(-1, 3).astype(np.float32) @ grid).reshape(*rows.shape[:2], -1)


def _ovals(geometry: Array, grid: Array) -> Array:
    """Distance to ellipses, first order: k0 (k0 - 1) / k1 with k0 = |p / r|, k1 = |p / r^2|."""
    x, y, rx, ry, turn = geometry.T
    c, s = np.cos(turn), np.sin(turn)
    rows = np.stack([c / rx, s / rx, -(c * x + s * y) / rx, -s / ry, c / ry, (s * x - c * y) / ry], 1)
    p = _project(rows.reshape(-1, 2, 3), grid)
    p *= p
    k0 = p[:, 0] + p[:, 1]
    inverse = (np.stack([rx, ry])[:, :, None] ** -2).astype(np.float32)
    k1 = np.sqrt(p[:, 0] * inverse[0] + p[:, 1] * inverse[1] + 1e-9)
    return (k0 - np.sqrt(k0)) / k1


def _limbs(geometry: Array, grid: Array) -> Array:
    """Distance to a segment less a radius that changes linearly along it."""
    x0, y0, x1, y1, r0, r1 = geometry.T
    length = np.hypot(x1 - x0, y1 - y0)
    c, s = (x1 - x0) / length, (y1 - y0) / length
    rows = np.stack([c, s, -(c * x0 + s * y0), -s, c, s * x0 - c * y0], 1)
    p = _project(rows.reshape(-1, 2, 3), grid)
    length, r0, slope = (v[:, None].astype(np.float32) for v in (length, r0, (r1 - r0) / length))
    along = np.clip(p[:, 0], 0, length)
    beyond = p[:, 0] - along
    return np.sqrt(beyond * beyond + p[:, 1] * p[:, 1]) - r0 - slope * along


def _polys(geometry: Array, grid: Array) -> Array:
    """Distance to convex polygons as half planes, corners rounded by adding the excesses in quadrature."""
    soft, p = geometry[:, :1], geometry[:, 1:].reshape(-1, MAX_CORNERS, 2)
    q = np.roll(p, -1, axis=1)
    x, y = np.moveaxis(q - p, 2, 0)
    around = np.sign((p[:, :, 0] * q[:, :, 1] - p[:, :, 1] * q[:, :, 0]).sum(1, keepdims=True))
    length = np.hypot(x, y)
    short = length < 1e-9
    normal = np.stack([y, -x], 2) * (around / np.where(short, 1, length))[:, :, None]
    offset = np.where(short, -9, soft - (normal * p).sum(2))  # an edge without length never counts
    d = _project(np.concatenate([normal, offset[:, :, None]], 2), grid)
    inside = np.minimum(d.max(1), 0)
    np.maximum(d, 0, out=d)
    return inside + np.sqrt(np.einsum("pen,pen->pn", d, d)) - soft.astype(np.float32)


def distances(parts: list[Part], grid: Array) -> Array:
    """Measure the signed distance [P, n] of each part at `grid` [3, n] (x, y, 1), in units; it is negative inside."""
    out = np.empty((len(parts), grid.shape[1]), np.float32)
    for kind, distance in (("oval", _ovals), ("limb", _limbs), ("poly", _polys)):
        if rows := [i for i, p in enumerate(parts) if p.kind == kind]:
            out[rows] = distance(_measures(parts, kind), grid)
    return out


def _pattern(costume: Costume, grid: Array) -> Array:
    """Return the weight [n] in [0, 1] of the second color on the coat."""
    (x, y, _), (frequency, angle, offset) = grid, costume.phase
    a = frequency * (cos(angle) * x + sin(angle) * y) + offset
    b = frequency * (cos(angle) * y - sin(angle) * x) + offset
    if costume.pattern == "stripes":
        wave = np.sin(a + 0.6 * np.sin(3 * y + offset))
    elif costume.pattern == "spots":
        wave = np.sin(a) * np.sin(b)
    else:
        wave = np.sin(0.4 * a) + np.sin(0.4 * b) - 0.3
    return costume.strength * np.clip(4 * wave - 0.8, 0, 1)


def _shade(height: Array, rim: Array, light: Array) -> tuple[Array, Array]:
    """Light a relief in pixels, diffuse and specular [h, w]; `rim` is 0 at the edges of parts, 1 inside."""
    gx, gy = np.zeros_like(height), np.zeros_like(height)
    gx[:, 1:-1] = 0.35 * (height[:, 2:] - height[:, :-2])
    gy[1:-1] = 0.35 * (height[2:] - height[:-2])
    facing = np.maximum((light[2] - gx * light[0] - gy * light[1]) / np.sqrt(1 + gx * gx + gy * gy), 0)
    shine = facing * facing
    for _ in range(2):
        shine *= shine
    return (0.56 + 0.62 * facing) * (0.74 + 0.26 * rim), 0.22 * shine * shine


def _layered(alpha: Array, front_first: list[Part]) -> tuple[Array, Array, Array]:
    """Return the visible share [P, n] of each part and of its relief (decals hide no relief), and what shows through [n]."""
    weight, relief = np.empty_like(alpha), np.empty_like(alpha)
    clear, bare = np.ones_like(alpha[0]), np.ones_like(alpha[0])
    for i, part in enumerate(front_first):
        np.multiply(alpha[i], clear, out=weight[i])
        clear -= weight[i]
        np.multiply(alpha[i], 0.6 if part.name in _DECALS else bare, out=relief[i])
        if part.name not in _DECALS:
            bare -= relief[i]
    return weight, relief, clear


def _grid(pose: Pose, n: int, margin: float) -> tuple[Array, int, int]:
    """Return a window's pixels in units of the drawing, float32 [3, h, w] (x, y, 1), and its top and left."""
    unit, x, y = pose.scale * n, pose.x * n, pose.y * n
    w, h = pose.half * n + margin
    left, top, right, bottom = floor(x - w), floor(y - h), ceil(x + w), ceil(y + h)
    back = _affine(pose.turn, pose.flip).T  # the inverse, as the matrix is orthogonal
    px = ((np.arange(left, right) + 0.5 - x) / unit).astype(np.float32)
    py = ((np.arange(top, bottom) + 0.5 - y) / unit).astype(np.float32)[:, None]
    shift = back @ (pose.low + pose.high) / 2
    grid = np.ones((3, len(py), len(px)), np.float32)
    for row, (a, b), c in zip(grid[:2], back.tolist(), shift.tolist(), strict=True):
        np.add(a * px + c, b * py, out=row)
    return grid, top, left


def render(parts: list[Part], costume: Costume, pose: Pose, light: Array, n: int) -> Sprite:
    """Draw one object for an image of n pixels a side; `light` is a unit vector [3] towards the lamp."""
    unit = pose.scale * n  # pixels per unit of the drawing
    grid, top, left = _grid(pose, n, _PENUMBRA * unit + 1)
    shape, grid = grid.shape[1:], grid.reshape(3, -1)
    front_first = parts[::-1]
    d = distances(front_first, grid)
    weight, relief, clear = _layered(np.clip(d * -unit + 0.5, 0, 1), front_first)
    bulge = np.array([[p.bulge] for p in front_first], np.float32)
    depth = np.clip(d * (-1 / bulge), 0, 1)  # 0 on the rim of a part, 1 from its bulge inwards, where the dome is flat
    rim = np.minimum(2.5 * np.einsum("pn,pn->n", weight, depth), 1)
    height = np.einsum("pn,pn->n", relief, np.sqrt((2 - depth) * depth) * bulge) * unit
    shade, shine = _shade(height.reshape(shape), rim.reshape(shape), light)

    tints = [TINTS.index(p.tint) for p in front_first]
    color = costume.colors[tints].T @ weight
    coat = [i for i, p in enumerate(front_first) if p.tint == "coat"]
    if costume.pattern != "plain" and coat:
        change = costume.colors[TINTS.index("second")] - costume.colors[TINTS.index("coat")]
        color += change[:, None] * (weight[coat].sum(0) * _pattern(costume, grid))
    names = np.array([PARTS.index(p.name) + 1 for p in front_first])
    nearest = d.min(0)
    fall = np.clip(0.5 - nearest / _PENUMBRA, 0, 1)
    rgb, shadow = color.reshape(3, *shape) * shade + shine, (fall * fall * (3 - 2 * fall)).reshape(shape)
    visible = (names[(d < 0).argmax(0)] * (nearest < 0)).reshape(shape)
    return Sprite(top, left, rgb, (1 - clear).reshape(shape), shadow, visible)
