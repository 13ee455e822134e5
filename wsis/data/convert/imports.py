"""Exports of annotation tools as one split that `CocoFolder` reads; `python -m wsis import` calls it.

A reader of `readers.py` turns an export into pictures with shapes. Coordinates in annotation tools are continuous, with the
pixel (i, j) between i and i + 1: a click counts for the pixel that it lies in, boxes and polygons are COCO's.
"""

from collections import defaultdict
from collections.abc import Iterator, Sequence
from math import floor
from pathlib import Path
from typing import Any, Literal, NamedTuple

from wsis.core.errors import AnnotationError, DataError
from wsis.core.files import Entry
from wsis.core.masks import coco_mask, compressed
from wsis.core.report import report
from wsis.data.coco_json import categories
from wsis.data.images import SUFFIXES, read_image
from wsis.data.write import ImageEntry, places, write_split

SHAPES = {"point": "point", "extreme_points": "extreme_points", "boxes": "bbox", "masks": "segmentation"}


class Shape(NamedTuple):
    """What was drawn at once: clicks [[x, y], ...], a box [x, y, width, height], a polygon [[x, y], ...] or a mask as
    a run length. Shapes of one class and one `group` describe one object.
    """

    where: str  # for messages
    label: str
    kind: Literal["clicks", "box", "polygon", "mask"]
    value: Any
    group: object = None


class Picture(NamedTuple):
    """An annotated picture: its file has one of the `names`; `size` is (width, height) where the export says it."""

    where: str
    names: tuple[str, ...]
    size: tuple[int, int] | None
    shapes: list[Shape]
    tags: list[str]


def import_pictures(pictures: Sequence[Picture], images: Path, out: Path, split: str = "train") -> dict[str, int]:
    """Write pictures, whose files are below the folder `images`, as a split of the folder `out`; return what it holds.

    Raises DataError if a file is missing, two have one name or another size, or the split exists; AnnotationError for a shape
    without a class, or outside its picture.
    """
    if taken := [p for p in places(out, split)[::-1] if p.exists()]:
        raise DataError(f"{taken[0]} exists already; choose another folder, or delete it")
    if not pictures:
        raise DataError(f"the export for {out} has no pictures; annotate some and export again")
    for shape in (s for p in pictures for s in p.shapes):
        if not isinstance(shape.label, str) or not shape.label:
            raise AnnotationError(f"{shape.where} has no class; choose one in the tool and export again")
    files = _files(pictures, images)
    names = sorted({s.label for p in pictures for s in p.shapes} | {tag for p in pictures for tag in p.tags})
    ids = {name: i for i, name in enumerate(names, 1)}
    tagged, entries, count = any(p.tags for p in pictures), [], 0
    for number, (picture, path) in enumerate(zip(pictures, files, strict=True), 1):
        width, height = _size(picture, path)
        record: Entry = {"id": number, "file_name": path.name, "width": width, "height": height}
        if tagged:  # then every image needs them
            record["tags"] = sorted({ids[name] for name in (*picture.tags, *(s.label for s in picture.shapes))})
        annotations = []
        for shapes in _objects(picture):
            count += 1
            references = {"id": count, "image_id": number, "category_id": ids[shapes[0].label], "iscrowd": 0}
            annotations.append(references | _annotation(shapes, width, height))
        entries.append(ImageEntry(path.name, path, None, record, annotations))
    write_split(out, split, entries, categories(names), len(entries))
    objects = [a for entry in entries for a in entry.annotations]
    counts = {"images": len(entries), "objects": len(objects)}
    counts |= {name: sum(key in a for a in objects) for name, key in SHAPES.items()}
    return counts | {"tags": sum(len(entry.record.get("tags", ())) for entry in entries)}


def _files(pictures: Sequence[Picture], images: Path) -> list[Path]:
    if not images.is_dir():
        raise DataError(f"{images} is not a folder; name the folder of the pictures with --images")
    by_name, files, owners = defaultdict(list), [], {}
    for path in sorted(images.rglob("*")):
        if path.suffix.lower() in SUFFIXES and path.is_file():
            by_name[path.name].append(path)
    for picture in pictures:
        direct = [images / name for name in picture.names if (images / name).is_file()]
        found = direct[:1] or [p for name in picture.names for p in by_name[Path(name).name]]
        if not found:
            remedy = "name the folder of the pictures with --images"
            raise DataError(f"{picture.where}: no picture {picture.names[0]} in {images}; {remedy}")
        if len(found) > 1:
            raise DataError(f"{picture.where}: it may be {found[0]} or {found[1]}; rename one, or narrow --images")
        if found[0].name in owners:
            others = f"{owners[found[0].name]} and {picture.where}"
            raise DataError(f"{others} are both of a picture named {found[0].name}; rename one of the two pictures")
        owners[found[0].name] = picture.where
        files += found
    return files


