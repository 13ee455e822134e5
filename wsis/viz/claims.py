"""What a claim would need to be seen: the measured difference beside its noise and the room that there is."""

from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib.pyplot as plt
from matplotlib.figure import Figure
from matplotlib.patches import Patch

from wsis.viz.style import LEGEND, headline, styled

COLORS = {"holds": "#1b7f4b", "contradicted": "#c0392b", "needs seeds": "#b8860b", "cannot show": "0.45"}
ROOM, BAND = "#cfe0f3", "0.85"


def room_and_noise(comparisons: Sequence[Mapping[str, Any]], *, title: str = "") -> Figure:
    """One line for each comparison: its mean over seeds with the interval, in points, colored by its verdict.

    comparisons: what `experiments.comparisons` returned. A blue bar reaches from zero to the room, where it is known: no method
    can bring more than the row with true labels. A gray band is what the most seeds that anyone would run could not resolve.
    """
    with styled():
        figure, ax = plt.subplots(figsize=(8, 0.27 * len(comparisons) + 1.2), layout="constrained")
        for y, c in enumerate(comparisons):
            if c["room"] is not None:
                ax.barh(y, c["room"], height=0.8, color=ROOM, zorder=0)
            ax.barh(y, 2 * c["unresolved"], left=-c["unresolved"], height=0.44, color=BAND, zorder=1)
            color = COLORS[c["verdict"]]
            ax.plot([c["low"], c["high"]], [y, y], color=color, linewidth=2.2, zorder=2, solid_capstyle="butt")
            ax.plot(c["mean"], y, "o", color=color, zorder=3)
        ax.axvline(0, color="0.3", linewidth=0.8)
        ax.set(yticks=range(len(comparisons)), xlabel="points", ylim=(-0.6, len(comparisons) - 0.4))
        ax.set_yticklabels([f"{c['claim']}  {c['comparison']}" for c in comparisons])
        ax.invert_yaxis()
        verdicts = [v for v in COLORS if any(c["verdict"] == v for c in comparisons)]
        entries = {v: COLORS[v] for v in verdicts} | {"too small to resolve": BAND}
        if any(c["room"] is not None for c in comparisons):
            entries["room"] = ROOM
        patches = [Patch(color=color, label=name) for name, color in entries.items()]
        figure.legend(handles=patches, loc="outside lower center", ncols=len(entries), **LEGEND)
        return headline(figure, title)
