"""A transformer whose learned tokens already look for objects: what AttentionShift's tiny runs start from.

The release trains its tokens over half a million images, and the tiny preset starts where that would have got to:
`python -m wsis pretrain vit_hybrid_points` trains tokens to find class and place of the objects of other scenes, from one
point each.
"""

import torch
from torch import Tensor, nn
from torch.nn.functional import layer_norm

from wsis.core.config import changed
from wsis.core.types import Batch
from wsis.data.transforms import ShortSide
from wsis.methods.attentionshift.config import TINY
from wsis.methods.attentionshift.detector import image_extents
from wsis.methods.attentionshift.maps import pad_points
from wsis.methods.attentionshift.model import Encoder, TokenHeads, divisible, spread
from wsis.methods.attentionshift.objective import token_terms
from wsis.models.pyramids import build_pyramid
from wsis.models.vit import HYBRIDS, build_vit
from wsis.training.schedule import Schedule

AUGMENT = ShortSide(short=(64,), long=128, flip=0.5)
SCHEDULE = Schedule(1500, 16, "adamw", 5e-4, "poly", betas=(0.9, 0.98), weight_decay=0.05, warmup=40, clip=1.0)
HIDDEN = 0.5  # of the patches
FIRST = 500  # steps with hidden patches alone: attention learns to look near before it learns to find
PLACE = 2.0  # weight of a token's place; at the published 10 the classes wait for long


class PointFinder(nn.Module):
    """Learned tokens that find points, among patches of which some are hidden. Call: a batch with points -> terms.

    The layers start as those of vit_tiny_mae, the tokens at places spread over the image. In the first steps only hidden
    patches are supervised, by the features of the convolutions below. They show the mean of the tokens, which thus share what
    these patches learn of attention.
    """

    step: Tensor

    def __init__(self, classes: int) -> None:
        super().__init__()
        cfg = changed(TINY, classes=classes, weights="random")
        self.encoder = Encoder(cfg)
        self.register_buffer("step", torch.zeros((), dtype=torch.long))
        transformer = self.encoder.vit.backbone
        fresh, mae = transformer.state_dict(), build_vit("vit_tiny", "mae").backbone.state_dict()
        shared = {k: v for k, v in mae.items() if k in fresh and not k.startswith("patch_embed")}
        transformer.load_state_dict(fresh | shared)
        assert transformer.pos_embed is not None
        self.encoder.positions = nn.Parameter(spread(transformer.pos_embed.detach(), cfg.tokens.count))
        self.heads = TokenHeads(self.encoder.width, cfg)
        convolutions, stride = HYBRIDS[cfg.backbone]
        self.teacher = build_pyramid(convolutions, "shipped", output_stride=stride).eval().requires_grad_(False)
        transformer.patch_embed.proj.stages.load_state_dict(self.teacher.network.state_dict())
        self.reconstruct = nn.Linear(self.encoder.width, self.teacher.channels[-1])

    def forward(self, batch: Batch) -> dict[str, Tensor]:
        batch = divisible(batch, self.encoder.patch)
        with torch.no_grad():
            target = self.teacher.eval()(batch.images)[-1].flatten(2).mT
            target = layer_norm(target.float(), target.shape[-1:])
        first = self.step < FIRST
        self.step += self.training
        hidden = first & (torch.rand(target.shape[:2], device=target.device) < HIDDEN)
        encoded = self.encoder(batch.images, attention=False, hidden=hidden)
        reconstruction = self.reconstruct(encoded.features.flatten(2).mT).float()
        clicks, extents = pad_points(batch.points, len(batch.images)), image_extents(batch.valid)
        logits, places = self.heads(encoded.tokens)
        terms = token_terms(logits, places, clicks, extents)
        error = (reconstruction - target).square().mean(-1)
        terms["hidden"] = (error * hidden).sum() / hidden.sum().clamp(min=1)
        total = torch.where(first, terms["hidden"], terms["token_class"] + PLACE * terms["token_place"])
        return {**terms, "total": total}
