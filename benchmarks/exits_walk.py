"""Cases of EXITS' graph: Sinkhorn scaling, the walk of three hops, its limit, and the scores of whole crops.

The plain versions form what the formulas name: T T T, the inverse of I - beta T, a matrix divided by its sums.
"""

import torch
from torch import Tensor

from benchmarks.measure import Case, Size
from wsis.core.config import changed
from wsis.methods.exits.config import FULL as CFG
from wsis.methods.exits.labels import BETA, ITERATIONS, Seeds, scores
from wsis.ops import random_walk as graph
from wsis.ops.random_walk import Transition

PATCH, HOPS = 16, 3
# One object per crop; at 512 px 1,024 tokens, as published.
FULL = [Size(pixels=512, batch=b, instances=1) for b in (1, 4, 16)]
QUICK = [Size(pixels=512, batch=b, instances=1) for b in (1, 4)]


def attention(size: Size, device: torch.device) -> Tensor:
    """Softmaxed attention over n tokens [B, n, n], seeded: a disc whose tokens attend to each other, and its ground."""
    generator = torch.Generator().manual_seed(0)
    side = size.pixels // PATCH
    query, key = torch.randn(2, size.batch, side**2, 32, generator=generator)
    object_ = 2.0 * (_distance(side) < 0.35).float() - 1
    logits = (query @ key.mT) / 32**0.5 + 0.75 * object_[:, None] * object_
    return logits.softmax(-1).to(device)


def _distance(side: int) -> Tensor:
    """From the middle of the crop, in sides: [n]."""
    place = (torch.arange(side) + 0.5) / side - 0.5
    return (place[:, None] ** 2 + place**2).sqrt().flatten()


def seeds(size: Size, device: torch.device) -> Seeds:
    """Four clicks on the disc of each crop; what is outside of its box is background."""
    side = size.pixels // PATCH
    middle, near = side // 2, round(0.2 * side)
    foreground = torch.zeros(side, side, dtype=torch.bool)
    for row, column in (
        (middle - near, middle),
        (middle, middle - near),
        (middle + near, middle),
        (middle, middle + near),
    ):
        foreground[row, column] = True
    inside = torch.zeros(side, side, dtype=torch.bool)
    inside[side // 8 : -side // 8, side // 8 : -side // 8] = True
    parts = (foreground, ~inside, inside, inside | ~inside)
    return Seeds(*(part.flatten().expand(size.batch, -1).to(device) for part in parts))


def _start(given: Seeds) -> Tensor:
    """Two columns: probability spread over the clicks, and over the background [B, n, 2]."""
    columns = torch.stack([given.foreground, given.background], -1).float()
    return columns / columns.sum(1, keepdim=True)


def _transition(size: Size, device: torch.device) -> tuple[Transition, Tensor, Tensor]:
    """T in its factors, T itself, and the two columns where the walk starts."""
    transition = graph.sinkhorn(attention(size, device), ITERATIONS)
    return transition, transition.dense(), _start(seeds(size, device))


def _similarity(size: Size, device: torch.device) -> tuple[Tensor]:
    similarity = attention(size, device)
    return ((similarity + similarity.mT) / 2,)


def _crops(size: Size, device: torch.device) -> tuple[Tensor, Seeds]:
    return attention(size, device), seeds(size, device)


def plain_sinkhorn(similarity: Tensor) -> Tensor:
    """Divide the matrix by the sums of its columns and rows in turn, then make it symmetric."""
    for _ in range(ITERATIONS):
        similarity = similarity / similarity.sum(1, keepdim=True)
        similarity = similarity / similarity.sum(2, keepdim=True)
    return (similarity + similarity.mT) / 2


def _inverse(transition: Tensor) -> Tensor:
    eye = torch.eye(transition.shape[-1], device=transition.device)
    return (1 - BETA) * torch.linalg.inv(eye - BETA * transition)


def _solved(transition: Tensor, start: Tensor) -> Tensor:
    eye = torch.eye(transition.shape[-1], device=transition.device)
    return (1 - BETA) * torch.linalg.solve(eye - BETA * transition, start)


def plain_scores(similarity: Tensor, given: Seeds) -> Tensor:
    """One crop after the other, all matrices formed."""
    rows = []
    for matrix, start in zip(similarity, _start(given), strict=True):
        transition = plain_sinkhorn((matrix + matrix.T)[None])[0]
        arrived = transition @ transition @ transition @ start
        rows.append(len(matrix) * (arrived[:, 0] - arrived[:, 1]))
    return torch.stack(rows)


def _densities(result: Transition | Tensor) -> tuple[Tensor]:
    """Entries of T times n, so that an even spread is 1 and the tolerance means something."""
    matrix = result.dense() if isinstance(result, Transition) else result
    return (matrix * matrix.shape[-1],)


def _scaled(result: Tensor) -> tuple[Tensor]:
    """Probabilities [B, n, k] times n."""
    return (result * result.shape[1],)


CASES = [
    Case(
        name="EXITS Sinkhorn",
        prepare=_similarity,
        fast=lambda matrix: graph.sinkhorn(matrix, ITERATIONS),
        plain=plain_sinkhorn,
        canonical=_densities,
    ),
    Case(
        name="EXITS three hops",
        prepare=_transition,
        fast=lambda transition, dense, start: graph.walk(transition, start, HOPS),
        plain=lambda transition, dense, start: dense @ dense @ dense @ start,
        canonical=_scaled,
    ),
    Case(
        name="EXITS limit, inverse",
        prepare=_transition,
        fast=lambda transition, dense, start: graph.walk_limit(transition, start, BETA),
        plain=lambda transition, dense, start: _inverse(dense) @ start,
        canonical=_scaled,
    ),
    Case(
        name="EXITS limit, solve",
        prepare=_transition,
        fast=lambda transition, dense, start: graph.walk_limit(transition, start, BETA),
        plain=lambda transition, dense, start: _solved(dense, start),
        canonical=_scaled,
    ),
    Case(
        name="EXITS scores",
        prepare=_crops,
        fast=lambda matrix, given: scores(matrix, given, changed(CFG.walk, hops=HOPS)),
        plain=plain_scores,
    ),
]
