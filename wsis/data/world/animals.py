"""Animals of the embedded world: each call draws one in a new pose, made of named parts, tail to nose."""

from math import cos, sin

from numpy.random import Generator

from wsis.data.world.shapes import Part, eye, limb, oval, poly


def cat(rng: Generator) -> list[Part]:
    """Sitting, seen from the front, head tilted, tail curled up beside the body."""
    u = rng.uniform
    lean, tilt, swing = u(-0.12, 0.12), u(-0.1, 0.1), u(-0.3, 0.35)
    hx, hy = lean, -0.45
    ears = [
        poly("ear", "main", (hx + s * 0.08, hy - 0.24), (hx + s * 0.34, hy - 0.58), (hx + s * 0.37, hy - 0.05))
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
    hx, hy, tilt = 0.4, -0.42 + nod, -beat if beat < 0 else -0.3
    return [
        limb("leg", "third", -0.05, 0.4, -0.1, 0.85, 0.035),
        limb("leg", "third", 0.12, 0.4, 0.12, 0.85, 0.035),
        limb("leg", "third", -0.1, 0.85, 0.06, 0.87, 0.03),
        limb("leg", "third", 0.12, 0.85, 0.28, 0.87, 0.03),
        poly("tail", "second", (-0.45, 0.05), (-0.35, 0.32), (-1.05, 0.36), (-1.1, 0.16)),
        oval("body", "main", 0, 0.06, 0.56, 0.42, -0.35),
        oval("body", "light", 0.16, 0.2, 0.34, 0.26, -0.4),
        oval("head", "main", hx, hy, 0.31, 0.29),
        poly("beak", "third", (hx + 0.24, hy - 0.12), (hx + 0.6, hy + 0.03), (hx + 0.24, hy + 0.14), soft=0.03),
        *eye(hx + 0.13, hy - 0.05, 0.09),
        oval("wing", "coat", -0.22 - 0.12 * cos(beat), 0.02 + 0.42 * sin(beat), 0.5, 0.23, tilt),
    ]


def fish(rng: Generator) -> list[Part]:
    """In profile, the tail in mid-stroke."""
    u = rng.uniform
    swish, plump = u(-0.18, 0.18), u(0.36, 0.48)
    return [
        poly("tail", "second", (-0.5, -0.02), (-0.95, -0.42 + swish), (-1.05, -0.3 + swish), (-0.85, 0.02 + swish)),
        poly("tail", "second", (-0.85, -0.02 + swish), (-1.05, 0.34 + swish), (-0.95, 0.46 + swish), (-0.5, 0.02)),
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
    half = ((-0.78, 0.38), (-0.62, -0.18), (-0.3, -0.5))
    spots = ((-0.42, 0.02, 0.14), (-0.02, -0.16, 0.19), (0.4, 0.04, 0.14))
    return [
        limb("leg", "second", -0.4, 0.35, -0.46 - step, 0.68, 0.15, 0.12),
        limb("leg", "second", 0.4, 0.35, 0.36 + step, 0.68, 0.15, 0.12),
        limb("tail", "second", -0.6, 0.42, -0.95, 0.5, 0.1, 0.03),
        limb("body", "second", 0.45, 0.35, hx, hy, 0.14, 0.13),
        oval("head", "second", hx, hy, 0.24, 0.19, -0.1),
        *eye(hx + 0.08, hy - 0.06, 0.075),
        limb("leg", "second", -0.52, 0.4, -0.58 + step, 0.72, 0.16, 0.13),
        limb("leg", "second", 0.52, 0.4, 0.5 - step, 0.72, 0.16, 0.13),
        poly("shell", "coat", *half, *((-0.04 - x, y) for x, y in half[::-1]), soft=0.2),
        *(oval("spot", "third", x, y, r, 0.8 * r) for x, y, r in spots),
        limb("shell", "main", -0.74, 0.36, 0.7, 0.36, 0.09),
    ]


def snail(rng: Generator) -> list[Part]:
    """Creeping, with a spiral shell and eyes on stalks."""
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
            foot = y + (-0.27, -0.05, 0.23)[k] + s * gait * (-1) ** k
            legs.append(limb("leg", "dark", s * 0.3, y, s * 0.7, foot, 0.07, 0.05))
            legs.append(limb("leg", "dark", s * 0.7, foot, s * 0.88, foot + 0.19, 0.05, 0.03))
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
