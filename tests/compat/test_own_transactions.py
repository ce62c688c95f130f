"""`env.py` and revisions that begin, commit and roll back by themselves."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from pathlib import Path
from textwrap import dedent

import pytest

from tests.compat.environments import APPLICATIONS, ENVIRONMENTS
from tests.compat.projects import ARTISTS, ENV_PY, Existing, assert_failed, assert_ready, existing
from tests.projects import Finished
from tests.zygote import Zygote

Run = Callable[..., Finished]

RECIPE = """
from alembic import context
from sqlalchemy import create_engine, event, pool, text
from models import metadata

engine = create_engine("sqlite:///app.db", poolclass=pool.NullPool)


@event.listens_for(engine, "connect")
def begin_nothing(driver, record):
    driver.isolation_level = None


{recipe}
with engine.connect() as connection:
    {before}
    context.configure(connection=connection, target_metadata=metadata)
    {migrate}
    {after}
"""
BEGINS = """
@event.listens_for(engine, "begin")
def begin(connection):
    connection.exec_driver_sql("BEGIN")
"""
RUN = "context.run_migrations()"
IN_A_TRANSACTION = "with context.begin_transaction(): context.run_migrations()"


def _execute(*statements: str) -> str:
    return "; ".join(f"connection.exec_driver_sql({statement!r})" for statement in statements)


BRACKETS = {
    "around_the_run": RECIPE.format(
        recipe=BEGINS,
        before="",
        migrate="; ".join((_execute("COMMIT", "PRAGMA foreign_keys=OFF", "BEGIN IMMEDIATE"), RUN)),
        after=_execute("END", "PRAGMA foreign_keys=ON"),
    ),
    "after_the_run": RECIPE.format(
        recipe="",
        before=_execute("PRAGMA foreign_keys=OFF"),
        migrate=IN_A_TRANSACTION,
        after=_execute(
            "BEGIN",
            "INSERT INTO artists (name) VALUES ('after')",
            "COMMIT",
            "PRAGMA foreign_keys=ON",
        ),
    ),
    "with_work_before_the_run": RECIPE.format(
        recipe=BEGINS,
        before=_execute("CREATE TABLE mine (n TEXT)", "INSERT INTO mine VALUES ('before')"),
        migrate=IN_A_TRANSACTION,
        after=_execute("INSERT INTO mine VALUES ('after')") + "; connection.commit()",
    ),
    "by_hand_after_a_commit": ENV_PY.replace(
        "        context.run_migrations()\n",
        "        context.run_migrations()\n"
        "    connection.exec_driver_sql(\"INSERT INTO artists (name) VALUES ('after')\")\n"
        "    connection.commit()\n",
    ),
}


def project_of(path: Path, env: str = ENV_PY, upgrade: str = "") -> Existing:
    project = existing(path, env=env)
    project.revision("r1", None, ARTISTS)
    project.revision("r2", "r1", upgrade)
    project.revision("r3", "r2")
    return project


@pytest.mark.parametrize("name", BRACKETS)
def test_an_env_py_that_brackets_its_work(
    tmp_path: Path, run: Run, zygote: Zygote, name: str
) -> None:
    """It finds the connection as it left it, and ends as under stock Alembic."""
    stock = project_of(tmp_path / "stock", BRACKETS[name])
    project = project_of(tmp_path / "ours", BRACKETS[name])
    assert zygote.alembic(stock, "upgrade", "heads").code == 0

    assert_ready(run(project, "run", "--json"), "r3")

    assert project.dump() == stock.dump()


@pytest.mark.parametrize("begun", ["", "connection.exec_driver_sql('BEGIN')"])
@pytest.mark.parametrize("level", ["IMMEDIATE", None])
def test_the_connection_is_left_as_it_was_found(
    tmp_path: Path, run: Run, level: str | None, begun: str
) -> None:
    """The driver's isolation level, keys, patience, and whether a transaction had begun."""
    connect = f"""
    with connectable.connect() as connection:
        driver = connection.connection.driver_connection
        driver.isolation_level = {level!r}
        driver.execute("PRAGMA foreign_keys = ON")
        driver.execute("PRAGMA busy_timeout = 1234")
        connection.exec_driver_sql("SELECT 1")
        {begun or "pass"}

        def found():
            ask = lambda pragma: driver.execute(f"PRAGMA {{pragma}}").fetchone()[0]
            return (
                driver.isolation_level,
                driver.in_transaction,
                ask("foreign_keys"),
                ask("busy_timeout"),
            )

        before = found()
        context.configure(connection=connection, target_metadata=metadata)
        context.run_migrations()
        assert found() == before, (found(), before)
        open("compared", "w").close()
    """
    head = ENV_PY.partition("with connectable")[0]
    project = project_of(tmp_path)
    project.write("migrations/env.py", head + dedent(connect))

    assert_ready(run(project, "run", "--json"), "r3")
    assert (tmp_path / "compared").exists()


