"""AttentionShift's tensor operations as the formulas say them: whole matrices, one large difference of all with all."""

import torch
from torch import Tensor
from torch.nn.functional import cosine_similarity

from wsis.methods.attentionshift.config import PartConfig
from wsis.methods.attentionshift.maps import BACKGROUND, FOREGROUND, SAMPLES
from wsis.methods.attentionshift.parts import ITERATIONS


def plain_rollout(layers: list[tuple[Tensor, Tensor]], rows: Tensor) -> Tensor:
    """The products of (A + I) / 2 of all layers, of which the rows are taken at the end: [B, K, G, T]."""
    products: list[Tensor] = []
    for query, key in layers:
        attention = (query @ key.mT * query.shape[-1] ** -0.5).softmax(-1).mean(1)
        half = (attention + torch.eye(attention.shape[-1], device=attention.device)) / 2
        products.append(products[-1] @ half if products else half)
    return torch.stack([p.take_along_dim(rows[..., None], 1) for p in products], 1)


def plain_shift(features: Tensor, seeds: Tensor, inside: Tensor, cfg: PartConfig) -> Tensor:
    """The key-point shift of one image with zeros outside the boxes, all prototypes with all patches: [G, m, D].

    features: [n, D]. seeds: [G, m]. inside: bool [G, n].
    """
    seen = features * inside[..., None]  # [G, n, D]
    prototypes, tau = features[seeds], torch.full((*seeds.shape, 1), cfg.tau, device=features.device)
    number = torch.arange(seeds.shape[1], device=features.device)[:, None]
    for _ in range(ITERATIONS):
        cosine = cosine_similarity(prototypes[:, :, None], seen[:, None], dim=-1)  # of [G, m, n, D]
        weights = (cosine / (cfg.temperature * tau)).softmax(-1)
        own = (weights.argmax(1, keepdim=True) == number).float()
        prototypes = (weights * own) @ seen
        cosine = cosine_similarity(prototypes[:, :, None], seen[:, None], dim=-1)
        mean = (cosine * own).sum(-1, keepdim=True) / own.sum(-1, keepdim=True).clamp_min(1)
        tau = (1 - mean).clamp_min(1e-10)
    return prototypes


def plain_samples(maps: Tensor, index: Tensor, present: Tensor, valid: Tensor) -> Tensor:
    """Patches of one image, drawn as pixels of one map after the other, as the release does: [1, 2 G + 1, n]."""
    patch, width, patches = maps.shape[-1] // valid.shape[-1], valid.shape[-1], valid[0].numel()

    def drawn(mask: Tensor) -> Tensor:
        places = mask.nonzero()
        y, x = (places[torch.randint(len(places), (SAMPLES,), device=mask.device)] // patch).unbind(1)
        return torch.bincount(y * width + x, minlength=patches).float()

    def low(heat: Tensor) -> Tensor:
        threshold = BACKGROUND
        while (heat < threshold).sum() < SAMPLES:
            threshold *= 2
        return heat < threshold

    objects = [drawn(heat >= FOREGROUND) for heat in maps[0]]
    return torch.stack([*objects, *(drawn(low(heat)) for heat in (maps[0].mean(0), *maps[0]))])[None]
