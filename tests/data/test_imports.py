"""Exports of annotation tools become folders that `CocoFolder` reads; each tool's export is written here by hand."""

import base64
import io
import json

import numpy as np
import pytest
from PIL import Image

from wsis.core.errors import AnnotationError, DataError
from wsis.core.files import read_json
from wsis.data.coco import CocoFolder
from wsis.data.convert.readers import READERS, _brush, import_annotations
from wsis.weak.sources import open_data

WIDTH, HEIGHT = 40, 30


@pytest.fixture
def place(tmp_path):
    for name in ("a.jpg", "b.png"):
        Image.new("RGB", (WIDTH, HEIGHT), (90, 120, 60)).save(tmp_path / name)
    return tmp_path


def labelme_json(shapes, **values):
    named = [{"label": "cup", "group_id": None, **shape} for shape in shapes]
    content = {"shapes": named, "imagePath": "a.jpg", "imageWidth": WIDTH, "imageHeight": HEIGHT}
    return json.dumps(content | values)


def read(place, format, name, text):
    """Import an export, and return its annotations with the class in place of the ids."""
    (place / name).write_text(text)
    import_annotations(format, place / name, place / "out")
    dataset, coco = CocoFolder(place / "out"), read_json(place / "out/annotations/instances_train.json")
    assert [dataset[i].image.shape[1:] for i in range(len(dataset))] == [(HEIGHT, WIDTH)] * len(dataset)
    names = {c["id"]: c["name"] for c in coco["categories"]}
    keys = ("point", "extreme_points", "bbox", "segmentation")
    return [{"class": names[a["category_id"]]} | {k: a[k] for k in keys if k in a} for a in coco["annotations"]]


def test_labelme_points_groups_and_shapes(place):
    sides = [[20.9, 5.2], [10, 15], [20, 25], [30, 15]]
    shapes = [
        {"shape_type": "point", "points": [[3.7, 4.2]]},
        *({"shape_type": "point", "points": [xy], "group_id": 1} for xy in sides),
        {"shape_type": "rectangle", "points": [[12, 20], [2, 10]], "label": "plate"},
        {"shape_type": "polygon", "points": [[2, 3], [12, 3], [12, 9], [2, 9]]},
    ]
    cups = read(place, "labelme", "a.json", labelme_json(shapes))
    assert cups[0] == {"class": "cup", "point": [3, 4]}
    assert cups[1] == {"class": "cup", "extreme_points": [[20, 5], [10, 15], [20, 25], [30, 15]]}
    assert cups[2] == {"class": "plate", "bbox": [2, 10, 10, 10]}
    assert cups[3] == {"class": "cup", "segmentation": [[2, 3, 12, 3, 12, 9, 2, 9]], "bbox": [2.0, 3.0, 10.0, 6.0]}


def test_labelme_masks_and_flags(place):
    png = io.BytesIO()
    Image.fromarray(np.full((4, 5), 255, dtype=np.uint8)).save(png, format="PNG")
    mask = {"shape_type": "mask", "points": [[6, 7], [10, 10]], "mask": base64.b64encode(png.getvalue()).decode()}
    assert read(place, "labelme", "a.json", labelme_json([mask], flags={"indoors": True}))[0]["bbox"] == [6, 7, 5, 4]
    assert CocoFolder(place / "out").classes == ("cup", "indoors")
    assert CocoFolder(place / "out")[0].tags.tolist() == [True, True]


def test_clicks_on_the_border_count_for_the_last_pixel(place):
    shape = {"shape_type": "point", "points": [[WIDTH, HEIGHT]]}
    assert read(place, "labelme", "a.json", labelme_json([shape]))[0]["point"] == [WIDTH - 1, HEIGHT - 1]


