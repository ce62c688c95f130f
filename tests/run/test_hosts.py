"""Many hosts on one PostgreSQL server: one leads, wherever it runs, whatever is cut off.

A host is a state directory of its own, since that is what processes of one host share.
"""

from __future__ import annotations

import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import psycopg
import pytest

from orchestrator.databases.postgresql.holder import FENCE, LEADER, NAMESPACE
from tests.projects import Finished, Project, make_project
from tests.servers.postgresql import PostgreSQLServer, shared_postgresql
from tests.zygote import Forked, Zygote

DEADLINE_SECONDS = 60.0
HOSTS = 3

LOCKED = f"""
    SELECT l.pid FROM pg_locks AS l
    JOIN pg_database AS d ON d.oid = l.database AND d.datname = current_database()
    WHERE l.locktype = 'advisory' AND l.granted
      AND l.classid::bigint = {NAMESPACE % 2**32} AND l.objid = %s
"""

DOUBLES = """
op.execute("SELECT pg_sleep(0.4)")
op.execute("UPDATE counted SET n = n * 2")
op.execute("SELECT pg_sleep(0.4)")
"""
COUNTED = """
op.create_table("counted", sa.Column("n", sa.Integer))
op.execute("INSERT INTO counted VALUES (1)")
"""
IN_A_BLOCK = """
with op.get_context().autocommit_block():
    op.execute("CREATE INDEX CONCURRENTLY IF NOT EXISTS counted_n ON counted (n)")
    op.execute("SELECT pg_sleep(0.3)")
    op.execute("UPDATE counted SET n = n + 1")
"""

ENV_PY = """
from alembic import context
from sqlalchemy import create_engine, pool

url = context.config.get_main_option("sqlalchemy.url")
with create_engine(url, poolclass=pool.NullPool).connect() as connection:
    context.configure(connection=connection, transaction_per_migration={each})
    with context.begin_transaction():
        context.run_migrations()
"""


class Hosts:
    """A project whose processes run on several hosts, with a database on a server."""

    def __init__(self, project: Project, url: str, zygote: Zygote) -> None:
        self.project = project
        self.url = url
        self._zygote = zygote
        self._dsn = url.replace("+psycopg", "")

    def start(
        self, *arguments: str, host: int = 0, processes: int = 1, **variables: str
    ) -> list[Forked]:
        return self._zygote.start(
            self.project,
            *(arguments or ("run", "--json")),
            processes=processes,
            ORCHESTRATOR_DATABASE_URL=self.url,
            ORCHESTRATOR_STATE_DIR=str(self.project.path / f"host{host}"),
            **variables,
        )

    def everywhere(self, processes: int = 2) -> list[Forked]:
        return [one for host in range(HOSTS) for one in self.start(host=host, processes=processes)]

    def ask(self, statement: str, *values: Any) -> list[Any]:
        with psycopg.connect(self._dsn, autocommit=True) as connection:
            cursor = connection.execute(statement, values or None)
            return cursor.fetchall() if cursor.description else []

    def holders(self, key: int) -> list[int]:
        return [pid for (pid,) in self.ask(LOCKED, key)]

    def terminate(self, key: int) -> None:
        """End the session that holds a lock, once there is one."""
        [pid] = soon(lambda: self.holders(key))
        self.ask("SELECT pg_terminate_backend(%s)", pid)
        soon(lambda: pid not in self.holders(key))

    def journal(self, host: int, event: str) -> list[dict[str, Any]]:
        import json

        file = self.project.path / f"host{host}" / "journal.jsonl"
        lines = file.read_bytes().splitlines() if file.exists() else []
        return [line for line in map(json.loads, lines) if line["event"] == event]


def soon(condition: Callable[[], Any]) -> Any:
    """What a condition gives as soon as that is something."""
    deadline = time.monotonic() + DEADLINE_SECONDS
    while not (found := condition()):
        assert time.monotonic() < deadline
        time.sleep(0.01)
    return found


