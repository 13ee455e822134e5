"""Three objectives for the tiny transformer, on scenes of the embedded world: what does attention learn from each?

Masked image modelling (He et al., 2022) and self-distillation (Caron et al., 2021) see pictures alone, the supervised
twin also their tags, and so one thing at a time. Steps differ: an autoencoder sees fewer tokens in each.
`python -m wsis.pretrain vit_tiny_mae` (or _supervised, _dino) trains one.
"""

import copy

import numpy as np
import torch
from timm.layers.pos_embed_sincos import build_sincos2d_pos_embed
from timm.models.vision_transformer import Block
from torch import Tensor, nn
from torch.nn.functional import (
    affine_grid,
    avg_pool2d,
    cross_entropy,
    grid_sample,
    log_softmax,
    normalize,
    pixel_unshuffle,
)

from wsis.core.types import Batch, Dataset
from wsis.data.transforms import Augment, collate
from wsis.data.world import WorldConfig
from wsis.evaluation.features import linear_probe, pair_auc
from wsis.models.vit import ViT, build_vit
from wsis.training.schedule import Schedule

SIZE = 96
SCENES = WorldConfig(size=SIZE, objects=(1, 3), object_size=(0.28, 0.6))
ONE_THING = WorldConfig(size=SIZE, objects=(1, 1), object_size=(0.35, 0.85), contact=0, nested=0, occlusion=0)
SCHEDULE = Schedule(1200, 48, "adamw", 1.5e-3, "cosine", betas=(0.9, 0.95), weight_decay=0.05, warmup=100, clip=1.0)
AUGMENT = Augment(crop=SIZE, long_side=None, scale=(1.0, 1.4), scale_step=0.0, contrast=0.3)
VISIBLE = 0.25  # of the patches, to the masked autoencoder
KEPT = 0.5  # of the patches, to the supervised twin and the student: dropping half trains as well in half the time
VIEW = 64


class MaskedAutoencoder(nn.Module):
    """Sees a quarter of the patches and paints the others: mean square error of pixels normalised per patch."""

    pos: Tensor

    def __init__(self, vit: ViT, width: int = 64, blocks: int = 2) -> None:
        super().__init__()
        self.vit = vit
        side = SIZE // vit.patch
        self.inner = nn.Linear(vit.width, width)
        self.mask_token = nn.Parameter(torch.zeros(1, 1, width))
        self.register_buffer("pos", build_sincos2d_pos_embed([side, side], width)[None], persistent=False)
        self.decoder = nn.Sequential(*(Block(width, 4, 2.0, qkv_bias=True) for _ in range(blocks)))
        self.outer = nn.Sequential(nn.LayerNorm(width), nn.Linear(width, 3 * vit.patch**2))

    def forward(self, batch: Batch) -> dict[str, Tensor]:
        seen, hidden = random_split(batch.images, self.vit.patch, VISIBLE)
        return {"total": masked_error(self.paint(batch.images, seen), self.target(batch.images), hidden)}

    def paint(self, images: Tensor, seen: Tensor) -> Tensor:
        """All patches [B, n, 3 p^2] from those at `seen` [B, k] alone."""
        x = self.inner(tokens(self.vit, images, seen))
        patches = self.mask_token.to(x.dtype).expand(len(x), self.pos.shape[1], -1)
        patches = patches.scatter(1, seen[..., None].expand(-1, -1, x.shape[-1]), x[:, 1:]) + self.pos
        return self.outer(self.decoder(torch.cat([x[:, :1], patches], dim=1)))[:, 1:]

    def target(self, images: Tensor) -> Tensor:
        """The pixels of each patch [B, n, 3 p^2], of mean 0 and variance 1."""
        patches = pixel_unshuffle(images, self.vit.patch).flatten(2).mT
        variance, mean = torch.var_mean(patches, dim=-1, keepdim=True)
        return (patches - mean) / (variance + 1e-6).sqrt()


