"""All claims at a glance: one line for each comparison, what was published beside what was measured.

book/generated/glance.md opens the results page: tiles that count the verdicts, each of which shows its claims alone when it is
chosen, then a plot for each method. A mark stands at the published difference, a point with its interval at ours, in the color
of the verdict; a pale bar is the room, beyond which no method can get: the row with true labels minus the baseline.
"""

import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from html import escape
from typing import Any, get_args

from docutils.nodes import make_id

from wsis.experiments import find
from wsis.experiments.results import in_words
from wsis.experiments.table import Table
from wsis.experiments.verdicts import Judged, Part, Verdict
from wsis.methods import METHODS

WIDTH, HEIGHT, FARTHEST = 240, 22, 30.0  # px, px, points
EXPLAINED: dict[Verdict, str] = {
    "holds": "of the measured claims hold",
    "contradicted": "are contradicted",
    "needs seeds": "need more seeds",
    "cannot show": "cannot be seen at this size",
    "not run": "were not run",
}
TITLES = {"bestie": "BESTIE", "exits": "EXITS", "attentionshift": "AttentionShift", "simformer": "SimFormer"}
Result = Mapping[str, Any]


@dataclass(frozen=True)
class Line:
    """One comparison at one scale; `first`: of its claim."""

    table: Table
    entry: Judged
    part: Part
    where: str
    first: bool


def glance(results: Iterable[Result]) -> str:
    """The top of the results page as Markdown."""
    stored: dict[str, list[Result]] = {}
    for result in results:
        stored.setdefault(result["table"], []).append(result)
    sections, counts = [], dict.fromkeys(get_args(Verdict), 0)
    for method in METHODS:
        lines = [
            line
            for table in find("all")
            if table.id.startswith(f"{method}.")
            for line in _lines(table, stored.get(table.id, []))
        ]
        for line in lines:
            counts[line.entry["verdict"]] += line.first
        sections.append(_section(method, lines))
    tiles = {"all": f"<b>{sum(counts.values())}</b> claims"}
    tiles |= {_css(verdict): f"<b>{number}</b> {EXPLAINED[verdict]}" for verdict, number in counts.items()}
    legend = "".join(f"<span>{mark} {words}</span>" for mark, words in LEGEND.items())
    choices = _choice("verdict", tiles) + _choice("method", {"all": "all methods", **TITLES})
    top = f'{choices}<p class="key">{legend}</p>'
    return f'```{{raw}} html\n<div class="glance">{"".join([top, *sections])}</div>\n```\n'


def _choice(name: str, options: Mapping[str, str]) -> str:
    """Radio buttons, of which "all" is chosen; the style sheet hides the lines that another one leaves out."""
    buttons = (
        f'<label class="{key}"><input type="radio" name="{name}" id="{name}-{key}"'
        f"{' checked' * (key == 'all')}> {words}</label>"
        for key, words in options.items()
    )
    return f'<fieldset class="{name}s"><legend>{name}</legend>{"".join(buttons)}</fieldset>'


def _lines(table: Table, results: list[Result]) -> Iterator[Line]:
    """The comparisons of a table's claims, as they were judged in each results file; not run where there is none."""
    for blank in table.judged({}, "full"):
        judged = [(r["scale"], e) for r in results for e in r["claims"] if e["id"] == blank["id"]]
        for where, entry in [(w, e) for w, e in judged if e["verdict"] != "not run"] or [("", blank)]:
            for i, part in enumerate(entry.get("parts", [entry])):
                yield Line(table, entry, part, where, i == 0)


def _section(method: str, lines: list[Line]) -> str:
    """The plot of one method: its lines on one axis."""
    values = [abs(v) for line in lines for v in (line.part["effect"], line.part["mean"]) if v is not None]
    far = min(FARTHEST, 1.2 * max([2.0, *values]))
    rows = "".join(_row(line, far) for line in lines)
    ticks = _svg("".join(_tick(v, far) for v in _round_numbers(far)), f"axis from {-far:.0f} to {far:.0f} points")
    head = "".join(f'<th scope="col">{title}</th>' for title in ("verdict", "claim", f"points{ticks}", "at"))
    return (
        f'<section class="{method}"><h2 class="at-a-glance">{TITLES[method]}</h2><table class="table claims-plot">'
        f"<thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table></section>"
    )


