"""The colors, the look and the grid of figures that all drawings share."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import wraps
from inspect import signature
from pathlib import Path
from typing import Any, Concatenate, ParamSpec

import matplotlib.pyplot as plt
import numpy as np
import torch
from cycler import cycler
from matplotlib import rc_params_from_file
from matplotlib.axes import Axes
from matplotlib.colors import to_rgba_array
from matplotlib.figure import Figure
from matplotlib.image import AxesImage
from matplotlib.patches import Patch, Rectangle
from torch import Tensor

Array = Tensor | np.ndarray
Panel = Callable[[Axes], None]
P = ParamSpec("P")
Base = Tensor | np.ndarray | Panel  # an image, or what draws itself
Limits = tuple[float, float] | None  # the values of the first and the last color

HEAT = "viridis"
# The seven colors of Okabe and Ito, then always the color that is farthest from all before it for normal, red-blind and
# green-blind eyes. A test repeats the search.
_COLORS = """
e69f00 56b4e9 009e73 d55e00 0072b2 cc79a7 f0e442 8f2000 70efdf 0000ff 7080ff 305070 1040af 60cf8f 307060 af4000
8fcfff 8fef9f df00cf efbf40 0060ff 80bfbf ef6070 8f508f df8030 609fff 8f708f 704040 af4050 50dfbf 3080cf ff9f70
70208f 509fbf bf30af 7020cf 9f8050 8f2070 207030 80408f ef8f60 cfdf70 cf8f9f 1070cf ef70cf 9fdfff bf4070 80bfff
80df9f 609fdf 20dfdf 00cfdf 608fef 70efbf 20af80 9f3000 9f70af cfcf80 8f7040 efcf00 8f8020 bf00ef 60cfaf 40afcf
809f40 8f6080 10bf50 ff708f 9f0050 50afff efaf10 7040bf 8030df ef209f bf40df 9f2080 af3030 8f2030 af1050 9f7060
"""
CLASS_COLORS = tuple(f"#{color}" for color in _COLORS.split())
ORANGE, SKY, GREEN, VERMILION, BLUE, PURPLE, YELLOW = CLASS_COLORS[:7]
INSTANCE_COLORS = 12

RC: dict[Any, Any] = {**rc_params_from_file(Path(__file__).with_name("book.mplstyle"), use_default_template=False)}
RC["axes.prop_cycle"] = cycler(color=[BLUE, VERMILION, GREEN, PURPLE, ORANGE, SKY])
LEGEND: dict[str, Any] = {"fontsize": 8, "handlelength": 1, "handleheight": 1, "handletextpad": 0.4, "columnspacing": 1}


def class_colors(count: int) -> np.ndarray:
    """Colors of the classes 0..count-1, float [count, 3] in [0, 1]; they repeat after 80."""
    return to_rgba_array(CLASS_COLORS)[np.arange(count) % len(CLASS_COLORS), :3]


def instance_colors(count: int) -> np.ndarray:
    """Colors of the instances 0..count-1, float [count, 3]: the first twelve class colors, over and over."""
    return class_colors(INSTANCE_COLORS)[np.arange(count) % INSTANCE_COLORS]


def to_rgb(image: Array) -> np.ndarray:
    """An image as float [H, W, 3] in [0, 1], from [3, H, W] or [H, W, 3], uint8 or float."""
    array = to_numpy(image)
    if array.ndim == 3 and array.shape[0] == 3 and array.shape[2] != 3:
        array = array.transpose(1, 2, 0)
    if array.ndim != 3 or array.shape[2] != 3:
        raise ValueError(f"an image is [3, H, W] or [H, W, 3], not {list(array.shape)}; a map goes into draw_map")
    return array.astype(np.float32) / 255 if array.dtype == np.uint8 else array.astype(np.float32).clip(0, 1)


def to_numpy(values: Array) -> np.ndarray:
    """A tensor of any type, on any device, as an array."""
    if not isinstance(values, Tensor):
        return np.asarray(values)
    return (values.float() if values.dtype == torch.bfloat16 else values).numpy(force=True)


def panel(drawing: Callable[Concatenate[Axes, P], None]) -> Callable[P, Panel]:
    """Turn a function that draws into axes into one that takes the other arguments and returns a panel for `show`."""

    @wraps(drawing)
    def later(*args: P.args, **kwargs: P.kwargs) -> Panel:
        return lambda axes: drawing(axes, *args, **kwargs)

    own = signature(drawing)
    _, *shown = own.parameters.values()
    later.__dict__["__signature__"] = own.replace(parameters=shown, return_annotation=Panel)  # for `help`
    return later


def draw(axes: Axes, base: Base, *, gray: bool = False) -> None:
    """Draw an image, or let a panel draw itself, without ticks, spines and labels of axes."""
    if callable(base):
        base(axes)
    elif gray:
        axes.imshow(to_rgb(base).mean(-1), cmap="gray", vmin=0, vmax=1)
    else:
        axes.imshow(to_rgb(base))
    axes.set_axis_off()


def color_bar(axes: Axes, image: AxesImage, unit: str) -> None:
    """A thin bar beside an image, as high as the image, which keeps its size."""
    bar = axes.figure.colorbar(image, cax=axes.inset_axes((1.03, 0, 0.045, 1)))
    bar.set_label(unit, labelpad=3)
    bar.outline.set_visible(False)
    bar.ax.tick_params(length=2, pad=2)


def frame(axes: Axes, color: str = "0.65", width: float = 0.8) -> None:
    axes.add_patch(Rectangle((0, 0), 1, 1, ec=color, lw=width, transform=axes.transAxes, fill=False, clip_on=False))


def legend(axes: Axes, entries: Sequence[tuple[str, Any]], columns: int = 3, hatched: str = "") -> None:
    """Names and colors below an image. hatched: the name of a hatched entry."""
    patches = [Patch(facecolor=color, edgecolor="0.3", linewidth=0.5, label=name) for name, color in entries]
    if hatched:
        patches.append(Patch(facecolor="0.75", edgecolor="0.1", linewidth=0.5, hatch="/////", label=hatched))
    if patches:
        place = {"loc": "upper center", "bbox_to_anchor": (0.5, -0.01), "borderaxespad": 0.2}
        axes.legend(handles=patches, ncols=min(columns, len(patches)), **place, **LEGEND)


@panel
def draw_map(axes: Axes, values: Array, *, unit: str = "", limits: Limits = None, colormap: str = HEAT) -> None:
    """One number per pixel [H, W], with a color bar named by `unit`. limits: (lowest, highest) color."""
    values = to_numpy(values).astype(np.float64)
    low, high = limits or (np.nanmin(values), np.nanmax(values))
    color_bar(axes, axes.imshow(values, cmap=colormap, vmin=low, vmax=high), unit)


@contextmanager
def styled() -> Iterator[None]:
    """The look of the book's figures, for figures that are made inside."""
    plt.draw_if_interactive()  # loads the backend; if it were loaded inside, it would lose its settings afterwards
    with plt.rc_context(RC):
        yield


