"""The steps of a full BESTIE run, from image tags or points to a trained network and its figures.

    classifier -> cues ----------------+
    activation_maps -> semantic_maps --+-> network -> evaluation (-> maskrcnn)

Every stage that makes labels reports how good they are where the data has ground truth; nothing else reads it.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn.functional import binary_cross_entropy_with_logits

from wsis.core.config import changed
from wsis.core.errors import ConfigError, DataError
from wsis.core.files import atomic, read_json, write_json
from wsis.core.types import IGNORE, Batch, Dataset, Instances, Sample
from wsis.data.label_maps import read_class_map, write_label_map
from wsis.data.transforms import Augment, collate, resize
from wsis.data.wrappers import Labelled, samples
from wsis.evaluation.instances import cue_quality, label_quality, voc_ap
from wsis.evaluation.semantic import MeanIoU
from wsis.methods.bestie.config import BestieConfig
from wsis.methods.bestie.cues import activation_maps, extract_cues, semantic_map_from_activations, sharpened
from wsis.methods.bestie.labels import component_labels, foreground_probability
from wsis.methods.bestie.model import BestieNet, Classifier, PeakAttention, PeakSuppression
from wsis.methods.bestie.objective import hard_cross_entropy
from wsis.methods.bestie.verbs import build, decode, infer, loss, restore, targets, training_data
from wsis.models.weights import load_weights
from wsis.training.loop import TrainingData
from wsis.training.stages import Stage, Workspace

CLASSIFIER = "classifier classifier_backbone classifier_weights augment classes"


def stages(cfg: BestieConfig) -> list[Stage]:
    """The stages of `cfg` in order; with points there is no classifier for cues, without steps no Mask R-CNN."""
    steps: list[Stage] = []

    def add(name: str, artefact: str, run: Any, settings: str, *needs: str) -> None:
        parts = tuple(settings.split())
        steps.append(Stage(name=name, artefact=artefact, run=run, settings=parts, needs=needs))

    if cfg.supervision == "tags":
        add("classifier", "classifier.safetensors", train_classifier, f"{CLASSIFIER} pam")
        add("cues", "cues.json", make_cues, "cues", "classifier")
    add("activation_maps", "activation_maps", make_activation_maps, f"{CLASSIFIER} semantic")
    semantic = "semantic width bn_momentum semantic_network augment classes flip long_side compat loss"
    add("semantic_maps", "semantic_maps", make_semantic_maps, semantic, "activation_maps")
    everything = " ".join(vars(cfg))
    add("network", "network.safetensors", train_network, everything, *[s.name for s in steps])
    add("evaluation", "", evaluate, everything, "network")
    if cfg.maskrcnn.steps:
        from wsis.methods.bestie.finish import train_maskrcnn

        add("maskrcnn", "maskrcnn.safetensors", train_maskrcnn, everything, "network")
    return steps


def classifier(cfg: BestieConfig, activation: nn.Module, layers: tuple[int, ...]) -> Classifier:
    return Classifier(cfg.classifier_backbone, cfg.classifier_weights, cfg.classes, activation, layers)


def fit_classifier(name: str, model: Classifier, workspace: Workspace, save: bool = False) -> Classifier:
    """Train a classifier from image tags: multi-label cross entropy of the maps' spatial mean."""

    def loss(network: nn.Module, batch: Batch, step: int) -> dict[str, Tensor]:
        total = binary_cross_entropy_with_logits(network(batch.images).mean((2, 3)), batch.tags.float())
        return {"total": total}

    a = workspace.cfg.augment
    augment = Augment(
        crop=a.classifier_crop,
        square=a.classifier_resize or None,
        long_side=None,
        scale=(1, 1),
        scale_step=0,
        shift=0,
        brightness=0.3,
        contrast=0.3,
        saturation=0.3,
        hue=0.1,
        color_probability=1.0,
    )
    data = TrainingData(dataset=workspace.train, augment=augment)
    trained = workspace.fit(name, model, loss, data, workspace.cfg.classifier, save=save)
    return cast(Classifier, trained)


def train_classifier(workspace: Workspace) -> dict[str, Any]:
    """The classifier with peak attention. Report: how well it names the classes of the validation images."""
    cfg = workspace.cfg
    model = fit_classifier(
        "classifier", classifier(cfg, PeakAttention(cfg.pam.alpha), cfg.pam.layers), workspace, save=True
    )
    return {} if workspace.val is None else {"tag_mAP": tag_precision(model, workspace)}


