"""The one pass of `env.py`: any environment runs unchanged, and none is believed unproven."""

from __future__ import annotations

import logging
import logging.config
import py_compile
import sqlite3
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from orchestrator import ConfigurationError, OrchestratorError, TaskFailed, VerificationFailed
from orchestrator.revisions.application_logging import host_logging_kept
from tests.projects import Project
from tests.revisions.conftest import Migrate

Rows = Callable[[str], list[Any]]

IMPORTS = """
import asyncio
from alembic import context
from sqlalchemy import create_engine, engine_from_config, pool
from sqlalchemy.ext.asyncio import async_engine_from_config

config = context.config
"""

ENVIRONMENTS = {
    "template": """
with engine_from_config(
    config.get_section(config.config_ini_section, {}), prefix="sqlalchemy.",
    poolclass=pool.NullPool,
).connect() as connection:
    context.configure(connection=connection, target_metadata=None)
    with context.begin_transaction():
        context.run_migrations()
""",
    "without begin_transaction": """
with create_engine(config.get_main_option("sqlalchemy.url")).connect() as connection:
    context.configure(connection=connection)
    context.run_migrations()
connection.engine.dispose()
""",
    "connectable.begin": """
with create_engine(
    config.get_main_option("sqlalchemy.url"), poolclass=pool.NullPool
).begin() as connection:
    context.configure(connection=connection)
    context.run_migrations()
""",
    "begin and begin_transaction": """
with create_engine(
    config.get_main_option("sqlalchemy.url"), poolclass=pool.NullPool
).begin() as connection:
    context.configure(connection=connection)
    with context.begin_transaction():
        context.run_migrations()
""",
    "asynchronous": """
def migrate(connection):
    context.configure(connection=connection)
    with context.begin_transaction():
        context.run_migrations()

async def main():
    section = config.get_section(config.config_ini_section, {})
    section["sqlalchemy.url"] = section["sqlalchemy.url"].replace("sqlite:", "sqlite+aiosqlite:")
    engine = async_engine_from_config(section, prefix="sqlalchemy.", poolclass=pool.NullPool)
    async with engine.connect() as connection:
        await connection.run_sync(migrate)
    await engine.dispose()

asyncio.run(main())
""",
    "autocommit": """
with create_engine(
    config.get_main_option("sqlalchemy.url"), poolclass=pool.NullPool,
    isolation_level="AUTOCOMMIT",
).connect() as connection:
    context.configure(connection=connection)
    with context.begin_transaction():
        context.run_migrations()
""",
}


@pytest.mark.parametrize("environment", ENVIRONMENTS)
class TestEnvironments:
    """Environments as they are found in projects."""

    def test_reaches_the_target(
        self, project: Project, migrate: Migrate, rows: Rows, environment: str
    ) -> None:
        """Each environment brings the database to its target, and again to a new one."""
        project.write("migrations/env.py", IMPORTS + ENVIRONMENTS[environment])
        project.chain(2)

        assert [one.revision for one in migrate().applied] == ["r1", "r2"]
        project.revision("r3", "r2", "op.execute('INSERT INTO t_r1 VALUES (7)')")
        assert [one.revision for one in migrate().applied] == ["r3"]
        assert rows("SELECT id FROM t_r1") == [(7,)]
        assert migrate().led is False

    def test_is_one_transaction(
        self, project: Project, migrate: Migrate, rows: Rows, environment: str
    ) -> None:
        """A revision that raises takes back what ran before it, the version table too."""
        project.write("migrations/env.py", IMPORTS + ENVIRONMENTS[environment])
        project.chain(2)
        half = "op.create_table('half', sa.Column('id', sa.Integer))\nraise ValueError('no')"
        path = project.revision("r3", "r2", half)

        with pytest.raises(TaskFailed) as caught:
            migrate()

        assert rows("SELECT name FROM sqlite_master") == []
        failure = caught.value
        assert (failure.revision, failure.file, failure.rolled_back) == ("r3", str(path), True)
        line = path.read_text().splitlines()[failure.line - 1]
        assert "raise ValueError('no')" in line
        assert "ValueError: no" in str(failure)


