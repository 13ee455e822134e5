"""A transformer as a feature pyramid: which layer is at which stride, and BESTIE on it."""

import pytest
import torch

from wsis.core.config import changed
from wsis.core.errors import ConfigError
from wsis.core.types import Batch, Points
from wsis.methods import bestie
from wsis.models import build_pyramid
from wsis.models.pyramids import TAPS, TEMPERATURE, Backbone, ViTPyramid, build_tokens, patch_features
from wsis.models.vit import build_vit
from wsis.training.schedule import Schedule, make_optimizer

ON_VGG = changed(bestie.TINY, backbone="vgg_tiny", weights="random")


def images(*size, batch=2):
    return torch.rand(batch, 3, *size, generator=torch.Generator().manual_seed(0))


def test_the_pyramid_of_a_transformer_is_new_also_where_the_whole_is_a_backbone():
    detector = torch.nn.ModuleDict({"backbone": build_pyramid("vit_tiny", "random")})
    groups = make_optimizer(detector, Schedule(lr=1.0, new_lr=10.0, layer_decay=0.5)).param_groups
    rates = {id(p): group["lr"] for group in groups for p in group["params"]}
    new = {id(p) for name, p in detector.named_parameters() if ".pyramid." in name}
    assert new and {rates[p] for p in new} == {10.0} and max(v for p, v in rates.items() if p not in new) <= 1.0


@pytest.mark.parametrize("build", [lambda: Backbone("vit_tiny", "random"), lambda: bestie.build(ON_VGG)])
def test_a_backbone_without_the_stride_is_an_error_that_says_so(build):
    with pytest.raises(ConfigError, match=r"no feature of stride \d+, only \(.*\); choose another backbone"):
        build()


# From taps to levels


