"""A transformer whose learned tokens already look for objects: what AttentionShift's tiny runs start from.

The release trains its tokens over half a million images. A laptop has minutes, so that the tiny preset starts where that
training would have got to: `python -m wsis pretrain vit_hybrid_points` teaches tokens class and place of the objects of
other scenes, from one point each, and beside that what hidden patches hold. Masks and boxes are not looked at.
`vit_mobile_points` is the like for photographs: on the convolutions of MobileNetV2, from your own clicked pictures.
"""

import torch
from timm.layers.norm_act import freeze_batch_norm_2d
from torch import Tensor, nn
from torch.nn.functional import avg_pool2d, interpolate, layer_norm, pad

from wsis.core.config import changed
from wsis.core.types import Batch, Dataset
from wsis.data.transforms import ShortSide, collate
from wsis.evaluation.features import auc
from wsis.methods.attentionshift.config import TINY
from wsis.methods.attentionshift.model import Encoder, TokenHeads
from wsis.methods.attentionshift.objective import match_tokens, token_terms
from wsis.methods.attentionshift.verbs import clicks_of, divisible, sizes_of
from wsis.models.pyramids import build_pyramid
from wsis.models.vit import HYBRIDS, build_vit
from wsis.ops.rollout import rollout_rows
from wsis.training.schedule import Schedule
from wsis.weak.simulate import with_points

AUGMENT = ShortSide(short=(64,), long=128, flip=0.5)
PHOTOS = ShortSide(short=(160,), long=256, flip=0.5)
PHOTO_TOKENS = 24  # pictures hold more objects than scenes
SCHEDULE = Schedule(1500, 16, "adamw", 5e-4, "poly", betas=(0.9, 0.98), weight_decay=0.05, warmup=40, clip=1.0)
HIDDEN = 0.5  # of the patches
FIRST = 500
"""Steps in which only what is hidden teaches: attention learns to look near before it learns to find."""
PLACE = 2.0  # weight of a token's place; at the published 10 the classes wait for long


class PointFinder(nn.Module):
    """Learned tokens that find points, among patches of which some are hidden. Call: a batch with points -> terms.

    The layers start as those of vit_tiny_mae, the tokens at places spread over the image. At first only hidden patches
    teach. They show the tokens' mean, so that what they learn of attention, to tell from the neighbours what is there,
    the tokens share. The target is the feature of the convolutional stem as it comes. below: weights of that stem, see
    `build_pyramid`. first: steps in which only hidden patches teach.
    """

    step: Tensor

    def __init__(
        self,
        classes: int,
        backbone: str = "vit_hybrid",
        below: str = "shipped",
        first: int = FIRST,
        tokens: int = TINY.tokens.count,
    ) -> None:
        super().__init__()
        self.first = first
        self.cfg = changed(TINY, classes=classes, backbone=backbone, weights="random", **{"tokens.count": tokens})
        self.encoder = Encoder(self.cfg)
        self.register_buffer("step", torch.zeros((), dtype=torch.long))
        own, mae = self.encoder.vit.backbone.state_dict(), build_vit("vit_tiny", "mae").backbone.state_dict()
        shared = {k: v for k, v in mae.items() if k in own and not k.startswith("patch_embed")}
        self.encoder.vit.backbone.load_state_dict(own | shared)
        stem, table = self.encoder.vit.backbone.patch_embed.proj, self.encoder.vit.backbone.pos_embed
        self.encoder.positions = nn.Parameter(spread(table.detach(), self.cfg.tokens.count))
        self.heads = TokenHeads(self.encoder.width, self.cfg)
        convolutions, stride = HYBRIDS[backbone]
        self.teacher = build_pyramid(convolutions, below, output_stride=stride).eval().requires_grad_(False)
        if backbone == "vit_mobile":  # ImageNet's features are better than what few pictures would make of them
            freeze_batch_norm_2d(self.teacher.network)  # as below the transformer
            stem.stages.requires_grad_(False)
        stem.stages.load_state_dict(self.teacher.network.state_dict())
        self.tell = nn.Linear(self.encoder.width, self.teacher.channels[-1])

    def forward(self, batch: Batch) -> dict[str, Tensor]:
        batch = divisible(batch, self.encoder.patch)
        with torch.no_grad():
            wanted = self.teacher.eval()(batch.images)[-1].flatten(2).mT
            wanted = layer_norm(wanted.float(), wanted.shape[-1:])
        first = self.step < self.first
        self.step += self.training
        hidden = first & (torch.rand(wanted.shape[:2], device=wanted.device) < HIDDEN)
        seen = self.encoder(batch.images, attention=False, hidden=hidden)
        told = self.tell(seen.features.flatten(2).mT).float()
        clicks, sizes, (logits, place) = clicks_of(batch), sizes_of(batch), self.heads(seen.tokens)
        matched = match_tokens(logits, place, clicks, sizes, self.cfg.tokens)
        terms = token_terms(logits, place, clicks, matched, sizes)
        error = (told - wanted).square().mean(-1)
        terms["hidden"] = (error * hidden).sum() / hidden.sum().clamp(min=1)
        total = torch.where(first, terms["hidden"], terms["token_class"] + PLACE * terms["token_place"])
        return {**terms, "total": total}


