"""The canvas without a browser: messages of the page in, the COCO JSON out."""

import io
import json

import numpy as np
import pytest
import torch
from PIL import Image

from wsis import viz
from wsis.core.errors import DataError
from wsis.core.masks import RunLengths
from wsis.data.coco import CocoFolder
from wsis.data.label_file import sides

HEIGHT, WIDTH = 40, 60


def pictures(folder, count=3, size=(WIDTH, HEIGHT)):
    """A folder of noise, in the place where `CocoFolder` looks for it."""
    place = folder / "images" / "train"
    place.mkdir(parents=True)
    pixels = np.random.default_rng(0).integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)
    for i in range(count):
        Image.fromarray(pixels).save(place / f"{i}.png")
    return place, folder / "annotations" / "instances_train.json"


@pytest.fixture
def places(tmp_path):
    return pictures(tmp_path)


@pytest.fixture
def canvas(places):
    return viz.annotate(*places, ["cat", "dog"])


def do(canvas, *actions):
    """Send messages: ("click", x, y), or a verb and its value."""
    for verb, *values in actions:
        values = {"xy": values, "reach": 2} if verb == "click" else {"value": values[0]} if values else {}
        canvas.receive({"do": verb, **values})


def written(canvas):
    do(canvas, ("save",))
    assert not canvas.state["error"], canvas.state["message"]
    return json.loads(canvas.labels.path.read_text())


def run_length(top, left, bottom, right):
    mask = torch.zeros(1, HEIGHT, WIDTH, dtype=torch.bool)
    mask[0, top:bottom, left:right] = True
    return RunLengths.of(mask).entries[0]


class TestClicks:
    def test_every_kind_is_read_as_weak_labels(self, canvas, places):
        do(canvas, ("click", 3.4, 4.6), ("category", 2), ("tool", "extreme_points"))
        do(canvas, ("click", 30, 20), ("click", 20, 10), ("click", 10, 20), ("click", 20, 30))
        do(canvas, ("tool", "bbox"), ("click", 50, 35), ("click", 41, 30))
        do(canvas, ("go", 1), ("tool", "tags"), ("category", 2))
        coco = written(canvas)
        points, extremes, box = coco["annotations"]
        assert points["point"] == [3, 5] and points["category_id"] == 1
        assert extremes["extreme_points"] == [[20, 10], [10, 20], [20, 30], [30, 20]]
        assert box["bbox"] == [41, 30, 10, 6] and box["area"] == 60 and box["category_id"] == 2
        assert [i["file_name"] for i in coco["images"]] == ["0.png", "1.png"]  # an image without a label is not there

        samples = CocoFolder(places[0].parents[1])
        assert samples[0].points.xy.tolist() == [[3, 5]]
        assert samples[0].extreme_points.boxes.tolist() == [[10, 10, 31, 31]]
        assert samples[1].tags.tolist() == [False, True]

    def test_backspace_takes_an_open_click_first_and_then_the_last_change_where_it_was(self, canvas, places):
        do(canvas, ("click", 1, 1), ("go", 2), ("tool", "bbox"), ("click", 5, 5), ("undo",))
        assert canvas.state["clicks"] == [] and canvas.state["index"] == 2
        do(canvas, ("undo",))
        assert canvas.state["index"] == 0 and canvas.state["objects"] == [] and not canvas.state["undo"]
        assert written(canvas)["images"] == []
        do(canvas, ("undo",))  # nothing is left to undo
        assert viz.annotate(*places).state["objects"] == []

    def test_tag_of_a_new_object_joins_the_tags_of_its_image(self, canvas):
        do(canvas, ("tool", "tags"), ("category", 2), ("tool", "point"), ("category", 1), ("click", 2, 2))
        assert canvas.state["tags"] == [2, 1]
        do(canvas, ("tool", "tags"), ("category", 1))
        assert "remove the object first" in canvas.state["message"]
        do(canvas, ("category", 2))
        assert written(canvas)["images"][0]["tags"] == [1]

    def test_slip_of_a_hand_is_moved_out_and_an_inner_click_is_refused(self):
        assert sides([[50, 0], [0, 40], [50, 99], [99, 50]]) == [[50, 0], [0, 40], [50, 99], [99, 50]]
        assert sides([[97, 50], [50, 99], [99, 0], [0, 40]]) == [[99, 0], [0, 40], [50, 99], [99, 50]]
        with pytest.raises(DataError, match="no click is on the"):
            sides([[50, 50], [0, 0], [0, 99], [99, 99]])

    def test_four_clicks_that_span_no_box_are_refused(self, canvas):
        do(canvas, ("tool", "extreme_points"), *[("click", x, 5) for x in (1, 2, 3, 4)])
        assert canvas.state["error"] and "do not span a box" in canvas.state["message"]
        assert canvas.state["objects"] == [] and not canvas.state["unsaved"]

    def test_object_is_chosen_by_its_mark_or_box_and_removed(self, canvas):
        do(canvas, ("click", 10, 10), ("tool", "bbox"), ("click", 30, 10), ("click", 40, 20), ("tool", "select"))
        do(canvas, ("click", 35, 15))
        assert canvas.state["chosen"] == "a2"
        do(canvas, ("click", 11, 12))
        assert canvas.state["chosen"] == "a1"
        do(canvas, ("remove",))
        assert [o["key"] for o in canvas.state["objects"]] == ["a2"]

    def test_other_click_replaces_that_of_the_chosen_object(self, canvas):
        do(canvas, ("click", 10, 10), ("choose", "a1"), ("again",), ("click", 12, 12))
        assert [a["point"] for a in written(canvas)["annotations"]] == [[12, 12]]


