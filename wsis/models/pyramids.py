"""Any backbone by its name, as features of rising stride."""

from timm.layers.norm_act import freeze_batch_norm_2d
from torch import Tensor, nn
from torchvision.ops import FeaturePyramidNetwork
from torchvision.ops.feature_pyramid_network import LastLevelMaxPool

from wsis.models.convnets import TRANSFORMERS, Pyramid, build_convnet
from wsis.models.vit_pyramid import build_vit_pyramid

STRIDES = (4, 8, 16, 32)


def build_pyramid(name: str, weights: str, output_stride: int = 32) -> Pyramid:
    """Build the backbone `name`: a convolutional network (`build_convnet`) or a transformer (`build_vit_pyramid`)."""
    return build_vit_pyramid(name, weights) if name in TRANSFORMERS else build_convnet(name, weights, output_stride)


class Backbone(nn.Module):
    """Features at strides 4, 8, 16, 32 of normalized images; batch norm is frozen unless the weights are random."""

    mean: Tensor
    std: Tensor

    def __init__(self, backbone: str, weights: str) -> None:
        super().__init__()
        pyramid = build_pyramid(backbone, weights)
        self.network = pyramid.network if weights == "random" else freeze_batch_norm_2d(pyramid.network)
        self.levels = [pyramid.strides.index(s) for s in STRIDES]
        self.channels = [pyramid.channels[level] for level in self.levels]
        self.register_buffer("mean", pyramid.mean, persistent=False)
        self.register_buffer("std", pyramid.std, persistent=False)

    def forward(self, normalized: Tensor) -> list[Tensor]:
        features = self.network(normalized)
        return [features[level] for level in self.levels]

    def stack(self, images: list[Tensor]) -> Tensor:
        """Stack images [3, h, w] in [0, 1] as one normalized batch whose sides are multiples of 32; padding is 0."""
        height, width = (-(-max(i.shape[side] for i in images) // 32) * 32 for side in (1, 2))
        batch = images[0].new_zeros(len(images), 3, height, width)
        for row, image in zip(batch, images, strict=True):
            row[:, : image.shape[1], : image.shape[2]] = (image - self.mean) / self.std
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
