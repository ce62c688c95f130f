"""The warm start: a database that is known to be at its target needs no lock and no Alembic."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from orchestrator import database, probe
from orchestrator.resources import Resources
from orchestrator.results import AppliedRevision, TaskResult
from orchestrator.state import DatabaseState

_VERSION_TABLE: Final = "alembic_version"


@dataclass(frozen=True, kw_only=True, slots=True)
class Ended:
    """How a run came to its end without an error. `applied` lists only what is durable."""

    versions: tuple[str, ...]
    state_before: DatabaseState | None = None
    applied: tuple[AppliedRevision, ...] = ()
    tasks: tuple[TaskResult, ...] = ()
    led: bool = False
    cancelled: bool = False


def probe_known(
    resources: Resources, interrupted: Callable[[], None], *, patient: bool = True
) -> Ended | None:
    """The end of a run that finds the remembered target reached; else None.

    None also where it cannot be told without loading the scripts.

    Raises `DatabaseUnavailable` for something that cannot be a database at all, and for one
    that is busy: for as long as connections are waited for, or, if not `patient`, for 0.1 s.
    """
    if not database.exists(resources.url):
        return None
    known = resources.heads().load()

    def ask() -> tuple[str, ...] | None:
        with database.connect(resources.url) as connection:
            if known is None:
                return probe.version_rows(connection, _VERSION_TABLE, None)
            return probe.version_rows(connection, known.version_table, known.version_table_schema)

    rows = database.patiently(
        ask,
        timeout_seconds=resources.settings.connect_timeout_seconds if patient else 0,
        interrupted=interrupted,
    )
    if known is None or rows != known.versions:
        return None
    return Ended(versions=known.versions, state_before=DatabaseState.CURRENT)
