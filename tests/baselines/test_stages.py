"""Runs of a few steps: IRN on its own, and as the source of BESTIE's and SimFormer's class maps."""

import pytest
import torch

from wsis.core.config import changed
from wsis.data.label_maps import read_label_map
from wsis.data.semantic import SemanticWorld
from wsis.data.world import World, WorldConfig
from wsis.data.wrappers import Cached
from wsis.methods import bestie, method, simformer
from wsis.training.runs import fit

SHORT = {"steps": 2, "batch_size": 2}
CLASSIFIER = {"crop": 64, "scales": (1.0,), "schedule": SHORT}
RELATION = {"crop": 64, "hops": 8, "network": SHORT}


@pytest.fixture(scope="module")
def scenes():
    return Cached(SemanticWorld(World("train", 4, config=WorldConfig(size=64, objects=(1, 3)))))


def test_irn_is_a_method_of_its_own(world, tmp_path):
    irn = method("irn")
    cfg = changed(irn.TINY, weights="random", classifier=CLASSIFIER, relation=RELATION, final=SHORT)
    reports = fit(irn, cfg, world, world, tmp_path, data="world", device="cpu")
    assert {"mIoU", "cam_mIoU", "pseudo_mAP50"} <= reports["labels"].keys() and "mAP50" in reports["evaluation"]
    assert {"pseudo_masks", "mAP50"} <= reports["final"].keys()
    again = irn.restore(changed(cfg, classes=len(world.classes)), tmp_path)
    assert any(value.any() for name, value in again["network"].named_buffers() if name == "mean")


def test_bestie_learns_from_the_class_maps_of_irn(tiny, world, tmp_path):
    cfg = changed(tiny, semantic={"source": "irn", "irn": RELATION})
    only = ("activation_maps",)
    report = fit(bestie, cfg, world, None, tmp_path, data="world", device="cpu", only=only)["activation_maps"]
    assert 0 <= report["mIoU"] <= 1
    assert len(list((tmp_path / "activation_maps").glob("*.png"))) == len(world)


@pytest.mark.parametrize("source", ["rib", "retab"])
def test_simformer_is_trained_again_on_class_maps_of_a_rival(source, scenes, tmp_path):
    rival = {"classifier": CLASSIFIER}
    if source == "rib":
        rival |= {"relation": RELATION, "tuning": {"side": 64, "schedule": {"steps": 1, "batch_size": 3}}}
    else:
        rival |= {"crop": 64, "hops": 8, "boundary": SHORT, "affinity": SHORT}
    small = {"crop": 64, "short": (64,), "test_short": 64}
    cfg = changed(simformer.TINY, weights="random", size=small, pseudo={"source": source}, **{source: rival})
    cfg = changed(cfg, network=SHORT, final=SHORT)
    reports = fit(simformer, cfg, scenes, scenes, tmp_path, data="scenes", device="cpu")
    first = "tuning" if source == "rib" else "relations"
    assert list(reports) == [first, "labels", "final", "evaluation"] and "novel_mIoU" in reports["evaluation"]
    cfg = cfg.for_classes(scenes.classes)
    for index, sample in enumerate(scenes[i] for i in range(len(scenes))):
        made = read_label_map(next(iter(sorted((tmp_path / "pseudo_train").glob("*.png"))[index : index + 1])))
        truth = sample.true_semantic
        base = (truth != 255) & (truth != 0) & ~torch.isin(truth, torch.tensor([n + 1 for n in cfg.novel]))
        assert torch.equal(made[base], truth[base])
        novel = made[~base & (made != 255)].long().unique() - 1
        assert set(novel.tolist()) <= set(cfg.novel) and sample.tags[novel].all()
