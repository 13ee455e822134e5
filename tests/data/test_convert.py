"""A miniature VOC and SBD: what is converted equals what was drawn, and damage is named."""

import os
import shutil

import numpy as np
import pytest
import torch
from PIL import Image
from scipy.io import savemat
from scipy.sparse import csc_matrix

from wsis.__main__ import main
from wsis.core.errors import DataError
from wsis.core.types import IGNORE, Instances
from wsis.data import write
from wsis.data.coco import CocoFolder
from wsis.data.convert import published
from wsis.data.convert.published import VOC_CLASSES, convert_voc, instances_of_maps

SIDE = 20
PERSON, DOG, SOFA = 15, 12, 18
VAL, TRAIN, BOTH, SBD_ONLY = "2007_000033", "2007_000032", "2008_000008", "2008_000002"


def box(top, left, bottom, right):
    return slice(top, bottom), slice(left, right)


def drawn(*objects):
    """An instance map and a class map: objects (box, class) numbered from 1, each with a void border."""
    ids, classes = np.zeros((2, SIDE, SIDE), dtype=np.uint8)
    for number, (place, category) in enumerate(objects, 1):
        border = tuple(slice(s.start - 1, s.stop + 1) for s in place)
        ids[border] = classes[border] = IGNORE
        ids[place], classes[place] = number, category
    return ids, classes


def write_png(path, values):
    path.parent.mkdir(parents=True, exist_ok=True)
    picture = Image.fromarray(values)
    picture.putpalette([v for i in range(256) for v in (i, 255 - i, i ^ 77)])
    picture.save(path)


def write_mat(path, ids, category):
    """The layout of SBD's inst/*.mat: a 1 x 1 struct, a cell of sparse boundaries, a column of classes."""
    path.parent.mkdir(parents=True, exist_ok=True)
    boundaries = np.empty((len(category), 1), dtype=object)
    for i in range(len(category)):
        boundaries[i, 0] = csc_matrix((SIDE, SIDE), dtype=bool)
    column = np.array(category, dtype=np.uint8).reshape(-1, 1)
    truth = {"Boundaries": boundaries, "Segmentation": ids, "Categories": column}
    savemat(path, {"GTinst": truth}, do_compression=True)


@pytest.fixture
def voc(tmp_path):
    """One image in val, two in train (one of which is in SBD too), four pictures."""
    root = tmp_path / "VOCdevkit" / "VOC2012"
    (root / "JPEGImages").mkdir(parents=True)
    (root / "ImageSets" / "Segmentation").mkdir(parents=True)
    generator = np.random.default_rng(0)
    for name in (VAL, TRAIN, BOTH, SBD_ONLY):
        noise = generator.integers(0, 256, (SIDE, SIDE, 3), dtype=np.uint8)
        Image.fromarray(noise).save(root / "JPEGImages" / f"{name}.jpg")
    maps = {
        VAL: drawn((box(2, 2, 8, 8), PERSON), (box(10, 3, 16, 18), DOG), (box(3, 11, 7, 18), PERSON)),
        TRAIN: drawn((box(4, 4, 12, 12), SOFA)),
        BOTH: drawn((box(5, 5, 9, 9), DOG)),
    }
    for name, (ids, classes) in maps.items():
        write_png(root / "SegmentationObject" / f"{name}.png", ids)
        write_png(root / "SegmentationClass" / f"{name}.png", classes)
    (root / "ImageSets/Segmentation/val.txt").write_text(f"{VAL}\n")
    (root / "ImageSets/Segmentation/train.txt").write_text(f"{TRAIN}\n{BOTH}\n")
    return root


