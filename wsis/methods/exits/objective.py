"""EXITS' objective: tight boxes where no point was retrieved, labeled points, and masks smoothed by color.

    MAL (CVPR 2023; official code)   box_tightness, crf_target
    supp. text and Sec. B            objective: its weights; tight boxes on crops that retrieved nothing
    ours, since unpublished          point_loss, warmup_loss

A crop of C x C pixels has g x g = n tokens and a mask of m x m. Under autocast too everything is computed in fp32: inputs are
raised first, and no operation here is one that autocast lowers.
"""

import math

import torch
from torch import Tensor
from torch.nn.functional import avg_pool2d, binary_cross_entropy_with_logits, cross_entropy, interpolate

from wsis.core.types import Batch
from wsis.methods.exits.config import CrfConfig, ExitsConfig, LossConfig
from wsis.methods.exits.labels import TokenTargets, clicks, find_seeds, token_targets
from wsis.methods.exits.model import UPSAMPLE, Outputs
from wsis.models.convnets import IMAGENET_STD
from wsis.ops.losses import squared_dice
from wsis.ops.mean_field import mean_field

KERNEL, LOW, HIGH = 3, 0.1, 0.9  # of the mean field: pixels, and the clip of probabilities (MAL, official code)


def box_masks(xy: Tensor, size: int, side: int) -> Tensor:
    """The boxes that clicks [B, 4, 2] span, as masks of the crop of `size` pixels resized to `side`: float32 [B, side, side].

    The box holds the pixels of the clicks and all between; the release has one row and one column more.
    """
    pixel = torch.arange(size, device=xy.device)
    inside = (pixel >= xy.amin(1)[..., None] - 0.5) & (pixel <= xy.amax(1)[..., None] + 0.5)  # [B, 2, C]
    x, y = interpolate(inside.float(), side, mode="linear", align_corners=False).unbind(1)
    return y[:, :, None] * x[:, None, :]


def box_tightness(mask: Tensor, box: Tensor) -> Tensor:
    """How far a mask is from touching all four sides of its box: [B, m, m] twice -> [B], about 0 to 2 (MAL).

    Any cross through the box scores 0 too. In fp32, since lower precisions make ties among the maxima.
    """
    mask, box = mask.float(), box.float()
    return squared_dice(mask.amax(1), box.amax(1)) + squared_dice(mask.amax(2), box.amax(2))


def at_tokens(logits: Tensor, tokens: int, at: str) -> Tensor:
    """Logits [B, m, m] at the tokens of a g x g grid, [B, g g]: at their centers, or with "pool" the means of their patches."""
    grid = math.isqrt(tokens)
    if at == "pool":
        return avg_pool2d(logits[:, None], logits.shape[-1] // grid).flatten(1)
    return interpolate(logits[:, None], (grid, grid), mode="bilinear", align_corners=False).flatten(1)


def point_loss(logits: Tensor, targets: TokenTargets, cfg: LossConfig) -> Tensor:
    """The error of logits [B, m, m] at labeled tokens: mean over those of a crop, then over crops that have some; else 0."""
    values = at_tokens(logits.float(), targets.target.shape[1], cfg.point_at)
    target, weight = targets.target.float(), targets.labeled.float()
    if cfg.point_balance:
        objects = target * weight
        weight = torch.stack([w / w.sum(1, keepdim=True).clamp_min(1) for w in (objects, weight - objects)]).sum(0)
    count = weight.sum(1)
    if cfg.point_kind == "bce":
        error = binary_cross_entropy_with_logits(values, target, reduction="none")
        each = (weight * error).sum(1) / count.clamp_min(1)
    else:
        root = weight.sqrt()  # dice is quadratic
        each = squared_dice(root * values.sigmoid(), root * target)
    known = count > 0
    return (each * known).sum() / known.sum().clamp_min(1)


@torch.no_grad()
def crf_target(outputs: Outputs, images: Tensor, box: Tensor, cfg: CrfConfig) -> Tensor:
    """The mean of both masks, smoothed in the box [B, m, m] by the colors that the student sees (MAL): bool [B, m, m]."""
    small = interpolate(images.float(), box.shape[-2:], mode="bilinear", align_corners=False)
    colors = torch.stack([c / std for c, std in zip(small.unbind(1), IMAGENET_STD, strict=True)], 1)
    mean = (outputs.student.float().sigmoid() + outputs.teacher.float().sigmoid()) / 2
    return mean_field(
        colors,
        mean,
        box,
        zeta=cfg.zeta,
        kernel=KERNEL,
        iterations=cfg.iterations,
        low=LOW,
        high=HIGH,
        epsilon=cfg.epsilon,
    )


def objective(
    outputs: Outputs, images: Tensor, xy: Tensor, targets: TokenTargets, cfg: ExitsConfig
) -> dict[str, Tensor]:
    """The terms mil, point and crf, and their weighted sum, total.

    images: [B, 3, C, C] in [0, 1], the view that the student sees. xy: clicks [B, 4, 2], pixels of the crop. Box tightness
    counts crops that retrieved nothing; it is divided by B, or by their number (`cfg.loss.mil_over`).
    """
    mask = outputs.student.float().sigmoid()
    box = box_masks(xy.float(), images.shape[-1], mask.shape[-1])
    empty = targets.empty.float()
    count = empty.sum().clamp_min(1) if cfg.loss.mil_over == "empty" else len(empty)
    terms = {
        "mil": (empty * box_tightness(mask, box)).sum() / count,
        "point": point_loss(outputs.student, targets, cfg.loss),
        "crf": squared_dice(mask, crf_target(outputs, images, box, cfg.crf).float()).mean(),
    }
    terms["total"] = cfg.loss.mil * terms["mil"] + cfg.loss.point * terms["point"] + cfg.loss.crf * terms["crf"]
    return terms


def warmup_loss(logits: Tensor, batch: Batch, cfg: ExitsConfig) -> dict[str, Tensor]:
    """The extractor learns the box (mil) or sure tokens (points) from logits [B, n], or the class (cls) from [B, classes]."""
    xy, logits = clicks(batch), logits.float()
    if cfg.extractor.objective == "cls":
        return {"total": cross_entropy(logits, torch.cat([points.labels for points in batch.extreme_points or ()]))}
    size, grid = batch.images.shape[-1], math.isqrt(logits.shape[1])
    tokens = logits.unflatten(1, (grid, grid))
    if cfg.extractor.objective == "points":
        targets = token_targets(find_seeds(xy, batch.valid, size // grid, cfg), None)
        return {"total": point_loss(tokens, targets, LossConfig())}
    side = UPSAMPLE * grid
    larger = interpolate(tokens[:, None], (side, side), mode="bilinear", align_corners=False)[:, 0]
    return {"total": box_tightness(larger.sigmoid(), box_masks(xy, size, side)).mean()}
