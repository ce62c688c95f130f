"""One real transaction on SQLite, on whatever connection `env.py` brings."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator
from types import ModuleType
from typing import Any

import pytest
import sqlalchemy as sa

from orchestrator import DatabaseUnavailable, TaskFailed, VerificationFailed
from tests.projects import Project
from tests.revisions.conftest import Migrate

Rows = Callable[[str], list[Any]]

ENV_OF_APPLICATION = """
from alembic import context
from application import engine

with engine.connect() as connection:
    context.configure(connection=connection, target_metadata=None)
    with context.begin_transaction():
        context.run_migrations()
"""

PARENT_AND_CHILD = """
op.create_table("parent", sa.Column("id", sa.Integer, primary_key=True), sa.Column("n", sa.Text))
op.create_table(
    "child",
    sa.Column("id", sa.Integer, primary_key=True),
    sa.Column("parent_id", sa.Integer, sa.ForeignKey("parent.id", ondelete="CASCADE")),
)
op.execute("INSERT INTO parent (id, n) VALUES (1, 'one'), (2, 'two')")
op.execute("INSERT INTO child (parent_id) VALUES (1), (1), (2)")
"""

TABLES = "SELECT name FROM sqlite_master WHERE type = 'table' ORDER BY name"


@pytest.fixture
def engine(project: Project, application: ModuleType) -> Iterator[sa.Engine]:
    """An application's own engine, with a pool and enforced foreign keys, used by its `env.py`."""
    engine = sa.create_engine(project.url, pool_size=1, max_overflow=0, pool_timeout=5)

    @sa.event.listens_for(engine, "connect")
    def enforce(driver: sqlite3.Connection, _: Any) -> None:
        driver.execute("PRAGMA foreign_keys = ON").close()

    application.engine = engine
    project.write("migrations/env.py", ENV_OF_APPLICATION)
    yield engine
    engine.dispose()


class TestEngineOfAnApplication:
    """An application's own engine, used by its `env.py`."""

    @pytest.mark.parametrize("ends", ["well", "badly"])
    def test_is_unchanged_afterwards(
        self, project: Project, engine: sa.Engine, migrate: Migrate, ends: str
    ) -> None:
        """Isolation level, foreign keys, and a rollback that rolls back, are as they were."""
        project.revision("r1", None)
        with engine.connect() as connection:  # so that the pool has a connection to give
            before = connection.connection.driver_connection.isolation_level
        if ends == "well":
            migrate()
        else:
            project.revision("r2", "r1", "raise ValueError('no')")
            with pytest.raises(TaskFailed):
                migrate()

        assert engine.pool.checkedout() == 0
        with engine.begin() as connection:
            connection.exec_driver_sql("CREATE TABLE notes (n TEXT)")
        with engine.connect() as connection:
            driver = connection.connection.driver_connection
            assert driver.isolation_level == before == ""
            assert connection.exec_driver_sql("PRAGMA foreign_keys").scalar_one() == 1
            connection.exec_driver_sql("INSERT INTO notes VALUES ('gone')")
            connection.rollback()
            assert connection.exec_driver_sql("SELECT count(*) FROM notes").scalar_one() == 0


class TestForeignKeys:
    """Enforcement is off inside, since batch mode drops tables; what breaks is found."""

    @pytest.mark.parametrize("transaction", ["env", "run", "revision"])
    def test_batch_mode_keeps_child_rows(
        self,
        project: Project,
        engine: sa.Engine,
        migrate: Migrate,
        rows: Rows,
        transaction: str,
    ) -> None:
        """A parent table that is rebuilt does not cascade to its children."""
        project.revision("r1", None, PARENT_AND_CHILD)
        project.revision(
            "r2",
            "r1",
            """
            with op.batch_alter_table("parent", recreate="always") as batch:
                batch.add_column(sa.Column("more", sa.Text))
            """,
        )

        migrate(transaction=transaction)

        assert rows("SELECT parent_id FROM child ORDER BY id") == [(1,), (1,), (2,)]

    @pytest.mark.parametrize(("transaction", "kept"), [("run", []), ("revision", ["r1"])])
    def test_new_violations_fail_the_run(
        self,
        project: Project,
        engine: sa.Engine,
        migrate: Migrate,
        rows: Rows,
        transaction: str,
        kept: list[str],
    ) -> None:
        """A parent that is deleted without its children is an error, and is rolled back."""
        project.revision("r1", None, PARENT_AND_CHILD)
        project.revision("r2", "r1", "op.execute('DELETE FROM parent WHERE id = 1')")

        with pytest.raises(TaskFailed, match="child -> parent: 2") as caught:
            migrate(transaction=transaction)

        assert [one.revision for one in caught.value.applied] == kept
        assert caught.value.rolled_back is not bool(kept)
        assert caught.value.revision == ("r2" if kept else None)
        if kept:
            assert rows("SELECT count(*) FROM parent") == [(2,)]
            assert rows("SELECT version_num FROM alembic_version") == [("r1",)]
        else:
            assert rows(TABLES) == []

    def test_old_violations_do_not(
        self, project: Project, engine: sa.Engine, migrate: Migrate, rows: Rows
    ) -> None:
        """Rows that had no parent before the run are no matter of the run."""
        project.revision("r1", None, PARENT_AND_CHILD)
        migrate()
        rows("DELETE FROM parent WHERE id = 1")  # without enforcement
        project.revision("r2", "r1")

        assert [one.revision for one in migrate().applied] == ["r2"]
        assert rows("SELECT count(*) FROM child") == [(3,)]

    def test_keys_that_fit_nothing_are_no_matter_of_the_run(
        self, project: Project, engine: sa.Engine, migrate: Migrate, rows: Rows
    ) -> None:
        """A table that SQLite cannot check is passed over; all others are checked."""
        rows("CREATE TABLE odd (id INTEGER, other INTEGER REFERENCES pair(n))")
        rows("CREATE TABLE pair (n INTEGER)")
        project.revision("r1", None, PARENT_AND_CHILD)

        report = migrate(unversioned="upgrade")

        assert [one.revision for one in report.applied] == ["r1"]
        project.revision("r2", "r1", "op.execute('DELETE FROM parent WHERE id = 1')")
        with pytest.raises(TaskFailed, match="child -> parent: 2"):
            migrate()

    def test_without_enforcement_nothing_is_checked(
        self, project: Project, migrate: Migrate, rows: Rows
    ) -> None:
        """Where the application does not enforce foreign keys, neither does a migration."""
        project.revision("r1", None, PARENT_AND_CHILD)
        project.revision("r2", "r1", "op.execute('DELETE FROM parent WHERE id = 1')")

        migrate()

        assert rows("SELECT count(*) FROM child") == [(3,)]


