"""How far a migration is, folded from events: what the gate tells while it is closed. Pure."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Final, Literal

from orchestrator.events import (
    DatabaseReady,
    DdlBlocked,
    Event,
    LockAcquired,
    LockWaiting,
    PlanMade,
    RevisionApplied,
    RevisionRunning,
    RevisionStarted,
    RunCancelled,
    RunFailed,
    RunStarted,
    StateObserved,
)
from orchestrator.results import AppliedRevision, Holder, Preview, to_jsonable

Phase = Literal[
    "starting",
    "waiting",
    "migrating",
    "pending",
    "failed",
    "stopped",
    "opening",
    "startup_failed",
]
Details = Literal["public", "local", "off"]

WORDS: Final[dict[Phase, tuple[str, str]]] = {
    "starting": (
        "Checking the database",
        "This service is finding out whether its database is up to date.",
    ),
    "waiting": (
        "The database is being upgraded",
        "Another process of this service is at it. The service opens when that is done.",
    ),
    "migrating": (
        "The database is being upgraded",
        "The service opens when that is done.",
    ),
    "pending": (
        "The database is not up to date",
        "This service opens when somebody has migrated it.",
    ),
    "failed": (
        "The upgrade has failed",
        "The service stays closed until somebody has seen to it. Its log says why.",
    ),
    "stopped": (
        "The service is shutting down",
        "This process ends. Another one may answer soon.",
    ),
    "opening": (
        "Nearly there",
        "The database is up to date, and the service is starting.",
    ),
    "startup_failed": (
        "The service has not started",
        "The database is up to date, but the application did not start. Its log says why.",
    ),
}
"""A title and a sentence for everybody."""

_UNREACHABLE: Final = (
    "Waiting for the database",
    "It does not answer, or is busy. The service goes on when it does.",
)
_AGAIN: Final = "It is tried again by itself. The log says why it failed."
_ASK: Final = (
    "Read what is pending, then migrate it here; or type: orchestrator run --mode migrate, and "
    "start again."
)
_SHOWN_DONE: Final = 5
_SHOWN_NEXT: Final = 3


@dataclass(slots=True)
class Progress:
    """One run, and whom it waits for, as far as its events have told.

    `state` is what the database was found to be; `position` of `total` counts the revisions that
    have run. `message` is an error's, `offer` what would be done if somebody asked for it.
    """

    phase: Phase = "starting"
    began_at: datetime = field(default_factory=lambda: datetime.now(UTC))
    state: str | None = None
    planned: tuple[str, ...] = ()
    done: list[AppliedRevision] = field(default_factory=list)
    position: int = 0
    total: int | None = None
    revision: str | None = None
    description: str | None = None
    revision_began_at: datetime | None = None
    statement: str | None = None
    server_phase: str | None = None
    percent: float | None = None
    holder: Holder | None = None
    reason: str | None = None
    message: str | None = None
    ended_at: datetime | None = None
    offer: Preview | None = None

    def take(self, event: Event) -> None:  # noqa: C901, PLR0912 - a table of cases
        """Go on by one event."""
        match event:
            case RunStarted():
                self.phase, self.began_at = "starting", event.at
            case StateObserved():
                self.state = event.state
            case LockWaiting():
                self.phase, self.holder, self.reason = "waiting", event.holder, event.reason
            case LockAcquired():
                self.phase, self.holder, self.reason = "starting", None, None
            case PlanMade():
                self.phase, self.planned = "migrating", event.revisions
                self.position, self.total = 0, len(event.revisions) or None
                self.done.clear()
            case RevisionStarted():
                self._begin(event)
            case RevisionRunning():
                self.statement = event.statement
                self.server_phase, self.percent = event.phase, event.percent
            case DdlBlocked():
                self._forget()
            case RevisionApplied():
                self._forget()
                self.position, self.total = event.position, event.total
                self.done.append(
                    AppliedRevision(
                        revision=event.revision,
                        description=event.description,
                        duration_seconds=event.duration_seconds,
                    )
                )
            case RunFailed():
                self.phase, self.message = "failed", event.message
                self.ended_at = event.at
                self._keep(event.applied)
            case RunCancelled():
                self.phase, self.ended_at = "stopped", event.at
                self._keep(event.applied)
            case DatabaseReady():
                self.phase = "opening"
            case _:
                pass

    def told(self, details: Details, *, at: datetime, again: bool) -> dict[str, Any]:
        """What may be told, as JSON has it: `public` gives no name of anything.

        `again` says that a failed run is tried again.
        """
        at = self.ended_at or at  # nothing takes longer that has ended
        title, message = WORDS[self.phase]
        if self.phase == "waiting" and self.reason:
            title, message = _UNREACHABLE
        elif self.phase == "failed" and again:
            message = _AGAIN
        elif self.phase == "pending" and details == "local":
            message = _ASK
        values: dict[str, Any] = {"status": self.phase, "title": title, "message": message}
        if details == "off":
            return values
        values["elapsed_seconds"] = _since(self.began_at, at)
        if self.total is not None and self.phase in ("migrating", "failed"):
            values |= {"revisions_done": self.position, "revisions_total": self.total}
        if self.percent is not None:
            values["percent"] = self.percent
        return values if details == "public" else values | self._names(at)

    def _names(self, at: datetime) -> dict[str, Any]:
        at_work = self.planned.index(self.revision) if self.revision in self.planned else None
        after = self.position if at_work is None else at_work + 1
        began_at = self.revision_began_at
        return self._offered() | {
            "state": self.state,
            "revision": self.revision,
            "description": self.description,
            "revision_seconds": None if began_at is None else _since(began_at, at),
            "statement": self.statement,
            "server_phase": self.server_phase,
            "done": to_jsonable(self.done[-_SHOWN_DONE:]),
            "next": list(self.planned[after : after + _SHOWN_NEXT]),
            "leader": None if self.holder is None else to_jsonable(self.holder),
            "waiting_for": self.reason,
            "error": self.message,
        }

    def _offered(self) -> dict[str, Any]:
        if self.offer is None:
            return {}
        return {
            "tasks": list(self.offer.tasks),
            "pending": to_jsonable(self.offer.revisions),
            "drops": [f"{drop} ({drop.revision})" for drop in self.offer.drops],
        }

    def _begin(self, event: RevisionStarted) -> None:
        self._forget()
        self.phase = "migrating"
        self.position, self.total = event.position - 1, event.total
        self.revision, self.description = event.revision, event.description
        self.revision_began_at = event.at

    def _keep(self, durable: tuple[AppliedRevision, ...]) -> None:
        """What has run and was rolled back is not done."""
        self.done = list(durable)
        self.position = len(durable)

    def _forget(self) -> None:
        """What was at work is no more."""
        self.revision = self.description = self.revision_began_at = None
        self.statement = self.server_phase = self.percent = None


def _since(moment: datetime, at: datetime) -> float:
    return round(max(0.0, (at - moment).total_seconds()), 1)
