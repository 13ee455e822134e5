"""EXITS: four extreme points per object -> pseudo masks -> any instance segmenter (CVPR 2024, arXiv 2405.20729).

crop of an object --frozen transformer--> similarity --Sinkhorn, a few hops--> tokens of object and background
crop --generator, supervised by these tokens and by itself--> pseudo mask --as if annotated--> instance segmenter
"""

from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from itertools import islice
from pathlib import Path

import torch
from jaxtyping import Float
from torch import Tensor, nn

from wsis.core.config import changed
from wsis.core.errors import ConfigError
from wsis.core.masks import RunLengths
from wsis.core.types import Batch, Dataset, ExtremePoints, Instances, Sample, Trace
from wsis.data.masks import filled_boxes
from wsis.methods.exits.config import ExitsConfig
from wsis.methods.exits.crops import ObjectCrops, Window, object_crop, paste_part, random_crop
from wsis.methods.exits.labels import TokenTargets, clicks, select, token_scores, token_targets
from wsis.methods.exits.model import Exits, build_extractor, build_teaching
from wsis.methods.exits.objective import objective
from wsis.models.segmenters import build_segmenter
from wsis.models.segmenters import predict as segment
from wsis.models.weights import load_weights, restored
from wsis.training.loop import TrainingData

CROPS_AT_ONCE = 8  # their maps in the generator are what the memory of `label` goes to


def mal(cfg: ExitsConfig) -> ExitsConfig:
    """`cfg` as the baseline: boxes, a tight-box loss on every crop, no extractor."""
    return changed(cfg, supervision="boxes", **{"loss.mil": 4.0})


def build(cfg: ExitsConfig) -> Exits:
    """Those of the networks that the settings need, with their pretrained weights."""
    final = cfg.final
    return Exits(
        build_extractor(cfg).eval().requires_grad_(False) if cfg.has_extractor else None,
        build_teaching(cfg) if cfg.has_generator else None,
        build_segmenter(final.segmenter, cfg.classes, final.backbone, final.weights) if final.schedule.steps else None,
    )


def restore(cfg: ExitsConfig, folder: Path) -> Exits:
    """The trained networks of a run folder."""
    return load(cfg, folder, "extractor", "network", "final")


def load(cfg: ExitsConfig, folder: Path, *stages: str) -> Exits:
    """Those of the networks in a run folder that the `stages` trained, in eval mode; the extractor is frozen."""
    final, extractor, network, segmenter = cfg.final, None, None, None
    if cfg.has_extractor and "extractor" in stages:
        extractor = load_weights(build_extractor(cfg.for_dry_run()), folder / "extractor.safetensors")
        extractor.requires_grad_(False)
    if cfg.has_generator and "network" in stages:
        network = load_weights(build_teaching(cfg.for_dry_run()), folder / "network.safetensors")
    if final.schedule.steps and "final" in stages:
        untrained = build_segmenter(final.segmenter, cfg.classes, final.backbone, "random")
        segmenter = restored(untrained, final.weights, folder / "final.safetensors")
    return Exits(extractor, network, segmenter).eval()


def training_data(dataset: Dataset, cfg: ExitsConfig) -> TrainingData:
    """Random crops of single objects."""
    return TrainingData(dataset=ObjectCrops(dataset, cfg.size.min_area), augment=partial(random_crop, cfg.size.crop))


