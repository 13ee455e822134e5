"""What leaves the package: records that pycocotools reads, and label PNGs."""

import numpy as np
import pytest
import torch
from PIL import Image
from pycocotools.coco import COCO

from wsis.core.errors import DataError
from wsis.core.files import read_json, write_json
from wsis.core.types import IGNORE, Instances, Sample
from wsis.data.label_maps import PALETTE, read_label_map, write_label_map
from wsis.data.masks import paint_semantic
from wsis.data.write import annotation_records, instances_json, result_records, write_instances


@pytest.fixture
def instances():
    masks = torch.zeros(4, 6, 8, dtype=torch.bool)
    masks[0, 1:3, 2:7], masks[1, 4, 0], masks[3, :, 7] = True, True, True
    return Instances.make(
        masks,
        torch.tensor([0, 2, 1, 1]),
        scores=torch.tensor([0.5, 1.0, 0.9, 0.25]),
        ids=torch.tensor([8, 9, 10, 11]),
        crowd=torch.tensor([False, False, False, True]),
    )


def test_annotation_has_box_area_and_category(instances):
    records = annotation_records(instances, 3, category_ids=[7, 17, 70])
    assert [r["id"] for r in records] == [8, 9, 11]  # the empty mask is left out
    assert [r["category_id"] for r in records] == [7, 70, 17]
    assert [r["area"] for r in records] == [10, 1, 6]
    assert [r["bbox"] for r in records] == [[2, 1, 5, 2], [0, 4, 1, 1], [7, 0, 1, 6]]
    assert [r["iscrowd"] for r in records] == [0, 0, 1]
    assert [r["score"] for r in records] == [0.5, 1.0, 0.25]


def test_no_instances_give_no_records():
    assert annotation_records(Instances.none(4, 5), 1, (1, 2, 3)) == []


@pytest.mark.parametrize(("ids", "expected"), [([5, 9], [5, 9]), ([5, 5], [1, 2]), ([0, 9], [0, 9])])
def test_annotation_ids_stay_where_they_are_unique(ids, expected):
    data = instances_json([], [{"id": i} for i in ids], [])
    assert [a["id"] for a in data["annotations"]] == expected


def test_files_load_in_pycocotools(tmp_path, instances):
    sample = Sample(image=torch.zeros(3, 6, 8, dtype=torch.uint8), image_id=3, file_name="a.png")
    assert write_instances(tmp_path / "gt.json", [(sample, instances)], ("a", "b", "c"), (1, 2, 3)) == 3
    write_json(tmp_path / "dt.json", result_records(instances, 3, (1, 2, 3), "a.png"))
    truth = COCO(str(tmp_path / "gt.json"))
    found = truth.loadRes(str(tmp_path / "dt.json"))
    for data in (truth, found):
        masks = [data.annToMask(a) for a in data.loadAnns(data.getAnnIds())]
        assert np.array_equal(np.stack(masks), instances.masks[[0, 1, 3]].numpy())
    assert read_json(tmp_path / "dt.json")[0]["file_name"] == "a.png"


def test_label_map_survives(tmp_path):
    values = torch.arange(256, dtype=torch.uint8).reshape(8, 32)
    write_label_map(tmp_path / "a.png", values)
    assert torch.equal(read_label_map(tmp_path / "a.png"), values)


def test_label_map_has_colors(tmp_path):
    write_label_map(tmp_path / "a.png", torch.tensor([[0, 1], [2, IGNORE]]))
    with Image.open(tmp_path / "a.png") as picture:
        assert picture.mode == "P"
        assert picture.convert("RGB").getpixel((1, 0)) == tuple(PALETTE[3:6])


def test_first_colors_are_far_apart():
    colors = np.array(PALETTE).reshape(-1, 3)[:21].astype(float)
    distance = np.linalg.norm(colors[:, None] - colors[None], axis=-1) + 1000 * np.eye(21)
    assert distance.min() > 30


def test_label_out_of_range_is_named(tmp_path):
    with pytest.raises(DataError, match="a.png: label 0..256 does not fit"):
        write_label_map(tmp_path / "a.png", torch.tensor([[0, 256]]))


def test_colored_picture_is_no_label_map(tmp_path):
    Image.new("RGB", (3, 3)).save(tmp_path / "a.png")
    with pytest.raises(DataError, match="a.png is an image of mode RGB; write class numbers"):
        read_label_map(tmp_path / "a.png")


def test_truncated_label_map(tmp_path):
    write_label_map(tmp_path / "a.png", torch.randint(0, 9, (64, 64)))
    data = (tmp_path / "a.png").read_bytes()
    (tmp_path / "a.png").write_bytes(data[: len(data) // 2])
    with pytest.raises(DataError, match="a.png cannot be read as a label map"):
        read_label_map(tmp_path / "a.png")


def test_smaller_objects_are_painted_on_top_and_crowds_below():
    masks = torch.zeros(3, 4, 6, dtype=torch.bool)
    masks[0, 1, 1:3], masks[1, 0:3, 0:4], masks[2, :, 2] = True, True, True
    crowd = torch.tensor([False, False, True])
    painted = paint_semantic(Instances.make(masks, torch.tensor([4, 1, 0]), crowd=crowd))
    assert painted.tolist() == [[2, 2, 2, 2, 0, 0], [2, 5, 5, 2, 0, 0], [2, 2, 2, 2, 0, 0], [0, 0, IGNORE, 0, 0, 0]]


def test_nothing_is_painted_as_background():
    assert paint_semantic(Instances.none(3, 4)).tolist() == [[0] * 4] * 3


def test_records_may_be_changed_without_changing_the_instances(instances):
    before = [dict(entry) for entry in instances.runs.entries]
    for record in (*annotation_records(instances, 1, (1, 2, 3)), *result_records(instances, 1, (1, 2, 3))):
        record["segmentation"]["counts"] = "cut"
    assert instances.runs.entries == before
