"""AttentionShift's networks: the tokens' way through the transformer, MIL by its formula, a detector that takes anything."""

import pytest
import torch
from torch import nn
from torch.nn.functional import interpolate
from torchvision.ops import box_iou, generalized_box_iou, roi_align

from wsis.core.config import changed
from wsis.core.errors import ConfigError
from wsis.methods.attentionshift.config import TINY
from wsis.methods.attentionshift.detector import Anchors, Decoder, Detector
from wsis.methods.attentionshift.model import Encoded, Encoder, MilHead, TokenHeads
from wsis.methods.attentionshift.objective import detector_terms
from wsis.ops.patches import PatchGrid
from wsis.training.schedule import Schedule, make_optimizer

TRUNK = {"backbone": "vit_tiny", "weights": "random", "heads.taps": (4, 6, 8, 12), "boxes.layers": 7, "tokens.count": 5}
HEADS = {"heads.depth": 1, "heads.width": 32, "heads.hidden": 16, "heads.pyramid": 16}
CFG = changed(TINY, classes=4, **TRUNK, **HEADS, **{"heads.rois": 16, "heads.proposals": 20})
WIDTH, PATCH, GRID = 8, 8, (5, 6)  # of the detector's features here
SIZE = (40, 46)  # 2 columns of padding


@pytest.fixture(autouse=True)
def seed():
    torch.manual_seed(0)


def images(height=32, width=40, batch=2):
    return torch.rand(batch, 3, height, width)


def zeroed(*layers):
    for layer in layers:
        nn.init.zeros_(layer.weight)
        nn.init.zeros_(layer.bias)


# The encoder


def test_what_the_encoder_gives():
    encoded = Encoder(CFG)(images())
    assert encoded.features.shape == (2, 128, 4, 5)
    assert [t.shape for t in encoded.taps] == [(2, 128, 4, 5)] * 4
    assert encoded.tokens.shape == (2, 5, 128)
    assert [tuple(part.shape) for pair in encoded.layers for part in pair] == [(2, 4, 1 + 20 + 5, 32)] * 14


def test_tokens_may_start_at_places_all_over_the_image():
    encoder = Encoder(changed(CFG, **{"tokens.start": "spread", "tokens.count": 9}))
    table = encoder.vit.backbone.pos_embed[0, 1:]
    nearest = torch.cdist(encoder.positions[0], table).argmin(1)
    rows, columns = nearest // 12, nearest % 12
    assert rows.view(3, 3).diff(dim=0).min() > 1
    assert columns.view(3, 3).diff(dim=1).min() > 1


def test_without_tokens_it_is_the_transformer():
    encoder, x = Encoder(CFG).eval(), images()
    encoder.tokens = encoder.positions = nn.Parameter(torch.empty(1, 0, 128))
    encoded, vit = encoder(x), encoder.vit
    start = vit.embed(x)
    for tap, layer in zip([*encoded.taps, encoded.features], (4, 6, 8, 12, 12), strict=True):
        expected = vit.run(start, 0, layer)[:, 1:].mT.unflatten(2, (4, 5))
        torch.testing.assert_close(tap, expected)
    for pair, layer in zip(encoded.layers, range(12, 5, -1), strict=True):
        torch.testing.assert_close(pair, vit.query_key(vit.run(start, 0, layer - 1), layer))


def test_attention_from_queries_and_keys_is_that_of_the_blocks():
    """softmax(q k^T / sqrt(d)) v, projected, is what the block's attention puts out, learned tokens included."""
    encoder, x = Encoder(CFG).eval(), images()
    inputs = []
    for block in encoder.vit.backbone.blocks:
        block.attn.register_forward_hook(lambda m, given, out: inputs.append((m, given[0], out)))
    layers = encoder(x).layers
    for (q, k), (attention, given, out) in zip(layers, inputs[::-1], strict=False):
        weights = (q @ k.mT / q.shape[-1] ** 0.5).softmax(-1)
        values = attention.qkv(given).chunk(3, -1)[2].unflatten(-1, (4, 32)).transpose(1, 2)
        explicit = attention.proj((weights @ values).transpose(1, 2).flatten(2))
        torch.testing.assert_close(explicit, out, rtol=0, atol=1e-5)


