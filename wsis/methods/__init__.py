"""The four methods, one package each with the same files and the same verbs, and finished runs of them and of baselines."""

import importlib
from pathlib import Path

from wsis.core.config import changed
from wsis.core.errors import ConfigError, DataError
from wsis.core.files import read_json
from wsis.training.apply import Run
from wsis.training.loop import make_accelerator
from wsis.training.stages import Method

METHODS = ("bestie", "exits", "attentionshift", "simformer")
BASELINES = ("promptable",)
"""Files of `wsis.baselines` whose verbs fill rows of tables."""


def method(name: str) -> Method:
    """The package of a method, or the file of a baseline.

    Raises:
        ConfigError: there is no such method.
    """
    if name not in METHODS + BASELINES:
        raise ConfigError(f"no method {name!r}; choose one of {', '.join(METHODS)}")
    return importlib.import_module(f"wsis.{'methods' if name in METHODS else 'baselines'}.{name}")  # type: ignore[return-value]


def load_run(folder: Path, device: str = "auto") -> Run:
    """The trained model of a run folder.

    Raises:
        DataError: no run there, or one of its stages is not finished.
    """
    path = folder / "run.json"
    if not path.exists():
        raise DataError(
            f"{folder} holds no run (run.json is missing); make one with python -m wsis train ... --out {folder}"
        )
    facts = read_json(path)
    which = method(facts["method"])
    cfg = changed(which.FULL, **facts["settings"])
    open_stages = [s.name for s in which.stages(cfg) if s.artefact and not (folder / s.artefact).exists()]
    if open_stages:
        raise DataError(
            f"{folder}: {', '.join(open_stages)} not finished; go on with python -m wsis train ... --out {folder} --resume"
        )
    model = which.restore(cfg, folder).to(make_accelerator(device).device).eval()
    return Run(
        method=which,
        cfg=cfg,
        classes=tuple(facts["classes"]),
        category_ids=tuple(facts["category_ids"]),
        model=model,
        folder=folder,
        data=facts["data"],
        seed=facts["seed"],
    )
