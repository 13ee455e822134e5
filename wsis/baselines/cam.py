"""What IRN, RIB and RETAB start from: the activation maps of a plain classifier, and base masks where there are any."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import ClassVar

import torch
import yaml
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.functional import interpolate

from wsis.core.config import ours, paper
from wsis.core.types import BACKGROUND, IGNORE, Batch, Sample
from wsis.data.wrappers import Mapped, WithPseudoLabels, samples
from wsis.evaluation.semantic import is_novel
from wsis.models.classifier import CamClassifier, ClassMaps, Images, Maps, activation_maps
from wsis.models.pyramids import build_pyramid
from wsis.ops.losses import masked_mean
from wsis.ops.pamr import pixel_adaptive_refinement
from wsis.ops.random_walk import Affinity, neighbors
from wsis.training.schedule import Schedule
from wsis.training.stages import Workspace
from wsis.weak import simulate

Backbone = tuple[str, str]  # its name and its weights, as of `build_pyramid`
EPSILON = 1e-5
Activations = Callable[[Sample], Tensor]  # of an image: [1, C, H, W] in [0, 1], 0 for classes without a tag


@dataclass(frozen=True, kw_only=True)
class ClassifierConfig:
    """The classifier, and how its maps are taken."""

    CITE: ClassVar[str] = "ahn2019irn"
    stride: int = paper(16, "official code", unit="image pixels per cell", scales=True)
    width: int = ours(512, "as BESTIE's classifier, whose head this is", unit="channels", scales=True)
    crop: int = paper(512, "official code", unit="px", scales=True)
    scales: tuple[float, ...] = paper((1.0, 0.5, 1.5, 2.0), "official code", unit="of the image size", scales=True)
    schedule: Schedule = paper(Schedule(3300, 16, "sgd", 0.1, "poly", weight_decay=1e-4), "official code: 5 epochs")


@dataclass(frozen=True, kw_only=True)
class RivalConfig:
    """What RIB and RETAB have in common where they are given base masks."""

    clamp: bool = ours(True, "inferred: known base pixels replace activations")
    background: bool = ours(False, "inferred: where no class is certain there is no label; True: the background's")
    classifier: ClassifierConfig = ClassifierConfig()


PRESETS = yaml.safe_load(Path(__file__).with_name("presets.yaml").read_text("utf-8"))
SMALL, TINY = PRESETS["classifier"]["small"], PRESETS["classifier"]["tiny"]


def build(cfg: ClassifierConfig, classes: int, backbone: Backbone) -> CamClassifier:
    """The classifier with its backbone's weights."""
    return CamClassifier(build_pyramid(*backbone, output_stride=cfg.stride), cfg.width, classes, nn.ReLU())


def fit(workspace: Workspace, name: str, cfg: ClassifierConfig, backbone: Backbone, *, save: bool = False) -> nn.Module:
    """Train the classifier on the tags of the training images; `name` is that of its files."""
    model = build(cfg, len(workspace.train.classes), backbone)
    return workspace.fit_tags(name, model, cfg.crop, None, cfg.schedule, save=save)


def activations(model: nn.Module, batch: Batch, cfg: ClassifierConfig) -> Maps:
    """The maps [B, C, H, W] in [0, 1] of images with tags, at the size of the images; 0 for classes without a tag."""
    assert batch.tags is not None
    size = (batch.images.shape[2], batch.images.shape[3])
    return activation_maps(model, batch.images, batch.tags, size, cfg.scales)


def with_labels(workspace: Workspace, folder: str, labels: Activations) -> WithPseudoLabels:
    """The training images with the class maps [H, W] that `labels` makes, which are written into a folder of the run first."""
    if workspace.is_first:
        workspace.write_class_maps(folder, map(labels, samples(workspace.train)))
    workspace.options.accelerator.wait_for_everyone()
    return WithPseudoLabels(workspace.train, workspace.path(folder))


def with_base_masks(workspace: Workspace, novel: Sequence[int]) -> Workspace:
    """The workspace with the class maps of base classes in its training images."""
    return replace(workspace, train=Mapped(workspace.train, partial(simulate.with_base_masks, novel=novel)))


def is_known(known: ClassMaps) -> Tensor:
    """The pixels of base classes in a class map of which only these are known."""
    return (known != BACKGROUND) & (known != IGNORE)


def clamped(maps: Maps, known: ClassMaps, novel: Sequence[int]) -> Maps:
    """Activation maps that hold what is known (inferred: the papers have no base classes): where a base class is known it is 1
    and all others are 0, and elsewhere there are novel classes only.
    """
    known = known[:, None]
    label = torch.arange(1, maps.shape[1] + 1, device=maps.device)[:, None, None]
    return torch.where(is_known(known), (known == label).to(maps.dtype), maps * is_novel(label, novel))


def shown_classes(maps: Maps) -> Tensor:
    """The labels with any activation, long, ascending; the others are left out of what is computed."""
    return (maps.amax((0, 2, 3)) > 0).nonzero()[:, 0]


def refined_classes(maps: Maps, background: Float[Tensor, "L 1 H W"], images: Images, steps: int) -> ClassMaps:
    """The class with the highest activation, 0 where the background is higher, after refinement by color in place of the
    releases' dense CRF: of one image, for each of L backgrounds.
    """
    shown = shown_classes(maps)
    scores = torch.cat([background, maps[:, shown].expand(len(background), -1, -1, -1)], 1)
    scores = scores / scores.sum(1, keepdim=True).clamp_min(1e-5)
    refined = pixel_adaptive_refinement(scores.flatten(0, 1)[None], images, steps)[0].view_as(scores)
    return torch.cat([shown.new_zeros(1), shown + 1])[refined.argmax(1)]


def completed(labels: ClassMaps, known: ClassMaps, background: bool) -> ClassMaps:
    """Labels where no base class is known, which replaces them; background: whether label 0 stays, else it becomes unknown."""
    found = labels if background else labels.masked_fill(labels == BACKGROUND, IGNORE)
    return torch.where(is_known(known), known, found)


def on_grid(maps: ClassMaps, stride: int) -> ClassMaps:
    """The class of the middle of each cell of `stride` pixels."""
    size = [side // stride for side in maps.shape[-2:]]
    return interpolate(maps[:, None].float(), size, mode="nearest-exact")[:, 0].long()


def pairs(labels: ClassMaps, radius: float) -> tuple[Tensor, Tensor, Tensor]:
    """Which pairs of cells with labels are of one object class, both background, or of two classes: bool [B, o, h, w] each, for
    the `offsets` of the radius. 255 is no label.
    """
    here, other = labels[:, None], torch.stack(list(neighbors(labels, radius, IGNORE)), 1)
    known, same = (here != IGNORE) & (other != IGNORE), here == other
    return known & same & (here != BACKGROUND), known & same & (here == BACKGROUND), known & ~same


def pair_error(affinity: Affinity, labels: ClassMaps, radius: float) -> Float[Tensor, ""]:
    """The cross entropy of affinities in [0, 1], which are to be high within a class or the background, else low."""
    in_object, in_ground, between = pairs(labels, radius)
    joined, parted = -(affinity + EPSILON).log(), -(1 + EPSILON - affinity).log()
    return (masked_mean(joined, in_object) + masked_mean(joined, in_ground)) / 2 + masked_mean(parted, between)
