"""`env.py` as people write them for PostgreSQL: what stock Alembic makes, a run makes."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from textwrap import dedent, indent

import psycopg
import pytest

from orchestrator.databases.postgresql.holder import NAMESPACE
from tests.compat.projects import Existing, assert_ready, existing
from tests.servers.postgresql import PostgreSQLServer, shared_postgresql
from tests.zygote import Zygote

HEAD = """
import os
from alembic import context
from sqlalchemy import create_engine, event, pool, text
from models import metadata

url = os.environ["APP_URL"]
"""
MIGRATE = """
with context.begin_transaction():
    context.run_migrations()
"""
ASYNC = """
import asyncio
import os
from alembic import context
from sqlalchemy import pool
from sqlalchemy.ext.asyncio import create_async_engine
from models import metadata

engine = create_async_engine(os.environ["APP_URL"], {engine})


def migrate(connection):
    context.configure(connection=connection, target_metadata=metadata{options})
    with context.begin_transaction():
        context.run_migrations()


async def main():
    async with engine.{connect}() as connection:
        await connection.run_sync(migrate)
    await engine.dispose()


asyncio.run(main())
"""


def env(
    *,
    engine: str = "connectable = create_engine(url, poolclass=pool.NullPool)",
    connect: str = "connectable.connect()",
    first: str = "",
    options: str = "",
    migrate: str = MIGRATE,
) -> str:
    configure = f"context.configure(connection=connection, target_metadata=metadata{options})"
    body = "\n".join([dedent(first), configure, dedent(migrate)])
    return (
        f"{HEAD}\n{dedent(engine)}\nwith {connect} as connection:\n{indent(body.strip(), '    ')}\n"
    )


EACH = ", transaction_per_migration=True"
KINDS: dict[str, tuple[str, str]] = {
    "own engine": ("psycopg", env()),
    "psycopg2": ("psycopg2", env()),
    "a pool": ("psycopg", env(engine="connectable = create_engine(url, pool_size=1)")),
    "each its own": ("psycopg", env(options=EACH)),
    "each its own, psycopg2": ("psycopg2", env(options=EACH)),
    "an autocommit engine": (
        "psycopg",
        env(engine='connectable = create_engine(url, isolation_level="AUTOCOMMIT")'),
    ),
    "an autocommit connection": (
        "psycopg2",
        env(connect='connectable.connect().execution_options(isolation_level="AUTOCOMMIT")'),
    ),
    "serializable": (
        "psycopg",
        env(engine='connectable = create_engine(url, isolation_level="SERIALIZABLE")'),
    ),
    "begins on the engine": (
        "psycopg",
        env(connect="connectable.begin()", migrate="context.run_migrations()"),
    ),
    "commits itself": (
        "psycopg",
        env(migrate="context.run_migrations()\nconnection.commit()"),
    ),
    "begins twice": ("psycopg", env(connect="connectable.begin()")),
    "a schema first": (
        "psycopg",
        env(
            first="""
            connection.execute(text("CREATE SCHEMA IF NOT EXISTS app"))
            connection.execute(text("SET search_path TO app"))
            connection.commit()
            """
        ),
    ),
    "a search path in its transaction": (
        "psycopg",
        env(
            first="""
            connection.execute(text("CREATE SCHEMA IF NOT EXISTS app"))
            connection.execute(text("SET LOCAL search_path TO app, public"))
            """,
            connect="connectable.begin()",
        ),
    ),
    "a schema for the versions": (
        "psycopg",
        env(
            first='connection.execute(text("CREATE SCHEMA IF NOT EXISTS versions"))\n'
            "connection.commit()",
            options=', version_table_schema="versions", include_schemas=True',
        ),
    ),
    "another role": (
        "psycopg",
        env(first='connection.execute(text("SET ROLE owner"))\nconnection.commit()'),
    ),
    "another role in its transaction": (
        "psycopg2",
        env(
            first='connection.execute(text("SET LOCAL ROLE owner"))',
            connect="connectable.begin()",
        ),
    ),
    "another version table": (
        "psycopg2",
        env(options=', version_table="Über %s-versions", version_table_pk=False'),
    ),
    "listeners of its own": (
        "psycopg",
        env(
            engine="""
            connectable = create_engine(url, echo_pool=True, pool_pre_ping=True)


            @event.listens_for(connectable, "connect", insert=True)
            def on_connect(dbapi_connection, record):
                before = dbapi_connection.autocommit
                dbapi_connection.autocommit = True
                with dbapi_connection.cursor() as cursor:
                    cursor.execute("SET search_path TO app, public")
                    cursor.execute("SET lock_timeout = '4s'")
                    cursor.execute("CREATE SCHEMA IF NOT EXISTS app")
                dbapi_connection.autocommit = before
            """
        ),
    ),
    "a tenant, as in the cookbook": (
        "psycopg",
        env(
            first="""
            connection.execute(text("CREATE SCHEMA IF NOT EXISTS app"))
            connection.commit()
            connection.execute(text('SET search_path TO "app"'))
            connection.commit()
            connection.dialect.default_schema_name = "app"
            """,
            options=', version_table_schema="app", include_schemas=True',
        ),
    ),
    "a lock of its own": (
        "psycopg",
        env(
            connect="connectable.begin()",
            first='connection.execute(text("SELECT pg_advisory_xact_lock(10000)"))',
        ),
    ),
    "a callback, and comparisons": (
        "psycopg",
        env(
            options=""", on_version_apply=[lambda ctx, **more: ctx.connection.execute(
        text("SELECT 1"))], compare_type=True, compare_server_default=True,
        transaction_per_migration=True"""
        ),
    ),
    "asyncpg": (
        "asyncpg",
        ASYNC.format(engine="poolclass=pool.NullPool", connect="connect", options=""),
    ),
    "asyncpg, begins": ("asyncpg", ASYNC.format(engine="pool_size=1", connect="begin", options="")),
    "asyncpg, each its own": (
        "asyncpg",
        ASYNC.format(engine="poolclass=pool.NullPool", connect="connect", options=EACH),
    ),
    "psycopg, asynchronous": (
        "psycopg_async",
        ASYNC.format(engine="poolclass=pool.NullPool", connect="connect", options=""),
    ),
}

REVISIONS = {
    "r1": """
        op.create_table(
            "artists",
            sa.Column("id", sa.Integer, primary_key=True),
            sa.Column("name", sa.String(100), nullable=False),
        )
        op.execute("INSERT INTO artists (name) SELECT 'a' || n FROM generate_series(1, 100) AS n")
    """,
    "r2": """
        op.execute("CREATE TYPE kind AS ENUM ('solo', 'band')")
        op.add_column("artists", sa.Column("kind", sa.Enum(name="kind", create_type=False)))
        op.execute("UPDATE artists SET kind = 'solo'")
    """,
    "r3": """
        with op.get_context().autocommit_block():
            op.execute("CREATE INDEX CONCURRENTLY artists_name ON artists (name)")
            op.execute("ALTER TYPE kind ADD VALUE 'choir'")
            op.execute("VACUUM artists")
    """,
    "r4": """
        op.execute("UPDATE artists SET kind = 'choir' WHERE id = 7")
        op.alter_column("artists", "kind", nullable=False)
    """,
}
NO_BLOCK = {
    "begins on the engine",
    "begins twice",
    "commits itself",
    "asyncpg, begins",
    "a search path in its transaction",
    "another role in its transaction",
    "a lock of its own",
}
"""Those in which an `autocommit_block()` does not work under stock Alembic either."""


@pytest.fixture(scope="module")
def server() -> PostgreSQLServer:
    return shared_postgresql()


@pytest.fixture
def names(server: PostgreSQLServer) -> Iterator[tuple[str, str]]:
    """Two empty databases."""
    with ExitStack() as stack:
        one, other = (stack.enter_context(server.database()) for _ in range(2))
        yield one, other


def project_of(path: Path, kind: str) -> Existing:
    _, text = KINDS[kind]
    project = existing(path, env=text)
    project.write(
        "alembic.ini",
        "[alembic]\nscript_location = %(here)s/migrations\nprepend_sys_path = .\n"
        "path_separator = os\n",
    )
    parent = None
    for name, body in REVISIONS.items():
        if name in ("r3", "r4") and kind in NO_BLOCK:
            break
        project.revision(name, parent, body, "pass")
        parent = name
    return project


def left_behind(server: PostgreSQLServer, name: str) -> int:
    """How many of our locks somebody holds."""
    with psycopg.connect(server.conninfo(name), autocommit=True) as connection:
        row = connection.execute(
            "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND classid::bigint = %s "
            "AND database = (SELECT oid FROM pg_database WHERE datname = current_database())",
            (NAMESPACE % 2**32,),
        ).fetchone()
    assert row is not None
    return int(row[0])


def member(server: PostgreSQLServer, names: tuple[str, str]) -> str:
    """A user who may do nothing but act as the owner of the databases."""
    with psycopg.connect(server.conninfo(), autocommit=True) as connection:
        found = connection.execute("SELECT FROM pg_roles WHERE rolname = 'owner'").fetchone()
        if found is None:
            connection.execute("CREATE ROLE owner")
            connection.execute("CREATE ROLE member LOGIN NOINHERIT IN ROLE owner")
        for name in names:
            connection.execute(f"ALTER DATABASE {name} OWNER TO owner")
    return "member"


@pytest.mark.parametrize("kind", KINDS)
def test_ends_as_under_stock_alembic(
    tmp_path: Path,
    server: PostgreSQLServer,
    names: tuple[str, str],
    zygote: Zygote,
    kind: str,
) -> None:
    """An equal schema by `pg_dump`; the next start has nothing to do; no lock is left."""
    stock, ours = names
    project = project_of(tmp_path, kind)
    driver, _ = KINDS[kind]
    user = member(server, names) if "role" in kind else "postgres"
    url, stocks = (
        server.url(name, f"postgresql+{driver}").replace("//postgres", f"//{user}")
        for name in (ours, stock)
    )
    by_stock = zygote.alembic(project, "upgrade", "head", APP_URL=stocks)
    assert by_stock.code == 0, by_stock.stderr

    def run(*arguments: str) -> object:
        return project.run(
            *arguments, APP_URL=url, ORCHESTRATOR_DATABASE_URL=url, ORCHESTRATOR_LOG="off"
        )

    head = "r2" if kind in NO_BLOCK else "r4"
    assert_ready(run("run", "--json"), head)  # type: ignore[arg-type]
    assert server.dump(ours) == server.dump(stock)
    assert left_behind(server, ours) == 0
    assert_ready(run("run", "--json"), head, led=False)  # type: ignore[arg-type]
    status = run("status", "--json")
    assert (status.json["state"], status.json["versions"]) == ("current", [head])  # type: ignore[attr-defined]


APPLICATION = """
import os
from sqlalchemy import create_engine

