"""Instances as COCO annotations, results and data sets; and one split on disk, whole or absent, whose JSON comes last."""

import os
import shutil
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

import torch
from PIL import Image
from torch import Tensor

from wsis.core.errors import DataError
from wsis.core.files import Entry, atomic, write_json
from wsis.core.report import progress, report
from wsis.core.types import NO_ID, Instances, Sample
from wsis.data.checks import file_name, read_coco
from wsis.data.images import map_name
from wsis.data.label_maps import write_label_map

Records = list[Entry]


def categories(classes: Sequence[str], category_ids: Sequence[int] | None = None) -> Records:
    """Return COCO's category list; without `category_ids` class label i gets id i + 1."""
    ids = range(1, len(classes) + 1) if category_ids is None else category_ids
    return [{"id": i, "name": name} for i, name in zip(ids, classes, strict=True)]


def image_record(sample: Sample) -> Entry:
    height, width = sample.size
    return {"id": sample.image_id, "file_name": sample.file_name, "width": width, "height": height}


def annotation_records(instances: Instances, image_id: int, category_ids: Sequence[int]) -> Records:
    """Describe one image's instances as COCO annotations with the category `category_ids[label]`; masks without a pixel are
    left out, and so is the `id` of an instance that has none.
    """
    runs = instances.runs
    boxes = torch.cat([runs.boxes[:, :2], runs.boxes[:, 2:] - runs.boxes[:, :2]], 1).float().tolist()
    columns = [v.tolist() for v in (instances.ids, instances.labels, instances.crowd.int(), instances.scores)]
    annotations = []
    for rle, box, area, i, label, crowd, score in zip(runs.entries, boxes, runs.areas.tolist(), *columns, strict=True):
        if area:
            references = {} if i == NO_ID else {"id": i}
            references |= {"image_id": image_id, "category_id": category_ids[label]}
            references["segmentation"] = {**rle}  # the caller's own: a changed run length would change the instance
            annotations.append(references | {"area": area, "bbox": box, "iscrowd": crowd, "score": round(score, 6)})
    return annotations


def result_records(instances: Instances, image_id: int, category_ids: Sequence[int], file_name: str = "") -> Records:
    """Describe one image's instances as COCO results, with `file_name` where given; empty masks are left out."""
    keys = ("image_id", "category_id", "segmentation", "score")
    extra = {"file_name": file_name} if file_name else {}
    return [{k: r[k] for k in keys} | extra for r in annotation_records(instances, image_id, category_ids)]


def instances_json(images: Records, annotations: Records, categories: Records) -> Entry:
    """Assemble a COCO data set; annotations keep their ids if all are known and unique, else they count from 1."""
    ids = {a.get("id") for a in annotations}
    if len(ids) < len(annotations) or None in ids:
        annotations = [{**a, "id": i} for i, a in enumerate(annotations, 1)]
    return {"images": images, "annotations": annotations, "categories": categories}


def write_instances(
    path: Path, predictions: Iterable[tuple[Sample, Instances]], classes: Sequence[str], category_ids: Sequence[int]
) -> int:
    """Write the masks of many images as one COCO data set, whole or not at all, and return the number of annotations."""
    images, annotations = [], []
    for sample, instances in predictions:
        images.append(image_record(sample))
        annotations += annotation_records(instances, sample.image_id, category_ids)
    write_json(path, instances_json(images, annotations, categories(classes, category_ids)))
    return len(annotations)


class ImageEntry(NamedTuple):
    """What is written of one image: pixels uint8 [3, H, W] or a file to link, label PNG integers [H, W], JSON entries."""

    name: str
    image: Tensor | Path
    values: Tensor | None
    record: Entry = {}
    annotations: Records = []


Sources = dict[Path, Callable[[], ImageEntry]]
"""Images, and what reads each with its labels."""


def places(folder: Path, split: str) -> tuple[Path, Path, Path]:
    """Return the folder of images, the folder of label PNGs and the JSON of a split."""
    return folder / "images" / split, folder / "semantic" / split, folder / "annotations" / f"instances_{split}.json"


def write_split(
    folder: Path, split: str, entries: Iterable[ImageEntry], categories: Records | None, total: int
) -> None:
    """Write one split beside its place, image by image, and rename it at the end; the JSON, if `categories`, comes last.
    What was interrupted leaves no split, and what a killed process left is removed.
    """
    images_place, maps_place, path = places(folder, split)
    for place in (images_place, maps_place):
        for rest in place.parent.glob(f".[0-9]*.{split}"):
            shutil.rmtree(rest)
    records, annotations = [], []
    with atomic(images_place) as images, atomic(maps_place) as maps:
        images.mkdir()
        maps.mkdir()
        for entry in progress(entries, f"writing {split}", total):
            if (images / entry.name).exists():
                raise DataError(f"{images_place}: two images would be named {entry.name}; rename one")
            (images / entry.name).parent.mkdir(parents=True, exist_ok=True)
            if isinstance(entry.image, Path):
                _link_or_copy(entry.image, images / entry.name)
            else:
                with atomic(images / entry.name) as temporary:
                    pixels = entry.image.permute(1, 2, 0).numpy()
                    Image.fromarray(pixels).save(temporary, format="PNG", compress_level=1)
            if entry.values is not None:
                write_label_map(maps / map_name(entry.name), entry.values)
            records.append(entry.record)
            annotations += entry.annotations
        path.unlink(missing_ok=True)
    if not any(maps_place.iterdir()):
        maps_place.rmdir()
    if categories is not None:
        write_json(path, instances_json(records, annotations, categories))


def write_missing(folder: Path, split: str, sources: Sources, published: int, categories: Records | None = None) -> int:
    """Write a split that is not there yet, and return its number of images, of which `published` are expected; raises
    DataError if other images are there, which nobody asked to replace.
    """
    names, (images, maps, path) = {image.stem for image in sources}, places(folder, split)
    if len(names) != published:
        report(f"warning: {split} has {len(names):,} images, published {published:,}; is all unpacked?")
    stems = [{p.stem for p in place.iterdir()} if place.is_dir() else set() for place in (images, maps)]
    if categories is not None and path.exists():
        stems.append({Path(file_name(image)).stem for image in read_coco(path)[0]["images"]})
    if not stems[0] | stems[1] <= names or any(listed != names for listed in stems[2:]):
        raise DataError(f"{folder} has other images as {split}; choose another folder, or delete that split there")
    if stems == [names] * (2 if categories is None else 3):
        place = images if categories is None else path
        report(f"{place} is there already, with these images; delete it to convert {split} again")
    else:
        write_split(folder, split, (read() for read in sources.values()), categories, len(names))
    return len(names)


def _link_or_copy(source: Path, target: Path) -> None:
    try:
        os.link(source.resolve(), target)
    except OSError:  # another disk, or a file system without links
        shutil.copyfile(source, target)
