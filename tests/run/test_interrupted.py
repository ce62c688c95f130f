"""A revision that is half done where changes of tables commit at once: told, and resolved."""

from __future__ import annotations

import pytest

from tests.projects import Finished
from tests.run.test_hosts import soon
from tests.run.test_mariadb import Hosts, hosts  # noqa: F401 - a fixture

HALF = """
op.create_table("half", sa.Column("id", sa.Integer))
op.execute("INSERT INTO half VALUES (1)")
op.execute("SELECT SLEEP({seconds})")
op.create_table("whole", sa.Column("id", sa.Integer))
"""
SLEEPING = "SELECT 1 FROM information_schema.processlist WHERE info = 'SELECT SLEEP(60)'"


def run(hosts: Hosts, *arguments: str, **variables: str) -> Finished:  # noqa: F811
    [started] = hosts.start(*(arguments or ("run",)), "--json", **variables)
    return started.finish()


@pytest.fixture
def killed(hosts: Hosts) -> Hosts:  # noqa: F811
    """One whose leader was killed in the middle of r4."""
    hosts.project.revision("r4", "r3", HALF.format(seconds=60))
    [leader] = hosts.start()
    soon(lambda: hosts.ask(SLEEPING))
    leader.kill()
    soon(lambda: not hosts.ask(SLEEPING) or hosts.ask("SELECT 1"))
    for (number,) in hosts.ask(
        "SELECT id FROM information_schema.processlist WHERE info = 'SELECT SLEEP(60)'"
    ):
        hosts.ask(f"KILL {number}")  # the server would notice at the end of it
    return hosts


def test_is_told_by_the_next_start(killed: Hosts) -> None:
    """On whatever host: which revision, how far, and the ways out; nothing is changed."""
    [other] = killed.start("run", "--json", host=1)
    ended = other.finish()

    assert ended.code == 4, ended.stderr
    message = ended.json["error"]["message"]
    assert "interrupted: the upgrade of r4, begun at" in message
    assert "statement 3 may or may not be done" in message
    assert "orchestrator resolve --applied r4" in message
    assert "orchestrator resolve --rolled-back r4" in message
    assert '`interrupted` = "retry"' in message or "interrupted" in message
    status = run(killed, "status")
    assert status.json["state"] == "interrupted"
    assert not status.json["at_target"]
    assert run(killed, "upgrade").code == 4
    assert run(killed, "downgrade", "r1").code == 4
    assert run(killed, "wait", "--lock-timeout", "0.5").code in (3, 4)


def test_undone_by_hand(killed: Hosts) -> None:
    """The revision runs again, from its beginning."""
    killed.ask("DROP TABLE half")
    ended = run(killed, "resolve", "--rolled-back", "r4")
    assert (ended.code, ended.json["versions"]) == (0, ["r3"]), ended.stderr
    killed.project.revision("r4", "r3", HALF.format(seconds=0))
    ended = run(killed)
    assert (ended.code, ended.json["versions"]) == (0, ["r4"]), ended.stderr
    assert "whole" in {name for (name,) in killed.ask("SHOW TABLES")}
    assert "orchestrator_interrupted" not in {name for (name,) in killed.ask("SHOW TABLES")}
    assert run(killed).json["led"] is False


def test_finished_by_hand(killed: Hosts) -> None:
    """The version rows say so, and the next revision runs."""
    killed.ask("CREATE TABLE whole (id INTEGER)")
    assert run(killed, "resolve", "--applied", "r3").code == 4  # that is another one
    ended = run(killed, "resolve", "--applied", "r4")
    assert (ended.code, ended.json["versions"]) == (0, ["r4"]), ended.stderr
    assert run(killed, "resolve", "--applied", "r4").code == 4  # there is nothing any more
    killed.project.revision("r5", "r4", 'op.execute("INSERT INTO whole VALUES (7)")')
    assert run(killed).json["versions"] == ["r5"]


