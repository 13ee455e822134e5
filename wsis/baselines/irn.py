"""IRN: image tags -> class maps and instance masks, BESTIE's rival without proposals.

    tags --classifier--> activation maps --what is certain--> a network of relations, see `relation.py`
    activation maps --random walk that boundaries stop--> class maps; one walk for each cluster of displacements --> instances

Jiwoon Ahn, Sunghyun Cho, Suha Kwak: Weakly Supervised Learning of Instance Segmentation with Inter-pixel Relations. CVPR 2019.
"""

from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import ClassVar, Literal

import torch
from torch import Tensor, nn

from wsis.baselines import cam, relation
from wsis.baselines.cam import ClassifierConfig
from wsis.baselines.relation import IrnNet, RelationConfig
from wsis.core.config import changed, ours, paper
from wsis.core.types import Batch, Instances, Sample, Trace
from wsis.data.wrappers import ground_truths, samples
from wsis.evaluation import MeanIoU, voc_ap
from wsis.models.classifier import Images, Tags, activation_maps
from wsis.models.weights import load_weights
from wsis.training.schedule import Schedule
from wsis.training.stages import Report, SharedSettings, Stage, Workspace, first_process, numbers

MASKRCNN = Schedule(0, 16, "sgd", 0.02, "step", (0.667, 0.889), weight_decay=1e-4, warmup=500)  # the usual 1x


@dataclass(frozen=True, kw_only=True)
class IrnConfig(SharedSettings):
    """IRN on its own."""

    CITE: ClassVar[str] = "ahn2019irn"
    largest_side: ClassVar[int] = 1024
    whole_maps: ClassVar[bool] = True
    clicks: ClassVar[None] = None
    supervision: Literal["tags"] = paper("tags", "abstract")
    backbone: str = paper("resnet50", "official code: of both networks", scales=True)
    weights: str = paper("imagenet", "official code", scales=True)
    classes: int = ours(20, "VOC; set from the data", unit="classes", scales=True)
    certain: float = ours(0.5, "inferred: classes of images without tags", unit="probability")
    classifier: ClassifierConfig = ClassifierConfig()
    relation: RelationConfig = RelationConfig()
    final: Schedule = ours(MASKRCNN, "as BESTIE's daggers; 0 steps leave this optional stage out")

    @property
    def image_side(self) -> int:
        return self.relation.crop


FULL = IrnConfig()
SMALL = changed(FULL, classes=16, backbone="efficientnet_lite0_frozen", classifier=cam.SMALL, relation=relation.SMALL)
TINY = changed(FULL, classes=16, backbone="resnet_tiny", weights="shipped", classifier=cam.TINY, relation=relation.TINY)


def build(cfg: IrnConfig) -> nn.ModuleDict:
    """The `classifier` and the `network` of relations."""
    backbone = cfg.backbone, cfg.weights
    classifier = cam.build(cfg.classifier, cfg.classes, backbone)
    return nn.ModuleDict({"classifier": classifier, "network": IrnNet(cfg.relation, backbone)})


def restore(cfg: IrnConfig, folder: Path) -> nn.ModuleDict:
    """The trained networks of a run folder."""
    model = build(cfg.for_dry_run())
    for name, network in model.items():
        load_weights(network, folder / f"{name}.safetensors")
    return model


def pseudo_labels(model: nn.ModuleDict, batch: Batch, cfg: IrnConfig) -> list[Instances]:
    """The objects of images with tags, by falling score; ValueError without tags."""
    if batch.tags is None:
        raise ValueError("IRN finds the objects of tags; give tags, or predict without any")
    return _instances(model, batch.images, batch.tags, cfg)


def explain(model: nn.ModuleDict, batch: Batch, cfg: IrnConfig) -> Trace:
    """On the grid of the relations: the boundary, the displacement, the centroids where cells end (y, x), and the clusters."""
    boundary, displacement = relation.infer(model["network"], batch.images)
    ends, groups = relation.refined_centroids(displacement), relation.clusters(displacement, cfg.relation.near)
    return Trace({"boundary": boundary, "displacement": displacement, "centroids": ends, "clusters": groups})