@pytest.fixture(params=["one transaction", "each its own"])
def hosts(request: pytest.FixtureRequest, tmp_path: Path, zygote: Zygote) -> Iterator[Hosts]:
    """Three revisions, one of which doubles a number and one of which commits by itself."""
    project = make_project(tmp_path)
    each = request.param == "each its own"
    project.write("migrations/env.py", ENV_PY.format(each=each))
    project.revision("r1", None, COUNTED)
    project.revision("r2", "r1", DOUBLES)
    if each:
        project.revision("r3", "r2", IN_A_BLOCK)
    else:
        project.revision("r3", "r2", DOUBLES)
    with on_a_server(project, zygote) as made:
        yield made


@contextmanager
def on_a_server(project: Project, zygote: Zygote) -> Iterator[Hosts]:
    server = shared_postgresql()
    with server.database() as name:
        yield Hosts(project, server.url(name), zygote)


def assert_right(hosts: Hosts, ended: list[Finished]) -> None:
    """All are ready at the head, and each revision ran once."""
    assert [one.code for one in ended] == [0] * len(ended), [one.stderr for one in ended]
    assert {tuple(one.json["versions"]) for one in ended} == {("r3",)}
    assert hosts.ask("SELECT n FROM counted") in ([(3,)], [(4,)])
    assert not hosts.holders(LEADER)
    assert not hosts.holders(FENCE)


def test_one_leads_among_all_hosts(hosts: Hosts) -> None:
    """Of all hosts together one process leads, and all are ready."""
    ended = [one.finish() for one in hosts.everywhere()]

    assert_right(hosts, ended)
    assert sum(one.json["led"] for one in ended) == 1


def test_waiting_names_the_leader_on_another_host(hosts: Hosts) -> None:
    """Host, pid, run, release and what it is at, as the server tells; one connection a host."""
    [leader] = hosts.start(ORCHESTRATOR_RELEASE="7.1")
    soon(lambda: hosts.journal(0, "revision_started"))
    waiting = hosts.start(host=1, processes=3)
    told = soon(
        lambda: [
            one
            for one in hosts.journal(1, "lock_waiting")
            if one["holder"] and one["lock"] == "server"
        ]
    )
    sessions = hosts.ask(
        "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() "
        "AND application_name LIKE 'orchestrator%'"
    )
    ended = [one.finish() for one in (leader, *waiting)]

    assert_right(hosts, ended)
    assert told[0]["holder"]["pid"] == leader.pid
    assert told[0]["holder"]["release"] == "7.1"
    assert told[0]["holder"]["run_id"] == ended[0].json["run_id"]
    assert sessions[0][0] <= 2 + 1  # the leader's, one of host 1, and one that looks


def test_who_follows_names_the_leader_on_another_host(hosts: Hosts) -> None:
    """As the server tells: on its own host nobody is at work."""
    hosts.project.revision("r4", "r3", "op.execute('SELECT pg_sleep(4)')")
    [leader] = hosts.start()
    soon(lambda: hosts.journal(0, "revision_started"))
    [follower] = hosts.start("wait", "--lock-timeout", "1", "--json", host=1)
    ended = follower.finish()

    assert ended.code == 3, ended.stderr
    assert f"pid {leader.pid}" in ended.json["error"]["message"]
    assert leader.finish().code == 0


