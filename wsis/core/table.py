"""Tables that a notebook shows as HTML and a terminal as text."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape
from typing import Any

from wsis.core.config import sources

NOT_RUN = "not run"
TINY = "tiny"


@dataclass(frozen=True, kw_only=True)
class Table:
    """Rows under named columns; what notebooks and terminals show is made from the same cells.

    muted: columns in grey italics behind a rule, with `note` below the table.
    """

    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    numeric: tuple[bool, ...]
    caption: str = ""
    muted: tuple[str, ...] = ()
    note: str = ""

    def _repr_html_(self) -> str:
        def style(i: int) -> str:
            grey = "opacity:.7;font-style:italic;border-left:1px solid;" if self._muted(i) else ""
            side = "right;font-variant-numeric:tabular-nums" if self.numeric[i] else "left"
            return f' style="{grey}text-align:{side};padding:.2em .7em"'

        head = "".join(f'<th scope="col"{style(i)}>{escape(c)}</th>' for i, c in enumerate(self.columns))
        body = "\n".join(
            "<tr>" + "".join(f"<td{style(i)}>{escape(cell)}</td>" for i, cell in enumerate(row)) + "</tr>"
            for row in self.rows
        )
        caption = f"<caption>{escape(self.caption)}</caption>\n" if self.caption else ""
        note = f'<p style="opacity:.7;font-size:.9em">{escape(self.note)}</p>\n' if self.note else ""
        return (
            f'<div style="overflow-x:auto">\n<table class="table wsis-table">\n{caption}'
            f"<thead><tr>{head}</tr></thead>\n<tbody>\n{body}\n</tbody>\n</table>\n{note}</div>"
        )

    def _muted(self, i: int) -> bool:
        return self.columns[i] in self.muted

    def __repr__(self) -> str:
        lines = [self.columns, *self.rows]
        widths = [max(len(line[i]) for line in lines) for i in range(len(self.columns))]

        def text(line: Sequence[str]) -> str:
            cells = zip(line, widths, self.numeric, strict=True)
            return "  ".join(c.rjust(w) if n else c.ljust(w) for c, w, n in cells).rstrip()

        rule = "  ".join("-" * w for w in widths)
        above, below = [self.caption] * bool(self.caption), [self.note] * bool(self.note)
        return "\n".join([*above, text(self.columns), rule, *map(text, self.rows), *below])


def table(rows: Sequence[Mapping[str, Any]], caption: str = "", digits: int = 1) -> Table:
    """Rows as a table, columns in the order of their first appearance.

    Floats get `digits` decimals, a missing value reads "not run". A column named "tiny" holds results of the
    small runs: it is grey, stands last, and says that it does not compare with the other columns.
    """
    columns = tuple(dict.fromkeys(name for row in rows for name in row))
    columns = tuple(c for c in columns if c != TINY) + ((TINY,) if TINY in columns else ())
    numeric = tuple(
        any(_number(row.get(c)) for row in rows) and all(_number(row.get(c)) or row.get(c) is None for row in rows)
        for c in columns
    )
    note = "tiny: small network, small made-up data; shows orderings, not comparable with the other columns"
    return Table(
        columns=columns,
        rows=tuple(tuple(_text(row.get(c), digits) for c in columns) for row in rows),
        numeric=numeric,
        caption=caption,
        muted=(TINY,) if TINY in columns else (),
        note=note if TINY in columns else "",
    )


def _number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _text(value: Any, digits: int) -> str:
    if value is None or value != value:  # nan
        return NOT_RUN
    return f"{value:.{digits}f}" if isinstance(value, float) else str(value)


def config_table(config: Any, caption: str = "") -> Table:
    """Every setting of a config with its value, unit and source."""
    rows = [{key: row[key] for key in ("name", "value", "unit", "source")} for row in sources(config)]
    return table(rows, caption or type(config).__name__)
