"""SimFormer's random crops: what they show, their tags, and what the network may not see."""

import os
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from wsis.core.config import changed
from wsis.core.errors import AnnotationError
from wsis.core.types import IGNORE, Instances, Sample
from wsis.data.semantic import SemanticFolder, SemanticWorld
from wsis.data.transforms import MEAN_COLOR, collate, shrunk
from wsis.data.world import World, WorldConfig
from wsis.methods import simformer
from wsis.methods.simformer.crops import random_crop

FLIP = "wsis.methods.simformer.crops.FLIP"


@pytest.fixture(autouse=True)
def _never_flipped(monkeypatch):
    monkeypatch.setattr(FLIP, 0.0)


def image(class_map, tags=None, classes=3):
    """A sample whose pixels hold 4 times their place, with a true class map."""
    class_map = torch.as_tensor(class_map, dtype=torch.uint8)
    height, width = class_map.shape
    place = torch.arange(height * width).view(1, height, width) * 4 % 256
    if tags is None:
        tags = [(class_map == i + 1).any() for i in range(classes)]
    return Sample(
        image=place.to(torch.uint8).repeat(3, 1, 1),
        image_id=1,
        tags=torch.tensor(tags, dtype=torch.bool),
        true_semantic=class_map,
    )


def crops(crop, short, long, novel=(), masks="base", tag_scope="crop"):
    """The augmentation of these settings."""
    size = {"size.crop": crop, "size.short": short, "size.long": long}
    cfg = changed(simformer.TINY, novel=novel, masks=masks, tag_scope=tag_scope, **size)
    return lambda sample, seed: random_crop(sample, seed, cfg)


def still(**values):
    """Crops without change of size, of images of 8 px on the shorter side."""
    return crops(**{"crop": 8, "short": (8,), "long": 64, **values})


def test_a_class_that_shrinking_takes_away_loses_its_tag():
    values = torch.ones(16, 64, dtype=torch.uint8)
    values[0, 0] = 2
    sample = shrunk(image(values, tags=(True, True, True)), 16)
    assert sample.tags.tolist() == [True, False, True]  # the map did not show the third before
    assert shrunk(image(values), 64).tags.tolist() == [True, True, False]
    random = crops(crop=4, short=(4,), long=64, novel=(1,))
    assert random(shrunk(image(values), 16), 0).tags.tolist() == [True, False, False]


def test_crop_is_a_part_of_the_image_and_of_its_map():
    augment = still(novel=(1,))
    values = torch.arange(8 * 20).view(8, 20) % 3 + 1
    sample, columns = image(values), set()
    for seed in range(30):
        crop = augment(sample, seed)
        assert crop.image.shape == (3, 8, 8) and crop.valid.all() and crop.true_semantic is None
        fits = [
            i
            for i in range(13)
            if torch.equal(crop.semantic_map, torch.where(values == 2, 255, values)[:, i : i + 8].byte())
        ]
        assert fits
        columns.add(fits[0])
    assert columns == {0, 1, 2}  # the pattern repeats after three columns


def test_image_moves_with_its_map(monkeypatch):
    """Color encodes the class; colors are moved alike, so that one class keeps one color."""
    values = torch.ones(12, 30, dtype=torch.uint8)
    values[3:9, 4:20] = 2
    sample = replace(image(values), image=(values * 100).repeat(3, 1, 1))
    monkeypatch.setattr(FLIP, 0.5)
    augment = crops(crop=10, short=(12,), long=40)
    for seed in range(20):
        crop = augment(sample, seed)
        found = [crop.image[:, crop.semantic_map == v] for v in (1, 2)]
        assert all((f == f[:, :1]).all() for f in found if f.shape[1])


@pytest.mark.parametrize("flip", [0.0, 1.0])
def test_small_image_lies_in_the_upper_left_corner(flip, monkeypatch):
    monkeypatch.setattr(FLIP, flip)
    values = torch.tensor([[1, 2], [3, 3], [1, 1], [2, 2]]).repeat_interleave(2, 1)
    crop = still(crop=9, short=(4,))(image(values), 3)
    valid = torch.zeros(9, 9, dtype=torch.bool)
    valid[:4, :4] = True
    assert torch.equal(crop.valid, valid)
    assert torch.equal(crop.semantic_map[:4, :4], (values.flip(1) if flip else values).byte())
    assert (crop.semantic_map[~valid] == IGNORE).all()
    assert (crop.image[:, ~valid] == torch.tensor(MEAN_COLOR)[:, None]).all()


def test_short_side_is_one_of_the_given_and_the_long_one_bounded():
    values = torch.ones(10, 20, dtype=torch.uint8)
    augment = crops(crop=64, short=(8, 12, 16, 40), long=48)
    sides = {tuple(s.any(d).sum().item() for d in (1, 0)) for s in (augment(image(values), i).valid for i in range(40))}
    assert sides == {(8, 16), (12, 24), (16, 32), (24, 48)}


