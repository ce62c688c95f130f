"""Alembic's own commands for revision files, handed over to: they do what `alembic` does."""

from __future__ import annotations

import re
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from tests.compat.projects import ENV_PY, INI, Existing, existing, from_template
from tests.compat.test_templates import TEMPLATES
from tests.projects import Finished
from tests.zygote import Zygote

MAKO = """
\"\"\"${message}\"\"\"
import sqlalchemy as sa
from alembic import op
${imports if imports else ""}
revision = ${repr(up_revision)}
down_revision = ${repr(down_revision)}
branch_labels = ${repr(branch_labels)}
depends_on = ${repr(depends_on)}


def upgrade():
    ${upgrades if upgrades else "pass"}


def downgrade():
    ${downgrades if downgrades else "pass"}
"""


@pytest.fixture
def project(tmp_path: Path) -> Existing:
    """A project with an `alembic.ini`, without revisions."""
    project = existing(tmp_path)
    project.write("migrations/script.py.mako", MAKO)
    return project


@pytest.fixture
def branched(project: Existing) -> Existing:
    """With two branches, of which one depends on the other, and a database at r1."""
    project.revision("r1", None)
    project.revision("a1", "r1", labels="left")
    project.revision("b1", "r1", labels="right", depends_on="a1")
    done(project.run("upgrade", "r1"))
    return project


def done(ended: Finished) -> Finished:
    """What ended well."""
    assert ended.code == 0, ended.stdout + ended.stderr
    return ended


def files(project: Existing) -> dict[str, bytes]:
    """What is in the project, but for bytecode."""
    return {
        str(path.relative_to(project.path)): path.read_bytes()
        for path in project.path.rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }


def revisions(project: Existing) -> list[str]:
    """The texts of its revision files."""
    return [path.read_text() for path in sorted(project.path.glob("migrations/versions/*.py"))]


@pytest.mark.parametrize("ini", ["with", "without"])
@pytest.mark.parametrize("template", TEMPLATES)
def test_revisions_of_a_template(tmp_path: Path, template: str, ini: str) -> None:
    """From no database to the first revision, and on; the settings can take the config's place."""
    url = "sqlite+aiosqlite:///app.db" if "async" in template else "sqlite:///app.db"
    project = from_template(tmp_path, template, url)
    given: dict[str, str] = {}
    if ini == "without":
        for config in ("alembic.ini", "pyproject.toml"):
            (tmp_path / config).unlink(missing_ok=True)
        given = {
            "ORCHESTRATOR_DATABASE_URL": url,
            "ORCHESTRATOR_SCRIPT_LOCATION": "migrations",
        }

    def run(*arguments: str) -> Finished:
        return project.run(*arguments, **given)

    first = done(run("revision", "--autogenerate", "-m", "first", "--rev-id", "r1"))

    assert re.fullmatch(r"\s*Generating\s.*r1_first\.py\s\.\.\.\s+done\n", first.stdout)
    assert "Detected added table 'artists'" in first.stderr
    assert not project.database.exists()
    assert not project.state.exists()
    refused = run("revision", "--autogenerate", "-m", "second")
    assert refused.code == 4, refused.stderr
    done(run("run"))
    assert project.tables() == ["alembic_version", "artists"]
    assert done(run("current")).stdout == "r1 (head)\n"
    nothing = done(run("revision", "--autogenerate", "-m", "second"))
    assert (nothing.stdout, "no revision was written" in nothing.stderr) == ("", True)
    assert len(revisions(project)) == 1
    done(run("revision", "-m", "empty"))
    assert len(revisions(project)) == 2


@pytest.mark.parametrize(
    "command",
    [
        ("heads",),
        ("heads", "-v"),
        ("heads", "--resolve-dependencies"),
        ("history",),
        ("history", "-v", "-r", "r1:right@head"),
        ("history", "--rev-range", "current:"),
        ("history", "-i"),
        ("current",),
        ("current", "-v"),
    ],
    ids=" ".join,
)
def test_it_prints_what_alembic_prints(
    branched: Existing, zygote: Zygote, command: tuple[str, ...]
) -> None:
    """To the letter; what `env.py` prints goes to stderr, and nothing is changed."""
    stock = done(zygote.alembic(branched, *command))
    branched.write("migrations/env.py", f"print('noise')\n{ENV_PY}")
    before = files(branched)

    told = done(branched.run(*command))

    assert told.stdout == stock.stdout
    assert told.stdout
    assert files(branched) == before


