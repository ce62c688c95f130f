"""Entries -> runs, starts, rows and histories."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrator.events import (
    EVENTS,
    DatabaseReady,
    LockAcquired,
    LockWaiting,
    RevisionApplied,
    RevisionStarted,
    RunCancelled,
    RunStarted,
    StateObserved,
    TaskStarted,
    to_dict,
)
from orchestrator.results import AppliedRevision, Holder
from orchestrator.timeline.entries import Entry, number, stories_of, whole
from orchestrator.timeline.filter import Filter
from orchestrator.timeline.revisions import revisions_of
from orchestrator.timeline.runs import Run
from orchestrator.timeline.starts import LATE_SECONDS, length_of, rows_of, starts_of
from orchestrator.timeline.story import run_of, runs_of
from tests.journals import (
    DATABASE,
    HEAD,
    REVISIONS,
    SECOND_START,
    RunOfOneProcess,
    found_current,
    led,
    three_starts,
    waited,
)

MOMENT = datetime(2026, 1, 5, tzinfo=UTC)
HOLDER = Holder(run_id="leader", host="web-9", pid=9, command="run", since=MOMENT, release="2.0")
STARTED = RunStarted(command="run", mode="migrate", target="heads", lock_timeout_seconds=300.0)


def entries_of(run: RunOfOneProcess) -> list[Entry]:
    """What a reader makes of the run's lines."""
    envelope = {
        "level": "info",
        "host": run.host,
        "pid": run.pid,
        "database": run.database,
        "release": run.release,
    }
    found = []
    for event in run.events:
        values = {**envelope, **to_dict(event)}
        found.append(Entry(event.at, values["event"], run.run_id, values, 300))
    return found


def a_run(*told: tuple[float, Any], run_id: str = "r", **more: Any) -> Run:
    return run_of(entries_of(RunOfOneProcess(run_id=run_id, began_at=MOMENT, told=told, **more)))


def all_runs() -> list[RunOfOneProcess]:
    return [run for runs in three_starts() for run in runs]


def test_a_leader() -> None:
    """A run that did the work led; what it applied, from where to where, is its own."""
    run = a_run(*led())
    assert (run.role, run.outcome, run.state_before) == ("led", "ready", "empty")
    assert (run.versions_before, run.versions_after) == ((), (HEAD,))
    assert [item.revision for item in run.applied] == [name for name, _, _ in REVISIONS]
    assert [(item.fate, item.task) for item in run.revisions] == [("applied", "upgrade")] * 3
    assert (run.duration_seconds, run.waited_seconds, run.waited_for) == (1.481, 0.0, ())
    assert (run.host, run.pid, run.database, run.release) == ("web-1", 4711, DATABASE, "1.4.2")


def test_a_waiter_is_linked_to_its_leader() -> None:
    """Who waited names the run it waited for, and how long, though it never had the lock."""
    run = a_run(*waited(HOLDER, 1.5))
    assert (run.role, run.outcome, run.waited_for) == ("waited", "ready", ("leader",))
    assert run.waited_seconds == pytest.approx(1.48)
    named = run.waits[-1]
    assert (named.host, named.pid, named.release) == ("web-9", 9, "2.0")


def test_a_waiter_that_got_the_lock_and_did_the_work_led() -> None:
    """Where a leader died, the waiter that took over led; its waiting still counts."""
    told = [(offset + 2.0, event) for offset, event in led()]
    told[:1] = [(0.0, STARTED), (0.1, LockWaiting(lock="file", holder=HOLDER, waited_seconds=0.1))]
    told[2] = (2.0, LockAcquired(lock="file", waited_seconds=1.9))
    told[-1] = (told[-1][0], replace(told[-1][1], waited_seconds=1.9))
    run = a_run(*told)
    assert (run.role, run.waited_seconds, run.waited_for) == ("led", 1.9, ("leader",))


