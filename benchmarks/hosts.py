"""Many hosts on one server: what they cost it while they wait, and when all are ready.

    python -m benchmarks.hosts [--database mariadb] [--hosts 50] [--processes 20]
                               [--connections 400] [--seconds 2]

All processes start at one instant on an empty database, with migrations of so many seconds. Beside
are two others: each process waits in `pg_advisory_lock()` or `GET_LOCK()` and runs `alembic upgrade
head` under it, again and again where the server refuses the connection; and plain Alembic. A host
is a state directory. All processes are forked from one that has imported everything.
"""

from __future__ import annotations

import argparse
import logging
import os
import random
import select
import signal
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from textwrap import dedent

import alembic.command
import alembic.ddl.postgresql
import anyio
import anyio._backends._asyncio
import psycopg
import pymysql
from alembic.config import Config
from sqlalchemy.engine import make_url

from benchmarks.harness import machine, table
from orchestrator import Orchestrator, OrchestratorError, Settings
from tests.servers.mariadb import MariaDBServer
from tests.servers.postgresql import PostgreSQLServer
from tests.zygote import prepare

ENV_PY = """
from alembic import context
from sqlalchemy import create_engine, pool

url = context.config.get_main_option("sqlalchemy.url")
with create_engine(url, poolclass=pool.NullPool).connect() as connection:
    context.configure(connection=connection)
    with context.begin_transaction():
        context.run_migrations()
"""
REVISION = """
import time
import sqlalchemy as sa
from alembic import op

revision, down_revision = "{name}", {parent!r}

def upgrade():
    op.create_table("t_{name}", sa.Column("id", sa.Integer))
    time.sleep({seconds})
"""
REFUSALS = ("too many clients already", "remaining connection slots")


