"""Races of several hosts on a PostgreSQL server, whose sessions and which itself are ended.

A host is a state directory. What happens in a round is made from its seed alone; when, by its
instants. What must be true afterwards is said at each check.
"""

from __future__ import annotations

import os
import random
import signal
import sys
import tempfile
import time
import traceback
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import psycopg

from orchestrator.databases.postgresql.holder import FENCE, LEADER, NAMESPACE
from tests.projects import Project, make_project
from tests.races import invariants
from tests.races.processes import Pipe, Process, wait
from tests.races.race import Result
from tests.servers.postgresql import PostgreSQLServer

DEADLINE_SECONDS: Final = 120.0
FAULTS: Final = (
    "kill",
    "stop",
    "terminate",
    "end the lock",
    "end the work",
    "end all sessions",
    "kill the server",
    "pause the server",
)
LOSES_WORK: Final = {"end the work", "end all sessions", "kill the server"}
"""Whoever works then has lost its work, and says so by exit code 5."""

DRIVERS: Final = ("psycopg", "psycopg2", "asyncpg")
LONGEST: Final = 4

_ENV_PY: Final = """
import os
from alembic import context
from sqlalchemy import create_engine, pool

url = context.config.get_main_option("sqlalchemy.url")


def migrate(connection):
    context.configure(connection=connection, transaction_per_migration={each})
    with context.begin_transaction():
        context.run_migrations()


if "asyncpg" in url:
    import asyncio
    from sqlalchemy.ext.asyncio import create_async_engine

    async def main():
        engine = create_async_engine(url, poolclass=pool.NullPool)
        async with engine.connect() as connection:
            await connection.run_sync(migrate)
        await engine.dispose()

    asyncio.run(main())
else:
    with create_engine(url, poolclass=pool.NullPool).connect() as connection:
        migrate(connection)
"""
_FIRST: Final = """
op.create_table("total", sa.Column("n", sa.BigInteger))
op.execute("INSERT INTO total VALUES (1)")
op.create_table(
    "applied_log", sa.Column("at", sa.Integer, primary_key=True), sa.Column("name", sa.Text)
)
"""
_EACH: Final = """
import os
pause = float(os.environ.get("RACE_SECONDS", "0"))
op.create_table("{name}", sa.Column("id", sa.Integer, primary_key=True), sa.Column("t", sa.Text))
op.execute(f"SELECT pg_sleep({{pause / 2}})")
op.execute("UPDATE total SET n = n * 3 + {position}")
time.sleep(pause / 2)
op.execute("INSERT INTO applied_log (name) VALUES ('{name}')")
"""
_BLOCK: Final = """
with op.get_context().autocommit_block():
    op.execute("CREATE INDEX CONCURRENTLY i_{name} ON total (n)")
    op.execute("VACUUM total")
"""
_REPEATED: Final = _BLOCK.replace(
    '    op.execute("CREATE',
    '    op.execute("DROP INDEX CONCURRENTLY IF EXISTS i_{name}")\n    op.execute("CREATE',
)
"""One that can be repeated from its beginning, whatever is there of it."""
_LOCKED: Final = f"""
    SELECT pid FROM pg_locks WHERE locktype = 'advisory' AND granted
      AND classid::bigint = {NAMESPACE % 2**32} AND objid = ANY (%s)
      AND database = (SELECT oid FROM pg_database WHERE datname = current_database())
"""


@dataclass(frozen=True, kw_only=True)
class HostsRound:
    """Revisions, how `env.py` runs them, processes by their host, faults by their instant."""

    seed: int
    revisions: int
    seconds: float
    driver: str
    each: bool
    block: int | None
    repeats: bool
    starts: tuple[tuple[float, int, float], ...]
    """When, on which host, and with which lock timeout."""
    faults: tuple[tuple[float, str, float], ...]
    """When, what, and for how long or whom."""


