"""The warm start: a database that is known to be at its target needs no lock and no Alembic."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

from orchestrator.databases.base import VersionRows
from orchestrator.databases.patience import Patience, patiently
from orchestrator.decision.state import DatabaseState, KnownTarget
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

    with _remembered(resources) as remembered:

        def ask() -> VersionRows | None:
            if not database.exists():
                return None  # whoever made it took it away again, as its first migration failed
            with database.connect() as connection:
                known = remembered()
                if known is None:
                    database.look(connection)
                    return None
                database.act_as(connection, known.role)
                table, schema = known.version_table, known.version_table_schema
                return database.version_rows(connection, table, schema)

        rows = patiently(ask, patience)
        known = remembered()
    if known is None or rows is None or rows != known.versions or rows.is_marked:
        return None
    return Ended(versions=known.versions, state_before=DatabaseState.CURRENT)


@contextmanager
def _remembered(resources: Resources) -> Iterator[Callable[[], KnownTarget | None]]:
    """The target as it is remembered. A server's greeting takes as long as to look for it."""
    if resources.database.file is not None:
        known = resources.heads().load()
        yield lambda: known
        return
    with ThreadPoolExecutor(1, "orchestrator-target") as meanwhile:
        yield meanwhile.submit(lambda: resources.heads().load()).result
