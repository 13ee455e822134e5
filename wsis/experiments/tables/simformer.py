"""The tables of SimFormer. Numbers and claims: the supplementary document; novel mIoU on the COCO-Stuff-10K test images.

At tiny scale the published splits are random ones of the world's classes, of about as many novel classes in proportion;
those of Table 3 contain each other, as the published do. The rows of RETAB are those of its own baseline.
"""

from typing import Any

from wsis.data.splits import WORLD_SPLIT
from wsis.experiments.table import Row, Table
from wsis.experiments.verdicts import Claim, Greater, Steeper, alike, order

METRICS = ("novel_mIoU", "base_mIoU", "mIoU", "harmonic_mIoU")
NOVEL = METRICS[0]
ONCE: dict[str, Any] = {"retrain.steps": 0}
"""Without the second network."""
SPLITS = {"S1": "random:0.25:1", "S2": "random:0.25:2", "S3": "random:0.25:3", "S4": WORLD_SPLIT}
SHARES = {"S4": 0.25, "S5": 0.3, "S6": 0.35, "S7": 0.4, "S8": 0.45, "S9": 0.5}
TINY_SHARES = SHARES | {"S7": 0.44, "S8": 0.5, "S9": 0.56}
"""So that each split of the world's 16 classes has one novel class more than the one before."""
ORACLE = {"masks": "all", **ONCE}


def _row(
    name: str,
    split: str,
    tiny_split: str,
    changes: dict[str, Any],
    published: float,
    tiny: dict[str, Any] | None = None,
) -> Row:
    return Row(
        name=f"{name}, {split}",
        changes={"split": split, **changes},
        tiny_changes={"split": tiny_split, **changes, **(tiny or {})},
        published={NOVEL: published},
    )


def _table(id: str, title: str, rows: list[Row], *claims: Claim) -> Table:
    return Table(
        id=f"simformer.{id}", method="simformer", title=title, metrics=METRICS, rows=tuple(rows), claims=claims
    )


def _grid(values: dict[str, tuple[dict[str, Any], tuple[float, ...]]]) -> list[Row]:
    """A row for each setting on each of the splits S1 to S4."""
    return [
        _row(name, split, tiny, ONCE | changes, number)
        for name, (changes, published) in values.items()
        for (split, tiny), number in zip(SPLITS.items(), published, strict=True)
    ]


POINTS = {50: (30.7, 25.6, 31.1, 29.2), 100: (31.1, 26.0, 31.5, 29.5), 150: (31.2, 26.3, 31.6, 29.6)}
TINY_POINTS = {50: 16, 100: 32, 150: 48}  # of maps with a fortieth of the cells
TABLE1 = _table(
    "table1",
    "pixels that are compared, of each image; at tiny scale 16, 32 and 48",
    [
        _row(f"{n} pixels", split, tiny, {"pairs.points": n, **ONCE}, number, {"pairs.points": TINY_POINTS[n]})
        for n, published in POINTS.items()
        for (split, tiny), number in zip(SPLITS.items(), published, strict=True)
    ],
    Claim(
        "C31",
        "50 to 150 pixels change novel mIoU by less than a point, and more are not worse",
        "<= .7",
        tuple(
            comparison
            for s in SPLITS
            for comparison in (
                *alike(NOVEL, [f"{n} pixels, {s}" for n in POINTS], 1.0),
                Greater(NOVEL, f"150 pixels, {s}", f"50 pixels, {s}", margin=0.1),
            )
        ),
    ),
)

MODES = {
    "basic": ({"pairs.mode": "basic"}, (27.0, 23.6, 29.1, 25.6)),
    "self-pair": ({"pairs.mode": "self_aug"}, (27.8, 24.3, 30.0, 26.6)),
    "cross-pair": ({}, POINTS[100]),
}
TABLE2 = _table(
    "table2",
    "no pairs of pixels, pairs within an image, pairs across two",
    _grid(MODES),
    Claim(
        "C32",
        "basic < self < cross on all four splits",
        "+.8, +3.3 on S1",
        tuple(c for s in SPLITS for c in order(NOVEL, *(f"{m}, {s}" for m in reversed(MODES)))),
    ),
    Claim(
        "C33",
        "from self to cross is more than from basic to self, on all four splits",
        "S1 3.3 against .8",
        tuple(Steeper(NOVEL, (f"basic, {s}", f"self-pair, {s}", f"cross-pair, {s}")) for s in SPLITS),
    ),
)

RATIOS = {
    "SimFormer": (ONCE, (29.5, 27.1, 26.3, 25.1, 23.9, 23.2)),
    "SimFormer*": ({}, (31.7, 28.3, 28.2, 25.9, 24.3, 24.0)),
    "FullyOracle": (ORACLE, (36.0, 35.1, 36.0, 36.0, 36.5, 34.7)),
}
TABLE3 = _table(
    "table3",
    "more and more novel classes; * is trained again on its own class maps",
    [
        _row(name, split, f"random:{TINY_SHARES[split]}:48", changes, number)
        for name, (changes, published) in RATIOS.items()
        for split, number in zip(SHARES, published, strict=True)
    ],
    Claim(
        "C34",
        "SimFormer < SimFormer* < FullyOracle on all six splits",
        "S4 29.5 31.7 36.0",
        tuple(c for s in SHARES for c in order(NOVEL, *(f"{m}, {s}" for m in reversed(RATIOS)))),
    ),
    Claim(
        "C35",
        "novel mIoU falls as the share of novel classes grows",
        "29.5 to 23.2",
        order(NOVEL, *(f"SimFormer, {s}" for s in SHARES)),
    ),
)

S4: dict[str, Any] = {"split": "S4", **ONCE}
SILENT: dict[str, Any] = {"pairs.similarity": 0.0, "pairs.distillation": 0.0}
PARTS = {
    "neither complement nor pairs": {"pairs.mode": "basic", "complement.weight": 0.0},
    "complement": {"pairs.mode": "basic"},
    "complement, each image twice": {"pairs.mode": "self_aug", **SILENT},
    "complement, images in pairs": SILENT,
    "complement, pairs": {},
    "complement, pairs of two base pixels": {"pairs.labelled": "both"},
}
PARTS_TABLE = _table(
    "parts",
    "what each part of the objective is good for, and SimNet that learns nothing about novel pixels",
    [
        Row(name=name, changes=S4 | changes, tiny_changes=S4 | {"split": WORLD_SPLIT} | changes)
        for name, changes in PARTS.items()
    ],
    Claim("C32c", "the complement helps", "-", order(NOVEL, "complement", "neither complement nor pairs")),
    Claim(
        "C32d",
        "pairs of pixels help beyond the order of images that they bring",
        "-",
        order(NOVEL, "complement, pairs", "complement, images in pairs"),
    ),
    Claim(
        "C32m",
        "SimNet of two base pixels > SimNet that sees novel ones in pairs of two classes",
        "-",
        order(NOVEL, "complement, pairs of two base pixels", "complement, pairs"),
    ),
)

TABLES = (TABLE1, TABLE2, TABLE3, PARTS_TABLE)
