"""The stages of a full BESTIE run, from image tags or points to a trained network and its figures.

    classifier -> cues ----------------+
    activation_maps -> semantic_maps --+-> network -> evaluation (-> final)

Every stage that makes labels reports how good they are where the data has ground truth; nothing else reads it.
"""

from collections.abc import Callable
from functools import partial
from pathlib import Path

import torch
from torch import Tensor, nn

from wsis.baselines import relation
from wsis.core.config import changed
from wsis.core.errors import ConfigError, DataError
from wsis.core.files import read_json, write_json
from wsis.core.types import Batch, Dataset, Instances, Points, Sample
from wsis.data.images import map_name
from wsis.data.label_maps import read_class_map
from wsis.data.masks import paint_semantic
from wsis.data.wrappers import WithPseudoLabels, ground_truths, samples
from wsis.evaluation import MeanIoU, cue_quality, label_quality, voc_ap
from wsis.methods.bestie import cues, verbs
from wsis.methods.bestie.config import BestieConfig, at_size
from wsis.methods.bestie.labels import class_probability, component_instances, decode, kept_apart
from wsis.methods.bestie.model import BestieNet, Classifier, infer
from wsis.methods.bestie.verbs import pseudo_labels, restore, training_data
from wsis.models.pyramids import build_tokens
from wsis.models.weights import load_weights
from wsis.ops.losses import hard_cross_entropy
from wsis.training.stages import Report, Stage, Workspace, first_process, numbers
from wsis.weak.simulate import click

FROM_TAGS = ("cam", "walk", "irn")  # sources of class maps that need no masks


def stages(cfg: BestieConfig) -> list[Stage]:
    """The stages of `cfg` in order; only peaks need a classifier, only tags need cues, only steps make a final Mask R-CNN."""
    steps: list[Stage] = []
    everything = " ".join(name for name in vars(cfg) if name != "final")
    classifier = "classifier classifier_backbone classifier_weights classifier_width size classes"
    semantic = "semantic width init bn_momentum center_mode semantic_network size classes flip compat loss"

    if cfg.supervision == "tags":
        if cfg.cues.source == "peaks":
            steps.append(Stage("classifier", "classifier.safetensors", train_classifier, f"{classifier} pam"))
        steps.append(Stage("cues", "cues.json", make_cues, "cues", " ".join(s.name for s in steps)))
    steps.append(Stage("activation_maps", "activation_maps", make_activation_maps, f"{classifier} semantic"))
    steps.append(Stage("semantic_maps", "semantic_maps", make_semantic_maps, semantic, "activation_maps"))
    needs = " ".join(s.name for s in steps)
    steps.append(Stage("network", "network.safetensors", train_network, everything, needs))
    steps.append(Stage("evaluation", "", evaluate, everything, "network"))
    if cfg.final.steps:
        like = {"backbone": cfg.semantic.backbone, "weights": cfg.semantic.weights}
        final = partial(Workspace.fit_maskrcnn, restore=restore, pseudo_labels=pseudo_labels, **like)
        steps.append(Stage("final", "final.safetensors", final, f"{everything} final", "network", "maskrcnn"))
    return steps


def fit_classifier(workspace: Workspace, name: str, cfg: BestieConfig, *, save: bool) -> nn.Module:
    """Train the classifier of `cfg` from image tags."""
    side, square = cfg.size.classifier_crop, cfg.size.classifier_resize
    return workspace.fit_tags(name, Classifier(cfg), side, square or None, cfg.classifier, save=save)


def train_classifier(workspace: Workspace) -> Report:
    """The classifier with peak attention. Report: mean average precision of the validation images' tags over classes."""
    model, logits, tags = fit_classifier(workspace, "classifier", workspace.cfg, save=True), [], []
    if workspace.val is None:
        return {}
    for sample in workspace.validation():
        batch = workspace.batch(cues.classifier_input(sample, workspace.cfg))
        assert batch.tags is not None
        with torch.no_grad():
            logits.append(model(batch.images).mean((2, 3)).cpu())
        tags.append(batch.tags.cpu())
    score, present = torch.cat(logits), torch.cat(tags)
    precisions = []
    for label in present.any(0).nonzero()[:, 0]:
        hits = present[score[:, label].argsort(descending=True), label]
        precisions.append((hits.cumsum(0) / torch.arange(1, len(hits) + 1))[hits].mean())
    return {"tag_mAP": float(torch.stack(precisions).mean())} if precisions else {}


