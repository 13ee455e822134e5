"""SimFormer: masks of base classes, tags of novel ones -> a class for every pixel (NeurIPS 2022).

    image --MaskFormer--> proposals of class and mask; classes learn from tags too, masks from base classes
    pixels of two images --SimNet, taught on base classes--> how alike novel pixels' scores should be
    training images --predicted novel, true base--> class maps, from which a plain MaskFormer learns (SimFormer*)

Junjie Chen et al.: Weak-shot Semantic Segmentation via Dual Similarity Transfer. Official code:
github.com/bcmi/SimFormer-Weak-Shot-Semantic-Segmentation.
"""

from wsis.methods.simformer.config import FULL, TINY, SimFormerConfig
from wsis.methods.simformer.stages import stages
from wsis.methods.simformer.verbs import (
    SimFormer,
    build,
    class_scores,
    load_network,
    loss,
    plain,
    predict,
    pseudo_labels,
    restore,
    training_data,
)

__all__ = [
    "training_data",
    "FULL",
    "SimFormer",
    "SimFormerConfig",
    "TINY",
    "build",
    "class_scores",
    "load_network",
    "loss",
    "plain",
    "predict",
    "pseudo_labels",
    "restore",
    "stages",
]