def make_round(seed: int) -> HostsRound:
    """The round of a seed."""
    rng = random.Random(seed)
    revisions = rng.randint(2, LONGEST)
    seconds = rng.uniform(0.02, 0.3)
    hosts = rng.randint(2, 4)
    starts = [
        (rng.choice([0.0, rng.uniform(0, 0.6)]), host, rng.choice([60.0] * 9 + [0.4]))
        for host in range(hosts)
        for _ in range(rng.randint(1, 3))
    ]
    length = 0.4 + revisions * seconds
    faults = [
        (rng.uniform(0.05, length), rng.choice(FAULTS), rng.uniform(0.0, 1.0))
        for _ in range(rng.choice([0, 1, 1, 2, 3, 4]))
    ]
    each = rng.random() < 0.6
    return HostsRound(
        seed=seed,
        revisions=revisions,
        seconds=seconds,
        driver=rng.choice(DRIVERS),
        each=each,
        block=rng.randint(2, revisions) if rng.random() < 0.5 else None,
        repeats=rng.random() < 0.5,
        starts=tuple(sorted(starts)),
        faults=tuple(sorted(faults)),
    )


def expected(revisions: int) -> int:
    """What stands in the table when each revision has run once, in order."""
    total = 1
    for position in range(1, revisions + 1):
        total = total * 3 + position
    return total


