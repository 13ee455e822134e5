"""What happens in a scene of the embedded world: who stands where, in which colors, behind which occluder; all in fractions
of the image, so that a scene is the same at any resolution.
"""

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.random import Generator

from wsis.core.config import ours
from wsis.core.errors import ConfigError
from wsis.data.world.drawings import CLASSES, DRAWINGS
from wsis.data.world.ground import STUFF, Array, Layout, percents, plan_layout, regions
from wsis.data.world.shapes import OCCLUDERS, TINTS, Part, fence, post
from wsis.data.world.sprites import PATTERNS, Costume, Pose, posed


@dataclass(frozen=True, kw_only=True)
class WorldConfig:
    """Size and difficulty of the embedded world.

    size: side of the square images, pixels. objects: fewest and most objects planned per image. object_size: range of an
    object's longest side, fraction of the image's. contact, occlusion, nested, camouflage, context: probabilities that an
    object gets a touching neighbor of its class; is cut through by a post, a fence or reeds; has a small object of its
    class inside its box; takes the color of the ground behind it; keeps to its habitat (fish in water). texture: strength
    of surfaces and coats, 0 (flat color) to 1. classes: the objects that appear, a subset of `CLASSES` in the order of
    their labels; None for all. Raises ConfigError if a value is out of range or a class is unknown.
    """

    size: int = ours(128, why="objects keep their parts, two cores draw 300 a second", unit="px", scales=True)
    objects: tuple[int, int] = ours((1, 5), why="PASCAL VOC has 2.4 objects an image, COCO 7.3")
    object_size: tuple[float, float] = ours((0.22, 0.55), why="28 to 70 pixels at the default size")
    contact: float = ours(0.25, why="common enough to be learned")
    occlusion: float = ours(0.2, why="common enough to be learned")
    nested: float = ours(0.1, why="as rare as in photographs of groups")
    camouflage: float = ours(0.3, why="color must not give an object away")
    context: float = ours(0.8, why="tags then confuse an object with its habitat, as in photographs")
    texture: float = ours(1.0, why="the images are meant to be looked at")
    classes: tuple[str, ...] | None = ours(None, why="all of them")

    def __post_init__(self) -> None:
        names = CLASSES if self.classes is None else self.classes
        if self.size < 32:
            raise ConfigError(f"size={self.size}: objects vanish below 32 pixels; choose 64 or more")
        if not 1 <= self.objects[0] <= self.objects[1]:
            raise ConfigError(f"objects={self.objects}: give (fewest, most) with 1 <= fewest <= most")
        if not 0 < self.object_size[0] <= self.object_size[1] <= 1:
            raise ConfigError(f"object_size={self.object_size}: give (smallest, largest) in (0, 1]")
        for name in ("contact", "occlusion", "nested", "camouflage", "context", "texture"):
            if not 0 <= getattr(self, name) <= 1:
                raise ConfigError(f"{name}={getattr(self, name)}: must lie in [0, 1]")
        if not names or len(set(names)) < len(names) or not set(names) <= set(CLASSES):
            raise ConfigError(f"classes={self.classes}: name one or more of {', '.join(CLASSES)}, each once")


# Objects of every class draw their colors from here; much of it is also on the ground. Hexadecimal RGB
_PALETTE = "d64c3e ee923e f4c854 94b64e 4a844a 48a09e 5692ce 3a528a 8660a0 e4889e 96623e ccac84 7a8088 f0e6d4"
PALETTE = np.frombuffer(bytes.fromhex(_PALETTE), np.uint8).reshape(-1, 3) / np.float32(255)
# In the order of `TINTS`; the first four are drawn for each object
TINT_COLORS = np.zeros((len(TINTS), 3), np.float32)
TINT_COLORS[4:] = percents("17 15 17 | 93 87 76 | 98 97 94 | 62 82 90 | 48 32 20 | 36 56 26 | 100 84 36")
MATERIALS = {"wood": "60 42 26", "grass": "40 60 26", "rock": "60 58 57"}
HABITATS = {"bird": ("sky", "grass", "snow"), "butterfly": ("sky", "grass"), "fish": ("water",), "boat": ("water",)}
HABITATS |= {"rocket": ("sky",), "turtle": ("sand", "water", "grass")}
MAX_TURN = {"fish": 0.4, "rocket": 0.9, "butterfly": np.pi, "beetle": np.pi}  # 0.15 for what stands upright


