"""BESTIE's labels on discs whose answer is known: pseudo labels, refinement, clicks, decoding, inference."""

import math
from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from wsis.core.config import changed
from wsis.core.errors import ConfigError
from wsis.core.types import IGNORE, Batch, Instances, Points, Sample
from wsis.data.transforms import collate, resize
from wsis.data.world import World
from wsis.methods.bestie import FULL, decode, infer, loss, predict, pseudo_labels, targets, training_data
from wsis.methods.bestie.labels import (
    InstanceMap,
    component_instances,
    component_labels,
    kept_apart,
    point_labels,
    refined_labels,
)
from wsis.methods.bestie.model import Outputs
from wsis.methods.bestie.objective import render
from wsis.methods.bestie.stages import stages, true_cues
from wsis.weak.simulate import with_points

CFG = changed(FULL, classes=3, sigma=3.0, center_kernel=13, min_area=15)
NO_CLUSTERS = {"cluster.area": 1000}  # no disc is as large
ROW_OF_FIVE = [(20, 12 + 12 * i) for i in range(5)]


def discs(centers, radius=7, labels=None, size=(40, 96)):
    """Discs of one image, pixels of two go to the nearer center: the true InstanceMap."""
    y, x = torch.meshgrid(*(torch.arange(s) for s in size), indexing="ij")
    at = torch.tensor(centers, dtype=torch.float)
    square = (y - at[:, 0, None, None]) ** 2 + (x - at[:, 1, None, None]) ** 2
    distance, owner = square.min(0)
    labels = torch.tensor(labels or [0] * len(centers))
    return InstanceMap(
        ids=((owner + 1) * (distance <= radius**2))[None],
        image=torch.zeros_like(labels),
        labels=labels,
        centers=at,
        scores=torch.ones(len(labels)),
    )


def class_map(truth):
    return torch.cat([truth.labels.new_zeros(1), truth.labels + 1])[truth.ids]


def exact(truth, cfg=CFG, certainty=20.0):
    """What a perfect network would say of `truth`."""
    targets = render(truth, cfg)
    logits = nn.functional.one_hot(class_map(truth), cfg.classes + 1).permute(0, 3, 1, 2) * certainty
    return Outputs(logits.float(), targets.center, targets.offset)


def tags_of(truth, cfg=CFG):
    tags = torch.zeros(1, cfg.classes, dtype=torch.bool)
    tags[0, truth.labels] = True
    return tags


def refine(truth, outputs=None, cfg=CFG):
    return refined_labels(outputs or exact(truth, cfg), class_map(truth), tags_of(truth, cfg), cfg)


def same_regions(a, b):
    """Equal partitions up to numbering."""
    pairs = torch.stack((a.ids.flatten(), b.ids.flatten())).unique(dim=1)
    return pairs.shape[1] == len(pairs[0].unique()) == len(pairs[1].unique()) and [0, 0] in pairs.T.tolist()


def cues(*rows, scores=None):
    """Points from (y, x, label)."""
    rows = torch.tensor(rows, dtype=torch.float).reshape(-1, 3)
    return Points.make(rows[:, [1, 0]], rows[:, 2], scores=scores)


# Pseudo labels


def labels_of(truth, points, cfg=CFG, classes=None):
    return component_labels(class_map(truth) if classes is None else classes, points, tags_of(truth, cfg), cfg)


def test_one_component_one_cue():
    truth = discs([(20, 30)], labels=[2])
    found = labels_of(truth, cues((17, 33, 2)))
    assert torch.equal(found.ids, truth.ids)
    assert found.labels.tolist() == [2]
    assert found.centers.tolist() == [[20, 30]]  # of the component, not of the cue
    assert found.scores.tolist() == [1]


def test_every_pixel_votes_for_the_truncated_centroid():
    classes = torch.zeros(1, 12, 12, dtype=torch.long)
    classes[0, 2:6, 3:8] = classes[0, 6, 3] = 1
    found = component_labels(classes, cues((2, 3, 0)), torch.tensor([[True, False, False]]), CFG)
    y, x = classes[0].nonzero(as_tuple=True)
    target = torch.tensor([int(y.double().mean()), int(x.double().mean())], dtype=torch.float)
    offset = render(found, CFG).offset[0, :, y, x]
    assert torch.equal(torch.stack((y, x)) + offset, target[:, None].expand(2, len(y)))


