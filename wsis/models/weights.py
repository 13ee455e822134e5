"""Weights as files: shipped, checked by hash, read without pickle."""

import hashlib
import json
from collections.abc import Collection
from importlib import resources
from pathlib import Path
from zipfile import BadZipFile

import numpy as np
import torch
from safetensors.torch import load_file, save_file
from timm.layers.norm_act import freeze_batch_norm_2d
from torch import nn

from wsis.core.errors import WeightsError
from wsis.core.files import atomic


def shipped(name: str) -> Path:
    """Return the path of the shipped weights `name`; raises WeightsError if they are absent or their sha256 is not their
    card's.
    """
    folder = Path(str(resources.files("wsis.models") / "shipped"))
    path, card = folder / f"{name}.safetensors", folder / f"{name}.json"
    if not path.exists() or not card.exists():
        raise WeightsError(f"the package ships no weights {name!r}; use weights=random or weights=PATH")
    actual, expected = (digest[:12] for digest in (sha256(path), json.loads(card.read_text())["sha256"]))
    if actual != expected:
        raise WeightsError(f"{path}: sha256 {actual}... is not the {expected}... of its card; reinstall the package")
    return path


def shipped_sums(names: Collection[str]) -> dict[str, str]:
    """Return the sha256 of those of the shipped weights that are among `names`, as their cards say."""
    cards = Path(str(resources.files("wsis.models") / "shipped")).glob("*.json")
    return {c.stem: json.loads(c.read_text())["sha256"] for c in sorted(cards) if c.stem in names}


def sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def load_weights(model: nn.Module, path: Path, prefix: str = "") -> None:
    """Fill `model` from a .safetensors of its own state, or from an .npz of folded int8 convolutions.

    prefix: where a .safetensors holds more than the model, the start of the names that are the model's. Raises
    WeightsError if the file is missing, unreadable, of a kind that could carry code (pickle), or does not fit.
    """
    if not path.exists():
        raise WeightsError(f"{path} does not exist")
    if path.suffix == ".npz":
        try:
            _load_folded(model, path)
        except (OSError, KeyError, ValueError, BadZipFile) as error:
            kind = type(model).__name__
            raise WeightsError(f"{path} does not hold folded convolutions of {kind}: {error}") from error
        freeze_batch_norm_2d(model)  # batch statistics would undo what the fold put into the weights
        return
    if path.suffix != ".safetensors":
        raise WeightsError(
            f"{path}: only .safetensors and .npz are read, since a pickle can run code; convert it first"
        )
    try:
        # Earlier files, that of vit_hybrid_points among them, call a backbone `trunk`.
        stored = load_file(path)
        stored = {
            k.replace("trunk.body.", "backbone.network.").replace("trunk.", "backbone."): stored[k] for k in stored
        }
        state = {k.removeprefix(prefix): v for k, v in stored.items() if k.startswith(prefix)}
        model.load_state_dict({k: v.float() if v.is_floating_point() else v for k, v in state.items()})
    except Exception as error:
        raise WeightsError(f"{path} does not fit {type(model).__name__}: {error}") from error


def _load_folded(model: nn.Module, path: Path) -> None:
    """Read `k.w` int8, `k.scale` per channel and `k.b` of convolution k; the batch norm behind it only adds the bias."""
    arrays = np.load(path, allow_pickle=False)
    modules = list(model.modules())
    convolutions = [(i, m) for i, m in enumerate(modules) if isinstance(m, nn.Conv2d)]
    with torch.no_grad():
        for k, (i, convolution) in enumerate(convolutions):
            weight = arrays[f"{k}.w"].astype(np.float32) * arrays[f"{k}.scale"].reshape(-1, 1, 1, 1)
            expected = tuple(convolution.weight.shape)
            if weight.shape != expected:
                raise WeightsError(f"{path}: convolution {k} has shape {weight.shape}, {expected} expected")
            convolution.weight.copy_(torch.from_numpy(weight))
            norm = next(m for m in modules[i + 1 :] if isinstance(m, nn.BatchNorm2d))
            assert norm.running_var is not None
            norm.weight.copy_((norm.running_var + norm.eps).sqrt())
            norm.bias.copy_(torch.from_numpy(arrays[f"{k}.b"]))


def save_weights(path: Path, model: nn.Module, card: dict | None = None, half: bool = False) -> None:
    """Write the weights alone, optionally as fp16, with a card of plain values in the file's metadata."""
    state = {k: v.detach().cpu().contiguous().clone() for k, v in model.state_dict().items()}
    if half:
        state = {k: v.half() if v.dtype == torch.float32 else v for k, v in state.items()}
    with atomic(path) as temporary:
        save_file(state, temporary, metadata={"card": json.dumps(card or {})})
