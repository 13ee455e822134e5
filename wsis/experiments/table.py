"""What a published table is made of: rows are changes of the settings, with the numbers of the paper."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, get_args

import yaml

from wsis.core.config import Scale, changed
from wsis.core.types import Report
from wsis.experiments.verdicts import Claim, Comparison, Judged, Values, best, judge, order, similar, steeper, worst
from wsis.methods import method

Settings = dict[str, Any]
Reports = dict[str, Report]  # by stage
COMPARISONS = {"order": order, "best": best, "worst": worst, "similar": similar, "steeper": steeper}


@dataclass(frozen=True)
class Row:
    """One run."""

    name: str
    changes: Settings = field(default_factory=dict)  # settings that differ from the preset
    published: dict[str, float] = field(default_factory=dict)  # the numbers of the paper by metric
    tiny_changes: Settings | None = None  # in place of `changes` below full scale
    method: str = ""  # where it is not that of the table

    def settings(self, scale: Scale) -> Settings:
        return self.changes if scale == "full" or self.tiny_changes is None else self.tiny_changes


@dataclass(frozen=True, kw_only=True)
class Table:
    """Rows, and the claims about them."""

    id: str  # the method, a dot, and a name that files and pages use
    title: str
    metrics: tuple[str, ...]  # figures of the reports, to be multiplied by `factor`
    rows: tuple[Row, ...]
    claims: tuple[Claim, ...]
    factor: float = 100.0
    scales: tuple[Scale, ...] = get_args(Scale)  # those whose networks have what the rows change
    upper: str = ""  # the row with true labels, which no other can be expected to surpass
    val_scenes: int | None = None  # validation scenes of the world, where its usual number blurs small differences
    measure: Callable[[Any, str], Reports] | None = None  # (settings, device) -> reports, in place of a training

    def judged(self, values: Values, scale: Scale) -> list[Judged]:
        """All claims by figures of the rows; without any, they were not run."""
        published = {m: {row.name: row.published[m] for row in self.rows if m in row.published} for m in self.metrics}
        return [judge(claim, values, scale, self.upper, published) for claim in self.claims]

    def method_of(self, row: Row) -> str:
        return row.method or self.id.split(".")[0]

    def config(self, row: Row, scale: Scale) -> Any:
        return changed(getattr(method(self.method_of(row)), scale.upper()), **row.settings(scale))


def read_tables(path: Path) -> Iterator[Table]:
    """The tables of a method from a YAML file of its name, each with what the file says in `common` of all of them.

    title, metrics, scales, upper, val_scenes: as in `Table`. full, tiny: settings of every row, at full scale and below. rows:
    by name, with `changes`, `tiny` in place of them below full scale, a `method`, and `published` numbers in the order of the
    metrics. claims: by id, with `text`, what is `published`, and a comparison or several `parts`, each one of `COMPARISONS` of
    rows by the first metric, or another `metric`.

    splits: of classes, and what the world has in place of each. Every row is then run on each of them, as "<row>, <split>", its
    numbers are those of the splits in the first metric, and rows "<row>, *" are compared on one split after the other.
    """
    tables = yaml.safe_load(path.read_text(encoding="utf-8"))
    common = tables.pop("common", {})
    for name, entry in ((name, common | entry) for name, entry in tables.items()):
        metrics, splits = tuple(entry["metrics"]), entry.get("splits", {})
        claims = [_claim(id, metrics[0], splits, claim) for id, claim in entry.get("claims", {}).items()]
        options = {"upper": entry.get("upper", ""), "val_scenes": entry.get("val_scenes")}
        options |= {"scales": tuple(entry.get("scales", get_args(Scale)))}
        rows, id = tuple(_rows(metrics, entry, splits)), f"{path.stem}.{name}"
        yield Table(id=id, title=entry["title"], metrics=metrics, rows=rows, claims=tuple(claims), **options)


def _rows(metrics: Sequence[str], entry: dict[str, Any], splits: Mapping[str, str]) -> Iterator[Row]:
    full, tiny = entry.get("full", {}), entry.get("tiny", {})
    for name, row in entry["rows"].items():
        changes, numbers = row.get("changes", {}), row.get("published", ())
        below = row.get("tiny", changes)
        if splits:
            for (split, small), number in zip(splits.items(), numbers, strict=True):
                at_full, at_tiny = full | {"split": split} | changes, tiny | {"split": small} | below
                yield Row(f"{name}, {split}", at_full, {metrics[0]: number}, at_tiny)
        else:
            published = {m: number for m, number in zip(metrics, numbers, strict=False) if number is not None}
            yield Row(name, full | changes, published, tiny | below, row.get("method", ""))


def _claim(id: str, metric: str, splits: Mapping[str, str], claim: dict[str, Any]) -> Claim:
    comparisons: list[Comparison] = []
    for split in splits or ("",):
        for part in claim.get("parts", [claim]):
            (kind,) = part.keys() & COMPARISONS.keys()
            rows = [row.replace(", *", f", {split}") for row in part[kind]]
            comparisons += COMPARISONS[kind](part.get("metric", metric), rows, part.get("tolerance", 0.0))
    # rows of splits that the claim names itself are the same each time
    return Claim(id, claim["text"], claim.get("published", "-"), tuple(dict.fromkeys(comparisons)))
