"""A plain vision transformer as a feature pyramid: four of its layers, brought from one stride to four.

Layers and strides are those of AttentionShift's detector (official code); BESTIE has them in AttentionShift's supp. Table 3.
"""

from torch import Tensor, nn

from wsis.models.convnets import Pyramid
from wsis.models.vit import ViT, build_vit

TAPS = (4, 6, 8, 12)
"""Layers that are read, counted from 1, of twelve; of fewer layers those at the same shares of the depth."""


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


def build_vit_pyramid(name: str, weights: str) -> Pyramid:
    """Build the transformer of `build_vit`, which see for errors, with a pyramid whose layers are always new."""
    network = ViTStages(build_vit(name, weights))
    p = network.vit.patch
    none = (0.0,) * 3, (1.0,) * 3  # the network normalizes
    return Pyramid(network, [network.vit.width] * 4, [p // 4, p // 2, p, 2 * p], *none)
