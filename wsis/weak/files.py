"""Weak labels from one COCO JSON to another."""

from collections import defaultdict
from pathlib import Path
from typing import Any

import torch

from wsis.core.files import write_json
from wsis.data.checks import read_coco
from wsis.data.masks import decode_masks
from wsis.weak.simulate import PointKind, _spans_box, extreme_points_from_masks, points_from_masks, uniform_by_id


def simulate(
    coco: dict[str, Any], *, points: PointKind | None = None, extreme: bool = False, tags: bool = False, seed: int = 0
) -> dict[str, Any]:
    """A checked COCO data set with weak labels added; nothing else of it changes, nor does the argument.

    `point` [x, y] and `extreme_points` (top, left, bottom, right) go to the annotations, `tags` (category
    ids) to the images. Crowds, annotations without a mask and empty masks get no click; lines and single
    pixels get no extreme points, which would span no box.
    """
    annotations_of = defaultdict(list)
    for annotation in coco["annotations"]:
        annotations_of[annotation["image_id"]].append(annotation)
    clicks: dict[int, dict[str, Any]] = {}
    images = []
    for image in coco["images"]:
        own = annotations_of[image["id"]]
        found = {"tags": sorted({a["category_id"] for a in own})} if tags else {}
        images.append({**image, **found})
        if points or extreme:
            clicks |= _clicks(image, own, points, extreme, seed)
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
    """`simulate` from one COCO JSON to another; returns how many labels of each kind the result has.

    Raises:
        AnnotationError: `source` has weak labels that do not fit.
        DataError: `source` is not a sound COCO JSON, or `destination` cannot be written.
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


def _clicks(
    image: dict[str, Any], annotations: list[dict[str, Any]], points: PointKind | None, extreme: bool, seed: int
) -> dict[int, dict[str, Any]]:
    """The clicks of one image by annotation id."""
    own = [a for a in annotations if "segmentation" in a and not a.get("iscrowd")]
    masks = decode_masks([a["segmentation"] for a in own], image["height"], image["width"])
    filled = masks.flatten(1).any(1)
    masks, ids = masks[filled], torch.tensor([a["id"] for a in own], dtype=torch.long)[filled]
    clicks: dict[int, dict[str, Any]] = {i: {} for i in ids.tolist()}
    if points:
        uniform = uniform_by_id(torch.full_like(ids, image["id"]), ids, seed)
        xy = points_from_masks(masks, points, uniform=uniform)
        for i, click in zip(clicks, xy.int().tolist(), strict=True):
            clicks[i]["point"] = click
    if extreme:
        xy = extreme_points_from_masks(masks)
        for i, four, spans in zip(clicks, xy.int().tolist(), _spans_box(xy).tolist(), strict=True):
            if spans:
                clicks[i]["extreme_points"] = four
    return clicks
