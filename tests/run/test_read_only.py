"""A database that is at its target needs no right to write anything: only work does."""

from __future__ import annotations

import os
import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.nobody import public_project, run_as_nobody
from tests.projects import Finished, Project

pytestmark = pytest.mark.skipif(
    os.geteuid() != 0, reason="only root can become somebody who may only read"
)


@pytest.fixture
def project() -> Iterator[Project]:
    """A project at its target, migrated by another user than the one who reads it."""
    with public_project() as project:
        project.chain(2)
        assert project.run("run").code == 0
        yield project
        project.path.chmod(0o755)


def tree(project: Project) -> dict[str, tuple[int, int, int]]:
    """Owner, mode and time of everything but bytecode."""
    return {
        str(path.relative_to(project.path)): (status.st_uid, status.st_mode, status.st_mtime_ns)
        for path in sorted(project.path.rglob("*"))
        if "__pycache__" not in path.parts
        for status in [path.lstat()]
    }


def without_heads(project: Project) -> None:
    for file in project.state.glob("heads*"):
        file.unlink()


def without_state(project: Project) -> None:
    shutil.rmtree(project.state)


def as_it_is(_: Project) -> None:
    """The target is remembered."""


def private(project: Project) -> None:
    project.state.chmod(0o700)


def lock_of_another(project: Project) -> None:
    """What is missing could be made, but the lock cannot be opened."""
    without_heads(project)
    project.state.chmod(0o777)
    (project.state / "journal.jsonl").chmod(0o666)
    (project.state / "lock").chmod(0o600)


def journal_of_another(project: Project) -> None:
    without_heads(project)
    project.state.chmod(0o777)
    (project.state / "lock").chmod(0o666)


def read_only_file(project: Project) -> None:
    """The lock can be taken."""
    without_state(project)
    project.path.chmod(0o777)
    project.database.chmod(0o444)


STATES = [
    as_it_is,
    without_heads,
    without_state,
    private,
    lock_of_another,
    journal_of_another,
    read_only_file,
]


def assert_ready(ended: Finished) -> dict[str, Any]:
    assert ended.code == 0, ended.stdout + ended.stderr
    assert "Traceback" not in ended.stderr
    report: dict[str, Any] = ended.json
    assert (report["outcome"], report["led"]) == ("ready", False)
    assert (report["versions"], report["state_before"]) == (["r2"], "current")
    return report


@pytest.mark.parametrize("state", STATES)
def test_a_current_database_is_ready(project: Project, state: Callable[[Project], None]) -> None:
    """For who may only read: whatever the state directory is like, remembered or not."""
    state(project)
    before = tree(project)

    ended = run_as_nobody(project, "run", "--json")

    report = assert_ready(ended)
    if state in (lock_of_another, read_only_file):
        return  # the journal is written
    assert tree(project) == before
    (warning,) = (one for one in report["warnings"] if "cannot be read as a record" not in one)
    assert warning.startswith("this run is not in the journal: ")
    assert "Permission denied" in warning


@pytest.mark.parametrize("state", [as_it_is, without_heads, without_state])
def test_without_a_journal_there_is_nothing_to_warn_of(
    project: Project, state: Callable[[Project], None]
) -> None:
    """With the journal off nothing is lost."""
    state(project)

    ended = run_as_nobody(project, "run", "--json", ORCHESTRATOR_JOURNAL="off")

    assert assert_ready(ended)["warnings"] == []


def test_a_journal_elsewhere_is_written(project: Project, tmp_path: Path) -> None:
    """It does not depend on the state directory."""
    without_heads(project)
    elsewhere = project.path / "log"
    elsewhere.mkdir()
    elsewhere.chmod(0o777)

    ended = run_as_nobody(
        project, "run", "--json", ORCHESTRATOR_JOURNAL=str(elsewhere / "journal.jsonl")
    )

    assert assert_ready(ended)["warnings"] == []
    told = (elsewhere / "journal.jsonl").read_text()
    assert told.count('"event":"state_observed"') == told.count('"event":"database_ready"') == 1


def test_a_journal_that_cannot_be_opened(project: Project) -> None:
    """Wherever it is: a run with nothing to do goes on without it, and says so."""
    project.path.chmod(0o777)
    journal = str(project.path / "nowhere" / "journal.jsonl")

    ended = project.run("run", "--json", ORCHESTRATOR_JOURNAL=journal)

    (warning,) = assert_ready(ended)["warnings"]
    assert journal in warning
    project.revision("r3", "r2")
    ended = project.run("run", "--json", ORCHESTRATOR_JOURNAL=journal)
    assert (ended.code, ended.json["error"]["type"]) == (2, "ConfigurationError")
    assert ended.json["error"]["message"].startswith(f"The journal {journal} cannot be written")


