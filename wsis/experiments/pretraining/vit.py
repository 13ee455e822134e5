"""Objectives of pretraining on scenes of the embedded world: what do the features, and a transformer's attention, learn?

Masked image modeling (He et al., 2022) and self-distillation (Caron et al., 2021) see images alone. The supervised baseline
also sees their tags, and therefore one object at a time.
"""

import copy
from collections.abc import Callable

import numpy as np
import torch
from timm.layers.pos_embed_sincos import build_sincos2d_pos_embed
from timm.models.vision_transformer import Block
from torch import Tensor, nn
from torch.nn.functional import affine_grid, cross_entropy, grid_sample, log_softmax, normalize, pixel_unshuffle

from wsis.core.types import Batch, Dataset
from wsis.data.transforms import Augment, collate
from wsis.data.world import WorldConfig
from wsis.data.wrappers import samples
from wsis.evaluation.features import linear_probe, pair_auc
from wsis.models.vit import ViT
from wsis.ops.patches import coverage
from wsis.training.schedule import Schedule

SIZE = 96
SCENES = WorldConfig(size=SIZE, objects=(1, 3), object_size=(0.28, 0.6))
ONE_OBJECT = WorldConfig(size=SIZE, objects=(1, 1), object_size=(0.35, 0.85), contact=0, nested=0, occlusion=0)
SCHEDULE = Schedule(1200, 48, "adamw", 1.5e-3, "cosine", betas=(0.9, 0.95), weight_decay=0.05, warmup=100, clip=1.0)
AUGMENT = Augment(crop=SIZE, long_side=None, scale=(1.0, 1.4), scale_step=0.0, contrast=0.3)
VISIBLE_RATE = 0.25  # of the patches, for the masked autoencoder
KEEP_RATE = 0.5  # of the patches, for the supervised baseline and the student: half trains as well in half the time
VIEW = 64  # pixels
PROTOTYPES, HIDDEN, BOTTLENECK = 256, 256, 64
STUDENT_TEMPERATURE, TEACHER_TEMPERATURE = 0.1, 0.04
TEACHER_MOMENTUM, CENTER_MOMENTUM = 0.99, 0.9
LAYER = 10  # the one whose attention the cards measure


class MaskedAutoencoder(nn.Module):
    """Encodes a quarter of the patches and paints the others: mean square error of the pixels, normalized in each patch."""

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
        visible, hidden = random_split(batch.images, self.vit.patch, VISIBLE_RATE)
        return {"total": masked_error(self.paint(batch.images, visible), self.target(batch.images), hidden)}

    def paint(self, images: Tensor, visible: Tensor) -> Tensor:
        """All patches [B, n, 3 p^2] from those at `visible` [B, k] alone."""
        x = self.inner(tokens(self.vit, images, visible))
        patches = self.mask_token.to(x.dtype).expand(len(x), self.pos.shape[1], -1)
        patches = patches.scatter(1, visible[..., None].expand(-1, -1, x.shape[-1]), x[:, 1:]) + self.pos
        return self.outer(self.decoder(torch.cat([x[:, :1], patches], dim=1)))[:, 1:]

    def target(self, images: Tensor) -> Tensor:
        """The pixels of each patch [B, n, 3 p^2], of mean 0 and variance 1."""
        patches = pixel_unshuffle(images, self.vit.patch).flatten(2).mT
        variance, mean = torch.var_mean(patches, dim=-1, keepdim=True)
        return (patches - mean) / (variance + 1e-6).sqrt()


