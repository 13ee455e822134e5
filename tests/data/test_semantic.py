"""Semantic data sets, their crops and weak labels, conversion, and the metrics of base and novel classes."""

import json
import os
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from scipy.io import savemat

from tests.data import coco_example
from wsis.core.errors import AnnotationError, DataError
from wsis.core.types import IGNORE, Sample
from wsis.data.coco import CocoFolder, write_dataset
from wsis.data.convert.published import DROPPED_COCO, convert_ade, convert_coco_stuff
from wsis.data.label_maps import read_label_map, write_label_map
from wsis.data.semantic import (
    SemanticFolder,
    SemanticWorld,
    WithBackground,
    open_semantic,
    read_categories,
    write_semantic,
)
from wsis.data.splits import ADE20K, COCO_STUFF, find_split
from wsis.data.world import STUFF, World, WorldConfig
from wsis.evaluation.files import semantic
from wsis.evaluation.semantic import MeanIoU, grouped_iou, is_novel, pair_counts, proposal_recall, region_coverage
from wsis.methods.simformer.crops import presence
from wsis.weak.simulate import with_base_masks
from wsis.weak.sources import open_data

CONFIG = WorldConfig(size=48, objects=(1, 2), classes=("cat", "fish"))
CATEGORIES = [{"id": 0, "name": "unlabeled"}, {"id": 9, "name": "sea"}, {"id": 4, "name": "cat"}]


def write_picture(path, height, width, color=(10, 200, 30)):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (width, height), color).save(path)


@pytest.fixture
def folder(tmp_path):
    """Two pictures; the classes are cat (4) and sea (9)."""
    for name, values in (("a", [[0, 4, 4], [9, 255, 4]]), ("b", [[4, 4, 4]])):
        values = torch.tensor(values)
        write_picture(tmp_path / f"images/train/{name}.jpg", *values.shape)
        (tmp_path / "semantic/train").mkdir(parents=True, exist_ok=True)
        write_label_map(tmp_path / f"semantic/train/{name}.png", values)
    (tmp_path / "semantic/categories.json").write_text(json.dumps(CATEGORIES))
    return tmp_path


class Listed(list):
    """Samples as a data set."""

    def __init__(self, samples, classes, category_ids):
        super().__init__(samples)
        self.classes, self.category_ids, self.label_files = classes, category_ids, []


def image(class_map, tags=None, classes=3):
    """A sample whose pixels hold 4 times their place, with a true class map."""
    class_map = torch.as_tensor(class_map, dtype=torch.uint8)
    height, width = class_map.shape
    place = torch.arange(height * width).view(1, height, width) * 4 % 256
    if tags is None:
        tags = [(class_map == i + 1).any() for i in range(classes)]
    return Sample(
        image=place.to(torch.uint8).repeat(3, 1, 1),
        image_id=1,
        tags=torch.tensor(tags, dtype=torch.bool),
        true_semantic=class_map,
    )


def test_folder_reads_values_as_labels_in_the_order_of_ids(folder):
    data = SemanticFolder(folder)
    assert data.classes == ("cat", "sea") and data.category_ids == (4, 9) and len(data) == 2
    assert data[0].true_semantic.tolist() == [[255, 1, 1], [2, 255, 1]]
    assert data[0].image_id == 1 and data[1].file_name == "b.jpg" and data[0].image.shape == (3, 2, 3)
    assert data[0].semantic_map is None
    assert presence(data).tolist() == [[True, True], [True, False]] == [s.tags.tolist() for s in data]


