"""The things of the embedded world: each class is a drawing made of named parts, posed afresh every time.

A drawing lives in units of about [-1, 1], x to the right, y down, looking right; later parts lie in front. A part is
an oval, a limb (a line whose thickness changes from end to end) or a convex polygon with rounded corners, and wears
a *tint*, the name of a colour that the scene decides ("coat" is the main colour with the object's pattern).
"""

from collections.abc import Callable
from math import cos, pi, sin
from typing import NamedTuple

from numpy.random import Generator

PARTS = (
    "head", "ear", "eye", "muzzle", "beak", "antenna", "body", "arm", "leg", "tail", "wing", "fin", "shell",
    "spot", "trunk", "crown", "fruit", "stem", "cap", "petal", "center", "leaf", "cabin", "window", "wheel", "lamp",
    "hull", "mast", "sail", "wall", "roof", "door", "chimney", "nose", "flame", "panel",
)  # fmt: skip
TINTS = ("main", "coat", "second", "third", "dark", "light", "white", "glass", "wood", "leaf", "glow")


class Part(NamedTuple):
    """One part: `kind` is oval (x, y, rx, ry, turn), limb (x0, y0, x1, y1, r0, r1) or poly (softness, (x, y)...).

    Lengths in units of the drawing, `turn` in radians. `bulge` is how far the relief rises from the rim inwards.
    """

    kind: str
    name: str
    tint: str
    geometry: tuple[float, ...]
    bulge: float


def oval(
    name: str, tint: str, x: float, y: float, rx: float, ry: float | None = None, turn: float = 0.0
) -> Part:
    ry = rx if ry is None else ry
    return Part("oval", name, tint, (x, y, rx, ry, turn), min(rx, ry))


def limb(
    name: str, tint: str, x0: float, y0: float, x1: float, y1: float, r0: float, r1: float | None = None
) -> Part:
    r1 = r0 if r1 is None else r1
    return Part("limb", name, tint, (x0, y0, x1, y1, r0, r1), max(r0, r1))


def poly(
    name: str, tint: str, *corners: tuple[float, float], soft: float = 0.05, bulge: float = 0.12
) -> Part:
    """A convex polygon of at most six corners, in the order of walking around it."""
    return Part("poly", name, tint, (soft, *(v for corner in corners for v in corner)), bulge)


def box(name: str, tint: str, x0: float, y0: float, x1: float, y1: float, soft: float = 0.05) -> Part:
    return poly(name, tint, (x0, y0), (x1, y0), (x1, y1), (x0, y1), soft=soft)


def eye(x: float, y: float, r: float) -> list[Part]:
    return [oval("eye", "white", x, y, r), oval("eye", "dark", x + 0.25 * r, y, 0.66 * r)]


def cat(rng: Generator) -> list[Part]:
    """Sitting, seen from the front, head tilted, tail curled up beside the body."""
    u = rng.uniform
    lean, tilt, swing = u(-0.12, 0.12), u(-0.1, 0.1), u(-0.3, 0.35)
    hx, hy = lean, -0.45
    ears = [
        poly(
            "ear", "main", (hx + s * 0.08, hy - 0.24), (hx + s * 0.34, hy - 0.58), (hx + s * 0.37, hy - 0.05)
        )
        for s in (-1, 1)
    ]
    return [
        limb("tail", "coat", 0.25, 0.72, 0.72, 0.6, 0.11, 0.1),
        limb("tail", "coat", 0.72, 0.6, 0.78 + 0.3 * swing, 0.05 + 0.2 * swing, 0.1, 0.07),
        limb("body", "coat", 0, 0.48, lean, -0.2, 0.42, 0.24),
        oval("leg", "main", -0.33, 0.72, 0.2, 0.2),
        oval("leg", "main", 0.33, 0.72, 0.2, 0.2),
        limb("leg", "second", -0.12, 0.3, -0.14, 0.8, 0.09, 0.11),
        limb("leg", "second", 0.12, 0.3, 0.14, 0.8, 0.09, 0.11),
        *ears,
        oval("head", "coat", hx, hy, 0.43, 0.35, tilt),
        oval("muzzle", "light", hx, hy + 0.15, 0.18, 0.12),
        oval("eye", "glow", hx - 0.18, hy - 0.03, 0.1, 0.11),
        oval("eye", "glow", hx + 0.18, hy - 0.03, 0.1, 0.11),
        oval("eye", "dark", hx - 0.17, hy - 0.03, 0.045, 0.1),
        oval("eye", "dark", hx + 0.19, hy - 0.03, 0.045, 0.1),
        oval("nose", "dark", hx, hy + 0.1, 0.06, 0.04),
    ]


