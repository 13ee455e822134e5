"""Training state as safetensors: model, optimizer and step in one file without pickle."""

from pathlib import Path

import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.optim import Optimizer

from wsis.core.errors import CheckpointError
from wsis.core.files import atomic

KEEP = 2  # the newest may be cut off by a full disk or a pulled plug; the one before it then serves


def save(folder: Path, name: str, step: int, model: nn.Module, optimizer: Optimizer, key: str) -> None:
    """Write `<name>-<step>.safetensors` in `folder` and drop all but the last two of that name."""
    state = {f"model.{k}": v for k, v in model.state_dict().items()}
    for index, slots in optimizer.state_dict()["state"].items():
        state |= {f"optimizer.{index}.{slot}": torch.as_tensor(v) for slot, v in slots.items() if v is not None}
    state = {k: v.detach().cpu().contiguous().clone() for k, v in state.items()}
    with atomic(folder / f"{name}-{step:08d}.safetensors") as temporary:
        save_file(state, temporary, metadata={"step": str(step), "key": key})
    for old in checkpoints(folder, name)[:-KEEP]:
        old.unlink()


def checkpoints(folder: Path, name: str) -> list[Path]:
    return sorted(folder.glob(f"{name}-????????.safetensors"))


def restore(path: Path, model: nn.Module, optimizer: Optimizer, key: str) -> int:
    """Put the state of `path` into the objects and return its step; CheckpointError for a broken file or another run's."""
    try:
        with safe_open(path, "pt") as file:
            metadata = file.metadata() or {}
        state = load_file(path)
    except Exception as error:
        others = [p for p in checkpoints(path.parent, path.name.rsplit("-", 1)[0]) if p != path]
        advice = f"delete it to resume from {others[-1].name}" if others else "delete it to start again"
        raise CheckpointError(f"{path} is truncated or not a checkpoint ({error}); {advice}") from error
    if metadata.get("key") != key:
        raise CheckpointError(f"{path} is of other settings, data or seed; use another --out, or delete it")

    def part(name: str) -> dict[str, Tensor]:
        return {k.removeprefix(name): v for k, v in state.items() if k.startswith(name)}

    model.load_state_dict(part("model."))
    slots: dict[int, dict[str, Tensor]] = {}
    for name, value in part("optimizer.").items():
        index, slot = name.split(".", 1)
        slots.setdefault(int(index), {})[slot] = value
    optimizer.load_state_dict({"state": slots, "param_groups": optimizer.state_dict()["param_groups"]})
    return int(metadata["step"])
