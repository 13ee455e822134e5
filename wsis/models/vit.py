"""Vision transformers whose attention says how similar two parts of an image are.

A timm VisionTransformer behind a small interface, `ViT`: its tokens, the queries and keys of any layer, and the attention
between tokens as EXITS uses it (supp. Sec. A: that of layer 10). Layers count from 1; there are T tokens with the class
token in front, and n = T - 1 patches in rows from the top left.
"""

from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any, Literal

import timm
import torch
from safetensors import safe_open
from timm.layers.norm_act import freeze_batch_norm_2d
from timm.layers.pos_embed_sincos import build_sincos2d_pos_embed
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor, nn
from torch.nn.functional import layer_norm, linear

from wsis.core.errors import ConfigError
from wsis.models.convnets import IMAGENET_MEAN, IMAGENET_STD, TRANSFORMERS, Color, build_convnet, normalized
from wsis.models.weights import TIMM, load_weights, shipped, timm_network, timm_source

PUBLISHED = {
    "vit_base": {
        "mae": "vit_base_patch16_224.mae",
        "in21k": "vit_base_patch16_224.augreg_in21k",
        "deit": "deit_base_patch16_224.fb_in1k",
        "dino": "vit_base_patch16_224.dino",
    },
    "vit_small": {
        "in21k": "vit_small_patch16_224.augreg_in21k",
        "deit": "deit_small_patch16_224.fb_in1k",
        "dino": "vit_small_patch16_224.dino",
    },
}
"""timm's name of each published checkpoint (EXITS, Table a4)."""
SHIPPED = {"vit_tiny": ("mae", "supervised", "dino"), "vit_hybrid": ("points",)}
"""Weights that come with the package, of the networks that no one published."""
HYBRIDS = {
    "vit_hybrid": ("vgg_tiny", 8),
    "vit_lite0": ("efficientnet_lite0", 16),
    "vit_lite0_frozen": ("efficientnet_lite0_frozen", 16),
}
"""The convolutions below a transformer, and their stride, which is its patch; those of vit_lite0_frozen are not trained."""
SHARPNESS, MIXING, SMALL = 10.0, 0.2, 0.02
"""Of layers that start as hops between similar tokens: attention's logit at a cosine of 1, the share of what is attended
that a layer adds to a token, and the spread of weights that start small."""
OPTIONS = {"num_classes": 0, "dynamic_img_size": True}
TOKENS = "encoder."
"""How names start in a file that holds learned tokens beside the transformer (AttentionShift's pretraining)."""


