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
BASELINES = ("irn", "promptable")
"""Files of `wsis.baselines` whose verbs fill rows of tables."""
PROMPTABLE = ("promptable", "sam", "sam2", "sam3")
"""Names under which a promptable model may be looked for."""


def method(name: str) -> Method:
    """The package of a method, or the file of a baseline; ConfigError if there is neither."""
    if name not in METHODS + BASELINES:
        raise ConfigError(f"no method {name!r}; choose one of {', '.join(METHODS)}")
    return importlib.import_module(f"wsis.{'methods' if name in METHODS else 'baselines'}.{name}")  # type: ignore[return-value]


def trainable(name: str) -> Method:
    """As `method`, for what is to be trained; ConfigError for a promptable model, too."""
    if name in PROMPTABLE:
        raise ConfigError(f"{name} is not trained; python -m wsis label sam:FOLDER --data DIR writes its masks")
    return method(name)


def load_run(folder: Path, device: str = "auto") -> Run:
    """The trained model of a run folder; DataError if no run is there, or one of its stages is not finished."""
    path = folder / "run.json"
    if not path.exists():
        raise DataError(f"{folder} holds no run; make one with python -m wsis train ... --out {folder}")
    facts = read_json(path)
    which = method(facts["method"])
    cfg = changed(which.FULL, **facts["settings"])
    # Labels are for the stages after them, and no part of a model.
    needed = {s.name: s.artefact for s in which.stages(cfg) if s.artefact and s.name != "labels"}
    if missing := [name for name, artefact in needed.items() if not (folder / artefact).exists()]:
        resume = f"go on with python -m wsis train ... --out {folder} --resume"
        raise DataError(f"{folder}: {', '.join(missing)} not finished; {resume}")
    model = which.restore(cfg, folder).to(make_accelerator(device).device).eval()
    classes, category_ids = tuple(facts["classes"]), tuple(facts["category_ids"])
    return Run(which, cfg, classes, category_ids, model, folder, facts["data"], facts["seed"])
