"""COCO folders: images, instances JSON, weak labels in the same JSON, and optional label PNGs.

    FOLDER/images/<split>/*            FOLDER/annotations/instances_<split>.json
    FOLDER/semantic/<split>/*.png

Weak labels are `point` [x, y] and `extreme_points` (top, left, bottom, right) of an annotation and `tags` (category ids)
of an image; coordinates are pixels with centers at integers. For images with an EXIF orientation see `read_image`.
"""

from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor

from wsis.core.errors import AnnotationError, DataError
from wsis.core.files import Entry, read_json
from wsis.core.masks import RunLengths
from wsis.core.next_step import LEARNERS
from wsis.core.report import report_once
from wsis.core.types import BACKGROUND, IGNORE, Dataset, ExtremePoints, Instances, Points, Sample
from wsis.data.checks import LEAVE_OUT, WEAK_KEYS, by_image, file_name, near_object, read_coco, replace_weak_labels
from wsis.data.images import ImageFolder, find_files, first_of, list_files, map_name, map_names, read_image
from wsis.data.label_maps import read_values, value_table
from wsis.data.masks import paint_semantic, tags_from_labels
from wsis.data.wrappers import samples
from wsis.data.write import ImageEntry, Records, annotation_records, categories, image_record, places, write_split

CLICK_TOLERANCE = 1  # pixels that a click may lie beside its mask: a hand does


