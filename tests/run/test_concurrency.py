"""Threads, tasks and cancellation: several runs in one process, and runs that are given up."""

from __future__ import annotations

import json
import math
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import anyio
import pytest
from anyio import from_thread

from orchestrator import DatabaseUnavailable, LockTimeout, Orchestrator, Settings
from orchestrator.events import (
    DatabaseReady,
    Event,
    LockAcquired,
    LockReleased,
    LockWaiting,
    RevisionApplied,
    RevisionStarted,
    RunStarted,
    StateObserved,
    TaskSucceeded,
)
from orchestrator.host.directory import open_shared
from orchestrator.locks.file import FileLock, is_held
from orchestrator.orchestrator import Run
from orchestrator.results import RunReport
from tests.projects import Project, make_project

DEADLINE_SECONDS = 60.0
TERMINAL = ("database_ready", "run_failed", "run_cancelled")


def make_one(path: Path, *, seconds: float = 0.05) -> Project:
    """A project of three revisions that needs no module of its own."""
    project = make_project(path)
    project.write(
        "migrations/env.py",
        "from orchestrator.environment import run_migrations\n\nrun_migrations()\n",
    )
    project.chain(3, seconds=seconds)
    return project


def orchestrate(project: Project, *sinks: Callable[[Event], None], **settings: Any) -> Orchestrator:
    given = {
        "database_url": project.url,
        "script_location": str(project.path / "migrations"),
        **settings,
    }
    return Orchestrator(Settings(**given), sinks=sinks)


def versions(project: Project) -> list[str]:
    connection = sqlite3.connect(project.database)
    try:
        return [row[0] for row in connection.execute("SELECT version_num FROM alembic_version")]
    finally:
        connection.close()


def runs(project: Project) -> dict[str, list[dict[str, Any]]]:
    """The events of each run in the journal, each of which must be whole."""
    found: dict[str, list[dict[str, Any]]] = {}
    for line in (project.state / "journal.jsonl").read_text().splitlines():
        event = json.loads(line)
        found.setdefault(event["run_id"], []).append(event)
    for events in found.values():
        assert [event["sequence"] for event in events] == list(range(len(events)))
        assert [event["event"] for event in events if event["event"] in TERMINAL] == [
            events[-1]["event"]
        ]
    return found


@pytest.fixture
def project(tmp_path: Path) -> Project:
    return make_one(tmp_path / "one")


class TestTasks:
    """Runs in tasks of one loop."""

    pytestmark = pytest.mark.anyio

    async def test_on_one_database(self, project: Project) -> None:
        """One leads, the others wait for it, and all are ready."""
        reports: list[RunReport] = []

        async def run() -> None:
            reports.append(await orchestrate(project).run())

        with anyio.fail_after(DEADLINE_SECONDS):
            async with anyio.create_task_group() as tasks:
                for _ in range(6):
                    tasks.start_soon(run)

        assert [report.outcome for report in reports] == ["ready"] * 6
        assert sum(report.led for report in reports) == 1
        assert versions(project) == ["r3"]
        assert len(runs(project)) == 6

    async def test_one_orchestrator_twice(self, project: Project) -> None:
        """The same object, used at once by two, is no exception."""
        orchestrator = orchestrate(project)
        with anyio.fail_after(DEADLINE_SECONDS):
            async with orchestrator.start() as one, orchestrator.start() as other:
                reports = [await one.result(), await other.result()]
        assert sum(report.led for report in reports) == 1

    async def test_on_two_databases(self, project: Project, tmp_path: Path) -> None:
        """Each gets its own revisions; Alembic's passes do not mix."""
        other = make_one(tmp_path / "two")
        other.revision("r4", "r3")
        with anyio.fail_after(DEADLINE_SECONDS):
            async with anyio.create_task_group() as tasks:
                for each in (project, other, project, other):
                    tasks.start_soon(orchestrate(each).run)
        assert (versions(project), versions(other)) == (["r3"], ["r4"])

    async def test_a_waiter_in_the_leaders_loop(self, project: Project) -> None:
        """Waiting does not block the loop: the leader's events go on meanwhile."""
        waited = anyio.Event()
        seen: list[str] = []

        async def watch(run: Run) -> None:
            async for event in run.events():
                if isinstance(event, RevisionApplied) and waited.is_set():
                    seen.append(event.revision)  # noqa: PERF401 - at that instant

        async def wait() -> None:
            async with orchestrate(project).start() as run:
                await run.wait_for(LockWaiting)
                waited.set()

        with anyio.fail_after(DEADLINE_SECONDS):
            async with orchestrate(project).start() as leader, anyio.create_task_group() as tasks:
                await leader.wait_for(LockAcquired)
                tasks.start_soon(watch, leader)
                tasks.start_soon(wait)
        assert leader.report is not None
        assert leader.report.led
        assert seen


