"""The tables of AttentionShift and its figure with numbers. Numbers and claims: the supplementary document.

mIoU is that of the pseudo masks of the training images, box_IoU that of the boxes that they lie in; claims whose id ends in
`m` are on mIoU (ours: the same order, one step earlier, with less chance in it).
"""

from typing import Any

from wsis.experiments.table import Row, Table
from wsis.experiments.verdicts import Claim, Greater, order

THREE = ("mAP25", "mAP50", "mAP75")
RAW: dict[str, Any] = {"refine.enabled": False, "parts.shift": "none", "tokens.feedback": False}
"""The baseline of Table 2: boxes, points and masks from the raw attention."""
ON_MASKS = {"mask.supervision": "mask"}


def _table(id: str, title: str, metrics: tuple[str, ...], rows: tuple[Row, ...], *claims: Claim) -> Table:
    return Table(
        id=f"attentionshift.{id}", method="attentionshift", title=title, metrics=metrics, rows=rows, claims=claims
    )


def _row(name: str, changes: dict[str, Any], published: tuple[float, ...] = (), **values: Any) -> Row:
    return Row(name=name, changes=changes, published=dict(zip(THREE, published, strict=False)), **values)


ORDER = ("AttentionShift", "K-Means*", "K-Means")
TABLE1 = _table(
    "table1",
    "how parts are found: K-Means, K-Means with the key-point filter, the key-point shift",
    (*THREE, "mIoU"),
    (
        _row("K-Means", {"parts.shift": "kmeans", "parts.filter": False}, (67.4, 47.6, 16.1)),
        _row("K-Means*", {"parts.shift": "kmeans"}, (65.8, 48.3, 18.1)),
        _row("AttentionShift", {}, (66.7, 53.2, 24.3)),
    ),
    Claim("C01", "mAP75: AttentionShift > K-Means* > K-Means", "+6.2, +2.0", order("mAP75", *ORDER)),
    Claim("C02", "mAP50: AttentionShift > K-Means* > K-Means", "+4.9, +0.7", order("mAP50", *ORDER)),
    Claim("C03", "mAP25: K-Means >= AttentionShift", "+0.7", order("mAP25", "K-Means", "AttentionShift")),
)

TABLE2 = _table(
    "table2",
    "baseline and AttentionShift, the mask head taught by masks or by points",
    ("mAP25", "mAP50", "mIoU", "box_IoU"),
    (
        Row(name="baseline, mask", changes=RAW | ON_MASKS, published={"mAP50": 37.0}),
        Row(name="AttentionShift, mask", changes=ON_MASKS, published={"mAP50": 45.5}),
        Row(name="baseline, point", changes=RAW, published={"mAP50": 38.0}),
        Row(name="AttentionShift, point", published={"mAP50": 53.2}),
    ),
    Claim("C04", "baseline: point > mask", "+1.0", order("mAP50", "baseline, point", "baseline, mask")),
    Claim(
        "C05", "AttentionShift: point > mask", "+7.7", order("mAP50", "AttentionShift, point", "AttentionShift, mask")
    ),
    Claim(
        "C06",
        "AttentionShift > baseline, for mask and for point",
        "+8.5, +15.2",
        tuple(Greater("mAP50", f"AttentionShift, {s}", f"baseline, {s}") for s in ("mask", "point")),
    ),
    Claim(
        "C06m",
        "AttentionShift > baseline (pseudo masks)",
        "-",
        order("mIoU", "AttentionShift, point", "baseline, point"),
    ),
)

TABLE3 = _table(
    "table3",
    "against BESTIE with points, on a convolutional trunk and on a transformer",
    THREE,
    (
        _row("BESTIE HRNet-48", {"supervision": "points"}, (66.4, 56.1, 30.2), method="bestie"),
        _row(
            "BESTIE ViT-S",
            {"supervision": "points", "backbone": "vit_small", "weights": "deit"},
            (47.1, 36.2, 17.3),
            tiny_changes={"supervision": "points", "backbone": "vit_hybrid", "weights": "points"},
            method="bestie",
        ),
        _row("AttentionShift ViT-S", {}, (68.3, 54.4, 25.4)),
    ),
    Claim(
        "C07",
        "AttentionShift ViT-S > BESTIE ViT-S",
        "+18.2 mAP50",
        order("mAP50", "AttentionShift ViT-S", "BESTIE ViT-S"),
    ),
    Claim("C08", "BESTIE HRNet-48 > BESTIE ViT-S", "+19.9 mAP50", order("mAP50", "BESTIE HRNet-48", "BESTIE ViT-S")),
)

CURVES = ("foreground_background", "inter_class", "intra_class_early", "intra_class_end")
FIG1 = _table(
    "fig1",
    "how alike features are during training: object and background, objects of two classes, of one class",
    CURVES,
    (Row(name="baseline", changes=RAW), Row(name="AttentionShift")),
    Claim(
        "C09",
        "foreground-background similarity lower than the baseline's through training",
        "curve",
        order("foreground_background", "baseline", "AttentionShift"),
    ),
    Claim(
        "C10",
        "inter-class similarity lower than the baseline's",
        "curve",
        order("inter_class", "baseline", "AttentionShift"),
    ),
    Claim(
        "C11",
        "intra-class similarity lower early, about equal (within a point) or higher at the end",
        "curve",
        (
            Greater("intra_class_early", "baseline", "AttentionShift"),
            Greater("intra_class_end", "AttentionShift", "baseline", margin=1.0),
        ),
    ),
)

TABLES = (TABLE1, TABLE2, TABLE3, FIG1)
