"""A revision that is half done where changes of tables commit at once: told, and resolved."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.projects import Finished, make_project
from tests.run.test_hosts import soon
from tests.run.test_mariadb import COUNTED, ENV_PY, FENCED, LED, Hosts
from tests.servers.mariadb import shared_mariadb
from tests.zygote import Zygote

HALF = """
op.create_table("half", sa.Column("id", sa.Integer))
op.execute("INSERT INTO half VALUES (1)")
op.execute("SELECT SLEEP({seconds})")
op.create_table("whole", sa.Column("id", sa.Integer))
"""
SLEEPING = "SELECT 1 FROM information_schema.processlist WHERE info = 'SELECT SLEEP(60)'"


@pytest.fixture
def hosts(tmp_path: Path, zygote: Zygote) -> Iterator[Hosts]:
    """Three revisions that take no time."""
    project = make_project(tmp_path)
    project.write("migrations/env.py", ENV_PY)
    project.revision("r1", None, COUNTED)
    project.revision("r2", "r1", "op.execute('UPDATE counted SET n = n * 2')")
    project.revision("r3", "r2", "op.execute('UPDATE counted SET n = n * 2')")
    server = shared_mariadb()
    with server.database() as name:
        yield Hosts(project, server, name, zygote)


def run(hosts: Hosts, *arguments: str, **variables: str) -> Finished:
    [started] = hosts.start(*(arguments or ("run",)), "--json", **variables)
    return started.finish()


@pytest.fixture
def killed(hosts: Hosts) -> Hosts:
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
    assert "statements 2 to 3 may or may not be done, those before them are" in message
    assert killed.ask("SELECT * FROM half") == []
    assert "table half is there; table whole is not there" in message
    assert "orchestrator resolve --applied r4" in message
    assert "orchestrator resolve --rolled-back r4" in message
    assert '`interrupted` = "retry"' in message or "interrupted" in message
    status = run(killed, "status")
    assert status.json["state"] == "interrupted"
    assert not status.json["at_target"]
    assert run(killed, "upgrade").code == 4
    assert run(killed, "downgrade", "r1").code == 4
    waited = run(killed, "wait", "--lock-timeout", "0.5")
    assert waited.code == 3
    message = waited.json["error"]["message"]
    assert "it is interrupted in r4, which `orchestrator run` refuses" in message
    assert "orchestrator resolve --applied r4" in message
    assert "--mode migrate" not in message
    [waiting] = killed.start("wait", "--lock-timeout", "0.5")
    assert "waiting for the database: it is interrupted in r4" in waiting.finish().stderr


def test_a_mark_that_was_dropped_is_there_again(hosts: Hosts) -> None:
    """Though nothing comes after the statement that took it away but a kill."""
    begun = hosts.project.path / "begun"
    body = "op.execute('DROP TABLE orchestrator_interrupted')\n"
    body += f"open({str(begun)!r}, 'x').close()\ntime.sleep(60)"
    hosts.project.revision("r4", "r3", body)
    [leader] = hosts.start()
    soon(begun.exists)
    leader.kill()
    assert run(hosts, "status").json["interrupted"]["revision"] == "r4"


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


def test_a_failure_says_what_was_done(hosts: Hosts) -> None:
    """And the ways out; the next start refuses, instead of failing otherwise."""
    hosts.project.revision("r4", "r3", f"{HALF.format(seconds=0)}\nop.execute('nonsense')")

    failed = run(hosts)

    assert failed.code == 1, failed.stderr
    message = failed.json["error"]["message"]
    assert "At statement 5 of it: nonsense; the 4 before it were done" in message
    assert "orchestrator resolve --applied r4" in message
    assert "as it was before" not in message
    assert run(hosts).code == 4


def test_a_failure_that_is_whole_leaves_no_mark(hosts: Hosts) -> None:
    """Where nothing was committed before it: the revision can be mended, and runs."""
    hosts.project.revision(
        "r4", "r3", "op.execute('INSERT INTO counted VALUES (9)')\nop.execute('x')"
    )
    assert run(hosts).code == 1
    assert hosts.ask("SELECT count(*) FROM counted") == [(1,)]
    hosts.project.revision("r4", "r3", "op.execute('INSERT INTO counted VALUES (9)')")
    assert run(hosts).json["versions"] == ["r4"]


def test_an_interrupted_downgrade(hosts: Hosts) -> None:
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


def test_a_first_statement_that_is_refused_leaves_no_mark(hosts: Hosts) -> None:
    """Nothing is done: the revision can be mended, and runs."""
    hosts.project.revision("r4", "r3", "op.execute('ALTER TABLE nowhere ADD COLUMN n INTEGER')")
    assert run(hosts).code == 1
    assert run(hosts).code == 1
    hosts.project.revision("r4", "r3", "op.execute('ALTER TABLE counted ADD COLUMN more INTEGER')")
    assert run(hosts).json["versions"] == ["r4"]


def test_a_table_that_others_read_is_waited_for(hosts: Hosts) -> None:
    """The first statement of a revision is tried again, and nobody queues behind it for long."""
    assert run(hosts).code == 0
    hosts.project.revision("r4", "r3", "op.execute('ALTER TABLE counted ADD COLUMN m INTEGER')")
    reader = hosts.server.connect(hosts.name)
    reader.begin()
    with reader.cursor() as cursor:
        cursor.execute("SELECT n FROM counted")
    number = reader.thread_id()
    [leader] = hosts.start(ORCHESTRATOR_DDL_LOCK_TIMEOUT_SECONDS="1")
    soon(lambda: len(hosts.journal(0, "ddl_blocked")) >= 2)
    reader.rollback()
    reader.close()
    ended = leader.finish()

    assert (ended.code, ended.json["versions"]) == (0, ["r4"]), ended.stderr
    told = hosts.journal(0, "ddl_blocked")[0]
    assert told["statement"] == "ALTER TABLE counted ADD COLUMN m INTEGER"
    assert [(one["pid"], one["user"]) for one in told["blockers"]] == [(number, "root")]
    assert told["blockers"][0]["since"] is not None
    assert run(hosts, "status").json["state"] == "current"


BAD = 'op.execute("nonsense")'
MAKES = 'op.create_table("{}", sa.Column("id", sa.Integer))'


def names(hosts: Hosts) -> set[str]:
    return {name for (name,) in hosts.ask("SHOW TABLES")}


def test_of_a_revision_that_this_release_does_not_have(hosts: Hosts) -> None:
    """An older release neither serves on it nor forgets it."""
    file = hosts.project.revision("r4", "r3", MAKES.format("t"), f'op.drop_table("t")\n{BAD}')
    assert run(hosts).code == 0
    assert run(hosts, "downgrade", "r3").code == 1
    kept = file.read_text()
    file.unlink()
    for arguments in (("run",), ("stamp", "--purge", "r3")):
        assert run(hosts, *arguments, ORCHESTRATOR_UNRECOGNISED="accept").code == 4
    file.write_text(kept)
    assert run(hosts, "status").json["state"] == "interrupted"


def test_two_projects_do_not_take_one_anothers(hosts: Hosts) -> None:
    """In one database, by the names of their version tables."""
    hosts.project.revision("r4", "r3", f"{MAKES.format('t')}\n{BAD}")
    assert run(hosts).code == 1
    other = hosts.project.path / "other"
    (other / "versions").mkdir(parents=True)
    env = (hosts.project.path / "migrations" / "env.py").read_text()
    (other / "env.py").write_text(
        env.replace("connection=connection", 'connection=connection, version_table="vb"')
    )
    (other / "versions" / "b1.py").write_text(
        "import sqlalchemy as sa\nfrom alembic import op\n"
        "revision, down_revision = 'b1', None\n\n"
        f"def upgrade():\n    {MAKES.format('b')}\n"
    )
    ended = run(
        hosts,
        ORCHESTRATOR_SCRIPT_LOCATION=str(other),
        ORCHESTRATOR_UNVERSIONED="upgrade",
    )
    assert (ended.code, ended.json["versions"]) == (0, ["b1"]), ended.stderr
    assert run(hosts).code == 4
    assert run(hosts, "resolve", "--rolled-back", "r4").code == 0


@pytest.mark.parametrize(
    "body",
    [
        "op.get_bind().commit()",
        'op.execute("COMMIT")',
        'op.execute("/*!40101 CREATE TABLE u (i INT) */")',
        "op.execute(\"EXECUTE IMMEDIATE 'CREATE TABLE u (i INT)'\")",
    ],
    ids=["commit()", "COMMIT", "a comment", "EXECUTE IMMEDIATE"],
)
def test_of_a_revision_that_commits_otherwise(hosts: Hosts, body: str) -> None:
    """Nothing is called undone, and nothing is done twice."""
    inserts = 'op.execute("INSERT INTO counted VALUES (9)")'
    hosts.project.revision("r4", "r3", f"{inserts}\n{body}\n{BAD}")
    failed = run(hosts)
    assert failed.code == 1
    assert "as it was before" not in failed.json["error"]["message"]
    assert run(hosts).code == 4
    assert hosts.ask("SELECT count(*) FROM counted") == [(2,)]


def test_of_an_engine_in_autocommit(hosts: Hosts) -> None:
    """Where every statement commits, rows alone divide a revision."""
    env = hosts.project.path / "migrations" / "env.py"
    text = env.read_text()
    env.write_text(text.replace("poolclass=pool.NullPool", 'isolation_level="AUTOCOMMIT"'))
    hosts.project.revision("r4", "r3", f'op.execute("INSERT INTO counted VALUES (9)")\n{BAD}')
    assert run(hosts).code == 1
    assert run(hosts).code == 4
    assert hosts.ask("SELECT count(*) FROM counted") == [(2,)]


def test_of_an_env_py_with_a_transaction_of_its_own(hosts: Hosts) -> None:
    """What was whole before it stays so: its version row is kept with its tables."""
    env = hosts.project.path / "migrations" / "env.py"
    env.write_text(env.read_text().replace(".connect()", ".begin()"))
    hosts.project.revision("r4", "r3", MAKES.format("t"))
    hosts.project.revision("r5", "r4", BAD)
    failed = run(hosts)
    assert failed.code == 1, failed.stderr
    assert hosts.ask("SELECT version_num FROM alembic_version") == [("r4",)]
    assert run(hosts, "status").json["state"] == "behind"
    hosts.project.revision("r5", "r4", 'op.drop_table("t")')
    assert run(hosts).json["versions"] == ["r5"]


def test_of_a_user_with_few_rights(hosts: Hosts) -> None:
    """Who may not drop the mark's table is ready all the same, with a word."""
    hosts.server.execute("CREATE OR REPLACE USER few@'%' IDENTIFIED BY 's3cret-enough'")
    rights = "SELECT, INSERT, UPDATE, DELETE, ALTER, CREATE, INDEX, REFERENCES"
    hosts.server.execute(f"GRANT {rights} ON {hosts.name}.* TO few@'%'")
    url = hosts.server.url(hosts.name).replace("//app", "//few")
    assert run(hosts).code == 0
    hosts.project.revision("r4", "r3", MAKES.format("t"))
    ended = hosts.project.run("run", "--json", ORCHESTRATOR_DATABASE_URL=url)
    assert (ended.code, ended.json["versions"]) == (0, ["r4"]), ended.stderr
    assert any("could not be taken away" in line for line in ended.json["warnings"])
    again = hosts.project.run("run", "--json", ORCHESTRATOR_DATABASE_URL=url)
    assert again.code == 0, again.stderr


