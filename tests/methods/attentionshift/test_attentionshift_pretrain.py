"""Tokens that learn to find points before a run: what supervises them when, and what is shipped."""

import pytest
import torch

from wsis.data.transforms import collate
from wsis.methods.attentionshift import TINY
from wsis.methods.attentionshift import pretrain as pretrain_points
from wsis.methods.attentionshift.model import Encoder
from wsis.methods.attentionshift.pretrain import FIRST, PointFinder, spread
from wsis.models.vit import build_vit
from wsis.weak.simulate import with_points


@pytest.fixture(scope="module")
def learner():
    torch.manual_seed(0)
    return PointFinder(16).train()


@pytest.fixture(scope="module")
def batch(world):
    return collate([with_points(world[i], "box_center") for i in range(2)])


def test_positions_are_spread_in_rows():
    table = torch.cat([torch.zeros(1, 1, 1), torch.arange(16.0).view(1, 16, 1)], 1)  # a grid of 4 x 4
    assert spread(table, 4).flatten().tolist() == [2.5, 4.5, 10.5, 12.5]


def test_at_first_only_hidden_patches_are_supervised(learner, batch):
    learner.step.zero_()
    terms = learner(batch)
    assert terms["total"] == terms["hidden"] > 0


def test_then_points_are_supervised_and_nothing_is_hidden(learner, batch):
    learner.step.fill_(FIRST)
    terms = learner(batch)
    assert terms["hidden"] == 0
    expected = terms["token_class"] + pretrain_points.PLACE * terms["token_place"]
    assert float(terms["total"].detach()) == pytest.approx(float(expected.detach()), rel=1e-6)


def test_steps_count_in_training_only(learner, batch):
    learner.step.zero_()
    learner.eval()(batch)
    assert learner.step == 0
    learner.train()(batch)
    assert learner.step == 1


def test_the_layers_start_as_the_autoencoders():
    mae = build_vit("vit_tiny", "mae").backbone
    fresh = PointFinder(2).encoder.vit.backbone
    assert all(torch.equal(p, dict(mae.named_parameters())[n]) for n, p in fresh.blocks.named_parameters("blocks"))


def test_the_shipped_encoder_is_what_the_preset_starts_from():
    shipped, fresh = Encoder(TINY), build_vit("vit_hybrid", "points")
    assert torch.equal(shipped.vit.backbone.cls_token, fresh.backbone.cls_token)
    assert shipped.tokens.shape == (1, TINY.tokens.count, shipped.width)


def test_hidden_patches_show_the_tokens_mean(learner, batch):
    encoder, n = learner.encoder.eval(), 64
    everything = torch.ones(2, n, dtype=torch.bool)
    first, second = (
        encoder(images, attention=False, hidden=everything).features for images in (batch.images, 0 * batch.images)
    )
    assert torch.equal(first, second)
