"""The tables of EXITS and its figures with numbers. Numbers and claims: the supplementary document.

AP is that of the final model on the validation images; mIoU that of the pseudo masks which it learned from, under
claims whose id ends in `m` (ours: the same order, one step earlier, with less chance in it).
"""

from typing import Any

from wsis.experiments.table import Row, Table
from wsis.experiments.verdicts import Claim, Greater

METRICS: tuple[str, ...] = ("AP", "AP50", "AP75", "mIoU")
VOC = {"seeds.push": 12.0, "loss.point": 0.05, "final.segmenter": "solov2", "final.backbone": "resnet50"}
"""Tables a1-a4 and Fig. a1 are on VOC 2012 with SOLOv2; at tiny scale every row has the preset's segmenter."""


def _row(
    name: str, changes: dict[str, Any], published: tuple[float, ...] = (), tiny: dict[str, Any] | None = None
) -> Row:
    numbers = dict(zip(METRICS, published, strict=False))
    return Row(name=name, changes=VOC | changes, published=numbers, tiny_changes=changes if tiny is None else tiny)


def _claims(id: str, text: str, published: str, *pairs: tuple[str, str]) -> tuple[Claim, Claim]:
    """One claim on AP, and ours on the pseudo masks."""

    def on(metric: str) -> tuple[Greater, ...]:
        return tuple(Greater(metric, a, b) for a, b in pairs)

    return Claim(id, text, published, on("AP")), Claim(f"{id}m", f"{text} (pseudo masks)", "-", on("mIoU"))


def _exits(id: str, title: str, rows: tuple[Row, ...], *claims: Claim) -> Table:
    return Table(id=f"exits.{id}", method="exits", title=title, metrics=METRICS, rows=rows, claims=claims)


TABLE_A1 = _exits(
    "table_a1",
    "the layer whose attention is the similarity",
    (
        _row("all layers", {"extractor.layer": 0}, (39.5, 66.7, 40.4)),
        _row("layer 8", {"extractor.layer": 8}, (39.6, 66.8, 41.5)),
        _row("layer 10", {}, (40.4, 67.4, 41.4)),
        _row("layer 12", {"extractor.layer": 12}, (40.4, 66.8, 41.8)),
    ),
    *_claims("C21", "10 >= 8, 10 > all", "+.8, +.9 AP", ("layer 10", "layer 8"), ("layer 10", "all layers")),
)

HOPS = {1: (34.0, 63.0, 32.4), 2: (36.1, 64.3, 35.0), 3: (40.4, 67.4, 41.4), 4: (39.8, 66.4, 40.0)}
TABLE_A2 = _exits(
    "table_a2",
    "hops of the walk",
    (
        *(_row(f"{k} hop{'s' * (k > 1)}", {} if k == 3 else {"walk.hops": k}, v) for k, v in HOPS.items()),
        _row("limit", {"walk.limit": True}, (39.6, 66.3, 40.1)),
    ),
    *_claims("C22", "3 > 2 > 1", "+4.3, +2.1 AP", ("3 hops", "2 hops"), ("2 hops", "1 hop")),
    *_claims(
        "C23",
        "3 >= 4 and 3 >= limit, both far above 1",
        "+.6, +.8 AP",
        ("3 hops", "4 hops"),
        ("3 hops", "limit"),
        ("4 hops", "1 hop"),
        ("limit", "1 hop"),
    ),
)

TABLE_A3 = _exits(
    "table_a3",
    "epochs of the extractor's warm-up, with the objective of the preset",
    (
        _row("0 epochs", {"warmup.steps": 0}, (36.0,)),
        _row("4 epochs", {"warmup.steps": 59_000}, (37.0,), {"warmup.steps": 50}),
        _row("8 epochs", {}, (37.3,)),
    ),
    *_claims("C24", "8 >= 4 > 0 epochs", "+.3, +1.0 AP", ("8 epochs", "4 epochs"), ("4 epochs", "0 epochs")),
)

TABLE_A4 = _exits(
    "table_a4",
    "what the extractor was pretrained for (at tiny scale scenes and steps differ too, see the decisions)",
    (
        _row("MAE", {}, (37.3, 64.4, 37.8)),
        _row(
            "supervised (DeiT)", {"extractor.weights": "deit"}, (35.8, 62.4, 35.9), {"extractor.weights": "supervised"}
        ),
        _row("self-distilled (DINO)", {"extractor.weights": "dino"}, (34.7, 62.0, 33.9)),
    ),
    *_claims(
        "C25",
        "MAE > DeiT > DINO",
        "+1.5 AP",
        ("MAE", "supervised (DeiT)"),
        ("supervised (DeiT)", "self-distilled (DINO)"),
    ),
)

MAL_ROW = {"supervision": "boxes", "loss.mil": 4.0}
BASELINE = _exits(
    "baseline",
    "boxes, or four extreme points (ours): the pseudo masks and what a segmenter learns from them",
    (_row("MAL", MAL_ROW), _row("EXITS", {}), _row("true masks", {"final.masks": "truth"})),
    *_claims("ours1", "extreme points beat boxes", "-", ("EXITS", "MAL")),
)

TAUS, POINTS, CRFS = (0.5, 2.0), (0.1, 5.0), (0.2, 2.0)  # times the preset's
SWEPT = (
    *(_row(f"tau_FG x {f:g}", {"walk.fg_factor": f}) for f in TAUS),
    *(_row(f"tau_BG x {f:g}", {"walk.bg_factor": f}) for f in TAUS),
    *(_row(f"lambda_point x {f:g}", {"loss.point": f * 0.05}, tiny={"loss.point": f * 0.5}) for f in POINTS),
    *(_row(f"lambda_crf x {f:g}", {"loss.crf": f * 0.5}) for f in CRFS),
)
WEIGHTS = tuple(row.name for row in SWEPT if row.name.startswith("lambda"))
FIG_A1 = _exits(
    "fig_a1",
    "thresholds and weights about the preset's, with the line of MAL; the published axes have no numbers",
    (_row("MAL", MAL_ROW), _row("EXITS", {}), *SWEPT),
    *_claims(
        "C28", "every lambda_point and lambda_crf beats MAL", "curve", *((name, "MAL") for name in ("EXITS", *WEIGHTS))
    ),
)

TABLES = (TABLE_A1, TABLE_A2, TABLE_A3, TABLE_A4, FIG_A1, BASELINE)
