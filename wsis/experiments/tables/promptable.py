"""Ours: models that anyone can prompt beside the methods that learn from the same labels.

mIoU is that of the masks of the training images. A promptable model trains nothing, so it has no AP. Its rows need checkpoints
that are downloaded apart from the package; `run_table` leaves those that are not here blank.
"""

from wsis.baselines.promptable import MODELS
from wsis.experiments.table import Settings, Table, table
from wsis.experiments.tables.attentionshift import ON_MASKS
from wsis.experiments.tables.exits import MAL

TITLES = {"sam": "SAM", "sam2": "SAM 2", "sam3": "SAM 3"}
Rows = dict[str, tuple[Settings, tuple[()], None, str]]


def prompted(prompts: dict[str, str]) -> Rows:
    """A row for each model and prompt; prompts: their names as settings and in words."""
    return {
        f"{title}, {words}": ({"model": name, "checkpoint": MODELS[name][2], "prompt": prompt}, (), None, "promptable")
        for prompt, words in prompts.items()
        for name, title in TITLES.items()
    }


def beside(name: str, title: str, metrics: tuple[str, ...], rows: Rows, prompts: dict[str, str]) -> Table:
    """The rows of a method, whose runs its own tables share, and those of the promptable models."""
    options = {"scales": ("small", "full"), "upper": "true masks"}
    return table(f"promptable.{name}", title, metrics, rows | prompted(prompts), **options)


POINTS = beside(
    "points",
    "masks of the training images from one point for each object (ours)",
    ("mIoU",),
    {
        "AttentionShift": ({}, (), None, "attentionshift"),
        "true masks": ({"oracle": "masks"} | ON_MASKS, (), None, "attentionshift"),
    },
    {"point": "the point"},
)
BOXES = beside(
    "boxes",
    "masks of the training images from extreme points or boxes, and what a segmenter learns from them (ours)",
    ("AP", "mIoU"),
    {
        "EXITS": ({}, (), None, "exits"),
        "MAL": (MAL, (), None, "exits"),
        "true masks": ({"final.masks": "truth"}, (), None, "exits"),
    },
    {"extreme_points": "four points", "extreme_box": "the box of four points", "box": "the box"},
)
TABLES = (POINTS, BOXES)