ONLINE = ENVIRONMENTS["template"]


class TestUnbelievable:
    """An environment that does not do what it seems to."""

    def test_swallowed_exceptions(self, project: Project, migrate: Migrate, rows: Rows) -> None:
        """An `env.py` that swallows an error does not make a success of it."""
        inside = "".join(f"    {line}\n" for line in ONLINE.splitlines())
        swallowing = f"{IMPORTS}\ntry:\n{inside}\nexcept Exception:\n    pass\n"
        project.write("migrations/env.py", swallowing)
        project.revision("r1", None)
        project.revision("r2", "r1", "raise ValueError('no')")

        with pytest.raises(VerificationFailed, match="ValueError: no") as caught:
            migrate()

        assert (caught.value.expected, caught.value.found) == (("r2",), ())
        assert rows("SELECT name FROM sqlite_master") == []

    def test_a_rollback_at_the_end(self, project: Project, migrate: Migrate, rows: Rows) -> None:
        """An `env.py` that deletes the version rows afterwards is found out by the proof."""
        undoing = """
with create_engine(
    config.get_main_option("sqlalchemy.url"), poolclass=pool.NullPool
).begin() as connection:
    connection.exec_driver_sql("DELETE FROM alembic_version")
"""
        project.write("migrations/env.py", IMPORTS + ONLINE + undoing)
        project.revision("r1", None)

        with pytest.raises(VerificationFailed) as caught:
            migrate()

        assert (caught.value.expected, caught.value.found) == (("r1",), ())

    def test_never_runs_migrations(self, project: Project, migrate: Migrate) -> None:
        """An `env.py` that does nothing is an error that names it."""
        file = project.write("migrations/env.py", "from alembic import context\n")
        project.revision("r1", None)

        with pytest.raises(ConfigurationError, match="never called") as caught:
            migrate()

        assert str(file.relative_to(project.path)) in str(caught.value)

    def test_another_database(self, project: Project, migrate: Migrate) -> None:
        """An `env.py` on another database is an error that shows both; neither is touched."""
        other = project.path / "other.db"
        elsewhere = ONLINE.replace(
            "config.get_section(config.config_ini_section, {})",
            f"{{'sqlalchemy.url': 'sqlite:///{other}'}}",
        )
        project.write("migrations/env.py", IMPORTS + elsewhere)
        project.revision("r1", None)

        with pytest.raises(ConfigurationError) as caught:
            migrate()

        assert str(other) in str(caught.value)
        assert str(project.database) in str(caught.value)
        assert not project.database.exists()
        assert not other.exists() or other.stat().st_size == 0

    def test_two_databases(self, project: Project, migrate: Migrate, rows: Rows) -> None:
        """An `env.py` that migrates twice is an error that says what to do instead."""
        project.write("migrations/env.py", IMPORTS + ONLINE + ONLINE)
        project.revision("r1", None)

        with pytest.raises(ConfigurationError, match="migrations more than once"):
            migrate()

    def test_raises_by_itself(self, project: Project, migrate: Migrate) -> None:
        """What `env.py` raises outside of a revision is told with its file and line."""
        project.write("migrations/env.py", "import sys\n\nsys.exit('out')\n")
        project.revision("r1", None)

        with pytest.raises(ConfigurationError, match=r"'out'\) \(.*env\.py, line 3\)"):
            migrate()

    def test_version_rows_that_move(
        self, project: Project, migrate: Migrate, rows: Rows, application: ModuleType
    ) -> None:
        """Rows that another program changes between Alembic's look and BEGIN are read again."""
        project.chain(2)
        migrate(target="r1")
        project.chain(3)

        def other_program() -> None:
            connection = sqlite3.connect(project.database)
            with connection:
                connection.execute("CREATE TABLE t_r2 (id INTEGER PRIMARY KEY)")
                connection.execute("UPDATE alembic_version SET version_num = 'r2'")
            connection.close()

        application.pending = [other_program]
        moving = ONLINE.replace(
            "    context.configure",
            "    from sqlalchemy import event\n"
            "    @event.listens_for(connection.engine, 'soft_invalidate')\n"
            "    def just_before_it_begins(*_):\n"
            "        if pending:\n"
            "            pending.pop()()\n"
            "    context.configure",
        )
        project.write("migrations/env.py", IMPORTS + "from application import pending\n" + moving)

        report = migrate()

        assert application.pending == []
        assert [one.revision for one in report.applied] == ["r3"]
        assert rows("SELECT version_num FROM alembic_version") == [("r3",)]


