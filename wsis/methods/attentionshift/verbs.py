"""AttentionShift: one point per object -> instance masks (CVPR 2023).

click --matched token's attention, rolled out--> boxes --MIL--> one box --cosine refinement--> object and background
features in the box --key-point shift--> parts --filter, merge--> key-points -> a mask head and, again, the tokens

Labels are made anew in every step from the very features that are trained; tokens exist in training only.
"""

from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn.functional import interpolate, pad
from torchvision.models.detection.roi_heads import paste_masks_in_image

from wsis.core.config import changed
from wsis.core.seeds import seed_of
from wsis.core.types import Batch, Dataset, Instances, Trace
from wsis.data.transforms import ShortSide, short_side
from wsis.methods.attentionshift.config import AttentionShiftConfig
from wsis.methods.attentionshift.detector import Detector
from wsis.methods.attentionshift.labels import (
    Clicks,
    Labels,
    PointSet,
    find_candidates,
    find_labels,
    gather_clicks,
    mask_targets,
    point_targets,
)
from wsis.methods.attentionshift.model import Encoded, Encoder, MilHead, TokenHeads
from wsis.methods.attentionshift.objective import (
    mask_term,
    match_tokens,
    mil_term,
    point_term,
    token_terms,
    weighted,
    with_key_points,
)
from wsis.models.weights import load_weights
from wsis.training.loop import TrainingData

RARE = -4.6
"""First logit of a token's classes, a probability of one in a hundred, as usual with a focal loss (Lin et al., 2017)."""


class AttentionShift(nn.Module):
    """Transformer with point tokens, their heads, the MIL head and the detector. Call: one batch -> terms of the loss."""

    def __init__(self, cfg: AttentionShiftConfig) -> None:
        super().__init__()
        self.encoder = Encoder(cfg)
        self.tokens = TokenHeads(self.encoder.width, cfg)
        nn.init.constant_(self.tokens.label[-2].bias, RARE)  # pyright: ignore[reportArgumentType]  # its last linear layer
        self.mil = MilHead(self.encoder.width, self.encoder.patch, cfg)
        self.detector = Detector(self.encoder.width, self.encoder.patch, cfg)

    def forward(self, batch: Batch, cfg: AttentionShiftConfig) -> dict[str, Tensor]:
        batch = divisible(batch, 2 * self.encoder.patch)
        clicks, seen = clicks_of(batch), self.encoder(batch.images)
        labels, (logits, place), scores = label_batch(self, seen, batch, clicks, cfg)
        sizes = sizes_of(batch)
        targets = with_key_points(clicks, labels.key_points, cfg.tokens)
        matched = match_tokens(logits, place, targets, sizes, cfg.tokens)
        present = clicks.present
        terms = token_terms(logits, place, targets, matched, sizes)
        terms["mil"] = mil_term(scores[present], clicks.labels[present])
        counts = present.sum(1).tolist()
        boxes, classes = labels.boxes[present].split(counts), clicks.labels[present].split(counts)
        inside = [(int(h), int(w)) for w, h in sizes.tolist()]
        found = self.detector(seen.features, seen.taps, inside, list(boxes), list(classes))
        terms |= found.terms
        row = found.image * present.shape[1] + found.matched
        if cfg.mask.supervision == "point":
            points = point_targets(labels, clicks, cfg.mask)
            flat = PointSet(*(part.flatten(0, 1) for part in points))
            terms["mask"] = point_term(found.mask_logits, found.rois, flat, row)
        else:
            masks, certain = (m.flatten(0, 1) for m in mask_targets(labels, cfg))
            terms["mask"] = mask_term(found.mask_logits, found.rois, masks, certain, row)
        return weighted(terms, cfg)


def baseline(cfg: AttentionShiftConfig) -> AttentionShiftConfig:
    """`cfg` without refinement and parts: masks and points from the raw attention (supp. Table 2, Baseline)."""
    return changed(cfg, **{"refine.enabled": False, "parts.shift": "none", "tokens.feedback": False})


