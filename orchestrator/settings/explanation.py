"""What is wrong with a setting, in words: where it came from, and what would be right."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping, Sequence
from typing import Final, get_args

from pydantic import ValidationError
from pydantic.fields import FieldInfo

from orchestrator.errors import ConfigurationError

_WANTED: Final = {
    "float_parsing": "must be a number of seconds, or inf",
    "float_type": "must be a number of seconds, or inf",
    "int_parsing": "must be a whole number of bytes",
    "int_type": "must be a whole number of bytes",
    "int_from_float": "must be a whole number of bytes",
    "finite_number": "must be a whole number of bytes",
    "path_type": "must be a path",
    "string_type": "must be a text",
}
"""What is wanted, in place of pydantic's words for it."""
_A_WORD: Final = re.compile(r"[a-z]{1,12}", re.IGNORECASE)


def explain(
    error: ValidationError,
    fields: Mapping[str, FieldInfo],
    arguments: Collection[str],
    variables: Mapping[str, str],
) -> ConfigurationError:
    """The first thing that is wrong.

    `arguments` are those that were given, `variables` name the one of the environment that a
    setting came from; what is in neither stood in a file.
    """
    first = error.errors(include_url=False, include_context=True)[0]
    name = str(first["loc"][0])
    if name in arguments:
        source, where = "argument", f"the argument `{name}`"
    elif name in variables:
        source, where = variables[name], f"the environment variable {variables[name]}"
    else:
        source, where = "file", f"the key `{name}`"
    if first["type"] == "extra_forbidden":
        return _unknown(name, fields, source)
    allowed = _allowed(fields[name])
    if allowed and not first["type"].startswith("value_error"):
        wanted = f"must be {_either(allowed)}{_instead(first['input'])}"
    elif first["type"] == "value_error":
        wanted = str(first["ctx"]["error"])
    else:
        wanted = _WANTED.get(first["type"], first["msg"].lower())
    return ConfigurationError(
        f"The value of {where} is wrong: it {wanted}.",
        setting=name,
        source=source,
        allowed=allowed,
    )


def _either(allowed: Sequence[str]) -> str:
    *others, last = allowed
    return f"{', '.join(others)} or {last}" if others else last


def _instead(given: object) -> str:
    """What was given in place of one of few words, unless it may be anything else: a secret."""
    return f", not {given}" if isinstance(given, str) and _A_WORD.fullmatch(given) else ""


def _unknown(name: str, fields: Mapping[str, FieldInfo], source: str) -> ConfigurationError:
    import difflib  # here, for its time

    near = difflib.get_close_matches(name, fields, n=1)
    hint = f" Did you mean `{near[0]}`?" if near else ""
    return ConfigurationError(
        f"There is no setting `{name}`.{hint}", setting=name, source=source, allowed=tuple(near)
    )


def _allowed(field: FieldInfo) -> tuple[str, ...]:
    return tuple(value for value in get_args(field.annotation) if isinstance(value, str))
