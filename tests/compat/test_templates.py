"""Alembic's own templates."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import alembic
import pytest

from tests.compat.projects import ARTISTS, Existing, assert_failed, assert_ready, from_template
from tests.projects import Finished

Run = Callable[..., Finished]

# The last one is newer than Alembic 1.16.
TEMPLATES = [
    name
    for name in ("generic", "async", "pyproject", "pyproject_async")
    if (Path(alembic.__file__).parent / "templates" / name).is_dir()
]


def filled(path: Path, template: str) -> Existing:
    url = "sqlite+aiosqlite:///app.db" if "async" in template else "sqlite:///app.db"
    project = from_template(path, template, url)
    project.revision("r1", None, ARTISTS, 'op.drop_table("artists")')
    project.revision("r2", "r1")
    return project


@pytest.mark.parametrize("template", TEMPLATES)
def test_runs_as_it_is(tmp_path: Path, template: str, run: Run) -> None:
    """`orchestrator run` migrates a project made from the template; a second run does nothing."""
    project = filled(tmp_path, template)

    report = assert_ready(project.run("run", "--json"), "r2")

    assert [one["revision"] for one in report["applied"]] == ["r1", "r2"]
    assert project.tables() == ["alembic_version", "artists", "t_r2"]
    again = run(project, "run", "--json")
    assert_ready(again, "r2", led=False)
    down = run(project, "downgrade", "base", "--json")
    assert_ready(down)
    assert project.tables() == ["alembic_version"]


@pytest.mark.parametrize("template", TEMPLATES)
def test_is_inspected_as_it_is(tmp_path: Path, template: str, run: Run) -> None:
    """`status`, `plan`, `plan --sql` and the way by `create` work, and looking touches nothing."""
    project = filled(tmp_path, template)

    status = run(project, "status", "--json")
    plan = run(project, "plan", "--json")
    sql = run(project, "plan", "--sql")

    assert status.json["state"] == plan.json["state"] == "absent"
    assert plan.json["revisions"][0] == {"revision": "r1", "description": "revision r1"}
    assert "CREATE TABLE artists" in sql.stdout, sql.stderr
    assert "INSERT INTO alembic_version (version_num) VALUES ('r1')" in sql.stdout
    assert not project.database.exists()
    created = run(project, "run", "--bootstrap", "create", "--json")
    assert [task["task"] for task in assert_ready(created, "r2")["tasks"]] == ["create", "stamp"]
    status = run(project, "status", "--json")
    assert (status.json["state"], status.json["versions"]) == ("current", ["r2"])


MULTIDB_REVISION = '''
"""revision r1"""
import sqlalchemy as sa
from alembic import op

revision = "r1"
down_revision = None


def upgrade(engine_name):
    globals()[f"upgrade_{engine_name}"]()


def upgrade_engine1():
    op.create_table("one", sa.Column("id", sa.Integer, primary_key=True))


def upgrade_engine2():
    op.create_table("two", sa.Column("id", sa.Integer, primary_key=True))
'''


def multidb(path: Path) -> Existing:
    project = from_template(path, "multidb")
    project.replace("alembic.ini", "driver://user:pass@localhost/dbname\n", "sqlite:///app.db\n")
    project.replace("alembic.ini", "driver://user:pass@localhost/dbname2", "sqlite:///two.db")
    project.write("migrations/versions/r1.py", MULTIDB_REVISION)
    return project


class TestMultidb:
    """One run has one database (docs/decisions/0003-one-database-a-run.md)."""

    def test_is_told_how_to_run_its_databases_one_by_one(self, tmp_path: Path) -> None:
        """Migrating several databases in one run is refused before any of them is changed."""
        project = multidb(tmp_path)

        for options in ([], ["--database-url", "sqlite:///app.db"]):
            ended = project.run("run", "--json", *options)

            told = assert_failed(
                ended, "ConfigurationError", "more than one database", "one by one"
            )
            assert "sqlite:///app.db, sqlite:///two.db" in told
            assert project.tables() == []

    def test_runs_them_one_by_one(self, tmp_path: Path, run: Run) -> None:
        """The way out that the error names: a copy of `alembic.ini` for each database."""
        project = multidb(tmp_path)
        text = (tmp_path / "alembic.ini").read_text()

        for number, name in (("1", "app"), ("2", "two")):
            one = text.replace("databases = engine1, engine2", f"databases = engine{number}")
            project.write(f"engine{number}.ini", one)
            project.write(f"engine{number}.toml", f'alembic_config = "engine{number}.ini"')
            ended = run(project, "run", "--config", f"engine{number}.toml", "--json")
            assert_ready(ended, "r1")
            assert (tmp_path / f".{name}.db.orchestrator").is_dir()

        assert project.tables() == ["alembic_version", "one"]