@pytest.fixture
def sbd(tmp_path):
    """Labels of one image of its own, of one that VOC's train has and of one that VOC's val has."""
    root = tmp_path / "benchmark_RELEASE" / "dataset"
    ids = np.zeros((SIDE, SIDE), dtype=np.uint8)
    ids[box(1, 1, 6, 9)], ids[box(8, 8, 19, 12)] = 1, 2
    for name in (SBD_ONLY, BOTH, VAL):
        write_mat(root / "inst" / f"{name}.mat", ids, [DOG, PERSON])
    return root


@pytest.fixture
def out(tmp_path):
    return tmp_path / "out"


def sample_of(folder, split, name):
    data = CocoFolder(folder, split)
    return next(s for s in data if s.file_name == f"{name}.jpg")


def files(folder):
    return sorted(p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file())


def test_objects_of_voc_have_the_masks_and_classes_that_were_drawn(voc, out):
    convert_voc(voc, out)
    truth = sample_of(out, "val", VAL).truth
    assert truth.labels.tolist() == [PERSON - 1, DOG - 1, PERSON - 1]
    expected = torch.zeros(3, SIDE, SIDE, dtype=torch.bool)
    for mask, place in zip(expected, (box(2, 2, 8, 8), box(10, 3, 16, 18), box(3, 11, 7, 18)), strict=True):
        mask[place] = True
    assert torch.equal(truth.masks, expected)


def test_void_is_255_in_the_class_map_and_in_no_mask(voc, out):
    convert_voc(voc, out)
    sample = sample_of(out, "val", VAL)
    void = sample.true_semantic == IGNORE
    assert torch.equal(void, torch.from_numpy(np.array(Image.open(voc / f"SegmentationClass/{VAL}.png"))) == 255)
    assert void.any() and not (sample.truth.masks & void).any()


def test_class_map_is_that_of_voc(voc, out):
    convert_voc(voc, out)
    drawn_classes = np.array(Image.open(voc / "SegmentationClass" / f"{TRAIN}.png"))
    assert np.array_equal(sample_of(out, "train", TRAIN).true_semantic.numpy(), drawn_classes)


def test_categories_are_the_twenty_from_1_and_image_ids_the_numbers_of_voc(voc, out):
    convert_voc(voc, out)
    data = CocoFolder(out, "train")
    assert data.classes == VOC_CLASSES and data.category_ids == tuple(range(1, 21))
    assert data.classes[PERSON - 1] == "person" and data.classes[DOG - 1] == "dog"
    assert [s.image_id for s in data] == [2007000032, 2008000008]


@pytest.mark.parametrize("linked", [True, False])
def test_images_are_links_or_copies(voc, out, monkeypatch, linked):
    def refuse(source, target):
        raise OSError(18, "Invalid cross-device link")

    if not linked:
        monkeypatch.setattr(write.os, "link", refuse)
    convert_voc(voc, out)
    source, target = voc / f"JPEGImages/{VAL}.jpg", out / f"images/val/{VAL}.jpg"
    assert target.read_bytes() == source.read_bytes() and not target.is_symlink()
    assert os.path.samefile(source, target) is linked


def test_without_sbd_train_is_that_of_voc(voc, out, capsys):
    assert convert_voc(voc, out) == {"val": 1, "train": 2}
    assert len(CocoFolder(out, "train")) == 2
    assert "without --sbd, train is VOC's own (1,464 images) and not trainaug (10,582)" in capsys.readouterr().out


def test_trainaug_is_voc_train_and_sbd_without_voc_val(voc, sbd, out):
    assert convert_voc(voc, out, sbd) == {"val": 1, "train": 3}
    assert files(out / "images/train") == [f"{n}.jpg" for n in sorted((TRAIN, BOTH, SBD_ONLY))]
    assert files(out / "images/val") == [f"{VAL}.jpg"]


def test_objects_of_sbd(voc, sbd, out):
    convert_voc(voc, out, sbd)
    sample = sample_of(out, "train", SBD_ONLY)
    expected = torch.zeros(2, SIDE, SIDE, dtype=torch.bool)
    expected[0][box(1, 1, 6, 9)] = expected[1][box(8, 8, 19, 12)] = True
    assert torch.equal(sample.truth.masks, expected)
    assert sample.truth.labels.tolist() == [DOG - 1, PERSON - 1]
    assert torch.equal(sample.true_semantic, (expected[0] * DOG + expected[1] * PERSON).to(torch.uint8))


