"""Verdicts on published claims, for one data set and scale: differences are paired over seeds, with a 95 % t interval.

holds, contradicted   the whole interval is on one side of the bound
needs seeds           it is not yet; the entry says how many seeds this noise and this mean ask for
cannot show           nor would it be with `MAX_SEEDS` seeds: they could not resolve what is sought at this noise, which is the
                      published difference, the margin of "about equal", or the room that true labels leave
not run               fewer than three seeds
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations, pairwise
from operator import sub
from statistics import mean, stdev
from typing import Literal, NotRequired, TypedDict, cast, get_args

from scipy.special import stdtrit

from wsis.core.config import Scale

Verdict = Literal["holds", "contradicted", "needs seeds", "cannot show", "not run"]
Values = Mapping[str, Mapping[str, Mapping[int, float]]]  # figures of a table by metric, row name and seed
Published = Mapping[str, Mapping[str, float]]  # numbers of a paper by metric and row name
NOTHING: Published = {}
MIN_SEEDS = 3
MAX_SEEDS = 20  # more than anyone will run
WORST_FIRST: tuple[Verdict, ...] = ("not run", "contradicted", "cannot show", "needs seeds", "holds")


@dataclass(frozen=True)
class Comparison:
    """What `measure` makes of some cells (metric, row name) for one seed; between `low` and `high` the claim is true."""

    text: str
    cells: tuple[tuple[str, str], ...]
    measure: Callable[..., float]
    low: float = -math.inf
    high: float = math.inf
    baseline: tuple[str, str] | None = None  # the cell that the claim is about surpassing

    def judge(self, low: float, high: float) -> Verdict:
        if self.low < low and high < self.high:
            return "holds"
        return "contradicted" if high < self.low or low > self.high else "needs seeds"


def greater(metric: str, a: str, b: str, tolerance: float = 0.0) -> Comparison:
    """Row `a` is above row `b` by more than -`tolerance` points."""
    text = f"{metric}: {a} - {b} > {0 - tolerance:g}"  # -0.0 would print its sign
    return Comparison(text, ((metric, a), (metric, b)), sub, low=-tolerance, baseline=(metric, b))


# What claims say of several rows in one metric, with a tolerance in points.


def order(metric: str, rows: Sequence[str], tolerance: float = 0.0) -> tuple[Comparison, ...]:
    """Each row is above the next one."""
    return tuple(greater(metric, a, b, tolerance) for a, b in pairwise(rows))


def best(metric: str, rows: Sequence[str], tolerance: float = 0.0) -> tuple[Comparison, ...]:
    """The first row is above each of the others: one by one, since the best of them is in part the luckiest."""
    return tuple(greater(metric, rows[0], b, tolerance) for b in rows[1:])


def worst(metric: str, rows: Sequence[str], tolerance: float = 0.0) -> tuple[Comparison, ...]:
    """The first row is below each of the others."""
    return tuple(greater(metric, a, rows[0], tolerance) for a in rows[1:])


def similar(metric: str, rows: Sequence[str], tolerance: float) -> tuple[Comparison, ...]:
    """Rows differ by less: pair by pair, since the range of several runs grows with chance alone."""
    return tuple(
        Comparison(f"{metric}: |{a} - {b}| < {tolerance:g}", ((metric, a), (metric, b)), sub, -tolerance, tolerance)
        for a, b in combinations(rows, 2)
    )


def steeper(metric: str, rows: Sequence[str], tolerance: float = 0.0) -> tuple[Comparison, ...]:
    """The step from the second row to the third is larger than the step from the first to the second."""
    first, second, third = rows
    text = f"{metric}: ({third} - {second}) - ({second} - {first}) > {0 - tolerance:g}"
    cells = tuple((metric, row) for row in rows)
    return (Comparison(text, cells, lambda a, b, c: (c - b) - (b - a), low=-tolerance),)


@dataclass(frozen=True)
class Claim:
    """A claim of a paper; with several comparisons it holds if all of them do."""

    id: str
    text: str
    published: str
    comparisons: tuple[Comparison, ...]
    scales: tuple[Scale, ...] = get_args(Scale)  # those that can decide it


class Part(TypedDict):
    """One comparison in a results file, paired over so many seeds, in points; None where there is no such number."""

    comparison: str
    seeds: int
    mean: float | None
    low: float | None  # end of the interval of the mean, as `high`
    high: float | None
    noise: float | None  # the standard deviation of the differences
    needed: int | None  # how many seeds would decide
    room: float | None  # how far the table's row `upper` is above the baseline
    effect: float | None  # the published difference
    verdict: Verdict
    reason: str  # of "cannot show", in words
    parts: "NotRequired[list[Part]]"


class Judged(Part):
    """A claim in a results file: the comparison that decides, and all of several as its `parts`."""

    id: str
    text: str
    published: str


def half_width(noise: float, seeds: int) -> float:
    """Half of a 95 % t interval of the mean of so many seeds, whose standard deviation is `noise`."""
    return float(stdtrit(seeds - 1, 0.975)) * noise / math.sqrt(seeds)


def seeds_needed(distance: float, noise: float) -> int | None:
    """How many seeds have an interval shorter than `distance` on each side; None above a thousand."""
    return next((n for n in range(MIN_SEEDS, 1001) if half_width(noise, n) < distance), None)


def compare(comparison: Comparison, values: Values, upper: str = "", published: Published = NOTHING) -> Part:
    """One comparison over the seeds that all of its cells have."""
    effect = [published.get(metric, {}).get(row) for metric, row in comparison.cells]
    cells = [values.get(metric, {}).get(row, {}) for metric, row in comparison.cells]
    seeds = sorted(set.intersection(*map(set, cells)))
    nothing = dict.fromkeys(("mean", "low", "high", "noise", "needed", "room"))
    ends = {"effect": None if None in effect else comparison.measure(*effect), "verdict": "not run", "reason": ""}
    part = cast(Part, {"comparison": comparison.text, "seeds": len(seeds), **nothing, **ends})
    if len(seeds) < MIN_SEEDS:
        return part
    differences = [comparison.measure(*(cell[seed] for cell in cells)) for seed in seeds]
    part["mean"], part["noise"] = middle, noise = mean(differences), stdev(differences)
    half = half_width(noise, len(seeds))
    part["low"], part["high"] = low, high = middle - half, middle + half
    part["verdict"] = verdict = comparison.judge(low, high)
    if comparison.baseline is not None:
        metric, baseline = comparison.baseline
        top, bottom = (values[metric].get(row, {}) for row in (upper, baseline))
        if shared := top.keys() & bottom.keys():
            part["room"] = mean(top[seed] - bottom[seed] for seed in shared)
    if verdict == "needs seeds":
        part["needed"] = seeds_needed(min(abs(middle - bound) for bound in (comparison.low, comparison.high)), noise)
        part["reason"] = too_small(part, comparison)
        part["verdict"] = "cannot show" if part["reason"] else verdict
    return part


def too_small(part: Part, comparison: Comparison) -> str:
    """Why not even `MAX_SEEDS` seeds would decide a comparison; "" if they might."""
    sought = {"room": part["room"]}
    if part["needed"] is None or part["needed"] > MAX_SEEDS:  # or it is larger here than it was published
        bounds = [bound for bound in (comparison.low, comparison.high) if math.isfinite(bound)]
        if len(bounds) == 2:
            sought["margin"] = (bounds[1] - bounds[0]) / 2
        elif part["effect"] is not None:
            sought["published difference"] = abs(part["effect"] - bounds[0])
    resolved = half_width(part["noise"] or 0.0, MAX_SEEDS)
    small = [(size, what) for what, size in sought.items() if size is not None and size < resolved]
    if not small:
        return ""
    size, what = min(small)
    return f"a {what} of {size:.2g} points is less than the {resolved:.2g} that {MAX_SEEDS} seeds resolve"


def judge(claim: Claim, values: Values, scale: Scale, upper: str = "", published: Published = NOTHING) -> Judged:
    """The entry of a claim in a results file; upper: the row with true labels, published: the numbers of the paper."""
    values = values if scale in claim.scales else {}
    parts = [compare(comparison, values, upper, published) for comparison in claim.comparisons]
    worst = min(parts, key=lambda part: (WORST_FIRST.index(part["verdict"]), -(part["needed"] or math.inf)))
    entry: Judged = {"id": claim.id, "text": claim.text, "published": claim.published, **worst}
    return entry if len(parts) == 1 else {**entry, "parts": parts}