ROW = "op.execute(\"INSERT INTO artists (name) VALUES ('{}')\")\n"
A, B = ROW.format("a"), ROW.format("b")
SESSION = """
from sqlalchemy.orm import Session
session = Session(bind=op.get_bind())
session.execute(sa.text("INSERT INTO artists (name) VALUES ('a')"))
session.commit()
session.execute(sa.text("INSERT INTO artists (name) VALUES ('b')"))
session.commit()
"""
SCRIPT = (
    "op.get_bind().connection.executescript(\"INSERT INTO artists (name) VALUES ('a');"
    "BEGIN; INSERT INTO artists (name) VALUES ('b'); COMMIT;\")"
)
COMMITS = {
    "the_connection": f"{A}op.get_bind().commit()\n{B}",
    "the_connection_last": f"{A}op.get_bind().commit()\n",
    "a_statement": f'{A}op.execute("COMMIT")\n{B}',
    "a_statement_that_begins_again": f'{A}op.execute("COMMIT")\nop.execute("BEGIN")\n{B}',
    "end": f'{A}op.execute("END TRANSACTION")\nop.execute("begin immediate")\n{B}',
    "the_driver": f"{A}op.get_bind().connection.driver_connection.commit()\n{B}",
    "a_script": SCRIPT,
}
"""Ways in which a revision commits what it did so far."""


