"""All published tables, each method's in a YAML file."""

from pathlib import Path

from wsis.core.errors import ConfigError
from wsis.experiments.costs import TABLE_A5
from wsis.experiments.table import Row, Table, read_tables

__all__ = ["TABLES", "Row", "Table", "find"]

METHODS = ("bestie", "exits", "attentionshift", "simformer", "promptable")
TABLES = (*(table for name in METHODS for table in read_tables(Path(__file__).with_name(f"{name}.yaml"))), TABLE_A5)


def find(name: str) -> list[Table]:
    """The table with that id, the tables of that method, or all tables for "all"; raises ConfigError for another name."""
    tables = [t for t in TABLES if name in (t.id, t.id.split(".")[0], "all")]
    if not tables:
        raise ConfigError(f"no table {name!r}; choose all or one of {', '.join(t.id for t in TABLES)}")
    return tables
