"""`orchestrator check`: the differences between models and database, or migrations."""

from __future__ import annotations

import shutil
import signal
import sqlite3
import sys
import time
from contextlib import closing
from pathlib import Path
from textwrap import dedent

import pytest

from orchestrator import Check, ConfigurationError, Difference, Orchestrator, Settings
from orchestrator.host.directory import StateDirectory, open_shared
from orchestrator.locks.file import FileLock
from tests.compat.projects import ENV_PY, Existing, existing
from tests.projects import Project
from tests.zygote import Zygote

DEADLINE_SECONDS = 60.0
MODELS = """
import sqlalchemy as sa

metadata = sa.MetaData()
sa.Table(
    "labels",
    metadata,
    sa.Column("id", sa.Integer, primary_key=True),
    sa.Column("name", sa.String(20), nullable=False),
)
"""
LABELS = (
    'op.create_table("labels", sa.Column("id", sa.Integer, primary_key=True), '
    'sa.Column("name", sa.String(20), nullable=False))'
)
LEGACY = '\nop.create_table("legacy", sa.Column("id", sa.Integer, index=True))'
CITY = '    sa.Column("name", sa.String(20), nullable=False),\n    sa.Column("city", sa.Text),\n'
WITH_CITY = MODELS.replace('    sa.Column("name", sa.String(20), nullable=False),\n', CITY)
NOT_COUNTED = "lambda object, name, type_, reflected, other: name != 'legacy'"
ASYNC_ENV_PY = """
import asyncio
from alembic import context
from sqlalchemy.ext.asyncio import create_async_engine
from models import metadata

def migrate(connection):
    context.configure(connection=connection, target_metadata=metadata)
    with context.begin_transaction():
        context.run_migrations()

async def main():
    engine = create_async_engine(context.config.get_main_option("sqlalchemy.url"))
    async with engine.connect() as connection:
        await connection.run_sync(migrate)
    await engine.dispose()

asyncio.run(main())
"""


def labelled(
    path: Path, *, env: str = ENV_PY, models: str = MODELS, upgrade: str = LABELS
) -> Existing:
    """A project whose revision makes `labels`."""
    project = existing(path, env=env, models=models)
    project.revision("r1", None, upgrade)
    return project


def temporary(project: Project) -> Path:
    """A directory for temporary files, for the variable `TMPDIR`."""
    directory = project.path / "temporary"
    directory.mkdir()
    return directory


