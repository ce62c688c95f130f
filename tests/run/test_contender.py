"""Two locks, one after the other: one contender a host, and then the database's own lock."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Any

import anyio
import pytest

from orchestrator import DatabaseUnavailable, Event, LockTimeout, Orchestrator, RunReport, Settings
from orchestrator.databases import DATABASES
from orchestrator.databases.sqlite import SQLite
from orchestrator.events import LockAcquired, LockReleased, LockWaiting
from orchestrator.host.directory import open_shared
from orchestrator.locks.base import Lock
from orchestrator.locks.file import FileLock, is_held
from orchestrator.locks.waiting import hold
from orchestrator.results import Holder
from tests.projects import Project

pytestmark = pytest.mark.anyio
DEADLINE_SECONDS = 30


class ServerLock(Lock):
    """The lock of a server: to ask for it takes a while, and is no matter for an event loop."""

    name = "server"
    quick = False

    def __init__(self, *, free_after_tries: int | None = 0) -> None:
        self.tries = 0
        self.held = False
        self.holder: Callable[[], Holder] | None = None
        self.threads: set[int] = set()
        self._free_after_tries = free_after_tries

    def try_acquire(self) -> bool:
        self.threads.add(threading.get_ident())
        self.tries += 1
        time.sleep(0.01)
        self.held = self._free_after_tries is not None and self.tries > self._free_after_tries
        return self.held

    def release(self) -> None:
        self.threads.add(threading.get_ident())
        self.held = False


class Watched:
    """An orchestrator of a project whose database has such a lock, and its events."""

    def __init__(
        self, project: Project, lock: ServerLock, monkeypatch: pytest.MonkeyPatch, **settings: Any
    ) -> None:
        class Locked(SQLite):
            def lock(self, holder: Callable[[], Holder], _: object) -> ServerLock:  # type: ignore[override]
                lock.holder = holder
                return lock

        monkeypatch.setitem(DATABASES, "sqlite", lambda: Locked)
        monkeypatch.syspath_prepend(str(project.path))
        self.events: list[Event] = []
        self._orchestrator = Orchestrator(
            Settings(
                database_url=project.url,
                script_location=str(project.path / "migrations"),
                log="off",
                **settings,
            ),
            sinks=[self.events.append],
        )

    async def run(self) -> RunReport:
        with anyio.fail_after(DEADLINE_SECONDS):
            return await self._orchestrator.run()

    def of(self, *kinds: type[Event]) -> list[Any]:
        return [event for event in self.events if isinstance(event, kinds)]


async def test_both_are_held_for_the_work(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The file lock first, since it costs nobody a connection; released the other way round."""
    project.chain(1)
    lock = ServerLock()
    watched = Watched(project, lock, monkeypatch)

    report = await watched.run()

    assert report.led
    assert [event.lock for event in watched.of(LockAcquired)] == ["file", "server"]
    assert [event.lock for event in watched.of(LockReleased)] == ["server", "file"]
    assert not lock.held
    assert is_held(project.state / "lock") is False


async def test_the_holder_is_this_run(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    """What others will see of it: the run that the events know, on this host."""
    project.chain(1)
    lock = ServerLock()

    report = await Watched(project, lock, monkeypatch, release="1.2").run()

    assert lock.holder is not None
    holder = lock.holder()
    assert (holder.run_id, holder.release) == (report.run_id, "1.2")
    assert holder.revision == "r1"  # what it was at, at last


async def test_a_server_is_never_asked_on_the_event_loop(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither a try nor the release: a server that does not answer must not hold the loop."""
    project.chain(1)
    lock = ServerLock(free_after_tries=3)

    await Watched(project, lock, monkeypatch).run()

    assert lock.tries == 4
    assert threading.get_ident() not in lock.threads


async def test_waiting_is_told_of_the_lock_that_is_waited_for(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By its name; the report has the time of both together."""
    project.chain(1)
    watched = Watched(project, ServerLock(free_after_tries=3), monkeypatch)

    report = await watched.run()

    assert {event.lock for event in watched.of(LockWaiting)} == {"server"}
    acquired = {event.lock: event.waited_seconds for event in watched.of(LockAcquired)}
    assert acquired["file"] == 0
    assert 0 < acquired["server"] <= report.waited_seconds


async def test_one_deadline_for_both(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    """What was waited for the first lock is not to be had again for the second."""
    project.chain(1)
    project.state.mkdir()
    other = FileLock(project.state / "lock", open_shared)
    assert other.try_acquire()
    lock = ServerLock(free_after_tries=None)
    watched = Watched(project, lock, monkeypatch, lock_timeout_seconds=0.6)
    timeouts: list[float] = []

    def recorded(lock: Any, *, timeout_seconds: float, **options: Any) -> Any:
        timeouts.append(timeout_seconds)
        return hold(lock, timeout_seconds=timeout_seconds, **options)

    monkeypatch.setattr("orchestrator.locks.waiting.hold", recorded)
    raised: list[LockTimeout] = []

    async def run() -> None:
        try:
            await watched.run()
        except LockTimeout as error:
            raised.append(error)

    with anyio.fail_after(DEADLINE_SECONDS):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(run)
            while not watched.of(LockWaiting):  # noqa: ASYNC110 - it has no event of its own
                await anyio.sleep(0.005)
            await anyio.sleep(0.2)
            other.release()

    assert raised[0].lock == "server"
    assert "Nothing was changed" in str(raised[0])
    (acquired,) = watched.of(LockAcquired)
    assert acquired.waited_seconds >= 0.1
    assert timeouts == [0.6, pytest.approx(0.6 - acquired.waited_seconds)]
    assert [event.lock for event in watched.of(LockReleased)] == ["file"]
    assert is_held(project.state / "lock") is False
    assert not project.database.exists()


async def test_cancelled_while_it_waits(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither lock is held afterwards."""
    project.chain(1)
    lock = ServerLock(free_after_tries=None)
    watched = Watched(project, lock, monkeypatch)

    with anyio.fail_after(DEADLINE_SECONDS):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(watched.run)
            while lock.tries < 3:  # noqa: ASYNC110 - tries come from a thread
                await anyio.sleep(0.005)
            tasks.cancel_scope.cancel()

    assert not lock.held
    assert is_held(project.state / "lock") is False
    assert not project.database.exists()


async def test_a_lock_that_could_not_be_tried(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    """At the deadline it is the server that is told of, and nobody who would hold the lock."""
    project.chain(1)
    lock = ServerLock(free_after_tries=None)
    lock.trouble = "the server does not answer"
    watched = Watched(project, lock, monkeypatch, lock_timeout_seconds=0.2)

    with pytest.raises(DatabaseUnavailable, match="as the server does not answer") as raised:
        await watched.run()

    assert "`lock_timeout_seconds`" in str(raised.value)
    assert "Nothing was changed" in str(raised.value)
    assert {event.reason for event in watched.of(LockWaiting)} == {"the server does not answer"}
