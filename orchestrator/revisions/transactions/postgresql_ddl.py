"""A time limit for statements that need a table to themselves.

One that waits for its lock keeps all who come later waiting behind it, readers too. So it gives up
soon, all is rolled back, and the pass is tried again.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any, Final

_FIRST_WORDS: Final = re.compile(
    r"(?:\s|;|--[^\n]*(?:\n|$)|/\*.*?\*/)*(\w+)(?:\s+(\w+))?", re.DOTALL
)
_DDL: Final = frozenset(
    {
        "ALTER",
        "CLUSTER",
        "COMMENT",
        "CREATE",
        "DROP",
        "GRANT",
        "LOCK",
        "REFRESH",
        "REINDEX",
        "REVOKE",
        "TRUNCATE",
    }
)
_NONE: Final = "0"
_CHANGE: Final = (
    "SELECT CASE WHEN current_setting('lock_timeout') = %s "
    "THEN set_config('lock_timeout', %s, true) END"
)

LOCK_NOT_AVAILABLE: Final = "55P03"
DEADLOCK: Final = "40P01"


class DdlLimit:
    """Limits how long such statements wait for a lock; all others wait as with stock Alembic.

    It is set for a transaction only, and again in each. `ask` sends a statement with values on the
    driver's own cursor. One that somebody else has set, for the role or in `env.py` or a revision,
    is left as it is.
    """

    def __init__(self, seconds: float, ask: Callable[..., Any]) -> None:
        self._milliseconds = f"{max(1, round(seconds * 1000))}ms" if seconds else ""
        self._ask = ask
        self._set = _NONE
        self._is_others = False

    @property
    def is_on(self) -> bool:
        """Whether a limit of ours holds now."""
        return self._set != _NONE

    def begin(self) -> None:
        """A transaction has begun: what was set for the last one is not set any more."""
        self._set = _NONE
        self._is_others = False

    def before(self, statement: str) -> None:
        """Limit this statement, or let it wait."""
        if not self._milliseconds or self._is_others:
            return
        wanted = is_ddl(statement)
        if wanted is self.is_on:
            return
        (now,) = self._ask(_CHANGE, self._set, self._milliseconds if wanted else _NONE)
        if now is None:
            self._is_others = True
            self._set = _NONE
        else:
            self._set = now


def is_ddl(statement: str) -> bool:
    """Whether a statement takes a lock that keeps others out, told by its first words.

    >>> is_ddl("/* why */ alter table t add c int"), is_ddl("UPDATE t SET c = 1")
    (True, False)
    """
    words = _FIRST_WORDS.match(statement)
    return words is not None and words[1].upper() in _DDL
