"""Tables that a notebook shows as HTML and a terminal as text."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path
from string import Template

NOT_RUN, NO_VALUE = "not run", "-"
HTML = Template(Path(__file__).with_suffix(".html").read_text(encoding="utf-8"))


@dataclass(frozen=True)
class Table:
    """Rows of text under named columns, of which the `numeric` ones stand on the right."""

    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    numeric: tuple[bool, ...]
    caption: str

    def _repr_html_(self) -> str:
        sides = ["right;font-variant-numeric:tabular-nums" if number else "left" for number in self.numeric]

        def line(tag: str, cells: Iterable[str]) -> str:
            pairs = zip(sides, cells, strict=True)
            return "".join(f'<{tag} style="text-align:{s};padding:.2em .7em">{escape(c)}</{tag[:2]}>' for s, c in pairs)

        body = "\n".join(f"<tr>{line('td', row)}</tr>" for row in self.rows)
        caption = f"<caption>{escape(self.caption)}</caption>\n" if self.caption else ""
        return HTML.substitute(caption=caption, head=line('th scope="col"', self.columns), body=body)

    def __repr__(self) -> str:
        widths = [max(map(len, cells)) for cells in zip(self.columns, *self.rows, strict=True)]

        def text(line: Sequence[str]) -> str:
            cells = zip(line, widths, self.numeric, strict=True)
            return "  ".join(c.rjust(w) if n else c.ljust(w) for c, w, n in cells).rstrip()

        rule = "  ".join("-" * w for w in widths)
        return "\n".join([*[self.caption] * bool(self.caption), text(self.columns), rule, *map(text, self.rows)])


def table(rows: Sequence[Mapping[str, object]], caption: str = "", digits: int = 1) -> Table:
    """Rows as a table, with columns in the order of their first appearance; floats get `digits` decimals, and a missing
    value reads "not run". Give "-" where there is none to run; its column can still be one of numbers.
    """
    columns = list(dict.fromkeys(name for row in rows for name in row))
    cells = tuple(tuple(_text(row.get(name), digits) for name in columns) for row in rows)
    values = [[value for row in rows if (value := row.get(name)) not in (None, NO_VALUE)] for name in columns]
    numeric = tuple(bool(column) and all(type(v) is int or isinstance(v, float) for v in column) for column in values)
    return Table(tuple(columns), cells, numeric, caption)


def _text(value: object, digits: int) -> str:
    if value is None or value != value:  # nan
        return NOT_RUN
    return f"{value:.{digits}f}" if isinstance(value, float) else str(value)
