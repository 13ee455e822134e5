"""Cases of SimFormer: regions by look-up, scores at sampled pixels, SimNet in two halves, costs of masks, the focal loss.

The plain versions form what the formulas name: a mask per class, scores at all pixels, all pairs of embeddings side by
side, the focal loss of ones and of zeros. The instances of a size are what a case has many of: classes, pixels, targets.
"""

from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor
from torch.nn.functional import logsigmoid
from torchvision.ops import sigmoid_focal_loss

from benchmarks.measure import Case, Size
from wsis.methods.simformer.config import FULL as CFG
from wsis.methods.simformer.config import LossConfig
from wsis.methods.simformer.objective import mask_costs, student_scores
from wsis.methods.simformer.pairs import base_values, regions
from wsis.methods.simformer.simnet import SimNet
from wsis.ops.losses import FOCAL_ALPHA, focal

STRIDE, CLASSES, NOVEL = 4, 171, 43
REGIONS = [Size(pixels=p, batch=8, instances=NOVEL) for p in (160, 640)]
PAIRED = [Size(pixels=640, batch=2, instances=j) for j in (50, 100, 150)]
COSTS = [Size(pixels=640, batch=2, instances=t) for t in (5, 20)]


def _maps(size: Size, device: torch.device) -> tuple[Tensor, Tensor, Tensor]:
    """Class maps in patches, what is not padding, and which values are base classes."""
    generator = torch.Generator().manual_seed(0)
    side = size.pixels // 16
    maps = torch.randint(1, CLASSES + 1, (size.batch, side, side), generator=generator)
    maps = maps.repeat_interleave(16, 1).repeat_interleave(16, 2)
    novel = torch.randperm(CLASSES, generator=generator)[: size.instances]
    maps[torch.isin(maps, novel + 1)] = 255
    valid = torch.ones_like(maps, dtype=torch.bool)
    valid[:, -side:] = False
    return maps.to(device), valid.to(device), base_values(CLASSES, novel).to(device)


def plain_regions(maps: Tensor, valid: Tensor, table: Tensor) -> tuple[Tensor, Tensor]:
    """One comparison per value that is no base class."""
    rest = torch.zeros_like(valid)
    for value in (~table).nonzero()[:, 0].tolist():
        if value <= CLASSES or value == 255:
            rest |= maps == value
    return ~rest & valid, rest & valid


