"""The verbs of BESTIE, see `wsis.training.stages.Method`."""

from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor, nn

from wsis.core.config import changed
from wsis.core.types import IGNORE, Batch, Dataset, Instances, Trace
from wsis.data.transforms import Augment
from wsis.methods.bestie.config import BestieConfig, at_size
from wsis.methods.bestie.labels import InstanceMap, component_labels, decode, point_labels, refined_labels
from wsis.methods.bestie.model import BestieNet, Images, Outputs, infer
from wsis.methods.bestie.objective import center_map, objective, render
from wsis.models.weights import load_weights
from wsis.training.loop import TrainingData

build = BestieNet


def restore(cfg: BestieConfig, folder: Path) -> BestieNet:
    """The trained network of a run folder."""
    return load_weights(BestieNet(changed(cfg, weights="random")), folder / "network.safetensors")


def training_data(dataset: Dataset, cfg: BestieConfig) -> TrainingData:
    """Random crops of images with their class maps and cues or clicks."""
    size = cfg.size
    padding = 0 if cfg.compat == "official" else IGNORE  # the release trains gray bars as background
    augment = Augment(crop=size.crop, long_side=size.long_side or None, scale=size.scale, pad_value=padding)
    return TrainingData(dataset=dataset, augment=augment)


def targets(model: nn.Module | None, batch: Batch, cfg: BestieConfig) -> InstanceMap:
    """The components of the semantic maps that hold one cue; ValueError where the batch lacks maps, cues or tags."""
    if batch.semantic_maps is None or batch.points is None or batch.tags is None:
        raise ValueError("labels without a model need semantic_maps, points and tags; use WithPseudoLabels")
    return component_labels(batch.semantic_maps, batch.points, batch.tags, cfg)


def loss(model: nn.Module, batch: Batch, targets: InstanceMap, cfg: BestieConfig) -> dict[str, Tensor]:
    """The terms semantic, center, offset, refined_center, refined_offset (labels refined by these very outputs) and total."""
    assert batch.semantic_maps is not None and batch.tags is not None
    outputs: Outputs = model(batch.images)
    clicks = refined = None
    if cfg.supervision == "points":
        assert batch.points is not None
        points = batch.points[batch.tags[batch.points.image, batch.points.labels]]
        clicks = center_map(points, targets.ids.shape, cfg)
        if cfg.refine.enabled:
            labels = point_labels(outputs, batch.semantic_maps, points, cfg, refining=True)
            refined = render(labels, cfg, clicks)
    elif cfg.refine.enabled:
        refined = render(refined_labels(outputs, batch.semantic_maps, batch.tags, cfg), cfg)
    return objective(outputs, batch.semantic_maps, render(targets, cfg, clicks), refined, cfg)


@torch.no_grad()
def pseudo_labels(model: nn.Module | None, batch: Batch, cfg: BestieConfig) -> list[Instances]:
    """Masks from tags or points; ValueError where the batch lacks what this needs.

    Without a model they are the components of the class maps that hold one cue. With one they are what it finds among the
    image's tags, or one mask per point, which contains the point's pixel.
    """
    cfg = at_size(cfg, *batch.images.shape[-2:])
    if model is None:
        return targets(model, batch, cfg).unbind()
    outputs = infer(model, batch.images, cfg)
    if cfg.supervision == "tags":
        if batch.tags is None:
            raise ValueError("labels with supervision=tags need tags in the batch")
        return _ranked(decode(outputs, batch.tags, cfg).instances)
    if batch.points is None:
        raise ValueError("labels with supervision=points need points in the batch")
    return point_labels(outputs, batch.semantic_maps, batch.points, cfg).unbind(batch.points)


@torch.no_grad()
def explain(model: nn.Module | None, batch: Batch, cfg: BestieConfig) -> Trace:
    """Every map on the way to `pseudo_labels`: rendered targets without a model, with one what it was decoded from."""
    cfg = at_size(cfg, *batch.images.shape[-2:])
    if model is None:
        return Trace(render(targets(model, batch, cfg), cfg)._asdict())
    outputs = infer(model, batch.images, cfg)
    if cfg.supervision == "points":
        return Trace(outputs._asdict())
    d = decode(outputs, batch.tags, cfg)
    return Trace({"classes": d.classes, "center": d.heat, "components": d.components, "offset": outputs.offset})


@torch.no_grad()
def predict(model: nn.Module, images: Images, cfg: BestieConfig) -> list[Instances]:
    """Instances of images in [0, 1], without any label; scores in [0, 1]."""
    return _ranked(decode(infer(model, images, cfg), None, at_size(cfg, *images.shape[-2:])).instances)


def _ranked(instances: InstanceMap) -> list[Instances]:
    """By falling score, which only then is clamped to [0, 1], where the center map exceeds it."""
    return [replace(image, scores=image.scores.clamp(0, 1)) for image in instances.unbind()]
