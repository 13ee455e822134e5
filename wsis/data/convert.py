"""Published data sets as folders that `CocoFolder` reads, converted once.

    python -m wsis.data.convert voc --voc VOCdevkit/VOC2012 [--sbd benchmark_RELEASE/dataset] --out DIR

PASCAL VOC 2012 (Everingham et al., IJCV 2015) gives the split `val` and, alone, the 1,464 images of `train`.
With the Semantic Boundaries Dataset (Hariharan et al., ICCV 2011) `train` is "trainaug": VOC's train and all of
SBD without VOC's val; images in both keep VOC's finer labels.

The void border of VOC is 255 in semantic/<split>/*.png and in no mask: `sample.true_semantic == 255` is what
`evaluate.voc_ap` takes as `void`. SBD has no void. The pictures are hard links where the file system can: edit
copies of them, or the originals change too.
"""

import argparse
import os
import re
import shutil
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from scipy.io import loadmat
from torch import Tensor
from tqdm import tqdm

from wsis.data.pictures import read_image
from wsis.errors import DataError, WsisError
from wsis.export import (
    annotation_records,
    categories,
    image_record,
    instances_json,
    read_label_map,
    write_label_map,
)
from wsis.files import atomic, read_json, write_json
from wsis.types import BACKGROUND, IGNORE, Instances, Sample

VOC_CLASSES = (
    "aeroplane", "bicycle", "bird", "boat", "bottle", "bus", "car", "cat", "chair", "cow", "diningtable", "dog",
    "horse", "motorbike", "person", "pottedplant", "sheep", "sofa", "train", "tvmonitor",
)  # fmt: skip
VAL, TRAIN, TRAINAUG = 1449, 1464, 10582
VOC_REMEDY = "give the folder VOCdevkit/VOC2012 of the unpacked VOCtrainval_11-May-2012.tar"
SBD_REMEDY = "give the folder benchmark_RELEASE/dataset of the unpacked benchmark.tgz"

Maps = tuple[Tensor, Tensor]  # instances: 0, 1.., 255 void; classes: 0, 1..20, 255 void; uint8 [H, W]


def convert_voc(voc: Path | str, out: Path | str, sbd: Path | str | None = None) -> dict[str, int]:
    """Write the splits `train` and `val`, category ids 1..20; the number of images in each.

    A split is whole or absent; one that is there with the same images is left as it is. Numbers that differ
    from the published ones give a warning. Nothing else of VOC is used: segmentation has no "difficult".

    Raises:
        DataError: missing folders, unreadable or contradicting files, another data set in `out`.
        DiskSpaceError: the disk is full.
    """
    voc, out = Path(voc), Path(out)
    for part in ("JPEGImages", "SegmentationClass", "SegmentationObject"):
        if not (voc / part).is_dir():
            raise DataError(f"{voc / part} is not a folder; {VOC_REMEDY}")
    val = dict.fromkeys(_listed(voc, "val"), partial(read_voc, voc))
    train = dict.fromkeys(_listed(voc, "train"), partial(read_voc, voc))
    if sbd is None:
        print(f"without --sbd: train is VOC's own ({TRAIN:,} images), not trainaug ({TRAINAUG:,})", file=sys.stderr)
    else:
        sbd_only = [name for name in _sbd_names(Path(sbd)) if name not in val and name not in train]
        train |= dict.fromkeys(sbd_only, partial(read_sbd, Path(sbd)))
    for split, readers, wanted in (("val", val, VAL), ("train", train, TRAINAUG if sbd else TRAIN)):
        if len(readers) != wanted:
            words = f"{split} has {len(readers):,} images, published results use {wanted:,}; is the data complete?"
            print(f"warning: {words}", file=sys.stderr)
        _write_split(voc, out, split, readers)
    return {"train": len(train), "val": len(val)}


def read_voc(voc: Path, name: str) -> Maps:
    """The instance map and the class map of an image of VOC."""
    return (
        read_label_map(voc / "SegmentationObject" / f"{name}.png"),
        _known_classes(read_label_map(voc / "SegmentationClass" / f"{name}.png"), voc / "SegmentationClass" / name),
    )


def read_sbd(sbd: Path, name: str) -> Maps:
    """The instance map and the class map of an image of SBD: `GTinst` with `Segmentation` and `Categories`."""
    path = sbd / "inst" / f"{name}.mat"
    try:
        truth = loadmat(path, variable_names=["GTinst"])["GTinst"][0, 0]
        ids, category = np.asarray(truth["Segmentation"]), np.asarray(truth["Categories"]).ravel()
    except Exception as error:  # damage shows anywhere in the parser, as any type
        raise DataError(f"{path} cannot be read as labels of SBD ({error!r}); unpack it again") from error
    if ids.ndim != 2 or not ids.size or ids.min() < 0 or ids.max() > IGNORE or len(category) >= IGNORE:
        raise DataError(f"{path}: Segmentation is no map of 0..255, or has 255 instances; unpack it again")
    table = torch.zeros(256, dtype=torch.uint8)  # an id without a category stays 0, and is found later
    table[1 : len(category) + 1] = torch.from_numpy(category.astype(np.uint8))
    table[IGNORE] = IGNORE
    ids = torch.from_numpy(ids.astype(np.uint8))
    return ids, _known_classes(table[ids.long()], path)


