"""From similarity to transition to scores: Sinkhorn scaling of a graph of tokens, and random walks on it.

    T = D S D, S = A + A^T         sinkhorn (Sinkhorn and Knopp, 1967; the symmetric form: Knight et al., 2014)
    T^k u                          walk (EXITS supp. Table a2)
    (1 - beta) (I - beta T)^-1 u   walk_limit (EXITS supp. eq. (a2))

Scaled until every row and every column sums to 1, similarity is the transition matrix T of a random walk that forgets
only slowly where it began: what reaches a token from a seed says how related the two are. No power and no inverse is
formed. All of it runs in float32 or float64, also under autocast, because softmaxed attention is too small for half
precision.
"""

import math
from typing import NamedTuple

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from wsis.core.errors import ConfigError

Graph = Float[Tensor, "B n n"]
Spread = Float[Tensor, "B n k"]
Tokens = Bool[Tensor, "B n"]

# The least similarity: Sinkhorn's scaling exists, and is unique, where every entry is positive.
EPSILON = 1e-12


class Transition(NamedTuple):
    """The transition matrix T = diag(scale) @ matrix @ diag(scale) in its factors; `matrix` is symmetric.

    scale: 0 at tokens that do not take part, whose rows and columns of T are 0.
    """

    matrix: Graph
    scale: Float[Tensor, "B n"]

    def apply(self, vectors: Spread) -> Spread:
        """T @ vectors. T is symmetric: this is one hop forward as well as backward."""
        scale = self.scale[..., None]
        return scale * _product(self.matrix, scale * vectors)

    def dense(self) -> Graph:
        """T itself, for figures and tests."""
        return self.scale[:, :, None] * self.matrix * self.scale[:, None]


def _product(matrix: Tensor, vectors: Tensor) -> Tensor:
    """matrix^T @ vectors in full precision. A CPU reads the matrix in order, several times as fast as matrix @ vectors."""
    with torch.autocast(matrix.device.type, enabled=False):
        return (vectors.mT @ matrix).mT


def sinkhorn(similarity: Graph, iterations: int, valid: Tokens | None = None) -> Transition:
    """Make the similarity symmetric, and scale rows and columns until each sums to 1.

    It is raised to at least 1e-12. valid: tokens that take part, by default all. Raises
    ConfigError for no iterations.
    """
    if iterations < 1:
        raise ConfigError(f"iterations={iterations}: use 1 or more; 20 are exact to 1e-6")
    similarity = similarity.to(torch.promote_types(similarity.dtype, torch.float32))
    matrix = (similarity + similarity.mT).clamp_min_(EPSILON)  # half of it is in the scale
    valid = torch.ones_like(matrix[:, 0]) if valid is None else valid.to(matrix.dtype)
    scale, tiny = valid, torch.finfo(matrix.dtype).tiny
    for _ in range(iterations):
        # Without the root the scale would swing between two solutions; tiny: of no token
        sums = _product(matrix, scale[..., None])[..., 0]
        scale = (scale / sums.clamp_min(tiny)).sqrt()
    return Transition(matrix, scale)


def walk(transition: Transition, start: Spread, hops: int) -> Spread:
    """T^hops @ start: where a walk from the distributions in the columns is after `hops` steps; sums over tokens stay."""
    return walk_each(transition, start, hops)[-1]


def walk_each(transition: Transition, start: Spread, hops: int) -> Float[Tensor, "s B n k"]:
    """All hops + 1 stages of `walk`, from the start on."""
    if hops < 0:
        raise ConfigError(f"hops={hops}: a walk has 0 hops or more")
    stages = [start.to(transition.matrix.dtype)]
    for _ in range(hops):
        stages.append(transition.apply(stages[-1]))
    return torch.stack(stages)


def walk_limit(transition: Transition, start: Spread, beta: float) -> Spread:
    r"""The walk that never ends and returns to its start with probability 1 - beta before each hop; sums over tokens stay.

    :math:`(1 - \beta)(I - \beta T)^{-1} u = (1 - \beta) \sum_k \beta^k T^k u`, the fixed point of :math:`y = \beta T y +
    (1 - \beta) u` (EXITS supp. eq. (a2)). Each iteration shrinks the error by beta: 12 reach float32's precision at beta =
    0.25. The columns of `start` are distributions. Raises ConfigError for a beta outside [0, 1).
    """
    if not 0 <= beta < 1:
        raise ConfigError(f"beta={beta}: the probability of another hop must be at least 0 and below 1")
    start = start.to(transition.matrix.dtype)
    iterations = math.ceil(math.log(torch.finfo(start.dtype).eps) / math.log(beta)) if beta else 0
    y = start
    for _ in range(iterations):
        y = start.lerp(transition.apply(y), beta)
    return y
