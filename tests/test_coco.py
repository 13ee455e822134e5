"""COCO folders: what is read equals what is there, and each kind of bad input gets a message that helps."""

import copy
import json
import os
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from pycocotools import mask as coco_mask
from pycocotools.coco import COCO

from wsis.data.checks import near_object
from wsis.data.coco import CocoFolder, write_dataset
from wsis.data.masks import encode_masks
from wsis.data.pictures import ImageFolder, read_image
from wsis.errors import AnnotationError, DataError
from wsis.export import write_label_map
from wsis.types import IGNORE, ExtremePoints, Instances, Points, Sample
from wsis.weak import simulate_file

HEIGHT, WIDTH = 20, 30


def run_length(top, left, bottom, right):
    mask = torch.zeros(1, HEIGHT, WIDTH, dtype=torch.bool)
    mask[0, top:bottom, left:right] = True
    return encode_masks(mask)[0]


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
            {
                "id": 1,
                "image_id": 7,
                "category_id": 5,
                "segmentation": polygon,
                "iscrowd": 0,
                "bbox": [2, 3, 10, 6],
            },
            {"id": 2, "image_id": 7, "category_id": 2, "segmentation": run_length(5, 8, 9, 11)},
            {
                "id": 3,
                "image_id": 7,
                "category_id": 5,
                "segmentation": plain_counts(run_length(12, 1, 19, 9)),
            },
            {
                "id": 4,
                "image_id": 7,
                "category_id": 2,
                "segmentation": run_length(2, 8, 16, 28),
                "iscrowd": 1,
            },
        ],
        "categories": [{"id": 5, "name": "dog"}, {"id": 2, "name": "cat"}],
    }


