"""The "ImageNet" of the tiny networks: scenes of the embedded world, of a seed that no run uses.

    python -m wsis pretrain vgg_tiny    writes weights (fp16) and their card

vgg_tiny, hrnet_tiny and resnet_tiny learn from image tags, with one object per image; the objectives of the transformers
are in `wsis.experiments.pretraining.vit` and `wsis.methods.attentionshift.pretrain`.
"""

import platform
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from wsis.core.errors import ConfigError
from wsis.core.files import digest, write_json
from wsis.core.types import Dataset, Sample
from wsis.data.transforms import Augment, ShortSide, collate
from wsis.data.world import World, WorldConfig
from wsis.data.wrappers import Cached, Mapped
from wsis.experiments.pretraining import vit
from wsis.experiments.pretraining.vit import MaskedAutoencoder, SelfDistillation, TagClassifier, mean_token, one_tag
from wsis.methods.attentionshift import pretrain as points
from wsis.models.pyramids import build_pyramid
from wsis.models.vit import build_vit
from wsis.models.weights import save_weights
from wsis.training.loop import LoopOptions, TrainingData, make_accelerator, train
from wsis.training.schedule import Schedule
from wsis.weak.simulate import with_points

SEED = 90_210
SIZE = 64
TAGGED = WorldConfig(size=SIZE, objects=(1, 1), object_size=(0.35, 0.85), contact=0, nested=0, occlusion=0)
PYRAMIDS = ("vgg_tiny", "hrnet_tiny", "resnet_tiny")


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """What one network is trained on and how."""

    source: str  # words for the card
    learner: Callable[[int], Any]  # number of classes -> a network that maps a batch to its loss terms
    shipped: Callable[[Any], nn.Module]  # the part of it to save
    scenes: WorldConfig = vit.SCENES
    # Figures for the card, on scenes of `val`.
    quality: Callable[[Any, Dataset], dict[str, float]] = lambda model, val: {}
    val: WorldConfig = vit.SCENES  # the cards of all transformers compare
    counts: tuple[int, int] = (6000, 200)  # of the scenes to train on and to measure on
    augment: Augment | ShortSide = vit.AUGMENT
    schedule: Schedule = vit.SCHEDULE
    annotate: Callable[[Sample], Sample] = lambda sample: sample  # adds the weak labels


def pyramid_learner(name: str, classes: int) -> TagClassifier:
    """Classify by the spatial means of the backbone's last feature, or of all branches of an HRNet."""
    backbone, levels = build_pyramid(name, "random"), slice(1 if name.startswith("hrnet") else -1, None)

    def pool(backbone: nn.Module, images: Tensor) -> Tensor:
        return torch.cat([feature.mean((2, 3)) for feature in backbone(images)[levels]], dim=1)

    return TagClassifier(backbone, pool, sum(backbone.channels[levels]), classes)


@torch.no_grad()
def accuracy(model: TagClassifier, val: Dataset) -> dict[str, float]:
    """Measure how often the one object of a scene gets its class."""
    device, correct = next(model.parameters()).device, []
    for k in range(0, len(val), 50):
        batch = collate([val[i] for i in range(k, min(k + 50, len(val)))]).to(device)
        correct.append(model.logits(batch.images).argmax(1) == one_tag(batch))
    return {"accuracy": round(torch.cat(correct).float().mean().item(), 4)}


def _pyramid(name: str) -> Recipe:
    return Recipe(
        source="one object each, image tags only",
        learner=partial(pyramid_learner, name),
        shipped=lambda model: model.backbone.network,
        quality=accuracy,
        scenes=TAGGED,
        val=TAGGED,
        counts=(4000, 500),
        augment=Augment(crop=SIZE, long_side=None, scale=(0.8, 1.3), scale_step=0.0),
        schedule=Schedule(1200, 48, "adamw", 3e-3, "poly", weight_decay=0.05, warmup=100),
    )


MAE = Recipe(
    source="one to three objects; masked image modelling, no label",
    learner=lambda classes: MaskedAutoencoder(build_vit("vit_tiny", "random")),
    shipped=lambda model: model.vit.backbone,
    quality=lambda model, val: vit.quality(model.vit, val),
)
# An autoencoder encodes a quarter of the tokens, the others half: half as many steps cost about the same.
SHORT = replace(vit.SCHEDULE, steps=vit.SCHEDULE.steps // 2)
RECIPES = {
    **{name: _pyramid(name) for name in PYRAMIDS},
    "vit_tiny_mae": MAE,
    "vit_tiny_supervised": Recipe(
        source="one object; image tags only",
        learner=lambda classes: TagClassifier(t := build_vit("vit_tiny", "random"), mean_token, t.width, classes),
        shipped=lambda model: model.backbone.backbone,
        quality=lambda model, val: vit.quality(model.backbone, val),
        scenes=vit.ONE_OBJECT,
        schedule=SHORT,
    ),
    "vit_tiny_dino": replace(
        MAE,
        source="one to three objects; self-distillation, no label",
        learner=lambda classes: SelfDistillation(build_vit("vit_tiny", "random")),
        schedule=SHORT,
    ),
    "vit_hybrid_points": Recipe(
        source="one to three objects; one point each, and what hidden patches hold",
        learner=points.PointFinder,
        # The heads of the classes, which are those of the scenes, stay behind.
        shipped=lambda model: nn.ModuleDict({"encoder": model.encoder, "place": model.heads.place}),
        counts=(4000, 0),
        augment=points.AUGMENT,
        schedule=points.SCHEDULE,
        annotate=lambda sample: with_points(sample, "box_center"),
    ),
}


def pretrain(name: str, out: Path) -> dict[str, Any]:
    """Train the network `name`, write `<name>.safetensors` and `<name>.json` to `out`, and return the card.

    Resumes from the last checkpoint in `out/.<name>`. Raises ConfigError for an unknown name.
    """
    if name not in RECIPES:
        raise ConfigError(f"no recipe for {name!r}; choose one of {', '.join(RECIPES)}")
    began, plan = time.perf_counter(), RECIPES[name]
    schedule, counts = plan.schedule, plan.counts
    dataset = Cached(Mapped(World("train", counts[0], seed=SEED, config=plan.scenes), plan.annotate))
    words = f"{counts[0]} scenes of the embedded world with {plan.source}"
    options = LoopOptions(accelerator=make_accelerator("auto"), seed=SEED, folder=out / f".{name}")
    torch.manual_seed(SEED)
    model = plan.learner(len(dataset.classes))
    data, key = TrainingData(dataset=dataset, augment=plan.augment), f"{name} {schedule} {words}"
    model = train(name, model, lambda network, batch, step: network(batch), data, schedule, options, key)
    path = out / f"{name}.safetensors"
    save_weights(path, plan.shipped(model), half=True)
    card = {
        "command": f"python -m wsis pretrain {name}",
        "trained_on": words,
        **plan.quality(model, Cached(World("val", counts[1], seed=SEED, config=plan.val))),
        "classes": len(dataset.classes),
        "seed": SEED,
        "steps": schedule.steps,
        "batch_size": schedule.batch_size,
        "minutes": round((time.perf_counter() - began) / 60, 1),
        "hardware": f"{platform.machine()}, {options.accelerator.device.type}, OMP threads: {torch.get_num_threads()}",
        "torch": torch.__version__,
        "sha256": digest([path]),
    }
    write_json(out / f"{name}.json", card, indent=2)
    return card
