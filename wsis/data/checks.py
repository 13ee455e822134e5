"""What is checked when a COCO JSON is opened; each message names the file, the id, the value and a remedy."""

from collections import defaultdict
from collections.abc import Iterable
from itertools import chain, cycle
from pathlib import Path

import torch
from torch import Tensor

from wsis.core.errors import AnnotationError, DataError
from wsis.core.files import Entry, read_json
from wsis.core.masks import RunLengths, run_total
from wsis.core.report import report_once

WEAK_KEYS, SHAPE_KEYS = ("point", "extreme_points"), ("bbox", "segmentation")
SECTIONS = {"images": "image", "annotations": "annotation", "categories": "category"}
REFERENCES = {"categories": ("name",), "images": ("width", "height"), "annotations": ("image_id", "category_id")}
INTEGERS = ("id", "image_id", "category_id", "width", "height")
LEAVE_OUT = "leave it out with --drop-invalid (drop_invalid=True)"
OTHER_UNITS = f"give pixels of that image, see whether it belongs to another one, or {LEAVE_OUT}"
SIDES = (("top", 1, 1), ("left", 0, 1), ("bottom", 1, -1), ("right", 0, -1))  # with their axis and sign


def read_coco(path: Path | str, drop_invalid: bool = False, shapes: bool = True) -> tuple[Entry, list[str]]:
    """Read a COCO JSON whose structure, ids, shapes and weak labels are sound; also return messages of what was dropped.

    drop_invalid: leave out unusable shapes (COCO and LVIS hold a few) and clicks instead of raising, and annotations of which
    nothing is left. shapes: otherwise boxes and masks are neither looked at nor returned. Raises DataError if the file is not
    COCO, has no image, duplicate or dangling ids, or unusable shapes; AnnotationError if a weak label is outside its image, in
    the wrong order, or of a class that is not there.
    """
    coco, usable, dropped = read_json(path), [], []
    images, categories = _check_structure(coco, path, dropped)
    for annotation in coco["annotations"]:
        where = f"{path}: annotation {annotation['id']}"
        for key, known in (("image_id", images), ("category_id", categories)):
            value = annotation.get(key)
            if type(value) is not int or value not in known:
                raise DataError(f"{where}: {key} {value!r} does not exist; add the {key[:-3]} or fix the id")
        size = images[annotation["image_id"]]["height"], images[annotation["image_id"]]["width"]
        annotation = with_clicks(annotation, categories[annotation["category_id"]])
        if not shapes:
            annotation = {k: v for k, v in annotation.items() if k not in SHAPE_KEYS}
        for problem_of, key, error in RULES:
            if problem := problem_of({key: annotation[key]} if key in annotation else {}, *size):
                if not drop_invalid:
                    raise error(f"{where}: {problem}")
                dropped.append(f"{where}: {problem}")
                annotation = {k: v for k, v in annotation.items() if k != key}
                if not any(annotation.get(k) is not None for k in (*SHAPE_KEYS, *WEAK_KEYS)):
                    break
        else:
            usable.append(annotation)
    _check_units(usable, images, path)
    return {**coco, "categories": list(categories.values()), "annotations": usable}, dropped


def _check_units(annotations: list[Entry], images: dict[int, Entry], path: Path | str) -> None:
    """Raise DataError for coordinates that are fractions of the image; report boxes that seem to be two corners."""
    shapes = ([a.get("bbox", []), a.get("point", []), *a.get("extreme_points", [])] for a in annotations)
    outlines = (a["segmentation"] for a in annotations if isinstance(a.get("segmentation"), list))
    numbers = chain.from_iterable(chain(chain.from_iterable(shapes), chain.from_iterable(outlines)))
    broken = False
    for value in numbers:  # the first one ends it, as a rule
        if not 0 <= value <= 1:
            break
        broken |= value % 1 > 0
    else:
        if broken:
            raise DataError(f"{path}: all coordinates lie between 0 and 1; multiply them by the width and the height")
    boxes = [(a["bbox"], images[a["image_id"]]) for a in annotations if "bbox" in a]
    beyond = [b for b, i in boxes if b[0] + b[2] > 1.01 * i["width"] + 1 or b[1] + b[3] > 1.01 * i["height"] + 1]
    if 4 * len(beyond) > len(boxes):
        words = f"{len(beyond)} of {len(boxes)} boxes reach beyond their image, such as {beyond[0]}"
        report_once(f"{path}: {words}; if these are two corners, write [x, y, width, height]")