LOGGING_INI = """
[alembic]
script_location = migrations

[loggers]
keys = root
[handlers]
keys = console
[formatters]
keys = plain
[logger_root]
level = CRITICAL
handlers = console
[handler_console]
class = StreamHandler
args = (sys.stderr,)
formatter = plain
[formatter_plain]
format = %(message)s
"""

CONFIGURES = {
    "fileConfig": """
from logging.config import fileConfig
fileConfig(config.config_file_name)
""",
    "module.fileConfig": """
import logging.config
logging.config.fileConfig(config.config_file_name)
""",
    "dictConfig": """
import logging.config
logging.config.dictConfig({"version": 1, "root": {"level": "CRITICAL"}})
""",
    "basicConfig": """
import logging
logging.basicConfig(level="CRITICAL", force=True)
""",
    "by hand": """
import logging
logging.disable(logging.NOTSET)
logging.getLogger().setLevel("CRITICAL")
logging.getLogger().handlers.clear()
logging.getLogger("host").setLevel("CRITICAL")
logging.getLogger("host").disabled = True
logging.getLogger("host").propagate = False
for handler in logging.getLogger("host").handlers:
    handler.setLevel("CRITICAL")
""",
}


class TestHostLogging:
    """The host application's logging is its own."""

    @pytest.fixture
    def host(self) -> Iterator[tuple[logging.Logger, logging.Handler]]:
        """A logger of the host application, with a handler of its own."""
        logger, handler = logging.getLogger("host"), logging.NullHandler(logging.INFO)
        logger.addHandler(handler)
        logger.setLevel(logging.DEBUG)
        yield logger, handler
        logger.removeHandler(handler)
        logger.setLevel(logging.NOTSET)

    @pytest.mark.parametrize("ends", ["well", "badly"])
    @pytest.mark.parametrize("configures", CONFIGURES)
    def test_is_as_it_was(
        self,
        project: Project,
        migrate: Migrate,
        host: tuple[logging.Logger, logging.Handler],
        configures: str,
        ends: str,
    ) -> None:
        """Levels, handlers and loggers are as before, whatever `env.py` does to logging."""
        project.write("alembic.ini", LOGGING_INI)
        project.write("migrations/env.py", IMPORTS + CONFIGURES[configures] + ONLINE)
        project.revision("r1", None, "raise ValueError('no')" if ends == "badly" else "")
        logger, handler = host
        root = logging.getLogger()
        before = (root.level, list(root.handlers), [one.level for one in root.handlers])

        if ends == "well":
            migrate()
        else:
            with pytest.raises(TaskFailed):
                migrate()

        assert (root.level, list(root.handlers), [one.level for one in root.handlers]) == before
        assert (logger.level, logger.handlers, logger.disabled) == (logging.DEBUG, [handler], False)
        assert logger.propagate
        assert handler.level == logging.INFO
        assert logging.config.fileConfig.__module__ == "logging.config"

    def test_other_threads_configure_it_as_ever(self) -> None:
        """Only the migrating thread is kept from configuring logging."""
        seen: list[str] = []

        def configure() -> None:
            logging.config.dictConfig(
                {
                    "version": 1,
                    "incremental": True,
                    "loggers": {"elsewhere": {"level": "ERROR"}},
                }
            )
            seen.append(logging.getLevelName(logging.getLogger("elsewhere").level))

        with host_logging_kept():
            configure()
            thread = threading.Thread(target=configure)
            thread.start()
            thread.join()

        assert seen == ["NOTSET", "ERROR"]

    def test_several_threads_at_once_put_back_what_the_first_one_found(self) -> None:
        """Scripts of one database are loaded while `env.py` of another runs."""
        logger = logging.getLogger("elsewhere")
        logger.setLevel("INFO")
        inside, leave = threading.Event(), threading.Event()

        def other() -> None:
            with host_logging_kept():
                inside.set()
                leave.wait(30)
                logging.config.dictConfig(
                    {"version": 1, "incremental": True, "loggers": {"elsewhere": {"level": 50}}}
                )
                assert logger.level == logging.CRITICAL + 1

        thread = threading.Thread(target=other)
        with host_logging_kept():
            thread.start()
            inside.wait(30)
            logger.setLevel(logging.CRITICAL + 1)
        assert logger.level == logging.CRITICAL + 1, "the other one is still at work"
        leave.set()
        thread.join()

        assert logger.level == logging.INFO
        configured = {"version": 1, "incremental": True, "loggers": {"elsewhere": {"level": 30}}}
        logging.config.dictConfig(configured)
        assert logger.level == logging.WARNING

    def test_an_error_is_never_lost(self, project: Project, migrate: Migrate) -> None:
        """An `env.py` whose logging cannot be configured fails by nothing but its migrations."""
        broken = "from logging.config import fileConfig\nfileConfig(config.config_file_name)\n"
        project.write("migrations/env.py", IMPORTS + broken + ONLINE)
        project.revision("r1", None)

        try:
            migrate()
        except OrchestratorError as error:
            pytest.fail(f"without a config file there is none to read: {error}")


