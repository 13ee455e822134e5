"""The embedded world: picture-book scenes with exact masks, drawn on demand, the same for everyone.

A scene is planned in fractions of the image and then rendered at `WorldConfig.size`; it depends on the seed, the split
and its index alone. `plan` decides, `drawings` and `shapes` draw objects as parts, `ground` paints what they stand on,
`sprites` turns drawings into lit pixels, and `scene` puts all together.
"""

import torch
from numpy.random import default_rng

from wsis.core.errors import ConfigError
from wsis.core.types import Instances, Sample
from wsis.data.masks import tags_from_labels
from wsis.data.world.drawings import CLASSES
from wsis.data.world.ground import STUFF
from wsis.data.world.plan import WorldConfig, plan_scene
from wsis.data.world.scene import Scene, draw
from wsis.data.world.shapes import PARTS

__all__ = ["CLASSES", "PARTS", "SPLITS", "STUFF", "Scene", "World", "WorldConfig"]

SPLITS = ("train", "val", "test")
_IDS_PER_SPLIT = 10_000_000


class World:
    """A data set of scenes; any order of access gives the same scenes, and splits share none.

    Raises ConfigError if the split is not train, val or test, or if the length or the seed is negative.
    """

    def __init__(self, split: str = "train", length: int = 2000, seed: int = 0, config: WorldConfig | None = None):
        if split not in SPLITS:
            raise ConfigError(f"split={split!r}: choose one of {', '.join(SPLITS)}")
        if not 0 <= length <= _IDS_PER_SPLIT or seed < 0:
            raise ConfigError(f"length={length}, seed={seed}: neither may be negative, length at most {_IDS_PER_SPLIT}")
        self.split, self.length, self.seed = split, length, seed
        self.config = config or WorldConfig()
        self.classes = self.config.classes or CLASSES
        self.category_ids = tuple(range(1, len(self.classes) + 1))

    def __len__(self) -> int:
        return self.length

    def scene(self, index: int) -> Scene:
        """Draw scene `index` with its maps; an IndexError says that it lies beyond the length."""
        if not 0 <= index < self.length:
            raise IndexError(f"scene {index} of a world of {self.length} scenes")
        rng = default_rng((self.seed, SPLITS.index(self.split), index))
        return draw(plan_scene(rng, self.config, self.classes), self.config, self.classes)

    def __getitem__(self, index: int) -> Sample:
        scene, name = self.scene(index), f"{self.split}_{index:06d}.png"
        tags = tags_from_labels(scene.labels, len(self.classes))
        image_id = SPLITS.index(self.split) * _IDS_PER_SPLIT + index + 1
        ids = 1000 * image_id + torch.arange(1, len(scene.labels) + 1)  # an image has far fewer objects
        known = {"truth": Instances.make(scene.masks, scene.labels, ids=ids), "true_semantic": scene.object_class_map}
        return Sample(image=scene.image, image_id=image_id, file_name=name, tags=tags, **known)
