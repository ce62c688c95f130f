"""What the entries of a run come to: who ran, for whom it waited, what it did and how it ended."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from orchestrator.results import AppliedRevision, ErrorReport


@dataclass(frozen=True, kw_only=True, slots=True)
class Wait:
    """A run waited for a lock that another run (`run_id`, where it is known) held."""

    lock: str | None
    run_id: str | None
    host: str | None
    pid: int | None
    release: str | None
    began_at: datetime


@dataclass(frozen=True, kw_only=True, slots=True)
class RanRevision(AppliedRevision):
    """A revision that was begun.

    `fate` is `applied` where its effect is durable, else `failed` (it raised), `rolled back`
    (it ran, and was undone with the run) or `unknown` (the run has no end in the journal).
    """

    task: str | None
    began_at: datetime
    fate: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Failure:
    """Where a task failed; `file` and `line` name the place in the revision's script."""

    task: str | None
    revision: str | None
    file: str | None
    line: int | None
    rolled_back: bool | None


@dataclass(frozen=True, kw_only=True, slots=True)
class Span:
    """What a run did between two moments: `looking`, `waiting` or `migrating`."""

    kind: str
    began_at: datetime
    ended_at: datetime
    task: str | None = None
    revision: str | None = None
    description: str = ""


@dataclass(frozen=True, kw_only=True, slots=True)
class Run:
    """One run, from its first entry to its last.

    `outcome` is `ready`, `failed`, `cancelled`, or `unfinished` where the journal has no end
    of it: it still runs, or it was killed. `role` is `led`, `waited`, `found current`,
    `followed`, or None where the run ended before it came to any of these. `applied` is what
    is durable, `revisions` all that was begun.
    """

    run_id: str
    host: str | None
    pid: int | None
    database: str | None
    release: str | None
    command: str | None
    mode: str | None
    target: str | None
    began_at: datetime
    last_at: datetime
    outcome: str
    role: str | None
    state_before: str | None
    versions_before: tuple[str, ...]
    versions_after: tuple[str, ...]
    applied: tuple[AppliedRevision, ...]
    revisions: tuple[RanRevision, ...]
    waits: tuple[Wait, ...]
    waited_seconds: float
    duration_seconds: float
    error: ErrorReport | None
    failure: Failure | None
    spans: tuple[Span, ...]

    @property
    def waited_for(self) -> tuple[str, ...]:
        """The runs that held the lock meanwhile, in that order, each once."""
        return tuple(dict.fromkeys(wait.run_id for wait in self.waits if wait.run_id))
