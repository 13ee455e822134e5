"""Which image is paired with which: one that shares exactly one novel class with it, so two similar pixels without a label are
of that class, with fewer others to confuse it with.
"""

from collections.abc import Callable, Sequence
from random import Random

import torch
from torch import Tensor

from wsis.core.errors import DataError
from wsis.core.seeds import seed_of
from wsis.core.types import Dataset, HasTags

RAREST = 0.01  # probability of drawing the rarest class (official config, Deconf0.01)
MAX_PARTNERS = 500  # images per class that the release keeps; a class without any counts as having so many


def partners(tags: Tensor, novel: Sequence[int]) -> Callable[[int, int], tuple[int]]:
    """(index, seed) -> the index of the image to pair with an image, as `TrainingData` asks for companions.

    tags: bool [n, K], of all images. novel: labels. One of the image's novel classes is drawn, with the probability `RAREST`
    the one with the fewest partners, then an image that shares this novel class and no other. For an image without a novel
    class, or with a single one that no other image has, it is one that shares a base class. Where there is no such image, the
    partner is the image itself.
    """
    is_novel = torch.zeros(tags.shape[1], dtype=torch.bool)
    is_novel[list(novel)] = True
    novel_tags, base_tags = (tags.bool().cpu().T[rows].contiguous() for rows in (is_novel, ~is_novel))

    def candidates(index: int, generator: Random) -> Tensor:
        """The images that may be partners, bool [n]."""
        classes = novel_tags[novel_tags[:, index]]  # [novel classes of the image, n]
        single, sharing = classes.sum(0) == 1, base_tags[base_tags[:, index]].any(0)
        single[index] = sharing[index] = False
        if len(classes) > 1:
            number = generator.randrange(len(classes))
            if generator.random() < RAREST:
                counts = (classes & single).sum(1)
                number = int(torch.where(counts == 0, MAX_PARTNERS, counts).argmin())
            return classes[number] & single
        return single if single.any() else sharing

    def companions(index: int, seed: int) -> tuple[int]:
        generator = Random(seed_of("reference", seed, index))
        images = candidates(index, generator).nonzero()[:, 0]
        return (int(images[generator.randrange(len(images))]) if len(images) else index,)

    return companions


def presence(dataset: Dataset) -> Tensor:
    """Which classes each image is tagged with, bool [n, C], without reading the images where the data set `HasTags`."""
    none = torch.zeros(len(dataset.classes), dtype=torch.bool)  # crops of an image report that it has no tags
    rows = [dataset.tags(i) if isinstance(dataset, HasTags) else dataset[i].tags for i in range(len(dataset))]
    if rows and all(row is not None and not row.any() for row in rows):
        raise DataError("no image shows a class; label PNGs hold category ids from 1 to 254, and 255 is no class")
    return torch.stack([none if row is None else row for row in rows])