def test_tags_of_a_json_replace_those_of_the_maps(folder):
    coco = {"images": [], "annotations": [], "categories": CATEGORIES[1:]}
    for i, (name, tags) in enumerate((("b.jpg", [4, 9]), ("a.jpg", [])), 1):
        coco["images"].append({"id": i, "file_name": name, "height": 2, "width": 3, "tags": tags})
    path = folder / "tags.json"
    path.write_text(json.dumps(coco))
    data = SemanticFolder(folder, tags=path)
    assert presence(data).tolist() == [[False, False], [True, True]] == [s.tags.tolist() for s in data]
    described = open_data(str(folder), "tiny", clicks="class_maps", weak=path).description
    path.write_text(json.dumps({**coco, "info": {"version": "2"}}))
    assert open_data(str(folder), "tiny", clicks="class_maps", weak=path).description != described
    del coco["images"][1]["tags"]
    path.write_text(json.dumps(coco))
    with pytest.raises(DataError, match="has no tags of a.jpg"):
        SemanticFolder(folder, tags=path)
    path.write_text(json.dumps({**coco, "categories": CATEGORIES[1:2], "images": coco["images"][1:]}))
    with pytest.raises(DataError, match="other categories"):
        SemanticFolder(folder, tags=path)


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda f: (f / "semantic/train/b.png").unlink(), "missing: .*b.png; every image needs"),
        (lambda f: (f / "semantic/categories.json").unlink(), "categories.json does not exist"),
        (lambda f: write_picture(f / "images/train/a.png", 2, 3), "two images share a name"),
        (
            lambda f: write_label_map(f / "semantic/train/b.png", torch.tensor([[4, 5, 4]])),
            "b.png: value 5 is no .*add it",
        ),
        (lambda f: write_picture(f / "images/train/b.jpg", 2, 3), "b.png is 3 x 1, its image 3 x 2; write it again"),
        (lambda f: (f / "images/train/b.jpg").write_bytes(b"\xff\xd8"), "b.jpg cannot be read as an image"),
    ],
)
def test_folders_that_are_not_sound(folder, spoil, message):
    spoil(folder)
    with pytest.raises(DataError, match=message):
        SemanticFolder(folder)[1]


def test_maps_lie_in_the_subfolders_of_their_pictures(folder):
    for kind, name in (("images", "b.jpg"), ("semantic", "b.png")):
        (folder / kind / "train/sub").mkdir()
        (folder / kind / "train" / name).rename(folder / kind / "train/sub" / name)
    assert [s.file_name for s in SemanticFolder(folder)] == ["a.jpg", "sub/b.jpg"]


def test_folder_without_pictures(folder):
    (folder / "images/val").mkdir()
    with pytest.raises(DataError, match="holds no image"):
        SemanticFolder(folder, "val")
    with pytest.raises(DataError, match="is not a folder"):
        SemanticFolder(folder, "test")


@pytest.mark.parametrize(
    ("entries", "words"),
    [
        ([{"id": 1}], "is not a list of"),
        ({"id": 1, "name": "cat"}, "is not a list of"),
        ([{"id": 255, "name": "cat"}], "has id 255"),
        ([{"id": 0, "name": "unlabeled"}], "has no class"),
        ([{"id": 0, "name": "cat"}, {"id": 1, "name": "sea"}], "has id 0; give each class an id from 1 to 254"),
        ([{"id": 1, "name": "cat"}, {"id": 1, "name": "sea"}], "has 1 twice"),
        ([{"id": 1, "name": "cat"}, {"id": 2, "name": "cat"}], "has 'cat' twice"),
    ],
)
def test_categories_that_are_wrong(tmp_path, entries, words):
    (tmp_path / "categories.json").write_text(json.dumps(entries))
    with pytest.raises(DataError, match=words):
        read_categories(tmp_path / "categories.json")


def test_world_has_a_class_for_every_pixel():
    world = World("val", 4, config=CONFIG)
    data = SemanticWorld(world)
    assert data.classes == ("cat", "fish", *STUFF)
    for i, sample in enumerate(data):
        assert torch.equal(sample.true_semantic, world.scene(i).semantic)
        assert (sample.tags.nonzero()[:, 0] + 1).tolist() == sample.true_semantic.unique().tolist()
        assert torch.equal(sample.image, world[i].image) and sample.truth is None


