"""What a statement does to the transaction that it comes in, told by its first words.

https://mariadb.com/kb/en/sql-statements-that-cause-an-implicit-commit/. What is not known is taken
to commit: a mark too many is seen to, a mark too few is not.
"""

from __future__ import annotations

import re
from functools import lru_cache
from typing import Final

from orchestrator.databases.blanks import bare_of_mysql

_SET: Final = r"""SET\s+(?!STATEMENT\b|PASSWORD\b|DEFAULT\b)(?!.*\bAUTOCOMMIT\b)"""
LOOKS: Final = re.compile(
    rf"\s*(?:(?:SELECT|SHOW|EXPLAIN|DESCRIBE|DESC|USE)\b|{_SET})", re.IGNORECASE | re.DOTALL
)
"""Those that are taken to change nothing."""
_ROWS: Final = r"INSERT|UPDATE|DELETE|REPLACE"
_STAYS: Final = re.compile(
    rf"""
    [\s(]*
    (?: (?: SELECT | SHOW | EXPLAIN | DESCRIBE | DESC | USE | VALUES | WITH | DO | {_ROWS}
      | HANDLER | LOAD\s+(?:DATA|XML) | SAVEPOINT | RELEASE | ROLLBACK | PREPARE | DEALLOCATE
      | KILL | (?:CREATE|DROP)\s+(?:OR\s+REPLACE\s+)?TEMPORARY )\b
      | {_SET} )
    """,
    re.VERBOSE | re.DOTALL | re.IGNORECASE,
)
_CHANGES: Final = re.compile(r"\s*(?:ALTER|CREATE|DROP|RENAME|TRUNCATE)\b", re.IGNORECASE)
_WHOLE: Final = re.compile(
    rf"\s*(?:ALTER|CREATE|(?:DROP|RENAME)(?![^,]*,)|TRUNCATE|{_ROWS})\b", re.IGNORECASE | re.DOTALL
)
_EXECUTES: Final = re.compile(
    r"\s*(?:\?|\w+\s*:|(?:CALL|EXECUTE|BEGIN|IF|CASE|FOR|WHILE|LOOP|REPEAT|SET\s+STATEMENT)\b)",
    re.IGNORECASE,
)
_ROUTINE: Final = re.compile(
    r"\s*CREATE\b[^;(]*?\b(?:PROCEDURE|FUNCTION|TRIGGER|EVENT|PACKAGE)\b",
    re.IGNORECASE | re.DOTALL,
)


def commits(statement: str) -> bool:
    """Whether it commits, itself and what came before it, as far as is known."""
    return not _STAYS.match(_bare(statement)) or not _is_one(statement)


def changes_one(statement: str) -> bool:
    """Whether it is a single change of a table or the like, which waits for it alone."""
    return bool(_CHANGES.match(_bare(statement))) and _is_one(statement)


def is_whole(statement: str) -> bool:
    """Whether it has done nothing where it was refused: not what is made of several."""
    return bool(_WHOLE.match(_bare(statement))) and _is_one(statement)


def is_read_at_once(statement: str) -> bool:
    """Whether the server has done nothing where it cannot read it: not what executes others."""
    return _is_one(statement) and not _EXECUTES.match(_bare(statement))


def _is_one(statement: str) -> bool:
    """Whether it is one statement; some drivers take several in a text."""
    text = _bare(statement)
    return ";" not in text.rstrip("; \t\r\n") or bool(_ROUTINE.match(text))


@lru_cache(maxsize=8)
def _bare(statement: str) -> str:
    if "/*!" in statement or "/*M!" in statement:
        return "?"  # a comment that is executed
    return bare_of_mysql(statement)
