"""Each command of the command line: what it does, prints and exits with."""

from __future__ import annotations

import sqlite3
import time
from contextlib import closing
from pathlib import Path

import pytest

from tests.projects import Project, finish
from tests.zygote import Zygote

MODELS = """
import sqlalchemy as sa

metadata = sa.MetaData()
sa.Table("t_r1", metadata, sa.Column("id", sa.Integer, primary_key=True))
sa.Table("t_r2", metadata, sa.Column("id", sa.Integer, primary_key=True))
"""
REPORT = [
    "run_id",
    "outcome",
    "command",
    "led",
    "state_before",
    "versions",
    "applied",
    "tasks",
    "waited_seconds",
    "duration_seconds",
    "error",
    "warnings",
]


@pytest.fixture
def chained(project: Project) -> Project:
    """A project with r1 and r2, and models that say the same."""
    project.write("models.py", MODELS)
    project.chain(2)
    return project


def tables(project: Project) -> set[str]:
    """The tables of the database."""
    with closing(sqlite3.connect(project.database)) as connection:
        return {
            name
            for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")
        }


def versions(project: Project) -> set[str]:
    """The version rows of the database."""
    with closing(sqlite3.connect(project.database)) as connection:
        return {row for (row,) in connection.execute("SELECT version_num FROM alembic_version")}


def everything(project: Project) -> dict[Path, bytes | None]:
    """Every file and directory of the project, but for bytecode."""
    return {
        path: path.read_bytes() if path.is_file() else None
        for path in project.path.rglob("*")
        if "__pycache__" not in path.parts
    }


def test_run_upgrades_and_then_finds_nothing_to_do(chained: Project) -> None:
    """The first run leads and reports each revision; the second is ready as it is."""
    first = chained.run("run", "--json")
    second = chained.run("run", "--json")
    told = chained.run("run")

    assert (first.code, second.code, told.code) == (0, 0, 0)
    assert list(first.json) == REPORT
    assert first.json["outcome"] == "ready"
    assert first.json["led"] is True
    assert first.json["state_before"] == "absent"
    assert first.json["versions"] == ["r2"]
    assert [one["revision"] for one in first.json["applied"]] == ["r1", "r2"]
    assert list(first.json["applied"][0]) == ["revision", "description", "duration_seconds"]
    assert [one["task"] for one in first.json["tasks"]] == ["upgrade"]
    assert first.json["error"] is None
    assert second.json["led"] is False
    assert second.json["state_before"] == "current"
    assert second.json["applied"] == second.json["tasks"] == []
    assert "ready at r2: nothing to do" in told.stdout


def test_run_to_a_target_and_beyond(chained: Project) -> None:
    """An explicit target is enough; a database beyond it is at it."""
    assert chained.run("run", "--target", "r1", "--json").json["versions"] == ["r1"]
    assert chained.run("run", "--json").json["versions"] == ["r2"]
    beyond = chained.run("run", "--target", "r1", "--json").json

    assert (beyond["outcome"], beyond["led"], beyond["versions"]) == ("ready", False, ["r2"])


def test_run_creates_where_it_is_told_to(chained: Project) -> None:
    """`--bootstrap create`: the tables of the metadata, stamped, and no revision run."""
    done = chained.run("run", "--bootstrap", "create", "--json")

    assert done.code == 0, done.stderr
    assert [one["task"] for one in done.json["tasks"]] == ["create", "stamp"]
    assert done.json["applied"] == []
    assert tables(chained) == {"t_r1", "t_r2", "alembic_version"}
    assert versions(chained) == {"r2"}


def test_create_and_then_stamp(chained: Project) -> None:
    """`create --no-stamp` says what to run next, and that makes it current."""
    created = chained.run("create", "--no-stamp")
    stamped = chained.run("stamp", "heads", "--json")
    again = chained.run("create", "--no-stamp")

    assert created.code == 0, created.stderr
    assert "orchestrator stamp heads" in created.stdout
    assert (stamped.code, stamped.json["versions"]) == (0, ["r2"])
    assert (again.code, "Not stamped" in again.stdout) == (0, False)


def test_stamp_force_and_purge(chained: Project) -> None:
    """`--force` stamps nothing at all; `--purge` replaces a row that no script knows."""
    forced = chained.run("stamp", "r1", "--force", "--json")
    with closing(sqlite3.connect(chained.database)) as connection, connection:
        connection.execute("UPDATE alembic_version SET version_num = 'x9'")
    refused = chained.run("stamp", "r1", "--json")
    purged = chained.run("stamp", "r1", "--purge", "--json")

    assert (forced.code, forced.json["versions"]) == (0, ["r1"])
    assert refused.code == 4
    assert (purged.code, purged.json["versions"]) == (0, ["r1"])