def test_a_run_tells_its_figures_itself() -> None:
    """What its last event says counts, also where the clock of the machine says something else."""
    told = [(offset if offset < 1 else offset + 3600, event) for offset, event in waited(HOLDER, 5)]
    run = a_run(*told)
    assert (run.duration_seconds, run.waited_seconds) == (5.002, 4.98)
    (start,) = starts_of([run])
    assert start.ready_seconds == length_of(start) == 5.002


@pytest.mark.parametrize(
    "story", [list(led()), list(led(fails=True)), list(waited(HOLDER, 5))], ids=len
)
def test_figures_that_nobody_has_told_are_reckoned(story: Sequence[tuple[float, Any]]) -> None:
    """Of a run without an end, or of an older version, from the moments of its events."""
    run = RunOfOneProcess(run_id="r", began_at=MOMENT, told=tuple(story))
    kept = [
        entry._replace(
            values={
                name: value
                for name, value in entry.values.items()
                if name not in ("duration_seconds", "waited_seconds")
            }
        )
        for entry in entries_of(run)
    ]
    whole, cut = run_of(kept), run_of(kept[:-1])
    assert whole.duration_seconds == pytest.approx(run.told[-1][0])
    assert cut.duration_seconds == pytest.approx(run.told[-2][0])
    waits = any(isinstance(event, LockWaiting) for _, event in run.told)
    assert whole.waited_seconds == pytest.approx(run.told[-1][0] - 0.02 if waits else 0.0)


def test_who_found_the_database_current_or_followed() -> None:
    """Neither led nor waited: it found the database current; in mode follow it followed."""
    assert a_run(*found_current()).role == "found current"
    told = [(offset, event) for offset, event in found_current()]
    told[0] = (0.0, replace(STARTED, mode="follow"))
    assert a_run(*told).role == "followed"


def test_a_failed_run() -> None:
    """A failure has its error, its revision, its place, and what became of each revision."""
    run = a_run(*led(fails=True))
    assert (run.role, run.outcome, run.applied) == ("led", "failed", ())
    assert run.error is not None
    assert (run.error.type, run.error.exit_code) == ("TaskFailed", 1)
    assert run.failure is not None
    assert (run.failure.revision, run.failure.line, run.failure.rolled_back) == (HEAD, 23, True)
    assert [item.fate for item in run.revisions] == ["rolled back", "rolled back", "failed"]
    assert run.revisions[-1].duration_seconds == pytest.approx(0.1)


def test_a_cancelled_run_keeps_what_is_durable() -> None:
    """What a cancelled run lists as applied is applied; the rest of what ran is not."""
    kept = AppliedRevision(revision=REVISIONS[0][0], description="", duration_seconds=0.4)
    told = [item for item in led() if item[0] < 1.3] + [(1.3, RunCancelled(applied=(kept,)))]
    run = a_run(*told)
    assert (run.outcome, run.applied) == ("cancelled", (kept,))
    assert [item.fate for item in run.revisions] == ["applied", "rolled back", "rolled back"]


def test_a_run_without_an_end_is_unfinished() -> None:
    """Of a run that was killed, or still runs, nothing is claimed that is not known."""
    run = a_run(*[item for item in led() if item[0] < 1.0])
    assert (run.outcome, run.role, run.error) == ("unfinished", "led", None)
    assert [item.fate for item in run.revisions] == ["unknown", "unknown"]


def test_a_clock_that_runs_backwards_makes_no_negative_duration() -> None:
    """Where the clock was set back in the middle of a run, no span or duration is negative."""
    told = [(offset if offset < 1 else offset - 3600, event) for offset, event in led()]
    run = a_run(*told)
    assert run.last_at >= run.began_at
    assert all(span.began_at <= span.ended_at for span in run.spans)
    assert all(item.duration_seconds >= 0 for item in run.revisions)
    (start,) = starts_of([run])
    assert length_of(start) >= 0


