"""Statements as they may be shown: one line, not long, without what stands in their literals."""

from __future__ import annotations

import re
from typing import Final

_LENGTH: Final = 80
_LITERALS: Final = re.compile(
    r"""
    [eEbBxXnN]?'(?:[^'\\]|''|\\.)*(?:'|$)       # a text, also one that is cut off
    | \$(?P<tag>\w*)\$ .*? (?:\$(?P=tag)\$|$)   # a text between dollars
    | (?<![\w"$.])-?\d+(?:\.\d+)?(?:[eE][+-]?\d+)?(?![\w"])
    """,
    re.VERBOSE | re.DOTALL,
)
_COMMENTS: Final = re.compile(r"--[^\n]*|/\*.*?(?:\*/|$)", re.DOTALL)


def blanked(statement: str) -> str:
    """The beginning of a statement, with `?` for its literals.

    >>> blanked("UPDATE t  SET a = 'secret', b = 7 WHERE c1 = $$x$$")
    'UPDATE t SET a = ?, b = ? WHERE c1 = ?'
    """
    # Literals first: a text may hold what looks like a comment.
    bare = _COMMENTS.sub(" ", _LITERALS.sub("?", statement))
    line = " ".join(bare.split())
    return line if len(line) <= _LENGTH else f"{line[: _LENGTH - 1]}…"
