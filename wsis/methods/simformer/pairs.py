"""What pairs of pixels teach: SimNet on base classes, and by SimNet the scores of pixels without a label (spec 2.7).

    official code           sample_mixed, pair_targets, similarity_loss, distillation_loss
    official code, mended   pixel_pair_losses: any number of pairs, padding teaches nothing, see `PairConfig`

B images, of which 2 p and 2 p + 1 are a pair; J pixels of each, by their index in the map of h w = n cells. Matrices
[B, J, J] have the pixels of an image as rows, those of its partner as columns: both orders of a pair. Nothing here
waits for the device, and all is computed in fp32.
"""

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn.functional import binary_cross_entropy_with_logits, normalize

from wsis.core.errors import ConfigError
from wsis.methods.simformer.config import PairConfig
from wsis.methods.simformer.model import Outputs
from wsis.methods.simformer.simnet import SimNet
from wsis.methods.simformer.targets import VALUES


def swap(rows: Tensor) -> Tensor:
    """The rows of each image's partner: [B, ...] -> [B, ...]."""
    return rows.unflatten(0, (-1, 2)).flip(1).flatten(0, 1)


def base_values(classes: int, novel: Tensor) -> Tensor:
    """Which values of a class map are base classes, bool [256]; novel: long, labels."""
    table = torch.zeros(VALUES, dtype=torch.bool, device=novel.device)
    table[1 : classes + 1] = True
    return table.index_fill_(0, novel + 1, False)


def regions(maps: Tensor, valid: Tensor, table: Tensor) -> tuple[Tensor, Tensor]:
    """Pixels of base classes, and those of the image that are not: class maps [B, ...] -> bool [B, ...] twice.

    valid: bool [B, ...], False on padding, which is neither. One look-up in `table` (`base_values`), however many classes.
    """
    # on a CPU several times as fast as table[maps]
    base = table.index_select(0, maps.flatten()).view_as(maps)
    return base & valid, ~base & valid


def sample_points(
    region: Tensor, count: int, valid: Tensor | None = None, generator: torch.Generator | None = None
) -> tuple[Tensor, Tensor]:
    """`count` different places of each row at random: of the region, then of what is valid, then of the rest.

    region, valid: bool [B, n]. Returns long [B, count], and whether each is in the region.

    Raises:
        ConfigError: fewer places than points.
    """
    if count > region.shape[1]:
        raise ConfigError(
            f"pairs.points={count} of a map of {region.shape[1]} cells; ask for fewer, or take larger crops"
        )
    rank = 4 * region.float() if valid is None else 4 * region.float() + 2 * valid.float()
    noise = torch.rand(region.shape, generator=generator, device=region.device)
    points = (rank + noise).topk(count, 1).indices
    return points, region.gather(1, points)