def dog(rng: Generator) -> list[Part]:
    """Standing or trotting in profile: long snout, hanging ear, four legs, tail in the air."""
    u = rng.uniform
    stride, nod, wag = u(-0.18, 0.18), u(-0.15, 0.15), u(-0.25, 0.3)
    hx, hy = 0.58, -0.42 + nod
    return [
        limb("leg", "second", -0.5, 0.2, -0.5 + stride, 0.82, 0.13, 0.1),
        limb("leg", "second", 0.36, 0.2, 0.36 - stride, 0.82, 0.13, 0.1),
        limb("tail", "main", -0.62, 0.0, -0.88 + 0.4 * wag, -0.5 + 0.2 * wag, 0.1, 0.06),
        limb("body", "coat", -0.45, 0.06, 0.35, 0.04, 0.27, 0.3),
        limb("leg", "main", -0.44, 0.25, -0.44 - stride, 0.85, 0.17, 0.11),
        limb("leg", "main", 0.42, 0.25, 0.42 + stride, 0.85, 0.15, 0.11),
        limb("body", "coat", 0.38, -0.05, hx - 0.05, hy + 0.1, 0.26, 0.2),
        limb("body", "third", 0.36, hy + 0.26, hx + 0.18, hy + 0.32, 0.06),
        limb("muzzle", "light", hx + 0.1, hy + 0.06, hx + 0.42, hy + 0.12, 0.18, 0.12),
        oval("head", "main", hx, hy, 0.27, 0.26),
        oval("nose", "dark", hx + 0.5, hy + 0.06, 0.08, 0.07),
        *eye(hx + 0.12, hy - 0.08, 0.075),
        limb("ear", "second", hx - 0.14, hy - 0.14, hx - 0.26 + 0.3 * nod, hy + 0.24, 0.09, 0.14),
    ]


def bird(rng: Generator) -> list[Part]:
    """A round songbird, wings folded or spread."""
    u = rng.uniform
    beat, nod = u(-1.1, 0.5), u(-0.08, 0.08)
    hx, hy = 0.4, -0.42 + nod
    return [
        limb("leg", "third", -0.05, 0.4, -0.1, 0.85, 0.035),
        limb("leg", "third", 0.12, 0.4, 0.12, 0.85, 0.035),
        limb("leg", "third", -0.1, 0.85, 0.06, 0.87, 0.03),
        limb("leg", "third", 0.12, 0.85, 0.28, 0.87, 0.03),
        poly("tail", "second", (-0.45, 0.05), (-0.35, 0.32), (-1.05, 0.36), (-1.1, 0.16)),
        oval("body", "main", 0, 0.06, 0.56, 0.42, -0.35),
        oval("body", "light", 0.16, 0.2, 0.34, 0.26, -0.4),
        oval("head", "main", hx, hy, 0.31, 0.29),
        poly(
            "beak", "third", (hx + 0.24, hy - 0.12), (hx + 0.6, hy + 0.03), (hx + 0.24, hy + 0.14), soft=0.03
        ),
        *eye(hx + 0.13, hy - 0.05, 0.09),
        oval(
            "wing",
            "coat",
            -0.22 - 0.12 * cos(beat),
            0.02 + 0.42 * sin(beat),
            0.5,
            0.23,
            -beat if beat < 0 else -0.3,
        ),
    ]


