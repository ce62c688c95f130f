"""The commands on a PostgreSQL server, and what they say of one that cannot be used."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from typing import Any

import psycopg
import pytest

from tests.projects import Finished, Project
from tests.servers.postgresql import PostgreSQLServer, shared_postgresql

DEADLINE_SECONDS = 60.0
MODELS = """
import sqlalchemy as sa

metadata = sa.MetaData()
sa.Table("t_r1", metadata, sa.Column("id", sa.Integer, primary_key=True))
sa.Table("t_r2", metadata, sa.Column("id", sa.Integer, primary_key=True))
"""


@pytest.fixture
def server() -> PostgreSQLServer:
    return shared_postgresql()


@pytest.fixture
def name(server: PostgreSQLServer) -> Iterator[str]:
    """An empty database."""
    with server.database() as name:
        yield name


class Commands:
    """Runs commands in a project of two revisions, on a database of the server."""

    def __init__(self, project: Project, server: PostgreSQLServer, name: str) -> None:
        project.write("models.py", MODELS)
        project.chain(2)
        self.project = project
        self.url = server.url(name)
        self._conninfo = server.conninfo(name)

    def __call__(self, *arguments: str, **variables: str) -> Finished:
        given = {"ORCHESTRATOR_DATABASE_URL": self.url, **variables}
        return self.project.run(*arguments, **given)

    def ask(self, statement: str) -> list[Any]:
        with psycopg.connect(self._conninfo, autocommit=True) as connection:
            cursor = connection.execute(statement)
            return cursor.fetchall() if cursor.description else []

    def tables(self) -> list[str]:
        rows = self.ask(
            "SELECT tablename FROM pg_tables WHERE schemaname = 'public' ORDER BY tablename"
        )
        return [row[0] for row in rows]


@pytest.fixture
def commands(project: Project, server: PostgreSQLServer, name: str) -> Commands:
    return Commands(project, server, name)


def test_run_status_and_plan(commands: Commands) -> None:
    """Empty, behind, current: each is told, and looking changes nothing."""
    assert commands("status", "--json").json["state"] == "empty"
    plan = commands("plan", "--sql")
    assert "CREATE TABLE t_r1" in plan.stdout
    assert commands.tables() == []
    assert commands("run", "--json").json["led"]
    assert commands("status", "--check").code == 0
    commands.project.revision("r3", "r2")
    status = commands("status", "--json").json
    assert (status["state"], [one["revision"] for one in status["pending"]]) == ("behind", ["r3"])
    assert status["lock"]["held"] is False


def test_create_and_downgrade(commands: Commands) -> None:
    """The metadata builds the tables, and revisions take them back."""
    assert commands("create", "--json").json["versions"] == ["r2"]
    assert commands.tables() == ["alembic_version", "t_r1", "t_r2"]
    assert commands("downgrade", "r1", "--json").json["versions"] == ["r1"]
    assert commands.tables() == ["alembic_version", "t_r1"]
    assert commands("upgrade", "--json").json["versions"] == ["r2"]


def test_tables_without_a_version_row(commands: Commands) -> None:
    """Refused, adopted if they equal the metadata, or stamped by hand."""
    commands.ask("CREATE TABLE t_r1 (id SERIAL PRIMARY KEY)")
    refused = commands("run", "--json")
    assert (refused.code, refused.json["error"]["type"]) == (4, "StateRefused")
    differs = commands("run", "--json", "--set", "unversioned=adopt")
    assert differs.code == 4
    assert "t_r2" in differs.json["error"]["message"]
    commands.ask("CREATE TABLE t_r2 (id SERIAL PRIMARY KEY)")
    adopted = commands("run", "--json", "--set", "unversioned=adopt")
    assert (adopted.code, adopted.json["versions"]) == (0, ["r2"]), adopted.stderr
    assert commands("stamp", "r1", "--json").json["versions"] == ["r1"]


def test_check(commands: Commands) -> None:
    """The models say what the database is, or how it differs."""
    commands("run")
    assert commands("check").code == 0
    commands.ask("ALTER TABLE t_r1 ADD COLUMN extra TEXT")
    differs = commands("check")
    assert differs.code == 6
    assert "extra" in differs.stdout


def test_status_shows_a_leader_on_another_host(commands: Commands) -> None:
    """From any host: what the server tells of who leads."""
    commands.project.revision("r3", "r2", seconds=1.5)
    leader = commands.project.start(
        "run",
        ORCHESTRATOR_DATABASE_URL=commands.url,
        ORCHESTRATOR_RELEASE="4.2",
        XDG_STATE_HOME=str(commands.project.path / "another host"),
    )
    deadline = time.monotonic() + DEADLINE_SECONDS
    while True:
        lock = json.loads(commands("status", "--json").stdout)["lock"]
        if lock["held"] and lock["holder"] is not None:
            break
        assert leader.poll() is None
        assert time.monotonic() < deadline
    leader.communicate(timeout=DEADLINE_SECONDS)
    assert lock["holder"]["pid"] == leader.pid


UNUSABLE = {
    "a wrong port": ("postgresql://u:s3cret-enough@127.0.0.1:1/d", "cannot be connected to"),
    "no such host": ("postgresql://u:s3cret-enough@nowhere.invalid/d", "cannot be connected to"),
    "no such database": ("{url}x", "CREATE DATABASE"),
    "no such user": ("{stranger}", "knows no such user"),
    "a certificate": ("{url}?sslmode=verify-full", "`sslmode`"),
    "an unknown parameter": ("{url}?nonsense=1", "nonsense"),
}


@pytest.mark.parametrize("command", ["run", "status", "wait"])
@pytest.mark.parametrize("what", UNUSABLE)
def test_what_cannot_be_used(commands: Commands, what: str, command: str) -> None:
    """In words, within the time it needs, without the password; exit code 5; nothing changed."""
    text, words = UNUSABLE[what]
    stranger = commands.url.replace("//postgres:", "//nobody_at_all:")
    url = text.format(url=commands.url, stranger=stranger)

    ended = commands(
        command,
        ORCHESTRATOR_DATABASE_URL=url,
        ORCHESTRATOR_CONNECT_TIMEOUT_SECONDS="0.2",
        ORCHESTRATOR_LOCK_TIMEOUT_SECONDS="0.5",
    )

    told = ended.stdout + ended.stderr
    assert ended.code == 5, told
    assert words in told
    assert "Traceback" not in told
    assert "s3cret" not in told
    assert commands.tables() == []


def test_a_user_without_rights(commands: Commands) -> None:
    """Who may not make a table is told so by the server, and what to do."""
    commands.ask("DROP ROLE IF EXISTS reader")
    commands.ask("CREATE ROLE reader LOGIN")
    url = commands.url.replace("//postgres:", "//reader:")

    ended = commands("run", "--json", ORCHESTRATOR_DATABASE_URL=url)

    assert ended.code == 1, ended.stderr
    assert "permission denied for schema public" in ended.json["error"]["message"]
    assert "GRANT" in ended.json["error"]["message"]
    assert "Traceback" not in ended.stderr
    assert commands.tables() == []


def test_a_version_table_that_may_not_be_read(commands: Commands) -> None:
    """Before anything is done, with what to grant."""
    commands("run")
    commands.ask("DROP ROLE IF EXISTS blind")
    commands.ask("CREATE ROLE blind LOGIN")
    url = commands.url.replace("//postgres:", "//blind:")

    ended = commands("run", "--json", ORCHESTRATOR_DATABASE_URL=url)

    assert ended.code in (2, 5), ended.stderr
    message = ended.json["error"]["message"]
    assert "permission denied for table alembic_version" in message or "may not read" in message
    assert "GRANT" in message
    assert "Nothing was changed" in message
    assert "Traceback" not in ended.stderr


def test_a_search_path_that_leads_nowhere(commands: Commands) -> None:
    """It is told before anything is done."""
    name = commands.url.rpartition("/")[2]
    commands.ask(f"ALTER DATABASE {name} SET search_path = 'nowhere'")

    ended = commands("run", "--json")

    assert ended.code == 2, ended.stderr
    assert "leads to no schema that exists: nowhere" in ended.json["error"]["message"]
    assert commands.tables() == []


def test_a_scratch_database_is_named(commands: Commands) -> None:
    """On a server none is made by itself; one that is named is made, and dropped."""
    ended = commands("check", "--against", "migrations")
    assert ended.code == 2
    assert "--scratch-url" in ended.stderr

    scratch = f"{commands.url}_scratch"
    assert commands("check", "--against", "migrations", "--scratch-url", scratch).code == 0
    commands.project.revision("r3", "r2", "op.add_column('t_r1', sa.Column('c', sa.Text))")
    differs = commands("check", "--against", "migrations", "--scratch-url", scratch)
    assert differs.code == 6, differs.stderr
    exists = commands("check", "--against", "migrations", "--scratch-url", commands.url)
    assert exists.code == 2
    assert "exists already" in exists.stderr
    name = scratch.rpartition("/")[2]
    assert commands.ask(f"SELECT FROM pg_database WHERE datname = '{name}'") == []


def test_an_index_that_was_left_invalid(commands: Commands) -> None:
    """It is told when its revision fails, and again by the next runs, also by one that skips it."""
    commands("run")
    commands.ask("INSERT INTO t_r1 VALUES (1), (2)")
    commands.ask("ALTER TABLE t_r1 ADD COLUMN n INT DEFAULT 7")
    commands.project.revision(
        "r3",
        "r2",
        "with op.get_context().autocommit_block():\n"
        "    op.execute('CREATE UNIQUE INDEX CONCURRENTLY IF NOT EXISTS once ON t_r1 (n)')",
    )

    failed = commands("run", "--json")
    refused = commands("run", "--json")
    again = commands("run", "--json", "--set", "interrupted=retry")

    assert (failed.code, refused.code, again.code) == (1, 4, 0), again.stderr
    for ended in (failed, refused, again):
        [told] = [line for line in ended.json["warnings"] if "invalid" in line]
        assert "public.once of the table t_r1" in told
