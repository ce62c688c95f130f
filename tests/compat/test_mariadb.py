"""`env.py` as people write them for MariaDB: what stock Alembic makes, a run makes."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from textwrap import dedent, indent
from typing import Any

import pytest

from tests.compat.projects import Existing, assert_ready, existing
from tests.servers.mariadb import MariaDBServer, shared_mariadb
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
    context.configure(connection=connection, target_metadata=metadata)
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


KINDS: dict[str, tuple[str, str]] = {
    "own engine": ("mysql+pymysql", env()),
    "called mariadb": ("mariadb+pymysql", env()),
    "a pool": ("mysql+pymysql", env(engine="connectable = create_engine(url, pool_size=1)")),
    "each its own": ("mysql+pymysql", env(options=", transaction_per_migration=True")),
    "an autocommit engine": (
        "mysql+pymysql",
        env(engine='connectable = create_engine(url, isolation_level="AUTOCOMMIT")'),
    ),
    "begins on the engine": (
        "mysql+pymysql",
        env(connect="connectable.begin()", migrate="context.run_migrations()"),
    ),
    "begins twice": ("mysql+pymysql", env(connect="connectable.begin()")),
    "commits itself": (
        "mysql+pymysql",
        env(migrate="context.run_migrations()\nconnection.commit()"),
    ),
    "a lock timeout of its own": (
        "mysql+pymysql",
        env(
            first='connection.execute(text("SET SESSION lock_wait_timeout = 7"))\n'
            "connection.commit()"
        ),
    ),
    "another version table": (
        "mysql+pymysql",
        env(options=', version_table="Über %s-versions", version_table_pk=False'),
    ),
    "asyncmy": ("mysql+asyncmy", ASYNC.format(engine="poolclass=pool.NullPool", connect="connect")),
    "aiomysql": (
        "mysql+aiomysql",
        ASYNC.format(engine="poolclass=pool.NullPool", connect="connect"),
    ),
    "asyncmy, begins": ("mysql+asyncmy", ASYNC.format(engine="pool_size=1", connect="begin")),
}
REVISIONS = {
    "r1": """
        op.create_table(
            "artists",
            sa.Column("id", sa.Integer, primary_key=True),
            sa.Column("name", sa.String(100), nullable=False),
        )
        op.execute("INSERT INTO artists (name) VALUES ('a'), ('b'), ('c 100%')")
    """,
    "r2": """
        op.add_column("artists", sa.Column("kind", sa.Enum("solo", "band", name="kind")))
        op.execute("UPDATE artists SET kind = 'solo'")
        op.create_table(
            "albums",
            sa.Column("id", sa.Integer, primary_key=True),
            sa.Column("artist", sa.Integer, sa.ForeignKey("artists.id", name="by_artist")),
        )
    """,
    "r3": """
        with op.get_context().autocommit_block():
            op.create_index("artists_name", "artists", ["name"])
    """,
    "r4": """
        op.execute("UPDATE artists SET kind = 'band' WHERE id = 2")
        op.alter_column(
            "artists", "name", new_column_name="title", existing_type=sa.String(100), nullable=False
        )
        op.execute("INSERT INTO albums (artist) VALUES (1)")
    """,
}
NO_BLOCK = {"begins on the engine", "begins twice", "commits itself", "asyncmy, begins"}
"""Those in which an `autocommit_block()` does not work under stock Alembic either."""
SCHEMA = (
    (
        "SELECT table_name, column_name, column_type, is_nullable, column_default, extra, "
        "column_key "
        "FROM information_schema.columns WHERE table_schema = DATABASE() ORDER BY 1, 2"
    ),
    (
        "SELECT table_name, index_name, seq_in_index, column_name, non_unique "
        "FROM information_schema.statistics WHERE table_schema = DATABASE() ORDER BY 1, 2, 3"
    ),
    (
        "SELECT constraint_name, table_name, referenced_table_name, delete_rule "
        "FROM information_schema.referential_constraints WHERE constraint_schema = DATABASE() "
        "ORDER BY 1"
    ),
    "SELECT * FROM artists ORDER BY id",
)


@pytest.fixture(scope="module")
def server() -> MariaDBServer:
    return shared_mariadb()


@pytest.fixture
def names(server: MariaDBServer) -> Iterator[tuple[str, str]]:
    """Two empty databases."""
    with ExitStack() as stack:
        one, other = (stack.enter_context(server.database()) for _ in range(2))
        yield one, other


def project_of(path: Path, kind: str) -> Existing:
    project = existing(path, env=KINDS[kind][1])
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


def dump(server: MariaDBServer, name: str) -> list[Any]:
    return [server.execute(statement, name) for statement in SCHEMA]


@pytest.mark.parametrize("kind", KINDS)
def test_ends_as_under_stock_alembic(
    tmp_path: Path, server: MariaDBServer, names: tuple[str, str], zygote: Zygote, kind: str
) -> None:
    """An equal schema; the next start has nothing to do; no lock and no mark is left."""
    stock, ours = names
    project = project_of(tmp_path, kind)
    driver, _ = KINDS[kind]
    url = server.url(ours, driver)
    by_stock = zygote.alembic(project, "upgrade", "head", APP_URL=server.url(stock, driver))
    assert by_stock.code == 0, by_stock.stderr

    def run(*arguments: str) -> Any:
        return project.run(
            *arguments, APP_URL=url, ORCHESTRATOR_DATABASE_URL=url, ORCHESTRATOR_LOG="off"
        )

    head = "r2" if kind in NO_BLOCK else "r4"
    assert_ready(run("run", "--json"), head)
    assert dump(server, ours) == dump(server, stock)
    assert_ready(run("run", "--json"), head, led=False)
    status = run("status", "--json").json
    assert (status["state"], status["versions"]) == ("current", [head])
    held = "SELECT IS_USED_LOCK(CONCAT('orchestrator {} ', SHA1(DATABASE())))"
    for purpose in ("leader", "fence"):
        assert server.execute(held.format(purpose), ours) == [(None,)]


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
    "SELECT connection_id(), @@lock_wait_timeout, @@autocommit, "
    "coalesce(IS_USED_LOCK(CONCAT('orchestrator fence ', SHA1(DATABASE()))), 0)"
)

def look():
    with engine.connect() as connection:
        return tuple(connection.execute(SEEN).one())

before = look()
try:
    anyio.run(Orchestrator.from_config().run)
except OrchestratorError as error:
    print(type(error).__name__)
assert engine.pool.checkedout() == 0
assert look() == before, (before, look())
assert before[3] == 0
"""


@pytest.mark.parametrize("level", ["", ', isolation_level="AUTOCOMMIT"'])
@pytest.mark.parametrize("ends", ["well", "in a failure"])
def test_an_applications_pool_is_left_alone(
    tmp_path: Path, server: MariaDBServer, names: tuple[str, str], level: str, ends: str
) -> None:
    """The same connection, with neither lock nor setting of ours, however the pass ended."""
    import subprocess
    import sys

    url = server.url(names[0])
    project = existing(tmp_path, env=env(engine="from application import engine as connectable"))
    project.write("application.py", APPLICATION.format(level=level))
    project.write(
        "alembic.ini",
        "[alembic]\nscript_location = %(here)s/migrations\nprepend_sys_path = .\n",
    )
    project.revision("r1", None, REVISIONS["r1"])
    project.revision("r2", "r1", "pass" if ends == "well" else "op.execute('ALTER nonsense')")
    file = project.write("driver.py", BORROWED)

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
