"""AttentionShift put together: targets, objective, verbs, degenerate images."""

import math
from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch

from wsis.core.config import changed, flatten
from wsis.core.errors import AnnotationError
from wsis.core.types import Instances, Points, Sample
from wsis.data import World
from wsis.data.transforms import ShortSide, collate, short_side
from wsis.methods import attentionshift
from wsis.methods.attentionshift import baseline, divisible
from wsis.methods.attentionshift.config import FULL, TINY
from wsis.methods.attentionshift.labels import (
    Labels,
    box_pixels,
    find_labels,
    mask_targets,
    match_tokens,
    point_targets,
    true_labels,
    with_key_points,
)
from wsis.methods.attentionshift.maps import PaddedPoints, pad_points
from wsis.methods.attentionshift.objective import mask_term, mil_term, point_term, token_terms
from wsis.methods.attentionshift.parts import KeyPoints
from wsis.methods.attentionshift.stages import boxed, measured_at, on_objects, summary, train_network
from wsis.methods.attentionshift.verbs import label_groups, masks_in_boxes, rescaled, with_owners

SIDE = 64
SMALL = changed(
    TINY,
    classes=3,
    weights="random",
    **{"tokens.count": 20, "heads.rois": 8, "heads.proposals": 20, "size.test_short": SIDE, "network.steps": 2},
)


def clicks(xy, labels, present=None):
    xy, labels = torch.tensor(xy), torch.tensor(labels)
    present = torch.ones_like(labels, dtype=torch.bool) if present is None else torch.tensor(present)
    return PaddedPoints(xy.float(), labels, torch.zeros_like(labels), present)


def image(objects, size=SIDE):
    """An image of noise with clicks at the given places."""
    generator = torch.Generator().manual_seed(0)
    xy = torch.tensor([o[:2] for o in objects]).float().reshape(-1, 2)
    labels = torch.tensor([o[2] for o in objects], dtype=torch.long)
    pixels = torch.randint(0, 256, (3, size, size), dtype=torch.uint8, generator=generator)
    return Sample(image=pixels, image_id=1, points=Points.make(xy, labels, ids=torch.arange(len(labels)) + 7))


@pytest.fixture(scope="module")
def model():
    torch.manual_seed(0)
    return attentionshift.build(SMALL)


def squares(boxes, size=32):
    """Maps that are 1 in boxes and 0 elsewhere: [1, G, size, size]."""
    return box_pixels(torch.tensor(boxes).float(), (size, size)).float()[None]


def labels_of(foreground, boxes, key_points=None):
    boxes = torch.tensor(boxes).float()[None]
    maps = {"attention": foreground, "foreground": foreground, "background": 1 - foreground}
    return Labels(boxes=boxes, chosen=torch.zeros(boxes.shape[:2], dtype=torch.long), **maps, key_points=key_points)


# clicks


def test_clicks_are_padded_in_order():
    points = Points.make(torch.arange(1.0, 7).view(3, 2), torch.tensor([0, 1, 2]), image=torch.tensor([2, 0, 2]))
    result = pad_points(points, 3)
    assert result.present.tolist() == [[True, False], [False, False], [True, True]]
    assert result.xy[2].tolist() == [[1, 2], [5, 6]]
    assert result.labels[0, 0] == 1


def test_no_click_at_all():
    result = pad_points(Points.make(torch.zeros(0, 2), torch.zeros(0)), 2)
    assert result.xy.shape == (2, 0, 2)


# what supervises the masks


def test_box_pixels_are_half_open():
    inside = box_pixels(torch.tensor([[1.0, 2, 4, 3]]), (5, 6))[0]
    assert inside.nonzero().tolist() == [[2, 1], [2, 2], [2, 3]]


def test_points_without_parts_are_background_and_the_click():
    result = labels_of(squares([[8, 8, 24, 24]]), [[4, 4, 28, 28]], KeyPoints(*no_key_points()))
    xy, target, counts = point_targets(result, clicks([[[16.0, 16]]], [[0]]), TINY)
    assert counts[0, 0].any()
    inner = squares([[8, 8, 24, 24]])[0, 0].bool()
    x, y = xy[counts].long().unbind(1)
    assert torch.equal(inner[y, x], target[counts])
    assert xy[0, 0, -1].tolist() == [16, 16]
    assert counts[0, 0, -1]


def no_key_points(count=2):
    return torch.zeros(1, 1, count, 2), torch.zeros(1, 1, count, dtype=torch.bool)