def fish(rng: Generator) -> list[Part]:
    u = rng.uniform
    swish, plump = u(-0.18, 0.18), u(0.36, 0.48)
    return [
        poly(
            "tail",
            "second",
            (-0.5, -0.02),
            (-0.95, -0.42 + swish),
            (-1.05, -0.3 + swish),
            (-0.85, 0.02 + swish),
        ),
        poly(
            "tail",
            "second",
            (-0.85, -0.02 + swish),
            (-1.05, 0.34 + swish),
            (-0.95, 0.46 + swish),
            (-0.5, 0.02),
        ),
        poly("fin", "third", (-0.35, -0.3), (-0.3, -plump - 0.26), (0.12, -plump - 0.12), (0.3, -0.3)),
        poly("fin", "third", (0.1, 0.3), (-0.05, plump + 0.2), (-0.22, plump + 0.16), (-0.2, 0.3)),
        oval("body", "coat", 0.05, 0, 0.68, plump),
        oval("head", "main", 0.46, 0, 0.29, 0.62 * plump),
        oval("fin", "third", 0.02, 0.12, 0.2, 0.1, 0.5 + 2 * swish),
        *eye(0.47, -0.09, 0.12),
        limb("muzzle", "dark", 0.62, 0.13, 0.7, 0.1, 0.025),
    ]


def turtle(rng: Generator) -> list[Part]:
    """In profile under a domed shell."""
    u = rng.uniform
    step, neck = u(-0.1, 0.1), u(-0.25, 0.08)
    hx, hy = 0.86, 0.12 + neck
    return [
        limb("leg", "second", -0.4, 0.35, -0.46 - step, 0.68, 0.15, 0.12),
        limb("leg", "second", 0.4, 0.35, 0.36 + step, 0.68, 0.15, 0.12),
        limb("tail", "second", -0.6, 0.42, -0.95, 0.5, 0.1, 0.03),
        limb("body", "second", 0.45, 0.35, hx, hy, 0.14, 0.13),
        oval("head", "second", hx, hy, 0.24, 0.19, -0.1),
        *eye(hx + 0.08, hy - 0.06, 0.075),
        limb("leg", "second", -0.52, 0.4, -0.58 + step, 0.72, 0.16, 0.13),
        limb("leg", "second", 0.52, 0.4, 0.5 - step, 0.72, 0.16, 0.13),
        poly("shell", "coat", (-0.78, 0.38), (-0.62, -0.18), (-0.3, -0.5), (0.26, -0.5), (0.58, -0.18), (0.74, 0.38),
             soft=0.2),
        *(oval("spot", "third", x, y, r, 0.8 * r) for x, y, r in ((-0.42, 0.02, 0.14), (-0.02, -0.16, 0.19), (0.4, 0.04, 0.14))),
        limb("shell", "main", -0.74, 0.36, 0.7, 0.36, 0.09),
    ]  # fmt: skip


def snail(rng: Generator) -> list[Part]:
    u = rng.uniform
    lift, stretch = u(-0.1, 0.15), u(-0.08, 0.12)
    hx, hy = 0.66 + stretch, -0.05 - lift
    return [
        limb("body", "second", -0.9, 0.68, 0.5, 0.62, 0.08, 0.16),
        limb("head", "second", 0.5, 0.6, hx, hy, 0.16, 0.15),
        limb("antenna", "second", hx, hy - 0.06, hx - 0.1, hy - 0.46, 0.05, 0.04),
        limb("antenna", "second", hx + 0.04, hy - 0.04, hx + 0.24, hy - 0.4, 0.05, 0.04),
        oval("eye", "dark", hx - 0.1, hy - 0.5, 0.08),
        oval("eye", "dark", hx + 0.26, hy - 0.44, 0.08),
        oval("shell", "coat", -0.2, 0.04, 0.6, 0.58),
        oval("shell", "third", -0.13, 0.07, 0.44, 0.42),
        oval("shell", "main", -0.17, 0.02, 0.34, 0.32),
        oval("shell", "third", -0.12, 0.05, 0.2, 0.19),
        oval("shell", "main", -0.14, 0.02, 0.11, 0.1),
    ]


