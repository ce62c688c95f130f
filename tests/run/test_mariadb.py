"""Many hosts on one MariaDB server: one leads, wherever it runs, whatever is cut off."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pymysql
import pytest

from tests.projects import Finished, Project, make_project
from tests.run.test_hosts import soon
from tests.servers.mariadb import MariaDBServer, shared_mariadb
from tests.zygote import Forked, Zygote

HOSTS = 3
ENV_PY = """
from alembic import context
from sqlalchemy import create_engine, pool

url = context.config.get_main_option("sqlalchemy.url")
with create_engine(url, poolclass=pool.NullPool).connect() as connection:
    context.configure(connection=connection)
    with context.begin_transaction():
        context.run_migrations()
"""
COUNTED = """
op.create_table("counted", sa.Column("n", sa.Integer))
op.execute("INSERT INTO counted VALUES (1)")
"""
DOUBLES = """
op.execute("SELECT SLEEP(0.4)")
op.execute("UPDATE counted SET n = n * 2")
op.execute("SELECT SLEEP(0.4)")
"""
LED = "SELECT IS_USED_LOCK(CONCAT('orchestrator leader ', SHA1(DATABASE())))"
FENCED = "SELECT IS_USED_LOCK(CONCAT('orchestrator fence ', SHA1(DATABASE())))"


class Hosts:
    """A project whose processes run on several hosts, with a database on a server."""

    def __init__(self, project: Project, server: MariaDBServer, name: str, zygote: Zygote) -> None:
        self.project = project
        self.server = server
        self.name = name
        self._zygote = zygote

    def start(
        self, *arguments: str, host: int = 0, processes: int = 1, **variables: str
    ) -> list[Forked]:
        return self._zygote.start(
            self.project,
            *(arguments or ("run", "--json")),
            processes=processes,
            ORCHESTRATOR_DATABASE_URL=self.server.url(self.name),
            ORCHESTRATOR_STATE_DIR=str(self.project.path / f"host{host}"),
            **variables,
        )

    def everywhere(self, processes: int = 2) -> list[Forked]:
        return [one for host in range(HOSTS) for one in self.start(host=host, processes=processes)]

    def ask(self, statement: str) -> list[tuple[Any, ...]]:
        return self.server.execute(statement, self.name)

    def end(self, held: str) -> None:
        """End the session that holds a lock, once there is one."""
        [(number,)] = soon(lambda: [row for row in self.ask(held) if row[0] is not None])
        with suppress(pymysql.err.OperationalError):
            self.ask(f"KILL {number}")
        soon(lambda: self.ask(held) != [(number,)])

    def journal(self, host: int, event: str) -> list[dict[str, Any]]:
        import json

        file = self.project.path / f"host{host}" / "journal.jsonl"
        lines = file.read_bytes().splitlines() if file.exists() else []
        return [line for line in map(json.loads, lines) if line["event"] == event]


@pytest.fixture
def hosts(tmp_path: Path, zygote: Zygote) -> Iterator[Hosts]:
    """Three revisions, two of which double a number."""
    project = make_project(tmp_path)
    project.write("migrations/env.py", ENV_PY)
    project.revision("r1", None, COUNTED)
    project.revision("r2", "r1", DOUBLES)
    project.revision("r3", "r2", DOUBLES)
    server = shared_mariadb()
    with server.database() as name:
        yield Hosts(project, server, name, zygote)


def assert_right(hosts: Hosts, ended: list[Finished]) -> None:
    assert {one.code for one in ended} == {0}, [one.stderr for one in ended]
    assert {tuple(one.json["versions"]) for one in ended} == {("r3",)}
    assert hosts.ask("SELECT n FROM counted") == [(4,)]
    assert hosts.ask(LED) == hosts.ask(FENCED) == [(None,)]


def test_one_leads_among_all_hosts(hosts: Hosts) -> None:
    """All are ready, each revision has run once, and nobody holds anything any more."""
    ended = [one.finish() for one in hosts.everywhere()]

    assert_right(hosts, ended)
    assert sum(one.json["led"] for one in ended) == 1
    [leader] = [one for one in ended if one.json["led"]]
    assert ["commits at once" in line for line in leader.json["warnings"]] == [True]


def test_waiting_names_the_leader_on_another_host(hosts: Hosts) -> None:
    """Host, pid, run, release and what it is at."""
    hosts.project.revision("r4", "r3", "op.execute('SELECT SLEEP(4)')")
    [leader] = hosts.start(ORCHESTRATOR_RELEASE="7.1")
    soon(lambda: hosts.journal(0, "revision_started"))
    waiting = hosts.start(host=1, processes=3)
    told = soon(lambda: [one for one in hosts.journal(1, "lock_waiting") if one["holder"]])
    server = [one for one in told if one["lock"] == "server"] or soon(
        lambda: [
            one
            for one in hosts.journal(1, "lock_waiting")
            if one["holder"] and one["lock"] == "server"
        ]
    )
    ended = [one.finish() for one in (leader, *waiting)]

    assert {one.code for one in ended} == {0}, [one.stderr for one in ended]
    assert server[0]["holder"]["pid"] == leader.pid
    assert server[0]["holder"]["release"] == "7.1"
    assert server[0]["holder"]["run_id"] == ended[0].json["run_id"]


def test_a_lost_lock_is_harmless(hosts: Hosts) -> None:
    """The work goes on under its fence, with a word; nobody does it again."""
    started = hosts.everywhere()
    soon(lambda: hosts.ask(FENCED) != [(None,)])
    hosts.end(LED)
    ended = [one.finish() for one in started]

    assert_right(hosts, ended)


def test_lost_work_is_done_by_another(hosts: Hosts) -> None:
    """The run whose connection was lost fails; what it had not committed is done by another."""
    started = hosts.everywhere()
    soon(lambda: hosts.ask("SHOW TABLES LIKE 'counted'"))
    soon(lambda: hosts.ask("SELECT n FROM counted") == [(1,)])
    hosts.end(FENCED)
    ended = [one.finish() for one in started]

    lost = [one for one in ended if one.code == 5]
    assert len(lost) <= 1, [one.stderr for one in ended]
    assert_right(hosts, [one for one in ended if one.code != 5])


def test_a_leader_that_is_killed(hosts: Hosts) -> None:
    """Another host goes on as soon as the server has noticed."""
    [leader] = hosts.start()
    soon(lambda: hosts.journal(0, "revision_started"))
    soon(lambda: hosts.ask("SELECT 1 FROM information_schema.tables WHERE table_name = 'counted'"))
    others = [one for host in (1, 2) for one in hosts.start(host=host, processes=2)]
    leader.kill()

    assert_right(hosts, [one.finish() for one in others])


def test_a_second_signal_ends_the_statement(hosts: Hosts) -> None:
    """On the server, and with it the run, in words."""
    hosts.project.revision("r4", "r3", "op.execute('SELECT SLEEP(60)')")
    [leader] = hosts.start()
    asleep = "SELECT 1 FROM information_schema.processlist WHERE info = 'SELECT SLEEP(60)'"
    soon(lambda: hosts.ask(asleep))
    leader.send(signal.SIGTERM)
    soon(lambda: "Once more" in leader.stderr)
    leader.send(signal.SIGTERM)
    ended = leader.finish()

    assert (ended.code, ended.json["outcome"]) == (143, "cancelled"), ended.stderr
    assert [one["revision"] for one in ended.json["applied"]] == ["r1", "r2", "r3"]
    assert not hosts.ask(asleep)


def test_status_and_plan(hosts: Hosts) -> None:
    """As on any other server."""
    url = hosts.server.url(hosts.name)
    run = hosts.project.run
    given = {"ORCHESTRATOR_DATABASE_URL": url}
    assert run("status", "--json", **given).json["state"] == "empty"
    planned = run("plan", "--json", **given).json
    assert [one["revision"] for one in planned["revisions"]] == ["r1", "r2", "r3"]
    assert "commits at once" in planned["remark"]
    assert "note: A change of tables commits at once" in run("plan", **given).stdout
    assert "CREATE TABLE counted" in run("plan", "--sql", **given).stdout
    assert hosts.ask("SHOW TABLES") == []
    assert run("run", **given).code == 0
    assert run("status", "--check", **given).code == 0