@pytest.mark.parametrize(
    "command",
    [
        ("revision",),
        ("revision", "-m", "Ünïcode", "--head", "left@head"),
        ("revision", "--head", "r1", "--splice", "--branch-label", "third"),
        ("revision", "--head", "base", "--depends-on", "a1", "--depends-on", "b1"),
        ("merge", "heads", "-m", "both"),
        ("merge", "a1", "b1", "--branch-label", "joined"),
    ],
    ids=" ".join,
)
def test_it_writes_what_alembic_writes(
    branched: Existing, tmp_path: Path, zygote: Zygote, command: tuple[str, ...]
) -> None:
    """The same file of the same name, or words why there is none; of several heads, our own."""
    before = files(branched)
    stock = zygote.alembic(branched, *command, "--rev-id", "new")
    wanted = files(branched)
    for path in (tmp_path / "migrations" / "versions").glob("*new*"):
        path.unlink()
    assert files(branched) == before

    told = branched.run(*command, "--rev-id", "new")

    assert files(branched) == wanted
    if stock.code == 0:
        assert done(told).stdout == stock.stdout
        assert wanted != before
    else:
        [words] = re.findall(r"FAILED: (.*)", stock.stdout)
        known = words.rstrip(".") if "Multiple heads" not in words else "several heads: a1, b1."
        assert (told.code, known in told.stderr) == (2, True)


def test_the_directory_of_several(project: Existing) -> None:
    """`--version-path` chooses of those that the setting `version_locations` names, too."""
    for name in ("one", "two"):
        (project.path / name).mkdir()
    locations = {"ORCHESTRATOR_VERSION_LOCATIONS": '["one", "two"]'}

    none = project.run("revision", "--rev-id", "r1", **locations)
    done(project.run("revision", "--rev-id", "r1", "--version-path", "two", **locations))

    assert (none.code, "--version-path" in none.stderr) == (2, True)
    assert [path.name for path in project.path.glob("*/r1_.py")] == ["r1_.py"]
    assert (project.path / "two" / "r1_.py").exists()
    assert done(project.run("heads", **locations)).stdout == "r1 (head)\n"


@pytest.mark.parametrize("command", [("heads",), ("history",), ("revision", "-m", "x")])
def test_where_no_database_is_named(project: Existing, command: tuple[str, ...]) -> None:
    """What needs none asks for none; what does says how to name one."""
    project.replace("alembic.ini", "sqlalchemy.url = sqlite:///app.db", "")

    assert project.run(*command).code == 0
    unknown = project.run("current")
    assert (unknown.code, "database_url" in unknown.stderr) == (2, True)


STATES = {
    "empty": "VACUUM",
    "unversioned": "CREATE TABLE own (id INTEGER)",
    "behind": (
        "CREATE TABLE t_r1 (id INTEGER); CREATE TABLE alembic_version (version_num TEXT NOT NULL);"
        "INSERT INTO alembic_version VALUES ('r1')"
    ),
    "unrecognised": (
        "CREATE TABLE alembic_version (version_num TEXT NOT NULL);"
        "INSERT INTO alembic_version VALUES ('x9')"
    ),
}


@pytest.mark.parametrize("state", ["absent", *STATES])
def test_a_database_that_is_not_at_its_heads(project: Existing, state: str) -> None:
    """No revision is made of it, and nothing written anywhere; what it is and lacks can be seen."""
    project.chain(2)
    if state != "absent":
        with closing(sqlite3.connect(project.database)) as connection:
            connection.executescript(STATES[state])
    before = files(project)

    refused = project.run("revision", "--autogenerate", "-m", "x")
    at = project.run("current", "--check-heads")
    done(project.run("history", "-i"))

    assert refused.code == 4, refused.stderr
    assert "StateRefused: The database" in refused.stderr
    assert "No revision was written." in refused.stderr
    assert refused.stdout == ""
    assert at.code == (4 if state == "unrecognised" else 6), at.stderr
    assert at.stdout == ("r1\n" if state == "behind" else "")
    assert files(project) == before


def test_a_database_that_is_being_migrated(project: Existing, zygote: Zygote) -> None:
    """It is not waited for, and what is not committed yet is not seen."""
    gate = project.path / "gate"
    project.revision("r1", None)
    project.revision(
        "r2",
        "r1",
        f"""
        import os, time
        op.create_table("t_r2", sa.Column("id", sa.Integer, primary_key=True))
        open({str(gate)!r}, "w").close()
        while os.path.exists({str(gate)!r}):
            time.sleep(0.01)
        """,
    )
    done(project.run("upgrade", "r1"))
    [leader] = zygote.start(project, "run")
    try:
        while not gate.exists():
            assert leader.runs, leader.stderr
        refused = project.run("revision", "--autogenerate", "-m", "x")
        current = project.run("current")
    finally:
        gate.unlink(missing_ok=True)

    assert done(leader.finish())
    assert (refused.code, "at r1 and lacks r2" in refused.stderr) == (4, True)
    assert current.stdout == "r1\n"


