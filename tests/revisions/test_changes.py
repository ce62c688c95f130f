"""What a plan tells of tables and columns that go: read in the code of the revisions."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

import anyio
import pytest

from orchestrator import Orchestrator, Settings, StateRefused
from orchestrator.results import Preview
from tests.projects import Project

SHOWN = {
    "an operation": ('op.drop_table("a")', ["table a"]),
    "a schema": ('op.drop_table("a", schema="s")', ["table s.a"]),
    "a column": ('op.drop_column("a", "b")', ["column a.b"]),
    "keywords": (
        'op.drop_column(column_name="b", table_name="a", schema="s")\nop.drop_table("c")',
        ["column s.a.b", "table c"],
    ),
    "a batch": (
        'with op.batch_alter_table("a", schema=None) as batch:\n    batch.drop_column("b")',
        ["column a.b"],
    ),
    "a batch from elsewhere": (
        'with _batch("a") as batch:\n    batch.drop_column("b")',
        ["column {batch}.b"],
    ),
    "a name": ('name = op.f("a")\nop.drop_table(name)', ["table a"]),
    "a name with a type": ('name: str = "a"\nop.drop_table(name)', ["table a"]),
    "a name that changes": ('name = "a"\nname += "b"\nop.drop_table(name)', ["table {name}"]),
    "a name of the module": (
        "op.drop_table(NAMES[0])\nop.drop_table(ONE)\nop.drop_table(Model.__tablename__)",
        ["table {NAMES[0]}", "table one", "table models"],
    ),
    "a loop": ('for name in ("a", "b"):\n    op.drop_table(name)', ["table a", "table b"]),
    "a loop over the module's": (
        "for name, (column, _) in PAIRS:\n    op.drop_column(name, column)",
        ["column a.x", "column b.y"],
    ),
    "a loop over nobody knows what": (
        "for name in sa.inspect(op.get_bind()).get_table_names():\n    op.drop_table(name)",
        ["table {name}"],
    ),
    "a text with a name in it": (
        'for n in (1, 2):\n    op.drop_table(f"t_{n}")',
        ["table t_1", "table t_2"],
    ),
    "a condition": (
        'if sa.inspect(op.get_bind()).has_table("a"):\n    op.drop_table("a")',
        ["table a"],
    ),
    "a function of the file": ('_gone("a")\n_gone(name="b")', ["table a", "table b"]),
    "a function inside": ('def gone():\n    op.drop_table("a")\ngone()', ["table a"]),
    "SQL": (
        'op.execute("DROP TABLE IF EXISTS a, s.b; ALTER TABLE \\"c d\\" DROP COLUMN e")',
        ["table a", "table s.b", "column c d.e"],
    ),
    "SQL with quotes": (
        'op.get_bind().execute(sa.text("alter table `a` drop column \\"b\\""))',
        ["column a.b"],
    ),
    "SQL with a name in it": (
        'for n in "a", "b":\n    op.execute(f"DROP TABLE {n}")',
        ["table a", "table b"],
    ),
    "what is known only when it runs": (
        "op.drop_table(op.get_bind().engine.url.database)",
        ["table {op.get_bind().engine.url.database}"],
    ),
    "SQL that is known only when it runs": (
        'op.execute(f"DROP TABLE {op.get_bind()}")',
        ["table {op.get_bind()}"],
    ),
    "what is its own": (
        'op.create_table("n", sa.Column("id", sa.Integer))\nop.drop_table("n")',
        [],
    ),
    "another thing": ('op.drop_index("i", "a")\nop.drop_constraint("c", "a")', []),
    "recursion": ("_again()", ["table again"]),
}
HEAD = """
ONE = "one"
NAMES = ["a"]
PAIRS = [("a", ("x", 1)), ("b", ("y", 2))]


class Model:
    __tablename__ = "models"


def _gone(name):
    op.drop_table(name)


def _batch(name):
    return op.batch_alter_table(name)


def _again():
    op.drop_table("again")
    _again()