@pytest.mark.parametrize(
    "points",
    [cues(), cues((20, 30, 0), (21, 31, 0)), cues((20, 30, 1)), cues((20, 50, 0)), cues((-1, 30, 0), (20, 200, 0))],
    ids=["none", "two", "other class", "beside", "outside"],
)
def test_not_exactly_one_cue(points):
    truth = discs([(20, 30)], labels=[0])
    found = labels_of(truth, points)
    assert len(found) == 0
    assert not render(found, CFG).weight.any()


def test_a_cue_of_another_class_does_not_count():
    truth = discs([(20, 30)], labels=[0])
    assert len(labels_of(truth, cues((20, 30, 0), (20, 31, 1)))) == 1


def test_cues_at_the_threshold_do_not_count():
    truth = discs([(20, 30)])
    scores = torch.tensor([0.6, 0.5])
    assert len(labels_of(truth, cues((20, 30, 0), (21, 31, 0), scores=scores))) == 1
    assert len(labels_of(truth, cues((20, 30, 0), scores=scores[1:]))) == 0


def test_a_cue_belongs_to_its_nearest_pixel():
    truth = discs([(20, 30)], radius=7)  # its rightmost pixel is x = 37
    assert len(labels_of(truth, cues((20.4, 37.4, 0)))) == 1
    assert len(labels_of(truth, cues((20.4, 37.6, 0)))) == 0
    border = discs([(0, 0)], radius=9)
    assert len(labels_of(border, cues((-0.4, -0.4, 0)))) == 1


@pytest.mark.parametrize(("area", "accepted"), [(49, 0), (50, 1)])
def test_smallest_component(area, accepted):
    classes = torch.zeros(1, 10, 10, dtype=torch.long)
    classes.view(-1)[:area] = 1
    tags = torch.tensor([[True, False, False]])
    found = component_labels(classes, cues((0, 0, 0)), tags, changed(CFG, min_area=FULL.min_area))
    assert len(found) == accepted


def test_a_diagonal_touch_is_one_component():
    classes = torch.zeros(1, 12, 12, dtype=torch.long)
    classes[0, :6, :6] = classes[0, 6:, 6:] = 1
    tags = torch.tensor([[True, False, False]])
    assert len(component_labels(classes, cues((1, 1, 0)), tags, CFG)) == 1
    assert len(component_labels(classes, cues((1, 1, 0), (9, 9, 0)), tags, CFG)) == 0


def test_ignored_pixels_and_untagged_classes_are_background():
    truth = discs([(20, 15), (20, 45), (20, 75)], labels=[0, 1, 2])
    classes = class_map(truth)
    classes[classes == 1] = IGNORE
    points = cues((20, 15, 0), (20, 45, 1), (20, 75, 2))
    found = component_labels(classes, points, torch.tensor([[True, True, False]]), CFG)
    assert found.labels.tolist() == [1]
    assert torch.equal(found.ids > 0, truth.ids == 2)


@given(order=st.permutations(range(4)))
@settings(max_examples=10, deadline=None)
def test_the_order_of_cues_does_not_matter(order):
    truth = discs([(20, 15), (20, 45), (20, 75)], labels=[0, 1, 1])
    points = cues((20, 15, 0), (22, 15, 0), (20, 45, 1), (20, 75, 1))
    a, b = labels_of(truth, points), labels_of(truth, points[torch.tensor(order)])
    assert torch.equal(a.ids, b.ids)
    assert len(a) == 2


def test_weights_sum_to_the_accepted_areas():
    truth = discs([(20, 15), (20, 45), (20, 75)], labels=[0, 1, 1])
    found = labels_of(truth, cues((20, 15, 0), (20, 75, 1)))
    accepted = (truth.ids == 1) | (truth.ids == 3)
    assert torch.equal(render(found, CFG).weight[:, 0], accepted.float())


def test_images_of_a_batch_do_not_mix():
    one, two = discs([(20, 15), (20, 60)]), discs([(20, 30)])
    classes = torch.cat([class_map(one), class_map(two)])
    points = Points.batch([cues((20, 15, 0)), cues((20, 30, 0))])
    found = component_labels(classes, points, torch.tensor([[True, False, False]]).expand(2, 3), CFG)
    assert found.image.tolist() == [0, 1]
    assert found.centers.tolist() == [[20, 15], [20, 30]]


