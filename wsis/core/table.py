"""Tables that a notebook shows as HTML and a terminal as text."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape
from typing import Any

NOT_RUN = "not run"
TINY = "tiny"
NOTE = "tiny: small network, small made-up data; shows orderings, not comparable with the other columns"


@dataclass(frozen=True, kw_only=True)
class Table:
    """Rows under named columns; a column named "tiny" is gray and set apart, with a note below the table."""

    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    numeric: tuple[bool, ...]
    caption: str = ""

    @property
    def note(self) -> str:
        return NOTE if TINY in self.columns else ""

    def _repr_html_(self) -> str:
        def style(name: str, number: bool) -> str:
            gray = "opacity:.7;font-style:italic;border-left:1px solid;" if name == TINY else ""
            side = "right;font-variant-numeric:tabular-nums" if number else "left"
            return f' style="{gray}text-align:{side};padding:.2em .7em"'

        styles = [style(*column) for column in zip(self.columns, self.numeric, strict=True)]
        head = "".join(f'<th scope="col"{s}>{escape(c)}</th>' for s, c in zip(styles, self.columns, strict=True))
        lines = ("".join(f"<td{s}>{escape(c)}</td>" for s, c in zip(styles, row, strict=True)) for row in self.rows)
        body = "\n".join(f"<tr>{line}</tr>" for line in lines)
        caption = f"<caption>{escape(self.caption)}</caption>\n" if self.caption else ""
        note = f'<p style="opacity:.7;font-size:.9em">{escape(self.note)}</p>\n' if self.note else ""
        return (
            f'<div style="overflow-x:auto">\n<table class="table wsis-table">\n{caption}'
            f"<thead><tr>{head}</tr></thead>\n<tbody>\n{body}\n</tbody>\n</table>\n{note}</div>"
        )

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
    """Rows as a table, with columns in the order of their first appearance; a column "tiny", of small runs, stands last.

    Floats get `digits` decimals, and a missing value reads "not run".
    """
    names = dict.fromkeys(name for row in rows for name in row)
    columns = tuple(sorted(names, key=lambda name: name == TINY))
    values = {name: [row.get(name) for row in rows] for name in columns}
    return Table(
        columns=columns,
        rows=tuple(tuple(_text(row.get(name), digits) for name in columns) for row in rows),
        numeric=tuple({_number(v) for v in values[name] if v is not None} == {True} for name in columns),
        caption=caption,
    )


def _number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _text(value: Any, digits: int) -> str:
    if value is None or value != value:  # nan
        return NOT_RUN
    return f"{value:.{digits}f}" if isinstance(value, float) else str(value)