class TestAgainstTheDatabase:
    """What is compared with the models is the database as it is."""

    def test_equal(self, tmp_path: Path) -> None:
        """Nothing differs: exit code 0, and the version table does not count."""
        project = labelled(tmp_path)
        assert project.run("run").code == 0
        before = project.dump()

        told = project.run("check")
        as_json = project.run("check", "--json")

        assert (told.code, as_json.code) == (0, 0), told.stderr
        assert told.stdout == "equal: no difference between the models and the database\n"
        assert as_json.json == {
            "against": "database",
            "database": "sqlite:///app.db",
            "differences": [],
            "accepted": [],
            "outdated": [],
        }
        assert project.dump() == before

    def test_a_changed_model_without_a_revision(self, tmp_path: Path) -> None:
        """The database is current, and yet the check fails: exit code 6, a line each."""
        project = labelled(tmp_path, models=WITH_CITY, upgrade=LABELS + LEGACY)
        assert project.run("run").code == 0
        before = project.dump()

        told = project.run("check")
        as_json = project.run("check", "--json")

        assert project.run("status", "--check").code == 0
        assert (told.code, as_json.code) == (6, 6)
        assert told.stdout.splitlines() == [
            "column labels.city is in the models, not in the database",
            "table legacy is in the database, not in the models",
            "2 differences between the models and the database",
        ]
        assert as_json.json["differences"] == [
            {
                "identifier": "column labels.city: missing",
                "words": "column labels.city is in the models, not in the database",
            },
            {
                "identifier": "table legacy: extra",
                "words": "table legacy is in the database, not in the models",
            },
        ]
        assert project.dump() == before

    @pytest.mark.parametrize(
        ("state", "said"),
        [
            ("absent", ("does not exist", "orchestrator run")),
            ("empty", ("is empty", "orchestrator run")),
            ("behind", ("is at r1, and has not had r2 yet", "orchestrator run")),
            ("unversioned", ("no version row", "orchestrator stamp")),
            ("unrecognised", ("is at r1, which no script of this release has",)),
        ],
    )
    def test_not_at_the_target(self, tmp_path: Path, state: str, said: tuple[str, ...]) -> None:
        """That is told first, with what to run, and nothing is compared or made."""
        project = labelled(tmp_path)
        if state in ("behind", "unversioned", "unrecognised"):
            assert project.run("run").code == 0
        if state == "empty":
            project.database.touch()
        if state == "behind":
            project.revision("r2", "r1")
        if state == "unversioned":
            with closing(sqlite3.connect(project.database)) as connection, connection:
                connection.execute("DELETE FROM alembic_version")
        if state == "unrecognised":
            (project.path / "migrations/versions/r1.py").unlink()
            project.revision("x", None)

        done = project.run("check", "--json")

        assert done.code == 4
        assert done.json["error"]["type"] == "StateRefused"
        for words in (*said, "--against migrations", "Nothing was changed"):
            assert words in done.json["error"]["message"]
        assert project.database.exists() == (state != "absent")

    def test_models_that_env_py_does_not_declare(self, tmp_path: Path) -> None:
        """There is nothing to compare: an error, not a database full of differences."""
        project = labelled(tmp_path, models="import sqlalchemy as sa\n\nmetadata = sa.MetaData()\n")
        assert project.run("run").code == 0

        done = project.run("check")

        assert done.code == 2
        assert "has no tables: are the models imported?" in done.stderr

    @pytest.mark.parametrize(
        ("options", "said"),
        [
            ("=[metadata, metadata])", "Duplicate table keys"),
            ("=metadata, process_revision_directives=lambda *_: 1 / 0)", "division by zero"),
        ],
    )
    def test_a_comparison_that_fails(self, tmp_path: Path, options: str, said: str) -> None:
        """It is told in words, as whatever env.py does wrong."""
        project = labelled(tmp_path)
        assert project.run("run").code == 0
        project.replace("migrations/env.py", "=metadata)", options)

        done = project.run("check", "--json")

        assert done.code == 2
        assert said in done.json["error"]["message"]
        assert "env.py, line" in done.json["error"]["message"]
        assert "Traceback" not in done.stderr

    @pytest.mark.parametrize(
        "options",
        [
            f"include_object={NOT_COUNTED}",
            "include_name=lambda name, type_, parents: name != 'legacy'",
            "process_revision_directives=lambda context, revision, scripts: scripts.clear()",
        ],
    )
    def test_what_env_py_leaves_out_is_no_difference(self, tmp_path: Path, options: str) -> None:
        """Its hooks for `--autogenerate` decide what counts."""
        env = ENV_PY.replace("=metadata)", f"=metadata, {options})")
        project = labelled(tmp_path, env=env, upgrade=LABELS + LEGACY)
        assert project.run("run").code == 0

        assert project.run("check").code == 0
        assert project.run("check", "--against", "migrations").code == 0

    @pytest.mark.parametrize(
        ("options", "line"),
        [
            ("compare_type=True", "name: type VARCHAR(10) in the database, VARCHAR(20) in"),
            ("compare_server_default=True", "name: default 'x' in the database, none in"),
        ],
    )
    def test_what_env_py_compares(self, tmp_path: Path, options: str, line: str) -> None:
        """Types and defaults as it says; what it turns off is not compared."""
        made = LABELS.replace("sa.String(20)", "sa.String(10), server_default='x'")
        project = labelled(tmp_path, upgrade=made)
        assert project.run("run").code == 0
        project.replace("migrations/env.py", "=metadata)", f"=metadata, {options})")
        told = project.run("check")
        name = options.partition("=")[0]
        project.replace("migrations/env.py", f"{name}=True", f"{name}=False")
        off = project.run("check")

        assert f"column labels.{line} the models" in told.stdout
        assert line not in off.stdout

    def test_several_metadata_and_a_version_table_elsewhere(self, tmp_path: Path) -> None:
        """Each of them counts; the version table does not, by whatever name its schema goes."""
        env = ENV_PY.replace(
            "=metadata)",
            "=[metadata, other], version_table='versions', version_table_schema='main')",
        ).replace("import metadata", "import metadata, other")
        models = MODELS + dedent("""
            other = sa.MetaData()
            sa.Table("t_r2", other, sa.Column("id", sa.Integer, primary_key=True))
            sa.Table("lacking", other, sa.Column("id", sa.Integer, primary_key=True))
            """)
        project = labelled(tmp_path, env=env, models=models)
        project.revision("r2", "r1")
        assert project.run("run").code == 0
        assert "versions" in project.tables()

        assert project.run("check").stdout.splitlines() == [
            "table lacking is in the models, not in the database",
            "1 difference between the models and the database",
        ]

    def test_tables_of_an_attached_schema(self, tmp_path: Path) -> None:
        """With `include_schemas` they are compared, each told with its schema."""
        env = ENV_PY.replace(
            "    context.configure(connection=connection, target_metadata=metadata)",
            "    connection.exec_driver_sql(\"ATTACH 'other.db' AS other\")\n"
            "    connection.exec_driver_sql('CREATE TABLE IF NOT EXISTS other.seen (id INT)')\n"
            "    context.configure(connection=connection, target_metadata=metadata,"
            " include_schemas=True)",
        )
        models = (
            MODELS + 'sa.Table("lacking", metadata, sa.Column("id", sa.Integer), schema="other")'
        )
        project = labelled(tmp_path, env=env, models=models)
        assert project.run("run").code == 0

        assert project.run("check").stdout.splitlines()[:-1] == [
            "table other.lacking is in the models, not in the database",
            "table other.seen is in the database, not in the models",
        ]


