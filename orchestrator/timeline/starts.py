"""Runs -> starts, and the rows of their picture.

Pure. Runs of one database that overlap in time form one start: the processes of one deploy. So
do those that come a little later and find nothing left to do. Durations and offsets are seconds.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Final

from orchestrator.timeline.figures import ended_seconds
from orchestrator.timeline.runs import Run, Wait

LATE_SECONDS: Final = 5.0
"""How long after the last run of a start one may begin that came late to it.

Longer than the workers of one server are apart when they have loaded their application, and
shorter than most restarts.
"""


@dataclass(frozen=True, kw_only=True, slots=True)
class Start:
    """Runs of one database that belong together, in the order in which they began.

    `start_id` is the id of the first run; every run's id names the start as well. `leaders`
    are the runs that led: none where the database was current. `ready_seconds` is how long it
    took from the beginning until the last run was ready, None where none is.
    """

    start_id: str
    database: str | None
    began_at: datetime
    last_at: datetime
    ready_seconds: float | None
    leaders: tuple[str, ...]
    ready: int
    failed: int
    cancelled: int
    unfinished: int
    runs: tuple[Run, ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class RowSpan:
    """A piece of a row: `looking`, `waiting`, `migrating`, or `ready` until the picture ends."""

    kind: str
    from_seconds: float
    to_seconds: float
    task: str | None = None
    revision: str | None = None
    description: str = ""


@dataclass(frozen=True, kw_only=True, slots=True)
class Row:
    """One process of a start; offsets are from the beginning of the start.

    `waited_seconds` and `duration_seconds` are those of the run.
    """

    run_id: str
    host: str | None
    pid: int | None
    release: str | None
    role: str | None
    outcome: str
    waited_seconds: float
    duration_seconds: float
    ended_seconds: float
    spans: tuple[RowSpan, ...]


def starts_of(runs: Iterable[Run]) -> list[Start]:
    """The starts that these runs form, in the order in which they began."""
    ordered = sorted(runs, key=lambda run: (run.began_at, run.run_id))
    until = _reach(ordered)
    open_groups: dict[str | None, _Group] = {}
    groups: list[_Group] = []
    for run in ordered:
        group = open_groups.get(run.database)
        if group is None or run.began_at > group.until:
            group = open_groups[run.database] = _Group(until=until[run.run_id])
            groups.append(group)
        group.runs.append(run)
        group.until = max(group.until, until[run.run_id])
    return [_start(group.runs) for group in _with_latecomers(groups)]


def rows_of(start: Start) -> list[Row]:
    """The rows of a start's picture: who led first, then the others as they began."""
    first = sorted(start.runs, key=lambda run: run.role != "led")
    until = _reach(start.runs)
    return [_row(run, start, until[run.run_id]) for run in first]


def length_of(start: Start) -> float:
    """How long the start took, until its last run ended."""
    return max(ended_seconds(run, start.began_at) for run in start.runs)


@dataclass(slots=True)
class _Group:
    until: datetime
    runs: list[Run] = field(default_factory=list)

    @property
    def asked_for(self) -> set[tuple[str | None, str | None]]:
        return {(run.command, run.target) for run in self.runs}

    def came_late_to(self, earlier: _Group) -> bool:
        """Whether these are workers of the earlier one, for whom nothing was left to do."""
        late_seconds = _seconds(earlier.until, self.runs[0].began_at)
        return (
            late_seconds <= LATE_SECONDS
            and all(run.outcome == "ready" and run.role != "led" for run in self.runs)
            and self.asked_for <= earlier.asked_for
        )


def _with_latecomers(groups: Iterable[_Group]) -> Iterable[_Group]:
    """Each group with those that came late to it; they are given as they began."""
    last: dict[str | None, _Group] = {}
    kept: list[_Group] = []
    for group in groups:
        earlier = last.get(group.runs[0].database)
        if earlier is not None and group.came_late_to(earlier):
            earlier.runs += group.runs
            earlier.until = group.until
        else:
            last[group.runs[0].database] = group
            kept.append(group)
    return kept


def _reach(runs: Sequence[Run]) -> dict[str, datetime]:
    """Until when each run is known to have lasted.

    A leader deep in a long revision says nothing for a while; that somebody waits for it
    shows that it is still there. One that was killed held its lock until the first of those
    who waited for it got that.
    """
    until: dict[str, datetime] = {}
    unfinished: set[str | None] = set()
    for run in runs:
        until[run.run_id] = max(run.last_at, until.get(run.run_id, run.last_at))
        if run.outcome == "unfinished":
            unfinished.add(run.run_id)
    followed: dict[str, datetime] = {}
    for run in runs:
        for wait in run.waits:
            if wait.run_id in until:
                until[wait.run_id] = max(until[wait.run_id], wait.began_at)
            if wait.run_id in unfinished and wait.run_id is not None:
                waited = _end_of(wait, run)
                followed[wait.run_id] = min(waited, followed.get(wait.run_id, waited))
    for run_id, moment in followed.items():
        until[run_id] = max(until[run_id], moment)
    return until


def _end_of(wait: Wait, run: Run) -> datetime:
    """When a run had waited enough: for that lock, or for its turn among others."""
    spans = (span for span in run.spans if span.kind == "waiting")
    ends = (span.ended_at for span in spans if span.ended_at >= wait.began_at)
    return next(ends, wait.began_at)


def _start(runs: Sequence[Run]) -> Start:
    began_at = runs[0].began_at
    ready = [ended_seconds(run, began_at) for run in runs if run.outcome == "ready"]
    count = [run.outcome for run in runs].count
    return Start(
        start_id=runs[0].run_id,
        database=runs[0].database,
        began_at=began_at,
        last_at=max(run.last_at for run in runs),
        ready_seconds=max(ready, default=None),
        leaders=tuple(run.run_id for run in runs if run.role == "led"),
        ready=count("ready"),
        failed=count("failed"),
        cancelled=count("cancelled"),
        unfinished=count("unfinished"),
        runs=tuple(runs),
    )


def _row(run: Run, start: Start, until: datetime) -> Row:
    spans = [
        RowSpan(
            kind=span.kind,
            from_seconds=_seconds(start.began_at, span.began_at),
            to_seconds=_seconds(start.began_at, span.ended_at),
            task=span.task,
            revision=span.revision,
            description=span.description,
        )
        for span in run.spans
    ]
    if run.outcome == "ready":
        since = spans[-1].to_seconds if spans else _seconds(start.began_at, run.began_at)
        spans.append(
            RowSpan(kind="ready", from_seconds=since, to_seconds=max(since, length_of(start)))
        )
    ended = ended_seconds(run, start.began_at)
    if run.outcome == "unfinished":
        ended = max(ended, _seconds(start.began_at, until))
        if spans and spans[-1].kind == "migrating":
            spans[-1] = replace(spans[-1], to_seconds=ended)
    return Row(
        run_id=run.run_id,
        host=run.host,
        pid=run.pid,
        release=run.release,
        role=run.role,
        outcome=run.outcome,
        waited_seconds=run.waited_seconds,
        duration_seconds=run.duration_seconds,
        ended_seconds=ended,
        spans=tuple(spans),
    )


def _seconds(since: datetime, until: datetime) -> float:
    return (until - since).total_seconds()
