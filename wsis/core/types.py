"""The few value objects that every part of the package speaks.

Conventions (book/notation.md): images are float32 RGB in [0, 1]; coordinates in annotations are (x, y) pixels, in maps
(y, x); boxes are xyxy, half-open; class *labels* are 0..C-1; class *maps* have 0 = background, 1..C the classes and 255 =
ignore. Shape letters: B images, C classes, H W pixels, K instances, N points.
"""

from dataclasses import dataclass, replace
from typing import Any, NamedTuple, Protocol, Self, runtime_checkable

import torch
from torch import Tensor

from wsis.core.masks import RunLengths

IGNORE = 255
BACKGROUND = 0
NO_ID = torch.iinfo(torch.long).min  # the id of what has none: no file may hold it, and 0 is an id like any other

Report = dict[str, Any]
"""Figures by their names: plain values for JSON, or tensors with one value per class."""
Column = Tensor | None
Masks = Tensor | RunLengths


class Rows:
    """Fields that are indexed together: entry i of each belongs to object or point i."""

    labels: Tensor

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: Tensor | slice) -> Self:
        if isinstance(index, Tensor) and index.dtype == torch.bool:
            index = index.nonzero()[:, 0]  # one wait for the device, not one for each field
        return type(self)(**{name: values[index] for name, values in vars(self).items()})

    def to(self, device: torch.device | str, non_blocking: bool = False) -> Self:
        return type(self)(**{name: values.to(device, non_blocking=non_blocking) for name, values in vars(self).items()})

    def cat(self, other: Self) -> Self:
        columns = {name: (values, getattr(other, name)) for name, values in vars(self).items()}
        joined = {k: v.cat(w) if isinstance(v, RunLengths) else torch.cat([v, w]) for k, (v, w) in columns.items()}
        return type(self)(**joined)


def _column(values: Column, default: int, labels: Tensor) -> Tensor:
    return torch.full_like(labels, default) if values is None else values


@dataclass(frozen=True, kw_only=True)
class Instances(Rows):
    """The objects of one image, whose masks may overlap."""

    runs: RunLengths  # the masks of K objects
    labels: Tensor  # int64 [K] in 0..C-1
    scores: Tensor  # float32 [K] in [0, 1], 1 for annotations
    ids: Tensor  # int64 [K], the annotation ids where they are known, else NO_ID
    crowd: Tensor  # bool [K], COCO's iscrowd

    @classmethod
    def make(
        cls, masks: Masks, labels: Tensor, *, scores: Column = None, ids: Column = None, crowd: Column = None
    ) -> Self:
        """Take masks [K, H, W] or run lengths, and fill in what is not given: scores 1, no ids, no crowds; ValueError
        where there are not as many labels as masks.
        """
        if len(masks) != len(labels):
            raise ValueError(f"{len(masks)} masks have {len(labels)} labels; give one each")
        return cls(
            runs=masks if isinstance(masks, RunLengths) else RunLengths.of(masks.bool()),
            labels=labels.long(),
            scores=_column(scores, 1, labels).float(),
            ids=_column(ids, NO_ID, labels).long(),
            crowd=_column(crowd, 0, labels).bool(),
        )

    @property
    def masks(self) -> Tensor:
        """The masks bool [K, H, W], decoded each time: for images of usual size."""
        return self.runs.decode().to(self.labels.device)

    @classmethod
    def none(cls, height: int, width: int) -> Self:
        return cls.make(RunLengths([], (height, width)), torch.zeros(0, dtype=torch.long))


@dataclass(frozen=True, kw_only=True)
class Points(Rows):
    """Labeled points of one image or of a batch: clicks of an annotator, or cues of a network."""

    xy: Tensor  # float32 [N, 2] pixels
    labels: Tensor  # int64 [N] in 0..C-1
    scores: Tensor  # float32 [N] in [0, 1], 1 for clicks
    image: Tensor  # int64 [N], the index within the batch, all 0 for one image
    ids: Tensor  # int64 [N], annotation ids or NO_ID

    @classmethod
    def make(
        cls, xy: Tensor, labels: Tensor, *, scores: Column = None, image: Column = None, ids: Column = None
    ) -> Self:
        """Fill in what is not given: scores 1, image 0, no ids."""
        return cls(
            xy=xy.float().reshape(len(labels), 2),
            labels=labels.long(),
            scores=_column(scores, 1, labels).float(),
            image=_column(image, 0, labels).long(),
            ids=_column(ids, NO_ID, labels).long(),
        )

    @property
    def centers(self) -> Tensor:
        """The points in the order of maps: float32 [N, 2], (y, x)."""
        return self.xy.flip(1)

    @classmethod
    def batch(cls, points: list[Self]) -> Self:
        """The points of single images, in order, as those of one batch."""
        image = torch.cat([torch.full_like(p.labels, i) for i, p in enumerate(points)])
        fields = {k: torch.cat([getattr(p, k) for p in points]) for k in ("xy", "labels", "scores", "ids")}
        return cls(image=image, **fields)


