"""Measures of single objects, on masks whose answer is known."""

import json
import math

import pytest
import torch

from wsis.core.errors import DataError
from wsis.core.types import Instances
from wsis.data.label_maps import write_label_map
from wsis.data.write import annotation_records, categories, instances_json, result_records
from wsis.evaluation.files import measure, semantic
from wsis.evaluation.instances import iou_by_size, recall, separated, voc_ap


def blocks(*boxes, size=128):
    """Masks of boxes (x0, y0, x1, y1); a list of boxes is one mask."""
    masks = torch.zeros(len(boxes), size, size, dtype=torch.bool)
    for mask, parts in zip(masks, boxes, strict=True):
        for x0, y0, x1, y1 in parts if isinstance(parts, list) else [parts]:
            mask[y0:y1, x0:x1] = True
    return masks


def objects(*boxes, labels=None, scores=None, ids=None):
    n = len(boxes)
    return Instances.make(
        blocks(*boxes),
        torch.tensor(labels or [0] * n, dtype=torch.long),
        scores=None if scores is None else torch.tensor(scores),
        ids=torch.tensor(ids or list(range(1, n + 1))),
    )


def test_each_mask_is_compared_with_the_object_of_its_id():
    truth = objects((0, 0, 20, 20), (0, 0, 20, 40))
    swapped = objects((0, 0, 20, 40), (0, 0, 20, 20), ids=[2, 1])
    assert iou_by_size([swapped], [truth])["mIoU"] == 1


def test_sizes_are_those_of_the_truth_and_lost_masks_count_zero():
    truth = objects((0, 0, 32, 32), (0, 0, 33, 32), (0, 0, 100, 100))
    pseudo = objects((0, 0, 16, 32), (0, 0, 33, 32), ids=[1, 2])
    found = iou_by_size([pseudo], [truth])
    assert (found["mIoU_small"], found["mIoU_medium"], found["mIoU_large"]) == (0.5, 1.0, 0.0)
    assert found["mIoU"] == pytest.approx(0.5)


def test_the_mean_is_over_classes_first():
    truth = objects((0, 0, 20, 20), (0, 0, 30, 30), (0, 0, 40, 40), labels=[0, 1, 1])
    pseudo = objects((0, 0, 20, 20), ids=[1])
    assert iou_by_size([pseudo], [truth])["mIoU"] == pytest.approx(0.5)


def test_nothing_to_measure_is_nan():
    assert all(math.isnan(v) for v in iou_by_size([], []).values())


def test_pieces_count_only_if_they_are_large():
    masks = blocks(
        [(0, 0, 20, 20), (40, 0, 60, 20)],  # two halves
        [(0, 0, 20, 20), (40, 0, 42, 2)],  # a crumb
        (0, 0, 20, 20),
        [(0, 0, 20, 20), (20, 20, 40, 40)],  # they touch at a corner
    )
    labels, crowd = torch.zeros(4, dtype=torch.long), torch.ones(4, dtype=torch.bool)
    assert separated(Instances.make(masks, labels)).tolist() == [True, False, False, False]
    assert not separated(Instances.make(masks, labels, crowd=crowd)).any()
    assert separated(Instances.make(masks[:0], labels[:0])).tolist() == []


@pytest.mark.parametrize(
    ("label", "score", "width", "hit"),
    [(0, 0.3, 76, True), (1, 0.9, 100, False), (0, 0.29, 100, False), (0, 0.9, 74, False)],
)
def test_recall_asks_for_class_score_and_overlap(label, score, width, hit):
    truth = objects((0, 0, 100, 10))
    assert recall([objects((0, 0, width, 10), labels=[label], scores=[score])], [truth]) == hit


def test_recall_of_nothing():
    nobody = objects((0, 0, 5, 5))[:0]
    assert math.isnan(recall([nobody], [nobody]))
    assert recall([nobody], [objects((0, 0, 5, 5))]) == 0


@pytest.fixture
def files(tmp_path):
    """A prediction that finds the object in two pieces but not the whole one."""
    truth = objects([(0, 0, 20, 20), (40, 0, 60, 20)], (0, 60, 20, 80))
    image = {"id": 7, "file_name": "a.png", "width": 128, "height": 128}
    (tmp_path / "truth.json").write_text(
        json.dumps(instances_json([image], annotation_records(truth, 7, (1,)), categories(["cat"])))
    )
    (tmp_path / "found.json").write_text(json.dumps(result_records(truth[:1], 7, (1,))))
    return tmp_path


def test_files_choose_the_objects_in_pieces(files):
    assert measure("separated", files / "found.json", files / "truth.json") == {"separated_recall": 1.0, "objects": 1.0}


def test_files_take_a_list_of_objects(files):
    whole = annotation_records(objects((0, 60, 20, 80)), 7, (1,))[0]["segmentation"]
    (files / "list.json").write_text(json.dumps([["a.png", "cat", [0, 60, 20, 20], whole]]))
    found = measure("separated", files / "found.json", files / "truth.json", objects=files / "list.json")
    assert found == {"separated_recall": 0.0, "objects": 1.0}


@pytest.mark.parametrize("row", [["b.png", "cat", None], ["a.png", "dog", None], ["a.png"], ["a.png", "cat", "none"]])
def test_a_wrong_row_is_named(files, row):
    (files / "list.json").write_text(json.dumps([row]))
    with pytest.raises(DataError, match="row 0"):
        measure("separated", files / "found.json", files / "truth.json", objects=files / "list.json")


