"""Cases of the walk on a grid (IRN, RIB, RETAB): affinities by path, and 2^8 hops, of square grids of so many cells a side.

The plain versions form what the formulas name: the maximum of every path, and the matrix of all pairs of cells.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from benchmarks.measure import Case, Size
from wsis.ops.random_walk import GridTransition, grid_transition, offsets, path, path_maximum, walk

RADIUS, POWER, HOPS, CLASSES = 5, 10, 256, 2


@dataclass(frozen=True, kw_only=True)
class Grid(Size):
    """A grid of `pixels` cells a side."""

    @property
    def work(self) -> int:
        """That of the matrix of all pairs."""
        return self.pixels**4


SIZES = [Grid(pixels=side, batch=1, instances=1) for side in (64, 128, 256)]


def boundary(size: Size, device: torch.device) -> tuple[Tensor]:
    """A ring of boundary in noise, [1, h, w] in [0, 1]."""
    generator = torch.Generator().manual_seed(0)
    place = (torch.arange(size.pixels) + 0.5) / size.pixels - 0.5
    distance = (place[:, None] ** 2 + place**2).sqrt()
    ring = (1 - (distance - 0.3).abs() * size.pixels / 2).clamp(0, 0.9)
    noise = 0.05 * torch.rand(size.pixels, size.pixels, generator=generator)
    return ((ring + noise)[None].to(device),)


def _walk(size: Size, device: torch.device) -> tuple[GridTransition, Tensor]:
    (edges,) = boundary(size, device)
    start = torch.zeros(1, CLASSES, size.pixels, size.pixels, device=device)
    middle = size.pixels // 2
    start[:, 0, middle - 4 : middle + 4, middle - 4 : middle + 4] = 1
    start[:, 1, :8] = 1
    return grid_transition((1 - path_maximum(edges, RADIUS)) ** POWER, RADIUS), start


def plain_paths(edges: Tensor) -> Tensor:
    """The cells of all paths side by side, for one offset after the other."""
    height, width = edges.shape[-2:]
    maps = []
    for offset in offsets(RADIUS):
        cells = torch.tensor(path(offset), device=edges.device)
        y = (torch.arange(height, device=edges.device)[:, None, None] + cells[:, 0]).clamp_max(height)
        x = (torch.arange(width, device=edges.device)[:, None] + cells[:, 1]).clamp(-1, width) + 1
        framed = torch.nn.functional.pad(edges[0], (1, 1, 0, 1))
        maps.append(framed[y, x].amax(-1))
    return torch.stack(maps)[None]


def dense(transition: GridTransition) -> Tensor:
    """The transition matrix [B, n, n] itself, its cells in raster order."""
    batch, _, height, width = transition.affinity.shape
    cells = torch.eye(height * width, dtype=transition.affinity.dtype, device=transition.affinity.device)
    cells = cells.unflatten(1, (height, width)).expand(batch, -1, -1, -1)
    return walk(transition, cells, 1).flatten(2).mT


def plain_walk(transition: GridTransition, start: Tensor) -> Tensor:
    """The dense matrix, applied 2^8 times; from the right, for which a CPU reads it in order."""
    transposed, values = dense(transition)[0].T.contiguous(), start[0].flatten(1)
    for _ in range(HOPS):
        values = values @ transposed
    return values.view_as(start)


def _tenths(scores: Tensor) -> tuple[Tensor]:
    """Scores in [0, 1] that 2^8 roundings separate agree to 1e-5."""
    return (scores / 10,)


CASES = [
    Case(name="walk: paths", prepare=boundary, fast=lambda edges: path_maximum(edges, RADIUS), plain=plain_paths),
    Case(
        name="walk: 256 hops",
        prepare=_walk,
        fast=lambda transition, start: walk(transition, start, HOPS),
        plain=plain_walk,
        canonical=_tenths,
    ),
]
