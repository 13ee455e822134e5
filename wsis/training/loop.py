"""One plain training loop for every stage of every method.

All randomness of step `s` is seeded by (seed, s): the order of the images, their augmentation, dropout. So there is
no random state to store, and a run that was killed and resumed goes on bit-identically on a CPU. Starts alone or
under torchrun; Accelerate chooses device, precision and process group.
"""

import csv
import math
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from datetime import timedelta
from pathlib import Path

import torch
from accelerate import Accelerator, DistributedDataParallelKwargs, InitProcessGroupKwargs
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn
from torch.utils.data import DataLoader
from tqdm import tqdm

from wsis.core.errors import ConfigError, TrainingError
from wsis.core.seeds import seed_of
from wsis.core.types import Batch, Dataset, Sample
from wsis.data.transforms import collate
from wsis.training import checkpoint
from wsis.training.schedule import Schedule, learning_rate, make_optimizer

StepLoss = Callable[[nn.Module, Batch, int], dict[str, Tensor]]
Augment = Callable[[Sample, int], Sample]
Partner = Callable[[int, int], int]


@dataclass(frozen=True, kw_only=True)
class Engine:
    """Where and how the loop runs; nothing here changes what is learned."""

    accelerator: Accelerator
    seed: int
    folder: Path
    resume: bool = True
    workers: int = 0
    log_every: int = 10
    checkpoint_every: int = 500
    tensorboard: bool = False


def make_accelerator(device: str = "auto") -> Accelerator:
    """Accelerate's view of the machine: bf16 on a GPU that has it, fp32 on a CPU.

    Raises:
        ConfigError: `device` is cuda but there is none.
    """
    if device not in ("auto", "cpu", "cuda"):
        raise ConfigError(f"device={device!r}: choose auto, cpu or cuda")
    if device == "cuda" and not torch.cuda.is_available():
        raise ConfigError("device=cuda, but torch sees no GPU; use device=auto or install a CUDA build of torch")
    cpu = device == "cpu" or not torch.cuda.is_available()
    precision = "no" if cpu or not torch.cuda.is_bf16_supported() else "bf16"
    # A trunk may have branches that no head reads, and a stage may train some heads only.
    unused = DistributedDataParallelKwargs(find_unused_parameters=True)
    # Labels and figures are made by the first process while all others wait, for hours where there are many images.
    patient = InitProcessGroupKwargs(timeout=timedelta(days=2))
    return Accelerator(cpu=cpu, mixed_precision=precision, kwargs_handlers=[unused, patient])


def order(
    length: int, batch_size: int, seed: int, start: int, stop: int, partner: Partner | None = None
) -> Iterator[list[tuple[int, int, int]]]:
    """For each step the keys (step, slot, image index): epochs of fresh permutations, one after the other.

    partner: (index, seed) -> index of the image to follow each; a batch then has half as many of the permutation.
    """
    epoch, permutation, images = -1, torch.empty(0), batch_size if partner is None else batch_size // 2
    for step in range(start, stop):
        keys = []
        for slot in range(images):
            position = step * images + slot
            if position // length != epoch:
                epoch = position // length
                chance = torch.Generator().manual_seed(seed_of(seed, "epoch", epoch))
                permutation = torch.randperm(length, generator=chance)
            index = int(permutation[position % length])
            if partner is None:
                keys.append((step, slot, index))
            else:
                other = partner(index, seed_of(seed, "partner", step, slot))
                keys += [(step, 2 * slot, index), (step, 2 * slot + 1, other)]
        yield keys


class _Augmented:
    """A data set addressed by (step, slot, index), so that the key alone decides the augmentation."""

    def __init__(self, dataset: Dataset, augment: Augment, seed: int) -> None:
        self.dataset, self.augment, self.seed = dataset, augment, seed

    def __getitem__(self, key: tuple[int, int, int]) -> Sample:
        step, slot, index = key
        sample = self.dataset[index]
        if not getattr(self.augment, "annotates", False):  # else it says of each crop what an annotator would
            sample = replace(sample, truth=None, true_semantic=None)
        augmented = self.augment(sample, seed_of(self.seed, "augment", step, slot))
        return replace(augmented, truth=None, true_semantic=None)  # no loss can read what it must not know