def test_image_in_both_keeps_the_labels_of_voc(voc, sbd, out):
    convert_voc(voc, out, sbd)
    sample = sample_of(out, "train", BOTH)
    assert len(sample.truth) == 1 and (sample.true_semantic == IGNORE).any()


def test_one_object_and_none_in_sbd(voc, sbd, out):
    ids = np.zeros((SIDE, SIDE), dtype=np.uint8)
    write_mat(sbd / "inst/2009_000001.mat", ids, [])
    ids[3:5, 3:5] = 1
    write_mat(sbd / "inst/2009_000002.mat", ids, [DOG])
    for name in ("2009_000001", "2009_000002"):
        shutil.copyfile(voc / f"JPEGImages/{VAL}.jpg", voc / f"JPEGImages/{name}.jpg")
    convert_voc(voc, out, sbd)
    assert len(sample_of(out, "train", "2009_000001").truth) == 0
    assert sample_of(out, "train", "2009_000002").truth.labels.tolist() == [DOG - 1]


def test_class_is_the_smallest_under_the_mask_that_is_no_void_or_background():
    ids, classes = torch.zeros(2, 1, 6, dtype=torch.uint8)
    ids[0] = torch.tensor([1, 1, 1, 3, 3, 255])
    classes[0] = torch.tensor([DOG, PERSON, 0, IGNORE, SOFA, 5])
    assert instances_of_maps(ids, classes).labels.tolist() == [DOG - 1, SOFA - 1]


def test_maps_without_objects():
    empty = torch.zeros(4, 5, dtype=torch.uint8)
    found = instances_of_maps(empty, empty)
    assert isinstance(found, Instances) and found.masks.shape == (0, 4, 5)


def test_numbers_that_are_not_the_published_ones_are_told(voc, sbd, out, capsys):
    convert_voc(voc, out, sbd)
    printed = capsys.readouterr().out
    assert "warning: val has 1 images, published 1,449" in printed
    assert "warning: train has 3 images, published 10,582" in printed


def test_published_numbers_give_no_warning(voc, out, capsys, monkeypatch):
    monkeypatch.setattr(published, "VAL", 1)
    monkeypatch.setattr(published, "TRAIN", 2)
    convert_voc(voc, out)
    assert "warning" not in capsys.readouterr().out


def test_failure_leaves_nothing_of_the_split(voc, out):
    (voc / f"JPEGImages/{BOTH}.jpg").write_bytes(b"no picture")
    with pytest.raises(DataError, match=f"{BOTH}.jpg cannot be read as an image"):
        convert_voc(voc, out)
    assert files(out) == ["annotations/instances_val.json", f"images/val/{VAL}.jpg", f"semantic/val/{VAL}.png"]


def test_second_run_leaves_a_finished_split_as_it_is(voc, out, capsys):
    convert_voc(voc, out)
    path = out / "annotations/instances_val.json"
    before = path.stat().st_mtime_ns, files(out)
    assert convert_voc(voc, out) == {"val": 1, "train": 2}
    assert (path.stat().st_mtime_ns, files(out)) == before
    assert f"{path} is there already" in capsys.readouterr().out


def test_run_after_a_kill_starts_the_split_again_and_cleans_up(voc, out):
    convert_voc(voc, out)
    expected = files(out)
    (out / "annotations/instances_val.json").unlink()
    (out / "images/.123.val").mkdir()
    (out / "images/.123.val" / f"{VAL}.jpg").touch()
    convert_voc(voc, out)
    assert files(out) == expected


