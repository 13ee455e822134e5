"""AttentionShift: one point per object -> instance masks (CVPR 2023).

click --matched token's attention, rolled out--> boxes --MIL--> one box --cosine refinement--> object and background
features in the box --key-point shift--> parts --filter, merge--> key-points -> a mask head and, again, the tokens

Labels are made anew in every step from the very features that are trained; tokens exist in training only.
"""

from wsis.methods.attentionshift.config import FULL, TINY, AttentionShiftConfig
from wsis.methods.attentionshift.stages import stages
from wsis.methods.attentionshift.verbs import (
    RARE,
    AttentionShift,
    baseline,
    build,
    clicks_of,
    divisible,
    label_batch,
    loss,
    of_class,
    predict,
    pseudo_labels,
    rescaled,
    restore,
    sizes_of,
    traced,
    training_data,
    with_clicks,
)

__all__ = [
    "training_data",
    "AttentionShift",
    "AttentionShiftConfig",
    "FULL",
    "RARE",
    "TINY",
    "baseline",
    "build",
    "clicks_of",
    "divisible",
    "label_batch",
    "loss",
    "of_class",
    "predict",
    "pseudo_labels",
    "rescaled",
    "restore",
    "sizes_of",
    "stages",
    "traced",
    "with_clicks",
]
