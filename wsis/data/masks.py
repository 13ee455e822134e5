"""Masks from and to tensors, and the class map that they paint."""

import math
from collections.abc import Iterable

import torch
from torch import Tensor

from wsis.core.masks import Part, RunLengths
from wsis.core.types import BACKGROUND, IGNORE, Instances


def box_pixels(boxes: Tensor, size: tuple[int, ...] | torch.Size) -> Tensor:
    """Fill half-open xyxy boxes [..., 4] in an image of `size` (H, W): bool [..., H, W]."""
    y, x = (torch.arange(side, device=boxes.device) + 0.5 for side in size)
    left, top, right, bottom = boxes[..., None].unbind(-2)
    rows, columns = (y >= top) & (y < bottom), (x >= left) & (x < right)
    return rows[..., :, None] & columns[..., None, :]


def pixels_between(low: float, high: float, side: int) -> slice:
    """The pixels 0..side - 1 of an axis whose centers lie between two sides of a box, half-open."""
    start = min(max(0, math.ceil(low - 0.5)), side)
    return slice(start, max(start, min(side, math.ceil(high - 0.5))))


def filled_boxes(boxes: Tensor, size: tuple[int, int]) -> RunLengths:
    """The masks of `box_pixels`, of boxes [K, 4], as run lengths."""
    parts = []
    for left, top, right, bottom in boxes.tolist():
        rows, columns = pixels_between(top, bottom, size[0]), pixels_between(left, right, size[1])
        filled = torch.ones(rows.stop - rows.start, columns.stop - columns.start, dtype=torch.bool)
        parts.append(Part(rows.start, columns.start, filled))
    return RunLengths.encode(parts, size)


def paint_semantic(instances: Instances) -> Tensor:
    """Paint instances as a class map uint8 [H, W]: smaller objects lie on top, crowds (255) below all others."""
    runs, crowd = instances.runs, instances.crowd.cpu()
    order = (runs.areas + crowd * math.prod(runs.size)).argsort(stable=True).flip(0)
    values = torch.where(crowd, IGNORE, instances.labels.cpu() + 1)[order]
    return paint(runs[order], values.tolist()).to(instances.labels.device, torch.uint8)


def paint(runs: RunLengths, values: Iterable[int]) -> Tensor:
    """Paint masks with their values, each over those before it, on 0: int32 [H, W]."""
    canvas = torch.full(runs.size, BACKGROUND, dtype=torch.int32)
    for value, (row, column, pixels) in zip(values, runs.parts(), strict=True):
        canvas[row : row + pixels.shape[0], column : column + pixels.shape[1]][pixels] = value
    return canvas


def tags_from_labels(labels: Tensor, num_classes: int) -> Tensor:
    """Say which classes occur among labels int64 [K] in 0..C-1: bool [C]."""
    return torch.bincount(labels, minlength=num_classes) > 0


def tags_from_map(class_map: Tensor, num_classes: int) -> Tensor:
    """Say which classes have a pixel in a class map uint8 [H, W]: bool [C]; 0 and 255 are no classes."""
    return torch.bincount(class_map.flatten(), minlength=256)[1 : num_classes + 1] > 0
