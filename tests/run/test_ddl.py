"""Statements that need a table to themselves, on a server where others use it."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import anyio
import psycopg
import pytest

from orchestrator import DatabaseUnavailable, Orchestrator, Settings, TaskFailed
from orchestrator.events import DdlBlocked, Event, RevisionApplied, RevisionStarted
from orchestrator.revisions.transactions.postgresql_ddl import is_ddl
from tests.projects import Project, make_project
from tests.run.test_hosts import ENV_PY
from tests.servers.postgresql import shared_postgresql

MAKES = 'op.create_table("t", sa.Column("id", sa.Integer))\nop.execute("INSERT INTO t VALUES (7)")'
ALTERS = 'op.add_column("t", sa.Column("name", sa.Text))'


class Blocking:
    """A project at r1 on a server, and a connection that reads its table in a transaction."""

    def __init__(self, project: Project, name: str) -> None:
        server = shared_postgresql()
        self.project = project
        self.url = server.url(name)
        self.conninfo = f"{server.conninfo(name)} application_name=report"
        self.reader = psycopg.connect(self.conninfo)
        self.events: list[Event] = []
        self.at_event: Any = lambda _: None

    def orchestrator(self, **settings: Any) -> Orchestrator:
        given = {
            "database_url": self.url,
            "script_location": str(self.project.path / "migrations"),
            "ddl_lock_timeout_seconds": 0.2,
            "log": "off",
            **settings,
        }
        return Orchestrator(Settings(**given), sinks=[self._take])

    def run(self, **settings: Any) -> Any:
        return anyio.run(self.orchestrator(**settings).run)

    def read(self) -> None:
        self.reader.execute("SELECT id FROM t WHERE id = 7")

    def of(self, kind: type[Event]) -> list[Any]:
        return [event for event in self.events if isinstance(event, kind)]

    def _take(self, event: Event) -> None:
        self.events.append(event)
        self.at_event(event)


@pytest.fixture(params=[False, True], ids=["one transaction", "each its own"])
def blocking(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Blocking]:
    project = make_project(tmp_path)
    project.write("migrations/env.py", ENV_PY.format(each=request.param))
    project.revision("r1", None, MAKES)
    with shared_postgresql().database() as name:
        made = Blocking(project, name)
        made.run()
        made.events.clear()
        yield made
        made.reader.close()


def test_is_tried_again_until_the_table_is_free(blocking: Blocking) -> None:
    """Each try is an event that names who is in the way, without what stands in its query."""
    blocking.project.revision("r2", "r1", "op.execute('UPDATE t SET id = 8')")
    blocking.project.revision("r3", "r2", ALTERS)
    blocking.read()

    def let_go(event: Event) -> None:
        if isinstance(event, DdlBlocked) and event.attempt == 2:
            blocking.reader.rollback()

    blocking.at_event = let_go
    report = blocking.run(ddl_lock_timeout_seconds=1)

    assert (report.led, report.versions) == (True, ("r3",))
    assert [one.revision for one in report.applied] == ["r2", "r3"]
    tries = blocking.of(DdlBlocked)
    assert [event.attempt for event in tries] == [1, 2]
    assert (tries[0].task, tries[0].revision) == ("upgrade", "r3")
    assert tries[0].statement == "ALTER TABLE t ADD COLUMN name TEXT"
    [by] = tries[0].blockers
    assert by.pid == blocking.reader.info.backend_pid
    assert (by.application, by.state) == ("report", "idle in transaction")
    assert by.query == "SELECT id FROM t WHERE id = ?"


def test_readers_do_not_wait_behind_it(blocking: Blocking) -> None:
    """While a migration waits for a long reader, others read: at most for one try's limit."""
    blocking.project.revision("r2", "r1", ALTERS)
    blocking.read()
    blocked, done = threading.Event(), threading.Event()
    waits: list[float] = []

    def read_on() -> None:
        with psycopg.connect(blocking.conninfo, autocommit=True) as other:
            while not done.is_set():
                began = time.monotonic()
                other.execute("SELECT count(*) FROM t")
                waits.append(time.monotonic() - began)
                time.sleep(0.005)

    def take(event: Event) -> None:
        if isinstance(event, DdlBlocked) and event.attempt == 3:
            blocked.set()
            blocking.reader.rollback()

    blocking.at_event = take
    thread = threading.Thread(target=read_on)
    thread.start()
    try:
        blocking.run()
    finally:
        done.set()
        thread.join()
    assert blocked.is_set()
    assert len(waits) > 10  # it got through between the tries