class CocoFolder:
    """One split of a data set in COCO format; labels are 0..C-1 in the order of the category ids.

    weak: a COCO JSON whose weak labels replace those of the data set. Annotations are matched by id; new ids are objects
    without a mask. Without instances_<split>.json it describes the whole split. drop_invalid: leave out unusable shapes and
    clicks; `dropped` then has their messages. boxes: objects without extreme points get the middles of the sides of their
    `bbox`, which span the same box. Raises the errors of `checks.read_coco`; pixels are checked on reading.
    """

    def __init__(
        self,
        folder: Path | str,
        split: str = "train",
        weak: Path | str | None = None,
        *,
        drop_invalid: bool = False,
        boxes: bool = False,
    ) -> None:
        self.drop_invalid, self.boxes = drop_invalid, boxes
        self.image_folder, self.map_folder, self.path = places(Path(folder), split)
        self.weak_path = Path(weak) if weak else self.path
        if weak and not self.path.exists():
            self.path = self.weak_path
        self.label_files = sorted({self.path, self.weak_path})
        if not self.path.exists():
            remedy = f'wsis.viz.annotate("{self.image_folder}", "{self.path}", CLASSES) or python -m wsis import'
            raise DataError(f"{self.path} does not exist; check the folder and the split, or click: {remedy}")
        coco, self.dropped = read_coco(self.path, drop_invalid)
        if self.weak_path != self.path:
            coco, dropped = replace_weak_labels(coco, self.path, self.weak_path, drop_invalid, boxes)
            self.dropped += dropped
        in_order = sorted(coco["categories"], key=lambda c: c["id"])
        self.classes = tuple(c["name"] for c in in_order)
        self.category_ids = tuple(c["id"] for c in in_order)
        self._label = {c: i for i, c in enumerate(self.category_ids)}
        self.images = named_as_on_disk(coco["images"], self.image_folder)
        if boxes:
            sizes = {i["id"]: (i["width"], i["height"]) for i in self.images}
            coco["annotations"] = [self._boxed(a, *sizes[a["image_id"]]) for a in coco["annotations"]]
        self._annotations = by_image(coco["annotations"])
        self._present = {k for k in (*WEAK_KEYS, "segmentation") if any(k in a for a in coco["annotations"])}
        for record in self.images:
            if not (path := self.image_folder / file_name(record)).is_file():
                raise DataError(f"{self.path}: image {record['id']}: {path} does not exist; add it or the right path")
        names = records_by_name(self.images, self.path)
        if others := [name for name in list_files(self.image_folder) if name not in names]:
            self.dropped.append(f"{first_of(others)} in {self.image_folder}, which {self.path} does not list")
        self._values = self._map_values(self.map_folder.parent / "categories.json")
        self._maps = find_files(map(map_name, names), self.map_folder)

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> Sample:
        record = self.images[index]
        path, (height, width) = self.image_folder / file_name(record), (record["height"], record["width"])
        image = read_image(path, (height, width))
        if image.shape[-2:] != (height, width):
            size = f"{image.shape[2]} x {image.shape[1]}"
            raise DataError(f"{path} is {size}, but {self.path} says {width} x {height}; fix either")
        truth = self._truth(record)
        points = self._clicks(record, truth, "point")
        tags = record.get("tags", [a["category_id"] for a in self._annotations[record["id"]]])
        return Sample(
            image=image,
            image_id=record["id"],
            file_name=file_name(record),
            tags=tags_from_labels(self._labels(tags), len(self.classes)),
            points=None if points is None else Points.make(**points),
            extreme_points=self.extreme_points(index, truth),
            truth=truth,
            true_semantic=self._true_semantic(record, truth),
        )

    def extreme_points(self, index: int, truth: Instances | None = None) -> ExtremePoints | None:
        """Read the extreme points of one image from the JSON alone; they are checked against `truth` where it is given."""
        clicks = self._clicks(self.images[index], truth, "extreme_points")
        return None if clicks is None else ExtremePoints(**clicks)

    def without_mask(self, index: int) -> Tensor:
        """Say which classes have an object without a mask in an image: bool [C]."""
        bare = [a["category_id"] for a in self._annotations[self.images[index]["id"]] if "segmentation" not in a]
        return tags_from_labels(self._labels(bare), len(self.classes))

    def objects(self, key: str) -> tuple[int, int, int]:
        """Count the objects with clicks of the kind `key`, those with a mask instead, and those with neither."""
        objects = [a for annotations in self._annotations.values() for a in annotations if not a.get("iscrowd")]
        clicked = sum(a.get(key) is not None for a in objects)
        drawn = sum(a.get(key) is None and "segmentation" in a for a in objects)
        return clicked, drawn, len(objects) - clicked - drawn

    @property
    def has_masks(self) -> bool:
        """Whether any object has a mask, or any image a label PNG."""
        return "segmentation" in self._present or bool(self._values is not None and self._maps)

    def learner(self) -> str:
        """What learns from the labels that are there, as an argument of `train`."""
        keys = {"extreme_points": "extreme_points", "boxes": "bbox", "point": "point"}
        there = {kind: self.objects(key)[0] for kind, key in keys.items()}
        return next((learner for kind, learner in LEARNERS.items() if there.get(kind)), LEARNERS["tags"])

    def absent_classes(self) -> list[str]:
        """Name the classes that neither an annotation nor a tag of an image has."""
        present = {a["category_id"] for annotations in self._annotations.values() for a in annotations}
        present |= {tag for record in self.images for tag in record.get("tags", ())}
        return [name for name, i in zip(self.classes, self.category_ids, strict=True) if i not in present]

    def _boxed(self, annotation: Entry, image_width: int, image_height: int) -> Entry:
        if annotation.get("extreme_points") is not None or "bbox" not in annotation or annotation.get("iscrowd"):
            return annotation
        x, y, width, height = annotation["bbox"]
        # the last pixels of a box are those that it still covers, and boxes of extreme points end behind theirs
        right, bottom = x + max(width - 1, 0), y + max(height - 1, 0)
        if right <= -1 or bottom <= -1 or x >= image_width or y >= image_height:
            where = f"{self.weak_path}: annotation {annotation['id']}: bbox {annotation['bbox']}"
            problem = f"{where} is outside its image of {image_width} x {image_height}"
            if not self.drop_invalid:
                raise AnnotationError(f"{problem}; see whether it belongs to another image, or {LEAVE_OUT}")
            self.dropped.append(problem)
            return annotation
        middle = ((x + right) / 2, (y + bottom) / 2)
        sides = [[middle[0], y], [x, middle[1]], [middle[0], bottom], [right, middle[1]]]
        return {**annotation, "extreme_points": sides}

    def _labels(self, category_ids: Sequence[int]) -> Tensor:
        return torch.tensor([self._label[i] for i in category_ids], dtype=torch.long)

    def _truth(self, record: Entry) -> Instances | None:
        annotations = self._annotations[record["id"]]
        drawn = [a for a in annotations if "segmentation" in a]
        if "segmentation" not in self._present or (annotations and not drawn):
            return None
        truth = Instances.make(
            RunLengths.read([a["segmentation"] for a in drawn], (record["height"], record["width"])),
            self._labels([a["category_id"] for a in drawn]),
            ids=torch.tensor([a["id"] for a in drawn], dtype=torch.long),
            crowd=torch.tensor([bool(a.get("iscrowd")) for a in drawn], dtype=torch.bool),
        )
        filled = truth.runs.areas > 0
        if not filled.all() and not self.drop_invalid:
            where = f"{self.path}: annotation {truth.ids[~filled][0]}"
            raise DataError(f"{where}: its mask has no pixel; remove it, or {LEAVE_OUT}")
        return truth[filled]

    def _clicks(self, record: Entry, truth: Instances | None, key: str) -> dict[str, Tensor] | None:
        """Return xy, labels and ids of the clicks of one kind, each on its object; None if the data set has none."""
        if key not in self._present:
            return None
        clicked = [a for a in self._annotations[record["id"]] if a.get(key) is not None and not a.get("iscrowd")]
        ids = torch.tensor([a["id"] for a in clicked], dtype=torch.long)
        xy = torch.tensor([a[key] for a in clicked], dtype=torch.float32)
        xy = xy.reshape(-1, 2) if key == "point" else xy.reshape(-1, 4, 2)
        size, of_box = torch.tensor([record["width"], record["height"]]), self.boxes and key == "extreme_points"
        xy = xy.clamp(min=0).minimum(size - 1.0)
        if truth is not None and len(clicked) and not of_box:
            click, row = (ids[:, None] == truth.ids).nonzero(as_tuple=True)
            pairs = xy.reshape(len(clicked), -1, 2)[click]
            near = near_object(truth.runs[row], pairs, CLICK_TOLERANCE)
            if not near.all():
                k, p = (~near).nonzero()[0].tolist()
                where = f"{self.weak_path}: annotation {ids[click][k]}: {key} {pairs[k, p].tolist()}"
                problem = f"{where} is off its object by more than {CLICK_TOLERANCE} px"
                if key == "extreme_points":  # which are counted by the JSON alone
                    raise AnnotationError(f"{problem}; click again")
                if not self.drop_invalid:
                    raise AnnotationError(f"{problem}; click again, or {LEAVE_OUT}")
                report_once(f"left out: {problem}")
                kept = ~torch.isin(ids, ids[click][~near.all(1)])
                clicked, ids, xy = [a for a, keep in zip(clicked, kept, strict=True) if keep], ids[kept], xy[kept]
        return {"xy": xy, "labels": self._labels([a["category_id"] for a in clicked]), "ids": ids}

    def _map_values(self, names: Path) -> Tensor | None:
        """Say what the values in semantic/<split> mean as classes; stuff is background."""
        if not self.map_folder.is_dir():
            return None
        if wrong := [i for i in self.category_ids if not 0 < i < IGNORE]:
            where = f"{self.path}: category id {wrong[0]}"
            raise DataError(f"{where} cannot stand in {self.map_folder}; give ids from 1 to 254, or move that folder")
        try:
            stuff = [c["id"] for c in read_json(names)] if names.exists() else []
        except (TypeError, KeyError):
            raise DataError(f'{names} is not a list of {{"id": 1, "name": "person"}}; write it so') from None
        values = dict.fromkeys((i for i in stuff if 0 <= i < IGNORE), BACKGROUND)
        values |= {c: label + 1 for label, c in enumerate(self.category_ids)}
        return value_table(values | {BACKGROUND: BACKGROUND, IGNORE: IGNORE})

    def _true_semantic(self, record: Entry, truth: Instances | None) -> Tensor | None:
        path = self._maps.get(map_name(file_name(record)))
        if self._values is not None and path is not None:
            size, remedy = (record["height"], record["width"]), "no category id; add it to the JSON or categories.json"
            return read_values(self.map_folder / path, size, self._values, remedy)
        return None if truth is None or len(self.classes) >= IGNORE else paint_semantic(truth)


