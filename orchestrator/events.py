"""Every event of a run, and their way to and from dictionaries.

A run emits `RunStarted` first and exactly one of `TERMINAL` last, which has the figures of the run:
those of its report. Durations are seconds.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import MISSING, dataclass, fields
from datetime import UTC, datetime
from typing import Any, Final

from orchestrator.results import AppliedRevision, Blocker, Holder, to_jsonable

_UNSET = datetime.fromtimestamp(0, UTC)


@dataclass(frozen=True, kw_only=True, slots=True)
class Event:
    """What all events have. `run_id`, `sequence` and `at` are set when it is emitted.

    `sequence` counts from 0 in each run and has no gaps; `at` is UTC.
    """

    run_id: str = ""
    sequence: int = -1
    at: datetime = _UNSET


@dataclass(frozen=True, kw_only=True, slots=True)
class RunStarted(Event):
    """A run began."""

    command: str
    mode: str
    target: str
    lock_timeout_seconds: float


@dataclass(frozen=True, kw_only=True, slots=True)
class StateObserved(Event):
    """The database was looked at."""

    state: str
    versions: tuple[str, ...]
    target_revisions: tuple[str, ...]
    under_lock: bool


@dataclass(frozen=True, kw_only=True, slots=True)
class LockWaiting(Event):
    """Somebody else holds a lock; `holder` is None while it has not told who it is.

    With a `reason`: a database that was opened is busy, with what the reason says.
    """

    lock: str
    holder: Holder | None
    waited_seconds: float
    reason: str | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class LockAcquired(Event):
    """This run holds the lock."""

    lock: str
    waited_seconds: float


@dataclass(frozen=True, kw_only=True, slots=True)
class PlanMade(Event):
    """It was decided what to do; `revisions` are those that an upgrade will run, in order."""

    tasks: tuple[str, ...]
    revisions: tuple[str, ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class TaskStarted(Event):
    """A task began."""

    task: str


@dataclass(frozen=True, kw_only=True, slots=True)
class RevisionStarted(Event):
    """A revision began; `position` counts from 1 to `total`."""

    task: str
    revision: str
    description: str
    position: int
    total: int


@dataclass(frozen=True, kw_only=True, slots=True)
class RevisionApplied(Event):
    """A revision ran and its version row is written; the commit comes later."""

    task: str
    revision: str
    description: str
    position: int
    total: int
    duration_seconds: float


@dataclass(frozen=True, kw_only=True, slots=True)
class RevisionRunning(Event):
    """A revision still runs: a sign of life, at most every 10 s.

    `statement` is what it is at, without literals; `phase` and `percent` what the server tells.
    """

    task: str
    revision: str
    elapsed_seconds: float
    statement: str | None = None
    phase: str | None = None
    percent: float | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class DdlBlocked(Event):
    """A statement did not get its table in time; all is rolled back, and tried again after a pause.

    `attempt` counts from 1; `waited_seconds` since the first.
    """

    task: str | None
    revision: str | None
    statement: str
    attempt: int
    waited_seconds: float
    retry_in_seconds: float
    blockers: tuple[Blocker, ...] = ()


@dataclass(frozen=True, kw_only=True, slots=True)
class TaskSucceeded(Event):
    """A task did all of its work."""

    task: str
    duration_seconds: float


@dataclass(frozen=True, kw_only=True, slots=True)
class TaskFailed(Event):
    """A task raised; `rolled_back` says whether the database is as it was before the run.

    `file` and `line` name the place in the revision's script, where it is known.
    """

    task: str
    revision: str | None
    error: str
    message: str
    rolled_back: bool
    file: str | None = None
    line: int | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class Warned(Event):
    """Something that somebody should know of, and that stops nothing."""

    message: str
    revision: str | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class LockReleased(Event):
    """The lock is free again."""

    lock: str
    held_seconds: float


@dataclass(frozen=True, kw_only=True, slots=True)
class DatabaseReady(Event):
    """Terminal: the database is at its target. `led` says whether this run did the work."""

    versions: tuple[str, ...]
    applied: tuple[AppliedRevision, ...]
    led: bool
    duration_seconds: float
    waited_seconds: float = 0.0


@dataclass(frozen=True, kw_only=True, slots=True)
class RunFailed(Event):
    """Terminal: the run failed; `applied` is what is durable all the same."""

    error: str
    message: str
    exit_code: int
    applied: tuple[AppliedRevision, ...]
    duration_seconds: float = 0.0
    waited_seconds: float = 0.0


@dataclass(frozen=True, kw_only=True, slots=True)
class RunCancelled(Event):
    """Terminal: the run was cancelled; `applied` is what is durable all the same."""

    applied: tuple[AppliedRevision, ...]
    duration_seconds: float = 0.0
    waited_seconds: float = 0.0


EVENTS: Final[dict[str, type[Event]]] = {
    "run_started": RunStarted,
    "state_observed": StateObserved,
    "lock_waiting": LockWaiting,
    "lock_acquired": LockAcquired,
    "plan_made": PlanMade,
    "task_started": TaskStarted,
    "revision_started": RevisionStarted,
    "revision_applied": RevisionApplied,
    "revision_running": RevisionRunning,
    "ddl_blocked": DdlBlocked,
    "task_succeeded": TaskSucceeded,
    "task_failed": TaskFailed,
    "warning": Warned,
    "lock_released": LockReleased,
    "database_ready": DatabaseReady,
    "run_failed": RunFailed,
    "run_cancelled": RunCancelled,
}
"""The name of each event in the journal, and its class."""

NAMES: Final[dict[type[Event], str]] = {event: name for name, event in EVENTS.items()}
TERMINAL: Final = (DatabaseReady, RunFailed, RunCancelled)

_COMMON = tuple(field.name for field in fields(Event))
_OWN_FIELDS = {
    event: tuple(field.name for field in fields(event) if field.name not in _COMMON)
    for event in NAMES
}


def level_of(event: Event) -> str:
    """The log level at which an event is told: `info`, `warning` or `error`."""
    if isinstance(event, (TaskFailed, RunFailed)):
        return "error"
    if isinstance(event, (RunCancelled, Warned, DdlBlocked)):
        return "warning"
    if isinstance(event, StateObserved) and event.state == "unrecognised":
        return "warning"
    return "info"


def to_dict(event: Event) -> dict[str, Any]:
    """The event as JSON has it, its name first, under `event`."""
    values: dict[str, Any] = {
        "event": NAMES[type(event)],
        "at": event.at.isoformat(),
        "run_id": event.run_id,
        "sequence": event.sequence,
    }
    for name in _OWN_FIELDS[type(event)]:
        values[name] = to_jsonable(getattr(event, name))
    return values


def from_dict(values: Mapping[str, Any]) -> Event:
    """The event that `to_dict` made these values from; keys of the envelope are passed over.

    Raises `ValueError` where the name is not known or the values do not make such an event.
    """
    event = EVENTS.get(str(values.get("event")))
    if event is None:
        raise ValueError(f"no event has the name {values.get('event')!r}")
    for field in fields(event):
        if field.default is MISSING and field.name not in values:
            raise ValueError(f"{values['event']} lacks {field.name}")
    return event(
        **{
            field.name: _decode(field.name, values[field.name])
            for field in fields(event)
            if field.name in values
        }
    )


def _known(kind: type[Holder] | type[Blocker], value: Mapping[str, Any]) -> dict[str, Any]:
    """What the class has of these values: those of another release may have more, or fewer."""
    known = {field.name: value[field.name] for field in fields(kind) if field.name in value}
    if known.get("since") is not None:
        known["since"] = datetime.fromisoformat(known["since"])
    return known


_NUMBERS: Final = ("sequence", "position", "total", "attempt", "exit_code")


def _decode(name: str, value: Any) -> Any:
    try:
        if name == "at":
            return datetime.fromisoformat(value).astimezone(UTC)
        if name in _NUMBERS and not isinstance(value, int):
            raise TypeError(f"{value!r} is no number")
        if name == "holder" and value is not None:
            return Holder(**_known(Holder, value))
        if name == "blockers":
            return tuple(Blocker(**_known(Blocker, item)) for item in value)
        if name.endswith("_seconds"):
            return float(value)
        if name == "applied":
            return tuple(AppliedRevision(**item) for item in value)
    except (TypeError, ValueError, KeyError) as error:
        raise ValueError(f"{name} cannot be read: {error}") from error
    return tuple(value) if isinstance(value, list) else value
