"""Data sets whose every pixel has one class: a folder, and the embedded world.

    FOLDER/images/<split>/*     FOLDER/semantic/<split>/<name>.png     FOLDER/semantic/categories.json

A label PNG holds category ids, 1..254; 0 and 255 are pixels without a class, which in class maps are 255. Where
categories.json has {"id": 0, "name": "background"}, 0 is a class like any other. A folder in COCO format has no
categories.json; the classes are those of its JSON and the background (`WithBackground`).
"""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor

from wsis.core.errors import DataError
from wsis.core.files import read_json, write_json
from wsis.core.types import BACKGROUND, IGNORE, Dataset, Sample
from wsis.data.checks import file_name, read_coco
from wsis.data.coco import CocoFolder, write_dataset
from wsis.data.images import ImageFolder, find_files, first_of, map_name, map_names, read_image
from wsis.data.label_maps import read_values, value_table
from wsis.data.masks import tags_from_labels, tags_from_map
from wsis.data.splits import BACKGROUND_CLASS
from wsis.data.world import STUFF, World
from wsis.data.write import categories, places

# The embedded world in the manner of ADE20K: one list by name, kinds of ground as one class, some pixels without any
MERGED = {"sand": "ground", "rock": "ground"}
UNLABELED = "brick"
# Names that a list may give to the value 0 of pixels without a class
NO_CLASS = ("unlabeled", "unlabelled", "unknown", "void", "ignore", "none", "other")


class SemanticFolder:
    """One split of a semantic data set; labels are 0..C-1 in the order of the category ids, images in that of names.

    tags: a COCO JSON with `tags` (category ids) of every image. Without it tags are those of the label PNGs, which then must
    show the novel classes too. Where tags are given, novel pixels may be 0; train with the tags of images then, as crops
    cannot tell theirs. Raises DataError if there are no images, a label PNG is missing, or category ids or names are wrong or
    occur twice; on reading, if files are unreadable, sizes differ, or a value is no category.
    """

    def __init__(self, folder: Path | str, split: str = "train", tags: Path | str | None = None) -> None:
        images, maps, _ = places(Path(folder), split)
        self.images = ImageFolder(images)
        self.classes, self.category_ids = read_categories(maps.parent / "categories.json")
        values = {c: label for label, c in enumerate(self.category_ids, 1)}
        self._values = value_table({BACKGROUND: IGNORE} | values | {IGNORE: IGNORE})
        names = map_names(self.images.names, images).values()
        files = find_files(names, maps)
        if lacking := [maps / name for name in names if name not in files]:
            raise DataError(f"missing: {first_of(lacking)}; every image needs its label PNG")
        self.map_paths = [maps / files[name] for name in names]
        self.label_files = [*self.map_paths, *([] if tags is None else [Path(tags)])]
        self._tags = None if tags is None else self._stored_tags(Path(tags))

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> Sample:
        name, class_map = self.images.names[index], self._class_map(index)
        image = read_image(self.images.folder / name, (class_map.shape[0], class_map.shape[1]))
        if image.shape[1:] != class_map.shape:
            class_map = self._class_map(index, (image.shape[1], image.shape[2]))  # says so
        tags = tags_from_map(class_map, len(self.classes)) if self._tags is None else self._tags[index]
        image_id = range(len(self))[index] + 1
        return Sample(image=image, image_id=image_id, file_name=name, true_semantic=class_map, tags=tags)

    def tags(self, index: int) -> Tensor:
        """Return the tags of one image, bool [C], without reading the image."""
        return tags_from_map(self._class_map(index), len(self.classes)) if self._tags is None else self._tags[index]

    def _class_map(self, index: int, size: tuple[int, int] | None = None) -> Tensor:
        remedy = "no category id; add it to semantic/categories.json"
        return read_values(self.map_paths[index], size, self._values, remedy)

    def _stored_tags(self, path: Path) -> Tensor:
        coco, _ = read_coco(path)
        if {c["id"] for c in coco["categories"]} - {BACKGROUND} != set(self.category_ids) - {BACKGROUND}:
            raise DataError(f"{path} has other categories than semantic/categories.json; tag all classes")
        tags = {map_name(file_name(image)): image["tags"] for image in coco["images"] if "tags" in image}
        keys = list(map(map_name, self.images.names))
        if untagged := [name for name, key in zip(self.images.names, keys, strict=True) if key not in tags]:
            raise DataError(f"{path} has no tags of {untagged[0]}; give every image some, or []")
        return torch.tensor([[c in tags[key] for c in self.category_ids] for key in keys])