def test_key_points_take_the_place_of_sampled_object_points():
    keys = KeyPoints(torch.tensor([[[[10.0, 10], [0, 0]]]]), torch.tensor([[[True, False]]]))
    result = labels_of(squares([[8, 8, 24, 24]]), [[4, 4, 28, 28]], keys)
    xy, target, counts = point_targets(result, clicks([[[16.0, 16]]], [[0]]), TINY)
    assert xy[counts & target].tolist() == [[10, 10]]
    assert (counts & ~target).any()


def test_the_oracle_learns_from_true_boxes_and_masks():
    result = labels_of(squares([[8, 8, 24, 24], [0, 0, 8, 8]]), [[4, 4, 28, 28], [0, 0, 9, 9]])
    owners = torch.zeros(1, 32, 32, dtype=torch.long)
    owners[0, 10:14, 20:30] = 1  # the second object has no pixel
    truth = true_labels(result, owners[:, None] == torch.arange(1, 3)[:, None, None])
    assert truth.boxes.tolist() == [[[20, 10, 30, 14], [0, 0, 9, 9]]]
    masks, counts = mask_targets(truth, changed(TINY, **{"mask.supervision": "mask"}))
    assert torch.equal(masks[0, 0], owners[0] == 1)
    assert torch.equal(masks[0, 1], squares([[0, 0, 8, 8]])[0, 0].bool())
    assert counts.all()


def test_the_oracle_of_boxes_keeps_the_rest(model):
    batch = collate([replace(image([(10, 10, 0), (40, 40, 1)]), semantic_map=torch.zeros(SIDE, SIDE).byte())])
    batch.semantic_maps[0, 4:20, 8:32] = 1  # the second object has no pixel
    (_, plain), (_, known) = (next(label_groups(model, batch, changed(SMALL, oracle=o))) for o in ("none", "boxes"))
    assert known.boxes[0].tolist() == [[8, 4, 32, 20], plain.boxes[0, 1].tolist()]
    assert torch.equal(known.attention, plain.attention)
    assert not known.foreground[0, 0, 32:].any()


def test_key_points_on_their_objects():
    masks = torch.zeros(2, 20, 40, dtype=torch.bool)
    masks[0, :, :10], masks[1, 10:] = True, True
    truth = Instances.make(masks, torch.zeros(2, dtype=torch.long), ids=torch.tensor([5, 3]))
    xy = torch.tensor([[[[1.0, 7], [6, 2], [0, 0]], [[2, 2], [9, 9], [0, 0]]]])  # of an image of half the size
    points = KeyPoints(xy, torch.tensor([[[True, True, False], [True, False, False]]]))
    ratio, ids = torch.full((4,), 2.0), torch.tensor([3, 5])
    assert on_objects(points, ratio, ids, truth).tolist() == [True, False, True]
    assert not len(on_objects(points, ratio, ids, None))


def test_the_oracle_finds_objects_by_their_ids_small_ones_in_front():
    masks = torch.zeros(3, SIDE, SIDE, dtype=torch.bool)
    masks[0, :20, :20], masks[1, :5, :5], masks[2, 40:, 40:] = True, True, True
    truth = Instances.make(masks, torch.zeros(3, dtype=torch.long), ids=torch.tensor([8, 7, 3]))
    owners = with_owners(replace(image([(2, 2, 0), (10, 10, 0)]), truth=truth)).semantic_map  # with the ids 7 and 8
    assert (owners[2, 2], owners[10, 10], owners[50, 50]) == (1, 2, 0)
    nameless = replace(image([(2, 2, 0)]), truth=truth, points=Points.make(torch.ones(1, 2), torch.zeros(1)))
    with pytest.raises(AnnotationError, match="clicks without ids"):
        with_owners(nameless)


def test_masks_in_given_boxes(model):
    images, boxes = torch.rand(1, 3, 80, 100), torch.tensor([[10.0, 20, 60, 70], [0, 0, 30, 30]])
    masks = masks_in_boxes(model, images, boxes, torch.tensor([0, 2]), SMALL).decode()
    assert masks.shape == (2, 80, 100)
    assert not (masks & ~box_pixels(boxes + torch.tensor([-3, -3, 3, 3]), (80, 100))).any()


def test_absent_objects_have_no_points():
    result = labels_of(squares([[8, 8, 24, 24]]), [[4, 4, 28, 28]], KeyPoints(*no_key_points()))
    assert not point_targets(result, clicks([[[16.0, 16]]], [[0]], [[False]]), TINY)[2].any()


