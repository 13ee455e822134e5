"""EXITS: four extreme points per object -> pseudo masks -> any instance segmenter (CVPR 2024, arXiv 2405.20729).

crop of an object --frozen transformer--> similarity --Sinkhorn, a few hops--> tokens of object and background
crop --generator, taught by these tokens and by itself--> pseudo mask --as if annotated--> instance segmenter

With boxes in place of extreme points, and nothing retrieved, the same code is MAL (CVPR 2023).
"""

from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn.functional import interpolate

from wsis.core.config import changed
from wsis.core.errors import ConfigError
from wsis.core.types import Batch, Dataset, Instances, Sample, Trace
from wsis.data.masks import box_pixels
from wsis.data.transforms import collate
from wsis.methods.exits.config import ExitsConfig
from wsis.methods.exits.crops import CropAugment, ObjectCrops, paste
from wsis.methods.exits.labels import (
    PointLabels,
    Seeds,
    clicks,
    find_seeds,
    point_labels,
    pushed,
    scores,
    select,
    tokens_at,
)
from wsis.methods.exits.model import Extractor, Outputs, SelfTeaching, build_teaching
from wsis.methods.exits.objective import objective
from wsis.models.segmenters import build_segmenter, restore_segmenter
from wsis.models.segmenters import predict as segment
from wsis.models.weights import load_weights
from wsis.training.loop import TrainingData

CROPS_AT_ONCE = 32


class Exits(nn.Module):
    """All that a finished run needs: the generator, which labels, and the final segmenter, which predicts.

    network: None where the final model learns from true masks. segmenter: None where the run has no final model.
    """

    def __init__(self, network: SelfTeaching | None, segmenter: nn.Module | None) -> None:
        super().__init__()
        self.network, self.segmenter = network, segmenter

    @property
    def generator(self) -> SelfTeaching:
        """The network.

        Raises:
            ConfigError: there is none.
        """
        if self.network is None:
            raise ConfigError(
                "this run has no generator, since its final model learned from true masks (final.masks=truth): it "
                "predicts, but cannot label; label with a run of final.masks=pseudo"
            )
        return self.network

    def forward(self, jittered: Tensor, images: Tensor) -> Outputs:
        return self.generator(jittered, images)


def mal(cfg: ExitsConfig) -> ExitsConfig:
    """`cfg` as the baseline: boxes, a tight-box loss on every crop, no extractor."""
    return changed(cfg, supervision="boxes", **{"loss.mil": 4.0})


def build(cfg: ExitsConfig) -> Exits:
    """Generator and segmenter with their pretrained weights, of these what the settings need."""
    f, network, segmenter = cfg.final, None, None
    if f.masks == "pseudo":
        network = build_teaching(cfg)
    if cfg.segmenter.steps:
        segmenter = build_segmenter(f.segmenter, cfg.classes, f.backbone, f.weights)
    return Exits(network, segmenter)


def restore(cfg: ExitsConfig, folder: Path) -> Exits:
    """The trained networks of a run folder; what the run did not train is None."""
    network = load_network(cfg, folder) if cfg.final.masks == "pseudo" else None
    segmenter = load_segmenter(cfg, folder) if cfg.segmenter.steps else None
    return Exits(network, segmenter)


def training_data(dataset: Dataset, cfg: ExitsConfig) -> TrainingData:
    """Random crops of single objects."""
    return TrainingData(
        dataset=ObjectCrops(dataset, cfg.crop, training=True), augment=CropAugment(cfg.crop, training=True)
    )


@torch.no_grad()
def token_scores(extractor: Extractor, batch: Batch, cfg: ExitsConfig) -> tuple[Tensor, Seeds]:
    """What a walk from clicks and background brings to each token of a batch of crops, float32 [B, n], and its seeds.

    batch: crops of one object each, with `extreme_points` in crop pixels.
    """
    patch = extractor.encoder.patch
    others = other_clicks(batch, patch, cfg) if cfg.seeds.other_objects else None
    seeds = find_seeds(clicks(batch), batch.valid, patch, cfg, others)
    return scores(extractor.similarity(batch.images), seeds, cfg.walk), seeds


def other_clicks(batch: Batch, patch: int, cfg: ExitsConfig) -> Tensor:
    """Tokens of a batch of crops that hold the click of another object, bool [B, n]; `batch.points` has four for each."""
    side = batch.images.shape[-1] // patch
    hits = torch.zeros(len(batch.images), side * side, device=batch.images.device)
    if batch.points is None:
        return hits > 0
    held = tokens_at(pushed(batch.points.xy.view(-1, 4, 2), cfg.seeds), patch, side)
    return hits.index_add_(0, batch.points.image[::4], held.float()) > 0


@torch.no_grad()
def find_points(extractor: Extractor | None, batch: Batch, cfg: ExitsConfig) -> PointLabels | None:
    """Tokens of a batch of crops with their labels: given by the clicks and the box, or retrieved by the walk.

    The thresholds are `cfg.walk.tau_fg` and `tau_bg`. Without an extractor (MAL) there are none.
    """
    if extractor is None:
        return None
    found, seeds = token_scores(extractor, batch, cfg)
    return point_labels(seeds, select(found, seeds, cfg.walk))


def loss(model: nn.Module, batch: Batch, targets: PointLabels | None, cfg: ExitsConfig) -> dict[str, Tensor]:
    """The objective on a batch of crops of one object each.

    targets: of `find_points`; None teaches from the boxes alone. Terms: mil, point, crf, total.
    """
    seen = batch.images if batch.jittered is None else batch.jittered
    return objective(model(seen, batch.images), seen, clicks(batch), targets, cfg)


