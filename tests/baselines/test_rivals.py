"""RIB and RETAB: pooling, tuning, companions, contours and the two stages of the walk, on maps that are known."""

import pytest
import torch
from torch import nn

from wsis.baselines import cam, irn, retab, rib
from wsis.core.config import changed
from wsis.core.types import IGNORE, Batch
from wsis.ops.random_walk import offsets
from wsis.training.schedule import Schedule

TUNING = rib.TuningConfig(schedule=Schedule(3, 4, "sgd", 0.1, "constant"))
RETAB = changed(retab.TINY, radius=3.0, hops=60)


# --- RIB


def test_pooling_leaves_out_what_is_discriminative():
    logits = torch.tensor([[[[4.0, 1.0], [-2.0, 2.0]]]])
    assert rib.pooled(logits, 0.5).item() == pytest.approx((1 - 2) / 4)
    assert rib.pooled(logits, 2.0).item() == pytest.approx(logits.mean().item())
    assert rib.pooled(-logits.abs(), 0.5).item() == pytest.approx(-logits.abs().mean().item())


class Pixels(nn.Module):
    """One weight for each of three classes: maps are the first channel times them."""

    def __init__(self):
        super().__init__()
        self.head = nn.Parameter(torch.ones(3))

    def forward(self, images):
        return images[:, :1] * self.head[:, None, None]


def tuned(tags, cfg=TUNING, images=None):
    model = Pixels()
    images = torch.rand(3, 3, 4, 4, generator=torch.Generator().manual_seed(0)) if images is None else images
    rows = torch.tensor([tags, [False, True, False], [False, False, False]])
    batch = Batch(images=images, image_ids=(0, 1, 2), valid=torch.ones(3, 4, 4, dtype=torch.bool), tags=rows)
    start, seen = {"head": torch.tensor([1.0, 2.0, 3.0])}, []

    def maps(network):
        seen.append(network.head.detach().clone())
        return network(images[:1]).detach() * rows[0][:, None, None]

    return rib.tuned_maps(model, start, batch, maps, cfg), seen


def test_tuning_starts_from_the_classifier_and_raises_the_logits_of_tags():
    maps, seen = tuned([True, False, False])
    assert torch.equal(seen[0], torch.tensor([1.0, 2.0, 3.0])) and len(seen) == 4
    assert seen[-1][0] > 1 and seen[-1][1] > 2  # of the image's tag, and of another's
    assert seen[-1][2] == 3
    assert maps.shape == (1, 3, 4, 4) and not maps[:, 1:].any() and 0.99 < maps[:, 0].max() <= 1


def test_tuning_stops_at_a_logit_and_at_a_share_of_the_map():
    assert len(tuned([True, True, False], changed(TUNING, stop_logit=0.01))[1]) == 1
    assert len(tuned([True, True, False], changed(TUNING, stop_share=0.0, stop_level=0.0))[1]) == 2


@pytest.mark.parametrize("tags", [[False] * 3, [True] * 3, [False, True, False]])
def test_tuning_of_images_with_none_all_and_one_of_the_classes(tags):
    maps, _ = tuned(tags)
    assert maps.isfinite().all() and (maps.amax((0, 2, 3)) > 0).tolist() == tags


def test_companions_share_no_class_where_there_are_enough():
    tags = torch.zeros(20, 5, dtype=torch.bool)
    tags[:10, 0], tags[10:, 1:3], tags[15:, 0] = True, True, True
    assert set(rib.companions(tags, 0, 5, seed=1)) <= set(range(10, 15))
    more = rib.companions(tags, 0, 7, seed=1)
    assert set(range(10, 15)) < set(more) and 0 not in more
    assert len(rib.companions(tags, 0, 100, seed=1)) == 19
    assert rib.companions(tags, 0, 4, seed=1) == rib.companions(tags, 0, 4, seed=1)


# --- base masks


def test_known_pixels_clamp_activations():
    maps = torch.full((1, 4, 1, 4), 0.5)
    known = torch.tensor([[[1, IGNORE, 3, 0]]])
    out = cam.clamped(maps, known, novel=(1,))
    assert out[0, :, 0].T.tolist() == [[1, 0, 0, 0], [0, 0.5, 0, 0], [0, 0, 1, 0], [0, 0.5, 0, 0]]


@pytest.mark.parametrize(("background", "expected"), [(False, [1, IGNORE, 2, IGNORE]), (True, [1, 0, 2, IGNORE])])
def test_labels_are_completed_by_what_is_known(background, expected):
    labels, known = torch.tensor([[[2, 0, 2, IGNORE]]]), torch.tensor([[[1, IGNORE, IGNORE, IGNORE]]])
    assert cam.completed(labels, known, background)[0, 0].tolist() == expected


# --- RETAB