def by_image(rows: Iterable[Entry]) -> defaultdict[int, list[Entry]]:
    """Group annotations or results by their image; others have none."""
    groups = defaultdict(list)
    for row in rows:
        groups[row["image_id"]].append(row)
    return groups


def plain_entry(entry: Entry) -> Entry:
    """Return an entry of a JSON without its nulls, which mean the same as no key, with ids and sizes such as 3.0 as 3, and the
    text "0" of a crowd as its number.
    """
    whole = {k: int(v) for k in INTEGERS if isinstance(v := entry.get(k), float) and v.is_integer()}
    whole |= {"iscrowd": int(v)} if (v := entry.get("iscrowd")) in ("0", "1") else {}
    return {k: v for k, v in entry.items() if v is not None} | whole


def file_name(image: Entry) -> str:
    """Return the name of an image's file; LVIS gives only its address."""
    return image.get("file_name") or image.get("coco_url", "").rsplit("/", 1)[-1]


def _check_structure(coco: object, path: Path | str, dropped: list[str]) -> tuple[dict[int, Entry], dict[int, Entry]]:
    """Return the images and the categories by their ids; the annotations of `coco` become plain entries."""
    if isinstance(coco, list):
        raise DataError(f"{path} is a list (COCO results?), not a COCO data set; it needs {', '.join(SECTIONS)}")
    sections: Entry = coco if isinstance(coco, dict) else {}
    if missing := [s for s in SECTIONS if not isinstance(sections.get(s), list)]:
        raise DataError(f"{path} is not a COCO JSON: no list named {', '.join(missing)}; export it as instances")
    by_id: dict[str, dict[int, Entry]] = {section: {} for section in SECTIONS}
    for section, kind in SECTIONS.items():
        sections[section] = [plain_entry(e) if isinstance(e, dict) else e for e in sections[section]]
        for i, entry in enumerate(sections[section]):
            if not isinstance(entry, dict) or type(entry.get("id")) is not int:
                raise DataError(f"{path}: {section}[{i}] has no integer id ({str(entry)[:60]}); number the entries")
            if abs(entry["id"]) >= 2**63:
                raise DataError(f"{path}: {kind} id {entry['id']} has more than 64 bits; number the entries")
            if entry["id"] in by_id[section]:
                raise DataError(f"{path}: {kind} id {entry['id']} occurs twice; give each {kind} its own id")
            by_id[section][entry["id"]] = entry
    if not by_id["images"]:
        raise DataError(f"{path} lists no images; add some, or export it again")
    for image in sections["images"]:
        where, tags = f"{path}: image {image['id']}", image.get("tags", [])
        for side in ("width", "height"):
            if type(image.get(side)) is not int or image[side] < 1:
                raise DataError(f"{where}: {side} is {image.get(side)!r}; give the size of its file in pixels")
        if not isinstance(file_name(image), str) or not file_name(image):
            raise DataError(f"{where} has no file_name; name its file in the images folder")
        if not isinstance(tags, list):
            raise AnnotationError(f"{where}: tags {tags!r} are not a list of category ids; write [1, 3]")
        if unknown := [t for t in tags if type(t) is not int or t not in by_id["categories"]]:
            raise AnnotationError(f"{where}: tag {unknown[0]!r} is no category id; add the category or remove the tag")
    dropped += [f"{path}: {message}" for message in _drop_groups(by_id["categories"], sections)]
    names: set[object] = {""}
    for category in by_id["categories"].values():
        name = category.get("name")
        if not isinstance(name, str) or name in names:
            raise DataError(f"{path}: category {category['id']} is named {name!r}; give each its own name")
        names.add(name)
    return by_id["images"], by_id["categories"]


def _drop_groups(categories: dict[int, Entry], sections: Entry) -> list[str]:
    """Remove categories that have no annotation and the name of another, as Roboflow exports groups; say which."""
    used = {str(a.get("category_id")) for a in sections["annotations"]}
    used |= {str(tag) for image in sections["images"] for tag in image.get("tags", [])}

    def rank(category: Entry) -> tuple[bool, bool, bool]:
        group = category.get("supercategory")
        return str(category["id"]) in used, group == category.get("name"), group != "none"

    members = {str(c.get("name")): c["id"] for c in sorted(categories.values(), key=rank)}  # the last one counts
    names = {i: str(c.get("name")) for i, c in categories.items() if str(i) not in used}
    groups = {i: name for i, name in names.items() if members[name] != i}
    for i in groups:
        del categories[i]
    return [f"category {i} has no object, and the name {n!r} of category {members[n]}" for i, n in groups.items()]


