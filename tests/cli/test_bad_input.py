"""Every row of the list of bad input: an exit code, a message in words, and nothing harmed."""

from __future__ import annotations

import fcntl
import json
import os
import shutil
import socket
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass, field
from datetime import UTC, datetime

import pytest

from tests.nobody import public_project, run_as_nobody
from tests.projects import Finished, Project

ADOPTS_B = """
import sqlalchemy as sa

metadata = sa.MetaData()
sa.Table("b", metadata, sa.Column("id", sa.Integer, primary_key=True))
"""


def at(project: Project, version: str | None, *tables: str) -> None:
    """Make the database: these tables, and a version row."""
    with closing(sqlite3.connect(project.database)) as connection, connection:
        for table in tables:
            connection.execute(f"CREATE TABLE {table} (id INTEGER PRIMARY KEY)")
        if version is not None:
            connection.execute("CREATE TABLE alembic_version (version_num VARCHAR(32) NOT NULL)")
            connection.execute("INSERT INTO alembic_version VALUES (?)", (version,))


def everything(project: Project) -> dict[str, bytes]:
    """The content of each file of the project, but for bytecode and the state directory."""
    return {
        str(file.relative_to(project.path)): file.read_bytes()
        for file in sorted(project.path.rglob("*"))
        if file.is_file() and "__pycache__" not in file.parts and project.state not in file.parents
    }


def wrote(name: str, text: str) -> Callable[[Project], object]:
    """A case's set-up: one more file."""
    return lambda project: project.write(name, text)


def being(version: str | None, *tables: str) -> Callable[[Project], object]:
    """A case's set-up: the database."""
    return lambda project: at(project, version, *tables)


def twice(project: Project) -> None:
    shutil.copy(project.path / "migrations/versions/r1.py", project.path / "migrations/twin.py")
    (project.path / "migrations/twin.py").rename(project.path / "migrations/versions/twin.py")


def circle(project: Project) -> None:
    project.revision("a", "b")
    project.revision("b", "a")


USAGE = "UsageError"


@dataclass(frozen=True)
class Case:
    """A wrong input: what it gets, and all that the message must name."""

    arguments: str
    code: int
    words: tuple[str, ...]
    error: str = "ConfigurationError"
    given: Callable[[Project], object] = lambda project: None
    variables: dict[str, str] = field(default_factory=dict)


