"""EXITS' labels of the tokens of a crop: seeds from four clicks, points retrieved by a random walk, thresholds.

    supp. text     find_seeds: the clicks pushed inward are object, what lies outside their box is not
    Sec. H         scores: what reaches a token from the clicks minus what reaches it from outside the box
    Sec. B         peak, threshold: the thresholds are unpublished, the share of crops that retrieve nothing is known

A crop of C x C pixels has n = (C / patch)^2 tokens in raster order. Token masks are bool [B, n].
"""

from typing import NamedTuple

import torch
from torch import Tensor

from wsis.core.errors import ConfigError
from wsis.core.types import Batch, ExtremePoints
from wsis.methods.exits.config import ExitsConfig, WalkConfig
from wsis.methods.exits.model import Extractor
from wsis.ops.patches import PatchGrid, box_patches, center_patches, covered_patches, point_patches
from wsis.ops.random_walk import sinkhorn, walk, walk_limit

ITERATIONS = 20  # of Sinkhorn's scaling, ours: rows then sum to 1 within 4e-6 on 1,024 tokens
BETA = 0.25  # the probability that the endless walk continues (Table a2)


class Seeds(NamedTuple):
    """What clicks and box say with certainty about the tokens of a batch of crops; all bool [B, n].

    foreground: with a click. background: outside the box or with another object's click, never foreground. in_box: the center
    is in the box. valid: half of the pixels or more are of the image. others: background with another's click; None if unused.
    """

    foreground: Tensor
    background: Tensor
    in_box: Tensor
    valid: Tensor
    others: Tensor | None = None

    @property
    def open(self) -> Tensor:
        """Tokens that may be retrieved: in the box, valid, and not labeled yet."""
        return self.in_box & self.valid & ~self.foreground & ~self.background


class Retrieved(NamedTuple):
    """Tokens of `Seeds.open` that the walk labels, disjoint, bool [B, n]; empty: bool [B], the crops that retrieved nothing."""

    foreground: Tensor
    background: Tensor
    empty: Tensor


class TokenTargets(NamedTuple):
    """Targets of the point loss [B, n], 1 on the object; labeled: bool [B, n], where they count; empty: bool [B], the crops
    that retrieved nothing and are supervised by their box.
    """

    target: Tensor
    labeled: Tensor
    empty: Tensor


def clicks(batch: Batch) -> ExtremePoints:
    """The four clicks of each crop, one row per crop; a crop of no or several objects raises a ValueError."""
    crops = batch.extreme_points
    if crops is None or any(len(points) != 1 for points in crops):
        raise ValueError("a batch of crops holds the extreme points of exactly one object in each; see exits.crops")
    return type(crops[0])(**{name: torch.cat([getattr(points, name) for points in crops]) for name in vars(crops[0])})


