"""The command that makes a new project: init."""

from __future__ import annotations

import os
import subprocess
import tomllib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Annotated, Any, Final

import typer

from orchestrator.cli import metadata as models
from orchestrator.cli.output import errors_reported, plainly, stderr, stdout
from orchestrator.databases import database_of
from orchestrator.databases.base import Database
from orchestrator.databases.url import parse, redact, secrets_of
from orchestrator.errors import ConfigurationError
from orchestrator.host.directory import StateDirectory
from orchestrator.revisions import config as alembic_config

_ENV_PY: Final = '''"""What Alembic and the orchestrator run to migrate the database."""

{imported}
from orchestrator.environment import run_migrations

run_migrations(target_metadata={metadata})
'''

_SCRIPT_PY_MAKO: Final = '''"""${message}"""

import sqlalchemy as sa
from alembic import op
${imports if imports else ""}

revision = ${repr(up_revision)}
down_revision = ${repr(down_revision)}
branch_labels = ${repr(branch_labels)}
depends_on = ${repr(depends_on)}


def upgrade() -> None:
    ${upgrades if upgrades else "pass"}


def downgrade() -> None:
    ${downgrades if downgrades else "pass"}
'''

_ALEMBIC: Final = """[tool.alembic]
script_location = "%(here)s/{directory}"
prepend_sys_path = ["%(here)s"]
"""

_ORCHESTRATOR: Final = """
[tool.orchestrator]
{database}
"""
_DATABASE_URL: Final = 'database_url = "{}"'
_BY_VARIABLE: Final = "# The database is named by the variable DATABASE_URL."
_VARIABLES: Final = ("ORCHESTRATOR_DATABASE_URL", "DATABASE_URL")
_DEFAULT_URL: Final = "sqlite:///app.db"

_PYPROJECT: Final = Path("pyproject.toml")


def register(app: typer.Typer) -> None:
    """Add the commands of this group."""
    app.command()(init)


def init(
    directory: Annotated[
        str, typer.Argument(help="The script directory to make.", metavar="DIRECTORY")
    ] = "migrations",
    metadata: Annotated[
        str | None,
        typer.Option(help="The metadata of your models, as MODULE:NAME.", metavar="MODULE:NAME"),
    ] = None,
    database_url: Annotated[
        str | None,
        typer.Option(
            help="SQLAlchemy URL of the database, which is written down unless it has a password. "
            f"By default what the variable DATABASE_URL says, else {_DEFAULT_URL}.",
            metavar="URL",
        ),
    ] = None,
) -> None:
    """Start a project: a script directory, and two tables in `pyproject.toml`.

    For those who have no Alembic project yet; one that exists needs nothing, and is never
    written over. The metadata is imported once, to see that `env.py` will find it.
    """
    with errors_reported(as_json=False, verbose=False):
        own = _present(_PYPROJECT).get("orchestrator")
        by_variable = next(filter(None, map(os.environ.get, _VARIABLES)), None)
        url = database_url or by_variable or _DEFAULT_URL
        database = database_of(url)
        has_secret = bool(secrets_of(parse(url)).known)
        named = has_secret or (database_url is None and by_variable is not None)
        files = _files(directory, metadata, None if named else url)
        local = _local_files(database)
        found = models.find(metadata) if metadata is not None else None
        try:
            _write(files, Path(directory) / "versions")
        except OSError as error:
            raise ConfigurationError(
                f"{error.filename} cannot be written: {error.strerror}.", denied=True
            ) from error
    written = ", ".join(str(path) for path in files)
    stdout().print(f"Wrote {plainly(written)}.")
    _tell_ignored(local if own is None else {})
    if own is not None and not {"database_url", "app"} & set(own):
        stdout().print(
            f"Name the database in \\[tool.orchestrator]: "
            f'[bold]database_url = "{plainly(redact(url))}"[/].'
        )
    if own is None and has_secret and database_url is not None:
        stdout().print(
            "The URL has a password, so it was not written down: set the variable "
            "[bold]DATABASE_URL[/] to it."
        )
    if found is None:
        stdout().print(f"First give env.py your metadata: {plainly(str(Path(directory)))}/env.py.")
    elif not found.tables:
        stderr().print(
            f"[yellow]warning[/]: {plainly(str(metadata))} has no tables yet. env.py has to import "
            "the modules of your models, too."
        )
    stdout().print(
        'Next: [bold]orchestrator revision --autogenerate -m "first"[/], then '
        "[bold]orchestrator run[/]."
    )


def _write(files: Mapping[Path, str], versions: Path) -> None:
    for path, text in files.items():
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("a", encoding="utf-8") as file:
            file.write(text)
    versions.mkdir()


