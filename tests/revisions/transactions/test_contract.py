"""What the transaction of a pass promises, whatever the database; one suite for all kinds."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import anyio
import pytest
import sqlalchemy as sa
from sqlalchemy.exc import DBAPIError

from orchestrator import Orchestrator, RunReport, TaskFailed
from orchestrator.databases.patience import Patience
from orchestrator.revisions.transactions import TRANSACTIONS
from orchestrator.revisions.transactions.base import Transaction
from tests.databases.conftest import WHOLE, Place
from tests.projects import Project

Run = Callable[..., RunReport]

EACH_ITS_OWN = """
from alembic import context
from sqlalchemy import create_engine, pool

url = context.config.get_main_option("sqlalchemy.url")
with create_engine(url, poolclass=pool.NullPool).connect() as connection:
    context.configure(connection=connection, transaction_per_migration=True)
    with context.begin_transaction():
        context.run_migrations()
"""


def tables(place: Place) -> set[str]:
    with place.connect() as connection:
        return set(sa.inspect(connection).get_table_names())


def versions(place: Place) -> object:
    with place.database.connect() as connection:
        return place.database.version_rows(connection, "alembic_version", None)


class TestAPass:
    """One pass of `env.py`, whole or not at all."""

    def test_is_kept(self, place: Place, project: Project, run: Run) -> None:
        """What ran is there for a fresh connection, and the next start has nothing to do."""
        project.chain(2)

        report = run()

        assert (report.led, report.versions) == (True, ("r2",))
        assert [one.revision for one in report.applied] == ["r1", "r2"]
        assert tables(place) == {"alembic_version", "t_r1", "t_r2"}
        assert not run().led

    @pytest.mark.parametrize("place", WHOLE, indirect=True)
    def test_is_undone_as_a_whole(self, place: Place, project: Project, run: Run) -> None:
        """After a failure at the second revision nothing of the first is left, and it says so."""
        project.chain(1)
        project.revision("r2", "r1", "op.execute('nonsense')")

        with pytest.raises(TaskFailed, match="as it was before") as raised:
            run()

        assert raised.value.rolled_back
        assert raised.value.applied == ()
        assert tables(place) == set()

    @pytest.mark.parametrize("place", WHOLE, indirect=True)
    def test_keeps_each_revision_where_env_py_says_so(
        self, place: Place, project: Project, run: Run
    ) -> None:
        """With a transaction a revision, the first is kept, and nobody calls it undone."""
        project.write("migrations/env.py", EACH_ITS_OWN)
        project.chain(1)
        project.revision(
            "r2", "r1", "op.create_table('half', sa.Column('id', sa.Integer))\nop.execute('x')"
        )

        with pytest.raises(TaskFailed) as raised:
            run()

        assert not raised.value.rolled_back
        assert "as it was before" not in str(raised.value)
        assert [one.revision for one in raised.value.applied] == ["r1"]
        assert tables(place) == {"alembic_version", "t_r1"}
        assert versions(place) == ("r1",)

    @pytest.mark.parametrize("place", ["mariadb"], indirect=True)
    def test_is_told_where_nothing_undoes_it(
        self, place: Place, project: Project, run: Run
    ) -> None:
        """Where DDL commits at once it is never called undone, and it is told how far it came."""
        project.chain(1)
        project.revision(
            "r2",
            "r1",
            """
            op.create_table('half', sa.Column('id', sa.Integer))
            op.execute("INSERT INTO half VALUES (7)")
            op.execute("nonsense 'secret'")
            """,
        )

        with pytest.raises(TaskFailed) as raised:
            run()

        assert not raised.value.rolled_back
        message = str(raised.value)
        assert "as it was before" not in message
        assert "At statement 3 of it: nonsense ?" in message
        assert "; the first is kept, what came later is rolled back." in message
        with place.connect() as connection:
            assert connection.execute(sa.text("SELECT id FROM half")).all() == []
        assert [one.revision for one in raised.value.applied] == ["r1"]
        mark = "orchestrator_interrupted"
        assert tables(place) == {"alembic_version", "t_r1", "half", mark}
        assert versions(place) == ("r1",)

    @pytest.mark.parametrize("place", WHOLE, indirect=True)
    def test_is_not_seen_before_its_end(
        self, place: Place, project: Project, run: Run, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Another connection sees none of it while it runs."""
        seen: list[object] = []
        application = ModuleType("application")
        application.look = lambda: seen.append(versions(place))
        monkeypatch.setitem(sys.modules, "application", application)
        project.chain(1)
        project.revision("r2", "r1", "import application\napplication.look()")

        run()

        assert seen == [None]
        assert versions(place) == ("r2",)

    def test_that_only_looks_changes_nothing(
        self, place: Place, project: Project, orchestrator: Callable[..., Orchestrator]
    ) -> None:
        """A rehearsal leaves no table, not even the version table."""
        project.chain(2)

        preview = anyio.run(orchestrator().plan)

        assert [one.revision for one in preview.revisions] == ["r1", "r2"]
        assert tables(place) == set()

    def test_goes_down_again(
        self, place: Place, project: Project, run: Run, orchestrator: Callable[..., Orchestrator]
    ) -> None:
        """A downgrade is a pass like any other."""
        project.chain(3)
        run()

        report = anyio.run(orchestrator().downgrade, "r1")

        assert report.versions == ("r1",)
        assert tables(place) == {"alembic_version", "t_r1"}


