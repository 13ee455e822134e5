"""EXITS' networks: the generator of pseudo masks, its averaged teacher, and the extractor of similarities.

Hyeonjun Lee, Sehyun Hwang, Suha Kwak: Extreme Point Supervised Instance Segmentation. CVPR 2024, arXiv 2405.20729.
No official code is known; the generator follows MAL (CVPR 2023), whose code is github.com/NVlabs/mask-auto-labeler.
    supp. Sec. A, eq. (a1)   MaskDecoder
    supp. text, Table a5     Generator, Extractor
    MAL                      SelfTeaching
"""

from copy import deepcopy
from typing import Literal, NamedTuple, Self

import torch
from torch import Tensor, nn
from torch.nn.functional import interpolate
from torch.optim.swa_utils import get_ema_multi_avg_fn

from wsis.core.errors import ConfigError
from wsis.methods.exits.config import ExitsConfig
from wsis.models.pyramids import ConvTokens, build_tokens
from wsis.models.vit import ViT

UPSAMPLE = 4  # times the token grid: masks of 128 pixels a side at full size, as in MAL's losses (official code)


class MaskDecoder(nn.Module):
    """Features of each pixel, compared with a prototype of the crop (eq. (a1)).

    Call: tokens [B, h w, D], grid (h, w) -> logits of one mask, fp32 [B, 4 h, 4 w].
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        inner = width // 3

        def convolutions(inputs: int) -> list[nn.Module]:
            first, second = (nn.Conv2d(n, inner, 3, padding=1) for n in (inputs, inner))
            return [first, nn.ReLU(), second, nn.ReLU()]

        upsample = nn.Upsample(scale_factor=UPSAMPLE, mode="bilinear")
        self.pixels = nn.Sequential(*convolutions(width), upsample, *convolutions(inner))
        first, second = nn.Linear(width, inner), nn.Linear(inner, inner)
        self.prototype = nn.Sequential(first, nn.ReLU(), second)

    def forward(self, tokens: Tensor, grid: tuple[int, int]) -> Tensor:
        prototype = self.prototype(tokens.mean(1))
        pixels = self.pixels(tokens.mT.unflatten(2, grid))
        with torch.autocast(tokens.device.type, enabled=False):  # bf16 would make ties
            return torch.einsum("bchw,bc->bhw", pixels.float(), prototype.float())


class Generator(nn.Module):
    """The mask of the object that a crop shows. Call: [B, 3, H, W] in [0, 1] -> logits, see `MaskDecoder`."""

    def __init__(self, encoder: ViT | ConvTokens) -> None:
        super().__init__()
        self.encoder, self.decoder = encoder, MaskDecoder(encoder.width)

    def forward(self, images: Tensor) -> Tensor:
        height, width = (side // self.encoder.patch for side in images.shape[-2:])
        return self.decoder(self.encoder(images), (height, width))


class Outputs(NamedTuple):
    """Logits [B, m, m] of the crops by both networks; no gradient flows to the teacher's."""

    student: Tensor
    teacher: Tensor


class SelfTeaching(nn.Module):
    """A generator and a slow average of it, its teacher (MAL): teacher <- ema teacher + (1 - ema) student.

    The teacher starts as a copy of the student (the release: from other random weights). In training each call first
    updates its parameters. Call: views [B, 3, C, C] in [0, 1], in changed colors for the student, as they are for the teacher.
    """

    def __init__(self, student: Generator, ema: float) -> None:
        super().__init__()
        self.student, self.average = student, get_ema_multi_avg_fn(ema)
        self.teacher = deepcopy(student).requires_grad_(False).eval()

    def train(self, mode: bool = True) -> Self:
        super().train(mode)
        self.teacher.eval()
        return self

    def forward(self, jittered: Tensor, clean: Tensor) -> Outputs:
        if self.training:
            self.average(list(self.teacher.parameters()), list(self.student.parameters()), None)
        with torch.no_grad():
            teacher = self.teacher(clean)
        return Outputs(self.student(jittered), teacher)

    def probability(self, images: Tensor, source: Literal["student", "teacher", "mean"], flip: bool) -> Tensor:
        """Probabilities float32 [B, C, C] of the objects of crops [B, 3, C, C]. flip: also average over the mirrored crop."""
        networks = {"student": [self.student], "teacher": [self.teacher], "mean": [self.student, self.teacher]}
        logits = [network(images) for network in networks[source]]
        if flip:
            logits += [network(images.flip(3)).flip(2) for network in networks[source]]
        mean = torch.stack(logits).float().mean(0)[:, None]
        return interpolate(mean, images.shape[-2:], mode="bilinear", align_corners=False)[:, 0].sigmoid()


class Extractor(nn.Module):
    """The network that says how similar tokens are, and the head [B, 3, H, W] -> [B, n] of its warm-up."""

    def __init__(self, encoder: ViT | ConvTokens, layer: int) -> None:
        super().__init__()
        self.encoder, self.head, self.layer = encoder, nn.Linear(encoder.width, 1), layer

    def forward(self, images: Tensor) -> Tensor:
        return self.head(self.encoder(images))[..., 0]

    @torch.no_grad()
    def similarity(self, images: Tensor) -> Tensor:
        """The similarity of tokens, fp32 [B, n, n], positive: see `ViT.attention` and `ConvTokens.attention`."""
        return self.encoder.attention(images, self.layer)


class Exits(nn.Module):
    """All networks of a run: the extractor retrieves, the generator labels, the final segmenter predicts.

    extractor: frozen; None without retrieved points (MAL). network: None where the final model is trained on true masks.
    segmenter: None where the run has no final model. Call: see `SelfTeaching`.
    """

    def __init__(self, extractor: Extractor | None, network: SelfTeaching | None, segmenter: nn.Module | None) -> None:
        super().__init__()
        self.extractor, self.network, self.segmenter = extractor, network, segmenter

    @property
    def generator(self) -> SelfTeaching:
        """The network; a run that has none raises a ConfigError."""
        if self.network is None:
            raise ConfigError(
                "a run of final.masks=truth has no generator and cannot label; use one of final.masks=pseudo"
            )
        return self.network

    def forward(self, jittered: Tensor, clean: Tensor) -> Outputs:
        return self.generator(jittered, clean)


def build_extractor(cfg: ExitsConfig) -> Extractor:
    """The extractor with its pretrained encoder and a random head."""
    return Extractor(build_tokens(cfg.extractor.backbone, cfg.extractor.weights), cfg.extractor.layer)


def build_teaching(cfg: ExitsConfig) -> SelfTeaching:
    """The generator, with its pretrained encoder and a random decoder, and its teacher, as they are trained."""
    generator = cfg.generator
    return SelfTeaching(Generator(build_tokens(generator.backbone, generator.weights, generator.stem)), generator.ema)
