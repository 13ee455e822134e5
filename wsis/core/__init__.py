"""Values, settings, errors, files, seeds and tables that every other room builds on; imports nothing of wsis."""

from typing import TYPE_CHECKING

from wsis.core.config import changed, fingerprint, flatten, sources
from wsis.core.errors import AnnotationError, ConfigError, DataError
from wsis.core.files import read_json, write_json
from wsis.core.table import Table, table

if TYPE_CHECKING:
    from wsis.core.types import IGNORE, Batch, Dataset, ExtremePoints, Instances, Points, Sample

__all__ = ["AnnotationError", "ConfigError", "DataError", "Table", "changed", "fingerprint", "flatten", "read_json"]
__all__ += ["sources", "table", "write_json"]
__all__ += ["Batch", "Dataset", "ExtremePoints", "IGNORE", "Instances", "Points", "Sample"]


def __getattr__(name: str) -> object:
    """The types import torch, for which `python -m wsis --help` should not wait, and which doctor may find missing."""
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from wsis.core import types

    return getattr(types, name)
