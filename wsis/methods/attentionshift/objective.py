"""The objective of AttentionShift: tokens find the clicks, MIL chooses a layer, a detector learns from the labels.

official code   token_terms, mil_term
supp. Table 2   point_term ("point"), mask_term ("mask")
"""

import torch
from torch import Tensor
from torch.nn.functional import binary_cross_entropy, binary_cross_entropy_with_logits, grid_sample, l1_loss, one_hot
from torchvision.ops import roi_align, sigmoid_focal_loss

from wsis.methods.attentionshift.config import AttentionShiftConfig, TokenConfig
from wsis.methods.attentionshift.labels import Clicks, PointSet
from wsis.methods.attentionshift.parts import KeyPoints
from wsis.ops.matching import assign

ALPHA, GAMMA = 0.25, 2.0  # of the focal loss and of its cost


@torch.no_grad()
def match_tokens(logits: Tensor, place: Tensor, targets: Clicks, sizes: Tensor, cfg: TokenConfig) -> Tensor:
    """The token of each point: one-to-one, least cost of class and place; long [B, G], -1 where there is no point.

    logits: [B, P, C]. place: [B, P, 2] in (0, 1), of the image without padding. sizes: [B, 2] its (width, height).

    Raises:
        ConfigError: an image has more points than there are tokens.
    """
    logits, place = logits.detach().float(), place.detach().float()
    probability = logits.sigmoid()
    positive = ALPHA * (1 - probability) ** GAMMA * -(probability + 1e-12).log()
    negative = (1 - ALPHA) * probability**GAMMA * -(1 - probability + 1e-12).log()
    of_class = (positive - negative).take_along_dim(targets.labels[:, None], 2)  # [B, P, G]
    distance = torch.cdist(place, targets.xy / sizes[:, None], p=1)
    return assign(cfg.class_cost * of_class + cfg.place_cost * distance, targets.present)


def token_terms(logits: Tensor, place: Tensor, targets: Clicks, matched: Tensor, sizes: Tensor) -> dict[str, Tensor]:
    """Focal loss of all tokens, where those without a point are background, and L1 of the places of matched ones.

    Both are sums over the number of matched tokens.
    """
    classes = torch.zeros_like(logits, dtype=torch.float32)
    present = targets.present
    image = torch.arange(len(logits), device=logits.device)[:, None].expand_as(matched)[present]
    classes[image, matched[present], targets.labels[present]] = 1
    count = present.sum().clamp(min=1)
    focal = sigmoid_focal_loss(logits.float(), classes, ALPHA, GAMMA, "sum") / count
    wanted = (targets.xy / sizes[:, None])[present]
    far = l1_loss(place.float()[image, matched[present]], wanted, reduction="sum") / count
    return {"token_class": focal, "token_place": far}


def with_key_points(clicks: Clicks, found: KeyPoints | None, cfg: TokenConfig) -> Clicks:
    """Clicks and key-points as targets of the tokens (the feedback); at most `cfg.most`, at random, of an image.

    A key-point has the class of its object. There are never more targets than tokens.
    """
    if found is None or not cfg.feedback or not found.kept.shape[1]:
        return clicks
    kept = (found.kept & clicks.present[..., None]).flatten(1)
    room = min(cfg.most, kept.shape[1], max(0, cfg.count - clicks.present.shape[1]))
    index = torch.where(kept, torch.rand_like(kept, dtype=torch.float32), -1).topk(room, 1).indices
    labels = clicks.labels[..., None].expand_as(found.kept).flatten(1).take_along_dim(index, 1)
    return Clicks(
        torch.cat([clicks.xy, found.xy.flatten(1, 2).take_along_dim(index[..., None], 1)], 1),
        torch.cat([clicks.labels, labels], 1),
        torch.cat([clicks.ids, torch.zeros_like(labels)], 1),
        torch.cat([clicks.present, kept.take_along_dim(index, 1)], 1),
    )


def mil_term(scores: Tensor, labels: Tensor) -> Tensor:
    """Binary cross entropy of the sums over candidates, which are bags of one object each (official code).

    scores: [N, K, C], see `MilHead`. labels: long [N].
    """
    if not len(labels):
        return scores.sum()
    with torch.autocast(scores.device.type, enabled=False):
        bag = scores.float().sum(1).clamp(1e-6, 1 - 1e-6)
        return binary_cross_entropy(bag, one_hot(labels, bag.shape[1]).float())


def point_term(logits: Tensor, rois: Tensor, points: PointSet, row: Tensor) -> Tensor:
    """Cross entropy of mask logits read at labelled pixels, mean over those within their region of interest.

    logits: [R, m, m]. rois: [R, 4] boxes in pixels. points: flattened over images and objects, [N, Q, ...]. row: long [R],
    the object of each region.
    """
    low, high = rois[:, None, :2], rois[:, None, 2:]
    place = (points.xy[row] + 0.5 - low) / (high - low).clamp(min=1e-6)  # pixel centres are at integers
    counts = points.counts[row] & ((place >= 0) & (place <= 1)).all(-1)
    grid = (2 * place - 1)[:, None].clamp(-1, 1)
    read = grid_sample(logits[:, None].float(), grid, padding_mode="border", align_corners=False)[:, 0, 0]
    each = binary_cross_entropy_with_logits(read, points.target[row].float(), reduction="none")
    return (each * counts).sum() / counts.sum().clamp(min=1)


def mask_term(logits: Tensor, rois: Tensor, masks: Tensor, counts: Tensor, row: Tensor) -> Tensor:
    """Cross entropy of mask logits with pseudo masks cut to the regions, mean over where these count.

    masks, counts: bool [N, H, W]. Others: see `point_term`.
    """
    size = logits.shape[-2:]
    boxes = torch.cat([row[:, None].float(), rois], 1)
    target, weight = (roi_align(m[:, None].float(), boxes, size, aligned=True)[:, 0] for m in (masks, counts))
    certain = weight > 0.5
    each = binary_cross_entropy_with_logits(logits.float(), (target >= 0.5).float(), reduction="none")
    return (each * certain).sum() / certain.sum().clamp(min=1)


def weighted(terms: dict[str, Tensor], cfg: AttentionShiftConfig) -> dict[str, Tensor]:
    """The terms with their weighted sum as `total`."""
    w = cfg.loss
    weights = {
        "token_class": w.token_class,
        "token_place": w.token_place,
        "mil": w.mil,
        "objectness": w.proposal,
        "proposal_box": w.proposal,
        "roi_class": w.roi_class,
        "roi_box": w.roi_box,
        "mask": w.mask,
    }
    return {**terms, "total": torch.stack([weights[name] * term for name, term in terms.items()]).sum()}
