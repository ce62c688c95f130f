"""Cancelled runs: what is durable is kept, the lock is free, and nothing still migrates."""

from __future__ import annotations

import asyncio
import signal
import sqlite3
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import anyio
import pytest

from orchestrator import (
    DatabaseReady,
    Event,
    Orchestrator,
    RunCancelled,
    RunFailed,
    Settings,
    VerificationFailed,
)
from orchestrator.events import TERMINAL, LockReleased, LockWaiting, RevisionStarted
from orchestrator.host.directory import open_shared
from orchestrator.locks.file import FileLock, is_held
from tests.projects import Project
from tests.zygote import Zygote

DEADLINE_SECONDS = 30

# Tells that it runs, and goes on when it may: no test has to guess how long it takes.
GATED = """
import pathlib
here = pathlib.Path(__file__).parents[2]
(here / "entered").touch()
while not (here / "go").exists():
    time.sleep(0.01)
op.create_table("t_r2", sa.Column("id", sa.Integer, primary_key=True))
"""


@pytest.fixture
def gated(project: Project) -> Project:
    """Three revisions, the second of which runs until there is a file `go`."""
    project.revision("r1", None)
    project.revision("r2", "r1", GATED)
    project.revision("r3", "r2")
    project.write(
        "migrations/env.py",
        "from orchestrator.environment import run_migrations\n\nrun_migrations()\n",
    )
    return project


class Watched:
    """An orchestrator of the project in this process, and its events."""

    def __init__(self, project: Project, **settings: Any) -> None:
        self.events: list[Event] = []
        given = {"script_location": str(project.path / "migrations"), **settings}
        self.orchestrator = Orchestrator(
            Settings(database_url=project.url, **given), sinks=[self.events.append]
        )

    async def until(self, kind: type[Event], **values: Any) -> None:
        """Wait until such an event has been emitted."""

        def emitted() -> bool:
            return any(
                isinstance(event, kind)
                and all(getattr(event, name) == value for name, value in values.items())
                for event in tuple(self.events)
            )

        while not emitted():  # noqa: ASYNC110 - events come from a thread, with any values
            await anyio.sleep(0.005)

    def assert_ended_by(self, kind: type[Event]) -> None:
        assert [event for event in self.events if isinstance(event, TERMINAL)] == [self.events[-1]]
        assert isinstance(self.events[-1], kind)


def versions(project: Project) -> list[str]:
    connection = sqlite3.connect(project.database)
    try:
        return [row[0] for row in connection.execute("SELECT version_num FROM alembic_version")]
    finally:
        connection.close()


@pytest.fixture
def held(project: Project) -> Iterator[FileLock]:
    """The project's lock, held by somebody else."""
    project.state.mkdir()
    lock = FileLock(project.state / "lock", open_shared)
    assert lock.try_acquire()
    yield lock
    lock.release()


@pytest.mark.anyio
class TestWhileWaiting:
    """Cancellation while another process holds the lock."""

    async def test_returns_at_once_and_holds_nothing(self, gated: Project, held: FileLock) -> None:
        """The run ends although the lock stays held, and the lock is not taken afterwards."""
        watched = Watched(gated)
        with anyio.fail_after(DEADLINE_SECONDS):
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(watched.orchestrator.run)
                await watched.until(LockWaiting)
                tasks.cancel_scope.cancel()

        watched.assert_ended_by(RunCancelled)
        assert not gated.database.exists()
        held.release()
        assert is_held(held.path) is False

    async def test_by_a_deadline(self, gated: Project, held: FileLock) -> None:
        """`move_on_after` around a run that waits is kept."""
        watched = Watched(gated)
        with anyio.fail_after(DEADLINE_SECONDS):
            with anyio.move_on_after(0.2) as scope:
                await watched.orchestrator.run()

        assert scope.cancelled_caught
        watched.assert_ended_by(RunCancelled)

    async def test_by_run_cancel(self, gated: Project, held: FileLock) -> None:
        """`run.cancel()` ends the run with a report; the block goes on."""
        watched = Watched(gated)
        with anyio.fail_after(DEADLINE_SECONDS):
            async with watched.orchestrator.start() as run:
                await run.wait_for(LockWaiting)
                run.cancel()
                report = await run.result()

        assert (report.outcome, report.led, report.applied) == ("cancelled", False, ())
        assert report.waited_seconds >= 0
        watched.assert_ended_by(RunCancelled)


