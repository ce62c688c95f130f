"""What migrations do besides making tables."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.compat.environments import APPLICATIONS, ENVIRONMENTS
from tests.compat.projects import ARTISTS, Existing, assert_failed, assert_ready, existing
from tests.projects import Finished

Run = Callable[..., Finished]


def doing(path: Path, upgrade: str, env: str = "own_engine") -> Existing:
    project = existing(path, env=ENVIRONMENTS[env])
    project.revision("r1", None, ARTISTS, 'op.drop_table("artists")')
    project.revision("r2", "r1", upgrade, "pass")
    project.revision("r3", "r2")
    return project


ROWS = """
op.bulk_insert(
    sa.table("artists", sa.column("name", sa.String)), [{"name": "ü"}, {"name": "%(x)s :y ?"}]
)
"""
BATCH = """
with op.batch_alter_table("artists") as batch:
    batch.add_column(sa.Column("born", sa.Integer, nullable=True))
    batch.alter_column("name", type_=sa.String(50), nullable=True)
    batch.create_unique_constraint("uq_name", ["name"])
"""
SESSION = """
from sqlalchemy.orm import Session, declarative_base

Base = declarative_base()

class Artist(Base):
    __tablename__ = "artists"
    id = sa.Column(sa.Integer, primary_key=True)
    name = sa.Column(sa.String)

session = Session(bind=op.get_bind())
session.add(Artist(name="by a session"))
session.commit()
session.add(Artist(name="and again"))
session.commit()
"""
OFFLINE = """
from alembic import context
if not context.is_offline_mode():
    assert op.get_bind().scalar(sa.text("SELECT count(*) FROM artists")) == 0
op.execute("INSERT INTO artists (name) VALUES ('both ways')")
"""


class TestOperations:
    """Operations that need nothing but the transaction."""

    @pytest.mark.parametrize(
        ("upgrade", "query", "rows"),
        [
            (ROWS, "SELECT name FROM artists", [("ü",), ("%(x)s :y ?",)]),
            (
                BATCH,
                "SELECT name FROM pragma_table_info('artists')",
                [("id",), ("name",), ("born",)],
            ),
            (SESSION, "SELECT name FROM artists", [("by a session",), ("and again",)]),
            (OFFLINE, "SELECT name FROM artists", [("both ways",)]),
        ],
        ids=["bulk_insert", "batch", "session", "is_offline_mode"],
    )
    def test_work(
        self, tmp_path: Path, run: Run, upgrade: str, query: str, rows: list[tuple[str, ...]]
    ) -> None:
        """The effect is there, and a failure afterwards takes it back."""
        project = doing(tmp_path, upgrade)
        project.revision("r3", "r2", "raise ValueError('no')")
        assert run(project, "run", "--json").code == 1
        assert project.tables() == []

        project.revision("r3", "r2")
        assert_ready(project.run("run", "--json"), "r3")

        assert project.rows(query) == rows

    def test_are_written_down(self, tmp_path: Path, run: Run) -> None:
        """`plan --sql` runs `env.py` and the revisions in Alembic's offline mode."""
        project = doing(tmp_path, OFFLINE)
        env = """
        from alembic import context
        from models import metadata

        assert context.is_offline_mode()
        url = context.config.get_main_option("sqlalchemy.url")
        context.configure(url=url, target_metadata=metadata, literal_binds=True)
        with context.begin_transaction():
            context.run_migrations()
        """
        project.write("migrations/env.py", env)

        ended = run(project, "plan", "--sql")

        assert ended.code == 0, ended.stderr
        assert "VALUES ('both ways')" in ended.stdout
        assert project.tables() == []


BLOCK = """
op.execute("INSERT INTO artists (name) VALUES ('before')")
with op.get_context().autocommit_block():
    op.execute("VACUUM")
    op.execute("PRAGMA journal_mode = WAL")
op.execute("INSERT INTO artists (name) VALUES ('after')")
import os
if os.path.exists("fail"):
    raise ValueError("after the block")
"""


class TestAutocommitBlock:
    """`op.get_context().autocommit_block()`."""

    @pytest.mark.parametrize(
        "env",
        [
            "own_engine",
            "begins_nothing",
            "autocommit_of_the_connection",
            "a_transaction_per_migration",
            "application_engine",
            "async_application_engine",
        ],
    )
    def test_works(self, tmp_path: Path, run: Run, env: str) -> None:
        """Statements that no transaction takes run in it; what stood before it is committed.

        What comes after it is in a transaction again, which a failure takes back.
        """
        project = doing(tmp_path, BLOCK, env)
        if "application" in env:
            project.write("application.py", APPLICATIONS[env])
        (tmp_path / "fail").touch()

        message = assert_failed(run(project, "run", "--json"), "TaskFailed", "after the block")

        assert "as it was before" not in message
        assert project.rows("SELECT name FROM artists") == [("before",)]
        assert project.versions() == ["r1"]
        (tmp_path / "fail").unlink()
        assert_failed(run(project, "run", "--json"), "StateRefused", "interrupted", "r2")
        assert_ready(run(project, "run", "--json", "--set", "interrupted=retry"), "r3")
        assert project.rows("PRAGMA journal_mode") == [("wal",)]
        assert "orchestrator_interrupted" not in project.tables()

    def test_works_in_a_process_of_its_own(self, tmp_path: Path) -> None:
        """The console script, on an empty database."""
        project = doing(tmp_path, BLOCK)

        assert_ready(project.run("run", "--json"), "r3")
        assert project.rows("SELECT name FROM artists") == [("before",), ("after",)]

    @pytest.mark.parametrize("env", ["begins_on_the_engine", "begins_on_the_connection"])
    def test_is_told_where_it_cannot_work(self, tmp_path: Path, run: Run, env: str) -> None:
        """In a transaction that `env.py` began itself, as with Alembic alone; nothing is kept."""
        project = doing(tmp_path, BLOCK, env)

        ended = run(project, "run", "--json")

        assert_failed(ended, "TaskFailed", "autocommit_block()", "context.begin_transaction()")
        assert project.tables() == []


class TestOutsideOfATransaction:
    """Statements that cannot run in a transaction."""

    @pytest.mark.parametrize(
        "statement", ['op.execute("VACUUM")', 'op.execute("PRAGMA journal_mode = WAL")']
    )
    def test_are_told_with_the_way_out(self, tmp_path: Path, run: Run, statement: str) -> None:
        """The error names `transaction = "off"`, with which they run as in Alembic alone."""
        project = doing(tmp_path, statement)

        message = assert_failed(run(project, "run", "--json"), "TaskFailed", 'transaction = "off"')

        assert "revision r2" in message
        assert "as it was before" in message
        assert project.tables() == []
        project.write("pyproject.toml", '[tool.orchestrator]\ntransaction = "off"')
        assert_ready(run(project, "run", "--json"), "r3")

    def test_are_told_in_a_process_of_its_own(self, tmp_path: Path) -> None:
        """The console script; the way out is taken by a variable."""
        project = doing(tmp_path, 'op.execute("VACUUM")')

        assert_failed(project.run("run", "--json"), "TaskFailed", 'transaction = "off"')
        assert_ready(project.run("run", "--json", ORCHESTRATOR_TRANSACTION="off"), "r3")
