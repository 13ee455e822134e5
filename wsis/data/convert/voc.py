"""Published data sets as folders that `CocoFolder` or `SemanticFolder` reads, converted once.

    python -m wsis convert voc --voc VOCdevkit/VOC2012 [--sbd benchmark_RELEASE/dataset] --out DIR
    python -m wsis convert coco-stuff cocostuff-10k-v1.0 DIR        (see wsis.data.convert.semantic)
    python -m wsis convert ade ADEChallengeData2016 DIR

PASCAL VOC 2012 (Everingham et al., IJCV 2015) gives the split `val` and, alone, a `train` of 1,464 images.
With the Semantic Boundaries Dataset (Hariharan et al., ICCV 2011) `train` is "trainaug": VOC's train and all
of SBD, without VOC's val. Images that are in both keep VOC's labels, which are the finer ones.

The void border of VOC lives in semantic/<split>/*.png as 255 and belongs to no mask: the argument `void` of
`evaluate.voc_ap` is `sample.true_semantic == 255`. SBD has no void. Pictures are hard links where the disk
allows it, so what edits them in place edits the originals.
"""

import os
import re
import shutil
import sys
from collections.abc import Callable, Set
from functools import partial
from pathlib import Path

import torch
from scipy.io import loadmat
from torch import Tensor
from tqdm import tqdm

from wsis.core.errors import DataError
from wsis.core.files import atomic, write_json
from wsis.core.types import BACKGROUND, IGNORE, Instances, Sample
from wsis.data.checks import file_name, read_coco
from wsis.data.coco_json import annotation_records, categories, image_record, instances_json
from wsis.data.images import read_image
from wsis.data.label_maps import read_label_map, write_label_map

VOC_CLASSES = (
    "aeroplane",
    "bicycle",
    "bird",
    "boat",
    "bottle",
    "bus",
    "car",
    "cat",
    "chair",
    "cow",
    "diningtable",
    "dog",
    "horse",
    "motorbike",
    "person",
    "pottedplant",
    "sheep",
    "sofa",
    "train",
    "tvmonitor",
)
VAL, TRAIN, TRAINAUG = 1449, 1464, 10582  # images in published work
VOC_REMEDY = "give the folder VOCdevkit/VOC2012 of the unpacked VOCtrainval_11-May-2012.tar"
SBD_REMEDY = "give the folder benchmark_RELEASE/dataset of the unpacked benchmark.tgz"
NAME = re.compile(r"\d{4}_\d{6}")

Maps = tuple[Tensor, Tensor]  # uint8 [H, W]: instances 0, 1.. and 255 = void, classes 0, 1..20 and 255 = void


def convert_voc(voc: Path | str, out: Path | str, sbd: Path | str | None = None) -> dict[str, int]:
    """Write the splits `val` and `train` with category ids 1..20; the number of images in each.

    A split is whole or absent, and one that is there with the same images is left as it is. Numbers of images
    that are not the published ones give a warning. VOC's "difficult" concerns its boxes and is not read.

    Raises:
        DataError: missing folders, unreadable or contradicting files, other images in `out`.
        DiskSpaceError: the disk is full.
    """
    voc, out = Path(voc), Path(out)
    for part in ("JPEGImages", "SegmentationClass", "SegmentationObject"):
        if not (voc / part).is_dir():
            raise DataError(f"{voc / part} is not a folder; {VOC_REMEDY}")
    val, train = (dict.fromkeys(_listed(voc, split), partial(read_voc, voc)) for split in ("val", "train"))
    published = TRAIN
    if sbd is None:
        tell(f"without --sbd, train is VOC's own ({TRAIN:,} images) and not trainaug ({TRAINAUG:,})")
    else:
        published = TRAINAUG
        more = [name for name in _names_in_sbd(Path(sbd)) if name not in val and name not in train]
        train |= dict.fromkeys(more, partial(read_sbd, Path(sbd)))
    splits = {"val": (val, VAL), "train": (train, published)}
    for split, (readers, wanted) in splits.items():
        if len(readers) != wanted:
            tell(f"warning: {split} has {len(readers):,} images, published {wanted:,}; is all unpacked?")
    for split, (readers, _) in splits.items():
        _write_split(voc, out, split, readers)
    return {split: len(readers) for split, (readers, _) in splits.items()}


def read_voc(voc: Path, name: str) -> Maps:
    """The instance map and the class map of an image of VOC; raises DataError if they cannot be read."""
    path = voc / "SegmentationClass" / f"{name}.png"
    return read_label_map(voc / "SegmentationObject" / path.name), _known_classes(read_label_map(path), path)


def read_sbd(sbd: Path, name: str) -> Maps:
    """The instance map and the class map of an image of SBD; raises DataError if they cannot be read."""
    path = sbd / "inst" / f"{name}.mat"
    try:
        truth = loadmat(path, variable_names=["GTinst"])["GTinst"][0, 0]
        ids, category = torch.from_numpy(truth["Segmentation"].astype(int)), truth["Categories"].ravel()
        table = torch.zeros(IGNORE + 1, dtype=torch.long)
        table[1 : len(category) + 1] = torch.from_numpy(category.astype(int))
        table[IGNORE] = IGNORE
        classes = table[ids]
    except Exception as error:  # scipy lets any type through, depending on where a file is damaged
        raise DataError(f"{path} is not as SBD's labels are ({error!r}); unpack it again") from error
    return ids.to(torch.uint8), _known_classes(classes, path)


