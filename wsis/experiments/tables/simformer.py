"""The tables of SimFormer. Numbers and claims: the supplementary document; novel mIoU on the COCO-Stuff-10K test images.

At tiny scale the splits are random ones of the world's classes, with about the same share of novel classes; those of Table 3
contain each other, as the published do.
"""

from collections.abc import Callable, Iterable
from typing import Any

from wsis.data.splits import WORLD_SPLIT
from wsis.experiments.table import Settings, table
from wsis.experiments.verdicts import Claim, Comparison, greater, order, similar, steeper

Rows = dict[str, tuple[Any, ...]]
METRICS = ("novel_mIoU", "base_mIoU", "mIoU", "harmonic_mIoU")
NOVEL = METRICS[0]
ONCE: Settings = {"final.steps": 0}
"""Without the second network."""
BASIC, SELF, ORACLE = {**ONCE, "pairs.mode": "basic"}, {**ONCE, "pairs.mode": "self"}, {"masks": "all", **ONCE}
SPLITS = {"S1": "random:0.25:1", "S2": "random:0.25:2", "S3": "random:0.25:3", "S4": WORLD_SPLIT}
SHARES = {"S4": 0.25, "S5": 0.3, "S6": 0.35, "S7": 0.4, "S8": 0.45, "S9": 0.5}
TINY_SHARES = SHARES | {"S7": 0.44, "S8": 0.5, "S9": 0.56}
"""With these each split of the world's 16 classes has one novel class more than the one before."""
NESTED = {split: f"random:{share}:48" for split, share in TINY_SHARES.items()}


def rows(name: str, splits: dict[str, str], numbers: tuple[float, ...], changes: Settings, **tiny: int) -> Rows:
    """A row for each split; splits: the one of the world in its place at tiny scale."""
    return {
        f"{name}, {split}": ({"split": split, **changes}, (number,), {"split": small, **changes, **tiny})
        for (split, small), number in zip(splits.items(), numbers, strict=True)
    }


def on_all(splits: Iterable[str], compare: Callable[[str], tuple[Comparison, ...]]) -> tuple[Comparison, ...]:
    """The comparisons on every split."""
    return tuple(comparison for split in splits for comparison in compare(split))


def hardly_matters(s: str) -> tuple[Comparison, ...]:
    not_worse = greater(NOVEL, f"150 pixels, {s}", f"50 pixels, {s}", 0.1)
    return *similar(NOVEL, [f"{n} pixels, {s}" for n in POINTS], 1.0), not_worse


POINTS = {50: (30.7, 25.6, 31.1, 29.2), 100: (31.1, 26.0, 31.5, 29.5), 150: (31.2, 26.3, 31.6, 29.6)}
TINY_POINTS = {50: 16, 100: 32, 150: 48}  # of maps with a fortieth of the cells
PIXELS: Rows = {}
for n, numbers in POINTS.items():
    PIXELS |= rows(f"{n} pixels", SPLITS, numbers, {"pairs.points": n, **ONCE}, **{"pairs.points": TINY_POINTS[n]})
LITTLE = "50 to 150 pixels change novel mIoU by less than a point, and more are not worse"
TABLE1 = table(
    "simformer.table1",
    "pixels that are compared, of each image; at tiny scale 16, 32 and 48",
    METRICS,
    PIXELS,
    Claim("C31", LITTLE, "<= .7", on_all(SPLITS, hardly_matters)),
)

ORDERED = on_all(SPLITS, lambda s: order(NOVEL, f"cross-pair, {s}", f"self-pair, {s}", f"basic, {s}"))
STEEPER = on_all(SPLITS, lambda s: (steeper(NOVEL, f"basic, {s}", f"self-pair, {s}", f"cross-pair, {s}"),))
MOST = "from self to cross is more than from basic to self, on all four splits"
TABLE2 = table(
    "simformer.table2",
    "no pairs of pixels, pairs within an image, pairs across two",
    METRICS,
    rows("basic", SPLITS, (27.0, 23.6, 29.1, 25.6), BASIC)
    | rows("self-pair", SPLITS, (27.8, 24.3, 30.0, 26.6), SELF)
    | rows("cross-pair", SPLITS, POINTS[100], ONCE),
    Claim("C32", "basic < self < cross on all four splits", "+.8, +3.3 on S1", ORDERED),
    Claim("C33", MOST, "S1 3.3 against .8", STEEPER),
)