def test_label_studio_percent_uploads_and_choices(place):
    def result(kind, **value):
        return {"id": "x", "type": kind, "original_width": WIDTH, "original_height": HEIGHT, "value": value}

    results = [
        result("keypointlabels", x=50, y=50, width=1, keypointlabels=["cup"]),
        result("rectanglelabels", x=25, y=10, width=50, height=20, rotation=0, rectanglelabels=["cup"]),
        result("polygonlabels", points=[[10, 10], [50, 10], [50, 50]], polygonlabels=["plate"]),
        {"type": "choices", "value": {"choices": ["plate"]}},
        result("choices", x=25, y=10, width=50, height=20, choices=["occluded"]),
    ]
    task = {
        "id": 1,
        "data": {"image": "/data/local-files/?d=photos%5C0a1b2c3d-a.jpg"},
        "annotations": [{"result": results}],
    }
    objects = read(place, "label-studio", "export.json", json.dumps([task]))
    assert objects[0] == {"class": "cup", "point": [20, 15]}
    assert objects[1] == {"class": "cup", "bbox": [10.0, 3.0, 20.0, 6.0]}
    assert objects[2]["segmentation"] == [[4.0, 3.0, 20.0, 3.0, 20.0, 15.0]]


def test_label_studio_regions_that_another_tag_names(place):
    region = {"id": "x", "original_width": WIDTH, "original_height": HEIGHT}
    value = {"x": 25, "y": 10, "width": 50, "height": 20, "rotation": 0}
    named = {**region, "type": "labels", "value": {**value, "labels": ["cup"]}}
    results = [{**region, "type": "rectangle", "value": value}, named]
    task = {"id": 1, "data": {"image": "a.jpg"}, "annotations": [{"result": results}]}
    objects = read(place, "label-studio", "export.json", json.dumps([task]))
    assert objects == [{"class": "cup", "bbox": [10.0, 3.0, 20.0, 6.0]}]


def test_names_that_uploading_has_changed_are_found(place):
    (place / "a.jpg").rename(place / "my cup (1).jpg")
    value = {"x": 50, "y": 50, "width": 1, "keypointlabels": ["cup"]}
    result = {"id": "x", "type": "keypointlabels", "original_width": WIDTH, "original_height": HEIGHT, "value": value}
    data = {"title": "my cup", "photo": "/data/upload/1/0a1b2c3d-my_cup_1.jpg"}
    task = {"id": 1, "data": data, "annotations": [{"result": [result]}]}
    assert read(place, "label-studio", "export.json", json.dumps([task]))[0]["point"] == [20, 15]


@pytest.mark.parametrize("points", [[[None, 4]], [[1, 2, 3]], "none", [["a", "b"]]])
def test_coordinates_that_are_none_are_named(place, points):
    (place / "a.json").write_text(labelme_json([{"shape_type": "polygon", "points": points}]))
    with pytest.raises((AnnotationError, DataError), match="a.json"):
        import_annotations("labelme", place / "a.json", place / "out")


def test_splits_share_the_ids_of_their_classes(place):
    for split, classes in (("train", ("cup", "plate")), ("val", ("plate", "bowl"))):
        shapes = [{"shape_type": "point", "points": [[3, 4]], "label": name} for name in classes]
        (place / "a.json").write_text(labelme_json(shapes))
        import_annotations("labelme", place / "a.json", place / "out", split=split)
    ids = {c["name"]: c["id"] for c in read_json(place / "out/annotations/instances_val.json")["categories"]}
    assert ids == {"cup": 1, "plate": 2, "bowl": 3}
    data = open_data(str(place / "out"), "tiny")
    assert data.val is not None and data.train.classes == data.val.classes == ("cup", "plate", "bowl")


def test_label_studio_brush():
    """8 values of 8 bits; lengths of 3, 4, 8 and 16 bits: 5 times 255, then the list 1, 2, 3."""
    bits = f"{8:032b}{7:05b}" + "".join(f"{n - 1:04b}" for n in (3, 4, 8, 16))
    bits += "1" + "00" + f"{4:03b}" + f"{255:08b}" + "0" + "00" + f"{2:03b}" + "".join(f"{v:08b}" for v in (1, 2, 3))
    bits += "0" * (-len(bits) % 8)
    data = [int(bits[i : i + 8], 2) for i in range(0, len(bits), 8)]
    assert _brush(data).tolist() == [255] * 5 + [1, 2, 3]


