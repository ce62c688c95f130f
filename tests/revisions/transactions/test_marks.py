"""What divides a revision is marked before it does so, whatever the database."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any, Final

import anyio
import pytest
import sqlalchemy as sa

from orchestrator import Orchestrator, RunReport, StateRefused, TaskFailed
from orchestrator.databases.marks import TABLE
from orchestrator.results import Inspection
from tests.databases.conftest import Place
from tests.projects import Project
from tests.revisions.transactions.test_contract import EACH_ITS_OWN, tables, versions

Run = Callable[..., RunReport]
Make = Callable[..., Orchestrator]

KINDS: Final = ("sqlite", "postgresql 16", "mariadb")
HALF: Final = 'op.create_table("half", sa.Column("id", sa.Integer))'
WHOLE: Final = (
    'op.create_table("whole", sa.Column("id", sa.Integer))\n'
    'op.create_index("ix_whole", "whole", ["id"])\n'
    'op.add_column("half", sa.Column("more", sa.Integer))'
)
HARMLESS: Final = {"sqlite": "VACUUM", "postgresql": "VACUUM half", "mysql": "ANALYZE TABLE half"}
DIVIDES: Final = {
    "an autocommit block": (
        'with op.get_context().autocommit_block():\n    op.execute("{harmless}")'
    ),
    "commit()": "op.get_bind().commit()",
    "COMMIT": 'op.execute("COMMIT")',
}
LATE: Final = 'op.execute("INSERT INTO half (id) VALUES (7)")\nraise ValueError("late")'
AUTOCOMMIT: Final = EACH_ITS_OWN.replace("poolclass=", 'isolation_level="AUTOCOMMIT", poolclass=')

of_each_kind = pytest.mark.parametrize("place", KINDS, indirect=True)


def dividing(place: Place, how: str, end: str = "") -> str:
    """A revision that is divided in its middle."""
    return f"{HALF}\n{DIVIDES[how].format(harmless=HARMLESS[place.kind])}\n{end}"


def by_hand(place: Place, statement: str) -> None:
    with place.connect() as connection:
        connection.exec_driver_sql(statement)
        connection.commit()


def inspected(orchestrator: Make) -> Inspection:
    return anyio.run(orchestrator().inspect)


def assert_interrupted(run: Run, orchestrator: Make, revision: str, *words: str) -> None:
    """The next start is refused, and nobody takes the database for current."""
    with pytest.raises(StateRefused, match=f"interrupted: the upgrade of {revision}") as refused:
        run()
    for word in (*words, f"resolve --rolled-back {revision}", f"resolve --applied {revision}"):
        assert word in str(refused.value), refused.value
    found = inspected(orchestrator)
    assert (found.state, found.at_target) == ("interrupted", False)
    assert found.interrupted is not None
    assert found.interrupted.revision == revision


@of_each_kind
@pytest.mark.parametrize("how", DIVIDES)
class TestARevisionThatIsDivided:
    """By a block, or a commit of its own."""

    def test_is_interrupted_where_it_fails(
        self, place: Place, project: Project, run: Run, orchestrator: Make, how: str
    ) -> None:
        """It is told how far it has come, what is there of it, and how to go on."""
        project.chain(1)
        file = project.revision("r2", "r1", dividing(place, how, f"{LATE}\n{WHOLE}"))

        with pytest.raises(TaskFailed, match="late") as failed:
            run()

        assert "as it was before" not in str(failed.value)
        assert "resolve --rolled-back r2" in str(failed.value)
        assert [one.revision for one in failed.value.applied] == ["r1"]
        assert versions(place) == ("r1",)
        assert_interrupted(
            run,
            orchestrator,
            "r2",
            "table half is there; table whole is not there; index ix_whole on whole is not there; "
            "column half.more is not there",
        )
        by_hand(place, "DROP TABLE half")
        resolved = anyio.run(lambda: orchestrator().resolve("r2", applied=False))
        assert resolved.versions == ("r1",)
        file.unlink()
        project.revision("r2", "r1", WHOLE.replace('"half"', '"t_r1"'))
        assert run().versions == ("r2",)
        assert tables(place) == {"alembic_version", "t_r1", "whole"}

    def test_leaves_nothing_where_it_ends_well(
        self, place: Place, project: Project, run: Run, how: str
    ) -> None:
        """No mark, and no table of marks; the next start is a warm one."""
        project.chain(1)
        project.revision("r2", "r1", dividing(place, how, WHOLE))
        project.revision("r3", "r2")

        assert run().versions == ("r3",)

        assert TABLE not in tables(place)
        assert run().led is False

    def test_stays_where_a_later_one_fails(
        self, place: Place, project: Project, run: Run, how: str
    ) -> None:
        """Its version row is committed with it, in a transaction of all, too."""
        project.chain(1)
        project.revision("r2", "r1", dividing(place, how, WHOLE))
        project.revision("r3", "r2", "raise ValueError('later')")

        with pytest.raises(TaskFailed, match="later") as failed:
            run()

        assert [one.revision for one in failed.value.applied] == ["r1", "r2"]
        assert versions(place) == ("r2",)
        assert "resolve" not in str(failed.value)
        assert TABLE not in tables(place)
        with pytest.raises(TaskFailed, match="later"):
            run()

    def test_is_finished_by_hand(
        self, place: Place, project: Project, run: Run, orchestrator: Make, how: str
    ) -> None:
        """`--applied` writes the version row that it would have written."""
        project.revision("r1", None, dividing(place, how, LATE))
        with pytest.raises(TaskFailed, match="late"):
            run()
        assert_interrupted(run, orchestrator, "r1", "table half is there")

        resolved = anyio.run(lambda: orchestrator().resolve("r1", applied=True))

        assert resolved.versions == ("r1",)
        assert run().led is False
        assert TABLE not in tables(place)

    def test_with_a_transaction_each(
        self, place: Place, project: Project, run: Run, orchestrator: Make, how: str
    ) -> None:
        """The same where `env.py` has one for each revision."""
        project.write("migrations/env.py", EACH_ITS_OWN)
        project.chain(1)
        project.revision("r2", "r1", dividing(place, how))
        project.revision("r3", "r2", dividing(place, how, LATE).replace("half", "other"))

        with pytest.raises(TaskFailed, match="late"):
            run()

        assert_interrupted(run, orchestrator, "r3")
        by_hand(place, "DROP TABLE other")
        anyio.run(lambda: orchestrator().resolve("r3", applied=False))
        assert TABLE not in tables(place)


@of_each_kind
def test_it_is_run_again_where_that_is_allowed(place: Place, project: Project, run: Run) -> None:
    """By a setting, for those that can be repeated."""
    again = "op.execute('DROP TABLE IF EXISTS half')\n"
    file = project.revision("r1", None, again + dividing(place, "commit()", LATE))
    with pytest.raises(TaskFailed, match="late"):
        run()
    file.unlink()
    project.revision("r1", None, again + dividing(place, "commit()"))

    assert run(interrupted="retry").versions == ("r1",)
    assert TABLE not in tables(place)


@of_each_kind
def test_a_downgrade_is_marked_as_one(
    place: Place, project: Project, run: Run, orchestrator: Make
) -> None:
    """Though its version row still says that there is nothing to do."""
    project.chain(1)
    down = f"op.drop_table('half')\nop.get_bind().commit()\n{LATE.replace('half', 't_r1')}"
    project.revision("r2", "r1", HALF, down)
    run()
    assert run().led is False

    with pytest.raises(TaskFailed, match="late"):
        anyio.run(orchestrator().downgrade, "r1")

    with pytest.raises(StateRefused, match="the downgrade of r2") as refused:
        run()
    assert "table half is not there" in str(refused.value)
    anyio.run(lambda: orchestrator().resolve("r2", applied=True))
    assert versions(place) == ("r1",)


@of_each_kind
def test_what_is_refused_at_once_leaves_no_mark(place: Place, project: Project, run: Run) -> None:
    """Nothing of the revision is done: it can be mended, and run."""
    project.chain(1)
    block = "with op.get_context().autocommit_block():\n    op.execute('DROP TABLE nowhere')"
    file = project.revision("r2", "r1", block)
    for _ in range(2):
        with pytest.raises(TaskFailed, match="nowhere"):
            run()
    assert versions(place) == ("r1",)
    file.unlink()
    project.revision("r2", "r1", HALF)

    assert run().versions == ("r2",)
    assert TABLE not in tables(place)


@pytest.mark.parametrize("place", ["postgresql 16", "mariadb"], indirect=True)
def test_an_engine_in_autocommit(
    place: Place, project: Project, run: Run, orchestrator: Make
) -> None:
    """Where each statement commits, so does the first that writes; one that only looks does not."""
    project.write("migrations/env.py", AUTOCOMMIT)
    project.chain(1)
    file = project.revision("r2", "r1", "sa.inspect(op.get_bind()).has_table('t')\nraise KeyError")
    with pytest.raises(TaskFailed, match="KeyError"):
        run()
    assert TABLE not in tables(place)
    file.unlink()
    project.revision("r2", "r1", f"{HALF}\n{LATE}")

    with pytest.raises(TaskFailed, match="late"):
        run()

    assert_interrupted(run, orchestrator, "r2", "table half is there")
    with place.connect() as connection:
        assert connection.execute(sa.text("SELECT id FROM half")).all() == [(7,)]


@pytest.mark.parametrize("place", ["sqlite"], indirect=True)
class TestOff:
    """`transaction = "off"` on SQLite: whatever the driver does."""

    def test_is_marked(self, project: Project, run: Run, orchestrator: Make, place: Place) -> None:
        """A table that is made is there at once."""
        project.chain(1)
        project.revision("r2", "r1", f"{HALF}\n{LATE}")
        with pytest.raises(TaskFailed, match="late"):
            run(transaction="off")
        assert_interrupted(run, orchestrator, "r2", "table half is there")
        assert tables(place) >= {"half", TABLE}

    def test_rows_alone_are_whole(self, project: Project, run: Run, place: Place) -> None:
        """For them the driver begins a transaction."""
        project.chain(1)
        project.revision("r2", "r1", "op.execute('INSERT INTO t_r1 VALUES (1)')\nraise KeyError")
        with pytest.raises(TaskFailed, match="KeyError"):
            run(transaction="off")
        assert tables(place) == {"alembic_version", "t_r1"}
        with place.connect() as connection:
            assert connection.execute(sa.text("SELECT count(*) FROM t_r1")).scalar_one() == 0

    def test_leaves_nothing_where_it_ends_well(
        self, project: Project, run: Run, place: Place
    ) -> None:
        """As with transactions."""
        project.chain(3)
        assert run(transaction="off").versions == ("r3",)
        assert TABLE not in tables(place)
        assert run(transaction="off").led is False

    def test_a_script_of_the_driver_is_noticed(
        self, project: Project, run: Run, orchestrator: Make, place: Place
    ) -> None:
        """`executescript()` commits without a word to SQLAlchemy; with transactions, too."""
        script = "op.get_bind().connection.executescript('CREATE TABLE half (id INTEGER);')"
        project.chain(1)
        project.revision("r2", "r1", f"{script}\nraise ValueError('late')")
        with pytest.raises(TaskFailed, match="late"):
            run()
        assert_interrupted(run, orchestrator, "r2")
        assert tables(place) >= {"half", TABLE}


@pytest.mark.parametrize("place", ["mariadb"], indirect=True)
def test_a_mark_costs_one_statement(place: Place, project: Project, run: Run) -> None:
    """Where each revision has one, that of the one before it, which has ended, is written over."""
    sent: list[str] = []

    @sa.event.listens_for(sa.Engine, "before_cursor_execute")
    def note(*given: Any) -> None:
        if TABLE in given[2]:
            sent.append(given[2].split()[0])

    project.chain(5)
    try:
        run()
    finally:
        sa.event.remove(sa.Engine, "before_cursor_execute", note)

    assert sent.count("INSERT") == 1
    assert sent.count("UPDATE") == 5  # the first finds none
    assert sent.count("DELETE") == 1  # at the end
    assert TABLE not in tables(place)


@pytest.mark.parametrize("place", ["mariadb"], indirect=True)
def test_a_mark_may_vanish_meanwhile(
    place: Place, project: Project, run: Run, orchestrator: Make
) -> None:
    """A revision that drops the table of marks takes none from those that come later."""
    project.chain(1)
    project.revision("r2", "r1", f'op.execute("DROP TABLE {TABLE}")')
    project.revision("r3", "r2", f"{HALF}\n{LATE}")
    with pytest.raises(TaskFailed, match="late"):
        run()
    assert_interrupted(run, orchestrator, "r3", "table half is there")


@of_each_kind
@pytest.mark.parametrize("how", ["again", "first"])
def test_a_mark_outlives_a_second_try(
    place: Place, project: Project, run: Run, orchestrator: Make, how: str
) -> None:
    """One that fails at its first statement has done nothing, but the try before it has."""
    project.chain(1)
    file = project.revision("r2", "r1", dividing(place, "commit()", LATE))
    with pytest.raises(TaskFailed, match="late"):
        run()
    if how == "first":
        file.unlink()
        refused = 'with op.get_context().autocommit_block():\n    op.execute("DROP TABLE nowhere")'
        project.revision("r2", "r1", refused)

    for _ in range(2):
        with pytest.raises(TaskFailed, match="resolve --rolled-back r2") as failed:
            run(interrupted="retry")
        assert "start again" not in str(failed.value)
        assert_interrupted(run, orchestrator, "r2")

    file.unlink(missing_ok=True)
    project.revision("r2", "r1", "op.execute('DROP TABLE half')")
    assert run(interrupted="retry").versions == ("r2",)
    assert TABLE not in tables(place)


@of_each_kind
def test_only_the_first_is_run_again(
    place: Place, project: Project, run: Run, orchestrator: Make
) -> None:
    """Of branches: another revision's mark would take the place of the one that there is."""
    project.chain(1)
    project.revision("x1", "r1", dividing(place, "commit()", LATE))
    project.revision("a1", "r1")
    project.revision("y1", "r1")
    with pytest.raises(TaskFailed, match="late"):
        anyio.run(orchestrator().upgrade, "x1")
    before = versions(place)
    with pytest.raises(StateRefused, match="orchestrator upgrade x1 --set interrupted=retry"):
        run(interrupted="retry")
    assert versions(place) == before
    assert_interrupted(run, orchestrator, "x1")
    with pytest.raises(TaskFailed):
        anyio.run(orchestrator(interrupted="retry").upgrade, "x1")
    assert_interrupted(run, orchestrator, "x1")