def build(cfg: AttentionShiftConfig) -> AttentionShift:
    """The network with its pretrained transformer."""
    return AttentionShift(cfg)


def restore(cfg: AttentionShiftConfig, folder: Path) -> AttentionShift:
    """The trained network of a run folder."""
    model = AttentionShift(changed(cfg, weights="random"))
    load_weights(model, folder / "network.safetensors")
    return model


def label_batch(
    model: AttentionShift,
    seen: Encoded,
    batch: Batch,
    clicks: Clicks,
    cfg: AttentionShiftConfig,
    generator: torch.Generator | None = None,
    figures: bool = False,
) -> tuple[Labels, tuple[Tensor, Tensor], Tensor]:
    """Labels of a batch whose sides divide into patches, logits and places of all tokens, MIL scores [B, G, K, C].

    Only the last two have a gradient.
    """
    patch, grid = model.encoder.patch, (seen.features.shape[2], seen.features.shape[3])
    logits, place = model.tokens(seen.tokens)
    tokens = match_tokens(logits, place, clicks, sizes_of(batch), cfg.tokens)
    found = find_candidates(seen.layers, tokens, clicks, grid, cfg, patch)
    image = torch.arange(len(tokens), device=tokens.device).repeat_interleave(tokens.shape[1])
    scores = model.mil(seen.features, found.boxes.transpose(1, 2).flatten(0, 1), image)
    scores = scores.unflatten(0, tuple(tokens.shape))
    chosen = of_class(scores.detach(), clicks.labels).argmax(2)
    valid = batch.valid.unflatten(1, (grid[0], patch)).unflatten(3, (grid[1], patch)).any(4).any(2)
    labels = find_labels(seen.features, found, chosen, clicks, valid, cfg, patch, generator, figures)
    return labels, (logits, place), scores


def of_class(scores: Tensor, labels: Tensor) -> Tensor:
    """MIL scores [B, G, K, C] of each object's own class: [B, G, K]."""
    return scores.take_along_dim(labels[..., None, None], 3)[..., 0]


def training_data(dataset: Dataset, cfg: AttentionShiftConfig) -> TrainingData:
    """Whole images at a random size, mirrored at random."""
    size = cfg.size
    return TrainingData(dataset=dataset, augment=ShortSide(short=size.short, long=size.long, flip=size.flip))


def loss(model: nn.Module, batch: Batch, targets: None, cfg: AttentionShiftConfig) -> dict[str, Tensor]:
    """The objective on one batch with points, labels made by the very features that are trained; `targets` is None.

    Terms: token_class, token_place, mil, objectness, proposal_box, roi_class, roi_box, mask, total.
    """
    return model(batch, cfg)


@torch.no_grad()
def pseudo_labels(
    model: AttentionShift | None, batch: Batch, cfg: AttentionShiftConfig, trace: bool = False
) -> list[Instances] | tuple[list[Instances], Trace]:
    """One mask per point, in order, with at least the pixel of the click; without a model no more than that.

    Scores are those of the chosen candidate. With `trace` also every map on the way, at the size of inference.

    Raises:
        ValueError: the batch has no points.
    """
    if batch.points is None:
        raise ValueError("pseudo_labels needs points in the batch")
    clicks, size = clicks_of(batch), batch.images.shape[-2:]
    made = torch.zeros(*clicks.present.shape, *size, dtype=torch.bool, device=batch.images.device)
    scores, steps = torch.ones_like(clicks.xy[..., 0]), {"clicks": clicks.xy}
    if model is not None:
        small = rescaled(batch, cfg)
        seen = model.encoder((even := divisible(small, 2 * model.encoder.patch)).images)
        generator = torch.Generator(batch.images.device).manual_seed(seed_of("labels", batch.image_ids))
        labels, _, of = label_batch(model, seen, even, clicks_of(even), cfg, generator, figures=trace)
        masks = mask_targets(labels, cfg)[0][..., : small.images.shape[-2], : small.images.shape[-1]]
        if masks.shape[1]:  # there is a point
            made = interpolate(masks.float(), size, mode="bilinear", align_corners=False) > 0.5
        scores = of_class(of, clicks.labels).amax(2)
        steps |= traced(labels)
    out = [
        Instances.make(with_clicks(m[p], xy[p]), label[p], scores=s[p], ids=ids[p])
        for m, p, xy, label, s, ids in zip(
            made, clicks.present, clicks.xy, clicks.labels, scores, clicks.ids, strict=True
        )
    ]
    return (out, Trace(steps)) if trace else out


