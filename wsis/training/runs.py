"""A run: the folder in which the stages of a method leave their artefacts, and the function that runs them.

`fit` runs the stages whose artefact (weights, cues, a folder of maps) is missing; a run that was killed resumes where it
stopped. With a `cache`, two runs that agree on the settings that decide an artefact, the data and the seed share it: a
table that varies the network trains its classifier once.
"""

import json
import shutil
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import torch
from filelock import FileLock

from wsis import __version__
from wsis.core.config import Scale, fingerprint, flatten, option, seed_of
from wsis.core.errors import ConfigError, TrainingError
from wsis.core.files import atomic, package_digest, read_json, write_json
from wsis.core.types import Dataset, Report
from wsis.data.wrappers import Shrunk
from wsis.models.weights import shipped_sums
from wsis.training.checkpoint import checkpoints
from wsis.training.loop import LoopOptions, make_accelerator
from wsis.training.stages import C, Method, MethodConfig, Stage, Workspace, method_name
from wsis.weak.sources import Data

FROM_DATA = {"classes", "novel"}  # settings that every run takes from its data


def fit(
    method: Method[C],
    cfg: C,
    train: Dataset,
    val: Dataset | None,
    out: Path,
    *,
    data: str,
    seed: int = 0,
    device: str = "auto",
    cache: Path | None = None,
    only: tuple[str, ...] = (),
    workers: int = 0,
) -> dict[str, Report]:
    """Run the stages of a method that are not finished and return all reports by stage name.

    data: what the images are, in words that identify them ("world 600/200 at 96 px", a folder); part of every key. only:
    names of stages to run (default all). Raises ConfigError if `out` holds a run with other settings, data or seed, or `only`
    names no stage.
    """
    cfg = cfg.for_classes(train.classes) if train.classes else cfg
    name, stages = method_name(method), method.stages(cfg)
    if unknown := set(only) - {stage.name for stage in stages}:
        raise ConfigError(f"no stage {', '.join(sorted(unknown))}; {name} has {', '.join(s.name for s in stages)}")
    if cfg.whole_maps:
        train, val = Shrunk(train, cfg.largest_side), None if val is None else Shrunk(val, cfg.largest_side)
    accelerator = make_accelerator(device)
    options = LoopOptions(accelerator=accelerator, seed=seed, folder=out, workers=workers)
    workspace = Workspace(cfg=cfg, train=train, val=val, folder=out, options=options)
    if accelerator.is_main_process:
        _claim(out, name, cfg, data, seed, train)
    accelerator.wait_for_everyone()
    keys, reports = {}, {}
    for stage in stages:
        keys[stage.name] = _key(stage, cfg, keys, name, data, seed)
        if not only or stage.name in only:
            reports[stage.name] = _run(stage, replace(workspace, key=keys[stage.name]), cache)
    return reports


def chapter_run(
    method: Method[C], cfg: C, opened: Data, data: str, scale: Scale, seed: int, device: str, only: tuple[str, ...] = ()
) -> tuple[dict[str, Report], Path]:
    """The run that a chapter of the book shows: the reports of its stages, see `fit`, and its folder.

    The folder lies in build/runs (chapters run in the folder notebooks) and is named by the settings, the data, the seed
    and, but at full scale, the code; stages that another chapter has finished are copied from build/stages. A training of the
    network at full scale is done first, see `launch`. opened: what `open_data(data, scale, seed=seed)` returned.
    """
    code = "" if scale == "full" else package_digest()  # hours of training outlive a change of the code
    folder = Path("../build/runs", fingerprint(cfg, opened.description, seed, code))
    options = {"seed": seed, "device": device, "cache": Path("../build/stages", code), "only": only}
    folder.parent.mkdir(parents=True, exist_ok=True)
    # of two chapters with one run the second waits, and takes what is finished
    with FileLock(folder.with_suffix(".lock")):
        if scale == "full" and (not only or "network" in only):
            launch(method, cfg, folder, data=data, scale=scale, seed=seed, device=device)
        return fit(method, cfg, opened.train, opened.val, folder, data=opened.description, **options), folder


