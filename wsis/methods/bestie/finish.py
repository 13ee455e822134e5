"""The optional last stage: a Mask R-CNN trained on the network's masks of its own training images.

The dagger rows of the paper's Table 1.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from torch import nn

from wsis.core.types import Instances, Sample
from wsis.data.coco_json import write_instances
from wsis.data.transforms import collate
from wsis.data.wrappers import ground_truths, samples
from wsis.evaluation.instances import voc_ap
from wsis.methods.bestie.config import BestieConfig
from wsis.methods.bestie.verbs import pseudo_labels, restore
from wsis.models.segmenters import predict, restore_segmenter
from wsis.training.final_model import fit_segmenter
from wsis.training.stages import Workspace

MASKS = "pseudo_train.json"


def train_maskrcnn(workspace: Workspace) -> dict[str, Any]:
    """Masks of the training images from the network and the weak labels, and a Mask R-CNN that learns them.

    Report: number of masks, and mAP of its predictions on the validation images.
    """
    cfg, main = workspace.cfg, workspace.is_first
    path, count = workspace.path(MASKS), 0
    if main:
        ids = workspace.train.category_ids
        count = write_instances(path, pseudo_masks(workspace), workspace.train.classes, ids)
    workspace.options.accelerator.wait_for_everyone()
    s = cfg.semantic
    model = fit_segmenter(workspace, "maskrcnn", path, cfg.maskrcnn, s.backbone, s.weights, stage="maskrcnn")
    if not main:
        return {}
    workspace.save("maskrcnn", model)
    figures = {"pseudo_masks": count}
    truth = ground_truths(workspace.val) if workspace.val is not None else None
    if workspace.val is None or truth is None:
        return figures
    predicted = [predict(model, collate([v]).images.to(workspace.device))[0] for v in samples(workspace.val)]
    ap = voc_ap(predicted, truth, cfg.classes)
    return figures | {k: v for k, v in ap.items() if k != "AP"}


def pseudo_masks(workspace: Workspace) -> Iterator[tuple[Sample, Instances]]:
    """Every training image with what the network finds of its tags, or one mask per click."""
    model = restore(workspace.cfg, workspace.folder).to(workspace.device).eval()
    for sample in samples(workspace.train):
        yield sample, pseudo_labels(model, workspace.batch(sample), workspace.cfg)[0].to("cpu")


def restore_maskrcnn(cfg: BestieConfig, folder: Path) -> nn.Module:
    """The trained detector of a run folder."""
    s = cfg.semantic
    return restore_segmenter("maskrcnn", cfg.classes, s.backbone, s.weights, folder / "maskrcnn.safetensors")