def test_cvat_points_boxes_masks_and_tags(place):
    text = f"""<annotations><image id="0" name="a.jpg" width="{WIDTH}" height="{HEIGHT}">
        <points label="cup" points="3.5,4.5"/>
        <points label="cup" points="30,15;20,25;10,15;20,5"/>
        <box label="plate" xtl="2" ytl="3" xbr="12" ybr="9"/>
        <polygon label="cup" points="2,3;12,3;12,9"/>
        <mask label="cup" rle="1, 2, 3" left="5" top="6" width="3" height="2"/>
        <tag label="indoors"/></image>
        <image id="1" name="b.png" width="{WIDTH}" height="{HEIGHT}"/></annotations>"""
    objects = read(place, "cvat", "annotations.xml", text)
    assert objects[0]["point"] == [3, 4]
    assert objects[1]["extreme_points"] == [[20, 5], [10, 15], [20, 25], [30, 15]]
    assert objects[2] == {"class": "plate", "bbox": [2, 3, 10, 6]}
    assert objects[3]["segmentation"] == [[2, 3, 12, 3, 12, 9]]
    assert objects[4]["bbox"] == [6, 6, 2, 1]
    assert len(read_json(place / "out/annotations/instances_train.json")["images"][0]["tags"]) == 3


@pytest.mark.parametrize("project", [False, True])
def test_via_points_and_rectangles(place, project):
    regions = [
        {"shape_attributes": {"name": "point", "cx": 3, "cy": 4}, "region_attributes": {"kind": "cup"}},
        {
            "shape_attributes": {"name": "rect", "x": 2, "y": 3, "width": 10, "height": 6},
            "region_attributes": {"class": {"plate": True}, "note": ""},
        },
    ]
    content = {"a.jpg123": {"filename": "a.jpg", "size": 123, "regions": regions}}
    objects = read(place, "via", "via.json", json.dumps({"_via_img_metadata": content} if project else content))
    assert objects == [{"class": "cup", "point": [3, 4]}, {"class": "plate", "bbox": [2, 3, 10, 6]}]


def test_coco_keypoints(place):
    image = {"id": 7, "file_name": "a.jpg", "width": WIDTH, "height": HEIGHT}
    click = {"id": 3, "image_id": 7, "category_id": 2, "bbox": [3, 4, 0, 0], "segmentation": [], "keypoints": [3, 4, 2]}
    coco = {"images": [image], "annotations": [click], "categories": [{"id": 2, "name": "cup"}]}
    assert read(place, "coco", "person_keypoints.json", json.dumps(coco)) == [{"class": "cup", "point": [3, 4]}]


def test_coco_point_and_extreme_points(place):
    clicks = {"point": [20, 14], "extreme_points": [[20, 5], [10, 15], [20, 25], [30, 15]]}
    image = {"id": 7, "file_name": "a.jpg", "width": WIDTH, "height": HEIGHT}
    object_ = {"id": 3, "image_id": 7, "category_id": 2, **clicks}
    coco = {"images": [image], "annotations": [object_], "categories": [{"id": 2, "name": "cup"}]}
    assert read(place, "coco", "coco.json", json.dumps(coco)) == [{"class": "cup", **clicks}]


@pytest.mark.parametrize("format", sorted(READERS))
@pytest.mark.parametrize("text", ["[1]", "{}", '{"a": 3}', "<html/>", '[{"data": {}, "annotations": [{}]}]'])
def test_exports_of_another_kind_are_named(place, format, text):
    (place / "export.json").write_text(text)
    with pytest.raises(DataError, match="export"):
        import_annotations(format, place / "export.json", place / "out")
    assert not (place / "out").exists()


