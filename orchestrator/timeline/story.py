"""From entries to runs.

Pure, and raises nothing whatever the entries say: they come from files that anyone may have
written. Durations are seconds.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from datetime import datetime
from typing import Any, Final, NamedTuple

from orchestrator.results import ErrorReport
from orchestrator.timeline.entries import (
    Entry,
    applied,
    in_order,
    number,
    outcome_of,
    stories_of,
    text,
    texts,
    whole,
)
from orchestrator.timeline.figures import figure
from orchestrator.timeline.runs import Failure, RanRevision, Run, Span, Wait


def runs_of(entries: Iterable[Entry]) -> Iterator[Run]:
    """Each run as soon as it has ended; at last those without an end, the oldest first."""
    return map(run_of, stories_of(entries))


def run_of(entries: Sequence[Entry]) -> Run:
    """The run that these entries, at least one, tell of.

    Their order is that of `sequence` where every one has it; one that is there twice counts
    once. Raises nothing, whatever the values are.
    """
    story = _Story(entries)
    for entry in story.entries:
        tell = _TOLD_BY.get(entry.name)
        if tell is not None:
            tell(story, entry)
    return story.run()


class _Work(NamedTuple):
    task: str | None = None
    revision: str | None = None
    description: str = ""


_NO_WORK: Final = _Work()


class _Story:
    """What is known of a run, entry by entry."""

    def __init__(self, entries: Sequence[Entry]) -> None:
        self.entries = in_order(entries)
        self.now = self.entries[0].at
        self.spans: list[Span] = []
        self.span = ("looking", _NO_WORK, self.now)
        self.start: Mapping[str, Any] = {}
        self.observed: Mapping[str, Any] | None = None
        self.waits: list[Wait] = []
        self.waiting: dict[str | None, tuple[datetime, float]] = {}
        self.waited_seconds = 0.0
        self.worked = False
        self.begun: dict[str, tuple[datetime, Mapping[str, Any], float | None]] = {}
        self.failure: Failure | None = None
        self.end: Mapping[str, Any] = {}
        self.outcome = outcome_of(self.entries)

    def _turn(self, at: datetime, kind: str, work: _Work = _NO_WORK) -> None:
        """Go over to another kind of span; a clock that runs backwards stands still here."""
        self.now = max(self.now, at)
        was, its_work, since = self.span
        if (was, its_work) == (kind, work):
            return
        # Of who was killed, what was begun is all that is known.
        killed_at_work = kind == "unfinished" and its_work.revision is not None
        if since < self.now or killed_at_work:
            self.spans.append(
                Span(
                    kind=was,
                    began_at=since,
                    ended_at=self.now,
                    task=its_work.task,
                    revision=its_work.revision,
                    description=its_work.description,
                )
            )
        self.span = (kind, work, self.now)

    def run_started(self, entry: Entry) -> None:
        self.start = entry.values
        if entry.values.get("mode") == "follow":
            self._turn(entry.at, "waiting")

    def state_observed(self, entry: Entry) -> None:
        if self.observed is None:
            self.observed = entry.values
        if self.span[0] == "waiting" and not self.waiting:
            self._turn(entry.at, "looking")

    def lock_waiting(self, entry: Entry) -> None:
        self._turn(entry.at, "waiting")
        if text(entry.values, "reason"):
            return  # for no lock of ours
        lock = text(entry.values, "lock")
        self.waiting.setdefault(lock, (entry.at, number(entry.values, "waited_seconds") or 0.0))
        holder = entry.values.get("holder")
        holder = holder if isinstance(holder, dict) else {}
        run_id = text(holder, "run_id")
        if any(wait.lock == lock and wait.run_id == run_id for wait in self.waits):
            return
        self.waits.append(
            Wait(
                lock=lock,
                run_id=run_id,
                host=text(holder, "host"),
                pid=whole(holder, "pid"),
                release=text(holder, "release"),
                began_at=entry.at,
            )
        )

    def lock_acquired(self, entry: Entry) -> None:
        self._turn(entry.at, "looking")
        if self.waiting.pop(text(entry.values, "lock"), None) is not None:
            self.waited_seconds += number(entry.values, "waited_seconds") or 0.0

    def task_started(self, entry: Entry) -> None:
        self.worked = True
        self._turn(entry.at, "migrating", _Work(text(entry.values, "task")))

    def revision_started(self, entry: Entry) -> None:
        self.worked = True
        revision = text(entry.values, "revision") or "?"
        about = text(entry.values, "description") or ""
        self._turn(entry.at, "migrating", _Work(text(entry.values, "task"), revision, about))
        self.begun[revision] = (entry.at, entry.values, None)

    def revision_applied(self, entry: Entry) -> None:
        revision = text(entry.values, "revision") or "?"
        seconds = number(entry.values, "duration_seconds") or 0.0
        began_at, _, _ = self.begun.get(revision, (entry.at, entry.values, None))
        self.begun[revision] = (began_at, entry.values, seconds)
        self._turn(entry.at, "migrating", _Work(text(entry.values, "task")))

    def blocked(self, entry: Entry) -> None:
        self._turn(entry.at, "waiting")

    def task_ended(self, entry: Entry) -> None:
        self._turn(entry.at, "looking")

    def task_failed(self, entry: Entry) -> None:
        self.task_ended(entry)
        values = entry.values
        revision = text(values, "revision")
        began_at, told, seconds = self.begun.get(revision or "", (entry.at, values, 0.0))
        if revision is not None and seconds is None:
            spent = max(0.0, (entry.at - began_at).total_seconds())
            self.begun[revision] = (began_at, told, spent)
        rolled_back = values.get("rolled_back")
        self.failure = Failure(
            task=text(values, "task"),
            revision=revision,
            file=text(values, "file"),
            line=whole(values, "line"),
            rolled_back=rolled_back if isinstance(rolled_back, bool) else None,
        )

    def ended(self, entry: Entry) -> None:
        self.end = entry.values

    def run(self) -> Run:
        first, last = self.entries[0], self.entries[-1]
        self._turn(last.at, self.outcome)
        waited_seconds = self.waited_seconds + sum(
            seconds + max(0.0, (self.now - since).total_seconds())
            for since, seconds in self.waiting.values()
        )
        durable = applied(self.end)
        observed = self.observed or {}
        return Run(
            run_id=first.run_id,
            host=text(first.values, "host"),
            pid=whole(first.values, "pid"),
            database=text(first.values, "database"),
            release=text(first.values, "release"),
            command=text(self.start, "command"),
            mode=text(self.start, "mode"),
            target=text(self.start, "target"),
            began_at=first.at,
            last_at=self.now,
            outcome=self.outcome,
            role=self._role(),
            state_before=text(observed, "state"),
            versions_before=texts(observed, "versions"),
            versions_after=texts(self.end, "versions"),
            applied=durable,
            revisions=self._revisions({item.revision for item in durable}),
            waits=tuple(self.waits),
            waited_seconds=figure(self.end, "waited_seconds", waited_seconds),
            duration_seconds=figure(
                self.end, "duration_seconds", (self.now - first.at).total_seconds()
            ),
            error=self._error(),
            failure=self.failure,
            spans=tuple(self.spans),
        )

    def _role(self) -> str | None:
        led = self.end.get("led")
        if self.start.get("mode") == "follow":
            return "followed"
        if led is True or (self.worked and led is not False):
            return "led"
        if self.waits:
            return "waited"
        return "found current" if self.outcome == "ready" else None

    def _revisions(self, durable: set[str]) -> tuple[RanRevision, ...]:
        return tuple(
            RanRevision(
                revision=revision,
                description=text(values, "description") or "",
                duration_seconds=seconds or 0.0,
                task=text(values, "task"),
                began_at=began_at,
                fate=self._fate(revision, durable),
            )
            for revision, (began_at, values, seconds) in self.begun.items()
        )

    def _fate(self, revision: str, durable: set[str]) -> str:
        if revision in durable:
            return "applied"
        if self.failure is not None and self.failure.revision == revision:
            return "failed"
        return "unknown" if self.outcome == "unfinished" else "rolled back"

    def _error(self) -> ErrorReport | None:
        if self.outcome != "failed":
            return None
        return ErrorReport(
            type=text(self.end, "error") or "?",
            message=text(self.end, "message") or "",
            exit_code=whole(self.end, "exit_code") or 1,
        )


_TOLD_BY: Final[dict[str, Callable[[_Story, Entry], None]]] = {
    "run_started": _Story.run_started,
    "state_observed": _Story.state_observed,
    "lock_waiting": _Story.lock_waiting,
    "lock_acquired": _Story.lock_acquired,
    "task_started": _Story.task_started,
    "revision_started": _Story.revision_started,
    "revision_applied": _Story.revision_applied,
    "ddl_blocked": _Story.blocked,
    "task_succeeded": _Story.task_ended,
    "task_failed": _Story.task_failed,
    "database_ready": _Story.ended,
    "run_failed": _Story.ended,
    "run_cancelled": _Story.ended,
}
