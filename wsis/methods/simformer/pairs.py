"""Which pixels of two images are compared (official code; any number of pairs of images and no target on padding are ours).

Images 2 p and 2 p + 1 of a batch of B are a pair. J pixels are drawn of each, and given by their index in the map of n cells.
Matrices [B, J, J] have the pixels of an image as rows and those of its partner as columns, so both orders of a pair occur.
Nothing here waits for the device.
"""

from typing import NamedTuple

import torch
from torch import Tensor

from wsis.core.errors import ConfigError
from wsis.core.types import Batch
from wsis.methods.simformer.config import PairConfig, SimFormerConfig
from wsis.models.pyramids import STRIDES

INSIDE = 0.8  # of the pixels, in the chosen base class (official code)
MAP_VALUES = 256  # a class map is a byte


def shown_values(maps: Tensor) -> Tensor:
    """Which values each class map has: long [B, ...] -> bool [B, 256]."""
    shown = torch.zeros(len(maps), MAP_VALUES, dtype=torch.bool, device=maps.device)
    return shown.scatter_(1, maps.flatten(1), True)


class PixelPairs(NamedTuple):
    """The pixels of one training step.

    novel: long, labels. points: long [B, J], from which SimNet learns. same, counted: bool [B, J, J], which pairs of them are
    of one class, and which have a target. unlabeled: long [B, J], whose scores learn from SimNet, and distilled: bool
    [B, J, J], which pairs of them count; None without distillation.
    """

    novel: Tensor
    points: Tensor
    same: Tensor
    counted: Tensor
    unlabeled: Tensor | None = None
    distilled: Tensor | None = None


def draw_pairs(batch: Batch, cfg: SimFormerConfig) -> PixelPairs:
    """Draw the pixels at stride 4 at which images are compared; what is of no base class in their maps is unlabeled.

    The distillation counts pairs of images that share a novel tag and have two unlabeled pixels or more each. Raises
    ValueError for an odd number of images, and ConfigError as `sample_points`.
    """
    assert batch.semantic_maps is not None and batch.tags is not None
    if len(batch.images) % 2:
        raise ValueError(f"{len(batch.images)} images are no pairs; give an even number: 2 p and 2 p + 1 are one")
    novel = torch.tensor(cfg.novel, dtype=torch.long).to(batch.images.device, non_blocking=True)
    maps, valid = (x[:, :: STRIDES[0], :: STRIDES[0]].flatten(1) for x in (batch.semantic_maps, batch.valid))
    table = base_values(batch.tags.shape[1], novel)
    base, rest = regions(maps, valid, table)
    shown = shown_values(batch.semantic_maps) & table
    points = sample_mixed(maps, valid, base, shown & swap(shown), cfg.pairs.points)
    drawn = maps.gather(1, points), valid.gather(1, points), base.gather(1, points)
    same, counted = pair_targets(*drawn, cfg.pairs)
    if cfg.loss.distillation == 0:
        return PixelPairs(novel, points, same, counted)
    unlabeled, inside = sample_points(rest, cfg.pairs.points, valid)
    enough = (batch.tags & swap(batch.tags))[:, novel].any(1) & (inside.sum(1) >= 2)
    distilled = _both(inside & enough[:, None])
    return PixelPairs(novel, points, same, counted, unlabeled, distilled)


def swap(rows: Tensor) -> Tensor:
    """The rows of each image's partner: [B, ...] -> [B, ...]."""
    return rows.unflatten(0, (-1, 2)).flip(1).flatten(0, 1)


def _both(flags: Tensor) -> Tensor:
    """Which pairs have the flag at both pixels: bool [B, J] -> [B, J, J]."""
    return flags[:, :, None] & swap(flags)[:, None]


def base_values(classes: int, novel: Tensor) -> Tensor:
    """Which values of a class map are base classes, bool [256]; novel: long, labels."""
    table = torch.zeros(MAP_VALUES, dtype=torch.bool, device=novel.device)
    table[1 : classes + 1] = True
    return table.index_fill_(0, novel + 1, False)


def regions(maps: Tensor, valid: Tensor, table: Tensor) -> tuple[Tensor, Tensor]:
    """Pixels of base classes (`base_values`), and the other valid ones: class maps [B, ...] -> bool [B, ...] twice."""
    base = table.index_select(0, maps.flatten()).view_as(maps)  # on a CPU several times as fast as table[maps]
    return base & valid, ~base & valid


def sample_points(region: Tensor, count: int, valid: Tensor) -> tuple[Tensor, Tensor]:
    """Draw `count` different places of each row: first of the region, then of what is valid, then of the rest.

    region, valid: bool [B, n]. Returns long [B, count], and which are in the region; ConfigError where there are fewer places.
    """
    if count > (cells := region.shape[1]):
        raise ConfigError(f"pairs.points={count} of a map of {cells} cells; ask for fewer, or take larger crops")
    noise = torch.rand(region.shape, device=region.device)
    points = (4 * region.float() + 2 * valid.float() + noise).topk(count, 1).indices
    return points, region.gather(1, points)


def sample_mixed(
    maps: Tensor,  # long [B, n]
    valid: Tensor,  # bool [B, n]
    base: Tensor,  # bool [B, n], pixels of base classes
    common: Tensor,  # bool [B, 256], base classes that both images show
    count: int,
) -> Tensor:
    """Draw pixels among which pairs of one class are likely: long [B, count].

    The share `INSIDE` is of a random common class (any valid pixels fill up where stride 4
    misses it), or of all base classes where there is none; the others are of the rest,
    whatever it shows. None is drawn twice while there are enough valid ones.
    """
    noise = torch.rand(len(maps) // 2, MAP_VALUES, device=maps.device)
    chosen = (common * (1 + noise.repeat_interleave(2, 0))).argmax(1, keepdim=True)
    region = torch.where(common.any(1, keepdim=True), maps == chosen, base) & valid
    first, _ = sample_points(region, round(INSIDE * count), valid)
    left = valid.scatter(1, first, False)
    others, _ = sample_points(left & ~region, count - first.shape[1], left)
    return torch.cat([first, others], 1)


def pair_targets(
    values: Tensor,  # long [B, J], what the maps say at the pixels
    valid: Tensor,  # bool [B, J]
    base: Tensor,  # bool [B, J], which pixels are of a base class
    cfg: PairConfig,
) -> tuple[Tensor, Tensor]:
    """Which pairs are of one class, and which have a target: bool [B, J, J] twice.

    With `labeled` "either", one of the two pixels has to be of a base class, so pixels of
    novel classes appear in pairs of two classes only; with "both" they appear in none.
    """
    same = values[:, :, None] == swap(values)[:, None]
    if cfg.labeled == "both":
        return same, _both(base)
    either = base[:, :, None] | swap(base)[:, None]
    return same, either & _both(valid)


def at_points(features: Tensor, points: Tensor) -> Tensor:
    """Features of pixels: [B, D, h, w], long [B, J] -> [B, J, D]."""
    return features.flatten(2).gather(2, points[:, None].expand(-1, features.shape[1], -1)).mT
