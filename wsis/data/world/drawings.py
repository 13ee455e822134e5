"""The objects of the embedded world: each call draws one in a new pose or variety, made of named parts, back to front."""

from collections.abc import Iterator
from math import cos, pi, sin

from numpy.random import Generator

from wsis.data.world.shapes import Part, box, each, eye, limb, oval, poly

SIDES = (-1, 1)


def cat(rng: Generator) -> Iterator[Part]:
    """Sitting, seen from the front, head tilted, tail curled up beside the body."""
    x, tilt, swing = rng.uniform(-0.12, 0.12), rng.uniform(-0.1, 0.1), rng.uniform(-0.3, 0.35)
    y = -0.45
    yield limb("tail", "coat", 0.25, 0.72, 0.72, 0.6, 0.11, 0.1)
    yield limb("tail", "coat", 0.72, 0.6, 0.78 + 0.3 * swing, 0.05 + 0.2 * swing, 0.1, 0.07)
    yield limb("body", "coat", 0, 0.48, x, -0.2, 0.42, 0.24)
    yield from (oval("leg", "main", s * 0.33, 0.72, 0.2, 0.2) for s in SIDES)
    yield from (limb("leg", "second", s * 0.12, 0.3, s * 0.14, 0.8, 0.09, 0.11) for s in SIDES)
    for s in SIDES:
        yield poly("ear", "main", (x + s * 0.08, y - 0.24), (x + s * 0.34, y - 0.58), (x + s * 0.37, y - 0.05))
    yield oval("head", "coat", x, y, 0.43, 0.35, tilt)
    yield oval("muzzle", "light", x, y + 0.15, 0.18, 0.12)
    yield from each(oval, "eye", "glow", (x - 0.18, y - 0.03, 0.1, 0.11), (x + 0.18, y - 0.03, 0.1, 0.11))
    yield from each(oval, "eye", "dark", (x - 0.17, y - 0.03, 0.045, 0.1), (x + 0.19, y - 0.03, 0.045, 0.1))
    yield oval("nose", "dark", x, y + 0.1, 0.06, 0.04)


def dog(rng: Generator) -> Iterator[Part]:
    """Standing or trotting in profile: long snout, hanging ear, four legs, tail in the air."""
    stride, nod, wag = rng.uniform(-0.18, 0.18), rng.uniform(-0.15, 0.15), rng.uniform(-0.25, 0.3)
    x, y = 0.58, -0.42 + nod
    yield limb("leg", "second", -0.5, 0.2, -0.5 + stride, 0.82, 0.13, 0.1)
    yield limb("leg", "second", 0.36, 0.2, 0.36 - stride, 0.82, 0.13, 0.1)
    yield limb("tail", "main", -0.62, 0.0, -0.88 + 0.4 * wag, -0.5 + 0.2 * wag, 0.1, 0.06)
    yield limb("body", "coat", -0.45, 0.06, 0.35, 0.04, 0.27, 0.3)
    yield limb("leg", "main", -0.44, 0.25, -0.44 - stride, 0.85, 0.17, 0.11)
    yield limb("leg", "main", 0.42, 0.25, 0.42 + stride, 0.85, 0.15, 0.11)
    yield limb("body", "coat", 0.38, -0.05, x - 0.05, y + 0.1, 0.26, 0.2)
    yield limb("body", "third", 0.36, y + 0.26, x + 0.18, y + 0.32, 0.06)
    yield limb("muzzle", "light", x + 0.1, y + 0.06, x + 0.42, y + 0.12, 0.18, 0.12)
    yield oval("head", "main", x, y, 0.27, 0.26)
    yield oval("nose", "dark", x + 0.5, y + 0.06, 0.08, 0.07)
    yield from eye(x + 0.12, y - 0.08, 0.075)
    yield limb("ear", "second", x - 0.14, y - 0.14, x - 0.26 + 0.3 * nod, y + 0.24, 0.09, 0.14)


