"""A folder of images and the COCO JSON of its labels, open for changes by hand."""

from collections import defaultdict
from collections.abc import Sequence
from copy import deepcopy
from itertools import permutations
from pathlib import Path

import torch

from wsis.core.errors import AnnotationError, DataError
from wsis.core.files import Entry, read_json, write_json
from wsis.core.masks import RunLengths, run_length
from wsis.core.types import Instances
from wsis.data.checks import SIDES, by_image, click_problem, file_name, near_object, read_coco, shape_problem
from wsis.data.coco import named_as_on_disk
from wsis.data.images import ImageFolder, composed
from wsis.data.write import Records, annotation_records, categories

CLICKS = {"point": 1, "extreme_points": 4, "bbox": 2}
"""How many clicks each label of an object takes: one, the four extremes in any order, two opposite corners of a box."""
SLIP = 0.1  # of a box's side; a click that lies this much inside another's extreme is moved out to it
XY = Sequence[float]


class LabelFile:
    """Labels of the images of a folder, in the COCO JSON that `CocoFolder` reads; what is there already is kept.

    An image has an entry in the JSON as soon as it has a label; its `file_name` is relative to the folder. classes: names
    of classes, which are added to those of the JSON. Raises DataError if the JSON is not sound, the folder has no image,
    or there is no class.
    """

    def __init__(self, images: Path | str, path: Path | str, classes: Sequence[str] = ()) -> None:
        self.folder, self.path = Path(images), Path(path)
        self._coco: Entry = {"images": [], "annotations": [], "categories": []}
        self._groups: Records = []  # categories that `read_coco` takes for none; they stay in the file
        if self.path.exists():
            stored = read_json(self.path)
            # a file whose labels were all taken back is sound here, though no data set
            emptied = isinstance(stored, dict) and stored.get("images") == stored.get("annotations") == []
            emptied = emptied and isinstance(stored.get("categories"), list)
            self._coco = stored if emptied else read_coco(self.path)[0]
            used = {c["id"] for c in self._coco["categories"]}
            self._groups = [c for c in stored["categories"] if c["id"] not in used]
        self._stamp, self.unsaved = self._state_on_disk(), False
        known = {c["name"] for c in self._coco["categories"]}
        if isinstance(classes, str) or len(set(classes)) < len(classes) or not all(classes):
            raise DataError(f"classes {classes!r} are not a list of different names; write ['cat', 'dog']")
        first = max((c["id"] for c in (*self._coco["categories"], *self._groups)), default=0) + 1
        new = [name for name in classes if name not in known]
        self.categories: Records = [*self._coco["categories"], *categories(new, range(first, first + len(new)))]
        if not self.categories:
            raise DataError(f"{self.path} has no class yet; name them: classes=['cat', 'dog']")
        self._records = {file_name(record): record for record in named_as_on_disk(self._coco["images"], self.folder)}
        if len(self._records) < len(self._coco["images"]):
            raise DataError(f"{self.path}: two images have the same file; keep one of them")
        here = [name for name in self._records if (self.folder / name).is_file()]
        self.missing = len(self._records) - len(here)  # images of the JSON that are not in the folder; they are kept
        self.names = here + [name for name in ImageFolder(self.folder).names if name not in self._records]
        self._annotations = by_image(self._coco["annotations"])
        self.changes: list[tuple[str, Entry | None, Records]] = []  # what was before each, which `undo` takes back

    def __len__(self) -> int:
        return len(self.names)

    def annotations(self, name: str) -> Records:
        """The annotations of an image, which the caller does not change."""
        return self._annotations[self._records[name]["id"]] if name in self._records else []

    def tags(self, name: str) -> list[int]:
        """The category ids of an image's tags; without any those of its objects."""
        said = self._records.get(name, {}).get("tags")
        return sorted({a["category_id"] for a in self.annotations(name)}) if said is None else list(said)

    def record(self, name: str) -> Entry | None:
        """What the JSON has of an image, which the caller does not change."""
        return self._records.get(name)

    def put(self, name: str, size: tuple[int, int], label: Entry, annotation_id: int | None = None) -> int:
        """Give an image of `size` (height, width) an object, or one of its objects another label; return its id.

        label: keys of an annotation. A click has to be in the image and on the object's mask. Raises AnnotationError.
        """
        rows, record = self.annotations(name), self._records.get(name) or self._new_record(name, size)
        old = next((a for a in rows if a["id"] == annotation_id), None)
        new = (old or {"id": self._free("annotations"), "image_id": record["id"]}) | label
        problem = click_problem(new, *size) or shape_problem(new, *size)
        if not problem and (clicks := _clicks(label)) and new.get("segmentation"):
            runs = RunLengths.read([new["segmentation"]], size)
            if not near_object(runs, torch.tensor([clicks], dtype=torch.float32)).all():
                problem = "the click is off the mask of its object; remove the object, or click on its mask"
        if problem:
            raise AnnotationError(f"{self.path.name}: {problem}")
        self._remember(name)
        self._records[name] = record
        self._annotations[record["id"]] = [new if a is old else a for a in rows] + ([new] if old is None else [])
        if record.get("tags") is not None and new["category_id"] not in record["tags"]:
            record["tags"].append(new["category_id"])
        return new["id"]

    def accept(self, name: str, size: tuple[int, int], mask: Entry, annotation_id: int | None = None) -> int:
        """Make a mask that a run proposed (an annotation or a COCO result) the mask of an object; return its id.

        The pixels of the object's clicks belong to its mask, and a box that it has already stays.
        """
        old: Entry = next((a for a in self.annotations(name) if a["id"] == annotation_id), {})
        runs = RunLengths.read([mask["segmentation"]], size)
        for click in torch.tensor(_clicks(old)).reshape(-1, 1, 2).round().long():
            runs = runs.with_pixels(click)
        if not (rows := annotation_records(Instances.make(runs, torch.zeros(1)), 0, [mask["category_id"]])):
            raise AnnotationError("the mask has no pixel; click the object again")
        keys = {"category_id", "segmentation", "area", "bbox", "iscrowd"} - ({"bbox"} & old.keys())
        return self.put(name, size, {key: rows[0][key] for key in keys}, annotation_id)

    def remove(self, name: str, annotation_id: int) -> None:
        self._remember(name)
        image_id = self._records[name]["id"]
        self._annotations[image_id] = [a for a in self._annotations[image_id] if a["id"] != annotation_id]

    def toggle_tag(self, name: str, size: tuple[int, int], category_id: int) -> None:
        """Add a tag to an image of `size` (height, width), or take it away; a class that has an object keeps its tag."""
        tags = self.tags(name)
        if category_id in tags and any(a["category_id"] == category_id for a in self.annotations(name)):
            raise AnnotationError("the image has an object of this class; remove the object first")
        self._remember(name)
        record = self._records.setdefault(name, self._new_record(name, size))
        record["tags"] = sorted({*tags} ^ {category_id})

    def undo(self) -> str | None:
        """Take the last change back, and return the name of its image; None if there is none."""
        if not self.changes:
            return None
        name, record, annotations = self.changes.pop()
        self._annotations[self._records[name]["id"]] = annotations
        if record is None:
            del self._records[name]
        else:
            self._records[name] = record
        self.unsaved = True
        return name

    def save(self, path: Path | str | None = None) -> None:
        """Write the JSON, whole or not at all; raises DataError if another program changed it since it was read."""
        target = Path(path) if path else self.path
        if path is None and self._state_on_disk() != self._stamp:
            raise DataError(
                f"{target} was changed by another program; open it again, or keep these labels: labels.save(PATH)"
            )
        place = {a["id"]: i for i, a in enumerate(self._coco["annotations"])}
        annotations = [a for r in self._records.values() for a in self._annotations[r["id"]]]
        annotations.sort(key=lambda a: place.get(a["id"], len(place)))
        changed = {"annotations": annotations, "images": list(self._records.values())}
        write_json(target, self._coco | changed | {"categories": [*self.categories, *self._groups]})
        if path is None:
            self._stamp, self.unsaved = self._state_on_disk(), False

    def _state_on_disk(self) -> tuple[int, int] | None:
        return (s.st_mtime_ns, s.st_size) if self.path.exists() and (s := self.path.stat()) else None

    def _new_record(self, name: str, size: tuple[int, int]) -> Entry:
        return {"id": self._free("images"), "file_name": name, "width": size[1], "height": size[0]}

    def _free(self, section: str) -> int:
        used = self._records.values() if section == "images" else (a for r in self._annotations.values() for a in r)
        # an id that was given back by `undo` may return; one that the file has never does
        return max((e["id"] for e in (*used, *self._coco[section])), default=0) + 1

    def _remember(self, name: str) -> None:
        self.changes.append((name, deepcopy(self._records.get(name)), list(self.annotations(name))))
        self.unsaved = True