def _proposals(size: Size, device: torch.device) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Logits of classes and masks, some pixels, and the novel classes."""
    generator = torch.Generator().manual_seed(0)
    side, queries = size.pixels // STRIDE, CFG.decoder.queries
    logits = torch.randn(size.batch, queries, CLASSES + 1, generator=generator)
    masks = torch.randn(size.batch, queries, side, side, generator=generator)
    points = torch.randint(side**2, (size.batch, size.instances), generator=generator)
    novel = torch.randperm(CLASSES, generator=generator)[:NOVEL]
    return logits.to(device), masks.to(device), points.to(device), novel.to(device)


def plain_scores(logits: Tensor, masks: Tensor, points: Tensor, novel: Tensor) -> Tensor:
    """Scores of all pixels, of which some are taken: [B, J, classes]."""
    probability = logits.softmax(-1)[..., novel]
    scores = torch.einsum("bnc,bnhw->bchw", probability, masks.sigmoid()).flatten(2)
    return scores.gather(2, points[:, None].expand(-1, scores.shape[1], -1)).mT


def _pairs(size: Size, device: torch.device, training: bool) -> tuple[SimNet, Tensor, Tensor]:
    """SimNet, and the embeddings of as many pixels as `size.instances` in both images."""
    generator = torch.Generator().manual_seed(0)
    torch.manual_seed(0)
    network = SimNet(CFG.decoder.width).train(training)
    a, b = torch.randn(2, size.batch, size.instances, CFG.decoder.width, generator=generator)
    return network.to(device), a.to(device), b.to(device)


def plain_simnet(network: SimNet, a: Tensor, b: Tensor) -> Tensor:
    """The same network on embeddings side by side [P, J, J, 2 D], module by module: logits [P, J, J]."""
    count = a.shape[1]
    pairs = torch.cat([a[:, :, None].expand(-1, -1, count, -1), b[:, None].expand(-1, count, -1, -1)], -1)
    shape, pairs = pairs.shape[:3], pairs.flatten(0, 2)
    for block in network.blocks:
        inner = block.first_norm(block.first(pairs)).relu()
        inner = block.second_norm(block.second(inner)).relu()
        pairs = inner + (pairs if block.shortcut is None else block.shortcut(pairs).relu())
    different, same = network.head(pairs).unbind(-1)
    return (same - different).view(shape)


def _step(network: SimNet, a: Tensor, b: Tensor, plain: bool) -> Tensor:
    """Forward and backward: the probabilities."""
    network.zero_grad()
    logits = plain_simnet(network, a, b) if plain else network(a, b)
    logits.square().mean().backward()
    return logits.detach().sigmoid()


@torch.no_grad()
def _plain_teacher(network: SimNet, a: Tensor, b: Tensor) -> Tensor:
    return plain_simnet(network, a, b).sigmoid()


def _masks(size: Size, device: torch.device) -> tuple[Tensor, Tensor]:
    """Mask logits of all queries and masks of the targets: [B, N, n], [B, T, n]."""
    generator = torch.Generator().manual_seed(0)
    cells = (size.pixels // STRIDE) ** 2
    logits = torch.randn(size.batch, CFG.decoder.queries, cells, generator=generator)
    wanted = torch.rand(size.batch, size.instances, cells, generator=generator) < 0.1
    return logits.to(device), wanted.float().to(device)


def plain_costs(logits: Tensor, wanted: Tensor, cfg: LossConfig) -> Tensor:
    """Image by image, the focal loss of ones and of zeros by a product each."""
    return torch.stack([_plain_cost(x, t, cfg) for x, t in zip(logits, wanted, strict=True)])


def _plain_cost(logits: Tensor, wanted: Tensor, cfg: LossConfig) -> Tensor:
    p = logits.sigmoid()
    one = -FOCAL_ALPHA * (1 - p) ** 2 * logsigmoid(logits)
    zero = -(1 - FOCAL_ALPHA) * p**2 * logsigmoid(-logits)
    focal = (one @ wanted.T + zero @ (1 - wanted).T) / logits.shape[1]
    dice = 1 - (2 * p @ wanted.T + 1) / (p.sum(1)[:, None] + wanted.sum(1) + 1)
    return cfg.focal * focal + cfg.dice * dice


def _rows(size: Size, device: torch.device) -> tuple[Tensor, Tensor]:
    """Logits and targets of masks at the size of the image: [R, n] twice."""
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(size.instances, size.pixels**2, generator=generator)
    wanted = torch.rand(size.instances, size.pixels**2, generator=generator) < 0.1
    return logits.to(device).requires_grad_(), wanted.float().to(device)


def _focal_step(logits: Tensor, wanted: Tensor, loss: Callable[[Tensor, Tensor], Tensor]) -> tuple[Tensor, Tensor]:
    """The losses, and their gradient as a fraction of its largest value."""
    each = loss(logits, wanted)
    (gradient,) = torch.autograd.grad(each.sum(), logits)
    return each.detach(), gradient / gradient.abs().max()


def plain_focal(logits: Tensor, wanted: Tensor) -> Tensor:
    """The formula as it stands, with torch's own derivative."""
    return sigmoid_focal_loss(logits, wanted, FOCAL_ALPHA, 2).mean(1)


REGION_CASES = [
    Case(name="SimFormer regions", prepare=_maps, fast=regions, plain=plain_regions, canonical=lambda result: result)
]
PAIR_CASES = [
    Case(name="SimFormer scores", prepare=_proposals, fast=student_scores, plain=plain_scores),
    Case(
        name="SimNet teacher",
        prepare=partial(_pairs, training=False),
        fast=lambda network, a, b: network.teach(a, b),
        plain=_plain_teacher,
    ),
    Case(
        name="SimNet training",
        prepare=partial(_pairs, training=True),
        fast=partial(_step, plain=False),
        plain=partial(_step, plain=True),
    ),
]
COST_CASES = [
    Case(
        name="SimFormer mask costs",
        prepare=_masks,
        fast=lambda logits, wanted: mask_costs(logits, wanted, CFG.loss),
        plain=lambda logits, wanted: plain_costs(logits, wanted, CFG.loss),
    ),
    Case(
        name="SimFormer focal loss",
        prepare=_rows,
        fast=partial(_focal_step, loss=focal),
        plain=partial(_focal_step, loss=plain_focal),
        canonical=lambda result: result,
    ),
]
