"""A plotly figure on a page: one that can be turned and asked where scripts run, a picture of the same elsewhere."""

import json
from collections.abc import Mapping, Sequence
from html import escape
from itertools import cycle
from typing import TYPE_CHECKING, Any

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.figure import Figure

from wsis.viz.scrub import data_address, fill, to_image
from wsis.viz.style import BLUE, RC, VERMILION, Array, headline, styled, to_numpy
from wsis.viz.widgets import live

if TYPE_CHECKING:
    from plotly.graph_objects import Figure as PlotlyFigure

CROP = 110  # px, the width of a crop
MARGIN = {"l": 0, "r": 0, "t": 10, "b": 0}  # px


def interactive(figure: "PlotlyFigure", picture: Figure, words: str) -> Any:
    """Show a plotly figure in JupyterLab, VS Code or Colab; on a page without a kernel embed it as data.

    picture: the same for readers without scripts, drawn by matplotlib. words: what a screen reader says.
    """
    layout: Any = figure.layout
    if live():
        return show_crops(figure) if layout.meta == "crops" else figure
    data = json.loads(figure.to_json() or "{}")
    data["layout"].pop("template", None)  # 6 kB that say nothing new
    text = json.dumps(data).replace("</", "<\\/")
    look = {"picture": data_address(to_image(picture)), "height": layout.height or 420, "crop": CROP}
    return fill("plotly.html", words=escape(words), figure=text, **look)


def magnitude_surface(offsets: Array, labelled: Array, *, threshold: float = 2.5, floor: float = 0.3) -> "PlotlyFigure":
    """The lengths of an offset field as a landscape over the image: each object is a funnel, whose bottom is its center.

    offsets: [2, H, W] in pixels. labelled: bool [H, W]; there is a hole elsewhere. threshold: in pixels, the height of a pane
    of glass; what dips below it is connected to a candidate center. The height is logarithmic from `floor` pixels on.
    """
    from plotly import graph_objects as go

    length = np.hypot(*to_numpy(offsets).astype(np.float64)).clip(floor)
    height = np.where(to_numpy(labelled).astype(bool), np.log10(length), np.nan).round(3)
    ticks = [v for v in (0.5, 1, 2.5, 5, 10, 20, 50, 100) if floor <= v <= length.max()]
    marks = {"tickvals": [float(np.log10(v)) for v in ticks], "ticktext": [f"{v:g}" for v in ticks]}
    rows, columns = height.shape
    hover = {"customdata": length.round(1), "hovertemplate": "x %{x}, y %{y}: %{customdata} px<extra></extra>"}
    field = go.Surface(z=height, colorscale="Cividis", colorbar={"title": "px", "thickness": 12, **marks}, **hover)
    pane = np.full((2, 2), np.log10(threshold))
    glass = {"opacity": 0.35, "showscale": False, "colorscale": [[0, VERMILION], [1, VERMILION]], "hoverinfo": "skip"}
    plane = go.Surface(x=[0, columns - 1], y=[0, rows - 1], z=pane, **glass)
    scene = {"xaxis": {"title": "x (px)"}, "yaxis": {"title": "y (px)", "autorange": "reversed"}}
    scene |= {"zaxis": {"title": "offset (px)", **marks}, "aspectratio": {"x": columns / rows, "y": 1, "z": 0.5}}
    scene["camera"] = {"eye": {"x": 1.1, "y": 1.35, "z": 1.0}}
    return go.Figure([field, plane], {"scene": scene, "height": 440, "margin": MARGIN})


def score_plot(
    scores: Array, overlaps: Array, correct: Array, crops: Sequence[Array], names: Sequence[str]
) -> "PlotlyFigure":
    """The score of each prediction against its IoU, right ones apart from wrong ones; hovering shows its crop.

    scores, overlaps: [N] in [0, 1]. correct: bool [N]. crops: N images, see `show`. names: N words.
    """
    from plotly import graph_objects as go

    figure, scores, overlaps = go.Figure(), to_numpy(scores), to_numpy(overlaps)
    for group, color, symbol in ((True, BLUE, "circle"), (False, VERMILION, "x")):
        i = np.flatnonzero(to_numpy(correct).astype(bool) == group).tolist()
        shown: dict[str, Any] = {
            "text": [names[k] for k in i],
            "customdata": [data_address(to_image(crops[k], CROP)) for k in i],
        }
        shown["hovertemplate"] = "%{text}<br>score %{x:.2f}, IoU %{y:.2f}<extra></extra>"
        look = {"mode": "markers", "marker": {"color": color, "symbol": symbol, "opacity": 0.6}}
        figure.add_scatter(x=scores[i], y=overlaps[i], name="right" if group else "wrong", **look, **shown)
    figure.update_xaxes(title="score").update_yaxes(title="IoU")
    room = MARGIN | {"l": 50, "t": 20, "r": CROP + 10, "b": 45}
    return figure.update_layout(meta="crops", height=360, margin=room, legend={"x": 1.02, "y": 0})