def test_of_a_user_who_may_make_no_table(hosts: Hosts) -> None:
    """He migrates all the same, with a warning."""
    assert run(hosts).code == 0
    hosts.server.execute("CREATE OR REPLACE USER few@'%' IDENTIFIED BY 's3cret-enough'")
    hosts.server.execute(
        f"GRANT SELECT, INSERT, UPDATE, DELETE, ALTER ON {hosts.name}.* TO few@'%'"
    )
    url = hosts.server.url(hosts.name).replace("//app", "//few")
    hosts.project.revision("r4", "r3", 'op.execute("ALTER TABLE counted ADD COLUMN m INTEGER")')
    ended = hosts.project.run("run", "--json", ORCHESTRATOR_DATABASE_URL=url)
    assert (ended.code, ended.json["versions"]) == (0, ["r4"]), ended.stderr
    assert any("cannot be marked" in line for line in ended.json["warnings"])


def test_its_connection_may_be_lost_meanwhile(hosts: Hosts) -> None:
    """A statement may take longer than an idle session lasts."""
    hosts.server.execute("SET GLOBAL wait_timeout = 1")
    try:
        body = f"{MAKES.format('t')}\nop.execute('SELECT SLEEP(2.5)')\n{MAKES.format('u')}"
        hosts.project.revision("r4", "r3", body)
        ended = run(hosts)
    finally:
        hosts.server.execute("SET GLOBAL wait_timeout = 28800")
    assert (ended.code, ended.json["versions"]) == (0, ["r4"]), ended.stderr
    assert "orchestrator_interrupted" not in names(hosts)


