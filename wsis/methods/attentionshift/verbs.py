"""The verbs of AttentionShift. Labels are made anew in every step from the very features that are trained."""

from collections.abc import Iterator
from dataclasses import replace
from functools import partial, reduce
from pathlib import Path

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.functional import interpolate

from wsis.core.config import changed, seed_of
from wsis.core.errors import AnnotationError
from wsis.core.masks import RunLengths
from wsis.core.types import IGNORE, NO_ID, Batch, Dataset, Instances, Sample, Trace
from wsis.data.masks import paint_semantic
from wsis.data.transforms import ShortSide, short_side
from wsis.methods.attentionshift.config import AttentionShiftConfig
from wsis.methods.attentionshift.detector import AttentionShift, of_class
from wsis.methods.attentionshift.labels import Labels, mask_targets
from wsis.methods.attentionshift.maps import PaddedPoints, pad_points
from wsis.methods.attentionshift.model import Encoded, divisible, pad_to_multiple
from wsis.methods.attentionshift.objective import objective
from wsis.models.weights import load_weights
from wsis.ops.enlarge import enlarged, pasted
from wsis.training.loop import TrainingData

FLIP = 0.5  # the probability that a training image is mirrored (official config)
Group = tuple[list[Instances], Labels | None]  # of some clicks: the masks of each image, and what they are made of


build = AttentionShift


def restore(cfg: AttentionShiftConfig, folder: Path) -> AttentionShift:
    """The trained network of a run folder."""
    return load_weights(AttentionShift(changed(cfg, weights="random")), folder / "network.safetensors")


def training_data(dataset: Dataset, cfg: AttentionShiftConfig) -> TrainingData:
    """Whole images at a random size, mirrored at random; for an oracle with the true masks as a map."""
    return TrainingData(dataset=dataset, augment=partial(augment, cfg=cfg), annotates=cfg.oracle != "none")


def augment(sample: Sample, seed: int, cfg: AttentionShiftConfig) -> Sample:
    """Of more clicks than there are tokens an image shows as many, at random."""
    sample = ShortSide(short=cfg.size.short, long=cfg.size.long, flip=FLIP)(sample, seed)
    if sample.points is not None and len(sample.points) > cfg.tokens.count:
        order = torch.randperm(len(sample.points), generator=torch.Generator().manual_seed(seed))
        sample = replace(sample, points=sample.points[order[: cfg.tokens.count]])
    return sample if cfg.oracle == "none" else with_owners(sample)


def with_owners(sample: Sample) -> Sample:
    """Give the sample a map of the number of the click, from 1, on whose true object each pixel lies; small objects in front.

    Objects and clicks are matched by their ids; raises AnnotationError without masks.
    """
    if sample.truth is None or sample.points is None:
        raise AnnotationError(f"image {sample.image_id} has no masks; the oracle needs them beside the clicks")
    if (sample.points.ids == NO_ID).any():
        raise AnnotationError(
            f"image {sample.image_id} has clicks without ids, by which the oracle knows their objects"
        )
    if len(sample.points) >= IGNORE:
        raise AnnotationError(f"image {sample.image_id} has {len(sample.points)} clicks; the oracle takes {IGNORE - 1}")
    row, click = (sample.truth.ids[:, None] == sample.points.ids).nonzero(as_tuple=True)
    return replace(sample, semantic_map=paint_semantic(Instances.make(sample.truth.runs[row], click)))


def targets(model: nn.Module | None, batch: Batch, cfg: AttentionShiftConfig) -> PaddedPoints:
    """The clicks, padded; `loss` makes all other targets of them. Raises ValueError where the batch has no points."""
    return pad_points(batch.points, len(batch.images))


def loss(model: nn.Module, batch: Batch, targets: PaddedPoints, cfg: AttentionShiftConfig) -> dict[str, Tensor]:
    """The objective's token_class, token_place, mil, objectness, proposal_box, roi_class, roi_box, mask and total."""
    return objective(model(batch.images, batch.valid, targets, owners(batch, cfg)), targets, cfg)


def owners(batch: Batch, cfg: AttentionShiftConfig) -> Tensor | None:
    """What an oracle knows: the map of `with_owners`, long [B, H, W], 0 on padding, where the batch has it."""
    return None if batch.semantic_maps is None or cfg.oracle == "none" else batch.semantic_maps % IGNORE


def pseudo_labels(model: AttentionShift | None, batch: Batch, cfg: AttentionShiftConfig) -> list[Instances]:
    """One mask per point, in order, with at least the pixel of the click; without a model no more than that.

    Scores are those of the chosen candidate. Raises ValueError where the batch has no points.
    """
    groups = [masks for masks, _ in label_groups(model, batch, cfg)]
    return [reduce(Instances.cat, image) for image in zip(*groups, strict=True)]


def explain(model: AttentionShift | None, batch: Batch, cfg: AttentionShiftConfig) -> Trace:
    """The clicks and, with a model, every map on the way to the pseudo labels, at the size of inference."""
    (_, labels), *_ = label_groups(model, batch, cfg)
    steps = {"clicks": targets(model, batch, cfg).xy}
    if labels is not None:
        steps |= {name: value for name, value in vars(labels).items() if isinstance(value, Tensor)} | labels.steps
    return Trace(steps)