engine = create_engine(os.environ["APP_URL"], pool_size=1, max_overflow=0{level})
"""
BORROWED = """
import anyio, sys
from sqlalchemy import text
from application import engine
from orchestrator import Orchestrator, OrchestratorError

SEEN = text(
    "SELECT pg_backend_pid(), current_setting('lock_timeout'), current_setting('search_path'), "
    "current_setting('client_connection_check_interval'), "
    "(SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND pid = pg_backend_pid())"
)

def look():
    with engine.connect() as connection:
        return connection.execute(SEEN).one()

before = look()
try:
    anyio.run(Orchestrator.from_config().run)
except OrchestratorError as error:
    print(type(error).__name__)
assert engine.pool.checkedout() == 0
after = look()
assert tuple(after) == tuple(before), (before, after)
assert after[4] == 0
"""


@pytest.mark.parametrize("engine", ["", EACH, "AUTOCOMMIT"])
@pytest.mark.parametrize("ends", ["well", "in a failure", "in a failure of a block"])
def test_an_applications_pool_is_left_alone(
    tmp_path: Path,
    server: PostgreSQLServer,
    names: tuple[str, str],
    engine: str,
    ends: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The same connection, with neither lock nor setting of ours, however the pass ended."""
    url = server.url(names[0])
    monkeypatch.setenv("APP_URL", url)
    monkeypatch.setenv("DATABASE_URL", url)
    options = EACH if engine == EACH else ""
    borrowing = env(engine="from application import engine as connectable", options=options)
    project = existing(tmp_path, env=borrowing)
    level = ', isolation_level="AUTOCOMMIT"' if engine == "AUTOCOMMIT" else ""
    project.write("application.py", APPLICATION.format(level=level))
    project.write(
        "alembic.ini",
        "[alembic]\nscript_location = %(here)s/migrations\nprepend_sys_path = .\n",
    )
    project.revision("r1", None, REVISIONS["r1"])
    failing = {
        "well": "pass",
        "in a failure": "op.execute('nonsense')",
        "in a failure of a block": "with op.get_context().autocommit_block():\n"
        "    op.execute('nonsense')",
    }
    project.revision("r2", "r1", failing[ends])
    file = project.write("driver.py", BORROWED)

    import subprocess
    import sys

    ended = subprocess.run(
        [sys.executable, file],
        cwd=tmp_path,
        env=project.environment(APP_URL=url, DATABASE_URL=url),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )

    assert ended.returncode == 0, ended.stderr
    assert ("TaskFailed" in ended.stdout) is (ends != "well"), ended.stdout + ended.stderr
    assert left_behind(server, names[0]) == 0


