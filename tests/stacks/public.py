"""Projects of other people, from the package index: their own `env.py`, as it was installed.

Each is migrated from nothing twice: by stock Alembic, and by `orchestrator run`. Both
databases must be equal, and a second run must find nothing to do.
"""

from __future__ import annotations

import json
import re
import sqlite3
import subprocess
import tempfile
from collections.abc import Mapping
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

DEADLINE_SECONDS = 300.0


@dataclass(frozen=True, kw_only=True)
class Project:
    """A project, and what its `env.py` needs.

    `requirements` begins with the project itself, with its version; `scripts` is its script
    location. `database_url` stands in `alembic.ini`, with the lines of `options`; where it is
    None, `variables` tell `env.py` what it asks for. `before` is a program that makes what the
    first revision presumes. `stock` is one that runs Alembic in place of its command, for an
    `env.py` that only an application can run. Those with the same `environment` are installed
    together.
    """

    requirements: tuple[str, ...]
    scripts: str
    database_url: str | None = "sqlite:///app.db"
    database: str = "app.db"
    options: tuple[str, ...] = ()
    variables: Mapping[str, str] = field(default_factory=dict)
    before: str | None = None
    stock: str | None = None
    environment: str = "public"


PROJECTS = {
    # Batch mode; fileConfig() only where nobody has configured logging.
    "optuna": Project(
        requirements=("optuna==5.0.0",),
        scripts="optuna:storages/_rdb/alembic",
    ),
    # The engine of whatever connection it is offered. Revisions presume the tables of old.
    "mlflow": Project(
        requirements=("mlflow-skinny==3.17.2", "alembic", "sqlalchemy"),
        scripts="mlflow:store/db_migrations",
        variables={"ORCHESTRATOR_UNVERSIONED": "upgrade"},
        before=(
            "from sqlalchemy import create_engine\n"
            "from mlflow.store.tracking.dbmodels.initial_models import Base\n"
            "Base.metadata.create_all(create_engine('sqlite:///app.db'))\n"
        ),
    ),
    # The application's own engine, made by oslo.db from the application's own configuration.
    "placement": Project(
        requirements=("openstack-placement==16.0.0",),
        scripts="placement:db/sqlalchemy/alembic",
        database_url=None,
        variables={"OS_PLACEMENT_DATABASE__CONNECTION": "sqlite:///app.db"},
    ),
    # The same, in a transaction that env.py begins on the engine, in batch mode.
    "rally": Project(
        requirements=("rally==5.1.1",),
        scripts="rally.common.db:migrations",
        database_url=None,
        database="rally.sqlite",
        variables={"TMPDIR": "."},  # where its default database is
    ),
    # No metadata; one of its revisions tells what SQLite cannot do, and goes on.
    "taskflow": Project(
        requirements=("taskflow==6.5.0", "alembic", "sqlalchemy", "sqlalchemy-utils"),
        scripts="taskflow:persistence/backends/sqlalchemy/alembic",
    ),
    # An asynchronous engine of the application's; env.py turns foreign keys off and on around
    # the run, and commits; a transaction for each revision; revisions in a folder a year.
    "dstack": Project(
        requirements=("dstack[server]==0.22.5",),
        scripts="dstack._internal.server:migrations",
        database_url=None,
        options=("recursive_version_locations = true",),
        variables={"DSTACK_DATABASE_URL": "sqlite+aiosqlite:///app.db", "DSTACK_SERVER_DIR": "."},
    ),
    # A connection that nobody closes, and merges of several branches.
    "quetz": Project(
        requirements=("quetz-server==0.10.4",),
        scripts="quetz:migrations",
        environment="public-sqlalchemy-2.0",
    ),
    # Nothing is configured but a connection.
    "meltano": Project(
        requirements=("meltano==4.4.1",),
        scripts="meltano:migrations",
        environment="public-sqlalchemy-2.0",
    ),
    # All revisions in autocommit blocks; the version table and the place of the revisions are
    # options of the config file.
    "skypilot": Project(
        requirements=("skypilot==0.14.1",),
        scripts="sky.schemas:db",
        options=(
            "version_locations = sky.schemas:db/global_user_state",
            "version_table = alembic_version_state_db",
            "path_separator = newline",
        ),
    ),
    # A revision that imports the application, and with it eventlet, in the thread of the run; a
    # transaction for each revision.
    "designate": Project(
        requirements=("designate==23.0.0",),
        scripts="designate.storage.sqlalchemy:alembic",
        environment="public-eventlet",
    ),
    # env.py imports eventlet with the models; a version table with a name of its own.
    "masakari": Project(
        requirements=("masakari==22.0.0",),
        scripts="masakari.db.sqlalchemy:migrations",
        environment="public-eventlet",
    ),
    # An engine of the application's, on its default database in the home directory.
    "airflow": Project(
        requirements=("apache-airflow-core==3.3.2",),
        scripts="airflow:migrations",
        database_url=None,
        database="airflow/airflow.db",
        environment="public-airflow",
    ),
    # From its thread back to the event loop that waits for it, which the `alembic` command has
    # not; transactions begun and ended in SQL; revisions of a folder that env.py chooses.
    "prefect": Project(
        requirements=("prefect==3.9.1",),
        scripts="prefect.server.database:_migrations",
        database_url=None,
        variables={"PREFECT_API_DATABASE_CONNECTION_URL": "sqlite+aiosqlite:///app.db"},
        stock=(
            "from functools import partial\n"
            "from alembic import command, config\n"
            "from anyio import run, to_thread\n"
            "upgrade = partial(command.upgrade, config.Config('alembic.ini'), 'heads')\n"
            "run(to_thread.run_sync, upgrade)\n"
        ),
        environment="public-prefect",
    ),
}

