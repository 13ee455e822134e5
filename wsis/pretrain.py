"""The tiny trunks' own "ImageNet": one object per picture of the embedded world, named by its tag, nothing else.

    python -m wsis.pretrain vgg_tiny --out wsis/weights          trains, and writes the weights (fp16) with their card

What the large trunks bring from ImageNet classification, the tiny ones bring from here: features learned from image
tags alone. The scenes are of a seed that no run uses.
"""

import argparse
import platform
import time
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from wsis.backbones import Pyramid, build_pyramid, sha256
from wsis.checkpoint import save_weights
from wsis.data.labelled import InMemory
from wsis.data.transforms import Augment, collate
from wsis.data.world import World, WorldConfig
from wsis.files import write_json
from wsis.train import Engine, Schedule, make_accelerator, optimise
from wsis.types import Batch

SEED = 90_210
SIZE = 64
SCENES = WorldConfig(size=SIZE, objects=(1, 1), object_size=(0.35, 0.85), contact=0, nested=0, occlusion=0)
SCHEDULE = Schedule(
    steps=1200, batch_size=48, optimizer="adamw", lr=3e-3, weight_decay=0.05, warmup=100, decay="poly"
)
AUGMENT = Augment(crop=SIZE, long_side=None, scale=(0.8, 1.3), scale_step=0.0)


class TagClassifier(nn.Module):
    """Spatial means of the trunk's last feature (HRNet: of all its branches), then one linear layer."""

    def __init__(self, trunk: Pyramid, levels: slice, classes: int) -> None:
        super().__init__()
        self.trunk, self.levels = trunk, levels
        self.head = nn.Linear(sum(trunk.channels[levels]), classes)

    def forward(self, images: Tensor) -> Tensor:
        features = self.trunk(images)[self.levels]
        return self.head(torch.cat([f.mean((2, 3)) for f in features], dim=1))


def pretrain(name: str, out: Path, schedule: Schedule = SCHEDULE, scenes: int = 4000) -> dict:
    """Train the trunk `name` from nothing and write `<name>.safetensors` and `<name>.json` in `out`; returns the card."""
    began = time.perf_counter()
    train, val = (
        InMemory(World(split, n, seed=SEED, config=SCENES)) for split, n in (("train", scenes), ("val", 500))
    )
    engine = Engine(accelerator=make_accelerator("auto"), seed=SEED, folder=out / f".{name}", resume=True)
    torch.manual_seed(SEED)
    model = TagClassifier(
        build_pyramid(name, "random"), slice(1 if name.startswith("hrnet") else -1, None), len(train.classes)
    )

    def loss(network: nn.Module, batch: Batch, step: int) -> dict[str, Tensor]:
        return {
            "total": cross_entropy(network(batch.images), batch.tags.float().argmax(1), label_smoothing=0.1)
        }

    model = optimise(name, model, loss, train, AUGMENT, schedule, engine, f"{name} {schedule}")
    batches = [collate([val[i] for i in range(k, k + 50)]) for k in range(0, len(val), 50)]
    with torch.no_grad():
        right = [
            model(b.images.to(engine.accelerator.device)).argmax(1).cpu() == b.tags.float().argmax(1)
            for b in batches
        ]
    path = out / f"{name}.safetensors"
    save_weights(path, model.trunk.body, half=True)
    card = {
        "command": f"python -m wsis.pretrain {name}",
        "trained_on": f"{scenes} scenes of the embedded world with one object each, image tags only",
        "accuracy": round(torch.cat(right).float().mean().item(), 4),
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


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("name", help="vgg_tiny, hrnet_tiny or resnet_tiny")
    parser.add_argument("--out", type=Path, default=Path("wsis/weights"))
    parser.add_argument("--steps", type=int, default=SCHEDULE.steps)
    parser.add_argument("--scenes", type=int, default=4000)
    arguments = parser.parse_args()
    print(pretrain(arguments.name, arguments.out, replace(SCHEDULE, steps=arguments.steps), arguments.scenes))


if __name__ == "__main__":
    main()
