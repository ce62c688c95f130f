"""One failure is one failure: a migration that raises is tried once for all who wait for it."""

from __future__ import annotations

import json
import shutil
import sqlite3
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest

from tests.projects import Finished, Project
from tests.zygote import Forked, Zygote

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


def tables(project: Project) -> list[str]:
    """The names of all tables."""
    with closing(sqlite3.connect(project.database)) as connection:
        return [row[0] for row in connection.execute("SELECT name FROM sqlite_master")]


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
    assert tables(project) == []

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


HELD_BACK = f"""
import json, os, time
from pathlib import Path
from orchestrator.host.publication import Publication

first_write = Publication.__init__

def when_all_wait(self, *args, **kwargs):
    first_write(self, *args, **kwargs)
    deadline = time.monotonic() + {DEADLINE_SECONDS}
    waiting = set()
    while len(waiting) < int(os.environ["WAITERS"]) and time.monotonic() < deadline:
        whole = Path(os.environ["JOURNAL"]).read_bytes().rpartition(b"\\n")[0]
        events = [json.loads(line) for line in whole.split(b"\\n") if line]
        waiting = {{one["pid"] for one in events if one["event"] == "lock_waiting"}}
        time.sleep(0.01)

Publication.__init__ = when_all_wait
"""
"""Makes whoever leads begin when all others wait: what fails at once fails too early else."""


def held_back(
    project: Project, zygote: Zygote, *arguments: str, processes: int = 1, waiters: int
) -> list[Forked]:
    return zygote.start(
        project,
        *arguments,
        processes=processes,
        prelude=project.write("prelude.py", HELD_BACK),
        # The same for all: the environment is a part of what is compared.
        WAITERS=str(waiters),
        JOURNAL=str(project.state / "journal.jsonl"),
    )


TRIED = "import os\nwith open('tries', 'a') as tries:\n    print(os.getpid(), file=tries)\n"

BROKEN: dict[str, tuple[str, str]] = {
    "env.py raises": ("migrations/env.py", TRIED + "raise KeyError('no such luck')"),
    "env.py is no Python": ("migrations/env.py", "no such luck"),
    "env.py ends the process": ("migrations/env.py", TRIED + "raise SystemExit('no such luck')"),
    "env.py imports what is not there": ("migrations/env.py", TRIED + "import no_such_luck"),
    "env.py migrates nothing": ("migrations/env.py", TRIED),
    "a revision raises": ("migrations/versions/r2.py", TRIED + "raise KeyError('no such luck')"),
    "a revision is no Python": ("migrations/versions/r2.py", "no such luck"),
    "a revision has no parent": (
        "migrations/versions/r2.py",
        TRIED + "revision, down_revision = 'r2', 'no such luck'",
    ),
}


@pytest.mark.parametrize("broken", BROKEN)
def test_a_broken_script_is_tried_once(project: Project, zygote: Zygote, broken: str) -> None:
    """Also where it fails before any revision runs: env.py, or the loading of the revisions."""
    project.chain(1)
    name, text = BROKEN[broken]
    project.write(name, text)

    started = held_back(project, zygote, "run", "--json", processes=8, waiters=7)
    ended = [process.finish() for process in started]

    assert errors(ended) == ["ConfigurationError"] + ["PeerFailed"] * 7
    failed = [line["error"] for line in project.journal() if line["event"] == "run_failed"]
    assert sorted(failed) == errors(ended)
    for one in ended:
        assert name in one.json["error"]["message"]
        assert "Traceback" not in one.stderr
    if TRIED in text:
        assert len(pids(project.path / "tries")) == 1
    assert not project.database.exists() or tables(project) == []


CORRECTED: dict[str, tuple[str, ...]] = {
    "bootstrap": ("--bootstrap", "create"),
    "x_args": ("--x-arg", "sound=yes"),
}


@pytest.mark.parametrize("setting", CORRECTED)
def test_a_corrected_setting_is_tried(project: Project, zygote: Zygote, setting: str) -> None:
    """Who waits with the old settings fails with the leader, and who has corrected one does not."""
    project.write(
        "models.py",
        """
        import sqlalchemy as sa

        metadata = sa.MetaData()
        sa.Table("notes", metadata, sa.Column("id", sa.Integer, primary_key=True))
        """,
    )
    attempts = project.path / "attempts"
    project.revision(
        "r1",
        None,
        f"""
        import os
        from alembic import context
        with open({str(attempts)!r}, "a") as file:
            print(os.getpid(), file=file)
        if not context.get_x_argument():
            op.add_column("notes", sa.Column("text", sa.Text))
        """,
    )
    journal = project.state / "journal.jsonl"

    [leader] = held_back(project, zygote, "run", "--json", waiters=2)
    soon(lambda: journal.exists() and b"lock_acquired" in journal.read_bytes(), "it leads")
    [same] = held_back(project, zygote, "run", "--json", waiters=2)
    [corrected] = held_back(project, zygote, "run", "--json", *CORRECTED[setting], waiters=2)
    ended = [process.finish() for process in (leader, same, corrected)]

    told = [one.json["error"] and one.json["error"]["type"] for one in ended]
    # The corrected one may be done before the other has looked at how the leader ended.
    assert told in (["TaskFailed", "PeerFailed", None], ["TaskFailed", None, None])
    assert (ended[2].json["outcome"], ended[2].json["led"]) == ("ready", True)


NOT_OF_THE_SCRIPTS: dict[str, tuple[str, str, tuple[str, ...]]] = {
    "a server that is not there": ("ConfigurationError", "raise ConnectionRefusedError", ()),
    "no file where env.py looks": ("ConfigurationError", "open('no such file')", ()),
    "a database that cannot be opened": (
        "DatabaseUnavailable",
        "import sqlalchemy; sqlalchemy.create_engine('sqlite:////no/such').connect()",
        (),
    ),
    "a setting of ours": (
        "ConfigurationError",
        "from orchestrator import Settings; Settings(mode='no')",
        (),
    ),
    "a target that is not there": ("ConfigurationError", "", ("--target", "no_such")),
}


@pytest.mark.parametrize("case", NOT_OF_THE_SCRIPTS)
def test_what_is_not_of_the_scripts_is_nobody_elses(project: Project, case: str) -> None:
    """Connections, files, settings: they may be otherwise for the next one, who tries."""
    error, text, arguments = NOT_OF_THE_SCRIPTS[case]
    project.chain(1)
    env_py = project.path / "migrations/env.py"
    env_py.write_text(f"{text}\n{env_py.read_text()}")

    ended = project.run("run", "--json", *arguments)

    assert ended.json["error"]["type"] == error
    record = json.loads((project.state / "run.json").read_text())
    assert (record["outcome"], record["scripts_failed"]) == ("failed", False)


def test_a_failure_of_each_ones_own(project: Project, zygote: Zygote) -> None:
    """Where a connection is refused, everybody who waits tries for himself."""
    project.chain(1)
    project.write("migrations/env.py", TRIED + "raise ConnectionRefusedError('no such luck')")

    started = held_back(project, zygote, "run", "--json", processes=3, waiters=2)
    ended = [process.finish() for process in started]

    assert errors(ended) == ["ConfigurationError"] * 3
    assert len(set(pids(project.path / "tries"))) == 3