def _local_files(database: Database) -> dict[str, str]:
    """What a run leaves in the working directory, each by the line for it in `.gitignore`."""
    file = database.file
    if file is None or not file.is_relative_to(Path.cwd()):
        return {}
    state = StateDirectory.beside(file).path
    name, beside = (path.relative_to(Path.cwd()).as_posix() for path in (file, state))
    # A database keeps its journal beside its file.
    return {f"{name}*": name, f"{beside}/": f"{beside}/"}


def _tell_ignored(local: dict[str, str]) -> None:
    if not local:
        return
    ignored = _ignored(local.values())
    lines = [line for line, file in local.items() if file not in ignored]
    if lines:
        stdout().print(f"Add to .gitignore: {plainly('  '.join(lines))}")
    else:
        stdout().print(f"git ignores {plainly(' and '.join(local.values()))} already.")


def _ignored(files: Iterable[str]) -> set[str]:
    """Those that git ignores; none where there is no git, or no repository."""
    command = ["git", "-c", "core.quotePath=off", "check-ignore", "--", *files]
    try:
        done = subprocess.run(  # noqa: S603 - no shell reads the names
            command, capture_output=True, text=True, check=False
        )
    except OSError:
        return set()
    return set(done.stdout.splitlines())


def _files(directory: str, metadata: str | None, database_url: str | None) -> dict[Path, str]:
    """What is to be appended to which file; all of them are new but for `pyproject.toml`.

    Without a URL none is written down.
    Raises `ConfigurationError` where there is something already.
    """
    scripts = Path(directory)
    try:
        directory.encode()
    except UnicodeEncodeError:
        raise ConfigurationError(
            "The name of the directory is not UTF-8, as pyproject.toml has to be."
        ) from None
    if scripts.is_absolute() or ".." in scripts.parts:
        raise ConfigurationError(f"{directory} must lie in the working directory.")
    if os.path.lexists(scripts):
        raise ConfigurationError(
            f"{directory} exists already. Nothing was written. If it holds an Alembic project's "
            f"scripts, nothing new is needed: give {directory}/env.py "
            f"your metadata, and type `orchestrator run --script-location {directory}`. Else name "
            "another directory: `orchestrator init DIRECTORY`."
        )
    location = alembic_config.option(alembic_config.config_files(None), "script_location")
    if location:
        raise ConfigurationError(_named_already(location))
    return {
        scripts / "env.py": _env_py(metadata),
        scripts / "script.py.mako": _SCRIPT_PY_MAKO,
        _PYPROJECT: _tables(_PYPROJECT, scripts.as_posix(), database_url),
    }


def _named_already(location: str) -> str:
    """What to say where an Alembic config names a script directory."""
    here = f"The Alembic config here names the scripts {location} already"
    if os.path.exists(location):
        return (
            f"{here}. Nothing was written. An existing project needs no new file: type "
            "`orchestrator run`."
        )
    return (
        f"{here}, and they do not exist. Nothing was written. To start anew, take "
        "`script_location` out of alembic.ini, or the table [tool.alembic] out of pyproject.toml."
    )


def _env_py(metadata: str | None) -> str:
    if metadata is None:
        imported = "# from your_application.models import metadata"
        return _ENV_PY.format(imported=imported, metadata="None")
    module, name = models.parts_of(metadata)
    first = name.split(".")[0]
    return _ENV_PY.format(imported=f"from {module} import {first}", metadata=name)


def _present(pyproject: Path) -> dict[str, Any]:
    """The tables below `[tool]` that there are already. Raises `ConfigurationError`."""
    before = pyproject.read_text(encoding="utf-8") if pyproject.exists() else ""
    try:
        tool: dict[str, Any] = tomllib.loads(before).get("tool", {})
    except tomllib.TOMLDecodeError as error:
        raise ConfigurationError(f"pyproject.toml cannot be read: {error}.") from error
    return tool


def _tables(pyproject: Path, directory: str, database_url: str | None) -> str:
    before = pyproject.read_text(encoding="utf-8") if pyproject.exists() else ""
    present = _present(pyproject)
    if "alembic" in present:
        raise ConfigurationError(
            "pyproject.toml has a table [tool.alembic] already. Nothing was written. Write "
            f'`script_location = "{directory}"` into it, or take it out.'
        )
    tables = _ALEMBIC.format(directory=directory.replace("%", "%%"))
    if "orchestrator" not in present:
        database = _DATABASE_URL.format(database_url) if database_url else _BY_VARIABLE
        tables += _ORCHESTRATOR.format(database=database)
    text = tables if not before else ("\n" if before.endswith("\n") else "\n\n") + tables
    try:
        tomllib.loads(before + text)
    except tomllib.TOMLDecodeError as error:
        raise ConfigurationError(
            f"The name or the URL cannot be written to pyproject.toml: {error}."
        ) from error
    return text
