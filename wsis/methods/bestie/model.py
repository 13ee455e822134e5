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
from jaxtyping import Bool, Float, Int64
from torch import Tensor, nn
from torch.nn.functional import interpolate
from torchvision.models.segmentation.deeplabv3 import ASPP
from torchvision.ops import Conv2dNormActivation

from wsis.core.errors import ConfigError
from wsis.methods.bestie.config import BestieConfig
from wsis.models.convnets import Pyramid, VGGStages
from wsis.models.pyramids import build_pyramid

ClassMaps = Int64[Tensor, "B H W"]
Images = Float[Tensor, "B 3 H W"]
Maps = Float[Tensor, "B K H W"]
Tags = Bool[Tensor, "B C"]


class PeakAttention(nn.Module):
    r"""Keep what is close to the peak: :math:`y = x` where :math:`x \ge \alpha \max_{yx} x`, else 0 (Listing 1).

    It takes the place of a ReLU, in training and in inference; the maximum is per image and channel.
    """

    def __init__(self, alpha: float) -> None:
        super().__init__()
        self.alpha = alpha

    def forward(self, x: Tensor) -> Tensor:
        x = x.relu()
        return x * (x >= self.alpha * x.amax((2, 3), keepdim=True))


class PeakSuppression(nn.Module):
    """The opposite, from DRS: clip at delta times the maximum, which lets less salient regions catch up."""

    def __init__(self, delta: float = 0.55) -> None:  # recalled from the DRS release
        super().__init__()
        self.delta = delta

    def forward(self, x: Tensor) -> Tensor:
        x = x.relu()
        return torch.minimum(x, self.delta * x.amax((2, 3), keepdim=True))


class Classifier(nn.Module):
    """Backbone at stride 8, three 3 x 3 convolutions ("layer 6"), 1 x 1 convolution to class activation maps.

    activation: what follows the convolutions of the stages in `layers` (4, 5: of VGG; 6: the new ones).
    """

    def __init__(
        self, backbone: str, weights: str, classes: int, activation: nn.Module, layers: tuple[int, ...]
    ) -> None:
        super().__init__()
        if wrong := set(layers) - {4, 5, 6}:
            raise ConfigError(f"pam.layers={layers}: {sorted(wrong)} are no stages; choose from 4, 5, 6")
        self.backbone = build_pyramid(backbone, weights, output_stride=8)
        if stages := sorted(set(layers) - {6}):
            if not isinstance(self.backbone.network, VGGStages):
                raise ConfigError(
                    "pam.layers 4 and 5 are stages of VGG; with another classifier_backbone take [6] or []"
                )
            for block in (self.backbone.network.stages[stage - 1] for stage in stages):
                for name in [name for name, module in block.named_children() if isinstance(module, nn.ReLU)]:
                    setattr(block, name, activation)
        width = min(self.backbone.channels[-1], 512)
        last = activation if 6 in layers else nn.ReLU()
        channels = [self.backbone.channels[-1], width, width, width]
        blocks = [[nn.Conv2d(i, o, 3, padding=1), last] for i, o in zip(channels, channels[1:], strict=False)]
        self.layer6 = nn.Sequential(*(m for block in blocks for m in block))
        self.head = nn.Conv2d(width, classes, 1)
        for m in [*self.layer6, self.head]:
            if isinstance(m, nn.Conv2d):
                nn.init.normal_(m.weight, std=math.sqrt(2 / (m.kernel_size[0] ** 2 * m.out_channels)))
                assert m.bias is not None
                nn.init.zeros_(m.bias)

    def forward(self, images: Tensor) -> Tensor:
        """Class activation logits [B, C, h, w]; their spatial mean is the logit of the image."""
        return self.head(self.layer6(self.backbone(images)[-1]))


class Outputs(NamedTuple):
    """What the network says of each pixel; offset: (dy, dx) in pixels to the center of its object.

    semantic: logits of C + 1 channels, the first for the background. center: about 0 to 1, C channels or one for all classes.
    """

    semantic: Maps
    center: Maps
    offset: Maps

    def resized(self, size: tuple[int, int]) -> "Outputs":
        """At another size (H, W): maps interpolated, offsets also scaled to the new pixels."""
        if size == tuple(self.offset.shape[-2:]):
            return self
        ratio = [new / old for new, old in zip(size, self.offset.shape[-2:], strict=True)]
        scale = torch.tensor(ratio, device=self.offset.device)[:, None, None]
        semantic, center, offset = (interpolate(x, size, mode="bilinear", align_corners=False) for x in self)
        return Outputs(semantic, center, offset * scale)


