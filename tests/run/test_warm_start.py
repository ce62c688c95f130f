"""The warm start: a current database costs no lock and no Alembic."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import Any

import pytest

from orchestrator.databases.patience import AT_ONCE, Patience
from orchestrator.databases.sqlite import SQLite
from orchestrator.decision.state import DatabaseState
from orchestrator.run.resources import Resources
from orchestrator.run.warm_start import probe_known
from orchestrator.settings import Settings
from tests.projects import Project

WATCHED = """
import json, sys
import anyio
from orchestrator import Orchestrator, Settings

tried = []
from orchestrator.locks.file import FileLock
original = FileLock.try_acquire
FileLock.try_acquire = lambda lock: tried.append(lock.path.name) or original(lock)

report = anyio.run(Orchestrator(Settings()).run)
print(json.dumps({
    "outcome": report.outcome, "led": report.led, "state": report.state_before,
    "versions": report.versions, "locks": tried,
    "modules": [name for name in sys.modules],
}))
"""

PLAIN = """
import json, sys
import anyio
from orchestrator import Orchestrator, Settings

anyio.run(Orchestrator(Settings()).run)
print(json.dumps([name for name in sys.modules]))
"""

COUNTED = 'open("loads", "a").write("x")\n'


def reported(project: Project) -> Any:
    """The report of a start whose imports do not matter."""
    done = project.run("run", "--json")
    assert done.code == 0, done.stderr
    return done.json


def watched(project: Project, code: str = WATCHED, **variables: str) -> Any:
    """What an interpreter that imports nothing but what the start needs has to tell."""
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=project.path,
        env=project.environment(**variables),
        check=True,
        capture_output=True,
        text=True,
        timeout=60,
    )
    return json.loads(done.stdout.splitlines()[-1])


def test_a_warm_start_imports_no_alembic_and_takes_no_lock(project: Project) -> None:
    """The second start asks the database one question, and that is all."""
    project.chain(3)
    first = watched(project)
    assert (first["led"], first["locks"]) == (True, ["lock"])
    second = watched(project)
    assert (second["outcome"], second["led"], second["state"]) == ("ready", False, "current")
    assert second["versions"] == ["r3"]
    assert second["locks"] == []
    assert not [name for name in second["modules"] if name.split(".")[0] in ("alembic", "mako")]


def test_a_warm_start_imports_only_what_it_uses(project: Project) -> None:
    """Neither the lock, nor the tasks, nor the faces are loaded; nor structlog."""
    project.chain(1)
    assert project.run("run").code == 0
    modules = watched(project, PLAIN)
    unused = {
        *("alembic", "portalocker", "structlog", "rich", "typer", "starlette"),
        *("orchestrator.run.leader", "orchestrator.run.work", "orchestrator.tasks"),
        *("orchestrator.run.inspection", "orchestrator.revisions.scripts", "orchestrator.cli"),
    }
    assert unused.isdisjoint(modules)


def test_a_start_that_finds_the_database_behind_takes_the_long_way(project: Project) -> None:
    """A new revision is run though the database is where it was remembered to be."""
    project.chain(1)
    assert reported(project)["led"]
    project.revision("r2", "r1")
    after = reported(project)
    assert (after["led"], after["versions"]) == (True, ["r2"])


def test_rows_that_are_not_exactly_the_remembered_ones_mean_the_long_way(
    project: Project,
) -> None:
    """A database put back to an older state is brought up again, whatever is remembered."""
    project.chain(2)
    assert reported(project)["led"]
    assert project.run("downgrade", "r1").code == 0
    after = reported(project)
    assert (after["led"], after["versions"]) == (True, ["r2"])


def test_a_database_that_was_removed_is_made_again(project: Project) -> None:
    """What is remembered says nothing about a file that is not there."""
    project.chain(1)
    assert reported(project)["led"]
    project.database.unlink()
    assert reported(project)["led"]


def resources(project: Project, **settings: Any) -> Resources:
    return Resources(
        Settings(
            database_url=project.url,
            script_location=str(project.path / "migrations"),
            **settings,
        )
    )


def test_an_absent_file_is_not_made_by_looking(project: Project) -> None:
    """The probe of a database that does not exist leaves it so, and makes no directory."""
    project.chain(1)
    assert probe_known(resources(project), AT_ONCE) is None
    assert not project.database.exists()
    assert not project.state.exists()
    assert sorted(path.name for path in project.path.iterdir()) == ["migrations", "models.py"]


def test_a_file_that_vanishes_while_it_is_looked_at_is_absent(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever made it takes it away when its first migration fails, and has the lock for that."""
    looks = iter([True, True])
    there = SQLite.exists
    monkeypatch.setattr(SQLite, "exists", lambda self: next(looks, None) or there(self))

    assert probe_known(resources(project), Patience()) is None

    assert list(looks) == []
    assert not project.database.exists()


def test_the_probe_asks_the_database_every_time(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The remembered rows are an answer only if the database gives the same."""
    project.chain(2)
    project.run("run", ORCHESTRATOR_SCRIPT_LOCATION=str(project.path / "migrations"))
    # What is remembered is so for a working directory and an environment.
    monkeypatch.chdir(project.path)
    for name, value in project.environment().items():
        monkeypatch.setenv(name, value)
    here = resources(project)
    ended = probe_known(here, AT_ONCE)
    assert ended is not None
    assert (ended.versions, ended.state_before) == (("r2",), DatabaseState.CURRENT)
    with here.database.connect() as connection:
        connection.exec_driver_sql("UPDATE alembic_version SET version_num = 'r1'")
    assert probe_known(here, AT_ONCE) is None


def test_a_version_table_with_a_name_and_schema_of_its_own_is_found(project: Project) -> None:
    """A warm start asks the table that env.py configures, in the schema that it names."""
    project.chain(2)
    project.write(
        "migrations/env.py",
        """
        from alembic import context
        from sqlalchemy import create_engine, pool

        url = context.config.get_main_option("sqlalchemy.url")
        with create_engine(url, poolclass=pool.NullPool).connect() as connection:
            context.configure(
                connection=connection,
                version_table="Odd name",
                version_table_schema="main",
            )
            with context.begin_transaction():
                context.run_migrations()
        """,
    )
    assert watched(project)["led"]
    second = watched(project)
    assert (second["led"], second["versions"], second["locks"]) == (False, ["r2"], [])
    assert "alembic" not in second["modules"]
    with resources(project).database.connect() as connection:
        rows = connection.exec_driver_sql('SELECT version_num FROM "Odd name"').scalars().all()
    assert rows == ["r2"]


def test_the_scripts_are_loaded_once_a_run(project: Project) -> None:
    """Plan, upgrade and proof share one loading of every revision file; a warm start has none."""
    project.chain(2)
    file = project.path / "migrations/versions/r1.py"
    file.write_text(file.read_text() + COUNTED)
    assert project.run("run").code == 0
    assert (project.path / "loads").read_text() == "x"
    assert project.run("run").code == 0
    assert (project.path / "loads").read_text() == "x"
    project.revision("r3", "r2")
    assert project.run("run").code == 0
    assert (project.path / "loads").read_text() == "xx"