class WithBackground:
    """A COCO folder with a class for every pixel: what no mask covers is of the class background, with the id 0.

    The background is unlabeled (255) in images with an object without a mask, and in those with a tag of a class that no mask
    shows, since it may hide such objects. Raises DataError if a category has the id 0 or the name background; samples carry
    no instances.
    """

    def __init__(self, dataset: CocoFolder) -> None:
        if BACKGROUND in dataset.category_ids or BACKGROUND_CLASS in dataset.classes:
            taken = f"the id 0 and the name {BACKGROUND_CLASS} are of what no mask covers"
            raise DataError(f"{taken}; remove that category, or renumber it")
        if len(dataset.classes) > IGNORE - 2 or not all(0 < i < IGNORE for i in dataset.category_ids):
            limit = "label PNGs hold category ids from 1 to 254, of 253 classes and the background"
            raise DataError(f"{dataset.path}: {limit}")
        self.dataset, self.label_files = dataset, dataset.label_files
        self.classes, self.category_ids = (BACKGROUND_CLASS, *dataset.classes), (BACKGROUND, *dataset.category_ids)

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, index: int) -> Sample:
        sample = self.dataset[index]
        class_map, tags, truth = sample.true_semantic, sample.tags, sample.truth
        assert tags is not None
        if class_map is None:  # clicks and no mask
            class_map = torch.full(sample.size, IGNORE, dtype=torch.uint8)
        shown = tags_from_map(class_map, len(tags))
        hidden = tags & ~shown  # tagged; an object under another one has its mask
        if truth is not None:
            hidden &= ~tags_from_labels(truth.labels, len(tags))
        hidden |= self.dataset.without_mask(index)
        background = IGNORE if hidden.any() else 1
        classes = torch.where(class_map == IGNORE, IGNORE, class_map + 1)
        class_map = torch.where(class_map == BACKGROUND, background, classes)
        tags = torch.cat([(class_map == 1).any()[None], shown | hidden])
        class_map = class_map.to(torch.uint8)
        return replace(sample, true_semantic=class_map, tags=tags, truth=None, points=None, extreme_points=None)


class SemanticWorld:
    """The embedded world with a class for every pixel that has one; samples carry no instances.

    layout: "coco" has objects and then stuff, and no pixel without a class; "ade" is in the order of names, with kinds of
    stuff merged (`MERGED`) and one without a class (`UNLABELED`).
    """

    def __init__(self, world: World, layout: Literal["coco", "ade"] = "coco") -> None:
        self.world, names = world, (*world.classes, *STUFF)
        self.classes = names
        if layout == "ade":
            names = tuple(MERGED.get(name, name) for name in names)
            self.classes = tuple(sorted({*names} - {UNLABELED}))
        self.category_ids = tuple(range(1, len(self.classes) + 1))
        values = [self.classes.index(name) + 1 if name in self.classes else IGNORE for name in names]
        self._value = torch.tensor([IGNORE, *values], dtype=torch.uint8)

    def __len__(self) -> int:
        return len(self.world)

    def __getitem__(self, index: int) -> Sample:
        scene = self.world.scene(index)
        true_semantic = self._value[scene.semantic.long()]
        tags, name = tags_from_map(true_semantic, len(self.classes)), f"{self.world.split}_{index:06d}.png"
        return Sample(image=scene.image, image_id=index + 1, file_name=name, tags=tags, true_semantic=true_semantic)


def open_semantic(
    folder: Path, split: str, tags: Path | None, drop_invalid: bool, *, masks: bool = True
) -> SemanticFolder | WithBackground:
    """Open one split of a folder: `SemanticFolder`, or, where there is a COCO JSON and no categories.json, `WithBackground`.

    Raises DataError if that JSON has no masks and `masks` asks for some.
    """
    _, maps, annotations = places(folder, split)
    if annotations.exists() and not (maps.parent / "categories.json").exists():
        dataset = CocoFolder(folder, split, tags, drop_invalid=drop_invalid)
        if masks and not dataset.has_masks:
            remedy = f"draw those of some classes, or learn from what is there: train {dataset.learner()}"
            raise DataError(f"{dataset.path} has no masks, of which class maps are made; {remedy}")
        return WithBackground(dataset)
    return SemanticFolder(folder, split, tags)


def read_categories(path: Path) -> tuple[tuple[str, ...], tuple[int, ...]]:
    """Read names and ids of a categories.json by ascending id; an entry 0 counts if it is named "background", and not if it
    is named "unlabeled" or the like. Raises DataError if the file is not a list of {"id", "name"}, has no class, an entry 0
    of another name, ids beyond 254, or an id or a name twice.
    """
    try:
        pairs = sorted((int(c["id"]), str(c["name"])) for c in read_json(path))
    except (TypeError, KeyError, ValueError):
        raise DataError(f'{path} is not a list of {{"id": 1, "name": "person"}}; write it so') from None
    pairs = [(i, name) for i, name in pairs if i != BACKGROUND or name.lower() not in NO_CLASS]
    ids, names = tuple(i for i, _ in pairs), tuple(name for _, name in pairs)
    wrong = [f"id {i}" for i, n in pairs if not 0 < i < IGNORE and (i, n) != (BACKGROUND, BACKGROUND_CLASS)]
    if wrong or not pairs:
        remedy = f"give each class an id from 1 to 254, and its pixels; 0 is for {BACKGROUND_CLASS} or {NO_CLASS[0]}"
        raise DataError(f"{path} has {wrong[0] if wrong else 'no class'}; {remedy}")
    if twice := [v for column in (ids, names) for v in column if column.count(v) > 1]:
        raise DataError(f"{path} has {twice[0]!r} twice; ids and names are of one class each")
    return names, ids


def write_semantic(dataset: Dataset, folder: Path | str, split: str) -> None:
    """Write any data set with true class maps as one split that `SemanticFolder` and `CocoFolder` read, whole or not; raises
    DataError if the split is there already or the folder has other classes.
    """
    write_categories(Path(folder) / "semantic" / "categories.json", dataset.classes, dataset.category_ids)
    write_dataset(dataset, folder, split)


def write_categories(path: Path, classes: Sequence[str], ids: Sequence[int]) -> None:
    """Write a categories.json, or accept the same there; a DataError says if it has other classes."""
    if not path.exists():
        write_json(path, categories(classes, ids), indent=1)
    elif read_categories(path) != (tuple(classes), tuple(ids)):
        raise DataError(f"{path} has other classes; choose another folder")
