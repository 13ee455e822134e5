"""Transforms that move an image together with its masks, class maps and clicks, and the stacking of samples.

`torchvision.transforms.v2` moves each tensor according to its kind. Where it measures from pixel corners
(resizing of key points), half a pixel is added before and taken off after, because our pixel centres are at
integers.
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
from wsis.core.types import IGNORE, Batch, ExtremePoints, Instances, Points, Sample

MEAN_COLOR = (124, 116, 104)
"""The mean of ImageNet, RGB 0..255: padding of this color is zero after the usual normalisation."""

Labels = dict[str, Tensor]


@dataclass(frozen=True, kw_only=True)
class PaddedSample(Sample):
    """A sample of which a part is padding. valid: bool [H, W], False on padding."""

    valid: Tensor | None = None


@dataclass(frozen=True, kw_only=True)
class Augment:
    """Random color, size, place and flip of a sample; the same sample and seed give the same result.

    The defaults are those of BESTIE's instance network. Its classifier: `square=384`, `crop=321`,
    `scale=(1, 1)`, `shift=0`, `brightness=contrast=saturation=0.3`, `hue=0.1`, `color_probability=1`.

    Args:
        crop: side of the square that comes out, pixels.
        long_side: shrink images whose longer side exceeds this first, keeping the aspect, pixels.
        square: resize to this square first, pixels.
        scale: range of the random factor. scale_step: it moves in steps of this; 0 = any value.
        flip: probability of a left-right flip.
        shift: half range of what is added to all channels, 0..255.
        brightness, contrast, saturation: half ranges of factors about 1.
        hue: half range of the turn, 1 = full circle.
        color_probability: with which each of these happens.
        pad_value: class maps on padding: 255 is ignored by the losses, 0 is background (released code).
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
    mean_color: tuple[int, int, int] = MEAN_COLOR

    def __call__(self, sample: Sample, seed: int) -> PaddedSample:
        """A crop of the sample; clicks, extreme points and true masks outside it are dropped, tags stay."""
        chance = torch.rand(16, generator=torch.Generator().manual_seed(seed), dtype=torch.float64).tolist()
        labels = _labels(sample)
        labels["image"] = self._recolor(labels["image"], chance[4:])
        labels = _resize(labels, self._size(sample.size, chance[0]))
        labels["valid"] = tv_tensors.Mask(torch.ones(1, *labels["image"].shape[-2:], dtype=torch.uint8))
        # one offset says both where a large image is cut and where a small one is placed
        top, left = (_offset(s, self.crop, u) for s, u in zip(labels["image"].shape[-2:], chance[1:3], strict=True))
        labels = {k: F.crop(v, top, left, self.crop, self.crop) for k, v in labels.items()}
        if chance[3] < self.flip:
            labels = _flipped(labels)
        return _sample(sample, labels, self.pad_value, self.mean_color)

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

    def _recolor(self, image: Tensor, chance: list[float]) -> Tensor:
        happens = [c < self.color_probability for c in chance[:5]]
        shift, brightness, contrast, saturation, hue = (2 * c - 1 for c in chance[5:10])
        if happens[0] and self.shift:
            moved = image.short() + round(shift * self.shift)
            image = tv_tensors.Image(moved.clamp_(0, 255).to(torch.uint8))
        if happens[1] and self.brightness:
            image = F.adjust_brightness(image, 1 + brightness * self.brightness)
        if happens[2] and self.contrast:
            image = F.adjust_contrast(image, 1 + contrast * self.contrast)
        if happens[3] and self.saturation:
            image = F.adjust_saturation(image, 1 + saturation * self.saturation)
        if happens[4] and self.hue:
            image = F.adjust_hue(image, hue * self.hue)
        return image


@dataclass(frozen=True, kw_only=True)
class ShortSide:
    """Random size and flip of a whole sample, as detectors are trained; the same sample and seed give the same result.

    short: sides to choose from, pixels of the shorter side. long: what the longer side must not exceed, pixels.
    flip: probability of a left-right flip.
    """

    short: tuple[int, ...]
    long: int
    flip: float

    def __call__(self, sample: Sample, seed: int) -> Sample:
        chance = torch.rand(2, generator=torch.Generator().manual_seed(seed), dtype=torch.float64).tolist()
        labels = _resize(
            _labels(sample), short_side(sample.size, self.short[int(chance[0] * len(self.short))], self.long)
        )
        if chance[1] < self.flip:
            labels = _flipped(labels)
        return replace(sample, **_fields(sample, labels))


def short_side(size: tuple[int, int], short: int, long: int) -> tuple[int, int]:
    """(height, width) with the aspect of `size`: the shorter side is `short`, unless the longer would exceed `long`."""
    factor = min(short / min(size), long / max(size))
    return max(1, round(size[0] * factor)), max(1, round(size[1] * factor))


def resize(sample: Sample, size: int | tuple[int, int]) -> Sample:
    """The sample at another size: `size` is (height, width), or the longer side with the aspect kept."""
    if isinstance(size, int):
        height, width = (max(1, round(side * size / max(sample.size))) for side in sample.size)
    else:
        height, width = size
    labels = _resize(_labels(sample), (height, width))
    return replace(sample, **_fields(sample, labels))


