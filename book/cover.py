"""The picture of the first page: what an annotator gives each method, and what it makes of that.

    python -m book.cover RUN RUN RUN RUN

RUN: folders of trained runs on the embedded world, a column each. The scene is that of the first training scenes with two
objects or more whose worst column is best, so that every method is seen at work. The picture goes to `book/cover.png`.
"""

import argparse
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from wsis import viz
from wsis.core.types import Instances, Sample
from wsis.evaluation.instances import iou_by_size
from wsis.evaluation.semantic import is_novel
from wsis.methods import load_run
from wsis.training import apply as annotate
from wsis.training.apply import Run
from wsis.weak.simulate import with_base_masks
from wsis.weak.sources import open_data

NAMES = {"bestie": "BESTIE", "exits": "EXITS", "attentionshift": "AttentionShift", "simformer": "SimFormer"}
GIVEN = {
    "points": "one point per object",
    "extreme_points": "four clicks per object",
    "base_masks": "masks of some classes,\ntags of the others",
}
ROWS = ("given", "made of it", "truth")


def score(run: Run, sample: Sample) -> float:
    """How good a run's labels of a sample are, 0 to 1: IoU of objects, or share of novel pixels that are right."""
    if run.name == "simformer":
        assert sample.true_semantic is not None
        right = annotate.labelled(run, sample).cpu() == sample.true_semantic
        return float(right[is_novel(sample.true_semantic, run.cfg.novel)].float().mean())
    return iou_by_size([annotate.pseudo_instances(run, sample).to("cpu")], [sample.truth])["mIoU"]


def title(run: Run) -> str:
    """The method and what it is given, in two lines or three."""
    return f"{NAMES[run.name]}\n{GIVEN[run.cfg.supervision]}"


def panels(run: Run, sample: Sample) -> list[Any]:
    """What `viz.show` draws for a run, a panel for each of `ROWS`."""
    if run.name == "simformer":
        maps = (
            with_base_masks(sample, run.cfg.novel).semantic_map,
            annotate.labelled(run, sample).cpu(),
            sample.true_semantic,
        )
        return [viz.draw_semantic(m, (), sample.image) for m in maps if m is not None]
    if sample.extreme_points is not None:
        given = viz.draw_extreme_points(sample.image, sample.extreme_points)
    else:
        given = viz.draw_points(sample.image, sample.points, size=7)
    assert sample.truth is not None
    made = annotate.pseudo_instances(run, sample).to("cpu")
    return [given, *(_masks(sample, found, run.classes) for found in (made, sample.truth))]


def _masks(sample: Sample, found: Instances, classes: tuple[str, ...]) -> Any:
    """Masks over the picture, all alike: whatever a method's scores are, here they are labels."""
    return viz.draw_instances(sample.image, replace(found, scores=torch.ones_like(found.scores)), classes)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m book.cover")
    parser.add_argument("runs", nargs="+", type=Path, metavar="RUN")
    parser.add_argument("--among", type=int, default=60, help="number of training scenes to choose from")
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "cover.png")
    options = parser.parse_args()
    loaded = [load_run(folder, "cpu") for folder in options.runs]
    data = [open_data("world", "tiny", clicks=r.cfg.clicks, seed=r.seed).train for r in loaded]
    crowd = open_data("world", "tiny").train
    several = [i for i in range(options.among) if (t := crowd[i].truth) is not None and len(t.labels) > 1]
    best = max(several, key=lambda i: min(score(r, d[i]) for r, d in zip(loaded, data, strict=True)))
    columns = {title(r): panels(r, d[best]) for r, d in zip(loaded, data, strict=True)}
    rows = [{name: made[k] for name, made in columns.items()} for k in range(len(ROWS))]
    viz.show(rows, rows=ROWS, size=2.1).savefig(options.out, dpi=130)


if __name__ == "__main__":
    main()
