"""What may be a mistake in a path, a variable or a graph: told as a warning; nothing stops."""

from __future__ import annotations

import sqlite3
from contextlib import closing

import pytest

from orchestrator.databases import database_of
from orchestrator.errors import ConfigurationError
from orchestrator.settings import nearly_settings
from tests.projects import Project

DB_URL = "the variable ORCHESTRATOR_DB_URL gives no setting: is ORCHESTRATOR_DATABASE_URL meant?"


@pytest.mark.parametrize("command", ["run", "status", "plan"])
def test_a_variable_that_is_nearly_a_setting(project: Project, command: str) -> None:
    """It is told once, by commands that run and by those that look."""
    project.chain(1)

    done = project.run(command, ORCHESTRATOR_DB_URL="sqlite:///x.db")

    assert done.code == 0
    assert done.stderr.count(DB_URL) == 1


@pytest.mark.parametrize(
    "name",
    [
        "PORT",
        "PORT_80_TCP",
        "PORT_80_TCP_ADDR",
        "SERVICE_HOST",
        "SERVICE_PORT_HTTP",
        "VERSION",
        "HOME",
        "IMAGE",
        "CONFIG",
        "DATABASE_URL",
        "database_url",
    ],
)
def test_names_that_platforms_inject_are_none(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nor are settings, in whatever case."""
    monkeypatch.setenv(f"ORCHESTRATOR_{name}", "x")

    assert nearly_settings() == []


def test_a_directory_that_is_made_for_a_new_database(project: Project) -> None:
    """A volume that is not mounted, perhaps: told once, and in the report."""
    project.chain(1)
    url = f"sqlite:///{project.path}/deep/down/app.db"

    first = project.run("run", "--json", ORCHESTRATOR_DATABASE_URL=url)
    second = project.run("run", "--json", ORCHESTRATOR_DATABASE_URL=url)

    assert first.json["warnings"] == [
        f"The directory {project.path}/deep/down was not there, and was made for a new database."
    ]
    assert second.json["warnings"] == []


def test_a_path_of_windows(project: Project) -> None:
    """Here it is the name of one file in the working directory."""
    project.chain(1)

    done = project.run("run", "--json", ORCHESTRATOR_DATABASE_URL="sqlite:///C:\\data\\app.db")

    assert done.code == 0
    (warning,) = done.json["warnings"]
    assert f"the name of one file in {project.path}" in warning


def test_a_home_directory_is_not_expanded(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As SQLite would not: the application would open another file. Unless `~` is a directory."""
    monkeypatch.chdir(project.path)
    with pytest.raises(ConfigurationError, match="neither SQLite nor SQLAlchemy expands"):
        database_of("sqlite:///~/app.db")
    (project.path / "~").mkdir()

    assert database_of("sqlite:///~/app.db").file == project.path / "~" / "app.db"


def test_several_heads_are_named(project: Project) -> None:
    """`heads` brings the database to all of them, which may be an accident of two branches."""
    project.revision("r1", None)
    project.revision("a2", "r1")
    project.revision("b2", "r1")

    done = project.run("run", "--json")

    assert (done.code, sorted(done.json["versions"])) == (0, ["a2", "b2"])
    (warning,) = done.json["warnings"]
    assert "2 heads: a2, b2." in warning
    assert "`orchestrator merge heads`" in warning
    assert project.run("upgrade", "a2", "--json").json["warnings"] == []


def test_scripts_that_are_not_there_leave_nothing_behind(project: Project) -> None:
    """Neither a state directory, nor a directory for the database."""
    before = sorted(path.name for path in project.path.iterdir())

    done = project.run(
        "run", "--script-location", "elsewhere", "--database-url", "sqlite:///deep/app.db"
    )

    assert done.code == 2
    assert f"there is no directory {project.path}/elsewhere" in done.stderr
    assert sorted(path.name for path in project.path.iterdir()) == before


@pytest.mark.parametrize("there", [True, False])
def test_a_first_run_that_fails_leaves_no_empty_file(project: Project, there: bool) -> None:
    """The one that it has made; one that was there is somebody's."""
    project.revision("r1", None, "raise RuntimeError('no such luck')")
    if there:
        project.database.touch()

    assert project.run("run").code == 1

    assert project.database.exists() is there


def test_a_file_that_somebody_else_has_written_to_stays(project: Project) -> None:
    """Whatever comes of the run that made it."""
    project.revision(
        "r1",
        None,
        """
        op.get_bind().commit()
        op.execute("CREATE TABLE kept (id INTEGER)")
        op.get_bind().commit()
        raise RuntimeError("no such luck")
        """,
    )

    assert project.run("run").code == 1

    with closing(sqlite3.connect(project.database)) as connection:
        assert connection.execute("SELECT count(*) FROM kept").fetchone() == (0,)


@pytest.mark.parametrize(
    "change",
    ['op.alter_column("t", "a", nullable=False)', 'op.create_unique_constraint("u", "t", ["a"])'],
    ids=["syntax error", "refused by Alembic"],
)
def test_an_alter_that_sqlite_does_not_have(project: Project, change: str) -> None:
    """The batch mode of Alembic is named, and where to turn it on."""
    project.revision("r1", None, f'op.create_table("t", sa.Column("a", sa.Integer))\n{change}')

    failed = project.run("run")

    assert failed.code == 1
    assert "`with op.batch_alter_table(…)`" in failed.stderr
    assert "`render_as_batch=True`" in failed.stderr
    assert "bootstrap" not in failed.stderr


def test_an_alter_that_cannot_be_written_down(project: Project) -> None:
    """By `plan --sql`, too."""
    project.revision(
        "r1",
        None,
        'op.create_table("t", sa.Column("a", sa.Integer))\n'
        'op.create_unique_constraint("u", "t", ["a"])',
    )

    failed = project.run("plan", "--sql")

    assert failed.code == 2
    assert "`render_as_batch=True`" in failed.stderr
    assert "that read the database" not in failed.stderr


def test_a_project_without_revisions_is_told(project: Project) -> None:
    """By `run`, which is ready; and `status --check` says the same of the database."""
    done = project.run("run", "--json")

    assert (done.code, done.json["outcome"]) == (0, "ready")
    (warning,) = done.json["warnings"]
    assert "have no revision" in warning
    assert project.run("status", "--check").code == 0
