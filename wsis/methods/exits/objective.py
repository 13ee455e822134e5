"""EXITS' objective: tight boxes where no point was retrieved, labeled points, and masks smoothed by color.

    MAL (CVPR 2023; official code)   box_tightness, crf_target
    supp. text and Sec. B            objective: its weights; tight boxes on crops that retrieved nothing
    ours, since unpublished          point_loss, warmup_loss

A crop of C x C pixels has g x g = n tokens and a mask of m x m. Under autocast too everything is computed in fp32: inputs are
raised first, and no operation here is one that autocast lowers.
"""

import math

import torch
from jaxtyping import Float, Shaped
from torch import Tensor
from torch.nn.functional import binary_cross_entropy_with_logits as cross_entropy
from torch.nn.functional import interpolate

from wsis.core.types import Batch
from wsis.methods.exits.config import CrfConfig, ExitsConfig
from wsis.methods.exits.labels import TokenTargets, clicks
from wsis.methods.exits.model import UPSAMPLE, Outputs
from wsis.models.convnets import IMAGENET_STD
from wsis.ops.losses import squared_dice
from wsis.ops.mean_field import mean_field

Masks = Float[Tensor, "B m m"]


def box_masks(boxes: Tensor, size: int, side: int) -> Tensor:
    """Boxes xyxy [B, 4] in crops of `size` pixels, as masks resized to `side`: float32 [B, side, side]."""
    center = torch.arange(size, device=boxes.device) + 0.5
    low, high = boxes[..., None].split(2, 1)
    inside = (center >= low) & (center <= high)  # [B, 2, C]
    x, y = interpolate(inside.float(), side, mode="linear", align_corners=False).unbind(1)
    return y[:, :, None] * x[:, None]


def box_tightness(mask: Masks, box: Shaped[Tensor, "B m m"]) -> Float[Tensor, " B"]:
    """How far a mask is from touching all sides of its box, 0 to 2 (MAL); 0 for a cross."""
    mask, box = mask.float(), box.float()  # lower precisions make ties among the maxima
    return squared_dice(mask.amax(1), box.amax(1)) + squared_dice(mask.amax(2), box.amax(2))


def point_loss(logits: Masks, targets: TokenTargets) -> Float[Tensor, ""]:
    """Cross entropy at the centers of labeled tokens: mean in crops, then over them."""
    grid = [math.isqrt(targets.target.shape[1])] * 2
    values = interpolate(logits.float()[:, None], grid, mode="bilinear")
    error = cross_entropy(values.flatten(1), targets.target, reduction="none")
    count = targets.labeled.sum(1)
    each = (targets.labeled * error).sum(1) / count.clamp_min(1)
    return each.sum() / (count > 0).sum().clamp_min(1)


@torch.no_grad()
def crf_target(outputs: Outputs, images: Tensor, box: Tensor, cfg: CrfConfig) -> Tensor:
    """The mean of both masks, smoothed in the box [B, m, m] by the colors that the student sees (MAL): bool [B, m, m]."""
    small = interpolate(images.float(), box.shape[-2:], mode="bilinear", align_corners=False)
    colors = torch.stack([c / std for c, std in zip(small.unbind(1), IMAGENET_STD, strict=True)], 1)
    mean = (outputs.student.float().sigmoid() + outputs.teacher.float().sigmoid()) / 2
    return mean_field(colors, mean, box, cfg.zeta, cfg.iterations)


def objective(
    outputs: Outputs, images: Tensor, boxes: Tensor, targets: TokenTargets, cfg: ExitsConfig
) -> dict[str, Tensor]:
    """The terms mil, point and crf, and their weighted sum, total.

    images: [B, 3, C, C] in [0, 1], the view that the student sees. boxes: [B, 4] xyxy,
    pixels of the crop. Box tightness counts in crops that retrieved nothing and is divided
    by B, since a rare term is to stay rare (ours, unpublished).
    """
    mask = outputs.student.float().sigmoid()
    box = box_masks(boxes.float(), images.shape[-1], mask.shape[-1])
    mil = (targets.empty * box_tightness(mask, box)).mean()
    point = point_loss(outputs.student, targets)
    crf = squared_dice(mask, crf_target(outputs, images, box, cfg.crf).float()).mean()
    total = cfg.loss.mil * mil + cfg.loss.point * point + cfg.loss.crf * crf
    return {"mil": mil, "point": point, "crf": crf, "total": total}


def warmup_loss(logits: Tensor, batch: Batch) -> dict[str, Tensor]:
    """The extractor learns the boxes of a batch of crops: tightness of the mask that logits [B, n] of its tokens make."""
    side = UPSAMPLE * math.isqrt(logits.shape[1])
    tokens = logits.float().unflatten(1, (1, side // UPSAMPLE, side // UPSAMPLE))
    larger = interpolate(tokens, (side, side), mode="bilinear", align_corners=False)[:, 0]
    boxes = box_masks(clicks(batch).boxes, batch.images.shape[-1], side)
    return {"total": box_tightness(larger.sigmoid(), boxes).mean()}
