"""IRN's network of relations: where classes meet, and where from each pixel the middle of its object is.

    activation maps --what is certain--> labels of some pixels
    pairs of near pixels with labels --> two branches: class boundary; displacement to the middle of the object
    activation maps --random walk that boundaries stop--> class maps; one walk for each cluster of displacements --> instances

IRN itself, RIB and BESTIE's class maps (`semantic.source=irn`) use it. Maps of boundary and displacement have a cell for
`stride` pixels; displacements are (dy, dx) in cells.
"""

from dataclasses import dataclass
from typing import ClassVar, NamedTuple, Self

import torch
from jaxtyping import Float, Int64
from torch import Tensor, nn
from torch.nn.functional import grid_sample, interpolate

from wsis.baselines import cam
from wsis.baselines.cam import Activations, Backbone
from wsis.core.config import ours, paper
from wsis.core.masks import RunLengths
from wsis.core.types import BACKGROUND, IGNORE, Batch, Dataset, Instances
from wsis.data.transforms import Augment
from wsis.data.wrappers import samples
from wsis.models.classifier import ClassMaps, Images, Maps, whole_cells
from wsis.models.convnets import Pyramid
from wsis.models.pyramids import build_pyramid
from wsis.ops.components import connected_components, table
from wsis.ops.enlarge import highest
from wsis.ops.losses import masked_mean
from wsis.ops.random_walk import grid_transition, neighbors, offsets, path_maximum, walk
from wsis.training.loop import TrainingData
from wsis.training.schedule import Schedule
from wsis.training.stages import Workspace

STEPS = 300  # of a pixel along the displacements (official code)
FRAGMENT = 0.01  # of the image; smaller instances score 0 (official code)
GROUPS = 4  # of group norm


@dataclass(frozen=True, kw_only=True)
class RelationConfig:
    """The network of relations between pixels, the labels that it learns from, and the walk that follows it."""

    CITE: ClassVar[str] = "ahn2019irn"
    width: int = ours(64, "not in the documents", unit="channels of the branches for each feature", scales=True)
    foreground: float = paper(0.3, "official code", unit="activation above which a class is certain", scales=True)
    background: float = paper(0.05, "official code", unit="activation below which none is certain", scales=True)
    sharpen: int = ours(10, "as for BESTIE's class maps; in the release a dense CRF", unit="steps", scales=True)
    stride: int = paper(4, "official code", unit="image pixels per cell", scales=True)
    pair_radius: float = paper(10.0, "official code", unit="cells", scales=True)
    crop: int = paper(512, "official code", unit="px", scales=True)
    radius: float = paper(5.0, "official code", unit="cells", scales=True)
    power: float = paper(10.0, "official code", unit="exponent of the affinity")
    hops: int = paper(256, "official code: 8 squarings", unit="steps")
    near: float = paper(2.5, "official code: a shorter displacement is of a middle", unit="cells", scales=True)
    floor: float = paper(0.25, "official code", unit="score of the background; 1 is the highest", scales=True)
    network: Schedule = paper(Schedule(990, 32, "sgd", 0.1, "poly", weight_decay=1e-4), "official code: 3 epochs")


SMALL, TINY = cam.PRESETS["relation"]["small"], cam.PRESETS["relation"]["tiny"]


class Relations(NamedTuple):
    """boundary: [B, h, w] in [0, 1]. displacement: [B, 2, h, w]."""

    boundary: Float[Tensor, "B h w"]
    displacement: Float[Tensor, "B 2 h w"]


