"""Instances as COCO annotations, COCO results and COCO data sets."""

from collections.abc import Iterable, Sequence
from pathlib import Path

import torch

from wsis.core.files import Entry, write_json
from wsis.core.types import NO_ID, Instances, Sample

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
