"""Masks of objects at the size of their image, from maps of a network or from boxes: one after the other, each in its own
box, so that memory does not grow with their number.
"""

from collections.abc import Iterator

import torch
from torch import Tensor
from torch.nn.functional import interpolate, pad
from torchvision.models.detection.roi_heads import expand_boxes, expand_masks, paste_mask_in_image

from wsis.core.masks import Part, RunLengths, Size

BAND = 256  # rows
AT_ONCE = 16  # maps that are held at the size of an image


def highest(maps: Tensor, size: Size) -> tuple[Tensor, Tensor]:
    """The highest of maps [B, K, h, w], bilinear at the pixels of images of `size`, and which one it is: two [B, H, W]."""
    value = maps.new_full((len(maps), *size), -torch.inf)
    index = torch.zeros_like(value, dtype=torch.long)
    for number, some in enumerate(maps.split(AT_ONCE, 1)):
        best, which = interpolate(some, size, mode="bilinear", align_corners=False).max(1)
        index = torch.where(best > value, which + number * AT_ONCE, index)
        value = torch.maximum(best, value)
    return value, index


def enlarged(maps: Tensor, size: Size, threshold: float) -> RunLengths:
    """Masks where maps [K, h, w], bilinear at the pixels of an image of `size`, are above a threshold."""
    parts = (enlarge(values.float(), size, threshold) for values in maps)
    return RunLengths.encode((part._replace(pixels=part.pixels > threshold) for part in parts), size)


def resized(runs: RunLengths, size: Size) -> RunLengths:
    """Masks in an image of another size: where they are more than half of what a pixel sees, bilinearly."""

    def parts() -> Iterator[Part]:
        for row, column, pixels in runs.parts():
            values = pad(pixels.float(), (1, 1, 1, 1))
            part = enlarge(values, size, 0.5, (row - 1, column - 1), runs.size)
            yield part._replace(pixels=part.pixels > 0.5)

    return runs if runs.size == size else RunLengths.encode(parts(), size)


def enlarge(
    values: Tensor, size: Size, threshold: float, corner: tuple[int, int] = (0, 0), cells: Size | None = None
) -> Part:
    """A map [h, w], bilinear at the pixels of an image of `size` as torch's `interpolate`, in a box beyond which it is not
    above `threshold`: its `pixels` are numbers.

    corner: the first row and column of the map, where it is a part of one of `cells` (height, width) without high values.
    """
    lines = []
    for axis, inside in enumerate(((values > threshold).any(1), (values > threshold).any(0))):
        low, high, weight = _neighbors((cells or values.shape)[axis], size[axis], values.device)
        low, high = low - corner[axis], high - corner[axis]
        used = inside.nonzero()[:, 0]
        start, stop = (int((high < used[0]).sum()), int((low <= used[-1]).sum())) if len(used) else (0, 0)
        if start >= stop:  # no value is high, or in a smaller image no pixel sees it
            return Part(0, 0, values[:0, :0])
        lines.append((start, low[start:stop], high[start:stop], weight[start:stop]))
    (row, top, bottom, down), (column, left, right, across) = lines
    first = int(top[0])
    values = values[first : int(bottom[-1]) + 1]
    values = values[:, left].mul_(1 - across).add_(values[:, right].mul_(across))
    pixels = values.new_empty(len(top), values.shape[1])
    # some rows at a time, since an object may fill the image, of which there is then one copy
    bands = zip(*(line.split(BAND) for line in (pixels, top - first, bottom - first, down[:, None])), strict=True)
    for band, above, below, share in bands:
        torch.add(values[above].mul_(1 - share), values[below].mul_(share), out=band)
    return Part(row, column, pixels)


def _neighbors(cells: int, pixels: int, device: torch.device) -> tuple[Tensor, Tensor, Tensor]:
    """The two cells between which each pixel of an axis lies, and the weight of the second, as torch rounds it."""
    position = torch.arange(pixels, device=device) + 0.5
    position = (position * (torch.tensor(cells, dtype=torch.float32) / pixels).item() - 0.5).clamp(min=0)
    low = position.long().clamp(max=cells - 1)
    return low, (low + 1).clamp(max=cells - 1), position - low


def pasted(masks: Tensor, boxes: Tensor, size: Size) -> RunLengths:
    """Masks where probabilities [K, m, m] of boxes [K, 4] in an image of `size` are above .5, as torchvision pastes them."""
    padded, scale = expand_masks(masks[:, None], padding=1)

    def parts() -> Iterator[Part]:
        for probability, box in zip(padded[:, 0], expand_boxes(boxes, scale).long(), strict=True):
            left, top, right, bottom = box.tolist()
            left, top = max(left, 0), max(top, 0)
            sides = max(min(bottom + 1, size[0]) - top, 0), max(min(right + 1, size[1]) - left, 0)
            whole = paste_mask_in_image(probability, box - box.new_tensor([left, top, left, top]), *sides)
            yield Part(top, left, whole > 0.5)

    return RunLengths.encode(parts(), size)