def test_world_in_the_other_layout_holds_the_same_classes_by_name():
    world = World("train", 12, config=CONFIG)
    coco, ade = SemanticWorld(world), SemanticWorld(world, "ade")
    assert list(ade.classes) == sorted(ade.classes) and "brick" not in ade.classes and "sand" not in ade.classes
    seen = set()
    for a, b in zip(coco, ade, strict=True):
        for value in a.true_semantic.unique().tolist():
            (other,) = b.true_semantic[a.true_semantic == value].unique().tolist()
            seen.add((coco.classes[value - 1], "void" if other == IGNORE else ade.classes[other - 1]))
    expected = {"brick": "void", "sand": "ground", "rock": "ground"}
    assert seen == {(n, expected.get(n, n)) for n, _ in seen} and {n for n, _ in seen} == set(coco.classes)


@pytest.mark.parametrize("layout", ["coco", "ade"])
def test_written_world_is_read_back(tmp_path, layout):
    for split in ("train", "val"):
        data = SemanticWorld(World(split, 3, config=CONFIG), layout)
        write_semantic(data, tmp_path, split)
        back = SemanticFolder(tmp_path, split)
        assert back.classes == data.classes
        for a, b in zip(data, back, strict=True):
            assert torch.equal(a.image, b.image) and torch.equal(a.true_semantic, b.true_semantic)
            assert torch.equal(a.tags, b.tags) and a.image_id == b.image_id and a.file_name == b.file_name
    instances = CocoFolder(tmp_path, "val")
    assert torch.equal(instances[0].true_semantic, back[0].true_semantic)
    stored = SemanticFolder(tmp_path, "val", tags=instances.path)
    assert torch.equal(presence(stored), presence(back))
    with pytest.raises(DataError, match="exists already"):
        write_semantic(data, tmp_path, "val")
    other = SemanticWorld(World("test", 1, config=CONFIG), "coco" if layout == "ade" else "ade")
    with pytest.raises(DataError, match="has other classes"):
        write_semantic(other, tmp_path, "test")


def test_novel_classes_have_tags_and_no_masks():
    sample = image([[0, 1, 2, 3, 255]])
    weak = with_base_masks(sample, (1,))
    assert weak.semantic_map.tolist() == [[255, 1, 255, 3, 255]]
    assert weak.tags.tolist() == [True, True, True]
    assert with_base_masks(sample, ()).semantic_map.tolist() == [[255, 1, 2, 3, 255]]
    for lacking in ("true_semantic", "tags"):
        with pytest.raises(AnnotationError, match="image 1 has no"):
            with_base_masks(replace(sample, **{lacking: None}), (1,))


def measured(predicted, true, classes):
    metric = MeanIoU(classes + 1)
    metric.update(torch.tensor(predicted), torch.tensor(true))
    return metric


def test_grouped_iou_by_hand():
    true = [1, 1, 1, 1, 2, 2, 3, 3, 3, 255, 0]
    predicted = [1, 1, 1, 2, 2, 255, 3, 4, 4, 3, 3]  # class 4 is predicted only, class 5 never occurs
    result = grouped_iou(measured(predicted, true, 5), (2, 3))
    iou = [3 / 4, 1 / 3, 1 / 3]
    np.testing.assert_allclose(result["IoU"][:3], iou)
    assert result["IoU"].isnan().tolist() == [False] * 3 + [True] * 2
    base, novel = (3 / 4 + 1 / 3) / 2, 1 / 3
    assert result["base_mIoU"] == pytest.approx(base) and result["novel_mIoU"] == pytest.approx(novel)
    assert result["mIoU"] == pytest.approx(sum(iou) / 4)
    assert result["harmonic_mIoU"] == pytest.approx(2 * base * novel / (base + novel))
    assert result["base_accuracy"] == pytest.approx((3 / 4 + 1 / 2) / 2)
    assert result["novel_accuracy"] == pytest.approx(1 / 3)


def test_grouped_iou_does_not_depend_on_batches():
    generator = torch.Generator().manual_seed(0)
    p, t = (torch.randint(0, 6, (4, 9, 9), generator=generator) for _ in range(2))
    whole, parts = MeanIoU(6), MeanIoU(6)
    whole.update(p, t)
    for i in (2, 0, 3, 1):
        parts.update(p[i], t[i])
    a, b = grouped_iou(whole, (1,)), grouped_iou(parts, (1,))
    assert torch.equal(a.pop("IoU"), b.pop("IoU")) and a == b


