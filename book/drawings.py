"""One drawing for each method: what it sees, trains and makes, from top to bottom: book/generated/method_<name>.svg.

Boxes are data (gray), networks (blue, with a thick line), labels (green) and losses (orange); they have the names of
the package's verbs and stages. A dashed arrow is supervision. icon.svg is what a browser shows beside a page's title.
"""

from dataclasses import dataclass
from html import escape
from math import degrees
from pathlib import Path

import numpy as np

from book.diagram import FONT, arrow, page
from wsis.data.world.drawings import fish

COLUMN, ROW, BOX, HEIGHT, SIZE = 198, 88, 160, 54, 14.5  # px
FILLS = {"data": ("#F0F0F0", "#666"), "net": ("#E6F0F7", "#0072B2"), "label": ("#E5F5EE", "#009E73")}
FILLS |= {"loss": ("#FDF0E3", "#D55E00")}


@dataclass(frozen=True)
class Box:
    """Lines of text (split by |) in a column and a row, which may be fractions."""

    text: str
    column: float
    row: float
    kind: str

    @property
    def place(self) -> tuple[float, float]:
        return (self.column + 0.5) * COLUMN, self.row * ROW + HEIGHT / 2 + 8


@dataclass(frozen=True)
class Drawing:
    """Boxes by a short name, and arrows "from > to" (--> is dashed)."""

    title: str
    boxes: dict[str, Box]
    arrows: str


BESTIE = Drawing(
    "BESTIE: tags or points of an image become cues, cues and class maps become labels, and the network refines them",
    {
        "tags": Box("images and tags", 1.5, 0, "data"),
        "pam": Box("classifier with|peak attention", 1, 1, "net"),
        "cam": Box("plain|classifier", 2, 1, "net"),
        "points": Box("or one point|for each object", 0, 2, "data"),
        "cues": Box("cues: one place|for each object", 1, 2, "label"),
        "maps": Box("class maps", 2, 2, "label"),
        "pseudo": Box("components with|exactly one cue", 1.5, 3, "label"),
        "loss": Box("objective, where|there is a label", 1.5, 4, "loss"),
        "refined": Box("refined labels, of|its own maps", 0, 4, "label"),
        "net": Box("network: class,|center, offset maps", 1.5, 5, "net"),
        "predict": Box("instances", 0, 5, "data"),
    },
    "tags > pam, tags > cam, pam > cues, cam > maps, points > cues, cues > pseudo, maps > pseudo, pseudo --> loss, "
    "loss --> net, net > refined, refined --> loss, net > predict",
)
EXITS = Drawing(
    "EXITS: four clicks become points by a walk over a transformer's similarities; a generator learns masks from them",
    {
        "clicks": Box("images and four|clicks an object", 1, 0, "data"),
        "crops": Box("crops of|single objects", 1, 1, "data"),
        "extractor": Box("extractor,|then frozen", 0, 2, "net"),
        "seeds": Box("seeds: clicks,|outside of the box", 2, 2, "label"),
        "walk": Box("transition matrix,|walk of three hops", 0, 3, "data"),
        "points": Box("retrieved points", 2, 3, "label"),
        "loss": Box("box (MIL), points,|colors (mean field)", 2, 4, "loss"),
        "generator": Box("mask generator", 1, 4, "net"),
        "masks": Box("pseudo masks", 1, 5, "label"),
        "final": Box("any instance|segmenter", 1, 6, "net"),
        "predict": Box("instances", 2, 6, "data"),
    },
    "clicks > crops, crops > extractor, crops > seeds, crops > generator, extractor > walk, seeds > walk, walk > points, "
    "points --> loss, loss --> generator, generator > masks, masks --> final, final > predict",
)
SHIFT = Drawing(
    "AttentionShift: tokens find the object of each click; their attention becomes boxes, maps and parts, anew in each step",
    {
        "clicks": Box("images and one|click an object", 1, 0, "data"),
        "vit": Box("transformer with|point tokens", 1, 1, "net"),
        "rollout": Box("attention of the|tokens, rolled out", 0, 2, "data"),
        "features": Box("features of|the patches", 2, 2, "data"),
        "boxes": Box("boxes, chosen|by MIL", 0, 3, "label"),
        "maps": Box("refined maps:|similar patches", 1, 3, "label"),
        "parts": Box("parts: prototypes|that shift", 2, 3, "label"),
        "loss": Box("classes, boxes,|points on parts", 1, 4, "loss"),
        "detector": Box("detector with|a mask head", 1, 5, "net"),
        "predict": Box("instances", 2, 5, "data"),
    },
    "clicks > vit, vit > rollout, vit > features, rollout > boxes, rollout > maps, features > maps, features > parts, "
    "maps > parts, boxes --> loss, maps --> loss, parts --> loss, loss --> detector, detector > predict",
)
SIMFORMER = Drawing(
    "SimFormer: similarity that masks of base classes teach finds the regions of classes that have only tags",
    {
        "base": Box("masks of|base classes", 0, 0, "data"),
        "images": Box("images, in pairs", 1, 0, "data"),
        "tags": Box("tags of|novel classes", 2, 0, "data"),
        "net": Box("MaskFormer:|proposals", 1, 1, "net"),
        "matched": Box("proposals matched|with base masks", 0, 2, "label"),
        "rest": Box("complement: what|no mask covers", 2, 2, "label"),
        "simnet": Box("SimNet: are two|pixels of one class?", 1, 3, "net"),
        "loss": Box("masks, tags,|similarity of pairs", 1, 4, "loss"),
        "maps": Box("its class maps,|once it is trained", 1, 5, "label"),
        "final": Box("SimFormer*:|a plain MaskFormer", 1, 6, "net"),
        "predict": Box("class maps", 2, 6, "data"),
    },
    "images > net, base --> matched, net > matched, net > rest, tags --> rest, matched --> simnet, simnet > loss, "
    "matched > loss, rest > loss, loss --> maps, maps --> final, final > predict",
)
DRAWINGS = {"bestie": BESTIE, "exits": EXITS, "attentionshift": SHIFT, "simformer": SIMFORMER}


