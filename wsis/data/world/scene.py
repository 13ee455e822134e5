"""A planned scene becomes an image with exact maps of objects, parts and stuff."""

from dataclasses import dataclass

import numpy as np
import torch
from numpy.random import default_rng
from torch import Tensor, from_numpy

from wsis.data.world.ground import axes, noise, paint
from wsis.data.world.plan import Actor, Plan, WorldConfig
from wsis.data.world.shapes import TINTS
from wsis.data.world.sprites import Sprite, render

MIN_PIXELS, MIN_SHARE = 12, 0.001  # objects with fewer visible pixels, or a smaller share of the image, are left out


@dataclass(frozen=True)
class Scene:
    """An image uint8 [3, H, W], the labels int64 [K] of its objects (indices into `classes`), and maps int64 [H, W].

    instance_map: 0 none, k + 1 the visible pixels of object k. part_map: 0 none, i + 1 for `PARTS[i]`. stuff_map: i + 1 for
    `STUFF[i]`, which is visible, or would be without the objects; an occluder counts as what it is made of.
    """

    image: Tensor
    instance_map: Tensor
    part_map: Tensor
    stuff_map: Tensor
    labels: Tensor
    classes: tuple[str, ...]

    @property
    def masks(self) -> Tensor:
        """Visible pixels of each object: bool [K, H, W], disjoint."""
        return self.instance_map[None] == torch.arange(1, len(self.labels) + 1)[:, None, None]

    @property
    def object_class_map(self) -> Tensor:
        """uint8 [H, W]: 0 background, c + 1 for class c."""
        return torch.cat([self.labels.new_zeros(1), self.labels + 1])[self.instance_map].to(torch.uint8)

    @property
    def semantic(self) -> Tensor:
        """uint8 [H, W]: 1..C the objects, C + 1..C + S the stuff, no background."""
        stuff = (self.stuff_map + len(self.classes)).to(torch.uint8)
        return torch.where(self.instance_map > 0, self.object_class_map, stuff)


def _windows(sprite: Sprite, n: int, down: int = 0, right: int = 0) -> tuple[tuple[slice, slice], tuple[slice, slice]]:
    """Say where the visible part of a shifted sprite is in the image, and where in the sprite."""
    top, left = sprite.top + down, sprite.left + right
    h, w = sprite.alpha.shape
    y0, y1, x0, x1 = max(top, 0), max(min(top + h, n), 0), max(left, 0), max(min(left + w, n), 0)
    return (slice(y0, y1), slice(x0, x1)), (slice(y0 - top, y1 - top), slice(x0 - left, x1 - left))


def _pushed(sprite: Sprite, host: Sprite, side: int) -> Sprite:
    """Move a sprite sideways until it touches its host from the right (side 1) or the left (-1)."""
    top, bottom = max(sprite.top, host.top), min(sprite.top + len(sprite.parts), host.top + len(host.parts))
    a = host.parts[top - host.top : bottom - host.top, ::-side] > 0
    b = sprite.parts[top - sprite.top : bottom - sprite.top, ::side] > 0
    common = a.any(1) & b.any(1)
    if not common.any():
        return sprite
    # two more than the free pixels between windows that abut
    overlap = int((a[common].argmax(1) + b[common].argmax(1)).min()) + 2
    return sprite._replace(left=host.left + a.shape[1] - overlap if side > 0 else host.left - b.shape[1] + overlap)


def _sprites(actors: list[Actor], light: np.ndarray, image: np.ndarray) -> list[Sprite]:
    """Render all actors and move those together that are to touch."""
    n = image.shape[-1]
    sprites: list[Sprite] = []
    for actor in actors:
        costume, pose = actor.costume, actor.pose
        if actor.is_camouflaged:
            x, y, r = (int(v * n) for v in (pose.x, pose.y, pose.size / 3))
            colors = costume.colors.copy()
            behind = image[:, max(y - r, 0) : y + r + 1, max(x - r, 0) : x + r + 1].mean((1, 2))
            colors[[TINTS.index("main"), TINTS.index("coat")]] = behind
            costume = costume._replace(colors=colors)
        sprite = render(actor.parts, costume, pose, light, n)
        if actor.touches >= 0:
            side = 1 if pose.x > actors[actor.touches].pose.x else -1
            sprite = _pushed(sprite, sprites[actor.touches], side)
        sprites.append(sprite)
    return sprites


def _owners(sprites: list[Sprite], order: list[int], n: int) -> np.ndarray:
    """Find the sprite that is visible at each pixel: int64 [n, n], 0 none, else 1 + its index."""
    owner = np.zeros((n, n), np.int64)
    for i in order:
        there, here = _windows(sprites[i], n)
        owner[there][sprites[i].parts[here] > 0] = i + 1
    return owner


def draw(plan: Plan, config: WorldConfig, classes: tuple[str, ...]) -> Scene:
    """Render a planned scene with its maps at `config.size`."""
    n, (layout, actors, light, tone) = config.size, plan
    image, where = paint(layout, n, config.texture)
    sprites = _sprites(actors, light, image)
    order = sorted(range(len(sprites)), key=lambda i: actors[i].depth)
    areas = np.bincount(_owners(sprites, order, n).ravel(), minlength=len(sprites) + 1)[1:]
    order = [i for i in order if actors[i].label < 0 or areas[i] >= max(MIN_PIXELS, MIN_SHARE * n * n)]
    owner = _owners(sprites, order, n)
    objects = [i for i in order if actors[i].label >= 0]
    number = np.zeros(len(sprites) + 1, np.int64)
    number[[i + 1 for i in objects]] = range(1, len(objects) + 1)

    part_map, stuff_map = np.zeros((n, n), np.int64), np.array(layout.stuff)[where] + 1
    for i in order:  # from back to front, each after its shadow
        sprite, reach = sprites[i], 0.07 * actors[i].pose.size * n
        there, here = _windows(sprite, n, round(reach), -round(reach * float(light[0]) * 1.5))
        image[:, *there] *= 1 - 0.42 * sprite.shadow[here]
        there, here = _windows(sprite, n)
        behind, visible = image[:, *there], owner[there] == i + 1
        behind += sprite.alpha[here] * (sprite.rgb[:, *here] - behind)
        if actors[i].label >= 0:
            part_map[there][visible] = sprite.parts[here][visible]
        else:
            stuff_map[there][visible] = -actors[i].label
    x, y = axes(n)
    image *= tone[:, None, None] * (1.06 - 0.28 * ((x - 0.5) ** 2 + (y - 0.5) ** 2))
    image += 0.025 * config.texture * noise(default_rng(layout.seeds[0]), n, 96, 96)
    pixels = from_numpy((np.clip(image, 0, 1) * 255 + 0.5).astype(np.uint8))
    labels = torch.tensor([actors[i].label for i in objects], dtype=torch.long)
    return Scene(pixels, from_numpy(number[owner]), from_numpy(part_map), from_numpy(stuff_map), labels, classes)