def random_split(images: Tensor, patch: int, share: float) -> tuple[Tensor, Tensor]:
    """Indices of the patches that are seen [B, k] and hidden [B, n - k]; each image has its own."""
    b, _, height, width = images.shape
    order = torch.rand(b, height * width // patch**2, device=images.device).argsort(1)
    seen = round(share * order.shape[1])
    return order[:, :seen], order[:, seen:]


def tokens(vit: ViT, images: Tensor, seen: Tensor) -> Tensor:
    """Class token and patches after the last norm [B, 1 + k, D], computed from the patches `seen` [B, k] alone."""
    x = vit.embed(images)
    x = torch.cat([x[:, :1], _take(x[:, 1:], seen)], dim=1)
    return vit.backbone.norm(vit.run(x, 0, vit.depth))


def masked_error(painted: Tensor, target: Tensor, hidden: Tensor) -> Tensor:
    """Mean square error on the hidden patches alone."""
    return (_take(painted, hidden).float() - _take(target, hidden)).square().mean()


def _take(x: Tensor, index: Tensor) -> Tensor:
    """Rows `index` [B, k] of `x` [B, n, D]."""
    return x.gather(1, index[..., None].expand(-1, -1, x.shape[-1]))


class TokenTagger(nn.Module):
    """Names the one thing in a picture from the mean of its patch tokens, half of them dropped."""

    def __init__(self, vit: ViT, classes: int) -> None:
        super().__init__()
        self.vit, self.head = vit, nn.Linear(vit.width, classes)

    def forward(self, batch: Batch) -> dict[str, Tensor]:
        assert batch.tags is not None
        seen, _ = random_split(batch.images, self.vit.patch, KEPT)
        logits = self.head(tokens(self.vit, batch.images, seen)[:, 1:].mean(1))
        named = batch.tags.float().argmax(1)
        return {"total": cross_entropy(logits.float(), named, label_smoothing=0.1)}


class PrototypeScorer(nn.Module):
    """Cosines of the projected class token of a view with learnt prototypes [B, K]."""

    def __init__(self, vit: ViT, prototypes: int, hidden: int = 256, bottleneck: int = 64) -> None:
        super().__init__()
        self.vit = vit
        self.project = nn.Sequential(nn.Linear(vit.width, hidden), nn.GELU(), nn.Linear(hidden, bottleneck))
        self.prototypes = nn.Parameter(torch.randn(prototypes, bottleneck))

    def forward(self, views: Tensor, share: float) -> Tensor:
        """From a random `share` of the patches."""
        seen, _ = random_split(views, self.vit.patch, share)
        token = self.project(tokens(self.vit, views, seen)[:, 0])
        return (normalize(token, dim=-1) @ normalize(self.prototypes, dim=-1).T).float()


class SelfDistillation(nn.Module):
    """A student guesses what its own moving average says of another view of the picture, from the class token.

    The student sees half the patches of a view, the teacher all. Centring keeps one prototype from taking all, the low
    temperature of the teacher keeps all from being alike.
    """

    center: Tensor

    def __init__(self, vit: ViT, prototypes: int = 256, momentum: float = 0.99) -> None:
        super().__init__()
        self.student = PrototypeScorer(vit, prototypes)
        self.teacher = copy.deepcopy(self.student).requires_grad_(False)
        self.momentum = momentum
        self.register_buffer("center", torch.zeros(prototypes))

    @property
    def vit(self) -> ViT:
        """What is kept: the teacher's transformer."""
        return self.teacher.vit

    def forward(self, batch: Batch) -> dict[str, Tensor]:
        with torch.no_grad():
            self.follow()
            views = [random_view(batch.images) for _ in range(2)]
            said = self.teacher(torch.cat(views), 1.0)
            wanted = sharpened(said, self.center)
            self.center.copy_(moved_center(self.center, said))
        guessed = log_softmax(self.student(torch.cat(views[::-1]), KEPT) / 0.1, dim=-1)
        mean = wanted.mean(0)
        return {
            "total": -(wanted * guessed).sum(-1).mean(),
            "entropy": -(wanted * (wanted + 1e-8).log()).sum(-1).mean(),
            "usage": -(mean * (mean + 1e-8).log()).sum(),
        }

    def follow(self) -> None:
        """Move the teacher a little towards the student."""
        for old, new in zip(self.teacher.parameters(), self.student.parameters(), strict=True):
            old.lerp_(new, 1 - self.momentum)


def sharpened(said: Tensor, center: Tensor, temperature: float = 0.04) -> Tensor:
    """The teacher's probabilities [B, K] from its scores, centred and sharp."""
    return ((said - center) / temperature).softmax(-1)


def moved_center(center: Tensor, said: Tensor, momentum: float = 0.9) -> Tensor:
    """The running mean of the teacher's scores after those of one more batch [B, K]."""
    return center.lerp(said.mean(0), 1 - momentum)


def random_view(images: Tensor) -> Tensor:
    """A crop of 40 to 100 % of each side, resized to `VIEW` pixels, mirrored or not, in other colours."""
    b, device = len(images), images.device
    side = torch.empty(b, device=device).uniform_(0.4, 1.0)
    place = (1 - side)[:, None] * torch.empty(b, 2, device=device).uniform_(-1, 1)
    mirror = 1 - 2 * torch.randint(0, 2, (b,), device=device)
    theta = torch.zeros(b, 2, 3, device=device)
    theta[:, 0, 0], theta[:, 1, 1], theta[:, :, 2] = side * mirror, side, place
    views = grid_sample(images, affine_grid(theta, [b, 3, VIEW, VIEW], align_corners=False), align_corners=False)
    gray = views.mean(1, keepdim=True)
    brightness, contrast, saturation = torch.empty(3, b, 1, 1, 1, device=device).uniform_(0.6, 1.4)
    views = gray + (views - gray) * saturation * (torch.rand(b, 1, 1, 1, device=device) > 0.2)
    mean = views.mean((1, 2, 3), keepdim=True)
    return (mean + (views - mean) * contrast).mul(brightness).clamp(0, 1)


Learner = MaskedAutoencoder | TokenTagger | SelfDistillation


def learner(objective: str, classes: int) -> Learner:
    """A fresh vit_tiny with what its objective needs around it."""
    vit = build_vit("vit_tiny", "random")
    match objective:
        case "mae":
            return MaskedAutoencoder(vit)
        case "supervised":
            return TokenTagger(vit, classes)
        case _:
            return SelfDistillation(vit)


def trained(model: nn.Module) -> ViT:
    """The transformer in a learner."""
    assert isinstance(model, Learner)
    return model.vit


@torch.no_grad()
def quality(vit: ViT, val: Dataset, layer: int = 10) -> dict[str, float]:
    """How well attention and tokens know objects, on the scenes `val`.

    pair_auc: AUC of the attention of `layer` for "the other patch is of the same object", over the patches of objects,
    mean over scenes. token_accuracy: of a linear map that names the class of the last layer's object tokens, fitted by
    ridge regression on every other scene.
    """
    device = next(vit.parameters()).device
    aucs, features, names = [], [], []
    for i in range(len(val)):
        sample = val[i]
        assert sample.truth is not None
        cover = avg_pool2d(sample.truth.masks[:, None].float(), vit.patch).flatten(1)
        share, owner = cover.max(0)
        owner[share <= 0.5] = -1
        thing = owner >= 0
        images = collate([sample]).images.to(device)
        aucs.append(pair_auc(vit.attention(images, layer), owner[None] + 1, ~torch.eye(len(owner), dtype=torch.bool)))
        features.append(vit(images)[0].cpu()[thing])
        names.append(sample.truth.labels[owner[thing]])
    (x, y), (x_test, y_test) = ((torch.cat(features[k::2]), torch.cat(names[k::2])) for k in (0, 1))
    right = linear_probe(x, y, len(val.classes), x_test, ridge=1e-4) == y_test
    return {"pair_auc": round(float(np.nanmean(aucs)), 4), "token_accuracy": round(right.float().mean().item(), 4)}
