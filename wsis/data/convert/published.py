"""PASCAL VOC 2012, COCO-Stuff-10K and ADE20K as folders that `CocoFolder` or `SemanticFolder` reads, converted once.

A split is whole or absent, and one that is there with the same images is left as it is. Images are hard links where the
disk allows it: what edits them in place edits the originals.

PASCAL VOC 2012 (Everingham et al., IJCV 2015) gives the split `val` and, alone, a `train` of 1,464 images. With the
Semantic Boundaries Dataset (Hariharan et al., ICCV 2011) `train` is "trainaug": VOC's train and all of SBD, without VOC's
val. Images that are in both keep VOC's labels, which are the finer ones. The void border of VOC is 255 in
semantic/<split>/*.png and belongs to no mask; SBD has no void.

The other two get the splits `train` and `val` and category ids label + 1: COCO-Stuff (Caesar et al., CVPR 2018) 1..171 with
things before stuff, ADE20K's scene parsing (Zhou et al., CVPR 2017) 1..150. Pixels without a class are 255. Training images
that SimFormer leaves out are left out here; those of ADE20K have no pixel of a class.
"""

import re
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

import torch
from scipy.io import loadmat
from torch import Tensor

from wsis.core.errors import DataError
from wsis.core.report import report
from wsis.core.types import BACKGROUND, IGNORE, Instances, Sample
from wsis.data.images import read_image
from wsis.data.label_maps import known_classes, read_label_map, value_table
from wsis.data.semantic import write_categories
from wsis.data.splits import ADE20K, COCO_STUFF
from wsis.data.write import ImageEntry, annotation_records, categories, image_record, write_missing

_THINGS = "aeroplane bicycle bird boat bottle bus car cat chair cow diningtable dog horse motorbike person pottedplant"
VOC_CLASSES = (*_THINGS.split(), "sheep", "sofa", "train", "tvmonitor")
VAL, TRAIN, TRAINAUG = 1449, 1464, 10582  # images in published work
VOC_REMEDY = "give the folder VOCdevkit/VOC2012 of the unpacked VOCtrainval_11-May-2012.tar"
SBD_REMEDY = "give the folder benchmark_RELEASE/dataset of the unpacked benchmark.tgz"
NAME = re.compile(r"\d{4}_\d{6}")

_known = partial(known_classes, classes=len(VOC_CLASSES), remedy="unpack it again")
Maps = tuple[Tensor, Tensor]
"""uint8 [H, W]: instances 0, 1.. and 255 = void, classes 0, 1..20 and 255 = void."""


def convert_voc(voc: Path | str, out: Path | str, sbd: Path | str | None = None) -> dict[str, int]:
    """Write the splits `val` and `train` with category ids 1..20 to the folder `out`, and return the number of images in each.

    voc: the unpacked VOCdevkit/VOC2012, whose "difficult" concerns boxes and is not read. sbd: the unpacked
    benchmark_RELEASE/dataset. Raises DataError if folders are missing, files are unreadable or contradict each other, or
    `out` has other images; DiskSpaceError if the disk is full.
    """
    voc, out = Path(voc), Path(out)
    for part in ("JPEGImages", "SegmentationClass", "SegmentationObject"):
        if not (voc / part).is_dir():
            raise DataError(f"{voc / part} is not a folder; {VOC_REMEDY}")
    val, train = (dict.fromkeys(_listed(voc, split), partial(_read_voc, voc)) for split in ("val", "train"))
    if sbd is None:
        report(f"without --sbd, train is VOC's own ({TRAIN:,} images) and not trainaug ({TRAINAUG:,})")
    else:
        names = [path.stem for path in (Path(sbd) / "inst").glob("*.mat") if NAME.fullmatch(path.stem)]
        if not names:
            raise DataError(f"{Path(sbd) / 'inst'} holds no file like 2008_000002.mat; {SBD_REMEDY}")
        train = dict.fromkeys((n for n in names if n not in val), partial(_read_sbd, Path(sbd))) | train
    counts = {}
    for split, readers, published in (("val", val, VAL), ("train", train, TRAIN if sbd is None else TRAINAUG)):
        images = {voc / "JPEGImages" / f"{name}.jpg": readers[name] for name in sorted(readers)}
        sources = {image: partial(_entry, image, read) for image, read in images.items()}
        counts[split] = write_missing(out, split, sources, published, categories(VOC_CLASSES))
    return counts


