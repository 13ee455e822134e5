"""RETAB: masks of base classes and tags of novel ones -> class maps, with a boundary learned on base classes.

    base masks --boundary network--> contours of all classes
    tags --classifier--> activation maps, with base masks --affinity network--> which near cells are of one class
    activation maps --walk off the contours--> --walk onto the contours--> class maps

Siyuan Zhou, Li Niu, Jianlou Si, Chen Qian, Liqing Zhang: Weak-shot Semantic Segmentation by Transferring Semantic Affinity and
Boundary. 2021. How it was adapted to classes without a background is not published (SimFormer, supp. Table 3): the settings
that say "inferred" are our choices.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import ClassVar

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn
from torch.nn.functional import binary_cross_entropy_with_logits, interpolate

from wsis.baselines import cam
from wsis.baselines.cam import Backbone, RivalConfig
from wsis.baselines.relation import Branch, crops
from wsis.core.config import changed, ours, paper
from wsis.core.types import IGNORE, Batch, Sample, Trace
from wsis.models.classifier import ClassMaps, Images, Maps, whole_cells
from wsis.models.pyramids import build_pyramid
from wsis.models.weights import load_weights
from wsis.ops.grouping import max_pool
from wsis.ops.losses import masked_mean
from wsis.ops.random_walk import Affinity, grid_transition, neighbors, walk
from wsis.training.schedule import Schedule
from wsis.training.stages import Report, Workspace

SCHEDULE = Schedule(9000, 8, "sgd", 1e-3, "poly", new_lr=10.0, weight_decay=5e-4)


@dataclass(frozen=True, kw_only=True)
class RetabConfig(RivalConfig):
    """RETAB for many classes without a background."""

    CITE: ClassVar[str] = "zhou2021retab"
    stride: int = paper(8, "official code", unit="image pixels per cell", scales=True)
    width: int = ours(448, "official code: 64 + 128 + 256 of three features", unit="channels", scales=True)
    crop: int = paper(448, "official code", unit="px", scales=True)
    edge: float = paper(0.5, "official code", unit="probability of a boundary")
    alpha: tuple[float, float] = paper((4.0, 32.0), "official code", unit="exponents of the background")
    sharpen: int = ours(10, "as for IRN; in the release a dense CRF", unit="steps", scales=True)
    radius: float = paper(5.0, "official code", unit="cells", scales=True)
    power: float = paper(8.0, "official code", unit="exponent of the affinity")
    hops: int = paper(256, "official code: 8 squarings, in each stage", unit="steps")
    boundary: Schedule = paper(SCHEDULE, "official code: 8 epochs")
    affinity: Schedule = paper(replace(SCHEDULE, lr=0.01), "official code: 8 epochs")


FULL = RetabConfig()
SMALL = changed(FULL, classifier=cam.SMALL, **cam.PRESETS["retab"]["small"])
TINY = changed(FULL, classifier=cam.TINY, **cam.PRESETS["retab"]["tiny"])

NETWORKS = "retab.safetensors"  # all three of a run


class GridNet(nn.Module):
    """Backbone and a branch: images [B, 3, H, W] in [0, 1] -> [B, out, H / stride, W / stride]."""

    def __init__(self, cfg: RetabConfig, backbone: Backbone, out: int) -> None:
        super().__init__()
        self.backbone = build_pyramid(*backbone, output_stride=16)
        features = sum(stride >= cfg.stride for stride in self.backbone.strides)
        self.branch = Branch(self.backbone, cfg.stride, cfg.width // features // 4 * 4, out)

    def forward(self, images: Tensor) -> Tensor:
        return self.branch(self.backbone(images), images)


def affinities(features: Maps, radius: float) -> Affinity:
    """exp of minus the mean absolute difference of features, in (0, 1]."""
    return torch.stack([(-(features - other).abs().mean(1)).exp() for other in neighbors(features, radius)], 1)


def contours(known: ClassMaps) -> tuple[Bool[Tensor, "B h w"], Bool[Tensor, "B h w"]]:
    """The cells beside another label, and those of base classes that are beside none (inferred: what is not of a base class
    counts as one more, since its contour with base classes is a contour).
    """
    values = known.float()
    edge = max_pool(values, 3) != -max_pool(-values, 3)
    return edge, cam.is_known(known) & ~edge


def agreed(maps: Maps, images: Images, cfg: RetabConfig) -> ClassMaps:
    """The class of each pixel of one image with a weak and a strong background, 255 where they differ."""
    ground = (1 - maps.amax(1, keepdim=True)).clamp_min(0)
    grounds = torch.cat([ground**alpha for alpha in cfg.alpha])
    weak, strong = cam.refined_classes(maps, grounds, images, cfg.sharpen).split(1)
    return torch.where(weak == strong, weak, IGNORE)


def two_stage_walk(maps: Maps, affinity: Affinity, edge: Bool[Tensor, "B h w"], cfg: RetabConfig) -> tuple[Maps, Maps]:
    """First between cells off the contours; then cells on them take from all near ones, and the others keep what they have.

    Return what each of the two stages leaves.
    """
    inner = ~edge
    free = torch.stack([inner & other for other in neighbors(inner, cfg.radius, False)], 1)
    affinity = affinity**cfg.power
    first = walk(grid_transition(affinity * free, cfg.radius), maps, cfg.hops)
    return first, walk(grid_transition(affinity, cfg.radius, fixed=inner), first, cfg.hops)


def boundary_loss(network: nn.Module, batch: Batch, step: int) -> dict[str, Tensor]:
    """The mean cross entropy of contours plus that of what is inside of base classes."""
    assert batch.semantic_maps is not None
    logits = network(batch.images)[:, 0]
    stride = batch.images.shape[-1] // logits.shape[-1]
    edge, inner = contours(cam.on_grid(batch.semantic_maps, stride))
    edge = edge & (max_pool((~batch.valid[:, stride // 2 :: stride, stride // 2 :: stride]).float(), 3) == 0)
    error = binary_cross_entropy_with_logits(logits, edge.float(), reduction="none")
    return {"total": masked_mean(error, edge) + masked_mean(error, inner)}


def affinity_loss(network: nn.Module, batch: Batch, step: int, radius: float) -> dict[str, Tensor]:
    """Pairs of one class are to be similar, pairs of two classes are not."""
    assert batch.semantic_maps is not None
    features = network(batch.images)
    labels = cam.on_grid(batch.semantic_maps, batch.images.shape[-1] // features.shape[-1])
    return {"total": cam.pair_error(affinities(features, radius), labels, radius) / 2}


def restore(cfg: RetabConfig, classes: int, name: str, folder: Path) -> nn.ModuleDict:
    """The trained networks `classifier`, `boundary` and `affinity` of a run folder; name: of the backbone."""
    backbone = name, "random"
    classifier = cam.build(cfg.classifier, classes, backbone)
    parts = {"boundary": GridNet(cfg, backbone, 1), "affinity": GridNet(cfg, backbone, cfg.width)}
    return load_weights(nn.ModuleDict({"classifier": classifier} | parts), folder / NETWORKS).eval()


@torch.no_grad()
def activations(classifier: nn.Module, batch: Batch, cfg: RetabConfig, novel: Sequence[int]) -> Maps:
    """The activation maps of one image with tags, and where a base class is known its own."""
    assert batch.semantic_maps is not None
    maps = cam.activations(classifier, batch, cfg.classifier)
    return cam.clamped(maps, batch.semantic_maps.long(), novel) if cfg.clamp else maps


@torch.no_grad()
def boundary(network: nn.Module, images: Images) -> Float[Tensor, "B h w"]:
    """The probability of a contour in each cell of images of any size."""
    return network(whole_cells(images))[:, 0].sigmoid()


def fit(workspace: Workspace, cfg: RetabConfig, novel: Sequence[int], backbone: Backbone) -> Report:
    """Train the networks on the tags of images and the class maps of their base classes."""
    workspace = cam.with_base_masks(workspace, novel)
    classifier = cam.fit(workspace, "retab_classifier", cfg.classifier, backbone)
    lessons = crops(workspace.train, cfg.crop)
    edges = workspace.fit("boundary", GridNet(cfg, backbone, 1), boundary_loss, lessons, cfg.boundary, save=False)

    def labels(sample: Sample) -> Tensor:
        batch = workspace.batch(sample)
        assert batch.semantic_maps is not None
        found = agreed(activations(classifier, batch, cfg, novel), batch.images, cfg)
        known = cam.completed(found, batch.semantic_maps, cfg.background)
        edge = interpolate(boundary(edges, batch.images)[:, None], sample.size, mode="nearest-exact")[:, 0] >= cfg.edge
        return known.masked_fill(edge, IGNORE)[0]

    lessons = crops(cam.with_labels(workspace, "retab_seeds", labels), cfg.crop)
    loss = partial(affinity_loss, radius=cfg.radius)
    affinity = workspace.fit("affinity", GridNet(cfg, backbone, cfg.width), loss, lessons, cfg.affinity, save=False)
    parts = {"classifier": classifier, "boundary": edges, "affinity": affinity}
    workspace.save(Path(NETWORKS).stem, nn.ModuleDict(parts))
    return {}


@torch.no_grad()
def explain(model: nn.ModuleDict, batch: Batch, cfg: RetabConfig, novel: Sequence[int]) -> Trace:
    """The steps of one image: `activations` [1, C, H, W], `boundary` [1, h, w], and what each stage of the walk leaves, `first`
    and `second` [1, C, h, w].
    """
    maps, edge = activations(model["classifier"], batch, cfg, novel), boundary(model["boundary"], batch.images)
    near = affinities(model["affinity"](whole_cells(batch.images)), cfg.radius)
    small, shown = interpolate(maps, near.shape[-2:], mode="area"), cam.shown_classes(maps)
    steps = {"activations": maps, "boundary": edge}
    pair = two_stage_walk(small[:, shown], near, edge >= cfg.edge, cfg)
    for name, end in zip(("first", "second"), pair, strict=True):
        steps[name] = torch.zeros_like(small).index_copy(1, shown, end)
    return Trace(steps)


def scores(model: nn.ModuleDict, batch: Batch, cfg: RetabConfig, novel: Sequence[int]) -> Maps:
    """The scores [1, C, H, W] of one image, with tags and the class map of its base classes, after both stages."""
    end, size = explain(model, batch, cfg, novel).steps["second"], batch.images.shape[-2:]
    return interpolate(end, size, mode="bilinear", align_corners=False)
