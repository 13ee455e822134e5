"""Live controls where someone sits in front of a kernel, embedded frames of the same where nobody does."""

import sys
from collections.abc import Callable, Sequence
from typing import Any

from matplotlib.figure import Figure

from wsis.viz.scrub import scrub


def live() -> bool:
    """Whether a person's front end (JupyterLab, VS Code, Colab), which can answer a prompt, runs this cell."""
    shell = sys.modules["IPython"].get_ipython() if "IPython" in sys.modules else None
    kernel = getattr(shell, "kernel", None)
    return bool(kernel and kernel.get_parent("shell").get("content", {}).get("allow_stdin", False))


def explore(function: Callable[..., Figure], **sliders: Sequence[Any]) -> Any:
    """Vary the parameters of a figure: `function` takes them by name and returns a figure, of one size for all values.

    With a live front end each parameter is a slider, and `function` runs at every move. Otherwise it runs once for each
    value and the figures are embedded, one slider per parameter, with the others held at their first value.
    """
    if live():
        from ipywidgets import SelectionSlider, interactive

        controls = {name: SelectionSlider(options=values, value=values[0]) for name, values in sliders.items()}
        # without auto_display the figure that `function` returns would be kept and not shown
        return interactive(function, {"auto_display": True}, **controls)
    from IPython.display import HTML

    first, pages = {name: values[0] for name, values in sliders.items()}, []
    for name, values in sliders.items():
        held = ", ".join(f"{other} = {value}" for other, value in first.items() if other != name)
        frames = [function(**{**first, name: value}) for value in values]
        pages.append(scrub(frames, [str(v) for v in values], f"{name} ({held})" if held else name).data)
    return HTML("\n".join(pages))
