"""Mask R-CNN on a COCO JSON: what it is taught, one training, and the stage that follows BESTIE's network."""

import pytest
import torch

from wsis.config import changed
from wsis.data.labelled import InMemory
from wsis.data.transforms import collate
from wsis.data.world import World, WorldConfig
from wsis.errors import DataError
from wsis.export import write_instances
from wsis.methods import bestie
from wsis.methods.bestie import finish
from wsis.runs import Workspace
from wsis.segmenters.maskrcnn import JsonMasks, build_maskrcnn, predict
from wsis.types import InstanceMap, Instances

SCENES = WorldConfig(size=64, objects=(1, 2), classes=("cat", "car"))


@pytest.fixture(scope="module")
def world():
    return InMemory(World("train", 3, 0, SCENES))


@pytest.fixture(scope="module")
def masks(world, tmp_path_factory):
    """The true masks of all scenes but the second, as a COCO JSON."""
    path = tmp_path_factory.mktemp("json") / "masks.json"
    rows = [(s, s.truth if i != 1 else Instances.none(*s.size)) for i, s in enumerate(world)]
    write_instances(path, rows, world.classes)
    return JsonMasks(path, world.classes)


def test_target_has_the_masks_of_the_json_and_half_open_boxes(world, masks):
    sample = world[0]
    target = masks.target(sample.image_id, *sample.size, flip=False)
    assert torch.equal(target["masks"].bool(), sample.truth.masks)
    assert torch.equal(target["labels"], sample.truth.labels + 1)
    for mask, (x0, y0, x1, y1) in zip(target["masks"], target["boxes"].int().tolist(), strict=True):
        assert mask[y0:y1, x0:x1].sum() == mask.sum()
        assert mask[y0, x0:x1].any() and mask[y1 - 1, x0:x1].any()
        assert mask[y0:y1, x0].any() and mask[y0:y1, x1 - 1].any()


def test_flip_moves_masks_and_boxes_together(world, masks):
    sample = world[0]
    plain, flipped = (masks.target(sample.image_id, *sample.size, flip=f) for f in (False, True))
    assert torch.equal(flipped["masks"], plain["masks"].flip(2))
    assert torch.equal(flipped["boxes"][:, [2, 0]], 64 - plain["boxes"][:, [0, 2]])


def test_images_without_a_mask_are_left_out(world, masks):
    subset = masks.subset(world)
    assert [s.image_id for s in subset] == [world[0].image_id, world[2].image_id]


def test_json_of_other_classes_is_refused(world, masks, tmp_path):
    write_instances(tmp_path / "masks.json", [(world[0], world[0].truth)], ("dog", "car"))
    with pytest.raises(DataError, match="categories are not cat, car"):
        JsonMasks(tmp_path / "masks.json", world.classes)


def test_learns_one_image_by_heart(world, masks):
    torch.manual_seed(0)
    model = build_maskrcnn(2, "resnet_tiny", "random", frozen_norm=False).train()
    optimizer = torch.optim.Adam(model.parameters(), 2e-3)
    batch, first = collate([world[0]]), None
    for step in range(12):
        terms = masks.loss(model, batch, step)
        first = first or terms["total"].item()
        optimizer.zero_grad()
        terms["total"].backward()
        optimizer.step()
    assert terms["total"].item() < 0.7 * first
    (found,) = predict(model.eval(), batch.images)
    assert found.masks.shape[1:] == (64, 64) and found.masks.dtype == torch.bool
    assert ((found.scores >= 0) & (found.scores <= 1)).all() and (found.labels < 2).all()


def test_stage_learns_from_the_masks_that_the_network_makes(world, tiny, engine, monkeypatch):
    def first_object(model, batch, cfg):
        """The true mask of each picture's first object, in place of a network's."""
        (sample,) = [s for s in world if s.image_id == batch.image_ids[0]]
        truth = sample.truth[:1]
        return InstanceMap(
            ids=truth.masks.long(),
            image=torch.zeros(1, dtype=torch.long),
            labels=truth.labels,
            centers=torch.zeros(1, 2),
            scores=torch.ones(1),
        )

    monkeypatch.setattr(bestie, "restore", lambda cfg, folder: torch.nn.Identity())
    monkeypatch.setattr(bestie, "pseudo_labels", first_object)
    cfg = changed(tiny, classes=2, **{"maskrcnn.steps": 1, "maskrcnn.batch_size": 2})
    report = finish.train_maskrcnn(
        Workspace(cfg=cfg, train=world, val=world, folder=engine.folder, engine=engine)
    )
    assert report["pseudo_masks"] == 3 and 0 <= report["mAP50"] <= 1
    stored = JsonMasks(engine.folder / "pseudo_train.json", world.classes)
    target = stored.target(world[0].image_id, *world[0].size, flip=False)
    assert torch.equal(target["masks"].bool(), world[0].truth.masks[:1])
    again = finish.restore(cfg, engine.folder).eval()
    assert len(predict(again, collate([world[0]]).images)) == 1


def test_full_model_is_torchvisions():
    from torchvision.models.detection import maskrcnn_resnet50_fpn

    ours = build_maskrcnn(20, "resnet50", "random", frozen_norm=False)
    theirs = maskrcnn_resnet50_fpn(weights=None, weights_backbone=None, num_classes=21)
    for part in ("rpn", "roi_heads"):
        shapes = [
            {k: v.shape for k, v in getattr(model, part).state_dict().items()} for model in (ours, theirs)
        ]
        assert shapes[0] == shapes[1]
    assert [p.shape for p in ours.backbone.pyramid.parameters()] == [
        p.shape for p in theirs.backbone.fpn.parameters()
    ]
