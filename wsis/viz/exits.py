"""Tokens over their square crop, n = side^2 in rows from the top left: a number of each as color, and which are labelled."""

from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.collections import PatchCollection
from matplotlib.patches import Circle, Rectangle

from wsis.viz.offsets import draw_heat
from wsis.viz.style import GREEN, VERMILION, Array, Panel, draw, legend, to_numpy

OBJECT, BACKGROUND = GREEN, VERMILION
RETRIEVED = "#7FE0B8"  # lighter than OBJECT: retrieved, not given
LEGEND = (("click", OBJECT), ("found object", RETRIEVED), ("outside", "0.5"), ("found background", BACKGROUND))


def draw_tokens(
    base: Any, values: Array, *, unit: str = "", limits: tuple[float, float] | None = None, signed: bool = False
) -> Panel:
    """One number per token [n] as squares over the crop in gray; the arguments are those of `draw_heat`."""
    return lambda axes: draw_heat(base, _grid(values), unit=unit, limits=limits, signed=signed, opacity=0.85)(axes)


def draw_labelled(
    base: Any, target: Array, labelled: Array, given: Array | None = None, *, names: bool = False
) -> Panel:
    """Labelled tokens. Object is green, dark where given and light where retrieved; background is gray or vermilion.

    target, labelled: [n], whether a token is object, and whether that is known. given: bool [n], tokens labelled by the
    annotation; by default none. names: a legend below the image.
    """

    def panel(axes: Axes) -> None:
        draw(axes, base)
        known, objects = to_numpy(labelled).astype(bool), to_numpy(target) > 0.5
        annotated = np.zeros_like(known) if given is None else to_numpy(given).astype(bool)
        _mark(axes, known & annotated & ~objects, "0.5", None)
        _mark(axes, known & ~annotated & ~objects, BACKGROUND, 0.27)
        _mark(axes, known & ~annotated & objects, RETRIEVED, 0.27)
        _mark(axes, known & annotated & objects, OBJECT, 0.42)
        if names:
            legend(axes, LEGEND, columns=2)

    return panel


def _grid(values: Array) -> np.ndarray:
    array = to_numpy(values)
    side = round(len(array) ** 0.5) if array.ndim == 1 else 0
    if not side or side**2 != array.size:
        raise ValueError(f"tokens of a square crop are [side * side], these are {list(array.shape)}")
    return array.reshape(side, side)


def _mark(axes: Axes, mask: np.ndarray, color: str, radius: float | None) -> None:
    """Dots on the tokens of a mask [n], radius in tokens, or pale squares without one."""
    left, right = axes.get_xlim()
    side = (right - left) / round(len(mask) ** 0.5)
    corners = left + side * np.argwhere(_grid(mask))[:, ::-1]
    if radius is None:
        patches, look = [Rectangle((x, y), side, side) for x, y in corners], {"alpha": 0.72, "linewidth": 0}
    else:
        patches = [Circle((x + side / 2, y + side / 2), radius * side) for x, y in corners]
        look = {"edgecolor": "white", "linewidth": 0.7}
    axes.add_collection(PatchCollection(patches, facecolor=color, **look), autolim=False)