class Branch(nn.Module):
    """1 x 1 convolutions of a pyramid's features of `stride` or more, on the grid of that stride, to `out` channels.

    width: of the convolutions of each feature.
    """

    def __init__(self, pyramid: Pyramid, stride: int, width: int, out: int) -> None:
        super().__init__()
        self.stride, self.first = stride, sum(finer < stride for finer in pyramid.strides)
        channels = pyramid.channels[self.first :]
        parts = ((nn.Conv2d(c, width, 1, bias=False), nn.GroupNorm(GROUPS, width), nn.ReLU()) for c in channels)
        self.levels = nn.ModuleList(nn.Sequential(*part) for part in parts)
        first, last = nn.Conv2d(width * len(channels), 2 * width, 1), nn.Conv2d(2 * width, out, 1)
        self.head = nn.Sequential(first, nn.ReLU(), last)

    def forward(self, features: list[Tensor], images: Images) -> Tensor:
        size = [side // self.stride for side in images.shape[-2:]]
        levels = [level(x) for level, x in zip(self.levels, features[self.first :], strict=True)]
        same = [interpolate(x, size, mode="bilinear", align_corners=False) for x in levels]
        return self.head(torch.cat(same, 1)).float()


class IrnNet(nn.Module):
    """Boundary and displacement of images [B, 3, H, W] in [0, 1] whose sides are multiples of 32; the backbone is frozen."""

    mean: Tensor  # [2], of the displacements of the training images, which are zero on the whole only then

    def __init__(self, cfg: RelationConfig, backbone: Backbone) -> None:
        super().__init__()
        self.backbone = build_pyramid(*backbone, output_stride=16).requires_grad_(False)
        self.boundary = Branch(self.backbone, cfg.stride, cfg.width, 1)
        self.displacement = Branch(self.backbone, cfg.stride, 2 * cfg.width, 2)
        self.register_buffer("mean", torch.zeros(2))

    def train(self, mode: bool = True) -> Self:
        super().train(mode)
        self.backbone.eval()
        return self

    def forward(self, images: Tensor) -> Relations:
        with torch.no_grad():
            features = self.backbone(images)
        displacement = self.displacement(features, images) - self.mean[:, None, None]
        return Relations(self.boundary(features, images)[:, 0].sigmoid(), displacement)


@torch.no_grad()
def infer(model: nn.Module, images: Images) -> Relations:
    """The relations of images of any size."""
    return model(whole_cells(images))


@torch.no_grad()
def seeds(maps: Maps, images: Images, cfg: RelationConfig) -> ClassMaps:
    """The labels of certain pixels of an image: a class if it wins over a high background, 0 if none does over a low one."""
    levels = maps.new_tensor([cfg.foreground, cfg.background])[:, None, None, None].expand(-1, 1, *images.shape[2:])
    firm, loose = cam.refined_classes(maps, levels, images, cfg.sharpen).split(1)
    return torch.where((firm == BACKGROUND) & (loose != BACKGROUND), IGNORE, firm)


@torch.no_grad()
def propagated(maps: Maps, boundary: Float[Tensor, "B h w"], cfg: RelationConfig) -> Maps:
    """Maps [B, k, h, w] after the walk, divided by the highest value: a hop is the less
    likely the higher the boundary on its path; what lies on a boundary starts with less.
    """
    affinity = (1 - path_maximum(boundary, cfg.radius)) ** cfg.power
    transition = grid_transition(affinity, cfg.radius)
    end = walk(transition, maps * (1 - boundary[:, None]), cfg.hops)
    return end / (end.amax() + cam.EPSILON)


@torch.no_grad()
def class_scores(model: nn.Module, maps: Maps, images: Images, cfg: RelationConfig) -> Maps:
    """Activation maps of one image after the walk, in [0, 1], divided by the highest of all."""
    shown, scores, boundary = cam.shown_classes(maps), torch.zeros_like(maps), infer(model, images).boundary
    if len(shown):
        small = interpolate(maps[:, shown], boundary.shape[-2:], mode="area")
        end = propagated(small, boundary, cfg)
        scores[:, shown] = interpolate(end, images.shape[-2:], mode="bilinear", align_corners=False)
    return scores


def class_map(model: nn.Module, maps: Maps, images: Images, cfg: RelationConfig) -> ClassMaps:
    """The class with the highest score, 0 where it is below `floor`, of one image."""
    score, label = class_scores(model, maps, images, cfg).max(1)
    return torch.where(score > cfg.floor, label + 1, BACKGROUND)


@torch.no_grad()
def refined_centroids(displacement: Float[Tensor, "B 2 h w"]) -> Float[Tensor, "B 2 h w"]:
    """Where each cell ends, (y, x), that follows the displacements `STEPS` times within the grid."""
    height, width = displacement.shape[-2:]
    last = displacement.new_tensor([height - 1, width - 1])[:, None, None]
    rows, columns = (torch.arange(side, device=displacement.device) for side in (height, width))
    place = torch.stack(torch.meshgrid(rows, columns, indexing="ij")).to(displacement).expand_as(displacement)
    for _ in range(STEPS):
        at = (2 * place / last.clamp_min(1) - 1).flip(1).permute(0, 2, 3, 1)
        place = (place + grid_sample(displacement, at, align_corners=True, padding_mode="border")).clamp_min(0)
        place = torch.minimum(place, last)
    return place


@torch.no_grad()
def clusters(displacement: Float[Tensor, "B 2 h w"], near: float) -> Int64[Tensor, "B h w"]:
    """In which middle each cell ends: 1, 2, ... are connected cells whose displacement is shorter than `near`; 0 is none."""
    short = (displacement.norm(dim=1) < near).long()
    ids, _ = connected_components(short, 4)
    y, x = refined_centroids(displacement).round().long().unbind(1)
    return ids.flatten(1).gather(1, (y * ids.shape[2] + x).flatten(1)).view_as(ids)


@torch.no_grad()
def instances(model: nn.Module, maps: Maps, images: Images, cfg: RelationConfig) -> Instances:
    """The objects of one image by falling score: for each class and cluster the connected parts that it wins."""
    (boundary, displacement), shown = infer(model, images), cam.shown_classes(maps)
    ids = clusters(displacement, cfg.near)
    groups = ids == ids[ids > 0].unique()[:, None, None]
    if not len(shown) or not len(groups):
        return Instances.none(images.shape[2], images.shape[3])
    small = interpolate(maps[:, shown], boundary.shape[-2:], mode="area")
    end = propagated((small[:, :, None] * groups).flatten(1, 2), boundary, cfg)
    score, winner = highest(end, (images.shape[2], images.shape[3]))
    parts, count = connected_components(torch.where(score > cfg.floor, winner + 1, 0))
    rows = table(parts, count)
    best = score.new_zeros(count + 1).scatter_reduce_(0, parts.flatten(), score.flatten(), "amax")[1:]
    best = best * (rows.area >= FRAGMENT * score.numel())
    order = best.argsort(descending=True, stable=True)
    labels = shown[winner.flatten()[rows.first] // len(groups)]
    runs = RunLengths.of_regions(parts[0], order.tolist())
    return Instances.make(runs, labels[order], scores=best[order].clamp(0, 1))


def pair_loss(relations: Relations, labels: ClassMaps, radius: float) -> dict[str, Tensor]:
    """The terms of pairs of cells nearer than `radius` that both have a label, and `total`.

    boundary: between cells of one class no boundary is on their path, between two classes there is one. displacement: two cells
    of one class have one middle; those of the background have equal displacements. labels: [B, h, w], 255 = unknown.
    """
    d = relations.displacement
    change = d[:, None] - torch.stack(list(neighbors(d, radius)), 1)
    apart = d.new_tensor(offsets(radius))[:, :, None, None]
    object_, even = (change - apart).abs().sum(2), change.abs().sum(2)
    in_object, in_ground, _ = cam.pairs(labels, radius)
    boundary = cam.pair_error(1 - path_maximum(relations.boundary, radius), labels, radius)
    displacement = masked_mean(object_, in_object) + masked_mean(even, in_ground)
    return {"boundary": boundary, "displacement": displacement, "total": (boundary + displacement) / 2}


def crops(dataset: Dataset, side: int) -> TrainingData:
    """Random crops of images with their class maps."""
    return TrainingData(dataset=dataset, augment=Augment(crop=side, long_side=None, scale=(0.5, 1.5), scale_step=0))


def seeder(workspace: Workspace, activations: Activations, cfg: RelationConfig) -> Activations:
    """The `seeds` [H, W] of a sample, from its activations."""
    return lambda sample: seeds(activations(sample), workspace.batch(sample).images, cfg)[0]


def fit(workspace: Workspace, name: str, labels: Activations, cfg: RelationConfig, backbone: Backbone) -> IrnNet:
    """Train the network on the labels [H, W] of the training images; `name` is that of its files."""
    dataset, model = cam.with_labels(workspace, f"{name}_seeds", labels), IrnNet(cfg, backbone)

    def step_loss(network: nn.Module, batch: Batch, step: int) -> dict[str, Tensor]:
        assert batch.semantic_maps is not None
        return pair_loss(network(batch.images), cam.on_grid(batch.semantic_maps, cfg.stride), cfg.pair_radius)

    workspace.fit(name, model, step_loss, crops(dataset, cfg.crop), cfg.network, save=False)
    with torch.no_grad():
        images = (workspace.batch(sample).images for sample in samples(workspace.train))
        model.mean += torch.stack([infer(model, i).displacement.mean((0, 2, 3)) for i in images]).mean(0)
    workspace.save(name, model)
    return model