def butterfly(rng: Generator) -> list[Part]:
    """Seen from above: two pairs of patterned wings that open and close."""
    u = rng.uniform
    opened, reach = u(0.6, 1.0), u(0.3, 0.6)
    wings = []
    for s in (-1, 1):
        wings += [
            oval("wing", "second", s * 0.4 * opened, 0.36, 0.4 * opened, 0.3, s * 0.9),
            oval("wing", "coat", s * 0.5 * opened, -0.3, 0.55 * opened, 0.36, -s * 0.55),
            oval("spot", "third", s * 0.62 * opened, -0.38, 0.2 * opened, 0.16),
            oval("spot", "light", s * 0.42 * opened, 0.42, 0.13 * opened, 0.11),
        ]
    return [
        *wings,
        limb("antenna", "dark", 0, -0.45, -0.2 * reach - 0.1, -0.95, 0.025, 0.04),
        limb("antenna", "dark", 0, -0.45, 0.2 * reach + 0.1, -0.95, 0.025, 0.04),
        limb("body", "dark", 0, -0.3, 0, 0.55, 0.09, 0.05),
        oval("head", "dark", 0, -0.42, 0.12),
    ]


def beetle(rng: Generator) -> list[Part]:
    """Seen from above: six walking legs, two spotted wing cases."""
    u = rng.uniform
    gait, gape = u(-0.14, 0.14), u(0.0, 0.12)
    legs = []
    for s in (-1, 1):
        for k, y in enumerate((-0.32, 0.05, 0.42)):
            foot = y + (-0.22, 0.0, 0.28)[k] + s * gait * (-1) ** k
            legs += [limb("leg", "dark", s * 0.3, y, s * 0.7, foot - 0.05, 0.07, 0.05),
                     limb("leg", "dark", s * 0.7, foot - 0.05, s * 0.88, foot + 0.14, 0.05, 0.03)]  # fmt: skip
    dots = [(0.24, -0.22, 0.12), (0.34, 0.16, 0.11), (0.2, 0.48, 0.1)]
    return [
        *legs,
        limb("antenna", "dark", -0.1, -0.7, -0.3, -1.02, 0.03),
        limb("antenna", "dark", 0.1, -0.7, 0.3, -1.02, 0.03),
        oval("head", "dark", 0, -0.68, 0.26, 0.22),
        oval("eye", "white", -0.17, -0.74, 0.07),
        oval("eye", "white", 0.17, -0.74, 0.07),
        oval("body", "dark", 0, 0.1, 0.4, 0.6),
        oval("wing", "main", -0.22 - gape, 0.12, 0.34, 0.66, gape),
        oval("wing", "main", 0.22 + gape, 0.12, 0.34, 0.66, -gape),
        *(oval("spot", "second", s * (x + gape), y, r) for s in (-1, 1) for x, y, r in dots),
    ]


def tree(rng: Generator) -> list[Part]:
    """Round and bearing fruit, or a conifer of three storeys."""
    u = rng.uniform
    sway = u(-0.12, 0.12)
    trunk = limb("trunk", "wood", 0, 0.95, 0.5 * sway, 0.1, 0.15, 0.09)
    if u() < 0.35:
        storeys = [
            poly("crown", "coat", (sway * (1 - y), y - 0.62), (w, y), (-w, y), soft=0.08, bulge=0.25)
            for w, y in ((0.66, 0.5), (0.54, 0.12), (0.4, -0.26))
        ]
        return [trunk, *storeys]
    puffs = [
        (-0.4, -0.06, 0.36),
        (0.4, -0.08, 0.36),
        (-0.24, -0.48, 0.38),
        (0.26, -0.5, 0.38),
        (0, -0.22, 0.46),
    ]
    fruit = [(-0.36, 0.0), (0.34, -0.1), (-0.2, -0.5), (0.24, -0.56), (0.02, -0.16)]
    return [
        trunk,
        limb("trunk", "wood", 0.2 * sway, 0.45, 0.34, 0.1, 0.07, 0.05),
        *(oval("crown", "coat", x + sway, y, r * u(0.9, 1.1)) for x, y, r in puffs),
        *(oval("fruit", "third", x + sway, y, 0.085) for x, y in fruit),
    ]


