"""Tokens over their square crop, n = side^2 in rows from the top left: a number of each as color, and which are labelled."""

import numpy as np
from matplotlib.axes import Axes
from matplotlib.collections import PatchCollection
from matplotlib.patches import Circle, Rectangle

from wsis.viz.offsets import draw_heat
from wsis.viz.style import GREEN, VERMILION, Array, Base, Panel, draw, legend, panel, to_numpy

OBJECT, BACKGROUND = GREEN, VERMILION
RETRIEVED = "#7FE0B8"  # lighter than OBJECT: retrieved, not given
LEGEND = (("click", OBJECT), ("found object", RETRIEVED), ("outside", "0.5"), ("found background", BACKGROUND))


def draw_tokens(
    base: Base, values: Array, *, unit: str = "", limits: tuple[float, float] | None = None, signed: bool = False
) -> Panel:
    """One number per token [n] as squares over the crop in gray; the arguments are those of `draw_heat`."""
    return draw_heat(base, _grid(values), unit=unit, limits=limits, signed=signed, opacity=0.85)


@panel
def draw_labelled(
    axes: Axes, base: Base, target: Array, labelled: Array, given: Array | None = None, *, names: bool = False
) -> None:
    """Labelled tokens. Object is green, dark where given and light where retrieved; background is gray or vermilion.

    target, labelled: [n], whether a token is object, and whether that is known. given: bool [n], tokens labelled by the
    annotation; by default none. names: a legend below the image.
    """
    draw(axes, base)
    known, objects = to_numpy(labelled).astype(bool), to_numpy(target) > 0.5
    annotated = np.zeros_like(known) if given is None else to_numpy(given).astype(bool)
    _mark(axes, known & annotated & ~objects, "0.5", 0)
    _mark(axes, known & ~annotated & ~objects, BACKGROUND, 0.27)
    _mark(axes, known & ~annotated & objects, RETRIEVED, 0.27)
    _mark(axes, known & annotated & objects, OBJECT, 0.42)
    if names:
        legend(axes, LEGEND, columns=2)


def _mark(axes: Axes, mask: np.ndarray, color: str, radius: float) -> None:
    """Dots on the tokens of a mask [n], radius in tokens, or pale squares with radius 0."""
    low, high = axes.get_xlim()
    size = (high - low) / round(len(mask) ** 0.5)
    corners = low + size * np.argwhere(_grid(mask))[:, ::-1]
    dots, squares = {"edgecolor": "white", "linewidth": 0.7}, {"alpha": 0.72, "linewidth": 0}
    patches = [Circle((x + size / 2, y + size / 2), radius * size) for x, y in corners]
    if not radius:
        patches = [Rectangle((x, y), size, size) for x, y in corners]
    axes.add_collection(PatchCollection(patches, facecolor=color, **(dots if radius else squares)), autolim=False)


def _grid(values: Array) -> np.ndarray:
    array = to_numpy(values)
    side = round(len(array) ** 0.5) if array.ndim == 1 else 0
    if not side or side**2 != array.size:
        raise ValueError(f"tokens of a square crop are [side * side], these are {list(array.shape)}")
    return array.reshape(side, side)
