"""Cases of BESTIE's whole label refinement, run in every training step, and of its inference."""

import torch
from torch import Tensor

from benchmarks import reference_refine as reference
from benchmarks.bestie import CLASSES, scene
from benchmarks.measure import Case, Size
from wsis.core.config import changed
from wsis.methods.bestie import FULL, decode
from wsis.methods.bestie.labels import refined_labels
from wsis.methods.bestie.model import Outputs
from wsis.methods.bestie.objective import render
from wsis.ops.components import table

CFG = changed(FULL, classes=CLASSES)


def _outputs(size: Size, device: torch.device) -> tuple[Outputs, Tensor]:
    """What a fairly good network says of a scene, and the class maps [B, H, W] that it learned from."""
    made = scene(size, torch.device("cpu"))
    generator = torch.Generator().manual_seed(1)
    known = torch.nn.functional.one_hot(made["classes"], CLASSES + 1).permute(0, 3, 1, 2)
    semantic = 3 * known + 0.5 * torch.randn(known.shape, generator=generator)
    heat = made["heat"][:, None] * known[:, 1:]
    center = 0.9 * heat + 0.02 * torch.randn(heat.shape, generator=generator)
    maps = (m.contiguous().to(device) for m in (semantic, center, made["offsets"]))
    return Outputs(*maps), made["classes"].to(device)


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
