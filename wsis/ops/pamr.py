"""Pixel-adaptive mask refinement (Araslanov and Roth, CVPR 2020, Sec. 4.2)."""

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import pad

DILATIONS = (1, 2, 4, 8)  # pixels (official code)


def pixel_adaptive_refinement(
    probabilities: Float[Tensor, "B K H W"], images: Float[Tensor, "B 3 H W"], iterations: int = 10
) -> Float[Tensor, "B K H W"]:
    """Repeatedly replace each pixel's distribution by a mean over its neighbors, weighted by how similar they look.

    Neighbor q of p weighs softmax_q(-mean_c |I_p - I_q|_c / (0.1 sigma_pc)), over the 8 neighbors at every dilation; sigma
    is the standard deviation of channel c over p's neighbors. The images are in [0, 1]. Sums over K stay.
    """
    near = torch.stack(_neighbors(images))  # [N, B, 3, H, W]
    sigma = ((near - near.mean(0)).square_().sum(0) / (len(near) - 1)).sqrt_()  # std(0) takes several times as long
    difference = (near - images).abs_() / (0.1 * sigma + 1e-6)
    weights = (-difference.mean(2, keepdim=True)).softmax(0)  # [N, B, 1, H, W]
    for _ in range(iterations):
        total = torch.zeros_like(probabilities)
        for weight, shifted in zip(weights, _neighbors(probabilities), strict=True):
            total.addcmul_(weight, shifted)
        probabilities = total
    return probabilities


def _neighbors(maps: Tensor) -> list[Tensor]:
    """The 8 shifts of maps [B, K, H, W] by every dilation; the border is repeated."""
    height, width = maps.shape[-2:]
    far = max(DILATIONS)
    padded = pad(maps, (far, far, far, far), mode="replicate")
    steps = [(y, x) for d in DILATIONS for y in (-d, 0, d) for x in (-d, 0, d) if (y, x) != (0, 0)]
    return [padded[..., far + y : far + y + height, far + x : far + x + width] for y, x in steps]