def show_crops(figure: "PlotlyFigure") -> Any:
    """The figure, and beside it the crop of the point that the mouse is over, where a kernel answers."""
    from ipywidgets import HTML, HBox
    from plotly.graph_objects import FigureWidget

    widget, crop = FigureWidget(figure), HTML()

    def hovered(trace: Any, points: Any, _: Any) -> None:
        for k in points.point_inds[:1]:
            crop.value = f'<img src="{trace.customdata[k]}" alt="{escape(trace.text[k])}" style="width:{CROP}px">'

    for trace in widget.data:
        trace.on_hover(hovered)
    return HBox([widget, crop])


def by_step(rows: Sequence[Mapping[str, Any]], method: str, key: str, x: str) -> tuple[list[float], list[list[float]]]:
    """The values of `x` at which a statistic of a method was measured, and its values of all seeds at each of them."""
    measured = [row for row in rows if row["method"] == method and not np.isnan(row.get(key, np.nan))]
    steps = sorted({row[x] for row in measured})
    return steps, [[row[key] for row in measured if row[x] == step] for step in steps]


def curves_picture(
    rows: Sequence[Mapping[str, Any]], statistics: Mapping[str, str], *, x: str, y: str, title: str = ""
) -> Figure:
    """A plot for each statistic, a curve for each method: means over seeds, in a band from the lowest seed to the highest.

    rows: one per measurement: "method", `x` and statistics, not always all of them. statistics: {key: title of its plot}.
    """
    with styled():
        count = len(statistics)
        figure, axes = plt.subplots(1, count, figsize=(3.2 * max(count, 2.4), 3.1), layout="constrained", squeeze=False)
        for ax, (key, words) in zip(axes[0], statistics.items(), strict=True):
            for method in dict.fromkeys(row["method"] for row in rows):
                steps, values = by_step(rows, method, key, x)
                line = ax.plot(steps, [np.mean(v) for v in values], "o-", ms=3.5, lw=1.8, label=method)[0]
                low, high = ([edge(v) for v in values] for edge in (min, max))
                ax.fill_between(steps, low, high, color=line.get_color(), alpha=0.18, linewidth=0)
            ax.set(title=words, xlabel=x)
        axes[0, 0].set_ylabel(y)
        axes[0, 0].legend()
        return headline(figure, title)


def curves_plot(rows: Sequence[Mapping[str, Any]], statistics: Mapping[str, str], *, x: str, y: str) -> "PlotlyFigure":
    """The curves of `curves_picture` on common axes, to be hovered."""
    from plotly.subplots import make_subplots

    titles = list(statistics.values())
    figure = make_subplots(1, len(titles), shared_yaxes=True, subplot_titles=titles, horizontal_spacing=0.03)
    methods = list(dict.fromkeys(row["method"] for row in rows))
    for column, key in enumerate(statistics, 1):
        for method, color in zip(methods, cycle(RC["axes.prop_cycle"].by_key()["color"])):  # as in the picture
            steps, values = by_step(rows, method, key, x)
            band = [*(max(v) for v in values), *(min(v) for v in values[::-1])]
            name, first = {"legendgroup": method, "name": method}, column == 1
            fill = {"fill": "toself", "fillcolor": color, "opacity": 0.18, "mode": "none", "hoverinfo": "skip"}
            figure.add_scatter(x=[*steps, *steps[::-1]], y=band, showlegend=False, **fill, **name, row=1, col=column)
            means = [float(np.mean(v)) for v in values]
            line = {"mode": "lines+markers", "line": {"color": color}, "showlegend": first}
            figure.add_scatter(x=steps, y=means, **line, **name, row=1, col=column)
        figure.update_xaxes(title=x, row=1, col=column)
    figure.update_yaxes(title=y, row=1, col=1)
    return figure.update_layout(
        height=384, margin=MARGIN | {"t": 64, "l": 50}, hovermode="x unified", legend={"orientation": "h", "y": -0.22}
    )