# Refinement


@pytest.mark.parametrize(
    ("centers", "labels"),
    [
        ([(20, 20)], [0]),
        ([(20, 20), (20, 32)], [0, 0]),
        (ROW_OF_FIVE, [1] * 5),
        ([(20, 20), (20, 32), (20, 60)], [0, 2, 2]),
    ],
    ids=["one", "two touching", "five touching", "two classes touching"],
)
@pytest.mark.parametrize("cluster", [{}, NO_CLUSTERS], ids=["clusters", "peaks alone"])
def test_perfect_outputs_give_the_truth(centers, labels, cluster):
    truth, cfg = discs(centers, labels=labels), changed(CFG, **cluster)
    found = refine(truth, cfg=cfg)
    assert same_regions(found, truth)
    a, b = render(found, cfg), render(truth, cfg)
    torch.testing.assert_close(a, b, rtol=0, atol=1e-6)


def test_what_the_pseudo_label_rejects_is_recovered():
    truth = discs([(20, 20), (20, 32)])
    assert len(labels_of(truth, cues((20, 20, 0), (20, 32, 0)))) == 0
    assert len(refine(truth)) == 2


def test_six_touching_discs_are_left_out():
    truth = discs([(20, 8 + 12 * i) for i in range(6)] + [(20, 88)], labels=[0] * 6 + [1])
    found = refine(truth)
    assert found.labels.tolist() == [1]
    targets = render(found, CFG)
    assert torch.equal(targets.weight[0, 0] > 0, truth.ids[0] == 7)
    assert not targets.center[0, 0].any()


def six_centers_five_winners(loser):
    """Six touching discs; the pixels of number `loser` vote for its neighbor."""
    truth = discs([(20, 8 + 12 * i) for i in range(6)])
    outputs, lost = exact(truth), truth.ids[0] == loser + 1
    neighbor = loser - 1 if loser else 1
    moved = truth.centers[neighbor] - truth.centers[loser]
    return truth, outputs._replace(offset=outputs.offset + moved[:, None, None] * lost)


@pytest.mark.parametrize(("loser", "found"), [(5, 5), (0, 0)])
def test_the_release_counts_the_largest_number_in_use(loser, found):
    """Centers come in raster order: the last loses its pixels and five numbers are in use, or the first."""
    cfg = changed(CFG, **NO_CLUSTERS)
    truth, outputs = six_centers_five_winners(loser)
    assert len(refine(truth, outputs, cfg)) == 0
    assert len(refine(truth, outputs, changed(cfg, compat="official"))) == found


def test_a_center_without_pixels_draws_nothing():
    """All vote for the first of two peaks of class 1; the second draws on no map."""
    cfg = changed(CFG, **NO_CLUSTERS)
    truth = discs([(20, 20), (20, 32)], labels=[1, 1])
    outputs = exact(truth)
    to_first = outputs.offset + torch.tensor([0.0, -12])[:, None, None] * (truth.ids == 2)
    found = refine(truth, outputs._replace(offset=to_first), cfg)
    assert found.centers.tolist() == [[20, 20]]
    center = render(found, cfg).center[0]
    assert center.sum((1, 2)).gt(0).tolist() == [False, True, False]
    assert (center[1] == 1).sum() == 1


def test_a_region_whose_center_went_elsewhere_points_to_the_component():
    """A bar whose right end votes for a peak that the rest does not own."""
    size = (21, 64)
    classes = torch.zeros(1, *size, dtype=torch.long)
    classes[0, 5:16] = 1
    peaks = torch.tensor([[10.0, 10], [10, 30]])
    bar = InstanceMap(
        ids=classes, image=torch.zeros(2).long(), labels=torch.zeros(2).long(), centers=peaks, scores=torch.ones(2)
    )
    target = torch.where(torch.arange(64)[:, None] < 45, peaks[0], peaks[1])  # (W, 2)
    y, x = torch.meshgrid(*(torch.arange(s) for s in size), indexing="ij")
    offset = (target.T[:, None] - torch.stack((y, x)))[None]
    probability = 0.8
    semantic = torch.full((1, 4, *size), -30.0)
    semantic[:, 0], semantic[:, 1] = torch.tensor([1 - probability, probability]).log()[:, None, None]
    cfg = changed(CFG, **NO_CLUSTERS)
    outputs = Outputs(semantic, render(bar, cfg).center * 0.9, offset)
    found = refined_labels(outputs, classes, torch.tensor([[True, False, False]]), cfg)
    assert found.centers.tolist() == [[10, 10], [10, 31]]  # columns 0..63, rows 5..15
    torch.testing.assert_close(found.scores, torch.tensor([0.9 * probability, probability]))