class TestAccepted:
    """The file of accepted differences."""

    @pytest.fixture
    def project(self, tmp_path: Path) -> Existing:
        project = labelled(tmp_path, models=WITH_CITY, upgrade=LABELS + LEGACY)
        project.write("o.toml", 'accepted_differences = "accepted.txt"')
        assert project.run("run").code == 0
        return project

    def test_only_new_ones_fail(self, project: Existing) -> None:
        """Accepted ones pass, against the migrations too; one more fails, and is told alone."""
        project.write(
            "accepted.txt", "# kept\n\n  table   legacy: extra\ncolumn labels.city: missing"
        )

        passed = project.run("check", "--config", "o.toml")
        migrations = project.run("check", "--config", "o.toml", "--against", "migrations")
        project.replace("models.py", "sa.String(20)", "sa.String(99)")
        failed = project.run("check", "--config", "o.toml", "--json")

        assert (passed.code, migrations.code, failed.code) == (0, 0, 6)
        assert passed.stdout == (
            "accepted: 2 differences between the models and the database, none new\n"
        )
        assert [one["identifier"] for one in failed.json["differences"]] == [
            "column labels.name: type VARCHAR(20), not VARCHAR(99)"
        ]
        assert len(failed.json["accepted"]) == 2

    def test_a_difference_that_has_become_another_is_new(self, project: Existing) -> None:
        """What was accepted is what stood on both sides."""
        project.replace("models.py", "sa.String(20)", "sa.String(99)")
        assert project.run("check", "--config", "o.toml", "--accept").code == 0
        project.replace("models.py", "sa.String(99)", "sa.Integer")

        done = project.run("check", "--config", "o.toml")

        assert done.code == 6
        assert "type VARCHAR(20) in the database, INTEGER in the models" in done.stdout
        assert "not found any more: column labels.name: type VARCHAR(20), not VARC" in done.stderr

    def test_accept_writes_what_is_lacking(self, project: Existing) -> None:
        """What stands in the file stays as it is; the check passes from then on."""
        project.write("accepted.txt", "# kept\ntable legacy: extra")

        done = project.run("check", "--accept", "--accepted-differences", "accepted.txt")

        text = "# kept\ntable legacy: extra\ncolumn labels.city: missing\n"
        assert done.code == 0, done.stderr
        assert (project.path / "accepted.txt").read_text() == text
        assert project.run("check", "--accept", "--config", "o.toml").code == 0
        assert (project.path / "accepted.txt").read_text() == text

    def test_accept_adds_all_of_it_or_nothing(self, project: Existing) -> None:
        """Where there is no more room, the file stays as it was."""
        text = "# kept\n" + "table of_others: extra\n" * 200
        project.write("accepted.txt", text)
        driver = """
            import resource, signal
            resource.setrlimit(resource.RLIMIT_FSIZE, (4_630, 4_630))
            signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
            import sys
            from orchestrator.cli import main
            sys.argv = ["orchestrator", "check", "--accept", "--config", "o.toml"]
            main()
        """
        done = project.python(driver, fresh=True)

        assert done.code == 2
        assert "accepted.txt cannot be written: File too large" in done.stderr
        assert (project.path / "accepted.txt").read_text() == text

    def test_several_accept_at_once(self, project: Existing, zygote: Zygote) -> None:
        """Each adds what it has found, and none takes away what another has."""
        differs = [("legacy", "old"), ("more", "older"), ("most", "oldest")]
        started = []
        for table, name in differs:
            shutil.copy(project.database, project.path / f"{name}.db")
            with closing(sqlite3.connect(project.path / f"{name}.db")) as connection:
                connection.execute(f"ALTER TABLE legacy RENAME TO {table}_2")
                connection.commit()
            url = f"sqlite:///{name}.db"
            started += zygote.start(
                project, "check", "--accept", "--config", "o.toml", "--database-url", url
            )
        for one in started:
            assert one.finish().code == 0

        lines = (project.path / "accepted.txt").read_text().splitlines()
        for table, _ in differs:
            assert f"table {table}_2: extra" in lines

    def test_accept_makes_the_file(self, project: Existing) -> None:
        """With a comment that says what it is; without one, what is read is the same."""
        done = project.run("check", "--accept", "--config", "o.toml", "--json")

        lines = (project.path / "accepted.txt").read_text().splitlines()
        assert done.json["differences"] == []
        assert [line for line in lines if not line.startswith("#")] == [
            "column labels.city: missing",
            "table legacy: extra",
        ]
        assert project.run("check", "--config", "o.toml").code == 0

    def test_those_that_do_not_occur_any_more(self, project: Existing) -> None:
        """They are told, and are no error."""
        project.write(
            "accepted.txt", "table gone: extra\ntable legacy: extra\ncolumn labels.city: missing\n"
        )

        told = project.run("check", "--config", "o.toml")
        as_json = project.run("check", "--config", "o.toml", "--json")

        assert (told.code, as_json.code) == (0, 0)
        assert "accepted, and not found any more: table gone: extra" in told.stderr
        assert as_json.json["outdated"] == ["table gone: extra"]

    def test_a_file_that_cannot_be_used(self, project: Existing) -> None:
        """One that is absent, and one that is no text, are told; so is that none is named."""
        absent = project.run("check", "--config", "o.toml")
        (project.path / "accepted.txt").write_bytes(b"\xff")
        broken = project.run("check", "--config", "o.toml")
        unnamed = project.run("check", "--accept")

        assert [one.code for one in (absent, broken, unnamed)] == [2, 2, 2]
        assert (
            "accepted.txt does not exist. `orchestrator check --accept` makes it" in absent.stderr
        )
        assert "accepted.txt cannot be read: it is not UTF-8." in broken.stderr
        assert "--accepted-differences" in unnamed.stderr


