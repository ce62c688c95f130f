"""How soon a herd of waiters is ready, when the process that they wait for is done.

    python -m benchmarks.herd [--waiters 16] [--repetitions 7] [--smoke]

Measured is the time from the instant before the leader lets go of its lock to the instant at
which the last waiter is ready, beside two programs that wait for a plain `portalocker.Lock`
with its default interval, one after the other: the first makes under the lock the same probe
of the database as ours, the second what the usual recipe does, `alembic upgrade head` with
nothing to do. All processes are forked from one that has imported everything.
"""

from __future__ import annotations

import argparse
import os
import random
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import contextmanager
from pathlib import Path
from textwrap import dedent

import alembic.command
import alembic.ddl.sqlite
import anyio
import anyio._backends._asyncio
import portalocker
from alembic.config import Config

from orchestrator import Orchestrator, Settings
from orchestrator.events import DatabaseReady, Event, LockWaiting
from orchestrator.locks.file import FileLock
from orchestrator.run.warm_start import probe_known

TO_REACH = 0.25
Say = Callable[[str], None]


def make_project(path: Path) -> Settings:
    """One revision, which is done when the file `gate` is there."""
    (path / "migrations" / "versions").mkdir(parents=True)
    (path / "migrations" / "env.py").write_text(
        "from orchestrator.environment import run_migrations\n\nrun_migrations()\n"
    )
    (path / "migrations" / "versions" / "r1.py").write_text(
        dedent(
            f"""
            import pathlib, time
            import sqlalchemy as sa
            from alembic import op

            revision, down_revision = "r1", None

            def upgrade():
                op.create_table("one", sa.Column("id", sa.Integer))
                while not pathlib.Path({str(path / "gate")!r}).exists():
                    time.sleep(0.005)
            """
        )
    )
    return Settings(
        database_url=f"sqlite:///{path / 'app.db'}", script_location=str(path / "migrations")
    )


def herd(settings: Settings, waiters: int, gate: Path) -> float:
    """Ours: seconds from the leader's release to the last waiter that is ready."""

    def lead(say: Say) -> None:
        release = FileLock.release

        def tell(lock: FileLock) -> None:
            say(f"released {time.monotonic()}")
            release(lock)

        FileLock.release = tell  # type: ignore[method-assign] # this process only leads
        anyio.run(Orchestrator(settings).run)

    def wait(say: Say) -> None:
        def sink(event: Event) -> None:
            if isinstance(event, LockWaiting) and event.waited_seconds == 0:
                say("waits")
            elif isinstance(event, DatabaseReady):
                say(f"ready {time.monotonic()}")

        anyio.run(Orchestrator(settings, sinks=[sink]).run)

    with children() as start:
        told = start(lead, 1)
        record = Path(f"{gate.parent}/.app.db.orchestrator/run.json")
        while not record.exists():
            time.sleep(0.005)
        told += start(wait, waiters)
        read(told, "waits", waiters)
        gate.touch()
        return elapsed(told, waiters)


def in_turn(path: Path, waiters: int, work: Callable[[], object]) -> float:
    """The same for a plain lock that each waiter takes, and under which it does `work`."""
    lock = path / "plain.lock"

    def lead(say: Say) -> None:
        with portalocker.Lock(lock, timeout=300):
            say("holds")
            while not (path / "plain.gate").exists():
                time.sleep(0.005)
            say(f"released {time.monotonic()}")

    def wait(say: Say) -> None:
        time.sleep(random.uniform(0, portalocker.utils.DEFAULT_CHECK_INTERVAL))
        say("waits")
        with portalocker.Lock(lock, timeout=300):
            work()
        say(f"ready {time.monotonic()}")

    with children() as start:
        told = start(lead, 1)
        read(told, "holds", 1)
        told += start(wait, waiters)
        read(told, "waits", waiters)
        (path / "plain.gate").touch()
        try:
            return elapsed(told, waiters)
        finally:
            (path / "plain.gate").unlink()