def _size(picture: Picture, path: Path) -> tuple[int, int]:
    height, width = read_image(path, picture.size and (picture.size[1], picture.size[0])).shape[1:]
    size = (width, height)
    if picture.size and picture.size != size:
        sizes = "{} x {}, but {} is {} x {}".format(*picture.size, path, *size)
        remedy = "turn the pixels by the EXIF orientation" if picture.size == size[::-1] else "is it another picture?"
        raise DataError(f"{picture.where} was drawn on {sizes}; {remedy}")
    return size


def _objects(picture: Picture) -> Iterator[list[Shape]]:
    objects = defaultdict(list)
    for i, shape in enumerate(picture.shapes):
        objects[i if shape.group is None else (shape.label, shape.group)].append(shape)
    return iter(objects.values())


def _annotation(shapes: list[Shape], width: int, height: int) -> Entry:
    """The `point` or `extreme_points`, `bbox`, `segmentation` and `area` of one object."""
    where, size, annotation = shapes[0].where, f"its picture of {width} x {height}", {}
    drawn = {kind: [s.value for s in shapes if s.kind == kind] for kind in ("clicks", "box", "polygon", "mask")}
    clicks = [click for value in drawn["clicks"] for click in value]
    if outside := [c for c in clicks if not (-1 < c[0] < width + 1 and -1 < c[1] < height + 1)]:
        raise AnnotationError(f"{where}: click {outside[0]} is outside {size}; is it of another picture?")
    clicks = [[min(max(floor(x), 0), width - 1), min(max(floor(y), 0), height - 1)] for x, y in clicks]
    if len(clicks) == 1:
        annotation["point"] = clicks[0]
    elif len(clicks) == 4:
        x, y = [c[0] for c in clicks], [c[1] for c in clicks]
        if min(x) == max(x) or min(y) == max(y):
            raise AnnotationError(f"{where}: the four clicks {clicks} span no box; click four sides of the object")
        annotation["extreme_points"] = [clicks[v.index(f(v))] for v, f in ((y, min), (x, min), (y, max), (x, max))]
    elif clicks:
        raise AnnotationError(f"{where}: {len(clicks)} clicks on one object; click once, or on its four sides")
    if len(drawn["box"]) > 1:
        raise AnnotationError(f"{where}: {len(drawn['box'])} boxes of one object; group only what belongs to one")
    for x, y, w, h in drawn["box"]:
        left, top, right, bottom = max(x, 0), max(y, 0), min(x + w, width), min(y + h, height)
        if right <= left or bottom <= top:
            box = [round(v, 2) for v in (x, y, w, h)]
            raise AnnotationError(f"{where}: box {box} (x, y, width, height) has no area in {size}; draw it again")
        annotation |= {"bbox": [left, top, right - left, bottom - top], "area": (right - left) * (bottom - top)}
    if short := [p for p in drawn["polygon"] if len(p) < 3]:
        raise AnnotationError(f"{where}: a polygon of {len(short[0])} points; it needs three")
    polygons: Any = [[v for xy in polygon for v in xy] for polygon in drawn["polygon"]]
    runs: list[Entry] = drawn["mask"]
    if len(runs) + bool(polygons) > 1:
        raise AnnotationError(f"{where}: several masks of one object; draw it once")
    if polygons or runs:
        segmentation = polygons or runs[0]
        run = compressed(segmentation, height, width)
        if not coco_mask.area(run):
            raise AnnotationError(f"{where}: its mask has no pixel in {size}; is it of another picture?")
        annotation |= {"segmentation": segmentation, "area": float(coco_mask.area(run))}
        annotation = {"bbox": coco_mask.toBbox(run).tolist()} | annotation
    return annotation


def left_out(where: str, kind: object) -> None:
    """Say that a shape is not read."""
    report(f"left out: {where}: {kind} is no click, box or mask")
