"""Mean IoU of class maps, also of base and novel classes apart, as the generalized weak-shot setting reports it."""

from collections.abc import Sequence

import torch
from torch import Tensor

from wsis.core.errors import DataError
from wsis.core.types import IGNORE, Report


class MeanIoU:
    """Mean IoU of class maps of 0..num_classes-1 (0 = background), accumulated image by image.

    Pixels whose truth is 255 do not count; where only the prediction is 255, the true class is missed.
    """

    def __init__(self, num_classes: int) -> None:
        self.num_classes = num_classes
        self.confusion = torch.zeros(num_classes, num_classes + 1, dtype=torch.long)  # true, predicted or none

    def update(self, predicted: Tensor, true: Tensor) -> None:
        """Add integer class maps of one image or a batch; raises DataError if shapes differ or a value is no class."""
        if predicted.shape != true.shape:
            raise DataError(f"class maps differ in size: predicted {tuple(predicted.shape)}, true {tuple(true.shape)}")
        n, counts = self.num_classes, true != IGNORE
        p, t = predicted[counts].long(), true[counts].long()
        for name, values in (("predicted", p), ("true", t)):
            wrong = values[((values < 0) | (values >= n)) & (values != IGNORE)]
            if len(wrong):
                raise DataError(f"{name} class map holds {int(wrong[0])}; classes are 0..{n - 1}, ignore {IGNORE}")
        p = torch.where(p == IGNORE, n, p)
        self.confusion += torch.bincount(t * (n + 1) + p, minlength=n * (n + 1)).view(n, n + 1).cpu()

    def result(self) -> Report:
        """{"mIoU", "IoU": float64 [C], "pixel_accuracy", "foreground_IoU": any class against background}.

        Classes that are absent from both truth and prediction are nan and not part of the mean.
        """
        m, n = self.confusion.double(), self.num_classes
        common = m[:, :n].diagonal()
        iou = common / (m.sum(1) + m[:, :n].sum(0) - common)
        foreground = m[1:, 1:n].sum() / (m.sum() - m[0, 0] - m[0, n])
        figures = {"mIoU": iou.nanmean(), "pixel_accuracy": common.sum() / m.sum(), "foreground_IoU": foreground}
        return {name: float(value) for name, value in figures.items()} | {"IoU": iou}


def grouped_iou(metric: MeanIoU, novel: Sequence[int]) -> Report:
    """Base and novel classes apart, from a `MeanIoU(C + 1)` (SimFormer's evaluator); true 0 and 255 do not count.

    A prediction of 0 or 255 is a miss. novel: labels 0..C-1. Returns "base_mIoU" and "novel_mIoU" over the classes that occur
    in the truth; "mIoU", where a class that is only predicted counts as 0; "harmonic_mIoU" (ours); "base_accuracy" and
    "novel_accuracy", means of the recall of pixels; "IoU": float64 [C]. Fractions, nan where there is nothing to measure.
    """
    rows = metric.confusion[1:].double()
    common, true, predicted = rows[:, 1:-1].diagonal(), rows.sum(1), rows[:, 1:-1].sum(0)
    iou, accuracy = common / (true + predicted - common), common / true
    overall, in_novel = iou.nanmean(), is_novel(torch.arange(1, len(iou) + 1), novel)
    iou[true == 0] = torch.nan
    base, new = iou[~in_novel].nanmean(), iou[in_novel].nanmean()
    harmonic = 2 * base * new / (base + new) if base + new != 0 else base + new
    figures = {"mIoU": overall, "base_mIoU": base, "novel_mIoU": new, "harmonic_mIoU": harmonic}
    figures |= {"base_accuracy": accuracy[~in_novel].nanmean(), "novel_accuracy": accuracy[in_novel].nanmean()}
    return {name: float(value) for name, value in figures.items()} | {"IoU": iou}


def is_novel(class_map: Tensor, novel: Sequence[int]) -> Tensor:
    """Which pixels are of a novel class: integers of any shape, 1..C and 0 or 255 -> bool. novel: labels 0..C-1."""
    return torch.isin(class_map.long() - 1, torch.tensor(novel, dtype=torch.long, device=class_map.device))


def region_coverage(masks: Tensor, class_map: Tensor, novel: Sequence[int]) -> Tensor:
    """How well some masks, bool [N, H, W], cover the region of each class in a map [H, W]; 0 and 255 are no class.

    Returns float [R, 3] for R regions: 1 where the class is novel, the best IoU of any mask, and that of the whole image.
    """
    known = (class_map > 0) & (class_map != IGNORE)
    values = class_map[known].unique()
    regions = (class_map[known] == values[:, None]).float()
    drawn = torch.cat([masks, torch.ones_like(masks[:1])])[:, known].float()
    common = regions @ drawn.mT
    iou = common / (regions.sum(1, keepdim=True) + drawn.sum(1) - common)
    return torch.stack([is_novel(values, novel).float(), iou[:, :-1].amax(1), iou[:, -1]], 1)


def proposal_recall(regions: Tensor) -> Report:
    """The share of regions (rows of `region_coverage`) that reach an IoU of .5 or .75: "base_recall50", "novel_recall75" ...

    Those that the whole image reaches are `trivial_` the same. Fractions, nan where there is no such region.
    """
    figures = {}
    for kind, name in enumerate(("base", "novel")):
        for level in (0.5, 0.75):
            found, trivial = (regions[regions[:, 0] == kind, 1:] >= level).float().mean(0).tolist()
            key = f"{name}_recall{100 * level:.0f}"
            figures |= {key: found, f"trivial_{key}": trivial}
    return figures


def pair_counts(predicted_same: Tensor, class_map: Tensor, novel: Sequence[int]) -> Tensor:
    """Confusion counts of same-class predictions, bool [J, J], for pairs of pixels: two base ones, and two novel ones.

    class_map: integers [J] at these pixels, 1..C, or 0 or 255 for no class; pairs with such a pixel do not count. Long
    [2, 2, 2]: base or novel, two classes or one, wrong or right; those of several images add up.
    """
    same, group = class_map[:, None] == class_map, is_novel(class_map, novel).long()
    known = (class_map > 0) & (class_map != IGNORE)
    counts = (group[:, None] == group) & known[:, None] & known
    cell = 4 * group[:, None].expand_as(same) + 2 * same + (predicted_same == same)
    return cell[counts].bincount(minlength=8).view(2, 2, 2)
