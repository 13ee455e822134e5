"""What a machine has of what the package needs: one line each, with the remedy where something is missing."""

import importlib
import importlib.metadata
import os
import platform
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from wsis import __version__
from wsis.core.errors import WeightsError

NEEDED = {
    "torch": "2.11",
    "torchvision": "0.26",
    "timm": "1.0.20",
    "transformers": "5.0",
    "pycocotools": "2.0.8",
    "scipy": "1.13",
    "numpy": "2.0",
    "safetensors": "0.5",
    "accelerate": "1.10",
    "matplotlib": "3.9",
    "tqdm": "4.66",
}
BOOK = ("jupyter-book", "jupytext", "papermill", "ipywidgets")
FULL_SCALE_TRUNKS = ("hrnet_w48", "resnet50.tv_in1k", "vgg16")
LEAST_FREE = 2.0  # GB


class Finding(NamedTuple):
    """state: ok, note (not there, only some uses need it) or missing. words: what was found, the remedy."""

    state: str
    subject: str
    words: str


def examine() -> int:
    """Print all findings; 1 if something that every run needs is missing, else 0."""
    found = list(findings())
    for state, subject, words in found:
        print(f"{state:9}{subject:22}{words}")
    missing = sum(f.state == "missing" for f in found)
    print(f"\n{missing} missing; the remedy is on the line" if missing else "\nall that every run needs is here")
    return 1 if missing else 0


def findings() -> Iterator[Finding]:
    """Versions, devices, weights, photographs and disk space."""
    yield Finding("ok", "wsis", __version__)
    old = sys.version_info < (3, 11)
    yield Finding("missing" if old else "ok", "python", platform.python_version() + old * "; install 3.11 or newer")
    needed = [package(name) for name in NEEDED]
    yield from needed
    if any(f.state == "missing" for f in needed):
        return  # what follows would only repeat it
    lacking = [name for name in BOOK if _version(name) is None]
    remedy = (
        f"not installed: {', '.join(lacking)}; make book installs them" if lacking else "its packages are installed"
    )
    yield Finding("note" if lacking else "ok", "book", remedy)
    yield devices()
    yield from shipped_weights()
    yield from map(imagenet_weights, FULL_SCALE_TRUNKS)
    yield photographs()
    yield disk()


def _version(name: str) -> str | None:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return None


def _numbers(version: str) -> list[int]:
    return [int(part) for part in version.split("+")[0].split(".") if part.isdigit()]


def package(name: str) -> Finding:
    """Whether a package is installed, new enough, and can be imported."""
    version, least = _version(name), NEEDED[name]
    if version is None:
        return Finding("missing", name, f"pip install '{name}>={least}'")
    if _numbers(version) < _numbers(least):
        return Finding("missing", name, f"{version} is too old; pip install '{name}>={least}'")
    try:
        importlib.import_module(name)
    except Exception as error:  # a library that does not fit its neighbours raises anything
        pair = "; take torch and torchvision from the same index" if name in ("torchvision", "timm") else ""
        return Finding("missing", name, f"{version} cannot be imported ({error}){pair}; install it again")
    return Finding("ok", name, version)


def devices() -> Finding:
    """GPUs, or the processor's cores."""
    import torch

    if torch.cuda.is_available():
        names = [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())]
        return Finding("ok", "devices", ", ".join(names))
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return Finding("ok", "devices", f"CPU with {cores} cores; no GPU, so --scale tiny")


def shipped_weights() -> Iterator[Finding]:
    """Every weights file of the package against its card."""
    from wsis.models.convnets import NAMES
    from wsis.models.vit import SHIPPED
    from wsis.models.weights import shipped

    for name in (
        *(n for n in NAMES if n.endswith("_tiny")),
        *(f"{vit}_{w}" for vit, of in SHIPPED.items() for w in of),
    ):
        try:
            yield Finding("ok", f"weights {name}", f"{shipped(name).stat().st_size / 1e6:.1f} MB, hash as on its card")
        except WeightsError as error:
            yield Finding("missing", f"weights {name}", str(error))


def imagenet_weights(name: str) -> Finding:
    """Whether timm has the ImageNet weights of a full-scale backbone in its cache."""
    import timm
    from huggingface_hub import try_to_load_from_cache

    source = timm.get_pretrained_cfg(name)
    here = source is not None and isinstance(try_to_load_from_cache(source.hf_hub_id, "model.safetensors"), str)
    words = "in the cache" if here else "not in the cache; --scale full downloads them once, or give --set weights=PATH"
    return Finding("ok" if here else "note", f"ImageNet {name}", words)


def photographs() -> Finding:
    """The data sets in the folder that WSIS_PHOTOS names."""
    place = os.environ.get("WSIS_PHOTOS")
    if not place:
        return Finding("note", "WSIS_PHOTOS", "not set; tests on photographs are skipped, --data takes any folder")
    sets = sorted(p.parent.name for p in Path(place).glob("*/annotations") if p.is_dir())
    if not sets:
        return Finding(
            "missing", "WSIS_PHOTOS", f"{place} holds no */annotations; set it to a folder of data sets, or unset it"
        )
    return Finding("ok", "WSIS_PHOTOS", ", ".join(sets))


def disk() -> Finding:
    """Free space in the current folder, where runs go."""
    free = shutil.disk_usage(Path.cwd()).free / 1e9
    words = f"{free:.1f} GB free here"
    if free < LEAST_FREE:
        return Finding("missing", "disk", f"{words}; free {LEAST_FREE:g} GB, or start in another folder")
    return Finding("ok", "disk", words)