def test_files_of_pseudo_masks_are_matched_by_id(files):
    truth = json.loads((files / "truth.json").read_text())
    (files / "pseudo.json").write_text(json.dumps({**truth, "annotations": truth["annotations"][:1]}))
    assert measure("pseudo", files / "pseudo.json", files / "truth.json")["mIoU"] == 0.5
    with pytest.raises(DataError, match="without ids"):
        measure("pseudo", files / "found.json", files / "truth.json")


def test_ids_from_0_are_matched(files):
    truth = json.loads((files / "truth.json").read_text())
    for i, annotation in enumerate(truth["annotations"]):
        annotation["id"] = i
    (files / "truth.json").write_text(json.dumps(truth))
    assert measure("pseudo", files / "truth.json", files / "truth.json")["mIoU"] == 1


@pytest.mark.parametrize("wrong", [{"image_id": [7]}, {"category_id": None}, {"score": None}, {"segmentation": None}])
def test_results_of_wrong_types_are_named(files, wrong):
    results = json.loads((files / "found.json").read_text())
    (files / "found.json").write_text(json.dumps([{**results[0], **wrong}]))
    if "score" in wrong:  # absent: a score of 1
        assert measure("coco", files / "found.json", files / "truth.json")
        return
    with pytest.raises(DataError, match="record 0"):
        measure("coco", files / "found.json", files / "truth.json")


def test_a_name_in_two_folders_needs_its_folder(files):
    truth = json.loads((files / "truth.json").read_text())
    truth["images"] = [
        {**truth["images"][0], "id": i, "file_name": f"{d}/a.png"} for i, d in ((7, "left"), (8, "right"))
    ]
    (files / "truth.json").write_text(json.dumps(truth))
    run = truth["annotations"][0]["segmentation"]
    (files / "list.json").write_text(json.dumps([["left/a.png", "cat", run]]))
    found = measure("separated", files / "found.json", files / "truth.json", objects=files / "list.json")
    assert found == {"separated_recall": 1.0, "objects": 1.0}
    (files / "list.json").write_text(json.dumps([["a.png", "cat", run]]))
    with pytest.raises(DataError, match="not in the truth, or not once"):
        measure("separated", files / "found.json", files / "truth.json", objects=files / "list.json")


@pytest.fixture
def maps(tmp_path):
    for side, values in (("truth", [[0, 1, 2]]), ("found", [[0, 1, 2]])):
        write_label_map(tmp_path / side / "left/a.png", torch.tensor(values))
    return tmp_path


def test_label_maps_of_subfolders_are_compared(maps):
    assert semantic(maps / "found", maps / "truth")["mIoU"] == 1


@pytest.mark.parametrize("side", ["found", "truth"])
def test_masks_of_0_and_255_are_no_label_maps(maps, side):
    write_label_map(maps / side / "left/a.png", torch.tensor([[0, 255, 255]]))
    with pytest.raises(DataError, match=f"{side}: the label maps hold 0 and 255 alone"):
        semantic(maps / "found", maps / "truth")


def test_predicted_classes_that_never_occur_are_reported(maps, capsys):
    write_label_map(maps / "found/left/a.png", torch.tensor([[0, 1, 7]]))
    semantic(maps / "found", maps / "truth")
    assert "has the classes [7]" in capsys.readouterr().out


@pytest.mark.parametrize("name", ["a.png", "images\\a.png"])
def test_a_data_set_is_compared_by_its_names(files, name):
    """Another tool may number images and classes in another way."""
    truth = json.loads((files / "truth.json").read_text())
    other = json.loads((files / "truth.json").read_text())
    other["images"][0] |= {"id": 99, "file_name": name}
    other["categories"] = [{**c, "id": c["id"] + 50} for c in reversed(truth["categories"])]
    other["annotations"] = [{**a, "image_id": 99, "category_id": a["category_id"] + 50} for a in truth["annotations"]]
    (files / "other.json").write_text(json.dumps(other))
    assert measure("voc", files / "other.json", files / "truth.json")["mAP50"] == 1


@pytest.mark.parametrize(
    ("wrong", "message"), [("file_name", "z.png is not in the truth"), ("name", "the class 'owl'")]
)
def test_a_name_that_the_truth_does_not_have_is_no_matter_of_numbers(files, wrong, message):
    other = json.loads((files / "truth.json").read_text())
    entry = other["images" if wrong == "file_name" else "categories"][0]
    entry[wrong] = "z.png" if wrong == "file_name" else "owl"
    (files / "other.json").write_text(json.dumps(other))
    with pytest.raises(DataError, match=message):
        measure("voc", files / "other.json", files / "truth.json")


def test_masks_without_ids_match_nothing():
    masks = Instances.make(blocks((0, 0, 20, 20), (40, 40, 60, 60)), torch.zeros(2))
    assert iou_by_size([masks], [masks])["mIoU"] == 0


def test_a_label_beyond_the_classes_is_refused():
    with pytest.raises(ValueError, match="label 5 is beyond 2 classes"):
        voc_ap([objects((0, 0, 9, 9), labels=[1])], [objects((0, 0, 9, 9), labels=[5])], 2)
