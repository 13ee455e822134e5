"""The tiny networks' own "ImageNet": scenes of the embedded world, of a seed that no run uses.

    python -m wsis.pretrain vgg_tiny --out wsis/models/shipped          trains, and writes the weights (fp16) with their card
    python -m wsis.pretrain vit_tiny_mae --images photos --out adapted      goes on from the shipped ones with your pictures
    python -m wsis.pretrain vit_mobile_points --images FOLDER --below mobilenet.npz --out adapted      FOLDER: COCO, clicked

What the large backbones bring from ImageNet classification, the tiny ones bring from here: features learned from image
tags alone (vgg_tiny, hrnet_tiny, resnet_tiny: one object per picture, named by its tag). The transformers come with
three objectives: see `wsis.pretrain_vit`; what their cards measure is measured on the same scenes.
"""

import argparse
import platform
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from wsis.core.errors import ConfigError
from wsis.core.files import write_json
from wsis.core.types import Batch, Dataset, Sample
from wsis.data.images import ImageFolder
from wsis.data.transforms import Augment, collate, resize, short_side
from wsis.data.world import World, WorldConfig
from wsis.data.wrappers import Changed, InMemory, Subset, samples
from wsis.experiments.pretraining import vit as pretrain_vit
from wsis.methods.attentionshift import pretrain as pretrain_points
from wsis.models.convnets import Pyramid
from wsis.models.pyramids import build_pyramid
from wsis.models.weights import load_weights, save_weights, sha256, shipped
from wsis.training.loop import LoopOptions, TrainingData, make_accelerator
from wsis.training.loop import train as optimise
from wsis.training.schedule import Schedule
from wsis.weak.simulate import with_points
from wsis.weak.sources import open_data

SEED = 90_210
SIZE = 64
SCENES = WorldConfig(size=SIZE, objects=(1, 1), object_size=(0.35, 0.85), contact=0, nested=0, occlusion=0)
SCHEDULE = Schedule(1200, 48, "adamw", 3e-3, "poly", weight_decay=0.05, warmup=100)
AUGMENT = Augment(crop=SIZE, long_side=None, scale=(0.8, 1.3), scale_step=0.0)
PYRAMIDS = ("vgg_tiny", "hrnet_tiny", "resnet_tiny")
OBJECTIVES = {
    "vit_tiny_mae": "one to three objects; masked image modelling, no label",
    "vit_tiny_supervised": "one object; image tags only",
    "vit_tiny_dino": "one to three objects; self-distillation, no label",
    "vit_hybrid_points": "one to three objects; one point each, and what hidden patches hold",
}
CLICKED = "vit_mobile_points"


class TagClassifier(nn.Module):
    """Spatial means of the backbone's last feature (HRNet: of all its branches), then one linear layer."""

    def __init__(self, backbone: Pyramid, levels: slice, classes: int) -> None:
        super().__init__()
        self.backbone, self.levels = backbone, levels
        self.head = nn.Linear(sum(backbone.channels[levels]), classes)

    def forward(self, batch: Batch) -> dict[str, Tensor]:
        assert batch.tags is not None
        named = batch.tags.float().argmax(1)
        return {"total": cross_entropy(self.logits(batch.images), named, label_smoothing=0.1)}

    def logits(self, images: Tensor) -> Tensor:
        features = self.backbone(images)[self.levels]
        return self.head(torch.cat([f.mean((2, 3)) for f in features], dim=1))


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """What one network is trained on and how.

    counts: scenes to train on and to judge on. learner: classes -> a network that maps a batch to its loss terms.
    body: what of it is shipped. quality: measured figures for the card. given: what the learner is told of a scene.
    """

    trained_on: str
    scenes: WorldConfig
    counts: tuple[int, int]
    augment: Augment
    schedule: Schedule
    learner: Callable[[int], nn.Module]
    body: Callable[[nn.Module], nn.Module]
    quality: Callable[[nn.Module, Dataset], dict[str, float]]
    given: Callable[[Sample], Sample] = lambda sample: sample  # its tags


