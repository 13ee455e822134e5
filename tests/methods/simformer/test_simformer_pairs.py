"""Pairs of pixels: which are drawn, what SimNet is told of them and says, what the scores learn, who is paired."""

import copy
import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn.functional import grid_sample

from benchmarks.measure import _peak_bytes
from benchmarks.simformer import plain_regions, plain_scores, plain_simnet
from wsis.core.config import changed
from wsis.core.errors import ConfigError
from wsis.core.types import Batch
from wsis.methods.simformer.config import FULL
from wsis.methods.simformer.crops import partners
from wsis.methods.simformer.model import Outputs
from wsis.methods.simformer.objective import (
    cosine_similarity,
    distill,
    distillation_loss,
    similarity_loss,
    student_scores,
)
from wsis.methods.simformer.pairs import (
    PixelPairs,
    at_points,
    base_values,
    draw_pairs,
    pair_targets,
    regions,
    sample_mixed,
    sample_points,
    swap,
)
from wsis.methods.simformer.simnet import Comparison, SimNet

CPU = torch.device("cpu")
CLASSES, NOVEL = 6, torch.tensor([4, 5])
TABLE = base_values(CLASSES, NOVEL)
CFG = changed(FULL, classes=CLASSES, novel=tuple(NOVEL.tolist()), pairs__points=20)
PAIRS = CFG.pairs
WIDTH, SIDE, QUERIES = 16, 12, 5  # of embeddings, of maps, number of queries


@pytest.fixture(autouse=True)
def _same_random_numbers():
    torch.manual_seed(0)


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def maps(batch=4, seed=0, side=SIDE):
    """Class maps of base classes 1 to 4, unlabelled 0, and void."""
    values = torch.tensor([0, 1, 2, 3, 4, 255])
    return values[torch.randint(6, (batch, side, side), generator=seeded(seed))]


def outputs(batch=4, seed=0):
    """What a network of one layer might say."""
    g = seeded(seed)
    logits = torch.randn(1, batch, QUERIES, CLASSES + 1, generator=g)
    masks = torch.randn(1, batch, QUERIES, SIDE, SIDE, generator=g)
    pixels = torch.randn(batch, WIDTH, SIDE, SIDE, generator=g)
    return Outputs(logits.requires_grad_(), masks.requires_grad_(), pixels.requires_grad_())


def losses(cfg=CFG, batch=4, simnet=None, given_outputs=None, **values):
    """The losses of pairs of made-up images at four times the size of the maps, all with both novel tags."""
    known = {
        "semantic_maps": maps(batch).repeat_interleave(4, 1).repeat_interleave(4, 2),
        "valid": torch.ones(batch, 4 * SIDE, 4 * SIDE, dtype=torch.bool),
        "tags": torch.ones(batch, CLASSES, dtype=torch.bool),
    } | values
    made = given_outputs or outputs(batch)
    images = Batch(images=torch.zeros(batch, 3, 4 * SIDE, 4 * SIDE), image_ids=tuple(range(batch)), **known)
    torch.manual_seed(3)
    pairs = draw_pairs(images, cfg)
    comparison = (simnet or net()).compare(made.pixels, pairs)
    terms = similarity_loss(comparison), distillation_loss(made, comparison)
    return dict(zip(("similarity", "distillation"), terms, strict=True))


def net(width=WIDTH):
    torch.manual_seed(0)
    return SimNet(width)


def mixed(flat, count=20, valid=None):
    """Points of two images that show what their maps of every fourth pixel show."""
    shown = torch.stack([torch.isin(torch.arange(256), row) for row in flat]) & TABLE
    valid = torch.ones_like(flat, dtype=torch.bool) if valid is None else valid
    return sample_mixed(flat, valid, base_of(flat, valid), shown & swap(shown), count)


def base_of(flat, valid=None):
    """The pixels of base classes, as `regions` gives them."""
    return regions(flat, torch.ones_like(flat, dtype=torch.bool) if valid is None else valid, TABLE)[0]