@first_process
def make_cues(workspace: Workspace) -> Report:
    """Cues of every training image. Report: precision and recall against the true objects, if known."""
    cfg, device, rows, strong, model = workspace.cfg, workspace.device, {}, [], None
    if cfg.cues.source == "peaks":
        model = Classifier(changed(cfg, classifier_weights="random")).to(device).eval()
        load_weights(model, workspace.path("classifier.safetensors"))
    for sample in samples(workspace.train):
        if model is None:
            points = true_cues(sample)
        else:
            assert sample.tags is not None
            maps = cues.image_maps(model, sample, cfg)
            points = cues.extract_cues(maps, sample.tags[None].to(device), at_size(cfg, *sample.size).cues).to("cpu")
        if str(sample.image_id) in rows:
            raise DataError(f"two training images have the id {sample.image_id}; give each its own image_id")
        columns = (points.xy.tolist(), points.labels.tolist(), points.scores.tolist())
        rows[str(sample.image_id)] = [[*xy, label, score] for xy, label, score in zip(*columns, strict=True)]
        strong.append(points[points.scores > cfg.cues.threshold])
    write_json(workspace.path("cues.json"), rows)
    truth = ground_truths(workspace.train)
    quality = {} if truth is None else cue_quality(strong, truth)
    return {"cues": sum(map(len, rows.values()))} | {f"cue_{name}": value for name, value in quality.items()}


def true_cues(sample: Sample) -> Points:
    """One pixel of each true object, at random: cues as good as they can be."""
    if sample.truth is None:
        raise ConfigError("cues.source=truth is an oracle and needs data with true masks; use peaks")
    return click(sample.truth, sample.image_id, "mask_random")


def make_activation_maps(workspace: Workspace) -> Report:
    """A first class map of every training image: from a classifier without peak attention, of a folder, or the true one."""
    cfg, s, plain, tokens, relations = workspace.cfg, workspace.cfg.semantic, None, None, None
    if s.source in FROM_TAGS:
        plain = fit_classifier(workspace, "activation_maps", changed(cfg, pam={"layers": ()}), save=False)
    if s.source == "walk":
        tokens = build_tokens(s.backbone, s.weights).to(workspace.device).eval()
    if plain is not None and s.source == "irn":
        activations = partial(cues.image_maps, plain, cfg=cfg, scales=s.scales)
        labels = relation.seeder(workspace, activations, s.irn)
        relations = relation.fit(workspace, "irn", labels, s.irn, (s.backbone, s.weights))

    def class_map(sample: Sample) -> Tensor:
        if plain is not None:
            activations, images = cues.image_maps(plain, sample, cfg, s.scales), workspace.batch(sample).images
            if relations is not None:
                activations = relation.class_scores(relations, activations, images, s.irn)
                return cues.sharpened(cues.with_background(activations, s.irn.floor), images, s)[0]
            if tokens is not None:
                activations = cues.walked(activations, images, tokens)
            return cues.semantic_map_from_activations(activations, images, s)[0]
        if s.source == "folder":
            path = Path(s.folder) / map_name(sample.file_name)
            return read_class_map(path, sample.size, cfg.classes, cfg.largest_side)
        if sample.true_semantic is None or (s.source == "masks" and sample.truth is None):
            raise ConfigError(f"semantic.source={s.source} is an oracle and needs data with true masks; use cam")
        return sample.true_semantic if s.source == "truth" else kept_apart(sample)

    return _write_maps(workspace, "activation_maps", workspace.train, class_map)


