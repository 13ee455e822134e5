"""Colours and the figure grid that all pictures share.

Class colours: the seven of Okabe and Ito, then always the colour that is farthest from all before it, for
normal, red-blind and green-blind eyes (Machado, Oliveira, Fernandes 2009) in the OKLab space (Ottosson 2020).
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import torch
from cycler import cycler
from matplotlib.axes import Axes
from matplotlib.colorbar import Colorbar
from matplotlib.colors import LogNorm, Normalize
from matplotlib.figure import Figure
from matplotlib.image import AxesImage
from matplotlib.patches import Rectangle
from matplotlib.ticker import LogLocator
from torch import Tensor

HEAT = "viridis"
LEGEND: dict[str, Any] = {"fontsize": 8, "handlelength": 1, "handleheight": 1, "handletextpad": 0.4, "columnspacing": 1}
OKABE_ITO = ("#E69F00", "#56B4E9", "#009E73", "#D55E00", "#0072B2", "#CC79A7", "#F0E442")
RC: dict[Any, Any] = {
    "figure.facecolor": "white",
    "savefig.facecolor": "white",
    "savefig.transparent": False,
    "figure.dpi": 110,
    "font.size": 10,
    "axes.titlesize": 10.5,
    "axes.titlepad": 5,
    "axes.labelsize": 9.5,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "legend.frameon": False,
    "legend.fontsize": 9,
    "xtick.labelsize": 8.5,
    "ytick.labelsize": 8.5,
    "image.interpolation": "nearest",
    "axes.prop_cycle": cycler(color=OKABE_ITO[4:5] + OKABE_ITO[3:4] + OKABE_ITO[2:3] + OKABE_ITO[5:6] + OKABE_ITO[:2]),
}

# linear RGB as red-blind and green-blind eyes see it
PROTAN = ((0.152286, 1.052583, -0.204868), (0.114503, 0.786281, 0.099216), (-0.003882, -0.048116, 1.051998))
DEUTAN = ((0.367322, 0.860646, -0.227968), (0.280085, 0.672501, 0.047413), (-0.011820, 0.042940, 0.968881))
TO_CONES = (
    (0.4122214708, 0.5363325363, 0.0514459929),
    (0.2119034982, 0.6806995451, 0.1073969566),
    (0.0883024619, 0.2817188376, 0.6299787005),
)
TO_LAB = (
    (0.2104542553, 0.7936177850, -0.0040720468),
    (1.9779984951, -2.4285922050, 0.4505937099),
    (0.0259040371, 0.7827717662, -0.8086757660),
)

Panel = Callable[[Axes], None]


def oklab(rgb: np.ndarray) -> np.ndarray:
    """sRGB [..., 3] in [0, 1] -> OKLab (lightness, green-red, blue-yellow)."""
    return _linear_to_oklab(_linear(rgb))


def oklab_to_rgb(lab: np.ndarray) -> np.ndarray:
    """OKLab [..., 3] -> sRGB in [0, 1], clipped where the screen cannot show it."""
    cones = (lab @ np.linalg.inv(TO_LAB).T) ** 3
    linear = (cones @ np.linalg.inv(TO_CONES).T).clip(0, 1)
    return np.where(linear <= 0.0031308, 12.92 * linear, 1.055 * linear ** (1 / 2.4) - 0.055)


def _linear(rgb: np.ndarray) -> np.ndarray:
    return np.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4)


def _linear_to_oklab(linear: np.ndarray) -> np.ndarray:
    return np.cbrt(linear @ np.array(TO_CONES).T) @ np.array(TO_LAB).T


def seen(rgb: np.ndarray) -> np.ndarray:
    """OKLab of colours [N, 3] for normal, red-blind and green-blind eyes: [3, N, 3]."""
    linear = _linear(rgb)
    kinds = [linear] + [(linear @ np.array(m).T).clip(0, 1) for m in (PROTAN, DEUTAN)]
    return np.stack([_linear_to_oklab(kind) for kind in kinds])


@cache
def _palette(count: int) -> np.ndarray:
    chosen = np.array([[int(c[i : i + 2], 16) / 255 for i in (1, 3, 5)] for c in OKABE_ITO])
    grid = np.stack(np.meshgrid(*[np.linspace(0, 1, 17)] * 3), -1).reshape(-1, 3)
    lab = oklab(grid)
    lightness, chroma = lab[:, 0], np.hypot(lab[:, 1], lab[:, 2])
    grid = grid[(lightness > 0.42) & (lightness < 0.88) & (chroma > 0.06)]  # no black, white or grey
    views = seen(grid)  # (3, N, 3)

    def distance(rgb: np.ndarray) -> np.ndarray:
        return np.linalg.norm(views[:, :, None] - seen(rgb)[:, None], axis=-1).min((0, 2))

    nearest = distance(chosen)
    while len(chosen) < count:
        best = grid[nearest.argmax()][None]
        chosen = np.concatenate([chosen, best])
        nearest = np.minimum(nearest, distance(best))
    return chosen[:count]


def class_colors(count: int) -> np.ndarray:
    """Colours of classes 0..count-1, float [count, 3] in [0, 1]; a class has the same one in all pictures."""
    return _palette(max(count, 80))[:count]


def instance_colors(count: int) -> np.ndarray:
    """Colours of instances 0..count-1, float [count, 3]: the first twelve class colours, over and over."""
    return _palette(80)[np.arange(count) % 12]


def to_rgb(image: Tensor | np.ndarray) -> np.ndarray:
    """An image as float [H, W, 3] in [0, 1]: from [3, H, W] or [H, W, 3], uint8 or float."""
    array = to_numpy(image)
    if array.ndim == 3 and array.shape[0] == 3 and array.shape[2] != 3:
        array = array.transpose(1, 2, 0)
    if array.ndim != 3 or array.shape[2] != 3:
        raise ValueError(f"an image is [3, H, W] or [H, W, 3], this one is {list(array.shape)}; a map goes into Map()")
    return array.astype(np.float32) / 255 if array.dtype == np.uint8 else array.astype(np.float32).clip(0, 1)


def to_numpy(values: Tensor | np.ndarray) -> np.ndarray:
    if not isinstance(values, Tensor):
        return np.asarray(values)
    values = values.detach().cpu()
    return (values.float() if values.dtype == torch.bfloat16 else values).numpy()


@dataclass(frozen=True, kw_only=True)
class Map:
    """A panel of `show`: one number per pixel, with a colour bar.

    values: [H, W]. unit: what the bar says. limits: (lowest, highest) of the colours, by default the values'.
    log: logarithmic colours; values below the lower limit take its colour.
    """

    values: Tensor | np.ndarray
    unit: str = ""
    limits: tuple[float, float] | None = None
    colormap: str = HEAT
    log: bool = False

    def __call__(self, axes: Axes) -> None:
        values = to_numpy(self.values).astype(np.float64)
        low, high = self.limits or (np.nanmin(values), np.nanmax(values))
        if self.log:
            high = high if high > 0 else 1.0
            low = max(low, values[values > 0].min(initial=high / 10), high * 1e-4)
        norm = LogNorm(low, high, clip=True) if self.log else Normalize(low, high)
        bar = color_bar(axes, axes.imshow(values, cmap=self.colormap, norm=norm), self.unit)
        if self.log and high < 1000 * low:
            bar.ax.yaxis.set(major_locator=LogLocator(subs=(1, 2, 5)), major_formatter="{x:g}")
            bar.ax.minorticks_off()


def color_bar(axes: Axes, drawn: AxesImage, unit: str) -> Colorbar:
    """A thin bar beside the picture, as high as it, that leaves the picture its size."""
    bar = axes.figure.colorbar(drawn, cax=axes.inset_axes((1.03, 0, 0.045, 1)))
    bar.set_label(unit, labelpad=3)
    bar.outline.set_visible(False)
    bar.ax.tick_params(length=2, pad=2)
    return bar


def frame(axes: Axes) -> None:
    """A thin line around a picture that is white at its border."""
    axes.add_patch(Rectangle((0, 0), 1, 1, transform=axes.transAxes, fill=False, ec="0.65", lw=0.8, clip_on=False))


def show(
    panels: Mapping[str, Any] | Sequence[Mapping[str, Any]],
    *,
    title: str = "",
    rows: Sequence[str] = (),
    columns: int = 4,
    size: float = 2.5,
    one_legend: bool = False,
) -> Figure:
    """Titled pictures side by side; the figure is returned and not yet shown, so a cell ends with it.

    Args:
        panels: {title: image, `Map` or what a `draw_*` function returned}, wrapped after `columns`;
            or a list of such dicts with equal titles, one per row of the grid.
        title: what the figure shows, as a sentence.
        rows: a name for each row.
        size: inches per picture.
        one_legend: the entries of all legends in one below the pictures.
    """
    grid = _grid(panels, columns)
    with styled():
        figure, axes = plt.subplots(len(grid), len(grid[0]), squeeze=False, layout="compressed")
        for i, (line, row) in enumerate(zip(axes, grid, strict=True)):
            for ax, (name, panel) in zip(line, row, strict=False):
                draw(ax, panel)
                ax.set_title(name)
            for ax in line[len(row) :]:
                ax.set_axis_off()
            if rows:
                line[0].text(-0.05, 0.5, rows[i], rotation=90, ha="right", va="center", transform=line[0].transAxes)
        below = _gather_legends(figure, axes, max(1, int(size * len(grid[0])))) if one_legend else 0
        _fit(figure, axes, size, 0.35 * bool(title) + 0.23 * below)
        if title:
            figure.suptitle(title, fontweight="bold", fontsize=11.5)
        plt.close(figure)
    return figure


@contextmanager
def styled() -> Iterator[None]:
    """The look of the book's figures, for figures made inside."""
    plt.draw_if_interactive()  # loads the backend; loaded inside, it would lose its settings afterwards
    with plt.rc_context(RC):
        yield


