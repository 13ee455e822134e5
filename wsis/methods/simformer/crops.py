"""What SimFormer learns from: random crops of images and, for pairs, which image comes with which.

A partner shares exactly one novel class with its image, so two similar pixels without a label are of that class, with fewer
others to confuse it with.
"""

from collections.abc import Callable, Sequence
from dataclasses import replace
from random import Random

import torch
from torch import Tensor

from wsis.core.config import seed_of
from wsis.core.errors import AnnotationError, DataError
from wsis.core.types import IGNORE, Dataset, HasTags, Sample
from wsis.data.masks import tags_from_map
from wsis.data.transforms import Augment, resize, short_side
from wsis.methods.simformer.config import SimFormerConfig
from wsis.weak.simulate import with_base_masks

DRAWS = 50  # of a crop until one shows a class
FLIP = 0.5  # probability of a left-right flip (official config)
# The changes of color of SSD, as in the official code; its contrast is a factor, and its hue turns by 18 of 180 (OpenCV).
COLORS = {"shift": 32, "brightness": 0.5, "contrast": 0, "saturation": 0.5, "hue": 18 / 180, "color_probability": 0.5}
RAREST = 0.01  # probability of drawing the rarest class (official config, Deconf0.01)
MAX_PARTNERS = 500  # images per class that the release keeps; a class without any counts as having so many


def random_crop(sample: Sample, seed: int, cfg: SimFormerConfig) -> Sample:
    """A crop of random size, place, color and flip: image [3, S, S], semantic_map, valid [S, S] and tags [C]; without truth.

    The same sample and seed give the same crop. A smaller image lies in its upper left corner. Tags are of what the crop shows
    of the true map; with `cfg.tag_scope` "image" and base masks they are the image's. Crops are drawn up to 50 times, until one
    shows a class or has the tag of a novel one; after that the whole image is made to fit. Raises AnnotationError where the
    sample lacks its class map or tags, or has a novel tag that no crop would show.
    """
    sample = with_base_masks(replace(sample, truth=None, points=None, extreme_points=None), cfg.unmasked)
    assert sample.tags is not None
    lost = sample.tags & ~_tags(sample, cfg)  # would be in no crop's tags, and not be learned
    if labels := [label for label in cfg.unmasked if lost[label]]:
        where = f"image {sample.image_id} ({sample.file_name})"
        remedy = "no crop can tell its tags; train with --set tag_scope=image"
        raise AnnotationError(f"{where} has the tag of novel class {labels[0]}, not in its label map: {remedy}")
    generator, side, shorts = torch.Generator().manual_seed(seed), cfg.size.crop, cfg.size.short
    for _ in range(DRAWS):
        size, *place = torch.rand(3, generator=generator, dtype=torch.float64).tolist()
        resized = resize(sample, short_side(sample.size, shorts[int(size * len(shorts))], cfg.size.long))
        top, left = (int(c * (max(length - side, 0) + 1)) for c, length in zip(place, resized.size, strict=True))
        part, maps = (..., slice(top, top + side), slice(left, left + side)), ("image", "semantic_map", "true_semantic")
        window = replace(resized, **{name: getattr(resized, name)[part] for name in maps})
        assert window.semantic_map is not None
        if (window.semantic_map != IGNORE).any() or _tags(window, cfg)[list(cfg.novel)].any():
            break
    else:
        window = resize(sample, short_side(sample.size, side, side))
    augment = Augment(crop=side, long_side=None, scale=(1, 1), scale_step=0, flip=FLIP, **COLORS)
    last = int(torch.randint(2**62, (), generator=generator))
    crop = augment(replace(window, tags=_tags(window, cfg), true_semantic=None), last)
    assert crop.valid is not None
    shift = (-int(crop.valid.any(1).byte().argmax()), -int(crop.valid.any(0).byte().argmax()))
    return replace(crop, **{k: getattr(crop, k).roll(shift, (-2, -1)) for k in ("image", "semantic_map", "valid")})


def _tags(sample: Sample, cfg: SimFormerConfig) -> Tensor:
    """The classes of the true class map, or of the whole image, bool [C]."""
    assert sample.true_semantic is not None and sample.tags is not None
    whole = cfg.masks == "base" and cfg.tag_scope == "image"
    return sample.tags if whole else tags_from_map(sample.true_semantic, len(sample.tags))


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