def spread(table: Tensor, count: int) -> Tensor:
    """Positions [1, count, D] spread over the image in rows, from a table of patches' positions [1, 1 + side^2, D]."""
    side, rows = round((table.shape[1] - 1) ** 0.5), int(count**0.5)
    places = table[:, 1:].mT.unflatten(2, (side, side))
    return interpolate(places, (rows, -(-count // rows)), mode="area").flatten(2).mT[:, :count].clone()


@torch.no_grad()
def quality(model: nn.Module, val: Dataset) -> dict[str, float]:
    """What the tokens of clicks know of scenes they have not seen.

    class_accuracy: of the tokens' classes. place_error: L1 in image sides. attention_auc: how well the attention of the
    last layer, and that rolled out over the last four, tells the object's patches from all others.
    """
    assert isinstance(model, PointFinder)
    model.eval()
    right, far, aucs = [], [], {1: [], 4: []}
    for index in range(len(val)):
        sample = with_points(val[index], "box_center")
        assert sample.truth is not None
        batch = divisible(collate([sample]).to(next(model.parameters()).device), model.encoder.patch)
        clicks, seen = clicks_of(batch), model.encoder(batch.images)
        logits, place = model.heads(seen.tokens)
        tokens = match_tokens(logits, place, clicks, sizes_of(batch), model.cfg.tokens)
        n = seen.features[0, 0].numel()
        right.append(logits[0, tokens[0]].argmax(1).eq(clicks.labels[0]).float().cpu())
        far.append((place[0, tokens[0]] - clicks.xy[0] / sizes_of(batch)).abs().sum(1).cpu())
        maps = rollout_rows(seen.layers, tokens + 1 + n)[0, :, :, 1 : 1 + n].cpu()
        masks = _padded(sample.truth.masks, batch.images.shape[-2:])
        on = avg_pool2d(masks[:, None], model.encoder.patch).flatten(1) >= 0.5
        for layers, found in aucs.items():
            found += [auc(m.numpy(), o.numpy()) for m, o in zip(maps[layers - 1], on, strict=True) if o.any()]
    figures = {"class_accuracy": torch.cat(right).mean(), "place_error": torch.cat(far).mean()}
    figures |= {f"attention_auc_{k}": torch.tensor(v).nanmean() for k, v in aucs.items()}
    return {name: round(float(value), 4) for name, value in figures.items()}


def _padded(masks: Tensor, size: torch.Size) -> Tensor:
    """Masks [K, H, W] as fp32 at the size of their padded image."""
    height, width = masks.shape[1:]
    return pad(masks.float(), (0, size[1] - width, 0, size[0] - height))