@of_each_kind
def test_a_downgrade_may_drop_the_version_table(
    place: Place, project: Project, run: Run, orchestrator: Make
) -> None:
    """What is not there any more says nothing about how it ended."""
    down = "op.drop_table('alembic_version')\nop.get_bind().commit()\nraise ValueError('late')"
    project.revision("r1", None, HALF, down)
    run()
    with pytest.raises(TaskFailed, match="late"):
        anyio.run(orchestrator().downgrade, "base")
    for _ in range(2):
        with pytest.raises(StateRefused, match="interrupted: the downgrade of r1"):
            run()
    anyio.run(lambda: orchestrator().resolve("r1", applied=True))
    assert versions(place) == ()
    assert TABLE not in tables(place)


MAKES_PARTS: Final = (
    "CREATE PROCEDURE p() BEGIN INSERT INTO t_r1 VALUES (1); ALTER TABLE nowhere ADD b INT; END"
)


@pytest.mark.parametrize("place", ["mariadb"], indirect=True)
@pytest.mark.parametrize(
    ("statement", "rows"),
    [
        ("DROP TABLE gone, nowhere", 0),
        ("CALL p()", 1),
        ("BEGIN NOT ATOMIC INSERT INTO t_r1 VALUES (1); ALTER TABLE nowhere ADD b INT; END", 1),
    ],
)
def test_a_first_statement_that_is_made_of_several(
    place: Place, project: Project, run: Run, orchestrator: Make, statement: str, rows: int
) -> None:
    """Where it is refused, a part of it may be done."""
    project.chain(1)
    table = "op.create_table('gone', sa.Column('id', sa.Integer))"
    project.revision("r2", "r1", f"{table}\nop.execute({MAKES_PARTS!r})")
    project.revision("r3", "r2", f"op.execute({statement!r})")
    with pytest.raises(TaskFailed, match="resolve --rolled-back r3") as failed:
        run()
    assert "start again" not in str(failed.value)
    assert_interrupted(run, orchestrator, "r3", "a part of it may be committed")
    assert ("gone" in tables(place)) is (rows == 1)
    with place.connect() as connection:
        assert connection.execute(sa.text("SELECT COUNT(*) FROM t_r1")).scalar_one() == rows