def test_the_baselines_points_are_sure_in_its_own_map():
    attention = torch.linspace(0, 1, 32).expand(1, 1, 32, 32)
    result = labels_of(attention, [[0, 0, 32, 32]])
    xy, target, counts = point_targets(result, clicks([[[16.0, 16]]], [[0]]), baseline(TINY))
    x = xy[..., 0] / 31
    assert (x[counts & target] > 0.2).all()
    assert (x[counts & ~target] < 0.05).all()


def test_points_repeat_for_the_same_generator():
    result = labels_of(squares([[8, 8, 24, 24]]), [[4, 4, 28, 28]], KeyPoints(*no_key_points()))
    at = clicks([[[16.0, 16]]], [[0]])
    first, second = (torch.manual_seed(3) and point_targets(result, at, TINY)[0] for _ in range(2))
    assert torch.equal(first, second)


def test_the_baseline_ignores_what_is_between():
    attention = ((torch.arange(100) + 0.5) / 100).expand(1, 1, 4, 100)
    masks, counts = mask_targets(labels_of(attention, [[0, 0, 100, 4]]), baseline(TINY))
    assert masks[0, 0, 0].nonzero()[0] == 20
    ignored = (~counts[0, 0, 0]).nonzero()[:, 0]
    assert (ignored.min(), ignored.max()) == (10, 19)


def test_pseudo_masks_stay_in_their_boxes():
    result = labels_of(squares([[0, 0, 32, 32]]), [[4, 6, 20, 12]])
    masks, counts = mask_targets(result, TINY)
    assert torch.equal(masks[0, 0], box_pixels(torch.tensor([4.0, 6, 20, 12]), (32, 32)))
    assert counts.all()


# the objective


REGION = torch.tensor([[0.0, 0, 32, 32]]), torch.tensor([0])


def points(xy, target):
    xy = torch.tensor(xy).float()[None]
    return xy, torch.tensor(target)[None].bool(), torch.ones(xy.shape[:2], dtype=torch.bool)


def test_a_linear_map_is_read_exactly():
    place = torch.arange(8) * 4 + 1.5  # centers of eight cells in a region of 32 pixels
    logits = (0.1 * place).expand(1, 8, 8)
    result = point_term(logits, *REGION, *points([[7.0, 12.0]], [1]))
    assert float(result) == pytest.approx(math.log1p(math.exp(-0.7)), abs=1e-6)


def test_a_point_at_a_cells_center_reads_that_cell():
    logits = torch.randn(1, 8, 8, generator=torch.Generator().manual_seed(0)).requires_grad_()
    term = point_term(logits, *REGION, *points([[5.5, 9.5]], [0]))
    term.backward()
    assert logits.grad.abs().gt(1e-6).nonzero().tolist() == [[0, 2, 1]]


def test_points_outside_the_region_do_not_count():
    logits = torch.randn(1, 8, 8).requires_grad_()
    term = point_term(logits, *REGION, *points([[40.0, 9.5]], [1]))
    term.backward()
    assert float(term.detach()) == 0
    assert not logits.grad.any()


def test_a_sure_and_right_mask_costs_nothing():
    masks = box_pixels(torch.tensor([[0.0, 0, 16, 32]]), (32, 32))
    logits = torch.full((1, 8, 8), -50.0)
    logits[..., :4] = 50
    term = mask_term(logits, *REGION, masks, torch.ones_like(masks))
    assert float(term) < 1e-6


def test_pixels_that_do_not_count_have_no_gradient():
    masks = box_pixels(torch.tensor([[0.0, 0, 16, 32]]), (32, 32))
    logits = torch.zeros(1, 8, 8, requires_grad=True)
    mask_term(logits, *REGION, masks, ~masks).backward()
    assert not logits.grad[..., :4].any()
    assert logits.grad[..., 4:].all()


@pytest.mark.parametrize("classes", [2, 5])
def test_mil_of_zero_logits(classes):
    """Every candidate and class the same: the sum over candidates is 1 / C."""
    scores = torch.full((3, 7, classes), 1 / (7 * classes))
    expected = -(math.log(1 / classes) + (classes - 1) * math.log(1 - 1 / classes)) / classes
    assert float(mil_term(scores, torch.tensor([0, 1, 1]))) == pytest.approx(expected, rel=1e-5)


