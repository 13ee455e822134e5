"""Which image is paired with which: one that shares exactly one novel class with it (spec 2.8).

Then two pixels without a label that look alike are of that class, with fewer others to confuse it with. The release
compares all pairs of images beforehand and stores lists; here the images that will do are found when one is asked for,
from the columns of a few classes.
"""

from collections.abc import Sequence
from random import Random
from typing import Any

import torch
from torch import Tensor

from wsis.core.seeds import seed_of
from wsis.core.types import Dataset
from wsis.methods.simformer.config import PairConfig

MANY = 500  # as many images the release keeps per class; one without any counts as having them


class References:
    """The partner of each image of a data set.

    tags: bool [n, K], classes of all images. novel: labels. Modes (`cfg.reference`):
    deconf: draw a novel class of the image, with the probability `cfg.rarest` the one with the fewest partners, then an
    image that shares this novel class and no other. For an image that has no novel class, or a single one that no other
    image has: any image that shares a base class.
    deconf_parity: as the release, which treats images of one novel class like those without, and wants two images or
    more that share a base class. Its limits on the length of lists are left out.
    random, novel, base: any image; one that shares a novel class; one that shares a base class.
    Where no image will do, the image itself.
    """

    def __init__(self, tags: Tensor, novel: Sequence[int] | Tensor, cfg: PairConfig) -> None:
        is_novel = torch.zeros(tags.shape[1], dtype=torch.bool)
        is_novel[torch.as_tensor(novel, dtype=torch.long)] = True
        columns = tags.bool().cpu().T
        self.novel, self.base, self.cfg = columns[is_novel].contiguous(), columns[~is_novel].contiguous(), cfg

    def __len__(self) -> int:
        return self.base.shape[1]

    def partner(self, index: int, seed: int) -> int:
        """The image to pair with image `index`, another one for another seed."""
        chance = Random(seed_of("reference", seed, index))
        found = self._candidates(index, chance).nonzero()[:, 0]
        return int(found[chance.randrange(len(found))]) if len(found) else index

    def _candidates(self, index: int, chance: Random) -> Tensor:
        """The images that will do, bool [n]."""
        match self.cfg.reference:
            case "random":
                return _without(torch.ones(len(self), dtype=torch.bool), index)
            case "base":
                return _sharing(self.base, index)
            case "novel":
                return _sharing(self.novel, index)
            case "deconf" | "deconf_parity" as mode:
                return self._deconfounded(index, chance, mode == "deconf_parity")

    def _deconfounded(self, index: int, chance: Random, parity: bool) -> Tensor:
        of_image = self.novel[self.novel[:, index]]  # [classes of the image, n]
        single = _without(of_image.sum(0) == 1, index)
        if len(of_image) > 1:
            number = chance.randrange(len(of_image))
            if chance.random() < self.cfg.rarest:
                fewest = (of_image & single).sum(1)
                number = int(torch.where(fewest == 0, MANY, fewest).argmin())
            return of_image[number] & single
        if len(of_image) == 1 and not parity and single.any():
            return single
        others = _sharing(self.base, index)
        return others & (others.sum() >= 2) if parity else others


def _without(images: Tensor, index: int) -> Tensor:
    images[index] = False
    return images


def _sharing(columns: Tensor, index: int) -> Tensor:
    """Other images that share a class with the image: bool [classes, n] -> bool [n]."""
    return _without(columns[columns[:, index]].any(0), index)


def presence(dataset: Dataset) -> Tensor:
    """Which classes each image is tagged with: bool [n, C].

    From the data set's method `tags(index)` where it has one, else from its samples.
    """
    tags: Any = getattr(dataset, "tags", lambda index: dataset[index].tags)
    return torch.stack([tags(index) for index in range(len(dataset))])
