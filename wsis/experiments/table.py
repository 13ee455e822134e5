"""What a published table is made of: rows are changes of the settings, with the numbers of the paper in percent."""

from dataclasses import dataclass, field
from typing import Any

from wsis.core.config import Scale, changed
from wsis.experiments.verdicts import Claim
from wsis.methods import method


@dataclass(frozen=True, kw_only=True)
class Row:
    """One run. changes: settings that differ from the preset; tiny_changes: in their place at tiny scale.

    method: where it is another than the table's.
    """

    name: str
    changes: dict[str, Any] = field(default_factory=dict)
    published: dict[str, float] = field(default_factory=dict)
    tiny_changes: dict[str, Any] | None = None
    method: str = ""

    def settings(self, scale: Scale) -> dict[str, Any]:
        return self.changes if scale == "full" or self.tiny_changes is None else self.tiny_changes


@dataclass(frozen=True, kw_only=True)
class Table:
    """What varies is in the rows. metrics: figures of the method's reports, fractions there, percent here."""

    id: str
    method: str
    title: str
    metrics: tuple[str, ...]
    rows: tuple[Row, ...]
    claims: tuple[Claim, ...]

    def method_of(self, row: Row) -> str:
        """The method of a row."""
        return row.method or self.method

    def config(self, row: Row, scale: Scale) -> Any:
        """The settings of a row."""
        package = method(self.method_of(row))
        return changed(package.FULL if scale == "full" else package.TINY, **row.settings(scale))
