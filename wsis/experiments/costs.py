"""What the stages of EXITS and of its baseline cost: exits.table_a5, by rehearsals of the full size on random numbers.

Hours on one machine say nothing about another; the claims are about ratios and about parameters.
"""

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

from torch import nn

from wsis.core.config import Scale, changed, fingerprint
from wsis.experiments.environment import commit, hardware, versions
from wsis.experiments.results import spread
from wsis.experiments.verdicts import FEWEST, WORST_FIRST, interval
from wsis.methods import exits
from wsis.methods.exits.model import build_extractor, build_generator
from wsis.models.segmenters import build_segmenter
from wsis.training.dry_run import Cost
from wsis.training.dry_run import measure as measure_costs

ID = "exits.table_a5"
Measure = Callable[..., list[Cost]]
STAGES = {"extractor": "warm-up, h", "network": "stage 1, h", "segmenter": "final model, h"}
MODELS = ("extractor, M", "generator, M", "final model, M")
PUBLISHED = {
    "MAL": {"stage 1, h": 23.0, "final model, h": 71.0, "generator, M": 93.0, "final model, M": 69.0},
    "EXITS": {
        "warm-up, h": 2.0,
        "stage 1, h": 26.0,
        "final model, h": 71.0,
        "extractor, M": 86.0,
        "generator, M": 93.0,
        "final model, M": 69.0,
    },
}
MAKING_MASKS = 70 / 60  # hours, published for both; a rehearsal trains only


def settings(scale: Scale) -> dict[str, Any]:
    """Both methods, with the convolutional stem that the published parameters imply."""
    cfg = exits.FULL if scale == "full" else exits.TINY
    cfg = changed(cfg, **{"generator.stem": "conv"})
    return {"MAL": exits.mal(cfg), "EXITS": cfg}


def run_costs(scale: Scale, repeats: int, device: str = "auto", measure: Measure = measure_costs) -> dict[str, Any]:
    """Rehearse both methods in turn; the content of a results file. measure: what rehearses a configuration."""
    configs = settings(scale)
    hours: dict[str, dict[str, list[float]]] = {name: {} for name in configs}
    from_truth = changed(configs["EXITS"], **{"final.masks": "truth"})  # a generator is not needed to time it
    final = measure(exits, from_truth, device, stages=("masks", "segmenter"))
    for _ in range(repeats):
        for name, cfg in configs.items():
            for cost in measure(exits, cfg, device, stages=("extractor", "thresholds", "network")):
                hours[name].setdefault(STAGES[cost.name], []).append(cost.hours)
    for of in hours.values():  # the same model on the same number of masks: one measurement serves both
        of[STAGES["segmenter"]] = [final[-1].hours] * repeats
    sizes = parameters(configs["EXITS"])
    rows = []
    for name in configs:
        millions = sizes if name == "EXITS" else {k: v for k, v in sizes.items() if not k.startswith("extractor")}
        ours = {k: spread(v) for k, v in hours[name].items()} | {
            k: spread([v / 1e6] * repeats) for k, v in millions.items()
        }
        rows.append({"name": name, "changes": {}, "published": PUBLISHED[name], "ours": ours, "n": repeats, "also": {}})
    return {
        "table": ID,
        "title": "time and parameters of the stages, rehearsed on random numbers",
        "scale": scale,
        "data": "noise",
        "metrics": [*STAGES.values(), *MODELS],
        "rows": rows,
        "claims": [_cheap(hours), _exact(sizes, scale)],
        "provenance": {
            "command": f"python -m wsis table {ID} --scale {scale} --seeds {repeats}",
            "images": f"random numbers, crops of {configs['EXITS'].crop.size} px",
            "commit": commit(),
            "config_hash": fingerprint(*configs.values()),
            "hardware": hardware(device),
            "versions": versions(),
            "date": datetime.now(UTC).date().isoformat(),
        },
    }


def parameters(cfg: exits.ExitsConfig) -> dict[str, int]:
    """Parameters of the extractor without its head, the generator without its teacher, and the final model."""
    random = changed(cfg, **{"extractor.weights": "random", "generator.weights": "random"})
    final = build_segmenter(cfg.final.segmenter, cfg.classes, cfg.final.backbone, "random")
    models: list[nn.Module] = [build_extractor(random).encoder, build_generator(random), final]
    return {name: sum(p.numel() for p in m.parameters()) for name, m in zip(MODELS, models, strict=True)}


def _cheap(hours: dict[str, dict[str, list[float]]]) -> dict[str, Any]:
    """C26 as an entry of a results file: both ratios, in percent more than MAL; the one that decides is given."""
    warmup, ours, theirs, final = (
        hours["EXITS"][STAGES["extractor"]],
        hours["EXITS"][STAGES["network"]],
        hours["MAL"][STAGES["network"]],
        hours["MAL"][STAGES["segmenter"]],
    )
    stage = [100 * ((w + o) / t - 1) for w, o, t in zip(warmup, ours, theirs, strict=True)]
    rest = [MAKING_MASKS + f for f in final]
    whole = [100 * ((w + o + r) / (t + r) - 1) for w, o, t, r in zip(warmup, ours, theirs, rest, strict=True)]
    parts = [_at_most("warm-up and stage 1", stage, 22.0), _at_most("all stages", whole, 6.0)]
    worst = min(parts, key=lambda part: WORST_FIRST.index(part["verdict"]))
    text = "stage 1 costs at most 22 % more than MAL, the whole at most 6 %"
    return {"id": "C26", "text": text, "published": "28/23 h, 100/95 h", **worst, "parts": parts}


def _at_most(what: str, values: list[float], most: float) -> dict[str, Any]:
    """One comparison: is the mean over repeats at most `most` percent?"""
    comparison = f"{what}: EXITS costs at most {most:g} % more than MAL"
    facts = {"comparison": comparison, "seeds": len(values), "mean": None, "low": None, "high": None}
    if len(values) < FEWEST:
        return {**facts, "verdict": "not run"}
    middle, low, high = interval(values)
    verdict = "holds" if high <= most else "contradicted" if low > most else "undecided"
    return {**facts, "mean": middle, "low": low, "high": high, "verdict": verdict}


def _exact(sizes: dict[str, int], scale: Scale) -> dict[str, Any]:
    """C27: the three counts, in whole millions as published."""
    found = [round(v / 1e6) for v in sizes.values()]
    verdict = "not run" if scale == "tiny" else "holds" if found == [86, 93, 69] else "contradicted"
    text = "parameter counts 86M, 93M, 69M"
    facts = {"id": "C27", "text": text, "published": "exact", "comparison": f"ours: {found}", "seeds": 1}
    return {**facts, "mean": None, "low": None, "high": None, "verdict": verdict}