@pytest.mark.parametrize(("predicted", "harmonic"), [([2, 1], 0.0), ([1, 2], 1.0), ([1, 1], 0.0)])
def test_harmonic_mean_at_its_ends(predicted, harmonic):
    assert grouped_iou(measured(predicted, [1, 2], 2), (1,))["harmonic_mIoU"] == harmonic


def test_grouped_iou_without_novel_pixels_is_not_a_number():
    result = grouped_iou(measured([1, 1], [1, 1], 2), (1,))
    assert np.isnan(result["novel_mIoU"]) and np.isnan(result["harmonic_mIoU"]) and result["base_mIoU"] == 1


@pytest.fixture
def coco_stuff(tmp_path):
    """A miniature of COCO-Stuff-10K: two training images, one of which is dropped, and one test image."""
    source, dropped = tmp_path / "coco-stuff", sorted(DROPPED_COCO)[0]
    names = {"train": ["COCO_train2014_000000000001", dropped], "test": ["COCO_train2014_000000000002"]}
    values = np.array([[1, 2, 172], [81, 82, 83]], dtype=np.uint16)
    for split, listed in names.items():
        (source / "imageLists").mkdir(parents=True, exist_ok=True)
        (source / f"imageLists/{split}.txt").write_text("\n".join(listed) + "\n")
        for name in listed:
            write_picture(source / f"images/{name}.jpg", *values.shape)
            (source / "annotations").mkdir(exist_ok=True)
            savemat(source / f"annotations/{name}.mat", {"S": values, "regionMapStuff": values})
    return source


@pytest.fixture
def ade(tmp_path):
    source = tmp_path / "ade"
    for split, name in (
        ("training", "ADE_train_00000001"),
        ("training", "ADE_train_00005149"),
        ("validation", "ADE_val_00000001"),
    ):
        write_picture(source / f"images/{split}/{name}.jpg", 1, 3)
        (source / f"annotations/{split}").mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.array([[0, 1, 150]], dtype=np.uint8)).save(source / f"annotations/{split}/{name}.png")
    return source


def test_coco_stuff_is_converted(coco_stuff, tmp_path, capsys):
    out = tmp_path / "out"
    assert convert_coco_stuff(coco_stuff, out) == {"train": 1, "val": 1}
    assert "train has 1 images, published 8,993" in capsys.readouterr().out
    data = SemanticFolder(out, "train")
    assert data.classes == COCO_STUFF and data[0].true_semantic.tolist() == [[255, 1, 171], [80, 81, 82]]
    assert read_label_map(data.map_paths[0]).tolist() == [[255, 1, 171], [80, 81, 82]]
    assert [s.file_name for s in SemanticFolder(out, "val")] == ["COCO_train2014_000000000002.jpg"]
    picture = data.images.folder / data.images.names[0]
    assert os.path.samefile(picture, coco_stuff / "images" / picture.name)


def test_ade_is_converted(ade, tmp_path):
    out = tmp_path / "out"
    assert convert_ade(ade, out) == {"train": 1, "val": 1}
    data = SemanticFolder(out, "train")
    assert len(data) == 1 and data.classes == ADE20K
    assert data[0].true_semantic.tolist() == [[255, 1, 150]] and len(SemanticFolder(out, "val")) == 1


def test_finished_conversion_is_left_and_a_killed_one_done_again(ade, tmp_path, capsys):
    out = tmp_path / "out"
    (out / "images/.123.train").mkdir(parents=True)
    for _ in range(2):
        convert_ade(ade, out)
    assert "is there already" in capsys.readouterr().out and not (out / "images/.123.train").exists()
    (out / "semantic/val/ADE_val_00000001.png").unlink()
    convert_ade(ade, out)
    assert len(SemanticFolder(out, "val")) == 1
    write_picture(out / "images/val/other.jpg", 1, 1)
    with pytest.raises(DataError, match="other images as val"):
        convert_ade(ade, out)