def instances_of_maps(ids: Tensor, classes: Tensor, name: str = "maps") -> Instances:
    """The objects of an instance map and a class map, both uint8 [H, W], in the order of their values.

    The class of an object is the smallest one under its mask (chainercv's rule, on which the published AP
    rest); background and void are none.

    Raises:
        DataError: an object without a class; `name` says where.
    """
    present = ids.unique()
    present = present[(present != BACKGROUND) & (present != IGNORE)]
    candidates = classes.masked_fill(classes == BACKGROUND, IGNORE).long().flatten()
    smallest = torch.full((IGNORE + 1,), IGNORE).scatter_reduce_(0, ids.long().flatten(), candidates, "amin")
    category = smallest[present.long()]
    if (category == IGNORE).any():
        where = f"{name}: instance {present[category == IGNORE][0]}"
        raise DataError(f"{where} covers no pixel with a class; unpack its labels again")
    return Instances.make(ids == present[:, None, None], category - 1)


def _listed(voc: Path, split: str) -> list[str]:
    """The names in VOC's list of a split."""
    path = voc / "ImageSets" / "Segmentation" / f"{split}.txt"
    if not path.is_file():
        raise DataError(f"{path} does not exist; {VOC_REMEDY}")
    names = path.read_text(encoding="utf-8", errors="replace").split()
    wrong = [name for name in names if not NAME.fullmatch(name)]
    if wrong or not names:
        found = repr(wrong[0]) if wrong else "nothing"
        raise DataError(f"{path} holds {found}, not names like 2007_000033; {VOC_REMEDY}")
    return names


def _names_in_sbd(sbd: Path) -> list[str]:
    names = [path.stem for path in (sbd / "inst").glob("*.mat") if NAME.fullmatch(path.stem)]
    if not names:
        raise DataError(f"{sbd / 'inst'} holds no file like 2008_000002.mat; {SBD_REMEDY}")
    return names


def _known_classes(classes: Tensor, path: Path) -> Tensor:
    unknown = classes[((classes < 0) | (classes > len(VOC_CLASSES))) & (classes != IGNORE)]
    if len(unknown):
        raise DataError(f"{path}: class {unknown[0]} is none of VOC's 0..20 and 255; unpack it again")
    return classes.to(torch.uint8)


def _write_split(voc: Path, out: Path, split: str, readers: dict[str, Callable[[str], Maps]]) -> None:
    """Write one split beside its place, image by image, and rename at the end; the JSON comes last."""
    path = out / "annotations" / f"instances_{split}.json"
    places = [out / "images" / split, out / "semantic" / split]
    if _is_there(path, places, readers.keys()):
        tell(f"{path} is there already, with these images; delete it to convert {split} again")
        return
    records, annotations = [], []
    with atomic(places[0]) as images, atomic(places[1]) as semantic:
        images.mkdir()
        semantic.mkdir()
        for name in tqdm(sorted(readers), desc=f"converting {split}", disable=None):
            picture = voc / "JPEGImages" / f"{name}.jpg"
            ids, classes = readers[name](name)
            sample = _sample(picture, ids, classes)
            records.append(image_record(sample))
            annotations += annotation_records(instances_of_maps(ids, classes, name), sample.image_id)
            write_label_map(semantic / f"{name}.png", classes)
            link_or_copy(picture, images / picture.name)
    write_json(path, instances_json(records, annotations, categories(VOC_CLASSES)))


def _is_there(path: Path, places: list[Path], names: Set[str]) -> bool:
    """Whether a split is complete; what a killed conversion left is removed.

    Raises:
        DataError: other images are there, which nobody asked to replace.
    """
    for place in places:
        for left in place.parent.glob(f".[0-9]*.{place.name}"):
            shutil.rmtree(left)
    if path.exists():
        same = {Path(file_name(image)).stem for image in read_coco(path)[0]["images"]} == names
    else:
        same = {p.stem for place in places if place.is_dir() for p in place.iterdir()} <= names
    if not same:
        where = f"{path.parent.parent} has other images as {places[0].name}"
        raise DataError(f"{where}; choose another --out, or delete that split there")
    return path.exists() and all(place.is_dir() for place in places)


def _sample(picture: Path, ids: Tensor, classes: Tensor) -> Sample:
    """The picture, after a check that its maps fit; the id is the number that is VOC's name."""
    image_id = int(picture.stem.replace("_", ""))
    sample = Sample(image=read_image(picture), image_id=image_id, file_name=picture.name)
    for kind, labels in (("instance", ids), ("class", classes)):
        if labels.shape != sample.size:
            found, wanted = list(labels.shape), list(sample.size)
            raise DataError(f"{picture} is {wanted} (height, width), its {kind} map {found}; unpack both again")
    return sample


def link_or_copy(source: Path, target: Path) -> None:
    """A hard link to a file, or a copy where there can be none."""
    try:
        os.link(source.resolve(), target)
    except OSError:  # another disk, or a file system without links
        shutil.copyfile(source, target)


def tell(words: str) -> None:
    """A line for the user, beside the output."""
    print(words, file=sys.stderr, flush=True)