@pytest.fixture
def folder(tmp_path):
    """A folder with the example, and a function that writes the JSON again after a change."""
    (tmp_path / "images" / "train").mkdir(parents=True)
    (tmp_path / "annotations").mkdir()
    generator = np.random.default_rng(0)
    for name in ("a.png", "b.png"):
        pixels = generator.integers(0, 256, (HEIGHT, WIDTH, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(tmp_path / "images" / "train" / name)
    write(tmp_path, example())
    return tmp_path


def write(folder, data):
    (folder / "annotations" / "instances_train.json").write_text(json.dumps(data))


def changed(folder, section, index, **values):
    """Write the example with some values of one entry replaced; None removes the key."""
    data = example()
    entry = data[section][index]
    entry.update(values)
    data[section][index] = {k: v for k, v in entry.items() if v is not None}
    write(folder, data)


def test_sample_of_an_annotated_image(folder):
    data = CocoFolder(folder)
    sample = data[0]
    assert data.classes == ("cat", "dog") and data.category_ids == (2, 5) and len(data) == 2
    assert sample.size == (HEIGHT, WIDTH) and sample.image_id == 7 and sample.file_name == "a.png"
    assert sample.truth.labels.tolist() == [1, 0, 1, 0]
    assert sample.truth.ids.tolist() == [1, 2, 3, 4]
    assert sample.truth.crowd.tolist() == [False, False, False, True]
    assert sample.truth.masks.flatten(1).sum(1).tolist() == [60, 12, 56, 280]
    assert sample.tags.tolist() == [True, True]
    assert sample.points is sample.extreme_points is sample.semantic_map is None


def test_masks_are_those_of_pycocotools(folder):
    reference = COCO(str(folder / "annotations/instances_train.json"))
    masks = [reference.annToMask(reference.anns[i]) for i in (1, 2, 3, 4)]
    assert np.array_equal(CocoFolder(folder)[0].truth.masks.numpy(), np.stack(masks))


def test_class_map_is_painted(folder):
    painted = CocoFolder(folder)[0].true_semantic
    assert painted[4, 3] == 2 and painted[6, 9] == 1  # the small cat lies on the dog
    assert painted[14, 20] == IGNORE and painted[0, 0] == 0


def test_image_without_annotations(folder):
    sample = CocoFolder(folder)[1]
    assert sample.truth.masks.shape == (0, HEIGHT, WIDTH)
    assert not sample.tags.any() and not sample.true_semantic.any()


def test_images_are_the_pixels_on_disk(folder):
    with Image.open(folder / "images/train/a.png") as picture:
        assert np.array_equal(CocoFolder(folder)[0].image.permute(1, 2, 0).numpy(), np.array(picture))


def test_lvis_image_without_file_name(folder):
    changed(folder, "images", 0, file_name=None, coco_url="http://host/train2017/a.png")
    assert CocoFolder(folder)[0].file_name == "a.png"


def test_stored_weak_labels(folder):
    data = example()
    data["annotations"][0] |= {"point": [6.4, 5], "extreme_points": [[5, 3], [2, 5], [5, 8], [11, 5]]}
    data["images"][0]["tags"] = [5]
    data["images"][1]["tags"] = []
    write(folder, data)
    first, second = CocoFolder(folder)
    assert first.points.xy.tolist() == [[pytest.approx(6.4), 5]]
    assert first.points.labels.tolist() == [1] and first.points.ids.tolist() == [1]
    assert first.extreme_points.xy.tolist() == [[[5, 3], [2, 5], [5, 8], [11, 5]]]
    assert first.tags.tolist() == [False, True]
    assert len(second.points) == len(second.extreme_points) == 0


def test_weak_file_replaces_weak_labels(folder):
    changed(folder, "annotations", 0, point=[6, 5])
    weak = example()
    weak["annotations"] = [{"id": 2, "image_id": 7, "category_id": 2, "point": [9, 6]}]
    (folder / "weak.json").write_text(json.dumps(weak))
    sample = CocoFolder(folder, weak=folder / "weak.json")[0]
    assert sample.points.ids.tolist() == [2] and len(sample.truth) == 4


def test_clicks_alone_are_enough(folder):
    """Pictures and clicks, no mask anywhere: what someone with photographs starts from."""
    weak = example()
    weak["annotations"] = [{"id": 2, "image_id": 7, "category_id": 2, "point": [9, 6]}]
    (folder / "weak.json").write_text(json.dumps(weak))
    (folder / "annotations/instances_train.json").unlink()
    sample = CocoFolder(folder, weak=folder / "weak.json")[0]
    assert sample.points.xy.tolist() == [[9, 6]] and sample.tags.tolist() == [True, False]
    assert sample.truth is sample.true_semantic is None


def test_a_click_on_a_new_object(folder):
    weak = example()
    weak["annotations"] = [{"id": 99, "image_id": 9, "category_id": 2, "point": [9, 6]}]
    (folder / "weak.json").write_text(json.dumps(weak))
    first, second = CocoFolder(folder, weak=folder / "weak.json")
    assert len(first.points) == 0 and len(first.truth) == 4
    assert second.points.ids.tolist() == [99] and second.truth is None


def test_label_pngs_are_category_ids(folder):
    values = torch.zeros(HEIGHT, WIDTH, dtype=torch.uint8)
    values[2, 3], values[4, 5], values[6, 7] = 5, 2, IGNORE
    write_label_map(folder / "semantic/train/a.png", values)
    class_map = CocoFolder(folder)[0].true_semantic
    assert class_map[[2, 4, 6, 0], [3, 5, 7, 0]].tolist() == [2, 1, IGNORE, 0]


def test_class_maps_to_train_on(folder):
    for name in ("a", "b"):
        write_label_map(folder / "maps" / f"{name}.png", torch.full((HEIGHT, WIDTH), 2))
    assert (CocoFolder(folder, semantic_dir=folder / "maps")[1].semantic_map == 2).all()


def test_simulated_labels_pass_the_checks(folder):
    path = folder / "annotations/instances_train.json"
    simulate_file(path, path, points="mask_random", extreme=True, tags=True)
    data = CocoFolder(folder)
    data.check()
    assert data[0].points.ids.tolist() == data[0].extreme_points.ids.tolist() == [1, 2, 3]


# Structure of the JSON ------------------------------------------------------------------------------------------


def test_missing_json_is_named(folder):
    with pytest.raises(DataError, match=r"instances_val.json does not exist; check the folder and the split"):
        CocoFolder(folder, "val")


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
        (
            [{"image_id": 1}],
            r"is a list \(COCO results\?\), not a COCO data set; it needs images, annotations",
        ),
        ({"images": [], "shapes": []}, "is not a COCO JSON: no list named annotations, categories"),
        ("text", "is not a COCO JSON"),
        ({"images": [3], "annotations": [], "categories": []}, r"images\[0\] has no integer id \(3\)"),
        (
            {"images": [], "annotations": [{"id": "1"}], "categories": []},
            r"annotations\[0\] has no integer id",
        ),
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
    (
        "annotations",
        0,
        {"bbox": [2, 3, 0, 6]},
        r"annotation 1: bbox \[2, 3, 0, 6\] has no area; .*drop_invalid",
    ),
    ("annotations", 0, {"bbox": [2, 3, 6]}, r"annotation 1: bbox \[2, 3, 6\] is not \[x, y, width, height\]"),
    ("annotations", 0, {"segmentation": []}, "annotation 1: segmentation .* draw it or drop the key"),
    ("annotations", 0, {"segmentation": "abc"}, "annotation 1: segmentation abc is neither"),
    ("annotations", 0, {"segmentation": [[1, 2, 3, 4]]}, "annotation 1: polygon with 2 points; it needs 3"),
    (
        "annotations",
        0,
        {"segmentation": [[1, 2, 3, 4, 5, 6, 7]]},
        "annotation 1: polygon with 7 numbers.*pairs",
    ),
    (
        "annotations",
        0,
        {"segmentation": [1, 2, 3, 4, 5, 6]},
        "annotation 1: polygon 1 is not a list of numbers",
    ),
    (
        "annotations",
        0,
        {"segmentation": [[1, 2, 3, "4", 5, 6]]},
        "annotation 1: polygon .* is not a list of numbers",
    ),
    (
        "annotations",
        0,
        {"segmentation": [[1, 2, 3, float("nan"), 5, 6]]},
        "annotation 1: polygon .* not a list of num",
    ),
    (
        "annotations",
        1,
        {"segmentation": {"size": [30, 20], "counts": [600]}},
        r"annotation 2: run length of size \[30, 20\], its image is \[20, 30\]",
    ),
    (
        "annotations",
        1,
        {"segmentation": {"size": [20, 30], "counts": [9, 90]}},
        "annotation 2: run length covers 99 pixels, but its image has 600; encode it again",
    ),
    (
        "annotations",
        1,
        {"segmentation": {"size": [20, 30], "counts": "0P"}},
        "annotation 2: run length is damaged, but its image has 600",
    ),
    (
        "annotations",
        1,
        {"segmentation": {"size": [20, 30], "counts": 5}},
        "annotation 2: run length with counts 5; they are",
    ),
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
    (
        "annotations",
        0,
        {"point": [30, 5]},
        r"annotation 1: point \[30, 5\] is outside its image of 30 x 20; click",
    ),
    ("annotations", 0, {"point": [5, -1]}, r"annotation 1: point \[5, -1\] is outside"),
    ("annotations", 0, {"point": [5]}, r"annotation 1: point \[5\] is not \[x, y\]"),
    ("annotations", 0, {"point": [5, float("nan")]}, r"annotation 1: point \[5, nan\] is not \[x, y\]"),
    ("annotations", 0, {"extreme_points": SQUARE[:3]}, "annotation 1: extreme_points .* are not four"),
    (
        "annotations",
        0,
        {"extreme_points": [*SQUARE[:3], [31, 5]]},
        r"extreme point \[31, 5\] is outside its image",
    ),
    (
        "annotations",
        0,
        {"extreme_points": [[5, 5]] * 4},
        "annotation 1: extreme_points .* do not span a box; click",
    ),
    (
        "annotations",
        0,
        {"extreme_points": SQUARE[::-1]},
        "annotation 1: extreme_points .* not in the order top, left",
    ),
]


@pytest.mark.parametrize(("section", "index", "values", "message"), WEAK_MISTAKES)
def test_mistakes_in_weak_labels(folder, section, index, values, message):
    changed(folder, section, index, **values)
    with pytest.raises(AnnotationError, match="instances_train.json: .*" + message):
        CocoFolder(folder)


# Pixels ---------------------------------------------------------------------------------------------------------


def test_click_off_its_object(folder):
    changed(folder, "annotations", 1, point=[20, 6])
    with pytest.raises(
        AnnotationError, match=r"train.json: annotation 2: point \[20.0, 6.0\] is off its object.*1 px"
    ):
        CocoFolder(folder)[0]


def test_click_beside_its_object_is_forgiven_up_to_the_tolerance(folder):
    changed(folder, "annotations", 1, point=[11, 6])  # the object ends at x = 10
    assert len(CocoFolder(folder)[0].points) == 1
    changed(folder, "annotations", 1, point=[14, 6])
    assert len(CocoFolder(folder, click_tolerance=4)[0].points) == 1
    with pytest.raises(AnnotationError):
        CocoFolder(folder)[0]


def test_extreme_point_off_its_object(folder):
    changed(folder, "annotations", 0, extreme_points=[[20, 3], [2, 5], [5, 8], [21, 5]])
    with pytest.raises(
        AnnotationError, match=r"annotation 1: extreme_points \[20.0, 3.0\] is off its object"
    ):
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
    assert data[0].truth.ids.tolist() == [2, 3, 4]


def test_missing_image_is_found_on_opening(folder):
    (folder / "images/train/b.png").unlink()
    with pytest.raises(DataError, match=r"image 9: .*b.png does not exist; add it"):
        CocoFolder(folder)


def test_truncated_image_is_named(folder):
    path = folder / "images/train/a.png"
    path.write_bytes(path.read_bytes()[:300])
    with pytest.raises(DataError, match="a.png cannot be read as a picture.*copy it again"):
        CocoFolder(folder)[0]


def test_image_of_another_size(folder):
    Image.new("RGB", (WIDTH, HEIGHT + 1)).save(folder / "images/train/a.png")
    with pytest.raises(DataError, match="a.png is 30 x 21, but .*instances_train.json says 30 x 20"):
        CocoFolder(folder)[0]


def test_check_reads_everything_and_lists_what_is_wrong(folder):
    for name in ("a.png", "b.png"):
        (folder / "images/train" / name).write_bytes(b"no picture")
    with pytest.raises(
        DataError, match=r"2 images are wrong:\n.*a.png cannot be read.*\n.*b.png cannot be read"
    ):
        CocoFolder(folder).check()


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (torch.full((HEIGHT, WIDTH), 3), r"a.png: value 3; class maps hold 0, 1..2 and 255"),
        (torch.zeros(HEIGHT, WIDTH - 1), "a.png is 29 x 20, its image 30 x 20"),
    ],
)
def test_class_maps_that_do_not_fit(folder, values, message):
    for name in ("a", "b"):
        write_label_map(folder / "maps" / f"{name}.png", values)
    with pytest.raises(DataError, match=message):
        CocoFolder(folder, semantic_dir=folder / "maps")[0]