def sample_mixed(
    maps: Tensor, valid: Tensor, table: Tensor, cfg: PairConfig, generator: torch.Generator | None = None
) -> Tensor:
    """Pixels that make pairs of one class likely: long [B, J], none twice while there are J valid ones.

    maps: long [B, n]. The share `cfg.inside` is of one base class that both images of the pair show, drawn at random, or
    where they share none of all base classes; the others are of the rest of the image, whatever that shows.
    """
    base, _ = regions(maps, valid, table)
    shown = torch.zeros(len(maps), VALUES, dtype=torch.bool, device=maps.device)
    shown = shown.scatter_(1, torch.where(base, maps, 0), True) & table
    common = shown & swap(shown)
    noise = torch.rand(len(maps) // 2, VALUES, generator=generator, device=maps.device).repeat_interleave(2, 0)
    chosen = (common * (1 + noise)).argmax(1, keepdim=True)
    region = torch.where(common.any(1, keepdim=True), maps == chosen, base) & valid
    many = round(cfg.inside * cfg.points)
    first, _ = sample_points(region, many, valid, generator)
    left = valid.scatter(1, first, False)
    others, _ = sample_points(left & ~region, cfg.points - many, left, generator)
    return torch.cat([first, others], 1)


def pair_targets(values: Tensor, valid: Tensor, table: Tensor, labelled: str) -> tuple[Tensor, Tensor]:
    """Which pairs are of one class, and which have a target: bool [B, J, J] twice.

    values: long [B, J] of the class maps at the pixels. valid: bool [B, J], False on padding. labelled "either": one of the
    two has to be of a base class, then the other, of whatever class, is of the same or of another. So pixels of novel
    classes appear in pairs of two classes only; with "both" they appear in none.
    """
    base = table[values] & valid
    same = values[:, :, None] == swap(values)[:, None]
    first, second = base[:, :, None], swap(base)[:, None]
    known = first & second if labelled == "both" else first | second
    return same, known & valid[:, :, None] & swap(valid)[:, None]


def at_points(features: Tensor, points: Tensor) -> Tensor:
    """Features of pixels: [B, D, h, w], long [R B, J] with R rows of points for each image in turn -> [R B, J, D]."""
    index = points.unflatten(0, (len(features), -1)).flatten(1)
    found = features.flatten(2).gather(2, index[:, None].expand(-1, features.shape[1], -1))
    return found.mT.unflatten(1, (-1, points.shape[1])).flatten(0, 1)


def _mean(each: Tensor, counted: Tensor) -> Tensor:
    """Mean over the entries of a pair that count, 0 where there are none, then over all pairs: [B, J, J] -> scalar.

    The mean over pairs is what the release has, where every process holds one pair.
    """
    total, number = ((x * counted).view(len(x) // 2, -1).sum(1) for x in (each, torch.ones_like(each)))
    return (total / number.clamp_min(1)).mean()


def similarity_loss(logits: Tensor, same: Tensor, valid: Tensor, weight: Tensor) -> Tensor:
    """Cross entropy of SimNet's logits [B, J, J], weighted (`BalanceWindow`), over the pairs that have a target."""
    each = binary_cross_entropy_with_logits(logits, same.float(), weight, reduction="none")
    return _mean(each, valid)


def distillation_loss(teacher: Tensor, student: Tensor, form: str, threshold: float) -> Tensor:
    """How much each likeness of scores is to change, elementwise, both in [0, 1] (official code).

    ce: cross entropy, both within [.01, .99]. cce: only as far as the teacher is sure, in [-ln(2) / 2, 0] with the
    threshold 1/2. b: linear in both. At the threshold cce and b teach nothing.
    """
    if form == "ce":
        t, s = teacher.clamp(0.01, 0.99), student.clamp(0.01, 0.99)
        return -t * s.log() - (1 - t) * (1 - s).log()
    sure = teacher - threshold
    if form == "b":
        return -sure * student
    return -sure.relu() * (1 + student).log() - (-sure).relu() * (2 - student).log()


def student_scores(logits: Tensor, masks: Tensor, points: Tensor, novel: Tensor, scores: str) -> Tensor:
    """What all queries together say at some pixels: [B, N, K + 1], [B, N, h, w], [R B, J] -> [R B, J, classes].

    scores: "novel" or "all" classes. Only the masks' values at the points are multiplied.
    """
    probability = logits.float().softmax(-1)
    probability = probability[..., novel] if scores == "novel" else probability[..., :-1]
    seen = at_points(masks.float(), points).sigmoid()
    return seen @ probability.repeat_interleave(len(points) // len(masks), 0)


def likeness(a: Tensor, b: Tensor) -> Tensor:
    """Cosine of all pairs of vectors, 0 where it is negative: [B, J, C] twice -> [B, J, J]."""
    return (normalize(a, dim=-1, eps=1e-8) @ normalize(b, dim=-1, eps=1e-8).mT).relu()


def pixel_pair_losses(
    simnet: SimNet,
    outputs: Outputs,
    maps: Tensor,
    valid: Tensor,
    tags: Tensor,
    novel: Sequence[int] | Tensor,
    cfg: PairConfig,
    generator: torch.Generator | None = None,
) -> dict[str, Tensor]:
    """The terms similarity and distillation of the last layer, unweighted.

    maps: long [B, H, W] class maps, what is no base class is taken as unknown. valid: bool [B, H, W], False on padding.
    tags: bool [B, K]. novel: labels. generator: on the device of `maps`. Images 2 p and 2 p + 1 are a pair; with the mode
    self_same each image is one with itself, at other pixels. Distillation is of pairs that share a novel tag and have two
    pixels or more without a label in each image; 0, and not computed, where its weight is 0.

    Raises:
        ValueError: an odd number of images. ConfigError: see `sample_points`.
    """
    repeats = 2 if cfg.mode == "self_same" else 1
    if len(maps) * repeats % 2:
        raise ValueError(f"{len(maps)} images do not make pairs")
    step = maps.shape[-1] // outputs.pixels.shape[-1]
    maps, valid = (x[:, ::step, ::step].flatten(1).repeat_interleave(repeats, 0) for x in (maps, valid))
    labels = torch.as_tensor(novel, dtype=torch.long, device=maps.device)
    table = base_values(tags.shape[1], labels)
    with torch.autocast(maps.device.type, enabled=False):
        terms = {"similarity": _similarity(simnet, outputs, maps, valid, table, cfg, generator)}
        if cfg.distillation == 0:
            return terms | {"distillation": torch.zeros_like(terms["similarity"])}
        mine = tags.repeat_interleave(repeats, 0)[:, labels]
        shared = (mine & swap(mine)).any(1)
        _, unlabelled = regions(maps, valid, table)
        points, inside = sample_points(unlabelled, cfg.points, valid, generator)
        return terms | {"distillation": _distillation(simnet, outputs, points, inside, shared, labels, cfg)}


def _similarity(
    simnet: SimNet,
    outputs: Outputs,
    maps: Tensor,
    valid: Tensor,
    table: Tensor,
    cfg: PairConfig,
    generator: torch.Generator | None,
) -> Tensor:
    """SimNet on the classes of pixels; maps, valid: [B, n]."""
    points = sample_mixed(maps, valid, table, cfg, generator)
    seen = at_points(outputs.pixels.float(), points)
    if cfg.detach:
        seen = seen.detach()
    same, counted = pair_targets(maps.gather(1, points), valid.gather(1, points), table, cfg.labelled)
    return similarity_loss(simnet(seen, swap(seen)), same, counted, simnet.balance(same, counted))


def _distillation(
    simnet: SimNet, outputs: Outputs, points: Tensor, inside: Tensor, shared: Tensor, novel: Tensor, cfg: PairConfig
) -> Tensor:
    """Scores of pixels should be as alike as SimNet says they are; inside: bool [B, J]; shared: bool [B]."""
    seen = at_points(outputs.pixels.float(), points)
    teacher = simnet.teach(seen, swap(seen), cfg.teacher_norm)
    scores = student_scores(outputs.logits[-1], outputs.masks[-1], points, novel, cfg.scores)
    student = likeness(scores, swap(scores) if cfg.student == "cross" else scores)
    enough = inside.sum(1) >= 2
    taught = shared & enough & swap(enough)
    counted = inside[:, :, None] & swap(inside)[:, None] & taught[:, None, None]
    return _mean(distillation_loss(teacher, student, cfg.form, cfg.threshold), counted)