CASES = {
    # an unknown key or a wrong value in a file, option, argument or variable
    "unknown option": Case("run --databse-url x", 2, ("--databse-url", "--database-url"), USAGE),
    "unknown command": Case("statsu", 2, ("statsu", "status"), USAGE),
    "missing argument": Case("stamp", 2, ("REV",), USAGE),
    "one argument too many": Case("upgrade r1 r2", 2, ("r2",), USAGE),
    "wrong option": Case("run --bootstrap creat", 2, ("--bootstrap", "upgrade", "create"), USAGE),
    "wrong log": Case("run --log loud", 2, ("--log", "auto", "console", "json", "off"), USAGE),
    "wrong set": Case("run --set mode", 2, ("--set must read", "NAME=VALUE"), USAGE),
    "empty option": Case("run --database-url ''", 2, ("--database-url is empty",), USAGE),
    "unknown set": Case("run --set mod=x", 2, ("--set mod", "Did you mean `mode`?")),
    "wrong value by set": Case(
        "run --set mode=x", 2, ("--set mode", "migrate, follow or require, not x")
    ),
    "wrong list by set": Case("run --set x_args=a=b", 2, ("--set x_args", "JSON")),
    "wrong app": Case("run --app main", 2, ("--app main", "MODULE:OBJECT")),
    "no app there": Case("run --app nowhere:app", 2, ("--app nowhere:app", "no module nowhere")),
    "wrong number": Case("run --lock-timeout soon", 2, ("--lock-timeout", "number of seconds")),
    "negative number": Case("run --lock-timeout -1", 2, ("--lock-timeout", "0 or more seconds")),
    "relative target": Case("run --target +1", 2, ("--target", "single command")),
    "empty revision": Case("upgrade ''", 2, ("empty text",)),
    "wrong variable": Case(
        "run",
        2,
        ("ORCHESTRATOR_MODE", "migrate, follow or require"),
        variables={"ORCHESTRATOR_MODE": "lead"},
    ),
    "variable that is no list": Case(
        "status", 2, ("ORCHESTRATOR_X_ARGS", "JSON"), variables={"ORCHESTRATOR_X_ARGS": "a=b"}
    ),
    "unknown key": Case(
        "run --config o.toml",
        2,
        ("o.toml", "bootstrp", "`bootstrap`"),
        given=wrote("o.toml", "bootstrp = 'create'"),
    ),
    "wrong value": Case(
        "status --config o.toml",
        2,
        ("o.toml", "`transaction`", "revision"),
        given=wrote("o.toml", "transaction = 'none'"),
    ),
    "file that is not TOML": Case(
        "plan --config o.toml", 2, ("o.toml is not TOML",), given=wrote("o.toml", "= =")
    ),
    "missing file": Case("wait --config o.toml", 2, ("o.toml", "No such file")),
    # no database URL, no script location, broken scripts
    "no URL": Case(
        "run",
        2,
        ("No database URL is known", "--database-url"),
        variables={"ORCHESTRATOR_DATABASE_URL": "", "ORCHESTRATOR_SCRIPT_LOCATION": ""},
    ),
    "no URL, not even in env.py": Case(
        "run", 2, ("No database URL is known",), variables={"ORCHESTRATOR_DATABASE_URL": ""}
    ),
    "no script location": Case(
        "run",
        2,
        ("No script location is known", "alembic.ini"),
        variables={"ORCHESTRATOR_SCRIPT_LOCATION": ""},
    ),
    "script location that does not exist": Case(
        "run --script-location elsewhere", 2, ("no directory /", "/elsewhere.")
    ),
    "package that does not exist": Case(
        "run --script-location elsewhere:migrations", 2, ("elsewhere", "cannot be imported")
    ),
    "no env.py": Case(
        "run",
        2,
        ("has no env.py: there is no /", "migrations/env.py."),
        given=lambda project: (project.path / "migrations/env.py").unlink(),
    ),
    "import error": Case(
        "run",
        2,
        ("versions/bad.py, line 1", "No module named 'nowhere'"),
        given=wrote("migrations/versions/bad.py", "import nowhere"),
    ),
    "syntax error": Case(
        "status",
        2,
        ("versions/bad.py, line 1", "SyntaxError"),
        given=wrote("migrations/versions/bad.py", "def ("),
    ),
    "script without revision": Case(
        "plan", 2, ("bad.py", "revision"), given=wrote("migrations/versions/bad.py", "x = 1")
    ),
    "two revisions with one id": Case(
        "run", 2, ("id r1", "versions/r1.py", "versions/twin.py"), given=twice
    ),
    "cycle": Case("run", 2, ("versions/a.py", "versions/b.py", "Cycle"), given=circle),
    "own parent": Case(
        "run",
        2,
        ("versions/a.py", "Self-loop"),
        given=lambda project: project.revision("a", "a"),
    ),
    "missing parent": Case(
        "run",
        2,
        ("versions/lost.py", "gone", "Get that file back"),
        given=lambda project: project.revision("lost", "gone"),
    ),
    "missing dependency": Case(
        "run",
        2,
        ("versions/lost.py", "gone"),
        given=lambda project: project.revision("lost", "r2", depends_on="gone"),
    ),
    "name too long, of a directory": Case(
        f"run --set state_dir=/tmp/{'x' * 300}", 2, ("state directory", "name too long")
    ),
    "name too long, of a config": Case(
        f"run --set alembic_config={'x' * 300}", 2, ("Alembic config", "does not exist")
    ),
    "directory of revisions that does not exist": Case(
        """run --set version_locations=["migrations/version"]""",
        2,
        ("no directory /", "/migrations/version,", "`version_locations`"),
    ),
    "URL as a target": Case(
        "run --target postgresql://u:secret99@h/db", 2, ("postgresql://u:***@h/db",)
    ),
    "URL as a file": Case(
        "run --set alembic_config=postgresql://u:secret99@h/db", 2, ("u:***@h/db",)
    ),
    "URL as an application": Case(
        "run --app postgresql://u:secret99@h/db", 2, ("u:***@h/db", "no module postgresql")
    ),
    "attribute of an attribute": Case("run --app json:loads.x", 2, ("json has no `loads.x`.",)),
    "text between colons": Case("upgrade :x:", 2, ("':x:'",)),
    "module beside that is not looked for": Case(
        "run",
        2,
        ("No module named 'mine'", "There is a `mine` in /", "prepend_sys_path", "PYTHONPATH"),
        given=lambda project: (
            wrote("mine.py", "")(project),
            wrote("migrations/env.py", "import sys; sys.path[:] = sys.path[-1:]; import mine")(
                project
            ),
        ),
        variables={"PYTHONPATH": ""},
    ),
    "import that a revision lacks": Case(
        "run",
        1,
        ("NameError", "It lacks `import decimal`", "script.py.mako"),
        error="TaskFailed",
        given=lambda project: project.revision("r3", "r2", "decimal.Decimal()"),
    ),
    "placeholder for a URL": Case(
        "run",
        2,
        ("sqlalchemy.url = driver://…", "`alembic init` wrote"),
        given=lambda project: (
            wrote("alembic.ini", "[alembic]\nsqlalchemy.url = driver://u:p@h/db\n")(project),
            wrote(
                "migrations/env.py",
                """
                from alembic import context
                from sqlalchemy import create_engine

                create_engine(context.config.get_main_option("sqlalchemy.url"))
                """,
            )(project),
        ),
        variables={"ORCHESTRATOR_DATABASE_URL": ""},
    ),
    "env.py that raises": Case(
        "run",
        2,
        ("migrations/env.py, line 1", "RuntimeError: broken"),
        given=wrote("migrations/env.py", "raise RuntimeError('broken')"),
    ),
    "env.py that does nothing": Case(
        "run",
        2,
        ("env.py never called context.run_migrations()",),
        given=wrote("migrations/env.py", "pass"),
    ),
    # a URL that cannot be parsed, an unknown dialect, a driver that is not installed, memory
    "no URL at all": Case("run --database-url nonsense", 2, ("nonsense", "sqlite:///")),
    "unknown dialect": Case("run --database-url sqlit:///app.db", 2, ("sqlit:///app.db",)),
    "too few slashes": Case(
        "run --database-url sqlite:/app.db", 2, ("sqlite:/app.db", "three slashes")
    ),
    "not supported": Case("run --database-url oracle://h/db", 2, ("is for oracle", "Supported")),
    "missing driver": Case(
        "status --database-url sqlite+pysqlcipher:///app.db", 2, ("pip install pysqlcipher3",)
    ),
    "in memory": Case("run --database-url sqlite://", 2, ("in memory", "sqlite:///var/app.db")),
    "two slashes": Case("run --database-url sqlite://app.db", 2, ("three slashes",)),
    # a file that is not a SQLite database, a directory
    "not a database": Case(
        "run",
        5,
        ("app.db", "not a SQLite database"),
        error="DatabaseUnavailable",
        given=wrote("app.db", "No database at all, but long enough to look like one. " * 20),
    ),
    "not a database, looked at": Case(
        "status",
        5,
        ("app.db", "not a SQLite database"),
        error="DatabaseUnavailable",
        given=wrote("app.db", "No database at all, but long enough to look like one. " * 20),
    ),
    "directory": Case(
        "run",
        5,
        ("app.db", "it is a directory"),
        error="DatabaseUnavailable",
        given=lambda project: project.database.mkdir(),
    ),
    # several heads with target head; revisions that do not exist, are behind, or below base
    "several heads": Case(
        "run --target head",
        2,
        ("r2, r3", "`heads`"),
        given=lambda project: project.revision("r3", "r1"),
    ),
    "several heads, as an argument": Case(
        "upgrade head",
        2,
        ("r2, r3", "`heads`"),
        given=lambda project: (project.revision("r3", "r1"), at(project, "r1", "t_r1")),
    ),
    "unknown revision": Case("upgrade r9", 2, ("'r9'", "r2")),
    "unknown target": Case("run --target r9", 2, ("'r9'", "r2"), given=being("r1", "t_r1")),
    "unknown stamp": Case("stamp r9 --force", 2, ("'r9'",)),
    "unknown downgrade": Case("downgrade r9", 2, ("'r9'",), given=being("r2", "t_r1", "t_r2")),
    "revision behind": Case(
        "upgrade r1", 2, ("already beyond r1", "downgrade r1"), given=being("r2", "t_r1", "t_r2")
    ),
    "one back from a merge": Case(
        "downgrade -1",
        2,
        ("'-1' leads to no single revision from m", "Ambiguous walk", "orchestrator history"),
        given=lambda project: (
            project.revision("r3", "r1"),
            project.revision("m", ("r2", "r3")),
            at(project, "m", "t_r1", "t_r2", "t_r3"),
        ),
    ),
    "downgrade to a URL": Case(
        "downgrade postgresql://u:secret99@h/db",
        2,
        ("postgresql://u:***@h/db",),
        given=being("r2", "t_r1", "t_r2"),
    ),
    "upgrade to the base": Case(
        "upgrade base", 2, ("already beyond base", "downgrade base"), given=being("r2", "t_r1")
    ),
    "below base": Case(
        "downgrade -3", 2, ("-3", "orchestrator history"), given=being("r2", "t_r1", "t_r2")
    ),
    "beyond the head": Case("upgrade +3", 2, ("+3",), given=being("r1", "t_r1")),
    # states that are not touched
    "tables without a version row": Case(
        "run",
        4,
        ("2 tables (a, b)", "no version row", '"adopt"', "orchestrator stamp"),
        error="StateRefused",
        given=being(None, "a", "b"),
    ),
    "tables that differ from the metadata": Case(
        "run",
        4,
        ("table b is in the models, not in the database", "table a"),
        error="StateRefused",
        given=lambda project: (at(project, None, "a"), project.write("models.py", ADOPTS_B)),
        variables={"ORCHESTRATOR_UNVERSIONED": "adopt"},
    ),
    "a plan for such tables": Case(
        "plan",
        4,
        ("table b is in the models, not in the database", "table a"),
        error="StateRefused",
        given=lambda project: (at(project, None, "a"), project.write("models.py", ADOPTS_B)),
        variables={"ORCHESTRATOR_UNVERSIONED": "adopt"},
    ),
    "unknown version": Case(
        "run",
        4,
        ("x9", "a later one", "another branch", '"accept"', "--purge"),
        error="StateRefused",
        given=being("x9", "a"),
    ),
    "stamp of nothing": Case("stamp heads", 4, ("absent", "--force"), error="StateRefused"),
    "downgrade of nothing": Case("downgrade base", 4, ("absent",), error="StateRefused"),
    "create over something": Case(
        "create", 4, ("at r1", "orchestrator upgrade"), "StateRefused", being("r1", "t_r1")
    ),
    "create without tables": Case(
        "create", 2, ("has no tables", "are the models imported?"), given=being(None)
    ),
    "bootstrap without tables": Case(
        "run --bootstrap create", 2, ("has no tables", "imported?"), given=being(None)
    ),
    # migrations that fail
    "migration that raises": Case(
        "run",
        1,
        ("upgrade", "r3", "versions/r3.py, line", "boom", "as it was"),
        error="TaskFailed",
        given=lambda project: (
            at(project, "r1", "t_r1"),
            project.revision(
                "r3", "r2", "op.execute('CREATE TABLE half (id)')\nraise ValueError('boom')"
            ),
        ),
    ),
    "migration that fails in SQL": Case(
        "upgrade",
        1,
        ("no such table: nowhere", "SELECT * FROM nowhere", "versions/r3.py, line"),
        error="TaskFailed",
        given=lambda project: (
            at(project, "r1", "t_r1"),
            project.revision("r3", "r2", "op.execute('SELECT * FROM nowhere')"),
        ),
    ),
    "migration that swallows an error and rolls back all": Case(
        "run",
        1,
        ("r3", "rolled its transaction back", "Expected r3, found r1"),
        error="VerificationFailed",
        given=lambda project: (
            at(project, "r1", "t_r1"),
            project.write("pyproject.toml", '[tool.orchestrator]\ntransaction = "run"\n'),
            project.revision(
                "r3",
                "r2",
                "try:\n    op.execute('SELECT * FROM nowhere')\n"
                "except Exception:\n    op.get_bind().rollback()",
            ),
        ),
    ),
    "env.py that swallows exceptions": Case(
        "run",
        1,
        ("r3", "boom", "Expected r3, found r1"),
        error="VerificationFailed",
        given=lambda project: (
            at(project, "r1", "t_r1"),
            project.revision("r3", "r2", "raise ValueError('boom')"),
            project.write(
                "migrations/env.py",
                """
                from orchestrator.environment import run_migrations
                from models import metadata

                try:
                    run_migrations(target_metadata=metadata)
                except Exception:
                    pass
                """,
            ),
        ),
    ),
}


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_bad_input_gets_words_and_harms_nothing(project: Project, case: Case) -> None:
    """The exit code, the words, one JSON document, no traceback; every file is as it was."""
    project.chain(2)
    case.given(project)
    before = everything(project)

    arguments = [one.strip("'") for one in case.arguments.split()]
    done = project.run(*arguments, "--json", **case.variables)

    assert done.code == case.code, done.stderr
    assert "Traceback" not in done.stderr + done.stdout
    message = done.json["error"]["message"]
    assert "secret99" not in done.stderr + done.stdout
    assert done.json["error"]["type"] == case.error
    assert done.json["error"]["exit_code"] == case.code
    for word in case.words:
        assert word in message, message
        assert word in done.stderr
    assert everything(project) == before


