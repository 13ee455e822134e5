"""SimFormer's class maps: of any image, and those of training images that a second network learns from (spec 2.9, 2.10)."""

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn.functional import interpolate, pad

from wsis.core.types import BACKGROUND, IGNORE
from wsis.data.transforms import MEAN_COLOR, short_side
from wsis.methods.simformer.config import SimFormerConfig
from wsis.methods.simformer.model import MaskFormer
from wsis.methods.simformer.objective import semantic_scores
from wsis.models.pyramids import STRIDES

AT_ONCE = 16  # classes whose scores are held at the size of the image


@torch.no_grad()
def class_scores(
    network: MaskFormer, images: Tensor, cfg: SimFormerConfig, shorts: Sequence[int] = (), flip: bool = False
) -> Tensor:
    """How much of each class each pixel is, float32 [B, K, H, W], at the size of the images; not normalised.

    images: [B, 3, H, W] in [0, 1]. shorts: sizes of the shorter side, the mean of all, with `pseudo.long` for the longer;
    none: those of inference. flip: also of the mirrored images.
    """
    views = [(short, mirrored) for short in shorts or (cfg.size.test_short,) for mirrored in (False, True)[: 1 + flip]]
    total, long = None, cfg.pseudo.long if shorts else cfg.size.test_long
    for short, mirrored in views:
        seen = images.flip(3) if mirrored else images
        small = _scores(network, seen, short_side((images.shape[2], images.shape[3]), short, long))
        scores = interpolate(small, images.shape[-2:], mode="bilinear", align_corners=False)
        scores = scores.flip(3) if mirrored else scores
        total = scores if total is None else total.add_(scores)
    assert total is not None
    return total.div_(len(views))


@torch.no_grad()
def best_classes(network: MaskFormer, images: Tensor, cfg: SimFormerConfig) -> Tensor:
    """The class of every pixel, long [B, H, W] of 1..K, as `class_scores` at the size of inference has it.

    A few classes at a time are brought to the size of the images, since a photograph's scores of all may not fit.
    """
    size = short_side((images.shape[2], images.shape[3]), cfg.size.test_short, cfg.size.test_long)
    small = _scores(network, images, size)
    most = small.new_full((len(images), *images.shape[2:]), -torch.inf)
    best = torch.zeros_like(most, dtype=torch.long)
    for first in range(0, small.shape[1], AT_ONCE):
        part = interpolate(small[:, first : first + AT_ONCE], most.shape[1:], mode="bilinear", align_corners=False)
        value, label = part.max(1)
        best = torch.where(value > most, label + first + 1, best)
        most = torch.maximum(value, most)
    return best


def _scores(network: MaskFormer, images: Tensor, size: tuple[int, int]) -> Tensor:
    """Scores at `size`, to which images are enlarged, and padded to whole cells of the coarsest feature."""
    small = interpolate(images, size, mode="bilinear", align_corners=False, antialias=True)
    mean = images.new_tensor(MEAN_COLOR)[:, None, None] / 255
    down, right = (-side % STRIDES[-1] for side in size)
    padded = pad(small - mean, (0, right, 0, down)) + mean
    outputs = network(padded)
    scores = semantic_scores(outputs.logits[-1], outputs.masks[-1], (size[0] + down, size[1] + right))
    return scores[..., : size[0], : size[1]]


def pseudo_maps(scores: Tensor, known: Tensor, tags: Tensor, cfg: SimFormerConfig) -> Tensor:
    """Class maps to learn from, long [B, H, W]: `known` where it is a base class, novel classes as predicted.

    scores: [B, K, H, W]. known: long [B, H, W], base classes and 255. tags: bool [B, K]. A pixel that is predicted as a
    class that is not among the image's novel tags stays 255; with `pseudo.present_only` only tagged classes compete.
    """
    if cfg.pseudo.present_only:
        scores = scores.masked_fill(~tags[:, :, None, None], -torch.inf)
    novel = torch.zeros(scores.shape[1], dtype=torch.bool, device=scores.device)
    novel[list(cfg.novel)] = True
    best = scores.argmax(1)
    named = (tags & novel).gather(1, best.flatten(1)).view_as(best)
    given = (known != BACKGROUND) & (known != IGNORE)
    return torch.where(given, known, torch.where(named, best + 1, IGNORE))