# Regions and points


def test_partners_change_places():
    assert swap(torch.arange(6)).tolist() == [1, 0, 3, 2, 5, 4]


def test_regions_equal_one_comparison_per_class():
    given_maps, valid = maps(), torch.rand(4, SIDE, SIDE, generator=seeded()) < 0.8
    given_maps[0, :3] = 5  # a novel class that should not be there is no base class
    base, rest = regions(given_maps, valid, TABLE)
    wanted = plain_regions(given_maps, valid, TABLE)
    assert base.equal(wanted[0]) and rest.equal(wanted[1])
    assert (base ^ rest).equal(valid)


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 60), st.integers(1, 60), st.integers(0, 10**6))
def test_points_are_distinct_and_of_the_region_while_it_lasts(size, count, seed):
    region = torch.zeros(2, 60, dtype=torch.bool)
    region[0, torch.randperm(60, generator=seeded(seed))[:size]] = True
    points, inside = sample_points(region, count, torch.ones_like(region))
    assert all(len(row.unique()) == count for row in points)
    assert inside.equal(region.gather(1, points)) and inside[0].sum() == min(size, count)


def test_valid_places_come_before_padding():
    region, valid = torch.zeros(2, 1, 30, dtype=torch.bool)
    region[0, 3], valid[0, :10] = True, True
    points, _ = sample_points(region, 10, valid)
    assert points[0].sort().values.tolist() == list(range(10))


def test_points_of_a_region_are_equally_likely():
    region = (torch.arange(20) < 8).expand(4000, -1)
    points, _ = sample_points(region, 2, torch.ones_like(region))
    counts = points.flatten().bincount(minlength=20)
    assert counts[8:].sum() == 0 and (counts[:8] / 8000 - 1 / 8).abs().max() < 0.02


def test_more_points_than_cells_say_what_to_do():
    places = torch.ones(1, 8, dtype=torch.bool)
    with pytest.raises(ConfigError, match=r"pairs\.points=9 .* 8 cells"):
        sample_points(places, 9, places)


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 10**6))
def test_most_points_are_of_one_class_that_both_images_show(seed):
    flat = maps(seed=seed, side=24).flatten(1)
    points = mixed(flat)
    assert all(len(row.unique()) == 20 for row in points)
    values = flat.gather(1, points)
    chosen = values[:, 0]
    assert TABLE[chosen].all() and chosen[::2].equal(chosen[1::2])
    assert (values[:, :16] == chosen[:, None]).all() and (values[:, 16:] != chosen[:, None]).all()


def test_common_classes_are_equally_likely():
    flat = torch.tensor([[1] * 97 + [2] * 3, [1] * 50 + [2] * 50]).repeat(1000, 1)
    points = mixed(flat, 1)
    assert (flat.gather(1, points)[:, 0] == 2).float().mean().item() == pytest.approx(0.5, abs=0.05)


def test_the_common_class_is_of_the_images_not_of_every_fourth_pixel():
    """Class 1 is common; of the second image, stride 4 shows class 2 alone, which the first one has nowhere."""
    full = torch.ones(2, 4 * SIDE, 4 * SIDE, dtype=torch.long)
    full[0, :, 2 * SIDE :], full[1] = 3, 2
    full[1, 1, 1] = 1
    valid, tags = torch.ones_like(full, dtype=torch.bool), torch.ones(2, CLASSES, dtype=torch.bool)
    batch = Batch(images=torch.zeros(2, 3, 4, 4), image_ids=(0, 1), valid=valid, semantic_maps=full, tags=tags)
    values = full[:, ::4, ::4].flatten(1).gather(1, draw_pairs(batch, CFG).points)
    assert values[0].tolist() == [1] * 16 + [3] * 4 and values[1].tolist() == [2] * 20


