"""The optional last stage: a Mask R-CNN trained on the network's masks of its own training images.

The dagger rows of the paper's Table 1.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from torchvision.models.detection import MaskRCNN

from wsis.backbones import load_weights
from wsis.checkpoint import save_weights
from wsis.data.labelled import category_ids
from wsis.data.transforms import collate
from wsis.evaluate import voc_ap
from wsis.export import write_instances
from wsis.methods.bestie.config import BestieConfig
from wsis.methods.bestie.pipeline import samples
from wsis.runs import Workspace
from wsis.segmenters.maskrcnn import JsonMasks, as_it_is, build_maskrcnn, predict
from wsis.types import Instances, Sample

MASKS = "pseudo_train.json"


def train_maskrcnn(workspace: Workspace) -> dict[str, Any]:
    """Masks of the training images from the network and the weak labels, and a Mask R-CNN that learns them.

    Report: number of masks, and mAP of its predictions on the validation images.
    """
    cfg, main = workspace.cfg, workspace.engine.accelerator.is_main_process
    path, count = workspace.path(MASKS), 0
    if main:
        ids = category_ids(workspace.train)
        count = write_instances(path, pseudo_masks(workspace), workspace.train.classes, ids)
    workspace.engine.accelerator.wait_for_everyone()
    masks = JsonMasks(path, tuple(workspace.train.classes))
    model = workspace.optimise(
        "maskrcnn", build(cfg), masks.loss, masks.subset(workspace.train), as_it_is, cfg.maskrcnn
    )
    if not main:
        return {}
    save_weights(workspace.path("maskrcnn.safetensors"), model)
    figures = {"pseudo_masks": count}
    if workspace.val is None:
        return figures
    predicted = [predict(model, collate([s]).images.to(workspace.device))[0] for s in samples(workspace.val)]
    ap = voc_ap(predicted, [s.truth for s in samples(workspace.val)], cfg.classes)
    return figures | {k: v for k, v in ap.items() if k != "AP"}


def pseudo_masks(workspace: Workspace) -> Iterator[tuple[Sample, Instances]]:
    """Every training image with what the network finds of its tags, or one mask per click."""
    from wsis.methods.bestie import pseudo_labels, restore

    model = restore(workspace.cfg, workspace.folder).to(workspace.device).eval()
    for sample in samples(workspace.train):
        found = pseudo_labels(model, collate([sample]).to(workspace.device), workspace.cfg)
        yield sample, found.unbind()[0].to("cpu")


def build(cfg: BestieConfig) -> MaskRCNN:
    """The detector with its trunk's weights."""
    s = cfg.semantic
    return build_maskrcnn(cfg.classes, s.backbone, s.weights, frozen_norm=s.weights != "random")


def restore(cfg: BestieConfig, folder: Path) -> MaskRCNN:
    """The trained detector of a run folder."""
    s = cfg.semantic
    model = build_maskrcnn(cfg.classes, s.backbone, "random", frozen_norm=s.weights != "random")
    load_weights(model, folder / "maskrcnn.safetensors")
    return model
