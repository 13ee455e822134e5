"""What happens in a scene of the embedded world: who stands where, in which colours, behind which occluder.

Plans are made in fractions of the picture, from a generator alone, so that a scene is the same at every resolution.
"""

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.random import Generator

from wsis.config import ours
from wsis.data.shapes import CLASSES, DRAWINGS, OCCLUDERS, TINTS, Part, fence, post
from wsis.data.sprites import Costume, Pose, extent
from wsis.data.stuff import STUFF, Layout, plan_layout, regions
from wsis.errors import ConfigError

Array = np.ndarray

# name: RGB in [0, 255]. Things draw their colours from here, whatever their class; much of it is also on the ground.
_PALETTE = np.float32([
    (214, 76, 62), (238, 146, 62), (244, 200, 84), (148, 182, 78), (74, 132, 74), (72, 160, 158), (86, 146, 206),
    (58, 82, 138), (134, 96, 160), (228, 136, 158), (150, 98, 62), (204, 172, 132), (122, 128, 136), (240, 230, 212),
]) / 255  # fmt: skip
_FIXED = {
    "dark": (0.17, 0.15, 0.17), "light": (0.93, 0.87, 0.76), "white": (0.98, 0.97, 0.94), "glass": (0.62, 0.82, 0.9),
    "wood": (0.48, 0.32, 0.2), "leaf": (0.36, 0.56, 0.26), "glow": (1.0, 0.84, 0.36),
}  # fmt: skip
_MATERIAL = {"wood": (0.6, 0.42, 0.26), "grass": (0.4, 0.6, 0.26), "rock": (0.6, 0.58, 0.57)}
_HOME = {
    "bird": ("sky", "grass", "snow"), "butterfly": ("sky", "grass"), "fish": ("water",), "boat": ("water",),
    "rocket": ("sky",), "turtle": ("sand", "water", "grass"),
}  # fmt: skip
_TURN = {
    "fish": 0.4,
    "rocket": 0.9,
    "butterfly": np.pi,
    "beetle": np.pi,
}  # else 0.15: most things stand upright


@dataclass(frozen=True, kw_only=True)
class WorldConfig:
    """Size and difficulty of the embedded world.

    size: side of the square pictures, pixels. objects: fewest and most objects planned per picture.
    object_size: range of an object's longest side, fraction of the picture's.
    contact: probability that an object gets a touching neighbour of its class.
    occlusion: probability that a post, a beam or reeds cut through an object.
    nested: probability that a small object of the same class stands inside an object's box.
    camouflage: probability that an object takes the colour of the ground behind it.
    context: probability that an object keeps to its habitat (fish in water) instead of standing anywhere.
    texture: strength of surfaces and coats, 0 (flat colour) to 1.
    classes: the things that appear, a subset of `CLASSES` in the order of their labels; None for all.

    Raises:
        ConfigError: a value out of range or an unknown class.
    """

    size: int = ours(
        128, why="objects keep their parts and two cores draw 300 pictures a second", unit="px", scales=True
    )
    objects: tuple[int, int] = ours((1, 5), why="PASCAL VOC has 2.4 objects a picture, COCO 7.3")
    object_size: tuple[float, float] = ours((0.22, 0.55), why="28 to 70 pixels at the default size")
    contact: float = ours(0.25, why="common enough to be learnt", unit="probability")
    occlusion: float = ours(0.2, why="common enough to be learnt", unit="probability")
    nested: float = ours(0.1, why="as rare as in photographs of groups", unit="probability")
    camouflage: float = ours(0.3, why="colour must not give an object away", unit="probability")
    context: float = ours(
        0.8, why="image tags then confuse a thing with its habitat, as in photographs", unit="probability"
    )
    texture: float = ours(1.0, why="the pictures are meant to be looked at")
    classes: tuple[str, ...] | None = ours(None, why="all of them")

    def __post_init__(self) -> None:
        if self.size < 32:
            raise ConfigError(f"size={self.size}: objects vanish below 32 pixels; choose 64 or more")
        if not 1 <= self.objects[0] <= self.objects[1]:
            raise ConfigError(f"objects={self.objects}: give (fewest, most) with 1 <= fewest <= most")
        if not 0 < self.object_size[0] <= self.object_size[1] <= 1:
            raise ConfigError(f"object_size={self.object_size}: give (smallest, largest) in (0, 1]")
        for name in ("contact", "occlusion", "nested", "camouflage", "context", "texture"):
            if not 0 <= getattr(self, name) <= 1:
                raise ConfigError(f"{name}={getattr(self, name)}: must lie in [0, 1]")
        unknown = [c for c in self.classes or () if c not in CLASSES]
        if unknown or self.classes == () or len(set(self.classes or ())) < len(self.classes or ()):
            raise ConfigError(f"classes={self.classes}: name one or more of {', '.join(CLASSES)}, each once")


