"""`environment.run_migrations`: a whole `env.py`, under the plain `alembic` command too."""

from __future__ import annotations

import json
import logging
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator

import anyio.lowlevel
import pytest
from alembic import command
from alembic.config import Config

from orchestrator.host.directory import open_shared
from orchestrator.locks.file import FileLock, is_held
from tests.projects import Finished, Project
from tests.zygote import PLAIN_ALEMBIC, Zygote

DEADLINE_SECONDS = 60
Alembic = Callable[..., Finished]


@pytest.fixture
def project(project: Project) -> Project:
    """A project with `[tool.alembic]` in its `pyproject.toml`, and metadata of one table."""
    project.write(
        "pyproject.toml",
        """
        [tool.alembic]
        script_location = "%(here)s/migrations"
        prepend_sys_path = ["%(here)s"]
        """,
    )
    project.write(
        "models.py",
        """
        import sqlalchemy as sa

        metadata = sa.MetaData()
        sa.Table("t_r1", metadata, sa.Column("id", sa.Integer, primary_key=True))
        """,
    )
    project.revision("r1", None)
    return project


@pytest.fixture
def alembic(project: Project, zygote: Zygote) -> Alembic:
    """Run the plain `alembic` command in the project, in a process of its own."""

    def alembic(*arguments: str, succeeds: bool = True, **variables: str) -> Finished:
        ended = zygote.alembic(project, *arguments, **variables)
        assert (ended.code == 0) is succeeds, ended.stdout + ended.stderr
        return ended

    return alembic


class TestAlembicCommand:
    """The plain `alembic` command on a project whose `env.py` is the one call."""

    def test_up_and_down(self, project: Project, alembic: Alembic) -> None:
        """upgrade, current, check and downgrade do what they do anywhere."""
        alembic("upgrade", "head")
        assert alembic("current").stdout.strip() == "r1 (head)"
        assert "No new upgrade operations detected" in alembic("check").stdout
        alembic("downgrade", "base")
        assert alembic("current").stdout.strip() == ""
        assert is_held(project.state / "lock") is False

    def test_one_transaction(self, project: Project, zygote: Zygote, alembic: Alembic) -> None:
        """Killed in the middle of a revision, it leaves nothing; a run does it all again."""
        project.revision(
            "r2", "r1", "import pathlib\npathlib.Path('entered').touch()\ntime.sleep(60)"
        )
        [process] = zygote.start(project, "upgrade", "head", prelude=PLAIN_ALEMBIC)
        deadline = time.monotonic() + DEADLINE_SECONDS
        while not (project.path / "entered").exists():
            assert time.monotonic() < deadline, process.stderr
            time.sleep(0.01)
        process.kill()

        connection = sqlite3.connect(project.database)
        assert connection.execute("SELECT name FROM sqlite_master").fetchall() == []
        connection.close()
        project.revision("r2", "r1", "op.get_bind().exec_driver_sql('CREATE TABLE x (a)')")
        alembic("upgrade", "head")
        assert alembic("current").stdout.strip() == "r2 (head)"

    def test_what_must_be_outside_of_it(self, project: Project, alembic: Alembic) -> None:
        """An autocommit block is one here, too."""
        project.revision(
            "r2", "r1", "with op.get_context().autocommit_block():\n    op.execute('VACUUM')"
        )
        project.revision("r3", "r2")
        alembic("upgrade", "head")
        assert alembic("current").stdout.strip() == "r3 (head)"

    def test_autogenerate(self, project: Project, alembic: Alembic) -> None:
        """A new column is found, and the revision that is written alters in batch mode."""
        alembic("upgrade", "head")
        models = project.path / "models.py"
        models.write_text(
            models.read_text().replace("primary_key=True)", 'primary_key=True), sa.Column("n")')
            + 'metadata.tables["t_r1"].c.n.type = sa.Text()\n'
        )
        project.write(
            "migrations/script.py.mako",
            """
            revision = ${repr(up_revision)}
            down_revision = ${repr(down_revision)}
            from alembic import op
            import sqlalchemy as sa


            def upgrade():
                ${upgrades if upgrades else "pass"}


            def downgrade():
                ${downgrades if downgrades else "pass"}
            """,
        )

        alembic("revision", "--autogenerate", "-m", "more", "--rev-id", "r2")
        [written] = (project.path / "migrations" / "versions").glob("r2*.py")

        assert "op.batch_alter_table('t_r1'" in written.read_text()
        alembic("upgrade", "head")
        assert "No new upgrade operations detected" in alembic("check").stdout

    @pytest.mark.parametrize(
        ("options", "imports", "rendered"),
        [
            ("", ["import kinds"], ["kinds.Mine()", "kinds.Other()"]),
            ("render_item=own", ["import kinds"], ["sa.Integer()", "kinds.Other()"]),
            ("user_module_prefix='my.'", [], ["my.Mine()", "my.Other()"]),
        ],
        ids=["", "with a function of its own", "with a prefix"],
    )
    def test_types_of_others(
        self,
        project: Project,
        alembic: Alembic,
        options: str,
        imports: list[str],
        rendered: list[str],
    ) -> None:
        """A revision imports what the types in it are of, but for what `env.py` renders itself."""
        project.write(
            "kinds.py",
            """
            from sqlalchemy import types

            class Mine(types.TypeDecorator):
                impl = types.Integer
                cache_ok = True

            class Other(Mine):
                pass
            """,
        )
        columns = 'sa.Column("m", kinds.Mine), sa.Column("o", kinds.Other)'
        project.write(
            "models.py",
            f"""
            import kinds
            import sqlalchemy as sa

            metadata = sa.MetaData()
            sa.Table("t_r1", metadata, sa.Column("id", sa.Integer, primary_key=True), {columns})

            def own(kind, item, context):
                return "sa.Integer()" if type(item) is kinds.Mine else False
            """,
        )
        project.write(
            "migrations/env.py",
            f"""
            from orchestrator.environment import run_migrations
            from models import metadata, own

            run_migrations(metadata, {options})
            """,
        )
        project.write("migrations/script.py.mako", '${imports or ""}\n${upgrades}\n')
        alembic("upgrade", "head")

        alembic("revision", "--autogenerate", "--rev-id", "r2", succeeds=False)  # no `revision`
        [written] = (project.path / "migrations" / "versions").glob("r2*.py")

        text = written.read_text()
        assert [line for line in text.splitlines() if line.startswith("import")] == imports
        assert [one for one in rendered if f"{one}, nullable" not in text] == []

    def test_sql(self, project: Project) -> None:
        """`--sql` writes statements down, and touches neither database nor state directory."""
        done = subprocess.run(
            [sys.executable, "-m", "alembic", "upgrade", "head", "--sql"],
            cwd=project.path,
            env=project.environment(),
            capture_output=True,
            text=True,
            check=True,
            timeout=DEADLINE_SECONDS,
        )
        written = done.stdout

        assert "CREATE TABLE t_r1" in written
        assert not project.database.exists()
        assert not project.state.exists()
        connection = sqlite3.connect(":memory:")
        connection.executescript(written)
        assert connection.execute("SELECT * FROM alembic_version").fetchall() == [("r1",)]
        connection.close()

    def test_a_held_lock_ends_it_at_the_deadline(
        self, project: Project, alembic: Alembic, held: FileLock
    ) -> None:
        """With a deadline the command ends by a `LockTimeout`; nothing is touched."""
        done = alembic(
            "upgrade",
            "head",
            succeeds=False,
            ORCHESTRATOR_LOCK_TIMEOUT_SECONDS="0",
            ORCHESTRATOR_LOG="json",
        )

        assert "LockTimeout" in done.stderr
        assert "by a process that has not told who it is" in done.stderr
        assert not project.database.exists()
        (waiting,) = [json.loads(one) for one in done.stderr.splitlines() if one.startswith("{")]
        assert (waiting["event"], waiting["sequence"]) == ("lock_waiting", 0)
        assert waiting["run_id"]
        assert waiting["at"] > "2026"


