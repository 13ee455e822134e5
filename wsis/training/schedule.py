"""How a network is trained: steps, batches, optimizer, and the learning rate of every parameter at every step."""

import math
from dataclasses import KW_ONLY, dataclass
from typing import Literal

import torch
from torch import nn

from wsis.core.config import ours

POWER = 0.9  # of the polynomial decay, as in DeepLab
MOMENTUM = 0.9  # of SGD, in the four papers


@dataclass(frozen=True)
class Schedule:
    """How one network is trained, as in `Schedule(60_000, 8, "adamw", 1e-5, "poly", clip=0.01)`."""

    steps: int = ours(1000, "each method states its own", unit="step", scales=True)
    batch_size: int = ours(16, "each method states its own", unit="images over all processes", scales=True)
    optimizer: Literal["sgd", "adam", "adamw"] = ours("adamw", "each method states its own")
    lr: float = ours(1e-4, "each method states its own", scales=True)
    decay: Literal["poly", "step", "cosine", "constant"] = ours("poly", "usual in segmentation")
    milestones: tuple[float, ...] = ours((), "with step: divide by 10 here", unit="fraction of steps")
    _: KW_ONLY
    new_lr: float = ours(1.0, "one rate for all", unit="multiple of lr outside the backbone", scales=True)
    nesterov: bool = ours(False, "usual")
    betas: tuple[float, float] = ours((0.9, 0.999), "usual", unit="of Adam's two averages")
    weight_decay: float = ours(0.0, "usual")
    decay_all: bool = ours(True, "else biases, norms, tokens and positions keep their size")
    layer_decay: float = ours(1.0, "one rate for all layers", unit="multiple of lr per layer of a transformer")
    warmup: int = ours(0, "linear from lr / 1000", unit="step", scales=True)
    floor: float = ours(0.0, "with cosine: the rate at the end", unit="multiple of lr")
    clip: float = ours(0.0, "0 does not clip", unit="gradient norm")


def learning_rate(schedule: Schedule, step: int) -> float:
    """The multiple of `schedule.lr` at `step`; a cosine starts where the warm-up ends, other decays run through it."""
    progress, factor = step / max(schedule.steps, 1), 1.0
    match schedule.decay:
        case "poly":
            factor = max(1.0 - progress, 0.0) ** POWER
        case "step":
            factor = 0.1 ** sum(progress >= m for m in schedule.milestones)
        case "cosine":
            rest = max(step - schedule.warmup, 0) / max(schedule.steps - schedule.warmup, 1)
            factor = schedule.floor + (1 - schedule.floor) * (1 + math.cos(math.pi * min(rest, 1.0))) / 2
    if step < schedule.warmup:
        factor *= 0.001 + 0.999 * step / schedule.warmup
    return factor


def make_optimizer(model: nn.Module, schedule: Schedule) -> torch.optim.Optimizer:
    """Groups of one rate each: the pretrained `backbone` at `lr`, everything new at `new_lr * lr`.

    With `layer_decay` the rate of a transformer's blocks falls with their depth below what is new.
    """
    blocks = max((_block(name) for name, _ in model.named_parameters()), default=0)
    groups: dict[tuple[float, float], list[nn.Parameter]] = {}
    for name, parameter in model.named_parameters():
        if not parameter.requires_grad:
            continue
        # A pyramid is new, also where it is part of what is called `backbone`: a detector's, or that of a plain transformer.
        if "backbone." not in name or ".pyramid." in name:
            rate = schedule.lr * schedule.new_lr
        else:  # the last norm and a backbone without blocks have the rate of the backbone's end
            level = _block(name) if blocks and "backbone.norm." not in name else blocks + 1
            rate = schedule.lr * schedule.layer_decay ** (blocks + 1 - level)
        small = parameter.ndim <= 1 or name.endswith(("token", "tokens", "positions", "pos_embed"))
        decay = schedule.weight_decay if schedule.decay_all or not small else 0.0
        groups.setdefault((rate, decay), []).append(parameter)
    parts = [{"params": p, "lr": r, "base_lr": r, "weight_decay": d} for (r, d), p in groups.items()]
    if schedule.optimizer == "sgd":
        return torch.optim.SGD(parts, momentum=MOMENTUM, nesterov=schedule.nesterov)
    kind = {"adam": torch.optim.Adam, "adamw": torch.optim.AdamW}[schedule.optimizer]
    return kind(parts, betas=schedule.betas)


def _block(name: str) -> int:
    """The block of a transformer's backbone that a parameter is of, from 1; 0 for patches, positions and other parameters."""
    rest = name.partition("backbone.blocks.")[2]
    return 1 + int(rest.split(".")[0]) if rest else 0
