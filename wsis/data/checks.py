"""What is checked at the door when a COCO JSON is opened; each message names file, id, value and remedy."""

import math
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from wsis.core.errors import AnnotationError, DataError
from wsis.core.files import read_json
from wsis.data.masks import run_total

WEAK_KEYS = ("point", "extreme_points")
SECTIONS = ("images", "annotations", "categories")
SIDES = ("top", "left", "bottom", "right")


def read_coco(path: Path | str, drop_invalid: bool = False) -> tuple[dict[str, Any], list[str]]:
    """A COCO JSON whose structure, ids, shapes and weak labels are sound, and the messages of what was
    dropped.

    Args:
        drop_invalid: leave out annotations with an unusable shape (COCO and LVIS hold a few) instead of
            raising.

    Raises:
        DataError: not COCO, duplicate or dangling ids, unusable shapes.
        AnnotationError: a weak label outside its image, in the wrong order, or of a class that is not there.
    """
    coco = read_json(path)
    _check_sections(coco, path)
    images = _by_id(coco["images"], "image", path)
    categories = _by_id(coco["categories"], "category", path)
    _by_id(coco["annotations"], "annotation", path)
    _check_categories(coco["categories"], path)
    for image in coco["images"]:
        _check_image(image, categories, path)
    kept, dropped = [], []
    for annotation in coco["annotations"]:
        _check_references(annotation, images, categories, path)
        image = images[annotation["image_id"]]
        problem = shape_problem(annotation, image["height"], image["width"])
        if problem and not drop_invalid:
            raise DataError(f"{_where(path, annotation)}: {problem}")
        if problem:
            dropped.append(f"{_where(path, annotation)}: {problem}")
            continue
        problem = click_problem(annotation, image["height"], image["width"])
        if problem:
            raise AnnotationError(f"{_where(path, annotation)}: {problem}")
        kept.append(annotation)
    return {**coco, "annotations": kept}, dropped


def file_name(image: dict[str, Any]) -> str:
    """The name of an image's file; LVIS gives only its address."""
    return image.get("file_name") or image.get("coco_url", "").rsplit("/", 1)[-1]


def shape_problem(annotation: dict[str, Any], height: int, width: int) -> str | None:
    """What is wrong with an annotation's box or mask, with the remedy; None if they are sound or missing."""
    box = annotation.get("bbox")
    if box is not None:
        if not _numbers(box, 4):
            return f"bbox {box} is not [x, y, width, height]; give four numbers or leave it out"
        if box[2] <= 0 or box[3] <= 0:
            return f"bbox {box} has no area; remove the annotation, or open the set with drop_invalid=True"
    if "segmentation" not in annotation:
        return None
    shape = annotation["segmentation"]
    if isinstance(shape, dict):
        return _run_length_problem(shape, height, width)
    if not isinstance(shape, list) or not shape:
        return f"segmentation {str(shape)[:40]} is neither polygons nor a run length; draw it or drop the key"
    for polygon in shape:
        if not isinstance(polygon, list) or not _numbers(polygon, len(polygon)):
            return f"polygon {str(polygon)[:40]} is not a list of numbers; write [x1, y1, x2, y2, x3, y3, ...]"
        if len(polygon) % 2:
            return f"polygon with {len(polygon)} numbers: x and y come in pairs; add or remove one"
        if len(polygon) < 6:
            return f"polygon with {len(polygon) // 2} points; it needs 3, or open the set with drop_invalid=True"
    return None


def _run_length_problem(shape: dict[str, Any], height: int, width: int) -> str | None:
    size, counts = shape.get("size"), shape.get("counts")
    if size != [height, width]:
        return f"run length of size {size}, its image is [{height}, {width}] (height, width); encode it again"
    if not isinstance(counts, (str, list)) or any(type(c) is not int for c in counts if type(counts) is list):
        return f"run length with counts {str(counts)[:40]}; they are a list of integers or COCO's text"
    total = run_total(counts)
    if total != height * width:
        found = "is damaged" if total is None else f"covers {total} pixels"
        return f"run length {found}, but its image has {height * width}; encode it again"
    return None