def _row(line: Line, far: float) -> str:
    several = len(line.entry.get("parts", [])) > 1
    verdict = f'<span class="verdict {_css(line.part["verdict"])}">{in_words(line.part)}</span>'
    link = f'<a href="#{make_id(line.table.id)}">{escape(line.entry["id"])}</a>'
    words = f"{link} {escape(line.entry['text'])}" if line.first else ""
    words += f'<small class="part">{escape(line.part["comparison"])}</small>' if several else ""
    words += f'<small class="part">{line.part["reason"]}</small>' if line.part["reason"] else ""
    style = f"of-{_css(line.entry['verdict'])}" + " more" * (not line.first)
    return (
        f'<tr class="{style}"><td>{verdict}</td><td>{words}</td><td>{_plot(line, far)}</td><td>{line.where}</td></tr>'
    )


def _plot(line: Line, far: float) -> str:
    """Room, zero, published mark and measured interval of one line."""
    x, part, shapes, words = _scale(far), line.part, [], []
    middle = HEIGHT / 2
    if part["room"] is not None:
        left, right = sorted((x(0), x(part["room"])))
        shapes.append(f'<rect class="room" x="{left:.1f}" y="3" width="{right - left:.1f}" height="{HEIGHT - 6}"/>')
        words.append(f"room {part['room']:+.1f}")
    shapes.append(f'<line class="zero" x1="{x(0):.1f}" x2="{x(0):.1f}" y1="0" y2="{HEIGHT}"/>')
    if part["mean"] is not None and part["low"] is not None and part["high"] is not None:
        span = f'x1="{x(part["low"]):.1f}" x2="{x(part["high"]):.1f}" y1="{middle}" y2="{middle}"'
        shapes.append(f'<line class="ours {_css(part["verdict"])}" {span}/>')
        shapes.append(f'<circle class="ours {_css(part["verdict"])}" cx="{x(part["mean"]):.1f}" cy="{middle}" r="4"/>')
        words.append(f"measured {part['mean']:+.1f} [{part['low']:+.1f}, {part['high']:+.1f}]")
    if part["effect"] is not None:
        px = x(part["effect"])
        shapes.append(f'<path class="published" d="M{px:.1f},{middle - 6} l5,6 l-5,6 l-5,-6 z"/>')
        words.insert(0, f"published {part['effect']:+.1f}")
    return _svg("".join(shapes), ", ".join(words) or "no number")


def _scale(far: float) -> Callable[[float], float]:
    """Points to pixels; what is farther stands at the end."""
    return lambda value: WIDTH / 2 + max(-1.0, min(1.0, value / far)) * (WIDTH / 2 - 8)


def _round_numbers(far: float) -> list[float]:
    step = next(s for s in (1, 2, 5, 10, 20) if far / s < 4)
    return [step * k for k in range(-math.floor(far / step), math.floor(far / step) + 1)]


def _tick(value: float, far: float) -> str:
    return f'<text x="{_scale(far)(value):.1f}" y="15" text-anchor="middle">{value:+g}</text>'.replace("+0<", "0<")


def _svg(shapes: str, words: str) -> str:
    size = f'viewBox="0 0 {WIDTH} {HEIGHT}" width="{WIDTH}" height="{HEIGHT}"'
    return f'<svg {size} role="img" aria-label="{escape(words)}"><title>{escape(words)}</title>{shapes}</svg>'


def _css(verdict: Verdict) -> str:
    return verdict.replace(" ", "-")


def _mark(shape: str) -> str:
    return f'<svg viewBox="0 0 24 14" width="24" height="14" aria-hidden="true">{shape}</svg>'


LEGEND = {
    _mark('<path class="published" d="M12,1 l5,6 l-5,6 l-5,-6 z"/>'): "published",
    _mark('<line class="ours" x1="2" x2="22" y1="7" y2="7"/><circle class="ours" cx="12" cy="7" r="4"/>'): (
        "ours, with the 95 % interval over seeds"
    ),
    _mark('<rect class="room" x="2" y="2" width="20" height="10"/>'): "room: true labels minus the baseline",
}
