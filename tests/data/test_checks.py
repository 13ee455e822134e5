"""Each kind of bad input gets a message with file, id, value and remedy, on opening or on reading pixels."""

import copy
import json

import pytest
import torch
from PIL import Image

from tests.data.coco_example import HEIGHT, WIDTH, changed, example, make, run_length, write
from wsis.core.errors import AnnotationError, DataError
from wsis.core.masks import RunLengths
from wsis.data.checks import near_object, read_coco
from wsis.data.coco import CocoFolder
from wsis.data.label_maps import write_label_map


@pytest.fixture
def folder(tmp_path):
    make(tmp_path)
    return tmp_path


def test_truncated_json_has_its_place(folder):
    path = folder / "annotations/instances_train.json"
    path.write_text(path.read_text()[:200])
    with pytest.raises(DataError, match=r"instances_train.json is not JSON .*line 1, column \d+.*truncated"):
        CocoFolder(folder)


def test_binary_is_not_json(folder):
    (folder / "annotations/instances_train.json").write_bytes(b"\x89PNG\xff\xfe")
    with pytest.raises(DataError, match="instances_train.json is not a text file"):
        CocoFolder(folder)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ([{"image_id": 1}], r"is a list \(COCO results\?\), not a COCO data set; it needs images, annotations"),
        ({"images": [], "shapes": []}, "is not a COCO JSON: no list named annotations, categories"),
        ("text", "is not a COCO JSON"),
        ({"images": [3], "annotations": [], "categories": []}, r"images\[0\] has no integer id \(3\)"),
        ({"images": [], "annotations": [{"id": "1"}], "categories": []}, r"annotations\[0\] has no integer id"),
        ({"images": [], "annotations": [], "categories": []}, "instances_train.json lists no images; add some"),
    ],
)
def test_json_that_is_not_coco(folder, content, message):
    write(folder, content)
    with pytest.raises(DataError, match=message):
        CocoFolder(folder)


@pytest.mark.parametrize(
    ("section", "message"),
    [("images", "image id 7"), ("annotations", "annotation id 1"), ("categories", "category id 5")],
)
def test_duplicate_ids(folder, section, message):
    data = example()
    data[section].append(copy.deepcopy(data[section][0]))
    write(folder, data)
    with pytest.raises(DataError, match=f"instances_train.json: {message} occurs twice; give each"):
        CocoFolder(folder)


MISTAKES = [
    ("categories", 1, {"name": "dog"}, "category 2 is named 'dog'; give each its own name"),
    ("images", 0, {"width": 0}, "image 7: width is 0; give the size"),
    ("images", 0, {"height": None}, "image 7: height is None; give the size"),
    ("images", 0, {"file_name": None}, "image 7 has no file_name; name its file"),
    ("annotations", 1, {"image_id": 8}, "annotation 2: image_id 8 does not exist; add the image"),
    ("annotations", 1, {"category_id": 3}, "annotation 2: category_id 3 does not exist; add the category"),
    ("annotations", 0, {"bbox": [2, 3, 0, 6]}, r"annotation 1: bbox \[2, 3, 0, 6\] has no area; .*drop_invalid"),
    ("annotations", 0, {"bbox": [2, 3, 6]}, r"annotation 1: bbox \[2, 3, 6\] is not \[x, y, width, height\]"),
    ("annotations", 1, {"segmentation": []}, "annotation 2: segmentation .* draw it or drop the key"),
    ("annotations", 0, {"segmentation": "abc"}, "annotation 1: segmentation abc is neither"),
    ("annotations", 0, {"segmentation": [[1, 2, 3, 4]]}, "annotation 1: polygon with 2 points; it needs 3"),
    ("annotations", 0, {"segmentation": [[1, 2, 3, 4, 5, 6, 7]]}, "annotation 1: polygon with 7 numbers.*pairs"),
    ("annotations", 0, {"segmentation": [1, 2, 3, 4, 5, 6]}, "annotation 1: polygon 1 is not a list of numbers"),
    ("annotations", 0, {"segmentation": [[1, 2, 3, "4", 5, 6]]}, "annotation 1: polygon .* is not a list of numbers"),
    ("annotations", 0, {"segmentation": [[1, 2, 3, float("nan"), 5, 6]]}, "annotation 1: polygon .* not a list of num"),
]
MISTAKES += [
    ("annotations", 1, {"segmentation": {"size": size, "counts": counts}}, "annotation 2: run length " + message)
    for size, counts, message in (
        ([30, 20], [600], r"of size \[30, 20\], its image is \[20, 30\]"),
        ([20, 30], [9, 90], "covers 99 pixels, but its image has 600; encode it again"),
        ([20, 30], "0P", "is damaged, but its image has 600"),
        ([20, 30], 5, "with counts 5; they are"),
    )
]


