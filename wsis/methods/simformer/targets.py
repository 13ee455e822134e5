"""What SimFormer's queries are taught of a batch: base classes with their masks, novel classes by name (spec 2.2)."""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

VALUES = 256  # of a class map


class Targets(NamedTuple):
    """The classes of each image, padded to the most of the batch, at least one; those with a mask come first.

    labels: long [B, T], 0 where not present. present, has_mask: bool [B, T]. masks: float [B, T, H, W], 0 without a mask;
    what is novel or void is 0 in all. masked, unmasked: long, positions b T + t of present targets with and without.
    """

    labels: Tensor
    present: Tensor
    has_mask: Tensor
    masks: Tensor
    masked: Tensor
    unmasked: Tensor


def find_targets(maps: Tensor, tags: Tensor, novel: Sequence[int]) -> Targets:
    """A target for each base class in the map, with its mask, and one for each novel tag, without.

    maps: long [B, H, W] class maps; 0 and 255 teach nothing, nor does a novel class that is in them. tags: bool [B, K].
    novel: labels; none where all classes have masks. A base class that is tagged but not in the map is no target: its
    mask would be empty. The device is waited for once, to learn how many targets there are.
    """
    images, classes = tags.shape
    shown = torch.zeros(images, VALUES, dtype=torch.bool, device=maps.device)
    shown.scatter_(1, maps.flatten(1), True)
    shown, named = torch.stack([shown[:, 1 : classes + 1], tags.bool()]).cpu().unbind()
    is_novel = torch.zeros(classes, dtype=torch.bool)
    is_novel[list(novel)] = True
    shown, named = shown & ~is_novel, named & is_novel
    wanted = shown | named
    count = max(int(wanted.sum(1).max()), 1)
    order = (2 - wanted.int() - shown.int()).argsort(dim=1, stable=True)[:, :count]
    has_mask, present = shown.gather(1, order), wanted.gather(1, order)
    rows = (flags.flatten().nonzero()[:, 0] for flags in (has_mask, present & ~has_mask))
    labels, present, has_mask, masked, unmasked = (
        part.to(maps.device, non_blocking=True) for part in (order * present, present, has_mask, *rows)
    )
    masks = (maps[:, None] == labels[..., None, None] + 1) & has_mask[..., None, None]
    return Targets(labels, present, has_mask, masks.float(), masked, unmasked)
