"""Weak labels from one COCO JSON to another."""

from collections import defaultdict
from pathlib import Path

import torch

from wsis.core.files import Entry, write_json
from wsis.data.checks import read_coco
from wsis.data.masks import decode_masks
from wsis.weak.simulate import PointKind, extreme_points_from_masks, points_from_masks, spans_box, uniform_by_id


def simulate(
    coco: Entry, *, points: PointKind | None = None, extreme: bool = False, tags: bool = False, seed: int = 0
) -> Entry:
    """Add weak labels to a checked COCO data set; nothing else of it changes, nor does the argument.

    `point` and `extreme_points` go to the annotations, `tags` to the images. Crowds, annotations without a mask and empty
    masks get no click; lines and single pixels get no extreme points, which would span no box.
    """
    by_image = defaultdict(list)
    for annotation in coco["annotations"]:
        by_image[annotation["image_id"]].append(annotation)
    images, clicks = coco["images"], {}
    if tags:
        images = [{**image, "tags": sorted({a["category_id"] for a in by_image[image["id"]]})} for image in images]
    if points or extreme:
        for image in images:
            clicks |= _clicks(image, by_image[image["id"]], points, extreme, seed)
    annotations = [{**a, **clicks.get(a["id"], {})} for a in coco["annotations"]]
    return {**coco, "images": images, "annotations": annotations}


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
    return {
        "images": len(coco["images"]),
        "points": sum("point" in a for a in coco["annotations"]),
        "extreme_points": sum("extreme_points" in a for a in coco["annotations"]),
        "tags": sum(len(i.get("tags", ())) for i in coco["images"]),
        "dropped": len(dropped),
    }


def _clicks(image: Entry, annotations: list[Entry], points: PointKind | None, extreme: bool, seed: int) -> Entry:
    drawn = [a for a in annotations if "segmentation" in a and not a.get("iscrowd")]
    masks = decode_masks([a["segmentation"] for a in drawn], image["height"], image["width"])
    filled = masks.flatten(1).any(1)
    masks, ids = masks[filled], torch.tensor([a["id"] for a in drawn], dtype=torch.long)[filled]
    clicks: Entry = {i: {} for i in ids.tolist()}
    if points:
        uniform = uniform_by_id(torch.full_like(ids, image["id"]), ids, seed)
        xy = points_from_masks(masks, points, uniform=uniform)
        for i, click in zip(clicks, xy.int().tolist(), strict=True):
            clicks[i]["point"] = click
    if extreme:
        xy = extreme_points_from_masks(masks)
        for i, four, spans in zip(clicks, xy.int().tolist(), spans_box(xy).tolist(), strict=True):
            if spans:
                clicks[i]["extreme_points"] = four
    return clicks
