"""Charts of numbers: training curves, claims with their noise, and scores.

`draw_precision_recall` and `draw_confusion` draw into axes with ticks: call them as `draw_confusion(...)(axes)`, not in
`show`.
"""

import csv
import textwrap
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import to_rgb as rgb
from matplotlib.figure import Figure
from matplotlib.patches import Patch
from matplotlib.patheffects import withStroke

from wsis.core.errors import DataError
from wsis.viz.style import BLUE, GREEN, LEGEND, SKY, VERMILION, Array, headline, panel, styled, to_numpy, to_rgb

Log = dict[str, np.ndarray]


def read_log(path: str | Path) -> Log:
    """The columns of a run's log: step, seconds, lr and the loss terms, float64 [steps] each.

    Raises DataError for a missing or empty file, or a value that is no number (with its line).
    """
    try:
        with Path(path).open(newline="") as file:
            lines = list(csv.reader(file))
    except OSError as e:
        raise DataError(f"{path}: cannot be read ({e.strerror}); is this the folder of a run?") from e
    if len(lines) < 2 or "step" not in lines[0]:
        raise DataError(f"{path}: holds no steps yet; it starts with a header that names the column step")
    rows = []
    for number, line in enumerate(lines[1:], start=2):
        try:
            rows.append([float(value) for _, value in zip(lines[0], line, strict=True)])
        except ValueError:
            raise DataError(f"{path}: line {number} is damaged: {','.join(line)[:60]!r}; remove it") from None
    return dict(zip(lines[0], np.array(rows).T, strict=True))


def training_curves(logs: Mapping[str, Log], terms: Sequence[str], *, title: str = "", window: int = 20) -> Figure:
    """Loss terms over the steps, one plot per term, one line per run.

    logs: {name of the run: what `read_log` returned}. window: rows of the running mean drawn over the pale raw values.
    """
    with styled():
        size = (2.9 * len(terms) + 0.4, 2.7)
        figure, axes = plt.subplots(1, len(terms), figsize=size, squeeze=False, layout="constrained")
        for ax, term in zip(axes[0], terms, strict=True):
            for run, log in ((run, log) for run, log in logs.items() if term in log):
                sums, count = np.convolve(log[term], np.ones(window)), len(log[term])
                mean = sums[:count] / np.arange(1, count + 1).clip(max=window)
                line = ax.plot(log["step"], mean, label=run, linewidth=1.8)[0]
                ax.plot(log["step"], log[term], color=line.get_color(), alpha=0.2, linewidth=0.8, zorder=0)
            ax.set(title=term, xlabel="step", ylabel="loss")
        if len(logs) > 1:
            axes[0, -1].legend()
        return headline(figure, title)


COLORS = {"holds": "#1b7f4b", "contradicted": "#c0392b", "needs seeds": "#b8860b", "cannot show": "0.45"}
ROOM, BAND = "#cfe0f3", "0.85"


def room_and_noise(comparisons: Sequence[Mapping[str, Any]], *, title: str = "") -> Figure:
    """One line for each comparison: its mean over seeds with the interval, in points, colored by its verdict.

    comparisons: what `experiments.comparisons` returned; a metric that all have is named once, below. A blue bar reaches from
    zero to the room, where it is known: no method can bring more than the row with true labels. A gray band is what the most
    seeds that anyone would run could not resolve.
    """
    metrics = {c["comparison"].split(": ")[0] for c in comparisons}
    metric = metrics.pop() if len(metrics) == 1 else ""
    labels = [textwrap.fill(f"{c['claim']}  {c['comparison'].removeprefix(f'{metric}: ')}", 44) for c in comparisons]
    with styled():
        height = 0.27 + 0.15 * max((label.count("\n") for label in labels), default=0)  # of a row, in inches
        figure, ax = plt.subplots(figsize=(6.2, height * len(comparisons) + 1.2), layout="constrained")
        for y, c in enumerate(comparisons):
            if c["room"] is not None:
                ax.barh(y, c["room"], height=0.8, color=ROOM, zorder=0)
            ax.barh(y, 2 * c["unresolved"], left=-c["unresolved"], height=0.44, color=BAND, zorder=1)
            color = COLORS[c["verdict"]]
            ax.plot([c["low"], c["high"]], [y, y], color=color, linewidth=2.2, zorder=2, solid_capstyle="butt")
            ax.plot(c["mean"], y, "o", color=color, zorder=3)
        ax.axvline(0, color="0.3", linewidth=0.8)
        ax.set_yticks(range(len(comparisons)), labels)
        ax.set_ylim(-0.6, len(comparisons) - 0.4)
        ax.set_xlabel(f"points of {metric}" if metric else "points")
        ax.invert_yaxis()
        verdicts = [v for v in COLORS if any(c["verdict"] == v for c in comparisons)]
        entries = {v: COLORS[v] for v in verdicts} | {"too small to resolve": BAND}
        if any(c["room"] is not None for c in comparisons):
            entries["room"] = ROOM
        patches = [Patch(color=color, label=name) for name, color in entries.items()]
        figure.legend(handles=patches, loc="outside lower center", ncols=len(entries), **LEGEND)
        return headline(figure, title)


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
