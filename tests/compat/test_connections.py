"""`env.py` with connections and transactions of its own."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.compat.environments import APPLICATIONS, ENVIRONMENTS, KEEPS_EACH
from tests.compat.projects import (
    ARTISTS,
    INI,
    Existing,
    assert_failed,
    assert_ready,
    existing,
)
from tests.projects import Finished

Run = Callable[..., Finished]

DIES = """
op.create_table("t_r2", sa.Column("id", sa.Integer, primary_key=True))
op.execute("INSERT INTO artists (name) VALUES ('half')")
import os
if os.path.exists("kill"):
    os.kill(os.getpid(), 9)
if os.path.exists("fail"):
    raise ValueError("as it was told to")
"""


def project_of(path: Path, name: str) -> Existing:
    project = existing(path, env=ENVIRONMENTS[name])
    if name in APPLICATIONS:
        project.write("application.py", APPLICATIONS[name])
    project.revision("r1", None, ARTISTS, 'op.drop_table("artists")')
    project.revision("r2", "r1", DIES)
    return project


@pytest.mark.parametrize("name", ENVIRONMENTS)
def test_is_migrated_whole_or_not_at_all(tmp_path: Path, run: Run, name: str) -> None:
    """Every environment: killed or failing in a revision nothing of it is left, else all is done.

    Looking at it and going back work, too.
    """
    project = project_of(tmp_path, name)
    left = ["alembic_version", "artists"] if name in KEEPS_EACH else []

    (tmp_path / "kill").touch()
    assert run(project, "run", "--json").code == -9
    assert project.tables() == left
    (tmp_path / "kill").rename(tmp_path / "fail")
    message = assert_failed(run(project, "run", "--json"), "TaskFailed", "as it was told to")
    assert "as it was before" in message
    assert project.tables() == left
    (tmp_path / "fail").unlink()

    assert_ready(run(project, "run", "--json"), "r2")

    assert project.rows("SELECT name FROM artists") == [("half",)]
    status = run(project, "status", "--json")
    assert (status.json["state"], status.json["versions"]) == ("current", ["r2"])
    assert run(project, "downgrade", "base", "--json").code == 0
    assert project.tables() == ["alembic_version"]


@pytest.mark.parametrize(
    "name", ["application_engine", "async_application_engine", "begins_on_the_engine"]
)
def test_in_a_process_of_its_own(tmp_path: Path, run: Run, name: str) -> None:
    """The console script does the same; a kill leaves the database as it was."""
    project = project_of(tmp_path, name)
    (tmp_path / "kill").touch()

    assert project.run("run", "--json").code == -9
    assert project.dump() == ["BEGIN TRANSACTION;", "COMMIT;"]
    (tmp_path / "kill").unlink()
    assert_ready(run(project, "run", "--json"), "r2")


def test_the_applications_pool_is_left_alone(tmp_path: Path) -> None:
    """A pool that `env.py` borrows gets no altered connection back, and none is lost."""
    project = project_of(tmp_path, "application_engine")

    ended = project.python(
        """
        import anyio
        from application import engine
        from orchestrator import Orchestrator

        def settings(connection):
            driver = connection.connection.driver_connection
            foreign_keys = connection.exec_driver_sql("PRAGMA foreign_keys").scalar_one()
            return driver.isolation_level, foreign_keys

        with engine.connect() as connection:
            before = settings(connection)
        anyio.run(Orchestrator.from_config().run)
        assert engine.pool.checkedout() == 0, engine.pool.status()
        with engine.connect() as first, engine.connect() as second:
            assert settings(first) == settings(second) == before == ("", 1), settings(second)
        """
    )

    assert ended.code == 0, ended.stderr


class TestAnotherDatabase:
    """`env.py` and the orchestrator must mean the same database."""

    def test_is_refused(self, tmp_path: Path) -> None:
        """Both URLs are shown, without their secrets, and nothing is touched in either."""
        project = project_of(tmp_path, "application_engine")

        url = "sqlite:///other.db?password=sesame"
        ended = project.run("run", "--json", "--database-url", url)

        told = assert_failed(ended, "ConfigurationError", "app.db", "other.db", "Nothing")
        assert "sesame" not in told + ended.stderr + ended.stdout
        assert project.tables() == []
        assert not (tmp_path / "other.db").exists() or (tmp_path / "other.db").stat().st_size == 0

    @pytest.mark.parametrize("command", [("status",), ("plan",)])
    def test_is_refused_when_looking(self, tmp_path: Path, run: Run, command: list[str]) -> None:
        """`status` and `plan` tell it as well."""
        project = project_of(tmp_path, "application_engine")
        (tmp_path / "other.db").touch()

        ended = run(project, *command, "--json", "--database-url", "sqlite:///other.db")

        assert_failed(ended, "ConfigurationError", "app.db", "other.db")


NO_URL = INI.replace("sqlalchemy.url = sqlite:///app.db", "")
PLACEHOLDER = INI.replace("sqlite:///app.db", "driver://user:pass@localhost/dbname")
SETTINGS = """
DATABASE = "sqlite:///app.db"
"""
OWN_SETTINGS = """
from alembic import context
from sqlalchemy import engine_from_config, pool
from models import metadata
from settings import DATABASE

