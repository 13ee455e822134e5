"""Tables that a notebook shows as HTML and a terminal as text."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from html import escape

NOT_RUN = "not run"
TINY = "tiny"
NOTE = "tiny: small network, small made-up data; shows orderings, not comparable with the other columns"


@dataclass(frozen=True)
class Table:
    """Rows under named columns; a column named "tiny" is gray and set apart, with a note below the table."""

    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    numeric: tuple[bool, ...]
    caption: str
    note: str

    def _repr_html_(self) -> str:
        gray = {TINY: "opacity:.7;font-style:italic;border-left:1px solid;"}
        sides = ["right;font-variant-numeric:tabular-nums" if number else "left" for number in self.numeric]
        styles = [
            f"{gray.get(c, '')}text-align:{s};padding:.2em .7em" for c, s in zip(self.columns, sides, strict=True)
        ]

        def line(tag: str, cells: Iterable[str], attribute: str = "") -> str:
            pairs = zip(styles, cells, strict=True)
            return "".join(f'<{tag}{attribute} style="{style}">{escape(cell)}</{tag}>' for style, cell in pairs)

        head, body = line("th", self.columns, ' scope="col"'), "\n".join(f"<tr>{line('td', r)}</tr>" for r in self.rows)
        caption = f"<caption>{escape(self.caption)}</caption>\n" if self.caption else ""
        note = f'<p style="opacity:.7;font-size:.9em">{escape(self.note)}</p>\n' if self.note else ""
        return (
            f'<div style="overflow-x:auto">\n<table class="table wsis-table">\n{caption}'
            f"<thead><tr>{head}</tr></thead>\n<tbody>\n{body}\n</tbody>\n</table>\n{note}</div>"
        )

    def __repr__(self) -> str:
        widths = [max(map(len, cells)) for cells in zip(self.columns, *self.rows, strict=True)]

        def text(line: Sequence[str]) -> str:
            cells = zip(line, widths, self.numeric, strict=True)
            return "  ".join(c.rjust(w) if n else c.ljust(w) for c, w, n in cells).rstrip()

        rule = "  ".join("-" * w for w in widths)
        above, below = [self.caption] * bool(self.caption), [self.note] * bool(self.note)
        return "\n".join([*above, text(self.columns), rule, *map(text, self.rows), *below])


def table(rows: Sequence[Mapping[str, object]], caption: str = "", digits: int = 1) -> Table:
    """Rows as a table, with columns in the order of their first appearance; a column "tiny", of small runs, stands last.

    Floats get `digits` decimals, and a missing value reads "not run".
    """
    columns = sorted(dict.fromkeys(name for row in rows for name in row), key=lambda name: name == TINY)
    cells = tuple(tuple(_text(row.get(name), digits) for name in columns) for row in rows)
    values = [[row[name] for row in rows if row.get(name) is not None] for name in columns]
    numeric = tuple(bool(column) and all(type(v) is int or isinstance(v, float) for v in column) for column in values)
    return Table(tuple(columns), cells, numeric, caption, NOTE if TINY in columns else "")


def _text(value: object, digits: int) -> str:
    if value is None or value != value:  # nan
        return NOT_RUN
    return f"{value:.{digits}f}" if isinstance(value, float) else str(value)