class TestAgainstTheMigrations:
    """What is compared with the models is what the revisions make of an empty database."""

    def test_the_database_is_not_looked_at(self, tmp_path: Path) -> None:
        """It may be absent, broken or different, and stays as it is; nothing is left behind."""
        project = labelled(tmp_path, models=WITH_CITY)
        project.database.write_text("no database")
        directory = temporary(project)

        told = project.run("check", "--against", "migrations", TMPDIR=str(directory))
        as_json = project.run("check", "--against", "migrations", "--json", TMPDIR=str(directory))

        assert (told.code, as_json.code) == (6, 6), told.stderr
        assert told.stdout.splitlines() == [
            "column labels.city is in the models, not in the migrations",
            "1 difference between the models and the migrations",
        ]
        assert (as_json.json["against"], as_json.json["database"]) == ("migrations", None)
        assert project.database.read_text() == "no database"
        assert not list(project.path.glob(".*orchestrator"))
        assert not list(directory.iterdir())

    def test_an_asynchronous_environment(self, tmp_path: Path) -> None:
        """The scratch database has the driver of the real one."""
        project = labelled(tmp_path, env=ASYNC_ENV_PY)
        project.replace("alembic.ini", "sqlite:///", "sqlite+aiosqlite:///")

        done = project.run("check", "--against", "migrations")

        assert done.code == 0, done.stderr
        assert not project.database.exists()

    def test_a_revision_that_fails(self, tmp_path: Path) -> None:
        """It is told as in a run, with its exit code, and nothing is left behind."""
        project = labelled(tmp_path, upgrade="raise ValueError(op.get_bind().engine.url.database)")
        directory = temporary(project)

        done = project.run("check", "--against", "migrations", "--json", TMPDIR=str(directory))

        assert done.code == 1
        assert "r1.py" in done.json["error"]["message"]
        assert f"ValueError: {directory}/" in done.json["error"]["message"]
        assert not list(directory.iterdir())

    @pytest.mark.parametrize("exists", [False, True])
    def test_an_env_py_that_ignores_the_url(self, tmp_path: Path, exists: bool) -> None:
        """Its own database is not touched, nor made: it is told where env.py connects to."""
        project = labelled(tmp_path)
        project.replace(
            "migrations/env.py",
            'context.config.get_main_option("sqlalchemy.url")',
            '"sqlite:///app.db"',
        )
        if exists:
            project.database.touch()

        done = project.run("check", "--against", "migrations")

        assert done.code == 2
        assert "app.db, and not to the scratch database" in done.stderr
        assert "--scratch-url" in done.stderr
        assert project.database.exists() == exists
        assert not exists or project.database.read_bytes() == b""

    def test_a_scratch_database_of_the_users(self, tmp_path: Path) -> None:
        """For an env.py that goes its own way; it is made, and taken away, but for its lock."""
        project = labelled(tmp_path)
        project.replace(
            "migrations/env.py",
            'context.config.get_main_option("sqlalchemy.url")',
            '"sqlite:///scratch.db"',
        )
        before = sorted(project.path.iterdir())

        done = project.run(
            "check", "--against", "migrations", "--scratch-url", "sqlite:///scratch.db"
        )

        assert done.code == 0, done.stderr
        left = {project.path / "__pycache__", project.path / ".scratch.db.orchestrator"}
        assert sorted({*project.path.iterdir()} - left) == before

    def test_a_scratch_database_that_somebody_works_on(self, tmp_path: Path) -> None:
        """Its lock is held for as long as it is there: nobody is ready on what will be dropped."""
        project = labelled(tmp_path)
        lock = FileLock(StateDirectory.beside(project.database).lock, open_shared)
        lock.path.parent.mkdir()
        assert lock.try_acquire()
        try:
            done = project.run(
                "check", "--against", "migrations", "--scratch-url", "sqlite:///app.db"
            )
        finally:
            lock.release()

        assert done.code == 2
        assert "app.db is in use" in done.stderr
        assert not project.database.exists()

    def test_an_env_py_of_several_databases(self, tmp_path: Path) -> None:
        """None of them is made by looking."""
        project = labelled(tmp_path)
        env_py = project.path / "migrations/env.py"
        url = 'context.config.get_main_option("sqlalchemy.url")'
        one = env_py.read_text()
        assert url in one
        env_py.write_text(one + one.replace(url, '"sqlite:///second.db"'))

        done = project.run("check", "--against", "migrations")

        assert done.code == 2
        assert "migrates more than one database" in done.stderr
        assert not (project.path / "second.db").exists()

    @pytest.mark.parametrize("against", ["database", "migrations"])
    def test_a_project_without_revisions(self, tmp_path: Path, against: str) -> None:
        """An empty database is at its target, and lacks what the models have."""
        project = labelled(tmp_path)
        for revision in (project.path / "migrations/versions").glob("*.py"):
            revision.unlink()
        project.database.touch()

        done = project.run("check", "--against", against)

        assert done.code == 6, done.stderr
        assert "table labels is in the models" in done.stdout

    def test_a_scratch_database_that_exists(self, tmp_path: Path) -> None:
        """It may be somebody's: refused, and left as it is."""
        project = labelled(tmp_path)
        assert project.run("run").code == 0
        before = project.dump()

        done = project.run("check", "--against", "migrations", "--scratch-url", "sqlite:///app.db")

        assert done.code == 2
        assert "exists already" in done.stderr
        assert project.dump() == before

    def test_against_something_else(self, tmp_path: Path) -> None:
        """What there is to choose from is told."""
        done = labelled(tmp_path).run("check", "--against", "models", "--json")

        assert done.code == 2
        assert "`database` or `migrations`, not with 'models'" in done.json["error"]["message"]

    @pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
    @pytest.mark.parametrize("times", [1, 2])
    def test_stopped(
        self, project: Project, zygote: Zygote, number: signal.Signals, times: int
    ) -> None:
        """Once, when the revision has ended; twice, at once. Nothing is left behind."""
        gate = project.path / "gate"
        project.revision(
            "r1",
            None,
            f"""
            import pathlib
            bind = op.get_bind()
            pathlib.Path("scratch").write_text(bind.engine.url.database)
            deadline = time.monotonic() + {DEADLINE_SECONDS}
            while not pathlib.Path({str(gate)!r}).exists() and time.monotonic() < deadline:
                time.sleep(0.01)
            """,
        )
        own = () if times == 1 else ("--scratch-url", f"sqlite:///{project.path}/own.db")
        [process] = zygote.start(project, "check", "--against", "migrations", *own)
        told = project.path / "scratch"
        soon(lambda: told.exists() and told.read_text(), "the revision runs")
        scratch = Path(told.read_text())
        assert scratch.exists()

        process.send(number)
        soon(lambda: "Stopping" in process.stderr, "the signal has come")
        if times == 2:
            process.send(number)
        else:
            gate.touch()
        done = process.finish()

        assert done.code == 128 + number, done.stderr
        assert not scratch.exists()
        assert own or not scratch.parent.exists()
        assert not project.database.exists()


