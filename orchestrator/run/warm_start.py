"""The warm start: a database that is known to be at its target needs no lock and no Alembic."""

from __future__ import annotations

from orchestrator.databases.patience import Patience, patiently
from orchestrator.decision.state import DatabaseState
from orchestrator.results import Ended
from orchestrator.run.resources import Resources


def probe_known(resources: Resources, patience: Patience) -> Ended | None:
    """The end of a run that finds the remembered target reached; else None.

    None also where it cannot be told without loading the scripts.

    Raises `DatabaseUnavailable` for something that cannot be a database at all, and for one
    that is busy for longer than the patience lasts.
    """
    database = resources.database
    if not database.exists():
        return None
    known = resources.heads().load()

    def ask() -> tuple[str, ...] | None:
        if not database.exists():
            return None  # whoever made it has taken it away again, as its first migration failed
        with database.connect() as connection:
            if known is None:
                database.look(connection)
                return None
            table, schema = known.version_table, known.version_table_schema
            return database.version_rows(connection, table, schema)

    rows = patiently(ask, patience)
    if known is None or rows != known.versions:
        return None
    return Ended(versions=known.versions, state_before=DatabaseState.CURRENT)