def test_gives_up_in_words(blocking: Blocking) -> None:
    """Exit code 5, who was in the way, what to set; all is as it was, or what is kept is said."""
    blocking.project.revision("r2", "r1", ALTERS)
    blocking.read()

    with pytest.raises(DatabaseUnavailable) as raised:
        blocking.run(ddl_lock_timeout_seconds=1, ddl_retry_seconds=1)

    message = str(raised.value)
    assert raised.value.busy
    assert "ALTER TABLE t ADD COLUMN name TEXT" in message
    assert f"session {blocking.reader.info.backend_pid}" in message
    assert "`ddl_retry_seconds`" in message
    assert "Nothing was changed" in message
    assert raised.value.applied == ()
    blocking.reader.rollback()
    assert blocking.run().led


def test_what_was_kept_before_counts(blocking: Blocking) -> None:
    """With a transaction a revision, those before the blocked one are kept, and listed."""
    blocking.project.revision("r2", "r1", "op.execute('UPDATE t SET id = 8')")
    blocking.project.revision("r3", "r2", ALTERS)
    blocking.read()

    with pytest.raises(DatabaseUnavailable) as raised:
        blocking.run(ddl_retry_seconds=0.5)

    kept = [one.revision for one in raised.value.applied]
    assert kept in ([], ["r2"])
    assert ("Nothing was changed" in str(raised.value)) is not bool(kept)


def test_not_after_an_autocommit_block(blocking: Blocking) -> None:
    """What ran in it is kept: to do all again would do it twice."""
    blocking.project.revision(
        "r2",
        "r1",
        "with op.get_context().autocommit_block():\n"
        "    op.execute('INSERT INTO t VALUES (9)')\n"
        f"{ALTERS}",
    )
    blocking.read()

    with pytest.raises(TaskFailed, match="Others hold the table"):
        blocking.run()

    assert blocking.of(DdlBlocked) == []
    blocking.reader.rollback()
    assert blocking.reader.execute("SELECT count(*) FROM t WHERE id = 9").fetchone() == (1,)


def test_no_limit_in_an_autocommit_block(blocking: Blocking) -> None:
    """An index that is built concurrently waits by design; a limit would leave it invalid."""
    blocking.project.revision(
        "r2",
        "r1",
        "with op.get_context().autocommit_block():\n"
        "    op.execute('CREATE INDEX CONCURRENTLY i ON t (id)')",
    )
    # It waits for those who could still use the old state of the table.
    blocking.reader.execute("UPDATE t SET id = 7")

    def let_go() -> None:
        time.sleep(1)
        blocking.reader.rollback()

    thread = threading.Thread(target=let_go)

    def take(event: Event) -> None:
        if isinstance(event, RevisionStarted):
            thread.start()

    blocking.at_event = take
    assert blocking.run().versions == ("r2",)
    thread.join()


@pytest.mark.parametrize("of", ["the role", "the revision"])
def test_a_limit_of_somebody_else_wins(blocking: Blocking, of: str) -> None:
    """One that is set for the database, in env.py or in a revision is left as it is."""
    sets = "op.execute(\"SET LOCAL lock_timeout = '50ms'\")\n" if of == "the revision" else ""
    blocking.project.revision("r2", "r1", sets + ALTERS)
    if of == "the role":
        name = blocking.url.rpartition("/")[2]
        with psycopg.connect(blocking.conninfo, autocommit=True) as other:
            other.execute(f"ALTER DATABASE {name} SET lock_timeout = '50ms'")
    blocking.read()

    began = time.monotonic()
    with pytest.raises(TaskFailed, match="lock timeout"):
        blocking.run(ddl_lock_timeout_seconds=30)
    assert time.monotonic() - began < 20


