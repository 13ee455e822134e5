"""BESTIE: image tags or one point per object -> instance masks (CVPR 2022, arXiv 2109.09477).

tags --classifier with peak attention--> cues --one component, one cue--> center, offset and weight maps
image --network--> semantic, center and offset maps --grouping--> instances, and better labels for itself
"""

from wsis.methods.bestie.config import FULL, SMALL, TINY, BestieConfig
from wsis.methods.bestie.labels import InstanceMap, decode
from wsis.methods.bestie.model import infer
from wsis.methods.bestie.stages import stages
from wsis.methods.bestie.verbs import build, explain, loss, predict, pseudo_labels, restore, targets, training_data

__all__ = ["FULL", "SMALL", "TINY", "BestieConfig", "InstanceMap", "build", "decode", "explain", "infer", "loss"]
__all__ += ["predict", "pseudo_labels", "restore", "stages", "targets", "training_data"]