@pytest.mark.parametrize("grid", [(2, 4), (3, 5), (1, 1)], ids=["even", "odd", "one patch"])
def test_levels_have_their_strides(grid):
    h, w = grid
    levels = ViTPyramid(8)([torch.rand(2, 8, h, w) for _ in range(4)])
    sizes = [(4 * h, 4 * w), (2 * h, 2 * w), (h, w), ((h + 1) // 2, (w + 1) // 2)]
    assert [tuple(f.shape) for f in levels] == [(2, 8, *size) for size in sizes]


def test_the_third_level_is_its_tap_and_the_fourth_the_maximum_of_four_patches():
    taps = [torch.randn(1, 2, 3, 3) for _ in range(4)]
    third, fourth = ViTPyramid(2)(taps)[2:]
    assert torch.equal(third, taps[2])
    assert fourth[0, :, 0, 0].tolist() == taps[3][0, :, :2, :2].amax((1, 2)).tolist()
    assert fourth[0, :, 1, 1].tolist() == taps[3][0, :, 2, 2].tolist()


def test_enlarging_keeps_the_place():
    """A change of one patch stays in the pixels that it covers."""
    pyramid, tap = ViTPyramid(3).eval(), torch.randn(1, 3, 2, 4)
    other = tap.clone()
    other[0, :, 1, 2] += 1
    for level, scale in ((0, 4), (1, 2)):
        before, after = (pyramid([t] * 4)[level] for t in (tap, other))
        y, x = ((before - after).abs().sum(1)[0] > 0).nonzero().unbind(1)
        assert (y.min(), y.max(), x.min(), x.max()) == (scale, 2 * scale - 1, 2 * scale, 3 * scale - 1)


def test_patches_lie_in_rows_behind_the_class_token():
    x = torch.arange(1 + 6 + 2)[None, :, None] * torch.ones(1, 1, 4)
    assert patch_features(x, torch.zeros(1, 3, 16, 24), 8)[0, 0].tolist() == [[1, 2, 3], [4, 5, 6]]


# As a backbone


@pytest.mark.parametrize("name", ["vit_tiny", "vit_small", "vit_base"])
def test_features_have_the_strides_and_channels_they_say(name):
    with torch.device("meta"):
        backbone = build_pyramid(name, "random").eval()
        features = backbone(torch.empty(1, 3, 64, 96))
    actual = [tuple(f.shape) for f in features]
    assert actual == [(1, c, 64 // s, 96 // s) for c, s in zip(backbone.channels, backbone.strides, strict=True)]
    assert backbone.strides == ((2, 4, 8, 16) if name == "vit_tiny" else (4, 8, 16, 32))


def test_features_are_those_of_the_pretrained_layers():
    """The third level is layer 8 of the transformer with the checkpoint's weights, which normalized the images."""
    vit, backbone, x = (build_vit("vit_tiny", "mae").eval(), build_pyramid("vit_tiny", "mae").eval(), images(32, 48))
    expected = patch_features(vit.run(vit.embed(x), 0, TAPS[2]), x, vit.patch)
    torch.testing.assert_close(backbone(x)[2], expected)
    torch.testing.assert_close(backbone.network((x - backbone.mean) / backbone.std)[2], expected)


def test_sides_that_do_not_divide():
    with pytest.raises(ValueError, match="multiples of 8"):
        build_pyramid("vit_tiny", "random")(images(30, 32))


@pytest.mark.parametrize("weights", ["imagenet", "shipped"])
def test_weights_that_a_transformer_does_not_have(weights):
    with pytest.raises(ConfigError, match="use mae"):
        build_pyramid("vit_tiny", weights)


def test_a_name_that_is_neither():
    with pytest.raises(ConfigError, match="vit_small"):
        build_pyramid("vit_huge", "random")


# BESTIE on a transformer (AttentionShift, supp. Table 3)

CFG = changed(bestie.TINY, backbone="vit_tiny", weights="mae", width=16, classes=5)


def batch():
    maps = torch.zeros(2, 64, 96, dtype=torch.long)
    maps[0, 10:40, 20:60], maps[1, 30:60, 8:50] = 3, 5
    tags = torch.zeros(2, 5, dtype=torch.bool)
    tags[0, 2] = tags[1, 4] = True
    points = Points.make(torch.tensor([[40.0, 25], [30, 45]]), torch.tensor([2, 4]), image=torch.tensor([0, 1]))
    valid = torch.ones(2, 64, 96, dtype=torch.bool)
    return Batch(images=images(64, 96), image_ids=(0, 1), valid=valid, tags=tags, points=points, semantic_maps=maps)


def test_bestie_learns_on_a_transformer():
    model, given = bestie.build(CFG), batch()
    terms = bestie.loss(model, given, bestie.targets(model, given, CFG), CFG)
    assert all(term.isfinite() for term in terms.values())
    terms["total"].backward()
    untrained = {n for n, p in model.named_parameters() if p.grad is None}
    assert all("levels.0" in n or "vit.backbone.norm" in n for n in untrained)  # no head reads stride 2


def test_bestie_predicts_at_any_size():
    predicted = bestie.predict(bestie.build(CFG).eval(), images(50, 70), CFG)
    assert [p.masks.shape[1:] for p in predicted] == [(50, 70)] * 2


def test_the_pretrained_weights_of_bestie_are_in_the_group_of_the_backbone():
    model = bestie.build(CFG)
    groups = make_optimizer(model, Schedule(lr=1.0, new_lr=10.0)).param_groups
    old = {id(p) for group in groups if group["lr"] == 1 for p in group["params"]}
    assert {id(p) for p in model.backbone.network.vit.parameters()} <= old
    assert not {id(p) for p in model.decoder.parameters()} & old


def test_convolutional_features_as_tokens():
    model, images = build_tokens("resnet_tiny", "random").eval(), torch.rand(2, 3, 64, 96)
    features = model.backbone(images)
    sixteen, thirty_two = (torch.nn.functional.normalize(f) for f in features[-2:])
    tokens = model.features(images)
    torch.testing.assert_close(tokens[:, 7, : sixteen.shape[1]], sixteen[:, :, 1, 1])
    assert tokens.shape == (2, 24, sixteen.shape[1] + thirty_two.shape[1])
    torch.testing.assert_close(tokens.norm(dim=2), torch.full((2, 24), 2**0.5))
    assert model(images).shape == (2, 24, model.width)


def test_cosine_of_tokens_is_their_similarity():
    model, images = build_tokens("resnet_tiny", "random").eval(), torch.rand(1, 3, 64, 64)
    similarity, features = model.attention(images, 10), model.features(images)
    torch.testing.assert_close(similarity.sum(2), torch.ones(1, 16))
    cosine = torch.cosine_similarity(features[0, 3], features[0], dim=-1)
    torch.testing.assert_close(similarity[0, 3].log().diff(), cosine.diff() / TEMPERATURE, atol=1e-4, rtol=1e-3)


def test_tokens_of_a_frozen_network_are_compared_as_they_are():
    model = build_tokens("efficientnet_lite0_frozen", "random")
    assert {n for n, p in model.named_parameters() if p.requires_grad} == {"project.weight", "project.bias"}
    assert not any(isinstance(m, torch.nn.BatchNorm2d) for m in model.modules())


def test_tokens_have_the_stride_of_the_last_feature_but_one():
    patches = {name: build_tokens(name, "random").patch for name in ("vgg_tiny", "resnet_tiny", "vit_tiny")}
    assert patches == {"vgg_tiny": 8, "resnet_tiny": 16, "vit_tiny": 8}
    assert build_tokens("vgg_tiny", "random")(torch.rand(1, 3, 40, 24)).shape == (1, 15, 128)
