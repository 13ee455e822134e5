"""SimFormer's objective: which query answers for which class, and what the classes, masks and pairs of pixels should be.

Shapes are those of `Outputs`, `Targets` and `PixelPairs`; `matched` is the result of `match`. The losses of proposals (of
MaskFormer, official code, but for the complement) are sums over the layers, those of pairs (official code) are of the last
one. All are unweighted but for the two parts of the complement, and in fp32 even under autocast.
"""

from collections.abc import Iterator

import torch
from torch import Tensor
from torch.nn.functional import binary_cross_entropy_with_logits, interpolate, normalize, softplus

from wsis.methods.simformer.config import LossConfig, SimFormerConfig
from wsis.methods.simformer.labels import Targets
from wsis.methods.simformer.model import Outputs
from wsis.methods.simformer.pairs import at_points, swap
from wsis.methods.simformer.simnet import Comparison
from wsis.ops.losses import FOCAL_ALPHA, dice, focal
from wsis.ops.matching import assign

QUERIES_AT_ONCE = 25  # whose costs are computed together, for the sake of memory and caches
UNSURE = 0.5  # the similarity from which nothing is learned (official code)


Terms = dict[str, Tensor]


def objective(outputs: Outputs, targets: Targets, cfg: SimFormerConfig) -> Terms:
    """The terms, their weighted sum `total`, and `ignored` of `complement_loss`."""
    w, masks, compared = cfg.loss, outputs.masks, outputs.comparison
    matched = match(outputs.logits, masks, targets, w)
    terms = {"label": class_loss(outputs.logits, matched, targets, w)}
    terms["focal"], terms["dice"] = mask_loss(masks, matched, targets)
    total = terms["label"] + w.focal * terms["focal"] + w.dice * terms["dice"]
    if cfg.unmasked and w.complement:
        learned = complement_loss(masks, matched, targets, w)
        terms["complement"], terms["ignored"] = learned
        total = total + w.complement * terms["complement"]
    if compared is not None:
        terms["similarity"] = similarity_loss(compared)
        terms["distillation"] = distillation_loss(outputs, compared)
        total = total + w.similarity * terms["similarity"]
        total = total + w.distillation * terms["distillation"]
    return {**terms, "total": total}


def mask_costs(logits: Tensor, target: Tensor, cfg: LossConfig) -> Tensor:
    """Weighted `focal` and `dice` of all queries with all targets: [..., N, n], [..., T, n] -> [..., N, T].

    By products and in place, so that no gradient flows.
    """
    if logits.shape[-2] > QUERIES_AT_ONCE:
        return torch.cat([mask_costs(part, target, cfg) for part in logits.split(QUERIES_AT_ONCE, -2)], -2)
    p, cost, odds = logits.sigmoid(), softplus(logits), (1 - FOCAL_ALPHA) / FOCAL_ALPHA
    zero = p.square().mul_(cost)
    all_zero = odds * zero.sum(-1, keepdim=True)
    one = (1 - p).square_().mul_(cost.sub_(logits))  # softplus(-x) = softplus(x) - x
    focal_cost = FOCAL_ALPHA / logits.shape[-1] * (one.sub_(zero, alpha=odds) @ target.mT + all_zero)
    area = p.sum(-1)[..., None] + target.sum(-1)[..., None, :]
    return cfg.focal * focal_cost + cfg.dice * (1 - (2 * (p @ target.mT) + 1) / (area + 1))


@torch.no_grad()
def match(logits: Tensor, masks: Tensor, targets: Targets, weights: LossConfig) -> Tensor:
    """The query of each target, long [L, B, T], -1 where there is none; no query has two.

    The cost is minus the probability of the class, plus the weighted `mask_costs` of known
    masks at stride 4, also of one that vanishes there. Errors as of `assign`.
    """
    labels = targets.labels[:, None].expand(*logits.shape[:3], -1)
    small = interpolate(targets.masks, masks.shape[-2:], mode="nearest").flatten(2)
    with torch.autocast(masks.device.type, enabled=False):
        # Layer by layer, since all at once would take many times the memory, and longer.
        rows = [mask_costs(layer.float().flatten(2), small, weights) for layer in masks]
    known = (weights.matching * targets.has_mask)[:, None]
    probability = logits.float().softmax(-1).gather(3, labels)
    cost = known * torch.stack(rows) - probability
    present = targets.present.expand(len(logits), -1, -1)
    return assign(cost.flatten(0, 1), present.flatten(0, 1)).view_as(present)


def class_loss(logits: Tensor, matched: Tensor, targets: Targets, cfg: LossConfig) -> Tensor:
    """Weighted mean of the cross entropy of all queries; the unmatched ones should be no object (`cfg.no_object`)."""
    *sizes, queries, outputs = logits.shape
    target = matched.new_full((*sizes, queries + 1), outputs - 1)  # one more, for targets that are not present
    place = torch.where(targets.present, matched, queries)
    target = target.scatter(2, place, targets.labels.expand_as(matched))[..., :queries]
    each = -logits.float().log_softmax(-1).gather(3, target[..., None])[..., 0]
    weight = torch.where(target == outputs - 1, cfg.no_object, 1.0)
    return ((weight * each).sum((1, 2)) / weight.sum((1, 2))).sum()