def instances_of_maps(ids: Tensor, classes: Tensor, name: str = "maps") -> Instances:
    """Return the objects of an instance map and a class map, both uint8 [H, W], in the order of their values.

    The class of an object is the smallest one under its mask (chainercv's rule, on which the published AP rests);
    background and void are none. An object without a class raises a DataError, in which `name` says where.
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
    path = voc / "ImageSets" / "Segmentation" / f"{split}.txt"
    if not path.is_file():
        raise DataError(f"{path} does not exist; {VOC_REMEDY}")
    names = path.read_text(encoding="utf-8", errors="replace").split()
    if wrong := [repr(name) for name in names if not NAME.fullmatch(name)] if names else ["nothing"]:
        raise DataError(f"{path} holds {wrong[0]}, not names like 2007_000033; {VOC_REMEDY}")
    return names


def _read_voc(voc: Path, name: str) -> Maps:
    path = voc / "SegmentationClass" / f"{name}.png"
    return read_label_map(voc / "SegmentationObject" / path.name), _known(read_label_map(path), path=path)


def _read_sbd(sbd: Path, name: str) -> Maps:
    path = sbd / "inst" / f"{name}.mat"
    try:
        truth = loadmat(path, variable_names=["GTinst"])["GTinst"][0, 0]
        ids, category = torch.from_numpy(truth["Segmentation"].astype(int)), truth["Categories"].ravel().astype(int)
        classes = value_table(dict(enumerate(category.tolist(), 1)) | {IGNORE: IGNORE}, others=BACKGROUND)[ids]
    except Exception as error:  # scipy lets any type through, depending on where a file is damaged
        raise DataError(f"{path} is not as SBD's labels are ({error!r}); unpack it again") from error
    return ids.to(torch.uint8), _known(classes, path=path)


def _entry(image: Path, read: Callable[[str], Maps]) -> ImageEntry:
    """Check that an image and its maps fit, and return what is written; its id is the number that is VOC's name."""
    ids, classes = read(image.stem)
    sample = Sample(image=read_image(image), image_id=int(image.stem.replace("_", "")), file_name=image.name)
    for kind, labels in (("instance", ids), ("class", classes)):
        if labels.shape != sample.size:
            sizes = f"{list(sample.size)} (height, width), its {kind} map {list(labels.shape)}"
            raise DataError(f"{image} is {sizes}; unpack both again")
    instances = instances_of_maps(ids, classes, image.stem)
    annotations = annotation_records(instances, sample.image_id, range(1, len(VOC_CLASSES) + 1))
    return ImageEntry(image.name, image, classes, image_record(sample), annotations)


DROPPED_COCO = {f"COCO_train2014_{number:012d}" for number in (16680, 230639, 382127, 429995, 314646, 3518, 58075)}
_DROPPED = "5149 5150 5152 5333 5905 6510 13298 14634 14636 14884 15320 15330 15928 19743 19385 19873"
DROPPED_ADE = {f"ADE_train_{int(number):08d}" for number in _DROPPED.split()}
COCO_COUNTS, ADE_COUNTS = {"train": 8993, "val": 1000}, {"train": 20194, "val": 2000}  # with these dropped
COCO_REMEDY = "give the folder of the unpacked cocostuff-10k-v1.0.zip, not of a later version"
ADE_REMEDY = "give the folder of the unpacked ADEChallengeData2016.zip"

Splits = dict[str, dict[Path, Path]]
"""Images and their labels."""
Reader = Callable[[Path], Tensor]


def convert_coco_stuff(source: Path | str, out: Path | str) -> dict[str, int]:
    """Write COCO-Stuff-10K v1.0 from `source`, the unpacked data, to the folder `out`; return the images per split. Raises
    what `convert_voc` raises.
    """
    source, splits = Path(source), {}
    for split, listed in (("train", "train"), ("val", "test")):
        path = source / "imageLists" / f"{listed}.txt"
        names = path.read_text(encoding="utf-8").split() if path.is_file() else []
        if not names:
            raise DataError(f"{path} lists no image; {COCO_REMEDY}")
        names = sorted(set(names) - DROPPED_COCO)
        splits[split] = {source / "images" / f"{n}.jpg": source / "annotations" / f"{n}.mat" for n in names}
    return _convert(splits, _read_coco_stuff, Path(out), COCO_STUFF, COCO_COUNTS)


def convert_ade(source: Path | str, out: Path | str) -> dict[str, int]:
    """Write ADE20K's scene parsing from `source` to `out`; the result and the errors are as for `convert_coco_stuff`."""
    source, splits = Path(source), {}
    for split, folder in (("train", "training"), ("val", "validation")):
        images = [p for p in sorted((source / "images" / folder).glob("*.jpg")) if p.stem not in DROPPED_ADE]
        if not images:
            raise DataError(f"{source / 'images' / folder} holds no image; {ADE_REMEDY}")
        splits[split] = {p: source / "annotations" / folder / f"{p.stem}.png" for p in images}
    known = partial(known_classes, classes=len(ADE20K), remedy=ADE_REMEDY)
    return _convert(splits, lambda path: known(read_label_map(path), path=path), Path(out), ADE20K, ADE_COUNTS)


def _convert(splits: Splits, read: Reader, out: Path, classes: Sequence[str], counts: dict[str, int]) -> dict[str, int]:
    def entry(image: Path, labels: Path) -> ImageEntry:
        class_map, size = read(labels), read_image(image).shape[1:]
        class_map = class_map.masked_fill(class_map == BACKGROUND, IGNORE)  # both lists store 0 for no class
        if class_map.shape != size:
            raise DataError(f"{labels} is {list(class_map.shape)} (height, width), its image {list(size)}")
        return ImageEntry(image.name, image, class_map)

    write_categories(out / "semantic" / "categories.json", classes, range(1, len(classes) + 1))
    sources = {split: {p: partial(entry, p, labels) for p, labels in files.items()} for split, files in splits.items()}
    return {split: write_missing(out, split, files, counts[split]) for split, files in sources.items()}


def _read_coco_stuff(path: Path) -> Tensor:
    """Read a class map [H, W] of 0..171 from a .mat, where it is stored as 1..172."""
    try:
        values = torch.from_numpy(loadmat(path, variable_names=["S"])["S"].astype(int)) - 1
    except Exception as error:  # scipy lets any type through, depending on where a file is damaged
        raise DataError(f"{path} is not as COCO-Stuff's labels are ({error!r}); unpack it again") from error
    return known_classes(values, len(COCO_STUFF), path, COCO_REMEDY)