class TestThreads:
    """Runs in threads, each with a loop of its own."""

    @pytest.mark.parametrize("databases", [1, 2])
    def test_at_once(self, project: Project, tmp_path: Path, databases: int) -> None:
        """On one database one of them leads; on two, each has a leader; no deadlock."""
        projects = [project, make_one(tmp_path / "two")][:databases]
        reports: list[tuple[str, RunReport]] = []

        def run(each: Project, backend: str) -> None:
            reports.append((each.url, anyio.run(orchestrate(each).run, backend=backend)))

        threads = [
            threading.Thread(target=run, args=(each, backend), daemon=True)
            for each in projects
            for backend in ("asyncio", "trio", "asyncio")
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(DEADLINE_SECONDS)

        assert not any(thread.is_alive() for thread in threads)
        assert len(reports) == len(threads)
        for each in projects:
            mine = [report for url, report in reports if url == each.url]
            assert sum(report.led for report in mine) == 1
            assert versions(each) == ["r3"]
            runs(each)


FORKS_IN_A_PASS = """
import os, sys, traceback
import anyio
from orchestrator import DatabaseUnavailable, LockTimeout, Orchestrator, Settings

def run(name):
    settings = Settings(
        database_url=f"sqlite:///{name}/app.db", script_location=f"{name}/migrations"
    )
    return anyio.run(Orchestrator(settings).run)

def fork_and_run():
    pid = os.fork()
    if pid == 0:
        try:
            assert run("two").outcome == "ready"
            os._exit(0)
        except BaseException:
            traceback.print_exc()
            os._exit(1)
    assert os.waitpid(pid, 0)[1] == 0

sys.fork_and_run = fork_and_run
assert run("one").outcome == "ready"
"""


class TestFork:
    """A child that is forked in the middle of a pass."""

    def test_it_can_migrate_a_database_itself(self, tmp_path: Path) -> None:
        """It does not wait for a pass of its parent's that will never end for it."""
        one, two = make_one(tmp_path / "one"), make_one(tmp_path / "two")
        one.revision("r4", "r3", "import sys\nsys.fork_and_run()")
        ended = subprocess.run(
            [sys.executable, "-c", FORKS_IN_A_PASS],
            cwd=tmp_path,
            env=one.environment(),
            capture_output=True,
            text=True,
            timeout=DEADLINE_SECONDS,
            check=False,
        )
        assert ended.returncode == 0, ended.stderr
        assert (versions(one), versions(two)) == (["r4"], ["r3"])

    @pytest.mark.parametrize("where", ["env.py", "upgrade", "a module", "after run_migrations()"])
    @pytest.mark.parametrize(
        ("way", "code", "printed"),
        [
            ("raise ValueError('child')", 1, "ValueError: child"),
            ("sys.exit(3)", 3, "of the child"),
            ("pass", None, "of the child"),
        ],
    )
    def test_it_ends_where_it_leaves_the_script(
        self, project: Project, where: str, way: str, code: int | None, printed: str
    ) -> None:
        """By whatever way: the parent's work is done once and whole, and told by the parent."""
        forks = f"""
import os, sys

pid = os.fork()
if pid == 0:
    print("of the child")
    {way}
else:
    ended = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    open("ended", "w").write(str(ended))
"""
        env_py = project.path / "migrations/env.py"
        if where == "env.py":
            env_py.write_text(forks + env_py.read_text())
        elif where == "after run_migrations()":
            env_py.write_text(env_py.read_text() + forks)
        elif where == "upgrade":
            made = 'op.create_table("made", sa.Column("id", sa.Integer))\n'
            project.revision("r4", "r3", f"{made}{forks}")
        else:
            module = project.revision("r4", "r3")
            module.write_text(forks + module.read_text())

        ended = project.run("run")

        assert ended.code == 0, ended.stderr
        if code is None and where == "env.py":  # it comes to run_migrations(), and is refused
            code, printed = 1, "env.py migrates in a forked child process"
        assert (project.path / "ended").read_text() == str(code or 0)
        assert printed in ended.stdout + ended.stderr
        assert versions(project) == [
            "r3" if where in ("env.py", "after run_migrations()") else "r4"
        ]
        [events] = runs(project).values()
        assert {event["pid"] for event in events} == {events[0]["pid"]}
        assert [event["event"] for event in events].count("database_ready") == 1


class TestBusyDatabase:
    """A leader with much to write keeps all others out of a SQLite file until its commit."""

    pytestmark = pytest.mark.anyio

    @pytest.fixture
    def writer(self, project: Project) -> Iterator[sqlite3.Connection]:
        """A connection that nobody can read beside."""
        connection = sqlite3.connect(
            project.database, isolation_level=None, check_same_thread=False
        )
        connection.execute("CREATE TABLE alembic_version (version_num TEXT)")
        connection.execute("BEGIN EXCLUSIVE")
        yield connection
        connection.close()

    async def test_is_waited_for_at_the_lock(
        self, project: Project, writer: sqlite3.Connection
    ) -> None:
        """As long as the lock's timeout says, not as long as that of the connection."""
        project.state.mkdir()
        lock = FileLock(project.state / "lock", open_shared)
        assert lock.try_acquire()
        run = orchestrate(project, lock_timeout_seconds=1, connect_timeout_seconds=0).run
        with pytest.raises(LockTimeout), anyio.fail_after(DEADLINE_SECONDS):
            await run()
        lock.release()
        assert writer.in_transaction

    async def test_is_waited_for_by_who_follows(
        self, project: Project, writer: sqlite3.Connection
    ) -> None:
        """No longer than the lock's timeout says, whatever that of the connection is.

        Nobody can tell then whether it is at its target.
        """
        run = orchestrate(
            project, mode="follow", lock_timeout_seconds=0.5, connect_timeout_seconds=3600
        ).run
        with pytest.raises(DatabaseUnavailable, match="lock_timeout_seconds") as raised:
            with anyio.fail_after(DEADLINE_SECONDS):
                await run()
        assert raised.value.busy
        assert writer.in_transaction

    async def test_is_waited_for_with_a_word(
        self, project: Project, writer: sqlite3.Connection
    ) -> None:
        """Whoever holds our lock waits for another's, and says so once a second, then seldomer."""
        waited: list[LockWaiting] = []

        def end_the_other(event: Event) -> None:
            if isinstance(event, LockWaiting):
                waited.append(event)
                writer.execute("ROLLBACK")

        with anyio.fail_after(DEADLINE_SECONDS):
            report = await orchestrate(project, end_the_other).run()
        [event] = waited
        assert (event.lock, event.holder) == ("database", None)
        assert event.reason == "another process is writing to it"
        assert event.waited_seconds >= 1
        assert (report.led, report.waited_seconds) == (True, 0.0)

    async def test_is_waited_for_at_the_commit_with_a_word(self, project: Project) -> None:
        """A reader that ends in time is waited for, which is told; the work is kept."""
        project.chain(1)
        reader = sqlite3.connect(project.database, isolation_level=None, check_same_thread=False)
        reader.execute("CREATE TABLE t (id INTEGER)")
        reader.execute("DROP TABLE t")
        reader.execute("BEGIN")
        reader.execute("SELECT * FROM sqlite_master").fetchall()
        reasons: list[str | None] = []

        def end_the_other(event: Event) -> None:
            if isinstance(event, LockWaiting):
                reasons.append(event.reason)
                reader.execute("COMMIT")

        with anyio.fail_after(DEADLINE_SECONDS):
            assert (await orchestrate(project, end_the_other).run()).led
        assert reasons == ["another connection is reading it"]
        reader.close()

    async def test_is_waited_for_at_the_commit(self, project: Project) -> None:
        """A reader keeps the commit out: nothing is kept, and it is nobody's revision."""
        project.chain(1)
        reader = sqlite3.connect(project.database, isolation_level=None)
        reader.execute("CREATE TABLE t (id INTEGER)")
        reader.execute("DROP TABLE t")
        reader.execute("BEGIN")
        reader.execute("SELECT * FROM sqlite_master").fetchall()
        run = orchestrate(project, connect_timeout_seconds=0.3).run
        with pytest.raises(DatabaseUnavailable, match="could not be committed to") as raised:
            with anyio.fail_after(DEADLINE_SECONDS):
                await run()
        assert raised.value.busy
        assert "Mend" not in str(raised.value)
        assert raised.value.applied == ()
        reader.execute("COMMIT")
        assert reader.execute("SELECT * FROM sqlite_master").fetchall() == []
        reader.close()
        assert (await orchestrate(project, connect_timeout_seconds=0.3).run()).led

    @pytest.mark.parametrize("seconds", [math.inf, 3e6])
    async def test_can_be_waited_for_as_long_as_you_like(
        self, project: Project, seconds: float
    ) -> None:
        """For ever, and longer than SQLite's own timeout can be."""
        project.chain(1)
        assert (await orchestrate(project, connect_timeout_seconds=seconds).run()).led

    async def test_whose_writer_is_no_leader(
        self, project: Project, writer: sqlite3.Connection
    ) -> None:
        """With the lock it is waited for as long as that of the connection, and named busy."""
        run = orchestrate(project, connect_timeout_seconds=0.3).run
        with pytest.raises(DatabaseUnavailable, match="busy"), anyio.fail_after(DEADLINE_SECONDS):
            await run()
        writer.execute("COMMIT")
        assert not is_held(project.state / "lock")


class Canceller:
    """A sink that cancels its run at the first event of a kind."""

    def __init__(self, at: type[Event], revision: str | None = None) -> None:
        self.cancel: Callable[[], None] = lambda: None
        self._at = at
        self._revision = revision
        self._loop_thread = threading.get_ident()
        self._done = False

    def __call__(self, event: Event) -> None:
        if self._done or type(event) is not self._at:
            return
        if self._revision not in (None, getattr(event, "revision", None)):
            return
        self._done = True
        if threading.get_ident() == self._loop_thread:
            self.cancel()
        else:
            from_thread.run_sync(self.cancel)


BEFORE_ANYTHING = ("cancelled", [], [])
PHASES = [
    pytest.param(RunStarted, None, BEFORE_ANYTHING, id="before the lock"),
    pytest.param(LockAcquired, None, BEFORE_ANYTHING, id="with the lock"),
    pytest.param(StateObserved, None, BEFORE_ANYTHING, id="inside the pass"),
    pytest.param(RevisionStarted, "r1", ("cancelled", ["r1"], ["r1"]), id="in a revision"),
    pytest.param(
        RevisionApplied, "r2", ("cancelled", ["r1", "r2"], ["r2"]), id="between revisions"
    ),
    pytest.param(RevisionApplied, "r3", ("ready", ["r1", "r2", "r3"], ["r3"]), id="at the last"),
    pytest.param(TaskSucceeded, None, ("ready", ["r1", "r2", "r3"], ["r3"]), id="at the commit"),
    pytest.param(LockReleased, None, ("ready", ["r1", "r2", "r3"], ["r3"]), id="at the release"),
    pytest.param(DatabaseReady, None, ("ready", ["r1", "r2", "r3"], ["r3"]), id="at the end"),
]


class TestCancellation:
    """Whenever it comes: the lock is free, one terminal event is the last, and no more is done."""

    pytestmark = pytest.mark.anyio

    @pytest.mark.parametrize("by", ["run.cancel()", "the host's scope"])
    @pytest.mark.parametrize(("at", "revision", "expected"), PHASES)
    async def test_of_a_leader(
        self,
        project: Project,
        at: type[Event],
        revision: str | None,
        expected: tuple[str, list[str], list[str]],
        by: str,
    ) -> None:
        """What has run is kept, what has not is left to the next run."""
        outcome, applied, reached = expected
        canceller = Canceller(at, revision)
        orchestrator = orchestrate(project, canceller)
        with anyio.fail_after(DEADLINE_SECONDS), anyio.CancelScope() as scope:
            async with orchestrator.start() as run:
                canceller.cancel = run.cancel if by == "run.cancel()" else scope.cancel

        assert run.report is not None
        assert run.report.outcome == outcome
        assert [one.revision for one in run.report.applied] == applied
        assert not is_held(project.state / "lock")
        events = runs(project)[run.run_id]
        assert events[-1]["event"] == ("database_ready" if outcome == "ready" else "run_cancelled")
        assert [one["revision"] for one in events[-1]["applied"]] == applied
        if reached:
            assert versions(project) == reached
        with anyio.fail_after(DEADLINE_SECONDS):
            after = await orchestrate(project, lock_timeout_seconds=0).run()
        assert after.outcome == "ready"
        assert [one.revision for one in after.applied] == ["r1", "r2", "r3"][len(applied) :]

    @pytest.mark.parametrize("by", ["run.cancel()", "the host's scope"])
    async def test_of_a_waiter(self, project: Project, by: str) -> None:
        """It ends while somebody else holds the lock, and takes nothing with it."""
        project.state.mkdir()
        lock = FileLock(project.state / "lock", open_shared)
        assert lock.try_acquire()
        canceller = Canceller(LockWaiting)
        with anyio.fail_after(DEADLINE_SECONDS), anyio.CancelScope() as scope:
            async with orchestrate(project, canceller).start() as run:
                canceller.cancel = run.cancel if by == "run.cancel()" else scope.cancel
        assert run.report is not None
        assert (run.report.outcome, run.report.applied) == ("cancelled", ())
        assert runs(project)[run.run_id][-1]["event"] == "run_cancelled"
        assert is_held(project.state / "lock")
        lock.release()
        assert (await orchestrate(project, lock_timeout_seconds=0).run()).led
