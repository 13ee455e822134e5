"""Transforms that move an image together with its masks, class maps and clicks, and the stacking of samples.

Where `torchvision.transforms.v2` measures from pixel corners (resizing of key points), half a pixel is added before and
subtracted after, because our pixel centers are at integers.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor
from torchvision import tv_tensors
from torchvision.transforms.v2 import InterpolationMode
from torchvision.transforms.v2 import functional as F

from wsis.core.errors import DataError
from wsis.core.types import IGNORE, Batch, Instances, Points, Sample

MEAN_COLOR = (124, 116, 104)
"""The mean of ImageNet, RGB 0..255: padding of this color is zero after the usual normalization."""

Labels = dict[str, Tensor]
MAPS, CLICKS = ("semantic_map", "true_semantic"), ("points", "extreme_points")


@dataclass(frozen=True, kw_only=True)
class Augment:
    """Change color, size, place and flip of a sample at random; the same sample and seed give the same result.

    The defaults are those of BESTIE's instance network. Its classifier has `square=384`, `crop=321`, `scale=(1, 1)`,
    `shift=0`, `brightness=contrast=saturation=0.3`, `hue=0.1`, `color_probability=1`.

    Args:
        crop: side of the square that comes out, pixels.
        long_side: images whose longer side exceeds this are shrunk to it first, with their aspect, pixels.
        square: side of a square to which images are resized first, pixels.
        scale, scale_step: range of the random factor, and its steps (0: any value).
        flip: probability of a left-right flip.
        shift: half range of what is added to all channels, 0..255.
        brightness, contrast, saturation: half ranges of factors about 1.
        hue: half range of the turn, where 1 is a full circle.
        color_probability: probability of each change of color.
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
        labels = _labels(sample)
        labels["image"] = self._recolored(labels["image"], color)
        labels = _resize(labels, self._size(sample.size, size))
        height, width = labels["image"].shape[-2:]
        labels["valid"] = tv_tensors.Mask(torch.ones(1, height, width, dtype=torch.uint8))
        # one offset says both where a large image is cut and where a small one is placed
        top, left = _offset(height, self.crop, top), _offset(width, self.crop, left)
        labels = {k: F.crop(v, top, left, self.crop, self.crop) for k, v in labels.items()}
        if flip < self.flip:
            labels = _flipped(labels)
        valid = labels.pop("valid")[0].as_subclass(Tensor).bool()
        if not valid.all():
            labels["image"] = labels["image"].where(valid, torch.tensor(MEAN_COLOR, dtype=torch.uint8)[:, None, None])
            labels |= {k: labels[k].masked_fill(~valid, self.pad_value) for k in MAPS if k in labels}
        return replace(_moved(sample, labels), valid=valid)

    def _size(self, size: tuple[int, int], chance: float) -> tuple[int, int]:
        height, width = size
        if self.square:
            height = width = self.square
        elif self.long_side and max(size) > self.long_side:
            height, width = (side * self.long_side / max(size) for side in size)
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
        return tv_tensors.Image(image)


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
        size = short_side(sample.size, self.short[int(choice * len(self.short))], self.long)
        labels = _resize(_labels(sample), size)
        return _moved(sample, _flipped(labels) if flip < self.flip else labels)


def short_side(size: tuple[int, int], short: float, long: float) -> tuple[int, int]:
    """Return (height, width) with the aspect of `size`: the shorter side is `short`, unless the longer would exceed `long`."""
    factor = min(short / min(size), long / max(size))
    return max(1, round(size[0] * factor)), max(1, round(size[1] * factor))


def resize(sample: Sample, size: int | tuple[int, int]) -> Sample:
    """Resize a sample: `size` is (height, width), or the longer side with the aspect kept."""
    if isinstance(size, int):
        height, width = sample.size
        longer = max(sample.size)
        size = max(1, round(height * size / longer)), max(1, round(width * size / longer))
    return _moved(sample, _resize(_labels(sample), size))


