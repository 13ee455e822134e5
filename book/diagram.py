"""The rooms of the package as a drawing, made from the imports: book/generated/rooms.svg and rooms.md.

A room stands one floor above the highest room that it imports. An arrow leads from a room to each one that it imports,
unless a chain of other arrows says it already.
"""

import ast
from html import escape
from pathlib import Path

PACKAGE = Path(__file__).resolve().parent.parent / "wsis"
DOOR = "__main__"
WIDTH, FLOOR, BOX, HEIGHT = 600, 96, 150, 46  # px
FONT = "font-family='system-ui, sans-serif'"
TIP = (
    "<marker id='tip' viewBox='0 0 8 8' refX='5' refY='4' markerWidth='7' markerHeight='7' orient='auto'>"
    "<path d='M0,0 L8,4 L0,8 z' fill='#666'/></marker>"
)


def imports(package: Path = PACKAGE) -> dict[str, set[str]]:
    """{room: the other rooms that its files import}, in functions and for type checking, too."""
    rooms = sorted(p.name for p in package.iterdir() if (p / "__init__.py").exists())
    found: dict[str, set[str]] = {room: set() for room in [*rooms, DOOR]}
    for path in package.rglob("*.py"):
        room = path.relative_to(package).parts[0].removesuffix(".py")
        if room not in found:
            continue
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            modules = [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            modules += [f"{node.module}.{a.name}" for a in node.names] if modules == [package.name] else []
            modules += [a.name for a in node.names] if isinstance(node, ast.Import) else []
            parts = (m.split(".") for m in modules)
            found[room] |= {p[1] for p in parts if p[0] == package.name and len(p) > 1 and p[1] in found}
    return {room: others - {room} for room, others in found.items()}


def floors(graph: dict[str, set[str]]) -> dict[str, int]:
    """{room: its floor}; the ground floor imports nothing. Raises ValueError if the imports go round in a circle."""
    level: dict[str, int] = {}
    while len(level) < len(graph):
        free = [room for room in graph if room not in level and graph[room] <= level.keys()]
        if not free:
            raise ValueError(f"these rooms import each other: {', '.join(sorted(graph.keys() - level.keys()))}")
        level |= {room: 1 + max((level[other] for other in graph[room]), default=-1) for room in free}
    return level


def reduced(graph: dict[str, set[str]]) -> set[tuple[str, str]]:
    """The arrows that no chain of others implies."""

    def below(room: str) -> set[str]:
        return graph[room].union(*(below(other) for other in graph[room]))

    return {(a, b) for a in graph for b in graph[a] if not any(b in below(c) for c in graph[a] - {b})}


def svg(graph: dict[str, set[str]]) -> str:
    """The drawing, with the door at the top and the ground floor at the bottom."""
    level, place, shapes = floors(graph), {}, []
    top = max(level.values())
    for floor in range(top + 1):
        row = [room for room in graph if level[room] == floor]
        for i, room in enumerate(row):
            place[room] = (WIDTH * (i + 0.5) / len(row), FLOOR * (top - floor) + HEIGHT / 2 + 12)
    for a, b in sorted(reduced(graph)):
        (x0, y0), (x1, y1) = place[a], place[b]
        shapes.append(arrow(x0, y0 + HEIGHT / 2, x1, y1 - HEIGHT / 2 - 5))
    for room, (x, y) in place.items():
        shapes.append(
            f"<rect x='{x - BOX / 2:.0f}' y='{y - HEIGHT / 2:.0f}' width='{BOX}' height='{HEIGHT}' rx='7' fill='#E6F0F7' "
            f"stroke='#0072B2'/><text x='{x:.0f}' y='{y + 6:.0f}' text-anchor='middle' font-size='19' {FONT} "
            f"fill='#111'>{escape(room)}</text>"
        )
    return page(WIDTH, FLOOR * top + HEIGHT + 24, shapes, "The rooms of the package and what they import")


def arrow(x0: float, y0: float, x1: float, y1: float, dash: str = "") -> str:
    """An arrow between two places: straight on a level, else it leaves and arrives upright."""
    bend = (y1 - y0) / 2
    curve = f"C{x0:.0f},{y0 + bend:.0f} {x1:.0f},{y1 - bend:.0f} {x1:.0f},{y1:.0f}" if bend else f"L{x1:.0f},{y1:.0f}"
    look = f"fill='none' stroke='#666' stroke-width='1.6'{dash} marker-end='url(#tip)'"
    return f"<path d='M{x0:.0f},{y0:.0f} {curve}' {look}/>"


def page(width: float, height: float, shapes: list[str], title: str) -> str:
    """A drawing of `width` x `height` px on white."""
    size = f"viewBox='0 0 {width:.0f} {height:.0f}' width='{width:.0f}' height='{height:.0f}'"
    head = f"<svg xmlns='http://www.w3.org/2000/svg' {size} role='img'><title>{escape(title)}</title>"
    ground = "<rect width='100%' height='100%' fill='white'/>"
    return "\n".join([head, f"<defs>{TIP}</defs>", ground, *shapes, "</svg>\n"])


def write(out: Path) -> None:
    """rooms.svg, and rooms.md: each room with what it is for, which is the first sentence of its docstring."""
    out.mkdir(parents=True, exist_ok=True)
    graph = imports()
    level = floors(graph)
    (out / "rooms.svg").write_text(svg(graph), encoding="utf-8")
    lines = ["| room | what it is for | imports |", "|---|---|---|"]
    for room in sorted(graph.keys() - {DOOR}, key=lambda room: level[room]):
        words = ast.get_docstring(ast.parse((PACKAGE / room / "__init__.py").read_text(encoding="utf-8"))) or ""
        sentence = " ".join(words.split("\n\n")[0].split())
        lines.append(f"| `{room}` | {sentence} | {', '.join(sorted(graph[room], key=level.__getitem__)) or '-'} |")
    (out / "rooms.md").write_text("\n".join(lines) + "\n", encoding="utf-8")
