"""Data sets whose every pixel has one class: a folder, the embedded world, and the random crops of a training.

    FOLDER/images/<split>/*     FOLDER/semantic/<split>/<stem>.png     FOLDER/semantic/categories.json

A label PNG holds category ids, 1..254; 0 and 255 are pixels without a class, which in class maps are 255.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor

from wsis.data.checks import file_name, read_coco
from wsis.data.coco import write_dataset
from wsis.data.labelled import category_ids, read_all
from wsis.data.pictures import ImageFolder
from wsis.data.transforms import Augment, PaddedSample, resize, short_side
from wsis.data.world import STUFF, World
from wsis.errors import AnnotationError, DataError
from wsis.export import categories, read_label_map
from wsis.files import read_json, write_json
from wsis.types import BACKGROUND, IGNORE, Dataset, Sample
from wsis.weak import tags_from_map, with_base_masks

UNKNOWN = 0  # in the table of values, where 0 itself becomes 255
DRAWS = 50  # of a crop until one shows a class

# The embedded world in the manner of ADE20K: one list by name, kinds of ground as one class, some pixels without any
MERGED = {"sand": "ground", "rock": "ground"}
UNLABELLED = "brick"


class SemanticFolder:
    """One split of a semantic data set; labels are 0..C-1 in the order of the category ids, images in that of names.

    Samples have image, true_semantic (void is 255) and tags; `image_id` counts from 1.

    Args:
        tags: a COCO JSON with `tags` (category ids) of every image. Without it tags are those of the label PNGs, which
            then must show the novel classes too. Novel pixels may be 0 where tags are given; train with the tags of
            images then, as crops cannot tell theirs.

    Raises:
        DataError: no pictures, a picture without a label PNG, category ids or names that are wrong or occur twice;
            on reading, or by `check`: unreadable files, sizes that differ, values that are no category.
    """

    def __init__(self, folder: Path | str, split: str = "train", tags: Path | str | None = None) -> None:
        self.folder, self.split = Path(folder), split
        self.pictures = ImageFolder(self.folder / "images" / split)
        self.classes, self.category_ids = read_categories(self.folder / "semantic" / "categories.json")
        self._value = torch.full((256,), UNKNOWN, dtype=torch.uint8)
        self._value[list(self.category_ids)] = torch.arange(1, len(self.classes) + 1, dtype=torch.uint8)
        self._value[[BACKGROUND, IGNORE]] = IGNORE
        maps = self.folder / "semantic" / split
        self.map_paths = [maps / f"{stem}.png" for stem in self.pictures.stems()]
        lacking = [path for path in self.map_paths if not path.is_file()]
        if lacking:
            more = f" and {len(lacking) - 1} others do" if len(lacking) > 1 else " does"
            raise DataError(f"{lacking[0]}{more} not exist; every picture needs its label PNG")
        self._tags = None if tags is None else self._stored_tags(Path(tags))

    def __len__(self) -> int:
        return len(self.pictures)

    def __getitem__(self, index: int) -> Sample:
        sample, path = self.pictures[index], self.map_paths[index]
        true_semantic = self._class_map(index)
        if true_semantic.shape != sample.size:
            found, size = (" x ".join(map(str, reversed(s))) for s in (true_semantic.shape, sample.size))
            raise DataError(f"{path} is {found}, its image {size}; write it again")
        tags = tags_from_map(true_semantic, len(self.classes)) if self._tags is None else self._tags[index]
        return replace(sample, true_semantic=true_semantic, tags=tags)

    def tags(self, index: int) -> Tensor:
        """The tags of one image, bool [C], without reading its picture."""
        return (
            tags_from_map(self._class_map(index), len(self.classes))
            if self._tags is None
            else self._tags[index]
        )

    def check(self) -> None:
        """Read every sample; raises DataError, see `read_all`."""
        read_all(self, self.folder)

    def _class_map(self, index: int) -> Tensor:
        path = self.map_paths[index]
        values = read_label_map(path)
        class_map = self._value[values.long()]
        if (class_map == UNKNOWN).any():
            value = values[class_map == UNKNOWN][0]
            raise DataError(f"{path}: value {value} is no category id; add it to semantic/categories.json")
        return class_map

    def _stored_tags(self, path: Path) -> Tensor:
        coco, _ = read_coco(path)
        if {c["id"] for c in coco["categories"]} - {BACKGROUND} != set(self.category_ids):
            raise DataError(f"{path} has other categories than semantic/categories.json; tag all classes")
        label = {c: i for i, c in enumerate(self.category_ids)}
        of_name = {Path(file_name(i)).stem: i["tags"] for i in coco["images"] if "tags" in i}
        tags = torch.zeros(len(self), len(self.classes), dtype=torch.bool)
        for row, picture in zip(tags, self.pictures.paths, strict=True):
            if picture.stem not in of_name:
                raise DataError(f"{path} has no tags of {picture.name}; give every image some, or []")
            row[[label[c] for c in of_name[picture.stem] if c in label]] = True
        return tags


class SemanticWorld:
    """The embedded world with a class for every pixel that has one; samples carry no instances.

    layout: "coco", things and then stuff, no pixel without a class; or "ade", another list: in the order of names,
    with kinds of stuff merged (`MERGED`) and one without a class (`UNLABELLED`).
    """

    def __init__(self, world: World, layout: Literal["coco", "ade"] = "coco") -> None:
        self.world, names = world, (*world.classes, *STUFF)
        merged = (
            {n: MERGED.get(n, n) for n in names if n != UNLABELLED}
            if layout == "ade"
            else {n: n for n in names}
        )
        self.classes = tuple(sorted(set(merged.values())) if layout == "ade" else names)
        values = [self.classes.index(merged[n]) + 1 if n in merged else IGNORE for n in names]
        self._value = torch.tensor([IGNORE, *values], dtype=torch.uint8)

    def __len__(self) -> int:
        return len(self.world)

    def __getitem__(self, index: int) -> Sample:
        scene = self.world.scene(index)
        true_semantic = self._value[scene.semantic.long()]
        return Sample(
            image=scene.image,
            image_id=index + 1,
            file_name=f"{self.world.split}_{index:06d}.png",
            tags=tags_from_map(true_semantic, len(self.classes)),
            true_semantic=true_semantic,
        )


@dataclass(frozen=True, kw_only=True)
class SemanticAugment:
    """Random size, place, color and flip of a sample with a class map; the same sample and seed give the same result.

    A crop is drawn again, up to 50 times, until it has something to learn from: a pixel with a class, or the tag of a
    novel class. After that the whole image is made to fit.

    Args:
        crop: side of the square that comes out, pixels; right of and below a smaller image it is padding.
        short: sides to choose from, pixels of the shorter side. long: at most, pixels of the longer side.
        flip: probability of a left-right flip.
        novel: labels whose pixels are 255 in `semantic_map`.
        masks: "base"; "all" keeps the novel ones; "given" takes the sample's own `semantic_map` and never the truth.
        tag_scope: tags of what the crop shows (of the truth; with masks "given" of that map), or of the whole image.
    """

    crop: int
    short: tuple[int, ...]
    long: int
    flip: float = 0.5
    novel: tuple[int, ...] = ()
    masks: Literal["base", "all", "given"] = "base"
    tag_scope: Literal["crop", "image"] = "crop"
    annotates: ClassVar[bool] = True

    def __call__(self, sample: Sample, seed: int) -> PaddedSample:
        """image [3, S, S], semantic_map, valid [S, S] and tags [C] of a crop; the truth is left out.

        Raises:
            AnnotationError: the sample lacks its class map or tags, or has a novel tag that crops would not see.
        """
        sample = self._learnable(sample)
        generator, novel = torch.Generator().manual_seed(seed), list(self.novel)
        for _ in range(DRAWS):
            window = self._window(sample, torch.rand(3, generator=generator, dtype=torch.float64).tolist())
            if (window.semantic_map != IGNORE).any() or window.tags[novel].any():  # pyright: ignore
                break
        else:
            window = self._tagged(resize(sample, short_side(sample.size, self.crop, self.crop)))
        # SSD's four changes: the second, its contrast, is a factor; a turn of 18 is of OpenCV's 180
        augment = Augment(
            crop=self.crop, long_side=None, scale=(1, 1), scale_step=0, flip=self.flip,
            shift=32, brightness=0.5, contrast=0, saturation=0.5, hue=18 / 180, color_probability=0.5,
        )  # fmt: skip
        last = int(torch.randint(2**62, (), generator=generator))
        return _moved_to_corner(augment(replace(window, true_semantic=None), last))

    def _learnable(self, sample: Sample) -> Sample:
        """The sample with the map to learn from; `true_semantic` is then what crops take their tags from."""
        sample = replace(sample, truth=None, points=None, extreme_points=None)
        if self.masks != "given":
            learnable = with_base_masks(sample, self.novel, self.masks)
            if self.masks == "base" and self.tag_scope == "crop":
                self._check_tags(sample)
            return learnable
        return with_base_masks(replace(sample, true_semantic=sample.semantic_map), (), "all")

    def _check_tags(self, sample: Sample) -> None:
        """A novel class that is tagged but never in the map would be in no crop's tags, and not be learned."""
        assert sample.true_semantic is not None and sample.tags is not None
        lost = sample.tags & ~tags_from_map(sample.true_semantic, len(sample.tags))
        if labels := [label for label in self.novel if lost[label]]:
            raise AnnotationError(
                f"image {sample.image_id} ({sample.file_name}) is tagged with the novel class {labels[0]} (from 0) and its "
                "label map does not show it, so that no crop can tell its tags; train with --set tag_scope=image"
            )

    def _window(self, sample: Sample, chance: Sequence[float]) -> Sample:
        """A random part, at most `crop` wide and high, of the sample at a random size."""
        short = self.short[int(chance[0] * len(self.short))]
        sample = resize(sample, short_side(sample.size, short, self.long))
        room = (max(side - self.crop, 0) for side in sample.size)
        top, left = (int(c * (r + 1)) for c, r in zip(chance[1:], room, strict=True))
        part = (..., slice(top, top + self.crop), slice(left, left + self.crop))
        moved = {k: getattr(sample, k)[part] for k in ("image", "semantic_map", "true_semantic")}
        return self._tagged(replace(sample, **moved))

    def _tagged(self, sample: Sample) -> Sample:
        if self.tag_scope == "image":
            return sample
        assert sample.true_semantic is not None and sample.tags is not None
        return replace(sample, tags=tags_from_map(sample.true_semantic, len(sample.tags)))


