"""What a published table is made of: rows are changes of the settings, with the numbers of the paper."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, get_args

from wsis.core.config import Scale, changed
from wsis.core.types import Report
from wsis.experiments.verdicts import Claim, Judged, Values, judge
from wsis.methods import method

BUT_SMALL: tuple[Scale, ...] = ("tiny", "full")
Settings = dict[str, Any]
Reports = dict[str, Report]  # by stage
Rows = Mapping[str, Settings | tuple[Any, ...]]  # see `table`


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
    measure: Callable[[Any, str], Reports] | None = None  # (settings, device) -> reports, in place of a training

    @property
    def published(self) -> dict[str, dict[str, float]]:
        """The numbers of the paper by metric and row."""
        return {m: {row.name: row.published[m] for row in self.rows if m in row.published} for m in self.metrics}

    def judged(self, values: Values, scale: Scale) -> list[Judged]:
        """All claims by figures of the rows; without any, they were not run."""
        return [judge(claim, values, scale, self.upper, self.published) for claim in self.claims]

    def method_of(self, row: Row) -> str:
        return row.method or self.id.split(".")[0]

    def config(self, row: Row, scale: Scale) -> Any:
        return changed(getattr(method(self.method_of(row)), scale.upper()), **row.settings(scale))


def table(id: str, title: str, metrics: tuple[str, ...], rows: Rows, *claims: Claim, **values: Any) -> Table:
    """A table from its rows by name: changes, or the start of (changes, published numbers, changes at tiny scale, method).

    The numbers are in the order of the metrics; None stands for one that is not published.
    """

    def row(name: str, changes: Settings, numbers: tuple[float | None, ...] = (), *rest: Any) -> Row:
        published = {m: number for m, number in zip(metrics, numbers, strict=False) if number is not None}
        return Row(name, changes, published, *rest)

    built = tuple(row(name, *r) if isinstance(r, tuple) else row(name, r) for name, r in rows.items())
    return Table(id=id, title=title, metrics=metrics, rows=built, claims=claims, **values)
