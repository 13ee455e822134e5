"""BESTIE's modules: peak attention by its invariants, shapes and sizes of the networks, exact resampling."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from wsis.core.config import changed
from wsis.core.errors import ConfigError
from wsis.methods.bestie import FULL, TINY, build, infer, restore
from wsis.methods.bestie.model import BestieNet, Classifier, Outputs, PeakAttention
from wsis.models import build_pyramid
from wsis.models.weights import save_weights

RANDOM = changed(TINY, weights="random", classes=5)


def activation(seed, shape=(2, 3, 4, 5)):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def affine(center, size):
    """Offsets [1, 2, H, W] of one object at `center` (y, x)."""
    y, x = torch.meshgrid(*(torch.arange(s, dtype=torch.float64) for s in size), indexing="ij")
    return torch.stack((center[0] - y, center[1] - x))[None]


class Fixed(nn.Module):
    def __init__(self, value):
        super().__init__()
        self.value = value

    def forward(self, _):
        return self.value


def test_maps_are_no_steps_of_bf16_under_autocast():
    """Else neighbors have equal heights, and each of them is a center."""
    torch.manual_seed(0)
    model = build(RANDOM).eval()
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        outputs = model(torch.rand(1, 3, 64, 64))
    for maps in outputs:
        cells = maps[..., 2::4, 2::4]
        assert maps.dtype == torch.float32 and not torch.equal(cells, cells.bfloat16().float())


def test_a_large_image_is_shrunk_without_aliases():
    seen, cfg = [], changed(RANDOM, **{"size.test_long_side": 64}, flip=False)

    class Seen(nn.Module):
        def forward(self, images):
            seen.append(images)
            return Outputs(*(images.new_zeros(1, c, *images.shape[-2:]) for c in (6, 5, 2)))

    infer(Seen(), torch.rand(1, 3, 512, 512, generator=torch.Generator().manual_seed(0)), cfg)
    assert seen[0].shape[-2:] == (64, 64) and seen[0].std() < 0.1  # of noise of .29, 8 x 8 pixels at once


# Peak attention


def test_peak_attention_by_hand():
    x = torch.tensor([1, 0.6, 0.49, 0]).view(1, 1, 2, 2)
    assert PeakAttention(0.5)(x).flatten().tolist() == torch.tensor([1, 0.6, 0, 0]).tolist()


def test_a_value_on_the_boundary_stays():
    x = torch.tensor([1.0, 0.5, 0.25, -1]).view(1, 1, 2, 2)
    assert PeakAttention(0.5)(x).flatten().tolist() == [1, 0.5, 0, 0]


def test_maxima_are_per_image_and_channel():
    x = torch.tensor([[[[8.0, 3]], [[1, 0.4]]], [[[0.2, 0.1]], [[-1, -2]]]])
    expected = [[[[8.0, 0]], [[1, 0]]], [[[0.2, 0.1]], [[0, 0]]]]
    assert torch.equal(PeakAttention(0.5)(x), torch.tensor(expected))


@given(seed=st.integers(0, 10_000), alpha=st.floats(0, 1), scale=st.sampled_from([0.25, 2.0, 1024.0]))
@settings(max_examples=40, deadline=None)
def test_peak_attention_invariants(seed, alpha, scale):
    attend, x = PeakAttention(alpha), activation(seed)
    y = attend(x)
    assert torch.equal(attend(y), y)
    assert torch.equal(attend(scale * x), scale * y)
    assert torch.equal(y.amax((2, 3)), x.relu().amax((2, 3)))
    assert torch.equal(y[y > 0], x[y > 0])


def test_alpha_zero_is_the_relu():
    assert torch.equal(PeakAttention(0.0)(activation(0)), activation(0).relu())


def test_larger_alpha_keeps_fewer():
    kept = [int((PeakAttention(a / 20)(activation(3, (1, 2, 9, 9))) > 0).sum()) for a in range(21)]
    assert kept == sorted(kept, reverse=True)
    assert kept[-1] == 2


def test_the_gradient_flows_through_kept_positions_only():
    x = activation(1).requires_grad_()
    y = PeakAttention(0.5)(x)
    y.sum().backward()
    assert torch.equal(x.grad, (y > 0).double())


# Classifier


def classifier(layers, backbone="vgg_tiny"):
    settings = {"classifier_backbone": backbone, "classifier_weights": "random", "pam.layers": layers}
    return Classifier(changed(RANDOM, **settings))


@pytest.mark.parametrize("layers", [(), (6,), (5, 6), (4, 5, 6), (4,)])
def test_where_peak_attention_sits(layers):
    model, convolutions = classifier(layers), {4: 2, 5: 2, 6: 3}
    modules = [m for part in (*model.backbone.network.stages, model.layer6) for m in part]
    attention = [m for m in modules if isinstance(m, PeakAttention)]
    assert len(attention) == sum(convolutions[layer] for layer in layers)
    assert len(set(attention)) <= 1
    last = [m for m in model.layer6 if not isinstance(m, nn.Conv2d)]
    assert all(isinstance(m, PeakAttention) == (6 in layers) for m in last)
    assert model(torch.rand(2, 3, 96, 64)).shape == (2, 5, 12, 8)


def test_vgg16_at_the_published_size():
    with torch.device("meta"):
        model = Classifier(changed(FULL, classifier_weights="random"))
        assert model(torch.empty(1, 3, 321, 321)).shape == (1, 20, 40, 40)
    last = [m for m in model.backbone.network.stages[-1] if isinstance(m, nn.Conv2d)]
    assert [m.dilation for m in last] == [(2, 2)] * 3
    backbone = 14_714_688  # VGG-16 without its three fully connected layers
    assert sum(p.numel() for p in model.parameters()) == backbone + 3 * (512 * 512 * 9 + 512) + 512 * 20 + 20


def test_backbones_without_vgg_stages():
    with pytest.raises(ConfigError, match="stages of VGG"):
        classifier((5,), "resnet_tiny")
    model = classifier((6,), "resnet_tiny")
    assert model(torch.rand(2, 3, 64, 64)).shape == (2, 5, 8, 8)


def test_a_stage_that_does_not_exist():
    with pytest.raises(ConfigError, match="choose from 4, 5, 6"):
        classifier((3,))


# The network


@pytest.mark.parametrize("backbone", ["hrnet_tiny", "resnet_tiny"])
@pytest.mark.parametrize(("mode", "centers"), [("class_wise", 5), ("class_agnostic", 1)])
def test_maps_have_the_size_of_the_image(backbone, mode, centers):
    model = build(changed(RANDOM, backbone=backbone, center_mode=mode))
    outputs = model(torch.rand(2, 3, 64, 96))
    assert [tuple(x.shape) for x in outputs] == [(2, 6, 64, 96), (2, centers, 64, 96), (2, 2, 64, 96)]


@pytest.mark.parametrize(
    ("backbone", "millions"), [("hrnet_w48", (63.9, 64)), ("resnet50", (52, 60))], ids=["HRNet-W48", "ResNet-50"]
)
def test_full_size(backbone, millions):
    """The pose network HRNet-W48 has 63.6 M parameters, ResNet-50 23.5 M; two decoders 32 M."""
    with torch.device("meta"):  # shapes alone, nothing is computed
        model = build(changed(FULL, backbone=backbone, weights="random")).eval()
        outputs = model(torch.empty(1, 3, 416, 352))
    assert [tuple(x.shape) for x in outputs] == [(1, c, 416, 352) for c in (21, 20, 2)]
    low, high = millions
    assert low < sum(p.numel() for p in model.parameters()) / 1e6 < high


@pytest.mark.parametrize("backbone", ["hrnet_tiny", "resnet_tiny"])
def test_every_parameter_has_a_gradient(backbone):
    """Else processes would have to look for those that have none, in every step."""
    model = build(changed(RANDOM, backbone=backbone))
    sum(x.sum() for x in model(torch.rand(2, 3, 64, 64))).backward()
    assert [n for n, p in model.named_parameters() if p.grad is None] == []


def test_files_with_the_coarser_outputs_of_hrnet_still_load(tmp_path):
    model, whole = build(RANDOM), build_pyramid("hrnet_tiny", "random").network
    model.backbone.network = whole
    save_weights(tmp_path / "network.safetensors", model)
    restored = restore(RANDOM, tmp_path)
    state = whole.state_dict()
    assert all(torch.equal(v, state[k]) for k, v in restored.backbone.network.state_dict().items())
    assert len(restored.backbone.network.state_dict()) < len(state)


def test_hrnet_heads_have_the_published_width():
    with torch.device("meta"):
        model = build(changed(FULL, weights="random"))
    sizes = [sum(p.numel() for p in head.parameters()) for head in model.decoder.heads]
    assert sizes == [48 * 256 * 9 + 256 + 256 * out + out for out in (21, 20, 2)]


@pytest.mark.parametrize("backbone", ["hrnet_tiny", "resnet_tiny"])
def test_center_maps_start_below_the_threshold_of_refinement(backbone):
    torch.manual_seed(0)
    outputs = build(changed(RANDOM, backbone=backbone)).eval()(torch.rand(2, 3, 64, 64))
    assert outputs.center.abs().max() < 0.1


def test_batch_norm_of_the_decoders():
    model = build(changed(RANDOM, backbone="resnet_tiny", bn_momentum=0.03))
    assert {m.momentum for m in model.decoder.modules() if isinstance(m, nn.BatchNorm2d)} == {0.03}
    assert {m.momentum for m in model.backbone.modules() if isinstance(m, nn.BatchNorm2d)} == {0.1}


def test_one_image_per_process_can_train():
    """A batch norm of the pooled branch would see one value per channel, and refuse it."""
    outputs = build(changed(RANDOM, backbone="resnet_tiny")).train()(torch.rand(1, 3, 64, 64))
    assert all(maps.isfinite().all() for maps in outputs)


# Resampling


def network_with(maps, backbone):
    model = BestieNet(changed(RANDOM, backbone=backbone, classes=1))
    model.backbone, model.decoder = nn.Identity(), Fixed(maps)
    return model


def test_offsets_of_hrnet_are_exact_away_from_the_border():
    exact = affine((17.0, 29.0), (48, 64))
    at_cells = exact[:, :, 1:3, 1:3].mean((2, 3))  # a cell's centre lies between pixels 1 and 2
    cells = torch.stack(
        (
            at_cells[:, 0, None, None] - 4 * torch.arange(12.0)[:, None].expand(12, 16),
            at_cells[:, 1, None, None] - 4 * torch.arange(16.0).expand(12, 16),
        ),
        1,
    )
    maps = [torch.zeros(1, 2, 12, 16), torch.zeros(1, 1, 12, 16), cells]
    found = network_with(maps, "hrnet_tiny")(torch.zeros(1, 3, 48, 64)).offset
    inner = (..., slice(2, -2), slice(2, -2))
    torch.testing.assert_close(found[inner], exact[inner].float(), rtol=0, atol=1e-5)
    assert (found - exact).abs().max() > 0.5


def test_offsets_of_the_other_decoder_are_exact_with_aligned_corners():
    exact = affine((17.0, 29.0), (45, 61))
    maps = [torch.zeros(1, 2, 12, 16), torch.zeros(1, 1, 12, 16), exact[:, :, ::4, ::4]]
    found = network_with(maps, "resnet_tiny")(torch.zeros(1, 3, 45, 61)).offset
    torch.testing.assert_close(found, exact.float(), rtol=0, atol=1e-5)


def test_outputs_at_another_size_point_to_the_same_object():
    """Pixel centres at integers: y at one size is (y + 1/2) * ratio - 1/2 at the other."""
    offset = affine((17.0, 29.0), (48, 64)).float()
    found = infer(Fixed(Outputs(offset, offset, offset)), torch.zeros(1, 3, 96, 96), RANDOM).offset
    expected = affine((17.5 * 2 - 0.5, 29.5 * 1.5 - 0.5), (96, 96)).float()
    inner = (..., slice(1, -1), slice(1, -1))
    torch.testing.assert_close(found[inner], expected[inner], rtol=0, atol=1e-4)


def test_maps_are_float32_under_half_precision():
    with torch.autocast("cpu", torch.bfloat16):
        outputs = build(RANDOM)(torch.rand(2, 3, 32, 32))
    assert {x.dtype for x in outputs} == {torch.float32}
