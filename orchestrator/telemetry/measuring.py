"""What is measured of a run, folded from its events. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from orchestrator.events import (
    TERMINAL,
    DatabaseReady,
    Event,
    PlanMade,
    RunCancelled,
    RunFailed,
    RunStarted,
)
from orchestrator.results import AppliedRevision

SECONDS: Final = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300, 600, 1800)
"""The bounds of a histogram: from a warm start to half an hour."""
_Terminal = DatabaseReady | RunFailed | RunCancelled
_UPGRADES: Final = ("run", "upgrade")


@dataclass(frozen=True, kw_only=True, slots=True)
class Measured:
    """A run that has ended; `pending` is how many revisions the database is behind, if known."""

    command: str
    outcome: str
    led: bool
    error: str | None
    duration_seconds: float
    waited_seconds: float
    applied: tuple[AppliedRevision, ...]
    pending: int | None


@dataclass(slots=True)
class _Begun:
    command: str = "run"
    planned: int | None = None
    led: bool = False


class Measuring:
    """Folds the events of runs, of several at a time."""

    def __init__(self) -> None:
        self._begun: dict[str, _Begun] = {}

    def take(self, event: Event) -> Measured | None:
        """Go on by one event; the measures of a run, when it is its last."""
        if isinstance(event, RunStarted):
            self._begun[event.run_id] = _Begun(event.command)
        elif isinstance(event, PlanMade):
            begun = self._begun.setdefault(event.run_id, _Begun())
            begun.led = bool(event.tasks)
            if begun.command in _UPGRADES:
                begun.planned = len(event.revisions)
        elif isinstance(event, TERMINAL):
            return self._ended(event, self._begun.pop(event.run_id, _Begun()))
        return None

    def _ended(self, event: _Terminal, begun: _Begun) -> Measured:
        pending = None if begun.planned is None else begun.planned - len(event.applied)
        outcome, error = "cancelled", None
        if isinstance(event, RunFailed):
            outcome, error = "failed", event.error
        elif isinstance(event, DatabaseReady):
            outcome = "ready"
            pending = 0 if begun.command in _UPGRADES else None
        return Measured(
            command=begun.command,
            outcome=outcome,
            led=begun.led,
            error=error,
            duration_seconds=event.duration_seconds,
            waited_seconds=event.waited_seconds,
            applied=event.applied,
            pending=pending,
        )