class HostsRace:
    """One round, in a directory and a database of its own."""

    marked = "SELECT 1 WHERE to_regclass('orchestrator_interrupted') IS NOT NULL"
    driver_errors: tuple[type[Exception], ...] = (psycopg.Error,)

    def __init__(self, race: HostsRound, path: Path, server: Any) -> None:
        self.result = Result()
        self._race = race
        self._path = path
        self._server = server
        self._processes: list[tuple[Process, float]] = []
        self._began = time.monotonic()
        self._name = ""
        self._later: list[tuple[float, Callable[[], object]]] = []

    def run(self) -> Result:
        """Run the round to its end."""
        project = self._project()
        with self._server.database() as self._name:
            self._disturb(project)
            self._check(project)
        return self.result

    def _project(self) -> Project:
        race = self._race
        project = make_project(self._path / "project")
        project.write("migrations/env.py", _ENV_PY.format(each=race.each))
        for position in range(1, race.revisions + 1):
            name = f"r{position}"
            body = (_FIRST if position == 1 else "") + _EACH.format(name=name, position=position)
            if position == race.block:
                body = (_REPEATED if race.repeats else _BLOCK).format(name=name) + body
            project.revision(name, f"r{position - 1}" if position > 1 else None, body)
        return project

    def _disturb(self, project: Project) -> None:
        self._began = time.monotonic()
        self._later = [
            (at, lambda host=host, timeout=timeout: self._start(project, host, timeout))
            for at, host, timeout in self._race.starts
        ]
        self._later += [
            (at, lambda kind=kind, size=size: self._do(kind, size))
            for at, kind, size in self._race.faults
        ]
        while self._later or any(process.alive() for process, _ in self._processes):
            self._later.sort(key=lambda item: item[0])
            while self._later and self._later[0][0] <= self._elapsed():
                self._later.pop(0)[1]()
            if self._elapsed() > DEADLINE_SECONDS:
                break
            time.sleep(0.003)
        self._server.ensure()
        for process, timeout in self._processes:
            if process.alive():
                process.signal(signal.SIGUSR1)  # tells its stacks
                time.sleep(0.5)
            self._say(f"{process.name} ended: {process.code}\n{process.stderr.text}".rstrip())
            self._judge(process, timeout)
            process.kill()

    def _judge(self, process: Process, timeout: float) -> None:
        """Nobody hangs, is ready too early, or ends for a reason that the round did not have."""
        told, violations = f"{process.name} (exit {process.code})", self.result.violations
        self.result.ends[f"exit {process.code}"] += 1
        lost = any(kind in LOSES_WORK for _, kind, _ in self._race.faults)
        allowed = {0, *({5} if lost else ()), *({3} if timeout < DEADLINE_SECONDS / 4 else ())}
        if lost or any(kind in ("kill", "terminate") for _, kind, _ in self._race.faults):
            allowed |= self._interrupted
        if "kill" in process.faults:
            allowed |= {-9}
        if "terminate" in process.faults:
            allowed |= {-15, 143}
        if process.code is None:
            violations.append(f"4: {told} has not ended")
        elif process.code not in allowed:
            violations.append(f"4: {told} had no reason to end so; faults: {process.faults}")
        for word, what in (
            ("READY WHILE BEHIND", "3: {} was ready while the database was behind"),
            ("Traceback", "4: {} ended with a traceback"),
        ):
            if word in process.stderr.text:
                violations.append(what.format(told))

    def _check(self, project: Project) -> None:
        """A further run leads to the head, each revision ran once, and nothing is left behind."""
        violations = self.result.violations
        self._run_further(project)
        total = self._ask("SELECT n FROM total")
        if total != [(expected(self._race.revisions),)]:
            violations.append(f"1: {total} instead of {expected(self._race.revisions)}")
        names = [name for (name,) in self._ask("SELECT name FROM applied_log ORDER BY at")]
        if names != [f"r{number}" for number in range(1, self._race.revisions + 1)]:
            violations.append(f"2: applied were {names}")
        deadline = time.monotonic() + 15
        while self._locked():
            if time.monotonic() > deadline:
                violations.append("5: a lock is still held")
                break
            time.sleep(0.05)
        torn = sum(kind in ("kill", "terminate") for _, kind, _ in self._race.faults)
        for journal in self._path.glob("host*/journal.jsonl"):
            violations += invariants.of_journal(journal, torn=2 * torn)
        if violations:
            for journal in sorted(self._path.glob("host*/journal.jsonl")):
                self._say(f"{journal.parent.name}:\n{journal.read_text(errors='replace')}")

    def _start(
        self,
        project: Project,
        host: int,
        timeout: float,
        arguments: tuple[str, ...] = ("run", "--json"),
    ) -> Process:
        environment = project.environment(
            RACE_SECONDS=str(self._race.seconds),
            ORCHESTRATOR_DATABASE_URL=self._url(),
            ORCHESTRATOR_STATE_DIR=str(self._path / f"host{host}"),
            ORCHESTRATOR_LOCK_TIMEOUT_SECONDS=str(timeout),
            ORCHESTRATOR_CONNECT_TIMEOUT_SECONDS="60",
            ORCHESTRATOR_INTERRUPTED="retry" if self._repeats else "refuse",
        )
        number = len(self._processes)
        process = _fork(
            project,
            environment,
            self._bear_witness,
            name=f"p{number}@{host}",
            arguments=arguments,
        )
        self._processes.append((process, timeout))
        self._say(f"{process.name}: pid {process.pid}")
        return process

    def _url(self) -> str:
        return self._server.url(self._name, f"postgresql+{self._race.driver}")

    def _bear_witness(self) -> None:
        """Say so, where the database is behind at the instant at which the process is ready."""
        head, deadline = f"r{self._race.revisions}", time.monotonic() + 60
        while time.monotonic() < deadline:
            try:
                rows = self._ask("SELECT version_num FROM alembic_version")
            except self.driver_errors:
                time.sleep(0.05)
                continue
            if rows != [(head,)]:
                sys.stderr.write(f"READY WHILE BEHIND: at {rows}, not at {head}\n")
            return

    def _do(self, kind: str, size: float) -> None:
        self.result.faults[kind] += 1
        self._say(kind)
        if kind in ("kill", "stop", "terminate"):
            there = [process for process, _ in self._processes if process.alive()]
            if not there:
                return
            victim = there[int(size * len(there)) % len(there)]
            victim.faults.append(kind)
            number = {"kill": signal.SIGKILL, "stop": signal.SIGSTOP}.get(kind, signal.SIGTERM)
            victim.signal(number)
            if kind == "stop":
                again = self._elapsed() + size
                self._later.append((again, lambda: victim.signal(signal.SIGCONT)))
        elif kind == "kill the server":
            self._server.kill()
            self._later.append((self._elapsed() + size, self._server.ensure))
        elif kind == "pause the server":
            self._server.pause()
            self._later.append((self._elapsed() + size, self._server.go_on))
        else:
            with suppress(*self.driver_errors):
                self._end(kind)

    @property
    def _repeats(self) -> bool:
        """Whether a revision that was interrupted is run again by itself."""
        return self._race.repeats

    @property
    def _interrupted(self) -> set[int]:
        """How a process may end, besides, that finds what another one has left half done."""
        return set() if self._race.block is None or self._repeats else {4}

    def _run_further(self, project: Project) -> None:
        """What somebody does who finds it interrupted: undo by hand, say so, and start again."""
        for _ in range(self._race.revisions + 1):
            code, told = self._finish(project, "run", "--json")
            if code != 4:
                break
            [(revision, down)] = self._ask("SELECT revision, down FROM orchestrator_interrupted")
            rows = self._ask("SELECT version_num FROM alembic_version")
            number = int(revision.removeprefix("r"))
            before = [(f"r{number - 1}",)] if number > 1 else []
            if down or rows != before:
                self.result.violations.append(f"6: interrupted in {revision}, at {rows}")
            self._say(f"undone by hand: {revision}")
            self._undo(revision, first=number == 1)
            code, told = self._finish(project, "resolve", "--rolled-back", revision, "--json")
            if code != 0:
                self.result.violations.append(f"6: resolve ended with {code}: {told}")
        if code != 0:
            self.result.violations.append(f"5: a further run ended with {code}: {told}")
        if self._ask(self.marked):
            self.result.violations.append("6: a mark is left behind")

    def _undo(self, revision: str, *, first: bool) -> None:
        del first
        self._do_statement(f"DROP INDEX IF EXISTS i_{revision}")

    def _finish(self, project: Project, *arguments: str) -> tuple[int | None, str]:
        process = self._start(project, 99, 60.0, arguments)
        self._processes.pop()
        code = wait(process)
        process.kill()
        return code, process.stderr.text

    def _locked(self) -> list[Any]:
        return self._ask(_LOCKED, [LEADER, FENCE])

    def _end(self, kind: str) -> None:
        keys = {"end the lock": [LEADER], "end the work": [FENCE]}.get(kind)
        pids = (
            [pid for (pid,) in self._ask(_LOCKED, keys)]
            if keys
            else [
                pid
                for (pid,) in self._ask(
                    "SELECT pid FROM pg_stat_activity WHERE datname = current_database() "
                    "AND pid <> pg_backend_pid()"
                )
            ]
        )
        for pid in pids:
            self._ask("SELECT pg_terminate_backend(%s)", pid)

    def _do_statement(self, statement: str) -> None:
        self._ask(f"WITH nothing AS (SELECT 1) SELECT 1; {statement}; SELECT 1")

    def _ask(self, statement: str, *values: Any) -> list[Any]:
        # Short: the server may be paused, and the round goes on meanwhile.
        with psycopg.connect(
            self._server.conninfo(self._name), autocommit=True, connect_timeout=2
        ) as connection:
            return connection.execute(statement, values or None).fetchall()

    def _elapsed(self) -> float:
        return time.monotonic() - self._began

    def _say(self, text: str) -> None:
        self.result.log.append(f"{self._elapsed():7.3f} {text}")


