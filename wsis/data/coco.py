"""COCO folders: images, instances JSON, weak labels in the same JSON, and optional label PNGs.

    FOLDER/images/<split>/*            FOLDER/annotations/instances_<split>.json
    FOLDER/semantic/<split>/*.png

Weak labels are `point` [x, y] and `extreme_points` (top, left, bottom, right) of an annotation and `tags`
(category ids) of an image; coordinates are pixels with centres at integers. Masks refer to the pixels as
stored, so pictures are never turned by their EXIF orientation.
"""

from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from torch import Tensor
from tqdm import tqdm

from wsis.core.errors import AnnotationError, DataError
from wsis.core.files import atomic, read_json, write_json
from wsis.core.types import BACKGROUND, IGNORE, Dataset, ExtremePoints, Instances, Points, Sample
from wsis.data.checks import WEAK_KEYS, file_name, near_object, read_coco, replace_weak_labels
from wsis.data.coco_json import annotation_records, categories, image_record, instances_json
from wsis.data.images import read_image
from wsis.data.label_maps import read_class_map, read_label_map, write_label_map
from wsis.data.masks import decode_masks, paint_semantic, tags_from_labels
from wsis.data.wrappers import read_all

UNKNOWN = 254


class CocoFolder:
    """One split of a data set in COCO format; labels are 0..C-1 in the order of the category ids.

    Args:
        weak: a COCO JSON whose weak labels replace those of the data set. Its annotations are matched by id;
            new ids are objects without a mask. Without instances_<split>.json it describes the whole split.
        semantic_dir: class maps to train on, `<stem>.png` with 0, 1..C, 255, one for every image.
        drop_invalid: leave out annotations with an unusable shape; `dropped` then has their messages.
        click_tolerance: pixels that a click may lie beside its mask.

    Raises:
        DataError, AnnotationError: see `checks.read_coco`; pixels are checked on reading them, or by `check`.
    """

    def __init__(
        self,
        folder: Path | str,
        split: str = "train",
        weak: Path | str | None = None,
        *,
        semantic_dir: Path | str | None = None,
        drop_invalid: bool = False,
        click_tolerance: int = 1,
    ):
        self.folder, self.split = Path(folder), split
        self.drop_invalid, self.click_tolerance = drop_invalid, click_tolerance
        self.path = self.folder / "annotations" / f"instances_{split}.json"
        self.weak_path = Path(weak) if weak else self.path
        if weak and not self.path.exists():
            self.path = self.weak_path
        coco, self.dropped = read_coco(self.path, drop_invalid)
        if self.weak_path != self.path:
            coco = replace_weak_labels(coco, self.path, self.weak_path)
        in_order = sorted(coco["categories"], key=lambda c: c["id"])
        self.classes = tuple(c["name"] for c in in_order)
        self.category_ids = tuple(c["id"] for c in in_order)
        self._label = {c: i for i, c in enumerate(self.category_ids)}
        self.images = coco["images"]
        self._annotations = defaultdict(list)
        for annotation in coco["annotations"]:
            self._annotations[annotation["image_id"]].append(annotation)
        self._present = {k for k in (*WEAK_KEYS, "segmentation") if any(k in a for a in coco["annotations"])}
        self.semantic_dir = Path(semantic_dir) if semantic_dir else None
        self._check_files()
        self._value_of_category = self._semantic_values()

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> Sample:
        record = self.images[index]
        height, width = record["height"], record["width"]
        image = read_image(self._image_path(record))
        if image.shape[-2:] != (height, width):
            found = f"{image.shape[2]} x {image.shape[1]}"
            wanted = f"{self.path} says {width} x {height}"
            raise DataError(f"{self._image_path(record)} is {found}, but {wanted}; mend either")
        truth = self._truth(record)
        return Sample(
            image=image,
            image_id=record["id"],
            file_name=file_name(record),
            tags=self._tags(record),
            points=self._points(record, truth),
            extreme_points=self._extreme_points(record, truth),
            semantic_map=self._semantic_map(record),
            truth=truth,
            true_semantic=self._true_semantic(record, truth),
        )

    def extreme_points(self, index: int) -> ExtremePoints | None:
        """The extreme points of one image, from the JSON alone: its picture is not read."""
        return self._extreme_points(self.images[index], None)

    def check(self) -> None:
        """Read every sample; raises DataError, see `read_all`."""
        read_all(self, self.path)

    def _truth(self, record: dict[str, Any]) -> Instances | None:
        own = [a for a in self._annotations[record["id"]] if "segmentation" in a]
        if "segmentation" not in self._present or (not own and self._annotations[record["id"]]):
            return None
        masks = decode_masks([a["segmentation"] for a in own], record["height"], record["width"])
        truth = Instances.make(
            masks,
            self._labels(own),
            ids=torch.tensor([a["id"] for a in own], dtype=torch.long),
            crowd=torch.tensor([bool(a.get("iscrowd")) for a in own], dtype=torch.bool),
        )
        filled = masks.flatten(1).any(1)
        if not filled.all() and not self.drop_invalid:
            where = f"{self.path}: annotation {truth.ids[~filled][0]}"
            raise DataError(f"{where}: its mask has no pixel; remove it, or open the set with drop_invalid=True")
        return truth[filled]

    def _tags(self, record: dict[str, Any]) -> Tensor:
        ids = record.get("tags", [a["category_id"] for a in self._annotations[record["id"]]])
        return tags_from_labels(torch.tensor([self._label[i] for i in ids], dtype=torch.long), len(self.classes))

    def _clicks(self, record: dict[str, Any], truth: Instances | None, key: str, shape: tuple[int, ...]) -> Any:
        """(xy, labels, ids) of the clicks of one kind, each on its object; None if the data set has none."""
        if key not in self._present:
            return None
        own = [a for a in self._annotations[record["id"]] if a.get(key) is not None]
        ids = torch.tensor([a["id"] for a in own], dtype=torch.long)
        xy = torch.tensor([a[key] for a in own], dtype=torch.float32).reshape(-1, *shape)
        xy = xy.minimum(torch.tensor([record["width"] - 1.0, record["height"] - 1.0]))
        if truth is not None and len(own):
            self._check_on_object(truth, xy.reshape(len(own), -1, 2), ids, key)
        return xy, self._labels(own), ids

    def _check_on_object(self, truth: Instances, xy: Tensor, ids: Tensor, key: str) -> None:
        click, row = (ids[:, None] == truth.ids).nonzero(as_tuple=True)
        near = near_object(truth.masks[row], xy[click], self.click_tolerance)
        if not near.all():
            k, p = (~near).nonzero()[0].tolist()
            raise AnnotationError(
                f"{self.weak_path}: annotation {ids[click][k]}: {key} {xy[click][k, p].tolist()} is off its "
                f"object by more than {self.click_tolerance} px; click again, or raise click_tolerance"
            )

    def _points(self, record: dict[str, Any], truth: Instances | None) -> Points | None:
        clicks = self._clicks(record, truth, "point", (2,))
        return None if clicks is None else Points.make(clicks[0], clicks[1], ids=clicks[2])

    def _extreme_points(self, record: dict[str, Any], truth: Instances | None) -> ExtremePoints | None:
        clicks = self._clicks(record, truth, "extreme_points", (4, 2))
        return None if clicks is None else ExtremePoints(xy=clicks[0], labels=clicks[1], ids=clicks[2])

    def _labels(self, annotations: list[dict[str, Any]]) -> Tensor:
        return torch.tensor([self._label[a["category_id"]] for a in annotations], dtype=torch.long)

    def _image_path(self, record: dict[str, Any]) -> Path:
        return self.folder / "images" / self.split / file_name(record)

    def _map_path(self, record: dict[str, Any], folder: Path) -> Path:
        return folder / f"{Path(file_name(record)).stem}.png"

    def _check_files(self) -> None:
        for record in self.images:
            wanted = [self._image_path(record)]
            if self.semantic_dir:
                wanted.append(self._map_path(record, self.semantic_dir))
            for path in wanted:
                if not path.is_file():
                    where = f"{self.path}: image {record['id']}"
                    raise DataError(f"{where}: {path} does not exist; add it or the right path")

    def _semantic_values(self) -> Tensor | None:
        """Table uint8 [256] from values in semantic/<split> to those of a class map; 254 if unknown."""
        if not (self.folder / "semantic" / self.split).is_dir():
            return None
        table = torch.full((256,), UNKNOWN, dtype=torch.uint8)
        names = self.folder / "semantic" / "categories.json"
        stuff = [c["id"] for c in read_json(names)] if names.exists() else []
        table[[i for i in stuff if 0 <= i < IGNORE]] = BACKGROUND
        for label, category in enumerate(self.category_ids):
            if 0 < category < IGNORE:
                table[category] = label + 1
        table[BACKGROUND], table[IGNORE] = BACKGROUND, IGNORE
        return table

    def _true_semantic(self, record: dict[str, Any], truth: Instances | None) -> Tensor | None:
        path = self._map_path(record, self.folder / "semantic" / self.split)
        if self._value_of_category is None or not path.exists():
            return None if truth is None or len(self.classes) >= UNKNOWN else paint_semantic(truth)
        values = read_label_map(path)
        if values.shape != (record["height"], record["width"]):
            found, size = f"{values.shape[1]} x {values.shape[0]}", f"{record['width']} x {record['height']}"
            raise DataError(f"{path} is {found}, its image {size}; write it again")
        class_map = self._value_of_category[values.long()]
        if (class_map == UNKNOWN).any():
            value = values[class_map == UNKNOWN][0]
            raise DataError(f"{path}: value {value} is no category id; add it to the JSON or categories.json")
        return class_map

    def _semantic_map(self, record: dict[str, Any]) -> Tensor | None:
        if self.semantic_dir is None:
            return None
        path = self._map_path(record, self.semantic_dir)
        return read_class_map(path, (record["height"], record["width"]), len(self.classes))