def mushroom(rng: Generator) -> list[Part]:
    u = rng.uniform
    lean, tall = u(-0.12, 0.12), u(-0.1, 0.12)
    y = -0.12 - tall
    spots = (
        (-0.48, -0.16, 0.13),
        (-0.1, -0.36, 0.16),
        (0.36, -0.26, 0.14),
        (0.62, -0.02, 0.09),
        (0.1, -0.06, 0.11),
    )
    return [
        limb("stem", "light", 0, 0.72, lean, y, 0.27, 0.19),
        oval("stem", "white", lean * 0.6, y + 0.32, 0.27, 0.08),
        poly("cap", "main", (lean - 0.86, y + 0.1), (lean - 0.62, y - 0.36), (lean - 0.2, y - 0.62),
             (lean + 0.2, y - 0.62), (lean + 0.62, y - 0.36), (lean + 0.86, y + 0.1), soft=0.22, bulge=0.4),
        *(oval("spot", "second", lean + x, y + v, r, 0.85 * r) for x, v, r in spots),
    ]  # fmt: skip


def flower(rng: Generator) -> list[Part]:
    u = rng.uniform
    lean, turn, count = u(-0.2, 0.2), u(0, pi), int(rng.integers(5, 9))
    x, y = lean, -0.38
    angles = [turn + 2 * pi * k / count for k in range(count)]
    return [
        limb("stem", "leaf", -0.4 * lean, 0.95, x, y, 0.06, 0.05),
        oval("leaf", "leaf", -0.28, 0.52, 0.3, 0.11, 0.5 + lean),
        oval("leaf", "leaf", 0.26, 0.66, 0.28, 0.1, -0.5 + lean),
        *(
            oval("petal", "main", x + 0.36 * cos(a), y + 0.36 * sin(a), 0.27, 1.0 / count + 0.02, a)
            for a in angles
        ),
        oval("center", "second", x, y, 0.2),
    ]


def car(rng: Generator) -> list[Part]:
    u = rng.uniform
    long, tall, slope = u(0.82, 1.0), u(0.42, 0.56), u(0.1, 0.3)
    wheels = [
        oval("wheel", tint, s * 0.56 * long, 0.36, r)
        for s in (-1, 1)
        for tint, r in (("dark", 0.23), ("light", 0.11))
    ]
    return [
        poly("cabin", "second", (-0.6, -0.05), (-0.5, -tall), (0.18, -tall), (0.3 + slope, -0.05), soft=0.1),
        poly("window", "glass", (-0.47, -0.08), (-0.4, 0.1 - tall), (-0.14, 0.1 - tall), (-0.14, -0.08), soft=0.03),
        poly("window", "glass", (-0.04, -0.08), (-0.04, 0.1 - tall), (0.13, 0.1 - tall), (0.2 + slope, -0.08), soft=0.03),
        poly("body", "main", (-long, -0.08), (0.45, -0.1), (long, 0.06), (long, 0.36), (-long, 0.36), soft=0.1),
        limb("body", "third", -0.88 * long, 0.16, 0.88 * long, 0.18, 0.035),
        limb("door", "dark", -0.09, 0.0, -0.09, 0.3, 0.015),
        *wheels,
        oval("lamp", "glow", 0.92 * long, 0.08, 0.09, 0.1),
        box("panel", "light", long - 0.08, 0.28, long + 0.08, 0.4),
        box("panel", "light", -long - 0.08, 0.28, 0.08 - long, 0.4),
    ]  # fmt: skip


