"""Crops of single objects and back, with the margins, flip and colors of MAL's release (Lan et al., CVPR 2023).

box of the extreme points --Window.around--> pixels with a margin, also beyond the border --object_crop--> a square crop
probability in a crop --paste--> mask in the image
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Self

import torch
from torch import Tensor
from torch.nn.functional import grid_sample
from torchvision.transforms.v2 import InterpolationMode
from torchvision.transforms.v2 import functional as F

from wsis.core.errors import AnnotationError, ConfigError
from wsis.core.masks import Part, RunLengths, Size
from wsis.core.types import NO_ID, Dataset, ExtremePoints, HasExtremePoints, Sample
from wsis.data.masks import pixels_between
from wsis.data.transforms import MIRRORED

# All numbers are those of MAL's official code.
MARGIN, TEST_MARGIN = 1.2, 0.6  # half boxes, both sides of an axis together
FLIP, JITTER, GRAY = 0.5, 0.5, 0.2  # probabilities
COLORS = ((F.adjust_brightness, 0.4), (F.adjust_contrast, 0.4), (F.adjust_saturation, 0.2))  # half ranges about 1
HUE = 0.1  # half range about 0
BLUR = (0.1, 2.0)  # range of the Gaussian's sigma, pixels of the crop
MIN_SIDE = 2.0  # pixels: boxes to train on are wider and higher


class ObjectCrops:
    """One item per object: its whole image, with the extreme points, and the true mask where known, of it alone.

    `index` holds (image, row of its extreme points); going through it in order reads every image once. A data set without
    `HasExtremePoints` is read once to open. With a `min_area`, in square pixels of the image, objects whose box is no larger,
    or at most `MIN_SIDE` wide or high, are left out. Raises AnnotationError for an image whose extreme points are not known
    (that it has none is allowed), ConfigError if all objects are left out.
    """

    def __init__(self, dataset: Dataset, min_area: float | None = None) -> None:
        self.dataset = dataset
        self.classes, self.category_ids = dataset.classes, dataset.category_ids
        self.index, count = list[tuple[int, int]](), 0
        for image in range(len(dataset)):
            listed = isinstance(dataset, HasExtremePoints)
            points = dataset.extreme_points(image) if listed else dataset[image].extreme_points
            if points is None:
                remedy = "annotate them, or simulate them: python -m wsis weak SRC.json --extreme --out DST.json"
                raise AnnotationError(f"image {image} (counted from 0) has no extreme points; {remedy}")
            rows, sides = range(len(points)), points.boxes[:, 2:] - points.boxes[:, :2]
            if min_area is not None:
                rows = ((sides > MIN_SIDE).all(1) & (sides.prod(1) > min_area)).nonzero()[:, 0].tolist()
            self.index += [(image, row) for row in rows]
            count += len(points)
        if min_area is not None and not self.index:
            limits = f"{MIN_SIDE} px in width and height and {min_area} px in area"
            remedy = "lower size.min_area" if count else "annotate some"
            raise ConfigError(f"none of {count} objects is larger than {limits}; {remedy}")
        self._last: tuple[int, Sample] | None = None

    def __len__(self) -> int:
        return len(self.index)

    def __getitem__(self, index: int) -> Sample:
        image, row = self.index[index]
        if self._last is None or self._last[0] != image:
            self._last = image, self.dataset[image]
        sample = self._last[1]
        assert sample.extreme_points is not None
        points, truth = sample.extreme_points[row : row + 1], sample.truth
        others = sample.extreme_points[torch.arange(len(sample.extreme_points)) != row]
        if truth is not None:
            truth = truth[(truth.ids == points.ids) & (points.ids != NO_ID)]
        return replace(sample, extreme_points=points, other_extreme_points=others, truth=truth)


@dataclass(frozen=True)
class Window:
    """A crop shows columns x0 to x1 - 1 and rows y0 to y1 - 1 of the image, also beyond its border, flipped if `mirrored`."""

    x0: int
    y0: int
    x1: int
    y1: int
    mirrored: bool = False

    @classmethod
    def around(cls, box: Tensor, chance: Sequence[float] | None = None) -> Self:
        """The window of a box, float [4] xyxy: each side moves outward by some half boxes, then to whole pixels.

        chance: seven numbers in [0, 1): for left, top, right, bottom a margin in parts of `MARGIN`; the share of it that left
        (right gets the rest) and top (bottom the rest) take; whether to flip. None moves each side by half of `TEST_MARGIN`.
        """
        (x0, y0, x1, y1), margins, mirrored = box.tolist(), [TEST_MARGIN / 2] * 4, False
        if chance is not None:
            *parts, in_x, in_y, flip = chance
            margins = [MARGIN * m * s for m, s in zip(parts, (in_x, in_y, 1 - in_x, 1 - in_y), strict=True)]
            mirrored = flip < FLIP
        half_width, half_height, (left, top, right, bottom) = (x1 - x0) / 2, (y1 - y0) / 2, margins
        x0, y0 = math.floor(x0 - half_width * left), math.floor(y0 - half_height * top)
        x1, y1 = math.ceil(x1 + half_width * right), math.ceil(y1 + half_height * bottom)
        return cls(x0, y0, x1 + 1, y1 + 1, mirrored)  # one pixel more, as in the release


@dataclass(frozen=True, kw_only=True)
class CropPoints(ExtremePoints):
    """Extreme points in pixels of a crop. pixel: float32 [K, 2], how wide and high a pixel of the image is in it."""

    pixel: Tensor

    @property
    def boxes(self) -> Tensor:
        """The boxes that the clicked pixels of the image span, float32 [K, 4] xyxy."""
        return torch.cat([self.xy.amin(1) + 0.5 - self.pixel / 2, self.xy.amax(1) + 0.5 + self.pixel / 2], 1)


def to_crop(points: ExtremePoints, window: Window, size: int) -> CropPoints:
    """Extreme points of the image in pixels of the crop of `size` x `size`; pixel centers are at integers in both."""
    low = points.xy.new_tensor([window.x0, window.y0])
    sides = points.xy.new_tensor([window.x1, window.y1]) - low
    xy = (points.xy + 0.5 - low) * size / sides - 0.5
    if window.mirrored:
        xy = torch.stack([size - 1 - xy[..., 0], xy[..., 1]], -1)[:, MIRRORED]
    return CropPoints(xy=xy, labels=points.labels, ids=points.ids, pixel=(size / sides).expand(len(xy), 2))


def object_crop(sample: Sample, size: int, window: Window | None = None) -> Sample:
    """What a window, by default the one with the test margin, shows of an item of `ObjectCrops`: `size` x `size` pixels.

    Beyond the image `valid` is False and the crop shows its reflection (the release: the opposite side, where a seed would be
    wrong). Tags, points and class maps are dropped. A sample of no or several objects raises a ValueError.
    """
    points, others, truth = sample.extreme_points, sample.other_extreme_points, sample.truth
    if points is None or len(points) != 1:
        raise ValueError(f"image {sample.image_id}: a crop shows one object; take items of ObjectCrops")
    window, device = window or Window.around(points.boxes[0]), sample.image.device
    rows, real_rows = _reflected(torch.arange(window.y0, window.y1, device=device), sample.size[0])
    columns, real_columns = _reflected(torch.arange(window.x0, window.x1, device=device), sample.size[1])
    image = F.resize(_read(sample.image, rows, columns), [size, size], InterpolationMode.BICUBIC, antialias=True)
    masks = (real_rows[:, None] & real_columns)[None]
    if truth is not None:
        masks = torch.cat([masks, _read(truth.masks, rows, columns) & masks])
    masks = F.resize_image(masks.view(torch.uint8), [size, size], InterpolationMode.NEAREST_EXACT).bool()
    if window.mirrored:
        image, masks = image.flip(-1), masks.flip(-1)
    points, others = to_crop(points, window, size), None if others is None else to_crop(others, window, size)
    truth = None if truth is None else replace(truth, runs=RunLengths.of(masks[1:]))
    crop = Sample(image=image, image_id=sample.image_id, file_name=sample.file_name, truth=truth, valid=masks[0])
    return replace(crop, extreme_points=points, other_extreme_points=others)


def _reflected(index: Tensor, side: int) -> tuple[Tensor, Tensor]:
    """The pixels 0..side - 1 that indices beyond show, reflected at the center of the last one, and which are no reflection."""
    folded = index % max(2 * side - 2, 1)
    return torch.minimum(folded, 2 * side - 2 - folded), (index >= 0) & (index < side)


def _read(pixels: Tensor, rows: Tensor, columns: Tensor) -> Tensor:
    # 2.5 times as fast as pixels[:, rows[:, None], columns]
    return pixels.index_select(1, rows).index_select(2, columns)


def random_crop(size: int, sample: Sample, seed: int) -> Sample:
    """The crop of an item of `ObjectCrops` with random margins, flip and colors (`jittered`), which the seed decides."""
    assert sample.extreme_points is not None
    chance = torch.rand(15, generator=torch.Generator().manual_seed(seed), dtype=torch.float64).tolist()
    crop = object_crop(sample, size, Window.around(sample.extreme_points.boxes[0], chance[:7]))
    return replace(crop, jittered=jitter(crop.image, chance[7:]))


def jitter(image: Tensor, chance: Sequence[float]) -> Tensor:
    """A crop uint8 [3, H, W] in other colors, as MAL's student sees it. chance: eight numbers in [0, 1), which decide all."""
    recolored, gray, blurred, *colors, hue, spread = chance
    if recolored < JITTER:
        for (adjust, half), share in zip(COLORS, colors, strict=True):
            image = adjust(image, 1 + half * (2 * share - 1))
        image = F.adjust_hue(image, HUE * (2 * hue - 1))
    if gray < GRAY:
        image = F.rgb_to_grayscale(image, num_output_channels=3)
    if blurred < JITTER:
        sigma = BLUR[0] + spread * (BLUR[1] - BLUR[0])
        kernel = 2 * math.ceil(3 * sigma) + 1
        # one axis after the other: a square kernel takes up to twice the time
        soft = F.gaussian_blur(image.float(), [kernel, 1], [sigma, sigma])
        image = F.gaussian_blur(soft, [1, kernel], [sigma, sigma]).round_().to(torch.uint8)
    return image


