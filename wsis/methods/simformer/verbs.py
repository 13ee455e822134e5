"""SimFormer: masks of base classes, tags of novel ones -> a class for every pixel (NeurIPS 2022).

    image --MaskFormer--> proposals of class and mask; classes learn from tags too, masks from base classes
    pixels of two images --SimNet, taught on base classes--> how alike novel pixels' scores should be
    training images --predicted novel, true base--> class maps, from which a plain MaskFormer learns (SimFormer*)

Junjie Chen et al.: Weak-shot Semantic Segmentation via Dual Similarity Transfer. Official code:
github.com/bcmi/SimFormer-Weak-Shot-Semantic-Segmentation.
"""

from pathlib import Path

import torch
from timm.layers.norm_act import freeze_batch_norm_2d
from torch import Tensor, nn

from wsis.core.config import changed
from wsis.core.types import Batch, Dataset, Trace
from wsis.methods.simformer.config import SimFormerConfig
from wsis.methods.simformer.crops import SemanticAugment
from wsis.methods.simformer.labels import best_classes, class_scores, pseudo_maps
from wsis.methods.simformer.model import MaskFormer
from wsis.methods.simformer.objective import class_loss, complement_loss, mask_loss, match
from wsis.methods.simformer.pairs import pixel_pair_losses
from wsis.methods.simformer.partners import References, presence
from wsis.methods.simformer.simnet import SimNet
from wsis.methods.simformer.targets import find_targets
from wsis.models.weights import load_weights
from wsis.training.loop import TrainingData


class SimFormer(nn.Module):
    """MaskFormer, and SimNet where pairs of pixels teach. Call: one batch -> terms of the loss."""

    novel: Tensor

    def __init__(self, cfg: SimFormerConfig) -> None:
        super().__init__()
        self.network = MaskFormer(cfg)
        self.simnet = SimNet(cfg.net.width, cfg.pairs) if cfg.uses_pairs else None
        # on the device, so that no step waits to bring it there
        self.register_buffer("novel", torch.tensor(cfg.novel, dtype=torch.long), persistent=False)

    def forward(self, batch: Batch, cfg: SimFormerConfig) -> dict[str, Tensor]:
        assert batch.semantic_maps is not None and batch.tags is not None
        novel = cfg.novel if cfg.masks == "base" else ()
        # before the network, since it waits for the device
        targets = find_targets(batch.semantic_maps, batch.tags, novel)
        outputs = self.network(batch.images)
        found = match(outputs.logits, outputs.masks, targets, cfg)
        focal, dice = mask_loss(outputs.masks, found, targets, cfg)
        terms = {"label": class_loss(outputs.logits, found, targets, cfg), "focal": focal, "dice": dice}
        total = terms["label"] + cfg.mask.focal * focal + cfg.mask.dice * dice
        if novel and cfg.complement.weight:
            terms["complement"], terms["ignored"] = complement_loss(outputs.masks, found, targets, batch.valid, cfg)
            total = total + cfg.complement.weight * terms["complement"]
        if self.simnet is not None:
            terms |= pixel_pair_losses(
                self.simnet, outputs, batch.semantic_maps, batch.valid, batch.tags, self.novel, cfg.pairs
            )
            total = total + cfg.pairs.similarity * terms["similarity"]
            total = total + cfg.pairs.distillation * terms["distillation"]
        return {**terms, "total": total}


def build(cfg: SimFormerConfig) -> SimFormer:
    """The networks, the backbone with its pretrained weights.

    Raises:
        ConfigError, WeightsError: see `build_pyramid`.
    """
    return SimFormer(cfg)


def restore(cfg: SimFormerConfig, folder: Path) -> SimFormer:
    """What of a run folder predicts: the second network, where there is one, else the first with its SimNet."""
    if cfg.retrain.steps:
        return load_network(plain(cfg), folder / "retrained.safetensors")
    return load_network(cfg, folder / "network.safetensors")