class BestieNet(nn.Module):
    """Backbone and heads; all outputs at the size of the image, in fp32, since labels are made from them."""

    def __init__(self, cfg: BestieConfig) -> None:
        super().__init__()
        self.backbone = build_pyramid(cfg.backbone, cfg.weights)
        centers = cfg.classes if cfg.center_mode == "class_wise" else 1
        channels = (cfg.classes + 1, centers, 2)
        high_resolution = cfg.backbone.startswith("hrnet")
        if high_resolution:
            self.decoder = HighResolutionHeads(self.backbone, cfg.width, channels)
        else:
            self.decoder = PanopticDeepLab(self.backbone, cfg.width, channels, cfg.bn_momentum)
        # Bilinear sampling of an affine offset field is exact where the grids agree: HRNet heads sit at pixel
        # centers (4 i + 1.5), the other decoder was trained with aligned corners.
        self.align_corners = not high_resolution

    def forward(self, images: Tensor) -> Outputs:
        maps = self.decoder(self.backbone(images))
        size = images.shape[-2:]
        align = self.align_corners
        return Outputs(*(interpolate(x.float(), size, mode="bilinear", align_corners=align) for x in maps))


class HighResolutionHeads(nn.Module):
    """Three heads on the stride-4 branch of HRNet: 3 x 3 convolution, ReLU, 1 x 1 convolution."""

    def __init__(self, backbone: Pyramid, width: int, channels: tuple[int, ...]) -> None:
        super().__init__()
        self.level = backbone.strides.index(4)
        inside = backbone.channels[self.level]
        self.heads = nn.ModuleList(
            nn.Sequential(nn.Conv2d(inside, width, 3, padding=1), nn.ReLU(), nn.Conv2d(width, out, 1))
            for out in channels
        )
        initialize(self)

    def forward(self, features: list[Tensor]) -> list[Tensor]:
        return [head(features[self.level]) for head in self.heads]


class PanopticDeepLab(nn.Module):
    """Panoptic-DeepLab's semantic decoder and instance decoder (half as wide), with skips of strides 16, 8 and 4."""

    def __init__(self, backbone: Pyramid, width: int, channels: tuple[int, ...], bn_momentum: float) -> None:
        super().__init__()
        skips = [backbone.channels[backbone.strides.index(s)] for s in (16, 8, 4)]
        self.levels = [backbone.strides.index(s) for s in (16, 8, 4)]
        deep = backbone.channels[-1]
        self.semantic = Decoder(deep, skips, [width // 2, width // 4, width // 8], width, width)
        self.instance = Decoder(deep, skips, [width // 4, width // 8, width // 16], width, width // 2)
        inside, hidden = (width, width // 2, width // 2), (width, width // 2, width // 8)
        self.heads = nn.ModuleList(
            nn.Sequential(separable(i, h), nn.Conv2d(h, o, 1)) for i, h, o in zip(inside, hidden, channels, strict=True)
        )
        for m in self.modules():
            if isinstance(m, nn.BatchNorm2d):
                m.momentum = bn_momentum
        initialize(self)

    def forward(self, features: list[Tensor]) -> list[Tensor]:
        skips = [features[level] for level in self.levels]
        semantic, instance = self.semantic(features[-1], skips), self.instance(features[-1], skips)
        return [head(x) for head, x in zip(self.heads, (semantic, instance, instance), strict=True)]


class Decoder(nn.Module):
    """ASPP with rates 3, 6, 9, then a projection and a 5 x 5 separable convolution per skip connection."""

    def __init__(self, deep: int, skips: list[int], projections: list[int], aspp: int, width: int) -> None:
        super().__init__()
        self.aspp = ASPP(deep, (3, 6, 9), aspp)
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


def initialize(module: nn.Module) -> None:
    """N(0, 0.001) for new convolutions: center maps start near 0, and refinement begins by itself."""
    for m in module.modules():
        if isinstance(m, nn.Conv2d):
            nn.init.normal_(m.weight, std=0.001)
            if m.bias is not None:
                nn.init.zeros_(m.bias)
