"""Exports of annotation tools as one split that `CocoFolder` reads; `python -m wsis import` calls it.

A reader of `readers.py` turns an export into images with shapes. Coordinates in annotation tools are continuous, with the
pixel (i, j) between i and i + 1: a click counts for the pixel that it lies in, boxes and polygons are COCO's.
"""

import re
from collections import defaultdict
from collections.abc import Mapping, Sequence
from math import floor
from os.path import abspath
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np

from wsis.core.errors import AnnotationError, DataError
from wsis.core.files import Entry, read_json, write_json
from wsis.core.masks import coco_mask, run_length
from wsis.core.report import report
from wsis.data.checks import read_coco
from wsis.data.images import SUFFIXES, composed, find_files, first_of, map_name, read_image
from wsis.data.write import ImageEntry, categories, instances_json, places, write_split

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


class AnnotatedImage(NamedTuple):
    """An annotated image: its file has one of the `names`; `size` is (width, height) where the export says it.

    id: its number in a COCO JSON, whose annotations then have the numbers of the groups.
    """

    where: str
    names: tuple[str, ...]
    size: tuple[int, int] | None
    shapes: list[Shape]
    tags: list[str]
    id: int | None = None


def import_images(
    annotated: Sequence[AnnotatedImage],
    images: Path,
    out: Path,
    split: str = "train",
    given: Mapping[str, int] | None = None,
    drop_invalid: bool = False,
) -> dict[str, int]:
    """Write images, whose files are below the folder `images`, as a split of the folder `out`; return what it holds.

    Subfolders stay. Where `images` is out/images/<split>, or a folder in it, the JSON alone is written. Images without a shape
    or a tag are left out, since exports list those that nobody has looked at, too. Other splits get the classes that are new.
    given: ids of classes, kept where they are free. drop_invalid: leave out objects with a wrong shape.

    Raises DataError if a file is missing, two have one name or another size, or the split exists; AnnotationError for a shape
    without a class, or outside its image.
    """
    folder, maps, path = places(out, split)
    in_place = folder.exists() and images.resolve().is_relative_to(folder.resolve())
    if taken := [p for p in (path, maps, *(() if in_place else (folder,))) if p.exists()]:
        raise DataError(f"{taken[0]} exists already; choose another --out, or move it elsewhere")
    for shape in (s for a in annotated for s in a.shapes):
        if not isinstance(shape.label, str) or not shape.label:
            raise AnnotationError(f"{shape.where} has no class; choose one in the tool and export again")
        if shape.kind != "mask" and not _are_places(shape.value, 4 if shape.kind == "box" else 2):
            raise AnnotationError(f"{shape.where}: {str(shape.value)[:60]} is no {shape.kind}; draw it again")
    if bare := [a.names[-1] for a in annotated if not (a.shapes or a.tags)]:
        report(f"left out: {first_of(bare)}, without a shape or a tag")
    annotated = [a for a in annotated if a.shapes or a.tags]
    if not annotated:
        raise DataError(f"the export for {out} has no annotated images; annotate some and export again")
    files = _files(annotated, images, in_place)
    inner = images.resolve().relative_to(folder.resolve()) if in_place else Path()
    labels = {s.label for a in annotated for s in a.shapes} | {tag for a in annotated for tag in a.tags}
    others = {other: read_coco(other, drop_invalid=True)[0] for other in sorted(path.parent.glob("instances_*.json"))}
    ids = _class_ids({c["name"]: c["id"] for coco in others.values() for c in coco["categories"]}, labels, given or {})
    classes = categories(list(ids), list(ids.values()))
    tagged, entries = any(a.tags for a in annotated), []
    for count, (image, file) in enumerate(zip(annotated, files, strict=True), 1):
        number = count if image.id is None else image.id
        width, height = _size(image, file)
        name = (inner / _name(file, images)).as_posix()
        record: Entry = {"id": number, "file_name": name, "width": width, "height": height}
        if tagged:  # then every image needs them
            record["tags"] = sorted({ids[name] for name in (*image.tags, *(s.label for s in image.shapes))})
        annotations, of_object = [], defaultdict(list)
        for i, shape in enumerate(image.shapes):
            of_object[i if shape.group is None else (shape.label, shape.group)].append(shape)
        for shapes in of_object.values():
            references = {"image_id": number, "category_id": ids[shapes[0].label], "iscrowd": 0}
            references |= {} if image.id is None else {"id": shapes[0].group}
            try:
                annotations.append(references | _annotation(shapes, width, height))
            except AnnotationError as error:
                if not drop_invalid:
                    raise
                report(f"left out: {error}")
        entries.append(ImageEntry(name, file, None, record, annotations))
    objects = [a for entry in entries for a in entry.annotations]
    if in_place:
        write_json(path, instances_json([entry.record for entry in entries], objects, classes))
    else:
        write_split(out, split, entries, classes, len(entries))
    for other, coco in others.items():
        if lacking := ids.keys() - {c["name"] for c in coco["categories"]}:
            write_json(other, read_json(other) | {"categories": classes})
            report(f"{other}: it has the classes {', '.join(sorted(lacking))}, too, now")
    counts = {"images": len(entries), "objects": len(objects)}
    counts |= {name: sum(key in a for a in objects) for name, key in SHAPES.items()}
    return counts | {"tags": sum(len(entry.record.get("tags", ())) for entry in entries)}


