"""SimFormer's network: MaskFormer, whose queries each propose a class and, against the pixels, a mask; and SimNet beside it.

Bowen Cheng, Alexander G. Schwing, Alexander Kirillov: Per-Pixel Classification is Not All You Need for Semantic Segmentation.
NeurIPS 2021 (official code; for `sine_positions` that of DETR).
"""

import math
from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.functional import interpolate
from torchvision.ops import MLP, Conv2dNormActivation

from wsis.methods.simformer.config import DecoderConfig, SimFormerConfig
from wsis.methods.simformer.pairs import PixelPairs
from wsis.methods.simformer.simnet import Comparison, SimNet
from wsis.models.convnets import normalized
from wsis.models.pyramids import STRIDES, Backbone

GROUPS = 32  # groups of channels in the norms of the pixel decoder
DROPOUT = 0.1  # MaskFormer, official config


class Outputs(NamedTuple):
    """The proposals of N queries after each of L layers, all fp32, and the embeddings of the pixels that they are compared to.

    logits: [L, B, N, K + 1], the last class is no object. masks: logits [L, B, N, H / 4, W / 4]. pixels: [B, D, H / 4, W / 4].
    """

    logits: Tensor
    masks: Tensor
    pixels: Tensor
    comparison: Comparison | None = None


class PixelDecoder(nn.Module):
    """A feature pyramid with group norm. Call: [B, C_i, H_i, W_i], strides rising -> [B, width, H_0, W_0]."""

    def __init__(self, channels: list[int], width: int) -> None:
        super().__init__()
        *below, top = channels
        conv = partial(Conv2dNormActivation, out_channels=width, norm_layer=partial(nn.GroupNorm, GROUPS))
        self.top = conv(top)
        self.sides = nn.ModuleList(conv(c, kernel_size=1, activation_layer=None) for c in below)
        self.blocks = nn.ModuleList(conv(width) for _ in below)
        self.last = nn.Conv2d(width, width, 3, padding=1)

    def forward(self, features: list[Tensor]) -> Tensor:
        *below, top = features
        x = self.top(top)
        for side, block, feature in reversed(list(zip(self.sides, self.blocks, below, strict=True))):
            x = block(side(feature) + interpolate(x, feature.shape[-2:], mode="nearest"))
        return self.last(x)


class DecoderLayer(nn.Module):
    """Queries [B, N, D] at positions [N, D] attend to each other, then to an image's keys and values [B, n, D]; post-norm."""

    def __init__(self, cfg: DecoderConfig) -> None:
        super().__init__()
        attention = partial(nn.MultiheadAttention, cfg.width, cfg.heads, DROPOUT, batch_first=True)
        self.to_queries, self.to_image = attention(), attention()
        inner, outer = nn.Linear(cfg.width, cfg.feedforward), nn.Linear(cfg.feedforward, cfg.width)
        self.feedforward = nn.Sequential(inner, nn.ReLU(), nn.Dropout(DROPOUT), outer)
        self.norms = nn.ModuleList(nn.LayerNorm(cfg.width) for _ in range(3))
        self.dropout = nn.Dropout(DROPOUT)

    def forward(self, x: Tensor, positions: Tensor, keys: Tensor, values: Tensor) -> Tensor:
        placed = x + positions
        x = self.norms[0](x + self.dropout(self.to_queries(placed, placed, x, need_weights=False)[0]))
        x = self.norms[1](x + self.dropout(self.to_image(x + positions, keys, values, need_weights=False)[0]))
        return self.norms[2](x + self.dropout(self.feedforward(x)))


class MaskFormer(nn.Module):
    """Call: images [B, 3, H, W] in [0, 1] -> `Outputs`; raises ValueError where H or W is no multiple of 32.

    Learned positions alone tell the queries apart. All layers share one norm and the heads.
    """

    def __init__(self, cfg: SimFormerConfig) -> None:
        super().__init__()
        width = cfg.decoder.width
        self.backbone = Backbone(cfg.backbone, cfg.weights)
        self.pixels = PixelDecoder(self.backbone.channels, width)
        self.values = nn.Conv2d(self.backbone.channels[-1], width, 1)
        self.positions = nn.Parameter(torch.randn(cfg.decoder.queries, width))
        self.layers = nn.ModuleList(DecoderLayer(cfg.decoder) for _ in range(cfg.decoder.layers))
        self.norm, self.label, self.mask = (
            nn.LayerNorm(width),
            nn.Linear(width, cfg.classes + 1),
            MLP(width, [width] * 3),
        )
        # MaskFormer's first weights; the heads keep torch's.
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
        features = self.backbone(normalized(images, self.backbone.mean, self.backbone.std))
        pixels, queries = self.pixels(features), self._queries(features[-1])
        with torch.autocast(images.device.type, enabled=False):  # bf16 would make ties among large logits
            queries, pixels = queries.float(), pixels.float()
            return Outputs(self.label(queries), torch.einsum("lbnd,bdhw->lbnhw", self.mask(queries), pixels), pixels)

    def _queries(self, feature: Tensor) -> Tensor:
        """The queries after each layer, [L, B, N, D]; the next layer gets them without the shared norm."""
        values = self.values(feature).flatten(2).mT
        positions = sine_positions(*feature.shape[-2:], channels=values.shape[2], device=values.device)
        keys = values + positions.to(values.dtype)
        x = torch.zeros_like(self.positions).expand(len(values), -1, -1)
        after = []
        for layer in self.layers:
            x = layer(x, self.positions, keys, values)
            after.append(self.norm(x))
        return torch.stack(after)


class SimFormer(nn.Module):
    """MaskFormer, and SimNet where pixels are compared. Call: images, and in training the pixels to draw -> `Outputs`."""

    def __init__(self, cfg: SimFormerConfig) -> None:
        super().__init__()
        self.network = MaskFormer(cfg)
        self.simnet = SimNet(cfg.decoder.width) if cfg.uses_pairs else None

    def forward(self, images: Tensor, draw: Callable[[], PixelPairs] | None = None) -> Outputs:
        # SimNet is part of the one call in which DistributedDataParallel finds the parameters of a step. The pixels are drawn
        # after the network, since dropout takes its random numbers from the same stream first.
        outputs = self.network(images)
        if self.simnet is None or draw is None:
            return outputs
        return outputs._replace(comparison=self.simnet.compare(outputs.pixels, draw()))


def sine_positions(height: int, width: int, *, channels: int, device: torch.device) -> Tensor:
    """Sines and cosines of the cells of a grid, in rows, fp32 [h w, channels]: the first half for y, the second for x."""
    length = 10_000 ** (torch.arange(0, channels // 2, 2, device=device) / (channels // 2))

    def codes(cells: int) -> Tensor:  # [cells, channels / 2]
        angle = (torch.arange(1, cells + 1, device=device) / cells * (2 * math.pi))[:, None] / length
        return torch.stack([angle.sin(), angle.cos()], 2).flatten(1)

    y, x = codes(height)[:, None].expand(-1, width, -1), codes(width).expand(height, -1, -1)
    return torch.cat([y, x], 2).flatten(0, 1)
