"""How good masks are: COCO and VOC mAP, how well objects are covered, and the quality of cues and pseudo labels.

`coco_ap` is pycocotools'; `voc_ap` follows chainercv's evaluator, which the weakly supervised papers report. Results are
fractions in [0, 1] or counts, nan where there is nothing to measure. Masks of different sizes raise DataError.
"""

import contextlib
import io
import math
from collections.abc import Iterable, Sequence
from typing import Literal, NamedTuple

import numpy as np
import torch
from pycocotools import mask as coco_mask
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval
from torch import Tensor
from torch.nn.functional import pad

from wsis.core.errors import DataError
from wsis.core.masks import RunLengths
from wsis.core.types import NO_ID, Instances, Points, Report
from wsis.data.write import Records
from wsis.ops.components import connected_components

SIZES = {"small": (0, 32**2), "medium": (32**2, 96**2), "large": (96**2, float("inf"))}  # COCO's, pixels
Interpolation = Literal["area", "11point", "11point_released"]


def overlap(predicted: RunLengths, true: RunLengths, image: int) -> tuple[Tensor, Tensor, Tensor]:
    """IoU of each predicted mask with each true one, and the shares of both that they have in common: float64 [K, G] each."""
    check_sizes(predicted, true, image)
    return predicted.overlaps(true), predicted.overlaps(true, share=True), true.overlaps(predicted, share=True).T


def check_sizes(predicted: RunLengths, true: RunLengths, image: int) -> None:
    if predicted.size != true.size:
        raise DataError(f"image {image}: masks are {predicted.size}, true ones {true.size}; resize the prediction")


class Assignment(NamedTuple):
    """The predictions of a data set by falling score; equal scores keep their order."""

    label: np.ndarray
    score: np.ndarray
    target: np.ndarray  # the number of the true object of its class that each covers best
    iou: np.ndarray  # with that object, or -1
    crowd: np.ndarray  # the share of it that lies on one crowd region of its class
    covered: np.ndarray  # how many objects of its class it covers by half or more
    true: np.ndarray  # the labels of all objects

    def right(self, threshold: float) -> tuple[np.ndarray, np.ndarray]:
        """Which predictions are right, and which count at all: a wrong one that lies on a crowd does not."""
        close = np.flatnonzero(self.iou >= threshold)
        _, first = np.unique(self.target[close], return_index=True)  # the best-scored one takes the object
        right = np.zeros(len(self.iou), bool)
        right[close[first]] = True
        return right, right | (self.crowd < threshold)


def assign(predicted: Iterable[Instances], truth: Iterable[Instances]) -> Assignment:
    rows, true, first = [], [], 0
    for image, (p, t) in enumerate(zip(predicted, truth, strict=True)):
        iou, share, cover = overlap(p.runs, t.runs, image)
        same = p.labels[:, None] == t.labels
        # One column more, for no object; of equal overlaps the first object has it.
        best = pad(iou.where(same & ~t.crowd, -1.0), (0, 1), value=-1.0).max(1)
        crowd = pad(share.where(same & t.crowd, 0.0), (0, 1)).amax(1)
        covered = (same & ~t.crowd & (cover >= 0.5)).sum(1)
        rows.append((p.labels, p.scores, best.indices + first, best.values, crowd, covered))
        true.append(t.labels[~t.crowd])
        first += len(t) + 1
    if not rows:
        raise DataError("there are no images to evaluate")
    columns = [torch.cat(column).cpu().numpy() for column in zip(*rows, strict=True)]
    order = np.argsort(-columns[1], kind="stable")
    objects = torch.cat(true).cpu().numpy()
    return Assignment(*(column[order] for column in columns), true=objects)


class Matches(NamedTuple):
    """The predictions of one image in order of falling score; all tensors are [K]."""

    prediction: Tensor  # int64, its row
    target: Tensor  # int64, the row of the object of its class that it covers best, or -1
    iou: Tensor  # float64, with that object, or -1
    right: Tensor  # bool, whether it got the object


def matches(predicted: Instances, truth: Instances, threshold: float = 0.5) -> Matches:
    """Which prediction took which object of one image, by the rule of `voc_ap`."""
    rows = assign([predicted], [truth])
    target = np.where(rows.iou >= 0, rows.target, -1)
    order = torch.argsort(-predicted.scores.cpu(), stable=True)
    return Matches(order, *(torch.from_numpy(v) for v in (target, rows.iou, rows.right(threshold)[0])))


