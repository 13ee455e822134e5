"""The published tables as data, the runner that fills them, and verdicts on the claims that they support."""

from wsis.experiments.results import claim_rows, comparisons, difference, read_results
from wsis.experiments.tables import find

__all__ = ["claim_rows", "comparisons", "difference", "read_results"]
__all__ += ["find"]