@pytest.mark.parametrize(("section", "index", "values", "message"), MISTAKES)
def test_mistakes_in_the_json(folder, section, index, values, message):
    changed(folder, section, index, **values)
    with pytest.raises(DataError, match="instances_train.json: " + message):
        CocoFolder(folder)


SQUARE = [[5, 3], [2, 5], [5, 8], [11, 5]]
WEAK_MISTAKES = [
    ("images", 0, {"tags": [5, 6]}, "image 7: tag 6 is no category id; add the category or remove the tag"),
    ("images", 0, {"tags": "dog"}, "image 7: tags 'dog' are not a list"),
    ("annotations", 0, {"point": [31, 5]}, r"annotation 1: point \[31, 5\] is outside its image of 30 x 20; click"),
    ("annotations", 0, {"point": [5, -1]}, r"annotation 1: point \[5, -1\] is outside"),
    ("annotations", 0, {"point": [5]}, r"annotation 1: point \[5\] is not \[x, y\]"),
    ("annotations", 0, {"point": [5, float("nan")]}, r"annotation 1: point \[5, nan\] is not \[x, y\]"),
]
WEAK_MISTAKES += [
    ("annotations", 0, {"extreme_points": extreme}, "annotation 1: .*" + message)
    for extreme, message in (
        (SQUARE[:3], "extreme_points .* are not four .*: top, left, bottom, right; a corner may occur twice"),
        ([*SQUARE, [5, 5]], "extreme_points .* are not four"),
        ([5, 3, 2, 5, 5, 8, 11, 5], "extreme_points .* are not four"),
        ({"top": [5, 3]}, "extreme_points .* are not four"),
        ([[5, 3, 1], *SQUARE[1:]], "extreme_points .* are not four"),
        ([SQUARE[0], [float("nan"), 5], *SQUARE[2:]], r"left extreme point \[nan, 5\] .*give two finite numbers"),
        ([*SQUARE[:2], [5, float("inf")], SQUARE[3]], r"bottom extreme point \[5, inf\] .*two finite numbers"),
        ([*SQUARE[:3], ["11", 5]], r"right extreme point \['11', 5\] is not \[x, y\]"),
        ([*SQUARE[:3], [31, 5]], r"right extreme point \[31, 5\] is outside its image of 30 x 20; click again"),
        ([[5, -1], *SQUARE[1:]], r"top extreme point \[5, -1\] is outside its image"),
        ([[5, 5]] * 4, "extreme_points .* do not span a box; click four sides .*leave the key out if it is one"),
        ([[2, 5], [2, 5], [9, 5], [9, 5]], "extreme_points .* do not span a box"),
        ([[2, 5], [2, 5], [2, 9], [2, 9]], "extreme_points .* do not span a box"),
        (SQUARE[::-1], r"not in the order top, left.*: \[11, 5\] is given as top, but \[5, 3\] is farther"),
        ([SQUARE[i] for i in (0, 3, 2, 1)], r"\[11, 5\] is given as left, but \[2, 5\] is farther that way; sort"),
        ([SQUARE[i] for i in (0, 1, 3, 2)], r"\[11, 5\] is given as bottom, but \[5, 8\] is farther"),
        ([[5, 3], [2, 5], [20, 8], [11, 5]], r"\[11, 5\] is given as right, but \[20, 8\] is farther"),
    )
]


@pytest.mark.parametrize(("section", "index", "values", "message"), WEAK_MISTAKES)
def test_mistakes_in_weak_labels(folder, section, index, values, message):
    changed(folder, section, index, **values)
    with pytest.raises(AnnotationError, match="instances_train.json: .*" + message):
        CocoFolder(folder)