@dataclass
class Outcome:
    """What came of one way of starting."""

    name: str
    ready: int = 0
    failed: int = 0
    last_seconds: float = 0.0
    most_connections: int = 0
    waiting_connections: list[int] = field(default_factory=list)
    refusals: int = 0

    def cells(self) -> list[str]:
        """The outcome as the table has it."""
        waiting = sorted(self.waiting_connections)
        middle = str(waiting[len(waiting) // 2]) if waiting else "-"
        return [
            self.name,
            str(self.ready),
            str(self.failed),
            f"{self.last_seconds:.1f}",
            middle,
            str(self.most_connections),
            str(self.refusals),
        ]


HEADINGS = (
    "way",
    "ready",
    "failed",
    "until the last, s",
    "connections while waiting (median)",
    "at most",
    "refused",
)


def make_project(path: Path, seconds: float) -> None:
    """Two revisions that take so many seconds together."""
    (path / "migrations" / "versions").mkdir(parents=True)
    (path / "migrations" / "env.py").write_text(dedent(ENV_PY))
    for name, parent in (("r1", None), ("r2", "r1")):
        (path / "migrations" / "versions" / f"{name}.py").write_text(
            dedent(REVISION).format(name=name, parent=parent, seconds=seconds / 2)
        )


def ours(path: Path, url: str, host: int) -> bool:
    """A run of ours."""
    settings = Settings(
        database_url=url,
        script_location=str(path / "migrations"),
        state_dir=path / f"host{host}",
        log="off",
        connect_timeout_seconds=300,
    )
    try:
        anyio.run(Orchestrator(settings).run)
    except OrchestratorError as error:
        sys.stderr.write(f"{error}\n")
        return False
    return True


def by_alembic(path: Path, url: str, _: int = 0) -> bool:
    """Plain Alembic."""
    config = Config()
    config.set_main_option("script_location", str(path / "migrations"))
    config.set_main_option("sqlalchemy.url", url)
    try:
        alembic.command.upgrade(config, "head")
    except Exception:  # noqa: BLE001 - whatever it is, it is not ready
        return False
    return True


class OnPostgreSQL:
    """The server, its sessions, and what is done by hand on it."""

    lock = "pg_advisory_lock()"

    def __init__(self, connections: int) -> None:
        self._server = PostgreSQLServer(settings=f"max_connections = {connections}\n", on_disk=True)
        with psycopg.connect(self._server.conninfo(), autocommit=True) as connection:
            connection.execute("CREATE ROLE app LOGIN")
        self.stop = self._server.stop

    @contextmanager
    def database(self) -> Iterator[str]:
        """The URL of an empty one, of a user without privileges of a superuser."""
        with self._server.database() as name:
            with psycopg.connect(self._server.conninfo(name), autocommit=True) as connection:
                connection.execute("GRANT ALL ON SCHEMA public TO app")
            yield self._server.url(name).replace("//postgres:", "//app:")

    @contextmanager
    def counting(self, url: str) -> Iterator[Callable[[], int]]:
        """How many sessions the database has; connected before there is a rush."""
        statement = "SELECT count(*) FROM pg_stat_activity WHERE datname = %s"
        with psycopg.connect(self._server.conninfo(), autocommit=True) as looking:

            def count() -> int:
                row = looking.execute(statement, (url.rpartition("/")[2],)).fetchone()
                return int(row[0]) if row else 0

            yield count

    def refusals(self) -> int:
        """How often it has refused somebody for want of a connection."""
        return sum(self._server.log.count(words) for words in REFUSALS)

    @staticmethod
    def by_blocking_lock(path: Path, url: str, _: int) -> bool:
        """Every process waits on the server, and then looks by Alembic whether there is work."""
        dsn = url.replace("+psycopg", "")
        while True:
            try:
                with psycopg.connect(dsn, autocommit=True) as connection:
                    connection.execute("SELECT pg_advisory_lock(1)")
                    if by_alembic(path, url):
                        return True
            except psycopg.OperationalError:
                pass
            time.sleep(random.uniform(0.05, 0.2))


class OnMariaDB:
    """The same of MariaDB."""

    lock = "GET_LOCK()"

    def __init__(self, connections: int) -> None:
        self._server = MariaDBServer(f"--max-connections={connections}", on_disk=True)
        self.stop = self._server.stop

    @contextmanager
    def database(self) -> Iterator[str]:
        """The URL of an empty one."""
        with self._server.database() as name:
            yield self._server.url(name)

    @contextmanager
    def counting(self, url: str) -> Iterator[Callable[[], int]]:
        """How many sessions the database has; connected before there is a rush."""
        statement = "SELECT count(*) FROM information_schema.processlist WHERE db = %s"
        with self._server.connect() as looking, looking.cursor() as cursor:

            def count() -> int:
                cursor.execute(statement, (url.rpartition("/")[2],))
                return int(cursor.fetchone()[0])

            yield count

    def refusals(self) -> int:
        """How often it has refused somebody for want of a connection."""
        [(_, number)] = self._server.execute(
            "SHOW GLOBAL STATUS LIKE 'Connection_errors_max_connections'"
        )
        return int(number)

    @staticmethod
    def by_blocking_lock(path: Path, url: str, _: int) -> bool:
        """Every process waits on the server, and then looks by Alembic whether there is work."""
        to = make_url(url)
        while True:
            try:
                with pymysql.connect(
                    host=to.host,
                    port=to.port or 3306,
                    user=to.username,
                    password=to.password or "",
                    database=to.database,
                ) as connection:
                    connection.cursor().execute("SELECT GET_LOCK('migrations', 3600)")
                    if by_alembic(path, url):
                        return True
            except pymysql.err.OperationalError:
                pass
            time.sleep(random.uniform(0.05, 0.2))


Server = OnPostgreSQL | OnMariaDB


def start(
    way: Callable[[Path, str, int], bool], path: Path, url: str, hosts: int, processes: int
) -> list[tuple[int, int]]:
    """Fork them all, and let them go at one instant; pids, and the pipes by which they answer."""
    gate, opened = os.pipe()
    started = []
    sys.stdout.flush()
    for host in range(hosts):
        for _ in range(processes):
            answer, end = os.pipe()
            pid = os.fork()
            if pid == 0:
                os.close(opened)
                os.read(gate, 1)
                ready = False
                try:
                    ready = way(path, url, host)
                finally:
                    os.write(end, f"{int(ready)} {time.monotonic()}".encode())
                    os._exit(0)
            os.close(end)
            started.append((pid, answer))
    os.close(gate)
    os.close(opened)
    return started


def watch(count: Callable[[], int], outcome: Outcome, stop: threading.Event) -> None:
    """Count the sessions of the database ten times a second."""
    while not stop.wait(0.1):
        found = count()
        outcome.most_connections = max(outcome.most_connections, found)
        outcome.waiting_connections.append(found)


def measure(
    name: str,
    way: Callable[[Path, str, int], bool],
    server: Server,
    *,
    hosts: int,
    processes: int,
    seconds: float,
    deadline_seconds: float,
) -> Outcome:
    """One way, from the gate to the last process that is ready; killed at the deadline."""
    outcome = Outcome(name)
    refused = server.refusals()
    with (
        tempfile.TemporaryDirectory() as directory,
        server.database() as url,
        server.counting(url) as count,
    ):
        path = Path(directory)
        make_project(path, seconds)
        stop = threading.Event()
        watcher = threading.Thread(target=watch, args=(count, outcome, stop))
        started = start(way, path, url, hosts, processes)
        began = time.monotonic()
        watcher.start()
        for pid, answer in started:
            left = began + deadline_seconds - time.monotonic()
            if not select.select([answer], [], [], max(0.0, left))[0]:
                os.kill(pid, signal.SIGKILL)
            told = os.read(answer, 100).split()
            os.close(answer)
            os.waitpid(pid, 0)
            ready = bool(told) and told[0] == b"1"
            outcome.ready += ready
            outcome.failed += not ready
            if ready:
                outcome.last_seconds = max(outcome.last_seconds, float(told[1]) - began)
        stop.set()
        watcher.join()
    outcome.refusals = server.refusals() - refused
    return outcome


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure all ways, and print them as a table."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--database", choices=("postgresql", "mariadb"), default="postgresql")
    parser.add_argument("--hosts", type=int, default=50)
    parser.add_argument("--processes", type=int, default=20, help="on each host")
    parser.add_argument("--connections", type=int, default=400)
    parser.add_argument("--seconds", type=float, default=2.0, help="of the migrations")
    parser.add_argument("--deadline", type=float, default=300.0, help="of each way, in seconds")
    given = parser.parse_args(arguments)
    logging.getLogger("alembic").setLevel("ERROR")
    prepare()
    kind = OnMariaDB if given.database == "mariadb" else OnPostgreSQL
    server = kind(given.connections)
    rows = []
    try:
        for name, way in (
            ("orchestrator", ours),
            (f"{server.lock}, then Alembic", server.by_blocking_lock),
            ("Alembic", by_alembic),
        ):
            outcome = measure(
                name,
                way,
                server,
                hosts=given.hosts,
                processes=given.processes,
                seconds=given.seconds,
                deadline_seconds=given.deadline,
            )
            rows.append(outcome.cells())
            print(" | ".join(rows[-1]), flush=True)
    finally:
        server.stop()
    print(
        f"\n{given.hosts} hosts of {given.processes} processes, {given.connections} connections, "
        f"migrations of {given.seconds:g} s; {machine()}\n\n{table(HEADINGS, rows)}"
    )


if __name__ == "__main__":
    main()
