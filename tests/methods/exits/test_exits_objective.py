"""EXITS' objective: each term by hand, where its gradient goes, and when it counts."""

import ast
import os
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.nn.functional import grid_sample, interpolate
from torchvision.transforms.v2.functional import normalize

from wsis.core.config import changed
from wsis.core.types import Batch, ExtremePoints
from wsis.methods.exits.config import ExitsConfig
from wsis.methods.exits.labels import TokenTargets
from wsis.methods.exits.model import Outputs
from wsis.methods.exits.objective import box_masks, box_tightness, crf_target, objective, point_loss, warmup_loss
from wsis.models.convnets import IMAGENET_MEAN, IMAGENET_STD
from wsis.ops.losses import squared_dice
from wsis.ops.mean_field import mean_field

CFG = ExitsConfig()
SIZE, SIDE, GRID = 64, 32, 8  # pixels of a crop, of its mask, tokens a side


BOXES = torch.tensor([[16.0, 12, 48, 52], [8, 8, 56, 56], [20, 10, 41, 60]])


def logits(seed=0, batch=3):
    return torch.randn(batch, SIDE, SIDE, generator=torch.Generator().manual_seed(seed), requires_grad=True)


def images(batch=3):
    return torch.rand(batch, 3, SIZE, SIZE, generator=torch.Generator().manual_seed(1))


def point_labels(empty=(False, True, False), share=0.3):
    generator = torch.Generator().manual_seed(2)
    shape = (len(empty), GRID * GRID)
    target = (torch.rand(shape, generator=generator) < 0.5).float()
    return TokenTargets(target, torch.rand(shape, generator=generator) < share, torch.tensor(empty))


def labels_at(target, labelled):
    """Labels of one crop of 2 x 2 tokens."""
    return TokenTargets(torch.tensor([target]), torch.tensor([labelled]), torch.tensor([False]))


# Boxes


@given(
    ends=st.lists(st.floats(-3, 66, width=32), min_size=4, max_size=4),
    size=st.sampled_from([64, 96]),
    side=st.sampled_from([64, 32, 48, 17, 100]),
)
@settings(max_examples=60, deadline=None)
def test_box_masks_equal_the_resized_mask(ends, size, side):
    (x0, x1), (y0, y1) = sorted(ends[:2]), sorted(ends[2:])
    pixel = torch.arange(size)
    x, y = ((pixel >= a - 0.5) & (pixel <= b + 0.5) for a, b in ((x0, x1), (y0, y1)))
    full = (y[:, None] & x).float()[None, None]
    expected = interpolate(full, (side, side), mode="bilinear", align_corners=False)[0]
    boxes = torch.tensor([[x0, y0, x1 + 1, y1 + 1]])
    torch.testing.assert_close(box_masks(boxes, size, side), expected, rtol=0, atol=1e-6)


def test_a_box_is_half_open():
    box = box_masks(torch.tensor([[3.0, 5, 11, 7]]), 16, 16)[0]
    assert box.sum() == 8 * 2
    assert box[5, 3] == box[6, 10] == 1


# Tight boxes


def test_a_mask_that_is_its_box():
    box = box_masks(BOXES, SIZE, SIZE)
    width, height = (BOXES[:, 2:] - BOXES[:, :2]).unbind(1)
    expected = sum(1 - 2 * s / (2 * s + 0.002) for s in (width, height))
    torch.testing.assert_close(box_tightness(box, box), expected, rtol=0, atol=1e-6)


def test_a_thin_cross_is_as_tight_as_the_box():
    """The known ambiguity of the term: it asks that all four sides are touched, not how."""
    box = box_masks(BOXES[:1], SIZE, SIZE)
    cross = torch.zeros_like(box)
    cross[0, 30] = box[0, 30]
    cross[0, :, 20] = box[0, :, 20]
    assert torch.equal(box_tightness(cross, box), box_tightness(box, box))


def test_no_mask_is_as_far_as_can_be():
    box = box_masks(BOXES, SIZE, SIZE)
    assert box_tightness(torch.zeros_like(box), box).tolist() == [2, 2, 2]