class TestReopening:
    def test_what_the_json_held_is_still_there(self, places):
        place, path = places
        images = [{"id": 7, "file_name": "1.png", "width": WIDTH, "height": HEIGHT, "license": 3}]
        images += [{"id": 4, "file_name": "elsewhere.png", "width": 5, "height": 5}]
        annotations = [
            {"id": 9, "image_id": 4, "category_id": 5, "keypoints": [1, 2, 2]},
            {"id": 0, "image_id": 7, "category_id": 5, "segmentation": run_length(5, 5, 9, 9), "note": "é"},
        ]
        coco = {"info": {"year": 1}, "images": images, "annotations": annotations}
        path.parent.mkdir()
        path.write_text(json.dumps(coco | {"categories": [{"id": 5, "name": "cat", "supercategory": "animal"}]}))
        canvas = viz.annotate(place, path, ["dog", "cat"])
        assert "1 images of the JSON" in canvas.state["message"]
        assert canvas.labels.names == ["1.png", "0.png", "2.png"]
        do(canvas, ("category", 6), ("click", 1, 2))
        after = written(canvas)
        assert (
            after["info"] == {"year": 1}
            and after["images"] == images
            and after["annotations"][0] == annotations[0] | {"point": [1, 2]}
        )
        assert after["annotations"][1] == annotations[1]
        assert after["annotations"][2:] == [{"id": 10, "image_id": 7, "category_id": 6, "point": [1, 2]}]
        assert after["categories"][0]["supercategory"] == "animal" and after["categories"][1]["name"] == "dog"

    def test_clicks_are_shown_again(self, canvas, places):
        do(canvas, ("click", 3, 4), ("save",))
        again = viz.annotate(*places)
        assert again.state["objects"] == [
            {"key": "a1", "category": 1, "point": [3, 4], "open": False, "score": None, "mask": False}
        ]

    def test_turning_saves(self, canvas, places):
        do(canvas, ("click", 3, 4), ("go", 1))
        assert len(json.loads(places[1].read_text())["annotations"]) == 1

    def test_file_that_another_program_changed_is_not_overwritten(self, canvas, places):
        do(canvas, ("click", 3, 4), ("save",))
        places[1].write_text(places[1].read_text() + "\n")
        do(canvas, ("click", 8, 8), ("go", 1))
        assert canvas.state["error"] and "changed by another program" in canvas.state["message"]
        assert canvas.state["index"] == 0 and canvas.state["unsaved"]
        canvas.labels.save(places[1].with_name("mine.json"))
        assert len(json.loads(places[1].with_name("mine.json").read_text())["annotations"]) == 2