@torch.no_grad()
def predict(model: nn.ModuleDict, images: Images, cfg: IrnConfig) -> list[Instances]:
    """The objects of images without tags: of the classes that the classifier is `certain` of (inferred)."""
    tags = model["classifier"](images).mean((2, 3)).sigmoid() > cfg.certain
    return _instances(model, images, tags, cfg)


def _instances(model: nn.ModuleDict, images: Images, tags: Tags, cfg: IrnConfig) -> list[Instances]:
    size = (images.shape[2], images.shape[3])
    maps = activation_maps(model["classifier"], images, tags, size, cfg.classifier.scales)
    pairs = zip(maps.split(1), images.split(1), strict=True)
    return [relation.instances(model["network"], one, image, cfg.relation) for one, image in pairs]


def stages(cfg: IrnConfig) -> list[Stage]:
    """classifier -> network -> labels, class maps and masks of the training images -> evaluation (-> final)"""
    first = "classifier classes backbone weights"
    both = f"{first} relation"
    steps = [
        Stage("classifier", "classifier.safetensors", train_classifier, first),
        Stage("network", "network.safetensors", train_network, both, "classifier"),
        Stage("labels", "pseudo_train", make_labels, both, "network"),
        Stage("evaluation", "", evaluate, f"{both} certain", "network"),
    ]
    if cfg.final.steps:
        like = {"backbone": cfg.backbone, "weights": cfg.weights}
        final = partial(Workspace.fit_maskrcnn, restore=restore, pseudo_labels=pseudo_labels, **like)
        steps.append(Stage("final", "final.safetensors", final, f"{both} final", "network", "maskrcnn"))
    return steps


def train_classifier(workspace: Workspace) -> Report:
    """The classifier of tags."""
    cfg: IrnConfig = workspace.cfg
    cam.fit(workspace, "classifier", cfg.classifier, (cfg.backbone, cfg.weights), save=True)
    return {}


def train_network(workspace: Workspace) -> Report:
    """The relations, from pairs of certain pixels."""
    cfg: IrnConfig = workspace.cfg
    classifier = cam.build(cfg.classifier, cfg.classes, (cfg.backbone, "random"))
    load_weights(classifier, workspace.path("classifier.safetensors")).to(workspace.device).eval()

    def activations(sample: Sample) -> Tensor:
        return cam.activations(classifier, workspace.batch(sample), cfg.classifier)

    labels = relation.seeder(workspace, activations, cfg.relation)
    relation.fit(workspace, "network", labels, cfg.relation, (cfg.backbone, cfg.weights))
    return {}


@first_process
def make_labels(workspace: Workspace) -> Report:
    """Class maps of the training images. Report: their mIoU, and before the walk cam_mIoU; mAP of the masks, if known."""
    cfg: IrnConfig = workspace.cfg
    model, before = restore(cfg, workspace.folder).to(workspace.device).eval(), MeanIoU(cfg.classes + 1)
    found = []

    def walked(sample: Sample) -> Tensor:
        batch = workspace.batch(sample)
        maps, images = cam.activations(model["classifier"], batch, cfg.classifier), batch.images
        found.append(relation.instances(model["network"], maps, images, cfg.relation).to("cpu"))
        if sample.true_semantic is not None:
            high = torch.full_like(maps[:, :1], cfg.relation.foreground)
            before.update(cam.refined_classes(maps, high, images, 0)[0].cpu(), sample.true_semantic)
        return relation.class_map(model["network"], maps, images, cfg.relation)[0]

    metric = workspace.write_class_maps("pseudo_train", map(walked, samples(workspace.train)))
    truth = ground_truths(workspace.train)
    if metric is None or truth is None:
        return {}
    quality = {f"pseudo_{name}": value for name, value in numbers(voc_ap(found, truth, cfg.classes)).items()}
    return quality | {"mIoU": float(metric.result()["mIoU"]), "cam_mIoU": float(before.result()["mIoU"])}


@first_process
def evaluate(workspace: Workspace) -> Report:
    """mAP of the objects found in validation images without tags."""
    cfg = workspace.cfg
    model = restore(cfg, workspace.folder).to(workspace.device).eval()
    pairs = workspace.predictions(lambda images: predict(model, images, cfg))
    return {} if pairs is None else numbers(voc_ap(*pairs, cfg.classes))