def test_relative_steps_up_and_down(chained: Project) -> None:
    """`+1` and `-1` count from where the database is; what is relative needs no `--`."""
    first = chained.run("upgrade", "+1", "--json")
    second = chained.run("upgrade", "--json")
    back = chained.run("downgrade", "-1", "--json")
    base = chained.run("downgrade", "base", "--json")

    assert first.json["versions"] == ["r1"]
    assert second.json["versions"] == ["r2"]
    assert back.json["versions"] == ["r1"]
    assert [one["revision"] for one in back.json["applied"]] == ["r2"]
    assert (base.code, base.json["versions"]) == (0, [])
    assert tables(chained) <= {"alembic_version"}


def test_several_heads_labels_and_dependencies(project: Project) -> None:
    """`heads` reaches all of them, a label one branch, and a dependency needs no row."""
    project.revision("a1", None, labels="left")
    project.revision("b1", None, labels="right")
    project.revision("b2", "b1", depends_on="a1")

    left = project.run("run", "--target", "left@head", "--json")
    both = project.run("run", "--json")
    again = project.run("status", "--json", "--check")

    assert left.json["versions"] == ["a1"], left.stderr
    assert "b2" in both.json["versions"]
    assert (again.code, again.json["state"]) == (0, "current")
    assert project.run("downgrade", "right@base", "--json").code == 0
    assert {"t_b1", "t_b2"}.isdisjoint(tables(project))


def test_tables_equal_to_the_metadata_can_be_adopted(chained: Project) -> None:
    """`unversioned = "adopt"` stamps them; no revision is run."""
    assert chained.run("create", "--no-stamp").code == 0

    done = chained.run("run", "--json", ORCHESTRATOR_UNVERSIONED="adopt")

    assert done.code == 0, done.stderr
    assert [one["task"] for one in done.json["tasks"]] == ["stamp"]
    assert versions(chained) == {"r2"}


def test_an_unknown_version_can_be_accepted(chained: Project) -> None:
    """`unrecognised = "accept"` is ready as it is, with a warning in the journal."""
    assert chained.run("run").code == 0
    (chained.path / "migrations/versions/r2.py").unlink()

    done = chained.run("run", "--json", ORCHESTRATOR_UNRECOGNISED="accept")

    assert (done.code, done.json["versions"]) == (0, ["r2"])
    assert "warning" in [line["level"] for line in chained.journal()]


@pytest.mark.parametrize(
    "command",
    [("status",), ("plan",), ("plan", "--sql"), ("check", "--against", "migrations")],
    ids=" ".join,
)
@pytest.mark.parametrize("made", ["absent", "behind"])
def test_looking_touches_nothing(chained: Project, command: tuple[str, ...], made: str) -> None:
    """Not a byte, and not a directory entry."""
    if made == "behind":
        with closing(sqlite3.connect(chained.database)) as connection, connection:
            connection.executescript(
                "CREATE TABLE t_r1 (id INTEGER PRIMARY KEY);"
                "CREATE TABLE alembic_version (version_num VARCHAR(32) NOT NULL);"
                "INSERT INTO alembic_version VALUES ('r1');"
            )
    before = everything(chained)

    done = chained.run(*command)

    assert done.code == 0, done.stderr
    assert everything(chained) == before


def test_status_and_plan_tell_what_is_pending(chained: Project) -> None:
    """Their JSON has the design's fields; `--check` exits with 6 until the target is reached."""
    status = chained.run("status", "--check", "--json")
    plan = chained.run("plan", "--json")

    assert status.code == 6
    pending = [
        {"revision": "r1", "description": "revision r1"},
        {"revision": "r2", "description": "revision r2"},
    ]
    assert status.json == {
        "database": chained.url,
        "state": "absent",
        "versions": [],
        "unknown": [],
        "heads": ["r2"],
        "pending": pending,
        "at_target": False,
        "refused": None,
        "interrupted": None,
        "at_work": None,
        "seen": [],
        "lock": {"held": False, "holder": None},
    }
    assert plan.json == {
        "state": "absent",
        "tasks": ["upgrade"],
        "revisions": pending,
        "drops": [],
        "sql": None,
        "remark": None,
    }
    assert chained.run("run").code == 0
    assert chained.run("status", "--check").code == 0


def test_status_says_that_no_script_has_a_version(chained: Project) -> None:
    """What is pending cannot be told then, and what a run would say is said."""
    chained.run("run")
    with closing(sqlite3.connect(chained.database)) as connection, connection:
        connection.execute("UPDATE alembic_version SET version_num = 'later'")

    status = chained.run("status", "--check")

    assert status.code == 6
    assert "versions  later (no script has it)" in status.stdout
    assert "pending   cannot be told" in status.stdout
    assert "`orchestrator run` refuses it: The database is at later" in status.stdout
    accepted = chained.run("status", "--check", "--set", "unrecognised=accept")
    assert accepted.code == 0
    assert "refuses" not in accepted.stdout


def test_status_of_a_project_without_a_revision_file_says_so(chained: Project) -> None:
    """A database that came from somewhere else is not told to have nothing pending."""
    chained.run("run")
    for file in (chained.path / "migrations" / "versions").glob("*.py"):
        file.unlink()

    status = chained.run("status")

    assert "heads     none: there is no revision file" in status.stdout
    assert "pending   cannot be told" in status.stdout


