"""The settings of a process: from a file, the environment and arguments."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Unpack

from orchestrator.errors import ConfigurationError
from orchestrator.settings.model import Settings, SettingsArguments
from orchestrator.settings.variables import PREFIX, nearly


def load(file: str | Path | None = None, **arguments: Unpack[SettingsArguments]) -> Settings:
    """Settings from a file, the environment and arguments; an argument of None is not given.

    Without a file: the one that `ORCHESTRATOR_CONFIG` names, else `[tool.orchestrator]` of the
    `pyproject.toml` in the working directory, if there is one. In a `pyproject.toml` the
    settings stand under `[tool.orchestrator]`, in every other file at the top.

    Raises `ConfigurationError` where the file is missing or cannot be read, too.
    """
    try:
        os.getcwd()
    except FileNotFoundError as error:
        raise ConfigurationError(
            "The working directory does not exist any more, and relative paths are relative to "
            "it. Nothing was changed. Start in a directory that exists."
        ) from error
    given = {name: value for name, value in arguments.items() if value is not None}
    named = file or os.environ.get(f"{PREFIX}CONFIG")
    path = Path(named or "pyproject.toml")
    values = _read(path) if named or path.is_file() else {}
    try:
        return Settings.from_sources(given, values)
    except ConfigurationError as error:
        if error.source == "file":
            raise ConfigurationError(
                f"{path}: {error}",
                setting=error.setting,
                source=str(path),
                allowed=error.allowed,
            ) from None
        raise


def nearly_settings() -> list[str]:
    """A remark on each variable that is named almost as a setting's, and gives nothing."""
    return [
        f"the variable {variable} gives no setting: is {PREFIX}{name.upper()} meant?"
        for variable, name in nearly(Settings.model_fields).items()
    ]


def _read(path: Path) -> Mapping[str, Any]:
    import tomllib  # here, for its time: a warm start often has no file

    try:
        with path.open("rb") as file:
            values: dict[str, Any] = tomllib.load(file)
    except OSError as error:
        raise ConfigurationError(
            f"The configuration file {path} cannot be read: {error.strerror}.", source=str(path)
        ) from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigurationError(
            f"The configuration file {path} is not TOML: {error}.", source=str(path)
        ) from error
    if path.name != "pyproject.toml":
        return values
    for name in ("tool", "orchestrator"):
        values = values.get(name, {})
        if not isinstance(values, dict):
            raise ConfigurationError(
                f"{path}: `{name}` is not a table. The settings stand under [tool.orchestrator].",
                source=str(path),
            )
    return values
