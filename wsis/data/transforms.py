"""Transforms that move an image together with its masks, class maps and clicks, and the stacking of samples."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TypeVar

import torch
from torch import Tensor
from torchvision.transforms.v2 import InterpolationMode
from torchvision.transforms.v2 import functional as F

from wsis.core.errors import DataError
from wsis.core.masks import RunLengths
from wsis.core.types import IGNORE, Batch, ExtremePoints, Points, Sample
from wsis.data.masks import tags_from_map

MEAN_COLOR = (124, 116, 104)
"""The mean of ImageNet, RGB 0..255: padding of this color is zero after the usual normalization."""
STRIDE = 32  # of a backbone: 32 k + 1 pixels have their corners at the centers of its cells
MIRRORED = [0, 3, 2, 1]  # top, left, bottom, right after a left-right flip

Change = Callable[[Tensor], Tensor]
T = TypeVar("T")


@dataclass(frozen=True, kw_only=True)
class Augment:
    """Change color, size, place and flip of a sample at random; the same sample and seed give the same result.

    The defaults are those of BESTIE's instance network.

    Args:
        crop, square: sides in pixels of the square that comes out, and of one to which images are resized first.
        long_side: images whose longer side exceeds this are shrunk to it first, then both sides become 32 k + 1 pixels.
        scale, scale_step: range of the random factor, and its steps (0: any value).
        flip, color_probability: of a left-right flip, and of each change of color.
        shift: half range of what is added to all channels, 0..255.
        brightness, contrast, saturation, hue: half ranges of factors about 1, and of a turn, where 1 is a full circle.
        pad_value: value of class maps on padding: 255 is ignored by the losses, 0 is background (released code).
    """

    crop: int = 416
    long_side: int | None = 449
    square: int | None = None
    scale: tuple[float, float] = (0.7, 1.3)
    scale_step: float = 0.1
    flip: float = 0.5
    shift: float = 16
    brightness: float = 0.0
    contrast: float = 0.5
    saturation: float = 0.0
    hue: float = 0.1
    color_probability: float = 0.5
    pad_value: int = IGNORE

    def __call__(self, sample: Sample, seed: int) -> Sample:
        """Return a crop with `valid`; clicks, extreme points and true masks outside it are dropped, tags stay."""
        size, top, left, flip, *color = _chances(16, seed)
        sample = resize(replace(sample, image=self._recolored(sample.image, color)), self._size(sample.size, size))
        height, width = sample.size
        top, left = _offset(height, self.crop, top), _offset(width, self.crop, left)

        def cropped(values: Tensor) -> Tensor:
            return F.crop(values, top, left, self.crop, self.crop)

        sample = replace(sample, valid=torch.ones(height, width, dtype=torch.bool))
        sample = _moved(sample, cropped, cropped, lambda xy: xy - torch.tensor([left, top]))
        sample = _visible(_mirrored(sample) if flip < self.flip else sample)
        valid = sample.valid
        if valid is None or valid.all():
            return sample
        image = sample.image.where(valid, torch.tensor(MEAN_COLOR, dtype=torch.uint8)[:, None, None])
        maps = {k: v for k in ("semantic_map", "true_semantic") if (v := getattr(sample, k)) is not None}
        return replace(sample, image=image, **{k: v.masked_fill(~valid, self.pad_value) for k, v in maps.items()})

    def _size(self, size: tuple[int, int], chance: float) -> tuple[int, int]:
        height, width = size
        if self.square:
            height = width = self.square
        elif self.long_side:
            shrunk = [int(side * min(1, self.long_side / max(size))) for side in size]
            sides = (side + -(side - 1) % STRIDE for side in shrunk)
            height, width = (side - STRIDE if side > self.long_side else side for side in sides)
        low, high = self.scale
        factor = low + chance * (high - low)
        if self.scale_step:
            steps = round((high - low) / self.scale_step)
            factor = low + min(int(chance * (steps + 1)), steps) * self.scale_step
        return max(1, round(height * factor)), max(1, round(width * factor))

    def _recolored(self, image: Tensor, chance: list[float]) -> Tensor:
        changes = (
            (self.shift, lambda v: (image.short() + round(v)).clamp_(0, 255).to(torch.uint8)),
            (self.brightness, lambda v: F.adjust_brightness(image, 1 + v)),
            (self.contrast, lambda v: F.adjust_contrast(image, 1 + v)),
            (self.saturation, lambda v: F.adjust_saturation(image, 1 + v)),
            (self.hue, lambda v: F.adjust_hue(image, v)),
        )
        for (strength, change), happens, amount in zip(changes, chance[:5], chance[5:10], strict=True):
            if strength and happens < self.color_probability:
                image = change((2 * amount - 1) * strength)
        return image


@dataclass(frozen=True, kw_only=True)
class ShortSide:
    """Change size and flip of a whole sample at random, as detectors are trained; a seed gives the same result again. The
    shorter side is one of `short`, the longer at most `long`, in pixels; `flip` is a probability.
    """

    short: tuple[int, ...]
    long: int
    flip: float

    def __call__(self, sample: Sample, seed: int) -> Sample:
        choice, flip = _chances(2, seed)
        sample = resize(sample, short_side(sample.size, self.short[int(choice * len(self.short))], self.long))
        return _mirrored(sample) if flip < self.flip else sample


def short_side(size: tuple[int, int], short: float, long: float) -> tuple[int, int]:
    """Return (height, width) with the aspect of `size`: the shorter side is `short`, unless the longer would exceed `long`."""
    factor = min(short / min(size), long / max(size))
    return max(1, round(size[0] * factor)), max(1, round(size[1] * factor))


def resize(sample: Sample, size: int | tuple[int, int]) -> Sample:
    """Resize a sample: `size` is (height, width), or the longer side with the aspect kept."""
    (height, width), target = sample.size, _sides(sample.size, size)
    if target == sample.size:
        return _visible(sample)
    factor = torch.tensor([target[1] / width, target[0] / height])

    def clicks(xy: Tensor) -> Tensor:  # pixel centers are at integers, pixel corners half a pixel beside
        return (xy + 0.5) * factor - 0.5

    def image(values: Tensor) -> Tensor:
        return F.resize(values, list(target), antialias=True)

    return _visible(_moved(sample, image, lambda masks: resize_masks(masks, target), clicks))


def resize_masks(masks: Tensor, size: int | tuple[int, int]) -> Tensor:
    """Resize masks or class maps [*B, H, W] of bool or uint8, see `resize`, each pixel to the value of the nearest one."""
    # Plain "nearest" would shift them against the image by up to half a pixel.
    target = list(_sides((masks.shape[-2], masks.shape[-1]), size))
    return F.resize_image(masks.view(torch.uint8), target, InterpolationMode.NEAREST_EXACT).view(masks.dtype)


def _sides(now: tuple[int, int], size: int | tuple[int, int]) -> tuple[int, int]:
    """(height, width) of an image of `now` whose longer side becomes `size`, or all of it."""
    if not isinstance(size, int):
        return size
    return max(1, round(now[0] * size / max(now))), max(1, round(now[1] * size / max(now)))


def shrunk(sample: Sample, longest: int) -> Sample:
    """The sample, resized where its longer side has more than `longest` pixels; a class that vanishes from its true class map
    loses its tag.
    """
    if max(sample.size) <= longest:
        return sample
    small = resize(sample, longest)
    if small.tags is None or sample.true_semantic is None or small.true_semantic is None:
        return small
    before, after = (tags_from_map(known, len(small.tags)) for known in (sample.true_semantic, small.true_semantic))
    return replace(small, tags=small.tags & (after | ~before))


def collate(samples: Sequence[Sample]) -> Batch:
    """Stack samples; smaller ones are padded on the right and at the bottom (mean color, 255, valid False). Raises DataError if
    some of the samples have a kind of label that others lack.
    """
    height, width = (max(s.size[i] for s in samples) for i in (0, 1))
    images = torch.tensor(MEAN_COLOR, dtype=torch.uint8)[:, None, None].repeat(len(samples), 1, height, width)
    valid = torch.zeros(len(samples), height, width, dtype=torch.bool)
    for i, sample in enumerate(samples):
        h, w = sample.size
        images[i, :, :h, :w] = sample.image
        valid[i, :h, :w] = True if sample.valid is None else sample.valid

    def class_maps(values: list[Tensor]) -> Tensor:
        maps = torch.full(valid.shape, IGNORE, dtype=torch.long)
        for i, value in enumerate(values):
            maps[i, : value.shape[0], : value.shape[1]] = value
        return maps

    def stacked(name: str, stack: Callable[[list], T]) -> T | None:
        values = [getattr(s, name) for s in samples]
        lacking = [s.image_id for s, v in zip(samples, values, strict=True) if v is None]
        if 0 < len(lacking) < len(samples):
            raise DataError(f"image {lacking[0]} has no {name}, others of the batch do; annotate all images or none")
        return None if lacking else stack(values)

    return Batch(
        images=images.float().div_(255),
        image_ids=tuple(s.image_id for s in samples),
        valid=valid,
        tags=stacked("tags", torch.stack),
        points=stacked("points", Points.batch),
        semantic_maps=stacked("semantic_map", class_maps),
        extreme_points=stacked("extreme_points", list[ExtremePoints]),
        other_extreme_points=stacked("other_extreme_points", list[ExtremePoints]),
        jittered=stacked("jittered", lambda images: torch.stack(images).float().div_(255)),
    )


def _chances(count: int, seed: int) -> list[float]:
    """Draw numbers in [0, 1) that the seed decides."""
    return torch.rand(count, generator=torch.Generator().manual_seed(seed), dtype=torch.float64).tolist()


def _moved(sample: Sample, image: Change, masks: Change, clicks: Change) -> Sample:
    """Change all that has a place in a sample: the image, masks and maps uint8 or bool [K, H, W], and clicks [N, ..., 2]."""
    fields: dict[str, object] = {"image": image(sample.image)}
    for name in ("semantic_map", "true_semantic", "valid"):
        if (values := getattr(sample, name)) is not None:
            fields[name] = masks(values[None])[0]
    if sample.truth is not None:
        fields["truth"] = replace(sample.truth, runs=RunLengths.of(masks(sample.truth.masks)))
    for name in ("points", "extreme_points"):
        if (values := getattr(sample, name)) is not None:
            fields[name] = replace(values, xy=clicks(values.xy))
    return replace(sample, **fields)


def _offset(side: int, crop: int, chance: float) -> int:
    """Say where the crop starts in the image; negative where a smaller image lies within the crop."""
    room = side - crop
    return min(0, room) + min(int(chance * (abs(room) + 1)), abs(room))


def _mirrored(sample: Sample) -> Sample:
    """Swap left and right, also in the order of extreme points."""
    last = torch.tensor([sample.size[1] - 1, 0])
    sample = _moved(sample, F.horizontal_flip, F.horizontal_flip, lambda xy: (xy - last) * torch.tensor([-1, 1]))
    four = sample.extreme_points
    return sample if four is None else replace(sample, extreme_points=replace(four, xy=four.xy[:, MIRRORED]))


def _visible(sample: Sample) -> Sample:
    """Leave out clicks and true objects that are not in the image."""
    limit, fields = torch.tensor(sample.size[::-1]) - 0.5, {}
    for name in ("points", "extreme_points"):
        if (clicks := getattr(sample, name)) is not None:
            fields[name] = clicks[((clicks.xy >= -0.5) & (clicks.xy < limit)).flatten(1).all(1)]
    if sample.truth is not None:
        fields["truth"] = sample.truth[sample.truth.runs.areas > 0]
    return replace(sample, **fields)
