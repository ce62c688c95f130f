"""A journal of three starts, as real processes write it: what the tests of the logs read.

First a start whose migration fails (a leader, three waiters), then one that succeeds (a
leader, three waiters, one that found the database current), then two processes of a restart.
"""

from __future__ import annotations

import multiprocessing
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from multiprocessing.context import ForkServerProcess
from multiprocessing.synchronize import Barrier
from pathlib import Path

from orchestrator.events import (
    DatabaseReady,
    Event,
    LockAcquired,
    LockReleased,
    LockWaiting,
    PlanMade,
    RevisionApplied,
    RevisionStarted,
    RunFailed,
    RunStarted,
    StateObserved,
    TaskFailed,
    TaskStarted,
    TaskSucceeded,
)
from orchestrator.journal.writer import Journal, Origin
from orchestrator.results import AppliedRevision, Holder

DATABASE = "sqlite:////srv/app/var/app.db"
REVISIONS = (
    ("3d1f0a9c77b2", "create artists, albums and tracks", 0.42),
    ("8c40e2b1559a", "add ON DELETE CASCADE to the foreign keys", 0.61),
    ("b7725d6e0f13", "fill the play counts", 0.21),
)
HEAD = REVISIONS[-1][0]
FIRST_START = datetime(2026, 1, 5, 9, 30, tzinfo=UTC)
SECOND_START = FIRST_START + timedelta(minutes=6)
RESTART = FIRST_START + timedelta(hours=20)

DEADLINE_SECONDS = 60.0

Told = tuple[float, Event]
"""How many seconds after the beginning of its run an event was emitted."""


@dataclass(frozen=True, kw_only=True)
class RunOfOneProcess:
    """What one process writes into the journal during one run."""

    run_id: str
    began_at: datetime
    told: tuple[Told, ...]
    host: str = "web-1"
    pid: int = 4711
    release: str | None = "1.4.2"
    database: str = DATABASE

    @property
    def events(self) -> list[Event]:
        """The events with their run, their number and their moment."""
        return [
            replace(
                event,
                run_id=self.run_id,
                sequence=sequence,
                at=self.began_at + timedelta(seconds=offset),
            )
            for sequence, (offset, event) in enumerate(self.told)
        ]


def write(path: Path, run: RunOfOneProcess) -> None:
    """Write one run as the library does: open, one line an event, close."""
    origin = Origin(host=run.host, pid=run.pid, database=run.database, release=run.release)
    journal = Journal(path, origin)
    for event in run.events:
        journal(event)
    journal.close()


