"""Clicks and boxes as people bring them: keypoints, clicks on the border, boxes alone, some masks and many clicks."""

import pytest

from tests.data.coco_example import HEIGHT, WIDTH, example, make, write
from wsis.core.errors import AnnotationError, DataError
from wsis.data.coco import CocoFolder
from wsis.weak import clicked, open_data

IMAGE = {"image_id": 7, "category_id": 5}


@pytest.fixture
def folder(tmp_path):
    make(tmp_path)
    return tmp_path


def annotated(folder, *annotations, categories=None):
    data = example()
    data["annotations"] = [{"id": i, **IMAGE, **a} for i, a in enumerate(annotations, 1)]
    data["categories"] = categories or data["categories"]
    write(folder, data)
    return folder


@pytest.mark.parametrize(
    "click",
    [
        {"keypoints": [4.5, 6, 2], "num_keypoints": 1, "bbox": [4.5, 6, 0, 0], "segmentation": [], "area": 0},
        {"keypoints": [4.5, 6, 2], "bbox": None, "segmentation": None},
        {"segmentation": [[4.5, 6]], "bbox": [4.5, 6, 0, 0]},
        {"point": [4.5, 6], "segmentation": [], "bbox": []},
    ],
)
def test_exported_clicks_are_clicks(folder, click):
    sample = CocoFolder(annotated(folder, click))[0]
    assert sample.points.xy.tolist() == [[4.5, 6]]
    assert sample.truth is None


def test_keypoints_that_nobody_saw_are_no_click(folder):
    with pytest.raises(DataError, match="bbox .* has no area; .*a click"):
        CocoFolder(annotated(folder, {"keypoints": [4.5, 6, 0], "bbox": [4.5, 6, 0, 0]}))


def test_four_named_keypoints_are_extreme_points(folder):
    names = ["left", "top", "right", "bottom"]
    keypoints = [2, 5, 2, 5, 3, 2, 11, 5, 2, 5, 8, 1]
    dog = [{"id": 5, "name": "dog", "keypoints": names}]
    sample = CocoFolder(annotated(folder, {"keypoints": keypoints}, categories=dog))[0]
    assert sample.extreme_points.xy.tolist() == [[[5, 3], [2, 5], [5, 8], [11, 5]]]


def test_a_click_on_the_border_counts_for_the_last_pixel(folder):
    sample = CocoFolder(annotated(folder, {"point": [WIDTH, 3]}, {"point": [-0.5, HEIGHT]}))[0]
    assert sample.points.xy.tolist() == [[WIDTH - 1, 3], [0, HEIGHT - 1]]


def test_a_click_outside_can_be_left_out_and_its_mask_stays(folder):
    wrong, mask = {"point": [WIDTH + 2, 3]}, [[2, 3, 12, 3, 12, 9, 2, 9]]
    annotated(folder, wrong, {"point": [3, 4]}, {**wrong, "segmentation": mask})
    with pytest.raises(AnnotationError, match="outside its image .*another image.*--drop-invalid"):
        CocoFolder(folder)
    data = CocoFolder(folder, drop_invalid=True)
    assert len(data.dropped) == 2
    assert data[0].points.ids.tolist() == [2]
    assert data[0].truth.ids.tolist() == [3]


def test_the_click_of_a_broken_shape_stays(folder):
    annotated(folder, {"point": [3, 4], "segmentation": [[1, 2, 3, 4]]}, {"segmentation": [[1, 2, 3, 4]]})
    data = CocoFolder(folder, drop_invalid=True)
    assert (len(data.dropped), data[0].points.ids.tolist()) == (2, [1])


def test_boxes_alone(folder):
    annotated(folder, {"bbox": [2.5, 3, 10, 6], "segmentation": []}, {"bbox": [0, 0, 30, 20], "iscrowd": 1})
    train = open_data(str(folder), "tiny", clicks="boxes").train
    assert train[0].extreme_points.boxes.tolist() == [[2.5, 3, 12.5, 9]]
    assert len(train[1].extreme_points) == 0