class TestTransaction:
    """The setting `transaction`: what is kept when the second revision fails."""

    @pytest.mark.parametrize(
        ("transaction", "per_migration", "kept"),
        [
            ("env", False, []),
            ("env", True, ["r1"]),
            ("run", True, []),
            ("revision", False, ["r1"]),
            ("off", False, ["r1"]),
        ],
    )
    def test_what_one_transaction_holds(
        self,
        project: Project,
        migrate: Migrate,
        rows: Rows,
        transaction: str,
        per_migration: bool,
        kept: list[str],
    ) -> None:
        """The setting overrules `env.py`, except for `env`, which leaves it to `env.py`."""
        project.write(
            "migrations/env.py",
            f"""
            from orchestrator.environment import run_migrations

            run_migrations(transaction_per_migration={per_migration})
            """,
        )
        project.revision("r1", None)
        half = "op.create_table('half', sa.Column('id', sa.Integer))\nraise ValueError('no')"
        project.revision("r2", "r1", half)

        with pytest.raises(TaskFailed) as caught:
            migrate(transaction=transaction)

        assert [one.revision for one in caught.value.applied] == kept
        assert caught.value.rolled_back is not bool(kept)
        expected = {"t_r1", "alembic_version"} if kept else set()
        if transaction == "off":  # Alembic's own way keeps half of a revision
            expected |= {"half", "orchestrator_interrupted"}
        assert {name for (name,) in rows(TABLES)} == expected

    def test_off_promises_nothing(self, project: Project, migrate: Migrate, rows: Rows) -> None:
        """Half of the first revision is left behind, and the error does not say otherwise."""
        half = "op.create_table('half', sa.Column('id', sa.Integer))\nraise ValueError('no')"
        project.revision("r1", None, half)

        with pytest.raises(TaskFailed) as caught:
            migrate(transaction="off")

        assert ("half",) in rows(TABLES)
        assert caught.value.rolled_back is False
        assert "is as it was before" not in str(caught.value)

    def test_autocommit_block(self, project: Project, migrate: Migrate, rows: Rows) -> None:
        """Alembic's block is outside of the transaction; what follows is in a new one."""
        project.revision("r1", None)
        block = "with op.get_context().autocommit_block():\n    op.execute('VACUUM')\n"
        made = "op.create_table('{}', sa.Column('id', sa.Integer))\n"
        project.revision("r2", "r1", made.format("before") + block + made.format("after"))
        project.revision("r3", "r2")

        assert [one.revision for one in migrate().applied] == ["r1", "r2", "r3"]
        assert {("before",), ("after",), ("t_r3",)} <= set(rows(TABLES))

    @pytest.mark.parametrize("chain", [(), ("r1",)])
    def test_failure_after_an_autocommit_block(
        self, project: Project, migrate: Migrate, rows: Rows, chain: tuple[str, ...]
    ) -> None:
        """What the block committed is kept and told; what came after it is rolled back."""
        block = "with op.get_context().autocommit_block():\n    op.execute('VACUUM')\n"
        made = "op.create_table('{}', sa.Column('id', sa.Integer))\n"
        failing = made.format("before") + block + made.format("after") + "raise ValueError('no')"
        for name, parent in zip(chain, (None, *chain), strict=False):
            project.revision(name, parent)
        project.revision("last", chain[-1] if chain else None, failing)

        with pytest.raises(TaskFailed, match="ValueError: no") as caught:
            migrate()

        assert tuple(one.revision for one in caught.value.applied) == chain
        assert not caught.value.rolled_back
        assert "is as it was before" not in str(caught.value)
        assert rows("SELECT version_num FROM alembic_version") == [(name,) for name in chain]
        assert ("before",) in rows(TABLES)
        assert ("after",) not in rows(TABLES)

    def test_what_cannot_be_in_a_transaction(
        self, project: Project, migrate: Migrate, rows: Rows
    ) -> None:
        """A revision that needs to be outside of it fails, and the error says what to set."""
        project.revision("r1", None, "op.execute('VACUUM')")

        with pytest.raises(TaskFailed, match='`transaction = "off"`') as caught:
            migrate()

        assert (caught.value.revision, caught.value.applied) == ("r1", ())
        assert caught.value.rolled_back
        assert rows(TABLES) == []

    @pytest.mark.parametrize("statement", ["VACUUM", "PRAGMA journal_mode = WAL"])
    def test_off_runs_it(self, project: Project, migrate: Migrate, statement: str) -> None:
        """With `transaction = "off"` such a revision runs as it does under `alembic`."""
        project.revision("r1", None, f"op.execute('{statement}')")

        assert [one.revision for one in migrate(transaction="off").applied] == ["r1"]

    def test_a_rollback_in_a_transaction_of_all_is_no_success(
        self, project: Project, migrate: Migrate, rows: Rows
    ) -> None:
        """Where one transaction is asked for, an error swallowed after a rollback fails the run."""
        project.revision("r1", None)
        swallows = """
        try:
            op.execute("INSERT INTO nowhere VALUES (1)")
        except sa.exc.OperationalError:
            op.get_bind().rollback()
        """
        project.revision("r2", "r1", swallows)

        with pytest.raises(VerificationFailed) as caught:
            migrate(transaction="run")

        assert (caught.value.expected, caught.value.found) == (("r2",), ())
        assert rows(TABLES) == []

    def test_a_savepoint_may_be_rolled_back(
        self, project: Project, migrate: Migrate, rows: Rows
    ) -> None:
        """A savepoint is the revision's own affair: rolled back, the rest is kept."""
        tries = """
        op.create_table("kept", sa.Column("id", sa.Integer))
        savepoint = op.get_bind().begin_nested()
        op.create_table("lost", sa.Column("id", sa.Integer))
        savepoint.rollback()
        """
        project.revision("r1", None, tries)

        assert [one.revision for one in migrate().applied] == ["r1"]
        assert {name for (name,) in rows(TABLES)} == {"kept", "alembic_version"}