def test_a_database_without_a_version_table_gets_none(project: Existing) -> None:
    """The first revision of tables that are there; where `alembic` would make its table."""
    with closing(sqlite3.connect(project.database)) as connection:
        connection.execute("CREATE TABLE old (id INTEGER PRIMARY KEY)")
    before = project.dump()

    done(project.run("revision", "--autogenerate", "-m", "x"))
    done(project.run("current"))

    assert project.dump() == before
    [text] = revisions(project)
    assert 'create_table("artists"' in text.replace("'", '"')
    assert 'drop_table("old")' in text.replace("'", '"')


def test_what_env_py_adds_is_something(project: Existing) -> None:
    """A revision that has only operations of `env.py`'s hook is written."""
    hook = """
from alembic.operations import ops
def add(context, revision, directives):
    assert context.config.cmd_opts.autogenerate
    directives[0].upgrade_ops.ops.append(ops.ExecuteSQLOp("SELECT 'of the hook'"))
"""
    project.write(
        "migrations/env.py",
        hook + ENV_PY.replace("=metadata)", "=metadata, process_revision_directives=add)"),
    )
    project.revision(
        "r1",
        None,
        "op.execute('CREATE TABLE artists (id INTEGER PRIMARY KEY, name VARCHAR(100) NOT NULL)')",
    )
    done(project.run("run"))

    done(project.run("revision", "--autogenerate", "-m", "second"))

    assert "of the hook" in "".join(revisions(project))


def test_heads_that_are_reached_by_a_dependency(branched: Existing) -> None:
    """With them `current --check-heads` is content, and a revision can be made."""
    before = branched.run("current", "--check-heads")
    done(branched.run("run"))

    assert (before.code, "lacks a1, b1" in before.stderr) == (6, True), before.stderr
    done(branched.run("current", "--check-heads"))
    done(branched.run("revision", "--autogenerate", "--head", "right@head", "-m", "x"))


@pytest.mark.parametrize("metadata", ["None", "__import__('sqlalchemy').MetaData()"])
def test_metadata_that_says_nothing(project: Existing, metadata: str) -> None:
    """No revision is made that drops every table: the models are not imported, most likely."""
    project.replace("migrations/env.py", "target_metadata=metadata", f"target_metadata={metadata}")

    told = project.run("revision", "--autogenerate", "-m", "x")

    assert (told.code, "target_metadata" in told.stderr) == (2, True)
    assert revisions(project) == []


def test_hooks_run_on_what_is_written(project: Existing) -> None:
    """`[post_write_hooks]`, as of `alembic`; one that cannot be run is told in words."""
    hook = project.write("hook.sh", '#!/bin/sh\necho "hooked $2"\necho "# mine" >> "$1"\n')
    hook.chmod(0o755)
    hooks = """
[post_write_hooks]
hooks = mine
mine.type = exec
mine.executable = {}
mine.options = REVISION_SCRIPT_FILENAME REVISION_SCRIPT_FILENAME
"""
    project.write("alembic.ini", INI + hooks.format(hook))
    told = done(project.run("revision", "-m", "x", "--rev-id", "r1"))
    project.write("alembic.ini", INI + hooks.format(project.path / "absent.sh"))
    failed = project.run("revision", "-m", "y", "--rev-id", "r2")

    assert "hooked" in told.stdout
    assert revisions(project)[0].endswith("# mine\n")
    assert failed.code == 2
    assert "absent.sh" in failed.stderr
    assert "Traceback" not in failed.stderr
    assert "r2_y.py" in failed.stdout


def test_files_are_edited(branched: Existing) -> None:
    """$EDITOR gets the file of a revision, or of the one that the database is at."""
    editor = branched.write("editor", '#!/bin/sh\necho "edits $(basename "$1")"\n')
    editor.chmod(0o755)

    def edit(name: str, **variables: str) -> Finished:
        return branched.run("edit", name, **variables)

    assert done(edit("left@head", EDITOR=str(editor))).stdout == "edits a1.py\n"
    assert done(edit("current", EDITOR=str(editor))).stdout == "edits r1.py\n"
    for name, words in (("x9", "x9"), ("base", "base")):
        unknown = edit(name, EDITOR=str(editor))
        assert (unknown.code, words in unknown.stderr) == (2, True)
    editor.write_text("#!/bin/sh\nexit 3\n")
    failed = edit("a1", EDITOR=str(editor))
    assert (failed.code, "exit status 3" in failed.stderr) == (2, True)
    assert "Traceback" not in failed.stderr


