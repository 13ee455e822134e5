"""Numbers over an image: offset fields (direction as hue, length as saturation), heat maps, and tokens of a square crop.

Tokens are n = side^2 in rows from the top left: a number of each as color, or which are labelled.
"""

import numpy as np
from matplotlib.axes import Axes
from matplotlib.collections import PatchCollection
from matplotlib.colors import LinearSegmentedColormap, LogNorm, Normalize
from matplotlib.patches import Circle, Rectangle

from wsis.viz.style import GREEN, HEAT, VERMILION, Array, Base, Limits, color_bar, draw, frame, legend, panel, to_numpy

SIGNED = LinearSegmentedColormap.from_list("background_object", [VERMILION, "white", GREEN])
SHORTEST = 0.5  # px; shorter offsets have the color of this length
# OKLab (Ottosson 2020): lightness, green-red and blue-yellow to cube roots of cones, and cones to linear RGB
LAB_TO_CONES = ((1.0, 0.39633778, 0.21580376), (1.0, -0.10556135, -0.06385417), (1.0, -0.08948418, -1.29148554))
CONES_TO_RGB = (
    (4.07674166, -3.30771159, 0.23096993),
    (-1.26843800, 2.60975740, -0.34131940),
    (-0.00419609, -0.70341861, 1.70761470),
)


def oklab_to_rgb(lab: np.ndarray) -> np.ndarray:
    """OKLab [..., 3] -> sRGB in [0, 1], clipped where a screen cannot show it."""
    linear = ((lab @ np.array(LAB_TO_CONES).T) ** 3 @ np.array(CONES_TO_RGB).T).clip(0, 1)
    return np.where(linear <= 0.0031308, 12.92 * linear, 1.055 * linear ** (1 / 2.4) - 0.055)


def offset_to_color(offsets: Array, labelled: np.ndarray, radius: float) -> np.ndarray:
    """Offset field [2, H, W] (dy, dx in pixels) -> image float [H, W, 3]: hue is direction, saturation is length, full at
    `radius` pixels; white where not labelled, bool [H, W].
    """
    dy, dx = to_numpy(offsets).astype(np.float64)
    share = (np.hypot(dy, dx) / radius).clip(0, 1) ** 0.7 * labelled  # the root lifts short offsets off the white
    angle = np.arctan2(-dy, dx)  # counter-clockwise from the right, as y runs down
    lightness, chroma = 1 - 0.36 * share, 0.17 * share  # one lightness per length: no direction looks brighter
    return oklab_to_rgb(np.stack([lightness, chroma * np.cos(angle), chroma * np.sin(angle)], -1))


@panel
def draw_offsets(axes: Axes, offsets: Array, labelled: Array) -> None:
    """`offset_to_color` as a panel, with the color wheel that explains it, up to the longest labelled offset."""
    known = to_numpy(labelled).astype(bool)
    full = max(float(np.hypot(*to_numpy(offsets).astype(np.float64))[known].max(initial=0)), 1e-9)
    axes.imshow(offset_to_color(offsets, known, full))
    if known.any() and not known.all():
        axes.contour(known.astype(float), [0.5], colors="0.55", linewidths=0.7)
    frame(axes)
    wheel, (y, x) = axes.inset_axes((1.03, 0.68, 0.32, 0.32)), np.mgrid[-1:1:201j, -1:1:201j]
    wheel.imshow(offset_to_color(np.stack([y, x]), np.hypot(y, x) <= 1, 1.0), extent=(-1, 1, 1, -1))
    wheel.annotate("", (0.85, 0), (0, 0), arrowprops={"arrowstyle": "->", "lw": 1})
    wheel.set_title(f"{full:.0f} px", fontsize=8, pad=2)
    wheel.set_axis_off()


@panel
def draw_magnitude(axes: Axes, offsets: Array, labelled: Array | None = None, *, threshold: float = 2.5) -> None:
    """Lengths of the offsets in pixels, colored by their logarithm, with the line at `threshold`; white where not labelled."""
    length = np.hypot(*to_numpy(offsets).astype(np.float64))
    if labelled is not None:
        length = np.where(to_numpy(labelled).astype(bool), length, np.nan)
    highest = max(np.nan_to_num(length).max(), 2 * SHORTEST)
    image = axes.imshow(length.clip(SHORTEST), cmap=HEAT, norm=LogNorm(SHORTEST, highest))
    color_bar(axes, image, "offset length (px)")
    bar = axes.child_axes[-1]
    if highest < 1000 * SHORTEST:
        bar.yaxis.set(major_formatter="{x:g}")
        bar.set_yticks([v for v in (0.5, 1, 2, 5, 10, 20, 50, 100, 200) if v <= highest])
        bar.minorticks_off()
    frame(axes)
    inside = np.nan_to_num(length, nan=np.inf) < threshold
    if inside.any():
        for color, width in (("white", 2.6), (VERMILION, 1.5)):
            axes.contour(inside.astype(float), [0.5], colors=color, linewidths=width)


@panel
def draw_heat(
    axes: Axes,
    base: Base,
    heat: Array,
    *,
    unit: str = "",
    limits: Limits = None,
    signed: bool = False,
    opacity: float = 0.75,
) -> None:
    """A map [h, w] stretched over its image in gray: the larger a value, the more opaque, so that the rest stays visible.

    base: an image or a panel. unit: the label of the bar. limits: of the colors, by default 0 and the maximum. signed:
    positive values have the color of objects, negative ones that of the background, zero is clear; limits are then the
    largest magnitude.
    """
    values = to_numpy(heat).astype(np.float64)
    top = max(float(np.nanmax(np.abs(values) if signed else values)), 1e-9)
    low, high = limits or (-top if signed else 0.0, top)
    draw(axes, base, gray=True)
    strength = np.abs(values) / max(abs(low), high) if signed else (values - low) / (high - low)
    alpha = opacity * np.sqrt(np.nan_to_num(strength).clip(0, 1))
    look = {"cmap": SIGNED if signed else HEAT, "norm": Normalize(low, high)}
    color_bar(axes, axes.imshow(values, alpha=alpha, extent=(*axes.get_xlim(), *axes.get_ylim()), **look), unit)


OBJECT, BACKGROUND = GREEN, VERMILION
RETRIEVED = "#7FE0B8"  # lighter than OBJECT: retrieved, not given
LEGEND = (("click", OBJECT), ("found object", RETRIEVED), ("outside", "0.5"), ("found background", BACKGROUND))


@panel
def draw_tokens(
    axes: Axes, base: Base, values: Array, *, unit: str = "", limits: Limits = None, signed: bool = False
) -> None:
    """One number per token [n] as squares over the crop in gray; the arguments are those of `draw_heat`."""
    draw_heat(base, _grid(values), unit=unit, limits=limits, signed=signed, opacity=0.85)(axes)


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