@pytest.mark.parametrize(
    ("damage", "told"),
    [
        ("os.truncate(file, 4096)", "is damaged: .* Restore it from a backup"),
        ("pathlib.Path(file).write_bytes(b'x' * 8192)", "the file is not a SQLite database"),
    ],
    ids=["damaged", "overwritten"],
)
def test_a_file_that_is_spoilt_in_mid_run(
    project: Project, migrate: Migrate, damage: str, told: str
) -> None:
    """It is told as what it is where the next transaction begins, and nothing as intact."""
    project.revision("r1", None)
    project.revision(
        "r2",
        "r1",
        f"""
        import os, pathlib
        op.get_bind().connection.commit()
        file = op.get_bind().engine.url.database
        {damage}
        op.execute("CREATE TABLE more (n INTEGER)")
        """,
    )
    with pytest.raises(DatabaseUnavailable, match=told) as raised:
        migrate()
    assert "cannot be written" not in str(raised.value)
    assert "Nothing was changed" not in str(raised.value)


@pytest.mark.parametrize("each", [False, True], ids=["one transaction", "one for each revision"])
def test_what_is_intact_where_a_writer_is_in_the_way(
    project: Project, migrate: Migrate, application: ModuleType, each: bool
) -> None:
    """That nothing was changed is said once where it is so, and not when a revision is kept."""
    writer = sqlite3.connect(project.database, isolation_level=None, check_same_thread=False)
    application.lock = lambda: writer.in_transaction or writer.execute("BEGIN IMMEDIATE")
    project.chain(2)
    project.write(
        "migrations/env.py",
        f"""
        import application
        import sqlalchemy as sa
        from alembic import context

        with sa.create_engine({project.url!r}, poolclass=sa.NullPool).connect() as connection:
            if not {each}:
                application.lock()
            else:
                done = []

                @sa.event.listens_for(connection, "commit")
                def note(connection):
                    done.append(1)

                @sa.event.listens_for(connection, "begin")
                def hold(connection):
                    if done:
                        application.lock()
            context.configure(connection=connection, transaction_per_migration={each})
            with context.begin_transaction():
                context.run_migrations()
        """,
    )
    with pytest.raises(DatabaseUnavailable, match="busy with another writer") as raised:
        migrate(connect_timeout_seconds=0.2)
    writer.close()

    assert [one.revision for one in raised.value.applied] == (["r1"] if each else [])
    assert str(raised.value).count("Nothing was changed.") == (not each)
    assert ("What was committed before that is kept" in str(raised.value)) is each
