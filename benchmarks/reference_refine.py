"""BESTIE's labels, losses and decoding as plain loops over images, classes, components and regions.

Written from the formulas to be obviously right, not fast: what the batched versions have to equal.
"""

import math

import torch
from scipy import ndimage
from torch import Tensor

from wsis.core.types import Points
from wsis.methods.bestie.config import BestieConfig
from wsis.methods.bestie.model import Outputs
from wsis.methods.bestie.objective import Targets


def center_map(points: Points, shape: torch.Size, cfg: BestieConfig) -> Tensor:
    """A Gaussian at each point, in the channel of its class."""
    maps = torch.zeros(shape[0], cfg.classes, *shape[1:], device=points.xy.device)
    for place, image, label in zip(points.centers.long(), points.image.tolist(), points.labels.tolist(), strict=True):
        _paint(maps[image, label], place, cfg.sigma)
    return maps


def pseudo(classes: Tensor, points: Points, tags: Tensor, cfg: BestieConfig) -> tuple[Tensor, Tensor, Tensor]:
    """Center, offset and weight of the components that hold one cue of their class."""
    center = torch.zeros(len(classes), cfg.classes, *classes.shape[1:], device=classes.device)
    offset, weight = torch.zeros_like(center[:, :2]), torch.zeros_like(center[:, :1])
    grid, (y, x) = _grid(classes), points.centers.round().long().unbind(1)
    for b, c, component in _components(classes, tags, cfg):
        candidates = (points.image == b) & (points.labels == c) & (points.scores > cfg.cues.threshold)
        if component[y[candidates], x[candidates]].sum() != 1:
            continue
        place = _centroid(component)
        weight[b, 0][component] = 1
        offset[b][:, component] = (place[:, None] - grid[:, component]).float()
        _paint(center[b, c], place, cfg.sigma)
    return center, offset, weight


def weighted_losses(outputs: Outputs, targets: Targets) -> tuple[Tensor, Tensor]:
    """The squared error of centers and the absolute one of offsets, over the pixels with a weight."""
    count = (targets.weight > 0).sum()
    center = (targets.weight * (outputs.center - targets.center).square()).sum() / count
    return center, (targets.weight * (outputs.offset - targets.offset).abs()).sum() / count


def refine(outputs: Outputs, classes: Tensor, tags: Tensor, cfg: BestieConfig) -> tuple[Tensor, Tensor, Tensor]:
    """Targets from the network's own maps: center, offset and weight, shaped as `objective.Targets`."""
    probability = outputs.semantic.softmax(1)
    probability[:, 1:] *= tags[:, :, None, None]
    center, offset = torch.zeros_like(outputs.center), torch.zeros_like(outputs.offset)
    weight = torch.zeros_like(offset[:, :1])
    grid = _grid(classes)
    for b, c, component in _components(classes, tags, cfg):
        peaks, clusters, heat = _centers(outputs, b, c, component, cfg.refine.threshold, cfg)
        positions = torch.cat((peaks, clusters))
        if not 0 < len(positions) <= cfg.refine.max_instances:
            continue
        for region in _group(outputs.offset[b], grid, component, positions):
            if not region.any():
                continue
            place, certainty = _highest(heat, region)
            score = probability[b, c + 1][region].double().mean().float()
            if certainty < cfg.refine.threshold:
                place = _centroid(component)
            else:
                score = certainty * score
            weight[b, 0][region] = score.clamp(0, 1)
            offset[b][:, region] = (place[:, None] - grid[:, region]).float()
            _paint(center[b, c], place, cfg.sigma)
    return center, offset, weight


def decode(outputs: Outputs, cfg: BestieConfig) -> tuple[Tensor, Tensor, Tensor]:
    """Instances of a batch: ids [B, H, W], labels [K] and scores [K], numbered as they are found."""
    probability = outputs.semantic.softmax(1)
    classes = probability.argmax(1)
    ids, grid = torch.zeros_like(classes), _grid(classes)
    labels: list[int] = []
    scores: list[Tensor] = []
    everything = torch.ones(len(classes), cfg.classes, dtype=torch.bool)
    for b, c, component in _components(classes, everything, cfg):
        peaks, clusters, heat = _centers(outputs, b, c, component, cfg.center_threshold, cfg)
        positions = torch.cat((peaks, clusters))
        lone = len(positions) == 0
        regions = component[None] if lone else _group(outputs.offset[b], grid, component, positions)
        for i, region in enumerate(regions):
            if not region.any():
                continue
            certain = probability[b, c + 1][region].double().mean().float()
            clustered = not lone and i >= len(peaks)
            score = certain * certain if clustered else _highest(heat, region)[1] * certain
            labels.append(c)
            scores.append(score)
            ids[b][region] = len(labels)
    return ids, torch.tensor(labels), torch.stack(scores) if scores else torch.zeros(0)