def _fork(
    project: Project,
    environment: dict[str, str],
    witness: Callable[[], object],
    *,
    name: str,
    arguments: tuple[str, ...] = ("run", "--json"),
) -> Process:
    pipes = {1: Pipe(), 2: Pipe()}
    sys.stdout.flush()
    sys.stderr.flush()
    pid = os.fork()
    if pid == 0:
        code = 99
        try:
            for descriptor, pipe in pipes.items():
                os.dup2(pipe.end, descriptor)
            code = _run(project, environment, witness, arguments)
        except BaseException:  # noqa: BLE001 - told, and shown by the code
            traceback.print_exc()
        finally:
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(code)
    for pipe in pipes.values():
        os.close(pipe.end)
    return Process(pid=pid, name=name, stdout=pipes[1], stderr=pipes[2])


def _run(
    project: Project,
    environment: dict[str, str],
    witness: Callable[[], object],
    arguments: tuple[str, ...],
) -> int:
    import faulthandler

    from orchestrator.cli import main

    faulthandler.register(signal.SIGUSR1, all_threads=True)
    os.chdir(project.path)
    os.environ.clear()
    os.environ.update(environment)
    sys.path.insert(0, str(project.path))
    sys.dont_write_bytecode = True
    sys.argv = ["orchestrator", *arguments]
    try:
        main()
    except SystemExit as end:
        if end.code:
            return end.code if isinstance(end.code, int) else 1
    witness()
    return 0


class Rounds:
    """Runs rounds, all on one server."""

    def __init__(self) -> None:
        # What is committed must outlive the server, which is killed; the disk is left to itself.
        self._server = PostgreSQLServer(settings="synchronous_commit = on\n")

    def run(self, seed: int) -> tuple[HostsRound, Result, Path]:
        """The round of a seed."""
        race = make_round(seed)
        path = Path(tempfile.mkdtemp(prefix=f"race-{seed}-"))
        return race, HostsRace(race, path, self._server).run(), path

    def close(self) -> None:
        """End the server."""
        self._server.stop()


def faults_of(seeds: range) -> Counter[str]:
    """How often each kind of fault is in these rounds."""
    return Counter(kind for seed in seeds for _, kind, _ in make_round(seed).faults)