@pytest.mark.parametrize("command", ["run", "upgrade"])
def test_work_needs_the_lock(project: Project, command: str) -> None:
    """A database that is behind, and a single command: an error, and nothing is touched."""
    if command == "run":
        project.revision("r3", "r2")
    before = tree(project)

    ended = run_as_nobody(project, command, "--json")

    assert ended.code == 2, ended.stderr
    error = ended.json["error"]
    assert error["type"] == "ConfigurationError"
    assert error["message"].startswith(f"The state directory {project.state} cannot be used")
    assert "`state_dir`" in error["message"]
    assert "Traceback" not in ended.stderr
    assert tree(project) == before


@pytest.mark.parametrize("state", [as_it_is, without_heads, without_state])
def test_the_other_commands(project: Project, state: Callable[[Project], None]) -> None:
    """`status`, `plan`, `check` and `wait` say the same."""
    state(project)
    tables = "".join(
        f'sa.Table("t_{name}", metadata, sa.Column("id", sa.Integer, primary_key=True))\n'
        for name in ("r1", "r2")
    )
    project.write("models.py", f"import sqlalchemy as sa\n\nmetadata = sa.MetaData()\n{tables}")
    before = tree(project)

    status = run_as_nobody(project, "status", "--json", "--check")
    plan = run_as_nobody(project, "plan", "--json")
    check = run_as_nobody(project, "check", "--json")
    wait = run_as_nobody(project, "wait", "--json", "--lock-timeout", "0")

    assert (check.code, check.json["differences"]) == (0, []), check.stderr
    assert [one.code for one in (status, plan, wait)] == [0, 0, 0], status.stderr + wait.stderr
    assert (status.json["state"], plan.json["tasks"]) == ("current", [])
    assert_ready(wait)
    assert tree(project) == before


KILLED = """
import os, sqlite3, sys

connection = sqlite3.connect(sys.argv[1], isolation_level=None)
connection.execute("PRAGMA cache_size = 2")
connection.execute("BEGIN IMMEDIATE")
connection.execute("CREATE TABLE half (text)")
for _ in range(50):
    connection.execute("INSERT INTO half VALUES (hex(randomblob(5000)))")
os._exit(9)
"""


def in_wal_mode(project: Project) -> None:
    with closing(sqlite3.connect(project.database)) as connection:
        connection.execute("PRAGMA journal_mode = WAL")


def left_by_a_killed_writer(project: Project) -> None:
    subprocess.run([sys.executable, "-c", KILLED, project.database], check=False)
    assert project.database.with_name("app.db-journal").exists()


@pytest.mark.parametrize("make", [in_wal_mode, left_by_a_killed_writer])
def test_a_database_that_reading_would_write(
    project: Project, make: Callable[[Project], None]
) -> None:
    """Without the right to write its directory, SQLite cannot read it, and a run says so."""
    make(project)
    project.database.chmod(0o666)

    ended = run_as_nobody(project, "run", "--json")

    assert ended.code == 5, ended.stdout + ended.stderr
    assert "may not write the directory" in ended.json["error"]["message"]
    assert "Traceback" not in ended.stderr


@contextmanager
def read_only(project: Project, state: Callable[[Project], None]) -> Iterator[None]:
    """The database on a read-only file system; the test is skipped where none can be mounted."""
    disk = project.path / "disk"
    disk.mkdir()
    mount = ["mount", "-t", "tmpfs", "none", str(disk)]
    if shutil.which("mount") is None or subprocess.run(mount, check=False).returncode:
        pytest.skip("no file system can be mounted here")
    try:
        shutil.copy(project.database, disk)
        shutil.copytree(project.state, disk / project.state.name)
        state(Project(disk))
        subprocess.run(["mount", "-o", "remount,ro", str(disk)], check=True)
        yield
    finally:
        subprocess.run(["umount", "-l", str(disk)], check=True)


@pytest.mark.parametrize("state", [as_it_is, without_state])
def test_on_a_read_only_file_system(project: Project, state: Callable[[Project], None]) -> None:
    """Ready also for root, where nobody may write; and a reason where there is work to do."""
    with read_only(project, state):
        url = f"sqlite:///{project.path}/disk/app.db"
        ended = project.run("run", "--json", ORCHESTRATOR_DATABASE_URL=url)
        (warning,) = assert_ready(ended)["warnings"]
        assert "Read-only file system" in warning
        project.revision("r3", "r2")
        ended = project.run("run", "--json", ORCHESTRATOR_DATABASE_URL=url)
        assert ended.code == 2, ended.stderr
        assert "Read-only file system" in ended.json["error"]["message"]
