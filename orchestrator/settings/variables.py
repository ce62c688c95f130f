"""Settings as texts: in the environment as `ORCHESTRATOR_NAME`, in whatever case."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Collection
from typing import Any, Final, get_origin

from pydantic.fields import FieldInfo

from orchestrator.errors import ConfigurationError

PREFIX: Final = "ORCHESTRATOR_"
_INJECTED: Final = re.compile(r"version|(service|port)(_\w*)?")
_ALIKE: Final = 0.65
"""So alike are `db_url` and `database_url`, as `difflib` measures it; 1.0 is the same."""


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


def nearly(names: Collection[str]) -> dict[str, str]:
    """Variables that give no setting and are named almost as one, with that setting's name.

    Platforms inject names of their own, such as those of a service called `orchestrator`
    (https://kubernetes.io/docs/concepts/services-networking/service/#environment-variables).
    """
    unknown = [
        variable
        for variable in os.environ
        if variable[: len(PREFIX)].upper() == PREFIX
        and (name := variable[len(PREFIX) :].lower()) not in names
        and name != "config"
        and not _INJECTED.fullmatch(name)
    ]
    if not unknown:
        return {}
    from difflib import get_close_matches  # here, for its time

    near = {
        variable: get_close_matches(variable[len(PREFIX) :].lower(), names, n=1, cutoff=_ALIKE)
        for variable in sorted(unknown)
    }
    return {variable: found[0] for variable, found in near.items() if found}


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