def test_contours_are_the_cells_beside_another_label():
    known = torch.full((1, 6, 9), IGNORE)
    known[:, :, :3], known[:, :, 3:6] = 1, 2
    edge, inner = retab.contours(known)
    assert edge[0, 0].tolist() == [False, False, True, True, False, True, True, False, False]
    assert inner[0, 0].tolist() == [True, True, False, False, True, False, False, False, False]


def test_agreement_of_two_backgrounds():
    maps = torch.zeros(1, 30, 1, 3)
    maps[0, 20] = torch.tensor([1.0, 0.1, 0.0])
    labels = retab.agreed(maps, torch.rand(1, 3, 1, 3), changed(RETAB, sharpen=0))
    assert labels[0, 0].tolist() == [21, IGNORE, 0]


def test_affinity_is_one_for_equal_features_and_symmetric():
    features = torch.rand(1, 5, 4, 4, generator=torch.Generator().manual_seed(0))
    found = retab.affinities(features, 1.5)
    assert torch.allclose(retab.affinities(torch.ones(1, 5, 4, 4), 1.5)[:, 0, :, :-1], torch.ones(1, 4, 3))
    right = offsets(1.5).index((0, 1))
    expected = (-(features[0, :, 1, 1] - features[0, :, 1, 2]).abs().mean()).exp()
    assert found[0, right, 1, 1] == pytest.approx(expected.item(), abs=1e-6)


def test_second_stage_leaves_cells_off_the_contours_as_they_are():
    """And those reach no other block: the contour parts them; on it, cells take from both sides."""
    edge = torch.zeros(1, 8, 9, dtype=torch.bool)
    edge[:, :, 4] = True
    maps = torch.zeros(1, 2, 8, 9)
    maps[0, 0, 2, 1] = maps[0, 1, 5, 7] = 1
    affinity = torch.ones(1, len(offsets(1.5)), 8, 9)
    cfg = changed(RETAB, radius=1.5)
    once = retab.two_stage_walk(maps, affinity, edge, changed(cfg, hops=0))
    assert torch.equal(once[0], maps) and torch.equal(once[1], maps)
    first, out = retab.two_stage_walk(maps, affinity, edge, cfg)
    assert not out[0, 0, :, 5:].any() and not out[0, 1, :, :4].any()
    assert (out[0, :, :, 4] > 0).all() and (out[0, 0, :, :4] > 0).all()
    assert torch.equal(first[0, :, ~edge[0]], out[0, :, ~edge[0]])
    _, none = retab.two_stage_walk(maps, affinity, torch.zeros_like(edge), cfg)
    assert (none > 0).all()


def test_losses_of_networks_that_are_right_are_small_and_have_gradients():
    maps = torch.full((1, 32, 64), IGNORE)
    maps[:, :, :32], maps[:, :, 32:] = 1, 5
    valid = torch.ones(1, 32, 64, dtype=torch.bool)
    batch = Batch(images=torch.zeros(1, 3, 32, 64), image_ids=(0,), valid=valid, semantic_maps=maps)
    edge = torch.zeros(1, 1, 8, 16)
    edge[..., 7:9] = 1
    assert retab.boundary_loss(lambda _: 20 * (2 * edge - 1), batch, 0)["total"] < 1e-6
    assert retab.boundary_loss(lambda _: -20 * (2 * edge - 1), batch, 0)["total"] > 30
    features = torch.zeros(1, 2, 8, 16)
    features[..., 8:] = 30.0
    good = retab.affinity_loss(lambda _: features, batch, 0, radius=3.0)["total"]
    assert good < 1e-3 < retab.affinity_loss(lambda _: 0 * features, batch, 0, radius=3.0)["total"]
    network = retab.GridNet(RETAB, ("resnet_tiny", "random"), 1)
    retab.boundary_loss(network, replace_size(batch), 0)["total"].backward()
    assert network.branch.head[-1].weight.grad.any()


def replace_size(batch):
    """The batch with an image that a network may see."""
    maps = batch.semantic_maps.repeat(2, 2, 1)
    size = maps.shape
    images = torch.rand(size[0], 3, *size[1:])
    return Batch(images=images, image_ids=(0, 1), valid=torch.ones(size, dtype=torch.bool), semantic_maps=maps)


def test_padding_makes_no_contour():
    maps = torch.full((1, 32, 64), 1)
    maps[:, :, 32:] = IGNORE
    valid = torch.ones(1, 32, 64, dtype=torch.bool)
    valid[:, :, 32:] = False
    batch = Batch(images=torch.zeros(1, 3, 32, 64), image_ids=(0,), valid=valid, semantic_maps=maps)
    assert retab.boundary_loss(lambda _: torch.full((1, 1, 8, 16), -20.0), batch, 0)["total"] < 1e-6


def test_presets_are_the_same_algorithm():
    assert irn.TINY.relation.power == irn.FULL.relation.power == 10 and rib.TINY.relation.hops == 256