config = context.config
config.set_main_option("sqlalchemy.url", DATABASE)
engine = engine_from_config(config.get_section(config.config_ini_section), "sqlalchemy.")
with engine.connect() as connection:
    context.configure(connection=connection, target_metadata=metadata)
    with context.begin_transaction():
        context.run_migrations()
"""
PARTS = """
[alembic]
script_location = %(here)s/migrations
prepend_sys_path = .
sqlalchemy.url = sqlite:///%(NAME)s.db
"""


class TestUrlKnownOnlyToEnvPy:
    """No URL is given to the orchestrator: it takes the environment's own."""

    @pytest.mark.parametrize(
        ("name", "ini"),
        [
            ("application_engine", NO_URL),
            ("async_application_engine", PLACEHOLDER),
            ("settings", PLACEHOLDER),
            ("settings", PARTS),
        ],
    )
    def test_is_found(self, tmp_path: Path, run: Run, name: str, ini: str) -> None:
        """Looking makes no file; a run migrates, the next finds nothing to do."""
        project = project_of(tmp_path, "own_engine" if name == "settings" else name)
        project.write("alembic.ini", ini)
        if name == "settings":
            project.write("migrations/env.py", OWN_SETTINGS)
            project.write("settings.py", SETTINGS)
            if ini is PARTS:
                env = OWN_SETTINGS.replace('"sqlalchemy.url", DATABASE', '"NAME", "app"')
                project.write("migrations/env.py", env)

        status = run(project, "status", "--json")

        assert status.code == 0, status.stderr
        assert status.json["state"] == "absent"
        assert status.json["database"].endswith("app.db")
        assert not project.database.exists()
        assert_ready(run(project, "run", "--json"), "r2")
        assert_ready(run(project, "run", "--json"), "r2", led=False)
        assert run(project, "status", "--json").json["state"] == "current"

    def test_is_found_in_a_process_of_its_own(self, tmp_path: Path) -> None:
        """The console script, whose event loop is not the one that `env.py` runs."""
        project = project_of(tmp_path, "async_application_engine")
        project.write("alembic.ini", NO_URL)

        assert_ready(project.run("run", "--json"), "r2")
        assert_ready(project.run("wait", "--json"), "r2", led=False)

    def test_is_not_known_to_it_either(self, tmp_path: Path, run: Run) -> None:
        """An environment without a URL: the error says where one can be set, and why it failed."""
        project = project_of(tmp_path, "own_engine")
        project.write("alembic.ini", NO_URL)

        ended = run(project, "run", "--json")

        assert_failed(ended, "ConfigurationError", "No database URL", "DATABASE_URL", "env.py")

    def test_is_in_memory(self, tmp_path: Path, run: Run) -> None:
        """A database in memory is refused like one that was given."""
        project = project_of(tmp_path, "application_engine")
        project.write("alembic.ini", NO_URL)
        project.replace(
            "application.py", '"sqlite:///app.db", pool_size=2, max_overflow=0', '"sqlite://"'
        )

        assert_failed(run(project, "run", "--json"), "ConfigurationError", "in memory")
