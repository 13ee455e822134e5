"""The tables of AttentionShift and its figure with numbers. Numbers and claims: the supplementary document.

mIoU is that of the pseudo masks of the training images, box_IoU that of the boxes around them. Claims whose id ends in `m`
are ours: the same order of mIoU, which is measured one step earlier and varies less by chance.
"""

from wsis.experiments.table import BUT_SMALL, table
from wsis.experiments.verdicts import Claim, greater, order
from wsis.methods.attentionshift.config import BASELINE

THREE = ("mAP25", "mAP50", "mAP75")
ON_MASKS = {"mask.supervision": "mask"}

ORDER = ("AttentionShift", "K-Means*", "K-Means")
TABLE1 = table(
    "attentionshift.table1",
    "how parts are found: K-Means, K-Means with the key-point filter, the key-point shift",
    (*THREE, "mIoU"),
    {
        "K-Means": ({"parts.shift": "kmeans", "parts.filter": False}, (67.4, 47.6, 16.1)),
        "K-Means*": ({"parts.shift": "kmeans"}, (65.8, 48.3, 18.1)),
        "AttentionShift": ({}, (66.7, 53.2, 24.3)),
    },
    Claim("C01", "mAP75: AttentionShift > K-Means* > K-Means", "+6.2, +2.0", order("mAP75", *ORDER)),
    Claim("C02", "mAP50: AttentionShift > K-Means* > K-Means", "+4.9, +0.7", order("mAP50", *ORDER)),
    Claim("C03", "mAP25: K-Means >= AttentionShift", "+0.7", order("mAP25", "K-Means", "AttentionShift")),
)

KINDS = ("point", "mask")  # of the mask head, the better first
BOTH = tuple(greater("mAP50", f"AttentionShift, {s}", f"baseline, {s}") for s in KINDS[::-1])
MASKS = order("mIoU", "AttentionShift, point", "baseline, point")
TABLE2 = table(
    "attentionshift.table2",
    "baseline and AttentionShift, the mask head supervised by masks or by points",
    ("mAP25", "mAP50", "mIoU", "box_IoU"),
    {
        "baseline, mask": (BASELINE | ON_MASKS, (None, 37.0)),
        "AttentionShift, mask": (ON_MASKS, (None, 45.5)),
        "baseline, point": (BASELINE, (None, 38.0)),
        "AttentionShift, point": ({}, (None, 53.2)),
    },
    Claim("C04", "baseline: point > mask", "+1.0", order("mAP50", *(f"baseline, {s}" for s in KINDS))),
    Claim("C05", "AttentionShift: point > mask", "+7.7", order("mAP50", *(f"AttentionShift, {s}" for s in KINDS))),
    Claim("C06", "AttentionShift > baseline, for mask and for point", "+8.5, +15.2", BOTH),
    Claim("C06m", "AttentionShift > baseline (pseudo masks)", "-", MASKS),
)

POINTS = {"supervision": "points"}
VIT_S = POINTS | {"backbone": "vit_small", "weights": "deit"}
TINY_VIT = POINTS | {"backbone": "vit_hybrid", "weights": "points"}
ON_VIT = order("mAP50", "AttentionShift ViT-S", "BESTIE ViT-S")
TABLE3 = table(
    "attentionshift.table3",
    "against BESTIE with points, on a convolutional backbone and on a transformer",
    THREE,
    {
        "BESTIE HRNet-48": (POINTS, (66.4, 56.1, 30.2), None, "bestie"),
        "BESTIE ViT-S": (VIT_S, (47.1, 36.2, 17.3), TINY_VIT, "bestie"),
        "AttentionShift ViT-S": ({}, (68.3, 54.4, 25.4)),
    },
    Claim("C07", "AttentionShift ViT-S > BESTIE ViT-S", "+18.2 mAP50", ON_VIT),
    Claim("C08", "BESTIE HRNet-48 > BESTIE ViT-S", "+19.9 mAP50", order("mAP50", "BESTIE HRNet-48", "BESTIE ViT-S")),
    scales=BUT_SMALL,  # where BESTIE has no transformer
)

EARLY = greater("intra_class_early", "baseline", "AttentionShift")
AT_THE_END = greater("intra_class_end", "AttentionShift", "baseline", margin=1.0)
FALLING = ("baseline", "AttentionShift")
LOWER = "similarity lower than the baseline's"
LATER = "similarity lower early, about equal (within a point) or higher at the end"
FIG1 = table(
    "attentionshift.fig1",
    "the similarity of features during training: object and background, objects of two classes, of one class",
    ("foreground_background", "inter_class", "intra_class_early", "intra_class_end"),
    {"baseline": BASELINE, "AttentionShift": {}},
    Claim("C09", f"foreground-background {LOWER} through training", "curve", order("foreground_background", *FALLING)),
    Claim("C10", f"inter-class {LOWER}", "curve", order("inter_class", *FALLING)),
    Claim("C11", f"intra-class {LATER}", "curve", (EARLY, AT_THE_END)),
)

# Ours: what labels can bring. The detector of the upper row learns from true boxes and masks, with the same network and steps.
PAIR = ("AttentionShift", "baseline")
BOUNDS = table(
    "attentionshift.bounds",
    "pseudo masks, masks within true boxes and detections between a trivial and an upper bound (ours)",
    ("mAP25", "mAP50", "mIoU_in_boxes", "mIoU", "box_IoU"),
    {"baseline": BASELINE, "AttentionShift": {}, "true masks": {"oracle": "masks"} | ON_MASKS},
    Claim("ours4.1", "AttentionShift > baseline", "-", order("mAP50", *PAIR)),
    Claim("ours4.2", "AttentionShift > baseline (pseudo masks)", "-", order("mIoU", *PAIR)),
    Claim("ours4.3", "AttentionShift > baseline (in true boxes)", "-", order("mIoU_in_boxes", *PAIR)),
    upper="true masks",
)

# Ours: what parts bring where no box is wrong, so that nothing but the parts decides where the key-points lie.
TRUE_BOXES = {"oracle": "boxes"}
PARTS = table(
    "attentionshift.parts",
    "how parts are found within true boxes (ours)",
    ("key_points_on_object", "mIoU", "mIoU_in_boxes"),
    {
        "no parts": TRUE_BOXES | {"parts.shift": "none", "tokens.feedback": False},
        "K-Means": TRUE_BOXES | {"parts.shift": "kmeans", "parts.filter": False},
        "K-Means*": TRUE_BOXES | {"parts.shift": "kmeans"},
        "AttentionShift": TRUE_BOXES,
        "true masks": {"oracle": "masks"} | ON_MASKS,
    },
    Claim("ours4.4", "AttentionShift > K-Means* > K-Means (key-points)", "-", order("key_points_on_object", *ORDER)),
    Claim("ours4.5", "AttentionShift > no parts", "-", order("mIoU_in_boxes", "AttentionShift", "no parts")),
    upper="true masks",
)

TABLES = (TABLE1, TABLE2, TABLE3, FIG1, BOUNDS, PARTS)
