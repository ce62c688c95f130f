"""Behind a pooler: one that gives each transaction another session, and one that does not."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import psycopg
import pytest
from sqlalchemy.engine import make_url

from orchestrator.databases.postgresql.holder import NAMESPACE
from orchestrator.databases.postgresql.pooler import pooling_of
from tests.projects import Project, make_project
from tests.run.test_hosts import COUNTED, DOUBLES, ENV_PY, IN_A_BLOCK
from tests.servers.pgbouncer import pgbouncer
from tests.servers.postgresql import PostgreSQLServer, shared_postgresql
from tests.zygote import Zygote

ADVISORY = f"""
    SELECT count(*) FROM pg_locks
    WHERE locktype = 'advisory' AND classid::bigint = {NAMESPACE % 2**32}
"""
ASYNC_ENV_PY = """
import asyncio
from uuid import uuid4
from alembic import context
from sqlalchemy import pool
from sqlalchemy.ext.asyncio import create_async_engine

url = context.config.get_main_option("sqlalchemy.url").replace("+psycopg", "+asyncpg")


def migrate(connection):
    context.configure(connection=connection, transaction_per_migration=True)
    with context.begin_transaction():
        context.run_migrations()


async def main():
    engine = create_async_engine(
        url,
        poolclass=pool.NullPool,
        connect_args={{
            # https://docs.sqlalchemy.org/en/20/dialects/postgresql.html#prepared-statement-name-with-pgbouncer
            "statement_cache_size": 0,
            "prepared_statement_cache_size": 0,
            "prepared_statement_name_func": lambda: f"__asyncpg_{{uuid4()}}__",
        }},
    )
    async with engine.connect() as connection:
        await connection.run_sync(migrate)
    await engine.dispose()


asyncio.run(main())
"""


@pytest.fixture(scope="module")
def server() -> PostgreSQLServer:
    return shared_postgresql()


@pytest.fixture(scope="module")
def ports(server: PostgreSQLServer) -> Iterator[dict[str, int]]:
    """The ports of a pooler in each mode."""
    with ExitStack() as stack:
        yield {
            mode: stack.enter_context(pgbouncer(server, mode))
            for mode in ("transaction", "session")
        }


@pytest.fixture
def name(server: PostgreSQLServer, ports: dict[str, int]) -> Iterator[str]:
    """An empty database, made behind the poolers' backs."""
    with server.database() as name:
        yield name


def through(server: PostgreSQLServer, port: int, name: str) -> str:
    return server.url(name).replace(f":{server.port}/", f":{port}/")


def left(server: PostgreSQLServer) -> int:
    with psycopg.connect(server.conninfo(), autocommit=True) as connection:
        row = connection.execute(ADVISORY).fetchone()
    assert row is not None
    return int(row[0])


def project_of(path: Path, *bodies: str, each: bool = False, env: str = ENV_PY) -> Project:
    project = make_project(path)
    project.write("migrations/env.py", env.format(each=each))
    parent = None
    for number, body in enumerate(bodies, start=1):
        project.revision(f"r{number}", parent, body)
        parent = f"r{number}"
    return project


@pytest.mark.parametrize("times", range(5))
def test_is_told_apart(
    server: PostgreSQLServer, ports: dict[str, int], name: str, times: int
) -> None:
    """What gives each transaction another session, what keeps one, and no pooler at all."""
    assert pooling_of(make_url(server.url(name))) == "none"
    for mode, port in ports.items():
        assert pooling_of(make_url(through(server, port, name))) == mode


@pytest.mark.parametrize("kind", ["one transaction", "each its own", "asyncpg"])
def test_one_at_a_time_in_transaction_mode(
    server: PostgreSQLServer,
    ports: dict[str, int],
    name: str,
    tmp_path: Path,
    zygote: Zygote,
    kind: str,
) -> None:
    """Without a lock that could be held, on several hosts: no update is lost, none is doubled."""
    project = project_of(
        tmp_path,
        COUNTED,
        DOUBLES,
        DOUBLES,
        each=kind != "one transaction",
        env=ASYNC_ENV_PY if kind == "asyncpg" else ENV_PY,
    )
    url = through(server, ports["transaction"], name)
    started = [
        process
        for host in range(4)
        for process in zygote.start(
            project,
            "run",
            "--json",
            processes=2,
            ORCHESTRATOR_DATABASE_URL=url,
            ORCHESTRATOR_STATE_DIR=str(tmp_path / f"host{host}"),
        )
    ]
    ended = [process.finish() for process in started]

    assert [one.code for one in ended] == [0] * 8, [one.stderr for one in ended]
    assert {tuple(one.json["versions"]) for one in ended} == {("r3",)}
    with psycopg.connect(server.conninfo(name)) as connection:
        assert connection.execute("SELECT n FROM counted").fetchall() == [(4,)]
    assert left(server) == 0
    warnings = [line for one in ended for line in one.json["warnings"]]
    assert any("`direct_url`" in line for line in warnings)
    journals = "".join(path.read_text() for path in tmp_path.glob("host*/journal.jsonl"))
    assert '"lock":"file"' in journals.replace(" ", "")
    assert '"lock":"server"' not in journals.replace(" ", "")  # there is none that is held


def run(project: Project, **variables: str) -> Any:
    return project.run("run", "--json", **variables)


def test_an_autocommit_block_is_refused_with_the_way_out(
    server: PostgreSQLServer, ports: dict[str, int], name: str, tmp_path: Path
) -> None:
    """Before it has done anything; by the direct URL it runs."""
    project = project_of(tmp_path, COUNTED, IN_A_BLOCK, each=True)
    url = through(server, ports["transaction"], name)

    refused = run(project, ORCHESTRATOR_DATABASE_URL=url)

    assert refused.code == 1
    message = refused.json["error"]["message"]
    assert "autocommit_block()" in message
    assert "ORCHESTRATOR_DIRECT_URL" in message
    assert "Traceback" not in refused.stderr
    assert left(server) == 0
    ended = run(project, ORCHESTRATOR_DATABASE_URL=url, ORCHESTRATOR_DIRECT_URL=server.url(name))
    assert ended.code == 0, ended.stderr
    assert ended.json["versions"] == ["r2"]
    assert ended.json["warnings"] == []


def test_an_env_py_that_stays_on_the_pooler(
    server: PostgreSQLServer, ports: dict[str, int], name: str, tmp_path: Path
) -> None:
    """Its rules hold for it, whatever way the orchestrator itself takes."""
    project = project_of(tmp_path, COUNTED, IN_A_BLOCK, each=True)
    url = through(server, ports["transaction"], name)
    project.write(
        "migrations/env.py",
        ENV_PY.format(each=True).replace(
            'context.config.get_main_option("sqlalchemy.url")', repr(url)
        ),
    )
    refused = run(project, ORCHESTRATOR_DATABASE_URL=url, ORCHESTRATOR_DIRECT_URL=server.url(name))

    assert refused.code == 1, refused.stderr
    assert "autocommit_block()" in refused.json["error"]["message"]


def test_a_pooler_that_keeps_sessions_is_as_none(
    server: PostgreSQLServer, ports: dict[str, int], name: str, tmp_path: Path
) -> None:
    """Locks are held, blocks run, nothing is warned of."""
    project = project_of(tmp_path, COUNTED, IN_A_BLOCK, each=True)

    ended = run(project, ORCHESTRATOR_DATABASE_URL=through(server, ports["session"], name))

    assert ended.code == 0, ended.stderr
    assert ended.json["warnings"] == []
    assert left(server) == 0