def soon(condition: object, what: str) -> None:
    """Wait for a condition."""
    assert callable(condition)
    deadline = time.monotonic() + DEADLINE_SECONDS
    while not condition():
        assert time.monotonic() < deadline, what
        time.sleep(0.01)


@pytest.mark.anyio
class TestLibrary:
    """`Orchestrator.check()`."""

    @pytest.fixture
    def orchestrator(
        self, tmp_path: Path, project: Project, monkeypatch: pytest.MonkeyPatch
    ) -> Orchestrator:
        """Of a project whose models are of this test alone."""
        models = f"models_{tmp_path.name}"
        project.write(f"{models}.py", WITH_CITY)
        project.write(
            "migrations/env.py",
            "from orchestrator.environment import run_migrations\n"
            f"from {models} import metadata\n\n"
            "run_migrations(target_metadata=metadata)\n",
        )
        project.revision("r1", None, LABELS)
        monkeypatch.chdir(project.path)
        monkeypatch.setattr(sys, "path", [str(project.path), *sys.path])
        return Orchestrator(Settings(database_url=project.url, script_location="migrations"))

    async def test_what_it_returns(self, orchestrator: Orchestrator, project: Project) -> None:
        """Differences are no error: they are what was found, in either way."""
        migrations = await orchestrator.check(against="migrations")
        assert not project.database.exists()
        await orchestrator.run()
        database = await orchestrator.check()

        assert isinstance(database, Check)
        assert database.differences == (
            Difference(
                identifier="column labels.city: missing",
                words="column labels.city is in the models, not in the database",
            ),
        )
        assert not database.passed
        [difference] = migrations.differences
        assert difference.identifier == database.differences[0].identifier
        assert str(difference) == "column labels.city is in the models, not in the migrations"

    async def test_a_wrong_argument(self, orchestrator: Orchestrator) -> None:
        """It is an error of configuration, as on the command line."""
        with pytest.raises(ConfigurationError, match="not with 'x'"):
            await orchestrator.check(against="x")  # type: ignore[arg-type] # on purpose
