"""All published tables."""

from wsis.core.errors import ConfigError
from wsis.experiments import costs
from wsis.experiments.table import Row, Table
from wsis.experiments.tables import attentionshift, bestie, exits, simformer

__all__ = ["TABLES", "Row", "Table", "find"]

TABLES = (*bestie.TABLES, *exits.TABLES, *attentionshift.TABLES, *simformer.TABLES)


def find(name: str) -> list[Table]:
    """The tables of runs with that id, or all of them; none for the table of costs, which no run fills.

    Raises:
        ConfigError: there is no such table.
    """
    found = [t for t in TABLES if name in (t.id, "all")]
    if not found and name != costs.ID:
        known = (*(t.id for t in TABLES), costs.ID)
        raise ConfigError(f"no table {name!r}; choose all or one of {', '.join(known)}")
    return found
