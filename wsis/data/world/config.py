"""The knobs of the embedded world."""

from dataclasses import dataclass

from wsis.core.config import ours
from wsis.core.errors import ConfigError
from wsis.data.world.drawings import CLASSES


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
