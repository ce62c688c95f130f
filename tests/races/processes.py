"""Starts racing processes, and tells how they ended."""

from __future__ import annotations

import json
import os
import signal
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.races import racer

ROOT = Path(__file__).parents[2]


class Pipe:
    """What a child tells; it holds 64 KiB, which is more than any of them has to say."""

    def __init__(self) -> None:
        self._descriptor, self.end = os.pipe()
        os.set_blocking(self._descriptor, False)
        self._told = b""

    @property
    def text(self) -> str:
        """All that was told so far."""
        while self._descriptor >= 0:
            try:
                part = os.read(self._descriptor, 65_536)
            except BlockingIOError:
                break
            if not part:
                os.close(self._descriptor)
                self._descriptor = -1
            self._told += part
        return self._told.decode(errors="replace")


@dataclass
class Process:
    """A child that was started. `code` is negative for one that a signal ended."""

    pid: int
    name: str
    stdout: Pipe
    stderr: Pipe
    started: float = field(default_factory=time.monotonic)
    code: int | None = None
    faults: list[str] = field(default_factory=list)

    def alive(self) -> bool:
        """Whether it has not ended yet; what has ended is reaped."""
        if self.code is None:
            pid, status = os.waitpid(self.pid, os.WNOHANG)
            if pid:
                self.code = os.waitstatus_to_exitcode(status)
        return self.code is None

    def signal(self, number: int) -> None:
        """Send a signal if it is there to get it."""
        if self.alive():
            os.kill(self.pid, number)

    def kill(self) -> None:
        """End it, and reap it."""
        if self.alive():
            os.kill(self.pid, signal.SIGKILL)
            self.code = os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])


def start(order: dict[str, Any], *, name: str, fresh: bool) -> Process:
    """Start a racer; `fresh` in an interpreter of its own, else in a fork of this process."""
    # Pipes, since a limit on the size of files is one of the faults.
    pipes = {1: Pipe(), 2: Pipe()}
    if fresh:
        pid = os.posix_spawn(
            sys.executable,
            [sys.executable, "-m", "tests.races.racer", json.dumps(order)],
            {**os.environ, "PYTHONPATH": str(ROOT)},
            file_actions=[(os.POSIX_SPAWN_DUP2, pipe.end, fd) for fd, pipe in pipes.items()],
        )
    else:
        sys.stdout.flush()
        sys.stderr.flush()
        pid = os.fork()
        if pid == 0:
            code = 99
            try:
                for descriptor, pipe in pipes.items():
                    os.dup2(pipe.end, descriptor)
                code = racer.race(order)
            finally:
                os._exit(code)
    for pipe in pipes.values():
        os.close(pipe.end)
    return Process(pid=pid, name=name, stdout=pipes[1], stderr=pipes[2])


def wait(process: Process, *, seconds: float = 60.0) -> int | None:
    """The exit code, or None if it has not ended in so many seconds."""
    deadline = time.monotonic() + seconds
    while process.alive() and time.monotonic() < deadline:
        time.sleep(0.003)
    return process.code
