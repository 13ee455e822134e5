"""AttentionShift's networks: the transformer with learned tokens, the tokens' heads, and the scores of candidate boxes.

Mingxiang Liao et al.: AttentionShift: Iteratively Estimated Part-based Attention Map for Pointly Supervised Instance
Segmentation. CVPR 2023. Official code: github.com/MingXiangL/AttentionShift.
"""

from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import torch
from timm.layers.drop import DropPath
from torch import Tensor, nn
from torch.nn.functional import interpolate, pad
from torchvision.ops import MLP, roi_align

from wsis.core.errors import ConfigError
from wsis.core.types import Batch
from wsis.methods.attentionshift.config import AttentionShiftConfig
from wsis.models.pyramids import patch_features
from wsis.models.vit import TOKENS, build_vit, has_tokens
from wsis.models.weights import load_weights, shipped
from wsis.ops.patches import PatchGrid
from wsis.ops.rollout import QueryKey

CELLS = 7  # along the side of a box's features


class Encoded(NamedTuple):
    """Features of images; their T tokens are the class token, h w patches and P learned tokens."""

    grid: PatchGrid
    features: Tensor  # [B, D, h, w] of the last layer, without a norm
    taps: list[Tensor]  # the same for the layers in `heads.taps`
    tokens: Tensor  # [B, P, D]
    layers: list[QueryKey]  # fp32 [B, heads, T, d] of the last K layers, the last one first


def pad_to_multiple(x: Tensor, multiple: int, mode: str = "replicate") -> Tensor:
    """Pad [B, ..., H, W] at the right and at the bottom, with the last pixels or, with "constant", with 0."""
    right, bottom = (-side % multiple for side in (x.shape[-1], x.shape[-2]))
    return pad(x, (0, right, 0, bottom), mode=mode)


def divisible(batch: Batch, multiple: int) -> Batch:
    """The batch with sides that are multiples of `multiple`, see `pad_to_multiple`."""
    valid, maps = pad_to_multiple(batch.valid, multiple, "constant"), batch.semantic_maps
    maps = None if maps is None else pad_to_multiple(maps, multiple, "constant")
    return replace(batch, images=pad_to_multiple(batch.images, multiple), valid=valid, semantic_maps=maps)


def load_tokens(module: nn.Module, cfg: AttentionShiftConfig, prefix: str) -> None:
    """Load a part of weights that come with learned tokens and their places, if `cfg` starts from such a file."""
    path = shipped(f"{cfg.backbone}_points") if cfg.weights == "points" else Path(cfg.weights)
    if has_tokens(path):
        load_weights(module, path, prefix=prefix)


class Encoder(nn.Module):
    """A transformer that carries P learned tokens through all its layers, behind the class token and the patches.

    Raises ConfigError where `boxes.layers` or `heads.taps` ask for more layers than it has.
    """

    def __init__(self, cfg: AttentionShiftConfig) -> None:
        super().__init__()
        self.vit = build_vit(cfg.backbone, cfg.weights)
        self.patch, self.width, depth = self.vit.patch, self.vit.width, self.vit.depth
        self.taps, self.candidates = cfg.heads.taps, cfg.boxes.layers
        if not {self.candidates, *self.taps} <= set(range(1, depth + 1)):
            layers = f"boxes.layers={self.candidates}, heads.taps={self.taps}"
            raise ConfigError(f"{layers}: {cfg.backbone} has {depth} layers")
        drawn = (nn.init.trunc_normal_(torch.empty(1, cfg.tokens.count, self.width), std=0.02) for _ in range(2))
        self.tokens, self.positions = (nn.Parameter(values) for values in drawn)
        table = self.vit.backbone.pos_embed
        if cfg.tokens.start == "spread" and table is not None:
            self.positions = nn.Parameter(spread(table.detach(), cfg.tokens.count))
        if cfg.drop_path:
            rates = torch.linspace(0, cfg.drop_path, depth).tolist()
            for block, rate in zip(self.vit.backbone.blocks, rates, strict=True):
                block.drop_path1, block.drop_path2 = DropPath(rate), DropPath(rate)
        load_tokens(self, cfg, TOKENS)

    def forward(self, images: Tensor, attention: bool = True, hidden: Tensor | None = None) -> Encoded:
        """images: [B, 3, H, W] in [0, 1], sides multiples of the patch or ValueError. attention: without it no `layers`.

        hidden: bool [B, n], patches that show the mean of the learned tokens in place of the image.
        """
        x = self.vit.embed(images, hidden, self.tokens.mean((0, 1)))
        learned = (self.tokens + self.positions).expand(len(x), -1, -1)
        before, x = x.shape[1], torch.cat([x, learned], 1)
        taps, layers = {}, []
        for number in range(1, self.vit.depth + 1):
            if attention and number > self.vit.depth - self.candidates:
                with torch.no_grad():
                    layers.append(self.vit.query_key(x, number))
            x = self.vit.run(x, number - 1, number)
            if number in self.taps:
                taps[number] = patch_features(x, images, self.patch)
        features = patch_features(x, images, self.patch)
        grid = PatchGrid(features.shape[2], features.shape[3], self.patch)
        return Encoded(grid, features, [taps[t] for t in self.taps], x[:, before:], layers[::-1])


def spread(table: Tensor, count: int) -> Tensor:
    """Positions [1, count, D] spread over the image in rows, from a table of patches' positions [1, 1 + side^2, D]."""
    side, rows = round((table.shape[1] - 1) ** 0.5), int(count**0.5)
    places = table[:, 1:].mT.unflatten(2, (side, side))
    return interpolate(places, (rows, -(-count // rows)), mode="area").flatten(2).mT[:, :count].clone()


class TokenHeads(nn.Module):
    """Tokens [B, P, D] -> class logits [B, P, C], places (x, y) [B, P, 2] in fractions of the image without padding; fp32."""

    def __init__(self, width: int, cfg: AttentionShiftConfig) -> None:
        super().__init__()
        self.label, self.place = (MLP(width, [width, width, out]) for out in (cfg.classes, 2))
        load_tokens(self.place, cfg, "place.")

    def forward(self, tokens: Tensor) -> tuple[Tensor, Tensor]:
        return self.label(tokens).float(), self.place(tokens).float().sigmoid()


class MilHead(nn.Module):
    """Scores of an object's K candidate boxes: a softmax over the classes times one over the candidates."""

    def __init__(self, width: int, patch: int, cfg: AttentionShiftConfig) -> None:
        super().__init__()
        inner, deep, self.patch = cfg.heads.width, cfg.heads.hidden, patch
        self.narrow = nn.Sequential(nn.LayerNorm(width), nn.Linear(width, inner))
        self.hidden = nn.Sequential(nn.Linear(CELLS**2 * inner, deep), nn.ReLU(), nn.Linear(deep, deep), nn.ReLU())
        self.label, self.choice = (nn.Linear(deep, cfg.classes) for _ in range(2))

    def forward(self, features: Tensor, boxes: Tensor) -> Tensor:
        """features: [B, D, h, w]. boxes: [B, G, K, 4] pixels, of K candidates of each object -> scores fp32 [B, G, K, C]."""
        cells = roi_align(features, list(boxes.detach().flatten(1, 2)), CELLS, 1 / self.patch, aligned=True)
        x = self.hidden(self.narrow(cells.flatten(2).mT).flatten(1)).unflatten(0, boxes.shape[:3])
        return self.label(x).float().softmax(3) * self.choice(x).float().softmax(2)
