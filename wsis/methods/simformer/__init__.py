"""SimFormer: masks of base classes, tags of novel ones -> a class for every pixel (NeurIPS 2022).

    image --MaskFormer--> proposals of class and mask; classes learn from tags too, masks from base classes only
    pixels of two images --SimNet, trained on base classes--> how similar the scores of novel pixels should be
    training images --true base, predicted novel classes--> class maps, from which a plain MaskFormer learns (SimFormer*)

Junjie Chen et al.: Weak-shot Semantic Segmentation via Dual Similarity Transfer. Official code:
github.com/bcmi/SimFormer-Weak-Shot-Semantic-Segmentation.
"""

from wsis.methods.simformer.config import FULL, SMALL, TINY, SimFormerConfig
from wsis.methods.simformer.stages import stages
from wsis.methods.simformer.verbs import build, explain, loss, predict, pseudo_labels, restore, targets, training_data

__all__ = ["FULL", "SMALL", "TINY", "SimFormerConfig", "build", "explain", "loss", "predict", "pseudo_labels"]
__all__ += ["restore", "stages", "targets", "training_data"]