def label_groups(model: AttentionShift | None, batch: Batch, cfg: AttentionShiftConfig) -> Iterator[Group]:
    """The pseudo labels of a batch and, with a model, what they are made of, at the size of inference.

    There are at most as many clicks in an image as there are tokens at a time, in order, until all had their turn; with an
    oracle's map, which numbers the clicks, all at once. Raises ValueError where the batch has no points.
    """
    targets(model, batch, cfg)
    assert batch.points is not None
    image, small, encoded = batch.points.image, batch, None
    if model is not None:
        small = rescaled(batch, cfg)
        with torch.no_grad():
            encoded = model.encoder(divisible(small, model.multiple).images)
    turn = (image[:, None] == image).tril(-1).sum(1) // cfg.tokens.count  # of each click
    turn *= owners(batch, cfg) is None
    for number in range(int(turn.max()) + 1 if len(turn) else 1):
        group, resized = (replace(b, points=b.points[turn == number]) for b in (batch, small) if b.points is not None)
        yield label_images(model, group, resized, encoded, cfg)


@torch.no_grad()
def label_images(
    model: AttentionShift | None, batch: Batch, small: Batch, encoded: Encoded | None, cfg: AttentionShiftConfig
) -> Group:
    """`label_groups` of one group. small: the batch at the size of inference. encoded: its features; None without a model."""
    clicks, (height, width), device = targets(model, batch, cfg), batch.images.shape[-2:], batch.images.device
    pseudo = torch.zeros(*clicks.present.shape, 1, 1, dtype=torch.bool, device=device)
    scores, labels = torch.ones_like(clicks.xy[..., 0]), None
    if model is not None and encoded is not None:
        padded = divisible(small, model.multiple)
        with torch.random.fork_rng([device] if device.type == "cuda" else []):
            torch.manual_seed(seed_of("labels", batch.image_ids))  # an image always gets the same labels
            resized, truth = targets(model, padded, cfg), owners(padded, cfg)
            labels, _, _, mil_scores = model.label(encoded, padded.valid, resized, cfg, truth)
        if pseudo.shape[1]:  # there is a point
            pseudo = mask_targets(labels, cfg)[0][..., : small.images.shape[-2], : small.images.shape[-1]]
        scores = of_class(mil_scores, clicks.labels).amax(2)
    pixels = clicks.xy.round().long().clamp(min=0).minimum(torch.tensor([width - 1, height - 1], device=device))
    instances = []
    for b, p in enumerate(clicks.present):
        runs = enlarged(pseudo[b, p], (height, width), 0.5).with_pixels(pixels[b, p])
        instances.append(Instances.make(runs, clicks.labels[b, p], scores=scores[b, p], ids=clicks.ids[b, p]))
    return instances, labels


@torch.no_grad()
def predict(model: AttentionShift, images: Float[Tensor, "B 3 H W"], cfg: AttentionShiftConfig) -> list[Instances]:
    """Instances of images in [0, 1], without any label; scores in [0, 1]."""
    size = (images.shape[-2], images.shape[-1])
    encoded, small, ratio = encode(model, images, cfg)
    instances = []
    for objects in model.detector.detect(encoded, [small] * len(images)):
        runs = pasted(objects["masks"], objects["boxes"] * ratio, size)
        instances.append(Instances.make(runs, objects["labels"], scores=objects["scores"]))
    return instances


@torch.no_grad()
def masks_in_boxes(
    model: AttentionShift, images: Tensor, boxes: Tensor, labels: Tensor, cfg: AttentionShiftConfig
) -> RunLengths:
    """Masks of K objects of one image [1, 3, H, W] whose boxes [K, 4] and classes [K] are given."""
    encoded, _, ratio = encode(model, images, cfg)
    masks = model.detector.segment(encoded.features, [boxes / ratio], labels).sigmoid()
    return pasted(masks, boxes, (images.shape[-2], images.shape[-1]))


def encode(model: AttentionShift, images: Tensor, cfg: AttentionShiftConfig) -> tuple[Encoded, tuple[int, int], Tensor]:
    """Images [B, 3, H, W] through the encoder; their (height, width) there; the factor of boxes xyxy back to theirs, [4]."""
    size = (images.shape[-2], images.shape[-1])
    small = inference_size(size, cfg)
    resized = interpolate(images, small, mode="bilinear", align_corners=False, antialias=True)
    encoded = model.encoder(pad_to_multiple(resized, model.multiple), attention=False)
    return encoded, small, torch.tensor([size[1] / small[1], size[0] / small[0]] * 2, device=images.device)


def inference_size(size: tuple[int, int], cfg: AttentionShiftConfig) -> tuple[int, int]:
    """The (height, width) in pixels at which an image of `size` goes through the network."""
    return short_side(size, cfg.size.test_short, cfg.size.test_long)


def rescaled(batch: Batch, cfg: AttentionShiftConfig) -> Batch:
    """A batch of whole images at the size of inference."""
    old = (batch.images.shape[-2], batch.images.shape[-1])
    new = inference_size(old, cfg)
    images = interpolate(batch.images, new, mode="bilinear", align_corners=False, antialias=True)
    valid = interpolate(batch.valid[:, None].float(), new, mode="nearest-exact")[:, 0] > 0
    points, maps = batch.points, batch.semantic_maps
    if maps is not None:
        maps = interpolate(maps[:, None].float(), new, mode="nearest-exact")[:, 0].long()
    if points is not None:
        ratio = torch.tensor([new[1] / old[1], new[0] / old[0]], device=images.device)
        points = replace(points, xy=(points.xy + 0.5) * ratio - 0.5)
    return replace(batch, images=images, valid=valid, points=points, semantic_maps=maps)
