"""Fully supervised segmenters: the last stage, trained on the masks that a method made.

    masks of any method, as COCO JSON --Workspace.fit_segmenter--> SOLOv2 | Mask2Former | Mask R-CNN --predict--> scored masks

All three have the same call: `network(images, targets)` gives the weighted terms of the loss, and `network(images)` the
scored masks of each image. images: a list of float [3, h, w] in [0, 1], of any sizes.
"""

from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor, nn

from wsis.core.errors import ConfigError
from wsis.core.types import Instances
from wsis.models.segmenters.mask2former import Mask2Former
from wsis.models.segmenters.maskrcnn import MaskRCNN
from wsis.models.segmenters.solov2 import SOLOv2
from wsis.models.segmenters.targets import Target, Terms

Name = Literal["solov2", "mask2former", "maskrcnn"]
Segmenter = SOLOv2 | Mask2Former | MaskRCNN
SEGMENTERS = {"solov2": SOLOv2, "mask2former": Mask2Former, "maskrcnn": MaskRCNN}


def build_segmenter(name: Name, classes: int, backbone: str, weights: str) -> Segmenter:
    """Build a segmenter at the scale of its backbone, see `convnets.scale_of`; ConfigError for other names.

    Only the backbone has weights to start from (see `build_pyramid`, also for errors); its batch norm is frozen unless
    they are "random".
    """
    if name not in SEGMENTERS:
        raise ConfigError(f"no segmenter {name!r}; choose solov2, mask2former or maskrcnn")
    return SEGMENTERS[name](classes, backbone, weights)


def segmenter_terms(model: nn.Module, images: list[Tensor], targets: list[Target]) -> Terms:
    """Return the terms of the loss on images, float [3, h, w], and their targets, with their sum as `total`."""
    terms = model(images, targets)
    return {**terms, "total": torch.stack(list(terms.values())).sum()}


@torch.no_grad()
def predict(model: nn.Module, images: Tensor | Sequence[Tensor]) -> list[Instances]:
    """Return the 100 best scored masks, or fewer, of each image float32 [3, H, W] in [0, 1], on the CPU, at its size."""
    return [instances.to("cpu") for instances in model(list(images))]
