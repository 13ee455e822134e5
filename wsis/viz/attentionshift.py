"""Figures of AttentionShift: candidate maps, the shift of prototypes, parts, stages, and the similarity of features.

All take plain tensors of one object. An image is [3, H, W] as the network saw it, padding included; maps [h, w] hold a
number per patch and cover all of it; boxes are xyxy half-open pixels, points (x, y) pixels.
"""

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

import matplotlib.pyplot as plt
import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.patheffects import withStroke
from torch import Tensor
from torch.nn.functional import interpolate, normalize, pad

from wsis.core.types import Instances, Points
from wsis.viz import style
from wsis.viz.maps import draw_heat
from wsis.viz.overlay import draw_boxes, draw_instances, draw_points, outline_box, zoom
from wsis.viz.scrub import scrub
from wsis.viz.style import Base, Panel, class_colors, draw, panel, show, styled, to_numpy, to_rgb

if TYPE_CHECKING:
    from IPython.display import HTML

DEAD = -2  # below all cosines
# The classes that have the colors of the chosen candidate and of the others.
CHOSEN, OTHER = (torch.tensor([style.CLASS_COLORS.index(c)]) for c in (style.VERMILION, style.BLUE))
STATISTICS = {"foreground_background_patches": "object and background", "inter_class": "objects of different classes"}
STATISTICS |= {"intra_class": "objects of one class"}


def rollout_figure(image: Tensor, maps: Tensor, boxes: Tensor, chosen: int, point: Tensor, threshold: float) -> "HTML":
    """A slider over the candidates of an object: the attention of its token over the last layers, and the box it gives.

    maps: [K, h, w], the k-th of the last k + 1 layers. boxes: [K, 4]. chosen: the candidate that was taken, vermilion and
    shown first. point: [2], the click. threshold: of the map's range in [0, 1], drawn as a line: what the box is made of.
    """
    frames, clicked = {}, _thin(_clicked(image, point), boxes)
    for k, heat in enumerate(_enlarged(maps, image)):
        box = draw_boxes(clicked, boxes[[k]], CHOSEN if k == chosen else OTHER)
        attention = _clicked(_heat(image, heat, cut=threshold), point)
        frames[_layers(k) + ", chosen" * (k == chosen)] = show({"attention": attention, "box": box}, size=3.4)
    return scrub(list(frames.values()), list(frames), "rollout", start=chosen)


def shift_figure(image: Tensor, features: Tensor, history: Tensor, box: Tensor) -> "HTML":
    """A slider over the iterations of the key-point shift, in the image (left) and among the features of the box (right).

    features: [D, h, w]. history: [iterations + 1, m, D], the prototypes, seeds first; zero ones are dead. box: [4]. Patches
    that the box touches have the color of the most similar prototype, as in `draw_parts`. On the right are unit vectors along
    the two directions in which they vary most.
    """
    height, width = features.shape[1:]
    x0, y0, x1, y1 = (box / (to_rgb(image).shape[0] / height)).tolist()
    rows, columns = torch.arange(height), torch.arange(width)
    inside = (((rows + 1 > y0) & (rows < y1))[:, None] & (columns + 1 > x0) & (columns < x1)).flatten()
    unit = normalize(features.detach().cpu().float().flatten(1).mT, dim=1)
    prototypes = normalize(history.detach().cpu().float(), dim=2)
    alive = prototypes.any(2)
    cosine = (prototypes @ unit.mT).masked_fill(~alive[..., None] | ~inside, DEAD)
    least, (project, shares) = float(cosine.amax(1)[:, inside].min()), _plane(unit[inside])
    points, paths, living = project(unit[inside]).numpy(), project(prototypes).numpy(), alive.numpy()
    frames = []
    for t, now in enumerate(cosine):
        with styled():
            figure, (left, right) = plt.subplots(1, 2, figsize=(9.6, 4.8), layout="constrained")
            draw(left, _around(image, draw_parts(image, now.view(-1, height, width), least=least), box))
            left.set_title(f"each patch by the nearest of {living[t].sum()} prototypes")
            _among_features(right, points, now[:, inside].argmax(0).numpy(), paths[: t + 1], living[: t + 1])
            right.update_datalim(paths[living])  # the same limits in all frames
            right.margins(0.05)
            right.set(xlabel=f"first direction, {shares[0]:.0%} of the variance", ylabel=f"second, {shares[1]:.0%}")
            frames.append(style.headline(figure, ""))
    return scrub(frames, [str(t) for t in range(len(prototypes))], "iteration")


def parts_panels(image: Tensor, maps: Mapping[int, Tensor], key_points: Tensor, box: Tensor) -> dict[str, Panel]:
    """A row for `show`: part maps at some iterations of the shift, then the key-points, numbered in their order.

    maps: {iteration: [m, h, w]}, cosines of the prototypes with all patches; 0 for a dead one, or one to leave out.
    key_points: [P, 2], by falling area of their parts. box: [4], of the object.
    """
    least = min(float(to_numpy(parts).max(0).min()) for parts in maps.values())
    panels = {f"iteration {t}": draw_parts(image, parts, least=least) for t, parts in maps.items()}
    panels = {"image": image} | panels | {"key-points": _numbered(image, key_points)}
    return {name: _around(image, drawing, box) for name, drawing in panels.items()}


@panel
def _numbered(axes: Axes, image: Tensor, points: Tensor) -> None:
    draw(axes, image)
    for number, (x, y) in enumerate(points.tolist(), start=1):
        axes.scatter(x, y, s=95, c=style.GREEN, edgecolor="white", linewidth=1.2)
        axes.text(x, y, str(number), color="white", fontsize=8, ha="center", va="center_baseline")


