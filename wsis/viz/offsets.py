"""Offset fields and heat maps: direction as hue, length as saturation, and the lengths themselves."""

from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import Normalize
from torch import Tensor

from wsis.viz.style import HEAT, Map, Panel, color_bar, draw, frame, oklab_to_rgb, to_numpy, to_rgb


def offset_to_color(
    offsets: Tensor | np.ndarray, labelled: Tensor | np.ndarray | None = None, radius: float | None = None
) -> np.ndarray:
    """Offset field [2, H, W] (dy, dx pixels) -> picture float [H, W, 3]: hue = direction, colour = length.

    labelled: bool [H, W], white elsewhere; by default where the offset is not zero.
    radius: the length in pixels of full saturation, by default the longest labelled offset.
    """
    dy, dx = to_numpy(offsets).astype(np.float64)
    length = np.hypot(dy, dx)
    known = length > 0 if labelled is None else to_numpy(labelled).astype(bool)
    full = radius or max(length[known].max(initial=0), 1e-9)
    share = (length / full).clip(0, 1) ** 0.7 * known  # the root lifts short offsets off the white
    angle = np.arctan2(-dy, dx)  # counter-clockwise from the right, as y runs down
    lightness, chroma = (1 - 0.36 * share, 0.17 * share)  # one lightness per length: no direction looks brighter
    return oklab_to_rgb(np.stack([lightness, chroma * np.cos(angle), chroma * np.sin(angle)], -1))


def draw_offsets(
    offsets: Tensor | np.ndarray, labelled: Tensor | np.ndarray | None = None, radius: float | None = None
) -> Panel:
    """`offset_to_color` as a panel, with the colour wheel that explains it; white = unlabelled."""

    def panel(axes: Axes) -> None:
        dy, dx = to_numpy(offsets).astype(np.float64)
        known = np.hypot(dy, dx) > 0 if labelled is None else to_numpy(labelled).astype(bool)
        full = radius or float(np.hypot(dy, dx)[known].max(initial=0))
        axes.imshow(offset_to_color(offsets, known, full))
        if known.any() and not known.all():
            axes.contour(known.astype(float), [0.5], colors="0.55", linewidths=0.7)
        frame(axes)
        _wheel(axes.inset_axes((1.03, 0.68, 0.32, 0.32)), full)

    return panel


def _wheel(axes: Axes, radius: float) -> None:
    y, x = np.mgrid[-1:1:201j, -1:1:201j]
    axes.imshow(offset_to_color(np.stack([y, x]), np.hypot(y, x) <= 1, 1.0), extent=(-1, 1, 1, -1))
    axes.annotate("", (0.85, 0), (0, 0), arrowprops={"arrowstyle": "->", "lw": 1})
    axes.set_title(f"{radius:.0f} px", fontsize=8, pad=2)
    axes.set_axis_off()


def magnitude_map(offsets: Tensor | np.ndarray) -> np.ndarray:
    """Length of the offsets in pixels: [2, H, W] -> float [H, W]."""
    return np.hypot(*to_numpy(offsets).astype(np.float64))


def draw_magnitude(
    offsets: Tensor | np.ndarray,
    labelled: Tensor | np.ndarray | None = None,
    *,
    log: bool = True,
    threshold: float | None = 2.5,
) -> Panel:
    """Lengths of the offsets in pixels, with the iso-line at `threshold`, inside which centers are sought.

    labelled: bool [H, W]; white elsewhere. log: logarithmic colours, so that short offsets can be told apart.
    """

    def panel(axes: Axes) -> None:
        length = magnitude_map(offsets)
        if labelled is not None:
            length = np.where(to_numpy(labelled).astype(bool), length, np.nan)
        Map(values=length.clip(0.5) if log else length, unit="offset length (px)", log=log)(axes)
        frame(axes)
        if threshold is not None:
            inside = np.nan_to_num(length, nan=np.inf) < threshold
            if inside.any():
                axes.contour(inside.astype(float), [0.5], colors="white", linewidths=2.6)
                axes.contour(inside.astype(float), [0.5], colors="#D55E00", linewidths=1.5)

    return panel


def draw_heat(
    base: Any,
    heat: Tensor | np.ndarray,
    *,
    unit: str = "",
    limits: tuple[float, float] | None = None,
    opacity: float = 0.75,
) -> Panel:
    """A heat map [H, W] over its image in grey: the warmer the more opaque, so that cold places stay visible.

    base: an image or a panel. unit: what the bar says. limits: of the colours, by default 0 and the maximum.
    """

    def panel(axes: Axes) -> None:
        values = to_numpy(heat).astype(np.float64)
        norm = Normalize(*(limits or (0, max(float(np.nanmax(values)), 1e-9))), clip=True)
        if callable(base):
            draw(axes, base)
        else:
            axes.imshow(to_rgb(base).mean(-1), cmap="gray", vmin=0, vmax=1)
        alpha = opacity * np.sqrt(norm(np.nan_to_num(values)).filled(0))
        height, width = values.shape
        drawn = axes.imshow(values, cmap=HEAT, norm=norm, alpha=alpha, extent=(-0.5, width - 0.5, height - 0.5, -0.5))
        color_bar(axes, drawn, unit)

    return panel
