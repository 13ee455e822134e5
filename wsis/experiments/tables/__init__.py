"""All published tables."""

from wsis.core.errors import ConfigError
from wsis.experiments.table import Row, Table
from wsis.experiments.tables import attentionshift, bestie, exits, promptable, simformer

__all__ = ["TABLES", "Row", "Table", "find"]

TABLES = (*bestie.TABLES, *exits.TABLES, *attentionshift.TABLES, *simformer.TABLES, *promptable.TABLES)


def find(name: str) -> list[Table]:
    """The table with that id, or all tables for "all"; raises ConfigError for another name."""
    tables = [t for t in TABLES if name in (t.id, "all")]
    if not tables:
        raise ConfigError(f"no table {name!r}; choose all or one of {', '.join(t.id for t in TABLES)}")
    return tables