def collate(samples: Sequence[Sample]) -> Batch:
    """Stack samples; smaller ones are padded on the right and at the bottom (mean color, 255, valid False).

    Raises DataError if some of the samples have a kind of label that others lack.
    """
    height, width = (max(s.size[i] for s in samples) for i in (0, 1))
    images = torch.tensor(MEAN_COLOR, dtype=torch.uint8)[:, None, None].repeat(len(samples), 1, height, width)
    valid = torch.zeros(len(samples), height, width, dtype=torch.bool)
    maps = torch.full(valid.shape, IGNORE, dtype=torch.long)
    for i, sample in enumerate(samples):
        h, w = sample.size
        images[i, :, :h, :w] = sample.image
        valid[i, :h, :w] = True if sample.valid is None else sample.valid
        if sample.semantic_map is not None:
            maps[i, :h, :w] = sample.semantic_map
    jittered, semantic = _from_all(samples, "jittered"), _from_all(samples, "semantic_map")
    tags, points = _from_all(samples, "tags"), _from_all(samples, "points")
    return Batch(
        images=images.float().div_(255),
        image_ids=tuple(s.image_id for s in samples),
        valid=valid,
        tags=None if tags is None else torch.stack(tags),
        points=None if points is None else Points.batch(points),
        semantic_maps=None if semantic is None else maps,
        extreme_points=_from_all(samples, "extreme_points"),
        other_extreme_points=_from_all(samples, "other_extreme_points"),
        jittered=None if jittered is None else torch.stack(jittered).float().div_(255),
    )


def _from_all(samples: Sequence[Sample], name: str) -> list[Any] | None:
    values = [getattr(s, name) for s in samples]
    lacking = [s.image_id for s, v in zip(samples, values, strict=True) if v is None]
    if 0 < len(lacking) < len(samples):
        raise DataError(f"image {lacking[0]} has no {name}, others of the batch do; annotate all images or none")
    return None if lacking else values


def _chances(count: int, seed: int) -> list[float]:
    """Draw numbers in [0, 1) that the seed decides."""
    return torch.rand(count, generator=torch.Generator().manual_seed(seed), dtype=torch.float64).tolist()


def _labels(sample: Sample) -> Labels:
    """Collect what of a sample has a place in the image, each as the kind of tensor that torchvision moves."""
    labels: Labels = {"image": tv_tensors.Image(sample.image)}
    labels |= {k: tv_tensors.Mask(v[None]) for k in MAPS if (v := getattr(sample, k)) is not None}
    if sample.truth is not None and len(sample.truth):
        labels["truth"] = tv_tensors.Mask(sample.truth.masks.view(torch.uint8))
    return labels | {
        k: _key_points(v.xy, sample.size) for k in CLICKS if (v := getattr(sample, k)) is not None and len(v)
    }


def _key_points(xy: Tensor, canvas_size: tuple[int, int]) -> tv_tensors.KeyPoints:
    return tv_tensors.KeyPoints(xy, canvas_size=canvas_size)  # pyright: ignore[reportCallIssue]


def _resize(labels: Labels, size: tuple[int, int]) -> Labels:
    if tuple(labels["image"].shape[-2:]) == size:
        return labels
    return {k: _resize_one(v, list(size)) for k, v in labels.items()}


def _resize_one(value: Tensor, size: list[int]) -> Tensor:
    if isinstance(value, tv_tensors.KeyPoints):
        corners = F.resize(_key_points(value.as_subclass(Tensor) + 0.5, value.canvas_size), size)
        return _key_points(corners.as_subclass(Tensor) - 0.5, (size[0], size[1]))
    if isinstance(value, tv_tensors.Mask):  # plain "nearest" would shift masks against the image by up to half a pixel
        return tv_tensors.Mask(F.resize_image(value.as_subclass(Tensor), size, InterpolationMode.NEAREST_EXACT))
    return F.resize(value, size, antialias=True)


def _flipped(labels: Labels) -> Labels:
    """Swap left and right, also in the order of extreme points."""
    labels = {k: F.horizontal_flip(v) for k, v in labels.items()}
    if "extreme_points" in labels:
        labels["extreme_points"] = labels["extreme_points"][:, [0, 3, 2, 1]]
    return labels


def _offset(side: int, crop: int, chance: float) -> int:
    """Say where the crop starts in the image; negative where a smaller image lies within the crop."""
    room = side - crop
    return min(0, room) + min(int(chance * (abs(room) + 1)), abs(room))


def _moved(sample: Sample, labels: Labels) -> Sample:
    """Give the sample its moved fields as plain tensors, without what has left the image."""
    plain = {k: v.as_subclass(Tensor) for k, v in labels.items()}
    height, width = plain["image"].shape[-2:]
    fields: dict[str, Any] = {"image": plain["image"], **{k: plain[k][0] for k in MAPS if k in plain}}
    for name in CLICKS:
        if name in plain:
            xy = plain[name]
            inside = ((xy >= -0.5) & (xy < torch.tensor([width, height]) - 0.5)).reshape(len(xy), -1).all(1)
            fields[name] = replace(getattr(sample, name), xy=xy)[inside]
    if sample.truth is not None:
        masks = plain["truth"].view(torch.bool) if "truth" in plain else Instances.none(height, width).masks
        fields["truth"] = replace(sample.truth, masks=masks)[masks.flatten(1).any(1)]
    return replace(sample, **fields)
