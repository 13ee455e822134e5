"""The tables of EXITS and its figures with numbers. Numbers and claims: the supplementary document.

AP is that of the final model on the validation images, and mIoU that of the pseudo masks which it learned from. Claims whose
id ends in `m` are ours: the same order of mIoU, which is measured one step earlier and varies less by chance.
"""

from typing import Any

from wsis.experiments import costs
from wsis.experiments.table import BUT_SMALL, Rows, Table, table
from wsis.experiments.verdicts import Claim, greater

METRICS = ("AP", "AP50", "AP75", "mIoU")
VOC = {"seeds.push": 12.0, "loss.point": 0.05, "final.segmenter": "solov2", "final.backbone": "resnet50"}
"""Tables a1-a4 and Fig. a1 are on VOC 2012 with SOLOv2; at tiny scale every row has the segmenter of the preset."""


def on_voc(id: str, title: str, rows: Rows, *claims: Claim, **values: Any) -> Table:
    """A table on VOC, see `table`; at tiny scale a row has its third entry, or else its changes, without `VOC`."""
    full = {}
    for name, row in rows.items():
        changes, numbers, *tiny = row if isinstance(row, tuple) else (row, ())
        full[name] = VOC | changes, numbers, *(tiny or [changes])
    return table(f"exits.{id}", title, METRICS, full, *claims, **values)


def claims(id: str, text: str, published: str, *pairs: tuple[str, str]) -> tuple[Claim, Claim]:
    """The first row of each pair above the second: the claim on AP, and ours on the pseudo masks."""
    ap, masks = (tuple(greater(metric, a, b) for a, b in pairs) for metric in ("AP", "mIoU"))
    return Claim(id, text, published, ap), Claim(f"{id}m", f"{text} (pseudo masks)", "-", masks)


TABLE_A1 = on_voc(
    "table_a1",
    "the layer whose attention is the similarity",
    {
        "all layers": ({"extractor.layer": 0}, (39.5, 66.7, 40.4)),
        "layer 8": ({"extractor.layer": 8}, (39.6, 66.8, 41.5)),
        "layer 10": ({}, (40.4, 67.4, 41.4)),
        "layer 12": ({"extractor.layer": 12}, (40.4, 66.8, 41.8)),
    },
    *claims("C21", "10 >= 8, 10 > all", "+.8, +.9 AP", ("layer 10", "layer 8"), ("layer 10", "all layers")),
    scales=BUT_SMALL,  # whose frozen convolutions have no layer to choose, no warm-up, and one kind of weights
)

FAR_ABOVE = (("3 hops", "4 hops"), ("3 hops", "limit"), ("4 hops", "1 hop"), ("limit", "1 hop"))
TABLE_A2 = on_voc(
    "table_a2",
    "hops of the walk",
    {
        "1 hop": ({"walk.hops": 1}, (34.0, 63.0, 32.4)),
        "2 hops": ({"walk.hops": 2}, (36.1, 64.3, 35.0)),
        "3 hops": ({}, (40.4, 67.4, 41.4)),
        "4 hops": ({"walk.hops": 4}, (39.8, 66.4, 40.0)),
        "limit": ({"walk.limit": True}, (39.6, 66.3, 40.1)),
    },
    *claims("C22", "3 > 2 > 1", "+4.3, +2.1 AP", ("3 hops", "2 hops"), ("2 hops", "1 hop")),
    *claims("C23", "3 >= 4 and 3 >= limit, both far above 1", "+.6, +.8 AP", *FAR_ABOVE),
)

TABLE_A3 = on_voc(
    "table_a3",
    "epochs of the extractor's warm-up, with the objective of the preset",
    {
        "0 epochs": ({"warmup.steps": 0}, (36.0,)),
        "4 epochs": ({"warmup.steps": 59_000}, (37.0,), {"warmup.steps": 50}),
        "8 epochs": ({}, (37.3,)),
    },
    *claims("C24", "8 >= 4 > 0 epochs", "+.3, +1.0 AP", ("8 epochs", "4 epochs"), ("4 epochs", "0 epochs")),
    scales=BUT_SMALL,
)

DEIT, DINO = "supervised (DeiT)", "self-distilled (DINO)"
TABLE_A4 = on_voc(
    "table_a4",
    "what the extractor was pretrained for (at tiny scale scenes and steps differ too, see the decisions)",
    {
        "MAE": ({}, (37.3, 64.4, 37.8)),
        DEIT: ({"extractor.weights": "deit"}, (35.8, 62.4, 35.9), {"extractor.weights": "supervised"}),
        DINO: ({"extractor.weights": "dino"}, (34.7, 62.0, 33.9)),
    },
    *claims("C25", "MAE > DeiT > DINO", "+1.5 AP", ("MAE", DEIT), (DEIT, DINO)),
    scales=BUT_SMALL,
)

# Hours and millions; both methods have the convolutional stem that the published parameters imply.
MAL = {"supervision": "boxes", "loss.mil": 4.0}
TIMED = {"generator.stem": "conv", **{f"{part}.weights": "random" for part in ("extractor", "generator", "final")}}
_, STAGE, FINAL = costs.STAGES.values()
CHEAP = (
    costs.at_most(22.0, "warm-up and stage 1", (STAGE,)),
    costs.at_most(6.0, "all stages", (STAGE, FINAL), hours=costs.MAKING_MASKS),
)
TABLE_A5 = table(
    "exits.table_a5",
    "time and parameters of the stages, rehearsed on random numbers",
    costs.METRICS,
    {"MAL": (TIMED | MAL, (None, 23.0, 71.0, None, 93.0, 69.0)), "EXITS": (TIMED, (2.0, 26.0, 71.0, 86.0, 93.0, 69.0))},
    Claim("C26", "stage 1 costs at most 22 % more than MAL, the whole at most 6 %", "28/23 h, 100/95 h", CHEAP),
    Claim("C27", "parameter counts 86M, 93M, 69M", "exact", (costs.rounded("EXITS", (86, 93, 69)),), ("full",)),
    factor=1.0,
    measure=costs.measure,
)

BASELINE = on_voc(
    "baseline",
    "boxes, or four extreme points (ours): the pseudo masks and what a segmenter learns from them",
    {"MAL": MAL, "EXITS": {}, "true masks": {"final.masks": "truth"}},
    *claims("ours1", "extreme points beat boxes", "-", ("EXITS", "MAL")),
    upper="true masks",
)

# Factors of the values in the preset.
WEIGHTS = {
    **{f"lambda_point x {f:g}": ({"loss.point": f * 0.05}, (), {"loss.point": f * 0.5}) for f in (0.1, 5.0)},
    **{f"lambda_crf x {f:g}": {"loss.crf": f * 0.5} for f in (0.2, 2.0)},
}
TAUS = {f"tau_{kind} x {f:g}": {f"walk.{kind.lower()}_factor": f} for kind in ("FG", "BG") for f in (0.5, 2.0)}
FIG_A1 = on_voc(
    "fig_a1",
    "thresholds and weights about the preset's, with the line of MAL; the published axes have no numbers",
    {"MAL": MAL, "EXITS": {}, **TAUS, **WEIGHTS},
    *claims("C28", "every lambda_point and lambda_crf beats MAL", "curve", *((n, "MAL") for n in ("EXITS", *WEIGHTS))),
)

TABLES = (TABLE_A1, TABLE_A2, TABLE_A3, TABLE_A4, TABLE_A5, FIG_A1, BASELINE)