class TestRevisionThatCommits:
    """It is the author's will: the run goes on in a new transaction, and says so."""

    @pytest.mark.parametrize("name", COMMITS)
    @pytest.mark.parametrize("options", ["", ", transaction_per_migration=True"])
    def test_ends_as_under_stock_alembic(
        self, tmp_path: Path, run: Run, zygote: Zygote, name: str, options: str
    ) -> None:
        """The same rows and tables; an event names the revision and what a kill would leave."""
        env = ENV_PY.replace("target_metadata=metadata", f"target_metadata=metadata{options}")
        stock = project_of(tmp_path / "stock", env, COMMITS[name])
        project = project_of(tmp_path / "ours", env, COMMITS[name])
        assert zygote.alembic(stock, "upgrade", "heads").code == 0

        report = assert_ready(run(project, "run", "--json"), "r3")

        assert project.dump() == stock.dump()
        [warning] = report["warnings"]
        assert "r2 committed" in warning
        [event] = [entry for entry in project.journal() if entry["event"] == "warning"]
        assert (event["revision"], event["level"]) == ("r2", "warning")
        assert event["message"] == warning

    @pytest.mark.parametrize("name", COMMITS)
    @pytest.mark.parametrize(
        "env", ["application_engine_that_begins", "application_engine_whose_driver_begins_each"]
    )
    def test_on_an_engine_that_begins_by_itself(
        self, tmp_path: Path, run: Run, name: str, env: str
    ) -> None:
        """SQLAlchemy's recipe for SQLite, whose BEGIN comes when SQLAlchemy begins."""
        project = project_of(tmp_path, ENVIRONMENTS[env], COMMITS[name])
        project.write("application.py", APPLICATIONS[env])

        report = assert_ready(run(project, "run", "--json"), "r3")

        assert len(report["warnings"]) == 1
        names = [name for (name,) in project.rows("SELECT name FROM artists")]
        assert names == (["a"] if name == "the_connection_last" else ["a", "b"])
        assert project.tables() == ["alembic_version", "artists", "t_r3"]

    def test_as_a_session_that_is_no_commit(self, tmp_path: Path, run: Run) -> None:
        """A session on the revision's connection leaves the commit to it: there is no warning."""
        project = project_of(tmp_path, upgrade=SESSION)

        assert assert_ready(run(project, "run", "--json"), "r3")["warnings"] == []

    def test_as_an_autocommit_block_is_not_warned_of(self, tmp_path: Path, run: Run) -> None:
        """That is Alembic's own way to say what must be outside."""
        block = 'with op.get_context().autocommit_block():\n    op.execute("VACUUM")'
        project = project_of(tmp_path, upgrade=block)

        assert assert_ready(run(project, "run", "--json"), "r3")["warnings"] == []

    @pytest.mark.parametrize("name", COMMITS)
    def test_and_fails_is_not_called_undone(self, tmp_path: Path, run: Run, name: str) -> None:
        """What it committed is kept, and the error does not say that nothing is."""
        project = project_of(tmp_path, upgrade=f"{COMMITS[name]}\nraise ValueError('late')")

        message = assert_failed(run(project, "run", "--json"), "TaskFailed", "late")

        assert "as it was before" not in message
        assert "What was committed before that is kept" in message
        assert ("a",) in project.rows("SELECT name FROM artists")

    def test_by_the_driver_alone_and_fails(self, tmp_path: Path, run: Run) -> None:
        """Nobody was told of that commit but the database, and no version row was in it."""
        project = existing(tmp_path)
        commit = "op.get_bind().connection.driver_connection.commit()"
        project.revision("r1", None, f"{ARTISTS}\n{commit}\nraise ValueError('late')")

        message = assert_failed(run(project, "run", "--json"), "TaskFailed", "late")

        assert "as it was before" not in message
        assert "artists" in project.tables()

    def test_before_an_autocommit_block(self, tmp_path: Path, run: Run, zygote: Zygote) -> None:
        """Alembic's block finds a transaction that it can commit."""
        block = 'with op.get_context().autocommit_block():\n    op.execute("VACUUM")'
        stock, project = (
            project_of(tmp_path / name, upgrade=COMMITS["the_connection"])
            for name in ("stock", "ours")
        )
        for one in (stock, project):
            one.revision("r3", "r2", block)
        assert zygote.alembic(stock, "upgrade", "heads").code == 0

        assert_ready(run(project, "run", "--json"), "r3")
        assert project.dump() == stock.dump()

    def test_before_one_that_fails(self, tmp_path: Path, run: Run) -> None:
        """A later revision's failure takes nothing of it away: half of it was committed already."""
        project = project_of(tmp_path, upgrade=COMMITS["a_statement_that_begins_again"])
        project.revision("r3", "r2", "raise ValueError('late')")

        message = assert_failed(run(project, "run", "--json"), "TaskFailed", "late", "r3")

        assert "as it was before" not in message
        assert project.rows("SELECT name FROM artists") == [("a",), ("b",)]
        assert project.versions() == ["r2"]
        assert "orchestrator_interrupted" not in project.tables()


ROLLBACKS = {
    "the_connection": f"{A}op.get_bind().rollback()\n{B}",
    "a_statement": f'{A}op.execute("ROLLBACK")\n{B}',
    "after_an_error": """
        try:
            op.execute("INSERT INTO nowhere VALUES (1)")
        except sa.exc.OperationalError:
            op.get_bind().rollback()
    """,
}


