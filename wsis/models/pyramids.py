"""Any backbone by its name, as features of rising stride.

Of a plain vision transformer four layers are brought from one stride to four. Layers and strides are those of
AttentionShift's detector (official code); BESTIE has them in AttentionShift's supp. Table 3. The other way round, the features
of a convolutional network are brought to one stride as tokens.
"""

from typing import Literal

import torch
from timm.layers.norm_act import freeze_batch_norm_2d
from torch import Tensor, nn
from torch.nn.functional import interpolate, normalize
from torchvision.ops import FeaturePyramidNetwork
from torchvision.ops.feature_pyramid_network import LastLevelMaxPool

from wsis.models.convnets import TRANSFORMERS, Pyramid, build_convnet, normalized
from wsis.models.vit import ViT, build_vit

STRIDES = (4, 8, 16, 32)
TAPS = (4, 6, 8, 12)
"""Layers that are read, counted from 1, of twelve; of fewer layers those at the same shares of the depth."""
TEMPERATURE = 0.15
"""Of the cosine of convolutional features (ours): on training crops .3 retrieved more points, of which fewer were right."""


def build_pyramid(name: str, weights: str, output_stride: int = 32) -> Pyramid:
    """Build the backbone `name`: `build_convnet`, or the transformer of `build_vit` with a pyramid whose layers are new."""
    if name not in TRANSFORMERS:
        return build_convnet(name, weights, output_stride)
    network = ViTStages(build_vit(name, weights))
    p = network.vit.patch
    none = (0.0,) * 3, (1.0,) * 3  # the network normalizes
    return Pyramid(network, [network.vit.width] * 4, [p // 4, p // 2, p, 2 * p], *none)


class ConvTokens(nn.Module):
    """A convolutional network in the place of a `ViT`. Its last two features, each of length 1 and side by side, say how
    similar tokens are; what heads read is a new linear map of them. Batch norm is frozen: batches of crops are small.

    Call: float [B, 3, H, W] in [0, 1], H and W multiples of the last stride -> tokens [B, n, D]. Attributes: patch (pixels,
    the stride of the last feature but one), width D.
    """

    width = 128

    def __init__(self, pyramid: Pyramid) -> None:
        super().__init__()
        pyramid.network = freeze_batch_norm_2d(pyramid.network)
        self.backbone, self.patch = pyramid, pyramid.strides[-2]
        self.project = nn.Linear(sum(pyramid.channels[-2:]), self.width)

    def features(self, images: Tensor) -> Tensor:
        levels = self.backbone(images)[-2:]
        grid = levels[0].shape[-2:]
        parts = [normalize(interpolate(level, grid, mode="bilinear", align_corners=False)) for level in levels]
        return torch.cat(parts, 1).flatten(2).mT

    def forward(self, images: Tensor) -> Tensor:
        features = self.features(images)
        return self.project(features * (features.shape[2] / 2) ** 0.5)  # of mean square 1, as after a norm

    def attention(self, images: Tensor, layer: int = 0) -> Tensor:
        """Return the softmax of cosine / `TEMPERATURE` of tokens, fp32 [B, n, n]; as `ViT.attention`, but without layers."""
        tokens = normalize(self.features(images).float(), dim=-1)
        with torch.autocast(images.device.type, enabled=False):
            return (tokens @ tokens.mT / TEMPERATURE).softmax(-1)


def build_tokens(name: str, weights: str, stem: Literal["patch", "conv"] = "patch") -> ViT | ConvTokens:
    """Build the backbone `name`: `build_vit`, or the tokens of `build_convnet`."""
    return build_vit(name, weights, stem) if name in TRANSFORMERS else ConvTokens(build_convnet(name, weights))


class Backbone(nn.Module):
    """Features at strides 4, 8, 16, 32 of normalized images; batch norm is frozen unless the weights are random."""

    mean: Tensor
    std: Tensor

    def __init__(self, backbone: str, weights: str) -> None:
        super().__init__()
        pyramid = build_pyramid(backbone, weights)
        self.network = pyramid.network if weights == "random" else freeze_batch_norm_2d(pyramid.network)
        self.levels = [pyramid.level(s) for s in STRIDES]
        self.channels = [pyramid.channels[level] for level in self.levels]
        self.register_buffer("mean", pyramid.mean)
        self.register_buffer("std", pyramid.std)

    def forward(self, normalized: Tensor) -> list[Tensor]:
        features = self.network(normalized)
        return [features[level] for level in self.levels]

    def stack(self, images: list[Tensor]) -> Tensor:
        """Stack images [3, h, w] in [0, 1] as one normalized batch whose sides are multiples of 32; padding is 0."""
        height, width = (-(-max(i.shape[side] for i in images) // 32) * 32 for side in (1, 2))
        batch = images[0].new_zeros(len(images), 3, height, width)
        for row, image in zip(batch, images, strict=True):
            row[:, : image.shape[1], : image.shape[2]] = normalized(image, self.mean, self.std)
        return batch


class FeatureNetwork(nn.Module):
    """Backbone and feature pyramid (Lin et al., CVPR 2017; torchvision's), strides 4, 8, 16, 32, 64, all of one width.

    Call: normalized float [B, 3, H, W] -> [B, width, H / stride, W / stride] by torchvision's "0", "1", "2", "3", "pool".
    """

    def __init__(self, backbone: str, weights: str, width: int) -> None:
        super().__init__()
        self.backbone = Backbone(backbone, weights)
        self.pyramid = FeaturePyramidNetwork(self.backbone.channels, width, LastLevelMaxPool())
        self.out_channels = width

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        return self.pyramid({str(i): feature for i, feature in enumerate(self.backbone(images))})


class ViTPyramid(nn.Module):
    """Features [B, D, h, w] of four layers at stride p -> [B, D, ...] at strides p/4, p/2, p, 2p (sides rounded up)."""

    def __init__(self, width: int) -> None:
        super().__init__()
        first, last, alone = (nn.ConvTranspose2d(width, width, 2, stride=2) for _ in range(3))
        fourfold = nn.Sequential(first, nn.BatchNorm2d(width), nn.GELU(), last)
        self.levels = nn.ModuleList([fourfold, alone, nn.Identity(), nn.MaxPool2d(2, ceil_mode=True)])

    def forward(self, taps: list[Tensor]) -> list[Tensor]:
        return [level(tap) for level, tap in zip(self.levels, taps, strict=True)]


class ViTStages(nn.Module):
    """The transformer with its pyramid: float [B, 3, H, W] in [0, 1], normalized here -> the four features of `ViTPyramid`."""

    def __init__(self, vit: ViT) -> None:
        super().__init__()
        self.vit, self.pyramid = vit, ViTPyramid(vit.width)
        self.taps = [round(tap * vit.depth / TAPS[-1]) for tap in TAPS]

    def forward(self, images: Tensor) -> list[Tensor]:
        x, features = self.vit.embed(images), []
        for start, stop in zip((0, *self.taps), self.taps, strict=False):
            x = self.vit.run(x, start, stop)
            features.append(patch_features(x, images, self.vit.patch))
        return self.pyramid(features)


def patch_features(x: Tensor, images: Tensor, patch: int) -> Tensor:
    """Return the patches of tokens [B, 1 + n or more, D] of images [B, 3, H, W] as features [B, D, H / patch, W / patch]."""
    height, width = (side // patch for side in images.shape[-2:])
    return x[:, 1 : 1 + height * width].mT.unflatten(2, (height, width))
