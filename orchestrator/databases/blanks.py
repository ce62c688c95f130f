"""Statements as they may be shown: one line, not long, without what stands in their literals."""

from __future__ import annotations

import re
from typing import Final

_LENGTH: Final = 80
_PARTS: Final = re.compile(
    r"""
      (?P<name>"(?:[^"]|"")*"?)                     # a name in quotes, which is kept
    | (?P<comment>--[^\n]*|/\*.*?(?:\*/|$))
    | (?<![\w$])[eE]'(?:[^'\\]|''|\\.)*(?:'|$)      # a text in which a backslash escapes
    | (?<![\w$])(?:[bBxXnN]|[uU]&)?'(?:[^']|'')*(?:'|$)   # any other, also one that is cut off
    | \$(?P<tag>\w*)\$ .*? (?:\$(?P=tag)\$|$)       # a text between dollars
    | (?<![\w"$.])-?\d+(?:\.\d+)?(?:[eE][+-]?\d+)?(?![\w"])
    """,
    re.VERBOSE | re.DOTALL,
)


def bare(statement: str) -> str:
    """A statement without comments, and with `?` for its literals."""

    def shown(part: re.Match[str]) -> str:
        return part["name"] or (" " if part["comment"] is not None else "?")

    return _PARTS.sub(shown, statement)


def blanked(statement: str) -> str:
    """The beginning of a statement, with `?` for its literals.

    As PostgreSQL reads it with `standard_conforming_strings` on, which is its default.

    >>> blanked("UPDATE t  SET a = 'secret', b = 7 WHERE c1 = $$x$$")
    'UPDATE t SET a = ?, b = ? WHERE c1 = ?'
    """
    line = " ".join(bare(statement).split())
    return line if len(line) <= _LENGTH else f"{line[: _LENGTH - 1]}…"