@pytest.mark.anyio
class TestWhileARevisionRuns:
    """Cancellation in the middle of a revision."""

    @pytest.mark.parametrize(
        ("transaction", "kept"), [("run", ["r1", "r2"]), ("revision", ["r1", "r2"])]
    )
    @pytest.mark.parametrize("how", ["scope", "cancel()"])
    async def test_lets_it_finish_and_keeps_it(
        self, gated: Project, how: str, transaction: str, kept: list[str]
    ) -> None:
        """The revision ends, the next does not begin, what ran is kept, the lock is free.

        Also where the revision has only been said to begin: its transaction is yet to come.
        """
        watched = Watched(gated, transaction=transaction)
        lock = gated.state / "lock"
        with anyio.fail_after(DEADLINE_SECONDS):
            with anyio.CancelScope() as scope:
                async with watched.orchestrator.start() as run, anyio.create_task_group() as tasks:
                    with anyio.CancelScope(shield=True):
                        await watched.until(RevisionStarted, revision="r2")
                    if how == "scope":
                        scope.cancel()
                    else:
                        run.cancel()
                    tasks.start_soon(self._let_go_of, gated, lock)

        watched.assert_ended_by(RunCancelled)
        assert [one.revision for one in watched.events[-1].applied] == kept
        assert run.report is not None
        assert (run.report.outcome, run.report.versions) == ("cancelled", ("r2",))
        assert versions(gated) == ["r2"]
        assert isinstance(watched.events[-2], LockReleased)
        assert is_held(lock) is False
        # The next run goes on from there.
        report = await Watched(gated).orchestrator.run()
        assert [one.revision for one in report.applied] == ["r3"]

    @staticmethod
    async def _let_go_of(project: Project, lock: Path) -> None:
        with anyio.CancelScope(shield=True):
            await anyio.sleep(0.1)
            assert is_held(lock) is True
            (project.path / "go").touch()

    async def test_create_and_its_stamp_are_one_piece(self, gated: Project) -> None:
        """Tables without a version row would be refused by every start that follows."""
        gated.write(
            "migrations/env.py",
            """
            import pathlib
            import time

            import sqlalchemy as sa
            from orchestrator.environment import run_migrations

            metadata = sa.MetaData()
            table = sa.Table("t", metadata, sa.Column("id", sa.Integer))
            here = pathlib.Path(__file__).parents[1]


            @sa.event.listens_for(table, "before_create")
            def wait(*_, **__):
                (here / "entered").touch()
                while not (here / "go").exists():
                    time.sleep(0.01)


            run_migrations(target_metadata=metadata)
            """,
        )
        watched = Watched(gated, bootstrap="create")
        with anyio.fail_after(DEADLINE_SECONDS):
            async with watched.orchestrator.start() as run:
                while not (gated.path / "entered").exists():  # noqa: ASYNC110 - it is a file
                    await anyio.sleep(0.005)
                run.cancel()
                (gated.path / "go").touch()
                report = await run.result()

        watched.assert_ended_by(DatabaseReady)
        assert [task.task for task in report.tasks] == ["create", "stamp"]
        assert versions(gated) == ["r3"]

    @pytest.mark.parametrize("existed", [False, True])
    @pytest.mark.parametrize("bootstrap", ["create", "upgrade"])
    @pytest.mark.parametrize("transaction", ["run", "revision"])
    async def test_before_any_task(
        self,
        gated: Project,
        transaction: str,
        bootstrap: str,
        existed: bool,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        """What is cancelled before it has begun does nothing at all: no version table, no file."""
        if existed:
            gated.database.touch()
        watched = Watched(gated, bootstrap=bootstrap, transaction=transaction)

        monkeypatch.setattr("orchestrator.run.threads.Cancellation.is_requested", lambda _: True)
        with anyio.fail_after(DEADLINE_SECONDS):
            report = await watched.orchestrator.run()

        assert (report.outcome, report.applied, report.tasks) == ("cancelled", (), ())
        assert gated.database.exists() == existed
        assert not existed or gated.database.stat().st_size == 0

    async def test_after_the_last_revision(self, gated: Project) -> None:
        """A cancellation that comes when all revisions have begun ends in `database_ready`."""
        (gated.path / "migrations" / "versions" / "r3.py").unlink()
        watched = Watched(gated)
        with anyio.fail_after(DEADLINE_SECONDS):
            async with watched.orchestrator.start() as run:
                await watched.until(RevisionStarted, revision="r2")
                run.cancel()
                (gated.path / "go").touch()
                report = await run.result()

        watched.assert_ended_by(DatabaseReady)
        assert (report.outcome, report.versions) == ("ready", ("r2",))
        assert versions(gated) == ["r2"]


@pytest.mark.anyio
@pytest.mark.parametrize("anyio_backend", ["asyncio"])
class TestNativeAsyncio:
    """asyncio's own cancellation, which no scope of anyio's shields from."""

    @pytest.mark.parametrize("how", ["task.cancel()", "twice", "asyncio.timeout"])
    async def test_the_lock_is_held_while_the_thread_migrates(
        self, gated: Project, how: str
    ) -> None:
        """The task ends only when the thread has; until then nobody else gets the lock."""
        watched = Watched(gated)
        lock = gated.state / "lock"

        async def run() -> None:
            if how != "asyncio.timeout":
                await watched.orchestrator.run()
                return
            async with asyncio.timeout(None) as timeout:
                timeouts.append(timeout)
                await watched.orchestrator.run()

        timeouts: list[asyncio.Timeout] = []
        task = asyncio.create_task(run())
        async with asyncio.timeout(DEADLINE_SECONDS):
            await watched.until(RevisionStarted, revision="r2")
            if timeouts:
                timeouts[0].reschedule(asyncio.get_running_loop().time())
            else:
                task.cancel()
            for _ in range(20):
                await asyncio.sleep(0.01)
                assert is_held(lock) is True
                assert not task.done()
            if how == "twice":
                task.cancel()
                await asyncio.sleep(0.05)
                assert is_held(lock) is True
            (gated.path / "go").touch()
            with pytest.raises(TimeoutError if timeouts else asyncio.CancelledError):
                await task

        watched.assert_ended_by(RunCancelled)
        assert versions(gated) == ["r2"]
        assert is_held(lock) is False


def wait_until(condition: Callable[[], Any]) -> None:
    deadline = time.monotonic() + DEADLINE_SECONDS
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.005)


