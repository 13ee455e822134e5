"""SimFormer's network and what its proposals are taught: shapes, targets, matching, and each loss by hand."""

import math
from itertools import permutations

import pytest
import torch
from torch import nn
from torch.nn.functional import one_hot

from wsis.core.config import changed
from wsis.core.errors import ConfigError
from wsis.methods.simformer.config import FULL, TINY
from wsis.methods.simformer.labels import Targets, find_targets, semantic_scores
from wsis.methods.simformer.model import MaskFormer, PixelDecoder, sine_positions
from wsis.methods.simformer.objective import class_loss, complement_loss, mask_costs, mask_loss, match
from wsis.ops.losses import dice, focal
from wsis.training.schedule import make_optimizer

CFG = changed(TINY, classes=6, **{"weights": "random", "decoder.queries": 5})
NOVEL = (4, 5)
SURE = 20.0  # a logit


def randn(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def images(*shape, seed=0):
    return torch.rand(*shape, generator=torch.Generator().manual_seed(seed))


@pytest.fixture(scope="module")
def network():
    torch.manual_seed(0)
    return MaskFormer(CFG)


# The network


@pytest.mark.parametrize("height, width", [(64, 64), (96, 64)])
def test_shapes(network, height, width):
    out = network(images(2, 3, height, width))
    assert out.logits.shape == (3, 2, 5, 7)
    assert out.masks.shape == (3, 2, 5, height // 4, width // 4)
    assert out.pixels.shape == (2, 64, height // 4, width // 4)


def test_the_published_size():
    parts = dict(MaskFormer(changed(FULL, **{"weights": "random"})).named_parameters())
    d, f = 256, 2048
    counts = {
        name: sum(p.numel() for n, p in parts.items() if n.startswith(name)) for name in ("layers", "label", "mask")
    }
    assert counts["layers"] == 6 * (2 * 4 * (d * d + d) + (d * f + f) + (f * d + d) + 3 * 2 * d)
    assert counts["label"] == (d + 1) * 172 and counts["mask"] == 3 * (d + 1) * d
    assert parts["positions"].shape == (100, d)


def test_a_gradient_for_all_but_the_attention_among_equal_queries():
    """Before the first layer all queries are 0, so what they see of each other does not depend on who looks."""
    network = MaskFormer(CFG)
    for module in network.backbone.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.ones_(module.weight)  # random backbones start with residual branches at 0
    nn.init.normal_(network.layers[0].to_queries.in_proj_bias)  # at first what they see is 0
    out = network(images(2, 3, 64, 64))
    (out.logits.square().sum() + out.masks.square().sum()).backward()
    without = {n for n, p in network.named_parameters() if p.grad is None or not p.grad.any()}
    assert without <= {"layers.0.to_queries.in_proj_weight"}


def test_masks_compare_queries_with_pixels(network):
    kept = []
    hook = network.mask.register_forward_hook(lambda m, given, made: kept.append(made))
    out = network(images(1, 3, 64, 64))
    hook.remove()
    product = kept[0][2, 0, 3] @ out.pixels[0, :, 5, 7]
    torch.testing.assert_close(out.masks[2, 0, 3, 5, 7], product)


def test_positions_alone_tell_queries_apart():
    network = MaskFormer(CFG).eval()
    assert network(images(1, 3, 64, 64)).logits.std(2).max() > 1e-3
    network.positions.data[:] = network.positions.data[0]
    assert network(images(1, 3, 64, 64)).logits.std(2).max() < 1e-5


def test_the_shared_norm_is_not_what_the_next_layer_gets():
    network, feature = MaskFormer(CFG).eval(), randn(1, 128, 2, 3)
    before = network._queries(feature)
    network.norm.weight.data *= 2
    torch.testing.assert_close(network._queries(feature), 2 * before)


def test_the_pixel_decoder_sees_every_level():
    decoder, features = (PixelDecoder([8, 16, 24], 32), [randn(1, 8 * i, 16 // 2**i, 16 // 2**i) for i in (1, 2, 3)])
    for feature in features:
        feature.requires_grad_()
    made = decoder(features)
    made[0, :, 4, 4].sum().backward()
    assert made.shape == (1, 32, 8, 8)
    assert all(f.grad.any() for f in features)


def test_positions_of_cells():
    code = sine_positions(4, 6, channels=8, device=torch.device("cpu")).view(4, 6, 8)
    torch.testing.assert_close(code[0, :, :2], torch.tensor([1.0, 0.0]).expand(6, 2), atol=1e-6, rtol=0)  # a quarter
    torch.testing.assert_close(code[3, 5], torch.tensor([0, 1, math.sin(math.tau / 100), math.cos(math.tau / 100)] * 2))
    assert (code[1, :, :4] == code[1, :1, :4]).all() and (code[:, 1, 4:] == code[:1, 1, 4:]).all()


def test_sides_that_are_no_multiples_of_32(network):
    with pytest.raises(ValueError, match="64 x 80"):
        network(images(1, 3, 64, 80))


def test_fp32_under_autocast(network):
    with torch.autocast("cpu", torch.bfloat16):
        assert {o.dtype for o in network(images(1, 3, 64, 64))[:3]} == {torch.float32}


def test_rates_and_decay_of_the_optimizer(network):
    schedule = changed(CFG.network, lr=1e-3, new_lr=10.0)
    groups = make_optimizer(network, schedule).param_groups
    of = {id(p): (g["lr"], g["weight_decay"]) for g in groups for p in g["params"]}
    assert of[id(network.positions)] == (1e-2, 0.0)
    assert of[id(network.label.weight)] == (1e-2, schedule.weight_decay)
    assert {of[id(p)][0] for p in network.backbone.parameters()} == {1e-3}


# Targets


def quarters(a, b, c, d, side=16):
    """A map whose four quarters have these values, long [1, side, side]."""
    blocks = torch.tensor([[[a, b], [c, d]]])
    return blocks.repeat_interleave(side // 2, 1).repeat_interleave(side // 2, 2)


def targets_of(maps, tags, novel=NOVEL):
    """Targets of images without padding."""
    return find_targets(maps, torch.ones_like(maps, dtype=torch.bool), tags, novel)


def tagged(*labels):
    return one_hot(torch.tensor(labels), 6).any(0)[None]


def test_base_classes_of_the_map_and_novel_tags():
    maps = torch.cat([quarters(3, 1, 255, 5), quarters(2, 2, 0, 255)])
    tags = torch.cat([tagged(0, 2, 3, 4, 5), tagged(0)])  # label 3 is not in the map, and neither is 0 in the second
    found = targets_of(maps, tags)
    assert found.labels.tolist() == [[0, 2, 4, 5], [1, 0, 0, 0]]
    assert found.present.tolist() == [[True] * 4, [True, False, False, False]]
    assert found.has_mask.tolist() == [[True, True, False, False], [True, False, False, False]]
    assert torch.equal(found.masks[0, :2], (maps[0] == torch.tensor([1, 3])[:, None, None]).float())
    assert torch.equal(found.masks[1, 0], (maps[1] == 2).float())
    assert not found.masks[0, 2:].any() and not found.masks[1, 1:].any()
    assert found.masked.tolist() == [0, 1, 4] and found.unmasked.tolist() == [2, 3]


def test_targets_with_a_mask_come_first():
    assert targets_of(quarters(3, 3, 3, 3), tagged(0), (0,)).labels.tolist() == [[2, 0]]


def test_without_novel_classes_all_have_masks():
    found = targets_of(quarters(3, 1, 255, 5), tagged(1, 4), ())
    assert found.labels.tolist() == [[0, 2, 4]] and found.has_mask.all() and not len(found.unmasked)


def test_nothing_to_teach():
    """One target that is not there; all queries should be no object, no mask is taught."""
    targets = targets_of(quarters(0, 255, 255, 255), tagged(3))
    assert targets.labels.shape == (1, 1) and not targets.present.any()
    logits, masks = torch.zeros(2, 1, 5, 7), randn(2, 1, 5, 4, 4)
    found = match(logits, masks, targets, CFG.loss)
    assert (found == -1).all()
    torch.testing.assert_close(class_loss(logits, found, targets, CFG.loss), torch.tensor(2 * math.log(7)))
    losses = *mask_loss(masks, found, targets), *complement_loss(masks, found, targets, CFG.loss)
    assert all(loss == 0 for loss in losses)


# Focal and dice


def test_a_perfect_mask_costs_nothing():
    wanted = (randn(3, 99) > 0).float()
    logits = SURE * (2 * wanted - 1)
    assert focal(logits, wanted).max() < 1e-6
    assert dice(logits.sigmoid(), wanted).max() < 1e-6


@pytest.mark.parametrize("share", [0.0, 0.25, 1.0])
def test_a_mask_that_says_nothing(share):
    pixels = 80
    wanted = (torch.arange(pixels) < share * pixels).float()[None]
    expected = math.log(2) / 4 * (0.25 * share + 0.75 * (1 - share))
    torch.testing.assert_close(focal(torch.zeros(1, pixels), wanted), torch.tensor([expected]))
    expected = 1 - (share * pixels + 1) / (0.5 * pixels + share * pixels + 1)
    torch.testing.assert_close(dice(torch.full((1, pixels), 0.5), wanted), torch.tensor([expected]))


def test_costs_of_pairs_are_the_losses_of_each_pair():
    logits, wanted = randn(60, 50, seed=1), (randn(3, 50, seed=2) > 0).float()
    rows, columns = logits.repeat_interleave(3, 0), wanted.repeat(60, 1)
    each = CFG.loss.focal * focal(rows, columns) + CFG.loss.dice * dice(rows.sigmoid(), columns)
    torch.testing.assert_close(mask_costs(logits, wanted, CFG.loss), each.view(60, 3))


# Matching


def four(side=16):
    """Labels 0 to 3 with masks, of which 1 is one pixel that stride 4 does not see; no novel class."""
    maps = quarters(1, 255, 3, 4, side)
    maps[0, 1, side - 2] = 2
    return targets_of(maps, tagged(0))


def planted(targets, queries, cells=4):
    """Logits and masks of two layers in which the given queries say what the targets are."""
    logits, masks = torch.zeros(2, 1, 5, 7), torch.full((2, 1, 5, cells, cells), -SURE)
    small = torch.nn.functional.interpolate(targets.masks, (cells, cells))
    for t, q in enumerate(queries):
        logits[:, 0, q, targets.labels[0, t]] = 5.0
        masks[:, 0, q] = SURE * (2 * small[0, t] - 1)
    return logits, masks


def test_planted_queries_are_found():
    targets = four()
    found = match(*planted(targets, [3, 0, 4, 1]), targets, CFG.loss)
    assert found.tolist() == [[[3, 0, 4, 1]]] * 2


def test_a_mask_that_vanishes_at_stride_4_keeps_its_column():
    targets = four()
    assert targets.masks[0, 1].sum() == 1 and not targets.masks[0, 1, ::4, ::4].any()
    logits, masks = planted(targets, [0, 1, 2, 3])
    logits[:] = 0  # masks alone decide: were its column the last, query 3 would have the target of query 2
    assert match(logits, masks, targets, CFG.loss)[0, 0, [0, 2, 3]].tolist() == [0, 2, 3]


@pytest.mark.parametrize("seed", range(4))
def test_no_other_assignment_is_cheaper(seed):
    targets, logits, masks = four(), randn(1, 1, 5, 7, seed=seed), randn(1, 1, 5, 4, 4, seed=seed + 9)
    small = targets.masks[0, :, ::4, ::4].flatten(1)
    of_masks = mask_costs(masks[0, 0].flatten(1), small, CFG.loss)
    cost = CFG.loss.matching * of_masks - logits[0, 0].softmax(1)[:, :4]
    best = min(permutations(range(5), 4), key=lambda queries: sum(cost[q, t] for t, q in enumerate(queries)))
    assert match(logits, masks, targets, CFG.loss).tolist() == [[list(best)]]


def test_how_much_known_masks_weigh_is_a_setting():
    targets, (logits, _), (_, masks) = four(), planted(four(), [3, 0, 4, 1]), planted(four(), [0, 1, 2, 3])
    free, dear = (changed(CFG.loss, matching=cost) for cost in (0.0, 9.0))
    assert match(logits, masks, targets, free).tolist() == [[[3, 0, 4, 1]]] * 2
    assert match(logits, masks, targets, dear)[0, 0, [0, 2, 3]].tolist() == [0, 2, 3]


def test_masks_of_novel_classes_are_not_looked_at():
    targets, logits = targets_of(quarters(255, 255, 255, 255), tagged(4, 5)), randn(2, 1, 5, 7)
    masks = [randn(2, 1, 5, 4, 4, seed=seed) for seed in (0, 1)]
    assert torch.equal(*(match(logits, m, targets, CFG.loss) for m in masks))


def test_targets_in_another_order():
    targets, logits, masks = four(), randn(2, 1, 5, 7), randn(2, 1, 5, 4, 4)
    order = torch.tensor([2, 0, 3, 1])
    other = Targets(*(part[:, order] for part in targets[:4]), *targets[4:])
    found = match(logits, masks, targets, CFG.loss)
    assert torch.equal(match(logits, masks, other, CFG.loss), found[..., order])


def test_more_classes_than_queries():
    with pytest.raises(ConfigError, match="4 objects for 3 queries"):
        match(randn(1, 1, 3, 7), randn(1, 1, 3, 4, 4), four(), CFG.loss)


# Classes


def test_equal_logits_cost_the_logarithm_of_their_number():
    targets, masks = four(), randn(2, 1, 5, 4, 4)
    found = match(torch.zeros(2, 1, 5, 7), masks, targets, CFG.loss)
    torch.testing.assert_close(
        class_loss(torch.zeros(2, 1, 5, 7), found, targets, CFG.loss), torch.tensor(2 * math.log(7))
    )


def test_unmatched_queries_count_a_tenth():
    """Query 2 has label 4, the four others are no object; a second image has one target less."""
    targets = targets_of(torch.full((2, 4, 4), 255), torch.cat([tagged(4), tagged(0)]))
    logits = randn(1, 2, 5, 7)
    cost = -logits[0].log_softmax(2)
    none = cost[..., 6].sum() - cost[0, 2, 6]
    expected = (cost[0, 2, 4] + 0.1 * none) / (1 + 9 * 0.1)
    torch.testing.assert_close(class_loss(logits, torch.tensor([[[2], [-1]]]), targets, CFG.loss), expected)


# Masks


def test_masks_are_taught_at_the_images_size_where_one_is_known():
    maps, tags = torch.cat([quarters(1, 2, 255, 255), quarters(3, 3, 3, 3)]), torch.cat([tagged(4)] * 2)
    targets, masks = targets_of(maps, tags), randn(1, 2, 5, 4, 4).requires_grad_()
    found = torch.tensor([[[3, 1, 2], [4, 0, -1]]])
    full = torch.nn.functional.interpolate(masks[0], (16, 16), mode="bilinear")
    rows = torch.stack([full[0, 3], full[0, 1], full[1, 4]]).flatten(1)
    wanted = torch.stack([maps[0] == 1, maps[0] == 2, maps[1] == 3]).float().flatten(1)
    of_focal, of_dice = mask_loss(masks, found, targets)
    torch.testing.assert_close(of_focal, focal(rows, wanted).mean())
    torch.testing.assert_close(of_dice, dice(rows.sigmoid(), wanted).mean())
    (grad,) = torch.autograd.grad(of_focal + of_dice, masks)
    assert grad[0].flatten(2).any(2).nonzero().tolist() == [[0, 1], [0, 3], [1, 4]]


# The complement; masks as large as the image, so that no pixel is between two cells


class Left:
    """Queries 0 and 1 are two novel classes of an image whose base masks leave the lower half."""

    def __init__(self, base=0.0, tags=(4, 5)):
        self.targets = targets_of(quarters(1, 2, 255, 255), tagged(*tags))
        self.masks = torch.full((1, 1, 5, 16, 16), base)

    def loss(self, cfg=CFG):
        found = torch.tensor([[[2, 3, 0, 1][: self.targets.labels.shape[1]]]])
        self.masks.requires_grad_()
        loss, self.ignored = complement_loss(self.masks, found, self.targets, cfg.loss)
        if loss.requires_grad:
            (self.grad,) = torch.autograd.grad(loss, self.masks)
        return loss


def test_a_mask_that_is_the_complement_costs_next_to_nothing():
    """Outside the floor leaves a probability of .05, which dice counts."""
    case = Left(base=-SURE)
    assert case.loss() > 1
    case = Left(base=-SURE)
    case.masks[0, 0, 0, 8:] = SURE
    assert case.loss() < 0.03 and case.ignored == 0


def test_two_halves_together():
    case = Left(base=-SURE)
    case.masks[0, 0, 0, 8:, :8] = SURE
    alone = case.loss()
    case = Left(base=-SURE)
    case.masks[0, 0, 0, 8:, :8] = case.masks[0, 0, 1, 8:, 8:] = SURE
    assert case.loss() < 0.03 < 0.3 < alone


def test_faint_masks_are_not_taught():
    case = Left(base=-2.95)
    assert case.loss() > 0 and not case.grad.any() and case.ignored == 1
    case = Left(base=-2.95)
    case.masks[0, 0, 0, 8:12] = -2.94
    case.loss()
    assert case.ignored == 0.5
    taught = case.grad[0, 0].nonzero()
    assert set(taught[:, 0].tolist()) == {0} and set(taught[:, 1].tolist()) == {8, 9, 10, 11}
    case = Left(base=-2.95)
    case.loss(changed(CFG, **{"loss.complement_floor": -100.0}))
    assert case.grad.any() and case.ignored == 0


def test_the_largest_of_the_masks_is_taught():
    case = Left()
    case.masks[0, 0, 0, :, ::2] = case.masks[0, 0, 1, :, 1::2] = 1.0
    case.loss()
    assert torch.equal(case.grad[0, 0, :2] != 0, case.masks[0, 0, :2] == 1.0) and not case.grad[0, 0, 2:].any()


def test_no_novel_class_or_nothing_left():
    case = Left(tags=(0,))
    assert case.loss() == 0 and case.ignored == 0
    case = Left()
    case.targets.left[:] = False
    assert case.loss() == 0 and case.ignored == 0 and not case.grad.any()


def test_padding_should_be_empty():
    case = Left(base=-SURE)
    case.masks[0, 0, 0, 8:] = SURE
    case.targets.left[0, 12:] = False
    assert case.loss() > 1
    assert (case.grad[0, 0, 0, 12:] > 0).all()


def test_an_image_without_novel_classes_does_not_count():
    case = Left()
    alone = case.loss()
    two = targets_of(torch.cat([quarters(1, 2, 255, 255)] * 2), torch.cat([tagged(4, 5), tagged(0)]))
    found, masks = (torch.tensor([[[2, 3, 0, 1], [2, 3, -1, -1]]]), case.masks.detach().expand(-1, 2, -1, -1, -1))
    both, _ = complement_loss(masks, found, two, CFG.loss)
    torch.testing.assert_close(both, alone.detach())


def test_layers_are_added():
    case, found = Left(base=-2.95), torch.tensor([[[2, 3, 0, 1]]] * 3)
    masks = case.masks.expand(3, -1, -1, -1, -1)
    three, ignored = complement_loss(masks, found, case.targets, CFG.loss)
    torch.testing.assert_close(three, 3 * case.loss().detach())
    assert ignored == case.ignored == 1
    of_focal, _ = mask_loss(masks, found, case.targets)
    torch.testing.assert_close(of_focal, 3 * mask_loss(masks[:1], found[:1], case.targets)[0])


# Semantic scores


def test_scores_are_sums_of_class_times_mask():
    logits, masks = randn(2, 3, 7), randn(2, 3, 4, 5)
    scores = semantic_scores(logits, masks, (4, 5))
    assert scores.shape == (2, 6, 4, 5)
    for y, x in [(0, 0), (3, 2)]:
        by_hand = sum(logits[1, n].softmax(0)[:6] * masks[1, n, y, x].sigmoid() for n in range(3))
        torch.testing.assert_close(scores[1, :, y, x], by_hand)


def test_logits_not_probabilities_are_enlarged():
    logits, masks = torch.tensor([[[SURE, -SURE]]]), torch.tensor([[[[-4.0, 4.0]]]])
    row = semantic_scores(logits, masks, (1, 4))[0, 0, 0]
    torch.testing.assert_close(row, torch.tensor([-4.0, -2.0, 2.0, 4.0]).sigmoid())


def test_a_query_that_is_no_object_adds_nothing():
    logits, masks = randn(1, 3, 7), randn(1, 3, 4, 4)
    logits[0, 2] = torch.tensor([-SURE] * 6 + [SURE])
    torch.testing.assert_close(
        semantic_scores(logits, masks, (8, 8)), semantic_scores(logits[:, :2], masks[:, :2], (8, 8))
    )