def random_split(images: Tensor, patch: int, rate: float) -> tuple[Tensor, Tensor]:
    """Indices of the visible patches [B, k] and of the hidden ones [B, n - k]; each image has its own."""
    b, _, height, width = images.shape
    order = torch.rand(b, height * width // patch**2, device=images.device).argsort(1)
    visible = round(rate * order.shape[1])
    return order[:, :visible], order[:, visible:]


def tokens(vit: ViT, images: Tensor, visible: Tensor) -> Tensor:
    """Class token and patches after the last norm [B, 1 + k, D], computed from the patches `visible` [B, k] alone."""
    x = vit.embed(images)
    x = torch.cat([x[:, :1], x[:, 1:].take_along_dim(visible[..., None], 1)], dim=1)
    return vit.backbone.norm(vit.run(x, 0, vit.depth))


def masked_error(painted: Tensor, target: Tensor, hidden: Tensor) -> Tensor:
    return (painted.float() - target).take_along_dim(hidden[..., None], 1).square().mean()


class TagClassifier(nn.Module):
    """A linear layer that names the one object of an image. pool: (backbone, images) -> features [B, width]."""

    def __init__(self, backbone: nn.Module, pool: Callable[..., Tensor], width: int, classes: int) -> None:
        super().__init__()
        self.backbone, self.pool, self.head = backbone, pool, nn.Linear(width, classes)

    def forward(self, batch: Batch) -> dict[str, Tensor]:
        return {"total": cross_entropy(self.logits(batch.images).float(), one_tag(batch), label_smoothing=0.1)}

    def logits(self, images: Tensor) -> Tensor:
        return self.head(self.pool(self.backbone, images))


def one_tag(batch: Batch) -> Tensor:
    assert batch.tags is not None
    return batch.tags.float().argmax(1)


def mean_token(vit: ViT, images: Tensor) -> Tensor:
    """The mean of the patch tokens [B, D], half of them dropped."""
    visible, _ = random_split(images, vit.patch, KEEP_RATE)
    return tokens(vit, images, visible)[:, 1:].mean(1)


class PrototypeScorer(nn.Module):
    """Cosines [B, K] of the projected class token of a view with learned prototypes."""

    def __init__(self, vit: ViT) -> None:
        super().__init__()
        self.vit = vit
        self.project = nn.Sequential(nn.Linear(vit.width, HIDDEN), nn.GELU(), nn.Linear(HIDDEN, BOTTLENECK))
        self.prototypes = nn.Parameter(torch.randn(PROTOTYPES, BOTTLENECK))

    def forward(self, views: Tensor, rate: float) -> Tensor:  # from a random share `rate` of the patches
        visible, _ = random_split(views, self.vit.patch, rate)
        token = self.project(tokens(self.vit, views, visible)[:, 0])
        return (normalize(token, dim=-1) @ normalize(self.prototypes, dim=-1).T).float()


class SelfDistillation(nn.Module):
    """A student, from half the patches, predicts its moving average's scores for another view of the image. Centering keeps
    one prototype from winning everywhere; the teacher's low temperature keeps the scores from becoming uniform.
    """

    center: Tensor

    def __init__(self, vit: ViT) -> None:
        super().__init__()
        self.student = PrototypeScorer(vit)
        self.teacher = copy.deepcopy(self.student).requires_grad_(False)
        self.register_buffer("center", torch.zeros(PROTOTYPES))

    @property
    def vit(self) -> ViT:
        """The teacher's transformer, which is the one to use."""
        return self.teacher.vit

    def forward(self, batch: Batch) -> dict[str, Tensor]:
        with torch.no_grad():
            for old, new in zip(self.teacher.parameters(), self.student.parameters(), strict=True):
                old.lerp_(new, 1 - TEACHER_MOMENTUM)
            views = [random_view(batch.images) for _ in range(2)]
            scores = self.teacher(torch.cat(views), 1.0)
            target = ((scores - self.center) / TEACHER_TEMPERATURE).softmax(-1)
            self.center.lerp_(scores.mean(0), 1 - CENTER_MOMENTUM)
        prediction = log_softmax(self.student(torch.cat(views[::-1]), KEEP_RATE) / STUDENT_TEMPERATURE, dim=-1)
        mean = target.mean(0)
        return {
            "total": -(target * prediction).sum(-1).mean(),
            "entropy": -(target * (target + 1e-8).log()).sum(-1).mean(),
            "usage": -(mean * (mean + 1e-8).log()).sum(),
        }


def random_view(images: Tensor) -> Tensor:
    """A crop of 40 to 100 % of each side, resized to `VIEW` pixels, mirrored or not, in other colors."""
    b, device = len(images), images.device
    side = torch.empty(b, device=device).uniform_(0.4, 1.0)
    center = (1 - side)[:, None] * torch.empty(b, 2, device=device).uniform_(-1, 1)
    mirror = 1 - 2 * torch.randint(0, 2, (b,), device=device)
    theta = torch.zeros(b, 2, 3, device=device)
    theta[:, 0, 0], theta[:, 1, 1], theta[:, :, 2] = side * mirror, side, center
    views = grid_sample(images, affine_grid(theta, [b, 3, VIEW, VIEW], align_corners=False), align_corners=False)
    gray = views.mean(1, keepdim=True)
    brightness, contrast, saturation = torch.empty(3, b, 1, 1, 1, device=device).uniform_(0.6, 1.4)
    views = gray + (views - gray) * saturation * (torch.rand(b, 1, 1, 1, device=device) > 0.2)
    mean = views.mean((1, 2, 3), keepdim=True)
    return (mean + (views - mean) * contrast).mul(brightness).clamp(0, 1)


@torch.no_grad()
def quality(vit: ViT, val: Dataset) -> dict[str, float]:
    """What attention and tokens know about the objects of the scenes `val`.

    pair_auc: AUC of the attention of `LAYER` for "the other patch is of the same object", mean over scenes.
    token_accuracy: of a linear probe of the last layer's object tokens, fitted on every other scene.
    """
    device = next(vit.parameters()).device
    aucs, features, labels = [], [], []
    for sample in samples(val):
        assert sample.truth is not None
        share, owner = coverage(sample.truth.masks, vit.patch).max(0)
        owner[share <= 0.5] = -1
        is_object = owner >= 0
        images = collate([sample]).images.to(device)
        others = ~torch.eye(len(owner), dtype=torch.bool)
        aucs.append(pair_auc(vit.attention(images, LAYER), owner[None] + 1, others))
        features.append(vit(images)[0].cpu()[is_object])
        labels.append(sample.truth.labels[owner[is_object]])
    (x, y), (x_test, y_test) = ((torch.cat(features[k::2]), torch.cat(labels[k::2])) for k in (0, 1))
    correct = linear_probe(x, y, len(val.classes), x_test, ridge=1e-4) == y_test
    return {"pair_auc": round(float(np.nanmean(aucs)), 4), "token_accuracy": round(correct.float().mean().item(), 4)}
