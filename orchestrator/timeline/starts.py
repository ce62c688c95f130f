"""Runs -> starts, and the rows of their picture.

Pure. Runs of one database that overlap in time form one start: the processes of one deploy.
Durations and offsets are seconds.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime

from orchestrator.timeline.runs import Run


@dataclass(frozen=True, kw_only=True, slots=True)
class Start:
    """Runs of one database that overlap, in the order in which they began.

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
    """One process of a start; offsets are from the beginning of the start."""

    run_id: str
    host: str | None
    pid: int | None
    release: str | None
    role: str | None
    outcome: str
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
    return [_start(group.runs) for group in groups]


def rows_of(start: Start) -> list[Row]:
    """The rows of a start's picture: who led first, then the others as they began."""
    first = sorted(start.runs, key=lambda run: run.role != "led")
    return [_row(run, start) for run in first]


def length_of(start: Start) -> float:
    """How long the start took, from its first entry to its last."""
    return _seconds(start.began_at, start.last_at)


@dataclass(slots=True)
class _Group:
    until: datetime
    runs: list[Run] = field(default_factory=list)


def _reach(runs: Sequence[Run]) -> dict[str, datetime]:
    """Until when each run is known to have lasted.

    A leader deep in a long revision says nothing for a while; that somebody waits for it
    shows that it is still there.
    """
    until: dict[str, datetime] = {}
    for run in runs:
        until[run.run_id] = max(run.last_at, until.get(run.run_id, run.last_at))
    for run in runs:
        for wait in run.waits:
            if wait.run_id in until:
                until[wait.run_id] = max(until[wait.run_id], wait.began_at)
    return until


def _start(runs: Sequence[Run]) -> Start:
    began_at = runs[0].began_at
    ready = [run.last_at for run in runs if run.outcome == "ready"]
    count = [run.outcome for run in runs].count
    return Start(
        start_id=runs[0].run_id,
        database=runs[0].database,
        began_at=began_at,
        last_at=max(run.last_at for run in runs),
        ready_seconds=_seconds(began_at, max(ready)) if ready else None,
        leaders=tuple(run.run_id for run in runs if run.role == "led"),
        ready=count("ready"),
        failed=count("failed"),
        cancelled=count("cancelled"),
        unfinished=count("unfinished"),
        runs=tuple(runs),
    )


def _row(run: Run, start: Start) -> Row:
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
    ended_seconds = _seconds(start.began_at, run.last_at)
    if run.outcome == "ready":
        spans.append(RowSpan(kind="ready", from_seconds=ended_seconds, to_seconds=length_of(start)))
    return Row(
        run_id=run.run_id,
        host=run.host,
        pid=run.pid,
        release=run.release,
        role=run.role,
        outcome=run.outcome,
        ended_seconds=ended_seconds,
        spans=tuple(spans),
    )


def _seconds(since: datetime, until: datetime) -> float:
    return (until - since).total_seconds()