def make_semantic_maps(workspace: Workspace) -> Report:
    """The maps that the network learns from: predictions of its own semantic part, trained on the activation maps."""
    cfg, s, model = workspace.cfg, workspace.cfg.semantic, None
    first = WithPseudoLabels(workspace.train, workspace.path("activation_maps"))

    def semantic_loss(network: nn.Module, batch: Batch, step: int) -> dict[str, Tensor]:
        logits = network(batch.images).semantic
        assert batch.semantic_maps is not None
        return {"total": hard_cross_entropy(logits, batch.semantic_maps, cfg.loss.hard_fraction)}

    if s.retrain and s.source in FROM_TAGS:
        model, data = BestieNet(changed(cfg, backbone=s.backbone, weights=s.weights)), training_data(first, cfg)
        model = workspace.fit("semantic_maps", model, semantic_loss, data, cfg.semantic_network, save=False)

    @torch.no_grad()
    def class_map(sample: Sample) -> Tensor:
        if model is None:
            assert sample.semantic_map is not None
            return sample.semantic_map
        batch = workspace.batch(sample)
        # Sharpened again, as the maps that it learned from were (decision 6).
        probability = class_probability(infer(model, batch.images, cfg).semantic, batch.tags)
        return cues.sharpened(probability, batch.images, s)[0]

    return _write_maps(workspace, "semantic_maps", first, class_map)


def _write_maps(workspace: Workspace, folder: str, dataset: Dataset, class_map: Callable[[Sample], Tensor]) -> Report:
    """Write the maps in the first process; compare them with the true ones, ignored pixels as background."""
    if not workspace.is_first:
        return {}
    metric = workspace.write_class_maps(folder, map(class_map, samples(dataset)), unlabeled=0)
    return {} if metric is None else {"mIoU": float(metric.result()["mIoU"])}


def train_network(workspace: Workspace) -> Report:
    """The instance network. Report: how many pseudo labels are right, before any refinement, if the truth is known."""
    cfg, tags = workspace.cfg, workspace.cfg.supervision == "tags"
    if not tags and workspace.train[0].points is None:
        raise DataError("supervision=points, but the annotations hold no points; make some with python -m wsis weak")
    stored = read_json(workspace.path("cues.json")) if tags else None
    dataset = WithPseudoLabels(workspace.train, workspace.path("semantic_maps"), stored)
    workspace.fit_method(verbs, "network", cfg, dataset, cfg.network)
    truth = ground_truths(workspace.train) if workspace.is_first else None
    if truth is None:
        return {}
    labels = (pseudo_labels(None, workspace.batch(sample), cfg)[0].to("cpu") for sample in samples(dataset))
    return {f"pseudo_{name}": value for name, value in label_quality(labels, truth).items()}


@first_process
def evaluate(workspace: Workspace) -> Report:
    """mAP of the network's predictions on the validation images, and mIoU of its semantic map.

    components_mAP: of one instance for each component of that map. trivial_mAP: of the whole image for each of its true tags.
    """
    cfg, class_maps, components, whole = workspace.cfg, [], [], []
    semantic = MeanIoU(cfg.classes + 1)
    model = restore(cfg, workspace.folder).to(workspace.device).eval()

    def predict_instances(images: Tensor) -> list[Instances]:
        outputs, lengths = infer(model, images, cfg), at_size(cfg, *images.shape[-2:])
        class_maps.append(outputs.semantic.argmax(1)[0].cpu())
        components.append(component_instances(outputs.semantic, lengths).unbind()[0].to("cpu"))
        return decode(outputs, None, lengths).instances.unbind()

    pairs = workspace.predictions(predict_instances)
    if pairs is None:
        return {}
    for class_map, sample in zip(class_maps, workspace.validation(), strict=True):
        assert sample.truth is not None
        known = sample.true_semantic
        semantic.update(class_map, paint_semantic(sample.truth) if known is None else known)
        labels = sample.truth.labels.unique()
        whole.append(Instances.make(torch.ones(len(labels), *sample.size, dtype=torch.bool), labels))
    parts = (("", pairs[0]), ("components_", components), ("trivial_", whole))
    scored = {f"{prefix}{k}": v for prefix, masks in parts for k, v in voc_ap(masks, pairs[1], cfg.classes).items()}
    return numbers(scored) | {"mIoU": float(semantic.result()["mIoU"])}
