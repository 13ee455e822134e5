"""The stages of a full SimFormer run; with `final.steps=0` the first network is evaluated.

network -> labels, class maps of the training images -> final, a plain MaskFormer -> evaluation
"""

from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor

from wsis.core.errors import DataError
from wsis.core.types import IGNORE
from wsis.data.wrappers import Mapped, WithPseudoLabels, samples
from wsis.evaluation.semantic import MeanIoU, grouped_iou, is_novel, proposal_recall, region_coverage
from wsis.methods.simformer import verbs
from wsis.methods.simformer.config import SimFormerConfig
from wsis.methods.simformer.labels import proposed_masks
from wsis.training.stages import Report, Stage, Workspace, first_process, numbers
from wsis.weak.simulate import with_base_masks

NETWORK, MAPS, FINAL = "network.safetensors", "pseudo_train", "final.safetensors"


def stages(cfg: SimFormerConfig) -> list[Stage]:
    """The stages of `cfg` in order."""
    # One oracle serves all splits.
    later = {"final", "pseudo"} if cfg.masks == "base" else {"final", "pseudo", "split", "novel"}
    steps = [Stage("network", NETWORK, train_network, " ".join(name for name in vars(cfg) if name not in later))]
    if cfg.final.steps:
        steps.append(Stage("labels", MAPS, make_labels, "pseudo split novel", "network"))
        steps.append(Stage("final", FINAL, train_final, " ".join(vars(cfg)), "labels", "retrained"))
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
    maps = (verbs.pseudo_labels(model, workspace.batch(sample), cfg)[0] for sample in given)
    metric = workspace.write_class_maps(MAPS, maps)
    return {} if metric is None else numbers(grouped_iou(metric, cfg.novel))


def train_final(workspace: Workspace) -> Report:
    """A plain MaskFormer from the start, on the class maps that the first network made."""
    cfg = verbs.plain(workspace.cfg)
    maps = WithPseudoLabels(workspace.train, workspace.path(MAPS))
    # Crops read their tags from what takes the place of the truth.
    dataset = Mapped(maps, lambda s: replace(s, true_semantic=s.semantic_map))
    workspace.fit_method(verbs, "final", cfg, dataset, cfg.final)
    return {}


@first_process
def evaluate(workspace: Workspace) -> Report:
    """IoU of base and novel classes of validation images, and how many regions any proposal covers; DataError without maps."""
    if workspace.val is None:
        return {}
    cfg, metric, trivial = workspace.cfg, MeanIoU(workspace.cfg.classes + 1), MeanIoU(workspace.cfg.classes + 1)
    model = verbs.restore(cfg, workspace.folder).to(workspace.device).eval()
    regions = []
    for sample in samples(workspace.val):
        if sample.true_semantic is None:
            raise DataError(f"image {sample.image_id} has no label PNG to compare with")
        images = workspace.batch(sample).images
        metric.update(verbs.predict(model, images, cfg)[0].cpu(), sample.true_semantic)
        masks = proposed_masks(model.network, images, cfg)[0].cpu()
        regions.append(region_coverage(masks, sample.true_semantic, cfg.novel))
        trivial.update(filled(sample.true_semantic, cfg.novel), sample.true_semantic)
    figures = numbers(grouped_iou(metric, cfg.novel) | proposal_recall(torch.cat(regions)))
    return figures | {"trivial_novel_mIoU": grouped_iou(trivial, cfg.novel)["novel_mIoU"]}


def filled(truth: Tensor, novel: Sequence[int]) -> Tensor:
    """The image [H, W] filled with the largest of its novel classes, 255 where it shows none: tags without any mask."""
    shown = truth[is_novel(truth, novel)]
    return torch.full_like(truth, int(shown.mode().values) if len(shown) else IGNORE)
