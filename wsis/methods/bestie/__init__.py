"""BESTIE: image tags or one point per object -> instance masks (CVPR 2022, arXiv 2109.09477).

tags --classifier with peak attention--> cues --one component, one cue--> center, offset and weight maps
image --network--> semantic, center and offset maps --grouping--> instances, and better labels for itself
"""

from wsis.methods.bestie.config import FULL, TINY, BestieConfig
from wsis.methods.bestie.stages import stages
from wsis.methods.bestie.verbs import (
    build,
    decode,
    explain,
    infer,
    instance_labels,
    loss,
    official,
    predict,
    pseudo_labels,
    restore,
    targets,
    training_data,
)

__all__ = [
    "targets",
    "explain",
    "instance_labels",
    "training_data",
    "BestieConfig",
    "FULL",
    "TINY",
    "build",
    "decode",
    "infer",
    "loss",
    "official",
    "predict",
    "pseudo_labels",
    "restore",
    "stages",
]