class Pipe:
    """What one child says, line by line."""

    def __init__(self) -> None:
        reading, self.writing = os.pipe()
        self._file = os.fdopen(reading)
        self.lines: list[str] = []

    def say(self, text: str) -> None:
        """Say a line, in the child."""
        os.write(self.writing, f"{text}\n".encode())

    def until(self, word: str) -> str | None:
        """The first line that begins with a word; None if the child ends without it."""
        for line in self.lines:
            if line.startswith(word):
                return line
        while line := self._file.readline():
            self.lines.append(line)
            if line.startswith(word):
                return line
        return None


@contextmanager
def children():  # noqa: ANN201 - a starter of children
    """Start functions in forked children, which have ended at the end of the block."""
    pids = []

    def start(what: Callable[[Say], None], number: int) -> list[Pipe]:
        pipes = []
        for _ in range(number):
            pipe = Pipe()
            pid = os.fork()
            if pid == 0:
                code = 1
                try:
                    what(pipe.say)
                    code = 0
                finally:
                    os._exit(code)
            os.close(pipe.writing)
            pids.append(pid)
            pipes.append(pipe)
        return pipes

    yield start
    for pid in pids:
        if os.waitpid(pid, 0)[1]:
            sys.exit("a child failed")


def read(told: list[Pipe], word: str, number: int) -> list[str]:
    """What so many children say that begins with a word; waited for."""
    lines = [line for pipe in told[-number:] if (line := pipe.until(word))]
    if len(lines) != number:
        sys.exit(f"only {len(lines)} of {number} children said {word!r}")
    return lines


def elapsed(told: list[Pipe], waiters: int) -> float:
    """From the leader's release to the last waiter that is ready."""
    released = told[0].until("released") or sys.exit("the leader did not release")
    ready = [float(line.split()[1]) for line in read(told, "ready", waiters)]
    return max(ready) - float(released.split()[1])


def repetition(waiters: int) -> tuple[float, float, float]:
    """The three programs, one after the other."""
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory)
        settings = make_project(path)
        ours = herd(settings, waiters, path / "gate")
        resources = Orchestrator(settings).resources
        config = Config(attributes={"orchestrator": True})  # our env.py would take our own lock
        config.set_main_option("script_location", str(path / "migrations"))
        config.set_main_option("sqlalchemy.url", str(settings.database_url))
        probing = in_turn(path, waiters, lambda: probe_known(resources, lambda: None))
        upgrading = in_turn(path, waiters, lambda: alembic.command.upgrade(config, "head"))
    return ours, probing, upgrading


def main() -> None:
    """Print the medians and their ratios."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.herd", description=__doc__)
    parser.add_argument("--waiters", type=int, default=16)
    parser.add_argument("--repetitions", type=int, default=7)
    parser.add_argument("--smoke", action="store_true", help="small numbers: does it run at all?")
    arguments = parser.parse_args()
    waiters, repetitions = arguments.waiters, arguments.repetitions
    if arguments.smoke:
        waiters, repetitions = 3, 1
    results = [repetition(waiters) for _ in range(repetitions)]
    ours, probing, upgrading = (statistics.median(column) for column in zip(*results, strict=True))
    names = ("orchestrator", "portalocker.Lock, probe", "portalocker.Lock, alembic upgrade")
    print(f"{waiters} waiters, median of {repetitions} (least to most), from release to last ready")
    for name, column in zip(names, zip(*results, strict=True), strict=True):
        median = statistics.median(column)
        print(f"  {name:34} {median:7.3f} s  ({min(column):.3f} to {max(column):.3f})")
    print(f"ratio to the probe in turn    {ours / probing:.3f}  (to reach: {TO_REACH})")
    print(f"ratio to the upgrade in turn  {ours / upgrading:.3f}")


if __name__ == "__main__":
    main()
