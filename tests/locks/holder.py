"""A process that holds a lock on command: one word on standard input, one answer back."""

from __future__ import annotations

import ctypes
import multiprocessing
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any, Self

from orchestrator.host.directory import open_shared
from orchestrator.locks.base import Lock
from orchestrator.locks.file import FileLock

ROOT = Path(__file__).parents[2]


def make_lock(kind: str, where: str) -> Lock:
    """A lock that is not held; the one place that a new backend is added to."""
    if kind == "file":
        return FileLock(Path(where), open_shared)
    raise ValueError(kind)


class HolderProcess:
    """The same lock in another process."""

    def __init__(self, kind: str, where: str) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-m", "tests.locks.holder", kind, where],
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def ask(self, word: str) -> str:
        """Have it do something; returns the answer."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write(word + "\n")
        self.process.stdin.flush()
        answer = self.process.stdout.readline().strip()
        assert answer, f"the process ended on {word!r}: {self.process.poll()}"
        return answer

    def acquire(self) -> bool:
        """Whether it has the lock now."""
        return self.ask("acquire") == "True"

    def signal(self, number: int) -> None:
        """Send a signal; after SIGKILL it is dead when this returns."""
        self.process.send_signal(number)
        if number == signal.SIGKILL:
            self.process.wait(30)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.process.kill()
        self.process.communicate()


def serve(lock: Lock) -> None:
    """Do what the lines of standard input say."""
    for line in sys.stdin:
        print(_do(lock, line.strip()), flush=True)  # noqa: T201 - the answer


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
    serve(make_lock(*sys.argv[1:]))