def test_a_failed_first_migration_leaves_no_tables(project: Project) -> None:
    """Of an absent database, at most an empty one is left, and the next run fills it."""
    project.chain(1)
    bad = project.revision("r2", "r1", "raise ValueError('boom')")

    assert project.run("run").code == 1
    with closing(sqlite3.connect(project.database)) as connection:
        assert connection.execute("SELECT name FROM sqlite_master").fetchall() == []
    bad.unlink()
    assert project.run("run").code == 0


def test_the_traceback_is_for_those_who_ask(project: Project) -> None:
    """With `--verbose` it stands on stderr, and the message after it."""
    project.revision("r1", None, "raise ValueError('boom')")

    done = project.run("run", "--verbose", "--json")

    assert done.code == 1
    assert done.json["outcome"] == "failed"
    assert "Traceback (most recent call last)" in done.stderr
    assert "ValueError: boom" in done.stderr
    assert done.stderr.rindex("TaskFailed: ") > done.stderr.rindex("Traceback")


def test_output_of_scripts_does_not_spoil_the_json(project: Project) -> None:
    """What `env.py` and revisions print goes to stderr."""
    project.revision("r1", None, "print('from a revision')")

    done = project.run("run", "--json")

    assert done.json["outcome"] == "ready"
    assert "from a revision" in done.stderr