@contextmanager
def writing(
    path: Path, processes: Sequence[Sequence[RunOfOneProcess]]
) -> Iterator[list[ForkServerProcess]]:
    """Processes, one for each of these sequences of runs, that all write at once."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([__name__])  # so that each of them begins within milliseconds
    ready = context.Barrier(len(processes))
    writers = [context.Process(target=_write_all, args=(path, runs, ready)) for runs in processes]
    for writer in writers:
        writer.start()
    yield writers
    for writer in writers:
        writer.join(timeout=DEADLINE_SECONDS)
        assert writer.exitcode == 0


def write_starts(path: Path) -> None:
    """Write the three starts, one after the other, each run of a start in a process of its own.

    As they really come: a journal's lines stand in the order of their starts.
    """
    runs = [run for runs in three_starts() for run in runs]
    for start in ("a", "b", "c"):
        with writing(path, [[run] for run in runs if run.run_id.startswith(start)]):
            pass


def three_starts() -> list[list[RunOfOneProcess]]:
    """The runs of each process."""
    starts = [
        _start("a", FIRST_START, 4711, "1.4.1", fails=True),
        _start("b", SECOND_START, 5120, "1.4.2", fails=False),
    ]
    late = RunOfOneProcess(
        run_id="b4" * 6,
        began_at=SECOND_START + timedelta(seconds=1.495),
        told=tuple(found_current()),
        host="web-2",
        pid=88,
    )
    restarted = [
        RunOfOneProcess(
            run_id=f"c{number}" * 6,
            began_at=RESTART + timedelta(seconds=0.003 * number),
            told=tuple(found_current()),
            pid=6001 + number,
        )
        for number in range(2)
    ]
    return [[*runs] for runs in zip(*starts, strict=True)] + [[late, *restarted]]


def _write_all(path: Path, runs: Sequence[RunOfOneProcess], ready: Barrier) -> None:
    ready.wait(DEADLINE_SECONDS)
    for run in runs:
        write(path, run)


def _start(
    letter: str, began_at: datetime, pid: int, release: str, *, fails: bool
) -> list[RunOfOneProcess]:
    leader = Holder(
        run_id=f"{letter}0" * 6,
        host="web-1",
        pid=pid,
        command="run",
        since=began_at,
        release=release,
        task="upgrade",
        revision=REVISIONS[1][0],
    )
    stories = [tuple(led(fails=fails))]
    for number in range(1, 4):
        end = (1.38 if fails else 1.5) - 0.015 * number
        stories.append(tuple(waited(leader, end, fails=fails)))
    return [
        RunOfOneProcess(
            run_id=f"{letter}{number}" * 6,
            began_at=began_at + timedelta(seconds=0.015 * number),
            told=story,
            pid=pid + number,
            release=release,
        )
        for number, story in enumerate(stories)
    ]


def _started() -> RunStarted:
    return RunStarted(command="run", mode="migrate", target="heads", lock_timeout_seconds=300.0)


def led(*, fails: bool = False) -> Iterator[Told]:
    """What a leader emits; it fails in the last revision."""
    yield 0.0, _started()
    yield 0.012, LockAcquired(lock="file", waited_seconds=0.0)
    yield (
        0.19,
        StateObserved(state="empty", versions=(), target_revisions=(HEAD,), under_lock=True),
    )
    yield 0.2, PlanMade(tasks=("upgrade",), revisions=tuple(name for name, _, _ in REVISIONS))
    yield 0.2, TaskStarted(task="upgrade")
    now = 0.2
    for position, (name, description, seconds) in enumerate(REVISIONS, start=1):
        yield (
            now,
            RevisionStarted(
                task="upgrade", revision=name, description=description, position=position, total=3
            ),
        )
        if fails and name == HEAD:
            yield from _failed(now, name)
            return
        now += seconds
        yield (
            now,
            RevisionApplied(
                task="upgrade",
                revision=name,
                description=description,
                position=position,
                total=3,
                duration_seconds=seconds,
            ),
        )
    yield now, TaskSucceeded(task="upgrade", duration_seconds=1.24)
    yield now + 0.04, LockReleased(lock="file", held_seconds=1.468)
    applied = tuple(
        AppliedRevision(revision=name, description=description, duration_seconds=seconds)
        for name, description, seconds in REVISIONS
    )
    yield (
        now + 0.041,
        DatabaseReady(versions=(HEAD,), applied=applied, led=True, duration_seconds=1.481),
    )


def _failed(now: float, revision: str) -> Iterator[Told]:
    file = f"/srv/app/migrations/versions/{revision}_play_counts.py"
    yield (
        now + 0.1,
        TaskFailed(
            task="upgrade",
            revision=revision,
            error="OperationalError",
            message="no such column: track.plays",
            rolled_back=True,
            file=file,
            line=23,
        ),
    )
    yield now + 0.12, LockReleased(lock="file", held_seconds=1.338)
    message = (
        f"The upgrade failed at revision {revision} (fill the play counts): "
        f"OperationalError: no such column: track.plays\n  {file}, line 23\n"
        "The database is as it was before. Mend the revision and start again."
    )
    yield (
        now + 0.13,
        RunFailed(
            error="TaskFailed",
            message=message,
            exit_code=1,
            applied=(),
            duration_seconds=now + 0.13,
        ),
    )


def waited(leader: Holder, end: float, *, fails: bool = False) -> Iterator[Told]:
    """What one emits that waits for a leader, which succeeds, or fails, at `end` seconds."""
    yield 0.0, _started()
    yield 0.02, LockWaiting(lock="file", holder=None, waited_seconds=0.0)
    yield 0.25, LockWaiting(lock="file", holder=leader, waited_seconds=0.23)
    if fails:
        message = (
            f"The process that led, {leader}, failed: no such column: track.plays\n"
            "This process waited for it, and did not try the same again."
        )
        yield (
            end,
            RunFailed(
                error="PeerFailed",
                message=message,
                exit_code=1,
                applied=(),
                duration_seconds=end,
                waited_seconds=end - 0.02,
            ),
        )
        return
    yield (
        end,
        StateObserved(
            state="current", versions=(HEAD,), target_revisions=(HEAD,), under_lock=False
        ),
    )
    yield (
        end + 0.002,
        DatabaseReady(
            versions=(HEAD,),
            applied=(),
            led=False,
            duration_seconds=end + 0.002,
            waited_seconds=end - 0.02,
        ),
    )


def found_current() -> Iterator[Told]:
    """What one emits that finds nothing to do."""
    yield 0.0, _started()
    yield (
        0.004,
        StateObserved(
            state="current", versions=(HEAD,), target_revisions=(HEAD,), under_lock=False
        ),
    )
    yield 0.005, DatabaseReady(versions=(HEAD,), applied=(), led=False, duration_seconds=0.005)
