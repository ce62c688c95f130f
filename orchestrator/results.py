"""What a run, an inspection and a plan report, as plain values and as JSON."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, fields, is_dataclass
from datetime import datetime
from enum import Enum
from typing import Any


def to_jsonable(value: Any) -> Any:
    """Turn dataclasses, tuples and datetimes (and what they hold) into what JSON has."""
    if is_dataclass(value) and not isinstance(value, type):
        return {field.name: to_jsonable(getattr(value, field.name)) for field in fields(value)}
    if isinstance(value, (tuple, list)):
        return [to_jsonable(item) for item in value]
    if isinstance(value, Mapping):
        return {str(key): to_jsonable(item) for key, item in value.items()}
    if isinstance(value, datetime):
        return value.isoformat()
    if isinstance(value, Enum):
        return value.value
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)  # JSON has no word for it, and the settings write it so, too
    return value


@dataclass(frozen=True, kw_only=True, slots=True)
class Revision:
    """A revision and the first line of its docstring."""

    revision: str
    description: str = ""


@dataclass(frozen=True, kw_only=True, slots=True)
class AppliedRevision(Revision):
    """A revision that was run, and whose effect is durable."""

    duration_seconds: float = 0.0


@dataclass(frozen=True, kw_only=True, slots=True)
class TaskResult:
    """A task that succeeded."""

    task: str
    duration_seconds: float


@dataclass(frozen=True, kw_only=True, slots=True)
class ErrorReport:
    """An error as it is reported: the name of its class, one message, an exit code."""

    type: str
    message: str
    exit_code: int


@dataclass(frozen=True, kw_only=True, slots=True)
class Blocker:
    """A session of a server that is in another one's way, as far as the server tells of it.

    `since` is when its transaction began; `query` its last one, without its literals.
    """

    pid: int
    user: str | None = None
    application: str | None = None
    state: str | None = None
    since: datetime | None = None
    query: str | None = None

    def __str__(self) -> str:
        told = [f"session {self.pid}"]
        told += [f"of {self.user}"] if self.user else []
        told += [f"({self.application})"] if self.application else []
        told += [f"in a transaction since {self.since:%H:%M:%S} UTC"] if self.since else []
        told += [f"at: {self.query}"] if self.query else []
        return " ".join(told)


@dataclass(frozen=True, kw_only=True, slots=True)
class Mark:
    """That a revision was begun whose work is committed bit by bit: it is gone when that has ended.

    `down` is whether it was taken back; `statement` how many of its statements were begun,
    `committed` how many of them are known to be kept: what lies between may or may not be done;
    `process` who did it.
    """

    revision: str
    down: bool = False
    statement: int = 0
    committed: int = 0
    began_at: datetime | None = None
    process: str = ""

    def __str__(self) -> str:
        what = "downgrade" if self.down else "upgrade"
        by = f" by {self.process}" if self.process else ""
        since = f" at {self.began_at:%Y-%m-%d %H:%M:%S} UTC" if self.began_at else ""
        return f"the {what} of {self.revision}, begun{since}{by}"


@dataclass(frozen=True, kw_only=True, slots=True)
class Progress:
    """How far a server is with one statement; `percent` of the phase, where it tells."""

    phase: str
    percent: float | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class Holder:
    """Who holds a lock, as the holder itself wrote it down. `since` is UTC.

    `statement` is what it has been at for long; `blocked_by` says who is in the way of one that it
    tries again and again.
    """

    run_id: str
    host: str
    pid: int
    command: str
    since: datetime
    release: str | None = None
    task: str | None = None
    revision: str | None = None
    statement: str | None = None
    blocked_by: str | None = None

    def __str__(self) -> str:
        work = f", at revision {self.revision}" if self.revision else ""
        work += f", kept out by: {self.blocked_by}" if self.blocked_by else ""
        release = f", release {self.release}" if self.release else ""
        return (
            f"{self.host} pid {self.pid} (run {self.run_id}{release}, "
            f"since {self.since:%Y-%m-%d %H:%M:%S} UTC{work})"
        )


@dataclass(frozen=True, kw_only=True, slots=True)
class Ended:
    """How a run came to its end without an error. `applied` lists only what is durable."""

    versions: tuple[str, ...]
    state_before: str | None = None
    applied: tuple[AppliedRevision, ...] = ()
    tasks: tuple[TaskResult, ...] = ()
    led: bool = False
    cancelled: bool = False


@dataclass(frozen=True, kw_only=True, slots=True)
class RunReport:
    """How a run ended.

    `led` says whether this run did the work itself. `applied` lists only what is durable,
    in the order in which it ran.
    """

    run_id: str
    outcome: str
    command: str
    led: bool
    state_before: str | None
    versions: tuple[str, ...]
    applied: tuple[AppliedRevision, ...]
    tasks: tuple[TaskResult, ...]
    waited_seconds: float
    duration_seconds: float
    error: ErrorReport | None = None
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True, slots=True)
class LockReport:
    """Whether the lock is held: `None` where it cannot be told without disturbing it."""

    held: bool | None
    holder: Holder | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class Inspection:
    """What `inspect()` saw; nothing was touched. `pending` is in the order of an upgrade.

    `unknown` are those of the versions that no script has. `at_target` says whether a run would
    find nothing to do, and `refused` what it would say where it does not touch such a state.
    `interrupted` tells of a revision that was begun and has not ended, and `seen` what is there of
    the tables, columns and indexes that it makes and drops; `at_work` tells of one that whoever
    holds the lock is at, where a part of it may be committed already.
    """

    database: str
    state: str
    versions: tuple[str, ...]
    unknown: tuple[str, ...] = ()
    heads: tuple[str, ...]
    pending: tuple[Revision, ...]
    at_target: bool
    refused: str | None = None
    interrupted: Mark | None = None
    seen: tuple[str, ...] = ()
    at_work: Mark | None = None
    lock: LockReport


@dataclass(frozen=True, kw_only=True, slots=True)
class Drop:
    """A table that goes, or a column of it, with the revision whose code shows it.

    A name that the code puts together when it runs is the code that does so, in braces.
    """

    table: str
    column: str | None = None
    revision: str

    def __str__(self) -> str:
        return f"column {self.table}.{self.column}" if self.column else f"table {self.table}"


@dataclass(frozen=True, kw_only=True, slots=True)
class Preview:
    """What `run`, or a downgrade, would do now: the state, the tasks, and the revisions in order.

    `drops` are the tables and columns that go, as far as the code of the revisions shows it;
    `sql` holds the statements where they were asked for, `remark` what to know beforehand of such a
    database.
    """

    state: str
    tasks: tuple[str, ...]
    revisions: tuple[Revision, ...]
    drops: tuple[Drop, ...] = ()
    sql: str | None = None
    remark: str | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class Difference:
    """One thing that is not in the database as it is in the models, told in `words`.

    `identifier` is the same text wherever and whenever it is found, and holds what is on either
    side: it is what a line of the file `accepted_differences` is compared with.
    """

    identifier: str
    words: str

    def __str__(self) -> str:
        return self.words


@dataclass(frozen=True, kw_only=True, slots=True)
class Check:
    """How the models differ from the database, or from what the migrations make (`against`).

    `differences` are those that nobody has accepted, `accepted` those that stand in the file of
    accepted ones, and `outdated` the lines of that file that are no difference any more.
    `database` is the one that was looked at; None for one that the migrations made.
    """

    against: str
    database: str | None
    differences: tuple[Difference, ...]
    accepted: tuple[Difference, ...] = ()
    outdated: tuple[str, ...] = ()

    @property
    def passed(self) -> bool:
        """Whether there is no difference but accepted ones."""
        return not self.differences