def test_learned_tokens_are_behind_the_patches():
    """In another order they come out in that order, as do the last rows of the queries, and nothing else changes."""
    encoder, x, order = Encoder(CFG).eval(), images(), [3, 0, 4, 1, 2]
    before = encoder(x)
    with torch.no_grad():
        encoder.tokens.copy_(encoder.tokens[:, order])
        encoder.positions.copy_(encoder.positions[:, order])
    after = encoder(x)
    torch.testing.assert_close(after.tokens, before.tokens[:, order])
    torch.testing.assert_close(after.features, before.features)
    rows = [*range(21), *(21 + i for i in order)]
    torch.testing.assert_close(after.layers[0][0], before.layers[0][0][:, :, rows])


def test_the_images_reach_the_tokens_and_the_tokens_the_patches():
    encoder, x = Encoder(CFG).eval(), images()
    before = encoder(x)
    assert (encoder(x.flip(3)).tokens != before.tokens).any(2).all()
    with torch.no_grad():
        encoder.positions += 1
    assert (encoder(x).features != before.features).any()


def test_only_queries_and_keys_have_no_gradient():
    encoder = Encoder(CFG)
    encoded = encoder(images())
    assert not any(part.requires_grad for pair in encoded.layers for part in pair)
    (encoded.tokens.sum() + encoded.features.square().sum()).backward()
    assert {n for n, p in encoder.named_parameters() if p.grad is None} == {
        "vit.backbone.norm.weight",
        "vit.backbone.norm.bias",
    }


def test_attention_is_left_out_on_request():
    encoder, x = Encoder(CFG).eval(), images()
    encoded = encoder(x, attention=False)
    assert encoded.layers == [] and torch.equal(encoded.features, encoder(x).features)


def test_queries_and_keys_are_in_full_precision():
    with torch.autocast("cpu", torch.bfloat16):
        encoded = Encoder(CFG)(images())
    assert {part.dtype for pair in encoded.layers for part in pair} == {torch.float32}


def test_stochastic_depth_grows_with_the_layers_and_rests_in_evaluation():
    encoder = Encoder(changed(CFG, drop_path=0.22))
    rates = [block.drop_path1.drop_prob for block in encoder.vit.backbone.blocks]
    assert rates == pytest.approx([0.02 * i for i in range(12)])
    assert all(block.drop_path2.drop_prob == block.drop_path1.drop_prob for block in encoder.vit.backbone.blocks)
    x = images(batch=8)
    assert not torch.equal(encoder(x).features, encoder(x).features)
    encoder.eval()
    assert torch.equal(encoder(x).features, encoder(x).features)


@pytest.mark.parametrize("setting", [{"boxes.layers": 13}, {"heads.taps": (4, 6, 8, 14)}], ids=str)
def test_layers_that_the_transformer_does_not_have(setting):
    with pytest.raises(ConfigError, match="12 layers"):
        Encoder(changed(CFG, **setting))


def test_sides_that_do_not_divide():
    with pytest.raises(ValueError, match="multiples of 8"):
        Encoder(CFG)(images(30, 40))


def test_the_group_of_the_backbone_is_the_pretrained_transformer():
    encoder = Encoder(CFG)
    model = nn.ModuleDict({"encoder": encoder, "detector": detector(), "tokens": TokenHeads(128, CFG)})
    groups = make_optimizer(model, Schedule(lr=1.0, new_lr=10.0)).param_groups
    old = {id(p) for group in groups if group["lr"] == 1 for p in group["params"]}
    assert old == {id(p) for p in encoder.vit.parameters()}


# What tokens say


def test_heads_of_the_tokens():
    heads = TokenHeads(128, CFG)
    logits, place = heads(torch.randn(2, 5, 128) * 100)
    assert logits.shape == (2, 5, 4) and place.shape == (2, 5, 2)
    assert place.min() >= 0 and place.max() <= 1
    for head in (heads.label, heads.place):
        assert [type(m) for m in head if not isinstance(m, nn.Dropout)] == [nn.Linear, nn.ReLU] * 2 + [nn.Linear]


# Multiple instances


def mil_case(objects=2, candidates=5):
    head = MilHead(WIDTH, PATCH, CFG)
    corner = torch.rand(2, objects, candidates, 2) * 20
    boxes = torch.cat([corner, corner + 4 + torch.rand(2, objects, candidates, 2) * 16], 3)
    return head, torch.randn(2, WIDTH, *GRID), boxes


