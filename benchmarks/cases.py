"""The cases of the table: each a function that gives rows, measured beside stock Alembic."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

from benchmarks.harness import Row, Sample, alternate, environment, inside, middle, process
from benchmarks.projects import alembic_project, forget_database
from orchestrator.host.directory import StateDirectory, open_shared
from orchestrator.locks.file import FileLock

ORCHESTRATOR = (sys.executable, "-m", "orchestrator")
ALEMBIC = (sys.executable, "-m", "alembic")
WARM = "warm, `await orchestrator.run()`"
UPGRADE = "`alembic.command.upgrade`"
OFF = {"journal": "off"}

_FRAMEWORKS = "import fastapi, sqlalchemy"
_WARM_START = """
import anyio
from orchestrator import Orchestrator, Settings
anyio.run(Orchestrator(Settings(database_url="sqlite:///app.db"%s)).run)
"""
_REST_OF_A_START = """
import anyio, pydantic, sqlalchemy.dialects.sqlite, sqlite3
async def main(): pass
anyio.run(main)
"""
_REMEMBER = "import os, sys, time; import sqlalchemy; print('ready', flush=True); time.sleep(600)"
_WAIT = """
import logging, sys
logging.basicConfig(level="INFO", stream=sys.stdout, format="%(message)s")
import anyio
from orchestrator import Orchestrator, Settings
anyio.run(Orchestrator(Settings(database_url="sqlite:///app.db")).run)
"""


def _remembered(path: Path) -> list[Path]:
    """What a project remembers for warm starts."""
    return list(StateDirectory.beside(path / "app.db").path.glob("heads-*.json"))


@dataclass(kw_only=True)
class Bench:
    """Where and how large; projects are made once and kept for all cases."""

    directory: Path
    rounds: int
    smoke: bool = False
    _projects: dict[str, Path] = field(default_factory=dict)

    def size(self, full: int, small: int) -> int:
        """A number of things, or the small one that shows that the case works."""
        return small if self.smoke else full

    def project(self, revisions: int, tables: int = 0) -> Path:
        """An Alembic project whose bytecode is written, on a database at its target."""
        name = f"{revisions}-{tables}"
        if name not in self._projects:
            path = alembic_project(self.directory / name, revisions, tables=tables)
            process([*ORCHESTRATOR, "run"], path)
            process([*ALEMBIC, "upgrade", "heads"], path)
            self._projects[name] = path
        path = self._projects[name]
        if not _remembered(path):
            process([*ORCHESTRATOR, "run"], path)
        return path

    def absent(self, revisions: int, tables: int = 0) -> Path:
        """The same, without its database."""
        path = self.project(revisions, tables)
        forget_database(path)
        return path


def warm(bench: Bench) -> Iterator[Row]:
    """The database is current, everything is imported; many times in one process."""
    sizes = [bench.size(size, small) for size, small in ((10, 3), (100, 5), (1000, 7), (3000, 9))]
    medians = {}
    for size in sizes:
        path, times = bench.project(size), bench.size(15, 2)
        ours, theirs = alternate(
            bench.rounds,
            partial(_repeated, path, "orchestrator", times=times, settings=OFF),
            partial(_repeated, path, "alembic-upgrade", times=min(times, 5)),
        )
        medians[size] = median(sample.cpu for sample in ours)
        goal = 20 if size == sizes[2] else None
        yield Row(
            case=f"{WARM}, {size} revisions: times faster",
            peer=UPGRADE,
            ours=ours,
            theirs=theirs,
            goal=goal,
            at_least=True,
        )
    least, most = sizes[0], sizes[-1]
    slope = (medians[most] - medians[least]) / (most - least) * 1e6
    print(f"growth: {slope:.2f} µs of CPU a revision file, {least} to {most} (to reach: ≤ 10)")


def warm_first(bench: Bench) -> Iterator[Row]:
    """The first run of a process, which is what a start pays."""
    for size in (bench.size(100, 3), bench.size(1000, 5)):
        path = bench.project(size)
        ours, theirs = alternate(
            bench.rounds,
            partial(_repeated, path, "orchestrator", times=1),
            partial(_repeated, path, "alembic-upgrade", times=1),
        )
        yield Row(
            case=f"{WARM}, the first of its process, journal on, {size} revisions",
            peer=UPGRADE,
            ours=ours,
            theirs=theirs,
        )


def journal(bench: Bench) -> Iterator[Row]:
    """What the journal adds to a warm run."""
    for size in (bench.size(10, 3), bench.size(1000, 5)):
        path, times = bench.project(size), bench.size(25, 2)
        ours, theirs = alternate(
            bench.rounds,
            partial(_repeated, path, "orchestrator", times=times),
            partial(_repeated, path, "orchestrator", times=times, settings=OFF),
        )
        case = f"{WARM}, journal on, {size} revisions"
        yield Row(case=case, peer="journal off", ours=ours, theirs=theirs, goal=1.2)


def imports(bench: Bench) -> Iterator[Row]:
    """A process that only starts warm, beside one that imports what the application has."""
    path = bench.project(bench.size(100, 3))

    def python(code: str) -> Callable[[], Sample]:
        return lambda: process([sys.executable, "-c", code], path)

    bases = {
        "`import fastapi, sqlalchemy`": _FRAMEWORKS,
        "the same, and an event loop, the SQLite dialect": _FRAMEWORKS + _REST_OF_A_START,
    }
    rounds = bench.rounds if bench.smoke else bench.rounds * 3
    for name, base in bases.items():
        for state, setting in (("on", ""), ("off", ", journal='off'")):
            code = _FRAMEWORKS + _WARM_START % setting
            ours, theirs = alternate(rounds, python(code), python(base))
            yield Row(
                case=f"process with a warm start, journal {state}",
                peer=name,
                ours=ours,
                theirs=theirs,
                goal=1.2 if base is _FRAMEWORKS else None,
            )


def command(bench: Bench) -> Iterator[Row]:
    """The command line on a current database, the whole process."""
    for size, goal in ((bench.size(100, 3), 0.8), (bench.size(1000, 5), 0.5)):
        path = bench.project(size)
        ours, theirs = alternate(
            bench.rounds,
            partial(process, [*ORCHESTRATOR, "run"], path),
            partial(process, [*ALEMBIC, "upgrade", "heads"], path),
        )
        yield Row(
            case=f"`orchestrator run`, nothing to do, {size} revisions",
            peer="`alembic upgrade heads`",
            ours=ours,
            theirs=theirs,
            goal=goal,
        )


def cold(bench: Bench) -> Iterator[Row]:
    """Every revision on an absent database; Alembic is imported in both."""
    for size in (bench.size(100, 3), bench.size(1000, 5)):
        ours, theirs = alternate(
            bench.rounds,
            partial(_cold, bench, size, "orchestrator", alembic=True),
            partial(_cold, bench, size, "alembic-upgrade"),
        )
        yield Row(
            case=f"cold upgrade, {size} revisions",
            peer=UPGRADE,
            ours=ours,
            theirs=theirs,
            goal=0.5,
            by="wall",
        )


def create(bench: Bench) -> Iterator[Row]:
    """The tables of the metadata, and the stamp."""
    tables = bench.size(100, 5)
    how = {"bootstrap": "create"}
    ours, theirs = alternate(
        bench.rounds,
        partial(_cold, bench, 10, "orchestrator", tables=tables, alembic=True, settings=how),
        partial(_cold, bench, 10, "create-and-stamp", tables=tables),
    )
    yield Row(
        case=f"create + stamp, {tables} tables",
        peer="`metadata.create_all` + `alembic.command.stamp`",
        ours=ours,
        theirs=theirs,
        goal=0.4,
        by="wall",
    )


def together(bench: Bench) -> Iterator[Row]:
    """Many processes on an absent database, until the last is ready."""
    size, number = bench.size(100, 5), bench.size(16, 3)

    def start(count: int, path: Path) -> Sample:
        began = time.perf_counter()
        children = [
            subprocess.Popen([*ORCHESTRATOR, "run"], cwd=path, env=environment(), **_SILENT)
            for _ in range(count)
        ]
        if sum(abs(child.wait()) for child in children):
            raise RuntimeError("a process of a simultaneous start failed")
        wall = time.perf_counter() - began
        return Sample(wall, wall)

    def apart() -> Sample:
        one = start(1, bench.absent(size)).wall
        current = start(number, bench.project(size)).wall
        return Sample(one + current, one + current)

    ours, theirs = alternate(bench.rounds, lambda: start(number, bench.absent(size)), apart)
    yield Row(
        case=f"{number} processes together on an absent database, {size} revisions",
        peer=f"one alone, plus {number} on a current database",
        ours=ours,
        theirs=theirs,
        goal=1.2,
        by="wall",
    )


def memory(bench: Bench) -> Iterator[Row]:
    """Resident memory of a process that waits for the lock."""
    path = bench.project(bench.size(100, 3))
    directory = StateDirectory.beside(path / "app.db")

    def resident(code: str, until: str) -> Sample:
        with subprocess.Popen(
            [sys.executable, "-u", "-c", code],
            cwd=path,
            env=environment(),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        ) as child:
            try:
                for line in child.stdout or ():
                    if until in line:
                        time.sleep(0.3)  # a few more tries for the lock
                        return _resident_megabytes(child.pid)
                raise RuntimeError(f"the process ended before {until!r}")
            finally:
                child.kill()

    def waiter() -> Sample:
        # Not at its target, as far as can be told without the lock: the long way.
        for file in _remembered(path):
            file.unlink()
        lock = FileLock(directory.lock, open_shared)
        if not lock.try_acquire():
            raise RuntimeError("the lock is held by somebody else")
        try:
            return resident(_WAIT, "lock_waiting")
        finally:
            lock.release()

    ours, theirs = alternate(bench.rounds, waiter, lambda: resident(_REMEMBER, "ready"))
    more = median(one.cpu for one in ours) - median(one.cpu for one in theirs)
    yield Row(
        case=f"memory of a waiter, MB: {more:.1f} MB more (to reach: ≤ 20)",
        peer="the interpreter with SQLAlchemy",
        ours=ours,
        theirs=theirs,
        unit="MB",
    )


def _repeated(path: Path, case: str, **options: Any) -> Sample:
    return middle(inside(path, case, **options))


def _cold(bench: Bench, revisions: int, case: str, *, tables: int = 0, **options: Any) -> Sample:
    return inside(bench.absent(revisions, tables), case, **options)[0]


_SILENT = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}


def _resident_megabytes(pid: int) -> Sample:
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            megabytes = int(line.split()[1]) / 1024
            return Sample(megabytes, megabytes)
    raise RuntimeError("the kernel does not tell the memory of a process")


CASES = (warm, warm_first, journal, imports, command, cold, create, together, memory)
