"""BESTIE's objective: by hand, by gradient, and that guidance keeps what the labels miss."""

import pytest
import torch
from torch import nn
from torch.nn.functional import cross_entropy

from wsis.core.config import changed
from wsis.core.types import Points
from wsis.methods.bestie import FULL
from wsis.methods.bestie.labels import InstanceMap
from wsis.methods.bestie.model import Outputs
from wsis.methods.bestie.objective import Targets, center_map, guided, objective, regression, render
from wsis.ops.grouping import splat_gaussians
from wsis.ops.losses import hard_cross_entropy

CFG = changed(FULL, classes=2, sigma=2.0)


def instances(size=(24, 32), scores=(1.0, 0.25)):
    """Two boxes of classes 0 and 1 in one image."""
    ids = torch.zeros(1, *size, dtype=torch.long)
    ids[0, 4:10, 4:12], ids[0, 12:20, 18:26] = 1, 2
    return InstanceMap(
        ids=ids,
        image=torch.tensor([0, 0]),
        labels=torch.tensor([0, 1]),
        centers=torch.tensor([[6.0, 7], [15, 21]]),
        scores=torch.tensor(scores),
    )


def outputs(seed=0, size=(24, 32), dtype=torch.float32):
    generator = torch.Generator().manual_seed(seed)
    maps = [torch.randn(1, c, *size, generator=generator, dtype=dtype) for c in (3, 2, 2)]
    return Outputs(*(m.requires_grad_() for m in maps))


# Rendering


def test_targets_of_instances():
    made = instances()
    targets = render(made, CFG)
    assert [tuple(t.shape) for t in targets] == [(1, 2, 24, 32), (1, 2, 24, 32), (1, 1, 24, 32)]
    assert torch.equal(targets.weight[0, 0], torch.tensor([0.0, 1, 0.25])[made.ids[0]])
    assert targets.offset[0, :, 12, 25].tolist() == [3, -4]
    assert not targets.offset[:, :, made.ids[0] == 0].any()
    expected = splat_gaussians(made.centers, torch.tensor([0, 1]), (2, 24, 32), 2.0)
    assert torch.equal(targets.center[0], expected)
    assert targets.center.amax((2, 3)).tolist() == [[1, 1]]  # a low score lowers the weight alone


def test_class_agnostic_targets_have_one_center_map():
    both = render(instances(), changed(CFG, center_mode="class_agnostic")).center
    assert torch.equal(both, render(instances(), CFG).center.amax(1, keepdim=True))


def test_targets_of_nothing():
    empty = InstanceMap(
        ids=torch.zeros(2, 8, 9, dtype=torch.long),
        image=torch.zeros(0, dtype=torch.long),
        labels=torch.zeros(0, dtype=torch.long),
        centers=torch.zeros(0, 2),
        scores=torch.zeros(0),
    )
    assert [float(t.abs().sum()) for t in render(empty, CFG)] == [0, 0, 0]


def test_clicks_are_drawn_whatever_was_accepted():
    clicks = center_map(Points.make(torch.tensor([[3.0, 3]]), torch.tensor([1])), (1, 24, 32), CFG)
    targets = render(instances(), CFG, clicks)
    assert targets.center is clicks
    assert clicks[0, 1, 3, 3] == 1
    assert not clicks[0, 0].any()


# Guidance


def test_guided_by_hand():
    """2 x 2 pixels, 2 channels: two pixels count, so (0.5 (1 + 2) + 1 (3 + 4)) / 2."""
    error = torch.tensor([[[[1.0, 9], [3, 9]], [[2, 9], [4, 9]]]])
    weight = torch.tensor([[[[0.5, 0], [1, 0]]]])
    assert guided(error, weight).item() == (0.5 * 3 + 7) / 2


def test_unguided_by_hand():
    error = torch.tensor([[[[1.0, 2], [3, 4]], [[5, 6], [7, 8]]]])
    zeros, every = torch.zeros_like(error), torch.ones(1, 1, 2, 2)
    out = Outputs(zeros, error.sqrt(), error)
    for settings, value in (({"unguided_norm": "mean"}, 4.5), ({"unguided_norm": "matched"}, 9), ({"iag": True}, 9)):
        terms = regression(out, Targets(zeros, zeros, every), changed(CFG, loss={"iag": False} | settings))
        torch.testing.assert_close(torch.stack(terms), torch.tensor([value, value], dtype=torch.float))


def test_no_gradient_where_nothing_is_known():
    out = outputs()
    targets = render(instances(), CFG)
    center, offset = regression(out, targets, CFG)
    (center + offset).backward()
    known = targets.weight[0, 0] > 0
    for grad in (out.center.grad, out.offset.grad):
        assert not grad[:, :, ~known].any()
        assert grad[:, :, known].ne(0).float().mean() > 0.99


def test_without_guidance_the_rest_is_pulled_to_zero():
    out = outputs()
    cfg = changed(CFG, **{"loss.iag": False})
    regression(out, render(instances(), cfg), cfg)[1].backward()
    outside = instances().ids[0] == 0
    assert torch.equal(out.offset.grad[:, :, outside].sign(), out.offset.detach()[:, :, outside].sign())


def test_empty_weight_gives_zero_and_zero_gradients():
    out = outputs()
    targets = Targets(torch.rand(1, 2, 24, 32), torch.rand(1, 2, 24, 32), torch.zeros(1, 1, 24, 32))
    center, offset = regression(out, targets, CFG)
    (center + offset).backward()
    assert (center.item(), offset.item()) == (0, 0)
    assert not out.center.grad.any()
    assert not out.offset.grad.any()


