"""A run in a few short lines, for whoever has configured no logging."""

from __future__ import annotations

import socket
from collections.abc import Callable
from typing import Final

from orchestrator.events import (
    TERMINAL,
    DatabaseReady,
    DdlBlocked,
    Event,
    LockWaiting,
    PlanMade,
    RevisionRunning,
    RunCancelled,
    RunFailed,
    StateObserved,
    Warned,
    to_dict,
)
from orchestrator.results import AppliedRevision, Holder
from orchestrator.timeline.wording import duration, listed, sentence

_LONG_SECONDS: Final = 2.0
"""From when on a wait is told of while it lasts."""


class Milestones:
    """A sink that tells one line a milestone: how a run ended, a warning, a long wait.

    `arrow` stands between two versions.
    """

    def __init__(self, tell: Callable[[str], None], *, arrow: str = "→") -> None:
        self._tell = tell
        self._arrow = arrow
        self._before: tuple[str, ...] = ()
        self._state = ""
        self._tasks: tuple[str, ...] = ()
        self._holder: Holder | None = None

    def __call__(self, event: Event) -> None:
        """Take note of an event."""
        match event:
            case StateObserved():
                self._before, self._state = event.versions, event.state
            case LockWaiting():
                self._wait(event)
            case PlanMade():
                self._tasks = event.tasks
            case DdlBlocked() | RevisionRunning():
                values = to_dict(event)
                self._tell(sentence(values["event"], values))
            case Warned():
                self._tell(f"warning: {event.message}")
            case _ if isinstance(event, TERMINAL):
                self._tell(self._end(event))
            case _:
                pass

    def _wait(self, event: LockWaiting) -> None:
        if event.waited_seconds < _LONG_SECONDS:
            self._holder = event.holder or self._holder
        elif event.reason:
            waited = f"{event.waited_seconds:.0f} s so far"
            self._tell(f"waiting for the database, as {event.reason}: {waited}")
        else:
            self._holder = event.holder or self._holder
            at = self._holder.revision if self._holder is not None else None
            revision = f", at revision {at}" if at else ""
            if self._holder is not None and self._holder.blocked_by:
                revision += f", kept out by {self._holder.blocked_by}"
            self._tell(
                f"waiting for {_process(self._holder)}{revision}: "
                f"{event.waited_seconds:.0f} s so far"
            )

    def _end(self, event: Event) -> str:
        match event:
            case DatabaseReady() if event.led:
                waited = f", {self._waited(event)}" if event.waited_seconds else ""
                return f"{self._did(event)}{waited}"
            case DatabaseReady() if event.waited_seconds:
                return f"{self._waited(event)}, now at {_versions(event.versions)}"
            case DatabaseReady() if self._state == "unrecognised":
                return f"at {_versions(event.versions)}, which no script of this release has"
            case DatabaseReady():
                return f"already at {_versions(event.versions)}"
            case RunFailed():
                said = (line.strip() for line in event.message.splitlines())
                return f"failed: {next(filter(None, said), event.error)}{_kept(event.applied)}"
            case RunCancelled():
                return f"stopped{_kept(event.applied) or ', nothing was changed'}"
            case _:
                raise AssertionError(f"{type(event).__name__} is no terminal event")

    def _did(self, event: DatabaseReady) -> str:
        after = f"in {duration(event.duration_seconds - event.waited_seconds)}"
        if "create" in self._tasks:
            return f"created {_versions(event.versions)} {after}"
        if self._tasks == ("stamp",):
            return f"stamped {_versions(event.versions)} {after}"
        way = f"{_versions(self._before)} {self._arrow} {_versions(event.versions)}"
        return f"migrated {way} {after}"

    def _waited(self, event: DatabaseReady) -> str:
        return f"waited {duration(event.waited_seconds)} for {_process(self._holder)}"


def _versions(versions: tuple[str, ...]) -> str:
    return listed(versions, "base")


def _process(holder: Holder | None) -> str:
    if holder is None:
        return "a process that has not told who it is"
    host = "" if holder.host == socket.gethostname() else f"{holder.host} "
    return f"{host}pid {holder.pid}"


def _kept(applied: tuple[AppliedRevision, ...]) -> str:
    return f", kept {listed([one.revision for one in applied])}" if applied else ""
