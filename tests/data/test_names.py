"""Names with accents: a JSON may hold them in composed characters (most systems), and the disk in decomposed ones (macOS)."""

import json
import unicodedata

import pytest
import torch
from PIL import Image

from tests.data.coco_example import HEIGHT, WIDTH, example, make, write
from wsis.core.errors import DataError
from wsis.core.files import read_json
from wsis.data.coco import CocoFolder, find_records
from wsis.data.convert.readers import import_annotations
from wsis.data.images import ImageFolder, find_files
from wsis.data.label_file import LabelFile
from wsis.data.label_maps import write_label_map
from wsis.data.semantic import SemanticFolder
from wsis.evaluation.files import measure

COMPOSED = "caf\u00e9.png"
DECOMPOSED = unicodedata.normalize("NFD", COMPOSED)
BOTH_WAYS = pytest.mark.parametrize(("listed", "stored"), [(COMPOSED, DECOMPOSED), (DECOMPOSED, COMPOSED)])


def skip_where_they_are_one_name(folder):
    (folder / COMPOSED).touch()
    if (folder / DECOMPOSED).exists():
        pytest.skip("this disk takes both for one name")
    (folder / COMPOSED).unlink()


def accented(folder, listed, stored):
    """The example with the image 7 of the name `listed` in the JSON and `stored` on the disk."""
    make(folder)
    data = example()
    data["images"][0]["file_name"] = listed
    write(folder, data)
    (folder / "images/train/a.png").rename(folder / "images/train" / stored)


@BOTH_WAYS
def test_images_are_found(tmp_path, listed, stored):
    accented(tmp_path, listed, stored)
    write_label_map(tmp_path / "semantic/train" / listed, torch.full((HEIGHT, WIDTH), 5))
    dataset = CocoFolder(tmp_path)
    assert dataset.dropped == []
    assert dataset[0].file_name == stored and (dataset[0].true_semantic == 2).all()


@BOTH_WAYS
def test_predicted_images_have_their_records(tmp_path, listed, stored):
    accented(tmp_path, listed, stored)
    images = ImageFolder(tmp_path / "images/train")
    assert find_records(images)
    assert {sample.file_name: sample.image_id for sample in images} == {stored: 7, "b.png": 9}


@BOTH_WAYS
def test_labels_are_shown_on_their_image(tmp_path, listed, stored):
    accented(tmp_path, listed, stored)
    labels = LabelFile(tmp_path / "images/train", tmp_path / "annotations/instances_train.json")
    assert labels.missing == 0 and labels.names == [stored, "b.png"]
    assert [a["id"] for a in labels.annotations(stored)] == [1, 2, 3, 4]


@BOTH_WAYS
def test_class_maps_are_found(tmp_path, listed, stored):
    (tmp_path / "images/train").mkdir(parents=True)
    Image.new("RGB", (3, 2)).save(tmp_path / "images/train" / stored)
    write_label_map(tmp_path / "semantic/train" / listed, torch.full((2, 3), 4))
    (tmp_path / "semantic/categories.json").write_text(json.dumps([{"id": 4, "name": "cat"}]))
    assert (SemanticFolder(tmp_path)[0].true_semantic == 1).all()
    write_label_map(tmp_path / "predicted" / stored, torch.full((2, 3), 4))
    assert measure("semantic", tmp_path / "predicted", tmp_path / "semantic/train")["mIoU"] == 1


@BOTH_WAYS
@pytest.mark.parametrize("folder", ["", "photos"])
def test_images_of_an_export_are_found(tmp_path, listed, stored, folder):
    (tmp_path / folder).mkdir(exist_ok=True)
    Image.new("RGB", (WIDTH, HEIGHT)).save(tmp_path / folder / stored)
    shape = {"label": "cup", "shape_type": "point", "points": [[3, 4]]}
    content = {"shapes": [shape], "imagePath": listed, "imageWidth": WIDTH, "imageHeight": HEIGHT}
    (tmp_path / "a.json").write_text(json.dumps(content))
    import_annotations("labelme", tmp_path / "a.json", tmp_path / "out", tmp_path)
    (record,) = read_json(tmp_path / "out/annotations/instances_train.json")["images"]
    assert unicodedata.normalize("NFC", record["file_name"].split("/")[-1]) == COMPOSED
    assert CocoFolder(tmp_path / "out")[0].points.xy.tolist() == [[3, 4]]


def test_of_two_spellings_on_the_disk_the_exact_one_counts(tmp_path):
    skip_where_they_are_one_name(tmp_path)
    for name in (COMPOSED, DECOMPOSED):
        (tmp_path / name).touch()
    assert find_files([COMPOSED, DECOMPOSED], tmp_path) == {name: name for name in (COMPOSED, DECOMPOSED)}
    mixed = "cafe\u0301\u0327.png"  # three spellings of one letter, of which the third is asked for
    for name in ("cafȩ\u0301.png", "caf\u00e9\u0327.png"):
        (tmp_path / name).touch()
    with pytest.raises(DataError, match="fits two files of .*; rename one of them"):
        find_files([mixed], tmp_path)


def test_two_records_of_one_name_are_refused(tmp_path):
    skip_where_they_are_one_name(tmp_path)
    make(tmp_path)
    data = example()
    for image, name in zip(data["images"], (COMPOSED, DECOMPOSED), strict=True):
        (tmp_path / "images/train" / image["file_name"]).rename(tmp_path / "images/train" / name)
        image["file_name"] = name
    write(tmp_path, data)
    with pytest.raises(DataError, match="two images share a name but for how its accents are encoded"):
        CocoFolder(tmp_path)
