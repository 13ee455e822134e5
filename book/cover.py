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
from matplotlib import pyplot as plt

from wsis import annotate, runs, viz
from wsis.experiments.data import clicks_for, open_data
from wsis.per_object import iou_by_size
from wsis.types import Sample
from wsis.viz.style import draw
from wsis.weak import with_base_masks

NAMES = {"bestie": "BESTIE", "exits": "EXITS", "attentionshift": "AttentionShift", "simformer": "SimFormer"}
GIVEN = {
    "points": "one point per object",
    "extreme_points": "four clicks per object",
    "base_masks": "masks of some classes,\ntags of the others",
}
ROWS = ("given", "made of it", "truth")


def score(run: runs.Run, sample: Sample) -> float:
    """How good a run's labels of a sample are: IoU of objects, share of novel pixels that are right."""
    if run.name == "simformer":
        assert sample.true_semantic is not None
        novel = torch.isin(sample.true_semantic.long() - 1, torch.tensor(run.cfg.novel))
        return float((annotate.labelled(run, sample).cpu() == sample.true_semantic)[novel].float().mean())
    return iou_by_size([annotate.pseudo_instances(run, sample).to("cpu")], [sample.truth])["mIoU"]


def column(run: runs.Run, sample: Sample) -> tuple[str, list[Any]]:
    """The title of a run's column and its panels."""
    panels = _class_maps(run, sample) if run.name == "simformer" else _masks(run, sample)
    return f"{NAMES[run.name]}\n{GIVEN[run.cfg.supervision]}", panels


def _class_maps(run: runs.Run, sample: Sample) -> list[Any]:
    maps = (
        with_base_masks(sample, run.cfg.novel).semantic_map,
        annotate.labelled(run, sample).cpu(),
        sample.true_semantic,
    )
    return [viz.draw_semantic(m, (), sample.image) for m in maps if m is not None]


def _masks(run: runs.Run, sample: Sample) -> list[Any]:
    if sample.extreme_points is not None:
        given = viz.draw_extreme_points(sample.image, sample.extreme_points)
    else:
        given = viz.draw_points(sample.image, sample.points, size=7)
    made = annotate.pseudo_instances(run, sample).to("cpu")
    return [
        given,
        *(
            viz.draw_instances(
                sample.image, replace(found, scores=torch.ones_like(found.scores)), run.classes
            )
            for found in (made, sample.truth)
        ),
    ]


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m book.cover")
    parser.add_argument("runs", nargs="+", type=Path, metavar="RUN")
    parser.add_argument("--among", type=int, default=60, help="number of training scenes to choose from")
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "cover.png")
    options = parser.parse_args()
    plt.rcParams.update(viz.RC)
    loaded = [runs.load(folder, "cpu") for folder in options.runs]
    data = [open_data("world", "tiny", clicks=clicks_for(r.cfg), seed=r.seed).train for r in loaded]
    crowd = open_data("world", "tiny").train
    several = [i for i in range(options.among) if len(crowd[i].truth or ()) > 1]
    best = max(several, key=lambda i: min(score(r, d[i]) for r, d in zip(loaded, data, strict=True)))
    columns = [column(r, d[best]) for r, d in zip(loaded, data, strict=True)]
    figure, axes = plt.subplots(
        len(ROWS), len(columns), figsize=(2.1 * len(columns), 6.9), layout="constrained", squeeze=False
    )
    for place, (title, panels) in zip(axes.T, columns, strict=True):
        for ax, panel in zip(place, panels, strict=True):
            draw(ax, panel)
            ax.set(xticks=[], yticks=[])
        place[0].set_title(title, fontsize=10)
    for ax, name in zip(axes[:, 0], ROWS, strict=True):
        ax.set_ylabel(name, fontsize=10)
    figure.savefig(options.out, dpi=130)


if __name__ == "__main__":
    main()
