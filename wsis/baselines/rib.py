"""RIB: class maps from tags by a classifier that is tuned on every image without its last non-linearity.

    tags --classifier--> a few steps of tuning on each image --> activation maps that cover more than what is typical
    --IRN--> walked maps

Jungbeom Lee et al.: Reducing Information Bottleneck for Weakly Supervised Semantic Segmentation. NeurIPS 2021. How it was
adapted to base masks is not published (SimFormer, supp. Table 3): the settings that say "inferred" are our choices.
"""

import math
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import ClassVar

import torch
from jaxtyping import Bool, Float
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.nn.functional import interpolate

from wsis.baselines import cam, relation
from wsis.baselines.cam import Backbone, RivalConfig
from wsis.baselines.relation import RelationConfig
from wsis.core.config import changed, ours, paper, seed_of
from wsis.core.files import atomic
from wsis.core.types import Batch, Sample
from wsis.data.transforms import resize
from wsis.data.wrappers import samples
from wsis.models.classifier import ClassMaps, Maps, normalized
from wsis.training.schedule import Schedule, make_optimizer
from wsis.training.stages import Report, Workspace

SCHEDULE = Schedule(10, 17, "sgd", 5e-6, "constant", new_lr=10.0, weight_decay=1e-4)


@dataclass(frozen=True, kw_only=True)
class TuningConfig:
    """The steps on one image, in which others hold the classifier back."""

    CITE: ClassVar[str] = "lee2021rib"
    schedule: Schedule = paper(SCHEDULE, "official code, COCO: the image, its mirror image, 15 others")
    side: int = ours(512, "as the classifier's crop", unit="px", scales=True)
    pool: float = paper(0.5, "official code, COCO: higher activations do not count", unit="of the maximum")
    stop_logit: float = paper(1000.0, "official code, COCO", unit="logit of a tag", scales=True)
    stop_share: float = paper(0.8, "official code, COCO", unit="of the map above `stop_level`")
    stop_level: float = paper(0.3, "official code", unit="of the maximum")
    power: float = paper(1.3, "official code, COCO", unit="exponent of the activations that walk")


RELATION = RelationConfig(foreground=0.35, background=0.17, floor=0.22)


@dataclass(frozen=True, kw_only=True)
class RibConfig(RivalConfig):
    """RIB with base masks."""

    CITE: ClassVar[str] = "lee2021rib"
    tuning: TuningConfig = TuningConfig()
    relation: RelationConfig = paper(RELATION, "official code, COCO")


MAPS = "rib_maps"  # the folder with a file for each training image


def pooled(logits: Maps, share: float) -> Float[Tensor, "B K"]:
    """The mean of each map, in which what exceeds a share of its maximum counts as 0: what is not discriminative."""
    highest = logits.amax((2, 3), keepdim=True).clamp_min(1e-5)
    return torch.where(logits / highest < share, logits, 0).mean((2, 3))


def tuned_maps(
    model: nn.Module, start: dict[str, Tensor], batch: Batch, maps: Callable[[nn.Module], Tensor], cfg: TuningConfig
) -> Maps:
    """The sum of the activation maps before and after every step, divided by its maximum.

    start: the state of the trained classifier, to which the model returns first. batch: the image, its mirror image, others.
    maps: the activation maps of the image.
    """
    assert batch.tags is not None
    model.load_state_dict(start)
    optimizer, total, tags = make_optimizer(model, cfg.schedule), maps(model), batch.tags
    for _ in range(cfg.schedule.steps):
        optimizer.zero_grad()
        logits = pooled(model(batch.images), cfg.pool)
        if (logits * tags).abs()[0].amax() > cfg.stop_logit:
            break
        (-(logits * tags).sum()).backward()
        optimizer.step()
        added = maps(model)
        if (added[0, tags[0]] > cfg.stop_level).float().mean() > cfg.stop_share:
            break
        total = total + added
    return normalized(total)


def companions(tags: Bool[Tensor, "N C"], index: int, count: int, seed: int) -> list[int]:
    """Other images without a class of image `index`, at random; where there are too few, those that share the fewest."""
    chance = torch.rand(len(tags), generator=torch.Generator().manual_seed(seed))
    common = (tags & tags[index]).sum(1) + chance
    common[index] = torch.inf
    return common.argsort()[: min(count, len(tags) - 1)].tolist()