def crops(cfg: SimFormerConfig, masks: str = "base") -> SemanticAugment:
    """The random crops that a network is trained on; masks: see `SemanticAugment`."""
    size = cfg.size
    return SemanticAugment(
        crop=size.crop,
        short=size.short,
        long=size.long,
        flip=size.flip,
        novel=cfg.novel,
        masks=masks,
        tag_scope="crop" if masks != "base" else cfg.tag_scope,  # pyright: ignore[reportArgumentType]
    )


def training_data(dataset: Dataset, cfg: SimFormerConfig) -> TrainingData:
    """Random crops; with pairs of images each is followed by itself, cropped anew, or by a reference."""
    augment = crops(cfg, cfg.masks)
    if not cfg.uses_pairs or cfg.pairs.mode == "self_same":
        return TrainingData(dataset=dataset, augment=augment, annotates=True)
    if cfg.pairs.mode == "self_aug":
        return TrainingData(
            dataset=dataset, augment=augment, companions=lambda index, seed: (index,), group=2, annotates=True
        )
    references = References(presence(dataset), cfg.novel, cfg.pairs)
    return TrainingData(
        dataset=dataset,
        augment=augment,
        companions=lambda index, seed: (references.partner(index, seed),),
        group=2,
        annotates=True,
    )


def loss(model: nn.Module, batch: Batch, targets: None, cfg: SimFormerConfig) -> dict[str, Tensor]:
    """Terms of the objective and `total`; `ignored` is no term of it, see `complement_loss`.

    batch: crops whose sides are multiples of 32, with `semantic_maps` of base classes and 255, and `tags`. With pairs,
    images 2 p and 2 p + 1 are one. targets: none, they are in the batch.

    Raises:
        ValueError: the batch lacks maps or tags, sides that are no multiples of 32, an odd number of images to pair.
        ConfigError: an image with more classes than queries.
    """
    if batch.semantic_maps is None or batch.tags is None:
        raise ValueError("the loss of SimFormer needs class maps and tags in the batch")
    return model(batch, cfg)


@torch.no_grad()
def pseudo_labels(
    model: SimFormer | None, batch: Batch, cfg: SimFormerConfig, trace: bool = False
) -> Tensor | tuple[Tensor, Trace]:
    """Class maps to learn from, long [B, H, W]: base classes as given, novel ones as predicted, else 255.

    Without a model what is given. With `trace` the scores [B, K, H, W] of all classes.

    Raises:
        ValueError: the batch lacks maps or tags.
    """
    if batch.semantic_maps is None or batch.tags is None:
        raise ValueError("pseudo_labels of SimFormer needs class maps and tags in the batch")
    known, steps = batch.semantic_maps, {"known": batch.semantic_maps}
    if model is not None:
        scores = class_scores(model.network, batch.images, cfg, cfg.pseudo.scales, cfg.pseudo.flip)
        known, steps = pseudo_maps(scores, known, batch.tags, cfg), steps | {"scores": scores}
    return (known, Trace(steps)) if trace else known


def predict(model: SimFormer, images: Tensor, cfg: SimFormerConfig) -> Tensor:
    """images: float [B, 3, H, W] in [0, 1] -> class maps long [B, H, W] of 1..K, base and novel classes alike."""
    return best_classes(model.network, images, cfg)


def plain(cfg: SimFormerConfig) -> SimFormerConfig:
    """`cfg` as MaskFormer itself: every class has masks, so that nothing else teaches. Of the second network."""
    return changed(cfg, masks="all")


def load_network(cfg: SimFormerConfig, path: Path) -> "SimFormer":
    """A trained network with these settings; `plain(cfg)` for one without SimNet."""
    model = SimFormer(changed(cfg, **{"net.weights": "random"}))
    if cfg.net.weights != "random":
        freeze_batch_norm_2d(model)  # as in training: a frozen norm has other state
    load_weights(model, path)
    return model
