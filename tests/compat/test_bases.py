"""Histories that presume more than an empty database, and metadata that fills late."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from pathlib import Path

from tests.compat.projects import MODELS, Existing, assert_failed, assert_ready, existing
from tests.projects import Finished

Run = Callable[..., Finished]


def presuming(path: Path, upgrade: str) -> Existing:
    """The application made its tables by `create_all`; Alembic came later."""
    project = existing(path)
    project.revision("r1", None, upgrade, "pass")
    return project


def made_by_code(project: Existing) -> None:
    """The table that the application makes without Alembic."""
    connection = sqlite3.connect(project.database)
    connection.execute("CREATE TABLE artists (id INTEGER PRIMARY KEY, surname TEXT)")
    connection.close()


ADDS = 'op.add_column("artists", sa.Column("name", sa.String(100), server_default=""))'
BATCHES = 'with op.batch_alter_table("artists") as batch: batch.drop_column("surname")'


class TestTablesThatOnlyTheModelsMake:
    """The first revision alters what `create_all` made."""

    def test_is_told_of_the_other_way(self, tmp_path: Path) -> None:
        """The failure on an empty database names `bootstrap = "create"` and what it skips."""
        project = presuming(tmp_path, ADDS)

        ended = project.run("run", "--json")

        assert_failed(
            ended, "TaskFailed", "no such table: artists", 'bootstrap = "create"', "seed rows"
        )
        assert project.tables() == []
        assert_ready(project.run("run", "--bootstrap", "create", "--json"), "r1")
        assert project.tables() == ["alembic_version", "artists"]

    def test_is_told_in_batch_mode(self, tmp_path: Path, run: Run) -> None:
        """Batch mode, which reflects the table, tells the same."""
        project = presuming(tmp_path, BATCHES)

        assert_failed(run(project, "run", "--json"), "TaskFailed", 'bootstrap = "create"')

    def test_is_told_of_any_error_of_a_base(self, tmp_path: Path, run: Run) -> None:
        """A revision may ask in its own way whether the tables are there."""
        project = presuming(tmp_path, "raise ValueError('no table artists')")

        assert_failed(run(project, "run", "--json"), "TaskFailed", 'bootstrap = "create"')

    def test_is_not_told_where_it_would_not_help(self, tmp_path: Path, run: Run) -> None:
        """Of a later revision that fails by itself, or on a database with tables."""
        project = existing(tmp_path)
        project.revision("r1", None)
        later = project.revision("r2", "r1", "raise ValueError('no')")
        message = assert_failed(run(project, "run", "--json"), "TaskFailed")
        assert "bootstrap" not in message
        later.unlink()

        project.revision("r1", None)
        assert_ready(run(project, "run", "--json"), "r1")
        project.revision("r2", "r1", ADDS)
        message = assert_failed(run(project, "run", "--json"), "TaskFailed", "no such table")
        assert "bootstrap" not in message


class TestUpgradedAsTheyAre:
    """Tables that code makes, and revisions that are then run on them from the first."""

    def test_as_alembic_does(self, tmp_path: Path, run: Run) -> None:
        """With `unversioned = "upgrade"`, which the refusal names; the next start is ready."""
        project = presuming(tmp_path, ADDS)
        made_by_code(project)
        assert_failed(run(project, "run", "--json"), "StateRefused", '`unversioned = "upgrade"`')

        project.write("pyproject.toml", '[tool.orchestrator]\nunversioned = "upgrade"\n')
        planned = run(project, "plan", "--json").json
        assert (planned["state"], planned["tasks"]) == ("unversioned", ["upgrade"])
        assert_ready(run(project, "run", "--json"), "r1")

        columns = [row[1] for row in project.rows("PRAGMA table_info(artists)")]
        assert columns == ["id", "surname", "name"]
        assert run(project, "status", "--check").code == 0

    def test_by_the_single_command(self, tmp_path: Path, run: Run) -> None:
        """`upgrade REV` goes by the same setting."""
        project = presuming(tmp_path, ADDS)
        made_by_code(project)
        assert_failed(run(project, "upgrade", "--json"), "StateRefused")

        project.write("pyproject.toml", '[tool.orchestrator]\nunversioned = "upgrade"\n')

        assert_ready(run(project, "upgrade", "r1", "--json"), "r1")


class TestMetadata:
    """What `target_metadata` holds when the tables are made."""

    def test_fills_when_models_are_imported(self, tmp_path: Path) -> None:
        """Models that `env.py` imports, and models that a revision imports, are made."""
        project = existing(tmp_path, models="import sqlalchemy as sa\nmetadata = sa.MetaData()\n")
        table = (
            "from models import metadata\nimport sqlalchemy as sa\n"
            'sa.Table("{0}", metadata, sa.Column("id", sa.Integer, primary_key=True))\n'
        )
        project.write("shop.py", table.format("orders"))
        project.write("blog.py", table.format("posts"))
        project.replace("migrations/env.py", "import metadata", "import metadata\nimport shop")
        file = project.revision("r1", None, "pass")
        file.write_text(file.read_text().replace("import time", "import time\nimport blog"))

        assert_ready(project.run("run", "--bootstrap", "create", "--json"), "r1")

        assert project.tables() == ["alembic_version", "orders", "posts"]

    def test_is_empty(self, tmp_path: Path, run: Run) -> None:
        """Metadata without a table, or none at all, is refused: nothing is stamped."""
        project = existing(tmp_path, models="import sqlalchemy as sa\nmetadata = sa.MetaData()\n")
        project.revision("r1", None)
        create = ("run", "--bootstrap", "create", "--json")

        assert_failed(run(project, *create), "ConfigurationError", "are the models imported?")
        project.replace("migrations/env.py", "target_metadata=metadata", "target_metadata=None")
        assert_failed(run(project, *create), "ConfigurationError", "is not declared")
        assert project.tables() == []

    def test_is_several(self, tmp_path: Path, run: Run) -> None:
        """A list of metadata is made completely."""
        project = existing(
            tmp_path,
            models=f"{MODELS}\nmore = sa.MetaData()\n"
            'sa.Table("extra", more, sa.Column("id", sa.Integer, primary_key=True))\n',
        )
        project.replace("migrations/env.py", "import metadata", "import metadata, more")
        project.replace("migrations/env.py", "=metadata", "=[metadata, more]")
        project.revision("r1", None, "pass")

        assert_ready(run(project, "run", "--bootstrap", "create", "--json"), "r1")
        assert project.tables() == ["alembic_version", "artists", "extra"]