def average_precision(
    right: np.ndarray,  # bool [N], of detections by falling score
    positives: int,  # true objects
    interpolation: Interpolation = "area",
) -> float:
    """Average precision in [0, 1], nan without a true object.

    "area": all of the area under the precision envelope. "11point": the mean precision at
    the recalls 0, .1, ... 1; "_released": at these as released code rounds them, so that
    .3, .6 and .7 have to be exceeded.
    """
    if positives == 0:
        return math.nan
    hits = np.cumsum(right)
    recalls = np.concatenate([[0.0], hits / positives])
    precision = np.concatenate([[0.0], hits / np.arange(1, len(hits) + 1)])
    envelope = np.maximum.accumulate(precision[::-1])[::-1]
    if interpolation == "area":
        return float((np.diff(recalls) * envelope[1:]).sum())
    exact, released = np.linspace(0, 1, 11) - 1e-9, np.arange(0, 1.1, 0.1)
    place = np.searchsorted(recalls, exact if interpolation == "11point" else released)
    return float(np.append(envelope, 0.0)[place].mean())


def voc_ap(
    predicted: Iterable[Instances],
    truth: Iterable[Instances],
    num_classes: int,
    thresholds: Sequence[float] = (0.25, 0.5, 0.7, 0.75),
    interpolation: Interpolation = "area",
) -> Report:
    """Mean average precision of masks by the VOC rule (chainercv's evaluator).

    By falling score each prediction goes to the true object of its class and image with the largest IoU. It is right where
    IoU >= threshold and no better-scored prediction has that object; there is no second try. Crowds are no targets, and a
    prediction that is not right and has at least the threshold's share of its area on a crowd of its class is left out.

    predicted, truth: one `Instances` per image, in the same order; DataError for no images. Returns {"mAP25", one per
    threshold: the mean over classes that have objects; "AP": float64 [T, C], nan for the others}. ValueError for other labels.
    """
    rows = assign(predicted, truth)
    if (labels := np.concatenate([rows.label, rows.true])).size and labels.max() >= num_classes:
        raise ValueError(f"the label {labels.max()} is beyond {num_classes} classes; give their number")
    positives = np.bincount(rows.true, minlength=num_classes)
    table = np.full((len(thresholds), num_classes), np.nan)
    for row, threshold in zip(table, thresholds, strict=True):
        right, counts = rows.right(threshold)
        for label in range(num_classes):
            row[label] = average_precision(right[counts & (rows.label == label)], positives[label], interpolation)
    means = [float(np.nanmean(row)) if positives.any() else math.nan for row in table]
    figures = {f"mAP{round(100 * t)}": m for t, m in zip(thresholds, means, strict=True)}
    return {**figures, "AP": torch.from_numpy(table)}


def label_quality(pseudo: Iterable[Instances], truth: Iterable[Instances], iou: float = 0.5) -> dict[str, int]:
    """How many pseudo labels are right (true_positive) or wrong (false_positive) as in `voc_ap`, and objects missed.

    covers_several: labels, right or wrong, that hold half or more of each of two or more objects of their class.
    """
    rows = assign(pseudo, truth)
    right, counts = rows.right(iou)
    hits, wrong = int(right.sum()), int((counts & ~right).sum())
    counts = {"true_positive": hits, "false_positive": wrong, "missed": len(rows.true) - hits}
    return {**counts, "covers_several": int((rows.covered > 1).sum())}


def quality_by_image(pseudo: Iterable[Instances], truth: Iterable[Instances]) -> dict[str, Tensor]:
    """`label_quality` of each image by itself, int64 [images] for each name."""
    rows = [label_quality([p], [t]) for p, t in zip(pseudo, truth, strict=True)]
    return {name: torch.tensor([row[name] for row in rows]) for name in (rows[0] if rows else ())}


def iou_by_size(pseudo: Iterable[Instances], truth: Iterable[Instances]) -> dict[str, float]:
    """How well pseudo masks cover the objects they were made for, matched by annotation id; a lost one, or one without an id,
    counts 0.

    Returns mIoU, the mean over classes of the mean over objects (release of MAL), and mIoU_small, _medium, _large over all
    objects of COCO's size. Crowds do not count.
    """
    rows = []
    for image, (p, t) in enumerate(zip(pseudo, truth, strict=True)):
        t = t[~t.crowd]
        iou = overlap(p.runs, t.runs, image)[0].where((p.ids[:, None] == t.ids) & (t.ids != NO_ID), 0.0)
        best = pad(iou, (0, 0, 0, 1)).amax(0)  # one row more, of a lost mask
        rows.append(torch.stack([best, t.labels, t.runs.areas], 1).double().cpu())
    iou, label, area = torch.cat(rows).unbind(1) if rows else torch.zeros(3, 0)
    of_class = [iou[label == c].mean() for c in label.unique()]
    figures = {"mIoU": float(torch.stack(of_class).mean()) if of_class else math.nan}
    return figures | {f"mIoU_{n}": float(iou[(area > low) & (area <= high)].mean()) for n, (low, high) in SIZES.items()}


