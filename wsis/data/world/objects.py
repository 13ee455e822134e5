"""Plants, vehicles and other toys of the embedded world: each call draws one in a new variety."""

from math import cos, pi, sin

from numpy.random import Generator

from wsis.data.world.shapes import Part, box, eye, limb, oval, poly


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
    puffs = [(-0.4, -0.06, 0.36), (0.4, -0.08, 0.36), (-0.24, -0.48, 0.38), (0.26, -0.5, 0.38), (0, -0.22, 0.46)]
    fruit = [(-0.36, 0.0), (0.34, -0.1), (-0.2, -0.5), (0.24, -0.56), (0.02, -0.16)]
    return [
        trunk,
        limb("trunk", "wood", 0.2 * sway, 0.45, 0.34, 0.1, 0.07, 0.05),
        *(oval("crown", "coat", x + sway, y, r * u(0.9, 1.1)) for x, y, r in puffs),
        *(oval("fruit", "third", x + sway, y, 0.085) for x, y in fruit),
    ]


def mushroom(rng: Generator) -> list[Part]:
    """A spotted cap on a stout stem with a ring."""
    u = rng.uniform
    lean, tall = u(-0.12, 0.12), u(-0.1, 0.12)
    y = -0.12 - tall
    spots = ((-0.48, -0.16, 0.13), (-0.1, -0.36, 0.16), (0.36, -0.26, 0.14), (0.62, -0.02, 0.09), (0.1, -0.06, 0.11))
    return [
        limb("stem", "light", 0, 0.72, lean, y, 0.27, 0.19),
        oval("stem", "white", lean * 0.6, y + 0.32, 0.27, 0.08),
        poly(
            "cap",
            "main",
            (lean - 0.86, y + 0.1),
            (lean - 0.62, y - 0.36),
            (lean - 0.2, y - 0.62),
            (lean + 0.2, y - 0.62),
            (lean + 0.62, y - 0.36),
            (lean + 0.86, y + 0.1),
            soft=0.22,
            bulge=0.4,
        ),
        *(oval("spot", "second", lean + x, y + v, r, 0.85 * r) for x, v, r in spots),
    ]


def flower(rng: Generator) -> list[Part]:
    """Five to eight petals on a stem with two leaves."""
    u = rng.uniform
    lean, turn, count = u(-0.2, 0.2), u(0, pi), int(rng.integers(5, 9))
    x, y = lean, -0.38
    angles = [turn + 2 * pi * k / count for k in range(count)]
    return [
        limb("stem", "leaf", -0.4 * lean, 0.95, x, y, 0.06, 0.05),
        oval("leaf", "leaf", -0.28, 0.52, 0.3, 0.11, 0.5 + lean),
        oval("leaf", "leaf", 0.26, 0.66, 0.28, 0.1, -0.5 + lean),
        *(oval("petal", "main", x + 0.36 * cos(a), y + 0.36 * sin(a), 0.27, 1.0 / count + 0.02, a) for a in angles),
        oval("center", "second", x, y, 0.2),
    ]


def car(rng: Generator) -> list[Part]:
    """A saloon car in profile, long or short, with a steep or a sloping front."""
    u = rng.uniform
    long, tall, slope = u(0.82, 1.0), u(0.42, 0.56), u(0.1, 0.3)
    wheels = [
        oval("wheel", tint, s * 0.56 * long, 0.36, r) for s in (-1, 1) for tint, r in (("dark", 0.23), ("light", 0.11))
    ]
    sill, top = -0.08, 0.1 - tall
    return [
        poly("cabin", "second", (-0.6, -0.05), (-0.5, -tall), (0.18, -tall), (0.3 + slope, -0.05), soft=0.1),
        poly("window", "glass", (-0.47, sill), (-0.4, top), (-0.14, top), (-0.14, sill), soft=0.03),
        poly("window", "glass", (-0.04, sill), (-0.04, top), (0.13, top), (0.2 + slope, sill), soft=0.03),
        poly("body", "main", (-long, sill), (0.4, sill), (long, 0.1), (long, 0.36), (-long, 0.36), soft=0.1),
        limb("body", "third", -0.88 * long, 0.16, 0.88 * long, 0.18, 0.035),
        limb("door", "dark", -0.09, 0.0, -0.09, 0.3, 0.015),
        *wheels,
        oval("lamp", "glow", 0.92 * long, 0.08, 0.09, 0.1),
        box("panel", "light", long - 0.08, 0.28, long + 0.08, 0.4),
        box("panel", "light", -long - 0.08, 0.28, 0.08 - long, 0.4),
    ]


def boat(rng: Generator) -> list[Part]:
    """A sailing boat; the sails swell with the wind."""
    u = rng.uniform
    wind, tall = u(-0.08, 0.12), u(0.8, 1.0)
    return [
        limb("mast", "wood", 0.02, 0.3, 0.02, -tall, 0.055, 0.045),
        poly("sail", "second", (-0.04, -tall + 0.1), (-0.04, 0.22), (-0.74 - wind, 0.22), (-0.4 - wind, -0.4)),
        poly("sail", "third", (0.1, -tall + 0.25), (0.66 + wind, 0.2), (0.1, 0.2)),
        poly("sail", "main", (0.04, -tall - 0.02), (0.3, -tall + 0.07), (0.04, -tall + 0.16), soft=0.02),
        poly("hull", "main", (-0.95, 0.28), (1.0, 0.24), (0.68, 0.72), (-0.62, 0.72), soft=0.08),
        limb("hull", "light", -0.9, 0.31, 0.93, 0.28, 0.055),
        *(oval("window", "glass", x, 0.5, 0.08) for x in (-0.4, 0.0, 0.4)),
    ]


def house(rng: Generator) -> list[Part]:
    """A gable with a round window, a door and a window on either side of the door."""
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
    """A moon rocket on its flame."""
    u = rng.uniform
    slim, burn = u(0.26, 0.36), u(0.0, 0.3)
    return [
        oval("flame", "glow", 0, 0.72, 0.18, 0.18 + burn),
        oval("flame", "white", 0, 0.66, 0.09, 0.1 + 0.6 * burn),
        poly("fin", "second", (-slim, 0.1), (-0.05, 0.5), (-slim - 0.32, 0.78), (-slim - 0.3, 0.42), soft=0.06),
        poly("fin", "second", (0.05, 0.5), (slim, 0.1), (slim + 0.3, 0.42), (slim + 0.32, 0.78), soft=0.06),
        box("panel", "dark", -0.2, 0.5, 0.2, 0.68),
        oval("body", "coat", 0, -0.12, slim, 0.74),
        poly("nose", "third", (0, -1.0), (0.62 * slim, -0.56), (-0.62 * slim, -0.56), soft=0.1, bulge=0.2),
        oval("window", "light", 0, -0.22, 0.19),
        oval("window", "glass", 0, -0.22, 0.13),
        poly("fin", "second", (-0.05, 0.2), (0.05, 0.2), (0.08, 0.72), (-0.08, 0.72), soft=0.03),
    ]


def robot(rng: Generator) -> list[Part]:
    """A box on two feet that waves its arms."""
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