def upgrade"""


def planned(project: Project, downgrade: str | None = None) -> Preview:
    """The plan of a run or of a downgrade, in this process."""
    orchestrator = orchestrator_of(project)

    async def plan() -> Preview:
        return await orchestrator.plan(downgrade=downgrade)

    return anyio.run(plan)


def orchestrator_of(project: Project) -> Orchestrator:
    return Orchestrator(Settings(database_url=project.url, script_location="migrations"))


@pytest.fixture
def at_r1(project: Project, monkeypatch: pytest.MonkeyPatch) -> Project:
    """A project whose database is at r1."""
    monkeypatch.chdir(project.path)
    project.revision("r1", None)
    anyio.run(orchestrator_of(project).run)
    return project


def test_what_the_code_shows(at_r1: Project) -> None:
    """Each that goes is told in order, with the revision; nothing of it has run."""
    names = [f"r{number}" for number, _ in enumerate(SHOWN, start=2)]
    for name, parent, (code, _) in zip(names, ("r1", *names), SHOWN.values(), strict=False):
        file = at_r1.revision(name, parent, code)
        file.write_text(file.read_text().replace("\ndef upgrade", HEAD))

    plan = planned(at_r1)

    told = {
        what: list(dict.fromkeys(str(one) for one in plan.drops if one.revision == name))
        for name, what in zip(names, SHOWN, strict=True)
    }
    assert told == {what: dropped for what, (_, dropped) in SHOWN.items()}


def test_nothing_runs(at_r1: Project) -> None:
    """Neither what a revision does before it drops, nor what it does with the world."""
    at_r1.revision("r2", "r1", "import pathlib\npathlib.Path('ran').touch()\nop.drop_table('t_r1')")

    assert [str(one) for one in planned(at_r1).drops] == ["table t_r1"]
    assert not Path("ran").exists()


def test_a_helper_beside_the_scripts(at_r1: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    """Functions of the project that lie in the directory of the scripts are followed."""
    monkeypatch.syspath_prepend(at_r1.path / "migrations")
    at_r1.write(
        "migrations/drops_helper.py",
        "from alembic import op\n\n\ndef take(table):\n    op.drop_table(table)\n",
    )
    at_r1.write(
        "migrations/versions/r2.py",
        "import drops_helper\n"
        "from drops_helper import take\n"
        "revision, down_revision = 'r2', 'r1'\n\n\n"
        "def upgrade():\n    drops_helper.take('a')\n    take('b')\n",
    )

    assert [str(one) for one in planned(at_r1).drops] == ["table a", "table b"]


def test_a_new_database_loses_nothing(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    """What one revision makes and another drops was never there."""
    monkeypatch.chdir(project.path)
    project.revision("r1", None)
    project.revision("r2", "r1", "op.drop_table('t_r1')\nop.drop_table('other')")

    assert planned(project).drops == ()


def test_what_is_made_on_the_way(at_r1: Project) -> None:
    """A table that is not there yet is no loss; one of that name that is there, is."""
    at_r1.revision("r2", "r1")
    at_r1.revision("r3", "r2", "op.drop_table('t_r2')\nop.drop_table('t_r1')")
    assert [str(one) for one in planned(at_r1).drops] == ["table t_r1"]

    with closing(sqlite3.connect(at_r1.database)) as connection:
        connection.execute("CREATE TABLE t_r2 (id INTEGER)")
    assert [str(one) for one in planned(at_r1).drops] == ["table t_r2", "table t_r1"]


def test_a_downgrade(at_r1: Project) -> None:
    """Its revisions in the order in which they are taken back, and what goes by that."""
    at_r1.revision("r2", "r1")
    before = at_r1.database.read_bytes()

    relative, base = planned(at_r1, "-1"), planned(at_r1, "base")
    assert at_r1.database.read_bytes() == before
    anyio.run(orchestrator_of(at_r1).run)
    both = planned(at_r1, "base")

    assert (relative.state, relative.tasks) == ("behind", ("downgrade",))
    assert [str(one) for one in relative.drops] == ["table t_r1"]
    assert relative == base
    assert [one.revision for one in both.revisions] == ["r2", "r1"]
    assert [(str(one), one.revision) for one in both.drops] == [
        ("table t_r2", "r2"),
        ("table t_r1", "r1"),
    ]


@pytest.mark.filterwarnings("ignore:downgrade -1 from multiple heads")
def test_a_relative_downgrade_of_several_heads(at_r1: Project) -> None:
    """It tells the revision that the downgrade takes back: of the row that comes first."""
    at_r1.revision("a", "r1")
    at_r1.revision("b", "r1")
    anyio.run(orchestrator_of(at_r1).run)
    with closing(sqlite3.connect(at_r1.database)) as connection, connection:
        connection.execute("DELETE FROM alembic_version")
        connection.execute("INSERT INTO alembic_version VALUES ('b'), ('a')")

    plan = planned(at_r1, "-1")
    done = anyio.run(orchestrator_of(at_r1).downgrade, "-1")

    assert [one.revision for one in plan.revisions] == ["b"]
    assert [one.revision for one in done.applied] == ["b"]


def test_a_downgrade_that_would_be_refused(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is refused here, too."""
    monkeypatch.chdir(project.path)
    project.revision("r1", None)

    with pytest.raises(StateRefused, match="absent: there is nothing to downgrade"):
        planned(project, "base")


def test_code_that_cannot_be_read(at_r1: Project) -> None:
    """It shows nothing, and is no error."""
    file = at_r1.revision("r2", "r1", "op.drop_table('t_r1')")
    text = file.read_text().replace("def upgrade", "exec('''def upgrade")
    file.write_text(text.replace("'t_r1'", '"t_r1"').replace("\n\n\ndef d", "''')\n\n\ndef d"))

    assert planned(at_r1).drops == ()