def test_conversion_names_what_is_wrong(coco_stuff, ade, tmp_path):
    def message(data, source):
        convert = {"coco-stuff": convert_coco_stuff, "ade": convert_ade}[data]
        with pytest.raises(DataError) as error:
            convert(source, tmp_path / f"out-{data}")
        return str(error.value)

    for value, words in ((0, "class -1"), (174, "class 173 is none of 0..171; .*not of a later version")):
        savemat(coco_stuff / "annotations/COCO_train2014_000000000001.mat", {"S": np.full((2, 3), value)})
        assert re.search(words, message("coco-stuff", coco_stuff))
    (coco_stuff / "annotations/COCO_train2014_000000000001.mat").write_bytes(b"no mat")
    assert "is not as COCO-Stuff's labels are" in message("coco-stuff", coco_stuff)
    write_picture(ade / "images/training/ADE_train_00000001.jpg", 2, 3)
    assert "is [1, 3] (height, width), its image [2, 3]" in message("ade", ade)
    assert not (tmp_path / "out-ade/images/train").exists()
    (ade / "annotations/training/ADE_train_00000001.png").unlink()
    assert "does not exist" in message("ade", ade)
    assert "lists no image; give the folder" in message("coco-stuff", ade)
    assert "holds no image; give the folder" in message("ade", coco_stuff)


PHOTOS = os.environ.get("WSIS_PHOTOS")


@pytest.mark.skipif(not PHOTOS, reason="WSIS_PHOTOS is not set: no real photographs to check against")
def test_photographs_are_read_with_all_their_classes():
    folder = Path(PHOTOS) / "coco200"
    names = {c["id"]: c["name"] for c in json.loads((folder / "semantic/categories.json").read_text()) if c["id"]}
    for split in ("train", "val"):
        data = SemanticFolder(folder, split)
        assert dict(zip(data.category_ids, data.classes, strict=True)) == names
        present = presence(data)
        for index in range(0, len(data), 10):
            sample = data[index]
            stored = np.array(Image.open(folder / "semantic" / split / Path(sample.file_name).with_suffix(".png")))
            found = np.array([255, *data.category_ids])[sample.true_semantic.numpy() % 255]
            assert (found == np.where(stored == 0, 255, stored)).all()
            assert torch.equal(present[index], sample.tags)


def test_novel_pixels_are_those_of_novel_labels():
    class_map = torch.tensor([[0, 1, 2], [3, 254, 255]], dtype=torch.uint8)
    assert is_novel(class_map, (0, 253)).tolist() == [[False, True, False], [False, True, False]]
    assert not is_novel(class_map, ()).any()


def test_pairs_are_counted_by_hand():
    values = torch.tensor([1, 1, 2, 3, 3, 255, 0, 255])  # 3 is novel, the last three are of no class
    said = torch.zeros(8, 8, dtype=torch.bool)
    said[0, :2] = True
    counts = pair_counts(said, values, (2,))
    # base: two classes, never said the same; one class, twice of five
    assert counts[0].tolist() == [[0, 4], [3, 2]]
    assert counts[1].tolist() == [[0, 0], [4, 0]]


def test_regions_are_covered_by_the_best_of_all_masks():
    class_map = torch.tensor([[1, 1, 2, 2], [1, 1, 2, 255]])  # 2 is novel; one pixel is of no class
    masks = torch.zeros(2, 2, 4, dtype=torch.bool)
    masks[0, 0, :2] = True  # half of the one
    masks[1, :, 1:] = True  # the other with two pixels too many, and what does not count
    regions = region_coverage(masks, class_map, (1,))
    assert torch.allclose(regions, torch.tensor([[0, 1 / 2, 4 / 7], [1, 3 / 5, 3 / 7]]))
    recall = proposal_recall(regions)
    assert recall["base_recall50"] == recall["novel_recall50"] == recall["trivial_base_recall50"] == 1
    assert recall["novel_recall75"] == recall["trivial_novel_recall50"] == 0 and len(recall) == 8
    assert region_coverage(masks, torch.full((2, 4), 255), (1,)).shape == (0, 3)