def bird(rng: Generator) -> Iterator[Part]:
    """A round songbird, wings folded or spread."""
    beat, nod = rng.uniform(-1.1, 0.5), rng.uniform(-0.08, 0.08)
    x, y, tilt = 0.4, -0.42 + nod, -beat if beat < 0 else -0.3
    yield from each(limb, "leg", "third", (-0.05, 0.4, -0.1, 0.85, 0.035), (0.12, 0.4, 0.12, 0.85, 0.035))
    yield from each(limb, "leg", "third", (-0.1, 0.85, 0.06, 0.87, 0.03), (0.12, 0.85, 0.28, 0.87, 0.03))
    yield poly("tail", "second", (-0.45, 0.05), (-0.35, 0.32), (-1.05, 0.36), (-1.1, 0.16))
    yield oval("body", "main", 0, 0.06, 0.56, 0.42, -0.35)
    yield oval("body", "light", 0.16, 0.2, 0.34, 0.26, -0.4)
    yield oval("head", "main", x, y, 0.31, 0.29)
    yield poly("beak", "third", (x + 0.24, y - 0.12), (x + 0.6, y + 0.03), (x + 0.24, y + 0.14), soft=0.03)
    yield from eye(x + 0.13, y - 0.05, 0.09)
    yield oval("wing", "coat", -0.22 - 0.12 * cos(beat), 0.02 + 0.42 * sin(beat), 0.5, 0.23, tilt)


def fish(rng: Generator) -> Iterator[Part]:
    """In profile, the tail in mid-stroke."""
    swish, plump = rng.uniform(-0.18, 0.18), rng.uniform(0.36, 0.48)
    yield poly("tail", "second", (-0.5, -0.02), (-0.95, -0.42 + swish), (-1.05, -0.3 + swish), (-0.85, 0.02 + swish))
    yield poly("tail", "second", (-0.85, -0.02 + swish), (-1.05, 0.34 + swish), (-0.95, 0.46 + swish), (-0.5, 0.02))
    yield poly("fin", "third", (-0.35, -0.3), (-0.3, -plump - 0.26), (0.12, -plump - 0.12), (0.3, -0.3))
    yield poly("fin", "third", (0.1, 0.3), (-0.05, plump + 0.2), (-0.22, plump + 0.16), (-0.2, 0.3))
    yield oval("body", "coat", 0.05, 0, 0.68, plump)
    yield oval("head", "main", 0.46, 0, 0.29, 0.62 * plump)
    yield oval("fin", "third", 0.02, 0.12, 0.2, 0.1, 0.5 + 2 * swish)
    yield from eye(0.47, -0.09, 0.12)
    yield limb("muzzle", "dark", 0.62, 0.13, 0.7, 0.1, 0.025)


def turtle(rng: Generator) -> Iterator[Part]:
    """In profile under a domed shell."""
    step, neck = rng.uniform(-0.1, 0.1), rng.uniform(-0.25, 0.08)
    x, y, half = 0.86, 0.12 + neck, ((-0.78, 0.38), (-0.62, -0.18), (-0.3, -0.5))
    yield limb("leg", "second", -0.4, 0.35, -0.46 - step, 0.68, 0.15, 0.12)
    yield limb("leg", "second", 0.4, 0.35, 0.36 + step, 0.68, 0.15, 0.12)
    yield limb("tail", "second", -0.6, 0.42, -0.95, 0.5, 0.1, 0.03)
    yield limb("body", "second", 0.45, 0.35, x, y, 0.14, 0.13)
    yield oval("head", "second", x, y, 0.24, 0.19, -0.1)
    yield from eye(x + 0.08, y - 0.06, 0.075)
    yield limb("leg", "second", -0.52, 0.4, -0.58 + step, 0.72, 0.16, 0.13)
    yield limb("leg", "second", 0.52, 0.4, 0.5 - step, 0.72, 0.16, 0.13)
    yield poly("shell", "coat", *half, *((-0.04 - u, v) for u, v in half[::-1]), soft=0.2)
    for u, v, r in ((-0.42, 0.02, 0.14), (-0.02, -0.16, 0.19), (0.4, 0.04, 0.14)):
        yield oval("spot", "third", u, v, r, 0.8 * r)
    yield limb("shell", "main", -0.74, 0.36, 0.7, 0.36, 0.09)


def snail(rng: Generator) -> Iterator[Part]:
    """Creeping, with a spiral shell and eyes on stalks."""
    lift, stretch = rng.uniform(-0.1, 0.15), rng.uniform(-0.08, 0.12)
    x, y = 0.66 + stretch, -0.05 - lift
    spiral = ((-0.13, 0.07, 0.44, 0.42), (-0.17, 0.02, 0.34, 0.32), (-0.12, 0.05, 0.2, 0.19), (-0.14, 0.02, 0.11, 0.1))
    yield limb("body", "second", -0.9, 0.68, 0.5, 0.62, 0.08, 0.16)
    yield limb("head", "second", 0.5, 0.6, x, y, 0.16, 0.15)
    yield limb("antenna", "second", x, y - 0.06, x - 0.1, y - 0.46, 0.05, 0.04)
    yield limb("antenna", "second", x + 0.04, y - 0.04, x + 0.24, y - 0.4, 0.05, 0.04)
    yield from each(oval, "eye", "dark", (x - 0.1, y - 0.5, 0.08), (x + 0.26, y - 0.44, 0.08))
    yield oval("shell", "coat", -0.2, 0.04, 0.6, 0.58)
    yield from (oval("shell", ("third", "main")[k % 2], *turn) for k, turn in enumerate(spiral))