def traced(labels: Labels) -> dict[str, Tensor]:
    """The labels as named tensors, nested ones joined by dots."""
    steps = {}
    for name, value in labels._asdict().items():
        if isinstance(value, Tensor):
            steps[name] = value
        elif value is not None:
            steps |= {f"{name}.{k}": v for k, v in value._asdict().items()}
    return steps


def with_clicks(masks: Tensor, xy: Tensor) -> Tensor:
    """Masks [K, H, W], each with its clicked pixel."""
    height, width = masks.shape[1:]
    x, y = xy.round().long().unbind(1)
    index = torch.arange(len(masks), device=masks.device), y.clamp(0, height - 1), x.clamp(0, width - 1)
    return masks.index_put(index, torch.ones_like(index[0], dtype=torch.bool))


@torch.no_grad()
def predict(model: AttentionShift, images: Tensor, cfg: AttentionShiftConfig) -> list[Instances]:
    """Instances of images [B, 3, H, W] in [0, 1], without any label; scores in [0, 1]."""
    size = (images.shape[-2], images.shape[-1])
    whole = torch.ones(len(images), *size, dtype=torch.bool, device=images.device)
    batch = rescaled(Batch(images=images, image_ids=(0,) * len(images), valid=whole), cfg)
    inside = (batch.images.shape[-2], batch.images.shape[-1])
    seen = model.encoder(divisible(batch, 2 * model.encoder.patch).images, attention=False)
    ratio = torch.tensor([size[1] / inside[1], size[0] / inside[0]] * 2, device=images.device)
    out = []
    for found in model.detector.detect(seen.features, seen.taps, [inside] * len(images)):
        masks = paste_masks_in_image(found["masks"][:, None], found["boxes"] * ratio, size)[:, 0] > 0.5
        out.append(Instances.make(masks, found["labels"], scores=found["scores"]))
    return out


def clicks_of(batch: Batch) -> Clicks:
    """The points of a batch, padded.

    Raises:
        ValueError: the batch has no points.
    """
    if batch.points is None:
        raise ValueError("AttentionShift learns from points; the batch has none")
    return gather_clicks(batch.points, len(batch.images))


def sizes_of(batch: Batch) -> Tensor:
    """(width, height) of each image without padding, which is at the right and at the bottom: float32 [B, 2]."""
    return torch.stack([batch.valid.any(1).sum(1), batch.valid.any(2).sum(1)], 1).float()


def divisible(batch: Batch, multiple: int) -> Batch:
    """The batch padded at the right and at the bottom, with its last pixels, to sides that are multiples of `multiple`."""
    right, bottom = (-side % multiple for side in (batch.images.shape[-1], batch.images.shape[-2]))
    images = pad(batch.images, (0, right, 0, bottom), mode="replicate")
    return replace(batch, images=images, valid=pad(batch.valid, (0, right, 0, bottom)))


def rescaled(batch: Batch, cfg: AttentionShiftConfig) -> Batch:
    """A batch of whole images at the size of inference."""
    old = (batch.images.shape[-2], batch.images.shape[-1])
    new = short_side(old, cfg.size.test_short, cfg.size.test_long)
    images = interpolate(batch.images, new, mode="bilinear", align_corners=False, antialias=True)
    valid = interpolate(batch.valid[:, None].float(), new, mode="nearest-exact")[:, 0] > 0
    points = batch.points
    if points is not None:
        ratio = torch.tensor([new[1] / old[1], new[0] / old[0]], device=images.device)
        points = replace(points, xy=(points.xy + 0.5) * ratio - 0.5)
    return replace(batch, images=images, valid=valid, points=points)
