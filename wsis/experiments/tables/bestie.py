"""The tables of BESTIE. Numbers and claims: the supplementary document. Ids are stable; files and pages use them."""

from wsis.experiments.table import BUT_SMALL, Settings, Table, table
from wsis.experiments.verdicts import Claim, best, greater, order, similar

AP50 = ("mAP50",)
THREE = ("mAP25", "mAP50", "mAP75")
UNGUIDED = {"loss.iag": False, "refine.enabled": False}
GUIDED = {"refine.enabled": False}

TABLE1 = table(
    "bestie.table1",
    "components: instance-aware guidance and self-refinement",
    AP50,
    {
        "PAM": (UNGUIDED, (29.3,)),
        "PAM + IAG": (GUIDED, (39.2,)),
        "PAM + IAG + refine": ({}, (41.8,)),
        "PAM + refine": ({"loss.iag": False}, (27.8,)),
    },
    Claim("C12", "PAM+IAG > PAM", "+9.9", order("mAP50", "PAM + IAG", "PAM")),
    Claim("C13", "PAM+IAG+refine > PAM+IAG", "+2.6", order("mAP50", "PAM + IAG + refine", "PAM + IAG")),
    Claim("C14", "refine without IAG < PAM alone (semantic drift)", "-1.5", order("mAP50", "PAM", "PAM + refine")),
)