@pytest.fixture
def held(project: Project) -> Iterator[FileLock]:
    """The project's lock, held by somebody else."""
    project.state.mkdir()
    lock = FileLock(project.state / "lock", open_shared)
    assert lock.try_acquire()
    yield lock
    lock.release()


@pytest.fixture
def config(project: Project, monkeypatch: pytest.MonkeyPatch) -> Config:
    """Alembic's config of the project, for its commands in this process."""
    monkeypatch.chdir(project.path)
    monkeypatch.setenv("ORCHESTRATOR_DATABASE_URL", project.url)
    project.write(
        "migrations/env.py",
        "from orchestrator.environment import run_migrations\n\nrun_migrations()\n",
    )
    return Config(toml_file=project.path / "pyproject.toml")


class TestInThisProcess:
    """Alembic's commands called from Python."""

    def test_waits_for_the_lock(
        self, project: Project, config: Config, held: FileLock, caplog: pytest.LogCaptureFixture
    ) -> None:
        """A held lock makes an upgrade wait, and go on when it is free."""
        caplog.set_level(logging.INFO, "orchestrator")
        thread = threading.Thread(target=command.upgrade, args=(config, "head"))
        thread.start()
        try:
            deadline = time.monotonic() + DEADLINE_SECONDS
            while "lock_waiting" not in caplog.text:
                assert time.monotonic() < deadline
                time.sleep(0.01)
            assert thread.is_alive()
            assert not project.database.exists()
        finally:
            held.release()
            thread.join(DEADLINE_SECONDS)

        assert not thread.is_alive()
        connection = sqlite3.connect(project.database)
        assert connection.execute("SELECT * FROM alembic_version").fetchall() == [("r1",)]
        connection.close()
        assert is_held(project.state / "lock") is False

    @pytest.mark.anyio
    async def test_inside_a_running_loop(self, project: Project, config: Config) -> None:
        """It works where an event loop runs already, which an async `env.py` does not."""
        await anyio.lowlevel.checkpoint()
        command.upgrade(config, "head")

        assert project.database.exists()
        assert is_held(project.state / "lock") is False

    def test_the_lock_is_released_on_failure(self, project: Project, config: Config) -> None:
        """A revision that raises leaves no held lock behind."""
        project.revision("r2", "r1", "raise ValueError('no')")
        with pytest.raises(ValueError, match="no"):
            command.upgrade(config, "head")

        assert is_held(project.state / "lock") is False