@pytest.mark.parametrize("kind", ["own engine", "asyncpg"])
def test_an_error_says_what_the_server_says(
    tmp_path: Path, server: PostgreSQLServer, names: tuple[str, str], kind: str
) -> None:
    """Its detail, too, whatever the driver makes of it."""
    project = project_of(tmp_path, kind)
    doubled = 'op.execute("CREATE UNIQUE INDEX u ON artists (kind)")'
    project.revision("r5", "r4", doubled, "pass")
    url = server.url(names[0], f"postgresql+{KINDS[kind][0]}")
    ended = project.run(
        "run", "--json", APP_URL=url, ORCHESTRATOR_DATABASE_URL=url, ORCHESTRATOR_LOG="off"
    )
    assert ended.code == 1
    message = ended.json["error"]["message"]
    assert "DETAIL:  Key (kind)=(solo) is duplicated." in message, message
    assert message.count("DETAIL") == 1


def test_a_role_that_may_not_be_acted_as_any_more(
    tmp_path: Path, server: PostgreSQLServer, names: tuple[str, str]
) -> None:
    """At a warm start: what to grant, in words."""
    project = project_of(tmp_path, "another role")
    user = member(server, names)
    url = server.url(names[0]).replace("//postgres", f"//{user}")
    given = {"APP_URL": url, "ORCHESTRATOR_DATABASE_URL": url, "ORCHESTRATOR_LOG": "off"}
    assert project.run("run", **given).code == 0
    with psycopg.connect(server.conninfo(), autocommit=True) as connection:
        connection.execute("REVOKE owner FROM member")
        try:
            ended = project.run("run", "--json", **given)
        finally:
            connection.execute("GRANT owner TO member")
    assert ended.code == 5, ended.stderr
    assert 'GRANT "owner" TO' in ended.json["error"]["message"]
    assert "Traceback" not in ended.stderr


