"""Settings in the environment: `ORCHESTRATOR_NAME`, in whatever case."""

from __future__ import annotations

import json
import os
from collections.abc import Collection
from typing import Any, Final

from orchestrator.errors import ConfigurationError

PREFIX: Final = "ORCHESTRATOR_"


def variables(names: Collection[str]) -> dict[str, str]:
    """The variable that gives each of these settings; an empty one gives nothing.

    Of several that differ in case only, the one in capitals counts.
    """
    found: dict[str, str] = {}
    for variable, value in os.environ.items():
        if value and variable[: len(PREFIX)].upper() == PREFIX:
            name = variable[len(PREFIX) :].lower()
            if name in names and (name not in found or variable.isupper()):
                found[name] = variable
    return found


def list_in(variable: str) -> list[Any]:
    """The list that a variable holds, as JSON; raises `ConfigurationError`."""
    try:
        value = json.loads(os.environ[variable])
    except ValueError:
        value = None
    if not isinstance(value, list):
        raise ConfigurationError(
            f"The value of the environment variable {variable} is wrong: a list is written as "
            'JSON, such as ["one", "two"].',
            setting=variable[len(PREFIX) :].lower(),
            source=variable,
        )
    return value
