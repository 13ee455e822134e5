"""What a command tells its user to type next."""

from collections.abc import Mapping
from pathlib import Path

from wsis.core.report import report

# What learns from each kind of label, the first kind that there is.
LEARNERS = {"extreme_points": "exits", "masks": "exits", "boxes": "exits --set supervision=boxes"}
LEARNERS |= {"point": "attentionshift", "tags": "bestie"}


def _next(command: str, purpose: str) -> None:
    report(f"next, {purpose}: python -m wsis {command}")


def after_world(folder: Path, class_maps: bool) -> None:
    method = "simformer" if class_maps else "exits"
    _next(f"train {method} --data {folder} --out runs/{method}", "a network that learns from them")


def after_weak(file: Path, points: bool, extreme: bool) -> None:
    method = "attentionshift" if points else "exits" if extreme else "bestie"
    words = f"train {method} --data DIR --weak {file} --out runs/{method}"
    _next(words, "a network that learns from them (DIR: the data set)")


def after_import(folder: Path, counts: Mapping[str, int]) -> None:
    """counts: of each kind of label, as in `LEARNERS`."""
    if method := next((m for kind, m in LEARNERS.items() if counts[kind]), None):
        _next(f"train {method} --scale small --data {folder} --out runs/mine", "masks from these labels")


def after_train(run: Path, data: str, class_maps: bool) -> None:
    masks, predictions = ("maps", "maps") if class_maps else ("masks.json", "predictions.json")
    if data != "world":
        _next(f"label {run} --data {data} --split train --out {masks}", "masks of these images")
    _next(f"predict {run} --images FOLDER --out {predictions}", "masks of other images")


def after_label(masks: Path, images: Path, labels: Path) -> None:
    report(f'next, to see them in a notebook: wsis.viz.annotate("{images}", "{labels}", masks="{masks}")')


def after_predict(masks: Path, class_maps: bool) -> None:
    metric = "semantic" if class_maps else "coco"
    _next(f"evaluate {masks} TRUTH --metric {metric}", "where the truth is known")
