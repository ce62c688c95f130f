"""The file lock: forks, file systems without flock, files that vanish, and looking at it."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import portalocker
import pytest

from orchestrator.errors import ConfigurationError
from orchestrator.host.directory import open_shared
from orchestrator.locks import file as module
from orchestrator.locks.file import FileLock, is_held
from tests.locks.holder import ROOT, HolderProcess
from tests.projects import Project

DEADLINE_SECONDS = 60.0


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "lock"


def make(path: Path) -> FileLock:
    return FileLock(path, open_shared)


def soon(condition: Callable[[], object], what: str) -> None:
    deadline = time.monotonic() + DEADLINE_SECONDS
    while not condition():
        assert time.monotonic() < deadline, what
        time.sleep(0.005)


@contextmanager
def holder_with_child(path: Path, how: str) -> Iterator[tuple[HolderProcess, int]]:
    """A process that holds the lock and has forked a child, which lives on when it dies."""
    with HolderProcess("file", str(path)) as holder:
        assert holder.acquire()
        child = int(holder.ask(how))
        try:
            yield holder, child
        finally:
            os.kill(child, signal.SIGKILL)


def alive(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return False
    return state != "Z"


class TestFork:
    """A process that forks while it holds the lock does not pass it on."""

    @pytest.mark.parametrize("how", ["fork", "fork in C", "multiprocessing", "run a program"])
    def test_released_though_the_child_lives(self, path: Path, how: str) -> None:
        """When the parent lets go, the lock is free."""
        with holder_with_child(path, how) as (holder, child):
            assert not make(path).try_acquire()
            holder.ask("release")
            assert make(path).try_acquire()
            assert alive(child)

    @pytest.mark.parametrize("how", ["fork", "multiprocessing", "run a program"])
    def test_killed_though_the_child_lives(self, path: Path, how: str) -> None:
        """When the parent is killed, the lock is free, and others see it so."""
        with holder_with_child(path, how) as (holder, child):
            holder.signal(signal.SIGKILL)
            soon(lambda: not is_held(path), "free when its holder is dead")
            assert make(path).try_acquire()
            assert alive(child) or how == "run a program"  # it reads from its dead parent

    def test_a_child_never_frees_its_parents_lock(self, path: Path) -> None:
        """A release in the child has no effect, and no try in it succeeds."""
        with HolderProcess("file", str(path)) as holder:
            assert holder.acquire()
            assert holder.ask("release in a child") == "0"
            assert holder.ask("acquire in a child") == "0"
            assert is_held(path)
            assert not make(path).try_acquire()

    def test_in_the_instant_in_which_the_file_is_opened(self, path: Path) -> None:
        """A thread that forks meanwhile waits: no child has a descriptor that it would keep."""
        forked: list[int] = []
        threads: list[threading.Thread] = []
        opened: list[int] = []

        def fork() -> None:
            pid = os.fork()
            if pid == 0:
                try:
                    os.fstat(opened[0])
                except OSError:
                    os._exit(0)
                os._exit(1)
            forked.append(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))

        def open_slowly(name: str, flags: int) -> int:
            descriptor = open_shared(name, flags)
            if not opened:
                opened.append(descriptor)
                threads.append(threading.Thread(target=fork))
                threads[0].start()
                threads[0].join(0.2)  # long enough for it to fork, if nothing held it back
            return descriptor

        lock = FileLock(path, open_slowly)
        assert lock.try_acquire()
        threads[0].join()
        assert forked == [0]
        lock.release()


class TestFlockThatDoesNotWork:
    """A file system without a working flock is found out, and named."""

    def test_it_grants_everything(self, path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """A lock that does not exclude is an error, not a lock."""
        monkeypatch.setattr(module.portalocker, "lock", lambda *_: None)
        with pytest.raises(ConfigurationError, match="no working flock") as caught:
            make(path).try_acquire()
        assert str(path) in str(caught.value)
        assert caught.value.setting == "state_dir"

    def test_it_refuses_everything(self, path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """An error of the call is told with its reason."""

        def refuse(*_: object) -> None:
            raise portalocker.LockException("Function not implemented")

        monkeypatch.setattr(module.portalocker, "lock", refuse)
        with pytest.raises(ConfigurationError, match="Function not implemented"):
            make(path).try_acquire()

    def test_nothing_stays_open(self, path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """Neither error leaks a descriptor."""
        before = len(os.listdir("/proc/self/fd")), set(module._open_descriptors)
        self.test_it_grants_everything(path, monkeypatch)
        self.test_it_refuses_everything(path, monkeypatch)
        assert (len(os.listdir("/proc/self/fd")), module._open_descriptors) == before


class TestFile:
    """The file that is locked."""

    def test_is_never_deleted(self, path: Path) -> None:
        """It stays the same file, whoever has held it."""
        first, second = make(path), make(path)
        assert first.try_acquire()
        inode = path.stat().st_ino
        first.release()
        assert second.try_acquire()
        second.release()
        assert path.stat().st_ino == inode

    def test_deleted_while_it_is_tried_for(self, path: Path) -> None:
        """A lock on a file that has no name any more is none; the next try makes a new file."""

        def open_and_lose(name: str, flags: int) -> int:
            descriptor = open_shared(name, flags)
            os.unlink(name)
            return descriptor

        lock = FileLock(path, open_and_lose)
        assert not lock.try_acquire()
        assert make(path).try_acquire()

    def test_replaced_while_it_is_tried_for(self, path: Path) -> None:
        """The same where another file has its name by then."""

        def open_and_replace(name: str, flags: int) -> int:
            descriptor = open_shared(name, flags)
            os.replace(path.with_name("other"), name)
            return descriptor

        path.with_name("other").touch()
        assert not FileLock(path, open_and_replace).try_acquire()

    @pytest.mark.parametrize("kind", ["directory", "link", "missing directory"])
    def test_that_cannot_be_opened(self, path: Path, kind: str) -> None:
        """The error names it, and says that nothing was changed."""
        if kind == "directory":
            path.mkdir()
        elif kind == "link":
            path.symlink_to(path.with_name("victim"))
        else:
            path = path / "lock"
        with pytest.raises(ConfigurationError, match="Nothing was changed"):
            make(path).try_acquire()
        assert not path.with_name("victim").exists()


class TestIsHeld:
    """Whether somebody holds the lock, told without disturbing it."""

    @pytest.fixture(params=["/proc/locks", "a shared try", "an inode of another device"])
    def way(
        self, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
    ) -> str:
        """The three ways in which it is found out."""
        if request.param == "a shared try":
            monkeypatch.setattr(module, "Path", lambda _: tmp_path / "missing")
        elif request.param == "an inode of another device":
            monkeypatch.setattr(module.os, "major", lambda _: 255)
        return request.param

    @pytest.mark.usefixtures("way")
    def test_of_a_live_a_stopped_and_a_dead_holder(self, path: Path) -> None:
        """Held by the first two; free again when the holder is dead."""
        assert is_held(path) is False
        with HolderProcess("file", str(path)) as holder:
            assert holder.acquire()
            assert is_held(path) is True
            holder.signal(signal.SIGSTOP)
            assert is_held(path) is True
            holder.signal(signal.SIGKILL)
            soon(lambda: is_held(path) is False, "free when its holder is dead")

    @pytest.mark.usefixtures("way")
    def test_of_this_process(self, path: Path) -> None:
        """One's own lock is seen, too."""
        lock = make(path)
        assert lock.try_acquire()
        assert is_held(path) is True
        lock.release()
        assert is_held(path) is False

    def test_looking_takes_no_lock(self, path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """Where the kernel lists its locks, a free one is told without a single try for it."""
        path.touch()

        def never(*_: object) -> None:
            raise AssertionError("the lock was tried for")

        monkeypatch.setattr(module.portalocker, "lock", never)
        assert is_held(path) is False

    def test_who_waits_is_no_holder(self, path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """A line of somebody blocked by another lock is passed over."""
        path.touch()
        listed = path.with_name("locks")
        status = path.stat()
        device = f"{os.major(status.st_dev):02x}:{os.minor(status.st_dev):02x}"
        listed.write_text(f"1: -> FLOCK  ADVISORY  WRITE 1 {device}:{status.st_ino} 0 EOF\n\n"[:-1])
        monkeypatch.setattr(module, "Path", lambda _: listed)
        assert is_held(path) is False


LOOKERS = """
import os
from orchestrator.run.resources import Resources
from orchestrator.run.inspection import inspect_lock
from orchestrator.settings import Settings

resources = Resources(Settings())
children = []
for _ in range(4):
    pid = os.fork()
    if pid == 0:
        while os.getppid() != 1:
            inspect_lock(resources)
        os._exit(0)
    children.append(pid)
print("there", flush=True)
input()
assert not any(os.waitpid(pid, os.WNOHANG)[0] for pid in children), "a looker has ended"
for pid in children:
    os.kill(pid, 9)
    os.waitpid(pid, 0)
"""


def test_looking_never_makes_a_run_fail(project: Project) -> None:
    """Four processes look in a loop, and no run with `lock_timeout_seconds = 0` times out."""
    project.chain(1)
    environment = project.environment(ORCHESTRATOR_LOCK_TIMEOUT_SECONDS="0")
    lookers = subprocess.Popen(
        [sys.executable, "-c", LOOKERS],
        cwd=project.path,
        env={**environment, "PYTHONPATH": f"{ROOT}:{project.path}"},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        assert lookers.stdout is not None
        assert lookers.stdout.readline() == "there\n"
        lock = FileLock(project.state / "lock", open_shared)
        project.state.mkdir()
        for _ in range(200):
            assert lock.try_acquire(), "somebody who only looked was in the way"
            lock.release()
        ended = project.run("run", "--json", "--lock-timeout", "0")
        assert ended.code == 0, ended.stderr
        _, told = lookers.communicate("enough\n", timeout=60)
        assert lookers.returncode == 0, told
    finally:
        lookers.kill()
        lookers.communicate()


def test_a_lock_that_cannot_be_tested_is_not_kept(tmp_path: Path) -> None:
    """With one file descriptor left the second look fails, and the lock is let go."""
    opened: list[str] = []

    def once(path: str, flags: int) -> int:
        opened.append(path)
        if len(opened) > 1:
            raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))
        return open_shared(path, flags)

    with pytest.raises(ConfigurationError, match="Too many open files"):
        FileLock(tmp_path / "lock", once).try_acquire()

    assert is_held(tmp_path / "lock") is False
    other = FileLock(tmp_path / "lock", open_shared)
    assert other.try_acquire()
    other.release()


def test_it_is_imported_where_nothing_can_be_written() -> None:
    """On a full disk, where Python finds no temporary directory, locks are there all the same."""
    code = """
import tempfile

def none_found():
    raise FileNotFoundError("No usable temporary directory found")

tempfile._get_default_tempdir = none_found
import orchestrator.locks.file
assert tempfile.tempdir is None
"""
    subprocess.run([sys.executable, "-c", code], check=True, cwd=ROOT)
