"""Measures of single objects: how well each is covered, by size, and whether objects that are cut in two are found."""

import math
from collections.abc import Iterable

import torch
from torch import Tensor

from wsis.core.types import Instances
from wsis.evaluation.instances import intersection
from wsis.ops.components import connected_components

SIZES = {"small": (0, 32**2), "medium": (32**2, 96**2), "large": (96**2, float("inf"))}  # COCO's, pixels


def iou_by_size(pseudo: Iterable[Instances], truth: Iterable[Instances]) -> dict[str, float]:
    """How well pseudo masks cover the objects they were made for, matched by annotation id; a lost one counts 0.

    Returns mIoU: mean over classes of the mean over objects, as the release of MAL has it, and mIoU_small, _medium,
    _large over all objects of COCO's size (true area up to 32 x 32, to 96 x 96, above). nan where there are none.
    Crowds do not count.
    """
    rows = []
    for p, t in zip(pseudo, truth, strict=True):
        t = t[~t.crowd]
        both, area = intersection(p.masks, t.masks), t.masks.flatten(1).sum(1)
        union = p.masks.flatten(1).sum(1)[:, None] + area - both
        same = p.ids[:, None] == t.ids
        iou = torch.where(same, both / union.clamp(min=1), 0.0)
        best = iou.amax(0) if len(p) else torch.zeros(len(t), dtype=torch.float64)
        rows.append(torch.stack([best, t.labels, area], 1).double().cpu())
    iou, label, area = torch.cat(rows).unbind(1) if rows else torch.zeros(3, 0)
    of_class = [iou[label == c].mean() for c in label.unique()]
    found = {"mIoU": float(torch.stack(of_class).mean()) if of_class else float("nan")}
    for name, (low, high) in SIZES.items():
        found[f"mIoU_{name}"] = float(iou[(area > low) & (area <= high)].mean())
    return found


def separated(masks: Tensor, least: float = 0.1) -> Tensor:
    """Which masks, bool [K, H, W], lie in two or more pieces that each have `least` of the mask's area: bool [K]."""
    if not len(masks):
        return torch.zeros(0, dtype=torch.bool, device=masks.device)
    ids, count = connected_components(masks.long())
    area = torch.bincount(ids.flatten(), minlength=count + 1)[1:]
    owner = torch.zeros(count, dtype=torch.long, device=ids.device)
    owner[ids[masks] - 1] = masks.nonzero()[:, 0]
    large = area >= least * masks.flatten(1).sum(1)[owner]
    return torch.bincount(owner[large], minlength=len(masks)) >= 2


def recall(
    predicted: Iterable[Instances], objects: Iterable[Instances], score: float = 0.3, iou: float = 0.75
) -> float:
    """The share of objects that some prediction of their class with `score` or more covers with `iou` or more.

    The measure of Separated-COCO and Occluded-COCO (Zhan et al., BMVC 2022); one prediction may serve several objects.
    objects: of each image only those to find, such as `truth[separated(truth.masks)]`. nan if there are none.
    """
    hits = total = 0
    for p, t in zip(predicted, objects, strict=True):
        p = p[p.scores >= score]
        both = intersection(p.masks, t.masks)
        union = p.masks.flatten(1).sum(1)[:, None] + t.masks.flatten(1).sum(1) - both
        good = (p.labels[:, None] == t.labels) & (both / union.clamp(min=1) >= iou)
        hits += int(good.any(0).sum()) if len(p) else 0
        total += len(t)
    return hits / total if total else math.nan