def test_leaving_the_box_costs():
    box = box_masks(BOXES[:1], SIZE, SIZE)
    assert box_tightness(torch.ones_like(box), box) > 0.1


def test_the_gradient_of_tight_boxes_touches_maxima_only():
    mask = logits().detach().sigmoid().requires_grad_()
    box_tightness(mask, box_masks(BOXES, SIZE, SIDE)).sum().backward()
    largest = (mask == mask.amax(1, keepdim=True)) | (mask == mask.amax(2, keepdim=True))
    assert not mask.grad[~largest].any()
    assert mask.grad[largest].ne(0).all()


# Points


@pytest.mark.parametrize("scale", [1, 2, 3, 4])
def test_center_is_the_bilinear_sample_at_the_token(scale):
    maps = torch.randn(2, 5 * scale, 5 * scale, generator=torch.Generator().manual_seed(0))
    centre = (torch.arange(5) + 0.5) / 5 * 2 - 1
    places = torch.stack(torch.meshgrid(centre, centre, indexing="xy"), -1).expand(2, -1, -1, -1)
    sampled = grid_sample(maps[:, None], places, mode="bilinear", align_corners=False).flatten(1)
    target = (sampled > 0.3).float()
    targets = TokenTargets(target, torch.ones(2, 25, dtype=torch.bool), torch.zeros(2, dtype=torch.bool))
    expected = nn.functional.binary_cross_entropy_with_logits(sampled, target)
    torch.testing.assert_close(point_loss(maps, targets), expected)


def test_points_by_hand():
    """Tokens with logits 0, 2, -1, 5 of which three count: a mean of three cross entropies."""
    maps = torch.tensor([[[0.0, 2], [-1, 5]]])
    labels = labels_at([1.0, 1, 0, 0], [True, True, True, False])
    softplus = nn.functional.softplus
    errors = [softplus(torch.tensor(v)) for v in (0.0, -2.0, -1.0)]
    torch.testing.assert_close(point_loss(maps, labels), sum(errors) / 3)


def test_crops_weigh_the_same_however_many_labels_they_have():
    maps, labels = logits(), point_labels()
    labels.labeled[1] &= torch.arange(GRID * GRID) < 8
    each = [point_loss(maps[i : i + 1], TokenTargets(*(x[i : i + 1] for x in labels))) for i in range(3)]
    torch.testing.assert_close(point_loss(maps, labels), sum(each) / 3)


def test_crops_without_labels_do_not_count():
    maps, labels = logits(), point_labels()
    labels.labeled[1] = False
    rest = [0, 2]
    expected = point_loss(maps[rest], TokenTargets(*(x[rest] for x in labels)))
    torch.testing.assert_close(point_loss(maps, labels), expected)


def test_no_label_at_all_gives_zero_and_zero_gradients():
    maps, labels = logits(), point_labels(share=0.0)
    value = point_loss(maps, labels)
    value.backward()
    assert value == 0
    assert not maps.grad.any()


def test_perfect_logits_cost_nothing():
    labels = point_labels()
    maps = interpolate((80 * labels.target - 40).view(3, 1, GRID, GRID), scale_factor=4)[:, 0]
    assert point_loss(maps, labels) == pytest.approx(0, abs=2e-3)
    assert point_loss(-maps, labels) > 0.9


def test_the_gradient_stays_at_sampled_pixels_of_labelled_tokens():
    maps, labels = logits(), point_labels()
    point_loss(maps, labels).backward()
    sampled = torch.zeros(3, GRID, 4, GRID, 4, dtype=torch.bool)
    sampled[:, :, 1:3, :, 1:3] = labels.labeled.view(3, GRID, 1, GRID, 1)
    assert torch.equal(maps.grad != 0, sampled.view(3, SIDE, SIDE))


def test_targets_of_ignored_tokens_have_no_effect():
    maps, labels = logits(), point_labels()
    other = labels._replace(target=torch.where(labels.labeled, labels.target, 1 - labels.target))
    assert torch.equal(point_loss(maps, labels), point_loss(maps, other))


