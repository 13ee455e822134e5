"""The steps of a full AttentionShift run, from one point per object to a trained network and its figures.

    network -> labels -> evaluation

Reports compare with the truth where there is one; no loss reads it.
"""

from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn
from torchvision.ops import masks_to_boxes

from wsis.core.files import read_json, write_json
from wsis.core.types import Batch, Instances
from wsis.data.coco_json import write_instances
from wsis.data.masks import box_pixels
from wsis.data.transforms import collate, resize, short_side
from wsis.data.wrappers import category_ids, ground_truths, samples
from wsis.evaluation.features import FeatureSimilarity
from wsis.evaluation.instances import iou_by_size, voc_ap
from wsis.methods.attentionshift.config import AttentionShiftConfig
from wsis.methods.attentionshift.verbs import build, divisible, loss, predict, pseudo_labels, restore, training_data
from wsis.training.stages import Stage, Workspace

Curve = list[dict[str, float]]


def stages(cfg: AttentionShiftConfig) -> list[Stage]:
    """The stages of `cfg` in order."""
    everything = tuple(vars(cfg))
    return [
        Stage(name="network", artefact="network.safetensors", run=train_network, settings=everything),
        Stage(name="labels", artefact="pseudo_train.json", run=make_labels, settings=everything, needs=("network",)),
        Stage(name="evaluation", artefact="", run=evaluate, settings=everything, needs=("network",)),
    ]


def train_network(workspace: Workspace) -> dict[str, Any]:
    """The network, taught by labels that it makes itself in every step.

    Report: `similarity`, one row per measurement (supp. Fig. 1), with the step, and what the claims compare.
    """
    cfg = workspace.cfg
    due = measured_at(cfg)

    def step_loss(network: nn.Module, batch: Batch, step: int) -> dict[str, Tensor]:
        if step in due:
            measure(workspace, network, step)
        return loss(network, batch, None, cfg)

    data = training_data(workspace.train, cfg)
    model = workspace.fit("network", build(cfg), step_loss, data, cfg.network)
    if due:
        measure(workspace, model, cfg.network.steps)
    curve = read_curve(workspace)
    return {"similarity": curve, **summary(curve)} if len(curve) > 2 else {}


def measured_at(cfg: AttentionShiftConfig) -> set[int]:
    """Steps before which the similarity of features is measured, evenly spread from 0 on; the end comes on top."""
    return {round(k * cfg.network.steps / cfg.statistics.times) for k in range(cfg.statistics.times)}


def read_curve(workspace: Workspace) -> Curve:
    """The measurements so far, in order."""
    path = workspace.path("similarity.json")
    return read_json(path) if path.exists() else []


def summary(curve: Curve) -> dict[str, float]:
    """Means over training without its start, which all runs share; within classes also the first half and the end.

    Object and background are compared patch by patch, objects with objects by their means, see `FeatureSimilarity`.
    """
    after = curve[1:]

    def over(name: str, rows: Curve) -> float:
        return sum(row[name] for row in rows) / len(rows)

    return {
        "foreground_background": over("foreground_background_patches", after),
        "inter_class": over("inter_class", after),
        "intra_class_early": over("intra_class", after[: len(after) // 2]),
        "intra_class_end": after[-1]["intra_class"],
    }


@torch.no_grad()
def measure(workspace: Workspace, network: nn.Module, step: int) -> None:
    """Add how alike features are on validation images; the truth is read to measure only (spec: supp. Fig. 1)."""
    if workspace.val is None or not workspace.is_first:
        return
    cfg, model = workspace.cfg, getattr(network, "module", network)
    model.eval()
    found = FeatureSimilarity(cfg.classes, model.encoder.width)
    for index in range(min(cfg.statistics.images, len(workspace.val))):
        sample = workspace.val[index]
        if sample.truth is not None:
            sample = resize(sample, short_side(sample.size, cfg.size.test_short, cfg.size.test_long))
            batch = divisible(collate([sample]).to(workspace.device), model.encoder.patch)
            features = model.encoder(batch.images, attention=False).features
            found.update(features, [sample.truth], model.encoder.patch)
    model.train()
    curve = [row for row in read_curve(workspace) if row["step"] < step]
    write_json(workspace.path("similarity.json"), [*curve, {"step": step, **found.result()}])


@torch.no_grad()
def make_labels(workspace: Workspace) -> dict[str, Any]:
    """One mask per point of the training images, as COCO JSON, so that any segmenter can learn from them.

    Report: how many, and the IoU with the truth, where it is known, of the masks, and of the pseudo boxes that they lie in.
    """
    cfg, path = workspace.cfg, workspace.path("pseudo_train.json")
    if not workspace.is_first:
        return {}
    model = restore(cfg, workspace.folder).to(workspace.device).eval()
    made, boxes = [], []
    for sample in samples(workspace.train):
        (found,), trace = pseudo_labels(model, collate([sample]).to(workspace.device), cfg, trace=True)
        made.append(found.to("cpu"))
        boxes.append(boxed(made[-1], trace.steps["boxes"][0].cpu(), sample.size, cfg))
    rows = zip(samples(workspace.train), made, strict=True)
    count = write_instances(path, rows, workspace.train.classes, category_ids(workspace.train))
    truth = ground_truths(workspace.train)
    if truth is None:
        return {"masks": count}
    box_iou = iou_by_size(boxes, [bounded(t) for t in truth])["mIoU"]
    return {"masks": count, **iou_by_size(made, truth), "box_IoU": box_iou}


def boxed(found: Instances, boxes: Tensor, size: tuple[int, int], cfg: AttentionShiftConfig) -> Instances:
    """`found` with its pseudo boxes [G, 4], at the size of inference, as masks of an image of `size`."""
    small = short_side(size, cfg.size.test_short, cfg.size.test_long)
    ratio = torch.tensor([size[1] / small[1], size[0] / small[0]]).repeat(2)
    return replace(found, masks=box_pixels(boxes * ratio, size))


def bounded(truth: Instances) -> Instances:
    """Objects with their boxes as masks."""
    filled = truth[truth.masks.flatten(1).any(1)]
    boxes = masks_to_boxes(filled.masks) + torch.tensor([0.0, 0.0, 1.0, 1.0])
    return replace(filled, masks=box_pixels(boxes, filled.masks.shape[1:]))


@torch.no_grad()
def evaluate(workspace: Workspace) -> dict[str, Any]:
    """VOC mask AP on the validation images, all of the area under the curve; `_11point` as the release counts."""
    cfg = workspace.cfg
    if workspace.val is None or not workspace.is_first:
        return {}
    truth = ground_truths(workspace.val)
    if truth is None:
        return {}
    model = restore(cfg, workspace.folder).to(workspace.device).eval()
    images = (collate([sample]).images.to(workspace.device) for sample in samples(workspace.val))
    found = [predict(model, image, cfg)[0].to("cpu") for image in images]
    figures = voc_ap(found, truth, cfg.classes)
    older = voc_ap(found, truth, cfg.classes, interpolation="11point")
    named = figures | {f"{name}_11point": value for name, value in older.items()}
    return {name: value for name, value in named.items() if isinstance(value, float) and value == value}