@torch.no_grad()
def targets(model: Exits, batch: Batch, cfg: ExitsConfig) -> TokenTargets:
    """The labels of tokens, given by clicks and box or retrieved by the walk (see `stages.with_thresholds`); none for MAL."""
    if model.extractor is None:
        tokens = (batch.images.shape[-1] // model.generator.student.encoder.patch) ** 2
        zeros = torch.zeros(len(batch.images), tokens, device=batch.images.device)
        return TokenTargets(zeros, zeros > 0, zeros[:, 0] == 0)
    score, seeds = token_scores(model.extractor, batch, cfg)
    return token_targets(seeds, select(score, seeds, cfg.walk))


def loss(model: nn.Module, batch: Batch, targets: TokenTargets, cfg: ExitsConfig) -> dict[str, Tensor]:
    """The terms mil, point, crf and total on a batch of crops of one object each; the student sees other colors."""
    view = batch.images if batch.jittered is None else batch.jittered
    return objective(model(view, batch.images), view, clicks(batch).boxes, targets, cfg)


def pseudo_labels(model: Exits | None, batch: Batch, cfg: ExitsConfig) -> list[Instances]:
    """One mask per object with extreme points, in order, of each whole image: the generator's, or the filled box.

    A score is the mean probability in the crop where it is above the threshold. Raises ConfigError if the run has no generator,
    ValueError if the batch has no extreme points.
    """
    if model is not None:
        return [masks for masks, _ in label(model, batch, cfg)]
    images = _annotations(batch)
    return [Instances.make(filled_boxes(points.boxes, size), points.labels, ids=points.ids) for points, size in images]


def explain(model: Exits | None, batch: Batch, cfg: ExitsConfig) -> Trace:
    """The filled boxes [K, 4], or the generator's probabilities in the crops [K, C, C], of all images."""
    if model is None:
        return Trace({"boxes": torch.cat([points.boxes for points, _ in _annotations(batch)])})
    side, weight = cfg.size.crop, next(model.generator.parameters())
    found = [probability[None] for probability, _ in _probabilities(model, batch, cfg)]
    return Trace({"probability": torch.cat([weight.new_zeros(0, side, side), *found])})


def label(model: Exits, batch: Batch, cfg: ExitsConfig) -> list[tuple[Instances, Tensor]]:
    """The masks of each image, see `pseudo_labels`; bool [K], which were empty."""
    images, crops = [], _probabilities(model, batch, cfg)
    for points, size in _annotations(batch):
        rows, empty = [], []
        for box in points.boxes:
            probability, score = next(crops)
            window, threshold = Window.around(box), cfg.mask.threshold
            part = paste_part(probability, window, box.tolist(), size, threshold)
            empty.append(not part.pixels.any())
            if empty[-1]:  # or the final model loses it
                part = part._replace(pixels=part.pixels.logical_not())
            rows.append((part, score))
        runs = RunLengths.encode((part for part, _ in rows), size)
        scores = points.xy.new_tensor([score for _, score in rows])
        found = Instances.make(runs, points.labels, scores=scores, ids=points.ids)
        images.append((found, torch.tensor(empty, dtype=torch.bool)))
    return images


def _annotations(batch: Batch) -> list[tuple[ExtremePoints, tuple[int, int]]]:
    """The clicks of each image, and its (height, width) without padding."""
    if batch.extreme_points is None:
        raise ValueError(
            "pseudo labels need extreme_points; add them: python -m wsis weak SRC.json --extreme --out DST.json"
        )
    sizes = [(int(valid.any(1).sum()), int(valid.any(0).sum())) for valid in batch.valid]
    return list(zip(batch.extreme_points, sizes, strict=True))


@torch.no_grad()
def _probabilities(model: Exits, batch: Batch, cfg: ExitsConfig) -> Iterator[tuple[Tensor, float]]:
    """The generator's probability in the crop of each object, float32 [C, C] where its weights are, and its mean where it is
    above the threshold of masks; a few crops at a time.
    """
    crops = _crops(batch, cfg.size.crop)
    while some := list(islice(crops, CROPS_AT_ONCE)):
        images = torch.stack(some).float().div_(255)
        probability = model.generator.probability(images, cfg.mask.source, cfg.mask.flip)
        inside = probability > cfg.mask.threshold
        scores = (probability * inside).sum((1, 2)) / inside.sum((1, 2)).clamp(min=1)
        yield from zip(probability, scores.tolist(), strict=True)


def _crops(batch: Batch, side: int) -> Iterator[Tensor]:
    for image, (points, (height, width)) in zip(batch.images, _annotations(batch), strict=True):
        # The images were 8 bits and are so again without loss: crops are resized in whole levels, as in training.
        whole = Sample(image=(image[:, :height, :width] * 255).round().to(torch.uint8), image_id=0)
        for i in range(len(points)):
            yield object_crop(replace(whole, extreme_points=points[i : i + 1]), side).image


@torch.no_grad()
def predict(model: Exits, images: Float[Tensor, "B 3 H W"], cfg: ExitsConfig) -> list[Instances]:
    """Instances of images in [0, 1] by the final segmenter; raises ConfigError if the run was set to train none."""
    if model.segmenter is None:
        raise ConfigError("this run has no final model (final.schedule.steps=0): it cannot predict; train one")
    return segment(model.segmenter, images)
