"""Readers of what annotation tools export: labelme, Label Studio, CVAT, VIA and COCO (keypoints, boxes or masks)."""

import base64
import io
import math
import re
from collections.abc import Iterator
from os.path import abspath
from pathlib import Path
from typing import Any
from urllib.parse import unquote
from xml.etree import ElementTree

import numpy as np
import torch
from PIL import Image

from wsis.core.errors import DataError
from wsis.core.files import Entry, read_json
from wsis.core.masks import Part, encode_part, run_length
from wsis.core.report import report
from wsis.data.checks import by_image, file_name, read_coco
from wsis.data.convert.imports import AnnotatedImage, Shape, import_images, left_out
from wsis.data.images import SUFFIXES, list_files

CLASS_ATTRIBUTES = ("class", "label", "name", "category", "type", "object")  # VIA's users name it as they like
UPLOAD = re.compile(r"^[0-9a-f]{8}-")  # what Label Studio writes before the name of an uploaded file


def import_annotations(
    format: str, source: Path, out: Path, images: Path | None = None, split: str = "train", drop_invalid: bool = False
) -> dict[str, int]:
    """Write an export as a split of the folder `out`, and return what it holds; see `imports.import_images`.

    images: the folder of the images, by default that of the export. drop_invalid: leave out wrong shapes.

    Raises DataError if the export is of another kind.
    """
    if not source.exists():
        raise DataError(f"{source} does not exist; check the path")
    content, classes = {}, {}
    if format == "coco":
        content, dropped = read_coco(source, drop_invalid)
        classes = {category["name"]: category["id"] for category in content["categories"]}
        for message in dropped:
            report(f"left out: {message}")
    try:
        annotated = list(coco(source, content) if format == "coco" else READERS[format](source))
    except (KeyError, TypeError, ValueError, AttributeError, IndexError, OSError) as error:
        kind = f"{type(error).__name__}: {error}"
        raise DataError(f"{source} is not as {format} exports it ({kind}); see python -m wsis import -h") from error
    folder = images or (source if source.is_dir() else source.parent)
    return import_images(annotated, folder, out, split, classes, drop_invalid)


def labelme(source: Path) -> Iterator[AnnotatedImage]:
    """One JSON an image; shapes of one group_id are one object, and flags that are set are tags."""
    paths = [source / name for name in list_files(source) if name.endswith(".json")] if source.is_dir() else [source]
    if not paths:
        raise DataError(f"{source} holds no JSON of labelme; give the folder where they are")
    for path in paths:
        content, shapes = read_json(path), []
        if not isinstance(content, dict) or not isinstance(content.get("shapes"), list):
            raise DataError(f"{path} is not labelme's: it has no list `shapes`; give a folder of labelme's JSON alone")
        size = (content["imageWidth"], content["imageHeight"]) if content.get("imageWidth") else None
        for i, entry in enumerate(content["shapes"]):
            where, points, kind = f"{path}: shape {i}", entry["points"], entry.get("shape_type", "polygon")
            if kind in ("point", "points"):
                shape = ("clicks", points)
            elif kind == "rectangle":
                shape = ("box", _box(points))
            elif kind == "circle":
                shape = ("box", _round(*points[0], *[math.dist(*points)] * 2))
            elif kind == "polygon":
                shape = ("polygon", points)
            elif kind == "mask" and size:
                part = np.array(Image.open(io.BytesIO(base64.b64decode(entry["mask"])))) > 0
                left, top = map(round, points[0])
                shape = ("mask", _pasted(part, left, top, size))
            else:
                left_out(where, kind)
                continue
            shapes.append(Shape(where, entry["label"], *shape, group=entry.get("group_id")))
        name = content["imagePath"].replace("\\", "/")
        tags = [flag for flag, is_set in (content.get("flags") or {}).items() if is_set]
        yield AnnotatedImage(str(path), (abspath(path.parent / name), name), size, shapes, tags)


