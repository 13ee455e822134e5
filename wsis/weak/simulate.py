"""A simulated annotator: masks in, cheap labels out (points, extreme points, class maps). Pure and seeded.

Coordinates are (x, y) pixels with pixel centers at integers; every click is a pixel of its object. Extreme clicking:
Papadopoulos et al., ICCV 2017. Points: the center of the box (AttentionShift's released labels), the centroid of the
mask, or a random pixel of it (Point DETR, Chen et al., CVPR 2021).
"""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Literal, get_args

import numpy as np
import torch
from torch import Tensor
from torchvision.ops import masks_to_boxes

from wsis.core.errors import AnnotationError, ConfigError, DataError
from wsis.core.files import Entry, refuse_to_replace, write_json
from wsis.core.masks import RunLengths
from wsis.core.report import progress
from wsis.core.types import BACKGROUND, IGNORE, NO_ID, ExtremePoints, Instances, Points, Sample
from wsis.data.checks import by_image, read_coco

PointKind = Literal["box_center", "mask_centroid", "mask_random"]


def points_from_masks(masks: Tensor, kind: PointKind, uniform: Tensor | None = None) -> Tensor:
    """Click once on each mask: bool [K, H, W] -> float32 [K, 2], (x, y).

    A center or centroid that lies beside its object moves to the nearest pixel of the mask; mask_random draws by `uniform`,
    float [K] in [0, 1). Raises AnnotationError for a mask without a pixel, ConfigError for an unknown kind.
    """
    if kind not in get_args(PointKind):
        raise ConfigError(f"points={kind!r}: choose one of {', '.join(get_args(PointKind))}")
    masks = _checked(masks)
    if kind == "box_center":
        boxes = masks_to_boxes(masks)
        return _nearest_pixel(masks, (boxes[:, :2] + boxes[:, 2:]) / 2)
    width = masks.shape[-1]
    owner, index = masks.flatten(1).nonzero().unbind(1)  # all pixels of all masks, in order
    count = owner.bincount(minlength=len(masks))
    if kind == "mask_centroid":
        sums = [owner.bincount(v.double(), minlength=len(masks)) for v in (index % width, index // width)]
        return _nearest_pixel(masks, (torch.stack(sums, -1) / count[:, None]).float())  # exact: integers below 2^53
    if uniform is None:
        raise ConfigError("points='mask_random' draws by `uniform`: give one number in [0, 1) for each mask")
    # of each mask's n pixels in reading order, the one with number floor(u n)
    rank = torch.minimum((uniform.to(masks.device) * count).long(), count - 1)
    index = index[count.cumsum(0) - count + rank]
    return torch.stack([index % width, index // width], -1).float()


def extreme_points_from_masks(masks: Tensor) -> Tensor:
    """The top, left, bottom and right pixel of masks: bool [K, H, W] -> [K, 4, 2], (x, y).

    Where several are equally extreme, it is the middle one (of two, the first) of their
    longest run (of equally long ones, the first), so a click is always on the object. The
    parts of an object count together. Raises AnnotationError if a mask has no pixel.
    """
    masks = _checked(masks)
    left, top, right, bottom = masks_to_boxes(masks).long().unbind(1)
    k = torch.arange(len(masks), device=masks.device)
    rows = [torch.stack([_middle(masks[k, y]), y], -1) for y in (top, bottom)]
    columns = [torch.stack([x, _middle(masks[k, :, x])], -1) for x in (left, right)]
    return torch.stack([rows[0], columns[0], rows[1], columns[1]], 1).float()


def uniform_by_id(image_id: int, ids: Tensor, seed: int) -> Tensor:
    """Draw float64 [K] in [0, 1) by seed, image id and annotation id alone: order and subsets do not matter."""
    with np.errstate(over="ignore"):
        state = np.full(len(ids), seed % 2**64, dtype=np.uint64)
        for key in (torch.full_like(ids, image_id), ids):
            state = _splitmix64(state ^ _splitmix64(key.cpu().numpy().astype(np.uint64)))
    return torch.from_numpy((state >> np.uint64(11)).astype(np.float64) / 2.0**53)


def click(truth: Instances, image_id: int, kind: PointKind, seed: int = 0) -> Points:
    """Click once on each true object but crowds and empty masks."""
    numbers = torch.where(truth.ids != NO_ID, truth.ids, torch.arange(1, len(truth) + 1, device=truth.ids.device))
    use = ~truth.crowd & (truth.runs.areas > 0)
    truth, uniform = truth[use], uniform_by_id(image_id, numbers[use], seed)
    rows = zip(truth.runs.parts(), uniform, strict=True)
    xy = [points_from_masks(part.pixels[None], kind, u[None]) + part.corner for part, u in rows]
    return Points.make(torch.cat([torch.zeros(0, 2), *xy]), truth.labels, ids=truth.ids)


def click_extremes(truth: Instances) -> ExtremePoints:
    """Click four times on each true object but crowds, and lines and single pixels, whose clicks would span no box."""
    truth = truth[~truth.crowd & (truth.runs.areas > 0)]
    clicks = [extreme_points_from_masks(part.pixels[None]) + part.corner for part in truth.runs.parts()]
    xy = torch.cat([torch.zeros(0, 4, 2), *clicks])
    spans = (xy.amax(1) > xy.amin(1)).all(1)
    return ExtremePoints(xy=xy[spans], labels=truth.labels[spans], ids=truth.ids[spans])


def with_points(sample: Sample, kind: PointKind = "mask_random", seed: int = 0) -> Sample:
    """Give the sample a click per true object (none for crowds and empty masks); raises AnnotationError without masks."""
    return replace(sample, points=click(_truth(sample), sample.image_id, kind, seed))


def with_extreme_points(sample: Sample) -> Sample:
    """Give the sample the four clicks of `click_extremes`; raises AnnotationError without masks."""
    return replace(sample, extreme_points=click_extremes(_truth(sample)))


def with_base_masks(sample: Sample, novel: Sequence[int]) -> Sample:
    """Give the sample its true class map to learn from; novel classes and what has no class become 255, tags stay.

    novel: labels 0..C-1. Raises AnnotationError if the sample has no true class map or no tags.
    """
    if sample.true_semantic is None or sample.tags is None:
        lacking = "class map" if sample.true_semantic is None else "tags"
        raise AnnotationError(f"image {sample.image_id} has no {lacking} to learn from; give semantic/<split> or masks")
    table = torch.arange(256, dtype=torch.uint8)  # an index of 32 bits is half of what `long` takes
    table[[BACKGROUND, *(label + 1 for label in novel)]] = IGNORE
    return replace(sample, semantic_map=table[sample.true_semantic.int()])


def simulate(
    coco: Entry, points: PointKind | None = None, extreme: bool = False, tags: bool = False, seed: int = 0
) -> Entry:
    """Add weak labels to a checked COCO data set; nothing else of it changes, nor does the argument.

    `point` and `extreme_points` go to the annotations, `tags` to the images. Crowds, annotations without a mask and empty
    masks get no click; lines and single pixels get no extreme points, which would span no box.
    """
    objects, images, labels = by_image(coco["annotations"]), coco["images"], defaultdict(dict)
    if tags:
        images = [{**image, "tags": sorted({a["category_id"] for a in objects[image["id"]]})} for image in images]
    for image in progress(images, "images") if points or extreme else ():
        drawn = [a for a in objects[image["id"]] if "segmentation" in a and not a.get("iscrowd")]
        masks = RunLengths.read([a["segmentation"] for a in drawn], (image["height"], image["width"]))
        ids = torch.tensor([a["id"] for a in drawn], dtype=torch.long)
        truth, clicks = Instances.make(masks, torch.zeros_like(ids), ids=ids), {}
        if points:
            clicks["point"] = click(truth, image["id"], points, seed)
        if extreme:
            clicks["extreme_points"] = click_extremes(truth)
        for key, rows in clicks.items():
            for i, xy in zip(rows.ids.tolist(), rows.xy.int().tolist(), strict=True):
                labels[i][key] = xy
    return {**coco, "images": images, "annotations": [{**a, **labels[a["id"]]} for a in coco["annotations"]]}


def simulate_file(
    source: Path | str,
    destination: Path | str,
    *,
    points: PointKind | None = None,
    extreme: bool = False,
    tags: bool = False,
    seed: int = 0,
    drop_invalid: bool = False,
) -> dict[str, int]:
    """Run `simulate` from one COCO JSON to another; return how many labels of each kind the result has.

    Raises AnnotationError or DataError if `source` is not sound, DataError if `destination` cannot be written,
    or is `source` and would lose what is dropped, ConfigError if no kind of label is asked for.
    """
    if not (points or extreme or tags):
        raise ConfigError("nothing to simulate; ask for --points KIND, --extreme or --tags")
    if drop_invalid:
        refuse_to_replace(destination, source)
    coco, dropped = read_coco(source, drop_invalid)
    if (points or extreme) and not any("segmentation" in a for a in coco["annotations"]):
        raise DataError(f"{source} has no masks to click on; give a JSON with a segmentation of each object")
    coco = simulate(coco, points=points, extreme=extreme, tags=tags, seed=seed)
    write_json(destination, coco)
    annotations = coco["annotations"]
    counts = {"images": len(coco["images"]), "points": sum("point" in a for a in annotations)}
    counts |= {"extreme_points": sum("extreme_points" in a for a in annotations)}
    return counts | {"tags": sum(len(i.get("tags", ())) for i in coco["images"]), "dropped": len(dropped)}


def _truth(sample: Sample) -> Instances:
    if sample.truth is None:
        raise AnnotationError(f"image {sample.image_id} has no masks to simulate clicks from; give weak labels")
    return sample.truth


def _splitmix64(x: np.ndarray) -> np.ndarray:
    """Run one round of a generator whose state is the key itself (Steele, Lea and Flood, OOPSLA 2014)."""
    x = x + np.uint64(0x9E3779B97F4A7C15)
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return x ^ (x >> np.uint64(31))


def _checked(masks: Tensor) -> Tensor:
    """Masks as booleans, also those that pycocotools decodes to bytes; raises AnnotationError for one without a pixel."""
    masks = masks.bool()
    if len(empty := (~masks.flatten(1).any(1)).nonzero()):
        raise AnnotationError(f"mask {int(empty[0])} of {len(masks)} has no pixel to click on; leave the object out")
    return masks


def _middle(lines: Tensor) -> Tensor:
    """Return the middle of the longest run of True in each row of bool [K, L]; the first of two, for both."""
    index = torch.arange(lines.shape[1], device=lines.device)
    gap = torch.where(lines, -1, index).cummax(1).values  # the last False up to here
    length, end = (index - gap).max(1)
    return end - length // 2


def _nearest_pixel(masks: Tensor, xy: Tensor) -> Tensor:
    """Return the pixel of each mask nearest to its target; mostly the target itself, which is tried first."""
    pixel = (xy + 0.5).floor().long()
    beside = ~masks[torch.arange(len(masks), device=masks.device), pixel[:, 1], pixel[:, 0]]
    if beside.any():
        height, width = masks.shape[1:]
        dx = torch.arange(width, device=masks.device) - xy[beside, 0, None]
        dy = torch.arange(height, device=masks.device) - xy[beside, 1, None]
        distance = dy.square()[:, :, None] + dx.square()[:, None, :]
        index = distance.masked_fill(~masks[beside], torch.inf).flatten(1).argmin(1)
        pixel[beside] = torch.stack([index % width, index // width], -1)
    return pixel.float()
