"""The stages of a full AttentionShift run: network -> labels -> evaluation.

Reports compare with the ground truth where there is one; no loss reads it.
"""

from collections.abc import Iterator
from dataclasses import replace
from functools import reduce
from itertools import islice
from typing import cast

import torch
from torch import Tensor, nn

from wsis.core.files import read_json, write_json
from wsis.core.report import report
from wsis.core.types import IGNORE, Batch, Instances
from wsis.data.masks import filled_boxes
from wsis.data.transforms import resize
from wsis.data.wrappers import ground_truths, samples
from wsis.evaluation.features import FeatureSimilarity
from wsis.evaluation.instances import iou_by_size, voc_ap
from wsis.methods.attentionshift import verbs
from wsis.methods.attentionshift.config import AttentionShiftConfig
from wsis.methods.attentionshift.detector import AttentionShift
from wsis.methods.attentionshift.model import pad_to_multiple
from wsis.methods.attentionshift.parts import KeyPoints
from wsis.ops.patches import PatchGrid, patch_index
from wsis.training.stages import Report, Stage, Workspace, first_process, numbers

Curve = list[dict[str, float]]
CURVE = "similarity.json"


def stages(cfg: AttentionShiftConfig) -> list[Stage]:
    """The stages of `cfg` in order."""
    every = " ".join(vars(cfg))
    labels = Stage("labels", "pseudo_train.json", make_labels, every, "network")
    return [
        Stage("network", "network.safetensors", train_network, every),
        *([labels] if cfg.oracle != "masks" else []),  # of this oracle they are the true masks
        Stage("evaluation", "", evaluate, every, "network"),
    ]


def train_network(workspace: Workspace) -> Report:
    """Train with labels made in every step. Report: `similarity` at each measurement (supp. Fig. 1) and its summary."""
    cfg, due = workspace.cfg, measured_at(workspace.cfg)
    if cfg.classes == 1 and cfg.boxes.layers > 1:
        report("one class cannot teach which layer's boxes are best; --set boxes.layers=1 takes the last layer's")

    def step_loss(network: nn.Module, batch: Batch, step: int) -> dict[str, Tensor]:
        if step in due:
            measure(workspace, network, step)
        return verbs.loss(network, batch, verbs.targets(network, batch, cfg), cfg)

    data = verbs.training_data(workspace.train, cfg)
    model = workspace.fit("network", verbs.build(cfg), step_loss, data, cfg.network)
    if due:
        measure(workspace, model, cfg.network.steps)
    curve = read_curve(workspace)
    return {"similarity": curve, **(summary(curve) if len(curve) > 2 else {})} if curve else {}


def measured_at(cfg: AttentionShiftConfig) -> set[int]:
    """Steps before which the similarity of features is measured, evenly spread from 0 on; the end comes on top."""
    return {round(k * cfg.network.steps / cfg.statistics.times) for k in range(cfg.statistics.times)}


def read_curve(workspace: Workspace) -> Curve:
    path = workspace.path(CURVE)
    return read_json(path) if path.exists() else []