@pytest.mark.parametrize("of", ["the database", "env.py", "the revision"])
def test_no_limit_of_somebody_else_wins(blocking: Blocking, of: str) -> None:
    """Who has said that it waits as long as it takes is taken at his word."""
    sets = 'op.execute("SET LOCAL lock_timeout = 0")\n' if of == "the revision" else ""
    blocking.project.revision("r2", "r1", sets + ALTERS)
    with psycopg.connect(blocking.conninfo, autocommit=True) as other:
        if of == "the database":
            name = blocking.url.rpartition("/")[2]
            other.execute(f"ALTER DATABASE {name} SET lock_timeout = 0")
    if of == "env.py":
        env = blocking.project.path / "migrations" / "env.py"
        first = "connection.exec_driver_sql('SET lock_timeout = 0'); connection.commit()"
        changed = env.read_text().replace(
            "context.configure(", f"{first}\n    context.configure(", 1
        )
        assert first in changed
        env.write_text(changed)
    blocking.read()
    timer = threading.Timer(1.0, blocking.reader.rollback)
    timer.start()

    assert blocking.run().led
    assert blocking.of(DdlBlocked) == []
    timer.join()


def test_none_waits_as_stock_alembic_does(blocking: Blocking) -> None:
    """With 0 there is no limit, and no try but the one."""
    blocking.project.revision("r2", "r1", ALTERS)
    blocking.read()

    def let_go() -> None:
        time.sleep(0.7)
        blocking.reader.rollback()

    thread = threading.Thread(target=let_go)
    thread.start()
    assert blocking.run(ddl_lock_timeout_seconds=0).led
    thread.join()
    assert blocking.of(DdlBlocked) == []


def test_dml_waits_as_long_as_it_takes(blocking: Blocking) -> None:
    """Also after a statement that was limited."""
    blocking.project.revision(
        "r2", "r1", "op.execute('CREATE TABLE other (id INT)')\nop.execute('UPDATE t SET id = 9')"
    )
    blocking.reader.execute("UPDATE t SET id = 8")

    def let_go() -> None:
        time.sleep(0.7)
        blocking.reader.rollback()

    thread = threading.Thread(target=let_go)
    thread.start()
    assert blocking.run().led
    thread.join()
    assert blocking.of(DdlBlocked) == []


def test_those_who_wait_are_told(blocking: Blocking) -> None:
    """The record says who keeps the leader out, and so does whoever waits for it."""
    blocking.project.revision("r2", "r1", ALTERS)
    blocking.read()
    told: list[str] = []

    async def both() -> None:
        async with blocking.orchestrator().start() as leader:
            await leader.wait_for(DdlBlocked)
            async with blocking.orchestrator(lock_timeout_seconds=60).start() as waiter:
                async for event in waiter.events():
                    holder = getattr(event, "holder", None)
                    if holder is not None and holder.blocked_by is not None:
                        told.append(holder.blocked_by)
                        blocking.reader.rollback()
            await leader.wait_for(RevisionApplied)

    anyio.run(both)
    assert f"session {blocking.reader.info.backend_pid}" in told[0]


def test_cancelled_between_two_tries(blocking: Blocking) -> None:
    """It ends at once, and nothing is kept of what was tried."""
    blocking.project.revision("r2", "r1", ALTERS)
    blocking.read()

    async def run() -> str:
        async with blocking.orchestrator().start() as run:
            await run.wait_for(DdlBlocked)
            run.cancel()
            return (await run.result()).outcome

    assert anyio.run(run) == "cancelled"
    blocking.reader.rollback()
    assert blocking.run().applied[0].revision == "r2"


def test_an_error_in_a_savepoint_is_the_revisions_own(blocking: Blocking) -> None:
    """What may fail, and is rolled back to its savepoint, stops nothing; the limit goes on."""
    blocking.project.revision(
        "r2",
        "r1",
        "for column in ('id', 'name', 'id'):\n"
        "    try:\n"
        "        with op.get_bind().begin_nested():\n"
        "            op.add_column('t', sa.Column(column, sa.Text))\n"
        "    except sa.exc.ProgrammingError:\n"
        "        pass",
    )
    assert blocking.run().versions == ("r2",)