@torch.no_grad()
def find_seeds(points: ExtremePoints, valid: Tensor, patch: int, push: float, others: Tensor | None = None) -> Seeds:
    """The tokens that the four clicks of each crop, pushed by some pixels, and their box label (supp. text).

    valid: bool [B, C, C]; C is a multiple of `patch`, the pixels a side of a token. others: see `other_clicks`; they are
    used in the box. The background are the tokens entirely outside the box; where a crop has none, those whose center is.
    """
    height, width = valid.shape[-2:]
    if height != width or width % patch:
        raise ConfigError(f"a crop of {width} x {height} px: make it square, its side a multiple of {patch} px")
    grid = PatchGrid(height // patch, width // patch, patch)
    seeds = own_seeds(points, covered_patches(valid, patch), grid, push)
    if others is None:
        return seeds
    others = others & seeds.in_box & seeds.valid & ~seeds.foreground
    return seeds._replace(background=seeds.background | others, others=others)


def own_seeds(points: ExtremePoints, valid: Tensor, grid: PatchGrid, push: float) -> Seeds:
    """What the object's own clicks and box label; valid: bool [B, n], see `Seeds`."""
    clicked = pushed(points.xy, push).clamp(0, grid.width * grid.patch - 1)
    foreground = point_patches(clicked, grid) & valid
    rest = valid & ~foreground
    in_box = center_patches(points.boxes, grid)
    outside = ~box_patches(points.boxes, grid) & rest
    background = torch.where(outside.any(1, keepdim=True), outside, ~in_box & rest)
    return Seeds(foreground, background, in_box, valid)


def pushed(xy: Tensor, push: float) -> Tensor:
    """Clicks [B, 4, 2], `push` pixels nearer to the center of their box, at most in it."""
    toward = (xy.amin(1, keepdim=True) + xy.amax(1, keepdim=True)) / 2 - xy
    distance = toward.norm(dim=-1, keepdim=True)
    return xy + toward * (push / distance.clamp_min(1e-6)).clamp_max(1)


def other_clicks(batch: Batch, patch: int, push: float) -> Tensor:
    """The tokens of crops that hold a click of another object, pushed into that object: bool [B, n]."""
    if batch.other_extreme_points is None:
        raise ValueError("seeds.other_objects needs other_extreme_points in the batch; take items of ObjectCrops")
    side = batch.images.shape[-1] // patch
    points = [pushed(others.xy, push).flatten(0, 1)[None] for others in batch.other_extreme_points]
    return torch.cat([point_patches(xy, PatchGrid(side, side, patch)) for xy in points])


@torch.no_grad()
def token_scores(extractor: Extractor, batch: Batch, cfg: ExitsConfig) -> tuple[Tensor, Seeds]:
    """The scores [B, n] of the tokens of a batch of crops of one object each, see `scores`, and their seeds."""
    patch = extractor.encoder.patch
    others = other_clicks(batch, patch, cfg.seeds.push) if cfg.seeds.other_objects else None
    seeds = find_seeds(clicks(batch), batch.valid, patch, cfg.seeds.push, others)
    return scores(extractor.similarity(batch.images), seeds, cfg.walk), seeds


@torch.no_grad()
def scores(similarity: Tensor, seeds: Seeds, cfg: WalkConfig) -> Tensor:
    """What reaches a token from the clicks minus what reaches it from outside (Sec. H).

    similarity: [B, n, n]. Returns [B, n], positive on the object; 0 at invalid tokens, and
    in crops that lack seeds of either kind. The unit, unpublished, is an even spread.
    """
    batch, n = seeds.valid.shape
    if similarity.shape != (batch, n, n):
        raise ConfigError(f"{[*similarity.shape]}, {n} tokens: leave out the class token")
    graph, start = sinkhorn(similarity, ITERATIONS, seeds.valid), _starts(seeds)
    arrived = walk_limit(graph, start, BETA) if cfg.limit else walk(graph, start, cfg.hops)
    difference = arrived[..., 0] - arrived[..., 1:].amax(-1)
    decided = seeds.foreground.any(1) & seeds.background.any(1)
    return difference * seeds.valid.sum(1, keepdim=True) * (decided[:, None] & seeds.valid)


def _starts(seeds: Seeds) -> Tensor:
    """Where walkers start, as distributions [B, n, 2 or 3]: the clicks together send as much as the background."""
    sources = [seeds.foreground, seeds.background]
    if seeds.others is not None:
        # These walk by themselves: among hundreds of tokens outside the box they would not count.
        sources[1:] = [seeds.background & ~seeds.others, seeds.others]
    return torch.stack([mask / mask.sum(1, keepdim=True).clamp_min(1) for mask in sources], -1)


@torch.no_grad()
def select(score: Tensor, seeds: Seeds, cfg: WalkConfig) -> Retrieved:
    """Open tokens with a score above tau_fg or below -tau_bg (Sec. H), both 0 or more."""
    for name, tau in (("tau_fg", cfg.tau_fg), ("tau_bg", cfg.tau_bg)):
        if not tau >= 0:
            raise ConfigError(f"walk.{name}={tau}: use 0 or more; inf retrieves nothing")
    foreground = seeds.open & (score > cfg.tau_fg)
    background = seeds.open & (score < -cfg.tau_bg)
    return Retrieved(foreground, background, ~(foreground | background).any(1))


@torch.no_grad()
def token_targets(seeds: Seeds, retrieved: Retrieved) -> TokenTargets:
    """Given and retrieved points as one target; given ones win."""
    given = seeds.foreground | seeds.background
    target = seeds.foreground | (retrieved.foreground & ~given)
    labeled = given | retrieved.foreground | retrieved.background
    return TokenTargets(target.float(), labeled, retrieved.empty)


@torch.no_grad()
def peak(score: Tensor, seeds: Seeds) -> Tensor:
    """The largest score magnitude of open tokens, [B], or 0: a crop retrieves nothing exactly when its peak is at most tau."""
    return (score.abs() * seeds.open).amax(1)


def threshold(peaks: Tensor, empty_rate: float) -> float:
    """The common threshold at which the share `empty_rate` of crops retrieves nothing (Sec. B), from their peaks [N].

    Every tau between the k-th peak and the next one leaves k crops empty, k being `empty_rate` times N, rounded; the middle is
    returned. Crops with peak 0 are empty at any threshold, and may be more than k.
    """
    if not 0 <= empty_rate <= 1:
        raise ConfigError(f"walk.empty_rate={empty_rate}: a share of crops is between 0 and 1")
    if not (peaks > 0).any() or peaks.isnan().any():
        seeded = f"{int((peaks > 0).sum())} have seeds of object and background and a token between them"
        broken = f"{int(peaks.isnan().sum())} have no number as their score"
        raise ConfigError(f"thresholds cannot be calibrated: of {len(peaks)} crops, {seeded}, {broken}")
    ordered = peaks.double().sort().values
    count = max(round(empty_rate * len(peaks)), int((peaks == 0).sum()))
    below = ordered[count - 1] if count else ordered.new_zeros(())
    above = ordered[min(count, len(peaks) - 1)]
    return float(below + above) / 2