RETRAINED = on_all(SHARES, lambda s: order(NOVEL, f"FullyOracle, {s}", f"SimFormer*, {s}", f"SimFormer, {s}"))
FALLING = order(NOVEL, *(f"SimFormer, {s}" for s in SHARES))
BEHIND = on_all(SHARES, lambda s: order(NOVEL, f"SimFormer, {s}", f"RETAB*, {s}"))
RETAB = {"pseudo.source": "retab"}
TABLE3 = table(
    "simformer.table3",
    "more and more novel classes; * is trained again on its own class maps",
    METRICS,
    rows("RETAB*", NESTED, (25.6, 23.0, 22.5, 21.5, 19.9, 19.8), RETAB)
    | rows("SimFormer", NESTED, (29.5, 27.1, 26.3, 25.1, 23.9, 23.2), ONCE)
    | rows("SimFormer*", NESTED, (31.7, 28.3, 28.2, 25.9, 24.3, 24.0), {})
    | rows("FullyOracle", NESTED, (36.0, 35.1, 36.0, 36.0, 36.5, 34.7), ORACLE),
    Claim("C34", "SimFormer < SimFormer* < FullyOracle on all six splits", "S4 29.5 31.7 36.0", RETRAINED),
    Claim("C34r", "RETAB* < SimFormer on all six splits", "S4 25.6 29.5", BEHIND),
    Claim("C35", "novel mIoU falls as the share of novel classes grows", "29.5 to 23.2", FALLING),
)

FIG1 = table(
    "simformer.fig1",
    "the class maps of the rivals: trained again on those of RIB, RETAB and SimFormer",
    METRICS,
    {
        name: ({"split": "S4", **changes}, (), {"split": WORLD_SPLIT, **changes})
        for name, changes in {"RIB*": {"pseudo.source": "rib"}, "RETAB*": RETAB, "SimFormer*": {}}.items()
    },
    Claim(
        "fig1.1",
        "RIB*, RETAB* < SimFormer*",
        "-",
        order(NOVEL, "SimFormer*", "RIB*") + order(NOVEL, "SimFormer*", "RETAB*"),
    ),
)

SILENT = {"loss.similarity": 0.0, "loss.distillation": 0.0}
PARTS: dict[str, Settings] = {
    "neither complement nor pairs": {"pairs.mode": "basic", "loss.complement": 0.0},
    "complement": {"pairs.mode": "basic"},
    "complement, each image twice": {"pairs.mode": "self", **SILENT},
    "complement, images in pairs": SILENT,
    "complement, pairs": {},
    "complement, pairs of two base pixels": {"pairs.labeled": "both"},
}
PAIRS_HELP = order(NOVEL, "complement, pairs", "complement, images in pairs")
BASE_PIXELS = "SimNet of two base pixels > SimNet that sees novel ones in pairs of two classes"
BASE_PIXELS_HELP = order(NOVEL, "complement, pairs of two base pixels", "complement, pairs")
PARTS_TABLE = table(
    "simformer.parts",
    "what each part of the objective is good for, and SimNet that learns nothing about novel pixels",
    METRICS,
    {n: ({"split": "S4", **ONCE, **c}, (), {"split": WORLD_SPLIT, **ONCE, **c}) for n, c in PARTS.items()},
    Claim("C32c", "the complement helps", "-", order(NOVEL, "complement", "neither complement nor pairs")),
    Claim("C32d", "pairs of pixels help beyond the order of images that they bring", "-", PAIRS_HELP),
    Claim("C32m", BASE_PIXELS, "-", BASE_PIXELS_HELP),
)

PHOTOGRAPHS = table(
    "simformer.photographs",
    "the steps of tables 2 and 3 on the split of the preset (ours), which any photographs have",
    METRICS,
    {"basic": BASIC, "self-pair": SELF, "cross-pair": ONCE, "SimFormer*": {}, "FullyOracle": ORACLE},
    Claim("C32p", "basic < self < cross", "S1 +.8, +3.3", order(NOVEL, "cross-pair", "self-pair", "basic")),
    Claim("C34p", "SimFormer < SimFormer*", "S4 29.5 31.7", order(NOVEL, "SimFormer*", "cross-pair")),
    upper="FullyOracle",
)

RECALLS = ("novel_recall50", "novel_recall75", "base_recall50", "base_recall75")
ALONE = {**BASIC, "loss.complement": 0.0}
MAKES = "the complement makes proposals of novel classes"
TRANSFER = table(
    "simformer.transfer",
    "which regions of base and of novel classes any proposal covers (ours); trivial is the whole image",
    RECALLS,
    {"base masks alone": ALONE, "complement": BASIC, "complement, pairs": ONCE, "FullyOracle": ORACLE},
    Claim("C32t", MAKES, "-", order(RECALLS[0], "complement", "base masks alone")),
    upper="FullyOracle",
)

TABLES = (TABLE1, TABLE2, TABLE3, FIG1, PARTS_TABLE, PHOTOGRAPHS, TRANSFER)