def test_clustering_finds_what_the_heat_misses():
    truth = discs([(20, 20), (20, 60)])
    outputs = exact(truth)
    weak = outputs._replace(center=outputs.center * torch.where(torch.arange(96) < 40, 0.2, 0.04))
    found = refine(truth, weak)
    assert found.centers.tolist() == [[20, 20]]  # heat 0.04 is below min_heat
    assert found.scores.item() == pytest.approx(1, abs=1e-5)
    assert len(refine(truth, weak, changed(CFG, **NO_CLUSTERS))) == 0


def test_a_hole_in_the_middle_hides_the_clustered_center():
    """A disc without its center pixel: the offsets meet where the object is not, as in the release."""
    truth = discs([(20, 30)], radius=12)
    truth.ids[0, 20, 30] = 0
    outputs = certain(truth, 0.96)
    outputs = outputs._replace(center=outputs.center * 0.2)
    assert len(refine(truth, outputs)) == 0
    nearest = 0.2 * math.exp(-1 / (2 * CFG.sigma**2))  # the heat of the four pixels around the hole
    assert decode(outputs, None, CFG).instances.scores.max().item() == pytest.approx(nearest * 0.96)


def random_outputs(seed, size=(40, 48)):
    generator = torch.Generator().manual_seed(seed)
    coarse = [torch.randn(2, c, 5, 6, generator=generator) for c in (4, 3, 2)]
    maps = [nn.functional.interpolate(m, size, mode="bilinear") for m in coarse]
    classes = nn.functional.interpolate(torch.randn(2, 4, 5, 6, generator=generator), size).argmax(1)
    return Outputs(maps[0], maps[1], 6 * maps[2]), classes


@pytest.mark.parametrize("seed", range(4))
def test_weights_are_fractions_on_tagged_foreground(seed):
    outputs, classes = random_outputs(seed)
    tags = torch.tensor([[True, False, True], [False, True, False]])
    found = refined_labels(outputs, classes, tags, CFG)
    weight = render(found, CFG).weight[:, 0]
    assert weight.min() >= 0
    assert weight.max() <= 1
    assert weight.any()
    allowed = torch.cat([torch.zeros(2, 1, dtype=torch.bool), tags], 1)
    assert not weight[~allowed[torch.arange(2)[:, None, None], classes]].any()
    assert tags[found.image, found.labels].all()
    assert set(found.ids.unique().tolist()) <= set(range(len(found) + 1))
    assert len(found.ids.unique()) - 1 == len(found)


def test_refinement_has_no_history_and_no_chance():
    outputs, classes = random_outputs(0)
    outputs = Outputs(*(x.requires_grad_() for x in outputs))
    tags = torch.ones(2, 3, dtype=torch.bool)
    first, second = (refined_labels(outputs, classes, tags, CFG) for _ in range(2))
    assert not any(v.requires_grad for v in vars(first).values())
    assert all(torch.equal(v, getattr(second, k)) for k, v in vars(first).items())


def test_heat_above_one_does_not_raise_the_weight():
    truth = discs([(20, 20)])
    outputs = exact(truth)
    assert refine(truth, outputs._replace(center=outputs.center * 3)).scores.item() <= 1


def test_nothing_in_the_image():
    truth = discs([(20, 20)])
    found = refined_labels(exact(truth), torch.zeros_like(truth.ids), tags_of(truth), CFG)
    assert len(found) == 0
    assert not found.ids.any()


def test_class_agnostic_centers():
    """One component of two classes: the parts get their own majority class."""
    cfg = changed(CFG, center_mode="class_agnostic")
    truth = discs([(20, 20), (20, 32)], labels=[0, 2])
    found = refine(truth, cfg=cfg)
    assert render(truth, cfg).center.shape[1] == 1
    assert same_regions(found, truth)
    assert found.labels.tolist() == [0, 2]


