"""The application's migrations under the plain `alembic` command, which knows no orchestrator."""

import os
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from tests.compat.projects import Existing
from tests.zygote import Zygote

Alembic = Callable[..., str]
ROOT = Path(__file__).parents[2]
NOTHING_TO_DO = "No new upgrade operations detected"


@pytest.fixture
def alembic(zygote: Zygote, database_url: str) -> Alembic:
    """Run the command in the project, forked, and return what it printed."""

    def alembic(*arguments: str) -> str:
        done = zygote.alembic(Existing(ROOT), *arguments, ORCHESTRATOR_DATABASE_URL=database_url)
        assert done.code == 0, done.stdout + done.stderr
        return done.stdout

    return alembic


def test_it_upgrades_and_finds_nothing_left_to_do(alembic: Alembic, database_url: str) -> None:
    """`alembic upgrade head` reaches head, and `alembic check` finds the schema complete."""
    # Once in an interpreter of its own, in which nobody has imported the orchestrator before.
    done = subprocess.run(
        [sys.executable, "-m", "alembic", "upgrade", "head"],
        cwd=ROOT,
        env={**os.environ, "ORCHESTRATOR_DATABASE_URL": database_url},
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert done.returncode == 0, done.stdout + done.stderr

    assert alembic("current").strip() == "0003 (head)"
    assert NOTHING_TO_DO in alembic("check")


def test_it_goes_down_to_base(alembic: Alembic, database_file: Path) -> None:
    """`alembic downgrade base` leaves no table of the application behind."""
    alembic("upgrade", "head")
    alembic("downgrade", "base")

    with closing(sqlite3.connect(database_file)) as connection:
        tables = connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")
        assert tables.fetchall() == [("alembic_version",)]


@pytest.mark.anyio
async def test_it_finds_nothing_to_do_where_the_application_created_the_tables(
    serve: Any, alembic: Alembic, database_url: str
) -> None:
    """`alembic check` is content with a database that no revision has touched."""
    async with serve(database_url):
        pass

    assert NOTHING_TO_DO in alembic("check")


def test_it_writes_the_migrations_down_as_sql(alembic: Alembic, database_file: Path) -> None:
    """`alembic upgrade head --sql` touches nothing, and its SQL makes the schema of head."""
    sql = alembic("upgrade", "head", "--sql")
    assert not database_file.exists()

    with closing(sqlite3.connect(database_file)) as connection:
        connection.executescript(sql)

    assert alembic("current").strip() == "0003 (head)"
    assert NOTHING_TO_DO in alembic("check")