def stages_panels(
    image: Tensor, maps: Tensor, chosen: int, refined: Tensor, pseudo: Tensor, predicted: Tensor, point: Tensor
) -> dict[str, Panel]:
    """A row for `show` (six columns suit seven candidates): from attention to a mask.

    maps: [K, h, w], as in `rollout_figure`; `chosen` is framed. refined: [H, W] in [0, 1], the foreground map. pseudo,
    predicted: bool [H, W], the pseudo mask and that of the network. point: [2].
    """
    heats = {_layers(k): heat for k, heat in enumerate(_enlarged(maps, image))} | {"refined": refined}
    panels = {n: _heat(image, h, bar=False, framed=n == _layers(chosen)) for n, h in heats.items()}
    masks = {"pseudo mask": pseudo, "predicted": predicted}
    panels |= {n: draw_instances(image, Instances.make(m[None], torch.zeros(1))) for n, m in masks.items()}
    return {"click": _clicked(image, point)} | panels


@panel
def draw_parts(axes: Axes, image: Tensor, maps: Tensor, *, least: float = 0.0) -> None:
    """Each patch in the color of the most similar part, over the image in gray, and a ring on the best patch of each part.

    maps: cosines [m, h, w]. least: the cosine at which colors are clear; they are most opaque at 1.
    """
    draw(axes, image, gray=True)
    values, size = to_numpy(maps).astype(np.float64), np.array(to_rgb(image).shape[:2])
    colors, best = class_colors(len(values)), values.max(0)
    opacity = 0.85 * ((best - least) / max(1 - least, 1e-9)).clip(0, 1)
    paint = np.concatenate([colors[values.argmax(0)], opacity[..., None]], -1)
    axes.imshow(paint, extent=(-0.5, size[1] - 0.5, size[0] - 0.5, -0.5))
    alive = values.max((1, 2)) > 0
    peaks = np.stack(np.divmod(values.reshape(len(values), -1).argmax(1), best.shape[1]), 1)
    y, x = ((peaks + 0.5) * size / best.shape - 0.5)[alive].T
    axes.scatter(x, y, s=30, c=colors[alive], edgecolor="white", linewidth=1.2, zorder=3)


def _layers(k: int) -> str:
    return f"last {k + 1} layers" if k else "last layer"


def _enlarged(maps: Tensor, image: Tensor) -> Tensor:
    """Maps [K, h, w] at the size of the image, each stretched to 0..1."""
    large = interpolate(maps.detach().cpu().float()[None], to_rgb(image).shape[:2], mode="bilinear")[0]
    low, high = large.amin((1, 2), keepdim=True), large.amax((1, 2), keepdim=True)
    return (large - low) / (high - low).clamp(min=1e-6)


def _clicked(base: Base, point: Tensor) -> Panel:
    return draw_points(base, Points.make(point[None], CHOSEN))


@panel
def _heat(
    axes: Axes, image: Tensor, heat: Tensor, *, cut: float | None = None, bar: bool = True, framed: bool = False
) -> None:
    """A map [H, W] of values in [0, 1], with the line at `cut`, a color bar, a frame."""
    draw_heat(image, heat, unit="share of the map's range", limits=(0, 1))(axes)
    if not bar:
        axes.child_axes[-1].remove()
    if cut is not None and bool((heat > cut).any()):
        axes.contour(to_numpy(heat), [cut], colors="white", linewidths=1.3)
    if framed:
        style.frame(axes, style.VERMILION, 3.5)


@panel
def _thin(axes: Axes, base: Base, boxes: Tensor) -> None:
    draw(axes, base)
    for box in boxes.tolist():
        outline_box(axes, box, ec="white", lw=0.8, path_effects=[withStroke(linewidth=2, foreground="0.15")])


def _around(image: Tensor, base: Base, box: Tensor) -> Panel:
    """The box, and a square a little larger, moved into the image."""
    height, width = to_rgb(image).shape[:2]
    low, high = box.detach().cpu().float().view(2, 2)
    size = torch.tensor([width, height])
    half = (0.62 * (high - low).max()).clamp(max=size.max() / 2)
    reach = (size / 2).clamp(max=half)
    center = ((low + high) / 2).clamp(reach, size - reach) - 0.5
    return zoom(_thin(base, box[None]), center[None], room=float(half))


def _plane(vectors: Tensor) -> tuple[Callable[[Tensor], Tensor], Tensor]:
    """The two directions in which vectors [N, D] vary most: the map [..., D] -> [..., 2], the shares [2] of the variance."""
    center = vectors.mean(0)
    _, lengths, directions = torch.linalg.svd(vectors - center, full_matrices=False)
    directions, variance = pad(directions, (0, 0, 0, 2))[:2], pad(lengths, (0, 2)).square()
    return lambda v: (v - center) @ directions.mT, variance[:2] / variance.sum().clamp(min=1e-12)


def _among_features(axes: Axes, points: np.ndarray, owner: np.ndarray, paths: np.ndarray, alive: np.ndarray) -> None:
    """Patches [N, 2] in the colors of their owners, and the paths [t + 1, m, 2] of the prototypes so far."""
    colors = class_colors(paths.shape[1])
    axes.scatter(*points.T, s=20, c=colors[owner], alpha=0.5, linewidth=0)
    for j, color in enumerate(colors):
        axes.plot(*paths[alive[:, j], j].T, color=color, linewidth=1.3)
    axes.scatter(*paths[-1, alive[-1]].T, s=60, c=colors[alive[-1]], edgecolor="black", lw=0.9, zorder=3)
    axes.set(xticks=[], yticks=[], title="their features, and the prototypes")
