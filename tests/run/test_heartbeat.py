"""Signs of life while a revision runs."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import anyio
import psycopg
import pytest

from orchestrator import Orchestrator, Settings
from orchestrator.databases.blanks import blanked
from orchestrator.events import Event, RevisionRunning
from orchestrator.run import heartbeat
from tests.projects import Project, make_project
from tests.servers.postgresql import shared_postgresql

DEADLINE_SECONDS = 60.0


@pytest.fixture
def project(tmp_path: Path) -> Project:
    """A project whose `env.py` imports nothing of the project: it runs in this process."""
    project = make_project(tmp_path)
    project.write(
        "migrations/env.py",
        "from orchestrator.environment import run_migrations\n\nrun_migrations()\n",
    )
    return project


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Signs ten times a second instead of every ten seconds."""
    make = heartbeat.Heartbeat
    monkeypatch.setattr(
        "orchestrator.run.leader.Heartbeat",
        lambda *given, **named: make(*given, **named, every_seconds=0.1),
    )


def run(project: Project, url: str, *sinks: Callable[[Event], None]) -> None:
    settings = Settings(
        database_url=url, script_location=str(project.path / "migrations"), log="off"
    )
    anyio.run(Orchestrator(settings, sinks=sinks).run)


@pytest.mark.usefixtures("quick")
def test_of_python_code(project: Project) -> None:
    """On a SQLite file, too: how long it runs; there is no statement while Python computes."""
    project.revision("r1", None, "time.sleep(0.5)")
    events: list[Any] = []

    run(project, project.url, events.append)

    signs = [event for event in events if isinstance(event, RevisionRunning)]
    assert signs
    assert {(sign.task, sign.revision, sign.statement) for sign in signs} == {
        ("upgrade", "r1", None)
    }
    spent = [sign.elapsed_seconds for sign in signs]
    assert spent == sorted(spent)
    assert 0.1 <= spent[0] <= DEADLINE_SECONDS
    assert type(events[-1]).__name__ == "DatabaseReady"


@pytest.mark.usefixtures("quick")
def test_of_a_statement(project: Project) -> None:
    """Its beginning, without what stands in its literals."""
    project.revision("r1", None, """op.execute("SELECT pg_sleep(0.6), 'secret'")""")
    events: list[Any] = []

    with shared_postgresql().database() as name:
        run(project, shared_postgresql().url(name), events.append)

    statements = {event.statement for event in events if isinstance(event, RevisionRunning)}
    assert "SELECT pg_sleep(?), ?" in statements


@pytest.mark.usefixtures("quick")
def test_of_an_index(project: Project) -> None:
    """The phase in which the server is with it: here it waits for who writes the table."""
    project.revision(
        "r1",
        None,
        "with op.get_context().autocommit_block():\n"
        "    op.execute('CREATE INDEX CONCURRENTLY i ON held.t (id)')",
    )
    server = shared_postgresql()
    signs: list[RevisionRunning] = []
    with server.database() as name, psycopg.connect(server.conninfo(name)) as other:
        other.execute("CREATE SCHEMA held")
        other.execute("CREATE TABLE held.t AS SELECT 1 AS id")
        other.commit()
        other.execute("UPDATE held.t SET id = 2")
        seen = threading.Event()

        def take(event: Event) -> None:
            if isinstance(event, RevisionRunning) and event.phase:
                signs.append(event)
                seen.set()

        def let_go() -> None:
            seen.wait(DEADLINE_SECONDS)
            other.rollback()

        thread = threading.Thread(target=let_go)
        thread.start()
        run(project, server.url(name), take)
        thread.join()

    assert signs[0].phase == "waiting for writers before build"
    assert signs[0].statement == "CREATE INDEX CONCURRENTLY i ON held.t (id)"


def test_at_most_every_ten_seconds(project: Project) -> None:
    """A short one gives none."""
    project.revision("r1", None, "time.sleep(0.5)")
    events: list[Any] = []

    run(project, project.url, events.append)

    assert not [event for event in events if isinstance(event, RevisionRunning)]


def test_nothing_is_left(project: Project) -> None:
    """The thread has ended with the pass."""
    project.revision("r1", None)

    run(project, project.url)

    deadline = time.monotonic() + DEADLINE_SECONDS
    while any(one.name == "orchestrator-heartbeat" for one in threading.enumerate()):
        assert time.monotonic() < deadline
        time.sleep(0.01)


@pytest.mark.parametrize(
    ("statement", "shown"),
    [
        ("SELECT 'a''b', 1.5e3, -7, $$x$$", "SELECT ?, ?, ?, ?"),
        ("SELECT $tag$ it's $tag$, E'a\\'b'", "SELECT ?, ?"),
        ("INSERT INTO t1 (c2) VALUES ('cut off", "INSERT INTO t1 (c2) VALUES (?"),
        ("SELECT 1 -- 'x'\nFROM /* 'y' */ t", "SELECT ? FROM t"),
        ('SELECT "a1" FROM "t 2"', 'SELECT "a1" FROM "t 2"'),
        ("SELECT '-- no comment' FROM t", "SELECT ? FROM t"),
        ("SELECT 'C:\\' <> 'secret'", "SELECT ? <> ?"),
        ("SELECT \"it's\", 'secret'", 'SELECT "it\'s", ?'),
        ("SELECT $1, u&'secret', x'ff'", "SELECT $1, ?, ?"),
        ("x" * 100, "x" * 79 + "…"),
    ],
)
def test_literals_are_blanked(statement: str, shown: str) -> None:
    """A query is shown without what stands in it: it may be anybody's."""
    assert blanked(statement) == shown