def label_studio(source: Path) -> Iterator[AnnotatedImage]:
    """The export "JSON", with coordinates in percent; choices are tags."""
    tasks = read_json(source)
    if not isinstance(tasks, list) or not all(isinstance(t, dict) and "data" in t for t in tasks):
        raise DataError(f"{source} is not Label Studio's: no list of tasks with `data`; export as JSON, not JSON-MIN")
    for task in tasks:
        where, shapes, tags, size = f"{source}: task {task.get('id')}", [], [], None
        finished = [a for a in task.get("annotations", task.get("completions", [])) if not a.get("was_cancelled")]
        if len(finished) > 1:
            raise DataError(f"{where} has {len(finished)} annotations; keep one of them and export again")
        results = finished[0]["result"] if finished else ()
        # where the interface draws with one tag and names with another, two results share an id
        drawn = {r.get("id") for r in results if r["type"] != "labels"}
        named = {r.get("id"): r["value"]["labels"] for r in results if r["type"] == "labels"}
        for result in (r for r in results if r["type"] != "labels" or r.get("id") not in drawn):
            value, kind = result.get("value", {}), result["type"]
            here = f"{where}: result {result.get('id')}"
            labels = value.get(kind) or value.get("labels") or named.get(result.get("id")) or [""]
            if kind == "choices":
                tags += [] if {"x", "points", "rle"} & value.keys() else value["choices"]  # of a region: no class
                continue
            if "original_width" not in result:
                left_out(here, kind)
                continue
            if result.get("image_rotation"):
                raise DataError(f"{here} was drawn on a rotated image; rotate the file, or draw it unrotated")
            size = (result["original_width"], result["original_height"])
            width, height = (side / 100 for side in size)
            if kind in ("keypointlabels", "keypoint"):
                shape = ("clicks", [[value["x"] * width, value["y"] * height]])
            elif kind in ("rectanglelabels", "rectangle"):
                sides = [value[k] * s for k, s in zip(("x", "y", "width", "height"), (width, height) * 2, strict=True)]
                shape = _turned(sides, value.get("rotation", 0), sides[:2])
            elif kind in ("polygonlabels", "polygon"):
                shape = ("polygon", [[x * width, y * height] for x, y in value["points"]])
            elif kind in ("brushlabels", "brush") and value.get("format") == "rle":
                shape = ("mask", _pasted(_brush(value["rle"]).reshape(size[1], size[0], 4)[..., 3] > 0, 0, 0, size))
            elif kind in ("ellipselabels", "ellipse") and not value.get("rotation"):
                radii = value["radiusX"] * width, value["radiusY"] * height
                shape = ("box", _round(value["x"] * width, value["y"] * height, *radii))
            else:
                left_out(here, kind)
                continue
            shapes.append(Shape(here, labels[0], *shape))
        texts = [v for v in task["data"].values() if isinstance(v, str)]
        pictures = [v for v in texts if Path(unquote(v)).suffix.lower() in SUFFIXES]
        address = task["data"].get("image") or next(iter(pictures + texts), "")
        name = unquote(address).split("?d=")[-1].split("?")[0].rsplit("://", 1)[-1].lstrip("/")
        name = name.replace("\\", "/")
        names = (name, Path(name).name, UPLOAD.sub("", Path(name).name))
        yield AnnotatedImage(where, names, size, shapes, tags)