def _class_ids(known: dict[str, int], labels: set[str], given: Mapping[str, int]) -> dict[str, int]:
    """The ids of the known classes, which splits share, and of `labels`: those given from 1 on where they are free, else the
    next ones, which is reported.
    """
    ids = known | {n: i for n, i in given.items() if n in labels - known.keys() and i not in {0, *known.values()}}
    new = enumerate(sorted(labels - ids.keys()), max(ids.values(), default=0) + 1)
    ids |= {name: i for i, name in new}
    if changed := [f"{name}: {i}, now {ids[name]}" for name, i in given.items() if ids.get(name, i) != i]:
        report(f"category ids change for {', '.join(changed)}")
    return ids


def _are_places(value: object, numbers: int) -> bool:
    """Whether these are finite numbers, in rows of so many."""
    try:
        array = np.array(value, dtype=float)
    except (TypeError, ValueError):
        return False
    return array.size > 0 and array.shape[-1] == numbers and bool(np.isfinite(array).all())


def _files(annotated: Sequence[AnnotatedImage], images: Path, in_place: bool) -> list[Path]:
    if not images.is_dir():
        raise DataError(f"{images} is not a folder; name the folder of the images with --images")
    by_name, by_upload, files, owners = defaultdict(list), defaultdict(list), [], {}
    for path in sorted(images.rglob("*")):
        if path.suffix.lower() in SUFFIXES and path.is_file():
            by_name[composed(path.name)].append(path)
            by_upload[re.sub(r"[^-\w.]", "", composed(path.name).replace(" ", "_"))].append(path)  # Label Studio's name
    there = find_files((name for image in annotated for name in image.names), images)
    for image in annotated:
        listed = [images / there[name] for name in image.names if name in there]
        direct = [path for path in listed if not in_place or _is_below(path, images)]
        ends = dict.fromkeys(composed(Path(name).name) for name in image.names)
        found = direct[:1] or [path for end in ends for path in by_name[end]]
        found = found or [path for end in ends for path in by_upload[end]]
        if not found:
            remedy = "name the folder of the images with --images"
            raise DataError(f"{image.where}: no image {image.names[0]} in {images}; {remedy}")
        if len(found) > 1:
            raise DataError(f"{image.where}: it may be {found[0]} or {found[1]}; rename one, or narrow --images")
        key = map_name(_name(found[0], images))  # `CocoFolder` wants names to differ in more than the suffix
        if key in owners:
            path, other = owners[key]
            remedy = "keep one of the two" if path == found[0] else f"rename {path} or {found[0]}"
            raise DataError(f"{other} and {image.where} are both of an image named {Path(key).stem}; {remedy}")
        owners[key] = found[0], image.where
        files += found
    return files


def _is_below(path: Path, folder: Path) -> bool:
    return Path(abspath(path)).is_relative_to(abspath(folder))


def _name(path: Path, folder: Path) -> str:
    """The path of a file within a folder, or its name if it lies elsewhere."""
    return Path(abspath(path)).relative_to(abspath(folder)).as_posix() if _is_below(path, folder) else path.name


def _size(image: AnnotatedImage, path: Path) -> tuple[int, int]:
    height, width = read_image(path, image.size and (image.size[1], image.size[0])).shape[1:]
    size = (width, height)
    if image.size and image.size != size:
        sizes = "{} x {}, but {} is {} x {}".format(*image.size, path, *size)
        remedy = "turn it as it was when it was drawn on" if image.size == size[::-1] else "is it another image?"
        raise DataError(f"{image.where} was drawn on {sizes}; {remedy}")
    return size


def _annotation(shapes: list[Shape], width: int, height: int) -> Entry:
    """The `point` or `extreme_points`, `bbox`, `segmentation` and `area` of one object."""
    where, size, annotation = shapes[0].where, f"its image of {width} x {height}", {}
    drawn = {kind: [s.value for s in shapes if s.kind == kind] for kind in ("clicks", "box", "polygon", "mask")}
    clicked = sorted(drawn["clicks"], key=len)
    clicks = [click for value in clicked for click in value]  # four may have been clicked one by one
    if outside := [c for c in clicks if not (-1 < c[0] < width + 1 and -1 < c[1] < height + 1)]:
        raise AnnotationError(f"{where}: click {outside[0]} is outside {size}; is it of another image?")
    clicks = [[min(max(floor(x), 0), width - 1), min(max(floor(y), 0), height - 1)] for x, y in clicks]
    if [*map(len, clicked)] == [1, 4]:
        annotation["point"] = clicks.pop(0)
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
        run = run_length(segmentation, height, width)
        if not coco_mask.area(run):
            raise AnnotationError(f"{where}: its mask has no pixel in {size}; is it of another image?")
        annotation |= {"segmentation": segmentation, "area": float(coco_mask.area(run))}
        annotation = {"bbox": coco_mask.toBbox(run).tolist()} | annotation
    return annotation


def left_out(where: str, kind: object) -> None:
    """Say that a shape is not read."""
    report(f"left out: {where}: {kind} is no click, box or mask")
