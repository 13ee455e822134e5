"""Masks, their COCO encodings (polygons, run lengths as numbers or text), and the class map they paint."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from pycocotools import mask
from torch import Tensor

from wsis.core.files import Entry
from wsis.core.types import BACKGROUND, IGNORE, Instances

coco_mask: Any = mask  # its declared types refuse entries of a JSON
Segmentation = Entry | list[list[float]]
"""COCO's ways to store a mask: a run length, whose `counts` are numbers or text, or polygons."""


def box_pixels(boxes: Tensor, size: tuple[int, ...] | torch.Size) -> Tensor:
    """Fill half-open xyxy boxes [..., 4] in an image of `size` (H, W): bool [..., H, W]."""
    y, x = (torch.arange(side, device=boxes.device) + 0.5 for side in size)
    left, top, right, bottom = boxes[..., None].unbind(-2)
    rows, columns = (y >= top) & (y < bottom), (x >= left) & (x < right)
    return rows[..., :, None] & columns[..., None, :]


def encode_masks(masks: Tensor) -> list[Entry]:
    """Encode masks bool [K, H, W] as compressed run lengths, with `counts` as text, as JSON needs it."""
    # pycocotools wants [H, W, K] with y running fastest, which is the memory of a [K, W, H] array
    columns = masks.to("cpu", torch.uint8).transpose(1, 2).contiguous().numpy()
    return [{**run, "counts": run["counts"].decode("ascii")} for run in coco_mask.encode(columns.transpose(2, 1, 0))]


def decode_masks(segmentations: Sequence[Segmentation], height: int, width: int) -> Tensor:
    """Decode COCO segmentations of any kind that passed `checks.shape_problem`: bool [K, H, W]."""
    if not segmentations:
        return torch.zeros(0, height, width, dtype=torch.bool)
    masks = coco_mask.decode([compressed(s, height, width) for s in segmentations])  # [H, W, K], y fastest
    return torch.from_numpy(masks.transpose(2, 1, 0)).view(torch.bool).transpose(1, 2).contiguous()


def compressed(segmentation: Segmentation, height: int, width: int) -> Entry:
    """Turn one COCO segmentation of any kind into a compressed run length, in which the parts of the object are joined."""
    if isinstance(segmentation, list):
        return coco_mask.merge(coco_mask.frPyObjects(segmentation, height, width))
    if isinstance(segmentation["counts"], list):
        return coco_mask.frPyObjects(segmentation, height, width)
    return segmentation


def run_length(segmentation: Segmentation, height: int, width: int) -> Entry:
    """Turn one COCO segmentation of any kind into the form that is compared and written, as of `encode_masks`."""
    counts = compressed(segmentation, height, width)["counts"]
    return {"size": [height, width], "counts": counts if isinstance(counts, str) else counts.decode("ascii")}


def run_total(counts: list[int] | str) -> int | None:
    """Count the pixels of a run length; None if it is cut within a number, or a run is negative. Check it before decoding:
    pycocotools fills what a short run length leaves open with whatever is in memory.
    """
    runs = np.array(counts, dtype=np.int64) if isinstance(counts, list) else _parse(counts)
    return None if runs is None or (runs < 0).any() else int(runs.sum())


def paint_semantic(instances: Instances) -> Tensor:
    """Paint instances as a class map uint8 [H, W]: smaller objects lie on top, crowds (255) below all others."""
    masks = instances.masks
    area = masks.flatten(1).sum(1) + instances.crowd * masks[0:1].numel()
    order = area.argsort(stable=True)
    values = torch.where(instances.crowd, IGNORE, instances.labels + 1)[order].to(torch.uint8)
    values = torch.cat([values, values.new_tensor([BACKGROUND])])
    rank = torch.arange(len(order), dtype=torch.int16)[:, None, None]
    top = torch.where(masks[order], rank, len(order)).amin(0) if len(order) else torch.zeros(masks.shape[1:])
    return values[top.long()]


def _parse(text: str) -> np.ndarray | None:
    """Read COCO's text: a number is letters of 5 bits with one for "more follow"; from the third on, less the last but one."""
    codes = np.frombuffer(text.encode("utf-8"), dtype=np.uint8).astype(np.int64) - 48
    if len(codes) == 0 or (codes < 0).any() or (codes > 63).any() or codes[-1] & 32:
        return None
    last = (codes & 32) == 0
    starts = np.concatenate([[0], np.flatnonzero(last)[:-1] + 1])
    lengths = np.diff(np.append(starts, len(codes)))
    if lengths.max() > 7:  # more than 35 bits: no image is that large
        return None
    shift = 5 * (np.arange(len(codes)) - np.repeat(starts, lengths))
    values = np.add.reduceat((codes & 31) << shift, starts)
    values -= np.where((codes[last] & 16) != 0, np.left_shift(1, 5 * lengths), 0)
    for start in (1, 2):
        values[start::2] = np.cumsum(values[start::2])
    return values


def tags_from_labels(labels: Tensor, num_classes: int) -> Tensor:
    """Say which classes occur among labels int64 [K] in 0..C-1: bool [C]."""
    tags = torch.zeros(num_classes, dtype=torch.bool, device=labels.device)
    tags[labels] = True
    return tags


def tags_from_map(class_map: Tensor, num_classes: int) -> Tensor:
    """Say which classes have a pixel in a class map uint8 [H, W]: bool [C]; 0 and 255 are no classes."""
    return torch.bincount(class_map.flatten(), minlength=256)[1 : num_classes + 1] > 0


def sample_mask(segmentation: Segmentation, size: tuple[int, int], y: Tensor, x: Tensor) -> Tensor:
    """Read a mask of an image of `size` (H, W) at rows y int64 [h] and columns x int64 [w], bool [h, w], without decoding
    its other pixels.
    """
    height, width = size
    runs = _parse(run_length(segmentation, height, width)["counts"])
    assert runs is not None  # `checks.shape_problem` has looked
    ends = torch.from_numpy(runs).cumsum(0)
    return torch.searchsorted(ends, x * height + y[:, None], right=True) % 2 == 1
