"""What every lock backend promises; each is tried by the same tests, with real processes.

A later backend is added to `holder.make_lock` and to the parameters of `place`.
"""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from orchestrator.locks.base import Lock
from tests.databases.conftest import KINDS
from tests.locks import holder
from tests.locks.holder import HolderProcess, make_lock
from tests.servers.mariadb import shared_mariadb
from tests.servers.postgresql import shared_postgresql

DEADLINE_SECONDS = 60.0
Place = tuple[str, str]


@pytest.fixture(params=["file", *(kind for kind in KINDS if kind != "sqlite")])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Place]:
    """A backend, and where its lock is."""
    if request.param == "file":
        yield "file", str(tmp_path / "lock")
        return
    if request.param == "mariadb":
        with shared_mariadb().database() as name:
            yield "mysql", shared_mariadb().url(name)
        return
    server = shared_postgresql(int(request.param.removeprefix("postgresql ")))
    with server.database() as name:
        yield "postgresql", server.url(name)


@pytest.fixture(autouse=True)
def _released(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Every lock that a test makes is let go of, as whoever waits for one does."""
    made: list[Lock] = []

    def recorded(*place: str) -> Lock:
        made.append(holder.make_lock(*place))
        return made[-1]

    monkeypatch.setitem(globals(), "make_lock", recorded)
    yield
    for lock in made:
        lock.release()


def acquire_soon(lock: Lock) -> None:
    """Take a lock that has just been freed; the kernel may need an instant to bury its holder."""
    deadline = time.monotonic() + DEADLINE_SECONDS
    while not lock.try_acquire():
        assert time.monotonic() < deadline, "the lock was not freed"
        time.sleep(0.005)


class TestExclusion:
    """One process holds the lock at a time."""

    def test_two_processes(self, place: Place) -> None:
        """Whoever comes second gets it when the first lets go, and not before."""
        lock = make_lock(*place)
        with HolderProcess(*place) as other:
            assert other.acquire()
            assert not lock.try_acquire()
            other.ask("release")
            assert lock.try_acquire()
            assert not other.acquire()
            lock.release()
            assert other.acquire()

    def test_two_objects_in_one_process(self, place: Place) -> None:
        """Two runs in one process exclude one another as two processes do."""
        one, other = make_lock(*place), make_lock(*place)
        assert one.try_acquire()
        assert not other.try_acquire()
        one.release()
        assert other.try_acquire()
        other.release()

    def test_many_tries_by_many_processes(self, place: Place, tmp_path: Path) -> None:
        """Threads of three processes that all want it: never two of them have it at once."""
        marker = tmp_path / "inside"
        turns = 0
        with HolderProcess(*place) as one, HolderProcess(*place) as other:
            deadline = time.monotonic() + DEADLINE_SECONDS

            def contend(
                acquire: Callable[[], bool], release: Callable[[], object], times: int
            ) -> None:
                nonlocal turns
                while times and time.monotonic() < deadline:
                    if acquire():
                        os.close(os.open(marker, os.O_CREAT | os.O_EXCL))
                        os.unlink(marker)
                        release()
                        turns += 1
                        times -= 1

            lock = make_lock(*place)
            threads = [
                threading.Thread(target=contend, args=(lock.try_acquire, lock.release, 100)),
                *(
                    threading.Thread(
                        target=contend,
                        args=(process.acquire, lambda p=process: p.ask("release"), 100),
                    )
                    for process in (one, other)
                ),
            ]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
        assert turns == 300

    def test_a_try_is_quick(self, place: Place) -> None:
        """A try for a lock that is held does not wait for it."""
        lock = make_lock(*place)
        with HolderProcess(*place) as other:
            assert other.acquire()
            began = time.monotonic()
            assert not any(lock.try_acquire() for _ in range(100))
            assert time.monotonic() - began < 10


class TestDeath:
    """The lock is free when its holder dies, and only then."""

    def test_killed(self, place: Place) -> None:
        """A holder that is killed frees the lock, every time; nothing has to be cleaned up."""
        for _ in range(3):
            lock = make_lock(*place)
            with HolderProcess(*place) as other:
                assert other.acquire()
                other.signal(signal.SIGKILL)
                acquire_soon(lock)
                lock.release()

    def test_stopped(self, place: Place) -> None:
        """A holder that is stopped keeps it."""
        lock = make_lock(*place)
        with HolderProcess(*place) as other:
            assert other.acquire()
            other.signal(signal.SIGSTOP)
            assert not any(lock.try_acquire() for _ in range(20))
            other.signal(signal.SIGCONT)
            other.ask("release")
            assert lock.try_acquire()
            lock.release()


class TestRelease:
    """Letting go."""

    def test_twice(self, place: Place) -> None:
        """A second release has no effect, not even on whoever holds the lock by then."""
        one, other = make_lock(*place), make_lock(*place)
        assert one.try_acquire()
        one.release()
        assert other.try_acquire()
        one.release()
        assert not one.try_acquire()
        other.release()

    def test_of_a_lock_that_was_never_held(self, place: Place) -> None:
        """It has no effect, also after a try that failed."""
        lock = make_lock(*place)
        lock.release()
        with HolderProcess(*place) as other:
            assert other.acquire()
            assert not lock.try_acquire()
            lock.release()
            assert not lock.try_acquire()

    def test_from_another_thread(self, place: Place) -> None:
        """The thread that lets go need not be the one that took it."""
        lock = make_lock(*place)
        assert lock.try_acquire()
        thread = threading.Thread(target=lock.release)
        thread.start()
        thread.join()
        with HolderProcess(*place) as other:
            assert other.acquire()

    def test_again_and_again(self, place: Place) -> None:
        """The same object can be used any number of times, and leaves nothing open."""
        lock = make_lock(*place)
        before = len(os.listdir("/proc/self/fd"))
        for _ in range(50):
            assert lock.try_acquire()
            lock.release()
        assert len(os.listdir("/proc/self/fd")) == before
