"""A run in a few short lines."""

from __future__ import annotations

import socket
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from orchestrator.events import (
    DatabaseReady,
    Event,
    LockAcquired,
    LockWaiting,
    PlanMade,
    RunCancelled,
    RunFailed,
    RunStarted,
    StateObserved,
)
from orchestrator.results import AppliedRevision, Holder
from orchestrator.run.milestones import Milestones

BEGAN_AT = datetime(2026, 1, 5, 9, 30, tzinfo=UTC)
HOLDER = Holder(
    run_id="r", host=socket.gethostname(), pid=412, command="run", since=BEGAN_AT, revision="0003"
)
STARTED = RunStarted(command="run", mode="migrate", target="heads", lock_timeout_seconds=300)


def told(*events: tuple[float, Event]) -> list[str]:
    """What is told of events that come so many seconds after the beginning."""
    lines: list[str] = []
    milestones = Milestones(lines.append)
    for seconds, event in events:
        milestones(replace(event, at=BEGAN_AT + timedelta(seconds=seconds)))
    return lines


def observed(state: str, *versions: str) -> StateObserved:
    return StateObserved(state=state, versions=versions, target_revisions=(), under_lock=True)


def ready(*versions: str, led: bool, took: float = 9.0, waited: float = 0.0) -> DatabaseReady:
    return DatabaseReady(
        versions=versions, applied=(), led=led, duration_seconds=took, waited_seconds=waited
    )


def plan(*tasks: str) -> PlanMade:
    return PlanMade(tasks=tasks, revisions=())


def waiting(seconds: float, holder: Holder | None = HOLDER) -> LockWaiting:
    return LockWaiting(lock="file", holder=holder, waited_seconds=seconds)


ACQUIRED = LockAcquired(lock="file", waited_seconds=0)

LED = {
    "migrated 0002 → 0003 in 0.31 s": (observed("behind", "0002"), plan("upgrade"), ["0003"]),
    "migrated base → a1, b1 in 0.31 s": (observed("empty"), plan("upgrade"), ["a1", "b1"]),
    "migrated 0003 → base in 0.31 s": (observed("current", "0003"), plan("downgrade"), []),
    "created 0003 in 0.31 s": (observed("absent"), plan("create", "stamp"), ["0003"]),
    "stamped 0003 in 0.31 s": (observed("unversioned"), plan("stamp"), ["0003"]),
}


@pytest.mark.parametrize("line", LED)
def test_whoever_led_says_what_it_did(line: str) -> None:
    """From where to where, and how long that took: the run's own figure."""
    seen, planned, versions = LED[line]
    lines = told(
        (0, STARTED),
        (0.1, ACQUIRED),
        (0.2, seen),
        (0.2, planned),
        (0.41, ready(*versions, led=True, took=0.31)),
    )

    assert lines == [line]


def test_whoever_waited_says_for_whom() -> None:
    """One line, with the time that the report has, too."""
    lines = told(
        (0, STARTED),
        (0.1, waiting(0, None)),
        (0.15, waiting(0.05)),
        (0.3, ready("3", led=False, waited=0.2)),
    )

    assert lines == ["waited 0.20 s for pid 412, now at 3"]


def test_a_database_that_is_busy_is_told_of() -> None:
    """While it lasts, with what keeps it busy; it is nobody's lock."""
    busy = LockWaiting(lock="database", holder=None, waited_seconds=3.2, reason="it is read")
    lines = told((0, STARTED), (0.1, ACQUIRED), (3.3, busy), (4, ready("2", led=True, took=4.0)))

    assert lines[0] == "waiting for the database, as it is read: 3 s so far"


def test_who_keeps_the_leader_out_is_told_to_those_who_wait() -> None:
    """The leader's own log has it; theirs is the one that is read."""
    blocked = replace(HOLDER, blocked_by="pid 5")
    lines = told((0, STARTED), (9, waiting(9.0, blocked)), (10, ready("2", led=False, waited=9.0)))

    assert lines[0] == "waiting for pid 412, at revision 0003, kept out by pid 5: 9 s so far"


def test_a_wait_before_leading_is_not_work() -> None:
    """What was waited is told apart from what was worked."""
    lines = told(
        (0, STARTED),
        (0, waiting(0)),
        (1.5, ACQUIRED),
        (1.6, observed("behind", "1")),
        (1.6, plan("upgrade")),
        (2, ready("2", led=True, took=2.0, waited=1.5)),
    )

    assert lines == ["migrated 1 → 2 in 0.50 s, waited 1.50 s for pid 412"]


def test_a_long_wait_is_told_while_it_lasts() -> None:
    """From 2 s on, as often as the event comes, with where the leader is."""
    lines = told(
        (0, STARTED), (0, waiting(0)), (1, waiting(1)), (2, waiting(2.0)), (4, waiting(4.2))
    )

    assert lines == [
        "waiting for pid 412, at revision 0003: 2 s so far",
        "waiting for pid 412, at revision 0003: 4 s so far",
    ]


def test_another_host_is_named() -> None:
    """A process id says nothing elsewhere; nor does nobody."""
    other = replace(HOLDER, host="web-7")

    assert told((0, STARTED), (0, waiting(0, other)), (1, ready("3", led=False, waited=1))) == [
        "waited 1.00 s for web-7 pid 412, now at 3"
    ]
    assert told((0, STARTED), (0, waiting(0, None)), (1, ready("3", led=False, waited=1))) == [
        "waited 1.00 s for a process that has not told who it is, now at 3"
    ]


@pytest.mark.parametrize(
    ("line", "state"),
    [
        ("already at 0003", "current"),
        ("at 0003, which no script of this release has", "unrecognised"),
    ],
)
def test_whoever_had_nothing_to_do_says_so(line: str, state: str) -> None:
    """Also where the version is one that nobody here knows."""
    assert told((0, STARTED), (0, observed(state, "0003")), (0, ready("0003", led=False))) == [line]


def test_a_failure_is_told_in_one_line() -> None:
    """Its first words, and what is kept all the same."""
    kept = (AppliedRevision(revision="0002"),)
    failed = RunFailed(error="TaskFailed", message="\nIt broke.\n  file", exit_code=1, applied=kept)

    assert told((0, STARTED), (1, failed)) == ["failed: It broke., kept 0002"]
    assert told((0, STARTED), (1, replace(failed, message="", applied=()))) == [
        "failed: TaskFailed"
    ]


def test_a_cancelled_run_says_what_it_leaves() -> None:
    """Nothing, or what had been applied."""
    assert told((0, STARTED), (1, RunCancelled(applied=()))) == ["stopped, nothing was changed"]
    kept = (AppliedRevision(revision="0002"),)
    assert told((0, STARTED), (1, RunCancelled(applied=kept))) == ["stopped, kept 0002"]
