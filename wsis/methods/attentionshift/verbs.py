"""The verbs of AttentionShift. Labels are made anew in every step from the very features that are trained."""

from dataclasses import replace
from pathlib import Path

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.functional import interpolate
from torchvision.models.detection.roi_heads import paste_masks_in_image

from wsis.core.config import changed
from wsis.core.seeds import seed_of
from wsis.core.types import Batch, Dataset, Instances, Trace
from wsis.data.transforms import ShortSide, short_side
from wsis.methods.attentionshift.config import AttentionShiftConfig
from wsis.methods.attentionshift.detector import AttentionShift, of_class
from wsis.methods.attentionshift.labels import Labels, PaddedPoints, mask_targets, pad_points
from wsis.methods.attentionshift.model import pad_to_multiple
from wsis.methods.attentionshift.objective import objective
from wsis.models.weights import load_weights
from wsis.training.loop import TrainingData

FLIP = 0.5  # the probability that a training image is mirrored (official config)


def baseline(cfg: AttentionShiftConfig) -> AttentionShiftConfig:
    """`cfg` without refinement and parts: masks and points from the raw attention (supp. Table 2, Baseline)."""
    return changed(cfg, **{"refine": False, "parts.shift": "none", "tokens.feedback": False})


def build(cfg: AttentionShiftConfig) -> AttentionShift:
    """The network with its pretrained transformer."""
    return AttentionShift(cfg)


def restore(cfg: AttentionShiftConfig, folder: Path) -> AttentionShift:
    """The trained network of a run folder."""
    model = AttentionShift(changed(cfg, weights="random"))
    load_weights(model, folder / "network.safetensors")
    return model


def training_data(dataset: Dataset, cfg: AttentionShiftConfig) -> TrainingData:
    """Whole images at a random size, mirrored at random."""
    return TrainingData(dataset=dataset, augment=ShortSide(short=cfg.size.short, long=cfg.size.long, flip=FLIP))


def targets(model: nn.Module, batch: Batch, cfg: AttentionShiftConfig) -> PaddedPoints:
    """The clicks, padded; `loss` makes all other targets of them. Raises ValueError where the batch has no points."""
    return clicks_of(batch)


def loss(model: nn.Module, batch: Batch, targets: PaddedPoints, cfg: AttentionShiftConfig) -> dict[str, Tensor]:
    """The objective's token_class, token_place, mil, objectness, proposal_box, roi_class, roi_box, mask and total."""
    return objective(model(batch.images, batch.valid, targets), targets, cfg)


def pseudo_labels(model: AttentionShift | None, batch: Batch, cfg: AttentionShiftConfig) -> list[Instances]:
    """One mask per point, in order, with at least the pixel of the click; without a model no more than that.

    Scores are those of the chosen candidate. Raises ValueError where the batch has no points.
    """
    return label_images(model, batch, cfg)[0]


def explain(model: AttentionShift | None, batch: Batch, cfg: AttentionShiftConfig) -> Trace:
    """The clicks and, with a model, every map on the way to the pseudo labels, at the size of inference."""
    labels = label_images(model, batch, cfg)[1]
    steps = {"clicks": clicks_of(batch).xy}
    if labels is not None:
        steps |= {name: value for name, value in vars(labels).items() if isinstance(value, Tensor)} | labels.steps
    return Trace(steps)


@torch.no_grad()
def label_images(
    model: AttentionShift | None, batch: Batch, cfg: AttentionShiftConfig
) -> tuple[list[Instances], Labels | None]:
    """The pseudo labels of a batch and, with a model, what they are made of, at the size of inference."""
    clicks, size, device = clicks_of(batch), batch.images.shape[-2:], batch.images.device
    masks = torch.zeros(*clicks.present.shape, *size, dtype=torch.bool, device=device)
    scores, labels = torch.ones_like(clicks.xy[..., 0]), None
    if model is not None:
        small = rescaled(batch, cfg)
        height, width = small.images.shape[-2:]
        padded = divisible(small, model.multiple)
        generator = torch.Generator(device).manual_seed(seed_of("labels", batch.image_ids))
        encoded = model.encoder(padded.images)
        labels, _, _, mil_scores = model.label(encoded, padded.valid, clicks_of(padded), cfg, generator)
        if masks.shape[1]:  # there is a point
            pseudo = mask_targets(labels, cfg)[0][..., :height, :width].float()
            masks = interpolate(pseudo, size, mode="bilinear", align_corners=False) > 0.5
        scores = of_class(mil_scores, clicks.labels).amax(2)
    instances = []
    for m, s, xy, label, ids, p in zip(masks, scores, *clicks, strict=True):
        instances.append(Instances.make(with_clicks(m[p], xy[p]), label[p], scores=s[p], ids=ids[p]))
    return instances, labels


def with_clicks(masks: Tensor, xy: Tensor) -> Tensor:
    """Masks [K, H, W], each with its clicked pixel."""
    height, width = masks.shape[1:]
    x, y = xy.round().long().unbind(1)
    index = torch.arange(len(masks), device=masks.device), y.clamp(0, height - 1), x.clamp(0, width - 1)
    return masks.index_put(index, torch.ones_like(index[0], dtype=torch.bool))


@torch.no_grad()
def predict(model: AttentionShift, images: Float[Tensor, "B 3 H W"], cfg: AttentionShiftConfig) -> list[Instances]:
    """Instances of images in [0, 1], without any label; scores in [0, 1]."""
    size = (images.shape[-2], images.shape[-1])
    valid = torch.ones(len(images), *size, dtype=torch.bool, device=images.device)
    small = rescaled(Batch(images=images, image_ids=(0,) * len(images), valid=valid), cfg)
    inside = (small.images.shape[-2], small.images.shape[-1])
    encoded = model.encoder(divisible(small, model.multiple).images, attention=False)
    ratio = torch.tensor([size[1] / inside[1], size[0] / inside[0]] * 2, device=images.device)
    instances = []
    for objects in model.detector.detect(encoded.features, encoded.taps, [inside] * len(images)):
        masks = paste_masks_in_image(objects["masks"][:, None], objects["boxes"] * ratio, size)[:, 0] > 0.5
        instances.append(Instances.make(masks, objects["labels"], scores=objects["scores"]))
    return instances


def clicks_of(batch: Batch) -> PaddedPoints:
    """The points of a batch, padded; raises ValueError where it has none."""
    if batch.points is None:
        raise ValueError("AttentionShift needs points; the batch has none")
    return pad_points(batch.points, len(batch.images))


def divisible(batch: Batch, multiple: int) -> Batch:
    """The batch with sides that are multiples of `multiple`, see `pad_to_multiple`."""
    images, valid = pad_to_multiple(batch.images, batch.valid, multiple)
    return replace(batch, images=images, valid=valid)


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