class Actor(NamedTuple):
    """What is to be drawn: an object (label >= 0) or an occluder (label = -(1 + index into `STUFF`)).

    half: half width and half height of the box. depth: actors of greater depth lie in front. touches: index of the earlier actor to be pushed against, or -1.
    """

    label: int
    parts: list[Part]
    costume: Costume
    pose: Pose
    half: Array
    depth: float
    camouflaged: bool = False
    touches: int = -1


class Plan(NamedTuple):
    """A whole scene: the ground, the actors, a unit vector [3] towards the lamp, the tone of the light [3] (RGB)."""

    layout: Layout
    actors: list[Actor]
    light: Array
    tone: Array


def plan_scene(rng: Generator, config: WorldConfig, classes: tuple[str, ...]) -> Plan:
    """Draw a plan; labels count within `classes`."""
    fewest, most = config.objects
    labels = rng.integers(len(classes), size=rng.integers(fewest, most + 1)).tolist()
    layout = plan_layout(rng)
    for _ in range(4):
        if rng.random() < config.context and not all(
            _is_home(classes[c], layout.stuff).any() for c in labels
        ):
            layout = plan_layout(rng)
    where = regions(layout, 48)
    actors: list[Actor] = []
    for label in labels:
        room = most - sum(a.label >= 0 for a in actors)
        if room > 0:
            actors += _group(rng, config, classes, label, layout, where, actors, room)
    light = np.array([rng.choice((-1, 1)) * rng.uniform(0.3, 0.6), -0.55, rng.uniform(0.6, 0.8)])
    warmth = rng.uniform(-0.06, 0.06)
    tone = (1 + np.array([warmth, 0, -warmth])) * rng.uniform(0.92, 1.04)
    return Plan(layout, actors, np.float32(light / np.linalg.norm(light)), np.float32(tone))


def _group(
    rng: Generator, config: WorldConfig, classes: tuple[str, ...], label: int, layout: Layout, where: Array,
    others: list[Actor], room: int,
) -> list[Actor]:  # fmt: skip
    """One object with those that belong to it: a small one in its box, a touching neighbour, an occluder."""
    name = classes[label]
    has_small, has_neighbour, is_cut = rng.random(3) < (config.nested, config.contact, config.occlusion)
    low, high = config.object_size
    size = low * (high / low) ** rng.random()
    if has_small and room > 1:
        size = max(size, 0.8 * high)
    first = _actor(rng, config, label, name, size)
    first = _placed(rng, config, name, first, layout, where, others)
    group = [first]
    if has_small and room > len(group):
        group.append(_nested(rng, config, label, name, first))
    if has_neighbour and room > len(group):
        group.append(_neighbour(rng, config, label, name, first, len(others)))
    if is_cut:
        group.append(_occluder(rng, config, first, where))
    return group


def _actor(rng: Generator, config: WorldConfig, label: int, name: str, size: float) -> Actor:
    """An object of the class in a fresh pose and costume, not placed yet."""
    turn = rng.uniform(-1, 1) * _TURN.get(name, 0.15)
    pose = Pose(0.5, 0.5, size, turn, bool(rng.random() < 0.5))
    colours = np.float32([_FIXED.get(t, (0, 0, 0)) for t in TINTS])
    main, second, third = _PALETTE[rng.permutation(len(_PALETTE))[:3]] * rng.uniform(0.88, 1.08, (3, 1))
    for tint, colour in (("main", main), ("coat", main), ("second", second), ("third", third)):
        colours[TINTS.index(tint)] = colour
    phase = (rng.uniform(7, 13), rng.uniform(0, np.pi), rng.uniform(0, 6))
    costume = Costume(
        colours=colours, pattern=int(rng.integers(4)), phase=phase, strength=0.85 * config.texture
    )
    parts = DRAWINGS[name](rng)
    low, high, scale = extent(parts, pose)
    half = (high - low) * scale / 2
    return Actor(label, parts, costume, pose, half, 0.0, bool(rng.random() < config.camouflage))


def _moved(actor: Actor, x: float, y: float, depth: float) -> Actor:
    return actor._replace(pose=actor.pose._replace(x=float(x), y=float(y)), depth=float(depth))