# No permission


@pytest.fixture
def public() -> Iterator[Project]:
    """A project in a directory that every user can reach."""
    with public_project() as project:
        yield project


@pytest.fixture
def nobody(public: Project) -> Callable[..., Finished]:
    """Run the command in the project as another user."""
    return lambda *arguments: run_as_nobody(public, *arguments)


@pytest.mark.parametrize(
    ("command", "mode", "code"), [("run", 0o000, 5), ("status", 0o000, 5), ("run", 0o444, 5)]
)
def test_a_file_without_permission_is_not_touched(
    public: Project, nobody: Callable[..., Finished], command: str, mode: int, code: int
) -> None:
    """Neither one that cannot be read nor, by who would have to write, a read-only one."""
    public.chain(2)
    at(public, "r1", "t_r1")
    content = public.database.read_bytes()
    public.path.chmod(0o777)  # the state directory can be made
    public.database.chmod(mode)

    done = nobody(command, "--json")

    public.database.chmod(0o600)
    assert done.code == code, done.stderr
    assert "no permission" in done.json["error"]["message"]
    assert "Traceback" not in done.stderr
    assert public.database.read_bytes() == content


def test_a_directory_that_cannot_be_written_gets_no_state_directory(
    public: Project, nobody: Callable[..., Finished]
) -> None:
    """The error names the state directory and the setting that moves it; nothing is made."""
    public.chain(1)
    public.path.chmod(0o555)
    before = everything(public)

    done = nobody("run", "--json")

    public.path.chmod(0o755)
    assert done.code == 2, done.stderr
    assert str(public.state) in done.json["error"]["message"]
    assert "`state_dir`" in done.json["error"]["message"]
    assert "Traceback" not in done.stderr
    assert everything(public) == before
    assert not public.state.exists()


