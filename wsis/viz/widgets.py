"""Live controls where someone sits in front of a kernel, embedded frames of the same where nobody does."""

import math
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from matplotlib.figure import Figure

from wsis.core.files import Entry
from wsis.data.label_file import sides
from wsis.viz.canvas import Canvas, draw_view
from wsis.viz.scrub import scrub, to_image
from wsis.viz.style import VERMILION, Array, to_numpy


def live() -> bool:
    """Whether a person's front end (JupyterLab, VS Code, Colab), which can answer a prompt, runs this cell."""
    shell = sys.modules["IPython"].get_ipython() if "IPython" in sys.modules else None
    kernel = getattr(shell, "kernel", None)
    return bool(kernel and kernel.get_parent("shell").get("content", {}).get("allow_stdin", False))


class Clicks(Canvas):
    """Marks on an image, for `explore`: one pixel, or the four extreme points of an object.

    image: as in `show`. places: {name: marks}, integers (x, y) [1, 2] or [4, 2]. They start at the first place and are moved
    from there by mouse, touch or keys; without a kernel all places are shown. A figure gets the marks as a list, extreme
    points from top over left and bottom to right.
    """

    def __init__(self, image: Array, places: Mapping[str, Any]) -> None:
        self.places = {name: to_numpy(marks).round().astype(int).tolist() for name, marks in places.items()}
        self.value, self._image = next(iter(self.places.values())), to_image(image)
        self.picture, _ = draw_view(self._image, (0, 0, *self._image.size))

    @property
    def state(self) -> Entry:
        kind, marks = ("extreme_points", self.value) if len(self.value) == 4 else ("point", self.value[0])
        places = "; ".join(f"x {x}, y {y}" for x, y in self.value)
        return {
            "name": f"Image, marked at {places}",
            "size": list(self._image.size),
            "view": [0, 0, *self._image.size],
            "classes": [{"id": 1, "name": "mark", "color": VERMILION}],
            "category": 1,
            "tool": "move",
            "clicks": [],
            "objects": [{"key": "marks", "category": 1, kind: marks}],
            "message": self._message,
            "error": self._is_error,
        }

    def _do_click(self, xy: Sequence[float], start: Sequence[float]) -> None:
        """Move the mark that is nearest to `start`; raises AnnotationError where four would no longer be extreme points."""
        nearest = min(range(len(self.value)), key=lambda i: math.dist(self.value[i], start))
        pairs = zip(xy, self._image.size, strict=True)
        moved = [min(max(round(v), 0), size - 1) for v, size in pairs]
        marks = [moved if i == nearest else mark for i, mark in enumerate(self.value)]
        self.value = sides(marks) if len(marks) == 4 else marks


def explore(function: Callable[..., Figure], **controls: Sequence[Any] | Clicks) -> Any:
    """Vary the parameters of a figure: `function` takes them by name and returns a figure, of one size for all values.

    With a live front end each parameter is a slider, or an image to click on, and `function` runs at every move. Otherwise it
    runs once for each value and the figures are embedded, one slider per parameter that has several values or places, with the
    others held at their first one.
    """
    if live():
        from ipywidgets import SelectionSlider, interactive

        widgets = {
            name: control.widget if isinstance(control, Clicks) else SelectionSlider(options=control, value=control[0])
            for name, control in controls.items()
        }
        # without auto_display the figure that `function` returns would be kept and not shown
        return interactive(function, {"auto_display": True}, **widgets)
    from IPython.display import HTML

    choices = {
        name: control.places if isinstance(control, Clicks) else {str(value): value for value in control}
        for name, control in controls.items()
    }
    first, pages = {name: next(iter(values.items())) for name, values in choices.items()}, []
    for name, values in choices.items():
        if len(values) > 1:
            held = ", ".join(f"{other} = {label}" for other, (label, _) in first.items() if other != name)
            rest = {other: value for other, (_, value) in first.items()}
            frames = [function(**{**rest, name: value}) for value in values.values()]
            pages.append(scrub(frames, list(values), f"{name} ({held})" if held else name).data)
    return HTML("\n".join(pages))
