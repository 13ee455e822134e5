"""From similarity to transition to scores: random walks between all tokens of an image, or near cells of a grid.

    T = D S D, S = A + A^T         sinkhorn (Sinkhorn and Knopp, 1967; the symmetric form: Knight et al., 2014)
    T^k u                          walk (EXITS supp. Table a2; IRN; RIB; RETAB)
    (1 - beta) (I - beta T)^-1 u   walk_limit (EXITS supp. eq. (a2))
    T = diag(A 1)^-1 A             grid_transition (IRN, RETAB)

Scaled until every row and every column sums to 1, similarity is the transition matrix T of a random walk that forgets
only slowly where it began: what reaches a token from a seed says how related the two are. No power and no inverse is
formed. All of it runs in float32 or float64, also under autocast, because softmaxed attention is too small for half
precision.

On a grid each cell has an affinity to those nearer than a radius only. It is held as one map for each offset, so that time and
memory grow with the cells, not with their square.
"""

import math
from collections import deque
from collections.abc import Iterator
from functools import cache
from itertools import cycle, islice
from typing import NamedTuple

import torch
from jaxtyping import Bool, Float, Shaped
from torch import Tensor
from torch.nn.functional import pad

from wsis.core.errors import ConfigError

Graph = Float[Tensor, "B n n"]
Spread = Float[Tensor, "B n k"]
Tokens = Bool[Tensor, "B n"]
# Of each cell to that at each of the `offsets`; not read where that is outside the grid.
Affinity = Float[Tensor, "B o h w"]
Offset = tuple[int, int]  # (y, x)

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

    def hop(self, stage: Spread, hops: int) -> Iterator[Spread]:
        """What each of `hops` hops makes of a stage."""
        for _ in range(hops):
            yield (stage := self.apply(stage))


class GridTransition(NamedTuple):
    """The transition matrix T of a walk on a grid, whose rows sum to 1: a hop makes each cell's value a mean of near ones.

    radius: of the `offsets`. total: the sum of a cell's affinities, with 1 for itself. fixed: cells that keep their value.
    """

    affinity: Affinity
    radius: float
    total: Float[Tensor, "B 1 h w"]
    fixed: Bool[Tensor, "B h w"] | None

    def hop(self, stage: Float[Tensor, "B k h w"], hops: int) -> Iterator[Float[Tensor, "B k h w"]]:
        """What each of `hops` hops makes of a stage, valid until the next but one; without a gradient.

        Two buffers take turns: to cut the views of a small grid takes longer than to add them.
        """
        first, second = stage.clone(), torch.empty_like(stage)
        turns = [(a, b, _shares(self.affinity, self.radius, a, b)) for a, b in ((first, second), (second, first))]
        for source, target, shares in islice(cycle(turns), hops):
            target.copy_(source)
            for into, weight, values in shares:
                into.addcmul_(weight, values)
            target.div_(self.total)
            if self.fixed is not None:
                torch.where(self.fixed[:, None], source, target, out=target)
            yield target


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
        raise ConfigError(f"iterations={iterations}: use 1 or more; 20 are exact to 4e-6")
    similarity = similarity.to(torch.promote_types(similarity.dtype, torch.float32))
    matrix = (similarity + similarity.mT).clamp_min_(EPSILON)  # half of it is in the scale
    valid = torch.ones_like(matrix[:, 0]) if valid is None else valid.to(matrix.dtype)
    scale, tiny = valid, torch.finfo(matrix.dtype).tiny
    for _ in range(iterations):
        # Without the root the scale would swing between two solutions; tiny: of no token
        sums = _product(matrix, scale[..., None])[..., 0]
        scale = (scale / sums.clamp_min(tiny)).sqrt()
    return Transition(matrix, scale)


def walk(transition: Transition | GridTransition, start: Tensor, hops: int) -> Tensor:
    """T^hops @ start: where a walk from the distributions in the columns is after `hops` steps; sums over tokens stay.

    start: [B, n, k]; of a grid maps [B, k, h, w], of which each hop takes means.
    """
    return deque(_stages(transition, start, hops), maxlen=1)[0]


def walk_each(transition: Transition | GridTransition, start: Tensor, hops: int) -> Tensor:
    """All hops + 1 stages of `walk`, from the start on, stacked as the first dimension."""
    return torch.stack([stage.clone() for stage in _stages(transition, start, hops)])


def _stages(transition: Transition | GridTransition, start: Tensor, hops: int) -> Iterator[Tensor]:
    if hops < 0:
        raise ConfigError(f"hops={hops}: a walk has 0 hops or more")
    yield (start := start.to(transition[0].dtype))  # of the matrix, or of the affinities
    yield from transition.hop(start, hops)


