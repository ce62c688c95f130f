"""Disks that are full: before anything is migrated, and in the middle of a run."""

from __future__ import annotations

import json
import os
import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from orchestrator import DatabaseUnavailable, Orchestrator, Settings, TaskFailed
from tests.projects import Finished, Project, finish

KIB = 1024
NO_BYTECODE = {"PYTHONDONTWRITEBYTECODE": "1"}
"""What is compiled would be cut short, too. Another environment remembers nothing of this one."""


LIMITED = """
import resource, runpy, sys

limit = int(sys.argv.pop(1))
resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
runpy.run_module("orchestrator", run_name="__main__", alter_sys=True)
"""


WAITS_FOR_GO = """
import os

deadline = time.monotonic() + 60
while not os.path.exists("go") and time.monotonic() < deadline:
    time.sleep(0.01)
"""


@contextmanager
def small_disk(path: Path, kib: int) -> Iterator[None]:
    """A file system of its own with so much room; the test is skipped where none can be made."""
    path.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", f"size={kib}k", "none", str(path)]
    if shutil.which("mount") is None or subprocess.run(mount, check=False).returncode:
        pytest.skip("no file system can be mounted here")
    try:
        yield
    finally:
        subprocess.run(["umount", "-l", str(path)], check=True)


def fill(disk: Path) -> None:
    """Leave no room at all."""
    with (disk / "filler").open("wb", buffering=0) as file:
        try:
            while True:
                file.write(b"\0" * KIB)
        except OSError:
            pass


def start(project: Project, *, limit: int) -> Finished:
    """A run whose process cannot let any file grow beyond so many bytes."""
    return finish(begin(project, "run", "--json", limit=limit))