def test_coco_folder_has_the_class_background(tmp_path):
    write_dataset(World("train", 3, config=CONFIG), tmp_path, "train")
    coco, data = CocoFolder(tmp_path), open_semantic(tmp_path, "train", None, False)
    assert data.classes == ("background", *coco.classes) and data.category_ids == (0, *coco.category_ids)
    assert find_split("random:0.5:0", data.classes) in ((1,), (2,)), "the background is never novel"
    for plain, sample in zip(coco, data, strict=True):
        assert torch.equal(sample.true_semantic, plain.true_semantic + 1) and sample.truth is None
        assert sample.tags.tolist() == [True, *plain.tags.tolist()]
    description = open_data(str(tmp_path), "small", clicks="class_maps").description
    assert "train 3 class maps" in description


def test_background_is_unlabeled_where_a_tagged_class_has_no_mask():
    class_map, tags = torch.tensor([[0, 1, 255]], dtype=torch.uint8), torch.tensor([True, False])

    def of(tags):
        sample = Sample(image=torch.zeros(3, 1, 3), image_id=1, tags=tags, true_semantic=class_map)
        dataset = Listed([sample], ("cat", "sea"), (4, 9))
        dataset.without_mask = lambda index: torch.tensor([False, False])
        return WithBackground(dataset)[0]

    complete, hidden = of(tags), of(torch.tensor([True, True]))
    assert complete.true_semantic.tolist() == [[1, 2, 255]] and complete.tags.tolist() == [True, True, False]
    assert hidden.true_semantic.tolist() == [[255, 2, 255]] and hidden.tags.tolist() == [False, True, True]


def test_clicks_make_no_class_map(tmp_path):
    coco_example.make(tmp_path)
    clicked = {"id": 5, "image_id": 9, "category_id": 2, "point": [4, 4]}
    some = coco_example.example()
    some["annotations"].append(clicked)
    coco_example.write(tmp_path, some)
    sample = open_semantic(tmp_path, "train", None, False)[1]
    assert (sample.true_semantic == IGNORE).all() and sample.tags.tolist() == [False, True, False]
    coco_example.write(tmp_path, {**some, "annotations": [clicked]})
    with pytest.raises(DataError, match="has no masks, .* learn from what is there: train attentionshift"):
        open_semantic(tmp_path, "train", None, False)
    dataset = open_semantic(
        tmp_path, "train", None, False, masks=False
    )  # as a split to evaluate on, where others have some
    assert all((sample.true_semantic == IGNORE).all() for sample in dataset)


@pytest.mark.parametrize(("names", "ids"), [(("cat", "background"), (1, 2)), (("cat", "sea"), (0, 1))])
def test_a_category_in_the_place_of_the_background_is_refused(names, ids):
    with pytest.raises(DataError, match="of what no mask covers"):
        WithBackground(Listed([], names, ids))


def test_categories_may_name_the_value_0_background(folder):
    path = folder / "semantic/categories.json"
    path.write_text(json.dumps([{"id": 0, "name": "background"}, *CATEGORIES[1:]]))
    data = SemanticFolder(folder)
    assert data.classes == ("background", "cat", "sea") and data.category_ids == (0, 4, 9)
    assert data[0].true_semantic.tolist() == [[1, 2, 2], [3, 255, 2]]
    truth = data.map_paths[0].parent
    figures = semantic(truth, truth, "names:sea")
    assert figures["base_mIoU"] == figures["novel_mIoU"] == 1 and len(figures["IoU"]) == IGNORE


def test_label_maps_without_any_class_are_refused(folder):
    for name in ("a", "b"):
        write_label_map(folder / f"semantic/train/{name}.png", torch.tensor([[0, 255, 255], [0, 0, 0]]))
    with pytest.raises(DataError, match="no image shows a class; label PNGs hold category ids from 1 to 254"):
        presence(SemanticFolder(folder))
