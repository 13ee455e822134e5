"""Instances, points, boxes and class maps over their image, as panels for `show`.

`base` is an image or another panel, so that drawings stack up: `draw_points(draw_semantic(class_map, classes), cues,
classes)`.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.patches import Rectangle
from matplotlib.patheffects import withStroke

from wsis.core.types import BACKGROUND, IGNORE, ExtremePoints, Instances, Points
from wsis.viz.style import Array, Base, class_colors, draw, frame, instance_colors, legend, panel, to_numpy, to_rgb

Names = Sequence[str]
HALO = [withStroke(linewidth=3, foreground="white")]


@panel
def draw_instances(
    axes: Axes, image: Array, instances: Instances, classes: Names = (), *, by_class: bool = False, fill: float = 0.5
) -> None:
    """Filled masks with outlines, named by their class (where names are given) and by their score if it is below 1.

    by_class: colors of the classes, as in class maps; otherwise each instance has its own. fill: opacity of the masks.
    """
    masks, labels = to_numpy(instances.masks), to_numpy(instances.labels)
    colors = class_colors(80)[labels % 80] if by_class else instance_colors(len(masks))
    painted = to_rgb(image).copy()
    for mask, color in zip(masks, colors, strict=True):
        painted[mask] = (1 - fill) * painted[mask] + fill * color
    axes.imshow(painted)
    height, width = masks.shape[1:]
    axes.set(xlim=(-0.5, width - 0.5), ylim=(height - 0.5, -0.5))
    grid = np.arange(-1, width + 1), np.arange(-1, height + 1)
    for mask, color, label, score in zip(masks, colors, labels, instances.scores.tolist(), strict=True):
        if mask.any():
            padded = np.pad(mask.astype(float), 1)  # closes outlines at the border
            axes.contour(*grid, padded, [0.5], colors=[color], linewidths=1.4, path_effects=HALO)
        words = [classes[int(label)]] if classes else []
        words += [f"{score:.2f}".lstrip("0")] if score < 1 else []
        if words and mask.any():
            rows, columns = mask.nonzero()
            _label(axes, columns[rows == rows.min()].mean(), rows.min(), " ".join(words), color)


def _label(axes: Axes, x: float, y: float, text: str, color: np.ndarray) -> None:
    ink = "black" if color @ (0.299, 0.587, 0.114) > 0.5 else "white"  # by luma
    box = {"boxstyle": "round,pad=0.18,rounding_size=0.3", "facecolor": color, "edgecolor": "white", "linewidth": 0.6}
    width, height = (abs(high - low) for low, high in (axes.get_xlim(), axes.get_ylim()))
    side = "left" if x < 0.2 * width else "right" if x > 0.8 * width else "center"  # so that no letter leaves the image
    look: dict[str, Any] = {"color": ink, "fontsize": 7, "ha": side, "va": "bottom", "bbox": box, "clip_on": True}
    axes.text(np.clip(x, 0.03 * width, 0.97 * width), max(y, 0.06 * height), text, **look)


@panel
def draw_points(axes: Axes, base: Base, points: Points, classes: Names = (), *, size: float = 10) -> None:
    """Clicks or cues as crosses in their classes' colors, with a legend; cues of low score are smaller. size: in points."""
    draw(axes, base)
    xy, labels, scores = (to_numpy(v) for v in (points.xy, points.labels, points.scores))
    colors = class_colors(labels.max(initial=0) + 1)
    for (x, y), label, score in zip(xy, labels, scores, strict=True):
        side = size * (0.55 + 0.45 * score)
        for ink, thick in (("black", 5.2), ("white", 3.8), (colors[label], 2.2)):
            axes.plot(x, y, "+", color=ink, markersize=side + thick / 2, markeredgewidth=thick)
    if classes:
        legend(axes, [(classes[int(c)], colors[int(c)]) for c in np.unique(labels)])


@panel
def draw_extreme_points(axes: Axes, base: Base, clicked: ExtremePoints, classes: Names = ()) -> None:
    """The four clicks of each object as `draw_points` draws them, and the box that they span."""
    clicks = Points.make(clicked.xy, clicked.labels.repeat_interleave(4))
    draw_points(draw_boxes(base, clicked.boxes, clicked.labels), clicks, classes)(axes)


@panel
def draw_boxes(axes: Axes, base: Base, boxes: Array, labels: Array | None = None) -> None:
    """Boxes, xyxy half-open pixels [K, 4], in the colors of their classes, else one each."""
    draw(axes, base)
    colors = instance_colors(len(boxes)) if labels is None else class_colors(80)[to_numpy(labels) % 80]
    for box, color in zip(to_numpy(boxes), colors, strict=True):
        outline_box(axes, box, ec=color, lw=1.8, path_effects=HALO)


def outline_box(axes: Axes, box: Sequence[float], **look: Any) -> None:
    """A box, xyxy half-open pixels, as lines between pixels."""
    x0, y0, x1, y1 = box
    axes.add_patch(Rectangle((x0 - 0.5, y0 - 0.5), x1 - x0, y1 - y0, fill=False, **look))


@panel
def draw_semantic(
    axes: Axes, class_map: Array, classes: Names = (), image: Array | None = None, *, fill: float = 0.62
) -> None:
    """A class map [H, W] with a legend of what occurs; 0 = background (the image, or white), 255 = no label (hatched).

    classes: the C names of 1..C. fill: the opacity of the colors.
    """
    values = to_numpy(class_map).astype(int)
    present = [c for c in np.unique(values).tolist() if c not in (BACKGROUND, IGNORE)]
    colors = np.concatenate([np.ones((1, 3)), class_colors(max(present, default=0))])
    ignored = values == IGNORE
    painted = colors[np.where(ignored, BACKGROUND, values)]
    if image is not None:
        below = to_rgb(image)
        mixed = (fill * painted + (1 - fill) * below).clip(0, 1)
        painted = np.where((values == BACKGROUND)[..., None], below, mixed)
    axes.imshow(painted)
    if ignored.any():
        axes.contourf(ignored.astype(float), [0.5, 1.5], colors=[(0.75, 0.75, 0.75)], hatches=["////"])
        axes.set(xlim=(-0.5, values.shape[1] - 0.5), ylim=(values.shape[0] - 0.5, -0.5))
    if image is None:
        frame(axes)
    if classes:
        entries = [(classes[int(c) - 1], colors[int(c)]) for c in present]
        legend(axes, entries, hatched="no label" if ignored.any() else "")


@panel
def zoom(axes: Axes, base: Base, xy: Array, room: float = 12) -> None:
    """The square part of an image or panel around points [N, 2] (pixels), with `room` pixels on each side."""
    draw(axes, base)
    low, high = to_numpy(xy).min(0), to_numpy(xy).max(0)
    (x, y), half = (low + high) / 2, (high - low).max() / 2 + room
    axes.set(xlim=(x - half, x + half), ylim=(y + half, y - half))
