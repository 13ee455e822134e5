"""A segmenter trained on the masks that a method made."""

from pathlib import Path

import torch
from torch import nn

from wsis.core.types import Batch, Sample
from wsis.models.segmenters import Name, build_segmenter
from wsis.models.segmenters.targets import JsonMasks, Terms, View
from wsis.training.loop import StepLoss, TrainingData
from wsis.training.schedule import Schedule
from wsis.training.stages import Workspace


def segmenter_loss(masks: JsonMasks, view: View) -> StepLoss:
    """The loss of one step for `loop.train`: random views of a batch and of the masks of a JSON."""

    def loss(network: nn.Module, batch: Batch, step: int) -> Terms:
        terms = network(*masks.examples(batch, view))
        return {**terms, "total": torch.stack(list(terms.values())).sum()}

    return loss


def fit_segmenter(
    workspace: Workspace, name: Name, path: Path, schedule: Schedule, backbone: str, weights: str, stage: str = "final"
) -> nn.Module:
    """Train a segmenter on the masks of a COCO JSON of the workspace's training images; images without any are left out.

    stage: the name of the log, the checkpoints and the weights `<stage>.safetensors`.
    """
    classes = tuple(workspace.train.classes)
    masks = JsonMasks(path, classes)
    model = build_segmenter(name, len(classes), backbone, weights)
    loss = segmenter_loss(masks, model.view)
    data = TrainingData(dataset=masks.subset(workspace.train), augment=_as_it_is)
    return workspace.fit(stage, model, loss, data, schedule)


def _as_it_is(sample: Sample, seed: int) -> Sample:
    """No augmentation: the loss resizes and flips images together with the masks that it reads."""
    return sample
