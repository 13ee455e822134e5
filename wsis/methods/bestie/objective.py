"""BESTIE's objective: semantic cross entropy, and center and offset regression under instance-aware guidance.

Instance-aware guidance (IAG; supp. Listing 6, Table 1): the regressions look only at pixels with a label, so that an object
that the weak labels missed is not learned as background (semantic drift).
"""

from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import l1_loss, mse_loss, pad

from wsis.core.types import Points
from wsis.methods.bestie.config import BestieConfig
from wsis.methods.bestie.labels import InstanceMap
from wsis.methods.bestie.model import Outputs
from wsis.models.classifier import ClassMaps, Maps
from wsis.ops.grouping import splat_gaussians
from wsis.ops.losses import hard_cross_entropy


class Targets(NamedTuple):
    """Dense targets: center in [0, 1], C channels or one; offset (dy, dx) in pixels and weight in [0, 1], 0 where unlabeled."""

    center: Maps
    offset: Float[Tensor, "B 2 H W"]
    weight: Float[Tensor, "B 1 H W"]


def render(
    instances: InstanceMap,
    cfg: BestieConfig,
    centers: Maps | None = None,  # the center map, where clicks give it
) -> Targets:
    """The center, offset and weight maps of instances (supp. Listing 4)."""
    ids, columns = instances.ids, torch.column_stack((instances.centers, instances.scores))
    flat, columns = ids.flatten(), pad(columns.T, (1, 0))  # the first column: no instance
    y, x, weight = (values.index_select(0, flat).view(ids.shape) for values in columns)
    row, column = (torch.arange(size, device=ids.device) for size in ids.shape[-2:])
    offset = torch.stack((y - row[:, None], x - column), dim=1) * (ids > 0)[:, None]
    if centers is None:
        centers = center_map(instances, ids.shape, cfg)
    return Targets(centers, offset, weight[:, None])


def center_map(rows: InstanceMap | Points, shape: torch.Size, cfg: BestieConfig) -> Maps:
    """Gaussians at the centers of instances or points of a batch of images, whose shape is (B, H, W)."""
    batch, height, width = shape
    planes = cfg.classes if cfg.center_mode == "class_wise" else 1
    plane = rows.image * planes + (rows.labels if planes > 1 else 0)
    maps = splat_gaussians(rows.centers, plane, (batch * planes, height, width), cfg.sigma)
    return maps.view(batch, planes, height, width)


def guided(error: Maps, weight: Float[Tensor, "B 1 H W"]) -> Float[Tensor, ""]:
    """The sum of weight * error over the number of pixels with a weight; 0 without one."""
    return (weight * error).sum() / (weight > 0).sum().clamp_min(1)


def regression(out: Outputs, targets: Targets, cfg: BestieConfig) -> tuple[Tensor, Tensor]:
    """Center (squared) and offset (absolute) terms for one set of targets.

    Without guidance: the mean over pixels and channels (the release), or over pixels only.
    """
    center = mse_loss(out.center, targets.center, reduction="none")
    offset = l1_loss(out.offset, targets.offset, reduction="none")
    if cfg.loss.iag:
        return guided(center, targets.weight), guided(offset, targets.weight)
    if cfg.loss.unguided_norm == "matched":
        return center.mean() * center.shape[1], offset.mean() * offset.shape[1]
    return center.mean(), offset.mean()


def objective(
    outputs: Outputs,
    semantic_maps: ClassMaps,  # 255 = ignore
    pseudo: Targets,
    refined: Targets | None,  # None counts the pseudo labels alone, as the release does
    cfg: BestieConfig,
) -> dict[str, Tensor]:
    """All terms and their weighted total (supp. Listing 6)."""
    fraction, count_ignored = cfg.loss.hard_fraction, cfg.compat == "official"
    center, offset = regression(outputs, pseudo, cfg)
    semantic = hard_cross_entropy(outputs.semantic, semantic_maps, fraction, count_ignored)
    terms = {"semantic": semantic, "center": center, "offset": offset}
    if refined is not None:
        again = regression(outputs, refined, cfg)
        terms["refined_center"], terms["refined_offset"] = again
        center, offset = (center + again[0]) / 2, (offset + again[1]) / 2
    total = semantic + cfg.loss.center_weight * center + cfg.loss.offset_weight * offset
    return terms | {"total": total}