SHOWS = """
import sys
from alembic import context
options = vars(context.config.cmd_opts)
shown = {
    name: value.__name__ if callable(value) else value
    for name, value in options.items() if name not in ("cmd", "config")
}
print("options", sorted(shown.items(), key=str), file=sys.stderr)
print("cmd", options["cmd"][0].__name__, options["cmd"][1], file=sys.stderr)
print("x", context.get_x_argument(as_dictionary=True), file=sys.stderr)
print("offline", context.is_offline_mode(), file=sys.stderr)
"""


@pytest.mark.parametrize(
    "command",
    [
        ("current", "-v"),
        ("history", "-i", "-r", ":r1"),
        ("edit", "current"),
        ("revision", "--autogenerate", "-m", "x", "--rev-id", "r2", "--head", "r1"),
        ("revision", "-m", "x", "--rev-id", "r2", "--sql"),
        ("merge", "r1", "--rev-id", "r2"),
    ],
    ids=" ".join,
)
def test_env_py_gets_what_alembic_gives(
    project: Existing, zygote: Zygote, command: tuple[str, ...]
) -> None:
    """The command's options, `-x` and whether it is offline; `env.py` may ask for any of it."""
    project.write("migrations/env.py", SHOWS + OFFLINE_TOO)
    project.write("alembic.ini", f"{INI}revision_environment = true\n")
    project.revision("r1", None)
    done(project.run("run"))
    stock = done(zygote.alembic(project, "-x", "a=b", *command, EDITOR="/bin/true"))
    for path in project.path.glob("migrations/versions/r2*"):
        path.unlink()

    told = done(project.run(*command, "-x", "a=b", EDITOR="/bin/true"))

    lines = re.findall(r"^(?:options|cmd|x|offline) .*$", stock.stderr, re.MULTILINE)
    assert len(lines) == 4
    assert [line for line in lines if line not in told.stderr] == []
    assert sorted(told.stdout.splitlines()) == sorted(stock.stdout.splitlines())


OFFLINE_TOO = """
if context.is_offline_mode():
    context.configure(url="sqlite:///app.db", literal_binds=True)
    with context.begin_transaction():
        context.run_migrations()
else:
""" + "".join(f"    {line}\n" for line in ENV_PY.splitlines())


def test_the_tag_is_given_too(project: Existing) -> None:
    """Of the setting, so that an `env.py` which needs it works as in a run."""
    project.write("migrations/env.py", f"{ENV_PY}\nprint('tag', context.get_tag_argument())\n")

    assert "tag green" in done(project.run("current", "--tag", "green")).stderr


WRONG_ENVS = {
    "raises": ("raise RuntimeError('no such thing')", "no such thing"),
    "exits": ("raise SystemExit(3)", "sys.exit(3)"),
    "runs nothing": ("", "never called"),
    "another database": (
        ENV_PY.replace("create_engine(", "create_engine('sqlite:///b.db' or "),
        "connects to sqlite:///b.db",
    ),
    "a secret": (
        "raise RuntimeError('cannot reach postgresql://me:s3cr3t-w0rd@there/db')",
        "postgresql://me:***@there/db",
    ),
}


@pytest.mark.parametrize("wrong", WRONG_ENVS)
def test_a_wrong_env_py(project: Existing, wrong: str) -> None:
    """Is told in words, as by every other command, and no revision is written."""
    text, words = WRONG_ENVS[wrong]
    project.write("migrations/env.py", text)

    for command in (("revision", "--autogenerate", "-m", "x"), ("current", "-v")):
        told = project.run(*command)

        assert (told.code, words in told.stderr) == (2, True), told.stderr
        assert ("Traceback" in told.stderr) is ("-v" in command)
        assert "s3cr3t" not in told.stderr + told.stdout
    assert revisions(project) == []