def test_a_server_that_is_killed_says_what_may_be_kept(hosts: Hosts) -> None:
    """Nobody says that nothing was changed."""
    hosts.project.revision("r4", "r3", f"{MAKES.format('t')}\nop.execute('SELECT SLEEP(60)')")
    [leader] = hosts.start()
    soon(lambda: hosts.ask(SLEEPING))
    hosts.server.kill()
    hosts.server.ensure()
    ended = leader.finish()
    assert ended.code == 5, ended.stderr
    message = ended.json["error"]["message"]
    assert "Nothing was changed" not in message
    assert "Revision r4 may be half done. At statement 2 of it: SELECT SLEEP(?)" in message
    assert "orchestrator resolve --rolled-back r4" in message
    assert run(hosts).code == 4


def test_status_beside_a_leader_says_that_somebody_is_at_it(hosts: Hosts) -> None:
    """What a leader is at is no refusal, and `require` says what to wait for."""
    hosts.project.revision("r4", "r3", f"{MAKES.format('t')}\nop.execute('SELECT SLEEP(60)')")
    [leader] = hosts.start()
    soon(lambda: hosts.ask(SLEEPING))
    [other] = hosts.start("status", "--json", host=1)
    status = other.finish().json
    assert (status["state"], status["at_target"]) == ("behind", False)
    assert (status["refused"], status["lock"]["held"]) == (None, True)
    assert (status["at_work"]["revision"], status["interrupted"]) == ("r4", None)
    [other] = hosts.start("status", host=1)
    assert "at work   the upgrade of r4, begun at" in other.finish().stdout
    [other] = hosts.start("run", "--mode", "require", "--json", host=1)
    required = other.finish()
    assert required.code == 4, required.stderr
    assert "is at work on the upgrade of r4" in required.json["error"]["message"]
    assert "orchestrator wait" in required.json["error"]["message"]
    hosts.end(LED)  # nobody shall wait for a minute
    hosts.end(FENCED)
    leader.finish()


