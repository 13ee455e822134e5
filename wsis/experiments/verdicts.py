"""Verdicts on published claims, for one data set and scale: differences are paired over seeds, with a 95 % t interval.

`holds` and `contradicted` need the whole interval on one side; with fewer than three seeds a claim counts as not run.
"""

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations, pairwise
from statistics import mean, stdev
from typing import Any, Literal, get_args

from scipy.stats import t

from wsis.core.config import Scale

Verdict = Literal["holds", "contradicted", "undecided", "not run"]
Values = Mapping[str, Mapping[str, Mapping[int, float]]]
"""Figures as a table shows them, by metric, row name and seed."""

MIN_SEEDS = 3
WORST_FIRST: tuple[Verdict, ...] = ("not run", "contradicted", "undecided", "holds")


@dataclass(frozen=True)
class Comparison:
    """What `measure` makes of some cells (metric, row name) for one seed; between `low` and `high` the claim is true."""

    text: str
    cells: tuple[tuple[str, str], ...]
    measure: Callable[..., float]
    low: float = -math.inf
    high: float = math.inf

    def judge(self, low: float, high: float) -> Verdict:
        if self.low < low and high < self.high:
            return "holds"
        return "contradicted" if high < self.low or low > self.high else "undecided"


def greater(metric: str, a: str, b: str, margin: float = 0.0) -> Comparison:
    """Row `a` is above row `b` by more than -`margin` points."""
    text = f"{metric}: {a} - {b} > {0 - margin:g}"  # -0.0 would print its sign
    return Comparison(text, ((metric, a), (metric, b)), lambda a, b: a - b, low=-margin)


def similar(metric: str, rows: Iterable[str], points: float) -> tuple[Comparison, ...]:
    """Rows differ by less than `points`: pair by pair, since the range of several runs grows with chance alone."""
    return tuple(
        Comparison(
            f"{metric}: |{a} - {b}| < {points:g}", ((metric, a), (metric, b)), lambda a, b: a - b, -points, points
        )
        for a, b in combinations(rows, 2)
    )


def steeper(metric: str, first: str, second: str, third: str) -> Comparison:
    """The step from the second row to the third is larger than the step from the first to the second."""
    text = f"{metric}: ({third} - {second}) - ({second} - {first}) > 0"
    cells = ((metric, first), (metric, second), (metric, third))
    return Comparison(text, cells, lambda a, b, c: (c - b) - (b - a), low=0.0)


def order(metric: str, *rows: str) -> tuple[Comparison, ...]:
    return tuple(greater(metric, a, b) for a, b in pairwise(rows))


def best(metric: str, a: str, others: Iterable[str]) -> tuple[Comparison, ...]:
    """Row `a` is above each of the others: one by one, since the best of them is in part the luckiest."""
    return tuple(greater(metric, a, b) for b in others)


@dataclass(frozen=True)
class Claim:
    """A claim of a paper; with several comparisons it holds if all of them do. scales: those that can decide it."""

    id: str
    text: str
    published: str
    comparisons: tuple[Comparison, ...]
    scales: tuple[Scale, ...] = get_args(Scale)


def interval(values: Sequence[float]) -> tuple[float, float, float]:
    """The mean and the ends of its 95 % t interval; needs two values."""
    middle = mean(values)
    half = float(t.ppf(0.975, len(values) - 1)) * stdev(values) / math.sqrt(len(values))
    return middle, middle - half, middle + half


def compare(comparison: Comparison, values: Values) -> dict[str, Any]:
    """One comparison over the seeds that all of its cells have, as an entry of a results file."""
    cells = [values.get(metric, {}).get(row, {}) for metric, row in comparison.cells]
    seeds = sorted(set.intersection(*map(set, cells)))
    facts = {"comparison": comparison.text, "seeds": len(seeds), "mean": None, "low": None, "high": None}
    if len(seeds) < MIN_SEEDS:
        return {**facts, "verdict": "not run"}
    middle, low, high = interval([comparison.measure(*(cell[seed] for cell in cells)) for seed in seeds])
    return {**facts, "mean": middle, "low": low, "high": high, "verdict": comparison.judge(low, high)}


def judge(claim: Claim, values: Values, scale: Scale) -> dict[str, Any]:
    """The claim as an entry of a results file, with the numbers of the comparison that decides; `parts` has all of several."""
    parts = [compare(comparison, values if scale in claim.scales else {}) for comparison in claim.comparisons]
    worst = min(parts, key=lambda part: WORST_FIRST.index(part["verdict"]))
    entry = {"id": claim.id, "text": claim.text, "published": claim.published, **worst}
    return entry if len(parts) == 1 else {**entry, "parts": parts}
