"""SimFormer's objective on proposals: who answers for which class, and what the classes and masks should be.

    MaskFormer, official code; spec 2.3 to 2.5    match, class_loss, mask_loss
    official code; spec 2.6                       complement_loss
    MaskFormer, official code; spec 2.9           semantic_scores

Shapes as in `Outputs` and `Targets`: L layers, B images, N queries, K classes, T targets, h x w = H / 4 x W / 4 cells.
`found` is what `match` returns. A loss is the sum over the layers. All is computed in fp32, under autocast too: inputs
are raised first, and products of matrices are taken outside it.
"""

from collections.abc import Iterator

import torch
from torch import Tensor
from torch.nn.functional import interpolate, softplus
from torchvision.ops import sigmoid_focal_loss

from wsis.methods.simformer.config import MaskConfig, SimFormerConfig
from wsis.methods.simformer.targets import Targets
from wsis.ops.matching import assign


def focal(logits: Tensor, wanted: Tensor, cfg: MaskConfig) -> Tensor:
    """Mean focal loss (Lin et al., ICCV 2017) over the pixels of each row: [R, n] twice -> [R]; wanted is 0 or 1."""
    return sigmoid_focal_loss(logits, wanted, cfg.alpha, cfg.gamma).mean(1)


def dice(probability: Tensor, wanted: Tensor) -> Tensor:
    r""":math:`1 - (2 \sum p t + 1) / (\sum p + \sum t + 1)` of each row: [R, n] twice -> [R] (MaskFormer)."""
    common = (probability * wanted).sum(1)
    return 1 - (2 * common + 1) / (probability.sum(1) + wanted.sum(1) + 1)


def mask_costs(logits: Tensor, wanted: Tensor, cfg: MaskConfig) -> Tensor:
    """Weighted `focal` and `dice` of each query with each target: [..., N, n], [..., T, n] -> [..., N, T].

    The focal loss of a pixel is that of a 0 plus, where it is 1, a difference: one product of matrices, not two.
    """
    p = logits.sigmoid()
    zero = (1 - cfg.alpha) * p**cfg.gamma * softplus(logits)
    one = cfg.alpha * (1 - p) ** cfg.gamma * softplus(-logits)
    focal = ((one - zero) @ wanted.mT + zero.sum(-1, keepdim=True)) / logits.shape[-1]
    area = p.sum(-1)[..., None] + wanted.sum(-1)[..., None, :]
    return cfg.focal * focal + cfg.dice * (1 - (2 * p @ wanted.mT + 1) / (area + 1))


@torch.no_grad()
def match(logits: Tensor, masks: Tensor, targets: Targets, cfg: SimFormerConfig) -> Tensor:
    """The query of each target, long [L, B, T], -1 where it is not present; no query has two.

    The cost is minus the class's probability; for a target with a mask also `mask_costs` at stride 4, weighted by
    `label.mask_cost`, in its own column though the mask may vanish there. All layers and images are solved in one trip
    to the host.

    Raises:
        ConfigError, TrainingError: see `assign`.
    """
    layers, images, queries = logits.shape[:3]
    label = targets.labels[None, :, None].expand(layers, -1, queries, -1)
    cost = -logits.float().softmax(-1).gather(3, label)
    small = interpolate(targets.masks, masks.shape[-2:], mode="nearest").flatten(2)
    with torch.autocast(masks.device.type, enabled=False):
        each = (mask_costs(layer.float().flatten(2), small, cfg.mask) for layer in masks)
        of_masks = torch.stack(list(each))  # all at once would take many times the memory, and longer
    weight = torch.where(targets.has_mask, cfg.label.mask_cost, cfg.label.novel_mask_cost)
    cost = cost + weight[:, None] * of_masks
    present = targets.present.expand(layers, -1, -1)
    return assign(cost.flatten(0, 1), present.flatten(0, 1)).unflatten(0, (layers, images))


