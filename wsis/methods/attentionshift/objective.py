"""The objective of AttentionShift: tokens find the clicks, MIL chooses a layer, a detector learns from the labels."""

import torch
from torch import Tensor
from torch.nn import functional as F
from torchvision.ops import generalized_box_iou_loss, roi_align, sigmoid_focal_loss

from wsis.methods.attentionshift.config import AttentionShiftConfig
from wsis.methods.attentionshift.detector import Detection, Outputs
from wsis.methods.attentionshift.labels import mask_targets, match_tokens, point_targets
from wsis.methods.attentionshift.maps import PaddedPoints
from wsis.ops.losses import FOCAL_ALPHA, masked_mean


def objective(outputs: Outputs, clicks: PaddedPoints, cfg: AttentionShiftConfig) -> dict[str, Tensor]:
    """All terms of one step, and their weighted sum as `total`."""
    terms = token_terms(outputs.logits, outputs.places, outputs.targets, outputs.extents)
    clicked = clicks.present.nonzero(as_tuple=True)  # one wait for the device, not one for each tensor
    terms["mil"] = mil_term(outputs.scores[clicked], clicks.labels[clicked])
    detection = outputs.detection
    terms |= detector_terms(detection)
    regions = detection.mask_logits, detection.rois, detection.objects
    if cfg.mask.supervision == "point":
        terms["mask"] = point_term(*regions, *(t[clicked] for t in point_targets(outputs.labels, clicks, cfg)))
    else:
        terms["mask"] = mask_term(*regions, *(t[clicked] for t in mask_targets(outputs.labels, cfg)))
    weighted = terms | {name: weight * terms[name] for name, weight in vars(cfg.loss).items()}
    return {**terms, "total": torch.stack(list(weighted.values())).sum()}


def token_terms(logits: Tensor, places: Tensor, targets: PaddedPoints, extents: Tensor) -> dict[str, Tensor]:
    """Focal loss of all tokens and L1 loss of the places of matched ones, both divided by the number of matched tokens."""
    classes, present = torch.zeros_like(logits, dtype=torch.float32), targets.present.nonzero(as_tuple=True)
    token = match_tokens(logits, places, targets, extents)[present]
    image, count = present[0], max(len(token), 1)
    classes[image, token, targets.labels[present]] = 1
    focal = sigmoid_focal_loss(logits.float(), classes, FOCAL_ALPHA, reduction="sum") / count
    xy = (targets.xy / extents[:, None])[present]
    distance = F.l1_loss(places.float()[image, token], xy, reduction="sum") / count
    return {"token_class": focal, "token_place": distance}


def mil_term(scores: Tensor, labels: Tensor) -> Tensor:
    """Binary cross entropy of scores [N, K, C] summed over the candidates, a bag each (official code). labels: long [N]."""
    if not len(labels):
        return scores.sum()
    with torch.autocast(scores.device.type, enabled=False):
        bag = scores.float().sum(1).clamp(1e-6, 1 - 1e-6)
        return F.binary_cross_entropy(bag, F.one_hot(labels, bag.shape[1]).float())


def detector_terms(detection: Detection) -> dict[str, Tensor]:
    """The terms of proposals and, as means over all regions, of their classes and of the objects' boxes (1 - GIoU)."""
    count = max(len(detection.classes), 1)
    return detection.proposal_terms | {
        "roi_class": F.cross_entropy(detection.logits, detection.classes, reduction="sum") / count,
        "roi_box": generalized_box_iou_loss(detection.boxes, detection.true_boxes, reduction="sum") / count,
    }


def point_term(
    logits: Tensor,  # [R, m, m]
    rois: Tensor,  # [R, 4] pixels
    objects: Tensor,  # long [R], which of N each holds
    xy: Tensor,  # this and the others are `point_targets` of N
    target: Tensor,
    counts: Tensor,
) -> Tensor:
    """Cross entropy of mask logits read at labeled pixels (supp. Table 2, point).

    It is the mean over the pixels that lie within their region.
    """
    low, high = rois[:, None, :2], rois[:, None, 2:]
    # pixel centers are at integers
    place = (xy[objects] + 0.5 - low) / (high - low).clamp(min=1e-6)
    counts = counts[objects] & ((place >= 0) & (place <= 1)).all(-1)
    grid = (2 * place - 1)[:, None].clamp(-1, 1)
    logits = logits[:, None].float()
    read = F.grid_sample(logits, grid, padding_mode="border", align_corners=False)[:, 0, 0]
    target = target[objects].float()
    each = F.binary_cross_entropy_with_logits(read, target, reduction="none")
    return masked_mean(each, counts)


def mask_term(logits: Tensor, rois: Tensor, objects: Tensor, masks: Tensor, counts: Tensor) -> Tensor:
    """Cross entropy with pseudo masks [N, H, W] cut to the regions, mean over where they count (supp. Table 2, mask)."""
    size = logits.shape[-2:]
    boxes = torch.cat([objects[:, None].float(), rois], 1)
    target, weight = (roi_align(m[:, None].float(), boxes, size, aligned=True)[:, 0] for m in (masks, counts))
    each = F.binary_cross_entropy_with_logits(logits.float(), (target >= 0.5).float(), reduction="none")
    return masked_mean(each, weight > 0.5)
