"""Backbones have the strides they say; weights are what their card says, and never a pickle."""

import json
import os
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from wsis.core.errors import ConfigError, WeightsError
from wsis.models import build_pyramid
from wsis.models import convnets as backbones
from wsis.models import weights as weights_module
from wsis.models.convnets import IMAGENET_MEAN, IMAGENET_STD
from wsis.models.weights import load_weights, save_weights, sha256, shipped

TINY = ("vgg_tiny", "hrnet_tiny", "resnet_tiny")


@pytest.mark.parametrize("name", [*TINY, "mobilenetv2"])
def test_features_have_the_strides_and_channels_they_say(name):
    backbone = build_pyramid(name, "random").eval()
    with torch.no_grad():
        features = backbone(torch.rand(2, 3, 64, 96))
    found = [tuple(f.shape) for f in features]
    assert found == [(2, c, 64 // s, 96 // s) for c, s in zip(backbone.channels, backbone.strides, strict=True)]


@pytest.mark.parametrize("name", ["vgg16", "hrnet_w48", "resnet50"])
def test_full_size_trunks(name):
    with torch.device("meta"):
        backbone = build_pyramid(name, "random").eval()
        features = backbone(torch.empty(1, 3, 64, 96))
    found = [tuple(f.shape[1:]) for f in features]
    assert found == [(c, 64 // s, 96 // s) for c, s in zip(backbone.channels, backbone.strides, strict=True)]


@pytest.mark.parametrize("name", ["resnet_tiny", "mobilenetv2"])
def test_output_stride(name):
    assert build_pyramid(name, "random", output_stride=8).strides[-1] == 8


def test_images_are_normalised():
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


def test_no_network(monkeypatch):
    def unreachable(*args, **options):
        raise OSError("no route to host")

    monkeypatch.setattr(backbones.timm, "create_model", unreachable)
    with pytest.raises(WeightsError, match="weights=random"):
        build_pyramid("resnet50", "imagenet")


# Weights


@pytest.fixture
def package(tmp_path, monkeypatch):
    """A package that ships weights of vgg_tiny."""
    monkeypatch.setattr(weights_module.resources, "files", lambda _: tmp_path)
    path = tmp_path / "shipped" / "vgg_tiny.safetensors"
    torch.manual_seed(0)
    save_weights(path, build_pyramid("vgg_tiny", "random").network, half=True)
    path.with_suffix(".json").write_text(json.dumps({"sha256": sha256(path)}))
    return tmp_path


def test_shipped_weights_are_loaded(package):
    torch.manual_seed(0)
    expected = build_pyramid("vgg_tiny", "random").network.state_dict()
    found = build_pyramid("vgg_tiny", "shipped").network.state_dict()
    assert all(torch.equal(v, expected[k].half().to(v.dtype)) for k, v in found.items())
    assert {v.dtype for v in found.values() if v.is_floating_point()} == {torch.float32}


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


# Folded int8 convolutions


def folded():
    first, second = nn.Conv2d(3, 4, 3, bias=False), nn.Conv2d(4, 2, 1, bias=False)
    return nn.Sequential(first, nn.BatchNorm2d(4), nn.ReLU(), second, nn.BatchNorm2d(2))


def arrays():
    rng = np.random.default_rng(0)
    made = {}
    for k, shape in enumerate([(4, 3, 3, 3), (2, 4, 1, 1)]):
        made[f"{k}.w"] = rng.integers(-127, 128, shape, dtype=np.int8)
        made[f"{k}.scale"] = rng.uniform(0.001, 0.01, shape[0]).astype(np.float32)
        made[f"{k}.b"] = rng.normal(size=shape[0]).astype(np.float32)
    return made


def test_folded_convolutions(tmp_path):
    made, model, x = arrays(), folded(), torch.rand(2, 3, 8, 8)
    np.savez(tmp_path / "w.npz", **made)
    load_weights(model, tmp_path / "w.npz")
    expected = x
    for k in (0, 1):
        weight = torch.from_numpy(made[f"{k}.w"] * made[f"{k}.scale"][:, None, None, None])
        expected = nn.functional.conv2d(expected.relu() if k else expected, weight, torch.from_numpy(made[f"{k}.b"]))
    torch.testing.assert_close(model.train()(x), expected)  # the statistics are frozen


def test_folded_convolutions_of_another_model(tmp_path):
    made = arrays()
    np.savez(tmp_path / "shape.npz", **{**made, "1.w": made["1.w"][:, :3]})
    with pytest.raises(WeightsError, match="convolution 1 has shape"):
        load_weights(folded(), tmp_path / "shape.npz")
    np.savez(tmp_path / "few.npz", **{k: v for k, v in made.items() if k[0] == "0"})
    with pytest.raises(WeightsError, match=r"1\.w"):
        load_weights(folded(), tmp_path / "few.npz")


def test_an_npz_that_is_none(tmp_path):
    (tmp_path / "w.npz").write_bytes(b"no zip")
    with pytest.raises(WeightsError, match="does not hold folded convolutions"):
        load_weights(folded(), tmp_path / "w.npz")
    np.savez(tmp_path / "object.npz", **{"0.w": np.array([{}], dtype=object)})
    with pytest.raises(WeightsError, match="allow_pickle=False"):
        load_weights(folded(), tmp_path / "object.npz")


MOBILENET = os.environ.get("WSIS_WEIGHTS")


@pytest.mark.skipif(not MOBILENET, reason="WSIS_WEIGHTS is not set: MobileNetV2's real weights are not checked")
def test_real_mobilenet():
    """Features of ImageNet weights are finite, of even size, and far from those of random ones."""
    backbone = build_pyramid("mobilenetv2", MOBILENET, output_stride=8).eval()
    with torch.no_grad():
        features = backbone(torch.rand(1, 3, 64, 96, generator=torch.Generator().manual_seed(0)))
    assert [tuple(f.shape[2:]) for f in features] == [(64 // s, 96 // s) for s in backbone.strides]
    assert all(0.01 < f.std() < 100 for f in features)