def launch(method: Method[C], cfg: C, out: Path, *, data: str, scale: Scale, seed: int, device: str = "auto") -> None:
    """`python -m wsis train` in one process for each GPU, which resumes a run in `out`; TrainingError if it stopped.

    cfg: what differs from the preset of `scale` becomes `--set`.
    """
    preset = flatten(getattr(method, scale.upper()))
    changes = {k: v for k, v in flatten(cfg).items() if k not in FROM_DATA and v != preset[k]}
    launcher = f"-m torch.distributed.run --standalone --nproc-per-node={max(torch.cuda.device_count(), 1)} -m wsis"
    options = f"train {method_name(method)} --resume --scale {scale} --seed {seed} --device {device}"
    command = [sys.executable, *launcher.split(), *options.split(), "--data", data, "--out", str(out)]
    command += [option(k, v) for k, v in changes.items()]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        for line in process.stdout:
            print(line, end="")
    if process.returncode:
        raise TrainingError(f"the training in {out} stopped; its last lines say why")


def _key(stage: Stage, cfg: MethodConfig, keys: dict[str, str], name: str, data: str, seed: int) -> str:
    settings = {k: v for k, v in flatten(cfg).items() if k.split(".")[0] in stage.settings.split()}
    words = {v for v in settings.values() if isinstance(v, str)}
    weights = shipped_sums({*words, *(f"{a}_{b}" for a in words for b in words)})
    return fingerprint(name, stage.name, settings, weights, [keys[n] for n in stage.needs.split()], data, seed)


def _run(stage: Stage, workspace: Workspace, cache: Path | None) -> Report:
    """Run one stage unless it, or a run that shares the cache, has finished it. The report marks the end."""
    path, options = workspace.path(f"{stage.name}.report.json"), workspace.options
    stored = cache / f"{stage.name}-{workspace.key}" if cache else None
    wait = options.accelerator.wait_for_everyone
    if workspace.is_first and stored and not path.exists() and (stored / path.name).exists():
        shutil.copytree(stored, workspace.folder, dirs_exist_ok=True, ignore=shutil.ignore_patterns(path.name))
        shutil.copy2(stored / path.name, path)  # last, since it says that the rest is complete
    wait()
    if path.exists() and read_json(path)["key"] == workspace.key:
        return read_json(path)
    began = time.perf_counter()
    torch.manual_seed(seed_of(options.seed, stage.stream or stage.name))  # for the first weights of new layers
    figures = stage.run(replace(workspace, options=replace(options, stream=stage.stream)))
    wait()
    figures = {**figures, "key": workspace.key, "minutes": (time.perf_counter() - began) / 60}
    if workspace.is_first:
        write_json(path, figures, indent=2)
        for checkpoint in checkpoints(workspace.folder, stage.name):
            checkpoint.unlink()
        if stored:
            with atomic(stored) as temporary:
                temporary.mkdir(parents=True)
                for source in map(workspace.path, filter(None, (stage.artefact, path.name, f"{stage.name}.csv"))):
                    if source.exists():
                        (shutil.copytree if source.is_dir() else shutil.copy2)(source, temporary / source.name)
    wait()
    return figures


def _claim(out: Path, name: str, cfg: MethodConfig, data: str, seed: int, train: Dataset) -> None:
    """Write run.json, or check that the one that is there describes the same run."""
    path = out / "run.json"
    facts = {"method": name, "data": data, "seed": seed, "classes": train.classes, "settings": flatten(cfg)}
    if path.exists():
        stored, facts = read_json(path), json.loads(json.dumps(facts))
        before = stored.get("settings", {})
        wrong = sorted(k for k, v in facts["settings"].items() if before.get(k) != v)
        if parts := ", ".join(part for part in facts if stored.get(part) != facts[part]):
            remedy = "use another --out, or delete this folder to start again"
            raise ConfigError(f"{out} holds a run that differs in {parts} {wrong or ''}; {remedy}")
        return
    write_json(path, {**facts, "category_ids": train.category_ids, "version": __version__}, indent=2)
