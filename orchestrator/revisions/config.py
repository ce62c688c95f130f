"""What an Alembic config says, read without importing Alembic."""

from __future__ import annotations

import configparser
import os
import tomllib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from orchestrator.errors import ConfigurationError

SECTION: Final = "alembic"
"""The section of an ini file that Alembic reads if no other is named."""
PLACEHOLDER: Final = "driver://"
"""How the URL begins in what `alembic init` writes."""


@dataclass(frozen=True, slots=True)
class AlembicProject:
    """What names an Alembic project: the settings, and the config files, whether they exist or not.

    `section` is that of the ini file. `script_location` and `version_locations` win over those
    of the config.
    """

    config_files: tuple[Path, ...]
    script_location: str | None = None
    section: str = SECTION
    version_locations: tuple[str, ...] = ()

    @property
    def given(self) -> tuple[str, ...]:
        """What the settings say of it, by which one project is told from another."""
        return (self.script_location or "", self.section, *self.version_locations)


def config_files(named: Path | None) -> tuple[Path, ...]:
    """The files that the config is read from, whether they exist or not.

    Those that the `alembic` command reads: an ini file and a `pyproject.toml`, of which one
    can be named here or by the variable `ALEMBIC_CONFIG`. Raises `ConfigurationError` where
    the file that is named here does not exist.
    """
    if named is not None and not os.path.isfile(named):
        raise ConfigurationError(
            f"The Alembic config {named} does not exist.", setting="alembic_config"
        )
    ini, toml = Path("alembic.ini"), Path("pyproject.toml")
    if named is None and (variable := os.environ.get("ALEMBIC_CONFIG")):
        named = Path(variable)
    if named is not None and named.suffix == ".toml":
        toml = named
    elif named is not None:
        ini = named
    return ini.absolute(), toml.absolute()


def url(files: Sequence[Path], section: str = SECTION) -> str | None:
    """The option `sqlalchemy.url`; None where it is not the database's, but a placeholder.

    Raises `ConfigurationError` where a file cannot be read.
    """
    try:
        found = _first(files, "sqlalchemy.url", section)
    except configparser.InterpolationMissingOptionError:
        return None  # the parts of it are set by env.py, as Alembic's documentation shows
    return None if found and found.startswith(PLACEHOLDER) else found


def option(files: Sequence[Path], name: str, section: str = SECTION) -> str | None:
    """An option of the section of the ini file, else of `[tool.alembic]` in the TOML file.

    Raises `ConfigurationError` where a file cannot be read.
    """
    try:
        return _first(files, name, section)
    except configparser.InterpolationMissingOptionError as error:
        raise ConfigurationError(
            f"The option {name} of the Alembic config refers to another, {error.reference}, which "
            "it does not have. A `%` in a value is written `%%`.",
            setting="alembic_config",
        ) from None


def _first(files: Sequence[Path], name: str, section: str) -> str | None:
    for path in files:
        try:
            toml = path.suffix == ".toml"
            found = _of_toml(path, name) if toml else _of_ini(path, name, section)
        except FileNotFoundError:
            continue
        except configparser.InterpolationMissingOptionError:
            raise
        except (OSError, configparser.Error, ValueError, KeyError, TypeError) as error:
            # Not from it: its text may hold a piece of the value, and that of the password.
            raise ConfigurationError(
                f"The Alembic config {path} cannot be read: {type(error).__name__} at "
                f"{name}. A `%` in a value is written `%%`.",
                setting="alembic_config",
                source=str(path),
            ) from None
        if found:
            return found
    return None


def _of_ini(path: Path, name: str, section: str) -> str | None:
    parser = configparser.ConfigParser({"here": path.parent.as_posix()})
    with path.open(encoding="utf-8") as file:
        parser.read_file(file)
    return parser.get(section, name, fallback=None)


def _of_toml(path: Path, name: str) -> str | None:
    with path.open("rb") as file:
        values: dict[str, Any] = tomllib.load(file)
    found = values.get("tool", {}).get("alembic", {}).get(name)
    # As Alembic does it: a `%` is written `%%` here, too.
    return found % {"here": path.parent.as_posix()} if isinstance(found, str) else None