def instances_of_maps(ids: Tensor, classes: Tensor) -> Instances:
    """The objects of two maps uint8 [H, W], in the order of their ids.

    An object's class is the smallest under its mask (chainercv's rule, which published AP use); background and
    void are none. An object without a class gets label 254.
    """
    present = ids.unique()
    present = present[(present != BACKGROUND) & (present != IGNORE)]
    candidates = classes.masked_fill(classes == BACKGROUND, IGNORE).long().flatten()
    smallest = torch.full((256,), IGNORE).scatter_reduce_(0, ids.long().flatten(), candidates, "amin")
    return Instances.make(ids == present[:, None, None], smallest[present.long()] - 1, ids=present)


def _listed(voc: Path, split: str) -> list[str]:
    """The names in VOC's list of a split."""
    path = voc / "ImageSets" / "Segmentation" / f"{split}.txt"
    if not path.is_file():
        raise DataError(f"{path} does not exist; {VOC_REMEDY}")
    names = path.read_text(encoding="utf-8", errors="replace").split()
    wrong = [name for name in names if not re.fullmatch(r"\d{4}_\d{6}", name)]
    if wrong or not names:
        raise DataError(f"{path}: {wrong[0] if wrong else 'an empty list'!r} is no name like 2007_000033; {VOC_REMEDY}")
    return names


def _sbd_names(sbd: Path) -> list[str]:
    names = [p.stem for p in (sbd / "inst").glob("*.mat") if re.fullmatch(r"\d{4}_\d{6}", p.stem)]
    if not names:
        raise DataError(f"{sbd / 'inst'} holds no file like 2008_000002.mat; {SBD_REMEDY}")
    return names


def _known_classes(classes: Tensor, path: Path) -> Tensor:
    unknown = classes[(classes > len(VOC_CLASSES)) & (classes != IGNORE)]
    if len(unknown):
        raise DataError(f"{path}: class {unknown[0]} is none of VOC's 0..20 and 255; unpack it again")
    return classes


def _write_split(voc: Path, out: Path, split: str, readers: dict[str, Callable[[str], Maps]]) -> None:
    path = out / "annotations" / f"instances_{split}.json"
    places = [out / "images" / split, out / "semantic" / split]
    if _is_there(path, places, {f"{name}.jpg" for name in readers}):
        print(f"{path} is there already with these images; delete it to convert {split} again", file=sys.stderr)
        return
    records, annotations = [], []
    with atomic(places[0]) as images, atomic(places[1]) as semantic:
        images.mkdir()
        semantic.mkdir()
        for name in tqdm(sorted(readers), desc=f"converting {split}", disable=None):
            picture = voc / "JPEGImages" / f"{name}.jpg"
            record, own, classes = _convert(picture, *readers[name](name))
            _link(picture, images / picture.name)
            write_label_map(semantic / f"{name}.png", classes)
            records.append(record)
            annotations += own
    write_json(path, instances_json(records, annotations, categories(VOC_CLASSES)))


def _is_there(path: Path, places: list[Path], names: set[str]) -> bool:
    """Whether a split is complete; what a killed conversion left beside it is removed.

    Raises:
        DataError: other images are there, which must not be replaced unasked.
    """
    for place in places:
        for left in place.parent.glob(f".[0-9]*.{place.name}"):
            shutil.rmtree(left)
    if path.exists():
        same = {image["file_name"] for image in read_json(path)["images"]} == names
    else:
        same = not places[0].exists() or {p.name for p in places[0].iterdir()} <= names
    if not same:
        raise DataError(f"{path.parent.parent} holds other images for {places[0].name}; choose another --out")
    return path.exists() and all(place.is_dir() for place in places)


def _convert(picture: Path, ids: Tensor, classes: Tensor) -> tuple[dict[str, Any], list[dict[str, Any]], Tensor]:
    """The JSON's entries for an image, and its class map, after a check that all fit."""
    number = int(picture.stem.replace("_", ""))
    sample = Sample(image=read_image(picture), image_id=number, file_name=picture.name)
    for kind, labels in (("instance", ids), ("class", classes)):
        if labels.shape != sample.size:
            found, wanted = f"{labels.shape[1]} x {labels.shape[0]}", f"{sample.size[1]} x {sample.size[0]}"
            raise DataError(f"{picture} is {wanted}, its {kind} map {found}; unpack both again")
    instances = instances_of_maps(ids, classes)
    if (nameless := instances.labels >= len(VOC_CLASSES)).any():
        where = f"{picture.stem}: instance {instances.ids[nameless][0]}"
        raise DataError(f"{where} has no class in its label files; unpack them again")
    instances.ids.zero_()  # unknown: they count from 1 in the JSON
    return image_record(sample), annotation_records(instances, number), classes


def _link(source: Path, target: Path) -> None:
    try:
        os.link(source.resolve(), target)
    except OSError:  # another disk, or a file system without links
        shutil.copyfile(source, target)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m wsis.data.convert", description=(__doc__ or "").split("\n")[0])
    sets = parser.add_subparsers(required=True, metavar="DATA SET")
    voc = sets.add_parser("voc", help="PASCAL VOC 2012, with SBD or without")
    voc.add_argument("--voc", type=Path, required=True, metavar="DIR", help="VOCdevkit/VOC2012")
    voc.add_argument("--sbd", type=Path, metavar="DIR", help="benchmark_RELEASE/dataset: train is then trainaug")
    voc.add_argument("--out", type=Path, required=True, metavar="DIR", help="folder of the converted data set")
    return parser


def main(arguments: list[str] | None = None) -> int:
    """Convert one data set; the exit status is 2 for a mistake of the user."""
    options = _parser().parse_args(arguments)
    try:
        written = convert_voc(options.voc, options.out, options.sbd)
    except WsisError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    print(f"{options.out}: " + ", ".join(f"{split} {n:,} images" for split, n in written.items()))
    return 0


if __name__ == "__main__":
    sys.exit(main())