def headline(figure: Figure, title: str) -> Figure:
    """The figure with a title, where there is one; closed, so that a notebook shows it once."""
    if title:
        figure.suptitle(title, fontweight="bold", fontsize=11.5)
    plt.close(figure)
    return figure


def show(
    panels: Mapping[str, Base] | Sequence[Mapping[str, Base]],
    *,
    title: str = "",
    rows: Sequence[str] = (),
    columns: int = 4,
    size: float = 2.5,
    one_legend: bool = False,
) -> Figure:
    """Titled images side by side. The figure is returned and not yet shown, so that a cell ends with it.

    panels: {title: image, or what a `draw_*` function returned}, wrapped after `columns`; or a list of such dicts
    with equal titles, one for each row of the grid. title: what the figure shows, as a sentence. rows: a name for each row.
    size: inches per image. one_legend: the entries of all legends in one below the images.
    """
    if isinstance(panels, Mapping):
        items = list(panels.items())
        grid = [items[i : i + columns] for i in range(0, len(items), columns)]
    else:  # only the first row is titled
        grid = [[(name if i == 0 else "", base) for name, base in row.items()] for i, row in enumerate(panels)]
    with styled():
        figure, axes = plt.subplots(len(grid), len(grid[0]), squeeze=False, layout="compressed")
        for i, (line, row) in enumerate(zip(axes, grid, strict=True)):
            for ax, (name, base) in zip(line, row, strict=False):
                draw(ax, base)
                ax.set_title(name)
            for ax in line[len(row) :]:
                ax.set_axis_off()
            if rows:
                line[0].text(-0.05, 0.5, rows[i], rotation=90, ha="right", va="center", transform=line[0].transAxes)
        lines = _one_legend(figure, axes, max(1, int(size * len(grid[0])))) if one_legend else 0
        _fit(figure, axes, size, 0.35 * bool(title) + 0.23 * lines)
        return headline(figure, title)


def _one_legend(figure: Figure, axes: np.ndarray, columns: int) -> int:
    """Move the entries of all legends into one below the images; returns the number of its lines."""
    entries: dict[str, Any] = {}
    for single in filter(None, (ax.get_legend() for ax in axes.flat)):
        entries |= zip((t.get_text() for t in single.get_texts()), single.legend_handles, strict=True)
        single.remove()
    names = sorted(entries)
    figure.legend([entries[name] for name in names], names, loc="outside lower center", ncols=columns, **LEGEND)
    return -(-len(names) // columns)


def _fit(figure: Figure, axes: np.ndarray, size: float, room: float) -> None:
    """Give the figure the size that its images need: `size` inches wide each, as high as their shapes ask, and `room`."""

    def height(ax: Axes) -> float:
        names = ax.get_legend()
        lines = (len(names.get_patches()) + 2) // 3 if names else 0
        shape = abs(np.diff(ax.get_ylim())[0] / np.diff(ax.get_xlim())[0])
        return size * shape + 0.2 * lines + 0.3 * bool(ax.get_title())

    heights = [max(height(ax) for ax in row) for row in axes]
    beside = [max(0.28 * bool(ax.child_axes) for ax in column) for column in axes.T]
    figure.set_size_inches(size * (len(beside) + sum(beside)) + 0.2, sum(heights) + 0.1 * len(heights) + room)
