"""Starts on a server, beside stock Alembic; and what a migration does to its readers.

python -m benchmarks.servers [--database mariadb] [--rounds 7] [--smoke]
"""

from __future__ import annotations

import argparse
import gc
import json
import logging
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import contextmanager
from pathlib import Path
from statistics import median
from textwrap import dedent

import alembic.command
import alembic.ddl.postgresql
import anyio
import psycopg
from alembic.config import Config

from benchmarks.harness import HEADINGS, Row, Sample, alternate, machine, table
from benchmarks.hosts import ENV_PY
from orchestrator import Orchestrator, Settings
from orchestrator.databases import database_of
from tests.servers.mariadb import MariaDBServer
from tests.servers.postgresql import PostgreSQLServer

Server = PostgreSQLServer | MariaDBServer
TIMES = 15
FIRST = 'op.create_table("t{number}", sa.Column("id", sa.Integer))'
OTHER = 'op.add_column("t{table}", sa.Column("c{number}", sa.Integer))'
REVISION = """
import sqlalchemy as sa
from alembic import op

revision, down_revision = "{name}", {parent!r}

def upgrade():
    {body}
"""


def make_project(path: Path, revisions: int) -> None:
    """One revision in ten makes a table, the others add a column to it."""
    (path / "migrations" / "versions").mkdir(parents=True)
    (path / "migrations" / "env.py").write_text(dedent(ENV_PY))
    parent = None
    for number in range(revisions):
        name = f"r{number:05}"
        body = FIRST if number % 10 == 0 else OTHER
        text = REVISION.format(
            name=name, parent=parent, body=body.format(number=number, table=number // 10 * 10)
        )
        (path / "migrations" / "versions" / f"{name}.py").write_text(text)
        parent = name


def timed(work: Callable[[], object]) -> Sample:
    """Wall and CPU seconds of this process, to which the other's garbage is not counted."""
    gc.collect()
    wall, cpu = time.perf_counter(), time.process_time()
    work()
    return Sample(time.perf_counter() - wall, time.process_time() - cpu)


def in_a_child(measure: Callable[[], list[Sample]]) -> Sample:
    """The medians of what is measured in a process of its own, where the other left no traces."""
    answer, end = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            found = measure()
            told = (median(one.wall for one in found), median(one.cpu for one in found))
            os.write(end, json.dumps(told).encode())
        finally:
            os._exit(0)
    os.close(end)
    told = os.read(answer, 1000)
    os.close(answer)
    os.waitpid(pid, 0)
    return Sample(*json.loads(told))


class Starts:
    """One project, started by us and by Alembic."""

    def __init__(self, path: Path, url: str) -> None:
        self._url = url
        self._path = path
        self._settings = Settings(
            database_url=url,
            script_location=str(path / "migrations"),
            state_dir=path / "state",
            journal="off",
            log="off",
        )

    def ours(self) -> None:
        """A run."""
        anyio.run(Orchestrator(self._settings).run)

    async def timed_runs(self, times: int) -> list[Sample]:
        """Runs, each as a lifespan awaits it."""
        found = []
        for _ in range(times):
            wall, cpu = time.perf_counter(), time.process_time()
            await Orchestrator(self._settings).run()
            found.append(Sample(time.perf_counter() - wall, time.process_time() - cpu))
        return found

    def theirs(self) -> None:
        """What a start without us does."""
        config = Config()
        config.set_main_option("script_location", str(self._path / "migrations"))
        config.set_main_option("sqlalchemy.url", self._url)
        alembic.command.upgrade(config, "head")

    def empty(self) -> None:
        """Take away what the revisions have made."""
        if self._url.startswith("mysql"):
            database_of(self._url).drop()
            database_of(self._url).make()
            return
        with psycopg.connect(self._url.replace("+psycopg", ""), autocommit=True) as connection:
            connection.execute("DROP SCHEMA public CASCADE")
            connection.execute("CREATE SCHEMA public")


def warm(server: Server, rounds: int, revisions: int) -> Row:
    """A database at its target."""
    with starts(server, revisions) as found:
        found.ours()
        ours, theirs = alternate(
            rounds,
            # In a loop that runs already, as a lifespan has it.
            lambda: in_a_child(lambda: anyio.run(found.timed_runs, TIMES)),
            lambda: in_a_child(lambda: [timed(found.theirs) for _ in range(TIMES)]),
        )
    return Row(
        case=f"warm, {revisions} revisions: times faster",
        peer="`alembic.command.upgrade`",
        ours=ours,
        theirs=theirs,
        goal=5 if revisions == 100 else None,
        at_least=True,
        by="wall",
    )


def cold(server: Server, rounds: int, revisions: int) -> Row:
    """An empty database."""
    with starts(server, revisions) as found:

        def fresh(start: Callable[[], None]) -> Sample:
            found.empty()
            return timed(start)

        ours, theirs = alternate(rounds, lambda: fresh(found.ours), lambda: fresh(found.theirs))
    return Row(
        case=f"cold, {revisions} revisions",
        peer="`alembic.command.upgrade`",
        ours=ours,
        theirs=theirs,
        goal=1.0,
        by="wall",
    )


@contextmanager
def starts(server: Server, revisions: int):  # noqa: ANN201 - a context manager's
    """A project of so many revisions, on an empty database."""
    with tempfile.TemporaryDirectory() as directory, server.database() as name:
        make_project(Path(directory), revisions)
        yield Starts(Path(directory), server.url(name))


def readers(server: PostgreSQLServer, seconds: float) -> tuple[float, float]:
    """The longest wait of a reader behind an `ALTER TABLE` that waits for one of so many seconds.

    Ours, and stock Alembic's.
    """
    return tuple(_longest_wait(server, seconds, ours=ours) for ours in (True, False))  # type: ignore[return-value] # two of them


def _longest_wait(server: PostgreSQLServer, seconds: float, *, ours: bool) -> float:
    with starts(server, 1) as found, psycopg.connect(_dsn(found)) as long:
        found.theirs()
        versions = found._path / "migrations" / "versions"
        text = REVISION.format(name="r00001", parent="r00000", body=OTHER.format(number=1, table=0))
        (versions / "r00001.py").write_text(text)
        long.execute("SELECT count(*) FROM t0")
        ended = threading.Event()
        waits = [0.0]

        def read() -> None:
            with psycopg.connect(_dsn(found), autocommit=True) as connection:
                while not ended.is_set():
                    began = time.monotonic()
                    connection.execute("SELECT count(*) FROM t0")
                    waits.append(time.monotonic() - began)
                    time.sleep(0.01)

        reader = threading.Thread(target=read)
        reader.start()
        timer = threading.Timer(seconds, long.rollback)
        timer.start()
        (found.ours if ours else found.theirs)()
        ended.set()
        reader.join()
        timer.join()
    return max(waits)


HOLDS = """
import anyio, sys, time
from orchestrator.databases import database_of
from orchestrator.results import Holder
from datetime import UTC, datetime

holder = Holder(run_id="0" * 12, host="h", pid=1, command="run", since=datetime.now(UTC))
lock = database_of(sys.argv[1]).lock(lambda: holder, print)
assert lock.try_acquire()
print("held", flush=True)
time.sleep(600)
"""


def freed_after(server: PostgreSQLServer, number: signal.Signals) -> float:
    """How long the lock of a process stays taken that gets a signal: killed, or stopped."""
    from tests.locks.holder import a_holder

    with server.database() as name:
        url = server.url(name)
        process = subprocess.Popen([sys.executable, "-c", HOLDS, url], stdout=subprocess.PIPE)
        assert process.stdout is not None
        process.stdout.readline()
        lock = database_of(url).lock(a_holder, print)
        assert lock is not None
        process.send_signal(number)
        began = time.monotonic()
        while not lock.try_acquire():
            time.sleep(0.02)
        seconds = time.monotonic() - began
        lock.release()
        process.kill()
        process.wait()
        process.stdout.close()
    return seconds


def _dsn(found: Starts) -> str:
    return found._url.replace("+psycopg", "")


def on_mariadb(rounds: int, sizes: Sequence[int]) -> None:
    """Measure starts there, and print."""
    server = MariaDBServer(on_disk=True)
    try:
        rows = [warm(server, rounds, size) for size in sizes]
        rows += [cold(server, rounds, size) for size in sizes]
    finally:
        server.stop()
    print(f"{machine()}\n\n{table(HEADINGS, [row.cells() for row in rows])}")


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure, and print."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--database", choices=["postgresql", "mariadb"], default="postgresql")
    parser.add_argument("--smoke", action="store_true", help="small, and once")
    given = parser.parse_args(arguments)
    logging.getLogger("alembic").setLevel("ERROR")
    rounds = 1 if given.smoke else given.rounds
    sizes = (10,) if given.smoke else (100, 1000)
    if given.database == "mariadb":
        on_mariadb(rounds, sizes)
        return
    server = PostgreSQLServer(on_disk=True)
    try:
        rows = [warm(server, rounds, size) for size in sizes]
        rows += [cold(server, rounds, size) for size in sizes]
        seconds = 5.0 if given.smoke else 60.0
        mine, stock = readers(server, seconds)
        killed = median(freed_after(server, signal.SIGKILL) for _ in range(rounds))
        stopped = freed_after(server, signal.SIGSTOP)
    finally:
        server.stop()
    print(f"{machine()}\n\n{table(HEADINGS, [row.cells() for row in rows])}\n")
    print(
        f"The longest wait of a reader behind an ALTER TABLE that waits for a reader of "
        f"{seconds:g} s: {mine:.2f} s, and {stock:.2f} s with stock Alembic.\n"
        f"The lock of a process that is killed is free after {killed:.2f} s, of one that is "
        f"stopped (as a host that hangs) after {stopped:.1f} s."
    )


if __name__ == "__main__":
    main()
