"""BESTIE's two networks: the classifier with peak attention, and the network of semantic, center and offset maps.

Beomyoung Kim, Youngjoon Yoo, Chae Eun Rhee, Junmo Kim: Beyond Semantic to Instance Segmentation: Weakly-Supervised
Instance Segmentation via Semantic Knowledge Transfer and Self-Refinement. CVPR 2022, arXiv 2109.09477.
Official code: github.com/clovaai/BESTIE (Apache-2.0).
    supp. Listing 1, Fig. 2   PeakAttention, Classifier
    supp. text 2d, Table 1    HighResolutionHeads on HRNet-48, PanopticDeepLab on ResNet-50
"""

import math
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.functional import interpolate
from torchvision.models.segmentation.deeplabv3 import ASPP
from torchvision.ops import Conv2dNormActivation

from wsis.core.errors import ConfigError
from wsis.methods.bestie.config import BestieConfig
from wsis.models.classifier import CamClassifier, Images, Maps
from wsis.models.convnets import Pyramid, VGGStages, finest_branch
from wsis.models.pyramids import build_pyramid


class PeakAttention(nn.Module):
    """Keep what is near the peak: y = x where x >= alpha max(x), else 0.

    It takes the place of a ReLU, in training and in inference; the maximum is per image and
    channel (supp. Listing 1).
    """

    def __init__(self, alpha: float) -> None:
        super().__init__()
        self.alpha = alpha

    def forward(self, x: Tensor) -> Tensor:
        x = x.relu()
        return x * (x >= self.alpha * x.amax((2, 3), keepdim=True))


class Classifier(CamClassifier):
    """The classifier at stride 8, with peak attention in place of the ReLUs in the stages of `pam.layers` (4, 5: of VGG; 6: the
    new convolutions).
    """

    def __init__(self, cfg: BestieConfig) -> None:
        layers, attend = set(cfg.pam.layers), PeakAttention(cfg.pam.alpha)
        if wrong := layers - {4, 5, 6}:
            raise ConfigError(f"pam.layers={cfg.pam.layers}: {sorted(wrong)} are no stages; choose from 4, 5, 6")
        backbone = build_pyramid(cfg.classifier_backbone, cfg.classifier_weights, output_stride=8)
        for stage in layers - {6}:
            if not isinstance(backbone.network, VGGStages):
                raise ConfigError("pam.layers 4 and 5 are stages of VGG; with another classifier_backbone take [6]")
            block = backbone.network.stages[stage - 1]
            for name in [name for name, module in block.named_children() if isinstance(module, nn.ReLU)]:
                setattr(block, name, attend)
        super().__init__(backbone, cfg.classifier_width, cfg.classes, attend if 6 in layers else nn.ReLU())


class Outputs(NamedTuple):
    """What the network says of each pixel; offset: (dy, dx) in pixels to the center of its object.

    semantic: logits of C + 1 channels, the first for the background. center: about 0 to 1, C channels or one for all classes.
    """

    semantic: Maps
    center: Maps
    offset: Maps


class BestieNet(nn.Module):
    """Backbone and heads; all outputs at the size of the image, in fp32, since labels are made from them."""

    def __init__(self, cfg: BestieConfig) -> None:
        super().__init__()
        self.backbone = build_pyramid(cfg.backbone, cfg.weights)
        channels = (cfg.classes + 1, cfg.classes if cfg.center_mode == "class_wise" else 1, 2)
        high_resolution = cfg.backbone.startswith("hrnet")
        if high_resolution:  # the release's last module has one output, too
            finest_branch(self.backbone)
        self.decoder = (HighResolutionHeads if high_resolution else PanopticDeepLab)(self.backbone, cfg.width, channels)
        for m in self.decoder.modules():
            if isinstance(m, nn.Conv2d):
                nn.init.normal_(m.weight, std=cfg.init)  # center maps start near 0, and refinement begins by itself
                if m.bias is not None:
                    nn.init.zeros_(m.bias)
            elif isinstance(m, nn.BatchNorm2d):
                m.momentum = cfg.bn_momentum
        # Bilinear sampling of an affine offset field is exact where the grids agree: HRNet heads sit at pixel
        # centers (4 i + 1.5), the other decoder was trained with aligned corners.
        self.align_corners = not high_resolution

    def forward(self, images: Tensor) -> Outputs:
        features, size = self.backbone(images), images.shape[-2:]
        kind = "cuda" if images.is_cuda else "cpu"
        with torch.autocast(kind, enabled=False):  # in bf16 neighbors would be equally high, and each of them a center
            maps = self.decoder([x.float() for x in features])
        resized = (interpolate(x.float(), size, mode="bilinear", align_corners=self.align_corners) for x in maps)
        return Outputs(*resized)