def label_of(kind: str, clicks: Sequence[XY]) -> Entry:
    """Turn the clicks (x, y) that `CLICKS` asks for into keys of an annotation; raises AnnotationError if they do not fit."""
    xy = [[round(x), round(y)] for x, y in clicks]
    if kind == "point":
        return {"point": xy[0]}
    if kind == "extreme_points":
        return {"extreme_points": sides(xy)}
    (left, top), (right, bottom) = ([side(values) for values in zip(*xy, strict=True)] for side in (min, max))
    box = [left, top, right - left + 1, bottom - top + 1]
    return {"bbox": box, "area": box[2] * box[3], "iscrowd": 0}


def sides(clicks: Sequence[list[int]]) -> list[list[int]]:
    """Sort four clicks (x, y) into top, left, bottom, right.

    Where another click lies a little farther out than the one of a side, that one is moved out. Raises AnnotationError if
    a click lies far inside the box of the others.
    """
    edges = [min(sign * p[axis] for p in clicks) * sign for _, axis, sign in SIDES]
    lengths = [max(values) - min(values) for values in zip(*clicks, strict=True)]

    def gaps(order: Sequence[list[int]]) -> list[int]:
        return [abs(p[axis] - edge) for p, edge, (_, axis, _) in zip(order, edges, SIDES, strict=True)]

    order = min(permutations(clicks), key=lambda order: sum(gaps(order)))
    for click, gap, (side, axis, _) in zip(order, gaps(order), SIDES, strict=True):
        if gap > max(1, SLIP * lengths[axis]):
            raise AnnotationError(f"no click is on the {side}: {click} is {gap} px inside; click all four again")
    pairs = zip(order, edges, SIDES, strict=True)
    return [[edge, p[1]] if axis == 0 else [p[0], edge] for p, edge, (_, axis, _) in pairs]


