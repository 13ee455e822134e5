"""EXITS' networks: the generator of pseudo masks, its averaged teacher, and the extractor of similarities.

Hyeonjun Lee, Sehyun Hwang, Suha Kwak: Extreme Point Supervised Instance Segmentation. CVPR 2024, arXiv 2405.20729.
No official code is known; the generator follows MAL (CVPR 2023), whose code is github.com/NVlabs/mask-auto-labeler.
    supp. Sec. A, eq. (a1)   MaskDecoder
    supp. text, Table a5     Generator, Extractor
    MAL                      SelfTeaching
"""

from copy import deepcopy
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import get_ema_multi_avg_fn

from wsis.methods.exits.config import ExitsConfig
from wsis.models.vit import Kind, Layer, ViT, build_vit


class MaskDecoder(nn.Module):
    """Tokens -> logits of one mask: features of each pixel, compared with a prototype of the whole crop (eq. (a1)).

    The pixel head has four 3 x 3 convolutions, each with a ReLU, and enlarges `upsample` times between the second and the
    third; the prototype head is two linear layers on the mean token. Both end at a third of the tokens' width.
    Call: tokens [B, h w, D], grid (h, w) -> fp32 [B, upsample h, upsample w].
    """

    def __init__(self, width: int, upsample: int) -> None:
        super().__init__()
        inner = width // 3
        self.pixels = nn.Sequential(
            *_conv(width, inner),
            *_conv(inner, inner),
            nn.Upsample(scale_factor=upsample, mode="bilinear"),
            *_conv(inner, inner),
            *_conv(inner, inner),
        )
        self.prototype = nn.Sequential(nn.Linear(width, inner), nn.ReLU(), nn.Linear(inner, inner))

    def forward(self, tokens: Tensor, grid: tuple[int, int]) -> Tensor:
        prototype = self.prototype(tokens.mean(1))
        pixels = self.pixels(tokens.mT.unflatten(2, grid))
        with torch.autocast(tokens.device.type, enabled=False):  # bf16 would make ties among large logits
            return torch.einsum("bchw,bc->bhw", pixels.float(), prototype.float())


def _conv(inside: int, out: int) -> tuple[nn.Module, nn.Module]:
    return nn.Conv2d(inside, out, 3, padding=1), nn.ReLU()


class Generator(nn.Module):
    """The mask of the one object that a crop is about. Call: [B, 3, H, W] in [0, 1] -> logits, see `MaskDecoder`."""

    def __init__(self, encoder: ViT, upsample: int) -> None:
        super().__init__()
        self.encoder, self.decoder = encoder, MaskDecoder(encoder.width, upsample)

    def forward(self, images: Tensor) -> Tensor:
        height, width = (side // self.encoder.patch for side in images.shape[-2:])
        return self.decoder(self.encoder(images), (height, width))


class Outputs(NamedTuple):
    """Logits [B, m, m] of one crop by both networks; no gradient flows to the teacher's."""

    student: Tensor
    teacher: Tensor


class SelfTeaching(nn.Module):
    """A generator and a slow average of it, its teacher (MAL): teacher <- ema teacher + (1 - ema) student.

    The teacher starts as a copy of the student (the release: from other random weights), stays in eval mode and has no
    gradient. In training each call first moves it, so that a step moves it once, by what the steps before it made
    of the student; only parameters move.
    Call: views [B, 3, C, C] in [0, 1], in changed colours for the student and as they are for the teacher.
    """

    def __init__(self, student: Generator, ema: float) -> None:
        super().__init__()
        self.student, self.average = student, get_ema_multi_avg_fn(ema)
        self.teacher = deepcopy(student).requires_grad_(False).eval()

    def train(self, mode: bool = True) -> "SelfTeaching":
        super().train(mode)
        self.teacher.eval()
        return self

    def forward(self, jittered: Tensor, clean: Tensor) -> Outputs:
        if self.training:
            self.average(list(self.teacher.parameters()), list(self.student.parameters()), None)
        with torch.no_grad():
            taught = self.teacher(clean)
        return Outputs(self.student(jittered), taught)


class Extractor(nn.Module):
    """The transformer whose attention tells which tokens are alike, and the head of its warm-up, which is not used later.

    outputs: 1, a logit of each token; or the number of classes, with `pooled` logits of the crop's mean token.
    Call: [B, 3, H, W] in [0, 1] -> [B, n], or pooled [B, classes].
    """

    def __init__(self, encoder: ViT, outputs: int, pooled: bool, layer: Layer, kind: Kind, temperature: float) -> None:
        super().__init__()
        self.encoder, self.head, self.pooled = encoder, nn.Linear(encoder.width, outputs), pooled
        self.layer: Layer = layer
        self.kind: Kind = kind
        self.temperature = temperature

    def forward(self, images: Tensor) -> Tensor:
        tokens = self.encoder(images)
        return self.head(tokens.mean(1)) if self.pooled else self.head(tokens)[..., 0]

    @torch.no_grad()
    def similarity(self, images: Tensor) -> Tensor:
        """How alike the tokens are at the chosen layer, fp32 [B, n, n], positive; see `ViT.similarity`."""
        return self.encoder.similarity(images, self.layer, self.kind, self.temperature)


def build_generator(cfg: ExitsConfig) -> Generator:
    """The generator with its pretrained encoder and a random decoder."""
    g = cfg.generator
    return Generator(build_vit(g.backbone, g.weights, g.stem), g.upsample)


def build_teaching(cfg: ExitsConfig) -> SelfTeaching:
    """The generator and its teacher, as they are trained."""
    return SelfTeaching(build_generator(cfg), cfg.generator.ema)


def build_extractor(cfg: ExitsConfig) -> Extractor:
    """The extractor with its pretrained encoder and a random head."""
    e = cfg.extractor
    pooled = e.objective == "cls"
    return Extractor(
        build_vit(e.backbone, e.weights),
        cfg.classes if pooled else 1,
        pooled,
        e.layer or "all",
        e.similarity,
        e.temperature,
    )
