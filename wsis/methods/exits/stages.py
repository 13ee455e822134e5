"""The steps of a full EXITS run, from four clicks per object to a trained instance segmenter and its figures.

    extractor -> thresholds -> network -> masks -> segmenter -> evaluation

MAL has no extractor and no thresholds. Reports compare with the truth where there is one; no loss reads it.
"""

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import avg_pool2d

from wsis.core.config import changed
from wsis.core.errors import ConfigError
from wsis.core.files import read_json, write_json
from wsis.core.seeds import seed_of
from wsis.core.types import Batch, Sample
from wsis.data.coco_json import write_instances
from wsis.data.transforms import collate
from wsis.data.wrappers import category_ids, ground_truths, samples
from wsis.evaluation import coco_ap, iou_by_size, recall, separated
from wsis.methods.exits.config import ExitsConfig
from wsis.methods.exits.crops import CropAugment, ObjectCrops
from wsis.methods.exits.labels import Retrieved, peak, select, threshold
from wsis.methods.exits.model import Extractor, build_extractor, build_teaching
from wsis.methods.exits.objective import warmup_loss
from wsis.methods.exits.verbs import (
    find_points,
    label_objects,
    load_network,
    load_segmenter,
    loss,
    token_scores,
    training_data,
)
from wsis.models.segmenters import predict
from wsis.models.weights import load_weights, save_weights
from wsis.training.final_model import fit_segmenter
from wsis.training.loop import TrainingData, order
from wsis.training.stages import Stage, Workspace

CALIBRATION_BATCH = 32  # crops at a time
IMAGES_AT_ONCE = 8


def stages(cfg: ExitsConfig) -> list[Stage]:
    """The stages of `cfg` in order; boxes alone (MAL) need no extractor, the truth as masks no generator."""
    steps: list[Stage] = []

    def add(name: str, artefact: str, run: Any, settings: str = "") -> None:
        parts, needs = tuple(settings.split()), (steps[-1].name,) if steps else ()
        steps.append(Stage(name=name, artefact=artefact, run=run, settings=parts, needs=needs))

    if cfg.final.masks == "pseudo":
        if cfg.supervision == "extreme_points":
            add("extractor", "extractor.safetensors", train_extractor, "extractor warmup crop seeds classes")
            add("thresholds", "thresholds.json", set_thresholds, "walk seeds")
        generator = "supervision crop seeds walk generator loss crf network"
        add("network", "network.safetensors", train_network, generator)
    add("masks", "pseudo_train.json", make_masks, "final mask")
    if cfg.segmenter.steps:
        add("segmenter", "segmenter.safetensors", train_segmenter, "classes final segmenter")
        add("evaluation", "", evaluate)
    return steps


def train_extractor(workspace: Workspace) -> dict[str, Any]:
    """The pretrained transformer, taught for a while to tell objects from what surrounds them."""
    cfg = workspace.cfg
    model, crops = build_extractor(cfg), ObjectCrops(workspace.train, cfg.crop, training=True)

    def loss(network: nn.Module, batch: Batch, step: int) -> dict[str, Tensor]:
        return warmup_loss(network(batch.jittered), batch, cfg)

    if cfg.warmup.steps:
        data = TrainingData(dataset=crops, augment=CropAugment(cfg.crop, training=True))
        model = workspace.fit("extractor", model, loss, data, cfg.warmup, save=False)
    workspace.save("extractor", model)
    return {"crops": len(crops)}


def load_extractor(workspace: Workspace) -> Extractor:
    """The frozen extractor of this run."""
    model = build_extractor(changed(workspace.cfg, **{"extractor.weights": "random"}))
    load_weights(model, workspace.path("extractor.safetensors"))
    return model.to(workspace.device).eval().requires_grad_(False)