def cvat(source: Path) -> Iterator[AnnotatedImage]:
    """The export "CVAT for images": points of one or four clicks, boxes, polygons, masks and tags."""
    try:
        root = ElementTree.parse(source).getroot()
    except (OSError, ElementTree.ParseError) as error:
        raise DataError(f"{source} is not XML ({error}); give annotations.xml of CVAT for images 1.1") from error
    if root.tag != "annotations" or root.find("track") is not None:
        raise DataError(f"{source} is not of CVAT for images; export the task as CVAT for images 1.1, not for video")
    for image in root.iter("image"):
        where, shapes, tags = f"{source}: image {image.attrib['name']}", [], []
        size = (int(image.attrib["width"]), int(image.attrib["height"]))
        for i, element in enumerate(image):
            field, here = element.attrib, f"{where}: {element.tag} {i}"
            if element.tag == "tag":
                tags.append(field["label"])
                continue
            points = [[float(v) for v in xy.split(",")] for xy in field.get("points", "").split(";") if xy]
            if element.tag == "points":
                shape = ("clicks", points)
            elif element.tag == "box":
                box = _box([[float(field["xtl"]), float(field["ytl"])], [float(field["xbr"]), float(field["ybr"])]])
                middle = [box[0] + box[2] / 2, box[1] + box[3] / 2]
                shape = _turned(box, float(field.get("rotation", 0)), middle)
            elif element.tag == "polygon":
                shape = ("polygon", points)
            elif element.tag == "mask":
                left, top, width, height = (int(field[k]) for k in ("left", "top", "width", "height"))
                runs = [int(v) for v in field["rle"].split(",")]
                part = np.repeat(np.arange(len(runs)) % 2 == 1, runs).reshape(height, width)
                shape = ("mask", _pasted(part, left, top, size))
            elif element.tag == "ellipse" and not float(field.get("rotation", 0)):
                shape = ("box", _round(*(float(field[k]) for k in ("cx", "cy", "rx", "ry"))))
            else:
                left_out(here, element.tag)
                continue
            shapes.append(Shape(here, field["label"], *shape))
        yield AnnotatedImage(where, (image.attrib["name"],), size, shapes, tags)


def via(source: Path) -> Iterator[AnnotatedImage]:
    """A project or annotations of VIA 2 or 1 as JSON; the class is the attribute of a region, or that named class, label."""
    content = read_json(source)
    content = content.get("_via_img_metadata", content) if isinstance(content, dict) else content
    if not isinstance(content, dict) or not all(isinstance(v, dict) and "filename" in v for v in content.values()):
        raise DataError(f"{source} is not of VIA 2: its entries have no `filename`; save the project or export as JSON")
    for entry in content.values():
        where, shapes, regions = f"{source}: {entry['filename']}", [], entry.get("regions") or []
        for i, region in enumerate(regions.values() if isinstance(regions, dict) else regions):
            field, here = region["shape_attributes"], f"{where}: region {i}"
            kind = field["name"]
            if kind == "point":
                shape = ("clicks", [[field["cx"], field["cy"]]])
            elif kind == "rect":
                shape = ("box", [field[k] for k in ("x", "y", "width", "height")])
            elif kind == "polygon":
                corners = zip(field["all_points_x"], field["all_points_y"], strict=True)
                shape = ("polygon", [list(xy) for xy in corners])
            elif kind in ("circle", "ellipse") and not field.get("theta"):
                radii = field.get("rx", field.get("r")), field.get("ry", field.get("r"))
                shape = ("box", _round(field["cx"], field["cy"], *radii))
            else:
                left_out(here, kind)
                continue
            shapes.append(Shape(here, _via_class(region["region_attributes"], here), *shape))
        yield AnnotatedImage(where, (entry["filename"],), None, shapes, [])