def test_extreme_points_may_be_a_pixel_out_of_order(folder):
    """Where the outline is flat, a hand may click the top a pixel below another point."""
    changed(folder, "annotations", 0, extreme_points=[[5, 4], [3, 3], [5, 8], [11, 8]])
    assert CocoFolder(folder)[0].extreme_points.boxes.tolist() == [[3, 3, 12, 9]]


def test_an_object_may_touch_its_corner_twice(folder):
    changed(folder, "annotations", 0, extreme_points=[[2, 3], [2, 3], [11, 8], [11, 8]])
    assert CocoFolder(folder)[0].extreme_points.ids.tolist() == [1]


def test_an_annotation_without_extreme_points_is_kept(folder):
    """A line or a single pixel: it has no extreme points, but its class and mask are there."""
    changed(folder, "annotations", 0, extreme_points=SQUARE)
    sample = CocoFolder(folder)[0]
    assert sample.extreme_points.ids.tolist() == [1] and sample.truth.ids.tolist() == [1, 2, 3, 4]


def test_click_off_its_object(folder):
    changed(folder, "annotations", 1, point=[20, 6])
    with pytest.raises(AnnotationError, match=r"train.json: annotation 2: point \[20.0, 6.0\] is off its object.*1 px"):
        CocoFolder(folder)[0]


def test_click_beside_its_object_is_forgiven_up_to_a_pixel(folder):
    changed(folder, "annotations", 1, point=[11, 6])  # the object ends at x = 10
    assert len(CocoFolder(folder)[0].points) == 1
    changed(folder, "annotations", 1, point=[12, 6])
    with pytest.raises(AnnotationError):
        CocoFolder(folder)[0]


def test_extreme_point_off_its_object(folder):
    changed(folder, "annotations", 0, extreme_points=[[20, 3], [2, 5], [5, 8], [21, 5]])
    with pytest.raises(AnnotationError, match=r"annotation 1: extreme_points \[20.0, 3.0\] is off its object"):
        CocoFolder(folder)[0]


def test_a_click_on_the_far_edge_of_the_image_is_a_pixel(folder):
    changed(folder, "annotations", 0, segmentation=run_length(10, 20, 20, 30), bbox=None, point=[29.9, 19.6])
    assert CocoFolder(folder)[0].points.xy.tolist() == [[29, 19]]


def test_empty_mask(folder):
    changed(folder, "annotations", 1, segmentation={"size": [20, 30], "counts": [600]})
    with pytest.raises(DataError, match="annotation 2: its mask has no pixel; remove it.*drop_invalid"):
        CocoFolder(folder)[0]
    assert CocoFolder(folder, drop_invalid=True)[0].truth.ids.tolist() == [1, 3, 4]


def test_dropped_annotations_are_listed(folder):
    changed(folder, "annotations", 0, bbox=[2, 3, 0, 6])
    data = CocoFolder(folder, drop_invalid=True)
    assert len(data.dropped) == 1 and "annotation 1: bbox" in data.dropped[0]
    assert data[0].truth.ids.tolist() == [1, 2, 3, 4], "its mask is sound"


def test_a_click_beside_its_mask_is_left_out(folder, capsys):
    changed(folder, "annotations", 0, segmentation=run_length(10, 20, 20, 30), bbox=None, point=[1, 1])
    with pytest.raises(
        AnnotationError, match="off its object by more than .* click again, or leave it out with --drop-inv"
    ):
        CocoFolder(folder)[0]
    assert 1 not in CocoFolder(folder, drop_invalid=True)[0].points.ids.tolist()
    assert "left out" in capsys.readouterr().out


def test_boxes_of_a_file_of_weak_labels_take_the_place_of_those_of_the_data(folder, tmp_path):
    path = folder / "annotations/instances_train.json"
    coco = json.loads(path.read_text())
    coco["annotations"] = [
        {k: v for k, v in coco["annotations"][0].items() if k != "segmentation"} | {"bbox": [1, 2, 5, 6]}
    ]
    (tmp_path / "boxes.json").write_text(json.dumps(coco))
    data = CocoFolder(folder, weak=tmp_path / "boxes.json", boxes=True)
    clicks = data[0].extreme_points
    (row,) = (clicks.ids == coco["annotations"][0]["id"]).nonzero()[:, 0].tolist()
    assert clicks.boxes[row].tolist() == [1, 2, 6, 8]