def click_problem(annotation: dict[str, Any], height: int, width: int) -> str | None:
    """What is wrong with an annotation's `point` or `extreme_points`, with the remedy; None if nothing is."""
    point, extreme = annotation.get("point"), annotation.get("extreme_points")
    if point is not None:
        if not _numbers(point, 2):
            return f"point {point} is not [x, y]; give two numbers"
        if not _inside(point, height, width):
            return f"point {point} is outside its image of {width} x {height}; click again, x first"
    return None if extreme is None else _extreme_problem(extreme, height, width)


def _extreme_problem(extreme: Any, height: int, width: int) -> str | None:
    pairs = isinstance(extreme, list) and all(isinstance(p, list) and len(p) == 2 for p in extreme)
    if not pairs or len(extreme) != 4:
        found = str(extreme)[:80]
        return f"extreme_points {found} are not four [x, y]: top, left, bottom, right; a corner may occur twice"
    for side, click in zip(SIDES, extreme, strict=True):
        if not _numbers(click, 2):
            return f"{side} extreme point {click} is not [x, y]; give two finite numbers"
        if not _inside(click, height, width):
            return f"{side} extreme point {click} is outside its image of {width} x {height}; click again, x first"
    xs, ys = zip(*extreme, strict=True)
    if max(xs) == min(xs) or max(ys) == min(ys):
        return (
            f"extreme_points {extreme} do not span a box; click four sides of the object, or leave the key out "
            "if it is one pixel or a line"
        )
    for side, click, axis, sign in zip(SIDES, extreme, (1, 0, 1, 0), (1, 1, -1, -1), strict=True):
        farthest = min(extreme, key=lambda p: sign * p[axis])
        # where the outline is flat a hand may be off by a pixel
        if sign * (click[axis] - farthest[axis]) > 1:
            return (
                f"extreme_points {extreme} are not in the order top, left, bottom, right: {click} is given as "
                f"{side}, but {farthest} is farther that way; sort them"
            )
    return None


def near_object(masks: Tensor, points: Tensor, tolerance: int = 1) -> Tensor:
    """Whether points lie on their object or at most `tolerance` pixels (in x and in y) beside it: bool [K,
    P].

    masks: bool [K, H, W]. points: float [K, P, 2], (x, y) pixels with pixel centres at integers.
    """
    height, width = masks.shape[-2:]
    reach = torch.arange(-tolerance, tolerance + 1, device=masks.device)
    x, y = (points.round().long()[..., None, None, :]).unbind(-1)  # [K, P, 1, 1]
    x = (x + reach[None, :]).clamp(0, width - 1)  # [K, P, 1, T]
    y = (y + reach[:, None]).clamp(0, height - 1)  # [K, P, T, 1]
    row = torch.arange(len(masks), device=masks.device)[:, None, None, None]
    return masks[row, y, x].flatten(2).any(-1)


def replace_weak_labels(coco: dict[str, Any], path: Path | str, weak_path: Path | str) -> dict[str, Any]:
    """`coco` with the weak labels of another COCO JSON in place of its own.

    Raises:
        AnnotationError: images, categories or annotations that are not those of `coco`.
    """
    weak, _ = read_coco(weak_path, drop_invalid=True)
    names = {c["id"]: c["name"] for c in coco["categories"]}
    for category in weak["categories"]:
        if names.get(category["id"]) != category["name"]:
            what = f"category {category['id']} {category['name']!r}"
            raise AnnotationError(f"{weak_path}: {what} is {names.get(category['id'])!r} in {path}; use its categories")
    sizes = {i["id"]: (i["width"], i["height"]) for i in coco["images"]}
    for image in weak["images"]:
        if sizes.get(image["id"]) != (image["width"], image["height"]):
            found = f"{sizes.get(image['id'], 'missing')} in {path}"
            what = f"image {image['id']} ({image['width']}, {image['height']}) is {found}"
            raise AnnotationError(f"{weak_path}: {what}; use the images of that file")
    tags = {i["id"]: i["tags"] for i in weak["images"] if "tags" in i}
    images = [{k: v for k, v in i.items() if k != "tags"} for i in coco["images"]]
    images = [{**i, "tags": tags[i["id"]]} if i["id"] in tags else i for i in images]
    merged = {a["id"]: {k: v for k, v in a.items() if k not in WEAK_KEYS} for a in coco["annotations"]}
    for annotation in weak["annotations"]:
        own = merged.get(annotation["id"], {k: annotation[k] for k in ("id", "image_id", "category_id")})
        for key in ("image_id", "category_id"):
            if own[key] != annotation[key]:
                where = f"{weak_path}: annotation {annotation['id']}"
                raise AnnotationError(
                    f"{where}: {key} {annotation[key]} is {own[key]} in {path}; use the ids of that file"
                )
        merged[own["id"]] = {**own, **{k: annotation[k] for k in WEAK_KEYS if k in annotation}}
    return {**coco, "images": images, "annotations": list(merged.values())}


