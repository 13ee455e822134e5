"""Crops of single objects: each box with a margin, stretched to a square, and masks of crops back in their image.

    box of the extreme points --window--> whole pixels of the image, and beyond its border --CropAugment--> a crop
    probability in a crop --paste--> mask in the image

Margins, flip and colours are those of MAL's release (Lan et al., CVPR 2023), on which EXITS builds.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import torch
from torch import Tensor
from torch.nn.functional import grid_sample
from torchvision.transforms.v2 import InterpolationMode
from torchvision.transforms.v2 import functional as F

from wsis.core.errors import AnnotationError, ConfigError
from wsis.core.types import Dataset, ExtremePoints, Instances, Points, Sample
from wsis.data.transforms import PaddedSample
from wsis.data.wrappers import category_ids
from wsis.methods.exits.config import CropConfig

MIRRORED = [0, 3, 2, 1]  # top, left, bottom, right after a left-right flip
BRIGHTNESS, CONTRAST, SATURATION, HUE = 0.4, 0.4, 0.2, 0.1  # half ranges
GRAY = 0.2  # probability
BLUR = (0.1, 2.0)  # range of the Gaussian's sigma, pixels of the crop


class ObjectCrops:
    """One item per object: its whole image, with the extreme points, and the true mask where known, of it alone.

    `index` holds (image, row of its extreme points), the objects of one image together, and the last image is
    kept: going through all items in order reads every image once.

    In training an object is left out whose box is at most `cfg.min_side` wide or high or has at most `cfg.min_area`,
    in pixels of the image; `left_out` counts them. Otherwise every object with extreme points is there.

    Opening needs the extreme points of all images: from the data set's method `extreme_points(index)` where it has
    one, else from its samples, which reads every image once.

    Raises:
        AnnotationError: an image whose extreme points are not known (that it has none is allowed).
        ConfigError: no object is large enough to train on.
    """

    def __init__(self, dataset: Dataset, cfg: "CropConfig", training: bool) -> None:
        self.dataset = dataset
        self.classes, self.category_ids = dataset.classes, category_ids(dataset)
        self.index: list[tuple[int, int]] = []
        self.left_out = 0
        for image, points in enumerate(_extreme_points(dataset)):
            sides = points.boxes[:, 2:] - points.boxes[:, :2]
            large = (sides > cfg.min_side).all(1) & (sides.prod(1) > cfg.min_area)
            rows = (large if training else torch.ones_like(large)).nonzero()[:, 0].tolist()
            self.index += [(image, row) for row in rows]
            self.left_out += len(points) - len(rows)
        if training and not self.index:
            raise ConfigError(
                f"none of {self.left_out} objects is larger than {cfg.min_side} px in width and height and "
                f"{cfg.min_area} px in area; lower crop.min_side and crop.min_area, or give larger images"
            )
        self._last: tuple[int, Sample] | None = None

    def __len__(self) -> int:
        return len(self.index)

    def __getitem__(self, index: int) -> Sample:
        image, row = self.index[index]
        if self._last is None or self._last[0] != image:
            self._last = image, self.dataset[image]
        sample = self._last[1]
        assert sample.extreme_points is not None
        points = sample.extreme_points[row : row + 1]
        others = sample.extreme_points[torch.arange(len(sample.extreme_points)) != row]
        truth = sample.truth
        if truth is not None:
            truth = truth[(truth.ids == points.ids) & (points.ids > 0)]
        clicks = Points.make(others.xy.flatten(0, 1), others.labels.repeat_interleave(4))
        return replace(sample, extreme_points=points, points=clicks, truth=truth)


def _extreme_points(dataset: Dataset) -> Iterator[ExtremePoints]:
    """Those of each image, in order."""
    without_pixels = getattr(dataset, "extreme_points", None)
    for image in range(len(dataset)):
        points = without_pixels(image) if without_pixels else dataset[image].extreme_points
        if points is None:
            raise AnnotationError(
                f"image {image} (counted from 0) has no extreme points; annotate them, or simulate them from masks "
                "with python -m wsis weak SRC.json --extreme --out DST.json"
            )
        yield points


@dataclass(frozen=True)
class Window:
    """What a crop shows: columns x0 to x1 - 1 and rows y0 to y1 - 1 of the image, also beyond its border.

    mirrored: the crop is then flipped left to right.
    """

    x0: int
    y0: int
    x1: int
    y1: int
    mirrored: bool = False


def window(box: Tensor, cfg: "CropConfig", chance: Sequence[float] | None = None) -> Window:
    """The window of a box, float [4] xyxy: each side moves outward by some half boxes, then to whole pixels.

    Without `chance` that is half of `cfg.test_margin` on every side. chance: seven numbers in [0, 1): for left, top,
    right, bottom a margin in parts of `cfg.margin`; the share of it that left (right gets the rest) and top (bottom
    the rest) take; whether to flip. So both sides of an axis together move by at most `cfg.margin`.
    """
    x0, y0, x1, y1 = box.tolist()
    if chance is None:
        left = top = right = bottom = cfg.test_margin / 2
        mirrored = False
    else:
        in_x, in_y = chance[4:6]
        shares = (in_x, in_y, 1 - in_x, 1 - in_y)
        left, top, right, bottom = (cfg.margin * m * s for m, s in zip(chance[:4], shares, strict=True))
        mirrored = chance[6] < cfg.flip
    half_width, half_height = (x1 - x0) / 2, (y1 - y0) / 2
    return Window(
        x0=math.floor(x0 - half_width * left),
        y0=math.floor(y0 - half_height * top),
        x1=math.ceil(x1 + half_width * right) + 1,  # the release's one pixel more
        y1=math.ceil(y1 + half_height * bottom) + 1,
        mirrored=mirrored,
    )


def to_crop(xy: Tensor, window: Window, size: int) -> Tensor:
    """Points of the image, float [..., 2], in pixels of the crop of `size` x `size`; pixel centres at integers in both."""
    low, sides = _corner_and_sides(window, xy)
    inside = (xy + 0.5 - low) * size / sides - 0.5
    return _flipped(inside, size) if window.mirrored else inside


def to_image(xy: Tensor, window: Window, size: int) -> Tensor:
    """The inverse of `to_crop`."""
    low, sides = _corner_and_sides(window, xy)
    xy = _flipped(xy, size) if window.mirrored else xy
    return (xy + 0.5) * sides / size + low - 0.5


def _corner_and_sides(window: Window, like: Tensor) -> tuple[Tensor, Tensor]:
    low = like.new_tensor([window.x0, window.y0])
    return low, like.new_tensor([window.x1, window.y1]) - low


def _flipped(xy: Tensor, size: int) -> Tensor:
    return torch.stack([size - 1 - xy[..., 0], xy[..., 1]], -1)


@dataclass(frozen=True, kw_only=True)
class Crop(PaddedSample):
    """A crop of one object and what it shows of the image."""

    window: Window


@dataclass(frozen=True)
class CropAugment:
    """The crop of an object: in training with random margins, flip and colours, else with the test margin.

    The same item and seed give the same crop. `valid` is False where the window lies beyond the image; the crop
    shows there the image reflected at its border, or with `cfg.fill="wrap"`, as in the release, the opposite side,
    which then counts as valid. `jittered` is there in training only. Tags and class maps are of whole
    images and left out; `points` are the clicks of the other objects, four each.
    """

    cfg: "CropConfig"
    training: bool

    def __call__(self, sample: Sample, seed: int) -> Crop:
        """The crop of an item of `ObjectCrops`.

        Raises:
            ValueError: the sample does not have the extreme points of exactly one object.
        """
        points, size = sample.extreme_points, self.cfg.size
        if points is None or len(points) != 1:
            raise ValueError(f"image {sample.image_id}: a crop shows one object; take items of ObjectCrops")
        chance = None
        if self.training:
            generator = torch.Generator().manual_seed(seed)
            chance = torch.rand(15, generator=generator, dtype=torch.float64).tolist()
        shown = window(points.boxes[0], self.cfg, chance)
        image, valid, truth = _cut(sample, shown, self.cfg.fill, size)
        xy = to_crop(points.xy, shown, size)
        return Crop(
            image=image,
            image_id=sample.image_id,
            file_name=sample.file_name,
            points=_moved(sample.points, shown, size),
            extreme_points=replace(points, xy=xy[:, MIRRORED] if shown.mirrored else xy),
            jittered=None if chance is None else jitter(image, chance[7:], self.cfg.jitter),
            truth=truth,
            valid=valid,
            window=shown,
        )


def _moved(points: Points | None, shown: Window, size: int) -> Points | None:
    """The clicks of the other objects, four each, also those outside of the crop."""
    if points is None or len(points) % 4:
        return None
    xy = to_crop(points.xy, shown, size).view(-1, 4, 2)
    return replace(points, xy=(xy[:, MIRRORED] if shown.mirrored else xy).flatten(0, 1))


def _cut(
    sample: Sample, shown: Window, fill: Literal["reflect", "wrap"], size: int
) -> tuple[Tensor, Tensor, Instances | None]:
    """Image uint8 [3, size, size], valid bool [size, size] and true masks of a window."""
    height, width = sample.size
    rows, columns = (
        torch.arange(low, high, device=sample.image.device)
        for low, high in ((shown.y0, shown.y1), (shown.x0, shown.x1))
    )
    inside = ((rows >= 0) & (rows < height))[:, None] & (columns >= 0) & (columns < width)
    rows, columns = _folded(rows, height, fill), _folded(columns, width, fill)
    image = F.resize(_read(sample.image, rows, columns), [size, size], antialias=True)
    masks = inside[None] if fill == "reflect" else torch.ones_like(inside)[None]
    if sample.truth is not None:
        masks = torch.cat([masks, _read(sample.truth.masks, rows, columns) & inside])
    masks = F.resize_image(masks.view(torch.uint8), [size, size], InterpolationMode.NEAREST_EXACT).bool()
    if shown.mirrored:
        image, masks = image.flip(-1), masks.flip(-1)
    return image, masks[0], None if sample.truth is None else replace(sample.truth, masks=masks[1:])


def _read(pixels: Tensor, rows: Tensor, columns: Tensor) -> Tensor:
    # 2.5 times as fast as pixels[:, rows[:, None], columns]
    return pixels.index_select(1, rows).index_select(2, columns)


def _folded(index: Tensor, side: int, fill: Literal["reflect", "wrap"]) -> Tensor:
    """The pixels 0..side - 1 shown at indices of any distance beyond; reflected at the centre of the last pixel."""
    if fill == "wrap":
        return index % side
    period = max(2 * side - 2, 1)
    index = index % period
    return torch.minimum(index, 2 * side - 2 - index)


def jitter(image: Tensor, chance: Sequence[float], probability: float) -> Tensor:
    """A crop in other colours, what a student sees in MAL: uint8 [3, H, W] -> the same.

    With `probability` brightness, contrast, saturation and hue change; with `probability` it is blurred; with .2 it
    turns gray. chance: eight numbers in [0, 1) that decide all of it.
    """
    brightness, contrast, saturation, hue = (2 * c - 1 for c in chance[3:7])
    if chance[0] < probability:
        image = F.adjust_brightness(image, 1 + BRIGHTNESS * brightness)
        image = F.adjust_contrast(image, 1 + CONTRAST * contrast)
        image = F.adjust_saturation(image, 1 + SATURATION * saturation)
        image = F.adjust_hue(image, HUE * hue)
    if chance[1] < GRAY:
        image = F.rgb_to_grayscale(image, num_output_channels=3)
    if chance[2] < probability:
        sigma = BLUR[0] + chance[7] * (BLUR[1] - BLUR[0])
        kernel = 2 * math.ceil(3 * sigma) + 1
        # one axis after the other: a square kernel takes up to twice the time
        soft = F.gaussian_blur(image.float(), [kernel, 1], [sigma, sigma])
        image = F.gaussian_blur(soft, [1, kernel], [sigma, sigma]).round_().to(torch.uint8)
    return image


def paste(
    probability: Tensor, windows: Sequence[Window], boxes: Tensor, size: tuple[int, int], threshold: float
) -> Tensor:
    """Masks of crops in their image: where the probability, interpolated at the centre of a pixel, is above `threshold`.

    probability: float [K, S, S] in [0, 1]. boxes: float [K, 4] xyxy; a mask holds only pixels whose centre is in its box.
    size: (height, width) of the image; windows and boxes may reach beyond it. Returns bool [K, H, W].
    """
    masks = torch.zeros(len(probability), *size, dtype=torch.bool, device=probability.device)
    # Object by object, each in its box: with whole images at once most of what is looked up lies outside the boxes.
    for mask, crop, shown, box in zip(masks, probability.float(), windows, boxes.tolist(), strict=True):
        x, y = (_centers(box[i], box[i + 2], size[1 - i]) for i in (0, 1))
        columns, rows = (torch.arange(s.start, s.stop, device=crop.device) + 0.5 for s in (x, y))
        # grid_sample measures from -1 to 1 over the crop
        across = (columns - shown.x0) * 2 / (shown.x1 - shown.x0) - 1
        down = (rows - shown.y0) * 2 / (shown.y1 - shown.y0) - 1
        across = -across if shown.mirrored else across
        grid = torch.stack(torch.broadcast_tensors(across, down[:, None]), -1)
        value = grid_sample(crop[None, None], grid[None], padding_mode="border", align_corners=False)
        mask[y, x] = value[0, 0] > threshold
    return masks


def _centers(low: float, high: float, side: int) -> slice:
    """The pixels 0..side - 1 of an axis whose centres lie between two sides of a box."""
    start = min(max(0, math.ceil(low - 0.5)), side)
    return slice(start, max(start, min(side, math.ceil(high - 0.5))))