def _grid(panels: Mapping[str, Any] | Sequence[Mapping[str, Any]], columns: int) -> list[list[tuple[str, Any]]]:
    """Rows of (title, panel); in a list of dicts only the first row is titled."""
    if isinstance(panels, Mapping):
        items = list(panels.items())
        return [items[i : i + columns] for i in range(0, len(items), columns)]
    return [[(name if i == 0 else "", panel) for name, panel in row.items()] for i, row in enumerate(panels)]


def _gather_legends(figure: Figure, axes: np.ndarray, columns: int) -> int:
    """Move what the legends of all pictures say into one below them, in so many columns; the number of its lines."""
    entries: dict[str, Any] = {}
    for legend in (found for ax in axes.flat if (found := ax.get_legend())):
        entries |= zip((t.get_text() for t in legend.get_texts()), legend.legend_handles, strict=True)
        legend.remove()
    names = sorted(entries)
    figure.legend([entries[name] for name in names], names, loc="outside lower center", ncols=columns, **LEGEND)
    return -(-len(names) // columns)


def _fit(figure: Figure, axes: np.ndarray, size: float, room: float) -> None:
    """Give the figure the size its pictures need: `size` inches wide each, as high as their shapes ask, and `room` more."""

    def height(ax: Axes) -> float:
        legend = ax.get_legend()
        lines = (len(legend.get_patches()) + 2) // 3 if legend else 0
        shape = abs(np.diff(ax.get_ylim())[0] / np.diff(ax.get_xlim())[0])
        return size * shape + 0.2 * lines + 0.3 * bool(ax.get_title())

    heights = [max(height(ax) for ax in row) for row in axes]
    beside = [max(0.28 * bool(ax.child_axes) for ax in column) for column in axes.T]
    figure.set_size_inches(size * (len(beside) + sum(beside)) + 0.2, sum(heights) + 0.1 * len(heights) + room)


def draw(axes: Axes, panel: Any) -> None:
    """Draw an image or let a panel draw itself, without axes."""
    if callable(panel):
        panel(axes)
    else:
        axes.imshow(to_rgb(panel))
    axes.set_xticks([])
    axes.set_yticks([])
    axes.spines[:].set_visible(False)
