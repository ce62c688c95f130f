"""The command that makes a new project: init."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Annotated, Any, Final

import typer

from orchestrator.cli.output import errors_reported, plainly, stdout
from orchestrator.errors import ConfigurationError
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

_TABLES: Final = """[tool.alembic]
script_location = "%(here)s/{directory}"
prepend_sys_path = ["%(here)s"]

[tool.orchestrator]
database_url = "{database_url}"
"""


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
        str, typer.Option(help="SQLAlchemy URL of the database.", metavar="URL")
    ] = "sqlite:///app.db",
) -> None:
    """Start a project: a script directory, and two tables in `pyproject.toml`.

    For those who have no Alembic project yet; one that exists needs nothing, and is never
    written over.
    """
    with errors_reported(as_json=False, verbose=False):
        files = _files(directory, metadata, database_url)
        for path, text in files.items():
            path.parent.mkdir(parents=True, exist_ok=True)
            with path.open("a", encoding="utf-8") as file:
                file.write(text)
        (Path(directory) / "versions").mkdir()
    written = ", ".join(str(path) for path in files)
    stdout().print(f"Wrote {plainly(written)}.")
    if metadata is None:
        stdout().print(f"First give env.py your metadata: {plainly(str(Path(directory)))}/env.py.")
    stdout().print(
        'Next: [bold]alembic revision --autogenerate -m "first"[/], then [bold]orchestrator run[/].'
    )


def _files(directory: str, metadata: str | None, database_url: str) -> dict[Path, str]:
    """What is to be appended to which file; all of them are new but for `pyproject.toml`.

    Raises `ConfigurationError` where there is something already.
    """
    scripts, pyproject = Path(directory), Path("pyproject.toml")
    if scripts.is_absolute() or ".." in scripts.parts:
        raise ConfigurationError(f"{directory} must lie in the working directory.")
    if scripts.exists():
        raise ConfigurationError(f"{directory} exists already. Nothing was written.")
    location = alembic_config.option(alembic_config.config_files(None), "script_location")
    if location:
        raise ConfigurationError(
            f"The Alembic config here names the scripts {location} already. Nothing was written. "
            "An existing project needs no new file: type `orchestrator run`."
        )
    return {
        scripts / "env.py": _env_py(metadata),
        scripts / "script.py.mako": _SCRIPT_PY_MAKO,
        pyproject: _tables(pyproject, scripts.as_posix(), database_url),
    }


def _env_py(metadata: str | None) -> str:
    if metadata is None:
        imported = "# from your_application.models import metadata"
        return _ENV_PY.format(imported=imported, metadata="None")
    module, _, name = metadata.partition(":")
    first = name.split(".")[0]
    names = (*module.split("."), *name.split("."))
    if not all(part.isidentifier() for part in names):
        raise ConfigurationError(
            f"--metadata {metadata} must read MODULE:NAME, such as app.models:metadata."
        )
    return _ENV_PY.format(imported=f"from {module} import {first}", metadata=name)


def _tables(pyproject: Path, directory: str, database_url: str) -> str:
    before = pyproject.read_text(encoding="utf-8") if pyproject.exists() else ""
    try:
        present: dict[str, Any] = tomllib.loads(before).get("tool", {})
    except tomllib.TOMLDecodeError as error:
        raise ConfigurationError(f"pyproject.toml cannot be read: {error}.") from error
    if "orchestrator" in present or "alembic" in present:
        raise ConfigurationError(
            "pyproject.toml has a table [tool.orchestrator] or [tool.alembic] already. "
            "Nothing was written."
        )
    tables = _TABLES.format(directory=directory.replace("%", "%%"), database_url=database_url)
    text = tables if not before else ("\n" if before.endswith("\n") else "\n\n") + tables
    try:
        tomllib.loads(before + text)
    except tomllib.TOMLDecodeError as error:
        raise ConfigurationError(
            f"The name or the URL cannot be written to pyproject.toml: {error}."
        ) from error
    return text