class TestMasks:
    def proposed(self, places, annotations, **more):
        path = places[1].with_name("pseudo.json")
        path.parent.mkdir(exist_ok=True)
        image = {"id": 1, "file_name": "0.png", "width": WIDTH, "height": HEIGHT}
        names = [{"id": 1, "name": "dog"}, {"id": 2, "name": "cat"}]  # other ids than in the labels
        path.write_text(json.dumps({"images": [image], "annotations": annotations, "categories": names} | more))
        return path

    def test_mask_is_accepted_for_its_object_and_another_one_clicked_again(self, canvas, places):
        do(canvas, ("click", 10, 10), ("click", 40, 30), ("save",))
        rows = [
            {"id": i, "image_id": 1, "category_id": 2, "segmentation": run_length(5, x, 20, x + 9)}
            for i, x in ((1, 5), (2, 30))
        ]
        canvas = viz.annotate(*places, masks=self.proposed(places, rows))
        assert [o["open"] for o in canvas.state["objects"]] == [True, True]
        do(canvas, ("next",), ("accept",))
        assert canvas.state["chosen"] == "a2"
        do(canvas, ("again",), ("click", 35, 12))
        first, second = written(canvas)["annotations"]
        assert first["segmentation"] == rows[0]["segmentation"] and first["bbox"] == [5, 5, 9, 15]
        assert first["point"] == [10, 10] and second == {"id": 2, "image_id": 1, "category_id": 1, "point": [35, 12]}
        assert not any(o["open"] for o in canvas.state["objects"])
        sample = CocoFolder(places[0].parents[1])[0]
        assert len(sample.truth) == 1 and len(sample.points) == 2

    def test_accepted_mask_holds_the_click_of_its_object(self, canvas, places):
        do(canvas, ("click", 50, 35), ("save",))
        row = {"id": 1, "image_id": 1, "category_id": 2, "segmentation": run_length(5, 5, 20, 14)}
        canvas = viz.annotate(*places, masks=self.proposed(places, [row]))
        do(canvas, ("choose", "a1"), ("accept",))
        mask = RunLengths.read([written(canvas)["annotations"][0]["segmentation"]], (HEIGHT, WIDTH)).decode()
        assert mask[0, 35, 50] and mask.sum() == 15 * 9 + 1
        do(canvas, ("choose", "a1"), ("again",), ("click", 30, 30))
        assert "off the mask" in canvas.state["message"]

    def test_results_of_predict_are_new_objects_and_stay_accepted(self, places):
        path = places[1].with_name("predictions.json")
        path.parent.mkdir()
        row = {
            "image_id": 1,
            "category_id": 1,
            "segmentation": run_length(5, 5, 20, 14),
            "score": 0.8,
            "file_name": "0.png",
        }
        path.write_text(json.dumps([row]))
        canvas = viz.annotate(*places, ["cat"], masks=path)
        do(canvas, ("tool", "select"), ("click", 8, 10))
        assert canvas.state["chosen"] == "m0" and canvas.state["objects"][0]["score"] == 0.8
        do(canvas, ("accept",))
        assert written(canvas)["annotations"][0]["area"] == 15 * 9
        assert [o["open"] for o in viz.annotate(*places, masks=path).state["objects"]] == [False]

    def test_number_of_the_topmost_mask_is_at_each_pixel_of_the_view(self, places):
        polygon = [[0, 0, 59, 0, 59, 39, 0, 39]]
        rows = [{"id": 1, "image_id": 1, "category_id": 2, "segmentation": run_length(5, 5, 20, 14)}]
        rows += [{"id": 2, "image_id": 1, "category_id": 2, "segmentation": polygon}]
        canvas = viz.annotate(*places, ["cat"], masks=self.proposed(places, rows))

        def numbers():
            return np.asarray(Image.open(io.BytesIO(canvas.overlay)))[..., 0]

        shown = RunLengths.read([polygon], (HEIGHT, WIDTH)).decode()[0].numpy() * 2
        shown[5:20, 5:14] = 1
        np.testing.assert_array_equal(numbers(), shown)
        do(canvas, ("view", [4, 4, 20, 16]))
        assert canvas.state["view"] == [4, 4, 20, 16]
        np.testing.assert_array_equal(numbers(), shown[4:20, 4:24])

    def test_masks_that_do_not_fit_are_refused(self, places):
        row = {"id": 1, "image_id": 1, "category_id": 3, "segmentation": run_length(5, 5, 20, 14)}
        path = self.proposed(places, [row], categories=[{"id": 3, "name": "cow"}])
        with pytest.raises(DataError, match="category 3 is no class here"):
            viz.annotate(*places, ["cat"], masks=path)