def test_a_full_server_is_asked_by_one_process_a_host(tmp_path: Path, zygote: Zygote) -> None:
    """The others wait for that one: to ask again and again would take the place of who works."""
    server = PostgreSQLServer(settings="max_connections = 10\nsuperuser_reserved_connections = 3\n")
    project = make_project(tmp_path)
    project.write("migrations/env.py", ENV_PY.format(each=False))
    project.revision("r1", None, COUNTED)
    kept: list[Any] = []
    try:
        with server.database() as name:
            admin = psycopg.connect(server.conninfo(name), autocommit=True)
            kept.append(admin)
            admin.execute("CREATE ROLE app LOGIN")
            admin.execute("GRANT ALL ON SCHEMA public TO app")
            as_app = server.conninfo(name).replace("user=postgres", "user=app")
            with suppress(psycopg.OperationalError):
                while True:
                    kept.append(psycopg.connect(as_app))
            hosts = Hosts(project, server.url(name).replace("//postgres", "//app"), zygote)
            started = hosts.start(processes=5)
            soon(lambda: len(hosts.journal(0, "lock_waiting")) >= 5)
            for connection in kept[1:]:
                connection.close()
            ended = [one.finish() for one in started]
            assert {one.code for one in ended} == {0}, [one.stderr for one in ended]
            waited = {
                (one["run_id"], one["lock"], one["reason"] is not None)
                for one in hosts.journal(0, "lock_waiting")
            }
            for_the_file = {run for run, lock, full in waited if lock == "file" and not full}
            assert len(for_the_file) >= 4
            assert not [one for one in waited if one[1] == "database"]
            admin.close()
    finally:
        for connection in kept:
            connection.close()
        server.stop()


def test_a_lost_lock_is_harmless(hosts: Hosts) -> None:
    """The session of the lock is ended in mid-work: nobody else works before that has ended."""
    [leader] = hosts.start()
    soon(lambda: hosts.journal(0, "revision_started"))
    others = hosts.start(host=1) + hosts.start(host=2)
    hosts.terminate(LEADER)

    ended = [one.finish() for one in (leader, *others)]

    assert_right(hosts, ended)
    assert ended[0].json["led"]
    assert [one.json["led"] for one in ended[1:]] == [False, False]
    [lost] = [one for one in hosts.journal(0, "warning") if "lock was lost" in one["message"]]
    assert "keeps all others out" in lost["message"]


def test_lost_work_is_done_by_another(hosts: Hosts) -> None:
    """The session of the work is ended: that run fails and says what is kept; others go on."""
    [leader] = hosts.start()
    soon(lambda: hosts.journal(0, "revision_started"))
    others = hosts.start(host=1) + hosts.start(host=2)
    hosts.terminate(FENCE)

    failed, *ended = [one.finish() for one in (leader, *others)]

    assert_right(hosts, ended)
    assert failed.code in (1, 5), failed.stderr
    assert "Traceback" not in failed.stderr


def test_a_leader_that_is_killed(hosts: Hosts) -> None:
    """Its server ends its work, and another host goes on with what was committed."""
    [leader] = hosts.start()
    soon(lambda: hosts.journal(0, "revision_started"))
    others = hosts.start(host=1) + hosts.start(host=2, processes=2)
    leader.kill()

    assert_right(hosts, [one.finish() for one in others])


def test_a_failing_migration_is_tried_once_a_host(tmp_path: Path, zygote: Zygote) -> None:
    """Whoever waits on the host of the one that failed adopts that; other hosts try."""
    project = make_project(tmp_path)
    project.revision("r1", None, "time.sleep(0.5)\nraise ValueError('no')")
    with on_a_server(project, zygote) as hosts:
        ended = [one.finish() for one in hosts.everywhere(processes=3)]

    errors = sorted(one.json["error"]["type"] for one in ended)
    assert errors.count("TaskFailed") <= HOSTS + 2  # a process may come after its host's failure
    assert errors.count("PeerFailed") >= HOSTS


def test_the_plain_alembic_command_takes_the_same_locks(tmp_path: Path, zygote: Zygote) -> None:
    """With `run_migrations()` in env.py it waits for a leader on another host."""
    project = make_project(tmp_path)
    project.revision("r1", None, COUNTED)
    project.revision("r2", "r1", DOUBLES)
    project.write("alembic.ini", "[alembic]\nscript_location = migrations\nprepend_sys_path = .\n")
    with on_a_server(project, zygote) as hosts:
        [leader] = hosts.start()
        soon(lambda: hosts.holders(FENCE))
        ended = zygote.alembic(
            project,
            "upgrade",
            "head",
            ORCHESTRATOR_DATABASE_URL=hosts.url,
            ORCHESTRATOR_STATE_DIR=str(tmp_path / "another"),
        )
        assert leader.finish().code == 0
        assert ended.code == 0, ended.stderr
        assert hosts.ask("SELECT n FROM counted") == [(2,)]


