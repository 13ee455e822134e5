"""BESTIE's objective: semantic cross entropy, and center and offset regression under instance-aware guidance.

Instance-aware guidance (IAG; supp. Listing 6, Table 1): the regressions look only at pixels with a label. An object
that the weak labels missed is then not taught to be background, which without IAG makes the network forget what it
had generalised to (semantic drift).
"""

from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from wsis.core.types import IGNORE, InstanceMap
from wsis.methods.bestie.config import BestieConfig
from wsis.methods.bestie.model import Outputs
from wsis.ops.grouping import splat_gaussians


class Targets(NamedTuple):
    """Dense regression targets.

    center: [B, C or 1, H, W] in [0, 1]. offset: [B, 2, H, W], (dy, dx) in pixels, 0 where unlabelled.
    weight: [B, 1, H, W] in [0, 1], 0 where nothing is known.
    """

    center: Tensor
    offset: Tensor
    weight: Tensor


def render(instances: InstanceMap, cfg: BestieConfig, centers: Tensor | None = None) -> Targets:
    """Instances as center, offset and weight maps (supp. Listing 4).

    centers: [B, C or 1, H, W], where the center map is known independently of the masks (point supervision).
    """
    batch, height, width = instances.ids.shape
    row = (instances.ids - 1).clamp_min(0)
    known = instances.ids > 0
    if len(instances):
        position, score = instances.centers[row], instances.scores[row]  # [B, H, W, 2], [B, H, W]
    else:
        position, score = instances.centers.new_zeros(*row.shape, 2), instances.scores.new_zeros(row.shape)
    y = torch.arange(height, device=row.device, dtype=torch.float32)[:, None].expand(height, width)
    x = torch.arange(width, device=row.device, dtype=torch.float32).expand(height, width)
    offset = (position - torch.stack((y, x), -1)) * known[..., None]
    if centers is None:
        centers = center_map(instances.centers, instances.image, instances.labels, (batch, height, width), cfg)
    return Targets(centers, offset.permute(0, 3, 1, 2), (score * known)[:, None])


def center_map(
    centers: Tensor, image: Tensor, labels: Tensor, shape: tuple[int, int, int], cfg: BestieConfig
) -> Tensor:
    """Gaussians at centers [K, 2] (y, x) of the batch `shape` (B, H, W): [B, C or 1, H, W]."""
    batch, height, width = shape
    planes = cfg.classes if cfg.center_mode == "class_wise" else 1
    plane = image * planes + (labels if planes > 1 else 0)
    return splat_gaussians(centers, plane, (batch * planes, height, width), cfg.sigma).view(
        batch, planes, height, width
    )


def guided(error: Tensor, weight: Tensor) -> Tensor:
    """Sum of weight * error over channels and pixels, divided by the number of pixels with a weight.

    error: [B, K, H, W] >= 0. weight: [B, 1, H, W]. Zero, with zero gradients, where no pixel has a weight.
    """
    return (weight * error).sum() / (weight > 0).sum().clamp_min(1)


def unguided(error: Tensor, norm: str) -> Tensor:
    """The same without guidance: every pixel counts, unlabelled ones have target 0.

    norm: "mean" over pixels and channels (released code), or "matched", over pixels only, at IAG's scale.
    """
    return error.mean() if norm == "mean" else error.mean() * error.shape[1]


def regression(outputs: Outputs, targets: Targets, cfg: BestieConfig) -> tuple[Tensor, Tensor]:
    """Center (squared) and offset (absolute) terms for one set of targets."""
    center = (outputs.center - targets.center).square()
    offset = (outputs.offset - targets.offset).abs()
    if cfg.loss.iag:
        return guided(center, targets.weight), guided(offset, targets.weight)
    return unguided(center, cfg.loss.unguided_norm), unguided(offset, cfg.loss.unguided_norm)


def hard_cross_entropy(logits: Tensor, target: Tensor, fraction: float, count_ignored: bool = False) -> Tensor:
    """Mean of the hardest `fraction` of the labelled pixels' cross entropy.

    logits: [B, C + 1, H, W]. target: int64 [B, H, W] with 255 = ignore. fraction: in (0, 1]; 1 is the plain mean.
    The number of hard pixels follows from the labelled ones, or, as in the release, from all (`count_ignored`).
    """
    losses = cross_entropy(logits, target, ignore_index=IGNORE, reduction="none").flatten()
    known = torch.ones_like(target).sum() if count_ignored else (target != IGNORE).sum()
    if fraction >= 1:
        return losses.sum() / known.clamp_min(1)
    # A fixed-size top-k keeps the host out of it: what is ranked beyond the labelled share gets no weight.
    hardest = losses.topk(max(1, int(fraction * losses.numel()))).values
    count = (fraction * known).floor().clamp(1, len(hardest))
    taken = torch.arange(len(hardest), device=losses.device) < count
    return (hardest * taken).sum() / count


def objective(
    outputs: Outputs, semantic_target: Tensor, pseudo: Targets, refined: Targets | None, cfg: BestieConfig
) -> dict[str, Tensor]:
    """All terms and their weighted total (supp. Listing 6).

    semantic_target: int64 [B, H, W], 255 = ignore. refined: targets of self-refinement, averaged with the pseudo
    ones; None repeats the pseudo term, as the release does.
    """
    fraction = cfg.loss.hard_fraction if cfg.loss.semantic == "ohem" else 1.0
    terms = {"semantic": hard_cross_entropy(outputs.semantic, semantic_target, fraction, cfg.compat == "official")}
    terms["center"], terms["offset"] = regression(outputs, pseudo, cfg)
    if refined is not None:
        center, offset = regression(outputs, refined, cfg)
        terms["refined_center"], terms["refined_offset"] = center, offset
        center, offset = (terms["center"] + center) / 2, (terms["offset"] + offset) / 2
    else:
        center, offset = terms["center"], terms["offset"]
    terms["total"] = (
        cfg.loss.semantic_weight * terms["semantic"] + cfg.loss.center_weight * center + cfg.loss.offset_weight * offset
    )
    return terms
