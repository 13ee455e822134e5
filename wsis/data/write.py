"""One split of a data set on disk, whole or absent: images, label PNGs, and a JSON that comes last."""

import os
import shutil
from collections.abc import Collection, Iterable
from pathlib import Path
from typing import Any, NamedTuple

from PIL import Image
from torch import Tensor
from tqdm import tqdm

from wsis.core.errors import DataError
from wsis.core.files import atomic, write_json
from wsis.core.report import report
from wsis.data.checks import file_name, read_coco
from wsis.data.coco_json import instances_json
from wsis.data.label_maps import write_label_map


class ImageEntry(NamedTuple):
    """What is written of one image: pixels uint8 [3, H, W] or a file to link, label PNG integers [H, W], entries of the
    JSON.
    """

    name: str
    image: Tensor | Path
    values: Tensor | None
    record: dict[str, Any] = {}
    annotations: list[dict[str, Any]] = []


def places(folder: Path, split: str) -> tuple[Path, Path, Path]:
    """Return the folder of images, the folder of label PNGs and the JSON of a split."""
    return folder / "images" / split, folder / "semantic" / split, folder / "annotations" / f"instances_{split}.json"


def write_split(
    folder: Path, split: str, entries: Iterable[ImageEntry], categories: list[dict[str, Any]] | None, total: int
) -> None:
    """Write one split beside its place, image by image, and rename it at the end; the JSON, if `categories`, comes last.
    What was interrupted leaves no split, and what a killed process left is removed.
    """
    images_place, maps_place, path = places(folder, split)
    for place in (images_place, maps_place):
        for rest in place.parent.glob(f".[0-9]*.{split}"):
            shutil.rmtree(rest)
    records, annotations = [], []
    with atomic(images_place) as images, atomic(maps_place) as maps:
        images.mkdir()
        maps.mkdir()
        for entry in tqdm(entries, desc=f"writing {split}", total=total, disable=None):
            if isinstance(entry.image, Path):
                _link_or_copy(entry.image, images / entry.name)
            else:
                with atomic(images / entry.name) as temporary:
                    pixels = entry.image.permute(1, 2, 0).numpy()
                    Image.fromarray(pixels).save(temporary, format="PNG", compress_level=1)
            if entry.values is not None:
                write_label_map(maps / f"{Path(entry.name).stem}.png", entry.values)
            records.append(entry.record)
            annotations += entry.annotations
        path.unlink(missing_ok=True)
    if not any(maps_place.iterdir()):
        maps_place.rmdir()
    if categories is not None:
        write_json(path, instances_json(records, annotations, categories))


def has_split(folder: Path, split: str, names: Collection[str], with_json: bool) -> bool:
    """Say whether a split with the images of these names (without suffix) is there, and tell the user so; raises
    DataError if other images are there, which nobody asked to replace.
    """
    *folders, path = places(folder, split)
    stems = [{p.stem for p in place.iterdir()} if place.is_dir() else set() for place in folders]
    listed = {Path(file_name(image)).stem for image in read_coco(path)[0]["images"]} if path.exists() else None
    names = set(names)
    if not stems[0] | stems[1] <= names or (with_json and listed not in (None, names)):
        raise DataError(f"{folder} has other images as {split}; choose another folder, or delete that split there")
    if stems != [names, names] or (with_json and listed is None):
        return False
    report(
        f"{path if with_json else folders[0]} is there already, with these images; delete it to convert {split} again"
    )
    return True


def _link_or_copy(source: Path, target: Path) -> None:
    try:
        os.link(source.resolve(), target)
    except OSError:  # another disk, or a file system without links
        shutil.copyfile(source, target)


def warn_of_count(split: str, count: int, published: int) -> None:
    if count != published:
        report(f"warning: {split} has {count:,} images, published {published:,}; is all unpacked?")
