"""Networks that know no method: convolutional pyramids, vision transformers, segmenters, and their weights."""

from wsis.models.pyramids import build_pyramid
from wsis.models.vit import build_vit, mean_affinity
from wsis.models.weights import load_weights

__all__ = ["build_pyramid", "build_vit", "load_weights", "mean_affinity"]