def test_env_py_connects_as_a_user_whose_tables_are_hidden(
    tmp_path: Path, server: PostgreSQLServer, names: tuple[str, str]
) -> None:
    """Told before anything is done: nothing could be proved afterwards."""
    project = project_of(tmp_path, "own engine")
    with psycopg.connect(server.conninfo(), autocommit=True) as connection:
        connection.execute("DROP ROLE IF EXISTS reader")
        connection.execute("CREATE ROLE reader LOGIN")
    given = {"APP_URL": server.url(names[0]), "ORCHESTRATOR_LOG": "off"}
    own = server.url(names[0]).replace("//postgres", "//reader")
    ended = project.run("run", "--json", ORCHESTRATOR_DATABASE_URL=own, **given)

    assert ended.code == 2, ended.stderr
    assert "GRANT SELECT ON alembic_version TO reader" in ended.json["error"]["message"]
    with psycopg.connect(server.conninfo(names[0]), autocommit=True) as connection:
        assert connection.execute("SELECT FROM pg_tables WHERE schemaname = 'public'").rowcount == 0
        connection.execute("CREATE TABLE alembic_version (version_num VARCHAR(32) PRIMARY KEY)")
        connection.execute("GRANT SELECT ON alembic_version TO reader")
    assert_ready(project.run("run", "--json", ORCHESTRATOR_DATABASE_URL=own, **given), "r4")