def _is_home(name: str, stuff: tuple[int, ...]) -> Array:
    """Whether each region (of `stuff`, the first being the backdrop) is a habitat of the class: bool [R]."""
    if name in _HOME:
        return np.isin(stuff, [STUFF.index(s) for s in _HOME[name]])
    return (np.arange(len(stuff)) > 0) & (np.array(stuff) != STUFF.index("water"))


def _placed(
    rng: Generator,
    config: WorldConfig,
    name: str,
    actor: Actor,
    layout: Layout,
    where: Array,
    others: list[Actor],
) -> Actor:
    """Of several places the one that covers others least, in the habitat of the class if the scene keeps to it."""
    half = actor.half
    inset = np.minimum(0.85 * half, 0.49)
    at = inset + rng.random((16, 2)) * (1 - 2 * inset)
    foot = np.minimum(np.stack([at[:, 0], at[:, 1] + 0.8 * half[1]], 1), 0.999)
    region = where[tuple((foot[:, ::-1] * len(where)).astype(int).T)]
    at_home = _is_home(name, layout.stuff)[region]
    cost = np.where(at_home, 0.0, 0.3 * (rng.random() < config.context))
    for other in others:
        gap = half + other.half - np.abs(at - (other.pose.x, other.pose.y))
        cost += np.prod(np.clip(gap, 0, 2 * np.minimum(half, other.half)), 1) / np.prod(2 * half)
    x, y = at[cost.argmin()]
    return _moved(actor, x, y, y + half[1])


def _nested(rng: Generator, config: WorldConfig, label: int, name: str, host: Actor) -> Actor:
    """A small one of the same class before its host, off the middle but within the box."""
    small = _actor(rng, config, label, name, 0.42 * host.pose.size)
    x = host.pose.x + rng.choice((-1, 1)) * rng.uniform(0.45, 0.8) * host.half[0]
    y = host.pose.y + rng.uniform(0.1, 0.7) * host.half[1]
    return _moved(small, np.clip(x, 0.05, 0.95), np.clip(y, 0.05, 0.95), host.depth + 0.02)


def _neighbour(rng: Generator, config: WorldConfig, label: int, name: str, host: Actor, index: int) -> Actor:
    """One of the same class and, half the time, of the same colours, beside its host (actor `index`)."""
    size = np.clip(host.pose.size * rng.uniform(0.75, 1.1), *config.object_size)
    actor = _actor(rng, config, label, name, float(size))
    if rng.random() < 0.5:
        actor = actor._replace(costume=host.costume, camouflaged=host.camouflaged)
    half = actor.half
    side = 1 if host.pose.x < 0.5 else -1
    foot = host.pose.y + host.half[1] + rng.uniform(-0.2, 0.2) * half[1]
    x = host.pose.x + side * (half[0] + host.half[0])
    return _moved(actor, x, foot - half[1], foot)._replace(touches=index)


def _occluder(rng: Generator, config: WorldConfig, host: Actor, where: Array) -> Actor:
    """Something that rises through the host: from the ground before it or, if it flies, from below the picture."""
    half, unit = host.half, float(host.half.max())
    x, y = host.pose.x + rng.uniform(-0.15, 0.15) * half[0], host.pose.y
    foot = np.clip(np.array([y + 1.2 * half[1], x]), 0, 0.999)
    flies = where[tuple((foot * len(where)).astype(int))] == 0
    if flies:
        stuff, draw = "wood", post
    elif half[1] > 1.3 * half[0]:  # what is narrow is cut across
        stuff, draw = "wood", fence
    else:
        stuff, draw = OCCLUDERS[rng.integers(len(OCCLUDERS))]
    parts = draw(rng, *(half / unit), (1.05 - y if flies else 1.25 * half[1]) / unit)
    low, high, scale = extent(parts, Pose(0, 0, 1, 0, False))
    x, y = np.array([x, y]) + unit * (low + high) / 2
    pose = Pose(float(x), float(y), unit / scale, 0.0, False)
    tone = np.float32(_MATERIAL[stuff]) * rng.uniform(0.85, 1.15)
    colours = np.stack([tone * {"second": 0.8, "wood": 0.5}.get(t, 1.0) for t in TINTS])
    costume = Costume(colours=colours, pattern=1, phase=(30.0, 0.2, 0.0), strength=0.5 * config.texture)
    return Actor(-1 - STUFF.index(stuff), parts, costume, pose, unit * (high - low) / 2, host.depth + 0.03)
