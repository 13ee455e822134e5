"""A plotly figure on a page: one that can be turned and asked where scripts run, a picture of the same elsewhere."""

import json
from collections.abc import Mapping, Sequence
from html import escape
from typing import TYPE_CHECKING, Any

import numpy as np
from matplotlib.figure import Figure

from wsis.viz.scrub import data_address, to_image
from wsis.viz.style import BLUE, GREEN, VERMILION, Array, to_numpy
from wsis.viz.widgets import live

if TYPE_CHECKING:
    from plotly.graph_objects import Figure as PlotlyFigure

# The script lies beside the pages (book/offline.py) and is loaded once, by pages that have such a figure.
PAGE = """<figure class="wsis-plotly" style="margin:1em 0">
<img src="{picture}" alt="{words}" style="max-width:100%;height:auto">
<div style="height:{height}px;display:none"></div>
<script type="application/json">{figure}</script>
<script>(place => {{
  window.wsisPlotly ??= new Promise((done, failed) => {{
    const script = document.createElement("script");
    script.src = (document.documentElement.dataset.content_root || "./") + "_static/plotly.min.js";
    script.onload = done;
    script.onerror = failed;
    document.head.append(script);
  }});
  window.wsisPlotly.then(() => {{
    const [picture, room] = [place.querySelector("img"), place.querySelector("div")];
    const figure = JSON.parse(place.querySelector("script").textContent);
    picture.style.display = "none";
    room.style.display = "block";
    Plotly.newPlot(room, figure.data, figure.layout, {{responsive: true, displaylogo: false}});
    addEventListener("beforeprint", () => [picture.style.display, room.style.display] = ["block", "none"]);
  }}).catch(() => {{}});
}})(document.currentScript.parentElement)</script>
</figure>"""
MARGIN = {"l": 0, "r": 0, "t": 10, "b": 0}  # px


def interactive(figure: "PlotlyFigure", picture: Figure, words: str) -> Any:
    """Show a plotly figure in JupyterLab, VS Code or Colab; on a page without a kernel embed it as data.

    picture: the same for readers without scripts, drawn by matplotlib. words: what a screen reader says.
    """
    if live():
        return figure
    from IPython.display import HTML

    data = json.loads(figure.to_json() or "{}")
    data["layout"].pop("template", None)  # 6 kB that say nothing new
    text = json.dumps(data).replace("</", "<\\/")
    address = data_address(to_image(picture))
    return HTML(PAGE.format(picture=address, words=escape(words), figure=text, height=figure.layout.height or 420))


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


def by_step(rows: Sequence[Mapping[str, Any]], method: str, key: str) -> tuple[list[int], list[list[float]]]:
    """The steps at which a statistic of a method was measured, and its values of all seeds at each of them."""
    measured = [row for row in rows if row["method"] == method and not np.isnan(row[key])]
    steps = sorted({row["step"] for row in measured})
    return steps, [[row[key] for row in measured if row["step"] == step] for step in steps]


def similarity_plot(rows: Sequence[Mapping[str, Any]], statistics: Mapping[str, str]) -> "PlotlyFigure":
    """The curves of `attentionshift.similarity_curves` on common axes, to be hovered: means over seeds with their bands.

    rows: one per measurement: "method", "step" and the statistics. statistics: {key: title of its plot}.
    """
    from plotly.subplots import make_subplots

    titles = list(statistics.values())
    figure = make_subplots(1, len(titles), shared_yaxes=True, subplot_titles=titles, horizontal_spacing=0.03)
    methods = list(dict.fromkeys(row["method"] for row in rows))
    for column, key in enumerate(statistics, 1):
        for method, color in zip(methods, (BLUE, VERMILION, GREEN), strict=False):
            steps, values = by_step(rows, method, key)
            band = [*(max(v) for v in values), *(min(v) for v in values[::-1])]
            name, first = {"legendgroup": method, "name": method}, column == 1
            fill = {"fill": "toself", "fillcolor": color, "opacity": 0.18, "mode": "none", "hoverinfo": "skip"}
            figure.add_scatter(x=[*steps, *steps[::-1]], y=band, showlegend=False, **fill, **name, row=1, col=column)
            means = [float(np.mean(v)) for v in values]
            line = {"mode": "lines+markers", "line": {"color": color}, "showlegend": first}
            figure.add_scatter(x=steps, y=means, **line, **name, row=1, col=column)
        figure.update_xaxes(title="step", row=1, col=column)
    figure.update_yaxes(title="cosine", row=1, col=1)
    return figure.update_layout(
        height=360, margin=MARGIN | {"t": 40, "l": 50}, hovermode="x unified", legend={"orientation": "h", "y": -0.22}
    )