def separated(objects: Instances) -> Tensor:
    """Which of K objects lie in two or more pieces that each have a tenth of the mask's area: bool [K]; crowds are none."""
    flags = []
    for part in objects.runs.parts():
        ids, count = connected_components(part.pixels[None].long())
        area = torch.bincount(ids.flatten(), minlength=count + 1)[1:]
        flags.append(int((area >= 0.1 * area.sum()).sum()) >= 2)
    return torch.tensor(flags, dtype=torch.bool, device=objects.crowd.device) & ~objects.crowd


def recall(predicted: Iterable[Instances], objects: Iterable[Instances]) -> float:
    """The share of objects that some prediction of their class with a score of .3 or more covers with an IoU of .75 or more.

    The measure of Separated-COCO and Occluded-COCO (Zhan et al., BMVC 2022); one prediction may serve several objects.
    objects: of each image only those to find, such as `truth[separated(truth)]`.
    """
    hits = total = 0
    for image, (p, t) in enumerate(zip(predicted, objects, strict=True)):
        p = p[p.scores >= 0.3]
        good = (p.labels[:, None] == t.labels) & (overlap(p.runs, t.runs, image)[0] >= 0.75)
        hits += int(good.any(0).sum())
        total += len(t)
    return hits / total if total else math.nan


def cue_quality(points: Iterable[Points], truth: Iterable[Instances]) -> dict[str, float]:
    """Whether cues hit objects, each object once: precision (right / cues) and recall (objects hit / objects).

    A cue is right if its nearest pixel is on an object of its class (the smallest, where they overlap) that no
    better-scored cue has. Crowds, and cues that are on nothing else, are left out.
    """
    right = cues = objects = 0
    for p, t in zip(points, truth, strict=True):
        x, y = p.xy.round().long().unbind(1)
        on = torch.stack([part.holds(y, x) for part in t.runs.parts()], 1) if len(t) else x.new_zeros(len(x), 0).bool()
        on &= p.labels[:, None] == t.labels  # [N, K]
        on_object = on & ~t.crowd
        hit = on_object.any(1)
        area = torch.where(on_object, t.runs.areas, math.prod(t.runs.size) + 1)
        right += len(area[hit].argmin(1).unique()) if hit.any() else 0
        cues += int((hit | ~on.any(1)).sum())
        objects += int((~t.crowd).sum())
    return {"precision": right / cues if cues else math.nan, "recall": right / objects if objects else math.nan}


def coco_ap(predicted: Iterable[Instances], truth: Iterable[Instances], num_classes: int) -> dict[str, float]:
    """COCO mask AP by pycocotools: AP, AP50, AP75, AP_small, _medium, _large, AR1, AR10, AR100; nan without objects.

    One `Instances` per image, in the same order. Raises DataError for masks of different sizes.
    """
    rows, targets, images = [], [], []
    for image, (p, t) in enumerate(zip(predicted, truth, strict=True)):
        check_sizes(p.runs, t.runs, image)
        rows += _records(p, image)
        targets += _records(t, image)
        images.append(image)
    return coco_eval(images, range(num_classes), rows, targets)


def _records(instances: Instances, image: int) -> Records:
    columns = (c.tolist() for c in (instances.labels, instances.scores, instances.crowd.long()))
    return [
        {"image_id": image, "segmentation": mask, "category_id": label, "score": score, "iscrowd": crowd}
        for mask, label, score, crowd in zip(instances.runs.entries, *columns, strict=True)
    ]


def coco_eval(images: Sequence[int], categories: Sequence[int], predicted: Records, truth: Records) -> dict[str, float]:
    """What `coco_ap` returns, of dicts of image_id, category_id, segmentation (RLE), score, iscrowd and, optional, area."""
    with contextlib.redirect_stdout(io.StringIO()):
        run = COCOeval(_coco(images, categories, truth), _coco(images, categories, predicted), "segm")
        run.evaluate()
        run.accumulate()
        run.summarize()
    names = "AP AP50 AP75 AP_small AP_medium AP_large AR1 AR10 AR100".split()
    return {name: float(v) if v >= 0 else math.nan for name, v in zip(names, run.stats, strict=False)}


def _coco(images: Sequence[int], categories: Sequence[int], annotations: Records) -> COCO:
    """A pycocotools object from memory; ids are given anew because pycocotools takes id 0 for "unmatched"."""
    areas = [int(coco_mask.area(a["segmentation"])) for a in annotations]  # all at once overflows beyond 255
    rows = [{"area": area, **a, "id": i} for i, (a, area) in enumerate(zip(annotations, areas, strict=True), start=1)]
    sizes = [{"id": i, "height": 0, "width": 0} for i in images]  # unused: RLE has the size
    coco = COCO()
    coco.dataset = {"images": sizes, "categories": [{"id": c} for c in categories], "annotations": rows}  # pyright: ignore
    coco.createIndex()
    return coco
