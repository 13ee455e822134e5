"""One training loop, runs that resume, the stages that methods share, and what a finished run is applied to."""

from wsis.training.loop import LoopOptions, make_accelerator, train
from wsis.training.runs import chapter_run, fit, launch

__all__ = ["LoopOptions", "make_accelerator", "train"]
__all__ += ["chapter_run", "fit", "launch"]