class TestRevisionThatRollsBack:
    """It takes back its own work, and must not take back others'."""

    @pytest.mark.parametrize("name", ROLLBACKS)
    def test_ends_as_under_stock_alembic(
        self, tmp_path: Path, run: Run, zygote: Zygote, name: str
    ) -> None:
        """All is run again with a transaction for each revision, and the run says so."""
        stock = project_of(tmp_path / "stock", upgrade=ROLLBACKS[name])
        project = project_of(tmp_path / "ours", upgrade=ROLLBACKS[name])
        assert zygote.alembic(stock, "upgrade", "heads").code == 0

        report = assert_ready(run(project, "run", "--json"), "r3")

        assert project.dump() == stock.dump()
        assert [one["revision"] for one in report["applied"]] == ["r1", "r2", "r3"]
        again, own = report["warnings"]
        assert "run again with a transaction for each revision" in again
        assert "r2 rolled back its own" in own

    def test_the_first_of_all(self, tmp_path: Path, run: Run) -> None:
        """The version table, which is made in its transaction, is made again."""
        project = existing(tmp_path)
        project.revision("r1", None, "op.get_bind().rollback()")
        project.revision("r2", "r1", ARTISTS)

        report = assert_ready(run(project, "run", "--json"), "r2")

        assert [one["revision"] for one in report["applied"]] == ["r1", "r2"]
        assert project.tables() == ["alembic_version", "artists"]

    def test_and_fails_for_good(self, tmp_path: Path, run: Run) -> None:
        """In a transaction of its own it fails once more, and what ran before it is kept."""
        project = project_of(
            tmp_path, upgrade=f"{ROLLBACKS['the_connection']}\nraise ValueError('late')"
        )

        message = assert_failed(run(project, "run", "--json"), "TaskFailed", "late")

        assert "as it was before" not in message
        assert project.versions() == ["r1"]
        assert project.rows("SELECT name FROM artists") == []

    @pytest.mark.parametrize(
        "ends",
        [
            "op.get_bind().connection.driver_connection.rollback()",
            'op.execute("-- all of it\\nROLLBACK")',
            (
                'try:\n    op.execute("INSERT OR ROLLBACK INTO artists (id, name) VALUES (1, 1)")\n'
                "except sa.exc.IntegrityError:\n    pass"
            ),
        ],
        ids=["by the driver", "after a comment", "by a conflict"],
    )
    @pytest.mark.parametrize("more", ["", B], ids=["last", "and goes on"])
    def test_where_nobody_was_told(
        self, tmp_path: Path, run: Run, zygote: Zygote, ends: str, more: str
    ) -> None:
        """A rollback that only the database knows of is none the less told from a commit."""
        upgrade = f"{A}{ends}\n{more}"
        stock = project_of(tmp_path / "stock", upgrade=upgrade)
        project = project_of(tmp_path / "ours", upgrade=upgrade)
        assert zygote.alembic(stock, "upgrade", "heads").code == 0

        report = assert_ready(run(project, "run", "--json"), "r3")

        assert "run again with a transaction for each revision" in report["warnings"][0]
        assert project.dump() == stock.dump()

    def test_by_the_database_itself(self, tmp_path: Path, run: Run) -> None:
        """A conflict that rolls back is no commit: nothing is kept, and that is said."""
        twice = 'op.execute("INSERT OR ROLLBACK INTO artists (id, name) VALUES (1, 1)")'
        project = project_of(tmp_path, upgrade=f"{A}{twice}")

        message = assert_failed(run(project, "run", "--json"), "TaskFailed", "UNIQUE")

        assert "as it was before" in message
        assert project.tables() == []


@pytest.mark.parametrize("name", ["own_engine", "application_engine_that_begins"])
def test_nothing_is_kept_of_what_env_py_did_before_a_refusal(
    tmp_path: Path, run: Run, name: str
) -> None:
    """What it inserts in a transaction of its own is rolled back with it."""
    env = ENVIRONMENTS[name].replace(
        "context.configure(",
        "connection.exec_driver_sql(\"INSERT INTO artists (name) VALUES ('x')\")\n"
        "    context.configure(",
    )
    project = project_of(tmp_path, env)
    if name in APPLICATIONS:
        project.write("application.py", APPLICATIONS[name])
    connection = sqlite3.connect(project.database)
    connection.execute("CREATE TABLE artists (id INTEGER PRIMARY KEY, name TEXT)")
    connection.close()

    assert_failed(run(project, "run", "--json"), "StateRefused", "Nothing was changed")

    assert project.rows("SELECT * FROM artists") == []
