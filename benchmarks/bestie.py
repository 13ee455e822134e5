"""Cases of BESTIE's label operations: components, Gaussians, peaks, clusters, grouping, statistics."""

import math

import torch
from torch import Tensor

from benchmarks import reference_bestie as reference
from benchmarks.measure import Case, Size
from wsis.ops import components, grouping

SIGMA, KERNEL, THRESHOLD = 6.0, 41, 0.1
CLASSES = 4  # few, so that touching discs often share a class and a component holds several centers


def scene(size: Size, device: torch.device) -> dict[str, Tensor]:
    """Discs on a jittered grid, seeded, many of them touching.

    classes, ids, heat: [B, H, W]. offsets: [B, 2, H, W], with a little noise. centers: [N, 2]. image: [N].
    """
    generator = torch.Generator().manual_seed(size.instances)
    side = math.ceil(math.sqrt(size.instances))
    cell = size.pixels / side
    index = torch.arange(size.batch * size.instances)
    image, slot = index // size.instances, index % size.instances
    grid = torch.stack((slot // side, slot % side), dim=1) + 0.5
    centers = ((grid + 0.1 * (torch.rand(grid.shape, generator=generator) - 0.5)) * cell).floor()
    names = torch.randint(1, CLASSES + 1, (len(index),), generator=generator)
    noise = 0.1 * torch.randn(size.batch, 2, size.pixels, size.pixels, generator=generator)

    y = torch.arange(size.pixels).expand(size.pixels, -1).T
    x = y.T
    at = ((y / cell).long().clamp_max(side - 1) * side + (x / cell).long().clamp_max(side - 1)).clamp_max(
        size.instances - 1
    )
    owner = at + size.instances * torch.arange(size.batch)[:, None, None]  # [B, H, W]
    offsets = centers[owner].permute(0, 3, 1, 2) - torch.stack((y, x))
    classes = names[owner] * (offsets.norm(dim=1) < 0.6 * cell)
    heat = grouping.splat_gaussians(centers, image, (size.batch, size.pixels, size.pixels), SIGMA)
    ids, _ = components.connected_components(classes)
    made = {
        "classes": classes,
        "ids": ids,
        "heat": heat,
        "offsets": offsets + noise,
        "centers": centers,
        "image": image,
    }
    return {name: value.to(device) for name, value in made.items()}


def _in_raster_order(labelled: tuple[Tensor, int]) -> tuple[Tensor, ...]:
    """Renumber by first pixel."""
    ids, count = labelled
    number = torch.zeros(count + 1, dtype=torch.long, device=ids.device)
    order = components.table(ids, count).first.argsort()
    number[order + 1] = torch.arange(1, count + 1, device=ids.device)
    return number[ids], torch.tensor(count)


def _sorted_places(found: grouping.Centers | Tensor) -> tuple[Tensor]:
    """Centers as rows of (image, y, x) in lexicographic order."""
    if isinstance(found, grouping.Centers):
        found = torch.cat((found.image[:, None], found.position.long()), dim=1)
    return (found[(found[:, 0] * 2**32 + found[:, 1] * 2**16 + found[:, 2]).argsort()],)


def _classes(size: Size, device: torch.device) -> tuple[Tensor]:
    return (scene(size, device)["classes"],)


def _splat(size: Size, device: torch.device) -> tuple[Tensor, Tensor, tuple[int, int, int], float]:
    made = scene(size, device)
    return made["centers"], made["image"], (size.batch, size.pixels, size.pixels), SIGMA


def _peaks(size: Size, device: torch.device) -> tuple[Tensor, Tensor, float, int]:
    made = scene(size, device)
    return made["heat"], made["ids"], THRESHOLD, KERNEL


def _clusters(size: Size, device: torch.device) -> tuple[Tensor, Tensor]:
    made = scene(size, device)
    return made["offsets"], made["ids"]


def _groups(size: Size, device: torch.device) -> tuple[Tensor, Tensor, grouping.Centers]:
    made = scene(size, device)
    return made["offsets"], made["ids"], grouping.find_centers(made["heat"], made["ids"], THRESHOLD, KERNEL)


def _regions(size: Size, device: torch.device) -> tuple[Tensor, int, Tensor, Tensor]:
    made = scene(size, device)
    centers = grouping.find_centers(made["heat"], made["ids"], THRESHOLD, KERNEL)
    regions = grouping.group_pixels(made["offsets"], made["ids"], centers)
    return regions, len(centers.score), made["heat"], made["heat"].square()


CASES = [
    Case(
        name="component labelling",
        prepare=_classes,
        fast=components.connected_components,
        plain=reference.connected_components,
        canonical=_in_raster_order,
    ),
    Case(name="Gaussian splat", prepare=_splat, fast=grouping.splat_gaussians, plain=reference.splat_gaussians),
    Case(
        name="center peaks",
        prepare=_peaks,
        fast=grouping.find_centers,
        plain=reference.find_centers,
        canonical=_sorted_places,
    ),
    Case(
        name="center clustering",
        prepare=_clusters,
        fast=grouping.cluster_centers,
        plain=reference.cluster_centers,
        canonical=_sorted_places,
    ),
    Case(name="pixel grouping", prepare=_groups, fast=grouping.group_pixels, plain=reference.group_pixels),
    Case(
        name="region statistics",
        prepare=_regions,
        fast=grouping.region_statistics,
        plain=reference.region_statistics,
        canonical=tuple,
    ),
]