@pytest.mark.parametrize("click", [{"point": [3, 4]}, {"extreme_points": [[5, 2], [2, 5], [5, 8], [8, 5]]}])
def test_clicks_on_crowds_are_of_no_object(folder, click):
    annotated(folder, click, {**click, "iscrowd": 1})
    sample, (key,) = CocoFolder(folder)[0], click
    clicks = sample.points if key == "point" else sample.extreme_points
    assert clicks.ids.tolist() == [1]


def test_boxes_of_another_image(folder):
    annotated(folder, {"bbox": [60, 3, 10, 6]})
    with pytest.raises(AnnotationError, match="annotation 1: bbox .* is outside its image of 30 x 20"):
        CocoFolder(folder, boxes=True)
    data = CocoFolder(folder, boxes=True, drop_invalid=True)
    assert len(data.dropped) == 1
    assert len(data.extreme_points(0) or ()) == 0


def test_boxes_that_are_there_are_offered(folder):
    annotated(folder, {"bbox": [2, 3, 10, 6]})
    with pytest.raises(DataError, match="neither extreme points nor masks.*supervision=boxes"):
        open_data(str(folder), "tiny", clicks="extreme_points")


def test_some_masks_and_many_clicks(folder):
    mask = [[2, 3, 12, 3, 12, 9, 2, 9]]
    annotated(folder, {"segmentation": mask}, {"point": [20, 4]}, {"point": [25, 9], "image_id": 9}, {"image_id": 9})
    data, note = clicked(CocoFolder(folder), "train", "mask_centroid")
    assert "for 1 of 3 objects" in note
    assert "1 objects of train have neither points nor masks" in note
    assert sorted(data[0].points.ids.tolist()) == [1, 2]
    assert data[1].points.ids.tolist() == [3]


def test_some_masks_and_many_boxes(folder):
    mask = [[2, 3, 12, 3, 12, 9, 2, 9]]
    annotated(folder, {"segmentation": mask}, {"bbox": [20, 4, 3, 5]}, {"bbox": [1, 1, 3, 5], "image_id": 9})
    data, _ = clicked(CocoFolder(folder, boxes=True), "train", "boxes")
    boxes = dict(zip(data[0].extreme_points.ids.tolist(), data[0].extreme_points.boxes.tolist(), strict=True))
    assert boxes == {1: [2, 3, 12, 9], 2: [20, 4, 23, 9]}
    assert data[1].extreme_points.boxes.tolist() == [[1, 1, 4, 6]]


def test_masks_alone_and_images_without_any(folder):
    annotated(folder, {"segmentation": [[2, 3, 12, 3, 12, 9, 2, 9]]}, {"image_id": 9})
    data, _ = clicked(CocoFolder(folder), "train", "box_center")
    assert [len(data[i].points) for i in range(2)] == [1, 0]


@pytest.mark.parametrize(
    ("labels", "clicks", "learner"),
    [
        ({"point": [3, 4]}, "extreme_points", "attentionshift"),
        ({"bbox": [20, 4, 3, 5]}, "box_center", "exits --set supervision=boxes"),
        ({}, "boxes", "bestie"),
    ],
)
def test_what_is_there_names_the_method_that_learns_from_it(folder, labels, clicks, learner):
    annotated(folder, labels)
    with pytest.raises(DataError, match=f"or learn from what is there: train {learner}$"):
        open_data(str(folder), "tiny", clicks=clicks)


@pytest.mark.parametrize("clicks", ["box_center", "extreme_points", "boxes", None])
def test_images_that_nobody_has_labeled_are_refused(folder, clicks):
    annotated(folder)
    with pytest.raises(DataError, match="no image has an object or a tag; annotate some"):
        open_data(str(folder), "tiny", clicks=clicks)


def test_a_class_that_no_image_has_is_said(folder):
    annotated(folder, {"point": [3, 4]})
    notes = open_data(str(folder), "tiny", clicks="box_center").notes
    assert "no image of train has the class cat, and nothing learns it" in notes