def svg(drawing: Drawing) -> str:
    """The drawing, boxes over arrows."""
    places = {name: box.place for name, box in drawing.boxes.items()}
    shapes = []
    for words in drawing.arrows.split(", "):
        first, kind, second = words.split()
        shapes.append(_arrow(places[first], places[second], dashed=kind == "-->"))
    shapes += [_box(box) for box in drawing.boxes.values()]
    return page(3 * COLUMN, max(y for _, y in places.values()) + HEIGHT / 2 + 8, shapes, drawing.title)


def _box(box: Box) -> str:
    fill, line = FILLS[box.kind]
    (x, y), lines = box.place, box.text.split("|")
    text = "".join(
        f"<text x='{x:.0f}' y='{y + 5 + 19 * (i - (len(lines) - 1) / 2):.0f}' text-anchor='middle' font-size='{SIZE}' {FONT} "
        f"fill='#111'>{escape(line_)}</text>"
        for i, line_ in enumerate(lines)
    )
    corner = f"x='{x - BOX / 2:.0f}' y='{y - HEIGHT / 2:.0f}' width='{BOX}' height='{HEIGHT}' rx='7'"
    return f"<rect {corner} fill='{fill}' stroke='{line}' stroke-width='{2.5 if box.kind == 'net' else 1.4}'/>{text}"


def _arrow(start: tuple[float, float], end: tuple[float, float], *, dashed: bool) -> str:
    """From box to box: sideways within a row, else from the lower edge of one to the upper edge of the other."""
    (x0, y0), (x1, y1) = start, end
    if y0 == y1:
        side = 1 if x1 > x0 else -1
        x0, x1 = x0 + side * BOX / 2, x1 - side * (BOX / 2 + 5)
    else:
        down = 1 if y1 > y0 else -1
        y0, y1 = y0 + down * HEIGHT / 2, y1 - down * (HEIGHT / 2 + 5)
    return arrow(x0, y0, x1, y1, " stroke-dasharray='6 4'" if dashed else "")


def icon() -> str:
    """A fish of the embedded world as its mask, and a click on it. The mask has no lines: they lie within other parts."""
    shapes = []
    for part in fish(np.random.default_rng(0)):
        if part.kind == "oval":
            x, y, rx, ry, turn = part.geometry
            place = f"cx='{x:.2f}' cy='{y:.2f}' rx='{rx:.2f}' ry='{ry:.2f}'"
            shapes.append(f"<ellipse {place} transform='rotate({degrees(turn):.0f} {x:.2f} {y:.2f})'/>")
        elif part.kind == "poly":
            shapes.append(f"<polygon points='{' '.join(f'{v:.2f}' for v in part.geometry[1:])}'/>")
    mask = f"<g fill='#0072B2' stroke='#0072B2' stroke-width='.1' stroke-linejoin='round'>{''.join(shapes)}</g>"
    click = "<circle r='.2' fill='#fff'/><circle r='.13' fill='#D55E00'/>"
    return f"<svg xmlns='http://www.w3.org/2000/svg' viewBox='-1.15 -1 2 2'>{mask}{click}</svg>\n"


def write(out: Path) -> None:
    """The drawings of all methods, and the icon."""
    (out / "icon.svg").write_text(icon(), encoding="utf-8")
    for name, drawing in DRAWINGS.items():
        (out / f"method_{name}.svg").write_text(svg(drawing), encoding="utf-8")
