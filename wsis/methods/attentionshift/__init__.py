"""AttentionShift: one point per object -> instance masks (CVPR 2023).

click --matched token's attention, rolled out--> boxes --MIL--> one box --cosine refinement--> object and background
features in the box --key-point shift--> parts --filter, merge--> key-points -> a mask head and, again, the tokens

Labels are made anew in every step from the very features that are trained; what the tokens say is used in training only.
"""

from wsis.methods.attentionshift.config import FULL, SMALL, TINY, AttentionShiftConfig, baseline
from wsis.methods.attentionshift.detector import AttentionShift, image_extents
from wsis.methods.attentionshift.model import divisible
from wsis.methods.attentionshift.stages import stages
from wsis.methods.attentionshift.verbs import (
    build,
    explain,
    loss,
    predict,
    pseudo_labels,
    restore,
    targets,
    training_data,
)

__all__ = ["FULL", "SMALL", "TINY", "AttentionShift", "AttentionShiftConfig", "baseline", "build", "divisible"]
__all__ += ["explain", "image_extents", "loss", "predict", "pseudo_labels", "restore", "stages", "targets"]
__all__ += ["training_data"]