@pytest.mark.parametrize("place", ["mariadb"], indirect=True)
def test_a_statement_that_commits_in_other_words(
    place: Place, project: Project, run: Run, orchestrator: Make
) -> None:
    """It keeps what came before it, as an ALTER does."""
    project.chain(1)
    statement = "SET STATEMENT lock_wait_timeout = 5 FOR ALTER TABLE t_r1 ADD b INT"
    body = f"op.execute('INSERT INTO t_r1 VALUES (1)')\nop.execute({statement!r})\nraise KeyError"
    project.revision("r2", "r1", body)
    with pytest.raises(TaskFailed, match="all of which are kept"):
        run()
    assert_interrupted(run, orchestrator, "r2", "a part of it is committed")


@pytest.mark.parametrize("place", ["mariadb"], indirect=True)
@pytest.mark.parametrize("rows", ["", "op.execute('INSERT INTO t_r1 VALUES (1)')\n"])
def test_what_the_server_cannot_read_has_done_nothing(
    place: Place, project: Project, run: Run, rows: str
) -> None:
    """Nor has it committed what came before it: the revision is mended, and runs."""
    project.chain(1)
    run()
    file = project.revision("r2", "r1", f"{rows}op.execute('ALTER TABLE t_r1 AD b INT')")
    for _ in range(2):
        with pytest.raises(TaskFailed, match="The database is as it was before"):
            run()
    assert TABLE not in tables(place)
    with place.connect() as connection:
        assert connection.execute(sa.text("SELECT COUNT(*) FROM t_r1")).scalar_one() == 0
    file.unlink()
    project.revision("r2", "r1", f"{rows}op.execute('ALTER TABLE t_r1 ADD b INT')")
    assert run().versions == ("r2",)


