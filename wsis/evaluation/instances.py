"""How good are masks: VOC mAP, COCO AP, mean IoU, and the quality of cues and pseudo labels.

`voc_ap` follows the rule of chainercv's instance segmentation evaluator, which the weakly supervised papers
report; `coco_ap` is pycocotools; `MeanIoU` is the usual confusion matrix. Results are fractions in [0, 1],
nan where there is nothing to measure. `wsis.evaluate_files` does the same for what is on disk.
"""

import contextlib
import io
from collections.abc import Iterable, Sequence
from typing import Any, Literal, NamedTuple

import numpy as np
import torch
from pycocotools import mask as coco_mask
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval
from torch import Tensor

from wsis.core.errors import DataError
from wsis.core.types import Instances, Points
from wsis.data.masks import encode_masks

PIXELS_AT_ONCE = 1 << 18  # bounds the float copy of the masks in `intersection`


def intersection(a: Tensor, b: Tensor) -> Tensor:
    """Common pixels of each pair of masks, bool [K, H, W] and [G, H, W] -> float64 [K, G], exact."""
    pairs = zip(a.flatten(1).split(PIXELS_AT_ONCE, 1), b.flatten(1).split(PIXELS_AT_ONCE, 1), strict=True)
    zero = torch.zeros(len(a), len(b), dtype=torch.float64, device=a.device)
    return sum(((x.float() @ y.float().T).double() for x, y in pairs), zero)


def _same_size(predicted: Instances, truth: Instances, image: int) -> None:
    sizes = tuple(predicted.masks.shape[1:]), tuple(truth.masks.shape[1:])
    if sizes[0] != sizes[1]:
        raise DataError(f"image {image}: predicted masks are {sizes[0]}, true ones {sizes[1]}; resize the prediction")


def _assign(predicted: Instances, truth: Instances, void: Tensor | None, image: int) -> dict[str, np.ndarray]:
    """For each prediction of one image the true object of its class that it covers best.

    `target` is the row in `truth`, `iou` the overlap (-1: no object of the class), `crowd` the share of the
    prediction that lies on one crowd region of its class.
    """
    _same_size(predicted, truth, image)
    masks = predicted.masks if void is None else predicted.masks & ~void
    common = intersection(masks, truth.masks).cpu().numpy()
    area = masks.flatten(1).sum(1).cpu().numpy()[:, None]
    union = area + truth.masks.flatten(1).sum(1).cpu().numpy() - common
    same = (predicted.labels[:, None] == truth.labels).cpu().numpy()
    crowd = truth.crowd.cpu().numpy()
    iou = np.where(same & ~crowd, common / np.maximum(union, 1), -1.0)
    on_crowd = np.where(same & crowd, common / np.maximum(area, 1), 0.0)
    return {
        "label": predicted.labels.cpu().numpy(),
        "score": predicted.scores.cpu().numpy(),
        "target": np.pad(iou, ((0, 0), (0, 1)), constant_values=-1.0).argmax(1),  # ties: the first object
        "iou": iou.max(1, initial=-1.0),
        "crowd": on_crowd.max(1, initial=0.0),
        "positives": truth.labels.cpu().numpy()[~crowd],
        "objects": np.array([len(truth)]),
    }


def _assign_all(
    predicted: Iterable[Instances], truth: Iterable[Instances], void: Iterable[Tensor | None] | None
) -> dict[str, np.ndarray]:
    """`_assign` over a data set: predictions by falling score (ties in the order given), targets numbered."""
    pairs = zip(predicted, truth, strict=True)
    triples = ((p, t, None) for p, t in pairs) if void is None else zip(predicted, truth, void, strict=True)
    rows = [_assign(*triple, image=i) for i, triple in enumerate(triples)]
    if not rows:
        raise DataError("there are no images to evaluate")
    found = {name: np.concatenate([row[name] for row in rows]) for name in rows[0]}
    first = np.cumsum(found["objects"] + 1) - found["objects"] - 1  # + 1: the row of "no object"
    found["target"] += np.repeat(first, [len(row["label"]) for row in rows])
    order = np.argsort(-found["score"], kind="stable")
    return {name: v if name in ("positives", "objects") else v[order] for name, v in found.items()}