def test_terms_are_linear_in_the_weight():
    out, targets = outputs(), render(instances(), CFG)
    once, thrice = (regression(out, targets._replace(weight=targets.weight * k), CFG) for k in (1, 3))
    torch.testing.assert_close(torch.stack(thrice), 3 * torch.stack(once))


def test_gradients_are_right():
    weight = torch.tensor([[[[0.3, 0], [1, 0.5]]]], dtype=torch.float64)
    targets = Targets(*(torch.rand(1, 2, 2, 2, dtype=torch.float64) for _ in range(2)), weight)

    def terms(center, offset):
        return regression(Outputs(center, center, offset), targets, CFG)

    maps = [torch.randn(1, 2, 2, 2, dtype=torch.float64, requires_grad=True) for _ in range(2)]
    assert torch.autograd.gradcheck(terms, maps)


# The whole


@pytest.mark.parametrize("refined", [True, False])
def test_total(refined):
    out, pseudo = outputs(), render(instances(), CFG)
    other = render(instances(scores=(0.5, 0.0)), CFG) if refined else None
    semantic = torch.randint(0, 3, (1, 24, 32), generator=torch.Generator().manual_seed(1))
    terms = objective(out, semantic, pseudo, other, CFG)
    center, offset = regression(out, pseudo, CFG)
    if refined:
        (c, o) = regression(out, other, CFG)
        assert torch.equal(terms["refined_center"], c)
        assert torch.equal(terms["refined_offset"], o)
        center, offset = (center + c) / 2, (offset + o) / 2
    expected = hard_cross_entropy(out.semantic, semantic, 0.2) + 200 * center + 0.01 * offset
    torch.testing.assert_close(terms["total"], expected)
    assert ("refined_center" in terms) == refined


def test_the_plain_mean_is_a_switch():
    out, target = outputs(), torch.zeros(1, 24, 32, dtype=torch.long)
    cfg = changed(CFG, **{"loss.hard_fraction": 1.0})
    term = objective(out, target, render(instances(), cfg), None, cfg)["semantic"]
    torch.testing.assert_close(term, cross_entropy(out.semantic, target))


# Semantic drift

TOY = changed(FULL, classes=1, sigma=2.0)
RADIUS = 5


def drifting_scenes(count, seed):
    """Two bright discs an image, labeled, and two dim ones: images, all instances, the labeled, who is dim."""
    generator = torch.Generator().manual_seed(seed)
    slots = torch.tensor([[8, 8], [8, 24], [24, 8], [24, 24]])
    centers = slots + torch.randint(-2, 3, (count, 4, 2), generator=generator)
    bright = torch.rand(count, 4, generator=generator).argsort(1) < 2
    y, x = torch.meshgrid(torch.arange(32), torch.arange(32), indexing="ij")
    square = (y - centers[..., 0, None, None]) ** 2 + (x - centers[..., 1, None, None]) ** 2
    inside = square <= RADIUS**2  # (B, 4, 32, 32)
    images = (inside * torch.where(bright, 1.0, 0.6)[..., None, None]).sum(1, keepdim=True)
    images = images + 0.05 * torch.randn(images.shape, generator=generator)
    number = torch.arange(1, 4 * count + 1).view(count, 4, 1, 1)
    every = InstanceMap(
        ids=(inside * number).sum(1),
        image=torch.arange(count).repeat_interleave(4),
        labels=torch.zeros(4 * count, dtype=torch.long),
        centers=centers.flatten(0, 1).float(),
        scores=torch.ones(4 * count),
    )
    renumbered = torch.cat([torch.zeros(1).long(), bright.flatten().cumsum(0) * bright.flatten()])
    rows = bright.flatten()
    labeled = InstanceMap(
        ids=renumbered[every.ids],
        image=every.image[rows],
        labels=every.labels[rows],
        centers=every.centers[rows],
        scores=every.scores[rows],
    )
    return images, every, labeled, ~rows


def recall_of_missing_discs(iag):
    """Share of unlabeled discs that hold a center above the refinement's threshold after training."""
    torch.manual_seed(0)
    cfg = changed(TOY, **{"loss.iag": iag, "loss.unguided_norm": "matched"})
    images, every, labeled, missing = drifting_scenes(8, seed=0)
    layers = [nn.Conv2d(i, o, 5, padding=2) for i, o in ((1, 12), (12, 12), (12, 3))]
    network = nn.Sequential(layers[0], nn.ReLU(), layers[1], nn.ReLU(), layers[2])
    optimizer = torch.optim.Adam(network.parameters(), 3e-3)
    targets, semantic = render(labeled, cfg), (every.ids > 0).long()
    for _ in range(120):
        maps = network(images)
        out = Outputs(torch.zeros(len(images), 2, 32, 32), maps[:, :1], maps[:, 1:])
        optimizer.zero_grad()
        objective(out, semantic, targets, None, cfg)["total"].backward()
        optimizer.step()
    heat = network(images)[:, 0].detach()
    row = every.ids.flatten()
    top = torch.zeros(4 * len(images) + 1).scatter_reduce_(0, row, heat.flatten(), "amax")[1:]
    return float((top[missing] > cfg.refine.threshold).float().mean())


def test_guidance_keeps_what_the_labels_miss():
    with_guidance, without = recall_of_missing_discs(True), recall_of_missing_discs(False)
    assert with_guidance > 0.9
    assert without < 0.2
