"""How good masks, class maps and features are, in memory and on disk; fractions in [0, 1] unless a function says otherwise."""

from wsis.evaluation.coco import coco_ap
from wsis.evaluation.features import FeatureSimilarity, auc, linear_probe, pair_auc
from wsis.evaluation.instances import (
    SIZES,
    cue_quality,
    intersection,
    iou_by_size,
    label_quality,
    matches,
    quality_by_image,
    recall,
    separated,
    voc_ap,
)
from wsis.evaluation.semantic import MeanIoU, grouped_iou, is_novel, pair_counts

__all__ = ["SIZES", "FeatureSimilarity", "MeanIoU", "auc", "coco_ap", "cue_quality", "grouped_iou", "intersection"]
__all__ += ["iou_by_size", "is_novel", "label_quality", "matches", "pair_counts", "recall", "separated", "voc_ap"]
__all__ += ["linear_probe", "pair_auc", "quality_by_image"]