def _true_positive(found: dict[str, np.ndarray], threshold: float) -> tuple[np.ndarray, np.ndarray]:
    """Which predictions are right, and which count at all: a wrong one that lies on a crowd does not."""
    close = np.flatnonzero(found["iou"] >= threshold)
    _, first = np.unique(found["target"][close], return_index=True)  # the best-scored one takes the object
    right = np.zeros(len(found["iou"]), bool)
    right[close[first]] = True
    return right, right | (found["crowd"] < threshold)


class Matches(NamedTuple):
    """What became of the predictions of one image, in order of falling score; all tensors are [K].

    prediction: int64, its row. target: int64, the row of the object of its class that it covers best, or -1.
    iou: float64, with that object, or -1. right: bool, whether it got the object.
    """

    prediction: Tensor
    target: Tensor
    iou: Tensor
    right: Tensor


def matches(predicted: Instances, truth: Instances, threshold: float = 0.5) -> Matches:
    """Which prediction took which object of one image, by the rule of `voc_ap`.

    Raises:
        DataError: masks of different sizes.
    """
    found = _assign_all([predicted], [truth], None)
    right, _ = _true_positive(found, threshold)
    target = np.where(found["iou"] >= 0, found["target"], -1)
    order = torch.argsort(-predicted.scores.cpu(), stable=True)
    return Matches(order, *(torch.from_numpy(v) for v in (target, found["iou"], right)))


def average_precision(right: np.ndarray, positives: int, interpolation: Literal["area", "11point"] = "area") -> float:
    """Average precision of detections in order of falling score: bool [N] of hits, number of true objects.

    "area": all of the area under the precision envelope. "11point": mean precision at recalls 0, .1, ... 1.
    """
    if positives == 0:
        return float("nan")
    hits = np.cumsum(right)
    recall = np.concatenate([[0.0], hits / positives])
    precision = np.concatenate([[0.0], hits / np.arange(1, len(hits) + 1)])
    envelope = np.maximum.accumulate(precision[::-1])[::-1]
    if interpolation == "area":
        return float((np.diff(recall) * envelope[1:]).sum())
    at = np.searchsorted(recall, np.linspace(0, 1, 11) - 1e-9)
    return float(np.append(envelope, 0.0)[at].mean())


def voc_ap(
    predicted: Iterable[Instances],
    truth: Iterable[Instances],
    num_classes: int,
    thresholds: Sequence[float] = (0.25, 0.5, 0.7, 0.75),
    *,
    interpolation: Literal["area", "11point"] = "area",
    void: Iterable[Tensor | None] | None = None,
    void_counts: bool = True,
) -> dict[str, Any]:
    r"""Mean average precision of masks by the VOC rule (chainercv's evaluator).

    By falling score each prediction goes to the true object of its class and image with the largest IoU. It
    is right where IoU >= threshold and no better-scored prediction has that object. There is no second try.
    All objects count. Crowds do not: they are no targets, and a prediction that is not right and has at least
    the threshold's share of its area on a crowd of its class is left out.

    Args:
        predicted, truth: one `Instances` per image, in the same order; generators will do.
        void: bool [H, W] per image, pixels without annotation. Where `void_counts`, as in published numbers,
            they stay in the predictions, and so in the union; otherwise they are removed from them.

    Returns:
        {"mAP25", one per threshold: mean over classes that have objects; "AP": float64 [T, C], nan without}.

    Raises:
        DataError: no images, or masks of different sizes.
    """
    found = _assign_all(predicted, truth, None if void_counts else void)
    positives = np.bincount(found["positives"], minlength=num_classes)
    table = np.full((len(thresholds), num_classes), np.nan)
    for row, threshold in zip(table, thresholds, strict=True):
        right, counts = _true_positive(found, threshold)
        for label in range(num_classes):
            mine = right[counts & (found["label"] == label)]
            row[label] = average_precision(mine, positives[label], interpolation)
    means = [float(np.nanmean(row)) if positives.any() else float("nan") for row in table]
    figures = {f"mAP{round(100 * t)}": m for t, m in zip(thresholds, means, strict=True)}
    return {**figures, "AP": torch.from_numpy(table)}


