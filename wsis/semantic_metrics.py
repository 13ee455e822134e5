"""Mean IoU of base and novel classes apart: what the generalised weak-shot setting reports (SimFormer's evaluator)."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from wsis.evaluate import MeanIoU
from wsis.types import IGNORE


def grouped_iou(metric: MeanIoU, novel: Sequence[int]) -> dict[str, Any]:
    """Of class maps gathered by `MeanIoU(C + 1)`; true 0 and 255 do not count, a prediction of these is a miss.

    Returns "base_mIoU" and "novel_mIoU", over the classes that occur in the truth; "mIoU", where a class that is only
    predicted counts as 0; "harmonic_mIoU" of base and novel (ours, the paper has none); "base_accuracy" and
    "novel_accuracy", means of the recall of pixels; "IoU": float64 [C], nan without true pixels. Fractions in [0, 1],
    nan where there is nothing to measure.

    novel: labels 0..C-1.
    """
    rows = metric.confusion[1:].double()
    common, true, predicted = rows[:, 1:-1].diagonal(), rows.sum(1), rows[:, 1:-1].sum(0)
    iou, accuracy = common / (true + predicted - common), common / true
    overall = iou.nanmean()
    iou[true == 0] = torch.nan
    groups = torch.zeros(2, len(iou), dtype=torch.bool)
    groups[1, list(novel)] = True
    groups[0] = ~groups[1]
    base, new = (iou[group].nanmean() for group in groups)
    harmonic = 2 * base * new / (base + new) if base + new != 0 else base + new
    figures = {"mIoU": overall, "base_mIoU": base, "novel_mIoU": new, "harmonic_mIoU": harmonic}
    figures |= {
        f"{n}_accuracy": accuracy[g].nanmean() for n, g in zip(("base", "novel"), groups, strict=True)
    }
    return {name: float(value) for name, value in figures.items()} | {"IoU": iou}


def is_novel(class_map: Tensor, novel: Sequence[int]) -> Tensor:
    """Which pixels are of a novel class: integers of any shape, 1..C and 0 or 255 -> bool. novel: labels 0..C-1."""
    labels = torch.tensor(novel, dtype=torch.long, device=class_map.device)
    return torch.isin(class_map.long() - 1, labels)


def pair_counts(said: Tensor, class_map: Tensor, novel: Sequence[int]) -> Tensor:
    """How often pairs of pixels were told right: long [2, 2, 2], base or novel, two classes or one, wrong or right.

    said: bool [J, J], whether two pixels are said to be of one class. class_map: integers [J] at these
    pixels, 1..C, or 0 or 255 for no class.
    Pairs of a base and a novel pixel are left out, and those with a pixel of no class. Counts of several images add up.
    """
    same, of = class_map[:, None] == class_map, is_novel(class_map, novel).long()
    known = (class_map > 0) & (class_map != IGNORE)
    kept = (of[:, None] == of) & known[:, None] & known
    place = 4 * of[:, None].expand_as(same) + 2 * same + (said == same)
    return place[kept].bincount(minlength=8).view(2, 2, 2)
