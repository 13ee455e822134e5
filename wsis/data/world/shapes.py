"""The vocabulary of the drawings, and the occluders.

A drawing lives in units of about [-1, 1], with x to the right and y down, and looks to the right; later parts lie in front.
A part wears a *tint*, the name of a color that the plan decides; "coat" is the main color with a pattern.
"""

from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

from numpy.random import Generator

_PARTS = """
    head ear eye muzzle beak antenna body arm leg tail wing fin shell spot trunk crown fruit stem cap petal center leaf
    cabin window wheel lamp hull mast sail wall roof door chimney nose flame panel
"""
PARTS = tuple(_PARTS.split())
TINTS = tuple("main coat second third dark light white glass wood leaf glow".split())
MAX_CORNERS = 6


class Part(NamedTuple):
    """One part of a drawing, with its name of `PARTS` and its tint of `TINTS`.

    kind: oval (x, y, rx, ry, turn in radians), limb, a line whose thickness changes (x0, y0, x1, y1, r0, r1), or poly
    (the radius of the corners, then x, y of six corners). bulge: how far from the rim inwards the relief rises.
    """

    kind: str
    name: str
    tint: str
    geometry: tuple[float, ...]
    bulge: float


def oval(name: str, tint: str, x: float, y: float, rx: float, ry: float | None = None, turn: float = 0.0) -> Part:
    """Draw an ellipse, or a disc where `ry` is not given."""
    ry = rx if ry is None else ry
    return Part("oval", name, tint, (x, y, rx, ry, turn), min(rx, ry))


def limb(name: str, tint: str, x0: float, y0: float, x1: float, y1: float, r0: float, r1: float | None = None) -> Part:
    """Draw a line with round ends of radius `r0` and `r1`."""
    r1 = r0 if r1 is None else r1
    return Part("limb", name, tint, (x0, y0, x1, y1, r0, r1), max(r0, r1))


def poly(name: str, tint: str, *corners: tuple[float, float], soft: float = 0.05, bulge: float = 0.12) -> Part:
    """Draw a convex polygon of at most six corners, in the order of walking around it."""
    six = corners + corners[-1:] * (MAX_CORNERS - len(corners))  # with as many corners, polygons are drawn together
    return Part("poly", name, tint, (soft, *(v for corner in six for v in corner)), bulge)


def box(name: str, tint: str, x0: float, y0: float, x1: float, y1: float, soft: float = 0.05) -> Part:
    return poly(name, tint, (x0, y0), (x1, y0), (x1, y1), (x0, y1), soft=soft)


def each(shape: Callable[..., Part], name: str, tint: str, *rows: Sequence[float]) -> list[Part]:
    """Draw one shape of a kind for each row of its measures."""
    return [shape(name, tint, *row) for row in rows]


def eye(x: float, y: float, r: float) -> list[Part]:
    """Draw the white of an eye that looks ahead, and its pupil."""
    return [oval("eye", "white", x, y, r), oval("eye", "dark", x + 0.25 * r, y, 0.66 * r)]


# Occluders are drawn around what they cut, a box of half sizes `wide` and `tall` of which the longer is 1, and stand on
# the ground, which is `down` below its middle.


def post(rng: Generator, wide: float, tall: float, down: float) -> Iterator[Part]:
    """A weathered pole with a knob."""
    r, lean, top = rng.uniform(0.15, 0.19) * wide, rng.uniform(-0.08, 0.08), -1.3 * tall
    yield limb("trunk", "coat", lean, top, 0, down, r)
    yield limb("cap", "second", lean - 0.3 * r, top, lean + 0.3 * r, top, 1.2 * r)


def fence(rng: Generator, wide: float, tall: float, down: float) -> Iterator[Part]:
    """Two rails before two pickets."""
    reach, thick, sag = 1.25 * wide + 0.25, rng.uniform(0.09, 0.12) * tall, rng.uniform(-0.1, 0.1)
    low, high = -0.75 * tall, -1.0 * tall
    for x in (-0.8 * reach, 0.8 * reach):
        left, right = x - thick, x + thick
        yield poly("trunk", "second", (left, low), (x, high), (right, low), (right, down), (left, down))
    for y in (-0.4, 0.3):
        yield limb("trunk", "coat", -reach, y * tall + sag, reach, y * tall - sag, thick)


def stones(rng: Generator, wide: float, tall: float, down: float) -> Iterator[Part]:
    """A pile of boulders, as wide as a post."""
    count = max(3, round((down + 1.2 * tall) / (0.36 * wide)))
    high = (down + 1.2 * tall) / count
    across, tilt = rng.uniform(0.18, 0.26, count) * wide, rng.uniform(-0.1, 0.1, count)
    for k, (rx, t) in enumerate(zip(across, tilt, strict=True)):
        yield oval("trunk", ("coat", "second")[k % 2], 0.3 * t, down - (k + 0.5) * high, rx, 0.72 * high, t)


def reeds(rng: Generator, wide: float, tall: float, down: float) -> Iterator[Part]:
    """Broad blades and a bulrush."""
    r, lean = rng.uniform(0.15, 0.18) * wide, rng.uniform(-0.1, 0.1)
    x = 0.22 * wide + lean
    yield limb("stem", "second", x, -1.2 * tall, 0.1 * wide, down, 0.25 * r)
    yield limb("stem", "wood", x, -1.25 * tall, x - 0.02, -0.8 * tall, 0.55 * r)
    for s, x, h, tint in ((3, -0.45, 0.9, "second"), (-2, 0.4, 0.6, "second"), (1, 0.0, 1.5, "coat")):
        yield limb("leaf", tint, lean * s + x * wide, -h * tall, 0.8 * x * wide, down, 0.3 * r, 0.9 * r)


# with what they are made of
OCCLUDERS = (("wood", post), ("wood", fence), ("rock", stones), ("grass", reeds))
