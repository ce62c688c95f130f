"""Leaders and waiters that are stopped, killed and told to end."""

from __future__ import annotations

import json
import os
import signal
import sqlite3
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.projects import Finished, Project
from tests.zygote import Forked, Zygote

DEADLINE_SECONDS = 60.0
Command = Callable[..., Finished]


def soon(condition: Callable[[], object], what: str) -> None:
    deadline = time.monotonic() + DEADLINE_SECONDS
    while not condition():
        assert time.monotonic() < deadline, what
        time.sleep(0.01)


@pytest.fixture
def gate(project: Project) -> Path:
    """Two revisions, of which the second tells that it is at work, and waits for the gate."""
    gate = project.path / "gate"
    project.revision("r1", None, "op.create_table('one', sa.Column('id', sa.Integer))")
    project.revision(
        "r2",
        "r1",
        f"""
        import pathlib
        op.create_table("two", sa.Column("id", sa.Integer))
        op.execute("INSERT INTO two VALUES (1)")
        pathlib.Path({str(gate)!r} + "-reached").touch()
        deadline = time.monotonic() + {DEADLINE_SECONDS}
        while not pathlib.Path({str(gate)!r}).exists() and time.monotonic() < deadline:
            time.sleep(0.01)
        """,
    )
    return gate


@pytest.fixture
def leader(project: Project, gate: Path, zygote: Zygote) -> Iterator[Forked]:
    """A process in the middle of the second revision, which its record tells."""
    [process] = zygote.start(project, "run", "--json")
    soon(Path(f"{gate}-reached").exists, "the leader is at work")
    soon(lambda: '"revision": "r2"' in (project.state / "run.json").read_text(), "it is told")
    yield process
    process.kill()


@pytest.fixture
def command(project: Project, zygote: Zygote) -> Command:
    """Runs the command line in the project, to its end."""

    def run(*arguments: str) -> Finished:
        return zygote.run(project, *arguments, "--json", processes=1)[0]

    return run


def tables(project: Project) -> set[str]:
    connection = sqlite3.connect(project.database)
    try:
        rows = connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'").fetchall()
    finally:
        connection.close()
    return {row[0] for row in rows}


def waiting(project: Project) -> set[int]:
    return {line["pid"] for line in project.journal() if line["event"] == "lock_waiting"}


def terminal(project: Project, pid: int) -> list[str]:
    ends = ("database_ready", "run_failed", "run_cancelled")
    return [
        line["event"] for line in project.journal() if line["pid"] == pid and line["event"] in ends
    ]


class TestStopped:
    """A stopped leader keeps its lock."""

    def test_at_the_deadline_nothing_has_changed(
        self, project: Project, gate: Path, leader: Forked, command: Command
    ) -> None:
        """Waiters fail with `LockTimeout`, which names the holder; the leader can go on."""
        leader.send(signal.SIGSTOP)

        ended = command("run", "--lock-timeout", "0.5")

        assert ended.code == 3, ended.stderr
        error = ended.json["error"]
        assert error["type"] == "LockTimeout"
        assert f"pid {leader.pid}" in error["message"]
        assert "at revision r2" in error["message"]
        assert "Nothing was changed" in error["message"]
        assert ended.json["waited_seconds"] >= 0.5
        (told, *_) = [line for line in project.journal() if line["event"] == "lock_waiting"]
        assert told["holder"]["pid"] == leader.pid
        assert tables(project) == set()

        gate.touch()
        leader.send(signal.SIGCONT)
        done = leader.finish()
        assert (done.code, done.json["versions"]) == (0, ["r2"]), done.stderr

    def test_status_shows_who_holds_it(
        self, project: Project, leader: Forked, command: Command
    ) -> None:
        """Alive or stopped it is shown; dead, the lock is free, whatever the record claims."""
        for number in (signal.SIGCONT, signal.SIGSTOP):
            leader.send(number)
            lock = command("status").json["lock"]
            assert (lock["held"], lock["holder"]["pid"]) == (True, leader.pid)
        leader.kill()
        record = json.loads((project.state / "run.json").read_text())
        assert (record["outcome"], record["holder"]["pid"]) == (None, leader.pid)
        lock = command("status").json["lock"]
        assert (lock["held"], lock["holder"]) == (False, None)

    def test_a_pid_that_was_reused(
        self, project: Project, gate: Path, leader: Forked, command: Command
    ) -> None:
        """That somebody lives who has the holder's pid does not make the lock held."""
        leader.kill()
        path = project.state / "run.json"
        record = json.loads(path.read_text())
        record["holder"]["pid"] = os.getpid()
        path.write_text(json.dumps(record))

        assert command("status").json["lock"] == {"held": False, "holder": None}
        gate.touch()
        ended = command("run", "--lock-timeout", "0")
        assert ended.code == 0, ended.stderr


