"""What supervises a segmenter: masks of a COCO JSON, at the size at which it sees the image; and the way back to pixels."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple, Self

import torch
from torch import Tensor
from torch.nn.functional import interpolate
from torchvision.ops import masks_to_boxes

from wsis.core.errors import DataError
from wsis.core.masks import Part, RunLengths, Size
from wsis.core.types import Batch, Dataset
from wsis.data.checks import by_image, read_coco
from wsis.data.transforms import short_side
from wsis.data.wrappers import Subset, samples
from wsis.ops.enlarge import enlarge

Terms = dict[str, Tensor]  # of a loss
TEST_LIMITS = (800, 1333)  # pixels, of the shorter and of the longer side at test time (COCO's convention)
SMALL = 256 / 800  # share of these sizes that the segmenters see on a backbone for small photographs


class Target(NamedTuple):
    """The objects of one training image: masks uint8 [K, H, W], labels int64 [K] in 0..C-1, boxes float [K, 4] xyxy."""

    masks: Tensor
    labels: Tensor
    boxes: Tensor

    @classmethod
    def make(cls, masks: Tensor, labels: Tensor) -> Self:
        """Build it from masks bool [K, H, W] without those that have no pixel; boxes are half-open."""
        filled = masks.flatten(1).any(1)
        boxes = masks_to_boxes(masks[filled]) + torch.tensor([0.0, 0.0, 1.0, 1.0])
        return cls(masks[filled].to(torch.uint8), labels[filled], boxes)

    def to(self, device: torch.device) -> Self:
        return type(self)(*(t.to(device, non_blocking=True) for t in self))


class Window(NamedTuple):
    """A part of a resized image, perhaps mirrored: size of the resized image, top left corner and size of the part."""

    resized: Size
    corner: tuple[int, int]
    size: Size
    flip: bool

    def image(self, image: Tensor) -> Tensor:
        """Cut the part from float [3, H, W]: [3, *size]."""
        if tuple(image.shape[1:]) != self.resized:
            image = interpolate(image[None], self.resized, mode="bilinear", antialias=True)[0]
        (top, left), (height, width) = self.corner, self.size
        part = image[:, top : top + height, left : left + width]
        return part.flip(2) if self.flip else part

    def masks(self, masks: Tensor) -> Tensor:
        """Cut the part from bool [K, H, W], each pixel that of the nearest center: [K, *size]."""
        rows, columns = (
            ((torch.arange(start, start + length) + 0.5) * (side / resized)).long()
            for side, resized, start, length in zip(masks.shape[1:], *self[:3], strict=True)
        )
        return masks[:, rows[:, None], columns.flip(0) if self.flip else columns]


@dataclass(frozen=True, kw_only=True)
class View:
    """How large a segmenter sees images, in pixels: as they are, at test time up to `test`, or resized with their aspect to
    the largest size within limits of the shorter and the longer side: drawn from `short` and `long` in training, `test` at
    test time. crop: side of the square of which a random part of the result is taken; 0 takes all.
    """

    short: tuple[float, float] | None = None
    long: tuple[float, float] = (1333, 1333)
    crop: int = 0
    test: tuple[float, float] = TEST_LIMITS

    def draw(self, height: int, width: int) -> Window:
        """Draw a random window of an image, mirrored with probability 1/2, from torch's global generator."""
        scale, down, across, flip = torch.rand(4).tolist()
        resized = height, width
        if self.short:
            resized = short_side(resized, *(low + scale * (high - low) for low, high in (self.short, self.long)))
        room = [max(side - self.crop, 0) if self.crop else 0 for side in resized]
        corner = int(down * (room[0] + 1)), int(across * (room[1] + 1))
        return Window(resized, corner, (resized[0] - room[0], resized[1] - room[1]), flip < 0.5)

    def at_test(self, height: int, width: int) -> Window:
        large = min(height, width) > self.test[0] or max(height, width) > self.test[1]
        resized = short_side((height, width), *self.test) if self.short or large else (height, width)
        return Window(resized, (0, 0), resized, False)

    def scaled(self, share: float) -> Self:
        """Return the view with all sizes at a share."""
        pairs = {n: tuple(share * v for v in getattr(self, n)) for n in ("short", "long", "test") if getattr(self, n)}
        return replace(self, **pairs, crop=round(share * self.crop))


