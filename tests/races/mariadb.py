"""Races of several hosts on a MariaDB server, where a change of tables commits at once.

A revision may be left half done. Then the database is `interrupted`, in the right revision, for
whoever comes; it is never passed over in silence, and never run again by itself.
"""

from __future__ import annotations

import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

import pymysql

from tests.projects import Project, make_project
from tests.races.hosts import HostsRace, HostsRound, make_round
from tests.races.race import Result
from tests.servers.mariadb import MariaDBServer

_ENV_PY: Final = """
from alembic import context
from sqlalchemy import create_engine, pool

url = context.config.get_main_option("sqlalchemy.url")
with create_engine(url, poolclass=pool.NullPool).connect() as connection:
    context.configure(connection=connection)
    with context.begin_transaction():
        context.run_migrations()
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
op.execute(f"SELECT SLEEP({{pause / 2}})")
op.execute("UPDATE total SET n = n * 3 + {position}")
time.sleep(pause / 2)
op.execute("INSERT INTO applied_log (name) VALUES ('{name}')")
"""
_WHOLE: Final = _EACH.replace("op.create_table", "# op.create_table")
_LED: Final = "IS_USED_LOCK(CONCAT('orchestrator leader ', SHA1(DATABASE())))"
_FENCED: Final = "IS_USED_LOCK(CONCAT('orchestrator fence ', SHA1(DATABASE())))"


class MariaDBRace(HostsRace):
    """One round, in a directory and a database of its own."""

    driver_errors = (pymysql.err.Error, OSError)
    marked = "SHOW TABLES LIKE 'orchestrator_interrupted'"

    def _project(self) -> Project:
        race = self._race
        project = make_project(self._path / "project")
        project.write("migrations/env.py", _ENV_PY)
        for position in range(1, race.revisions + 1):
            name = f"r{position}"
            # One of them changes rows alone, and is whole.
            body = _WHOLE if position == race.block else _EACH
            body = (_FIRST if position == 1 else "") + body.format(name=name, position=position)
            project.revision(name, f"r{position - 1}" if position > 1 else None, body)
        return project

    @property
    def _repeats(self) -> bool:
        return False

    @property
    def _interrupted(self) -> set[int]:
        return {4}

    def _undo(self, revision: str, *, first: bool) -> None:
        for table in (revision, *(("total", "applied_log") if first else ())):
            self._ask(f"DROP TABLE IF EXISTS {table}")

    def _url(self) -> str:
        url: str = self._server.url(self._name, f"mysql+{self._race.driver}")
        return url

    def _locked(self) -> list[Any]:
        return [row for row in self._ask(f"SELECT coalesce({_LED}, {_FENCED})") if row[0]]

    def _end(self, kind: str) -> None:
        held = {"end the lock": _LED, "end the work": _FENCED}.get(kind)
        found = self._ask(
            f"SELECT {held}"
            if held
            else "SELECT id FROM information_schema.processlist "
            "WHERE db = DATABASE() AND id <> connection_id()"
        )
        for (number,) in found:
            if number is not None:
                self._ask(f"KILL {number}")

    def _ask(self, statement: str, *values: Any) -> list[Any]:
        # Short: the server may be paused, and the round goes on meanwhile.
        connection = pymysql.connect(
            host="127.0.0.1",
            port=self._server.port,
            user="root",
            database=self._name,
            autocommit=True,
            connect_timeout=2,
            read_timeout=2,
        )
        with connection, connection.cursor() as cursor:
            cursor.execute(statement, values or None)
            return list(cursor.fetchall())


class Rounds:
    """Runs rounds, all on one server."""

    def __init__(self) -> None:
        # What is committed must outlive the server, which is killed.
        self._server = MariaDBServer("--innodb-flush-log-at-trx-commit=1")

    def run(self, seed: int) -> tuple[HostsRound, Result, Path]:
        """The round of a seed."""
        race = replace(make_round(seed), driver="pymysql")
        path = Path(tempfile.mkdtemp(prefix=f"race-{seed}-"))
        return race, MariaDBRace(race, path, self._server).run(), path

    def close(self) -> None:
        """End the server."""
        self._server.stop()
