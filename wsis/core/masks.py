"""Masks of one image as COCO run lengths, which grow with the outlines of objects and not with the pixels of the image.

Pixels are decoded one object at a time, and only in its box: a photograph of 48 Mpx with 1,000 objects would be 48 GB.
"""

from collections.abc import Iterable, Iterator, Sequence
from typing import Any, NamedTuple, Self

import numpy as np
import torch
from pycocotools import mask
from scipy.ndimage import find_objects
from torch import Tensor

from wsis.core.files import Entry

coco_mask: Any = mask  # its declared types refuse entries of a JSON
Segmentation = Entry | list[list[float]]
"""COCO's ways to store a mask: a run length, whose `counts` are numbers or text, or polygons."""
Size = tuple[int, int]  # (height, width) in pixels


class Part(NamedTuple):
    """Pixels bool [h, w] of a mask, which has none elsewhere, and the row and column of the first of them in the image."""

    row: int
    column: int
    pixels: Tensor

    @property
    def corner(self) -> Tensor:
        """The first pixel, float32 [2], (x, y)."""
        return torch.tensor([self.column, self.row], dtype=torch.float32)

    def holds(self, y: Tensor, x: Tensor) -> Tensor:
        """Whether pixels of the image, int64 rows and columns of any shape, are in the mask: bool of that shape."""
        y, x, (height, width) = y - self.row, x - self.column, self.pixels.shape
        inside = (y >= 0) & (y < height) & (x >= 0) & (x < width)
        inside[inside.clone()] = self.pixels[y[inside], x[inside]]
        return inside


class RunLengths:
    """K masks of an image of `size`, each a compressed run length {"size", "counts": text}. Indexed as a tensor of K rows."""

    def __init__(self, entries: Sequence[Entry], size: Size) -> None:
        self.entries, self.size = list(entries), size

    @classmethod
    def encode(cls, parts: Iterable[Part], size: Size) -> Self:
        return cls([encode_part(part, size) for part in parts], size)

    @classmethod
    def of(cls, masks: Tensor) -> Self:
        """Encode masks bool [K, H, W]."""
        return cls.encode((Part(0, 0, mask) for mask in masks), (masks.shape[1], masks.shape[2]))

    @classmethod
    def of_regions(cls, ids: Tensor, rows: Iterable[int]) -> Self:
        """Encode some regions of a map of ids, int [H, W], each in its box; row i has the id i + 1, and may have no pixel."""
        ids = ids.cpu()
        boxes = dict(enumerate(find_objects(ids.numpy())))

        def part(row: int) -> Part:
            y, x = boxes.get(row) or (slice(0, 0), slice(0, 0))
            return Part(y.start, x.start, ids[y, x] == row + 1)

        return cls.encode(map(part, rows), (ids.shape[0], ids.shape[1]))

    @classmethod
    def read(cls, segmentations: Iterable[Segmentation], size: Size) -> Self:
        """Take COCO segmentations of any kind that passed `checks.shape_problem`."""
        return cls([run_length(segmentation, *size) for segmentation in segmentations], size)

    def __len__(self) -> int:
        return len(self.entries)

    def __getitem__(self, index: Tensor | slice | list[int]) -> Self:
        if isinstance(index, slice):
            return type(self)(self.entries[index], self.size)
        index = torch.as_tensor(index)
        rows = index.nonzero()[:, 0] if index.dtype == torch.bool else index
        return type(self)([self.entries[i] for i in rows.tolist()], self.size)

    def to(self, device: torch.device | str, non_blocking: bool = False) -> Self:  # run lengths are text
        return self

    def cat(self, other: Self) -> Self:
        if self.size != other.size:
            raise ValueError(f"masks of {self.size} and of {other.size} pixels are of two images")
        return type(self)(self.entries + other.entries, self.size)

    def decode(self) -> Tensor:
        """All pixels at once: bool [K, H, W]."""
        if not self.entries:
            return torch.zeros(0, *self.size, dtype=torch.bool)
        masks = coco_mask.decode(self.entries)  # [H, W, K], y fastest
        return torch.from_numpy(masks.transpose(2, 1, 0)).view(torch.bool).transpose(1, 2).contiguous()

    def parts(self) -> Iterator[Part]:
        """The pixels of each mask within its box, one mask after the other."""
        height = self.size[0]
        for entry, (left, top, right, bottom) in zip(self.entries, self.boxes.tolist(), strict=True):
            ends = np.clip(parse_runs(entry["counts"]).cumsum() - left * height, 0, (right - left) * height)
            columns = np.repeat(np.arange(len(ends)) % 2 == 1, np.diff(ends, prepend=0)).reshape(-1, height)
            yield Part(top, left, torch.from_numpy(columns[:, top:bottom].T.copy()))

    @property
    def areas(self) -> Tensor:
        """Pixels of each mask, int64 [K]."""
        return torch.tensor([int(coco_mask.area(entry)) for entry in self.entries], dtype=torch.long)

    @property
    def boxes(self) -> Tensor:
        """The box of each mask, xyxy and half-open, int64 [K, 4]; zeros for a mask without a pixel."""
        boxes = torch.tensor(np.array([coco_mask.toBbox(e) for e in self.entries])).reshape(-1, 4).long()
        return torch.cat([boxes[:, :2], boxes[:, :2] + boxes[:, 2:]], 1)

    def overlaps(self, other: Self, share: bool = False) -> Tensor:
        """IoU of each mask with each of `other`, or with `share` how much of it lies in the other: float64 [K, G]."""
        if not self.entries or not other.entries:
            return torch.zeros(len(self), len(other), dtype=torch.float64)
        return torch.from_numpy(coco_mask.iou(self.entries, other.entries, [int(share)] * len(other)))

    def with_pixels(self, xy: Tensor) -> Self:
        """Each mask together with its pixel, int64 [K, 2], (x, y)."""
        pixels = [encode_part(Part(y, x, torch.ones(1, 1)), self.size) for x, y in xy.tolist()]
        joined = [coco_mask.merge(pair) for pair in zip(self.entries, pixels, strict=True)]
        return self.read(joined, self.size)


