"""How good masks, class maps and features are, in memory and on disk; every figure is a fraction in [0, 1]."""

from wsis.evaluation.features import auc
from wsis.evaluation.instances import coco_ap, cue_quality, intersection, label_quality, matches, voc_ap
from wsis.evaluation.objects import SIZES, iou_by_size, recall, separated
from wsis.evaluation.semantic import MeanIoU, grouped_iou, is_novel, pair_counts

__all__ = [
    "SIZES",
    "MeanIoU",
    "auc",
    "coco_ap",
    "cue_quality",
    "grouped_iou",
    "intersection",
    "iou_by_size",
    "is_novel",
    "label_quality",
    "matches",
    "pair_counts",
    "recall",
    "separated",
    "voc_ap",
]