def test_zero_logits_by_hand():
    """v = 1 / K, u = 1 / C, so the candidates of a class sum to 1 / C, and the loss follows (spec 7.4)."""
    head, features, boxes = mil_case()
    zeroed(head.label, head.choice)
    scores = head(features, boxes)
    torch.testing.assert_close(scores, torch.full((2, 2, 5, 4), 1 / 20))
    expected = nn.functional.one_hot(torch.tensor([[0, 1], [3, 3]]), 4).float()
    result = nn.functional.binary_cross_entropy(scores.sum(2), expected)
    c = torch.tensor(4.0)
    torch.testing.assert_close(result, -((1 / c).log() + (c - 1) * (1 - 1 / c).log()) / c)


def test_scores_of_a_class_sum_to_at_most_one():
    head, features, boxes = mil_case()
    scores = head(features * 100, boxes)
    assert scores.min() >= 0 and scores.sum(2).max() <= 1 + 1e-6


def test_a_constant_on_all_candidates_changes_nothing():
    head, features, boxes = mil_case()
    before = head(features, boxes)
    with torch.no_grad():
        head.choice.bias += torch.tensor([1.0, -2, 3, 0])
    torch.testing.assert_close(head(features, boxes), before)


def test_the_order_of_the_candidates_does_not_matter():
    head, features, boxes = mil_case()
    order = torch.tensor([2, 0, 4, 3, 1])
    torch.testing.assert_close(head(features, boxes[:, :, order]), head(features, boxes)[:, :, order])


def test_objects_are_scored_in_their_image():
    head, features, boxes = mil_case()
    other = features.clone()
    other[1] += 1
    same = (head(other, boxes) == head(features, boxes)).flatten(2).all(2)
    assert same.tolist() == [[True, True], [False, False]]


def test_a_box_is_read_where_it_lies():
    """The box of exactly one patch reads that patch and those beside it, none farther."""
    head, features, *_ = mil_case()
    boxes = torch.tensor([16.0, 24, 24, 32]).expand(2, 1, 2, 4)
    features.requires_grad_()
    head(features, boxes)[1, 0, 0, 0].backward()
    touched = features.grad.abs().sum(1) > 0
    assert not touched[0].any()
    assert set(map(tuple, touched[1].nonzero().tolist())) <= {(y, x) for y in (2, 3, 4) for x in (1, 2, 3)}
    assert touched[1, 3, 2]


def test_no_gradient_reaches_the_boxes():
    head, features, boxes = mil_case()
    boxes.requires_grad_()
    head(features.requires_grad_(), boxes).square().sum().backward()
    assert boxes.grad is None and features.grad.abs().sum() > 0


def test_no_objects_have_no_scores():
    head, features, boxes = mil_case()
    assert head(features, boxes[:, :0]).shape == (2, 0, 5, 4)


# Parts of the detector


@pytest.mark.parametrize(("side", "token"), [(7, True), (14, False)])
def test_the_decoder_keeps_the_cells(side, token):
    out = Decoder(WIDTH, side, token, CFG.heads)(torch.randn(3, WIDTH, side, side))
    assert out.shape == (3, side**2 + token, 32)


def test_positions_of_the_decoder_are_fixed_and_tell_cells_apart():
    decoder = Decoder(WIDTH, 7, True, CFG.heads)
    assert "positions" not in dict(decoder.named_parameters()) and "positions" not in decoder.state_dict()
    cells = decoder(torch.randn(1, WIDTH, 1, 1).expand(1, WIDTH, 7, 7))[0]
    same = (cells[:, None] - cells).norm(dim=2) < 0.1
    assert torch.equal(same, torch.eye(50, dtype=torch.bool))


def test_masks_are_enlarged_before_or_after_the_convolution():
    """The release: all channels enlarged twice, bicubic with aligned corners, then 1 x 1 to C classes."""
    model, features, labels = detector(), given().features, torch.tensor([2, 0, 3])
    boxes = [torch.tensor([[0.0, 0, 20, 20], [5, 5, 30, 40], [8, 0, 46, 9]])]
    maps = model.mask(roi_align(features, boxes, 14, 1 / PATCH, aligned=True)).mT.unflatten(2, (14, 14))
    large = interpolate(maps, scale_factor=2, mode="bicubic", align_corners=True)
    every = nn.functional.conv2d(large, model.classes.weight[:, :, None, None], model.classes.bias)
    result = model.segment(features, boxes, labels)
    torch.testing.assert_close(result, every[torch.arange(3), labels], rtol=0, atol=1e-5)


