"""What a run will cost: every stage of a method for a few steps, at its true size, on random images and without downloads."""

import sys
import tempfile
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from accelerate.utils import broadcast_object_list
from torch import Tensor, nn

from wsis.core.table import table
from wsis.core.types import Batch, Instances, Sample
from wsis.data.masks import paint_semantic, tags_from_labels
from wsis.training.loop import LoopOptions, StepLoss, TrainingData, make_accelerator, train
from wsis.training.schedule import Schedule
from wsis.training.stages import C, Method, Workspace
from wsis.weak.simulate import with_extreme_points, with_points

WARMUP_STEPS, TIMED_STEPS = {"cpu": 1, "cuda": 5}, {"cpu": 1, "cuda": 15}
CPU_BATCH = 2  # images; with more of them a CPU takes longer and the figures stay the same


class RandomDataset:
    """One image of random pixels with all that a method may ask for: tags, points, a class map, objects."""

    def __init__(self, side: int, classes: int) -> None:
        self.side, self.classes = side, tuple(f"class {i}" for i in range(classes))
        self.category_ids = tuple(range(1, classes + 1))

    def __len__(self) -> int:
        return 1

    def __getitem__(self, index: int) -> Sample:
        generator, shape = torch.Generator().manual_seed(index), (3, self.side, self.side)
        labels, block = torch.tensor([0, 1, 0]) % len(self.classes), self.side // 4
        masks = torch.zeros(shape, dtype=torch.bool)
        for mask, start in zip(masks, (0, block, 2 * block), strict=True):  # along the diagonal
            mask[start : start + block, start : start + block] = True
        truth = Instances.make(masks, labels, ids=torch.arange(1, 4))
        semantic = paint_semantic(truth)
        sample = Sample(
            image=torch.randint(0, 256, shape, dtype=torch.uint8, generator=generator),
            image_id=index + 1,
            file_name=f"{index}.png",
            tags=tags_from_labels(labels, len(self.classes)),
            semantic_map=semantic,
            truth=truth,
            true_semantic=semantic,
        )
        return with_extreme_points(with_points(sample, "box_center"))


@dataclass(frozen=True, kw_only=True)
class Cost:
    """One training: its true schedule, the batch that was tried, seconds per step, and the peak memory in bytes, which on a CPU
    is that of the process so far."""

    name: str
    schedule: Schedule
    batch_size: int
    seconds: float
    memory: int

    @property
    def hours(self) -> float:
        return self.schedule.steps * self.schedule.batch_size * self.seconds / self.batch_size / 3600

    def row(self) -> dict[str, str | float]:
        steps, batch, speed = self.schedule.steps, self.schedule.batch_size, self.batch_size / self.seconds
        row = {"training": self.name, "steps": steps, "batch": batch, "tried": self.batch_size, "images/s": speed}
        return row | {"peak GB": self.memory / 1e9, "hours": self.hours}


def few_steps(
    name: str, model: nn.Module, loss: StepLoss, data: TrainingData, schedule: Schedule, options: LoopOptions
) -> tuple[nn.Module, Cost]:
    """Train for a few steps and time them, with fewer images where a whole batch does not fit."""
    device, processes, starts = options.accelerator.device.type, options.accelerator.num_processes, []
    gpu, warmup, timed, batch_size = device == "cuda", WARMUP_STEPS[device], TIMED_STEPS[device], schedule.batch_size
    if not gpu:
        batch_size = min(batch_size, CPU_BATCH * processes)

    def timed_loss(network: nn.Module, batch: Batch, step: int) -> dict[str, Tensor]:
        starts.append(now(gpu))
        return loss(network, batch, step)

    while True:
        starts.clear()
        if gpu:
            torch.cuda.reset_peak_memory_stats()
        try:
            short = replace(schedule, steps=warmup + timed, batch_size=batch_size)
            model = train(name, model, timed_loss, data, short, options, "")
            break
        except torch.cuda.OutOfMemoryError:
            if batch_size < 2 or (batch_size // 2) % data.group or processes > 1:
                raise
            batch_size //= 2
            torch.cuda.empty_cache()
    seconds = (now(gpu) - starts[warmup]) / timed
    memory = torch.cuda.max_memory_allocated() if gpu else peak_memory()
    return model, Cost(name=name, schedule=schedule, batch_size=batch_size, seconds=seconds, memory=memory)


def peak_memory() -> int:
    """Bytes that this process has held at most; 0 on Windows, which does not tell."""
    try:
        import resource
    except ImportError:
        return 0
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def now(gpu: bool) -> float:
    if gpu:
        torch.cuda.synchronize()
    return time.perf_counter()


def measure(
    method: Method[C], cfg: C, device: str = "auto", workers: int = 0, stages: tuple[str, ...] = ()
) -> list[Cost]:
    """What the trainings of a method cost, of all stages or of some."""
    cfg, accelerator, costs = cfg.for_dry_run(), make_accelerator(device), []
    dataset = RandomDataset(cfg.image_side, cfg.classes)

    def timed(*training: Any) -> nn.Module:
        model, cost = few_steps(*training[:-1])  # without the key
        costs.append(cost)
        return model

    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(broadcast_object_list([temporary])[0])  # all processes use that of the first
        options = LoopOptions(accelerator=accelerator, seed=0, folder=folder, workers=workers)
        workspace = Workspace(cfg=cfg, train=dataset, val=dataset, folder=folder, options=options, train_model=timed)
        for stage in method.stages(cfg):
            if not stages or stage.name in stages:
                stage.run(workspace)
            accelerator.wait_for_everyone()
    return costs


def dry_run(method: Method[C], cfg: C, device: str = "auto", workers: int = 0) -> str:
    """Try all stages of a method and say what they cost, as text."""
    start, accelerator = time.perf_counter(), make_accelerator(device)
    costs = measure(method, cfg, device, workers)
    devices = f"{accelerator.num_processes} x {accelerator.device.type}"
    hours, seconds = sum(cost.hours for cost in costs), time.perf_counter() - start
    text = (
        f"{table([cost.row() for cost in costs], digits=2)!r}\n"
        f"{hours:.1f} hours in all on {devices}; {seconds:.0f} seconds for this dry run\n"
        "Random images, and no weights that need a download. Making labels for a whole data set comes on top."
    )
    if any(cost.batch_size < cost.schedule.batch_size for cost in costs):
        text += "\nWhere fewer images were tried than the batch has, the hours are for the batch at that speed."
    return text