@given(seed=st.integers())
def test_the_order_of_lines_of_different_runs_does_not_matter(seed: int) -> None:
    """However the lines of several runs are mixed, the same runs come out."""
    queues = [entries_of(run) for run in all_runs()]
    expected = {entries[0].run_id: run_of(entries) for entries in queues}
    mixed, chance = [], random.Random(seed)
    while queues:
        queue = chance.choice(queues)
        mixed.append(queue.pop(0))
        queues = [queue for queue in queues if queue]
    assert {run.run_id: run for run in runs_of(mixed)} == expected


@given(shuffled=st.permutations(list(range(14))), twice=st.lists(st.integers(0, 13)))
def test_the_lines_of_a_run_are_put_in_order_and_counted_once(
    shuffled: list[int], twice: list[int]
) -> None:
    """`sequence` decides the order, and a line that is there twice counts once."""
    entries = entries_of(RunOfOneProcess(run_id="r", began_at=MOMENT, told=tuple(led())))
    assert len(entries) == len(shuffled)
    assert run_of([entries[index] for index in shuffled + twice]) == run_of(entries)


def test_runs_without_an_end_are_let_go_before_they_fill_the_memory() -> None:
    """However many runs never end, what is held of them stays below the bound."""
    killed = [
        entry._replace(run_id=f"killed {number}")
        for number in range(1000)
        for entry in entries_of(RunOfOneProcess(run_id="", began_at=MOMENT, told=tuple(led())))[:3]
    ]
    held, most = 0, 0

    def counted() -> Any:
        nonlocal held, most
        for entry in killed:
            held += entry.size
            yield entry
            most = max(most, held)

    ids = []
    for story in stories_of(counted(), held_bytes=30_000):
        held -= sum(entry.size for entry in story)
        ids.append(story[0].run_id)
    assert most <= 30_300
    assert ids == [f"killed {number}" for number in range(1000)]


scalar = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5)
anything = scalar | st.lists(scalar, max_size=2) | st.dictionaries(st.text(max_size=5), scalar)
known_fields = sorted(
    {name for event in EVENTS.values() for name in event.__dataclass_fields__}
    | {"host", "pid", "database", "release"}
)
odd_entries = st.builds(
    lambda offset, name, run_id, values: Entry(
        MOMENT + timedelta(seconds=offset), name, run_id, values
    ),
    st.floats(-1e9, 1e9),
    st.sampled_from([*EVENTS, "of_a_newer_version"]),
    st.sampled_from(["one", "other", ""]),
    st.dictionaries(st.sampled_from(known_fields), anything, max_size=6),
)


@given(entries=st.lists(odd_entries, max_size=12))
def test_no_entry_is_an_exception(entries: list[Entry]) -> None:
    """Whatever types the values have, runs, starts, rows and histories come out of them."""
    runs = list(runs_of(entries))
    assert {run.run_id for run in runs} == {entry.run_id for entry in entries if entry.run_id}
    for start in starts_of(runs):
        assert all(
            span.from_seconds <= span.to_seconds for row in rows_of(start) for span in row.spans
        )
    revisions_of(runs)


@pytest.mark.parametrize(
    "value",
    [float("inf"), float("-inf"), float("nan"), 1e300, 10**400, True, "5", [5], None],
    ids=lambda value: str(value)[:8],
)
def test_a_number_that_cannot_be_reckoned_with_is_none(value: object) -> None:
    """What would break the arithmetic of a picture is not taken for a number."""
    assert number({"value": value}, "value") is None
    assert whole({"value": value}, "value") is None
    assert whole({"value": 2.5}, "value") is None
    assert number({"value": 2.5}, "value") == 2.5


def bare_run(run_id: str, began: float, ended: float, database: str = DATABASE) -> Run:
    told = ((0.0, STARTED), (ended - began, RunCancelled(applied=())))
    at = MOMENT + timedelta(seconds=began)
    run = RunOfOneProcess(run_id=run_id, began_at=at, told=told, database=database)
    return run_of(entries_of(run))


intervals = st.tuples(st.integers(0, 60), st.integers(0, 6), st.sampled_from("AB"))


