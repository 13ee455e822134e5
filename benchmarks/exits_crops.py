"""Cases of EXITS' crops: reading by index against nine slices in double precision, pasting in boxes against whole images."""

import torch
from torch import Tensor
from torch.nn.functional import interpolate, pad

from benchmarks.measure import Case, Size
from wsis.core.masks import RunLengths
from wsis.core.types import ExtremePoints, Sample
from wsis.methods.exits.crops import Window, object_crop, paste

# `pixels` is the side of the crops, `instances` their number in one image of this size
HEIGHT, WIDTH = 480, 640
SIZES = [Size(pixels=512, batch=1, instances=n) for n in (1, 5, 20)]
THRESHOLD = 0.5


def boxes(size: Size) -> Tensor:
    """Boxes of whole pixels anywhere in the image, seeded, float [K, 4]; many windows reach beyond the border."""
    generator = torch.Generator().manual_seed(size.instances)
    chance = torch.rand(size.instances, 2, 2, generator=generator)
    sides = 60 + 200 * chance[:, 0]
    low = chance[:, 1] * (torch.tensor([WIDTH, HEIGHT]) - sides)
    return torch.cat([low, low + sides], 1).round()


def _objects(size: Size, device: torch.device) -> tuple[list[Sample], int]:
    """One sample per object of one smooth image. Images are read and cropped by the processor, whatever the device."""
    generator = torch.Generator().manual_seed(0)
    small = torch.randint(0, 256, (1, 3, 30, 40), generator=generator).float()
    image = interpolate(small, (HEIGHT, WIDTH), mode="bilinear")[0].to(torch.uint8)
    samples = []
    for x0, y0, x1, y1 in boxes(size).tolist():
        xy = torch.tensor([[[x0, y0], [x0, y0], [x1 - 1, y1 - 1], [x1 - 1, y1 - 1]]])
        points = ExtremePoints(xy=xy, labels=torch.tensor([0]), ids=torch.tensor([1]))
        samples.append(Sample(image=image, image_id=1, extreme_points=points))
    return samples, size.pixels


def fast_crops(samples: list[Sample], side: int) -> tuple[Tensor, Tensor]:
    crops = [object_crop(sample, side) for sample in samples]
    return torch.stack([c.image for c in crops]), torch.stack([c.valid for c in crops if c.valid is not None])


def plain_crops(samples: list[Sample], side: int) -> tuple[Tensor, Tensor]:
    """The window from nine slices in double precision, of the image and of a mask of its extent."""
    images, valid = [], []
    for sample in samples:
        assert sample.extreme_points is not None
        window = Window.around(sample.extreme_points.boxes[0])
        pixels = nine_slices(sample.image.double(), window, reflect=True).to(torch.uint8)
        images.append(interpolate(pixels[None], (side, side), mode="bicubic", antialias=True)[0])
        extent = torch.ones(1, HEIGHT, WIDTH, dtype=torch.float64)
        inside = nine_slices(extent, window, reflect=False).to(torch.uint8)
        valid.append(interpolate(inside[None], (side, side), mode="nearest-exact")[0, 0].bool())
    return torch.stack(images), torch.stack(valid)


def nine_slices(source: Tensor, window: Window, reflect: bool) -> Tensor:
    """The part of the window within the image, and the four sides and corners beyond: float64 [D, h, w]."""
    width, height = window.x1 - window.x0, window.y1 - window.y0
    out = torch.zeros(len(source), height, width, dtype=torch.float64)
    for to_y, from_y, back_y in _parts(window.y0, window.y1, source.shape[1]):
        for to_x, from_x, back_x in _parts(window.x0, window.x1, source.shape[2]):
            part = source[:, from_y, from_x]
            if (back_y or back_x) and not reflect:
                continue
            out[:, to_y, to_x] = part.flip([d for d, back in ((1, back_y), (2, back_x)) if back])
    return out


def _parts(low: int, high: int, side: int) -> list[tuple[slice, slice, bool]]:
    """(where in the window, from where in the image, backwards) before, within and after the image, of one axis."""
    before, after = max(0, -low), max(0, high - side)
    inside = high - low - before - after
    return [
        (slice(0, before), slice(1, 1 + before), True),
        (slice(before, before + inside), slice(max(0, low), max(0, low) + inside), False),
        (slice(before + inside, high - low), slice(side - 1 - after, side - 1), True),
    ]


def _masks(size: Size, device: torch.device) -> tuple[Tensor, list[Window], Tensor, tuple[int, int], float]:
    """Smooth probabilities of crops, as a network makes them on a grid of tokens, and what is to be pasted."""
    generator = torch.Generator().manual_seed(size.instances)
    small = torch.rand(size.instances, 1, size.pixels // 16, size.pixels // 16, generator=generator)
    probability = interpolate(small, (size.pixels, size.pixels), mode="bilinear")[:, 0]
    corners = boxes(size)
    windows = [Window.around(box) for box in corners]
    return probability.to(device), windows, corners.to(device), (HEIGHT, WIDTH), THRESHOLD


def plain_paste(
    probability: Tensor, windows: list[Window], corners: Tensor, size: tuple[int, int], threshold: float
) -> Tensor:
    """A map of the whole image in double precision for every object and for its box."""
    masks = []
    for crop, window, (x0, y0, x1, y1) in zip(probability, windows, corners.int().tolist(), strict=True):
        box = torch.zeros(size, dtype=torch.float64, device=probability.device)
        box[y0:y1, x0:x1] = 1
        sides = (window.y1 - window.y0, window.x1 - window.x0)
        stretched = interpolate(crop[None, None].double(), sides, mode="bilinear")
        margins = (window.x0, size[1] - window.x1, window.y0, size[0] - window.y1)  # what is negative is cut
        masks.append(pad(stretched, margins)[0, 0] * box > threshold)
    return torch.stack(masks)


def pixels(masks: RunLengths | Tensor) -> tuple[Tensor]:
    return (masks.decode() if isinstance(masks, RunLengths) else masks.cpu(),)


CASES = [
    Case(name="EXITS crops", prepare=_objects, fast=fast_crops, plain=plain_crops, canonical=tuple),
    Case(name="EXITS pasted masks", prepare=_masks, fast=paste, plain=plain_paste, canonical=pixels),
]
