"""Fully supervised segmenters: the last stage, trained on the masks that a method made.

    masks of any method, as COCO JSON --fit_segmenter--> SOLOv2 | Mask2Former | Mask R-CNN --predict--> scored masks

All three are modules with the same call: `network(images, targets)` gives the terms of the loss, as they enter the
total, and `network(images)` the scored masks of each image. images: a list of float [3, h, w] in [0, 1], of any sizes.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import torch
from timm.layers.norm_act import freeze_batch_norm_2d
from torch import Tensor, nn

from wsis.backbones import load_weights
from wsis.errors import ConfigError
from wsis.runs import Workspace
from wsis.schedule import Schedule
from wsis.segmenters.mask2former import Mask2Former
from wsis.segmenters.maskrcnn import MaskRCNN
from wsis.segmenters.masks import JsonMasks, Terms, View
from wsis.segmenters.solov2 import SOLOv2
from wsis.train import StepLoss
from wsis.types import Batch, Instances, Sample

Name = Literal["solov2", "mask2former", "maskrcnn"]


def build_segmenter(name: Name, classes: int, backbone: str, weights: str) -> SOLOv2 | Mask2Former | MaskRCNN:
    """A segmenter at its published size, or small on a trunk whose name ends in `_tiny`.

    backbone, weights: see `build_pyramid`; only the trunk has weights to start from. Batch norm is frozen in it unless
    they are "random".

    Raises:
        ConfigError: no such segmenter; also, as WeightsError, see `build_pyramid`.
    """
    match name:
        case "solov2":
            return SOLOv2(classes, backbone, weights)
        case "mask2former":
            return Mask2Former(classes, backbone, weights)
        case "maskrcnn":
            return MaskRCNN(classes, backbone, weights)
        case _:
            raise ConfigError(f"no segmenter {name!r}; choose solov2, mask2former or maskrcnn")


def segmenter_loss(masks: JsonMasks, view: View) -> StepLoss:
    """The loss of one step for `train.optimise`: random views of a batch and of the masks of a JSON."""

    def loss(network: nn.Module, batch: Batch, step: int) -> Terms:
        terms = network(*masks.examples(batch, view))
        return {**terms, "total": torch.stack(list(terms.values())).sum()}

    return loss


def fit_segmenter(
    workspace: Workspace, name: Name, path: Path, schedule: Schedule, backbone: str, weights: str, stage: str = "segmenter"
) -> nn.Module:  # fmt: skip
    """Train a segmenter on the masks of a COCO JSON of the workspace's training images; images without any are left out.

    stage: the name of the log and the checkpoints. The caller saves the weights.

    Raises:
        DataError: see `JsonMasks`. ConfigError, WeightsError: see `build_segmenter`. Others: see `train.optimise`.
    """
    classes = tuple(workspace.train.classes)
    masks = JsonMasks(path, classes)
    model = build_segmenter(name, len(classes), backbone, weights)
    loss = segmenter_loss(masks, model.view)
    return workspace.optimise(stage, model, loss, masks.subset(workspace.train), _as_it_is, schedule)


def restore_segmenter(name: Name, classes: int, backbone: str, weights: str, path: Path) -> nn.Module:
    """The trained segmenter whose weights are at `path`; the other arguments are those that it was built with.

    Raises:
        ConfigError, WeightsError: see `build_segmenter`; the weights do not fit.
    """
    model = build_segmenter(name, classes, backbone, "random")
    if weights != "random":
        freeze_batch_norm_2d(model)  # as in training: a frozen norm has other state
    load_weights(model, path)
    return model


def _as_it_is(sample: Sample, seed: int) -> Sample:
    """No augmentation: the loss resizes and flips images together with the masks that it reads."""
    return sample


@torch.no_grad()
def predict(model: nn.Module, images: Tensor | Sequence[Tensor]) -> list[Instances]:
    """The at most 100 best scored masks of each image, on the CPU, at its size.

    images: float32 [B, 3, H, W] in [0, 1] on the model's device. The model is in eval mode.
    """
    return [found.to("cpu") for found in model(list(images))]