def test_a_token_at_the_click_of_its_class_matches_it():
    logits, place = torch.full((1, 4, 2), -4.0), torch.full((1, 4, 2), 0.9)
    logits[0, 2, 1], place[0, 2] = 4.0, torch.tensor([0.25, 0.5])
    targets, sizes = clicks([[[8.0, 16]]], [[1]]), torch.tensor([[32.0, 32]])
    assert match_tokens(logits, place, targets, sizes).tolist() == [[2]]
    terms = token_terms(logits, place, targets, sizes)
    assert float(terms["token_place"]) == 0
    assert float(terms["token_class"]) < 0.01


def test_images_without_objects_supervise_the_background():
    logits = torch.zeros(1, 4, 2, requires_grad=True)
    targets = pad_points(Points.make(torch.zeros(0, 2), torch.zeros(0)), 1)
    terms = token_terms(logits, torch.zeros(1, 4, 2), targets, torch.tensor([[32.0, 32]]))
    terms["token_class"].backward()
    assert (logits.grad > 0).all()
    assert float(terms["token_place"]) == 0


def test_key_points_are_targets_of_their_objects_class():
    at = clicks([[[1.0, 1], [2, 2]]], [[0, 2]], [[True, True]])
    keys = KeyPoints(torch.tensor([[[[5.0, 5]], [[6.0, 6]]]]), torch.tensor([[[False], [True]]]))
    result = with_key_points(at, keys, TINY.tokens)
    more = result.present[0, 2:]
    assert result.xy[0, 2:][more].tolist() == [[6, 6]]
    assert result.labels[0, 2:][more].tolist() == [2]
    assert with_key_points(at, keys, replace(TINY.tokens, feedback=False)) is at


def test_targets_never_outnumber_tokens():
    at = clicks([[[1.0, 1], [2, 2]]], [[0, 2]])
    keys = KeyPoints(torch.zeros(1, 2, 6, 2), torch.ones(1, 2, 6, dtype=torch.bool))
    result = with_key_points(at, keys, replace(TINY.tokens, count=5, max_key_points=50))
    assert result.present.sum() == 5


@pytest.mark.parametrize("classes, layers, says", [(1, 2, True), (1, 1, False), (2, 2, False)])
def test_a_training_of_one_class_says_that_no_layer_is_chosen(classes, layers, says, capsys, tmp_path):
    cfg = changed(SMALL, classes=classes, **{"boxes.layers": layers, "statistics.times": 0})
    workspace = SimpleNamespace(cfg=cfg, train=World("train", 1), fit=lambda *_: None, path=tmp_path.joinpath)
    assert train_network(workspace) == {}
    assert ("boxes.layers=1" in capsys.readouterr().out) == says


def test_an_image_has_as_many_key_points_alone_as_beside_a_crowded_one():
    at = clicks(torch.zeros(2, 5, 2).tolist(), [[0] * 5] * 2, [[True] * 5, [True] + [False] * 4])
    keys = KeyPoints(torch.zeros(2, 5, 6, 2), torch.ones(2, 5, 6, dtype=torch.bool))
    result = with_key_points(at, keys, replace(TINY.tokens, count=5, max_key_points=50))
    assert result.present.sum(1).tolist() == [5, 5], "no room in the first, four key-points in the second"


# all of it


TERMS = {"token_class", "token_place", "mil", "objectness", "proposal_box", "roi_class", "roi_box", "mask", "total"}


def step(model, batch, cfg):
    """The terms of one training step with the settings `cfg`."""
    model.train().cfg = cfg
    torch.manual_seed(0)
    return attentionshift.loss(model, batch, attentionshift.targets(model, batch, cfg), cfg)


CASES = {
    "nothing": [],
    "one": [(30, 30, 0)],
    "twelve": [(5 * k, 60 - 4 * k, k % 3) for k in range(12)],
    "in the corners": [(0, 0, 0), (63, 63, 1), (63, 0, 2), (0, 63, 0)],
    "twice the same": [(20, 20, 1), (20, 20, 1)],
}


@pytest.mark.parametrize("name", CASES)
def test_every_image_gives_finite_terms(name, model):
    batch = collate([image(CASES[name]), image([(10, 50, 2)])])
    terms = step(model, batch, SMALL)
    assert set(terms) == TERMS
    assert all(term.isfinite() for term in terms.values()), terms


@pytest.mark.parametrize("name", CASES)
def test_every_click_gets_a_mask(name, model):
    sample = image(CASES[name])
    result = attentionshift.pseudo_labels(model.eval(), collate([sample]), SMALL)[0]
    assert result.ids.tolist() == sample.points.ids.tolist()
    x, y = sample.points.xy.long().unbind(1)
    assert result.masks[torch.arange(len(result)), y, x].all()
    assert result.scores.isfinite().all()


