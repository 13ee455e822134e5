"""The stages of a full SimFormer run; with `final.steps=0` the first network is evaluated, and of a rival there are labels.

network -> labels, class maps of the training images -> final, a plain MaskFormer -> evaluation

With another `pseudo.source` a rival makes the labels in place of the network; RIB tunes itself on every image first.
"""

from collections.abc import Iterable, Sequence
from dataclasses import replace
from functools import partial

import torch
from torch import Tensor

from wsis.baselines import cam, retab, rib
from wsis.core.errors import DataError
from wsis.core.types import IGNORE, Sample
from wsis.data.wrappers import Mapped, WithPseudoLabels, samples
from wsis.evaluation.semantic import MeanIoU, grouped_iou, is_novel, proposal_recall, region_coverage
from wsis.methods.simformer import verbs
from wsis.methods.simformer.config import SimFormerConfig
from wsis.methods.simformer.labels import proposed_masks, pseudo_maps
from wsis.training.stages import Report, Stage, Workspace, first_process, numbers
from wsis.weak.simulate import with_base_masks

RIVALS = ("rib", "retab")
NETWORK, MAPS, FINAL = "network.safetensors", "pseudo_train", "final.safetensors"


def stages(cfg: SimFormerConfig) -> list[Stage]:
    """The stages of `cfg` in order."""
    rival, backbone = cfg.pseudo.source, (cfg.backbone, cfg.weights)
    names = [name for name in vars(cfg) if name not in RIVALS or name == rival]
    # One oracle serves all splits.
    later = {"final", "pseudo"} if cfg.masks == "base" else {"final", "pseudo", "split", "novel"}
    steps = [Stage("network", NETWORK, train_network, " ".join(name for name in names if name not in later))]
    labels = Stage("labels", MAPS, make_labels, "pseudo split novel", "network")
    if rival in RIVALS:
        shared, given = f"classes backbone weights {rival}", "split novel masks"
        tune = partial(rib.fit, cfg=cfg.rib, backbone=backbone)  # of tags alone: that of all splits
        learn = partial(retab.fit, cfg=cfg.retab, novel=cfg.unmasked, backbone=backbone)
        relations = Stage("relations", retab.NETWORKS, learn, f"{shared} {given}")
        steps = [Stage("tuning", rib.MAPS, tune, shared) if rival == "rib" else relations]
        labels = Stage("labels", MAPS, make_rival_labels, f"{shared} {given} pseudo", steps[0].name)
    if cfg.final.steps or rival in RIVALS:
        steps.append(labels)
    if cfg.final.steps:
        steps.append(Stage("final", FINAL, train_final, " ".join(names), "labels", "retrained"))
    elif rival in RIVALS:
        return steps  # its labels are all that there is
    return [*steps, Stage("evaluation", "", evaluate, "size split novel", steps[-1].name)]


def train_network(workspace: Workspace) -> Report:
    """MaskFormer, with SimNet where pairs are compared; the oracle with the true masks of all classes."""
    workspace.fit_method(verbs, "network", workspace.cfg, workspace.train, workspace.cfg.network)
    return {}


@first_process
def make_labels(workspace: Workspace) -> Report:
    """Class maps of the training images, true base and predicted novel classes; IoU with the ground truth."""
    cfg: SimFormerConfig = workspace.cfg
    model = verbs.load_network(cfg, workspace.path(NETWORK)).to(workspace.device).eval()
    given = (with_base_masks(sample, cfg.unmasked) for sample in samples(workspace.train))
    return _write(workspace, (verbs.pseudo_labels(model, workspace.batch(sample), cfg)[0] for sample in given))


def make_rival_labels(workspace: Workspace) -> Report:
    """The same from the scores of RIB or RETAB."""
    cfg: SimFormerConfig = workspace.cfg
    given = cam.with_base_masks(workspace, cfg.unmasked)
    if cfg.pseudo.source == "rib":
        scores = rib.scorer(given, cfg.rib, cfg.unmasked, (cfg.backbone, cfg.weights))
    else:
        model = retab.restore(cfg.retab, cfg.classes, cfg.backbone, workspace.folder).to(workspace.device)
        scores = partial(retab.scores, model, cfg=cfg.retab, novel=cfg.unmasked)

    def class_map(sample: Sample) -> Tensor:
        batch = workspace.batch(sample)
        assert batch.semantic_maps is not None and batch.tags is not None
        return pseudo_maps(scores(batch), batch.semantic_maps, batch.tags, cfg)[0]

    return _write(workspace, map(class_map, samples(given.train))) if workspace.is_first else {}


def _write(workspace: Workspace, maps: Iterable[Tensor]) -> Report:
    """Write the class maps of the training images; their IoU with the true ones, if known."""
    metric = workspace.write_class_maps(MAPS, maps)
    return {} if metric is None else numbers(grouped_iou(metric, workspace.cfg.novel))


def train_final(workspace: Workspace) -> Report:
    """A plain MaskFormer from the start, on the class maps that the first network made."""
    cfg = verbs.plain(workspace.cfg)
    maps = WithPseudoLabels(workspace.train, workspace.path(MAPS))
    # Crops read their tags from what takes the place of the truth.
    workspace.fit_method(verbs, "final", cfg, Mapped(maps, _as_truth), cfg.final)
    return {}


def _as_truth(sample: Sample) -> Sample:
    return replace(sample, true_semantic=sample.semantic_map)


@first_process
def evaluate(workspace: Workspace) -> Report:
    """IoU of base and novel classes of validation images, and how many regions any proposal covers; DataError without maps.

    Images whose every pixel is unlabeled do not count.
    """
    if workspace.val is None:
        return {}
    cfg, metric, trivial = workspace.cfg, MeanIoU(workspace.cfg.classes + 1), MeanIoU(workspace.cfg.classes + 1)
    model = verbs.restore(cfg, workspace.folder).to(workspace.device).eval()
    regions = []
    for sample in samples(workspace.val):
        if sample.true_semantic is None:
            raise DataError(f"image {sample.image_id} has no label PNG to compare with")
        if (sample.true_semantic == IGNORE).all():
            continue
        images = workspace.batch(sample).images
        metric.update(verbs.predict(model, images, cfg)[0].cpu(), sample.true_semantic)
        masks = proposed_masks(model.network, images, cfg)[0].cpu()
        regions.append(region_coverage(masks, sample.true_semantic, cfg.novel))
        trivial.update(filled(sample.true_semantic, cfg.novel), sample.true_semantic)
    figures = grouped_iou(metric, cfg.novel) | (proposal_recall(torch.cat(regions)) if regions else {})
    return numbers(figures | {"trivial_novel_mIoU": grouped_iou(trivial, cfg.novel)["novel_mIoU"]})


def filled(truth: Tensor, novel: Sequence[int]) -> Tensor:
    """The image [H, W] filled with the largest of its novel classes, 255 where it shows none: tags without any mask."""
    shown = truth[is_novel(truth, novel)]
    return torch.full_like(truth, int(shown.mode().values) if len(shown) else IGNORE)