def collate(samples: Sequence[Sample]) -> Batch:
    """Stack samples; smaller ones are padded on the right and at the bottom (mean color, 255, valid False).

    Raises:
        DataError: a kind of label that some of the samples have and others lack.
    """
    height, width = (max(s.size[i] for s in samples) for i in (0, 1))
    images = torch.tensor(MEAN_COLOR, dtype=torch.uint8)[:, None, None].repeat(len(samples), 1, height, width)
    valid = torch.zeros(len(samples), height, width, dtype=torch.bool)
    for i, sample in enumerate(samples):
        h, w = sample.size
        images[i, :, :h, :w] = sample.image
        own = getattr(sample, "valid", None)
        valid[i, :h, :w] = True if own is None else own
    jittered = _of_all(samples, "jittered")
    semantic = _of_all(samples, "semantic_map")
    if semantic is not None:
        maps = torch.full(valid.shape, IGNORE, dtype=torch.long)
        for i, class_map in enumerate(semantic):
            maps[i, : class_map.shape[0], : class_map.shape[1]] = class_map
        semantic = maps
    tags, points = _of_all(samples, "tags"), _of_all(samples, "points")
    return Batch(
        images=images.float().div_(255),
        image_ids=tuple(s.image_id for s in samples),
        valid=valid,
        tags=None if tags is None else torch.stack(tags),
        points=None if points is None else Points.batch(points),
        semantic_maps=semantic,
        extreme_points=_of_all(samples, "extreme_points"),
        other_extreme_points=_of_all(samples, "other_extreme_points"),
        jittered=None if jittered is None else torch.stack(jittered).float().div_(255),
    )


def _of_all(samples: Sequence[Sample], name: str) -> list[Any] | None:
    values = [getattr(s, name) for s in samples]
    lacking = [s.image_id for s, v in zip(samples, values, strict=True) if v is None]
    if len(lacking) == len(samples):
        return None
    if lacking:
        raise DataError(f"image {lacking[0]} has no {name}, others of the batch do; annotate all images or none")
    return values


def _labels(sample: Sample) -> Labels:
    """What of a sample has a place in the image, each as the kind of tensor that torchvision moves."""
    labels: Labels = {"image": tv_tensors.Image(sample.image)}
    for name in ("semantic_map", "true_semantic"):
        if getattr(sample, name) is not None:
            labels[name] = tv_tensors.Mask(getattr(sample, name)[None])
    if sample.truth is not None and len(sample.truth):
        labels["truth"] = tv_tensors.Mask(sample.truth.masks.view(torch.uint8))
    for name in ("points", "extreme_points"):
        if getattr(sample, name) is not None and len(getattr(sample, name)):
            labels[name] = _key_points(getattr(sample, name).xy, sample.size)
    return labels


def _key_points(xy: Tensor, canvas_size: tuple[int, int]) -> tv_tensors.KeyPoints:
    return tv_tensors.KeyPoints(xy, canvas_size=canvas_size)  # pyright: ignore[reportCallIssue]


def _resize(labels: Labels, size: tuple[int, int]) -> Labels:
    if tuple(labels["image"].shape[-2:]) == tuple(size):
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
    """Left becomes right, also the names of extreme points."""
    labels = {k: F.horizontal_flip(v) for k, v in labels.items()}
    if "extreme_points" in labels:
        labels["extreme_points"] = labels["extreme_points"][:, [0, 3, 2, 1]]
    return labels


def _offset(side: int, crop: int, chance: float) -> int:
    """Where the crop starts in the image; negative where a smaller image lies within the crop."""
    room = side - crop
    return min(0, room) + min(int(chance * (abs(room) + 1)), abs(room))


def _sample(sample: Sample, labels: Labels, pad_value: int, mean_color: tuple[int, int, int]) -> PaddedSample:
    """The moved sample, its padding filled in."""
    valid = labels.pop("valid")[0].as_subclass(Tensor).bool()
    if not valid.all():
        color = torch.tensor(mean_color, dtype=torch.uint8)[:, None, None]
        labels["image"] = torch.where(valid, labels["image"], color)
        for name in {"semantic_map", "true_semantic"} & labels.keys():
            labels[name] = labels[name].masked_fill(~valid, pad_value)
    known = {k: v for k, v in vars(sample).items() if k != "valid"}
    return PaddedSample(**{**known, **_fields(sample, labels), "valid": valid})


def _fields(sample: Sample, labels: Labels) -> dict[str, Any]:
    """The fields of the sample that moved, as plain tensors, without what has left the image."""
    plain = {k: v.as_subclass(Tensor) for k, v in labels.items()}
    image = plain["image"]
    fields: dict[str, Any] = {"image": image}
    for name in {"semantic_map", "true_semantic"} & plain.keys():
        fields[name] = plain[name][0]
    if sample.points is not None and "points" in plain:
        inside = _inside(plain["points"], image)
        fields["points"] = replace(sample.points, xy=plain["points"])[inside]
    old = sample.extreme_points
    if old is not None and "extreme_points" in plain:
        inside = _inside(plain["extreme_points"], image).all(-1)
        xy = plain["extreme_points"][inside]
        fields["extreme_points"] = ExtremePoints(xy=xy, labels=old.labels[inside], ids=old.ids[inside])
    if sample.truth is not None:
        masks = plain["truth"].view(torch.bool) if "truth" in plain else Instances.none(*image.shape[-2:]).masks
        fields["truth"] = replace(sample.truth, masks=masks)[masks.flatten(1).any(1)]
    return fields


def _inside(xy: Tensor, image: Tensor) -> Tensor:
    """Whether points lie on a pixel of the image."""
    limit = torch.tensor([image.shape[-1], image.shape[-2]]) - 0.5
    return ((xy >= -0.5) & (xy < limit)).all(-1)
