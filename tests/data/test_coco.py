"""COCO folders: what is read equals what is there, and what is written is read back."""

import json
import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from pycocotools.coco import COCO

from tests.data.coco_example import HEIGHT, WIDTH, changed, example, make, write
from wsis.core.errors import DataError
from wsis.core.types import IGNORE, ExtremePoints, Instances, Points, Sample
from wsis.data.coco import CocoFolder, find_records, write_dataset
from wsis.data.images import ImageFolder
from wsis.data.label_maps import write_label_map
from wsis.data.wrappers import Mapped
from wsis.data.write import annotation_records, instances_json
from wsis.weak.simulate import simulate_file


@pytest.fixture
def folder(tmp_path):
    make(tmp_path)
    return tmp_path


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


def test_simulated_labels_pass_the_checks(folder):
    path = folder / "annotations/instances_train.json"
    simulate_file(path, path, points="mask_random", extreme=True, tags=True)
    data = CocoFolder(folder)
    assert len(list(data)) == 2
    assert data[0].points.ids.tolist() == data[0].extreme_points.ids.tolist() == [1, 2, 3]


class Two:
    """Two small samples with everything that can be written."""

    classes = ("cat", "dog", "cow")
    category_ids = (1, 2, 3)

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


@pytest.mark.parametrize("category_ids", [(1, 2, 3), (4, 40, 200)])
def test_what_is_written_is_read_back(tmp_path, category_ids):
    dataset = Two()
    dataset.category_ids = category_ids
    write_dataset(dataset, tmp_path, "val")
    read = CocoFolder(tmp_path, "val")
    assert read.classes == Two.classes
    assert read.category_ids == category_ids
    for ours, theirs in zip(Two(), read, strict=False):
        for name in ("image", "tags", "true_semantic"):
            assert torch.equal(getattr(ours, name), getattr(theirs, name)), name
        for name in ("points", "extreme_points", "truth"):
            pairs = [vars(getattr(sample, name)) for sample in (ours, theirs)]
            if name == "truth":
                pairs = [{**fields, "runs": fields["runs"].decode()} for fields in pairs]
            assert all(torch.equal(value, pairs[1][field]) for field, value in pairs[0].items()), name
        assert (ours.image_id, ours.file_name) == (theirs.image_id, theirs.file_name)


def test_written_json_is_coco(tmp_path):
    write_dataset(Two(), tmp_path, "val")
    reference = COCO(str(tmp_path / "annotations/instances_val.json"))
    assert [a["area"] for a in reference.loadAnns([1, 2, 3, 4])] == [12, 12, 12, 12]


def test_an_existing_split_is_not_overwritten(tmp_path):
    write_dataset(Two(), tmp_path, "val")
    with pytest.raises(DataError, match="instances_val.json exists already; choose another folder"):
        write_dataset(Two(), tmp_path, "val")
    write_dataset(Two(), tmp_path, "train")
    assert len(CocoFolder(tmp_path, "val")) == len(CocoFolder(tmp_path, "train")) == 2


def test_without_class_maps_no_label_pngs_are_written(tmp_path):
    bare = Mapped(Two(), lambda sample: replace(sample, true_semantic=None, points=None, extreme_points=None))
    write_dataset(bare, tmp_path, "val")
    assert not (tmp_path / "semantic/val").exists()
    assert torch.equal(CocoFolder(tmp_path, "val")[0].true_semantic[1:], Two()[0].true_semantic[1:])


def test_a_class_map_with_values_beyond_the_classes_is_not_written(tmp_path):
    beyond = Mapped(Two(), lambda sample: replace(sample, true_semantic=torch.full((8, 9), 4, dtype=torch.uint8)))
    with pytest.raises(DataError, match="scene0.png: label 256..256 does not fit"):
        write_dataset(beyond, tmp_path, "val")
    assert not any(p.is_file() for p in tmp_path.rglob("*"))


def test_an_interrupted_write_leaves_no_split(tmp_path):
    def broken(sample):
        if sample.image_id == 6:
            raise KeyboardInterrupt
        return sample

    with pytest.raises(KeyboardInterrupt):
        write_dataset(Mapped(Two(), broken), tmp_path, "val")
    assert [p for p in tmp_path.rglob("*") if p.is_file()] == []
    write_dataset(Two(), tmp_path, "val")
    assert len(list(CocoFolder(tmp_path, "val"))) == 2


