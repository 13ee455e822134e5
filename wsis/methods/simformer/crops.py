"""The random crops that SimFormer learns from."""

from dataclasses import dataclass, replace
from typing import Literal

import torch

from wsis.core.errors import AnnotationError
from wsis.core.types import IGNORE, Sample
from wsis.data.masks import tags_from_map
from wsis.data.transforms import Augment, resize, short_side
from wsis.methods.simformer.config import SimFormerConfig
from wsis.weak.simulate import with_base_masks

DRAWS = 50  # of a crop until one shows a class
# The changes of color of SSD, as in the official code; its contrast is a factor, and its hue turns by 18 of 180 (OpenCV).
COLORS = {"shift": 32, "brightness": 0.5, "contrast": 0, "saturation": 0.5, "hue": 18 / 180, "color_probability": 0.5}


@dataclass(frozen=True)
class SemanticAugment:
    """Random size, place, color and flip of a sample with a class map; the same sample and seed give the same result.

    The result is a square of `cfg.size.crop` pixels; a smaller image lies in its upper left corner. A crop is drawn up to 50
    times, until it shows a class or has the tag of a novel one; after that the whole image is made to fit. masks: "base";
    "all" keeps the novel ones; "given" takes the sample's own `semantic_map` and never the truth. Tags are of what the crop
    shows of the true or the given map; with `cfg.tag_scope` "image" and base masks they are the image's. flip: probability of
    a left-right flip (official config).
    """

    cfg: SimFormerConfig
    masks: Literal["base", "all", "given"]
    flip: float = 0.5

    def __call__(self, sample: Sample, seed: int) -> Sample:
        """image [3, S, S], semantic_map, valid [S, S] and tags [C] of a crop, without the truth.

        Raises AnnotationError where the sample lacks its class map or tags, or has a novel tag that no crop would show.
        """
        sample, generator = self._learnable(sample), torch.Generator().manual_seed(seed)
        crop = self.cfg.size.crop
        for _ in range(DRAWS):
            window = self._window(sample, torch.rand(3, generator=generator, dtype=torch.float64).tolist())
            assert window.semantic_map is not None and window.tags is not None
            if (window.semantic_map != IGNORE).any() or window.tags[list(self.cfg.novel)].any():
                break
        else:
            window = self._tagged(resize(sample, short_side(sample.size, crop, crop)))
        augment = Augment(crop=crop, long_side=None, scale=(1, 1), scale_step=0, flip=self.flip, **COLORS)
        last = int(torch.randint(2**62, (), generator=generator))
        return _moved_to_corner(augment(replace(window, true_semantic=None), last))

    @property
    def _tags_of_crops(self) -> bool:
        return self.masks != "base" or self.cfg.tag_scope == "crop"

    def _learnable(self, sample: Sample) -> Sample:
        """The sample with the map to learn from; crops take their tags from its `true_semantic`."""
        sample = replace(sample, truth=None, points=None, extreme_points=None)
        if self.masks == "given":
            return with_base_masks(replace(sample, true_semantic=sample.semantic_map), (), "all")
        learnable = with_base_masks(sample, self.cfg.novel, self.masks)
        if self.masks == "base" and self._tags_of_crops:
            assert sample.tags is not None  # `with_base_masks` has looked
            lost = sample.tags & ~_shown(sample)  # would be in no crop's tags, and not be learned
            if labels := [label for label in self.cfg.novel if lost[label]]:
                raise AnnotationError(
                    f"image {sample.image_id} ({sample.file_name}) is tagged with the novel class {labels[0]} (from 0) and "
                    "its label map does not show it, so that no crop can tell its tags; train with --set tag_scope=image"
                )
        return learnable

    def _window(self, sample: Sample, chance: list[float]) -> Sample:
        """A random part, at most `crop` wide and high, of the sample at a random size."""
        size = self.cfg.size
        sample = resize(sample, short_side(sample.size, size.short[int(chance[0] * len(size.short))], size.long))
        room = (max(side - size.crop, 0) for side in sample.size)
        top, left = (int(c * (r + 1)) for c, r in zip(chance[1:], room, strict=True))
        part = (..., slice(top, top + size.crop), slice(left, left + size.crop))
        maps = {k: getattr(sample, k)[part] for k in ("image", "semantic_map", "true_semantic")}
        return self._tagged(replace(sample, **maps))

    def _tagged(self, sample: Sample) -> Sample:
        return replace(sample, tags=_shown(sample)) if self._tags_of_crops else sample


def _shown(sample: Sample) -> torch.Tensor:
    """The classes of the true class map, bool [C]."""
    assert sample.true_semantic is not None and sample.tags is not None
    return tags_from_map(sample.true_semantic, len(sample.tags))


def _moved_to_corner(sample: Sample) -> Sample:
    """The sample with its image in the upper left corner of the padding."""
    assert sample.valid is not None
    shift = (-int(sample.valid.any(1).byte().argmax()), -int(sample.valid.any(0).byte().argmax()))
    return replace(sample, **{k: getattr(sample, k).roll(shift, (-2, -1)) for k in ("image", "semantic_map", "valid")})
