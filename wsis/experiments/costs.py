"""What the stages of EXITS and of its baseline cost: rehearsals of the full size on random numbers.

The claims are about ratios and parameters, since hours on one machine say nothing about another.
"""

from dataclasses import replace
from functools import cache

from torch import nn

from wsis.experiments.table import Reports, Row, Table
from wsis.experiments.verdicts import Claim, Comparison
from wsis.methods import exits
from wsis.methods.exits.model import build_extractor, build_teaching
from wsis.models.segmenters import build_segmenter
from wsis.training import dry_run

STAGES = {"extractor": "warm-up, h", "network": "stage 1, h", "final": "final model, h"}
MODELS = ("extractor, M", "generator, M", "final model, M")
METRICS = (*STAGES.values(), *MODELS)
MAKING_MASKS = 70 / 60  # hours, published for both methods; a rehearsal trains only


def measure(cfg: exits.ExitsConfig, device: str) -> Reports:
    """Hours of the stages and millions of parameters, as the report of one stage: of the extractor without its head, the
    generator without its teacher, and the final model.
    """
    costs = dry_run.measure(exits, cfg, device, stages=("extractor", "thresholds", "network"))
    hours = {STAGES[cost.name]: cost.hours for cost in costs}
    # Both methods train the same final model on the same number of masks, so that one rehearsal serves both.
    shared = replace(cfg, supervision="extreme_points", loss=type(cfg.loss)(), final=replace(cfg.final, masks="truth"))
    hours[STAGES["final"]] = final_hours(shared, device)
    final = build_segmenter(cfg.final.segmenter, cfg.classes, cfg.final.backbone, "random")
    models: list[nn.Module] = [build_extractor(cfg).encoder, build_teaching(cfg).student, final]
    millions = {name: sum(p.numel() for p in m.parameters()) / 1e6 for name, m in zip(MODELS, models, strict=True)}
    if cfg.supervision != "extreme_points":
        del millions[MODELS[0]]
    return {"rehearsal": hours | millions}


@cache
def final_hours(cfg: exits.ExitsConfig, device: str) -> float:
    return dry_run.measure(exits, cfg, device, stages=("labels", "final"))[-1].hours


def at_most(percent: float, what: str, stages: tuple[str, ...], hours: float = 0.0) -> Comparison:
    """EXITS takes at most `percent` more time than MAL in its warm-up and `stages`; both need `hours` before the last one."""

    def overhead(*costs: float) -> float:
        ours, baseline = costs[: len(stages) + 1], costs[len(stages) + 1 :]
        return 100 * ((sum(ours[:-1]) + (hours + ours[-1])) / (sum(baseline[:-1]) + (hours + baseline[-1])) - 1)

    cells = [(stage, "EXITS") for stage in (STAGES["extractor"], *stages)] + [(stage, "MAL") for stage in stages]
    return Comparison(f"{what}: EXITS costs at most {percent:g} % more than MAL", tuple(cells), overhead, high=percent)


# Both methods have the convolutional stem that the published parameters imply.
TIMED = {"generator.stem": "conv", **{f"{part}.weights": "random" for part in ("extractor", "generator", "final")}}
MAL = TIMED | {"supervision": "boxes", "loss.mil": 4.0}
_, STAGE, FINAL = STAGES.values()
MILLIONS = (86.0, 93.0, 69.0)
EXACT = Comparison(
    "EXITS: at most half a million from 86, 93, 69 M",
    tuple((model, "EXITS") for model in MODELS),
    lambda *counts: max(abs(count - number) for count, number in zip(counts, MILLIONS, strict=True)),
    high=0.5,
)
CHEAP = (at_most(22.0, "warm-up and stage 1", (STAGE,)), at_most(6.0, "all stages", (STAGE, FINAL), hours=MAKING_MASKS))
TABLE_A5 = Table(
    id="exits.table_a5",
    title="time and parameters of the stages, rehearsed on random numbers",
    metrics=METRICS,
    rows=(
        Row("MAL", MAL, {STAGE: 23.0, FINAL: 71.0, MODELS[1]: 93.0, MODELS[2]: 69.0}),
        Row("EXITS", TIMED, dict(zip(METRICS, (2.0, 26.0, 71.0, *MILLIONS), strict=True))),
    ),
    claims=(
        Claim("C26", "stage 1 costs at most 22 % more than MAL, the whole at most 6 %", "28/23 h, 100/95 h", CHEAP),
        Claim("C27", "parameter counts 86M, 93M, 69M", "exact", (EXACT,), ("full",)),
    ),
    factor=1.0,
    measure=measure,
)