class TestBadInput:
    def test_json_without_categories(self, places):
        places[1].parent.mkdir()
        places[1].write_text('{"images": [], "annotations": []}')
        with pytest.raises(DataError, match="no list named categories"):
            viz.annotate(*places, ["cat"])

    @pytest.mark.parametrize(
        "message",
        [
            {"do": "dance"},
            {"do": "click", "xy": [1]},
            {"do": "click", "xy": [float("nan"), 2]},
            {"do": "click", "xy": [float("inf"), 2]},
            {"do": "click", "xy": [WIDTH, 2]},
            {"do": "category", "value": 77},
            {"do": "tool", "value": "lasso"},
            {"do": "go"},
            {"do": "accept"},
            {"do": "again"},
            {"do": "remove"},
            {"do": "view", "value": "far"},
            {},
        ],
    )
    def test_message_that_makes_no_sense_is_said_and_changes_nothing(self, canvas, message):
        canvas.receive(message)
        assert canvas.state["error"] and canvas.state["message"]
        assert canvas.state["objects"] == canvas.state["clicks"] == [] and not canvas.state["unsaved"]

    def test_image_that_cannot_be_read_does_not_stop_the_others(self, places):
        (places[0] / "1.png").write_bytes(b"no picture")
        canvas = viz.annotate(*places, ["cat"])
        do(canvas, ("go", 1))
        assert canvas.state["error"] and "1.png cannot be read" in canvas.state["message"]
        do(canvas, ("click", 0, 0))
        assert canvas.state["error"] and not canvas.state["unsaved"]
        do(canvas, ("go", 2), ("click", 3, 3))
        assert not canvas.state["error"] and len(canvas.state["objects"]) == 1

    def test_image_of_another_size_than_the_json_says_is_shown_and_not_labeled(self, canvas, places):
        do(canvas, ("click", 3, 3), ("save",))
        Image.new("RGB", (9, 9)).save(places[0] / "0.png")
        canvas = viz.annotate(*places)
        assert "is 9 x 9, but" in canvas.state["message"]
        do(canvas, ("click", 3, 3))
        assert canvas.state["error"] and not canvas.state["unsaved"]

    @pytest.mark.parametrize("classes", [[], "cat", ["cat", "cat"], [""]])
    def test_classes_have_to_be_names(self, places, classes):
        with pytest.raises(DataError, match="classes"):
            viz.annotate(*places, classes)

    def test_folder_without_images_and_json_that_is_none(self, places, tmp_path):
        with pytest.raises(DataError, match="is not a folder"):
            viz.annotate(tmp_path / "nowhere", places[1], ["cat"])
        places[1].parent.mkdir()
        places[1].write_text("[]")
        with pytest.raises(DataError, match="not a COCO data set"):
            viz.annotate(*places, ["cat"])


class TestViews:
    def test_large_photograph_is_scaled_down_and_clicked_in_its_own_pixels(self, tmp_path):
        place, path = pictures(tmp_path, 0)
        Image.new("RGB", (8000, 6000), "teal").save(place / "large.jpg")
        canvas = viz.annotate(place, path, ["cat"])
        assert Image.open(io.BytesIO(canvas.picture)).size == (1600, 1200) and len(canvas.picture) < 1e6
        do(canvas, ("click", 7999, 5999))
        assert canvas.state["objects"][0]["point"] == [7999, 5999]
        do(canvas, ("view", [7900, 5990, 40, 30]))
        assert canvas.state["view"] == [7900, 5970, 40, 30]
        assert Image.open(io.BytesIO(canvas.picture)).size == (40, 30)

    def test_only_the_image_that_is_shown_is_read(self, places, monkeypatch):
        read = []
        monkeypatch.setattr(
            "wsis.viz.annotator.read_image",
            lambda path, size: read.append(path) or torch.zeros(3, 4, 4, dtype=torch.uint8),
        )
        canvas = viz.annotate(*places, ["cat"])
        do(canvas, ("go", 2))
        assert [path.name for path in read] == ["0.png", "2.png"]


def test_widget_carries_the_state_and_answers_messages(canvas):
    pytest.importorskip("anywidget")
    widget = canvas.widget
    widget._handle_custom_msg({"do": "click", "xy": [3, 4]}, [])
    assert widget.state["objects"][0]["point"] == [3, 4] and widget.picture == canvas.picture
    canvas.save()
    assert not widget.state["unsaved"]
