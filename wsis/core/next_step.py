"""What a command tells its user to type next."""

from collections.abc import Mapping
from pathlib import Path

from wsis.core.report import report

# What learns from each kind of label; of equally many the first kind counts.
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
    weights = {**counts, "tags": min(counts["tags"], 0.5)}  # tags count where there is nothing else
    kind = max(LEARNERS, key=weights.__getitem__)
    _next(f"train {LEARNERS[kind]} --scale small --data {folder} --out runs/mine", "masks from these labels")


def after_train(run: Path, data: str, weak: Path | None, class_maps: bool) -> None:
    masks, predictions = ("maps", "maps") if class_maps else ("masks.json", "predictions.json")
    if data not in ("world", "world-ade"):
        clicks = f" --weak {weak}" if weak else ""
        _next(f"label {run} --data {data} --split train{clicks} --out {masks}", "masks of these images")
    _next(f"predict {run} --images FOLDER --out {predictions}", "masks of other images")


def after_label(masks: Path, images: Path, labels: Path) -> None:
    report(f'next, to see them in a notebook: wsis.viz.annotate("{images}", "{labels}", masks="{masks}")')


def after_predict(masks: Path, images: Path, category_ids: Mapping[str, int] | None) -> None:
    """category_ids: of the classes of masks; None for class maps."""
    _next(f"evaluate {masks} TRUTH --metric {'coco' if category_ids else 'semantic'}", "where the truth is known")
    # a canvas numbers classes from 1, and results have no names of classes
    if category_ids and list(category_ids.values()) == list(range(1, len(category_ids) + 1)):
        labels = f'"{masks.with_name("accepted.json")}", {list(category_ids)}'
        report(f'next, to see them in a notebook: wsis.viz.annotate("{images}", {labels}, masks="{masks}")')