# Clicks


def clicked(truth, order=None, cfg=CFG, outputs=None, refining=True):
    points = Points.make(truth.centers.flip(1), truth.labels)
    points = points if order is None else points[torch.tensor(order)]
    return point_labels(outputs or exact(truth), class_map(truth), points, cfg, refining=refining)


def test_one_region_per_click():
    truth = discs([(20, 20), (20, 32), (20, 60), (20, 80)], labels=[0, 0, 0, 2])
    found = clicked(truth)
    assert torch.equal(found.ids, truth.ids)
    assert torch.equal(found.labels, truth.labels)
    assert torch.equal(render(found, CFG).offset, render(truth, CFG).offset)
    assert torch.equal(render(found, CFG).weight[:, 0], (truth.ids > 0).float())


def test_scores_of_clicks_are_class_probabilities():
    truth = discs([(20, 20), (20, 32), (20, 60)], labels=[0, 0, 2])
    outputs = certain(truth, 0.8)
    torch.testing.assert_close(clicked(truth, outputs=outputs, refining=False).scores, torch.full((3,), 0.8))
    assert clicked(truth, outputs=outputs).scores.tolist() == [1, 1, 1]


@given(order=st.permutations(range(4)))
@settings(max_examples=10, deadline=None)
def test_permuted_clicks_permute_the_regions(order):
    truth = discs([(20, 20), (20, 32), (20, 60), (20, 80)], labels=[0, 0, 0, 2])
    found = clicked(truth, order)
    number = torch.tensor([0, *(1 + order.index(i) for i in range(4))])
    assert torch.equal(found.ids, number[truth.ids])


def test_clicks_reach_over_the_whole_class_map():
    """An object in two pieces is one region; a piece without a click goes to the nearest vote."""
    truth = discs([(20, 20), (20, 60)])
    one = Points.make(torch.tensor([[20.0, 20]]), torch.tensor([0]))
    found = point_labels(exact(truth), class_map(truth), one, CFG)
    assert torch.equal(found.ids > 0, truth.ids > 0)


def test_the_release_loses_clicks_on_the_border():
    truth = discs([(0, 20), (20, 60)])
    assert len(clicked(truth)) == 2
    assert clicked(truth, cfg=changed(CFG, compat="official")).centers.tolist() == [[20, 60]]
    assert len(clicked(truth, cfg=changed(CFG, compat="official"), refining=False)) == 2, "labels are one per click"


def test_clicks_on_a_predicted_map():
    truth = discs([(20, 20), (20, 60)], labels=[0, 1])
    points = Points.make(truth.centers[:1].flip(1), truth.labels[:1])
    found = point_labels(exact(truth), None, points, CFG)
    assert torch.equal(found.ids > 0, truth.ids == 1)  # class 1 has no click, so it is not there


# Decoding


def test_exact_maps_give_exact_masks():
    truth = discs([(20, 20), (20, 32), (20, 70)], labels=[0, 0, 2])
    found = decode(exact(truth), None, CFG).instances
    assert same_regions(found, truth)
    assert found.labels.tolist() == [0, 0, 2]
    torch.testing.assert_close(found.scores, torch.ones(3))


def certain(truth, probability):
    """Exact maps, with this probability of the right class on every object."""
    margin = torch.tensor(probability / (1 - probability)).log()
    outputs = exact(truth)
    semantic = torch.where(outputs.semantic > 0, margin, -40.0)
    semantic[:, 0] = 0
    return outputs._replace(semantic=semantic)


def test_scores_are_center_times_class():
    truth = discs([(20, 20)])
    outputs = certain(truth, 0.8)
    found = decode(outputs._replace(center=outputs.center * 0.5), None, CFG).instances
    assert found.scores.item() == pytest.approx(0.5 * 0.8)


def test_scores_beyond_one_are_ranked_before_they_are_clamped():
    truth = discs([(20, 20), (20, 70)], labels=[0, 1], size=(32, 96))
    outputs = exact(truth)
    outputs = outputs._replace(center=outputs.center * torch.where(torch.arange(96) < 45, 1.2, 1.5))
    assert decode(outputs, None, CFG).instances.scores.tolist() == pytest.approx([1.2, 1.5])
    (found,) = predict(Fixed(outputs), torch.rand(1, 3, 32, 96), CFG)
    assert found.scores.tolist() == [1, 1] and found.labels.tolist() == [1, 0]


