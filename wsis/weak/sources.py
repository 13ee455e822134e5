"""What a run learns from and is evaluated on: the embedded world, or a folder in COCO format or with class maps."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Literal

import torch

from wsis.core.config import Scale, fingerprint
from wsis.core.errors import DataError
from wsis.core.files import digest
from wsis.core.types import Dataset, Instances, Sample
from wsis.data.coco import CocoFolder
from wsis.data.semantic import SemanticFolder, SemanticWorld, WithBackground, open_semantic
from wsis.data.world import World, WorldConfig
from wsis.data.wrappers import Cached, Mapped
from wsis.data.write import places
from wsis.weak.simulate import PointKind, with_extreme_points, with_points

Clicks = PointKind | Literal["extreme_points", "boxes", "class_maps"]
"""What a method learns from, where it is not tags: clicks, boxes, or a class for every pixel."""

# Few and large objects of half the classes: what small networks can tell apart after minutes.
_CLASSES = ("cat", "fish", "turtle", "butterfly", "flower", "car", "house", "robot")
_EASY = {"contact": 0.35, "occlusion": 0.1, "nested": 0.0, "camouflage": 0.2}
_TINY = WorldConfig(size=96, objects=(1, 3), object_size=(0.28, 0.5), classes=_CLASSES, **_EASY)
WORLDS: dict[Scale, WorldConfig] = {"tiny": _TINY, "small": replace(_TINY, size=224), "full": WorldConfig(size=448)}
LENGTHS: dict[Scale, tuple[int, int]] = {"tiny": (500, 200), "small": (500, 200), "full": (10_000, 1_000)}
LAYOUTS: dict[str, Literal["coco", "ade"]] = {"world": "coco", "world-ade": "ade"}
MAX_CACHED, MAX_PIXELS = 2000, 2.5e8  # up to so many small images, of 4 bytes a pixel, all are held in memory
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
    val_scenes: int | None = None,
) -> Data:
    """Open `world`, or a folder with the splits train and val; for class maps also `world-ade`, with other classes.

    clicks: what the method needs of every object; simulated where there are masks only. seed: of the world; another seed
    is another world. weak, drop_invalid: of a folder, see `CocoFolder` and `SemanticFolder`. val_scenes: of the world, in place
    of the usual number. Raises DataError if the folder is not sound, or has neither clicks nor masks, but clicks are needed.
    """
    has_maps = clicks == "class_maps"
    if data == "world" or (has_maps and data in LAYOUTS):
        opened = _world(data, scale, seed, has_maps, val_scenes)
    else:
        opened = _folder(Path(data), scale, weak, drop_invalid, clicks)
    if clicks is None or has_maps:
        return opened
    train, note = clicked(opened.train, "train", clicks)
    if not note:
        return opened
    return replace(opened, train=train, notes=(*opened.notes, note), description=f"{opened.description}, {note}")


def clicked(dataset: Dataset, split: str, clicks: Clicks) -> tuple[Dataset, str]:
    """Return the data set with clicks, simulated for objects that have a mask instead, and a note that says so.

    Raises DataError if no object has either.
    """
    assert clicks != "class_maps"  # these are opened as such
    if clicks == "extreme_points" or clicks == "boxes":
        field, words, simulate = "extreme_points", clicks.replace("_", " "), with_extreme_points
    else:
        field, words, simulate = "points", "points", partial(with_points, kind=clicks, seed=CLICK_SEED)
    source = dataset.dataset if isinstance(dataset, Cached) else dataset
    if isinstance(source, CocoFolder):
        given, drawn, bare = source.objects(field.removesuffix("s") if field == "points" else field)
    else:
        given, bare = int(getattr(dataset[0], field) is not None), 0
        drawn = int(not given and dataset[0].truth is not None)
    if not given and not drawn:
        remedy = "annotate them for every object"
        if isinstance(source, CocoFolder):
            remedy += f", or learn from what is there: train {source.learner()}"
        lack = f"the split {split} has neither {words} nor masks"
        raise DataError(f"the method learns from {words}, but {lack}; {remedy}")
    notes = [f"{bare} objects of {split} have neither {words} nor masks, and nothing learns from them"] if bare else []
    if drawn:
        how = f" ({clicks}, seed {CLICK_SEED})" if field == "points" else ""
        where = f" for {drawn} of {given + drawn} objects" if given else ""
        notes = [f"{field.replace('_', ' ')} of {split} simulated from the masks{where}{how}", *notes]
        dataset = Mapped(dataset, partial(_completed, field=field, simulate=simulate))
    return dataset, "; ".join(notes)


def _completed(sample: Sample, field: str, simulate: Callable[[Sample], Sample]) -> Sample:
    """Add the clicks of true objects that have none."""
    given, truth = getattr(sample, field), sample.truth
    if truth is None:
        truth = Instances.none(*sample.size)
    lacking = replace(sample, truth=truth if given is None else truth[~torch.isin(truth.ids, given.ids)])
    added = getattr(simulate(lacking), field)
    return replace(sample, **{field: added if given is None else given.cat(added)})


def _world(data: str, scale: Scale, seed: int, has_maps: bool, val_scenes: int | None) -> Data:
    config, (length, usual) = WORLDS[scale], LENGTHS[scale]
    worlds = [World("train", length, seed, config), World("val", val_scenes or usual, seed, config)]
    datasets = [SemanticWorld(world, LAYOUTS[data]) for world in worlds] if has_maps else worlds
    train, val = map(Cached, datasets) if scale == "tiny" else datasets
    lengths = f"{len(train)}/{len(val)} scenes at {config.size} px"
    kind = f"class maps of {data}" if has_maps else data
    return Data(train=train, val=val, name=data, description=f"{kind}, {lengths}, seed {seed}, {fingerprint(config)}")


def _folder(folder: Path, scale: Scale, weak: Path | None, drop_invalid: bool, clicks: Clicks | None) -> Data:
    splits, words, notes, has_maps, pixels = [], [], [], clicks == "class_maps", 0
    for split, labels in (("train", weak), ("val", None)):
        _, maps, annotations = places(folder, split)
        if split == "val" and not (annotations.exists() or (has_maps and maps.exists())):
            splits.append(None)
            continue
        if has_maps:
            dataset = open_semantic(folder, split, labels, drop_invalid, masks=split == "train")
            kind = "class maps"
        else:
            dataset = CocoFolder(folder, split, labels, drop_invalid=drop_invalid, boxes=clicks == "boxes")
            kind = "images"
        if not isinstance(dataset, SemanticFolder):
            coco = dataset.dataset if isinstance(dataset, WithBackground) else dataset
            pixels = sum(image["width"] * image["height"] for image in coco.images)
            notes += [f"left out: {message}" for message in coco.dropped]
            if split == "train" and (absent := coco.absent_classes()):
                if len(absent) == len(coco.classes):
                    raise DataError(f"{coco.weak_path}: no image has an object or a tag; annotate some")
                names = [*absent[:8], *([f"{len(absent) - 8} more"] if len(absent) > 8 else [])]
                classes, them = ("class", "it") if len(absent) == 1 else ("classes", "them")
                notes.append(f"no image of train has the {classes} {', '.join(names)}, and nothing learns {them}")
        words.append(f"{split} {len(dataset)} {kind} {digest(dataset.label_files)[:8]}")
        is_small = scale == "tiny" and len(dataset) <= MAX_CACHED and pixels <= MAX_PIXELS
        splits.append(Cached(dataset) if is_small else dataset)
    if splits[1] is not None and splits[1].classes != splits[0].classes:
        here, there = (", ".join(dataset.classes) for dataset in splits)
        raise DataError(f"{folder}: train has the classes {here}, val {there}; give both the same categories")
    name = folder.resolve().name
    return Data(train=splits[0], val=splits[1], name=name, description=", ".join([name, *words]), notes=tuple(notes))