class TestKilled:
    """A dead leader is replaced."""

    def test_the_next_takes_over(
        self, project: Project, gate: Path, leader: Forked, zygote: Zygote
    ) -> None:
        """All of the work is done, by the one that waited."""
        [waiter] = zygote.start(project, "run", "--json")
        soon(lambda: waiter.pid in waiting(project), "it waits")
        leader.send(signal.SIGKILL)
        gate.touch()
        ended = waiter.finish()
        assert ended.code == 0, ended.stderr
        assert [one["revision"] for one in ended.json["applied"]] == ["r1", "r2"]
        assert tables(project) == {"one", "two", "alembic_version"}


class TestToldToEnd:
    """SIGTERM and SIGINT."""

    @pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
    def test_a_waiter(
        self, project: Project, leader: Forked, zygote: Zygote, number: signal.Signals
    ) -> None:
        """It ends at once, with 128 + the signal, one terminal event, and holds nothing."""
        [waiter] = zygote.start(project, "run", "--json")
        soon(lambda: waiter.pid in waiting(project), "it waits")
        waiter.send(number)
        ended = waiter.finish()
        assert ended.code == 128 + number, ended.stderr
        assert ended.json["outcome"] == "cancelled"
        assert terminal(project, waiter.pid) == ["run_cancelled"]
        assert leader.runs

    def test_in_its_first_instant(self, project: Project, zygote: Zygote) -> None:
        """A run that was told to begin is told to end, too: from its very first event."""
        project.chain(1)
        prelude = project.write(
            "prelude.py",
            """
            import os, signal
            from orchestrator.journal.writer import Journal

            write = Journal.__call__

            def write_and_end(self, event):
                write(self, event)
                if type(event).__name__ == "RunStarted":
                    os.kill(os.getpid(), signal.SIGTERM)

            Journal.__call__ = write_and_end
            """,
        )
        [process] = zygote.start(project, "run", "--json", prelude=prelude)
        ended = process.finish()
        assert (ended.code, ended.json["outcome"]) == (143, "cancelled"), ended.stderr
        assert terminal(project, process.pid) == ["run_cancelled"]

    def test_a_leader(self, project: Project, gate: Path, leader: Forked) -> None:
        """It finishes the revision it is at. After the last one that is the end: ready."""
        leader.send(signal.SIGTERM)
        gate.touch()
        ended = leader.finish()
        assert (ended.code, ended.json["outcome"]) == (0, "ready"), ended.stderr
        assert terminal(project, leader.pid) == ["database_ready"]

    def test_a_leader_with_more_to_do(
        self,
        project: Project,
        gate: Path,
        request: pytest.FixtureRequest,
        command: Command,
    ) -> None:
        """What has run is kept; the rest is left to the next, who finds the lock free."""
        project.revision("r3", "r2")
        leader: Forked = request.getfixturevalue("leader")
        leader.send(signal.SIGTERM)
        soon(lambda: _told(leader), "it was told")
        gate.touch()
        ended = leader.finish()
        assert (ended.code, ended.json["outcome"]) == (143, "cancelled"), ended.stderr
        assert ended.json["versions"] == ["r2"]
        assert [one["revision"] for one in ended.json["applied"]] == ["r1", "r2"]
        assert terminal(project, leader.pid) == ["run_cancelled"]
        again = command("run", "--lock-timeout", "0")
        assert [one["revision"] for one in again.json["applied"]] == ["r3"]

    @pytest.mark.parametrize("second", [signal.SIGTERM, signal.SIGINT])
    def test_twice(
        self,
        project: Project,
        gate: Path,
        leader: Forked,
        second: signal.Signals,
        command: Command,
    ) -> None:
        """The second signal ends the process at once, and the database is as it was."""
        leader.send(signal.SIGTERM)
        soon(lambda: _told(leader), "it was told")
        leader.send(second)
        assert leader.finish().code == 128 + second
        assert tables(project) == set()
        gate.touch()
        ended = command("run", "--lock-timeout", "0")
        assert (ended.code, ended.json["versions"]) == (0, ["r2"]), ended.stderr


def _told(process: Forked) -> bool:
    return "Once more stops at once" in process.stderr