def matched_masks(masks: Tensor, matched: Tensor, rows: Tensor, size: torch.Size) -> Iterator[Tensor]:
    """Layer by layer the mask logits of the queries of the targets `rows` = b T + t, enlarged: [R, *size]."""
    image = rows // matched.shape[2]
    for layer, query in zip(masks.float(), matched.flatten(1)[:, rows], strict=True):
        yield interpolate(layer[image, query][:, None], size, mode="bilinear", align_corners=False)[:, 0]


def mask_loss(masks: Tensor, matched: Tensor, targets: Targets) -> tuple[Tensor, Tensor]:
    """Focal and dice loss at the image's size, means over the targets with a mask; the release counts all processes'."""
    target = targets.masks.flatten(0, 1)[targets.masked].flatten(1)
    losses = masks.new_zeros(2, dtype=torch.float32)
    for logits in matched_masks(masks, matched, targets.masked, targets.masks.shape[-2:]):
        rows = logits.flatten(1)
        pair = torch.stack([focal(rows, target), dice(rows.sigmoid(), target)])
        losses = losses + pair.sum(1) / max(len(target), 1)
    return losses[0], losses[1]


def complement_loss(
    masks: Tensor,  # [L, B, N, h, w]
    matched: Tensor,
    targets: Targets,
    cfg: LossConfig,
) -> tuple[Tensor, Tensor]:
    """The largest logit of the novel queries should say which pixels base masks leave.

    Nothing is learned where `cfg.complement_floor` is larger: pixels may be of no class.
    The loss is a mean over images with a novel class and a pixel that base masks leave;
    `ignored` is the fraction of these pixels where the floor wins, mean over the layers.
    """
    loss, ignored = masks.new_zeros(2, dtype=torch.float32).unbind()
    if not len(targets.unmasked):
        return loss, ignored
    image = targets.unmasked // targets.labels.shape[1]
    target = targets.left.flatten(1).float()
    counted = torch.zeros_like(target[:, 0]).index_fill(0, image, 1) * target.amax(1)
    pixels = targets.left & counted.bool()[:, None, None]
    floor = torch.full(pixels.shape, cfg.complement_floor, device=masks.device)
    for logits in matched_masks(masks, matched, targets.unmasked, pixels.shape[1:]):
        index = image[:, None, None].expand_as(logits)
        union = floor.scatter_reduce(0, index, logits, "amax")
        rows = union.flatten(1)
        each = cfg.focal * focal(rows, target) + cfg.dice * dice(rows.sigmoid(), target)
        loss = loss + (each * counted).sum() / (counted.sum() + 1e-5)
        unlearned = (pixels & (union.detach() <= floor)).sum()
        ignored = ignored + unlearned / pixels.sum().clamp(min=1)
    return loss, ignored / len(masks)


def similarity_loss(comparison: Comparison) -> Tensor:
    """Balanced cross entropy of SimNet's logits over the pairs that have a target."""
    pairs, logits, weights, _ = comparison
    target = pairs.same.float()
    each = binary_cross_entropy_with_logits(logits, target, weights, reduction="none")
    return _mean(each, pairs.counted)


def distillation_loss(outputs: Outputs, comparison: Comparison) -> Tensor:
    """Scores of unlabeled pixels should be as similar as SimNet says; 0 where none are."""
    pairs, logits, _, teacher = comparison
    if teacher is None or pairs.unlabeled is None or pairs.distilled is None:
        return logits.new_zeros(())
    with torch.autocast(teacher.device.type, enabled=False):
        proposals = outputs.logits[-1], outputs.masks[-1]
        scores = student_scores(*proposals, pairs.unlabeled, pairs.novel)
        student = cosine_similarity(scores, swap(scores))
        return _mean(distill(teacher, student), pairs.distilled)


def distill(teacher: Tensor, student: Tensor) -> Tensor:
    """Cross entropy of similarities in [0, 1], by how sure the teacher is."""
    confidence = teacher - UNSURE
    attract, repel = confidence.relu(), (-confidence).relu()
    return -attract * (1 + student).log() - repel * (2 - student).log()


def student_scores(logits: Tensor, masks: Tensor, points: Tensor, novel: Tensor) -> Tensor:
    """`semantic_scores` of novel classes at some pixels.

    [B, N, K + 1], [B, N, h, w], [B, J] -> [B, J, classes]
    """
    probability = logits.float().softmax(-1)[..., novel]
    return at_points(masks.float(), points).sigmoid() @ probability


def cosine_similarity(a: Tensor, b: Tensor) -> Tensor:
    """The cosine of all pairs of vectors, 0 where it is negative: [B, J, C] twice -> [B, J, J]."""
    return (normalize(a, dim=-1, eps=1e-8) @ normalize(b, dim=-1, eps=1e-8).mT).relu()


def _mean(each: Tensor, counted: Tensor) -> Tensor:
    """Mean over the entries of two images that count, 0 where there are none, then over all pairs: [B, J, J] -> scalar."""
    total, number = ((x * counted).view(len(x) // 2, -1).sum(1) for x in (each, torch.ones_like(each)))
    return (total / number.clamp_min(1)).mean()
