"""Figures of scores: where two masks agree, a precision-recall curve, a confusion matrix.

`draw_precision_recall` and `draw_confusion` draw into axes with ticks: call them as `draw_confusion(...)(axes)`, not in
`show`.
"""

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import to_rgb as rgb
from matplotlib.patheffects import withStroke

from wsis.viz.style import BLUE, GREEN, SKY, VERMILION, Array, panel, to_numpy, to_rgb

COMMON, ONLY_PREDICTED, ONLY_TRUE = GREEN, VERMILION, BLUE


@panel
def draw_overlap(axes: Axes, image: Array, predicted: Array, true: Array, *, fill: float = 0.72) -> None:
    """Two masks, bool [H, W], over the image in grey: both green, only predicted red, only true blue."""
    p, t = to_numpy(predicted).astype(bool), to_numpy(true).astype(bool)
    painted = to_rgb(image).mean(-1, keepdims=True).repeat(3, -1)
    for mask, color in ((p & t, COMMON), (p & ~t, ONLY_PREDICTED), (t & ~p, ONLY_TRUE)):
        painted[mask] = (1 - fill) * painted[mask] + fill * np.array(rgb(color))
    axes.imshow(painted.clip(0, 1))


@panel
def draw_precision_recall(axes: Axes, right: Array, positives: int) -> None:
    """The curve of detections, bool [N] by falling score, with the area and the 11 points of its envelope."""
    hits = np.cumsum(to_numpy(right).astype(bool))
    recall, precision = hits / max(positives, 1), hits / np.arange(1, len(hits) + 1)
    envelope = np.maximum.accumulate(precision[::-1])[::-1]
    steps = np.concatenate([[0.0], recall]), np.concatenate([envelope[:1], envelope])
    axes.fill_between(*steps, step="pre", color=SKY, alpha=0.35, linewidth=0, label="area")
    axes.plot(recall, precision, "o-", color=BLUE, markersize=5, label="after each prediction")
    at = np.linspace(0, 1, 11)
    reached = np.searchsorted(recall, at - 1e-9)
    heights = np.append(envelope, 0.0)[reached]
    axes.plot(at, heights, "s", color=VERMILION, markersize=4, label="11 points", clip_on=False)
    axes.set(xlim=(0, 1.02), ylim=(0, 1.06), xlabel="recall", ylabel="precision")


@panel
def draw_confusion(axes: Axes, confusion: Array, names: Sequence[str]) -> None:
    """Counts [C, C] of true class against predicted class, each row in percent of its true pixels."""
    counts = to_numpy(confusion).astype(float)
    share = 100 * counts / np.maximum(counts.sum(1, keepdims=True), 1)
    axes.imshow(share, cmap="Blues", vmin=0, vmax=100)
    halo = [withStroke(linewidth=2, foreground="white")]
    for (y, x), value in np.ndenumerate(share):
        if value >= 0.5:
            axes.text(x, y, f"{value:.0f}", ha="center", va="center", fontsize=8, path_effects=halo)
    axes.set_xticks(range(share.shape[1]), names, rotation=40, ha="right")
    axes.set_yticks(range(share.shape[0]), names)
    axes.set(xlabel="predicted", ylabel="true")
