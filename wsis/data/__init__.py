"""Data sets: the embedded world, COCO-format folders, and the transforms that move an image with its labels."""

from wsis.data.checks import near_object
from wsis.data.coco import CocoFolder, write_dataset
from wsis.data.coco_json import result_records, write_instances
from wsis.data.masks import box_pixels, paint_semantic
from wsis.data.transforms import Augment, collate, resize, short_side
from wsis.data.world import CLASSES, PARTS, STUFF, World, WorldConfig
from wsis.data.wrappers import Changed, InMemory, Labelled, Subset, category_ids

__all__ = ["near_object"]
__all__ += ["CocoFolder", "write_dataset"]
__all__ += ["result_records", "write_instances"]
__all__ += ["box_pixels", "paint_semantic"]
__all__ += ["Augment", "collate", "resize", "short_side"]
__all__ += ["CLASSES", "PARTS", "STUFF", "World", "WorldConfig"]
__all__ += ["Changed", "InMemory", "Labelled", "Subset", "category_ids"]