class Actor(NamedTuple):
    """What is to be drawn: an object (label >= 0) or an occluder (label = -(1 + index into `STUFF`)).

    Actors of greater depth lie in front. The main color of one that is camouflaged is that of the ground behind it.
    touches: the index of the earlier actor that this one is pushed against, or -1.
    """

    label: int
    parts: list[Part]
    costume: Costume
    pose: Pose
    depth: float = 0.0
    is_camouflaged: bool = False
    touches: int = -1

    def at(self, x: float, y: float, depth: float) -> "Actor":
        return self._replace(pose=self.pose._replace(x=float(x), y=float(y)), depth=float(depth))


Plan = tuple[Layout, list[Actor], Array, Array]
"""The ground, the actors, a unit vector [3] to the lamp and the tone [3] of its light."""


def plan_scene(rng: Generator, config: WorldConfig, classes: tuple[str, ...]) -> Plan:
    """Plan a scene from random numbers; labels count within `classes`."""
    fewest, most = config.objects
    labels = rng.integers(len(classes), size=rng.integers(fewest, most + 1)).tolist()
    layout = plan_layout(rng)
    for _ in range(4):
        at_home = all(_is_habitat(classes[c], layout).any() for c in labels)
        if not at_home and rng.random() < config.context:
            layout = plan_layout(rng)
    casting = _Casting(rng, config, classes, layout, regions(layout, 48))
    actors: list[Actor] = []
    for label in labels:
        room = most - sum(a.label >= 0 for a in actors)
        if room > 0:
            actors += casting.group(label, actors, room)
    light = np.array([rng.choice((-1, 1)) * rng.uniform(0.3, 0.6), -0.55, rng.uniform(0.6, 0.8)], np.float32)
    warmth = rng.uniform(-0.06, 0.06)
    tone = np.array([1 + warmth, 1, 1 - warmth], np.float32) * rng.uniform(0.92, 1.04)
    return layout, actors, light / np.linalg.norm(light), tone


def _is_habitat(name: str, layout: Layout) -> Array:
    """Say which regions of the layout suit the class: bool [R]; any ground but water if it has no habitat."""
    stuff = np.array([STUFF[s] for s in layout.stuff])
    return np.isin(stuff, HABITATS[name]) if name in HABITATS else (np.arange(len(stuff)) > 0) & (stuff != "water")


