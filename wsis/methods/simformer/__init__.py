"""SimFormer: masks of base classes, tags of novel ones -> a class for every pixel (NeurIPS 2022).

    image --MaskFormer--> proposals of class and mask; classes learn from tags too, masks from base classes only
    pixels of two images --SimNet, trained on base classes--> how similar the scores of novel pixels should be
    training images --true base, predicted novel classes--> class maps, from which a plain MaskFormer learns (SimFormer*)

Junjie Chen et al.: Weak-shot Semantic Segmentation via Dual Similarity Transfer. Official code:
github.com/bcmi/SimFormer-Weak-Shot-Semantic-Segmentation.
"""

from wsis.methods.simformer.config import FULL, TINY, SimFormerConfig
from wsis.methods.simformer.labels import class_scores
from wsis.methods.simformer.model import SimFormer
from wsis.methods.simformer.stages import stages
from wsis.methods.simformer.verbs import (
    build,
    explain,
    load_network,
    loss,
    plain,
    predict,
    pseudo_labels,
    restore,
    targets,
    training_data,
)

__all__ = ["FULL", "TINY", "SimFormer", "SimFormerConfig", "build", "class_scores", "explain", "load_network", "loss"]
__all__ += ["plain", "predict", "pseudo_labels", "restore", "stages", "targets", "training_data"]
