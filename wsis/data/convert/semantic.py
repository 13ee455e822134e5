"""COCO-Stuff-10K and ADE20K as folders that `SemanticFolder` reads; see `wsis.data.convert.voc` for the commands.

Both get the splits `train` and `val` and category ids label + 1: COCO-Stuff (Caesar et al., CVPR 2018) 1..171 with
things before stuff, ADE20K's scene parsing (Zhou et al., CVPR 2017) 1..150. Pixels without a class are 255. Training
images that SimFormer leaves out are left out here; those of ADE20K have no pixel of a class.
"""

import shutil
from collections.abc import Callable, Sequence
from pathlib import Path

import torch
from scipy.io import loadmat
from torch import Tensor
from tqdm import tqdm

from wsis.core.errors import DataError
from wsis.core.files import atomic
from wsis.core.types import BACKGROUND, IGNORE
from wsis.data.convert.voc import link_or_copy, tell
from wsis.data.images import read_image
from wsis.data.label_maps import read_label_map, write_label_map
from wsis.data.semantic import write_categories
from wsis.data.splits import ADE20K, COCO_STUFF

DROPPED_COCO = {f"COCO_train2014_{number:012d}" for number in (16680, 230639, 382127, 429995, 314646, 3518, 58075)}
DROPPED_ADE = {
    f"ADE_train_{number:08d}"
    for number in (
        5149,
        5150,
        5152,
        5333,
        5905,
        6510,
        13298,
        14634,
        14636,
        14884,
        15320,
        15330,
        15928,
        19743,
        19385,
        19873,
    )
}
COUNTS = {"coco-stuff": {"train": 8993, "val": 1000}, "ade": {"train": 20194, "val": 2000}}  # with these dropped
COCO_REMEDY = "give the folder of the unpacked cocostuff-10k-v1.0.zip, not of a later version"
ADE_REMEDY = "give the folder of the unpacked ADEChallengeData2016.zip"


def convert_coco_stuff(source: Path | str, out: Path | str) -> dict[str, int]:
    """Write COCO-Stuff-10K v1.0; the number of images in each split. See `_convert` for errors."""
    source, splits = Path(source), {}
    for split, listed in (("train", "train"), ("val", "test")):
        path = source / "imageLists" / f"{listed}.txt"
        names = path.read_text(encoding="utf-8").split() if path.is_file() else []
        if not names:
            raise DataError(f"{path} lists no image; {COCO_REMEDY}")
        names = [name for name in names if name not in DROPPED_COCO]
        splits[split] = {source / "images" / f"{n}.jpg": source / "annotations" / f"{n}.mat" for n in names}
    return _convert("coco-stuff", splits, read_coco_stuff, COCO_STUFF, Path(out))


def convert_ade(source: Path | str, out: Path | str) -> dict[str, int]:
    """Write ADE20K's scene parsing; the number of images in each split. See `_convert` for errors."""
    source, splits = Path(source), {}
    for split, folder in (("train", "training"), ("val", "validation")):
        pictures = [p for p in sorted((source / "images" / folder).glob("*.jpg")) if p.stem not in DROPPED_ADE]
        if not pictures:
            raise DataError(f"{source / 'images' / folder} holds no picture; {ADE_REMEDY}")
        splits[split] = {p: source / "annotations" / folder / f"{p.stem}.png" for p in pictures}
    return _convert("ade", splits, read_ade, ADE20K, Path(out))


def read_coco_stuff(path: Path) -> Tensor:
    """The class map uint8 [H, W] of a .mat: stored 1 is no class (255), 2..172 are the classes 1..171."""
    try:
        values = torch.from_numpy(loadmat(path, variable_names=["S"])["S"].astype(int)) - 1
    except Exception as error:  # scipy lets any type through, depending on where a file is damaged
        raise DataError(f"{path} is not as COCO-Stuff's labels are ({error!r}); unpack it again") from error
    return _known(values, len(COCO_STUFF), path, COCO_REMEDY)


def read_ade(path: Path) -> Tensor:
    """The class map uint8 [H, W] of a label PNG: stored 0 is no class (255)."""
    return _known(read_label_map(path).long(), len(ADE20K), path, ADE_REMEDY)


def _known(values: Tensor, classes: int, path: Path, remedy: str) -> Tensor:
    wrong = values[(values < 0) | (values > classes)]
    if len(wrong):
        raise DataError(f"{path}: class {wrong[0]} is none of 0..{classes}; {remedy}")
    return values.masked_fill(values == BACKGROUND, IGNORE).to(torch.uint8)


def _convert(
    data: str, splits: dict[str, dict[Path, Path]], read: Callable[[Path], Tensor], classes: Sequence[str], out: Path
) -> dict[str, int]:
    """Write all splits, each whole or absent; one that is there with the same images is left as it is.

    Raises:
        DataError: missing or unreadable files, unknown values, sizes that differ, other images in `out`.
        DiskSpaceError: the disk is full.
    """
    write_categories(out / "semantic" / "categories.json", classes, range(1, len(classes) + 1))
    for split, files in splits.items():
        wanted = COUNTS[data][split]
        if len(files) != wanted:
            tell(f"warning: {split} has {len(files):,} images, published {wanted:,}; is all unpacked?")
        _write_split(out, split, files, read)
    return {split: len(files) for split, files in splits.items()}


def _write_split(out: Path, split: str, files: dict[Path, Path], read: Callable[[Path], Tensor]) -> None:
    """Write one split beside its place and rename at the end, the pictures as links where the disk allows it."""
    places = [out / "semantic" / split, out / "images" / split]
    for left in (left for place in places for left in place.parent.glob(f".[0-9]*.{split}")):
        shutil.rmtree(left)  # of a conversion that was killed
    found = [{p.stem for p in place.iterdir()} if place.is_dir() else set() for place in places]
    names = {picture.stem for picture in files}
    if found == [names, names]:
        return tell(f"{places[1]} is there already, with these images; delete it to convert {split} again")
    if not found[0] | found[1] <= names:
        raise DataError(f"{out} has other images as {split}; choose another folder, or delete that split there")
    with atomic(places[1]) as images, atomic(places[0]) as maps:
        images.mkdir()
        maps.mkdir()
        for picture, labels in tqdm(sorted(files.items()), desc=f"converting {split}", disable=None):
            class_map, size = read(labels), read_image(picture).shape[1:]
            if class_map.shape != size:
                raise DataError(f"{labels} is {list(class_map.shape)} (height, width), its picture {list(size)}")
            write_label_map(maps / f"{picture.stem}.png", class_map)
            link_or_copy(picture, images / picture.name)