POINT = {"shape_type": "point", "points": [[3, 4]]}
MISTAKES = [
    ([{**POINT, "points": [[90, 4]]}], {}, r"a.json: shape 0: click \[90, 4\] is outside its image of 40 x 30"),
    ([{**POINT, "label": ""}], {}, "shape 0 has no class"),
    ([{**POINT, "group_id": 1}] * 3, {}, "3 clicks on one object"),
    ([{"shape_type": "rectangle", "points": [[50, 3], [60, 9]]}], {}, "has no area in its image"),
    ([{"shape_type": "polygon", "points": [[50, 3], [60, 9], [50, 9]]}], {}, "its mask has no pixel in its image"),
    ([{"shape_type": "polygon", "points": [[2, 3], [6, 9]]}], {}, "a polygon of 2 points"),
    ([POINT], {"imagePath": "c.jpg"}, "no image .*c.jpg in .*--images"),
    ([POINT], {"imageWidth": 99}, "was drawn on 99 x 30, but .*a.jpg is 40 x 30; is it another image"),
    ([POINT], {"imageWidth": HEIGHT, "imageHeight": WIDTH}, "turn it as it was when it was drawn on"),
]


@pytest.mark.parametrize(("shapes", "values", "message"), MISTAKES)
def test_shapes_of_another_image(place, shapes, values, message):
    (place / "a.json").write_text(labelme_json(shapes, **values))
    with pytest.raises(DataError, match=message):
        import_annotations("labelme", place / "a.json", place / "out")
    assert not (place / "out").exists()


def test_images_of_one_name_keep_their_folders(place):
    for folder in ("one", "two"):
        (place / "set" / folder).mkdir(parents=True)
        (place / "set" / folder / "a.json").write_text(labelme_json([POINT]))
        (place / "set" / folder / "a.jpg").write_bytes((place / "a.jpg").read_bytes())
    import_annotations("labelme", place / "set", place / "out")
    dataset = CocoFolder(place / "out")
    assert [dataset[i].file_name for i in range(2)] == ["one/a.jpg", "two/a.jpg"]


@pytest.mark.parametrize(("name", "remedy"), [("a.jpg", "keep one of the two"), ("a.png", "rename .*a.jpg or .*a.png")])
def test_two_images_of_one_name(place, name, remedy):
    Image.new("RGB", (WIDTH, HEIGHT)).save(place / "a.png")
    for i, path in enumerate(("a.jpg", name)):
        (place / f"{i}.json").write_text(labelme_json([POINT], imagePath=path))
    with pytest.raises(DataError, match=f"0.json and .*1.json are both of an image named a; {remedy}"):
        import_annotations("labelme", place, place / "out")


@pytest.mark.parametrize("images", ["out/images/train", "linked"])
def test_images_that_are_in_place_stay_there(place, images):
    photos = place / "out/images/train"
    photos.mkdir(parents=True)
    (place / "a.jpg").rename(photos / "a.jpg")
    (place / "linked").symlink_to(photos)
    (place / "export.json").write_text(labelme_json([POINT]))
    import_annotations("labelme", place / "export.json", place / "out", place / images)
    assert [path.name for path in photos.iterdir()] == ["a.jpg"]
    assert CocoFolder(place / "out")[0].points.xy.tolist() == [[3, 4]]


def test_images_in_place_elsewhere_are_not_replaced(place):
    (place / "out/images/train").mkdir(parents=True)
    (place / "a.json").write_text(labelme_json([POINT]))
    with pytest.raises(DataError, match="out/images/train exists already; choose another --out"):
        import_annotations("labelme", place / "a.json", place / "out")


def test_images_that_nobody_has_looked_at_are_left_out(place, capsys):
    (place / "b.json").write_text(labelme_json([], imagePath="b.png"))
    (place / "a.json").write_text(labelme_json([POINT]))
    import_annotations("labelme", place, place / "out")
    assert len(CocoFolder(place / "out")) == 1
    assert "left out: b.png, without a shape or a tag" in capsys.readouterr().out


def test_shapes_that_are_not_read_are_said(place, capsys):
    assert len(read(place, "labelme", "a.json", labelme_json([POINT, {"shape_type": "line", "points": []}]))) == 1
    assert "left out: " in capsys.readouterr().out


