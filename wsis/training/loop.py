"""One plain training loop for every stage of every method; it starts alone or under torchrun.

All randomness of step `s` is seeded by (seed, s): the order of the images, their augmentation, dropout. There is no random
state to store, and a run that was killed resumes bit-identically on a CPU.
"""

import csv
import math
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator, DistributedDataParallelKwargs, InitProcessGroupKwargs
from torch import Tensor, nn
from torch.utils.data import DataLoader
from tqdm import tqdm

from wsis.core.config import seed_of
from wsis.core.errors import ConfigError, TrainingError
from wsis.core.files import write_text, writing
from wsis.core.types import Batch, Dataset, Sample
from wsis.data.transforms import collate
from wsis.training import checkpoint
from wsis.training.schedule import Schedule, learning_rate, make_optimizer

StepLoss = Callable[[nn.Module, Batch, int], dict[str, Tensor]]
Augment = Callable[[Sample, int], Sample]
Key = tuple[int, int, int]  # of a sample of a batch: its index, the seed of its augmentation, its slot in the batch


@dataclass(frozen=True, kw_only=True)
class LoopOptions:
    """Where and how the loop runs; beside seed and stream, only the device and the number of processes change numbers."""

    accelerator: Accelerator
    seed: int
    folder: Path
    resume: bool = True
    workers: int = 0
    stream: str = ""  # names the random numbers of a training in place of its own name
    log_every: int = 10
    checkpoint_every: int = 500


@dataclass(frozen=True, kw_only=True)
class TrainingData:
    """The images of a training, as the loop asks for them."""

    dataset: Dataset
    augment: Augment  # (sample, seed) -> sample, a function of its arguments alone
    # (index, seed) -> the indices of the `group` - 1 images that follow image `index` in its batch and stay in its process
    companions: Callable[[int, int], Sequence[int]] = lambda index, seed: ()
    group: int = 1
    annotates: bool = False  # whether `augment` simulates the annotator of each crop from the truth, which no loss sees

    def __getitem__(self, key: Key) -> Sample:
        index, seed, _ = key
        sample = self.dataset[index]
        if not self.annotates:
            sample = replace(sample, truth=None, true_semantic=None)
        return replace(self.augment(sample, seed), truth=None, true_semantic=None)

    def __len__(self) -> int:
        return len(self.dataset)

    def __getstate__(self) -> dict[str, Any]:
        """All that a worker reads, which may be spawned: companions are chosen before, and need not be picklable."""
        return vars(self) | {"companions": None}


def make_accelerator(device: str = "auto") -> Accelerator:
    """Accelerate's view of the machine: bf16 on a GPU that has it, fp32 on a CPU; ConfigError for cuda without a GPU."""
    if device not in ("auto", "cpu", "cuda"):
        raise ConfigError(f"device={device!r}: choose auto, cpu or cuda")
    cpu = device == "cpu" or not torch.cuda.is_available()
    if device == "cuda" and cpu:
        raise ConfigError("device=cuda, but torch sees no GPU; use device=auto or install a CUDA build of torch")
    precision = "no" if cpu or not torch.cuda.is_bf16_supported(including_emulation=False) else "bf16"
    # A backbone may have branches that no head reads, and a stage may train some heads only.
    unused = DistributedDataParallelKwargs(find_unused_parameters=True)
    # The first process makes labels and figures; NCCL's ten minutes would end the waiting ones.
    timeout = InitProcessGroupKwargs(timeout=timedelta(days=2))
    return Accelerator(cpu=cpu, mixed_precision=precision, kwargs_handlers=[unused, timeout])


def order(data: TrainingData, batch_size: int, seed: int, start: int, stop: int) -> Iterator[list[list[Key]]]:
    """For each step its groups of keys: images from the epoch's permutation, with their companions."""
    epoch, permutation, groups = -1, torch.empty(0), batch_size // data.group
    for step in range(start, stop):
        keys = []
        for number in range(groups):
            position = step * groups + number
            if position // len(data) != epoch:
                epoch = position // len(data)
                generator = torch.Generator().manual_seed(seed_of(seed, "epoch", epoch))
                permutation = torch.randperm(len(data), generator=generator)
            first = int(permutation[position % len(data)])
            members = (first, *data.companions(first, seed_of(seed, "partner", step, number)))
            slots = range(data.group * number, data.group * (number + 1))
            keys.append([(i, seed_of(seed, "augment", step, k), k) for i, k in zip(members, slots, strict=True)])
        yield keys


def batches(data: TrainingData, schedule: Schedule, options: LoopOptions, start: int) -> DataLoader[Batch]:
    """This process's share of every batch from `start` on, in whole groups; ConfigError if it cannot be shared evenly."""
    rank, processes = options.accelerator.process_index, options.accelerator.num_processes
    if schedule.batch_size % (processes * data.group):
        words = f"{processes} processes" + f" in groups of {data.group}" * (data.group > 1)
        multiple = f"use a multiple of {processes * data.group}"
        raise ConfigError(f"batch_size={schedule.batch_size} cannot be shared by {words}; {multiple}")
    steps = order(data, schedule.batch_size, options.seed, start, schedule.steps)
    # Keys come one batch at a time, since choosing companions takes a while.
    shares = ([key for group in groups[rank::processes] for key in group] for groups in steps)
    loading = {"num_workers": options.workers, "pin_memory": options.accelerator.device.type == "cuda"}
    return DataLoader(data, batch_sampler=shares, collate_fn=collate, **loading)  # pyright: ignore


