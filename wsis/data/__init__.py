"""Data sets: the embedded world, COCO-format folders and folders of class maps; what is read and written is checked here."""

from wsis.data.checks import near_object
from wsis.data.coco import CocoFolder, write_dataset
from wsis.data.images import ImageFolder
from wsis.data.masks import box_pixels, paint_semantic
from wsis.data.semantic import SemanticFolder, SemanticWorld, write_semantic
from wsis.data.transforms import Augment, collate, resize, short_side
from wsis.data.world import CLASSES, PARTS, STUFF, World, WorldConfig
from wsis.data.wrappers import Cached, Mapped, Subset, WithPseudoLabels
from wsis.data.write import result_records, write_instances

__all__ = ["near_object", "box_pixels", "paint_semantic", "result_records", "write_instances"]
__all__ += ["CocoFolder", "ImageFolder", "SemanticFolder", "SemanticWorld", "write_dataset", "write_semantic"]
__all__ += ["CLASSES", "PARTS", "STUFF", "World", "WorldConfig"]
__all__ += ["Augment", "collate", "resize", "short_side"]
__all__ += ["Cached", "Mapped", "Subset", "WithPseudoLabels"]
