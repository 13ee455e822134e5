"""Masks in the formats of other tools hold the same pixels."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from wsis.core.errors import DataError
from wsis.core.masks import RunLengths
from wsis.data.convert.readers import import_annotations
from wsis.data.export import check_place, joined, parts, write_masks

HEIGHT, WIDTH = 24, 32
CLASSES = [{"id": 4, "name": "cup"}, {"id": 9, "name": "plate"}]


def masks():
    """A ring whose hole has an object of its own class, two parts that touch at a corner, and a pixel at the border."""
    drawn = torch.zeros(4, HEIGHT, WIDTH, dtype=torch.bool)
    drawn[0, 2:20, 3:25] = True
    drawn[0, 6:15, 8:20] = False
    drawn[0, 9:12, 10:14] = True
    drawn[1, 0:5, 0:5] = drawn[1, 5:9, 5:9] = True
    drawn[2, HEIGHT - 1, WIDTH - 1] = True
    drawn[3] = torch.from_numpy(np.random.default_rng(0).random((HEIGHT, WIDTH)) > 0.4)
    return drawn


def records(drawn, image_id=1):
    runs = enumerate(RunLengths.of(drawn).entries)
    return [{"id": i + 1, "image_id": image_id, "category_id": 9, "segmentation": run} for i, run in runs]


def of_rings(rings):
    return RunLengths.read([[ring.ravel().tolist() for ring in rings]], (HEIGHT, WIDTH)).decode()[0]


@pytest.mark.parametrize("number", range(4))
def test_outlines_hold_the_pixels_of_the_mask(number):
    drawn = masks()[number]
    outlines = parts(records(drawn[None])[0])
    assert torch.equal(of_rings(outlines), drawn)
    assert torch.equal(of_rings([joined(outlines)]), drawn)


def written(tmp_path, format):
    images = [{"id": 1, "file_name": "a.jpg", "width": WIDTH, "height": HEIGHT}]
    images.append({"id": 2, "file_name": "b.jpg", "width": WIDTH, "height": HEIGHT})
    write_masks(tmp_path / "out", format, images, records(masks()[:2]), CLASSES, tmp_path, lambda m: {"masks": m})
    return tmp_path / "out"


def test_coco_with_polygons(tmp_path):
    rows = json.loads(written(tmp_path, "polygons").read_text())["masks"]
    assert torch.equal(RunLengths.read([r["segmentation"] for r in rows], (HEIGHT, WIDTH)).decode(), masks()[:2])


def test_yolo_has_a_line_for_each_object(tmp_path):
    out = written(tmp_path, "yolo")
    assert (out / "classes.txt").read_text() == "cup\nplate\n"
    assert (out / "b.txt").read_text() == ""
    lines = [line.split() for line in (out / "a.txt").read_text().splitlines()]
    assert [line[0] for line in lines] == ["1", "1"]
    for line, drawn in zip(lines, masks(), strict=False):
        ring = np.array(line[1:], dtype=float).reshape(-1, 2) * [WIDTH, HEIGHT]
        assert torch.equal(of_rings([ring]), drawn)


def test_labelme_is_read_again(tmp_path):
    from PIL import Image

    for name in ("a.jpg", "b.jpg"):
        Image.new("RGB", (WIDTH, HEIGHT)).save(tmp_path / name)
    import_annotations("labelme", written(tmp_path, "labelme"), tmp_path / "again")
    coco = json.loads((tmp_path / "again/annotations/instances_train.json").read_text())
    segmentations = [a["segmentation"] for a in coco["annotations"]]
    assert torch.equal(RunLengths.read(segmentations, (HEIGHT, WIDTH)).decode(), masks()[:2])


def test_two_images_of_one_stem(tmp_path):
    images = [{"id": i, "file_name": name, "width": 4, "height": 4} for i, name in enumerate(("a.jpg", "a.png"))]
    with pytest.raises(DataError, match="two images would both be written to .*a.txt"):
        write_masks(tmp_path / "out", "yolo", images, [], CLASSES, None, list)


def test_files_that_are_there_stay(tmp_path):
    (tmp_path / "a.json").write_text("mine")
    with pytest.raises(DataError, match="is not an empty folder"):
        check_place(tmp_path, "labelme")
    with pytest.raises(DataError, match="--out . would be replaced as a whole; name a folder"):
        check_place(Path(), "labelme")
    check_place(tmp_path / "new", "labelme")
    check_place(tmp_path / "a.json", "coco")
    with pytest.raises(DataError, match="is a folder, and coco writes one file"):
        check_place(tmp_path, "coco")