def butterfly(rng: Generator) -> Iterator[Part]:
    """Seen from above: two pairs of patterned wings that open and close."""
    opened, reach = rng.uniform(0.6, 1.0), rng.uniform(0.3, 0.6)
    for s in SIDES:
        yield oval("wing", "second", s * 0.4 * opened, 0.36, 0.4 * opened, 0.3, s * 0.9)
        yield oval("wing", "coat", s * 0.5 * opened, -0.3, 0.55 * opened, 0.36, -s * 0.55)
        yield oval("spot", "third", s * 0.62 * opened, -0.38, 0.2 * opened, 0.16)
        yield oval("spot", "light", s * 0.42 * opened, 0.42, 0.13 * opened, 0.11)
    yield from (limb("antenna", "dark", 0, -0.45, s * (0.2 * reach + 0.1), -0.95, 0.025, 0.04) for s in SIDES)
    yield limb("body", "dark", 0, -0.3, 0, 0.55, 0.09, 0.05)
    yield oval("head", "dark", 0, -0.42, 0.12)


def beetle(rng: Generator) -> Iterator[Part]:
    """Seen from above: six walking legs, two spotted wing cases."""
    gait, gape = rng.uniform(-0.14, 0.14), rng.uniform(0.0, 0.12)
    for s in SIDES:
        for step, y, reach in ((gait, -0.32, -0.27), (-gait, 0.05, -0.05), (gait, 0.42, 0.23)):
            foot = y + reach + s * step
            yield limb("leg", "dark", s * 0.3, y, s * 0.7, foot, 0.07, 0.05)
            yield limb("leg", "dark", s * 0.7, foot, s * 0.88, foot + 0.19, 0.05, 0.03)
    yield from (limb("antenna", "dark", s * 0.1, -0.7, s * 0.3, -1.02, 0.03) for s in SIDES)
    yield oval("head", "dark", 0, -0.68, 0.26, 0.22)
    yield from (oval("eye", "white", s * 0.17, -0.74, 0.07) for s in SIDES)
    yield oval("body", "dark", 0, 0.1, 0.4, 0.6)
    yield from (oval("wing", "main", s * (0.22 + gape), 0.12, 0.34, 0.66, -s * gape) for s in SIDES)
    for s in SIDES:
        dots = ((0.24, -0.22, 0.12), (0.34, 0.16, 0.11), (0.2, 0.48, 0.1))
        yield from (oval("spot", "second", s * (x + gape), y, r) for x, y, r in dots)


def tree(rng: Generator) -> Iterator[Part]:
    """Round and bearing fruit, or a conifer of three storeys."""
    sway = rng.uniform(-0.12, 0.12)
    yield limb("trunk", "wood", 0, 0.95, 0.5 * sway, 0.1, 0.15, 0.09)
    if rng.uniform() < 0.35:
        for w, y in ((0.66, 0.5), (0.54, 0.12), (0.4, -0.26)):
            yield poly("crown", "coat", (sway * (1 - y), y - 0.62), (w, y), (-w, y), soft=0.08, bulge=0.25)
        return
    puffs = ((-0.4, -0.06, 0.36), (0.4, -0.08, 0.36), (-0.24, -0.48, 0.38), (0.26, -0.5, 0.38), (0, -0.22, 0.46))
    fruit = ((-0.36, 0.0), (0.34, -0.1), (-0.2, -0.5), (0.24, -0.56), (0.02, -0.16))
    yield limb("trunk", "wood", 0.2 * sway, 0.45, 0.34, 0.1, 0.07, 0.05)
    yield from (oval("crown", "coat", x + sway, y, r * rng.uniform(0.9, 1.1)) for x, y, r in puffs)
    yield from (oval("fruit", "third", x + sway, y, 0.085) for x, y in fruit)


