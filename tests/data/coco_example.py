"""A small COCO folder that is sound, and ways to spoil it."""

import json

import numpy as np
import torch
from PIL import Image
from pycocotools import mask as coco_mask

from wsis.core.masks import RunLengths

HEIGHT, WIDTH = 20, 30


def run_length(top, left, bottom, right):
    mask = torch.zeros(1, HEIGHT, WIDTH, dtype=torch.bool)
    mask[0, top:bottom, left:right] = True
    return RunLengths.of(mask).entries[0]


def plain_counts(rle):
    """The same run length with its counts as numbers."""
    flat = coco_mask.decode(rle).T.ravel()
    edges = np.flatnonzero(np.diff(flat)) + 1
    return {"size": rle["size"], "counts": np.diff([0, *edges, flat.size]).tolist()}


def example():
    """Two images; polygons, both run lengths and a crowd in the first, nothing in the second."""
    polygon = [[2, 3, 12, 3, 12, 9, 2, 9]]
    return {
        "images": [
            {"id": 7, "file_name": "a.png", "height": HEIGHT, "width": WIDTH},
            {"id": 9, "file_name": "b.png", "height": HEIGHT, "width": WIDTH},
        ],
        "annotations": [
            {"id": 1, "image_id": 7, "category_id": 5, "segmentation": polygon, "iscrowd": 0, "bbox": [2, 3, 10, 6]},
            {"id": 2, "image_id": 7, "category_id": 2, "segmentation": run_length(5, 8, 9, 11)},
            {"id": 3, "image_id": 7, "category_id": 5, "segmentation": plain_counts(run_length(12, 1, 19, 9))},
            {"id": 4, "image_id": 7, "category_id": 2, "segmentation": run_length(2, 8, 16, 28), "iscrowd": 1},
        ],
        "categories": [{"id": 5, "name": "dog"}, {"id": 2, "name": "cat"}],
    }


def make(folder):
    """Write the example with noise for images."""
    (folder / "images" / "train").mkdir(parents=True)
    (folder / "annotations").mkdir()
    generator = np.random.default_rng(0)
    for name in ("a.png", "b.png"):
        pixels = generator.integers(0, 256, (HEIGHT, WIDTH, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / "images" / "train" / name)
    write(folder, example())


def write(folder, data):
    (folder / "annotations" / "instances_train.json").write_text(json.dumps(data))


def changed(folder, section, index, **values):
    """Write the example with some values of one entry replaced; None removes the key."""
    data = example()
    entry = data[section][index]
    entry.update(values)
    data[section][index] = {k: v for k, v in entry.items() if v is not None}
    write(folder, data)
