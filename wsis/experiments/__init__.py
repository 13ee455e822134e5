"""The published tables as data, the runner that fills them, and verdicts on the claims that they support."""

from wsis.experiments.results import comparisons, difference, read_results
from wsis.experiments.tables import find

__all__ = ["comparisons", "difference", "find", "read_results"]
