"""Networks that know no method: convolutional pyramids, vision transformers, segmenters, and their weights."""

from wsis.models.pyramids import build_pyramid

__all__ = ["build_pyramid"]