def _numbers(values: Any, length: int) -> bool:
    return (
        isinstance(values, list)
        and len(values) == length
        and all(isinstance(v, (int, float)) and math.isfinite(v) for v in values)
    )


def _inside(point: list[float], height: int, width: int) -> bool:
    return 0 <= point[0] < width and 0 <= point[1] < height


def _where(path: Path | str, annotation: dict[str, Any]) -> str:
    return f"{path}: annotation {annotation['id']}"


def _check_sections(coco: Any, path: Path | str) -> None:
    if isinstance(coco, list):
        raise DataError(f"{path} is a list (COCO results?), not a COCO data set; it needs {', '.join(SECTIONS)}")
    missing = [s for s in SECTIONS if not isinstance(coco, dict) or not isinstance(coco.get(s), list)]
    if missing:
        raise DataError(f"{path} is not a COCO JSON: no list named {', '.join(missing)}; export it as instances")
    for section in SECTIONS:
        for i, entry in enumerate(coco[section]):
            if not isinstance(entry, dict) or type(entry.get("id")) is not int:
                raise DataError(f"{path}: {section}[{i}] has no integer id ({str(entry)[:60]}); number the entries")


def _by_id(entries: list[dict[str, Any]], kind: str, path: Path | str) -> dict[int, dict[str, Any]]:
    found: dict[int, dict[str, Any]] = {}
    for entry in entries:
        if entry["id"] in found:
            raise DataError(f"{path}: {kind} id {entry['id']} occurs twice; give each {kind} its own id")
        found[entry["id"]] = entry
    return found


def _check_categories(categories: list[dict[str, Any]], path: Path | str) -> None:
    names: set[str] = set()
    for category in categories:
        name = category.get("name")
        if not isinstance(name, str) or not name or name in names:
            raise DataError(f"{path}: category {category['id']} is named {name!r}; give each its own name")
        names.add(name)


def _check_image(image: dict[str, Any], categories: Iterable[int], path: Path | str) -> None:
    where = f"{path}: image {image['id']}"
    for side in ("width", "height"):
        if type(image.get(side)) is not int or image[side] < 1:
            raise DataError(f"{where}: {side} is {image.get(side)!r}; give the size of its file in pixels")
    if not isinstance(file_name(image), str) or not file_name(image):
        raise DataError(f"{where} has no file_name; name its file in the images folder")
    tags = image.get("tags", [])
    if not isinstance(tags, list):
        raise AnnotationError(f"{where}: tags {tags!r} are not a list of category ids; write [1, 3]")
    unknown = [t for t in tags if type(t) is not int or t not in categories]
    if unknown:
        raise AnnotationError(f"{where}: tag {unknown[0]!r} is no category id; add the category or remove the tag")


def _check_references(annotation: dict[str, Any], images: Any, categories: Any, path: Path | str) -> None:
    for key, known, remedy in (("image_id", images, "image"), ("category_id", categories, "category")):
        if type(annotation.get(key)) is not int or annotation[key] not in known:
            value = annotation.get(key)
            raise DataError(f"{_where(path, annotation)}: {key} {value!r} does not exist; add the {remedy} or mend it")
