"""Short trainings on drawn scenes: losses fall. Whether class maps are better than the activation maps that they start from is
printed, with `pytest -m slow -s`: so short, they need not be.
"""

import csv
from functools import partial

import pytest

from wsis.baselines import cam, irn
from wsis.core.config import changed
from wsis.data.semantic import SemanticWorld
from wsis.data.world import World
from wsis.data.wrappers import Cached, Mapped, samples
from wsis.evaluation import MeanIoU, grouped_iou
from wsis.methods import method, simformer
from wsis.methods.simformer.labels import pseudo_maps
from wsis.training.runs import fit
from wsis.training.stages import Workspace
from wsis.weak.simulate import with_base_masks

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1800)]
IMAGES = 100


def scenes():
    return World("train", IMAGES, seed=100)


def losses(path):
    """The first and the last total of a training that were logged."""
    with open(path, encoding="utf-8") as file:
        totals = [float(row["total"]) for row in csv.DictReader(file)]
    return totals[0], totals[-1]


def test_losses_of_irn_fall(tmp_path):
    only = ("classifier", "network", "labels")
    cfg = irn.TINY
    report = fit(method("irn"), cfg, Cached(scenes()), None, tmp_path, data="scenes", device="cpu", only=only)["labels"]
    first, last = losses(tmp_path / "network.csv")
    print(f"\nIRN: loss {first:.2f} -> {last:.2f}", {k: round(v, 3) for k, v in report.items() if k != "key"})
    assert last < first


@pytest.mark.parametrize("source", ["rib", "retab"])
def test_losses_of_rivals_fall(source, tmp_path, options):
    data = Cached(SemanticWorld(scenes()))
    cfg = changed(simformer.TINY, pseudo={"source": source})
    report = fit(simformer, cfg, data, None, tmp_path, data="scenes", device="cpu", only=("labels",))["labels"]
    trained = {path.stem: losses(path) for path in sorted(tmp_path.glob("*.csv"))}
    cfg = cfg.for_classes(data.classes)
    given = Mapped(data, partial(with_base_masks, novel=cfg.novel))
    workspace = Workspace(cfg=cfg, train=given, val=None, folder=tmp_path / "cam", options=options)
    classifier, metric = (
        cam.fit(workspace, "classifier", getattr(cfg, source).classifier, (cfg.backbone, cfg.weights)),
        MeanIoU(cfg.classes + 1),
    )
    for sample in samples(given):
        batch = workspace.batch(sample)
        maps, known = cam.activations(classifier, batch, getattr(cfg, source).classifier), batch.semantic_maps
        plain = pseudo_maps(cam.clamped(maps, known, cfg.novel), known, sample.tags[None], cfg)[0]
        metric.update(plain, sample.true_semantic)
    before = grouped_iou(metric, cfg.novel)["novel_mIoU"]
    print(
        f"\n{source}: novel mIoU of activations {before:.3f}, of class maps {report['novel_mIoU']:.3f}; losses {trained}"
    )
    assert all(last < first for first, last in trained.values())
