"""From a classifier to instance cues and semantic maps (supp. Listings 1 and 2; section on semantic maps is ours)."""

import torch
from torch import Tensor
from torch.nn.functional import avg_pool2d, interpolate

from wsis.core.types import IGNORE, Points
from wsis.methods.bestie.config import CueConfig, SemanticConfig
from wsis.methods.bestie.model import Classifier
from wsis.ops.grouping import max_pool
from wsis.ops.pamr import pixel_adaptive_refinement


@torch.no_grad()
def activation_maps(
    model: Classifier, images: Tensor, tags: Tensor, size: tuple[int, int], scales: tuple[float, ...] = (1.0,)
) -> Tensor:
    """Class activation maps in [0, 1]: mean over flips and scales of the positive activations, largest value per class 1.

    images: [B, 3, H, W] in [0, 1]. tags: bool [B, C]; maps of other classes are 0. size: (H, W) of the result.
    Returns [B, C, H, W].
    """
    total = torch.zeros(1, device=images.device)
    for scale in scales:
        # Multiples of the stride keep the cells of the flipped image on those of the plain one.
        scaled = [max(32, round(side * scale / 32) * 32) for side in images.shape[-2:]]
        x = interpolate(images, scaled, mode="bilinear", align_corners=False)
        maps = model(torch.cat([x, x.flip(3)])).relu()
        plain, flipped = maps.chunk(2)
        maps = interpolate((plain + flipped.flip(3)) / 2, size, mode="bilinear", align_corners=False)
        total = total + maps
    total = total * tags[:, :, None, None]
    return total / (total.amax((2, 3), keepdim=True) + 1e-5)


def extract_cues(maps: Tensor, tags: Tensor, cfg: CueConfig) -> Points:
    """Local maxima of activation maps as instance cues (supp. Listing 2).

    maps: [B, C, H, W] in [0, 1]. tags: bool [B, C]. After a 3 x 3 mean, a pixel is a cue if it is the highest of its
    `kernel` x `kernel` neighbourhood and above `store_above`; at most `top` per class, by value.
    """
    smooth = avg_pool2d(maps, 3, 1, 1)
    peak = (smooth == max_pool(smooth, cfg.kernel)) & (smooth > cfg.store_above) & tags[:, :, None, None]
    value = (smooth * peak).flatten(2)
    kept = min(cfg.top, value.shape[-1])
    scores, place = value.topk(kept, dim=-1)  # [B, C, top]
    image, label, rank = (scores > 0).nonzero(as_tuple=True)
    pixel, width = place[image, label, rank], maps.shape[-1]
    return Points.make(
        torch.stack((pixel % width, pixel // width), dim=1), label, scores=scores[image, label, rank], image=image
    )


def semantic_map_from_activations(maps: Tensor, images: Tensor, cfg: SemanticConfig) -> Tensor:
    """Class map int64 [B, H, W]: the strongest class or background, 255 where the two best are closer than `uncertain`.

    maps: [B, C, H, W] in [0, 1]; the background competes as a constant. images: [B, 3, H, W] in [0, 1].
    """
    scores = torch.cat([torch.full_like(maps[:, :1], cfg.background), maps], dim=1)
    return sharpened(scores / scores.sum(1, keepdim=True), images, cfg)


def sharpened(probabilities: Tensor, images: Tensor, cfg: SemanticConfig) -> Tensor:
    """Class map of probabilities [B, C + 1, H, W] after `sharpen` steps of refinement by the image's colours."""
    probabilities = pixel_adaptive_refinement(probabilities, images, cfg.sharpen)
    best = probabilities.topk(2, dim=1)
    return best.indices[:, 0].masked_fill(best.values[:, 0] - best.values[:, 1] < cfg.uncertain, IGNORE)