# Others are in the way


def test_a_lock_that_is_held_is_waited_for_and_its_holder_named(project: Project) -> None:
    """At the deadline: host, pid, run id, since and current revision; exit code 3."""
    project.chain(2)
    at(project, "r1", "t_r1")
    project.state.mkdir()
    holder = {
        "run_id": "0123456789ab",
        "host": socket.gethostname(),
        "pid": os.getpid(),
        "command": "run",
        "since": datetime(2030, 1, 2, 3, 4, 5, tzinfo=UTC).isoformat(),
        "release": "1.2.3",
        "task": "upgrade",
        "revision": "r2",
    }
    record = {"version": 1, "holder": holder, "target": "heads", "fingerprint": None}
    (project.state / "run.json").write_text(json.dumps({**record, "outcome": None, "error": None}))
    before = everything(project)

    with (project.state / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        done = project.run("run", "--json", "--lock-timeout", "0.3")
        seen = project.run("status", "--json").json["lock"]

    assert done.code == 3, done.stderr
    assert done.json["error"]["type"] == "LockTimeout"
    message = done.json["error"]["message"]
    told = (socket.gethostname(), str(os.getpid()), "0123456789ab", "2030-01-02 03:04:05", "r2")
    for word in (*told, "1.2.3", "`lock_timeout_seconds`"):
        assert word in message, message
    assert done.json["waited_seconds"] >= 0.3
    assert "Traceback" not in done.stderr
    assert everything(project) == before
    # One of an older release, which did not say what is here.
    told = {**holder, "since": "2030-01-02T03:04:05+00:00", "statement": None, "blocked_by": None}
    assert seen == {"held": True, "holder": told}


def test_a_lock_held_by_someone_who_tells_nothing(project: Project) -> None:
    """The error says so instead of naming an earlier run."""
    project.chain(1)
    assert project.run("run").code == 0
    project.revision("r2", "r1")

    with (project.state / "lock").open("r+") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        done = project.run("run", "--json", "--lock-timeout", "0")

    assert done.code == 3
    assert "a process that has not told who it is" in done.json["error"]["message"]


@pytest.mark.parametrize("begin", ["BEGIN EXCLUSIVE", "BEGIN IMMEDIATE"])
def test_a_database_that_is_always_busy(project: Project, begin: str) -> None:
    """Waited for `connect_timeout_seconds`, and then said to be busy; exit code 5."""
    project.chain(2)
    at(project, "r1", "t_r1")
    before = everything(project)

    with closing(sqlite3.connect(project.database, isolation_level=None)) as other:
        other.execute(begin)
        done = project.run("run", "--json", ORCHESTRATOR_CONNECT_TIMEOUT_SECONDS="0.3")

    assert done.code == 5, done.stderr
    assert done.json["error"]["type"] == "DatabaseUnavailable"
    assert "busy" in done.json["error"]["message"]
    assert done.json["duration_seconds"] >= 0.3
    assert "Traceback" not in done.stderr
    assert everything(project) == before


# No password anywhere


@pytest.mark.parametrize(
    "argument",
    ["postgresql://me:hunter2@host/db", "me:hunter2@host/db", "host=h password=hunter2 user=me"],
)
def test_a_url_in_the_wrong_place_is_not_shown(project: Project, argument: str) -> None:
    """An argument too many is told, and not the password in it."""
    done = project.run("upgrade", "r1", argument, "--json")

    assert done.code == 2
    assert "unexpected extra argument" in done.json["error"]["message"]
    assert "hunter2" not in done.stdout + done.stderr


PASSWORD = "p@ss w:rd/100%größe"
ESCAPED = "p%40ss%20w%3Ard%2F100%25gr%C3%B6%C3%9Fe"
FORMS = (PASSWORD, ESCAPED, ESCAPED.replace("%", "%%"), ESCAPED.replace("%20", "+"), "100%gr")

LEAKS = """
import sys
import tempfile
from alembic import context
from models import metadata
from orchestrator.environment import run_migrations

url = context.config.get_main_option("sqlalchemy.url")
if {where!r} == "env.py":
    raise RuntimeError("cannot use " + url)
run_migrations(target_metadata=metadata)
"""


@pytest.mark.parametrize(
    ("where", "given"),
    [
        ("env.py", "option"),
        ("revision", "file"),
        ("revision", "variable"),
        ("url", "option"),
        ("url", "file"),
        ("nowhere", "variable"),
    ],
)
def test_a_password_appears_nowhere(project: Project, where: str, given: str) -> None:
    """Not in events, journal, run.json, errors, JSON or tracebacks, whoever tells it."""
    url = f"sqlite:///file:{project.database}?uri=true&password={ESCAPED}"
    if where == "url":
        url = f"postgresql://user:{ESCAPED}@host/db"
    project.write("migrations/env.py", LEAKS.format(where=where))
    leak = """
        from alembic import context
        url = context.config.get_main_option("sqlalchemy.url")
        try:
            raise ValueError(url)
        except ValueError as error:
            raise RuntimeError("because of " + url) from error
    """
    project.revision("r1", None, leak if where == "revision" else "pass")
    arguments = []
    variables = {"ORCHESTRATOR_DATABASE_URL": ""}
    if where == "url":  # of a server that nobody has
        variables["ORCHESTRATOR_CONNECT_TIMEOUT_SECONDS"] = "0.1"
    if given == "option":
        arguments = ["--database-url", url]
    elif given == "variable":
        variables["ORCHESTRATOR_DATABASE_URL"] = url
    else:
        project.write("o.toml", f"database_url = {json.dumps(url)}")
        arguments = ["--config", "o.toml"]

    verbose = project.run("run", "--json", "--verbose", *arguments, **variables)
    status = project.run("status", "--verbose", *arguments, **variables)

    assert (verbose.code == 0) == (where == "nowhere"), verbose.stderr
    told = [verbose.stdout, verbose.stderr, status.stdout, status.stderr]
    kept = project.state.glob("*") if project.state.is_dir() else ()
    told += [file.read_text() for file in kept]
    for text in told:
        for form in FORMS:
            assert form not in text
            assert json.dumps(form)[1:-1] not in text
