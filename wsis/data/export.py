"""Masks as the formats that other tools read: COCO with run lengths or polygons, labelme's JSON, YOLO's text."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

import numpy as np
from contourpy import FillType, contour_generator
from scipy.spatial import KDTree

from wsis.core.errors import ConfigError, DataError
from wsis.core.files import Entry, atomic, write_json, write_text
from wsis.core.masks import RunLengths
from wsis.data.checks import by_image
from wsis.data.images import map_name
from wsis.data.write import Records

Format = Literal["coco", "polygons", "labelme", "yolo"]
Ring = np.ndarray
"""A closed line float [N, 2], (x, y), whose first point is not repeated; the pixel (i, j) lies between i and i + 1."""


def check_place(out: Path, format: Format) -> None:
    """Refuse, before the work, to write where files of images are already; raises DataError."""
    if format in ("coco", "polygons") and out.is_dir():
        raise DataError(f"{out} is a folder, and {format} writes one file; choose another --out")
    if format in ("labelme", "yolo") and not out.name:
        raise DataError(f"--out {out} would be replaced as a whole; name a folder in it, or give its own name")
    if format in ("labelme", "yolo") and (out.is_file() or (out.is_dir() and any(out.iterdir()))):
        reason = f"and {format} writes one file for each image"
        raise DataError(f"{out} is not an empty folder, {reason}; choose another --out")


def check_maps(format: Format) -> None:
    """Raise ConfigError for a format of objects where a run makes class maps."""
    if format != "coco":
        raise ConfigError(f"--format {format} is for masks of objects, but this run makes label PNGs; leave it out")


def write_masks(
    out: Path, format: Format, images: Records, masks: Records, classes: Records, folder: Path | None, whole: Callable
) -> None:
    """Write masks, COCO annotations with run lengths, of images in a format.

    whole: puts the annotations together as one JSON, which "coco" and "polygons" write to the file `out`; the others write a
    file for each image into the folder `out`. folder: of the images, to which labelme's JSON points. Raises DataError if
    two images would have one file.
    """
    if format == "coco":
        return write_json(out, whole(masks))
    if format == "polygons":
        return write_json(out, whole([{**m, "segmentation": [p.ravel().tolist() for p in parts(m)]} for m in masks]))
    suffix, drawn = {"labelme": ".json", "yolo": ".txt"}[format], by_image(masks)
    paths = [out / Path(map_name(image["file_name"])).with_suffix(suffix) for image in images]
    if format == "yolo" and out / "classes.txt" in paths:
        raise DataError("an image is named as yolo's list of classes.txt; rename it")
    if twice := [path for path in paths if paths.count(path) > 1] if len(set(paths)) < len(paths) else []:
        raise DataError(f"two images would both be written to {twice[0]}; rename one of them")
    index = {category["id"]: i for i, category in enumerate(classes)}
    with atomic(out) as temporary:
        temporary.mkdir()
        for image, path in zip(images, paths, strict=True):
            rows, place = drawn[image["id"]], temporary / path.relative_to(out)
            if format == "yolo":
                write_text(place, "".join(f"{_yolo_line(index[m['category_id']], m)}\n" for m in rows))
            else:
                write_json(place, _labelme(image, rows, classes, path, folder), indent=2)
        if format == "yolo":
            write_text(temporary / "classes.txt", "".join(f"{category['name']}\n" for category in classes))


def parts(record: Entry) -> list[Ring]:
    """The outlines of the parts of a mask that hang together, the holes of each joined to it by a line that is walked twice."""
    (y, x, pixels), *_ = RunLengths([record["segmentation"]], record["segmentation"]["size"]).parts()
    part = np.pad(pixels.numpy(), 1).astype(float)
    # between a pixel and its neighbor beside the mask the line passes in the middle: its pixels are those of the mask
    filled: Any = contour_generator(z=part, fill_type=FillType.OuterOffset).filled(0.5, 2.0)
    outlines = []
    for points, offsets in zip(*filled, strict=True):
        rings = [_straight(points[a : b - 1]) for a, b in zip(offsets[:-1], offsets[1:], strict=True)]
        outlines.append(joined(rings) + np.array([x - 0.5, y - 0.5]))
    return outlines


def joined(rings: list[Ring]) -> Ring:
    """Join rings to one, each to those before it, where they are nearest."""
    whole = rings[0]
    for ring in rings[1:]:
        distance, nearest = KDTree(whole).query(ring)
        j = int(np.argmin(distance))
        i = int(np.asarray(nearest)[j])
        whole = np.concatenate([whole[: i + 1], ring[j:], ring[: j + 1], whole[i:]])
    return whole


def _straight(ring: Ring) -> Ring:
    """Leave out the points on straight lines."""
    before, after = ring - np.roll(ring, 1, 0), np.roll(ring, -1, 0) - ring
    return ring[np.abs(before[:, 0] * after[:, 1] - before[:, 1] * after[:, 0]) > 1e-9]


def _yolo_line(label: int, record: Entry) -> str:
    height, width = record["segmentation"]["size"]
    outline = joined(parts(record)) / [width, height]  # a line holds one outline
    return " ".join([str(label), *(f"{v:.6f}" for v in outline.ravel())])


def _labelme(image: Entry, masks: Records, classes: Records, path: Path, folder: Path | None) -> Entry:
    names, shapes = {category["id"]: category["name"] for category in classes}, []
    for number, mask in enumerate(masks):
        outlines = parts(mask)
        group = number if len(outlines) > 1 else None  # the parts of one object have one group
        shape = {"label": names[mask["category_id"]], "shape_type": "polygon", "group_id": group, "flags": {}}
        shapes += [{**shape, "points": outline.tolist()} for outline in outlines]
    name = image["file_name"]
    file = name if folder is None else os.path.relpath((folder / name).resolve(), path.parent.resolve())
    sizes = {"imageHeight": image["height"], "imageWidth": image["width"]}
    return {"version": "5.5.0", "flags": {}, "shapes": shapes, "imagePath": file, "imageData": None, **sizes}