def test_scores_of_clustered_centers_are_squared():
    truth = discs([(20, 20)])
    outputs = certain(truth, 0.8)
    found = decode(outputs._replace(center=outputs.center * 0.09), None, CFG).instances
    assert found.scores.item() == pytest.approx(0.8**2)


def test_components_without_a_center():
    truth = discs([(20, 20), (20, 60)], labels=[0, 1])
    outputs = certain(truth, 0.8)
    cold = outputs._replace(center=outputs.center * torch.where(torch.arange(96) < 40, 1.0, 0.04))
    kept = decode(cold, None, CFG).instances
    assert same_regions(kept, truth)
    assert kept.scores.tolist() == pytest.approx([0.8, 0.04 * 0.8])
    dropped = decode(cold, None, changed(CFG, keep_centerless=False)).instances
    assert torch.equal(dropped.ids > 0, truth.ids == 1)


def test_tags_remove_classes():
    truth = discs([(20, 20), (20, 60)], labels=[0, 1])
    found = decode(exact(truth), torch.tensor([[False, True, True]]), CFG).instances
    assert found.labels.tolist() == [1]


def test_more_than_five_are_found_at_inference():
    truth = discs([(20, 8 + 12 * i) for i in range(6)])
    assert same_regions(decode(exact(truth), None, CFG).instances, truth)


# Inference


class Fixed(nn.Module):
    """Says the same whatever it sees, and remembers the sizes of what it saw."""

    def __init__(self, outputs):
        super().__init__()
        self.outputs, self.sizes = outputs, []

    def forward(self, images):
        self.sizes.append(tuple(images.shape[-2:]))
        return self.outputs


class Equivariant(nn.Module):
    """A mirrored image has mirrored maps: classes and centers are colors, offsets slopes of color."""

    def forward(self, images):
        padded = nn.functional.pad(images.mean(1, keepdim=True), (1, 1, 1, 1), mode="replicate")
        dy = padded[..., 2:, 1:-1] - padded[..., :-2, 1:-1]
        dx = padded[..., 1:-1, 2:] - padded[..., 1:-1, :-2]
        return Outputs(torch.cat([images, 1 - images[:, :1]], 1), images, 9 * torch.cat([dy, dx], 1))


class Lopsided(Equivariant):
    """Offsets that lean to the right."""

    def forward(self, images):
        outputs = super().forward(images)
        return outputs._replace(offset=outputs.offset + torch.tensor([0.0, 2.0])[:, None, None])


@pytest.fixture
def images():
    return torch.rand(2, 3, 32, 64, generator=torch.Generator().manual_seed(0))


def test_predict_gives_exact_masks():
    truth = discs([(20, 20), (20, 32), (20, 70)], labels=[0, 0, 2], size=(32, 96))
    (found,) = predict(Fixed(exact(truth)), torch.rand(1, 3, 32, 96), CFG)
    assert sorted(found.masks.flatten(1).tolist()) == sorted(truth.unbind()[0].masks.flatten(1).tolist())


@pytest.mark.parametrize("enlarged", [1, 3])
def test_lengths_of_instances_hold_at_the_size_that_the_network_sees(enlarged):
    """A second peak in the window of the first and a component that is too small are no instances of a larger image."""
    truth = discs([(15, 20), (15, 70)], size=(32, 96))
    outputs = exact(truth)
    outputs.center[0, 0, 15, 26] = 0.5
    outputs.semantic[0, :, 4:7, 44:47] = torch.tensor([0.0, 20.0, 0.0, 0.0])[:, None, None]
    cfg = changed(CFG, size__test_long_side=96, **NO_CLUSTERS)
    (found,) = predict(Fixed(outputs), torch.rand(1, 3, 32 * enlarged, 96 * enlarged), cfg)
    assert len(found) == 2