@torch.no_grad()
def tag_precision(model: Classifier, workspace: Workspace) -> float:
    """Mean average precision of the image tags over classes, on the validation images."""
    logits, tags = [], []
    for sample in samples(workspace.val):
        batch = collate([classifier_input(sample, workspace.cfg)]).to(workspace.device)
        logits.append(model(batch.images).mean((2, 3)).cpu())
        tags.append(batch.tags.cpu())
    score, present = torch.cat(logits), torch.cat(tags)
    precisions = []
    for label in present.any(0).nonzero()[:, 0]:
        hits = present[score[:, label].argsort(descending=True), label]
        precisions.append((hits.cumsum(0) / torch.arange(1, len(hits) + 1))[hits].mean())
    return float(torch.stack(precisions).mean())


def classifier_input(sample: Sample, cfg: BestieConfig) -> Sample:
    """As the release does: a square of the classifier's crop size, aspect not kept."""
    side = cfg.augment.classifier_crop
    return resize(sample, (side, side))


def image_maps(
    model: Classifier, sample: Sample, cfg: BestieConfig, scales: tuple[float, ...], device: torch.device
) -> Tensor:
    """Class activation maps [1, C, H, W] at the sample's own size."""
    batch = collate([classifier_input(sample, cfg)]).to(device)
    return activation_maps(model, batch.images, batch.tags, sample.size, scales)


def make_cues(workspace: Workspace) -> dict[str, Any]:
    """Cues of every training image. Report: precision and recall against the true objects, if known."""
    cfg, main = workspace.cfg, workspace.is_first
    if not main:
        return {}
    model = classifier(changed(cfg, classifier_weights="random"), PeakAttention(cfg.pam.alpha), cfg.pam.layers)
    load_weights(model, workspace.path("classifier.safetensors"))
    model.to(workspace.device).eval()
    found = []
    for sample in samples(workspace.train):
        maps = image_maps(model, sample, cfg, (1.0,), workspace.device)
        found.append(extract_cues(maps, sample.tags[None].to(maps.device), cfg.cues).to("cpu"))
    stored = {
        str(workspace.train[i].image_id): [
            [*p.xy[k].tolist(), int(p.labels[k]), float(p.scores[k])] for k in range(len(p))
        ]
        for i, p in enumerate(found)
    }
    write_json(workspace.path("cues.json"), stored)
    truth = [s.truth for s in samples(workspace.train)]
    if any(t is None for t in truth):
        return {"cues": sum(map(len, found))}
    quality = cue_quality([p[p.scores > cfg.cues.threshold] for p in found], truth)
    return {"cues": sum(map(len, found)), "cue_precision": quality["precision"], "cue_recall": quality["recall"]}


def make_activation_maps(workspace: Workspace) -> dict[str, Any]:
    """A first class map of every training image, from a classifier without peak attention."""
    cfg, s = workspace.cfg, workspace.cfg.semantic
    if s.source in ("folder", "truth"):
        return _report_maps(workspace, _given_maps(workspace), "activation_maps")
    activation, layers = (nn.ReLU(), ()) if s.source == "cam" else (PeakSuppression(s.drs_delta), (6,))
    model = classifier(cfg, activation, layers)
    model = fit_classifier("activation_maps", model, workspace)

    def maps() -> Iterator[Tensor]:
        for sample in samples(workspace.train):
            activations = image_maps(model, sample, cfg, s.scales, workspace.device)
            yield semantic_map_from_activations(activations, collate([sample]).to(workspace.device).images, s)[0]

    return _report_maps(workspace, maps(), "activation_maps")


def _given_maps(workspace: Workspace) -> Iterator[Tensor]:
    s = workspace.cfg.semantic
    for sample in samples(workspace.train):
        if s.source == "truth":
            if sample.true_semantic is None:
                raise ConfigError("semantic.source=truth is an oracle and needs data with true masks; use cam or drs")
            yield sample.true_semantic
        else:
            yield read_class_map(
                Path(s.folder) / f"{Path(sample.file_name).stem}.png", sample.size, workspace.cfg.classes
            )