def train(
    name: str, model: nn.Module, loss: StepLoss, data: TrainingData, schedule: Schedule, options: LoopOptions, key: str
) -> nn.Module:
    """Train `model` and return it in eval mode.

    name: of the checkpoints and the log in `options.folder`. loss: (model, batch, step) -> terms with `total`. key:
    fingerprint of everything that decides the result. Raises TrainingError if a loss is not finite (the step, the images,
    the term), CheckpointError as `checkpoint.restore`, and ConfigError if there are no images or the batch cannot be shared.
    """
    if len(data) == 0:
        raise ConfigError(f"{name}: the training set has no images")
    accelerator, stream = options.accelerator, options.stream or name
    torch.manual_seed(seed_of(options.seed, stream))
    if accelerator.num_processes > 1 and accelerator.device.type == "cuda":
        model = nn.SyncBatchNorm.convert_sync_batchnorm(model)
    model.to(accelerator.device).train()
    optimizer = make_optimizer(model, schedule)
    start, last = 0, checkpoint.checkpoints(options.folder, name)
    if options.resume and last:
        start = checkpoint.restore(last[-1], model, optimizer, key)
    wrapped, optimizer = accelerator.prepare(model, optimizer)
    log = Log(options, name, start)
    progress = tqdm(total=schedule.steps, initial=start, desc=name, disable=not log.is_first or None, leave=False)
    for step, batch in enumerate(batches(data, schedule, options, start), start):
        torch.manual_seed(seed_of(options.seed, stream, step, accelerator.process_index))
        for group in optimizer.param_groups:
            group["lr"] = group["base_lr"] * learning_rate(schedule, step)
        with accelerator.autocast():
            terms = loss(wrapped, batch.to(accelerator.device), step)
        optimizer.zero_grad(set_to_none=True)
        accelerator.backward(terms["total"])
        if schedule.clip:
            accelerator.clip_grad_norm_(model.parameters(), schedule.clip)
        optimizer.step()
        log.add(step, optimizer.param_groups[0]["lr"], batch.image_ids, terms)
        progress.update()
        finished, due = step + 1 == schedule.steps, (step + 1) % options.checkpoint_every == 0
        if finished or due or (step + 1) % options.log_every == 0:
            progress.set_postfix(loss=f"{log.flush():.3f}")
        if not finished and due and log.is_first:
            checkpoint.save(options.folder, name, step + 1, model, optimizer, key)
    progress.close()
    # Else `model` would stay in bf16 where it was trained so.
    accelerator.unwrap_model(wrapped, keep_fp32_wrapper=False)
    accelerator.free_memory()
    return model.eval()


class Log:
    """`<name>.csv` in the run folder, one row per step; losses leave the device once per `log_every` steps."""

    def __init__(self, options: LoopOptions, name: str, start: int) -> None:
        self.is_first = options.accelerator.is_main_process
        self.path, self.name, self.began = options.folder / f"{name}.csv", name, time.perf_counter()
        self.rows: list[tuple[int, float, float, tuple[int, ...], dict[str, Tensor]]] = []
        if self.is_first:
            # What came after the checkpoint will be computed again.
            lines = self.path.read_text().splitlines(keepends=True) if start and self.path.exists() else []
            before = [line for line in lines[1:] if int(line.split(",", 1)[0]) < start]
            write_text(self.path, "".join(lines[:1] + before))

    def add(self, step: int, lr: float, image_ids: tuple[int, ...], terms: dict[str, Tensor]) -> None:
        seconds = time.perf_counter() - self.began
        self.rows.append((step, lr, seconds, image_ids, {k: v.detach() for k, v in terms.items()}))

    def flush(self) -> float:
        """Write the waiting rows and return the last total; raise TrainingError if a term of one of them is not finite."""
        names = list(self.rows[0][4])
        values = torch.stack([torch.stack([row[4][n].float() for n in names]) for row in self.rows]).tolist()
        for (step, _, _, image_ids, _), losses in zip(self.rows, values, strict=True):
            if bad := ", ".join(f"{n}={v}" for n, v in zip(names, losses, strict=True) if not math.isfinite(v)):
                advice = "nothing was saved after the last checkpoint; lower the learning rate, or look at these images"
                raise TrainingError(f"{self.name}: {bad} at step {step}, images {list(image_ids)}; {advice}")
        if self.is_first:
            with writing(self.path), self.path.open("a", newline="") as file:
                rows = csv.writer(file)
                if file.tell() == 0:
                    rows.writerow(["step", "seconds", "lr", *names])
                for (step, lr, seconds, _, _), losses in zip(self.rows, values, strict=True):
                    rows.writerow([step, f"{seconds:.3f}", f"{lr:.6g}", *(f"{v:.6g}" for v in losses)])
        self.rows.clear()
        return values[-1][names.index("total")]
