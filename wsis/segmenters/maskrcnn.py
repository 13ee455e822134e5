"""Mask R-CNN (He et al., ICCV 2017; torchvision's) on this package's trunks, trained on masks of a COCO JSON.

Nothing here knows where the masks are from: any method may write them, and so may an annotator.
"""

from collections import defaultdict
from pathlib import Path
from typing import Any

import torch
from timm.layers import freeze_batch_norm_2d
from torch import Tensor, nn
from torchvision.models.detection import MaskRCNN
from torchvision.models.detection.faster_rcnn import FastRCNNPredictor, TwoMLPHead
from torchvision.models.detection.mask_rcnn import MaskRCNNHeads, MaskRCNNPredictor
from torchvision.models.detection.rpn import AnchorGenerator
from torchvision.ops import FeaturePyramidNetwork, masks_to_boxes
from torchvision.ops.feature_pyramid_network import LastLevelMaxPool

from wsis.backbones import build_pyramid
from wsis.data.checks import read_coco
from wsis.data.labelled import Subset
from wsis.data.masks import decode_masks
from wsis.errors import DataError
from wsis.types import Batch, Dataset, Instances, Sample

SHORT_SIDE = {False: 800, True: 128}  # pixels, by whether the trunk is a tiny one
WIDTH = {False: 256, True: 64}  # channels of the pyramid and of the heads
ANCHORS = (32, 64, 128, 256, 512)  # pixels at a short side of 800


class FeatureNetwork(nn.Module):
    """Trunk and feature pyramid at strides 4, 8, 16, 32, 64, as torchvision's detectors take them."""

    def __init__(self, backbone: str, weights: str, frozen_norm: bool, width: int) -> None:
        super().__init__()
        pyramid = build_pyramid(backbone, weights)
        self.normalisation = [pyramid.mean.flatten().tolist(), pyramid.std.flatten().tolist()]
        self.levels = [pyramid.strides.index(s) for s in (4, 8, 16, 32)]
        channels = [pyramid.channels[level] for level in self.levels]
        self.trunk = freeze_batch_norm_2d(pyramid.body) if frozen_norm else pyramid.body
        self.pyramid = FeaturePyramidNetwork(channels, width, LastLevelMaxPool())
        self.out_channels = width

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        features = self.trunk(images)
        return self.pyramid({str(i): features[level] for i, level in enumerate(self.levels)})


def build_maskrcnn(classes: int, backbone: str, weights: str, frozen_norm: bool) -> MaskRCNN:
    """Mask R-CNN with torchvision's settings on a trunk of `wsis.backbones`; all sizes smaller on a tiny one.

    frozen_norm: keep the batch statistics of the trunk's weights, as usual where they are pretrained.

    Raises:
        ConfigError, WeightsError: see `build_pyramid`.
    """
    tiny = backbone.endswith("_tiny")
    side, width = SHORT_SIDE[tiny], WIDTH[tiny]
    network = FeatureNetwork(backbone, weights, frozen_norm, width)
    mean, std = network.normalisation
    return MaskRCNN(
        network,
        min_size=side,
        max_size=round(side * 5 / 3),
        box_batch_size_per_image=128 if tiny else 512,
        image_mean=mean,
        image_std=std,
        rpn_anchor_generator=AnchorGenerator(
            tuple((a * side / 800,) for a in ANCHORS), ((0.5, 1.0, 2.0),) * 5
        ),
        box_head=TwoMLPHead(49 * width, 4 * width),
        box_predictor=FastRCNNPredictor(4 * width, classes + 1),
        mask_head=MaskRCNNHeads(width, (width,) * 4, 1),
        mask_predictor=MaskRCNNPredictor(width, width, classes + 1),
    )


class JsonMasks:
    """The masks of a COCO JSON by image id; crowds are left out.

    Raises:
        DataError: see `checks.read_coco`; its categories are not `classes`.
    """

    def __init__(self, path: Path, classes: tuple[str, ...]) -> None:
        coco, _ = read_coco(path)
        in_order = sorted(coco["categories"], key=lambda c: c["id"])
        if tuple(c["name"] for c in in_order) != classes:
            raise DataError(
                f"{path}: its categories are not {', '.join(classes)}; write it for the images' data set"
            )
        self.label = {c["id"]: i for i, c in enumerate(in_order)}
        self.of_image: dict[int, list[dict[str, Any]]] = defaultdict(list)
        for annotation in coco["annotations"]:
            if not annotation.get("iscrowd") and "segmentation" in annotation:
                self.of_image[annotation["image_id"]].append(annotation)

    def subset(self, dataset: Dataset) -> Subset:
        """The images with a mask; one without would teach that there is nothing, but may only lack labels."""
        return Subset(dataset, [i for i in range(len(dataset)) if dataset[i].image_id in self.of_image])

    def target(self, image_id: int, height: int, width: int, flip: bool) -> dict[str, Tensor]:
        """Boxes, labels (from 1) and masks of one image, as torchvision's detectors take them."""
        rows = self.of_image[image_id]
        masks = decode_masks([r["segmentation"] for r in rows], height, width)
        labels = torch.tensor([self.label[r["category_id"]] + 1 for r in rows], dtype=torch.long)
        filled = masks.flatten(1).any(1)
        masks = masks.flip(2)[filled] if flip else masks[filled]
        boxes = masks_to_boxes(masks) + torch.tensor([0.0, 0.0, 1.0, 1.0])  # half-open
        return {"boxes": boxes, "labels": labels[filled], "masks": masks.to(torch.uint8)}

    def loss(self, network: nn.Module, batch: Batch, step: int) -> dict[str, Tensor]:
        """torchvision's five terms and their sum, each image flipped with probability 1/2."""
        images, targets = [], []
        for image, valid, image_id in zip(batch.images, batch.valid, batch.image_ids, strict=True):
            height, width = int(valid.any(1).sum()), int(valid.any(0).sum())
            flip = bool(torch.rand(()) < 0.5)
            image = image[:, :height, :width]
            images.append(image.flip(2) if flip else image)
            target = self.target(image_id, height, width, flip)
            targets.append({k: v.to(image.device) for k, v in target.items()})
        terms = network(images, targets)
        return {**terms, "total": torch.stack(list(terms.values())).sum()}


def as_it_is(sample: Sample, seed: int) -> Sample:
    """No augmentation: the detector resizes, the loss flips images together with the masks that it reads."""
    return sample


@torch.no_grad()
def predict(model: nn.Module, images: Tensor) -> list[Instances]:
    """Scored masks of images float32 [B, 3, H, W] in [0, 1], on the CPU."""
    found = model(list(images))
    return [
        Instances.make(f["masks"][:, 0] > 0.5, f["labels"] - 1, scores=f["scores"]).to("cpu") for f in found
    ]