class ViT(nn.Module):
    """A vision transformer without head, its position table resampled to the size of the images.

    Call: float [B, 3, H, W] in [0, 1], H and W multiples of `patch` (else ValueError) -> patch tokens after the last norm
    [B, n, D]. Attributes: patch (pixels), width D, depth (layers), heads. A layer that does not exist raises ConfigError.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, backbone: VisionTransformer, mean: Color = IMAGENET_MEAN, std: Color = IMAGENET_STD) -> None:
        super().__init__()
        self.backbone = backbone
        self.patch: int = backbone.patch_embed.patch_size[0]
        self.width, self.depth = backbone.embed_dim, len(backbone.blocks)
        self.heads = int(backbone.blocks[0].attn.num_heads)  # pyright: ignore
        self.register_buffer("mean", torch.tensor(mean).view(3, 1, 1))  # saved: a checkpoint has its own
        self.register_buffer("std", torch.tensor(std).view(3, 1, 1))

    def forward(self, images: Tensor) -> Tensor:
        return self.backbone.norm(self.run(self.embed(images), 0, self.depth))[:, 1:]

    def embed(self, images: Tensor, hidden: Tensor | None = None, fill: Tensor | None = None) -> Tensor:
        """Return the input of layer 1, [B, 1 + n, D]; patches that are `hidden`, bool [B, n], have the content `fill` [D]."""
        height, width = images.shape[-2:]
        if height % self.patch or width % self.patch:
            raise ValueError(f"images of {width} x {height} pixels; pad both sides to multiples of {self.patch}")
        x = self.backbone.patch_embed(normalized(images, self.mean, self.std))
        if hidden is not None and fill is not None:
            x = torch.where(hidden.view(*x.shape[:-1], 1), fill.to(x.dtype), x)
        return self.backbone.norm_pre(self.backbone._pos_embed(x))

    def run(self, x: Tensor, start: int, stop: int) -> Tensor:
        """Run layers start + 1..stop on `x` [B, T, D], the output of layer `start` (0: of `embed`); any T."""
        return self.backbone.blocks[start:stop](x)

    def query_key(self, x: Tensor, layer: int) -> tuple[Tensor, Tensor]:
        """Return the queries and keys [B, heads, T, d], fp32, of `layer` from its input `x` [B, T, D]."""
        block: Any = self.backbone.blocks[self._existing(layer) - 1]
        attn, rows = block.attn, 2 * (len(block.attn.qkv.weight) // 3)
        with torch.autocast(x.device.type, enabled=False):
            bias = None if attn.qkv.bias is None else attn.qkv.bias[:rows]
            qk = linear(block.norm1(x.float()), attn.qkv.weight[:rows], bias)
            q, k = qk.unflatten(-1, (2, self.heads, -1)).permute(2, 0, 3, 1, 4)
            return attn.q_norm(q), attn.k_norm(k)

    def attention(self, images: Tensor, layer: int) -> Tensor:
        """Return the attention between patches, fp32 [B, n, n], mean over the heads, and over all layers with layer 0.

        The softmax runs over all tokens; the row and the column of the class token are dropped after it, so that rows sum
        to less than 1. Layers behind `layer` are not run.
        """
        layers, before, x = [self._existing(layer)] if layer else range(1, self.depth + 1), 0, self.embed(images)
        total = x.new_zeros(())
        for number in layers:
            x, before = self.run(x, before, number - 1), number - 1
            total = total + mean_affinity(*self.query_key(x, number))[:, 1:, 1:]
        return total / len(layers)

    def head_attention(self, images: Tensor, layer: int) -> Tensor:
        """Return the attention between patches of each head, fp32 [B, heads, n, n]; all heads are in memory."""
        x = self.run(self.embed(images), 0, self._existing(layer) - 1)
        return _attention(*self.query_key(x, layer))[:, :, 1:, 1:]

    def _existing(self, layer: int) -> int:
        if not 1 <= layer <= self.depth:
            raise ConfigError(f"layer={layer}: this network has layers 1 to {self.depth}")
        return layer


def mean_affinity(q: Tensor, k: Tensor) -> Tensor:
    """Return the attention between any two tokens, mean over the heads, fp32 [B, T, T].

    It is the softmax of q k^T / sqrt(d) over the tokens of a row, q and k [B, heads, T, d].
    One head is in memory at a time.
    """
    total = torch.zeros(len(q), q.shape[2], q.shape[2], device=q.device)
    for one_q, one_k in zip(q.float().unbind(1), k.float().unbind(1), strict=True):
        total += _attention(one_q, one_k)
    return total / q.shape[1]


def _attention(q: Tensor, k: Tensor) -> Tensor:
    with torch.autocast(q.device.type, enabled=False):
        return (q * q.shape[-1] ** -0.5 @ k.mT).softmax(-1)


class ConvStem(nn.Sequential):
    """Patches by 3 x 3 convolutions of stride 2, then one of 1 x 1, in place of one linear map (MAL, official code).
    Widths double up to `width`: 3 -> D/8 -> D/4 -> D/2 -> D for patches of 16.
    """

    def __init__(self, width: int, patch: int) -> None:
        layers: list[nn.Module] = []
        for before, after in pairwise([3, *(width >> i for i in reversed(range(patch.bit_length() - 1)))]):
            layers.append(nn.Conv2d(before, after, 3, stride=2, padding=1, bias=False))
            layers += [nn.GroupNorm(1, after, eps=1e-6), nn.GELU()]
        super().__init__(*layers, nn.Conv2d(width, width, 1))


def build_vit(name: str, weights: str, stem: Literal["patch", "conv"] = "patch") -> ViT:
    """Build the transformer `name`, one of `TRANSFORMERS`; patches of vit_tiny and vit_hybrid have 8 pixels, others 16.

    weights: "random"; a checkpoint of `PUBLISHED` (timm, needs a network or its cache) or `SHIPPED` (hash checked);
    "timm:NAME", any of timm's with the same parameters; a path to .safetensors of the backbone, or of AttentionShift's
    pretraining. Of vit_lite0 "imagenet" and "timm:NAME" fill the convolutions alone (see `build_convnet`). Images are
    normalized as the checkpoint demands; with a path or at random as ImageNet is. stem: "patch", the linear map of the
    checkpoint, or "conv", `ConvStem` with random weights; all else keeps those of the checkpoint. Raises ConfigError for an
    unknown name or stem, or weights of a kind that this network has not, WeightsError as `load_weights` and `shipped`.
    """
    if stem not in ("patch", "conv"):
        raise ConfigError(f"stem={stem!r}: choose patch or conv")
    if name not in TRANSFORMERS:
        raise ConfigError(f"no transformer {name!r}; choose {', '.join(TRANSFORMERS[:-1])} or {TRANSFORMERS[-1]}")
    lite0, published = name.startswith("vit_lite0"), PUBLISHED.get(name, {})
    known = SHIPPED.get(name, ("imagenet",) if lite0 else tuple(published))
    from_timm = weights.startswith(TIMM) and (lite0 or name in PUBLISHED)
    if weights not in (*known, "random") and not from_timm and (weights.startswith(TIMM) or not Path(weights).suffix):
        raise ConfigError(f"{name} has no weights {weights!r}; use {', '.join(known)}, random or a path")
    if lite0 and (from_timm or weights == "imagenet"):
        vit = _untrained(name, weights)
    elif from_timm or weights in published:
        source = timm_source(published.get(weights, f"{name}_patch16_224"), weights)
        config = timm.get_pretrained_cfg(source, allow_unregistered=False)
        assert config is not None
        vit = ViT(timm_network(source, True, **OPTIONS), config.mean, config.std)
    else:
        vit = _untrained(name)
        if weights != "random":
            path = shipped(f"{name}_{weights}") if weights in known else Path(weights)
            load_weights(vit.backbone, path, prefix=f"{TOKENS}vit.backbone." if has_tokens(path) else "")
    if stem == "conv":
        vit.backbone.patch_embed.proj = ConvStem(vit.width, vit.patch)
    return vit


def has_tokens(path: Path) -> bool:
    """Say whether a file of weights holds learned tokens beside the transformer."""
    if path.suffix != ".safetensors" or not path.exists():
        return False
    with safe_open(path, "pt") as file:
        return any(name.startswith(TOKENS) for name in file.keys())  # noqa: SIM118  # it is no dictionary


def _untrained(name: str, stem_weights: str = "random") -> ViT:
    """Build a network without weights; the hybrids (Dosovitskiy et al., ICLR 2021) are eight layers on convolutions."""
    if name in PUBLISHED:
        return ViT(timm_network(f"{name}_patch16_224", False, **OPTIONS))
    if name == "vit_tiny":
        return ViT(_tiny())
    convolutions, stride = HYBRIDS[name]
    backbone = _tiny(depth=8, patch=stride)
    pyramid, used = build_convnet(convolutions, stem_weights, output_stride=stride), 1
    if convolutions.startswith("efficientnet_lite0"):
        freeze_batch_norm_2d(pyramid.network)  # also where a file brings ImageNet's statistics later
        start_as_hops(backbone)
        used = 2  # cosines of its last stage alone hardly tell an object from what is around it
    backbone.patch_embed.proj = HybridStem(pyramid.network, pyramid.channels[-used:], backbone.embed_dim)
    return ViT(backbone, pyramid.mean.flatten().tolist(), pyramid.std.flatten().tolist())


class HybridStem(nn.Module):
    """The last of a convolutional backbone's features as patches: [B, 3, H, W] -> [B, D, H / patch, W / patch].

    channels: of the features that are used; several must have one stride, and count alike since each patch is normalized.
    """

    def __init__(self, stages: nn.Module, channels: Sequence[int], width: int) -> None:
        super().__init__()
        self.stages, self.proj, self.used = stages, nn.Conv2d(sum(channels), width, 1), len(channels)

    def forward(self, x: Tensor) -> Tensor:
        last = self.stages(x)[-self.used :]
        if self.used > 1:
            last = [layer_norm(f.movedim(1, -1), f.shape[1:2]).movedim(-1, 1) for f in last]
        return self.proj(torch.cat(last, 1))


@torch.no_grad()
def start_as_hops(backbone: VisionTransformer) -> None:
    """Let each layer start as a small step from every token to similar ones, for trainings that are too short to learn it.

    Queries and keys are the same rotation, so that attention follows the cosine; values pass unchanged; the rest is small
    (mimetic initialization: Trockman and Kolter, ICML 2023).
    """
    width, heads = backbone.embed_dim, int(backbone.blocks[0].attn.num_heads)  # pyright: ignore
    scale = (SHARPNESS / (width / heads) ** 0.5) ** 0.5  # of one head's queries, whose squared length is width / heads
    for block in backbone.blocks:
        attn, rotation, back = block.attn, *(nn.init.orthogonal_(torch.empty(width, width)) for _ in range(2))  # pyright: ignore
        attn.qkv.weight.copy_(torch.cat([scale * rotation, scale * rotation, back]))  # pyright: ignore
        attn.proj.weight.copy_(MIXING * back.T)  # pyright: ignore
        nn.init.trunc_normal_(block.mlp.fc2.weight, std=SMALL)  # pyright: ignore


def _tiny(depth: int = 12, patch: int = 8) -> VisionTransformer:
    """Build ViT-B's twelve layers at a sixth of the width; positions start as sines, since training is short."""
    layers: Any = {"embed_dim": 128, "depth": depth, "num_heads": 4, "mlp_ratio": 2, "weight_init": "jax"}
    backbone = VisionTransformer(12 * patch, patch, **layers, **OPTIONS)  # pyright: ignore
    assert backbone.pos_embed is not None
    with torch.no_grad():
        backbone.pos_embed[:, :1] = 0
        backbone.pos_embed[:, 1:] = build_sincos2d_pos_embed([12, 12], 128)
    return backbone
