"""How good masks, class maps and features are, in memory and on disk; fractions in [0, 1] unless a function says otherwise."""

from wsis.evaluation.features import FeatureSimilarity, auc, linear_probe, pair_auc
from wsis.evaluation.instances import (
    SIZES,
    coco_ap,
    cue_quality,
    iou_by_size,
    label_quality,
    matches,
    quality_by_image,
    recall,
    separated,
    voc_ap,
)
from wsis.evaluation.semantic import MeanIoU, grouped_iou, is_novel, pair_counts, proposal_recall, region_coverage

__all__ = ["SIZES", "FeatureSimilarity", "MeanIoU", "auc", "coco_ap", "cue_quality", "grouped_iou"]
__all__ += ["iou_by_size", "is_novel", "label_quality", "linear_probe", "matches", "pair_auc"]
__all__ += ["pair_counts", "proposal_recall", "quality_by_image", "recall", "region_coverage", "separated", "voc_ap"]