def test_a_crowd_written_as_text_and_an_empty_list_of_polygons(folder):
    changed(folder, "annotations", 0, iscrowd="0", segmentation=[[]], bbox=[2, 3, 5, 6])
    data = CocoFolder(folder, boxes=True)
    assert 1 in data[0].extreme_points.ids.tolist()


def draw_map(folder, values, names=()):
    write_label_map(folder / "semantic/train/a.png", values)
    (folder / "semantic/categories.json").write_text(json.dumps(names))


FLAT = torch.zeros(HEIGHT, WIDTH)
DAMAGE = [
    (
        lambda f: (f / "annotations/instances_train.json").unlink(),
        "train.json does not exist; check the folder and the split",
    ),
    (lambda f: (f / "images/train/b.png").unlink(), "image 9: .*b.png does not exist; add it"),
    (lambda f: (f / "images/train/a.png").write_bytes(b"\x89PNG"), "a.png cannot be read as an image.*copy it again"),
    (
        lambda f: Image.new("RGB", (30, 21)).save(f / "images/train/a.png"),
        "a.png is 30 x 21, but .*train.json says 30 x 20",
    ),
    (lambda f: draw_map(f, torch.zeros(22, 30)), "a.png is 30 x 22, its image 30 x 20; write it again"),
    (lambda f: draw_map(f, FLAT + 3), "a.png: value 3 is no category id; add it"),
    (lambda f: draw_map(f, FLAT, ["sky"]), "categories.json is not a list of .*write it so"),
]


@pytest.mark.parametrize(("spoil", "message"), DAMAGE)
def test_damaged_files_are_named(folder, spoil, message):
    spoil(folder)
    with pytest.raises(DataError, match=message):
        CocoFolder(folder)[0]


def test_stuff_in_a_label_png_is_background(folder):
    draw_map(folder, FLAT + 3, [{"id": 3, "name": "sky"}])
    assert not CocoFolder(folder)[0].true_semantic.any()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"images": [{"id": 8, "file_name": "a.png", "height": 20, "width": 30}]}, "image 8: width 30 is missing in"),
        (
            {"images": [{"id": 7, "file_name": "a.png", "height": 30, "width": 30}]},
            "image 7: height 30 is 20 in .*; use the images of that file",
        ),
        ({"categories": [{"id": 5, "name": "cow"}, {"id": 2, "name": "cat"}]}, "category 5: name cow is dog in"),
        ({"annotations": [{"id": 1, "image_id": 9, "category_id": 5}]}, "annotation 1: image_id 9 is 7 in"),
        ({"annotations": [{"id": 1, "image_id": 7, "category_id": 2}]}, "annotation 1: category_id 2 is 5 in"),
    ],
)
def test_weak_file_of_another_data_set(folder, change, message):
    weak = {**example(), "annotations": [], **change}
    (folder / "weak.json").write_text(json.dumps(weak))
    with pytest.raises(AnnotationError, match="weak.json: " + message):
        CocoFolder(folder, weak=folder / "weak.json")


def test_near_object_counts_pixels_in_both_directions():
    mask = torch.zeros(1, 9, 9, dtype=torch.bool)
    mask[0, 4, 4] = True
    grid = torch.stack(torch.meshgrid(torch.arange(9.0), torch.arange(9.0), indexing="xy"), -1).reshape(1, 81, 2)
    near = near_object(RunLengths.of(mask), grid, tolerance=2).reshape(9, 9)
    assert near[2:7, 2:7].all() and near.sum() == 25


def test_nulls_and_whole_floats_are_read(folder):
    data = example()
    data["images"][0] |= {"tags": None, "width": float(WIDTH)}
    data["annotations"][0] |= {"id": 1.0, "point": None, "extreme_points": None, "iscrowd": None, "bbox": None}
    data["annotations"][1] |= {"segmentation": None, "category_id": 2.0}
    data["categories"][0]["supercategory"] = None
    write(folder, data)
    sample = CocoFolder(folder)[0]
    assert sample.truth.ids.tolist() == [1, 3, 4] and sample.points is None and sample.tags.all()


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16"])
def test_a_byte_order_mark_is_read(folder, encoding):
    path = folder / "annotations/instances_train.json"
    path.write_text(path.read_text(), encoding=encoding)
    assert len(CocoFolder(folder)) == 2