def test_an_import_does_not_replace_a_split(place):
    read(place, "labelme", "a.json", labelme_json([POINT]))
    with pytest.raises(DataError, match="exists already"):
        import_annotations("labelme", place / "a.json", place / "out")


def test_four_clicks_on_a_line(place):
    line = [{**POINT, "points": [[x, 4]], "group_id": 1} for x in (3, 5, 7, 9)]
    (place / "a.json").write_text(labelme_json(line))
    with pytest.raises(AnnotationError, match="span no box"):
        import_annotations("labelme", place / "a.json", place / "out")


@pytest.mark.parametrize("stored", [False, True])
def test_a_photograph_on_its_side_is_read_as_it_was_shown(place, stored):
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.new("RGB", (HEIGHT, WIDTH)).save(place / "a.jpg", exif=exif)
    sides = {"imageWidth": HEIGHT, "imageHeight": WIDTH} if stored else {}
    (place / "a.json").write_text(labelme_json([POINT], **sides))
    import_annotations("labelme", place / "a.json", place / "out")
    assert CocoFolder(place / "out")[0].size == ((WIDTH, HEIGHT) if stored else (HEIGHT, WIDTH))


def coco_json(place, **changes):
    image = {"id": 50, "file_name": "a.jpg", "width": WIDTH, "height": HEIGHT}
    objects = [{"id": 70 + i, "image_id": 50, "category_id": 2 - i, "bbox": [2, 3, 10, 6]} for i in range(2)]
    classes = [{"id": 1, "name": "zebra"}, {"id": 2, "name": "ant"}, {"id": 9, "name": "unused"}]
    (place / "coco.json").write_text(
        json.dumps({"images": [image], "annotations": objects, "categories": classes} | changes)
    )
    return place / "coco.json"


def test_numbers_of_a_coco_json_stay(place, capsys):
    import_annotations("coco", coco_json(place), place / "out")
    coco = read_json(place / "out/annotations/instances_train.json")
    assert {c["name"]: c["id"] for c in coco["categories"]} == {"zebra": 1, "ant": 2}
    assert [(a["id"], a["image_id"], a["category_id"]) for a in coco["annotations"]] == [(70, 50, 2), (71, 50, 1)]
    assert "change" not in capsys.readouterr().out


def test_numbers_that_another_split_has_taken_are_said(place, capsys):
    import_annotations("coco", coco_json(place), place / "out")
    classes = [{"id": 1, "name": "ant"}, {"id": 2, "name": "zebra"}]
    import_annotations("coco", coco_json(place, categories=classes), place / "out", split="val")
    assert "category ids change for ant: 1, now 2, zebra: 2, now 1" in capsys.readouterr().out


def test_a_wrong_shape_can_be_left_out(place, capsys):
    outlines = [[2, 3, 9, 9]], [[2, 3, 9, 9, 2, 9]]
    objects = [{"id": i, "image_id": 50, "category_id": 1, "segmentation": s} for i, s in enumerate(outlines)]
    path = coco_json(place, annotations=objects)
    with pytest.raises(DataError, match="needs 3, or leave it out with --drop-invalid"):
        import_annotations("coco", path, place / "out")
    assert import_annotations("coco", path, place / "out", drop_invalid=True)["objects"] == 1
    shapes = [{"points": [[2, 3], [9, 9]]}, {"points": [[2, 3], [9, 3], [9, 9]]}]
    (place / "b.json").write_text(labelme_json(shapes))
    assert import_annotations("labelme", place / "b.json", place / "other", drop_invalid=True)["objects"] == 1
    assert capsys.readouterr().out.count("left out") == 2


def test_hidden_files_are_no_labelme(place):
    (place / "._a.json").write_bytes(b"\0\0")
    (place / "a.json").write_text(labelme_json([{"shape_type": "point", "points": [[3, 4]]}]))
    assert import_annotations("labelme", place, place / "out")["objects"] == 1
