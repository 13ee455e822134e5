"""Live controls where someone sits in front of a kernel, embedded frames of the same where nobody does."""

import sys
from collections.abc import Callable, Sequence
from typing import Any

from matplotlib.figure import Figure

from wsis.viz.scrub import scrub


def live() -> bool:
    """Whether a person's front end (JupyterLab, VS Code, Colab) runs this cell; no in scripts and papermill.

    Front ends that a person uses can answer an input prompt and say so in each request; batch runners say
    that they cannot.
    """
    shell = sys.modules["IPython"].get_ipython() if "IPython" in sys.modules else None
    kernel = getattr(shell, "kernel", None)
    if kernel is None:
        return False
    return bool(kernel.get_parent("shell").get("content", {}).get("allow_stdin", False))


def explore(function: Callable[..., Figure], **sliders: Sequence[Any]) -> Any:
    """Turn the parameters of a picture.

    With a live front end each parameter is a slider and `function` runs at every move. Otherwise `function`
    runs once for each value and the pictures are embedded, one slider per parameter, the others held at their
    first value.

    Args:
        function: takes the parameters by name and returns a figure (of one size for all values).
        sliders: the values of each parameter, the first one is shown first.
    """
    if live():
        import ipywidgets

        controls = {
            name: ipywidgets.SelectionSlider(options=values, value=values[0]) for name, values in sliders.items()
        }
        # without auto_display the figure that `function` returns would be kept and not shown
        return ipywidgets.interactive(function, {"auto_display": True}, **controls)
    from IPython.display import HTML

    first = {name: values[0] for name, values in sliders.items()}
    pages = []
    for name, values in sliders.items():
        held = ", ".join(f"{other} = {value}" for other, value in first.items() if other != name)
        frames = [function(**{**first, name: value}) for value in values]
        pages.append(scrub(frames, [str(v) for v in values], f"{name} ({held})" if held else name).data)
    return HTML("\n".join(pages))
