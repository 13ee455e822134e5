"""The verbs of SimFormer: what it learns from, its loss, and the class maps that it gives."""

from functools import partial
from pathlib import Path

from jaxtyping import Float, Int64
from torch import Tensor, nn

from wsis.core.config import changed
from wsis.core.types import Batch, Dataset, Trace
from wsis.methods.simformer.config import SimFormerConfig
from wsis.methods.simformer.crops import partners, presence, random_crop
from wsis.methods.simformer.labels import Targets, best_classes, class_scores, find_targets, pseudo_maps
from wsis.methods.simformer.model import SimFormer
from wsis.methods.simformer.objective import objective
from wsis.methods.simformer.pairs import draw_pairs
from wsis.models.weights import restored
from wsis.training.loop import TrainingData

build = SimFormer


def plain(cfg: SimFormerConfig) -> SimFormerConfig:
    """`cfg` as MaskFormer itself, which is the second network.

    Every class has masks, and there is no other loss.
    """
    return changed(cfg, masks="all")


def load_network(cfg: SimFormerConfig, path: Path) -> SimFormer:
    """A trained network with these settings; `plain(cfg)` for one without SimNet."""
    return restored(SimFormer(changed(cfg, weights="random")), cfg.weights, path)


def restore(cfg: SimFormerConfig, folder: Path) -> SimFormer:
    """The network of a run folder that predicts: the second one, where there is one, else the first with its SimNet."""
    cfg, name = (plain(cfg), "final") if cfg.final.steps else (cfg, "network")
    return load_network(cfg, folder / f"{name}.safetensors")


def training_data(dataset: Dataset, cfg: SimFormerConfig) -> TrainingData:
    """Random crops; with pairs of images each is followed by another crop of itself, or by one of its partner."""
    # The annotator of a crop tags what it shows, as in the release: the tags are read from the true class map.
    data = partial(TrainingData, dataset=dataset, augment=partial(random_crop, cfg=cfg), annotates=True)
    if not cfg.uses_pairs:
        return data()
    if cfg.pairs.mode == "self":
        return data(companions=lambda index, seed: (index,), group=2)
    return data(companions=partners(presence(dataset), cfg.novel), group=2)


def targets(model: nn.Module, batch: Batch, cfg: SimFormerConfig) -> Targets:
    """The classes of each image with their masks, of novel classes without; the batch has to have class maps and tags."""
    maps, tags = _annotations(batch)
    return find_targets(maps, batch.valid, tags, cfg.unmasked)


def loss(model: nn.Module, batch: Batch, targets: Targets, cfg: SimFormerConfig) -> dict[str, Tensor]:
    """The terms of the `objective` and `total`; with pairs, images 2 p and 2 p + 1 are one.

    Raises ValueError where sides are no multiples of 32 or the number of images to pair is odd, and ConfigError where an image
    has more classes than there are queries.
    """
    draw = partial(draw_pairs, batch, cfg) if cfg.uses_pairs else None
    return objective(model(batch.images, draw), targets, cfg)


def pseudo_labels(model: SimFormer | None, batch: Batch, cfg: SimFormerConfig) -> Int64[Tensor, "B H W"]:
    """Class maps to learn from: base classes as given, novel ones as predicted, else 255; without a model, as given."""
    known, tags = _annotations(batch)
    return known if model is None else pseudo_maps(class_scores(model.network, batch.images, cfg), known, tags, cfg)


def explain(model: SimFormer | None, batch: Batch, cfg: SimFormerConfig) -> Trace:
    """The `known` class maps, and with a model the `scores` [B, K, H, W] of all classes."""
    steps = {"known": _annotations(batch)[0]}
    return Trace(steps if model is None else {**steps, "scores": class_scores(model.network, batch.images, cfg)})


def predict(model: SimFormer, images: Float[Tensor, "B 3 H W"], cfg: SimFormerConfig) -> Int64[Tensor, "B H W"]:
    """Class maps of 1..K, of base and novel classes."""
    return best_classes(model.network, images, cfg)


def _annotations(batch: Batch) -> tuple[Tensor, Tensor]:
    if batch.semantic_maps is None or batch.tags is None:
        raise ValueError("SimFormer needs class maps and tags in the batch")
    return batch.semantic_maps, batch.tags
