"""Tokens of a crop over the crop: a number of each as colour, and which are labelled object or background.

A square crop has n = side^2 tokens in rows from the top left; every function returns a panel for `show`. Object is green,
background vermilion, everywhere.
"""

from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.collections import PatchCollection
from matplotlib.colors import LinearSegmentedColormap, Normalize
from matplotlib.patches import Circle, Patch, Rectangle
from torch import Tensor

from wsis.viz.style import HEAT, OKABE_ITO, Panel, color_bar, draw, to_numpy, to_rgb

OBJECT, BACKGROUND = OKABE_ITO[2], OKABE_ITO[3]
FOUND = "#7FE0B8"  # lighter than OBJECT: retrieved, not given
SIGNED = LinearSegmentedColormap.from_list("background_object", [BACKGROUND, "white", OBJECT])


def draw_tokens(
    base: Any,
    values: Tensor | np.ndarray,
    *,
    unit: str = "",
    limits: tuple[float, float] | None = None,
    signed: bool = False,
    opacity: float = 0.85,
) -> Panel:
    """One number per token [n] as squares over the crop in grey: the larger the more opaque.

    base: an image or a panel, square. unit: what the bar says. limits: of the colours, by default 0 and the maximum.
    signed: positive is the colour of objects, negative that of the background, zero is clear; the limits are by default
    the largest magnitude, below and above.
    """

    def panel(axes: Axes) -> None:
        grid = _grid(values).astype(np.float64)
        top = max(float(np.abs(grid).max() if signed else grid.max()), 1e-9)
        low, high = limits or (-top if signed else 0.0, top)
        _gray(axes, base)
        strength = np.abs(grid) / max(abs(low), high) if signed else (grid - low) / (high - low)
        drawn = axes.imshow(
            grid,
            cmap=SIGNED if signed else HEAT,
            norm=Normalize(low, high),
            alpha=opacity * np.sqrt(strength.clip(0, 1)),
            extent=(*axes.get_xlim(), *axes.get_ylim()),
        )
        color_bar(axes, drawn, unit)

    return panel


def draw_labelled(
    base: Any,
    target: Tensor | np.ndarray,
    labelled: Tensor | np.ndarray,
    given: Tensor | np.ndarray | None = None,
    *,
    legend: bool = False,
) -> Panel:
    """Labelled tokens: object green, background vermilion; what is given is dark green, or grey, what is retrieved is bright.

    base: an image or a panel, square. target, labelled: [n], as in EXITS' PointLabels: whether it is object, and whether
    that is known. given: bool [n], tokens labelled by the annotation; by default none.
    legend: names of the four colours below the picture.
    """

    def panel(axes: Axes) -> None:
        draw(axes, base)
        known = to_numpy(labelled).astype(bool)
        is_object = to_numpy(target) > 0.5
        known_before = np.zeros_like(known) if given is None else to_numpy(given).astype(bool)
        _squares(axes, known & known_before & ~is_object)
        for mask, color, radius in (
            (known & ~known_before & ~is_object, BACKGROUND, 0.27),
            (known & ~known_before & is_object, FOUND, 0.27),
            (known & known_before & is_object, OBJECT, 0.42),
        ):
            _dots(axes, mask, color, radius)
        if legend:
            _legend(axes)

    return panel


def _grid(values: Tensor | np.ndarray) -> np.ndarray:
    array = to_numpy(values)
    side = round(len(array) ** 0.5) if array.ndim == 1 else 0
    if not side or side**2 != array.size:
        raise ValueError(f"tokens of a square crop are [side * side], these are {list(array.shape)}")
    return array.reshape(side, side)


def _gray(axes: Axes, base: Any) -> None:
    if callable(base):
        draw(axes, base)
    else:
        axes.imshow(to_rgb(base).mean(-1), cmap="gray", vmin=0, vmax=1)


def _places(axes: Axes, mask: np.ndarray) -> tuple[np.ndarray, float]:
    """Corners (x, y) of the tokens of a mask [n] on the picture that is drawn, and the side of a token."""
    rows, columns = _grid(mask).nonzero()
    left, right = axes.get_xlim()
    side = (right - left) / round(len(mask) ** 0.5)
    return left + side * np.stack([columns, rows], 1), side


def _squares(axes: Axes, mask: np.ndarray) -> None:
    corners, side = _places(axes, mask)
    patches = [Rectangle((x, y), side, side) for x, y in corners]
    axes.add_collection(PatchCollection(patches, facecolor="0.5", alpha=0.72, linewidth=0), autolim=False)


def _dots(axes: Axes, mask: np.ndarray, color: str, radius: float) -> None:
    corners, side = _places(axes, mask)
    patches = [Circle((x + side / 2, y + side / 2), radius * side) for x, y in corners]
    axes.add_collection(PatchCollection(patches, facecolor=color, edgecolor="white", linewidth=0.7), autolim=False)


def _legend(axes: Axes) -> None:
    names = {"click": OBJECT, "found object": FOUND, "outside": "0.5", "found background": BACKGROUND}
    patches = [Patch(facecolor=c, edgecolor="0.3", linewidth=0.5, label=n) for n, c in names.items()]
    axes.legend(
        handles=patches,
        loc="upper center",
        bbox_to_anchor=(0.5, -0.01),
        ncols=2,
        fontsize=8,
        handlelength=1,
        handleheight=1,
        handletextpad=0.4,
        columnspacing=1,
        borderaxespad=0.2,
    )
