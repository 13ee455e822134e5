"""BESTIE: image tags or one point per object -> instance masks (CVPR 2022, arXiv 2109.09477).

tags --classifier with peak attention--> cues --one component, one cue--> center, offset and weight maps
image --network--> semantic, center and offset maps --grouping--> instances, and better labels for itself
"""

import math
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn.functional import interpolate

from wsis.core.config import changed
from wsis.core.types import IGNORE, Batch, Dataset, InstanceMap, Instances, Points, Trace
from wsis.data.transforms import Augment
from wsis.methods.bestie.config import BestieConfig
from wsis.methods.bestie.labels import (
    component_labels,
    find_instances,
    foreground_probability,
    point_labels,
    refined_labels,
)
from wsis.methods.bestie.model import BestieNet, Outputs
from wsis.methods.bestie.objective import center_map, objective, render
from wsis.models.weights import load_weights
from wsis.training.loop import TrainingData


def official(cfg: BestieConfig) -> BestieConfig:
    """`cfg` with the release's values and defects, for comparisons with it; see book/fidelity.md."""
    return changed(
        cfg, compat="official", **{"pam.alpha": 0.7, "cues.threshold": 0.7, "augment.pad_label": "background"}
    )


def build(cfg: BestieConfig) -> BestieNet:
    """The instance network with its backbone's weights."""
    return BestieNet(cfg)


def restore(cfg: BestieConfig, folder: Path) -> BestieNet:
    """The trained network of a run folder."""
    model = BestieNet(changed(cfg, weights="random"))
    load_weights(model, folder / "network.safetensors")
    return model


@torch.no_grad()
def instance_labels(
    model: nn.Module | None, batch: Batch, cfg: BestieConfig, trace: bool = False
) -> InstanceMap | tuple[InstanceMap, Trace]:
    """Masks from tags or points.

    Without a model: the components of `batch.semantic_maps` that hold one cue (`batch.points`). With one: what it
    finds among the image's tags, or one mask per point. With `trace` also every map on the way.

    Raises:
        ValueError: the batch lacks what this needs.
    """
    if model is None:
        if batch.semantic_maps is None or batch.points is None or batch.tags is None:
            raise ValueError("pseudo_labels without a model needs semantic_maps, points and tags in the batch")
        labels = component_labels(batch.semantic_maps, batch.points, batch.tags, cfg)
        targets = render(labels, cfg)
        return (labels, Trace(targets._asdict())) if trace else labels
    outputs = infer(model, batch.images, cfg)
    if cfg.supervision == "points":
        if batch.points is None:
            raise ValueError("pseudo_labels with supervision=points needs points in the batch")
        labels = point_labels(outputs, batch.semantic_maps, batch.points, cfg)
        return (labels, Trace(outputs._asdict())) if trace else labels
    return decode(outputs, batch.tags, cfg, trace)


def targets(model: nn.Module, batch: Batch, cfg: BestieConfig) -> InstanceMap:
    """The components of the semantic maps that hold one cue."""
    labels = instance_labels(None, batch, cfg)
    assert isinstance(labels, InstanceMap)
    return labels


@torch.no_grad()
def pseudo_labels(model: nn.Module | None, batch: Batch, cfg: BestieConfig) -> list[Instances]:
    """Masks from tags or points, see `instance_labels`; with points and a model mask i contains the pixel of click i."""
    labels = instance_labels(model, batch, cfg)
    assert isinstance(labels, InstanceMap)
    if model is None or cfg.supervision != "points" or batch.points is None:
        return labels.unbind()
    return [with_clicks(labels, batch.points, image) for image in range(len(batch.images))]


def with_clicks(labels: InstanceMap, points: Points, image: int) -> Instances:
    """The masks of one image's clicks, in order, each with the clicked pixel and the annotation's id."""
    rows = (points.image == image).nonzero()[:, 0]
    x, y = points.xy[rows].long().unbind(1)
    regions = labels.ids[image].clone()
    regions[y, x] = rows + 1
    masks = regions == (rows + 1)[:, None, None]
    return Instances.make(masks, points.labels[rows], scores=labels.scores[rows], ids=points.ids[rows])