def last_events(project: Project) -> list[str]:
    return [line["event"] for line in project.journal()][-2:]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
class TestSignals:
    """SIGINT and SIGTERM on the command line."""

    def test_while_a_revision_runs(
        self, gated: Project, zygote: Zygote, number: signal.Signals
    ) -> None:
        """The revision ends and is kept; the exit code is 128 + the signal."""
        [process] = zygote.start(gated, "run", "--json")
        wait_until((gated.path / "entered").exists)
        process.send(number)
        time.sleep(0.1)
        assert process.runs
        (gated.path / "go").touch()
        ended = process.finish()

        assert ended.code == 128 + number, ended.stderr
        assert (ended.json["outcome"], ended.json["versions"]) == ("cancelled", ["r2"])
        assert [one["revision"] for one in ended.json["applied"]] == ["r1", "r2"]
        assert versions(gated) == ["r2"]
        assert last_events(gated) == ["lock_released", "run_cancelled"]
        assert "Traceback" not in ended.stderr

    def test_twice(self, gated: Project, zygote: Zygote, number: signal.Signals) -> None:
        """A second signal ends the process at once; the database is as it was before."""
        [process] = zygote.start(gated, "run")
        wait_until((gated.path / "entered").exists)
        process.send(number)
        wait_until(lambda: "Once more" in process.stderr)
        process.send(number)
        ended = process.finish()

        assert ended.code == 128 + number, ended.stderr
        connection = sqlite3.connect(gated.database)
        assert connection.execute("SELECT name FROM sqlite_master").fetchall() == []
        connection.close()
        assert is_held(gated.state / "lock") is False
        (gated.path / "go").touch()
        assert zygote.run(gated, "run", processes=1)[0].code == 0

    def test_while_waiting(
        self, gated: Project, held: FileLock, zygote: Zygote, number: signal.Signals
    ) -> None:
        """A process that waits ends at once, although the lock stays held."""
        [process] = zygote.start(gated, "run", "--json")
        journal = gated.state / "journal.jsonl"
        wait_until(lambda: journal.exists() and "lock_waiting" in journal.read_text())
        process.send(number)
        ended = process.finish()

        assert ended.code == 128 + number, ended.stderr
        assert ended.json["outcome"] == "cancelled"
        assert last_events(gated)[-1] == "run_cancelled"
        assert not gated.database.exists()


@pytest.mark.anyio
async def test_what_a_cancelled_run_claims_is_proved(
    gated: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A revision that commits by itself, without a transaction of ours, and then is cancelled.

    Alembic's version row is not kept then, as with the plain command: that is an error, and not
    a run of which nothing was changed.
    """
    gated.write(
        "migrations/env.py",
        """
        from alembic import context
        from sqlalchemy import create_engine, pool

        url = context.config.get_main_option("sqlalchemy.url")
        with create_engine(url, poolclass=pool.NullPool).connect() as connection:
            transaction = connection.begin()
            context.configure(connection=connection)
            context.run_migrations()
            transaction.rollback()
        """,
    )
    gated.revision("r1", None, GATED.replace("t_r2", "t_r1"))
    watched = Watched(gated, transaction="off")

    async def cancelled() -> None:
        async with watched.orchestrator.start() as run:
            while not (gated.path / "entered").exists():  # noqa: ASYNC110 - it is a file
                await anyio.sleep(0.005)
            run.cancel()
            (gated.path / "go").touch()
            await run.result()

    with anyio.fail_after(DEADLINE_SECONDS):
        with pytest.raises(VerificationFailed, match="should be at r1, and is at base"):
            await cancelled()

    watched.assert_ended_by(RunFailed)
