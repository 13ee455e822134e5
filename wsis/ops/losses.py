"""Losses that methods share. The caller takes the mean over rows; the last two are means themselves."""

from typing import Any

import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor
from torch.nn.functional import cross_entropy, softplus

from wsis.core.types import IGNORE

FOCAL_ALPHA = 0.25
"""Weight of the positives in the focal loss, whose exponent is 2 (Lin et al., ICCV 2017)."""


class _Focal(torch.autograd.Function):
    """Written out, since torch's own derivative takes about twice the time and memory."""

    @staticmethod
    def forward(ctx: Any, logits: Tensor, target: Tensor) -> Tensor:
        wrong = logits * (1 - 2 * target)
        p, cost = wrong.sigmoid(), softplus(wrong)
        ctx.save_for_backward(p, cost, target)
        return p.square().mul_(cost).mul_(1 - FOCAL_ALPHA - (1 - 2 * FOCAL_ALPHA) * target).mean(1)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        p, cost, target = ctx.saved_tensors
        slope = (1 - p).mul_(cost).mul_(2).add_(p).mul_(p).mul_(p)
        return slope.mul_(1 - FOCAL_ALPHA - target).mul_(gradients[0][:, None] / p.shape[1]), None


def focal(logits: Float[Tensor, "R n"], target: Float[Tensor, "R n"]) -> Float[Tensor, " R"]:
    """Mean focal loss (Lin et al., ICCV 2017) of each row, differentiable once by the logits; target is 0 or 1."""
    return _Focal.apply(logits, target)  # pyright: ignore[reportReturnType]


def dice(probability: Float[Tensor, "R n"], target: Float[Tensor, "R n"]) -> Float[Tensor, " R"]:
    """1 - (2 sum p t + 1) / (sum p + sum t + 1) of each row (MaskFormer, official code)."""
    common = (probability * target).sum(1)
    return 1 - (2 * common + 1) / (probability.sum(1) + target.sum(1) + 1)


def squared_dice(probability: Float[Tensor, " R *n"], target: Float[Tensor, " R *n"]) -> Float[Tensor, " R"]:
    """1 - 2 sum p t / (sum p^2 + sum t^2 + 0.002) of each row, in fp32 (SOLOv2; MAL, official code)."""
    p, t = probability.flatten(1).float(), target.flatten(1).float()
    return 1 - 2 * (p * t).sum(1) / (p.square().sum(1) + t.square().sum(1) + 0.002)


def hard_cross_entropy(
    logits: Float[Tensor, "B K H W"], target: Int64[Tensor, "B H W"], fraction: float, count_ignored: bool = False
) -> Float[Tensor, ""]:
    """Mean of the hardest `fraction`, in (0, 1], of the labeled pixels' cross entropy (BESTIE). target: 255 = ignore.

    count_ignored: the number of hard pixels follows from all pixels, as in the release, and not from the labeled ones.
    """
    losses = cross_entropy(logits, target, ignore_index=IGNORE, reduction="none").flatten()
    known = torch.ones_like(target).sum() if count_ignored else (target != IGNORE).sum()
    if fraction >= 1:
        return losses.sum() / known.clamp_min(1)
    # A top-k of fixed size does not wait for the device: pixels that rank beyond the labeled share get no weight.
    hardest = losses.topk(max(1, int(fraction * losses.numel()))).values
    count = (fraction * known).floor().clamp(1, len(hardest))
    weight = torch.arange(len(hardest), device=losses.device) < count
    return (hardest * weight).sum() / count


def masked_mean(values: Float[Tensor, "*n"], chosen: Bool[Tensor, "*n"]) -> Float[Tensor, ""]:
    """The mean of the chosen values, 0 where there are none."""
    return torch.where(chosen, values, 0).sum() / chosen.sum().clamp_min(1)
