"""Mask R-CNN (He et al., ICCV 2017; torchvision's) on this package's backbones."""

from torch import Tensor, nn
from torchvision.models.detection import MaskRCNN as Detector
from torchvision.models.detection.faster_rcnn import FastRCNNPredictor, TwoMLPHead
from torchvision.models.detection.mask_rcnn import MaskRCNNHeads, MaskRCNNPredictor
from torchvision.models.detection.rpn import AnchorGenerator
from torchvision.models.detection.transform import resize_boxes

from wsis.core.types import Instances
from wsis.models.convnets import scale_of
from wsis.models.pyramids import FeatureNetwork
from wsis.models.segmenters.targets import SMALL, Target, Terms, View, size_of
from wsis.ops.enlarge import pasted

SHORT_SIDE = {"full": 800, "small": round(SMALL * 800), "tiny": 128}  # pixels, by the scale of the backbone
WIDTH = {"full": 256, "small": 128, "tiny": 64}  # channels of the pyramid and of the heads
BOXES = {"full": 512, "small": 256, "tiny": 128}  # per image, for the loss
ANCHORS = (32, 64, 128, 256, 512)  # pixels at a short side of 800


class MaskRCNN(nn.Module):
    """torchvision's detector with its settings on a backbone of this package, whose scale decides all sizes."""

    view = View()  # the detector resizes by itself

    def __init__(self, classes: int, backbone: str, weights: str) -> None:
        super().__init__()
        scale = scale_of(backbone)
        side, width = SHORT_SIDE[scale], WIDTH[scale]
        network = FeatureNetwork(backbone, weights, width)
        self.detector = Detector(
            network,
            min_size=side,
            max_size=round(side * 5 / 3),
            box_batch_size_per_image=BOXES[scale],
            image_mean=network.backbone.mean.flatten().tolist(),
            image_std=network.backbone.std.flatten().tolist(),
            rpn_anchor_generator=AnchorGenerator(tuple((a * side / 800,) for a in ANCHORS), ((0.5, 1.0, 2.0),) * 5),
            box_head=TwoMLPHead(49 * width, 4 * width),
            box_predictor=FastRCNNPredictor(4 * width, classes + 1),
            mask_head=MaskRCNNHeads(width, (width,) * 4, 1),
            mask_predictor=MaskRCNNPredictor(width, width, classes + 1),
        )

    def forward(self, images: list[Tensor], targets: list[Target] | None = None) -> Terms | list[Instances]:
        if targets is not None:
            boxed = [{"boxes": t.boxes, "labels": t.labels + 1, "masks": t.masks} for t in targets]
            return self.detector(images, boxed)
        return [self.detect(image) for image in images]

    def detect(self, image: Tensor) -> Instances:
        """The objects of an image [3, H, W]. The detector's own call holds all masks at the size of the image."""
        detector, size = self.detector, size_of(image)
        resized, _ = detector.transform([image])
        features = detector.backbone(resized.tensors)
        proposals, _ = detector.rpn(resized, features)
        (found,), _ = detector.roi_heads(features, proposals, resized.image_sizes)
        boxes = resize_boxes(found["boxes"], list(resized.image_sizes[0]), list(size))
        runs = pasted(found["masks"][:, 0], boxes, size)
        return Instances.make(runs, found["labels"] - 1, scores=found["scores"])