def with_clicks(annotation: Entry, category: Entry) -> Entry:
    """Return an annotation with clicks as the exports of annotation tools write them as `point` or `extreme_points`.

    A click is a single visible keypoint of COCO, or a polygon of one point; four keypoints whose category names them top, left,
    bottom and right are extreme points. A box without area and an empty segmentation then only say that there is no shape.
    """
    shape, keypoints, box = (annotation.get(key, ()) for key in ("segmentation", "keypoints", "bbox"))
    shape = [] if shape == [[]] else shape
    names, four, clicks = category.get("keypoints"), [side for side, _, _ in SIDES], Entry()
    if _are_numbers(keypoints, 3) and keypoints[2] > 0:
        clicks["point"] = keypoints[:2]
    elif isinstance(shape, list) and len(shape) == 1 and _are_numbers(shape[0], 2):
        clicks["point"], shape = shape[0], []
    elif isinstance(names, list) and sorted(map(str, names)) == sorted(four) and _are_numbers(keypoints, 12):
        places = [3 * names.index(side) for side in four if all(keypoints[2::3])]
        clicks |= {"extreme_points": [keypoints[i : i + 2] for i in places]} if places else {}
    annotation = {**clicks, **annotation}
    clicked = any(key in annotation for key in WEAK_KEYS)
    has_area = _are_numbers(box, 4) and min(box[2:]) > 0
    empty = ["segmentation"] if shape in ([], {}) and (clicked or has_area) else []
    if clicked and (box == [] or (_are_numbers(box, 4) and not has_area)):
        empty.append("bbox")
    return {k: v for k, v in annotation.items() if k not in empty}


def shape_problem(annotation: Entry, height: int, width: int) -> str | None:
    """Say what is wrong with an annotation's box or mask, and the remedy; None if they are sound or missing."""
    box, shape = annotation.get("bbox"), annotation.get("segmentation")
    if box is not None and not _are_numbers(box, 4):
        return f"bbox {box} is not [x, y, width, height]; give four numbers or leave it out"
    far = (width, height) * 2
    if box is not None and (wild := [v for v, side in zip(box, far, strict=True) if not -side <= v <= 2 * side]):
        return f"bbox {box} reaches {wild[0]}, its image is {width} x {height}; {OTHER_UNITS}"
    if box is not None and (box[2] <= 0 or box[3] <= 0):
        return f"bbox {box} has no area; remove the annotation, write a `point` [x, y] if it is a click, or {LEAVE_OUT}"
    if "segmentation" not in annotation:
        return None
    if isinstance(shape, dict):
        return _run_length_problem(shape, height, width)
    if not isinstance(shape, list) or not shape:
        return f"segmentation {str(shape)[:40]} is neither polygons nor a run length; draw it or drop the key"
    for polygon in shape:
        if not isinstance(polygon, list) or not _are_numbers(polygon, len(polygon)):
            return f"polygon {str(polygon)[:40]} is not a list of numbers; write [x1, y1, x2, y2, x3, y3, ...]"
        if len(polygon) % 2:
            return f"polygon with {len(polygon)} numbers: x and y come in pairs; add or remove one"
        if len(polygon) < 6:
            return f"polygon with {len(polygon) // 2} points; it needs 3, or {LEAVE_OUT}"
        if wild := [v for v, side in zip(polygon, cycle((width, height))) if not -side <= v <= 2 * side]:
            return f"polygon reaches {wild[0]}, its image is {width} x {height}; {OTHER_UNITS}"
    return None


def _run_length_problem(shape: Entry, height: int, width: int) -> str | None:
    size, counts = shape.get("size"), shape.get("counts")
    if size != [height, width]:
        return f"run length of size {size}, its image is [{height}, {width}] (height, width); encode it again"
    if not isinstance(counts, str) and not (
        isinstance(counts, list) and all(type(c) is int and abs(c) < 2**31 for c in counts)
    ):
        return f"run length with counts {str(counts)[:40]}; they are a list of integers or COCO's text"
    if (total := run_total(counts)) == height * width:
        return None
    state = "is damaged" if total is None else f"covers {total} pixels"
    return f"run length {state}, but its image has {height * width}; encode it again"


