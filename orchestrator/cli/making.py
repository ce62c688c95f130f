"""The orchestrator that a command works with: from options, and from the application's code."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from orchestrator.cli.application import orchestrator_of
from orchestrator.cli.options import Where
from orchestrator.cli.output import UsageError
from orchestrator.errors import OPTIONS, ConfigurationError
from orchestrator.orchestrator import Orchestrator
from orchestrator.settings import Settings, load
from orchestrator.settings.variables import parsed


def make_orchestrator(where: Where, **settings: Any) -> Orchestrator:
    """The orchestrator that a command works with; a setting of None is not given.

    With an application's, options overrule what its code says. Raises `ConfigurationError`.
    """
    by_set = _set(where.set or ())
    by_option = {
        name: value
        for name, value in {
            **settings,
            "app": where.app,
            "database_url": where.database_url,
            "script_location": where.script_location,
            "x_args": where.x_arg or None,
            "tag": where.tag,
        }.items()
        if value is not None
    }
    for name, value in by_option.items():
        if value == "":
            # A variable of the shell that is not set, perhaps: another database would be meant.
            raise UsageError(f"{OPTIONS[name]} is empty. Give it a value, or leave it out.")
    given = {**by_set, **by_option}
    try:
        loaded = load(where.config, **given)
        if loaded.app is None:
            return Orchestrator(loaded)
        return orchestrator_of(loaded.app, _origin(loaded.app, where)).with_settings(**given)
    except ConfigurationError as error:
        if error.source != "argument" or error.setting is None:
            raise
        name = error.setting
        option = OPTIONS[name] if name in by_option else f"--set {name}"
        message = str(error).replace(f"the argument `{name}`", f"`{option}`")
        if option not in message:
            message = f"{option}: {message}"
        raise ConfigurationError(
            message, setting=name, source=option, allowed=error.allowed
        ) from None


def _origin(app: str, where: Where) -> str:
    """How the application was named, for messages."""
    return f"--app {app}" if where.app else f"The application {app} (`app`)"


def _set(given: Sequence[str]) -> dict[str, Any]:
    """The settings that `--set NAME=VALUE` gives. Raises `ConfigurationError`."""
    found: dict[str, Any] = {}
    for text in given:
        name, equals, value = text.partition("=")
        name = name.strip().replace("-", "_")
        if not equals or not name.isidentifier():
            # What was typed is not shown: a URL, perhaps, with its password.
            raise UsageError(
                "--set must read NAME=VALUE, such as --set unversioned=adopt.", source="--set"
            )
        if not value:
            continue  # as an empty variable gives nothing
        field = Settings.model_fields.get(name)
        found[name] = value
        if field is not None:
            source = f"--set {name}"
            found[name] = parsed(value, field, name=name, source=source, where=f"`{source}`")
    return found
