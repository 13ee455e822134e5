"""The stages of a full EXITS run, from four clicks per object to a trained instance segmenter and its figures.

    extractor -> thresholds -> network -> labels -> final -> evaluation

MAL has no extractor and no thresholds. Reports compare with the ground truth where there is one; no loss reads it.
"""

from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path

import torch
from torch import Tensor, nn

from wsis.core.config import changed, seed_of
from wsis.core.errors import ConfigError
from wsis.core.files import read_json, write_json
from wsis.core.report import progress
from wsis.core.types import Batch, Sample
from wsis.data.wrappers import ground_truths
from wsis.evaluation import coco_ap, iou_by_size, recall, separated
from wsis.evaluation.features import auc
from wsis.methods.exits import verbs
from wsis.methods.exits.config import ExitsConfig
from wsis.methods.exits.labels import Retrieved, peak, select, threshold, token_scores
from wsis.methods.exits.model import Exits, build_extractor, build_teaching
from wsis.methods.exits.objective import warmup_loss
from wsis.ops.patches import covered_patches
from wsis.training.loop import order
from wsis.training.stages import Report, Stage, Workspace, first_process, numbers

CALIBRATION_BATCH = 32  # crops at a time
IMAGES_AT_ONCE = 8


def stages(cfg: ExitsConfig) -> list[Stage]:
    """The stages of `cfg` in order; boxes alone (MAL) need no extractor, true masks no generator.

    With network.steps=0 tokens are retrieved and nothing learns from them.
    """
    steps: list[Stage] = []
    if cfg.has_extractor:
        steps.append(Stage("extractor", "extractor.safetensors", train_extractor, "extractor warmup size"))
        steps.append(Stage("thresholds", "thresholds.json", set_thresholds, "walk seeds", "extractor"))
    if cfg.has_generator:
        if not cfg.network.steps:
            return steps
        parts, needs = "supervision size seeds walk generator loss crf network", "thresholds" * cfg.has_extractor
        steps.append(Stage("network", "network.safetensors", train_network, parts, needs))
    steps.append(Stage("labels", "pseudo_train.json", make_labels, "final mask", "network" * cfg.has_generator))
    if cfg.final.schedule.steps:
        steps.append(Stage("final", "final.safetensors", train_final, "classes final", "labels", "segmenter"))
        steps.append(Stage("evaluation", "", evaluate, "", "final"))
    return steps


def train_extractor(workspace: Workspace) -> Report:
    """The pretrained extractor, warmed up on boxes so that it separates objects from what surrounds them."""
    cfg = workspace.cfg
    model, data = build_extractor(cfg), verbs.training_data(workspace.train, cfg)

    def step_loss(network: nn.Module, batch: Batch, step: int) -> dict[str, Tensor]:
        return warmup_loss(network(batch.jittered), batch)

    if cfg.warmup.steps:
        model = workspace.fit("extractor", model, step_loss, data, cfg.warmup, save=False)
    workspace.save("extractor", model)
    return {"crops": len(data)}


def set_thresholds(workspace: Workspace) -> Report:
    """Thresholds at which the published share of crops retrieves nothing. Report: both, and see `quality`."""
    cfg, walk = workspace.cfg, workspace.cfg.walk
    extractor, scored = verbs.load(cfg, workspace.folder, "extractor").to(workspace.device).extractor, []
    assert extractor is not None
    for crops in training_crops(workspace, walk.crops):
        scores, seeds = token_scores(extractor, workspace.batch(*crops), cfg)
        scored.append((scores, seeds, true_tokens(crops, extractor.encoder.patch)))
    tau = threshold(torch.cat([peak(scores, seeds) for scores, seeds, _ in scored]), walk.empty_rate)
    taus = {"tau_fg": tau * walk.fg_factor, "tau_bg": tau * walk.bg_factor}
    if workspace.is_first:
        write_json(workspace.path("thresholds.json"), taus)
    walk = changed(walk, **taus)
    report = {**taus, **quality([(select(scores, seeds, walk), seeds.open, truth) for scores, seeds, truth in scored])}
    return report | separation([(scores, seeds.open, truth) for scores, seeds, truth in scored])


def with_thresholds(cfg: ExitsConfig, folder: Path) -> ExitsConfig:
    """`cfg` with `walk.tau_fg` and `walk.tau_bg` as `set_thresholds` wrote them to a run folder."""
    taus = read_json(folder / "thresholds.json")
    return changed(cfg, **{f"walk.{name}": tau for name, tau in taus.items()})


