"""Published data sets converted, once, to the formats that the folders of `wsis.data` read."""

from wsis.data.convert.semantic import convert_ade, convert_coco_stuff
from wsis.data.convert.voc import convert_voc

__all__ = ["convert_ade", "convert_coco_stuff", "convert_voc"]