def walk_limit(transition: Transition, start: Spread, beta: float) -> Spread:
    """The walk that never ends and returns to its start with probability 1 - beta before each hop; sums over tokens stay.

    (1 - beta) (I - beta T)^-1 u = (1 - beta) sum_k beta^k T^k u, the fixed point of y = beta T y + (1 - beta) u (EXITS
    supp. eq. (a2)). Each iteration shrinks the error by beta: 12 reach float32's precision at beta = 0.25. The columns of
    `start` are distributions. Raises ConfigError for a beta outside [0, 1).
    """
    if not 0 <= beta < 1:
        raise ConfigError(f"beta={beta}: the probability of another hop must be at least 0 and below 1")
    start = start.to(transition.matrix.dtype)
    iterations = math.ceil(math.log(torch.finfo(start.dtype).eps) / math.log(beta)) if beta else 0
    y = start
    for _ in range(iterations):
        y = start.lerp(transition.apply(y), beta)
    return y


@cache
def offsets(radius: float) -> tuple[Offset, ...]:
    """From a cell to those nearer than `radius`, one of each pair of opposite ones: those that follow it in raster order."""
    reach = math.ceil(radius)
    return tuple(
        (y, x) for y in range(reach) for x in range(1 - reach, reach) if (y, x) > (0, 0) and y**2 + x**2 < radius**2
    )


@cache
def path(offset: Offset) -> tuple[Offset, ...]:
    """The cells nearer than 1 to the straight line from a cell to that at `offset`, both ends included (IRN, official code)."""
    (y, x), step = offset, -1 if offset[1] < 0 else 1
    cells = ((a, b) for a in range(y + 1) for b in range(0, x + step, step))
    return tuple((a, b) for a, b in cells if (x * a - y * b) ** 2 < y**2 + x**2)


class Shifts:
    """Maps [..., h, w] as seen from each cell toward an offset of at most `radius` downwards and to both sides.

    fill: the value outside of the grid.
    """

    def __init__(self, maps: Tensor, radius: float, fill: float = 0) -> None:
        self.size, self.reach = maps.shape[-2:], math.ceil(radius) - 1
        self.padded = pad(maps, (self.reach, self.reach, 0, self.reach), value=fill)

    def __getitem__(self, offset: Offset) -> Tensor:
        (height, width), (y, x) = self.size, offset
        return self.padded[..., y : y + height, self.reach + x : self.reach + x + width]


def neighbors(maps: Shaped[Tensor, "*c h w"], radius: float, fill: float = 0) -> Iterator[Tensor]:
    """For each of the `offsets` the maps of the cells there, of the same shape; `fill` outside of the grid."""
    shifts = Shifts(maps, radius, fill)
    return (shifts[offset] for offset in offsets(radius))


def path_maximum(maps: Float[Tensor, "B h w"], radius: float) -> Affinity:
    """The highest value on the `path` from each cell to that at each of the `offsets`; values are at least 0."""
    shifts = Shifts(maps, radius)
    # The gradient of `amax` takes fewer operations than that of a chain of maxima.
    highest = [torch.stack([shifts[cell] for cell in path(offset)]).amax(0) for offset in offsets(radius)]
    return torch.stack(highest, 1)


def grid_transition(affinity: Affinity, radius: float, fixed: Bool[Tensor, "B h w"] | None = None) -> GridTransition:
    """The walk on a grid whose cells have symmetric affinities of at least 0 to near ones, and 1 to themselves."""
    affinity = affinity.to(torch.promote_types(affinity.dtype, torch.float32))
    ones = torch.ones_like(affinity[:, :1])
    total = next(GridTransition(affinity, radius, ones, None).hop(ones, 1))
    return GridTransition(affinity, radius, total, fixed)


def _shares(affinity: Affinity, radius: float, source: Tensor, target: Tensor) -> list[tuple[Tensor, Tensor, Tensor]]:
    """What a hop adds to the cells of `target`, as views (target, affinity, source): of each near cell affinity times value."""
    (height, width), shares = source.shape[-2:], []
    for (y, x), weight in zip(offsets(radius), affinity.split(1, 1), strict=True):
        here = (..., slice(max(height - y, 0)), slice(max(-x, 0), max(width - max(x, 0), 0)))
        there = (..., slice(y, None), slice(max(x, 0), max(width + min(x, 0), 0)))
        shares += [(target[here], weight[here], source[there]), (target[there], weight[here], source[here])]
    return shares