def write_dataset(
    dataset: Dataset,
    folder: Path | str,
    split: str,
    category_ids: Sequence[int] | None = None,
    *,
    overwrite: bool = False,
) -> None:
    """Write any data set with true masks as one split that `CocoFolder` reads: PNG images, JSON, label PNGs.

    Weak labels of the samples go along. Everything is written to a folder beside the split's and renamed at
    the end, the JSON last: what is interrupted leaves no split.

    Args:
        category_ids: the id of each label; by default those of the data set, or label + 1.

    Raises:
        DataError: the split is there already and `overwrite` is not set.
        DiskSpaceError: the disk is full.
    """
    folder = Path(folder)
    path = folder / "annotations" / f"instances_{split}.json"
    places = [folder / "images" / split, folder / "semantic" / split]
    taken = [p for p in (path, *places) if p.exists()]
    if taken and not overwrite:
        raise DataError(f"{taken[0]} exists already; choose another folder, delete it, or ask to overwrite")
    ids = category_ids or getattr(dataset, "category_ids", range(1, len(dataset.classes) + 1))
    records, annotations = [], []
    with atomic(places[0]) as images, atomic(places[1]) as semantic:
        images.mkdir()
        semantic.mkdir()
        for index in tqdm(range(len(dataset)), desc=f"writing {split}", disable=None):
            record, own = _write_sample(dataset[index], images, semantic, ids)
            records.append(record)
            annotations += own
        path.unlink(missing_ok=True)
    if not any(places[1].iterdir()):
        places[1].rmdir()
    write_json(path, instances_json(records, annotations, categories(dataset.classes, ids)))


