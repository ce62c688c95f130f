"""What an Alembic config says, read without importing Alembic."""

from __future__ import annotations

import configparser
import tomllib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from orchestrator.errors import ConfigurationError


def config_files(named: Path | None) -> tuple[Path, ...]:
    """The files that the config is read from, whether they exist or not.

    The one that is named, else those that the `alembic` command reads in the working
    directory. Raises `ConfigurationError` where the named file does not exist.
    """
    if named is None:
        return Path("alembic.ini").absolute(), Path("pyproject.toml").absolute()
    if not named.is_file():
        raise ConfigurationError(
            f"The Alembic config {named} does not exist.", setting="alembic_config"
        )
    return (named.absolute(),)


def option(files: Sequence[Path], name: str) -> str | None:
    """An option of `[alembic]` in the ini file, else of `[tool.alembic]` in the TOML file.

    Raises `ConfigurationError` where a file cannot be read.
    """
    for path in files:
        try:
            found = _of_toml(path, name) if path.suffix == ".toml" else _of_ini(path, name)
        except FileNotFoundError:
            continue
        except (OSError, configparser.Error, tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
            raise ConfigurationError(
                f"The Alembic config {path} cannot be read: {type(error).__name__} at "
                f"{name}. A `%` in a value is written `%%`.",
                setting="alembic_config",
                source=str(path),
            ) from error
        if found:
            return found
    return None


def _of_ini(path: Path, name: str) -> str | None:
    parser = configparser.ConfigParser({"here": path.parent.as_posix()})
    with path.open(encoding="utf-8") as file:
        parser.read_file(file)
    return parser.get("alembic", name, fallback=None)


def _of_toml(path: Path, name: str) -> str | None:
    with path.open("rb") as file:
        values: dict[str, Any] = tomllib.load(file)
    found = values.get("tool", {}).get("alembic", {}).get(name)
    return found.replace("%(here)s", path.parent.as_posix()) if isinstance(found, str) else None
