"""Mask R-CNN: one training by heart, torchvision's own sizes, and the stage that follows BESTIE's network."""

import importlib

import pytest
import torch

from wsis.core.config import changed
from wsis.data.transforms import collate
from wsis.data.world import World, WorldConfig
from wsis.data.wrappers import Cached
from wsis.models.segmenters import build_segmenter, predict
from wsis.models.segmenters.targets import JsonMasks, Target, Window
from wsis.models.weights import restored
from wsis.training.stages import Workspace

stages = importlib.import_module("wsis.methods.bestie.stages")
SCENES = WorldConfig(size=64, objects=(1, 2), classes=("cat", "car"))


@pytest.fixture(scope="module")
def world():
    return Cached(World("train", 3, 0, SCENES))


def test_learns_one_image_by_heart(world):
    torch.manual_seed(0)
    model = build_segmenter("maskrcnn", 2, "resnet_tiny", "random").train()
    optimizer = torch.optim.Adam(model.parameters(), 2e-3)
    images, first = collate([world[0]]).images, None
    target = Target.make(world[0].truth.masks, world[0].truth.labels)
    for _ in range(12):
        total = sum(model(list(images), [target]).values())
        first = first or total.item()
        optimizer.zero_grad()
        total.backward()
        optimizer.step()
    assert total.item() < 0.7 * first


def test_stage_learns_from_the_masks_that_the_network_makes(world, tiny, options, monkeypatch):
    def first_object(model, batch, cfg):
        """The true mask of each picture's first object, in place of a network's."""
        (sample,) = [s for s in world if s.image_id == batch.image_ids[0]]
        return [sample.truth[:1]]

    monkeypatch.setattr(stages, "restore", lambda cfg, folder: torch.nn.Identity())
    monkeypatch.setattr(stages, "pseudo_labels", first_object)
    cfg = changed(tiny, classes=2, **{"final.steps": 1, "final.batch_size": 2})
    workspace = Workspace(cfg=cfg, train=world, val=world, folder=options.folder, options=options)
    report = stages.stages(cfg)[-1].run(workspace)
    assert report["pseudo_masks"] == 3 and 0 <= report["mAP50"] <= 1
    assert (options.folder / "final.csv").exists()
    stored = JsonMasks(options.folder / "pseudo_train.json", world.classes)
    whole = Window((64, 64), (0, 0), (64, 64), False)
    assert torch.equal(stored.target(world[0].image_id, whole).masks.bool(), world[0].truth.masks[:1])
    weights = options.folder / "final.safetensors"
    again = restored(build_segmenter("maskrcnn", 2, cfg.semantic.backbone, "random"), "random", weights).eval()
    assert len(predict(again, collate([world[0]]).images)) == 1


def test_masks_are_those_of_torchvisions_call(world):
    torch.manual_seed(0)
    model = build_segmenter("maskrcnn", 2, "resnet_tiny", "random").eval()
    images = collate([world[0]]).images[:, :, :50]  # which the detector sees larger
    with torch.no_grad():
        (found,), (whole,) = predict(model, images), model.detector(list(images))
    assert len(found) and torch.equal(found.masks, whole["masks"][:, 0] > 0.5)
    assert torch.equal(found.labels, whole["labels"] - 1) and torch.equal(found.scores, whole["scores"])


def test_full_model_is_torchvisions():
    from torchvision.models.detection import maskrcnn_resnet50_fpn

    ours = build_segmenter("maskrcnn", 20, "resnet50", "random").detector
    theirs = maskrcnn_resnet50_fpn(weights=None, weights_backbone=None, num_classes=21)
    for part in ("rpn", "roi_heads"):
        shapes = [{k: v.shape for k, v in getattr(model, part).state_dict().items()} for model in (ours, theirs)]
        assert shapes[0] == shapes[1]
    assert [p.shape for p in ours.backbone.pyramid.parameters()] == [p.shape for p in theirs.backbone.fpn.parameters()]