def test_anchors_lie_at_the_strides_also_on_odd_grids():
    strides, grids = (2, 8, 16), [(20, 12), (5, 3), (3, 2)]
    features = [torch.zeros(2, 1, *grid) for grid in grids]
    both = Anchors(strides, 4)(type("Images", (), {"image_sizes": [(40, 24)] * 2}), features)
    assert len(both) == 2
    levels = both[0].split([3 * h * w for h, w in grids])
    for (h, w), stride, boxes in zip(grids, strides, levels, strict=True):
        centers = ((boxes[:, :2] + boxes[:, 2:]) / 2).unflatten(0, (h, w, 3))
        assert centers[-1, -1, 1].tolist() == [(w - 1) * stride, (h - 1) * stride]
        square = boxes[1, 2:] - boxes[1, :2]
        assert square.tolist() == [4 * stride] * 2


# The detector


def detector(**settings):
    return Detector(WIDTH, PATCH, changed(CFG, **settings))


def given(batch=1):
    """What the encoder would give, without tokens."""
    features, *taps = torch.randn(5, batch, WIDTH, *GRID)
    return Encoded(PatchGrid(*GRID, PATCH), features, taps, features, [])


def objects(*counts):
    """Boxes within the image, some at its border, and labels."""
    boxes, labels = [], []
    for count in counts:
        corner = torch.rand(count, 2) * 24
        corners = torch.cat([corner, corner + 6 + torch.rand(count, 2) * 10], 1)
        if count > 2:
            corners[0] = torch.tensor([0.0, 0.0, 46.0, 40.0])
            corners[1] = torch.tensor([45.0, 39.0, 46.0, 40.0])
        boxes.append(corners)
        labels.append(torch.arange(count) % 4)
    return boxes, labels


def learn(model, *counts):
    encoded, (boxes, labels) = given(len(counts)), objects(*counts)
    return model(encoded, [SIZE] * len(counts), boxes, labels), boxes, labels


@pytest.mark.parametrize("counts", [(0,), (1,), (12,), (0, 0), (1, 0, 12)], ids=str)
def test_any_number_of_objects(counts):
    model = detector()
    result, boxes, _ = learn(model, *counts)
    terms = detector_terms(result)
    assert set(terms) == {"objectness", "proposal_box", "roi_class", "roi_box"}
    assert all(term.isfinite() and term.ndim == 0 for term in terms.values())
    assert len(result.rois) == len(result.objects) == len(result.mask_logits)
    assert result.mask_logits.isfinite().all() and result.mask_logits.shape[1:] == (28, 28)
    (sum(terms.values()) + result.mask_logits.square().sum()).backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in model.parameters())


def test_the_gradient_reaches_the_features_and_the_taps():
    model, encoded, (boxes, labels) = detector(), given(), objects(3)
    leaves = [t.requires_grad_() for t in (encoded.features, *encoded.taps)]
    sum(detector_terms(model(encoded, [SIZE], boxes, labels)).values()).backward()
    assert all(leaf.grad.abs().sum() > 0 for leaf in leaves)


def test_an_object_is_found_among_the_regions_and_every_region_holds_its_object():
    result, boxes, _ = learn(detector(**{"heads.rois": 400}), 2, 0, 3)
    assert set(result.objects.tolist()) == set(range(5))
    assert (box_iou(result.rois, torch.cat(boxes))[torch.arange(len(result.rois)), result.objects] >= 0.5).all()


def test_images_without_objects_have_no_regions_to_mask():
    result, *_ = learn(detector(), 0, 0)
    assert result.mask_logits.shape == (0, 28, 28) and detector_terms(result)["roi_box"] == 0


def test_terms_of_a_head_that_says_nothing():
    """Equal logits: log(1 + C). No deltas: the regions as they are, and 1 - GIoU of them over all sampled ones."""
    model, sampled = detector(), []
    zeroed(model.predictor.cls_score, model.predictor.bbox_pred)
    model.predictor.register_forward_hook(lambda m, inputs, out: sampled.append(len(out[0])))
    result, boxes, _ = learn(model, 3, 2)
    assert detector_terms(result)["roi_class"].item() == pytest.approx(torch.tensor(5.0).log().item())
    expected = (1 - generalized_box_iou(result.rois, torch.cat(boxes)[result.objects]).diag()).sum() / sampled[0]
    torch.testing.assert_close(detector_terms(result)["roi_box"], expected, rtol=0, atol=1e-5)


