"""Where a number comes from: the code, the machine, the versions and the weights."""

import importlib.metadata
import os
import platform
import subprocess
from collections.abc import Iterable
from functools import cache
from pathlib import Path
from typing import Any

import torch

from wsis import __version__
from wsis.core.config import flatten
from wsis.models.vit import PUBLISHED, SHIPPED
from wsis.models.weights import sha256, shipped

PACKAGES = ("torch", "torchvision", "timm", "pycocotools", "accelerate", "scipy", "numpy", "safetensors")


def is_first() -> bool:
    """Whether this process is the only one, or the first of torchrun's: the one that writes and prints."""
    return os.environ.get("RANK", "0") == "0"


@cache
def commit() -> str:
    """The commit of the checkout that runs, with +dirty if the package differs from it; else the version."""
    package = Path(__file__).resolve().parents[1]

    def git(*words: str) -> str:
        return subprocess.run(["git", *words], cwd=package, capture_output=True, text=True, check=True).stdout.strip()

    try:
        return git("rev-parse", "--short=12", "HEAD") + ("+dirty" if git("status", "--porcelain", "--", ".") else "")
    except (OSError, subprocess.CalledProcessError):
        return f"wsis {__version__}"


def hardware(device: str = "auto") -> str:
    """The devices that a run with this `device` uses, in words."""
    if device != "cpu" and torch.cuda.is_available():
        count = int(os.environ.get("WORLD_SIZE", 1))
        return f"{count} x {torch.cuda.get_device_name()}" if count > 1 else torch.cuda.get_device_name()
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return f"CPU ({platform.machine()}), {cores} cores"


def versions() -> dict[str, str]:
    """Version by package, of python and of what the results depend on."""
    return {"wsis": __version__, "python": platform.python_version()} | {
        name: importlib.metadata.version(name) for name in PACKAGES
    }


def weights(configs: Iterable[Any]) -> dict[str, str]:
    """What the backbones of these settings started from: {backbone: sha256 of its file, or words without one}."""
    found: dict[str, str] = {}
    for config in configs:
        flat = flatten(config)
        for name, value in flat.items():
            if name.split(".")[-1].endswith("weights"):
                backbone = flat[name.removesuffix("weights") + "backbone"]
                # a transformer has several trainings; of a file the name, where it lies is nobody's business
                key = f"{backbone} {Path(value).name}" if backbone.startswith("vit") else backbone
                found[key] = _origin(backbone, value)
    return found


def _origin(backbone: str, value: str) -> str:
    if value == "shipped":
        return sha256(shipped(backbone))[:12]
    if value in SHIPPED.get(backbone, ()):
        return sha256(shipped(f"{backbone}_{value}"))[:12]
    if backbone in PUBLISHED and value in PUBLISHED[backbone]:
        return f"timm, {PUBLISHED[backbone][value]}"
    return {"imagenet": "timm, ImageNet", "random": "random"}.get(
        value
    ) or f"{Path(value).name} {sha256(Path(value))[:12]}"