def records_by_name(images: Records, path: Path) -> dict[str, Entry]:
    """Return the records of a COCO JSON by the names of their files; raises DataError if two share one but for the suffix."""
    records = {Path(file_name(image)).as_posix(): image for image in images}
    map_names(map(file_name, images), path)
    return records


def named_as_on_disk(images: Records, folder: Path) -> Records:
    """Return the records of a COCO JSON with the names that their files have in a folder, see `find_files`; whole paths
    of files in it become relative.
    """
    here, paths = folder.absolute(), [Path(file_name(i)) for i in images]
    within = [{"file_name": p.relative_to(here).as_posix()} if p.is_relative_to(here) else {} for p in paths]
    images = [image | name for image, name in zip(images, within, strict=True)]
    files = find_files(map(file_name, images), folder)
    return [{**i, "file_name": file} if (file := files.get(name := file_name(i), name)) != name else i for i in images]


def find_records(images: ImageFolder) -> Records:
    """Give images the records of the data set that they lie in (X/images/<split>, or a folder in it, with
    X/annotations/instances_<split>.json), and return its categories; none where there is no such JSON.

    Links are looked at as they stand and as what they point to. Raises DataError for an image that the JSON does not list.
    """
    for folder in (images.folder.absolute(), images.folder.resolve()):
        for split in (folder, *folder.parents):
            path = split.parent.parent / "annotations" / f"instances_{split.name}.json"
            if split.parent.name == "images" and path.exists():
                coco, _ = read_coco(path, drop_invalid=True)
                records = records_by_name(named_as_on_disk(coco["images"], split), path)
                inner = folder.relative_to(split)
                names = {name: (inner / name).as_posix() for name in images.names}
                if unknown := [name for name in names if names[name] not in records]:
                    where = f"{images.folder / unknown[0]} is not among the images of {path}"
                    raise DataError(f"{where}; add it there, or move it elsewhere")
                images.records = {name: {**records[n], "file_name": n} for name, n in names.items()}
                return coco["categories"]
    return []