def infer(model: nn.Module, images: Images, cfg: BestieConfig) -> Outputs:
    """The network's maps at the images' size, from sides that are multiples of 32, optionally averaged over a flip."""
    size = (images.shape[-2], images.shape[-1])
    scale = cfg.size.test_long_side / max(size) if cfg.size.test_long_side else 1.0
    sides, linear = [math.ceil(side * scale / 32) * 32 for side in size], {"mode": "bilinear", "align_corners": False}
    x = interpolate(images, sides, **linear, antialias=scale < 1)  # as training shrinks images
    outputs: Outputs = model(x)
    if cfg.flip:
        mirrored = Outputs(*(m.flip(3) for m in model(x.flip(3))))
        semantic = torch.logaddexp(outputs.semantic.log_softmax(1), mirrored.semantic.log_softmax(1)) - math.log(2)
        offset = outputs.offset
        if cfg.compat == "clean":  # the release averages the other two maps only
            mirror = torch.tensor([1.0, -1.0], device=offset.device)[:, None, None]
            offset = (offset + mirrored.offset * mirror) / 2
        outputs = Outputs(semantic, (outputs.center + mirrored.center) / 2, offset)
    ratio = [new / old for new, old in zip(size, outputs.offset.shape[-2:], strict=True)]
    if ratio == [1, 1]:
        return outputs
    semantic, center, offset = (interpolate(m, size, **linear) for m in outputs)
    if cfg.compat == "clean":  # the release leaves the offsets the length that they have in the stretched image
        offset = offset * offset.new_tensor(ratio)[:, None, None]
    return Outputs(semantic, center, offset)


class HighResolutionHeads(nn.Module):
    """Three heads on the stride-4 branch of HRNet: 3 x 3 convolution, ReLU, 1 x 1 convolution."""

    def __init__(self, backbone: Pyramid, width: int, channels: tuple[int, ...]) -> None:
        super().__init__()
        self.level = backbone.level(4)
        inside = backbone.channels[self.level]
        heads = ((nn.Conv2d(inside, width, 3, padding=1), nn.ReLU(), nn.Conv2d(width, out, 1)) for out in channels)
        self.heads = nn.ModuleList(nn.Sequential(*layers) for layers in heads)

    def forward(self, features: list[Tensor]) -> list[Tensor]:
        return [head(features[self.level]) for head in self.heads]


class PanopticDeepLab(nn.Module):
    """Panoptic-DeepLab's semantic decoder and instance decoder (half as wide), with skips of strides 16, 8 and 4."""

    def __init__(self, backbone: Pyramid, width: int, channels: tuple[int, ...]) -> None:
        super().__init__()
        self.levels = [backbone.level(s) for s in (16, 8, 4)]
        skips, deep = [backbone.channels[level] for level in self.levels], backbone.channels[-1]
        self.semantic = Decoder(deep, skips, [width // 2, width // 4, width // 8], width, width)
        self.instance = Decoder(deep, skips, [width // 4, width // 8, width // 16], width, width // 2)
        inside, hidden = (width, width // 2, width // 2), (width, width // 2, width // 8)
        heads = zip(inside, hidden, channels, strict=True)
        self.heads = nn.ModuleList(nn.Sequential(separable(i, h), nn.Conv2d(h, out, 1)) for i, h, out in heads)

    def forward(self, features: list[Tensor]) -> list[Tensor]:
        skips = [features[level] for level in self.levels]
        semantic, instance = self.semantic(features[-1], skips), self.instance(features[-1], skips)
        return [head(x) for head, x in zip(self.heads, (semantic, instance, instance), strict=True)]


class Decoder(nn.Module):
    """ASPP with rates 3, 6, 9, then a projection and a 5 x 5 separable convolution per skip connection."""

    def __init__(self, deep: int, skips: list[int], projections: list[int], aspp: int, width: int) -> None:
        super().__init__()
        self.aspp = ASPP(deep, (3, 6, 9), aspp)
        # Panoptic-DeepLab's pooled branch has no batch norm, which would refuse a single image.
        self.aspp.convs[-1].add_module("2", nn.Identity())
        self.project = nn.ModuleList(Conv2dNormActivation(i, o, 1) for i, o in zip(skips, projections, strict=True))
        inside = [aspp, width, width]
        self.fuse = nn.ModuleList(separable(i + p, width) for i, p in zip(inside, projections, strict=True))

    def forward(self, x: Tensor, skips: list[Tensor]) -> Tensor:
        x = self.aspp(x)
        for project, fuse, skip in zip(self.project, self.fuse, skips, strict=True):
            x = interpolate(x, skip.shape[-2:], mode="bilinear", align_corners=True)
            x = fuse(torch.cat([x, project(skip)], dim=1))
        return x


def separable(inside: int, out: int) -> nn.Sequential:
    """A 5 x 5 depthwise convolution, then a 1 x 1 convolution."""
    return nn.Sequential(Conv2dNormActivation(inside, inside, 5, groups=inside), Conv2dNormActivation(inside, out, 1))