def test_what_a_revision_keeps_to_itself_is_tried_again(blocking: Blocking) -> None:
    """Without the limit it would have waited: nothing is skipped for the limit's sake."""
    blocking.project.revision(
        "r2",
        "r1",
        "try:\n"
        "    with op.get_bind().begin_nested():\n"
        f"        {ALTERS}\n"
        "except sa.exc.DBAPIError:\n"
        "    pass",
    )
    blocking.read()

    def let_go(event: Event) -> None:
        if isinstance(event, DdlBlocked):
            blocking.reader.rollback()

    blocking.at_event = let_go
    assert blocking.run().versions == ("r2",)
    assert len(blocking.of(DdlBlocked)) == 1
    columns = (
        "SELECT 1 FROM information_schema.columns WHERE table_name = 't' AND column_name = 'name'"
    )
    assert blocking.reader.execute(columns).fetchall() == [(1,)]


def test_a_commit_by_a_statement_divides_its_revision(blocking: Blocking) -> None:
    """What it committed is not done again, and nobody calls it undone."""
    blocking.project.revision(
        "r2", "r1", f"op.execute('INSERT INTO t VALUES (9)')\nop.execute('COMMIT')\n{ALTERS}"
    )
    blocking.read()

    with pytest.raises(TaskFailed) as raised:
        blocking.run()

    assert not raised.value.rolled_back
    assert "as it was before" not in str(raised.value)
    assert blocking.of(DdlBlocked) == []
    blocking.reader.rollback()
    assert blocking.reader.execute("SELECT count(*) FROM t WHERE id = 9").fetchone() == (1,)


def test_alembics_own_statement_is_tried_again(blocking: Blocking) -> None:
    """Others hold the version row, after a revision that ended with a limited statement."""
    blocking.project.revision("r2", "r1", "op.execute('CREATE TABLE other (id INT)')")
    blocking.reader.execute("UPDATE alembic_version SET version_num = version_num")

    def let_go(event: Event) -> None:
        if isinstance(event, DdlBlocked):
            blocking.reader.rollback()

    blocking.at_event = let_go
    timer = threading.Timer(3, blocking.reader.rollback)
    timer.start()
    assert blocking.run().versions == ("r2",)
    timer.cancel()


@pytest.mark.parametrize("blocking", [True], indirect=True)
def test_a_relative_target_means_what_it_did(blocking: Blocking) -> None:
    """Where a part of the work is kept, `-2` would now mean more."""
    for number in (2, 3, 4):
        blocking.project.revision(f"r{number}", f"r{number - 1}")
    blocking.run()
    with psycopg.connect(blocking.conninfo) as other:
        other.execute("SELECT * FROM t_r3")
        orchestrator = blocking.orchestrator(ddl_retry_seconds=30)
        with pytest.raises(DatabaseUnavailable, match="name the revision itself"):
            anyio.run(orchestrator.downgrade, "-2")
    assert blocking.reader.execute("SELECT version_num FROM alembic_version").fetchall() == [
        ("r3",)
    ]


def test_a_constraint_that_fails_at_the_commit(blocking: Blocking) -> None:
    """It is the migration that failed; whether it is kept is looked at."""
    blocking.project.revision(
        "r2",
        "r1",
        "op.execute('CREATE TABLE p (id INT PRIMARY KEY)')\n"
        "op.execute('CREATE TABLE c (p INT REFERENCES p DEFERRABLE INITIALLY DEFERRED)')\n"
        "op.execute('INSERT INTO c VALUES (1)')",
    )

    with pytest.raises(TaskFailed, match="as it was before") as raised:
        blocking.run()

    assert raised.value.rolled_back
    found = blocking.reader.execute("SELECT version_num FROM alembic_version").fetchall()
    assert found == [("r1",)]


@pytest.mark.parametrize(
    ("statement", "wanted"),
    [
        ("alter table t add c int", True),
        ("\n  -- why\n /* and how */ ; DROP TABLE t", True),
        ("TRUNCATE t", True),
        ("CREATE UNIQUE INDEX i ON t (id)", True),
        ("SELECT 'ALTER TABLE'", False),
        ("UPDATE t SET c = 'DROP'", False),
        ("WITH a AS (SELECT 1) SELECT 1", False),
        ("", False),
        ("'", False),
    ],
)
def test_which_statements_are_limited(statement: str, wanted: bool) -> None:
    """Told by their first words."""
    assert is_ddl(statement) is wanted