def click_problem(annotation: Entry, height: int, width: int) -> str | None:
    """Say what is wrong with an annotation's `point` or `extreme_points`, and the remedy; None if nothing is."""
    point, four = annotation.get("point"), annotation.get("extreme_points")
    is_list = isinstance(four, list) and all(isinstance(p, list) and len(p) == 2 for p in four)
    if four is not None and (not is_list or len(four) != 4):
        remedy = "top, left, bottom, right; a corner may occur twice"
        return f"extreme_points {str(four)[:80]} are not four [x, y]: {remedy}"
    clicks = [] if point is None else [("point", point)]
    clicks += [(f"{side} extreme point", p) for (side, _, _), p in zip(SIDES, four or (), strict=False)]
    for name, click in clicks:
        if not _are_numbers(click, 2):
            return f"{name} {click} is not [x, y]; give two finite numbers"
        # some tools put the border of the image at x = width: up to a pixel beside it counts for the nearest pixel
        if not (-1 < click[0] <= width and -1 < click[1] <= height):
            remedy = f"click again, x first, see whether it belongs to another image, or {LEAVE_OUT}"
            return f"{name} {click} is outside its image of {width} x {height}; {remedy}"
    if four is None:
        return None
    if any(len(set(values)) == 1 for values in zip(*four, strict=True)):
        remedy = "click four sides of the object, or leave the key out if it is one pixel or a line"
        return f"extreme_points {four} do not span a box; {remedy}"
    for (side, axis, sign), click in zip(SIDES, four, strict=True):
        farthest = min(four, key=lambda p: sign * p[axis])
        # where the outline is flat a hand may be off by a pixel
        if sign * (click[axis] - farthest[axis]) > 1:
            reason = f"{click} is given as {side}, but {farthest} is farther that way; sort them"
            return f"extreme_points {four} are not in the order top, left, bottom, right: {reason}"
    return None


def _are_numbers(values: object, length: int) -> bool:
    if not isinstance(values, list) or len(values) != length:
        return False
    return all(isinstance(v, (int, float)) and abs(v) < 2**53 for v in values)  # which infinity and NaN are not


RULES = [(shape_problem, key, DataError) for key in SHAPE_KEYS] + [
    (click_problem, key, AnnotationError) for key in WEAK_KEYS
]


def near_object(masks: RunLengths, points: Tensor, tolerance: int = 1) -> Tensor:
    """Say whether points float [K, P, 2] lie on their object, one of K masks, or at most `tolerance` pixels (in x and in
    y) beside it: bool [K, P]. Points are (x, y) pixels with pixel centers at integers.
    """
    reach, last = torch.arange(-tolerance, tolerance + 1), torch.tensor(masks.size[::-1]) - 1
    around = points.round().long()[:, :, None] + torch.cartesian_prod(reach, reach)
    x, y = around.clamp(min=0).minimum(last).unbind(-1)  # [K, P, T]
    near = [part.holds(y[k], x[k]).any(1) for k, part in enumerate(masks.parts())]
    return torch.stack(near) if near else torch.zeros(points.shape[:2], dtype=torch.bool)


def replace_weak_labels(
    coco: Entry, path: Path | str, weak_path: Path | str, drop_invalid: bool = False, boxes: bool = False
) -> tuple[Entry, list[str]]:
    """Return `coco` with the weak labels of another COCO JSON, and messages of those that were dropped, see `read_coco`;
    raises AnnotationError if their images or ids differ. boxes: its boxes, too, take the place of those in `coco`.
    """
    weak, dropped = read_coco(weak_path, drop_invalid, shapes=boxes)
    weak_keys = (*WEAK_KEYS, "bbox") if boxes else WEAK_KEYS
    for section, keys in REFERENCES.items():
        known = {entry["id"]: entry for entry in coco[section]}
        for entry in weak[section]:
            reference = known.get(entry["id"], entry if section == "annotations" else {})
            for key in keys:
                if (value := reference.get(key, "missing")) != entry[key]:
                    where = f"{weak_path}: {SECTIONS[section]} {entry['id']}: {key} {entry[key]}"
                    raise AnnotationError(f"{where} is {value} in {path}; use the {section} of that file")

    def relabelled(section: str, keys: tuple[str, ...]) -> list[Entry]:
        labels = {entry["id"]: {k: entry[k] for k in keys if k in entry} for entry in weak[section]}
        kept = [{k: v for k, v in e.items() if k == "bbox" or k not in keys} for e in coco[section]]
        return [entry | labels.get(entry["id"], {}) for entry in kept]

    ids, keys = {a["id"] for a in coco["annotations"]}, ("id", "image_id", "category_id", *weak_keys)
    added = [{k: a[k] for k in keys if k in a} for a in weak["annotations"] if a["id"] not in ids]
    annotations = relabelled("annotations", weak_keys) + added
    return {**coco, "images": relabelled("images", ("tags",)), "annotations": annotations}, dropped
