"""Mask2Former (Cheng et al., CVPR 2022; transformers', imported only when a network is built) on this package's backbones."""

from types import SimpleNamespace
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from wsis.core.masks import RunLengths, Size, encode_part
from wsis.core.types import Instances
from wsis.models.convnets import scale_of
from wsis.models.pyramids import Backbone
from wsis.models.segmenters.targets import SMALL, Target, Terms, View, at_image_size, size_of, stacked_masks

TERMS = ("cross_entropy", "mask", "dice")  # weights 2, 5, 5; each summed over the decoder's layers
DETECTIONS = 100  # per image


class Design(NamedTuple):
    view: View
    width: int
    heads: int
    feedforward: tuple[int, int]  # of the pixel decoder's encoder, and of the decoder
    layers: tuple[int, int]  # likewise
    queries: int
    points: int  # sampled per mask for the loss


# Large-scale jitter: the longer side becomes .1 to 2 times 1,024, of which a square of 1,024 is seen.
FULL = Design(View(short=(2048, 2048), long=(102.4, 2048), crop=1024), 256, 8, (1024, 2048), (6, 9), 100, 112 * 112)
DESIGNS = {
    "full": FULL,
    "small": Design(FULL.view.scaled(SMALL), 128, 8, (256, 512), (3, 5), 50, 64 * 64),
    "tiny": Design(View(), 64, 4, (128, 128), (2, 3), 20, 32 * 32),
}


class Encoder(nn.Module):
    """The backbone in the place of the library's own."""

    def __init__(self, backbone: str, weights: str) -> None:
        super().__init__()
        self.backbone = Backbone(backbone, weights)

    def forward(self, normalized: Tensor) -> SimpleNamespace:
        return SimpleNamespace(feature_maps=self.backbone(normalized))


class Mask2Former(nn.Module):
    """Mask2Former at the scale of its backbone, see `scale_of`."""

    def __init__(self, classes: int, backbone: str, weights: str) -> None:
        super().__init__()
        design = DESIGNS[scale_of(backbone)]
        self.view, self.classes = design.view, classes
        self.network: Any = _library_network(design, classes)
        pixels = self.network.model.pixel_level_module
        pixels.encoder = Encoder(backbone, weights)
        pixels.decoder = type(pixels.decoder)(self.network.config, self.backbone.channels)
        pixels.decoder.apply(self.network._init_weights)

    @property
    def backbone(self) -> Backbone:
        return self.network.model.pixel_level_module.encoder.backbone

    def forward(self, images: list[Tensor], targets: list[Target] | None = None) -> Terms | list[Instances]:
        """Return the weighted terms of the loss (whose matching waits for the device), or without targets the detections."""
        if targets is not None:
            return self.loss(self.backbone.stack(images), targets)
        windows = [self.view.at_test(*image.shape[1:]) for image in images]
        batch = self.backbone.stack([w.image(i) for w, i in zip(windows, images, strict=True)])
        out = self.network(batch)
        rows = zip(out.class_queries_logits, out.masks_queries_logits, windows, images, strict=True)
        return [self.detect(c, m, size_of(batch), w.size, size_of(i)) for c, m, w, i in rows]

    def loss(self, batch: Tensor, targets: list[Target]) -> Terms:
        """Run the library's matching and losses, in fp32, on every layer's prediction."""
        out = self.network(batch, output_auxiliary_logits=True)
        counts = [len(t.labels) for t in targets]
        masks = stacked_masks([t.masks for t in targets], size_of(batch)).float().split(counts)
        predicted = out.masks_queries_logits.float(), out.class_queries_logits.float()
        auxiliary = [{k: v.float() for k, v in layer.items()} for layer in out.auxiliary_logits]
        with torch.autocast(batch.device.type, enabled=False):
            terms = self.network.get_loss_dict(*predicted, masks, [t.labels for t in targets], auxiliary)
        layers = {n: [v for k, v in terms.items() if k.startswith(f"loss_{n}")] for n in TERMS}
        return {n: torch.stack(values).sum() for n, values in layers.items()}

    def detect(self, classes: Tensor, masks: Tensor, padded: Size, resized: Size, size: Size) -> Instances:
        """Return one image's 100 best pairs of query and class, by class probability x mean probability in the mask.

        classes: logits [Q, C + 1], the last is no object. masks: logits [Q, h, w]. The library's own post-processing goes
        through 384 x 384 pixels whatever the image's aspect, drops low scores, and rounds the others.
        """
        probability = classes.float().softmax(-1)[:, :-1].flatten()
        scores, best = probability.topk(min(DETECTIONS, len(probability)))
        query, labels = best // self.classes, best % self.classes
        entries, means = [], []
        for part in at_image_size(masks.float(), padded, resized, size, 0):
            inside = part.pixels > 0
            entries.append(encode_part(part._replace(pixels=inside), size))
            means.append(part.pixels.sigmoid_().mul_(inside).sum() / inside.sum().clamp(min=1))
        runs = RunLengths(entries, size)[query]
        return Instances.make(runs, labels, scores=scores * torch.stack(means)[query])


def _library_network(design: Design, classes: int) -> nn.Module:
    """Build transformers' network on the smallest backbone that it builds by itself, in whose place ours goes."""
    from transformers import Mask2FormerConfig, Mask2FormerForUniversalSegmentation, SwinConfig

    smallest = {"embed_dim": 8, "depths": [1] * 4, "num_heads": [1] * 4}
    settings: Any = {
        "backbone_config": SwinConfig(**smallest, out_features=[f"stage{i}" for i in range(1, 5)]),  # pyright: ignore
        "num_labels": classes,
        **dict.fromkeys(("feature_size", "mask_feature_size", "hidden_dim"), design.width),
        "num_attention_heads": design.heads,
        "encoder_feedforward_dim": design.feedforward[0],
        "dim_feedforward": design.feedforward[1],
        "encoder_layers": design.layers[0],
        "decoder_layers": design.layers[1] + 1,  # the library counts the prediction before the first layer
        "num_queries": design.queries,
        "train_num_points": design.points,
    }
    return Mask2FormerForUniversalSegmentation(Mask2FormerConfig(**settings))