def training_crops(workspace: Workspace, count: int) -> Iterator[list[Sample]]:
    """Random training crops in batches, the same for the same seed: one of each object, of at most `count` objects.

    `count` is rounded up to whole batches; where there are fewer objects, the last batch is smaller.
    """
    cfg, seed, size = workspace.cfg, workspace.options.seed, CALIBRATION_BATCH
    crops = ObjectCrops(workspace.train, cfg.crop, training=True)
    augment = CropAugment(cfg.crop, training=True)
    data = TrainingData(dataset=crops, augment=augment)
    for step, groups in enumerate(order(data, size, seed, 0, -(-min(count, len(crops)) // size))):
        once = [(i, slot) for ((i, _, slot),) in groups if step * size + slot < len(crops)]
        yield [augment(crops[i], seed_of(seed, "crops", step, slot)) for i, slot in once]


def set_thresholds(workspace: Workspace) -> dict[str, Any]:
    """Thresholds at which the published share of crops retrieves nothing, or the fixed ones.

    Report: tau, that share, tokens found per crop, and how many of them are right, where the truth is known.
    """
    cfg, walk = workspace.cfg, workspace.cfg.walk
    extractor = load_extractor(workspace)
    scored = []
    for crops in training_crops(workspace, walk.crops):
        scores, seeds = token_scores(extractor, collate(crops).to(workspace.device), cfg)
        scored.append((scores, seeds, true_tokens(crops, extractor.encoder.patch)))
    tau = threshold(torch.cat([peak(scores, seeds) for scores, seeds, _ in scored]), walk.empty)
    if walk.thresholds == "fixed":
        taus = {"tau_fg": walk.tau_fg, "tau_bg": walk.tau_bg}
    else:
        taus = {"tau_fg": tau * walk.fg_factor, "tau_bg": tau * walk.bg_factor}
    if workspace.is_first:
        write_json(workspace.path("thresholds.json"), taus)
    final = changed(walk, **taus)
    return {**taus, **quality([(select(d, seeds, final), truth) for d, seeds, truth in scored])}


def true_tokens(crops: list[Sample], patch: int) -> Tensor | None:
    """Which tokens the object covers by half or more, bool [B, n]; None without the truth."""
    masks = [crop.truth.masks for crop in crops if crop.truth is not None and len(crop.truth) == 1]
    if len(masks) < len(crops):
        return None
    return avg_pool2d(torch.cat(masks).float(), patch).flatten(1) >= 0.5


def quality(found: list[tuple[Retrieved, Tensor | None]]) -> dict[str, float]:
    """The share of crops that retrieve nothing, tokens per crop, and precision of both kinds where the truth is known."""
    empty = torch.cat([r.empty for r, _ in found]).float().mean()
    figures = {"empty": float(empty)}
    for kind in ("foreground", "background"):
        tokens = torch.cat([getattr(r, kind) for r, _ in found]).cpu()
        figures[f"{kind}_tokens"] = float(tokens.sum(1).float().mean())
        if all(truth is not None for _, truth in found):
            truth = torch.cat([t for _, t in found if t is not None])
            right = tokens & (truth if kind == "foreground" else ~truth)
            figures[f"{kind}_precision"] = float(right.sum() / tokens.sum().clamp(min=1))
    return figures


def train_network(workspace: Workspace) -> dict[str, Any]:
    """The generator, taught by retrieved tokens, tight boxes and its own smoothed masks."""
    cfg, extractor = workspace.cfg, None
    if cfg.supervision == "extreme_points":
        extractor, taus = load_extractor(workspace), read_json(workspace.path("thresholds.json"))
        cfg = changed(cfg, **{f"walk.{name}": tau for name, tau in taus.items()})

    def step_loss(network: nn.Module, batch: Batch, step: int) -> dict[str, Tensor]:
        return loss(network, batch, find_points(extractor, batch, cfg), ramped(cfg, step))

    data = training_data(workspace.train, cfg)
    workspace.fit("network", build_teaching(cfg), step_loss, data, cfg.network)
    return {"crops": len(data)}


def ramped(cfg: ExitsConfig, step: int) -> ExitsConfig:
    """The settings with the weights of tight boxes and mean field as they are at `step`: they rise from 0."""
    loss = cfg.loss
    rise = {name: min(1.0, step / ramp) for name, ramp in (("mil", loss.mil_ramp), ("crf", loss.crf_ramp)) if ramp}
    return replace(cfg, loss=replace(loss, **{name: getattr(loss, name) * share for name, share in rise.items()}))


def make_masks(workspace: Workspace) -> dict[str, Any]:
    """One mask per annotation of the training images, as COCO JSON.

    Report: how many, how many were empty before `mask.on_empty` took care of them, and their IoU with the truth, where it
    is known, beside that of filled boxes.
    """
    cfg, path = workspace.cfg, workspace.path("pseudo_train.json")
    if not workspace.is_first:
        return {}
    classes, ids = workspace.train.classes, category_ids(workspace.train)
    if cfg.final.masks == "truth":
        truth = ground_truths(workspace.train)
        if truth is None:
            raise ConfigError("final.masks=truth is the upper bound and needs data with true masks; use pseudo")
        rows = zip(samples(workspace.train), truth, strict=True)
        return {"masks": write_instances(path, rows, classes, ids)}
    model = load_network(cfg, workspace.folder).to(workspace.device).eval()
    images, made, boxes, empty = list(samples(workspace.train)), [], [], 0
    for start in range(0, len(images), IMAGES_AT_ONCE):
        batch = collate(images[start : start + IMAGES_AT_ONCE]).to(workspace.device)
        found, _, lost = label_objects(model, batch, cfg)
        made += [masks.to("cpu") for masks in found]
        boxes += [masks.to("cpu") for masks in label_objects(None, batch, cfg)[0]]
        empty += lost
    count = write_instances(path, zip(images, made, strict=True), classes, ids)
    report: dict[str, Any] = {"masks": count, "empty_masks": empty}
    truth = ground_truths(workspace.train)
    if truth is None:
        return report
    return report | iou_by_size(made, truth) | {f"box_{k}": v for k, v in iou_by_size(boxes, truth).items()}


def train_segmenter(workspace: Workspace) -> dict[str, Any]:
    """The final model: any instance segmenter, from the pseudo masks as if they were annotated."""
    cfg, final = workspace.cfg, workspace.cfg.final
    model = fit_segmenter(
        workspace,
        final.segmenter,
        workspace.path("pseudo_train.json"),
        cfg.segmenter,
        final.backbone,
        final.weights,
        "segmenter",
    )
    if workspace.is_first:
        save_weights(workspace.path("segmenter.safetensors"), model)
    return {}


def evaluate(workspace: Workspace) -> dict[str, Any]:
    """COCO mask AP of the final model on the validation images, and how many of the objects in pieces it finds."""
    if workspace.val is None or not workspace.is_first:
        return {}
    model = load_segmenter(workspace.cfg, workspace.folder).to(workspace.device).eval()
    truth = ground_truths(workspace.val)
    if truth is None:
        return {}
    images = (collate([sample]).images.to(workspace.device) for sample in samples(workspace.val))
    found = [predict(model, image)[0] for image in images]
    cut = [t[separated(t.masks)] for t in truth]
    figures = coco_ap(found, truth, workspace.cfg.classes) | {
        "separated_recall": recall(found, cut),
        "separated": sum(map(len, cut)),
    }
    return {k: v for k, v in figures.items() if v == v}
