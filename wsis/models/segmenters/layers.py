"""What the segmenters have in common: a backbone with its feature pyramid, padding, and the way back to pixels."""

from torch import Tensor, nn
from torch.nn.functional import interpolate
from torchvision.ops import FeaturePyramidNetwork
from torchvision.ops.feature_pyramid_network import LastLevelMaxPool

from wsis.models.pyramids import Backbone
from wsis.models.segmenters.targets import Size


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


def stacked_masks(masks: list[Tensor], size: Size) -> Tensor:
    """Stack masks uint8 [K_i, h_i, w_i] of all images as one [sum of K_i, *size], padded with 0 like the images."""
    out = masks[0].new_zeros(sum(len(m) for m in masks), *size)
    for part, m in zip(out.split([len(m) for m in masks]), masks, strict=True):
        part[:, : m.shape[1], : m.shape[2]] = m
    return out


def size_of(image: Tensor) -> Size:
    return image.shape[-2], image.shape[-1]


def at_image_size(maps: Tensor, padded: Size, resized: Size, size: Size) -> Tensor:
    """Bring maps [K, h, w] of an image that fills `resized` of `padded` to its own size, bilinearly: [K, *size]."""
    full = interpolate(maps[:, None], padded, mode="bilinear", align_corners=False)
    full = full[..., : resized[0], : resized[1]]
    if resized != size:
        full = interpolate(full, size, mode="bilinear", align_corners=False)
    return full[:, 0]