def make_semantic_maps(workspace: Workspace) -> dict[str, Any]:
    """The maps that the network learns from: predictions of its own semantic part, trained on the activation maps."""
    cfg = workspace.cfg
    first = Labelled(workspace.train, workspace.path("activation_maps"))
    if not cfg.semantic.retrain or cfg.semantic.source in ("folder", "truth"):
        return _report_maps(workspace, (s.semantic_map for s in samples(first)), "semantic_maps")

    def loss(network: nn.Module, batch: Batch, step: int) -> dict[str, Tensor]:
        return {
            "total": hard_cross_entropy(network(batch.images).semantic, batch.semantic_maps, cfg.loss.hard_fraction)
        }

    model = BestieNet(changed(cfg, backbone=cfg.semantic.backbone, weights=cfg.semantic.weights))
    data = training_data(first, cfg)
    model = workspace.fit("semantic_maps", model, loss, data, cfg.semantic_network, save=False)

    def maps() -> Iterator[Tensor]:
        for sample in samples(workspace.train):
            batch = collate([sample]).to(workspace.device)
            with torch.no_grad():
                probability = foreground_probability(infer(model, batch.images, cfg).semantic, batch.tags)
            yield sharpened(probability, batch.images, cfg.semantic)[0]

    return _report_maps(workspace, maps(), "semantic_maps")


def _report_maps(workspace: Workspace, maps: Iterator[Tensor], folder: str) -> dict[str, Any]:
    """Write one PNG per training image and measure the maps against the true ones, if known."""
    if not workspace.is_first:
        return {}
    quality, known = MeanIoU(workspace.cfg.classes + 1), True
    with atomic(workspace.path(folder)) as temporary:
        for sample, classes in zip(samples(workspace.train), maps, strict=True):
            classes = classes.to("cpu", torch.uint8)
            write_label_map(temporary / f"{Path(sample.file_name).stem}.png", classes)
            if sample.true_semantic is None:
                known = False
            else:
                quality.update(torch.where(classes == IGNORE, 0, classes), sample.true_semantic)
    return {"mIoU": float(quality.result()["mIoU"])} if known else {}


def training_set(workspace: Workspace) -> Dataset:
    """Training images with the semantic maps and cues (or clicks) of this run."""
    cues = None
    if workspace.cfg.supervision == "tags":
        cues = read_json(workspace.path("cues.json"))
    elif workspace.train[0].points is None:
        raise DataError("supervision=points, but the annotations hold no points; make some with python -m wsis weak")
    return Labelled(workspace.train, workspace.path("semantic_maps"), cues)


def train_network(workspace: Workspace) -> dict[str, Any]:
    """The instance network. Report: how many pseudo labels are right, before any refinement, if the truth is known."""
    cfg, dataset = workspace.cfg, training_set(workspace)

    def step_loss(network: nn.Module, batch: Batch, step: int) -> dict[str, Tensor]:
        refine = cfg.refine.enabled and step >= cfg.refine.start
        return loss(network, batch, targets(network, batch, cfg), changed(cfg, **{"refine.enabled": refine}))

    workspace.fit("network", build(cfg), step_loss, training_data(dataset, cfg), cfg.network)
    if not workspace.is_first:
        return {}
    pairs = []
    for sample in samples(dataset):
        if sample.truth is None:
            return {}
        pairs.append((_alone(sample, cfg), sample.truth))
    quality = label_quality([p for p, _ in pairs], [t for _, t in pairs])
    return {f"pseudo_{k}": v for k, v in quality.items()}


def _alone(sample: Sample, cfg: BestieConfig) -> Instances:
    """The pseudo labels of one whole image."""
    batch = collate([sample])
    return component_labels(batch.semantic_maps, batch.points, batch.tags, cfg).unbind()[0]


def evaluate(workspace: Workspace) -> dict[str, Any]:
    """mAP of the network's predictions on the validation images, and mIoU of its semantic map."""
    cfg = workspace.cfg
    if workspace.val is None or not workspace.is_first:
        return {}
    model = restore(cfg, workspace.folder).to(workspace.device).eval()
    predicted, truth, semantic = [], [], MeanIoU(cfg.classes + 1)
    for sample in samples(workspace.val):
        with torch.no_grad():
            outputs = infer(model, collate([sample]).to(workspace.device).images, cfg)
        predicted.append(decode(outputs, None, cfg).unbind()[0].to("cpu"))
        truth.append(sample.truth)
        semantic.update(outputs.semantic.argmax(1)[0].cpu(), sample.true_semantic)
    figures = voc_ap(predicted, truth, cfg.classes)
    return {k: figures[k] for k in ("mAP25", "mAP50", "mAP70", "mAP75")} | {"mIoU": float(semantic.result()["mIoU"])}
