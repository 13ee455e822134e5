"""What a run learns from and is evaluated on: the embedded world, or a folder in COCO format or with class maps."""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from wsis.core.config import Scale, fingerprint
from wsis.core.errors import DataError
from wsis.core.files import digest
from wsis.core.types import Dataset
from wsis.data.coco import CocoFolder
from wsis.data.semantic import SemanticFolder, SemanticWorld, WithBackground, open_semantic
from wsis.data.world import World, WorldConfig
from wsis.data.wrappers import Cached, Mapped
from wsis.data.write import places
from wsis.weak.simulate import PointKind, with_extreme_points, with_points

Clicks = PointKind | Literal["extreme_points", "class_maps"]
"""What a method learns from, where it is not tags: clicks, or a class for every pixel."""

# Few and large objects of half the classes: what small networks can tell apart after minutes.
_CLASSES = ("cat", "fish", "turtle", "butterfly", "flower", "car", "house", "robot")
_EASY = {"contact": 0.35, "occlusion": 0.1, "nested": 0.0, "camouflage": 0.2}
_TINY = WorldConfig(size=96, objects=(1, 3), object_size=(0.28, 0.5), classes=_CLASSES, **_EASY)
WORLDS: dict[Scale, WorldConfig] = {"tiny": _TINY, "small": replace(_TINY, size=224), "full": WorldConfig(size=448)}
LENGTHS: dict[Scale, tuple[int, int]] = {"tiny": (500, 200), "small": (500, 200), "full": (10_000, 1_000)}
LAYOUTS: dict[str, Literal["coco", "ade"]] = {"world": "coco", "world-ade": "ade"}
MAX_CACHED = 2000  # up to so many small images all are held in memory
CLICK_SEED = 0  # of the simulated annotator


@dataclass(frozen=True, kw_only=True)
class Data:
    """Training and validation images (None where a folder has none), and a name for files.

    The description changes with the images and their annotations, and is part of every key. The notes say what was simulated
    or left out.
    """

    train: Dataset
    val: Dataset | None
    name: str
    description: str
    notes: tuple[str, ...] = ()


def open_data(
    data: str,
    scale: Scale,
    clicks: Clicks | None = None,
    seed: int = 0,
    weak: Path | None = None,
    drop_invalid: bool = False,
) -> Data:
    """Open `world`, or a folder with the splits train and val; for class maps also `world-ade`, with other classes.

    clicks: what the method needs of every object; simulated where there are masks only. seed: of the world; another seed
    is another world. weak, drop_invalid: of a folder, see `CocoFolder` and `SemanticFolder`.

    Raises:
        DataError: the folder is not sound, or has neither clicks nor masks, but clicks are needed.
    """
    has_maps = clicks == "class_maps"
    if data == "world" or (has_maps and data in LAYOUTS):
        opened = _world(data, scale, seed, has_maps)
    else:
        opened = _folder(Path(data), scale, weak, drop_invalid, has_maps)
    if clicks is None or has_maps:
        return opened
    train, note = clicked(opened.train, "train", clicks)
    if not note:
        return opened
    return replace(opened, train=train, notes=(*opened.notes, note), description=f"{opened.description}, {note}")


def clicked(dataset: Dataset, split: str, clicks: Clicks) -> tuple[Dataset, str]:
    """Return the data set with clicks and, where they were simulated, a note; raises DataError without clicks and masks."""
    assert clicks != "class_maps"  # these are opened as such
    first, words = dataset[0], "extreme points" if clicks == "extreme_points" else "points"
    if getattr(first, words.replace(" ", "_")) is not None:
        return dataset, ""
    if first.truth is None:
        where = f"image {first.image_id} of the split {split} has neither {words} nor masks"
        remedy = "annotate them for every object, or choose another supervision"
        raise DataError(f"the method learns from {words}, but {where}; {remedy}")
    note = f"{words} of {split} simulated from the masks"
    if clicks == "extreme_points":
        return Mapped(dataset, with_extreme_points), note
    return Mapped(dataset, lambda s: with_points(s, clicks, CLICK_SEED)), f"{note} ({clicks}, seed {CLICK_SEED})"


def _world(data: str, scale: Scale, seed: int, has_maps: bool) -> Data:
    config = WORLDS[scale]
    worlds = [World(split, n, seed, config) for split, n in zip(("train", "val"), LENGTHS[scale], strict=True)]
    datasets = [SemanticWorld(world, LAYOUTS[data]) for world in worlds] if has_maps else worlds
    train, val = map(Cached, datasets) if scale == "tiny" else datasets
    lengths = f"{len(train)}/{len(val)} scenes at {config.size} px"
    kind = f"class maps of {data}" if has_maps else data
    return Data(train=train, val=val, name=data, description=f"{kind}, {lengths}, seed {seed}, {fingerprint(config)}")


def _folder(folder: Path, scale: Scale, weak: Path | None, drop_invalid: bool, has_maps: bool) -> Data:
    splits, words, notes = [], [], []
    for split, labels in (("train", weak), ("val", None)):
        _, maps, annotations = places(folder, split)
        if split == "val" and not (annotations.exists() or (has_maps and maps.exists())):
            splits.append(None)
            continue
        if has_maps:
            dataset, kind = open_semantic(folder, split, labels, drop_invalid), "class maps"
        else:
            dataset, kind = CocoFolder(folder, split, labels, drop_invalid=drop_invalid), "images"
        if isinstance(dataset, SemanticFolder):
            files = [*dataset.map_paths, *([] if labels is None else [labels])]
        else:
            coco = dataset.dataset if isinstance(dataset, WithBackground) else dataset
            files = sorted({coco.path, coco.weak_path})
            notes += [f"left out: {message}" for message in coco.dropped]
        words.append(f"{split} {len(dataset)} {kind} {digest(files)[:8]}")
        splits.append(Cached(dataset) if scale == "tiny" and len(dataset) <= MAX_CACHED else dataset)
    name = folder.resolve().name
    return Data(train=splits[0], val=splits[1], name=name, description=", ".join([name, *words]), notes=tuple(notes))