def boat(rng: Generator) -> list[Part]:
    """A sailing boat; the sails swell with the wind."""
    u = rng.uniform
    wind, tall = u(-0.08, 0.12), u(0.8, 1.0)
    return [
        limb("mast", "wood", 0.02, 0.3, 0.02, -tall, 0.055, 0.045),
        poly(
            "sail", "second", (-0.04, -tall + 0.1), (-0.04, 0.22), (-0.74 - wind, 0.22), (-0.4 - wind, -0.4)
        ),
        poly("sail", "third", (0.1, -tall + 0.25), (0.66 + wind, 0.2), (0.1, 0.2)),
        poly("sail", "main", (0.04, -tall - 0.02), (0.3, -tall + 0.07), (0.04, -tall + 0.16), soft=0.02),
        poly("hull", "main", (-0.95, 0.28), (1.0, 0.24), (0.68, 0.72), (-0.62, 0.72), soft=0.08),
        limb("hull", "light", -0.9, 0.31, 0.93, 0.28, 0.055),
        *(oval("window", "glass", x, 0.5, 0.08) for x in (-0.4, 0.0, 0.4)),
    ]


def house(rng: Generator) -> list[Part]:
    u = rng.uniform
    wide, eaves, peak, door = u(0.6, 0.78), u(-0.2, 0.0), u(0.5, 0.7), u(-0.3, 0.3)
    side = -1 if door > 0 else 1
    window_x = door + side * 0.55
    return [
        box("chimney", "third", 0.3, eaves - peak, 0.5, eaves - 0.05),
        box("wall", "coat", -wide, eaves - 0.05, wide, 0.85),
        poly(
            "roof",
            "second",
            (-wide - 0.2, eaves + 0.04),
            (0, eaves - peak - 0.05),
            (wide + 0.2, eaves + 0.04),
            soft=0.06,
        ),
        oval("window", "glass", 0, eaves - 0.2, 0.12),
        box("door", "wood", door - 0.15, 0.32, door + 0.15, 0.86, soft=0.04),
        oval("door", "glow", door + 0.08, 0.6, 0.04),
        box("panel", "white", window_x - 0.21, 0.16, window_x + 0.21, 0.56, soft=0.02),
        box("window", "glass", window_x - 0.16, 0.21, window_x + 0.16, 0.51, soft=0.02),
        limb("panel", "white", window_x, 0.2, window_x, 0.52, 0.02),
    ]


def rocket(rng: Generator) -> list[Part]:
    u = rng.uniform
    slim, burn = u(0.26, 0.36), u(0.0, 0.3)
    return [
        oval("flame", "glow", 0, 0.72, 0.18, 0.18 + burn),
        oval("flame", "white", 0, 0.66, 0.09, 0.1 + 0.6 * burn),
        poly(
            "fin", "second", (-slim, 0.1), (-0.05, 0.5), (-slim - 0.32, 0.78), (-slim - 0.3, 0.42), soft=0.06
        ),
        poly("fin", "second", (0.05, 0.5), (slim, 0.1), (slim + 0.3, 0.42), (slim + 0.32, 0.78), soft=0.06),
        box("panel", "dark", -0.2, 0.5, 0.2, 0.68),
        oval("body", "coat", 0, -0.12, slim, 0.74),
        poly("nose", "third", (0, -1.0), (0.62 * slim, -0.56), (-0.62 * slim, -0.56), soft=0.1, bulge=0.2),
        oval("window", "light", 0, -0.22, 0.19),
        oval("window", "glass", 0, -0.22, 0.13),
        poly("fin", "second", (-0.05, 0.2), (0.05, 0.2), (0.08, 0.72), (-0.08, 0.72), soft=0.03),
    ]


def robot(rng: Generator) -> list[Part]:
    u = rng.uniform
    left, right, step = u(-0.9, 0.9), u(-0.9, 0.9), u(-0.08, 0.08)
    arms = []
    for s, a in ((-1, left), (1, right)):
        x, y = s * (0.5 + 0.34 * cos(a)), 0.0 + 0.4 * sin(a)
        arms += [limb("arm", "light", s * 0.45, -0.02, x, y, 0.075), oval("arm", "third", x, y, 0.13)]
    return [
        limb("leg", "light", -0.22, 0.45, -0.24 - step, 0.8, 0.09),
        limb("leg", "light", 0.22, 0.45, 0.24 + step, 0.8, 0.09),
        box("leg", "third", -0.46 - step, 0.76, -0.1 - step, 0.96),
        box("leg", "third", 0.1 + step, 0.76, 0.46 + step, 0.96),
        *arms,
        limb("antenna", "light", 0, -0.7, 0, -0.95, 0.055),
        oval("antenna", "glow", 0, -0.98, 0.09),
        box("body", "main", -0.45, -0.2, 0.45, 0.52, soft=0.1),
        box("head", "second", -0.4, -0.8, 0.4, -0.18, soft=0.12),
        box("panel", "dark", -0.28, 0.0, 0.28, 0.32),
        *(oval("panel", "glow", x, 0.16, 0.07) for x in (-0.15, 0.06)),
        *eye(-0.17, -0.55, 0.12),
        *eye(0.17, -0.55, 0.12),
        limb("muzzle", "dark", -0.14, -0.35, 0.14, -0.35, 0.03),
    ]