def fit(workspace: Workspace, cfg: RibConfig, backbone: Backbone) -> Report:
    """Train the classifier and write the maps of every training image, each of which is tuned once, by one process.

    A file holds the classes that its image shows, at a fraction of its size, in half precision. Those that a killed run left
    are not made again.
    """
    data, tuning, accelerator = workspace.train, cfg.tuning, workspace.options.accelerator
    model = cam.fit(workspace, "rib_classifier", cfg.classifier, backbone)
    start = {name: value.clone() for name, value in model.state_dict().items()}
    tags = torch.stack([sample.tags for sample in samples(data) if sample.tags is not None])
    folder = workspace.path(f"{MAPS}.parts")

    def tuned(index: int, sample: Sample) -> Maps:
        others = companions(tags, index, tuning.schedule.batch_size - 2, seed_of(workspace.options.seed, "rib", index))
        views = [resize(one, (tuning.side, tuning.side)) for one in (sample, sample, *(data[i] for i in others))]
        batch = workspace.batch(*(replace(view, truth=None, true_semantic=None) for view in views))
        batch.images[1] = batch.images[1].flip(2)
        take = partial(cam.activations, batch=workspace.batch(sample), cfg=cfg.classifier)
        return tuned_maps(model, start, batch, take, tuning)

    for index in range(accelerator.process_index, len(data), accelerator.num_processes):
        sample = data[index]
        path = folder / f"{sample.image_id}.safetensors"
        if path.exists():
            continue
        maps = tuned(index, sample)
        shown = cam.shown_classes(maps)
        small = [math.ceil(side / cfg.relation.stride) for side in sample.size]
        stored = {"labels": shown, "maps": interpolate(maps[:, shown], small, mode="area").half()}
        with atomic(path) as temporary:
            save_file({name: value.cpu().contiguous() for name, value in stored.items()}, temporary)
    accelerator.wait_for_everyone()
    if workspace.is_first:
        shutil.rmtree(workspace.path(MAPS), ignore_errors=True)  # of a run that was killed before its report
        folder.rename(workspace.path(MAPS))
    accelerator.wait_for_everyone()
    return {}


def scorer(workspace: Workspace, cfg: RibConfig, novel: Sequence[int], backbone: Backbone) -> Callable[[Batch], Maps]:
    """Train on `workspace.train`, whose samples have tags and class maps of their base classes, and on what `fit` left;
    return what gives the scores [1, C, H, W] of a batch of one of its images.
    """

    def activations(batch: Batch, known: ClassMaps) -> Maps:
        stored = load_file(workspace.path(MAPS) / f"{batch.image_ids[0]}.safetensors", str(workspace.device))
        size = batch.images.shape[-2:]
        maps = torch.zeros(1, len(workspace.train.classes), *size, device=workspace.device)
        if len(stored["labels"]):
            large = interpolate(stored["maps"].float(), size, mode="bilinear", align_corners=False)
            maps[:, stored["labels"]] = large
        return cam.clamped(maps, known, novel) if cfg.clamp else maps

    def labels(sample: Sample) -> Tensor:
        batch = workspace.batch(sample)
        assert (known := batch.semantic_maps) is not None
        found = relation.seeds(activations(batch, known), batch.images, cfg.relation)
        return cam.completed(found, known, cfg.background)[0]

    def scores(batch: Batch) -> Maps:
        assert (known := batch.semantic_maps) is not None
        powered = activations(batch, known) ** cfg.tuning.power
        return relation.class_scores(network, powered, batch.images, cfg.relation)

    network = relation.fit(workspace, "rib", labels, cfg.relation, backbone)
    return scores


FULL = RibConfig()
SMALL = changed(FULL, classifier=cam.SMALL, relation=relation.SMALL, **cam.PRESETS["rib"]["small"])
TINY = changed(FULL, classifier=cam.TINY, relation=relation.TINY, **cam.PRESETS["rib"]["tiny"])