# Mean field


def two_halves(step):
    """Crops [1, 3, C, C] whose right half differs by `step` ImageNet deviations in each channel."""
    image = torch.full((1, 3, SIZE, SIZE), 0.4)
    image[..., SIZE // 2 :] += step * torch.tensor(IMAGENET_STD).view(1, 3, 1, 1)
    return image


def leaning(amount):
    """Logits that take the left half for object, but for a strip of 3 pixels."""
    maps = torch.full((1, SIDE, SIDE), -amount)
    maps[..., : SIDE // 2 - 3] = amount
    return maps


def test_smoothing_moves_the_edge_to_the_colours():
    box = torch.ones(1, SIDE, SIDE)
    maps = torch.where(torch.rand(1, SIDE, SIDE, generator=torch.Generator().manual_seed(0)) < 0.8, 1.0, -1.0)
    maps[..., SIDE // 2 :] *= -1
    found = crf_target(Outputs(maps, maps), two_halves(1.0), box, CFG.crf)
    assert found[..., : SIDE // 2].all() and not found[..., SIDE // 2 :].any()


def test_colours_are_normalised_as_for_imagenet():
    box, seen, maps = torch.ones(1, SIDE, SIDE), 0.45 + 0.1 * images(1), logits(batch=1).detach()
    small = interpolate(seen, SIDE, mode="bilinear", align_corners=False)
    expected, raw = (
        mean_field(colors, maps.sigmoid(), box, **vars(CFG.crf))
        for colors in (normalize(small, list(IMAGENET_MEAN), list(IMAGENET_STD)), small)
    )
    assert torch.equal(crf_target(Outputs(maps, maps), seen, box, CFG.crf), expected)
    assert not torch.equal(raw, expected)


def test_smoothing_starts_from_the_mean_of_both_networks():
    box, seen = torch.ones(1, SIDE, SIDE), images(1)
    sure, unsure = leaning(4.0), -leaning(0.5)
    found = [crf_target(Outputs(a, b), seen, box, CFG.crf) for a, b in ((sure, unsure), (unsure, sure))]
    assert torch.equal(*found)
    assert found[0].any()
    assert not torch.equal(found[0], crf_target(Outputs(unsure, unsure), seen, box, CFG.crf))


def test_the_smoothed_mask_is_in_the_box_and_has_no_gradient():
    box = box_masks(BOXES, SIZE, SIDE)
    found = crf_target(Outputs(logits(0), logits(1)), images(), box, CFG.crf)
    assert found.dtype == torch.bool and not found.requires_grad
    assert not (found & (box == 0)).any()


# All terms


def terms_of(labels, cfg=CFG, student=None, teacher=None):
    student = logits(0) if student is None else student
    return objective(Outputs(student, logits(9).detach() if teacher is None else teacher), images(), BOXES, labels, cfg)


def test_the_total_is_the_weighted_sum():
    cfg = changed(CFG, **{"loss.mil": 3.0, "loss.point": 0.25, "loss.crf": 2.0})
    terms = terms_of(point_labels(), cfg)
    assert list(terms) == ["mil", "point", "crf", "total"]
    torch.testing.assert_close(terms["total"], 3 * terms["mil"] + 0.25 * terms["point"] + 2 * terms["crf"])


def test_terms_are_those_of_the_parts():
    student, teacher, labels = logits(0), logits(9).detach(), point_labels()
    terms, box = terms_of(labels), box_masks(BOXES, SIZE, SIDE)
    smoothed = crf_target(Outputs(student, teacher), images(), box, CFG.crf)
    torch.testing.assert_close(terms["point"], point_loss(student, labels))
    torch.testing.assert_close(terms["crf"], squared_dice(student.sigmoid(), smoothed.float()).mean())


def test_tight_boxes_count_where_nothing_was_retrieved():
    student = logits(0)
    value = terms_of(point_labels(empty=(True, False, True)), student=student)["mil"]
    each = box_tightness(student.sigmoid(), box_masks(BOXES, SIZE, SIDE))
    torch.testing.assert_close(value, (each[0] + each[2]) / 3)
    value.backward()
    assert student.grad.flatten(1).any(1).tolist() == [True, False, True]


def test_no_empty_crop_gives_zero_and_zero_gradients():
    student = logits(0)
    value = terms_of(point_labels(empty=(False,) * 3), student=student)["mil"]
    value.backward()
    assert value == 0 and not student.grad.any()


def test_boxes_alone_teach_every_crop():
    student = logits(0)
    terms = terms_of(point_labels((True,) * 3, share=0.0), student=student)
    torch.testing.assert_close(terms["mil"], box_tightness(student.sigmoid(), box_masks(BOXES, SIZE, SIDE)).mean())
    assert terms["point"] == 0


def test_nothing_flows_to_the_teacher():
    teacher = logits(9)
    terms_of(point_labels(), teacher=teacher)["total"].backward()
    assert teacher.grad is None


def test_autocast_does_not_lower_the_precision():
    plain, lowered = logits(0), logits(0)
    terms = terms_of(point_labels(), student=plain)
    terms["total"].backward()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        again = terms_of(point_labels(), student=lowered)
        again["total"].backward()
    assert all(torch.equal(terms[name], again[name]) for name in terms)
    assert torch.equal(plain.grad, lowered.grad)


def test_logits_of_half_precision():
    student = logits(0).detach().bfloat16().requires_grad_()
    terms = terms_of(point_labels(), student=student)
    assert {t.dtype for t in terms.values()} == {torch.float32}
    terms["total"].backward()
    assert student.grad.isfinite().all()


# Warm-up


def crops():
    """Three crops of one object each."""
    xy = BOXES.view(3, 2, 2)[:, [0, 0, 1, 1]] - torch.tensor([0.0, 0, 1, 1])[:, None]
    points = [ExtremePoints(xy=xy[[i]], labels=torch.tensor([0]), ids=torch.tensor([0])) for i in range(3)]
    valid = torch.ones(3, SIZE, SIZE, dtype=torch.bool)
    return Batch(images=images(), image_ids=(1, 2, 3), valid=valid, extreme_points=points)


def token_logits():
    return torch.randn(3, GRID * GRID, generator=torch.Generator().manual_seed(0), requires_grad=True)


def test_warmup_is_tightness_of_the_enlarged_tokens():
    values = token_logits()
    larger = interpolate(values.view(3, 1, GRID, GRID), scale_factor=4, mode="bilinear")[:, 0].sigmoid()
    expected = box_tightness(larger, box_masks(BOXES, SIZE, 4 * GRID)).mean()
    torch.testing.assert_close(warmup_loss(values, crops())["total"], expected)


def test_warmup_is_in_full_precision():
    values = token_logits().bfloat16()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        lowered = warmup_loss(values, crops())["total"]
    assert torch.equal(lowered, warmup_loss(values.float(), crops())["total"])


# The release

RELEASE = os.environ.get("WSIS_MAL")


@pytest.mark.skipif(not RELEASE, reason="set WSIS_MAL to a folder of MAL's release to compare with it")
def test_dice_and_tight_boxes_equal_the_release():
    tree = ast.parse((Path(RELEASE) / "models" / "mal.py").read_text())
    wanted = ("dice_loss", "mil_loss")
    found = [n for n in ast.walk(tree) if isinstance(n, ast.FunctionDef) and n.name in wanted]
    names = {"torch": torch}
    exec(compile(ast.Module(body=found, type_ignores=[]), "mal.py", "exec"), names)
    theirs = SimpleNamespace(dice_loss=lambda p, t: names["dice_loss"](None, p, t))
    mask, box = logits().detach().sigmoid(), box_masks(BOXES, SIZE, SIDE)
    torch.testing.assert_close(squared_dice(mask, box), theirs.dice_loss(mask, box))
    torch.testing.assert_close(box_tightness(mask, box), names["mil_loss"](theirs, mask, box))