def mushroom(rng: Generator) -> Iterator[Part]:
    """A spotted cap on a stout stem with a ring."""
    lean, y = rng.uniform(-0.12, 0.12), -0.12 - rng.uniform(-0.1, 0.12)
    rim = ((-0.86, 0.1), (-0.62, -0.36), (-0.2, -0.62), (0.2, -0.62), (0.62, -0.36), (0.86, 0.1))
    spots = ((-0.48, -0.16, 0.13), (-0.1, -0.36, 0.16), (0.36, -0.26, 0.14), (0.62, -0.02, 0.09), (0.1, -0.06, 0.11))
    yield limb("stem", "light", 0, 0.72, lean, y, 0.27, 0.19)
    yield oval("stem", "white", lean * 0.6, y + 0.32, 0.27, 0.08)
    yield poly("cap", "main", *((lean + u, y + v) for u, v in rim), soft=0.22, bulge=0.4)
    yield from (oval("spot", "second", lean + u, y + v, r, 0.85 * r) for u, v, r in spots)


def flower(rng: Generator) -> Iterator[Part]:
    """Five to eight petals on a stem with two leaves."""
    x, turn, count = rng.uniform(-0.2, 0.2), rng.uniform(0, pi), int(rng.integers(5, 9))
    y, angles, wide = -0.38, [turn + 2 * pi * k / count for k in range(count)], 1.0 / count + 0.02
    yield limb("stem", "leaf", -0.4 * x, 0.95, x, y, 0.06, 0.05)
    yield from each(oval, "leaf", "leaf", (-0.28, 0.52, 0.3, 0.11, 0.5 + x), (0.26, 0.66, 0.28, 0.1, -0.5 + x))
    yield from (oval("petal", "main", x + 0.36 * cos(a), y + 0.36 * sin(a), 0.27, wide, a) for a in angles)
    yield oval("center", "second", x, y, 0.2)


def car(rng: Generator) -> Iterator[Part]:
    """A saloon car in profile, long or short, with a steep or a sloping front."""
    long, tall, slope = rng.uniform(0.82, 1.0), rng.uniform(0.42, 0.56), rng.uniform(0.1, 0.3)
    sill, top, tires = -0.08, 0.1 - tall, (("dark", 0.23), ("light", 0.11))
    yield poly("cabin", "second", (-0.6, -0.05), (-0.5, -tall), (0.18, -tall), (0.3 + slope, -0.05), soft=0.1)
    yield poly("window", "glass", (-0.47, sill), (-0.4, top), (-0.14, top), (-0.14, sill), soft=0.03)
    yield poly("window", "glass", (-0.04, sill), (-0.04, top), (0.13, top), (0.2 + slope, sill), soft=0.03)
    yield poly("body", "main", (-long, sill), (0.4, sill), (long, 0.1), (long, 0.36), (-long, 0.36), soft=0.1)
    yield limb("body", "third", -0.88 * long, 0.16, 0.88 * long, 0.18, 0.035)
    yield limb("door", "dark", -0.09, 0.0, -0.09, 0.3, 0.015)
    yield from (oval("wheel", tint, s * 0.56 * long, 0.36, r) for s in SIDES for tint, r in tires)
    yield oval("lamp", "glow", 0.92 * long, 0.08, 0.09, 0.1)
    yield from (box("panel", "light", s * long - 0.08, 0.28, s * long + 0.08, 0.4) for s in (1, -1))


def boat(rng: Generator) -> Iterator[Part]:
    """A sailing boat; the sails swell with the wind."""
    wind, tall = rng.uniform(-0.08, 0.12), rng.uniform(0.8, 1.0)
    yield limb("mast", "wood", 0.02, 0.3, 0.02, -tall, 0.055, 0.045)
    yield poly("sail", "second", (-0.04, -tall + 0.1), (-0.04, 0.22), (-0.74 - wind, 0.22), (-0.4 - wind, -0.4))
    yield poly("sail", "third", (0.1, -tall + 0.25), (0.66 + wind, 0.2), (0.1, 0.2))
    yield poly("sail", "main", (0.04, -tall - 0.02), (0.3, -tall + 0.07), (0.04, -tall + 0.16), soft=0.02)
    yield poly("hull", "main", (-0.95, 0.28), (1.0, 0.24), (0.68, 0.72), (-0.62, 0.72), soft=0.08)
    yield limb("hull", "light", -0.9, 0.31, 0.93, 0.28, 0.055)
    yield from (oval("window", "glass", x, 0.5, 0.08) for x in (-0.4, 0.0, 0.4))