@given(drawn=st.lists(intervals, max_size=12), seed=st.integers())
def test_runs_of_one_database_that_overlap_form_one_start(
    drawn: list[tuple[int, int, str]], seed: int
) -> None:
    """The starts are exactly the sets of runs that are linked by overlapping, in any order."""
    runs = [
        bare_run(f"{number:02}", began, began + length, database)
        for number, (began, length, database) in enumerate(drawn)
    ]
    expected = [{run.run_id} for run in runs]
    for one in runs:
        for other in runs:
            if (
                one.database == other.database
                and one.began_at <= other.last_at
                and other.began_at <= one.last_at
            ):
                joined = [group for group in expected if {one.run_id, other.run_id} & group]
                expected = [group for group in expected if group not in joined]
                expected.append(set[str]().union(*joined))
    random.Random(seed).shuffle(runs)
    starts = starts_of(runs)
    assert sorted(sorted(run.run_id for run in start.runs) for start in starts) == sorted(
        map(sorted, expected)
    )
    assert [start.began_at for start in starts] == sorted(start.began_at for start in starts)


def test_a_silent_leader_and_who_waits_for_it_form_one_start() -> None:
    """A leader in a long revision says nothing; that somebody waits shows it is still there."""
    leader = a_run(*[item for item in led() if item[0] < 0.5], run_id="leader")
    told = tuple((offset + 60.0, event) for offset, event in waited(HOLDER, 5.0))
    waiter = a_run(*told, run_id="waiter")
    assert waiter.began_at > leader.last_at
    assert len(starts_of([leader, waiter])) == 1
    stranger = replace(waiter, waits=())
    assert len(starts_of([leader, stranger])) == 2


def test_a_database_that_was_busy() -> None:
    """It was waited for, in the picture, too; but for no lock of ours, and by who led."""
    told = list(led())
    at = next(n for n, (_, event) in enumerate(told) if isinstance(event, LockAcquired))
    busy = LockWaiting(lock="database", holder=None, waited_seconds=1.0, reason="it is busy")
    later = ((offset + 5.0, event) for offset, event in told[at + 1 :])
    run = a_run(*told[: at + 1], (told[at][0] + 1.0, busy), *later)
    assert (run.role, run.waits, run.waited_seconds) == ("led", (), 0.0)
    kinds = [span.kind for span in run.spans]
    assert kinds[:3] == ["looking", "waiting", "looking"]
    assert "migrating" in kinds
    assert run.spans[1].ended_at - run.spans[1].began_at > timedelta(seconds=3)


def killed_and_followed() -> tuple[Run, Run]:
    """A leader that said nothing after it had begun its second revision, and who took over."""
    told = list(led())
    second = [n for n, (_, event) in enumerate(told) if isinstance(event, RevisionStarted)][1]
    leader = a_run(*told[: second + 1], run_id="leader")
    waiting = LockWaiting(lock="file", holder=HOLDER, waited_seconds=0.0)
    took_over = a_run(
        (0.1, STARTED),
        (0.2, waiting),
        (9.0, LockAcquired(lock="file", waited_seconds=8.8)),
        *((offset + 9.0, event) for offset, event in led() if offset > 0.02),
        run_id="waiter",
    )
    return leader, took_over


def test_a_leader_that_was_killed_was_in_its_revision_until_another_had_the_lock() -> None:
    """The picture shows what it was at when it died, for as long as that kept others out."""
    (start,) = starts_of(killed_and_followed())
    [row] = [row for row in rows_of(start) if row.run_id == "leader"]
    last = row.spans[-1]
    assert (last.kind, last.revision) == ("migrating", REVISIONS[1][0])
    assert (last.to_seconds, row.ended_seconds) == (9.0, 9.0)


def test_a_leader_that_was_killed_and_that_nobody_waited_for() -> None:
    """What it was at is in the picture, with no length of its own."""
    (start,) = starts_of(killed_and_followed()[:1])
    [row] = rows_of(start)
    assert row.spans[-1].revision == REVISIONS[1][0]
    assert row.spans[-1].from_seconds == row.spans[-1].to_seconds == row.ended_seconds