MARSHAL_OF_AN_INTEGER = b"i\x01\x00\x00\x00"


@pytest.mark.parametrize(
    "damaged", [b"", MARSHAL_OF_AN_INTEGER, b"?"], ids=["cut short", "no code", "garbage"]
)
@pytest.mark.parametrize("script", ["migrations/env.py", "migrations/versions/r1.py"])
@pytest.mark.parametrize("imported", [False, True], ids=["itself", "a module of it"])
def test_a_damaged_bytecode_file_is_named(
    project: Project,
    migrate: Migrate,
    monkeypatch: pytest.MonkeyPatch,
    damaged: bytes,
    script: str,
    imported: bool,
) -> None:
    """The error names the directory to delete, whichever file Python has cached badly."""
    monkeypatch.syspath_prepend(str(project.path))
    monkeypatch.delitem(sys.modules, "part_of_it", raising=False)
    monkeypatch.setattr(sys, "dont_write_bytecode", False)
    project.chain(1)
    source = project.path / script
    if imported:
        source.write_text(f"import part_of_it\n{source.read_text()}")
        source = project.write("part_of_it.py", "")
    cached = Path(py_compile.compile(str(source), doraise=True) or "")
    cached.write_bytes(cached.read_bytes()[:16] + damaged)

    with pytest.raises(ConfigurationError) as raised:
        migrate()

    assert f"{cached} is damaged: delete the directory {cached.parent}." in str(raised.value)
    assert "<frozen" not in str(raised.value)


def test_a_damaged_bytecode_file_is_named_in_a_revision(
    project: Project, migrate: Migrate, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also where the revision imports the module when it runs."""
    monkeypatch.syspath_prepend(str(project.path))
    project.revision("r1", None, "import part_of_it")
    cached = Path(py_compile.compile(str(project.write("part_of_it.py", "")), doraise=True) or "")
    cached.write_bytes(cached.read_bytes()[:-1])

    with pytest.raises(TaskFailed, match="is damaged: delete the directory"):
        migrate()