def test_an_env_py_that_swallows_the_refusal(project: Existing) -> None:
    """It is refused all the same; and one that exits when all is done has done it."""
    project.chain(1)
    swallowing = ENV_PY.replace(
        "        context.run_migrations()",
        "        try:\n            context.run_migrations()\n        except Exception:\n"
        "            pass",
    )
    project.write("migrations/env.py", swallowing)
    assert project.run("revision", "--autogenerate", "-m", "x").code == 4

    project.write("migrations/env.py", f"{ENV_PY}\nraise SystemExit(0)\n")
    done(project.run("run"))
    done(project.run("revision", "--autogenerate", "-m", "x"))
    assert len(revisions(project)) == 2


@pytest.mark.parametrize(
    ("command", "words"),
    [
        (("history", "-r", "r1"), "START:END"),
        (("history", "-r", "x9:"), "x9"),
        (("revision", "--head", "x9"), "x9"),
        (("revision", "--rev-id", "a-b"), "a-b"),
        (("merge", "x9", "r1"), "x9"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else "",
)
def test_wrong_arguments(project: Existing, command: tuple[str, ...], words: str) -> None:
    """Alembic's own words, and the exit code of a wrong command line."""
    project.chain(1)
    before = files(project)

    told = project.run(*command)

    assert (told.code, words in told.stderr) == (2, True), told.stderr
    assert "Traceback" not in told.stderr
    assert files(project) == before


def test_broken_files_are_named(project: Existing) -> None:
    """A template that cannot be rendered, and a revision file that cannot be imported."""
    project.write("migrations/script.py.mako", "${nonsense(}")
    template = project.run("revision", "-m", "x")
    project.write("migrations/script.py.mako", MAKO)
    project.write("migrations/versions/r1.py", "revision = 'r1'\ndown_revision = None\n1 / 0\n")
    script = project.run("heads")

    assert template.code == script.code == 2
    assert "Traceback" not in template.stderr + script.stderr
    assert "script.py.mako" in template.stderr or "Template" in template.stderr
    assert "r1.py, line 3" in script.stderr


def test_no_database_at_all(project: Existing) -> None:
    """A file that is something else is told with the exit code of every command."""
    project.database.write_bytes(b"this is no database, but a text that is long enough " * 20)

    told = project.run("revision", "--autogenerate", "-m", "x")

    assert (told.code, "not a SQLite database" in told.stderr) == (5, True)


def test_several_databases(tmp_path: Path) -> None:
    """The template `multidb`: each is compared, and none made; a run takes them one by one."""
    project = from_template(tmp_path, "multidb")
    project.replace("alembic.ini", "driver://user:pass@localhost/dbname\n", "sqlite:///app.db\n")
    project.replace("alembic.ini", "driver://user:pass@localhost/dbname2", "sqlite:///two.db")
    project.replace(
        "migrations/env.py",
        "target_metadata = {}",
        "from models import metadata\ntarget_metadata = dict.fromkeys(('engine1', 'engine2'), "
        "metadata)",
    )

    done(project.run("revision", "--autogenerate", "-m", "first"))
    shown = done(project.run("current", "-v"))

    [text] = revisions(project)
    assert text.count("create_table('artists'") == 2
    assert "sqlite:///app.db" in shown.stdout
    assert "sqlite:///two.db" in shown.stdout
    assert not list(tmp_path.glob("*.db"))


def test_escapes_in_a_revision_are_shown_as_text(project: Existing) -> None:
    """What stands in a file does not steer the terminal of who lists it."""
    project.revision("r1", None)
    file = project.path / "migrations" / "versions" / "r1.py"
    file.write_text(file.read_text().replace("revision r1", "red \\x1b[31m one", 1))

    ended = done(project.run("history", "-v"))

    assert "\x1b" not in ended.stdout
    assert "red \\x1b[31m one" in ended.stdout


@pytest.mark.parametrize("command", ["current", "current --check-heads"])
def test_a_database_at_a_revision_that_no_file_has(branched: Existing, command: str) -> None:
    """It is said, with what to do, and that is no wrong configuration."""
    with closing(sqlite3.connect(branched.database)) as connection, connection:
        connection.execute("UPDATE alembic_version SET version_num = 'lost'")

    ended = branched.run(*command.split())

    assert ended.code == 4
    assert "is at lost, which no revision file has" in ended.stderr
    assert "`orchestrator stamp --purge REVISION`" in ended.stderr


def test_a_revision_on_several_heads(project: Existing) -> None:
    """The heads are named, and how to join them."""
    project.revision("r1", None)
    project.revision("a1", "r1")
    project.revision("b1", "r1")

    ended = project.run("revision", "-m", "more")

    assert ended.code == 2
    assert "several heads: a1, b1." in ended.stderr
    assert "`orchestrator merge heads` joins them" in ended.stderr