def training_crops(workspace: Workspace, count: int) -> Iterator[list[Sample]]:
    """Random training crops in batches: one of each object, of at most `count` (rounded up to whole batches) objects."""
    data, seed, size = verbs.training_data(workspace.train, workspace.cfg), workspace.options.seed, CALIBRATION_BATCH
    for step, groups in enumerate(order(data, size, seed, 0, -(-min(count, len(data)) // size))):
        # Each object comes once, and with its ground truth, which `data[key]` would hide.
        once = [(index, slot) for ((index, _, slot),) in groups if step * size + slot < len(data)]
        yield [data.augment(data.dataset[index], seed_of(seed, "crops", step, slot)) for index, slot in once]


def true_tokens(crops: list[Sample], patch: int) -> Tensor | None:
    """Which tokens the object covers by half or more, bool [B, n]; None without the ground truth."""
    masks = [crop.truth.masks for crop in crops if crop.truth is not None and len(crop.truth) == 1]
    return covered_patches(torch.cat(masks), patch) if len(masks) == len(crops) else None


def quality(retrieved: list[tuple[Retrieved, Tensor, Tensor | None]]) -> dict[str, float]:
    """The share of crops that retrieve nothing; of both kinds tokens per crop and, with the truth, precision and recall."""
    empty = torch.cat([r.empty for r, _, _ in retrieved]).float().mean()
    figures, truths = {"empty": float(empty)}, [truth for *_, truth in retrieved if truth is not None]
    opened = torch.cat([open_tokens for _, open_tokens, _ in retrieved]).cpu()
    for kind in ("foreground", "background"):
        tokens = torch.cat([getattr(r, kind) for r, *_ in retrieved]).cpu()
        figures[f"{kind}_tokens"] = float(tokens.sum(1).float().mean())
        if len(truths) == len(retrieved):
            of_kind = torch.cat(truths) if kind == "foreground" else ~torch.cat(truths)
            right = (tokens & of_kind).sum()
            figures[f"{kind}_precision"] = float(right / tokens.sum().clamp(min=1))
            figures[f"{kind}_recall"] = float(right / (opened & of_kind).sum().clamp(min=1))
    return figures


def separation(scored: list[tuple[Tensor, Tensor, Tensor | None]]) -> dict[str, float]:
    """How well scores tell the object from the rest of its box: their AUC over the open tokens of all crops. Trivial bounds are
    those of equal scores, and of all open tokens as one kind.
    """
    known = [(scores[is_open], truth[is_open.cpu()]) for scores, is_open, truth in scored if truth is not None]
    if not known:
        return {}
    scores, positive = (torch.cat(parts).cpu().numpy() for parts in zip(*known, strict=True))
    share = float(positive.mean())
    bounds = {"token_auc": 0.5, "foreground_precision": share, "background_precision": 1 - share}
    return {"token_auc": auc(scores, positive)} | {f"trivial_{name}": bound for name, bound in bounds.items()}


def train_network(workspace: Workspace) -> Report:
    """The generator, supervised by retrieved tokens, tight boxes and its own smoothed masks."""
    cfg = workspace.cfg
    extractor = verbs.load(cfg, workspace.folder, "extractor").to(workspace.device).extractor
    if cfg.has_extractor:
        cfg = with_thresholds(cfg, workspace.folder)
    data, model = verbs.training_data(workspace.train, cfg), Exits(extractor, build_teaching(cfg), None)

    def step_loss(network: nn.Module, batch: Batch, step: int) -> dict[str, Tensor]:
        return verbs.loss(network, batch, verbs.targets(model, batch, cfg), ramped(cfg, step))

    workspace.fit("network", model.generator, step_loss, data, cfg.network)
    return {"crops": len(data)}


def ramped(cfg: ExitsConfig, step: int) -> ExitsConfig:
    """The settings with the weights of tight boxes and mean field as they are at `step`: they rise from 0."""
    loss = cfg.loss
    rise = {name: min(1.0, step / ramp) for name, ramp in (("mil", loss.mil_ramp), ("crf", loss.crf_ramp)) if ramp}
    return replace(cfg, loss=replace(loss, **{name: getattr(loss, name) * share for name, share in rise.items()}))


@first_process
def make_labels(workspace: Workspace) -> Report:
    """One mask per annotation of the training images as COCO JSON. Report: masks, empty ones, IoU, that of boxes (trivial)."""
    cfg, dataset, path = workspace.cfg, workspace.train, workspace.path("pseudo_train.json")
    truth = ground_truths(dataset)
    if not cfg.has_generator:
        if truth is None:
            raise ConfigError("final.masks=truth is the upper bound and needs data with true masks; use pseudo")
        return {"masks": workspace.write_masks(path, truth)["masks"]}
    model, labels, boxes = verbs.load(cfg, workspace.folder, "network").to(workspace.device), [], []
    for start in progress(range(0, len(dataset), IMAGES_AT_ONCE), "labels"):
        batch = workspace.batch(*(dataset[i] for i in range(start, min(start + IMAGES_AT_ONCE, len(dataset)))))
        labels += [(masks.to("cpu"), int(empty.sum())) for masks, empty in verbs.label(model, batch, cfg)]
        if truth is not None:
            boxes += [filled.to("cpu") for filled in verbs.pseudo_labels(None, batch, cfg)]
    report = workspace.write_masks(path, [masks for masks, _ in labels]) | {"empty_masks": sum(n for _, n in labels)}
    return report if truth is None else report | {f"trivial_{k}": v for k, v in iou_by_size(boxes, truth).items()}


def train_final(workspace: Workspace) -> Report:
    """The final model: any instance segmenter, trained on the pseudo masks as if they were annotated."""
    final, path = workspace.cfg.final, workspace.path("pseudo_train.json")
    workspace.fit_segmenter(final.segmenter, path, final.schedule, final.backbone, final.weights)
    return {}


@first_process
def evaluate(workspace: Workspace) -> Report:
    """COCO mask AP of the final model on the validation images, and its recall of the objects in pieces."""
    model = verbs.load(workspace.cfg, workspace.folder, "final").to(workspace.device)
    pair = workspace.predictions(partial(verbs.predict, model, cfg=workspace.cfg))
    if pair is None:
        return {}
    predicted, truth = pair
    pieces = [objects[separated(objects)] for objects in truth]
    figures = coco_ap(predicted, truth, workspace.cfg.classes) | {"separated_recall": recall(predicted, pieces)}
    return numbers(figures) | {"separated": sum(map(len, pieces))}