def house(rng: Generator) -> Iterator[Part]:
    """A gable with a round window, a door and a window on either side of the door."""
    wide, eaves, peak, door = (rng.uniform(*span) for span in ((0.6, 0.78), (-0.2, 0.0), (0.5, 0.7), (-0.3, 0.3)))
    x, low = door + (-1 if door > 0 else 1) * 0.55, eaves + 0.04
    yield box("chimney", "third", 0.3, eaves - peak, 0.5, eaves - 0.05)
    yield box("wall", "coat", -wide, eaves - 0.05, wide, 0.85)
    yield poly("roof", "second", (-wide - 0.2, low), (0, eaves - peak - 0.05), (wide + 0.2, low), soft=0.06)
    yield oval("window", "glass", 0, eaves - 0.2, 0.12)
    yield box("door", "wood", door - 0.15, 0.32, door + 0.15, 0.86, soft=0.04)
    yield oval("door", "glow", door + 0.08, 0.6, 0.04)
    yield box("panel", "white", x - 0.21, 0.16, x + 0.21, 0.56, soft=0.02)
    yield box("window", "glass", x - 0.16, 0.21, x + 0.16, 0.51, soft=0.02)
    yield limb("panel", "white", x, 0.2, x, 0.52, 0.02)


def rocket(rng: Generator) -> Iterator[Part]:
    """A moon rocket on its flame."""
    slim, burn = rng.uniform(0.26, 0.36), rng.uniform(0.0, 0.3)
    yield oval("flame", "glow", 0, 0.72, 0.18, 0.18 + burn)
    yield oval("flame", "white", 0, 0.66, 0.09, 0.1 + 0.6 * burn)
    yield poly("fin", "second", (-slim, 0.1), (-0.05, 0.5), (-slim - 0.32, 0.78), (-slim - 0.3, 0.42), soft=0.06)
    yield poly("fin", "second", (0.05, 0.5), (slim, 0.1), (slim + 0.3, 0.42), (slim + 0.32, 0.78), soft=0.06)
    yield box("panel", "dark", -0.2, 0.5, 0.2, 0.68)
    yield oval("body", "coat", 0, -0.12, slim, 0.74)
    yield poly("nose", "third", (0, -1.0), (0.62 * slim, -0.56), (-0.62 * slim, -0.56), soft=0.1, bulge=0.2)
    yield oval("window", "light", 0, -0.22, 0.19)
    yield oval("window", "glass", 0, -0.22, 0.13)
    yield poly("fin", "second", (-0.05, 0.2), (0.05, 0.2), (0.08, 0.72), (-0.08, 0.72), soft=0.03)


def robot(rng: Generator) -> Iterator[Part]:
    """A box on two feet that waves its arms."""
    left, right, step = rng.uniform(-0.9, 0.9), rng.uniform(-0.9, 0.9), rng.uniform(-0.08, 0.08)
    yield from (limb("leg", "light", s * 0.22, 0.45, s * (0.24 + step), 0.8, 0.09) for s in SIDES)
    yield from each(box, "leg", "third", (-0.46 - step, 0.76, -0.1 - step, 0.96), (0.1 + step, 0.76, 0.46 + step, 0.96))
    for s, a in ((-1, left), (1, right)):
        x, y = s * (0.5 + 0.34 * cos(a)), 0.4 * sin(a)
        yield limb("arm", "light", s * 0.45, -0.02, x, y, 0.075)
        yield oval("arm", "third", x, y, 0.13)
    yield limb("antenna", "light", 0, -0.7, 0, -0.95, 0.055)
    yield oval("antenna", "glow", 0, -0.98, 0.09)
    yield box("body", "main", -0.45, -0.2, 0.45, 0.52, soft=0.1)
    yield box("head", "second", -0.4, -0.8, 0.4, -0.18, soft=0.12)
    yield box("panel", "dark", -0.28, 0.0, 0.28, 0.32)
    yield from (oval("panel", "glow", x, 0.16, 0.07) for x in (-0.15, 0.06))
    for s in SIDES:
        yield from eye(s * 0.17, -0.55, 0.12)
    yield limb("muzzle", "dark", -0.14, -0.35, 0.14, -0.35, 0.03)


_ANIMALS = (cat, dog, bird, fish, turtle, snail, butterfly, beetle)
_OTHERS = (tree, mushroom, flower, car, boat, house, rocket, robot)
DRAWINGS = {draw.__name__: draw for draw in _ANIMALS + _OTHERS}
CLASSES = tuple(DRAWINGS)