DROPS_ALL: Final = """
for table in sa.inspect(op.get_bind()).get_table_names():
    if table != "alembic_version":
        op.drop_table(table)
"""


@pytest.mark.parametrize("place", ["mariadb"], indirect=True)
@pytest.mark.parametrize(
    "end",
    [
        "raise ValueError('late')",
        "op.execute('nonsense')",
        f"op.get_bind().connection.cursor().execute('DROP TABLE {TABLE}')\nraise KeyError",
    ],
)
def test_a_revision_may_take_its_own_mark_away(
    place: Place, project: Project, run: Run, orchestrator: Make, end: str
) -> None:
    """One that drops all tables but the version table is interrupted all the same."""
    project.chain(1)
    project.revision("r2", "r1", f"{HALF}\n{DROPS_ALL}\n{end}")
    with pytest.raises(TaskFailed, match="resolve --rolled-back r2"):
        run()
    assert TABLE in tables(place)
    assert_interrupted(run, orchestrator, "r2", "table half is not there")
    anyio.run(lambda: orchestrator().resolve("r2", applied=True))
    assert tables(place) == {"alembic_version"}


@pytest.mark.parametrize("place", ["mariadb"], indirect=True)
@pytest.mark.parametrize(
    ("end", "words", "rows"),
    [
        (
            "raise ValueError('late')",
            "It had executed 3 statements; the first is kept, what came later is rolled back.",
            0,
        ),
        (
            "op.get_bind().commit()\nraise ValueError('late')",
            "It had executed 3 statements, all of which are kept; the last of them: INSERT",
            2,
        ),
        (
            "op.add_column('half', sa.Column('more', sa.Integer))\nraise ValueError('late')",
            "It had executed 4 statements, all of which are kept; the last of them: ALTER",
            2,
        ),
        (
            "op.add_column('nowhere', sa.Column('more', sa.Integer))",
            "INTEGER; the first is kept, what came later may be kept or rolled back.",
            2,
        ),
    ],
)
def test_rows_are_kept_with_the_next_change_of_tables(
    place: Place, project: Project, run: Run, end: str, words: str, rows: int
) -> None:
    """And are not called done before that: the account is true of what is there."""
    insert = "op.execute('INSERT INTO half (id) VALUES (1)')\n"
    project.revision("r1", None, f"{HALF}\n{insert}{insert}{end}")
    with pytest.raises(TaskFailed, match=re.escape(words)):
        run()
    with place.connect() as connection:
        assert connection.execute(sa.text("SELECT COUNT(*) FROM half")).scalar_one() == rows