ALPHA = {0.2: 41.76, 0.3: 41.70, 0.5: 41.80, 0.7: 41.72}
WITHIN_ONE = similar("mAP50", [f"alpha {a}" for a in ALPHA], 1.0)
TABLE2 = table(
    "bestie.table2",
    "the threshold alpha of peak attention",
    AP50,
    {f"alpha {a}": ({"pam.alpha": a}, (number,)) for a, number in ALPHA.items()},
    Claim("C15", "alpha hardly matters between .2 and .7 (range < 1 point)", ".1", WITHIN_ONE),
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
SETS = {layers: "{" + ",".join(map(str, layers)) + "}" for layers in LAYERS}
SIX_IS_BEST = best("mAP50", "{6}", [name for name in SETS.values() if name != "{6}"])
ALL_IS_NO_BETTER = greater("mAP50", "{}", "{4,5,6}", margin=1.0)
SIX = "{6} is the best at mAP50, {4,5,6} no better than {} by more than 1 point"
TABLE3 = table(
    "bestie.table3",
    "the layers that peak attention follows",
    THREE,
    {SETS[layers]: ({"pam.layers": layers}, numbers) for layers, numbers in LAYERS.items()},
    Claim("C16", "{6} > {}", "+7.1 mAP50", order("mAP50", "{6}", "{}")),
    Claim("C17", SIX, "{4,5,6}-{}: +.1", (*SIX_IS_BEST, ALL_IS_NO_BETTER)),
    scales=BUT_SMALL,  # which has no VGG
)

MODES = {f"class-{mode}": {"center_mode": f"class_{mode}"} for mode in ("agnostic", "wise")}
C18 = Claim("C18", "class-wise > class-agnostic", "+1.0", order("mAP50", "class-wise", "class-agnostic"))
CENTER_MAP = table("bestie.center_map", "one center map per class, or one for all", AP50, MODES, C18)

BACKBONES = {
    "ResNet-50": ({"backbone": "resnet50"}, (40.9,), {"backbone": "resnet_tiny"}),
    "HRNet-48": ({"backbone": "hrnet_w48"}, (41.8,), {"backbone": "hrnet_tiny"}),
}
C19 = Claim("C19", "HRNet-48 > ResNet-50", "+.9", order("mAP50", "HRNet-48", "ResNet-50"))
BACKBONE = table("bestie.backbone", "the backbone of the instance network", AP50, BACKBONES, C19, scales=BUT_SMALL)

CUES = {f"threshold {t}": {"cues.threshold": t} for t in (0.3, 0.5, 0.7)}
C20 = Claim("C20", "within half a point of each other", ".1", similar("mAP50", CUES, 0.5))
CUE_THRESHOLD = table("bestie.cue_threshold", "the score above which a peak is a cue", AP50, CUES, C20)

POINTS: Settings = {"supervision": "points"}
UPPER = "true masks"  # ours
LABELS = {
    "tags": ({}, (53.5, 41.8, 24.2)),
    "points": (POINTS, (58.6, 46.7, 26.3)),
    UPPER: POINTS | {"semantic.source": "masks", "point": "mask_centroid"},
}
SUPERVISION = table("bestie.supervision", "image tags, or one point per object", THREE, LABELS, upper=UPPER)

FIG4 = table(
    "bestie.fig4",
    "beside IRN, whose predicted classes take no tags, and on its class maps",
    THREE,
    {
        "IRN": ({}, (), {}, "irn"),
        "BESTIE": ({}, (53.5, 41.8, 24.2)),
        "BESTIE, class maps of IRN": ({"semantic.source": "irn"},),
    },
    Claim("fig4.1", "BESTIE > IRN", "-", order("mAP50", "BESTIE", "IRN")),
    Claim(
        "fig4.2",
        "IRN's class maps are better ones for BESTIE",
        "-",
        order("mAP50", "BESTIE, class maps of IRN", "BESTIE"),
    ),
)

# Ours: Table 1 without what hides its effects. Activation maps rarely resolve objects that touch, so that one cue labels both
# and guidance learns that. A point is one cue for each object; with true class maps the components are right as well.
ALONE = {"loss.iag": False}
COMPONENTS = {"neither": UNGUIDED, "guidance": GUIDED, "guidance, refinement": {}, "refinement": ALONE}
ORACLE: Settings = {"cues.source": "truth", "semantic.source": "truth"}


def one_cue(name: str, title: str, id: str, changes: Settings) -> Table:
    """The rows and claims of Table 1 with other cues; id: of the claims, without their number."""
    rows = {row: components | changes for row, components in COMPONENTS.items()}
    orders = {
        "guidance helps": ("guidance", "neither"),
        "refinement helps guidance": ("guidance, refinement", "guidance"),
        "refinement alone harms": ("neither", "refinement"),
    }
    claims = (Claim(f"{id}{i}", text, "-", order("mAP50", *pair)) for i, (text, pair) in enumerate(orders.items(), 1))
    return table(name, title, AP50, rows, *claims)


POINT_CUES = one_cue("bestie.point_cues", "components where every object has one cue: points (ours)", "ours2.", POINTS)
WITH_MAPS = "components where every object has one cue, in true class maps: an oracle (ours)"
TRUE_MAPS = one_cue("bestie.true_maps", WITH_MAPS, "ours3.", ORACLE)

# Ours: Table 1 with the weights of the full scale, under which a small crop's center and offset terms starve the semantic map.
TINY_WEIGHTS = {"loss.center_weight": 43.0, "loss.offset_weight": 0.043}
FULL_WEIGHTS = {"loss.center_weight": 200.0, "loss.offset_weight": 0.01}
UNITS = table(
    "bestie.units",
    "guidance when the weights of the losses do not scale with the crop (ours)",
    AP50,
    {
        "PAM": UNGUIDED,
        "PAM + IAG": GUIDED,
        "PAM, weights of the other scale": (UNGUIDED | TINY_WEIGHTS, (), UNGUIDED | FULL_WEIGHTS),
        "PAM + IAG, weights of the other scale": (GUIDED | TINY_WEIGHTS, (), GUIDED | FULL_WEIGHTS),
    },
)

TABLES = (TABLE1, TABLE2, TABLE3, CENTER_MAP, BACKBONE, CUE_THRESHOLD, SUPERVISION, FIG4, POINT_CUES, TRUE_MAPS, UNITS)