def summary(curve: Curve) -> dict[str, float]:
    """Means over training without its start, which all runs share; within classes those of the first half, and the end.

    The first is that of pairs of patches, the others are of mean features.
    """
    after = curve[1:]
    half = after[: len(after) // 2]
    return {
        "foreground_background": sum(row["foreground_background_patches"] for row in after) / len(after),
        "inter_class": sum(row["inter_class"] for row in after) / len(after),
        "intra_class_early": sum(row["intra_class"] for row in half) / len(half),
        "intra_class_end": after[-1]["intra_class"],
    }


@torch.no_grad()
def measure(workspace: Workspace, network: nn.Module, step: int) -> None:
    """Add how similar features are on validation images to the curve (supp. Fig. 1)."""
    if workspace.val is None or not workspace.is_first:
        return
    cfg, model = workspace.cfg, cast(AttentionShift, getattr(network, "module", network))
    model.eval()
    patch, similarity = model.encoder.patch, FeatureSimilarity(cfg.classes, model.encoder.width)
    for sample in islice(samples(workspace.val), cfg.statistics.images):
        small = resize(sample, verbs.inference_size(sample.size, cfg))
        if small.truth is not None:
            images, known = pad_to_multiple(workspace.batch(small).images, patch), small.true_semantic
            known = None if known is None else pad_to_multiple((known != IGNORE)[None], patch, "constant")
            with torch.autocast(images.device.type, enabled=False):  # as after the training
                features = model.encoder(images, attention=False).features
            similarity.update(features, [small.truth], patch, known)
    model.train()
    curve = [row for row in read_curve(workspace) if row["step"] < step]
    write_json(workspace.path(CURVE), [*curve, {"step": step, **similarity.result()}])


@first_process
@torch.no_grad()
def make_labels(workspace: Workspace) -> Report:
    """One mask per point as COCO JSON. Report: their number and, with the ground truth, the IoU of the masks and boxes.

    trivial: for each object the whole image, or its box where an oracle knows it. parts: the number of an object's, and the
    share of all key-points that lie on their object.
    """
    cfg, boxes, whole, parts, hits = workspace.cfg, [], [], [], []
    model = verbs.restore(cfg, workspace.folder).to(workspace.device).eval()

    def masks() -> Iterator[Instances]:
        for sample in samples(workspace.train):
            known = verbs.with_owners(sample) if cfg.oracle == "boxes" else sample
            small = verbs.inference_size(sample.size, cfg)
            ratio = torch.tensor([sample.size[1] / small[1], sample.size[0] / small[0]] * 2)
            found, filled = [], []
            for (instances,), labels in verbs.label_groups(model, workspace.batch(known), cfg):
                assert labels is not None
                found.append(instances)
                filled.append(boxed(instances.to("cpu"), labels.boxes[0].cpu() * ratio))
                if labels.key_points is not None:
                    parts.append(labels.steps["merged"][0].sum(-1).cpu())
                    hits.append(on_objects(labels.key_points, ratio, instances.ids.cpu(), sample.truth))
            boxes.append(reduce(Instances.cat, filled))
            frame = torch.tensor([[0.0, 0, *sample.size[::-1]]]).expand(len(boxes[-1]), 4)
            whole.append(boxed(boxes[-1], frame) if cfg.oracle == "none" else boxes[-1])
            yield reduce(Instances.cat, found)

    report = workspace.write_masks(workspace.path("pseudo_train.json"), masks())
    truth = ground_truths(workspace.train)
    if truth is None:
        return report
    truth = [t[t.runs.areas > 0] for t in truth]
    bounds = [boxed(t, t.runs.boxes.float()) for t in truth]
    trivial = {f"trivial_{name}": iou_by_size(whole, t)["mIoU"] for name, t in (("mIoU", truth), ("box_IoU", bounds))}
    found = {"parts": parts, "key_points_on_object": hits}
    means = {name: float(torch.cat(values).float().mean()) for name, values in found.items() if values}
    return report | numbers({"box_IoU": iou_by_size(boxes, bounds)["mIoU"]} | trivial | means)


def on_objects(points: KeyPoints, ratio: Tensor, ids: Tensor, truth: Instances | None) -> Tensor:
    """Which key-points of one image lie on their object, those of objects with a true mask: bool [K].

    ratio: [4], how many times larger the image is than that of the points, for xyxy. ids: long [G] of the objects.
    """
    if truth is None:
        return torch.zeros(0, dtype=torch.bool)
    row, number = (ids[:, None] == truth.ids).nonzero(as_tuple=True)
    (height, width), here = truth.runs.size, points.present[0].cpu()[row]
    pixel = patch_index((points.xy[0].cpu() + 0.5) * ratio[:2] - 0.5, PatchGrid(height, width, 1))[row]
    parts = zip(truth.runs[number].parts(), pixel, here, strict=True)
    hits = [part.holds(at[known] // width, at[known] % width) for part, at, known in parts]
    return torch.cat([torch.zeros(0, dtype=torch.bool), *hits])


def boxed(instances: Instances, boxes: Tensor) -> Instances:
    """Objects with boxes [K, 4] as their masks."""
    return replace(instances, runs=filled_boxes(boxes, instances.runs.size))


@first_process
def evaluate(workspace: Workspace) -> Report:
    """VOC mask AP on the validation images, all of the area under the curve; `_11point` as the release counts.

    mIoU_in_boxes: of the masks that the network makes where boxes and classes are the true ones, trivial: of filled boxes.
    """
    cfg = workspace.cfg
    model = verbs.restore(cfg, workspace.folder).to(workspace.device).eval()
    pair = workspace.predictions(lambda images: verbs.predict(model, images, cfg))
    if pair is None:
        return {}
    older = voc_ap(*pair, cfg.classes, interpolation="11point_released" if cfg.compat == "official" else "11point")
    report = numbers(voc_ap(*pair, cfg.classes) | {f"{name}_11point": value for name, value in older.items()})
    truth, given = [t[t.runs.areas > 0] for t in pair[1]], []
    for sample, true in zip(workspace.validation(), truth, strict=True):
        inside = true.runs.boxes.float().to(workspace.device), true.labels.to(workspace.device)
        masks = verbs.masks_in_boxes(model, workspace.batch(sample).images, *inside, cfg)
        given.append(replace(true, runs=masks))
    filled = iou_by_size([boxed(t, t.runs.boxes.float()) for t in truth], truth)["mIoU"]
    return report | {"mIoU_in_boxes": iou_by_size(given, truth)["mIoU"], "trivial_mIoU_in_boxes": filled}