def coco(source: Path, content: Entry) -> Iterator[AnnotatedImage]:
    """The content of a COCO JSON whose clicks are keypoints, see `checks.with_clicks`, or with boxes and masks."""
    names = {category["id"]: category["name"] for category in content["categories"]}
    objects = by_image(content["annotations"])
    for image in content["images"]:
        size, shapes, tags = (image["width"], image["height"]), [], [names[t] for t in image.get("tags", ())]
        for entry in objects[image["id"]]:
            where, kinds = f"{source}: annotation {entry['id']}", []
            kinds += [("clicks", [entry["point"]])] if "point" in entry else []
            kinds += [("clicks", entry["extreme_points"])] if "extreme_points" in entry else []
            if "bbox" in entry:
                kinds.append(("box", entry["bbox"]))
            if isinstance(segmentation := entry.get("segmentation"), dict):
                kinds.append(("mask", run_length(segmentation, size[1], size[0])))
            else:
                kinds += [("polygon", np.reshape(polygon, (-1, 2)).tolist()) for polygon in segmentation or ()]
            if kinds and not entry.get("iscrowd"):
                shapes += [Shape(where, names[entry["category_id"]], *kind, group=entry["id"]) for kind in kinds]
            else:
                left_out(where, "a crowd" if entry.get("iscrowd") else "an object of several keypoints")
        names_of_file = (file_name(image).replace("\\", "/"),)
        yield AnnotatedImage(f"{source}: image {image['id']}", names_of_file, size, shapes, tags, image["id"])


READERS = {"labelme": labelme, "label-studio": label_studio, "cvat": cvat, "via": via}


def _via_class(attributes: Entry, where: str) -> str:
    names = list(attributes) if len(attributes) == 1 else [a for a in CLASS_ATTRIBUTES if a in attributes]
    value = attributes[names[0]] if names else None
    if isinstance(value, dict):  # a group of checkboxes
        value = next((name for name, is_set in value.items() if is_set), None)
    if not isinstance(value, str) or not value.strip():
        raise DataError(f"{where} has no class; give its attribute `class` a value and export again")
    return value.strip()


def _box(corners: list[list[float]]) -> list[float]:
    """The box [x, y, width, height] around some points."""
    (left, top), (right, bottom) = np.min(corners, 0).tolist(), np.max(corners, 0).tolist()
    return [left, top, right - left, bottom - top]


def _round(x: float, y: float, radius_x: float, radius_y: float) -> list[float]:
    """The box [x, y, width, height] of an ellipse."""
    return [x - radius_x, y - radius_y, 2 * radius_x, 2 * radius_y]


def _turned(box: list[float], degrees: float, pivot: list[float]) -> tuple[Any, Any]:
    """A box, or the polygon that it becomes when it turns around `pivot`, clockwise on the screen."""
    if not degrees % 360:
        return ("box", box)
    x, y, width, height = box
    offsets = np.array([[x, y], [x + width, y], [x + width, y + height], [x, y + height]]) - pivot
    cos, sin = math.cos(math.radians(degrees)), math.sin(math.radians(degrees))
    return ("polygon", (offsets @ np.array([[cos, sin], [-sin, cos]]) + pivot).tolist())


def _pasted(part: np.ndarray, left: int, top: int, size: tuple[int, int]) -> Entry:
    """The run length of a mask of `size` (W, H) that holds a smaller one at a place; what reaches beyond is cut off."""
    width, height = size
    part = part[max(-top, 0) : max(height - top, 0), max(-left, 0) : max(width - left, 0)]
    return encode_part(Part(max(top, 0), max(left, 0), torch.from_numpy(part)), (height, width))


def _brush(data: list[int]) -> np.ndarray:
    """Unpack Label Studio's run lengths: a stream of bits with the number of values, the bits of a value less one, four bits of
    lengths less one, then runs: one bit (a repeated value or a list), two bits (which length), the length less one, values.
    """
    bits, place = np.unpackbits(np.array(data, dtype=np.uint8)).tolist(), 0

    def read(count: int) -> int:
        nonlocal place
        place += count
        return int("".join(map(str, bits[place - count : place])), 2)

    total, word = read(32), read(5) + 1
    lengths, values = [read(4) + 1 for _ in range(4)], []
    while len(values) < total:
        repeated, length = read(1), read(lengths[read(2)]) + 1
        values += [read(word)] * length if repeated else [read(word) for _ in range(length)]
    return np.array(values[:total], dtype=np.uint8)