def explain(model: nn.Module | None, batch: Batch, cfg: BestieConfig) -> Trace:
    """Every map on the way to `pseudo_labels`."""
    _, trace = instance_labels(model, batch, cfg, trace=True)
    assert isinstance(trace, Trace)
    return trace


def training_data(dataset: Dataset, cfg: BestieConfig) -> TrainingData:
    """Random crops of images with their class maps and cues or clicks."""
    a = cfg.augment
    pad = 0 if a.pad_label == "background" else IGNORE
    augment = Augment(crop=a.crop, long_side=a.long_side or None, scale=a.scale, scale_step=a.scale_step, pad_value=pad)
    return TrainingData(dataset=dataset, augment=augment)


def loss(model: nn.Module, batch: Batch, targets: InstanceMap, cfg: BestieConfig) -> dict[str, Tensor]:
    """The objective on one batch, labels refined by the very outputs that are trained.

    targets: pseudo labels without a model. Terms: semantic, center, offset, refined_center, refined_offset, total.
    """
    assert batch.semantic_maps is not None and batch.tags is not None
    outputs: Outputs = model(batch.images)
    clicks = None
    if cfg.supervision == "points":
        assert batch.points is not None
        shape = tuple(targets.ids.shape)
        clicks = center_map(batch.points.xy.flip(1), batch.points.image, batch.points.labels, shape, cfg)
    refined = None
    if cfg.refine.enabled and clicks is not None:
        refined = render(point_labels(outputs, batch.semantic_maps, batch.points, cfg), cfg, clicks)
    elif cfg.refine.enabled:
        refined = render(refined_labels(outputs, batch.semantic_maps, batch.tags, cfg)[0], cfg)
    return objective(outputs, batch.semantic_maps, render(targets, cfg, clicks), refined, cfg)


@torch.no_grad()
def predict(model: nn.Module, images: Tensor, cfg: BestieConfig) -> list[Instances]:
    """Instances of images [B, 3, H, W] in [0, 1], without any label; scores in [0, 1]."""
    labels = decode(infer(model, images, cfg), None, cfg)
    assert isinstance(labels, InstanceMap)
    return labels.unbind()


def infer(model: nn.Module, images: Tensor, cfg: BestieConfig) -> Outputs:
    """The network's maps at the images' size, from sides that are multiples of 32, optionally averaged over a flip."""
    size = (images.shape[-2], images.shape[-1])
    scale = cfg.long_side / max(size) if cfg.long_side else 1.0
    x = interpolate(images, [math.ceil(side * scale / 32) * 32 for side in size], mode="bilinear", align_corners=False)
    outputs: Outputs = model(x)
    if cfg.flip:
        mirrored = Outputs(*(m.flip(3) for m in model(x.flip(3))))
        semantic = torch.logaddexp(outputs.semantic.log_softmax(1), mirrored.semantic.log_softmax(1)) - math.log(2)
        offset = outputs.offset
        if cfg.compat == "clean":  # the release averages the other two maps only
            mirror = torch.tensor([1.0, -1.0], device=offset.device)[:, None, None]
            offset = (offset + mirrored.offset * mirror) / 2
        outputs = Outputs(semantic, (outputs.center + mirrored.center) / 2, offset)
    resized = outputs.resized(size)
    if cfg.compat == "official":  # the release interpolates the offsets, but leaves their length
        return resized._replace(offset=interpolate(outputs.offset, size, mode="bilinear", align_corners=False))
    return resized


def decode(
    outputs: Outputs, tags: Tensor | None, cfg: BestieConfig, trace: bool = False
) -> InstanceMap | tuple[InstanceMap, Trace]:
    """Instances from the network's maps; scores are center score x class probability, the latter squared if clustered."""
    probability = foreground_probability(outputs.semantic, tags)
    classes = probability.argmax(1)
    found = find_instances(outputs, classes, probability, cfg.center_threshold, cfg, cfg.keep_centerless)
    center = torch.where(found.centers.clustered, found.semantic_score, found.statistics.max)
    labels = InstanceMap(
        ids=found.regions,
        image=found.centers.image,
        labels=found.labels,
        centers=found.centers.position,
        scores=(center * found.semantic_score).clamp(0, 1),
    )
    if not trace:
        return labels
    steps = {"classes": classes, "center": found.heat, "components": found.components, "offset": outputs.offset}
    return labels, Trace(steps)
