"""COCO mask AP, by pycocotools."""

import contextlib
import io
import math
from collections.abc import Iterable, Sequence

from pycocotools import mask as coco_mask
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from wsis.core.types import Instances
from wsis.data.coco_json import Records
from wsis.evaluation.instances import check_sizes


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