@pytest.mark.parametrize("mode", ["require", "follow"])
def test_a_plan_says_that_the_mode_leaves_it_to_others(chained: Project, mode: str) -> None:
    """What `run` would do is what it does with another mode, and that is named."""
    plan = chained.run("plan", "--set", f"mode={mode}")

    assert plan.code == 0
    assert f'`mode` is "{mode}"' in plan.stdout
    assert "`orchestrator run --mode migrate`" in plan.stdout


def test_the_sql_of_a_plan_does_what_run_would(chained: Project) -> None:
    """Executed, it brings an empty database to the target."""
    done = chained.run("plan", "--sql")
    with closing(sqlite3.connect(chained.database)) as connection, connection:
        connection.executescript(done.stdout)

    assert tables(chained) == {"t_r1", "t_r2", "alembic_version"}
    assert versions(chained) == {"r2"}
    assert chained.run("status", "--check").code == 0


def test_wait_returns_when_another_process_has_migrated(project: Project, zygote: Zygote) -> None:
    """It never leads, and is not ready before the last revision is durable."""
    project.chain(2, seconds=0.3)
    [waiting] = zygote.start(project, "wait", "--json")
    # It follows a database that does not exist, until the other process makes it.
    led = project.run("run", "--json")
    waited = waiting.finish()

    assert led.json["led"] is True
    assert waited.code == 0, waited.stderr
    assert (waited.json["led"], waited.json["versions"]) == (False, ["r2"])


def test_wait_says_what_it_waits_for_and_is_in_the_journal(project: Project) -> None:
    """Also where it began before anybody had made one; it makes none itself."""
    project.chain(1)
    waiting = project.start("wait")
    assert waiting.stderr is not None
    [line] = [next(line for line in waiting.stderr if "waiting" in line)]
    assert "waiting for the database to reach its target; nobody is at work" in line
    assert not project.state.exists()

    assert project.run("run").code == 0
    assert finish(waiting).code == 0

    entries = [entry for entry in project.journal() if entry["pid"] == waiting.pid]
    assert entries[0]["event"] == "run_started"
    assert entries[-1]["event"] == "database_ready"
    assert [entry["sequence"] for entry in entries] == list(range(len(entries)))


def test_wait_gives_up_at_its_deadline(project: Project) -> None:
    """Nobody migrates: exit code 3, in about the time it was given, and nothing is made."""
    project.chain(1)
    began = time.monotonic()

    done = project.run("wait", "--lock-timeout", "0.2", "--json")

    assert done.code == 3
    assert done.json["error"]["type"] == "LockTimeout"
    assert "only follows" in done.json["error"]["message"]
    assert time.monotonic() - began >= 0.2
    assert not project.database.exists()


def test_wait_says_what_is_in_the_way(chained: Project) -> None:
    """Where the database is; also in a state that no waiting cures."""
    assert chained.run("upgrade", "r1").code == 0
    behind = chained.run("wait", "--lock-timeout", "0.1", "--json")
    with closing(sqlite3.connect(chained.database)) as connection, connection:
        connection.execute("UPDATE alembic_version SET version_num = 'later'")
    unknown = chained.run("wait", "--lock-timeout", "0.1", "--json")

    assert "it is at r1, behind r2." in behind.json["error"]["message"]
    assert "by `orchestrator run --mode migrate`" in behind.json["error"]["message"]
    assert "it is at later, which no script has" in unknown.json["error"]["message"]


def test_wait_says_that_it_saw_nothing(chained: Project) -> None:
    """Of a database that is busy nobody knows whether it is at its target."""
    assert chained.run("run").code == 0
    with closing(sqlite3.connect(chained.database, isolation_level=None)) as connection:
        connection.execute("BEGIN EXCLUSIVE")
        busy = chained.run("wait", "--lock-timeout", "0.3", "--json")
        connection.execute("ROLLBACK")

    assert busy.code == 5
    assert "nobody can tell whether it is at its target" in busy.json["error"]["message"]


def test_status_of_versions_of_which_one_includes_another(chained: Project) -> None:
    """There is nothing to do for a run, and so `status` does not ask what is pending."""
    assert chained.run("run").code == 0
    with closing(sqlite3.connect(chained.database)) as connection, connection:
        connection.execute("INSERT INTO alembic_version VALUES ('r1')")

    assert chained.run("status", "--check").code == 0
    assert chained.run("run").code == 0


@pytest.mark.parametrize(
    "command", ["run", "wait", "create", "stamp", "upgrade", "downgrade", "status", "plan", "check"]
)
def test_help_names_the_options(project: Project, command: str) -> None:
    """Of each command, the three that say where the database is, and `--json`."""
    done = project.run(command, "--help", COLUMNS="120")

    assert done.code == 0
    for option in ("--config", "--database-url", "--script-location", "--json"):
        assert option in done.stdout


def test_without_a_command_there_is_the_help(project: Project) -> None:
    """Once, and with the exit code of a wrong command line."""
    done = project.run()

    assert done.code == 2
    assert done.stdout.count("Usage:") == 1
