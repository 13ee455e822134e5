"""What the stages of all methods share."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from wsis.core.types import Batch, Dataset
from wsis.training.loop import Augment, Engine, StepLoss, optimise
from wsis.training.schedule import Schedule


@dataclass(frozen=True, kw_only=True)
class Stage:
    """One step of a full run.

    name: also the stem of its files. artefact: a file or folder in the run, there only when complete. run: makes the
    artefact at `workspace.path(artefact)` and returns a report, plain values for JSON. settings: first parts of the
    config names that decide the artefact. needs: names of the stages whose artefacts it reads. reads_truth: the
    report compares with ground truth (the artefact never does).
    """

    name: str
    artefact: str
    run: "Callable[[Workspace], dict[str, Any]]"
    settings: tuple[str, ...]
    needs: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Workspace:
    """What a stage sees: the settings, the data, where to write and how to train."""

    cfg: Any
    train: Dataset
    val: Dataset | None
    folder: Path
    engine: Engine
    key: str = ""

    @property
    def device(self) -> torch.device:
        return self.engine.accelerator.device

    def path(self, artefact: str) -> Path:
        return self.folder / artefact

    def optimise(
        self, name: str, model: nn.Module, loss: StepLoss, dataset: Dataset, augment: Augment, schedule: Schedule
    ) -> nn.Module:
        """`train.optimise` in this run's folder, under this stage's key."""
        return optimise(name, model, loss, dataset, augment, schedule, self.engine, self.key)


class Method(Protocol):
    """What `wsis.methods.<name>` offers: the same names in every method (a contract test holds all to it)."""

    __name__: str
    FULL: Any
    TINY: Any

    def build(self, cfg: Any) -> nn.Module:
        """The network, with its pretrained backbone where the config asks for one."""
        ...

    def pseudo_labels(self, model: nn.Module | None, batch: Batch, cfg: Any, trace: bool = False) -> Any:
        """Masks from the weak labels of `batch`: without a model from the labels alone, with one refined by it."""
        ...

    def loss(self, model: nn.Module, batch: Batch, targets: Any, cfg: Any) -> dict[str, Tensor]:
        """Named unweighted terms, and their weighted sum as `total`."""
        ...

    def predict(self, model: nn.Module, images: Tensor, cfg: Any) -> Any:
        """No labels at all: images float32 [B, 3, H, W] in [0, 1] -> scored instances or class maps."""
        ...

    def stages(self, cfg: Any) -> list[Any]:
        """The steps of a full run in order; `train.fit` runs those whose artefact is missing."""
        ...
