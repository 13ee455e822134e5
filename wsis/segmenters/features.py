"""What the segmenters have in common: a trunk of `wsis.backbones` with its pyramid, padding, and the way back to pixels."""

from timm.layers.norm_act import freeze_batch_norm_2d
from torch import Tensor, nn
from torch.nn.functional import interpolate
from torchvision.ops import FeaturePyramidNetwork
from torchvision.ops.feature_pyramid_network import LastLevelMaxPool

from wsis.backbones import build_pyramid
from wsis.segmenters.masks import Size

STRIDES = (4, 8, 16, 32)


class Trunk(nn.Module):
    """A backbone's features at strides 4, 8, 16, 32, of images that were normalised.

    Batch statistics are kept as they are where the weights were learned before, as usual for detectors.

    Raises:
        ConfigError, WeightsError: see `build_pyramid`.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, backbone: str, weights: str) -> None:
        super().__init__()
        pyramid = build_pyramid(backbone, weights)
        self.body = pyramid.body if weights == "random" else freeze_batch_norm_2d(pyramid.body)
        self.levels = [pyramid.strides.index(s) for s in STRIDES]
        self.channels = [pyramid.channels[level] for level in self.levels]
        self.register_buffer("mean", pyramid.mean, persistent=False)
        self.register_buffer("std", pyramid.std, persistent=False)

    def forward(self, normalised: Tensor) -> list[Tensor]:
        features = self.body(normalised)
        return [features[level] for level in self.levels]

    def stack(self, images: list[Tensor]) -> Tensor:
        """Images [3, h, w] in [0, 1], normalised, in one batch whose sides are multiples of 32; padding is 0."""
        height, width = (-(-max(i.shape[side] for i in images) // 32) * 32 for side in (1, 2))
        batch = images[0].new_zeros(len(images), 3, height, width)
        for row, image in zip(batch, images, strict=True):
            row[:, : image.shape[1], : image.shape[2]] = (image - self.mean) / self.std
        return batch


class FeatureNetwork(nn.Module):
    """Trunk and feature pyramid (Lin et al., CVPR 2017; torchvision's), strides 4, 8, 16, 32, 64, all of one width.

    Call: normalised float [B, 3, H, W] -> [B, width, H / stride, W / stride] by "0", "1", "2", "3" and "pool", as
    torchvision's detectors want them.
    """

    def __init__(self, backbone: str, weights: str, width: int) -> None:
        super().__init__()
        self.trunk = Trunk(backbone, weights)
        self.pyramid = FeaturePyramidNetwork(self.trunk.channels, width, LastLevelMaxPool())
        self.out_channels = width

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        return self.pyramid({str(i): feature for i, feature in enumerate(self.trunk(images))})


def stacked_masks(masks: list[Tensor], size: Size) -> Tensor:
    """Masks uint8 [K_i, h_i, w_i] of all images as one [sum of K_i, *size], padded with 0 like the images."""
    out = masks[0].new_zeros(sum(len(m) for m in masks), *size)
    for part, own in zip(out.split([len(m) for m in masks]), masks, strict=True):
        part[:, : own.shape[1], : own.shape[2]] = own
    return out


def size_of(image: Tensor) -> Size:
    """(height, width) of an image or of a batch."""
    return image.shape[-2], image.shape[-1]


def at_image_size(maps: Tensor, padded: Size, resized: Size, size: Size) -> Tensor:
    """Maps [K, h, w] of a padded image -> [K, *size] of the image itself, bilinear.

    padded: the size that the maps describe; resized: the image's part of it; size: the image's before resizing.
    """
    full = interpolate(maps[:, None], padded, mode="bilinear", align_corners=False)
    full = full[..., : resized[0], : resized[1]]
    if resized != size:
        full = interpolate(full, size, mode="bilinear", align_corners=False)
    return full[:, 0]