class TestObject:
    """The object itself, on a connection such as `env.py`'s."""

    @staticmethod
    def transaction(place: Place, connection: sa.Connection) -> Transaction:
        return TRANSACTIONS[place.kind](
            connection, database=place.database, patience=Patience(timeout_seconds=5)
        )

    @pytest.mark.parametrize("place", WHOLE, indirect=True)
    def test_what_is_abandoned_leaves_nothing(self, place: Place) -> None:
        """Neither work nor a lock, once the connection is closed."""
        with place.connect() as connection:
            transaction = self.transaction(place, connection)
            transaction.begin()
            transaction.before_step()
            connection.exec_driver_sql("CREATE TABLE t (id INTEGER)")
            transaction.after_step()
            transaction.check()
        transaction.abandon()

        assert not transaction.committed
        assert tables(place) == set()
        with place.database.connect() as connection:
            connection.exec_driver_sql("CREATE TABLE t (id INTEGER)")

    def test_a_commit_is_noticed(self, place: Place) -> None:
        """By Alembic, `env.py` or a revision: something may then be kept."""
        with place.connect() as connection:
            transaction = self.transaction(place, connection)
            transaction.begin()
            connection.exec_driver_sql("CREATE TABLE t (id INTEGER)")
            connection.commit()
            transaction.end()
        transaction.abandon()

        assert transaction.committed
        assert tables(place) == {"t"}

    def test_it_has_no_advice_for_an_ordinary_error(self, place: Place) -> None:
        """What is wrong with a statement has nothing to do with the transaction."""
        with place.connect() as connection:
            transaction = self.transaction(place, connection)
            transaction.begin()
            with pytest.raises(DBAPIError) as raised:
                connection.exec_driver_sql("SELECT nothing FROM nowhere")
            assert transaction.advice(raised.value) is None
        transaction.abandon()


def test_a_table_row_for_each_kind() -> None:
    """Every kind of database has its transaction, and no transaction is of no kind."""
    from orchestrator.databases import DATABASES

    assert set(TRANSACTIONS) == set(DATABASES)


def test_the_state_is_where_the_setting_says(place: Place, project: Project, run: Run) -> None:
    """Nothing is made where a URL of a server happens to point to."""
    project.chain(1)

    run()

    assert {path.name for path in Path(project.path).iterdir()} >= {"state"}
    assert (project.path / "state" / "journal.jsonl").exists()
