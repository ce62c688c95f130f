"""One failure is one failure: a migration that raises is tried once for all who wait for it."""

from __future__ import annotations

import json
import shutil
import sqlite3
import time
from collections.abc import Callable
from pathlib import Path

from tests.projects import Finished, Project
from tests.zygote import Zygote

WAITERS = 15
DEADLINE_SECONDS = 60.0


def soon(condition: Callable[[], object], what: str) -> None:
    deadline = time.monotonic() + DEADLINE_SECONDS
    while not condition():
        assert time.monotonic() < deadline, what
        time.sleep(0.01)


def failing(project: Project, *, waiters: int) -> Path:
    """A revision that writes down each attempt, and raises when so many wait for the first."""
    attempts = project.path / "attempts"
    project.revision("r1", None)
    project.revision(
        "r2",
        "r1",
        f"""
        import json, os, pathlib
        op.create_table("half", sa.Column("id", sa.Integer, primary_key=True))
        attempts = pathlib.Path({str(attempts)!r})
        with attempts.open("a") as file:
            print(os.getpid(), file=file)
        deadline = time.monotonic() + {DEADLINE_SECONDS}
        while len(attempts.read_text().split()) == 1 and time.monotonic() < deadline:
            whole = pathlib.Path({str(project.state / "journal.jsonl")!r}).read_bytes()
            lines = [line for line in whole.rpartition(b"\\n")[0].split(b"\\n") if line]
            events = [json.loads(line) for line in lines]
            waiting = {{event["pid"] for event in events if event["event"] == "lock_waiting"}}
            if len(waiting) >= {waiters}:
                break
            time.sleep(0.01)
        raise RuntimeError("no such luck")
        """,
    )
    return attempts


def pids(attempts: Path) -> list[int]:
    return [int(line) for line in attempts.read_text().split()]


def errors(ended: list[Finished]) -> list[str]:
    return sorted(one.json["error"]["type"] for one in ended)


def test_sixteen_processes_and_one_attempt(project: Project, zygote: Zygote) -> None:
    """15 fail with the leader's error, revision, host and pid; a start afterwards tries again."""
    attempts = failing(project, waiters=WAITERS)

    ended = zygote.run(project, "run", "--json", processes=WAITERS + 1)

    (leader,) = pids(attempts)
    assert {one.code for one in ended} == {1}
    assert errors(ended) == ["PeerFailed"] * WAITERS + ["TaskFailed"]
    record = json.loads((project.state / "run.json").read_text())
    assert (record["outcome"], record["holder"]["pid"]) == ("failed", leader)
    assert record["holder"]["revision"] == "r2"
    for one in ended:
        error = one.json["error"]
        assert "no such luck" in error["message"]
        if error["type"] == "PeerFailed":
            assert f"{record['holder']['host']} pid {leader}" in error["message"]
            assert "revision r2" in error["message"]
            assert one.json["led"] is False
    connection = sqlite3.connect(project.database)
    assert connection.execute("SELECT * FROM sqlite_master").fetchall() == []
    connection.close()

    (again,) = zygote.run(project, "run", "--json", processes=1)

    assert again.json["error"]["type"] == "TaskFailed"
    assert len(pids(attempts)) == 2


def test_each_tries_for_itself(project: Project, zygote: Zygote) -> None:
    """With `on_peer_failure = "retry"` there are as many attempts as processes."""
    attempts = failing(project, waiters=3)
    project.write("pyproject.toml", '[tool.orchestrator]\non_peer_failure = "retry"\n')

    ended = zygote.run(project, "run", "--json", processes=4)

    assert errors(ended) == ["TaskFailed"] * 4
    assert len(set(pids(attempts))) == 4


def test_another_release_tries_for_itself(project: Project, zygote: Zygote) -> None:
    """Whose scripts differ from the leader's does not fail with it: its own may be sound."""
    attempts = failing(project, waiters=2)
    shutil.copytree(project.path / "migrations", project.path / "newer")
    (project.path / "newer" / "versions" / "r2.py").unlink()
    Project(project.path).revision("r3", "r1")
    shutil.move(project.path / "migrations" / "versions" / "r3.py", project.path / "newer/versions")

    [leader] = zygote.start(project, "run", "--json")
    soon(attempts.exists, "the leader is at work")
    [same] = zygote.start(project, "run", "--json")
    [newer] = zygote.start(project, "run", "--json", ORCHESTRATOR_SCRIPT_LOCATION="newer")

    ended = [process.finish() for process in (leader, same, newer)]
    told = [one.json["error"] and one.json["error"]["type"] for one in ended]
    # The newer one may be at work before the other has looked: then there is nothing to adopt,
    # and a database that has moved on.
    assert told in (["TaskFailed", "PeerFailed", None], ["TaskFailed", "StateRefused", None])
    assert (ended[2].json["led"], ended[2].json["versions"]) == (True, ["r3"])
    assert len(pids(attempts)) == 1
