"""Published data sets as folders that `CocoFolder` or `SemanticFolder` reads, converted once.

A split is whole or absent, and one that is there with the same images is left as it is. Images are hard links where the
disk allows it: what edits them in place edits the originals.
"""

from wsis.data.convert.semantic import convert_ade, convert_coco_stuff
from wsis.data.convert.voc import convert_voc

__all__ = ["convert_ade", "convert_coco_stuff", "convert_voc"]