def recipe(name: str) -> Recipe:
    """The recipe of the shipped weights `name`.

    Raises:
        ConfigError: no such weights.
    """
    if name in PYRAMIDS:
        levels = slice(1 if name.startswith("hrnet") else -1, None)
        return Recipe(
            trained_on="scenes of the embedded world with one object each, image tags only",
            scenes=SCENES,
            counts=(4000, 500),
            augment=AUGMENT,
            schedule=SCHEDULE,
            learner=lambda classes: TagClassifier(build_pyramid(name, "random"), levels, classes),
            body=_pyramid_body,
            quality=accuracy,
        )
    if name == "vit_hybrid_points":
        return Recipe(
            trained_on=f"scenes of the embedded world with {OBJECTIVES[name]}",
            scenes=pretrain_vit.SCENES,
            counts=(4000, 200),
            augment=pretrain_points.AUGMENT,
            schedule=pretrain_points.SCHEDULE,
            learner=pretrain_points.PointFinder,
            body=_finder,
            quality=pretrain_points.quality,
            given=lambda sample: with_points(sample, "box_center"),
        )
    if name in OBJECTIVES:
        masked, tagged = name == "vit_tiny_mae", name == "vit_tiny_supervised"
        # an autoencoder sees a quarter of the tokens, the others half: so many steps cost about the same
        steps = pretrain_vit.SCHEDULE.steps // (1 if masked else 2)
        return Recipe(
            trained_on=f"scenes of the embedded world with {OBJECTIVES[name]}",
            scenes=pretrain_vit.ONE_THING if tagged else pretrain_vit.SCENES,
            counts=(6000, 200),
            augment=pretrain_vit.AUGMENT,
            schedule=replace(pretrain_vit.SCHEDULE, steps=steps),
            learner=lambda classes: pretrain_vit.learner(name.removeprefix("vit_tiny_"), classes),
            body=lambda model: pretrain_vit.trained(model).backbone,
            quality=lambda model, val: pretrain_vit.quality(pretrain_vit.trained(model), val),
        )
    raise ConfigError(f"no recipe for {name!r}; choose one of {', '.join((*PYRAMIDS, *OBJECTIVES, CLICKED))}")


def clicked_recipe(below: str) -> Recipe:
    """Of `CLICKED`, which learns from one point per object of photographs. below: weights of MobileNetV2."""
    return replace(
        recipe("vit_hybrid_points"),
        augment=pretrain_points.PHOTOS,
        schedule=replace(pretrain_points.SCHEDULE, steps=600, batch_size=8),
        learner=lambda classes: pretrain_points.PointFinder(
            classes, "vit_mobile", below, first=200, tokens=pretrain_points.PHOTO_TOKENS
        ),
    )


def _finder(model: nn.Module) -> nn.Module:
    """The encoder, and the head that says where a token looks, which knows no classes."""
    assert isinstance(model, pretrain_points.PointFinder)
    return nn.ModuleDict({"encoder": model.encoder, "place": model.heads.place})


def _pyramid_body(model: nn.Module) -> nn.Module:
    assert isinstance(model, TagClassifier)
    return model.backbone.network


@torch.no_grad()
def accuracy(model: nn.Module, val: Dataset) -> dict[str, float]:
    """How often the one object of a scene is named right."""
    assert isinstance(model, TagClassifier)
    device = next(model.parameters()).device
    right = []
    for k in range(0, len(val), 50):
        batch = collate([val[i] for i in range(k, min(k + 50, len(val)))])
        assert batch.tags is not None
        right.append(model.logits(batch.images.to(device)).argmax(1).cpu() == batch.tags.float().argmax(1))
    return {"accuracy": round(torch.cat(right).float().mean().item(), 4)}