LOGGING = """
[loggers]
keys = root

[handlers]
keys = console

[formatters]
keys =

[logger_root]
level = WARNING
handlers = console

[handler_console]
class = StreamHandler
args = (sys.stderr,)
"""
"""The rest of a config file, for the `fileConfig()` of many an `env.py`."""

MOMENT = re.compile(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d\.\d+")
"""With fractions of a second, as a row is dated by when it was written."""

CONSTRAINTS = ("CHECK", "CONSTRAINT", "FOREIGN KEY", "PRIMARY KEY", "UNIQUE")


def check_project(name: str, variables: Mapping[str, str]) -> None:
    """Migrate a project's database in both ways, and compare them."""
    project = PROJECTS[name]
    # Their homes are in the directory, so that nobody's own configuration is asked.
    with tempfile.TemporaryDirectory() as directory:
        databases = []
        stock = (
            ("python", "-c", project.stock) if project.stock else ("alembic", "upgrade", "heads")
        )
        for command in (stock, ("orchestrator", "run", "--json")):
            place = Path(directory) / command[0]
            place.mkdir()
            known = {**variables, "HOME": str(place), **project.variables}
            (place / "alembic.ini").write_text(_config(project))
            if project.before is not None:
                _run(("python", "-c", project.before), place, known)
            ran = _run(command, place, known)
            databases.append(_contents(place / project.database))
        assert json.loads(ran)["applied"], "the run applied nothing"
        _compare(*databases)
        again = json.loads(_run(command, place, known))
        assert (again["led"], again["applied"]) == (False, []), again
        status = json.loads(_run(("orchestrator", "status", "--json"), place, known))
        assert status["state"] == "current", status


def _config(project: Project) -> str:
    url = project.database_url
    lines = [
        "[alembic]",
        f"script_location = {project.scripts}",
        *project.options,
        *([f"sqlalchemy.url = {url}"] if url else []),
    ]
    return "\n".join(lines) + LOGGING


def _run(command: tuple[str, ...], directory: Path, variables: Mapping[str, str]) -> str:
    ran = subprocess.run(
        command,
        cwd=directory,
        env=variables,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=DEADLINE_SECONDS,
        check=False,
    )
    told = "\n".join((ran.stdout + ran.stderr).splitlines()[-20:])
    assert not ran.returncode, f"{' '.join(command[:2])} ended with {ran.returncode}:\n{told}"
    return ran.stdout


Contents = dict[tuple[str, str], Any]


def _contents(database: Path) -> Contents:
    """The schema of a database, and the rows of its tables, whatever their order."""
    with closing(sqlite3.connect(f"file:{database}?mode=ro", uri=True)) as connection:
        master = connection.execute("SELECT type, name, tbl_name, sql FROM sqlite_master")
        schema = {(kind, name): (table, _shown(sql)) for kind, name, table, sql in master}
        rows = {
            ("rows", name): sorted(
                MOMENT.sub("now", repr(row))
                for row in connection.execute(f'SELECT * FROM "{name}"')
            )
            for kind, name in schema
            if kind == "table"
        }
    assert len(schema) > 2, f"no tables but that of the versions: {schema}"
    return {**schema, **rows}


def _shown(sql: str | None) -> list[str]:
    """The lines of a definition: batch mode puts constraints without a name in any order."""
    lines = [line.strip(" ,\t") for line in (sql or "").splitlines()]
    return sorted(lines, key=lambda line: line if line.startswith(CONSTRAINTS) else "")


def _compare(expected: Contents, found: Contents) -> None:
    differences = [
        f"{' '.join(key)}: {expected.get(key)} by alembic, {found.get(key)} by the orchestrator"
        for key in sorted(expected.keys() | found.keys())
        if expected.get(key) != found.get(key)
    ]
    assert not differences, "\n".join(differences)