LATE = LATE_SECONDS + 1.481
"""The last moment, from the beginning of a start of `led`, at which one comes late to it."""


@pytest.mark.parametrize(
    ("came", "told", "belongs"),
    [
        (LATE, list(found_current()), True),
        (LATE + 0.001, list(found_current()), False),
        (LATE, list(led()), False),
        (LATE, list(led(fails=True)), False),
        (LATE, list(found_current())[:-1], False),
    ],
    ids=["late", "too late", "led", "failed", "unfinished"],
)
def test_a_worker_that_came_late_belongs_to_its_start(
    came: float, told: Sequence[tuple[float, Any]], belongs: bool
) -> None:
    """It begins a little after all others have ended, and finds nothing to do."""
    leader = a_run(*led(), run_id="leader")
    late = RunOfOneProcess(
        run_id="late", began_at=MOMENT + timedelta(seconds=came), told=tuple(told)
    )
    starts = starts_of([run_of(entries_of(late)), leader])
    assert [len(start.runs) for start in starts] == ([2] if belongs else [1, 1])
    if belongs:
        assert starts[0].ready_seconds == pytest.approx(came + 0.005)
        assert length_of(starts[0]) == starts[0].ready_seconds


def test_a_late_worker_wants_what_the_others_want() -> None:
    """One for another target, or of another database, is a start of its own."""
    leader = a_run(*led(), run_id="leader")
    at = MOMENT + timedelta(seconds=2)
    late = a_run(*found_current(), run_id="late")
    for other in (
        replace(late, began_at=at, target="ae10"),
        replace(late, began_at=at, command="upgrade"),
        replace(late, began_at=at, database="sqlite:///other.db"),
    ):
        assert len(starts_of([leader, other])) == 2


def test_workers_may_come_late_one_after_the_other() -> None:
    """Each of them at most so long after the last; a gap that is longer ends the start."""
    offsets = (0.0, LATE_SECONDS, 2 * LATE_SECONDS, 4 * LATE_SECONDS)
    runs = [
        run_of(
            entries_of(
                RunOfOneProcess(
                    run_id=f"{offset}",
                    began_at=MOMENT + timedelta(seconds=offset),
                    told=tuple(found_current()),
                )
            )
        )
        for offset in offsets
    ]
    assert [len(start.runs) for start in starts_of(runs)] == [3, 1]


def test_the_starts_of_a_journal() -> None:
    """Each start knows who led, how many were ready or failed, and when the last was ready."""
    failed, succeeded, *restarts = starts_of(run_of(entries_of(run)) for run in all_runs())
    assert (failed.start_id, failed.leaders) == ("a0" * 6, ("a0" * 6,))
    assert (failed.ready_seconds, failed.failed, failed.ready) == (None, 4, 0)
    assert succeeded.began_at == SECOND_START
    assert (succeeded.ready, succeeded.failed, len(succeeded.runs)) == (5, 0, 5)
    assert succeeded.ready_seconds == pytest.approx(1.502)
    assert [start.leaders for start in restarts] == [()]


def test_rows_cover_a_run_from_its_beginning_and_end_in_ready() -> None:
    """The spans of a row follow one another without a gap; what is ready stays so to the end.

    The leader is the first row, and its revisions and no others are named.
    """
    start = starts_of(run_of(entries_of(run)) for run in all_runs())[1]
    rows = rows_of(start)
    assert [row.role for row in rows] == ["led", "waited", "waited", "waited", "found current"]
    for row in rows:
        for span, following in zip(row.spans, row.spans[1:], strict=False):
            assert span.to_seconds == pytest.approx(following.from_seconds)
        assert row.spans[-1].kind == "ready"
        assert row.spans[-1].to_seconds == pytest.approx(length_of(start))
    named = [span.revision for row in rows for span in row.spans if span.revision]
    assert named == [name for name, _, _ in REVISIONS]
    assert {span.kind for span in rows[1].spans} == {"looking", "waiting", "ready"}