def test_missing_class_map_is_found_on_opening(folder):
    write_label_map(folder / "maps/a.png", torch.zeros(HEIGHT, WIDTH))
    with pytest.raises(DataError, match=r"image 9: .*maps/b.png does not exist"):
        CocoFolder(folder, semantic_dir=folder / "maps")


def test_label_png_with_an_unknown_category(folder):
    write_label_map(folder / "semantic/train/a.png", torch.full((HEIGHT, WIDTH), 3))
    with pytest.raises(DataError, match="a.png: value 3 is no category id; add it"):
        CocoFolder(folder)[0]
    (folder / "semantic/categories.json").write_text(json.dumps([{"id": 3, "name": "sky"}]))
    assert not CocoFolder(folder)[0].true_semantic.any()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            {"images": [{"id": 8, "file_name": "a.png", "height": 20, "width": 30}]},
            r"image 8 .* is missing in",
        ),
        (
            {"images": [{"id": 7, "file_name": "a.png", "height": 30, "width": 30}]},
            r"image 7 \(30, 30\) is \(30, 20\)",
        ),
        (
            {"categories": [{"id": 5, "name": "cow"}, {"id": 2, "name": "cat"}]},
            "category 5 'cow' is 'dog' in",
        ),
        ({"annotations": [{"id": 1, "image_id": 9, "category_id": 5}]}, "annotation 1: image_id 9 is 7 in"),
        (
            {"annotations": [{"id": 1, "image_id": 7, "category_id": 2}]},
            "annotation 1: category_id 2 is 5 in",
        ),
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
    grid = torch.stack(torch.meshgrid(torch.arange(9.0), torch.arange(9.0), indexing="xy"), -1).reshape(
        1, 81, 2
    )
    near = near_object(mask, grid, tolerance=2).reshape(9, 9)
    assert near[2:7, 2:7].all() and near.sum() == 25