def test_other_images_in_the_split_are_not_replaced(voc, out):
    (out / "images/train").mkdir(parents=True)
    (out / "images/train/mine.jpg").touch()
    with pytest.raises(DataError, match="has other images as train; choose another folder"):
        convert_voc(voc, out)
    assert (out / "images/train/mine.jpg").exists()


def test_train_without_sbd_is_not_taken_for_trainaug(voc, sbd, out):
    convert_voc(voc, out)
    with pytest.raises(DataError, match="has other images as train"):
        convert_voc(voc, out, sbd)


LIST, PNG, MAT = "ImageSets/Segmentation/val.txt", f"SegmentationClass/{VAL}.png", f"inst/{SBD_ONLY}.mat"


def flat(value, height=SIDE):
    return np.full((height, SIDE), value, dtype=np.uint8)


def cut(path, share):
    content = path.read_bytes()
    path.write_bytes(content[: int(share * len(content))])


DAMAGE = [
    (
        lambda voc, sbd: shutil.rmtree(voc / "JPEGImages"),
        "JPEGImages is not a folder; give the folder VOCdevkit/VOC2012",
    ),
    (lambda voc, sbd: shutil.rmtree(voc / "SegmentationObject"), "SegmentationObject is not a folder; give the folder"),
    (lambda voc, sbd: (voc / LIST).unlink(), r"val\.txt does not exist; give the folder"),
    (lambda voc, sbd: (voc / LIST).write_text(""), r"val\.txt holds nothing, not names like 2007_000033"),
    (
        lambda voc, sbd: (voc / LIST).write_text(f"{VAL}\ncat.jpg\n"),
        r"val\.txt holds 'cat.jpg', not names like 2007_000033",
    ),
    (lambda voc, sbd: shutil.rmtree(sbd / "inst"), "inst holds no file .*; give the folder benchmark_RELEASE/dataset"),
    (lambda voc, sbd: cut(voc / PNG, 0.5), f"{PNG} cannot be read as a label map"),
    (lambda voc, sbd: cut(sbd / MAT, 0.0), f"{MAT} is not as SBD's labels are"),
    (lambda voc, sbd: cut(sbd / MAT, 0.3), f"{MAT} is not as SBD's labels are"),
    (lambda voc, sbd: cut(sbd / MAT, 0.95), f"{MAT} is not as SBD's labels are"),
    (lambda voc, sbd: savemat(sbd / MAT, {"GTcls": flat(0)}), f"{MAT} is not as SBD's labels are .*GTinst"),
    (lambda voc, sbd: write_png(voc / PNG, flat(0, SIDE - 1)), r"\[20, 20\] .*, its class map \[19, 20\]; unpack both"),
    (lambda voc, sbd: write_png(voc / PNG, flat(0)), f"{VAL}: instance 1 covers no pixel with a class"),
    (lambda voc, sbd: write_png(voc / PNG, flat(21)), f"{PNG}: class 21 is none of 0..20; unpack"),
    (lambda voc, sbd: write_mat(sbd / MAT, flat(2), [DOG]), f"{SBD_ONLY}: instance 2 covers no pixel with a class"),
    (lambda voc, sbd: write_mat(sbd / MAT, flat(1), [33]), f"{MAT}: class 33 is none of 0..20; unpack"),
]


@pytest.mark.parametrize(("spoil", "message"), DAMAGE)
def test_damage_is_named(voc, sbd, out, spoil, message):
    spoil(voc, sbd)
    with pytest.raises(DataError, match=message):
        convert_voc(voc, out, sbd)


def test_command_line(voc, sbd, out, capsys):
    assert main(["convert", "voc", "--voc", str(voc), "--sbd", str(sbd), "--out", str(out)]) == 0
    assert capsys.readouterr().out.endswith(f"{out}: val 1, train 3 images\n")
    assert main(["convert", "voc", "--voc", str(out), "--out", str(out)]) == 2
    assert "error: " in capsys.readouterr().err
