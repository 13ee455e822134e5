"""EXITS: four extreme points per object -> pseudo masks -> any instance segmenter (CVPR 2024, arXiv 2405.20729).

crop of an object --frozen transformer--> similarity --Sinkhorn, a few hops--> tokens of object and background
crop --generator, taught by these tokens and by itself--> pseudo mask --as if annotated--> instance segmenter

With boxes in place of extreme points, and nothing retrieved, the same code is MAL (CVPR 2023).
"""

from wsis.methods.exits.config import FULL, TINY, ExitsConfig
from wsis.methods.exits.stages import stages
from wsis.methods.exits.verbs import (
    CROPS_AT_ONCE,
    Exits,
    build,
    find_points,
    label_objects,
    loss,
    mal,
    mask_probability,
    other_clicks,
    predict,
    pseudo_labels,
    restore,
    token_scores,
    training_data,
    unstacked,
)

__all__ = [
    "training_data",
    "CROPS_AT_ONCE",
    "Exits",
    "ExitsConfig",
    "FULL",
    "TINY",
    "build",
    "find_points",
    "label_objects",
    "loss",
    "mal",
    "mask_probability",
    "other_clicks",
    "predict",
    "pseudo_labels",
    "restore",
    "stages",
    "token_scores",
    "unstacked",
]