def _clicks(annotation: Entry) -> list[XY]:
    point = annotation.get("point")
    return [*(annotation.get("extreme_points") or ()), *([] if point is None else [point])]


class ProposedMasks:
    """Masks that a run proposes, from a COCO data set (`label`) or COCO results (`predict`), by the name of their image.

    Classes are matched to `wanted` categories by name, or by id in results. Raises DataError for a class that is not there.
    """

    def __init__(self, path: Path | str, wanted: Records) -> None:
        content = read_json(path)
        self._rows: dict[str | int | None, Records] = defaultdict(list)  # by name, or id without one
        names, ids = {}, {c["id"]: c["id"] for c in wanted}
        if isinstance(content, dict):
            coco, _ = read_coco(path)
            names = {i["id"]: file_name(i) for i in coco["images"]}
            by_name = {c["name"]: c["id"] for c in wanted}
            ids, content = {c["id"]: by_name.get(c["name"]) for c in coco["categories"]}, coco["annotations"]
        for i, row in enumerate(content if isinstance(content, list) else [None]):
            if not isinstance(row, dict) or not {"image_id", "category_id"} <= row.keys():
                raise DataError(f"{path}: record {i} is no COCO result; give what label or predict wrote")
            if not row.get("segmentation"):
                continue  # a data set may mix masks with clicks; there is nothing to propose
            if ids.get(row["category_id"]) is None:
                where = f"{path}: record {i}: category {row['category_id']}"
                raise DataError(f"{where} is no class here; add it to classes")
            name = names.get(row["image_id"]) or row.get("file_name")
            image = composed(name) if name else row["image_id"]
            self._rows[image].append({**row, "category_id": ids[row["category_id"]]})

    def of(self, name: str, size: tuple[int, int], image_id: int | None = None) -> Records:
        """The masks of one image of `size` (height, width); raises DataError for one of another size."""
        rows = self._rows.get(composed(name)) or self._rows.get(image_id, [])
        for row in rows:
            if problem := shape_problem({"segmentation": row["segmentation"]}, *size):
                raise DataError(f"mask of {name}: {problem}")
        return [{**row, "segmentation": run_length(row["segmentation"], *size)} for row in rows]
