"""Alembic projects as their users have them: nothing in them knows of the orchestrator."""

from __future__ import annotations

import sqlite3
import subprocess
import sys
from importlib.util import cache_from_source
from pathlib import Path
from typing import Any

from alembic import command
from alembic.config import Config

from tests.projects import Finished, Project, finish
from tests.zygote import shared_zygote

COMMAND = Path(sys.executable).with_name("orchestrator")

MODELS = """
import sqlalchemy as sa

metadata = sa.MetaData()
artists = sa.Table(
    "artists",
    metadata,
    sa.Column("id", sa.Integer, primary_key=True),
    sa.Column("name", sa.String(100), nullable=False),
)
"""

ARTISTS = (
    'op.create_table("artists", sa.Column("id", sa.Integer, primary_key=True), '
    'sa.Column("name", sa.String(100), nullable=False))'
)

INI = """
[alembic]
script_location = %(here)s/migrations
prepend_sys_path = .
path_separator = os
sqlalchemy.url = sqlite:///app.db
"""

ENV_PY = """
from alembic import context
from sqlalchemy import create_engine, pool
from models import metadata

connectable = create_engine(
    context.config.get_main_option("sqlalchemy.url"), poolclass=pool.NullPool
)
with connectable.connect() as connection:
    context.configure(connection=connection, target_metadata=metadata)
    with context.begin_transaction():
        context.run_migrations()
"""


class Existing(Project):
    """A project in which `orchestrator run` is all that its user writes."""

    def environment(self, **variables: str) -> dict[str, str]:
        """The variables of its processes: no setting, and nothing on the import path."""
        inherited = super().environment()
        kept = {
            name: value
            for name, value in inherited.items()
            if not name.startswith("ORCHESTRATOR_") and name != "PYTHONPATH"
        }
        return {**kept, **variables}

    def start(self, *arguments: str, **variables: str) -> subprocess.Popen[str]:
        """Start the console script, as a user does; `python -m` would add to the import path."""
        return subprocess.Popen(
            [str(COMMAND), *arguments],
            cwd=self.path,
            env=self.environment(**variables),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def python(self, script: str, *arguments: str, fresh: bool = False) -> Finished:
        """Run a Python program in this project to its end.

        Forked from a process that has imported the library, unless `fresh`: where the beginning
        or the end of an interpreter is the point.
        """
        file = self.write("driver.py", script)
        if fresh:
            process = subprocess.Popen(
                [sys.executable, str(file), *arguments],
                cwd=self.path,
                env=self.environment(),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
            )
            return finish(process)
        file.write_text(f"{file.read_text()}\nraise SystemExit(0)\n")
        [forked] = shared_zygote().start(self, *arguments, prelude=file)
        return forked.finish()

    def rows(self, statement: str) -> list[tuple[Any, ...]]:
        """What a query returns on the project's database."""
        connection = sqlite3.connect(f"file:{self.database}?mode=ro", uri=True)
        try:
            return connection.execute(statement).fetchall()
        finally:
            connection.close()

    def tables(self) -> list[str]:
        """The tables of the database, without SQLite's own; none where there is no file."""
        if not self.database.exists():
            return []
        query = "SELECT name FROM sqlite_master WHERE type = 'table' AND name NOT LIKE 'sqlite_%'"
        return sorted(row[0] for row in self.rows(query))

    def versions(self, table: str = "alembic_version") -> list[str]:
        """The version rows."""
        return sorted(row[0] for row in self.rows(f"SELECT version_num FROM {table}"))

    def dump(self) -> list[str]:
        """Schema and rows of the database, as SQL."""
        connection = sqlite3.connect(self.database)
        try:
            assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)
            return list(connection.iterdump())
        finally:
            connection.close()

    def replace(self, name: str, old: str, new: str) -> None:
        """Edit a file of the project; the old text must be there."""
        file = self.path / name
        text = file.read_text()
        assert old in text, f"{old!r} is not in {file}"
        file.write_text(text.replace(old, new))
        # Python takes bytecode for its source's by size and whole seconds.
        Path(cache_from_source(str(file))).unlink(missing_ok=True)


def existing(path: Path, *, env: str = ENV_PY, ini: str = INI, models: str = MODELS) -> Existing:
    """A project with an `alembic.ini` and an `env.py` of its own, and no revisions yet."""
    project = Existing(path)
    project.write("models.py", models)
    project.write("alembic.ini", ini)
    project.write("migrations/env.py", env)
    (path / "migrations" / "versions").mkdir(parents=True, exist_ok=True)
    return project


def from_template(path: Path, template: str, url: str = "sqlite:///app.db") -> Existing:
    """What `alembic init --template` writes, with the URL and the metadata filled in."""
    project = Existing(path)
    toml = path / "pyproject.toml" if template.startswith("pyproject") else None
    config = Config(path / "alembic.ini", toml_file=toml)
    command.init(config, str(path / "migrations"), template=template)
    project.write("models.py", MODELS)
    if template != "multidb":
        project.replace("alembic.ini", "driver://user:pass@localhost/dbname", url)
        project.replace(
            "migrations/env.py",
            "target_metadata = None",
            "from models import metadata as target_metadata",
        )
    return project


def assert_ready(ended: Finished, *versions: str, led: bool = True) -> dict[str, Any]:
    """The run ended well, at these versions; returns its report."""
    assert ended.code == 0, ended.stderr
    report: dict[str, Any] = ended.json
    assert report["outcome"] == "ready"
    assert report["led"] is led
    assert sorted(report["versions"]) == sorted(versions)
    return report


def assert_failed(ended: Finished, kind: str, *words: str) -> str:
    """The run failed with such an error, in whose message these words stand; returns it."""
    assert "Traceback" not in ended.stderr, ended.stderr
    error = ended.json["error"]
    assert error is not None, ended.stdout
    assert error["type"] == kind, error
    assert ended.code == error["exit_code"]
    for word in words:
        assert word in error["message"], error["message"]
    message: str = error["message"]
    return message