def test_masks_are_read_where_their_regions_lie():
    model, encoded = detector(), given(2)
    boxes, labels = ([torch.tensor([[16.0, 8, 32, 24]]), torch.zeros(0, 4)], [torch.tensor([1]), torch.zeros(0).long()])
    features = encoded.features.requires_grad_()
    result = model(encoded, [SIZE] * 2, boxes, labels)
    same = (result.rois == boxes[0]).all(1).nonzero()[0, 0]
    (gradient,) = torch.autograd.grad(result.mask_logits[same].square().sum(), features)
    touched = gradient.abs().sum(1) > 0
    assert set(map(tuple, touched.nonzero().tolist())) == {(0, y, x) for y in range(4) for x in range(1, 5)}


def test_masks_of_a_step_are_of_the_matched_class():
    model = detector()
    nn.init.zeros_(model.classes.weight)
    model.classes.bias.data = torch.tensor([10.0, 20, 30, 40])
    result, _, labels = learn(model, 3, 2)
    torch.testing.assert_close(result.mask_logits.amax((1, 2)), (torch.cat(labels)[result.objects] + 1) * 10.0)


def test_the_sampled_terms_follow_the_seed():
    model, encoded, (boxes, labels) = detector(), given(2), objects(3, 5)

    def step(seed):
        torch.manual_seed(seed)
        result = model(encoded, [SIZE] * 2, boxes, labels)
        return [*detector_terms(result).values(), result.rois, result.objects, result.mask_logits]

    assert all(torch.equal(a, b) for a, b in zip(step(3), step(3), strict=True))


def test_terms_are_there_in_evaluation_too():
    assert "objectness" in learn(detector().eval(), 2)[0].proposal_terms


def test_boxes_keep_their_precision_under_half_precision():
    model, proposed = detector(), []
    model.rpn.register_forward_hook(lambda m, inputs, out: proposed.append(out[0][0]))
    with torch.autocast("cpu", torch.bfloat16):
        result, *_ = learn(model, 2, 3)
    assert {t.dtype for t in (*detector_terms(result).values(), result.mask_logits, result.rois)} == {torch.float32}
    assert not torch.equal(proposed[0], proposed[0].bfloat16().float())


# What it detects


def detect(model, batch=2):
    return model.eval().detect(given(batch), [SIZE] * batch)


def test_detections_are_within_the_image_and_no_more_than_the_cap():
    model = detector()
    model.sampler.detections_per_img = 7
    for objects in detect(model):
        assert len(objects["boxes"]) == 7 and objects["masks"].shape == (7, 28, 28)
        x1, y1, x2, y2 = objects["boxes"].unbind(1)
        assert min(x1.min(), y1.min()) >= 0 and x2.max() <= SIZE[1] and y2.max() <= SIZE[0]
        assert (x2 > x1).all() and (y2 > y1).all()
        assert objects["labels"].min() >= 0 and objects["labels"].max() < 4
        assert torch.equal(objects["scores"], objects["scores"].sort(descending=True)[0])
        assert objects["masks"].min() >= 0 and objects["masks"].max() <= 1
        assert not any(part.requires_grad for part in objects.values())


def test_detections_of_one_class_overlap_little():
    for objects in detect(detector()):
        for label in range(4):
            same = objects["boxes"][objects["labels"] == label]
            assert (box_iou(same, same).triu(1) <= 0.5 + 1e-6).all()


def test_nothing_is_detected_below_the_least_score():
    model = detector()
    model.sampler.score_thresh = 1.0
    for objects in detect(model):
        assert objects["boxes"].shape == (0, 4) and objects["masks"].shape == (0, 28, 28)


def test_masks_of_a_detection_are_of_its_class():
    model = detector()
    nn.init.zeros_(model.classes.weight)
    model.classes.bias.data = torch.tensor([-3.0, -1, 1, 3])
    objects = detect(model)[0]
    expected = model.classes.bias[objects["labels"]].sigmoid()
    torch.testing.assert_close(objects["masks"].amax((1, 2)), expected, rtol=0, atol=1e-5)


def test_an_image_is_detected_by_itself():
    model, encoded = detector().eval(), given(3)
    together = model.detect(encoded, [SIZE] * 3)[1]
    second = encoded._replace(features=encoded.features[1:2], taps=[t[1:2] for t in encoded.taps])
    alone = model.detect(second, [SIZE])[0]
    assert len(alone["boxes"])
    for name, value in alone.items():
        torch.testing.assert_close(together[name], value, rtol=0, atol=1e-4)