PHOTOS = os.environ.get("WSIS_PHOTOS")


@pytest.mark.skipif(not PHOTOS, reason="WSIS_PHOTOS is not set: no real photographs to check against")
@pytest.mark.parametrize("name", ["animals7", "coco200"])
def test_photographs_are_read_as_pycocotools_reads_them(name, tmp_path):
    folder = Path(PHOTOS) / name
    simulate_file(
        folder / "annotations/instances_val.json", tmp_path / "weak.json", points="mask_random", extreme=True, tags=True
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


def test_ids_from_0_are_ids(tmp_path):
    """Clicks, masks and their ids survive writing, and clicks are simulated as for any other id."""

    def from_zero(sample):
        rows = [replace(rows, ids=rows.ids - 1) for rows in (sample.truth, sample.points, sample.extreme_points)]
        return replace(sample, truth=rows[0], points=rows[1], extreme_points=rows[2])

    write_dataset(Mapped(Two(), from_zero), tmp_path, "train")
    assert [s.truth.ids.tolist() for s in CocoFolder(tmp_path)] == [[0, 1], [2, 3]]
    assert [s.points.ids.tolist() for s in CocoFolder(tmp_path)] == [
        (s.points.ids - 1).tolist() for s in map(Two().__getitem__, range(2))
    ]
    without = annotation_records(Instances.make(torch.ones(2, 3, 4), torch.zeros(2)), 1, (1,))
    assert [a["id"] for a in instances_json([], without, [])["annotations"]] == [1, 2]


@pytest.fixture
def frames(tmp_path):
    """A split with pictures of one name in two folders, whose ids are not in the order of the names."""
    names = ["right/f.jpg", "left/f.jpg"]
    for name in names:
        (tmp_path / "store" / name).parent.mkdir(parents=True)
        Image.new("RGB", (WIDTH, HEIGHT), "red").save(tmp_path / "store" / name)
    for folder in ("images", "annotations"):
        (tmp_path / "d" / folder).mkdir(parents=True)
    (tmp_path / "d/images/train").symlink_to("../../store")
    images = [{"id": i, "coco_url": f"{n}", "height": HEIGHT, "width": WIDTH} for i, n in enumerate(names, 3)]
    images = [{**image, "file_name": name} for image, name in zip(images, names, strict=True)]
    write(tmp_path / "d", {**example(), "images": images, "annotations": []})
    return tmp_path / "d"


def test_pictures_are_matched_to_their_records_by_their_path(frames, monkeypatch):
    def ids(folder):
        images = ImageFolder(folder)
        assert find_records(images)
        return {s.file_name: s.image_id for s in images}

    assert ids(frames / "images/train") == {"left/f.jpg": 4, "right/f.jpg": 3}
    assert ids(frames / "images/train/left") == {"left/f.jpg": 4}
    monkeypatch.chdir(frames / "images")
    assert ids(Path("train/left")) == {"left/f.jpg": 4}
    plain = ImageFolder(frames.parent / "store")
    assert find_records(plain) == [] and [s.image_id for s in plain] == [1, 2]


def test_lvis_records_without_file_name_are_matched(folder):
    data = example()
    for image in data["images"]:
        image["coco_url"] = f"http://host/train2017/{image.pop('file_name')}"
    write(folder, data)
    images = ImageFolder(folder / "images/train")
    assert find_records(images) and {s.file_name: s.image_id for s in images} == {"a.png": 7, "b.png": 9}


def test_maps_of_pictures_with_one_name_are_their_own(frames):
    for value, side in ((5, "left"), (2, "right")):
        write_label_map(frames / "semantic/train" / side / "f.png", torch.full((HEIGHT, WIDTH), value))
    assert {s.file_name: int(s.true_semantic[0, 0]) for s in CocoFolder(frames)} == {"left/f.jpg": 2, "right/f.jpg": 1}


def test_pictures_that_would_be_written_to_one_file(tmp_path):
    twins = Mapped(Two(), lambda sample: replace(sample, file_name={5: "a.jpg", 6: "a.png"}[sample.image_id]))
    with pytest.raises(DataError, match="two images would be named a.png"):
        write_dataset(twins, tmp_path, "train")
    assert not list((tmp_path / "images").iterdir())
