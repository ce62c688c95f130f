"""What a database can be found to be, how that is told, and what its target is."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from orchestrator.results import Mark


class DatabaseState(StrEnum):
    """Every state a database can be in; `classify` gives each observation exactly one."""

    ABSENT = "absent"
    EMPTY = "empty"
    UNVERSIONED = "unversioned"
    BEHIND = "behind"
    CURRENT = "current"
    UNRECOGNISED = "unrecognised"
    INTERRUPTED = "interrupted"


@dataclass(frozen=True, kw_only=True, slots=True)
class Observation:
    """One look at a database, beside what the scripts say about it.

    `tables` are those that count: not the database's own, and not the version table.
    `target` is what is to be reached, `missing` the part of it that is not yet, and
    `unknown` the version rows that no script has. `differences` is filled only where a
    comparison with the metadata was asked for (`unversioned = "adopt"`). `mark` tells of a
    revision that was begun and has not ended, `seen` what is there of it, in words, and `at_work`
    whether somebody is at it.
    """

    exists: bool = True
    tables: tuple[str, ...] = ()
    versions: tuple[str, ...] = ()
    target: tuple[str, ...] = ()
    unknown: tuple[str, ...] = ()
    missing: tuple[str, ...] = ()
    differences: tuple[str, ...] | None = None
    mark: Mark | None = None
    seen: tuple[str, ...] = ()
    at_work: bool = False

    @property
    def state(self) -> DatabaseState:
        """The state of the database that was observed."""
        return classify(self)


def classify(observation: Observation) -> DatabaseState:
    """Name the state of a database.

    A project without a single revision has nothing to be behind of: tables without a
    version row are then `current`, not `unversioned`.
    """
    if not observation.exists:
        return DatabaseState.ABSENT
    if observation.mark is not None:
        return DatabaseState.INTERRUPTED
    if observation.unknown:
        return DatabaseState.UNRECOGNISED
    if not observation.versions and not observation.tables:
        return DatabaseState.EMPTY
    if not observation.missing:
        return DatabaseState.CURRENT
    return DatabaseState.BEHIND if observation.versions else DatabaseState.UNVERSIONED


@dataclass(frozen=True, kw_only=True, slots=True)
class ScriptLocations:
    """Where a project's scripts lie, as its Alembic config words it."""

    script_location: str
    version_locations: tuple[str, ...]
    recursive: bool
    sourceless: bool = False


@dataclass(frozen=True, kw_only=True, slots=True)
class KnownTarget:
    """The version rows of a database at its target, and the table they stand in.

    `role` is whom `env.py` acts as, if not as the user who has connected.
    """

    versions: tuple[str, ...]
    version_table: str
    version_table_schema: str | None
    role: str | None = None
