"""Verdicts on published claims: paired over seeds, mean and 95 % t interval.

A verdict belongs to the data and the scale that it was measured on. `holds` and `contradicted` need the whole
interval on one side; with fewer than three seeds a claim counts as not run.
"""

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from itertools import combinations, pairwise
from statistics import mean, stdev
from typing import Literal

from scipy.stats import t

Verdict = Literal["holds", "contradicted", "undecided", "not run"]
Values = Mapping[str, Mapping[int, float]]
"""Percent by row name and seed, of one metric."""

FEWEST = 3
WORST_FIRST: tuple[Verdict, ...] = ("not run", "contradicted", "undecided", "holds")


@dataclass(frozen=True)
class Difference:
    """Of two rows, in points; `Greater` and `Alike` say what is claimed of it."""

    metric: str
    a: str
    b: str

    @property
    def rows(self) -> tuple[str, str]:
        return self.a, self.b

    def measure(self, of: Mapping[str, float]) -> float:
        """What is compared, for one seed: a less b."""
        return of[self.a] - of[self.b]


@dataclass(frozen=True)
class Greater(Difference):
    """Row `a` is above row `b` by more than -`margin` points."""

    margin: float = 0.0

    def judge(self, low: float, high: float) -> Verdict:
        return "holds" if low > -self.margin else "contradicted" if high < -self.margin else "undecided"

    def __str__(self) -> str:
        return f"{self.metric}: {self.a} - {self.b} > {0 - self.margin:g}"  # -0.0 would print its sign


@dataclass(frozen=True)
class Alike(Difference):
    """Rows `a` and `b` differ by less than `points`, whichever is above."""

    points: float

    def judge(self, low: float, high: float) -> Verdict:
        if -self.points < low and high < self.points:
            return "holds"
        return "contradicted" if low > self.points or high < -self.points else "undecided"

    def __str__(self) -> str:
        return f"{self.metric}: |{self.a} - {self.b}| < {self.points:g}"


@dataclass(frozen=True)
class Steeper:
    """The step from the second to the third of `rows` is larger than that from the first to the second."""

    metric: str
    rows: tuple[str, str, str]

    def measure(self, of: Mapping[str, float]) -> float:
        """What is compared, for one seed: the second step less the first."""
        first, second, third = (of[row] for row in self.rows)
        return (third - second) - (second - first)

    def judge(self, low: float, high: float) -> Verdict:
        return "holds" if low > 0 else "contradicted" if high < 0 else "undecided"

    def __str__(self) -> str:
        first, second, third = self.rows
        return f"{self.metric}: ({third} - {second}) - ({second} - {first}) > 0"


Comparison = Greater | Alike | Steeper


def order(metric: str, *rows: str) -> tuple[Greater, ...]:
    """Each row above the next."""
    return tuple(Greater(metric, a, b) for a, b in pairwise(rows))


def best(metric: str, a: str, others: Iterable[str]) -> tuple[Greater, ...]:
    """Row `a` above each of the others: one by one, since the best of them is in part the luckiest."""
    return tuple(Greater(metric, a, b) for b in others)


def alike(metric: str, rows: Iterable[str], points: float) -> tuple[Alike, ...]:
    """Each pair of rows: one by one, since the range of several runs grows with chance alone."""
    return tuple(Alike(metric, a, b, points) for a, b in combinations(rows, 2))


@dataclass(frozen=True)
class Claim:
    """An ordinal claim of a paper; with several comparisons it holds if all do."""

    id: str
    text: str
    published: str
    comparisons: tuple[Comparison, ...]


def interval(values: list[float]) -> tuple[float, float, float]:
    """Mean, and the ends of its 95 % t interval; needs two values."""
    middle = mean(values)
    half = float(t.ppf(0.975, len(values) - 1)) * stdev(values) / math.sqrt(len(values))
    return middle, middle - half, middle + half


def compare(comparison: Comparison, values: Values) -> dict:
    """One comparison over the seeds that all of its rows have."""
    seeds = set.intersection(*(set(values.get(row, {})) for row in comparison.rows))
    facts = {"comparison": str(comparison), "seeds": len(seeds), "mean": None, "low": None, "high": None}
    if len(seeds) < FEWEST:
        return {**facts, "verdict": "not run"}
    measured = [comparison.measure({row: values[row][seed] for row in comparison.rows}) for seed in sorted(seeds)]
    middle, low, high = interval(measured)
    return {**facts, "mean": middle, "low": low, "high": high, "verdict": comparison.judge(low, high)}


def judge(claim: Claim, values: Mapping[str, Values]) -> dict:
    """The claim as an entry of a results file, from percent by metric, row name and seed.

    The numbers are those of the comparison that decides; `parts` has all where there are several.
    """
    parts = [compare(c, values[c.metric]) for c in claim.comparisons]
    worst = min(parts, key=lambda part: WORST_FIRST.index(part["verdict"]))
    entry = {"id": claim.id, "text": claim.text, "published": claim.published, **worst}
    return entry if len(parts) == 1 else {**entry, "parts": parts}
