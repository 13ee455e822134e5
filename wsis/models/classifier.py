"""A classifier of image tags whose maps say where it sees each class: class activation maps (Zhou et al., CVPR 2016)."""

import math

import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor, nn
from torch.nn.functional import interpolate

from wsis.models.convnets import Pyramid

Images = Float[Tensor, "B 3 H W"]
Maps = Float[Tensor, "B K H W"]
Tags = Bool[Tensor, "B C"]
ClassMaps = Int64[Tensor, "B H W"]


class CamClassifier(nn.Module):
    """Backbone, three 3 x 3 convolutions ("layer 6" of BESTIE's official code), 1 x 1 convolution to class activation maps.

    width: of the convolutions, at most that of the backbone. last: the module after each of them.
    """

    def __init__(self, backbone: Pyramid, width: int, classes: int, last: nn.Module) -> None:
        super().__init__()
        self.backbone = backbone
        deep = backbone.channels[-1]
        width = min(deep, width)
        blocks = [(nn.Conv2d(inside, width, 3, padding=1), last) for inside in (deep, width, width)]
        self.layer6 = nn.Sequential(*(m for block in blocks for m in block))
        self.head = nn.Conv2d(width, classes, 1)
        for conv in (*(conv for conv, _ in blocks), self.head):
            nn.init.normal_(conv.weight, std=math.sqrt(2 / (conv.kernel_size[0] ** 2 * conv.out_channels)))
            nn.init.constant_(conv.get_parameter("bias"), 0)

    def forward(self, images: Tensor) -> Tensor:
        """Class activation logits [B, C, h, w]; their spatial mean is the logit of the image."""
        return self.head(self.layer6(self.backbone(images)[-1]))


@torch.no_grad()
def activation_maps(
    model: nn.Module, images: Images, tags: Tags, size: tuple[int, int], scales: tuple[float, ...] = (1.0,)
) -> Maps:
    """Class activation maps in [0, 1]: the positive activations, averaged over scales, divided by their maximum, averaged over
    the image and its mirror image.

    images: in [0, 1]. tags: the maps of other classes are 0. size: (H, W) of the result.
    """
    total = torch.zeros(1, device=images.device)
    for scale in scales:
        x = whole_cells(images, scale)
        maps = model(torch.cat([x, x.flip(3)])).relu()
        total = total + interpolate(maps, size, mode="bilinear", align_corners=False)
    plain, flipped = normalized(total).chunk(2)
    return (plain + flipped.flip(3)) / 2 * tags[:, :, None, None]


def whole_cells(images: Images, scale: float = 1.0) -> Images:
    """Images at a scale, with sides in multiples of 32: the cells of a flipped image are then those of the plain one."""
    sides = [max(32, round(side * scale / 32) * 32) for side in images.shape[-2:]]
    return interpolate(images, sides, mode="bilinear", align_corners=False)


def normalized(maps: Maps) -> Maps:
    """Each map divided by its maximum (BESTIE, official code)."""
    return maps / (maps.amax((2, 3), keepdim=True) + 1e-5)