@dataclass(frozen=True, kw_only=True)
class ExtremePoints(Rows):
    """Four clicks per object of one image, in the order top, left, bottom, right."""

    xy: Tensor  # float32 [K, 4, 2] pixels
    labels: Tensor  # int64 [K] in 0..C-1
    ids: Tensor  # int64 [K], annotation ids

    @property
    def boxes(self) -> Tensor:
        """The boxes that the clicks span, float32 [K, 4] xyxy, half-open."""
        return torch.cat([self.xy.amin(1), self.xy.amax(1) + 1], 1)


@dataclass(frozen=True, kw_only=True)
class Sample:
    """One image with what is known of it; None where nothing was annotated."""

    image: Tensor  # uint8 [3, H, W]
    image_id: int
    file_name: str = ""
    tags: Tensor | None = None  # bool [C], which classes are present
    points: Points | None = None  # clicks or cues
    extreme_points: ExtremePoints | None = None
    jittered: Tensor | None = None  # like image, in changed colors, which a student sees where its teacher sees `image`
    semantic_map: Tensor | None = None  # uint8 [H, W], a class map that a method may train on
    truth: Instances | None = None  # for evaluation and the simulated annotator: no weakly supervised loss reads it
    true_semantic: Tensor | None = None  # uint8 [H, W], the true class map, for the same two
    valid: Tensor | None = None  # bool [H, W], False on padding
    other_extreme_points: ExtremePoints | None = None  # in a crop of one object, the clicks of its neighbors

    @property
    def size(self) -> tuple[int, int]:
        """(height, width) in pixels."""
        return self.image.shape[-2], self.image.shape[-1]


@dataclass(frozen=True, kw_only=True)
class Batch:
    """Samples of one size, stacked, as the verbs take them; for the meaning of the fields see `Sample`."""

    images: Tensor  # float32 [B, 3, H, W] in [0, 1]
    image_ids: tuple[int, ...]
    valid: Tensor  # bool [B, H, W]
    tags: Tensor | None = None  # bool [B, C]
    points: Points | None = None
    semantic_maps: Tensor | None = None  # int64 [B, H, W]
    extreme_points: list[ExtremePoints] | None = None  # of each image
    jittered: Tensor | None = None  # float32 [B, 3, H, W] in [0, 1]
    other_extreme_points: list[ExtremePoints] | None = None  # of each image

    def to(self, device: torch.device | str) -> Self:
        # pinned memory is copied while the device still computes; what comes from a device must have arrived
        early = torch.device(device).type != "cpu"

        def moved(value: object) -> object:
            if isinstance(value, list):
                return [moved(part) for part in value]
            return value.to(device, non_blocking=early) if isinstance(value, Tensor | Rows) else value

        return replace(self, **{name: moved(value) for name, value in vars(self).items()})

    def pin_memory(self) -> Self:
        return replace(self, **{k: v.pin_memory() for k, v in vars(self).items() if isinstance(v, Tensor)})


@runtime_checkable
class Dataset(Protocol):
    """Samples with named classes: classes[i] names label i, category_ids[i] is its id in files, i + 1 where none is known."""

    classes: tuple[str, ...]
    category_ids: tuple[int, ...]

    def __len__(self) -> int: ...

    def __getitem__(self, index: int) -> Sample: ...


@runtime_checkable
class HasTags(Protocol):
    """A data set that knows the tags of an image, bool [C], without reading the image."""

    def tags(self, index: int) -> Tensor: ...


@runtime_checkable
class HasExtremePoints(Protocol):
    """A data set that knows the extreme points of an image, None without any, without reading the image."""

    def extreme_points(self, index: int) -> ExtremePoints | None: ...


class Trace(NamedTuple):
    """What a figure needs beside the result: named intermediate tensors, in the order they were made."""

    steps: dict[str, Tensor]
