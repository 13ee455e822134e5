"""Shared by the tests of the engine and the methods: a small world, a toy data set, the engine's settings."""

import pytest
import torch

from wsis.config import changed
from wsis.data.labelled import InMemory
from wsis.data.world import World, WorldConfig
from wsis.methods import bestie
from wsis.train import Engine, make_accelerator
from wsis.types import Sample
from wsis.weak import with_points

SIDE = 64


class Clicked:
    """A world with one click per object."""

    def __init__(self, world):
        self.world, self.classes = world, world.classes

    def __len__(self):
        return len(self.world)

    def __getitem__(self, index):
        return with_points(self.world[index])


class Toy:
    """Random 8 x 8 images whose tags say which of two colours is the stronger."""

    classes = ("red", "green")

    def __init__(self, length=6):
        self.images = torch.randint(
            0, 256, (length, 3, 8, 8), dtype=torch.uint8, generator=torch.Generator().manual_seed(0)
        )

    def __len__(self):
        return len(self.images)

    def __getitem__(self, index):
        image = self.images[index]
        red, green = image[:2].float().mean((1, 2))
        return Sample(image=image, image_id=100 + index, tags=torch.stack((red >= green, red < green)))


@pytest.fixture(scope="session")
def world():
    """Six scenes of 64 px with clicks."""
    return InMemory(Clicked(World("train", 6, config=WorldConfig(size=SIDE, objects=(1, 3)))))


@pytest.fixture(scope="session")
def tiny():
    """BESTIE's TINY with random weights, two steps everywhere, at 64 px."""
    schedules = ("classifier", "network", "semantic_network")
    return changed(
        bestie.TINY,
        weights="random",
        classifier_weights="random",
        classes=16,
        **{f"{name}.steps": 2 for name in schedules},
        **{f"{name}.batch_size": 2 for name in schedules},
        **{f"{name}.warmup": 0 for name in schedules},
        **{
            "semantic.weights": "random",
            "semantic.scales": (1.0,),
            "augment.crop": SIDE,
            "augment.classifier_crop": SIDE,
        },
    )


@pytest.fixture(scope="session")
def toy():
    return Toy()


@pytest.fixture(scope="session")
def cpu():
    return make_accelerator("cpu")


@pytest.fixture
def engine(cpu, tmp_path):
    """An engine that saves every 4 steps and logs every 3."""
    return Engine(accelerator=cpu, seed=7, folder=tmp_path, log_every=3, checkpoint_every=4)