def _grid(classes: Tensor) -> Tensor:
    rows, columns = (torch.arange(s, device=classes.device) for s in classes.shape[1:])
    return torch.stack(torch.meshgrid(rows, columns, indexing="ij"))


def _components(classes: Tensor, tags: Tensor, cfg: BestieConfig):
    """(image, label, mask) of every large enough component of a tagged class."""
    for b in range(len(classes)):
        for c in tags[b].nonzero()[:, 0].tolist():
            labels, count = ndimage.label((classes[b] == c + 1).cpu().numpy(), [[1, 1, 1]] * 3)
            for k in range(1, count + 1):
                mask = torch.from_numpy(labels == k).to(classes.device)
                if mask.sum() >= cfg.min_area:
                    yield b, c, mask


def _centers(
    outputs: Outputs, b: int, c: int, component: Tensor, threshold: float, cfg: BestieConfig
) -> tuple[Tensor, Tensor, Tensor]:
    """Peaks [K, 2], clustered centers [M, 2] that join them, and the heat with 1 at the latter."""
    heat = outputs.center[b, c]
    masked = torch.where(component & (heat > threshold), heat, -1.0)
    pooled = torch.nn.functional.max_pool2d(masked[None, None], cfg.center_kernel, 1, cfg.center_kernel // 2)[0, 0]
    peaks = ((masked == pooled) & (masked > 0)).nonzero()
    near = component & (outputs.offset[b].norm(dim=0) < cfg.cluster.threshold)
    spots, count = ndimage.label(near.cpu().numpy())
    joined = []
    for k in range(1, count + 1):
        y, x = (spots == k).nonzero()
        if abs(len(y) - cfg.cluster.area) >= cfg.cluster.tolerance:
            continue
        place = torch.tensor([math.trunc(y.mean()), math.trunc(x.mean())], device=heat.device)
        apart = (peaks - place).float().norm(dim=1) > cfg.cluster.min_distance
        if component[tuple(place)] and heat[tuple(place)] > cfg.cluster.min_heat and apart.all():
            joined.append(place)
    clusters = torch.stack(joined) if joined else peaks[:0]
    heat = heat.clone()
    heat[clusters[:, 0], clusters[:, 1]] = 1
    return peaks, clusters, heat


def _group(offset: Tensor, grid: Tensor, component: Tensor, positions: Tensor) -> Tensor:
    """One mask per position: the pixels whose vote is nearest to it, bool [K, H, W]."""
    votes = offset + grid
    square = (votes - positions[:, :, None, None]).square().sum(1)
    return (square.argmin(0) == torch.arange(len(positions), device=grid.device)[:, None, None]) & component


def _highest(heat: Tensor, region: Tensor) -> tuple[Tensor, Tensor]:
    """Place (y, x) and value of the first maximum of `heat` in `region`."""
    values = heat[region]
    return region.nonzero()[values == values.max()][0], values.max()


def _centroid(mask: Tensor) -> Tensor:
    return mask.nonzero().double().mean(0).trunc().long()


def _paint(canvas: Tensor, place: Tensor, sigma: float) -> None:
    """One Gaussian of height 1 in a window of 3 sigma + 1, by maximum."""
    reach = int(3 * sigma + 1)
    y, x = place.tolist()
    rows = torch.arange(max(0, y - reach), min(canvas.shape[0], y + reach + 1), device=canvas.device)
    columns = torch.arange(max(0, x - reach), min(canvas.shape[1], x + reach + 1), device=canvas.device)
    bell = torch.exp(-((rows[:, None] - y) ** 2 + (columns - x) ** 2) / (2 * sigma**2))
    window = canvas[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
    window.copy_(torch.maximum(window, bell))