@pytest.mark.parametrize("frees", ["COMMIT", "DISCARD ALL"])
def test_what_frees_all_locks_is_guarded_all_the_same(
    tmp_path: Path, zygote: Zygote, frees: str
) -> None:
    """A revision that ends its transaction by itself, or frees all locks, keeps the fence."""
    project = make_project(tmp_path)
    project.revision("r1", None, COUNTED)
    body = f"op.execute('{frees}')\nop.execute('SELECT pg_sleep(2)')"
    counts = "op.execute('UPDATE counted SET n = n + 1')\n"
    if frees == "DISCARD ALL":
        indented = body.replace("\n", "\n    ")
        body = f"{counts}with op.get_context().autocommit_block():\n    {indented}"
    else:
        body = counts + body
    project.revision("r2", "r1", body)
    with on_a_server(project, zygote) as hosts:
        [leader] = hosts.start()
        asleep = "SELECT 1 FROM pg_stat_activity WHERE query LIKE 'SELECT pg_sleep(2)%%'"
        soon(lambda: hosts.ask(asleep + " AND state = 'active' AND datname = current_database()"))
        hosts.terminate(LEADER)
        [other] = hosts.start(host=1)
        ended = [one.finish() for one in (leader, other)]
        assert [one.code for one in ended] == [0, 0], [one.stderr for one in ended]
        assert hosts.ask("SELECT n FROM counted") == [(2,)]


def test_each_users_own_schema_is_migrated(tmp_path: Path, zygote: Zygote) -> None:
    """What is remembered of one search path says nothing of another."""
    project = make_project(tmp_path)
    project.revision("r1", None)
    with on_a_server(project, zygote) as hosts:
        for tenant in ("ta", "tb"):
            hosts.ask(f"CREATE SCHEMA {tenant}")
            url = f"{hosts.url}?options=-csearch_path%3D{tenant}"
            [process] = zygote.start(
                project,
                "run",
                "--json",
                ORCHESTRATOR_DATABASE_URL=url,
                ORCHESTRATOR_STATE_DIR=str(tmp_path / "state"),
            )
            ended = process.finish()
            assert (ended.code, ended.json["led"]) == (0, True), ended.stderr
        rows = hosts.ask("SELECT schemaname FROM pg_tables WHERE tablename = 't_r1' ORDER BY 1")
        assert rows == [("ta",), ("tb",)]


@pytest.mark.parametrize("how", ["killed", "told twice to end"])
@pytest.mark.parametrize("where", ["a transaction", "an autocommit block"])
def test_nothing_goes_on_after_its_process_has_gone(
    tmp_path: Path, zygote: Zygote, where: str, how: str
) -> None:
    """The server ends the statement of a client that has gone, which would take a minute."""
    project = make_project(tmp_path)
    statement = "op.execute('SELECT pg_sleep(60)')"
    if where == "an autocommit block":
        statement = f"with op.get_context().autocommit_block():\n    {statement}"
    project.revision("r1", None, statement)
    with on_a_server(project, zygote) as hosts:
        [leader] = hosts.start()
        asleep = "SELECT 1 FROM pg_stat_activity WHERE query = 'SELECT pg_sleep(60)'"
        asleep += " AND state = 'active' AND datname = current_database()"
        soon(lambda: hosts.ask(asleep))
        if how == "killed":
            leader.kill()
        else:
            leader.send(signal.SIGTERM)
            time.sleep(0.3)  # the first one waits for the revision, as on SQLite
            assert leader.runs
            leader.send(signal.SIGTERM)
            ended = leader.finish()
            # Its statement is ended on the server, and the run ends itself, with all its words.
            assert (ended.code, ended.json["outcome"]) == (143, "cancelled")
            assert hosts.journal(0, "run_cancelled")
            assert not hosts.ask(asleep)
        began = time.monotonic()
        soon(lambda: not hosts.ask(asleep))
        assert not hosts.holders(FENCE)
        assert time.monotonic() - began < 30