def test_the_commands_of_authors_say_so(killed: Hosts) -> None:
    """Neither is a revision made of what is half done, nor is that compared with the models."""
    env = killed.project.path / "migrations" / "env.py"
    env.write_text(
        env.read_text().replace(
            "connection=connection", "connection=connection, target_metadata=metadata"
        )
    )
    models = "import sqlalchemy as sa\nmetadata = sa.MetaData()\n"
    models += "sa.Table('m', metadata, sa.Column('id', sa.Integer))\n"
    env.write_text(models + env.read_text())
    for arguments in (("revision", "--autogenerate", "-m", "x"), ("check",)):
        [started] = killed.start(*arguments)
        ended = started.finish()
        assert ended.code == 4, ended.stderr
        for words in ("interrupted", "the upgrade of r4", "orchestrator status"):
            assert words in " ".join(ended.stderr.split())


def test_tables_that_are_created_are_kept(hosts: Hosts) -> None:
    """Where `create` fails in its middle, nobody calls it undone."""
    hosts.project.write(
        "models.py",
        "import sqlalchemy as sa\nmetadata = sa.MetaData()\n"
        "sa.Table('m1', metadata, sa.Column('id', sa.Integer))\n"
        "sa.Table('m2', metadata, sa.Column('id', sa.Text, primary_key=True))\n",
    )
    env = hosts.project.path / "migrations" / "env.py"
    text = env.read_text().replace(
        "connection=connection", "connection=connection, target_metadata=metadata"
    )
    path = f"import sys\nsys.path.insert(0, {str(hosts.project.path)!r})"
    env.write_text(f"{path}\nfrom models import metadata\n{text}")
    failed = run(hosts, ORCHESTRATOR_BOOTSTRAP="create")
    assert failed.code == 1, failed.stderr
    assert "m1" in names(hosts)
    assert "as it was before" not in failed.json["error"]["message"]
