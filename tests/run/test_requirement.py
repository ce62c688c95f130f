"""The mode `require`: at the target, or refused at once."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from contextlib import closing

import pytest

from tests.projects import Project

REQUIRE = {"ORCHESTRATOR_MODE": "require"}


def migrated(project: Project) -> None:
    assert project.run("run").code == 0


def behind(project: Project) -> None:
    migrated(project)
    project.revision("r3", "r2")


def empty(project: Project) -> None:
    sqlite3.connect(project.database).close()
    project.database.touch()


def unversioned(project: Project) -> None:
    with closing(sqlite3.connect(project.database)) as connection:
        connection.execute("CREATE TABLE t (id INTEGER)")


@pytest.fixture(autouse=True)
def _two_revisions(project: Project) -> None:
    project.chain(2)


@pytest.mark.parametrize("warm", [True, False])
def test_a_database_at_its_target_is_ready(project: Project, warm: bool) -> None:
    """Remembered or not."""
    migrated(project)
    if not warm:
        project.heads.unlink()

    done = project.run("run", "--json", **REQUIRE)

    assert (done.code, done.json["led"], done.json["versions"]) == (0, False, ["r2"]), done.stderr


@pytest.mark.parametrize(
    ("given", "words"),
    [
        (lambda project: None, "does not exist"),
        (empty, "is empty"),
        (behind, "is at r2, behind r3"),
        (unversioned, "has 1 table (t) but no version row"),
    ],
    ids=["absent", "empty", "behind", "unversioned"],
)
def test_every_other_is_refused(
    project: Project, given: Callable[[Project], object], words: str
) -> None:
    """Told what it is, with exit code 4; nothing is made that was not there."""
    given(project)
    before = {path: path.stat().st_mtime_ns for path in project.path.iterdir()}

    done = project.run("run", "--json", **REQUIRE)

    assert done.code == 4, done.stderr
    assert done.json["error"]["type"] == "StateRefused"
    assert words in done.json["error"]["message"]
    assert "Nothing was changed" in done.json["error"]["message"]
    after = {path: path.stat().st_mtime_ns for path in project.path.iterdir()}
    assert {path.name for path in after.keys() - before.keys()} <= {"__pycache__"}
    assert after.get(project.database) == before.get(project.database)


def test_tables_that_would_be_adopted_are_work_to_do(project: Project) -> None:
    """Compared with the metadata they are equal: that is said, and what would stamp them."""
    project.write(
        "models.py",
        """
        import sqlalchemy as sa

        metadata = sa.MetaData()
        sa.Table("t", metadata, sa.Column("id", sa.Integer))
        """,
    )
    unversioned(project)
    adopting = {"ORCHESTRATOR_UNVERSIONED": "adopt"}

    equal = project.run("run", "--json", **REQUIRE, **adopting)
    project.write(
        "models.py",
        "import sqlalchemy as sa\n\nmetadata = sa.MetaData()\n"
        "sa.Table('other', metadata, sa.Column('id', sa.Integer))\n",
    )
    different = project.run("run", "--json", **REQUIRE, **adopting)

    assert (equal.code, different.code) == (4, 4)
    assert '`mode` is "require"' in equal.json["error"]["message"]
    assert "differs" not in equal.json["error"]["message"]
    assert "table other is in the models" in different.json["error"]["message"]


def test_the_advice_can_be_followed(project: Project) -> None:
    """Where the mode comes from the environment, too."""
    refused = project.run("run", **REQUIRE)
    assert "`orchestrator run --mode migrate`" in refused.stderr

    assert project.run("run", "--mode", "migrate", **REQUIRE).code == 0
    assert project.run("run", **REQUIRE).code == 0


def test_a_single_command_does_its_task(project: Project) -> None:
    """The mode is how a run goes, which is what an application starts with."""
    assert project.run("upgrade", "r1", **REQUIRE).code == 0


def test_nobody_is_waited_for(project: Project) -> None:
    """Not even for a leader that is at work."""
    project.revision("r3", "r2", WAITS)
    leader = project.start("run")
    assert leader.stderr is not None
    next(line for line in leader.stderr if "upgrade 3/3" in line)

    refused = project.run("run", "--json", **REQUIRE)

    project.write("go", "")
    leader.communicate()
    assert (refused.code, refused.json["waited_seconds"]) == (4, 0)


WAITS = """
import os

deadline = time.monotonic() + 60
while not os.path.exists("go") and time.monotonic() < deadline:
    time.sleep(0.01)
"""
