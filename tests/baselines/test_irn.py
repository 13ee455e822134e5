"""IRN: labels, pair losses, centroids, clusters, the walk and instances, on fields that are known."""

import pytest
import torch

from wsis.baselines import cam, irn, relation
from wsis.baselines.relation import IrnNet, RelationConfig, Relations
from wsis.core.config import changed
from wsis.core.types import IGNORE
from wsis.data.transforms import collate
from wsis.ops.random_walk import offsets

RELATION = changed(irn.TINY.relation, sharpen=0, stride=4)


def grid(height, width):
    return torch.stack(torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")).float()


def discs(centers, radius, size):
    """Ids of discs [h, w], and the displacement [1, 2, h, w] of each cell to the nearest center; far ones move nowhere near."""
    place = grid(*size)
    middle = torch.tensor(centers).float()
    distance = (place[None] - middle[:, :, None, None]).norm(dim=1)
    near, owner = distance.min(0)
    field = middle[owner].permute(2, 0, 1) - place
    return torch.where(near <= radius, owner + 1, 0), field[None]


# --- centroids and clusters


def test_field_of_a_disc_converges_to_its_center():
    ids, field = discs([(12.0, 9.0)], 6, (24, 20))
    end = relation.refined_centroids(field)
    assert torch.allclose(end, torch.tensor([12.0, 9.0]).view(1, 2, 1, 1).expand_as(end), atol=1e-4)
    shrunk = relation.refined_centroids(0.1 * field)
    assert torch.allclose(shrunk, end, atol=1e-3)


def test_cells_that_leave_the_grid_stay_at_its_border():
    end = relation.refined_centroids(torch.full((1, 2, 5, 7), 3.0))
    assert torch.equal(end[:, 0], torch.full((1, 5, 7), 4.0)) and torch.equal(end[:, 1], torch.full((1, 5, 7), 6.0))


def test_two_discs_are_two_clusters_and_a_field_without_a_middle_is_none():
    ids, field = discs([(8.0, 8.0), (8.0, 24.0)], 8, (17, 33))
    found = relation.clusters(field, 2.5)[0]
    assert found.unique().tolist() == [1, 2]
    assert found[ids > 0].equal(ids[ids > 0])
    assert not relation.clusters(torch.full((1, 2, 6, 6), 4.0), 2.5).any()


# --- losses


def test_right_relations_have_hardly_any_loss():
    labels = torch.zeros(1, 12, 12, dtype=torch.long)
    labels[:, :, 6:] = 2
    boundary = torch.zeros(1, 12, 12)
    field = torch.zeros(1, 2, 12, 12)
    field[:, :, :, 6:] = (torch.tensor([6.0, 9.0])[:, None, None] - grid(12, 12))[:, :, 6:]
    right = relation.pair_loss(Relations(boundary, field), labels, 1.5)
    assert right["displacement"] == pytest.approx(0, abs=1e-5)
    assert right["boundary"] > 1  # no boundary between the halves yet
    boundary[:, :, 5:7] = 1 - 1e-6
    between = relation.pair_loss(Relations(boundary, field), labels.where(labels != labels.roll(1, 2), IGNORE), 1.5)
    assert between["boundary"] >= 0


@pytest.mark.parametrize("label", [0, 1, IGNORE])
def test_one_label_alone_has_only_its_own_terms(label):
    torch.manual_seed(0)
    boundary, field = torch.rand(2, 8, 8).requires_grad_(), torch.randn(2, 2, 8, 8).requires_grad_()
    terms = relation.pair_loss(Relations(boundary, field), torch.full((2, 8, 8), label), 3)
    terms["total"].backward()
    assert all(torch.isfinite(value) for value in terms.values())
    assert (terms["total"] == 0) == (label == IGNORE)
    assert bool(boundary.grad.any()) == (label != IGNORE)


def test_pairs_are_of_an_object_of_the_ground_or_of_two_classes():
    labels = torch.tensor([[[0, 0, 1, 1, 2, IGNORE]]])
    object_, ground, between = cam.pairs(labels, 1.5)
    right = offsets(1.5).index((0, 1))
    assert object_[0, right, 0].tolist() == [False, False, True, False, False, False]
    assert ground[0, right, 0].tolist() == [True, False, False, False, False, False]
    assert between[0, right, 0].tolist() == [False, True, False, True, False, False]


# --- maps


class Known(torch.nn.Module):
    """Relations that are given, in place of a network."""

    def __init__(self, boundary, displacement):
        super().__init__()
        self.relations = Relations(boundary, displacement)

    def forward(self, images):
        return self.relations


def two_objects():
    """An image of 64 x 96 px with two objects of class 1, whose boundaries and centers are known, and weak activations."""
    ids, field = discs([(8.0, 6.0), (8.0, 18.0)], 5, (16, 24))
    field = torch.where((ids > 0)[None, None], field, torch.full_like(field, 9.0))
    edge = torch.zeros(1, 16, 24)
    for shift, axis in ((1, 0), (-1, 0), (1, 1), (-1, 1)):
        edge[0][(ids > 0) != (ids.roll(shift, axis) > 0)] = 1
    maps = torch.zeros(1, 3, 64, 96)
    maps[0, 1, 28:36, 20:30] = 1
    maps[0, 1, 28:36, 68:78] = 0.8
    return ids, Known(edge, field), maps, torch.zeros(1, 3, 64, 96)


def test_walk_fills_what_boundaries_enclose():
    ids, model, maps, images = two_objects()
    found = relation.class_map(model, maps, images, RELATION)[0]
    inside = torch.nn.functional.max_pool2d((ids == 0).float()[None], 5, 1, 2)[0] == 0
    small = found[2::4, 2::4]
    assert (small[inside] == 2).all() and not small[0].any() and not small[:, 0].any()


def test_objects_of_one_class_are_separate_instances():
    ids, model, maps, images = two_objects()
    found = relation.instances(model, maps, images, RELATION)
    assert found.labels.tolist() == [1, 1] and (found.scores[:1] > 0.9).all()
    centers = sorted(mask.nonzero().float().mean(0)[1].round().item() for mask in found.masks)
    assert centers[0] == pytest.approx(26, abs=3) and centers[1] == pytest.approx(74, abs=3)


def test_affinity_of_blocks_keeps_scores_in_their_block():
    edge = torch.zeros(1, 10, 11)
    edge[:, :, 5] = 1
    maps = torch.zeros(1, 2, 10, 11)
    maps[0, 0, :, :5], maps[0, 1, :, 6:] = 1, 1
    walked = relation.propagated(maps, edge, RelationConfig())
    assert torch.allclose(walked[0, 0, :, :5], torch.ones(10, 5), atol=1e-5) and not walked[0, 0, :, 6:].any()
    assert torch.allclose(walked[0, 1, :, 6:], torch.ones(10, 5), atol=1e-5) and not walked[0, 1, :, :5].any()


# --- labels


@pytest.mark.parametrize("classes", [1, 2, 45])
def test_seeds_are_classes_ground_or_unknown_for_any_number_of_classes(classes):
    maps = torch.zeros(1, classes, 8, 9)
    maps[0, -1, :, :3], maps[0, -1, :, 3:6] = 1.0, (RELATION.foreground + RELATION.background) / 2
    labels = relation.seeds(maps, torch.rand(1, 3, 8, 9), RELATION)
    assert labels[0, 0].tolist() == [classes] * 3 + [IGNORE] * 3 + [0] * 3


def test_image_without_a_class_is_ground_and_has_no_instance():
    _, model, maps, images = two_objects()
    maps.zero_()
    assert not relation.seeds(maps, images, RELATION).any()
    assert not relation.class_map(model, maps, images, RELATION).any()
    assert len(relation.instances(model, maps, images, RELATION)) == 0


def test_image_with_all_classes():
    _, model, maps, images = two_objects()
    maps = torch.rand(maps.shape, generator=torch.Generator().manual_seed(0))
    found = relation.instances(model, maps, images, RELATION)
    assert set(found.labels.tolist()) <= {0, 1, 2}
    assert relation.class_map(model, maps, images, RELATION).max() <= 3


# --- network and verbs


def test_backbone_is_frozen_and_the_mean_displacement_is_taken_off():
    net = IrnNet(RELATION, ("resnet_tiny", "random")).train()
    assert not net.backbone.training and net.boundary.training
    images = torch.rand(2, 3, 64, 96)
    first = net(images)
    assert first.boundary.shape == (2, 16, 24) and first.displacement.shape == (2, 2, 16, 24)
    net.mean += torch.tensor([1.0, -2.0])
    change = first.displacement - net(images).displacement
    assert torch.allclose(change.mean((0, 2, 3)), torch.tensor([1.0, -2.0]), atol=1e-5)
    assert all(p.grad is None and not p.requires_grad for p in net.backbone.parameters())


def test_verbs_take_tags_for_labels_and_none_for_predictions(world):
    cfg = irn.TINY.for_classes(world.classes).for_dry_run()
    model = irn.build(cfg).eval()
    batch = collate([world[0], world[1]])
    assert len(irn.pseudo_labels(model, batch, cfg)) == len(irn.predict(model, batch.images, cfg)) == 2
    for found, tags in zip(irn.pseudo_labels(model, batch, cfg), batch.tags, strict=True):
        assert tags[found.labels].all() and (found.scores.diff() <= 0).all()
    assert set(irn.explain(model, batch, cfg).steps) == {"boundary", "displacement", "centroids", "clusters"}
