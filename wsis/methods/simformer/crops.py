"""The random crops that SimFormer learns from."""

from dataclasses import replace

import torch

from wsis.core.errors import AnnotationError
from wsis.core.types import IGNORE, Sample
from wsis.data.masks import tags_from_map
from wsis.data.transforms import Augment, resize, short_side
from wsis.methods.simformer.config import SimFormerConfig
from wsis.weak.simulate import with_base_masks

DRAWS = 50  # of a crop until one shows a class
FLIP = 0.5  # probability of a left-right flip (official config)
# The changes of color of SSD, as in the official code; its contrast is a factor, and its hue turns by 18 of 180 (OpenCV).
COLORS = {"shift": 32, "brightness": 0.5, "contrast": 0, "saturation": 0.5, "hue": 18 / 180, "color_probability": 0.5}


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
    generator = torch.Generator().manual_seed(seed)
    for _ in range(DRAWS):
        window = _window(sample, torch.rand(3, generator=generator, dtype=torch.float64).tolist(), cfg)
        assert window.semantic_map is not None
        if (window.semantic_map != IGNORE).any() or _tags(window, cfg)[list(cfg.novel)].any():
            break
    else:
        window = resize(sample, short_side(sample.size, cfg.size.crop, cfg.size.crop))
    augment = Augment(crop=cfg.size.crop, long_side=None, scale=(1, 1), scale_step=0, flip=FLIP, **COLORS)
    last = int(torch.randint(2**62, (), generator=generator))
    crop = augment(replace(window, tags=_tags(window, cfg), true_semantic=None), last)
    assert crop.valid is not None
    shift = (-int(crop.valid.any(1).byte().argmax()), -int(crop.valid.any(0).byte().argmax()))
    return replace(crop, **{k: getattr(crop, k).roll(shift, (-2, -1)) for k in ("image", "semantic_map", "valid")})


def _window(sample: Sample, chance: list[float], cfg: SimFormerConfig) -> Sample:
    """A random part, at most `crop` wide and high, of the sample at a random size."""
    crop, shorts = cfg.size.crop, cfg.size.short
    sample = resize(sample, short_side(sample.size, shorts[int(chance[0] * len(shorts))], cfg.size.long))
    top, left = (int(c * (max(side - crop, 0) + 1)) for c, side in zip(chance[1:], sample.size, strict=True))
    part = (..., slice(top, top + crop), slice(left, left + crop))
    return replace(sample, **{k: getattr(sample, k)[part] for k in ("image", "semantic_map", "true_semantic")})


def _tags(sample: Sample, cfg: SimFormerConfig) -> torch.Tensor:
    """The classes of the true class map, or of the whole image, bool [C]."""
    assert sample.true_semantic is not None and sample.tags is not None
    whole = cfg.masks == "base" and cfg.tag_scope == "image"
    return sample.tags if whole else tags_from_map(sample.true_semantic, len(sample.tags))