@pytest.mark.parametrize(
    "changes",
    [
        {"mask.supervision": "mask"},
        {"parts.shift": "kmeans", "parts.filter": False},
        {"compat": "official"},
        {"refine": False, "parts.shift": "none"},
        {"boxes.mode": "tight"},
    ],
    ids=str,
)
def test_switches(changes, model):
    batch = collate([image(CASES["one"]), image(CASES["twelve"])])
    terms = step(model, batch, changed(SMALL, **changes))
    assert all(term.isfinite() for term in terms.values())


def test_images_of_two_sizes(model):
    terms = step(model, collate([image([(40, 40, 0)], 50), image([(9, 9, 1)], 40)]), SMALL)
    assert terms["total"].isfinite()


def test_labels_repeat(model):
    batch = collate([image(CASES["twelve"])])
    first, second = (attentionshift.pseudo_labels(model.eval(), batch, SMALL)[0].masks for _ in range(2))
    assert torch.equal(first, second)


def test_the_baseline_is_three_switches():
    was, now = flatten(FULL), flatten(baseline(FULL))
    assert {k for k in was if was[k] != now[k]} == {"refine", "parts.shift", "tokens.feedback"}


def test_predictions_have_the_images_size(model):
    result = attentionshift.predict(model.eval(), torch.rand(2, 3, 50, 70), SMALL)
    assert [f.masks.shape[1:] for f in result] == [(50, 70)] * 2
    assert all(((f.scores >= 0) & (f.scores <= 1)).all() for f in result)


# sizes


def test_short_side_keeps_the_aspect():
    assert short_side((100, 200), 50, 1000) == (50, 100)
    assert short_side((100, 200), 50, 60) == (30, 60)


def test_points_move_with_the_image():
    sample = image([(15, 31, 0)])
    changed_sample = ShortSide(short=(128,), long=512, flip=0.0)(sample, 0)
    assert changed_sample.image.shape[-2:] == (128, 128)
    assert changed_sample.points.xy.tolist() == [[30.5, 62.5]]
    flipped = ShortSide(short=(64,), long=512, flip=1.0)(sample, 0)
    assert flipped.points.xy.tolist() == [[48, 31]]
    assert torch.equal(flipped.image, sample.image.flip(2))


def test_padding_is_no_part_of_the_image():
    batch = divisible(collate([image([], 50)]), 16)
    assert batch.images.shape[-2:] == (64, 64)
    assert batch.valid[0].sum() == 2500


def test_a_smaller_image_keeps_its_clicks():
    batch = rescaled(collate([image([(0, 63, 0)])]), replace(SMALL, size=replace(SMALL.size, test_short=32)))
    assert batch.images.shape[-2:] == (32, 32)
    assert batch.points.xy.tolist() == [[-0.25, 31.25]]


def test_a_mask_has_the_pixel_of_its_click():
    result = attentionshift.pseudo_labels(None, collate([image([(3.4, 0, 0), (63.4, 63.5, 1)])]), SMALL)[0]
    assert result.masks.nonzero().tolist() == [[0, 0, 3], [1, 63, 63]]


@pytest.mark.parametrize("change", [{}, {"parts.shift": "kmeans"}], ids=str)
def test_labels_are_made_in_fp32_under_autocast(model, change):
    cfg, batch = changed(SMALL, **change), collate([image(CASES["twelve"])])
    at = pad_points(batch.points, 1)
    with torch.no_grad():
        encoded = model.eval().encoder(batch.images)
        candidates = torch.rand(1, 2, 12, 8, 8), 4 * torch.tensor([0.0, 0, 9, 9]).expand(1, 2, 12, 4)
    expected, mixed = (labels_under(a, encoded, candidates, at, batch.valid, cfg) for a in (False, True))
    assert all(torch.equal(mixed.steps[name], expected.steps[name]) for name in expected.steps)


def labels_under(autocast, encoded, candidates, at, valid, cfg):
    torch.manual_seed(0)
    with torch.autocast("cpu", dtype=torch.bfloat16, enabled=autocast):
        return find_labels(encoded, candidates, torch.zeros(1, 12, dtype=torch.long), at, valid, cfg)


