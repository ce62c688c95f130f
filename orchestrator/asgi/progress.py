"""How far a migration is, folded from events: what the gate tells while it is closed. Pure."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Literal

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
from orchestrator.results import Holder, to_jsonable

Phase = Literal["starting", "waiting", "migrating", "failed", "stopped", "opening"]
Details = Literal["public", "local", "off"]


@dataclass(slots=True)
class Progress:
    """One run, and whom it waits for, as far as its events have told.

    `state` is what the database was found to be; `position` of `total` counts the revisions that
    are done, where this process runs them. `message` is an error's.
    """

    phase: Phase = "starting"
    began_at: datetime = field(default_factory=lambda: datetime.now(UTC))
    state: str | None = None
    total: int | None = None
    position: int = 0
    revision: str | None = None
    description: str | None = None
    statement: str | None = None
    server_phase: str | None = None
    percent: float | None = None
    holder: Holder | None = None
    reason: str | None = None
    message: str | None = None

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
                self.phase, self.position = "migrating", 0
                self.total = len(event.revisions) or None
            case RevisionStarted():
                self.phase = "migrating"
                self.position, self.total = event.position - 1, event.total
                self.revision, self.description = event.revision, event.description
                self._forget_statement()
            case RevisionRunning():
                self.statement = event.statement
                self.server_phase, self.percent = event.phase, event.percent
            case DdlBlocked():
                self._forget_statement()
            case RevisionApplied():
                self.position, self.total = event.position, event.total
                self.revision = self.description = None
                self._forget_statement()
            case RunFailed():
                self.phase, self.message = "failed", event.message
            case RunCancelled():
                self.phase = "stopped"
            case DatabaseReady():
                self.phase = "opening"
            case _:
                pass

    def told(self, details: Details, *, at: datetime) -> dict[str, Any]:
        """What may be told, as JSON has it: `public` gives no name of anything."""
        values: dict[str, Any] = {"status": self.phase}
        if details == "off":
            return values
        values["elapsed_seconds"] = round(max(0.0, (at - self.began_at).total_seconds()), 1)
        if self.total is not None:
            values |= {"revisions_done": self.position, "revisions_total": self.total}
        if self.percent is not None:
            values["percent"] = self.percent
        if details == "public":
            return values
        return values | {
            "state": self.state,
            "revision": self.revision,
            "description": self.description,
            "statement": self.statement,
            "server_phase": self.server_phase,
            "leader": None if self.holder is None else to_jsonable(self.holder),
            "waiting_for": self.reason,
            "error": self.message,
        }

    def _forget_statement(self) -> None:
        self.statement = self.server_phase = self.percent = None
