"""Settings as texts: in the environment as `ORCHESTRATOR_NAME`, in whatever case."""

from __future__ import annotations

import json
import os
from collections.abc import Collection
from typing import Any, Final, get_origin

from pydantic.fields import FieldInfo

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


def parsed(text: str, field: FieldInfo, *, name: str, source: str, where: str) -> Any:
    """What a text gives to a setting: a list is JSON, everything else stands as it is.

    Raises `ConfigurationError` for a list that is none, with its source and in words `where`.
    """
    if get_origin(field.annotation) is not tuple:
        return text
    try:
        value = json.loads(text)
    except ValueError:
        value = None
    if not isinstance(value, list):
        raise ConfigurationError(
            f'The value of {where} is wrong: a list is written as JSON, such as ["one", "two"].',
            setting=name,
            source=source,
        )
    return value
