"""A transformer whose learned tokens already look for objects: what AttentionShift's tiny runs start from.

The release trains its tokens over half a million images, and the tiny preset starts where that would have got to.
`python -m wsis pretrain vit_hybrid_points` trains tokens to find class and place of the objects of other scenes, from one
point each; masks and boxes are not read. `vit_lite0_points` does so for photographs: on the frozen convolutions of
EfficientNet-Lite0, from your own clicked images.
"""

import torch
from torch import Tensor, nn
from torch.nn.functional import interpolate, layer_norm, pad

from wsis.core.config import changed
from wsis.core.types import Batch, Dataset
from wsis.data.transforms import ShortSide, collate
from wsis.evaluation.features import auc
from wsis.methods.attentionshift.config import TINY
from wsis.methods.attentionshift.detector import image_sizes
from wsis.methods.attentionshift.labels import match_tokens
from wsis.methods.attentionshift.maps import pad_points
from wsis.methods.attentionshift.model import Encoder, TokenHeads
from wsis.methods.attentionshift.objective import token_terms
from wsis.methods.attentionshift.verbs import divisible
from wsis.models.pyramids import build_pyramid
from wsis.models.vit import HYBRIDS, build_vit
from wsis.ops.patches import covered_patches
from wsis.ops.rollout import rollout_rows
from wsis.training.schedule import Schedule
from wsis.weak.simulate import with_points

AUGMENT = ShortSide(short=(64,), long=128, flip=0.5)
PHOTOS = ShortSide(short=(160,), long=256, flip=0.5)
PHOTO_TOKENS = 24  # photographs hold more objects than scenes
SCHEDULE = Schedule(1500, 16, "adamw", 5e-4, "poly", betas=(0.9, 0.98), weight_decay=0.05, warmup=40, clip=1.0)
HIDDEN = 0.5  # of the patches
FIRST = 500
"""Steps in which the hidden patches alone are supervised: attention learns to look near before it learns to find."""
PLACE = 2.0  # weight of a token's place; at the published 10 the classes wait for long


class PointFinder(nn.Module):
    """Learned tokens that find points, among patches of which some are hidden. Call: a batch with points -> terms.

    The layers start as those of vit_tiny_mae, the tokens at places spread over the image. In the `first` steps only hidden
    patches are supervised, by the features of the convolutional stem with `stem_weights`. They show the tokens' mean, so that
    the tokens share what these patches learn of attention.
    """

    step: Tensor

    def __init__(
        self,
        classes: int,
        backbone: str = "vit_hybrid",
        stem_weights: str = "shipped",
        first: int = FIRST,
        tokens: int = TINY.tokens.count,
    ) -> None:
        super().__init__()
        self.first = first
        self.cfg = changed(TINY, classes=classes, backbone=backbone, weights="random", **{"tokens.count": tokens})
        self.encoder = Encoder(self.cfg)
        self.register_buffer("step", torch.zeros((), dtype=torch.long))
        transformer = self.encoder.vit.backbone
        fresh, mae = transformer.state_dict(), build_vit("vit_tiny", "mae").backbone.state_dict()
        shared = {k: v for k, v in mae.items() if k in fresh and not k.startswith("patch_embed")}
        transformer.load_state_dict(fresh | shared)
        stem, table = transformer.patch_embed.proj, transformer.pos_embed
        assert table is not None
        self.encoder.positions = nn.Parameter(spread(table.detach(), self.cfg.tokens.count))
        self.heads = TokenHeads(self.encoder.width, self.cfg)
        convolutions, stride = HYBRIDS[backbone]
        self.teacher = build_pyramid(convolutions, stem_weights, output_stride=stride).eval().requires_grad_(False)
        stem.stages.load_state_dict(self.teacher.network.state_dict())
        self.reconstruct = nn.Linear(self.encoder.width, self.teacher.channels[-1])

    def forward(self, batch: Batch) -> dict[str, Tensor]:
        batch = divisible(batch, self.encoder.patch)
        with torch.no_grad():
            target = self.teacher.eval()(batch.images)[-1].flatten(2).mT
            target = layer_norm(target.float(), target.shape[-1:])
        first = self.step < self.first
        self.step += self.training
        hidden = first & (torch.rand(target.shape[:2], device=target.device) < HIDDEN)
        encoded = self.encoder(batch.images, attention=False, hidden=hidden)
        reconstruction = self.reconstruct(encoded.features.flatten(2).mT).float()
        clicks, sizes = pad_points(batch.points, len(batch.images)), image_sizes(batch.valid)
        logits, places = self.heads(encoded.tokens)
        tokens = match_tokens(logits, places, clicks, sizes)
        terms = token_terms(logits, places, clicks, tokens, sizes)
        error = (reconstruction - target).square().mean(-1)
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
    """How well the tokens of clicks do on scenes that they were not trained on.

    class_accuracy: of the tokens. place_error: L1 in image sides. attention_auc: how well the attention of the last layer, and
    that rolled out over the last four, separates the object's patches from all others.
    """
    assert isinstance(model, PointFinder)
    model.eval()
    correct, errors, aucs = [], [], {1: [], 4: []}
    for index in range(len(val)):
        sample = with_points(val[index], "box_center")
        assert sample.truth is not None
        batch = divisible(collate([sample]).to(next(model.parameters()).device), model.encoder.patch)
        clicks, sizes = pad_points(batch.points, 1), image_sizes(batch.valid)
        encoded = model.encoder(batch.images)
        logits, places = model.heads(encoded.tokens)
        tokens = match_tokens(logits, places, clicks, sizes)
        n = encoded.features[0, 0].numel()
        correct.append(logits[0, tokens[0]].argmax(1).eq(clicks.labels[0]).float().cpu())
        errors.append((places[0, tokens[0]] - clicks.xy[0] / sizes).abs().sum(1).cpu())
        maps = rollout_rows(encoded.layers, tokens + 1 + n)[0, :, :, 1 : 1 + n].cpu()
        (height, width), masks = batch.images.shape[-2:], sample.truth.masks
        masks = pad(masks, (0, width - masks.shape[2], 0, height - masks.shape[1]))
        objects = covered_patches(masks, model.encoder.patch)
        for layers, values in aucs.items():
            pairs = zip(maps[layers - 1], objects, strict=True)
            values += [auc(m.numpy(), o.numpy()) for m, o in pairs if o.any()]
    figures = {"class_accuracy": torch.cat(correct).mean(), "place_error": torch.cat(errors).mean()}
    figures |= {f"attention_auc_{k}": torch.tensor(v).nanmean() for k, v in aucs.items()}
    return {name: round(float(value), 4) for name, value in figures.items()}