def test_repeated_where_that_is_allowed(killed: Hosts) -> None:
    """By a setting, for revisions that can be."""
    body = HALF.format(seconds=0).replace(
        'op.create_table("half"', 'op.execute("DROP TABLE IF EXISTS half")\nop.create_table("half"'
    )
    killed.project.revision("r4", "r3", body)
    ended = run(killed, ORCHESTRATOR_INTERRUPTED="retry")
    assert (ended.code, ended.json["versions"]) == (0, ["r4"]), ended.stderr
    assert run(killed, "status").json["state"] == "current"


def test_a_failure_says_what_was_done(hosts: Hosts) -> None:  # noqa: F811
    """And the ways out; the next start refuses, instead of failing otherwise."""
    hosts.project.revision("r4", "r3", f"{HALF.format(seconds=0)}\nop.execute('nonsense')")

    failed = run(hosts)

    assert failed.code == 1, failed.stderr
    message = failed.json["error"]["message"]
    assert "At statement 5 of it: nonsense; the 4 before it were done" in message
    assert "orchestrator resolve --applied r4" in message
    assert "as it was before" not in message
    assert run(hosts).code == 4


def test_a_failure_that_is_whole_leaves_no_mark(hosts: Hosts) -> None:  # noqa: F811
    """Where nothing was committed before it: the revision can be mended, and runs."""
    hosts.project.revision(
        "r4", "r3", "op.execute('INSERT INTO counted VALUES (9)')\nop.execute('x')"
    )
    assert run(hosts).code == 1
    assert hosts.ask("SELECT count(*) FROM counted") == [(1,)]
    hosts.project.revision("r4", "r3", "op.execute('INSERT INTO counted VALUES (9)')")
    assert run(hosts).json["versions"] == ["r4"]


def test_an_interrupted_downgrade(hosts: Hosts) -> None:  # noqa: F811
    """Its version row still says head: it is not current all the same, nor at a warm start."""
    hosts.project.revision(
        "r4",
        "r3",
        'op.create_table("t", sa.Column("id", sa.Integer))',
        'op.drop_table("t")\nop.execute("SELECT SLEEP(60)")',
    )
    assert run(hosts).code == 0
    assert run(hosts).json["led"] is False
    [leader] = hosts.start("downgrade", "r3", "--json")
    soon(lambda: hosts.ask(SLEEPING))
    leader.kill()
    ended = run(hosts)
    assert ended.code == 4, ended.stdout
    assert "the downgrade of r4" in ended.json["error"]["message"]
    hosts.ask("CREATE TABLE t (id INTEGER)")
    assert run(hosts, "resolve", "--rolled-back", "r4").json["versions"] == ["r4"]
    assert run(hosts).code == 0


def test_a_first_statement_that_is_refused_leaves_no_mark(hosts: Hosts) -> None:  # noqa: F811
    """Nothing is done: the revision can be mended, and runs."""
    hosts.project.revision("r4", "r3", "op.execute('ALTER TABLE nowhere ADD COLUMN n INTEGER')")
    assert run(hosts).code == 1
    assert run(hosts).code == 1
    hosts.project.revision("r4", "r3", "op.execute('ALTER TABLE counted ADD COLUMN m INTEGER')")
    assert run(hosts).json["versions"] == ["r4"]


def test_a_table_that_others_read_is_waited_for(hosts: Hosts) -> None:  # noqa: F811
    """The first statement of a revision is tried again, and nobody queues behind it for long."""
    assert run(hosts).code == 0
    hosts.project.revision("r4", "r3", "op.execute('ALTER TABLE counted ADD COLUMN m INTEGER')")
    reader = hosts.server.connect(hosts.name)
    reader.begin()
    with reader.cursor() as cursor:
        cursor.execute("SELECT n FROM counted")
    [leader] = hosts.start(ORCHESTRATOR_DDL_LOCK_TIMEOUT_SECONDS="1")
    soon(lambda: len(hosts.journal(0, "ddl_blocked")) >= 2)
    reader.rollback()
    reader.close()
    ended = leader.finish()

    assert (ended.code, ended.json["versions"]) == (0, ["r4"]), ended.stderr
    assert (
        hosts.journal(0, "ddl_blocked")[0]["statement"]
        == "ALTER TABLE counted ADD COLUMN m INTEGER"
    )
    assert run(hosts, "status").json["state"] == "current"