def pretrain(
    name: str,
    out: Path,
    steps: int | None = None,
    scenes: int | None = None,
    images: Path | None = None,
    below: str = "imagenet",
) -> dict:
    """Train the network `name` and write `<name>.safetensors` and `<name>.json` in `out`.

    steps, scenes: in place of the recipe's. images: a folder of pictures in place of scenes; the shipped weights go on
    learning from these, without any label. For `CLICKED` a folder in COCO format, with clicks or with masks from which
    they are simulated; below: the weights of its convolutions. Goes on from the last checkpoint in `out/.<name>`.
    Returns the card.

    Raises:
        ConfigError: see `recipe`; images for a network that learns from tags, none where they are needed.
        DataError: see `ImageFolder`, `open_data`.
    """
    began = time.perf_counter()
    chosen = clicked_recipe(below) if name == CLICKED else recipe(name)
    schedule = replace(chosen.schedule, steps=steps or chosen.schedule.steps)
    train, val, described = _data(name, chosen, scenes or chosen.counts[0], images)
    engine = LoopOptions(accelerator=make_accelerator("auto"), seed=SEED, folder=out / f".{name}", resume=True)
    torch.manual_seed(SEED)
    model = chosen.learner(len(train.classes))
    if images is not None and name != CLICKED:
        load_weights(chosen.body(model), shipped(name))

    def loss(network: nn.Module, batch: Batch, step: int) -> dict[str, Tensor]:
        return network(batch)

    data = TrainingData(dataset=train, augment=chosen.augment)
    model = optimise(name, model, loss, data, schedule, engine, f"{name} {schedule} {described}")
    path = out / f"{name}.safetensors"
    save_weights(path, chosen.body(model), half=True)
    card = {
        "command": f"python -m wsis.pretrain {name}" + ("" if images is None else f" --images {images.name}"),
        "trained_on": described,
        **chosen.quality(model, val),
        "classes": len(train.classes),
        "seed": SEED,
        "steps": schedule.steps,
        "batch_size": schedule.batch_size,
        "minutes": round((time.perf_counter() - began) / 60, 1),
        "hardware": f"{platform.machine()}, {torch.get_num_threads()} threads, {engine.accelerator.device.type}",
        "torch": torch.__version__,
        "sha256": sha256(path),
    }
    write_json(out / f"{name}.json", card, indent=2)
    return card


def _data(name: str, chosen: Recipe, count: int, images: Path | None) -> tuple[Dataset, Dataset, str]:
    """What to learn from, what the card is measured on, and words for the first."""
    if name == CLICKED:
        return _clicked(images)
    judged = pretrain_vit.SCENES if name in OBJECTIVES else chosen.scenes  # cards of the transformers compare
    val = InMemory(World("val", chosen.counts[1], seed=SEED, config=judged))
    if images is not None:
        train = _pictures(name, images)
        return train, val, f"the scenes, then {len(train)} pictures without labels"
    scenes = World("train", count, seed=SEED, config=chosen.scenes)
    return InMemory(Changed(scenes, chosen.given)), val, f"{count} {chosen.trained_on}"


def _clicked(folder: Path | None) -> tuple[Dataset, Dataset, str]:
    """Clicked pictures of a folder in COCO format; those of the split val that have an object judge."""
    if folder is None:
        raise ConfigError(f"{CLICKED} learns from your pictures: name a folder in COCO format with --images")
    opened = open_data(str(folder), "tiny", clicks="box_center", drop_invalid=True)
    if opened.val is None:
        raise ConfigError(
            f"{folder} has no split val, on which the card's figures are measured; keep some pictures for it"
        )
    short, long = pretrain_points.PHOTOS.short[0], pretrain_points.PHOTOS.long
    whole = Changed(opened.val, lambda sample: resize(sample, short_side(sample.size, short, long)))
    judged = [i for i, sample in enumerate(samples(opened.val)) if sample.truth is not None and len(sample.truth)]
    described = (
        f"{len(opened.train)} pictures of {opened.name}; one point for each object, and what hidden patches hold"
    )
    return opened.train, Subset(whole, judged), described


def _pictures(name: str, folder: Path) -> Dataset:
    """The pictures of a folder at about the size of the scenes."""
    if name not in ("vit_tiny_mae", "vit_tiny_dino"):
        raise ConfigError(f"{name} learns from tags; only vit_tiny_mae and vit_tiny_dino learn from pictures alone")
    return InMemory(
        Changed(
            ImageFolder(folder),
            lambda sample: resize(sample, short_side(sample.size, pretrain_vit.SIZE, 2 * pretrain_vit.SIZE)),
        )
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("name", help=", ".join((*PYRAMIDS, *OBJECTIVES, CLICKED)))
    parser.add_argument("--out", type=Path, default=Path("wsis/models/shipped"))
    parser.add_argument("--steps", type=int, help="instead of the recipe's")
    parser.add_argument("--scenes", type=int, help="to train on, instead of the recipe's")
    parser.add_argument("--images", type=Path, help="a folder of pictures to go on with")
    parser.add_argument("--below", default="imagenet", help=f"weights of the convolutions of {CLICKED}")
    arguments = parser.parse_args()
    print(pretrain(**vars(arguments)))


if __name__ == "__main__":
    main()
