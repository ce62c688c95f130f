"""A time limit for statements that need a table to themselves.

One that waits for its lock keeps all who come later waiting behind it, readers too. So it gives up
soon, all is rolled back, and the pass is tried again.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any, Final

from orchestrator.databases.blanks import bare

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
_SETS: Final = re.compile(r"\block_timeout\b", re.IGNORECASE)
_NONE: Final = "0"
_IS_SET: Final = (
    "SELECT setting = '0' AND source NOT IN ('default', 'configuration file') "
    "FROM pg_catalog.pg_settings WHERE name = 'lock_timeout'"
)
"""Whether somebody wants to wait as long as it takes, for the role, the database, the session."""
_CHANGE: Final = (
    "SELECT CASE WHEN current_setting('lock_timeout') IN (%s, '0') "
    "THEN set_config('lock_timeout', %s, true) END"
)
_OF_TRANSACTIONS: Final = frozenset(
    {"ABORT", "BEGIN", "COMMIT", "END", "RELEASE", "ROLLBACK", "SAVEPOINT", "START"}
)
"""They wait for nobody, and some come where nothing else may: after an error."""
_ENDING: Final = re.compile(r"\b(?:COMMIT|END|ABORT|ROLLBACK)\b", re.IGNORECASE)
_ENDS: Final = re.compile(
    r"\s*(?:COMMIT|END|ABORT|ROLLBACK(?!(?:\s+(?:WORK|TRANSACTION))?\s+TO\b))\b", re.IGNORECASE
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
        self._ours = ""
        self.is_on = False
        """Whether a limit of ours holds now."""
        self._is_known = True
        self._is_others = False
        self._unlimited: bool | None = None

    def begin(self) -> None:
        """A transaction has begun: what was set for the last one is not set any more."""
        self.is_on, self._is_known, self._is_others = False, True, False

    def end(self) -> None:
        """Let whatever comes next wait, of whomever."""
        if self.is_on or not self._is_known:
            self._change(wanted=False)

    def before(self, statement: str) -> None:
        """Limit this statement, or let it wait."""
        if not self._milliseconds or self._is_others:
            return
        if _SETS.search(statement):
            # Whatever it sets is meant, for as long as the transaction lasts.
            self.end()
            self._is_others, self._unlimited = True, None
            return
        word = _first_word(statement)
        if word in _OF_TRANSACTIONS:
            # What was set since a savepoint may be undone.
            self._is_known = False
            return
        wanted = word in _DDL
        if wanted is not self.is_on or not self._is_known:
            self._change(wanted=wanted)

    def _change(self, *, wanted: bool) -> None:
        if self._unlimited is None:  # nothing of ours is set yet
            (self._unlimited,) = self._ask(_IS_SET)
        if self._unlimited:
            self._is_others = True
            return
        ours = self._ours or self._milliseconds
        (now,) = self._ask(_CHANGE, ours, self._milliseconds if wanted else _NONE)
        self._is_known = True
        self._is_others = now is None
        self.is_on = wanted and now is not None
        if self.is_on:
            self._ours = now  # as the server writes it


def is_ddl(statement: str) -> bool:
    """Whether a statement takes a lock that keeps others out, told by its first words.

    >>> is_ddl("/* why */ alter table t add c int"), is_ddl("UPDATE t SET c = 1")
    (True, False)
    """
    return _first_word(statement) in _DDL


def ends_transaction(statement: str) -> bool:
    """Whether a statement may end the transaction that it is sent in.

    >>> ends_transaction("UPDATE t SET n = 1; COMMIT"), ends_transaction("ROLLBACK TO s")
    (True, False)
    >>> ends_transaction("SELECT CASE WHEN true THEN 1 END; DO $$ BEGIN; END $$")
    False
    """
    if _ENDING.search(statement) is None:
        return False  # most are done with
    return any(_ENDS.match(part) for part in bare(statement).split(";"))


def _first_word(statement: str) -> str:
    words = _FIRST_WORDS.match(statement)
    return words[1].upper() if words is not None else ""