def paste(probability: Tensor, windows: Sequence[Window], boxes: Tensor, size: Size, threshold: float) -> RunLengths:
    """The masks of K crops in their image, each as of `paste_part`. probability: float [K, S, S]. boxes: float [K, 4]."""
    crops = zip(probability, windows, boxes.tolist(), strict=True)
    return RunLengths.encode((paste_part(*crop, size, threshold) for crop in crops), size)


def paste_part(probability: Tensor, window: Window, box: Sequence[float], size: Size, threshold: float) -> Part:
    """The mask of a crop in its image: where the probability, interpolated at pixel centers, is high enough.

    probability: float [S, S], to be above `threshold`. box: xyxy; the mask holds only pixels whose center is in it. size:
    (H, W). Window and box may reach beyond the image.
    """
    x, y = (pixels_between(box[i], box[i + 2], size[1 - i]) for i in (0, 1))
    columns, rows = (torch.arange(s.start, s.stop, device=probability.device) + 0.5 for s in (x, y))
    # grid_sample measures from -1 to 1 over the crop
    across = (columns - window.x0) * 2 / (window.x1 - window.x0) - 1
    down = (rows - window.y0) * 2 / (window.y1 - window.y0) - 1
    across = -across if window.mirrored else across
    grid = torch.stack(torch.broadcast_tensors(across, down[:, None]), -1)
    crop = probability.float()[None, None]
    value = grid_sample(crop, grid[None], padding_mode="border", align_corners=False)
    return Part(y.start, x.start, value[0, 0] > threshold)
