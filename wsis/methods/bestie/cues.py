"""From a classifier to instance cues and class maps (supp. Listings 1 and 2; the way to class maps is ours)."""

import math

import torch
from torch import nn
from torch.nn.functional import avg_pool2d, interpolate

from wsis.core.types import IGNORE, Points, Sample
from wsis.data.transforms import collate, resize
from wsis.methods.bestie.config import BestieConfig, CueConfig, SemanticConfig
from wsis.models.classifier import ClassMaps, Images, Maps, Tags, activation_maps, normalized
from wsis.models.pyramids import ConvTokens
from wsis.models.vit import ViT
from wsis.ops.grouping import max_pool
from wsis.ops.pamr import pixel_adaptive_refinement
from wsis.ops.random_walk import sinkhorn, walk

MIN_SCORE = 0.1  # of a stored cue (official code)
MAX_CUES = 25  # per class and image (official code)
HOPS = 8  # of the walk, as the next constant what had the best maps of 50 training photographs
LONGER_SIDE = 640  # pixels of the image, so that tokens are small beside objects: fewer tokens had clearly worse maps
ITERATIONS = 10  # of Sinkhorn's scaling


def classifier_input(sample: Sample, cfg: BestieConfig) -> Sample:
    """The sample as a square of the classifier's crop size, as in the release: the aspect is not kept."""
    return resize(sample, (cfg.size.classifier_crop, cfg.size.classifier_crop))


def image_maps(model: nn.Module, sample: Sample, cfg: BestieConfig, scales: tuple[float, ...] = (1.0,)) -> Maps:
    """Class activation maps [1, C, H, W] of one image at its own size."""
    batch = collate([classifier_input(sample, cfg)]).to(next(model.parameters()).device)
    assert batch.tags is not None
    return activation_maps(model, batch.images, batch.tags, sample.size, scales)


@torch.no_grad()
def walked(maps: Maps, images: Images, tokens: ConvTokens | ViT) -> Maps:
    """Activation maps in [0, 1] after `HOPS` hops of a random walk between the tokens of the image, each to similar ones: they
    leave the blob around what is typical of a class for all of the object, and ground that looks otherwise.

    images: in [0, 1], of the size of the maps. The least of each walked map, which a walk spreads everywhere, is taken off.
    """
    ratio = LONGER_SIDE / max(images.shape[-2:])
    sides = [math.ceil(side * ratio / 32) * 32 for side in images.shape[-2:]]
    grid, size = [side // tokens.patch for side in sides], images.shape[-2:]
    resized = interpolate(images, sides, mode="bilinear", align_corners=False)
    start = interpolate(maps, grid, mode="area").flatten(2).mT
    end = walk(sinkhorn(tokens.attention(resized, 0), ITERATIONS), start, HOPS).mT.unflatten(2, grid)
    return normalized(interpolate(end - end.amin((2, 3), keepdim=True), size, mode="bilinear", align_corners=False))


def extract_cues(maps: Maps, tags: Tags, cfg: CueConfig) -> Points:
    """The local maxima of activation maps in [0, 1] as instance cues (supp. Listing 2).

    A cue is the highest of `kernel` x `kernel` smoothed pixels, and above `MIN_SCORE`; the
    `MAX_CUES` highest of each class are kept.
    """
    smooth = avg_pool2d(maps, 3, 1, 1) * tags[:, :, None, None]
    peak = (smooth == max_pool(smooth, cfg.kernel)) & (smooth > MIN_SCORE)
    values = (smooth * peak).flatten(2)
    scores, pixels = values.topk(min(MAX_CUES, values.shape[-1]), dim=-1)  # [B, C, cues]
    image, label, rank = (scores > 0).nonzero(as_tuple=True)
    pixel, width = pixels[image, label, rank], maps.shape[-1]
    xy = torch.stack((pixel % width, pixel // width), dim=1)
    return Points.make(xy, label, scores=scores[image, label, rank], image=image)


def semantic_map_from_activations(maps: Maps, images: Images, cfg: SemanticConfig) -> ClassMaps:
    """Class map of activations, of which each class has the maximum 1, and the background is a constant; see `sharpened`."""
    return sharpened(with_background(normalized(maps), cfg.background), images, cfg)


def with_background(maps: Maps, level: float) -> Maps:
    """Probabilities [B, C + 1, H, W] from the scores of C classes and a constant one of the background."""
    scores = torch.cat([torch.full_like(maps[:, :1], level), maps], dim=1)
    return scores / scores.sum(1, keepdim=True)


def sharpened(probabilities: Maps, images: Images, cfg: SemanticConfig) -> ClassMaps:
    """The most probable class after `sharpen` steps of refinement by color, 255 where two are closer than `uncertain`."""
    strength = probabilities.amax((0, 2, 3))  # classes without a tag are 0 and stay 0: they are left out
    present = strength.argsort(descending=True)[: max(2, int((strength > 0).sum()))].sort().values
    best = pixel_adaptive_refinement(probabilities[:, present], images, cfg.sharpen).topk(2, dim=1)
    winner = present[best.indices[:, 0]]
    return winner.masked_fill(best.values[:, 0] - best.values[:, 1] < cfg.uncertain, IGNORE)