def begin(project: Project, *arguments: str, limit: int) -> subprocess.Popen[str]:
    """The same while it lasts, for any command."""
    return subprocess.Popen(
        [sys.executable, "-c", LIMITED, str(limit), *arguments],
        cwd=project.path,
        env=project.environment(**NO_BYTECODE),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def versions(database: Path) -> list[str]:
    connection = sqlite3.connect(database)
    try:
        return [row[0] for row in connection.execute("SELECT version_num FROM alembic_version")]
    finally:
        connection.close()


def long_journal(project: Project, size: int) -> Path:
    """A journal that has almost reached a size."""
    project.state.mkdir()
    journal = project.state / "journal.jsonl"
    journal.write_bytes(b"{}\n" * (size // 3))
    return journal


class TestBefore:
    """A clear error before anything is migrated."""

    def test_no_room_for_the_state_directory(self, project: Project) -> None:
        """Exit code 2 or 5, told in words, and no database."""
        project.chain(1)
        disk = project.path / "disk"
        with small_disk(disk, 64):
            fill(disk)
            url = f"sqlite:///{disk}/app.db"
            ended = project.run("run", "--json", ORCHESTRATOR_DATABASE_URL=url)
            left = os.listdir(disk)
        assert ended.code == 2, ended.stderr
        error = ended.json["error"]
        assert error["type"] == "ConfigurationError"
        assert "No space left on device" in error["message"]
        assert "Traceback" not in ended.stderr
        assert "app.db" not in left

    def test_no_room_in_the_journal(self, project: Project) -> None:
        """A journal that takes not even the beginning of a run stops one that would migrate."""
        project.chain(1)
        long_journal(project, 100_000)
        ended = start(project, limit=99_999)
        assert ended.code == 2, ended.stderr
        message = ended.json["error"]["message"]
        assert "Before anything was changed, the journal" in message
        assert "File too large" in message
        assert not project.database.exists()
        assert ended.json["warnings"]

    def test_a_database_that_is_current_is_served(self, project: Project) -> None:
        """Where there is nothing to do, a journal that cannot be written stops nobody."""
        project.chain(1)
        assert project.run("run", "--json").code == 0
        journal = project.state / "journal.jsonl"
        ended = start(project, limit=journal.stat().st_size)
        assert ended.code == 0, ended.stderr
        (warning,) = ended.json["warnings"]
        assert "could not be written" in warning

    def test_so_is_one_that_nothing_is_remembered_of(self, project: Project) -> None:
        """The disk may have been full before anything could be remembered, too."""
        project.chain(1)
        assert project.run("run", "--json").code == 0
        project.heads.unlink()
        ended = start(project, limit=(project.state / "journal.jsonl").stat().st_size)
        assert ended.code == 0, ended.stderr
        assert (ended.json["outcome"], ended.json["led"]) == ("ready", False)
        (warning,) = ended.json["warnings"]
        assert "could not be written" in warning

    def test_who_has_no_journal_waits_like_all_others(self, project: Project) -> None:
        """`env.py` never runs beside that of a leader for the sake of a journal that is full."""
        project.revision("r1", None, WAITS_FOR_GO)
        project.write(
            "migrations/env.py",
            """
            from orchestrator.environment import run_migrations

            with open("passes", "a") as file:
                file.write("x")
            run_migrations()
            """,
        )
        leader = project.start("run", **NO_BYTECODE)
        assert leader.stderr is not None
        next(line for line in leader.stderr if "upgrade 1/1" in line)
        waiter = begin(project, "run", limit=(project.state / "journal.jsonl").stat().st_size)
        assert waiter.stderr is not None
        next(line for line in waiter.stderr if "waiting for" in line)
        project.write("go", "")
        assert finish(leader).code == 0
        assert finish(waiter).code == 0
        assert (project.path / "passes").read_text() == "x"


class TestAfterTheFailure:
    """A database that cannot even be asked what is left of a migration that failed."""

    pytestmark = pytest.mark.anyio

    async def test_the_failure_is_told_all_the_same(
        self, project: Project, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """As `TaskFailed`, with its revision; and nothing is said to be intact."""
        project.write(
            "migrations/env.py",
            "from orchestrator.environment import run_migrations\n\nrun_migrations()\n",
        )
        project.revision("r1", None, "raise OSError('disk I/O error')")

        def cannot_ask(*_: object) -> None:
            raise DatabaseUnavailable("disk I/O error", url=project.url)

        monkeypatch.setattr("orchestrator.run.leader.Leader._ask", cannot_ask)
        settings = Settings(
            database_url=project.url, script_location=str(project.path / "migrations")
        )
        with pytest.raises(TaskFailed, match="revision r1") as caught:
            await Orchestrator(settings).run()
        assert (caught.value.revision, caught.value.rolled_back) == ("r1", False)
        assert "is as it was before" not in str(caught.value)


class TestInTheMiddle:
    """A disk that is full while the work goes on."""

    def test_the_journal_is_lost(self, project: Project) -> None:
        """The migration ends correctly; the loss is told on stderr and in the report."""
        project.chain(3)
        journal = long_journal(project, 100_000)
        size = journal.stat().st_size
        ended = start(project, limit=size + 600)
        assert ended.code == 0, ended.stderr
        assert versions(project.database) == ["r3"]
        (warning,) = ended.json["warnings"]
        assert warning.startswith(f"the journal {journal} could not be written")
        assert ended.stderr.count(warning) == 1
        lines = journal.read_bytes()[size - 1 :].split(b"\n")
        assert b'"event":"run_started"' in lines[1 if lines[0] == b"" else 0]

    def test_the_next_run_goes_on_in_a_line_of_its_own(self, project: Project) -> None:
        """What was cut short spoils no other line."""
        project.chain(1)
        journal = long_journal(project, 100_000)
        size = journal.stat().st_size
        assert start(project, limit=size + 600).code == 0
        assert not journal.read_bytes().endswith(b"\n")
        assert project.run("run", "--json", **NO_BYTECODE).code == 0
        whole: list[Any] = []
        torn = 0
        for line in journal.read_text()[size:].splitlines():
            try:
                whole.append(json.loads(line))
            except ValueError:
                torn += 1
        assert torn == 1
        assert [line["event"] for line in whole if line["run_id"] == whole[-1]["run_id"]] == [
            "run_started",
            "state_observed",
            "database_ready",
        ]

    def test_the_database_finds_no_room(self, project: Project) -> None:
        """The migration fails in words, is rolled back, and succeeds when there is room."""
        project.revision("r1", None)
        project.revision(
            "r2",
            "r1",
            """
            op.create_table("big", sa.Column("t", sa.Text))
            for _ in range(20):
                op.execute("INSERT INTO big VALUES (hex(randomblob(50000)))")
            """,
        )
        disk = project.path / "disk"
        with small_disk(disk, 1000):
            url = f"sqlite:///{disk}/app.db"
            ended = project.run("run", "--json", ORCHESTRATOR_DATABASE_URL=url)
            assert ended.code == 5, ended.stderr
            assert "full" in ended.json["error"]["message"]
            assert ended.json["versions"] == []
            assert "Traceback" not in ended.stderr
            subprocess.run(["mount", "-o", "remount,size=8m", str(disk)], check=True)
            again = project.run("run", "--json", ORCHESTRATOR_DATABASE_URL=url)
            assert (again.code, versions(disk / "app.db")) == (0, ["r2"]), again.stderr