@dataclass(frozen=True)
class _Casting:
    """Chooses actors for one scene; `where` is its map of regions, int64 [m, m]."""

    rng: Generator
    config: WorldConfig
    classes: tuple[str, ...]
    layout: Layout
    where: Array

    def group(self, label: int, others: list[Actor], room: int) -> list[Actor]:
        """Cast one object and what belongs to it: a small one in its box, a touching neighbor, an occluder."""
        rng, config, (low, high) = self.rng, self.config, self.config.object_size
        has_small, has_neighbor, is_cut = rng.random(3) < (config.nested, config.contact, config.occlusion)
        has_small &= room > 1
        size = low * (high / low) ** rng.random()
        first = self.placed(self.actor(label, max(size, 0.8 * high) if has_small else size), others)
        group = [first, self.nested(first)] if has_small else [first]
        if has_neighbor and room > len(group):
            group.append(self.neighbor(first, len(others)))
        return [*group, self.occluder(first)] if is_cut else group

    def actor(self, label: int, size: float) -> Actor:
        """Make an object of the class in a fresh pose and costume, not placed yet."""
        rng, name, texture = self.rng, self.classes[label], self.config.texture
        parts = list(DRAWINGS[name](rng))
        pose = posed(parts, rng.uniform(-1, 1) * MAX_TURN.get(name, 0.15), bool(rng.random() < 0.5))
        colors = TINT_COLORS.copy()
        colors[[0, 2, 3]] = PALETTE[rng.permutation(len(PALETTE))[:3]] * rng.uniform(0.88, 1.08, (3, 1))
        colors[TINTS.index("coat")] = colors[TINTS.index("main")]
        pattern = PATTERNS[rng.integers(len(PATTERNS))]
        phase = rng.uniform(7, 13), rng.uniform(0, np.pi), rng.uniform(0, 6)
        costume = Costume(colors, pattern, phase, strength=0.85 * texture)
        is_camouflaged = bool(rng.random() < self.config.camouflage)
        return Actor(label, parts, costume, pose._replace(scale=size / pose.size), 0.0, is_camouflaged)

    def placed(self, actor: Actor, others: list[Actor]) -> Actor:
        """Choose of 16 places the one that hides others least and, if the scene keeps to it, lies in the habitat."""
        half, size = actor.pose.half, len(self.where)
        inset = np.minimum(0.85 * half, 0.49)
        places = inset + self.rng.random((16, 2)) * (1 - 2 * inset)
        foot = np.minimum(places + (0, 0.8 * half[1]), 0.999)
        region = self.where[(foot[:, 1] * size).astype(int), (foot[:, 0] * size).astype(int)]
        at_home = _is_habitat(self.classes[actor.label], self.layout)[region]
        cost = np.where(at_home, 0.0, 0.3 * (self.rng.random() < self.config.context))
        for other in others:
            shared = half + other.pose.half - np.abs(places - (other.pose.x, other.pose.y))
            cost += np.clip(shared, 0, 2 * np.minimum(half, other.pose.half)).prod(1) / (2 * half).prod()
        x, y = places[cost.argmin()]
        return actor.at(x, y, y + half[1])

    def nested(self, host: Actor) -> Actor:
        """Put a small one of the same class before its host, off the middle but within the box."""
        rng, pose, half = self.rng, host.pose, host.pose.half
        x = pose.x + rng.choice((-1, 1)) * rng.uniform(0.45, 0.8) * half[0]
        y = pose.y + rng.uniform(0.1, 0.7) * half[1]
        small = self.actor(host.label, 0.42 * pose.size)
        return small.at(np.clip(x, 0.05, 0.95), np.clip(y, 0.05, 0.95), host.depth + 0.02)

    def neighbor(self, host: Actor, index: int) -> Actor:
        """Put one of the same class and, half the time, of the same colors beside its host (actor `index`)."""
        rng, pose = self.rng, host.pose
        actor = self.actor(host.label, float(np.clip(pose.size * rng.uniform(0.75, 1.1), *self.config.object_size)))
        if rng.random() < 0.5:
            actor = actor._replace(costume=host.costume, is_camouflaged=host.is_camouflaged)
        half, towards_middle = actor.pose.half, 1 if pose.x < 0.5 else -1
        foot = pose.y + pose.half[1] + rng.uniform(-0.2, 0.2) * half[1]
        x = pose.x + towards_middle * (half[0] + pose.half[0])
        return actor.at(x, foot - half[1], foot)._replace(touches=index)

    def occluder(self, host: Actor) -> Actor:
        """Let something rise before the host from the ground or, if it flies, from below the image."""
        rng, half, size = self.rng, host.pose.half, len(self.where)
        unit = float(half.max())
        x, y = host.pose.x + rng.uniform(-0.15, 0.15) * half[0], host.pose.y
        column, row = (min(max(int(v * size), 0), size - 1) for v in (x, y + 1.2 * half[1]))
        flies, (wide, tall) = self.where[row, column] == 0, half / unit
        stuff, draw = "wood", post if flies else fence
        if not flies and half[1] <= 1.3 * half[0]:  # what is narrower is cut across, by a fence
            stuff, draw = OCCLUDERS[rng.integers(len(OCCLUDERS))]
        parts = list(draw(rng, wide, tall, (1.05 - y) / unit if flies else 1.25 * tall))
        pose = posed(parts)._replace(scale=unit)
        x, y = np.array([x, y]) + unit * (pose.low + pose.high) / 2
        tone = percents(MATERIALS[stuff])[0] * rng.uniform(0.85, 1.15)
        colors = np.stack([tone * {"second": 0.8, "wood": 0.5}.get(t, 1.0) for t in TINTS])
        costume = Costume(colors, "stripes", phase=(30.0, 0.2, 0.0), strength=0.5 * self.config.texture)
        return Actor(-1 - STUFF.index(stuff), parts, costume, pose).at(x, y, host.depth + 0.03)
