"""The tables of BESTIE. Numbers and claims: the supplementary document. Ids are stable; files and pages use them."""

from wsis.experiments.table import Row, Table
from wsis.experiments.verdicts import Claim, Greater, alike, best, order


def _bestie(id: str, title: str, rows: tuple[Row, ...], *claims: Claim, metrics: tuple[str, ...] = ("mAP50",)) -> Table:
    return Table(id=f"bestie.{id}", method="bestie", title=title, metrics=metrics, rows=rows, claims=claims)


def _m50(value: float) -> dict[str, float]:
    return {"mAP50": value}


TABLE1 = _bestie(
    "table1",
    "components: instance-aware guidance and self-refinement",
    (
        Row(name="PAM", changes={"loss.iag": False, "refine.enabled": False}, published=_m50(29.3)),
        Row(name="PAM + IAG", changes={"refine.enabled": False}, published=_m50(39.2)),
        Row(name="PAM + IAG + refine", published=_m50(41.8)),
        Row(name="PAM + refine", changes={"loss.iag": False}, published=_m50(27.8)),
    ),
    Claim("C12", "PAM+IAG > PAM", "+9.9", order("mAP50", "PAM + IAG", "PAM")),
    Claim("C13", "PAM+IAG+refine > PAM+IAG", "+2.6", order("mAP50", "PAM + IAG + refine", "PAM + IAG")),
    Claim("C14", "refine without IAG < PAM alone (semantic drift)", "-1.5", order("mAP50", "PAM", "PAM + refine")),
)

ALPHA = {0.2: 41.76, 0.3: 41.70, 0.5: 41.80, 0.7: 41.72}
TABLE2 = _bestie(
    "table2",
    "the threshold alpha of peak attention",
    tuple(Row(name=f"alpha {a}", changes={"pam.alpha": a}, published=_m50(v)) for a, v in ALPHA.items()),
    Claim(
        "C15",
        "alpha hardly matters between .2 and .7 (range < 1 point)",
        ".1",
        alike("mAP50", [f"alpha {a}" for a in ALPHA], 1.0),
    ),
)

LAYERS = {
    (): (40.2, 34.7, 19.6),
    (6,): (53.5, 41.8, 24.2),
    (5, 6): (49.6, 39.5, 23.9),
    (4, 5, 6): (43.7, 34.8, 21.2),
    (4, 6): (53.6, 40.0, 23.8),
    (4,): (48.3, 37.6, 22.1),
    (5,): (49.9, 39.6, 23.4),
    (4, 5): (49.3, 38.4, 22.7),
}
THREE = ("mAP25", "mAP50", "mAP75")


def _layers(layers: tuple[int, ...]) -> str:
    return "{" + ",".join(map(str, layers)) + "}"


TABLE3 = _bestie(
    "table3",
    "the layers that peak attention follows",
    tuple(
        Row(name=_layers(k), changes={"pam.layers": k}, published=dict(zip(THREE, v, strict=True)))
        for k, v in LAYERS.items()
    ),
    Claim("C16", "{6} > {}", "+7.1 mAP50", order("mAP50", "{6}", "{}")),
    Claim(
        "C17",
        "{6} is the best at mAP50, {4,5,6} no better than {} by more than 1 point",
        "{4,5,6}-{}: +.1",
        (
            *best("mAP50", "{6}", [_layers(k) for k in LAYERS if k != (6,)]),
            Greater("mAP50", "{}", "{4,5,6}", margin=1.0),
        ),
    ),
    metrics=THREE,
)

CENTER_MAP = _bestie(
    "center_map",
    "one center map per class, or one for all",
    (
        Row(name="class-agnostic", changes={"center_mode": "class_agnostic"}),
        Row(name="class-wise", changes={"center_mode": "class_wise"}),
    ),
    Claim("C18", "class-wise > class-agnostic", "+1.0", order("mAP50", "class-wise", "class-agnostic")),
)

BACKBONE = _bestie(
    "backbone",
    "the trunk of the instance network",
    (
        Row(
            name="ResNet-50",
            changes={"backbone": "resnet50"},
            published=_m50(40.9),
            tiny_changes={"backbone": "resnet_tiny"},
        ),
        Row(
            name="HRNet-48",
            changes={"backbone": "hrnet_w48"},
            published=_m50(41.8),
            tiny_changes={"backbone": "hrnet_tiny"},
        ),
    ),
    Claim("C19", "HRNet-48 > ResNet-50", "+.9", order("mAP50", "HRNet-48", "ResNet-50")),
)

CUES = (0.3, 0.5, 0.7)
CUE_THRESHOLD = _bestie(
    "cue_threshold",
    "the score above which a peak is a cue",
    tuple(Row(name=f"threshold {t}", changes={"cues.threshold": t}) for t in CUES),
    Claim("C20", "within half a point of each other", ".1", alike("mAP50", [f"threshold {t}" for t in CUES], 0.5)),
)

SUPERVISION = _bestie(
    "supervision",
    "image tags, or one point per object",
    (
        Row(name="tags", published={"mAP25": 53.5, "mAP50": 41.8, "mAP75": 24.2}),
        Row(name="points", changes={"supervision": "points"}, published={"mAP25": 58.6, "mAP50": 46.7, "mAP75": 26.3}),
    ),
    metrics=THREE,
)

# Ours: do Table 1's first and third row differ by guidance, or by the loss's scale and the short training?
LENGTH, TINY_LENGTH = {"network.steps": 150_000}, {"network.steps": 600}
UNGUIDED = {"loss.iag": False, "refine.enabled": False}
MATCHED = {**UNGUIDED, "loss.unguided_norm": "matched"}
LIGHT = {"loss.center_weight": 20.0, "loss.offset_weight": 0.001}
BALANCE = _bestie(
    "balance",
    "guidance at other loss scales, and in three times as many steps (ours)",
    (
        Row(name="PAM", changes=UNGUIDED),
        Row(name="PAM, loss summed over channels", changes=MATCHED),
        Row(name="PAM + IAG + refine"),
        Row(name="PAM + IAG + refine, regression weights / 10", changes=LIGHT),
        Row(name="PAM, 3 x steps", changes=UNGUIDED | LENGTH, tiny_changes=UNGUIDED | TINY_LENGTH),
        Row(name="PAM + IAG + refine, 3 x steps", changes=LENGTH, tiny_changes=TINY_LENGTH),
    ),
)

TABLES = (TABLE1, TABLE2, TABLE3, CENTER_MAP, BACKBONE, CUE_THRESHOLD, SUPERVISION, BALANCE)
