"""The application's migrations under the plain `alembic` command, which knows no orchestrator."""

import os
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]
NOTHING_TO_DO = "No new upgrade operations detected"


def alembic(database_url: str, *arguments: str) -> str:
    """Run the command in the project, and return what it printed."""
    done = subprocess.run(
        [sys.executable, "-m", "alembic", *arguments],
        cwd=ROOT,
        env={**os.environ, "ORCHESTRATOR_DATABASE_URL": database_url},
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_it_upgrades_and_finds_nothing_left_to_do(database_url: str) -> None:
    """`alembic upgrade head` reaches head, and `alembic check` finds the schema complete."""
    alembic(database_url, "upgrade", "head")

    assert alembic(database_url, "current").strip() == "0003 (head)"
    assert NOTHING_TO_DO in alembic(database_url, "check")


def test_it_goes_down_to_base(database_url: str, database_file: Path) -> None:
    """`alembic downgrade base` leaves no table of the application behind."""
    alembic(database_url, "upgrade", "head")
    alembic(database_url, "downgrade", "base")

    with closing(sqlite3.connect(database_file)) as connection:
        tables = connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")
        assert tables.fetchall() == [("alembic_version",)]


@pytest.mark.anyio
async def test_it_finds_nothing_to_do_where_the_application_created_the_tables(
    serve: Any, database_url: str
) -> None:
    """`alembic check` is content with a database that no revision has touched."""
    async with serve(database_url):
        pass

    assert NOTHING_TO_DO in alembic(database_url, "check")


def test_it_writes_the_migrations_down_as_sql(database_url: str, database_file: Path) -> None:
    """`alembic upgrade head --sql` touches nothing, and its SQL makes the schema of head."""
    sql = alembic(database_url, "upgrade", "head", "--sql")
    assert not database_file.exists()

    with closing(sqlite3.connect(database_file)) as connection:
        connection.executescript(sql)

    assert alembic(database_url, "current").strip() == "0003 (head)"
    assert NOTHING_TO_DO in alembic(database_url, "check")
