"""The steps of a full SimFormer run.

    network -> labels, class maps of the training images -> retrained -> evaluation

The first alone, then the evaluation, with `retrain.steps=0`. Reports compare with the truth; no loss reads it.
"""

from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from wsis.core.errors import DataError
from wsis.core.files import atomic
from wsis.core.types import Batch, Sample
from wsis.data.label_maps import write_label_map
from wsis.data.transforms import collate
from wsis.data.wrappers import Labelled, samples
from wsis.evaluation.semantic import MeanIoU, grouped_iou
from wsis.methods.simformer.config import SimFormerConfig
from wsis.methods.simformer.verbs import (
    build,
    crops,
    load_network,
    loss,
    plain,
    predict,
    pseudo_labels,
    restore,
    training_data,
)
from wsis.training.loop import TrainingData
from wsis.training.stages import Stage, Workspace
from wsis.weak.simulate import with_base_masks

MAPS = "pseudo_train"


def stages(cfg: SimFormerConfig) -> list[Stage]:
    """The stages of `cfg` in order."""
    later = {"retrain", "pseudo"} if cfg.masks == "base" else {"retrain", "pseudo", "split", "novel"}
    first = tuple(name for name in vars(cfg) if name not in later)  # one oracle serves all splits
    found = [Stage(name="network", artefact="network.safetensors", run=train_network, settings=first)]
    if cfg.retrain.steps:
        found += [
            Stage(
                name="labels", artefact=MAPS, run=make_labels, settings=("pseudo", "split", "novel"), needs=("network",)
            ),
            Stage(
                name="retrained",
                artefact="retrained.safetensors",
                run=retrain,
                settings=tuple(vars(cfg)),
                needs=("labels",),
            ),
        ]
    last = found[-1].name
    judged = ("size", "split", "novel")
    return [*found, Stage(name="evaluation", artefact="", run=evaluate, settings=judged, needs=(last,))]


def train_network(workspace: Workspace) -> dict[str, Any]:
    """MaskFormer with SimNet where pairs teach; the oracle with the true masks of all classes."""
    _learn(workspace, "network", workspace.cfg, training_data(workspace.train, workspace.cfg))
    return {}


def retrain(workspace: Workspace) -> dict[str, Any]:
    """A plain MaskFormer from the start, on the maps that the first one made."""
    maps = Labelled(workspace.train, workspace.path(MAPS))
    data = TrainingData(dataset=maps, augment=crops(workspace.cfg, "given"), annotates=True)
    _learn(workspace, "retrained", plain(workspace.cfg), data)
    return {}


def _learn(workspace: Workspace, name: str, cfg: SimFormerConfig, data: TrainingData) -> None:
    """Train a network and save it under the stage's name."""

    def step_loss(network: nn.Module, batch: Batch, step: int) -> dict[str, Tensor]:
        return loss(network, batch, None, cfg)

    schedule = cfg.network if name == "network" else cfg.retrain
    workspace.fit(name, build(cfg), step_loss, data, schedule)


@torch.no_grad()
def make_labels(workspace: Workspace) -> dict[str, Any]:
    """Label PNGs of the training images: base classes as annotated, novel ones as predicted among the image's tags.

    Report: IoU with the truth.
    """
    cfg = workspace.cfg
    if not workspace.is_first:
        return {}
    model = load_network(cfg, workspace.path("network.safetensors")).to(workspace.device).eval()
    metric = MeanIoU(cfg.classes + 1)
    with atomic(workspace.path(MAPS)) as folder:
        folder.mkdir(parents=True)
        for sample in samples(workspace.train):
            given = with_base_masks(sample, cfg.novel, cfg.masks)
            made = pseudo_labels(model, collate([given]).to(workspace.device), cfg)[0].cpu()
            write_label_map(folder / f"{Path(sample.file_name).stem}.png", made.to(torch.uint8))
            metric.update(made, _truth(sample))
    return _figures(metric, cfg)


@torch.no_grad()
def evaluate(workspace: Workspace) -> dict[str, Any]:
    """IoU of base and novel classes on the validation images, at their own size."""
    cfg = workspace.cfg
    if workspace.val is None or not workspace.is_first:
        return {}
    model = restore(cfg, workspace.folder).to(workspace.device).eval()
    metric = MeanIoU(cfg.classes + 1)
    for sample in samples(workspace.val):
        found = predict(model, collate([sample]).images.to(workspace.device), cfg)[0]
        metric.update(found.cpu(), _truth(sample))
    return _figures(metric, cfg)


def _truth(sample: Sample) -> Tensor:
    if sample.true_semantic is None:
        raise DataError(f"image {sample.image_id} has no label PNG to compare with")
    return sample.true_semantic


def _figures(metric: MeanIoU, cfg: SimFormerConfig) -> dict[str, float]:
    """Those that are numbers."""
    found = grouped_iou(metric, cfg.novel)
    return {name: value for name, value in found.items() if isinstance(value, float) and value == value}
