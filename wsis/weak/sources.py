"""What a run learns from and is measured on: the embedded world, or a folder in COCO format or with class maps."""

import hashlib
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from wsis.core.config import Scale, fingerprint
from wsis.core.errors import DataError
from wsis.core.types import Dataset
from wsis.data.coco import CocoFolder
from wsis.data.semantic import SemanticFolder, SemanticWorld
from wsis.data.world import World, WorldConfig
from wsis.data.wrappers import Changed, InMemory
from wsis.weak.simulate import PointKind, with_extreme_points, with_points

Clicks = PointKind | Literal["extreme_points", "class_maps"]
"""What a method learns from, where it is not tags: clicks, or a class for every pixel."""

# Few and large objects of half the classes: what small networks can tell apart after minutes.
TINY_WORLD = WorldConfig(
    size=96,
    objects=(1, 3),
    object_size=(0.28, 0.5),
    contact=0.35,
    occlusion=0.1,
    nested=0.0,
    camouflage=0.2,
    classes=("cat", "fish", "turtle", "butterfly", "flower", "car", "house", "robot"),
)
FULL_WORLD = WorldConfig(size=448)
LENGTHS = {"tiny": (500, 200), "full": (10_000, 1_000)}
LAYOUTS: dict[str, Literal["coco", "ade"]] = {"world": "coco", "world-ade": "ade"}
KEPT = 2000  # of so many small pictures all are held in memory
ANNOTATOR = 0  # seed of simulated clicks


@dataclass(frozen=True, kw_only=True)
class Data:
    """Training and validation images; `val` is None where a folder has no such split.

    name: for names of files. description: changes with the images and their annotations; part of every key.
    notes: what was simulated or left out, for whoever reads the output.
    """

    train: Dataset
    val: Dataset | None
    name: str
    description: str
    notes: tuple[str, ...] = ()


def open_data(
    data: str,
    scale: Scale,
    *,
    clicks: Clicks | None = None,
    seed: int = 0,
    weak: Path | None = None,
    drop_invalid: bool = False,
) -> Data:
    """`world`, or a folder with the splits train and val; for class maps also `world-ade`, with another list of classes.

    clicks: what the method needs of every object; simulated where there are masks only. "class_maps": see `wsis.data.semantic`.
    seed: of the world; another seed is another world. weak, drop_invalid: of a folder, see CocoFolder.

    Raises:
        DataError: see CocoFolder; the folder has neither clicks nor masks, but clicks are needed.
    """
    if clicks == "class_maps":
        return _semantic_world(data, scale, seed) if data in LAYOUTS else _semantic_folder(Path(data), scale, weak)
    opened = _world(scale, seed) if data == "world" else _folder(Path(data), scale, weak, drop_invalid)
    if clicks is None:
        return opened
    train, note = clicked(opened.train, "train", clicks)
    if not note:
        return opened
    return replace(opened, train=train, notes=(*opened.notes, note), description=f"{opened.description}, {note}")


def clicked(dataset: Dataset, split: str, clicks: Clicks) -> tuple[Dataset, str]:
    """The data set with clicks, and a note where they had to be simulated.

    Raises:
        DataError: there are neither clicks nor masks.
    """
    first, name = dataset[0], "extreme_points" if clicks == "extreme_points" else "points"
    words = name.replace("_", " ")
    if getattr(first, name) is not None:
        return dataset, ""
    if first.truth is None:
        raise DataError(
            f"the method learns from {words}, but image {first.image_id} of the split {split} has neither {words} nor "
            "masks; annotate them for every object, or choose another supervision"
        )
    if clicks == "extreme_points":
        return Changed(dataset, with_extreme_points), f"extreme points of {split} simulated from the masks"
    note = f"points of {split} simulated from the masks ({clicks}, seed {ANNOTATOR})"
    return Changed(dataset, lambda sample: with_points(sample, clicks, ANNOTATOR)), note


def _world(scale: Scale, seed: int) -> Data:
    config = TINY_WORLD if scale == "tiny" else FULL_WORLD
    train, val = (World(split, n, seed, config) for split, n in zip(("train", "val"), LENGTHS[scale], strict=True))
    lengths = f"{len(train)}/{len(val)} scenes at {config.size} px"
    return Data(
        train=InMemory(train) if scale == "tiny" else train,
        val=InMemory(val) if scale == "tiny" else val,
        name="world",
        description=f"world, {lengths}, seed {seed}, {fingerprint(config)}",
    )


def _semantic_world(data: str, scale: Scale, seed: int) -> Data:
    config = TINY_WORLD if scale == "tiny" else FULL_WORLD
    train, val = (
        SemanticWorld(World(split, n, seed, config), LAYOUTS[data])
        for split, n in zip(("train", "val"), LENGTHS[scale], strict=True)
    )
    lengths = f"{len(train)}/{len(val)} scenes at {config.size} px"
    return Data(
        train=InMemory(train) if scale == "tiny" else train,
        val=InMemory(val) if scale == "tiny" else val,
        name=data,
        description=f"class maps of {data}, {lengths}, seed {seed}, {fingerprint(config)}",
    )


def _semantic_folder(folder: Path, scale: Scale, weak: Path | None) -> Data:
    found, words = [], []
    for split in ("train", "val"):
        if split == "val" and not (folder / "semantic" / split).is_dir():
            found.append(None)
            continue
        dataset = SemanticFolder(folder, split, weak if split == "train" else None)
        digest = hashlib.sha256(b"".join(p.read_bytes() for p in dataset.map_paths)).hexdigest()[:8]
        words.append(f"{split} {len(dataset)} class maps {digest}")
        found.append(InMemory(dataset) if scale == "tiny" and len(dataset) <= KEPT else dataset)
    name = folder.resolve().name
    return Data(train=found[0], val=found[1], name=name, description=f"{name}, {', '.join(words)}")


def _folder(folder: Path, scale: Scale, weak: Path | None, drop_invalid: bool) -> Data:
    splits, words, notes = [], [], []
    for split in ("train", "val"):
        path = folder / "annotations" / f"instances_{split}.json"
        if split == "val" and not path.exists():
            splits.append(None)
            continue
        dataset = CocoFolder(folder, split, weak if split == "train" else None, drop_invalid=drop_invalid)
        notes += [f"left out: {message}" for message in dataset.dropped]
        files = {dataset.path, dataset.weak_path}
        digest = hashlib.sha256(b"".join(p.read_bytes() for p in sorted(files))).hexdigest()[:8]
        words.append(f"{split} {len(dataset)} images {digest}")
        splits.append(InMemory(dataset) if scale == "tiny" and len(dataset) <= KEPT else dataset)
    name = folder.resolve().name
    return Data(
        train=splits[0], val=splits[1], name=name, description=f"{name}, {', '.join(words)}", notes=tuple(notes)
    )