def batches(dataset: Dataset, augment: Augment, schedule: Schedule, engine: Engine, start: int) -> DataLoader:
    """This process's share of every batch from step `start` on: of a data set with partners whole pairs.

    Raises:
        ConfigError: a batch that cannot be shared so.
    """
    rank, world = engine.accelerator.process_index, engine.accelerator.num_processes
    partner: Partner | None = getattr(dataset, "partner", None)
    size, share = schedule.batch_size, world if partner is None else 2 * world
    if size % share:
        raise ConfigError(
            f"batch_size={size} cannot be shared by {world} processes{' in pairs' * (partner is not None)}; use a "
            f"multiple of {share}"
        )
    own = slice(rank, None, world) if partner is None else slice(rank * size // world, (rank + 1) * size // world)
    steps = order(len(dataset), size, engine.seed, start, schedule.steps, partner)
    return DataLoader(
        _Augmented(dataset, augment, engine.seed),  # pyright: ignore[reportArgumentType]
        batch_sampler=(keys[own] for keys in steps),  # as they come: to choose partners takes a while
        collate_fn=collate,
        num_workers=engine.workers,
        pin_memory=engine.accelerator.device.type == "cuda",
    )


def optimise(
    name: str,
    model: nn.Module,
    step_loss: StepLoss,
    dataset: Dataset,
    augment: Augment,
    schedule: Schedule,
    engine: Engine,
    key: str,
) -> nn.Module:
    """Train `model` and return it (its average where the schedule keeps one), in eval mode.

    name: of the checkpoints and the log in `engine.folder`. step_loss: (model, batch, step) -> terms with `total`.
    key: fingerprint of everything that decides the result; a checkpoint with another key is refused.

    Raises:
        TrainingError: a loss is not finite (step, images, term). CheckpointError: see `checkpoint.restore`.
    """
    if len(dataset) == 0:
        raise ConfigError(f"{name}: the training set has no images")
    accelerator = engine.accelerator
    torch.manual_seed(seed_of(engine.seed, name))
    if accelerator.num_processes > 1 and accelerator.device.type == "cuda":
        model = nn.SyncBatchNorm.convert_sync_batchnorm(model)
    model.to(accelerator.device).train()
    optimizer = make_optimizer(model, schedule)
    average = (
        AveragedModel(model, multi_avg_fn=get_ema_multi_avg_fn(schedule.ema), use_buffers=True)
        if schedule.ema
        else None
    )
    start, last = 0, checkpoint.found(engine.folder, name)
    if engine.resume and last:
        start = checkpoint.restore(last[-1], model, optimizer, average, key)
    wrapped, optimizer = accelerator.prepare(model, optimizer)
    log = Log(engine, name, start)
    progress = tqdm(
        total=schedule.steps,
        initial=start,
        desc=name,
        disable=None if accelerator.is_main_process else True,
        leave=False,
    )
    for step, batch in enumerate(batches(dataset, augment, schedule, engine, start), start):
        torch.manual_seed(seed_of(engine.seed, name, step, accelerator.process_index))
        for group in optimizer.param_groups:
            group["lr"] = group["base_lr"] * learning_rate(schedule, step)
        with accelerator.autocast():
            terms = step_loss(wrapped, batch.to(accelerator.device), step)
        optimizer.zero_grad(set_to_none=True)
        accelerator.backward(terms["total"])
        if schedule.clip:
            accelerator.clip_grad_norm_(model.parameters(), schedule.clip)
        optimizer.step()
        if average is not None:
            average.update_parameters(model)
        log.add(step, optimizer.param_groups[0]["lr"], batch.image_ids, terms)
        progress.update()
        finished = step + 1 == schedule.steps
        due = (step + 1) % engine.checkpoint_every == 0
        if finished or due or (step + 1) % engine.log_every == 0:
            progress.set_postfix(loss=f"{log.flush():.3f}")
        if not finished and due and accelerator.is_main_process:
            checkpoint.save(engine.folder, name, step + 1, model, optimizer, average, key)
    progress.close()
    accelerator.free_memory()
    trained = average.module if average is not None else model
    return trained.eval()


class Log:
    """`<name>.csv` in the run folder, one row per step; losses leave the device once per `log_every` steps."""

    def __init__(self, engine: Engine, name: str, start: int) -> None:
        self.main = engine.accelerator.is_main_process
        self.path, self.began, self.name = engine.folder / f"{name}.csv", time.perf_counter(), name
        self.rows: list[tuple[int, float, float, tuple[int, ...], dict[str, Tensor]]] = []
        self.writer = None
        if self.main:
            engine.folder.mkdir(parents=True, exist_ok=True)
            kept = self._kept(start)
            self.path.write_text("".join(kept))
            if engine.tensorboard:
                from torch.utils.tensorboard import SummaryWriter

                self.writer = SummaryWriter(str(engine.folder / "tensorboard" / name), purge_step=start)

    def _kept(self, start: int) -> list[str]:
        """The header and the rows before `start`: what came after the checkpoint will be computed again."""
        lines = self.path.read_text().splitlines(keepends=True) if start and self.path.exists() else []
        return lines[:1] + [line for line in lines[1:] if int(line.split(",", 1)[0]) < start]

    def add(self, step: int, lr: float, image_ids: tuple[int, ...], terms: dict[str, Tensor]) -> None:
        self.rows.append(
            (step, lr, time.perf_counter() - self.began, image_ids, {k: v.detach() for k, v in terms.items()})
        )

    def flush(self) -> float:
        """Write the waiting rows and return the last total.

        Raises:
            TrainingError: a term of one of them is not finite.
        """
        names = list(self.rows[0][4])
        values = torch.stack([torch.stack([r[4][n].float() for n in names]) for r in self.rows]).tolist()
        for (step, _, _, image_ids, _), row in zip(self.rows, values, strict=True):
            bad = [f"{n}={v}" for n, v in zip(names, row, strict=True) if not math.isfinite(v)]
            if bad:
                raise TrainingError(
                    f"{self.name}: {', '.join(bad)} at step {step}, images {list(image_ids)}; nothing was saved after the "
                    "last checkpoint. A lower learning rate, or a look at these images, usually helps"
                )
        if self.main:
            with self.path.open("a", newline="") as file:
                out = csv.writer(file)
                if file.tell() == 0:
                    out.writerow(["step", "seconds", "lr", *names])
                for (step, lr, seconds, _, _), row in zip(self.rows, values, strict=True):
                    out.writerow([step, f"{seconds:.3f}", f"{lr:.6g}", *(f"{v:.6g}" for v in row)])
                    if self.writer:
                        for name, value in zip(names, row, strict=True):
                            self.writer.add_scalar(name, value, step)
        self.rows.clear()
        return values[-1][names.index("total")]
