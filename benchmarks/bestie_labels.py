"""Cases of BESTIE's labels, targets and losses, discs in every training step, and of its inference."""

import torch
from torch import Tensor

from benchmarks import reference_refine as reference
from benchmarks.bestie import CLASSES, scene
from benchmarks.measure import Case, Size
from wsis.core.config import changed
from wsis.core.types import Points
from wsis.methods.bestie import FULL, decode
from wsis.methods.bestie.labels import component_labels, refined_labels
from wsis.methods.bestie.model import Outputs
from wsis.methods.bestie.objective import Targets, center_map, regression, render
from wsis.ops.components import table

CFG = changed(FULL, classes=CLASSES)


def _outputs(size: Size, device: torch.device) -> tuple[Outputs, Tensor]:
    """What a fairly good network says of a scene, and the class maps [B, H, W] that it learned from."""
    discs = scene(size, torch.device("cpu"))
    generator = torch.Generator().manual_seed(1)
    known = torch.nn.functional.one_hot(discs["classes"], CLASSES + 1).permute(0, 3, 1, 2)
    semantic = 3 * known + 0.5 * torch.randn(known.shape, generator=generator)
    heat = discs["heat"][:, None] * known[:, 1:]
    center = 0.9 * heat + 0.02 * torch.randn(heat.shape, generator=generator)
    maps = (m.contiguous().to(device) for m in (semantic, center, discs["offsets"]))
    return Outputs(*maps), discs["classes"].to(device)


def _cues(size: Size, device: torch.device) -> tuple[Tensor, Points, Tensor]:
    """Class maps, a cue in the middle of each disc, and tags of all classes."""
    discs = scene(size, device)
    y, x = discs["centers"].long().unbind(1)
    labels = (discs["classes"][discs["image"], y, x] - 1).clamp_min(0)
    points = Points.make(discs["centers"].flip(1), labels, image=discs["image"])
    return discs["classes"], points, torch.ones(size.batch, CLASSES, dtype=torch.bool, device=device)


def _points(size: Size, device: torch.device) -> tuple[Points, torch.Size]:
    """Points of 20 classes, as in VOC, and the shape of their batch."""
    classes, points, _ = _cues(size, device)
    labels = torch.arange(len(points), device=device) % FULL.classes
    return Points.make(points.xy, labels, image=points.image), classes.shape


def _regression(size: Size, device: torch.device) -> tuple[Outputs, Targets]:
    """Maps of 20 classes with their targets, and weights on the discs."""
    classes, generator = scene(size, device)["classes"], torch.Generator().manual_seed(1)
    shape = (size.batch, FULL.classes, size.pixels, size.pixels)
    center, goal = (torch.rand(shape, generator=generator).to(device) for _ in range(2))
    targets = Targets(goal, goal[:, :2], (classes > 0).float()[:, None])
    return Outputs(center, center, center[:, :2]), targets


def _refinement(size: Size, device: torch.device) -> tuple[Outputs, Tensor, Tensor]:
    outputs, classes = _outputs(size, device)
    present = torch.arange(1, CLASSES + 1, device=device)[:, None]
    return outputs, classes, (classes.flatten(1)[:, None] == present).any(2)


def _inference(size: Size, device: torch.device) -> tuple[Outputs]:
    """Maps as smooth as an interpolated output, so that classes do not crumble into pixels."""
    outputs, classes = _outputs(size, device)
    semantic = torch.nn.functional.avg_pool2d(outputs.semantic, 5, 1, 2)
    return (outputs._replace(semantic=semantic),)


def _decode_fast(outputs: Outputs) -> tuple[Tensor, Tensor, Tensor]:
    instances = decode(outputs, None, CFG).instances
    return instances.ids, instances.labels, instances.scores


def _by_first_pixel(result: tuple[Tensor, Tensor, Tensor]) -> tuple[Tensor, ...]:
    """Instances that have pixels, in raster order."""
    ids, labels, scores = (r.cpu() for r in result)
    rows = table(ids, len(labels))
    order = torch.where(rows.area > 0, rows.first, ids.numel()).argsort()[: int((rows.area > 0).sum())]
    number = torch.zeros(len(labels) + 1, dtype=torch.long)
    number[order + 1] = torch.arange(1, len(order) + 1)
    return number[ids], labels[order], scores[order]


CASES = [
    Case(
        name="center map of points",
        prepare=_points,
        fast=lambda points, shape: center_map(points, shape, FULL),
        plain=lambda points, shape: reference.center_map(points, shape, FULL),
    ),
    Case(
        name="pseudo labels",
        prepare=_cues,
        fast=lambda *inputs: render(component_labels(*inputs, CFG), CFG),
        plain=lambda *inputs: reference.pseudo(*inputs, CFG),
        canonical=tuple,
    ),
    Case(
        name="weighted losses",
        prepare=_regression,
        fast=lambda outputs, targets: regression(outputs, targets, FULL),
        plain=reference.weighted_losses,
        canonical=tuple,
    ),
    Case(
        name="label refinement",
        prepare=_refinement,
        fast=lambda *inputs: render(refined_labels(*inputs, CFG), CFG),
        plain=lambda *inputs: reference.refine(*inputs, CFG),
        canonical=tuple,
    ),
    Case(
        name="inference",
        prepare=_inference,
        fast=_decode_fast,
        plain=lambda outputs: reference.decode(outputs, CFG),
        canonical=_by_first_pixel,
    ),
]