def class_loss(logits: Tensor, found: Tensor, targets: Targets, cfg: SimFormerConfig) -> Tensor:
    """Cross entropy of all queries, of which the unmatched should be no object, with less weight.

    The mean over the queries of the batch is by that weight.
    """
    layers, images, queries, outputs = logits.shape
    wanted = found.new_full((layers, images, queries + 1), outputs - 1)  # one more, for targets that are not
    place = torch.where(targets.present, found, queries)
    wanted = wanted.scatter(2, place, targets.labels.expand_as(found))[..., :queries]
    each = -logits.float().log_softmax(-1).gather(3, wanted[..., None])[..., 0]
    weight = torch.where(wanted == outputs - 1, cfg.label.no_object, 1.0)
    return ((weight * each).sum((1, 2)) / weight.sum((1, 2))).sum()


def drawn(masks: Tensor, found: Tensor, rows: Tensor, size: torch.Size) -> Iterator[Tensor]:
    """Layer by layer the mask logits of the queries that have the targets `rows` = b T + t: [R, *size], bilinear."""
    image = rows // found.shape[2]
    for layer, query in zip(masks.float(), found.flatten(1)[:, rows], strict=True):
        yield interpolate(layer[image, query][:, None], size, mode="bilinear", align_corners=False)[:, 0]


def mask_loss(masks: Tensor, found: Tensor, targets: Targets, cfg: SimFormerConfig) -> tuple[Tensor, Tensor]:
    """Focal and dice loss of the queries of targets with a mask, at the image's size, mean over these; unweighted.

    Several processes each take the mean of their own targets; the release takes that of all.
    """
    wanted = targets.masks.flatten(0, 1)[targets.masked].flatten(1)
    losses = masks.new_zeros(2, dtype=torch.float32)
    for logits in drawn(masks, found, targets.masked, targets.masks.shape[-2:]):
        rows = logits.flatten(1)
        pair = torch.stack([focal(rows, wanted, cfg.mask), dice(rows.sigmoid(), wanted)])
        losses = losses + pair.sum(1) / max(len(wanted), 1)
    return losses[0], losses[1]


def complement_loss(
    masks: Tensor, found: Tensor, targets: Targets, valid: Tensor, cfg: SimFormerConfig
) -> tuple[Tensor, Tensor]:
    """The largest logit of an image's novel queries should say which pixels its base masks leave: loss and `ignored`.

    valid: bool [B, H, W], False on padding, which should be 0. The logit `cfg.complement.ignore` joins each maximum:
    where it wins nothing is taught, so that pixels that are no class at all need not be of a novel one. Mean over the
    images with a novel class and a pixel that base masks leave; before `cfg.complement.weight`.
    ignored: fraction of these pixels where that logit wins, mean over the layers, no gradient.
    """
    images, count = targets.labels.shape
    loss, ignored = masks.new_zeros(2, dtype=torch.float32).unbind()
    if not len(targets.unmasked):
        return loss, ignored
    row = targets.unmasked // count
    left = valid & (targets.masks.amax(1) == 0)
    taught = torch.zeros_like(left[:, 0, 0]).index_fill(0, row, True) & left.flatten(1).any(1)
    wanted, learned = left.flatten(1).float(), left & taught[:, None, None]
    floor = torch.full(left.shape, cfg.complement.ignore, device=masks.device)
    for logits in drawn(masks, found, targets.unmasked, left.shape[1:]):
        place = row[:, None, None].expand_as(logits)
        union = floor.scatter_reduce(0, place, logits, "amax")
        rows = union.flatten(1)
        each = cfg.mask.focal * focal(rows, wanted, cfg.mask) + cfg.mask.dice * dice(rows.sigmoid(), wanted)
        loss = loss + (each * taught).sum() / (taught.sum() + 1e-5)
        ignored = ignored + (learned & (union.detach() <= floor)).sum() / learned.sum().clamp(min=1)
    return loss, ignored / len(masks)


def semantic_scores(logits: Tensor, masks: Tensor, size: tuple[int, int]) -> Tensor:
    """How much the queries of a layer say for each class at each pixel: [B, N, K + 1], [B, N, h, w] -> [B, K, *size].

    The sum over the queries of class probability times mask probability; not normalised over the classes.
    """
    with torch.autocast(masks.device.type, enabled=False):
        probability = interpolate(masks.float(), size, mode="bilinear", align_corners=False).sigmoid()
        return torch.einsum("bnk,bnhw->bkhw", logits.float().softmax(-1)[..., :-1], probability)