def _write_sample(
    sample: Sample, images: Path, semantic: Path, category_ids: Sequence[int]
) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """Write one sample's image and label map; its entries for the JSON."""
    name = f"{Path(sample.file_name).stem or f'{sample.image_id:06d}'}.png"
    with atomic(images / name) as temporary:
        Image.fromarray(sample.image.permute(1, 2, 0).numpy()).save(temporary, format="PNG", compress_level=1)
    if sample.true_semantic is not None:
        table = torch.full((256,), 256)  # what is no class fails in write_label_map
        table[: len(category_ids) + 1] = torch.tensor([BACKGROUND, *category_ids])
        table[IGNORE] = IGNORE
        write_label_map(semantic / name, table[sample.true_semantic.long()])
    record = {**image_record(sample), "file_name": name}
    if sample.tags is not None:
        record["tags"] = [category_ids[i] for i in sample.tags.nonzero()[:, 0].tolist()]
    own = [] if sample.truth is None else annotation_records(sample.truth, sample.image_id, category_ids)
    for key, labels in (("point", sample.points), ("extreme_points", sample.extreme_points)):
        clicks = {} if labels is None else dict(zip(labels.ids.tolist(), labels.xy.tolist(), strict=True))
        own = [{**a, key: clicks[a["id"]]} if a["id"] and a["id"] in clicks else a for a in own]
    return record, own
