"""COCO-Stuff-10K and ADE20K as folders that `SemanticFolder` reads.

Both get the splits `train` and `val` and category ids label + 1: COCO-Stuff (Caesar et al., CVPR 2018) 1..171 with things
before stuff, ADE20K's scene parsing (Zhou et al., CVPR 2017) 1..150. Pixels without a class are 255. Training images that
SimFormer leaves out are left out here; those of ADE20K have no pixel of a class.
"""

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

import torch
from scipy.io import loadmat
from torch import Tensor

from wsis.core.errors import DataError
from wsis.core.types import BACKGROUND, IGNORE
from wsis.data.images import read_image
from wsis.data.label_maps import known_classes, read_label_map
from wsis.data.semantic import write_categories
from wsis.data.splits import ADE20K, COCO_STUFF
from wsis.data.write import ImageEntry, write_missing

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
    return _convert(splits, _read_ade, Path(out), ADE20K, ADE_COUNTS)


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


def _read_ade(path: Path) -> Tensor:
    return known_classes(read_label_map(path), len(ADE20K), path, ADE_REMEDY)
