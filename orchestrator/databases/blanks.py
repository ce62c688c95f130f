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
_PARTS_OF_MYSQL: Final = re.compile(
    r"""
      (?P<name>`(?:[^`]|``)*`?)                      # a name in quotes, which is kept
    | (?P<comment>--[^\n]*|\#[^\n]*|/\*.*?(?:\*/|$))
    | (?<![\w$])(?:[bBxXnN]|_\w+\s*)?'(?:[^'\\]|''|\\.)*(?:'|$)
    | "(?:[^"\\]|""|\\.)*(?:"|$)                    # a text, too, unless the server is told so
    | (?<![\w`$.])-?\d+(?:\.\d+)?(?:[eE][+-]?\d+)?(?![\w`])
    """,
    re.VERBOSE | re.DOTALL,
)


def bare(statement: str, *, parts: re.Pattern[str] = _PARTS) -> str:
    """A statement without comments, and with `?` for its literals."""

    def shown(part: re.Match[str]) -> str:
        return part["name"] or (" " if part["comment"] is not None else "?")

    return parts.sub(shown, statement)


def blanked(statement: str) -> str:
    """The beginning of a statement, with `?` for its literals.

    As PostgreSQL reads it with `standard_conforming_strings` on, which is its default.

    >>> blanked("UPDATE t  SET a = 'secret', b = 7 WHERE c1 = $$x$$")
    'UPDATE t SET a = ?, b = ? WHERE c1 = ?'
    """
    return _shortened(bare(statement))


def bare_of_mysql(statement: str) -> str:
    """The same as MariaDB and MySQL read it, with their usual `sql_mode`."""
    return bare(statement, parts=_PARTS_OF_MYSQL)


def blanked_of_mysql(statement: str) -> str:
    """The same as MariaDB and MySQL read it, with their usual `sql_mode`.

    >>> blanked_of_mysql('''UPDATE `t 1` SET a = "it's", b = 'x', c = 7 # why''')
    'UPDATE `t 1` SET a = ?, b = ?, c = ?'
    """
    return _shortened(bare_of_mysql(statement))


def _shortened(text: str) -> str:
    line = " ".join(text.split())
    return line if len(line) <= _LENGTH else f"{line[: _LENGTH - 1]}…"
