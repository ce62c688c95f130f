"""A process that holds a lock on command: one word comes over a socket, one answer goes back."""

from __future__ import annotations

import ctypes
import multiprocessing
import os
import signal
import socket
import subprocess
import sys
import tempfile
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Self

from orchestrator.databases import database_of
from orchestrator.host.directory import open_shared
from orchestrator.locks.base import Lock
from orchestrator.locks.file import FileLock
from orchestrator.results import Holder
from tests.projects import Project
from tests.zygote import shared_zygote

DEADLINE_SECONDS = 60.0
ROOT = Path(__file__).parents[2]


def make_lock(kind: str, where: str) -> Lock:
    """A lock that is not held; the one place that a new backend is added to."""
    if kind == "file":
        return FileLock(Path(where), open_shared)
    if kind in ("postgresql", "mysql"):
        lock = database_of(where).lock(a_holder, print)
        assert lock is not None
        return lock
    raise ValueError(kind)


def a_holder() -> Holder:
    """What is told of this process."""
    return Holder(
        run_id="0123456789ab",
        host=socket.gethostname(),
        pid=os.getpid(),
        command="run",
        since=datetime.now(UTC),
        release="1.2/3 */",
        revision="r7",
    )


class HolderProcess:
    """The same lock in another process, which is forked: an interpreter takes longer to start."""

    def __init__(self, kind: str, where: str) -> None:
        with tempfile.TemporaryDirectory() as directory, socket.socket(socket.AF_UNIX) as door:
            address = f"{directory}/door"  # a short one: the kernel takes no more than 107 bytes
            door.bind(address)
            door.listen()
            door.settimeout(DEADLINE_SECONDS)
            [self.process] = shared_zygote().start(
                Project(ROOT), kind, where, address, prelude=Path(__file__)
            )
            self._socket, _ = door.accept()
        self._socket.settimeout(DEADLINE_SECONDS)
        self._answers = self._socket.makefile("r")

    def ask(self, word: str) -> str:
        """Have it do something; returns the answer."""
        self._socket.sendall(f"{word}\n".encode())
        answer = self._answers.readline().strip()
        assert answer, f"the process ended on {word!r}: {self.process.stderr}"
        return answer

    def acquire(self) -> bool:
        """Whether it has the lock now."""
        return self.ask("acquire") == "True"

    def signal(self, number: signal.Signals) -> None:
        """Send a signal; after SIGKILL it is dead when this returns."""
        self.process.send(number)
        if number == signal.SIGKILL:
            self.process.finish()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.process.kill()
        self._answers.close()
        self._socket.close()


def serve(lock: Lock, address: str) -> None:
    """Do what the lines that come over the socket say."""
    with socket.socket(socket.AF_UNIX) as connection:
        connection.connect(address)
        for line in connection.makefile("r"):
            connection.sendall(f"{_do(lock, line.strip())}\n".encode())


def _do(lock: Lock, word: str) -> Any:  # noqa: C901 - a table of words
    match word:
        case "acquire":
            return lock.try_acquire()
        case "release":
            return lock.release()
        case "fork":  # as gunicorn does it; the child lives until it is killed
            return os.fork() or signal.pause()
        case "fork in C":  # Python's own handlers of forks are not called
            libc = ctypes.CDLL(None)
            return libc.fork() or libc.pause()
        case "multiprocessing":
            context = multiprocessing.get_context("fork")
            child = context.Process(target=signal.pause, daemon=True)
            child.start()
            return child.pid
        case "release in a child":
            pid = os.fork()
            if pid == 0:
                lock.release()
                os._exit(0)
            return os.waitpid(pid, 0)[1]
        case "acquire in a child":
            pid = os.fork()
            if pid == 0:
                os._exit(1 if lock.try_acquire() else 0)
            return os.waitpid(pid, 0)[1]
        case "run a program":
            return subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE).pid
    raise ValueError(word)


if __name__ == "__main__":
    serve(make_lock(*sys.argv[1:3]), sys.argv[3])
    sys.exit()