def run_length(segmentation: Segmentation, height: int, width: int) -> Entry:
    """Turn one COCO segmentation of any kind into a compressed run length as text, in which the parts of the object are
    joined: the form that is compared and written.
    """
    if isinstance(segmentation, list):
        entry: Entry = coco_mask.merge(coco_mask.frPyObjects(segmentation, height, width))
    else:
        is_plain = isinstance(segmentation["counts"], list)
        entry = coco_mask.frPyObjects(segmentation, height, width) if is_plain else segmentation
    counts = entry["counts"]
    return {"size": list(entry["size"]), "counts": counts if isinstance(counts, str) else counts.decode("ascii")}


def encode_part(part: Part, size: Size) -> Entry:
    """The run length of a mask in its image of `size`."""
    (height, width), (rows, columns) = size, part.pixels.shape
    line = np.zeros(columns * height + 2, dtype=bool)  # columns of the image, one after the other, as the runs go
    line[1:-1].reshape(columns, height)[:, part.row : part.row + rows] = part.pixels.cpu().numpy().T
    ends = np.flatnonzero(line[1:] != line[:-1]) + part.column * height
    counts = np.diff(ends, prepend=0, append=height * width).tolist()
    counts = counts[:-1] if counts[-1] == 0 else counts
    return run_length({"size": [height, width], "counts": counts}, height, width)


def run_total(counts: list[int] | str) -> int | None:
    """Count the pixels of a run length; None if it is cut within a number, or a run is negative. Check it before decoding:
    pycocotools fills what a short run length leaves open with whatever is in memory.
    """
    try:
        runs = np.array(counts, dtype=np.int64) if isinstance(counts, list) else parse_runs(counts)
    except ValueError:
        return None
    return None if (runs < 0).any() else int(runs.sum())


def parse_runs(text: str) -> np.ndarray:
    """Read COCO's text: a number is letters of 5 bits with one for "more follow"; from the third on, less the last but one.
    Raises ValueError for other text.
    """
    codes = np.frombuffer(text.encode("utf-8"), dtype=np.uint8).astype(np.int64) - 48
    if len(codes) == 0 or (codes < 0).any() or (codes > 63).any() or codes[-1] & 32:
        raise ValueError("no run lengths, or cut within a number")
    last = (codes & 32) == 0
    starts = np.concatenate([[0], np.flatnonzero(last)[:-1] + 1])
    lengths = np.diff(np.append(starts, len(codes)))
    if lengths.max() > 7:  # more than 35 bits
        raise ValueError("no image is that large")
    shift = 5 * (np.arange(len(codes)) - np.repeat(starts, lengths))
    values = np.add.reduceat((codes & 31) << shift, starts)
    values -= np.where((codes[last] & 16) != 0, np.left_shift(1, 5 * lengths), 0)
    for start in (1, 2):
        values[start::2] = np.cumsum(values[start::2])
    return values