def _moved_to_corner(sample: PaddedSample) -> PaddedSample:
    """The sample with its image in the upper left corner of the padding."""
    valid: Any = sample.valid
    shift = (-int(valid.any(1).byte().argmax()), -int(valid.any(0).byte().argmax()))
    moved = {k: getattr(sample, k).roll(shift, (-2, -1)) for k in ("image", "semantic_map", "valid")}
    return replace(sample, **moved)


def presence(dataset: Dataset) -> Tensor:
    """Which classes each image is tagged with: bool [n, C].

    From the data set's method `tags(index)` where it has one, else from its samples.
    """
    tags: Any = getattr(dataset, "tags", lambda index: dataset[index].tags)
    return torch.stack([tags(index) for index in range(len(dataset))])


def read_categories(path: Path) -> tuple[tuple[str, ...], tuple[int, ...]]:
    """Names and ids of a categories.json, in ascending order of the ids; entry 0, "unlabelled", is left out.

    Raises:
        DataError: not a list of {"id", "name"}, no class, ids beyond 254, or an id or a name that occurs twice.
    """
    entries = read_json(path)
    try:
        pairs = sorted((int(c["id"]), str(c["name"])) for c in entries if c["id"] != BACKGROUND)
    except (TypeError, KeyError, ValueError):
        raise DataError(f'{path} is not a list of {{"id": 1, "name": "person"}}; write it so') from None
    ids, names = (tuple(column) for column in zip(*pairs, strict=True)) if pairs else ((), ())
    wrong = [i for i in ids if not 0 < i < IGNORE]
    if wrong or not ids:
        found = f"id {wrong[0]}" if wrong else "no class"
        raise DataError(f"{path} has {found}; give each class an id from 1 to 254, as its pixels have")
    for column in (ids, names):
        twice = [v for v in column if column.count(v) > 1]
        if twice:
            raise DataError(f"{path} has {twice[0]!r} twice; ids and names are of one class each")
    return names, ids


def write_semantic(dataset: Dataset, folder: Path | str, split: str, *, overwrite: bool = False) -> None:
    """Write any data set with true class maps as one split that `SemanticFolder` reads, and `CocoFolder` too.

    Ids are the data set's own, or label + 1. What is interrupted leaves no split.

    Raises:
        DataError: the split is there already and `overwrite` is not set, or the folder has other classes.
        DiskSpaceError: the disk is full.
    """
    path, ids = Path(folder) / "semantic" / "categories.json", category_ids(dataset)
    write_categories(path, dataset.classes, ids)
    write_dataset(dataset, folder, split, ids, overwrite=overwrite)


def write_categories(path: Path, classes: Sequence[str], ids: Sequence[int]) -> None:
    """Write a categories.json, or find the same there; raises DataError if it has other classes."""
    if path.exists() and read_categories(path) != (tuple(classes), tuple(ids)):
        raise DataError(f"{path} has other classes; choose another folder")
    if not path.exists():
        write_json(path, categories(classes, ids), indent=1)
