"""SimFormer's labels: what the queries learn from a batch, and the class maps that a second network learns from."""

from collections.abc import Sequence
from functools import reduce
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import interpolate, pad

from wsis.core.types import BACKGROUND, IGNORE
from wsis.data.transforms import MEAN_COLOR, short_side
from wsis.methods.simformer.config import SimFormerConfig
from wsis.methods.simformer.model import MaskFormer, Outputs
from wsis.methods.simformer.pairs import shown_values
from wsis.models.pyramids import STRIDES
from wsis.ops.enlarge import highest

LONG = 4480  # pixels of the longer side at most, with several scales (official config, ADE)


class Targets(NamedTuple):
    """The classes of each image, padded to the most of the batch, at least one; those with a mask come first.

    labels: long [B, T], 0 where not present. present, has_mask: bool [B, T]. masks: float [B, T, H, W], 0 without a mask.
    masked, unmasked: long, positions b T + t of present targets with and without. left: bool [B, H, W], what is neither padding
    nor in a mask.
    """

    labels: Tensor
    present: Tensor
    has_mask: Tensor
    masks: Tensor
    masked: Tensor
    unmasked: Tensor
    left: Tensor


def find_targets(maps: Tensor, valid: Tensor, tags: Tensor, novel: Sequence[int]) -> Targets:
    """A target with its mask for each base class in the map, and one without a mask for each novel tag.

    maps: long [B, H, W]; 0, 255 and novel classes in them are no targets, nor is a base class that is tagged only. valid: bool
    [B, H, W], False on padding. tags: bool [B, K]. novel: labels without masks. This waits once for the device.
    """
    is_novel = torch.zeros(tags.shape[1], dtype=torch.bool)
    is_novel[list(novel)] = True
    in_map, tagged = torch.stack([shown_values(maps)[:, 1 : len(is_novel) + 1], tags.bool()]).cpu().unbind()
    with_mask = in_map & ~is_novel
    targets = with_mask | tagged & is_novel
    count = max(int(targets.sum(1).max()), 1)
    order = (2 - targets.int() - with_mask.int()).argsort(dim=1, stable=True)[:, :count]
    has_mask, present = with_mask.gather(1, order), targets.gather(1, order)
    rows = (flags.flatten().nonzero()[:, 0] for flags in (has_mask, present & ~has_mask))
    parts = (part.to(maps.device, non_blocking=True) for part in (order * present, present, has_mask, *rows))
    labels, present, has_mask, masked, unmasked = parts
    masks = (maps[:, None] == labels[..., None, None] + 1) & has_mask[..., None, None]
    return Targets(labels, present, has_mask, masks.float(), masked, unmasked, valid & ~masks.any(1))


def semantic_scores(logits: Tensor, masks: Tensor, size: tuple[int, int]) -> Tensor:
    """Sums over queries of class times mask probability (MaskFormer).

    [B, N, K + 1], [B, N, h, w] -> [B, K, *size]
    """
    with torch.autocast(masks.device.type, enabled=False):
        large = interpolate(masks.float(), size, mode="bilinear", align_corners=False)
        classes = logits.float().softmax(-1)[..., :-1]  # without "no object"
        return torch.einsum("bnk,bnhw->bkhw", classes, large.sigmoid())


@torch.no_grad()
def class_scores(network: MaskFormer, images: Tensor, cfg: SimFormerConfig) -> Tensor:
    """`semantic_scores` of whole images [B, 3, H, W] in [0, 1] at their size, float32 [B, K, H, W].

    They are means over the sizes `pseudo.scales` of the shorter side, and with `pseudo.flip` over the mirrored images; without
    scales the size is that of inference.
    """
    size, shorts = (images.shape[2], images.shape[3]), cfg.pseudo.scales or (cfg.size.test_short,)
    long = LONG if cfg.pseudo.scales else cfg.size.test_long

    def view(short: int, mirrored: bool) -> Tensor:
        small = _small_scores(network, images.flip(3) if mirrored else images, short_side(size, short, long))
        scores = interpolate(small, size, mode="bilinear", align_corners=False)
        return scores.flip(3) if mirrored else scores

    views = [(short, mirrored) for short in shorts for mirrored in (False, True)[: 1 + cfg.pseudo.flip]]
    return reduce(Tensor.add_, (view(*one) for one in views)).div_(len(views))


@torch.no_grad()
def best_classes(network: MaskFormer, images: Tensor, cfg: SimFormerConfig) -> Tensor:
    """The class of each pixel with the best score, long [B, H, W] of 1..K; to save memory, a few classes are held at a time."""
    whole = images.shape[2], images.shape[3]
    size = short_side(whole, cfg.size.test_short, cfg.size.test_long)
    return highest(_small_scores(network, images, size), whole)[1] + 1


@torch.no_grad()
def proposed_masks(network: MaskFormer, images: Tensor, cfg: SimFormerConfig) -> Tensor:
    """Where each proposal is more likely than not, whatever its class: bool [B, N, H, W] at the size of the images."""
    size = short_side((images.shape[2], images.shape[3]), cfg.size.test_short, cfg.size.test_long)
    outputs, padded = _propose(network, images, size)
    masks = interpolate(outputs.masks[-1], padded, mode="bilinear", align_corners=False)[..., : size[0], : size[1]]
    return interpolate(masks, images.shape[2:], mode="bilinear", align_corners=False) > 0


def _small_scores(network: MaskFormer, images: Tensor, size: tuple[int, int]) -> Tensor:
    """Scores at `size`, to which the images are resized."""
    outputs, padded = _propose(network, images, size)
    return semantic_scores(outputs.logits[-1], outputs.masks[-1], padded)[..., : size[0], : size[1]]


def _propose(network: MaskFormer, images: Tensor, size: tuple[int, int]) -> tuple[Outputs, tuple[int, int]]:
    """The proposals for images at `size`, which are padded to whole cells of the coarsest feature, and the padded size."""
    small = interpolate(images, size, mode="bilinear", align_corners=False, antialias=True)
    mean = images.new_tensor(MEAN_COLOR)[:, None, None] / 255
    down, right = (-side % STRIDES[-1] for side in size)
    return network(pad(small - mean, (0, right, 0, down)) + mean), (size[0] + down, size[1] + right)


def pseudo_maps(
    scores: Tensor,  # [B, K, H, W]
    known: Tensor,  # long [B, H, W]
    tags: Tensor,  # bool [B, K]
    cfg: SimFormerConfig,
) -> Tensor:
    """Class maps to learn from, long [B, H, W]: `known` base classes, predicted novel ones.

    A pixel that is predicted as anything but a novel class with a tag stays 255, and so
    does one without a score, which a rival's walk never reached. With `pseudo.present_only`
    others do not compete.
    """
    if cfg.pseudo.present_only:
        scores = scores.masked_fill(~tags[:, :, None, None], -torch.inf)
    (score, best), novel = scores.max(1), torch.zeros_like(tags)
    novel[:, list(cfg.novel)] = True
    is_tagged = (tags & novel).gather(1, best.flatten(1)).view_as(best) & (score > 0)
    is_base = (known != BACKGROUND) & (known != IGNORE)
    return torch.where(is_base, known, torch.where(is_tagged, best + 1, IGNORE))
