"""A segmenter trained on the masks that a method made."""

from pathlib import Path

import torch
from torch import nn

from wsis.core.types import Batch
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
    workspace: Workspace, name: Name, path: Path, schedule: Schedule, backbone: str, weights: str
) -> nn.Module:
    """Train a segmenter on the masks of a COCO JSON of the training images, as `final`; images without masks are left out."""
    masks = JsonMasks(path, tuple(workspace.train.classes))
    model = build_segmenter(name, len(workspace.train.classes), backbone, weights)
    # There is no augmentation here: the loss resizes and flips images together with the masks that it reads.
    data = TrainingData(dataset=masks.subset(workspace.train), augment=lambda sample, seed: sample)
    return workspace.fit("final", model, segmenter_loss(masks, model.view), data, schedule)
