"""Weak labels from one COCO JSON to another."""

from collections import defaultdict
from pathlib import Path

import torch

from wsis.core.files import Entry, write_json
from wsis.core.masks import RunLengths
from wsis.core.report import progress
from wsis.core.types import Instances
from wsis.data.checks import read_coco
from wsis.weak.simulate import PointKind, click, click_extremes


def simulate(
    coco: Entry, points: PointKind | None = None, extreme: bool = False, tags: bool = False, seed: int = 0
) -> Entry:
    """Add weak labels to a checked COCO data set; nothing else of it changes, nor does the argument.

    `point` and `extreme_points` go to the annotations, `tags` to the images. Crowds, annotations without a mask and empty
    masks get no click; lines and single pixels get no extreme points, which would span no box.
    """
    by_image = defaultdict(list)
    for annotation in coco["annotations"]:
        by_image[annotation["image_id"]].append(annotation)
    images, labels = coco["images"], defaultdict(dict)
    if tags:
        images = [{**image, "tags": sorted({a["category_id"] for a in by_image[image["id"]]})} for image in images]
    for image in progress(images, "images") if points or extreme else ():
        drawn = [a for a in by_image[image["id"]] if "segmentation" in a and not a.get("iscrowd")]
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

    Raises AnnotationError or DataError if `source` is not sound, DataError if `destination` cannot be written.
    """
    coco, dropped = read_coco(source, drop_invalid)
    coco = simulate(coco, points=points, extreme=extreme, tags=tags, seed=seed)
    write_json(destination, coco)
    annotations = coco["annotations"]
    counts = {"images": len(coco["images"]), "points": sum("point" in a for a in annotations)}
    counts |= {"extreme_points": sum("extreme_points" in a for a in annotations)}
    return counts | {"tags": sum(len(i.get("tags", ())) for i in coco["images"]), "dropped": len(dropped)}
