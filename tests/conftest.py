"""Shared by the tests of the loop and the methods: a small world, settings of two steps, loop options.

The types and shapes in the signatures of `wsis.ops` and of the verbs are checked at every call while tests run; the hook
has to stand first.
"""

# ruff: noqa: E402
from jaxtyping import install_import_hook

# A whole number may stand for a float, as everywhere in Python (PEP 484).
CHECKER = "beartype.beartype(conf=beartype.BeartypeConf(is_pep484_tower=True))"
VERBS = [f"wsis.methods.{name}.verbs" for name in ("attentionshift", "bestie", "exits", "simformer")]
install_import_hook(["wsis.ops", *VERBS], CHECKER)

import pytest

from wsis.core.config import changed
from wsis.data.world import World, WorldConfig
from wsis.data.wrappers import Cached
from wsis.methods import bestie
from wsis.training.loop import LoopOptions, make_accelerator
from wsis.weak.simulate import with_points

SIDE = 64


class Clicked:
    """A world with one click per object."""

    def __init__(self, world):
        self.world, self.classes, self.category_ids = world, world.classes, world.category_ids

    def __len__(self):
        return len(self.world)

    def __getitem__(self, index):
        return with_points(self.world[index])


@pytest.fixture(scope="session")
def world():
    """Six scenes of 64 px with clicks."""
    return Cached(Clicked(World("train", 6, config=WorldConfig(size=SIDE, objects=(1, 3)))))


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
        **{"semantic.weights": "random", "semantic.scales": (1.0,), "size.crop": SIDE, "size.classifier_crop": SIDE},
    )


@pytest.fixture(scope="session")
def cpu():
    return make_accelerator("cpu")


@pytest.fixture
def options(cpu, tmp_path):
    """Loop options that save every 4 steps and log every 3."""
    return LoopOptions(accelerator=cpu, seed=7, folder=tmp_path, log_every=3, checkpoint_every=4)
