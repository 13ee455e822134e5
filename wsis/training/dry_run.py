"""What a run will cost: every stage of a method for a few steps, at its true size, on random numbers.

The networks start from random weights and the images are noise, so nothing is learned, read or downloaded.
"""

import resource
import sys
import tempfile
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from accelerate.utils import broadcast_object_list
from torch import Tensor, nn

from wsis.core.config import changed, flatten
from wsis.core.types import Batch, Dataset, ExtremePoints, Instances, Points, Sample
from wsis.training.loop import Augment, Engine, StepLoss, make_accelerator, optimise
from wsis.training.schedule import Schedule
from wsis.training.stages import Method, Workspace
from wsis.weak.simulate import extreme_points_from_masks

WARM, COUNTED = {"cpu": 1, "cuda": 5}, {"cpu": 1, "cuda": 15}  # steps
CPU_BATCH = 2  # images; with more of them a CPU takes longer and tells no more


class Noise:
    """One image of random pixels with all that a method may ask for: tags, points, class map, objects."""

    def __init__(self, side: int, classes: int) -> None:
        self.side, self.classes = side, tuple(f"class {i}" for i in range(classes))

    def __len__(self) -> int:
        return 1

    def __getitem__(self, index: int) -> Sample:
        generator = torch.Generator().manual_seed(index)
        labels = torch.tensor([0, 1, 0]) % len(self.classes)
        block = self.side // 4
        corners = torch.tensor([0, block, 2 * block])  # of blocks along the diagonal
        place = torch.arange(self.side)
        inside = (place >= corners[:, None]) & (place < corners[:, None] + block)
        masks = inside[:, :, None] & inside[:, None, :]
        truth = Instances.make(masks, labels, ids=torch.arange(1, len(labels) + 1))
        semantic = ((labels + 1)[:, None, None] * masks).amax(0).to(torch.uint8)
        return Sample(
            image=torch.randint(0, 256, (3, self.side, self.side), dtype=torch.uint8, generator=generator),
            image_id=index + 1,
            file_name=f"{index}.png",
            tags=torch.zeros(len(self.classes), dtype=torch.bool).index_fill(0, labels, True),
            points=Points.make((corners + block // 2)[:, None].expand(3, 2), labels),
            semantic_map=semantic,
            extreme_points=ExtremePoints(
                xy=extreme_points_from_masks(masks), labels=labels, ids=torch.arange(1, len(labels) + 1)
            ),
            truth=truth,
            true_semantic=semantic,
        )


@dataclass(frozen=True, kw_only=True)
class Cost:
    """One training: its true schedule, the batch that was tried, seconds per step, peak memory in bytes."""

    name: str
    schedule: Schedule
    batch_size: int
    seconds: float
    memory: int

    def row(self) -> dict[str, Any]:
        speed = self.batch_size / self.seconds
        return {
            "training": self.name,
            "steps": self.schedule.steps,
            "batch": self.schedule.batch_size,
            "tried": self.batch_size,
            "images/s": speed,
            "peak GB": self.memory / 1e9,
            "hours": self.hours,
        }

    @property
    def hours(self) -> float:
        return self.schedule.steps * self.schedule.batch_size * self.seconds / self.batch_size / 3600


@dataclass(frozen=True, kw_only=True)
class Rehearsal(Workspace):
    """A workspace whose trainings stop after a few steps and are timed."""

    costs: list[Cost]

    def optimise(
        self, name: str, model: nn.Module, loss: StepLoss, dataset: Dataset, augment: Augment, schedule: Schedule
    ) -> nn.Module:
        processes = self.engine.accelerator.num_processes
        batch_size = schedule.batch_size
        if self.device.type == "cpu":
            batch_size = min(batch_size, CPU_BATCH * processes)
        while True:
            try:
                return self._few_steps(name, model, loss, dataset, augment, schedule, batch_size)
            except torch.cuda.OutOfMemoryError:
                if batch_size < 2 or processes > 1:
                    raise
                batch_size //= 2
                torch.cuda.empty_cache()

    def _few_steps(
        self,
        name: str,
        model: nn.Module,
        loss: StepLoss,
        dataset: Dataset,
        augment: Augment,
        schedule: Schedule,
        batch_size: int,
    ) -> nn.Module:
        warm, counted = WARM[self.device.type], COUNTED[self.device.type]
        began: list[float] = []

        def timed(network: nn.Module, batch: Batch, step: int) -> dict[str, Tensor]:
            began.append(self._now())
            return loss(network, batch, step)

        if self.device.type == "cuda":
            torch.cuda.reset_peak_memory_stats()
        short = replace(schedule, steps=warm + counted, batch_size=batch_size)
        model = optimise(name, model, timed, dataset, augment, short, self.engine, "")
        seconds = (self._now() - began[warm]) / counted
        memory = torch.cuda.max_memory_allocated() if self.device.type == "cuda" else resident()
        self.costs.append(Cost(name=name, schedule=schedule, batch_size=batch_size, seconds=seconds, memory=memory))
        return model

    def _now(self) -> float:
        if self.device.type == "cuda":
            torch.cuda.synchronize()
        return time.perf_counter()


def resident() -> int:
    """The most memory that this process has held so far, bytes."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else 1024 * peak


def dry_run(method: Method, cfg: Any, device: str = "auto", workers: int = 0) -> str:
    """Rehearse all stages of a method and say what they cost, as text.

    Raises:
        ConfigError: see `train.make_accelerator`.
    """
    began, accelerator = time.perf_counter(), make_accelerator(device)
    costs = rehearse(method, cfg, device, workers)
    return report(costs, time.perf_counter() - began, accelerator.num_processes, accelerator.device.type)


def rehearse(
    method: Method, cfg: Any, device: str = "auto", workers: int = 0, stages: tuple[str, ...] = ()
) -> list[Cost]:
    """What the trainings of a method cost, of all stages or of some; raises as `dry_run`."""
    random = {k: "random" for k in flatten(cfg) if k.split(".")[-1].endswith("weights")}
    cfg = changed(cfg, **random, **({"novel": (0,)} if hasattr(cfg, "novel") else {}))
    accelerator = make_accelerator(device)
    noise, costs = Noise(cfg.image_side, cfg.classes), []
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(broadcast_object_list([temporary])[0])  # all processes use that of the first
        engine = Engine(accelerator=accelerator, seed=0, folder=folder, resume=False, workers=workers)
        rehearsal = Rehearsal(cfg=cfg, train=noise, val=noise, folder=folder, engine=engine, costs=costs)
        for stage in method.stages(cfg):
            if not stages or stage.name in stages:
                stage.run(rehearsal)
            accelerator.wait_for_everyone()
    return costs


def report(costs: list[Cost], seconds: float, devices: int, kind: str) -> str:
    """The costs as a table, with what they leave out."""
    from wsis.core.table import table

    total = sum(cost.hours for cost in costs)
    lines = [
        repr(table([cost.row() for cost in costs], digits=2)),
        f"{total:.1f} hours in all on {devices} x {kind}; {seconds:.0f} seconds for this dry run",
        "Random weights, random images. Making labels for a whole data set comes on top.",
    ]
    if any(cost.batch_size < cost.schedule.batch_size for cost in costs):
        lines.append("Where fewer images were tried than the batch has, the hours are for the batch at that speed.")
    return "\n".join(lines)