# Pictures -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGBA", "CMYK"])
def test_pictures_of_any_mode_become_rgb(tmp_path, mode):
    picture = Image.new("RGB", (5, 4), (255, 255, 255)).convert(mode)
    path = tmp_path / ("a.tif" if mode == "CMYK" else "a.png")
    picture.save(path)
    assert torch.equal(read_image(path), torch.full((3, 4, 5), 255, dtype=torch.uint8))


def test_exif_orientation_is_not_applied(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6  # "turn by a quarter to see it upright"
    Image.new("RGB", (8, 4)).save(tmp_path / "a.jpg", exif=exif)
    assert read_image(tmp_path / "a.jpg").shape == (3, 4, 8)


def test_sixteen_bits_are_refused(tmp_path):
    Image.fromarray(np.zeros((4, 4), dtype=np.uint16)).save(tmp_path / "a.png")
    with pytest.raises(DataError, match="a.png has mode I;16; save it with 8 bits"):
        read_image(tmp_path / "a.png")


def test_image_folder_is_sorted_and_takes_pictures_only(tmp_path):
    for name in ("b.JPG", "a.png", "c.jpeg"):
        Image.new("RGB", (5, 4)).save(tmp_path / name)
    (tmp_path / "notes.txt").touch()
    data = ImageFolder(tmp_path)
    assert [s.file_name for s in data] == ["a.png", "b.JPG", "c.jpeg"]
    assert [s.image_id for s in data] == [1, 2, 3]
    assert data[0].truth is data[0].points is data[0].tags is None


def test_image_folder_names_the_broken_picture(tmp_path):
    (tmp_path / "a.jpg").write_bytes(b"\xff\xd8\xff")
    with pytest.raises(DataError, match="a.jpg cannot be read as a picture"):
        ImageFolder(tmp_path)[0]


def test_image_folder_without_pictures(tmp_path):
    with pytest.raises(DataError, match="holds no picture; known endings are .jpg"):
        ImageFolder(tmp_path)
    with pytest.raises(DataError, match="nowhere is not a folder"):
        ImageFolder(tmp_path / "nowhere")


# Writing --------------------------------------------------------------------------------------------------------


class Two:
    """Two small samples with everything that can be written."""

    classes = ("cat", "dog", "cow")

    def __len__(self):
        return 2

    def __getitem__(self, index):
        generator = torch.Generator().manual_seed(index)
        masks = torch.zeros(2, 8, 9, dtype=torch.bool)
        masks[0, 1:4, 2:6], masks[1, 5:8, 3:7] = True, True
        ids = torch.tensor([1, 2]) + 2 * index
        labels = torch.tensor([2, 0])
        class_map = torch.tensor([3, 1])[:, None, None].mul(masks).amax(0).to(torch.uint8)
        class_map[0] = IGNORE
        extreme = torch.tensor([[[3, 1], [2, 2], [3, 3], [5, 2]]])
        return Sample(
            image=torch.randint(0, 256, (3, 8, 9), dtype=torch.uint8, generator=generator),
            image_id=index + 5,
            file_name=f"scene{index}.png",
            tags=torch.tensor([True, False, True]),
            points=Points.make(torch.tensor([[3, 2], [4, 6]]), labels, ids=ids),
            extreme_points=ExtremePoints(xy=extreme.float(), labels=labels[:1], ids=ids[:1]),
            truth=Instances.make(masks, labels, ids=ids),
            true_semantic=class_map,
        )


@pytest.mark.parametrize("category_ids", [None, (4, 40, 200)])
def test_what_is_written_is_read_back(tmp_path, category_ids):
    write_dataset(Two(), tmp_path, "val", category_ids)
    read = CocoFolder(tmp_path, "val")
    assert read.classes == Two.classes
    assert read.category_ids == (category_ids or (1, 2, 3))
    for ours, theirs in zip(Two(), read, strict=False):
        for name in ("image", "tags", "true_semantic"):
            assert torch.equal(getattr(ours, name), getattr(theirs, name)), name
        for name in ("points", "extreme_points", "truth"):
            pairs = zip(vars(getattr(ours, name)).values(), vars(getattr(theirs, name)).values(), strict=True)
            assert all(torch.equal(a, b) for a, b in pairs), name
        assert (ours.image_id, ours.file_name) == (theirs.image_id, theirs.file_name)


def test_written_json_is_coco(tmp_path):
    write_dataset(Two(), tmp_path, "val")
    reference = COCO(str(tmp_path / "annotations/instances_val.json"))
    assert [a["area"] for a in reference.loadAnns([1, 2, 3, 4])] == [12, 12, 12, 12]


def test_an_existing_split_is_not_overwritten(tmp_path):
    write_dataset(Two(), tmp_path, "val")
    with pytest.raises(DataError, match="instances_val.json exists already; choose another folder"):
        write_dataset(Two(), tmp_path, "val")
    write_dataset(Two(), tmp_path, "val", overwrite=True)
    write_dataset(Two(), tmp_path, "train")
    assert len(CocoFolder(tmp_path, "val")) == len(CocoFolder(tmp_path, "train")) == 2


def test_an_interrupted_write_leaves_no_split(tmp_path):
    class Broken(Two):
        def __getitem__(self, index):
            if index == 1:
                raise KeyboardInterrupt
            return super().__getitem__(index)

    with pytest.raises(KeyboardInterrupt):
        write_dataset(Broken(), tmp_path, "val")
    assert [p for p in tmp_path.rglob("*") if p.is_file()] == []
    write_dataset(Two(), tmp_path, "val")
    CocoFolder(tmp_path, "val").check()


# Photographs ----------------------------------------------------------------------------------------------------

PHOTOS = os.environ.get("WSIS_PHOTOS")


@pytest.mark.skipif(not PHOTOS, reason="WSIS_PHOTOS is not set: no real photographs to check against")
@pytest.mark.parametrize("name", ["animals7", "coco200"])
def test_photographs_are_read_as_pycocotools_reads_them(name, tmp_path):
    folder = Path(PHOTOS) / name
    simulate_file(
        folder / "annotations/instances_val.json",
        tmp_path / "weak.json",
        points="mask_random",
        extreme=True,
        tags=True,
    )
    data = CocoFolder(folder, "val", weak=tmp_path / "weak.json")
    reference = COCO(str(folder / "annotations/instances_val.json"))
    for index in range(0, len(data), 5):
        sample = data[index]
        annotations = reference.loadAnns(sample.truth.ids.tolist())
        assert len(annotations) == len(reference.getAnnIds(sample.image_id))
        for mask, annotation in zip(sample.truth.masks, annotations, strict=True):
            assert np.array_equal(mask.numpy(), reference.annToMask(annotation))
        assert len(sample.points) == (~sample.truth.crowd).sum()