def test_images_without_a_common_class_give_points_of_all_base_classes():
    flat = torch.tensor([[1, 2, 255, 0] * 20, [3, 4, 255, 0] * 20])
    points = mixed(flat)
    values = flat.gather(1, points)
    assert TABLE[values[:, :16]].all() and values[0, :16].unique().tolist() == [1, 2]
    assert not TABLE[values[:, 16:]].any()


def test_a_small_class_is_filled_up_without_repeats_or_padding():
    flat, valid = torch.full((2, 100), 255), torch.arange(100).expand(2, -1) < 30
    flat[:, :5] = 1
    flat[:, 40:] = 1  # padding that claims to be of the class
    points = mixed(flat, valid=valid)
    assert (points < 30).all() and all(len(row.unique()) == 20 for row in points)
    assert ((points < 5).sum(1) == 5).all()


def test_gathering_equals_sampling_the_grid():
    features = torch.randn(2, 3, 6, 8, generator=seeded())
    points = torch.randint(48, (2, 7), generator=seeded())
    x, y = (points % 8 + 0.5) / 4 - 1, (points // 8 + 0.5) / 3 - 1
    wanted = grid_sample(features, torch.stack([x, y], -1)[:, None], align_corners=False)[:, :, 0].mT
    torch.testing.assert_close(at_points(features, points), wanted, atol=1e-5, rtol=0)


# Targets


def test_targets_of_both_orders_are_transposes():
    values, valid = maps().flatten(1)[:, :30], torch.rand(4, 30, generator=seeded()) < 0.7
    for labeled in ("either", "both"):
        for matrix in pair_targets(values, valid, base_of(values, valid), changed(PAIRS, labeled=labeled)):
            assert matrix[::2].equal(matrix[1::2].mT)


def test_targets_by_hand():
    values = torch.tensor([[1, 255, 2, 1], [1, 255, 0, 3]])
    valid = torch.tensor([[True, True, True, False], [True] * 4])
    same, counted = pair_targets(values, valid, base_of(values, valid), PAIRS)
    assert same[0].nonzero().tolist() == [[0, 0], [1, 1], [3, 0]]
    yes, some, no = [True] * 4, [True, False, False, True], [False] * 4
    assert counted[0].tolist() == [yes, some, yes, no]
    _, both = pair_targets(values, valid, base_of(values, valid), changed(PAIRS, labeled="both"))
    assert both[0].tolist() == [some, no, some, no]


# SimNet


def test_simnet_has_the_parameters_of_the_release():
    assert sum(p.numel() for p in SimNet(256).parameters()) == 595_202


def test_simnet_equals_concatenated_pairs_and_so_do_its_gradients():
    a, b = torch.randn(2, 2, 9, WIDTH, generator=seeded(), dtype=torch.double).unbind()
    ours, plain = net().double(), net().double()
    for network, f in ((ours, ours), (plain, lambda a, b: plain_simnet(plain, a, b))):
        network.inputs = [a.clone().requires_grad_(), b.clone().requires_grad_()]
        network.logits = f(*network.inputs)
        network.logits.float().sin().sum().backward()
    torch.testing.assert_close(ours.logits.double(), plain.logits, atol=1e-6, rtol=1e-6)
    gradients = ([x.grad for x in (*n.inputs, *n.parameters())] for n in (ours, plain))
    for mine, wanted in zip(*gradients, strict=True):
        torch.testing.assert_close(mine, wanted, atol=1e-6, rtol=1e-5)


def test_running_statistics_move_once_a_step():
    ours, plain = net(), net()
    a, b = torch.randn(2, 2, 9, WIDTH, generator=seeded(), requires_grad=True)
    ours(a, b).sum().backward()
    plain_simnet(plain, a, b)
    for (name, mine), wanted in zip(ours.named_buffers(), plain.buffers(), strict=True):
        if "running" in name:
            torch.testing.assert_close(mine, wanted, msg=name)


def test_the_teacher_in_parts_is_the_whole():
    network = net().eval()
    a, b = torch.randn(2, 2, 70, WIDTH, generator=seeded())
    with torch.no_grad():
        wanted = plain_simnet(network, a, b).sigmoid()
    torch.testing.assert_close(network.teach(a, b), wanted, atol=1e-6, rtol=0)


def test_teaching_leaves_the_statistics():
    a, b = 3 + torch.randn(2, 2, 9, WIDTH, generator=seeded())
    network = net()
    before = copy.deepcopy(network.state_dict())
    assert not network.teach(a, b).requires_grad
    assert all(v.equal(before[k]) for k, v in network.state_dict().items())


@pytest.mark.parametrize("grad", [True, False])
def test_simnet_needs_half_of_the_memory(grad):
    network = net(width=32).train(grad)
    a, b = torch.randn(2, 1, 150, 32)

    def peak(f):
        def call():
            with torch.set_grad_enabled(grad):
                result = f(a, b)
            if grad:
                result.mean().backward()
                network.zero_grad()

        call()
        return _peak_bytes(call, CPU)

    assert peak(network) <= 0.5 * peak(lambda a, b: plain_simnet(network, a, b))


def test_simnet_learns_classes_and_some_of_classes_it_never_saw():
    torch.manual_seed(0)
    prototypes, network = torch.randn(40, WIDTH), SimNet(WIDTH)
    optimizer = torch.optim.Adam(network.parameters(), 1e-2)

    def accuracy(low, high):
        with torch.no_grad():
            said, same = ask(low, high)
        return (((said > 0) & same).sum() / same.sum() + ((said <= 0) & ~same).sum() / (~same).sum()) / 2

    def ask(low, high):
        kinds = torch.randint(low, high, (2, 24))
        kinds[1, :12] = kinds[0, :12]
        a, b = prototypes[kinds][:, None] + 0.3 * torch.randn(2, 1, 24, WIDTH)
        return network(a, b), (kinds[0][:, None] == kinds[1])[None]

    for _ in range(120):
        logits, same = ask(0, 30)
        # `similarity_loss` wants both orders of a pair.
        logits, same = logits.repeat(2, 1, 1), same.repeat(2, 1, 1)
        weights = network.balance(same, same | ~same)
        pairs = PixelPairs(NOVEL, torch.zeros(2, 24).long(), same, torch.ones_like(same))
        loss = similarity_loss(Comparison(pairs, logits, weights, None))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    network.eval()
    assert accuracy(0, 30) > 0.95 and accuracy(30, 40) > 0.75


# Balance


def test_without_positives_only_positives_would_count():
    same = torch.zeros(2, 50, 50, dtype=torch.bool)
    assert net().balance(same, ~same)[0, 0, 0].item() == pytest.approx(1 / 5002, rel=1e-3)
    network = net()
    network.balance(same, ~same)
    assert network.eval().balance(~same, same)[0, 0, 0].item() == pytest.approx(5001 / 5002, rel=1e-3)


def test_equal_numbers_weigh_the_same():
    same = torch.tensor([True, False])
    assert net().balance(same, same | ~same).tolist() == [0.5, 0.5]


def test_pairs_without_a_target_do_not_count():
    same = torch.tensor([True, True, True, False])
    assert net().balance(same, torch.tensor([True, False, False, True])).tolist() == [0.5] * 4


def test_the_window_forgets():
    network, yes = net(), torch.ones(100, dtype=torch.bool)
    network.balance(yes, yes)
    for _ in range(25):
        network.balance(torch.tensor([True, False]), torch.tensor([True, True]))
    assert network.counts.tolist() == [[1, 1]] * 25


def test_evaluation_does_not_move_the_window():
    yes = torch.ones(100, dtype=torch.bool)
    assert net().eval().balance(yes, yes)[0] == 0.5


# Distillation


def test_distillation_by_hand():
    t, s = torch.tensor([1.0, 0.5, 0.0]), torch.tensor([1.0, 0.3, 0.25])
    assert distill(t, s).tolist() == pytest.approx([-0.5 * math.log(2), 0, -0.5 * math.log(1.75)])


def test_distillation_is_bounded_and_silent_where_the_teacher_is_unsure():
    t, s = torch.rand(2, 1000, generator=seeded())
    loss = distill(t, s)
    assert loss.max() <= 0 and loss.min() >= -0.5 * math.log(2)
    assert (distill(torch.full_like(s, 0.5), s) == 0).all()


def test_sampled_before_multiplied_is_exact():
    made, points = outputs(), torch.randint(SIDE * SIDE, (4, 9), generator=seeded())
    given_scores = made.logits[0], made.masks[0], points, NOVEL
    torch.testing.assert_close(student_scores(*given_scores), plain_scores(*given_scores), atol=1e-6, rtol=0)


def test_one_hot_scores_are_alike_or_not():
    z = torch.eye(3)[torch.tensor([[0, 1, 2]])]
    assert cosine_similarity(z, z[:, [0, 2, 1]])[0].tolist() == [[1, 0, 0], [0, 0, 1], [0, 1, 0]]
    assert (cosine_similarity(z, -z) == 0).all() and (cosine_similarity(0 * z, z) == 0).all()


# Both losses


def test_gradients_go_where_they_should():
    network, made = net(), outputs()
    terms = losses(simnet=network, given_outputs=made)
    terms["similarity"].backward(retain_graph=True)
    assert all(p.grad is not None for p in network.parameters())
    assert made.pixels.grad is None and made.logits.grad is None
    network.zero_grad()
    terms["distillation"].backward()
    assert all(p.grad is None for p in network.parameters()) and made.pixels.grad is None
    assert made.logits.grad.abs().max() > 0 and made.masks.grad.abs().max() > 0


def test_pairs_count_each_by_itself():
    cfg = changed(CFG, pairs__points=SIDE * SIDE)  # every cell: chance changes their order only
    network, made = net().eval(), outputs()
    both = losses(cfg, simnet=network, given_outputs=made)
    apart = [
        losses(
            cfg,
            2,
            network,
            Outputs(*(x[:, s] for x in made[:2]), made.pixels[s]),
            semantic_maps=maps(4)[s].repeat_interleave(4, 1).repeat_interleave(4, 2),
        )
        for s in (slice(2), slice(2, 4))
    ]
    wanted = (apart[0]["similarity"] + apart[1]["similarity"]) / 2
    torch.testing.assert_close(both["similarity"], wanted, atol=1e-5, rtol=0)


@pytest.mark.parametrize("case", ["no common tag", "no novel class", "one pixel", "weight 0"])
def test_without_something_to_compare_nothing_is_taught(case):
    values, cfg = {}, CFG
    if case == "no common tag":
        values["tags"] = torch.eye(CLASSES, dtype=torch.bool)[[4, 5, 4, 5]]
    if case == "no novel class":
        cfg = changed(CFG, novel=())
    if case == "one pixel":
        values["semantic_maps"] = torch.ones(4, 4 * SIDE, 4 * SIDE, dtype=torch.long)
        values["semantic_maps"][:, :4, :4] = 255
    if case == "weight 0":
        cfg = changed(CFG, loss__distillation=0.0)
    terms = losses(cfg, **values)
    assert terms["distillation"] == 0 and terms["similarity"] > 0


def test_padding_is_not_compared():
    made, valid = outputs(), torch.ones(4, 4 * SIDE, 4 * SIDE, dtype=torch.bool)
    valid[:, 2 * SIDE :] = False
    losses(given_outputs=made, valid=valid)["distillation"].backward()
    assert made.masks.grad[:, :, :, SIDE // 2 :].abs().max() == 0
    assert made.masks.grad[:, :, :, : SIDE // 2].abs().max() > 0


def test_pixels_with_a_label_are_not_compared():
    made, given_maps = outputs(), torch.ones(4, 4 * SIDE, 4 * SIDE, dtype=torch.long)
    given_maps[:, :4, :20] = 255  # five cells for 20 points
    losses(given_outputs=made, semantic_maps=given_maps)["distillation"].backward()
    learned = made.masks.grad[0].abs().amax((0, 1)) > 0
    assert learned[0, :5].all() and learned.sum() == 5


def test_all_padding_is_zero_and_finite():
    terms = losses(valid=torch.zeros(4, 4 * SIDE, 4 * SIDE, dtype=torch.bool))
    assert terms["similarity"] == 0 and terms["distillation"] == 0


def test_the_student_compares_scores_of_two_images():
    """Two queries, one per novel class; the first image is all of the one, the second all of the other."""
    logits = torch.full((1, 2, 2, CLASSES + 1), -30.0)
    logits[0, :, 0, 4], logits[0, :, 1, 5] = 30.0, 30.0
    masks = torch.full((1, 2, 2, 2, 2), -30.0)
    masks[0, 0, 0], masks[0, 1, 1] = 30.0, 30.0
    points, every = torch.arange(4).expand(2, -1), torch.ones(2, 4, 4, dtype=torch.bool)
    pairs = PixelPairs(NOVEL, points, every, every, points, every)
    comparison = Comparison(pairs, torch.zeros(2, 4, 4), torch.ones(2, 4, 4), torch.ones(2, 4, 4))  # sure of one class
    different, same = (Outputs(logits[:, i], masks[:, i], torch.zeros(2, WIDTH, 2, 2)) for i in ([0, 1], [0, 0]))
    assert distillation_loss(different, comparison).item() == pytest.approx(0)
    assert distillation_loss(same, comparison).item() == pytest.approx(-0.5 * math.log(2))


def test_an_image_without_a_partner_is_refused():
    with pytest.raises(ValueError, match="3 images"):
        losses(batch=3)


# References

BASE_TAGS = ["0", "01", "1", "2", "3", "0", "0"]  # base and novel classes of seven images
NOVEL_TAGS = ["", "4", "4", "45", "45", "5", "5"]


def references(base=BASE_TAGS, novel=NOVEL_TAGS):
    tags = torch.tensor([[str(c) in b + n for c in range(6)] for b, n in zip(base, novel, strict=True)])
    return partners(tags, [4, 5])


def drawn(choose, index):
    return {choose(index, seed)[0] for seed in range(60)}


def test_partners_share_one_novel_class_or_else_a_base_class():
    wanted = [{1, 5, 6}, {2, 3, 4}, {1, 3, 4}, {1, 2, 5, 6}, {1, 2, 5, 6}, {3, 4, 6}, {3, 4, 5}]
    assert [drawn(references(), i) for i in range(7)] == wanted


def test_a_partner_depends_on_seed_and_image_only():
    first, second = references(), references()
    assert [first(i, 7) for i in range(7)] == [second(i, 7) for i in reversed(range(7))][::-1]


def test_the_rarest_class_first(monkeypatch):
    novel = ["45", "4", "4", "4", "5"]
    monkeypatch.setattr("wsis.methods.simformer.crops.RAREST", 1.0)
    assert drawn(references(base=[""] * 5, novel=novel), 0) == {4}
    # A class that no other image has is not the rarest.
    assert drawn(references(base=[""] * 3, novel=["45", "4", "4"]), 0) == {1, 2}
    # Otherwise classes are drawn before images.
    monkeypatch.setattr("wsis.methods.simformer.crops.RAREST", 0.0)
    chosen = references(base=[""] * 5, novel=novel)
    assert drawn(chosen, 0) == {1, 2, 3, 4}
    assert sum(chosen(0, seed) == (4,) for seed in range(400)) / 400 == pytest.approx(0.5, abs=0.1)


def test_one_other_image_with_a_base_class_is_enough():
    """The release asks for two such images and counts the image itself."""
    chosen = references(base=["0", "0"], novel=["", ""])
    assert [drawn(chosen, i) for i in (0, 1)] == [{1}, {0}]


def test_a_lone_image_is_its_own_partner():
    assert references(base=["0"], novel=["4"])(0, 0) == (0,)