def test_nothing_beyond_a_small_image_of_a_batch_is_labeled(model):
    """A click near the border of an image of 40 pixels, which its batch pads to 64: 48 are whole pairs of patches."""
    batch, cfg = (
        collate([image([(38, 20, 0), (20, 38, 1)], 40), image([(30, 30, 2)])]),
        changed(SMALL, **{"parts.filter": False}),
    )
    at, size = pad_points(batch.points, 2), batch.images.shape[-1]
    with torch.no_grad():
        encoded = model.eval().encoder(batch.images)
        encoded = encoded._replace(features=encoded.features.clone())
        encoded.features[0, :, :, 6:] = encoded.features[0, :, 2:3, 4:5]  # padding that is similar to the object
        labels = model.label(encoded, batch.valid, at, cfg)[0]
        tight = model.label(encoded, batch.valid, at, changed(cfg, **{"boxes.mode": "tight"}))[0]
    beyond = torch.ones(size, size, dtype=torch.bool)
    beyond[:48, :48] = False
    masks, _ = mask_targets(labels, changed(cfg, **{"mask.supervision": "mask"}))
    xy, _, counts = point_targets(labels, at, cfg)
    assert labels.boxes[0].max() <= 48 and tight.boxes[0].max() <= 48 and labels.boxes[1, 0].max() > 48
    assert not masks[0, :, beyond].any() and masks[0].any()
    assert xy[0][counts[0]].max() < 48 and labels.steps["cosine"][:, 0, :, :, 6:].abs().max() == 0
    assert labels.key_points.xy[0][labels.key_points.present[0]].max() < 48


def test_the_oracle_learns_from_true_masks_without_refinement():
    result = labels_of(squares([[8, 8, 24, 24]]), [[4, 4, 28, 28]])
    owners = torch.zeros(1, 32, 32, dtype=torch.long)
    owners[0, 10:14, 20:30] = 1
    truth = true_labels(result, owners[:, None] == 1)
    masks, _ = mask_targets(truth, changed(TINY, refine=False, **{"mask.supervision": "mask"}))
    assert torch.equal(masks[0, 0], owners[0] == 1)


# measurements


def test_measurements_start_at_the_start():
    assert measured_at(changed(TINY, **{"network.steps": 100, "statistics.times": 4})) == {0, 25, 50, 75}
    assert measured_at(changed(TINY, **{"statistics.times": 0})) == set()


def test_the_summary_leaves_out_the_start():
    names = ("foreground_background_patches", "inter_class", "intra_class")
    curve = [{"step": s, **dict.fromkeys(names, v)} for s, v in enumerate((9.0, 1.0, 2.0, 3.0, 4.0))]
    result = summary(curve)
    assert (result["inter_class"], result["intra_class_early"], result["intra_class_end"]) == (2.5, 1.5, 4.0)


def test_a_batch_without_points():
    batch = replace(collate([image([])]), points=None)
    with pytest.raises(ValueError, match="needs points"):
        attentionshift.pseudo_labels(None, batch, SMALL)


def test_boxes_as_masks():
    objects = Instances.make(torch.zeros(1, 64, 48, dtype=torch.bool), torch.zeros(1))
    result = boxed(objects, torch.tensor([[8.0, 10, 30, 20]])).masks
    assert result[0, 10:20, 8:30].all() and result.sum() == 220


MANY = [(x, y, (x + y) % 3) for y in range(3, 63, 10) for x in range(3, 63, 8)]  # 48 clicks for 20 tokens


def test_more_clicks_than_tokens_take_turns(model):
    """Every click gets its mask, in order; those of the first turn are what they are alone, and one image may need fewer."""
    model.eval()
    together = attentionshift.pseudo_labels(model, collate([image(MANY), image(MANY[:30])]), SMALL)
    (first,) = attentionshift.pseudo_labels(model, collate([image(MANY[:20])]), SMALL)
    (alone,) = attentionshift.pseudo_labels(model, collate([image(MANY)]), SMALL)
    assert [labels.ids.tolist() for labels in together] == [list(range(7, 55)), list(range(7, 37))]
    assert torch.equal(alone.masks[:20], first.masks) and len(alone) == 48
    assert all(mask[y, x] for mask, (x, y, _) in zip(alone.masks, MANY, strict=True))


class Crowded:
    classes, category_ids = ("a", "b", "c"), (1, 2, 3)

    def __len__(self):
        return 1

    def __getitem__(self, index):
        return image(MANY)


def test_a_step_shows_as_many_clicks_as_there_are_tokens():
    data = attentionshift.training_data(Crowded(), SMALL)
    first, again, other = (data[0, seed, 0].points.ids.tolist() for seed in (1, 1, 2))
    assert len({*first}) == 20 and first == again != other
