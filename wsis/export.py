"""What leaves the package: masks as COCO JSON or COCO results, class maps as label PNGs."""

import colorsys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image, UnidentifiedImageError
from pycocotools import mask as coco_mask
from torch import Tensor

from wsis.data.masks import encode_masks
from wsis.errors import DataError
from wsis.files import atomic, write_json
from wsis.types import IGNORE, Instances, Sample


def categories(classes: Sequence[str], category_ids: Sequence[int] | None = None) -> list[dict[str, Any]]:
    """COCO's category list; without `category_ids` class label i gets id i + 1."""
    ids = range(1, len(classes) + 1) if category_ids is None else category_ids
    return [{"id": i, "name": name} for i, name in zip(ids, classes, strict=True)]


def image_record(sample: Sample) -> dict[str, Any]:
    """COCO's entry for the image of a sample."""
    height, width = sample.size
    return {"id": sample.image_id, "file_name": sample.file_name, "width": width, "height": height}


def annotation_records(
    instances: Instances, image_id: int, category_ids: Sequence[int] | None = None
) -> list[dict[str, Any]]:
    """COCO annotations (run length, area, box, iscrowd, score) of one image; masks without a pixel are left
    out.

    `id` is the instance's id, or 0 where it has none: `instances_json` numbers those. `category_ids[label]`
    is the category, by default label + 1.
    """
    rles: Any = encode_masks(instances.masks)
    if not rles:
        return []
    areas: Any = coco_mask.area(rles)
    rows = zip(
        rles,
        areas.tolist(),
        coco_mask.toBbox(rles).tolist(),
        instances.ids.tolist(),
        _category(instances.labels, category_ids),
        instances.crowd.tolist(),
        instances.scores.tolist(),
        strict=True,
    )
    return [
        {
            "id": i,
            "image_id": image_id,
            "category_id": category,
            "segmentation": rle,
            "area": area,
            "bbox": box,
            "iscrowd": int(crowd),
            "score": round(score, 6),
        }
        for rle, area, box, i, category, crowd, score in rows
        if area
    ]


def result_records(
    instances: Instances, image_id: int, category_ids: Sequence[int] | None = None, file_name: str = ""
) -> list[dict[str, Any]]:
    """COCO results of one image, with `file_name` where given; empty masks are left out."""
    kept = ("image_id", "category_id", "segmentation", "score")
    extra = {"file_name": file_name} if file_name else {}
    return [{k: r[k] for k in kept} | extra for r in annotation_records(instances, image_id, category_ids)]


def instances_json(
    images: Iterable[dict[str, Any]],
    annotations: Iterable[dict[str, Any]],
    categories: Iterable[dict[str, Any]],
) -> dict[str, Any]:
    """A COCO data set; annotations keep their ids if all are known and unique, else they count from 1."""
    annotations = list(annotations)
    ids = {a["id"] for a in annotations}
    if len(ids) < len(annotations) or 0 in ids:
        annotations = [{**a, "id": i} for i, a in enumerate(annotations, 1)]
    return {"images": list(images), "annotations": annotations, "categories": list(categories)}


def write_instances(
    path: Path | str,
    predictions: Iterable[tuple[Sample, Instances]],
    classes: Sequence[str],
    category_ids: Sequence[int] | None = None,
) -> int:
    """Write masks of many images as one COCO data set, whole or not at all; the number of annotations."""
    images, annotations = [], []
    for sample, instances in predictions:
        images.append(image_record(sample))
        annotations += annotation_records(instances, sample.image_id, category_ids)
    write_json(path, instances_json(images, annotations, categories(classes, category_ids)))
    return len(annotations)


def write_results(
    path: Path | str,
    predictions: Iterable[tuple[Sample, Instances]],
    category_ids: Sequence[int] | None = None,
) -> int:
    """Write scored masks of many images in COCO results format, whole or not at all; the number of masks."""
    results = []
    for sample, instances in predictions:
        results += result_records(instances, sample.image_id, category_ids, sample.file_name)
    write_json(path, results)
    return len(results)


def _category(labels: Tensor, category_ids: Sequence[int] | None) -> list[int]:
    return (
        [i + 1 for i in labels.tolist()]
        if category_ids is None
        else [category_ids[i] for i in labels.tolist()]
    )


def palette() -> list[int]:
    """768 numbers, RGB for 0..255: background dark, ignore light grey, classes by the golden angle of hue."""
    colors = [(0.12, 0.13, 0.16)]
    for i in range(1, IGNORE):
        lightness = (0.58, 0.44, 0.72)[i % 3]
        colors.append(colorsys.hls_to_rgb(0.55 + 0.618034 * i, lightness, 0.62))
    colors.append((0.88, 0.88, 0.86))
    return [round(255 * channel) for color in colors for channel in color]


PALETTE = palette()


def write_label_map(path: Path | str, label_map: Tensor) -> None:
    """Write integers 0..255 [H, W] as a PNG whose pixels are the values and whose colors are for the eye.

    Raises:
        DataError: values that do not fit in 8 bits.
        DiskSpaceError: the disk is full.
    """
    values = label_map.cpu().numpy()
    if values.size and (values.min() < 0 or values.max() > IGNORE):
        raise DataError(f"{path}: label {values.min()}..{values.max()} does not fit a label PNG; use 0..255")
    picture = Image.fromarray(values.astype(np.uint8), mode="L")
    picture.putpalette(PALETTE)
    with atomic(path) as temporary:
        picture.save(temporary, format="PNG", compress_level=3)


def read_label_map(path: Path | str) -> Tensor:
    """The values of a label PNG, uint8 [H, W], whatever its palette.

    Raises:
        DataError: missing, unreadable, or a picture in colors instead of values.
    """
    try:
        with Image.open(path) as picture:
            if picture.mode not in ("P", "L", "1"):
                raise DataError(
                    f"{path} is a picture of mode {picture.mode}; write class numbers as an 8-bit PNG"
                )
            return torch.from_numpy(np.array(picture, dtype=np.uint8))
    except FileNotFoundError:
        raise DataError(f"{path} does not exist; every image needs its label map") from None
    except (OSError, SyntaxError, UnidentifiedImageError) as error:
        raise DataError(f"{path} cannot be read as a label map ({error}); write it again") from error
