"""Data sets around data sets: mapped, in memory, or with labels that a stage has made."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

import torch
from torch import Tensor

from wsis.core.report import progress
from wsis.core.types import Dataset, HasTags, Instances, Points, Sample
from wsis.data.images import map_name
from wsis.data.label_maps import read_class_map
from wsis.data.transforms import shrunk


def samples(dataset: Dataset) -> Iterator[Sample]:
    return (dataset[i] for i in progress(range(len(dataset)), "images"))


def ground_truths(dataset: Dataset) -> list[Instances] | None:
    """Collect the true objects of every image; None if those of one are unknown."""
    truths = [sample.truth for sample in samples(dataset)]
    return None if any(t is None for t in truths) else [t for t in truths if t is not None]


class Subset:
    """The samples of a data set at some indices, in that order."""

    def __init__(self, dataset: Dataset, indices: Sequence[int]) -> None:
        self.dataset, self.indices = dataset, list(indices)
        self.classes, self.category_ids = dataset.classes, dataset.category_ids

    def __len__(self) -> int:
        return len(self.indices)

    def __getitem__(self, index: int) -> Sample:
        return self.dataset[self.indices[index]]


class Mapped:
    """A data set whose samples go through a function."""

    def __init__(self, dataset: Dataset, function: Callable[[Sample], Sample]) -> None:
        self.dataset, self.function = dataset, function
        self.classes, self.category_ids = dataset.classes, dataset.category_ids

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, index: int) -> Sample:
        return self.function(self.dataset[index])


def unchanged(sample: Sample, seed: int = 0) -> Sample:
    """The sample itself, also where an augmentation is asked for; spawned workers can be sent this, and no lambda."""
    return sample


class Cached(Mapped):
    """A small data set whose samples are made or read once."""

    def __init__(self, dataset: Dataset) -> None:
        super().__init__(dataset, unchanged)
        self._samples: dict[int, Sample] = {}

    def __getitem__(self, index: int) -> Sample:
        if index not in self._samples:
            self._samples[index] = super().__getitem__(index)
        return self._samples[index]


class Shrunk(Mapped):
    """A data set whose images are at most `longest` pixels long; tags come without reading an image where it `HasTags`."""

    def __init__(self, dataset: Dataset, longest: int) -> None:
        super().__init__(dataset, partial(shrunk, longest=longest))

    def tags(self, index: int) -> Tensor | None:
        return self.dataset.tags(index) if isinstance(self.dataset, HasTags) else self.dataset[index].tags


class WithPseudoLabels(Mapped):
    """A data set whose samples carry class maps, see `map_name`, in the folder `maps`, and cues where given: rows
    x, y, label, score by image id, as in cues.json.
    """

    def __init__(self, dataset: Dataset, maps: Path, cues: dict[str, list[list[float]]] | None = None) -> None:
        super().__init__(dataset, self._labelled)
        self.maps, self.cues = maps, cues

    def _labelled(self, sample: Sample) -> Sample:
        path = self.maps / map_name(sample.file_name)
        sample = replace(sample, semantic_map=read_class_map(path, sample.size, len(self.classes)))
        if self.cues is None:
            return sample
        rows = torch.tensor(self.cues.get(str(sample.image_id), []), dtype=torch.float32).reshape(-1, 4)
        return replace(sample, points=Points.make(rows[:, :2], rows[:, 2], scores=rows[:, 3]))
