"""SimFormer's network, which is MaskFormer's: queries that each say a class and, against the pixels, a mask.

Bowen Cheng, Alexander G. Schwing, Alexander Kirillov: Per-Pixel Classification is Not All You Need for Semantic
Segmentation. NeurIPS 2021. In SimFormer the classes are learned from tags too, the masks from base classes.
    MaskFormer, official code    PixelDecoder, DecoderLayer, MaskFormer
    DETR, official code          sine_positions
"""

import math
from functools import partial
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.functional import interpolate
from torchvision.ops import MLP, Conv2dNormActivation

from wsis.methods.simformer.config import NetworkConfig, SimFormerConfig
from wsis.models.pyramids import STRIDES, Backbone

GROUPS = 32  # of channels, in the norms of the pixel decoder


class Outputs(NamedTuple):
    """What N queries say after each of L layers, all fp32, and the pixels that they are compared with.

    logits: [L, B, N, K + 1] of classes, the last is no object. masks: [L, B, N, H / 4, W / 4] logits.
    pixels: [B, D, H / 4, W / 4], as the last convolution leaves them.
    """

    logits: Tensor
    masks: Tensor
    pixels: Tensor


class PixelDecoder(nn.Module):
    """A feature pyramid with group norm. Call: [B, C_i, H_i, W_i], strides rising -> [B, width, H_0, W_0].

    From the top down: the level above, enlarged, plus a 1 x 1 convolution of the level, then a 3 x 3 convolution.
    """

    def __init__(self, channels: list[int], width: int) -> None:
        super().__init__()
        norm = partial(nn.GroupNorm, GROUPS)
        *below, top = channels
        self.top = Conv2dNormActivation(top, width, 3, norm_layer=norm)
        self.sides = nn.ModuleList(
            Conv2dNormActivation(c, width, 1, norm_layer=norm, activation_layer=None) for c in below
        )
        self.blocks = nn.ModuleList(Conv2dNormActivation(width, width, 3, norm_layer=norm) for _ in below)
        self.last = nn.Conv2d(width, width, 3, padding=1)

    def forward(self, features: list[Tensor]) -> Tensor:
        *below, top = features
        x = self.top(top)
        for side, block, feature in reversed(list(zip(self.sides, self.blocks, below, strict=True))):
            x = block(side(feature) + interpolate(x, feature.shape[-2:], mode="nearest"))
        return self.last(x)


class DecoderLayer(nn.Module):
    """Queries look at each other, then at the image, then each at itself; a norm after each sum.

    Call: queries [B, N, D], their positions [N, D], keys and values [B, n, D] of the image -> [B, N, D].
    """

    def __init__(self, cfg: NetworkConfig) -> None:
        super().__init__()
        attention = partial(nn.MultiheadAttention, cfg.width, cfg.heads, cfg.dropout, batch_first=True)
        self.to_queries, self.to_image = attention(), attention()
        self.feedforward = nn.Sequential(
            nn.Linear(cfg.width, cfg.feedforward),
            nn.ReLU(),
            nn.Dropout(cfg.dropout),
            nn.Linear(cfg.feedforward, cfg.width),
        )
        self.norms = nn.ModuleList(nn.LayerNorm(cfg.width) for _ in range(3))
        self.dropout = nn.Dropout(cfg.dropout)

    def forward(self, x: Tensor, positions: Tensor, keys: Tensor, values: Tensor) -> Tensor:
        placed = x + positions
        seen, _ = self.to_queries(placed, placed, x, need_weights=False)
        x = self.norms[0](x + self.dropout(seen))
        seen, _ = self.to_image(x + positions, keys, values, need_weights=False)
        x = self.norms[1](x + self.dropout(seen))
        return self.norms[2](x + self.dropout(self.feedforward(x)))


class MaskFormer(nn.Module):
    """Call: images [B, 3, H, W] in [0, 1], H and W multiples of 32 -> `Outputs`.

    The queries start at 0; all that tells them apart are learned positions. All layers share one norm and the heads.

    Raises:
        ConfigError, WeightsError: see `build_pyramid`. ValueError: sides that are no multiples of 32.
    """

    def __init__(self, cfg: SimFormerConfig) -> None:
        super().__init__()
        net = cfg.net
        self.backbone = Backbone(net.backbone, net.weights)
        self.pixels = PixelDecoder(self.backbone.channels, net.width)
        self.values = nn.Conv2d(self.backbone.channels[-1], net.width, 1)
        self.positions = nn.Parameter(torch.randn(net.queries, net.width))
        self.layers = nn.ModuleList(DecoderLayer(net) for _ in range(net.layers))
        self.norm = nn.LayerNorm(net.width)
        self.label = nn.Linear(net.width, cfg.classes + 1)
        self.mask = MLP(net.width, [net.width] * 3)
        self._start()

    def _start(self) -> None:
        """MaskFormer's first weights; the heads keep torch's."""
        for module in (*self.pixels.modules(), self.values):
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_uniform_(module.weight, a=1)
                if module.bias is not None:
                    nn.init.zeros_(module.bias)
        for parameter in self.layers.parameters():
            if parameter.ndim > 1:
                nn.init.xavier_uniform_(parameter)

    def forward(self, images: Tensor) -> Outputs:
        height, width = images.shape[-2:]
        if height % STRIDES[-1] or width % STRIDES[-1]:
            raise ValueError(f"images of {height} x {width} pixels; pad both sides to multiples of {STRIDES[-1]}")
        features = self.backbone((images - self.backbone.mean) / self.backbone.std)
        pixels, queries = self.pixels(features), self._queries(features[-1])
        with torch.autocast(images.device.type, enabled=False):  # bf16 would make ties among large logits
            queries, pixels = queries.float(), pixels.float()
            masks = torch.einsum("lbnd,bdhw->lbnhw", self.mask(queries), pixels)
            return Outputs(self.label(queries), masks, pixels)

    def _queries(self, feature: Tensor) -> Tensor:
        """The queries after each layer, [L, B, N, D]; what the next layer gets is without the shared norm."""
        values = self.values(feature).flatten(2).mT
        places = sine_positions(*feature.shape[-2:], channels=values.shape[2], device=values.device)
        keys = values + places.to(values.dtype)
        x = torch.zeros_like(self.positions).expand(len(values), -1, -1)
        after = []
        for layer in self.layers:
            x = layer(x, self.positions, keys, values)
            after.append(self.norm(x))
        return torch.stack(after)


def sine_positions(height: int, width: int, *, channels: int, device: torch.device) -> Tensor:
    """Codes of the cells of a grid, row by row, fp32 [h w, channels]: the first half tells y, the second x.

    Each half has sines and cosines in turn, of wave lengths that grow by equal factors from the grid's
    side to nearly 10,000 times that.
    """
    half = channels // 2
    length = 10_000 ** (torch.arange(0, half, 2, device=device) / half)

    def codes(cells: int) -> Tensor:  # [cells, half]
        turn = torch.arange(1, cells + 1, device=device) / cells * (2 * math.pi)
        angle = turn[:, None] / length
        return torch.stack([angle.sin(), angle.cos()], 2).flatten(1)

    y, x = codes(height), codes(width)
    return torch.cat([y[:, None].expand(-1, width, -1), x.expand(height, -1, -1)], 2).flatten(0, 1)