@pytest.mark.parametrize(
    ("size", "long_side", "seen"), [((33, 64), 0, (64, 64)), ((30, 60), 128, (64, 128)), ((64, 32), 0, (64, 32))]
)
def test_sides_are_multiples_of_32(size, long_side, seen):
    model = Fixed(Outputs(*(torch.zeros(1, c, *seen) for c in (4, 3, 2))))
    outputs = infer(model, torch.rand(1, 3, *size), changed(CFG, size__test_long_side=long_side))
    assert model.sizes == [seen]
    assert {tuple(x.shape[-2:]) for x in outputs} == {size}


@pytest.mark.parametrize(("compat", "too_far"), [("clean", 0), ("official", 1 / 3)])
def test_offsets_follow_the_size(compat, too_far):
    """32 x 64 maps shown at 24 x 48: votes meet in the center; as released they overshoot by a third."""
    truth = discs([(15, 31)], radius=14, size=(32, 64))
    outputs = infer(Fixed(exact(truth)), torch.rand(1, 3, 24, 48), changed(CFG, compat=compat))
    place = torch.stack(torch.meshgrid(torch.arange(24), torch.arange(48), indexing="ij"))
    center = torch.tensor([15.5 * 0.75 - 0.5, 31.5 * 0.75 - 0.5])[:, None, None]
    inner = (place - center).square().sum(0) < 8**2
    error = place + outputs.offset[0] - center
    expected = (center - place) * too_far
    torch.testing.assert_close(error[:, inner], expected[:, inner], rtol=0, atol=1e-4)


def test_a_flip_changes_nothing_for_an_equivariant_network(images):
    plain, flipped = (infer(Equivariant(), images, changed(CFG, flip=f)) for f in (False, True))
    torch.testing.assert_close(plain.semantic.softmax(1), flipped.semantic.softmax(1))
    torch.testing.assert_close(plain.center, flipped.center)
    torch.testing.assert_close(plain.offset, flipped.offset)


def test_the_release_averages_all_but_the_offsets(images):
    straight = infer(Equivariant(), images, CFG).offset
    clean = infer(Lopsided(), images, changed(CFG, flip=True)).offset
    released = infer(Lopsided(), images, changed(CFG, flip=True, compat="official")).offset
    torch.testing.assert_close(clean, straight)  # the lean cancels out
    torch.testing.assert_close(released, straight + torch.tensor([0.0, 2.0])[:, None, None])


def test_a_flip_survives_impossible_classes(images):
    class Sure(Equivariant):
        def forward(self, images):
            return super().forward(images)._replace(semantic=1000 * super().forward(images).semantic)

    outputs = infer(Sure(), images[..., :60], changed(CFG, flip=True))
    assert outputs.semantic.isfinite().all()


# The verbs


def test_clicks_of_classes_without_a_tag_are_not_drawn():
    truth = discs([(15, 20), (15, 60)], labels=[0, 1], size=(32, 96))
    points = Points.make(truth.centers.flip(1), truth.labels)
    cfg, terms = changed(CFG, supervision="points", loss={"iag": False}), []
    for clicks in (points[:1], points):
        batch = Batch(
            images=torch.rand(1, 3, 32, 96),
            image_ids=(1,),
            valid=torch.ones(1, 32, 96, dtype=torch.bool),
            tags=torch.tensor([[True, False, False]]),
            points=clicks,
            semantic_maps=class_map(truth),
        )
        terms.append(loss(Fixed(exact(truth)), batch, targets(None, batch, cfg), cfg))
    assert terms[0] == terms[1]


def test_pseudo_labels_need_labels():
    batch = Batch(images=torch.rand(1, 3, 32, 32), image_ids=(1,), valid=torch.ones(1, 32, 32, dtype=torch.bool))
    with pytest.raises(ValueError, match="semantic_maps, points and tags"):
        pseudo_labels(None, batch, CFG)
    with pytest.raises(ValueError, match="need points"):
        pseudo_labels(Equivariant(), batch, changed(CFG, supervision="points"))


def test_a_clicked_pixel_belongs_to_its_own_mask_whatever_the_network_says():
    ids = torch.zeros(1, 4, 6, dtype=torch.long)
    ids[:, :, :3] = 1  # all of the left half to the first click, nothing to the second
    points = Points.make(torch.tensor([[0.0, 0.0], [2.0, 3.0]]), torch.tensor([0, 1]), ids=torch.tensor([7, 9]))
    rows = {"image": points.image, "labels": points.labels, "centers": points.centers, "scores": points.scores}
    (masks,) = InstanceMap(ids=ids, **rows).unbind(points)
    assert masks.ids.tolist() == [7, 9] and masks.labels.tolist() == [0, 1]
    assert masks.masks.flatten(1).sum(1).tolist() == [11, 1] and masks.masks[1, 3, 2]