@torch.no_grad()
def pseudo_labels(
    model: Exits | SelfTeaching | None, batch: Batch, cfg: ExitsConfig, trace: bool = False
) -> list[Instances] | tuple[list[Instances], Trace]:
    """One mask per object with extreme points, in order, of each whole image: filled boxes, or a generator's masks.

    model: all of a run, or its generator alone; None for filled boxes. Scores are the mean probability within the mask.
    With `trace` also the probabilities of the crops.

    Raises:
        ConfigError: the run has no generator. ValueError: the batch has no extreme points.
    """
    if batch.extreme_points is None:
        raise ValueError("pseudo_labels needs extreme_points in the batch")
    network = model.generator if isinstance(model, Exits) else model
    found, trace_of, _ = label_objects(network, batch, cfg)
    return (found, trace_of) if trace else found


@torch.no_grad()
def label_objects(network: SelfTeaching | None, batch: Batch, cfg: ExitsConfig) -> tuple[list[Instances], Trace, int]:
    """`pseudo_labels`, always with its trace, and the number of objects whose mask was empty."""
    samples, clicked = unstacked(batch), batch.extreme_points
    assert clicked is not None
    boxes = [
        Instances.make(box_pixels(e.boxes, s.size), e.labels, ids=e.ids) for e, s in zip(clicked, samples, strict=True)
    ]
    if network is None:
        return boxes, Trace({"boxes": torch.cat([b.masks.flatten() for b in boxes])}), 0
    augment = CropAugment(cfg.crop, training=False)
    crops = [
        augment(replace(s, extreme_points=e[i : i + 1]), 0)
        for s, e in zip(samples, clicked, strict=True)
        for i in range(len(e))
    ]
    parts = [batch.images.new_zeros(0, cfg.crop.size, cfg.crop.size)]
    for start in range(0, len(crops), CROPS_AT_ONCE):
        images = collate(crops[start : start + CROPS_AT_ONCE]).images.to(batch.images.device)
        parts.append(mask_probability(network, images, cfg))
    probability = torch.cat(parts)
    windows, made, empty = iter([crop.window for crop in crops]), [], []
    for box, e, p in zip(boxes, clicked, probability.split([len(e) for e in clicked]), strict=True):
        shown = [next(windows) for _ in range(len(e))]
        masks = paste(p, shown, e.boxes, (box.masks.shape[1], box.masks.shape[2]), cfg.mask.threshold)
        empty.append(~masks.flatten(1).any(1))
        made.append(_filled(masks, empty[-1], p, box, cfg))
    return made, Trace({"probability": probability}), int(torch.cat(empty).sum())


def _filled(masks: Tensor, empty: Tensor, probability: Tensor, boxes: Instances, cfg: ExitsConfig) -> Instances:
    """Masks of one image with their scores; what is done with those that are `empty`, `cfg.mask.on_empty` says."""
    inside = probability > cfg.mask.threshold
    certain = (probability * inside).flatten(1).sum(1) / inside.flatten(1).sum(1).clamp(min=1)
    masks = torch.where(empty[:, None, None], boxes.masks, masks)
    made = Instances.make(masks, boxes.labels, scores=certain, ids=boxes.ids)
    return made[~empty] if cfg.mask.on_empty == "drop" else made


def unstacked(batch: Batch) -> list[Sample]:
    """The images of a batch one by one, uint8 and without padding, with their extreme points."""
    assert batch.extreme_points is not None
    out = []
    for k, (image, valid) in enumerate(zip(batch.images, batch.valid, strict=True)):
        height, width = int(valid.any(1).sum()), int(valid.any(0).sum())
        pixels = (image[:, :height, :width] * 255).round().to(torch.uint8)
        out.append(Sample(image=pixels, image_id=batch.image_ids[k], extreme_points=batch.extreme_points[k]))
    return out


def mask_probability(network: SelfTeaching, images: Tensor, cfg: ExitsConfig) -> Tensor:
    """Probabilities of masks of crops [B, 3, C, C] in [0, 1], at the crops' size: float32 [B, C, C]."""
    networks = {"student": [network.student], "teacher": [network.teacher], "mean": [network.student, network.teacher]}
    views = []
    for one in networks[cfg.mask.source]:
        views += [one(images), *([one(images.flip(3)).flip(2)] if cfg.mask.flip else [])]
    small = torch.stack([view.float().sigmoid() for view in views]).mean(0)
    return interpolate(small[:, None], images.shape[-2:], mode="bilinear", align_corners=False)[:, 0]


@torch.no_grad()
def predict(model: Exits, images: Tensor, cfg: ExitsConfig) -> list[Instances]:
    """Instances of images [B, 3, H, W] in [0, 1] by the final segmenter, without any label; scores in [0, 1].

    Raises:
        ConfigError: the run was told to train no segmenter.
    """
    if model.segmenter is None:
        raise ConfigError("this run has no final model (segmenter.steps=0): it labels, but cannot predict; train one")
    return segment(model.segmenter, images)


def load_network(cfg: ExitsConfig, folder: Path) -> SelfTeaching:
    """The trained generator of a run folder."""
    model = build_teaching(changed(cfg, **{"generator.weights": "random"}))
    load_weights(model, folder / "network.safetensors")
    return model


def load_segmenter(cfg: ExitsConfig, folder: Path) -> nn.Module:
    """The trained final model of a run folder."""
    f = cfg.final
    path = folder / "segmenter.safetensors"
    return restore_segmenter(f.segmenter, cfg.classes, f.backbone, f.weights, path)