@pytest.mark.parametrize("section", ["images", "annotations", "categories"])
@pytest.mark.parametrize("value", [2**127, -(2**63)])
def test_ids_beyond_64_bits(folder, section, value):
    changed(folder, section, 0, id=value)
    with pytest.raises(DataError, match=f"{section[:5]}.* id {value} has more than 64 bits; number the entries"):
        CocoFolder(folder)


def test_numbers_beyond_all_bounds(folder):
    changed(folder, "annotations", 0, bbox=[1, 2, 3, 10**400])
    with pytest.raises(DataError, match="annotation 1: bbox .* give four numbers"):
        CocoFolder(folder)
    changed(folder, "annotations", 2, segmentation={"size": [HEIGHT, WIDTH], "counts": [10**30]})
    with pytest.raises(DataError, match="annotation 3: run length with counts"):
        CocoFolder(folder)


@pytest.mark.parametrize("annotated", [True, False])
def test_a_group_with_the_name_of_its_category_is_left_out(folder, annotated):
    data = example()
    data["annotations"] = data["annotations"][:1] if annotated else []
    data["categories"] = [{"id": 0, "name": "dog", "supercategory": "none"}, *data["categories"]]
    write(folder, data)
    opened = CocoFolder(folder)
    assert opened.category_ids == (2, 5) and opened.classes == ("cat", "dog")
    assert opened.dropped[0].endswith("category 0 has no object, and the name 'dog' of category 5")
    data["annotations"] = [{"id": i, "image_id": 7, "category_id": c, "point": [1, 1]} for i, c in enumerate((0, 5))]
    write(folder, data)
    with pytest.raises(DataError, match="is named 'dog'; give each its own name"):
        CocoFolder(folder)


def test_two_pictures_with_one_name(folder):
    changed(folder, "images", 1, file_name="a.png")
    with pytest.raises(DataError, match="two entries are of the image a.png; keep one of them"):
        CocoFolder(folder)


def test_pictures_that_the_json_does_not_list(folder):
    Image.new("RGB", (5, 4)).save(folder / "images/train/c.png")
    message = f"c.png in {folder / 'images/train'}, which {folder / 'annotations/instances_train.json'} does not list"
    assert CocoFolder(folder).dropped == [message]


@pytest.mark.parametrize("value", [0, 255, 1203])
def test_category_ids_that_no_label_png_holds(folder, value):
    data = example()
    data["categories"].append({"id": value, "name": "cow"})
    write(folder, data)
    assert CocoFolder(folder).classes.count("cow") == 1
    (folder / "semantic/train").mkdir(parents=True)
    with pytest.raises(DataError, match=f"category id {value} cannot stand in .*; give ids from 1 to 254"):
        CocoFolder(folder)


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        ({"bbox": [0.25, 0.5, 0.5, 0.25]}, "all coordinates lie between 0 and 1"),
        ({"point": [0.25, 0.5]}, "all coordinates lie between 0 and 1"),
        ({"segmentation": [[0.1, 0.1, 0.5, 0.1, 0.5, 0.9]]}, "all coordinates lie between 0 and 1"),
        ({"segmentation": [[1, 1, 1e9, 1, 2, 2]]}, "polygon reaches 1000000000.0"),
        ({"bbox": [4500000, 3, 2, 2]}, "bbox .* reaches 4500000"),
    ],
)
def test_coordinates_in_another_unit_are_refused(tmp_path, labels, message):
    path = tmp_path / "a.json"
    coco = {
        "images": [{"id": 1, "file_name": "a.png", "width": 40, "height": 30}],
        "annotations": [{"id": 1, "image_id": 1, "category_id": 1, **labels}],
        "categories": [{"id": 1, "name": "cat"}],
    }
    path.write_text(json.dumps(coco))
    with pytest.raises(DataError, match=message):
        read_coco(path)


def test_boxes_that_may_be_two_corners_are_mentioned(tmp_path, capsys):
    path = tmp_path / "corners.json"
    coco = {
        "images": [{"id": 1, "file_name": "a.png", "width": 40, "height": 30}],
        "annotations": [{"id": 1, "image_id": 1, "category_id": 1, "bbox": [25, 5, 38, 20]}],
        "categories": [{"id": 1, "name": "cat"}],
    }
    path.write_text(json.dumps(coco))
    read_coco(path)
    assert "1 of 1 boxes reach beyond their image, such as [25, 5, 38, 20]" in capsys.readouterr().out
