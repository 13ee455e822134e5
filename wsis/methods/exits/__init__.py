"""EXITS and MAL: instance masks from four extreme points, or a box, per object (CVPR 2024, arXiv 2405.20729)."""

from wsis.methods.exits.config import FULL, SMALL, TINY, ExitsConfig
from wsis.methods.exits.labels import clicks, token_scores
from wsis.methods.exits.model import Exits
from wsis.methods.exits.stages import stages, with_thresholds
from wsis.methods.exits.verbs import build, explain, loss, mal, predict, pseudo_labels, restore, targets, training_data

__all__ = ["FULL", "SMALL", "TINY", "Exits", "ExitsConfig", "build", "clicks", "explain", "loss", "mal", "predict"]
__all__ += ["pseudo_labels", "restore", "stages", "targets", "token_scores", "training_data", "with_thresholds"]