class JsonMasks:
    """The masks of a COCO JSON by image id, without crowds; raises DataError if its categories are not `classes`."""

    def __init__(self, path: Path, classes: tuple[str, ...]) -> None:
        coco, _ = read_coco(path)
        categories = sorted(coco["categories"], key=lambda c: c["id"])
        if tuple(c["name"] for c in categories) != classes:
            raise DataError(f"{path}: its categories are not {', '.join(classes)}; write it for the images' data set")
        self.path = path
        self.label = {c["id"]: i for i, c in enumerate(categories)}
        self.size = {i["id"]: (i["height"], i["width"]) for i in coco["images"]}
        objects = [a for a in coco["annotations"] if not a.get("iscrowd") and "segmentation" in a]
        self.annotations = by_image(objects)

    def subset(self, dataset: Dataset) -> Subset:
        """Return the images with a mask (others may only lack labels); DataError if one has another size than its masks."""
        indices = []
        for index, sample in enumerate(samples(dataset)):
            if sample.image_id not in self.annotations:
                continue
            if sample.size != (size := self.size[sample.image_id]):
                where = f"{self.path}: image {sample.image_id} is {size} (height, width) here"
                raise DataError(f"{where}, but {sample.size} in the data set; write the masks at that size")
            indices.append(index)
        return Subset(dataset, indices)

    def target(self, image_id: int, window: Window) -> Target:
        """Return the objects of one image in a window of it, on the CPU."""
        rows = self.annotations[image_id]
        runs = RunLengths.read([r["segmentation"] for r in rows], self.size[image_id])
        masks = [window.masks(runs[i : i + 1].decode()) for i in range(len(runs))]  # one at the size of the image
        labels = torch.tensor([self.label[r["category_id"]] for r in rows], dtype=torch.long)
        return Target.make(torch.cat([torch.zeros(0, *window.size, dtype=torch.bool), *masks]), labels)

    def examples(self, batch: Batch, view: View) -> tuple[list[Tensor], list[Target]]:
        """Return random views of a batch's images, float [3, h, w] without padding, and their targets. Sizes are those of the
        JSON, since reading the padding of a batch on a GPU would wait for it.
        """
        images, targets = [], []
        for image, image_id in zip(batch.images, batch.image_ids, strict=True):
            height, width = self.size[image_id]
            window = view.draw(height, width)
            images.append(window.image(image[:, :height, :width]))
            targets.append(self.target(image_id, window).to(image.device))
        return images, targets


def stacked_masks(masks: list[Tensor], size: Size) -> Tensor:
    """Stack masks uint8 [K_i, h_i, w_i] of all images as one [sum of K_i, *size], padded with 0 like the images."""
    out = masks[0].new_zeros(sum(len(m) for m in masks), *size)
    for part, m in zip(out.split([len(m) for m in masks]), masks, strict=True):
        part[:, : m.shape[1], : m.shape[2]] = m
    return out


def size_of(image: Tensor) -> Size:
    return image.shape[-2], image.shape[-1]


def at_image_size(maps: Tensor, padded: Size, resized: Size, size: Size, threshold: float) -> Iterator[Part]:
    """Bring maps [K, h, w] of an image that fills `resized` of `padded` to its size one by one; threshold: see `enlarge`."""
    for values in maps[:, None, None]:
        whole = interpolate(values, padded, mode="bilinear", align_corners=False)
        yield enlarge(whole[0, 0, : resized[0], : resized[1]], size, threshold)