DRAWINGS: dict[str, Callable[[Generator], list[Part]]] = {
    f.__name__: f
    for f in (cat, dog, bird, fish, turtle, snail, butterfly, beetle, tree, mushroom, flower, car, boat, house, rocket, robot)
}  # fmt: skip
CLASSES = tuple(DRAWINGS)


def post(rng: Generator, wide: float, tall: float, down: float) -> list[Part]:
    """A weathered pole with a knob. Occluders are drawn around their victim, a box of half sizes `wide` and `tall`
    whose longer one is 1, and reach `down` below its middle."""
    r, lean = rng.uniform(0.15, 0.19) * wide, rng.uniform(-0.08, 0.08)
    top = -1.3 * tall
    return [
        limb("trunk", "coat", lean, top, 0, down, r),
        limb("cap", "second", lean - 0.3 * r, top, lean + 0.3 * r, top, 1.2 * r),
    ]


def fence(rng: Generator, wide: float, tall: float, down: float) -> list[Part]:
    """Two rails before three pickets."""
    reach, thick, sag = 1.25 * wide + 0.25, rng.uniform(0.09, 0.12) * tall, rng.uniform(-0.1, 0.1)
    pickets = [
        poly("trunk", "second", (x - thick, -0.75 * tall), (x, -1.0 * tall), (x + thick, -0.75 * tall), (x + thick, down),
             (x - thick, down)) for x in (-0.8 * reach, 0.8 * reach)
    ]  # fmt: skip
    rails = [limb("trunk", "coat", -reach, y * tall + sag, reach, y * tall - sag, thick) for y in (-0.4, 0.3)]
    return [*pickets, *rails]


def stones(rng: Generator, wide: float, tall: float, down: float) -> list[Part]:
    """A pile of boulders, as wide as a post."""
    count = max(3, round((down + 1.2 * tall) / (0.45 * wide)))
    high = (down + 1.2 * tall) / count
    return [
        oval("trunk", ("coat", "second")[k % 2], rng.uniform(-0.03, 0.03), down - (k + 0.5) * high,
             rng.uniform(0.24, 0.3) * wide, 0.72 * high, rng.uniform(-0.1, 0.1)) for k in range(count)
    ]  # fmt: skip


def reeds(rng: Generator, wide: float, tall: float, down: float) -> list[Part]:
    """Broad blades and a bulrush."""
    r, lean = rng.uniform(0.15, 0.18) * wide, rng.uniform(-0.1, 0.1)
    blades = [
        limb("leaf", tint, lean * s + x * wide, -h * tall, 0.8 * x * wide, down, 0.3 * r, 0.9 * r)
        for s, x, h, tint in ((3, -0.45, 0.9, "second"), (-2, 0.4, 0.6, "second"), (1, 0.0, 1.5, "coat"))
    ]
    x = 0.22 * wide + lean
    return [
        limb("stem", "second", x, -1.2 * tall, 0.1 * wide, down, 0.25 * r),
        limb("stem", "wood", x, -1.25 * tall, x - 0.02, -0.8 * tall, 0.55 * r),
        *blades,
    ]


OCCLUDERS = (
    ("wood", post),
    ("wood", fence),
    ("rock", stones),
    ("grass", reeds),
)  # with what they are made of