def test_tasks_without_revisions_are_named_by_their_task() -> None:
    """`create` and `stamp` have no revisions; their spans carry the task."""
    told = (
        (0.0, STARTED),
        (0.1, TaskStarted(task="create")),
        (0.5, TaskStarted(task="stamp")),
        (0.6, DatabaseReady(versions=(), applied=(), led=True, duration_seconds=0.6)),
    )
    (start,) = starts_of([a_run(*told)])
    spans = [(span.kind, span.task) for span in rows_of(start)[0].spans]
    assert spans[:3] == [("looking", None), ("migrating", "create"), ("migrating", "stamp")]


def test_what_each_revision_has_cost() -> None:
    """Counted is what became durable; the slowest comes first; failures are counted too."""
    runs = [run_of(entries_of(run)) for run in all_runs()]
    again = a_run(*led(), run_id="again")
    slower = tuple(
        replace(item, duration_seconds=item.duration_seconds * 9) for item in again.applied
    )
    runs.append(replace(again, applied=slower[:1], last_at=SECOND_START + timedelta(days=1)))
    histories = {item.revision: item for item in revisions_of(runs)}
    assert next(iter(histories)) == REVISIONS[0][0]
    first, last = histories[REVISIONS[0][0]], histories[HEAD]
    assert (first.applied, first.failed, first.slowest_run_id) == (2, 0, "again")
    assert first.last_seconds == first.slowest_seconds == pytest.approx(3.78)
    assert (last.applied, last.failed, last.last_seconds) == (1, 1, 0.21)
    assert last.description == "fill the play counts"


def test_taking_a_revision_back_is_counted_apart() -> None:
    """How long a downgrade takes says nothing about the upgrade."""
    up = a_run(*led())
    down = replace(up, command="downgrade", applied=up.applied[:1])
    directions = [(item.revision, item.direction) for item in revisions_of([up, down])]
    assert len(directions) == 4
    assert (REVISIONS[0][0], "downgrade") in directions


@pytest.mark.parametrize(
    ("wanted", "expected"),
    [
        (Filter(), 11),
        (Filter(outcome="failed"), 4),
        (Filter(led=True), 2),
        (Filter(led=True, outcome="ready"), 1),
        (Filter(host="web-2"), 1),
        (Filter(host="web"), 0),
        (Filter(database="app.db"), 11),
        (Filter(database="other"), 0),
        (Filter(since=SECOND_START), 7),
        (Filter(until=SECOND_START - timedelta(seconds=1)), 4),
        (Filter(since=SECOND_START, until=SECOND_START), 1),
    ],
)
def test_filters(wanted: Filter, expected: int) -> None:
    """Each criterion alone and together with others; moments include themselves."""
    assert sum(wanted.matches(entries_of(run)) for run in all_runs()) == expected


def test_a_revision_that_began_before_the_journal() -> None:
    """Of a run whose beginning is lost, what is left is told; the command is not known."""
    (_, begun), (_, applied) = [item for item in led() if "Revision" in type(item[1]).__name__][:2]
    assert isinstance(begun, RevisionStarted)
    assert isinstance(applied, RevisionApplied)
    run = a_run(
        (0.0, applied),
        (0.1, StateObserved(state="x", versions=(), target_revisions=(), under_lock=True)),
    )
    assert (run.command, run.outcome, len(run.revisions)) == (None, "unfinished", 1)


def spans_seconds(run: Run) -> Sequence[float]:
    return [(span.ended_at - span.began_at).total_seconds() for span in run.spans]


def test_spans_add_up_to_the_run() -> None:
    """What a run did, put together, is as long as the run."""
    for run in map(run_of, map(entries_of, all_runs())):
        assert sum(spans_seconds(run)) == pytest.approx(
            (run.last_at - run.began_at).total_seconds()
        )