def label_quality(pseudo: Iterable[Instances], truth: Iterable[Instances], iou: float = 0.5) -> dict[str, int]:
    """How many pseudo labels are right or wrong, how many objects missed; same matching as `voc_ap`.

    Returns true_positive, false_positive, missed.
    """
    found = _assign_all(pseudo, truth, None)
    right, counts = _true_positive(found, iou)
    hits, wrong = int(right.sum()), int((counts & ~right).sum())
    return {"true_positive": hits, "false_positive": wrong, "missed": len(found["positives"]) - hits}


def cue_quality(points: Iterable[Points], truth: Iterable[Instances]) -> dict[str, float]:
    """Do cues hit objects, each object once? Returns precision and recall.

    A cue is right if its nearest pixel is on an object of its class (the smallest, where they overlap) that
    no better-scored cue has. Precision: right / cues; recall: objects hit / objects. Crowds, and cues that
    are on nothing else, are left out.
    """
    right = cues = objects = 0
    for p, t in zip(points, truth, strict=True):
        x, y = p.xy.round().long().unbind(1)
        height, width = t.masks.shape[1:]
        inside = (x >= 0) & (x < width) & (y >= 0) & (y < height)
        on = t.masks[:, y.clamp(0, height - 1), x.clamp(0, width - 1)].T & inside[:, None]  # (N, K)
        on &= p.labels[:, None] == t.labels
        on_object = on & ~t.crowd
        hit = on_object.any(1)
        area = torch.where(on_object, t.masks.flatten(1).sum(1), height * width + 1)
        right += len(area[hit].argmin(1).unique()) if hit.any() else 0
        cues += int((hit | ~on.any(1)).sum())
        objects += int((~t.crowd).sum())
    nan = float("nan")
    return {"precision": right / cues if cues else nan, "recall": right / objects if objects else nan}


def _annotations(instances: Instances, image: int) -> list[dict[str, Any]]:
    keys = ("segmentation", "category_id", "score", "iscrowd")
    columns = (instances.labels, instances.scores, instances.crowd.long())
    rows = zip(encode_masks(instances.masks), *(c.tolist() for c in columns), strict=True)
    return [{"image_id": image, **dict(zip(keys, row, strict=True))} for row in rows]


def coco_eval(
    images: Sequence[int], categories: Sequence[int], predicted: list[dict], truth: list[dict]
) -> dict[str, float]:
    """pycocotools' mask evaluation, without its prints; returns what `coco_ap` does.

    predicted, truth: dicts of image_id, category_id, segmentation (RLE), score, iscrowd and, optional, area.
    """
    with contextlib.redirect_stdout(io.StringIO()):
        run = COCOeval(_coco(images, categories, truth), _coco(images, categories, predicted), "segm")
        run.evaluate()
        run.accumulate()
        run.summarize()
    names = ("AP", "AP50", "AP75", "AP_small", "AP_medium", "AP_large", "AR1", "AR10", "AR100")
    return {name: float(v) if v >= 0 else float("nan") for name, v in zip(names, run.stats, strict=False)}


def _coco(images: Sequence[int], categories: Sequence[int], annotations: list[dict]) -> COCO:
    """A pycocotools object from memory; ids are given anew because pycocotools takes id 0 for "unmatched"."""
    areas = [int(coco_mask.area(a["segmentation"])) for a in annotations]  # all at once overflows beyond 255
    coco = COCO()
    rows: list[Any] = [
        {"area": area} | a | {"id": i + 1} for i, (a, area) in enumerate(zip(annotations, areas, strict=True))
    ]
    pictures: list[Any] = [{"id": i, "height": 0, "width": 0} for i in images]  # unused: RLE has the size
    names: list[Any] = [{"id": c} for c in categories]
    coco.dataset = {"images": pictures, "categories": names, "annotations": rows}
    coco.createIndex()
    return coco


def coco_ap(predicted: Iterable[Instances], truth: Iterable[Instances], num_classes: int) -> dict[str, float]:
    """COCO mask AP by pycocotools: AP, AP50, AP75, AP_small, _medium, _large, AR1, AR10, AR100.

    One `Instances` per image, in the same order. nan where there are no objects of that size.

    Raises:
        DataError: masks of different sizes.
    """
    rows, targets, count = [], [], 0
    for i, (p, t) in enumerate(zip(predicted, truth, strict=True)):
        _same_size(p, t, i)
        rows += _annotations(p, i)
        targets += _annotations(t, i)
        count += 1
    return coco_eval(list(range(count)), list(range(num_classes)), rows, targets)