def test_flip_and_colors_change_with_the_seed(monkeypatch):
    monkeypatch.setattr(FLIP, 0.5)
    values = torch.arange(1, 9).repeat(8, 1)
    crops = [still()(image(values, [True] * 8), seed) for seed in range(12)]
    assert {c.semantic_map[0, 0].item() for c in crops} == {1, 8}
    assert len({c.image.sum().item() for c in crops}) > 6


def test_same_seed_same_crop_other_seed_another():
    sample = SemanticWorld(World("train", 1, config=WorldConfig(size=48, objects=(1, 2))))[0]
    augment = crops(crop=32, short=(40, 48, 56), long=99, novel=(0, 3))
    a, b, c = (augment(sample, seed) for seed in (1, 1, 2))
    assert torch.equal(a.image, b.image) and torch.equal(a.semantic_map, b.semantic_map)
    assert not torch.equal(a.image, c.image)


def test_tags_are_of_the_crop_or_of_the_image():
    values = torch.ones(8, 10, dtype=torch.uint8)
    values[:, 0], values[:, 9] = 2, 3
    shown = set()
    for seed in range(20):
        crop = still(novel=(1, 2))(image(values), seed)
        ends = (crop.semantic_map == IGNORE).all(0)
        assert crop.tags.tolist() == [True, bool(ends[0]), bool(ends[7])]
        shown.add(tuple(crop.tags.tolist()))
        assert still(novel=(1, 2), tag_scope="image")(image(values), seed).tags.all()
    assert len(shown) == 3


def test_a_novel_tag_that_no_crop_would_see_is_refused():
    unseen = image(torch.ones(8, 10, dtype=torch.uint8), tags=[True, True, False])
    with pytest.raises(AnnotationError, match="novel class 1, .* tag_scope=image"):
        still(novel=(1, 2))(unseen, 0)
    assert still(novel=(1, 2), tag_scope="image")(unseen, 0).tags.tolist() == [True, True, False]
    assert still(novel=(2,))(unseen, 0).tags.tolist() == [True, False, False]  # a base class


def test_tags_of_an_image_do_not_depend_on_its_novel_pixels():
    values = torch.full((8, 40), 255, dtype=torch.uint8)
    values[:, 20:23] = 1
    hidden = torch.where(values == 255, 2, values)
    augment = still(novel=(1,), tag_scope="image")
    for seed in range(20):
        a, b = (augment(image(v, tags=[True, True, False]), seed) for v in (values, hidden))
        assert torch.equal(a.image, b.image) and torch.equal(a.tags, b.tags)
        assert torch.equal(a.semantic_map, b.semantic_map)


def test_crop_is_drawn_again_until_it_shows_a_class():
    values = torch.full((8, 120), 255, dtype=torch.uint8)
    values[:, 40:60] = 1
    for novel in ((), (0,)):
        for seed in range(10):
            crop = still(novel=novel, long=200)(image(values), seed)
            assert crop.tags[0] and crop.valid.all()


def test_image_without_a_class_is_made_to_fit():
    crop = still()(image(torch.full((8, 16), 255)), 0)
    assert crop.valid[:4].all() and not crop.valid[4:].any() and not crop.tags.any()


def test_the_oracle_has_masks_and_tags_of_novel_classes():
    values = torch.full((8, 8), 2, dtype=torch.uint8)
    values[0] = 0
    crop = still(masks="all", novel=(1,), tag_scope="image")(image(values, tags=[True, True, False]), 0)
    assert set(crop.semantic_map.unique().tolist()) == {2, 255} and crop.tags.tolist() == [False, True, False]
    with pytest.raises(AnnotationError, match="no class map"):
        still(masks="all")(replace(image(values), true_semantic=None), 0)


def test_crops_carry_no_truth_and_form_a_batch():
    sample = replace(image(torch.ones(8, 8)), truth=Instances.none(8, 8))
    crops = [still()(sample, seed) for seed in (0, 1)]
    assert all(c.truth is None and c.true_semantic is None and c.points is None for c in crops)
    batch = collate(crops)
    assert batch.semantic_maps.shape == (2, 8, 8) and batch.tags.shape == (2, 3) and batch.valid.all()


@pytest.mark.skipif("WSIS_PHOTOS" not in os.environ, reason="WSIS_PHOTOS is not set: no photographs")
def test_crops_of_photographs_have_some_of_their_tags():
    data = SemanticFolder(Path(os.environ["WSIS_PHOTOS"]) / "coco200", "train")
    for index in range(0, len(data), 10):
        crop = crops(crop=128, short=(128, 160), long=400, novel=(0, 100))(data[index], index)
        assert crop.tags.any() and not (crop.tags & ~data[index].tags).any()