def test_of_two_clicks_on_one_pixel_both_masks_have_it():
    ids = torch.zeros(1, 4, 6, dtype=torch.long)
    ids[:, :, :3] = 1
    points = Points.make(torch.tensor([[2.0, 3.0], [2.2, 2.9]]), torch.tensor([0, 1]), ids=torch.tensor([7, 9]))
    rows = {"image": points.image, "labels": points.labels, "centers": points.centers, "scores": points.scores}
    (masks,) = InstanceMap(ids=ids, **rows).unbind(points)
    assert masks.masks.flatten(1).sum(1).tolist() == [12, 1] and masks.masks[:, 3, 2].all()


def test_a_click_between_pixels_counts_for_the_nearest():
    points = Points.make(torch.tensor([[2.7, 1.2]]), torch.tensor([0]))
    rows = {"image": points.image, "labels": points.labels, "centers": points.centers, "scores": points.scores}
    (masks,) = InstanceMap(ids=torch.zeros(1, 4, 6, dtype=torch.long), **rows).unbind(points)
    assert masks.masks[0].nonzero().tolist() == [[1, 3]]


def test_the_release_differs_where_it_says():
    cfg = changed(FULL, compat="official")
    assert [training_data(World(length=0), c).augment.pad_value for c in (FULL, cfg)] == [IGNORE, 0]


# Bounds: what the class map alone gives, and true labels in the form of a class map


def test_each_component_may_be_one_instance():
    truth = discs([(20, 20), (20, 32), (20, 70), (3, 93)], radius=6, labels=[0, 0, 1, 2])
    found = component_instances(exact(truth).semantic, changed(CFG, min_area=100))
    assert found.labels.tolist() == [0, 1]  # two discs touch, and what the border cuts is too small
    assert torch.equal(found.ids > 0, (truth.ids > 0) & (truth.ids < 4))
    assert found.scores.min() > 0.99
    assert len(found.unbind()[0]) == 2


@pytest.mark.parametrize("shrink", [1.0, 0.35])
def test_true_maps_with_a_line_between_objects_are_true_labels(shrink):
    truth = discs([(60, 60), (60, 120), (60, 200)], radius=32, size=(120, 260))
    masks = truth.ids[0] == torch.arange(1, 4)[:, None, None]
    image = torch.zeros(3, 120, 260, dtype=torch.uint8)
    sample = Sample(image=image, image_id=1, truth=Instances.make(masks, truth.labels), tags=tags_of(truth)[0])
    sample = replace(sample, true_semantic=class_map(truth)[0].to(torch.uint8))
    sample = with_points(replace(sample, semantic_map=kept_apart(sample)), "mask_centroid")
    batch = collate([resize(sample, round(260 * shrink))])
    labels = component_labels(batch.semantic_maps, batch.points, batch.tags, CFG)
    assert len(labels) == 3
    assert torch.allclose(labels.centers, batch.points.centers, atol=2)


def test_without_objects_there_is_nothing_to_keep_apart():
    empty = torch.zeros(8, 8, dtype=torch.uint8)
    sample = Sample(image=torch.zeros(3, 8, 8, dtype=torch.uint8), image_id=1, truth=Instances.none(8, 8))
    assert torch.equal(kept_apart(replace(sample, true_semantic=empty)), empty)


def test_true_cues_are_one_per_object_and_need_neither_classifier_nor_points():
    world = World("train", 4, 0)
    for sample in (world[i] for i in range(4)):
        cues = true_cues(sample)
        x, y = cues.xy.long().unbind(1)
        assert len(cues) == len(sample.truth) and (cues.scores == 1).all()
        assert sample.truth.masks[torch.arange(len(cues)), y, x].all()
    names = [s.name for s in stages(changed(FULL, **{"cues.source": "truth"}))]
    assert "cues" in names and "classifier" not in names
    with pytest.raises(ConfigError, match="oracle"):
        true_cues(replace(world[0], truth=None))