def write_dataset(dataset: Dataset, folder: Path | str, split: str) -> None:
    """Write any data set with true masks, and its weak labels, as one split that `CocoFolder` reads, whole or not at all;
    raises DataError if the split is there already.
    """
    folder, ids = Path(folder), dataset.category_ids
    if taken := [p for p in places(folder, split)[::-1] if p.exists()]:
        raise DataError(f"{taken[0]} exists already; choose another folder, or delete it")
    entries = (_split_entry(sample, ids) for sample in samples(dataset))
    write_split(folder, split, entries, categories(dataset.classes, ids), len(dataset))


def _split_entry(sample: Sample, category_ids: Sequence[int]) -> ImageEntry:
    name = map_name(sample.file_name or f"{sample.image_id:06d}")
    record, values = {**image_record(sample), "file_name": name}, None
    if sample.true_semantic is not None:
        table = torch.full((256,), 256)  # what is no class fails in write_label_map
        table[: len(category_ids) + 1] = torch.tensor([BACKGROUND, *category_ids])
        table[IGNORE] = IGNORE
        values = table[sample.true_semantic.long()]
    if sample.tags is not None:
        record["tags"] = [category_ids[i] for i in sample.tags.nonzero()[:, 0].tolist()]
    annotations = [] if sample.truth is None else annotation_records(sample.truth, sample.image_id, category_ids)
    for key, labels in (("point", sample.points), ("extreme_points", sample.extreme_points)):
        clicks = {} if labels is None else dict(zip(labels.ids.tolist(), labels.xy.tolist(), strict=True))
        for annotation in annotations:
            if annotation.get("id") in clicks:
                annotation[key] = clicks[annotation["id"]]
    return ImageEntry(name, sample.image, values, record, annotations)
